"""Build, execute and serve the book; the Makefile calls this.

python tools/book.py build                 execute what is not in the cache, render _build/html
python tools/book.py execute [NOTEBOOK]    run chapters in place and store their outputs
python tools/book.py serve PORT            open the built book in the browser
"""

from __future__ import annotations

import argparse
import hashlib
import http.server
import os
import shutil
import subprocess
import sys
import time
import webbrowser
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "_build"
CACHE_STAMP = BUILD / "executed-with"
DONE_STAMP = BUILD / "rendered"
# Jupyter's kernels talk to their client over the loopback interface and say so each time.
KERNEL_NOISE = "[IPKernelApp] WARNING | Kernel is running over TCP"
CELL_FAILED = "Exception occurred:"


def digest_of_what_chapters_read() -> str:
    """Digest of what outputs depend on beside a chapter's own text: the package, the results, the scale."""
    files = sorted(
        path for folder in ("lcbook", "results") for path in (ROOT / folder).rglob("*") if path.is_file()
    )
    content = hashlib.sha256(os.environ.get("LCBOOK_SCALE", "").encode())
    for path in files:
        if "__pycache__" not in path.parts:
            content.update(str(path.relative_to(ROOT)).encode() + path.read_bytes())
    return content.hexdigest()


def environment() -> dict[str, str]:
    """The environment of a build: the experiments' cache lies in _build unless the reader says otherwise."""
    return {"LCBOOK_CACHE": str(BUILD / "lcbook")} | os.environ


def build() -> int:
    """Execute the chapters that changed and render the site; 0 if there was no error and no warning."""
    BUILD.mkdir(exist_ok=True)
    digest = digest_of_what_chapters_read()
    if not CACHE_STAMP.exists() or CACHE_STAMP.read_text() != digest:
        shutil.rmtree(BUILD / ".jupyter_cache", ignore_errors=True)
        DONE_STAMP.unlink(missing_ok=True)  # Sphinx does not see that outputs are stale: render every page
        CACHE_STAMP.write_text(digest)
    # After a failed build Sphinx would not repeat the warnings of pages that it holds to be up to date.
    whole = [] if DONE_STAMP.exists() else ["--all"]
    DONE_STAMP.unlink(missing_ok=True)
    started = time.monotonic()
    print("Building the book", file=sys.stderr, flush=True)
    tool = Path(sys.executable).with_name("jupyter-book")
    command = [str(tool), "build", str(ROOT), "--quiet", "-W", "--keep-going", *whole]
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    said_enough = False
    for line in process.stderr or ():
        # The cell's own traceback has been printed by then; those of Sphinx and Jupyter Book add nothing.
        said_enough = said_enough or CELL_FAILED in line
        if not said_enough and not line.startswith(KERNEL_NOISE):
            print(line, end="", file=sys.stderr, flush=True)
    if process.wait() != 0:
        print("The book did not build without errors and warnings; they are above.", file=sys.stderr)
        return 1
    DONE_STAMP.touch()
    print(f"Built in {time.monotonic() - started:.0f} s: {BUILD / 'html' / 'index.html'}")
    return 0


def execute(paths: list[Path]) -> int:
    """Run notebooks top to bottom at the live scale; write them back without what a clock decides."""
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError

    os.environ.update({"LCBOOK_SCALE": "live"} | environment())
    for path in paths:
        notebook = nbformat.read(path, as_version=4)
        started = time.monotonic()
        print(f"  {path.stem}: running", file=sys.stderr, flush=True)
        client = NotebookClient(
            notebook,
            timeout=1800,
            record_timing=False,
            store_widget_state=False,
            resources={"metadata": {"path": str(path.parent)}},
        )
        try:
            client.execute(stderr=subprocess.DEVNULL)  # the kernel's own log, not the cells' output
        except CellExecutionError as error:
            print(f"{error}\n{path} stays as it was.", file=sys.stderr)
            return 1
        tidy(notebook)
        nbformat.validate(notebook)
        nbformat.write(notebook, path)
        print(f"  {path.stem}: took {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    return 0


def tidy(notebook: Any) -> None:
    """Drop what changes from run to run or from machine to machine: clocks, progress bars, versions."""
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


def serve(port: int) -> int:
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
    return 0


def main() -> int:
    """Read the command line and do what it asks."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("build")
    commands.add_parser("execute").add_argument("notebooks", nargs="*", type=Path)
    commands.add_parser("serve").add_argument("port", nargs="?", type=int, default=8000)
    arguments = parser.parse_args()
    if arguments.command == "build":
        return build()
    if arguments.command == "execute":
        return execute(arguments.notebooks or sorted((ROOT / "chapters").glob("*.ipynb")))
    return serve(arguments.port)


if __name__ == "__main__":
    sys.exit(main())
