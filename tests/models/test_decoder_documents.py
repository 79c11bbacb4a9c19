"""Documents: with a separator nothing looks across their boundary, and each is read as it is by itself."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from lcbook.attention.backends import Tiled
from lcbook.attention.patterns import TopK, Window
from lcbook.experiments.changes import ComputeBy, Reposition, Restrict
from lcbook.experiments.heads import attention_maps
from lcbook.models import layers as layers_module
from lcbook.models.decoder import ModelSpec, build
from lcbook.models.mixers import DeltaRule, LinearAttention, RecurrentMemory, SegmentRecurrence
from lcbook.models.positions import ALiBi, Learned, NoPosition, RoPE, Sinusoidal, T5Bias
from tests.asking import after

SPEC = ModelSpec(layers=2, width=24, heads=6, kv_heads=3, mlp=7, separator=0)
POSITIONS = [NoPosition(), RoPE(), ALiBi(), T5Bias(buckets=7, max_distance=11), Sinusoidal(), Learned(23)]
TOKENS = torch.tensor([[5, 1, 0, 2, 9, 4, 7, 0, 3, 0, 6], [0, 8, 8, 1, 2, 3, 0, 0, 5, 4, 9]])
SPANS = [
    [(0, 2), (2, 7), (7, 9), (9, 11)],
    [(0, 6), (6, 7), (7, 11)],
]  # where documents start and end, by hand


def model_of(spec=SPEC, **changes):
    """Return a model in double precision whose parameters have left their symmetric start."""
    model, generator = build(replace(spec, **changes), 11, 0).double(), torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
    return model


@pytest.mark.parametrize("key_shift", [True, False])
@pytest.mark.parametrize("blocks", [2**24, 40])
def test_documents_are_read_as_if_apart(monkeypatch, key_shift, blocks):
    monkeypatch.setattr(layers_module, "SCORES_AT_ONCE", blocks)
    model, apart = model_of(key_shift=key_shift), model_of(key_shift=key_shift, separator=None)
    together = model(TOKENS)
    for row, spans in enumerate(SPANS):
        for start, end in spans:
            alone = apart(TOKENS[row : row + 1, start:end])
            torch.testing.assert_close(together[row, start:end], alone[0])
    assert (together - apart(TOKENS)).abs().amax(-1)[0, 2:].min() > 1e-3, "apart is not together"


@pytest.mark.parametrize("position", [RoPE(), ALiBi(), T5Bias(buckets=7, max_distance=11)], ids=str)
def test_where_differences_of_positions_alone_count_it_is_the_same(position):
    together = model_of(position=position)(TOKENS)
    apart = model_of(position=position, separator=None)
    for start, end in SPANS[0]:
        torch.testing.assert_close(together[0, start:end], apart(TOKENS[:1, start:end])[0])


@pytest.mark.parametrize("position", POSITIONS, ids=str)
def test_positions_run_on(position):
    """A document's logits are those of the document alone at the positions that it has in the sequence."""
    together = model_of(position=position)(TOKENS)
    apart = model_of(position=position, separator=None)
    for start, end in SPANS[1]:
        alone = apart(TOKENS[1:, start:end], torch.arange(start, end)[None])
        torch.testing.assert_close(together[1, start:end], alone[0])


@pytest.mark.parametrize("position", POSITIONS, ids=str)
def test_edits_elsewhere_and_later_change_nothing(position):
    model = model_of(position=position)
    before = model(TOKENS)[0]
    for place in (0, 1, 3, 5, 6, 8, 10):  # no separators: an edit moves no boundary
        other = TOKENS.clone()
        other[0, place] = 10
        changed = (model(other)[0] != before).any(-1)
        start, end = next(span for span in SPANS[0] if span[0] <= place < span[1])
        assert not changed[:place].any(), "the past"
        assert not changed[end:].any(), "documents that follow"
        assert changed[place:end].all(), f"its own document, from {start}"


def test_asking_at_places_gathers_the_whole():
    model, at = model_of(position=RoPE()), torch.tensor([[6, 0, 10], [7, 5, 6]])
    whole = model(TOKENS).gather(1, at[..., None].expand(-1, -1, 11))
    torch.testing.assert_close(model(TOKENS, at=at), whole)


def test_weights_and_seen_keys_stop_at_the_boundary():
    model = model_of(pattern=SPEC.pattern)
    number = torch.tensor([[0, 0, 1, 1, 1, 1, 1, 2, 2, 3, 3], [1, 1, 1, 1, 1, 1, 2, 3, 3, 3, 3]])
    own = (number[:, :, None] == number[:, None]) & torch.ones(11, 11).tril().bool()
    for weights in attention_maps(model, TOKENS):
        assert torch.equal(weights > 0, own[:, None].expand(-1, 6, -1, -1))
    at = torch.arange(11).expand(2, -1)
    assert torch.equal(model.seen(TOKENS, None, at)[:, 0], own)


def test_without_separators_in_the_text_nothing_changes():
    tokens = TOKENS.clamp(min=1)
    assert torch.equal(model_of()(tokens), model_of(separator=None)(tokens))


def test_a_copy_keeps_its_documents():
    model = after(model_of(position=RoPE()), Reposition(ALiBi()))
    torch.testing.assert_close(model(TOKENS), model_of(position=ALiBi())(TOKENS))


@pytest.mark.parametrize("pattern", [Window(5), TopK(3)], ids=str)
def test_another_pattern_is_named(pattern):
    with pytest.raises(
        ValueError, match=r"separator is 0 with .*; allowed is a token from 0 on with Full\(\)"
    ):
        ModelSpec(separator=0, pattern=pattern)
    with pytest.raises(ValueError, match="separator is 0 with"):
        after(model_of(), Restrict(pattern))


@pytest.mark.parametrize(
    "mixer",
    [DeltaRule(), LinearAttention(), SegmentRecurrence(segment=4), RecurrentMemory(segment=4)],
    ids=str,
)
def test_another_mixer_is_named(mixer):
    with pytest.raises(ValueError, match=r"separator is 3 with .*; allowed is None"):
        ModelSpec(separator=3, mixer=mixer)


def test_a_separator_outside_the_vocabulary_is_named():
    with pytest.raises(ValueError, match=r"separator is 11; allowed is a token below 11\."):
        build(replace(SPEC, separator=11), 11, 0)
    with pytest.raises(ValueError, match="separator is -1 with Full"):
        ModelSpec(separator=-1)


def test_a_form_that_knows_no_documents_is_named():
    model = after(build(ModelSpec(width=12, separator=0), 11, 0), ComputeBy(Tiled(4)))
    with pytest.raises(ValueError, match=r"form is .* for a model with a separator; allowed is None"):
        model(TOKENS)
