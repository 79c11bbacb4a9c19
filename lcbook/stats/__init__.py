"""Statistics: intervals over seeds, n50, rankings, variance, survival and sample sizes; frames in, numbers out."""

from lcbook.stats import clustered, effective, rankings, sample_size, survival, timings, variance
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
    "Estimate", "Number", "Values", "bootstrap", "clustered", "difference_of_shares", "effective",
    "holm", "median_n50", "n50", "n50_point", "n50_table", "p_solve", "rankings",
    "recall", "resampled_interval", "sample_size", "slope",
    "survival", "timings", "tost", "variance", "wilson",
]  # fmt: skip
