"""Experiments: a grid of runs, each trained, changed and measured, as rows of a tidy frame."""

from lcbook.experiments import (
    changes, checkpoint, forecast, heads, longppl, measures, run, schedules, spec, streaming, trace, train,
)  # fmt: skip

__all__ = [
    "changes", "checkpoint", "forecast", "heads", "longppl", "measures", "run", "schedules", "spec",
    "streaming", "trace", "train",
]  # fmt: skip
