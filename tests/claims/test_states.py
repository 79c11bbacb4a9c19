"""Statistics of states and hops, against values worked by hand."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from lcbook.claims import effects, states
from lcbook.claims.rows import NoRowsError

RULES = ["delta rule", "additive"]
LOADS = [2, 4, 8, 16, 32, 64]
# K50 by rule, keys and seed: with steps from all to nothing it is the geometric middle of two loads.
STEPS = {
    ("additive", 4): (4, 2),
    ("additive", 16): (16, 8),
    ("delta rule", 4): (2, 2),
    ("delta rule", 16): (32, 8),
    ("other", 4): (2, 2),
}


def loaded() -> pd.DataFrame:
    """Rows of two seeds: all pairs are recalled up to the load in STEPS, and none beyond."""
    rows = [
        (f"{rule}, keys of {keys}", seed, keys, load, 100 * (load <= last))
        for (rule, keys), steps in STEPS.items()
        for seed, last in enumerate(steps)
        for load in LOADS
    ]
    names = ["arm", "seed", "model.mixer.key_dim", "asked.pairs", "correct"]
    return pd.DataFrame(rows, columns=names).assign(total=100, chance=0.0, **{"model.width": 64})


def test_exponents_of_the_state_of_each_rule():
    """From 256 to 1,024 numbers K50 grows 4-fold or as much under addition, 16-fold or 4-fold under the delta rule."""
    found = states.state_exponents(loaded(), rules=RULES)
    assert list(found) == RULES
    assert found["additive"].values == pytest.approx([1, 1], abs=1e-3)
    assert found["delta rule"].values == pytest.approx([2, 1], abs=1e-3)
    assert found["additive"].units == (0, 1)
    assert effects.effect("smallest mean", [found]).interval(0.95).value == pytest.approx(1, abs=1e-3)


def test_ratio_is_the_geometric_mean_over_states():
    """Seed 0 holds 1/2 and 2 times as much, seed 1 as much."""
    found = states.state_ratio(loaded(), rules=RULES)
    assert found.values == pytest.approx([1, 1], abs=1e-3)
    larger = loaded().query("`model.mixer.key_dim` == 16")
    assert states.state_ratio(larger, rules=RULES).values == pytest.approx([2, 1], abs=1e-3)
    assert states.state_ratio(larger, rules=RULES[::-1]).values == pytest.approx([0.5, 1], abs=1e-3)


def test_filled_part_of_the_bits():
    """A state of 256 numbers of 3 bits tells 128 pairs of 64 values apart, and 2^2.5 is 4.4 % of that."""
    found = states.state_filled(loaded(), rules=RULES, values=64, bits=3)
    assert found["additive", 256].values == pytest.approx([100 * 2**2.5 / 128, 100 * 2**1.5 / 128], rel=1e-3)
    assert found["delta rule", 1024].values == pytest.approx(
        [100 * 2**5.5 / 512, 100 * 2**3.5 / 512], rel=1e-3
    )
    assert len(found) == 4
    largest = effects.effect("largest mean", [found])
    assert largest.interval(0.95).value == pytest.approx(50 * (2**5.5 + 2**3.5) / 512, rel=1e-3)
    assert largest.dots == pytest.approx({0: 100 * 2**5.5 / 512, 1: 100 * 2**3.5 / 512}, rel=1e-3)


def test_pairs_held_stay_within_one_pair_and_the_largest_load():
    rows = loaded()
    rows["correct"] = np.where(rows["arm"].str.startswith("additive"), 100, 0)
    held = states.pairs_held(rows, RULES)
    assert (held["additive"] == 64).all(axis=None)
    assert (held["delta rule"] == 1).all(axis=None)


def test_what_is_not_there_is_not_measured():
    rows = loaded()
    with pytest.raises(NoRowsError, match="no rows of the rule 'gated'"):
        states.state_ratio(rows, rules=["gated", "additive"])
    alone = rows.drop(rows.query("seed == 1 and `model.mixer.key_dim` == 16").index)
    assert states.state_ratio(alone, rules=RULES).units == (0,)
    with pytest.raises(NoRowsError, match="no seed has every state"):
        states.state_ratio(
            alone.drop(alone.query("seed == 0 and arm == 'other, keys of 4'").index), rules=RULES
        )
    with pytest.raises(ValueError, match="lacks the columns"):
        states.state_exponents(rows.drop(columns="chance"), rules=RULES)


def silenced(seed: int, whole: int, first: list[int], second: list[int], solved: bool = True) -> pd.DataFrame:
    layers = [math.nan, *[0] * len(first), *[1] * len(second)]
    return pd.DataFrame({"ablate.layer": layers, "correct": [whole, *first, *second]}).assign(
        seed=seed, total=100, solved=solved
    )


def test_lost_without_the_head_that_is_missed_most_in_models_that_learned():
    """90 less 40 in the first layer, less 10 in the second: the smaller loss is 50. Then 100 less 80: 20."""
    parts = [silenced(3, 90, [40, 85], [10, 88]), silenced(5, 100, [80, 99], [30, 97])]
    frame = pd.concat([*parts, silenced(7, 60, [0, 0], [0, 0], solved=False)]).sample(frac=1, random_state=0)
    found = states.lost_without_head(frame)
    assert found.dots == pytest.approx({3: 50, 5: 20})
    assert found.interval(0.95).value == pytest.approx(35)
    assert found.learned == (2, 3)
    with pytest.raises(NoRowsError, match="no model solved the task"):
        states.lost_without_head(frame[~frame["solved"]])
    with pytest.raises(ValueError, match="lacks the columns"):
        states.lost_without_head(frame.drop(columns="ablate.layer"))
