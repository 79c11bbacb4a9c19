"""lcbook: the package behind the book. `import lcbook as lc`; the modules stand in the order in which they build."""

from lcbook import (
    attention_costs,
    capacity,
    clustered,
    corpus,
    costs,
    delta,
    dependence,
    effective,
    exact,
    explore,
    explorers,
    explorers_capacity,
    explorers_costs,
    explorers_dilution,
    explorers_evaluation,
    explorers_patterns,
    explorers_training,
    forecast,
    forms,
    heads,
    items,
    llm,
    longrange,
    mixers,
    normalizers,
    patterns,
    plots,
    plots_evaluation,
    positions,
    ranks,
    real_models,
    recurrent,
    remedies,
    results,
    samples,
    schedules,
    scorers,
    segments,
    sparse,
    stats,
    stream_costs,
    streaming,
    survival,
    sweep,
    tasks,
    timing,
    trace,
    variance,
    words,
)
from lcbook.claims import claim
from lcbook.corpus import Corpus
from lcbook.evaluate import Probe
from lcbook.experiment import Run, Spec, best, fine_tune, grid, run, trained_model
from lcbook.hops import Hops
from lcbook.item_tokens import ItemTokens
from lcbook.mixtures import Mixture
from lcbook.model import ModelSpec
from lcbook.page import check, committed, committed_runs, fullest, judge, ledger, n50, reading, score, share
from lcbook.runtime import at, doubling, finish, scale, setup
from lcbook.symbols import Symbols
from lcbook.tasks import KeyValueRecall
from lcbook.train import TrainSpec

__all__ = [
    "Corpus", "Hops", "ItemTokens", "KeyValueRecall", "Mixture", "ModelSpec", "Probe", "Run", "Spec", "Symbols",
    "TrainSpec", "at", "attention_costs", "best", "capacity", "check", "claim", "clustered", "committed",
    "committed_runs", "corpus", "costs", "delta", "dependence", "doubling", "effective", "exact", "explore",
    "explorers", "explorers_capacity", "explorers_costs", "explorers_dilution", "explorers_evaluation",
    "explorers_patterns", "explorers_training", "fine_tune", "finish", "forecast", "forms", "fullest", "grid",
    "heads", "items", "judge", "ledger", "llm", "longrange", "mixers", "n50", "normalizers", "patterns",
    "plots", "plots_evaluation", "positions", "ranks", "reading", "real_models", "recurrent", "remedies",
    "results", "run", "samples", "scale", "schedules", "score", "scorers", "segments", "setup", "share",
    "sparse", "stats", "stream_costs", "streaming", "survival", "sweep", "tasks", "timing", "trace",
    "trained_model", "variance", "words",
]  # fmt: skip
