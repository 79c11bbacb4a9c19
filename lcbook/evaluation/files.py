"""The files of a sweep: what was asked, and a line for each request, appended as its reply arrives.

out/sweep.json       the model, the design, the tokenizer, the start
out/requests.jsonl   a line for each request; a failed one stays, and a later line for the same place replaces it
"""

from __future__ import annotations

import datetime
import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import pandas as pd
from filelock import FileLock, Timeout

from lcbook.store import write_bytes

REQUESTS, ASKED = "requests.jsonl", "sweep.json"
PLACE = ("task", "length", "depth", "sample")
ORDER = ("length", "task", "sample", "depth")
COLUMNS = (
    *PLACE, "seed", "correct", "total", "chance", "tokens", "needle", "answers", "reply", "prompt_tokens",
    "completion_tokens", "computed", "seconds", "error",
)  # fmt: skip

Place = tuple[str, int, float | int, int]


def place(row: dict[str, Any]) -> Place:
    """Return the place of a line of the file."""
    return row["task"], row["length"], row["depth"], row["sample"]


@contextmanager
def locked(path: Path) -> Iterator[BinaryIO]:
    """Open a file to append to that no other process has open so. Raises ValueError if one has.

    Where the disk has no locks a warning says so and the file is opened all the same.
    """
    lock = FileLock(path.with_name(path.name + ".lock"), timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise ValueError(f"{path} is being written by another process; allowed is one at a time.") from error
    except (NotImplementedError, OSError) as error:  # a disk without locks
        warnings.warn(f"{path} cannot be locked ({error}): let no other process write it.", stacklevel=3)
    try:
        with path.open("ab") as file:
            yield file
    finally:
        lock.release()


def take_over(out: Path, now: dict[str, Any]) -> None:
    """Write what is asked now, or compare it with what stands in `out`. Raises ValueError if that is another sweep."""
    path = out / ASKED
    if not path.exists():
        if (out / REQUESTS).stat().st_size:
            raise ValueError(
                f"{out} holds {REQUESTS} but no {ASKED} to say of what; allowed is another folder."
            )
        started = {"started": datetime.datetime.now().astimezone().isoformat(timespec="seconds")}
        write_bytes(path, json.dumps(now | started, indent=1, ensure_ascii=False).encode() + b"\n")
        return
    old = asked_before(out)
    for name, value in now.items():
        if old.get(name) != value:
            raise ValueError(
                f"{out} holds a sweep with {name} {old.get(name)}, not {value}; allowed is the same, or another folder."
            )


def asked_before(out: Path) -> dict[str, Any]:
    """Return what `out` says of its sweep: model, design, tokenizer, start. Raises ValueError if it is damaged."""
    try:
        return dict(json.loads((out / ASKED).read_text(encoding="utf8")))
    except (ValueError, TypeError, OSError) as error:
        raise ValueError(
            f"{out / ASKED} is damaged or missing; allowed is the file as it was written."
        ) from error


def lines(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a file without the last one if it is torn. Raises ValueError for any other damage."""
    rows = []
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], 1):
        try:
            row = json.loads(line)
            place(row), row["error"]
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(
                f"{path} is damaged in line {number}; without that line, it is asked again."
            ) from error
        rows.append(row)
    return rows


def cut_torn_line(file: BinaryIO) -> None:
    """Cut what stands after the last end of a line: a line that was being written when the process ended."""
    data = Path(file.name).read_bytes()
    file.truncate(data.rfind(b"\n") + 1)


def read_requests(out: Path) -> pd.DataFrame:
    """Return the last reply to each request in `out`, a row each, in the order in which the design asks them.

    `correct` of `total` answers were found in the reply, and both are 0 where the request failed: `error` then says
    why. `seed` is the sample: the unit of evidence. A torn last line is left out. Raises ValueError if there is no
    sweep, or for a damaged line.
    """
    path = out / REQUESTS
    if not path.exists():
        raise ValueError(f"{out} holds no {REQUESTS}; allowed is the folder of a sweep.")
    last = {place(row): row for row in lines(path)}
    rows = [
        row | {"seed": row["sample"], "correct": row["right"] or 0, "total": row["asked"] or 0}
        for row in last.values()
    ]
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    order = {task: number for number, task in enumerate(asked_before(out)["tasks"])}
    by = frame.assign(task=frame["task"].map(order)).sort_values(list(ORDER), kind="stable").index
    return frame.loc[by].reset_index(drop=True)
