"""Depths: how the places of the needles that are asked for spread over the context.

A distribution is a tuple of weights, one for each of any number of equal bins of the context, the first at its start:
(0.1, 0.1, 0.8) puts eight of ten needles into the last third. Within a bin all places are equally likely.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

KINDS = ("uniform", "recency", "primacy", "both ends")


def depth_weights(kind: str, bins: int = 10, strength: float | int = 3.0) -> tuple[float, ...]:
    """Return the weights of `bins` equal bins of the context, which sum to one, for the `depths` of a task.

    "recency" rises to the end of the context, "primacy" to its start, "both ends" to both from the middle, each
    exponentially: the likeliest bin is exp(strength) times as likely as the least likely one, whatever `bins`. So
    strength 0 is uniform, 3 a ratio of 20. "uniform" is uniform at every strength.

    Raises ValueError for an unknown kind, no bins, or a strength that is negative or not finite.
    """
    if kind not in KINDS:
        raise ValueError(f"kind is {kind!r}; allowed is one of {', '.join(KINDS)}.")
    if bins < 1:
        raise ValueError(f"bins is {bins}; allowed is 1 or more.")
    if not 0 <= strength < math.inf:
        raise ValueError(f"strength is {strength}; allowed is 0 (uniform) or more.")
    place = np.linspace(0.0, 1.0, bins)
    rise = {
        "uniform": np.zeros(bins),
        "recency": place,
        "primacy": 1 - place,
        "both ends": np.abs(2 * place - 1),
    }[kind]
    rise = rise - rise.min()
    weights = np.exp(strength * (rise / max(rise.max(), 1e-12) - 1))
    return tuple((weights / weights.sum()).round(12).tolist())  # rounded: the same spec on every machine


def check_depths(depths: tuple[float | int, ...]) -> None:
    """Raise ValueError unless `depths` is empty (uniform), or weights that are not negative and sum to one."""
    if any(not weight >= 0 for weight in depths):
        raise ValueError(f"depths is {depths}; allowed are weights of 0 or more.")
    if depths and not abs(math.fsum(depths) - 1) <= 1e-9:
        raise ValueError(
            f"depths is {depths}, which sums to {math.fsum(depths)}; allowed are weights that sum to 1."
        )


def slot_weights(depths: tuple[float | int, ...], slots: int) -> Float[Tensor, " slots"]:
    """Return how likely each of `slots` equal parts of the context is: the weight of each bin that it lies in, by
    overlap."""
    below = np.concatenate([[0.0], np.cumsum(depths)])
    edges = np.arange(len(depths) + 1) / len(depths)
    return torch.from_numpy(np.diff(np.interp(np.arange(slots + 1) / slots, edges, below)).clip(min=0.0))


def draw_slots(
    depths: tuple[float | int, ...],
    *,
    batch: int,
    slots: int,
    pairs: int,
    queries: int,
    generator: torch.Generator,
) -> Int[Tensor, "b pairs"]:
    """Draw distinct slots for `pairs` pairs, the first `queries` by `depths`, the others uniformly from what is left.

    Those by `depths` are drawn one after another without replacement, so the first alone has exactly these weights
    and a crowded bin spills into the others. Source: Efraimidis and Spirakis 2006, whose exponential waiting times
    give that distribution at once. Raises ValueError if `depths` leaves fewer slots than queries.
    """
    weights = slot_weights(depths, slots)
    possible = int((weights > 0).sum())
    if possible < queries:
        raise ValueError(
            f"depths is {depths}, which leaves {possible} places of {slots}; allowed is at least queries ({queries})."
        )
    waiting = -torch.rand(batch, slots, generator=generator, dtype=weights.dtype).log() / weights
    asked = waiting.topk(queries, dim=1, largest=False).indices
    order = torch.rand(batch, slots, generator=generator).scatter(1, asked, -1.0)
    return torch.cat([asked, order.topk(pairs - queries, dim=1).indices], dim=1)
