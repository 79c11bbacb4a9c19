"""Training: one readable loop. Every batch is fresh, so the recall on the next batch is a validation score."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from lcbook import turns
from lcbook.experiments.checkpoint import Checkpoint, State, training
from lcbook.experiments.schedules import Fixed, Lengths, Update, check, plan
from lcbook.formats import at_least
from lcbook.models.decoder import Decoder
from lcbook.models.positions import draw_positions
from lcbook.models.surgery import reposition
from lcbook.tasks.base import Batch, Task

GATE = 0.99
ANSWERS_AT_GATE = 1000  # answers over which the running recall is taken
GATE_EVERY = 10  # under a schedule of lengths the gate is looked at after every so many updates
OPTIMIZERS = ("adamw", "sgd")


@dataclass(frozen=True)
class TrainSpec:
    """How a model is trained: AdamW with warm-up and cosine decay, on fresh batches of `length` tokens.

    `updates` is the budget. With `stop_at_gate` training ends as soon as running recall reaches 99 %; otherwise it
    runs the whole budget, equal for all arms, and records when the gate was reached. `text_loss` weighs the mean
    next-token loss on every token beside the loss on the answers, `answer_loss` the latter: 0 leaves text alone, as in
    pretraining. `curriculum` lists (length, pairs) stages passed at 90 % recall before the target. `betas` are
    AdamW's; 0.8 in place of the usual 0.9 leaves the plateau sooner. `lengths` is a schedule of lengths up to `length`
    (see `schedules`) that spends the same tokens: updates * batch * length; the gate is then recall at `length`, looked
    at after every ten updates. `optimizer` "sgd" is stochastic gradient descent with momentum 0.9, without `betas`.
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
    answer_loss: float | int = 1.0
    lengths: Lengths = Fixed()
    optimizer: str = "adamw"

    def __post_init__(self) -> None:
        at_least(1, length=self.length, updates=self.updates, batch=self.batch)
        if not self.lr > 0:
            raise ValueError(f"lr is {self.lr}; allowed is more than 0.")
        if not 0 <= self.warmup < 1:
            raise ValueError(f"warmup is {self.warmup}; allowed is a share of the updates from 0 to below 1.")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas is {self.betas}; allowed are two numbers from 0 to below 1.")
        weights = (self.answer_loss, self.text_loss)
        if not (min(weights) >= 0 and sum(weights) > 0):
            raise ValueError(
                f"answer_loss is {self.answer_loss} with text_loss {self.text_loss}; allowed is 0 or more, "
                "and more than 0 for one of them."
            )
        for stage in self.curriculum:
            if len(stage) != 2 or min(stage) < 1 or stage[0] > self.length:
                raise ValueError(
                    f"curriculum has {stage}; allowed is (length, pairs), 1 or more, up to {self.length}."
                )
        if self.optimizer not in OPTIMIZERS:
            raise ValueError(f"optimizer is {self.optimizer!r}; allowed are {', '.join(OPTIMIZERS)}.")
        if self.curriculum and self.lengths != Fixed():
            raise ValueError(f"lengths is {self.lengths} with a curriculum; allowed is one of the two.")
        check(self.lengths, self.length, self.updates)


@dataclass(frozen=True)
class Trained:
    """What training did: updates made, wall seconds, and where recall first reached the gate (None: never)."""

    updates: int
    seconds: float
    updates_to_gate: int | None
    seconds_to_gate: float | None
    recalls: tuple[float, ...]


def learning_rate(spec: TrainSpec, update: float | int) -> float:
    """Return the rate at `update` (from 0): linear warm-up, then a cosine from lr down to a tenth of it.

    Under a schedule of lengths `update` is the tokens spent before, over batch * length.
    """
    warmup = max(1, round(spec.warmup * spec.updates))
    if update < warmup:
        return spec.lr * (update + 1) / warmup
    progress = (update - warmup) / max(1, spec.updates - warmup)
    return spec.lr * (0.1 + 0.45 * (1 + math.cos(math.pi * progress)))


def losses(
    model: Decoder,
    batch: Batch,
    positions: torch.Tensor,
    text_loss: float | int,
    answer_loss: float | int = 1.0,
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
    return answer_loss * answer + text_loss * every, int((logits.argmax(-1) == batch.answers).sum())


def train(
    model: Decoder,
    task: Task,
    spec: TrainSpec,
    *,
    seed: int,
    until: Callable[[int, float], bool] | None = None,
    checkpoint: Path | None = None,
    every: float | int = 30.0,
) -> Trained:
    """Train `model` in place on fresh batches of `task`; what is drawn depends on `seed` alone.

    `until`, if given, is called after each update with its number and the recall on its batch; True ends training.
    `checkpoint` names a file in which training is kept after every `every` seconds; if it is there, training goes on
    from it and ends with the same bits as if it had never been interrupted. The file stays; the caller removes it.
    Raises ValueError, and leaves the file alone, if it is of another training (or model as it started) or damaged,
    and at once if the task, or the encoding of a stage, does not suit the lengths of the schedule.
    """
    device = next(model.parameters()).device
    generator = torch.Generator().manual_seed(seed)
    optimizer = _optimizer(model, spec)
    planned = plan(spec, seed)
    stages = [(length, task.with_pairs(pairs)) for length, pairs in spec.curriculum]  # type: ignore[attr-defined]
    if spec.lengths != Fixed():
        _try(model, task, planned)
    state, file = State(), None
    if checkpoint is not None:
        file = Checkpoint(checkpoint, model, optimizer, generator, training(model, task, spec, seed))
        state = file.load() or state
    if state.update:
        _enter(model, planned[state.update - 1])
    saved = state.seconds
    started = time.perf_counter() - state.seconds
    model.train()
    for one in planned[state.update :]:
        _enter(model, one)
        length, drawn_from = stages[state.stage] if state.stage < len(stages) else (one.length, task)
        batch = drawn_from.sample(one.sequences, length, generator).to(device)
        positions = draw_positions(model.spec.position, one.sequences, length, generator, device)
        rate = learning_rate(spec, state.tokens / (spec.batch * spec.length))
        right = _step(model, batch, positions, spec, optimizer, rate)
        state.tokens += one.length * one.sequences
        started += turns.pause()
        recall = state.count(right, batch.answers.numel(), ANSWERS_AT_GATE)
        state.seconds = time.perf_counter() - started
        if state.stage < len(stages):
            state.pass_stage(recall, min(ANSWERS_AT_GATE, 4 * batch.answers.numel()))
        elif state.gate_update is None and _at_gate(model, task, spec, seed, state.update, recall):
            state.gate_update, state.gate_seconds = state.update, state.seconds
            if spec.stop_at_gate:
                break
        if until is not None and until(state.update, state.recalls[-1]):
            break
        if file is not None and state.seconds - saved >= every:
            file.save(state)
            saved = state.seconds
    model.eval()
    return Trained(state.update, state.seconds, state.gate_update, state.gate_seconds, tuple(state.recalls))


def _optimizer(model: Decoder, spec: TrainSpec) -> torch.optim.Optimizer:
    parameters = [p for p in model.parameters() if p.requires_grad]
    if spec.optimizer == "sgd":
        return torch.optim.SGD(parameters, lr=spec.lr, momentum=0.9, weight_decay=spec.weight_decay)
    return torch.optim.AdamW(
        parameters, lr=spec.lr, betas=spec.betas, weight_decay=spec.weight_decay, fused=True
    )


def _step(
    model: Decoder,
    batch: Batch,
    positions: torch.Tensor,
    spec: TrainSpec,
    optimizer: torch.optim.Optimizer,
    rate: float,
) -> int:
    """Make one update at this learning rate; return the number of answers that were right before it."""
    for group in optimizer.param_groups:
        group["lr"] = rate
    loss, right = losses(model, batch, positions, spec.text_loss, spec.answer_loss)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(optimizer.param_groups[0]["params"], 1.0)
    optimizer.step()
    return right


def _at_gate(
    model: Decoder, task: Task, spec: TrainSpec, seed: int, update: int, recall: tuple[int, int]
) -> bool:
    """Return whether `recall`, right answers and answers, is at the gate.

    Under a schedule of lengths it must also be there at the training length itself, on sequences drawn for this alone.
    """
    right, total = recall
    at_gate = total >= ANSWERS_AT_GATE and right >= GATE * total
    if spec.lengths == Fixed() or not at_gate:
        return at_gate
    return update % GATE_EVERY == 0 and _recalls(model, task, spec, seed * 1_000_003 + update)


@torch.no_grad()
def _recalls(model: Decoder, task: Task, spec: TrainSpec, seed: int) -> bool:
    """Return whether recall is at the gate at the training length; stop asking once too many answers were wrong."""
    device = next(model.parameters()).device
    generator = torch.Generator().manual_seed(seed)
    wrong = asked = 0
    while asked < ANSWERS_AT_GATE:
        batch = task.sample(spec.batch, spec.length, generator).to(device)
        positions = draw_positions(model.spec.position, spec.batch, spec.length, generator, device)
        answers = batch.answers.numel()
        wrong += int((model(batch.tokens, positions, batch.at).argmax(-1) != batch.answers).sum())
        asked += answers
        if wrong > (1 - GATE) * math.ceil(ANSWERS_AT_GATE / answers) * answers:
            return False
    return True


def _enter(model: Decoder, update: Update) -> None:
    """Give the model the encoding of an update, if that is another one."""
    if update.position is not None and update.position != model.spec.position:
        reposition(model, update.position)


def _try(model: Decoder, task: Task, planned: tuple[Update, ...]) -> None:
    """Raise ValueError now if the task or an encoding would refuse a length of the plan later."""
    generator = torch.Generator().manual_seed(0)
    shapes = [p.shape for p in model.encoding.parameters()]
    for position in dict.fromkeys(one.position for one in planned):
        at = [one.length for one in planned if one.position == position]
        for length in (min(at), max(at)):
            task.sample(1, length, generator)
            draw_positions(position or model.spec.position, 1, length, generator)
        if position is not None:
            changed = copy.deepcopy(model)
            reposition(changed, position)
            if [p.shape for p in changed.encoding.parameters()] != shapes:
                raise ValueError(
                    f"position is {position} in a stage; allowed is one with the parameters of {model.spec.position}."
                )
