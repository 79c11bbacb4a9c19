"""What a training has learned so far, at several lengths: recall and loss on the answers while it goes on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import joblib
import pandas as pd
import torch
from torch import nn

from lcbook import runtime
from lcbook.experiments.run import Run
from lcbook.experiments.schedules import plan
from lcbook.experiments.train import train
from lcbook.models.decoder import Decoder, build
from lcbook.models.positions import draw_positions
from lcbook.store import cached_rows, digest
from lcbook.tasks.recall import Batch


@torch.no_grad()
def _asked(model: Decoder, batches: Sequence[Batch]) -> list[dict[str, Any]]:
    """Return for each batch its length, the mean loss on its answers in nats, and how many of them are right."""
    model.eval()
    rows = []
    for batch in batches:
        count, length = batch.tokens.shape
        generator = torch.Generator().manual_seed(0)
        positions = draw_positions(model.spec.position, count, length, generator, batch.tokens.device)
        logits, answers = model(batch.tokens, positions, batch.at).flatten(0, 1), batch.answers.flatten()
        loss = nn.functional.cross_entropy(logits, answers).item()
        right = int((logits.argmax(-1) == answers).sum())
        rows.append({"length": length, "loss": loss, "correct": right, "total": len(answers)})
    model.train()
    return rows


def trace(run: Run, lengths: Sequence[int], *, every: int, sequences: int = 64) -> list[dict[str, Any]]:
    """Train `run` once more, bit for bit, and measure it at `lengths` on the way; from the cache if it is there.

    It is measured after the first update, after each `every` and after the last, on the same `sequences` each time. A
    row a moment and length: update, trained_at (length of that update's sequences), length, loss (nats an answer),
    correct, total. Raises ValueError for an `every` below 1 or no lengths.
    """
    if every < 1 or not lengths:
        raise ValueError(
            f"every is {every} and lengths {tuple(lengths)}; allowed are 1 or more and one length or more."
        )
    key = digest("trace", run, tuple(lengths), every, sequences, runtime.device().type)
    path = runtime.cache_dir() / "rows" / f"{key}.json"
    return cached_rows(path, lambda: _traced(run, lengths, every, sequences))


def _traced(run: Run, lengths: Sequence[int], every: int, sequences: int) -> list[dict[str, Any]]:
    task, device = run.spec.task, runtime.device()
    model = build(run.spec.model, task.vocabulary, run.seed).to(device)
    batches = [
        task.sample(sequences, n, torch.Generator().manual_seed(run.seed + 1)).to(device) for n in lengths
    ]
    planned = plan(run.spec.train, run.seed)
    rows: list[dict[str, Any]] = []

    def look(update: int, _: float) -> bool:
        if update in (1, len(planned)) or update % every == 0:
            found = _asked(model, batches)
            rows.extend({"update": update, "trained_at": planned[update - 1].length, **one} for one in found)
        return False

    with runtime.one_thread():
        train(model, task, run.spec.train, seed=run.seed, until=look)
    return rows


def traces(runs: Sequence[Run], lengths: Sequence[int], *, every: int, name: str) -> pd.DataFrame:
    """Return the traces of all `runs` as one tidy frame with the columns arm and seed, and file it as `name`.

    Runs go in parallel, one thread each, and one after another on a GPU and at smoke scale. Raises ValueError for no
    runs, and as `trace`.
    """
    if not runs:
        raise ValueError(f"traces {name!r} got no runs; allowed is one or more.")
    alone = runtime.device().type == "cuda" or runtime.scale() == "smoke"
    jobs = 1 if alone else min(runtime.cores(), len(runs))
    found = joblib.Parallel(n_jobs=jobs)(joblib.delayed(trace)(run, lengths, every=every) for run in runs)
    rows = [
        {
            "arm": run.arm,
            "seed": run.seed,
            "train.length": run.spec.train.length,
            "chance": run.spec.task.chance,
            **row,
        }
        for run, part in zip(runs, found, strict=True)
        for row in part
    ]
    frame = pd.DataFrame(rows)
    runtime.session.tables[name] = frame
    return frame
