"""Timing: peaks on known allocations, exponents and ratios on made-up times with known answers, and one real run."""

from __future__ import annotations

import math
import time

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats as distributions

from lcbook.attention import timing
from lcbook.attention.backends import Fused, Linear, Naive
from lcbook.attention.costs import attention_cost, roofline_seconds
from lcbook.attention.patterns import Window
from lcbook.attention.timing import Timing, peak_bytes
from lcbook.stats.timings import exponent, exponents, speedup


def timed(seconds, *, arms=("a",), lengths=(64, 128, 256, 512), rounds=5, peak=lambda n: 8 * n):
    """A frame with `seconds(arm, length, round)`."""
    return pd.DataFrame(
        {"arm": arm, "length": n, "seed": seed, "seconds": seconds(arm, n, seed), "peak_bytes": peak(n)}
        for arm in arms
        for n in lengths
        for seed in range(rounds)
    )


def test_peak_of_known_allocations():
    def call():
        first = torch.empty(1_000)  # 4 kB alive
        second = torch.empty(2_000)  # 12 kB
        del first  # 8 kB
        third = torch.empty(3_000)  # 20 kB, the peak
        del second
        return third

    for _ in range(3):
        assert peak_bytes(call) == 20_000
    assert peak_bytes(lambda: None) == 0


def test_peak_does_not_count_what_was_there():
    held, other = torch.zeros(2, 10_000)
    assert peak_bytes(lambda: held + other) == 40_000
    assert peak_bytes(lambda: held.copy_(other)) == 0


def test_peak_sees_inside_operators():
    # the scores of an unfused attention never have a name in Python
    q, k, v = torch.randn(3, 1, 1, 512, 8)
    bias = torch.zeros(1, 1, 512, 512)  # with a bias that is trained, torch falls back to the unfused form
    bias.requires_grad_()
    found = peak_bytes(lambda: torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=bias))
    assert found > 2 * 4 * 512 * 512


def test_the_profiler_is_silent(capfd):
    peak_bytes(lambda: torch.empty(10))
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""


def test_machine_is_measured_and_threads_are_put_back():
    threads = torch.get_num_threads()
    here = timing.machine()
    assert torch.get_num_threads() == threads
    assert 1e8 < here.flops_per_second < 1e16
    assert 1e8 < here.bytes_per_second < 1e14
    assert timing.matmul_rate(64, 1) > 0


def test_seconds_are_those_that_one_core_spends(monkeypatch):
    threads, seen = torch.get_num_threads(), []
    torch.set_num_threads(2)
    try:
        job = timing._job
        monkeypatch.setattr(
            timing, "_job", lambda *x: lambda: (seen.append(torch.get_num_threads()), job(*x)())
        )
        Timing((Naive(),), (16,), rounds=1).measure()
        assert set(seen) == {1}
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    # a process that waits, for other programs say, spends nothing
    assert timing._clock(lambda: time.sleep(0.3), torch.device("cpu")) < 0.15


def test_exponents_are_those_of_scipy():
    rng = np.random.default_rng(0)
    noise = {(n, s): rng.normal(0, 0.1) for n in (64, 128, 256, 512) for s in range(7)}
    frame = timed(lambda arm, n, s: 1e-6 * n**1.7 * math.exp(noise[n, s]), rounds=7)
    slopes = []
    for seed in range(7):
        part = frame[(frame["seed"] == seed) & (frame["length"] >= 128)]
        slopes.append(distributions.linregress(np.log(part["length"]), np.log(part["seconds"])).slope)
    inner = sorted(slopes)[1:-1]  # a fifth of seven, rounded down, is left out at either end
    moved = [inner[0], *inner, inner[-1]]
    half = distributions.t.ppf(0.975, 4) * np.std(moved, ddof=1) / (0.6 * math.sqrt(7))
    row = exponents(frame, from_length=128).iloc[0]
    found = (row["exponent"], row["low"], row["high"])
    assert found == pytest.approx((np.mean(inner), np.mean(inner) - half, np.mean(inner) + half))
    shuffled = frame.sample(frac=1, random_state=0)
    pd.testing.assert_frame_equal(exponents(shuffled, from_length=128), exponents(frame, from_length=128))


def test_exponents_of_memory_have_the_range_of_local_slopes():
    frame = timed(lambda *_: 1.0, peak=lambda n: n**2 + 1000 * n)
    once = frame.drop_duplicates("length").sort_values("length")
    x, y = np.log(once["length"].to_numpy(float)), np.log(once["peak_bytes"].to_numpy(float))
    row = exponents(frame, "peak_bytes").iloc[0]
    assert row["exponent"] == pytest.approx(distributions.linregress(x, y).slope)
    # the slope rises with the length: between the first two lengths it is least, between the last two largest
    assert row["low"] == pytest.approx((y[1] - y[0]) / (x[1] - x[0]))
    assert row["high"] == pytest.approx((y[-1] - y[-2]) / (x[-1] - x[-2]))
    assert row["low"] < row["exponent"] < row["high"]


def test_exponents_of_exact_powers_and_of_what_is_too_short():
    powers = {"one": 1, "two": 2, "short": 1}
    frame = timed(lambda arm, n, s: (s + 1) * n ** powers[arm], arms=tuple(powers))
    frame = frame[(frame["arm"] != "short") | (frame["length"] < 128)]
    table = exponents(frame).set_index("arm")
    assert list(table.index) == ["one", "two", "short"]
    assert table.loc["one"].tolist() == pytest.approx([1, 1, 1])
    assert table.loc["two"].tolist() == pytest.approx([2, 2, 2])
    assert table.loc["short"].isna().all()
    assert exponent(frame, "two").value == pytest.approx(2)
    assert math.isnan(exponent(frame, "short").value)
    assert math.isnan(exponent(frame, "gone").low)
    single = exponents(frame[frame["seed"] == 0]).iloc[0]
    assert single["exponent"] == pytest.approx(1)
    assert math.isnan(single["low"])


def test_one_disturbed_round_does_not_move_an_exponent():
    def seconds(arm, n, s):
        return n**1.6 * (1 + 0.01 * s) * (30 if s == 3 and n == 64 else 1)

    row = exponents(timed(seconds, rounds=5)).iloc[0]
    assert row["exponent"] == pytest.approx(1.6)
    assert row["high"] - row["low"] < 0.1


def test_speedup_is_paired_by_round():
    slow = dict(enumerate((1.0, 10.0, 100.0, 1000.0, 1.0)))  # the machine, not the arm
    factor = dict(enumerate((2.0, 4.0, 8.0, 900.0, 0.1)))
    frame = timed(lambda arm, n, s: slow[s] * (factor[s] if arm == "b" else 1), arms=("a", "b"), rounds=5)
    found = speedup(frame, "a", "b", 128)
    # with the largest and the least moved to their neighbours, the logarithms are 1, 1, 2, 3, 3 times that of two
    half = distributions.t.ppf(0.975, 2) * math.log(2) / (0.6 * math.sqrt(5))
    assert found.value == pytest.approx(4)
    assert found.low == pytest.approx(4 * math.exp(-half))
    assert found.high == pytest.approx(4 * math.exp(half))
    back = speedup(frame, "b", "a", 128)
    assert (back.value, back.low) == pytest.approx((1 / found.value, 1 / found.high))
    alone = speedup(frame[frame["seed"] < 4], "a", "b", 128)
    assert alone.value == pytest.approx((2 * 4 * 8 * 900) ** (1 / 4))
    assert math.isnan(alone.low)


@pytest.fixture(scope="module")
def frame():
    forms = (Naive(), Window(17), Linear(16))
    return Timing(forms, (64, 128, 1024), heads=3, head_dim=5, rounds=2, most_bytes=2e7).measure()


def test_measure_gives_one_row_a_form_length_and_round(frame):
    assert frame is not None
    assert list(frame.columns) == timing.COLUMNS
    cells = [("naive", 64), ("naive", 128), ("window 17", 64), ("window 17", 128), ("window 17", 1024)]
    cells += [("linear", 64), ("linear", 128), ("linear", 1024)]
    keys = frame[["arm", "length", "seed"]].itertuples(index=False, name=None)
    assert list(keys) == [(*cell, seed) for cell in cells for seed in (0, 1)]
    assert (frame["seconds"] > 0).all()


def test_measure_carries_the_closed_forms(frame):
    row = frame[(frame["arm"] == "linear") & (frame["length"] == 128)].iloc[0]
    cost = attention_cost(Linear(16), length=128, heads=3, head_dim=5)
    assert (row["flops"], row["bytes"], row["model_peak_bytes"]) == (cost.flops, cost.bytes, cost.peak_bytes)
    assert roofline_seconds(cost, timing.Machine(1e30, 1e30)) < row["roofline_seconds"] < 1
    # 3 heads of 1024 x 1024 scores do not fit in 20 MB, those of 128 x 128 do: the line of naive ends there
    assert attention_cost(Naive(), length=1024, heads=3, head_dim=5).peak_bytes > 2e7
    naive = frame[frame["arm"] == "naive"].iloc[-1]
    assert naive["peak_bytes"] == pytest.approx(naive["model_peak_bytes"], rel=0.25)


def test_what_was_timed_is_kept_by_what_was_asked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("LCBOOK_CACHE", str(tmp_path))
    first, again, other = (Timing((Fused(),), (8, 16), rounds=n).measure() for n in (2, 2, 3))
    pd.testing.assert_frame_equal(again, first)
    assert len(other) == 6
    for path in (tmp_path / "timings").iterdir():
        path.write_text("cut short")
    with pytest.warns(UserWarning, match="computed again"):
        assert len(Timing((Fused(),), (8, 16), rounds=2).measure()) == 4


def test_a_line_ends_where_a_call_would_take_too_long():
    frame = Timing((Fused(),), (64, 128, 8192), rounds=1, most_seconds=1e-7).measure()
    assert frame["length"].tolist() == [64]  # nothing is known of the first length before it is timed


def test_backward_computes_gradients():
    seen = []

    def spy(forms, backward):
        frame = Timing(tuple(forms), (97,), heads=2, head_dim=7, rounds=1, backward=backward).measure()
        seen.append(frame.iloc[0])

    spy((Naive(),), False)
    spy((Naive(),), True)
    forward, update = seen
    assert update["flops"] == 3 * forward["flops"]
    assert update["bytes"] == 3 * forward["bytes"]
    assert math.isnan(update["model_peak_bytes"])
    # beyond the forward pass: gradients of weights and scores, and of q, k and v
    assert update["peak_bytes"] > forward["peak_bytes"] + 4 * 2 * 97 * 7


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Timing((), (64,)), r"forms is \[\]; allowed is at least one"),
        (lambda: Timing((Naive(), Naive()), (64,)), r"forms is \['naive', 'naive'\]"),
        (lambda: Timing((Naive(),), ()), r"lengths is \[\]; allowed are rising"),
        (lambda: Timing((Naive(),), (128, 64)), r"lengths is \[128, 64\]; allowed are rising"),
        (lambda: Timing((Naive(),), (64,), rounds=0), "rounds is 0; allowed is 1 or more"),
        (lambda: Timing((Naive(),), (64,), most_bytes=9).measure(), "most_bytes is 9; allowed is enough"),
        (lambda: exponents(timed(lambda *_: 1.0), "flops"), "y is 'flops'; allowed are 'seconds', 'peak_b"),
        (
            lambda: exponents(timed(lambda *_: 1.0), from_length=512),
            "from_length is 512; allowed is a length",
        ),
        (lambda: exponents(timed(lambda *_: 1.0).drop(columns="arm")), r"lacks the columns \['arm'\]"),
        (lambda: speedup(timed(lambda *_: 1.0), "a", "b", 64), r"'b' was not timed at length 64; .* \[\]"),
        (lambda: speedup(timed(lambda *_: 1.0), "a", "a", 65), r"'a' was not timed at length 65; .* \[64, 1"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
