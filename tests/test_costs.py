"""Closed forms of parameters and operations against hand-worked numbers, the model itself and torch's counter."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from lcbook import costs
from lcbook.model import ModelSpec, build
from lcbook.positions import NAMES, ALiBi, Learned, NoPosition, Randomized, RoPE, T5Bias

SPECS = [
    ModelSpec(layers=1, width=6, key_shift=False, qk_norm=False),
    ModelSpec(layers=2, width=10, heads=5, position=Learned(13)),
    ModelSpec(layers=3, width=12, heads=6, kv_heads=3, mlp=7, position=RoPE()),
    ModelSpec(layers=2, width=14, heads=7, kv_heads=1, qk_norm=False, position=T5Bias(buckets=11)),
    ModelSpec(layers=2, width=6, heads=3, mlp=5, key_shift=False, position=Randomized(Learned(17), 17)),
    ModelSpec(layers=1, width=10, heads=5, position=ALiBi(), normalizer="log-n softmax"),
]


def test_parameters_worked_by_hand():
    # embedding 7 x 6, four 6 x 6 projections, two norms of 6
    assert costs.parameters(ModelSpec(width=6, key_shift=False, qk_norm=False), 7) == 42 + 144 + 12
    # + 6 mixing logits, 2 scales, the second and third norm and three 6 x 5 matrices; k and v are 6 x 3
    spec = ModelSpec(width=6, heads=2, kv_heads=1, mlp=5)
    assert costs.parameters(spec, 7) == 42 + 2 * 36 + 2 * 18 + 3 + 2 + 90 + 18


def test_forward_worked_by_hand():
    spec = ModelSpec(width=6, heads=2, kv_heads=1, mlp=5)
    # a sequence of 11 tokens: k, v (11 x 6 x 3 each), q, out (11 x 6 x 6 each), scores and mix (11 x 11 x 6 each),
    # three MLP matrices (11 x 6 x 5 each), logits (11 x 6 x 7); two operations a multiply-add; three sequences
    multiply_adds = 2 * 198 + 2 * 396 + 2 * 726 + 3 * 330 + 462
    assert costs.forward_flops(spec, 7, batch=3, length=11) == 3 * 2 * multiply_adds


@pytest.mark.parametrize("spec", SPECS)
def test_parameters_are_those_of_the_model(spec):
    model = build(spec, 19, 0)
    assert costs.parameters(spec, 19) == sum(p.numel() for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize("name", NAMES)
def test_parameters_for_every_encoding(name):
    spec = ModelSpec(layers=2, width=6, heads=3, position=NAMES[name])
    model = build(spec, 19, 0)
    assert costs.parameters(spec, 19) == sum(p.numel() for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize("answers", [None, 2])
@pytest.mark.parametrize("spec", SPECS)
def test_operations_are_those_that_torch_counts(spec, answers):
    model = build(spec, 19, 0)
    tokens = torch.randint(19, (5, 11))
    at = None if answers is None else torch.tensor([[3, 7]]).expand(5, 2)
    with FlopCounterMode(display=False) as forward:
        logits = model(tokens, None, at)
    assert costs.forward_flops(spec, 19, batch=5, length=11, answers=answers) == forward.get_total_flops()
    with FlopCounterMode(display=False) as update:
        model(tokens, None, at).sum().backward()
    assert costs.training_flops(spec, 19, batch=5, length=11, answers=answers) == update.get_total_flops()
    assert logits.shape == (5, answers or 11, 19)


def test_costs_grow_as_they_should():
    def flops(length, answers):
        return costs.forward_flops(
            ModelSpec(position=NoPosition()), 19, batch=1, length=length, answers=answers
        )

    assert flops(2**20, None) / flops(2**19, None) > 3.9  # quadratic with a query at every place
    assert flops(2**20, 4) / flops(2**19, 4) < 2.01  # linear with a fixed number of queries


@pytest.mark.parametrize("wrong", [{"batch": 0}, {"length": 0}, {"answers": 0}, {"vocabulary": 0}])
def test_bad_sizes_are_named(wrong):
    sizes = {"vocabulary": 19, "batch": 5, "length": 11, **wrong}
    with pytest.raises(ValueError, match=rf"{next(iter(wrong))} is 0; allowed is 1 or more"):
        costs.forward_flops(ModelSpec(), **sizes)
    if "vocabulary" in wrong:
        with pytest.raises(ValueError, match="vocabulary is 0"):
            costs.parameters(ModelSpec(), 0)
