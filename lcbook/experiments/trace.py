"""What a training has learned so far, at several lengths: recall and loss on the answers while it goes on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from lcbook import runtime
from lcbook.experiments.measures import Measure, Rows
from lcbook.experiments.schedules import plan
from lcbook.experiments.spec import Spec
from lcbook.experiments.train import train
from lcbook.models.decoder import Decoder, build
from lcbook.models.positions import draw_positions
from lcbook.tasks.base import Batch


@torch.no_grad()
def _asked(model: Decoder, batches: Sequence[Batch]) -> list[dict[str, Any]]:
    """Return for each batch its length, the mean loss on its answers in nats, and how many of them are right."""
    model.eval()
    rows = []
    for batch in batches:
        count, length = batch.tokens.shape
        generator = torch.Generator().manual_seed(0)
        positions = draw_positions(model.spec.position, count, length, generator, batch.tokens.device)
        logits, answers = model(batch.tokens, positions, batch.at).flatten(0, 1), batch.answers.flatten()
        loss = nn.functional.cross_entropy(logits, answers).item()
        right = int((logits.argmax(-1) == answers).sum())
        rows.append({"length": length, "loss": loss, "correct": right, "total": len(answers)})
    model.train()
    return rows


@dataclass(frozen=True)
class Trace(Measure):
    """Train the run once more, bit for bit, and measure it at `lengths` on the way.

    It is measured after the first update, after each `every` and after the last, on the same `sequences` each time. A
    row a moment and length: update, trained_at (length of that update's sequences), length, loss (nats an answer),
    correct, total, chance. Raises ValueError for an `every` below 1 or no lengths.
    """

    lengths: tuple[int, ...]
    every: int
    sequences: int = 64

    def __post_init__(self) -> None:
        if self.every < 1 or not self.lengths:
            raise ValueError(
                f"every is {self.every} and lengths {self.lengths}; allowed are 1 or more and one length or more."
            )

    def rows(self, model: Decoder, spec: Spec, *, seed: int, before: Decoder | None = None) -> Rows:
        task, device = spec.task, next(model.parameters()).device
        learner = build(spec.model, task.vocabulary, seed).to(device)
        batches = [
            task.sample(self.sequences, n, torch.Generator().manual_seed(seed + 1)).to(device)
            for n in self.lengths
        ]
        planned = plan(spec.train, seed)
        rows: list[dict[str, Any]] = []

        def look(update: int, _: float) -> bool:
            if update in (1, len(planned)) or update % self.every == 0:
                moment = {"update": update, "trained_at": planned[update - 1].length, "chance": task.chance}
                rows.extend({**moment, **one} for one in _asked(learner, batches))
            return False

        with runtime.one_thread():
            train(learner, task, spec.train, seed=seed, until=look)
        return rows
