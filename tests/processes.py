"""Commands that the tests run in an environment of their own."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil

OURS = ("PYTHON", "LCBOOK", "PYTEST", "OMP_", "MPLBACKEND")


def plain() -> dict[str, str]:
    """The environment without what conftest.py and pytest put into it."""
    return {key: value for key, value in os.environ.items() if not key.startswith(OURS)}


def run(command: Sequence[object], environment: dict[str, str], place: Path) -> str:
    """Run a command and return what it prints; fail with all it said."""
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=place, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def awaited(holds: Callable[[], bool]) -> None:
    """Wait until something holds; fail if it does not within a minute."""
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def alive(pid: int) -> bool:
    """Whether a process runs; one that ended and was not collected does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def group(leader: int) -> list[int]:
    """The processes of a group that run."""
    return [pid for pid in psutil.pids() if alive(pid) and os.getpgid(pid) == leader]
