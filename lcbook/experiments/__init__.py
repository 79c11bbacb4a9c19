"""Experiments: a grid of runs, each trained, changed and measured, as rows of a tidy frame."""

from lcbook.experiments import (
    bench,
    checkpoint,
    forecast,
    heads,
    longppl,
    measures,
    run,
    schedules,
    stream_costs,
    streaming,
    trace,
    train,
)

__all__ = [
    "bench",
    "checkpoint",
    "forecast",
    "heads",
    "longppl",
    "measures",
    "run",
    "schedules",
    "stream_costs",
    "streaming",
    "trace",
    "train",
]
