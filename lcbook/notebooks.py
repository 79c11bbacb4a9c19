"""The chapters' notebooks: where they lie, and their cells run without Jupyter, in full or with stored tables."""

from __future__ import annotations

import contextlib
import io
import json
import linecache
from collections.abc import Iterator
from pathlib import Path
from types import CodeType
from typing import Any

import matplotlib
import matplotlib.pyplot as plt

from lcbook import runtime

# Cells that need a notebook, or that a reader fills in.
NOT_RUN = {"colab", "exercise", "solution"}


def folder() -> Path:
    """Return the folder of notebooks: `chapters` here or beside the package. Raises ValueError if there is none."""
    for one in (Path.cwd() / "chapters", Path(__file__).resolve().parent.parent / "chapters"):
        if one.is_dir():
            return one
    raise ValueError("There is no folder 'chapters' here; run this in a checkout of the book.")


def find(number: str) -> Path:
    """Return the notebook whose name begins with `number`. Raises ValueError, listing the chapters, if none does."""
    notebooks = sorted(folder().glob("*.ipynb"))
    found = [path for path in notebooks if path.stem == number or path.stem.startswith(f"{number}_")]
    if len(found) != 1:
        names = ", ".join(path.stem for path in notebooks)
        raise ValueError(f"chapter is {number!r}; allowed are {names} (or the number alone).")
    return found[0]


def _cells(path: Path) -> list[dict[str, Any]]:
    return json.loads(path.read_text(encoding="utf8"))["cells"]


def title(path: Path) -> str:
    """Return the first heading of a notebook."""
    for cell in _cells(path):
        for line in "".join(cell["source"]).splitlines():
            if cell["cell_type"] == "markdown" and line.startswith("# "):
                return line[2:]
    return path.stem


def _code(path: Path, leave_out: set[str]) -> Iterator[CodeType]:
    """Yield the code of each cell, whose text tracebacks and the digest of a reader's own class then find."""
    for number, cell in enumerate(_cells(path)):
        if cell["cell_type"] == "code" and not leave_out & set(cell["metadata"].get("tags", [])):
            name, source = f"{path.name} cell {number}", "".join(cell["source"])
            linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
            yield compile(source, name, "exec")


def run(path: Path) -> None:
    """Execute the code cells of a notebook in order, as a reader would, with no Jupyter and no screen."""
    matplotlib.use("agg")
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for code in _code(path, NOT_RUN):
        exec(code, namespace)
        plt.close("all")


def replay(path: Path, session: runtime.Session) -> tuple[runtime.Session, list[str]]:
    """Execute the cells of a notebook in a session that replays tables; return it, and what was left out and why.

    A cell that needs more than a table, a trained model say, is left out, and so are the claims. Nothing is printed.
    What fails while a table is made is raised.
    """
    matplotlib.use("agg")
    runtime.session, left_out = session, []
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for code in _code(path, NOT_RUN | {"claim"}):
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                exec(code, namespace)
        except Exception as error:
            if runtime.session.making:
                raise
            left_out.append(f"{code.co_filename}: {error!r}")
        plt.close("all")
    found, runtime.session = runtime.session, runtime.Session()
    return found, left_out
