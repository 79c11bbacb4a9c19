"""The explorers of capacity: a memory that is a matrix, and what each head of a trained model looks at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import matplotlib.pyplot as plt
import numpy as np
import torch
from jaxtyping import Float, Int
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from torch import Tensor

from lcbook.attention.delta import additive_step, delta_step
from lcbook.explorers.controls import Choice, Control, Slider
from lcbook.explorers.fragment import BLUE, ORANGE, Explorer, live, script

WIDEST, MOST, KINDS = 32, 64, 16  # channels of a key, pairs, values to choose from
MEMORIES = 20  # the curve is their mean; the first is the one shown
RULES, KEYS = ("additive", "delta"), ("random", "reused")
LONGEST, LONGEST_LABEL = 40, 8  # tokens of a map, characters of a token's label


# ---- a memory that is a matrix


def uniform(index: np.ndarray) -> np.ndarray:
    """Return numbers in (0, 1) that look random, a function of each index alone; the page computes the same.

    Source: mulberry32 (T. Ettinger 2017, public domain), its state taken from the index.
    """
    low = np.uint64(2**32 - 1)

    def product(x: np.ndarray, y: np.ndarray | int) -> np.ndarray:
        return (x * np.asarray(y, np.uint64)) & low

    a = (product(index.astype(np.uint64), 0x6D2B79F5) + np.uint64(7)) & low
    t = product(a ^ (a >> np.uint64(15)), a | np.uint64(1))
    t = (t + product(t ^ (t >> np.uint64(7)), t | np.uint64(61))) & low ^ t
    return ((t ^ (t >> np.uint64(14))) + 0.5) / 2**32


def draw_pairs(
    width: int, keys: str = "random", memories: int = MEMORIES
) -> tuple[Float[Tensor, "m pairs d"], Int[Tensor, "m pairs"], Int[Tensor, "pairs"]]:
    """Return keys of length 1, values 0 to 15, and the pair that replaces each (64 where none does).

    Keys have random directions, fresh for each pair, or, `reused`, one of three pairs brings another value for the key
    two pairs before. Raises ValueError for a width outside 1 to 32, fewer than one memory or other keys.
    """
    if not 1 <= width <= WIDEST or memories < 1:
        raise ValueError(
            f"width is {width} and memories is {memories}; allowed is a width from 1 to {WIDEST} and memories >= 1."
        )
    if keys not in KEYS:
        raise ValueError(f"keys is {keys!r}; allowed are {', '.join(KEYS)}.")
    at = np.arange(memories * MOST).reshape(memories, MOST)
    channel = at[..., None] * WIDEST + np.arange(width)
    normal = np.sqrt(-2 * np.log(uniform(2 * channel))) * np.cos(2 * np.pi * uniform(2 * channel + 1))
    directions = normal / np.linalg.norm(normal, axis=-1, keepdims=True)
    chosen = uniform(10**6 + at)
    values, replaced = np.floor(KINDS * chosen).astype(int), np.full(MOST, MOST)
    if keys == "reused":
        newer = np.arange(2, MOST, 3)
        directions[:, newer] = directions[:, newer - 2]
        moved = 1 + np.floor((KINDS - 1) * chosen[:, newer]).astype(int)
        values[:, newer] = (values[:, newer - 2] + moved) % KINDS
        replaced[newer - 2] = newer
    return torch.from_numpy(directions), torch.from_numpy(values), torch.from_numpy(replaced)


def memory_leads(
    width: int, rule: str, keys: str = "random", memories: int = MEMORIES
) -> Iterator[tuple[Float[Tensor, "m d e"], Float[Tensor, "m stored"]]]:
    """Yield the state after each of 64 pairs is written, and by how much each stored pair's value leads when read.

    A value is one of 16 unit vectors; beta is 1. The lead is the read-out's entry for the right value less the largest
    other: above 0 the right value is the nearest. It is NaN for a pair whose key has a newer value by then. Raises
    ValueError for another rule, and as `draw_pairs`.
    """
    if rule not in RULES:
        raise ValueError(f"rule is {rule!r}; allowed are {', '.join(RULES)}.")
    step = {"additive": additive_step, "delta": delta_step}[rule]
    directions, values, replaced = draw_pairs(width, keys, memories)
    codes = torch.eye(KINDS, dtype=torch.float64)[values]
    state, beta = None, torch.ones(memories, 1, dtype=torch.float64)
    for i in range(MOST):
        key = directions[:, i, None]
        _, state = step(state, key, key, codes[:, i, None], beta)
        stored = codes[:, : i + 1].bool()
        reads = directions[:, : i + 1] @ state[:, 0]
        lead = reads[stored].view(memories, -1) - reads.masked_fill(stored, -torch.inf).amax(-1)
        yield state[:, 0], lead.masked_fill(replaced[: i + 1] <= i, torch.nan)


def recall_by_pairs(width: int, rule: str, keys: str = "random", memories: int = MEMORIES) -> list[float]:
    """Return the mean share of pairs that are read back right after 1, 2, ..., 64 pairs; chance is 1/16.

    A pair counts while its key has no newer value; a tie counts as wrong. Raises ValueError as `memory_leads`.
    """
    return [_right(lead) for _, lead in memory_leads(width, rule, keys, memories)]


def _right(lead: Tensor) -> float:
    """Return the share of leads above 0 among those that are numbers; rounding does not break a tie."""
    return int((lead > 1e-9).sum()) / int((~lead.isnan()).sum())


def memory_explorer(width: int = 16, pairs: int = 24, rule: str = "delta", keys: str = "random") -> Explorer:
    """A memory of key width times 16 numbers, written pair by pair: its state, what it gives back, and the curve.

    Raises ValueError for a start that the controls do not have.
    """
    controls: dict[str, Control] = {
        "width": Slider(2, WIDEST, 1, width, "Key width"),
        "pairs": Slider(1, MOST, 1, pairs, "Pairs stored"),
        "rule": Choice(RULES, rule, "Rule"),
        "keys": Choice(KEYS, keys, "Keys"),
    }
    return live(
        script("memory.js", most=MOST, widest=WIDEST, kinds=KINDS, memories=MEMORIES),
        controls,
        alt="An associative memory of key width times 16 numbers. With few pairs it gives every value back, with "
        "more pairs a smaller share, and wider keys put that off. Where keys come again with a new value the delta "
        "rule replaces the old one, while additive writing leaves both; where they never do, additive writing gives "
        "more back.",
        fallback=_memory_picture(width, pairs, rule, keys),
        height=270,
        panels=3,
        caption="Keys are random directions of length 1, values one of 16 unit vectors, and every pair is written at "
        "full strength (β = 1). A dot above 0: reading the key gives a vector nearest to the right value. Reused: of "
        "three pairs the last brings a new value for the first one's key. Grey: no more pairs than the key has "
        "channels.",
    )


def _memory_picture(width: int, pairs: int, rule: str, keys: str) -> Figure:
    matrix, lead = (x[0].numpy() for x in list(memory_leads(width, rule, keys, 1))[pairs - 1])
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(8.4, 3), layout="constrained")
    blue, orange = np.array(to_rgb(BLUE)), np.array(to_rgb(ORANGE))
    shade = np.abs(matrix / np.abs(matrix).max())[..., None]
    left.imshow(
        1 - shade * (1 - np.where(matrix[..., None] > 0, blue, orange)),
        extent=(0, KINDS, width, 0),
        aspect="auto",
        interpolation="none",
    )
    left.set(title=f"State: {width} × {KINDS}", xlabel="value", ylabel="key channel, blue +, orange −")
    place, good = np.arange(1, pairs + 1), lead > 1e-9
    middle.axhline(0, color="#555", ls="--", lw=1)
    middle.plot(place[good], lead[good], "o", ms=4, color=BLUE, label="right")
    middle.plot(place[lead <= 1e-9], lead[lead <= 1e-9], "o", ms=4, mfc="none", color=ORANGE, label="wrong")
    low, high = np.nanmin([*lead, 0]), np.nanmax(lead)
    middle.set(xlabel="pair, in the order stored", ylabel="lead over the best wrong value")
    middle.set_ylim(low - 0.1, high + 0.3 * (high - low))
    middle.set_title(f"{good.sum()} of {(~np.isnan(lead)).sum()} pairs right")
    for name, tone, style in ((rule, BLUE, "-"), (next(r for r in RULES if r != rule), ORANGE, "--")):
        curve = recall_by_pairs(width, name, keys)
        right.plot(range(1, MOST + 1), curve, style, color=tone, label=name)
        right.plot([pairs], curve[pairs - 1], "o", ms=5, color=tone, mfc=tone if name == rule else "none")
    right.axvspan(0, width, color="#eeeeee")
    right.axhline(1 / KINDS, color="#555", ls="--", lw=1)
    right.text(1, 1 / KINDS + 0.02, "chance", fontsize=9)
    right.set(title="Recall by pairs", xlabel="pairs stored", ylabel="share right")
    right.set(xlim=(0, MOST), ylim=(0, 1.2))
    for ax in (middle, right):
        ax.legend(frameon=False, fontsize=9, loc="upper left", ncols=2, columnspacing=1, handletextpad=0.4)
    return figure


# ---- what each head looks at


def maps_explorer(
    maps: Sequence[Tensor | np.ndarray],
    tokens: Sequence[str],
    *,
    heads: Sequence[tuple[int, int]] | None = None,
    query: int | None = None,
) -> Explorer:
    """Attention maps over one sequence: a menu of heads, a slider for the query, its weights as bars over the tokens.

    `maps` holds for each layer the weights [h, t, s] or [1, h, t, s] of one sequence, `tokens` a label of up to 8
    characters for each place. `heads` names the (layer, head) to show, counted from 0, all by default; the first is
    shown at the start, with the place `query`, the last by default. Weights are kept to three digits. Raises
    ValueError for maps that do not fit the tokens, are not causal or leave [0, 1], and for heads that are not there.
    """
    weights = [_map(m, layer, len(tokens)) for layer, m in enumerate(maps)]
    long = [t for t in tokens if not 0 < len(t) <= LONGEST_LABEL]
    if not 2 <= len(tokens) <= LONGEST or long:
        raise ValueError(
            f"tokens has {len(tokens)} labels, {long} out of size; allowed are 2 to {LONGEST} of 1 to "
            f"{LONGEST_LABEL} characters."
        )
    query = len(tokens) - 1 if query is None else query
    every = [(layer, head) for layer, m in enumerate(weights) for head in range(len(m))]
    heads = every if heads is None else list(heads)
    if not heads or len(set(heads)) < len(heads) or not set(heads) <= set(every):
        raise ValueError(f"heads is {heads}; allowed are distinct ones of {every}.")
    names = [f"layer {layer + 1}, head {head + 1}" for layer, head in heads]
    shown = [np.rint(1000 * weights[layer][head]).astype(int) for layer, head in heads]
    controls: dict[str, Control] = {"head": Choice(tuple(names), names[0], "Head")} if len(names) > 1 else {}
    controls["query"] = Slider(0, len(tokens) - 1, 1, query, "Query at place")
    # In thousandths, less the zeros at the end of a row.
    rows = [[np.trim_zeros(row, "b").tolist() for row in m] for m in shown]
    columns = _columns(tokens)
    top = int(shown[0][query].argmax())
    return live(
        script("maps.js", names=names, tokens=list(tokens), maps=rows, columns=columns),
        controls,
        alt=f"Attention maps over {len(tokens)} tokens, queries down and keys across, and one query's weights as bars "
        f"over the tokens. In {names[0]}, “{tokens[query]}” at place {query} puts {shown[0][query, top] / 1000:.2f} on "
        f"“{tokens[top]}” at place {top}.",
        fallback=_maps_picture(shown[0] / 1000, tokens, names[0], query, columns),
        height=max(380, 74 + 58 * -(-len(tokens) // columns)),
        panels=2,
    )


def _map(given: Tensor | np.ndarray, layer: int, length: int) -> np.ndarray:
    """Return the weights of a layer, [h, t, s], or raise ValueError."""
    m = torch.as_tensor(given).detach().double().cpu().numpy()
    if m.ndim == 4 and len(m) == 1:
        m = m[0]
    if m.ndim != 3 or m.shape[1:] != (length, length):
        raise ValueError(
            f"maps[{layer}] has shape {m.shape}; allowed is [h, {length}, {length}] with {length} tokens."
        )
    if not ((m >= 0) & (m <= 1 + 1e-6)).all() or np.triu(m, 1).any():
        raise ValueError(
            f"maps[{layer}] leaves [0, 1] or looks ahead; allowed are weights on earlier tokens and itself."
        )
    return m


def _columns(tokens: Sequence[str]) -> int:
    """Return how many tokens fit a line of 320 pixels, an even number so that a key stays beside its value."""
    widest = max(4, *(len(t) for t in tokens))
    return max(2, min(len(tokens), 320 // (7 * widest + 4), 10) // 2 * 2)


def _maps_picture(m: np.ndarray, tokens: Sequence[str], name: str, query: int, columns: int) -> Figure:
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.6, 4.1), layout="constrained")
    length = len(tokens)
    tone = np.where(np.arange(length)[:, None, None] == query, to_rgb(ORANGE), to_rgb(BLUE))
    left.imshow(1 - m[..., None] * (1 - tone), extent=(0, length, length, 0), interpolation="none")
    left.plot([0, length, length, 0, 0], np.array([0, 0, 1, 1, 0]) + query, color=ORANGE)
    left.set(title=name, xlabel="place of the key", ylabel="place of the query, the chosen one in orange")
    lines = -(-length // columns)
    right.set(xlim=(0, columns), ylim=(lines, 0))
    right.set_title(f"From “{tokens[query]}” at place {query}")
    right.axis("off")
    for k, token in enumerate(tokens):
        tone = "#666" if k > query else ORANGE if token == tokens[query] else "#222"
        x, foot, weight = k % columns + 0.5, k // columns + 0.74, m[query, k]
        right.text(x, foot + 0.21, token, ha="center", fontsize=10, color=tone)
        if k <= query:  # the weight, over a grey bar of height 1
            right.bar(x, -0.5, 0.72, foot, color="#eeeeee")
            right.bar(x, -0.5 * weight, 0.72, foot, color=ORANGE)
        if weight >= 0.05:
            right.text(x, foot - 0.5 * weight - 0.03, f"{weight:.2f}", ha="center", fontsize=9)
    return figure
