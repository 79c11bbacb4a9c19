"""Statistics of training against values worked by hand."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from lcbook.claims.rows import NoRowsError
from lcbook.claims.statistics import contrasts
from lcbook.claims.training import n50_gain, past_gate
from lcbook.stats.intervals import share_difference

LENGTHS = [16, 64, 256]


def waiting() -> pd.DataFrame:
    """Of one arm both seeds pass, of the other the first does not within 100 updates; each has two rows."""
    rows = [("slow", 0, math.nan), ("slow", 1, 60.0), ("quick", 1, 40.0), ("quick", 0, 20.0)]
    frame = pd.DataFrame(rows, columns=["arm", "seed", "updates_to_gate"]).assign(updates=100)
    return pd.concat([frame.assign(length=n) for n in (128, 512)])


def test_seeds_past_the_gate():
    found = past_gate(waiting(), arm="quick", other="slow")
    assert found.dots == {0: 1, 1: 0}
    assert found.missing.startswith("with 2 seeds the interval of a difference of shares falls short")
    for confidence in (0.5, 0.95):
        assert found.interval(confidence) == share_difference([1, 1], [1, 0], confidence)
    with pytest.raises(NoRowsError, match="arm is 'gone'"):
        past_gate(waiting(), arm="quick", other="gone")


def reaching(reach: dict[str, list[int]]) -> pd.DataFrame:
    """Rows of arms that recall all below a reach, a half at it and nothing beyond; 0: nothing was learned."""
    rows = [
        (arm, seed, n, 200 * (n < far) + 100 * (n == far), float(far > 0))
        for arm, reaches in reach.items()
        for seed, far in enumerate(reaches)
        for n in LENGTHS
    ]
    columns = ["arm", "seed", "length", "correct", "in_distribution"]
    return pd.DataFrame(rows, columns=columns).assign(total=200, chance=0.0)


GAINS = {
    "RoPE, fixed": [64, 0],
    "RoPE, uniform": [64, 999],
    "none, fixed": [64, 64],
    "none, uniform": [256, 64],
}
NAMES = {"encodings": ["RoPE", "none"], "lengths": "uniform", "over": "fixed"}


def test_gain_is_the_geometric_mean_over_encodings():
    """Four times as far with one of two encodings is twice; from the shortest tested length to the longest is 16."""
    found = n50_gain(reaching(GAINS).sample(frac=1, random_state=0), **NAMES)
    assert found.units == (0, 1)
    assert found.values == pytest.approx([2, 4], rel=1e-3)
    assert found.learned == (1, 2)
    assert found.limits == (1 / 16, 16)
    assert n50_gain(reaching(GAINS | {"none, fixed": [64]}), **NAMES).units == (0,)


@pytest.mark.parametrize(
    ("reach", "message"),
    [
        ({"RoPE, fixed": [64]}, "arm is 'RoPE, uniform'"),
        (GAINS | {"none, fixed": []}, "arm is 'none, fixed'"),
    ],
)
def test_gain_needs_every_arm(reach, message):
    with pytest.raises(NoRowsError, match=message):
        n50_gain(reaching(reach), **NAMES)


def test_gain_needs_a_seed_with_every_arm():
    rows = reaching(GAINS)
    apart = (rows["arm"] == "none, fixed") == (rows["seed"] == 0)
    with pytest.raises(NoRowsError, match="no seed has all"):
        n50_gain(rows[apart], **NAMES)


def test_contrasts_stand_by_themselves():
    rows = pd.DataFrame(
        {"seed": [0, 0, 1, 1], "depth": [0.05, 0.95] * 2, "correct": [2, 9, 4, 8], "total": 10}
    )
    each = {
        "late": [{"depth": 0.95}, {"weight": -1, "depth": 0.05}],
        "early": [{"depth": 0.05}, {"weight": -1, "depth": 0.95}],
    }
    found = contrasts(rows, each=each, less=10)
    assert {name: one.values.round(9).tolist() for name, one in found.items()} == {
        "late": [60, 30],
        "early": [-80, -50],
    }
