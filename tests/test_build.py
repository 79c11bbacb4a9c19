"""tools/book.py in a tiny book of its own: what is executed when, how it fails, and what it leaves behind."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import jupyter_book.sphinx
import nbformat
import pytest

from tests.processes import alive, awaited, plain, run
from tools import book

ROOT = Path(__file__).resolve().parent.parent
ONE = "open('found', 'w').write('one')\nprint('chapter: one')"
LEDGER = "class lc:\n    ledger = staticmethod(lambda: print('ledger:', open('found').read()))\nlc.ledger()"
ASLEEP = "import os, time\nopen('pid', 'w').write(str(os.getpid()))\ntime.sleep(60)"


def notebook(path: Path, source: str, prose: str = "# A page") -> None:
    cells = [nbformat.v4.new_markdown_cell(prose), nbformat.v4.new_code_cell(source)]
    about = {"language_info": {"name": "python"}}
    nbformat.write(nbformat.v4.new_notebook(metadata=about, cells=cells), path)


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A book of one chapter and a ledger that shows what the chapter wrote."""
    for name in ("tools", "chapters", "lcbook", "results", "assets", "_ext"):
        (tmp_path / name).mkdir()
    shutil.copy(ROOT / "tools" / "book.py", tmp_path / "tools")
    notebook(tmp_path / "chapters" / "01_one.ipynb", ONE)
    notebook(tmp_path / "chapters" / "claims.ipynb", LEDGER)
    (tmp_path / "references.bib").touch()
    (tmp_path / "_config.yml").write_text('execute: {execute_notebooks: "off"}')
    (tmp_path / "_toc.yml").write_text(
        "format: jb-book\nroot: chapters/claims\nchapters: [{file: chapters/01_one}]"
    )
    return tmp_path


def start(place: Path, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(place / "tools" / "book.py"), *words]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, cwd=place, env=plain(), text=True, **pipes)


def ended(place: Path, *words: str) -> tuple[int, str, str]:
    """The exit status of a command, what it printed, and what it said of its progress."""
    process = start(place, *words)
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def outputs(place: Path, name: str) -> str:
    cells = nbformat.read(place / "chapters" / f"{name}.ipynb", as_version=4).cells
    return "".join(output["text"] for output in cells[1].outputs)


@pytest.fixture
def here(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tiny book, built in this process."""
    for name, place in {
        "BUILD": "b",
        "EXECUTED": "b/executed",
        "PAGES": "b/pages",
        "RENDERED": "b/done",
    }.items():
        monkeypatch.setattr(book, name, tiny / place)
    monkeypatch.setattr(book, "ROOT", tiny)
    return tiny


def test_what_reads_the_chapters_is_executed_last_and_again_when_one_ran(here: Path, monkeypatch):
    """Without kernels: a notebook prints what has run before it."""
    ran: list[str] = []

    def kernels(notebooks):
        for path, one in notebooks.items():
            one.cells[1].outputs = [nbformat.v4.new_output("stream", text=f"{ran} {one.cells[1].source}")]
            ran.append(path.stem)
        return list(notebooks)

    def executed() -> list[str]:
        ran.clear()
        assert book.execute_what_changed()
        return list(ran)

    monkeypatch.setattr(book, "run", kernels)
    chapter, ledger = here / "chapters" / "01_one.ipynb", here / "chapters" / "claims.ipynb"
    assert executed() == ["01_one", "claims"]
    assert executed() == []
    notebook(chapter, ONE.replace("one", "two"))
    assert executed() == ["01_one", "claims"], "a chapter ran: what shows its results runs again"
    notebook(ledger, f"{LEDGER}\npass")
    assert executed() == ["claims"]
    notebook(chapter, ONE.replace("one", "two"), "# Other words")
    assert executed() == [], "prose needs no execution"
    book.lay_out(book.EXECUTED)
    text = (book.PAGES / "chapters" / "01_one.ipynb").read_text()
    assert "Other words" in text
    assert "[] open(" in text, "the page has the outputs of the execution"
    (book.EXECUTED / "01_one.ipynb").write_text("half a noteb")
    assert executed() == ["01_one", "claims"]
    (here / "lcbook" / "explorer.css").write_text("body {}")
    assert executed() == ["01_one", "claims"], "any file of the package counts"
    monkeypatch.setattr(book, "run", lambda notebooks: [])
    notebook(chapter, ONE)
    assert not book.execute_what_changed()
    ledger.unlink()
    book.lay_out(here / "chapters")
    assert [path.name for path in (book.PAGES / "chapters").iterdir()] == ["01_one.ipynb"]


def test_the_ledger_of_the_book_is_known():
    chapters = book.read(sorted((ROOT / "chapters").glob("*.ipynb")))
    assert [path.stem for path in book.readers_last(chapters)[1]] == ["claims"]


def test_a_failing_cell_is_named_with_its_own_traceback_alone(tiny: Path):
    failing = tiny / "chapters" / "02_two.ipynb"
    notebook(failing, "print('so far')\n1 / 0")
    before = failing.read_bytes()
    status, out, err = ended(tiny, "execute")
    assert (status, out) == (1, "")
    assert "02_two: failed\n" in err
    assert "so far" in err
    assert "ZeroDivisionError: division by zero" in err
    assert err.endswith(f"{failing} stays as it was.\n")
    assert "site-packages" not in err
    assert "\x1b" not in err, "no colours in a file"
    assert failing.read_bytes() == before
    assert outputs(tiny, "01_one") == "chapter: one\n"
    assert outputs(tiny, "claims") == "ledger: one\n"


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_kernels_end_with_the_command(tiny: Path, sent: signal.Signals):
    notebook(tiny / "chapters" / "01_one.ipynb", ASLEEP)
    notebook(tiny / "chapters" / "02_two.ipynb", ASLEEP.replace("'pid'", "'pid2'"))
    files = [tiny / "chapters" / name for name in ("pid", "pid2")]
    process = start(tiny, "execute")
    awaited(lambda: all(file.exists() and file.read_text() for file in files))
    process.send_signal(sent)
    out, err = process.communicate(timeout=30)
    if sent != signal.SIGKILL:
        assert process.returncode == 130
        assert err.endswith("interrupted; the same command goes on\n")
        assert "Traceback" not in out + err
    awaited(lambda: not any(alive(int(file.read_text())) for file in files))


def test_a_full_disk_is_named_and_leaves_nothing_half_written(tmp_path, monkeypatch, capfd):
    def full(path: Path, data: bytes) -> None:
        path.touch()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    place = tmp_path / "executed" / "page"
    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", full)
        patched.setattr(book, "build", lambda **_: book.write(place, b"data"))
        patched.setattr(sys, "argv", ["book.py", "build"])
        patched.setattr(signal, "signal", lambda *_: None)
        assert book.main() == 1
    (line,) = capfd.readouterr().err.splitlines()
    assert line == f"{place}: No space left on device; the same command goes on when that is mended"
    assert list(place.parent.iterdir()) == []
    place.with_name("page.part").write_text("left by a killed writer")
    book.write(place, b"data")
    assert [path.name for path in place.parent.iterdir()] == ["page"]


def test_after_warnings_every_page_is_rendered_again(here: Path, monkeypatch, capfd):
    asked = []
    answers = [1, 0, 0, RuntimeError("a directive"), KeyboardInterrupt()]

    def sphinx(*_, force_all: bool, **__):
        asked.append(force_all)
        print(f"{book.PAGES}{os.sep}chapters{os.sep}a.md: WARNING", file=sys.stderr)
        return answers[len(asked) - 1]

    monkeypatch.setattr(jupyter_book.sphinx, "build_sphinx", sphinx)
    assert [book.render(here / "chapters") for _ in range(4)] == [False, True, True, False]
    with pytest.raises(KeyboardInterrupt):
        book.render(here / "chapters")
    assert asked == [True, True, False, False, True]
    said = capfd.readouterr().err
    assert said.count(f"chapters{os.sep}a.md: WARNING") == 5
    assert str(book.PAGES) not in said
    assert "(RuntimeError('a directive'))" in said


@pytest.mark.slow
def test_the_book_is_built_at_smoke_scale(tmp_path: Path):
    ignored = shutil.ignore_patterns(".*", "_build", "__pycache__", "tests")
    copy = shutil.copytree(ROOT, tmp_path / "book", ignore=ignored)
    environment = plain() | {"LCBOOK_SCALE": "smoke", "PYTHONPATH": str(copy)}
    run([sys.executable, "tools/book.py", "build"], environment, copy)
    pages = {path.stem for path in (copy / "_build" / "html" / "chapters").glob("*.html")}
    assert pages >= {path.stem for path in (ROOT / "chapters").iterdir() if path.suffix in (".md", ".ipynb")}
    text = (copy / "_build" / "html" / "chapters" / "claims.html").read_text()
    assert "not judged" in text, "the ledger shows this run"
