"""The chapters in an environment like Colab's: torch, numpy and Jupyter are there, lcbook is not."""

from __future__ import annotations

import os
import re
import shutil
import sys
import zlib
from pathlib import Path

import pytest

from tests.processes import plain, run

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "chapters").glob("*.ipynb"))
COLAB_PACKAGES = (
    "torch numpy pandas matplotlib seaborn scipy transformers ipywidgets ipykernel nbclient".split()
)
RUN_ALL = "import sys, pathlib, lcbook.notebooks\nfor name in sys.argv[1:]: lcbook.notebooks.run(pathlib.Path(name))"


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
    return place


@pytest.mark.slow
def test_runs_on_colab(like_colab: Path, tmp_path: Path):
    """The first cell of a chapter installs the package beside what is there, and each notebook then runs by itself."""
    pip(like_colab, "uninstall", "--quiet", "--yes", "lcbook", "joblib", "jaxtyping", "tqdm")
    before = set(pip(like_colab, "freeze").splitlines())
    shutil.copytree(ROOT / "chapters", tmp_path / "chapters")
    environment = plain() | {
        "LCBOOK_SOURCE": str(ROOT),
        "LCBOOK_SCALE": "smoke",
        "LCBOOK_CACHE": str(tmp_path / "cache"),
        "VIRTUAL_ENV": str(like_colab),
        "PATH": f"{like_colab / 'bin'}{os.pathsep}{os.environ['PATH']}",
    }
    first, *others = [path.name for path in NOTEBOOKS]
    jupyter = like_colab / "bin" / "jupyter-execute"
    run([jupyter, "--timeout=300", first], environment, tmp_path / "chapters")
    changed = before - set(pip(like_colab, "freeze").splitlines())
    assert not changed, f"the first cell replaced what Colab had: {changed}"
    package = next(like_colab.glob("lib/python*/site-packages/lcbook"))
    assert json_files(package / "_results") == json_files(ROOT / "results"), "the reference runs travel along"
    run([like_colab / "bin" / "python", "-c", RUN_ALL, *others], environment, tmp_path / "chapters")
