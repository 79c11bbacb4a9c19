"""The explorer of patterns: the page's arithmetic against lcbook.attention.patterns, and what it shows."""

from __future__ import annotations

import itertools
import random
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from playwright.sync_api import Browser

from lcbook.attention.costs import visible_pairs
from lcbook.attention.patterns import (
    BigBird,
    Chunked,
    Full,
    Static,
    Strided,
    Window,
    pattern_mask,
    reach,
    span,
)
from lcbook.explorers.fragment import Explorer
from lcbook.explorers.patterns import FADE, KINDS, LENGTH, layers_needed, pattern_explorer, pattern_of
from tests.fragments import Shown, computed, painted

LAST = LENGTH - 1


@pytest.fixture(scope="module")
def explorer() -> Explorer:
    return pattern_explorer()


def settings() -> list[dict[str, Any]]:
    """Corners of the controls for each kind, and some places between them drawn once."""
    corners = itertools.product(KINDS, (1, 32), (1, 16), (0, 4), (1, 8))
    draw = random.Random(5)
    between = (
        (kind, draw.randint(1, 32), draw.randint(1, 16), draw.randint(0, 4), draw.randint(1, 8))
        for kind in KINDS
        for _ in range(7)
    )
    names = ("kind", "window", "stride", "globals", "layers")
    return [dict(zip(names, values, strict=True)) for values in (*corners, *between)]


# ---- in Python


def test_layers_needed_by_hand() -> None:
    assert layers_needed(Window(2), 5).tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [2, 1, 1, 0, 0],
        [3, 2, 1, 1, 0],
        [4, 3, 2, 1, 1],
    ]
    assert layers_needed(Chunked(3), 5)[4].tolist() == [0, 0, 0, 1, 1]


@pytest.mark.parametrize(
    "pattern", [Full(), Window(5, globals_at=(2,)), Window(3, 7), Strided(3, 11), BigBird(5, 2, 1, 1)]
)
@pytest.mark.parametrize("layers", [1, 2, 5])
def test_layers_needed_is_the_boolean_power(pattern: Any, layers: int) -> None:
    needed = layers_needed(pattern, 53)
    within = (needed > 0) & (needed <= layers)
    assert (within == reach(pattern_mask(pattern, 53), layers).numpy()).all()


@pytest.mark.parametrize("window", [1, 2, 8, 29])
def test_a_window_reaches_layers_times_window_less_one(window: int) -> None:
    needed = layers_needed(Window(window))[-1]
    for layers in (1, 3, 8):
        far = LAST - int(((needed > 0) & (needed <= layers)).argmax())
        assert far == span(Window(window), layers, LENGTH) == min(LAST, layers * (window - 1))


def test_pattern_of_takes_what_a_kind_has() -> None:
    assert pattern_of("window", 5, 3, 2) == Window(5, globals_at=(0, 1))
    assert pattern_of("dilated window", 5, 3, 0) == Window(5, 3)
    assert pattern_of("window + stride", 5, 3, 2) == Strided(5, 3)
    assert pattern_of("blocks", 5, 3, 2) == Chunked(5)
    assert pattern_of("BigBird", 5, 3, 2) == BigBird(5, window=2, random=1, globals=2)
    assert pattern_of("full", 5, 3, 2) == Full()


def test_every_pattern_that_depends_on_places_is_in_the_menu() -> None:
    assert {type(pattern_of(kind, 5, 3, 1)) for kind in KINDS} == set(get_args(Static))


def test_bad_settings() -> None:
    with pytest.raises(ValueError, match="kind is 'round'; allowed are full, window"):
        pattern_of("round", 5, 3, 2)
    with pytest.raises(ValueError, match="value is 33; it must lie from 1 to 32"):
        pattern_explorer(window=33)
    with pytest.raises(ValueError, match="value is 'round'; it must be one of full"):
        pattern_explorer("round")


# ---- in the page


@pytest.mark.browser
def test_the_script_agrees_with_the_package(browser: Browser, explorer: Explorer) -> None:
    cases = settings()
    runs = computed(browser, explorer, cases)
    assert len(runs) == len(cases) > 100
    for case, run in zip(cases, runs, strict=True):
        pattern = pattern_of(case["kind"], case["window"], case["stride"], case["globals"])
        needed, layers = layers_needed(pattern), case["layers"]
        # Each panel paints the rows above the last in blue, then the last one in orange; a legend follows.
        one, own, power, told, _ = (np.array(raster["cells"]) for raster in run["rasters"])
        assert ((one + own).astype(bool) == (needed == 1)).all(), case
        within = (needed > 0) & (needed <= layers)
        assert power + told == pytest.approx(np.where(within, FADE ** (needed - 1.0), 0.0)), case
        assert not own[:-1].any(), case
        assert not told[:-1].any(), case
        share = 100 * visible_pairs(pattern, LENGTH) / (LENGTH * (LENGTH + 1) / 2)
        far = span(pattern, layers, LENGTH)
        assert f"<b>{visible_pairs(pattern, LENGTH)}</b> of 2080 pairs" in run["said"], case
        assert float(run["said"].split("pairs, <b>")[1].split(" %")[0]) == pytest.approx(share), case
        assert (
            f'{int(within[-1].sum())}</b> of the 64 tokens, the farthest <b class="lc-b">{far}</b>'
            in run["said"]
        )
        assert ("That is the whole text" in run["said"]) == bool(within[-1].all()), case
        assert ("never reach" in run["said"]) == bool((needed[-1] == 0).any()), case
        if needed[-1].all() and not within[-1].all():
            assert f"The whole text takes {needed[-1].max()} layers" in run["said"], case


@pytest.mark.browser
def test_what_the_page_paints(browser: Browser, tmp_path: Path, explorer: Explorer) -> None:
    with Shown(browser, tmp_path / "page.html", explorer.html) as shown:
        paths = shown.page.locator("svg g:has(> path.c)").all()
        side = float(shown.page.locator("svg path.x").first.get_attribute("d").rpartition("H")[2])
        rows = painted(paths[0].locator("path").all(), LENGTH, LENGTH, side)
        last = painted(paths[1].locator("path").all(), LENGTH, LENGTH, side)
        assert rows | last == {
            (q, k): 1.0 for q, k in itertools.product(range(64), repeat=2) if 0 <= q - k < 8
        }
        assert shown.page.locator("path.c").count() <= 2 + 2 * 8 + 8
        assert "484 of 2,080 pairs, 23.3 %" in shown.said()
        assert "the farthest 28 places back, that is 4\N{NO-BREAK SPACE}×" in shown.said()
        out = shown.page.locator(".lc-off")
        assert out.inner_text().split() == ["Dilation", "or", "stride", "not", "used"]
        menu = shown.page.get_by_role("combobox", name="Pattern")
        for kind, used in [
            ("full", 0),
            ("dilated window", 3),
            ("window + stride", 2),
            ("blocks", 1),
            ("BigBird", 2),
        ]:
            menu.select_option(label=kind)
            shown.move(0)
            assert shown.page.locator("input:enabled").count() == used + 1, kind  # and the layers
