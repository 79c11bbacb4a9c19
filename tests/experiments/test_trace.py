"""Traces: the very training that the run has, measured by hand, and bad input."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

import lcbook as lc
from lcbook.experiments.schedules import Stage, Steps
from lcbook.experiments.trace import Trace
from lcbook.models.positions import RoPE

STEPS = Steps((Stage(16, 0.5), Stage(24, 0.5)))
SPEC = lc.Spec(
    lc.ModelSpec(width=14, position=RoPE()),
    lc.KeyValueRecall(pairs=2, queries=1, keys=5, values=3, filler=2),
    lc.TrainSpec(length=24, updates=6, batch=8, lengths=STEPS),
)
RUN = lc.Run("steps", SPEC, 2)


@pytest.fixture(autouse=True)
def smoke(monkeypatch, tmp_path):
    monkeypatch.setenv("LCBOOK_CACHE", str(tmp_path))
    lc.setup("")


def test_the_last_row_is_what_the_trained_model_says():
    rows = Trace((16, 24), 4, 11).rows(lc.trained_model(RUN)[0], SPEC, seed=2)
    assert [row["update"] for row in rows] == [1, 1, 4, 4, 6, 6]
    assert [row["trained_at"] for row in rows] == [16, 16, 24, 24, 24, 24]
    model, _ = lc.trained_model(RUN)
    batch = SPEC.task.sample(11, 24, torch.Generator().manual_seed(3))
    with torch.no_grad():
        logits = model(batch.tokens, at=batch.at).flatten(0, 1)
    last, answers = rows[-1], batch.answers.flatten()
    assert last["length"] == 24
    assert last["total"] == 11
    assert last["loss"] == pytest.approx(nn.functional.cross_entropy(logits, answers).item(), rel=1e-5)
    assert last["correct"] == int((logits.argmax(-1) == answers).sum())


def test_traces_are_rows_of_a_run():
    frame = lc.run([RUN, lc.Run("other", SPEC, 0)], name="loss", probes=[lc.Probe(Trace((16, 24), 6))])
    assert frame.groupby(["arm", "seed"]).size().to_dict() == {("other", 0): 4, ("steps", 2): 4}
    assert math.isclose(frame["chance"].iloc[0], 1 / 3)
    assert frame["update"].tolist() == [1, 1, 6, 6] * 2


def test_bad_input():
    with pytest.raises(ValueError, match=r"every is 0 and lengths \(16,\); allowed"):
        Trace((16,), every=0)
    with pytest.raises(ValueError, match=r"every is 2 and lengths \(\); allowed"):
        Trace((), every=2)
