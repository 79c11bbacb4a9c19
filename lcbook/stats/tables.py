"""Tables that the chapters show: frames in, frames out. Their numbers come from the modules beside this one."""

from __future__ import annotations

import pandas as pd

from lcbook.stats.bootstrap import tost
from lcbook.stats.estimate import require_columns

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
