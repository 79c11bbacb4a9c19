"""Progress: how far a chapter is, and when it will be done on this machine, told from the times of an earlier run.

The times are those of this machine's last run from a cold cache or, before there is one, those in clocks.json, which
`make execute` writes. They are words beside a progress bar, and no number of the book.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

SHIPPED = Path(__file__).with_name("clocks.json")


def span(seconds: float) -> str:
    """Return a time in words: "12 s", or "1.8 hours" from an hour and a half on."""
    return f"{seconds:.0f} s" if seconds < 5400 else f"{seconds / 3600:.1f} hours"


@dataclass(frozen=True)
class Clock:
    """When a run of a chapter from a cold cache had each table, and its end, in seconds; and where it ran.

    `pace` is the time of a fixed piece of work on one core, `cores` the number of cores.
    """

    tables: dict[str, float]
    total: float
    pace: float
    cores: int

    def expected(self, cores: int) -> float:
        """Return about how many seconds the chapter will take here: runs side by side take less on more cores."""
        return self.total * pace() / self.pace * min(2.0, max(0.5, self.cores / cores))

    def share(self, name: str, part: float) -> float:
        """Return how much of the chapter is done with `part` (0 to 1) of the table `name`; NaN for another table."""
        if name not in self.tables:
            return float("nan")
        before = max((when for when in self.tables.values() if when < self.tables[name]), default=0.0)
        return (before + part * (self.tables[name] - before)) / self.total

    def words(self, name: str, part: float, elapsed: float | None, cores: int) -> str:
        """Return where a chapter stands after `elapsed` seconds, in words; none for a table that is not of it.

        None for `elapsed`: a part was there before, so that this run does not tell its pace.
        """
        share = self.share(name, part)
        if not 0 <= share <= 1:
            return ""
        if elapsed is None:
            left = (1 - share) * self.expected(cores)
        else:
            known = min(1.0, share / 0.1)  # from a tenth on, this run itself tells its pace
            left = (1 - known) * self.expected(cores) + known * elapsed / max(share, 1e-9) - elapsed
        return f"chapter {share:.0%}, about {span(max(left, 0))} left"


@functools.cache
def pace() -> float:
    """Return the seconds that this machine takes for a fixed piece of work on one core, the best of five."""
    threads, x = torch.get_num_threads(), torch.ones(128, 128)
    torch.set_num_threads(1)
    times = []
    for _ in range(5):
        started = time.perf_counter()
        for _ in range(50):
            x = (x @ x).softmax(-1)
        times.append(time.perf_counter() - started)
    torch.set_num_threads(threads)
    return min(times)


def find(chapter: str, scale: str, cache: Path) -> Clock | None:
    """Return the clock of a chapter at a scale: this machine's own, else the shipped one, None if there is none."""
    for path, key in ((cache / "clocks" / f"{chapter}-{scale}.json", ""), (SHIPPED, f"{chapter}-{scale}")):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
            stored = json.loads(path.read_text("utf8"))
            clock = Clock(**(stored[key] if key else stored))
            if clock.total > 0 and clock.pace > 0 and clock.cores > 0:
                return clock
    return None


def keep(clock: Clock, chapter: str, scale: str, cache: Path) -> None:
    """Store a clock as this machine's own; a folder that cannot be written is left alone."""
    path = cache / "clocks" / f"{chapter}-{scale}.json"
    part = path.with_suffix(f".{os.getpid()}.part")
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps(asdict(clock)), "utf8")
        part.replace(path)
