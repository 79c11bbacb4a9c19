"""Changes: what is done to trained weights before they are measured, in the order given, on one copy."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_never

from lcbook import runtime
from lcbook.attention.backends import Form
from lcbook.attention.normalizers import AnyNormalizer
from lcbook.attention.patterns import AnyPattern
from lcbook.experiments.train import TrainSpec, train
from lcbook.formats import label
from lcbook.models import surgery
from lcbook.models.decoder import Decoder
from lcbook.models.positions import AnyPosition
from lcbook.tasks.base import Task

TUNE_SEED = 1_000_000  # added to a run's seed where its model is trained further


@dataclass(frozen=True)
class Reposition:
    """Another position encoding on the same weights; a learned one keeps its parameters."""

    position: AnyPosition

    @property
    def label(self) -> str:
        return label(self.position)


@dataclass(frozen=True)
class Restrict:
    """Every layer sees the keys that `pattern` shows, and no others."""

    pattern: AnyPattern

    @property
    def label(self) -> str:
        return label(self.pattern)


@dataclass(frozen=True)
class Temper:
    """Scores are multiplied by `factor` in every layer, and turned into weights by `normalizer` ("": the model's own).

    Raises ValueError unless the factor is a finite number above 0.
    """

    factor: float | int = 1.0
    normalizer: AnyNormalizer = ""

    def __post_init__(self) -> None:
        if not 0 < self.factor < math.inf:
            raise ValueError(f"factor is {self.factor}; allowed is a finite number above 0.")

    @property
    def label(self) -> str:
        return f"scores x {self.factor:g}" + (f", {label(self.normalizer)}" if self.normalizer else "")


@dataclass(frozen=True)
class ComputeBy:
    """The same attention, computed in another way."""

    backend: Form

    @property
    def label(self) -> str:
        return label(self.backend)


@dataclass(frozen=True)
class Ablate:
    """One head, both counted from 0, writes nothing."""

    layer: int
    head: int

    @property
    def label(self) -> str:
        return f"without head {self.head + 1} of layer {self.layer + 1}"


@dataclass(frozen=True)
class Tune:
    """The weights are trained further, on the task of the run or on another of the same tokens."""

    train: TrainSpec
    task: Task | None = None

    @property
    def label(self) -> str:
        return f"{self.train.updates} updates more"


Change = Reposition | Restrict | Temper | ComputeBy | Ablate | Tune


def changed(model: Decoder, changes: Sequence[Change], *, task: Task, seed: int) -> Decoder:
    """Return a copy of `model` with all `changes` made one after another; without any, the model itself.

    A `Tune` without a task trains on `task`, with draws that depend on `seed`. Raises ValueError for a change that the
    model does not take.
    """
    if not changes:
        return model
    copied = copy.deepcopy(model)
    for change in changes:
        match change:
            case Reposition(position):
                surgery.reposition(copied, position)
            case Restrict(pattern):
                surgery.restrict(copied, pattern)
            case Temper(factor, normalizer):
                surgery.temper(copied, factor, normalizer)
            case ComputeBy(backend):
                surgery.compute_by(copied, backend)
            case Ablate(layer, head):
                surgery.ablate(copied, layer, head)
            case Tune(spec, other):
                with runtime.one_thread():  # the same bits wherever it is trained
                    train(copied, other or task, spec, seed=seed + TUNE_SEED)
            case _:
                assert_never(change)
    return copied
