"""Closed forms of parameters and operations against hand-worked numbers, the model itself and torch's counter."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from lcbook.formats import label
from lcbook.models import costs
from lcbook.models import layers as layers_module
from lcbook.models.decoder import ModelSpec, build
from lcbook.models.mixers import (
    Additive,
    CompressiveMemory,
    DeltaRule,
    Differential,
    ForgettingGate,
    GatedDeltaRule,
    LearnedSink,
    LinearAttention,
    RecurrentMemory,
    SegmentRecurrence,
    Selective,
    Softmax,
)
from lcbook.models.positions import ALiBi, Learned, NoPosition, Randomized, RoPE, T5Bias

SPECS = [
    ModelSpec(layers=1, width=6, key_shift=False, qk_norm=False),
    ModelSpec(layers=2, width=10, heads=5, position=Learned(13)),
    ModelSpec(layers=3, width=12, heads=6, kv_heads=3, mlp=7, position=RoPE()),
    ModelSpec(layers=2, width=14, heads=7, kv_heads=1, qk_norm=False, position=T5Bias(buckets=11)),
    ModelSpec(layers=2, width=6, heads=3, mlp=5, key_shift=False, position=Randomized(Learned(17), 17)),
    ModelSpec(layers=1, width=10, heads=5, position=ALiBi(), normalizer="log-n softmax"),
    ModelSpec(layers=2, width=15, heads=5, qk_scale=7.0, learn_scale=False),
]
REMEDIES = [LearnedSink(), ForgettingGate(), Differential(), Differential(0.3), Selective()]
RULES = [LinearAttention(), LinearAttention(5), Additive(), Additive(3), DeltaRule(5), GatedDeltaRule(5)]
SEGMENTED = [
    SegmentRecurrence(4),
    SegmentRecurrence(11),
    CompressiveMemory(4),
    CompressiveMemory(4, delta=True),
    CompressiveMemory(11),
    RecurrentMemory(4, 3),
    RecurrentMemory(4, 0),
    RecurrentMemory(11, 2),
]


def spec_of(mixer, key_shift=True, layers=2):
    return ModelSpec(layers=layers, width=14, heads=7, mlp=5, mixer=mixer, key_shift=key_shift)


def counted(spec, answers):
    """Return the operations that torch counts in a forward pass over five sequences of 11 tokens."""
    model, tokens = build(spec, 19, 0), torch.randint(19, (5, 11))
    at = None if answers is None else torch.tensor([[3, 7]]).expand(5, 2)
    with FlopCounterMode(display=False) as forward:
        model(tokens, None, at)
    return forward.get_total_flops()


def by_products(rule):
    """Return a rule token by token, each use of its state a matrix product that torch counts."""

    def run(q, k, v, *gates):
        columns = v.shape[-1]
        if rule == "linear_attention":  # the sum of the weights is one more value
            v = torch.cat([v, torch.ones_like(v[..., :1])], -1)
        state, outs = q.new_zeros(*q.shape[:2], q.shape[-1], v.shape[-1]), []
        for t in range(q.shape[2]):
            query, key, value = (x[:, :, t, None] for x in (q, k, v))
            if "delta" in rule:
                value = value - key @ state
            state = state + key.mT @ value
            outs.append(query @ state)
        out = torch.cat(outs, 2)[..., :columns]
        return (out, state) if gates else out

    return run


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


@pytest.mark.parametrize("position", [NoPosition(), Learned(31), RoPE(), T5Bias()])
def test_parameters_with_an_encoding(position):
    spec = ModelSpec(layers=2, width=6, heads=3, position=position)
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


@pytest.mark.parametrize("key_shift", [True, False])
@pytest.mark.parametrize("mixer", [*RULES, *SEGMENTED, *REMEDIES], ids=label)
def test_parameters_for_every_mixer(mixer, key_shift):
    spec = spec_of(mixer, key_shift)
    assert costs.parameters(spec, 19) == sum(
        p.numel() for p in build(spec, 19, 0).parameters() if p.requires_grad
    )


@pytest.mark.parametrize("learn_scale", [True, False])
@pytest.mark.parametrize("mixer", REMEDIES, ids=label)
def test_parameters_of_remedies_with_a_fixed_scale(mixer, learn_scale):
    spec = ModelSpec(layers=2, width=42, heads=3, mixer=mixer, qk_scale=5.0, learn_scale=learn_scale)
    built = sum(p.numel() for p in build(spec, 19, 0).parameters() if p.requires_grad)
    assert costs.parameters(spec, 19) == built


def test_a_scale_that_is_fixed_is_no_parameter():
    learned = ModelSpec(layers=2, width=15, heads=5)
    fixed = ModelSpec(layers=2, width=15, heads=5, learn_scale=False)
    assert costs.parameters(learned, 19) - costs.parameters(fixed, 19) == 2 * 5


def test_remedies_worked_by_hand():
    def extra(mixer, count, **sizes):
        plain, changed = (ModelSpec(layers=2, width=42, heads=3, mixer=m) for m in (Softmax(), mixer))
        return count(changed, 19, **sizes) - count(plain, 19, **sizes)

    mixers = (LearnedSink(), ForgettingGate(), Differential(), Selective())
    # a logit a head; 42 weights and a bias a head; lambda from 4 vectors of 7, and a gain of 14; nothing; two layers
    found = [extra(mixer, costs.parameters) for mixer in mixers]
    assert found == [2 * 3, 2 * 3 * 43, 2 * (4 * 7 + 14), 0]
    sizes = {"batch": 5, "length": 11, "answers": 2}
    # gates of 11 tokens from 42 channels; 11 queries of 14 channels and their scores against 11 keys
    gates, first = 11 * 42 * 3, 11 * 42 * 14 + 11 * 11 * 14
    found = [extra(mixer, costs.forward_flops, **sizes) for mixer in mixers]
    assert found == [0, 2 * 5 * 2 * gates, 0, 2 * 5 * 2 * first]


@pytest.mark.parametrize("answers", [None, 2])
@pytest.mark.parametrize("mixer", REMEDIES, ids=label)
def test_operations_of_remedies_are_those_that_torch_counts(mixer, answers):
    for layers in (1, 2):
        spec = spec_of(mixer, layers=layers)
        ours = costs.forward_flops(spec, 19, batch=5, length=11, answers=answers)
        assert ours == counted(spec, answers)


def test_mixers_worked_by_hand():
    def flops(mixer, answers=1):
        spec = ModelSpec(width=6, heads=2, mixer=mixer)
        return costs.forward_flops(spec, 7, batch=1, length=11, answers=answers) // 2

    end = 6 * 6 + 6 * 7  # what is asked for once: out, logits
    # q and k of 2 x 5 channels, v, gates of two heads; for each token a state of 2 x 5 x 3 is written and read
    assert flops(Additive(5)) == end + 11 * (6 * (10 + 10 + 6 + 2) + 2 * 30)
    assert flops(DeltaRule(5)) == end + 11 * (6 * (10 + 10 + 6 + 2) + 3 * 30)
    assert flops(GatedDeltaRule(5)) == end + 11 * (6 * (10 + 10 + 6 + 4) + 3 * 30)
    assert flops(LinearAttention(5)) == end + 11 * (6 * (10 + 10 + 6) + 2 * (30 + 10))
    # q, k, v, and k, v again; three segments, filled up to 12 tokens that meet 8 each, for scores and for the mix
    assert flops(SegmentRecurrence(4)) == end + 11 * 5 * 36 + 2 * 12 * 8 * 6
    # 12 tokens meet 4 each; three segments write a 3 x 3 a head, two read it and the 3 of the norm, with delta twice
    memory = end + 11 * 3 * 36 + 2 * 12 * 4 * 6 + 12 * 2 * 9
    assert flops(CompressiveMemory(4)) == memory + 8 * 2 * 12
    assert flops(CompressiveMemory(4, delta=True)) == memory + 2 * 8 * 2 * 12
    # segments of 4, 4 and 3, each with two memory tokens in front and two behind, all computed; logits asked for once
    read = sum(n * 4 * 36 + 2 * n * n * 6 for n in (8, 8, 7))
    assert flops(RecurrentMemory(4, 2)) == read + 42


@pytest.mark.parametrize("answers", [None, 2])
@pytest.mark.parametrize("mixer", SEGMENTED, ids=label)
def test_operations_of_segments_are_those_that_torch_counts(mixer, answers):
    for layers in (1, 2):
        spec = spec_of(mixer, layers=layers)
        ours = costs.forward_flops(spec, 19, batch=5, length=11, answers=answers)
        assert ours == counted(spec, answers)


@pytest.mark.parametrize("answers", [None, 2])
@pytest.mark.parametrize("mixer", RULES, ids=label)
def test_operations_of_rules_are_those_of_their_steps(monkeypatch, mixer, answers):
    for rule in ("linear_attention", "additive", "delta_rule"):
        monkeypatch.setattr(layers_module, rule, by_products(rule))
    spec = spec_of(mixer)
    assert costs.forward_flops(spec, 19, batch=5, length=11, answers=answers) == counted(spec, answers)


def test_costs_of_mixers_grow_as_they_should():
    def flops(mixer, length):
        return costs.forward_flops(ModelSpec(mixer=mixer), 19, batch=1, length=length)

    for mixer in (*RULES, SegmentRecurrence(16), RecurrentMemory(16, 4)):
        assert flops(mixer, 2048) == 2 * flops(mixer, 1024), "linear in the length"
    read = 2 * 16 * 64 * 65  # by each segment but the first
    assert flops(CompressiveMemory(16), 2048) == 2 * flops(CompressiveMemory(16), 1024) + read


def test_a_segment_must_fit_the_text():
    for mixer in (SegmentRecurrence(12), CompressiveMemory(12), RecurrentMemory(12)):
        assert costs.forward_flops(ModelSpec(mixer=mixer), 19, batch=1, length=12)
        with pytest.raises(ValueError, match="segment is 12 for 11 tokens; allowed is at most the length"):
            costs.forward_flops(ModelSpec(mixer=mixer), 19, batch=1, length=11)


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


def test_most_pairs_by_hand():
    # Two keys with one of four values each: 16 bindings, told apart by 4 bits and by no fewer.
    assert costs.most_pairs(1, 4, bits=4) == 2
    assert costs.most_pairs(256, 64) == pytest.approx(256 * 32 / 6)


@pytest.mark.parametrize(("pairs", "values"), [(2, 4), (3, 3), (5, 2)])
def test_no_shorter_code_tells_all_bindings_apart(pairs, values):
    bindings = len(list(itertools.product(range(values), repeat=pairs)))
    enough = math.ceil(math.log2(bindings))
    assert costs.most_pairs(enough, values, bits=1) >= pairs > costs.most_pairs(enough - 1, values, bits=1)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"scalars": 0, "values": 4}, "scalars is 0"),
        ({"scalars": 3, "values": 1}, "values is 1; allowed is 2 or more"),
        ({"scalars": 3, "values": 4, "bits": 0}, "bits is 0; allowed is more than 0"),
    ],
)
def test_bad_sizes_of_a_state(sizes, message):
    with pytest.raises(ValueError, match=message):
        costs.most_pairs(**sizes)
