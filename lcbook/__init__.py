"""lcbook: the package behind the book. `import lcbook as lc`; the modules stand in the order in which they build."""

from lcbook import costs, explore, explorers, normalizers, plots, positions, results, stats, tasks
from lcbook.claims import claim
from lcbook.evaluate import Probe
from lcbook.experiment import Run, Spec, best, grid, run, trained_model
from lcbook.model import ModelSpec
from lcbook.page import check, committed, committed_runs, fullest, judge, ledger, n50, reading, share
from lcbook.runtime import at, doubling, finish, scale, setup
from lcbook.tasks import KeyValueRecall
from lcbook.train import TrainSpec

__all__ = [
    "KeyValueRecall", "ModelSpec", "Probe", "Run", "Spec", "TrainSpec", "at", "best", "check", "claim",
    "committed", "committed_runs", "costs", "doubling", "explore", "explorers", "finish", "fullest", "grid",
    "judge", "ledger", "n50", "normalizers", "plots", "positions", "reading", "results", "run", "scale",
    "setup", "share", "stats", "tasks", "trained_model",
]  # fmt: skip
