"""Results: digests of specs, files that are written whole or not at all, and committed reference runs."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from lcbook import runtime

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

# Raise this when numbers move: cached and committed runs of another version are stale.
COMPUTE_VERSION = 1


class DamagedFileError(ValueError):
    """A results file that is cut short, edited by hand, or no results file at all."""


def canonical(value: Any) -> Any:
    """Return `value` (dataclasses, containers, numbers, strings) as plain JSON data, class names included."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: canonical(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"is": type(value).__name__, **fields}
    if isinstance(value, (list, tuple)):
        return [canonical(v) for v in value]
    if isinstance(value, dict):
        return {str(k): canonical(v) for k, v in value.items()}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise ValueError(
        f"value is a {type(value).__name__}; allowed in a spec are dataclasses, containers and plain values."
    )


def digest(*values: Any) -> str:
    """Return 16 hexadecimal digits that identify `values` and the version of the computation."""
    text = json.dumps([COMPUTE_VERSION, *map(canonical, values)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path` whole or not at all. Raises OSError where the folder cannot be written."""
    path.parent.mkdir(parents=True, exist_ok=True)
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


def _checksum(body: Any) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def save_json(path: Path, body: dict[str, Any]) -> None:
    """Write `body` with its checksum, atomically. NaN is stored as null."""
    body = json.loads(json.dumps(_without_nan(body)))
    write_bytes(path, json.dumps({"checksum": _checksum(body), "body": body}, indent=None).encode() + b"\n")


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
        body, checksum = stored["body"], stored["checksum"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DamagedFileError(f"{path} is no complete results file ({error}).") from error
    if not isinstance(body, dict):
        raise DamagedFileError(f"{path} holds a {type(body).__name__}, no results.")
    if _checksum(body) != checksum:
        raise DamagedFileError(f"{path} was changed after it was written: its checksum does not match.")
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
    """Return the rows stored at `path` if they are there and whole, else those that `compute` gives, stored there.

    The name of the file is the digest of what the rows were made of; it stands in the file too, so that a file of
    another name copied there is noticed.
    """
    try:
        body = load_json(path)
        if body.get("key") != path.stem or not isinstance(body.get("rows"), list):
            raise DamagedFileError(f"{path} holds the rows of {body.get('key')}, not its own.")
        return body["rows"]
    except OSError:
        pass
    except DamagedFileError as error:
        warnings.warn(f"{error} It is computed again.", stacklevel=3)
    rows = compute()
    store(lambda: save_json(path, {"key": path.stem, "rows": rows}))
    return rows


def _commit() -> str | None:
    here, command = Path(__file__).resolve().parent, ["git", "rev-parse", "HEAD"]
    try:
        found = subprocess.run(command, cwd=here, capture_output=True, text=True, check=False)
    except OSError:
        return None  # a machine without git
    return found.stdout.strip() or None


def _peak_bytes() -> int | None:
    """Return the most memory used so far: of the GPU where runs compute there, else of this process and its workers.

    None on a system that does not tell (Windows has no module `resource`).
    """
    if runtime.device().type == "cuda":
        return torch.cuda.max_memory_allocated()
    if resource is None:
        return None
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux KiB
    return unit * sum(
        resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )


def provenance(seconds: float) -> dict[str, Any]:
    """Return where and when a result was made: commit, versions, device, scale, seconds, peak memory, date."""
    peak = _peak_bytes()
    return {
        "commit": _commit(),
        "device": runtime.device_name(),
        "machine": runtime.device_description(),
        "scale": runtime.scale(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "seconds": round(seconds, 1),
        "peak_memory_mib": None if peak is None else round(peak / 2**20),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }


@dataclass(frozen=True)
class Reference:
    """A committed run of one chapter on one device: `status` is "current", "stale" or "damaged"."""

    chapter: str
    device: str
    status: str
    provenance: dict[str, Any]
    tables: dict[str, pd.DataFrame]
    claims: tuple[dict[str, Any], ...]

    @property
    def label(self) -> str:
        """The run's name on the page: machine, scale and date."""
        return f"{self.provenance['machine']}, {self.provenance['scale']} scale, {self.provenance['date']}"


def folder() -> Path:
    """Return the folder of committed runs: in a checkout `results/`, in an installed package its copy."""
    package = Path(__file__).resolve().parent
    in_checkout = (package.parent / "pyproject.toml").is_file()
    return package.parent / "results" if in_checkout else package / "_results"


def save_reference(
    chapter: str, tables: dict[str, pd.DataFrame], claims: list[dict[str, Any]], seconds: float
) -> Path:
    """Write the tables and verdicts of a chapter under results/<device>/ and return the path."""
    path = folder() / runtime.device_name() / f"{chapter}.json"
    body = {
        "compute_version": COMPUTE_VERSION,
        "provenance": provenance(seconds)
        | {"resumed": runtime.session.resumed, "training_seconds": _training_seconds(tables)},
        "tables": {name: _packed(table) for name, table in tables.items()},
        "claims": claims,
    }
    save_json(path, body)
    return path


def _training_seconds(tables: dict[str, pd.DataFrame]) -> float:
    """Return the seconds that all models took to train on one core or GPU, each model counted once."""
    parts = [
        table[["seed", "seconds"]] for table in tables.values() if {"seed", "seconds"} <= set(table.columns)
    ]
    return round(float(pd.concat(parts).drop_duplicates()["seconds"].sum()), 1) if parts else 0.0


def _packed(table: pd.DataFrame) -> dict[str, Any]:
    """Return a table as columns, a column of one value stored once."""
    same = [name for name in table.columns if table[name].nunique(dropna=False) == 1]
    return {
        "rows": len(table),
        "constant": {name: table[name].tolist()[0] for name in same},
        "columns": table.drop(columns=same).to_dict(orient="list"),
        "order": list(table.columns),
    }


def _unpacked(stored: dict[str, Any]) -> pd.DataFrame:
    frame = pd.DataFrame(stored["columns"], index=range(stored["rows"]))
    constant = {name: math.nan if value is None else value for name, value in stored["constant"].items()}
    return frame.assign(**constant)[stored["order"]]


def references(chapter: str) -> list[Reference]:
    """Return the committed runs of a chapter ("*": of all), one for each device, damaged and stale ones marked."""
    found = []
    for path in sorted(folder().glob(f"*/{chapter}.json")):
        try:
            body = load_json(path)
            status = "current" if body["compute_version"] == COMPUTE_VERSION else "stale"
            tables = {name: _unpacked(stored) for name, stored in body["tables"].items()}
            read = (status, body["provenance"], tables, tuple(body["claims"]))
        except (DamagedFileError, KeyError, TypeError):  # damaged, or whole but of another kind
            read = ("damaged", {}, {}, ())
        found.append(Reference(path.stem, path.parent.name, *read))
    return found
