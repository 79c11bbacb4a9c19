"""Training: one readable loop. Every batch is fresh, so the recall on the next batch is a validation score."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from lcbook.model import Decoder
from lcbook.positions import draw_positions
from lcbook.tasks import Batch, Task

GATE = 0.99
ANSWERS_AT_GATE = 1000  # answers over which the running recall is taken


@dataclass(frozen=True)
class TrainSpec:
    """How a model is trained: AdamW with warm-up and cosine decay, on fresh batches of `length` tokens.

    `updates` is the budget. With `stop_at_gate` training ends as soon as running recall reaches 99 %; otherwise it
    runs the whole budget, equal for all arms, and records when the gate was reached. `text_loss` weighs the mean
    next-token loss on every token beside the loss on the answers. `curriculum` lists (length, pairs) stages passed at
    90 % recall before the target. `betas` are AdamW's; 0.8 in place of the usual 0.9 leaves the plateau sooner.
    """

    length: int = 64
    updates: int = 400
    batch: int = 64
    lr: float = 3e-3
    warmup: float = 0.05
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.0
    text_loss: float = 0.0
    stop_at_gate: bool = False
    curriculum: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        for name in ("length", "updates", "batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; allowed is 1 or more.")
        if not self.lr > 0:
            raise ValueError(f"lr is {self.lr}; allowed is more than 0.")
        if not 0 <= self.warmup < 1:
            raise ValueError(f"warmup is {self.warmup}; allowed is a share of the updates from 0 to below 1.")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas is {self.betas}; allowed are two numbers from 0 to below 1.")
        for stage in self.curriculum:
            if len(stage) != 2 or min(stage) < 1 or stage[0] > self.length:
                raise ValueError(
                    f"curriculum has {stage}; allowed is (length, pairs), 1 or more, up to {self.length}."
                )


@dataclass(frozen=True)
class Trained:
    """What training did: updates made, wall seconds, and where recall first reached the gate (None: never)."""

    updates: int
    seconds: float
    updates_to_gate: int | None
    seconds_to_gate: float | None
    recalls: tuple[float, ...]


def learning_rate(spec: TrainSpec, update: int) -> float:
    """Return the rate at `update` (from 0): linear warm-up, then a cosine from lr down to a tenth of it."""
    warmup = max(1, round(spec.warmup * spec.updates))
    if update < warmup:
        return spec.lr * (update + 1) / warmup
    progress = (update - warmup) / max(1, spec.updates - warmup)
    return spec.lr * (0.1 + 0.45 * (1 + math.cos(math.pi * progress)))


def losses(
    model: Decoder, batch: Batch, positions: torch.Tensor, text_loss: float
) -> tuple[torch.Tensor, int]:
    """Return the loss of a batch and the number of answers that are right."""
    if text_loss:
        logits = model(batch.tokens, positions)
        every = nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), batch.tokens[:, 1:].flatten())
        logits = logits.gather(1, batch.at[..., None].expand(-1, -1, logits.shape[2]))
    else:
        every = torch.zeros((), device=batch.tokens.device)
        logits = model(batch.tokens, positions, batch.at)
    answer = nn.functional.cross_entropy(logits.flatten(0, 1), batch.answers.flatten())
    return answer + text_loss * every, int((logits.argmax(-1) == batch.answers).sum())


def train(
    model: Decoder,
    task: Task,
    spec: TrainSpec,
    *,
    seed: int,
    until: Callable[[int, float], bool] | None = None,
) -> Trained:
    """Train `model` in place on fresh batches of `task`; what is drawn depends on `seed` alone.

    `until`, if given, is called after each update with its number and the recall on its batch; True ends training.
    """
    device = next(model.parameters()).device
    generator = torch.Generator().manual_seed(seed)
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        parameters, lr=spec.lr, betas=spec.betas, weight_decay=spec.weight_decay, fused=True
    )
    stages = [(length, task.with_pairs(pairs)) for length, pairs in spec.curriculum]  # type: ignore[attr-defined]
    stages.append((spec.length, task))
    recent: deque[tuple[int, int]] = deque()
    recalls: list[float] = []
    gate_update, gate_seconds = None, None
    started, update = time.perf_counter(), 0
    model.train()
    for update in range(1, spec.updates + 1):
        length, drawn_from = stages[0]
        batch = drawn_from.sample(spec.batch, length, generator).to(device)
        positions = draw_positions(model.spec.position, spec.batch, length, generator, device)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(spec, update - 1)
        loss, right = losses(model, batch, positions, spec.text_loss)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        recalls.append(right / batch.answers.numel())
        recent.append((right, batch.answers.numel()))
        if sum(total for _, total in recent) - recent[0][1] >= ANSWERS_AT_GATE:
            recent.popleft()
        right, total = map(sum, zip(*recent, strict=True))
        if (
            len(stages) > 1
            and right >= 0.9 * total
            and total >= min(ANSWERS_AT_GATE, 4 * batch.answers.numel())
        ):
            stages.pop(0)
            recent.clear()
        elif len(stages) == 1 and gate_update is None and total >= ANSWERS_AT_GATE and right >= GATE * total:
            gate_update, gate_seconds = update, time.perf_counter() - started
            if spec.stop_at_gate:
                break
        if until is not None and until(update, recalls[-1]):
            break
    model.eval()
    return Trained(update, time.perf_counter() - started, gate_update, gate_seconds, tuple(recalls))
