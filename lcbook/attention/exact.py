"""Full causal attention, exactly, at other costs: whole, in tiles, in chunks of queries, around a ring of devices.

All rest on one identity. Softmax attention over a union of disjoint sets of keys is the average of attention over
each, weighted by the sums of exp(score), their masses:

    partial(q, A + B) = merge([partial(q, A), partial(q, B)])

So keys may be taken a few at a time, in any order and anywhere, if each part hands over its output and log mass.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from lcbook.formats import at_least

Part = tuple[Tensor, Tensor]  # out [... t e] and log_mass [... t]


def same_length(q: Tensor, k: Tensor, v: Tensor) -> None:
    """Raise ValueError unless q, k and v, [b h t d] each, have the same number of tokens, at least one."""
    at_least(1, length=q.shape[2])
    for name, x in (("k", k), ("v", v)):
        if x.shape[2] != q.shape[2]:
            raise ValueError(
                f"{name} has {x.shape[2]} tokens and q has {q.shape[2]}; allowed is the same number, each query "
                "standing at its key."
            )


def hide(mask: Tensor, like: Tensor) -> Tensor:
    """Return what, added to scores, hides the keys where `mask` is False: 0 or -inf."""
    return torch.zeros(mask.shape, dtype=like.dtype, device=like.device).masked_fill_(~mask, -torch.inf)


def _shares(scores: Tensor, dim: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return exp(scores - peak), its sum, which is 1 or more, and the log of the mass, sum exp(scores).

    Overwrites the scores. Where all are -inf, so is the log mass, the sum is given as 1, and gradients are 0, not NaN.
    """
    peak = scores.detach().amax(dim, keepdim=True).clamp(min=torch.finfo(scores.dtype).min)
    raised = scores.sub_(peak).exp_()
    mass = raised.sum(dim, keepdim=True)
    some = mass.clamp(min=1)
    log_mass = torch.where(mass > 0, some.log() + peak, -torch.inf)
    return raised, some, log_mass.squeeze(dim)


def partial(
    q: Float[Tensor, "*batch t d"],
    k: Float[Tensor, "*batch s d"],
    v: Float[Tensor, "*batch s e"],
    mask: Bool[Tensor, "..."] | None = None,
    *,
    scale: float | None = None,
) -> tuple[Float[Tensor, "*batch t e"], Float[Tensor, "*batch t"]]:
    """Return softmax attention over one set of keys, and the log of its mass: log sum exp(scale * q k^T).

    `mask` broadcasts to [... t s], True where a key is visible; a query that sees none has output 0 and log mass
    -inf. The scale is 1/sqrt(d) unless given.
    """
    scores = (q * (1 / math.sqrt(q.shape[-1]) if scale is None else scale)) @ k.transpose(-1, -2)
    if mask is not None:
        scores += hide(mask, scores)
    shares, mass, log_mass = _shares(scores, -1)
    return shares @ v / mass, log_mass


def merge(parts: Sequence[Part]) -> Part:
    """Return attention over the union of disjoint sets of keys from its parts, each an (out, log_mass).

    Raises ValueError if there is no part. Source: Dao et al. 2022, arXiv 2205.14135, section 3.1.
    """
    if not parts:
        raise ValueError("parts is empty; allowed is one part or more.")
    shares, mass, log_mass = _shares(torch.stack([log_mass for _, log_mass in parts]), 0)
    weights = (shares / mass)[..., None]
    out = parts[0][0] * weights[0]
    for (more, _), weight in zip(parts[1:], weights[1:], strict=True):
        out = out + more * weight
    return out, log_mass


def _causal(length: int, like: Tensor) -> Bool[Tensor, "t t"]:
    """Return the mask of `length` queries on the same number of keys at the same places."""
    return torch.ones(length, length, dtype=torch.bool, device=like.device).tril()


def naive(
    q: Float[Tensor, "b h t d"], k: Float[Tensor, "b h s d"], v: Float[Tensor, "b h s e"]
) -> Float[Tensor, "b h t e"]:
    """Return causal attention by the textbook: all t x t scores, their softmax, its product with v."""
    same_length(q, k, v)
    scores = (q / math.sqrt(q.shape[-1])) @ k.transpose(-1, -2)
    scores.masked_fill_(~_causal(q.shape[2], q), -torch.inf)
    return torch.softmax(scores, -1) @ v


def fused(
    q: Float[Tensor, "b h t d"], k: Float[Tensor, "b h s d"], v: Float[Tensor, "b h s e"]
) -> Float[Tensor, "b h t e"]:
    """Return causal attention by PyTorch's fused kernel, which computes as `tiled` does."""
    same_length(q, k, v)
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)


class _Tiled(torch.autograd.Function):
    """Attention tile by tile. The forward pass keeps the outputs and log masses; the backward pass recomputes
    the weights of each tile from them."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, tile: int) -> Tensor:
        spans = [slice(start, start + tile) for start in range(0, q.shape[2], tile)]
        out, log_mass = torch.empty_like(q[..., :1] * v[..., :1, :]), torch.empty_like(q[..., 0])
        for i, rows in enumerate(spans):
            mine = q[:, :, rows]
            seen = partial(mine, k[:, :, rows], v[:, :, rows], _causal(mine.shape[2], q))
            for columns in spans[:i]:  # tiles above the diagonal are all in the future
                seen = merge([seen, partial(mine, k[:, :, columns], v[:, :, columns])])
            out[:, :, rows], log_mass[:, :, rows] = seen
        ctx.save_for_backward(q, k, v, out, log_mass)
        ctx.spans = spans
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, out, log_mass = ctx.saved_tensors
        (d_out,) = gradients
        scale = 1 / math.sqrt(q.shape[-1])
        dq, dk, dv = torch.zeros_like(q), torch.zeros_like(k), torch.zeros_like(v)
        mean = (d_out * out).sum(-1, keepdim=True)  # of d_weights under the weights, for each query
        for i, rows in enumerate(ctx.spans):
            asking, d_mine = q[:, :, rows] * scale, d_out[:, :, rows]
            for columns in ctx.spans[: i + 1]:
                keys = k[:, :, columns]
                weights = torch.exp(asking @ keys.transpose(-1, -2) - log_mass[:, :, rows, None])
                if columns == rows:
                    weights = weights.tril()
                d_weights = d_mine @ v[:, :, columns].transpose(-1, -2)
                d_scores = weights * (d_weights - mean[:, :, rows])
                dv[:, :, columns] += weights.transpose(-1, -2) @ d_mine
                dk[:, :, columns] += d_scores.transpose(-1, -2) @ asking
                dq[:, :, rows] += d_scores @ keys * scale
        return dq, dk, dv, None


def tiled(
    q: Float[Tensor, "b h t d"], k: Float[Tensor, "b h s d"], v: Float[Tensor, "b h s e"], *, tile: int = 128
) -> Float[Tensor, "b h t e"]:
    """Return causal attention in tiles of `tile` queries by `tile` keys; memory is linear in the length.

    The log mass of the keys met so far carries the running maximum and sum of an online softmax. The gradient is
    that of softmax, d_scores = weights * (d_weights - sum(d_out * out)), tile by tile. Raises ValueError for a tile
    below 1. Sources: Milakov and Gimelshein 2018, arXiv 1805.02867; Rabe and Staats 2021, arXiv 2112.05682; Dao et
    al. 2022, arXiv 2205.14135, algorithms 1 and 4.
    """
    same_length(q, k, v)
    at_least(1, tile=tile)
    return _Tiled.apply(q, k, v, tile)


def chunked_prefill(
    q: Float[Tensor, "b h t d"], k: Float[Tensor, "b h s d"], v: Float[Tensor, "b h s e"], *, chunk: int = 512
) -> Float[Tensor, "b h t e"]:
    """Return causal attention as a server reads a prompt: `chunk` queries at a time, on all keys so far.

    A chunk sees what was cached before it in whole, and itself causally. Raises ValueError for a chunk below 1.
    Source: Agrawal et al. 2023, arXiv 2308.16369, section 4.2.
    """
    same_length(q, k, v)
    at_least(1, chunk=chunk)
    outs = []
    for start in range(0, q.shape[2], chunk):
        rows = slice(start, start + chunk)
        mine = q[:, :, rows]
        parts = [partial(mine, k[:, :, rows], v[:, :, rows], _causal(mine.shape[2], q))]
        if start:
            parts.append(partial(mine, k[:, :, :start], v[:, :, :start]))
        outs.append(merge(parts)[0])
    return torch.cat(outs, 2)


def ring(
    q: Float[Tensor, "b h t d"], k: Float[Tensor, "b h s d"], v: Float[Tensor, "b h s e"], *, devices: int = 4
) -> Float[Tensor, "b h t e"]:
    """Return causal attention as `devices` devices in a ring compute it, here one after another.

    Each holds one shard of the text and keeps its queries, while the shards of keys and values go round: after r
    steps device i has those of device i - r. Shards of later tokens it lets pass. Where the text has fewer tokens
    than devices, some stay idle. Raises ValueError for fewer than one device.
    Source: Liu et al. 2023, arXiv 2310.01889, algorithm 1.
    """
    same_length(q, k, v)
    at_least(1, devices=devices)
    devices = min(devices, q.shape[2])
    asking, keys, values = (x.tensor_split(devices, 2) for x in (q, k, v))
    seen = [partial(*mine, _causal(mine[0].shape[2], q)) for mine in zip(asking, keys, values, strict=True)]
    for step in range(1, devices):
        for device in range(step, devices):
            passing = device - step
            seen[device] = merge([seen[device], partial(asking[device], keys[passing], values[passing])])
    return torch.cat([out for out, _ in seen], 2)
