"""The HTTP adapter against a server that misbehaves on purpose, and against `transformers serve`."""

from __future__ import annotations

import base64
import datetime
import email.utils
import gc
import itertools
import json
import logging
import os
import re
import subprocess
import sys
import time
import traceback
import types
import urllib.request
import warnings
from collections.abc import Iterator
from pathlib import Path

import misbehaving as bad
import pytest
from misbehaving import Server, serve

from lcbook.llm import connection, wire
from lcbook.llm.endpoint import Endpoint
from lcbook.llm.protocol import Encoded, LanguageModel, Reply

KEY = "sk-Zq3vT8mXw1Lr5Yb7Nd2Kf9"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key, short waits, no proxy, and a tokenizer of words."""
    monkeypatch.setattr(connection, "FIRST_WAIT", 0.004)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def words(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tokenizer of words, in place of a file."""

    def load_tokenizer(path: object) -> object:
        return lambda text: Encoded(tuple(range(len(text.split()))), tuple(0 for _ in text.split()))

    monkeypatch.setitem(
        sys.modules, "lcbook.llm.tokenizers", types.SimpleNamespace(load_tokenizer=load_tokenizer)
    )


def ask(server: Server, *prompts: str, max_tokens: int = 7, **settings: object) -> list[Reply]:
    """The replies to `prompts` in order, with plain completions and one request at a time unless told otherwise."""
    model = Endpoint("m", server.url, **({"chat": "always", "concurrency": 1} | settings))
    return replies(model, *prompts, max_tokens=max_tokens)


def replies(model: Endpoint, *prompts: str, max_tokens: int = 7) -> list[Reply]:
    found = dict(model.generate(list(prompts), max_tokens=max_tokens))
    return [found[index] for index in range(len(prompts))]


def asked(server: Server, *prompts: str) -> list[str]:
    """The prompts that arrived, without the probing request."""
    return [prompt for prompt in server.prompts if prompt != "Answer"]


# What is sent, and what comes back


def test_the_request_and_the_reply() -> None:
    """The request is the documented one of the OpenAI API; the reply is the stream's text and the usage's counts."""
    with serve() as server:
        (reply,) = ask(server, "one two three", max_tokens=11)
    assert (reply.text, reply.error) == ("ONE TWO THREE", None)
    assert (reply.prompt_tokens, reply.completion_tokens, reply.computed) == (3, 3, 3)
    assert 0 < reply.seconds < 5
    request = server.requests[-1]
    assert request.path == "/v1/chat/completions"
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert request.headers["content-type"] == "application/json"
    assert request.body == {
        "model": "m",
        "messages": [{"role": "user", "content": "one two three"}],
        "max_tokens": 11,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_plain_completions() -> None:
    """Without chat the prompt goes to /completions as it is."""
    with serve() as server:
        (reply,) = ask(server, "one two", chat="never")
    assert reply.text == "ONE TWO"
    assert server.requests[-1].path == "/v1/completions"
    assert server.requests[-1].body["prompt"] == "one two"
    assert "messages" not in server.requests[-1].body


def test_urls_are_used_as_given() -> None:
    """A slash at the end is one too many; nothing else is added or taken away."""
    with serve() as server:
        root = server.url.removesuffix("/v1")
        for url in (server.url, f"{server.url}/", root, f"{root}/a/v2/"):
            replies(Endpoint("m", url, chat="never"), "x")
    assert [r.path for r in server.requests[1::2]] == [
        f"{place}/completions" for place in ("/v1", "/v1", "", "/a/v2")
    ]


def test_a_server_that_does_not_stream() -> None:
    """A whole JSON object is a reply, too; tokens from the endpoint's own cache are not computed."""
    usage = {"prompt_tokens": 13, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 8}}
    with serve(otherwise=bad.plain("yes", usage=usage)) as server:
        for chat in ("always", "never"):
            (reply,) = ask(server, "x", chat=chat)
            assert (reply.text, reply.prompt_tokens, reply.completion_tokens, reply.computed) == (
                "yes",
                13,
                5,
                5,
            )


def test_any_text_survives() -> None:
    """Prompts and replies of any characters arrive; halves of a character are put together or replaced."""
    text = 'naïve \U0001f9ed\u2028日本 "q" \\ \x7f'
    with serve(otherwise=bad.answer(lambda prompt: prompt)) as server:
        (reply,) = ask(server, text)
        assert server.prompts[-1] == text
        assert reply.text.split() == text.split()
        (odd,) = ask(server, "half \ud83e of one")  # cannot be UTF-8
        assert odd.error is None
    halves = [
        {"choices": [{"text": half, "finish_reason": "stop"}]} for half in ("\ud83e", "\udded", "\ud83e")
    ]
    body = b"".join(b"data: " + json.dumps(half).encode() + b"\n\n" for half in halves)
    assert wire.read_answer(body).text == "\U0001f9ed\ufffd"


def test_replies_come_in_parallel_and_each_finds_its_prompt() -> None:
    """23 prompts with 5 at a time: never more than 5 in flight, more than 1, and no reply at another's place."""

    def slow(handler: bad.Handler) -> None:
        time.sleep(0.02)
        bad.answer(str.upper)(handler)

    prompts = [f"prompt {i}" for i in range(23)]
    with serve(otherwise=slow) as server:
        found = ask(server, *prompts, concurrency=5)
    assert [reply.text for reply in found] == [prompt.upper() for prompt in prompts]
    assert 1 < server.most <= 5


def test_replies_arrive_before_the_last_is_there() -> None:
    """The generator yields each reply as it comes; leaving it early asks no more."""
    with serve() as server:
        model = Endpoint("m", server.url, chat="always", concurrency=1)
        run = model.generate([f"p{i}" for i in range(101)], max_tokens=3)
        next(run)
        run.close()
        time.sleep(0.05)
        seen = len(server.requests)
        time.sleep(0.05)
    assert len(server.requests) == seen < 101


# Chat or not


def test_auto_takes_chat_where_it_is() -> None:
    """The first request tells; it has one word and asks for one token."""
    with serve() as server:
        ask(server, "x", "y", chat="auto")
    assert [r.path for r in server.requests] == ["/v1/chat/completions"] * 3
    assert server.requests[0].prompt == "Answer"
    assert server.requests[0].body["max_tokens"] == 1


@pytest.mark.parametrize("code", [400, 404, 500])
def test_auto_without_a_chat_template(code: int) -> None:
    """An endpoint that refuses chat (no template) is asked for plain completions, with a warning that says why."""

    def only_plain(handler: bad.Handler) -> None:
        if handler.path.endswith("/chat/completions"):
            handler.whole(code, {"error": {"message": "no chat template"}})
        else:
            bad.answer("plain")(handler)

    with serve(otherwise=only_plain) as server:
        with pytest.warns(
            UserWarning, match=rf"status {code}.*no chat template.*plain completions instead of chat"
        ):
            found = ask(server, "x", "y", chat="auto", attempts=2)
        assert [reply.text for reply in found] == ["plain", "plain"]
        with pytest.raises(ValueError, match="no chat template"):
            ask(server, "x", chat="always", attempts=2)


@pytest.mark.parametrize("behaviour", [bad.status(429), bad.status(503), bad.status(403), bad.truncated])
def test_a_passing_failure_does_not_decide_how_the_model_is_asked(behaviour: bad.Behaviour) -> None:
    """With chat refused for another reason than that there is none, "auto" does not turn to plain completions."""
    with serve(behaviour, behaviour) as server:
        with pytest.raises(ValueError, match=r"^The endpoint"):
            ask(server, "x", chat="auto", attempts=2)
    assert {request.path for request in server.requests} == {"/v1/chat/completions"}


def test_settings_that_are_refused_by_name() -> None:
    """A setting that the endpoint does not take is left out or renamed; sampled replies are announced."""

    def fussy(handler: bad.Handler) -> None:
        for name in ("stream_options", "max_tokens", "temperature"):
            if name in handler.request_seen.body:
                return handler.whole(400, {"error": {"message": f"Unsupported parameter: '{name}'"}})
        return bad.answer("fine")(handler)

    with serve(otherwise=fussy) as server:
        with pytest.warns(UserWarning, match="no temperature, so its replies are sampled"):
            (reply,) = ask(server, "x", max_tokens=17)
    assert reply.text == "fine"
    assert server.requests[-1].body == {
        "model": "m",
        "messages": [{"role": "user", "content": "x"}],
        "max_completion_tokens": 17,
        "stream": True,
    }


# Lengths


def test_overhead_is_measured_once(words: None, tmp_path: Path) -> None:
    """The template's 5 tokens are what the endpoint counts beyond the tokenizer; later objects read the cache."""
    with serve(otherwise=bad.answer("a", extra=5)) as server:
        model = Endpoint("m", server.url, tokenizer="t", cache=tmp_path)
        assert [model.overhead(), model.overhead()] == [5, 5]
        assert Endpoint("m", server.url, tokenizer="t", cache=tmp_path).overhead() == 5
        assert len(server.requests) == 1
        assert Endpoint("m", server.url, tokenizer="t", chat="never").overhead() == 5
    with serve() as server:
        assert Endpoint("m", server.url, tokenizer="t", chat="never").overhead() == 0


def test_overhead_needs_counts(words: None) -> None:
    """An endpoint without usage gives no exact lengths, and says so."""
    with serve(otherwise=bad.answer("a", usage=False)) as server:
        with pytest.raises(ValueError, match="counts no prompt tokens, so exact lengths are impossible"):
            Endpoint("m", server.url, tokenizer="t").overhead()


def test_lengths_need_a_tokenizer() -> None:
    """The message says what to give."""
    model = Endpoint("m", "http://localhost:1/v1")
    for call in (lambda: model.encode("x"), model.overhead):
        with pytest.raises(
            ValueError, match=r"tokenizer of m.*name its folder or tokenizer\.json as tokenizer"
        ):
            call()


def test_encode_goes_through_the_tokenizer(words: None) -> None:
    """Tokens are those of the tokenizer named."""
    assert len(Endpoint("m", "http://localhost:1", tokenizer="t").encode("a b c").ids) == 3


@pytest.mark.parametrize("field", ["max_model_len", "context_length"])
def test_the_window_that_the_list_of_models_tells(field: str, tmp_path: Path) -> None:
    """vLLM and OpenRouter list the window; it is None before the endpoint was asked, and kept with the cache."""
    with serve() as server:
        server.models = {"data": [{"id": "other", field: 31}, {"id": "m", field: 4099}]}
        model = Endpoint("m", server.url, cache=tmp_path)
        assert model.window is None
        replies(model, "x")
        assert model.window == 4099
        server.models = {"data": [{"id": "m", field: 8191}]}  # the server was started anew
        again = Endpoint("m", server.url, cache=tmp_path)
        replies(again, "x")
        assert again.window == 8191
        assert len(server.requests) == 2
    gone = Endpoint("m", server.url, cache=tmp_path)
    replies(gone, "x")
    assert gone.window == 4099


@pytest.mark.parametrize(
    "models", [None, {}, {"data": None}, {"data": [{"id": "m"}]}, {"data": [3, {"id": "m"}]}]
)
def test_a_list_of_models_that_tells_nothing(models: dict[str, object] | None) -> None:
    """Then the window is unknown, which is no error."""
    with serve() as server:
        server.models = models
        model = Endpoint("m", server.url)
        assert replies(model, "x")[0].error is None
        assert model.window is None


@pytest.mark.parametrize(
    "error",
    [
        {"message": "This model's maximum context length is 64 tokens.", "code": "context_length_exceeded"},
        {"message": "This model's maximum context length is 64 tokens.", "code": 400},
    ],
)
def test_a_window_shorter_than_asked(error: dict[str, object]) -> None:
    """One prompt fails with one sentence, at once; the others are answered."""

    def short(handler: bad.Handler) -> None:
        if len(handler.request_seen.prompt.split()) > 64:
            return handler.whole(400, {"error": error})
        return bad.answer("ok")(handler)

    with serve(otherwise=short) as server:
        found = ask(server, "x " * 67, "x")
    assert [reply.text for reply in found] == ["", "ok"]
    assert found[0].error == (
        f"The endpoint {server.url} has a window shorter than prompt and reply (status 400, saying "
        '"This model\'s maximum context length is 64 tokens").'
    )
    assert len(server.requests) == 3


def test_a_prompt_that_the_endpoint_cuts(words: None, tmp_path: Path) -> None:
    """A server that reads 3 of 7 tokens and answers anyway is noticed, and asked again the next time."""
    usage = {"prompt_tokens": 3, "completion_tokens": 1}
    with serve(otherwise=bad.plain("a", usage=usage)) as server:
        model = Endpoint("m", server.url, tokenizer="t", cache=tmp_path)
        long, fits = replies(model, "a b c d e f g", "a b c")
        assert "reads 3 of 7 prompt tokens: it cuts prompts" in str(long.error)
        assert fits.error is None
        before = len(server.requests)
        replies(model, "a b c d e f g", "a b c")
        assert asked(server)[before - 1 :] == ["a b c d e f g"]


# Empty replies


def test_an_empty_reply_that_ends_by_itself_is_a_reply() -> None:
    """It is wrong, and it is scored."""
    for behaviour in (
        bad.answer("", "stop"),
        bad.plain("", "stop"),
        bad.plain(None, "stop"),
        bad.answer("", "eos_token"),
    ):
        with serve(otherwise=behaviour) as server:
            (reply,) = ask(server, "x")
            assert (reply.text, reply.error) == ("", None)


@pytest.mark.parametrize(
    ("behaviour", "text", "error"),
    [
        (bad.answer("", "length"), "", r"gives an empty reply \(finish_reason length\)"),
        (bad.answer("", "tool_calls"), "", r"gives an empty reply \(finish_reason tool_calls\)"),
        (bad.answer("some", "length"), "some", None),
        (bad.answer("", "content_filter"), "", r"withholds the reply \(finish_reason content_filter\)"),
        (bad.answer("some", "content_filter"), "some", r"withholds the reply"),
    ],
)
def test_why_a_reply_is_empty(behaviour: bad.Behaviour, text: str, error: str | None, tmp_path: Path) -> None:
    """Empty for want of tokens or by a filter is an error; it was paid, so it comes from the cache the next time."""
    with serve(otherwise=behaviour) as server:
        for _ in range(2):
            (reply,) = ask(server, "x", cache=tmp_path)
            assert reply.text == text
            if error is None:
                assert reply.error is None
            else:
                assert re.search(error, str(reply.error))
        assert len(asked(server)) == 1


# Failures that pass


@pytest.mark.parametrize(
    "behaviour",
    [
        bad.status(429),
        bad.status(408),
        bad.status(500),
        bad.status(502, b"<html>Bad Gateway</html>"),
        bad.status(503),
        bad.status(529),
        bad.truncated,
        bad.broken,
        bad.hung_up,
        bad.raw(b""),
        bad.raw(b"<html>"),
        bad.raw(b'{"choices": ['),
        bad.raw(b'{"choices": []}'),
        bad.raw(b'{"choices": 3}'),
        bad.raw(b'{"choices": [3]}'),
        bad.raw(b'{"choices": [{"message": "x"}]}'),
        bad.raw(b'{"choices": [{"text": 5, "finish_reason": "stop"}]}'),
        bad.raw(b'{"choices": [{"text": "\xff", "finish_reason": "stop"}]}'),
        bad.raw(b'{"error": {"message": "overloaded"}}'),
        bad.raw(b'data: {"choices": [{"text": "a", "finish_reason": null}]}\n\ndata: [DONE]\n\n'),
        bad.raw(b'data: {"choices": [{"text": "a"}]}\n\ndata: {"error": "it said "no""}\n\n'),
        bad.raw(b'data: {"choices": [{"text": "a"}]}\n\ndata: {"error": {"message": "overloaded"}}\n\n'),
        bad.raw(b"data: {}\n\ndata: [DONE]\n\n"),
        bad.raw(b"data: 3\n\n"),
        bad.raw(b"null"),
    ],
)
def test_what_is_asked_again(behaviour: bad.Behaviour) -> None:
    """After two such failures the third attempt is answered, and the reply is whole."""
    with serve(bad.answer("probe"), behaviour, behaviour) as server:
        (reply,) = ask(server, "one two", attempts=3)
        assert (reply.text, reply.error) == ("ONE TWO", None)
        assert asked(server) == ["one two"] * 3
    with serve(bad.answer("probe"), *[behaviour] * 3) as server:
        failed, fine = ask(server, "one", "two", attempts=3)
        assert failed.text == ""
        assert str(failed.error).startswith(f"The endpoint {server.url} ")
        assert str(failed.error).endswith(", 3 times.")
        assert fine.text == "TWO"


@pytest.mark.parametrize("behaviour", [bad.silent(5.0), bad.drip(5.0)])
def test_a_reply_that_takes_too_long(behaviour: bad.Behaviour) -> None:
    """A silent server and one that never falls silent are both left when their time is over."""
    with serve(bad.answer("probe"), behaviour, behaviour) as server:
        started = time.monotonic()
        late, fine = ask(server, "one", "two", attempts=2, timeout=0.2)
        assert time.monotonic() - started < 4.5
    assert late.error == f"The endpoint {server.url} gives no whole reply within 0.2 seconds, 2 times."
    assert fine.text == "TWO"


def test_retry_after_is_obeyed() -> None:
    """The next request starts when the endpoint said, not before, whichever prompt it is for."""
    with serve(bad.answer("probe"), bad.status(429, headers={"Retry-After": "0.3"})) as server:
        found = ask(server, "one", "two")
    assert [reply.text for reply in found] == ["ONE", "TWO"]
    times = [request.time for request in server.requests]
    assert 0.29 < times[2] - times[1] < 5


def test_retry_after_in_all_its_forms() -> None:
    """Seconds or a date (RFC 9110, 10.2.3); a date that is past is now; anything else says nothing."""
    assert wire.retry_after("7") == 7
    assert wire.retry_after("-3") == 0
    assert wire.retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0
    soon = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=100)
    wait = wire.retry_after(email.utils.format_datetime(soon, usegmt=True))
    assert wait is not None
    assert 97 < wait <= 100
    for nothing in (None, "", "soon", "nan", "inf"):
        assert wire.retry_after(nothing) is None


def test_an_endpoint_that_asks_for_too_long_a_wait() -> None:
    """An hour is not waited: the prompt fails and says so."""
    with serve(bad.answer("probe"), bad.status(429, headers={"Retry-After": "3600"})) as server:
        first, second = ask(server, "one", "two")
    assert first.error == f'The endpoint {server.url} asks to wait 3600 seconds (status 429, saying "boom").'
    assert second.text == "TWO"


def test_waits_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attempt k waits between half and all of FIRST_WAIT x 2^k, so the gaps roughly double."""
    monkeypatch.setattr(connection, "FIRST_WAIT", 0.04)
    with serve(bad.answer("probe"), *[bad.status(500)] * 4) as server:
        ask(server, "one")
    times = [request.time for request in server.requests[1:]]
    gaps = [after - before for before, after in itertools.pairwise(times)]
    for attempt, gap in enumerate(gaps):
        assert 0.5 * 0.04 * 2**attempt <= gap < 0.04 * 2**attempt + 2


def test_requests_per_minute() -> None:
    """At 1200 a minute, requests of 4 threads start 50 ms apart."""
    with serve() as server:
        ask(server, *"abcde", concurrency=4, per_minute=1200)
    times = sorted(request.time for request in server.requests)
    assert times[-1] - times[0] > 0.05 * 5 - 0.02


# Failures that stay


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (400, r'refuses the request \(status 400, saying "boom"\)'),
        (403, r'refuses the request \(status 403, saying "boom"\)'),
        (413, "has a window shorter than prompt and reply"),
        (422, r"refuses the request \(status 422"),
    ],
)
def test_what_is_not_asked_again(code: int, error: str) -> None:
    """A request that is refused for what it is fails at once; the next prompt may do."""
    with serve(bad.answer("probe"), bad.status(code)) as server:
        refused, fine = ask(server, "one", "two")
    assert re.search(error, str(refused.error))
    assert fine.text == "TWO"
    assert asked(server) == ["one", "two"]


@pytest.mark.parametrize(
    ("code", "body", "error"),
    [
        (401, None, "refuses the key in OPENAI_API_KEY"),
        (402, None, "wants to be paid first"),
        (404, {"error": {"message": "no model m"}}, 'no such model .*saying "no model m"'),
        (429, {"error": {"message": "pay", "code": "insufficient_quota"}}, "wants to be paid first"),
        (307, None, "redirects to another address"),
    ],
)
def test_what_would_fail_for_all(code: int, body: object, error: str) -> None:
    """At the start it is a ValueError; later the rest of the prompts is not sent and says why."""
    with serve(otherwise=bad.status(code, body)) as server:
        with pytest.raises(ValueError, match=error):
            ask(server, "x")
        assert len(server.requests) == 1
    with serve(bad.answer("p"), bad.answer("first"), otherwise=bad.status(code, body)) as server:
        found = ask(server, *"abcdefg")
        assert found[0].text == "first"
        assert re.search(error, str(found[1].error))
        assert all("was not asked" in str(reply.error) for reply in found[2:])
        assert asked(server) == ["a", "b"]


def test_no_key_where_one_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A local server needs no key, and then none is sent; one that does is named with the variable."""
    monkeypatch.delenv("OPENAI_API_KEY")
    with serve() as server:
        assert ask(server, "x")[0].text == "X"
        assert "authorization" not in server.requests[-1].headers
    with serve(otherwise=bad.status(401)) as server:
        with pytest.raises(ValueError, match="asks for a key, and OPENAI_API_KEY is not set"):
            ask(server, "x")
    monkeypatch.setenv("OTHER_KEY", KEY)
    with serve() as server:
        ask(server, "x", key_variable="OTHER_KEY")
        assert server.requests[-1].headers["authorization"] == f"Bearer {KEY}"


def test_an_endpoint_that_is_down() -> None:
    """At the start: one sentence that names the URL, without user and password."""
    port = bad.free_port()
    model = Endpoint("m", f"http://user:Passw0rd-long@127.0.0.1:{port}/v1", attempts=2)
    with pytest.raises(
        ValueError, match=rf"^The endpoint http://127\.0\.0\.1:{port}/v1 cannot be reached"
    ) as caught:
        list(model.generate(["x"], max_tokens=1))
    assert "Passw0rd" not in str(caught.value)
    with pytest.raises(ValueError, match="cannot be reached"):
        list(Endpoint("m", "http://no-such-host.invalid/v1", attempts=1).generate(["x"], max_tokens=1))
    with pytest.raises(ValueError, match=r"has an address that cannot be used\.$"):
        list(Endpoint("m", "http://ÿ..x/v1").generate(["x"], max_tokens=1))


def test_an_endpoint_that_goes_down_keeps_what_came(tmp_path: Path) -> None:
    """After the first reply the server is gone: the rest has errors, and a later run asks only for them."""
    with serve() as server:
        first = ask(server, "a", cache=tmp_path)
    model = Endpoint("m", server.url, chat="always", cache=tmp_path, attempts=1, concurrency=1)
    run = model.generate(["a", "b", "c"], max_tokens=7)
    index, kept = next(run)
    assert (index, kept.text) == (0, first[0].text)
    with pytest.raises(ValueError, match="cannot be reached"):
        next(run)


def test_an_endpoint_that_goes_away_in_the_middle() -> None:
    """What came is kept, the first prompt after it says why, and the rest is not waited for."""

    def last(handler: bad.Handler) -> None:
        handler.server.socket.close()  # no connection is taken any more
        bad.answer("first")(handler)

    with serve(bad.answer("probe"), last) as server:
        first, second, *rest = ask(server, *"abcdefg", attempts=2)
    assert first.text == "first"
    assert re.search(r"cannot be reached \(.*refused\), 2 times", str(second.error))
    assert len(rest) == 5
    assert all("was not asked" in str(reply.error) for reply in rest)


# Keys


def hidden(place: str) -> None:
    """No piece of the key of 8 characters or more is in `place`."""
    for start in range(len(KEY) - 7):
        assert KEY[start : start + 8] not in place


@pytest.mark.parametrize(
    "behaviour", [bad.key_in_error(400), bad.key_in_error(500), bad.key_in_error(400, 11)]
)
def test_a_key_that_the_endpoint_echoes(
    behaviour: bad.Behaviour,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """It is in no error, exception, traceback, log, cache file, repr or name, nor a piece of it."""
    with caplog.at_level(logging.DEBUG), warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        with serve(bad.answer("probe"), behaviour, otherwise=bad.key_in_reply) as server:
            model = Endpoint("m", server.url, cache=tmp_path, concurrency=1, attempts=1, chat="always")
            refused, echoed = replies(model, "one", "two")
        with (
            serve(otherwise=behaviour) as server,
            pytest.raises(ValueError, match="bad request with key") as caught,
        ):
            ask(server, "x", attempts=1)
    assert "bad request with key [hidden]" in str(refused.error)
    assert "[hidden]" in echoed.text
    logs = "\n".join(
        r.getMessage() for r in caplog.records if "receive_response_headers" not in r.getMessage()
    )
    assert "HTTP Request" in logs
    files = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()).decode()
    assert "[hidden]" in files
    shown = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    frames = [frame for frame in shown.stack if Path(frame.filename).name != Path(__file__).name]
    assert frames  # with all their local variables
    chain, seen = caught.value, []
    while chain is not None:
        seen.append(f"{chain!r} {vars(chain)}")
        chain = chain.__cause__ or chain.__context__
    out = "".join(capfd.readouterr())
    for place in (
        repr(refused), repr(echoed), logs, files, repr(model), repr(vars(model)), repr(vars(model._connection)),
        model.name, *(f"{frame.line} {frame.locals}" for frame in frames), *seen, out, *(str(w.message) for w in said),
    ):  # fmt: skip
        hidden(place)


def test_no_object_keeps_the_key() -> None:
    """After a run no string with the key hangs on the endpoint: it is read from the environment each time."""
    with serve() as server:
        model = Endpoint("m", server.url)
        replies(model, "x")
    todo, seen = [model], set()
    while todo:
        one = todo.pop()
        if id(one) in seen or isinstance(one, type | types.ModuleType | types.FunctionType):
            continue
        seen.add(id(one))
        if isinstance(one, str):
            hidden(one)
        todo += gc.get_referents(one)
    assert len(seen) > 10


def test_a_redirect_does_not_carry_the_key() -> None:
    """Another host is never asked."""
    with serve() as other:
        headers = {"Location": f"{other.url}/chat/completions"}
        for code in (301, 302, 303, 307, 308):
            with serve(otherwise=bad.status(code, b"", headers)) as server:
                with pytest.raises(ValueError, match=rf"redirects to another address \(status {code}\)"):
                    ask(server, "x")
        assert (other.requests, other.gets) == ([], [])


def test_user_and_password_in_the_url(tmp_path: Path) -> None:
    """They are sent instead of the key (RFC 7617), and shown nowhere."""
    with serve(otherwise=bad.status(401)) as server:
        url = server.url.replace("//", "//user:p%40ss-Word-123@")
        model = Endpoint("m", url, cache=tmp_path)
        assert model.name == f"openai:m@{server.url}"
        assert "Word" not in repr(model)
        with pytest.raises(ValueError, match="refuses the user and password in its URL"):
            replies(model, "x")
        basic = server.requests[0].headers["authorization"]
        assert basic == "Basic " + base64.b64encode(b"user:p@ss-Word-123").decode()
    encoded = basic.removeprefix("Basic ")
    with serve(otherwise=bad.status(400, {"detail": f"not {encoded} nor p@ss-Word-123"})) as server:
        url = server.url.replace("//", "//user:p%40ss-Word-123@")
        with pytest.raises(ValueError, match=r'saying "not \[hidden\] nor \[hidden\]"'):
            replies(Endpoint("m", url), "x")


@pytest.mark.parametrize("key", ["schlüssel-0123456789", "sk-0123456789\n\tabcdef"])
def test_a_key_that_cannot_be_sent(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the variable, not the key."""
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with serve() as server, pytest.raises(ValueError, match="OPENAI_API_KEY holds characters") as caught:
        ask(server, "x")
    assert "0123456789" not in str(caught.value)
    assert server.requests == []


def test_hiding() -> None:
    """Whole secrets and pieces of 8 characters go, shorter pieces stay; replies lose whole secrets only."""
    assert wire.hide("a 12345678 b", ["0123456789"]) == "a [hidden] b"
    assert wire.hide("a 1234567 b", ["0123456789"]) == "a 1234567 b"
    assert wire.hide("0123456789", ["0123456789"]) == "[hidden]"
    assert wire.hide("12345678", ["0123456789"], pieces=False) == "12345678"
    assert wire.hide("x0123456789x", ["0123456789"], pieces=False) == "x[hidden]x"
    assert wire.hide("key EMPTY", ["EMPTY"]) == "key [hidden]"
    assert wire.hide("EMPTY", ["EMPTY"], pieces=False) == "EMPTY"


# Cache


def test_nothing_is_paid_twice(tmp_path: Path) -> None:
    """A second run of the same requests sends none, not even without a server, and gives the same replies."""
    with serve() as server:
        first = ask(server, "one", "two", "one", chat="auto", cache=tmp_path)
        assert sorted(asked(server)) == ["one", "two"]
    model = Endpoint("m", server.url, cache=tmp_path)  # the server is gone
    second = replies(model, "one", "two", "one")
    assert [(r.text, r.prompt_tokens, r.completion_tokens, r.error) for r in second] == [
        (r.text, r.prompt_tokens, r.completion_tokens, r.error) for r in first
    ]
    assert [reply.computed for reply in first] == [1, 1, 0]
    assert [(reply.computed, reply.seconds) for reply in second] == [(0, 0.0)] * 3


def test_what_a_cached_reply_belongs_to(tmp_path: Path) -> None:
    """Another prompt, reply length, model, path or endpoint is another request."""
    with serve() as server:
        ask(server, "one", cache=tmp_path)
        for settings in ({"max_tokens": 8}, {"chat": "never"}):
            ask(server, "one", cache=tmp_path, **settings)
        ask(server, "two", cache=tmp_path)
        replies(Endpoint("n", server.url, chat="always", cache=tmp_path), "one")
        assert asked(server) == ["one", "one", "one", "two", "one"]
        ask(server, "one", cache=tmp_path)
        assert len(asked(server)) == 5


@pytest.mark.parametrize("damage", ["cut", "edited", "empty", "other"])
def test_a_damaged_file_is_asked_again(damage: str, tmp_path: Path) -> None:
    """A warning names the file; the reply is asked for again and stored whole."""
    with serve() as server:
        ask(server, "one", cache=tmp_path)
        (file,) = [path for path in tmp_path.rglob("*.json") if "ONE" in path.read_text()]
        text = file.read_text()
        other = next(path for path in tmp_path.rglob("*.json") if path != file)
        new = {
            "cut": text[:-9],
            "edited": text.replace("ONE", "TWO"),
            "empty": "",
            "other": other.read_text(),
        }
        file.write_text(new[damage])
        with pytest.warns(UserWarning, match=rf"{file.name}.* The endpoint is asked again"):
            (reply,) = ask(server, "one", cache=tmp_path)
        assert reply.text == "ONE"
        assert asked(server) == ["one", "one"]
        assert (
            file.read_text().replace(" ", "")[:90] == text.replace(" ", "")[:90] or "ONE" in file.read_text()
        )
        ask(server, "one", cache=tmp_path)
        assert asked(server) == ["one", "one"]


def test_failures_are_not_stored(tmp_path: Path) -> None:
    """What failed is asked again by the next run."""
    with serve(bad.answer("probe"), bad.status(400)) as server:
        assert ask(server, "one", cache=tmp_path)[0].error is not None
        assert ask(server, "one", cache=tmp_path)[0].text == "ONE"


def test_a_cache_that_cannot_be_written(tmp_path: Path) -> None:
    """The reply is in hand and is given, with a warning; a cache that is no folder is refused at once."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"cache is '.*file'; allowed is a folder"):
        Endpoint("m", "http://localhost/v1", cache=tmp_path / "file")
    with serve() as server, pytest.warns(UserWarning, match="cannot be written"):
        (reply,) = ask(server, "one", cache=tmp_path / "file" / "below")
    assert reply.text == "ONE"


def test_what_was_not_counted_is_zero() -> None:
    """Without usage a reply has no tokens, and is one all the same."""
    with serve(bad.answer("a"), otherwise=bad.answer("b", usage=False)) as server:
        (reply,) = replies(Endpoint("m", server.url), "x")
    assert (reply.text, reply.prompt_tokens) == ("b", 0)


# The protocol and bad settings


def test_it_is_a_language_model() -> None:
    """It has all that the protocol names, and nothing is sent for it."""
    with serve() as server:
        model = Endpoint("org/model", f"{server.url}/")
        assert isinstance(model, LanguageModel)
        assert model.name == f"openai:org/model@{server.url}"
        assert repr(model) == f"Endpoint('openai:org/model@{server.url}')"
        assert server.requests == server.gets == []


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"model": ""}, "model is ''"),
        ({"chat": "yes"}, "chat is 'yes'; allowed is 'auto', 'always' or 'never'"),
        ({"concurrency": 0}, "concurrency is 0; allowed is 1 or more"),
        ({"attempts": 0}, "attempts is 0; allowed is 1 or more"),
        ({"timeout": 0}, "timeout is 0; allowed is a finite number above 0"),
        ({"timeout": float("nan")}, "timeout is nan"),
        ({"per_minute": -1}, "per_minute is -1"),
        ({"url": "localhost:8000"}, r"allowed is http\(s\)://HOST"),
        ({"url": "http://"}, "url is no address"),
        ({"url": "http://host:port/"}, "url is no address"),
        ({"url": "http://host/v1?key=abc"}, "url of host holds a query"),
    ],
)
def test_bad_settings(settings: dict[str, object], error: str) -> None:
    """Each is named with its value and what is allowed; a key in a query is not shown."""
    with pytest.raises(ValueError, match=error) as caught:
        Endpoint(**({"model": "m", "url": "http://localhost/v1"} | settings))
    assert "abc" not in str(caught.value)


def test_bad_reply_length() -> None:
    """No request is sent for it."""
    with pytest.raises(ValueError, match="max_tokens is 0; allowed is 1 or more"):
        list(Endpoint("m", "http://localhost:1/v1").generate(["x"], max_tokens=0))


def test_httpx_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says what to install."""
    monkeypatch.setitem(sys.modules, "httpx", None)
    with pytest.raises(ValueError, match=r"pip install 'lcbook\[llm\]'"):
        list(Endpoint("m", "http://localhost:1/v1").generate(["x"], max_tokens=1))


def test_a_proxy_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy is used; one that is no address is refused without its password."""
    with serve() as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url.removesuffix("/v1"))
        assert replies(Endpoint("m", "http://nowhere.invalid/v1", chat="always"), "x")[0].text == "X"
        assert proxy.requests[-1].path == "http://nowhere.invalid/v1/chat/completions"
    monkeypatch.setenv("HTTP_PROXY", "foo://user:Secret-Word@host")
    with pytest.raises(ValueError, match="proxy that the environment names") as caught:
        list(Endpoint("m", "http://nowhere.invalid/v1").generate(["x"], max_tokens=1))
    assert "Secret" not in str(caught.value)


# A server that nobody here wrote


def tiny_llama(folder: Path, template: str | None) -> Path:
    """Save an untrained Llama of 101 words with its tokenizer, and with a chat template if there is one."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    names = ["<unk>", "<s>", "</s>", "Answer", *(f"w{i}" for i in range(97))]
    inner = Tokenizer(models.WordLevel({name: i for i, name in enumerate(names)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )
    tokenizer.chat_template = template
    torch.manual_seed(5)
    config = LlamaConfig(
        vocab_size=101, hidden_size=44, intermediate_size=59, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=127, bos_token_id=1, eos_token_id=2, initializer_range=0.7,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def greedy(folder: Path, prompts: list[str], *, chat: bool, tokens: int) -> list[tuple[str, int]]:
    """(greedy reply, prompt tokens) of transformers itself for each prompt."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    found = []
    for prompt in prompts:
        if chat:
            turn = [{"role": "user", "content": prompt}]
            ids = tokenizer.apply_chat_template(
                turn, add_generation_prompt=True, return_tensors="pt", return_dict=True
            )
        else:
            ids = tokenizer(prompt, return_tensors="pt")
        ids = ids["input_ids"]
        out = model.generate(ids, do_sample=False, max_new_tokens=tokens)[0, ids.shape[1] :]
        found.append((tokenizer.decode(out, skip_special_tokens=True), ids.shape[1]))
    return found


@pytest.fixture
def transformers_serve(tmp_path: Path) -> Iterator[str]:
    """The URL of a running `transformers serve`, without network."""
    port = bad.free_port()
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", "--host", "127.0.0.1"]
    log = tmp_path / "server.log"
    with log.open("w") as file:
        process = subprocess.Popen(
            [*command, "--port", str(port), "--device", "cpu"],
            env=os.environ
            | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"},
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    try:
        deadline = time.monotonic() + 180
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
                break
            except OSError:
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(30)


@pytest.mark.slow
def test_against_transformers_serve(transformers_serve: str, tmp_path: Path) -> None:
    """Replies and token counts equal those of transformers' own generate, over chat and over plain completions.

    A model without a chat template fails with status 500 there, and "auto" then asks for plain completions.
    """
    template = "{% for m in messages %}<s> w1 {{ m['content'] }} </s> {% endfor %}w2 "
    with_chat = tiny_llama(tmp_path / "with", template)
    without = tiny_llama(tmp_path / "without", None)
    prompts = [" ".join(f"w{(7 * i * k + i) % 97}" for i in range(5 + 11 * k)) for k in range(1, 8)]
    for folder, chat, through_chat in (
        (with_chat, "auto", True),
        (with_chat, "never", False),
        (without, "auto", False),
    ):
        model = Endpoint(str(folder), transformers_serve, tokenizer=folder, chat=chat, attempts=2)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            overhead = model.overhead()
        assert overhead == (4 if through_chat else 0)
        found = replies(model, *prompts, max_tokens=13)
        expected = greedy(folder, prompts, chat=through_chat, tokens=13)
        assert [(reply.text, reply.prompt_tokens) for reply in found] == expected
        assert all(reply.error is None for reply in found)
        assert len({text for text, _ in expected}) > 3  # the replies tell the prompts apart
        assert [reply.prompt_tokens for reply in found] == [
            len(model.encode(prompt).ids) + overhead for prompt in prompts
        ]
