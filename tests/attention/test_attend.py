"""Attention: worked by hand, against torch's fused attention, and what a mask must guarantee."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from lcbook.attention.attend import attend


def draw(*shapes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]


def causal(t, s=None):
    s = s or t
    return torch.ones(t, s, dtype=torch.bool).tril(s - t)


def test_worked_by_hand():
    # one query (1, 0) in two dimensions; its scores are 0 and sqrt(2) log 3 / sqrt(2) = log 3, so weights 1/4 and 3/4
    q = torch.tensor([1.0, 0.0]).view(1, 1, 1, 2)
    k = torch.tensor([[0.0, 5.0], [math.sqrt(2) * math.log(3), 7.0]]).view(1, 1, 2, 2)
    v = torch.tensor([[4.0, 0.0], [8.0, 12.0]]).view(1, 1, 2, 2)
    out, weights = attend(q, k, v)
    torch.testing.assert_close(weights.flatten(), torch.tensor([0.25, 0.75]))
    torch.testing.assert_close(out.flatten(), torch.tensor([7.0, 9.0]))
    # the bias log 3 on the first key makes the scores equal; a scale of 0 leaves the bias alone
    bias = torch.tensor([math.log(3), 0.0]).view(1, 1, 1, 2)
    torch.testing.assert_close(attend(q, k, v, bias=bias)[1].flatten(), torch.tensor([0.5, 0.5]))
    torch.testing.assert_close(attend(q, k, v, bias=bias, scale=0.0)[1].flatten(), torch.tensor([0.75, 0.25]))
    # a hidden key has no weight, whatever its score
    mask = torch.tensor([True, False]).view(1, 1, 1, 2)
    torch.testing.assert_close(attend(q, k, v, mask=mask)[0].flatten(), torch.tensor([4.0, 0.0]))


@pytest.mark.parametrize(("heads", "groups"), [(5, 5), (6, 3), (6, 2), (7, 1)])
@pytest.mark.parametrize("case", ["bare", "causal", "bias", "scale", "all"])
def test_outputs_and_gradients_are_those_of_torch(heads, groups, case):
    q, k, v, bias = draw((2, heads, 7, 3), (2, groups, 11, 3), (2, groups, 11, 3), (1, heads, 7, 11))
    mask = causal(7, 11) if case in ("causal", "all") else None
    bias = bias if case in ("bias", "all") else None
    scale = 0.7 if case in ("scale", "all") else None
    extra = None
    if mask is not None or bias is not None:
        extra = torch.zeros(1, heads, 7, 11, dtype=torch.float64)
        extra = extra + (bias if bias is not None else 0)
        extra = extra if mask is None else extra.masked_fill(~mask, -torch.inf)
    inputs = [x.requires_grad_() for x in (q, k, v)]
    ours, weights = attend(q, k, v, mask=mask, bias=bias, scale=scale)
    theirs = scaled_dot_product_attention(q, k, v, attn_mask=extra, scale=scale, enable_gqa=True)
    torch.testing.assert_close(ours, theirs)
    assert weights.shape == (2, heads, 7, 11)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, heads, 7, dtype=torch.float64))
    upstream = draw(ours.shape, seed=1)[0]
    for mine, its in zip(
        torch.autograd.grad(ours, inputs, upstream),
        torch.autograd.grad(theirs, inputs, upstream),
        strict=True,
    ):
        torch.testing.assert_close(mine, its)


def test_gradient_of_bias_and_scale_by_finite_differences():
    q, k, v, bias = draw((1, 2, 3, 5), (1, 2, 7, 5), (1, 2, 7, 5), (1, 2, 1, 7))
    scale = torch.tensor([0.5, 1.5], dtype=torch.float64).view(2, 1, 1)

    def outputs(bias, scale):
        return attend(q, k, v, bias=bias, scale=scale, mask=causal(3, 7))[0]

    assert torch.autograd.gradcheck(outputs, (bias.requires_grad_(), scale.requires_grad_()))


def test_grouped_heads_are_repeated_heads():
    q, k, v = draw((2, 6, 5, 3), (2, 3, 7, 3), (2, 3, 7, 3))
    grouped = attend(q, k, v, mask=causal(5, 7))[0]
    for head in range(6):
        alone = attend(
            q[:, head : head + 1],
            k[:, head // 2 : head // 2 + 1],
            v[:, head // 2 : head // 2 + 1],
            mask=causal(5, 7),
        )[0]
        torch.testing.assert_close(grouped[:, head : head + 1], alone)


@pytest.mark.parametrize("normalizer", ["softmax", "log-n softmax"])
def test_a_query_depends_on_its_past_alone(normalizer):
    q, k, v = draw((2, 3, 11, 5), (2, 3, 11, 5), (2, 3, 11, 5))
    inputs = [x.requires_grad_() for x in (k, v)]
    out, weights = attend(q, k, v, mask=causal(11), normalizer=normalizer)
    for t in range(11):
        for gradient in torch.autograd.grad(out[:, :, t].square().sum(), inputs, retain_graph=True):
            assert (gradient[:, :, t + 1 :] == 0).all()
            assert (gradient[:, :, t] != 0).any() or t == 0
    assert (weights.detach().triu(1) == 0).all()
    changed = [x.detach().clone() for x in inputs]
    for x in changed:
        x[:, :, 7:] = 1e3
    again = attend(q, *changed, mask=causal(11), normalizer=normalizer)[0]
    assert torch.equal(out[:, :, :7], again[:, :, :7])


def test_inputs_are_left_as_they_were():
    q, k, v, bias = draw((1, 2, 3, 5), (1, 2, 7, 5), (1, 2, 7, 5), (1, 2, 3, 7))
    mask = causal(3, 7)
    before = [x.clone() for x in (q, k, v, bias, mask)]
    attend(q, k, v, bias=bias, mask=mask)
    assert all(torch.equal(x, y) for x, y in zip(before, (q, k, v, bias, mask), strict=True))


def test_bad_input_is_named():
    q, k, v = draw((1, 6, 3, 5), (1, 4, 3, 5), (1, 4, 3, 5))
    with pytest.raises(ValueError, match="q has 6 heads and k has 4; allowed is a multiple"):
        attend(q, k, v)
    mask = causal(3).clone()
    mask[..., 1, :] = False
    with pytest.raises(ValueError, match="mask leaves a query without a visible key"):
        attend(q[:, :4], k, v, mask=mask)
    with pytest.raises(ValueError, match="normalizer is 'hardmax'"):
        attend(q[:, :4], k, v, normalizer="hardmax")
