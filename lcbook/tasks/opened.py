"""A task behind a first token of its own: what models do with a token that says nothing, and without it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn.functional import pad

from lcbook.tasks.recall import Batch, Task


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
