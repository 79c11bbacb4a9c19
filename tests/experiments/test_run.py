"""Experiments: the grid, the choice of an arm's rate, and runs that are cached, resumed and never lost."""

from __future__ import annotations

import dataclasses
import errno
import math
import multiprocessing
import os
import random
import shutil
import signal
import time
import warnings
from pathlib import Path

import pandas as pd
import pytest

from lcbook import runtime, store
from lcbook.experiments import run as experiment
from lcbook.experiments.changes import TUNE_SEED, Reposition, Tune
from lcbook.experiments.measures import Gap, Probe, Recall
from lcbook.experiments.run import best, fine_tune, measure, run, trained_model
from lcbook.experiments.schedules import Fixed, Stage, Steps, Uniform
from lcbook.experiments.spec import Run, Spec, columns, grid
from lcbook.experiments.train import TrainSpec
from lcbook.models.decoder import ModelSpec
from lcbook.models.positions import ALiBi, Learned, Linear, NoPosition, Randomized, RoPE, Sinusoidal
from lcbook.tasks.mqar import MQAR
from lcbook.tasks.recall import KeyValueRecall
from tests.asking import recall_rows
from tests.processes import awaited, group

TINY = Spec(
    ModelSpec(width=14),
    KeyValueRecall(pairs=2, queries=2, keys=5, values=3, filler=7),
    TrainSpec(length=16, updates=3, batch=5, lr=1e-2),
)
AXES = {"model.position": [NoPosition(), RoPE()]}
# Clocks are no result: they differ from run to run.
CLOCKS = ["seconds", "seconds_to_gate"]


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path) -> Path:
    """A cache folder of the test's own, and a session that forgets what the test ran."""
    monkeypatch.setenv("LCBOOK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(runtime, "session", runtime.Session())
    return tmp_path / "cache"


def tiny(seeds=2, axes=AXES, **more) -> list[Run]:
    return grid(TINY, axes, seeds=seeds, **more)


def sweep(runs, **options) -> pd.DataFrame:
    """The rows of `runs` at two lengths, quietly."""
    return run(runs, name="test", lengths=(16, 32), questions=20, **options)


def same(one: pd.DataFrame, two: pd.DataFrame) -> None:
    """Fail unless two frames hold the same rows but for the clocks."""
    pd.testing.assert_frame_equal(one.drop(columns=CLOCKS), two.drop(columns=CLOCKS), check_like=True)


def counting(monkeypatch) -> list[Run]:
    """Every training from here on, as its spec and seed."""
    trained, real = [], experiment.train

    def train(model, task, spec, *, seed, **kept):
        trained.append((model.spec, spec, seed))
        return real(model, task, spec, seed=seed, **kept)

    monkeypatch.setattr(experiment, "train", train)
    return trained


# The grid ---------------------------------------------------------------------------------------------


def test_grid_worked_by_hand():
    runs = grid(
        TINY,
        {"model.position": [NoPosition(), RoPE()], "train.length": {"short": 16, "long": 32}},
        seeds=(3, 5),
        sweep={"train.lr": [0.1, 0.2]},
    )
    assert [one.arm for one in runs[::4]] == ["none, short", "none, long", "RoPE, short", "RoPE, long"]
    assert [(one.spec.train.lr, one.seed) for one in runs[:4]] == [(0.1, 3), (0.1, 5), (0.2, 3), (0.2, 5)]
    assert len(runs) == 2 * 2 * 2 * 2
    assert {one.arm for one in runs[:4]} == {"none, short"}
    assert runs[-1] == Run(
        "RoPE, long",
        Spec(
            ModelSpec(width=14, position=RoPE()),
            TINY.task,
            TrainSpec(length=32, updates=3, batch=5, lr=0.2),
        ),
        5,
    )


def test_arms_are_named_by_what_differs():
    assert [one.arm for one in grid(TINY, {"model.key_shift": [True, False]}, seeds=1)] == [
        "key shift True",
        "key shift False",
    ]
    assert [one.arm for one in grid(TINY, {}, seeds=2)] == ["base", "base"]
    assert [one.arm for one in grid(TINY, {}, seeds=1, sweep={"train.lr": [1.0, 2.0]})] == ["base", "base"]
    whole = grid(TINY, {"task": {"MQAR": MQAR(), "recall": TINY.task}}, seeds=1)
    assert [(one.arm, type(one.spec.task)) for one in whole] == [("MQAR", MQAR), ("recall", KeyValueRecall)]
    lengths = grid(TINY, {"train.lengths": [Fixed(), Uniform(8), Steps((Stage(16, 1.0),))]}, seeds=1)
    assert [one.arm for one in lengths] == ["fixed", "uniform", "steps"]
    assert [one.seed for one in grid(TINY, {}, seeds=3)] == [0, 1, 2]


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ({"model.possition": [RoPE()]}, r"'possition'; allowed in ModelSpec are layers, width"),
        ({"lr": [1.0]}, r"'lr'; allowed in Spec are model, task, train"),
        ({"train.position.base": [1.0]}, r"'position.base'; allowed in TrainSpec are length"),
        ({"model.layers.deep": [1]}, r"'deep'; allowed in int are no fields"),
    ],
)
def test_an_unknown_field_is_named(axes, message):
    with pytest.raises(ValueError, match=message):
        grid(TINY, axes, seeds=1)
    with pytest.raises(ValueError, match=message):
        grid(TINY, {}, seeds=1, sweep=axes)


@pytest.mark.parametrize(
    ("axes", "seeds", "swept"),
    [
        ({"model.layers": []}, 1, None),
        ({"model.layers": {}}, 1, None),
        (AXES, 0, None),
        (AXES, -1, None),
        (AXES, [], None),
        (AXES, 1, {"train.lr": []}),
    ],
)
def test_an_empty_axis_is_refused(axes, seeds, swept):
    with pytest.raises(ValueError, match=r"grid got seeds .*allowed is at least one seed and value each"):
        grid(TINY, axes, seeds=seeds, sweep=swept)


def test_a_value_that_no_model_can_have_is_named():
    with pytest.raises(ValueError, match="layers is 0"):
        grid(TINY, {"model.layers": [1, 0]}, seeds=1)


def test_columns_worked_by_hand():
    spec = Spec(
        ModelSpec(position=Randomized(RoPE(7.0, Linear(4.0)), 512)), train=TrainSpec(curriculum=((16, 4),))
    )
    found = columns(spec)
    assert found["model.position"] == "RoPE + PI randomized"
    assert found["model.position.max_length"] == 512
    assert found["model.position.inner.base"] == 7.0
    assert found["model.position.inner.scaling.factor"] == 4.0
    assert (found["model.layers"], found["model.key_shift"], found["train.length"]) == (1, True, 64)
    assert found["task.depth"] is None
    assert found["train.curriculum"] == "((16, 4),)"
    assert found["train.lengths"] == "fixed"
    uniform = columns(TrainSpec(lengths=Uniform(8)))
    assert (uniform["lengths"], uniform["lengths.shortest"]) == ("uniform", 8)
    assert columns(ModelSpec(position=NoPosition()))["position"] == "none"
    assert all(value is None or isinstance(value, (bool, int, float, str)) for value in found.values())


# The choice of a rate ---------------------------------------------------------------------------------


def rates(*rows) -> pd.DataFrame:
    """A frame of (arm, lr, seed, updates to the gate or None, budget, correct of 10 at the longest length)."""
    names = ("arm", "train.lr", "seed", "updates_to_gate", "updates", "correct")
    frame = pd.DataFrame([dict(zip(names, row, strict=True)) for row in rows])
    frame = frame.astype({"updates_to_gate": float})
    frame = frame.assign(solved=frame["updates_to_gate"].notna(), total=10, in_distribution=0.5)
    return pd.concat([frame.assign(length=64, correct=10), frame.assign(length=4096)], ignore_index=True)


def test_the_best_rate_solves_more_seeds_then_takes_fewer_updates():
    frame = rates(
        ("a", 0.1, 0, 10, 100, 9), ("a", 0.1, 1, None, 100, 9),  # one of two seeds, however quick
        ("a", 0.2, 0, 90, 100, 2), ("a", 0.2, 1, 80, 100, 2),
        ("a", 0.4, 0, 70, 100, 1), ("a", 0.4, 1, 80, 100, 1),  # both seeds, 75 against 85 updates
        ("b", 0.1, 0, None, 50, 8), ("b", 0.1, 1, None, 50, 8),
        ("b", 0.2, 0, None, 40, 0), ("b", 0.2, 1, None, 50, 0),  # none solved: budgets of 45 against 50
    )  # fmt: skip
    kept = best(frame, name="chosen")
    assert kept.groupby("arm")["train.lr"].unique().map(list).to_dict() == {"a": [0.4], "b": [0.2]}
    assert len(kept) == 8, "both seeds and both lengths of each arm"
    assert list(kept.columns) == list(frame.columns)
    assert runtime.session.tables["chosen"] is kept


def test_rates_that_tie_are_told_apart_in_distribution():
    frame = rates(*[("a", rate, seed, None, 100, 5) for rate in (0.1, 0.2, 0.4) for seed in (0, 1)])
    frame = frame.assign(in_distribution=frame["train.lr"].map({0.1: 0.7, 0.2: 0.9, 0.4: 0.8}))
    assert best(frame, name="x")["train.lr"].unique().tolist() == [0.2]


def test_the_longer_lengths_are_never_looked_at():
    frame = rates(("a", 0.1, 0, 10, 100, 0), ("a", 0.2, 0, 11, 100, 10))
    assert best(frame, name="x")["train.lr"].unique().tolist() == [0.1]
    worse = frame.assign(correct=frame["correct"].where(frame["length"] == 64, 10 - frame["correct"]))
    assert best(worse, name="x")["train.lr"].unique().tolist() == [0.1]
    shuffled = frame.sample(frac=1, random_state=7)
    assert best(shuffled, name="x")["train.lr"].unique().tolist() == [0.1]


def test_best_names_a_column_that_is_missing():
    with pytest.raises(ValueError, match=r"choose is 'lr'; allowed is a column of the frame"):
        best(rates(("a", 0.1, 0, 10, 100, 0)), name="x", choose="lr")


# Running ----------------------------------------------------------------------------------------------


def test_the_frame_has_one_row_a_run_probe_and_length():
    frame = sweep(
        tiny(), probes=[Probe(Recall((32,), 7), (Reposition(RoPE(scaling=Linear(2.0))),), "squeezed")]
    )
    assert len(frame) == 4 * 3
    assert frame["probe"].tolist() == ["as trained", "as trained", "squeezed"] * 4
    assert frame["length"].tolist() == [16, 32, 32] * 4
    assert frame["total"].tolist() == [20, 20, 8] * 4
    assert frame["arm"].tolist() == ["none"] * 6 + ["RoPE"] * 6
    assert frame["seed"].tolist() == [0] * 3 + [1] * 3 + [0] * 3 + [1] * 3
    assert (frame["chance"] == 1 / 3).all()
    assert not frame["solved"].any()
    assert (frame["updates"] == 3).all()
    assert (frame["gap"] == 0).all()
    assert (frame["correct"] <= frame["total"]).all()
    assert runtime.session.tables["test"] is frame
    wanted = {
        "arm",
        "model.position",
        "model.key_shift",
        "seed",
        "probe",
        "length",
        "gap",
        "correct",
        "total",
    }
    wanted |= {"chance", "solved", "updates_to_gate", "seconds_to_gate", "updates", "seconds"}
    assert wanted | {"train.length", "in_distribution"} <= set(frame.columns)


def test_octaves_add_up_to_the_pooled_row():
    by_gap, pooled = (
        run(tiny(), name="x", probes=[Probe(Recall((16, 32), 20, by=by))]) for by in (Gap(), Recall().by)
    )
    assert (by_gap["gap"] > 0).all()
    assert by_gap.groupby(["arm", "seed", "length"]).size().max() > 1
    keys = ["arm", "seed", "length"]
    for name in ("correct", "total"):
        assert by_gap.groupby(keys)[name].sum().equals(pooled.groupby(keys)[name].sum())
    assert set(by_gap.columns) - set(pooled.columns) == {"measure.by.width"}


def test_a_probe_without_lengths_measures_at_the_training_length():
    runs = grid(TINY, {"train.length": [16, 24]}, seeds=1)
    assert run(runs, name="x", probes=[Probe(Recall(questions=4))])["length"].tolist() == [16, 24]


def test_probes_leave_the_trained_weights_to_the_next():
    asked = Recall((16,), 50)
    changed = [
        Probe(
            dataclasses.replace(asked, task=KeyValueRecall(pairs=3, queries=1, keys=5, values=3, filler=7))
        ),
        Probe(asked, (Tune(TrainSpec(length=16, updates=5, batch=5, lr=0.1)),)),
        Probe(asked, (Reposition(ALiBi(2.0)),)),
    ]
    last = Probe(asked, label="last")
    frame = run(tiny(1), name="x", probes=[Probe(asked, label="first"), *changed, last])
    first, final = (frame[frame["probe"] == name]["correct"].tolist() for name in ("first", "last"))
    assert first == final
    assert run(tiny(1), name="x", probes=[last])["correct"].tolist() == final


def test_the_same_rows_in_any_order_and_any_number_of_workers(monkeypatch, tmp_path):
    runs = tiny()
    alone = sweep(runs, workers=1)
    keys = ["arm", "seed", "length"]
    monkeypatch.setenv("LCBOOK_CACHE", str(tmp_path / "reversed"))
    backwards = sweep(runs[::-1], workers=1).sort_values(keys, ignore_index=True)
    same(alone.sort_values(keys, ignore_index=True), backwards)
    for folder in ("parallel", "parallel again"):  # the second time the workers are there already
        monkeypatch.setenv("LCBOOK_CACHE", str(tmp_path / folder))
        same(alone, sweep(runs, workers=2))
        assert len(list((tmp_path / folder / "rows").iterdir())) == 4, "in the cache of the caller"
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LCBOOK_CACHE", str(tmp_path / "file" / "cache"))
    with warnings.catch_warnings(action="ignore"):
        same(alone, sweep(runs, workers=2))


def test_the_second_call_trains_nothing(monkeypatch, cache):
    trained = counting(monkeypatch)
    first = sweep(tiny())
    assert len(trained) == 4
    files = {path: path.stat().st_mtime_ns for path in cache.rglob("*.*")}
    assert len(files) == 4 * 3
    pd.testing.assert_frame_equal(sweep(tiny()), first)  # the clocks too
    assert len(trained) == 4
    assert {path: path.stat().st_mtime_ns for path in cache.rglob("*.*")} == files


def test_missing_values_are_the_same_from_the_cache():
    first, again = sweep(tiny(1)), sweep(tiny(1))
    pd.testing.assert_frame_equal(first, again)
    assert first["depth"].dtype == again["depth"].dtype == float
    assert first["updates_to_gate"].dtype == again["updates_to_gate"].dtype == float


def test_other_questions_are_asked_of_the_cached_weights(monkeypatch):
    trained = counting(monkeypatch)
    sweep(tiny())
    longer = run(tiny(), name="x", lengths=(64,), questions=20)
    renamed = run(
        [Run("other name", one.spec, one.seed) for one in tiny()], name="x", lengths=(64,), questions=20
    )
    assert len(trained) == 4
    assert longer["correct"].tolist() == renamed["correct"].tolist()
    assert set(renamed["arm"]) == {"other name"}


@pytest.mark.parametrize(
    "change",
    [
        {"train.lr": [2e-2]},
        {"model.layers": [2]},
        {"task.pairs": [3]},
        {"train.batch": [6]},
        {"train.updates": [4]},
    ],
    ids=str,
)
def test_a_changed_spec_is_trained_anew(monkeypatch, change):
    sweep(tiny(1, {}))
    trained = counting(monkeypatch)
    sweep(tiny(1, change))
    sweep(tiny(1, {}))
    assert len(trained) == 1


def test_a_raised_version_makes_the_cache_stale(monkeypatch):
    first = sweep(tiny(1))
    trained = counting(monkeypatch)
    monkeypatch.setattr(store, "COMPUTE_VERSION", store.COMPUTE_VERSION + 1)
    same(sweep(tiny(1)), first)
    assert len(trained) == 2


def test_trained_model_is_the_one_that_was_measured():
    (one,) = tiny(1, {})
    fresh, about = trained_model(one)
    again, told = trained_model(one)
    assert told == about
    assert about.updates == 3
    assert len(about.recalls) == 3
    state = fresh.state_dict()
    assert all(state[name].equal(value) for name, value in again.state_dict().items())
    assert not again.training


@pytest.mark.parametrize(
    ("runs", "options"),
    [([], {"lengths": (16,)}), (tiny(1), {}), (tiny(1), {"probes": []})],
)
def test_nothing_to_run_is_refused(runs, options):
    with pytest.raises(
        ValueError, match=r"run 'empty' got \d runs and \d probes; allowed is at least one of each"
    ):
        run(runs, name="empty", **options)


def test_a_length_too_short_for_a_task_is_named_and_the_rest_is_kept(cache):
    crowded = dataclasses.replace(TINY.task, pairs=5, rewritten=True)
    runs = tiny(1, {"task": {"fits": TINY.task, "does not": crowded}})
    with pytest.raises(ValueError, match=r"length is 16; allowed is batch >= 1 and length >= 18"):
        sweep(runs)
    assert len(list((cache / "rows").iterdir())) == 1, "the run that could be measured is kept"


def test_the_bar_shows_the_runs_that_are_left(capsys):
    sweep(tiny())
    shown = capsys.readouterr().err
    assert "test:" in shown
    assert "0/4" in shown
    assert "4/4" in shown


# Damage -----------------------------------------------------------------------------------------------


def halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def edit(path: Path) -> None:
    text = path.read_bytes()
    assert b'"correct": ' in text or b'"updates": 3' in text
    path.write_bytes(text.replace(b'"correct": ', b'"correct": 1').replace(b'"updates": 3', b'"updates": 4'))


@pytest.mark.parametrize(
    "damage", [halve, edit, lambda path: path.write_bytes(b"")], ids=["cut", "edited", "empty"]
)
def test_damaged_rows_are_named_and_computed_again(monkeypatch, cache, damage):
    first = sweep(tiny())
    broken, whole = sorted((cache / "rows").iterdir())[:2]
    before = whole.stat().st_mtime_ns
    damage(broken)
    trained = counting(monkeypatch)
    with pytest.warns(UserWarning, match=f"{broken.name}.* It is computed again") as told:
        same(sweep(tiny()), first)
    assert len(told) == 1
    assert trained == [], "the weights are whole"
    assert whole.stat().st_mtime_ns == before
    with warnings.catch_warnings(action="error"):
        same(sweep(tiny()), first)


@pytest.mark.parametrize(("end", "damage"), [(".safetensors", halve), (".json", halve), (".json", edit)])
def test_damaged_weights_are_named_and_trained_again(monkeypatch, cache, end, damage):
    runs = tiny(1)
    first = sweep(runs)
    for path in (cache / "rows").iterdir():
        path.unlink()
    broken = next((cache / "weights").glob(f"*{end}"))
    damage(broken)
    trained = counting(monkeypatch)
    with pytest.warns(UserWarning, match=f"{broken.name}.* It is trained again") as told:
        same(sweep(runs), first)
    assert len(told) == 1
    assert len(trained) == 1
    with warnings.catch_warnings(action="error"):
        trained_model(runs[0])
        trained_model(runs[1])
    assert len(trained) == 1


@pytest.mark.parametrize("end", [".safetensors", ".json"])
def test_half_of_a_pair_of_files_is_trained_again_in_silence(monkeypatch, cache, end):
    (one,) = tiny(1, {})
    fresh, _ = trained_model(one)
    next((cache / "weights").glob(f"*{end}")).unlink()
    trained = counting(monkeypatch)
    with warnings.catch_warnings(action="error"):
        again, _ = trained_model(one)
    assert len(trained) == 1
    assert all(fresh.state_dict()[name].equal(value) for name, value in again.state_dict().items())


def told_once(runs, frame: pd.DataFrame, reason: str, **options) -> None:
    """Fail unless a run with a broken cache says so once and gives the rows of `frame`."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("default")
        same(sweep(runs, **options), frame)
    texts = [str(warning.message) for warning in told]
    assert len(texts) == 1, texts
    assert str(runtime.cache_dir()) in texts[0]
    assert reason in texts[0]
    assert "nothing is lost but time" in texts[0]


def test_a_cache_folder_that_cannot_be_made_costs_nothing_but_time(monkeypatch, tmp_path):
    first = sweep(tiny())
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LCBOOK_CACHE", str(tmp_path / "file" / "cache"))
    told_once(tiny(), first, "Not a directory")
    with pytest.warns(UserWarning, match="cannot be written"):
        assert trained_model(tiny(1)[0])[1].updates == 3


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="the superuser may write anywhere")
def test_a_cache_folder_that_is_read_only_costs_nothing_but_time(monkeypatch, tmp_path):
    first = sweep(tiny())
    (tmp_path / "closed").mkdir(mode=0o500)
    monkeypatch.setenv("LCBOOK_CACHE", str(tmp_path / "closed"))
    told_once(tiny(), first, "Permission denied")


def test_no_space_left_costs_nothing_but_time(monkeypatch, tmp_path, cache):
    first = sweep(tiny())
    monkeypatch.setenv("LCBOOK_CACHE", str(tmp_path / "full"))

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "a name that is different each time")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        told_once(tiny(), first, "No space left on device")
    assert list((tmp_path / "full").rglob("*.*")) == []
    with warnings.catch_warnings(action="error"):
        same(sweep(tiny()), first)
    assert len(list((tmp_path / "full" / "rows").iterdir())) == 4


# Killed -----------------------------------------------------------------------------------------------


def work(cache: str, workers: int, seeds: int, kill_at: int = 0, renamed: bool = False) -> None:
    """Run in a process of its own, which dies at the `kill_at`-th file it finishes, before or after its renaming."""
    os.environ.update(LCBOOK_CACHE=cache, LCBOOK_SCALE="smoke")
    replace, left = os.replace, [kill_at]

    def deadly(part, path):
        left[0] -= 1
        if left[0] or renamed:
            replace(part, path)
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)

    os.replace = deadly
    sweep(tiny(seeds), workers=workers)


def in_a_group(cache: str) -> None:
    os.setsid()
    work(cache, workers=2, seeds=30)


@pytest.fixture(scope="module")
def processes():
    """Processes that start in no time: a server has imported the package and forks them."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch._dynamo", __name__])
    return context


def finished(cache: Path) -> dict[Path, tuple[int, int]]:
    """Every file of a finished run or model, with when and where it was written."""
    rows, told = list(cache.glob("rows/*.json")), list(cache.glob("weights/*.json"))
    files = [*rows, *told, *(path.with_suffix(".safetensors") for path in told)]
    return {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in files}


def goes_on(cache: Path, monkeypatch, seeds: int) -> None:
    """Fail unless what is finished stays as it is, and the rows are those of a run that nothing interrupted."""
    kept = finished(cache)
    resumed = sweep(tiny(seeds))
    after = finished(cache)
    assert after | kept == after, "what was finished was written again"
    with monkeypatch.context() as patched:
        patched.setenv("LCBOOK_CACHE", str(cache) + "-uninterrupted")
        same(resumed, sweep(tiny(seeds)))


# A run writes its weights, what training did, and its rows: a model is finished with its second file.
BEFORE, AFTER = False, True
KILLS = [(1, BEFORE, 0), (1, AFTER, 0), (2, BEFORE, 0), (2, AFTER, 2), (1, BEFORE, 2), (1, AFTER, 3)]


@pytest.mark.slow
def test_killed_at_each_file_it_goes_on_from_there(processes, cache, monkeypatch):
    kept: dict[Path, tuple[int, int]] = {}
    for kill_at, renamed, done in KILLS:
        process = processes.Process(target=work, args=(str(cache), 1, 1, kill_at, renamed))
        process.start()
        process.join(60)
        assert process.exitcode == -signal.SIGKILL
        now = finished(cache)
        assert now | kept == now, "what was finished was written again"
        assert len(now) == done
        kept = now
        if (kill_at, renamed) == (2, AFTER):
            goes_on_in_a_copy(cache, monkeypatch)
    goes_on(cache, monkeypatch, 1)


def goes_on_in_a_copy(cache: Path, monkeypatch) -> None:
    copy = cache.with_name(f"copy-{len(finished(cache))}")
    shutil.copytree(cache, copy)
    with monkeypatch.context() as patched:
        patched.setenv("LCBOOK_CACHE", str(copy))
        goes_on(copy, monkeypatch, 1)


@pytest.mark.slow
def test_killed_at_any_moment_it_goes_on_from_there(processes, cache, monkeypatch):
    draw, kept, kills = random.Random(7), finished(cache), 0
    for _ in range(3):
        process = processes.Process(target=work, args=(str(cache), 1, 12))
        started = time.monotonic()
        process.start()
        while not list(cache.rglob("*.part")) and time.monotonic() < started + 20 and process.is_alive():
            time.sleep(0.001)  # until it writes for the first time
        time.sleep(draw.uniform(0, 0.1))
        process.kill()
        process.join(60)
        kills += process.exitcode == -signal.SIGKILL
        now = finished(cache)
        assert now | kept == now, "what was finished was written again"
        kept = now
    assert kills
    goes_on(cache, monkeypatch, 12)
    assert len(finished(cache)) == 2 * 12 * 3


@pytest.mark.slow
def test_killed_it_takes_its_workers_along_and_goes_on_from_there(processes, cache, monkeypatch):
    process = processes.Process(target=in_a_group, args=(str(cache),))
    process.start()
    awaited(lambda: len(finished(cache)) >= 9)
    assert len(group(process.pid)) >= 3, "the process and two workers"
    os.kill(process.pid, signal.SIGKILL)
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    awaited(lambda: not group(process.pid))
    assert 9 <= len(finished(cache)) < 2 * 30 * 3
    goes_on(cache, monkeypatch, 5)


class Killed(BaseException):
    """Stands for the signal that ends a process."""


def test_a_long_training_goes_on_from_its_checkpoint(monkeypatch, cache):
    (one,) = tiny(1, {})
    expected, about = trained_model(one)
    shutil.rmtree(cache)
    monkeypatch.setattr(experiment, "CHECKPOINT_SECONDS", 0.0)
    real = experiment.train

    def killed(*spec, **options):
        return real(*spec, **options, until=dies)

    def dies(update: int, recall: float) -> bool:
        updates.append(update)
        if update == kill_at:
            raise Killed
        return False

    monkeypatch.setattr(experiment, "train", killed)
    updates: list[int] = []
    kill_at = 2
    with pytest.raises(Killed):
        trained_model(one)
    (left,) = (cache / "weights" / "unfinished").iterdir()
    kill_at = 0
    model, told = trained_model(one)
    assert updates == [1, 2, 2, 3]
    assert told.recalls == about.recalls
    weights = expected.state_dict()
    assert all(weights[name].equal(value) for name, value in model.state_dict().items())
    assert not left.exists()


def test_a_damaged_checkpoint_is_named_and_trained_from_the_start(monkeypatch, cache):
    (one,) = tiny(1, {})
    expected = trained_model(one)[1].recalls
    name = next((cache / "weights").glob("*.safetensors")).name
    shutil.rmtree(cache)
    (cache / "weights" / "unfinished").mkdir(parents=True)
    (cache / "weights" / "unfinished" / name).write_text("half")
    with pytest.warns(UserWarning, match=f"{name} is no complete .* It is trained from the start") as told:
        assert trained_model(one)[1].recalls == expected
    assert len(told) == 1
    assert list((cache / "weights" / "unfinished").iterdir()) == []


# Fine-tuning ------------------------------------------------------------------------------------------

BRIEF = TrainSpec(length=24, updates=4, batch=6, lr=1e-2)


def test_fine_tuning_is_cached_and_leaves_the_run_as_it_was(monkeypatch, cache):
    (one,) = tiny(1, {})
    before = trained_model(one)[0].state_dict()
    trained = counting(monkeypatch)
    tuned, about = fine_tune(one, BRIEF)
    again, told = fine_tune(one, BRIEF)
    assert trained == [(one.spec.model, BRIEF, experiment.TUNE_SEED)]
    assert told == about
    assert about.updates == 4
    after = tuned.state_dict()
    assert all(after[name].equal(value) for name, value in again.state_dict().items())
    assert not any(after[name].equal(value) for name, value in before.items())
    kept = trained_model(one)[0].state_dict()
    assert all(kept[name].equal(value) for name, value in before.items())
    others = [
        fine_tune(one, BRIEF, seed=7),
        fine_tune(one, dataclasses.replace(BRIEF, lr=2e-2)),
        fine_tune(one, BRIEF, task=dataclasses.replace(TINY.task, depth=0.5)),
        fine_tune(tiny([5], {})[0], BRIEF, seed=TUNE_SEED),
    ]
    states = [after, *(model.state_dict() for model, _ in others)]
    assert len({state["embedding.weight"].numpy().tobytes() for state in states}) == 5
    assert len(trained) == 6, "these four, and the other run itself"
    assert len(list((cache / "weights").glob("*.json"))) == 7


def test_fine_tuning_is_what_a_probe_does():
    (one,) = tiny(1, {})
    task = dataclasses.replace(TINY.task, depths=(0.5, 0.5))
    frame = run([one], name="x", probes=[Probe(Recall((16, 24), 90, task), (Tune(BRIEF),))])
    model, _ = fine_tune(one, BRIEF, task=task)
    for row in frame.itertuples():
        found = recall_rows(model, task, row.length, 90, seed=one.seed)
        assert row.correct == sum(part["correct"] for part in found)


def test_fine_tuning_with_tokens_that_the_model_lacks_is_named():
    (one,) = tiny(1, {})
    with pytest.raises(ValueError, match=r"task has 16 tokens; allowed are those of the model, 15\."):
        fine_tune(one, BRIEF, task=dataclasses.replace(TINY.task, filler=8))
    assert fine_tune(one, BRIEF, task=dataclasses.replace(TINY.task, filler=6))[1].updates == 4


# What a run says of itself ----------------------------------------------------------------------------


def test_a_solved_run_says_when(monkeypatch):
    easy = Spec(
        ModelSpec(width=14),
        KeyValueRecall(pairs=1, queries=1, keys=1, values=1, filler=1),
        TrainSpec(length=4, updates=12, batch=200, lr=0.3, stop_at_gate=True),
    )
    frame = run(grid(easy, {}, seeds=1), name="x", lengths=(4,), questions=10)
    row = frame.iloc[0]
    assert row["solved"]
    assert row["in_distribution"] == 1.0
    assert row["correct"] == row["total"] == 10
    assert 5 <= row["updates_to_gate"] == row["updates"] < 12
    assert 0 < row["seconds_to_gate"] <= row["seconds"]
    assert math.isclose(row["train.lr"], 0.3)


def test_measure_gives_plain_rows():
    (one,) = grid(TINY, {"model.position": [Sinusoidal()]}, seeds=[7])
    rows = measure(one, [Probe(Recall((16,), 4))])
    assert sum(row["total"] for row in rows) == 4
    assert {(row["arm"], row["seed"], row["probe"]) for row in rows} == {("sinusoidal", 7, "as trained")}


def test_arms_of_one_name_and_seeds_given_twice_are_refused():
    with pytest.raises(ValueError, match="different names"):
        grid(Spec(), {"model.position": [RoPE(10.0), RoPE(1000.0)]}, seeds=1)
    with pytest.raises(ValueError, match="each seed once"):
        grid(Spec(), {}, seeds=[0, 1, 0])


def test_another_record_in_a_trainings_place_is_trained_again(cache):
    (one,) = tiny(1, {})
    _, told = trained_model(one)
    (path,) = (cache / "weights").glob("*.json")
    for body in ({"key": path.stem, "nothing": 1}, {"key": "another's", **dataclasses.asdict(told)}):
        store.save_json(path, body)
        with pytest.warns(UserWarning, match="trained again"):
            assert trained_model(one)[1].updates == told.updates


def test_another_spec_makes_another_design():
    (one,) = tiny(1, {})
    wider = Run(one.arm, dataclasses.replace(one.spec, model=ModelSpec(width=22)), one.seed)
    designs = [sweep([run]).attrs["design"] for run in (one, one, wider)]
    assert designs[0] == designs[1] != designs[2]
    assert runtime.session.designs["test"] == designs[2]


def test_lengths_beyond_a_table_are_refused_before_any_training(monkeypatch):
    monkeypatch.setattr(experiment, "train", None)
    learned = Run("a", dataclasses.replace(TINY, model=ModelSpec(width=14, position=Learned(24))), 0)
    drawn = Probe(Recall((25, 40)), (Reposition(Randomized(Learned(24), 24)),))
    for runs, probes in (
        ([tiny(1, {})[0], learned], [Probe(Recall((16, 25)))]),
        ([learned], [Probe(Recall((24,))), drawn]),
    ):
        with pytest.raises(
            ValueError, match=r"length is 25 with position .*Learned\(.*; allowed is at most 24\."
        ):
            run(runs, name="test", probes=probes)
    longer = dataclasses.replace(learned.spec, train=TrainSpec(length=25))
    with pytest.raises(ValueError, match="length is 25 with position Learned"):
        run([Run("a", longer, 0)], name="test", lengths=[16])
