"""Figures that move: the bytes, the page in a browser with no network, and the numbers it reads out."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from matplotlib.figure import Figure
from playwright.sync_api import Browser

from lcbook.explorers.controls import Choice, Slider
from lcbook.explorers.costs import cost_explorer
from lcbook.explorers.fragment import Explorer, frames, live
from lcbook.explorers.patterns import pattern_explorer
from lcbook.explorers.positions import (
    alibi_explorer,
    alibi_half_distance,
    alibi_weight,
    rope_explorer,
    rope_turns,
)
from tests.fragments import Reader, Shown, painted, slider, three

ROOT = Path(__file__).parents[2]
LINE = "const p = draw.panel({ x: [0, 10], y: [0, 10], title: 'Line' }); p.line([0, 10], [v.a, 10]);"


def sine(frequency: int) -> Figure:
    figure, axes = plt.subplots(figsize=(5, 3))
    x = np.linspace(0, 7, 53)
    axes.plot(x, np.sin(frequency * x))
    return figure


def sines() -> Explorer:
    return frames(sine, ("frequency", [2, 3, 5]), alt="A sine", caption="It <waves> & moves.")


# ---- values worked by hand, and oracles


def test_rope_values() -> None:
    assert rope_turns(base=4, head_width=4, training_length=10) == pytest.approx(
        [10 / math.tau, 5 / math.tau]
    )


def test_llama_2_has_the_published_critical_dimension() -> None:
    # Liu et al., arXiv:2310.05209: 92 of the 128 dimensions of LLaMA-2, trained at 4096 tokens.
    assert 2 * sum(turns >= 1 for turns in rope_turns(10_000, 128, 4096)) == 92


def test_alibi_values() -> None:
    # Fillers of mass 1 + 1/2 + 1/4; a gain of 6: (6 + 1) / (7/4) = 4 halvings of the weight, so 2 tokens.
    assert alibi_half_distance(math.log(2), math.log(6), 3) == pytest.approx(2)
    assert alibi_weight(2, math.log(2), math.log(6), 3) == pytest.approx(0.5)


def test_alibi_weight_is_the_softmax_entry() -> None:
    slope, margin, length, distance = 0.03, 4.7, 211, 37
    scores = -slope * np.arange(length)
    scores[distance] += margin
    weights = np.exp(scores) / np.exp(scores).sum()
    assert alibi_weight(distance, slope, margin, length) == pytest.approx(weights[distance], rel=1e-12)


# ---- the fragment


@pytest.fixture(scope="module")
def explorers() -> dict[str, Explorer]:
    return {"rope": rope_explorer(), "alibi": alibi_explorer(), "frames": sines()}


def test_same_bytes_in_every_run(explorers: dict[str, Explorer]) -> None:
    code = (
        "from lcbook.explorers import costs as c, patterns as p, positions as e;"
        "drawn = e.rope_explorer(), e.alibi_explorer(), c.cost_explorer(), p.pattern_explorer();"
        "print(*(d.html for d in drawn), sep='', end='')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=os.environ | {"PYTHONHASHSEED": "17", "SOURCE_DATE_EPOCH": "170000000"},
        capture_output=True,
        check=True,
    )
    here = (explorers["rope"], explorers["alibi"], cost_explorer(), pattern_explorer())
    assert (done.stderr, done.stdout.decode()) == (b"", "".join(explorer.html for explorer in here))
    again = sines()
    assert (again.html, again.png) == (explorers["frames"].html, explorers["frames"].png)


def test_frames_close_their_figures_and_take_axes_or_a_dict() -> None:
    before = plt.get_fignums()
    explorer = frames(
        lambda f: sine(f).axes[0], {"frequency": np.array([2, 3, 5])}, alt="A sine", caption=None
    )
    assert plt.get_fignums() == before
    assert explorer.html.count("data:image/svg+xml") == 3


def test_heavy_frames_are_webp() -> None:
    def cloud(seed: int) -> Figure:
        figure, axes = plt.subplots(figsize=(4, 3))
        x, y = np.random.default_rng(seed).normal(size=(2, 2000))
        axes.scatter(x, y, s=3)
        return figure

    explorer = frames(cloud, ("seed", [0, 1]), alt="A cloud")
    assert explorer.html.count("data:image/webp") == 2
    assert len(explorer.html) < 150_000


def test_text_cannot_close_the_script() -> None:
    explorer = live(LINE, {"a": slider(label="a </script> b")}, alt="</script><b>", caption="</figure>")
    assert Reader(explorer.html).open == []
    assert explorer.html.count("</script>") == explorer.html.count("</figure>") == 1
    assert explorer.png is None
    assert "image/png" not in explorer._repr_mimebundle_()


# ---- bad input


@pytest.mark.parametrize(
    ("control", "alt", "message"),
    [
        ({}, "A sine", "control has 0 entries"),
        ({"a": [1, 2], "b": [1, 2]}, "A sine", "control has 2 entries"),
        (("frequency", [2]), "A sine", "has 1 values"),
        (("frequency", [2, 3]), "", "alt is empty"),
    ],
)
def test_bad_frames(control: Any, alt: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        frames(sine, control, alt=alt)


def test_draw_must_return_a_figure() -> None:
    with pytest.raises(ValueError, match="draw returned int"):
        frames(lambda value: value, ("a", [1, 2]), alt="Nothing")


@pytest.mark.parametrize(
    ("javascript", "controls", "options", "message"),
    [
        (LINE, {}, {}, "controls is empty"),
        (LINE, {"a-b": slider()}, {}, "must be an identifier"),
        (" ", {"a": slider()}, {}, "javascript is empty"),
        ("x('</script>')", {"a": slider()}, {}, "closes the script"),
        ("fetch('https://a.b')", {"a": slider()}, {}, "names an address"),
        (LINE, {"a": slider()}, {"alt": ""}, "alt is empty"),
        (LINE, {"a": slider()}, {"height": 50}, "height is 50"),
        (LINE, {"a": slider()}, {"panels": 0}, "panels is 0"),
    ],
)
def test_bad_live(
    javascript: str, controls: dict[str, Slider], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        live(javascript, controls, **({"alt": "A line"} | options))


def test_bad_formula_input() -> None:
    with pytest.raises(ValueError, match="head_width is 7"):
        rope_turns(10_000, 7, 64)
    with pytest.raises(ValueError, match="base is 1"):
        rope_turns(1, 8, 64)
    with pytest.raises(ValueError, match="slope is 0"):
        alibi_half_distance(0, 1, 64)
    with pytest.raises(ValueError, match="length is 1"):
        alibi_weight(3, 0.5, 1, 1)


# ---- in a browser


@pytest.mark.browser
@pytest.mark.parametrize(
    ("base", "width", "length"), [(10_000, 64, 1024), (10_000, 128, 4096), (10, 8, 64), (1_000_000, 128, 64)]
)
def test_rope_in_the_page(
    browser: Browser, tmp_path: Path, explorers: dict[str, Explorer], base: int, width: int, length: int
) -> None:
    bases = Slider(10, 1_000_000, 10**0.05, 10, "b", log=True).values
    lengths = Slider(64, 8192, 2**0.125, 64, "l", log=True).values
    with Shown(browser, tmp_path / "rope.html", explorers["rope"].html) as shown:
        shown.move(0, s0=bases.index(base), s1=(width - 8) // 2, s2=lengths.index(length))
        assert shown.page.locator(".lc-value").all_inner_texts() == [
            f"{base:,}",
            f"{width}",
            f"{length:,} tokens",
        ]
        turns = rope_turns(base, width, length)
        complete = sum(t >= 1 for t in turns)
        assert f"{complete} of {width // 2} channels have seen every phase" in shown.said()
        slowest = float(shown.said().split("has made ")[1].split(" turns")[0])
        assert slowest == pytest.approx(turns[-1], rel=6e-3)
        assert shown.page.locator("circle").count() == width // 2
        assert shown.page.locator("circle[style*='fill:none']").count() == width // 2 - complete
        # The line is the average of the score over each column: compare it with a fine sum.
        points = shown.page.locator("polyline").get_attribute("points") or ""
        height = float(shown.page.locator("svg svg").first.get_attribute("height") or 0)
        ratio = (64 * 8192) ** (1 / 240)
        for column in (0, 61, 127):
            y = float(points.split()[column].split(",")[1])
            inside = np.linspace(ratio**column, ratio ** (column + 1), 4001)
            score = np.cos(inside[:, None] * float(base) ** (-np.arange(0, width, 2) / width)).mean()
            assert 1 - 2 * y / height == pytest.approx(score, abs=2e-3)


@pytest.mark.browser
@pytest.mark.parametrize(
    ("slope", "margin", "length"), [(1 / 16, 8, 4096), (1 / 256, 15, 65_536), (1, 20, 64)]
)
def test_alibi_in_the_page(
    browser: Browser, tmp_path: Path, explorers: dict[str, Explorer], slope: float, margin: int, length: int
) -> None:
    slopes = Slider(1 / 256, 1, 2**0.25, 1, "s", log=True).values
    lengths = Slider(64, 65_536, 2**0.25, 64, "l", log=True).values
    half = alibi_half_distance(slope, margin, length)
    with Shown(browser, tmp_path / "alibi.html", explorers["alibi"].html) as shown:
        shown.move(0, s0=slopes.index(slope), s1=4 * margin, s2=lengths.index(length))
        assert f"half of the attention up to {three(half)} tokens" in shown.said()
        assert f"gets {three(math.exp(margin) / (math.exp(margin) + length - 1))} at" in shown.said()
        box = shown.page.locator("svg svg").first
        wide, high = (float(box.get_attribute(side) or 0) for side in ("width", "height"))
        dot = shown.page.locator("circle")
        assert float(dot.get_attribute("cx") or 0) == pytest.approx(
            wide * math.log(half) / math.log(65_536), abs=0.06
        )
        assert float(dot.get_attribute("cy") or 0) == pytest.approx(high / 2, abs=0.06)
        curve = (shown.page.locator("polyline").last.get_attribute("points") or "").split()
        for k in range(0, 400, 57):
            weight = alibi_weight((length - 1) ** (k / 399), slope, margin, length)
            assert float(curve[k].split(",")[1]) == pytest.approx(high * (1 - weight), abs=0.06)


@pytest.mark.browser
def test_alibi_names_the_cases_without_a_half(
    browser: Browser, tmp_path: Path, explorers: dict[str, Explorer]
) -> None:
    with Shown(browser, tmp_path / "alibi.html", explorers["alibi"].html) as shown:
        shown.move(0, s0=0, s1=0, s2=0)
        assert alibi_half_distance(1 / 256, 0, 64) < 0
        assert "half of the attention nowhere" in shown.said()
        shown.move(0, s1=80)
        assert alibi_half_distance(1 / 256, 20, 64) > 63
        assert "to the end of the text" in shown.said()
        assert shown.page.locator("circle").count() == 0


@pytest.mark.browser
def test_keyboard_moves_the_slider_and_the_drawing(
    browser: Browser, tmp_path: Path, explorers: dict[str, Explorer]
) -> None:
    with Shown(browser, tmp_path / "keys.html", explorers["alibi"].html) as shown:
        before = shown.page.locator("figure > .lc-view").inner_html()
        margin = shown.page.get_by_role("slider", name="Margin of the needle", exact=True)
        margin.focus()
        shown.page.keyboard.press("ArrowRight")
        shown.move(0)
        assert margin.get_attribute("aria-valuetext") == "8.25 nats"
        assert shown.page.locator("figure > .lc-view").inner_html() != before
        assert f"up to {three(alibi_half_distance(1 / 16, 8.25, 4096))} tokens" in shown.said()


@pytest.mark.browser
def test_frames_switch(browser: Browser, tmp_path: Path, explorers: dict[str, Explorer]) -> None:
    with Shown(browser, tmp_path / "frames.html", explorers["frames"].html) as shown:
        image = shown.page.locator("img")
        sources = []
        for position, label in [(0, "2"), (1, "3"), (2, "5"), (0, "2")]:
            shown.move(0, s0=position)
            sources.append(image.get_attribute("src"))
            assert image.get_attribute("alt") == f"A sine (frequency: {label})"
            assert shown.page.locator(".lc-value").inner_text() == label
            assert image.evaluate("i => i.decode().then(() => i.naturalWidth)") > 100
        assert len(set(sources)) == 3
        assert sources[0] == sources[3]
        assert shown.page.locator("figcaption").inner_text() == "It <waves> & moves."


@pytest.mark.browser
def test_several_on_a_page_do_not_clash_and_leak_no_name(
    browser: Browser, tmp_path: Path, explorers: dict[str, Explorer]
) -> None:
    alibi = explorers["alibi"].html
    with Shown(browser, tmp_path / "bare.html", "") as shown:
        names = set(shown.page.evaluate("Object.getOwnPropertyNames(window)"))
    with Shown(browser, tmp_path / "many.html", explorers["rope"].html + alibi + alibi) as shown:
        first = [shown.said(0), shown.said(1)]
        shown.move(2, s0=0)
        assert shown.said(2) != first[1]
        assert [shown.said(0), shown.said(1)] == first
        own = {attrs["id"] for tag, attrs, _ in Reader(explorers["rope"].html + alibi).seen if "id" in attrs}
        assert set(shown.page.evaluate("Object.getOwnPropertyNames(window)")) - names <= own


@pytest.mark.browser
def test_a_figure_is_drawn_anew_where_the_page_gets_wider(
    browser: Browser, tmp_path: Path, explorers: dict[str, Explorer]
) -> None:
    with Shown(
        browser, tmp_path / "page.html", explorers["rope"].html, viewport={"width": 390, "height": 800}
    ) as shown:
        tall = shown.page.locator(".lc-view svg").first.evaluate("e => e.getBoundingClientRect().height")
        shown.page.set_viewport_size({"width": 800, "height": 900})
        shown.page.wait_for_function(
            "h => document.querySelector('.lc-view svg').getBoundingClientRect().height < h * 0.6", arg=tall
        )


@pytest.mark.browser
def test_a_still_picture_stands_in_without_javascript(
    browser: Browser, tmp_path: Path, explorers: dict[str, Explorer]
) -> None:
    body = "".join(explorer.html for explorer in explorers.values())
    with Shown(browser, tmp_path / "page.html", body, java_script_enabled=False) as shown:
        assert shown.page.locator("img").count() == 3
        for image in shown.page.locator("img").all():
            box = image.bounding_box()
            assert box is not None
            assert box["width"] > 300
            assert box["height"] > 100
        for control in shown.page.locator("input").all():
            assert not control.is_visible()


@pytest.mark.browser
def test_live_gives_the_script_its_values(browser: Browser, tmp_path: Path) -> None:
    script = LINE + "\ndraw.say(`a is <b>${draw.num(v.a)}</b>, n is <b>${v.n}</b>`); // a comment at the end"
    controls = {
        "a": slider(low=0, high=1, step=0.1, value=0.3),
        "n": slider(low=1, high=8, step=2, log=True, value=4),
    }
    with Shown(browser, tmp_path / "line.html", live(script, controls, alt="A line").html) as shown:
        assert shown.said() == "a is 0.3, n is 4"
        shown.move(0, s0=7, s1=3)
        assert shown.said() == "a is 0.7, n is 8"
        assert shown.page.locator(".lc-view > svg").get_attribute("aria-label") == "A line"


# ---- menus, controls out of use, and rasters

CELLS = """const k = v.kind === "square" ? v.a : 0;
draw.panel({ title: v.kind, x: [0, 7], y: [5, 0], square: true })
  .cells(5, 7, (r, c) => (c > r ? k / 10 : r === 3), "b");"""


@pytest.mark.browser
def test_a_menu_names_its_option_and_what_is_not_read_is_greyed_out(browser: Browser, tmp_path: Path) -> None:
    controls = {"kind": Choice(("round", "square"), "square", "Kind"), "a": slider()}
    with Shown(browser, tmp_path / "menu.html", live(CELLS, controls, alt="Cells").html) as shown:
        menu = shown.page.get_by_role("combobox", name="Kind", exact=True)
        moves, title = shown.page.get_by_role("slider", name="Start"), shown.page.locator("svg .t")
        assert (title.inner_html(), moves.is_enabled()) == ("square", True)
        menu.focus()
        shown.page.keyboard.press("ArrowUp")
        shown.move(0)
        assert (title.inner_html(), moves.is_enabled()) == ("round", False)
        assert moves.get_attribute("aria-valuetext") == "not used"
        assert shown.page.locator(".lc-off").count() == 1
        assert [v["id"] for v in Axe().run(shown.page).response["violations"]] == []
        menu.select_option(label="square")
        shown.move(0)
        assert (moves.is_enabled(), moves.get_attribute("aria-valuetext")) == (True, "3")


@pytest.mark.browser
def test_a_raster_is_a_path_for_each_shade(browser: Browser, tmp_path: Path) -> None:
    controls = {"kind": Choice(("round", "square"), "square", "Kind"), "a": slider()}
    with Shown(browser, tmp_path / "cells.html", live(CELLS, controls, alt="Cells").html) as shown:
        cells = painted(shown.page.locator("svg g > path.c").all(), 7, 5)
        expected = {(r, c): 0.3 if c > r else 1.0 for r in range(5) for c in range(7) if c > r or r == 3}
        assert cells == expected
        assert shown.page.locator("path.c").count() == 2
        shown.move(0, s0=0)
        assert shown.page.locator("path.c").count() == 1


BARS = """const one = draw.panel({ title: "Bars", x: [0, 5], y: [0, 1], bare: true });
one.bars([0, 2], [0, 0.5], [1, 0.75], 0.5).bars([v.a / 2], [0.2], [0.1], 0.25, "b");
one.note(0, 0, "mine", "start", "q").note(1, 0, "pale", "start", "o");
draw.panel({ title: "Two", x: [0, 11], y: [0, 1], whole: true, ywhole: true });
draw.panel({ title: "Three", x: [0, 11], y: [0, 1] });"""


@pytest.mark.browser
@pytest.mark.parametrize(("wide", "across"), [(800, 3), (640, 2), (500, 1)])
def test_bars_and_panels_without_axes(browser: Browser, tmp_path: Path, wide: int, across: int) -> None:
    explorer = live(BARS, {"a": slider()}, alt="Bars", panels=3, height=200)
    view = {"width": wide, "height": 900}
    with Shown(browser, tmp_path / "bars.html", explorer.html, viewport=view) as shown:
        # No axes: 7 pixels at the left, 10 or, before another panel, 18 at the right; 28 above and 12 below.
        width = shown.page.locator(".lc-view").evaluate("e => e.clientWidth") / across
        scale = (width - 7 - (18 if across > 1 else 10)) / 5
        sides = [
            [float(bar.get_attribute(side)) for side in ("x", "y", "width", "height")]
            for bar in shown.page.locator("svg rect").all()
        ]
        expected = [[0, 0, 0.5, 160], [2, 40, 0.5, 40], [1.5, 128, 0.25, 16]]
        for got, (x, y, long, tall) in zip(sides, expected, strict=True):
            assert got == pytest.approx([x * scale, y, long * scale, tall], abs=0.11)
        assert shown.page.locator("rect.s").count() == 2
        assert shown.page.locator("rect.c").get_attribute("style") == "fill:var(--b)"
        assert shown.page.locator("svg .q").text_content() == "mine"
        assert shown.page.locator("svg .o").text_content() == "pale"
        assert shown.page.locator("path.x").count() == 2
        tops = shown.page.locator("svg .t").evaluate_all("e => e.map(t => t.getBoundingClientRect().y)")
        assert [tops[0] == top for top in tops] == [k < across for k in range(3)]
        texts = shown.page.locator("svg text").all_text_contents()
        two, three = texts.index("Two"), texts.index("Three")
        assert all("." not in tick for tick in texts[:two])
        assert ("0.5" in texts[two:three], "2.5" in texts[two:three]) == (True, across == 2)
