"""Experiments: a grid of runs, each trained and measured once, in parallel, cached by content and resumable."""

from __future__ import annotations

import dataclasses
import itertools
import math
import os
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
import pandas as pd
import torch
from tqdm import tqdm

from lcbook import runtime
from lcbook.attention.patterns import Pattern
from lcbook.attention.patterns import label as pattern_label
from lcbook.experiments import schedules, streaming
from lcbook.experiments.checkpoint import load, save
from lcbook.experiments.heads import ablate
from lcbook.experiments.measures import (
    Probe,
    head_looks,
    recall_rows,
    with_form,
    with_pattern,
    with_position,
    with_scores,
)
from lcbook.experiments.schedules import Lengths
from lcbook.experiments.train import GATE, Trained, TrainSpec, train
from lcbook.models.decoder import Decoder, ModelSpec, build
from lcbook.models.mixers import Mixer
from lcbook.models.mixers import label as mixer_label
from lcbook.models.positions import Position, label
from lcbook.store import DamagedFileError, cached_rows, digest, load_json, save_json, store
from lcbook.tasks.recall import KeyValueRecall, Task

TUNE_SEED = 1_000_000  # added to a run's seed where its model is trained further
# Counts of answers, which add up over the gap.
COUNTS = ("correct", "total", "selected", "correct_selected", "changed")
CHECKPOINT_SECONDS = 30.0  # a training that takes longer leaves a checkpoint this often


def best(frame: pd.DataFrame, *, name: str, choose: str = "train.lr") -> pd.DataFrame:
    """Return the rows of each arm's best value of `choose`, judged in distribution alone, and file them as `name`.

    Best is the largest share of seeds that reached the gate, then the fewest updates to it (a seed that never did
    counts its whole budget), then the highest recall in distribution. Recall at longer lengths is never looked at.
    Raises ValueError for a missing column.
    """
    if choose not in frame.columns:
        raise ValueError(f"choose is {choose!r}; allowed is a column of the frame, such as 'train.lr'.")
    seeds = frame.groupby(["arm", choose, "seed"])[
        ["solved", "updates_to_gate", "updates", "in_distribution"]
    ].first()
    seeds["taken"] = seeds["updates_to_gate"].fillna(seeds["updates"])
    ranked = seeds.groupby(["arm", choose])[["solved", "taken", "in_distribution"]].mean()
    ranked = ranked.sort_values(list(ranked.columns), ascending=[False, True, False]).reset_index()
    kept = frame.merge(ranked.drop_duplicates("arm")[["arm", choose]], on=["arm", choose])
    runtime.session.tables[name] = kept
    return kept


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
    folder = runtime.cache_dir() / "weights"
    paths = [folder / f"{key}{end}" for end in (".json", ".safetensors")]
    try:
        record = load_json(paths[0])
        model, _ = load(paths[1], spec)
        return model.to(runtime.device()), Trained(**{**record, "recalls": tuple(record["recalls"])})
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
    store(lambda: save_json(paths[0], dataclasses.asdict(trained)))
    store(lambda: checkpoint.unlink(missing_ok=True))
    return model, trained


def _rows_path(run: Run, probes: Sequence[Probe]) -> Path:
    return runtime.cache_dir() / "rows" / f"{digest('rows', run, probes, runtime.device().type)}.json"


def measure(run: Run, probes: Sequence[Probe]) -> list[dict[str, Any]]:
    """Train `run` and measure it with every probe; return tidy rows, from the cache if they are there and whole."""
    return cached_rows(_rows_path(run, probes), lambda: _measured(run, probes))


def _measured(run: Run, probes: Sequence[Probe]) -> list[dict[str, Any]]:
    model, trained = trained_model(run)
    check = recall_rows(model, run.spec.task, run.spec.train.length, 1000, seed=run.seed + 1)
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
    rows = []
    for probe in probes:
        probed, task = model, probe.task or run.spec.task
        if probe.pairs:
            task = task.with_pairs(probe.pairs)  # type: ignore[attr-defined]
        if probe.position is not None:
            probed = with_position(model, probe.position)
        if probe.pattern is not None:
            probed = with_pattern(probed, probe.pattern)
        if probe.temper != 1 or probe.normalizer:
            probed = with_scores(probed, temper=probe.temper, normalizer=probe.normalizer)
        if probe.tune is not None:
            probed = with_position(probed, probed.spec.position)
            with runtime.one_thread():
                train(probed, task, probe.tune, seed=run.seed + TUNE_SEED)
        if probe.ablate is not None:
            probed = ablate(probed, *probe.ablate)
        exact = None
        if probe.form is not None:
            probed, exact = with_form(probed, probe.form), probed
        for length in probe.lengths or (run.spec.train.length,):
            if probe.stream:
                if not isinstance(task, KeyValueRecall):
                    raise ValueError(f"stream is True for {task}; allowed is a KeyValueRecall.")
                streamed = streaming.recall_rows(probed, task, length, probe.questions, seed=run.seed)
                rows += [{**about, "probe": probe.name, **row} for row in streamed]
                continue
            found = recall_rows(
                probed,
                task,
                length,
                probe.questions,
                seed=run.seed,
                text=probe.text,
                gap_bin=probe.gap_bin,
                depth_bins=probe.depth_bins,
                exact=exact,
            )
            looks = {}
            if probe.ablate is not None:
                looks = head_looks(model, task, length, seed=run.seed, head=probe.ablate)
            rows += [{**about, "probe": probe.name, **row, **looks} for row in found]
    return rows


def _work(run: Run, probes: Sequence[Probe], environment: dict[str, str]) -> list[dict[str, Any]]:
    runtime.end_with_parent()
    os.environ.update(environment)
    torch.set_num_threads(1)
    return measure(run, probes)


def run(
    runs: Sequence[Run],
    *,
    name: str,
    lengths: Sequence[int] | None = None,
    questions: int = 256,
    probes: Sequence[Probe] = (),
    text: bool = False,
    by_gap: bool = False,
    workers: int | None = None,
) -> pd.DataFrame:
    """Train and measure `runs` and return the tidy frame: one row a run, probe and length (`by_gap`: and octave).

    Give `lengths` (and `questions` at each) for recall as trained, or `probes` for anything else. Runs go in parallel
    over processes, one thread each: `workers` of them, else one a core, and one on a GPU and at smoke scale. Every
    finished run is cached at once, so that an interrupted call resumes. `name` files the table under the chapter.
    Raises ValueError if there is nothing to run or to measure.
    """
    if lengths is not None:
        probes = [Probe(lengths=tuple(lengths), questions=questions, text=text), *probes]
    if not runs or not probes:
        raise ValueError(
            f"run {name!r} got {len(runs)} runs and {len(probes)} probes; allowed is at least one of each."
        )
    alone = runtime.device().type == "cuda" or runtime.scale() == "smoke"
    jobs = workers or (1 if alone else min(runtime.cores(), len(runs)))
    environment = {"LCBOOK_SCALE": runtime.scale(), "LCBOOK_CACHE": str(runtime.cache_dir())}
    runtime.session.resumed |= any(_rows_path(one, probes).exists() for one in runs)
    tables: list[list[dict[str, Any]] | None] = [None] * len(runs)
    with tqdm(total=len(runs), desc=name, unit="run", mininterval=1.0) as bar:
        if jobs == 1:
            done: Iterable[Any] = ((i, measure(one, probes)) for i, one in enumerate(runs))
        else:
            done = joblib.Parallel(n_jobs=jobs, return_as="generator_unordered", batch_size=1)(
                joblib.delayed(_numbered)(i, one, probes, environment) for i, one in enumerate(runs)
            )
        for i, rows in done:
            tables[i] = rows
            bar.update()
    found = [row for rows in tables if rows for row in rows]
    frame = pd.DataFrame([{k: math.nan if v is None else v for k, v in row.items()} for row in found])
    if not by_gap:
        frame = _pool_gaps(frame)
    runtime.session.tables[name] = frame
    return frame


def _pool_gaps(frame: pd.DataFrame) -> pd.DataFrame:
    """Add up the octaves of the gap, so that each run, probe and length has one row; the gap is then 0."""
    counts = [name for name in COUNTS if name in frame.columns]
    keys = [name for name in frame.columns if name not in ("gap", *counts)]
    pooled = frame.groupby(keys, sort=False, dropna=False)[counts].sum(min_count=1).reset_index()
    return pooled.assign(gap=0)[list(frame.columns)]


def _numbered(
    i: int, run: Run, probes: Sequence[Probe], environment: dict[str, str]
) -> tuple[int, list[dict[str, Any]]]:
    return i, _work(run, probes, environment)
