"""Checkpoints: weights in safetensors files that notice when they were damaged, and trainings that go on from them.

A file holds tensors, `notes` (JSON) in the metadata, and a checksum over both. It is written whole or not at all.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import json
import sys
import warnings
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as pack
from torch import Tensor

from lcbook.models.decoder import Decoder, ModelSpec, build
from lcbook.store import COMPUTE_VERSION, SOURCE, DamagedFileError, canonical, source, write_bytes
from lcbook.tasks.base import Task

FORMAT = 1  # raise this when what a file holds changes
# Where the classes of specs stood when older files were written -> where they stand. A class's own row comes first.
MOVED = {
    "lcbook.corpus": "lcbook.tasks.corpus",
    "lcbook.experiment": "lcbook.experiments.spec",
    "lcbook.experiments.run": "lcbook.experiments.spec",
    "lcbook.hops": "lcbook.tasks.hops",
    "lcbook.item_texts": "lcbook.tasks.item_texts",
    "lcbook.item_tokens": "lcbook.tasks.item_tokens",
    "lcbook.items": "lcbook.tasks.items",
    "lcbook.mixers": "lcbook.models.mixers",
    "lcbook.mixtures": "lcbook.tasks.mixture",
    "lcbook.model_spec": "lcbook.models.spec",
    "lcbook.patterns": "lcbook.attention.patterns",
    "lcbook.position_specs": "lcbook.models.position_specs",
    "lcbook.schedules": "lcbook.experiments.schedules",
    "lcbook.symbols": "lcbook.tasks.symbols",
    "lcbook.tasks": "lcbook.tasks.recall",
    "lcbook.tasks.MQAR": "lcbook.tasks.mqar",
    "lcbook.tasks.opened": "lcbook.tasks.mixture",
    "lcbook.tasks.recall.MQAR": "lcbook.tasks.mqar",
    "lcbook.train": "lcbook.experiments.train",
}


def _checksum(tensors: Mapping[str, Tensor], notes: str) -> str:
    seen = hashlib.sha256(notes.encode())
    for name in sorted(tensors):
        value = tensors[name]
        seen.update(f"{name} {value.dtype} {tuple(value.shape)} ".encode())
        seen.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return seen.hexdigest()


def fingerprint(tensors: Mapping[str, Tensor]) -> str:
    """Return a checksum of tensors, names included: equal for equal bits."""
    return _checksum({name: value.detach().cpu() for name, value in tensors.items()}, "")


def write(path: Path, tensors: Mapping[str, Tensor], notes: dict[str, Any]) -> None:
    """Write tensors and `notes` to `path` whole or not at all. Raises OSError where the folder cannot be written."""
    copies = {
        name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, value in tensors.items()
    }
    text = json.dumps({"format": FORMAT, **notes}, sort_keys=True)
    write_bytes(path, pack(copies, {"notes": text, "checksum": _checksum(copies, text)}))


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors and the notes of a file that `write` wrote.

    Raises DamagedFileError if it is cut short, edited or of another kind, FileNotFoundError if it is not there.
    """
    if path.stat().st_size == 0:
        raise DamagedFileError(f"{path} is no complete checkpoint: it is empty.")
    try:
        with safe_open(path, framework="pt") as file:
            told = file.metadata() or {}
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}
    except SafetensorError as error:
        raise DamagedFileError(f"{path} is no complete checkpoint ({error}).") from error
    if _checksum(tensors, told.get("notes", "")) != told.get("checksum"):
        raise DamagedFileError(f"{path} was changed after it was written: its checksum does not match.")
    notes = json.loads(told["notes"])
    if notes.pop("format") != FORMAT:
        raise DamagedFileError(f"{path} is a checkpoint of another version of lcbook.")
    return tensors, notes


def described(value: Any) -> Any:
    """Return a spec as JSON from which `restored` makes it again: each dataclass with its module and name.

    A class that is not of lcbook has its source with it.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: described(getattr(value, field.name)) for field in dataclasses.fields(value)}
        kept = {key: told for key, told in canonical(value).items() if key == SOURCE}
        return {"is": f"{type(value).__module__}.{type(value).__name__}", **kept, **fields}
    return [described(item) for item in value] if isinstance(value, (list, tuple)) else canonical(value)


def restored(value: Any, own: Mapping[str, type] | None = None) -> Any:
    """Return the spec that `described` described; `own` are the classes of a reader's own that may be in it, by name.

    Raises ValueError for a class that is no dataclass of lcbook, and none of `own` or of this process (the cell that
    defines it must have run) with the same source.
    """
    if isinstance(value, list):
        return tuple(restored(item, own) for item in value)
    if not isinstance(value, dict) or "is" not in value:
        return value
    module, _, name = value["is"].rpartition(".")
    try:
        if module.partition(".")[0] == "lcbook":
            home = MOVED.get(value["is"]) or MOVED.get(module, module)
            kind = getattr(importlib.import_module(home), name)
        else:
            kind = (own or {}).get(value["is"]) or getattr(sys.modules[module], name)
        if not (isinstance(kind, type) and dataclasses.is_dataclass(kind)):
            raise ImportError
        if module.partition(".")[0] != "lcbook" and value[SOURCE] != source(kind):
            raise ImportError
        return kind(**{key: restored(item, own) for key, item in value.items() if key not in ("is", SOURCE)})
    except (ImportError, KeyError, AttributeError, TypeError) as error:
        raise ValueError(
            f"spec has a {value['is']}; allowed are the specs of this version of lcbook, and own classes as they were."
        ) from error


def _classes(value: Any) -> dict[str, type]:
    """Return the classes of the dataclasses in a spec, by module and name as `described` writes them."""
    if isinstance(value, (list, tuple)):
        return {name: kind for item in value for name, kind in _classes(item).items()}
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return {}
    kind = type(value)
    inside = _classes([getattr(value, field.name) for field in dataclasses.fields(value)])
    return {f"{kind.__module__}.{kind.__name__}": kind} | inside


def save(path: Path, model: Decoder, spec: Any) -> None:
    """Write a model's weights and, beside them, the spec that it was trained by (any frozen dataclass of plain values).

    Raises OSError where the folder cannot be written.
    """
    notes = {
        "canonical": canonical(spec),
        "spec": described(spec),
        "model": described(model.spec),
        "vocabulary": model.embedding.num_embeddings,
    }
    write(path, model.state_dict(), notes)


def load(path: Path, expected: Any = None) -> tuple[Decoder, Any]:
    """Return the model that `save` wrote to `path`, on the CPU and ready to be asked, and its spec.

    Raises ValueError if it is not the model of the spec that is `expected`, or without one if the spec has a class
    that lcbook does not have; otherwise as `read`.
    """
    tensors, notes = read(path)
    if "vocabulary" not in notes:
        raise ValueError(f"{path} holds an unfinished training; allowed is a trained model.")
    if expected is None:
        spec = restored(notes["spec"])
    else:
        compare(path, "a model", notes["canonical"], canonical(expected))
        spec = expected
    model_spec = restored(notes["model"], _classes(expected))
    assert isinstance(model_spec, ModelSpec)
    model = build(model_spec, notes["vocabulary"], 0)
    model.load_state_dict(tensors)
    return model.eval(), spec


def compare(path: Path, kind: str, found: dict[str, Any], expected: dict[str, Any]) -> None:
    """Raise ValueError, naming the parts that differ, unless a file is of what is expected."""
    names = [name for name in sorted({*found, *expected}) if found.get(name) != expected.get(name)]
    if names:
        raise ValueError(
            f"{path} holds {kind} of another {', '.join(names)}; allowed is the one that is asked for."
        )


@dataclass
class State:
    """Where a training stands, beside its weights, optimizer and generator.

    `update` counts the updates made, `tokens` what they read by the plan, and `stage` the stages of the curriculum that
    were passed; `recalls` has the recall on each batch, `recent` the right answers and the answers of the last ones.
    """

    update: int = 0
    tokens: int = 0
    stage: int = 0
    recalls: list[float] = field(default_factory=list)
    recent: deque[tuple[int, int]] = field(default_factory=deque)
    gate_update: int | None = None
    gate_seconds: float | None = None
    seconds: float = 0.0

    def count(self, right: int, asked: int, enough: int) -> tuple[int, int]:
        """Add a batch; return right answers and answers of the last batches that hold `enough` answers, if all do."""
        self.update += 1
        self.recalls.append(right / asked)
        self.recent.append((right, asked))
        while sum(total for _, total in self.recent) - self.recent[0][1] >= enough:
            self.recent.popleft()
        return sum(one for one, _ in self.recent), sum(total for _, total in self.recent)

    def pass_stage(self, recall: tuple[int, int], enough: int) -> None:
        """Move to the next stage of the curriculum if 90 % of the last answers, `enough` at least, are right."""
        right, total = recall
        if right >= 0.9 * total and total >= enough:
            self.stage += 1
            self.recent.clear()


def training(model: Decoder, task: Task, spec: Any, seed: int) -> dict[str, Any]:
    """Return what tells one training from another: specs, seed, the weights at the start, and the kind of device."""
    return {
        "model": canonical(model.spec),
        "task": canonical(task),
        "train": canonical(spec),
        "seed": seed,
        "start": fingerprint(model.state_dict()),
        "device": next(model.parameters()).device.type,
        "version": COMPUTE_VERSION,
    }


@dataclass(frozen=True)
class Checkpoint:
    """The file of one training, as `training` tells it, and the parts that go into it."""

    path: Path
    model: Decoder
    optimizer: torch.optim.Optimizer
    generator: torch.Generator
    training: dict[str, Any]

    def save(self, state: State) -> None:
        """Write the file; where that fails, say so and go on."""
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        for number, values in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{number}.{name}": value for name, value in values.items()}
        tensors["generator"] = self.generator.get_state()
        plain = {one.name: getattr(state, one.name) for one in fields(state)} | {"recent": list(state.recent)}
        try:
            write(self.path, tensors, {"training": self.training, "state": plain})
        except OSError as error:
            warnings.warn(
                f"The checkpoint {self.path} cannot be written ({error.strerror}); nothing is lost but time.",
                stacklevel=3,
            )

    def load(self) -> State | None:
        """Bring the parts to where the file has them and return the state; None if there is no file to read.

        Raises ValueError, with nothing changed, if the file is of another training, or damaged (see `read`).
        """
        try:
            tensors, notes = read(self.path)
        except OSError:
            return None
        if "training" not in notes:
            raise ValueError(f"{self.path} holds a trained model; allowed is a training to resume.")
        compare(self.path, "a training", notes["training"], json.loads(json.dumps(self.training)))
        generator = tensors.pop("generator")
        weights: dict[str, Tensor] = {}
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            part, _, rest = name.partition(".")
            if part == "model":
                weights[rest] = value
            else:
                number, _, moment = rest.partition(".")
                moments.setdefault(int(number), {})[moment] = value
        groups = self.optimizer.state_dict()["param_groups"]
        self.model.load_state_dict(weights)
        self.optimizer.load_state_dict({"state": moments, "param_groups": groups})
        self.generator.set_state(generator)
        state = notes["state"]
        return State(**state | {"recent": deque((right, asked) for right, asked in state["recent"])})
