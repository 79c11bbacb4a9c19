"""A local OpenAI-compatible server that misbehaves on purpose, one behaviour a request."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Behaviour = Callable[["Handler"], None]


@dataclass
class Request:
    """What arrived: path, headers (names in lower case), the JSON body, and when."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    time: float

    @property
    def prompt(self) -> str:
        """The prompt of a chat or completions request."""
        return self.body["prompt"] if "prompt" in self.body else self.body["messages"][-1]["content"]


@dataclass
class Server:
    """A running server: each POST takes the next of `script`, then `otherwise`; GET /models answers `models`."""

    url: str
    otherwise: Behaviour
    script: list[Behaviour] = field(default_factory=list)
    models: dict[str, Any] | None = None
    requests: list[Request] = field(default_factory=list)
    gets: list[Request] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    running: int = 0
    most: int = 0  # requests in flight at once

    @property
    def prompts(self) -> list[str]:
        """The prompts that arrived, in order."""
        return [request.prompt for request in self.requests]


class Handler(BaseHTTPRequestHandler):
    """One request; `server.state` is the Server."""

    protocol_version = "HTTP/1.1"
    request_seen: Request

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def _read(self) -> Request:
        length = int(self.headers.get("Content-Length") or 0)
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = json.loads(self.rfile.read(length) or b"{}")
        return Request(self.path, headers, body, time.monotonic())

    def do_GET(self) -> None:
        """Answer the list of models."""
        state = self.server.state
        state.gets.append(self._read())
        if state.models is None:
            self.whole(404, {"detail": "Not Found"})
        else:
            self.whole(200, state.models)

    def do_POST(self) -> None:
        """Let the next behaviour answer."""
        state = self.server.state
        self.request_seen = self._read()
        with state.lock:
            state.requests.append(self.request_seen)
            behaviour = state.script.pop(0) if state.script else state.otherwise
            state.running += 1
            state.most = max(state.most, state.running)
        try:
            behaviour(self)
        except (BrokenPipeError, ConnectionResetError):
            pass  # the client went away first
        finally:
            with state.lock:
                state.running -= 1

    def whole(
        self,
        status: int,
        body: object,
        headers: Mapping[str, str] | None = None,
        *,
        kind: str = "application/json",
    ) -> None:
        """Send a response with its length; `body` is bytes or becomes JSON."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Type": kind, **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def begin(self) -> None:
        """Begin a stream that ends with the connection, so that a break is no error of the protocol."""
        self.close_connection = True
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()

    def event(self, body: object) -> None:
        """Send one event of a stream."""
        self.wfile.write(
            b"data: " + (body if isinstance(body, bytes) else json.dumps(body).encode()) + b"\n\n"
        )
        self.wfile.flush()

    def choice(self, text: str, finish: str | None = None) -> dict[str, Any]:
        """Return the event that brings `text`, as the path asks for it."""
        part = {"delta": {"content": text}} if self.path.endswith("/chat/completions") else {"text": text}
        return {"choices": [{"index": 0, **part, "finish_reason": finish}]}

    def usage(self, completion: int, extra: int = 0) -> dict[str, Any]:
        """Return usage that counts words, with `extra` for a template."""
        prompt = len(self.request_seen.prompt.split()) + extra
        return {"usage": {"prompt_tokens": prompt, "completion_tokens": completion}}


# Behaviours


def answer(
    text: str | Callable[[str], str], finish: str = "stop", *, extra: int = 0, usage: bool = True
) -> Behaviour:
    """Stream a reply (or what a function makes of the prompt), word by word, with usage in an event of its own."""

    def behave(handler: Handler) -> None:
        said = text if isinstance(text, str) else text(handler.request_seen.prompt)
        words = [word + " " for word in said.split()]
        handler.begin()
        handler.wfile.write(b": a comment\n\n")
        for word in [*words[:-1], *(word.strip() for word in words[-1:])]:
            handler.event(handler.choice(word))
        handler.event(handler.choice("", finish))
        if usage:
            handler.event({"choices": [], **handler.usage(len(words), extra)})
        handler.event(b"[DONE]")

    return behave


def plain(
    text: str | None, finish: str | None = "stop", *, usage: Mapping[str, Any] | None = None
) -> Behaviour:
    """Answer with one JSON object although a stream was asked for."""

    def behave(handler: Handler) -> None:
        choice = handler.choice("", finish)["choices"][0]
        if "delta" in choice:
            choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}
        else:
            choice["text"] = text
        found = {"usage": usage} if usage is not None else handler.usage(1)
        handler.whole(200, {"choices": [choice], **found})

    return behave


def status(code: int, body: object = None, headers: Mapping[str, str] | None = None) -> Behaviour:
    """Refuse with a status."""
    return lambda handler: handler.whole(
        code, body if body is not None else {"error": {"message": "boom"}}, headers
    )


def raw(content: bytes) -> Behaviour:
    """Answer 200 with these bytes."""
    return lambda handler: handler.whole(200, content, kind="text/event-stream")


def truncated(handler: Handler) -> None:
    """End the stream in the middle of a reply, as if it were over."""
    handler.begin()
    handler.event(handler.choice("half "))


def broken(handler: Handler) -> None:
    """Announce more than is sent, then close the connection."""
    handler.close_connection = True
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b"data: ")


def hung_up(handler: Handler) -> None:
    """Close the connection without a word."""
    handler.close_connection = True
    handler.connection.shutdown(socket.SHUT_RDWR)


def silent(seconds: float) -> Behaviour:
    """Say nothing for a while, then answer."""

    def behave(handler: Handler) -> None:
        time.sleep(seconds)
        answer("late")(handler)

    return behave


def drip(seconds: float, every: float = 0.05) -> Behaviour:
    """Stream a byte of a comment at a time, so that the connection never falls silent, for so long."""

    def behave(handler: Handler) -> None:
        handler.begin()
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            handler.wfile.write(b":")
            handler.wfile.flush()
            time.sleep(every)

    return behave


def key_in_error(code: int, cut: int | None = None) -> Behaviour:
    """Refuse, and say the key (or its first characters) that came with the request."""

    def behave(handler: Handler) -> None:
        key = handler.request_seen.headers.get("authorization", "")[len("Bearer ") :][:cut]
        handler.whole(code, {"error": {"message": f"bad request with key {key} today"}}, {"X-Key": key})

    return behave


def key_in_reply(handler: Handler) -> None:
    """Answer with the headers of the request as the reply."""
    answer(f"you sent {handler.request_seen.headers.get('authorization')}")(handler)


@contextmanager
def serve(*script: Behaviour, otherwise: Behaviour | None = None) -> Iterator[Server]:
    """Run a server at 127.0.0.1 on a free port; by default it repeats each prompt in upper case."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads, server.block_on_close = True, False
    url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    server.state = Server(url, otherwise or answer(str.upper), list(script))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server.state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def free_port() -> int:
    """Return a port on which nothing listens."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]
