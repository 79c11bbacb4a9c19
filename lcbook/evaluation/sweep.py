"""A sweep: a model is asked every task at every length and depth, and each reply is kept in a file as it arrives."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import pandas as pd

from lcbook import runtime
from lcbook.evaluation.files import (
    PLACE,
    REQUESTS,
    Place,
    cut_torn_line,
    lines,
    locked,
    place,
    read_requests,
    take_over,
)
from lcbook.evaluation.prompts import Prompt, build
from lcbook.evaluation.scorers import SCORERS
from lcbook.formats import at_least
from lcbook.llm.protocol import LanguageModel, Reply
from lcbook.store import canonical
from lcbook.tasks.haystacks import Competing, Haystack, open_haystack
from lcbook.tasks.items import ITEMS, Sizes, draw

BATCH, MOST = 2**22, 256  # tokens and prompts that are built before they are asked
PATIENCE = 20  # requests that may fail in a row


class StoppedError(ValueError):
    """A sweep that gave up since every request failed; what came before is kept."""


@dataclass(frozen=True)
class Design:
    """What is asked: `samples` items of each of `tasks`, at every length (tokens of prompt and reply) and depth.

    `haystack` is noise, prose, competing or files:PATH[,PATH]. The same sample has the same facts and haystack at every
    depth, and the same facts at every length. Raises ValueError for an unknown name or a number out of range.
    """

    tasks: tuple[str, ...]
    lengths: tuple[int, ...]
    depths: tuple[float | int, ...]
    samples: int = 20
    haystack: str = "prose"
    seed: int = 0
    reply_tokens: int = 32
    sizes: Sizes = Sizes()

    def __post_init__(self) -> None:
        for name in ("tasks", "lengths", "depths"):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise ValueError(f"{name} is {values}; allowed is one or more, each once.")
        for task in self.tasks:
            if task not in ITEMS:
                raise ValueError(f"tasks has {task!r}; allowed are {', '.join(ITEMS)}.")
        for depth in self.depths:
            if not 0 <= depth <= 1:
                raise ValueError(f"depths has {depth}; allowed is 0 (the start) to 1 (the end).")
        at_least(1, lengths=min(self.lengths), samples=self.samples, reply_tokens=self.reply_tokens)
        at_least(0, seed=self.seed)
        open_haystack(self.haystack)

    def places(self) -> list[Place]:
        """Return every request, short ones first, and the depths of one sample after each other from 0 to 1."""
        return [
            (task, length, depth, sample)
            for length in sorted(self.lengths)
            for task in self.tasks
            for sample in runtime.seeds(self.samples)
            for depth in sorted(self.depths)
        ]


def _asked(model: LanguageModel, design: Design, around: Haystack) -> dict[str, Any]:
    """Return what makes one sweep another: the model, the design, the tokenizer and the haystack's text."""
    sample = "The code for amber is 472. Überlänge, 東京! \t 3.14\n"
    return {
        "model": model.name,
        **canonical(design),
        "tokenizer": _digest(str((model.encode(sample).ids, model.overhead()))),
        "text": "" if isinstance(around, Competing) else _digest(around.text(0, 10_000)),
    }


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def prompt(model: LanguageModel, design: Design, at: Place, around: Haystack) -> Prompt:
    """Build the prompt of a place in the haystack given. Raises ValueError where the facts do not fit its length."""
    task, length, depth, sample = at
    seed = design.seed * 1_000_003 + sample
    # A word is a token or more, and a distractor four words or more: so many fill any prompt of this length.
    item = draw(task, seed, design.sizes, length // 4 + 1 if design.haystack == "competing" else 0)
    return build(
        item, around, model=model, length=length, depth=depth, reply_tokens=design.reply_tokens, seed=seed
    )


@dataclass(frozen=True)
class Step:
    """How far a sweep is: requests `done` of `total`, those of them that `failed`, and the place of the last."""

    done: int
    total: int
    failed: int
    task: str
    length: int

    def __str__(self) -> str:
        failed = f", {self.failed} failed" if self.failed else ""
        return f"{self.done} of {self.total} requests{failed}; {self.task} at {self.length} tokens"


def run_sweep(
    model: LanguageModel, design: Design, out: Path, *, progress: Callable[[Step], Any] = print
) -> pd.DataFrame:
    """Ask all of `design` that folder `out` does not hold yet, and return `read_requests(out)`.

    Every reply is written when it arrives, so that a run that was interrupted or failed goes on where it stopped.
    Requests that failed are asked again. `progress` is called with a Step after every reply. Raises ValueError if `out`
    holds another sweep or one that is being written, if the shortest length exceeds the model's window or cannot hold
    the facts, and StoppedError after 20 failures in a row.
    """
    around, shortest = open_haystack(design.haystack), min(design.lengths)
    for task in design.tasks:
        prompt(model, design, (task, shortest, 0.0, 0), around)
    if model.window is not None and shortest > model.window:
        raise ValueError(
            f"lengths is {design.lengths}; allowed is up to the model's window of {model.window} tokens."
        )
    out.mkdir(parents=True, exist_ok=True)
    with locked(out / REQUESTS) as file:
        take_over(out, _asked(model, design, around))
        cut_torn_line(file)
        answered = {place(row) for row in lines(out / REQUESTS) if row["error"] is None}
        missing = [one for one in design.places() if one not in answered]
        keep = _Keeper(file, progress, len(design.places()) - len(missing), len(design.places()))
        for batch in _batches(missing):
            _ask(model, design, batch, around, keep)
    return read_requests(out)


def sweep_arms(model: LanguageModel, designs: Mapping[str, Design], out: Path) -> pd.DataFrame:
    """Sweep each of `designs`, in a folder of its name in `out`, and return their rows as a table: a design an arm.

    Without the columns answers and seconds; nothing is printed. Raises as `run_sweep`.
    """
    found = {
        name: run_sweep(model, one, out / name, progress=lambda step: None) for name, one in designs.items()
    }
    parts = [
        rows.drop(columns=["answers", "seconds"]).assign(arm=name, probe="") for name, rows in found.items()
    ]
    return pd.concat(parts)


@dataclass
class _Keeper:
    """Writes a line for each reply, counts them, and gives up after too many failures in a row."""

    file: BinaryIO
    progress: Callable[[Step], Any]
    done: int
    total: int
    failed: int = 0
    in_a_row: int = 0

    def keep(self, at: Place, prompt: Prompt | None, reply: Reply, *, sent: bool = True) -> None:
        """Write the line of a request; one that was not `sent` does not count as a failure in a row."""
        right, asked = (None, None)
        if prompt and reply.error is None:
            right, asked = SCORERS[prompt.scorer](reply.text, prompt.answers)
        row = {
            **dict(zip(PLACE, at, strict=True)),
            "tokens": prompt and prompt.tokens,
            "needle": prompt and prompt.needle,
            "answers": prompt and list(prompt.answers),
            "reply": reply.text,
            "right": right,
            "asked": asked,
            "chance": prompt and prompt.chance,
            **{name: value for name, value in asdict(reply).items() if name not in ("text", "error")},
            "error": reply.error,
        }
        self.file.write(json.dumps(row, ensure_ascii=False).encode("utf8", "backslashreplace") + b"\n")
        self.file.flush()
        bad = reply.error is not None
        self.done, self.failed = self.done + 1, self.failed + bad
        self.in_a_row = self.in_a_row if not sent else self.in_a_row + 1 if bad else 0
        self.progress(Step(self.done, self.total, self.failed, at[0], at[1]))
        if self.in_a_row >= PATIENCE:
            raise StoppedError(f"{PATIENCE} requests in a row failed, the last one so: {reply.error}")


def _batches(places: Sequence[Place]) -> Iterator[list[Place]]:
    """Cut `places` into runs whose prompts fit into memory, never between the depths of one sample."""
    batch: list[Place] = []
    for (_, length, _), group in itertools.groupby(places, key=lambda at: (at[0], at[1], at[3])):
        if len(batch) >= MOST or len(batch) * length >= BATCH:
            yield batch
            batch = []
        batch.extend(group)
    if batch:
        yield batch


def _ask(
    model: LanguageModel, design: Design, places: Sequence[Place], around: Haystack, keeper: _Keeper
) -> None:
    """Build the prompts of `places`, ask them, and keep what comes back; what cannot be asked is kept as failed."""
    asked: list[tuple[Place, Prompt]] = []
    for at in places:
        if model.window is not None and at[1] > model.window:
            error = f"The length is {at[1]} tokens; the model's window is {model.window}."
            keeper.keep(at, None, Reply("", error=error), sent=False)
            continue
        try:
            asked.append((at, prompt(model, design, at, around)))
        except ValueError as error:
            keeper.keep(at, None, Reply("", error=str(error)), sent=False)
    if not asked:
        return
    silent = set(range(len(asked)))
    replies = model.generate([built.text for _, built in asked], max_tokens=design.reply_tokens)
    try:
        for index, reply in replies:
            silent.discard(index)
            keeper.keep(*asked[index], reply)
    finally:  # an interruption ends the requests that are under way
        if hasattr(replies, "close"):
            replies.close()
    for index in sorted(silent):
        keeper.keep(*asked[index], Reply("", error="The model gave no reply."))
