"""Experiments: a grid of runs, each trained, changed and measured once, in parallel, cached by content, resumable."""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from lcbook import runtime
from lcbook.experiments.changes import TUNE_SEED, Reposition, changed
from lcbook.experiments.checkpoint import load, save
from lcbook.experiments.measures import Probe, Recall
from lcbook.experiments.schedules import Fixed
from lcbook.experiments.spec import Run, Spec, columns
from lcbook.experiments.train import GATE, Trained, TrainSpec, train
from lcbook.models.decoder import Decoder, build
from lcbook.models.positions import longest
from lcbook.store import DamagedFileError, cached_rows, digest, load_keyed, save_keyed, store
from lcbook.tasks.base import Task

CHECKPOINT_SECONDS = 30.0  # a training that takes longer leaves a checkpoint this often


CHOOSING = tuple(range(90, 100))  # seeds on which a learning rate is chosen where claims are judged on others


def _ranked(frame: pd.DataFrame, choose: str) -> pd.DataFrame:
    """Return arm and value of `choose`, the best value of each arm first, by the criterion of `best`."""
    seeds = frame.groupby(["arm", choose, "seed"])[
        ["solved", "updates_to_gate", "updates", "in_distribution"]
    ].first()
    seeds["taken"] = seeds["updates_to_gate"].fillna(seeds["updates"])
    ranked = seeds.groupby(["arm", choose])[["solved", "taken", "in_distribution"]].mean()
    ranked = ranked.sort_values(list(ranked.columns), ascending=[False, True, False]).reset_index()
    return ranked.drop_duplicates("arm")[["arm", choose]]


def best(frame: pd.DataFrame, *, name: str, choose: str = "train.lr") -> pd.DataFrame:
    """Return the rows of each arm's best value of `choose`, judged in distribution alone, and file them as `name`.

    Best is the largest share of seeds that reached the gate, then the fewest updates to it (a seed that never did
    counts its whole budget), then the highest recall in distribution. Recall at longer lengths is never looked at.
    Raises ValueError for a missing column.
    """
    if choose not in frame.columns:
        raise ValueError(f"choose is {choose!r}; allowed is a column of the frame, such as 'train.lr'.")
    kept = frame.merge(_ranked(frame, choose), on=["arm", choose])
    design = digest("best", frame.attrs.get("design"), choose)
    return runtime.session.file(name, design, lambda: kept)


def trained_model(run: Run) -> tuple[Decoder, Trained]:
    """Return the trained model of `run`, from the cache if it is there and whole, else trained now and cached.

    A training that takes long leaves checkpoints in the cache and, if it was killed, goes on from the last.
    """
    key = digest("weights", run.spec, run.seed, runtime.device().type)
    return _trained(
        key, lambda: build(run.spec.model, run.spec.task.vocabulary, run.seed), run.spec, seed=run.seed
    )


def fine_tune(
    run: Run, train_spec: TrainSpec, *, task: Task | None = None, seed: int | None = None
) -> tuple[Decoder, Trained]:
    """Return the trained model of `run` trained further, on its own task or another, and cached in the same way.

    What is drawn depends on `seed`, None: as a probe's `tune` draws it. Raises ValueError for a task with tokens that
    the model does not have.
    """
    spec = dataclasses.replace(run.spec, task=run.spec.task if task is None else task, train=train_spec)
    most = run.spec.task.vocabulary
    if spec.task.vocabulary > most:
        raise ValueError(f"task has {spec.task.vocabulary} tokens; allowed are those of the model, {most}.")
    seed = run.seed + TUNE_SEED if seed is None else seed
    key = digest("tuned", run.spec, run.seed, spec, seed, runtime.device().type)
    return _trained(key, lambda: trained_model(run)[0], spec, seed=seed)


def _trained(key: str, start: Callable[[], Decoder], spec: Spec, *, seed: int) -> tuple[Decoder, Trained]:
    """Return the model cached as `key`, else the one that `start` gives, trained by `spec`."""
    if runtime.session.replayed is not None:
        raise ValueError(f"replay of {runtime.session.chapter!r} asks for a model; allowed are tables.")
    folder = runtime.cache_dir() / "weights"
    paths = [folder / f"{key}{end}" for end in (".json", ".safetensors")]
    try:
        record = load_keyed(paths[0])
        model, _ = load(paths[1], spec)
        return model.to(runtime.device()), _read(record, paths[0])
    except OSError:
        pass  # not there, or in a place that cannot be read: `store` tells of it
    except DamagedFileError as error:
        warnings.warn(f"{error} It is trained again.", stacklevel=3)
    checkpoint = folder / "unfinished" / f"{key}.safetensors"
    model = start().to(runtime.device())
    options: dict[str, Any] = {"seed": seed, "checkpoint": checkpoint, "every": CHECKPOINT_SECONDS}
    with runtime.one_thread():  # as in a worker: the same bits wherever a run is trained
        try:
            trained = train(model, spec.task, spec.train, **options)
        except DamagedFileError as error:
            warnings.warn(f"{error} It is trained from the start.", stacklevel=3)
            checkpoint.unlink()
            trained = train(model, spec.task, spec.train, **options)
    store(lambda: save(paths[1], model, spec))
    store(lambda: save_keyed(paths[0], dataclasses.asdict(trained)))
    store(lambda: checkpoint.unlink(missing_ok=True))
    return model, trained


def _read(record: dict[str, Any], path: Path) -> Trained:
    """Return a training's record. Raises DamagedFileError for another kind of record."""
    try:
        return Trained(**{**record, "recalls": tuple(record["recalls"])})
    except (TypeError, KeyError) as error:
        raise DamagedFileError(f"{path} is no record of a training ({error}).") from error


def _rows_path(run: Run, probes: Sequence[Probe]) -> Path:
    machine = [runtime.device().type]
    if any(probe.measure.timed for probe in probes):
        machine += [runtime.device_description(), torch.__version__]
    return runtime.cache_dir() / "rows" / f"{digest('rows', run, probes, *machine)}.json"


def measure(run: Run, probes: Sequence[Probe]) -> list[dict[str, Any]]:
    """Train `run` and measure it with every probe; return tidy rows, from the cache if they are there and whole.

    Without a probe there is one row, of the training alone.
    """
    return cached_rows(_rows_path(run, probes), lambda: _measured(run, probes))


def _measured(run: Run, probes: Sequence[Probe]) -> list[dict[str, Any]]:
    model, trained = trained_model(run)
    check = Recall((run.spec.train.length,), 1000).rows(model, run.spec, seed=run.seed + 1)
    in_distribution = sum(row["correct"] for row in check) / sum(row["total"] for row in check)
    about = {
        "arm": run.arm,
        **columns(run.spec),
        "seed": run.seed,
        "solved": in_distribution >= GATE,
        "in_distribution": in_distribution,
        "updates": trained.updates,
        "updates_to_gate": math.nan if trained.updates_to_gate is None else trained.updates_to_gate,
        "seconds": trained.seconds,
        "seconds_to_gate": math.nan if trained.seconds_to_gate is None else trained.seconds_to_gate,
    }
    rows = [] if probes else [about]
    for probe in probes:
        probed = changed(model, probe.changes, task=probe.measure.asked(run.spec), seed=run.seed)
        found = probe.measure.rows(probed, run.spec, seed=run.seed, before=model)
        rows += [{**about, **probe.columns(run.spec), **row} for row in found]
    return rows


def _require_reach(run: Run, probes: Sequence[Probe]) -> None:
    """Raise ValueError for a length beyond what the position encoding of a run, or of a probe, takes."""
    if run.spec.train.lengths != Fixed():
        return  # a stage may bring an encoding of its own; training tries them all
    asked = [(run.spec.model.position, run.spec.train.length)]
    for probe in probes:
        position = run.spec.model.position
        for change in probe.changes:
            position = change.position if isinstance(change, Reposition) else position
        asked += [(position, length) for length in getattr(probe.measure, "lengths", ())]
    for position, length in asked:
        most = longest(position)
        if most is not None and length > most:
            raise ValueError(f"length is {length} with position {position}; allowed is at most {most}.")


def run(
    runs: Sequence[Run],
    *,
    name: str,
    lengths: Sequence[int] | None = None,
    questions: int = 256,
    probes: Sequence[Probe] = (),
    workers: int | None = None,
) -> pd.DataFrame:
    """Train and measure `runs` and return the tidy frame: a row a run, probe and length, or what the measure says.

    Give `lengths` (and `questions` at each) for recall as trained, or `probes` for anything else. Runs go in parallel
    over processes, one thread each: `workers` of them, else as `runtime.over` decides. Every finished run is cached at
    once, so that an interrupted call resumes. `name` files the table under the chapter. Raises ValueError if there is
    nothing to run or to measure, and, before any training, for a length that a position encoding does not take.
    """
    if lengths is not None:
        probes = [Probe(Recall(tuple(lengths), questions)), *probes]
    if not runs or not probes:
        raise ValueError(
            f"run {name!r} got {len(runs)} runs and {len(probes)} probes; allowed is at least one of each."
        )

    for one in runs:
        _require_reach(one, probes)

    renewal = runtime.session.renewed.get(name)
    if renewal:
        with runtime.session.made(name):
            runs = _renewed(runs, renewal, name=name, workers=workers)
    return runtime.session.file(
        name, digest("table", runs, probes), lambda: _frame(runs, probes, name=name, workers=workers)
    )


def _frame(runs: Sequence[Run], probes: Sequence[Probe], *, name: str, workers: int | None) -> pd.DataFrame:
    runtime.session.resumed |= any(_rows_path(one, probes).exists() for one in runs)
    tables = runtime.over(partial(measure, probes=probes), runs, name=name, workers=workers)
    rows = [{k: math.nan if v is None else v for k, v in row.items()} for rows in tables for row in rows]
    return pd.DataFrame(rows)


def _renewed(runs: Sequence[Run], renewal: runtime.Renewal, *, name: str, workers: int | None) -> list[Run]:
    """Return the runs of a table that is made anew: its arms that count, each spec with the seeds of the renewal."""
    counted = [one for one in runs if renewal.arms is None or one.arm in renewal.arms]
    kept = list({digest(one.arm, one.spec): one for one in counted}.values())
    if not kept:
        raise ValueError(f"arms is {renewal.arms}; allowed are those of the table {name!r}.")
    if renewal.choose:
        kept = _chosen(kept, renewal.choose, name=f"{name}, choice", workers=workers)
    return [dataclasses.replace(one, seed=seed) for one in kept for seed in renewal.seeds]


def _chosen(runs: Sequence[Run], choose: str, *, name: str, workers: int | None) -> list[Run]:
    """Return of each arm the runs of one value of `choose`: of several, the best on the seeds CHOOSING.

    These trainings are filed as `name`.
    """
    values = [columns(one.spec)[choose] for one in runs]
    tried = (
        pd.DataFrame({"arm": [one.arm for one in runs], "value": values}).groupby("arm")["value"].nunique()
    )
    trials = [dataclasses.replace(one, seed=s) for one in runs if tried[one.arm] > 1 for s in CHOOSING]
    if not trials:
        return list(runs)
    frame = runtime.session.file(
        name, digest("choice", trials, choose), lambda: _frame(trials, (), name=name, workers=workers)
    )
    best_of = dict(_ranked(frame, choose).itertuples(index=False))
    return [one for one, value in zip(runs, values, strict=True) if best_of.get(one.arm, value) == value]
