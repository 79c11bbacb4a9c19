"""Reading in segments: against dense masks, a plain loop over the paper's equations, and sums worked by hand."""

from __future__ import annotations

import inspect
import math

import pytest
import torch
from dense import assert_same, draw

from lcbook.attention.attend import attend
from lcbook.attention.linear import features
from lcbook.attention.segments import compressive_memory, recurrent_memory, segment_attention, segments_of
from lcbook.models.mixers import CompressiveMemory, Shape

LENGTH = 23
every_segment = pytest.mark.parametrize("segment", [1, 5, 7, 22, 23])


def masks(segment):
    """Return which keys of a query's own segment and of the one before it are visible, place by place."""
    own, last = (torch.zeros(LENGTH, LENGTH, dtype=torch.bool) for _ in range(2))
    for query in range(LENGTH):
        for key in range(query + 1):
            own[query, key] = query // segment == key // segment
            last[query, key] = query // segment == key // segment + 1
    return own, last


def infini(q, k, v, segment, delta):
    """Return what is read from the memory, token by token, and the last memory: M += f(k) v^T, z += f(k)."""
    out, hand_on = torch.zeros_like(v), []
    for b in range(q.shape[0]):
        for h in range(q.shape[1]):
            memory = q.new_zeros(q.shape[3], v.shape[3])
            norm = q.new_zeros(q.shape[3])
            rows = []
            for start in range(0, q.shape[2], segment):
                places = range(start, min(start + segment, q.shape[2]))
                written, total = torch.zeros_like(memory), torch.zeros_like(norm)
                for t in places:
                    asking, key = features(q[b, h, t]), features(k[b, h, t])
                    rows.append(asking @ memory / (asking @ norm) if start else 0 * v[b, h, t])
                    held = key @ memory / (key @ norm) if start and delta else 0
                    written = written + torch.outer(key, v[b, h, t] - held)
                    total = total + key
                memory, norm = memory + written, norm + total
            hand_on.append((memory, norm))
            out = out.index_put((torch.tensor(b), torch.tensor(h)), torch.stack(rows))
    return out, hand_on


def test_cutting_into_segments():
    x = torch.arange(14.0).view(1, 1, 7, 2)
    cut = segments_of(x, 3)
    assert cut.shape == (1, 3, 1, 3, 2)
    assert cut[0, 1, 0].tolist() == [[6, 7], [8, 9], [10, 11]]
    assert cut[0, 2, 0].tolist() == [[12, 13], [0, 0], [0, 0]]
    assert segments_of(x, 7).shape == (1, 1, 1, 7, 2)


@every_segment
@pytest.mark.parametrize("groups", [1, 3])
def test_attention_is_that_of_a_dense_mask(segment, groups):
    q, k, v = draw((2, 3, LENGTH, 5), (2, groups, LENGTH, 5), (2, groups, LENGTH, 5))
    own, last = masks(segment)
    ours = segment_attention(q, k, v, segment=segment)
    assert_same(ours, attend(q, k, v, mask=own)[0], [q, k, v], atol=1e-12, rtol=0)
    both = segment_attention(q, k, v, segment=segment, before=(k, v))
    assert_same(both, attend(q, k, v, mask=own | last)[0], [q, k, v], atol=1e-12, rtol=0)


@every_segment
def test_the_segment_before_is_seen_by_keys_of_its_own(segment):
    q, k, v, k_late, v_late = draw(*[(2, 3, LENGTH, 5)] * 5)
    scale = torch.tensor([0.3, 1.0, 2.7], dtype=torch.float64).view(3, 1, 1)
    ours = segment_attention(q, k, v, segment=segment, before=(k_late, v_late), scale=scale)
    own, last = masks(segment)
    keys, values = torch.cat([k_late, k], 2), torch.cat([v_late, v], 2)
    dense = attend(q, keys, values, mask=torch.cat([last, own], 1), scale=scale)[0]
    assert_same(ours, dense, [q, k, v, k_late, v_late], atol=1e-12, rtol=0)


def test_one_segment_is_full_attention():
    q, k, v = draw(*[(2, 3, LENGTH, 5)] * 3)
    full = attend(q, k, v, mask=torch.ones(LENGTH, LENGTH, dtype=torch.bool).tril())[0]
    for before in (None, (k, v)):
        torch.testing.assert_close(segment_attention(q, k, v, segment=LENGTH, before=before), full)


@every_segment
@pytest.mark.parametrize("delta", [False, True])
def test_the_memory_is_that_of_the_equations(segment, delta):
    q, k, v = draw((2, 3, LENGTH, 5), (2, 3, LENGTH, 5), (2, 3, LENGTH, 4))
    ours = compressive_memory(q, k, v, segment=segment, delta=delta)
    loop, _ = infini(q, k, v, segment, delta)
    if segment < LENGTH:
        assert_same(ours, loop, [q, k, v], atol=1e-11, rtol=1e-11)
    assert (ours[:, :, :segment] == 0).all(), "the first segment has nothing to read"
    assert (ours[:, :, segment:] != 0).all()


def test_what_the_memory_hands_on_has_its_size():
    q, k, v = draw(*[(1, 3, LENGTH, 5)] * 3)
    held = infini(q, k, v, 5, delta=True)[1]
    size = CompressiveMemory(5).state_size(Shape(layers=1, width=15, heads=3, kv_heads=3), LENGTH)
    assert sum(memory.numel() + norm.numel() for memory, norm in held) == size


def test_memory_worked_by_hand():
    # features: keys 1, 3 | 1 | query of the third segment any; values 4, 8 | 1
    k = torch.tensor([0.0, 2.0, 0.0, 0.0, 0.0]).view(1, 1, 5, 1)
    v = torch.tensor([4.0, 8.0, 1.0, 15.0, 0.0]).view(1, 1, 5, 1)
    q = torch.tensor([1.0, -2.0, 5.0, 0.0, math.e]).view(1, 1, 5, 1)
    # after the first segment M = 1 * 4 + 3 * 8 and z = 1 + 3, so that each query reads 7
    # after the second M = 28 + 1 + 15 and z = 6; with delta the second writes 1 - 7 and 15 - 7, and M = 28 - 6 + 8
    for delta, third in ((False, 44 / 6), (True, 30 / 6)):
        out = compressive_memory(q, k, v, segment=2, delta=delta)
        assert out.flatten().tolist() == pytest.approx([0, 0, 7, 7, third])


@pytest.mark.parametrize("delta", [False, True])
def test_a_query_whose_features_underflow_reads_nothing(delta):
    """exp(-200) is 0 in float32: the query at place 3 asks for nothing, and spoils no gradient."""
    q, k, v = draw(*[(1, 1, 5, 3)] * 3, dtype=torch.float32)
    with torch.no_grad():
        q[:, :, 3] = -200.0
    out = compressive_memory(q, k, v, segment=2, delta=delta)
    assert (out[:, :, 3] == 0).all()
    assert (out[:, :, [2, 4]] != 0).all()
    for gradient in torch.autograd.grad(out.square().sum(), [q, k, v]):
        assert gradient.isfinite().all()


def test_the_memory_is_linear_attention_over_all_earlier_segments():
    q, k, v = (x.detach() for x in draw(*[(2, 3, LENGTH, 5)] * 3))
    ours = compressive_memory(q, k, v, segment=5)
    weights = features(q[:, :, 20:]) @ features(k[:, :, :20]).mT
    torch.testing.assert_close(ours[:, :, 20:], weights @ v[:, :, :20] / weights.sum(-1, keepdim=True))


@pytest.mark.parametrize("delta", [False, True])
def test_a_segment_leaves_what_itself_and_earlier_ones_read(delta):
    q, k, v = (x.detach() for x in draw(*[(2, 3, LENGTH, 5)] * 3))
    before = compressive_memory(q, k, v, segment=5, delta=delta)
    k[:, :, 10:] = 3
    v[:, :, 10:] = 1e3
    after = compressive_memory(q, k, v, segment=5, delta=delta)
    assert torch.equal(after[:, :, :15], before[:, :, :15])
    assert (after[:, :, 15:] != before[:, :, 15:]).all()


def test_recurrent_memory_worked_by_hand():
    """Layers that sum up all tokens so far, in segments of two with one memory token that starts as 1."""
    fed = []

    def layers(x):
        fed.append(x.flatten().tolist())
        return x.cumsum(1)

    x, memory = torch.tensor([2.0, 3.0, 4.0]).view(1, 3, 1), torch.ones(1, 1)
    out = recurrent_memory(x, memory, 2, layers)
    assert fed == [[1, 2, 3, 1], [7, 4, 7]]  # the second 1 becomes 1 + 2 + 3 + 1
    assert out.flatten().tolist() == [3, 6, 11]


@every_segment
def test_without_memory_segments_are_read_alone(segment):
    (x,) = draw((2, LENGTH, 3))
    out = recurrent_memory(x, x.new_zeros(0, 3), segment, lambda part: part.cumsum(1))
    alone = torch.cat([part.cumsum(1) for part in x.split(segment, 1)], 1)
    assert torch.equal(out, alone)


@pytest.mark.parametrize("segment", [0, -1, 24])
def test_bad_segments_are_named(segment):
    q, k, v = draw(*[(2, 3, LENGTH, 5)] * 3)
    named = f"segment is {segment} for 23 tokens; allowed is 1 to the length of the sequence"
    for function in (segment_attention, compressive_memory):
        with pytest.raises(ValueError, match=named):
            function(q, k, v, segment=segment)
    with pytest.raises(ValueError, match=named):
        segments_of(q, segment)
    with pytest.raises(ValueError, match=named):
        recurrent_memory(q[:, 0], q.new_zeros(2, 5), segment, lambda part: part)


@pytest.mark.parametrize("function", [segment_attention, compressive_memory])
def test_bad_lengths_are_named(function):
    q, k, v = draw(*[(2, 3, LENGTH, 5)] * 3)
    plain = inspect.unwrap(function)  # without the shape checks that the tests put around every function
    with pytest.raises(ValueError, match="k has 22 tokens and q has 23; allowed is the same number"):
        plain(q, k[:, :, 1:], v, segment=5)
    with pytest.raises(ValueError, match="v has 22 tokens and q has 23; allowed is the same number"):
        plain(q, k, v[:, :, 1:], segment=5)
