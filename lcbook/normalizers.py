"""Normalizers: the maps that turn a row of scores into weights.

Each takes scores of any shape, with -inf where a key is not visible, and a dimension; it returns weights of the
same shape that are zero at -inf and sum to one along that dimension.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor


def softmax(scores: Float[Tensor, "*rows"], dim: int = -1) -> Float[Tensor, "*rows"]:
    """exp(s_j) / sum_i exp(s_i). A row without a visible key is NaN, as in PyTorch."""
    return torch.softmax(scores, dim)


def log_n_softmax(scores: Float[Tensor, "*rows"], dim: int = -1) -> Float[Tensor, "*rows"]:
    """softmax(log(n) * s), n the number of visible keys in the row (at least 2, so that log n > 0).

    A margin of s then outgrows the n competitors at any length. The paper's learned factor in front of log n is
    the model's own query-key scale here. Source: Nakanishi 2025 (Scalable-Softmax), arXiv 2501.19399, eq. 3.
    """
    visible = torch.isfinite(scores).sum(dim, keepdim=True).clamp(min=2)
    return torch.softmax(scores * visible.to(scores.dtype).log(), dim)


NORMALIZERS: dict[str, Callable[..., Tensor]] = {
    "softmax": softmax,
    "log-n softmax": log_n_softmax,
}


def normalizer(name: str) -> Callable[..., Tensor]:
    """Return the normalizer called `name`. Raises ValueError for an unknown name, listing those that exist."""
    if name not in NORMALIZERS:
        raise ValueError(f"normalizer is {name!r}; allowed are {', '.join(NORMALIZERS)}.")
    return NORMALIZERS[name]
