"""Committed runs: written and read back, stale and damaged ones told apart, and where they were made."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch

from lcbook import references, runtime, store
from lcbook.store import load_json, save_json

TABLE = pd.DataFrame(
    {
        "arm": ["RoPE", "RoPE", "none"],
        "model.key_shift": [True, True, True],
        "solved": [True, False, True],
        "length": [64, 128, 256],
        "train.length": [64, 64, 64],
        "train.lr": [0.01, 0.01, 0.01],
        "updates_to_gate": [30.0, math.nan, 40.0],
        "text_loss": [math.nan] * 3,
        "position.scaling": ["Linear", None, "NTK"],
        "whole": [1.0, 2.0, 3.0],
        "one": [1.0, 1.0, 1.0],
    }
)


def save(chapter: str, tables: dict[str, pd.DataFrame], claims=(), seconds: float = 1.0) -> Path:
    session = runtime.Session(chapter, tables=tables, designs=runtime.session.designs)
    return references.save_reference(session, list(claims), seconds)


@pytest.fixture
def committed(monkeypatch, tmp_path):
    monkeypatch.setattr(references, "folder", lambda: tmp_path)
    return tmp_path


def test_a_committed_run_comes_back_as_it_was(committed):
    one_row, none = TABLE[:1], TABLE[:0]
    claims = [{"claim": {"id": "P1"}, "verdict": "supported"}]
    path = save("01_x", {"recall": TABLE, "one": one_row, "none": none}, claims, 12.34)
    assert path == committed / "cpu" / "01_x.json"
    (found,) = references.references("01_x")
    assert (found.chapter, found.device, found.status) == ("01_x", "cpu", "current")
    assert found.claims == tuple(claims)
    pd.testing.assert_frame_equal(found.tables["recall"], TABLE)
    pd.testing.assert_frame_equal(found.tables["one"], one_row)
    assert list(found.tables["none"].columns) == list(TABLE.columns)
    assert len(found.tables["none"]) == 0
    stored = load_json(path)["tables"]["recall"]
    assert stored["constant"].keys() == {"model.key_shift", "train.length", "train.lr", "text_loss", "one"}
    assert references.references("02_y") == []


def test_a_filtered_table_is_counted_anew(committed):
    part = TABLE[TABLE["length"] > 64]
    save("01_x", {"recall": part})
    pd.testing.assert_frame_equal(
        references.references("01_x")[0].tables["recall"], part.reset_index(drop=True)
    )


def test_provenance_says_where_and_when(committed, monkeypatch):
    monkeypatch.setenv("LCBOOK_SCALE", "full")
    save("01_x", {}, seconds=12.34)
    (found,) = references.references("01_x")
    said = found.provenance
    assert said.keys() == {
        "commit", "device", "machine", "scale", "python", "torch", "seconds", "peak_memory_mib", "date",
        "resumed", "training_seconds",
    }  # fmt: skip
    assert said["seconds"] == 12.3
    assert (said["device"], said["scale"], said["torch"]) == ("cpu", "full", torch.__version__)
    assert 50 < said["peak_memory_mib"] < 100_000
    assert pd.Timestamp(said["date"]).date() >= pd.Timestamp("2025-01-01").date()
    assert said["commit"] is None or len(said["commit"]) == 40
    assert found.label == f"{said['machine']}, full scale, {said['date']}"


def test_provenance_needs_neither_git_nor_a_checkout(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert references.provenance(1.0)["commit"] is None


def test_another_version_is_stale_and_its_tables_still_there(committed, monkeypatch):
    save("01_x", {"recall": TABLE})
    monkeypatch.setattr(store, "COMPUTE_VERSION", store.COMPUTE_VERSION + 1)
    (stale,) = references.references("01_x")
    assert stale.status == "stale"
    pd.testing.assert_frame_equal(stale.tables["recall"], TABLE)
    assert not stale.is_current("recall")


@pytest.mark.parametrize(
    "change",
    [
        None, "cut", "deep", "folder", "loop", {"chapter": "02_y"}, {"device": "gpu"}, {"device": None},
        {"tables": {"recall": 7}}, {"tables": [7]}, {"tables": {"recall": {"rows": 3, "columns": {"a": [1]}}}},
        {"claims": ["P1"]}, {"claims": 7}, {"provenance": []}, {"provenance": {"machine": "CPU"}},
        {"designs": {"live": 7}}, {"designs": 7}, {"compute_version": None},
    ],
    ids=str,
)  # fmt: skip
def test_damage_of_any_kind_is_marked_and_hides_no_other_run(committed, change):
    path = save("01_x", {"recall": TABLE}, [{"verdict": "supported"}])
    whole, other = path.read_bytes(), committed / "other" / "01_x.json"
    body = load_json(path) | {"device": "other"}
    if isinstance(change, dict):
        body |= change
    save_json(other, {name: value for name, value in body.items() if value is not None})
    if change in ("cut", "deep"):
        other.write_bytes(whole[:-20] if change == "cut" else b"[" * 100_000)
    elif change in ("folder", "loop"):
        other.unlink()
        other.mkdir() if change == "folder" else other.symlink_to(other)
    (committed / "loop").symlink_to(committed / "loop")
    found = {run.device: run for run in references.references("*")}
    status = "current" if change is None else "damaged"
    assert {device: run.status for device, run in found.items()} == {"cpu": "current", "other": status}
    if change is not None:
        assert found["other"] == references.Reference("01_x", "other", "damaged")


def test_a_run_copied_over_another_is_damaged(committed):
    path = save("02_y", {"recall": TABLE})
    path.rename(path.with_name("01_x.json"))
    assert [run.status for run in references.references("*")] == ["damaged"]


def test_a_table_is_current_while_its_design_is_the_sessions(committed, monkeypatch):
    session = runtime.Session("01_x", designs={"recall": "a", "n50": "b"})
    monkeypatch.setattr(runtime, "session", session)
    monkeypatch.setenv("LCBOOK_SCALE", "full")
    tables = {"recall": TABLE, "n50": TABLE, "new": TABLE}
    path = save("01_x", tables)
    before = load_json(path)
    assert before["designs"] == {"full": {"recall": "a", "n50": "b"}}

    def current() -> list[str]:
        (run,) = references.references("01_x")
        return [name for name in (*tables, "missing") if run.is_current(name)]

    assert current() == ["recall", "n50"]
    monkeypatch.setenv("LCBOOK_SCALE", "live")
    assert current() == ["recall", "n50", "new"], "no digest of this scale is stored"
    assert references.save_designs("01_x", "cpu", "live", {"recall": "c", "n50": "d"}) == path
    assert load_json(path) == before | {"designs": before["designs"] | {"live": {"recall": "c", "n50": "d"}}}
    session.designs = {"recall": "c", "new": "e"}
    assert current() == ["recall"], "another design, one that is not stored, and one that is not made yet"
    assert references.references("01_x")[0].stale_tables() == ["new"]
    session.chapter = "02_y"
    assert current() == ["recall", "n50", "new"], "the session knows no design of another chapter"
    with pytest.raises(ValueError, match="scale is 'huge'; allowed are smoke, live, full, gpu"):
        references.save_designs("01_x", "cpu", "huge", {})
    with pytest.raises(FileNotFoundError):
        references.save_designs("02_y", "cpu", "live", {})


def test_committed_runs_lie_beside_the_package_or_in_it(monkeypatch, tmp_path):
    package = tmp_path / "lcbook"
    monkeypatch.setattr(references, "__file__", str(package / "references.py"))
    assert references.folder() == package / "_results"
    (tmp_path / "pyproject.toml").write_text("")
    assert references.folder() == tmp_path / "results", (
        "in a checkout, even before the first run is committed"
    )


def test_imports_where_the_system_has_neither_resource_nor_fcntl():
    code = (
        "import sys; sys.modules['resource'] = sys.modules['fcntl'] = None; import lcbook.cli;"
        "from lcbook import references;"
        "assert 'torch._dynamo' not in sys.modules, 'the compiler takes a second to import';"
        "print(references.provenance(0)['peak_memory_mib'])"
    )
    root = Path(__file__).resolve().parent.parent
    shown = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False
    )
    assert (shown.returncode, shown.stdout.strip()) == (0, "None"), shown.stderr
