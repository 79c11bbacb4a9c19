"""Results: digests that tell specs apart, files written whole or not at all, damage noticed, committed runs."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import math
import os
import time
import warnings
from pathlib import Path

import pytest
import torch

from lcbook import store
from lcbook.attention.patterns import Window
from lcbook.experiments.schedules import Uniform
from lcbook.experiments.spec import Run, Spec
from lcbook.experiments.train import TrainSpec
from lcbook.models.decoder import ModelSpec
from lcbook.models.mixers import DeltaRule
from lcbook.models.positions import (
    NTK,
    ALiBi,
    Dynamic,
    Learned,
    Linear,
    NoPosition,
    Randomized,
    RoPE,
    Sinusoidal,
)
from lcbook.store import DamagedFileError, cached_rows, canonical, digest, load_json, save_json, write_bytes
from lcbook.tasks.mqar import MQAR
from lcbook.tasks.recall import KeyValueRecall

BODY = {"rows": [{"arm": "RoPE", "correct": 7, "loss": 0.1, "solved": True, "gap": None}], "é": "§"}

# Digests ----------------------------------------------------------------------------------------------


def test_canonical_worked_by_hand():
    assert canonical(RoPE(7.0, Linear(2.0))) == {
        "is": "RoPE",
        "base": 7.0,
        "scaling": {"is": "Linear", "factor": 2.0},
    }
    assert canonical({"a": (1, [2.5, None]), 3: True}) == {"a": [1, [2.5, None]], "3": True}


def test_canonical_refuses_what_has_no_plain_form():
    for value, name in ((object(), "object"), (torch.zeros(1), "Tensor"), ({1, 2}, "set"), (RoPE, "type")):
        with pytest.raises(ValueError, match=f"value is a {name}; allowed in a spec are"):
            canonical([value])


def test_digest_worked_by_hand(monkeypatch):
    monkeypatch.setattr(store, "COMPUTE_VERSION", 7)
    text = '[7, {"base": 10000.0, "is": "Sinusoidal"}, 3]'
    assert digest(Sinusoidal(), 3) == hashlib.sha256(text.encode()).hexdigest()[:16]


def test_digests_of_the_book_stay():
    """Weights are cached and committed runs kept under these: what a class is called and holds is part of them."""
    spec = ModelSpec(position=Randomized(RoPE(scaling=NTK(2.0)), 64), pattern=Window(3, 1, (0,)))
    kept = (Run("arm", Spec(), 0), "8ee719a0b12dec0c"), (spec, "c591268ab040ef35")
    assert [digest(value) for value, _ in kept] == [known for _, known in kept]


CHANGED = {
    "layers": 2, "width": 28, "heads": 2, "kv_heads": 1, "mlp": 7, "position": RoPE(), "normalizer": "log-n softmax",
    "key_shift": False, "qk_norm": False, "pattern": Window(8), "full_layers": (0,), "mixer": DeltaRule(),
    "separator": 3, "answer_loss": 0.5, "qk_scale": 4.0, "learn_scale": False,
    "pairs": 5, "queries": 2, "keys": 65, "values": 66, "filler": 67, "depth": 0.5, "competing": 0.25, "text": True,
    "announced": True, "rewritten": True, "depths": (0.5, 0.5), "agreeing": 0.25,
    "length": 65, "updates": 7, "batch": 3, "lr": 1e-4, "warmup": 0.2, "betas": (0.8, 0.95), "weight_decay": 0.1,
    "text_loss": 1.0, "stop_at_gate": True, "curriculum": ((16, 4),),
    "lengths": Uniform(8), "optimizer": "sgd",
}  # fmt: skip


def test_every_field_counts():
    parts = {"model": ModelSpec(), "task": KeyValueRecall(), "train": TrainSpec()}
    base = Run("arm", Spec(), 0)
    found = {
        digest(base),
        digest(dataclasses.replace(base, arm="other")),
        digest(dataclasses.replace(base, seed=1)),
    }
    count = 3
    for part, value in parts.items():
        for field in dataclasses.fields(value):
            assert field.name in CHANGED, f"say here how {field.name} may change"
            if field.name == "normalizer":
                changed = canonical(value) | {"normalizer": "another"}
            else:
                changed = canonical(dataclasses.replace(value, **{field.name: CHANGED[field.name]}))
            found.add(digest(canonical(base) | {"spec": canonical(base.spec) | {part: changed}}))
            count += 1
    assert len(found) == count


def test_class_names_and_types_count():
    alike = [
        Linear(2.0),
        NTK(2.0),
        NoPosition(),
        RoPE(),
        Sinusoidal(),
        ALiBi(),
        Dynamic(2.0, 64),
        2.0,
        2,
        "2",
        None,
    ]
    alike += [True, Learned(8), Randomized(RoPE(), 8), MQAR(), KeyValueRecall(), [], [[]], {}, "None"]
    assert len({digest(value) for value in alike}) == len(alike)
    assert len({digest(1, 2), digest(2, 1), digest(12), digest((1, 2)), digest(1, 2, None)}) == 5


def test_digest_changes_with_the_version(monkeypatch):
    here = digest(Spec())
    monkeypatch.setattr(store, "COMPUTE_VERSION", store.COMPUTE_VERSION + 1)
    assert digest(Spec()) != here


# Files ------------------------------------------------------------------------------------------------


def test_a_file_comes_back_as_it_was(tmp_path):
    path = tmp_path / "new" / "folder" / "a.json"
    save_json(path, BODY)
    assert load_json(path) == BODY
    save_json(path, {"b": [1.5, math.nan, math.inf], "c": (1, {"d": -math.inf})})
    assert load_json(path) == {"b": [1.5, None, None], "c": [1, {"d": None}]}
    text = path.read_text()
    assert "NaN" not in text
    assert "Infinity" not in text
    assert [p.name for p in path.parent.iterdir()] == ["a.json"]


def no_space(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("where", ["replace", "fsync", "mkstemp", "fdopen"])
def test_where_writing_fails_the_old_file_stays(monkeypatch, tmp_path, where):
    path = tmp_path / "a.json"
    save_json(path, BODY)
    monkeypatch.setattr(store.tempfile if where == "mkstemp" else os, where, no_space)
    with pytest.raises(OSError, match="No space left"):
        save_json(path, {"rows": []})
    with pytest.raises(OSError, match=r"No space left on device: '.*b\.json'"):
        write_bytes(tmp_path / "b.json", b"data")
    monkeypatch.undo()
    assert load_json(path) == BODY
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"], "nothing half-written is left behind"


def test_an_interrupted_write_leaves_nothing(monkeypatch, tmp_path):
    def interrupted(_):
        raise KeyboardInterrupt

    path = tmp_path / "a.json"
    save_json(path, BODY)
    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_json(path, {"rows": []})
    assert load_json(path) == BODY
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_what_a_killed_writer_left_is_swept_and_what_is_being_written_stays(tmp_path):
    left, written = tmp_path / "old.part", tmp_path / "new.part"
    for part in (left, written):
        part.touch()
    os.utime(left, times=(time.time() - 3700,) * 2)
    write_bytes(tmp_path / "a.json", b"data")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "new.part"]


def test_the_whole_file_is_there_before_it_takes_its_name(monkeypatch, tmp_path):
    path, replace = tmp_path / "a.json", os.replace
    sizes = []

    def watched(part, name):
        assert not Path(name).exists()
        assert Path(part).parent == Path(name).parent, "another file system would copy, not rename"
        sizes.append(Path(part).stat().st_size)
        replace(part, name)

    monkeypatch.setattr(os, "replace", watched)
    write_bytes(path, b"0123456789\n")
    assert sizes == [11]


def test_a_folder_that_cannot_be_written_is_an_os_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        write_bytes(tmp_path / "file" / "a.json", b"data")


def test_damage_is_noticed_wherever_it_is(tmp_path):
    path = tmp_path / "a.json"
    save_json(path, BODY)
    whole = path.read_bytes()
    for end in range(len(whole) - 1):  # the last byte is a line end
        path.write_bytes(whole[:end])
        with pytest.raises(DamagedFileError, match=r"a\.json"):
            load_json(path)
    for old, new in (
        (b"7", b"8"),
        (b"0.1", b"0.2"),
        (b"true", b"false"),
        (b"RoPE", b"Rope"),
        (b"arm", b"arn"),
    ):
        assert old in whole
        path.write_bytes(whole.replace(old, new))
        with pytest.raises(DamagedFileError, match=r"a\.json was changed after it was written"):
            load_json(path)
    path.write_text(json.dumps(json.loads(whole), indent=2))  # laid out anew, the same content
    assert load_json(path) == BODY


@pytest.mark.parametrize(
    "content",
    [b"", b"null", b"[1, 2]", b'{"rows": []}', b'{"body": {}}', b'{"checksum": "", "body": {}}', b'"text"', b"7",
     b"\xff\xfe", b"version https://git-lfs.github.com/spec/v1", b"<<<<<<< HEAD\n"],
)  # fmt: skip
def test_a_file_of_another_kind_is_named(tmp_path, content):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(DamagedFileError, match=r"a\.json"):
        load_json(path)


def test_a_file_that_is_not_there_is_no_damage(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_json(tmp_path / "a.json")


def test_rows_are_computed_once(tmp_path):
    path, calls = tmp_path / "rows" / "a.json", []

    def compute():
        calls.append(1)
        return [{"arm": "RoPE", "correct": len(calls), "depth": math.nan}]

    first = cached_rows(path, compute)
    assert first[0]["correct"] == 1
    with warnings.catch_warnings(action="error"):
        assert cached_rows(path, compute) == [{"arm": "RoPE", "correct": 1, "depth": None}], (
            "NaN is null there"
        )
    assert len(calls) == 1
    for damaged in (path.read_bytes()[:-9], path.read_bytes().replace(b'"correct": 1', b'"correct": 3'), b""):
        path.write_bytes(damaged)
        with pytest.warns(UserWarning, match=r"a\.json.* It is computed again") as told:
            again = cached_rows(path, compute)
        assert len(told) == 1
        assert again[0]["correct"] == len(calls)
        assert load_json(path)["rows"][0]["correct"] == len(calls)
    assert len(calls) == 4


def test_an_error_while_computing_stores_nothing(tmp_path):
    def compute():
        raise ValueError("lengths is ()")

    with pytest.raises(ValueError, match="lengths is"):
        cached_rows(tmp_path / "a.json", compute)
    assert [*tmp_path.iterdir()] == []


def test_rows_that_cannot_be_stored_are_returned_and_told(monkeypatch, tmp_path):
    monkeypatch.setenv("LCBOOK_CACHE", str(tmp_path))
    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.warns(UserWarning, match=r"cannot be written \(No space left on device\)") as told:
        assert cached_rows(tmp_path / "a.json", lambda: BODY["rows"]) == BODY["rows"]
    assert len(told) == 1
    assert str(tmp_path) in str(told[0].message)


def test_store_passes_on_what_is_no_trouble_of_the_disk():
    written = []
    store.store(lambda: written.append(1))
    assert written == [1]
    with pytest.warns(UserWarning, match="nothing is lost but time"):
        store.store(no_space)
    with pytest.raises(KeyError):
        store.store(lambda: {}["x"])


def test_rows_of_another_run_are_computed_again(tmp_path):
    store.cached_rows(tmp_path / "one.json", lambda: [{"recall": 1}])
    (tmp_path / "two.json").write_bytes((tmp_path / "one.json").read_bytes())
    with pytest.warns(UserWarning, match=r"two\.json holds the result of one, not its own"):
        assert store.cached_rows(tmp_path / "two.json", lambda: [{"recall": 2}]) == [{"recall": 2}]
    assert store.cached_rows(tmp_path / "two.json", list) == [{"recall": 2}]


@pytest.mark.parametrize(
    "body", [{"key": "rows"}, {"rows": 3}, {"rows": [{"recall": 1}, 3]}, {"key": ["rows"], "rows": []}]
)
def test_a_cache_file_of_another_kind_is_computed_again(tmp_path, body):
    store.save_json(tmp_path / "rows.json", body)
    with pytest.warns(UserWarning, match="computed again"):
        assert store.cached_rows(tmp_path / "rows.json", list) == []


@pytest.mark.parametrize("kind", ["folder", "loop"])
def test_rows_that_cannot_be_read_are_computed(tmp_path, kind):
    path = tmp_path / "rows.json"
    path.mkdir() if kind == "folder" else path.symlink_to(path)
    with warnings.catch_warnings(action="ignore"):
        assert store.cached_rows(path, lambda: [{"recall": 1}]) == [{"recall": 1}]


def test_a_result_without_a_key_is_believed_and_another_key_is_not(tmp_path):
    path, other = tmp_path / "one.json", tmp_path / "two.json"
    store.save_keyed(path, {"updates": 7})
    assert load_json(path) == {"key": "one", "updates": 7}
    assert store.load_keyed(path) == {"updates": 7}
    save_json(path, {"updates": 7})
    assert store.load_keyed(path) == {"updates": 7}
    store.save_keyed(path, {"updates": 7})
    path.rename(other)
    with pytest.raises(DamagedFileError, match=r"two\.json holds the result of one, not its own"):
        store.load_keyed(other)


@pytest.mark.parametrize("depth", [900, 100_000])
def test_a_very_deep_file_is_damaged(tmp_path, depth):
    deep = "[" * depth + "]" * depth
    for text in (deep, f'{{"checksum": "", "body": {{"rows": {deep}}}}}'):
        (tmp_path / "deep.json").write_text(text)
        with pytest.raises(DamagedFileError, match=r"deep\.json"):
            load_json(tmp_path / "deep.json")
