"""Evaluation: recall by length and by gap, on the weights as trained or under another encoding."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from lcbook.attention.backends import Form
from lcbook.attention.patterns import Full, Pattern
from lcbook.experiments.heads import attention_maps, lookup_share, previous_token_share
from lcbook.experiments.train import TrainSpec
from lcbook.models.decoder import Decoder
from lcbook.models.layers import Attention
from lcbook.models.mixers import Softmax
from lcbook.models.positions import AnyPosition as Position
from lcbook.models.positions import draw_positions
from lcbook.models.surgery import reposition as change_position
from lcbook.tasks.corpus import Corpus
from lcbook.tasks.item_tokens import ItemTokens
from lcbook.tasks.recall import Batch, KeyValueRecall, Task

TOKENS_AT_ONCE = 2**17


@dataclass(frozen=True)
class Probe:
    """What is measured on trained weights: recall at `lengths` (none: the run's own training length), at least
    `questions` answers at each.

    `position`, `pattern` and `form` replace the encoding, which keys are seen in every layer, and how attention is
    computed; `tune` trains that changed model briefly before it is measured; `task` replaces the task. `text` measures
    the mean next-token loss as well. `gap_bin` sorts answers by the gap in bins of so many tokens, 0 in octaves.
    `depth_bins` sorts them instead by the depth of the needle in so many equal bins of the context, 0 not at all.
    `ablate` silences one head, (layer, head) from 0, and its rows also tell what that head looks at.
    `pairs` asks the task with that many pairs, 0 with its own.
    `temper` multiplies the scores of every layer and `normalizer` (not "") turns them into weights, after training.
    `stream` reads texts piece by piece, as `streaming.recall_rows`; nothing is then sorted by gap or depth.
    """

    name: str = "as trained"
    lengths: tuple[int, ...] = ()
    questions: int = 256
    position: Position | None = None
    tune: TrainSpec | None = None
    task: Task | None = None
    text: bool = False
    pattern: Pattern | None = None
    form: Form | None = None
    gap_bin: int = 0
    depth_bins: int = 0
    ablate: tuple[int, int] | None = None
    pairs: int = 0
    temper: float | int = 1.0
    normalizer: str = ""
    stream: bool = False

    def __post_init__(self) -> None:
        if min(self.lengths, default=1) < 1:
            raise ValueError(f"lengths is {self.lengths}; allowed are lengths of 1 or more.")
        if self.questions < 1:
            raise ValueError(f"questions is {self.questions}; allowed is 1 or more.")
        if self.gap_bin < 0:
            raise ValueError(f"gap_bin is {self.gap_bin}; allowed is 0 (octaves) or more.")
        if self.depth_bins < 0 or (self.depth_bins and self.gap_bin):
            raise ValueError(
                f"depth_bins is {self.depth_bins} with gap_bin {self.gap_bin}; allowed is one of the two, 0 or more."
            )
        if self.pairs < 0:
            raise ValueError(f"pairs is {self.pairs}; allowed is 0 (the task's own) or more.")
        if not 0 < self.temper < math.inf:
            raise ValueError(f"temper is {self.temper}; allowed is a finite number above 0.")
        sorts = {name: getattr(self, name) for name in ("text", "form", "gap_bin", "depth_bins", "ablate")}
        if self.stream and any(sorts.values()):
            raise ValueError(f"stream is True with {sorts}; allowed is none of these.")


def with_pattern(model: Decoder, pattern: Pattern) -> Decoder:
    """Return a copy of `model` with the same weights in which every layer sees the keys that `pattern` shows.

    Raises ValueError for a model whose mixer takes no pattern.
    """
    spec = replace(model.spec, pattern=pattern, full_layers=())
    changed = copy.deepcopy(model)
    changed.spec = spec
    for part in changed.modules():
        if isinstance(part, Attention):
            part.spec, part.pattern = spec, pattern
    return changed


def with_scores(model: Decoder, *, temper: float | int = 1.0, normalizer: str = "") -> Decoder:
    """Return a copy of `model` with the same weights whose scores are multiplied by `temper` in every layer, and turned
    into weights by `normalizer` ("": its own).

    Raises ValueError for an unknown normalizer, and for a model whose mixer is not softmax attention.
    """
    if model.spec.mixer != Softmax():
        raise ValueError(f"mixer is {model.spec.mixer}; allowed is {Softmax()}.")
    spec = replace(model.spec, normalizer=normalizer or model.spec.normalizer)
    changed = copy.deepcopy(model)
    changed.spec = spec
    for part in changed.modules():
        if isinstance(part, Attention):
            part.spec, part.temper = spec, part.temper * temper
    return changed


def with_form(model: Decoder, form: Form) -> Decoder:
    """Return a copy of `model` with the same weights whose attention is computed by `form` in every layer.

    Raises ValueError unless the model is what forms compute: full softmax attention, no bias on the scores.
    """
    spec = model.spec
    biased = model.encoding.bias(torch.zeros(1, 1, dtype=torch.long), torch.zeros(1, 1, dtype=torch.long))
    plain = spec.mixer == Softmax() and spec.normalizer == "softmax" and spec.pattern == Full()
    if biased is not None or not plain:
        raise ValueError(
            f"form is {form} for {spec}; allowed is a model of full softmax attention without a bias on the scores."
        )
    changed = copy.deepcopy(model)
    for part in changed.modules():
        if isinstance(part, Attention):
            part.form = form
    return changed


def with_position(model: Decoder, position: Position) -> Decoder:
    """Return a copy of `model` with the same weights and another position encoding.

    A learned encoding keeps its parameters. Raises ValueError if the new one has parameters that were never trained,
    and for a model whose mixer takes no position encoding.
    """
    changed = copy.deepcopy(model)
    change_position(changed, position)
    return changed


@torch.no_grad()
def recall_rows(
    model: Decoder,
    task: Task,
    length: int,
    questions: int,
    *,
    seed: int,
    text: bool = False,
    gap_bin: int = 0,
    depth_bins: int = 0,
    exact: Decoder | None = None,
) -> list[dict[str, Any]]:
    """Ask at least `questions` questions at `length`; return one row for each octave of the gap, or bin of `gap_bin`,
    or of `depth_bins` equal bins of the depth: the needle's place as a share of the context before the questions.

    A row holds length, gap (lower edge of the octave or bin), depth (middle of the bin; NaN by gap), correct, total,
    chance, and text_loss: the mean next-token loss in nats over the tokens that local context predicts, at that length
    (NaN unless `text`). Where the last layer does not see every key, it also holds selected, the answers whose needle
    is among the keys it sees, and correct_selected, those of them that are right. With `exact`, a model of the same
    weights, it holds changed, the answers in which the two differ, and logit_difference, the largest absolute
    difference of their logits at `length`.
    Raises ValueError where `text` is asked of a task without such tokens.
    """
    if text and not (
        isinstance(task, Corpus | ItemTokens) or (isinstance(task, KeyValueRecall) and task.text)
    ):
        raise ValueError(
            f"text is True for {task}; allowed is a KeyValueRecall whose filler is text, an ItemTokens or a Corpus."
        )
    device = next(model.parameters()).device
    generator = torch.Generator().manual_seed(seed * 1_000_003 + length)
    probe = task.sample(1, length, torch.Generator().manual_seed(0))
    sequences = math.ceil(questions / probe.answers.shape[1])
    at_once = max(1, TOKENS_AT_ONCE // length)
    selects = model.spec.pattern_of(model.spec.layers - 1) != Full()
    right, gaps, depths, seen, changed, text_losses, differences = [], [], [], [], [], [], [0.0]
    for start in range(0, sequences, at_once):
        count = min(at_once, sequences - start)
        batch = task.sample(count, length, generator).to(device)
        positions = draw_positions(model.spec.position, count, length, generator, device)
        if text:
            logits = model(batch.tokens, positions)
            assert isinstance(task, KeyValueRecall | Corpus | ItemTokens)
            told = task.predictable(batch.tokens)
            text_losses.append(
                nn.functional.cross_entropy(logits[:, :-1][told], batch.tokens[:, 1:][told]).item() * count
            )
            logits = logits.gather(1, batch.at[..., None].expand(-1, -1, logits.shape[2]))
        else:
            logits = model(batch.tokens, positions, batch.at)
        if exact is not None:
            expected = exact(batch.tokens, positions, batch.at)
            differences.append((logits - expected).abs().max().item())
            changed.append((logits.argmax(-1) != expected.argmax(-1)).cpu().flatten())
        if selects:
            seen.append(_needle_seen(model, batch, positions))
        right.append((logits.argmax(-1) == batch.answers).cpu().flatten())
        gaps.append(batch.gap.cpu().flatten())
        depths.append(((batch.at - batch.gap) * max(depth_bins, 1) // batch.at[:, :1]).cpu().flatten())
    counts = {"correct": torch.cat(right), "total": torch.ones(sum(map(len, right)))}
    if selects:
        found = torch.cat(seen)
        counts |= {"selected": found, "correct_selected": counts["correct"] & found}
    if exact is not None:
        counts["changed"] = torch.cat(changed)
    about = {"chance": task.chance, "text_loss": sum(text_losses) / sequences if text else math.nan}
    if exact is not None:
        about["logit_difference"] = max(differences)
    rows = (
        _by_depth(torch.cat(depths), counts, depth_bins)
        if depth_bins
        else _by_gap(torch.cat(gaps), counts, gap_bin)
    )
    return [{"length": length, **row, **about} for row in rows]


@torch.no_grad()
def head_looks(
    model: Decoder, task: Task, length: int, *, seed: int, head: tuple[int, int]
) -> dict[str, float]:
    """Return what one head, (layer, head) from 0, looks at in 64 sequences of `length` tokens.

    `previous` is its mean weight on the token before, `lookup` the mean weight of a question on the needle's value.
    """
    generator = torch.Generator().manual_seed(seed)
    device = next(model.parameters()).device
    batch = task.sample(64, length, generator).to(device)
    positions = draw_positions(model.spec.position, 64, length, generator, device)
    maps = attention_maps(model, batch.tokens, positions)
    shares = {"previous": previous_token_share(maps), "lookup": lookup_share(maps, batch)}
    return {name: share[head].item() for name, share in shares.items()}


def _by_gap(gap: torch.Tensor, counts: dict[str, torch.Tensor], gap_bin: int) -> list[dict[str, Any]]:
    """Return one row for each octave of the gap (or bin of `gap_bin` tokens) that occurs, with the sums of `counts`."""
    gap = gap.clamp(min=1)
    where = gap // gap_bin if gap_bin else gap.double().log2().floor().long()
    sums = {name: torch.bincount(where, weights=x.double()).long().tolist() for name, x in counts.items()}
    edges = [i * gap_bin if gap_bin else 2**i for i in range(len(sums["total"]))]
    return [
        {"gap": edge, "depth": math.nan, **{name: x[i] for name, x in sums.items()}}
        for i, edge in enumerate(edges)
        if sums["total"][i]
    ]


def _by_depth(where: torch.Tensor, counts: dict[str, torch.Tensor], bins: int) -> list[dict[str, Any]]:
    """Return one row for each of `bins` bins of the depth that has a needle (`where`), with the sums of `counts`."""
    sums = {name: torch.bincount(where, x.double(), bins).long().tolist() for name, x in counts.items()}
    return [
        {"gap": 0, "depth": (i + 0.5) / bins, **{name: x[i] for name, x in sums.items()}}
        for i in range(bins)
        if sums["total"][i]
    ]


def _needle_seen(model: Decoder, batch: Batch, positions: torch.Tensor) -> torch.Tensor:
    """Return for each answer of `batch` whether some head of the last layer sees the needle's value, flat."""
    seen = model.seen(batch.tokens, positions, batch.at)
    value = (batch.at - batch.gap + 1)[:, None, :, None]
    return seen.gather(-1, value.expand(-1, seen.shape[1], -1, -1)).any(1).squeeze(-1).cpu().flatten()
