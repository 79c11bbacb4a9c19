"""Which tokens need a long context: the split of a text by what the model gains from far back.

The gain of a token is its log-probability under the whole text before it minus that under the last tokens alone (the
paper's long-short difference, LSD). A key token is one that gains much and that the whole text foretells well (its
long-context likelihood, LCL). Perplexity over key tokens alone tells what a mean over all tokens hides.
Source: Fang et al. 2024, arXiv 2410.23771 (LongPPL), eqs. 2-6; alpha = 2, beta = -2, 4,096 tokens of short context.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lcbook import runtime
from lcbook.experiments.measures import Measure, Rows
from lcbook.experiments.spec import Spec
from lcbook.models.decoder import Decoder
from lcbook.tasks.corpus import Corpus

SEED = 7  # of the texts that are split: the same for every run
ALPHA, BETA = 2.0, -2.0  # nats: the paper's thresholds of the gain and of the likelihood


@dataclass(frozen=True)
class Split:
    """What a model says of each token of a text but the first, in nats.

    `log_probability` under the whole text before it, `gain` over the last tokens alone, and whether it is a `key`.
    """

    log_probability: Float[Tensor, "b s"]
    gain: Float[Tensor, "b s"]
    key: Bool[Tensor, "b s"]

    @property
    def key_share(self) -> float:
        """Share of the tokens that are key tokens."""
        return self.key.double().mean().item()

    @property
    def perplexity(self) -> float:
        """exp of the mean loss over all tokens."""
        return math.exp(-self.log_probability.double().mean().item())

    @property
    def long_perplexity(self) -> float:
        """exp of the mean loss over key tokens alone, NaN where there is none."""
        return math.exp(-self.log_probability[self.key].double().mean().item())


@dataclass(frozen=True)
class Agreement:
    """How key tokens compare with those known to need the far text: counts of both, and of what is in both."""

    found: int
    known: int
    both: int

    @property
    def precision(self) -> float:
        """Share of the key tokens that need the far text, NaN where there are none."""
        return self.both / self.found if self.found else math.nan

    @property
    def recall(self) -> float:
        """Share of the tokens that need the far text which are key tokens, NaN where there are none."""
        return self.both / self.known if self.known else math.nan


@torch.no_grad()
def log_probabilities(model: Decoder, tokens: Int[Tensor, "b s"]) -> Float[Tensor, "b s-1"]:
    """Return the log-probability of each token but the first, given all before it."""
    _require_tokens(tokens)
    logits = model(tokens)[:, :-1]
    return torch.log_softmax(logits, dim=-1).gather(2, tokens[:, 1:, None]).squeeze(2)


def gains(
    model: Decoder, tokens: Int[Tensor, "b s"], short: int, *, stride: int = 1
) -> Float[Tensor, "b s-1"]:
    """Return for each token but the first what the model gains from all tokens before it over the last ones alone.

    The last ones are `short` tokens, read as a text of its own that starts at position 0. With a `stride`, so many
    tokens share the start of their short context, which is then of `short` to short + stride - 1 tokens, and the cost
    falls by that factor. A token with no more than `short` before it gains nothing: its gain is 0.
    Raises ValueError for a `short` or a `stride` below 1, and for fewer than two tokens.
    """
    _require_tokens(tokens)
    for name, value in (("short", short), ("stride", stride)):
        if value < 1:
            raise ValueError(f"{name} is {value}; allowed is 1 or more.")
    whole = log_probabilities(model, tokens)
    gain = torch.zeros_like(whole)
    for start in range(0, tokens.shape[1] - short, stride):
        window = tokens[:, start : start + short + stride]
        told = slice(start + short - 1, start + window.shape[1] - 1)
        gain[:, told] = whole[:, told] - log_probabilities(model, window)[:, short - 1 :]
    gain[:, :short] = 0.0  # the short context of these is the whole text
    return gain


def key_tokens(
    log_probability: Float[Tensor, "b s"],
    gain: Float[Tensor, "b s"],
    *,
    alpha: float | int = ALPHA,
    beta: float | int = BETA,
) -> Bool[Tensor, "b s"]:
    """Return which tokens gain more than `alpha` and have a log-probability above `beta` under the whole text.

    Raises ValueError for an alpha below 0 (tokens without a far text would be key) and a beta above 0.
    """
    if alpha < 0:
        raise ValueError(f"alpha is {alpha}; allowed is 0 or more.")
    if beta > 0:
        raise ValueError(f"beta is {beta}; allowed is 0, the logarithm of 1, or less.")
    return (gain > alpha) & (log_probability > beta)


def split(
    model: Decoder,
    tokens: Int[Tensor, "b s"],
    short: int,
    *,
    alpha: float | int = ALPHA,
    beta: float | int = BETA,
    stride: int = 1,
) -> Split:
    """Return the split of a text by what `model` gains from more than the last `short` tokens.

    Raises ValueError as `gains` and `key_tokens` do.
    """
    gain = gains(model, tokens, short, stride=stride)
    log_probability = log_probabilities(model, tokens)
    return Split(log_probability, gain, key_tokens(log_probability, gain, alpha=alpha, beta=beta))


def agreement(key: Bool[Tensor, "b s"], needed: Int[Tensor, "b s+1"], short: int) -> Agreement:
    """Compare key tokens with the distance at which each token of the text is known to be told, 0 for no such place.

    Known to need the far text are those told more than `short` tokens before (`Corpus.distances` gives `needed`).
    """
    known = needed[:, 1:] > short
    return Agreement(int(key.sum()), int(known.sum()), int((key & known).sum()))


def _require_tokens(tokens: Tensor) -> None:
    if tokens.shape[1] < 2:
        raise ValueError(f"tokens has {tokens.shape[1]} tokens a sequence; allowed is 2 or more.")


@dataclass(frozen=True)
class FarTokens(Measure):
    """Split a text by what a model gains from more than its last `short` tokens, and compare with what is known.

    `task` is the text, a corpus (none: that of the run): `sequences` sequences of `length` tokens, the same for every
    run. One row with tokens, known (tokens told more than `short` before), found (key tokens of the model) and both,
    counts; perplexity, and long_perplexity over key tokens (NaN: there is none). Raises ValueError as `split`, and for
    another task.
    """

    length: int
    short: int
    sequences: int = 64
    task: Corpus | None = None

    kind: ClassVar[type | None] = Corpus

    def rows(self, model: Decoder, spec: Spec, *, seed: int = 0, before: Decoder | None = None) -> Rows:
        corpus = self.asked(spec)
        tokens = corpus.sample(self.sequences, self.length, torch.Generator().manual_seed(SEED)).tokens
        tokens = tokens.to(next(model.parameters()).device)
        with runtime.one_thread():
            found = split(model, tokens, self.short)
        counts = agreement(found.key, corpus.distances(tokens), self.short)
        row = {"tokens": found.key.numel(), "known": counts.known, "found": counts.found, "both": counts.both}
        return [row | {"perplexity": found.perplexity, "long_perplexity": found.long_perplexity}]
