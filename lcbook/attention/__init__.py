"""Attention: how queries, keys and values are mixed, in every form the book compares, and what each costs."""

from lcbook.attention import (
    attend, backends, costs, delta, exact, linear, normalizers, patterns, segments, sparse, timing,
)  # fmt: skip

__all__ = [
    "attend", "backends", "costs", "delta", "exact", "linear", "normalizers", "patterns", "segments",
    "sparse", "timing",
]  # fmt: skip
