"""Each chapter by itself in an environment like Colab's: torch, numpy and Jupyter are there, lcbook is not."""

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
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs_on_colab(path: Path, like_colab: Path, tmp_path: Path):
    """The first cell installs the package beside what is there, and the notebook then runs by itself."""
    pip(like_colab, "uninstall", "--quiet", "--yes", "lcbook", "joblib", "jaxtyping", "tqdm")
    before = set(pip(like_colab, "freeze").splitlines())
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
