"""What an OpenAI-compatible endpoint sends: replies, streams, errors, Retry-After; and how a key in it is hidden."""

from __future__ import annotations

import datetime
import email.utils
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

LEAST_PIECE = 8  # characters: a shorter piece of a key may be an ordinary word


@dataclass(frozen=True)
class Answer:
    """A whole reply: its text, why it ends ("stop", "length", ...), and its tokens if the endpoint counted them."""

    text: str
    finish: str
    counted: bool
    prompt_tokens: int = 0
    completion_tokens: int = 0
    reused: int = 0


def read_answer(content: bytes) -> Answer:
    """Return the reply that the body of a response with status 200 holds, a stream of events or one JSON object.

    Raises ValueError, with the part of a sentence that says what is wrong, if it is malformed, reports an error, has no
    choices, or is a stream that ends before the reply does (no finish_reason).
    """
    whole = content.lstrip().startswith(b"{")
    texts, finish, choices = list[str](), None, 0
    usage: dict[str, Any] = {}
    for part in [_object(content)] if whole else _events(content):
        if part.get("error"):
            said = read_message(json.dumps(part).encode())[0]
            raise ValueError(f"reports an error in its reply{said}")
        usage = part.get("usage") or usage
        for choice in part.get("choices") or []:
            choices += 1
            message = choice if "text" in choice else choice.get("message") or choice.get("delta") or {}
            text = message.get("text") if message is choice else message.get("content")
            if not isinstance(text, str | None):
                raise ValueError("sends a malformed reply")
            texts.append(text or "")
            finish = choice.get("finish_reason") or finish
    if not choices:
        raise ValueError("sends a reply without choices")
    if finish is None and not whole:
        raise ValueError("ends the stream before the reply is whole")
    # Two halves of one character may come in two events; half a character cannot be written to a file.
    text = "".join(texts).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    details = usage.get("prompt_tokens_details")
    reused = details.get("cached_tokens") if isinstance(details, dict) else None
    prompt, completion, reused = usage.get("prompt_tokens"), usage.get("completion_tokens") or 0, reused or 0
    if isinstance(prompt, int) and isinstance(completion, int) and isinstance(reused, int):
        return Answer(text, str(finish or "stop"), True, prompt, completion, reused)
    return Answer(text, str(finish or "stop"), False)


def _object(content: bytes) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except ValueError:  # also for bytes that are no UTF-8
        found = None
    choices = found.get("choices") if isinstance(found, dict) else None
    if not isinstance(found, dict) or not isinstance(choices, list | None):
        raise ValueError("sends a malformed reply")
    parts = [found.get("usage"), *(choices or [])]
    parts += [c.get(key) for c in choices or [] if isinstance(c, dict) for key in ("message", "delta")]
    if not all(isinstance(part, dict | None) for part in parts):
        raise ValueError("sends a malformed reply")
    return found


def _events(content: bytes) -> Iterator[dict[str, Any]]:
    """Yield the JSON objects of a stream of server-sent events; comments and other fields are passed over."""
    for line in content.splitlines():
        name, _, value = line.partition(b":")
        if name != b"data" or not value.strip():
            continue
        if value.strip() == b"[DONE]":
            return
        yield _object(value)


def read_message(content: bytes) -> tuple[str, str]:
    """Return (the message of an error body as ', saying "..."', or "", its code or type, or "")."""
    try:
        found = json.loads(content)
    except ValueError:
        return "", ""
    for key in ("error", "detail"):
        found = found[key] if isinstance(found, dict) and found.get(key) else found
    error = found if isinstance(found, dict) else {}
    text, code = error.get("message", found), error.get("code") or error.get("type")
    text = text if isinstance(text, str) else json.dumps(text)
    said = " ".join(text.split()).rstrip(".")
    return f', saying "{said}"' if said else "", code if isinstance(code, str) else ""


def hide(text: str, secrets: Sequence[str], *, pieces: bool = True) -> str:
    """Return `text` with each of `secrets`, and with `pieces` each piece of 8 characters or more, as [hidden].

    Without `pieces` only whole secrets of at least 8 characters are hidden: for replies, which are scored.
    """
    for secret in secrets:
        if len(secret) < LEAST_PIECE or not pieces:
            text = text.replace(secret, "[hidden]") if pieces or len(secret) >= LEAST_PIECE else text
            continue
        start = 0
        while start + LEAST_PIECE <= len(text):
            end = start + LEAST_PIECE
            if text[start:end] not in secret:
                start += 1
                continue
            while end < len(text) and text[start : end + 1] in secret:
                end += 1
            text = text[:start] + "[hidden]" + text[end:]
            start += len("[hidden]")
    return text


def retry_after(value: str | None) -> float | None:
    """Return the seconds that a Retry-After header asks to wait (a number or a date), None if it says nothing."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            date = email.utils.parsedate_to_datetime(value)
        except ValueError:
            return None
        now = datetime.datetime.now(date.tzinfo or datetime.UTC)
        seconds = (date.replace(tzinfo=date.tzinfo or datetime.UTC) - now).total_seconds()
    return max(0.0, seconds) if math.isfinite(seconds) else None
