"""Remedies: by hand, by double loops and others' code; what each is at its neutral setting; rows, blocks and time."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from dense import assert_same, draw
from torch.nn.functional import normalize
from transformers.models.diffllama.modeling_diffllama import DiffLlamaAttention
from transformers.models.gpt_oss.modeling_gpt_oss import eager_attention_forward

from lcbook.attention.attend import attend
from lcbook.experiments.train import TrainSpec, losses, train
from lcbook.formats import label
from lcbook.models import layers as layers_module
from lcbook.models.decoder import ModelSpec, build
from lcbook.models.layers import Attention
from lcbook.models.mixers import Differential, ForgettingGate, LearnedSink, Selective, Softmax
from lcbook.models.positions import NoPosition, PositionEncoding, RoPE
from lcbook.models.variants import (
    Remedied,
    differential,
    forgetting_bias,
    lambda_at_start,
    remedied,
    selection,
)
from lcbook.tasks.recall import KeyValueRecall

LENGTH = 23
MIXERS = [LearnedSink(), ForgettingGate(), Differential(), Selective()]
every_mixer = pytest.mark.parametrize("mixer", MIXERS, ids=label)
OPTIONS = pytest.mark.parametrize("options", [{}, {"key_shift": False, "qk_norm": False}], ids=["", "plain"])


def layer_of(mixer, *, layer=0, heads=3, roughened=True, **options):
    """Return one layer of heads of width 14 in float64, its parameters moved away from their start."""
    spec = ModelSpec(layers=layer + 1, width=14 * heads, heads=heads, mixer=mixer, **options)
    encoding = PositionEncoding(NoPosition(), width=14 * heads, heads=heads, head_dim=14)
    torch.manual_seed(3)
    if mixer == Softmax():
        made = Attention(spec, encoding, layer)
    else:
        made = remedied(spec, encoding, layer, mixer)
    if roughened:
        with torch.no_grad():
            for parameter in made.parameters():
                if parameter.requires_grad:
                    parameter += 0.3 * torch.randn(parameter.shape)
    return made.double()


def text(batch=2, length=LENGTH, width=42, seed=0):
    return draw((batch, length, width), seed=seed)[0], torch.arange(length)[None]


def plain_with_weights_of(layer):
    """Return softmax attention with the weights that `layer` shares with it."""
    twin = layer_of(
        Softmax(), heads=layer.spec.heads, key_shift=layer.spec.key_shift, qk_norm=layer.spec.qk_norm
    )
    twin.load_state_dict({name: x for name, x in layer.state_dict().items() if name in twin.state_dict()})
    return twin


def causal(length):
    return torch.ones(length, length, dtype=torch.bool).tril()


def naive_forgetting():
    """Return flash-linear-attention's plain version; importing the whole package would need Triton."""
    folder = Path(importlib.util.find_spec("fla").submodule_search_locations[0])
    path = folder / "ops" / "forgetting_attn" / "naive.py"
    module = importlib.util.module_from_spec(spec := importlib.util.spec_from_file_location("fla_fox", path))
    spec.loader.exec_module(module)
    return module.naive_forgetting_attn


def test_forgetting_by_hand():
    gates = torch.tensor([0.9, 0.5, 0.25], dtype=torch.float64)
    kept = forgetting_bias(gates.log()[None, None]).exp()[0, 0].tril()
    expected = torch.tensor([[1, 0, 0], [0.5, 1, 0], [0.125, 0.25, 1]], dtype=torch.float64)
    torch.testing.assert_close(kept, expected)
    last = forgetting_bias(gates.log()[None, None], torch.tensor([[2]]))
    torch.testing.assert_close(last.exp()[0, 0], expected[2:])


def test_selection_by_hand():
    scores = torch.tensor([[[9, 9, 9, 9], [5, 9, 9, 9], [5, 2, 9, 9], [5, 3, 7, 9]]], dtype=torch.float64)
    none = [
        0.0,
        0,
        0,
        0,
    ]  # token 2 masks token 1 by 2 for all after it; what the last token masks comes too late
    assert selection(scores)[0].tolist() == [none, none, none, [0, 2, 0, 0]]
    longer = torch.nn.functional.pad(scores, (0, 1, 0, 1))
    assert selection(longer)[0, 4].tolist() == [0, 5, 7, 0, 0]
    assert not selection(-scores).any()
    assert not selection(scores[:, :1, :1]).any()


def test_difference_by_hand():
    first = torch.tensor([[0.0, math.log(3)], [0.0, -math.inf]], dtype=torch.float64)[None, None]
    second = torch.tensor([[0.0, 0.0], [2.0, -math.inf]], dtype=torch.float64)[None, None]
    weights = differential(first, second, torch.tensor(0.5, dtype=torch.float64))
    torch.testing.assert_close(weights[0, 0].tolist(), [[0.0, 0.5], [0.5, 0.0]])


def test_lambda_starts_where_the_paper_has_it():
    for layer in range(7):
        expected = 0.8 - 0.6 * math.exp(-0.3 * layer)
        assert lambda_at_start(Differential(), layer) == pytest.approx(expected, abs=1e-12)
    assert lambda_at_start(Differential(0), 3) == 0
    assert lambda_at_start(Differential(0.5), 0) == 0.125
    layer = layer_of(Differential(), layer=2, roughened=False)
    q1, q2 = layer.lambdas[0, 0] @ layer.lambdas[0, 1], layer.lambdas[1, 0] @ layer.lambdas[1, 1]
    torch.testing.assert_close(layer.lam(), q1.exp() - q2.exp() + 0.8 - 0.6 * math.exp(-0.6))


def test_bias_of_forgetting_is_the_sum_of_the_paper():
    log_f = draw((2, 3, 11))[0].sigmoid().log()
    bias = forgetting_bias(log_f)
    for t in range(11):
        for s in range(t + 1):
            torch.testing.assert_close(bias[:, :, t, s], log_f[:, :, s + 1 : t + 1].sum(-1))
    at = torch.tensor([[10, 0, 4], [7, 7, 3]])
    rows = torch.stack([bias[b][:, at[b]] for b in range(2)])
    assert torch.equal(forgetting_bias(log_f, at), rows)


def test_selection_is_the_sum_of_the_paper():
    (scores,) = draw((2, 11, 11))
    expected = torch.zeros(2, 11, 11, dtype=torch.float64)
    for t in range(11):
        for s in range(11):
            for u in range(t):
                if 0 < s < u:
                    expected[:, t, s] += scores[:, u, s].clamp(min=0)
    torch.testing.assert_close(selection(scores), expected)
    assert expected.count_nonzero() > 50


def test_gradients_of_the_forms():
    log_f, first, second, lam, scores = draw((2, 3, 5), (2, 3, 5, 5), (2, 3, 5, 5), (), (2, 7, 7))
    assert torch.autograd.gradcheck(forgetting_bias, (log_f, torch.tensor([[4, 0], [2, 2]])))
    assert torch.autograd.gradcheck(differential, (first, second, lam))
    assert torch.autograd.gradcheck(selection, (scores,))


@OPTIONS
def test_forgetting_is_that_of_flash_linear_attention(options):
    """Their plain version takes the same queries, keys and gates; it computes in float32."""
    layer, (x, positions) = layer_of(ForgettingGate(), **options), text()
    asked = layer.project(x, positions)
    q, k, v = (z.transpose(1, 2) for z in (asked.q * asked.scale, asked.k, asked.v))
    log_f = torch.nn.functional.logsigmoid(x @ layer.gates.weight.T + layer.gates.bias)
    theirs = layer.out(naive_forgetting()(q, k, v, log_f, scale=1.0).flatten(2).double())
    torch.testing.assert_close(layer(x, positions), theirs, atol=1e-5, rtol=1e-4)


@OPTIONS
def test_sink_is_that_of_gpt_oss(options):
    """transformers puts the sink beside the scores and drops its weight; attention is computed by its code."""
    layer, (x, positions) = layer_of(LearnedSink(), **options), text()
    asked = layer.project(x, positions)
    module = SimpleNamespace(sinks=layer.sink.flatten(), num_key_value_groups=1, training=False)
    mask = torch.zeros(LENGTH, LENGTH, dtype=torch.float64).masked_fill(~causal(LENGTH), -math.inf)
    scaled = (asked.q * asked.scale, asked.k, asked.v, mask[None, None])
    theirs, _ = eager_attention_forward(module, *scaled, scaling=1.0)
    assert_same(layer(x, positions), layer.out(theirs.flatten(2)), [x, layer.sink, layer.k.weight])


@pytest.mark.parametrize("depth", [0, 1, 4])
def test_difference_is_that_of_diffllama(depth):
    """transformers' layer has the first halves of all heads first, then the second ones; it learns no gain."""
    layer, (x, positions) = layer_of(Differential(), layer=depth, key_shift=False, qk_norm=False), text()
    config = SimpleNamespace(hidden_size=42, num_attention_heads=6, num_key_value_heads=6, head_dim=7)
    config.attention_dropout, config.attention_bias = 0.0, False
    config.lambda_std_dev, config.rms_norm_eps, config._attn_implementation = 0.1, 1e-5, "eager"
    theirs = DiffLlamaAttention(config, depth).double()
    with torch.no_grad():
        layer.norm.weight.fill_(1)
        for name in "qkv":
            own = getattr(layer, name).weight.view(3, 2, 7, 42)
            getattr(theirs, f"{name}_proj").weight.copy_(own.transpose(0, 1).reshape(42, 42))
        theirs.o_proj.weight.copy_(layer.out.weight)
        for i in (0, 1):
            getattr(theirs, f"lambda_q{i + 1}").copy_(layer.lambdas[i, 0])
            getattr(theirs, f"lambda_k{i + 1}").copy_(layer.lambdas[i, 1])
    unturned = torch.ones(1, LENGTH, 7, dtype=torch.float64), torch.zeros(1, LENGTH, 7, dtype=torch.float64)
    mask = torch.zeros(LENGTH, LENGTH, dtype=torch.float64).masked_fill(~causal(LENGTH), -math.inf)
    out, *_ = theirs(x, position_embeddings=unturned, attention_mask=mask[None, None])
    # their lambda passes through float32
    torch.testing.assert_close(layer(x, positions), out, atol=1e-6, rtol=1e-5)


@OPTIONS
def test_selective_attention_is_that_of_the_paper(options):
    """The steps of the paper's listing, with one full matrix for each head."""
    layer, (x, positions) = layer_of(Selective(), **options), text()
    asked = layer.project(x, positions)
    logits = (asked.q * asked.scale) @ asked.k.mT
    logits = logits.masked_fill(~causal(LENGTH), -math.inf)
    chosen = logits[:, 0].relu() * (1 - torch.eye(LENGTH)) * (torch.arange(LENGTH) > 0)
    chosen = chosen.roll(1, -2) * (torch.arange(LENGTH) > 0)[:, None]
    masked = chosen.cumsum(-2)
    assert masked[:, -1].count_nonzero() > LENGTH
    weights = torch.softmax(logits - masked[:, None], -1)
    theirs = layer.out((weights @ asked.v).transpose(1, 2).flatten(2))
    assert_same(layer(x, positions), theirs, [x, layer.q.weight, layer.k.weight])


def test_halves_of_unit_length_have_the_learned_scale():
    layer, (x, positions) = layer_of(Differential(), key_shift=False), text()
    q, k, v = (project(x).unflatten(-1, (3, 14)).transpose(1, 2) for project in (layer.q, layer.k, layer.v))
    first, second = (
        attend(normalize(a, dim=-1), normalize(b, dim=-1), b, mask=causal(LENGTH), scale=layer.scale())[1]
        for a, b in zip(q.split(7, -1), k.split(7, -1), strict=True)
    )
    mixed = (first - layer.lam() * second) @ v
    normed = mixed / (mixed.square().mean(-1, keepdim=True) + 1e-5).sqrt() * layer.norm.weight * (1 - 0.2)
    assert_same(layer(x, positions), layer.out(normed.transpose(1, 2).flatten(2)), [x, layer.lambdas])


@OPTIONS
def test_neutral_settings_are_softmax_attention(options):
    x, positions = text()
    forget, sink = layer_of(ForgettingGate(), **options), layer_of(LearnedSink(), **options)
    with torch.no_grad():
        forget.gates.bias.fill_(800)  # nothing is forgotten
        sink.sink.fill_(-math.inf)  # nothing goes to the sink
    for layer in (forget, sink):
        torch.testing.assert_close(layer(x, positions), plain_with_weights_of(layer)(x, positions))
    one = layer_of(Selective(), **options)
    torch.testing.assert_close(
        one(x[:, :1], positions[:, :1]), plain_with_weights_of(one)(x[:, :1], positions[:, :1])
    )
    with torch.no_grad():
        one.q.weight[:14] = 0  # the first head selects nothing
    torch.testing.assert_close(one(x, positions), plain_with_weights_of(one)(x, positions))


def test_without_lambda_the_first_halves_attend():
    layer, (x, positions) = layer_of(Differential(start=0), qk_norm=False), text()
    with torch.no_grad():
        layer.lambdas.zero_()
    asked = layer.project(x, positions)
    q, k = asked.q[..., :7], asked.k[..., :7]
    read, _ = attend(q, k, asked.v[..., :7], mask=causal(LENGTH))
    rest, _ = attend(q, k, asked.v[..., 7:], mask=causal(LENGTH))
    expected = layer.norm(torch.cat([read, rest], -1))
    torch.testing.assert_close(layer(x, positions), layer.out(expected.transpose(1, 2).flatten(2)))


@every_mixer
@OPTIONS
def test_asking_at_places_gathers_the_whole(mixer, options):
    layer, (x, positions) = layer_of(mixer, **options), text()
    at = torch.tensor([[0, 5, 22, 11, 5], [3, 22, 21, 1, 0]])
    rows = layer(x, positions).gather(1, at[..., None].expand(-1, -1, 42))
    assert_same(layer(x, positions, at), rows, [x, layer.q.weight, layer.k.weight, layer.v.weight])


@every_mixer
@pytest.mark.parametrize(
    "at", [None, torch.tensor([[0, 5, 22, 11, 5], [3, 22, 21, 1, 0]])], ids=["all", "some"]
)
def test_blocks_of_queries_change_nothing(monkeypatch, mixer, at):
    layer, (x, positions) = layer_of(mixer), text()
    whole = layer(x, positions, at)
    largest = []
    weights = layer.weigh

    def spied(*arguments):
        found = weights(*arguments)
        largest.append(layer.maps * found.numel())
        return found

    monkeypatch.setattr(layer, "weigh", spied)
    for rows in (1, 3):
        largest.clear()
        monkeypatch.setattr(layers_module, "SCORES_AT_ONCE", rows * layer.maps * 2 * 3 * LENGTH + 1)
        torch.testing.assert_close(layer(x, positions, at), whole)
        assert len(largest) == math.ceil((LENGTH if at is None else 5) / rows)
        assert max(largest) <= layers_module.SCORES_AT_ONCE


@every_mixer
@OPTIONS
def test_future_edits_leave_the_past_unchanged(mixer, options):
    layer, (x, positions) = layer_of(mixer, **options), text()
    with torch.no_grad():
        before, changed = layer(x, positions), x.clone()
        changed[:, 13:] += 1
        after = layer(changed, positions)
    torch.testing.assert_close(before[:, :13], after[:, :13], rtol=1e-12, atol=1e-12)
    assert (before[:, 13:] != after[:, 13:]).any(-1).all()


@every_mixer
def test_what_a_row_of_weights_sums_to(mixer):
    layer, (x, positions) = layer_of(mixer), text()
    with torch.no_grad():
        weights = layer.weigh(layer.project(x, positions))
    assert weights.shape == (2, 3, LENGTH, LENGTH)
    assert not weights.triu(1).any()
    sums = weights.sum(-1)
    if isinstance(mixer, LearnedSink):
        assert (sums < 1).all()
        torch.testing.assert_close(weights[:, :, 0, 0], sums[:, :, 0])
    else:
        wanted = 1 - layer.lam().item() if isinstance(mixer, Differential) else 1.0
        torch.testing.assert_close(sums, torch.full_like(sums, wanted))


@every_mixer
def test_the_start(mixer):
    """At the start every learned number of a remedy gets a gradient, in float32 and over many tokens."""
    model = build(ModelSpec(layers=2, width=42, heads=3, mixer=mixer), 19, 0)
    assert all(isinstance(layer.attention, Remedied) for layer in model.layers)
    tokens = torch.randint(19, (3, 303), generator=torch.Generator().manual_seed(0))
    logits = model(tokens)
    assert logits.std() < 2
    logits.square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


def test_where_the_learned_numbers_start():
    attention = build(ModelSpec(width=42, heads=3, mixer=ForgettingGate()), 19, 0).layers[0].attention
    assert torch.sigmoid(attention.gates(torch.randn(7, 42))).mean().item() == pytest.approx(
        0.99331, abs=1e-5
    )
    sink = build(ModelSpec(width=42, heads=3, mixer=LearnedSink()), 19, 0).layers[0].attention.sink
    assert sink.tolist() == [[[0.0]]] * 3
    models = [build(ModelSpec(width=2002, mixer=Differential()), 19, seed) for seed in (0, 0, 1)]
    one, same, other = (model.layers[0].attention.lambdas for model in models)
    assert one.std().item() == pytest.approx(0.1, rel=0.05)
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


@every_mixer
def test_training_lowers_the_loss(mixer):
    task = KeyValueRecall(pairs=2, queries=2, keys=11, values=7, filler=5)
    model = build(ModelSpec(width=32, mixer=mixer), task.vocabulary, 0)
    batch = task.sample(256, 24, torch.Generator().manual_seed(1))
    positions = torch.arange(24)[None]
    with torch.no_grad():
        before, _ = losses(model, batch, positions, 0.0)
    train(model, task, TrainSpec(length=24, updates=60, batch=64, lr=1e-2), seed=0)
    with torch.no_grad():
        after, _ = losses(model, batch, positions, 0.0)
    assert after < 0.5 * before


@every_mixer
def test_what_a_remedy_does_not_take_is_named(mixer):
    with pytest.raises(ValueError, match=r"position is RoPE\(.*; allowed is NoPosition\(\)"):
        ModelSpec(mixer=mixer, position=RoPE())
    with pytest.raises(ValueError, match=r"normalizer is log-n softmax with .*; allowed is softmax"):
        ModelSpec(mixer=mixer, normalizer="log-n softmax")
    with pytest.raises(ValueError, match=r"mixer is .*; allowed is Softmax\(\)"):
        build(ModelSpec(mixer=mixer), 19, 0).seen(
            torch.zeros(1, 5, dtype=torch.long), None, torch.tensor([[4]])
        )


def test_halves_need_an_even_width():
    spec = ModelSpec(width=15, heads=3, mixer=Differential())
    with pytest.raises(
        ValueError, match=r"width of a head is 5 with Differential\(.*; allowed are even numbers"
    ):
        build(spec, 19, 0)
    for mixer in (LearnedSink(), ForgettingGate(), Selective()):
        assert build(ModelSpec(width=15, heads=3, mixer=mixer), 19, 0).spec.mixer == mixer
