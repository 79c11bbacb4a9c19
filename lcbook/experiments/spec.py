"""Specs: all that determines a trained model, grids of runs over them, and how both become columns of a table."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lcbook import runtime
from lcbook.attention.own import METHODS, is_own
from lcbook.experiments.train import TrainSpec
from lcbook.formats import label
from lcbook.models.decoder import ModelSpec
from lcbook.tasks.base import Task
from lcbook.tasks.recall import KeyValueRecall


@dataclass(frozen=True)
class Spec:
    """Everything that determines a trained model but its seed."""

    model: ModelSpec = ModelSpec()
    task: Task = KeyValueRecall()
    train: TrainSpec = TrainSpec()


@dataclass(frozen=True)
class Run:
    """One model to train and measure: a spec, a seed, and the name of its arm on the page."""

    arm: str
    spec: Spec
    seed: int


def _replace(spec: Any, path: str, value: Any) -> Any:
    name, _, rest = path.partition(".")
    names = [f.name for f in dataclasses.fields(spec)] if dataclasses.is_dataclass(spec) else []
    if name not in names:
        allowed = ", ".join(names) or "no fields"
        raise ValueError(f"grid names {path!r}; allowed in {type(spec).__name__} are {allowed}.")
    return dataclasses.replace(spec, **{name: _replace(getattr(spec, name), rest, value) if rest else value})


def _label(value: Any) -> str:
    """Return the label of what has one, and the name of a reader's own, else ""."""
    if is_own(value, *METHODS):
        return label(value)
    said = getattr(value, "label", "")
    return said if isinstance(said, str) else ""


def _arm(path: str, value: Any) -> str:
    return _label(value) or f"{path.rpartition('.')[2].replace('_', ' ')} {value}"


def grid(
    base: Spec,
    axes: Mapping[str, Sequence[Any] | Mapping[str, Any]],
    *,
    seeds: int | Iterable[int],
    sweep: Mapping[str, Sequence[Any]] | None = None,
) -> list[Run]:
    """Return the runs of all combinations of `axes` (dotted field -> values, or label -> value) and seeds.

    The values of `axes` name the arm; those of `sweep` (a learning rate, say) are tried within each arm, for
    `best` to choose from. `seeds` is a count (of `runtime.seeds`), or the seeds themselves. Raises ValueError for an
    unknown field, an empty axis, no seed, a seed given twice, or two arms of one name.
    """
    chosen = runtime.seeds(seeds) if isinstance(seeds, int) else list(seeds)
    swept = sweep or {}
    if len(set(chosen)) < len(chosen):
        raise ValueError(f"seeds is {chosen}; allowed is each seed once.")
    if not chosen or any(not values for values in (*axes.values(), *swept.values())):
        names = sorted([*axes, *swept])
        raise ValueError(
            f"grid got seeds {seeds!r} and axes {names}; allowed is at least one seed and value each."
        )
    named: list[list[tuple[str, str, Any]]] = []
    for path, values in axes.items():
        pairs = values.items() if isinstance(values, Mapping) else [(_arm(path, v), v) for v in values]
        named.append([(path, name, value) for name, value in pairs])
        names = [name for name, _ in pairs]
        if len(set(names)) < len(names):
            raise ValueError(
                f"{path} has arms named {names}; allowed are different names: give {{name: value}}."
            )
    named += [[(path, "", value) for value in values] for path, values in swept.items()]
    runs = []
    for combination in itertools.product(*named):
        spec = base
        for path, _, value in combination:
            spec = _replace(spec, path, value)
        arm = ", ".join(name for _, name, _ in combination if name) or "base"
        runs += [Run(arm, spec, seed) for seed in chosen]
    return runs


def columns(spec: Any, prefix: str = "") -> dict[str, Any]:
    """Return a spec as dotted columns: what has a label gives it and, below, its fields."""
    flat: dict[str, Any] = {}
    for field in dataclasses.fields(spec):
        value, name = getattr(spec, field.name), prefix + field.name
        said = _label(value)
        if said:
            flat[name] = said
        if dataclasses.is_dataclass(value):
            flat |= columns(value, name + ".")
        elif not said:
            flat[name] = _plain(value)
    return flat


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    named = isinstance(value, tuple) and value and all(isinstance(part, str) for part in value)
    return ", ".join(value) if named else str(value)
