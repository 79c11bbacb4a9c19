"""Measures: what is asked of a trained model. Each is a value whose `rows` are tidy rows; a `Probe` names one."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from lcbook.attention.patterns import Full
from lcbook.experiments.changes import Change
from lcbook.experiments.heads import attention_maps, lookup_share, previous_token_share
from lcbook.experiments.spec import Spec, columns
from lcbook.formats import at_least
from lcbook.models.decoder import Decoder
from lcbook.models.positions import draw_positions
from lcbook.tasks.base import Batch, Task

TOKENS_AT_ONCE = 2**17
Rows = list[dict[str, Any]]
Compared = tuple[dict[str, Tensor], dict[str, float]]  # counts by answer, numbers of a block


@dataclass(frozen=True)
class Pairs:
    """The task of the run itself, with so many pairs. Raises ValueError for fewer than one."""

    pairs: int

    def __post_init__(self) -> None:
        at_least(1, pairs=self.pairs)


@dataclass(frozen=True)
class Measure:
    """What is asked of a model: a frozen dataclass that gives rows.

    A field `task`, if it has one, replaces the task of the run. `timed` rows belong to one machine; a measure that
    needs a task of one `kind` refuses any other with a ValueError.
    """

    timed: ClassVar[bool] = False
    kind: ClassVar[type | None] = None

    def asked(self, spec: Spec) -> Any:
        """Return the task that is asked of a model made by `spec`."""
        task = getattr(self, "task", None) or spec.task
        if isinstance(task, Pairs):
            task = spec.task.with_pairs(task.pairs)  # type: ignore[attr-defined]
        if self.kind and not isinstance(task, self.kind):
            raise ValueError(f"task is {task}; allowed is a {self.kind.__name__}.")
        return task

    def rows(self, model: Decoder, spec: Spec, *, seed: int, before: Decoder | None = None) -> Rows:
        """Return what is found on `model`, made by `spec`; `before` is the model without the probe's changes."""
        raise NotImplementedError


def require_lengths(lengths: Sequence[int], questions: int = 1) -> None:
    """Raise ValueError unless all lengths are 1 or more, and the questions too."""
    if min(lengths, default=1) < 1:
        raise ValueError(f"lengths is {lengths}; allowed are lengths of 1 or more.")
    at_least(1, questions=questions)


@dataclass(frozen=True)
class Gap:
    """Answers by the gap between needle and question: in octaves, or in bins of `width` tokens."""

    width: int = 0

    def __post_init__(self) -> None:
        if self.width < 0:
            raise ValueError(f"width is {self.width}; allowed is 0 (octaves) or more.")

    def sort(self, batch: Batch) -> Tensor:
        """Return the bin of each answer, [b a]."""
        gap = batch.gap.clamp(min=1)
        return gap // self.width if self.width else gap.double().log2().floor().long()

    def place(self, i: int) -> dict[str, Any]:
        """Return the lower edge of bin `i`."""
        return {"gap": i * self.width if self.width else 2**i, "depth": math.nan}


@dataclass(frozen=True)
class Depth:
    """Answers by the depth of the needle, its place as a share of the context before the questions, in equal bins."""

    bins: int = 10

    def __post_init__(self) -> None:
        at_least(1, bins=self.bins)

    def sort(self, batch: Batch) -> Tensor:
        """Return the bin of each answer, [b a]."""
        return (batch.at - batch.gap) * self.bins // batch.at[:, :1]

    def place(self, i: int) -> dict[str, Any]:
        """Return the middle of bin `i`."""
        return {"gap": 0, "depth": (i + 0.5) / self.bins}


@dataclass(frozen=True)
class Together:
    """All answers in one row a length."""

    def sort(self, batch: Batch) -> Tensor:
        """Return the bin of each answer, [b a]."""
        return torch.zeros_like(batch.gap)

    def place(self, i: int) -> dict[str, Any]:
        """Return no place in particular."""
        return {"gap": 0, "depth": math.nan}


@dataclass
class _Block:
    """Some texts, and the logits of a model on them: at the questions, and at every token where they are wanted."""

    batch: Batch
    positions: Tensor
    logits: Tensor
    everywhere: Tensor | None


@dataclass(frozen=True)
class Recall(Measure):
    """Recall at `lengths` (none: the training length of the run), of at least `questions` answers at each.

    `task` replaces that of the run. One row a length and bin of `by`: length, gap (lower edge of the octave or bin),
    depth (middle of the bin; NaN by gap), correct, total, chance. Where the last layer does not see every key, it also
    holds selected, the answers whose needle is among the keys it sees, and correct_selected, those of them that are
    right. Raises ValueError for lengths or questions below 1.
    """

    lengths: tuple[int, ...] = ()
    questions: int = 256
    task: Task | Pairs | None = None
    by: Gap | Depth | Together = Together()

    everywhere: ClassVar[bool] = False  # logits are wanted at every token

    def __post_init__(self) -> None:
        require_lengths(self.lengths, self.questions)

    @torch.no_grad()
    def rows(self, model: Decoder, spec: Spec, *, seed: int, before: Decoder | None = None) -> Rows:
        task, found = self.asked(spec), []
        for length in self.lengths or (spec.train.length,):
            where, counts, said = [], [], []
            for block in self._blocks(model, task, length, seed):
                where.append(self.by.sort(block.batch).cpu().flatten())
                counts.append(self._counts(model, block))
                more, told = self._compare(task, block, before or model)
                counts[-1] |= more
                said.append((len(block.batch.tokens), told))
            joined = {name: torch.cat([one[name] for one in counts]) for name in counts[0]}
            about = {"chance": task.chance, **self._summary(said)}
            found += [{"length": length, **row, **about} for row in self._binned(torch.cat(where), joined)]
        return found

    def _blocks(self, model: Decoder, task: Task, length: int, seed: int) -> Iterator[_Block]:
        """Ask the questions of one length in blocks that fit."""
        device = next(model.parameters()).device
        generator = torch.Generator().manual_seed(seed * 1_000_003 + length)
        probe = task.sample(1, length, torch.Generator().manual_seed(0))
        sequences = math.ceil(self.questions / probe.answers.shape[1])
        at_once = max(1, TOKENS_AT_ONCE // length)
        for start in range(0, sequences, at_once):
            count = min(at_once, sequences - start)
            batch = task.sample(count, length, generator).to(device)
            positions = draw_positions(model.spec.position, count, length, generator, device)
            if self.everywhere:
                logits = model(batch.tokens, positions)
                asked = logits.gather(1, batch.at[..., None].expand(-1, -1, logits.shape[2]))
                yield _Block(batch, positions, asked, logits)
            else:
                yield _Block(batch, positions, model(batch.tokens, positions, batch.at), None)

    def _counts(self, model: Decoder, block: _Block) -> dict[str, Tensor]:
        """Return what is counted, answer by answer, flat."""
        right = (block.logits.argmax(-1) == block.batch.answers).cpu().flatten()
        counts = {"correct": right, "total": torch.ones(len(right))}
        if model.spec.pattern_of(model.spec.layers - 1) != Full():
            seen = _needle_seen(model, block.batch, block.positions)
            counts |= {"selected": seen, "correct_selected": right & seen}
        return counts

    def _compare(self, task: Any, block: _Block, before: Decoder) -> Compared:
        """Return what else is counted answer by answer, and what is said of the block as a whole."""
        return {}, {}

    def _summary(self, said: list[tuple[int, dict[str, float]]]) -> dict[str, float]:
        """Return what is said of a length from what was said of its blocks, each with its number of texts."""
        return {}

    def _binned(self, where: Tensor, counts: dict[str, Tensor]) -> list[dict[str, Any]]:
        """Return the sums of `counts` for each bin that occurs."""
        sums = {name: torch.bincount(where, weights=x.double()).long().tolist() for name, x in counts.items()}
        bins = [i for i, total in enumerate(sums["total"]) if total]
        return [{**self.by.place(i), **{name: x[i] for name, x in sums.items()}} for i in bins]


@dataclass(frozen=True)
class TextLoss(Recall):
    """Recall, and text_loss: the mean next-token loss in nats over the tokens that local context predicts.

    Raises ValueError for a task without such tokens.
    """

    everywhere: ClassVar[bool] = True

    def asked(self, spec: Spec) -> Any:
        """Return the task that is asked of a model made by `spec`. Raises ValueError for one without such tokens."""
        task = super().asked(spec)
        if getattr(task, "text", False):
            return task
        raise ValueError(
            f"task is {task}; allowed is a KeyValueRecall whose filler is text, an ItemTokens or a Corpus."
        )

    def _compare(self, task: Any, block: _Block, before: Decoder) -> Compared:
        tokens, logits = block.batch.tokens, block.everywhere
        assert logits is not None
        told = task.predictable(tokens)
        loss = nn.functional.cross_entropy(logits[:, :-1][told], tokens[:, 1:][told]).item()
        return {}, {"text_loss": loss}

    def _summary(self, said: list[tuple[int, dict[str, float]]]) -> dict[str, float]:
        texts = sum(count for count, _ in said)
        return {"text_loss": sum([told["text_loss"] * count for count, told in said]) / texts}


@dataclass(frozen=True)
class Agreement(Recall):
    """Recall, and how far the changes move it: changed, the answers in which the changed model and the model as trained
    differ, and logit_difference, the largest absolute difference of their logits at `length`.
    """

    def _compare(self, task: Any, block: _Block, before: Decoder) -> Compared:
        expected = before(block.batch.tokens, block.positions, block.batch.at)
        differs = (block.logits.argmax(-1) != expected.argmax(-1)).cpu().flatten()
        return {"changed": differs}, {"logit_difference": (block.logits - expected).abs().max().item()}

    def _summary(self, said: list[tuple[int, dict[str, float]]]) -> dict[str, float]:
        return {"logit_difference": max(told["logit_difference"] for _, told in said)}


@dataclass(frozen=True)
class HeadLooks(Recall):
    """Recall, and what one head (both counted from 0) looks at in the model as trained, in 64 texts of each length.

    `previous` is its mean weight on the token before, `lookup` the mean weight of a question on the needle's value.
    """

    layer: int = 0
    head: int = 0

    def rows(self, model: Decoder, spec: Spec, *, seed: int, before: Decoder | None = None) -> Rows:
        found, task = super().rows(model, spec, seed=seed, before=before), self.asked(spec)
        lengths = self.lengths or (spec.train.length,)
        looks = {n: self._looks(before or model, task, n, seed) for n in lengths}
        return [{**row, **looks[row["length"]]} for row in found]

    @torch.no_grad()
    def _looks(self, model: Decoder, task: Task, length: int, seed: int) -> dict[str, float]:
        generator = torch.Generator().manual_seed(seed)
        device = next(model.parameters()).device
        batch = task.sample(64, length, generator).to(device)
        positions = draw_positions(model.spec.position, 64, length, generator, device)
        maps = attention_maps(model, batch.tokens, positions)
        shares = {"previous": previous_token_share(maps), "lookup": lookup_share(maps, batch)}
        return {name: share[self.layer, self.head].item() for name, share in shares.items()}


def _needle_seen(model: Decoder, batch: Batch, positions: Tensor) -> Tensor:
    """Return for each answer of `batch` whether some head of the last layer sees the needle's value, flat."""
    seen = model.seen(batch.tokens, positions, batch.at)
    value = (batch.at - batch.gap + 1)[:, None, :, None]
    return seen.gather(-1, value.expand(-1, seen.shape[1], -1, -1)).any(1).squeeze(-1).cpu().flatten()


@dataclass(frozen=True)
class Probe:
    """What is asked of each trained model: a measure, after `changes` made in order, under a name in the table.

    Its parts are columns of the table: probe (the label, or the labels of the changes, or "as trained"), measure and
    its settings, the task that was asked (asked.pairs, ...), and each change (reposition.position.slope, ...).
    """

    measure: Measure = Recall()
    changes: tuple[Change, ...] = ()
    label: str = ""

    @property
    def name(self) -> str:
        """The label, or one made from the changes."""
        return self.label or ", ".join(change.label for change in self.changes) or "as trained"

    def columns(self, spec: Spec) -> dict[str, Any]:
        """Return the probe as columns of the rows of a run made by `spec`."""
        settings = columns(self.measure, "measure.")
        settings = {k: v for k, v in settings.items() if k.split(".")[1] not in ("lengths", "task")}
        flat = {"probe": self.name, "measure": type(self.measure).__name__, **settings}
        flat |= columns(self.measure.asked(spec), "asked.")
        for i, change in enumerate(self.changes):
            kind = _column(change)
            before = sum(_column(one) == kind for one in self.changes[:i])
            flat |= columns(change, f"{kind} {before + 1}." if before else f"{kind}.")
        return flat


def _column(change: Change) -> str:
    """Return the name of a change in columns: ComputeBy is compute_by."""
    return "".join("_" * (i > 0 and c.isupper()) + c.lower() for i, c in enumerate(type(change).__name__))
