"""Chains of lookups: what a question leads to is itself a key, whose value is the next key, up to the chain's end.

b7 c1 .  b2 c4 .  filler ...  a3 b7 .  a5 b2 .   a3 .  b2 .      a3 -> b7 -> c1: two hops; b2 -> c4: one
                                                 ^     ^ the places where answers are asked for
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from lcbook.formats import at_least
from lcbook.tasks.base import Batch, distinct, require_room


@dataclass(frozen=True)
class Hops:
    """Chains x_0 -> x_1 -> ... -> x_hops lie in filler as pairs; asked is the end of a chain.

    Each of `chains` chains takes one of `names` names at every level, different names in different chains, so that
    the only way to the end is along the pairs, and each pair is followed by a token of filler. `queries` questions
    name an element of a chain, `asked` hops from its end, or with 0 any number from 1 to `hops`, drawn anew each time.
    Filler follows a question, not its answer, or the same question asked again would be answered by one hop.
    With `backward` each pair stands behind all pairs that it can lead to, as a program defines a name before it uses
    it; else the pairs are in random order.
    Tokens: level l has names l * names + (0..names-1), then filler. `gap` counts from the last pair of the chain.
    Raises ValueError for sizes that leave a sequence impossible.
    """

    hops: int = 2
    chains: int = 4
    queries: int = 4
    names: int = 16
    filler: int = 16
    asked: int = 0
    backward: bool = True

    def __post_init__(self) -> None:
        names = ("hops", "chains", "queries", "names", "filler")
        at_least(1, **{name: getattr(self, name) for name in names})
        if self.chains > self.names:
            raise ValueError(f"chains is {self.chains}; allowed is at most names ({self.names}).")
        if not 0 <= self.asked <= self.hops:
            raise ValueError(
                f"asked is {self.asked}; allowed is 0 (any) to the hops of a chain ({self.hops})."
            )

    @property
    def vocabulary(self) -> int:
        """Number of distinct tokens: names at every level, and filler."""
        return (self.hops + 1) * self.names + self.filler

    @property
    def chance(self) -> float:
        """A guess among the ends of the chains."""
        return 1 / self.chains

    def sample(self, batch: int, length: int, generator: torch.Generator) -> Batch:
        """Draw `batch` sequences of `length` tokens. Raises ValueError if the pairs do not fit the length."""
        context, pairs = length - 2 * self.queries, self.hops * self.chains
        require_room(batch, length, 3 * pairs + 2 * self.queries)
        names = (self.hops + 1) * self.names
        tokens = torch.randint(self.filler, (batch, length), generator=generator) + names
        chain = [
            distinct(batch, self.names, self.chains, generator) + i * self.names for i in range(self.hops + 1)
        ]
        where = 3 * distinct(batch, context // 3, pairs, generator)
        if self.backward:
            where = where.sort(dim=1, descending=True).values
        where = where.view(batch, self.hops, self.chains)
        if self.backward:
            # Each level has an order of its own, or the third name would always lead to the third pair.
            order = distinct(batch * self.hops, self.chains, self.chains, generator)
            where = where.gather(2, order.view_as(where))
        tokens.scatter_(1, where.flatten(1), torch.cat(chain[:-1], dim=1))
        tokens.scatter_(1, where.flatten(1) + 1, torch.cat(chain[1:], dim=1))
        which = torch.randint(self.chains, (batch, self.queries), generator=generator)
        level = torch.randint(self.hops, (batch, self.queries), generator=generator)
        if self.asked:
            level = torch.full_like(level, self.hops - self.asked)
        at = (context + 2 * torch.arange(self.queries)).expand(batch, -1).contiguous()
        answers = chain[-1].gather(1, which)
        tokens.scatter_(1, at, torch.stack(chain, dim=1).flatten(1).gather(1, level * self.chains + which))
        return Batch(tokens, at, answers, at - where[:, -1].gather(1, which))

    def with_pairs(self, pairs: int) -> Hops:
        """Return the same task with another number of chains (for curricula)."""
        return replace(self, chains=pairs)
