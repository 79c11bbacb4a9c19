"""The explorer of costs: closed forms against the package's and published counts, and the page against both."""

from __future__ import annotations

import itertools
import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser

from lcbook.attention.costs import visible_pairs
from lcbook.attention.patterns import Full, Window
from lcbook.explorers.costs import (
    Sizes,
    attention_flops,
    cache_bytes,
    cost_explorer,
    crossing,
    linear_flops,
    pairs,
    prefill_seconds,
    token_seconds,
    weights,
)
from lcbook.explorers.fragment import Explorer
from lcbook.models import costs
from lcbook.models.decoder import ModelSpec
from tests.fragments import Shown, computed, three

LLAMA = Sizes(layers=32, width=4096, group=4)


@pytest.fixture(scope="module")
def explorer() -> Explorer:
    return cost_explorer()


def scaled(x: float, unit: str) -> str:
    """The digits of the page: 14000 with unit B is 14 kB."""
    k = max(0, (len(str(int(x))) - 1) // 3)
    return f"{three(x / 1000**k)} {['', 'k', 'M', 'G', 'T', 'P', 'E', 'Z'][k]}{unit}"


# ---- in Python


def test_worked_by_hand() -> None:
    # Two layers of width 256, 2 heads, 1 of keys: (2 + 1 + 10.5) 256^2 weights each. 10 tokens; the second sees 4.
    sizes = Sizes(layers=2, width=256, group=2, number_bytes=1, every=2, window=4)
    assert weights(sizes) == 2 * 13.5 * 65_536
    assert linear_flops(sizes, 10) == 20 * weights(sizes)
    assert attention_flops(sizes, 10) == 4 * 256 * (50 + 32)
    assert cache_bytes(sizes, 10) == 2 * 128 * (10 + 4)
    assert prefill_seconds(sizes, 10, 1e6) == pytest.approx((20 * 1_769_472 + 83_968) / 1e6)
    assert token_seconds(sizes, 10, 1e6) == pytest.approx((1_769_472 + 3584) / 1e6)


def test_llama_3_8b_has_its_published_size() -> None:
    # Dubey et al. 2024, arXiv:2407.21783: 8,030,261,248 parameters with 2 tables of 128,256 rows and 65 norms.
    assert weights(LLAMA) + 2 * 128_256 * 4096 + 65 * 4096 == 8_030_261_248
    assert cache_bytes(LLAMA, 2**17) == 16 * 2**30
    assert crossing(LLAMA) == 13 * 4096


@pytest.mark.parametrize(("layers", "group", "length"), [(1, 1, 53), (3, 2, 211), (5, 16, 17)])
def test_operations_are_those_of_the_models_costs(layers: int, group: int, length: int) -> None:
    sizes, vocabulary = Sizes(layers=layers, width=256, group=group), 7
    spec = ModelSpec(
        layers=layers, width=256, heads=2, kv_heads=sizes.kv_heads, mlp=896, key_shift=False, qk_norm=False
    )
    norms = (2 * layers + 1) * 256
    assert weights(sizes) == costs.parameters(spec, vocabulary) - vocabulary * 256 - norms
    # lcbook.models.costs counts all n^2 pairs; here a causal mask halves them.
    layers_alone = (
        costs.forward_flops(spec, vocabulary, batch=1, length=length) - 2 * length * 256 * vocabulary
    )
    assert linear_flops(sizes, length) + 2 * attention_flops(sizes, length) == layers_alone


@pytest.mark.parametrize(("length", "window"), [(53, 7), (53, 53), (5, 11), (1, 1)])
def test_pairs_leave_half_the_diagonal_out(length: int, window: int) -> None:
    seen = min(length, window)
    assert visible_pairs(Window(window), length) == pairs(length, window) + seen / 2
    assert visible_pairs(Full(), length) == pairs(length, length) + length / 2


@pytest.mark.parametrize(
    "sizes",
    [LLAMA, Sizes(every=6), Sizes(layers=7, width=128, every=4), Sizes(width=512, every=3, window=8192)],
)
def test_at_the_crossing_the_parts_are_equal(sizes: Sizes) -> None:
    equal = crossing(sizes)
    assert attention_flops(sizes, equal) == pytest.approx(linear_flops(sizes, equal), rel=1e-9)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layers": 0}, "layers is 0; allowed is 1 or more"),
        ({"width": 200}, "width is 200; allowed is a multiple of 128"),
    ],
)
def test_bad_sizes(changes: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Sizes(**changes)


def test_bad_start() -> None:
    with pytest.raises(ValueError, match="value is 512; it must lie from 1024"):
        cost_explorer(length=512)


def test_the_caption_tells_what_is_counted(explorer: Explorer) -> None:
    assert "a causal mask halves the pairs" in explorer.html


# ---- in the page


def settings() -> list[dict[str, Any]]:
    """Corners of the controls, and some places between them drawn once."""
    names = ("length", "layers", "width", "group", "bytes", "every", "rate", "bandwidth")
    corners = itertools.product(
        (1024, 2**24), (1, 128), (128, 2**14), (1, 16), (2,), (1, 8), (0.05, 1000), (20,)
    )
    draw = random.Random(3)
    between = [
        (2 ** draw.randint(10, 24), draw.randint(1, 128), 2 ** draw.randint(7, 14), 2 ** draw.randint(0, 4),
         2 ** draw.randint(0, 2), draw.randint(1, 8), draw.uniform(0.05, 1000), draw.uniform(20, 8000))
        for _ in range(40)
    ]  # fmt: skip
    return [dict(zip(names, values, strict=True)) for values in (*corners, *between)]


@pytest.mark.browser
def test_the_script_agrees_with_the_package(browser: Browser, explorer: Explorer) -> None:
    cases = settings()
    runs = computed(browser, explorer, cases)
    assert len(runs) == len(cases) > 100
    for case, run in zip(cases, runs, strict=True):
        sizes = Sizes(case["layers"], case["width"], case["group"], case["bytes"], case["every"])
        n, rate, bandwidth = case["length"], 1e12 * case["rate"], 1e9 * case["bandwidth"]
        curves = [line for line in run["lines"] if len(line[0]) > 2]
        xs = np.array(curves[0][0])
        assert xs[[0, -1]] == pytest.approx([1024, 2**24])
        for (_, drawn), function in zip(
            curves,
            (
                lambda t, s=sizes: linear_flops(s, t),
                lambda t, s=sizes: attention_flops(s, t),
                lambda t, s=sizes, r=rate: prefill_seconds(s, t, r),
                None,
            ),
            strict=True,
        ):
            if function is not None:
                assert drawn == pytest.approx([function(t) for t in xs], rel=1e-9), case
        # Every fourth column is a power of two, so a whole number of tokens.
        assert curves[3][1][::4] == pytest.approx(
            [token_seconds(sizes, 2**k, bandwidth) for k in range(10, 25)], rel=1e-9
        ), case
        equal = crossing(sizes)
        crossings = [
            point for point, note in zip(run["dots"][2:], run["notes"][2:], strict=False) if "equal" in note
        ]
        if 1024 <= equal <= 2**24:
            assert crossings == [pytest.approx([equal, linear_flops(sizes, equal)], rel=1e-9)], case
        else:
            assert crossings == [], case
        share = float(re.search(r'lc-b">([\d.e-]+) %', run["said"]).group(1))
        both = attention_flops(sizes, n) + linear_flops(sizes, n)
        assert share == pytest.approx(100 * attention_flops(sizes, n) / both, rel=1e-9), case


@pytest.mark.browser
@pytest.mark.parametrize(
    ("sizes", "length"), [(LLAMA, 2**17), (Sizes(80, 8192, 8, 1, 6), 2**20), (Sizes(2, 128, 1, 4), 2**10)]
)
def test_the_numbers_the_page_reads_out(
    browser: Browser, tmp_path: Path, explorer: Explorer, sizes: Sizes, length: int
) -> None:
    powers = {1: 0, 2: 1, 4: 2, 8: 3}
    with Shown(browser, tmp_path / "page.html", explorer.html) as shown:
        places = (
            length.bit_length() - 11,
            sizes.layers - 1,
            sizes.width.bit_length() - 8,
            powers[sizes.group],
        )
        shown.move(
            0, **{f"s{i}": at for i, at in enumerate((*places, powers[sizes.number_bytes], sizes.every - 1))}
        )
        said = shown.said()
        work = linear_flops(sizes, length) + attention_flops(sizes, length)
        assert f"reads {length:,} tokens" in said
        assert (
            f": {scaled(work, 'FLOP')}, {three(100 * attention_flops(sizes, length) / work)} % of it" in said
        )
        assert f"{scaled(weights(sizes) * sizes.number_bytes, 'B')} of weights" in said
        assert f"a KV cache of {scaled(cache_bytes(sizes, length), 'B')}" in said
        assert f"would fill {scaled(sizes.heads * length**2 * sizes.number_bytes, 'B')}." in said
        # 398.1 TFLOP/s and 3,183 GB/s: where the sliders stand.
        size = {"µs": 1e-6, "ms": 1e-3, "s": 1, "min": 60, "h": 3600}
        times = re.findall(r"(?:in|takes) ([\d.]+) (µs|ms|s|min|h)\b", said)
        assert [float(number) * size[unit] for number, unit in times] == pytest.approx(
            [prefill_seconds(sizes, length, 398.107e12), token_seconds(sizes, length, 3183e9)], rel=6e-3
        )


@pytest.mark.browser
def test_each_slider_moves_the_drawing(browser: Browser, tmp_path: Path, explorer: Explorer) -> None:
    with Shown(browser, tmp_path / "page.html", explorer.html) as shown:
        for slider in shown.page.locator("input").all():
            before, start = shown.page.locator(".lc-view").inner_html(), slider.input_value()
            slider.fill("0" if start != "0" else "3")
            shown.move(0)
            assert shown.page.locator(".lc-view").inner_html() != before
            slider.fill(start)
            shown.move(0)
