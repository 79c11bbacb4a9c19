"""lcbook: the package behind the book. `import lcbook as lc`; the modules stand in the order in which they build."""

from lcbook import (
    attention_costs,
    capacity,
    costs,
    delta,
    exact,
    explore,
    explorers,
    explorers_capacity,
    explorers_costs,
    explorers_patterns,
    forms,
    heads,
    mixers,
    normalizers,
    patterns,
    plots,
    positions,
    recurrent,
    results,
    segments,
    sparse,
    stats,
    tasks,
    timing,
)
from lcbook.claims import claim
from lcbook.evaluate import Probe
from lcbook.experiment import Run, Spec, best, grid, run, trained_model
from lcbook.hops import Hops
from lcbook.model import ModelSpec
from lcbook.page import check, committed, committed_runs, fullest, judge, ledger, n50, reading, share
from lcbook.runtime import at, doubling, finish, scale, setup
from lcbook.tasks import KeyValueRecall
from lcbook.train import TrainSpec

__all__ = [
    "Hops", "KeyValueRecall", "ModelSpec", "Probe", "Run", "Spec", "TrainSpec", "at", "attention_costs", "best",
    "capacity", "check", "claim", "committed", "committed_runs", "costs", "delta", "doubling", "exact", "explore",
    "explorers", "explorers_capacity", "explorers_costs", "explorers_patterns", "finish", "forms", "fullest", "grid",
    "heads", "judge", "ledger", "mixers", "n50", "normalizers", "patterns", "plots", "positions", "reading",
    "recurrent", "results", "run", "scale", "segments", "setup", "share", "sparse", "stats", "tasks", "timing",
    "trained_model",
]  # fmt: skip
