"""The model: the logits of a Llama with the same weights, causality under every encoding, and each option by hand."""

from __future__ import annotations

import math

import pytest
import torch

from lcbook.attention.normalizers import NORMALIZERS
from lcbook.experiments.train import TrainSpec, train
from lcbook.formats import label
from lcbook.models import layers as layers_module
from lcbook.models.decoder import Decoder, ModelSpec, build
from lcbook.models.layers import KeyShift, SwiGLU
from lcbook.models.positions import (
    NTK,
    ALiBi,
    Dynamic,
    Learned,
    Linear,
    NoPosition,
    Randomized,
    RoPE,
    Sinusoidal,
    T5Bias,
)
from lcbook.tasks.recall import KeyValueRecall

POSITIONS = [
    NoPosition(),
    Sinusoidal(),
    Learned(23),
    RoPE(),
    RoPE(scaling=Linear(4.0)),
    RoPE(scaling=NTK(4.0)),
    ALiBi(),
    ALiBi(slope=0.5),
    T5Bias(buckets=7, max_distance=11),
    Randomized(RoPE(), 97),
    Randomized(Sinusoidal(), 97),
]
SPEC = {"layers": 2, "width": 24, "heads": 6, "kv_heads": 3}


def draw_tokens(batch, length, vocabulary=19, seed=0):
    return torch.randint(vocabulary, (batch, length), generator=torch.Generator().manual_seed(seed))


def roughened(model: Decoder, seed=0) -> Decoder:
    """Move every parameter away from its symmetric start (norms of one, shifts of one half)."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += 0.3 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
    return model


def as_llama(model: Decoder, vocabulary: int):
    """Return transformers' Llama with the weights of `model`."""
    from transformers import LlamaConfig, LlamaForCausalLM

    spec = model.spec
    assert isinstance(spec.position, RoPE)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=spec.width,
        intermediate_size=spec.mlp,
        num_hidden_layers=spec.layers,
        num_attention_heads=spec.heads,
        num_key_value_heads=spec.kv_heads,
        rms_norm_eps=1e-6,
        tie_word_embeddings=False,
        rope_parameters={"rope_type": "default", "rope_theta": spec.position.base},
        attn_implementation="eager",
    )
    llama = LlamaForCausalLM(config).eval()
    ours, weights = model.state_dict(), {}
    weights["model.embed_tokens.weight"] = ours["embedding.weight"] * math.sqrt(spec.width)
    weights["lm_head.weight"] = ours["embedding.weight"]
    weights["model.norm.weight"] = ours["norm.weight"]
    names = {
        "attention.q": "self_attn.q_proj",
        "attention.k": "self_attn.k_proj",
        "attention.v": "self_attn.v_proj",
        "attention.out": "self_attn.o_proj",
        "mlp.gate": "mlp.gate_proj",
        "mlp.up": "mlp.up_proj",
        "mlp.down": "mlp.down_proj",
        "attention_norm": "input_layernorm",
        "mlp_norm": "post_attention_layernorm",
    }
    for i in range(spec.layers):
        for mine, theirs in names.items():
            weights[f"model.layers.{i}.{theirs}.weight"] = ours[f"layers.{i}.{mine}.weight"]
    llama.load_state_dict(weights, strict=True)
    return llama


@pytest.mark.parametrize(
    ("heads", "kv_heads", "base"), [(5, 5, 10_000.0), (6, 3, 10_000.0), (6, 2, 500.0), (7, 1, 500.0)]
)
def test_logits_are_those_of_a_llama(heads, kv_heads, base):
    spec = ModelSpec(
        layers=3,
        width=heads * 4,
        heads=heads,
        kv_heads=kv_heads,
        mlp=17,
        position=RoPE(base),
        key_shift=False,
        qk_norm=False,
    )
    ours = roughened(build(spec, 19, 0))
    tokens = draw_tokens(5, 23)
    with torch.no_grad():
        expected = as_llama(ours, 19)(tokens).logits
        torch.testing.assert_close(ours(tokens), expected, rtol=1e-5, atol=1e-5)
    assert expected.std() > 0.1


@pytest.mark.parametrize("key_shift", [True, False])
@pytest.mark.parametrize("normalizer", NORMALIZERS)
@pytest.mark.parametrize("position", POSITIONS, ids=str)
def test_future_edits_leave_the_past_unchanged(position, normalizer, key_shift):
    model = roughened(
        build(ModelSpec(**SPEC, mlp=5, position=position, normalizer=normalizer, key_shift=key_shift), 19, 0)
    ).double()
    tokens = draw_tokens(3, 17)
    edited = tokens.clone()
    edited[:, 11:] = (edited[:, 11:] + 1) % 19
    with torch.no_grad():
        before, after = model(tokens), model(edited)
        torch.testing.assert_close(before[:, :11], after[:, :11], rtol=0, atol=0)
        assert (before[:, 11:] != after[:, 11:]).any(-1).all()
        edited = tokens.clone()
        edited[:, 5] = (edited[:, 5] + 1) % 19
        changed = (before != model(edited)).any(-1)
    assert not changed[:, :5].any()
    assert changed[:, 5:].all(), "every later place sees the edit"


@pytest.mark.parametrize("position", [*POSITIONS, RoPE(scaling=Dynamic(4.0, 7))], ids=str)
@pytest.mark.parametrize("layers", [1, 2])
def test_asking_at_places_gathers_the_whole(position, layers):
    model = roughened(
        build(ModelSpec(**{**SPEC, "layers": layers}, mlp=5, position=position), 19, 0)
    ).double()
    tokens = draw_tokens(3, 17)
    at = torch.tensor([[0, 5, 16, 11], [3, 4, 5, 6], [16, 0, 8, 8]])
    positions = torch.arange(17).expand(3, 17)
    if isinstance(position, Randomized):
        positions = torch.stack(
            [torch.randperm(97, generator=torch.Generator().manual_seed(i))[:17].sort()[0] for i in range(3)]
        )
    with torch.no_grad():
        whole = model(tokens, positions)
        asked = model(tokens, positions, at)
    torch.testing.assert_close(asked, whole.gather(1, at[..., None].expand(-1, -1, 19)), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("position", POSITIONS, ids=str)
@pytest.mark.parametrize("block", [1, 5, 16])
def test_blocks_of_queries_equal_one_block(monkeypatch, position, block):
    model = roughened(build(ModelSpec(**SPEC, position=position), 19, 0)).double()
    tokens = draw_tokens(3, 17)
    at = torch.tensor([[0, 5, 16, 11, 2]]).expand(3, 5)
    with torch.no_grad():
        whole, asked = model(tokens), model(tokens, None, at)
        monkeypatch.setattr(layers_module, "SCORES_AT_ONCE", block * 3 * 6 * 17)
        calls = []
        attend = layers_module.attend
        monkeypatch.setattr(
            layers_module, "attend", lambda q, *x, **y: calls.append(q.shape[2]) or attend(q, *x, **y)
        )
        torch.testing.assert_close(model(tokens), whole, rtol=1e-9, atol=1e-9)
        assert max(calls) == block
        assert sum(calls) == 2 * 17
        torch.testing.assert_close(model(tokens, None, at), asked, rtol=1e-9, atol=1e-9)


def test_positions_are_those_that_are_told():
    model = roughened(build(ModelSpec(**SPEC, position=RoPE()), 19, 0)).double()
    tokens = draw_tokens(3, 17)
    with torch.no_grad():
        told = model(tokens, torch.arange(17)[None])
        torch.testing.assert_close(model(tokens), told)
        torch.testing.assert_close(
            model(tokens, torch.arange(17)[None] + 1000), told
        )  # differences alone count
        assert not torch.allclose(model(tokens, 2 * torch.arange(17)[None]), told)
        # a row of positions for each sequence
        rows = torch.stack([torch.arange(17), 2 * torch.arange(17), torch.arange(17)])
        each = model(tokens, rows)
        torch.testing.assert_close(each[0], told[0])
        torch.testing.assert_close(each[1], model(tokens, 2 * torch.arange(17)[None])[1])


def test_without_a_position_the_past_is_a_bag():
    """One layer without position or key shift: shuffling the past leaves the last place's logits as they were."""
    spec = ModelSpec(width=12, heads=3, key_shift=False)
    model = roughened(build(spec, 19, 0)).double()
    tokens = draw_tokens(3, 17)
    shuffled = torch.cat([tokens[:, :16].flip(1), tokens[:, 16:]], dim=1)
    with torch.no_grad():
        torch.testing.assert_close(model(tokens)[:, -1], model(shuffled)[:, -1])
        assert not torch.allclose(
            model(tokens)[:, 8], model(shuffled)[:, 8]
        )  # order counts through the mask alone
        shifted = roughened(build(ModelSpec(width=12, heads=3), 19, 0)).double()
        assert not torch.allclose(shifted(tokens)[:, -1], shifted(shuffled)[:, -1])
        for position in (Sinusoidal(), Learned(23), RoPE(), ALiBi(), T5Bias(buckets=7, max_distance=11)):
            told = roughened(
                build(ModelSpec(width=12, heads=3, key_shift=False, position=position), 19, 0)
            ).double()
            assert not torch.allclose(told(tokens)[:, -1], told(shuffled)[:, -1]), label(position)


def test_key_shift_worked_by_hand():
    shift = KeyShift(2, 3)
    k = torch.arange(24.0).view(1, 2, 4, 3)
    halves = shift(k)
    torch.testing.assert_close(
        halves[0, 0], torch.tensor([[0, 0.5, 1], [1.5, 2.5, 3.5], [4.5, 5.5, 6.5], [7.5, 8.5, 9.5]])
    )
    with torch.no_grad():
        shift.logit[1, 0] = torch.tensor([-50.0, math.log(3), 50.0])  # s = 0, 3/4, 1
    torch.testing.assert_close(
        shift(k)[0, 1],
        torch.tensor([[0.0, 9.75, 14.0], [12.0, 15.25, 17.0], [15.0, 18.25, 20.0], [18.0, 21.25, 23.0]]),
    )
    torch.testing.assert_close(shift(k)[0, 0], halves[0, 0])


def test_swiglu_worked_by_hand():
    mlp = SwiGLU(1, 2)
    with torch.no_grad():
        mlp.gate.weight.copy_(torch.tensor([[1.0], [-2.0]]))
        mlp.up.weight.copy_(torch.tensor([[3.0], [5.0]]))
        mlp.down.weight.copy_(torch.tensor([[1.0, 7.0]]))
        x = 0.5
        silu = [0.5 / (1 + math.exp(-0.5)), -1 / (1 + math.exp(1))]
        assert mlp(torch.full((1, 1, 1), x)).item() == pytest.approx(silu[0] * 1.5 + 7 * silu[1] * 2.5)


def test_unit_queries_and_keys_make_the_scores_cosines(monkeypatch):
    model = roughened(build(ModelSpec(width=12, heads=3), 19, 0))
    seen = []
    attend = layers_module.attend
    monkeypatch.setattr(
        layers_module, "attend", lambda q, k, v, **y: seen.append((q, k, y)) or attend(q, k, v, **y)
    )
    with torch.no_grad():
        first = model(draw_tokens(2, 7))
        q, k, options = seen[0]
        torch.testing.assert_close(q.norm(dim=-1), torch.ones(2, 3, 7))
        torch.testing.assert_close(k.norm(dim=-1), torch.ones(2, 3, 7))
        torch.testing.assert_close(options["scale"], model.layers[0].attention.log_scale.exp())
        model.layers[0].attention.q.weight *= 10  # only directions count
        torch.testing.assert_close(model(draw_tokens(2, 7)), first)
    fresh = build(ModelSpec(width=12, heads=3), 19, 0).layers[0].attention.log_scale
    torch.testing.assert_close(fresh.exp().flatten(), torch.full((3,), 2.0))  # sqrt(4), as if unnormalized
    assert fresh.requires_grad
    assert (
        not build(ModelSpec(width=12, heads=3, qk_norm=False), 19, 0)
        .layers[0]
        .attention.log_scale.requires_grad
    )


def test_the_scale_of_scores_starts_where_it_is_told():
    def scale_of(**options):
        spec = ModelSpec(layers=2, width=12, heads=3, **options)
        scales = [layer.attention.log_scale for layer in build(spec, 19, 0).layers]
        assert torch.equal(scales[0], scales[1])
        return scales[0].exp().flatten().tolist(), scales[0].requires_grad

    assert scale_of() == (pytest.approx([2.0] * 3), True)
    assert scale_of(qk_scale=7) == (pytest.approx([7.0] * 3), True)
    assert scale_of(qk_scale=0.25, learn_scale=False) == (pytest.approx([0.25] * 3), False)
    assert scale_of(learn_scale=False) == (pytest.approx([2.0] * 3), False)
    plain, same = (build(ModelSpec(width=12, heads=3, **o), 19, 0) for o in ({}, {"learn_scale": False}))
    assert torch.equal(plain(draw_tokens(2, 7)), same(draw_tokens(2, 7))), "the same start"


@pytest.mark.parametrize("learn_scale", [True, False])
def test_a_scale_that_is_fixed_is_not_trained(learn_scale):
    task = KeyValueRecall(pairs=2, queries=2, keys=7, values=5, filler=3)
    model = build(ModelSpec(width=12, heads=3, qk_scale=3.0, learn_scale=learn_scale), task.vocabulary, 0)
    scale, query = (
        x.detach().clone() for x in (model.layers[0].attention.log_scale, model.layers[0].attention.q.weight)
    )
    train(model, task, TrainSpec(length=16, updates=5, batch=7, lr=1e-2, weight_decay=0.1), seed=0)
    assert torch.equal(model.layers[0].attention.log_scale, scale) != learn_scale
    assert not torch.equal(model.layers[0].attention.q.weight, query)


def test_every_trained_parameter_gets_a_gradient():
    for position in (Learned(23), T5Bias(buckets=7, max_distance=11), NoPosition()):
        model = build(ModelSpec(**SPEC, mlp=5, position=position), 19, 0)
        model(draw_tokens(5, 17)).square().sum().backward()
        for name, parameter in model.named_parameters():
            assert (
                parameter.grad is not None and parameter.grad.abs().sum() > 0
            ) == parameter.requires_grad, name


def test_weights_depend_on_the_seed_alone():
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    one = build(ModelSpec(**SPEC, position=Learned(23)), 19, 3)
    assert torch.equal(torch.rand(3), expected), "the global random state is left alone"
    same, other = (build(ModelSpec(**SPEC, position=Learned(23)), 19, seed) for seed in (3, 4))
    for name, tensor in one.state_dict().items():
        assert torch.equal(tensor, same.state_dict()[name])
    assert not torch.equal(one.embedding.weight, other.embedding.weight)


def test_tokens_start_at_half_a_unit_a_channel():
    model = build(ModelSpec(width=64), 1009, 0)
    assert (model.embedding.weight * 8).std().item() == pytest.approx(0.5, rel=0.02)
    assert model.layers[0].attention.q.weight.std().item() == pytest.approx(1 / 8, rel=0.05)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"layers": 0}, "layers is 0; allowed is 1 or more"),
        ({"width": 0}, "width is 0"),
        ({"heads": -1}, "heads is -1"),
        ({"kv_heads": -1}, "kv_heads is -1"),
        ({"mlp": -2}, "mlp is -2"),
        ({"width": 10, "heads": 3}, r"width is 10; allowed is a multiple of heads \(3\)"),
        ({"width": 12, "heads": 6, "kv_heads": 4}, r"kv_heads is 4; allowed is a divisor of heads \(6\)"),
        ({"normalizer": "hardmax"}, "normalizer is 'hardmax'"),
        ({"qk_scale": -1.0}, "qk_scale is -1.0; allowed is 0 or a finite number above it"),
        ({"qk_scale": math.inf}, "qk_scale is inf"),
        ({"qk_scale": math.nan}, "qk_scale is nan"),
        (
            {"qk_scale": 2.0, "qk_norm": False},
            "qk_scale is 2.0 and learn_scale True without qk_norm; allowed are 0",
        ),
        ({"learn_scale": False, "qk_norm": False}, "qk_scale is 0.0 and learn_scale False without qk_norm"),
    ],
)
def test_impossible_models_are_named(wrong, named):
    with pytest.raises(ValueError, match=named):
        ModelSpec(**wrong)


def test_lengths_beyond_a_learned_table_are_named():
    model = build(ModelSpec(position=Learned(5)), 19, 0)
    model(draw_tokens(1, 5))
    with pytest.raises(ValueError, match="positions"):
        model(draw_tokens(1, 6))
