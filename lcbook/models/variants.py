"""Remedies: four changes to softmax attention that are meant to keep a long text from drowning what matters.

Softmax attention gives every key some weight, and the sum over thousands that do not matter grows with the length. The
learned sink lets a head attend to nothing, the forget gate fades what is old, differential attention subtracts what two
maps have in common, selective attention lets tokens strike out earlier ones.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import assert_never

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from lcbook.attention.normalizers import sink_softmax
from lcbook.models.layers import DECAY_AT_START, Asked, Attention, places
from lcbook.models.mixers import Attending, Differential, ForgettingGate, LearnedSink, Selective
from lcbook.models.positions import PositionEncoding
from lcbook.models.spec import ModelSpec

LAMBDA_STD = 0.1  # of the vectors that make lambda, at the start


def forgetting_bias(
    log_f: Float[Tensor, "b h s"], at: Int[Tensor, "_ t"] | None = None
) -> Float[Tensor, "b h t s"]:
    """D_ts = sum_{l=s+1..t} log f_l, for the queries at the places `at` (all places if None).

    Added to the scores, it multiplies the weight of a key by the forget gates of all tokens after it, up to the query.
    Where the key comes after the query, what stands here is for the causal mask to hide.
    Source: Lin et al. 2025, arXiv 2503.02130, section 3 (their F_ij = exp D_ij).
    """
    total = log_f.cumsum(-1)
    asking = total if at is None else total.gather(2, at[:, None].expand(*log_f.shape[:2], -1))
    return asking[..., None] - total[..., None, :]


def selection(scores: Float[Tensor, "b s s"]) -> Float[Tensor, "b s s"]:
    """F_ts = sum_{u<t} S_us, S_us = max(0, scores_us) for 0 < s < u and 0 elsewhere.

    S_us says how much token u has token s masked for all later ones: none masks itself, the first one or one that comes
    after it, and none can take back what was masked. F, at least 0, is to be subtracted from the scores of all heads.
    Source: Leviathan et al. 2024, arXiv 2410.02703, section 3.
    """
    chosen = scores.relu().tril(-1)
    masked = nn.functional.pad(chosen[:, :-1, 1:], (1, 0, 1, 0))  # the sum for query t ends with row t - 1
    return masked.cumsum(1)


def differential(
    first: Float[Tensor, "b h t s"], second: Float[Tensor, "b h t s"], lam: Float[Tensor, ""]
) -> Float[Tensor, "b h t s"]:
    """softmax(first) - lam * softmax(second), each along the keys; -inf hides a key. A row sums to 1 - lam.

    Source: Ye et al. 2024, arXiv 2410.05258, eq. 1.
    """
    return torch.softmax(first, -1) - lam * torch.softmax(second, -1)


def lambda_at_start(mixer: Differential, layer: int) -> float:
    """start * (1 - 3/4 exp(-0.3 * layer)), the layers counted from 0; with start 0.8 it is 0.8 - 0.6 exp(-0.3 * layer).

    Source: Ye et al. 2024, arXiv 2410.05258, section 2.1 (their layers l are counted from 1).
    """
    return mixer.start * (1 - 0.75 * math.exp(-0.3 * layer))


class Remedied(Attention):
    """Causal attention over all keys; a subclass says how scores become weights, and what becomes of the outputs.

    `ModelSpec` allows no `documents` here.
    """

    def project(
        self,
        x: Float[Tensor, "b s width"],
        positions: Int[Tensor, "_ s"],
        at: Int[Tensor, "b t"] | None = None,
        documents: Int[Tensor, "b s"] | None = None,
    ) -> Asked:
        """Return what the queries at the places `at` (all places if None) meet, and what their weights share."""
        asked = super().project(x, positions, at, documents)
        return replace(asked, shared=self.share(x, asked.k))

    def read(self, asked: Asked) -> Float[Tensor, "b h t d"]:
        """Return the values as the queries of `asked` mix them, all their scores at once."""
        return self.weigh(asked) @ asked.v

    def share(self, x: Float[Tensor, "b s width"], k: Float[Tensor, "b h s d"]) -> Tensor | None:
        """Return what the weights of all queries rest on beside their scores, computed once."""
        return None

    def weigh(self, asked: Asked) -> Float[Tensor, "b h t s"]:
        """Return the weights by which the queries of `asked` mix the values."""
        raise NotImplementedError


def scores_of(asked: Asked, bias: Float[Tensor, "b _ t s"] | None = None) -> Float[Tensor, "b h t s"]:
    """Return scale * q k^T + bias, -inf where a query does not see the key."""
    scores = (asked.q * asked.scale) @ asked.k.transpose(-1, -2)
    if bias is not None:
        scores += bias
    mask = asked.mask
    scores += torch.zeros(mask.shape, dtype=scores.dtype, device=scores.device).masked_fill_(
        ~mask, -torch.inf
    )
    return scores


class SinkAttention(Remedied):
    """weights_j = exp(s_j) / (exp(sink) + sum_i exp(s_i)), with a learned sink a head, 0 at the start.

    Source: OpenAI 2025, arXiv 2508.10925 (gpt-oss).
    """

    def __init__(self, spec: ModelSpec, encoding: PositionEncoding, layer: int) -> None:
        super().__init__(spec, encoding, layer)
        self.sink = nn.Parameter(torch.zeros(spec.heads, 1, 1))

    def weigh(self, asked: Asked) -> Tensor:
        return sink_softmax(scores_of(asked), -1, sink=self.sink)


class ForgettingAttention(Remedied):
    """softmax(scores + D) with D of the gates f_t = sigmoid(w x_t + b) (see `forgetting_bias`), w and b for each head.

    At the start w is 0 and b 5, as in the gated delta rule here: a token leaves 0.993 of what was before it. The
    paper's code starts b at 0. Source: Lin et al. 2025, arXiv 2503.02130, section 3.
    """

    def __init__(self, spec: ModelSpec, encoding: PositionEncoding, layer: int) -> None:
        super().__init__(spec, encoding, layer)
        self.gates = nn.Linear(spec.width, spec.heads)
        nn.init.zeros_(self.gates.weight)
        nn.init.constant_(self.gates.bias, DECAY_AT_START)

    def share(self, x: Tensor, k: Tensor) -> Tensor:
        return nn.functional.logsigmoid(self.gates(x)).transpose(1, 2)

    def weigh(self, asked: Asked) -> Tensor:
        assert asked.shared is not None
        bias = forgetting_bias(asked.shared, asked.index.expand(len(asked.q), -1))
        return torch.softmax(scores_of(asked, bias), -1)


class DifferentialAttention(Remedied):
    """The two halves of a head's queries and keys each give a softmax map; outputs are normed (see `differential`).

    lambda = exp(lq1 lk1) - exp(lq2 lk2) + its start, with learned vectors; it is one for all heads of a layer. A head's
    output is brought to a mean square of 1, times a learned gain, and multiplied by 1 - the start of lambda. With
    `qk_norm` each half has unit length and both maps the learned scale of their head.
    Raises ValueError for a head of odd width. Source: Ye et al. 2024, arXiv 2410.05258, eqs. 1 to 3; the gain and its
    eps are those of the official code.
    """

    maps = 2

    def __init__(self, spec: ModelSpec, encoding: PositionEncoding, layer: int, mixer: Differential) -> None:
        super().__init__(spec, encoding, layer)
        if self.head_dim % 2:
            raise ValueError(f"width of a head is {self.head_dim} with {mixer}; allowed are even numbers.")
        self.start = lambda_at_start(mixer, layer)
        self.lambdas = nn.Parameter(LAMBDA_STD * torch.randn(2, 2, self.head_dim // 2))  # map, q or k
        self.norm = nn.RMSNorm(self.head_dim, eps=1e-5)

    def lam(self) -> Float[Tensor, ""]:
        """Return lambda as it is now."""
        first, second = self.lambdas.prod(1).sum(-1).exp()
        return first - second + self.start

    def weigh(self, asked: Asked) -> Tensor:
        scale = asked.scale if self.spec.qk_norm else math.sqrt(2 / self.head_dim)
        scores = []
        for half in zip(asked.q.chunk(2, -1), asked.k.chunk(2, -1), strict=True):
            q, k = (nn.functional.normalize(z, dim=-1) if self.spec.qk_norm else z for z in half)
            scores.append(scores_of(replace(asked, q=q, k=k, scale=scale)))
        return differential(scores[0], scores[1], self.lam())

    def finish(self, mixed: Tensor) -> Tensor:
        return self.norm(mixed) * (1 - self.start)


class SelectiveAttention(Remedied):
    """softmax(scores - F), with F of the first head's scores for all heads (see `selection`); nothing is learned anew.

    F needs the scores of all queries up to the one that asks, so one matrix of the length squared is held whole.
    Source: Leviathan et al. 2024, arXiv 2410.02703, section 3.
    """

    def share(self, x: Tensor, k: Tensor) -> Tensor:
        q = nn.functional.linear(x, self.q.weight[: self.head_dim])
        if self.spec.qk_norm:
            q = nn.functional.normalize(q, dim=-1)
        scale = self.scale()
        first = scale[0] if isinstance(scale, Tensor) else scale
        return selection((q * first) @ k[:, 0].transpose(-1, -2))

    def weigh(self, asked: Asked) -> Tensor:
        assert asked.shared is not None
        masked = places(asked.shared, asked.index.expand(len(asked.q), -1))
        return torch.softmax(scores_of(asked, -masked[:, None]), -1)


def remedied(spec: ModelSpec, encoding: PositionEncoding, layer: int, mixer: Attending) -> Remedied:
    """Return the layer (from 0) of a mixer. Raises ValueError for differential attention with heads of odd width."""
    match mixer:
        case LearnedSink():
            return SinkAttention(spec, encoding, layer)
        case ForgettingGate():
            return ForgettingAttention(spec, encoding, layer)
        case Differential():
            return DifferentialAttention(spec, encoding, layer, mixer)
        case Selective():
            return SelectiveAttention(spec, encoding, layer)
        case _:
            assert_never(mixer)
