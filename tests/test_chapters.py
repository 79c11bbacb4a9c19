"""The chapters as notebooks: their shape, their outputs, and that they run: smoke, live, Colab."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nbformat
import pytest
import yaml
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "chapters").glob("*.ipynb"))
NUMBERED = [path for path in NOTEBOOKS if re.match(r"\d\d_", path.name)]
MOST_LINES = 15
TAGS = {"setup", "derive", "result", "claim", "exercise", "solution", "colab"}
TAGS |= {"hide-input", "hide-output", "hide-cell", "remove-input", "remove-output", "remove-cell"}
TAGS |= {"full-width", "raises-exception", "nbval-check-output"}
OURS = ("PYTHON", "LCBOOK", "PYTEST", "OMP_", "MPLBACKEND")
COLAB = """\
import importlib.util, os
if importlib.util.find_spec("lcbook") is None:  # on Colab: installs the book's package, leaves torch and numpy as they are
    %pip install -q {os.environ.get("LCBOOK_SOURCE", "git+https://github.com/lcbook/lcbook")}"""  # noqa: E501
COLAB_PACKAGES = "torch numpy pandas matplotlib seaborn scipy ipywidgets ipykernel nbclient".split()

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
each_chapter = pytest.mark.parametrize("path", NUMBERED, ids=lambda path: path.stem)


def read(path: Path) -> Any:
    return nbformat.read(path, as_version=4)


def tags(cell: Any) -> set[str]:
    return set(cell.metadata.get("tags", []))


def code_cells(path: Path) -> list[Any]:
    return [cell for cell in read(path).cells if cell.cell_type == "code"]


def lines(cell: Any) -> list[str]:
    """The lines of a cell that are neither empty nor a comment."""
    return [line for line in cell.source.splitlines() if line.strip() and not line.strip().startswith("#")]


# Shape -----------------------------------------------------------------------------------------------


@each_notebook
def test_is_in_the_table_of_contents(path: Path):
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text())
    files = {toc["root"]} | {chapter["file"] for part in toc["parts"] for chapter in part["chapters"]}
    assert f"chapters/{path.stem}" in files


@each_notebook
def test_is_valid(path: Path):
    nbformat.validate(read(path))


@each_notebook
def test_begins_with_the_cell_for_colab(path: Path):
    first = read(path).cells[0]
    assert first.cell_type == "code"
    assert "colab" in tags(first)
    assert first.source == COLAB
    assert first.outputs == []


@each_notebook
def test_has_only_known_tags(path: Path):
    assert set().union(*(tags(cell) for cell in read(path).cells)) <= TAGS


@each_notebook
def test_cells_hold_one_idea(path: Path):
    long = [cell.source for cell in code_cells(path) if len(lines(cell)) > MOST_LINES]
    assert not long, f"a code cell of more than {MOST_LINES} lines:\n" + "\n---\n".join(long)


@each_notebook
def test_leaves_drawing_and_looping_to_the_package(path: Path):
    for cell in code_cells(path):
        drawing = re.search(r"\bplt\.|\bmatplotlib\b|set_xlabel|\.subplots\(|display\.HTML", cell.source)
        assert not drawing, f"drawing belongs in lcbook.plots: {cell.source}"
        assert not re.search(r"except\s*(Exception)?\s*:", cell.source), f"a broad except: {cell.source}"
        assert "myst_nb" not in cell.source, "myst_nb pulls in Sphinx, which is absent on Colab"
        if not tags(cell) & {"derive", "exercise", "solution"}:
            loop = re.search(r"^\s*(for|while)\b.*:", cell.source, re.MULTILINE)
            assert not loop, f"a loop outside a derivation or an exercise: {cell.source}"


@each_notebook
def test_prose_comes_before_code(path: Path):
    cells = read(path).cells[1:]
    assert cells[0].cell_type == "markdown"
    assert cells[0].source.startswith("# ")
    titles = [line for cell in cells if cell.cell_type == "markdown" for line in cell.source.splitlines()]
    fenced = False
    count = 0
    for line in titles:
        fenced ^= line.strip().startswith("```")
        count += not fenced and line.startswith("# ")
    assert count == 1, "a page has one title"


@each_chapter
def test_exercises_have_solutions(path: Path):
    text = "\n".join(cell.source for cell in read(path).cells if cell.cell_type == "markdown")
    exercises = re.findall(r"\{exercise(?:-start)?\}.*\n(?:.*\n)*?:label:\s*(\S+)", text)
    solutions = re.findall(r"\{solution(?:-start)?\}\s*(\S+)", text)
    assert len(exercises) >= 4
    assert sorted(exercises) == sorted(solutions), "each exercise has one solution"
    folded = re.findall(r"\{solution(?:-start)?\}\s*\S+\n(?::\w+:.*\n)*?:class:.*dropdown", text)
    assert len(folded) == len(solutions), "a solution is folded: `:class: dropdown`"


@each_chapter
def test_claims_are_compared(path: Path):
    claims = [cell for cell in code_cells(path) if "claim" in tags(cell)]
    assert len(claims) >= 2, "at least two claims a chapter"
    assert all("nbval-check-output" in tags(cell) for cell in claims)
    assert all(cell.outputs for cell in claims)


# Committed outputs -----------------------------------------------------------------------------------


@each_notebook
def test_was_run_from_top_to_bottom(path: Path):
    counts = [cell.execution_count for cell in code_cells(path)]
    assert counts == list(range(1, len(counts) + 1)), "run make execute"


@each_notebook
def test_outputs_are_clean(path: Path):
    notebook = read(path)
    assert "widgets" not in notebook.metadata
    assert set(notebook.metadata.get("language_info", {})) <= {"name"}, "run make execute"
    for cell in code_cells(path):
        assert "execution" not in cell.metadata, "clock times change with every run: run make execute"
        for output in cell.outputs:
            assert output.output_type != "error" or "raises-exception" in tags(cell), output.get("evalue")
            assert output.get("name") != "stderr", "run make execute"


@each_notebook
def test_figures_are_described(path: Path):
    for cell in code_cells(path):
        kinds = {kind for output in cell.outputs for kind in output.get("data", {})}
        if any(kind.startswith("image/") for kind in kinds) and "text/html" not in kinds:
            figure = cell.metadata.get("mystnb", {})
            alt = figure.get("image", {}).get("alt", "")
            assert len(alt.split()) >= 4, f"a figure without alt text: {cell.source}"


@each_notebook
def test_weighs_little(path: Path):
    assert path.stat().st_size <= 6_000_000


# Running ---------------------------------------------------------------------------------------------


def plain() -> dict[str, str]:
    """The environment without what conftest.py and pytest put into it."""
    return {key: value for key, value in os.environ.items() if not key.startswith(OURS)}


def run(command: Sequence[object], environment: dict[str, str], place: Path) -> str:
    """Run a command and return what it prints; fail with all it said."""
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=place, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@each_notebook
def test_runs_at_smoke_scale(path: Path, tmp_path: Path):
    notebook = read(path)
    client = NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(path.parent)}})
    client.execute(env=plain() | {"LCBOOK_SCALE": "smoke", "LCBOOK_CACHE": str(tmp_path)})
    assert all(cell.execution_count for cell in notebook.cells if cell.cell_type == "code")


@each_notebook
@pytest.mark.slow
def test_claims_hold_when_run_again(path: Path):
    """nbval runs the notebook at live scale; `make test` filled the cache of runs as it built the book."""
    environment = plain() | {"LCBOOK_SCALE": "live", "LCBOOK_CACHE": str(ROOT / "_build" / "lcbook")}
    command = [sys.executable, "-m", "pytest", "-c", os.devnull, "-q", "-p", "no:cacheprovider"]
    command += ["--nbval-lax", "--nbval-cell-timeout=1800", f"--nbval-sanitize-with={ROOT}/tests/nbval.cfg"]
    run([*command, path], environment, ROOT)


# Colab -----------------------------------------------------------------------------------------------


def pip(place: Path, *arguments: object) -> str:
    """Run pip in a virtual environment and return what it prints."""
    return run([place / "bin" / "python", "-m", "pip", *arguments], plain(), ROOT)


def json_files(folder: Path) -> set[str]:
    """The names of the JSON files below a folder."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*.json")}


@pytest.fixture(scope="module")
def like_colab() -> Path:
    """A virtual environment with what Colab has and no lcbook; kept in _build while the pins stand."""
    torch = re.findall(r"^torch==.*$", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    pins = "\n".join([*torch, (ROOT / "constraints.txt").read_text()])
    place = ROOT / "_build" / "colab" / f"{zlib.crc32(pins.encode()):08x}"
    if not (place / "complete").exists():
        shutil.rmtree(place.parent, ignore_errors=True)
        run([sys.executable, "-m", "venv", place], plain(), ROOT)
        (place / "pins.txt").write_text(pins)
        pip(place, "install", "--quiet", "--constraint", place / "pins.txt", *COLAB_PACKAGES)
        (place / "complete").touch()
    pip(place, "uninstall", "--quiet", "--yes", "lcbook", "joblib", "jaxtyping", "tqdm")
    return place


@each_notebook
@pytest.mark.slow
@pytest.mark.xdist_group("colab")
def test_runs_on_colab(path: Path, like_colab: Path, tmp_path: Path):
    """The first cell installs the package beside what is there, and the notebook then runs by itself."""
    before = set(pip(like_colab, "freeze", "--exclude", "lcbook").splitlines())
    shutil.copy(path, tmp_path)
    environment = plain() | {
        "LCBOOK_SOURCE": str(ROOT),
        "LCBOOK_SCALE": "smoke",
        "LCBOOK_CACHE": str(tmp_path / "cache"),
        "VIRTUAL_ENV": str(like_colab),
        "PATH": f"{like_colab / 'bin'}{os.pathsep}{os.environ['PATH']}",
    }
    run([like_colab / "bin" / "jupyter-execute", "--timeout=300", path.name], environment, tmp_path)
    changed = before - set(pip(like_colab, "freeze").splitlines())
    assert not changed, f"the first cell replaced what Colab had: {changed}"
    package = next(like_colab.glob("lib/python*/site-packages/lcbook"))
    assert json_files(package / "_results") == json_files(ROOT / "results"), "the reference runs travel along"
