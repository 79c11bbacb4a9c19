"""Tables that the chapters show: frames in, frames out. Their numbers come from the modules beside this one."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from lcbook.stats.bootstrap import tost
from lcbook.stats.clustered import clustered_recall, interval, length_of
from lcbook.stats.effective import RULES, effective_table
from lcbook.stats.estimate import Estimate, require_columns
from lcbook.stats.rankings import reversals

SAME = 0.01  # of recall: forms that differ by less are equal for our purposes


def recall_gap(frame: pd.DataFrame, one: str, other: str, *, by: str = "seed") -> pd.Series:
    """Return the recall of arm `one` less that of arm `other`, in points, for each value of `by` (NaN without both).

    Raises ValueError for missing columns or no rows.
    """
    require_columns(frame, [by, "arm", "correct", "total"])
    sums = frame.groupby([by, "arm"])[["correct", "total"]].sum()
    recall = (100 * sums["correct"] / sums["total"]).unstack().reindex(columns=[one, other])
    return (recall[one] - recall[other]).rename("points")


def exact_forms(frame: pd.DataFrame) -> pd.DataFrame:
    """Return what each probe of a form of attention changes beside the first probe: one row each, in words.

    Columns recall, changed (share of answers), logits (largest difference) and "TOST p", that recall by seed lies
    within a hundredth of the first probe's ("equal" where no seed differs). Raises ValueError for missing columns
    (probe, seed, correct, total, changed, logit_difference).
    """
    require_columns(frame, ["probe", "seed", "correct", "total", "changed", "logit_difference"])
    sums = frame.groupby("probe", sort=False)[["correct", "changed", "total"]].sum()
    moved = frame.groupby("probe", sort=False)["logit_difference"].max()
    seeds = frame.assign(recall=frame["correct"] / frame["total"]).pivot(
        index="seed", columns="probe", values="recall"
    )
    apart = [seeds[name] - seeds[sums.index[0]] for name in sums.index]
    same = ["equal" if not one.any() else f"{tost(one, SAME):.2g}" if len(one) > 1 else "" for one in apart]
    recall, changed = (
        (100 * sums[name] / sums["total"]).map("{:.1f} %".format) for name in ("correct", "changed")
    )
    found = {"recall": recall, "changed": changed, "logits": moved.map("{:.1g}".format), "TOST p": same}
    table = pd.DataFrame(found).rename_axis("form")
    table.loc[table.index[0], ["logits", "TOST p"]] = ""
    return table


def probes_as_arms(frame: pd.DataFrame, arms: Mapping[str, str]) -> pd.DataFrame:
    """Return the rows of the probes that `arms` names, each an arm of that name; each arm becomes a seed.

    So that a figure or a claim compares what was asked, and models are what it generalizes over.
    """
    rows = frame[frame["probe"].isin(list(arms))]
    return rows.assign(seed=rows["arm"], arm=rows["probe"].map(arms), probe="")


def benchmarks(scores: pd.DataFrame) -> pd.DataFrame:
    """Return the recall in per cent of each model (rows) by benchmark (columns), and its text loss in nats.

    `scores` is a frame of `rankings.benchmark_scores`.
    """
    by = scores[scores["total"] > 0].groupby(["model", "benchmark"], sort=False)[["correct", "total"]].sum()
    recall = (100 * by["correct"] / by["total"]).unstack().round(0).astype(int)
    loss = -scores[scores["total"] == 0].groupby("model", sort=False)["score"].mean()
    return _bare(recall.assign(**{"text loss": loss.round(2)}))


def swaps(scores: pd.DataFrame, benchmarks: Mapping[str, str], most: int = 12) -> pd.DataFrame:
    """Return the pairs of models that two benchmarks order differently, as `rankings.reversals`, widest swap first.

    `benchmarks` says of either what it is, as in {"needle": "in filler"}. Differences are in points.
    """
    a, b = benchmarks
    found = reversals(scores, a, b)
    ahead, behind = 100 * found["difference_a"], -100 * found["difference_b"]
    table = pd.DataFrame(
        {
            f"better {benchmarks[a]}": found["first"],
            f"better {benchmarks[b]}": found["second"],
            f"ahead {benchmarks[a]} (points)": ahead.round(0),
            f"behind {benchmarks[b]} (points)": behind.round(0),
        }
    )
    return table.loc[np.minimum(ahead, behind).nlargest(most).index]


def effective_lengths(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the effective length of each arm (rows) by each rule (columns), with its interval, in words."""
    found = effective_table(frame)
    shown = [
        length_of(Estimate(row["length"], row["low"], row["high"], row["censored"]))
        for row in found.to_dict(orient="records")
    ]
    return _bare(found.assign(shown=shown).pivot(index="arm", columns="rule", values="shown")[list(RULES)])


def clustered(frame: pd.DataFrame, rows: str, columns: str) -> pd.DataFrame:
    """Return the recall of requests, with its interval over samples, by two columns of `frame`, in words."""
    found = clustered_recall(frame, [rows, columns])
    return found.assign(shown=found.apply(interval, axis=1)).pivot(
        index=rows, columns=columns, values="shown"
    )


def _bare(table: pd.DataFrame) -> pd.DataFrame:
    """Return `table` without names over its rows and columns."""
    return table.rename_axis(None).rename_axis(None, axis=1)
