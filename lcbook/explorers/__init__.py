"""Explorers: figures that move without a kernel, and forms in which a trained model answers."""

from lcbook.explorers import (
    capacity, controls, costs, dilution, evaluation, forms, fragment, patterns, positions, training,
)  # fmt: skip

__all__ = [
    "capacity", "controls", "costs", "dilution", "evaluation", "forms", "fragment", "patterns", "positions",
    "training",
]  # fmt: skip
