"""lcbook: the package behind the book. `import lcbook as lc`; CONTRIBUTING.md shows its rooms."""

from lcbook import attention, evaluation, explorers, llm, models, plots, stats, tasks
from lcbook.attention import normalizers, patterns
from lcbook.experiments import schedules
from lcbook.experiments.measures import Probe
from lcbook.experiments.run import best, fine_tune, run, trained_model
from lcbook.experiments.spec import Run, Spec, grid
from lcbook.experiments.train import TrainSpec
from lcbook.models import mixers, positions
from lcbook.models.decoder import ModelSpec
from lcbook.page import (
    by_arm,
    calibration,
    check,
    committed_runs,
    file,
    fullest,
    judge,
    ledger,
    n50,
    reading,
    recall_beside,
    score,
    share,
    shares,
    stated,
)
from lcbook.runtime import at, doubling, finish, scale, setup
from lcbook.tasks.corpus import Corpus
from lcbook.tasks.hops import Hops
from lcbook.tasks.item_tokens import ItemTokens
from lcbook.tasks.mixture import Mixture
from lcbook.tasks.recall import KeyValueRecall
from lcbook.tasks.symbols import Symbols

__all__ = [
    "Corpus", "Hops", "ItemTokens", "KeyValueRecall", "Mixture", "ModelSpec", "Probe", "Run", "Spec", "Symbols",
    "TrainSpec", "at", "attention", "best", "by_arm", "calibration", "check", "committed_runs", "doubling",
    "evaluation", "explorers", "file", "fine_tune", "finish", "fullest", "grid", "judge", "ledger", "llm", "mixers",
    "models", "n50", "normalizers", "patterns", "plots", "positions", "reading", "recall_beside", "run", "scale",
    "schedules", "score", "setup", "share", "shares", "stated", "stats", "tasks", "trained_model",
]  # fmt: skip
