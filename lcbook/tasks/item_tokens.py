"""Items in token form: the facts of `items` as a few tokens each, in filler, for models with a small vocabulary.

filler filler amber 472 filler #vote pear filler cedar 118 filler ... | amber 472
                                                                        ^ the place where the answer is asked for
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from lcbook.formats import at_least
from lcbook.tasks import words
from lcbook.tasks.base import Batch
from lcbook.tasks.items import ITEMS, MARKS, Fact, Item, Sizes, draw

SMALL = Sizes(pairs=4, asked=4, keys=32, numbers=32, votes=7)


@functools.lru_cache(maxsize=8)
def terms(sizes: Sizes) -> tuple[str, ...]:
    """Return every term that an item of these sizes can hold, in the order of its token."""
    things = tuple(thing for kind in words.RELATIONS.values() for thing in kind)
    listed = (
        MARKS, words.KEYS[: sizes.keys], words.NUMBERS[: sizes.numbers], words.ADJECTIVES, words.PEOPLE,
        tuple(words.RELATIONS), things, tuple(words.LANDMARKS), tuple(words.LANDMARKS.values()),
        words.CANDIDATES, words.COUNTS,
    )  # fmt: skip
    return tuple(word for part in listed for word in part)


@functools.lru_cache(maxsize=8)
def _number(sizes: Sizes) -> dict[str, int]:
    return {term: token for token, term in enumerate(terms(sizes))}


@dataclass(frozen=True)
class ItemTokens:
    """Items of `tasks`, one a sequence and each task equally likely, written as tokens in filler.

    The facts lie at random places that do not overlap, the needle at `depth` of the context (None: anywhere), or at the
    nearest place that cuts no other fact; cues and answers follow the context. Where a task has fewer answers than
    another of `tasks`, its last one is asked again at the same place, so that each sequence has as many. A share
    `competing` of the tokens left over is filled with the item's distractors. Filler is a walk around a ring of
    `filler` tokens in which each token has two equally likely successors, so that a bigram predicts it to within
    log 2 nats.
    Tokens: the terms of `sizes`, then filler. Raises ValueError for an unknown task or a share outside 0 to 1.
    """

    text: ClassVar[bool] = True  # local context foretells tokens: see `predictable`
    tasks: tuple[str, ...] = ("needle",)
    sizes: Sizes = SMALL
    depth: float | int | None = None
    competing: float | int = 0.0
    filler: int = 16

    def __post_init__(self) -> None:
        unknown = [name for name in self.tasks if name not in ITEMS]
        if unknown or not self.tasks:
            raise ValueError(f"tasks is {self.tasks}; allowed are one or more of {', '.join(ITEMS)}.")
        for name in ("depth", "competing"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise ValueError(f"{name} is {value}; allowed is a share from 0 to 1.")
        at_least(4, filler=self.filler)

    @property
    def vocabulary(self) -> int:
        """Number of distinct tokens: terms and filler; the same for every task."""
        return len(terms(self.sizes)) + self.filler

    @property
    def chance(self) -> float:
        """A guess among the words of the kind asked for, the mean over the tasks."""
        return float(np.mean([draw(name, 0, self.sizes).chance for name in self.tasks]))

    def sample(self, batch: int, length: int, generator: torch.Generator) -> Batch:
        """Draw `batch` sequences of `length` tokens. Raises ValueError if an item does not fit the length."""
        at_least(1, batch=batch)
        seed = int(torch.randint(2**62, (1,), generator=generator))
        rng = np.random.default_rng(seed)
        tokens = self._walk(batch, length, rng)
        which = rng.integers(len(self.tasks), size=batch)
        seeds = rng.integers(2**62, size=batch)
        written = [
            self._write(tokens[row], self.tasks[which[row]], int(seeds[row]), rng) for row in range(batch)
        ]
        most = max(len(draw(name, 0, self.sizes).answers) for name in self.tasks)
        at, answers, gap = (
            torch.tensor([column + column[-1:] * (most - len(column)) for column in columns])
            for columns in zip(*written, strict=True)
        )
        return Batch(torch.from_numpy(tokens), at, answers, gap)

    def predictable(self, tokens: Int[Tensor, "b s"]) -> Bool[Tensor, "b s-1"]:
        """True where the token after a place can be told from the token there: filler that follows filler."""
        filler = tokens >= len(terms(self.sizes))
        return filler[:, :-1] & filler[:, 1:]

    def _walk(self, batch: int, length: int, rng: np.random.Generator) -> np.ndarray:
        steps = 1 + 2 * rng.integers(2, size=(batch, length))
        start = rng.integers(self.filler, size=(batch, 1))
        return (start + steps.cumsum(1)) % self.filler + len(terms(self.sizes))

    def _write(
        self, row: np.ndarray, task: str, seed: int, rng: np.random.Generator
    ) -> tuple[list[int], list[int], list[int]]:
        """Write one item into a row of filler; return the places asked at, the answers there and the gaps."""
        item, number = draw(task, seed, self.sizes), _number(self.sizes)
        asking = sum(len(cue) + 1 for cue in item.cues)
        context, size = len(row) - asking, sum(len(fact.terms) for fact in item.facts)
        if context < size:
            raise ValueError(
                f"length is {len(row)}; allowed is at least {size + asking} for the task {task}."
            )
        share = round(self.competing * (context - size) / 2)
        spare = draw(task, seed, self.sizes, share).distractors if share else ()
        while sum(len(fact.terms) for fact in spare) > context - size:
            spare = spare[:-1]
        facts = (*item.facts, *spare)
        places = self._places(facts, context, rng)
        for fact, place in zip(facts, places, strict=True):
            row[place : place + len(fact.terms)] = [number[term] for term in fact.terms]
        return self._ask(row, item, places, context)

    def _places(self, facts: tuple[Fact, ...], context: int, rng: np.random.Generator) -> list[int]:
        """Draw where each fact starts: they lie in random order, with random stretches of filler between them."""
        sizes = np.array([len(fact.terms) for fact in facts])
        free = context - sizes.sum()
        order = rng.permutation(len(facts))
        before = np.sort(rng.integers(free + 1, size=len(facts)))  # filler tokens before each fact, in order
        starts = np.empty(len(facts), int)
        starts[order] = before + np.concatenate([[0], sizes[order].cumsum()[:-1]])
        if self.depth is None:
            return starts.tolist()
        # The needle takes its place, or the nearest that cuts no fact; the others are laid out as if it were not there.
        place = round(self.depth * (context - sizes[0]))
        others = [i for i in order if i]
        sooner = before[order != 0] + np.concatenate([[0], sizes[others].cumsum()])[: len(others)]
        for i, start in zip(others, sooner.tolist(), strict=True):
            if start < place < start + sizes[i]:
                place = start if 2 * (place - start) <= sizes[i] else start + int(sizes[i])
        for i, start in zip(others, sooner.tolist(), strict=True):
            starts[i] = start if start < place else start + sizes[0]
        starts[0] = place
        return starts.tolist()

    def _ask(
        self, row: np.ndarray, item: Item, places: list[int], context: int
    ) -> tuple[list[int], list[int], list[int]]:
        """Write cues and answers after the context."""
        number = _number(self.sizes)
        paired = len(item.facts) == len(item.answers)
        asked = list(range(len(item.answers)))
        if item.in_text_order:
            asked.sort(key=lambda i: places[i])
        at, answers, gap, end = [], [], [], context
        for cue, i in zip(item.cues, asked, strict=True):
            row[end : end + len(cue)] = [number[term] for term in cue]
            end += len(cue)
            answer = number[item.answers[i]]
            at.append(end - 1)
            answers.append(answer)
            gap.append(end - 1 - places[i if paired or len(item.answers) <= len(item.facts) else 0])
            row[end] = answer
            end += 1
        return at, answers, gap
