"""What it costs to read a text piece by piece: seconds and peak memory against its length."""

from __future__ import annotations

import time
from collections.abc import Sequence

import pandas as pd
import torch

from lcbook import runtime
from lcbook.attention.timing import peak_bytes
from lcbook.experiments.run import Run, trained_model
from lcbook.experiments.streaming import answers, draw, kinds_of
from lcbook.store import cached_rows, digest
from lcbook.tasks.recall import KeyValueRecall


def stream_costs(
    run: Run, task: KeyValueRecall, lengths: Sequence[int], *, rounds: int = 5, name: str
) -> pd.DataFrame:
    """Time how the trained model of `run` reads a text of each length and answers its questions, on one core.

    One row a length and round (seed): arm, length, seed, seconds (of one core; wall seconds on a GPU), peak_bytes (of
    tensors alive at once, once a length), correct and total. Drawing the text is part of it. Cached as timings are.
    Raises ValueError as `streaming.draw` and `streaming.kinds_of` do, and for fewer than one round.
    """
    if rounds < 1:
        raise ValueError(f"rounds is {rounds}; allowed is 1 or more.")
    what = (run, task, tuple(lengths), rounds, runtime.device_description(), torch.__version__)
    kinds = kinds_of(trained_model(run)[0])

    def read(length: int, seed: int) -> int:
        text = draw(task, length, torch.Generator().manual_seed(seed))
        found = [int(reply.logits.argmax()) for reply in answers(kinds, text)]
        return sum(a == b for a, b in zip(found, text.batch.answers[0].tolist(), strict=True))

    def compute() -> list[dict[str, object]]:
        clock = time.perf_counter if runtime.device().type == "cuda" else time.process_time
        rows: list[dict[str, object]] = []
        with runtime.one_thread():
            for length in lengths:
                peak = peak_bytes(lambda length=length: read(length, rounds))  # type: ignore[misc]
                for seed in range(rounds):
                    started = clock()
                    correct = read(length, seed)
                    row = {"arm": run.arm, "length": length, "seed": seed, "seconds": clock() - started}
                    rows.append({**row, "peak_bytes": peak, "correct": correct, "total": task.queries})
        return rows

    path = runtime.cache_dir() / "timings" / f"{digest('stream', *what)}.json"
    frame = pd.DataFrame(cached_rows(path, compute))
    runtime.session.tables[name] = frame
    return frame
