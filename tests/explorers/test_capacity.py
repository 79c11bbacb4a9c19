"""The explorers of capacity: the page's memory against attention.delta, and its maps against the weights given."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from playwright.sync_api import Browser

from lcbook.attention.delta import additive, delta_rule
from lcbook.explorers.capacity import (
    draw_pairs,
    maps_explorer,
    memory_explorer,
    memory_leads,
    recall_by_pairs,
    uniform,
)
from lcbook.explorers.fragment import Explorer
from tests.fragments import Shown, computed

TOKENS = [f"{kind}{i}" for i in range(9) for kind in "kv"] + ["·", "<b>", "k3", "v3", "k0"]
LENGTH = len(TOKENS)


def sharp_maps() -> list[torch.Tensor]:
    """Two layers of three heads over 23 tokens; some weights round to zero."""
    scores = 4 * torch.randn(2, 3, LENGTH, LENGTH, generator=torch.Generator().manual_seed(11))
    return list((scores + torch.ones(LENGTH, LENGTH).tril().log()).softmax(-1))


@pytest.fixture(scope="module")
def memory() -> Explorer:
    return memory_explorer()


@pytest.fixture(scope="module")
def maps() -> Explorer:
    return maps_explorer(sharp_maps(), TOKENS, heads=[(1, 2), (0, 0)], query=20)


@cache
def leads(width: int, rule: str, keys: str) -> list[Any]:
    return list(memory_leads(width, rule, keys))


@cache
def curve(width: int, rule: str, keys: str) -> list[float]:
    return recall_by_pairs(width, rule, keys)


# ---- the memory in Python


def test_uniform_is_mulberry32() -> None:
    def mulberry(state: int) -> Iterator[float]:
        while True:
            state = (state + 0x6D2B79F5) % 2**32
            t = (state ^ state >> 15) * (state | 1) % 2**32
            t = (t + (t ^ t >> 7) * (t | 61)) % 2**32 ^ t
            yield (t ^ t >> 14) + 0.5

    expected = [x / 2**32 for x in itertools.islice(mulberry(7), 211)]
    assert uniform(np.arange(1, 212)).tolist() == expected


def test_keys_are_random_directions_and_values_fair() -> None:
    directions, values, replaced = draw_pairs(7)
    assert directions.norm(dim=-1).numpy() == pytest.approx(np.ones((20, 64)))
    overlap = (directions @ directions.mT)[:, *torch.triu_indices(64, 64, 1)]
    assert float(overlap.square().mean()) == pytest.approx(1 / 7, rel=0.05)
    assert abs(float(overlap.mean())) < 0.01
    counts = np.bincount(values.flatten(), minlength=16)  # 80 expected of each
    assert ((counts - 80) ** 2 / 80).sum() < 30.6  # chi-squared with 15 degrees of freedom, p = 0.01
    assert (replaced == 64).all()


def test_of_three_pairs_the_last_replaces_the_first() -> None:
    directions, values, replaced = draw_pairs(5, "reused")
    fresh, old, _ = draw_pairs(5)
    assert replaced[:8].tolist() == [2, 64, 64, 5, 64, 64, 8, 64]
    assert (directions[:, 2::3] == directions[:, :62:3]).all()
    assert (values[:, 2::3] != values[:, :62:3]).all()
    for first in (0, 1):
        assert (directions[:, first::3] == fresh[:, first::3]).all()
        assert (values[:, first::3] == old[:, first::3]).all()


def test_one_channel_by_hand() -> None:
    # With one channel every key is +1 or -1: the delta rule keeps the last value alone, with its key's sign.
    directions, values = (x[0].tolist() for x in draw_pairs(1, memories=2)[:2])
    for i, (state, lead) in enumerate(memory_leads(1, "delta", memories=2)):
        sign = directions[i][0]
        assert state[0, 0].tolist() == [sign * (c == values[i]) for c in range(16)]
        for j in range(i + 1):
            if directions[j][0] == sign:
                assert lead[0, j] == (1 if values[j] == values[i] else -1)
            else:  # all entries are 0 but that of the last value, -1
                assert lead[0, j] == (-1 if values[j] == values[i] else 0)


@pytest.mark.parametrize(("rule", "whole"), [("additive", additive), ("delta", delta_rule)])
@pytest.mark.parametrize("keys", ["random", "reused"])
def test_states_are_those_of_the_chunked_rule(rule: str, whole: Any, keys: str) -> None:
    directions, values, _ = draw_pairs(11, keys, 3)
    k, codes, beta = (
        directions[:, None],
        torch.eye(16).double()[values][:, None],
        torch.ones(3, 1, 64).double(),
    )
    _, state = whole(k, k, codes, beta)
    *_, (last, lead) = memory_leads(11, rule, keys, 3)
    torch.testing.assert_close(last, state[:, 0], rtol=0, atol=1e-12)
    reads = np.einsum("mpd,mde->mpe", directions.numpy(), last.numpy())
    nearest = np.linalg.norm(reads[:, :, None] - np.eye(16), axis=-1).argmin(-1)
    held = ~lead.isnan().numpy()
    assert ((nearest == values.numpy()) == (lead.numpy() > 0))[held].all()
    assert held.sum() == 3 * (64 if keys == "random" else 64 - 21)


def test_what_the_alt_text_says() -> None:
    for width in (2, 8, 32):
        assert curve(width, "delta", "random")[0] == 1
        loose, strict = (np.array(curve(width, rule, "random")) for rule in ("additive", "delta"))
        assert (loose >= strict).all()
        assert loose[-1] < loose[width - 1]
    for pairs in (8, 23, 63):
        recalls = [curve(width, "delta", "random")[pairs] for width in (2, 8, 32)]
        assert recalls == sorted(recalls)
    for width in (
        8,
        16,
        32,
    ):  # up to as many pairs as the key has channels, once the first key has come again
        loose, strict = (np.array(curve(width, rule, "reused")[2:width]) for rule in ("additive", "delta"))
        assert (strict > loose).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, "delta"), "width is 0 and memories is 20; allowed is a width from 1 to 32"),
        ((5, "delta", "random", 0), "memories is 0"),
        ((5, "gated"), "rule is 'gated'; allowed are additive, delta"),
        ((5, "delta", "old"), "keys is 'old'; allowed are random, reused"),
    ],
)
def test_bad_memories(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        recall_by_pairs(*arguments)


def test_bad_starts() -> None:
    with pytest.raises(ValueError, match="value is 33; it must lie from 2 to 32"):
        memory_explorer(width=33)
    with pytest.raises(ValueError, match="value is 65; it must lie from 1 to 64"):
        memory_explorer(pairs=65)
    with pytest.raises(ValueError, match="value is 'gated'; it must be one of additive"):
        memory_explorer(rule="gated")


# ---- the maps in Python


def test_bad_maps() -> None:
    good = sharp_maps()
    with pytest.raises(
        ValueError, match=r"maps\[1\] has shape \(3, 23, 22\); allowed is \[h, 23, 23\] with 23"
    ):
        maps_explorer([good[0], good[1][:, :, :-1]], TOKENS)
    with pytest.raises(ValueError, match=r"maps\[0\] has shape \(2, 3, 23, 23\)"):
        maps_explorer([torch.stack(good)], TOKENS)
    with pytest.raises(ValueError, match=r"maps\[0\] leaves \[0, 1\] or looks ahead"):
        maps_explorer([good[0].mT], TOKENS)
    with pytest.raises(ValueError, match=r"maps\[0\] leaves \[0, 1\]"):
        maps_explorer([2 * good[0]], TOKENS)
    with pytest.raises(
        ValueError, match=r"tokens has 23 labels, \['far too long'\] out of size; allowed are 2 to 40"
    ):
        maps_explorer(good, [*TOKENS[:-1], "far too long"])
    with pytest.raises(ValueError, match="tokens has 41 labels"):
        maps_explorer([np.eye(41)[None]], ["a"] * 41)
    for heads in ([(2, 0)], [(0, 3)], [], [(0, 1), (0, 1)]):
        with pytest.raises(
            ValueError, match=r"heads is .*; allowed are distinct ones of \[\(0, 0\), \(0, 1\)"
        ):
            maps_explorer(good, TOKENS, heads=heads)
    with pytest.raises(ValueError, match="value is 23; it must lie from 0 to 22"):
        maps_explorer(good, TOKENS, query=23)


def test_maps_take_a_batch_of_one_and_show_all_heads() -> None:
    good = sharp_maps()
    whole = maps_explorer([m[None] for m in good], TOKENS)
    assert whole.html == maps_explorer([m.numpy() for m in good], TOKENS).html
    options = [f"layer {layer}, head {head}" for layer in (1, 2) for head in (1, 2, 3)]
    assert [name in whole.html for name in options] == [True] * 6
    assert "<select" not in maps_explorer(good, TOKENS, heads=[(1, 1)]).html


def test_what_the_alt_text_of_the_maps_says(maps: Explorer) -> None:
    top = int(sharp_maps()[1][2, 20].argmax())
    assert (
        f"“k3” at place 20 puts {sharp_maps()[1][2, 20, top]:.2f} on “{TOKENS[top]}” at place {top}."
        in maps.alt
    )


# ---- in the page


@pytest.mark.browser
def test_the_memory_in_the_page_is_the_packages(browser: Browser, memory: Explorer) -> None:
    names = ("width", "pairs", "rule", "keys")
    grid = itertools.product((2, 7, 32), (1, 3, 4, 29, 64), ("additive", "delta"), ("random", "reused"))
    cases = [dict(zip(names, values, strict=True)) for values in grid]
    for case, run in zip(cases, computed(browser, memory, cases), strict=True):
        width, pairs, rule, keys = case.values()
        other = "delta" if rule == "additive" else "additive"
        state, lead = (x[0].numpy() for x in leads(width, rule, keys)[pairs - 1])
        above, below = (np.array(raster["cells"]) for raster in run["rasters"])
        assert above == pytest.approx(state / np.abs(state).max(), abs=1e-9), case
        assert (above == -below).all()
        kept = {i + 1: x for i, x in enumerate(lead.tolist()) if not math.isnan(x)}
        right, wrong = run["points"][:2]
        assert dict(zip(*right, strict=True)) == pytest.approx(
            {i: x for i, x in kept.items() if x > 1e-9}, abs=1e-9
        )
        assert dict(zip(*wrong, strict=True)) == pytest.approx(
            {i: x for i, x in kept.items() if x <= 1e-9}, abs=1e-9
        )
        for line, name in zip(run["lines"][:2], (rule, other), strict=True):
            assert line == [list(range(1, 65)), pytest.approx(curve(width, name, keys))], case
        shares = [curve(width, name, keys)[pairs - 1] for name in (rule, other)]
        assert run["dots"][4:] == [pytest.approx([pairs, share]) for share in shares], case
        good, gone = sum(x > 1e-9 for x in kept.values()), pairs - len(kept)
        assert f"<b>{16 * width}</b> numbers gives back <b>{good}</b> of {len(kept)} pairs" in run["said"], (
            case
        )
        one, two = (math.floor(100 * share + 0.5) for share in shares)
        assert f'<b>{one} %</b>, and <b class="lc-b">{two} %</b> by the {other} rule' in run["said"], case
        assert ("Not asked" in run["said"]) == (gone > 0), case
        assert (f"the {gone} pairs" in run["said"]) == (gone > 1), case


@pytest.mark.browser
def test_the_maps_in_the_page_are_those_given(browser: Browser, maps: Explorer) -> None:
    heads = {"layer 2, head 3": sharp_maps()[1][2], "layer 1, head 1": sharp_maps()[0][0]}
    cases = [{"head": name, "query": query} for name in heads for query in range(LENGTH)]
    for case, run in zip(cases, computed(browser, maps, cases), strict=True):
        given, query = heads[case["head"]].numpy().astype(float), case["query"]
        others, own = (np.array(raster["cells"]) for raster in run["rasters"][:2])
        assert others + own == pytest.approx(given, abs=0.00051), case
        assert np.flatnonzero(own.any(1)).tolist() == [query]
        assert not others[query].any()
        grey, bars = run["bars"]
        assert (len(grey["xs"]), len(bars["xs"])) == (query + 1, query + 1)
        share = (np.array(bars["low"]) - bars["high"]) / (np.array(grey["low"]) - grey["high"])
        assert share == pytest.approx(given[query, : query + 1], abs=0.00051), case
        top = int(own[query].argmax())
        where = (
            "itself"
            if top == query
            else f"“{TOKENS[top].replace('<', '&#60;').replace('>', '&#62;')}” at place"
        )
        assert f'puts <b class="lc-b">{own[query, top]:g}</b> on {where}' in run["said"], case


@pytest.mark.browser
def test_labels_are_text_and_the_keyboard_steps(browser: Browser, tmp_path: Path, maps: Explorer) -> None:
    with Shown(browser, tmp_path / "page.html", maps.html) as shown:
        slider = shown.page.get_by_role("slider", name="Query at place")
        assert shown.page.locator("svg .q").all_text_contents() == ["k3", "k3"]
        slider.focus()
        shown.page.keyboard.press("ArrowLeft")
        shown.move(0)
        assert slider.get_attribute("aria-valuetext") == "19"
        assert shown.said().startswith("In layer 2, head 3, “<b>” at place 19 puts 0.")
        assert shown.page.locator("svg .o").all_text_contents() == ["k3", "v3", "k0"]
        shown.page.get_by_role("combobox", name="Head").select_option(label="layer 1, head 1")
        shown.move(0)
        assert shown.page.locator("svg .t").first.inner_html() == "layer 1, head 1"
        # No two labels of tokens touch.
        boxes = shown.page.locator("svg g:nth-of-type(n+8) > text").evaluate_all(
            "e => e.map(t => [t.textContent, t.getBoundingClientRect().toJSON()])"
        )
        boxes = [box for text, box in boxes if text in TOKENS]
        assert len(boxes) == LENGTH
        for one, two in itertools.combinations(boxes, 2):
            apart = one["right"] < two["left"] or two["right"] < one["left"]
            assert apart or one["bottom"] < two["top"] or two["bottom"] < one["top"]


@pytest.mark.browser
def test_the_memory_answers_while_a_slider_moves(browser: Browser, tmp_path: Path, memory: Explorer) -> None:
    with Shown(browser, tmp_path / "page.html", memory.html) as shown:
        assert "256 numbers" in shown.said()
        assert shown.page.locator("svg .t").all_text_contents()[0] == "State: 16 × 16"
        shown.move(0, s0=30, s1=0)
        assert "512 numbers gives back 1 of 1 pairs" in shown.said()
        shown.page.get_by_role("combobox", name="Rule").select_option(label="additive")
        shown.page.get_by_role("combobox", name="Keys").select_option(label="reused")
        shown.move(0, s0=30, s1=2)
        assert "Written by the additive rule" in shown.said()
        assert "Not asked: the pair whose key has a newer value." in shown.said()
        assert shown.page.locator("input:disabled, select:disabled").count() == 0
