"""Normalizers: hand-worked rows, torch's own softmax, and what holds for every one of them."""

from __future__ import annotations

import math

import pytest
import torch

from lcbook.normalizers import NORMALIZERS, normalizer

INF = float("inf")


def test_softmax_worked_by_hand():
    weights = NORMALIZERS["softmax"](torch.tensor([[0.0, math.log(3.0), -INF]]))
    torch.testing.assert_close(weights, torch.tensor([[0.25, 0.75, 0.0]]))


def test_log_n_softmax_worked_by_hand():
    # three visible keys: the scores are multiplied by log 3, so the weights go as 3^s
    weights = NORMALIZERS["log-n softmax"](torch.tensor([[0.0, 1.0, -INF, 2.0]]))
    torch.testing.assert_close(weights, torch.tensor([[1.0, 3.0, 0.0, 9.0]]) / 13)
    # a single visible key counts as two, so that log n is not zero; its weight is one
    torch.testing.assert_close(
        NORMALIZERS["log-n softmax"](torch.tensor([5.0, -INF])), torch.tensor([1.0, 0.0])
    )


def test_log_n_keeps_a_margin_above_any_number_of_competitors():
    def needle(name, n, margin=2.0):
        scores = torch.zeros(n, dtype=torch.float64)
        scores[n // 2] = margin
        return NORMALIZERS[name](scores)[n // 2].item()

    assert needle("softmax", 2**17) < 1e-4
    assert needle("log-n softmax", 2**17) > 0.9999
    assert needle("log-n softmax", 7) == pytest.approx(49 / (49 + 6))


@pytest.mark.parametrize("name", NORMALIZERS)
@pytest.mark.parametrize("dim", [0, 1, -1])
def test_weights_are_a_distribution_over_visible_keys(name, dim):
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(5, 7, 11, generator=generator, dtype=torch.float64) * 4
    hidden = torch.rand(5, 7, 11, generator=generator) < 0.4
    hidden.select(dim, 0).fill_(False)
    weights = NORMALIZERS[name](scores.masked_fill(hidden, -INF), dim)
    torch.testing.assert_close(weights.sum(dim), torch.ones_like(weights.sum(dim)))
    assert (weights[hidden] == 0).all()
    assert (weights[~hidden] > 0).all()
    # adding one number to a row of scores changes nothing, and a larger score has a larger weight
    torch.testing.assert_close(NORMALIZERS[name]((scores + 3).masked_fill(hidden, -INF), dim), weights)
    order = scores.masked_fill(hidden, -INF).argmax(dim)
    assert torch.equal(weights.argmax(dim), order)


def test_softmax_is_torchs():
    scores = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
    assert torch.equal(NORMALIZERS["softmax"](scores, 0), torch.softmax(scores, 0))


@pytest.mark.parametrize("name", NORMALIZERS)
def test_gradients_are_those_of_finite_differences(name):
    scores = torch.randn(
        2, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True
    )
    assert torch.autograd.gradcheck(NORMALIZERS[name], (scores,))


def test_names():
    assert normalizer("softmax") is NORMALIZERS["softmax"]
    with pytest.raises(ValueError, match="normalizer is 'sofmax'; allowed are softmax, log-n softmax"):
        normalizer("sofmax")
