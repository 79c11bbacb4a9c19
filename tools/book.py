"""Execute, render and serve the book; the Makefile calls this.

python tools/book.py build                 execute the chapters that changed, side by side, and render _build/html
python tools/book.py html                  render _build/html from the outputs stored in chapters/
python tools/book.py execute [NOTEBOOK]    run chapters in place and store their outputs
python tools/book.py serve PORT            open the built book in the browser
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import http.server
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
import webbrowser
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any

import nbformat

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "_build"
EXECUTED = (
    BUILD / "executed"
)  # each notebook as it was last run here, with the digest of what it was run from
PAGES = BUILD / "pages"  # what Sphinx reads: the sources, the notebooks with outputs
RENDERED = BUILD / "rendered"  # there after a build without warnings: the digest of what makes every page
BUDGET_SECONDS = 120
READS_ALL = ".ledger("  # a page with this call shows what the other notebooks found
COLORS = re.compile(r"\x1b\[[\d;]*m")


def say(text: str, end: str = "\n") -> None:
    """Write to standard error, in colour only where that is a terminal."""
    error = sys.__stderr__ or sys.stderr
    print(text if error.isatty() else COLORS.sub("", text), end=end, file=error, flush=True)


def write(path: Path, data: bytes) -> None:
    """Write a file whole or not at all, and not if it is there already. Raises OSError, which names it."""
    part = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_bytes() != data:
            part.write_bytes(data)
            part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from error


def digest(folders: list[str], *others: str) -> str:
    """Return the digest of every file of some folders, and of some texts."""
    content = hashlib.sha256(json.dumps(others).encode())
    for path in sorted(path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file()):
        if "__pycache__" not in path.parts:
            content.update(str(path.relative_to(ROOT)).encode() + path.read_bytes())
    return content.hexdigest()


# Executing -------------------------------------------------------------------------------------------


class Loop(asyncio.SelectorEventLoop):
    """A loop whose signals stay with Python: nbclient would take ctrl-C for the notebook that began last alone."""

    def add_signal_handler(self, *_: Any, **__: Any) -> None:  # type: ignore[override]
        """Refuse, which nbclient takes for a thread that may not."""
        raise RuntimeError


def code_cells(notebook: Any) -> list[Any]:
    """Return the code cells of a notebook."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def code(notebook: Any) -> str:
    """Return what the outputs of a notebook depend on in its own text."""
    return json.dumps(
        [[cell.source, "raises-exception" in cell.metadata.get("tags", [])] for cell in code_cells(notebook)]
    )


def run(notebooks: dict[Path, Any]) -> list[Path]:
    """Execute notebooks in memory, as many side by side as there are cores; return those that ran to their end.

    The cores are shared out, so that all notebooks together have as many workers and threads as there are cores.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    beside = max(1, min(cores, len(notebooks)))
    each = str(cores // beside)
    environment = {"LCBOOK_CACHE": str(BUILD / "lcbook"), "LCBOOK_CORES": each, "OMP_NUM_THREADS": each}

    async def run_all() -> list[Path]:
        gate = asyncio.Semaphore(beside)
        tasks = [
            run_one(path, notebook, environment | os.environ, gate) for path, notebook in notebooks.items()
        ]
        ended = await asyncio.gather(*tasks)
        return [path for path, whole in zip(notebooks, ended, strict=True) if whole]

    with asyncio.Runner(loop_factory=Loop) as runner:
        return runner.run(run_all())


async def run_one(path: Path, notebook: Any, environment: dict[str, str], gate: asyncio.Semaphore) -> bool:
    """Execute a notebook in memory; False, with what its cell said, if it failed."""
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    where = {"metadata": {"path": str(path.parent)}}
    client = NotebookClient(
        notebook, timeout=1800, record_timing=False, store_widget_state=False, resources=where
    )
    async with gate:
        say(f"  {path.stem}: running, budget {BUDGET_SECONDS} s on two cores")
        started = time.monotonic()
        try:
            await client.async_execute(env=environment, stderr=subprocess.DEVNULL)  # the kernel's own log
        except (CellExecutionError, CellTimeoutError) as error:
            say(f"  {path.stem}: failed\n{error}")
            return False
        except DeadKernelError:
            say(f"  {path.stem}: its kernel died; too little memory kills a kernel without a word")
            return False
        say(f"  {path.stem}: took {time.monotonic() - started:.0f} s, budget {BUDGET_SECONDS} s on two cores")
    tidy(notebook)
    return True


def tidy(notebook: Any) -> None:
    """Drop what changes from run to run or from machine to machine: clocks, progress bars, versions, widgets."""
    notebook.metadata = {
        "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
        "language_info": {"name": "python"},
    } | {
        key: value
        for key, value in notebook.metadata.items()
        if key not in {"kernelspec", "language_info", "widgets"}
    }
    for cell in notebook.cells:
        for key in ("execution", "collapsed", "id", "outputId", "colab", "scrolled"):
            cell.metadata.pop(key, None)
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
            for output in cell.outputs:
                output.get("data", {}).pop("application/vnd.jupyter.widget-view+json", None)


def read(paths: list[Path]) -> dict[Path, Any]:
    """Read notebooks."""
    return {path: nbformat.read(path, as_version=4) for path in paths}


def packed(notebook: Any) -> bytes:
    """Return a notebook as the bytes of its file."""
    nbformat.validate(notebook)
    return f"{nbformat.writes(notebook)}\n".encode()


def readers_last(notebooks: dict[Path, Any]) -> list[dict[Path, Any]]:
    """Part notebooks into those that stand for themselves and those that show what the others found."""
    readers = {path: notebook for path, notebook in notebooks.items() if READS_ALL in code(notebook)}
    return [{path: notebook for path, notebook in notebooks.items() if path not in readers}, readers]


def execute(paths: list[Path]) -> bool:
    """Run notebooks top to bottom at the live scale, in place; one that fails stays as it was."""
    os.environ.setdefault("LCBOOK_SCALE", "live")
    failed = []
    for notebooks in readers_last(read(paths)):
        ended = run(notebooks)
        for path in ended:
            write(path, packed(notebooks[path]))
        failed += [path for path in notebooks if path not in ended]
    for path in failed:
        say(f"{path} stays as it was.")
    if os.environ["LCBOOK_SCALE"] == "live":
        keep_clocks(Path(os.environ.get("LCBOOK_CACHE", BUILD / "lcbook")))
    return not failed


def keep_clocks(cache: Path) -> None:
    """Store when the chapters had their tables, for the progress bars of machines that have not run them yet."""
    shipped = ROOT / "lcbook" / "clocks.json"
    clocks = json.loads(shipped.read_text("utf8")) if shipped.exists() else {}
    clocks |= {
        path.stem: json.loads(path.read_text("utf8")) for path in (cache / "clocks").glob("*-live.json")
    }
    write(shipped, (json.dumps(clocks, indent=1, sort_keys=True) + "\n").encode())


def execute_what_changed() -> bool:
    """Execute the notebooks whose code, or what it reads, is not that of their last execution, into EXECUTED.

    A notebook that shows what the others found comes last, and again whenever one of them ran.
    """
    common = digest(["lcbook", "results"], os.environ.get("LCBOOK_SCALE", ""))
    done: list[str] = []
    for notebooks in readers_last(read(sorted((ROOT / "chapters").glob("*.ipynb")))):
        wanted = {path: digest([], common, code(notebook), *done) for path, notebook in notebooks.items()}
        stale = {
            path: notebook for path, notebook in notebooks.items() if executed_from(path) != wanted[path]
        }
        for path in notebooks.keys() - stale.keys():
            say(f"  {path.stem}: unchanged")
        ended = run(stale) if stale else []
        for path in ended:
            stale[path].metadata["executed_from"] = wanted[path]
            write(EXECUTED / path.name, packed(stale[path]))
        if len(ended) < len(stale):
            return False
        done = [(EXECUTED / path.name).read_text("utf8") for path in notebooks]
    return True


def executed_from(path: Path) -> str | None:
    """Return the digest of what a notebook was last executed from, None if it was not."""
    try:
        return json.loads((EXECUTED / path.name).read_text("utf8"))["metadata"]["executed_from"]
    except (OSError, ValueError, KeyError):
        return None


# Rendering -------------------------------------------------------------------------------------------


class Said(io.TextIOBase):
    """What Sphinx says, printed as it comes, with the places named as the sources are.

    An exception ends it: what follows is the traceback of a library.
    """

    ended = False

    def write(self, text: str) -> int:
        """Print a part of what is said."""
        self.ended = self.ended or "Exception occurred:" in text
        if not self.ended:
            say(text.replace(f"{PAGES}{os.sep}", ""), end="")
        return len(text)


def lay_out(outputs: Path) -> None:
    """Lay the sources into PAGES, the notebooks with the outputs that they have in the folder `outputs`."""
    sources = [ROOT / "references.bib", *(ROOT / "assets").rglob("*"), *(ROOT / "chapters").iterdir()]
    kept = set()
    for path in sources:
        if path.is_file():
            page = PAGES / path.relative_to(ROOT)
            write(page, with_outputs(path, outputs) if path.suffix == ".ipynb" else path.read_bytes())
            kept.add(page)
    for page in PAGES.rglob("*"):
        if page.is_file() and page not in kept:
            page.unlink()


def with_outputs(path: Path, outputs: Path) -> bytes:
    """Return a notebook with the outputs that it has in another folder, in which its prose may be older."""
    notebook, ran = (nbformat.read(folder / path.name, as_version=4) for folder in (path.parent, outputs))
    for cell, other in zip(code_cells(notebook), code_cells(ran), strict=True):
        cell.outputs, cell.execution_count = other.outputs, other.execution_count
    return packed(notebook)


def render(outputs: Path) -> bool:
    """Render the site with the outputs in the folder `outputs`; False if there was an error or a warning."""
    from jupyter_book.sphinx import build_sphinx

    lay_out(outputs)
    # Sphinx does not see a change of what makes every page, nor repeat warnings of pages that it holds to be rendered.
    maker = digest(["_ext"], *((ROOT / name).read_text("utf8") for name in ("_config.yml", "_toc.yml")))
    again = not RENDERED.exists() or RENDERED.read_text() != maker
    RENDERED.unlink(missing_ok=True)
    overrides = {"external_toc_path": (ROOT / "_toc.yml").as_posix(), "latex_individualpages": False}
    with redirect_stderr(Said()), redirect_stdout(io.StringIO()):
        result = build_sphinx(
            PAGES,
            BUILD / "html",
            noconfig=True,
            path_config=ROOT / "_config.yml",
            confoverrides=overrides,
            force_all=again,
            quiet=True,
            warningiserror=True,
            keep_going=True,
        )
    if isinstance(result, (KeyboardInterrupt, OSError)):
        raise result
    if result:
        detail = f" ({result!r})" if isinstance(result, Exception) else ""
        say(f"The book did not build without errors and warnings; they are above{detail}.")
        return False
    write(RENDERED, maker.encode())
    return True


# The commands ----------------------------------------------------------------------------------------


def build(*, execution: bool) -> bool:
    """Render the site, executing what changed before, and print what that took."""
    started = time.monotonic()
    say("Building the book")
    if not (
        (not execution or execute_what_changed()) and render(EXECUTED if execution else ROOT / "chapters")
    ):
        return False
    used = sum(os.times()[:4])  # of this process and of those that it waited for
    print(
        f"Built in {time.monotonic() - started:.0f} s, {used:.0f} processor-seconds: {BUILD / 'html' / 'index.html'}"
    )
    return True


def serve(port: int) -> bool:
    """Serve the built book on this machine and open it."""
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(BUILD / "html"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", port), handler) as server:
        address = f"http://127.0.0.1:{server.server_port}"
        print(f"The book is at {address}; Ctrl-C ends it.")
        webbrowser.open(address)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print()
    return True


def main() -> int:
    """Read the command line and do what it asks."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("build")
    commands.add_parser("html")
    commands.add_parser("execute").add_argument("notebooks", nargs="*", type=Path)
    commands.add_parser("serve").add_argument("port", nargs="?", type=int, default=8000)
    arguments = parser.parse_args()
    signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # ignored where a shell began this in the background
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        if arguments.command == "execute":
            whole = execute(arguments.notebooks or sorted((ROOT / "chapters").glob("*.ipynb")))
        elif arguments.command == "serve":
            whole = serve(arguments.port)
        else:
            whole = build(execution=arguments.command == "build")
    except KeyboardInterrupt:
        say("interrupted; the same command goes on")
        return 130
    except OSError as error:
        say(f"{error.filename or BUILD}: {error.strerror}; the same command goes on when that is mended")
        return 1
    return 0 if whole else 1


if __name__ == "__main__":
    sys.exit(main())
