"""Patterns in a model: which keys its queries see, what is recalled of those, and other forms of computing it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from lcbook.attention.backends import ChunkedPrefill, Fused, Linear, Naive, Ring, Tiled
from lcbook.attention.patterns import (
    BigBird,
    Chunked,
    Full,
    Strided,
    TopBlocks,
    TopK,
    Window,
    pattern_mask,
    reach,
    visible,
)
from lcbook.experiments.changes import ComputeBy, Restrict
from lcbook.experiments.measures import Agreement, Gap, Probe, Recall
from lcbook.experiments.run import measure, run
from lcbook.experiments.spec import Run, Spec
from lcbook.experiments.train import TrainSpec
from lcbook.models.decoder import ModelSpec, build
from lcbook.models.positions import ALiBi, RoPE
from lcbook.tasks.recall import KeyValueRecall
from tests.asking import after, recall_rows

STATIC = [Window(5), Window(3, 3), Window(4, 1, (0, 6)), Strided(3, 7), Chunked(5), BigBird(3, 2, 1, 1)]
CONTENT = [TopK(4), TopK(4, 3), TopBlocks(3, 2)]
TASK = KeyValueRecall(pairs=3, queries=2, keys=5, values=3, filler=7)
SPEC = ModelSpec(layers=2, width=12, heads=3)


def draw_tokens(batch, length, vocabulary=19, seed=0):
    return torch.randint(vocabulary, (batch, length), generator=torch.Generator().manual_seed(seed))


def sees(model, length, q, k):
    """Whether the logits at place q change with the token at place k."""
    tokens = draw_tokens(1, length)
    other = tokens.clone()
    other[0, k] = (tokens[0, k] + 1) % 19
    return not torch.equal(model(tokens)[0, q], model(other)[0, q])


@pytest.mark.parametrize("pattern", STATIC, ids=str)
def test_a_place_is_told_what_the_reach_says_and_no_more(pattern):
    length = 17
    model = build(replace(SPEC, key_shift=False, pattern=pattern), 19, 0).double()
    graph = reach(pattern_mask(pattern, length), 2)
    tokens = draw_tokens(1, length)
    before = model(tokens)[0]
    for k in range(length):
        other = tokens.clone()
        other[0, k] = (tokens[0, k] + 1) % 19
        changed = (model(other)[0] != before).any(-1)
        assert torch.equal(changed, graph[:, k]), f"token {k}"


def test_full_layers_see_everything_in_spite_of_the_pattern():
    spec = replace(SPEC, key_shift=False, pattern=Window(2))
    assert not sees(build(spec, 19, 0), 17, 16, 3)
    for layer in (0, 1):
        hybrid = replace(spec, full_layers=(layer,))
        assert hybrid.pattern_of(layer) == Full()
        assert hybrid.pattern_of(1 - layer) == Window(2)
        assert sees(build(hybrid, 19, 0), 17, 16, 3)


@pytest.mark.parametrize("wrong", [(2,), (-1,), (0, 5)])
def test_full_layers_outside_the_model_are_named(wrong):
    with pytest.raises(ValueError, match=r"full_layers is .*; allowed are numbers from 0 to 1\."):
        ModelSpec(layers=2, full_layers=wrong)


def test_globals_outside_the_text_are_named():
    model = build(ModelSpec(width=12, pattern=Window(4, globals_at=(11,))), 19, 0)
    with pytest.raises(ValueError, match=r"globals_at is \(11,\); allowed are places from 0 to 10\."):
        model(draw_tokens(1, 11))
    assert model(draw_tokens(1, 12)).shape == (1, 12, 19)


@pytest.mark.parametrize("pattern", STATIC + CONTENT, ids=str)
def test_asking_at_places_gathers_the_whole(pattern):
    model = build(replace(SPEC, pattern=pattern, kv_heads=1), 19, 0).double()
    tokens, at = draw_tokens(2, 17), torch.tensor([[3, 16, 0], [9, 1, 12]])
    whole = model(tokens).gather(1, at[..., None].expand(-1, -1, 19))
    torch.testing.assert_close(model(tokens, at=at), whole)


@pytest.mark.parametrize("pattern", STATIC + CONTENT, ids=str)
def test_seen_are_the_keys_that_count(pattern):
    """A key that is not seen by the only layer leaves the logits as they are, one that is seen moves them."""
    model = build(ModelSpec(width=12, key_shift=False, pattern=pattern), 19, 0).double()
    tokens, at = draw_tokens(1, 17), torch.tensor([[16, 8]])
    seen = model.seen(tokens, None, at)[0, 0]
    if pattern in STATIC:
        assert torch.equal(seen, visible(pattern, at[0, :, None], torch.arange(17)))
    value = model.layers[0].attention.v
    rows = []
    for k in range(17):  # move one value and nothing else
        handle = value.register_forward_hook(lambda _m, _x, y, k=k: y + torch.eye(17)[k][:, None].double())
        rows.append(model(tokens, at=at)[0])
        handle.remove()
    plain = model(tokens, at=at)[0]
    moved = torch.stack([(row - plain).abs().amax(-1) > 1e-9 for row in rows], dim=1)
    assert torch.equal(moved, seen)


# Measuring


def test_gaps_in_bins_of_so_many_tokens():
    model = build(ModelSpec(width=12), TASK.vocabulary, 0)
    octaves = recall_rows(model, TASK, 32, 60, seed=1)
    bins = recall_rows(model, TASK, 32, 60, seed=1, by=Gap(6))
    assert [row["gap"] for row in bins] == sorted(row["gap"] for row in bins)
    assert all(row["gap"] % 6 == 0 for row in bins)
    for name in ("correct", "total"):
        assert sum(row[name] for row in bins) == sum(row[name] for row in octaves)
    # 6 to 7 and 8 to 11 lie in the bin of 6, and gaps are even here: 6, 8 and 10
    fine = {row["gap"]: row["total"] for row in recall_rows(model, TASK, 32, 60, seed=1, by=Gap(2))}
    assert next(row["total"] for row in bins if row["gap"] == 6) == fine[6] + fine[8] + fine[10]


def test_selected_counts_the_needles_that_are_seen():
    model = build(ModelSpec(width=12, pattern=Window(8)), TASK.vocabulary, 0)
    rows = recall_rows(model, TASK, 32, 200, seed=1, by=Gap(2))
    # the value stands one token after the key: at a gap of 8 a window of 8 sees it, and no longer the key
    assert all(row["selected"] == (row["total"] if row["gap"] - 1 < 8 else 0) for row in rows)
    assert all(0 <= row["correct_selected"] <= min(row["correct"], row["selected"]) for row in rows)
    full = recall_rows(build(ModelSpec(width=12), 15, 0), TASK, 32, 4, seed=1)
    assert {"selected", "correct_selected"}.isdisjoint(full[0])
    everything = recall_rows(after(model, Restrict(TopK(32))), TASK, 32, 200, seed=1)
    assert all(
        row["selected"] == row["total"] and row["correct_selected"] == row["correct"] for row in everything
    )


def test_another_pattern_on_the_same_weights():
    model = build(replace(SPEC, full_layers=(1,)), 19, 0)
    changed = after(model, Restrict(Window(3)))
    assert changed.spec.pattern == Window(3)
    assert changed.spec.full_layers == ()
    assert model.spec.full_layers == (1,)
    tokens = draw_tokens(2, 17)
    fresh = build(replace(SPEC, pattern=Window(3)), 19, 0)  # the pattern has no weights of its own
    torch.testing.assert_close(changed(tokens), fresh(tokens), rtol=0, atol=0)
    assert not torch.equal(changed(tokens), model(tokens))


@pytest.mark.parametrize("form", [Naive(), Fused(), Tiled(4), ChunkedPrefill(5), Ring(3)], ids=str)
@pytest.mark.parametrize("position", [ModelSpec().position, RoPE()], ids=str)
def test_exact_forms_give_the_same_logits(form, position):
    model = build(replace(SPEC, position=position, kv_heads=1), 19, 0).double()
    tokens, at = draw_tokens(2, 23), torch.tensor([[3, 22], [9, 0]])
    other = after(model, ComputeBy(form))
    torch.testing.assert_close(other(tokens), model(tokens), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(other(tokens, at=at), model(tokens, at=at), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("pattern", STATIC, ids=str)
def test_a_pattern_computed_sparsely_gives_the_logits_of_its_mask(pattern):
    model = build(SPEC, 19, 0).double()
    tokens = draw_tokens(2, 23)
    masked = after(model, Restrict(pattern))(tokens)
    torch.testing.assert_close(after(model, ComputeBy(pattern))(tokens), masked, rtol=1e-9, atol=1e-12)


def test_a_form_that_is_not_exact_is_told_apart():
    model = build(SPEC, TASK.vocabulary, 0)
    exact, other = (
        recall_rows(after(model, ComputeBy(form)), TASK, 32, 8, seed=0, measure=Agreement, before=model)[0][
            "logit_difference"
        ]
        for form in (Tiled(8), Linear())
    )
    assert exact < 1e-4 < other


@pytest.mark.parametrize(
    "changes", [{"position": ALiBi()}, {"normalizer": "log-n softmax"}, {"pattern": Window(3)}], ids=str
)
def test_forms_refuse_what_they_do_not_compute(changes):
    with pytest.raises(ValueError, match=r"form is Fused.*allowed is a model of full softmax attention"):
        after(build(replace(SPEC, **changes), 19, 0), ComputeBy(Fused()))


def test_counts_add_up_over_the_gaps_of_a_run(tmp_path, monkeypatch):
    monkeypatch.setenv("LCBOOK_CACHE", str(tmp_path))
    one = Run("arm", Spec(ModelSpec(width=12), TASK, TrainSpec(length=32, updates=2, batch=4)), 0)
    asked = Agreement((32,), 40)
    apart, pooled = (
        run([one], name="x", probes=[Probe(measure, (ComputeBy(Linear()),))])
        for measure in (replace(asked, by=Gap()), asked)
    )
    assert len(pooled) == 1 < len(apart)
    for name in ("correct", "total", "changed"):
        assert pooled[name].item() == apart[name].sum()
    assert pooled["changed"].item() > 0


def test_probes_reach_the_rows(tmp_path, monkeypatch):
    monkeypatch.setenv("LCBOOK_CACHE", str(tmp_path))
    run = Run("arm", Spec(ModelSpec(width=12), TASK, TrainSpec(length=32, updates=2, batch=4)), 0)
    probes = [
        Probe(Recall((32,), 8), label="plain"),
        Probe(Recall((32,), 8), (Restrict(Window(2)),), "window"),
        Probe(Agreement((32,), 8, by=Gap(2)), (ComputeBy(Tiled(8)),), "tiled"),
    ]
    rows = measure(run, probes)
    by = {name: [row for row in rows if row["probe"] == name] for name in ("plain", "window", "tiled")}
    assert "selected" in by["window"][0]
    assert "selected" not in by["plain"][0]
    assert by["tiled"][0]["logit_difference"] < 1e-4
    assert rows[0]["model.pattern"] == "full"
    assert sum(r["correct"] for r in by["plain"]) == sum(r["correct"] for r in by["tiled"])
