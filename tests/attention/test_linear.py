"""Linear attention: by hand, as the sum over all pairs, and against flash-linear-attention."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path

import pytest
import torch
from dense import Largest, assert_same, draw

from lcbook.attention.linear import features, linear_attention


def theirs():
    """Return flash-linear-attention's plain PyTorch versions; importing the whole package would need Triton."""
    folder = Path(importlib.util.find_spec("fla").submodule_search_locations[0])
    spec = importlib.util.spec_from_file_location("fla_naive", folder / "ops" / "linear_attn" / "naive.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def by_pairs(q, k, v):
    weights = (features(q) @ features(k).transpose(-1, -2)).tril()
    return weights / weights.sum(-1, keepdim=True) @ v


def test_worked_by_hand():
    assert features(torch.tensor([2.0, 0.0, -math.log(4)])).tolist() == pytest.approx([3.0, 1.0, 0.25])
    # features of the keys are 1 and 3, whatever the query: weights 1/4 and 3/4
    q = torch.tensor([5.0, -2.0]).view(1, 1, 2, 1)
    k = torch.tensor([0.0, 2.0]).view(1, 1, 2, 1)
    v = torch.tensor([4.0, 8.0]).view(1, 1, 2, 1)
    assert linear_attention(q, k, v).flatten().tolist() == pytest.approx([4.0, 7.0])


@pytest.mark.parametrize("length", [1, 11, 37, 130])
@pytest.mark.parametrize("chunk", [1, 7, 64, 500])
def test_chunks_and_pairs_agree(length, chunk):
    q, k, v = draw((2, 3, length, 7), (2, 3, length, 7), (2, 3, length, 5))
    ours = linear_attention(q, k, v, chunk=chunk)
    assert_same(ours, by_pairs(q, k, v), [q, k, v], atol=1e-10, rtol=0)


def test_numbers_are_those_of_flash_linear_attention():
    q, k, v = draw((2, 3, 128, 7), (2, 3, 128, 7), (2, 3, 128, 5))
    ours = linear_attention(q, k, v, chunk=32)
    given = [x.transpose(1, 2) for x in (features(q), features(k), v)]
    fla = theirs()
    # their recurrent version computes in float32, their version in chunks in float64
    out, _ = fla.naive_recurrent_linear_attn(*given, scale=1.0, normalize=True, output_final_state=True)
    torch.testing.assert_close(ours, out.transpose(1, 2), atol=1e-5, rtol=1e-5)
    out = fla.naive_chunk_linear_attn(*given, scale=1.0, normalize=True)
    torch.testing.assert_close(ours, out.transpose(1, 2), atol=1e-10, rtol=0)


def test_the_future_does_not_change_the_past():
    q, k, v = (x.detach() for x in draw((1, 2, 37, 5), (1, 2, 37, 5), (1, 2, 37, 5)))
    before = linear_attention(q, k, v, chunk=8)
    for x in (q, k, v):
        x[:, :, 21:] = 1e3
    torch.testing.assert_close(
        linear_attention(q, k, v, chunk=8)[:, :, :21], before[:, :, :21], atol=1e-12, rtol=0
    )


def test_memory_is_linear():
    sizes = []
    for length in (512, 1024, 2048):
        q, k, v = draw((1, 1, length, 4), (1, 1, length, 4), (1, 1, length, 4))
        with Largest() as record:
            linear_attention(q, k, v, chunk=16).sum().backward()
        sizes.append(record.entries)
    assert sizes[0] < 512**2 / 8
    assert sizes[2] == 2 * sizes[1] == 4 * sizes[0]


def test_bad_input_is_named():
    q, k, v = draw((1, 1, 5, 3), (1, 1, 7, 3), (1, 1, 7, 3))
    with pytest.raises(ValueError, match="k has 7 tokens and q has 5; allowed is the same number"):
        linear_attention(q, k, v)
    with pytest.raises(ValueError, match="chunk is 0; allowed is 1 or more"):
        linear_attention(k, k, v, chunk=0)
