"""Evaluation: a recall sweep of a real model by length and depth, from prompts to the report."""

from lcbook.evaluation import (
    bench, command, files, fitting, inspect, prompts, report, ruler, ruler_texts, scorers, sweep,
)  # fmt: skip

__all__ = [
    "bench", "command", "files", "fitting", "inspect", "prompts", "report", "ruler", "ruler_texts",
    "scorers", "sweep",
]  # fmt: skip
