"""Recall of the values of keys, and where their pairs lie in the context.

A distribution of `depths` is a tuple of weights, one for each of any number of equal bins of the context, the first at
its start: (0.1, 0.1, 0.8) puts eight of ten needles into the last third. Within a bin all places are equally likely.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lcbook.formats import at_least
from lcbook.tasks.base import Batch, distinct, require_room

KINDS = ("uniform", "recency", "primacy", "both ends")


def depth_weights(kind: str, bins: int = 10, strength: float | int = 3.0) -> tuple[float, ...]:
    """Return the weights of `bins` equal bins of the context, which sum to one, for the `depths` of a task.

    "recency" rises to the end of the context, "primacy" to its start, "both ends" to both from the middle, each
    exponentially: the likeliest bin is exp(strength) times as likely as the least likely one, whatever `bins`. So
    strength 0 is uniform, 3 a ratio of 20. "uniform" is uniform at every strength.

    Raises ValueError for an unknown kind, no bins, or a strength that is negative or not finite.
    """
    if kind not in KINDS:
        raise ValueError(f"kind is {kind!r}; allowed is one of {', '.join(KINDS)}.")
    at_least(1, bins=bins)
    if not 0 <= strength < math.inf:
        raise ValueError(f"strength is {strength}; allowed is 0 (uniform) or more.")
    place = np.linspace(0.0, 1.0, bins)
    rise = {
        "uniform": np.zeros(bins),
        "recency": place,
        "primacy": 1 - place,
        "both ends": np.abs(2 * place - 1),
    }[kind]
    rise = rise - rise.min()
    weights = np.exp(strength * (rise / max(rise.max(), 1e-12) - 1))
    return tuple((weights / weights.sum()).round(12).tolist())  # rounded: the same spec on every machine


def check_depths(depths: tuple[float | int, ...]) -> None:
    """Raise ValueError unless `depths` is empty (uniform), or weights that are not negative and sum to one."""
    if any(not weight >= 0 for weight in depths):
        raise ValueError(f"depths is {depths}; allowed are weights of 0 or more.")
    if depths and not abs(math.fsum(depths) - 1) <= 1e-9:
        raise ValueError(
            f"depths is {depths}, which sums to {math.fsum(depths)}; allowed are weights that sum to 1."
        )


def slot_weights(depths: tuple[float | int, ...], slots: int) -> Float[Tensor, " slots"]:
    """Return how likely each of `slots` equal parts of the context is: the weight of each bin that it lies in, by
    overlap."""
    below = np.concatenate([[0.0], np.cumsum(depths)])
    edges = np.arange(len(depths) + 1) / len(depths)
    return torch.from_numpy(np.diff(np.interp(np.arange(slots + 1) / slots, edges, below)).clip(min=0.0))


def draw_slots(
    depths: tuple[float | int, ...],
    *,
    batch: int,
    slots: int,
    pairs: int,
    queries: int,
    generator: torch.Generator,
) -> Int[Tensor, "b pairs"]:
    """Draw distinct slots for `pairs` pairs, the first `queries` by `depths`, the others uniformly from what is left.

    Those by `depths` are drawn one after another without replacement, so the first alone has exactly these weights
    and a crowded bin spills into the others. Source: Efraimidis and Spirakis 2006, whose exponential waiting times
    give that distribution at once. Raises ValueError if `depths` leaves fewer slots than queries.
    """
    weights = slot_weights(depths, slots)
    possible = int((weights > 0).sum())
    if possible < queries:
        raise ValueError(
            f"depths is {depths}, which leaves {possible} places of {slots}; allowed is at least queries ({queries})."
        )
    waiting = -torch.rand(batch, slots, generator=generator, dtype=weights.dtype).log() / weights
    asked = waiting.topk(queries, dim=1, largest=False).indices
    order = torch.rand(batch, slots, generator=generator).scatter(1, asked, -1.0)
    return torch.cat([asked, order.topk(pairs - queries, dim=1).indices], dim=1)


def _later_first(
    slot: Int[Tensor, "b slots"], count: int
) -> tuple[Int[Tensor, "b pairs"], Int[Tensor, "b count"]]:
    """Pair each of the first `count` slots with one of the last `count`; return the pairs' slots, and the stale ones'.

    Of each two the later is the pair's own.
    """
    own, spare = slot[:, :count], slot[:, -count:]
    return torch.cat([own.maximum(spare), slot[:, count:-count]], dim=1), own.minimum(spare)


@dataclass(frozen=True)
class KeyValueRecall:
    """Pairs of a key and a value lie in filler; at the end some keys come again and their values are asked for.

    `pairs` distinct keys of `keys` are bound to fresh random values of `values` in each sequence; `queries` of them
    are asked. `depth` places the first-asked pair at that share of the context (0 start, 1 end), None draws it
    uniformly. `depths` holds weights of equal bins of the context by which all pairs that will be asked for are placed
    (see `depth_weights`), () uniformly. `competing` is the share of the remaining context filled by pairs whose keys
    are not asked for; a share `agreeing` of these has one and the same value, which is never an answer.
    Filler is uniform noise over `filler` tokens, or, with `text`, a walk in which each token has two equally likely
    successors, so that a bigram predicts it to within log 2 nats. With `announced` the keys that will be asked for
    also stand at the very start, so that a reader knows from there what to keep. With `rewritten` each key that will
    be asked for is bound twice, and the later value is the answer.

    Tokens: keys 0..keys-1, then values, then filler. Raises ValueError for sizes that leave a sequence impossible.
    """

    pairs: int = 8
    queries: int = 4
    keys: int = 64
    values: int = 64
    filler: int = 64
    depth: float | None = None
    competing: float = 0.0
    text: bool = False
    announced: bool = False
    rewritten: bool = False
    depths: tuple[float | int, ...] = ()
    agreeing: float | int = 0.0

    def __post_init__(self) -> None:
        names = ("pairs", "queries", "keys", "values", "filler")
        at_least(1, **{name: getattr(self, name) for name in names})
        if self.pairs + (self.competing > 0) > self.keys:
            raise ValueError(
                f"pairs is {self.pairs}; allowed is at most {self.keys - (self.competing > 0)} with {self.keys} keys."
            )
        if self.queries > self.pairs:
            raise ValueError(f"queries is {self.queries}; allowed is at most pairs ({self.pairs}).")
        if self.depth is not None and not 0 <= self.depth <= 1:
            raise ValueError(f"depth is {self.depth}; allowed is None or a share from 0 to 1.")
        if self.depth is not None and self.rewritten:
            raise ValueError(f"depth is {self.depth} with rewritten pairs; allowed is None.")
        check_depths(self.depths)
        if self.depths and (self.depth is not None or self.rewritten):
            raise ValueError(f"depths is {self.depths} with a depth or rewritten pairs; allowed is ().")
        if not 0 <= self.competing <= 1:
            raise ValueError(f"competing is {self.competing}; allowed is a share from 0 to 1.")
        if not 0 <= self.agreeing <= 1 or (self.agreeing and self.values <= self.pairs):
            raise ValueError(
                f"agreeing is {self.agreeing} with {self.values} values; allowed is a share from 0 to 1, "
                f"and with more than 0 more values than pairs ({self.pairs})."
            )

    @property
    def vocabulary(self) -> int:
        """Number of distinct tokens: keys, values and filler."""
        return self.keys + self.values + self.filler

    @property
    def chance(self) -> float:
        """A guess among the values."""
        return 1 / self.values

    def sample(self, batch: int, length: int, generator: torch.Generator) -> Batch:
        """Draw `batch` sequences of `length` tokens. Raises ValueError if the pairs do not fit the length."""
        start = self.queries if self.announced else 0
        context = length - 2 * self.queries
        slots = (context - start) // 2
        old = self.queries if self.rewritten else 0
        require_room(batch, length, 2 * (self.pairs + old + self.queries) + start)
        tokens = self._filler(batch, length, generator)
        keys = distinct(batch, self.keys, self.keys, generator)
        asked = keys[:, : self.pairs]
        values = torch.randint(self.values, (batch, self.pairs), generator=generator) + self.keys
        slot = self._slots(batch, slots, generator)
        if self.competing:
            self._compete(tokens[:, start:], keys[:, self.pairs :], values, slots, generator)
        tokens[:, :start] = asked[:, :start]
        if self.rewritten:
            slot, earlier = _later_first(slot, self.queries)
            tokens.scatter_(1, start + 2 * earlier, asked[:, : self.queries])
            stale = torch.randint(self.values, (batch, self.queries), generator=generator) + self.keys
            tokens.scatter_(1, start + 2 * earlier + 1, stale)
        where = start + 2 * slot
        tokens.scatter_(1, where, asked)
        tokens.scatter_(1, where + 1, values)
        at = (context + 2 * torch.arange(self.queries)).expand(batch, -1).contiguous()
        answers = values[:, : self.queries].contiguous()
        tokens.scatter_(1, at, asked[:, : self.queries])
        tokens.scatter_(1, at + 1, answers)
        return Batch(tokens, at, answers, at - where[:, : self.queries])

    def predictable(self, tokens: Int[Tensor, "b s"]) -> Bool[Tensor, "b s-1"]:
        """True where the token after a place can be told from the token there: filler that follows filler."""
        filler = tokens >= self.keys + self.values
        return filler[:, :-1] & filler[:, 1:]

    def _slots(self, batch: int, slots: int, generator: torch.Generator) -> Int[Tensor, "b pairs"]:
        """Draw distinct two-token slots for the pairs, by `depth` or `depths` where given, and for stale ones."""
        if self.depths:
            return draw_slots(
                self.depths,
                batch=batch,
                slots=slots,
                pairs=self.pairs,
                queries=self.queries,
                generator=generator,
            )
        if self.depth is None:
            return distinct(batch, slots, self.pairs + self.rewritten * self.queries, generator)
        needle = round(self.depth * (slots - 1))
        others = distinct(batch, slots - 1, self.pairs - 1, generator)
        return torch.cat([torch.full((batch, 1), needle), others + (others >= needle)], dim=1)

    def _filler(self, batch: int, length: int, generator: torch.Generator) -> Int[Tensor, "b s"]:
        """Draw noise, or a random walk whose steps are 1 or 3 around the ring of filler tokens."""
        start = torch.randint(self.filler, (batch, length), generator=generator)
        if self.text:
            steps = 1 + 2 * torch.randint(2, (batch, length), generator=generator)
            start = (start[:, :1] + steps.cumsum(1)) % self.filler
        return start + self.keys + self.values

    def one_voice(self, values: Int[Tensor, "b pairs"], generator: torch.Generator) -> Int[Tensor, " b"]:
        """Return for each sequence a value that none of its pairs has; drawn only where competing pairs agree."""
        if not self.agreeing:
            return torch.zeros(len(values), dtype=torch.long)
        order = distinct(len(values), self.values, self.values, generator) + self.keys
        free = (order[..., None] != values[:, None]).all(-1)
        return order.gather(1, free.int().argmax(1, keepdim=True))[:, 0]

    def competing_values(
        self, shape: tuple[int, ...], voice: Int[Tensor, "..."], generator: torch.Generator
    ) -> Int[Tensor, "..."]:
        """Draw the values of competing pairs: a share `agreeing` is `voice`, the others are independent."""
        values = torch.randint(self.values, shape, generator=generator) + self.keys
        if self.agreeing:
            values = torch.where(torch.rand(shape, generator=generator) < self.agreeing, voice, values)
        return values

    def _compete(
        self, tokens: Tensor, spare: Tensor, values: Tensor, slots: int, generator: torch.Generator
    ) -> None:
        """Overwrite a share of the slots with pairs of keys that are never asked for."""
        batch, count = tokens.shape[0], round(self.competing * slots)
        where = 2 * distinct(batch, slots, count, generator)
        which = torch.randint(spare.shape[1], (batch, count), generator=generator)
        tokens.scatter_(1, where, spare.gather(1, which))
        voice = self.one_voice(values, generator)[:, None]
        tokens.scatter_(1, where + 1, self.competing_values((batch, count), voice, generator))

    def haystack(self, batch: Batch) -> Bool[Tensor, "b s"]:
        """True for the tokens of which a longer text of the same kind has more: filler and competing pairs.

        The pairs that are asked for are none of them, nor what they were before or what announces them, nor are the
        questions; the other pairs count as competing ones where there are any.
        """
        place = torch.arange(batch.tokens.shape[1], device=batch.tokens.device)
        start = self.queries if self.announced else 0
        context = (place >= start) & (place < batch.at[:, :1])
        more = context & ((batch.tokens >= self.keys + self.values) | (self.competing > 0))
        same = batch.tokens[..., None] == batch.tokens.gather(1, batch.at)[:, None]
        asked = context & same.any(-1)
        return more & ~asked & ~asked.roll(1, 1)  # a value follows its key

    def with_pairs(self, pairs: int) -> KeyValueRecall:
        """Return the same task with fewer or more pairs, and no more queries than pairs (for curricula)."""
        return replace(self, pairs=pairs, queries=min(self.queries, pairs))
