"""A sweep: what is asked and in which order, what is kept, and that an interrupted one goes on where it stopped."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from lcbook.evaluation.files import COLUMNS, read_requests
from lcbook.evaluation.sweep import Design, Step, StoppedError, run_sweep, sweep_arms
from lcbook.llm.protocol import LanguageModel
from lcbook.stats.bootstrap import recall
from tests.fake_model import Fake

DESIGN = Design(("needle", "multi_query"), (151, 211), (0.0, 0.5, 1.0), samples=2, seed=3)
REQUESTS = 2 * 2 * 3 * 2


def quiet(step: Step) -> None:
    pass


def stored(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "requests.jsonl").read_text(encoding="utf8").splitlines()]


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """The folder of a finished sweep, not to be changed."""
    out = tmp_path_factory.mktemp("whole")
    run_sweep(Fake(reach=170), DESIGN, out, progress=quiet)
    return out


@pytest.fixture
def finished(whole, tmp_path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(whole, tmp_path / "finished"))


def test_the_fake_is_a_language_model():
    assert isinstance(Fake(), LanguageModel)


def test_every_request_is_asked_once_and_found_right(tmp_path):
    model = Fake()
    frame = run_sweep(model, DESIGN, tmp_path, progress=quiet)
    assert list(frame.columns) == list(COLUMNS)
    assert len(frame) == len(stored(tmp_path)) == REQUESTS
    assert sum(map(len, model.asked)) == len({text for call in model.asked for text in call}) == REQUESTS
    assert (frame["correct"] == frame["total"]).all()
    assert set(frame.loc[frame["task"] == "multi_query", "total"]) == {4}, "four codes are asked for at once"
    assert (frame["tokens"] + 32 <= frame["length"]).all()
    assert (frame["prompt_tokens"] == frame["tokens"]).all(), "as the model counts them, overhead included"
    assert (frame["seed"] == frame["sample"]).all()
    assert (recall(frame, "task")["recall"] == 1).all()


def test_designs_are_arms_of_one_table(tmp_path, capsys):
    far = dataclasses.replace(DESIGN, lengths=(211,))
    frame = sweep_arms(Fake(reach=170), {"both": DESIGN, "far": far}, tmp_path)
    assert frame.groupby("arm").size().to_dict() == {"both": REQUESTS, "far": REQUESTS // 2}
    assert set(frame["probe"]) == {""}
    assert not {"answers", "seconds"} & set(frame.columns)
    assert len(stored(tmp_path / "far")) == REQUESTS // 2
    assert capsys.readouterr().out == ""


def test_what_is_out_of_reach_is_wrong(whole):
    right = read_requests(whole).groupby("length")[["correct", "total"]].sum()
    assert right.loc[151, "correct"] == right.loc[151, "total"] == 3 * 2 * (1 + 4)
    assert right.loc[211, "correct"] == 0
    assert right.loc[211, "total"] == 3 * 2 * (1 + 4)


def test_requests_come_by_length_and_depths_of_a_sample_follow_each_other(tmp_path):
    model = Fake()
    run_sweep(model, DESIGN, tmp_path, progress=quiet)
    assert DESIGN.places()[:4] == [
        ("needle", 151, 0.0, 0), ("needle", 151, 0.5, 0), ("needle", 151, 1.0, 0), ("needle", 151, 0.0, 1),
    ]  # fmt: skip
    texts = [text for call in model.asked for text in call]
    assert len({text.rpartition("Question")[2] for text in texts[:3]}) == 1, "one sample, one question"
    assert texts[0].rpartition("Question")[2] != texts[3].rpartition("Question")[2]
    needle = [text.index("The code for", len("The text below holds some codes.")) for text in texts[:3]]
    assert needle == sorted(needle)
    assert needle[2] > needle[0] + 100


def test_the_same_sample_has_the_same_facts_at_every_length(whole):
    frame = read_requests(whole)
    answers = (
        frame[frame["task"] == "needle"]
        .groupby("sample")["answers"]
        .agg(lambda column: {*map(tuple, column)})
    )
    assert answers.map(len).eq(1).all()
    assert len(set.union(*answers)) == 2, "and another sample has others"


def test_another_seed_draws_other_items(tmp_path):
    asked = []
    for seed in (0, 1):
        model = Fake()
        design = Design(("needle",), (151,), (0.5,), samples=7, seed=seed)
        run_sweep(model, design, tmp_path / str(seed), progress=quiet)
        asked.append(set(model.asked[0]))
    assert not asked[0] & asked[1]


@pytest.mark.parametrize("replies", [0, 17, REQUESTS - 1])
def test_an_interrupted_sweep_goes_on_and_ends_the_same(whole, tmp_path, replies):
    with pytest.raises(KeyboardInterrupt):
        run_sweep(Fake(reach=170, interrupted=replies), DESIGN, tmp_path, progress=quiet)
    assert len(stored(tmp_path)) == replies
    model, steps = Fake(reach=170), []
    resumed = run_sweep(model, DESIGN, tmp_path, progress=steps.append)
    assert sum(map(len, model.asked)) == REQUESTS - replies, "only what was missing is asked"
    assert (steps[0].done, steps[-1].done, steps[-1].total) == (replies + 1, REQUESTS, REQUESTS)
    order = ["task", "length", "depth", "sample"]
    left, right = (
        frame.sort_values(order).reset_index(drop=True) for frame in (read_requests(whole), resumed)
    )
    assert left.equals(right)


def test_a_finished_sweep_asks_nothing(whole):
    before, model = (whole / "requests.jsonl").read_bytes(), Fake()
    assert len(run_sweep(model, DESIGN, whole, progress=quiet)) == REQUESTS
    assert model.asked == []
    assert (whole / "requests.jsonl").read_bytes() == before


def test_a_torn_last_line_is_asked_again(finished):
    path = finished / "requests.jsonl"
    path.write_bytes(path.read_bytes()[:-9])
    assert len(read_requests(finished)) == REQUESTS - 1
    model = Fake()
    frame = run_sweep(model, DESIGN, finished, progress=quiet)
    assert [len(call) for call in model.asked] == [1]
    assert len(frame) == len(stored(finished)) == REQUESTS


def test_a_damaged_line_is_named(finished):
    path = finished / "requests.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:6], b'{"task": "needle"}\n', *lines[7:]]))
    with pytest.raises(ValueError, match=r"damaged in line 7; without that line, it is asked again"):
        run_sweep(Fake(), DESIGN, finished, progress=quiet)


def test_failed_requests_are_kept_apart_and_asked_again(tmp_path):
    first = Fake(fails=lambda text: "The endpoint says 503." if "for a" in text else None)
    frame = run_sweep(first, Design(("needle",), (151,), (0.0, 1.0), samples=13), tmp_path, progress=quiet)
    failed = frame[frame["error"].notna()]
    assert 0 < len(failed) < len(frame) == 26
    assert failed["total"].eq(0).all(), "neither right nor wrong"
    assert recall(frame[frame["total"] > 0], "task")["recall"].item() == 1
    again = Fake()
    frame = run_sweep(again, Design(("needle",), (151,), (0.0, 1.0), samples=13), tmp_path, progress=quiet)
    assert sum(map(len, again.asked)) == len(failed)
    assert frame["error"].isna().all()
    assert len(frame) == 26
    assert len(stored(tmp_path)) == 26 + len(failed), "the failures stay in the file"


def test_a_failure_is_null_in_the_file_and_a_wrong_reply_zero(tmp_path):
    design = Design(("needle",), (151,), (0.5,), samples=2)
    rows = []
    for name, model in (
        ("failed", Fake(fails=lambda text: "no")),
        ("wrong", Fake(reach=0)),
        ("empty", Fake(reach=0, wrong="")),
    ):
        run_sweep(model, design, tmp_path / name, progress=quiet)
        rows.append(stored(tmp_path / name)[0])
    failed, wrong, empty = rows
    assert (failed["right"], failed["asked"], failed["error"]) == (None, None, "no")
    assert (wrong["right"], wrong["asked"], wrong["error"]) == (0, 1, None)
    assert (empty["right"], empty["asked"], empty["reply"]) == (0, 1, "")


def test_twenty_failures_in_a_row_end_the_sweep(tmp_path):
    design = Design(("needle",), (101, 151), (0.5,), samples=23)
    model = Fake(fails=lambda text: "The endpoint is gone.")
    with pytest.raises(
        StoppedError, match=r"20 requests in a row failed, the last one so: The endpoint is gone\."
    ):
        run_sweep(model, design, tmp_path, progress=quiet)
    assert len(stored(tmp_path)) == 20
    assert len(run_sweep(Fake(), design, tmp_path, progress=quiet)) == 46


def test_lengths_beyond_the_window_fail_without_being_asked(tmp_path):
    design = Design(("needle",), (101, 151), (0.5,), samples=23)
    model = Fake(window=150)
    frame = run_sweep(model, design, tmp_path, progress=quiet)
    assert sum(map(len, model.asked)) == 23
    assert frame.groupby("length")["total"].sum().to_dict() == {101: 23, 151: 0}
    assert set(frame["error"].dropna()) == {"The length is 151 tokens; the model's window is 150."}
    assert run_sweep(Fake(window=151), design, tmp_path, progress=quiet)["total"].sum() == 46


def test_a_model_that_gives_no_reply_is_told(tmp_path):
    frame = run_sweep(
        Fake(silent=True), Design(("needle",), (151,), (0.5,), samples=3), tmp_path, progress=quiet
    )
    assert set(frame["error"]) == {"The model gave no reply."}


def test_replies_survive_any_characters(tmp_path):
    model = Fake(reach=0, wrong='line\nline "quoted" \\ \u2028 \x00 東京 \ud83d </script>')
    frame = run_sweep(model, Design(("needle",), (151,), (0.5,), samples=2), tmp_path, progress=quiet)
    assert set(frame["reply"]) == {model.wrong}
    assert len((tmp_path / "requests.jsonl").read_bytes().splitlines()) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"samples": 7}, r"holds a sweep with samples 2, not 7; allowed is the same, or another folder"),
        ({"tasks": ("needle",)}, r"with tasks \['needle', 'multi_query'\], not \['needle'\]"),
        ({"haystack": "noise"}, r"with haystack prose, not noise"),
        ({"seed": 0}, r"with seed 3, not 0"),
    ],
)
def test_another_design_is_refused(finished, change, message):
    before = (finished / "requests.jsonl").read_bytes()
    with pytest.raises(ValueError, match=message):
        run_sweep(Fake(), Design(**vars(DESIGN) | change), finished, progress=quiet)
    assert (finished / "requests.jsonl").read_bytes() == before


def test_another_model_or_tokenizer_is_refused(finished):
    with pytest.raises(ValueError, match="with model fake:words, not fake:other"):
        run_sweep(Fake(name="fake:other"), DESIGN, finished, progress=quiet)
    other = Fake()
    other.overhead = lambda: 5
    with pytest.raises(ValueError, match="with tokenizer"):
        run_sweep(other, DESIGN, finished, progress=quiet)


def test_changed_text_files_are_refused(tmp_path):
    text = tmp_path / "own.txt"
    text.write_text("It rained all day and nobody went out. " * 40)
    design = Design(("needle",), (151,), (0.5,), samples=2, haystack=f"files:{text}")
    run_sweep(Fake(), design, tmp_path / "out", progress=quiet)
    text.write_text("It snowed all day and nobody went out. " * 40)
    with pytest.raises(ValueError, match="holds a sweep with text"):
        run_sweep(Fake(), design, tmp_path / "out", progress=quiet)


def test_several_text_files_make_one_haystack(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).write_text(f"The {name} stood in the rain. " * 30)
    model = Fake()
    design = Design(
        ("needle",), (401,), (0.5,), samples=1, haystack=f"files:{tmp_path / 'one'},{tmp_path / 'two'}"
    )
    run_sweep(model, design, tmp_path / "out", progress=quiet)
    assert "The one stood" in model.asked[0][0]
    assert "The two stood" in model.asked[0][0]


@pytest.mark.parametrize("haystack", ["noise", "competing"])
def test_other_haystacks_fill_the_length(tmp_path, haystack):
    design = Design(("needle", "tracking"), (151,), (0.0, 1.0), samples=2, haystack=haystack)
    frame = run_sweep(Fake(), design, tmp_path, progress=quiet)
    assert (frame["length"] - 32 - frame["tokens"] <= 1).all()


def test_a_second_process_is_kept_out(tmp_path):
    refused, design = [], Design(("needle",), (151,), (0.5,), samples=2)

    def meanwhile(step: Step) -> None:
        if not refused:
            with pytest.raises(ValueError, match="being written by another process") as caught:
                run_sweep(Fake(), design, tmp_path / "new", progress=quiet)
            refused.append(caught)

    run_sweep(Fake(), design, tmp_path / "new", progress=meanwhile)
    assert refused


def test_requests_without_their_design_are_refused(finished):
    (finished / "sweep.json").unlink()
    with pytest.raises(ValueError, match=r"holds requests\.jsonl but no sweep\.json"):
        run_sweep(Fake(), DESIGN, finished, progress=quiet)
    (finished / "sweep.json").write_text("{")
    with pytest.raises(ValueError, match=r"sweep\.json is damaged"):
        run_sweep(Fake(), DESIGN, finished, progress=quiet)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tasks": ()}, r"tasks is \(\); allowed is one or more, each once"),
        ({"tasks": ("needle", "needle")}, "allowed is one or more, each once"),
        ({"tasks": ("haystack",)}, "tasks has 'haystack'; allowed are needle, multi_needle"),
        ({"lengths": (0,)}, "lengths is 0; allowed is 1 or more"),
        ({"depths": (1.5,)}, r"depths has 1\.5; allowed is 0"),
        ({"samples": 0}, "samples is 0; allowed is 1 or more"),
        ({"seed": -1}, "seed is -1; allowed is 0 or more"),
        ({"reply_tokens": 0}, "reply_tokens is 0; allowed is 1 or more"),
        ({"haystack": "hay"}, "haystack is 'hay'; allowed is noise, prose, competing"),
    ],
)
def test_bad_designs_say_what_is_allowed(change, message):
    with pytest.raises(ValueError, match=message):
        Design(**vars(DESIGN) | change)


def test_nothing_is_written_where_the_facts_do_not_fit(tmp_path):
    with pytest.raises(ValueError, match=r"length is 23; allowed is at least \d+"):
        run_sweep(Fake(), Design(("needle",), (23, 401), (0.5,)), tmp_path / "out", progress=quiet)
    with pytest.raises(ValueError, match="allowed is up to the model's window of 100 tokens"):
        run_sweep(Fake(window=100), DESIGN, tmp_path / "out", progress=quiet)
    assert not (tmp_path / "out").exists()


def test_a_folder_without_a_sweep_says_so(tmp_path):
    with pytest.raises(ValueError, match=r"holds no requests\.jsonl"):
        read_requests(tmp_path)


def test_a_disk_without_locks_is_written_with_a_warning(tmp_path, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise NotImplementedError("no flock here")

    monkeypatch.setattr("lcbook.evaluation.files.FileLock.acquire", refuse)
    with pytest.warns(UserWarning, match=r"requests\.jsonl cannot be locked \(no flock here\)"):
        assert (
            len(run_sweep(Fake(), Design(("needle",), (151,), (0.5,), samples=2), tmp_path, progress=quiet))
            == 2
        )
