"""lcbook: the package behind the book. `import lcbook as lc`; the modules stand in the order in which they build."""

from lcbook import (
    attention_costs,
    capacity,
    corpus,
    costs,
    delta,
    dependence,
    exact,
    explore,
    explorers,
    explorers_capacity,
    explorers_costs,
    explorers_dilution,
    explorers_patterns,
    explorers_training,
    forecast,
    forms,
    heads,
    longrange,
    mixers,
    normalizers,
    patterns,
    plots,
    positions,
    recurrent,
    remedies,
    results,
    schedules,
    segments,
    sparse,
    stats,
    stream_costs,
    streaming,
    survival,
    tasks,
    timing,
    trace,
)
from lcbook.claims import claim
from lcbook.corpus import Corpus
from lcbook.evaluate import Probe
from lcbook.experiment import Run, Spec, best, fine_tune, grid, run, trained_model
from lcbook.hops import Hops
from lcbook.mixtures import Mixture
from lcbook.model import ModelSpec
from lcbook.page import check, committed, committed_runs, fullest, judge, ledger, n50, reading, score, share
from lcbook.runtime import at, doubling, finish, scale, setup
from lcbook.symbols import Symbols
from lcbook.tasks import KeyValueRecall
from lcbook.train import TrainSpec

__all__ = [
    "Corpus", "Hops", "KeyValueRecall", "Mixture", "ModelSpec", "Probe", "Run", "Spec", "Symbols", "TrainSpec",
    "at", "attention_costs", "best", "capacity", "check", "claim", "committed", "committed_runs", "corpus",
    "costs", "delta", "dependence", "doubling", "exact", "explore", "explorers", "explorers_capacity",
    "explorers_costs", "explorers_dilution", "explorers_patterns", "explorers_training", "fine_tune", "finish",
    "forecast", "forms", "fullest", "grid", "heads", "judge", "ledger", "longrange", "mixers", "n50",
    "normalizers", "patterns", "plots", "positions", "reading", "recurrent", "remedies", "results", "run",
    "scale", "schedules", "score", "segments", "setup", "share", "sparse", "stats", "stream_costs", "streaming",
    "survival", "tasks", "timing", "trace", "trained_model",
]  # fmt: skip
