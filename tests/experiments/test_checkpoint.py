"""Checkpoints: bits and specs come back as they were, damage and other specs are named, nothing is overwritten."""

from __future__ import annotations

import dataclasses
import errno
import importlib
import json
import math
import os
import re
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save as pack

from lcbook.attention.patterns import Window
from lcbook.experiments import checkpoint
from lcbook.experiments.checkpoint import MOVED, described, fingerprint, load, read, restored, save, write
from lcbook.experiments.schedules import LogUniform, Stage, Steps
from lcbook.experiments.spec import Spec
from lcbook.experiments.train import TrainSpec
from lcbook.models.decoder import ModelSpec, build
from lcbook.models.mixers import DeltaRule
from lcbook.models.positions import ALiBi, Learned, LongRoPE, Randomized, RoPE, T5Bias, YaRN
from lcbook.store import DamagedFileError
from lcbook.tasks.corpus import Corpus
from lcbook.tasks.hops import Hops
from lcbook.tasks.mixture import Mixture
from lcbook.tasks.mqar import MQAR
from lcbook.tasks.recall import KeyValueRecall
from lcbook.tasks.symbols import Symbols

TENSORS = {
    "a": torch.randn(3, 5, generator=torch.Generator().manual_seed(0)),
    "b": torch.tensor([math.nan, -0.0, math.inf]),
    "c": torch.arange(7),
    "d": torch.tensor(2.5, dtype=torch.bfloat16),
    "e": torch.zeros(0, 3, dtype=torch.bool),
    "f": torch.arange(6.0).view(2, 3).T,
}
LONG = LongRoPE((1.0, 1.5, 2.0), (1.0, 3.0, 7.0), 64, 4.0)
RECALL = KeyValueRecall(pairs=2, queries=2, keys=5, values=3, filler=7, depths=(0.25, 0.5, 0.25))
SPECS = {
    "defaults": Spec(),
    "depths, YaRN": Spec(ModelSpec(width=14, position=RoPE(scaling=YaRN(4.0, 64))), RECALL),
    "mixture, LongRoPE": Spec(
        ModelSpec(width=6, position=RoPE(500.0, LONG)),
        Mixture((Symbols(), Symbols("alias"), replace(Symbols(), kind="two hops")), (0.5, 0.25, 0.25)),
    ),
    "symbols, ALiBi": Spec(ModelSpec(width=14, position=ALiBi(2.0), pattern=Window(8)), Symbols("name")),
    "hops, T5": Spec(ModelSpec(layers=3, width=14, position=T5Bias(), full_layers=(1,)), Hops(3)),
    "corpus": Spec(
        ModelSpec(width=14, position=Randomized(RoPE(), 512), separator=0),
        Corpus(far=0.25),
        TrainSpec(length=256, text_loss=1.0, answer_loss=0.0, lengths=LogUniform(64), optimizer="sgd"),
    ),
    "MQAR, steps": Spec(
        ModelSpec(width=14, mixer=DeltaRule()),
        MQAR(vocabulary=72, pairs=3),
        TrainSpec(lengths=Steps((Stage(32, 0.25), Stage(64, 0.75, RoPE(scaling=YaRN(2.0, 32)))))),
    ),
    "learned, curriculum": Spec(
        ModelSpec(width=14, heads=2, kv_heads=1, mlp=5, position=Learned(64)),
        train=TrainSpec(curriculum=((16, 2), (32, 4)), betas=(0.8, 0.95)),
    ),
}


def bits(tensors) -> dict[str, tuple]:
    """Tensors as bytes, so that NaN equals NaN and zero differs from minus zero."""
    return {
        name: (x.dtype, x.shape, x.contiguous().reshape(-1).view(torch.uint8).tolist())
        for name, x in tensors.items()
    }


def made(spec: Spec):
    """A model of `spec`, untrained."""
    return build(spec.model, spec.task.vocabulary, 3)


# Files ------------------------------------------------------------------------------------------------


def test_tensors_come_back_bit_by_bit(tmp_path):
    path = tmp_path / "new" / "folder" / "a.safetensors"
    notes = {"rate": 0.1, "found": [1, None, True], "é": "§"}
    write(path, TENSORS, notes)
    tensors, told = read(path)
    assert bits(tensors) == bits(TENSORS)
    assert told == notes
    assert [one.name for one in path.parent.iterdir()] == ["a.safetensors"]


def test_a_fingerprint_is_of_bits_names_and_shapes():
    base = fingerprint(TENSORS)
    assert fingerprint(dict(reversed(TENSORS.items()))) == base
    others = [
        TENSORS | {"b": torch.tensor([math.nan, 0.0, math.inf])},
        TENSORS | {"c": torch.arange(7).int()},
        TENSORS | {"a": TENSORS["a"].view(5, 3)},
        {("g" if name == "f" else name): x for name, x in TENSORS.items()},
    ]
    assert len({base, *map(fingerprint, others)}) == 5


def test_damage_is_noticed_wherever_it_is(tmp_path):
    path = tmp_path / "w.safetensors"
    write(path, TENSORS, {"rate": 0.1})
    whole = path.read_bytes()
    flipped = []
    for place in range(8, len(whole), 7):
        data = bytearray(whole)
        data[place] ^= 1
        flipped.append(bytes(data))
    edited = whole.replace(b"0.1", b"0.2")
    assert edited != whole
    for data in (
        *(whole[:end] for end in range(0, len(whole), 41)),
        whole[:-1],
        whole + b"0",
        b"rate: 0.1",
        edited,
        pack({"a": torch.zeros(2)}),
        *flipped,
    ):
        path.write_bytes(data)
        with pytest.raises(DamagedFileError, match=r"w\.safetensors (is no complete|was changed after)"):
            read(path)
        assert path.read_bytes() == data
    path.write_bytes(b"")
    with pytest.raises(DamagedFileError, match="it is empty"):
        read(path)


def test_a_file_that_is_not_there_is_no_damage(tmp_path):
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "w.safetensors")


def test_a_file_of_another_format_is_named(tmp_path, monkeypatch):
    path = tmp_path / "w.safetensors"
    with monkeypatch.context() as patched:
        patched.setattr(checkpoint, "FORMAT", checkpoint.FORMAT + 1)
        save(path, made(SPECS["defaults"]), SPECS["defaults"])
    with pytest.raises(DamagedFileError, match=r"w\.safetensors is a checkpoint of another version"):
        load(path)


def test_where_writing_fails_the_old_file_stays(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path, spec = tmp_path / "w.safetensors", SPECS["defaults"]
    save(path, made(spec), spec)
    before = path.read_bytes()
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            save(path, build(spec.model, spec.task.vocabulary, 4), spec)
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == ["w.safetensors"]


# Models and specs -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SPECS)
def test_a_model_and_its_spec_come_back(tmp_path, name):
    path, spec = tmp_path / "w.safetensors", SPECS[name]
    model = made(spec)
    save(path, model, spec)
    again, told = load(path)
    assert told == spec
    assert type(told.task) is type(spec.task)
    assert again.spec == model.spec
    assert bits(again.state_dict()) == bits(model.state_dict())
    assert not again.training
    torch.manual_seed(1)
    tokens = torch.randint(spec.task.vocabulary, (2, 31))
    with torch.no_grad():
        assert torch.equal(again(tokens), model.eval()(tokens))
    assert load(path, spec)[1] is spec


def test_the_encoding_is_the_one_the_model_ended_with(tmp_path):
    path, spec = tmp_path / "w.safetensors", SPECS["defaults"]
    model = build(replace(spec.model, position=RoPE(7.0)), spec.task.vocabulary, 0)  # its last stage, say
    save(path, model, spec)
    assert load(path)[0].spec.position == RoPE(7.0)


def test_any_plain_spec_comes_back():
    spec = (SPECS["mixture, LongRoPE"], 7, 2.5, None, True, "text", ((1,), ()))
    assert restored(json.loads(json.dumps(described(spec)))) == spec


@pytest.mark.parametrize(
    ("other", "named"),
    [
        (SPECS["symbols, ALiBi"], "holds a model of another model, task; allowed is the one that is asked"),
        (replace(SPECS["hops, T5"], train=TrainSpec(updates=7)), "holds a model of another train;"),
        (replace(SPECS["hops, T5"], task=Hops(3, asked=1)), "holds a model of another task;"),
    ],
)
def test_another_spec_is_named(tmp_path, other, named):
    path = tmp_path / "w.safetensors"
    save(path, made(SPECS["hops, T5"]), SPECS["hops, T5"])
    before = path.read_bytes()
    with pytest.raises(ValueError, match=rf"w\.safetensors {named}"):
        load(path, other)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "unknown",
    [
        "lcbook.tasks.recall.Gone",
        "lcbook.gone.Task",
        "lcbook.tasks.recall.Batch.to",
        "lcbook.references.folder",
        "lcbook.store.Path",
        "pathlib.Path",
        "Path",
    ],
)
def test_a_class_that_lcbook_does_not_have_is_named(tmp_path, unknown):
    path, spec = tmp_path / "w.safetensors", SPECS["defaults"]
    save(path, made(spec), spec)
    tensors, notes = read(path)
    notes["spec"]["task"] = {"is": unknown}
    write(path, tensors, notes)
    with pytest.raises(ValueError, match=f"spec has a {re.escape(unknown)}; allowed are the specs of this"):
        load(path)


def test_a_field_that_the_class_does_not_have_is_named():
    with pytest.raises(ValueError, match=r"spec has a lcbook\.tasks\.hops\.Hops; allowed are"):
        restored(described(Hops()) | {"colour": 3})


def test_an_unfinished_training_is_no_model(tmp_path):
    path = tmp_path / "w.safetensors"
    write(path, TENSORS, {"training": {}, "state": {}})
    with pytest.raises(
        ValueError, match=r"w\.safetensors holds an unfinished training; allowed is a trained"
    ):
        load(path)


def test_specs_of_older_files_are_found_where_they_stand_now():
    old = described(ModelSpec(position=RoPE()))
    old["is"], old["position"]["is"] = "lcbook.model_spec.ModelSpec", "lcbook.position_specs.RoPE"
    assert restored(old) == ModelSpec(position=RoPE())
    mqar = described(MQAR(pairs=3))
    for then in ("lcbook.tasks.MQAR", "lcbook.tasks.recall.MQAR"):
        assert restored(mqar | {"is": then}) == MQAR(pairs=3)
    inner = {"is": "lcbook.tasks.recall.KeyValueRecall"}
    assert (
        restored({"is": "lcbook.tasks.opened.Opened", "inner": inner, "chance": 0.5}).inner
        == KeyValueRecall()
    )


@pytest.mark.parametrize("module", MOVED.values())
def test_what_moved_is_there(module):
    assert any(dataclasses.is_dataclass(found) for found in vars(importlib.import_module(module)).values())
