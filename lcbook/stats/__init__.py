"""Statistics: intervals over seeds, n50, rankings, variance, survival and sample sizes; frames in, numbers out."""

from lcbook.stats import clustered, effective, rankings, sample_size, survival, tables, timings, variance
from lcbook.stats._cells import (
    bend,
    crossings,
    geometric_ratio,
    matching,
    recalls,
    selection_miss,
    tilt,
    used_reach,
)
from lcbook.stats.bootstrap import (
    Estimate,
    Number,
    Values,
    bootstrap,
    difference_of_shares,
    holm,
    median_n50,
    n50,
    n50_point,
    n50_table,
    p_solve,
    recall,
    resampled_interval,
    slope,
    tost,
    wilson,
)

__all__ = [
    "Estimate", "Number", "Values", "bend", "bootstrap", "clustered", "crossings", "difference_of_shares",
    "effective", "geometric_ratio", "holm", "matching", "median_n50", "n50", "n50_point", "n50_table", "p_solve",
    "rankings", "recall",
    "recalls", "resampled_interval", "sample_size", "selection_miss", "slope", "survival", "tables", "tilt",
    "timings", "tost", "used_reach", "variance", "wilson",
]  # fmt: skip
