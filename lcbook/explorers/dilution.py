"""The explorers of dilution: a needle's weight among ever more keys, and a model's recall map under each remedy."""

from __future__ import annotations

import math
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy import special

from lcbook import stats
from lcbook.explorers.controls import Choice, Control, Slider
from lcbook.explorers.fragment import BLUE, ORANGE, Explorer, live, script
from lcbook.formats import tokens
from lcbook.stats.estimate import pooled_chance, require_columns

COMPARED = (
    "softmax", "log-n softmax", "off-by-one softmax", "sparsemax", "entmax 1.5", "top-16", "sigmoid",
)  # fmt: skip
TRAINED = 256  # keys at which log-n softmax equals softmax
KEPT = 16  # keys of top-16, the needle among them
HIGH = 0.9  # the weight that the second panel holds
MOST = 2**30  # keys
LOWEST, STEP, CELLS = -4.0, 0.05, 210  # the grid of standard normal scores, up to 6.45
LAST = math.exp(-np.euler_gamma)  # 0.56 keys are expected above the mean of the largest score (Gumbel)
BASELINE = "as trained"
COLUMNS = ("remedy", "length", "depth", "seed", "correct", "total", "chance")


# ---- a needle among n keys


def _tails() -> np.ndarray:
    """Return the share of standard normal scores above each edge of the grid; all lie above the first."""
    tails = special.ndtr(-(LOWEST + STEP * np.arange(CELLS)))
    tails[0] = 1.0
    return np.array([float(f"{x:.9g}") for x in tails])


TAILS = _tails()


def distractors(n: float | int) -> tuple[np.ndarray, np.ndarray]:
    """Return the scores, ascending, that n - 1 standard normal draws typically have, and how many have each.

    Between two edges of a grid lie as many as are expected. Where 0.56 are expected above, the mean of the largest
    score, those 0.56 stand. So sums over the keys have the size that they mostly have, not the mean that rare draws
    carry. Raises ValueError unless 2 <= n <= 2^30 keys.
    """
    if not 2 <= n <= MOST:
        raise ValueError(f"n is {n}; allowed is 2 to {MOST} keys.")
    above = (n - 1) * TAILS
    i = int(np.argmax(above <= LAST))
    edges = LOWEST + STEP * np.arange(i)
    top = edges[-1] + STEP * math.log(above[i - 1] / LAST) / math.log(above[i - 1] / above[i])
    scores = [*(edges[:-1] + STEP / 2), (edges[-1] + top) / 2, top]
    return np.array(scores), np.array([*(above[: i - 1] - above[1:i]), above[i - 1] - LAST, LAST])


def needle_weight(
    n: float | int, margin: float | int, spread: float | int, normalizer: str = "softmax"
) -> float:
    """Return the typical weight of a needle that scores `margin` among n - 1 Gaussian scores (0, `spread`), in nats.

    Under softmax log(w / (1 - w)) = margin - log sum_j exp(s_j), about margin - log(n - 1) - spread^2 / 2 as long as
    spread^2 < 2 log n. log-n softmax multiplies the scores by log n / log 256, off-by-one softmax adds a sink at score
    0, top-16 is the softmax of the 16 highest, sigmoid is 1 / (1 + n exp(-s)) for each key alone. Raises ValueError for
    another normalizer, a negative margin or spread, or n outside 2 to 2^30 keys.
    """
    if normalizer not in COMPARED:
        raise ValueError(f"normalizer is {normalizer!r}; allowed are {', '.join(COMPARED)}.")
    if not (margin >= 0 and spread >= 0):
        raise ValueError(f"margin is {margin} and spread is {spread} nats; allowed is 0 or more.")
    scores, counts = distractors(n)
    scale = math.log(n) / math.log(TRAINED) if normalizer == "log-n softmax" else 1.0
    scores, needle = scale * spread * scores, float(scale * margin)
    if normalizer == "sigmoid":
        return float(special.expit(needle - math.log(n)))
    if normalizer in ("sparsemax", "entmax 1.5"):
        return _entmax_weight(scores, counts, needle, 2.0 if normalizer == "sparsemax" else 1.5)
    if normalizer == "top-16":
        if counts[scores > needle].sum() >= KEPT:
            return 0.0
        used = np.minimum(np.cumsum(counts[::-1]), KEPT - 1)
        counts = np.diff(used, prepend=0)[::-1]
    others = (counts * np.exp(scores - needle)).sum()
    others += math.exp(-needle) if normalizer == "off-by-one softmax" else 0.0
    return float(1 / (1 + others))


def _entmax_weight(scores: np.ndarray, counts: np.ndarray, needle: float, alpha: float) -> float:
    """Return the needle's weight [(alpha - 1) s - tau]_+^(1 / (alpha - 1)), tau such that all weights sum to 1."""
    scores, counts = (alpha - 1) * np.append(scores, needle), np.append(counts, 1.0)
    low, high = scores.max() - 2, scores.max()
    for _ in range(50):
        tau = (low + high) / 2
        total = (counts * np.maximum(scores - tau, 0) ** (1 / (alpha - 1))).sum()
        low, high = (tau, high) if total > 1 else (low, tau)
    return float(min(1.0, max(0.0, scores[-1] - low) ** (1 / (alpha - 1))))


def margin_needed(n: float | int, weight: float | int = HIGH, spread: float | int = 0.0) -> float:
    """Return the margin in nats at which softmax gives a needle `weight` among n keys.

    log(weight / (1 - weight)) + log(n - 1) + spread^2 / 2: 8.43 at 512 keys, 16.06 at 2^20. The last term takes the
    mean of exp(score), which a draw has as long as spread^2 < 2 log n; beyond, less suffices. Raises ValueError for
    n < 2, a weight outside (0, 1) or a negative spread.
    """
    if not (n >= 2 and 0 < weight < 1 and spread >= 0):
        raise ValueError(
            f"n is {n}, weight is {weight} and spread is {spread}; allowed are n >= 2, a weight between 0 and 1 and a "
            "spread of 0 or more."
        )
    return math.log(weight / (1 - weight)) + math.log(n - 1) + spread**2 / 2


def weight_explorer(
    margin: float | int = 8, spread: float | int = 1, normalizer: str = "log-n softmax"
) -> Explorer:
    """A needle's weight among 16 to 2^20 keys under a normalizer, beside plain softmax, and the margin that it needs.

    `margin` and `spread` are in nats. Raises ValueError for a start that the controls do not have.
    """
    controls: dict[str, Control] = {
        "margin": Slider(0, 20, 0.5, margin, "Margin of the needle", unit=" nats"),
        "spread": Slider(0, 4, 0.25, spread, "Spread of the distractors", unit=" nats"),
        "normalizer": Choice(COMPARED, normalizer, "Normalizer"),
    }
    constants = {
        "trained": TRAINED, "kept": KEPT, "high": HIGH, "last": LAST, "lowest": LOWEST, "step": STEP,
        "tails": TAILS.tolist(),
    }  # fmt: skip
    at = [f"{needle_weight(n, margin, spread):.2g}" for n in (TRAINED, 2**20)]
    return live(
        script("dilution.js", fixed=constants),
        controls,
        alt="The weight of one needle against the number of keys, and the margin that a weight of 0.9 takes. Under "
        f"softmax a margin of {margin} nats over distractors of spread {spread} gives {at[0]} among {TRAINED} keys and "
        f"{at[1]} among a million; each doubling of the keys costs 0.69 nats or more.",
        fallback=_weight_picture(margin, spread, normalizer),
        height=300,
        panels=2,
        caption="Distractors score like Gaussian draws around 0, each where it typically falls. log-n softmax "
        f"multiplies scores by log n / log {TRAINED}, off-by-one softmax adds a sink that scores 0, top-16 keeps the "
        f"{KEPT} highest, sigmoid takes log n off each score and normalizes nothing. Grey: up to {TRAINED} keys.",
    )


def _weight_picture(margin: float | int, spread: float | int, normalizer: str) -> Figure:
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.2, 3.2), layout="constrained")
    keys = np.geomspace(16, 2**20, 65).tolist()
    names = ["softmax"] if normalizer == "softmax" else [normalizer, "softmax"]
    for name, tone, line in zip(names, (BLUE, ORANGE), ("-", "--"), strict=False):
        left.plot(keys, [needle_weight(n, margin, spread, name) for n in keys], line, color=tone, label=name)
        right.plot(keys[::4], [_margin_for(n, spread, name) for n in keys[::4]], line, color=tone)
    left.axhline(0.5, color="#555", ls=":", lw=1)
    right.axhline(margin, color="#555", ls=":", lw=1)
    left.set(title="The needle's weight", ylim=(0, 1.04), ylabel="weight")
    right.set(title=f"Margin for a weight of {HIGH}", ylim=(0, 28), ylabel="nats")
    for ax in (left, right):
        ax.axvspan(16, TRAINED, color="#eeeeee", lw=0)
        ax.set_xscale("log")
        ax.set(xlabel="keys", xlim=(16, 2**20))
    left.legend(frameon=False, fontsize=9)
    return figure


def _margin_for(n: float, spread: float | int, normalizer: str) -> float:
    """Return the margin that gives the needle the weight 0.9 under any normalizer."""
    low, high = 0.0, 64.0
    for _ in range(30):
        middle = (low + high) / 2
        enough = needle_weight(n, middle, spread, normalizer) >= HIGH
        low, high = (low, middle) if enough else (middle, high)
    return high


# ---- remedies at inference


def remedy_explorer(table: pd.DataFrame, remedy: str = "") -> Explorer:
    """Computed recall by length and depth of one trained model under each remedy at inference, beside "as trained".

    `table` has the columns remedy ("as trained" among them), length (tokens), depth (middles of its bins, 0 to 1),
    seed, correct, total and chance, and may have haystack. `remedy` is shown at the start, the first other than
    "as trained" by default. Intervals are those of `stats.recall`. Raises ValueError for missing columns, values or
    combinations, no rows, fewer than two remedies or lengths, or a start that is not there.
    """
    require_columns(table, COLUMNS)
    table = table if "haystack" in table.columns else table.assign(haystack="")
    keys = ["haystack", "remedy", "length", "depth"]
    hays, names = (table[key].unique().tolist() for key in keys[:2])
    lengths, depths = (sorted(table[key].unique().tolist()) for key in keys[2:])
    if table[[*COLUMNS, "haystack"]].isna().any(axis=None):
        raise ValueError("table has empty values; allowed are rows with a value in each column.")
    if BASELINE not in names or len(names) < 2 or len(lengths) < 2:
        raise ValueError(
            f"table has the remedies {names} at the lengths {lengths}; allowed are {BASELINE!r} and another, at two "
            "lengths or more."
        )
    remedy = remedy or next(name for name in names if name != BASELINE)
    counts = table.groupby(keys)[["correct", "total"]].sum()
    for cell in pd.MultiIndex.from_product([hays, names, lengths, depths]):
        if cell not in counts.index or not counts.loc[cell, "total"]:
            raise ValueError(
                f"table lacks {cell[1]!r} at length {cell[2]} and depth {cell[3]}"
                + (f" in {cell[0]!r}" if cell[0] else "")
                + "; allowed is every remedy at every length and depth."
            )
    maps = (counts["correct"] / counts["total"]).unstack("length")
    found = stats.recall(table, keys[:3]).sort_values("length").set_index(keys[:2])
    data = {
        hay: {name: _entry(maps.loc[hay, name], found.loc[[(hay, name)]]) for name in names} for hay in hays
    }
    chance = pooled_chance(table)
    fixed = {
        "lengths": lengths, "names": [tokens(n) for n in lengths], "depths": [round(100 * d, 1) for d in depths],
        "chance": round(100 * chance, 2), "baseline": BASELINE, "hay": hays[0],
    }  # fmt: skip
    controls: dict[str, Control] = {"remedy": Choice(tuple(names), remedy, "At inference")}
    if len(hays) > 1:
        controls["haystack"] = Choice(tuple(hays), hays[0], "Haystack")
    shown, other = data[hays[0]][remedy], data[hays[0]][BASELINE]
    return live(
        script("remedy.js", data=data, fixed=fixed),
        controls,
        alt=f"Recall of one trained model by length and depth, at {lengths[0]:,} and at {lengths[-1]:,} tokens: "
        f"{'' if remedy == BASELINE else f'with {remedy} {_ends(shown)}, '}{BASELINE} {_ends(other)}. Chance is "
        f"{100 * chance:.0f} %.",
        fallback=_remedy_picture(shown, other, remedy, fixed),
        height=310,
        panels=2,
        caption="Computed beforehand. Left: recall in percent of the full tone, by length and by where in the context "
        "the needle stands. Right: over all depths; the band is the 95 % interval over seeds.",
    )


def _entry(cells: pd.DataFrame, curve: pd.DataFrame) -> dict[str, Any]:
    """Return in percent the map, a row for each depth, and recall, low and high by length."""
    percents = {name: (100 * curve[name]).round(2).tolist() for name in ("recall", "low", "high")}
    return {"map": (100 * cells.to_numpy()).round(1).tolist(), **percents}


def _ends(entry: dict[str, Any]) -> str:
    """Return recall at the shortest and at the longest length."""
    return f"{entry['recall'][0]:.0f} and {entry['recall'][-1]:.0f} %"


def _remedy_picture(
    shown: dict[str, Any], other: dict[str, Any], remedy: str, fixed: dict[str, Any]
) -> Figure:
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.2, 3.3), layout="constrained")
    lengths, depths, at = fixed["lengths"], fixed["depths"], np.arange(len(fixed["lengths"]))
    left.imshow(shown["map"], cmap="Blues", vmin=0, vmax=100, aspect="auto", interpolation="none")
    left.set_yticks(range(len(depths)), [f"{d:g}" for d in depths])
    left.set(title=f"Recall: {remedy}", ylabel="depth of the needle (%)")
    for entry, tone, line, name in ((other, ORANGE, "--", BASELINE), (shown, BLUE, "-", remedy)):
        right.plot(at, entry["recall"], f"o{line}", ms=4, color=tone, label=name)
    right.fill_between(at, shown["low"], shown["high"], color=BLUE, alpha=0.25, lw=0)
    right.axhline(fixed["chance"], color="#555", ls=":", lw=1)
    right.set(title="Recall by length", ylabel="recall (%)", ylim=(0, 104))
    right.legend(frameon=False, fontsize=9)
    for ax in (left, right):
        ax.set_xticks(at[:: -(-len(lengths) // 6)], fixed["names"][:: -(-len(lengths) // 6)])
        ax.set_xlabel("length (tokens)")
    return figure
