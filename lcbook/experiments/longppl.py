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
from lcbook.formats import at_least
from lcbook.models.decoder import Decoder
from lcbook.tasks.corpus import Corpus

SEED = 7  # of the texts that are split: the same for every run
ALPHA, BETA = 2.0, -2.0  # nats: the paper's thresholds of the gain and of the likelihood


@torch.no_grad()
def log_probabilities(model: Decoder, tokens: Int[Tensor, "b s"]) -> Float[Tensor, "b s-1"]:
    """Return the log-probability of each token but the first, given all before it."""
    _require_tokens(tokens)
    logits = model(tokens)[:, :-1]
    return torch.log_softmax(logits, dim=-1).gather(2, tokens[:, 1:, None]).squeeze(2)


def gains(model: Decoder, tokens: Int[Tensor, "b s"], short: int) -> Float[Tensor, "b s-1"]:
    """Return for each token but the first what the model gains from all tokens before it over the last ones alone.

    The last ones are `short` tokens, read as a text of its own that starts at position 0. A token with no more than
    `short` before it gains nothing: its gain is 0. Raises ValueError for a `short` below 1, and for fewer than two
    tokens.
    """
    _require_tokens(tokens)
    at_least(1, short=short)
    whole = log_probabilities(model, tokens)
    gain = torch.zeros_like(whole)
    for last in range(short, whole.shape[1]):  # the token that is foretold is the one after it
        alone = log_probabilities(model, tokens[:, last + 1 - short : last + 2])
        gain[:, last] = whole[:, last] - alone[:, -1]
    return gain


def key_tokens(log_probability: Float[Tensor, "b s"], gain: Float[Tensor, "b s"]) -> Bool[Tensor, "b s"]:
    """Return which tokens gain more than `ALPHA` and have a log-probability above `BETA` under the whole text."""
    return (gain > ALPHA) & (log_probability > BETA)


def perplexity(log_probability: Float[Tensor, "*tokens"]) -> float:
    """Return exp of the mean loss over the tokens given, NaN where there are none."""
    return math.exp(-log_probability.double().mean().item())


def _require_tokens(tokens: Tensor) -> None:
    if tokens.shape[1] < 2:
        raise ValueError(f"tokens has {tokens.shape[1]} tokens a sequence; allowed is 2 or more.")


@dataclass(frozen=True)
class FarTokens(Measure):
    """Split a text by what a model gains from more than its last `short` tokens, and compare with what is known.

    `task` is the text, a corpus (none: that of the run): `sequences` sequences of `length` tokens, the same for every
    run. One row with tokens, known (tokens told more than `short` before), found (key tokens of the model) and both,
    counts; perplexity, and long_perplexity over key tokens (NaN: there is none). Raises ValueError as `gains`, and for
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
            told, gain = log_probabilities(model, tokens), gains(model, tokens, self.short)
        key, known = key_tokens(told, gain), corpus.distances(tokens)[:, 1:] > self.short
        row = {"tokens": key.numel(), "known": int(known.sum()), "found": int(key.sum())}
        row["both"] = int((key & known).sum())
        return [row | {"perplexity": perplexity(told), "long_perplexity": perplexity(told[key])}]
