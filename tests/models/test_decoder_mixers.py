"""Whole models with every mixer: causality, what segments hand on, and how far a gradient reaches."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch

from lcbook.attention.backends import Fused
from lcbook.attention.patterns import Window
from lcbook.experiments.changes import ComputeBy, Reposition, Restrict
from lcbook.formats import label
from lcbook.models.decoder import ModelSpec, build
from lcbook.models.layers import Attention
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
from lcbook.models.positions import NoPosition, RoPE
from tests.asking import after

MIXERS = [
    LearnedSink(),
    ForgettingGate(),
    Differential(),
    Selective(),
    LinearAttention(),
    LinearAttention(7),
    Additive(),
    DeltaRule(2),
    GatedDeltaRule(7),
    SegmentRecurrence(5),
    CompressiveMemory(5),
    CompressiveMemory(5, delta=True),
    RecurrentMemory(5, 3),
    RecurrentMemory(5, 1),
    RecurrentMemory(5, 0),
]
every_mixer = pytest.mark.parametrize("mixer", MIXERS, ids=label)
LENGTH = 23  # five segments, the last of three tokens
WIDTH = 18  # three heads of an even width, as differential attention needs them


def draw_tokens(batch=3, length=LENGTH, seed=0):
    return torch.randint(19, (batch, length), generator=torch.Generator().manual_seed(seed))


def model_of(mixer, *, layers=2, roughened=True, **options):
    """Return a model in float64, its parameters moved away from their symmetric start."""
    model = build(ModelSpec(layers=layers, width=WIDTH, heads=3, mlp=7, mixer=mixer, **options), 19, 0)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad and roughened:
                parameter += 0.3 * torch.randn(parameter.shape, generator=generator)
    return model.double()


def edited(tokens, places):
    changed = tokens.clone()
    changed[:, places] = (changed[:, places] + 1) % 19
    return changed


def reach(model, tokens, asked):
    """Return at which places a change of the embedded token moves the logits at the places `asked`, by the gradient."""
    embedded = []
    handle = model.embedding.register_forward_hook(
        lambda module, inputs, out: embedded.append(out.detach().requires_grad_()) or embedded[0]
    )
    logits = model(tokens)
    handle.remove()
    weights = torch.randn(logits.shape, generator=torch.Generator().manual_seed(1), dtype=logits.dtype)
    (gradient,) = torch.autograd.grad((logits * weights)[:, asked].sum(), embedded[0])
    return (gradient != 0).any(-1)


@every_mixer
@pytest.mark.parametrize("key_shift", [True, False])
def test_future_edits_leave_the_past_unchanged(mixer, key_shift):
    model, tokens = model_of(mixer, key_shift=key_shift), draw_tokens()
    with torch.no_grad():
        before = model(tokens)
        for first in (12, 15):  # within a segment, and a later segment
            after = model(edited(tokens, slice(first, None)))
            assert torch.equal(before[:, :first], after[:, :first])
            assert (before[:, first:] != after[:, first:]).any(-1).all()


@every_mixer
@pytest.mark.parametrize("layers", [1, 2])
def test_asking_at_places_gathers_the_whole(mixer, layers):
    model, tokens = model_of(mixer, layers=layers), draw_tokens()
    at = torch.tensor([[0, 5, 22, 11], [3, 4, 5, 6], [16, 0, 8, 8]])
    with torch.no_grad():
        whole, asked = model(tokens), model(tokens, None, at)
    torch.testing.assert_close(asked, whole.gather(1, at[..., None].expand(-1, -1, 19)), rtol=1e-9, atol=1e-9)


@every_mixer
def test_every_trained_parameter_gets_a_gradient(mixer):
    model = model_of(mixer, roughened=False)
    model(draw_tokens(5)).square().sum().backward()
    for name, parameter in model.named_parameters():
        if parameter.numel():
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name
    torch.optim.AdamW(model.parameters(), lr=0.1, fused=True).step()  # an empty memory too


@every_mixer
def test_weights_depend_on_the_seed_alone(mixer):
    one, same, other = (build(ModelSpec(width=WIDTH, heads=3, mixer=mixer), 19, seed) for seed in (3, 3, 4))
    for name, tensor in one.state_dict().items():
        assert torch.equal(tensor, same.state_dict()[name])
    assert not torch.equal(one.embedding.weight, other.embedding.weight)


@every_mixer
def test_how_far_a_question_in_the_last_segment_learns(mixer):
    model, tokens = model_of(mixer, layers=3), draw_tokens()
    reached = reach(model, tokens, slice(20, None))
    blind = isinstance(mixer, SegmentRecurrence) or mixer == RecurrentMemory(5, 0)
    expected = torch.arange(LENGTH) >= 20 if blind else torch.ones(LENGTH, dtype=torch.bool)
    assert torch.equal(reached, expected.expand(3, -1))


@every_mixer
def test_how_far_the_last_segment_reads(mixer):
    """Transformer-XL reads one segment further back in each layer; what has a memory reads all, without one none.

    A shifted key would hold a token of yet another segment, the one before the first that is seen.
    """
    model, tokens = model_of(mixer, layers=3, key_shift=False), draw_tokens()
    with torch.no_grad():
        before = model(tokens)[:, 20:]
        reads = [bool((model(edited(tokens, [4 + 5 * i]))[:, 20:] != before).any()) for i in range(4)]
    if mixer == RecurrentMemory(5, 0):
        assert reads == [False] * 4
    elif isinstance(mixer, SegmentRecurrence):
        assert reads == [False, True, True, True]
    else:
        assert reads == [True] * 4


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_transformer_xl_streams_from_what_it_keeps(layers):
    """Each segment is read from the inputs that every layer had over the one before; their number is the state size."""
    model, tokens = model_of(SegmentRecurrence(5), layers=layers, key_shift=False), draw_tokens()
    held, parts = [None] * layers, []
    with torch.no_grad():
        for part in tokens.split(5, 1):
            x = model.embed(part)
            for i, layer in enumerate(model.layers):
                read = x if held[i] is None else torch.cat([held[i], x], 1)
                held[i], x = x, layer(read, torch.arange(read.shape[1])[None])[:, -x.shape[1] :]
            parts.append(model.norm(x) @ model.embedding.weight.T)
            if part.shape[1] == 5:
                assert sum(x[0].numel() for x in held) == model.spec.state_size(LENGTH)
        torch.testing.assert_close(torch.cat(parts, 1), model(tokens), atol=1e-10, rtol=0)


def test_softmax_attention_keeps_its_state_size():
    model, sizes = model_of(Softmax(), layers=2), []
    for layer in model.layers:
        for project in (layer.attention.k, layer.attention.v):
            project.register_forward_hook(lambda module, inputs, out: sizes.append(out[0].numel()))
    model(draw_tokens())
    assert sum(sizes) == model.spec.state_size(LENGTH)


def test_without_memory_tokens_segments_are_independent():
    model, tokens = model_of(RecurrentMemory(5, 0)), draw_tokens()
    plain = build(replace(model.spec, mixer=Softmax()), 19, 0).double()
    plain.load_state_dict(
        {name: x for name, x in model.state_dict().items() if name != "memory"}, strict=True
    )
    with torch.no_grad():
        alone = torch.cat([plain(part) for part in tokens.split(5, 1)], 1)
        torch.testing.assert_close(model(tokens), alone, atol=1e-12, rtol=0)
        one = build(replace(model.spec, mixer=RecurrentMemory(LENGTH, 0)), 19, 0).double()
        one.load_state_dict(model.state_dict())
        torch.testing.assert_close(one(tokens), plain(tokens), atol=1e-12, rtol=0)


def test_memory_tokens_are_handed_on_and_do_not_look_ahead(monkeypatch):
    """The memory in front of a segment is what came out behind the one before; it sees nothing of its own segment."""
    model, tokens = model_of(RecurrentMemory(5, 3)), draw_tokens()
    inner, passes = model._whole, []

    def whole(x):
        passes.append((x, inner(x)))
        return passes[-1][1]

    monkeypatch.setattr(model, "_whole", whole)
    with torch.no_grad():
        logits = model(tokens)
        assert [x.shape[1] for x, _ in passes] == [11, 11, 11, 11, 9]
        assert torch.equal(passes[0][0][:, :3], model.memory.expand(3, -1, -1))
        for (_, out), (x, _) in itertools.pairwise(passes):
            assert torch.equal(x[:, :3], out[:, -3:])
        for x, _ in passes:
            assert torch.equal(x[:, :3], x[:, -3:]), "read in front, and written over behind"
        assert passes[0][0][0, :3].numel() == model.spec.state_size(LENGTH)
        said = torch.cat([out[:, 3:-3] for _, out in passes], 1) @ model.embedding.weight.T
        torch.testing.assert_close(logits, said)
        first = passes[:2]
        del passes[:]
        model(edited(tokens, slice(5, 10)))
        assert torch.equal(passes[1][1][:, :3], first[1][1][:, :3])
        assert (passes[1][1][:, -3:] != first[1][1][:, -3:]).any(-1).all(), "the writing memory sees all"


def test_memory_tokens_start_as_different_as_embedded_tokens():
    model = build(ModelSpec(width=64, mixer=RecurrentMemory(5, 101)), 1009, 0)
    assert model.memory.std().item() == pytest.approx(0.5, rel=0.05)
    assert (8 * model.embedding.weight).std().item() == pytest.approx(0.5, rel=0.05)
    apart = torch.cdist(model.memory, model.memory) + torch.eye(101)
    assert apart.min() > 0.5


@every_mixer
def test_the_start_is_a_model_that_can_learn(mixer):
    """Fresh models say nothing yet: logits of order one, gradients finite in float32, over many tokens."""
    model = build(ModelSpec(layers=2, width=WIDTH, heads=3, mixer=mixer), 19, 0)
    logits = model(draw_tokens(3, 303))
    assert logits.std() < 2
    logits.logsumexp(-1).sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


@every_mixer
def test_the_keys_in_sight_are_a_matter_of_softmax_attention(mixer):
    with pytest.raises(ValueError, match=r"mixer is .*; allowed is Softmax\(\)"):
        model_of(mixer).seen(draw_tokens(), None, torch.zeros(3, 1, dtype=torch.long))


@every_mixer
def test_what_a_mixer_does_not_take_is_refused(mixer):
    """A pattern, an encoding or a form put onto trained weights of another mixer would change nothing, unnoticed."""
    model = model_of(mixer)
    with pytest.raises(ValueError, match=r"pattern is Window\(.*; allowed is Full\(\)"):
        after(model, Restrict(Window(3)))
    with pytest.raises(ValueError, match=r"position is RoPE\(.*; allowed is NoPosition\(\)"):
        after(model, Reposition(RoPE()))
    with pytest.raises(ValueError, match=r"form is Fused\(.*; allowed is a model of full softmax attention"):
        after(model, ComputeBy(Fused()))
    assert torch.equal(after(model, Reposition(NoPosition()))(draw_tokens()), model(draw_tokens()))


@pytest.mark.parametrize("mixer", [SegmentRecurrence(24), CompressiveMemory(24), RecurrentMemory(24)])
def test_a_segment_must_fit_the_text(mixer):
    model = model_of(mixer)
    assert model(draw_tokens(3, 24)).shape == (3, 24, 19)
    with pytest.raises(ValueError, match="segment is 24 for 23 tokens; allowed is 1 to the length"):
        model(draw_tokens())


def test_softmax_attention_is_what_it_was():
    """The default mixer, spelled out or not, is `Attention` in every layer."""
    model = build(ModelSpec(layers=2, mixer=Softmax()), 19, 0)
    assert model.spec == ModelSpec(layers=2)
    assert {type(layer.attention) for layer in model.layers} == {Attention}
    assert "memory" not in model.state_dict()
