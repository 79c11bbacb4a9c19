"""Heads: their weights against a Llama's and against the model's own outputs, and what is left without one."""

from __future__ import annotations

import copy
import math

import pytest
import torch

from lcbook.attention.backends import Linear
from lcbook.attention.patterns import BigBird, Chunked, Strided, TopBlocks, TopK, Window
from lcbook.experiments.heads import attention_maps, first_token_rows, lookup_share, previous_token_share
from lcbook.models import surgery
from lcbook.models.decoder import ModelSpec, build
from lcbook.models.mixers import DeltaRule, RecurrentMemory
from lcbook.models.positions import ALiBi, RoPE, Sinusoidal
from lcbook.tasks.base import Batch
from lcbook.tasks.mixture import Opened
from lcbook.tasks.recall import KeyValueRecall
from tests.models.test_decoder import as_llama, draw_tokens, roughened


def ablate(model, layer, head):
    """Return a copy without a head; the model is left as it is."""
    without = copy.deepcopy(model)
    surgery.ablate(without, layer, head)
    return without


PATTERNS = [
    Window(5),
    Strided(3),
    Chunked(5),
    BigBird(block=3, window=1, random=1, globals=1),
    TopK(3),
    TopBlocks(block=3, blocks=2),
]


def test_weights_are_those_of_a_llama():
    spec = ModelSpec(
        layers=3, width=24, heads=6, kv_heads=3, mlp=17, position=RoPE(), key_shift=False, qk_norm=False
    )
    model, tokens = roughened(build(spec, 19, seed=3)), draw_tokens(2, 11)
    with torch.no_grad():
        theirs = as_llama(model, 19)(tokens, output_attentions=True).attentions
    ours = attention_maps(model, tokens)
    assert len(ours) == len(theirs) == 3
    for mine, its in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, its, atol=1e-5, rtol=0)


@pytest.mark.parametrize("pattern", [*PATTERNS, None], ids=str)
@pytest.mark.parametrize("position", [ALiBi(), Sinusoidal()])
def test_the_weights_mix_the_values_into_what_the_model_computes(pattern, position):
    options = {} if pattern is None else {"pattern": pattern, "full_layers": (1,)}
    spec = ModelSpec(layers=3, width=14, heads=2, position=position, normalizer="log-n softmax", **options)
    model, tokens = roughened(build(spec, 19, seed=3)), draw_tokens(2, 23)
    positions = 2 * torch.arange(23)[None]
    seen = []
    for layer in model.layers:
        layer.attention.register_forward_hook(
            lambda module, inputs, out: seen.append((module, inputs[0], out))
        )
    with torch.no_grad():
        logits = model(tokens, positions)
        calls = seen[:3]
        maps = attention_maps(model, tokens, positions)
        for weights, (attention, x, out) in zip(maps, calls, strict=True):
            assert weights.shape == (2, 2, 23, 23)
            torch.testing.assert_close(weights.sum(-1), torch.ones(2, 2, 23))
            assert (weights.triu(1) == 0).all()
            mixed = weights @ attention.v(x).unflatten(2, (2, 7)).transpose(1, 2)
            torch.testing.assert_close(
                attention.out(mixed.transpose(1, 2).flatten(2)), out, atol=1e-5, rtol=0
            )
        assert torch.equal(model(tokens, positions), logits)
    if pattern is not None:  # what a pattern hides has no weight; full layers see all
        assert ((maps[0] > 0).float().mean((0, 1)) <= (maps[1] > 0).float().mean((0, 1))).all()
        assert (maps[0] == 0).sum() > (maps[1] == 0).sum()


def test_no_hook_is_left_behind():
    model = build(ModelSpec(layers=2, width=6), 19, seed=0)
    for _ in range(2):
        assert len(attention_maps(model, draw_tokens(1, 5))) == 2
    with pytest.raises(IndexError):
        attention_maps(model, torch.tensor([[99]]))
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_a_head_that_is_taken_out_writes_nothing():
    spec = ModelSpec(layers=2, width=21, heads=3)
    model, tokens = roughened(build(spec, 19, seed=5)), draw_tokens(2, 11)
    before = {name: x.clone() for name, x in model.state_dict().items()}
    without = ablate(model, 1, 2)
    for name, x in model.state_dict().items():
        assert torch.equal(x, before[name])
    with torch.no_grad():
        x = torch.randn(2, 11, 21, generator=torch.Generator().manual_seed(1))
        places = torch.arange(11)[None]
        whole, left = (m.layers[1].attention(x, places) for m in (model, without))
        weights = attention_maps(model, tokens)  # the head still looks, but says nothing
        assert torch.equal(attention_maps(without, tokens)[1], weights[1])
        # the heads of a layer add up: each is what goes missing without it
        parts = [whole - ablate(model, 1, head).layers[1].attention(x, places) for head in range(3)]
        torch.testing.assert_close(sum(parts), whole, atol=1e-5, rtol=0)
        assert not torch.allclose(left, whole, atol=1e-2)
        alone = ablate(ablate(model, 1, 0), 1, 1).layers[1].attention(x, places)
        torch.testing.assert_close(alone, parts[2], atol=1e-5, rtol=0)
        # taken out is the head whose values are the last third: with those at 0, the same is left
        model.layers[1].attention.v.weight[14:] = 0
        torch.testing.assert_close(model.layers[1].attention(x, places), left, atol=1e-5, rtol=0)
        one = build(ModelSpec(layers=1, width=21), 19, seed=5)
        x = one.embedding(tokens) * 21**0.5
        torch.testing.assert_close(ablate(one, 0, 0)(tokens), one.norm(x) @ one.embedding.weight.T)


def test_shares_by_hand():
    # two sequences of five tokens, one layer of two heads; a question at place 4 with a gap of 3: its value is at 2
    maps = torch.zeros(2, 2, 5, 5)
    maps[0, 0].diagonal(-1)[:] = torch.tensor([1.0, 0.5, 0.25, 0.25])
    maps[1, 0].diagonal(-1)[:] = 1.0
    maps[0, 1, 4, 2], maps[1, 1, 4, 1], maps[1, 1, 4, 3] = 0.75, 0.25, 0.5
    at, gap = torch.tensor([[4], [4]]), torch.tensor([[3], [4]])
    batch = Batch(torch.zeros(2, 5, dtype=torch.long), at, at, gap)
    assert previous_token_share([maps]).tolist() == [[0.75, 0.0625]]  # 6 of 8; 0.5 of 8
    assert lookup_share([maps], batch).tolist() == [[0.0, 0.5]]
    both = lookup_share([maps, maps.flip(1)], batch)
    assert both.tolist() == [[0.0, 0.5], [0.5, 0.0]]


def test_a_head_that_looks_up_has_a_share_of_one():
    batch = KeyValueRecall(pairs=5, queries=3, keys=11, values=13, filler=7).sample(
        7, 41, torch.Generator().manual_seed(0)
    )
    same = batch.tokens[:, :, None] == batch.tokens[:, None, :-1]  # the place after a token that is mine
    maps = torch.nn.functional.pad(same, (1, 0)).float()
    questions = torch.zeros_like(maps).scatter_(1, batch.at[..., None].expand(-1, -1, 41), 1)
    questions = (maps * questions).tril()
    assert (questions.sum((1, 2)) == 3).all()  # a key stands once before its question
    assert lookup_share([questions[:, None]], batch).item() == 1
    assert lookup_share([maps.flip(1)[:, None]], batch).item() < 1
    found = batch.tokens.gather(1, batch.at - batch.gap + 1)
    assert torch.equal(found, batch.answers)


def test_bad_input_is_named():
    model, tokens = build(ModelSpec(layers=2, width=6, heads=3), 19, seed=0), draw_tokens(1, 7)
    for layer, head, message in (
        (2, 0, "layer is 2; allowed is 0 to 1"),
        (0, -1, "head is -1; allowed is 0 to 2"),
    ):
        with pytest.raises(ValueError, match=message):
            ablate(model, layer, head)
    for mixer in (DeltaRule(), RecurrentMemory(segment=3)):
        other = build(ModelSpec(width=6, mixer=mixer), 19, seed=0)
        with pytest.raises(ValueError, match=r"mixer is .*; allowed is Softmax\(\)"):
            attention_maps(other, tokens)
        with pytest.raises(ValueError, match=r"mixer is .*; allowed is Softmax\(\)"):
            ablate(other, 0, 0)
    with pytest.raises(ValueError, match="maps has 0 layers of 0 tokens; allowed is one layer or more of 2"):
        previous_token_share([])
    at = torch.tensor([[7]])
    with pytest.raises(ValueError, match="maps has 2 layers of 7 tokens; allowed is one layer or more of 8"):
        lookup_share(attention_maps(model, tokens), Batch(tokens, at, at, at))
    model.layers[1].attention.form = Linear()
    with pytest.raises(ValueError, match=r"form of layer 1 is Linear\(chunk=64\); allowed is None"):
        attention_maps(model, tokens)


def test_a_blank_model_looks_at_all_keys_alike_and_tells_nothing():
    """With all parameters 0 a query at place t weighs t + 1 keys alike, and every token has the same probability."""
    task = Opened(KeyValueRecall(pairs=3, queries=3, keys=8, values=8, filler=4, competing=1.0), chance=1 / 8)
    model = build(ModelSpec(width=8), task.vocabulary, seed=0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    kept, removed = first_token_rows(model, task, 31, (3, 7), seed=1, texts=2)
    assert (kept["first token"], removed["first token"]) == (1, 0)
    assert kept["weight"] == pytest.approx(100 * (1 / 5 + 1 / 9) / 2)
    assert removed["weight"] == pytest.approx(100 * (1 / 4 + 1 / 8) / 2)
    for row in (kept, removed):
        assert row["loss"] == pytest.approx(math.log(21))
        assert (row["correct"], row["total"]) == (0, 2 * 3), "the first of equals is a key, never an answer"
