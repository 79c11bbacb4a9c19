"""Key tokens: the split against one forward pass a token, thresholds by hand, and a corpus that knows the answer."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from lcbook.experiments.longppl import (
    Agreement,
    Split,
    agreement,
    gains,
    key_tokens,
    log_probabilities,
    split,
)
from lcbook.models.decoder import Decoder, ModelSpec, build
from lcbook.models.positions import RoPE, Sinusoidal
from lcbook.tasks.corpus import FIRST_NOUN, FIRST_SURNAME, Corpus

SPEC = ModelSpec(layers=2, width=12, heads=3, position=Sinusoidal())


def rough(spec=SPEC, vocabulary=7):
    model, generator = build(spec, vocabulary, 0).double(), torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
    return model


def draw(batch=3, length=19, vocabulary=7):
    return torch.randint(vocabulary, (batch, length), generator=torch.Generator().manual_seed(0))


def one_by_one(model, tokens, short):
    """The gain of each token but the first from two passes for it alone."""
    rows = []
    with torch.no_grad():
        for sequence in tokens:
            rows.append([])
            for i in range(1, len(sequence)):
                long = model(sequence[None, :i])[0, -1].log_softmax(0)[sequence[i]]
                last = model(sequence[None, max(0, i - short) : i])[0, -1].log_softmax(0)[sequence[i]]
                rows[-1].append((long - last).item())
    return torch.tensor(rows, dtype=torch.float64)


@pytest.mark.parametrize(
    ("position", "short"), [(Sinusoidal(), 5), *((RoPE(), short) for short in (1, 17, 18, 23))], ids=str
)
def test_gains_are_those_of_two_passes_a_token(position, short):
    model, tokens = rough(replace(SPEC, position=position)), draw()
    found = gains(model, tokens, short)
    torch.testing.assert_close(found, one_by_one(model, tokens, short))
    assert (found[:, :short] == 0).all(), "no far text"
    assert short >= 18 or found[:, short:].abs().min() > 1e-6


@pytest.mark.parametrize("stride", [2, 5, 100])
def test_with_a_stride_tokens_share_the_start_of_their_short_context(stride):
    """The paper's published program: windows of short + stride tokens, the last stride of which are judged."""
    model, tokens, short = rough(), draw(), 4
    found, whole = gains(model, tokens, short, stride=stride), log_probabilities(model, tokens)
    for i in range(short, 19):
        start = (i - short) // stride * stride
        with torch.no_grad():
            last = model(tokens[:, start:i])[:, -1].log_softmax(-1).gather(1, tokens[:, i, None])[:, 0]
        torch.testing.assert_close(found[:, i - 1], whole[:, i - 1] - last)


def test_log_probabilities_worked_by_hand():
    model = Decoder(ModelSpec(width=4), 3)
    nn.init.zeros_(model.embedding.weight)
    torch.testing.assert_close(log_probabilities(model, draw(2, 5, 3)), torch.full((2, 4), -math.log(3)))


def test_key_tokens_worked_by_hand():
    gain = torch.tensor([[2.0, 2.1, 2.1, 5.0, -3.0]])
    whole = torch.tensor([[-0.1, -1.9, -2.0, -2.1, -0.1]])
    assert key_tokens(whole, gain).tolist() == [[False, True, False, False, False]]
    assert key_tokens(whole, gain, alpha=1.9, beta=-2.05).tolist() == [[True, True, True, False, False]]
    assert key_tokens(whole, gain, alpha=0, beta=-math.inf).tolist() == [[True, True, True, True, False]]


def test_a_split_worked_by_hand():
    loss = torch.tensor([[0.5, 1.0, 3.0], [0.0, 0.5, 1.0]])
    one = Split(-loss, torch.zeros(2, 3), torch.tensor([[True, False, False], [False, False, True]]))
    assert one.key_share == pytest.approx(1 / 3)
    assert one.perplexity == pytest.approx(math.exp(1.0))
    assert one.long_perplexity == pytest.approx(math.exp(0.75))
    assert math.isnan(replace(one, key=torch.zeros(2, 3, dtype=torch.bool)).long_perplexity)


def test_agreement_worked_by_hand():
    key = torch.tensor([[True, True, False, False, True]])
    needed = torch.tensor([[99, 8, 0, 9, 7, 20]])  # the first token is nobody's to foretell
    found = agreement(key, needed, 7)
    assert found == Agreement(found=3, known=3, both=2)
    assert (found.precision, found.recall) == (2 / 3, 2 / 3)
    empty = agreement(torch.zeros_like(key), torch.zeros_like(needed), 7)
    assert math.isnan(empty.precision)
    assert math.isnan(empty.recall)


class Reader(Decoder):
    """A model that reads: it foretells a surname that its text has stated, and all else at random."""

    def __init__(self, corpus):
        super().__init__(ModelSpec(width=2), corpus.vocabulary)
        self.corpus = corpus

    def forward(self, tokens, positions=None, at=None):
        logits = torch.zeros(*tokens.shape, self.corpus.vocabulary)
        known = (self.corpus.distances(tokens) > 0).nonzero(as_tuple=True)
        logits[known[0], known[1] - 1, tokens[known]] = 12.0
        return logits


@pytest.mark.parametrize("far", [0, 0.5, 1])
def test_a_reader_of_the_corpus_has_the_known_key_tokens(far):
    corpus = Corpus(far=far, document=9, facts=3, questions=2)
    tokens = corpus.sample(5, 211, torch.Generator().manual_seed(0)).tokens
    found, needed = split(Reader(corpus), tokens, 13), corpus.distances(tokens)
    surnames = (tokens[:, 1:] >= FIRST_SURNAME) & (tokens[:, 1:] < FIRST_NOUN)
    assert not found.key[~surnames].any()
    scored = agreement(found.key, needed, 13)
    assert scored.known == scored.both == scored.found == int((needed > 13).sum())
    assert (scored.known > 0) == (far > 0)
    if far:
        assert found.long_perplexity < 1.01 < found.perplexity


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: gains(rough(), draw(), 0), "short is 0; allowed is 1 or more"),
        (lambda: gains(rough(), draw(), 3, stride=0), "stride is 0; allowed is 1 or more"),
        (
            lambda: log_probabilities(rough(), draw(1, 1)),
            "tokens has 1 tokens a sequence; allowed is 2 or more",
        ),
        (lambda: split(rough(), draw(), 3, alpha=-0.1), "alpha is -0.1; allowed is 0 or more"),
        (lambda: split(rough(), draw(), 3, beta=0.1), "beta is 0.1; allowed is 0"),
    ],
)
def test_bad_input_is_named(call, named):
    with pytest.raises(ValueError, match=named):
        call()
