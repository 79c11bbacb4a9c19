"""Costs of streaming: rows by hand, memory that does not grow with the text, the cache, and bad input."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import lcbook as lc
from lcbook import runtime
from lcbook.experiments.streaming import ReadingCost, answers, draw, kinds_of
from lcbook.models.positions import RoPE

SPEC = lc.Spec(
    lc.ModelSpec(width=14),
    lc.KeyValueRecall(pairs=3, queries=2, keys=5, values=3, filler=2),
    lc.TrainSpec(length=24, updates=30, batch=16, lr=1e-2),
)
RUN = lc.Run("stream", SPEC, 2)


@pytest.fixture(autouse=True)
def smoke(monkeypatch, tmp_path):
    monkeypatch.setenv("LCBOOK_CACHE", str(tmp_path))
    lc.setup("")
    torch.set_num_threads(1)  # the setup takes all cores


def costs(lengths, rounds, task=SPEC.task, run=RUN):
    return lc.run([run], name="costs", probes=[lc.Probe(ReadingCost(lengths, rounds, task))], workers=1)


def test_a_row_for_each_length_and_round():
    frame = costs((24, 100), 3)
    assert frame[["length", "round"]].to_numpy().tolist() == [[n, s] for n in (24, 100) for s in (0, 1, 2)]
    assert set(frame["arm"]) == {"stream"}
    assert set(frame["total"]) == {2}
    assert (frame["cpu_seconds"] > 0).all()
    kinds = kinds_of(lc.trained_model(RUN)[0])
    for row in frame.itertuples():
        text = draw(SPEC.task, row.length, torch.Generator().manual_seed(row.round))
        said = torch.stack([one.logits.argmax() for one in answers(kinds, text)])
        assert row.correct == int((said == text.batch.answers[0]).sum())
    assert (frame.groupby("length")["peak_bytes"].nunique() == 1).all(), "measured once a length"
    assert frame["peak_bytes"].between(1, 10**6).all()


def test_memory_is_flat_and_time_is_linear():
    """A text of four million tokens takes 32 MiB as a whole; pieces of a million are held at a time."""
    task = replace(SPEC.task, competing=0.5)
    frame = costs((2**18, 2**21, 2**23), 2, task).groupby("length")
    peak, seconds = frame["peak_bytes"].first(), frame["cpu_seconds"].min()
    assert peak[2**23] == pytest.approx(peak[2**21], rel=0.05)
    assert 2**20 * 8 < peak[2**21] < 12 * 2**20 * 8
    assert peak[2**18] < peak[2**21] / 2, "what is less than a piece takes less"
    assert 1.5 < seconds[2**23] / seconds[2**21] < 12


def test_timings_belong_to_one_machine(monkeypatch, tmp_path):
    costs((24,), 2)
    costs((24,), 2)
    assert len(list((tmp_path / "rows").iterdir())) == 1
    monkeypatch.setattr(runtime, "device_description", lambda: "another machine")
    costs((24,), 2)
    assert len(list((tmp_path / "rows").iterdir())) == 2, "timed again elsewhere"


def test_bad_input():
    with pytest.raises(ValueError, match="rounds is 0; allowed is 1 or more"):
        ReadingCost((24,), 0)
    with pytest.raises(ValueError, match="length is 9; allowed is 10 or more"):
        costs((9,), 1)
    with pytest.raises(ValueError, match="text of task is True"):
        costs((24,), 1, replace(SPEC.task, text=True))
    rotated = replace(RUN, spec=replace(SPEC, model=lc.ModelSpec(width=14, position=RoPE())))
    with pytest.raises(ValueError, match=r"model is of .*; allowed is one layer"):
        costs((24,), 1, run=rotated)
