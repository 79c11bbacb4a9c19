"""The explorers of evaluation: how many samples a claim needs, and a heat map that loses samples before your eyes."""

from __future__ import annotations

import math
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy import stats as distributions

from lcbook.explorers.controls import Choice, Control, Slider
from lcbook.explorers.fragment import BLUE, ORANGE, Explorer, live, script
from lcbook.formats import tokens
from lcbook.stats.effective import RULER, last_success, lower_bound, more_samples
from lcbook.stats.estimate import require_columns, require_counts, wilson

LEVELS = ("50 %", "80 %", "90 %", "95 %", "99 %", "99.9 %")
Z2 = float(distributions.norm.ppf(0.975) ** 2)
DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"  # right answers of one item
HEAVY = 150_000  # bytes of items in one page
COLUMNS = ("task", "haystack", "length", "depth", "seed", "correct", "total", "chance")


# ---- how many samples


def samples_explorer(samples: int = 20, wrong: int = 0, level: str = "90 %") -> Explorer:
    """What `samples` answers, `wrong` of them wrong, say about the recall, and how many more a claim of `level` needs.

    Raises ValueError for a start that the controls do not have: 1 to 500 samples, 0 to 20 wrong, a level of LEVELS.
    """
    controls: dict[str, Control] = {
        "samples": Slider(1, 500, 1, samples, "Samples"),
        "wrong": Slider(0, 20, 1, wrong, "Wrong answers"),
        "level": Choice(LEVELS, level, "Recall to be claimed"),
    }
    right, claim = max(0, samples - wrong), float(level.split()[0]) / 100
    low, high = wilson(right, samples)
    bound, needed = lower_bound(right, samples), more_samples(right, samples, claim)
    return live(
        script("samples.js", fixed={"z2": Z2, "alpha": 0.05}),
        controls,
        alt=f"The recall that {right} right answers of {samples} allow: {100 * low:.1f} to {100 * high:.1f} % by "
        f"Wilson's 95 % interval, at least {100 * bound:.1f} % by the exact one-sided bound. "
        + (
            f"To claim {level} it takes {needed} more, all right."
            if needed
            else f"That supports a claim of {level}."
        ),
        fallback=_samples_picture(samples, samples - right, claim),
        height=290,
        panels=2,
        caption="Left: the score if all further samples are right, Wilson's 95 % interval (band) and the exact "
        "one-sided 95 % bound (dashed). Right: how many answers a model of exactly the claimed recall gets wrong; "
        "blue, no more than were wrong here. The bound reaches the claim where these are 5 % of all runs.",
    )


def _samples_picture(samples: int, wrong: int, claim: float) -> Figure:
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.2, 3.2), layout="constrained")
    n = np.unique(np.round(np.geomspace(max(1, wrong), 1000, 121)))
    low, high = wilson(n - wrong, n)
    left.fill_between(n, 100 * low, 100 * high, color=BLUE, alpha=0.25, lw=0)
    left.plot(n, 100 * (n - wrong) / n, color=BLUE, label="score")
    left.plot(n, [100 * lower_bound(m - wrong, m) for m in n], "--", color=ORANGE, label="exact bound")
    left.axhline(100 * claim, color="#555", ls=":", lw=1)
    left.axvline(samples, color="#555", ls=":", lw=1)
    left.set(title=f"With {wrong} wrong" if wrong else "With all right", ylim=(0, 104), ylabel="recall (%)")
    left.set(xscale="log", xlabel="samples")
    left.legend(frameon=False, fontsize=9, loc="lower right")
    mean = samples * (1 - claim)
    most = min(samples, max(wrong + 1, math.ceil(mean + 4 * math.sqrt(mean * claim) + 2)))
    js = np.arange(most + 1)
    tones = [BLUE if j <= wrong else "#bbbbbb" for j in js]
    right.bar(js, 100 * distributions.binom.pmf(js, samples, 1 - claim), color=tones)
    right.set_title(f"If the recall were {100 * claim:g} %")
    right.set(xlabel="wrong answers", ylabel=f"runs of {samples} (%)")
    return figure


# ---- a heat map, sample by sample


def heat_map_explorer(
    frame: pd.DataFrame, *, samples: int = 0, task: str = "", haystack: str = ""
) -> Explorer:
    """Recall of one model by length and depth, from the first few items of each cell, by task and haystack.

    `frame` has a row for each item that was asked: task, haystack (its name), length (tokens), depth (0 to 1), seed
    (the items of a cell are taken in its order), correct, total (answers asked, one number a task, at most 35) and
    chance. The start is `samples` items (all by default) of `task` (the first) in `haystack` (the first by name).
    Intervals are Wilson's. Raises ValueError for missing columns, empty values, no rows, an item asked twice, a missing
    cell, a total that varies in a task, cells of a single item, more than 150 KB of items, or a start not there.
    """
    require_columns(frame, COLUMNS)
    _require_items(frame)
    tasks, haystacks = frame["task"].unique().tolist(), sorted(frame["haystack"].unique().tolist())
    lengths, depths = (sorted(frame[name].unique().tolist()) for name in ("length", "depth"))
    cells = _digits(frame, pd.MultiIndex.from_product([tasks, haystacks, depths, lengths]))
    most = int(cells.str.len().max())
    samples, task, haystack = samples or most, task or tasks[0], haystack or str(haystacks[0])
    data = {
        name: {str(one): [[cells[name, one, d, n] for n in lengths] for d in depths] for one in haystacks}
        for name in tasks
    }
    by_task = frame.groupby("task").agg({"total": "first", "chance": "mean"})
    fixed = {
        "lengths": lengths, "names": [tokens(n) for n in lengths], "depths": [round(100 * d, 1) for d in depths],
        "z2": Z2, "level": RULER, "task": task, "haystack": haystack,
        "asked": {name: int(by_task["total"][name]) for name in tasks},
        "chance": {name: round(float(by_task["chance"][name]), 4) for name in tasks},
    }  # fmt: skip
    controls: dict[str, Control] = {}
    if len(tasks) > 1:
        controls["task"] = Choice(tuple(tasks), task, "Task")
    if len(haystacks) > 1:
        controls["haystack"] = Choice(tuple(map(str, haystacks)), haystack, "Haystack")
    controls["samples"] = Slider(1, most, 1, samples, "Items a cell")
    shown = frame[(frame["task"] == task) & (frame["haystack"].astype(str) == haystack)]
    shown = shown[shown.groupby(["depth", "length"])["seed"].rank(method="first") <= samples]
    return live(
        script("grid.js", data=data, fixed=fixed),
        controls,
        alt=f"Recall of one model by length and depth of {task} in {haystack}, {samples} items a cell: {_told(shown)}",
        fallback=_grid_picture(shown, lengths, depths, float(by_task["chance"][task])),
        height=310,
        panels=2,
        caption="Computed beforehand. Left: recall in percent of the full tone, by length and by where in the context "
        "the needle stands. Right: over all depths, with Wilson's 95 % interval, as if answers were independent; "
        f"dashed are chance and {100 * RULER:.1f} %.",
    )


def _digits(frame: pd.DataFrame, every: pd.MultiIndex) -> pd.Series:
    """Return for each cell of `every` a digit an item, in the order of seeds: how many of its answers are right."""
    by = frame.sort_values("seed").groupby(["task", "haystack", "depth", "length"])["correct"]
    cells = by.agg(lambda right: "".join(DIGITS[int(k)] for k in right))
    for task, haystack, depth, length in every.difference(cells.index, sort=False)[:1]:
        raise ValueError(
            f"frame lacks {task!r} in {haystack} at depth {depth} and length {length}; allowed is every combination."
        )
    most, size = int(cells.str.len().max()), int(cells.str.len().sum())
    if most < 2 or size > HEAVY:
        given = f"{most} items a cell" if most < 2 else f"{size} items"
        raise ValueError(f"frame has {given}; allowed are 2 items a cell or more, and {HEAVY} in all.")
    return cells


def _told(shown: pd.DataFrame) -> str:
    """Return recall over all cells, and up to which length it stays above RULER's threshold."""
    right, total = shown["correct"].sum(), shown["total"].sum()
    low, high = wilson(right, total)
    curve = shown.groupby("length")[["correct", "total"]].sum()
    reach = last_success(curve.index.tolist(), curve["correct"] / curve["total"])
    level = f"{100 * RULER:.1f} %"
    kept = f"It keeps {level} up to {tokens(reach)} tokens." if reach else f"No length has {level}."
    return f"{100 * right / total:.0f} % over all cells ({100 * low:.0f} to {100 * high:.0f} %). {kept}"


def _require_items(frame: pd.DataFrame) -> None:
    """Raise ValueError unless each row is one item with a small whole number of answers, the same in each task."""
    if frame[list(COLUMNS)].isna().any(axis=None):
        raise ValueError("frame has empty values; allowed are rows with a value in each column.")
    if frame.duplicated(["task", "haystack", "length", "depth", "seed"]).any():
        raise ValueError("frame has several rows of one item in a cell; allowed is one row for each seed.")
    correct, total = require_counts(frame["correct"], frame["total"])
    if (correct != correct.round()).any() or not ((total >= 1) & (total < len(DIGITS))).all():
        raise ValueError(
            f"total is {total.min():g} to {total.max():g}; allowed are 1 to 35 answers an item, in whole numbers."
        )
    varied = frame.groupby("task")["total"].nunique()
    if (varied > 1).any():
        raise ValueError(
            f"total varies in task {varied.idxmax()!r}; allowed is one number of answers for each task."
        )


def _grid_picture(frame: pd.DataFrame, lengths: list[Any], depths: list[Any], chance: float) -> Figure:
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.2, 3.3), layout="constrained")
    cells = frame.groupby(["depth", "length"])[["correct", "total"]].sum()
    shares = (cells["correct"] / cells["total"]).unstack("length").reindex(index=depths, columns=lengths)
    curve, at = frame.groupby("length")[["correct", "total"]].sum(), np.arange(len(lengths))
    low, high = wilson(curve["correct"], curve["total"])
    left.imshow(100 * shares.to_numpy(), cmap="Blues", vmin=0, vmax=100, aspect="auto", interpolation="none")
    left.set_yticks(range(len(depths)), [f"{100 * d:.0f}" for d in depths])
    left.set(title="Recall a cell", ylabel="depth of the needle (%)")
    right.plot(at, 100 * curve["correct"] / curve["total"], "o-", ms=4, color=BLUE)
    right.fill_between(at, 100 * low, 100 * high, color=BLUE, alpha=0.25, lw=0)
    for level in (chance, RULER):
        right.axhline(100 * level, color="#555", ls=":", lw=1)
    right.set(title="All depths", ylabel="recall (%)", ylim=(0, 104))
    for ax in (left, right):
        ax.set_xticks(at[:: -(-len(lengths) // 6)], [tokens(n) for n in lengths][:: -(-len(lengths) // 6)])
        ax.set_xlabel("length (tokens)")
    return figure
