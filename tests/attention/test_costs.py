"""Costs of attention against masks, torch's counter of operations, measured peaks, and numbers worked by hand."""

from __future__ import annotations

import math
import random

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from lcbook.attention import sparse
from lcbook.attention.backends import ChunkedPrefill, Flex, Fused, Linear, Naive, Ring, Tiled, attention_by
from lcbook.attention.costs import (
    AttentionCost,
    Machine,
    attention_cost,
    keys_compared,
    kv_cache_bytes,
    roofline_seconds,
    visible_pairs,
)
from lcbook.attention.patterns import (
    BigBird,
    Chunked,
    Full,
    Strided,
    TopBlocks,
    TopK,
    Window,
    pattern_mask,
    select,
)
from lcbook.attention.timing import peak_bytes

DRAWS = {
    "full": lambda r, n: Full(),
    "window": lambda r, n: Window(r(1, 20), r(1, 5)),
    "globals": lambda r, n: Window(
        r(1, 20), r(1, 4), tuple(random.Random(r(0, 99)).sample(range(n), min(n, 4)))
    ),
    "strided": lambda r, n: Strided(r(1, 20), r(1, 20)),
    "chunked": lambda r, n: Chunked(r(1, 30)),
    "big bird": lambda r, n: BigBird(r(1, 12), r(1, 4), r(0, 3), r(0, 3), seed=r(0, 9)),
}


@pytest.mark.parametrize("name", DRAWS)
def test_pairs_are_those_of_the_mask(name):
    draw = random.Random(name).randint
    for length in [*range(1, 40), 61, 64, 97]:
        pattern = DRAWS[name](draw, length)
        assert visible_pairs(pattern, length) == int(pattern_mask(pattern, length).sum()), (pattern, length)


@pytest.mark.parametrize(
    "pattern", [TopK(5), TopK(99), TopK(7, 3), TopBlocks(5, 3), TopBlocks(50, 2), TopBlocks(3, 99)]
)
def test_pairs_of_content_patterns_are_those_selected(pattern):
    q, k = torch.randn(2, 1, 2, 37, 5, generator=torch.Generator().manual_seed(0))
    assert 2 * visible_pairs(pattern, 37) == int(select(pattern, q, k, torch.arange(37)[None]).sum())


def test_pairs_by_hand():
    assert visible_pairs(Full(), 5) == 15
    assert visible_pairs(Window(2), 5) == 9  # 1 + 2 + 2 + 2 + 2
    assert visible_pairs(Window(2, dilation=3), 5) == 7  # 1 + 1 + 1 + 2 + 2
    assert visible_pairs(Window(2, globals_at=(0,)), 5) == 12  # places 2, 3 and 4 see the first token as well
    assert (
        visible_pairs(Strided(2, 3), 5) == 11
    )  # 1 + 2 + 2 + 3 + 3: places 3 and 4 see one that is three back
    assert visible_pairs(Chunked(2), 5) == 7  # 1 + 2, 1 + 2, 1
    assert visible_pairs(Window(10**6), 10**9) == 10**6 * 10**9 - (10**6 - 1) * 10**6 // 2


@pytest.mark.parametrize("name", DRAWS)
def test_keys_compared_are_those_of_the_last_row(name):
    draw = random.Random(name).randint
    for length in [1, 2, 3, *range(5, 40, 3)]:
        pattern = DRAWS[name](draw, length)
        assert keys_compared(pattern, length, 5) == int(pattern_mask(pattern, length)[-1].sum())
    assert keys_compared(Window(2, globals_at=(6,)), 7, 5) == 7  # the last token is global


def test_keys_compared_to_choose_by_hand():
    assert keys_compared(TopK(16), 32, 64) == 16 + 32
    assert keys_compared(TopK(16, 8), 32, 64) == 16 + 32 / 8
    assert keys_compared(TopBlocks(8, 2), 32, 64) == 8 + 8 + 4  # two blocks, four means
    assert keys_compared(TopBlocks(5, 2), 32, 64) == 5 + 2 + 7  # the own block has two keys yet


COUNTED = [
    Naive(),
    Tiled(13),
    Tiled(500),
    ChunkedPrefill(50),
    Ring(5),
    Ring(23),
    Linear(17),
    Linear(500),
    Window(29),
    Window(3),
    Window(23, 3),
    Window(29, 2, (0, 7, 101)),
    Strided(11, 7),
    Strided(3, 31),
    BigBird(13, 2, 2, 1),
    BigBird(60),
    TopK(19),
    TopK(19, 3),
]


@pytest.mark.parametrize("at_once", [None, 3000])
@pytest.mark.parametrize("form", COUNTED, ids=str)
def test_operations_are_those_that_torch_counts(form, at_once, monkeypatch):
    if at_once:  # many pieces, as in a long text
        monkeypatch.setitem(sparse.AT_ONCE, "cpu", at_once)
    q = torch.randn(3, 2, 3, 211, 5)
    with FlopCounterMode(display=False) as counted:
        attention_by(form)(*q)
    found = attention_cost(form, batch=2, heads=3, length=211, head_dim=5).flops
    assert found == counted.get_total_flops()


@pytest.mark.parametrize(
    ("form", "texts", "length"),
    [(Fused(), 6, 211), (Full(), 6, 211), (Chunked(30), 6 * 8, 30), (TopBlocks(30, 1), 6 * 8, 30)],
)
def test_fused_is_the_causal_half_of_what_torch_counts(form, texts, length):
    whole = sdpa_flop_count(*[(texts, 1, length, 5)] * 3)
    found = attention_cost(form, batch=2, heads=3, length=211, head_dim=5).flops
    assert found / whole == pytest.approx((length + 1) / (2 * length))


def test_operations_of_top_blocks_are_those_of_torch_but_for_filled_up_tiles():
    q = torch.randn(3, 1, 2, 1031, 5)
    form = TopBlocks(16, 4)
    with FlopCounterMode(display=False) as counted:
        attention_by(form)(*q)
    found = attention_cost(form, heads=2, length=1031, head_dim=5).flops
    filled = 2 * 65 * 32 * 16 * 4 * 5  # at most a tile of 32 queries for each block of 16 keys
    assert found <= counted.get_total_flops() <= found + filled


def test_costs_worked_by_hand():
    cost = attention_cost(Naive(), length=7, heads=3, head_dim=5, batch=2, element_size=2)
    assert cost.flops == 6 * (2 * 7 * 7 * 5) * 2  # scores and mix, six heads in all
    assert cost.bytes == 6 * (4 * 7 * 5 + 6 * 7 * 7) * 2  # q, k, v, out; six passes over the scores
    assert cost.peak_bytes == 6 * (2 * 7 * 7 + 7 * 5) * 2  # scores, weights, out
    assert attention_cost(Tiled(2), length=5, heads=1, head_dim=3).flops == 12 * (2 * 2 + 2 * 4 + 1 * 5)
    assert attention_cost(Window(2), length=7, heads=1, head_dim=3).bytes == 4 * 4 * 7 * 3


@pytest.mark.parametrize("heads", [1, 3])
def test_peak_of_naive_is_the_measured_one(heads):
    q = torch.randn(3, 1, heads, 1024, 32)
    found = attention_cost(Naive(), length=1024, heads=heads, head_dim=32).peak_bytes
    assert found == pytest.approx(peak_bytes(lambda: attention_by(Naive())(*q)), rel=0.25)


LINEAR = [Tiled(64), Linear(64), Window(64), Window(64, 4), Chunked(64), BigBird(64), Strided(64, 64)]


@pytest.mark.parametrize("form", [*LINEAR, TopK(16), TopBlocks(64, 2), Ring(4), ChunkedPrefill(64)], ids=str)
def test_peaks_are_the_measured_ones_within_a_factor_of_two(form):
    for length in (1024, 4096):
        q = torch.randn(3, 1, 1, length, 32)
        with torch.no_grad():
            measured = peak_bytes(lambda q=q: attention_by(form)(*q))
        found = attention_cost(form, length=length, heads=1, head_dim=32).peak_bytes
        assert 1 / 2 < found / measured < 2, (length, measured, found)


@pytest.mark.parametrize("form", LINEAR, ids=str)
def test_memory_of_these_forms_is_linear(form):
    def peak(length):
        return attention_cost(form, length=length, heads=1, head_dim=64).peak_bytes

    assert math.log2(peak(2**21) / peak(2**20)) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize(
    ("form", "exponent"), [(Fused(), 2), (Tiled(), 2), (Linear(), 1), (Window(64), 1), (Strided(64, 128), 2)]
)
def test_operations_grow_as_they_should(form, exponent):
    def flops(length):
        return attention_cost(form, length=length, heads=1, head_dim=64).flops

    assert math.log2(flops(2**23) / flops(2**22)) == pytest.approx(exponent, abs=0.02)


def test_flex_holds_all_scores_where_it_is_not_compiled():
    form = Flex(Window(64))
    cost = attention_cost(form, length=1024, heads=1, head_dim=32)
    assert cost.flops == attention_cost(Naive(), length=1024, heads=1, head_dim=32).flops
    q = torch.randn(3, 1, 1, 1024, 32)
    attention_by(form)(*q)  # builds its table of blocks once
    assert cost.peak_bytes == pytest.approx(peak_bytes(lambda: attention_by(form)(*q)), rel=0.25)


def test_cache_by_hand():
    # Llama 3.1 8B: 32 layers, 8 key-value heads of 128, two bytes: 128 KiB a token
    assert kv_cache_bytes(32, 8, 128, 1) == 2**17
    assert kv_cache_bytes(32, 8, 128, 131_072) == 2**34
    # five of six layers keep 1024 tokens at most, as in Gemma 3
    windows = [1024, 1024, 1024, 1024, 1024, None]
    assert kv_cache_bytes(6, 1, 1, 4096, 1, windows) == 2 * (5 * 1024 + 4096)
    assert kv_cache_bytes(6, 1, 1, 1000, 1, windows) == kv_cache_bytes(6, 1, 1, 1000, 1)


def test_roofline_by_hand():
    machine = Machine(100.0, 10.0)  # the knee is at 10 operations a byte
    assert roofline_seconds(AttentionCost(1000, 50, 0), machine) == 10  # arithmetic
    assert roofline_seconds(AttentionCost(1000, 200, 0), machine) == 20  # memory
    assert roofline_seconds(AttentionCost(1000, 100, 0), machine) == 10


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: attention_cost(Naive(), length=0, heads=1, head_dim=1), "length is 0; allowed is 1 or more"),
        (lambda: attention_cost(Naive(), length=1, heads=0, head_dim=1), "heads is 0; allowed"),
        (lambda: attention_cost(Naive(), length=1, heads=1, head_dim=0), "head_dim is 0; allowed"),
        (lambda: attention_cost(Naive(), length=1, heads=1, head_dim=1, batch=0), "batch is 0; allowed"),
        (lambda: attention_cost(Window(2, 1, (9,)), length=9, heads=1, head_dim=1), r"globals_at is \(9,\)"),
        (lambda: visible_pairs(Full(), 0), "length is 0; allowed is 1 or more"),
        (lambda: Machine(0.0, 1.0), "flops_per_second is 0.0; allowed is above 0"),
        (lambda: Machine(1.0, -1.0), "bytes_per_second is -1.0; allowed is above 0"),
        (lambda: kv_cache_bytes(2, 0, 1, 1), "kv_heads is 0; allowed is 1 or more"),
        (
            lambda: kv_cache_bytes(2, 1, 1, 1, 1, [4]),
            "windows has 1 entries; allowed is one for each of the 2",
        ),
        (lambda: kv_cache_bytes(2, 1, 1, 1, 1, [4, 0]), r"windows\[1\] is 0; allowed is 1 or more"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
