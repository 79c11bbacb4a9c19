"""lcbook: the package behind the book. `import lcbook as lc`; the modules stand in the order in which they build."""

from lcbook import (
    attention_costs,
    costs,
    exact,
    explore,
    explorers,
    explorers_costs,
    explorers_patterns,
    forms,
    normalizers,
    patterns,
    plots,
    positions,
    recurrent,
    results,
    sparse,
    stats,
    tasks,
    timing,
)
from lcbook.claims import claim
from lcbook.evaluate import Probe
from lcbook.experiment import Run, Spec, best, grid, run, trained_model
from lcbook.model import ModelSpec
from lcbook.page import check, committed, committed_runs, fullest, judge, ledger, n50, reading, share
from lcbook.runtime import at, doubling, finish, scale, setup
from lcbook.tasks import KeyValueRecall
from lcbook.train import TrainSpec

__all__ = [
    "KeyValueRecall", "ModelSpec", "Probe", "Run", "Spec", "TrainSpec", "at", "attention_costs", "best", "check",
    "claim", "committed", "committed_runs", "costs", "doubling", "exact", "explore", "explorers", "explorers_costs",
    "explorers_patterns", "finish", "forms", "fullest", "grid", "judge", "ledger", "n50", "normalizers", "patterns",
    "plots", "positions", "reading", "recurrent", "results", "run", "scale", "setup", "share", "sparse", "stats",
    "tasks", "timing", "trained_model",
]  # fmt: skip
