"""Committed runs of a chapter on one device, exploratory or confirmatory: tables and verdicts, with their provenance
and designs.
"""

from __future__ import annotations

import datetime
import math
import platform
import subprocess
import sys
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from lcbook import runtime, store

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]


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
    whose = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return unit * sum(resource.getrusage(who).ru_maxrss for who in whose)


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
    """A committed run of one chapter on one device: `status` is "current", "stale" or "damaged".

    `designs` holds, for each scale at which it is known, the digest of everything that determines a table there.
    """

    chapter: str
    device: str
    status: str
    provenance: dict[str, Any] = field(default_factory=dict)
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    claims: tuple[dict[str, Any], ...] = ()
    designs: dict[str, dict[str, str]] = field(default_factory=dict)
    kind: str = "exploratory"

    @property
    def label(self) -> str:
        """The run's name on the page: machine, scale and date."""
        return f"{self.provenance['machine']}, {self.provenance['scale']} scale, {self.provenance['date']}"

    def is_current(self, name: str) -> bool:
        """Return whether table `name` is there, of this version of the computation, and of the page's design.

        In the running chapter its digest for the scale in force has to be that of the table that the session has
        made. Where the file holds none for this scale, and in another chapter, which the session cannot know, the
        version alone decides.
        """
        if self.status != "current" or name not in self.tables:
            return False
        known = self.designs.get(runtime.scale(), {}) if self.chapter == runtime.session.chapter else {}
        return not known or (name in known and known[name] == runtime.session.designs.get(name))

    def stale_tables(self) -> list[str]:
        """Return the tables that the running session has made by another design than this run."""
        return [name for name in self.tables if name in runtime.session.designs and not self.is_current(name)]


def folder() -> Path:
    """Return the folder of committed runs: in a checkout `results/`, in an installed package its copy."""
    package = Path(__file__).resolve().parent
    in_checkout = (package.parent / "pyproject.toml").is_file()
    return package.parent / "results" if in_checkout else package / "_results"


# Kind of a committed run -> where it lies in its device's folder.
KINDS = {"exploratory": "", "confirmatory": "confirmatory"}
REPLICATIONS = "replications"  # a folder beside those of devices: what others sent


def _path(chapter: str, device: str, kind: str = "exploratory") -> Path:
    return folder() / device / KINDS[kind] / f"{chapter}.json"


def save_reference(
    session: runtime.Session, claims: list[dict[str, Any]], seconds: float, kind: str = "exploratory"
) -> Path:
    """Write tables and designs of a chapter's session, and verdicts, under results/<device>/; return the path."""
    about = provenance(seconds)
    about |= {"resumed": session.resumed, "training_seconds": _training_seconds(session.tables)}
    body = {
        "compute_version": store.COMPUTE_VERSION,
        "chapter": session.chapter,
        "device": runtime.device_name(),
        "kind": kind,
        "provenance": about,
        "designs": {runtime.scale(): session.designs},
        "tables": {name: packed(table) for name, table in session.tables.items()},
        "claims": claims,
    }
    path = _path(session.chapter, runtime.device_name(), kind)
    store.save_json(path, body)
    record_rows(path)
    return path


def record_rows(path: Path) -> None:
    """Add the digests of a committed run's tables to the record of all rows that were ever committed.

    Nothing is ever taken out of it: of one table the last line is that of the rows that stand.
    """
    known = recorded_rows()
    place = f"{path.parent.relative_to(folder())}/{path.stem}".replace("\\", "/")
    new = {f"{place}/{name}": digest for name, digest in row_digests(path).items()}
    lines = [f"{digest} {name}\n" for name, digest in new.items() if known.get(name) != digest]
    before = _record().read_text(encoding="utf8") if _record().exists() else ""
    store.write_bytes(_record(), (before + "".join(lines)).encode())


def _record() -> Path:
    return folder() / "rows.txt"


def recorded_rows() -> dict[str, str]:
    """Return the digest of the rows that stand by "device/[kind/]chapter/table"."""
    text = _record().read_text(encoding="utf8") if _record().exists() else ""
    pairs = (line.split(" ", 1) for line in text.splitlines())
    return {name: digest for digest, name in pairs}


def row_digests(path: Path) -> dict[str, str]:
    """Return the SHA-256 of each table of a committed run, by name. Raises as `store.load_json`."""
    return {name: store.checksum(table) for name, table in store.load_json(path)["tables"].items()}


def save_designs(chapter: str, device: str, scale: str, designs: dict[str, str]) -> Path:
    """Put the digests of a chapter's tables at one more scale into its committed run; all else there stays.

    Raises DamagedFileError or FileNotFoundError as `store.load_json`, ValueError for a scale that does not exist.
    """
    if scale not in runtime.SCALES:
        raise ValueError(f"scale is {scale!r}; allowed are {', '.join(runtime.SCALES)}.")
    path = _path(chapter, device)
    body = store.load_json(path)
    store.save_json(path, body | {"designs": body.get("designs", {}) | {scale: designs}})
    return path


def save_claims(run: Reference, claims: list[dict[str, Any]]) -> Path:
    """Put other verdicts into a committed run; all else there stays."""
    path = _path(run.chapter, run.device, run.kind)
    store.save_json(path, store.load_json(path) | {"claims": claims})
    return path


def _training_seconds(tables: dict[str, pd.DataFrame]) -> float:
    """Return the seconds that all models took to train on one core or GPU, each model counted once."""
    parts = [
        table[["seed", "seconds"]] for table in tables.values() if {"seed", "seconds"} <= set(table.columns)
    ]
    return round(float(pd.concat(parts).drop_duplicates()["seconds"].sum()), 1) if parts else 0.0


def packed(table: pd.DataFrame) -> dict[str, Any]:
    """Return a table as columns, a column of one value stored once."""
    same = [name for name in table.columns if table[name].nunique(dropna=False) == 1]
    return {
        "rows": len(table),
        "constant": {name: table[name].tolist()[0] for name in same},
        "columns": table.drop(columns=same).to_dict(orient="list"),
        "order": list(table.columns),
    }


def unpacked(stored: dict[str, Any]) -> pd.DataFrame:
    """Return the table that `packed` stored."""
    frame = pd.DataFrame(stored["columns"], index=range(stored["rows"]))
    constant = {name: math.nan if value is None else value for name, value in stored["constant"].items()}
    return frame.assign(**constant)[stored["order"]]


def references(chapter: str) -> list[Reference]:
    """Return the committed runs of a chapter ("*": of all), one for each device and kind, damaged and stale ones
    marked.
    """
    return [_read(path, kind, stamp(path)) for kind in KINDS for path in paths(chapter, kind)]


def paths(chapter: str, *kinds: str) -> list[Path]:
    """Return the files of the committed runs of a chapter ("*": of all), of these kinds (of all, if none is named)."""
    return [
        path
        for kind in kinds or KINDS
        for path in sorted(folder().glob(str(_path(chapter, "*", kind).relative_to(folder()))))
        if path.parent.name != REPLICATIONS
    ]


def exploratory(chapter: str) -> list[Reference]:
    """Return the exploratory ones of `references`: what a chapter's figures draw."""
    return [run for run in references(chapter) if run.kind == "exploratory"]


def stamp(path: Path) -> tuple[int, ...]:
    """Return what changes when the file is written anew; nothing where it cannot be asked."""
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_mtime_ns, found.st_size, found.st_ino


@lru_cache(maxsize=32)
def _read(path: Path, kind: str, stamp: tuple[int, ...]) -> Reference:
    """Read a committed run; once, while the file's stamp is the same."""
    own = (path.stem, path.relative_to(folder()).parts[0])
    try:
        body = store.load_json(path)
        said = (body["chapter"], body["device"], body.get("kind", "exploratory"))
        if said != (*own, kind) or not all(isinstance(one, dict) for one in body["claims"]):
            raise store.DamagedFileError(f"{path} holds another run, or no claims.")
        found = Reference(
            *own,
            "current" if body["compute_version"] == store.COMPUTE_VERSION else "stale",
            dict(body["provenance"]),
            {name: unpacked(stored) for name, stored in body["tables"].items()},
            tuple(body["claims"]),
            {scale: dict(digests) for scale, digests in body.get("designs", {}).items()},
            kind,
        )
        str(found.label)  # what the page says of every run
        return found
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # unreadable, or of another kind
        return Reference(*own, "damaged", kind=kind)
