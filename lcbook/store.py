"""Digests of specs, and files that are written whole or not at all, and noticed where they are damaged."""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import inspect
import json
import linecache
import math
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lcbook import runtime

# Raise this when numbers move: cached and committed runs of another version are stale.
COMPUTE_VERSION = 1

LEFT_SECONDS = 3600.0  # a part of a file that is older belongs to no writer
SOURCE = "class source"  # in a digest, beside the name of a class that is not of lcbook


class DamagedFileError(ValueError):
    """A results file that is cut short, edited by hand, or no results file at all."""


def canonical(value: Any) -> Any:
    """Return `value` (dataclasses, containers, numbers, strings) as plain JSON data, class names included.

    A class that is not of lcbook has its source beside its name. Raises ValueError for other values, and where such a
    class has no source.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        kind, fields = type(value), dataclasses.fields(value)
        own = {} if _ours(kind) else {SOURCE: source(kind)}
        return {"is": kind.__name__, **own} | {f.name: canonical(getattr(value, f.name)) for f in fields}
    if isinstance(value, (list, tuple)):
        return [canonical(v) for v in value]
    if isinstance(value, dict):
        return {str(k): canonical(v) for k, v in value.items()}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise ValueError(
        f"value is a {type(value).__name__}; allowed in a spec are dataclasses, containers and plain values."
    )


def _ours(kind: type) -> bool:
    """Return whether a class is of lcbook, so that `COMPUTE_VERSION` tells of its changes."""
    return kind.__module__.partition(".")[0] == "lcbook"


def source(kind: type) -> str:
    """Return the source of a class that is not of lcbook, and of its bases; it may stand in a cell of a notebook.

    It is kept with the class, so that a worker process to which the class is sent knows it too.
    Raises ValueError where there is none.
    """
    if "__source__" not in vars(kind):
        known = ("lcbook", *sys.stdlib_module_names)
        parts = [_text(one) for one in kind.__mro__ if one.__module__.partition(".")[0] not in known]
        setattr(kind, "__source__", "\n".join(parts))  # noqa: B010
    return vars(kind)["__source__"]


def _text(kind: type) -> str:
    """Return the source of one class: `inspect` alone finds none of a class in a notebook's cell."""
    for member in vars(kind).values():
        function = inspect.unwrap(getattr(member, "__func__", getattr(member, "fget", member)))
        if not inspect.isfunction(function):
            continue
        code = function.__code__
        line, text = code.co_firstlineno, "".join(linecache.getlines(code.co_filename))
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ClassDef) and node.name == kind.__name__:
                if node.lineno <= line <= (node.end_lineno or 0):
                    return ast.get_source_segment(text, node) or ""
    try:
        return inspect.getsource(kind)
    except (OSError, TypeError) as error:
        raise ValueError(
            f"{kind.__name__} has no source to be found; allowed in a spec is a class from a file or a notebook's cell."
        ) from error


def digest(*values: Any) -> str:
    """Return 16 hexadecimal digits that identify `values` and the version of the computation."""
    text = json.dumps([COMPUTE_VERSION, *map(canonical, values)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path` whole or not at all. Raises OSError, which names the path, where that cannot be.

    What a writer that was killed left in the folder more than an hour ago is removed.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for left in path.parent.glob("*.part"):
            if time.time() - left.stat().st_mtime > LEFT_SECONDS:
                left.unlink()
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(name, 0o644)  # a temporary file is its owner's alone
            os.replace(name, path)
        finally:
            Path(name).unlink(missing_ok=True)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def checksum(body: Any) -> str:
    """Return the SHA-256 of what `save_json` writes of `body`."""
    body = json.loads(json.dumps(_without_nan(body)))
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def save_json(path: Path, body: dict[str, Any]) -> None:
    """Write `body` with its checksum, atomically. NaN is stored as null."""
    body = json.loads(json.dumps(_without_nan(body)))
    write_bytes(path, json.dumps({"checksum": checksum(body), "body": body}, indent=None).encode() + b"\n")


def _without_nan(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {k: _without_nan(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(v) for v in value]
    return value


def load_json(path: Path) -> dict[str, Any]:
    """Return the body of a file that `save_json` wrote.

    Raises DamagedFileError if it is cut short, edited or of another kind, FileNotFoundError if it is not there.
    """
    try:
        stored = json.loads(path.read_text(encoding="utf8"))
        body = stored["body"]
        whole = checksum(body) == stored["checksum"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DamagedFileError(f"{path} is no complete results file ({error}).") from error
    if not isinstance(body, dict):
        raise DamagedFileError(f"{path} holds a {type(body).__name__}, no results.")
    if not whole:
        raise DamagedFileError(f"{path} was changed after it was written: its checksum does not match.")
    return body


def save_keyed(path: Path, body: dict[str, Any]) -> None:
    """Write `body` as `save_json` does, its key beside it: the name of the file, a digest of what it was made of."""
    save_json(path, {"key": path.stem, **body})


def load_keyed(path: Path) -> dict[str, Any]:
    """Return what `save_keyed` wrote, so that a file of another name copied there is noticed.

    A file without a key (older weights) is believed. Raises as `load_json`, DamagedFileError for another's key too.
    """
    body = load_json(path)
    key = body.pop("key", path.stem)
    if key != path.stem:
        raise DamagedFileError(f"{path} holds the result of {key}, not its own.")
    return body


def store(write: Callable[[], Any]) -> None:
    """Write to the cache; where that fails, say so and go on, since the result is still in memory."""
    try:
        write()
    except OSError as error:
        warnings.warn(
            f"The cache {runtime.cache_dir()} cannot be written ({error.strerror}); nothing is lost but time.",
            stacklevel=3,
        )


def cached_rows(path: Path, compute: Callable[[], list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Return the rows stored at `path` if they are there, whole and its own, else those that `compute` gives."""
    try:
        rows = load_keyed(path).get("rows")
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise DamagedFileError(f"{path} holds no rows.")
        return rows
    except OSError:
        pass
    except DamagedFileError as error:
        warnings.warn(f"{error} It is computed again.", stacklevel=3)
    rows = compute()
    store(lambda: save_keyed(path, {"rows": rows}))
    return rows
