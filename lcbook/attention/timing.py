"""Timing: what forms of attention take on this machine, in seconds and bytes, beside their closed forms.

The unit of evidence is the round. In each round every form is timed once at every length, so that whatever else the
machine does hits all of them alike; intervals are over rounds. On the CPU the seconds are those that one core spends
on the call: a core that other programs hold meanwhile does not count, and no thread waits for another. The runs of
other notebooks with this cache pause meanwhile, since a neighbour slows the memory that cores share.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from lcbook import runtime, turns
from lcbook.attention.backends import Form, attention_by
from lcbook.attention.costs import AttentionCost, Machine, attention_cost, roofline_seconds
from lcbook.formats import label
from lcbook.stats.bootstrap import Number
from lcbook.store import cached_rows, digest

__all__ = [
    "Machine", "Timing", "bandwidth", "machine", "matmul_rate", "peak_bytes",
]  # fmt: skip

MOST_REPEATS, SHORT = 10, 0.02  # calls are repeated in a round for so many seconds, and the best counts
UPDATE = 3  # operations of forward and backward over those of forward, as in costs.training_flops
COLUMNS = [
    "arm",
    "length",
    "seed",
    "seconds",
    "peak_bytes",
    "flops",
    "bytes",
    "model_peak_bytes",
    "roofline_seconds",
]


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _clock(call: Callable[[], Any], device: torch.device, repeats: int = 1) -> float:
    """Return the least of `repeats` durations of `call` in seconds: CPU time of the process, or wall time on a GPU."""
    now, best = time.perf_counter if device.type == "cuda" else time.process_time, math.inf
    for _ in range(repeats):
        _wait(device)
        started = now()
        call()
        _wait(device)
        best = min(best, now() - started)
    return best


def matmul_rate(size: int = 1024, repeats: int = 8, *, device: str = "cpu") -> float:
    """Return the best rate of a square float32 matrix product, in operations a second, with the threads in use."""
    left, right = torch.randn(2, size, size, device=device)
    return 2 * size**3 / _clock(lambda: left @ right, torch.device(device), repeats + 1)


def bandwidth(size: int = 2**28, repeats: int = 5, *, device: str = "cpu") -> float:
    """Return the best rate of copying `size` bytes, in bytes read and written a second, with the threads in use."""
    source = torch.ones(size // 4, device=device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / _clock(lambda: target.copy_(source), torch.device(device), repeats + 1)


def machine() -> Machine:
    """Measure the device that runs compute on, a GPU or one core, in about a second.

    The rate is that of the best of a few float32 matrix products (larger on a GPU), the bandwidth that of a large copy.
    """
    device, sizes = runtime.device().type, (4096, 8192) if runtime.device().type == "cuda" else (768, 1024)
    with runtime.one_thread(), turns.alone(runtime.cache_dir()):
        rate = max(matmul_rate(size, 5, device=device) for size in sizes)
        return Machine(rate, bandwidth(2**30 if device == "cuda" else 2**28, device=device))


def peak_bytes(call: Callable[[], Any]) -> int:
    """Return the most bytes of tensors alive at once during `call` beyond those alive before it.

    What `call` returns counts, and what was there before is taken to stay. On a GPU the allocator tells (memory of the
    device alone); on the CPU the profiler's record of every allocation, also of those inside an operator, is added up
    in the order of time.
    """
    device = runtime.device()
    if device.type == "cuda":
        _wait(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        kept = call()
        _wait(device)
        peak = torch.cuda.max_memory_allocated(device) - before
        del kept
        return peak
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else the profiler writes to stderr
    with torch.autograd.profiler.profile(profile_memory=True) as record:
        kept = call()
    del kept
    assert record.kineto_results is not None  # it is there once the record has ended
    events = [event for event in record.kineto_results.events() if event.name() == "[memory]"]
    changes = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
    return max(0, int(np.cumsum(changes).max())) if changes else 0


def _job(form: Form, inputs: Float[Tensor, "4 b h s d"], backward: bool) -> Callable[[], Any]:
    """Return a call that computes `form` once on q, k, v, the first three of `inputs`; the fourth is the gradient."""
    compute, (q, k, v, upstream) = attention_by(form), inputs
    if not backward:
        return torch.no_grad()(lambda: compute(q, k, v))
    leaves = [x.detach().requires_grad_() for x in (q, k, v)]
    return lambda: torch.autograd.grad(compute(*leaves), leaves, upstream)


@dataclass(frozen=True)
class _Cell:
    """A form at a length: the call, how often to time it in a round, and what is the same in every round."""

    job: Callable[[], Any]
    repeats: int
    row: dict[str, Any]


def _cells(
    forms: Sequence[Form],
    lengths: Sequence[int],
    shape: tuple[int, int],
    backward: bool,
    most_bytes: Number,
    most_seconds: Number,
) -> list[_Cell]:
    """Return what is timed, by length and then form: all but what would exceed the limits, each tried once."""
    here, device, factor = machine(), runtime.device(), UPDATE if backward else 1
    ended: set[Form] = set()
    last: dict[Form, tuple[float, float]] = {}  # seconds and operations at the length before
    found = []
    for length in lengths:
        generator = torch.Generator().manual_seed(length)
        inputs = torch.randn(4, 1, shape[0], length, shape[1], generator=generator).to(device)
        for form in forms:
            one = attention_cost(form, length=length, heads=shape[0], head_dim=shape[1])
            grown = last[form][0] * one.flops / last[form][1] if form in last else 0.0
            if factor * one.peak_bytes > most_bytes or grown > most_seconds:
                ended.add(form)
            if form in ended:
                continue
            job = _job(form, inputs, backward)
            first = _clock(job, device)  # it pays for compilation and for fresh pages of memory
            seconds = min(first, _clock(job, device))
            last[form] = seconds, one.flops
            cost = AttentionCost(factor * one.flops, factor * one.bytes, one.peak_bytes)
            row = {"arm": label(form), "length": length, "peak_bytes": peak_bytes(job), "flops": cost.flops}
            row |= {"bytes": cost.bytes, "model_peak_bytes": math.nan if backward else cost.peak_bytes}
            row["roofline_seconds"] = roofline_seconds(cost, here)
            found.append(_Cell(job, min(MOST_REPEATS, max(1, int(SHORT / seconds))), row))
    return found


@dataclass(frozen=True)
class Timing:
    """Each form timed at each length in each round: `measure` gives the tidy frame.

    With `backward` a call computes the three gradients too. A length is left out for a form, and all longer ones, so
    that its line ends, where the closed form of the peak (with `backward`: three times that) exceeds `most_bytes`, or
    where the time at the length before, grown as the operations do, exceeds `most_seconds` for one call. Inputs are
    float32, one sequence; on the CPU one core is used. Raises ValueError for no form, two forms of one label, lengths
    that do not rise, or fewer than one round.
    """

    forms: tuple[Form, ...]
    lengths: tuple[int, ...]
    heads: int = 1
    head_dim: int = 64
    rounds: int = 5
    backward: bool = False
    most_bytes: Number = 2**31
    most_seconds: Number = 2.0

    def __post_init__(self) -> None:
        names = [label(form) for form in self.forms]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"forms is {names}; allowed is at least one form, each label once.")
        if not self.lengths or list(self.lengths) != sorted(set(self.lengths)):
            raise ValueError(f"lengths is {list(self.lengths)}; allowed are rising lengths, at least one.")
        if self.rounds < 1:
            raise ValueError(f"rounds is {self.rounds}; allowed is 1 or more.")

    def measure(self) -> pd.DataFrame:
        """Return one row a form, length and round.

        Columns: arm (the form's label), length, seed (the round), seconds (of one call, the best of a few for short
        calls), peak_bytes (see `peak_bytes`; measured once a form and length), and the closed forms flops, bytes,
        model_peak_bytes and roofline_seconds on this machine as measured. With `backward`, flops and bytes are three
        times those of forward, and model_peak_bytes is NaN. What was timed is kept in the cache, by machine, version of
        PyTorch and the session's seeds, and not timed again. Raises ValueError for limits that leave nothing.
        """
        names = [label(form) for form in self.forms]
        own = [] if runtime.session.seeds is None else [runtime.session.seeds]
        key = digest("timing", self, *own, runtime.device_description(), torch.__version__)
        path = runtime.cache_dir() / "timings" / f"{key}.json"
        frame = pd.DataFrame(cached_rows(path, self._rows), columns=COLUMNS)
        frame = frame.sort_values(
            ["arm", "length", "seed"], key=lambda c: c.map(names.index) if c.name == "arm" else c
        )
        return frame.reset_index(drop=True)

    def _rows(self) -> list[dict[str, Any]]:
        found, shape = [], (self.heads, self.head_dim)
        with runtime.one_thread(), turns.alone(runtime.cache_dir()):
            cells = _cells(self.forms, self.lengths, shape, self.backward, self.most_bytes, self.most_seconds)
            if not cells:
                raise ValueError(
                    f"most_bytes is {self.most_bytes}; allowed is enough for one form at {self.lengths[0]} tokens."
                )
            for seed in tqdm(runtime.seeds(self.rounds), desc="timing", unit="round", mininterval=1.0):
                for cell in cells if seed % 2 == 0 else cells[::-1]:
                    seconds = _clock(cell.job, runtime.device(), cell.repeats)
                    found.append({**cell.row, "seed": seed, "seconds": seconds})
        return found
