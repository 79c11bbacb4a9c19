"""Resuming: all that a training needs to go on where it was killed, and end with the same bits."""

from __future__ import annotations

import json
import warnings
from collections import deque
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lcbook.experiments.checkpoint import compare, fingerprint, read, write
from lcbook.models.decoder import Decoder
from lcbook.store import COMPUTE_VERSION, canonical
from lcbook.tasks.recall import Task


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
