"""Where a run happens: device, scale, threads, cache folder, and the clock of a chapter.

`at()` is the only place where a chapter names a scale, so the same cell serves a test, a laptop and a GPU.
"""

from __future__ import annotations

import functools
import os
import platform
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import joblib
import pandas as pd
import torch
from tqdm import tqdm

from lcbook import progress, turns

SCALES = ("smoke", "live", "full", "gpu")
BUDGET_SECONDS = {"smoke": 10, "live": 120, "full": 3600, "gpu": 600}


@dataclass(frozen=True)
class Renewal:
    """How a table is made anew: on which seeds, of which arms (None: of all).

    Where an arm has several values of the column `choose` ("": none), one is chosen on seeds of their own beforehand.
    """

    seeds: tuple[int, ...]
    arms: tuple[str, ...] | None = None
    choose: str = ""


@dataclass
class Session:
    """What the running chapter has produced so far: its tables by name and its judged claims.

    `designs` holds, for each table, a digest of everything that determined it. `resumed` tells that some runs came
    from the cache, so that the time taken is not the time needed. `replayed` are the tables of a committed run that
    stand in for new ones, all but the `renewed`, which are made. `seeds` are those that take the place of the
    chapter's (None: its own). `clock` is that of an earlier run, `filed` when this one had each table (seconds).
    """

    chapter: str = ""
    started: float = field(default_factory=time.perf_counter)
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    designs: dict[str, str] = field(default_factory=dict)
    verdicts: list[Any] = field(default_factory=list)
    resumed: bool = False
    replayed: Mapping[str, pd.DataFrame] | None = None
    renewed: Mapping[str, Renewal] = field(default_factory=dict)
    making: str = ""
    seeds: tuple[int, ...] | None = None
    clock: progress.Clock | None = None
    filed: dict[str, float] = field(default_factory=dict)

    @property
    def elapsed(self) -> float:
        """Seconds since the chapter began."""
        return time.perf_counter() - self.started

    def words(self, name: str, part: float) -> str:
        """Return where the chapter stands when `part` (0 to 1) of the table `name` is done, in words."""
        elapsed = None if self.resumed else self.elapsed
        return self.clock.words(name, part, elapsed, cores()) if self.clock else ""

    @contextmanager
    def made(self, name: str) -> Iterator[None]:
        """Let nothing be replayed while the table `name` is made; `making` goes on naming it where that fails."""
        replayed, self.replayed, self.making = self.replayed, None, name
        yield
        self.replayed, self.making = replayed, ""

    def file(self, name: str, design: str, make: Callable[[], pd.DataFrame]) -> pd.DataFrame:
        """File the table that `make` gives as `name`, with the digest of what determines it, and return it.

        In a replay the table is the committed one, empty if there is none, unless it is renewed.
        """
        if self.replayed is None:
            table = make()
        elif name in self.renewed:
            with self.made(name):
                table = make()
        else:
            table = self.replayed.get(name, pd.DataFrame()).copy()
        table.attrs["design"] = design
        self.designs[name], self.tables[name], self.filed[name] = design, table, self.elapsed
        return table


session = Session()


def scale() -> str:
    """Return the scale in force: `LCBOOK_SCALE` if set, else "gpu" where CUDA is there, else "live".

    Raises ValueError if `LCBOOK_SCALE` names no scale.
    """
    named = os.environ.get("LCBOOK_SCALE", "")
    if not named:
        return "gpu" if torch.cuda.is_available() else "live"
    if named not in SCALES:
        raise ValueError(f"LCBOOK_SCALE is {named!r}; allowed are {', '.join(SCALES)}.")
    return named


@contextmanager
def at_scale(name: str) -> Iterator[None]:
    """Let `name` be the scale in force, and that of before afterwards: what is judged was measured at its own."""
    before = os.environ.get("LCBOOK_SCALE")
    os.environ["LCBOOK_SCALE"] = name
    try:
        yield
    finally:
        if before is None:
            del os.environ["LCBOOK_SCALE"]
        else:
            os.environ["LCBOOK_SCALE"] = before


def at(**by_scale: Any) -> Any:
    """Return the value for the scale in force; a missing one falls back to the nearest on its left.

    `at(smoke=1, live=5)` is 1 at smoke and 5 at live, full and gpu. Where nothing stands on the left, the
    first value on the right is taken. Raises ValueError for a scale that does not exist, or for none.
    """
    unknown = sorted(set(by_scale) - set(SCALES))
    if unknown or not by_scale:
        raise ValueError(f"at() got {unknown or 'no scale'}; allowed are {', '.join(SCALES)}.")
    here = SCALES.index(scale())
    left = [name for name in SCALES[: here + 1] if name in by_scale]
    right = [name for name in SCALES[here + 1 :] if name in by_scale]
    return by_scale[left[-1] if left else right[0]]


def seeds(count: int) -> list[int]:
    """Return the seeds of `count` runs that differ in nothing else: 0, 1, ..., or those that the session has set."""
    return list(range(count) if session.seeds is None else session.seeds)


def doubling(start: int, stop: int) -> tuple[int, ...]:
    """Return start, 2 start, 4 start, ... up to and including `stop` if it is reached exactly.

    Raises ValueError unless 1 <= start <= stop.
    """
    if not 1 <= start <= stop:
        raise ValueError(f"doubling() got start {start} and stop {stop}; allowed is 1 <= start <= stop.")
    lengths = []
    while start <= stop:
        lengths.append(start)
        start *= 2
    return tuple(lengths)


def device() -> torch.device:
    """Return the device that runs compute on: CUDA at gpu scale where it is there, else the CPU."""
    return torch.device("cuda" if scale() == "gpu" and torch.cuda.is_available() else "cpu")


def device_name() -> str:
    """Return the name under which this machine's results are filed: "cpu", or the GPU's own name as a slug."""
    if device().type == "cpu":
        return "cpu"
    return torch.cuda.get_device_name().lower().replace(" ", "-")


def device_description() -> str:
    """Return the machine in words, for provenance and for the line that `setup` prints."""
    if device().type == "cuda":
        return torch.cuda.get_device_name()
    return f"CPU, {_cores_there()} cores, {platform.machine()}"


def _cores_there() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cores() -> int:
    """Return the number of cores to compute on: `LCBOOK_CORES` if set, else those that this process may use.

    Chapters that run side by side are given a share each. Raises ValueError if `LCBOOK_CORES` is no number of cores.
    """
    named = os.environ.get("LCBOOK_CORES", "")
    if not named:
        return _cores_there()
    if not named.isdecimal() or int(named) < 1:
        raise ValueError(f"LCBOOK_CORES is {named!r}; allowed is a whole number from 1.")
    return int(named)


@functools.cache
def end_with_parent() -> None:
    """Let this worker end within a second of the process that started it, however that ended."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute on one thread, as it was before afterwards: sums then have the same order everywhere."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def over(
    function: Callable[[Any], Any], items: Sequence[Any], *, name: str, workers: int | None = None
) -> list[Any]:
    """Return `function(item)` for each of `items`, in their order, computed in parallel over processes.

    There are `workers` processes of one thread each, else one a core, and this process alone on a GPU and at smoke
    scale. What is timed in another process with this cache computes first. A progress bar is called `name`.
    """
    alone = device().type == "cuda" or scale() == "smoke"
    jobs = workers or (1 if alone else min(cores(), len(items)))
    done: list[Any] = [None] * len(items)
    with tqdm(total=len(items), desc=name, unit="run", mininterval=1.0) as bar:
        bar.set_postfix_str(session.words(name, 0.0))
        if jobs == 1:
            found: Any = (_in_turn(function, i, item) for i, item in enumerate(items))
        else:
            environment = {"LCBOOK_SCALE": scale(), "LCBOOK_CACHE": str(cache_dir())}
            found = joblib.Parallel(n_jobs=jobs, return_as="generator_unordered", batch_size=1)(
                joblib.delayed(_worked)(function, i, item, environment) for i, item in enumerate(items)
            )
        for i, result in found:
            done[i] = result
            bar.set_postfix_str(session.words(name, (bar.n + 1) / len(items)), refresh=False)
            bar.update()
    return done


def _worked(
    function: Callable[[Any], Any], i: int, item: Any, environment: dict[str, str]
) -> tuple[int, Any]:
    end_with_parent()
    os.environ.update(environment)
    torch.set_num_threads(1)
    return _in_turn(function, i, item)


def _in_turn(function: Callable[[Any], Any], i: int, item: Any) -> tuple[int, Any]:
    with turns.beside(cache_dir()):
        return i, function(item)


def cache_dir() -> Path:
    """Return the folder of cached runs and live verdicts: `LCBOOK_CACHE`, else ~/.cache/lcbook. Not created here."""
    return Path(os.environ.get("LCBOOK_CACHE") or Path.home() / ".cache" / "lcbook")


def setup(chapter: str) -> None:
    """Begin a chapter: start its clock, forget earlier tables, and print device, scale and the time it will take."""
    global session
    kept = {name: getattr(session, name) for name in ("replayed", "renewed", "seeds")}
    clock = session.clock if session.renewed else progress.find(chapter, scale(), cache_dir())
    session = Session(chapter, **kept, clock=clock)
    torch.set_num_threads(cores())
    torch.set_float32_matmul_precision("highest")
    budget = BUDGET_SECONDS[scale()]
    about = f"about {clock.expected(cores()):.0f} s here from a cold cache, " if clock else ""
    print(f"{chapter}: {device_description()}; scale {scale()}; {about}budget {budget} s")


def finish() -> None:
    """End a chapter: print the time it took beside its budget, and keep it for the next time's progress bar."""
    taken = session.elapsed
    if not session.resumed and session.replayed is None:
        filed = {name: round(when, 1) for name, when in session.filed.items()}
        clock = progress.Clock(filed, round(taken, 1), progress.pace(), cores())
        progress.keep(clock, session.chapter, scale(), cache_dir())
    print(f"{session.chapter}: {taken:.0f} s of {BUDGET_SECONDS[scale()]} s at scale {scale()}")
