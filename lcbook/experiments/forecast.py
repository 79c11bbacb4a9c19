"""Forecast: recall at lengths that were never run, from the scores of one short length.

A longer text has more haystack and the same pairs. For each question the last layer's scores are looked up in short
texts of n tokens; the m tokens by which a longer text exceeds them enter the sums of the softmax with their means,

    output = (sum over the text of e^s v + m * mean over haystacks of e^s v) / (the same without v),

and that goes through the rest of the layer to an answer. No parameter is fitted. What the forecast leaves out is what
it can be wrong about: that a sample differs from its mean, that scores depend on the distance, and that earlier layers
dilute as well.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from lcbook import runtime
from lcbook.attention.patterns import Full
from lcbook.experiments.measures import Measure, Rows
from lcbook.experiments.spec import Spec
from lcbook.experiments.streaming import NORMALIZERS
from lcbook.models.decoder import Decoder
from lcbook.models.layers import places
from lcbook.models.mixers import Softmax
from lcbook.models.positions import draw_positions
from lcbook.tasks.base import Batch
from lcbook.tasks.recall import KeyValueRecall

TEXTS_POOLED = 32  # texts whose haystacks together stand for the haystack of a longer text


@torch.no_grad()
def forecast(
    model: Decoder,
    task: KeyValueRecall,
    lengths: Sequence[int],
    *,
    at: int = 512,
    questions: int = 256,
    seed: int,
) -> list[dict[str, Any]]:
    """Return for each of `lengths` a row with the answers that should be right, from texts of `at` tokens alone.

    A row holds length, predicted (answers right) and asked. Raises ValueError for lengths below `at`, for texts of `at`
    tokens without haystack, and for a model whose last layer is not full attention by softmax, plain or scaled by
    log n, over a text read as one.
    """
    spec = model.spec
    whole = spec.pattern_of(spec.layers - 1) == Full() and spec.separator is None
    if spec.mixer != Softmax() or spec.normalizer not in NORMALIZERS or not whole:
        allowed = f"full attention by {' or '.join(NORMALIZERS)} in the last layer, without a separator"
        raise ValueError(f"model is of {spec}; allowed is {allowed}.")
    if not lengths or min(lengths) < at:
        raise ValueError(f"lengths is {list(lengths)}; allowed are lengths of {at} (at) or more.")
    device = next(model.parameters()).device
    generator = torch.Generator().manual_seed(seed * 1_000_003 + at)
    count = max(TEXTS_POOLED, math.ceil(questions / task.queries))
    batch = task.sample(count, at, generator).to(device)
    positions = draw_positions(spec.position, count, at, generator, device)
    x, where, _ = model.before_last(batch.tokens, positions)
    layer, attention = model.last, model.plain_attentions()[-1]
    asked = attention.project(layer.attention_norm(x), where, batch.at)
    k, v = (z.repeat_interleave(spec.heads // attention.groups, dim=1) for z in (asked.k, asked.v))
    hay = task.haystack(batch)[:, None, None]
    if not hay.any(-1).all():
        raise ValueError(f"at is {at}; allowed is a length at which texts of {task} have some haystack.")
    pool = _Pool(asked.q * asked.scale, k, v, hay, asked.bias, asked.mask, batch)
    rows = []
    for length in lengths:
        keys = batch.at[:, None, :, None] + 1 + length - at  # that a question sees
        rate = 1.0 if spec.normalizer == "softmax" else keys.clamp(min=2).to(x.dtype).log()
        mixed = pool.mixed(length - at, rate).transpose(1, 2).flatten(2)
        y = layer.finish(attention.out(mixed) + places(x, batch.at))
        right = (model.logits(y).argmax(-1) == batch.answers).sum().item()
        rows.append({"length": length, "predicted": int(right), "asked": batch.answers.numel()})
    return rows


class _Pool:
    """The scores of questions on their own texts and, as far as no bias ties them to places, on pooled haystack.

    The pool holds haystack of other texts too, but nothing where a question's own key stands or stood just before.
    """

    def __init__(
        self, q: Tensor, k: Tensor, v: Tensor, hay: Tensor, bias: Tensor | None, seen: Tensor, batch: Batch
    ) -> None:
        own = q @ k.transpose(-1, -2)
        if bias is not None:
            own = own + bias
        self.own = own.masked_fill(~seen, -torch.inf)  # [b h t s]
        self.hay, self.v = hay.expand(-1, k.shape[1], q.shape[2], -1), v
        chosen = hay[:TEXTS_POOLED, 0, 0].flatten()
        pooled = [z[:TEXTS_POOLED].transpose(1, 2).flatten(0, 1)[chosen].transpose(0, 1) for z in (k, v)]
        self.far, self.far_v = None, pooled[1]
        if bias is None:
            before = torch.nn.functional.pad(batch.tokens, (1, 0), value=-1)[:, :-1]
            near = [z[:TEXTS_POOLED].flatten()[chosen] for z in (batch.tokens, before)]
            asked = batch.tokens.gather(1, batch.at)[:, None, :, None]
            same = (near[0] == asked) | (near[1] == asked)
            self.far = (q @ pooled[0].transpose(-1, -2)).masked_fill(same, -torch.inf)  # [b h t m]
            self.kept = (~same).sum(-1, keepdim=True)

    def mixed(self, more: int, rate: float | Tensor) -> Tensor:
        """Return the mixtures [b h t d] with `more` tokens of haystack than the texts have, scores times `rate`."""
        own = self.own * rate
        top = own.amax(-1, keepdim=True)
        if self.far is not None:
            top = torch.maximum(top, (self.far * rate).amax(-1, keepdim=True))
        mass = (own - top).exp()
        if self.far is None:  # the haystack seen, counted oftener
            many = self.hay.sum(-1, keepdim=True).clamp(min=1)
            mass = torch.where(self.hay, mass * (1 + more / many), mass)
            return (mass / mass.sum(-1, keepdim=True)) @ self.v
        far = (self.far * rate - top).exp() * (more / self.kept)
        total = mass.sum(-1, keepdim=True) + far.sum(-1, keepdim=True)
        return (mass @ self.v + far @ self.far_v) / total


@dataclass(frozen=True)
class Forecast(Measure):
    """Recall at `lengths` as foretold from texts of `at` tokens; `task` replaces that of the run.

    One row a length: length, predicted (answers that should be right) and asked. Raises ValueError as `forecast`.
    """

    lengths: tuple[int, ...]
    at: int = 512
    questions: int = 256
    task: KeyValueRecall | None = None

    kind: ClassVar[type | None] = KeyValueRecall

    def rows(self, model: Decoder, spec: Spec, *, seed: int, before: Decoder | None = None) -> Rows:
        with runtime.one_thread():
            return forecast(
                model, self.asked(spec), self.lengths, at=self.at, questions=self.questions, seed=seed
            )
