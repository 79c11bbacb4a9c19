"""The explorers of dilution: weights are those of real draws, and the page's numbers are Python's and the table's."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import entmax
import numpy as np
import pandas as pd
import pytest
import torch
from playwright.sync_api import Browser
from scipy import stats as distributions
from torch import Tensor

from lcbook import stats
from lcbook.attention import normalizers
from lcbook.explorers.dilution import (
    COMPARED,
    distractors,
    margin_needed,
    needle_weight,
    remedy_explorer,
    weight_explorer,
)
from lcbook.explorers.fragment import Explorer
from tests.fragments import Shown, computed

LENGTHS, DEPTHS = (256, 1024, 4096, 16384, 65536), tuple((i + 0.5) / 7 for i in range(7))
REMEDIES, HAYS = ("as trained", "scores x 2", "log-n factor"), ("filler", "competing keys")


def remedied(seeds: int = 3) -> pd.DataFrame:
    """Recall falls with the length, less so under each remedy, and sooner among competing keys."""
    rows = []
    for hay, remedy, length, depth, seed in itertools.product(HAYS, REMEDIES, LENGTHS, DEPTHS, range(seeds)):
        reach = 2000 * 3 ** REMEDIES.index(remedy) / 2 ** HAYS.index(hay)
        correct = round(97 / (1 + length / reach * (1 + 0.4 * depth))) + seed
        rows.append((hay, remedy, length, depth, seed, correct, 101))
    columns = ["haystack", "remedy", "length", "depth", "seed", "correct", "total"]
    return pd.DataFrame(rows, columns=columns).assign(chance=1 / 13)


@pytest.fixture(scope="module")
def weights() -> Explorer:
    return weight_explorer()


@pytest.fixture(scope="module")
def remedies() -> Explorer:
    return remedy_explorer(remedied())


# ---- the needle's weight


def test_margins_by_hand() -> None:
    assert round(margin_needed(512), 2) == 8.43
    assert round(margin_needed(2**20), 2) == 16.06
    assert margin_needed(2, 0.5) == 0
    assert margin_needed(12, 0.5, 3) == pytest.approx(math.log(11) + 4.5)


def test_weights_among_equal_distractors_by_hand() -> None:
    for n in (17, 256, 10007):
        assert needle_weight(n, 5, 0) == pytest.approx(math.exp(5) / (math.exp(5) + n - 1))
        factor = math.log(n) / math.log(256)
        assert needle_weight(n, 5, 0, "log-n softmax") == pytest.approx(
            math.exp(5 * factor) / (math.exp(5 * factor) + n - 1)
        )
        assert needle_weight(n, 5, 0, "off-by-one softmax") == pytest.approx(math.exp(5) / (math.exp(5) + n))
        assert needle_weight(n, 5, 0, "top-16") == pytest.approx(math.exp(5) / (math.exp(5) + 15))
        assert needle_weight(n, 5, 3, "sigmoid") == pytest.approx(math.exp(5) / (math.exp(5) + n))
        assert needle_weight(n, 1.01, 0, "sparsemax") == pytest.approx(1), "at a lead of 1 all others vanish"
        assert needle_weight(n, 0.5, 0, "sparsemax") == pytest.approx(1 / n + 0.5 * (n - 1) / n)
        assert needle_weight(n, 2.01, 0, "entmax 1.5") == pytest.approx(1), "at a lead of 2"
    assert needle_weight(2**20, 1, 3, "top-16") == 0, "more than 16 score higher"


@pytest.mark.parametrize("n", [2, 3, 97, 2**14, 2**30])
def test_all_distractors_are_there_and_the_highest_is_the_typical_one(n: int) -> None:
    scores, counts = distractors(n)
    assert counts.sum() == pytest.approx(n - 1)
    assert (np.diff(scores) > 0).all()
    assert (counts >= 0).all()
    if n > 90:
        assert abs(scores[-1] - distributions.norm.isf(math.exp(-np.euler_gamma) / (n - 1))) < 1e-4
        ends = [distributions.norm.isf(1 - 0.5 ** (1 / (n - 1))), math.sqrt(2 * math.log(n))]
        assert ends[0] < scores[-1] < ends[1], "above the median of the largest and below its limit"
        assert float(counts @ scores**2) / (n - 1) == pytest.approx(1, rel=0.06)


@pytest.mark.parametrize("spread", [0, 0.5, 1])
def test_softmax_costs_the_log_of_the_keys_and_half_the_variance(spread: float) -> None:
    for n, margin in itertools.product((1024, 2**14, 2**20, 2**30), (2, 8, 17)):
        weight = needle_weight(n, margin, spread)
        assert math.log(weight / (1 - weight)) == pytest.approx(
            margin - math.log(n - 1) - spread**2 / 2, abs=0.003
        )
        assert needle_weight(n, margin_needed(n, 0.9, spread), spread) == pytest.approx(0.9, abs=3e-4)


def test_beyond_freezing_a_draw_lacks_the_tail_that_carries_the_mean() -> None:
    weight = needle_weight(64, 12, 4)
    assert math.log(weight / (1 - weight)) > 12 - math.log(63) - 8 + 2


REFERENCE: dict[str, Callable[[Tensor], Tensor]] = {
    "softmax": lambda s: s.softmax(-1),
    "log-n softmax": lambda s: (s * math.log(s.shape[-1]) / math.log(256)).softmax(-1),
    "off-by-one softmax": lambda s: s.exp() / (1 + s.exp().sum(-1, keepdim=True)),
    "sparsemax": lambda s: entmax.sparsemax(s, -1),
    "entmax 1.5": lambda s: entmax.entmax15(s, -1),
    "top-16": lambda s: s.masked_fill(s < s.topk(16, -1).values[:, -1:], -torch.inf).softmax(-1),
    "sigmoid": lambda s: (s - math.log(s.shape[-1])).sigmoid(),
}


def of_the_package(name: str) -> Callable[[Tensor], Tensor]:
    """The normalizer of lcbook by that name; log-n softmax is scaled to be softmax at 256 keys."""
    found = normalizers.normalizer({"top-16": "top-k"}.get(name, name))
    return (lambda s: found(s / math.log(256))) if name == "log-n softmax" else found


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[pytest.mark.slow] * (n in ("sparsemax", "entmax 1.5"))) for n in COMPARED],
)
def test_weights_are_the_medians_of_real_draws(name: str) -> None:
    generator = torch.Generator().manual_seed(11)
    near = 0.08 if name == "sparsemax" else 0.05  # by far the worst at 256 keys and spread 4
    for n, draws in ((256, 300), (2**14, 120)):
        drawn = torch.randn(draws, n, dtype=torch.float64, generator=generator)
        for spread, margin in ((0.5, 5), (1, 8), (2, 5), (2, 10), (4, 12), (4, 17)):
            scores = spread * drawn
            scores[:, 0] = margin
            for f in (REFERENCE[name], of_the_package(name)):
                found = float(f(scores)[:, 0].median())
                case = (n, spread, margin)
                assert needle_weight(n, margin, spread, name) == pytest.approx(found, abs=near), case


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: needle_weight(64, 3, 1, "hardmax"), "normalizer is 'hardmax'; allowed are softmax, log-n"),
        (lambda: needle_weight(64, -3, 1), "margin is -3 and spread is 1 nats; allowed is 0 or more"),
        (lambda: needle_weight(64, 3, math.nan), "spread is nan"),
        (lambda: needle_weight(1, 3, 1), "n is 1; allowed is 2 to 1073741824 keys"),
        (lambda: distractors(2**31), "n is 2147483648"),
        (lambda: margin_needed(1), "n is 1, weight is 0.9 and spread is 0.0; allowed are n >= 2"),
        (lambda: margin_needed(64, 1), "weight is 1 "),
        (lambda: margin_needed(64, 0.5, -1), "spread is -1"),
        (lambda: weight_explorer(21), "value is 21; it must lie from 0 to 20"),
        (lambda: weight_explorer(normalizer="hardmax"), "value is 'hardmax'; it must be one of softmax"),
        (lambda: remedy_explorer(remedied()[:0]), "has no rows"),
        (lambda: remedy_explorer(remedied().drop(columns="chance")), r"lacks the columns \['chance'\]"),
        (lambda: remedy_explorer(remedied().assign(depth=math.nan)), "table has empty values"),
        (lambda: remedy_explorer(remedied().query("remedy == 'as trained'")), r"the remedies \['as trained'\] at"),
        (lambda: remedy_explorer(remedied().query("remedy != 'as trained'")), "allowed are 'as trained' and another"),
        (lambda: remedy_explorer(remedied().query("length == 256")), r"at the lengths \[256\]; allowed"),
        (lambda: remedy_explorer(remedied().query("haystack == 'filler' or length != 4096 or depth < 0.9")),
         "table lacks 'as trained' at length 4096 and depth 0.92.* in 'competing keys'; allowed is every remedy"),
        (lambda: remedy_explorer(remedied(), "scores x 3"), "value is 'scores x 3'; it must be one of as trained"),
    ],
)  # fmt: skip
def test_bad_input_is_named(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


# ---- the fragments


def test_what_the_alt_texts_say(weights: Explorer, remedies: Explorer) -> None:
    assert f"gives {needle_weight(256, 8, 1):.2g} among 256 keys" in weights.alt
    start = stats.recall(remedied().query("haystack == 'filler'"), ["remedy", "length"]).set_index(
        ["remedy", "length"]
    )
    first, last = (100 * start.loc[("scores x 2", length), "recall"] for length in (256, 65536))
    assert (
        f"at 256 and at 65,536 tokens: with scores x 2 {first:.0f} and {last:.0f} %, as trained "
        in remedies.alt
    )
    assert remedies.alt.endswith("Chance is 8 %.")
    assert "Computed beforehand" in remedies.html


def test_one_haystack_has_no_menu() -> None:
    one = remedy_explorer(remedied().query("haystack == 'filler'").drop(columns="haystack"), "as trained")
    assert one.html.count("<select") == 1
    assert one.alt.count("as trained") == 1


@pytest.mark.browser
def test_the_weights_in_the_page_are_pythons(browser: Browser, weights: Explorer) -> None:
    grid = itertools.product((0.5, 8, 13.5, 20), (0, 1, 2.25, 4), COMPARED)
    cases = [dict(zip(("margin", "spread", "normalizer"), values, strict=True)) for values in grid]
    for case, run in zip(cases, computed(browser, weights, cases), strict=True):
        margin, spread, name = case.values()
        names = ["softmax"] if name == "softmax" else [name, "softmax"]
        curves = [line for line in run["lines"] if len(line[0]) == 65]
        assert len(curves) == 2 * len(names)
        for i, shown in enumerate(names):
            keys, found = curves[2 * i]
            assert (keys[0], keys[-1]) == pytest.approx((16, 2**20))
            expected = [needle_weight(n, margin, spread, shown) for n in keys]
            assert found == pytest.approx(expected, rel=1e-6, abs=1e-9), case
            keys, needed = curves[2 * i + 1]
            for n, lead in list(zip(keys, needed, strict=True))[::8]:
                if lead > 0:  # at 0 any margin does
                    assert needle_weight(n, lead, spread, shown) == pytest.approx(0.9, abs=1e-6), (case, n)
            if shown == "softmax" and spread < 2:
                close = [margin_needed(n, 0.9, spread) for n in keys[20:]]
                assert needed[20:] == pytest.approx(close, abs=0.01)
        sentences = run["said"].split(". ")
        assert len(sentences) == len(names)
        for shown, sentence in zip(names, sentences, strict=True):
            numbers = [float(x) for x in re.findall(r"<b[^>]*>([\d.e-]+)</b>", sentence)]
            expected = [needle_weight(n, margin, spread, shown) for n in (256, 2**20)]
            assert numbers[:2] == pytest.approx(expected, rel=1e-6, abs=1e-9), case
            if len(numbers) == 3:
                told = numbers[2]  # rounded up, to three digits
                around = [needle_weight(n, margin, spread, shown) for n in (0.99 * told - 1, 1.01 * told)]
                assert around[0] > 0.5 > around[1], case
            else:
                far = needle_weight(2**30, margin, spread, shown) >= 0.5
                words = "at least one half even at a billion" if far else "below one half from 16 keys on"
                assert words in sentence, case


@pytest.mark.browser
def test_the_remedies_in_the_page_are_the_table(browser: Browser, remedies: Explorer) -> None:
    table = remedied()
    curves = stats.recall(table, ["haystack", "remedy", "length"]).set_index(["haystack", "remedy"])
    cells = table.groupby(["haystack", "remedy", "depth", "length"])[["correct", "total"]].sum()
    maps = (cells["correct"] / cells["total"]).unstack("length")
    cases = [dict(zip(("haystack", "remedy"), x, strict=True)) for x in itertools.product(HAYS, REMEDIES)]
    for case, run in zip(cases, computed(browser, remedies, cases), strict=True):
        at = tuple(case.values())
        raster = np.array(run["rasters"][0]["cells"])
        assert raster.shape == (7, 5), "depths down, lengths across"
        assert raster == pytest.approx(maps.loc[at].to_numpy(), abs=6e-4), case
        recall, trained = (100 * curves.loc[key]["recall"].to_numpy() for key in (at, (at[0], "as trained")))
        drawn = [line[1] for line in run["lines"] if len(line[0]) == 5 and line[0][0] > 2]
        assert drawn[-1] == pytest.approx(recall, abs=0.01), case
        assert len(drawn) == 1 + (at[1] != "as trained")
        assert drawn[0] == pytest.approx(trained, abs=0.01), case
        ends = (
            f"<b>{math.floor(recall[0] + 0.5)} %</b> at 256 tokens, <b>{math.floor(recall[-1] + 0.5)} %</b>"
        )
        assert ends in run["said"], case
        crossing = math.exp(np.interp(-50, -recall, np.log(LENGTHS)))
        told = re.search(r"below one half from about (\d+) tokens", run["said"])
        assert told is not None, case
        assert float(told.group(1)) == pytest.approx(crossing, rel=0.06), "two digits"


@pytest.mark.browser
def test_a_recall_that_crosses_nothing_is_told(browser: Browser) -> None:
    table = remedied()
    high = table.assign(correct=np.where(table["remedy"] == "as trained", 3, 97))
    for remedy, words in (
        ("scores x 2", "one half or more at every length"),
        ("as trained", "below one half at"),
    ):
        run = computed(browser, remedy_explorer(high), [{"haystack": "filler", "remedy": remedy}])[0]
        assert words in run["said"]


@pytest.mark.browser
def test_both_answer_to_menus_sliders_and_keys(
    browser: Browser, tmp_path: Path, weights: Explorer, remedies: Explorer
) -> None:
    with Shown(browser, tmp_path / "page.html", weights.html + remedies.html) as shown:
        assert f"weight is {needle_weight(256, 8, 1):.2g} among 256 keys" in shown.said()
        slider = shown.page.get_by_role("slider", name="Margin")
        slider.focus()
        shown.page.keyboard.press("ArrowRight")
        shown.move(0)
        assert slider.get_attribute("aria-valuetext") == "8.5 nats"
        assert f"it is {needle_weight(2**8, 8.5, 1):.2g} among 256 keys" in shown.said()
        shown.page.get_by_role("combobox", name="Normalizer").select_option(label="softmax")
        shown.move(0)
        assert shown.said().count("Under") == 1, "softmax is not compared with itself"
        assert "Recall of the same weights, scores x 2:" in shown.said(1)
        shown.page.get_by_role("combobox", name="At inference").select_option(label="as trained")
        shown.move(1)
        assert "As trained" not in shown.said(1)
        before = shown.said(1)
        shown.page.get_by_role("combobox", name="Haystack").select_option(label="competing keys")
        shown.move(1)
        assert shown.said(1) != before
