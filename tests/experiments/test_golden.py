"""One tiny run of each kind of task, its numbers stored: they move only when the computation does.

`python -m tests.experiments.test_golden` writes golden.json anew.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import re
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from lcbook import store
from lcbook.experiments.changes import Reposition, Tune
from lcbook.experiments.measures import Gap, Probe, Recall, TextLoss
from lcbook.experiments.run import measure, trained_model
from lcbook.experiments.spec import Run, Spec
from lcbook.experiments.train import TrainSpec
from lcbook.models.decoder import ModelSpec
from lcbook.models.positions import ALiBi, Linear, NoPosition, Randomized, RoPE, T5Bias
from lcbook.tasks.mqar import MQAR
from lcbook.tasks.recall import KeyValueRecall

STORED = Path(__file__).parents[1] / "golden.json"
TRAIN = TrainSpec(length=32, updates=60, batch=32, lr=2e-2, betas=(0.8, 0.95))
SMALL = {"pairs": 2, "queries": 2, "keys": 8, "values": 5, "filler": 11}
RUNS = {
    "plain": Run("plain", Spec(ModelSpec(width=32), KeyValueRecall(**SMALL), TRAIN), 0),
    "text": Run(
        "text",
        Spec(
            ModelSpec(width=32, mlp=24, position=ALiBi(1 / 8)),
            KeyValueRecall(**SMALL, text=True),
            replace(TRAIN, text_loss=1.0),
        ),
        1,
    ),
    "competing": Run(
        "competing",
        Spec(
            ModelSpec(layers=2, width=32, heads=2, kv_heads=1, key_shift=False, position=T5Bias()),
            KeyValueRecall(**SMALL, competing=0.5, depth=0.25),
            replace(TRAIN, updates=90, curriculum=((16, 1),)),
        ),
        2,
    ),
    "mqar": Run(
        "mqar",
        Spec(ModelSpec(width=32, position=Randomized(RoPE(), 256)), MQAR(vocabulary=72, pairs=3, examples=400), TRAIN),
        3,
    ),
}  # fmt: skip
# What was measured: as trained, and for the run "mqar" under another encoding and after brief tuning.
PROBES = {
    "mqar": [
        Probe(Recall((32, 64), 200, by=Gap())),
        Probe(Recall((64,), 200, by=Gap()), (Reposition(RoPE(scaling=Linear(2.0))),), "PI"),
        Probe(
            Recall((32,), 200, by=Gap()),
            (Reposition(NoPosition()), Tune(TrainSpec(length=32, updates=4, batch=16))),
            "tuned",
        ),
    ],
}
# Another processor adds in another order, which moves the losses here by 1e-5 and turns an answer in a thousand.
LOSS, RECALL = 1e-3, 0.015


def machine() -> str:
    """What decides the last bits of a float: torch's version, the processor, and the instructions it has."""
    info = Path("/proc/cpuinfo")
    text = info.read_text() if info.exists() else platform.processor()
    facts = re.findall(r"^(?:model name|cpu family|model|flags|Features)\s*:\s*(.*)$", text, re.MULTILINE)
    processor = hashlib.sha256("\n".join(sorted(set(facts or [text]))).encode()).hexdigest()[:16]
    use = torch.backends.cpu.get_cpu_capability()
    return f"torch {torch.__version__}, {platform.machine()}, {use}, processor {processor}"


def loss(run: Run) -> float:
    """The loss of the trained model on the answers of a batch that it has not seen."""
    model, _ = trained_model(run)
    task, length = run.spec.task, run.spec.train.length
    batch = task.sample(100, length, torch.Generator().manual_seed(97))
    with torch.no_grad():
        logits = model(batch.tokens, torch.arange(length)[None], batch.at)
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch.answers.flatten()).item()


def numbers(name: str) -> dict[str, Any]:
    """Train and measure one run: its rows, the loss before and after, and the recall on each batch of training."""
    run = RUNS[name]
    text = isinstance(run.spec.task, KeyValueRecall) and run.spec.task.text
    asked = (TextLoss if text else Recall)((32, 64), 200, by=Gap())
    rows = measure(run, PROBES.get(name) or [Probe(asked)])
    kept = ("probe", "length", "gap", "correct", "total", "chance", "text_loss")
    listed = [[row.get(key) for key in kept] for row in rows]
    _, trained = trained_model(run)
    return {
        "rows": listed,
        "loss": loss(run),
        "recalls": list(trained.recalls),
    }


def recall(rows: list[list[Any]], *, by: int) -> dict[Any, float]:
    """Recall of the rows added up by one of their columns."""
    sums: dict[Any, list[int]] = {}
    for row in rows:
        pair = sums.setdefault(row[by], [0, 0])
        pair[0], pair[1] = pair[0] + row[3], pair[1] + row[4]
    return {key: correct / total for key, (correct, total) in sums.items()}


def moved(found: dict[str, Any], stored: dict[str, Any], *, exact: bool) -> list[str]:
    """What differs, in words: bit by bit where the numbers were stored, elsewhere beyond what rounding explains."""
    if exact:
        return [key for key in stored if found[key] != stored[key]]
    what = []
    asked = [[(*row[:3], row[4], row[5]) for row in numbers["rows"]] for numbers in (found, stored)]
    if asked[0] != asked[1]:
        what.append("the questions asked")
    else:
        pairs = [(found["loss"], stored["loss"])]
        pairs += [
            (a[6], b[6]) for a, b in zip(found["rows"], stored["rows"], strict=True) if b[6] is not None
        ]
        if any(abs(a - b) > LOSS * (0.1 + b) for a, b in pairs):
            what.append("loss")
        for column in (0, 1):
            a, b = (recall(numbers["rows"], by=column) for numbers in (found, stored))
            if any(abs(a[key] - b[key]) > RECALL for key in b):
                what.append("recall")
    means = [math.fsum(numbers["recalls"]) / len(numbers["recalls"]) for numbers in (found, stored)]
    if abs(means[0] - means[1]) > RECALL / 3 or len(found["recalls"]) != len(stored["recalls"]):
        what.append("training")
    return what


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("LCBOOK_CACHE", str(tmp_path))


@pytest.mark.parametrize("name", RUNS)
def test_the_numbers_have_not_moved(name):
    stored = json.loads(STORED.read_text())
    version = stored["compute_version"]
    assert version == store.COMPUTE_VERSION, (
        f"golden.json is of version {version}, the computation of version {store.COMPUTE_VERSION}: "
        "write the numbers anew with `python -m tests.experiments.test_golden` and rerun `make reference`."
    )
    exact = stored["machine"] == machine()
    different = moved(numbers(name), stored["runs"][name], exact=exact)
    assert not different, (
        f"The numbers of the run {name!r} moved ({', '.join(different)}). If that is meant: raise "
        "COMPUTE_VERSION in lcbook/store.py, so that cached and committed runs count as stale, write golden.json "
        "anew with `python -m tests.experiments.test_golden`, and rerun `make reference`."
    )


def test_each_kind_of_task_is_there_and_learns_something():
    stored = json.loads(STORED.read_text())["runs"]
    assert stored.keys() == RUNS.keys()
    for name, run in RUNS.items():
        learned = recall(stored[name]["rows"], by=1)[32]
        assert learned > 1.9 * run.spec.task.chance, f"the numbers of {name} say nothing"
        assert stored[name]["loss"] < math.log(run.spec.task.vocabulary) - 0.5


@pytest.mark.parametrize("name", RUNS)
def test_another_computation_would_be_noticed_on_any_machine(name):
    stored = json.loads(STORED.read_text())["runs"][name]
    assert moved(stored, stored, exact=False) == []
    assert moved(stored | {"loss": stored["loss"] * 1.01 + 0.01}, stored, exact=False) == ["loss"]
    rows = [[*row[:3], max(0, row[3] - max(2, row[4] // 8)), *row[4:]] for row in stored["rows"]]
    assert "recall" in moved(stored | {"rows": rows}, stored, exact=False)
    slower = [0.0] * 5 + stored["recalls"][:-5]
    assert moved(stored | {"recalls": slower}, stored, exact=False) == ["training"]
    fewer = [[*row[:4], row[4] + 1, *row[5:]] for row in stored["rows"]]
    assert moved(stored | {"rows": fewer}, stored, exact=False) == ["the questions asked"]


def write() -> None:
    """Store the numbers of this machine."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"LCBOOK_CACHE": folder, "LCBOOK_SCALE": "smoke"}
        runs = {name: numbers(name) for name in RUNS}
    said = {"compute_version": store.COMPUTE_VERSION, "machine": machine(), "runs": runs}
    text = json.dumps(said, indent=1)
    STORED.write_text(re.sub(r"\[[^\[\]{}]*\]", lambda found: " ".join(found[0].split()), text) + "\n")
    print(f"wrote {STORED}")


if __name__ == "__main__":
    write()
