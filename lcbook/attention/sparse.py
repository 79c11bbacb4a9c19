"""Attention that costs what it sees: for each pattern, only the keys in sight are read, and no t x t mask is made.

Static patterns are cut into dense pieces: a window is a band of blocks, a dilated or strided one an ordinary one
within each residue class of places, and sets of keys that no piece covers are merged in as `exact.merge` allows.
Content patterns select by scores first, and then gather the chosen keys.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import pad

from lcbook.attention.attend import attend
from lcbook.attention.exact import Part, fused, hide, merge, partial, same_length
from lcbook.attention.patterns import (
    AnyPattern,
    BigBird,
    Chunked,
    Full,
    Strided,
    TopBlocks,
    TopK,
    Window,
    best_blocks,
    check,
    pattern_mask,
    projection,
    random_blocks,
    visible,
)
from lcbook.formats import at_least

# Pieces hold so many scores (or gathered numbers) at a time: what fits a processor's cache, and what fills a GPU.
AT_ONCE = {"cpu": 2**19, "gpu": 2**26}


def sparse_attention(
    q: Float[Tensor, "b h t d"],
    k: Float[Tensor, "b h s d"],
    v: Float[Tensor, "b h s d"],
    pattern: AnyPattern,
    *,
    block: int = 128,
) -> Float[Tensor, "b h t d"]:
    """Return causal attention on the keys that `pattern` lets each query see; differentiable.

    Time goes with the number of visible pairs (a content pattern's selector still scores all, at its own width), and
    memory beyond them is linear in the length; a reader's own pattern is computed under its whole mask. `block` is the
    most queries that share one piece of a window. Raises ValueError for a block below 1, for q and k of different
    length, and as `patterns.check` does.
    """
    same_length(q, k, v)
    check(pattern, q.shape[2])
    at_least(1, block=block)
    if sees_all(pattern, q.shape[2]):
        return fused(q, k, v)
    match pattern:
        case Full():
            return fused(q, k, v)
        case Window():
            return _window(q, k, v, pattern, block)
        case Strided():
            return merge([_band(q, k, v, pattern.window, block, massed=True), _stride(q, k, v, pattern)])[0]
        case Chunked(block=chunk) | TopBlocks(block=chunk, blocks=1):
            return _join(fused(*(_cut(x, chunk).flatten(1, 2) for x in (q, k, v))), q)
        case BigBird():
            return _big_bird(q, k, v, pattern)
        case TopK():
            return _top_keys(q, k, v, pattern)
        case TopBlocks():
            return _top_blocks(q, k, v, pattern)
        case own:
            return attend(q, k, v, mask=pattern_mask(own, q.shape[2]).to(q.device))[0]


def sees_all(pattern: AnyPattern, length: int) -> bool:
    """Return whether a pattern is so wide that every query of a text of `length` tokens sees all keys before it."""
    match pattern:
        case Full():
            return True
        case Window(window=window, dilation=dilation):
            return window >= length and dilation == 1
        case Strided(window=window, stride=stride):
            return window >= length or stride == 1
        case Chunked(block=block):
            return block >= length
        case BigBird(block=block, window=window, globals=first):
            return block * max(window, first) >= length
        case TopK(keys=keys):
            return keys >= length
        case TopBlocks(block=block, blocks=blocks):
            return block * blocks >= length
        case _:
            return False


def _cut(x: Float[Tensor, "b h t d"], size: int) -> Float[Tensor, "b h n size d"]:
    """Return the text cut into blocks of `size` tokens, the last one filled up with zeros."""
    count = -(-x.shape[2] // size)
    return pad(x, (0, 0, 0, count * size - x.shape[2])).unflatten(2, (count, size))


def _join(blocks: Float[Tensor, "b hn size d"], like: Float[Tensor, "b h t _"]) -> Float[Tensor, "b h t d"]:
    """Undo `_cut` of all heads, dropping what was filled up."""
    return blocks.unflatten(1, (like.shape[1], -1)).flatten(2, 3)[:, :, : like.shape[2]]


def _classes(x: Float[Tensor, "b h t d"], apart: int) -> Float[Tensor, "b hc n d"]:
    """Return the tokens of each residue class of places modulo `apart` as a text of its own, zeros filling up."""
    return _cut(x, apart).transpose(2, 3).flatten(1, 2)


def _interleave(
    classes: Float[Tensor, "b hc n d"], like: Float[Tensor, "b h t _"]
) -> Float[Tensor, "b h t d"]:
    """Undo `_classes`."""
    return _join(classes.unflatten(1, (like.shape[1], -1)).transpose(2, 3).flatten(1, 2), like)


def _window(q: Tensor, k: Tensor, v: Tensor, pattern: Window, block: int) -> Tensor:
    """Return attention in a window, and with global tokens: as keys for later queries, as queries on all keys."""
    apart, length = min(pattern.dilation, q.shape[2]), q.shape[2]
    asking, keys, values = (_classes(x, apart) for x in (q, k, v))
    out, log_mass = _band(asking, keys, values, pattern.window, block, massed=bool(pattern.globals_at))
    out = _interleave(out, q)
    if not pattern.globals_at:
        return out
    log_mass = _interleave(log_mass[..., None], q)[..., 0]
    index, places = torch.arange(length, device=q.device), torch.tensor(pattern.globals_at, device=q.device)
    local = visible(Window(pattern.window, pattern.dilation), index[:, None], places)
    later = visible(Full(), index[:, None], places) & ~local
    out, _ = merge([(out, log_mass), partial(q, k[:, :, places], v[:, :, places], later)])
    rows, _ = partial(q[:, :, places], k, v, visible(Full(), places[:, None], index))
    return out.index_copy(2, places, rows)


def _band(q: Tensor, k: Tensor, v: Tensor, window: int, block: int, *, massed: bool) -> Part:
    """Return attention on the last `window` keys: each block of queries on the run of keys that they see together.

    The log masses cost a third more time; they are an empty tensor unless `massed`. Queries and keys that fill up the
    last block see themselves, so that no row of scores is empty.
    """
    length = q.shape[2]
    block = min(block, length, max(32, window))  # more would be more of what nobody sees
    past = -(-min(window, length) // 16) * 16  # aligned for vector instructions
    queries = _cut(q / math.sqrt(q.shape[-1]), block)
    count = queries.shape[2]
    before_and_after = (0, 0, past, count * block - length)
    keys, values = (pad(x, before_and_after).unfold(2, past + block, block) for x in (k, v))  # [b h n d m]
    row = torch.arange(block, device=q.device)[:, None] + past
    column = torch.arange(block + past, device=q.device)
    seen = visible(Window(window), row, column)
    outs, log_masses = [], []
    for first, last in _spans(q, count, block * (block + past)):
        scores = queries[:, :, first:last] @ keys[:, :, first:last]
        scores += hide(seen, scores)
        if first * block < past:  # keys before the text
            start = torch.arange(first, last, device=q.device)[:, None, None] * block
            scores += hide(start + column >= past, scores)
        if massed:
            log_masses.append(scores.logsumexp(-1))
        outs.append(torch.softmax(scores, -1) @ values[:, :, first:last].transpose(-1, -2))
    out = torch.cat(outs, 2).flatten(2, 3)[:, :, :length]
    return out, torch.cat(log_masses, 2).flatten(2, 3)[:, :, :length] if massed else q.new_empty(0)


def _stride(q: Tensor, k: Tensor, v: Tensor, pattern: Strided) -> Part:
    """Return attention on the keys a multiple of the stride back, without those in the window."""
    # So many multiples of the stride, 0 among them, lie in the window.
    near = -(-pattern.window // pattern.stride)
    stride = min(pattern.stride, q.shape[2])
    asking, keys, values = (_classes(x, stride) for x in (q, k, v))
    count = asking.shape[2]
    parts = []
    for first, last in _spans(asking, count, count):
        row, column = torch.arange(first, last, device=q.device)[:, None], torch.arange(last, device=q.device)
        seen = row - column >= near
        parts.append(partial(asking[:, :, first:last], keys[:, :, :last], values[:, :, :last], seen))
    out, log_mass = (torch.cat(x, 2) for x in zip(*parts, strict=True))
    return _interleave(out, q), _interleave(log_mass[..., None], q)[..., 0]


def _spans(x: Float[Tensor, "b h t _"], count: int, cost: int) -> Iterator[tuple[int, int]]:
    """Cut 0 ... count - 1 into spans (first, end) so small that AT_ONCE holds; each place costs `cost` a head."""
    at_once = AT_ONCE["cpu" if x.device.type == "cpu" else "gpu"]
    size = max(1, at_once // (x.shape[0] * x.shape[1] * cost))
    for first in range(0, count, size):
        yield first, min(first + size, count)


def _big_bird(q: Tensor, k: Tensor, v: Tensor, pattern: BigBird) -> Tensor:
    """Return BigBird's attention: each block of queries on its own list of blocks of keys."""
    queries, keys, values = (_cut(x, pattern.block) for x in (q, k, v))
    count, block = queries.shape[2:4]
    rows = []
    for row, drawn in enumerate(random_blocks(pattern, count)):
        rows.append(
            sorted({*range(min(pattern.globals, row)), *range(max(0, row - pattern.window + 1), row), *drawn})
        )
    widest = max(map(len, rows))
    # The block of the queries itself comes first; -1 fills up.
    table = torch.tensor(
        [[i, *row, *[-1] * (widest - len(row))] for i, row in enumerate(rows)], device=q.device
    )
    own = torch.ones(block, block, dtype=torch.bool, device=q.device).tril()
    outs = []
    for first, last in _spans(q, count, block * block * (widest + 1)):
        chosen = table[first:last]
        earlier = (chosen[:, 1:] >= 0).repeat_interleave(block, 1)[:, None].expand(-1, block, -1)
        seen = torch.cat([own.expand(last - first, -1, -1), earlier], -1)
        near, mixed = (x[:, :, chosen].flatten(3, 4) for x in (keys, values))
        outs.append(partial(queries[:, :, first:last], near, mixed, seen)[0])
    return torch.cat(outs, 2).flatten(2, 3)[:, :, : q.shape[2]]


def _gather(x: Float[Tensor, "b h s d"], index: Int[Tensor, "b h t n"]) -> Float[Tensor, "b h t n d"]:
    """Return the tokens of `x` that `index` names for each query."""
    start = torch.arange(x.shape[0] * x.shape[1], device=x.device).view(*x.shape[:2], 1, 1) * x.shape[2]
    return x.flatten(0, 2).index_select(0, (index + start).flatten()).view(*index.shape, x.shape[-1])


def _top_keys(q: Tensor, k: Tensor, v: Tensor, pattern: TopK) -> Tensor:
    """Return attention on the keys of highest selector score, chosen for a few queries at a time."""
    with torch.no_grad():
        asking, offered = q, k
        if pattern.selector_width:
            sketch = projection(pattern, q.shape[-1]).to(q)
            asking, offered = q @ sketch, k @ sketch
    outs, length = [], q.shape[2]
    for first, last in _spans(q, length, max(length, pattern.keys * q.shape[3])):
        row, column = torch.arange(first, last, device=q.device)[:, None], torch.arange(last, device=q.device)
        with torch.no_grad():
            scores = asking[:, :, first:last] @ offered[:, :, :last].transpose(-1, -2)
            scores.masked_fill_(column > row, -torch.inf)
            chosen = scores.topk(min(pattern.keys, last), sorted=False).indices
        seen = (chosen <= row)[..., None, :]
        outs.append(partial(q[:, :, first:last, None], _gather(k, chosen), _gather(v, chosen), seen)[0])
    return torch.cat(outs, 2).squeeze(3)


def _top_blocks(q: Tensor, k: Tensor, v: Tensor, pattern: TopBlocks) -> Tensor:
    """Return attention on the query's own block and, merged in, on the earlier ones of highest mean key."""
    length, block = q.shape[2], pattern.block
    queries, keys, values = (_cut(x, block) for x in (q, k, v))
    count, means = keys.shape[2], keys.mean(3)
    causal = torch.ones(block, block, dtype=torch.bool, device=q.device).tril()
    spans = [slice(*span) for span in _spans(q, count, block * (block + q.shape[3]))]
    own = [partial(queries[:, :, span], keys[:, :, span], values[:, :, span], causal) for span in spans]
    out, log_mass = (torch.cat(x, 2).flatten(2, 3)[:, :, :length] for x in zip(*own, strict=True))
    place = torch.arange(length, device=q.device)[None] // block
    with torch.no_grad():  # a mean key is a block of one key
        chosen = [
            best_blocks(replace(pattern, block=1), q[:, :, first:last], means, place[:, first:last])
            for first, last in _spans(q, length, count)
        ]
    number = torch.cat(chosen, 2)[..., 1:]
    earlier = number < place[..., None]
    heads = torch.arange(q.shape[0] * q.shape[1], device=q.device).view(*q.shape[:2], 1, 1)
    asking = (heads * length + torch.arange(length, device=q.device)[:, None]).expand_as(number)[earlier]
    asked = (heads * count + number)[earlier]
    found, mass = _meet(q.flatten(0, 2), keys.flatten(0, 2), values.flatten(0, 2), asking, asked)
    outs = q.new_zeros(*number.shape, q.shape[3]).masked_scatter(earlier[..., None], found)
    masses = q.new_full(number.shape, -torch.inf).masked_scatter(earlier, mass)
    return merge([(out, log_mass), *zip(outs.unbind(3), masses.unbind(3), strict=True)])[0]


def _meet(
    q: Float[Tensor, "t d"],
    k: Float[Tensor, "n size d"],
    v: Float[Tensor, "n size d"],
    asking: Int[Tensor, " pairs"],
    asked: Int[Tensor, " pairs"],
) -> Part:
    """Return for each pair the attention of the query `asking` on the block of keys `asked`.

    Each block meets its queries in tiles of equal size, the last of which other queries fill up, so that no block is
    copied for every query. Source: Lu et al. 2025, arXiv 2502.13189, algorithm 1.
    """
    tile, order = 32, asked.argsort()
    askers = torch.bincount(asked, minlength=k.shape[0])
    tiles = -(-askers // tile)
    free = (tiles.cumsum(0) - tiles) * tile - (askers.cumsum(0) - askers)
    slot = torch.empty_like(order)
    slot[order] = torch.arange(len(order), device=q.device) + free[asked[order]]
    of = torch.arange(k.shape[0], device=q.device).repeat_interleave(tiles)
    who = torch.zeros(len(of) * tile, dtype=torch.long, device=q.device)
    who[slot] = asking
    cost = tile * k.shape[1] + (tile + 2 * k.shape[1]) * q.shape[1]
    parts = []
    for first, last in _spans(q[None, None], len(of), cost):
        block = of[first:last]
        parts.append(partial(q[who.view(-1, tile)[first:last]], k[block], v[block]))
    out, log_mass = (torch.cat(x).flatten(0, 1)[slot] for x in zip(*parts, strict=True))
    return out, log_mass
