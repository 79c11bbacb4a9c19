"""Costs of attention in closed form: visible pairs, operations, memory traffic, peak memory, and the roof over them.

A product of [m, k] and [k, n] counts 2 m k n operations, as in `lcbook.models.costs`. A pair of a query and a key
takes 4 d of them: 2 d for the score and 2 d to add the value. What a form computes and then masks counts, since it is
computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lcbook import runtime
from lcbook.attention import backends
from lcbook.attention.backends import Form
from lcbook.attention.patterns import (
    AnyPattern,
    BigBird,
    Chunked,
    Full,
    Strided,
    TopBlocks,
    TopK,
    Window,
    check,
    pattern_mask,
    require,
)
from lcbook.attention.sparse import AT_ONCE, sees_all
from lcbook.formats import at_least

BLOCK = 128  # of queries in one piece of a window, the default of sparse_attention


@dataclass(frozen=True)
class AttentionCost:
    """What one forward pass of attention costs, all heads and sequences together.

    `flops` are the operations of the matrix products it computes, `bytes` the least traffic with memory, `peak_bytes`
    the most that is alive at once beyond q, k and v.
    """

    flops: int
    bytes: int
    peak_bytes: int


@dataclass(frozen=True)
class Machine:
    """A machine as the roofline sees it: operations a second, and bytes read or written a second."""

    flops_per_second: float | int
    bytes_per_second: float | int

    def __post_init__(self) -> None:
        for name in ("flops_per_second", "bytes_per_second"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; allowed is above 0.")


def _triangle(n: int) -> int:
    """Return 1 + 2 + ... + n, and 0 for n below 1."""
    return n * (n + 1) // 2 if n > 0 else 0


def _window_pairs(window: int, dilation: int, length: int) -> int:
    """Return the pairs of a window without globals: the query at place i sees min(window, i // dilation + 1) keys."""
    groups, rest = divmod(length, dilation)
    whole = _triangle(min(window, groups)) + window * max(0, groups - window)
    return dilation * whole + rest * min(window, groups + 1)


def _global_pairs(pattern: Window, length: int) -> int:
    """Return the pairs that only the global tokens add: their columns and rows, less what the window or both hold."""
    window, dilation, added = pattern.window, pattern.dilation, 0
    for place in pattern.globals_at:
        column = length - place - min(window, (length - 1 - place) // dilation + 1)
        row = place + 1 - min(window, place // dilation + 1)
        gaps = [place - other for other in pattern.globals_at if other < place]
        added += column + row - sum(gap % dilation > 0 or gap >= window * dilation for gap in gaps)
    return added


def visible_pairs(pattern: AnyPattern, length: int) -> int:
    """Return the exact number of pairs of a query and a key that it sees, in closed form.

    Of a content pattern they are those left after selection; `keys_compared` says what choosing them takes. Those of a
    reader's own are counted in its mask. Raises ValueError as `patterns.check`.
    """
    check(pattern, length)
    match pattern:
        case Full():
            return _triangle(length)
        case Window(window=window, dilation=dilation):
            return _window_pairs(window, dilation, length) + _global_pairs(pattern, length)
        case Strided(window=window, stride=stride):
            # i // stride summed over the queries from `window` on, less the multiples of the stride in their window

            def floors(n: int) -> int:
                return stride * _triangle(n // stride - 1) + (n % stride) * (n // stride)

            beyond = floors(length) - floors(window) - (length - window) * ((window - 1) // stride)
            return _window_pairs(window, 1, length) + (beyond if length > window else 0)
        case Chunked(block=block):
            return length // block * _triangle(block) + _triangle(length % block)
        case BigBird(block=block, window=window, random=random, globals=first):
            return _block_pairs(block, window - 1 + random + first, length)
        case TopK(keys=keys):
            return _window_pairs(keys, 1, length)
        case TopBlocks(block=block, blocks=blocks):
            return _block_pairs(block, blocks - 1, length)
        case own:
            return int(pattern_mask(own, length).sum())


def keys_compared(pattern: AnyPattern, length: int, head_dim: int) -> float | int:
    """Return how many keys the last of `length` queries is compared with, in comparisons of `head_dim` channels.

    They are the keys that attention sees and, where contents choose, what the selector compares: every key, in
    selector_width of the channels, or the mean of every block. Raises ValueError as `patterns.check`.
    """
    check(pattern, length)
    match pattern:
        case TopK(keys=keys, selector_width=width):
            return min(keys, length) + length * (width or head_dim) / head_dim
        case TopBlocks(block=block, blocks=blocks):
            last = length - (length - 1) // block * block  # keys of the own block
            return min(blocks - 1, (length - 1) // block) * block + last + -(-length // block)
        case Window(globals_at=places) if length - 1 in places:
            return length
        case _:
            return visible_pairs(pattern, length) - (visible_pairs(pattern, length - 1) if length > 1 else 0)


def _block_pairs(block: int, earlier: int, length: int) -> int:
    """Return the pairs if a query sees its own block up to its own place and up to `earlier` blocks before it."""
    blocks, rest = divmod(length, block)
    seen = _triangle(min(blocks - 1, earlier)) + earlier * max(0, blocks - 1 - earlier)
    own = blocks * _triangle(block) + _triangle(rest)
    return own + block * (block * seen + rest * min(blocks, earlier))


def attention_cost(
    form: Form, *, length: int, heads: int, head_dim: int, batch: int = 1, element_size: int = 4
) -> AttentionCost:
    """Return what one causal forward pass costs in `form`, on q, k and v of [batch, heads, length, head_dim].

    `flops` are those of the products that the form computes, masked pairs, filled-up blocks and a selector included;
    the fused kernel skips what lies above the diagonal, which torch's counter takes in on a GPU; the queries that fill
    up the tiles of TopBlocks depend on the data and are left out. `bytes` reads q, k and v once and writes the output
    once, whatever is read again; forms that hold all scores pass over them six times more (write; read and write to
    mask; read and write in softmax; read to mix). `peak_bytes` adds up the tensors alive at the peak as the form is
    written, without the work space of kernels. FlexAttention is compiled on CUDA and counted as the visible pairs there
    (its kernel computes whole blocks of 128 that hold one); elsewhere it holds all scores. Raises ValueError for a size
    below 1, and as `patterns.check`.
    """
    at_least(1, length=length, heads=heads, head_dim=head_dim, batch=batch, element_size=element_size)
    rows = batch * heads
    flops, peak = _work(form, length, head_dim, rows)
    moved = 4 * length * head_dim + (6 * length**2 if _holds_scores(form) else 0)
    return AttentionCost(rows * flops, rows * moved * element_size, rows * peak * element_size)


def _holds_scores(form: Form) -> bool:
    """Return whether a form holds all length x length scores at once."""
    return isinstance(form, backends.Naive) or (
        isinstance(form, backends.Flex) and runtime.device().type != "cuda"
    )


def _work(form: Form, n: int, d: int, rows: int) -> tuple[int, int]:
    """Return a head's operations and the numbers alive at the peak, where `rows` heads are computed together."""
    match form:
        case backends.Naive():
            return 4 * d * n**2, 2 * n**2 + n * d  # scores, weights
        case backends.Fused():
            return 4 * d * _triangle(n), n * (d + 1)
        case backends.Tiled(tile=tile):
            m = min(tile, n)
            return 4 * d * _stairs(n, tile), n * (d + 1) + max(n * d, _diagonal(m, rows) + 2 * m * d)
        case backends.ChunkedPrefill(chunk=chunk):
            m = min(chunk, n)
            return 4 * d * _stairs(n, chunk), max(_diagonal(m, rows), m * (n - m) + n * d, 2 * n * d)
        case backends.Ring(devices=devices):
            m = -(-n // devices)
            shards = [n // devices + (i < n % devices) for i in range(devices)]
            seen = sum(size * sum(shards[: i + 1]) for i, size in enumerate(shards))
            return 4 * d * seen, n * (d + 1) + _diagonal(m, rows)
        case backends.Linear(chunk=chunk):
            return _linear(n, d, min(chunk, n))
        case backends.Flex(pattern=pattern):
            check(pattern, n)
            if _holds_scores(form):
                return (
                    4 * d * n**2,
                    3 * n**2 + 3 * n**2 // rows + n * d,
                )  # scores; places and masks, which heads share
            return 4 * d * visible_pairs(pattern, n), n * (d + 1)
        case pattern:
            require(pattern)
            check(pattern, n)
            return _sparse(pattern, n, d, rows)


def _diagonal(m: int, rows: int) -> int:
    """Return the numbers held for m queries on m keys: scores, and a mask that heads share, as numbers and bytes."""
    return m * m + 3 * m * m // (2 * rows)


def _stairs(n: int, step: int) -> int:
    """Return the pairs if `step` queries at a time meet all keys up to their end."""
    whole, rest = divmod(n, step)
    return step * step * _triangle(whole) + rest * n


def _linear(n: int, d: int, chunk: int) -> tuple[int, int]:
    """Return operations and peak of linear attention: pairs inside chunks, the state added and read by each chunk."""
    count = -(-n // chunk)
    flops = 2 * count * chunk * (chunk * d + chunk * (d + 1) + 2 * d * (d + 1))
    return flops, count * (chunk * (6 * d + 3) + 2 * d * (d + 1))


def _sparse(pattern: AnyPattern, n: int, d: int, rows: int) -> tuple[int, int]:
    """Return operations and peak of `sparse_attention`, piece by piece as it computes them."""
    if sees_all(pattern, n):
        return 4 * d * _triangle(n), n * (d + 1)
    match pattern:
        case Window(window=window, dilation=dilation, globals_at=places):
            apart = min(dilation, n)
            pairs, peak = _band(-(-n // apart), window, d, rows * apart)
            return 4 * d * (apart * pairs + 2 * n * len(places)), 3 * n * d + apart * peak
        case Strided(window=window, stride=stride):
            pairs, peak = _band(n, window, d, rows)
            apart = min(stride, n)
            count = -(-n // apart)
            met = apart * _stairs(count, _step(rows * apart * count))
            return 4 * d * (pairs + met), n * (d + 1) + max(peak, 5 * n * d + _held(2 * met, rows))
        case Chunked(block=block) | TopBlocks(block=block, blocks=1):
            count = -(-n // block)
            return 4 * d * count * _triangle(block), count * block * (4 * d + 1)
        case BigBird(block=block, window=window, random=random, globals=first):
            count = -(-n // block)
            each = block * (
                min(count - 1, window - 1 + random + first) + 1
            )  # keys that a block of queries meets
            held = _held(2 * count * block * each + 2 * count * each * d, rows)
            return 4 * d * count * block * each, 3 * n * d + max(n * d + held, 2 * n * d)
        case TopK(keys=keys, selector_width=width):
            step = _step(rows * max(n, keys * d))
            kept = sum(min(step, n - first) * min(keys, first + step, n) for first in range(0, n, step))
            choosing = 2 * (width or d) * _stairs(n, step) + 4 * n * d * width
            held = _held(2 * n * max(n, keys * d), rows)
            return choosing + 4 * d * kept, 2 * n * width + max(n * d + held, 2 * n * d)
        case TopBlocks(block=block, blocks=blocks):
            count = -(-n // block)
            own = count * block * block
            earlier = visible_pairs(pattern, n) - visible_pairs(Chunked(block), n)
            copies = (
                (min(blocks, count) - 1) * n * (2 * d + 8)
            )  # an output and a place for each block of a query
            return 2 * d * n * count + 4 * d * (own + earlier), n * (5 * d + 1) + 2 * copies
        case _:  # a reader's own, under its whole mask
            return 4 * d * n**2, 2 * n**2 + n * d


def _band(n: int, window: int, d: int, rows: int) -> tuple[int, int]:
    """Return the pairs and the peak of a window: blocks of queries, each on the run of keys that they see together."""
    block, past = min(BLOCK, n, max(32, window)), -(-min(window, n) // 16) * 16
    pairs = -(-n // block) * block * (past + block)
    return pairs, 3 * n * d + max(2 * n * d, n * d + _held(2 * pairs, rows))


def _step(cost: int) -> int:
    """Return how many places `sparse_attention` takes at a time here, if each costs so many numbers."""
    return max(1, AT_ONCE[runtime.device().type] // cost)


def _held(numbers: int, rows: int) -> int:
    """Return how many of a head's `numbers`, two for each one that counts, are held at a time."""
    return min(numbers, 2 * AT_ONCE[runtime.device().type] // rows)


def kv_cache_bytes(
    layers: int,
    kv_heads: int,
    head_dim: int,
    length: int,
    element_size: int = 2,
    windows: Sequence[int | None] | None = None,
) -> int:
    """Return the bytes of the keys and values that a decoder keeps of one text of `length` tokens.

    `windows` gives each layer's window, None for a layer of full attention; a layer never keeps more than its window.
    Raises ValueError for a size below 1, or for another number of windows than layers.
    """
    at_least(1, layers=layers, kv_heads=kv_heads, head_dim=head_dim, length=length, element_size=element_size)
    spans = [None] * layers if windows is None else list(windows)
    if len(spans) != layers:
        raise ValueError(f"windows has {len(spans)} entries; allowed is one for each of the {layers} layers.")
    at_least(1, **{f"windows[{i}]": span for i, span in enumerate(spans) if span is not None})
    kept = sum(length if span is None else min(length, span) for span in spans)
    return 2 * kept * kv_heads * head_dim * element_size


def roofline_seconds(cost: AttentionCost, machine: Machine) -> float:
    """Return the least time that `cost` takes on `machine`: its arithmetic or its memory traffic, the longer of them.

    Source: Williams, Waterman & Patterson 2009, CACM 52(4), 65-76.
    """
    return max(cost.flops / machine.flops_per_second, cost.bytes / machine.bytes_per_second)
