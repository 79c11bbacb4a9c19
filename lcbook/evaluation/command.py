"""The recall command: a sweep of a real model from its options to the report, with progress on the way."""

from __future__ import annotations

import argparse
import platform
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tqdm

from lcbook.evaluation.files import asked_before, read_requests
from lcbook.evaluation.report import write_report
from lcbook.evaluation.sweep import Design, Step, StoppedError, run_sweep
from lcbook.formats import short, tokens
from lcbook.llm.open import open_model
from lcbook.llm.protocol import LanguageModel
from lcbook.stats.clustered import effective_lengths, failure_counts, interval, length_of, summary
from lcbook.stats.effective import HALF
from lcbook.tasks.items import ITEMS

INTERRUPTED, INCOMPLETE = 130, 1
AGAIN = "The same command goes on from here and asks again only what has no answer."
LIMITS = ("concurrency", "timeout", "per_minute", "cache", "tokenizer")  # of an endpoint alone
UNITS = {"k": 1024, "m": 1024**2}
EVERY = 10.0  # seconds between two lines of progress where the output is no terminal


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add = parser.add_argument
    kinds = "hf:PATH (a folder or hub name), openai:MODEL@URL, or tiny, the small Llama of the book"
    add("--model", required=True, help=kinds)
    add("--tasks", type=task_names, default=("needle",), help=f"all, or some of {', '.join(ITEMS)}")
    add("--lengths", type=token_counts, default=(1024, 4096), help="tokens of prompt and reply, as 1k,4k,16k")
    add("--depths", type=depths, default=depths("11"), help="how many from 0 to 1, or a list as 0,0.5,1")
    add("--samples", type=int, default=20, help="items for each cell (20)")
    add("--haystack", default="prose", help="prose, noise, competing or files:PATH[,PATH]")
    add("--tokenizer", help="folder or tokenizer.json of the model behind an endpoint")
    add("--chat", choices=["auto", "always", "never"], default="auto", help="use the chat template (auto)")
    add("--reply-tokens", type=int, default=32, help="tokens that a reply may have (32)")
    add("--seed", type=int, default=0, help="which items and haystacks are drawn (0)")
    add("--concurrency", type=int, help="requests at a time to an endpoint")
    add("--timeout", type=float, help="seconds that an endpoint may take for a reply")
    add("--per-minute", type=float, help="requests a minute to an endpoint")
    add("--cache", type=Path, help="folder of an endpoint's replies, for other sweeps to take them from")
    add("--price", type=prices, help="USD per million prompt and reply tokens, as 0.5,1.5")
    add("--out", type=Path, default=Path("report"), help="folder of requests and report (report)")


# What the options mean: ArgumentTypeError has one sentence, which argparse prints with the option's name.


def task_names(text: str) -> tuple[str, ...]:
    """Return the tasks of "needle,multi_key" or "all"."""
    return tuple(ITEMS) if text == "all" else tuple(dict.fromkeys(text.split(",")))


def token_counts(text: str) -> tuple[int, ...]:
    """Return the lengths of "512,1k,4k" in rising order; 1k is 1024 tokens."""
    found = set()
    for part in text.lower().split(","):
        unit = UNITS.get(part[-1:], 1)
        number = part[:-1] if part[-1:] in UNITS else part
        try:
            count = float(number) * unit
        except ValueError:
            count = 0.0
        if not (1 <= count < 2**40 and count == int(count)):
            raise argparse.ArgumentTypeError(
                f"{part!r} is no number of tokens; allowed are such as 512 or 1k."
            )
        found.add(int(count))
    return tuple(sorted(found))


def depths(text: str) -> tuple[float, ...]:
    """Return the depths of "11", which is 0, 0.1, ... 1, of "1", which is 0.5, or of a list such as "0,0.5,1"."""
    try:
        if text.isdecimal() and int(text) > 0:
            return tuple(np.linspace(0, 1, int(text)).round(6).tolist()) if text != "1" else (0.5,)
        return tuple(sorted({float(part) for part in text.split(",")}))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no depth; allowed are such as 11 or 0,0.5,1."
        ) from None


def prices(text: str) -> tuple[float, float]:
    """Return the two prices of "0.5,1.5"."""
    try:
        read, written = map(float, text.split(","))
    except ValueError:
        read, written = -1.0, -1.0
    if not (0 <= read < float("inf") and 0 <= written < float("inf")):
        raise argparse.ArgumentTypeError(f"{text!r} is no price; allowed are two numbers of 0 or more.")
    return read, written


def recall(arguments: argparse.Namespace) -> int:
    """Ask the model, write the report, print what it says; return the exit status.

    0 if every request was answered, 1 if some were not, 130 after an interruption.
    """
    design = Design(
        arguments.tasks,
        arguments.lengths,
        arguments.depths,
        samples=arguments.samples,
        haystack=arguments.haystack,
        seed=arguments.seed,
        reply_tokens=arguments.reply_tokens,
    )
    limits = {name: getattr(arguments, name) for name in LIMITS}
    model = open_model(arguments.model, chat=arguments.chat, **limits)
    stopped = ""
    try:
        with _Progress() as progress:
            frame = run_sweep(model, design, arguments.out, progress=progress)
    except KeyboardInterrupt:
        print(f"\nInterrupted; all replies so far are in {arguments.out}. {AGAIN}", file=sys.stderr)
        return INTERRUPTED
    except StoppedError as error:
        stopped, frame = f"Stopped: {error}", read_requests(arguments.out)
    path = write_report(
        frame,
        arguments.out,
        title=f"Recall of {model.name}",
        about=about(model, design, arguments, frame),
        price=arguments.price,
    )
    print(told(frame))
    if stopped:
        print(stopped)
    print(failures(frame) or "No request failed.")
    print(f"Report: {path}")
    return INCOMPLETE if stopped or frame["error"].notna().any() else 0


# What is shown


class _Progress:
    """Shows each Step: one line that moves on a terminal, and elsewhere a line every ten seconds and at the end."""

    def __init__(self) -> None:
        self.bar: Any = None
        self.first: Step | None = None
        self.started = self.shown = 0.0

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_: Any) -> None:
        if self.bar is not None:
            self.bar.close()

    def __call__(self, step: Step) -> None:
        now = time.monotonic()
        if self.first is None:
            self.first, self.started, self.shown = step, now, now - EVERY
        if not sys.stderr.isatty():
            if now - self.shown >= EVERY or step.done == step.total:
                self.shown = now
                print(f"{step}{left(step, self.first, now - self.started)}", file=sys.stderr, flush=True)
            return
        if self.bar is None:
            self.bar = tqdm.tqdm(total=step.total, initial=step.done - 1, unit="request", dynamic_ncols=True)
        self.bar.set_postfix_str(f"{step.task} {tokens(step.length)}, {step.failed} failed", refresh=False)
        self.bar.update(step.done - self.bar.n)


def left(step: Step, first: Step, seconds: float) -> str:
    """Return how long the rest takes at the pace of the `seconds` since `first`, or "" where that tells nothing."""
    if first.done == step.done or step.done == step.total:
        return ""
    wait = seconds / (step.done - first.done) * (step.total - step.done)
    return f", {wait / 60:.0f} minutes left" if wait >= 90 else f", {wait:.0f} seconds left"


def about(
    model: LanguageModel, design: Design, arguments: argparse.Namespace, frame: pd.DataFrame
) -> dict[str, str]:
    """Return what was asked, of what, and with which versions: the first table of the report."""
    started = str(asked_before(arguments.out).get("started", "unknown"))
    return {
        "Model": model.name,
        "Window": "not told" if model.window is None else f"{model.window} tokens",
        "Started": started,
        "Tasks": ", ".join(design.tasks),
        "Lengths": ", ".join(map(str, design.lengths)) + " tokens of prompt and reply",
        "Depths": ", ".join(map(short, design.depths)),
        "Samples": f"{design.samples} for each task, length and depth",
        "Haystack": design.haystack,
        "Reply": f"at most {design.reply_tokens} tokens, greedy",
        "Chat template": arguments.chat,
        "Seed": str(design.seed),
        "Item sizes": ", ".join(f"{name} {value}" for name, value in vars(design.sizes).items()),
        "Tokenizer": counted(model, frame),
        "Versions": versions(),
    }


def counted(model: LanguageModel, frame: pd.DataFrame) -> str:
    """Return how the tokens counted before a request compare with those that the model counted."""
    added = f"special tokens and chat template add {model.overhead()} tokens to a prompt"
    both = frame[frame["error"].isna() & (frame["prompt_tokens"] > 0)]
    if both.empty:
        return added
    off = (both["prompt_tokens"] - both["tokens"]).astype(int)
    if not off.any():
        return f"{added}; the model counted each of {len(both)} prompts as its tokenizer did"
    return f"{added}; the model counted {off.min():+d} to {off.max():+d} tokens beside those of its tokenizer"


def versions() -> str:
    """Return the versions of Python and of the packages that the numbers may depend on."""
    found = [f"Python {platform.python_version()}"]
    for name in ("lcbook", "torch", "transformers", "tokenizers", "httpx"):
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    return ", ".join(found)


def told(frame: pd.DataFrame) -> str:
    """Return the table that is printed: recall and n50 by task."""
    found = summary(frame)
    rows = []
    for task, part in found.groupby("task", sort=False):
        cells = {tokens(row["length"]): interval(row) for row in part.to_dict(orient="records")}
        rows.append({"task": task, **cells, "n50": length_of(effective_lengths(part).get(HALF))})
    return pd.DataFrame(rows).fillna("not asked").to_string(index=False)


def failures(frame: pd.DataFrame) -> str:
    """Return how many requests failed and why, and what asks them again; "" if none did."""
    counts = failure_counts(frame)
    if not counts:
        return ""
    failed = sum(count for _, count in counts)
    lines = [f"{failed} of {len(frame)} requests failed and are in no average:"]
    lines += [f"  {count} x {why}" for why, count in counts[:8]]
    if len(counts) > 8:
        lines.append(f"  {sum(count for _, count in counts[8:])} others, which the report lists")
    return "\n".join([*lines, AGAIN])
