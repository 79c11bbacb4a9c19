"""What the repository promises around the package: pins that agree, commands that exist, kept contracts."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
import tomllib
from dataclasses import fields
from pathlib import Path

import jaxtyping
import pytest
import torch

from lcbook import runtime
from lcbook.attention.attend import attend
from lcbook.experiments.train import TrainSpec
from lcbook.models.spec import ModelSpec

ROOT = Path(__file__).resolve().parent.parent
MAKEFILE = (ROOT / "Makefile").read_text()


def pins(name: str) -> dict[str, str]:
    found = re.findall(r"^([A-Za-z0-9_.-]+)==(\S+)$", (ROOT / name).read_text(), re.MULTILINE)
    return {re.sub(r"[-_.]+", "-", package).lower(): version for package, version in found}


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-test.txt"])
def test_requirements_are_pinned_as_the_constraints_say(name: str):
    # torch's build differs from machine to machine (+cpu, +cu128): it is pinned in requirements.txt alone.
    wanted = {package: version for package, version in pins(name).items() if package != "torch"}
    listed = [line for line in (ROOT / name).read_text().splitlines() if line and line[0] not in "#-"]
    assert len(listed) == len(pins(name)), "each line pins one package with =="
    constraints = pins("constraints.txt")
    assert wanted == {package: constraints.get(package) for package in wanted}


def test_the_book_is_built_with_what_can_build_it():
    assert pins("requirements.txt")["jupyter-book"] == "1.0.4.post1"
    assert pins("requirements.txt")["torch"] == "2.13.0"


def test_the_package_asks_for_lower_bounds_alone():
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert all(re.fullmatch(r"[a-z0-9]+>=[\d.]+", line) for line in dependencies), (
        "Colab's versions have to do"
    )
    pinned = pins("requirements.txt")
    assert {line.partition(">=")[0] for line in dependencies} <= set(pinned)


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md"])
def test_documents_name_commands_and_files_that_exist(document: str):
    text = (ROOT / document).read_text()
    targets = set(re.findall(r"^([a-z]+):", MAKEFILE, re.MULTILINE))
    commands = set(re.findall(r"\bmake ([a-z]+)\b(?=[^\n]*`|\n|$| +#)", "\n".join(code(text))))
    assert commands <= targets
    for link in re.findall(r"\]\((?!https?:|#)([^)#]+)", text):
        assert (ROOT / link).exists(), f"{document} links to {link}"


def test_the_code_on_the_page_about_experiments_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "chapters" / "experiments.md").read_text(), re.DOTALL)
    script = tmp_path / "page.py"
    script.write_text("\n".join(blocks))
    monkeypatch.setenv("LCBOOK_CACHE", str(tmp_path))
    monkeypatch.setattr(runtime, "session", runtime.Session())
    found = runpy.run_path(str(script))
    assert set(found["steep"]["probe"]) == {"slope 0.1", "slope 1"}
    assert set(found["logs"]["arm"]) == {"RoPE", "log bias"}


def code(text: str) -> list[str]:
    """The code blocks and the code spans of a Markdown text."""
    return re.findall(r"```\w*\n(.*?)```", text, re.DOTALL) + re.findall(r"`([^`\n]+)`", text)


@pytest.mark.parametrize("name", ["_config.yml", "CITATION.cff"])
def test_the_repository_has_the_address_that_pyproject_names(name: str):
    address = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Repository"]
    assert re.findall(r"https://github\.com/\S+", (ROOT / name).read_text()) == [address]


def test_a_new_field_of_a_spec_is_a_decision():
    """Weights and committed runs are known by these fields, and a chapter has to explain each."""
    said = {spec: " ".join(field.name for field in fields(spec)) for spec in (ModelSpec, TrainSpec)}
    assert said[ModelSpec] == (
        "layers width heads kv_heads mlp position normalizer key_shift qk_norm pattern full_layers mixer separator "
        "qk_scale learn_scale"
    )
    assert said[TrainSpec] == (
        "length updates batch lr warmup betas weight_decay text_loss stop_at_gate curriculum answer_loss lengths "
        "optimizer"
    )


def test_ci_runs_make_test():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert "make test" in script.read_text()


def test_imports_go_down():
    tool = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([tool, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_shapes_are_checked_while_testing():
    q, k = torch.zeros(1, 2, 3, 5), torch.zeros(1, 2, 7, 5)
    with pytest.raises(jaxtyping.TypeCheckError):
        attend(q, k, torch.zeros(1, 2, 11, 5))


def test_a_room_holds_few_modules():
    """At most twelve, those of the room alone (with an underscore) aside; ten beside the rooms."""
    for room in ("", *(path.parent.name for path in (ROOT / "lcbook").glob("*/__init__.py"))):
        held = [path.stem for path in (ROOT / "lcbook" / room).glob("*.py") if not path.stem.startswith("_")]
        assert len(held) <= (12 if room else 10), f"{room or 'lcbook'} holds {sorted(held)}"


def test_what_is_private_stays_in_its_room():
    for path in (ROOT / "lcbook").rglob("*.py"):
        for room, module in re.findall(r"from lcbook\.(\w+)\.(_\w+) import", path.read_text()):
            assert path.parent.name == room, f"{path} imports {room}.{module}"
