"""The model: a decoder put together from a ModelSpec.

    tokens -> embedding (+ position) -> [norm -> mixer -> + ] x layers (-> norm -> MLP -> +) -> norm -> logits

The last layer is computed only where an answer is asked for, so a question at the end of a long sequence costs time
linear in its length when the model has one layer of attention.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from lcbook.attention.segments import recurrent_memory
from lcbook.models.layers import Attention, Recurrence, SegmentedAttention, SwiGLU, places
from lcbook.models.mixers import (
    Attending,
    CompressiveMemory,
    Recurrent,
    RecurrentMemory,
    SegmentRecurrence,
    Softmax,
)
from lcbook.models.positions import TABLE_STD, PositionEncoding
from lcbook.models.spec import ModelSpec
from lcbook.models.variants import remedied

__all__ = ["Decoder", "Layer", "ModelSpec", "build"]


def _mix(spec: ModelSpec, encoding: PositionEncoding, layer: int) -> nn.Module:
    """Return the part of a layer (from 0) that lets tokens learn of earlier ones."""
    mixer = spec.mixer
    if isinstance(mixer, Recurrent):
        return Recurrence(spec, mixer)
    if isinstance(mixer, Attending):
        return remedied(spec, encoding, layer, mixer)
    if isinstance(mixer, SegmentRecurrence | CompressiveMemory):
        return SegmentedAttention(spec, encoding, layer, mixer)
    return Attention(spec, encoding, layer)


class Layer(nn.Module):
    """One pre-norm layer: attention, then the MLP if there is one, each added to the residual stream."""

    def __init__(self, spec: ModelSpec, encoding: PositionEncoding, layer: int) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(spec.width, eps=1e-6)
        self.attention = _mix(spec, encoding, layer)
        self.mlp_norm = nn.RMSNorm(spec.width, eps=1e-6) if spec.mlp else None
        self.mlp = SwiGLU(spec.width, spec.mlp) if spec.mlp else None

    def forward(
        self,
        x: Float[Tensor, "b s width"],
        positions: Int[Tensor, "_ s"],
        at: Int[Tensor, "b t"] | None = None,
        documents: Int[Tensor, "b s"] | None = None,
    ) -> Float[Tensor, "b t width"]:
        """Return the residual stream at the places `at` (all places if None), each document by itself if numbered."""
        within = () if documents is None else (documents,)
        mixed = self.attention(self.attention_norm(x), positions, at, *within)
        return self.finish(mixed + places(x, at))

    def finish(self, x: Float[Tensor, "b t width"]) -> Float[Tensor, "b t width"]:
        """Return the residual stream after the MLP, from that after attention."""
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
        if spec.separator is not None and spec.separator >= vocabulary:
            raise ValueError(f"separator is {spec.separator}; allowed is a token below {vocabulary}.")
        self.spec = spec
        self.embedding = nn.Embedding(vocabulary, spec.width)
        nn.init.normal_(self.embedding.weight, std=TABLE_STD * spec.width**-0.5)
        self.encoding = PositionEncoding(
            spec.position, width=spec.width, heads=spec.heads, head_dim=spec.width // spec.heads
        )
        self.layers = nn.ModuleList(Layer(spec, self.encoding, layer) for layer in range(spec.layers))
        self.norm = nn.RMSNorm(spec.width, eps=1e-6)
        if isinstance(spec.mixer, RecurrentMemory):
            self.memory = nn.Parameter(torch.randn(spec.mixer.memory, spec.width) * TABLE_STD)

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
        if isinstance(self.spec.mixer, RecurrentMemory):
            x = recurrent_memory(self.embed(tokens), self.memory, self.spec.mixer.segment, self._whole)
            return places(x, at) @ self.embedding.weight.T
        x, positions, documents = self.before_last(tokens, positions)
        return self.logits(self.layers[-1](x, positions, at, documents))

    def embed(self, tokens: Int[Tensor, "b s"]) -> Float[Tensor, "b s width"]:
        """Return the residual stream of tokens before a position encoding adds to it."""
        return self.embedding(tokens) * math.sqrt(self.spec.width)

    def before_last(
        self, tokens: Int[Tensor, "b s"], positions: Int[Tensor, "_ s"] | None = None
    ) -> tuple[Float[Tensor, "b s width"], Int[Tensor, "_ s"], Int[Tensor, "b s"] | None]:
        """Return the residual stream that enters the last layer, the positions, and the document of each token.

        Documents are numbered by the separators up to a token; None: all are read as one.
        """
        if positions is None:
            positions = torch.arange(tokens.shape[1], device=tokens.device)[None]
        separator = self.spec.separator
        documents = None if separator is None else (tokens == separator).cumsum(1)
        x = self.encoding.add(self.embed(tokens), positions)
        for layer in self.layers[:-1]:
            x = layer(x, positions, None, documents)
        return x, positions, documents

    def logits(self, x: Float[Tensor, "*places width"]) -> Float[Tensor, "*places vocabulary"]:
        """Return the next-token logits of a residual stream behind all layers."""
        return self.norm(x) @ self.embedding.weight.T

    @property
    def last(self) -> Layer:
        """The last layer."""
        layer = self.layers[-1]
        assert isinstance(layer, Layer)
        return layer

    def _whole(self, x: Float[Tensor, "b s width"]) -> Float[Tensor, "b s width"]:
        """Return the normalized residual stream behind all layers."""
        positions = torch.arange(x.shape[1], device=x.device)[None]
        for layer in self.layers:
            x = layer(x, positions)
        return self.norm(x)

    def seen(
        self, tokens: Int[Tensor, "b s"], positions: Int[Tensor, "_ s"] | None, at: Int[Tensor, "b t"]
    ) -> Bool[Tensor, "_ _ t s"]:
        """Return which keys the last layer's queries at the places `at` see, for each head or for all alike.

        Raises ValueError as `plain_attentions`.
        """
        attention = self.plain_attentions()[-1]
        x, positions, documents = self.before_last(tokens, positions)
        return attention.project(self.last.attention_norm(x), positions, at, documents).mask

    def plain_attentions(self) -> list[Attention]:
        """Return the softmax attention of each layer.

        Raises ValueError for a mixer of another kind, and where a `form` computes the attention of a layer.
        """
        if self.spec.mixer != Softmax():
            raise ValueError(f"mixer is {self.spec.mixer}; allowed is {Softmax()}.")
        found = [part for part in self.modules() if isinstance(part, Attention)]
        for layer, attention in enumerate(found):
            if attention.form is not None:
                raise ValueError(f"form of layer {layer} is {attention.form}; allowed is None.")
        return found


def build(spec: ModelSpec, vocabulary: int, seed: int) -> Decoder:
    """Return a decoder with weights drawn from `seed` alone, without touching the global random state."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Decoder(spec, vocabulary)
