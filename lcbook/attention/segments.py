"""Reading in segments: attention that stops at the segment before, a matrix that sums up all earlier segments, and
memory tokens that carry the past through a whole model.

    segment 1        segment 2        segment 3
    [m] x x x x [m]  [m] x x x x [m]  [m] x x x x [m]      RMT: what leaves the right [m] enters the next left [m]
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from lcbook.attention.attend import attend
from lcbook.attention.exact import same_length
from lcbook.attention.linear import features


def segments_of(x: Float[Tensor, "b h t d"], segment: int) -> Float[Tensor, "b n h segment d"]:
    """Cut a sequence into segments, the last filled up with zeros.

    Raises ValueError for a segment below 1 or longer than the sequence.
    """
    length = x.shape[2]
    if not 1 <= segment <= length:
        raise ValueError(
            f"segment is {segment} for {length} tokens; allowed is 1 to the length of the sequence."
        )
    count = -(-length // segment)
    return pad(x, (0, 0, 0, count * segment - length)).unflatten(2, (count, segment)).transpose(1, 2)


def _joined(x: Float[Tensor, "b n h segment d"], length: int) -> Float[Tensor, "b h t d"]:
    """Return the sequence whose segments are `x`, without what the last was filled up with."""
    return x.transpose(1, 2).flatten(2, 3)[:, :, :length]


def segment_attention(
    q: Float[Tensor, "b h t d"],
    k: Float[Tensor, "b g s d"],
    v: Float[Tensor, "b g s e"],
    *,
    segment: int,
    before: tuple[Float[Tensor, "b g s d"], Float[Tensor, "b g s e"]] | None = None,
    scale: float | Float[Tensor, "..."] | None = None,
) -> Float[Tensor, "b h t e"]:
    """Return causal softmax attention within each segment of `segment` tokens.

    With `before`, keys and values of all tokens by which the *next* segment sees them (Transformer-XL computes them
    from inputs cut off from the gradient), a query also sees the whole segment before its own.
    Raises ValueError for lengths that differ, or a segment below 1 or longer than the sequence.
    """
    same_length(q, k, v)
    cut = [segments_of(x, segment) for x in (q, k, v)]
    mask = torch.ones(segment, segment, dtype=torch.bool, device=q.device).tril()[None]
    count = cut[0].shape[1]
    if before is not None:
        # Every segment but the first meets the one before it; the first meets zeros, which it does not see.
        late = [pad(segments_of(x, segment)[:, :-1], (0, 0, 0, 0, 0, 0, 1, 0)) for x in before]
        cut[1:] = [torch.cat([old, new], dim=3) for old, new in zip(late, cut[1:], strict=True)]
        known = (torch.arange(count, device=q.device) > 0)[:, None, None].expand(-1, segment, segment)
        mask = torch.cat([known, mask.expand(count, -1, -1)], dim=2)
    if isinstance(scale, Tensor):
        scale = scale.broadcast_to(q.shape[1], 1, 1)
    mask = mask[:, None].expand(count, *[-1] * 3).repeat(q.shape[0], 1, 1, 1)
    out, _ = attend(*(x.flatten(0, 1) for x in cut), mask=mask, scale=scale)
    return _joined(out.unflatten(0, (q.shape[0], count)), q.shape[2])


def compressive_memory(
    q: Float[Tensor, "b h t d"],
    k: Float[Tensor, "b h s d"],
    v: Float[Tensor, "b h s e"],
    *,
    segment: int,
    delta: bool = False,
) -> Float[Tensor, "b h t e"]:
    """Return what each query reads from a linear-attention matrix of all segments before its own, 0 in the first.

    A segment adds f(K)^T V, or with `delta` f(K)^T (V - what f(K) reads already). Raises ValueError as `segments_of`.
    Source: Munkhdalai et al. 2024, arXiv 2404.07143, memory retrieval and update, and its "linear + delta" form.
    """
    same_length(q, k, v)
    # Where the last segment is filled up, keys write nothing; queries read something, lest 0/0 spoil the gradient.
    q_, k_, v_ = features(segments_of(q, segment)), segments_of(features(k), segment), segments_of(v, segment)
    matrix, norm, reads = None, None, []
    for i in range(q_.shape[1]):
        asking, key, value = q_[:, i], k_[:, i], v_[:, i]
        if matrix is None or norm is None:
            reads.append(torch.zeros_like(value[..., :1]).expand(*asking.shape[:3], value.shape[-1]))
            written, total = value, key.sum(2)
        else:
            known = (asking @ norm[..., None]).clamp(
                min=torch.finfo(norm.dtype).tiny
            )  # 0 where features underflow
            reads.append(asking @ matrix / known)
            held = key @ matrix / (key @ norm[..., None]).clamp(min=1e-6) if delta else 0
            written, total = value - held, norm + key.sum(2)
        added = key.transpose(-1, -2) @ written
        matrix, norm = added if matrix is None else matrix + added, total
    return _joined(torch.stack(reads, dim=1), q.shape[2])


def recurrent_memory(
    x: Float[Tensor, "b t width"],
    memory: Float[Tensor, "m width"],
    segment: int,
    layers: Callable[[Float[Tensor, "b s width"]], Float[Tensor, "b s width"]],
) -> Float[Tensor, "b t width"]:
    """Read `x` segment by segment through `layers`, with the memory in front to read from and behind to write to.

    What the layers make of the memory behind a segment is the memory of the next, and the gradient flows back through
    all of them. Raises ValueError for a segment below 1 or longer than the sequence.
    Source: Bulatov et al. 2022, arXiv 2207.06881, section 3.2 (their decoder form).
    """
    if not 1 <= segment <= x.shape[1]:
        raise ValueError(
            f"segment is {segment} for {x.shape[1]} tokens; allowed is 1 to the length of the sequence."
        )
    count, held, outs = memory.shape[0], memory.expand(x.shape[0], -1, -1), []
    for part in x.split(segment, dim=1):
        out = layers(torch.cat([held, part, held], dim=1))
        outs.append(out[:, count : count + part.shape[1]])
        held = out[:, count + part.shape[1] :]
    return torch.cat(outs, dim=1)
