"""Commands that the tests run in an environment of their own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

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
