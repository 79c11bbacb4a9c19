"""The explorers of training: the page's closed forms are Python's, and its recall is that of the table given."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from playwright.sync_api import Browser
from scipy import integrate

from lcbook import stats
from lcbook.explorers.fragment import Explorer
from lcbook.explorers.training import (
    SCHEDULES,
    depth_dial,
    distance_trained,
    draws,
    length_at,
    schedule_explorer,
    stages,
)
from lcbook.models import costs
from lcbook.models.decoder import ModelSpec
from lcbook.tasks.recall import depth_weights
from tests.fragments import Shown, computed, three

LEVELS, DEPTHS = (0, 1.5, 3), [i / 7 for i in range(7)]


def dialled(seeds: int = 3) -> pd.DataFrame:
    """Uniform at strength 0 alone, two kinds at the others; recall falls with the depth, less so after tuning."""
    rows = [
        (kind, strength, tuned, depth, seed, 97 - int(strength * (9 - 6 * tuned) * (1 - depth)) - seed, 101)
        for kind, strengths in (("uniform", (0,)), ("recency", LEVELS[1:]), ("both ends", LEVELS[1:]))
        for strength in strengths
        for tuned in (False, True)
        for depth in DEPTHS
        for seed in range(seeds)
    ]
    columns = ["training", "strength", "tuned", "depth", "seed", "correct", "total"]
    return pd.DataFrame(rows, columns=columns).assign(chance=1 / 13)


@pytest.fixture(scope="module")
def dial() -> Explorer:
    return depth_dial(dialled(), training="recency")


@pytest.fixture(scope="module")
def schedule() -> Explorer:
    return schedule_explorer()


# ---- closed forms in Python


def test_steps_double_up_to_the_target() -> None:
    assert stages(64, 512) == [64, 128, 256, 512]
    assert stages(100, 512) == [128, 256, 512], "the target counts"
    assert [length_at("steps", 64, 512, u) for u in (0, 0.24, 0.25, 0.76, 0.999)] == [64, 64, 128, 512, 512]


def test_lengths_by_hand() -> None:
    assert length_at("fixed", 7, 101, 0.3) == 101
    assert length_at("linear", 7, 107, 0.25) == length_at("uniform", 7, 107, 0.25) == 32
    assert length_at("log-uniform", 4, 64, 0.5) == pytest.approx(16)
    assert distance_trained("fixed", 7, 100, 25) == 0.75
    assert distance_trained("steps", 64, 128, 96) == pytest.approx(0.25 / 2)


def mean(f: Any, kind: str, shortest: float, target: float) -> float:
    """The mean of f(length) over training tokens; the integral is cut where steps meet."""
    steps = len(stages(shortest, target))
    at = lambda u: f(length_at(kind, shortest, target, u))  # noqa: E731
    return sum(integrate.quad(at, k / steps, (k + 1) / steps, limit=200)[0] for k in range(steps))


@pytest.mark.parametrize("kind", SCHEDULES)
def test_the_distances_trained_are_the_mean_over_tokens(kind: str) -> None:
    at = kind, 37.0, 8 * 37.0
    for d in (0, 11, 37, 53, 101, 293, 296, 300):
        expected = mean(lambda n, d=d: max(0.0, 1 - d / n), *at)
        assert distance_trained(*at, d) == pytest.approx(expected, abs=1e-6)


def test_distances_are_the_pairs_of_whole_sequences() -> None:
    # 256 tokens in sequences of 16 and as many in sequences of 32: pairs that are 5 apart, counted one by one.
    pairs = sum(256 // n * sum(q - k == 5 for q in range(n) for k in range(q)) for n in (16, 32))
    assert distance_trained("steps", 16, 32, 5) == pytest.approx(pairs / 512)


def test_the_share_saved_is_that_of_attentions_operations() -> None:
    spec, lengths = ModelSpec(layers=3, width=64), stages(64, 512)

    def flops(length: int) -> float:
        return costs.training_flops(spec, 101, batch=1024 // length, length=length)

    projections = 2 * flops(64) - flops(128)  # what is left at length 0: attention grows in proportion
    spent = float(np.mean([flops(int(n)) - projections for n in lengths]))
    assert mean(float, "steps", 64, 512) / 512 == pytest.approx(spent / (flops(512) - projections))


def test_what_the_alt_text_of_the_schedules_says() -> None:
    for kind, part in itertools.product(SCHEDULES[1:], [2.0**-k for k in range(1, 7)]):
        assert (
            0.25
            <= 1 - mean(float, kind, 1024 * part, 1024) / 1024 + 1e-9
            < 0.5 + (kind in ("log-uniform", "steps")) * 0.27
        )
        for d in (256, 512, 1000):
            assert distance_trained(kind, 1024 * part, 1024, d) < 1 - d / 1024


def test_draws_are_park_and_millers_and_fair() -> None:
    state = 20011 * pow(16807, 997, 2**31 - 1) % (2**31 - 1)
    found = draws(997)
    assert found[-1] == state / (2**31 - 1)
    counts = np.histogram(found, bins=10, range=(0, 1))[0]
    assert ((counts - 99.7) ** 2 / 99.7).sum() < 21.7  # chi-squared with 9 degrees of freedom, p = 0.01


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: length_at("cosine", 7, 101, 0.5), "kind is 'cosine'; allowed are fixed, uniform"),
        (lambda: length_at("uniform", 101, 101, 0.5), "shortest is 101 for 101; allowed is above 0 and below"),
        (lambda: length_at("uniform", 0, 101, 0.5), "shortest is 0 for 101"),
        (lambda: distance_trained("uniform", 7, 101, -1), "distance is -1; allowed is 0 or more"),
        (lambda: schedule_explorer("cosine"), "value is 'cosine'; it must be one of fixed"),
        (lambda: schedule_explorer(target=3), "value is 3; it must lie from 512"),
        (lambda: depth_dial(dialled()[:0]), "has no rows"),
        (lambda: depth_dial(dialled().drop(columns="strength")), r"lacks the columns \['strength'\]"),
        (lambda: depth_dial(dialled(), training="primacy"), r"training is 'primacy' at strength 3.0; allowed are \["),
        (lambda: depth_dial(dialled(), strength=2), r"at strength 2; allowed are .* at one of \[0.0, 1.5, 3.0\]"),
        (lambda: depth_dial(dialled().query("training != 'recency' or strength != 3 or tuned")),
         "table lacks 'recency' at strength 3.0 with tuned False"),
        (lambda: depth_dial(dialled().query("training != 'uniform'").replace({"strength": {1.5: 0.0}})
                            .query("training == 'recency' or strength == 3").assign(training="middle")),
         "kind is 'middle'; allowed is one of uniform"),
    ],
)  # fmt: skip
def test_bad_input_is_named(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


# ---- the fragments


def test_what_the_alt_text_of_the_dial_says(dial: Explorer) -> None:
    assert "Trained on recency at strength 3, recall is 68 % at the start" in dial.alt
    assert dial.alt.endswith("chance is 8 %.")


def test_one_kind_strength_or_state_has_no_control() -> None:
    one = depth_dial(dialled().query("not tuned").drop(columns="tuned").query("strength != 1.5"))
    assert one.html.count("<select") == 1, "the kind alone"
    assert "fine-tuned on uniform depths" not in one.html.split("<script>")[0]
    uneven = dialled().replace({"strength": {3.0: 4.0}})
    assert 'type="range"' not in depth_dial(uneven).html, "strengths that are not evenly spaced are a menu"
    assert "at strength" not in depth_dial(dialled()).alt, "uniform has no strength"


@pytest.mark.browser
def test_the_dial_in_the_page_is_the_table(browser: Browser, dial: Explorer) -> None:
    table, states = dialled(), ("as trained", "fine-tuned on uniform depths")
    found = stats.recall(table, ["training", "strength", "tuned", "depth"]).set_index(
        ["training", "strength", "tuned"]
    )
    grid = itertools.product(("uniform", "recency", "both ends"), LEVELS, states)
    cases = [dict(zip(("training", "strength", "state"), values, strict=True)) for values in grid]
    for case, run in zip(cases, computed(browser, dial, cases), strict=True):
        kind, strength, tuned = case["training"], case["strength"], case["state"] != "as trained"
        filed = (kind, strength) if kind != "uniform" and strength else ("uniform", 0)
        weights = depth_weights(kind, 10, 0 if kind == "uniform" else strength)
        assert run["bars"][0]["high"] == pytest.approx([10 * w for w in weights], abs=1e-3), case
        (before, after) = (
            100 * found.loc[(*filed, state)]["recall"].to_numpy() for state in (tuned, not tuned)
        )
        assert run["lines"][0][1] == pytest.approx(after, abs=0.01), case
        assert run["lines"][1][1] == pytest.approx(before, abs=0.01), case
        assert run["lines"][1][0] == pytest.approx([100 * (i + 0.5) / 7 for i in range(7)], abs=0.01)
        assert f"recall <b>{math.floor(before[0] + 0.5)} %</b> at the start" in run["said"], case
        assert f'by <b class="lc-b">{math.floor(np.ptp(after) + 0.5)}</b>' in run["said"], case


@pytest.mark.browser
def test_the_schedule_in_the_page_is_pythons(browser: Browser, schedule: Explorer) -> None:
    grid = itertools.product(SCHEDULES, (1 / 64, 1 / 8, 1 / 2), (512, 2**17), (16, 65536))
    cases = [dict(zip(("kind", "part", "target", "millions"), values, strict=True)) for values in grid]
    for case, run in zip(cases, computed(browser, schedule, cases), strict=True):
        kind, part, target, millions = case.values()
        at, random = (kind, part * target, target), kind in ("uniform", "log-uniform")
        (times, lengths) = run["points"][0] if random else run["lines"][0]
        drawn = draws(120) if random else [(i + 0.5) / 600 for i in range(600)]
        assert lengths == pytest.approx([length_at(*at, u) for u in drawn]), case
        assert (times[0], times[-1]) == pytest.approx((50 / len(drawn), 100 - 50 / len(drawn)))
        curves = [line for line in run["lines"] if len(line[0]) == 201]
        names = ["fixed"] if kind == "fixed" else ["fixed", kind]
        for (xs, ys), name in zip(curves, names, strict=True):
            assert ys == pytest.approx([distance_trained(name, *at[1:], d) for d in xs], abs=1e-9), case
        tokens = 1e6 * millions
        updates = float(run["said"].split("<b>")[1].split("</b>")[0])
        assert updates == pytest.approx(tokens / (32 * target)), case
        read = float(run["said"].split("updates read <b>")[1].split("</b>")[0])
        assert read == pytest.approx(tokens * mean(lambda n: 1 / n, *at)), case
        if kind != "fixed":
            saved = float(run["said"].split("takes <b>")[1].split(" %</b>")[0])
            assert saved == pytest.approx(100 - 100 * mean(float, *at) / target), case


@pytest.mark.browser
def test_both_answer_to_menus_sliders_and_keys(
    browser: Browser, tmp_path: Path, dial: Explorer, schedule: Explorer
) -> None:
    with Shown(browser, tmp_path / "page.html", dial.html + schedule.html) as shown:
        assert "the most asked tenth was asked 20 times as often" in shown.said()
        slider = shown.page.get_by_role("slider", name="Strength")
        slider.focus()
        shown.page.keyboard.press("ArrowLeft")
        shown.move(0)
        assert slider.get_attribute("aria-valuetext") == "1.5"
        assert "was asked 4.5 times" in shown.said()
        shown.page.get_by_role("combobox", name="Weights").select_option(label="fine-tuned on uniform depths")
        shown.move(0)
        assert "After fine-tuning on uniform depths 3 seeds recall" in shown.said()
        shown.page.get_by_role("combobox", name="Needles").select_option(label="uniform")
        shown.move(0)
        assert slider.is_disabled(), "uniform has no strength"
        assert "was asked 1 time as often" in shown.said()
        assert f"{three(256e6 / 32 / 4096)} updates read 184,839 sequences" in shown.said(1)
        shown.page.get_by_role("combobox", name="Lengths").select_option(label="fixed")
        shown.move(1)
        assert "fewer operations" not in shown.said(1)
        assert shown.page.get_by_role("slider", name="Shortest").is_disabled()
