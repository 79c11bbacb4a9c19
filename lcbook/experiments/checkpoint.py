"""Checkpoints: weights in safetensors files that say what they are and notice when they were damaged.

A file holds tensors, `notes` (JSON) in the metadata, and a checksum over both. It is written whole or not at all.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as pack
from torch import Tensor

from lcbook.models.decoder import Decoder, ModelSpec, build
from lcbook.store import DamagedFileError, canonical, write_bytes

FORMAT = 1  # raise this when what a file holds changes
# Where the classes of specs stood when older files were written -> where they stand.
MOVED = {
    "lcbook.corpus": "lcbook.tasks.corpus",
    "lcbook.experiment": "lcbook.experiments.run",
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
    """Return a spec as JSON from which `restored` makes it again: each dataclass with its module and name."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: described(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return {"is": f"{type(value).__module__}.{type(value).__name__}", **fields}
    return [described(item) for item in value] if isinstance(value, (list, tuple)) else canonical(value)


def restored(value: Any) -> Any:
    """Return the spec that `described` described. Raises ValueError for a class that is no dataclass of lcbook."""
    if isinstance(value, list):
        return tuple(restored(item) for item in value)
    if not isinstance(value, dict) or "is" not in value:
        return value
    module, _, name = value["is"].rpartition(".")
    try:
        if module.partition(".")[0] != "lcbook":
            raise ImportError
        kind = getattr(importlib.import_module(MOVED.get(module, module)), name)
        if not (isinstance(kind, type) and dataclasses.is_dataclass(kind)):
            raise ImportError
        return kind(**{key: restored(item) for key, item in value.items() if key != "is"})
    except (ImportError, AttributeError, TypeError) as error:
        raise ValueError(
            f"spec has a {value['is']}; allowed are the specs of this version of lcbook."
        ) from error


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
    model_spec = restored(notes["model"])
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
