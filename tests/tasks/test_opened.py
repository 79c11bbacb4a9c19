"""A task behind a first token of its own."""

from __future__ import annotations

import torch

from lcbook.tasks.opened import Opened
from lcbook.tasks.recall import KeyValueRecall, Task

INNER = KeyValueRecall(pairs=3, queries=3, keys=8, values=8, filler=4, competing=1.0)


def drawn(task: Task, length: int):
    return task.sample(5, length, torch.Generator().manual_seed(7))


def test_the_first_token_occurs_nowhere_else_and_moves_all_by_one():
    opened = Opened(INNER, chance=1 / 8)
    assert isinstance(opened, Task)
    assert opened.vocabulary == 21
    inner, batch = drawn(INNER, 30), drawn(opened, 31)
    assert batch.tokens[:, 0].tolist() == [20] * 5
    assert torch.equal(batch.tokens[:, 1:], inner.tokens)
    assert torch.equal(batch.at, inner.at + 1)
    assert torch.equal(batch.answers, inner.answers)
    assert torch.equal(batch.tokens.gather(1, batch.at), inner.tokens.gather(1, inner.at))
    assert torch.equal(batch.gap, inner.gap)
