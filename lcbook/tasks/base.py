"""What all tasks share. A task is a frozen dataclass with a `vocabulary` and a `sample()`::

filler filler k3 v7 filler k9 v2 filler ... filler | k9 v2 k3 v7
                                                      ^     ^      the places where an answer is asked for
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Int
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Sequences and their questions. The token after place `at[i, j]` should be `answers[i, j]`.

    `gap` counts the tokens from the needle's key to the question.
    """

    tokens: Int[Tensor, "b s"]
    at: Int[Tensor, "b q"]
    answers: Int[Tensor, "b q"]
    gap: Int[Tensor, "b q"]

    def to(self, device: torch.device) -> Batch:
        """Return the batch on `device`."""
        return Batch(*(x.to(device) for x in (self.tokens, self.at, self.answers, self.gap)))


@runtime_checkable
class Task(Protocol):
    """Anything that the training loop can sample: a vocabulary size, a chance level, and batches of any length."""

    @property
    def vocabulary(self) -> int:
        """Number of distinct tokens."""
        ...

    @property
    def chance(self) -> float:
        """Recall of a guesser that knows the kind of token asked for."""
        ...

    def sample(self, batch: int, length: int, generator: torch.Generator) -> Batch:
        """Draw `batch` sequences of `length` tokens."""
        ...


def require_room(batch: int, length: int, least: int) -> None:
    """Raise ValueError for an empty batch, or for fewer tokens than the `least` that a sequence takes."""
    if batch < 1 or length < least:
        raise ValueError(
            f"batch is {batch} and length is {length}; allowed is batch >= 1 and length >= {least}."
        )


def distinct(batch: int, choices: int, count: int, generator: torch.Generator) -> Int[Tensor, "b count"]:
    """Draw `count` distinct numbers below `choices` for each of `batch` rows, in random order."""
    return torch.rand(batch, choices, generator=generator).topk(count, dim=1).indices
