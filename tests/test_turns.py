"""Turns, between real processes: what is timed never overlaps with a run, and a process that is killed stops nobody."""

from __future__ import annotations

import fcntl
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

import lcbook as lc
from lcbook import runtime, turns
from lcbook.attention import timing
from lcbook.attention.backends import Naive
from lcbook.experiments.streaming import ReadingCost
from lcbook.experiments.train import train
from lcbook.models.decoder import build

LONG = 60.0  # seconds: what takes longer hangs


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LCBOOK_CACHE", str(tmp_path))
    return tmp_path


@pytest.fixture
def process(cache):
    """Begin a process that runs some code with `turns`, `time` and `folder`; it is killed at the end."""
    begun = []

    def begin(code: str) -> subprocess.Popen[str]:
        head = f"import json, sys, time; sys.path.insert(0, {str(Path(turns.__file__).parent)!r}); import turns; "
        head += f"from pathlib import Path; folder = Path({str(cache)!r})\n"
        begun.append(
            subprocess.Popen([sys.executable, "-c", head + code], text=True, stdin=-1, stdout=subprocess.PIPE)
        )
        return begun[-1]

    yield begin
    for one in begun:
        one.kill()
        one.communicate()


def test_what_is_timed_never_overlaps_with_a_run(cache, process):
    # two runs of 200 pieces of about 2 ms, as a training pauses between its updates, and three timed pieces
    run = """
pieces = []
with turns.beside(folder):
    print("begun", flush=True)
    for _ in range(200):
        started = time.monotonic()
        time.sleep(0.002)
        pieces.append((started, time.monotonic()))
        turns.pause()
print(json.dumps(pieces))
"""
    runs = [process(run) for _ in range(2)]
    for one in runs:
        assert one.stdout.readline() == "begun\n"
    timed = []
    for _ in range(3):
        with turns.alone(cache):
            started = time.monotonic()
            time.sleep(0.05)
            timed.append((started, time.monotonic()))
        time.sleep(0.05)
    found = [json.loads(one.communicate(timeout=LONG)[0]) for one in runs]
    for pieces in found:
        assert not [(a, b) for a in timed for b in pieces if a[0] < b[1] and b[0] < a[1]]
        assert pieces[0][0] < timed[0][0] < timed[-1][1] < pieces[-1][1], "the run went on meanwhile"
    beside = sum(a[0] < b[1] and b[0] < a[1] for a in found[0] for b in found[1])
    assert beside > 50, "runs do not wait for each other"


def test_a_run_waits_for_what_is_timed_and_a_killed_process_stops_nobody(cache, process):
    ended = process(
        "with turns.alone(folder):\n print(1, flush=True); time.sleep(.3); print(time.monotonic())"
    )
    assert ended.stdout.readline() == "1\n"
    assert runtime.over(lambda _: time.monotonic(), [0], name="run")[0] > float(ended.stdout.readline())
    for kind, other in (("alone", turns.beside), ("beside", turns.alone)):
        killed = process(f"with turns.{kind}(folder):\n print(1, flush=True); time.sleep({LONG})")
        assert killed.stdout.readline() == "1\n"
        with pytest.raises(BlockingIOError), (cache / "turns" / "room").open("ab") as room:
            fcntl.flock(room, fcntl.LOCK_EX | fcntl.LOCK_NB)
        killed.kill()
        started = time.monotonic()
        with other(cache):
            assert time.monotonic() - started < LONG / 2


def test_a_training_gives_way_and_does_not_count_the_seconds(cache, process):
    spec, begun = lc.Spec(lc.ModelSpec(layers=1), lc.KeyValueRecall(), lc.TrainSpec(updates=20_000)), []

    def until(update: int, _: float) -> bool:
        if not begun:
            begun.append(process("with turns.alone(folder): time.sleep(1)"))
        return begun[0].poll() is not None or time.monotonic() > started + LONG

    started = time.monotonic()
    with turns.beside(cache):
        trained = train(
            build(spec.model, spec.task.vocabulary, 0), spec.task, spec.train, seed=0, until=until
        )
    assert begun[0].poll() == 0, "it had its turn while the training went on"
    assert trained.seconds < time.monotonic() - started - 0.9


def test_runs_that_time_a_part_of_theirs_do_not_wait_for_each_other_for_ever(process):
    code = """
with turns.beside(folder):
    for _ in range(20):
        with turns.alone(folder), turns.alone(folder), turns.beside(folder):
            assert turns.pause() == 0
        turns.pause()
print("ended")
"""
    for one in [process(code) for _ in range(3)]:
        assert one.communicate(timeout=LONG)[0] == "ended\n"


def test_every_clock_is_read_alone(cache, monkeypatch):
    spec, seen = lc.Spec(lc.ModelSpec(layers=1), lc.KeyValueRecall(), lc.TrainSpec()), []

    def clock() -> float:
        with (cache / "turns" / "room").open("ab") as room:
            try:
                fcntl.flock(room, fcntl.LOCK_SH | fcntl.LOCK_NB)
                seen.append("shared")
            except BlockingIOError:
                seen.append("alone")
        return float(len(seen))

    monkeypatch.setattr(time, "process_time", clock)
    for timed in (
        timing.machine,
        timing.Timing((Naive(),), (16,), rounds=1).measure,
        lambda: ReadingCost((64,), 1).rows(build(spec.model, spec.task.vocabulary, 0), spec),
    ):
        seen.clear()
        timed()
        assert set(seen) == {"alone"}
    clock()
    assert seen[-1] == "shared"


def test_nobody_waits_where_nothing_can_be_locked(cache, monkeypatch):
    def refuse(*_):
        raise OSError("no locks here")

    (cache / "file").touch()
    with turns.alone(cache / "file"), turns.beside(cache / "file"):
        assert turns.pause() == 0
    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", refuse)
        with turns.beside(cache), turns.alone(cache):
            assert turns.pause() == 0
    monkeypatch.setattr(turns, "fcntl", None)
    with turns.beside(cache), turns.alone(cache):
        assert turns.pause() == 0
