"""The chapters as notebooks: their shape, their outputs, and that they run."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import matplotlib
import nbformat
import pytest
import yaml

from lcbook import claims, notebooks, references, runtime, store

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "chapters").glob("*.ipynb"))
NUMBERED = [path for path in NOTEBOOKS if re.match(r"\d\d_", path.name)]
MOST_LINES = 15
TAGS = {"setup", "derive", "result", "claim", "exercise", "solution", "colab"}
TAGS |= {"hide-input", "hide-output", "hide-cell", "remove-input", "remove-output", "remove-cell"}
TAGS |= {"full-width", "raises-exception"}
ADDRESS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Repository"]
COLAB = """\
import importlib.util
import os

# On Colab: installs the book's package, leaves torch and numpy as they are.
if importlib.util.find_spec("lcbook") is None:
    address = "git+ADDRESS"
    %pip install -q {os.environ.get("LCBOOK_SOURCE", address)}""".replace("ADDRESS", ADDRESS)

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
    assert all(cell.outputs for cell in claims)


def wrong_solutions(notebook: Any) -> list[str]:
    """The solutions that do not say "Right." once for each `lc.check`, or say anything else of an answer."""
    wrong = []
    for cell in notebook.cells:
        if cell.cell_type == "code" and "solution" in tags(cell):
            said = "".join(output.get("text", "") for output in cell.outputs).splitlines()
            if said.count("Right.") != cell.source.count("lc.check(") or any("Not " in line for line in said):
                wrong.append(f"{cell.source}\n{said}")
    return wrong


@each_chapter
def test_solutions_are_right(path: Path):
    assert wrong_solutions(read(path)) == []


def test_a_wrong_solution_is_found():
    def cell(*lines: str) -> Any:
        outputs = [nbformat.v4.new_output("stream", text=f"{line}\n") for line in lines]
        source = "lc.check(1, 1)\nlc.check(2, 2)"
        return nbformat.v4.new_code_cell(source, outputs=outputs, metadata={"tags": ["solution"]})

    cells = [
        cell("Right.", "Right."),
        cell("Right."),
        cell("Right.", "Right.", "Not yet: 3 is too large."),
        cell(),
    ]
    found = wrong_solutions(nbformat.v4.new_notebook(cells=cells))
    assert [text.count("Right.") for text in found] == [1, 2, 0]


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
            assert not any("widget" in kind for kind in output.get("data", {})), "run make execute"


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


@each_notebook
def test_runs_at_smoke_scale(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    """In this process, exercises and solutions included; `make test` runs each in a kernel at live scale too."""
    monkeypatch.setenv("LCBOOK_CACHE", str(tmp_path))
    monkeypatch.setattr(runtime, "session", runtime.Session())
    monkeypatch.setattr(notebooks, "NOT_RUN", {"colab"})
    with matplotlib.rc_context():
        notebooks.run(path)
    assert runtime.session.chapter == path.stem
    solutions = "".join(cell.source for cell in code_cells(path) if "solution" in tags(cell))
    said = capsys.readouterr().out
    assert said.count("Right.\n") == solutions.count("lc.check("), said
    assert "Not yet" not in said
    stale = [name for run in references.references(path.stem) for name in run.stale_tables()]
    assert not stale, f"committed tables are of other specs: python -m lcbook designs {path.stem}"


def verdicts(notebook: Any) -> dict[str, str]:
    """Return what the run of a page said of each claim, from the plain form of its cards."""
    shown = [
        output["data"]["text/plain"]
        for cell in notebook.cells
        if "claim" in tags(cell)
        for output in cell.outputs
    ]
    return dict(card.split(" ", 1) for card in shown)


def disagreements(stored: dict[str, str], again: dict[str, str]) -> list[str]:
    """Say where the verdicts of a rerun part from the stored ones, one line each.

    A rerun on another machine has other rounding and other timings, so a verdict near its threshold may become
    inconclusive or cease to be, and a slow one may not time enough lengths to judge. No verdict may turn around, none
    may come or go, and at most a quarter may lose its decision.
    """
    pairs = {claim: (stored[claim], again[claim]) for claim in stored if claim in again}
    decided = ("supported", "refuted")
    said = [f"{claim} was {old}, is {new}" for claim, (old, new) in pairs.items()
            if old != new and ((old in decided and new in decided) or "not judged" == old)]  # fmt: skip
    lost = [claim for claim, (old, new) in pairs.items() if old in decided and new not in decided]
    if len(lost) > max(1, len(pairs) // 4):
        said.append(f"decided no more: {', '.join(lost)}")
    said += [f"{claim} is gone" for claim in stored if claim not in again]
    return said + [f"{claim} is new" for claim in again if claim not in stored]


def test_disagreements_are_found():
    stored = dict.fromkeys("ABCD", "supported") | {"E": "not judged"}
    assert disagreements(stored, stored) == []
    assert disagreements(stored, stored | {"A": "inconclusive"}) == []
    assert disagreements(stored, stored | {"A": "refuted"}) == ["A was supported, is refuted"]
    assert disagreements(stored, stored | {"E": "supported"}) == ["E was not judged, is supported"]
    assert disagreements(stored, stored | dict.fromkeys("AB", "inconclusive")) == ["decided no more: A, B"]
    assert disagreements(stored, dict.fromkeys("ABCD", "supported")) == ["E is gone"]
    assert disagreements({}, {"A": "supported"}) == ["A is new"]


@each_chapter
def test_each_claim_that_stands_is_stated_and_judged_once(path: Path):
    source = "\n".join(cell.source for cell in code_cells(path))
    standing = sorted(
        name for name, one in claims.claims().items() if one.chapter == path.stem and not one.withdrawn
    )
    judged = re.findall(r'lc\.judge\(\s*"(\w+)"', source)
    stated = [
        name for part in re.findall(r"lc\.stated\(([^)]*)\)", source) for name in re.findall(r'"(\w+)"', part)
    ]
    assert sorted(judged) == sorted(stated) == standing
    assert sorted(verdicts(read(path))) == standing, "make execute NOTEBOOKS=..."


@each_chapter
@pytest.mark.slow
def test_claims_hold_when_run_again(path: Path, monkeypatch: pytest.MonkeyPatch):
    """The verdicts that `make test` found as nbval ran the notebooks at live scale, beside those stored in them."""
    monkeypatch.setenv("LCBOOK_CACHE", str(ROOT / "_build" / "lcbook"))
    monkeypatch.setenv("LCBOOK_SCALE", "live")
    folder = runtime.cache_dir() / "claims" / "live"
    found = [store.load_json(file) for file in sorted(folder.glob("*.json"))]
    again = {one["claim"]: one["verdict"] for one in found if one["chapter"] == path.stem}
    assert again, f"{folder} has no verdict of this chapter: run make test"
    assert not disagreements(verdicts(read(path)), again)
