"""Symbols: ways to ask about the same pairs, in one layout of tokens, so that a model of one can be asked another::

    a5 v2 .  v2 v7 .  . a3 v7 .  v7 v1 . ...  ?  a5 .      v2  "lookup": the value of a5
                                              ?  A5 .      v2  "alias": A5 means a5, which no pair says
                                              ?? a5 .      v7  "two hops": the value of its value
                                              .  #  .      v7  "most frequent": the value of the most pairs
                                              =  A5 .      a5  "name": the symbol that A5 means
                                                 ^

The caret is the place where the answer is asked for; filler follows instead.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Int
from torch import Tensor

from lcbook.formats import at_least
from lcbook.tasks.base import Batch, distinct, require_room

# What can be asked, and the number of its mark: ? for the first two, then ??, # and =.
KINDS = {"lookup": 0, "alias": 0, "two hops": 1, "most frequent": 2, "name": 3}
MARKS = 4


@dataclass(frozen=True)
class Symbols:
    """Pairs of symbols lie in filler, each followed by a token of filler; what is asked about them is `kind`.

    Of the `pairs` distinct keys, drawn from `symbols` anew for each sequence, `values` are values too, and no other
    symbol is a value. Those `values` lead around a ring, each to the next, so that a value's value is never itself. The
    other keys are asked for; they lead to the values as evenly as goes with one winner, which has more than each other,
    the others having one number of pairs.

    Each of `queries` questions is drawn independently: a value, all equally likely, and then one of the keys that lead
    to it. So the number of its pairs tells nothing about an answer, nor do earlier questions.

    - "lookup": the value of a key, named after the mark ?.
    - "alias": the same, but the key is named by its alias, another token, which occurs nowhere in the context.
    - "two hops": the value of the key's value, after the mark ??. Who makes one hop only is never right.
    - "most frequent": the winner, after filler and the mark #, the same at every question of a sequence. Who looks
      at one pair at random is right in `winning / pairs` of the cases, more often than chance.
    - "name": the symbol that an alias means, after the mark =, whatever the context. A little of it in the training
      data teaches the aliases to a model that is never asked by alias.

    From one state of the generator the context of a batch is the same for every kind, and so are the keys asked for in
    "lookup", "alias" and "two hops". Tokens: symbols 0..symbols-1, their aliases, 4 marks, filler. `gap` counts from
    the key of the pair that holds the answer; in "most frequent" from the first pair, since all have to be read; in
    "name" it is 0. Raises ValueError for an unknown kind and for sizes that leave a sequence impossible.
    """

    kind: str = "lookup"
    pairs: int = 13
    values: int = 6
    queries: int = 4
    symbols: int = 32
    filler: int = 16

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind is {self.kind!r}; allowed is one of {', '.join(KINDS)}.")
        at_least(3, values=self.values)
        at_least(1, queries=self.queries, filler=self.filler)
        if self.pairs < 2 * self.values + 1:
            raise ValueError(
                f"pairs is {self.pairs}; allowed is {2 * self.values + 1} or more with {self.values} values."
            )
        if self.pairs > self.symbols:
            raise ValueError(f"pairs is {self.pairs}; allowed is at most symbols ({self.symbols}).")

    @property
    def vocabulary(self) -> int:
        """Number of distinct tokens: symbols, aliases, marks and filler; the same for every kind."""
        return 2 * self.symbols + MARKS + self.filler

    @property
    def chance(self) -> float:
        """A guess among the values; for "name", which no context narrows, among all symbols."""
        return 1 / (self.symbols if self.kind == "name" else self.values)

    @property
    def _others(self) -> int:
        """Number of keys asked for that lead to each value but the winner."""
        return (self.pairs - self.values - 1) // self.values

    @property
    def winning(self) -> int:
        """Number of pairs that have the most frequent value; each other value has as many as is left to it."""
        return self.pairs - (self.values - 1) * (self._others + 1)

    def sample(self, batch: int, length: int, generator: torch.Generator) -> Batch:
        """Draw `batch` sequences of `length` tokens. Raises ValueError if the pairs do not fit the length."""
        context = length - 3 * self.queries
        require_room(batch, length, 3 * (self.pairs + self.queries))
        marks = 2 * self.symbols
        tokens = torch.randint(self.filler, (batch, length), generator=generator) + marks + MARKS
        # The first keys are the values, the winner first of all; then the winner's other keys, then each value's.
        keys = distinct(batch, self.symbols, self.pairs, generator)
        where = 3 * distinct(batch, context // 3, self.pairs, generator)
        tokens.scatter_(1, where, keys)
        tokens.scatter_(1, where + 1, keys[:, self._leads_to()])
        at = (context + 1 + 3 * torch.arange(self.queries)).expand(batch, -1).contiguous()
        subjects, answers, needle = self._questions(keys, where, at, generator)
        mark = torch.full_like(at, marks + KINDS[self.kind])
        if self.kind == "most frequent":
            tokens.scatter_(1, at, mark)
        else:
            tokens.scatter_(1, at - 1, mark)
            tokens.scatter_(1, at, subjects)
        return Batch(tokens, at, answers, at - needle)

    def _leads_to(self) -> Int[Tensor, " pairs"]:
        """Return for each key the number of the value it leads to: the values around the ring, then the other keys."""
        ring = (torch.arange(self.values) + 1) % self.values
        winner = torch.zeros(self.winning - 1, dtype=torch.long)
        return torch.cat([ring, winner, torch.arange(1, self.values).repeat_interleave(self._others)])

    def _questions(
        self,
        keys: Int[Tensor, "b pairs"],
        where: Int[Tensor, "b pairs"],
        at: Int[Tensor, "b q"],
        generator: torch.Generator,
    ) -> tuple[Int[Tensor, "b q"], Int[Tensor, "b q"], Int[Tensor, "b q"]]:
        """Draw the questions: return the tokens that name their subjects, their answers, and the answers' places."""
        value = torch.randint(self.values, at.shape, generator=generator)
        count = torch.where(value == 0, self.winning - 1, self._others)
        first = torch.where(value == 0, 0, self.winning - 1 + (value - 1) * self._others) + self.values
        which = first + (torch.rand(at.shape, generator=generator) * count).long()
        asked = keys.gather(1, which)
        if self.kind == "most frequent":
            return asked, keys[:, :1].expand_as(at).contiguous(), where.amin(1, keepdim=True).expand_as(at)
        if self.kind == "name":
            meant = torch.randint(self.symbols, at.shape, generator=generator)
            return meant + self.symbols, meant, at
        if self.kind == "two hops":
            return asked, keys.gather(1, (value + 1) % self.values), where.gather(1, value)
        subjects = asked + self.symbols if self.kind == "alias" else asked
        return subjects, keys.gather(1, value), where.gather(1, which)

    def with_pairs(self, pairs: int) -> Symbols:
        """Return the same task with fewer or more pairs, and no more values than they allow (for curricula).

        Raises ValueError for fewer than 7 pairs.
        """
        return replace(self, pairs=pairs, values=min(self.values, (pairs - 1) // 2))
