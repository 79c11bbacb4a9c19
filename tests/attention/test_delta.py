"""Writing rules: by hand, in chunks as step by step, and against flash-linear-attention."""

from __future__ import annotations

import importlib.util
import inspect
from pathlib import Path

import pytest
import torch
from dense import Largest, assert_same, draw

from lcbook.attention.delta import (
    additive,
    additive_step,
    delta_rule,
    delta_step,
)

RULES = {
    "additive": (additive, additive_step, 4),
    "delta": (delta_rule, delta_step, 4),
    "gated delta": (delta_rule, delta_step, 5),
}
every_rule = pytest.mark.parametrize("rule", RULES)


def theirs(operation):
    """Return flash-linear-attention's plain PyTorch versions; importing the whole package would need Triton."""
    folder = Path(importlib.util.find_spec("fla").submodule_search_locations[0])
    spec = importlib.util.spec_from_file_location(f"fla_{operation}", folder / "ops" / operation / "naive.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def inputs(length, count=5, *, lowest=0.1):
    """Return q, keys of unit length, v, beta from 0 to 2 and decays from `lowest` to 1: the first `count` of them."""
    q, k, v, beta, decay = draw(*[(2, 3, length, 7)] * 2, (2, 3, length, 5), *[(2, 3, length)] * 2)
    k = torch.nn.functional.normalize(k.detach(), dim=-1)
    beta, decay = 2 * torch.sigmoid(beta.detach()), lowest + (1 - lowest) * torch.sigmoid(decay.detach())
    return [x.detach().requires_grad_() for x in (q, k, v, beta, decay)][:count]


def by_steps(step, arguments, state=None):
    outs = []
    for t in range(arguments[0].shape[2]):
        out, state = step(state, *(x[:, :, t] for x in arguments))
        outs.append(out)
    return torch.stack(outs, 2), state


def column(*rows):
    """Return rows of numbers as one sequence of one head, [1 1 t x]."""
    return torch.tensor(rows, dtype=torch.float64)[None, None]


def test_two_by_two_by_hand():
    q, k, v = column([1, 0], [1, 1]), column([1, 0], [1, 0]), column([2, 4], [6, 0])
    beta = column(1.0, 0.5)
    # the first token writes (2, 4) into the row of key (1, 0); the second half of what is given, or of what is new
    for rule, row in (("additive", [5.0, 4.0]), ("delta", [4.0, 2.0])):
        whole, step, _ = RULES[rule]
        for out, state in (whole(q, k, v, beta), by_steps(step, (q, k, v, beta))):
            assert out[0, 0].tolist() == [[2.0, 4.0], row]
            assert state[0, 0].tolist() == [row, [0.0, 0.0]]
    # a decay of 1/2 leaves (1, 2); what is new is then (5, -2), of which half is written
    arguments = (q, k, v, beta, column(1.0, 0.5))
    for out, state in (delta_rule(*arguments), by_steps(delta_step, arguments)):
        torch.testing.assert_close(out[0, 0], column([2, 4], [3.5, 1])[0, 0])
        torch.testing.assert_close(state[0, 0], column([3.5, 1], [0, 0])[0, 0])


def test_a_key_written_twice_is_summed_or_overwritten():
    _, k, v, _ = inputs(3, 4)
    k = k[:, :, :1].expand(-1, -1, 3, -1)
    ones = torch.ones(2, 3, 3, dtype=torch.float64)
    torch.testing.assert_close(additive(k, k, v, ones)[0], v.cumsum(2))
    torch.testing.assert_close(delta_rule(k, k, v, ones)[0], v)
    torch.testing.assert_close(delta_rule(k, k, v, 0 * ones)[0], 0 * v)


@every_rule
@pytest.mark.parametrize("length", [1, 11, 37])
@pytest.mark.parametrize("chunk", [1, 7, 16, 500])
def test_chunks_and_steps_agree(rule, length, chunk):
    whole, step, count = RULES[rule]
    arguments = inputs(length, count)
    (state,) = draw((2, 3, 7, 5), seed=2)
    for first in (None, state):
        given = arguments if first is None else [*arguments, first]
        ours = whole(*arguments, state=first, chunk=chunk)
        its = by_steps(step, arguments, first)
        assert_same(ours[0], its[0], given, atol=1e-10, rtol=0)
        assert_same(ours[1], its[1], given[1:], atol=1e-10, rtol=0)  # the state has met no query


@every_rule
@pytest.mark.parametrize("chunk", [5, 16])
def test_a_text_in_two_parts_is_the_text(rule, chunk):
    whole, _, count = RULES[rule]
    arguments = inputs(37, count)
    out, state = whole(*arguments, chunk=chunk)
    first, between = whole(*(x[:, :, :17] for x in arguments), chunk=chunk)
    second, last = whole(*(x[:, :, 17:] for x in arguments), state=between, chunk=chunk)
    assert_same(torch.cat([first, second], 2), out, arguments, atol=1e-10, rtol=0)
    torch.testing.assert_close(last, state, atol=1e-10, rtol=0)


def test_numbers_are_those_of_flash_linear_attention():
    # theirs divide q by the root of its width where no scale is taken, and compute in float32
    q, k, v, beta, decay = (x.detach() for x in inputs(64))
    near = {"atol": 1e-4, "rtol": 1e-4}
    out, state = delta_rule(q, k, v, beta)
    their_out, their_state = theirs("delta_rule").delta_rule_recurrence(q * 7**0.5, k, v, beta)
    torch.testing.assert_close(out, their_out, **near)
    torch.testing.assert_close(state, their_state.double(), **near)

    turned = [x.transpose(1, 2) for x in (q, k, v, beta, decay.log())]
    fla = theirs("gated_delta_rule")
    recurrent = fla.naive_recurrent_gated_delta_rule(*turned, scale=1.0, output_final_state=True)
    in_chunks = fla.naive_chunk_gated_delta_rule(
        *turned[:3], turned[4], turned[3], chunk_size=16, scale=1.0, output_final_state=True
    )
    out, state = delta_rule(q, k, v, beta, decay)
    for their_out, their_state in (recurrent, in_chunks):
        torch.testing.assert_close(out, their_out.transpose(1, 2).double(), **near)
        torch.testing.assert_close(state, their_state.double(), **near)

    out, state = additive(q, k, v, beta)
    q, k, v = (x.transpose(1, 2) for x in (q, k, v * beta[..., None]))
    fla = theirs("linear_attn")
    their_out, their_state = fla.naive_recurrent_linear_attn(q, k, v, scale=1.0, output_final_state=True)
    torch.testing.assert_close(out, their_out.transpose(1, 2), **near)
    torch.testing.assert_close(state, their_state.double(), **near)
    in_chunks = fla.naive_chunk_linear_attn(q, k, v, scale=1.0)  # in float64
    torch.testing.assert_close(out, in_chunks.transpose(1, 2), atol=1e-10, rtol=0)


def test_where_the_rules_meet():
    q, k, v, beta = inputs(23, 4)
    for ours, its in zip(
        delta_rule(q, k, v, beta, torch.ones_like(beta)), delta_rule(q, k, v, beta), strict=True
    ):
        assert_same(ours, its, [k, v, beta], atol=1e-10, rtol=0)
    # keys at right angles hold nothing of one another's: there is nothing to take off
    q, v = (x[:, :, :7] for x in (q, v))
    k = torch.linalg.qr(k[:, :, :7])[0]
    beta = beta[:, :, :7]
    for ours, its in zip(delta_rule(q, k, v, beta, chunk=5), additive(q, k, v, beta), strict=True):
        torch.testing.assert_close(ours, its, atol=1e-10, rtol=0)
    torch.testing.assert_close(delta_rule(k, k, v, torch.ones_like(beta), chunk=5)[0], v, atol=1e-10, rtol=0)
    held = delta_rule(q, k, v, torch.ones_like(beta))[1]
    torch.testing.assert_close(k @ held, v, atol=1e-10, rtol=0)  # d pairs at right angles: all come back


@pytest.mark.parametrize("chunk", [16, 300])
def test_a_text_almost_all_forgotten_stays_finite(chunk):
    arguments = [x.detach().float().requires_grad_() for x in inputs(300, 4)]
    decay = torch.full((2, 3, 300), 1e-6, requires_grad=True)
    out, state = delta_rule(*arguments, decay, chunk=chunk)
    its = by_steps(delta_step, [*arguments, decay])
    torch.testing.assert_close(out, its[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(state, its[1], atol=1e-5, rtol=1e-5)
    for gradient in torch.autograd.grad(out.sum() + state.sum(), [*arguments, decay]):
        assert gradient.isfinite().all()


def test_the_same_key_again_and_again_stays_exact():
    # the worst case for powers of the matrix of products, whose entries would exceed 1e30 at 128 tokens
    _, k, v, _ = (x.detach().float() for x in inputs(128, 4))
    k = k[:, :, :1].expand(-1, -1, 128, -1)
    ones = torch.ones(2, 3, 128)
    torch.testing.assert_close(delta_rule(k, k, v, ones, chunk=128)[0], v, atol=1e-5, rtol=0)


@every_rule
def test_the_future_does_not_change_the_past(rule):
    whole, _, count = RULES[rule]
    arguments = [x.detach() for x in inputs(37, count)]
    before = whole(*arguments, chunk=8)[0]
    for x in arguments[:4]:
        x[:, :, 21:] = 3.0
    torch.testing.assert_close(
        whole(*arguments, chunk=8)[0][:, :, :21], before[:, :, :21], atol=1e-12, rtol=0
    )


@every_rule
def test_a_state_that_was_handed_in_is_not_overwritten(rule):
    whole, step, count = RULES[rule]
    arguments = [x.detach() for x in inputs(19, count)]
    (state,) = draw((2, 3, 7, 5))
    state = state.detach()
    before = state.clone()
    whole(*arguments, state=state)
    step(state, *(x[:, :, 0] for x in arguments))
    assert torch.equal(state, before)


@every_rule
def test_memory_is_linear(rule):
    whole, _, count = RULES[rule]
    sizes = []
    for length in (256, 512, 1024):
        with Largest() as record:
            sum(x.sum() for x in whole(*inputs(length, count), chunk=16)).backward()
        sizes.append(record.entries)
    assert sizes[2] == 2 * sizes[1] == 4 * sizes[0]


def test_bad_input_is_named():
    q, k, v, beta, decay = inputs(11)
    # without the shape checks that the tests put around every function
    rules = {name: inspect.unwrap(rule) for name, (rule, _, _) in RULES.items()}
    with pytest.raises(ValueError, match="k has 10 tokens and q has 11; allowed is the same number"):
        rules["additive"](q, k[:, :, 1:], v, beta)
    for rule, (_, _, count) in RULES.items():
        rest = [decay] if count == 5 else []
        with pytest.raises(ValueError, match="chunk is 0; allowed is 1 or more"):
            rules[rule](q, k, v, beta, *rest, chunk=0)
        with pytest.raises(ValueError, match=r"k has shape \(2, 3, 11, 6\); allowed is \(2, 3, 11, 7\)"):
            rules[rule](q, k[..., 1:], v, beta, *rest)
        with pytest.raises(ValueError, match=r"v has shape \(2, 1, 11, 5\); allowed is \(2, 3, 11, 5\)"):
            rules[rule](q, k, v[:, :1], beta, *rest)
        with pytest.raises(ValueError, match=r"beta has shape \(2, 3, 10\); allowed is \(2, 3, 11\)"):
            rules[rule](q, k, v, beta[..., 1:], *rest)
        for state in (torch.ones(2, 3, 5, 7), torch.ones(2, 1, 7, 5), torch.ones(1, 3, 7, 5)):
            with pytest.raises(ValueError, match=r"state has shape .*; allowed is \(2, 3, 7, 5\)"):
                rules[rule](q, k, v, beta, *rest, state=state)
    with pytest.raises(ValueError, match=r"decay has shape \(2, 3\); allowed is \(2, 3, 11\)"):
        rules["gated delta"](q, k, v, beta, decay[..., 0])
    for bad in (0.0, -0.5, 1.5, float("nan")):
        with pytest.raises(ValueError, match=f"decay is {bad}; allowed is more than 0 and at most 1"):
            delta_rule(q, k, v, beta, torch.where(torch.arange(11) == 7, bad, decay))
