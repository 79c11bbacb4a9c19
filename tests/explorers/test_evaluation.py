"""The explorers of evaluation: the page's bounds, samples and cells are Python's and the table's."""

from __future__ import annotations

import itertools
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from playwright.sync_api import Browser
from scipy import stats as distributions

from lcbook import stats
from lcbook.explorers.evaluation import COLUMNS, LEVELS, heat_map_explorer, samples_explorer
from lcbook.explorers.fragment import Explorer
from lcbook.formats import tokens
from lcbook.stats.effective import last_success, lower_bound, more_samples
from tests.fragments import Shown, computed, three

TASKS, AMOUNTS = {"single needle": 1, "multi-query": 4}, (0, 8, 32)
LENGTHS, DEPTHS, ITEMS = (1024, 2048, 4096, 8192, 16384), tuple(k / 6 for k in range(7)), 13


def asked(items: int = ITEMS) -> pd.DataFrame:
    """Recall falls with length and distractors, and is lowest in the middle; items are numbered from 100 downward."""
    rng, rows = np.random.default_rng(0), []
    cells = itertools.product(TASKS.items(), AMOUNTS, LENGTHS, DEPTHS, range(items))
    for (task, total), amount, length, depth, item in cells:
        p = 1 / (1 + math.exp(1.2 * math.log2(length / (9000 - 150 * amount)) - 1 - 3 * abs(depth - 0.5)))
        rows.append((task, amount, length, depth, 100 - item, rng.binomial(total, p), total, 0.01 * total))
    return pd.DataFrame(rows, columns=list(COLUMNS))


@pytest.fixture(scope="module")
def samples() -> Explorer:
    return samples_explorer()


@pytest.fixture(scope="module")
def grid() -> Explorer:
    return heat_map_explorer(asked())


# ---- the fragments


def test_what_the_alt_texts_say(samples: Explorer, grid: Explorer) -> None:
    assert samples.alt.startswith(
        "The recall that 20 right answers of 20 allow: 83.9 to 100.0 % by Wilson's 95 %"
    )
    assert samples.alt.endswith(
        "at least 86.1 % by the exact one-sided bound. To claim 90 % it takes 9 more, all right."
    )
    assert samples_explorer(29).alt.endswith("That supports a claim of 90 %.")
    frame = asked().query("task == 'single needle' and haystack == 0")
    c, t = frame["correct"].sum(), frame["total"].sum()
    low, high = stats.wilson(c, t)
    assert (
        f"13 items a cell: {100 * c / t:.0f} % over all cells ({100 * low:.0f} to {100 * high:.0f} %)"
        in grid.alt
    )


def test_many_items_stay_light() -> None:
    frame = pd.concat([asked(40).assign(task=task, total=1, correct=1) for task in ("a", "b", "c")])
    frame = frame.drop_duplicates(["task", "haystack", "length", "depth", "seed"])
    assert len(frame) == 3 * 3 * 5 * 7 * 40
    assert len(heat_map_explorer(frame).html) < 200_000


def test_one_task_and_one_amount_have_no_menu() -> None:
    one = heat_map_explorer(asked().query("task == 'multi-query' and haystack == 8"), samples=5)
    assert one.html.count("<select") == 0
    assert "of multi-query in 8, 5 items a cell" in one.alt


def test_the_order_of_the_rows_does_not_matter(grid: Explorer) -> None:
    shuffled = asked().sample(frac=1, random_state=1).sort_values("task", ascending=False, kind="stable")
    assert heat_map_explorer(shuffled).html == grid.html


FRAME = asked(3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: samples_explorer(501), "value is 501; it must lie from 1 to 500"),
        (lambda: samples_explorer(20, 21), "value is 21; it must lie from 0 to 20"),
        (lambda: samples_explorer(level="91 %"), "value is '91 %'; it must be one of 50 %"),
        (lambda: heat_map_explorer(FRAME.drop(columns="chance")), r"lacks the columns \['chance'\]"),
        (lambda: heat_map_explorer(FRAME[:0]), "has no rows"),
        (lambda: heat_map_explorer(FRAME.assign(depth=math.nan)), "frame has empty values"),
        (lambda: heat_map_explorer(pd.concat([FRAME, FRAME])), "several rows of one item"),
        (lambda: heat_map_explorer(FRAME[FRAME["seed"] == 100]), "frame has 1 items a cell; allowed are 2"),
        (lambda: heat_map_explorer(FRAME.query("length != 2048 or depth > 0 or haystack != 8")),
         "frame lacks 'single needle' in 8 at depth 0.0 and length 2048; allowed is every combination"),
        (lambda: heat_map_explorer(FRAME.assign(total=[5, 6] * (len(FRAME) // 2))), "total varies in task"),
        (lambda: heat_map_explorer(FRAME.assign(total=36)), "total is 36 to 36; allowed are 1 to 35 answers"),
        (lambda: heat_map_explorer(FRAME.assign(correct=0.5)), "in whole numbers"),
        (lambda: heat_map_explorer(FRAME.assign(correct=5)), "correct is 5 of 1"),
        (lambda: heat_map_explorer(FRAME, samples=4), "value is 4; it must lie from 1 to 3"),
        (lambda: heat_map_explorer(FRAME, task="copy"), "value is 'copy'; it must be one of single needle"),
    ],
)  # fmt: skip
def test_bad_input_is_named(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


# ---- the pages


@pytest.mark.browser
def test_the_bounds_in_the_page_are_pythons(browser: Browser, samples: Explorer) -> None:
    grid = itertools.product((1, 20, 137), (0, 1, 20), LEVELS[::2])
    cases = [dict(zip(("samples", "wrong", "level"), values, strict=True)) for values in grid]
    for case, run in zip(cases, computed(browser, samples, cases), strict=True):
        n, claim = case["samples"], float(case["level"].split()[0]) / 100
        right = max(0, n - case["wrong"])
        wrong, bound = n - right, lower_bound(right, n)
        points = [[x[0], y[0]] for x, y in run["points"]]
        assert points[0] == pytest.approx([n, 100 * right / n]), case
        assert points[1] == pytest.approx([n, 100 * bound], abs=1e-6), case
        needed, wilsons = (more_samples(right, n, claim, method=method) for method in ("exact", "Wilson"))
        assert [x for x, _ in points[2:]] == ([n + needed] if needed else []), case
        said = re.sub(r"<[^>]*>", "", run["said"]).replace("\u00a0", " ")
        assert said.startswith(f"{right} of {n} right"), case
        numbers = [float(x) for x in re.findall(r"(?:from|to|least) ([\d.e-]+)", said.split("(exact")[0])]
        low, high = stats.wilson(right, n)
        assert numbers == pytest.approx([100 * low, 100 * high, 100 * bound], rel=6e-3, abs=1e-9), case
        if needed:
            assert (
                f"To claim {case['level']} it takes {needed} more samples, all right (by Wilson's interval {wilsons})"
                in said
            )
        else:
            assert f"That supports a claim of {case['level']}" in said
            assert (f"it takes {wilsons} more" in said) == (wilsons > 0)
        counts, score = run["lines"][0]
        assert score == pytest.approx([100 * (m - wrong) / m for m in counts]), case
        counts, exact = run["lines"][1]
        expected = [100 * lower_bound(m - wrong, m) for m in counts[::40]]
        assert exact[::40] == pytest.approx(expected, abs=1e-6), case
        masses = {x + 0.4: y for one in run["bars"] for x, y in zip(one["xs"], one["high"], strict=True)}
        js = sorted(masses)
        pmf = 100 * distributions.binom.pmf(np.round(js), n, 1 - claim)
        assert [masses[j] for j in js] == pytest.approx(pmf, abs=1e-8), case
        luck = 100 * distributions.binom.cdf(wrong, n, 1 - claim)
        told = float(re.search(r"as good as yours: ([\d.e-]+) %", " ".join(run["notes"])).group(1))
        assert told == pytest.approx(luck, rel=6e-3), case
        assert (luck <= 5) == (needed == 0), "the exact bound is this test turned round"


@pytest.mark.browser
def test_the_cells_in_the_page_are_the_first_items(browser: Browser, grid: Explorer) -> None:
    frame = asked().sort_values("seed")
    cases = [
        {"task": task, "haystack": str(amount), "samples": n}
        for task, amount, n in itertools.product(TASKS, AMOUNTS, (1, 5, ITEMS))
    ]
    for case, run in zip(cases, computed(browser, grid, cases), strict=True):
        part = frame[(frame["task"] == case["task"]) & (frame["haystack"] == int(case["haystack"]))]
        kept = part.groupby(["depth", "length"]).head(case["samples"])
        cells = kept.groupby(["depth", "length"])[["correct", "total"]].sum()
        raster = np.array(run["rasters"][0]["cells"])
        assert raster == pytest.approx((cells["correct"] / cells["total"]).unstack("length").to_numpy()), case
        curve = kept.groupby("length")[["correct", "total"]].sum()
        scores = curve["correct"] / curve["total"]
        drawn = [line[1] for line in run["lines"] if len(line[0]) == 5 and line[0][0] > 2]
        assert drawn[0] == pytest.approx((100 * scores).tolist()), case
        said = re.sub(r"<[^>]*>", "", run["said"]).replace("\u00a0", " ")
        c, t = cells["correct"].sum(), cells["total"].sum()
        assert f"{math.floor(100 * c / t + 0.5)} % of {t} answers right" in said, case
        ends = [math.floor(100 * x + 0.5) for x in stats.wilson(c, t)]
        assert f"(95 % interval {ends[0]} % to {ends[1]} %)" in said, case
        share = (cells["correct"] / cells["total"]).min()
        k, n = re.search(r"Lowest cell: (\d+) of (\d+)", said).groups()
        assert int(k) / int(n) == share, case
        full = stats.wilson(int(n), int(n))[0]
        assert f"all right still allows {math.floor(100 * full + 0.5)} %" in said, case
        reach = last_success(LENGTHS, scores)
        assert said.endswith(f"85.6 % or more: {tokens(reach) + ' tokens' if reach else 'no length'}."), case


@pytest.mark.browser
def test_a_cell_with_fewer_items_counts_those_it_has(browser: Browser) -> None:
    frame = asked().query("task == 'multi-query' and haystack == 0")
    frame = frame[(frame["length"] != 4096) | (frame["depth"] > 0) | (frame["seed"] > 97)]
    run = computed(browser, heat_map_explorer(frame), [{"samples": ITEMS}])[0]
    assert f"of {frame['total'].sum()} answers" in re.sub(r"<[^>]*>", "", run["said"])


@pytest.mark.browser
def test_both_answer_to_menus_and_sliders(
    browser: Browser, tmp_path: Path, samples: Explorer, grid: Explorer
) -> None:
    with Shown(browser, tmp_path / "page.html", samples.html + grid.html) as shown:
        assert "20 of 20 right" in shown.said()
        shown.move(0, s0=99, s1=3)
        assert "97 of 100 right" in shown.said()
        assert f"at least {three(100 * lower_bound(97, 100))}" in shown.said()
        shown.page.get_by_role("combobox", name="Recall to be claimed").select_option(label="99.9 %")
        shown.move(0)
        assert f"{more_samples(97, 100, 0.999):,} more samples" in shown.said()
        before = shown.said(1)
        shown.page.get_by_role("combobox", name="Task").select_option(label="multi-query")
        shown.page.get_by_role("combobox", name="Haystack").select_option(label="32")
        shown.move(1)
        assert shown.said(1) != before
        shown.move(1, s0=0)
        assert "First 1 item of each cell" in shown.said(1)
