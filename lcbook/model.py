"""The model: a decoder whose every option stands on one screen.

    tokens -> embedding (+ position) -> [norm -> attention -> + ] x layers (-> norm -> MLP -> +) -> norm -> logits

The last layer is computed only where an answer is asked for, so a question at the end of a long sequence costs time
linear in its length when the model has one layer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from lcbook.attention import attend
from lcbook.forms import Form, attention_by
from lcbook.normalizers import normalizer as find_normalizer
from lcbook.patterns import Full, Pattern, TopBlocks, TopK, check, select, visible
from lcbook.positions import TABLE_STD, NoPosition, Position, PositionEncoding

SCORES_AT_ONCE = (
    2**24
)  # queries are taken in blocks so that no score matrix is larger than this (64 MiB in float32)


@dataclass(frozen=True)
class ModelSpec:
    """A decoder: `layers` of attention with `heads` query and `kv_heads` key-value heads (0: as many as heads).

    `mlp` is the hidden width of a SwiGLU layer after each attention (0: none). `key_shift` mixes each key with the
    key before it; `qk_norm` gives queries and keys unit length and learns the scale of their product. `pattern` says
    which keys a query sees; the layers numbered in `full_layers` (from 0) see all earlier ones in spite of it.
    """

    layers: int = 1
    width: int = 64
    heads: int = 1
    kv_heads: int = 0
    mlp: int = 0
    position: Position = NoPosition()
    normalizer: str = "softmax"
    key_shift: bool = True
    qk_norm: bool = True
    pattern: Pattern = Full()
    full_layers: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name in ("layers", "width", "heads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; allowed is 1 or more.")
        for name in ("kv_heads", "mlp"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; allowed is 0 or more.")
        if self.width % self.heads:
            raise ValueError(f"width is {self.width}; allowed is a multiple of heads ({self.heads}).")
        if self.kv_heads and self.heads % self.kv_heads:
            raise ValueError(f"kv_heads is {self.kv_heads}; allowed is a divisor of heads ({self.heads}).")
        if not set(self.full_layers) <= set(range(self.layers)):
            raise ValueError(
                f"full_layers is {self.full_layers}; allowed are numbers from 0 to {self.layers - 1}."
            )
        find_normalizer(self.normalizer)

    def pattern_of(self, layer: int) -> Pattern:
        """Return the pattern of a layer (from 0)."""
        return Full() if layer in self.full_layers else self.pattern


class KeyShift(nn.Module):
    """k_j <- s * k_j + (1 - s) * k_{j-1}, with a learned s in (0, 1) for each channel, 1/2 at the start.

    It hands every key the content of the token before it, which is what the first half of an induction circuit
    does. Source: Olsson et al. 2022, "smeared keys"; Xu et al. 2024, arXiv 2411.19574 (KV-shift).
    """

    def __init__(self, groups: int, head_dim: int) -> None:
        super().__init__()
        self.logit = nn.Parameter(torch.zeros(groups, 1, head_dim))

    def forward(self, k: Float[Tensor, "b g s d"]) -> Float[Tensor, "b g s d"]:
        """Return the shifted keys; the first key has none before it and is mixed with zero."""
        before = nn.functional.pad(k, (0, 0, 1, 0))[:, :, :-1]
        return torch.lerp(before, k, torch.sigmoid(self.logit))


class Attention(nn.Module):
    """Causal self-attention with the options of `ModelSpec`."""

    def __init__(self, spec: ModelSpec, encoding: PositionEncoding, layer: int) -> None:
        super().__init__()
        self.spec, self.encoding, self.pattern = spec, encoding, spec.pattern_of(layer)
        self.form: Form | None = None  # how attention is computed after training; None: by `attend`
        self.head_dim, self.groups = spec.width // spec.heads, spec.kv_heads or spec.heads
        self.q = nn.Linear(spec.width, spec.width, bias=False)
        self.k = nn.Linear(spec.width, self.groups * self.head_dim, bias=False)
        self.v = nn.Linear(spec.width, self.groups * self.head_dim, bias=False)
        self.out = nn.Linear(spec.width, spec.width, bias=False)
        for project in (self.q, self.k, self.v, self.out):
            nn.init.xavier_uniform_(project.weight)
        self.shift = KeyShift(self.groups, self.head_dim) if spec.key_shift else nn.Identity()
        self.log_scale = nn.Parameter(torch.full((spec.heads, 1, 1), math.log(self.head_dim) / 2))
        self.log_scale.requires_grad_(spec.qk_norm)

    def _heads(self, x: Float[Tensor, "b t _"], heads: int) -> Float[Tensor, "b h t d"]:
        return x.view(*x.shape[:2], heads, self.head_dim).transpose(1, 2)

    def _queries_keys(
        self,
        x: Float[Tensor, "b s width"],
        positions: Int[Tensor, "_ s"],
        at: Int[Tensor, "b t"] | None,
    ) -> tuple[Float[Tensor, "b h t d"], Float[Tensor, "b g s d"], Int[Tensor, "_ t"], Int[Tensor, "_ t"]]:
        """Return queries and keys as they meet, the queries' places in the sequence, and their positions."""
        asking = x if at is None else x.gather(1, at[..., None].expand(-1, -1, x.shape[2]))
        q_index = torch.arange(x.shape[1], device=x.device)[None] if at is None else at
        q_positions = positions if at is None else positions.expand(x.shape[0], -1).gather(1, at)
        q, k = self._heads(self.q(asking), self.spec.heads), self.shift(self._heads(self.k(x), self.groups))
        if self.spec.qk_norm:
            q, k = (nn.functional.normalize(z, dim=-1) for z in (q, k))
        q, k = self.encoding.rotate(q, k, q_positions, positions)
        return q, k, q_index, q_positions

    def _mask(
        self, q: Float[Tensor, "b h t d"], k: Float[Tensor, "b g s d"], q_index: Int[Tensor, "_ t"]
    ) -> Bool[Tensor, "_ _ t s"]:
        """Return which keys the queries at the places `q_index` see."""
        if isinstance(self.pattern, TopK | TopBlocks):
            return select(self.pattern, q, k.repeat_interleave(q.shape[1] // k.shape[1], dim=1), q_index)
        return visible(self.pattern, q_index[..., None], torch.arange(k.shape[2], device=k.device))[:, None]

    def seen(
        self, x: Float[Tensor, "b s width"], positions: Int[Tensor, "_ s"], at: Int[Tensor, "b t"]
    ) -> Bool[Tensor, "_ _ t s"]:
        """Return which keys the queries at the places `at` see (one row of heads where all see the same)."""
        q, k, q_index, _ = self._queries_keys(x, positions, at)
        return self._mask(q, k, q_index)

    def forward(
        self,
        x: Float[Tensor, "b s width"],
        positions: Int[Tensor, "_ s"],
        at: Int[Tensor, "b t"] | None = None,
    ) -> Float[Tensor, "b t width"]:
        """Return the outputs at the places `at` (all places if None). `positions` may have one row for all."""
        check(self.pattern, x.shape[1])
        if self.form is not None:
            return self._by_form(self.form, x, positions, at)
        q, k, q_index, q_positions = self._queries_keys(x, positions, at)
        v, scale = self._heads(self.v(x), self.groups), self._scale()
        block = max(1, SCORES_AT_ONCE // (x.shape[0] * self.spec.heads * x.shape[1]))
        mixed = [
            attend(
                q[:, :, rows],
                k,
                v,
                mask=self._mask(q[:, :, rows], k, q_index[:, rows]),
                bias=self.encoding.bias(q_positions[:, rows], positions),
                scale=scale,
                normalizer=self.spec.normalizer,
            )[0]
            for rows in (slice(start, start + block) for start in range(0, q.shape[2], block))
        ]
        return self.out(torch.cat(mixed, dim=2).transpose(1, 2).flatten(2))

    def _scale(self) -> float | Tensor:
        return self.log_scale.exp() if self.spec.qk_norm else 1 / math.sqrt(self.head_dim)

    def _by_form(
        self,
        form: Form,
        x: Float[Tensor, "b s width"],
        positions: Int[Tensor, "_ s"],
        at: Int[Tensor, "b t"] | None,
    ) -> Float[Tensor, "b t width"]:
        """Return the outputs as `forward` does, attention computed at all places by `form`."""
        q, k, _, _ = self._queries_keys(x, positions, None)
        v = self._heads(self.v(x), self.groups)
        k, v = (z.repeat_interleave(self.spec.heads // self.groups, dim=1) for z in (k, v))
        mixed = attention_by(form)(q * (self._scale() * math.sqrt(self.head_dim)), k, v)
        mixed = mixed.transpose(1, 2).flatten(2)
        return self.out(
            mixed if at is None else mixed.gather(1, at[..., None].expand(-1, -1, mixed.shape[2]))
        )


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


class Layer(nn.Module):
    """One pre-norm layer: attention, then the MLP if there is one, each added to the residual stream."""

    def __init__(self, spec: ModelSpec, encoding: PositionEncoding, layer: int) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(spec.width, eps=1e-6)
        self.attention = Attention(spec, encoding, layer)
        self.mlp_norm = nn.RMSNorm(spec.width, eps=1e-6) if spec.mlp else None
        self.mlp = SwiGLU(spec.width, spec.mlp) if spec.mlp else None

    def forward(
        self,
        x: Float[Tensor, "b s width"],
        positions: Int[Tensor, "_ s"],
        at: Int[Tensor, "b t"] | None = None,
    ) -> Float[Tensor, "b t width"]:
        """Return the residual stream at the places `at` (all places if None)."""
        mixed = self.attention(self.attention_norm(x), positions, at)
        x = mixed + (x if at is None else x.gather(1, at[..., None].expand(-1, -1, x.shape[2])))
        if self.mlp is not None and self.mlp_norm is not None:
            x = x + self.mlp(self.mlp_norm(x))
        return x


class Decoder(nn.Module):
    """A decoder-only transformer with tied input and output embedding.

    Embeddings are multiplied by sqrt(width) on input, as in Vaswani et al. 2017, section 3.4, so that a token and a
    sinusoidal position have comparable size. They are drawn with standard deviation 1/2 / sqrt(width): at twice that, a
    tied model starts out so sure that each token follows itself that recall takes two to four times the updates.
    """

    def __init__(self, spec: ModelSpec, vocabulary: int) -> None:
        super().__init__()
        self.spec = spec
        self.embedding = nn.Embedding(vocabulary, spec.width)
        nn.init.normal_(self.embedding.weight, std=TABLE_STD * spec.width**-0.5)
        self.encoding = PositionEncoding(
            spec.position, width=spec.width, heads=spec.heads, head_dim=spec.width // spec.heads
        )
        self.layers = nn.ModuleList(Layer(spec, self.encoding, layer) for layer in range(spec.layers))
        self.norm = nn.RMSNorm(spec.width, eps=1e-6)

    def forward(
        self,
        tokens: Int[Tensor, "b s"],
        positions: Int[Tensor, "_ s"] | None = None,
        at: Int[Tensor, "b t"] | None = None,
    ) -> Float[Tensor, "b t vocabulary"]:
        """Return next-token logits at the places `at` of each sequence (all places if None).

        `positions` are those that the encoding is told, one row for all sequences or one for each; 0, 1, 2, ... if
        None. Raises ValueError if a position lies beyond a learned table.
        """
        x, positions = self._before_last(tokens, positions)
        x = self.layers[-1](x, positions, at)
        return self.norm(x) @ self.embedding.weight.T

    def seen(
        self, tokens: Int[Tensor, "b s"], positions: Int[Tensor, "_ s"] | None, at: Int[Tensor, "b t"]
    ) -> Bool[Tensor, "_ _ t s"]:
        """Return which keys the last layer's queries at the places `at` see, for each head or for all alike."""
        x, positions = self._before_last(tokens, positions)
        last = self.layers[-1]
        assert isinstance(last, Layer)
        return last.attention.seen(last.attention_norm(x), positions, at)

    def _before_last(
        self, tokens: Int[Tensor, "b s"], positions: Int[Tensor, "_ s"] | None
    ) -> tuple[Float[Tensor, "b s width"], Int[Tensor, "_ s"]]:
        """Return the residual stream that enters the last layer, and the positions."""
        if positions is None:
            positions = torch.arange(tokens.shape[1], device=tokens.device)[None]
        x = self.encoding.add(self.embedding(tokens) * math.sqrt(self.spec.width), positions)
        for layer in self.layers[:-1]:
            x = layer(x, positions)
        return x, positions


def build(spec: ModelSpec, vocabulary: int, seed: int) -> Decoder:
    """Return a decoder with weights drawn from `seed` alone, without touching the global random state."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Decoder(spec, vocabulary)
