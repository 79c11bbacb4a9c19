"""Runs with other mixers: their names and columns, another number of pairs in a probe, and a head silenced."""

from __future__ import annotations

import pytest

import lcbook as lc
from lcbook.experiments.changes import Ablate
from lcbook.experiments.measures import HeadLooks, Pairs, Recall
from lcbook.models.mixers import DeltaRule, Softmax
from lcbook.tasks.recall import KeyValueRecall
from tests.asking import after


@pytest.fixture(autouse=True)
def smoke(monkeypatch, tmp_path):
    monkeypatch.setenv("LCBOOK_SCALE", "smoke")
    monkeypatch.setenv("LCBOOK_CACHE", str(tmp_path))
    lc.setup("")


TINY = lc.Spec(
    lc.ModelSpec(layers=2, width=16, heads=2),
    KeyValueRecall(pairs=3, queries=2, keys=11, values=7, filler=5),
    lc.TrainSpec(length=14, updates=1, batch=3),
)


def test_a_mixer_names_its_arm_and_its_columns():
    runs = lc.grid(TINY, {"model.mixer": [Softmax(), DeltaRule(3)]}, seeds=1)
    assert [run.arm for run in runs] == ["attention", "delta rule, keys of 3"]
    table = lc.run(runs, name="mixers", lengths=(14,), questions=4)
    assert table["model.mixer"].tolist() == ["attention", "delta rule, keys of 3"]
    assert table["model.mixer.key_dim"].isna().tolist() == [True, False]


def test_a_probe_asks_with_another_number_of_pairs():
    runs = lc.grid(TINY, {"model.layers": [2]}, seeds=1)
    probes = [lc.Probe(Recall((20,), 6, Pairs(n))) for n in (1, 5)]
    table = lc.run(runs, name="loads", probes=probes).set_index("asked.pairs")
    # One pair leaves one question a sequence, so six answers take six sequences; with five pairs two are asked.
    assert table["total"].to_dict() == {1: 6, 5: 6}
    with pytest.raises(
        ValueError, match="length"
    ):  # thirteen pairs would not fit, nor eleven keys serve them
        lc.run(runs, name="too many", probes=[lc.Probe(Recall((20,), 6, Pairs(9)))])


def test_a_silenced_head_changes_answers_and_tells_what_it_looks_at():
    runs = lc.grid(TINY, {"model.layers": [2]}, seeds=1)
    probes = [
        lc.Probe(Recall(questions=64)),
        *(
            lc.Probe(HeadLooks(questions=64, layer=i, head=j), (Ablate(i, j),))
            for i in (0, 1)
            for j in (0, 1)
        ),
    ]
    table = lc.run(runs, name="heads", probes=probes).set_index("probe")
    looks = table[table["ablate.head"].notna()][["previous", "lookup"]]
    assert len(looks) == 4
    assert ((looks > 0) & (looks < 1)).all().all()
    assert looks["previous"].nunique() == 4
    assert table.loc["as trained", ["previous", "lookup"]].isna().all()
    model, _ = lc.trained_model(runs[0])
    silent = after(model, Ablate(1, 0))
    assert not silent.layers[1].attention.out.weight[:, :8].any()
