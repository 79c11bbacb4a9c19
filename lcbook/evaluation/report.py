"""The report of a sweep: one HTML file that asks no other host for anything, with every number and its interval."""

from __future__ import annotations

import io
import math
import re
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import pandas as pd
from jinja2 import Environment, FileSystemLoader
from markupsafe import escape
from matplotlib.axes import Axes

from lcbook.formats import Number, percent, short, tokens
from lcbook.plots import GREY, SMALL
from lcbook.plots.evaluation import MEANING, recall_grid, rules_on_curve
from lcbook.stats.clustered import (
    clustered_recall,
    effective_lengths,
    failure_counts,
    interval,
    length_of,
    summary,
)
from lcbook.stats.effective import HALF, RULES
from lcbook.stats.estimate import require_columns
from lcbook.store import write_bytes

NEEDED = (
    "task", "length", "depth", "sample", "correct", "total", "chance", "answers", "reply", "prompt_tokens",
    "completion_tokens", "computed", "seconds", "error",
)  # fmt: skip
PAGES = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True)


def write_report(
    frame: pd.DataFrame,
    out: Path,
    *,
    title: str,
    about: Mapping[str, Any],
    price: tuple[Number, Number] | None = None,
) -> Path:
    """Write out/index.html about the requests in `frame` (as `sweep.read_requests` gives them), and return its path.

    `about` says what was asked, a row of a table each; `price` is in USD per million tokens of prompts and of replies.
    The page has no script and loads nothing. Raises ValueError for missing columns or no rows.
    """
    require_columns(frame, NEEDED)
    found = summary(frame)
    page = PAGES.get_template("report.html").render(
        title=title,
        sentence=_sentence(frame),
        about=list(about.items()),
        by_task=_by_task(found),
        tasks=[_task(frame, found, task) for task in dict.fromkeys(frame["task"])],
        failures=[(count, why) for why, count in failure_counts(frame)],
        cost=_cost(frame, price),
    )
    path = out / "index.html"
    write_bytes(path, page.encode("utf8", "replace"))
    return path


# Parts of the page


def _words(task: str) -> str:
    return task.replace("_", " ")


def _sentence(frame: pd.DataFrame) -> str:
    failed = int(frame["error"].notna().sum())
    empty = int((frame["error"].isna() & (frame["reply"].str.strip() == "")).sum())
    text = f"{len(frame) - failed} requests were answered"
    text += f", {empty} of them by an empty reply" if empty else ""
    return text + (f"; {failed} failed and stand in no average." if failed else "; none failed.")


def _by_task(found: pd.DataFrame) -> list[Sequence[Any]]:
    """Return the table of tasks, its head first."""
    lengths = sorted(found["length"].unique())
    rows: list[Sequence[Any]] = [
        ["Task", "Chance", *(f"{tokens(length)} tokens" for length in lengths), "n50 (tokens)"]
    ]
    for task, part in found.groupby("task", sort=False):
        cells = {row["length"]: interval(row) for row in part.to_dict(orient="records")}
        chance = part["chance"].mean()
        told = "unknown" if math.isnan(chance) else percent(chance)
        n50 = length_of(effective_lengths(part).get(HALF))
        rows.append([_words(str(task)), told, *(cells.get(length, "not asked") for length in lengths), n50])
    return rows


def _task(frame: pd.DataFrame, found: pd.DataFrame, task: str) -> dict[str, Any]:
    """Return what the section of a task shows: figures, effective lengths, every cell, the first wrong replies."""
    part = frame[frame["task"] == task]
    if not part["total"].sum():
        return {"name": _words(task), "figures": []}
    cells = _cells(part)
    caption = "Recall by length and depth of the needle; below each percent its 95 % interval."
    if not cells["total"].all():
        caption += " none: no request was answered there."
    figures = [(_svg(_grid(cells, task)), caption)]
    told = found[found["task"] == task]
    rules = effective_lengths(told)
    if rules:
        curve = rules_on_curve(told[told["total"] > 0].assign(seed=0))
        caption = "Recall by length, all depths together, and the effective length by each rule, with 95 % intervals."
        figures.append((_svg(curve), caption))
    wrong = part[(part["total"] > 0) & (part["correct"] < part["total"])]
    return {
        "name": _words(task),
        "figures": figures,
        "rules": [(MEANING[rule], length_of(rules[rule])) for rule in RULES] if rules else [],
        "cells": [
            (tokens(row["length"]), percent(row["depth"]), interval(row), row["requests"], row["failed"])
            for row in cells.to_dict(orient="records")
        ],
        "lacking": len(wrong),
        "wrong": [
            (tokens(length), percent(depth), ", ".join(answers), _cut(reply) or "(empty)")
            for length, depth, answers, reply in wrong[["length", "depth", "answers", "reply"]]
            .head(5)
            .to_numpy()
        ],
    }


def _cells(part: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each length and depth of one task, also where nothing was asked, with how many failed."""
    found = clustered_recall(part, ["length", "depth"]).set_index(["length", "depth"])
    failed = part["error"].notna().groupby([part["length"], part["depth"]]).sum().rename("failed")
    grid = pd.MultiIndex.from_product(
        [sorted(part["length"].unique()), sorted(part["depth"].unique())], names=["length", "depth"]
    )
    table = found.join(failed).reindex(grid)
    counts = ["correct", "total", "requests", "failed"]
    table[counts] = table[counts].fillna(0)
    return table.astype({"requests": int, "failed": int}).reset_index()


def _grid(cells: pd.DataFrame, task: str) -> Axes:
    """Draw the heat map of one task; a cell without an answer says so."""
    ax = recall_grid(cells, title=f"{_words(task)}: recall, 95 % interval")
    columns, rows = sorted(cells["length"].unique()), sorted(cells["depth"].unique())
    for row in cells[cells["total"] == 0].to_dict(orient="records"):
        at = columns.index(row["length"]) + 0.5, rows.index(row["depth"]) + 0.5
        ax.text(*at, "none", ha="center", va="center", color=GREY, fontsize=SMALL)
    return ax


def _svg(ax: Axes) -> str:
    """Return the figure of `ax` as inline SVG under its alt text, and close it."""
    figure, alt, file = ax.get_figure(root=True), str(ax.get_label()), io.StringIO()
    assert figure is not None  # an axes that was drawn on belongs to a figure
    with mpl.rc_context({"svg.hashsalt": alt, "svg.fonttype": "path"}):
        figure.savefig(file, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    plt.close(figure)
    text = re.sub(r"<!--.*?-->", "", file.getvalue()[file.getvalue().index("<svg") :], flags=re.DOTALL)
    # The ids of one figure are not those of another on the same page.
    own = f"f{zlib.crc32(alt.encode()):x}-"
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{own}", text)
    return text.replace("<svg ", f'<svg role="img" aria-label="{escape(alt)}" ', 1)


def _cut(text: str, most: int = 160) -> str:
    text = " ".join(text.split())
    return text if len(text) <= most else f"{text[:most]}…"


def _cost(frame: pd.DataFrame, price: tuple[Number, Number] | None) -> list[tuple[str, str]]:
    sums = frame[["prompt_tokens", "completion_tokens", "computed", "seconds"]].sum()
    read, written, computed = (int(sums[name]) for name in ("prompt_tokens", "completion_tokens", "computed"))
    rows = [
        ("Requests", f"{len(frame)}"),
        ("Prompt tokens", _grouped(read)),
        ("Prompt tokens computed anew", f"{_grouped(computed)} (the others were reused)"),
        ("Reply tokens", _grouped(written)),
        (
            "Seconds",
            f"{sums['seconds']:.1f}, added over requests, some of which may have run at the same time",
        ),
    ]
    if price is not None:
        cost = (price[0] * read + price[1] * written) / 1e6
        told = f"{short(price[0])} USD a million prompt tokens, {short(price[1])} USD a million reply tokens"
        rows.append(("Cost", f"{cost:.4g} USD at {told}; attempts that failed are not in it"))
    return rows


def _grouped(count: int) -> str:
    return f"{count:,}".replace(",", "\u202f")
