"""The explorers of training: recall by depth as the data asked for it, and what a schedule of lengths trains."""

from __future__ import annotations

import math
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lcbook import stats
from lcbook.explorers.controls import Choice, Control, Slider, format_number
from lcbook.explorers.fragment import BLUE, ORANGE, Explorer, live, script
from lcbook.formats import at_least
from lcbook.plots.depth import bin_middles
from lcbook.stats.estimate import pooled_chance, require_columns
from lcbook.tasks.recall import depth_weights

BINS = 10  # bars of the distribution in training
STATES = ("as trained", "fine-tuned on uniform depths")
SCHEDULES = ("fixed", "uniform", "log-uniform", "steps", "linear")
SEQUENCES = 32  # of the target length in one update, or as many tokens in shorter ones
DOTS = 120  # updates drawn of a random schedule


# ---- the depth dial


def depth_dial(table: pd.DataFrame, *, training: str = "", strength: float | int | None = None) -> Explorer:
    """Computed recall by depth: choose how asked needles lay in training, how strongly, and before or after the repair.

    `table` has the columns training (a kind of `tasks.depth_weights`), strength, depth, seed, correct, total and
    chance, and may have tuned: False as trained, True after a fine-tuning on uniform depths. A kind has one strength
    or all of them; strength 0 is the same for every kind and needs to be there once. `training` and `strength` are
    shown at the start, the first kind and the largest strength by default. Intervals are those of `stats.recall`.
    Raises ValueError for missing columns, no rows, unknown kinds, a combination that was not computed, or a start that
    is not there.
    """
    require_columns(table, ("training", "strength", "depth", "seed", "correct", "total", "chance"))
    table = table if "tuned" in table.columns else table.assign(tuned=False)
    kinds, levels = list(table["training"].unique()), sorted(table["strength"].unique().tolist())
    states = [bool(state) for state in sorted(table["tuned"].unique())]
    training, strength = training or kinds[0], levels[-1] if strength is None else strength
    if training not in kinds or strength not in levels:
        raise ValueError(
            f"training is {training!r} at strength {strength}; allowed are {kinds} at one of {levels}."
        )
    found = stats.recall(table, ["training", "strength", "tuned", "depth"])
    found = found.assign(depth=bin_middles(found["depth"])).sort_values("depth", kind="stable")
    data = {kind: _kind(found, kind, levels, states) for kind in kinds}
    controls: dict[str, Control] = {}
    if len(kinds) > 1:
        controls["training"] = Choice(tuple(kinds), training, "Needles in training")
    if len(levels) > 1:
        controls["strength"] = _strengths(levels, strength)
    if len(states) > 1:
        controls["state"] = Choice(STATES, STATES[0], "Weights")
    chance = pooled_chance(table)
    fixed = {
        "training": training, "levels": _listed(controls.get("strength"), levels), "states": list(STATES),
        "chance": round(chance, 4), "bins": BINS, "seeds": int(found["seeds"].max()), "first": int(states[0]),
    }  # fmt: skip
    shown = data[training][levels.index(strength) if len(data[training]) > 1 else 0]
    said = f" at strength {format_number(strength)}" if len(data[training]) > 1 else ""
    start = shown["recall"][int(states[0])]
    return live(
        script("depth.js", data=data, fixed=fixed),
        controls,
        alt=f"Where asked needles lay in training, and recall by depth. Trained on {training}{said}, recall is "
        f"{start[1][0]:.0f} % at the start of the context, {start[1][len(start[1]) // 2]:.0f} % in the middle and "
        f"{start[1][-1]:.0f} % at the end; chance is {100 * chance:.0f} %.",
        fallback=_dial_picture(shown, start, training, chance),
        height=290,
        panels=2,
        caption="Computed beforehand. Bars: how often a needle of that tenth was asked for in training, in multiples "
        "of the uniform share. The band is the 95 % interval over seeds.",
    )


def _kind(found: pd.DataFrame, kind: str, levels: list[Any], states: list[bool]) -> list[dict[str, Any]]:
    """Return for each strength of a kind its weights, and for each state depths, recall, low and high in percent."""
    mine = sorted(found.loc[found["training"] == kind, "strength"].unique().tolist())
    entries = []
    for level in mine if len(mine) == 1 else levels:
        same = found["training"] == kind
        if level == 0 and level not in mine:  # the uniform distribution, whichever kind it is filed under
            same = found["training"] == found.loc[found["strength"] == 0, "training"].iloc[0]
        weights, recall = np.array(depth_weights(kind, BINS, level)) * BINS, {}
        for state in states:
            part = found[same & (found["strength"] == level) & (found["tuned"] == state)]
            if part.empty:
                raise ValueError(
                    f"table lacks {kind!r} at strength {level} with tuned {state}; allowed is one strength of a kind, "
                    f"or all of {levels}, each with tuned {' and '.join(map(str, states))}."
                )
            percents = (100 * part[name] for name in ("depth", "recall", "low", "high"))
            recall[int(state)] = [column.round(2).tolist() for column in percents]
        entries.append({"weights": weights.round(4).tolist(), "recall": recall})
    return entries


def _strengths(levels: list[Any], start: float | int) -> Control:
    """Return a slider over evenly spaced strengths, else a menu."""
    steps = np.diff(levels)
    if np.allclose(steps, steps[0]):
        return Slider(levels[0], levels[-1], steps[0].item(), start, "Strength")
    return Choice(tuple(map(format_number, levels)), format_number(start), "Strength")


def _listed(control: Control | None, levels: list[Any]) -> list[Any]:
    """Return the strengths as the script reads them: numbers of a slider, names of a menu."""
    if control is None:
        return levels
    return list(control.values if isinstance(control, Slider) else control.options)


def _dial_picture(shown: dict[str, Any], start: list[list[float]], training: str, chance: float) -> Figure:
    figure, (left, right) = plt.subplots(1, 2, figsize=(7, 3.1), layout="constrained")
    left.bar(100 * (np.arange(BINS) + 0.5) / BINS, shown["weights"], 100 / BINS, color=BLUE)
    left.axhline(1, color="#555", ls="--", lw=1)
    left.set(title=f"Trained: {training}", ylabel="multiples of the uniform share")
    depth, recall, low, high = start
    right.fill_between(depth, low, high, color=BLUE, alpha=0.25, lw=0)
    right.plot(depth, recall, "o-", ms=4, color=BLUE)
    right.axhline(100 * chance, color="#555", ls="--", lw=1)
    right.text(1, 100 * chance + 2, "chance", fontsize=9)
    right.set(title="Recall by depth", ylabel="recall (%)", ylim=(0, 104))
    for ax in (left, right):
        ax.set(xlabel="depth of the needle (%)", xlim=(0, 100))
    return figure


# ---- the schedule of lengths


def stages(shortest: float | int, target: float | int) -> list[float]:
    """Return the lengths of the schedule "steps": from `shortest` by doubling to `target`, each for as many tokens."""
    doublings = math.floor(math.log2(target / shortest) + 1e-9)
    return [target / 2 ** (doublings - k) for k in range(doublings + 1)]


def length_at(kind: str, shortest: float | int, target: float | int, u: float | int) -> float:
    """Return the length at quantile or share of tokens `u` in [0, 1): of the draw where it is random, else of the time.

    Raises ValueError for another kind, or unless 0 < shortest < target.
    """
    _check(kind, shortest, target)
    if kind == "fixed":
        return float(target)
    if kind == "steps":
        found = stages(shortest, target)
        return found[int(u * len(found))]
    if kind == "log-uniform":
        return shortest * (target / shortest) ** u
    return shortest + (target - shortest) * u


def draws(count: int) -> list[float]:
    """Return `count` numbers in (0, 1) that look random, the same in every run; the page computes the same.

    Source: the minimal standard generator of Park and Miller 1988.
    """
    state, found = 20011, []
    for _ in range(count):
        state = 16807 * state % (2**31 - 1)
        found.append(state / (2**31 - 1))
    return found


def distance_trained(kind: str, shortest: float | int, target: float | int, distance: float | int) -> float:
    """Return the share of training tokens that see a key `distance` back: the mean of max(0, 1 - distance / length).

    Of n tokens in a sequence n - d have one. Raises ValueError as `length_at`, and for a negative distance.
    """
    _check(kind, shortest, target)
    at_least(0, distance=distance)
    if distance >= target:
        return 0.0
    least = max(shortest, distance)  # shorter sequences have no such pair
    if kind == "fixed":
        return 1 - distance / target
    if kind == "steps":
        return float(np.mean([max(0.0, 1 - distance / n) for n in stages(shortest, target)]))
    if kind == "log-uniform":
        inside = math.log(target / least) - distance * (1 / least - 1 / target)
        return inside / math.log(target / shortest)
    return (target - least - distance * math.log(target / least)) / (target - shortest)


def _check(kind: str, shortest: float | int, target: float | int) -> None:
    if kind not in SCHEDULES:
        raise ValueError(f"kind is {kind!r}; allowed are {', '.join(SCHEDULES)}.")
    if not 0 < shortest < target:
        raise ValueError(f"shortest is {shortest} for {target}; allowed is above 0 and below the target.")


def schedule_explorer(
    kind: str = "uniform", shortest: float = 1 / 16, target: int = 4096, millions: int = 256
) -> Explorer:
    """What a schedule of training lengths spends its tokens on: lengths, sequences, attention's work, distances.

    `shortest` is a share of the `target` length, and `millions` the budget in 10^6 tokens. Raises ValueError for a
    start that the controls do not have.
    """
    controls: dict[str, Control] = {
        "kind": Choice(SCHEDULES, kind, "Lengths"),
        "part": Slider(1 / 64, 1 / 2, 2, shortest, "Shortest, of the target", log=True),
        "target": Slider(512, 2**17, 2, target, "Target length", log=True),
        "millions": Slider(16, 2**16, 2, millions, "Million tokens", log=True),
    }
    return live(
        script("schedule.js", batch=SEQUENCES, dots=DOTS),
        controls,
        alt="Lengths against tokens spent, and how many training tokens see a key at each distance. Against training "
        "at the target length throughout, random or growing lengths save from a quarter to three quarters of "
        "attention's operations, and train the far distances on fewer tokens.",
        fallback=_schedule_picture(kind, shortest * target, target),
        height=300,
        panels=2,
        caption=f"An update holds the tokens of {SEQUENCES} sequences of the target length, in more sequences where "
        "they are shorter. Steps double the length, each for equally many tokens. Of a sequence of n tokens n − d have "
        "a key d back. Attention takes 4 × width × n operations a token and layer.",
    )


def _schedule_picture(kind: str, shortest: float, target: int) -> Figure:
    figure, (left, right) = plt.subplots(1, 2, figsize=(7, 3.1), layout="constrained")
    random = kind in ("uniform", "log-uniform")
    share = (np.arange(DOTS if random else 5 * DOTS) + 0.5) / (DOTS if random else 5 * DOTS)
    lengths = [length_at(kind, shortest, target, u) for u in (draws(DOTS) if random else share.tolist())]
    left.plot(100 * share, lengths, "o" if random else "-", ms=3, color=BLUE)
    left.set(title="Length of the sequences", xlabel="tokens spent (%)", ylabel="tokens in a sequence")
    left.set(xlim=(0, 100), ylim=(0, 1.05 * target))
    distance = np.linspace(0, target, 201)
    for name, tone, line in ((kind, BLUE, "-"), ("fixed", ORANGE, "--")):
        seen = [distance_trained(name, shortest, target, float(d)) for d in distance]
        right.plot(distance, seen, line, color=tone, label=name)
    right.set(title="Distances trained", xlabel="distance to a key (tokens)", xlim=(0, target))
    right.set(ylabel="share of tokens that see it", ylim=(0, 1.04))
    right.legend(frameon=False)
    return figure
