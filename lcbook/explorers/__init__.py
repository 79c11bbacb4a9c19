"""Explorers: figures that move without a kernel."""

from lcbook.explorers import (
    capacity,
    controls,
    costs,
    dilution,
    evaluation,
    fragment,
    patterns,
    positions,
    training,
)

__all__ = [
    "capacity",
    "controls",
    "costs",
    "dilution",
    "evaluation",
    "fragment",
    "patterns",
    "positions",
    "training",
]
