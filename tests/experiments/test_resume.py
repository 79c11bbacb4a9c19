"""Resuming: a training that is really killed goes on from its file and ends with the bits of one that was not."""

from __future__ import annotations

import errno
import math
import multiprocessing
import os
import signal
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lcbook.experiments.checkpoint import State, read, save, write
from lcbook.experiments.schedules import Stage, Steps, Uniform, plan
from lcbook.experiments.spec import Spec
from lcbook.experiments.train import Trained, TrainSpec, train
from lcbook.models.decoder import Decoder, ModelSpec, build
from lcbook.models.positions import Learned, Randomized, RoPE, YaRN
from lcbook.store import DamagedFileError
from lcbook.tasks.recall import KeyValueRecall

EASY = KeyValueRecall(pairs=1, queries=1, keys=1, values=1, filler=1)
TASK = KeyValueRecall(pairs=2, queries=2, keys=5, values=3, filler=2)
BRISK = TrainSpec(length=8, updates=14, batch=200, lr=0.3)
STAGES = Steps((Stage(16, 0.3), Stage(24, 0.3, RoPE(70_000.0)), Stage(40, 0.4, RoPE(scaling=YaRN(2.0, 24)))))
# What is trained, and the update at which it is killed.
TRAININGS = {
    "before the gate": (Spec(ModelSpec(width=14), EASY, BRISK), 3),
    "after the gate": (Spec(ModelSpec(width=14), EASY, BRISK), 11),
    "curriculum": (
        Spec(ModelSpec(width=14), EASY, replace(BRISK, updates=24, curriculum=((4, 1), (6, 1)))),
        11,
    ),
    "steps with encodings": (
        Spec(ModelSpec(width=14, position=RoPE()), TASK, TrainSpec(40, 20, 7, lr=1e-2, lengths=STAGES)),
        9,
    ),
    "first update of a stage": (
        Spec(ModelSpec(width=14, position=RoPE()), TASK, TrainSpec(40, 20, 7, lr=1e-2, lengths=STAGES)),
        13,
    ),
    "uniform lengths, sgd, text": (
        Spec(
            ModelSpec(layers=2, width=14, mlp=5),
            TASK,
            TrainSpec(40, 20, 7, text_loss=0.5, lengths=Uniform(16), optimizer="sgd", weight_decay=0.1),
        ),
        10,
    ),
    "random positions": (
        Spec(ModelSpec(width=14, position=Randomized(Learned(31), 31)), TASK, TrainSpec(12, 10, 7)),
        2,
    ),
}


def trained(spec: Spec, **options) -> tuple[Decoder, Trained]:
    """A model of `spec`, trained with seed 5."""
    model = build(spec.model, spec.task.vocabulary, 3)
    return model, train(model, spec.task, spec.train, seed=5, **options)


def killed(name: str, path: str) -> None:
    """Train with a checkpoint after every update, and die in the middle."""
    torch.set_num_threads(1)
    spec, last = TRAININGS[name]

    def until(update: int, recall: float) -> bool:
        if update == last:
            os.kill(os.getpid(), signal.SIGKILL)
        return False

    trained(spec, checkpoint=Path(path), every=0, until=until)


@pytest.fixture(scope="module")
def processes():
    """Processes that start in no time: a server has imported the package and forks them."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch._dynamo", __name__])
    return context


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAININGS)
def test_a_training_that_was_killed_ends_with_the_same_bits(processes, tmp_path, name):
    path = tmp_path / "new" / "training.safetensors"
    process = processes.Process(target=killed, args=(name, str(path)))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    spec, last = TRAININGS[name]
    seen = []
    model, told = trained(spec, checkpoint=path, every=0, until=lambda update, _: bool(seen.append(update)))
    whole, expected = trained(spec)
    assert seen[0] == last, "it goes on where the file left it"
    assert (told.updates, told.recalls) == (expected.updates, expected.recalls)
    assert told.updates_to_gate == expected.updates_to_gate
    assert (expected.updates_to_gate is not None) == (spec.task == EASY), "or it says nothing of the gate"
    assert model.spec == whole.spec
    weights = whole.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert told.seconds > 0


def test_the_trainings_cover_what_they_are_named_for(tmp_path):
    gate = trained(TRAININGS["before the gate"][0])[1].updates_to_gate
    assert TRAININGS["before the gate"][1] < gate < TRAININGS["after the gate"][1]
    spec, last = TRAININGS["curriculum"]
    path = tmp_path / "training.safetensors"
    trained(spec, checkpoint=path, every=0, until=lambda update, _: update == last)
    assert read(path)[1]["state"]["stage"] == 1
    spec, last = TRAININGS["steps with encodings"]
    lengths = [one.length for one in plan(spec.train, 5)]
    assert lengths[last - 2 : last] == [24, 24]
    spec, last = TRAININGS["first update of a stage"]
    assert lengths[last - 2 : last] == [24, 40]


@pytest.mark.parametrize("name", ["uniform lengths, sgd, text", "steps with encodings"])
def test_a_training_may_be_interrupted_again_and_again(tmp_path, name):
    spec = TRAININGS[name][0]
    path = tmp_path / "training.safetensors"
    for stop in (1, 4, 5, 12):
        trained(spec, checkpoint=path, every=0, until=lambda update, _, stop=stop: update > stop)
    model, told = trained(spec, checkpoint=path, every=0)
    whole, expected = trained(spec)
    assert told.recalls == expected.recalls
    weights = whole.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    # the file stays; from its end there is nothing left to do
    again, same = trained(spec, checkpoint=path, until=lambda *_: pytest.fail("an update was made"))
    assert replace(same, seconds=0.0) == replace(told, seconds=0.0)
    assert again.spec == whole.spec
    assert all(torch.equal(value, weights[name]) for name, value in again.state_dict().items())


def test_a_file_is_written_after_so_many_seconds(tmp_path, monkeypatch):
    clock = iter(range(1000))
    monkeypatch.setattr("lcbook.experiments.train.time.perf_counter", lambda: float(next(clock)))
    updates = []
    monkeypatch.setattr(
        "lcbook.experiments.checkpoint.Checkpoint.save", lambda self, state: updates.append(state.update)
    )
    spec = TRAININGS["random positions"][0]
    told = trained(spec, checkpoint=tmp_path / "a", every=3)[1]
    assert updates == [3, 6, 9]  # an update takes a second
    assert told.seconds == 10
    trained(spec, checkpoint=tmp_path / "a", every=30)
    assert updates == [3, 6, 9]


# What is no training to go on with --------------------------------------------------------------------


@pytest.fixture
def unfinished(tmp_path) -> Path:
    path = tmp_path / "training.safetensors"
    trained(TRAININGS["random positions"][0], checkpoint=path, every=0, until=lambda update, _: update == 4)
    return path


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda spec: replace(spec, train=replace(spec.train, lr=1e-4)), "train"),
        (lambda spec: replace(spec, task=replace(TASK, depth=0.5)), "task"),
        (
            lambda spec: replace(spec, model=replace(spec.model, position=Randomized(Learned(31), 30))),
            "model",
        ),
    ],
)
def test_another_training_is_named_and_its_file_is_left_alone(unfinished, change, named):
    before = unfinished.read_bytes()
    with pytest.raises(ValueError, match=f"{unfinished.name} holds a training of another {named}; allowed"):
        trained(change(TRAININGS["random positions"][0]), checkpoint=unfinished, every=0)
    assert unfinished.read_bytes() == before


def test_another_seed_start_or_version_is_named(unfinished, monkeypatch):
    before = unfinished.read_bytes()
    spec = TRAININGS["random positions"][0]
    options = {"checkpoint": unfinished, "every": 0}
    with pytest.raises(ValueError, match="of another seed;"):
        train(build(spec.model, TASK.vocabulary, 3), TASK, spec.train, seed=6, **options)
    model = build(spec.model, TASK.vocabulary, 4)
    weights = [p.clone() for p in model.parameters()]
    with pytest.raises(ValueError, match="of another start;"):
        train(model, TASK, spec.train, seed=5, **options)
    assert all(torch.equal(x, y) for x, y in zip(weights, model.parameters(), strict=True))
    monkeypatch.setattr("lcbook.experiments.checkpoint.COMPUTE_VERSION", -1)
    with pytest.raises(ValueError, match="of another version;"):
        trained(spec, **options)
    assert unfinished.read_bytes() == before


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[: len(data) // 2],
        lambda data: data.replace(b'update\\": 4', b'update\\": 5').replace(b'update\\": 3', b'update\\": 5'),
        lambda data: data[:-1] + bytes([data[-1] ^ 1]),
        lambda data: b"",
    ],
    ids=["cut", "edited", "flipped", "empty"],
)
def test_a_damaged_file_is_named_and_left_alone(unfinished, damage):
    data = damage(unfinished.read_bytes())
    assert data != unfinished.read_bytes()
    unfinished.write_bytes(data)
    with pytest.raises(DamagedFileError, match=unfinished.name):
        trained(TRAININGS["random positions"][0], checkpoint=unfinished, every=0)
    assert unfinished.read_bytes() == data


def test_a_trained_model_is_no_training_to_go_on_with(tmp_path):
    path, spec = tmp_path / "model.safetensors", TRAININGS["random positions"][0]
    save(path, build(spec.model, TASK.vocabulary, 3), spec)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"model\.safetensors holds a trained model; allowed is a training"):
        trained(spec, checkpoint=path, every=0)
    assert path.read_bytes() == before


def test_a_file_that_cannot_be_written_costs_nothing_but_time(tmp_path, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    spec = TRAININGS["random positions"][0]
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("default")
        recalls = trained(spec, checkpoint=tmp_path / "a.safetensors", every=0)[1].recalls
    assert recalls == trained(spec)[1].recalls
    (warning,) = told
    assert "a.safetensors cannot be written (No space left on device); nothing is lost" in str(
        warning.message
    )
    assert list(tmp_path.iterdir()) == []


def test_the_file_says_what_it_is(unfinished):
    tensors, notes = read(unfinished)
    assert notes["training"]["train"]["updates"] == 10
    assert notes["training"]["seed"] == 5
    assert notes["state"]["update"] == 3
    assert notes["state"]["tokens"] == 3 * 7 * 12
    assert {name.partition(".")[0] for name in tensors} == {"model", "optimizer", "generator"}
    notes["state"]["recalls"] = [0.5, 0.5, 0.5]
    write(unfinished, tensors, notes)
    told = trained(TRAININGS["random positions"][0], checkpoint=unfinished)[1]
    assert told.recalls[:3] == (0.5, 0.5, 0.5), "what was counted is taken from the file"


# Counting ---------------------------------------------------------------------------------------------


def test_running_recall_worked_by_hand():
    state = State()
    assert state.count(3, 5, 10) == (3, 5)
    assert state.count(5, 5, 10) == (8, 10)
    assert state.count(4, 5, 10) == (9, 10)  # the first batch is forgotten
    assert state.count(7, 8, 10) == (11, 13)
    assert (state.update, state.recalls) == (4, [0.6, 1.0, 0.8, 0.875])


def test_a_stage_is_passed_at_ninety_percent_of_enough_answers():
    state = State()
    for right, total, enough, stage in (
        (9, 10, 11, 0),
        (89, 100, 10, 0),
        (90, 100, 100, 1),
        (100, 100, 1, 2),
    ):
        state.recent.append((right, total))
        state.pass_stage((right, total), enough)
        assert state.stage == stage
        assert bool(state.recent) == (stage == 0)
    assert math.isclose(state.seconds, 0)
