"""Effects: what a statistic finds for a claim, as an interval at any confidence and one dot a unit of evidence."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lcbook.stats import intervals
from lcbook.stats.estimate import Estimate
from lcbook.stats.intervals import Sample

NOTHING: dict[Any, float] = {}


@dataclass(frozen=True)
class Effect:
    """An effect: `interval(confidence)` estimates it, `dots` holds one value for each unit of evidence.

    `learned` says in how many units, of how many, every arm learned what it was trained on (None where nothing can
    fail). `missing` says why nothing could be measured; the interval is then NaN. `is_range`: the interval is a range
    of what was seen, of no confidence.
    """

    interval: Callable[[float], Estimate]
    dots: Mapping[Any, float]
    learned: tuple[int, int] | None = None
    missing: str = ""
    is_range: bool = False


def unmeasured(why: str) -> Effect:
    """Return the effect of what could not be measured, with the reason."""
    return Effect(lambda _: intervals.UNMEASURED, NOTHING, missing=why)


def spread(estimate: Estimate, dots: Mapping[Any, float]) -> Effect:
    """Return the effect whose interval is the range of what was seen: it has no confidence."""
    return Effect(lambda _: estimate, dots, is_range=True)


def _one(interval: Callable[..., Estimate]) -> Callable[[Sequence[Any]], Effect]:
    def effect(found: Sequence[Sample]) -> Effect:
        first = found[0]
        dots = dict(zip(first.units, map(float, first.values), strict=True))
        return Effect(
            lambda confidence: intervals.union([interval(one, confidence) for one in found]),
            dots,
            first.learned,
        )

    return effect


def _extreme(extreme: Callable[..., Estimate], pick: Callable[..., Any]) -> Callable[[Sequence[Any]], Effect]:
    def effect(found: Sequence[Mapping[Any, Sample]]) -> Effect:
        if not found[0]:
            return unmeasured("there is no arm to judge")
        by_name = {name: [one[name] for one in found] for name in found[0]}

        def every_choice(samples: Sequence[Sample], confidence: float) -> Estimate:
            return intervals.union([intervals.mean(one, confidence) for one in samples])

        deciding = pick(found[0].values(), key=lambda one: one.values.mean())
        learned = min((one.learned for one in found[0].values() if one.learned), default=None)
        dots = dict(zip(deciding.units, map(float, deciding.values), strict=True))
        return Effect(lambda confidence: extreme(by_name, every_choice, confidence), dots, learned)

    return effect


def _ratio_of_medians(found: Sequence[Mapping[Any, Sample]]) -> Effect:
    one, other = found[0].values()
    below = dict(zip(other.units, other.values, strict=True))
    ratios = {
        unit: float(a / below[unit]) if below[unit] else math.inf
        for unit, a in zip(one.units, one.values, strict=True)
        if unit in below
    }

    def interval(confidence: float) -> Estimate:
        pairs = [tuple(samples.values()) for samples in found]
        return intervals.union([intervals.ratio_of_medians(a, b, confidence) for a, b in pairs])

    return Effect(interval, ratios, one.learned)


def _given(found: Sequence[Effect]) -> Effect:
    return replace(
        found[0], interval=lambda confidence: intervals.union([one.interval(confidence) for one in found])
    )


# What a claim is about (its field `of`) -> the effect of what its statistic returns, once for every likely choice.
OF: dict[str, Callable[[Sequence[Any]], Effect]] = {
    "mean": _one(intervals.mean),
    "median": _one(intervals.median),
    "geometric mean": _one(intervals.geometric_mean),
    "largest mean": _extreme(intervals.largest, max),
    "smallest mean": _extreme(intervals.smallest, min),
    "ratio of medians": _ratio_of_medians,
}


def effect(of: str, found: Sequence[Any]) -> Effect:
    """Return the effect of what a statistic returned for each likely choice, that of the choice made first.

    Effects stand as they are; samples are summarized by what the claim is about. Raises ValueError for an `of` that is
    unknown.
    """
    if about := re.fullmatch(r"distance from (-?[0-9.]+) of the (.+)", of):
        whole, center = effect(about[2], found), float(about[1])
        return replace(
            whole,
            interval=lambda confidence: intervals.distance(whole.interval(confidence), center),
            dots={unit: abs(value - center) for unit, value in whole.dots.items()},
        )
    if isinstance(found[0], Effect):
        return _given(found) if len(found) > 1 else found[0]
    if of not in OF:
        raise ValueError(
            f"of is {of!r}; allowed are {', '.join(OF)}, "
            "the distance of one of them from a number, or a statistic that returns an Effect."
        )
    return OF[of](found)
