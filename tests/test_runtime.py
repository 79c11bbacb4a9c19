"""The scale in force and what follows from it: values, lengths, device, folders, the clock of a chapter."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from lcbook import runtime
from lcbook.evaluation.sweep import Design
from lcbook.experiments.spec import Spec, grid
from lcbook.runtime import SCALES, at, doubling


@pytest.fixture
def scale(monkeypatch):
    return lambda name: monkeypatch.setenv("LCBOOK_SCALE", name)


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({"smoke": 1, "live": 2, "full": 3, "gpu": 4}, [1, 2, 3, 4]),
        ({"smoke": 1, "live": 5}, [1, 5, 5, 5]),
        ({"smoke": 1, "full": 3}, [1, 1, 3, 3]),
        ({"gpu": 7}, [7, 7, 7, 7]),
        ({"live": 2, "gpu": 4}, [2, 2, 2, 4]),
        ({"full": 3, "gpu": 4}, [3, 3, 3, 4]),
        ({"live": None, "full": 0}, [None, None, 0, 0]),
    ],
)
def test_at_falls_back_to_the_nearest_on_the_left_then_on_the_right(scale, given, found):
    values = []
    for name in SCALES:
        scale(name)
        values.append(at(**given))
    assert values == found


def test_at_refuses_a_scale_that_does_not_exist():
    with pytest.raises(ValueError, match=r"huge.*smoke, live, full, gpu"):
        at(live=1, huge=2)
    with pytest.raises(ValueError, match=r"no scale.*smoke, live, full, gpu"):
        at()


@pytest.mark.parametrize("name", ["nonsense", "Live", " full"])
def test_an_unknown_scale_in_the_environment_is_named(scale, name):
    scale(name)
    for ask in (runtime.scale, lambda: at(smoke=1), runtime.device, lambda: runtime.setup("chapter")):
        with pytest.raises(ValueError, match=rf"LCBOOK_SCALE is {name!r}.*smoke, live, full, gpu"):
            ask()


@pytest.mark.parametrize(("cuda", "found"), [(True, "gpu"), (False, "live")])
@pytest.mark.parametrize("unset", [True, False])
def test_the_scale_without_a_choice_follows_the_machine(monkeypatch, cuda, found, unset):
    if unset:
        monkeypatch.delenv("LCBOOK_SCALE", raising=False)
    else:
        monkeypatch.setenv("LCBOOK_SCALE", "")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    assert runtime.scale() == found


def test_a_gpu_is_used_at_gpu_scale_alone(monkeypatch, scale):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA H200 NVL")
    scale("gpu")
    assert (runtime.device().type, runtime.device_name()) == ("cuda", "nvidia-h200-nvl")
    assert runtime.device_description() == "NVIDIA H200 NVL"
    for name in ("smoke", "live", "full"):
        scale(name)
        assert (runtime.device().type, runtime.device_name()) == ("cpu", "cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    scale("gpu")
    assert runtime.device().type == "cpu"
    assert f"{runtime.cores()} cores" in runtime.device_description()


def test_chapters_side_by_side_are_given_a_share_of_the_cores(monkeypatch):
    there, described = runtime.cores(), runtime.device_description()
    monkeypatch.setenv("LCBOOK_CORES", str(there + 1))
    assert runtime.cores() == there + 1
    assert runtime.device_description() == described, "the machine is the same"
    for named in ("0", "-1", "two", "1.5"):
        monkeypatch.setenv("LCBOOK_CORES", named)
        with pytest.raises(ValueError, match=f"LCBOOK_CORES is '{named}'; allowed is a whole number from 1."):
            runtime.cores()


def test_doubling():
    assert doubling(64, 512) == (64, 128, 256, 512)
    assert doubling(64, 511) == (64, 128, 256)
    assert doubling(7, 7) == (7,)
    assert doubling(1, 3) == (1, 2)


@pytest.mark.parametrize(("start", "stop"), [(0, 8), (-2, 8), (9, 8)])
def test_doubling_refuses_what_never_arrives(start, stop):
    with pytest.raises(ValueError, match=rf"start {start} and stop {stop}.*1 <= start <= stop"):
        doubling(start, stop)


def test_the_cache_folder_is_named_and_not_created(monkeypatch, tmp_path):
    monkeypatch.setenv("LCBOOK_CACHE", str(tmp_path / "mine"))
    assert runtime.cache_dir() == tmp_path / "mine"
    assert not (tmp_path / "mine").exists()
    monkeypatch.setenv("HOME", str(tmp_path))
    for missing in ("", None):
        if missing is None:
            monkeypatch.delenv("LCBOOK_CACHE")
        else:
            monkeypatch.setenv("LCBOOK_CACHE", missing)
        assert runtime.cache_dir() == Path(tmp_path) / ".cache" / "lcbook"
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def own_session():
    threads, session, precision = (
        torch.get_num_threads(),
        runtime.session,
        torch.get_float32_matmul_precision(),
    )
    yield
    torch.set_num_threads(threads)
    torch.set_float32_matmul_precision(precision)
    runtime.session = session


@pytest.mark.usefixtures("own_session")
def test_setup_begins_and_finish_ends_a_chapter(monkeypatch, scale, capsys):
    scale("live")
    clock = iter([100.0, 109.0])
    monkeypatch.setattr(runtime.time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(runtime.progress, "pace", lambda: 1.0)
    runtime.session.tables["old"] = 1
    runtime.setup("01_chapter")
    assert (runtime.session.chapter, runtime.session.tables, runtime.session.verdicts) == (
        "01_chapter",
        {},
        [],
    )
    assert torch.get_num_threads() == runtime.cores()
    runtime.session.started = 100.0
    clock = iter([109.4])
    runtime.finish()
    first, last = capsys.readouterr().out.splitlines()
    assert first.startswith("01_chapter: CPU, ")
    assert first.endswith("scale live; budget 120 s")
    assert last == "01_chapter: 9 s of 120 s at scale live"


def test_the_sessions_seeds_take_the_place_of_a_count_and_of_nothing_else(monkeypatch):
    design = Design(tasks=("needle",), lengths=(64,), depths=(0.0,), samples=3)

    def found() -> list[list[int]]:
        runs = grid(Spec(), {"model.layers": [1]}, seeds=3)
        named = grid(Spec(), {"model.layers": [1]}, seeds=[5])
        return [
            [run.seed for run in runs],
            [run.seed for run in named],
            [place[3] for place in design.places()],
        ]

    assert found() == [[0, 1, 2], [5], [0, 1, 2]]
    monkeypatch.setattr(runtime, "session", runtime.Session(seeds=(7, 9)))
    assert found() == [[7, 9], [5], [7, 9]]
    with runtime.at_scale("gpu"):
        assert runtime.scale() == "gpu"
    assert os.environ.get("LCBOOK_SCALE") != "gpu"
