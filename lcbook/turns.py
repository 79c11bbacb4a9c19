"""Turns: what is timed computes alone, and the runs of every process that shares a folder, the cache, wait meanwhile.

Two locked files make the turns. Runs keep the room together; what is timed shuts the door, so that no other run enters,
and then has the room alone. The system frees the locks of a process however it ends. Where files cannot be locked
(Windows, some network disks, a folder that cannot be written) nobody waits.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_mine = threading.local()  # its `turn` is the one that this thread has


@dataclass(frozen=True)
class _Turn:
    """The two files, open, and whether the turn is alone."""

    door: BinaryIO
    room: BinaryIO
    alone: bool

    def wait(self) -> None:
        how = fcntl.LOCK_EX if self.alone else fcntl.LOCK_SH
        fcntl.flock(self.door, how)
        fcntl.flock(self.room, how)
        if not self.alone:
            fcntl.flock(self.door, fcntl.LOCK_UN)

    def leave(self) -> None:
        fcntl.flock(self.room, fcntl.LOCK_UN)
        fcntl.flock(self.door, fcntl.LOCK_UN)


def beside(folder: Path) -> AbstractContextManager[None]:
    """Compute beside the other runs of `folder`, once nothing is timed there. Within a turn it is a part of that."""
    return _turn(folder, alone=False)


def alone(folder: Path) -> AbstractContextManager[None]:
    """Compute alone, once every run of `folder` pauses or has ended. The turn of a run around it is given up for it."""
    return _turn(folder, alone=True)


def pause() -> float:
    """Let what waits to be timed go first, in a turn beside others; return the seconds that this took."""
    turn = getattr(_mine, "turn", None)
    if turn is None or turn.alone:
        return 0.0
    started = time.perf_counter()
    turn.leave()
    turn.wait()
    return time.perf_counter() - started


@contextmanager
def _turn(folder: Path, *, alone: bool) -> Iterator[None]:
    outer = getattr(_mine, "turn", None)
    if fcntl is None or (outer and (outer.alone or not alone)):
        yield
        return
    with ExitStack() as ends:
        if outer:
            outer.leave()
            ends.callback(outer.wait)
        try:
            (folder / "turns").mkdir(parents=True, exist_ok=True)
            door, room = (
                ends.enter_context((folder / "turns" / name).open("ab")) for name in ("door", "room")
            )
            turn = _Turn(door, room, alone)
            turn.wait()
        except OSError:
            turn = None
        ends.callback(setattr, _mine, "turn", outer)
        _mine.turn = turn
        yield
