"""Key tokens: the split against one forward pass a token, thresholds by hand, and a corpus that knows the answer."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from lcbook.experiments.longppl import FarTokens, gains, key_tokens, log_probabilities, perplexity
from lcbook.experiments.spec import Spec
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


def test_log_probabilities_worked_by_hand():
    model = Decoder(ModelSpec(width=4), 3)
    nn.init.zeros_(model.embedding.weight)
    torch.testing.assert_close(log_probabilities(model, draw(2, 5, 3)), torch.full((2, 4), -math.log(3)))


def test_key_tokens_worked_by_hand():
    gain = torch.tensor([[2.0, 2.1, 2.1, 5.0, -3.0]])
    whole = torch.tensor([[-0.1, -1.9, -2.0, -2.1, -0.1]])
    assert key_tokens(whole, gain).tolist() == [[False, True, False, False, False]]


def test_perplexity_worked_by_hand():
    assert perplexity(-torch.tensor([[0.5, 1.0, 3.0], [0.0, 0.5, 1.0]])) == pytest.approx(math.exp(1.0))
    assert math.isnan(perplexity(torch.zeros(0)))


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
    reader = Reader(corpus)
    key = key_tokens(log_probabilities(reader, tokens), gains(reader, tokens, 13))
    surnames = (tokens[:, 1:] >= FIRST_SURNAME) & (tokens[:, 1:] < FIRST_NOUN)
    assert not key[~surnames].any()
    assert torch.equal(key, corpus.distances(tokens)[:, 1:] > 13)
    (row,) = FarTokens(211, 13, sequences=5).rows(reader, Spec(task=corpus))
    assert row["known"] == row["both"] == row["found"]
    assert (row["known"] > 0) == (far > 0)
    if far:
        assert row["long_perplexity"] < 1.01 < row["perplexity"]


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: gains(rough(), draw(), 0), "short is 0; allowed is 1 or more"),
        (
            lambda: log_probabilities(rough(), draw(1, 1)),
            "tokens has 1 tokens a sequence; allowed is 2 or more",
        ),
    ],
)
def test_bad_input_is_named(call, named):
    with pytest.raises(ValueError, match=named):
        call()
