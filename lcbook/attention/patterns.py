"""Which keys a query may see: the attention patterns, each a few numbers and one rule.

A static pattern is a rule on places, `visible(pattern, q_index, k_index)`, in the form that FlexAttention takes as a
mask as well. A content pattern selects keys by their scores, `select(pattern, scores, mask)`. All are causal::

    Full   #        Window(3)   #          Strided(2, 3)  #         Chunked(3)  #
           # #                  # #                       # #                   # #
           # # #                # # #                       # #                 # # #
           # # # #                # # #                   #   # #                     #
           # # # # #                # # #                   #   # #                   # #
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lcbook.attention.own import Own, is_own, method, try_mask
from lcbook.formats import at_least


@dataclass(frozen=True)
class Full:
    """A query sees every key up to its own place."""

    label: ClassVar[str] = "full"


@dataclass(frozen=True)
class Window:
    """A query sees `window` keys: its own and those before it, `dilation` places apart.

    The tokens at `globals_at` are global: all later queries see them, and they see all earlier keys. At the start of
    the text such tokens are what StreamingLLM calls sinks. A window of 1 is the exact limit case: a query sees itself.
    Source: Beltagy et al. 2020, arXiv 2004.05150, section 3.1 (Longformer).
    """

    window: int = 16
    dilation: int = 1
    globals_at: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        at_least(1, window=self.window, dilation=self.dilation)
        if min(self.globals_at, default=0) < 0 or len(set(self.globals_at)) < len(self.globals_at):
            raise ValueError(
                f"globals_at is {self.globals_at}; allowed are distinct places from 0 to the length - 1."
            )

    @property
    def label(self) -> str:
        """The name on the page."""
        apart = f", dilation {self.dilation}" if self.dilation > 1 else ""
        return f"window {self.window}{apart}" + (
            f" + {len(self.globals_at)} global" if self.globals_at else ""
        )


@dataclass(frozen=True)
class Strided:
    """A query sees the last `window` keys and, before them, every key a multiple of `stride` places back.

    Source: Child et al. 2019, arXiv 1904.10509, section 4.2 (Sparse Transformer), both parts in one head.
    """

    window: int = 16
    stride: int = 16

    def __post_init__(self) -> None:
        at_least(1, window=self.window, stride=self.stride)

    @property
    def label(self) -> str:
        """The name on the page."""
        return f"window {self.window} + stride {self.stride}"


@dataclass(frozen=True)
class Chunked:
    """The text is cut into blocks of `block` tokens; a query sees its own block up to its own place.

    A block at least as long as the text is full attention, exactly.
    """

    block: int = 16

    def __post_init__(self) -> None:
        at_least(1, block=self.block)

    @property
    def label(self) -> str:
        """The name on the page."""
        return f"blocks of {self.block}"


@dataclass(frozen=True)
class BigBird:
    """Blocks of `block` tokens: a query sees its own block and the `window` - 1 before it, the first `globals` blocks,
    and `random` blocks drawn once from `seed` for each block of queries among those that are left.

    Source: Zaheer et al. 2020, arXiv 2007.14062, section 2, made causal; its global blocks are the first ones here.
    """

    block: int = 16
    window: int = 2
    random: int = 2
    globals: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        at_least(1, block=self.block, window=self.window)
        at_least(0, random=self.random, globals=self.globals)

    @property
    def label(self) -> str:
        """The name on the page."""
        return f"BigBird {self.window}+{self.random}+{self.globals} of {self.block}"


@dataclass(frozen=True)
class TopK:
    """A query sees the `keys` keys of highest selector score among those up to its own place, all if there are fewer.

    The selector compares queries and keys through one fixed random projection to `selector_width` channels drawn from
    `seed`; 0 uses the attention scores themselves, so that nothing but the tail is cut. A stand-in for the learned
    indexer of DeepSeek Sparse Attention (DeepSeek-AI 2025, arXiv 2512.02556, section 2.1).
    """

    keys: int = 16
    selector_width: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        at_least(1, keys=self.keys)
        at_least(0, selector_width=self.selector_width)

    @property
    def label(self) -> str:
        """The name on the page."""
        return f"top {self.keys}" + (f", selector {self.selector_width}" if self.selector_width else "")


@dataclass(frozen=True)
class TopBlocks:
    """A query sees its own block of `block` keys and the `blocks` - 1 earlier ones whose mean key scores highest.

    Source: Lu et al. 2025, arXiv 2502.13189, section 2.2, eq. 6 (MoBA).
    """

    block: int = 16
    blocks: int = 2

    def __post_init__(self) -> None:
        at_least(1, block=self.block, blocks=self.blocks)

    @property
    def label(self) -> str:
        """The name on the page."""
        return f"top {self.blocks} blocks of {self.block}"


Static = Full | Window | Strided | Chunked | BigBird
Content = TopK | TopBlocks
Pattern = Static | Content


AnyPattern = Pattern | Own  # one of the menu, or a reader's own (see `lcbook.attention.own`), which is static


def require(pattern: object) -> None:
    """Raise ValueError for what is no pattern, and for a reader's own whose mask does not fit."""
    if isinstance(pattern, Pattern):
        return
    if not is_own(pattern, "mask"):
        raise ValueError(
            f"pattern is {pattern!r}; allowed is one of lcbook.attention.patterns, or a frozen dataclass with a "
            "method mask."
        )
    try_mask(pattern)


def check(pattern: AnyPattern, length: int) -> None:
    """Raise ValueError if a pattern does not fit a text of `length` tokens.

    A window, stride, block or number of keys beyond the length is no error: it is full attention, exactly.
    """
    at_least(1, length=length)
    if isinstance(pattern, Window) and max(pattern.globals_at, default=0) >= length:
        raise ValueError(f"globals_at is {pattern.globals_at}; allowed are places from 0 to {length - 1}.")


def visible(
    pattern: Static | Own, q_index: Int[Tensor, "..."], k_index: Int[Tensor, "..."]
) -> Bool[Tensor, "..."]:
    """Return where the query at place `q_index` sees the key at place `k_index`; the two broadcast.

    Raises ValueError for a content pattern, which no rule on places describes.
    """
    back = q_index - k_index
    causal = back >= 0
    match pattern:
        case Full():
            return causal
        case Window(window=window, dilation=dilation, globals_at=places):
            seen = (back < window * dilation) & (back % dilation == 0)
            for place in places:
                seen = seen | (k_index == place) | (q_index == place)
            return causal & seen
        case Strided(window=window, stride=stride):
            return causal & ((back < window) | (back % stride == 0))
        case Chunked(block=block):
            return causal & (q_index // block == k_index // block)
        case BigBird(block=block, window=window, globals=first):
            q_block, k_block = q_index // block, k_index // block
            near = (q_block - k_block < window) | (k_block < first)
            blocks = int(q_index.max()) // block + 1
            drawn = torch.zeros(blocks, blocks, dtype=torch.bool, device=q_index.device)
            for row, chosen in enumerate(random_blocks(pattern, blocks)):
                drawn[row, chosen] = True
            return causal & (near | drawn[q_block, torch.minimum(k_block, q_block)])
        case TopK() | TopBlocks():
            raise ValueError(
                f"pattern is {pattern}; allowed is a static one, see lcbook.attention.patterns.select."
            )
        case own:
            return causal & method(own, "mask")(q_index, k_index)


def random_blocks(pattern: BigBird, blocks: int) -> list[list[int]]:
    """Return for each of `blocks` query blocks the key blocks that BigBird draws for it, fewer where none are left.

    A row depends on the seed and its own number alone, so that a longer text keeps the choices of a shorter one.
    """
    rows = []
    for row in range(blocks):
        left = range(pattern.globals, row - pattern.window + 1)
        generator = torch.Generator().manual_seed(pattern.seed * 1_000_003 + row)
        order = torch.randperm(len(left), generator=generator)[: pattern.random]
        rows.append(sorted(left[i] for i in order.tolist()))
    return rows


def projection(pattern: TopK, width: int) -> Float[Tensor, "width r"]:
    """Return the selector's random projection from `width` channels, drawn from the pattern's seed."""
    generator = torch.Generator().manual_seed(pattern.seed)
    return torch.randn(width, pattern.selector_width, generator=generator) / math.sqrt(pattern.selector_width)


def selector_scores(
    pattern: TopK, q: Float[Tensor, "b h t d"], k: Float[Tensor, "b h s d"]
) -> Float[Tensor, "b h t s"]:
    """Return the scores by which `pattern` ranks keys, up to a positive factor: q k^T, or that of the projections."""
    if pattern.selector_width:
        sketch = projection(pattern, q.shape[-1]).to(q)
        q, k = q @ sketch, k @ sketch
    return q @ k.transpose(-1, -2)


def select(
    pattern: Content, q: Float[Tensor, "b h t d"], k: Float[Tensor, "b h s d"], q_index: Int[Tensor, "_ t"]
) -> Bool[Tensor, "b h t s"]:
    """Return the keys that a content pattern lets each query at the places `q_index` see, by dense scores.

    Raises ValueError for a static pattern.
    """
    k_index = torch.arange(k.shape[2], device=k.device)
    causal = (k_index <= q_index[..., None])[:, None]
    with torch.no_grad():
        match pattern:
            case TopK(keys=keys):
                scores = selector_scores(pattern, q, k).masked_fill(~causal, -torch.inf)
                best = scores.topk(min(keys, k.shape[2]), dim=-1).indices
                chosen = torch.zeros_like(scores, dtype=torch.bool).scatter_(-1, best, True)
            case TopBlocks(block=block):
                best = best_blocks(pattern, q, k, q_index // block)
                count = -(-k.shape[2] // block)
                open_ = torch.zeros(*best.shape[:-1], count, dtype=torch.bool, device=k.device)
                open_.scatter_(-1, best, True)
                chosen = open_[..., k_index // block]
            case _:
                raise ValueError(f"pattern is {pattern}; allowed is a content pattern, see visible.")
    return chosen & causal


def best_blocks(
    pattern: TopBlocks, q: Float[Tensor, "b h t d"], k: Float[Tensor, "b h s d"], q_block: Int[Tensor, "_ t"]
) -> Int[Tensor, "b h t n"]:
    """Return the blocks each query sees: its own first, then the earlier ones of highest score with their mean key.

    Where a query has fewer earlier blocks than it may see, places that are left over name blocks after its own.
    """
    count = -(-k.shape[2] // pattern.block)
    padded = torch.nn.functional.pad(k, (0, 0, 0, count * pattern.block - k.shape[2]))
    means = padded.unflatten(2, (count, pattern.block)).mean(3)
    number = torch.arange(count, device=k.device)
    scores = q @ means.transpose(-1, -2)
    own = q_block[:, None, :, None]
    scores = scores.masked_fill(number > own, -torch.inf).masked_fill(number == own, torch.inf)
    return scores.topk(min(pattern.blocks, count), dim=-1).indices


def pattern_mask(pattern: Static | Own, length: int) -> Bool[Tensor, "t s"]:
    """Return the whole mask of a static pattern, [length, length]: for pictures and tests. Raises as `check`."""
    check(pattern, length)
    index = torch.arange(length)
    return visible(pattern, index[:, None], index[None])


def reach(mask: Bool[Tensor, "t t"], layers: int) -> Bool[Tensor, "t t"]:
    """Return where information can flow from key to query through `layers` layers: the boolean power of the mask.

    Raises ValueError for fewer than one layer or a mask that is not square.
    """
    at_least(1, layers=layers)
    if mask.ndim != 2 or mask.shape[0] != mask.shape[1]:
        raise ValueError(f"mask has shape {tuple(mask.shape)}; allowed is a square one.")
    step = mask.float()
    found = step
    for _ in range(layers - 1):
        found = (found @ step).clamp_(max=1)
    return found > 0


def span(pattern: Static | Own, layers: int, length: int) -> int:
    """Return the largest gap in tokens from which the last of `length` tokens can still be told something."""
    row = reach(pattern_mask(pattern, length), layers)[-1]
    return length - 1 - int(row.int().argmax())
