"""The command line: what it lists and runs, one sentence for bad input, and a reference run of a tiny chapter."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import matplotlib
import own_claims
import pandas as pd
import pytest
import torch

from lcbook import cli, notebooks, page, references, runtime
from lcbook.claims import claim
from lcbook.evaluation import bench
from lcbook.experiments import run as run_module
from tests.processes import plain

ROOT = Path(__file__).resolve().parent.parent
TINY = [
    ("markdown", [], "Not a heading."),
    ("markdown", [], "Some words.\n\n# A tiny chapter\n\n## A section"),
    ("code", ["colab", "remove-cell"], "%pip install nothing"),
    ("code", ["setup"], "import lcbook as lc\nlc.setup('07_tiny')"),
    (
        "code",
        ["result"],
        "base = lc.Spec(lc.ModelSpec(width=14), lc.KeyValueRecall(pairs=2, queries=2, keys=5, values=3, filler=7),\n"
        "               lc.TrainSpec(length=16, updates=lc.at(smoke=1, full=2), batch=3))\n"
        "table = lc.run(lc.grid(base, {'model.key_shift': [True, False]}, seeds=8), name='recall',\n"
        "               lengths=(16, 32), questions=8, workers=1)",
    ),
    (
        "code",
        ["claim"],
        "lc.judge('P7', table)",
    ),
    ("code", ["exercise"], "raise RuntimeError('a reader fills this in')"),
    ("code", ["solution"], "raise RuntimeError('a solution is not run')"),
    ("raw", [], "not code"),
    ("code", [], "lc.finish()"),
]
CLAIMS = """
[07_tiny.P7]
sentence = "Recall is a share."
factor = "none"
at_most = 1
test = "mean"
statistic = "contrast"
using = { scale = 1 }
tables = ["recall"]
seeds = "0:8"
"""


def notebook(path: Path, cells: list[tuple[str, list[str], str]]) -> None:
    stored = [
        {
            "cell_type": kind,
            "metadata": {"tags": tags} if tags else {},
            "source": source.splitlines(keepends=True),
        }
        for kind, tags, source in cells
    ]
    path.write_text(json.dumps({"cells": stored}), encoding="utf8")


@pytest.fixture(autouse=True)
def book(monkeypatch, tmp_path) -> Path:
    """A book of one chapter in the working directory, with a cache and a folder of results of its own."""
    (tmp_path / "chapters").mkdir()
    notebook(tmp_path / "chapters" / "07_tiny.ipynb", TINY)
    notebook(tmp_path / "chapters" / "intro.ipynb", [("markdown", [], "no heading")])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LCBOOK_SCALE", "smoke")
    monkeypatch.setenv("LCBOOK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(references, "folder", lambda: tmp_path / "results")
    monkeypatch.setattr(runtime, "session", runtime.Session())
    own_claims.use(monkeypatch, tmp_path, CLAIMS)
    threads, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
    yield tmp_path
    claim.claims.cache_clear()
    torch.set_num_threads(threads)
    torch.set_float32_matmul_precision(precision)


def test_chapters_are_listed_by_their_first_heading(capsys):
    assert cli.main(["chapters"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "07_tiny                  A tiny chapter",
        "intro                    intro",
    ]


def test_a_chapter_is_found_by_its_number_or_its_name(book):
    for name in ("07", "07_tiny"):
        assert notebooks.find(name) == book / "chapters" / "07_tiny.ipynb"
    assert notebooks.find("intro").stem == "intro"


def test_outside_a_book_the_chapters_beside_the_package_are_taken(monkeypatch, tmp_path):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    assert notebooks.folder() == ROOT / "chapters"
    monkeypatch.setattr(notebooks, "__file__", str(tmp_path / "empty" / "lcbook" / "notebooks.py"))
    assert cli.main(["chapters"]) == 2


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["run", "99"], "chapter is '99'; allowed are 07_tiny, intro (or the number alone)."),
        (["run", ""], "chapter is ''; allowed are 07_tiny, intro (or the number alone)."),
        (["run", "0"], "chapter is '0'; allowed are 07_tiny, intro (or the number alone)."),
        (["run", "07", "--scale", "huge"], "LCBOOK_SCALE is 'huge'; allowed are smoke, live, full, gpu."),
    ],
)
def test_bad_input_is_one_sentence_and_status_2(capsys, monkeypatch, words, sentence):
    monkeypatch.setattr(notebooks, "run", lambda path: pytest.fail("nothing may run"))
    assert cli.main(words) == 2
    out, err = capsys.readouterr()
    assert (out, err.splitlines()) == ("", [sentence])


@pytest.mark.parametrize(
    "words",
    [[], ["fly"], ["run"], ["bench"], ["bench", "speed"], ["claims", "P1"], ["run", "07", "--fast"]],
    ids=str,
)
def test_unknown_words_give_usage_and_status_2(capsys, words):
    with pytest.raises(SystemExit) as stopped:
        cli.main(words)
    assert stopped.value.code == 2
    assert "usage: python -m lcbook" in capsys.readouterr().err


def test_bench_recall_starts_the_bench(monkeypatch):
    called = []
    monkeypatch.setattr(bench, "recall", lambda: called.append("recall"))
    assert cli.main(["bench", "recall"]) == 0
    assert called == ["recall"]


def test_a_chapter_runs_at_smoke_scale_and_commits_nothing(book, capsys):
    assert cli.main(["run", "07", "--scale", "smoke"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^07_tiny: CPU, .* scale smoke", out)
    assert re.search(r"^P7 not judged: nothing is judged at smoke scale$", out, re.MULTILINE)
    assert "wrote" not in out
    assert not (book / "results").exists()
    assert list(runtime.session.tables) == ["recall"]
    assert matplotlib.get_backend().lower() == "agg"


def test_the_scale_of_the_environment_holds_where_none_is_named(monkeypatch, capsys):
    monkeypatch.setenv("LCBOOK_SCALE", "live")
    assert cli.main(["run", "07"]) == 0
    assert "scale live" in capsys.readouterr().out


@pytest.mark.parametrize("scale", ["smoke", "full"])
def test_a_committed_table_turns_stale_when_the_chapters_spec_changes(book, capsys, monkeypatch, scale):
    assert cli.main(["run", "07", "--scale", "full"]) == 0
    monkeypatch.setattr(run_module, "train", lambda *args, **options: pytest.fail("nothing is trained"))
    assert cli.main(["designs", "07"]) == 0
    (run,) = references.references("07_tiny")
    assert set(run.designs) == set(runtime.SCALES)
    path = book / "chapters" / "07_tiny.ipynb"
    monkeypatch.setenv("LCBOOK_SCALE", scale)

    def stale() -> list[str]:
        """The stale tables once the chapter has run, with the committed tables in place of new ones."""
        replayed, _ = notebooks.replay(path, runtime.Session(replayed=run.tables))
        runtime.session = runtime.Session("07_tiny", designs=replayed.designs)
        return run.stale_tables()

    assert stale() == []
    notebook(path, [(kind, tags, text.replace("width=14", "width=16")) for kind, tags, text in TINY])
    assert stale() == ["recall"]
    assert page.committed("recall") == {}
    assert cli.main(["designs", "07"]) == 0
    capsys.readouterr()


def test_a_reference_run_is_written_and_read(book, capsys):
    assert cli.main(["run", "07", "--scale", "full"]) == 0
    out = capsys.readouterr().out
    path = book / "results" / "cpu" / "07_tiny.json"
    assert out.splitlines()[-1] == f"wrote {path}"
    assert "P7 supported: " in out
    (found,) = references.references("07_tiny")
    assert found.status == "current"
    assert found.provenance["scale"] == "full"
    assert 0 < found.provenance["seconds"] < 100
    assert [(record["verdict"], record["claim"]) for record in found.claims] == [("supported", "P7")]
    pd.testing.assert_frame_equal(found.tables["recall"], runtime.session.tables["recall"])
    assert (found.tables["recall"]["updates"] == 2).all()
    # Again, from the cache: the same table, clocks included.
    assert cli.main(["run", "07", "--scale", "full"]) == 0
    (again,) = references.references("07_tiny")
    pd.testing.assert_frame_equal(again.tables["recall"], found.tables["recall"])
    # And the page shows it.
    assert page.committed_runs("*").frame["status"].tolist() == ["current"]
    capsys.readouterr()
    assert cli.main(["claims"]) == 0
    ledger = capsys.readouterr().out
    assert re.search(r"07_tiny +P7 ", ledger)
    assert "exploratory" in ledger


def test_a_reference_run_that_cannot_be_stored_says_so(book, monkeypatch, capsys):
    (book / "file").write_text("")
    monkeypatch.setattr(references, "folder", lambda: book / "file")
    assert cli.main(["run", "07", "--scale", "full"]) == 2
    (line,) = capsys.readouterr().err.splitlines()[-1:]
    place = book / "file" / "cpu" / "07_tiny.json"
    assert line == f"[Errno 20] Not a directory: '{place}'; the same command goes on when that is mended."
    assert len(list((book / "cache" / "rows").iterdir())) == 16, "the runs are in the cache"


def test_an_interrupted_run_says_that_the_same_command_goes_on(monkeypatch, capsys):
    def interrupted(path: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(notebooks, "run", interrupted)
    assert cli.main(["run", "07"]) == 130
    assert capsys.readouterr().err == "interrupted; the same command goes on\n"


def test_a_ledger_before_any_run(capsys):
    assert cli.main(["claims"]) == 0
    assert re.search(r"07_tiny +P7 +none +not run", capsys.readouterr().out)


def test_an_error_in_a_cell_names_the_cell(book):
    notebook(book / "chapters" / "07_tiny.ipynb", [("markdown", [], "# T"), ("code", [], "1 / 0")])
    with pytest.raises(ZeroDivisionError) as failed:
        cli.main(["run", "07"])
    assert any("07_tiny.ipynb cell 1" in str(entry.path) for entry in failed.traceback)


def test_a_class_of_a_cell_has_a_source(book):
    cell = "class Own:\n    def add(self): return 1\nfrom lcbook.store import source\nprint(source(Own))"
    notebook(book / "chapters" / "07_tiny.ipynb", [("markdown", [], "# T"), ("code", [], cell)])
    with contextlib.redirect_stdout(io.StringIO()) as said:
        notebooks.run(book / "chapters" / "07_tiny.ipynb")
    assert said.getvalue() == "class Own:\n    def add(self): return 1\n"


def test_the_module_is_a_command(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["lcbook", "run", "99"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("lcbook", run_name="__main__")
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith("chapter is '99'; allowed are ")


@pytest.mark.slow
def test_chapter_one_runs_without_jupyter(tmp_path):
    environment = plain() | {"LCBOOK_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    block = "import sys; sys.modules['IPython'] = sys.modules['ipywidgets'] = None\n"
    code = block + "from lcbook.cli import main\nsys.exit(main(['run', '01', '--scale', 'smoke']))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "P1a not judged" in done.stdout
    assert os.fspath(ROOT / "results") not in done.stdout
