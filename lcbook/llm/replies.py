"""Replies that were paid, in a folder: one file for each request, named by its digest, checked when it is read."""

from __future__ import annotations

import hashlib
import json
import warnings
from pathlib import Path
from typing import Any

from lcbook import store

FORMAT = 1  # raise this when what is stored changes: older files are then passed over


def _file(folder: Path, request: dict[str, Any]) -> Path:
    digest = hashlib.sha256(json.dumps([FORMAT, request], sort_keys=True).encode()).hexdigest()
    return folder / digest[:2] / f"{digest}.json"


def load(folder: Path | None, request: dict[str, Any]) -> dict[str, Any] | None:
    """Return what was stored for `request`, None if nothing was or there is no folder.

    A file that is damaged, cannot be read or belongs to another request gives None and a warning that names it.
    """
    if folder is None or not (file := _file(folder, request)).exists():
        return None
    try:
        return store.load_keyed(file)["reply"]
    except store.DamagedFileError as error:
        why = str(error)
    except OSError as error:
        why = f"{file} cannot be read ({error.strerror})."
    warnings.warn(f"{why} The endpoint is asked again.", stacklevel=3)
    return None


def save(folder: Path | None, request: dict[str, Any], reply: dict[str, Any]) -> None:
    """Store `reply` whole or not at all; where the folder cannot be written, warn and go on."""
    if folder is None:
        return
    file = _file(folder, request)
    try:
        store.save_keyed(file, {"reply": reply})
    except OSError as error:
        warnings.warn(f"{file} cannot be written ({error.strerror}); the reply is not kept.", stacklevel=3)
