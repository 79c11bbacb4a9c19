"""Evaluation: recall by length and by gap, on the weights as trained or under another encoding."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from lcbook.model import Attention, Decoder
from lcbook.positions import Position, PositionEncoding, draw_positions
from lcbook.tasks import KeyValueRecall, Task
from lcbook.train import TrainSpec

TOKENS_AT_ONCE = 2**17


@dataclass(frozen=True)
class Probe:
    """What is measured on trained weights: recall at `lengths` (none: the run's own training length), at least
    `questions` answers at each.

    `position` replaces the encoding at test time, `tune` trains that changed model briefly before it is measured,
    `task` replaces the task. `text` measures the mean next-token loss as well.
    """

    name: str = "as trained"
    lengths: tuple[int, ...] = ()
    questions: int = 256
    position: Position | None = None
    tune: TrainSpec | None = None
    task: Task | None = None
    text: bool = False

    def __post_init__(self) -> None:
        if min(self.lengths, default=1) < 1:
            raise ValueError(f"lengths is {self.lengths}; allowed are lengths of 1 or more.")
        if self.questions < 1:
            raise ValueError(f"questions is {self.questions}; allowed is 1 or more.")


def with_position(model: Decoder, position: Position) -> Decoder:
    """Return a copy of `model` with the same weights and another position encoding.

    A learned encoding keeps its parameters. Raises ValueError if the new one has parameters that were never trained.
    """
    changed = copy.deepcopy(model)
    spec = copy.copy(model.spec)
    object.__setattr__(spec, "position", position)
    encoding = PositionEncoding(
        position, width=spec.width, heads=spec.heads, head_dim=spec.width // spec.heads
    ).to(next(model.parameters()).device)
    shapes = {name: value.shape for name, value in encoding.state_dict().items()}
    kept = {
        name: value for name, value in model.encoding.state_dict().items() if shapes.get(name) == value.shape
    }
    if shapes.keys() - kept.keys():
        raise ValueError(
            f"position is {position}; allowed is one whose parameters {model.spec.position} has trained."
        )
    encoding.load_state_dict(kept)
    changed.spec, changed.encoding = spec, encoding
    for part in changed.modules():
        if isinstance(part, Attention):
            part.encoding = encoding
    return changed


@torch.no_grad()
def recall_rows(
    model: Decoder, task: Task, length: int, questions: int, *, seed: int, text: bool = False
) -> list[dict[str, Any]]:
    """Ask at least `questions` questions at `length`; return one row for each octave of the gap.

    A row holds length, gap (lower edge of the octave), correct, total, chance, and text_loss: the mean next-token loss
    in nats over the tokens that local context predicts, at that length (NaN unless `text`). Raises ValueError where
    `text` is asked of a task without such tokens.
    """
    if text and not (isinstance(task, KeyValueRecall) and task.text):
        raise ValueError(f"text is True for {task}; allowed is a KeyValueRecall whose filler is text.")
    device = next(model.parameters()).device
    generator = torch.Generator().manual_seed(seed * 1_000_003 + length)
    probe = task.sample(1, length, torch.Generator().manual_seed(0))
    sequences = math.ceil(questions / probe.answers.shape[1])
    at_once = max(1, TOKENS_AT_ONCE // length)
    right, gaps, text_losses = [], [], []
    for start in range(0, sequences, at_once):
        count = min(at_once, sequences - start)
        batch = task.sample(count, length, generator).to(device)
        positions = draw_positions(model.spec.position, count, length, generator, device)
        if text:
            logits = model(batch.tokens, positions)
            assert isinstance(task, KeyValueRecall)
            told = task.predictable(batch.tokens)
            text_losses.append(
                nn.functional.cross_entropy(logits[:, :-1][told], batch.tokens[:, 1:][told]).item() * count
            )
            logits = logits.gather(1, batch.at[..., None].expand(-1, -1, logits.shape[2]))
        else:
            logits = model(batch.tokens, positions, batch.at)
        right.append((logits.argmax(-1) == batch.answers).cpu().flatten())
        gaps.append(batch.gap.cpu().flatten())
    correct = torch.cat(right).long()
    octave = torch.cat(gaps).clamp(min=1).double().log2().floor().long()
    hits = torch.bincount(octave, weights=correct.double()).long()
    totals = torch.bincount(octave)
    loss = sum(text_losses) / sequences if text else math.nan
    return [
        {
            "length": length,
            "gap": 2**i,
            "correct": int(hits[i]),
            "total": int(n),
            "chance": task.chance,
            "text_loss": loss,
        }
        for i, n in enumerate(totals.tolist())
        if n
    ]
