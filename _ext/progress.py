"""Sphinx extension: say which chapter runs and how long it took, while the rest of a build stays quiet."""

from __future__ import annotations

import logging
import re
import sys
from pathlib import Path

from sphinx.application import Sphinx

BUDGET_SECONDS = 120


# Sphinx puts the place of a message before it.
MESSAGE = re.compile(
    r"(?P<path>.*\.ipynb): (?P<what>Executing|Executed|Using cached) notebook(?: in (?P<seconds>[\d.]+))?"
)


class Progress(logging.Handler):
    """Turns the messages of myst-nb into one line when a chapter starts and one when it is done."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print a line for the messages about execution; let every other pass."""
        if not (message := MESSAGE.match(record.getMessage())):
            return
        chapter = Path(message["path"]).stem
        if message["what"] == "Executing":
            self.say(f"{chapter}: running, budget {BUDGET_SECONDS} s on two cores")
        elif message["what"] == "Executed":
            self.say(f"{chapter}: took {float(message['seconds']):.0f} s, budget {BUDGET_SECONDS} s")
        else:
            self.say(f"{chapter}: unchanged, outputs from the cache")

    def say(self, line: str) -> None:
        """Write to standard error, which a quiet build leaves alone."""
        print(f"  {line}", file=sys.stderr, flush=True)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the extension."""
    logger = logging.getLogger("sphinx")
    logger.handlers = [handler for handler in logger.handlers if not isinstance(handler, Progress)]
    logger.addHandler(Progress(level=logging.INFO))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
