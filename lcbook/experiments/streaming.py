"""Streaming: recall in a text of any length, in memory that does not grow with it.

In a model of one layer without a position encoding, the key of a token depends on the token and, by the key shift, on
the one before it; its value on the token alone. A text is then, to a query, so many keys of each kind: with V tokens
there are V (V + 1) kinds at most, and attention over n keys is attention over the kinds, each counted,

    weight of a kind = count * exp(score) / sum over kinds of count * exp(score).

This is exact. The text is drawn piece by piece, each piece is counted and forgotten, and a query is scored once.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lcbook import runtime, turns
from lcbook.attention.patterns import Full
from lcbook.attention.timing import peak_bytes
from lcbook.experiments.measures import Measure, Pairs, Rows, require_lengths
from lcbook.experiments.spec import Spec
from lcbook.models.decoder import Decoder
from lcbook.models.mixers import Softmax
from lcbook.models.positions import NoPosition
from lcbook.tasks.base import Batch, Task, distinct
from lcbook.tasks.recall import KeyValueRecall

PIECE = 2**20  # tokens drawn at once
NORMALIZERS = ("softmax", "log-n softmax")


@dataclass(frozen=True)
class Text:
    """A text in pieces, and its questions: `batch` holds the last tokens alone, with places counted from their start.

    `needles` are the keys and values that the questions ask for.
    """

    pieces: Iterator[Int[Tensor, " s"]]
    batch: Batch
    needles: Int[Tensor, "q 2"]


def draw(task: KeyValueRecall, length: int, generator: torch.Generator, *, piece: int = PIECE) -> Text:
    """Draw one text of `task` in pieces of at most `piece` tokens; the last tokens, the questions, come apart.

    It is distributed as `task.sample` draws it, but that each place for a competing pair is taken with the probability
    `task.competing`, where `sample` takes that share of them. Raises ValueError for a task with text, announced or
    rewritten pairs or chosen depths, for pairs that do not fit, and for an odd piece.
    """
    plain = KeyValueRecall(task.pairs, task.queries, task.keys, task.values, task.filler)
    for name in ("text", "announced", "rewritten", "depth", "depths"):
        if getattr(task, name) != getattr(plain, name):
            raise ValueError(f"{name} of task is {getattr(task, name)}; allowed is {getattr(plain, name)}.")
    if piece < 2 or piece % 2:
        raise ValueError(f"piece is {piece}; allowed is an even number from 2 on.")
    context = length - 2 * task.queries
    if context // 2 < task.pairs:
        raise ValueError(f"length is {length}; allowed is {2 * (task.pairs + task.queries)} or more.")
    keys = distinct(1, task.keys, task.keys, generator)[0]
    values = torch.randint(task.values, (task.pairs,), generator=generator) + task.keys
    slots = _places(context // 2, task.pairs, generator)
    asked = torch.stack([keys[: task.queries], values[: task.queries]], dim=1)
    ends = 2 * torch.arange(task.queries)[None]
    gap = context + ends - 2 * slots[: task.queries]
    batch = Batch(asked.flatten()[None], ends, values[None, : task.queries], gap)
    return Text(_pieces(task, context, keys, values, 2 * slots, generator, piece), batch, asked)


def _places(slots: int, count: int, generator: torch.Generator) -> Int[Tensor, " count"]:
    """Draw `count` distinct numbers below `slots` without listing them all."""
    if slots < count * max(8, count // 2):  # where two of them would often be the same
        return distinct(1, slots, count, generator)[0]
    while True:
        drawn = torch.randint(slots, (count,), generator=generator)
        if len(drawn.unique()) == count:
            return drawn


def _pieces(
    task: KeyValueRecall,
    context: int,
    keys: Int[Tensor, " keys"],
    values: Int[Tensor, " pairs"],
    where: Int[Tensor, " pairs"],
    generator: torch.Generator,
    piece: int,
) -> Iterator[Int[Tensor, " s"]]:
    """Yield the context in pieces: filler, competing pairs, and the pairs at the places `where`."""
    voice = task.one_voice(values[None], generator)[0] if task.competing else None
    for start in range(0, context, piece):
        size = min(piece, context - start)
        tokens = torch.randint(task.filler, (size,), generator=generator) + task.keys + task.values
        if voice is not None:
            taken = 2 * (torch.rand(size // 2, generator=generator) < task.competing).nonzero()[:, 0]
            which = torch.randint(task.keys - task.pairs, (len(taken),), generator=generator)
            tokens[taken] = keys[task.pairs :][which]
            tokens[taken + 1] = task.competing_values((len(taken),), voice, generator)
        here = (where >= start) & (where < start + size)
        tokens[where[here] - start] = keys[: task.pairs][here]
        tokens[where[here] - start + 1] = values[here]
        yield tokens


def counts_of_kinds(
    pieces: Iterator[Int[Tensor, " s"]], vocabulary: int
) -> tuple[Int[Tensor, "before token"], int, int]:
    """Count each token by the token before it (row `vocabulary`: none); return the counts, the tokens, and the last."""
    counts, total, before = torch.zeros((vocabulary + 1) * vocabulary, dtype=torch.long), 0, vocabulary
    for tokens in pieces:
        earlier = torch.cat([tokens.new_tensor([before]), tokens[:-1]])
        counts += torch.bincount(earlier * vocabulary + tokens, minlength=len(counts))
        total, before = total + len(tokens), int(tokens[-1])
    return counts.view(vocabulary + 1, vocabulary), total, before


@dataclass(frozen=True)
class Kinds:
    """A model of one layer by kinds of token: its keys, by the token before; its queries and values, by itself.

    The keys are those of token t after token s in row s V + t, and after none in row V V + t.
    """

    model: Decoder
    keys: Float[Tensor, "h kinds d"]
    queries: Float[Tensor, "v h d"]
    values: Float[Tensor, "v h d"]
    residual: Float[Tensor, "v width"]


@torch.no_grad()
def kinds_of(model: Decoder) -> Kinds:
    """Return what every kind of token is to `model`.

    Raises ValueError for a model of more than one layer, with a position encoding, or of other than full attention by
    softmax, plain or scaled by log n.
    """
    spec = model.spec
    whole = spec.pattern == Full() and spec.mixer == Softmax() and spec.separator is None
    if spec.layers > 1 or spec.position != NoPosition() or not whole or spec.normalizer not in NORMALIZERS:
        allowed = f"one layer of full attention by {' or '.join(NORMALIZERS)} without a position encoding"
        raise ValueError(f"model is of {spec}; allowed is {allowed}.")
    layer, attention = model.last, model.plain_attentions()[0]
    vocabulary = model.embedding.num_embeddings
    every = torch.arange(vocabulary, device=model.embedding.weight.device)
    pairs = torch.stack(torch.meshgrid(every, every, indexing="ij"), dim=-1).flatten(0, 1)
    residual = model.embed(every[:, None])
    positions = torch.arange(2, device=every.device)[None]
    second = attention.project(layer.attention_norm(model.embed(pairs)), positions).k[:, :, 1]
    alone = attention.project(layer.attention_norm(residual), positions[:, :1])
    keys, values = torch.cat([second, alone.k[:, :, 0]]), alone.v[:, :, 0]
    keys, values = (x.repeat_interleave(spec.heads // attention.groups, dim=1) for x in (keys, values))
    return Kinds(model, keys.transpose(0, 1).contiguous(), alone.q[:, :, 0], values, residual[:, 0])


@dataclass(frozen=True)
class Answer:
    """What a query at the end of a text finds: logits, and of each head the needle's log odds, margin and spread.

    The log odds are those of the needle's weight against all other keys. The margin is the needle's score less the
    mean of the others', the variance that of theirs, in nats; for scores scaled by log n, after the scaling.
    """

    logits: Float[Tensor, " v"]
    log_odds: Float[Tensor, " h"]
    margin: Float[Tensor, " h"]
    variance: Float[Tensor, " h"]


@torch.no_grad()
def answers(kinds: Kinds, text: Text) -> list[Answer]:
    """Read a text once and return the answer to each of its questions."""
    vocabulary, tail = len(kinds.residual), text.batch.tokens[0]
    context, _, before = counts_of_kinds(text.pieces, vocabulary)
    counts = context.flatten()
    late = torch.cat([tail.new_tensor([before]), tail[:-1]]) * vocabulary + tail  # kinds of the last tokens
    present = counts.scatter(0, late, 1).nonzero()[:, 0]
    at = torch.searchsorted(present, late)
    many = counts[present].double().repeat(len(text.needles), 1)
    for question, row in enumerate(many):
        row.index_add_(0, at[: 2 * question + 1], torch.ones(2 * question + 1, dtype=row.dtype))
    needles = torch.searchsorted(present, text.needles[:, 0] * vocabulary + text.needles[:, 1])
    device = kinds.keys.device
    found = _read(kinds, tail[::2].to(device), present.to(device), many.to(device), needles.to(device))
    return [Answer(*one) for one in zip(*found, strict=True)]


def _read(
    kinds: Kinds,
    asked: Int[Tensor, " q"],
    present: Int[Tensor, " m"],
    many: Float[Tensor, "q m"],
    needles: Int[Tensor, " q"],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return logits, log odds, margins and variances of queries that see the kinds `present`, `many` of each."""
    model, attention = kinds.model, kinds.model.plain_attentions()[0]
    scale = attention.scale()
    queries = kinds.queries[asked] * (scale[:, 0] if isinstance(scale, Tensor) else scale)
    scores = torch.einsum("qhd,hmd->qhm", queries, kinds.keys[:, present]).double()
    seen = many.sum(-1)[:, None, None]
    if model.spec.normalizer == "log-n softmax":
        scores = scores * seen.clamp(min=2).log()
    weights = torch.softmax(scores + many.log()[:, None], dim=-1).to(kinds.values.dtype)
    mixed = torch.einsum("qhm,mhd->qhd", weights, kinds.values[present % len(kinds.residual)]).flatten(1)
    x = model.last.finish((kinds.residual[asked] + attention.out(mixed))[None])[0]
    logits = model.logits(x)
    others = many.scatter_add(1, needles[:, None], -torch.ones_like(many[:, :1]))[:, None]
    needle = scores.gather(2, needles[:, None, None].expand(-1, scores.shape[1], -1))
    odds = needle - torch.logsumexp(scores + others.log(), dim=-1, keepdim=True)
    shares = others / (seen - 1)
    mean = (scores * shares).sum(-1, keepdim=True)
    variance = ((scores - mean) ** 2 * shares).sum(-1)
    return logits, odds[..., 0], (needle - mean)[..., 0], variance


@dataclass(frozen=True)
class Streamed(Measure):
    """Recall at `lengths` of at least `questions` answers each, the texts read piece by piece.

    `task` replaces that of the run. One row a length: length, gap and depth (nothing is sorted by them: 0 and NaN),
    correct, total, chance and, of the head whose needle has the highest log odds in the mean, the means of `log_odds`,
    `margin` and `variance` over the questions, and the needle's mean `weight` (see `Answer`). Raises ValueError for
    lengths or questions below 1, and as `draw` and `kinds_of` do.
    """

    lengths: tuple[int, ...] = ()
    questions: int = 256
    task: Task | Pairs | None = None

    kind: ClassVar[type | None] = KeyValueRecall

    def __post_init__(self) -> None:
        require_lengths(self.lengths, self.questions)

    def rows(self, model: Decoder, spec: Spec, *, seed: int, before: Decoder | None = None) -> Rows:
        kinds, task = kinds_of(model), self.asked(spec)
        return [
            _streamed(kinds, task, length, self.questions, seed)
            for length in self.lengths or (spec.train.length,)
        ]


def _streamed(kinds: Kinds, task: KeyValueRecall, length: int, questions: int, seed: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed * 1_000_003 + length)
    found, right = [], 0
    for _ in range(math.ceil(questions / task.queries)):
        text = draw(task, length, generator)
        for reply, wanted in zip(answers(kinds, text), text.batch.answers[0].tolist(), strict=True):
            right += int(reply.logits.argmax()) == wanted
            found.append(torch.stack([reply.log_odds, reply.margin, reply.variance]))
    stacked = torch.stack(found)
    head = int(stacked[:, 0].mean(0).argmax())
    log_odds, margin, variance = stacked[:, :, head].mean(0).tolist()
    weight = torch.sigmoid(stacked[:, 0, head]).mean().item()
    row = {"length": length, "gap": 0, "depth": math.nan, "correct": right, "total": len(found)}
    row |= {"chance": task.chance, "weight": weight}
    return row | {"log_odds": log_odds, "margin": margin, "variance": variance}


@dataclass(frozen=True)
class ReadingCost(Measure):
    """What it costs to read a text of each length piece by piece and answer its questions, on one core.

    One row a length and round: length, round, cpu_seconds (of one core; wall seconds on a GPU), peak_bytes (of tensors
    alive at once, once a length), correct and total. Drawing the text is part of it. Other runs with this cache pause
    meanwhile. Raises ValueError as `Streamed`, and for fewer than one round.
    """

    lengths: tuple[int, ...]
    rounds: int = 5
    task: Task | Pairs | None = None

    timed: ClassVar[bool] = True
    kind: ClassVar[type | None] = KeyValueRecall

    def __post_init__(self) -> None:
        require_lengths(self.lengths)
        if self.rounds < 1:
            raise ValueError(f"rounds is {self.rounds}; allowed is 1 or more.")

    def rows(self, model: Decoder, spec: Spec, *, seed: int = 0, before: Decoder | None = None) -> Rows:
        kinds, task = kinds_of(model), self.asked(spec)
        clock = time.perf_counter if runtime.device().type == "cuda" else time.process_time

        def read(length: int, number: int) -> int:
            text = draw(task, length, torch.Generator().manual_seed(number))
            found = [int(reply.logits.argmax()) for reply in answers(kinds, text)]
            return sum(a == b for a, b in zip(found, text.batch.answers[0].tolist(), strict=True))

        rows: list[dict[str, Any]] = []
        with runtime.one_thread(), turns.alone(runtime.cache_dir()):
            for length in self.lengths:
                peak = peak_bytes(partial(read, length, self.rounds))
                for number in range(self.rounds):
                    started = clock()
                    correct = read(length, number)
                    row = {"length": length, "round": number, "cpu_seconds": clock() - started}
                    rows.append({**row, "peak_bytes": peak, "correct": correct, "total": task.queries})
        return rows
