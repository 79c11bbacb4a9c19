"""The way to an OpenAI-compatible endpoint: signed requests with deadlines, asked again where that helps."""

from __future__ import annotations

import base64
import dataclasses
import functools
import json
import math
import os
import random
import threading
import time
import urllib.parse
from dataclasses import dataclass
from typing import Any

from lcbook.formats import at_least
from lcbook.llm.wire import Answer, hide, read_answer, read_message, retry_after

FIRST_WAIT = 0.5  # seconds before the second attempt, doubled before each later one
LONGEST_WAIT = 120.0  # seconds: an endpoint that asks to wait longer is not asked again
LONGEST_CONNECT = 10.0  # seconds until a host that does not answer counts as down
LONGEST_ERROR = 400  # characters of an error


@dataclass(frozen=True)
class Failure:
    """Why there is no answer.

    `why` goes on after "The endpoint URL"; `again`: another attempt may help; `hopeless`: any other request would fail
    as well; `status` is that of the response, 0 if there was none; `wait` is what Retry-After asks for, in seconds.
    """

    why: str
    again: bool = False
    hopeless: bool = False
    status: int = 0
    wait: float | int | None = None


class Pace:
    """Spaces requests: so many a minute at most, and none while the endpoint asks to wait."""

    def __init__(self, per_minute: float | int | None) -> None:
        self._gap, self._next, self._lock = 60 / per_minute if per_minute else 0.0, 0.0, threading.Lock()

    def wait(self, stopped: threading.Event) -> bool:
        """Wait for this request's turn; return whether the run goes on."""
        with self._lock:
            now = time.monotonic()
            turn = max(now, self._next)
            self._next = turn + self._gap
        return not stopped.wait(turn - now)

    def hold(self, seconds: float | int) -> None:
        """Let no request that has no turn yet start within `seconds`."""
        with self._lock:
            self._next = max(self._next, time.monotonic() + seconds)


class Connection:
    """How an endpoint is reached; the arguments are those of `Endpoint`."""

    def __init__(
        self,
        url: str,
        *,
        key_variable: str,
        timeout: float | int,
        attempts: int,
        concurrency: int,
        per_minute: float | int | None,
    ) -> None:
        at_least(1, concurrency=concurrency, attempts=attempts)
        for name, number in (("timeout", timeout), ("per_minute", per_minute)):
            if number is not None and not 0 < number < math.inf:
                raise ValueError(f"{name} is {number}; allowed is a finite number above 0.")
        self.url, self._login = _split(url)
        self._key_variable, self._timeout, self._attempts = key_variable, timeout, attempts
        self.concurrency, self._pace = concurrency, Pace(per_minute)

    def __repr__(self) -> str:
        return f"Connection({self.url!r})"

    def open(self) -> Any:
        """Return a pool of connections (httpx.Client); a key is added to each request as it leaves, and kept nowhere.

        Raises ValueError if httpx is missing, a proxy of the environment cannot be used, or a key cannot be sent.
        """
        try:
            import httpx
        except ImportError:
            raise ValueError("Endpoints need httpx: pip install 'lcbook[llm]'.") from None
        self._key()

        def sign(request: Any) -> Any:
            if self._login:
                request.headers["Authorization"] = f"Basic {_basic(self._login)}"
            elif key := self._key():
                request.headers["Authorization"] = f"Bearer {key}"
            return request

        try:
            return httpx.Client(
                auth=sign,
                verify=_certificates(),
                timeout=httpx.Timeout(self._timeout, connect=min(self._timeout, LONGEST_CONNECT)),
                follow_redirects=False,
                limits=httpx.Limits(max_connections=self.concurrency),
                headers={"Content-Type": "application/json"},
            )
        except (ImportError, ValueError):  # a proxy that needs another package, or is no address
            pass  # the error may hold a password
        raise ValueError("The proxy that the environment names cannot be used by httpx.")

    def ask(self, client: Any, path: str, body: dict[str, Any], stopped: threading.Event) -> Answer | Failure:
        """Post `body` until there is an answer, no hope, no attempt left, or the run is `stopped`."""
        failure = Failure("was not asked, since an earlier request says that it would fail")
        for attempt in range(self._attempts):
            if stopped.is_set() or not self._pace.wait(stopped):
                return failure
            outcome = self._post(client, path, body)
            if isinstance(outcome, Answer) or not outcome.again:
                return outcome
            failure = outcome
            if failure.wait is not None:
                self._pace.hold(failure.wait)
            if attempt + 1 < self._attempts:
                stopped.wait(min(LONGEST_WAIT, FIRST_WAIT * 2**attempt) * random.uniform(0.5, 1))
        times = f", {self._attempts} times" if self._attempts > 1 else ""
        return dataclasses.replace(failure, why=failure.why + times)

    def _post(self, client: Any, path: str, body: dict[str, Any]) -> Answer | Failure:
        found = self.fetch(client, "POST", path, json.dumps(body).encode())
        if isinstance(found, Failure):
            failure = found
        elif found[0] != 200:
            failure = self._refusal(*found)
        else:
            try:
                return read_answer(found[2])
            except ValueError as error:
                failure = Failure(str(error), again=True)
        # No caller holds a key that was echoed.
        return dataclasses.replace(failure, why=self._hide(failure.why))

    def fetch(
        self, client: Any, method: str, path: str, content: bytes | None = None
    ) -> tuple[int, str | None, bytes] | Failure:
        """Send one request; return (status, Retry-After, body), read to its end: only there it shows to be whole."""
        import httpx

        deadline, body = time.monotonic() + self._timeout, bytearray()
        late = Failure(f"gives no whole reply within {self._timeout:g} seconds", again=True)
        try:
            with client.stream(method, f"{self.url}/{path}", content=content) as response:
                for chunk in response.iter_bytes():
                    body += chunk
                    if time.monotonic() > deadline:
                        return late
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError) as error:
            said = str(error) or "no connection in time"
            return Failure(f"cannot be reached ({said})", again=True, hopeless=True)
        except httpx.InvalidURL:
            return Failure("has an address that cannot be used", hopeless=True)
        except httpx.TimeoutException:
            return late
        except (httpx.HTTPError, httpx.StreamError):
            return Failure("breaks the connection before the reply is whole", again=True)
        return response.status_code, response.headers.get("Retry-After"), bytes(body)

    def _refusal(self, status: int, wait_asked: str | None, content: bytes) -> Failure:
        """Return what a status other than 200 means."""
        said, code = read_message(content)
        wait = retry_after(wait_asked)
        words = f"{code} {said}".lower()
        if status == 401:
            why = f"refuses the key in {self._key_variable}"
            if self._login:
                why = "refuses the user and password in its URL"
            elif not self._key():
                why = f"asks for a key, and {self._key_variable} is not set"
            return Failure(why, hopeless=True, status=status)
        if status == 404:
            why = f"has no such address or no such model (status 404{said}); a URL often ends in /v1"
            return Failure(why, hopeless=True, status=status)
        if 300 <= status < 400:
            why = f"redirects to another address (status {status}), which is not followed; give that one"
            return Failure(why, hopeless=True, status=status)
        if status == 402 or code == "insufficient_quota":
            return Failure(f"wants to be paid first (status {status}{said})", hopeless=True, status=status)
        if status in (408, 429) or status >= 500:
            if wait is not None and wait > LONGEST_WAIT:
                return Failure(f"asks to wait {wait:.0f} seconds (status {status}{said})", status=status)
            name = "limits the rate of requests" if status == 429 else "fails"
            return Failure(f"{name} (status {status}{said})", again=True, status=status, wait=wait)
        if status == 413 or any(w in words for w in ("context_length", "context length", "context window")):
            return Failure(
                f"has a window shorter than prompt and reply (status {status}{said})", status=status
            )
        return Failure(f"refuses the request (status {status}{said})", status=status)

    def sentence(self, why: str) -> str:
        """Return an error in one sentence, without a piece of a key or password."""
        text = self._hide(why)
        text = text if len(text) <= LONGEST_ERROR else f"{text[:LONGEST_ERROR]} ..."
        return f"The endpoint {self.url} {text}."

    def clean(self, reply: str) -> str:
        """Return a reply without the key, should the endpoint echo it there."""
        return hide(reply, self._secrets(), pieces=False)

    def _hide(self, text: str) -> str:
        return hide(text, self._secrets())

    def _key(self) -> str:
        key = os.environ.get(self._key_variable, "").strip()
        if not key.isascii() or not key.isprintable():
            raise ValueError(
                f"The key in {self._key_variable} holds characters that cannot be sent; allowed is printable ASCII."
            )
        return key

    def _secrets(self) -> list[str]:
        found = [self._key(), *self._login[1:], *([_basic(self._login)] if self._login else [])]
        return [secret for secret in found if secret]


@functools.cache
def _certificates() -> Any:
    """Return the certificates to trust, which take longer to read than a local request takes."""
    import httpx

    return httpx.create_ssl_context()


def _basic(login: tuple[str, ...]) -> str:
    return base64.b64encode(":".join(login).encode()).decode()


def _split(url: str) -> tuple[str, tuple[str, ...]]:
    """Return `url` without user and password and without a slash at its end, and (user, password) or ()."""
    try:
        parts = urllib.parse.urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        parts, host, port = urllib.parse.urlsplit(""), None, None
    if parts.scheme not in ("http", "https") or not host:
        raise ValueError("url is no address of an endpoint; allowed is http(s)://HOST[:PORT][/PATH].")
    if parts.query or parts.fragment:
        raise ValueError(
            f"url of {host} holds a query, which may hold a key; allowed is http(s)://HOST[:PORT][/PATH]."
        )
    place = f"[{host}]" if ":" in host else host
    place = place if port is None else f"{place}:{port}"
    login = (urllib.parse.unquote(parts.username or ""), urllib.parse.unquote(parts.password or ""))
    return f"{parts.scheme}://{place}{parts.path.rstrip('/')}", login if any(login) else ()
