"""How often the book's intervals hold the truth: data are drawn whose truth is known, and judged as claims are.

`make calibrate` writes results/calibration.json, which the page "How a verdict is reached" shows.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np
import pandas as pd

from lcbook import references, stats, store
from lcbook.claims import judging, models, rows, statistics
from lcbook.stats import clustered, intervals, rankings, survival
from lcbook.stats.estimate import Estimate
from lcbook.stats.intervals import Arm, Sample, sample

UNITS = (6, 8, 12)
REPEATS, FEWER, FEWEST = 1000, 400, 150  # simulations of each scenario; of those that take 10 or 100 ms each
CHANCE, ASKED = 0.1, 200
LENGTHS = 2.0 ** np.arange(6, 13)
ALIKE, KIN = 0.3, 0.8  # intraclass correlation of questions to one text, and of models of one family

Draw = np.random.Generator


@dataclass(frozen=True)
class Scenario:
    """Data of `units` units of evidence, whose truth is known, and the interval that judges them.

    `draw(rng, units)` returns what `interval` makes an estimate of. `repeats` are those of the long run; `promised`
    says whether the book promises 95 % there.
    """

    kind: str
    says: str
    truth: float
    draw: Callable[[Draw, int], Any]
    interval: Callable[[Any], Estimate]
    repeats: int = REPEATS
    promised: bool = True


def coverage(scenario: Scenario, units: int, repeats: int, seed: int = 0) -> dict[str, float]:
    """Return how often the interval of a scenario holds the truth, as shares of `repeats` simulations.

    `low_miss` and `high_miss` are how often all of it lies above, or below, the truth; `false_supported` is the larger
    of the two: how often a claim whose threshold is the truth itself is supported from the wrong side. `width` is the
    median width. Raises ValueError for fewer than two units or one repeat.
    """
    if units < 2 or repeats < 1:
        raise ValueError(f"units is {units} and repeats {repeats}; allowed are 2 or more, and 1 or more.")
    rng, near = np.random.default_rng((seed, units)), 1e-9
    found = [scenario.interval(scenario.draw(rng, units)) for _ in range(repeats)]
    low = float(np.mean([one.lower > scenario.truth + near for one in found]))
    high = float(np.mean([one.upper < scenario.truth - near for one in found]))
    return {
        "coverage": 1 - low - high,
        "low_miss": low,
        "high_miss": high,
        "false_supported": max(low, high),
        "width": float(np.median([one.high - one.low for one in found])),
    }


# ---- recall of seeds that may not learn


@dataclass(frozen=True)
class Seeds:
    """Seeds of one arm: a share `fails` of them guesses, the others recall `level` on average (Beta, `size` + 1)."""

    fails: float = 0.0
    level: float = 0.95
    size: float = 40.0

    @property
    def truth(self) -> float:
        return self.fails * CHANCE + (1 - self.fails) * self.level

    def arm(self, rng: Draw, units: int, sign: int = 1) -> Arm:
        past = rng.random(units) >= self.fails
        right = np.where(past, rng.beta(self.level * self.size, (1 - self.level) * self.size, units), CHANCE)
        values = rng.binomial(ASKED, right) / ASKED
        return Arm(sign * values, past, sign * CHANCE, (min(0.0, float(sign)), max(0.0, float(sign))))


def compared(rng: Draw, units: int, one: Seeds, *others: Seeds) -> Sample:
    """Return recall of an arm, less that of another if there is one."""
    arms = (one.arm(rng, units), *(other.arm(rng, units, -1) for other in others))
    return Sample(tuple(range(units)), arms)


def recalls(says: str, one: Seeds, *others: Seeds, promised: bool = True) -> Scenario:
    truth = one.truth - sum(other.truth for other in others)
    draw = partial(compared, one=one) if not others else lambda rng, units: compared(rng, units, one, *others)
    return Scenario("mean of recall", says, truth, draw, intervals.mean, promised=promised)


def unflagged(rng: Draw, units: int) -> Sample:
    return sample(Seeds(level=0.97).arm(rng, units).values, limits=(0.0, 1.0))


def normal(rng: Draw, units: int) -> Sample:
    return sample(rng.normal(1, 1, units))


def log_normal(rng: Draw, units: int, spread: float = 0.4) -> Sample:
    return sample(np.exp(rng.normal(0, spread, units)))


def failing_medians(rng: Draw, units: int) -> Sample:
    """Return octaves of reach, the fifth decile of which is 0: a tenth fails, at a lower limit of the lengths."""
    values = rng.normal(NINTH, 1, units)
    return sample(np.where(rng.random(units) < 0.1, -4.0, values).clip(-4, 4), limits=(-4.0, 4.0))


NINTH = 0.139710  # the median of nine in ten normal values that leaves half of all below: z at 5 / 9


def at_the_limit(rng: Draw, units: int) -> Sample:
    """Return octaves of reach, of which 0 is the median and three in ten lie beyond the longest length."""
    return sample(rng.normal(0, 1, units).clip(-4, 0.524), limits=(-4.0, 0.524))


def three(rng: Draw, units: int, ahead: float) -> dict[str, Sample]:
    """Return three arms whose means are 0, two of them less `ahead`."""
    return {name: sample(rng.normal(-lag, 1, units)) for name, lag in (("a", 0), ("b", ahead), ("c", ahead))}


def three_below(rng: Draw, units: int) -> dict[str, Sample]:
    return {name: sample(-one.values) for name, one in three(rng, units, 0).items()}


# ---- curves of recall by length


def logistic(octaves: np.ndarray) -> np.ndarray:
    """Return recall above chance so many octaves beyond n50."""
    return 1 / (1 + np.exp(1.5 * octaves))


def window(octaves: np.ndarray) -> np.ndarray:
    """Return recall above chance of a window of r tokens, min(1, r / n), whose n50 is 2 r."""
    return np.minimum(1.0, 2.0 ** (-1 - octaves))


def step(octaves: np.ndarray) -> np.ndarray:
    return (octaves <= 0).astype(float)


def curves(
    rng: Draw, units: int, shape: Callable[..., np.ndarray], spread: float = 0.3, asked: int = 100
) -> Any:
    """Return rows of seeds whose n50 lies about 600 tokens, so many octaves apart."""
    n50 = math.log2(600) + rng.normal(0, spread, (units, 1))
    right = rng.binomial(asked, CHANCE + (1 - CHANCE) * shape(np.log2(LENGTHS) - n50))
    seed, length = (one.ravel() for one in np.meshgrid(range(units), LENGTHS, indexing="ij"))
    columns = {"arm": "a", "seed": seed, "length": length, "correct": right.ravel()}
    return pd.DataFrame(columns).assign(total=asked, chance=CHANCE)


def median_n50(frame: pd.DataFrame) -> Estimate:
    return intervals.median(rows.n50(frame))


def one_run(frame: pd.DataFrame) -> Estimate:
    counts = (frame[name].to_numpy() for name in ("length", "correct", "total"))
    return stats.n50(*counts, chance=CHANCE)


def questions(rng: Draw, units: int, shape: Callable[..., np.ndarray]) -> pd.DataFrame:
    """Return one model that answers ten questions a unit at each length."""
    return curves(rng, 1, shape, spread=0.0, asked=10 * units)


def exponents(rng: Draw, units: int) -> pd.DataFrame:
    """Return rows of seeds whose n50 grows as the square root of a width."""
    parts = [
        curves(rng, units, lambda octaves, by=by: logistic(octaves - by / 2), 0.3, ASKED).assign(
            width=2.0**by
        )
        for by in (-2, 0, 2)
    ]
    return pd.concat(parts)


def slopes(frame: pd.DataFrame) -> Estimate:
    return intervals.mean(statistics.power_law(frame, x="length", by="width"))


# ---- questions to one text, models of one family, training


def texts(rng: Draw, units: int, level: float, depths: int = 5) -> pd.DataFrame:
    """Return answers to texts that were asked at several depths; those to one text are alike."""
    size = 1 / ALIKE - 1
    right = rng.random((units, depths)) < rng.beta(level * size, (1 - level) * size, (units, 1))
    named = np.repeat(np.arange(units), depths)
    return pd.DataFrame({"task": "a", "sample": named, "correct": right.ravel()}).assign(total=1, chance=0.0)


def clusters(frame: pd.DataFrame) -> Estimate:
    row = clustered.clustered_recall(frame, "task").iloc[0]
    return Estimate(row["recall"], row["low"], row["high"])


def texts_by_length(rng: Draw, units: int) -> pd.DataFrame:
    """Return answers to so many texts at each of five lengths, whose n50 is 600 tokens."""
    lengths = LENGTHS[1:-1]
    levels = zip(lengths, logistic(np.log2(lengths / 600)), strict=True)
    return pd.concat([texts(rng, units, level).assign(length=length) for length, level in levels])


def clustered_n50(frame: pd.DataFrame) -> Estimate:
    found = clustered.half_recall(frame)
    assert found is not None
    return found


def families(rng: Draw, units: int, size: int = 3) -> pd.DataFrame:
    """Return scores of models in families on two benchmarks that correlate at .6 in both."""
    draws = (rng.multivariate_normal([0, 0], [[1, 0.6], [0.6, 1]], count) for count in (units, units * size))
    family, own = draws
    kin = np.repeat(np.arange(units), size)
    scores = math.sqrt(KIN) * family[kin] + math.sqrt(1 - KIN) * own
    models_ = np.arange(len(kin))
    parts = [
        pd.DataFrame({"model": models_, "benchmark": name, "score": scores[:, i]})
        for i, name in enumerate("ab")
    ]
    return pd.concat(parts).assign(family=np.tile(kin, 2))


def tau(frame: pd.DataFrame) -> Estimate:
    family = frame.groupby("model")["family"].first()
    return rankings.tau_interval(frame, "a", "b", family=family)(0.95)


BUDGET = 2000.0


def waits(rng: Draw, units: int, middle: float) -> tuple[np.ndarray, np.ndarray]:
    at = np.ceil(np.exp(rng.normal(math.log(middle), 0.6, units)))
    return np.minimum(at, BUDGET), at <= BUDGET


def two_waits(rng: Draw, units: int) -> tuple[Any, Any]:
    return waits(rng, units, 800), waits(rng, units, 1600)


def ratio_of_waits(found: tuple[Any, Any]) -> Estimate:
    return survival.ratio_of_means(*found, survival.horizon(dict(enumerate(found))))


@cache
def restricted(middle: float) -> float:
    """Return the mean wait up to the budget, of two million seeds."""
    return float(waits(np.random.default_rng(0), 2_000_000, middle)[0].mean())


def shares(rng: Draw, units: int, one: float, other: float) -> tuple[np.ndarray, np.ndarray]:
    return flags(rng, units, one), flags(rng, units, other)


def differ(found: tuple[np.ndarray, np.ndarray]) -> Estimate:
    return intervals.share_difference(*found)


def flags(rng: Draw, units: int, level: float) -> np.ndarray:
    return rng.random(units) < level


# ---- shares of variance


def designs(rng: Draw, units: int) -> np.ndarray:
    """Return the recall of each model in each cell (models, depths, tasks)."""
    depth = rng.normal(0, 0.5, (units, 1, 1)) + np.array([-1, 0, 0, 1]).reshape(4, 1)
    return 1 / (
        1 + np.exp(-(0.5 + depth + rng.normal(0, 0.7, (units, 1, 3)) + rng.normal(0, 0.3, (units, 4, 3))))
    )


def cells(rng: Draw, units: int, asked: int = 40) -> pd.DataFrame:
    right = designs(rng, units)
    index = pd.MultiIndex.from_product([range(n) for n in right.shape], names=["arm", "depth", "task"])
    return pd.DataFrame({"correct": rng.binomial(asked, right).ravel(), "total": asked}, index).reset_index()


def share_of_variance(frame: pd.DataFrame) -> Estimate:
    return models.variance_share(frame, source="depth", factors=["depth", "task"]).interval(0.95)


@cache
def true_share() -> float:
    """Return the mean share of the depth, with the noise of 40 questions a cell, of a hundred thousand models."""
    right = designs(np.random.default_rng(0), 100_000)
    middle = right - right.mean((1, 2), keepdims=True)
    depth, noise = 3 * (middle.mean(2) ** 2).sum(1), 11 * (right * (1 - right) / 40).mean((1, 2))
    return float((depth / ((middle**2).sum((1, 2)) + noise)).mean())


# ---- a rate chosen on the judged seeds

RATES: Mapping[float, tuple[float, float, float]] = {  # share that solves, updates, octaves of reach
    0.001: (0.9, 1000, 2.0),
    0.003: (0.9, 1150, 1.5),
    0.01: (0.5, 900, 0.5),
}


def rates(rng: Draw, units: int) -> pd.DataFrame:
    parts = []
    for lr, (solves, updates, reach) in RATES.items():
        solved = rng.random(units) < solves
        taken = np.where(solved, updates * np.exp(rng.normal(0, 0.2, units)), math.nan)
        part = {
            "seed": range(units),
            "solved": solved,
            "updates_to_gate": taken,
            "in_distribution": solved * 1.0,
        }
        parts.append(pd.DataFrame(part).assign(lr=lr, octaves=rng.normal(reach, 0.5, units)))
    return pd.concat(parts).assign(arm="a", updates=3000)


def any_likely_rate(frame: pd.DataFrame) -> Estimate:
    likely = judging.choices(frame, "lr")["a"]
    return intervals.union(
        [intervals.median(sample(frame.loc[frame["lr"] == lr, "octaves"])) for lr in likely]
    )


def scenarios() -> list[Scenario]:
    """Return every scenario, by kind of interval."""
    distance = lambda one: intervals.distance(intervals.mean(one), 0.5)  # noqa: E731
    pair = lambda rng, units: (log_normal(rng, units), log_normal(rng, units, 0.6))  # noqa: E731
    ratio = lambda two: intervals.ratio_of_medians(*two)  # noqa: E731
    few: Any = {"repeats": FEWER}
    return [
        Scenario("mean", "normal values", 1.0, normal, intervals.mean),
        Scenario("mean", "bounded values near the limit, no gate", 0.97, unflagged, intervals.mean),
        Scenario("mean", "exponents of a power law", 0.5, exponents, slopes, repeats=FEWEST),
        Scenario("mean", "distance from a number", 0.5, normal, distance),
        recalls("every seed learns, near the ceiling", Seeds()),
        recalls("one seed in twenty does not learn", Seeds(0.05)),
        recalls("one seed in ten does not learn", Seeds(0.1)),
        recalls("one seed in five does not learn", Seeds(0.2), promised=False),
        recalls("half of the seeds do not learn", Seeds(0.5), promised=False),
        recalls("difference, one in ten fails in the first", Seeds(0.1), Seeds(0.0, 0.8, 20)),
        recalls("difference, one in ten fails in the second", Seeds(), Seeds(0.1, 0.8, 20)),
        recalls("difference, one in ten fails in both", Seeds(0.1), Seeds(0.1, 0.8, 20)),
        recalls("difference, the baseline never learns", Seeds(0.1), Seeds(1.0)),
        recalls("difference, the baseline learns one in twenty", Seeds(0.1), Seeds(0.95, 0.8, 20)),
        Scenario("geometric mean", "log-normal ratios", 1.0, log_normal, intervals.geometric_mean),
        Scenario("median", "normal values", 1.0, normal, intervals.median),
        Scenario("median", "log-normal values", 1.0, log_normal, intervals.median),
        Scenario("median", "one seed in ten does not learn", 0.0, failing_medians, intervals.median),
        Scenario("median", "three in ten beyond the longest length", 0.0, at_the_limit, intervals.median),
        Scenario("median", "of the best of three rates", 2.0, rates, any_likely_rate, **few),
        Scenario("ratio of medians", "log-normal values", 1.0, pair, ratio),
        Scenario("largest mean", "three equal arms", 0.0, partial(three, ahead=0.0), intervals.largest),
        Scenario("largest mean", "one arm ahead", 0.0, partial(three, ahead=2.0), intervals.largest),
        Scenario("smallest mean", "three equal arms", 0.0, three_below, intervals.smallest),
        Scenario("n50, median of seeds", "logistic", 600, partial(curves, shape=logistic), median_n50, **few),
        Scenario("n50, median of seeds", "window", 600, partial(curves, shape=window), median_n50, **few),
        Scenario("n50, median of seeds", "step", 600, partial(curves, shape=step), median_n50, **few),
        Scenario("n50, one model", "logistic", 600, partial(questions, shape=logistic), one_run, **few),
        Scenario("n50, one model", "window", 600, partial(questions, shape=window), one_run, **few),
        Scenario("n50, one model", "texts asked at five depths", 600, texts_by_length, clustered_n50, **few),
        Scenario(
            "recall of texts", "80 %, five depths each", 0.8, partial(texts, level=0.8), clusters, **few
        ),
        Scenario("share", "50 %", 0.5, partial(flags, level=0.5), intervals.share),
        Scenario("share", "90 %", 0.9, partial(flags, level=0.9), intervals.share),
        Scenario("difference of shares", "90 less 50 %", 0.4, partial(shares, one=0.9, other=0.5), differ),
        Scenario("difference of shares", "95 less 5 %", 0.9, partial(shares, one=0.95, other=0.05), differ),
        Scenario("Kendall's tau", "families of three", 2 / math.pi * math.asin(0.6), families, tau, **few),
        Scenario(
            "ratio of waits",
            "some never leave",
            restricted(800) / restricted(1600),
            two_waits,
            ratio_of_waits,
            **few,
        ),
        Scenario(
            "share of variance", "of the depth, at least", true_share(), cells, share_of_variance, **few
        ),
    ]


def table() -> pd.DataFrame:
    """Return a row for each scenario and number of units: what it is, and its `coverage`."""
    found = []
    for one in scenarios():
        for units in UNITS:
            about = {"kind": one.kind, "says": one.says, "promised": one.promised, "units": units}
            found.append(about | {"repeats": one.repeats} | coverage(one, units, one.repeats))
            print(
                ", ".join(f"{k} {v:.3f}" if isinstance(v, float) else f"{v}" for k, v in found[-1].items()),
                flush=True,
            )
    return pd.DataFrame(found)


def main() -> None:
    started = time.perf_counter()
    rows_ = table().to_dict(orient="records")
    about = references.provenance(time.perf_counter() - started)
    store.save_json(references.folder() / "calibration.json", {"provenance": about, "rows": rows_})


if __name__ == "__main__":
    main()
