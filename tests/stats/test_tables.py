"""Tables that the chapters show, against rows worked by hand."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from lcbook.stats import tables


def asked(**columns: list) -> pd.DataFrame:
    return pd.DataFrame(columns)


def test_the_gap_between_two_arms_is_paired_by_seed():
    frame = asked(
        arm=["a", "a", "b", "a", "b"], seed=[0, 0, 0, 1, 1], correct=[1, 2, 1, 3, 4], total=[2, 2, 4, 4, 4]
    )
    assert tables.recall_gap(frame, "a", "b").to_dict() == {0: 50, 1: -25}
    assert tables.recall_gap(frame, "a", "gone").isna().all()


def test_forms_are_compared_with_the_first():
    """Of 4 questions "far" loses 2 and 3: 50 and 75 points, so that Student's t of one degree is (1 - 62.5) / 12.5."""
    frame = asked(
        probe=["textbook"] * 2 + ["exact"] * 2 + ["far"] * 2,
        seed=[0, 1] * 3,
        correct=[4, 3, 4, 3, 2, 0],
        total=[4] * 6,
        changed=[0, 0, 0, 1, 1, 3],
        logit_difference=[math.nan, math.nan, 1e-6, 2e-5, 3.0, 20.0],
    )
    found = tables.exact_forms(frame)
    assert found.index.tolist() == ["textbook", "exact", "far"]
    assert found.loc["textbook"].tolist() == ["87.5 %", "0.0 %", "", ""]
    assert found.loc["exact"].tolist() == ["87.5 %", "12.5 %", "2e-05", "equal"]
    p = 0.5 + math.atan(61.5 / 12.5) / math.pi
    assert found.loc["far"].tolist() == ["25.0 %", "50.0 %", "2e+01", f"{p:.2g}"]
    alone = tables.exact_forms(frame[frame["seed"] == 1])
    assert alone["TOST p"].tolist() == ["", "equal", ""], "one seed tests nothing"
    with pytest.raises(ValueError, match="lacks the columns"):
        tables.exact_forms(frame.drop(columns="changed"))
