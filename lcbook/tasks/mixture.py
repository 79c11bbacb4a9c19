"""Tasks made of tasks: each sequence comes from one of several, or stands behind a first token of its own.

Mixture((lookup, two_hops), (0.9, 0.1))      nine of ten sequences ask for one lookup, one of ten for two
Opened(lookup, lookup.chance)                what do models do with a token that says nothing, and without it?
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch.nn.functional import pad

from lcbook.formats import at_least
from lcbook.tasks.base import Batch, Task


@dataclass(frozen=True)
class Mixture:
    """Each sequence of a batch comes from one of `tasks`, drawn anew with the probabilities `shares`.

    The tasks share their tokens: token 3 of one is token 3 of the other, and the vocabulary is the largest. All must
    ask the same number of questions a sequence. Sequences of one batch have one length, the one asked for.
    Raises ValueError for no task, and for shares that are not one a task, are negative or do not sum to one.
    """

    tasks: tuple[Task, ...]
    shares: tuple[float | int, ...]

    def __post_init__(self) -> None:
        if not self.tasks:
            raise ValueError("tasks is (); allowed is at least one task.")
        if len(self.shares) != len(self.tasks):
            raise ValueError(
                f"shares is {self.shares}; allowed is one share for each of {len(self.tasks)} tasks."
            )
        if any(not share >= 0 for share in self.shares):
            raise ValueError(f"shares is {self.shares}; allowed are shares of 0 or more.")
        if not abs(math.fsum(self.shares) - 1) <= 1e-9:
            raise ValueError(
                f"shares is {self.shares}, which sums to {math.fsum(self.shares)}; allowed are shares that sum to 1."
            )

    @property
    def vocabulary(self) -> int:
        """Number of distinct tokens: that of the task with most."""
        return max(task.vocabulary for task in self.tasks)

    @property
    def chance(self) -> float:
        """Recall of a guesser who knows which task a sequence is of: the mean of the tasks', weighted by share."""
        return sum(share * task.chance for share, task in zip(self.shares, self.tasks, strict=True))

    def sample(self, batch: int, length: int, generator: torch.Generator) -> Batch:
        """Draw `batch` sequences of `length` tokens, in random order of the tasks.

        Raises ValueError where a task cannot be drawn at this length, or asks another number of questions, also when
        no sequence of this batch is of that task.
        """
        at_least(1, batch=batch)
        shares = torch.tensor(self.shares, dtype=torch.float64)
        which = torch.multinomial(shares, batch, replacement=True, generator=generator)
        counts = torch.bincount(which, minlength=len(self.tasks)).tolist()
        drawn = [
            task.sample(max(count, 1), length, generator)
            for task, count in zip(self.tasks, counts, strict=True)
        ]
        questions = [part.answers.shape[1] for part in drawn]
        if len(set(questions)) > 1:
            raise ValueError(f"tasks ask {questions} questions a sequence; allowed is one number for all.")
        # Row i of the batch is the next row of its task that is not taken yet.
        place = which.argsort(stable=True).argsort()
        fields = [
            torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])[place]
            for parts in zip(*((x.tokens, x.at, x.answers, x.gap) for x in drawn), strict=True)
        ]
        return Batch(*fields)

    def with_pairs(self, pairs: int) -> Mixture:
        """Return the mixture of the same tasks with fewer or more pairs each (for curricula).

        Raises ValueError if one of them has no pairs.
        """
        for task in self.tasks:
            if not hasattr(task, "with_pairs"):
                raise ValueError(
                    f"tasks has {task}; allowed in a curriculum by pairs are tasks with with_pairs."
                )
        return replace(self, tasks=tuple(task.with_pairs(pairs) for task in self.tasks))  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Opened:
    """The texts of `inner`, each after a token that occurs nowhere else; `chance` is that of `inner`."""

    inner: Task
    chance: float

    @property
    def vocabulary(self) -> int:
        """Number of distinct tokens; the last of them is the first of every text."""
        return self.inner.vocabulary + 1

    def sample(self, batch: int, length: int, generator: torch.Generator) -> Batch:
        """Draw `batch` sequences of `length` tokens, the first one included. Raises as `inner.sample`."""
        one = self.inner.sample(batch, length - 1, generator)
        tokens = pad(one.tokens, (1, 0), value=self.inner.vocabulary)
        return Batch(tokens, one.at + 1, one.answers, one.gap)
