"""The recall command: its options, what it prints, its exit status, and that no key gets out."""

from __future__ import annotations

import json
import sys

import pytest
import tokenizers

from lcbook import cli
from lcbook.evaluation import command as recall_command
from lcbook.evaluation import report
from lcbook.evaluation.command import depths, left, prices, task_names, token_counts
from lcbook.evaluation.files import read_requests
from lcbook.evaluation.sweep import Step
from lcbook.llm import connection
from tests import misbehaving
from tests.fake_model import Fake
from tests.fake_model import answer as fake_answer

KEY = "sk-secret-0123456789"


@pytest.fixture
def ask(monkeypatch, tmp_path):
    """Runs the command on a fake model and returns its exit status; the report is a stub unless it is `drawn`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)

    def stub(frame, out, **_):
        (out / "index.html").write_text(f"{len(frame)} requests")
        return out / "index.html"

    def run(model: Fake, *options: str, drawn: bool = False) -> int:
        monkeypatch.setattr(recall_command, "open_model", lambda name, **_: model)
        monkeypatch.setattr(recall_command, "write_report", report.write_report if drawn else stub)
        usual = "--model hf:x --tasks needle,multi_query --lengths 151,256 --depths 2 --samples 3"
        return cli.main(["recall", *usual.split(), *options])

    return run


def test_it_prints_a_table_and_writes_a_report(ask, tmp_path, capsys):
    assert ask(Fake(reach=200), "--price", "1,2", drawn=True) == 0
    printed = capsys.readouterr()
    table = printed.out.splitlines()
    assert table[0].split() == ["task", "151", "256", "n50"]
    assert " ".join(table[1].split()) == "needle 100 % [44, 100] 0 % [0, 56] 197 [151, 256]", (
        "of 3 samples each"
    )
    assert table[-2:] == ["No request failed.", "Report: report/index.html"]
    assert "24 of 24 requests; " in printed.err, "plain lines where there is no terminal"
    assert "\r" not in printed.err
    page = (tmp_path / "report" / "index.html").read_text(encoding="utf8")
    for said in ("fake:words", "multi query", "USD", "the model counted each of 24 prompts", "Python 3."):
        assert said in page


def test_the_same_command_asks_nothing_again(ask, tmp_path):
    design = ("--tasks", "needle", "--lengths", "151")
    assert ask(Fake(), *design, drawn=True) == 0
    report = (tmp_path / "report" / "index.html").read_bytes()
    again = Fake()
    assert ask(again, *design, drawn=True) == 0
    assert again.asked == []
    assert (tmp_path / "report" / "index.html").read_bytes() == report


def test_ctrl_c_keeps_what_is_there_and_says_how_to_go_on(ask, tmp_path, capsys):
    assert ask(Fake(interrupted=7)) == 130
    said = capsys.readouterr().err
    assert "Interrupted; all replies so far are in report. The same command goes on from here" in said
    assert "Traceback" not in said
    assert len((tmp_path / "report" / "requests.jsonl").read_text().splitlines()) == 7
    resumed = Fake()
    assert ask(resumed) == 0
    assert sum(map(len, resumed.asked)) == 24 - 7


def test_failures_are_grouped_and_asked_again(ask, capsys):
    model = Fake(fails=lambda text: f"No answer within {len(text)} seconds." if "codes for" in text else None)
    assert ask(model) == 1
    lines = capsys.readouterr().out.splitlines()
    assert "12 of 24 requests failed and are in no average:" in lines
    assert any(line.startswith("  12 x No answer within ") for line in lines)
    assert "The same command goes on from here and asks again only what has no answer." in lines
    (row,) = [line for line in lines if line.startswith("multi_query")]
    assert row.count("no answers") == 2
    assert "0 %" not in row
    again = Fake()
    assert ask(again) == 0
    assert sum(map(len, again.asked)) == 12


def test_an_endpoint_that_is_gone_ends_the_sweep_early(ask, tmp_path, capsys):
    assert ask(Fake(fails=lambda text: "The endpoint is gone."), "--samples", "11") == 1
    out = capsys.readouterr().out
    assert "Stopped: 20 requests in a row failed, the last one so: The endpoint is gone." in out
    assert "  20 x The endpoint is gone." in out
    assert (tmp_path / "report" / "index.html").exists(), "what is there is reported"


def test_another_sweep_in_the_folder_is_refused(ask, capsys):
    assert ask(Fake()) == 0
    assert ask(Fake(), "--samples", "5") == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error == "report holds a sweep with samples 3, not 5; allowed is the same, or another folder."


def words_tokenizer(path):
    """A tokenizer.json whose tokens are the words between white space, as the server counts them."""
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel({"?": 0}, unk_token="?"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    made.save(str(path))
    return path


def test_an_endpoint_that_fails_in_between_and_no_key_gets_out(monkeypatch, tmp_path, capsys):
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setattr(connection, "FIRST_WAIT", 0.004)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    tokenizer, out = words_tokenizer(tmp_path / "tokenizer.json"), tmp_path / "report"

    def read(text: str) -> str:
        return fake_answer(text) if "Question" in text else "ok"

    def refuses(handler: misbehaving.Handler) -> None:
        text = handler.request_seen.prompt
        refused = "are the codes for a" in text or "is the code for c" in text
        (misbehaving.key_in_error(400) if refused else misbehaving.answer(read))(handler)

    flaky = [
        misbehaving.answer("ok"),
        misbehaving.status(429),
        misbehaving.truncated,
        misbehaving.status(500),
    ]
    with misbehaving.serve(*flaky, otherwise=refuses) as server:
        command = f"recall --model openai:m@{server.url} --tokenizer {tokenizer} --out {out} --concurrency 3"
        command += " --tasks needle,multi_query --lengths 151 --depths 3 --samples 5 --price 1,2"
        assert cli.main(command.split()) == 1
        printed = capsys.readouterr()
        frame = read_requests(out)
        failed = frame[frame["error"].notna()]
        assert 0 < len(failed) < len(frame) == 30
        assert f"{len(failed)} of 30 requests failed" in printed.out
        assert (
            frame.loc[frame["error"].isna(), "correct"] == frame.loc[frame["error"].isna(), "total"]
        ).all()
        kept = "".join(path.read_text(encoding="utf8") for path in out.iterdir())
        assert f"openai:m@{server.url}" in kept
        assert KEY not in printed.out + printed.err + kept
        assert any(request.headers.get("authorization") == f"Bearer {KEY}" for request in server.requests)
        server.otherwise, before = misbehaving.answer(read), len(server.requests)
        assert cli.main(command.split()) == 0
        assert len(server.requests) - before == len(failed) + 1, "what failed, and the probe of one token"
        assert read_requests(out)["error"].isna().all()


def test_a_cache_serves_a_larger_sweep_without_asking_again(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    tokenizer = words_tokenizer(tmp_path / "tokenizer.json")
    with misbehaving.serve(otherwise=misbehaving.answer(fake_answer)) as server:

        def sweep(samples: int) -> int:
            before = len(server.requests)
            command = (
                f"recall --model openai:m@{server.url} --tokenizer {tokenizer} --cache {tmp_path / 'cache'}"
            )
            command += f" --lengths 151 --depths 3 --samples {samples} --out {tmp_path / str(samples)}"
            assert cli.main(command.split()) == 0
            return len(server.requests) - before

        first, second = sweep(2), sweep(3)
    assert first >= 6
    assert second == 3, "the third sample at three depths; all else is kept"
    assert len(read_requests(tmp_path / "3")) == 9
    kept = "".join(
        path.read_text(encoding="utf8") for path in (tmp_path / "cache").rglob("*") if path.is_file()
    )
    assert KEY not in kept + capsys.readouterr().out


def test_an_endpoint_that_is_down_is_named_before_anything_is_written(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(connection, "FIRST_WAIT", 0.004)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with misbehaving.serve() as server:
        url = server.url
    tokenizer, out = words_tokenizer(tmp_path / "tokenizer.json"), tmp_path / "report"
    assert (
        cli.main(["recall", "--model", f"openai:m@{url}", "--tokenizer", str(tokenizer), "--out", str(out)])
        == 2
    )
    error = capsys.readouterr().err
    assert url.rpartition("/")[0] in error
    assert error.count("\n") == 1
    assert KEY not in error
    assert not out.exists()


def test_a_terminal_gets_one_line_that_moves(ask, monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert ask(Fake()) == 0
    shown = capsys.readouterr().err
    assert "\r" in shown
    assert "24/24" in shown
    assert shown.count("\n") <= 1


def test_options_are_read():
    assert token_counts("4k,512,1K,1k") == (512, 1024, 4096)
    assert token_counts("1.5k,1m") == (1536, 1048576)
    assert depths("11") == (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
    assert depths("3") == (0.0, 0.5, 1.0)
    assert depths("1") == (0.5,)
    assert depths("1,0,0.25") == (0.0, 0.25, 1.0)
    assert prices("0.5,1.5") == (0.5, 1.5)
    assert task_names("needle,copy,needle") == ("needle", "copy")
    assert len(task_names("all")) == 13


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--lengths", "4q", "'4q' is no number of tokens; allowed are such as 512 or 1k"),
        ("--lengths", "1k,", "'' is no number of tokens"),
        ("--lengths", "nan", "'nan' is no number of tokens"),
        ("--lengths", "inf", "'inf' is no number of tokens"),
        ("--lengths", "0.3", "'0.3' is no number of tokens"),
        ("--depths", "half", "'half' is no depth; allowed are such as 11 or 0,0.5,1"),
        ("--price", "1", "'1' is no price; allowed are two numbers of 0 or more"),
        ("--price", "1,nan", "'1,nan' is no price"),
        ("--tasks", "needel", "tasks has 'needel'; allowed are needle, multi_needle"),
        ("--depths", "0,2", "depths has 2.0; allowed is 0 (the start) to 1 (the end)"),
        ("--samples", "0", "samples is 0; allowed is 1 or more"),
        ("--haystack", "straw", "haystack is 'straw'; allowed is noise, prose, competing"),
        ("--haystack", "files:missing.txt", "missing.txt"),
    ],
)
def test_bad_options_end_with_status_2_and_say_what_is_allowed(ask, capsys, tmp_path, option, value, message):
    try:
        status = ask(Fake(), option, value)
    except SystemExit as stopped:  # argparse
        status = stopped.code
    assert status == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "report" / "requests.jsonl").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("gpt", "model is 'gpt'; allowed is hf:PATH, openai:MODEL@URL or tiny"),
        ("hf:x --tokenizer some", "tokenizer is given for hf:x; allowed is that for openai:MODEL@URL alone"),
        ("tiny --per-minute 9 --cache c", "per-minute, cache is given for tiny"),
    ],
)
def test_a_model_that_cannot_be_opened_is_refused(capsys, options, message):
    assert cli.main(["recall", "--model", *options.split()]) == 2
    assert capsys.readouterr().err.startswith(message)


def test_time_left_is_that_of_this_run():
    def step(done: int) -> Step:
        return Step(done, 100, 0, "needle", 64)

    assert left(step(61), step(41), 10.0) == ", 20 seconds left", "2 a second, 39 to go"
    assert left(step(61), step(41), 60.0) == ", 2 minutes left"
    assert left(step(41), step(41), 0.0) == left(step(100), step(41), 60.0) == ""


def test_what_is_kept_is_json(ask, tmp_path):
    ask(Fake())
    kept = [json.loads(line) for line in (tmp_path / "report" / "requests.jsonl").read_text().splitlines()]
    assert set(kept[0]) == {
        "task", "length", "depth", "sample", "tokens", "needle", "answers", "reply", "right", "asked", "chance",
        "prompt_tokens", "completion_tokens", "computed", "seconds", "error",
    }  # fmt: skip
