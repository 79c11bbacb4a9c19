"""Layers: a recurrence token by token, attention in segments under a dense mask, and what no gradient may cross."""

from __future__ import annotations

import math

import pytest
import torch
from dense import assert_same, draw
from torch.nn.functional import normalize

from lcbook.attention.delta import additive_step, delta_step
from lcbook.attention.linear import features
from lcbook.attention.segments import compressive_memory
from lcbook.formats import label
from lcbook.models import layers as layers_module
from lcbook.models.layers import Attention, Recurrence, SegmentedAttention
from lcbook.models.mixers import (
    Additive,
    CompressiveMemory,
    DeltaRule,
    GatedDeltaRule,
    LinearAttention,
    SegmentRecurrence,
)
from lcbook.models.positions import NoPosition, PositionEncoding
from lcbook.models.spec import ModelSpec

LENGTH = 23
RECURRENCES = [
    LinearAttention(),
    LinearAttention(7),
    Additive(2),
    DeltaRule(7),
    DeltaRule(),
    GatedDeltaRule(),
    GatedDeltaRule(7),
]
SEGMENTED = [
    SegmentRecurrence(5),
    SegmentRecurrence(7),
    CompressiveMemory(5),
    CompressiveMemory(7, delta=True),
]
SHIFTS = pytest.mark.parametrize("key_shift", [True, False])


def layer_of(mixer, *, roughened=True, **options):
    """Return one layer of width 15 and three heads in float64, its parameters moved away from their start."""
    spec = ModelSpec(width=15, heads=3, mixer=mixer, **options)
    encoding = PositionEncoding(NoPosition(), width=15, heads=3, head_dim=5)
    torch.manual_seed(3)
    if isinstance(mixer, SegmentRecurrence | CompressiveMemory):
        layer = SegmentedAttention(spec, encoding, 0, mixer)
    else:
        layer = Recurrence(spec, mixer)
    if roughened:
        with torch.no_grad():
            for parameter in layer.parameters():
                if parameter.requires_grad:
                    parameter += 0.3 * torch.randn_like(parameter)
    return layer.double()


def full_attention(layer):
    """Return softmax attention that shares the weights of `layer`."""
    spec = ModelSpec(width=15, heads=3, key_shift=layer.spec.key_shift, qk_norm=layer.spec.qk_norm)
    full = Attention(spec, layer.encoding, 0)
    for name in ("q", "k", "v", "out", "shift", "log_scale"):
        setattr(full, name, getattr(layer, name))
    return full


def run(layer, x, at=None):
    return layer(x, torch.arange(x.shape[1])[None], at)


def rough_x(batch=2, length=LENGTH, seed=0):
    return draw((batch, length, 15), seed=seed)[0]


class Reader:
    """A recurrence that reads one token after another and keeps its state, and the key before."""

    def __init__(self, layer):
        self.layer, self.state, self.key = layer, None, 0.0

    def read(self, x):
        layer = self.layer
        q, k, v = (p(x).unflatten(-1, (3, -1)) for p in (layer.q, layer.k, layer.v))
        if layer.spec.key_shift:
            share = torch.sigmoid(layer.shift.logit)[:, 0]
            q, k, self.key = q, share * k + (1 - share) * self.key, k
        if isinstance(layer.mixer, LinearAttention):
            counted = torch.cat(
                [v, torch.ones_like(v[..., :1])], -1
            )  # the sum of the weights is one more value
            out, self.state = additive_step(
                self.state, features(q), features(k), counted, torch.ones_like(q[..., 0])
            )
            out = out[..., :-1] / out[..., -1:]
        else:
            q, k = normalize(q, dim=-1), normalize(k, dim=-1)
            gates = torch.sigmoid(x @ layer.gates.weight.T + layer.gates.bias)
            beta, decay = gates[:, :3], gates[:, 3:]
            if isinstance(layer.mixer, Additive):
                out, self.state = additive_step(self.state, q, k, v, beta)
            else:
                gated = isinstance(layer.mixer, GatedDeltaRule)
                out, self.state = delta_step(self.state, q, k, v, beta, decay if gated else None)
        out = out / (out.square().mean(-1, keepdim=True) + 1e-6).sqrt() * layer.norm.weight
        return layer.out(out.flatten(1))


@SHIFTS
@pytest.mark.parametrize("mixer", RECURRENCES, ids=label)
def test_a_recurrence_is_its_steps(mixer, key_shift):
    layer, x = layer_of(mixer, key_shift=key_shift), rough_x()
    reader = Reader(layer)
    steps = torch.stack([reader.read(token) for token in x.unbind(1)], 1)
    assert_same(run(layer, x), steps, [x, *layer.parameters()], atol=1e-9, rtol=1e-9)
    assert reader.state[0].numel() == layer.spec.state_size(LENGTH), "what is carried from token to token"


@pytest.mark.parametrize("mixer", RECURRENCES, ids=label)
def test_a_recurrence_takes_keys_by_their_direction(mixer):
    layer, x = layer_of(mixer), rough_x().detach()
    before = run(layer, x)
    with torch.no_grad():
        layer.k.weight *= 7
        layer.q.weight *= 3
    assert torch.allclose(run(layer, x), before) != isinstance(mixer, LinearAttention)


def test_a_recurrence_starts_writing_half_and_keeping_nearly_all():
    """At the start a strength of 1/2 and a decay of 0.993 stand for every token."""
    x = rough_x()
    for mixer in (Additive(), DeltaRule(), GatedDeltaRule()):
        gates = torch.sigmoid(layer_of(mixer, roughened=False).gates(x)).split(3, -1)
        assert torch.equal(gates[0], torch.full((2, LENGTH, 3), 0.5, dtype=torch.float64))
        assert len(gates) == 1 + isinstance(mixer, GatedDeltaRule)
        if len(gates) > 1:
            torch.testing.assert_close(
                gates[1], torch.full_like(gates[1], 1 / (1 + math.exp(-5))), atol=1e-12, rtol=0
            )
    assert layer_of(LinearAttention()).gates is None


@SHIFTS
@pytest.mark.parametrize("mixer", [*RECURRENCES, *SEGMENTED], ids=label)
def test_places_that_are_asked_gather_the_whole(mixer, key_shift):
    layer, x = layer_of(mixer, key_shift=key_shift), rough_x(3).detach()
    at = torch.tensor([[0, 5, 22, 11], [3, 4, 5, 6], [16, 0, 8, 8]])
    whole = run(layer, x)
    torch.testing.assert_close(run(layer, x, at), whole.gather(1, at[..., None].expand(-1, -1, 15)))


@pytest.mark.parametrize("segment", [1, 5, 22, 23])
@pytest.mark.parametrize(("key_shift", "qk_norm"), [(True, True), (True, False), (False, True)])
def test_transformer_xl_is_attention_under_a_dense_mask(monkeypatch, segment, key_shift, qk_norm):
    """A query sees its own segment up to itself, and the whole of the one before; weights learn from all of it."""
    layer = layer_of(SegmentRecurrence(segment), key_shift=key_shift, qk_norm=qk_norm)
    x, weights = rough_x().detach(), [p for p in layer.parameters() if p.requires_grad]
    ours = run(layer, x)
    rows = [
        [query // segment - key // segment in (0, 1) and key <= query for key in range(LENGTH)]
        for query in range(LENGTH)
    ]
    attend, mask = layers_module.attend, torch.tensor(rows)
    monkeypatch.setattr(
        layers_module, "attend", lambda q, k, v, **options: attend(q, k, v, **{**options, "mask": mask})
    )
    assert_same(ours, run(full_attention(layer), x), weights, atol=1e-11, rtol=1e-11)


@SHIFTS
def test_one_segment_is_full_attention_with_its_gradients(key_shift):
    x = rough_x()
    layer = layer_of(SegmentRecurrence(LENGTH), key_shift=key_shift)
    assert_same(run(layer, x), run(full_attention(layer), x), [x], atol=1e-12, rtol=0)
    compressive = layer_of(CompressiveMemory(LENGTH), key_shift=key_shift)
    with torch.no_grad():
        compressive.gate.fill_(-1e3)  # nothing from the memory
    assert_same(run(compressive, x), run(full_attention(compressive), x), [x], atol=1e-12, rtol=0)


@SHIFTS
def test_no_gradient_flows_into_the_segment_before(key_shift):
    """Transformer-XL reads the segment before, but changes only what its own tokens hand over."""
    layer, x = layer_of(SegmentRecurrence(5), key_shift=key_shift), rough_x()
    out = run(layer, x)
    for segment, start in enumerate(range(0, LENGTH, 5)):
        (gradient,) = torch.autograd.grad(out[:, start : start + 5].sum(), x, retain_graph=True)
        reached = (gradient != 0).any(-1)
        assert reached[:, start : start + 5].all(), segment
        assert reached.sum() == reached[:, start : start + 5].numel(), segment
    changed = x.detach().clone()
    changed[:, 3] += 1
    moved = (run(layer, changed) != out).any(-1)
    assert moved[:, 3:10].all(), "it is read by its own segment and by the next"
    assert not moved[:, :3].any()
    assert not moved[:, 10:].any()


@pytest.mark.parametrize("qk_norm", [True, False])
@pytest.mark.parametrize("delta", [False, True])
def test_a_gate_takes_the_segment_or_the_memory(delta, qk_norm):
    layer = layer_of(CompressiveMemory(5, delta=delta), key_shift=False, qk_norm=qk_norm)
    x, outs = rough_x().detach(), {}
    for gate in (-1e3, 0.0, 1e3):
        with torch.no_grad():
            layer.gate.fill_(gate)
            outs[gate] = run(layer, x)
    inside = torch.cat([run(full_attention(layer), part) for part in x.split(5, 1)], 1)
    torch.testing.assert_close(outs[-1e3], inside, atol=1e-12, rtol=0)
    q, k, v = (p(x).unflatten(-1, (3, 5)).transpose(1, 2) for p in (layer.q, layer.k, layer.v))
    if qk_norm:
        q, k = (normalize(z, dim=-1) * layer.log_scale.exp() for z in (q, k))
    memory = (
        compressive_memory(q, k, v, segment=5, delta=delta).transpose(1, 2).flatten(2) @ layer.out.weight.T
    )
    torch.testing.assert_close(outs[1e3], memory, atol=1e-12, rtol=0)
    assert (outs[1e3][:, :5] == 0).all(), "the first segment has no memory to read"
    torch.testing.assert_close(outs[0.0], (outs[-1e3] + outs[1e3]) / 2)


@pytest.mark.parametrize("delta", [False, True])
def test_a_gradient_flows_through_the_memory(delta):
    layer, x = layer_of(CompressiveMemory(5, delta=delta)), rough_x()
    (gradient,) = torch.autograd.grad(run(layer, x)[:, 20:].sum(), x)
    assert gradient.isfinite().all()
    assert (gradient != 0).any(-1).all(), "the last segment learns from every token"


@pytest.mark.parametrize("mixer", SEGMENTED, ids=label)
def test_a_segment_must_fit_the_text(mixer):
    layer = layer_of(mixer)
    run(layer, rough_x(1, mixer.segment))
    with pytest.raises(
        ValueError, match=f"segment is {mixer.segment} for 4 tokens; allowed is 1 to the length"
    ):
        run(layer, rough_x(1, 4))
