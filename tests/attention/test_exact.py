"""Exact forms: parts merged by hand, against torch's fused attention, gradients by finite differences, memory."""

from __future__ import annotations

import functools
import math

import pytest
import torch
from dense import Largest, assert_same, draw
from torch.nn.functional import scaled_dot_product_attention

from lcbook.attention.exact import chunked_prefill, fused, hide, merge, naive, partial, ring, tiled

FORMS = {
    "naive": naive,
    "fused": fused,
    "tiled": functools.partial(tiled, tile=16),
    "tiles of 1": functools.partial(tiled, tile=1),
    "one tile": tiled,
    "prefill": functools.partial(chunked_prefill, chunk=16),
    "one chunk": chunked_prefill,
    "ring": functools.partial(ring, devices=5),
    "ring of one": functools.partial(ring, devices=1),
    "ring of more than tokens": functools.partial(ring, devices=50),
}


def test_partial_and_merge_by_hand():
    # scores log 2, log 3, log 5 at scale 1: masses 2 and 3 + 5
    q = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    k = torch.tensor([2.0, 3.0, 5.0], dtype=torch.float64).log().view(1, 1, 3, 1)
    v = torch.tensor([10.0, 20.0, 40.0], dtype=torch.float64).view(1, 1, 3, 1)
    first = partial(q, k[:, :, :1], v[:, :, :1], scale=1.0)
    rest = partial(q, k[:, :, 1:], v[:, :, 1:], scale=1.0)
    torch.testing.assert_close([x.item() for x in first], [10.0, math.log(2)])
    torch.testing.assert_close([x.item() for x in rest], [(3 * 20 + 5 * 40) / 8, math.log(8)])
    both = merge([first, rest])
    torch.testing.assert_close([x.item() for x in both], [(2 * 10 + 3 * 20 + 5 * 40) / 10, math.log(10)])
    # the scale is 1/sqrt(d) where none is given
    q, k = torch.full((1, 1, 1, 4), 2.0), torch.ones(1, 1, 1, 4)
    assert partial(q, k, k)[1].item() == pytest.approx(2 * 4 / 2)


def test_merge_is_attention_over_the_union_in_any_order():
    q, k, v = draw((2, 3, 7, 5), (2, 3, 11, 5), (2, 3, 11, 2))
    whole = partial(q, k, v)
    parts = [partial(q, k[:, :, s], v[:, :, s]) for s in (slice(0, 4), slice(4, 5), slice(5, 11))]
    for order in ([0, 1, 2], [2, 0, 1]):
        for ours, theirs in zip(merge([parts[i] for i in order]), whole, strict=True):
            torch.testing.assert_close(ours, theirs)
    nested = merge([merge(parts[:2]), parts[2]])
    assert_same(nested[0], whole[0], [q, k, v])
    assert_same(nested[1], whole[1], [q, k])
    torch.testing.assert_close(merge(parts[:1])[0], parts[0][0])


def test_a_query_that_sees_nothing_has_no_mass_and_no_gradient():
    q, k, v = draw((1, 2, 3, 5), (1, 2, 7, 5), (1, 2, 7, 5))
    mask = torch.ones(3, 7, dtype=torch.bool)
    mask[1] = False
    out, log_mass = partial(q, k, v, mask)
    assert (out[:, :, 1] == 0).all()
    assert (log_mass[:, :, 1] == -torch.inf).all()
    assert torch.isfinite(log_mass[:, :, [0, 2]]).all()
    other = partial(q, k, v)
    merged, mass = merge([(out, log_mass), other])
    torch.testing.assert_close(merged[:, :, 1], other[0][:, :, 1])
    torch.testing.assert_close(mass[:, :, 1], other[1][:, :, 1])
    torch.testing.assert_close(mass[:, :, 0], other[1][:, :, 0] + math.log(2))
    for gradient in torch.autograd.grad(merged.square().sum() + mass.sum(), [q, k, v], retain_graph=True):
        assert torch.isfinite(gradient).all()
    nothing = merge([(out, log_mass), (out, log_mass)])
    assert (nothing[0][:, :, 1] == 0).all()
    assert (nothing[1][:, :, 1] == -torch.inf).all()
    for gradient in torch.autograd.grad(nothing[0].square().sum(), [q, k, v]):
        assert torch.isfinite(gradient).all()
        assert gradient.any()


def test_large_scores_neither_overflow_nor_vanish():
    q, k, v = draw((1, 1, 5, 3), (1, 1, 5, 3), (1, 1, 5, 3), dtype=torch.float32)
    for factor in (1e4, -1e4):
        for form in FORMS.values():
            torch.testing.assert_close(form(q * factor, k, v), fused(q * factor, k, v))


@pytest.mark.parametrize("form", FORMS)
def test_outputs_and_gradients_are_those_of_torch(form):
    for length in (1, 16, 37):
        q, k, v = draw((2, 3, length, 7), (2, 3, length, 7), (2, 3, length, 5))
        theirs = scaled_dot_product_attention(q, k, v, is_causal=True)
        assert_same(FORMS[form](q, k, v), theirs, [q, k, v])


@pytest.mark.parametrize("form", ["tiled", "prefill", "ring"])
def test_gradients_by_finite_differences(form):
    inputs = draw((1, 2, 19, 3), (1, 2, 19, 3), (1, 2, 19, 2))
    assert torch.autograd.gradcheck(FORMS[form], inputs)


@pytest.mark.parametrize("form", FORMS)
def test_the_future_does_not_change_the_past(form):
    q, k, v = (x.detach() for x in draw((1, 2, 37, 5), (1, 2, 37, 5), (1, 2, 37, 5)))
    before = FORMS[form](q, k, v)
    for x in (q, k, v):
        x[:, :, 23:] = 1e3
    torch.testing.assert_close(FORMS[form](q, k, v)[:, :, :23], before[:, :, :23], atol=1e-12, rtol=0)


def largest(function, length):
    q, k, v = draw((1, 1, length, 4), (1, 1, length, 4), (1, 1, length, 4), dtype=torch.float32)
    with Largest() as record:
        function(q, k, v).sum().backward()
    return record.entries


def test_memory_of_tiles_is_linear_forward_and_backward():
    assert largest(naive, 512) >= 512**2  # so the record does see a matrix of all scores
    form = functools.partial(tiled, tile=64)
    assert largest(form, 512) <= 64 * 64
    assert largest(form, 1024) <= 64 * 64
    assert largest(functools.partial(chunked_prefill, chunk=64), 512) == 64 * 448


def test_tiles_save_the_outputs_and_log_masses_alone():
    q, k, v = draw((1, 1, 128, 4), (1, 1, 128, 4), (1, 1, 128, 4))
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: saved.append(x.shape) or x, lambda x: x):
        tiled(q, k, v, tile=16)
    assert sorted(saved) == sorted([torch.Size([1, 1, 128, 4])] * 4 + [torch.Size([1, 1, 128])])


def test_inputs_are_left_as_they_were():
    inputs = [x.detach() for x in draw((1, 2, 19, 3), (1, 2, 19, 3), (1, 2, 19, 3))]
    before = [x.clone() for x in inputs]
    for form in FORMS.values():
        form(*inputs)
    part = partial(*inputs)
    kept = [x.clone() for x in part]
    merge([part, part])
    assert all(torch.equal(x, y) for x, y in zip([*inputs, *part], [*before, *kept], strict=True))


def test_hide_by_hand():
    assert hide(torch.tensor([True, False]), torch.zeros(1)).tolist() == [0.0, -math.inf]


@pytest.mark.parametrize("form", [naive, fused, tiled, chunked_prefill, ring])
def test_lengths_must_agree(form):
    q, k, v = draw((1, 1, 5, 3), (1, 1, 7, 3), (1, 1, 7, 3))
    with pytest.raises(ValueError, match="k has 7 tokens and q has 5; allowed is the same number"):
        form(q, k, v)
    with pytest.raises(ValueError, match="length is 0; allowed is 1 or more"):
        form(*(x[:, :, :0] for x in (q, q, q)))


@pytest.mark.parametrize(("form", "name"), [(tiled, "tile"), (chunked_prefill, "chunk"), (ring, "devices")])
def test_bad_sizes_are_named(form, name):
    q, k, v = draw((1, 1, 5, 3), (1, 1, 5, 3), (1, 1, 5, 3))
    with pytest.raises(ValueError, match=f"{name} is 0; allowed is 1 or more"):
        form(q, k, v, **{name: 0})
    with pytest.raises(ValueError, match="parts is empty"):
        merge([])
