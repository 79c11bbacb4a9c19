"""The command line: list the chapters, run one without Jupyter, print the ledger, time recall, ask a real model.

python -m lcbook chapters | run 01 --scale smoke | claims | bench recall | recall --model hf:PATH --out report
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import linecache
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import CodeType
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import pandas as pd

from lcbook import claims, page, references, runtime
from lcbook.evaluation import bench, command

# Cells that need a notebook, or that a reader fills in.
NOT_RUN = {"colab", "exercise", "solution"}


def chapters_folder() -> Path:
    """Return the folder of notebooks: `chapters` here or beside the package. Raises ValueError if there is none."""
    for folder in (Path.cwd() / "chapters", Path(__file__).resolve().parent.parent / "chapters"):
        if folder.is_dir():
            return folder
    raise ValueError("There is no folder 'chapters' here; run this in a checkout of the book.")


def find_chapter(number: str) -> Path:
    """Return the notebook whose name begins with `number`. Raises ValueError, listing the chapters, if none does."""
    notebooks = sorted(chapters_folder().glob("*.ipynb"))
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


def _compiled(source: str, name: str) -> CodeType:
    """Return the code of a cell, whose text tracebacks and the digest of a reader's own class then find."""
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    return compile(source, name, "exec")


def run_chapter(path: Path) -> None:
    """Execute the code cells of a notebook in order, as a reader would, with no Jupyter and no screen."""
    matplotlib.use("agg")
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for number, cell in enumerate(_cells(path)):
        if cell["cell_type"] == "code" and not NOT_RUN & set(cell["metadata"].get("tags", [])):
            exec(_compiled("".join(cell["source"]), f"{path.name} cell {number}"), namespace)
            plt.close("all")


def _chapters(_: argparse.Namespace) -> None:
    for path in sorted(chapters_folder().glob("*.ipynb")):
        print(f"{path.stem:24} {title(path)}")


def _run(arguments: argparse.Namespace) -> None:
    path = find_chapter(arguments.chapter)
    if arguments.scale:
        os.environ["LCBOOK_SCALE"] = arguments.scale
    scale = runtime.scale()
    started = time.perf_counter()
    run_chapter(path)
    session = runtime.session
    for verdict in session.verdicts:
        print(f"{verdict!r}: {verdict.measured} ({claims.find(verdict.claim).threshold})")
    if scale in ("full", "gpu"):
        stored = [verdict.to_dict() | {"chapter": session.chapter} for verdict in session.verdicts]
        seconds = time.perf_counter() - started
        print(f"wrote {references.save_reference(session.chapter, session.tables, stored, seconds)}")


def replayed_designs(path: Path, tables: dict[str, pd.DataFrame]) -> dict[str, str]:
    """Return the digests of the tables that a chapter would make at the scale in force; nothing is trained or timed.

    `tables` stand in for those that are made. A cell that needs more than a table is left out.
    """
    matplotlib.use("agg")
    runtime.session = runtime.Session(replayed=tables)
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for number, cell in enumerate(_cells(path)):
        if cell["cell_type"] == "code" and not (NOT_RUN | {"claim"}) & set(cell["metadata"].get("tags", [])):
            code = _compiled("".join(cell["source"]), f"{path.name} cell {number}")
            with contextlib.suppress(Exception), contextlib.redirect_stdout(io.StringIO()):
                exec(code, namespace)
    designs, runtime.session = runtime.session.designs, runtime.Session()
    return designs


def _designs(arguments: argparse.Namespace) -> int:
    """Store the digests of a chapter's tables at every scale in its committed runs; 1 if one has none at its own."""
    path, missing = find_chapter(arguments.chapter), []
    for run in references.references(path.stem):
        for scale in runtime.SCALES:
            os.environ["LCBOOK_SCALE"] = scale
            found = replayed_designs(path, run.tables)
            references.save_designs(path.stem, run.device, scale, found)
            if scale == run.provenance["scale"]:
                missing += [f"{run.device}, {scale}: {name}" for name in run.tables if name not in found]
    for line in missing:
        print(f"no design for {line}", file=sys.stderr)
    return 1 if missing else 0


def _claims(_: argparse.Namespace) -> None:
    frame = page.ledger().frame
    print(
        frame.drop(columns=["sentence"]).to_string(index=False) if len(frame) else "No claim was judged yet."
    )


def _bench(arguments: argparse.Namespace) -> None:
    {"recall": bench.recall}[arguments.what]()


def _recall(arguments: argparse.Namespace) -> int:
    matplotlib.use("agg")
    return command.recall(arguments)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status: 0, 2 with one sentence for bad input, 130 after ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m lcbook", description="Run the book without Jupyter.")
    commands = parser.add_subparsers(required=True, metavar="command")
    commands.add_parser("chapters", help="list the chapters").set_defaults(do=_chapters)
    running = commands.add_parser(
        "run", help="run a chapter's experiments; at full and gpu scale, write results/"
    )
    running.add_argument("chapter", help="its number or name, such as 01")
    running.add_argument(
        "--scale", help=f"{', '.join(runtime.SCALES)}; LCBOOK_SCALE or the device decides if not given"
    )
    running.set_defaults(do=_run)
    designing = commands.add_parser(
        "designs", help="store in a chapter's committed runs what its tables are made of, without running it"
    )
    designing.add_argument("chapter", help="its number or name, such as 01")
    designing.set_defaults(do=_designs)
    commands.add_parser("claims", help="print the ledger of claims").set_defaults(do=_claims)
    timing = commands.add_parser("bench", help="time training on a published setting")
    timing.add_argument("what", choices=["recall"], help="multi-query recall to 99 percent")
    timing.set_defaults(do=_bench)
    asking = commands.add_parser("recall", help="test the recall of a real model, and write a report")
    command.add_arguments(asking)
    asking.set_defaults(do=_recall)
    arguments = parser.parse_args(argv)
    try:
        return arguments.do(arguments) or 0
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    except OSError as error:
        print(f"{error}; the same command goes on when that is mended.", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command goes on", file=sys.stderr)
        return 130
