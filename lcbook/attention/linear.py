"""Linear attention: causal attention whose kernel is a product of features, so that the past fits a fixed state.

    out_t = sum_{s <= t} (f(q_t) . f(k_s)) v_s / sum_{s <= t} f(q_t) . f(k_s)      with f(x) = elu(x) + 1
          = f(q_t) S_t / f(q_t) z_t      with S_t = S_{t-1} + f(k_t) v_t^T and z_t = z_{t-1} + f(k_t)

Computed in chunks, by pairs inside a chunk and by the state (S, z) between chunks.
Source: Katharopoulos et al. 2020, arXiv 2006.16236, eqs. 7 to 9 and 16 to 20.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import elu, pad

from lcbook.attention.exact import same_length
from lcbook.formats import at_least


def features(x: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d"]:
    """Return elu(x) + 1: x + 1 for positive x, exp(x) below, so that no weight is negative."""
    return elu(x) + 1


def linear_attention(
    q: Float[Tensor, "b h t d"], k: Float[Tensor, "b h s d"], v: Float[Tensor, "b h s e"], *, chunk: int = 64
) -> Float[Tensor, "b h t e"]:
    """Return causal linear attention, computed for all chunks of `chunk` tokens at once; time is linear in t.

    Raises ValueError for a chunk below 1. Source for the chunks: Hua et al. 2022, arXiv 2202.10447, section 3.3.
    """
    same_length(q, k, v)
    at_least(1, chunk=chunk)
    length = q.shape[2]
    chunk = min(chunk, length)
    v = torch.cat([v, torch.ones_like(v[..., :1])], -1)  # the sum of the weights is one more value to sum
    count = -(-length // chunk)
    q, k, v = (pad(x, (0, 0, 0, count * chunk - length)).unflatten(2, (count, chunk)) for x in (q, k, v))
    q, k = features(q), features(k)
    inside = (q @ k.transpose(-1, -2)).tril() @ v
    added = k.transpose(-1, -2) @ v
    before = pad(added.cumsum(2)[:, :, :-1], (0, 0, 0, 0, 1, 0))
    summed = (inside + q @ before).flatten(2, 3)[:, :, :length]
    return summed[..., :-1] / summed[..., -1:]
