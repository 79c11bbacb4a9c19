"""Costs of streaming: rows by hand, memory that does not grow with the text, the cache, and bad input."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest
import torch

import lcbook as lc
from lcbook import runtime
from lcbook.experiments import stream_costs as stream_costs_module
from lcbook.experiments.stream_costs import stream_costs
from lcbook.experiments.streaming import answers, draw, kinds_of
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


def test_a_row_for_each_length_and_round():
    frame = stream_costs(RUN, SPEC.task, (24, 100), rounds=3, name="costs")
    assert runtime.session.tables["costs"] is frame
    assert list(frame.columns) == ["arm", "length", "seed", "seconds", "peak_bytes", "correct", "total"]
    assert frame[["length", "seed"]].to_numpy().tolist() == [[n, s] for n in (24, 100) for s in (0, 1, 2)]
    assert set(frame["arm"]) == {"stream"}
    assert set(frame["total"]) == {2}
    assert (frame["seconds"] > 0).all()
    kinds = kinds_of(lc.trained_model(RUN)[0])
    for row in frame.itertuples():
        text = draw(SPEC.task, row.length, torch.Generator().manual_seed(row.seed))
        said = torch.stack([one.logits.argmax() for one in answers(kinds, text)])
        assert row.correct == int((said == text.batch.answers[0]).sum())
    assert (frame.groupby("length")["peak_bytes"].nunique() == 1).all(), "measured once a length"
    assert frame["peak_bytes"].between(1, 10**6).all()


def test_memory_is_flat_and_time_is_linear():
    """A text of four million tokens takes 32 MiB as a whole; pieces of a million are held at a time."""
    task = replace(SPEC.task, competing=0.5)
    frame = stream_costs(RUN, task, (2**18, 2**21, 2**23), rounds=2, name="costs").groupby("length")
    peak, seconds = frame["peak_bytes"].first(), frame["seconds"].min()
    assert peak[2**23] == pytest.approx(peak[2**21], rel=0.05)
    assert 2**20 * 8 < peak[2**21] < 12 * 2**20 * 8
    assert peak[2**18] < peak[2**21] / 2, "what is less than a piece takes less"
    assert 1.5 < seconds[2**23] / seconds[2**21] < 12


def test_timings_come_from_the_cache(monkeypatch, tmp_path):
    first = stream_costs(RUN, SPEC.task, (24,), rounds=2, name="costs")
    (path,) = (tmp_path / "timings").iterdir()
    calls, real = [], stream_costs_module.draw
    monkeypatch.setattr(stream_costs_module, "draw", lambda *x: calls.append(x) or real(*x))
    again = stream_costs(RUN, SPEC.task, (24,), rounds=2, name="again")
    pd.testing.assert_frame_equal(again, first)
    assert calls == []
    path.write_text(path.read_text()[:-9])
    with pytest.warns(UserWarning, match="computed again"):
        stream_costs(RUN, SPEC.task, (24,), rounds=2, name="again")
    assert len(calls) == 3, "one for the peak, two rounds"
    stream_costs(RUN, SPEC.task, (24,), rounds=3, name="more")
    stream_costs(RUN, replace(SPEC.task, competing=0.5), (24,), rounds=2, name="other")
    stream_costs(replace(RUN, seed=3), SPEC.task, (24,), rounds=2, name="other")
    stream_costs(RUN, SPEC.task, (26,), rounds=2, name="other")
    assert len(list((tmp_path / "timings").iterdir())) == 5


def test_bad_input():
    with pytest.raises(ValueError, match="rounds is 0; allowed is 1 or more"):
        stream_costs(RUN, SPEC.task, (24,), rounds=0, name="x")
    with pytest.raises(ValueError, match="length is 9; allowed is 10 or more"):
        stream_costs(RUN, SPEC.task, (9,), name="x")
    with pytest.raises(ValueError, match="text of task is True"):
        stream_costs(RUN, replace(SPEC.task, text=True), (24,), name="x")
    rotated = replace(RUN, spec=replace(SPEC, model=lc.ModelSpec(width=14, position=RoPE())))
    with pytest.raises(ValueError, match=r"model is of .*; allowed is one layer"):
        stream_costs(rotated, SPEC.task, (24,), name="x")
    assert "x" not in runtime.session.tables
