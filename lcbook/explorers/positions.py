"""The book's own explorers: each draws a closed form in the page, and states the same form here in Python."""

from __future__ import annotations

import math

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from lcbook.explorers.controls import Slider
from lcbook.explorers.fragment import BLUE, ORANGE, Explorer, live, script

LONGEST = 8192 * 64


def rope_turns(base: float | int, head_width: int, training_length: int) -> list[float]:
    """Full turns each channel has made at `training_length` tokens, fast channel first.

    Channel i of head_width / 2 turns by base ** (-2 i / head_width) radians a token (Su et al., arXiv:2104.09864).
    A channel below one turn meets phases beyond the training length that it has never seen; the channels at
    or above are the critical dimension of Liu et al. (arXiv:2310.05209), counted in pairs.
    """
    return (_angles(base, head_width) * training_length / (2 * math.pi)).tolist()


def alibi_weight(distance: float | int, slope: float | int, margin: float | int, length: int) -> float:
    """Softmax weight of a needle `distance` tokens back, scored `margin` nats above length - 1 fillers.

    Every key at distance j carries ALiBi's bias -slope * j (Press et al., arXiv:2108.12409); j runs from 0 to
    length - 1 and the needle takes the filler's place at its distance.
    """
    gain, total = math.exp(margin), _bias_mass(slope, length)
    return 1 / (1 + (total * math.exp(slope * distance) - 1) / gain)


def alibi_half_distance(slope: float | int, margin: float | int, length: int) -> float:
    """Distance in tokens at which `alibi_weight` crosses one half; negative where it never reaches it.

    It solves exp(margin - slope * d) = sum_j exp(-slope * j) - exp(-slope * d), and for a long text no
    longer depends on the length: the window is about (margin + log slope) / slope tokens.
    """
    return math.log((math.exp(margin) + 1) / _bias_mass(slope, length)) / slope


def rope_explorer(base: int = 10_000, head_width: int = 64, length: int = 1024) -> Explorer:
    """What RoPE has seen in training: the score against distance, and the turns each channel has made."""
    return live(
        script("rope.js"),
        {
            "base": Slider(10, 1_000_000, 10**0.05, base, "Base", log=True),
            "width": Slider(8, 128, 2, head_width, "Head width"),
            "length": Slider(64, 8192, 2**0.125, length, "Trained on", log=True, unit=" tokens"),
        },
        alt="RoPE: the score of equal content against distance, and the turns each channel has made in "
        "training; channels below one full turn meet new phases beyond the training length.",
        fallback=_rope_picture(base, head_width, length),
        height=270,
        panels=2,
    )


def alibi_explorer(slope: float = 1 / 16, margin: float = 8.0, length: int = 4096) -> Explorer:
    """ALiBi's soft window: the weight of a needle against its distance, and where it falls to one half."""
    return live(
        script("alibi.js"),
        {
            "slope": Slider(1 / 256, 1, 2**0.25, slope, "Slope", log=True),
            "margin": Slider(0, 20, 0.25, margin, "Margin of the needle", unit=" nats"),
            "length": Slider(64, 65_536, 2**0.25, length, "Text length", log=True, unit=" tokens"),
        },
        alt="ALiBi: the attention weight of a needle falls from near one to near zero at a distance that the "
        "slope and the margin set and that the length of the text hardly changes.",
        fallback=_alibi_picture(slope, margin, length),
        height=270,
    )


def _angles(base: float | int, head_width: int) -> np.ndarray:
    if head_width < 2 or head_width % 2:
        raise ValueError(f"head_width is {head_width}; it must be even and at least 2")
    if base <= 1:
        raise ValueError(f"base is {base}; it must be above 1")
    return float(base) ** (-np.arange(head_width // 2) * 2 / head_width)


def _bias_mass(slope: float | int, length: int) -> float:
    if slope <= 0 or length < 2:
        raise ValueError(f"slope is {slope} and length is {length}; allowed are slope > 0 and length >= 2")
    return math.expm1(-slope * length) / math.expm1(-slope)


def _rope_picture(base: int, head_width: int, length: int) -> Figure:
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.6, 3.2), layout="constrained")
    edges = np.geomspace(1, LONGEST, 241)
    angle = _angles(base, head_width)
    # The line is the exact average of the score over each column, the band its range there.
    average = (np.diff(np.sin(edges[:, None] * angle), axis=0) / (np.diff(edges)[:, None] * angle)).mean(1)
    inside = np.geomspace(edges[:-1], edges[1:], 17, axis=1)
    score = np.cos(inside[..., None] * angle).mean(-1)
    left.fill_between(edges[:-1], score.min(1), score.max(1), color=BLUE, alpha=0.25, lw=0)
    left.semilogx(np.sqrt(edges[:-1] * edges[1:]), average, color=BLUE)
    left.axvline(length, color="0.3", ls="--", lw=1)
    left.axvspan(length, LONGEST, color="0.93", zorder=0)
    left.set(title="Score of equal content", xlabel="distance (tokens)", xlim=(1, LONGEST), ylim=(-1, 1))
    left.text(length * 1.2, 0.88, f"trained to {length:,}", fontsize=9)
    turns = np.asarray(rope_turns(base, head_width, length))
    seen = turns >= 1
    channel = np.arange(len(turns))
    right.semilogy(channel[seen], turns[seen], "o", ms=4, color=BLUE, label=f"every phase seen: {seen.sum()}")
    right.semilogy(
        channel[~seen], turns[~seen], "o", ms=4, mfc="none", color=ORANGE, label=f"not: {(~seen).sum()}"
    )
    right.axhline(1, color="0.3", ls="--", lw=1)
    right.set(title="Turns at the training length", xlabel="channel, fast to slow", ylim=(1e-5, 1e4))
    right.legend(frameon=False)
    return figure


def _alibi_picture(slope: float, margin: float, length: int) -> Figure:
    figure, axes = plt.subplots(figsize=(7.6, 3.2), layout="constrained")
    distances = np.geomspace(1, length - 1, 400)
    half = alibi_half_distance(slope, margin, length)
    axes.semilogx(distances, [alibi_weight(d, slope, margin, length) for d in distances], color=BLUE)
    flat = math.exp(margin) / (math.exp(margin) + length - 1)
    axes.semilogx([1, length - 1], [flat, flat], "--", color=ORANGE, label="without the bias")
    if 1 <= half <= length - 1:
        axes.plot([half], [0.5], "o", color=BLUE)
        axes.text(half * 1.2, 0.5, f"one half at {half:.3g}")
    axes.axvspan(length - 1, 65_536, color="0.93", zorder=0)
    axes.set(title="Attention weight of the needle", ylim=(0, 1.02), xlim=(1, 65_536))
    axes.set_xlabel("distance from the query to the needle (tokens)")
    axes.legend(frameon=False)
    return figure
