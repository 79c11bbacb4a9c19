"""A model behind an OpenAI-compatible endpoint: asked in parallel, and never paid twice for the same request."""

from __future__ import annotations

import dataclasses
import functools
import json
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lcbook.formats import at_least
from lcbook.llm import replies
from lcbook.llm.connection import Connection, Failure
from lcbook.llm.protocol import Encoded, Reply
from lcbook.llm.wire import Answer

PROBE = "Answer"  # what the probing request says
CHAT, PLAIN = "chat/completions", "completions"
# The statuses by which endpoints say that they answer no chat requests, or not for this model.
NO_CHAT = (400, 404, 405, 422, 500, 501)
# How endpoints name the end of a reply that ended by itself; "stop" is the documented one.
ENDED = ("stop", "eos", "eos_token", "stop_sequence", "end_turn")
# Settings that some endpoints refuse by name, and what to send in their place.
REPLACED = {"stream_options": None, "max_tokens": "max_completion_tokens", "temperature": None}


@dataclass(frozen=True)
class _Opening:
    """What the first request tells: the path that answers, the settings it refuses, tokens of the probe, window."""

    path: str
    refused: tuple[str, ...] = ()
    tokens: int | None = None
    window: int | None = None


class Endpoint:
    """A model behind an OpenAI-compatible endpoint, asked for greedy replies (temperature 0).

    `url` is the address to which /chat/completions is added (such as http://localhost:8000/v1), used as it is given.
    `chat` is "auto" (chat requests where the endpoint answers them, else plain completions), "always" or "never".
    The key is read from the environment variable `key_variable` for each request and kept nowhere; it may be absent.
    A url with user:password@ is asked with these instead. Redirects are not followed.

    `timeout` is in seconds for one attempt as a whole; a connection that falls silent is noticed within twice that.
    Each prompt is asked up to `attempts` times, after rate limits (429), 408, 5xx, broken connections, timeouts and
    replies that are not whole, with growing random waits or as long as Retry-After says. `per_minute` limits the
    requests a minute. `cache` is a folder for replies: no request is paid twice, and a damaged file is asked again.
    `tokenizer` is a folder or tokenizer.json.
    Raises ValueError for bad settings; nothing is sent before `overhead` or `generate`.
    """

    def __init__(
        self,
        model: str,
        url: str,
        *,
        tokenizer: str | Path | None = None,
        chat: str = "auto",
        key_variable: str = "OPENAI_API_KEY",
        concurrency: int = 4,
        timeout: float | int = 60.0,
        attempts: int = 5,
        per_minute: float | int | None = None,
        cache: str | Path | None = None,
    ) -> None:
        if not model:
            raise ValueError("model is ''; allowed is the name by which the endpoint knows the model.")
        if chat not in ("auto", "always", "never"):
            raise ValueError(f"chat is {chat!r}; allowed is 'auto', 'always' or 'never'.")
        if cache is not None and Path(cache).exists() and not Path(cache).is_dir():
            raise ValueError(f"cache is {str(cache)!r}; allowed is a folder.")
        self._connection = Connection(
            url,
            key_variable=key_variable,
            timeout=timeout,
            attempts=attempts,
            concurrency=concurrency,
            per_minute=per_minute,
        )
        self.model, self._chat, self._tokenizer = model, chat, tokenizer
        self._cache, self._answered = Path(cache) if cache is not None else None, False
        self._opening: _Opening | None = None

    def __repr__(self) -> str:
        return f"Endpoint({self.name!r})"

    @property
    def name(self) -> str:
        """How the model is named on the command line: openai:MODEL@URL, without user and password."""
        return f"openai:{self.model}@{self._connection.url}"

    @property
    def window(self) -> int | None:
        """The window in tokens, if the endpoint lists it and was asked before (`overhead`, `generate`); else None."""
        return self._opening.window if self._opening else None

    @functools.cached_property
    def _encoder(self) -> Callable[[str], Encoded]:
        if self._tokenizer is None:
            raise ValueError(
                f"Exact lengths need the tokenizer of {self.model}, which the endpoint does not give; name its folder "
                "or tokenizer.json as tokenizer."
            )
        from lcbook.llm.tokenizers import load_tokenizer

        return load_tokenizer(self._tokenizer)

    def encode(self, text: str) -> Encoded:
        """Return `text` in the tokenizer given. Raises ValueError if none was given or it cannot be read."""
        return self._encoder(text)

    def overhead(self) -> int:
        """Return the tokens that the endpoint adds to a prompt, measured once with a prompt of one word.

        Raises ValueError if no tokenizer was given, or the endpoint is down, refuses, or counts no tokens.
        """
        given = len(self.encode(PROBE).ids)
        tokens = self._open().tokens
        if tokens is None:
            raise ValueError(
                self._connection.sentence("counts no prompt tokens, so exact lengths are impossible")
            )
        return max(0, tokens - given)

    def generate(self, prompts: Sequence[str], *, max_tokens: int) -> Iterator[tuple[int, Reply]]:
        """Answer `prompts`; yield (index, reply), those of the cache first, then as they arrive.

        An empty reply that ends by itself is a reply like any other; one that is empty because of its length or a
        filter has an `error`, and so has a reply to a prompt that the endpoint cut. Where all further requests would
        fail (a refused key, an endpoint that is gone), the rest are not sent. Raises ValueError for a `max_tokens`
        below 1 and, before anything was answered, for an endpoint that is down, refuses the key or has no such model.
        """
        at_least(1, max_tokens=max_tokens)
        opening, places = self._open(), dict[str, list[int]]()
        for index, prompt in enumerate(prompts):
            request = self._request(opening, prompt, max_tokens)
            stored = None if prompt in places else replies.load(self._cache, request)
            if stored is None:
                places.setdefault(prompt, []).append(index)
                continue
            yield index, Reply(**(stored | {"computed": 0, "seconds": 0.0}))
        if not places:
            return
        stopped = threading.Event()
        with self._connection.open() as client, ThreadPoolExecutor(self._connection.concurrency) as pool:
            asked = {pool.submit(self._reply, client, opening, p, max_tokens, stopped): p for p in places}
            try:
                for future in as_completed(asked):
                    reply = future.result()
                    if reply.error is not None and stopped.is_set() and not self._answered:
                        raise ValueError(reply.error)
                    for index in places[asked[future]]:
                        yield index, reply
                        reply = dataclasses.replace(reply, computed=0, seconds=0.0)
            finally:
                stopped.set()
                pool.shutdown(wait=False, cancel_futures=True)

    def _open(self) -> _Opening:
        """Return what the first requests tell, from memory, the cache or the endpoint."""
        if self._opening is not None:
            return self._opening
        request = {"opening": self._chat, "url": self._connection.url, "model": self.model}
        stored = replies.load(self._cache, request)
        if stored is None:
            found = self._probe()
            replies.save(self._cache, request, dataclasses.asdict(found))
        else:
            with self._connection.open() as client:  # the server may be another by now, or gone
                window = self._listed_window(client) or stored["window"]
            found = _Opening(**(stored | {"refused": tuple(stored["refused"]), "window": window}))
        if "temperature" in found.refused:
            self._warn("takes no temperature, so its replies are sampled and differ from run to run")
        self._opening = found
        return found

    def _probe(self) -> _Opening:
        """Find by requests of one token how the endpoint is asked. Raises ValueError if it does not answer."""
        failures: list[str] = []
        with self._connection.open() as client:
            window = self._listed_window(client)
            for path in {"auto": (CHAT, PLAIN), "always": (CHAT,), "never": (PLAIN,)}[self._chat]:
                opening = _Opening(path, window=window)
                while True:
                    body = self._request(opening, PROBE, 1)["body"]
                    outcome = self._connection.ask(client, path, body, threading.Event())
                    if isinstance(outcome, Answer):
                        self._answered = True
                        if failures:
                            self._warn(f"{failures[0]}; it is asked for plain completions instead of chat")
                        tokens = outcome.prompt_tokens if outcome.counted else None
                        return dataclasses.replace(opening, tokens=tokens)
                    named = [n for n in REPLACED if n in outcome.why and n not in opening.refused]
                    if outcome.status not in (400, 422) or not named:
                        break
                    opening = dataclasses.replace(opening, refused=(*opening.refused, named[0]))
                failures.append(outcome.why)
                if outcome.status not in NO_CHAT:
                    break  # a passing failure must not decide how the model is asked
        raise ValueError(self._connection.sentence(failures[0]))

    def _listed_window(self, client: Any) -> int | None:
        """Return the window that the list of models tells, None if it does not or there is no list."""
        found = self._connection.fetch(client, "GET", "models")
        try:
            listed = json.loads(found[2])["data"] if not isinstance(found, Failure) else []
            mine = next(m for m in listed if m["id"] == self.model)
            window = mine.get("max_model_len") or mine.get("context_length")
        except (ValueError, LookupError, TypeError, AttributeError, StopIteration):
            return None
        return window if isinstance(window, int) and window > 0 else None

    def _reply(
        self, client: Any, opening: _Opening, prompt: str, max_tokens: int, stopped: threading.Event
    ) -> Reply:
        """Return the reply to one prompt, and keep it."""
        request, started = self._request(opening, prompt, max_tokens), time.monotonic()
        outcome = self._connection.ask(client, opening.path, request["body"], stopped)
        seconds = time.monotonic() - started
        if isinstance(outcome, Failure):
            if outcome.hopeless:
                stopped.set()
            return Reply("", seconds=seconds, error=self._connection.sentence(outcome.why))
        self._answered = True
        text, why, read = self._connection.clean(outcome.text), None, outcome.prompt_tokens
        if outcome.finish == "content_filter":
            why = "withholds the reply (finish_reason content_filter)"
        elif not text and outcome.finish not in ENDED:
            why = f"gives an empty reply (finish_reason {outcome.finish})"
        error = self._connection.sentence(why) if why else None
        reply = Reply(text, read, outcome.completion_tokens, max(0, read - outcome.reused), seconds, error)
        given = len(self.encode(prompt).ids) if self._tokenizer is not None and outcome.counted else 0
        if read < given:  # another server, or a larger window there, may do better: not kept
            cuts = "it cuts prompts, or the tokenizer is another model's"
            why = f"reads {read} of {given} prompt tokens: {cuts}"
            reply = dataclasses.replace(reply, error=self._connection.sentence(why))
        else:
            replies.save(self._cache, request, dataclasses.asdict(reply))
        return reply

    def _request(self, opening: _Opening, prompt: str, max_tokens: int) -> dict[str, Any]:
        """Return all that a reply depends on."""
        body: dict[str, Any] = {"model": self.model, "max_tokens": max_tokens, "temperature": 0}
        body |= {"stream": True, "stream_options": {"include_usage": True}}
        if opening.path == CHAT:
            body["messages"] = [{"role": "user", "content": prompt}]
        else:
            body["prompt"] = prompt
        for name in opening.refused:
            value, other = body.pop(name), REPLACED[name]
            if other is not None:
                body[other] = value
        return {"url": self._connection.url, "path": opening.path, "body": body}

    def _warn(self, why: str) -> None:
        warnings.warn(self._connection.sentence(why), stacklevel=4)
