"""The parts of a layer: attention with all its options, the recurrences, attention by segments, and the MLP."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from lcbook.attention.attend import attend
from lcbook.attention.backends import Form, attention_by
from lcbook.attention.delta import additive, delta_rule
from lcbook.attention.linear import linear_attention
from lcbook.attention.normalizers import AnyNormalizer
from lcbook.attention.patterns import AnyPattern, TopBlocks, TopK, check, select, visible
from lcbook.attention.segments import compressive_memory, segment_attention
from lcbook.models.mixers import Additive, CompressiveMemory, Recurrent, SegmentRecurrence
from lcbook.models.positions import PositionEncoding
from lcbook.models.spec import ModelSpec

# Queries are taken in blocks so that no score matrix is larger than this (64 MiB in float32).
SCORES_AT_ONCE = 2**24
DECAY_AT_START = 5.0  # of the gated rule's fading factor, before the sigmoid: 0.993 a token


def places(x: Float[Tensor, "b s width"], at: Int[Tensor, "b t"] | None) -> Float[Tensor, "b t width"]:
    """Return `x` at the places `at` (all places if None)."""
    return x if at is None else x.gather(1, at[..., None].expand(-1, -1, x.shape[2]))


class KeyShift(nn.Module):
    """k_j <- s * k_j + (1 - s) * k_{j-1}, with a learned s in (0, 1) for each channel, 1/2 at the start.

    It hands every key the content of the token before it, which is what the first half of an induction circuit
    does. Source: Olsson et al. 2022, "smeared keys"; Xu et al. 2024, arXiv 2411.19574 (KV-shift).
    """

    def __init__(self, groups: int, head_dim: int) -> None:
        super().__init__()
        self.logit = nn.Parameter(torch.zeros(groups, 1, head_dim))

    def forward(
        self,
        k: Float[Tensor, "b g s d"],
        past: Float[Tensor, "b g s d"] | None = None,
        first: Bool[Tensor, "b s"] | None = None,
    ) -> Float[Tensor, "b g s d"]:
        """Return the shifted keys; the first has none before it and is mixed with zero.

        `past` are the keys to look back on, if they are not `k` themselves; where `first`, a key looks back on none.
        """
        before = nn.functional.pad(k if past is None else past, (0, 0, 1, 0))[:, :, :-1]
        if first is not None:
            before = before.masked_fill(first[:, None, :, None], 0)
        return torch.lerp(before, k, torch.sigmoid(self.logit))


@dataclass(frozen=True)
class Asked:
    """What queries meet in a layer: the seam between projecting tokens and mixing values.

    `q` and `k` are as they are compared, shifted, normed and rotated; `index` has the places of the queries in the
    sequence, `positions` and `k_positions` what the encoding is told of queries and keys. `shared` is what a remedy's
    weights rest on beside the scores. `mask` and `bias` are made when they are asked for, as large as the scores: take
    `rows` of the queries where these are many.
    """

    q: Float[Tensor, "b h t d"]
    k: Float[Tensor, "b g s d"]
    v: Float[Tensor, "b g s e"]
    index: Int[Tensor, "_ t"]
    positions: Int[Tensor, "_ t"]
    k_positions: Int[Tensor, "_ s"]
    scale: float | Tensor
    pattern: AnyPattern
    encoding: PositionEncoding
    documents: Int[Tensor, "b s"] | None = None
    shared: Tensor | None = None

    def rows(self, some: slice) -> Asked:
        """Return what some of the queries meet."""
        q, index, positions = self.q[:, :, some], self.index[:, some], self.positions[:, some]
        return replace(self, q=q, index=index, positions=positions)

    def pieces(self, maps: int = 1) -> Iterator[Asked]:
        """Yield the queries in blocks, so that `maps` score matrices a head take no more than `SCORES_AT_ONCE`."""
        block = max(1, SCORES_AT_ONCE // (maps * len(self.q) * self.q.shape[1] * self.k.shape[2]))
        return (self.rows(slice(start, start + block)) for start in range(0, self.q.shape[2], block))

    @property
    def mask(self) -> Bool[Tensor, "_ _ t s"]:
        """Which keys the queries see; one row of heads where all see the same."""
        if isinstance(self.pattern, TopK | TopBlocks):
            k = self.k.repeat_interleave(self.q.shape[1] // self.k.shape[1], dim=1)
            return select(self.pattern, self.q, k, self.index)
        mask = visible(
            self.pattern, self.index[..., None], torch.arange(self.k.shape[2], device=self.k.device)
        )
        if self.documents is not None:
            own = self.documents.gather(1, self.index.expand(len(self.documents), -1))
            mask = mask & (own[..., None] == self.documents[:, None])
        return mask[:, None]

    @property
    def bias(self) -> Float[Tensor, "..."] | None:
        """What the encoding adds to the scores, None or what broadcasts to [b, h, t, s]."""
        return self.encoding.bias(self.positions, self.k_positions)

    def attend(self, normalizer: AnyNormalizer) -> tuple[Float[Tensor, "b h t d"], Float[Tensor, "b h t s"]]:
        """Return the mixed values and the weights that mixed them."""
        return attend(
            self.q, self.k, self.v, mask=self.mask, bias=self.bias, scale=self.scale, normalizer=normalizer
        )


class Attention(nn.Module):
    """Causal self-attention with the options of `ModelSpec`: it projects tokens, then mixes values."""

    maps = 1  # score matrices a head

    def __init__(self, spec: ModelSpec, encoding: PositionEncoding, layer: int) -> None:
        super().__init__()
        self.spec, self.encoding, self.pattern = spec, encoding, spec.pattern_of(layer)
        self.form: Form | None = None  # how attention is computed after training; None: by `attend`
        self.temper: float | int = 1.0  # what scores are multiplied by after training
        self.head_dim, self.groups = spec.width // spec.heads, spec.kv_heads or spec.heads
        self.q = nn.Linear(spec.width, spec.width, bias=False)
        self.k = nn.Linear(spec.width, self.groups * self.head_dim, bias=False)
        self.v = nn.Linear(spec.width, self.groups * self.head_dim, bias=False)
        self.out = nn.Linear(spec.width, spec.width, bias=False)
        for project in (self.q, self.k, self.v, self.out):
            nn.init.xavier_uniform_(project.weight)
        self.shift = KeyShift(self.groups, self.head_dim) if spec.key_shift else nn.Identity()
        scale = math.log(spec.qk_scale) if spec.qk_scale else math.log(self.head_dim) / 2
        self.log_scale = nn.Parameter(torch.full((spec.heads, 1, 1), scale))
        self.log_scale.requires_grad_(spec.qk_norm and spec.learn_scale)

    def project(
        self,
        x: Float[Tensor, "b s width"],
        positions: Int[Tensor, "_ s"],
        at: Int[Tensor, "b t"] | None = None,
        documents: Int[Tensor, "b s"] | None = None,
    ) -> Asked:
        """Return what the queries at the places `at` (all places if None) meet. `positions` may have one row for all.

        `documents` numbers the document of each token; a query then sees its own alone. Raises ValueError where the
        pattern does not fit the length.
        """
        check(self.pattern, x.shape[1])
        index = torch.arange(x.shape[1], device=x.device)[None] if at is None else at
        q_positions = positions if at is None else positions.expand(x.shape[0], -1).gather(1, at)
        q, k = self._queries_keys(x, positions, at, q_positions, documents)
        v = self._heads(self.v(x), self.groups)
        return Asked(
            q, k, v, index, q_positions, positions, self.scale(), self.pattern, self.encoding, documents
        )

    def mix(self, asked: Asked) -> Float[Tensor, "b t width"]:
        """Return the outputs of the queries of `asked`."""
        mixed = [self.read(piece) for piece in asked.pieces(self.maps)]
        return self.out(self.finish(torch.cat(mixed, dim=2)).transpose(1, 2).flatten(2))

    def read(self, asked: Asked) -> Float[Tensor, "b h t d"]:
        """Return the values as the queries of `asked` mix them, all their scores at once."""
        return asked.attend(self.spec.normalizer)[0]

    def finish(self, mixed: Float[Tensor, "b h t d"]) -> Float[Tensor, "b h t d"]:
        """Return the outputs of the heads, made of the mixed values."""
        return mixed

    def forward(
        self,
        x: Float[Tensor, "b s width"],
        positions: Int[Tensor, "_ s"],
        at: Int[Tensor, "b t"] | None = None,
        documents: Int[Tensor, "b s"] | None = None,
    ) -> Float[Tensor, "b t width"]:
        """Return the outputs at the places `at`, as `project` takes them.

        Raises ValueError as `project`, and for documents where a `form` computes attention.
        """
        if self.form is None:
            return self.mix(self.project(x, positions, at, documents))
        if documents is not None:
            raise ValueError(f"form is {self.form} for a model with a separator; allowed is None.")
        asked = self.project(x, positions)
        k, v = (z.repeat_interleave(self.spec.heads // self.groups, dim=1) for z in (asked.k, asked.v))
        mixed = attention_by(self.form)(asked.q * (asked.scale * math.sqrt(self.head_dim)), k, v)
        return self.out(places(mixed.transpose(1, 2).flatten(2), at))

    def _heads(self, x: Float[Tensor, "b t _"], heads: int) -> Float[Tensor, "b h t d"]:
        return x.view(*x.shape[:2], heads, self.head_dim).transpose(1, 2)

    def _queries_keys(
        self,
        x: Float[Tensor, "b s width"],
        positions: Int[Tensor, "_ s"],
        at: Int[Tensor, "b t"] | None,
        q_positions: Int[Tensor, "_ t"],
        documents: Int[Tensor, "b s"] | None,
    ) -> tuple[Float[Tensor, "b h t d"], Float[Tensor, "b g s d"]]:
        """Return queries and keys as they meet."""
        q, k = self._heads(self.q(places(x, at)), self.spec.heads), self._heads(self.k(x), self.groups)
        if documents is not None and isinstance(self.shift, KeyShift):
            k = self.shift(k, first=documents.diff(prepend=documents[:, :1]) != 0)
        else:
            k = self.shift(k)
        if self.spec.qk_norm:
            q, k = (nn.functional.normalize(z, dim=-1) for z in (q, k))
        return self.encoding.rotate(q, k, q_positions, positions)

    def scale(self) -> float | Tensor:
        """Return what scores are multiplied by: one number, or one for each head."""
        scale = self.log_scale.exp() if self.spec.qk_norm else 1 / math.sqrt(self.head_dim)
        return scale if self.temper == 1 else scale * self.temper


class Recurrence(nn.Module):
    """A layer that keeps one matrix a head of all earlier tokens; `mixer` says how it is written.

    Queries and keys have unit length, except in linear attention, whose features take them as they are. Each token
    has a learned strength of writing, and in the gated rule a learned factor by which the matrix fades first.
    """

    def __init__(self, spec: ModelSpec, mixer: Recurrent) -> None:
        super().__init__()
        self.spec, self.mixer = spec, mixer
        self.head_dim = spec.width // spec.heads
        self.key_dim = mixer.key_dim or self.head_dim
        self.q = nn.Linear(spec.width, spec.heads * self.key_dim, bias=False)
        self.k = nn.Linear(spec.width, spec.heads * self.key_dim, bias=False)
        self.v = nn.Linear(spec.width, spec.width, bias=False)
        self.out = nn.Linear(spec.width, spec.width, bias=False)
        for project in (self.q, self.k, self.v, self.out):
            nn.init.xavier_uniform_(project.weight)
        self.shift = KeyShift(spec.heads, self.key_dim) if spec.key_shift else nn.Identity()
        self.norm = nn.RMSNorm(self.head_dim, eps=1e-6)
        gates = mixer.gates * spec.heads
        self.gates = nn.Linear(spec.width, gates) if gates else None
        if self.gates is not None:  # a half is written and nearly nothing fades at the start
            nn.init.zeros_(self.gates.weight)
            nn.init.constant_(self.gates.bias[: spec.heads], 0.0)
            nn.init.constant_(self.gates.bias[spec.heads :], DECAY_AT_START)

    def _heads(self, x: Float[Tensor, "b t _"], dim: int) -> Float[Tensor, "b h t d"]:
        return x.view(*x.shape[:2], self.spec.heads, dim).transpose(1, 2)

    def _read(
        self,
        x: Float[Tensor, "b t width"],
        q: Float[Tensor, "b h t d"],
        k: Float[Tensor, "b h t d"],
        v: Float[Tensor, "b h t e"],
    ) -> Float[Tensor, "b h t e"]:
        """Return what each token's query reads after its key has been written."""
        if self.gates is None:
            return linear_attention(q, k, v)
        q, k = (nn.functional.normalize(z, dim=-1) for z in (q, k))
        beta, *decay = torch.sigmoid(self.gates(x)).transpose(1, 2).split(self.spec.heads, dim=1)
        if isinstance(self.mixer, Additive):
            return additive(q, k, v, beta)[0]
        return delta_rule(q, k, v, beta, *decay)[0]

    def forward(
        self,
        x: Float[Tensor, "b s width"],
        positions: Int[Tensor, "_ s"],
        at: Int[Tensor, "b t"] | None = None,
    ) -> Float[Tensor, "b t width"]:
        """Return the outputs at the places `at` (all places if None); a recurrence takes no positions."""
        q, k = self._heads(self.q(x), self.key_dim), self.shift(self._heads(self.k(x), self.key_dim))
        read = self._read(x, q, k, self._heads(self.v(x), self.head_dim))
        return self.out(places(self.norm(read).transpose(1, 2).flatten(2), at))


class SegmentedAttention(Attention):
    """Attention within segments, with what `spec.mixer` keeps of the segments before."""

    def __init__(
        self,
        spec: ModelSpec,
        encoding: PositionEncoding,
        layer: int,
        mixer: SegmentRecurrence | CompressiveMemory,
    ) -> None:
        super().__init__(spec, encoding, layer)
        self.mixer = mixer
        self.gate = (
            nn.Parameter(torch.zeros(spec.heads, 1, 1)) if isinstance(mixer, CompressiveMemory) else None
        )

    def forward(
        self,
        x: Float[Tensor, "b s width"],
        positions: Int[Tensor, "_ s"],
        at: Int[Tensor, "b t"] | None = None,
        documents: Int[Tensor, "b s"] | None = None,
    ) -> Float[Tensor, "b t width"]:
        """Return the outputs at the places `at` (all places if None); `ModelSpec` allows no `documents` here."""
        assert documents is None
        v, segment = self._heads(self.v(x), self.groups), self.mixer.segment
        if isinstance(self.mixer, SegmentRecurrence):
            late = x.detach()  # by what it was computed earlier, the next segment sees this one
            q, k, k_late = self._queries_keys_late(x, late, segment)
            before = (k_late, self._heads(self.v(late), self.groups))
            read = segment_attention(q, k, v, segment=segment, before=before, scale=self.scale())
        else:
            q, k = self._queries_keys(x, positions, None, positions, None)
            inside = segment_attention(q, k, v, segment=segment, scale=self.scale())
            scale = self.scale() if self.spec.qk_norm else 1.0
            memory = compressive_memory(q * scale, k * scale, v, segment=segment, delta=self.mixer.delta)
            assert self.gate is not None
            read = torch.lerp(inside, memory, torch.sigmoid(self.gate))
        return self.out(places(read.transpose(1, 2).flatten(2), at))

    def _queries_keys_late(
        self, x: Float[Tensor, "b s width"], late: Float[Tensor, "b s width"], segment: int
    ) -> tuple[Float[Tensor, "b h s d"], Float[Tensor, "b g s d"], Float[Tensor, "b g s d"]]:
        """Return queries, keys as their own segment sees them, and as the next does, made of `late`.

        The first key of a segment looks back on `late` too, so that no gradient leaves the segment by a shifted key.
        """
        q = self._heads(self.q(x), self.spec.heads)
        k, k_late = (self._heads(self.k(z), self.groups) for z in (x, late))
        if isinstance(self.shift, KeyShift):
            last = torch.arange(1, x.shape[1] + 1, device=x.device) % segment == 0
            k, k_late = self.shift(k, torch.where(last[:, None], k_late, k)), self.shift(k_late)
        if self.spec.qk_norm:
            q, k, k_late = (nn.functional.normalize(z, dim=-1) for z in (q, k, k_late))
        return q, k, k_late


class SwiGLU(nn.Module):
    """down(silu(gate(x)) * up(x)). Source: Shazeer 2020, arXiv 2002.05202, eq. 6."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.gate = nn.Linear(width, hidden, bias=False)
        self.up = nn.Linear(width, hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Float[Tensor, "b t width"]) -> Float[Tensor, "b t width"]:
        """Return the layer's output, same shape as `x`."""
        return self.down(nn.functional.silu(self.gate(x)) * self.up(x))
