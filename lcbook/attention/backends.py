"""The menu of forms of attention: what `attention_by` can compute, exact forms, patterns and linear attention."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

from lcbook.attention import exact, patterns
from lcbook.attention.linear import linear_attention
from lcbook.attention.patterns import AnyPattern, BigBird, Static, TopBlocks, TopK
from lcbook.attention.sparse import sparse_attention
from lcbook.formats import at_least


@dataclass(frozen=True)
class Naive:
    """The textbook: all scores at once."""

    label: ClassVar[str] = "naive"


@dataclass(frozen=True)
class Fused:
    """PyTorch's fused kernel."""

    label: ClassVar[str] = "fused"


@dataclass(frozen=True)
class Tiled:
    """The book's own online softmax, `tile` by `tile` scores at a time."""

    tile: int = 128

    def __post_init__(self) -> None:
        at_least(1, tile=self.tile)

    @property
    def label(self) -> str:
        """The name on the page."""
        return f"tiles of {self.tile}"


@dataclass(frozen=True)
class ChunkedPrefill:
    """`chunk` queries at a time, on all keys so far."""

    chunk: int = 512

    def __post_init__(self) -> None:
        at_least(1, chunk=self.chunk)

    @property
    def label(self) -> str:
        """The name on the page."""
        return f"prefill in chunks of {self.chunk}"


@dataclass(frozen=True)
class Ring:
    """Shards of the text on `devices` devices, keys and values going round."""

    devices: int = 4

    def __post_init__(self) -> None:
        at_least(1, devices=self.devices)

    @property
    def label(self) -> str:
        """The name on the page."""
        return f"ring of {self.devices}"


@dataclass(frozen=True)
class Linear:
    """Linear attention, in chunks of `chunk` tokens. Not an exact form: another function of q, k and v."""

    label: ClassVar[str] = "linear"
    chunk: int = 64

    def __post_init__(self) -> None:
        at_least(1, chunk=self.chunk)


@dataclass(frozen=True)
class Flex:
    """A static pattern by PyTorch's FlexAttention: compiled on CUDA; elsewhere all scores at once, forward only.

    Raises ValueError for a content pattern, which no rule on places describes.
    Source: Dong et al. 2024, arXiv 2412.05496.
    """

    pattern: Static

    def __post_init__(self) -> None:
        if isinstance(self.pattern, TopK | TopBlocks):
            raise ValueError(f"pattern is {self.pattern}; allowed is a static one.")

    @property
    def label(self) -> str:
        """The name on the page."""
        return f"Flex: {self.pattern.label}"


Form = Naive | Fused | Tiled | ChunkedPrefill | Ring | Linear | Flex | AnyPattern
Attention = Callable[[Tensor, Tensor, Tensor], Tensor]


def attention_by(form: Form) -> Attention:
    """Return the function of q, k and v, [b h t d] each, that computes causal attention in this form.

    Raises ValueError for what is neither a form nor a pattern.
    """
    match form:
        case Naive():
            return exact.naive
        case Fused():
            return exact.fused
        case Tiled(tile=tile):
            return functools.partial(exact.tiled, tile=tile)
        case ChunkedPrefill(chunk=chunk):
            return functools.partial(exact.chunked_prefill, chunk=chunk)
        case Ring(devices=devices):
            return functools.partial(exact.ring, devices=devices)
        case Linear(chunk=chunk):
            return functools.partial(linear_attention, chunk=chunk)
        case Flex(pattern=pattern):
            return functools.partial(_flex, pattern=pattern)
        case pattern:
            patterns.require(pattern)
            return functools.partial(sparse_attention, pattern=pattern)


Rule = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def flex_rule(pattern: Static, length: int, device: torch.device) -> Rule:
    """Return a static pattern as FlexAttention wants it: a function of batch, head, query place and key place."""
    if not isinstance(pattern, BigBird):
        visible = inspect.unwrap(patterns.visible)  # FlexAttention traces the rule: no shape checks inside
        return lambda b, h, q_index, k_index: visible(pattern, q_index, k_index)
    # Its random blocks come from a table: the same pattern with blocks of one token each.
    count = -(-length // pattern.block)
    table = patterns.pattern_mask(replace(pattern, block=1), count).to(device)
    return lambda b, h, q_index, k_index: (
        (q_index >= k_index) & table[q_index // pattern.block, k_index // pattern.block]
    )


@functools.lru_cache(maxsize=8)
def _block_mask(pattern: Static, length: int, device: torch.device) -> BlockMask:
    """Return FlexAttention's table of the blocks that it need not skip."""
    patterns.check(pattern, length)
    make: Callable[..., BlockMask] = create_block_mask
    if device.type == "cuda":
        make = torch.compile(create_block_mask)
    return make(flex_rule(pattern, length, device), None, None, length, length, device=device)


@functools.lru_cache(maxsize=1)
def _compiled() -> Callable[..., Any]:
    """Return FlexAttention compiled, once a process."""
    return torch.compile(flex_attention)


def _flex(
    q: Float[Tensor, "b h t d"], k: Float[Tensor, "b h s d"], v: Float[Tensor, "b h s d"], *, pattern: Static
) -> Float[Tensor, "b h t d"]:
    """Return causal attention on the keys that a static pattern lets each query see, by FlexAttention."""
    exact.same_length(q, k, v)
    attention: Callable[..., Any] = flex_attention
    if q.device.type == "cuda":
        attention = _compiled()
    return attention(q, k, v, block_mask=_block_mask(pattern, q.shape[2], q.device))
