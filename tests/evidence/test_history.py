"""What was frozen and what was committed stays: both records only ever grow, and the rows are those on record."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from lcbook import references
from lcbook.claims import claim

ROOT = references.folder().parent


def taken_out(path: str, root: Path = ROOT) -> list[str]:
    """The lines that any commit has removed from a file."""
    log = ["git", "log", "-p", "--format=", "--no-renames", "--", path]
    done = subprocess.run(log, cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout, f"git knows no history of {path}"
    return [line for line in done.stdout.splitlines() if line.startswith("-") and not line.startswith("---")]


@pytest.mark.parametrize("path", ["lcbook/claims/claims.frozen", "results/rows.txt"])
def test_records_only_grow(path):
    assert taken_out(path) == []


def test_a_line_that_was_taken_out_is_seen(tmp_path):
    by = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    for text in ("one\ntwo\n", "one\n"):
        (tmp_path / "record").write_text(text)
        for words in (["init", "-q"], ["add", "record"], [*by, "commit", "-qm", "c"]):
            subprocess.run(["git", *words], cwd=tmp_path, check=True)
    assert taken_out("record", tmp_path) == ["-two"]


def test_committed_rows_are_those_on_record():
    found = {
        f"{path.parent.relative_to(references.folder())}/{path.stem}/{name}": digest
        for path in references.paths("*")
        for name, digest in references.row_digests(path).items()
    }
    assert found == references.recorded_rows()


def test_every_claim_and_withdrawal_is_frozen():
    there = claim.claims()
    gone = {name + claim.WITHDRAWN for name, one in there.items() if one.withdrawn}
    assert set(claim.lock()) == {*there, *gone}


def test_rows_that_change_are_put_on_record_and_the_old_ones_stay(tmp_path, monkeypatch):
    monkeypatch.setattr(references, "folder", lambda: tmp_path)
    path = tmp_path / "cpu" / "01_tiny.json"
    for rows in ([1, 2], [1, 2], [1, 3]):
        references.store.save_json(path, {"tables": {"recall": {"rows": rows}}})
        references.record_rows(path)
    lines = (tmp_path / "rows.txt").read_text().splitlines()
    assert len(lines) == 2
    assert references.recorded_rows() == {"cpu/01_tiny/recall": lines[1].split(" ", 1)[0]}
