"""The mathematics of position encodings: hand-worked values, transformers as oracle, and what must hold."""

from __future__ import annotations

import math

import pytest
import torch
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.bloom.modeling_bloom import build_alibi_tensor
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding, apply_rotary_pos_emb
from transformers.models.t5.modeling_t5 import T5Attention

from lcbook.models.position_formulas import alibi_slopes, apply_rope, rope_frequencies, sinusoidal, t5_bucket
from lcbook.models.position_specs import NTK, Dynamic, Linear, Llama3, LongRoPE, Scaling, YaRN

PAIRS = 11
HEAD_DIM = 2 * PAIRS
SHORT = tuple(1 + 0.1 * i for i in range(PAIRS))
LONG = tuple(1 + 1.7 * i for i in range(PAIRS))


def close(actual: torch.Tensor, expected: torch.Tensor | list, tolerance: float = 1e-6) -> None:
    expected = torch.as_tensor(expected, dtype=actual.dtype)
    torch.testing.assert_close(actual, expected, atol=tolerance, rtol=tolerance)


def oracle(scaling: Scaling) -> tuple[str, int, dict[str, object]]:
    """What transformers calls the same: its rope_type, max_position_embeddings and rope_parameters."""
    match scaling:
        case Linear(factor):
            return "linear", 2048, {"factor": factor}
        case Dynamic(factor, original):
            return "dynamic", original, {"factor": factor}
        case YaRN(factor, original, fast, slow, growth):
            turns = {"beta_fast": fast, "beta_slow": slow, "attention_factor": growth}
            return "yarn", 2048, {"factor": factor, "original_max_position_embeddings": original, **turns}
        case LongRoPE(short, long, original, factor, growth):
            divisors = {"short_factor": list(short), "long_factor": list(long), "attention_factor": growth}
            return (
                "longrope",
                2048,
                {"factor": factor, "original_max_position_embeddings": original, **divisors},
            )
        case Llama3(factor, low, high, original):
            turns = {"low_freq_factor": low, "high_freq_factor": high}
            return "llama3", 2048, {"factor": factor, "original_max_position_embeddings": original, **turns}
        case NTK():
            raise NotImplementedError("transformers has no NTK scaling that ignores the length")


def llama_config(base: float, kind: str, window: int = 2048, **parameters: object) -> LlamaConfig:
    return LlamaConfig(
        hidden_size=3 * HEAD_DIM,
        num_attention_heads=3,
        head_dim=HEAD_DIM,
        max_position_embeddings=window,
        rope_parameters={"rope_type": kind, "rope_theta": base, **parameters},
    )


SCALINGS = [
    Linear(4.0),
    Linear(1.0),
    Dynamic(2.0, 131),
    Dynamic(7.5, 64),
    YaRN(4.0, 128),
    YaRN(16.0, 4096),
    YaRN(40.0, 4096, beta_fast=17.0, beta_slow=3.0),
    YaRN(1.0, 512),
    YaRN(8.0, 512, attention_factor=1.37),
    YaRN(8.0, 512, beta_fast=2.2, beta_slow=2.1),
    YaRN(4.0, 10_000_000, beta_fast=100_000.0),  # its ramp ends beyond the last pair
    LongRoPE(SHORT, LONG, 128, 32.0),
    LongRoPE(SHORT, LONG, 128, 1.0),
    LongRoPE(SHORT, LONG, 4096, 32.0, attention_factor=1.19),
    Llama3(8.0, 1.0, 4.0, 8192),
    Llama3(32.0, 1.0, 4.0, 8192),
    Llama3(3.0, 0.7, 2.5, 128),
]


@pytest.mark.parametrize("number", range(len(SCALINGS)), ids=[str(scaling) for scaling in SCALINGS])
def test_scaled_frequencies_are_those_of_transformers(number):
    """Each scaling at its own original length, past it and without any, under bases that take turns."""
    scaling, base = SCALINGS[number], [100.0, 10_000.0, 500_000.0][number % 3]
    original = getattr(scaling, "original_length", 128)
    for length in (None, 1, original, original + 1, 100_003):
        same_as_transformers(scaling, base, length)


def same_as_transformers(scaling, base, length):
    kind, window, parameters = oracle(scaling)
    config = llama_config(base, kind, window, **parameters)
    expected, expected_factor = ROPE_INIT_FUNCTIONS[kind](config, torch.device("cpu"), seq_len=length)
    inv_freq, factor = rope_frequencies(HEAD_DIM, base, scaling, length=length)
    assert inv_freq.dtype == torch.float32
    close(inv_freq, expected)
    close(inv_freq / expected, torch.ones(PAIRS), tolerance=5e-6)  # the slowest are below 1e-6 themselves
    assert factor == pytest.approx(expected_factor, abs=1e-6)


@pytest.mark.parametrize("base", [100.0, 10_000.0, 500_000.0])
def test_plain_frequencies_are_those_of_llama(base):
    config = llama_config(base, "default")
    expected, expected_factor = LlamaRotaryEmbedding.compute_default_rope_parameters(config)
    inv_freq, factor = rope_frequencies(HEAD_DIM, base)
    close(inv_freq / expected, torch.ones(PAIRS))
    assert factor == expected_factor == 1.0


def test_frequencies_by_hand():
    close(rope_frequencies(4, 100.0)[0], [1.0, 0.1])
    close(rope_frequencies(4, 100.0, Linear(5.0))[0], [0.2, 0.02])
    close(rope_frequencies(4, 100.0, NTK(4.0))[0], [1.0, 0.025])  # base 100 * 4^(4/2) = 1600
    # 20 tokens where 8 were trained: the stretch is 3 * 20 / 8 - 2 = 5.5, so the base is 100 * 5.5^2 = 55^2
    close(rope_frequencies(4, 100.0, Dynamic(3.0, 8), length=20)[0], [1.0, 1 / 55])
    # 63 tokens turn pair 0 ten times and pair 1 once: above 4 turns it stays, below 2 it is divided
    close(rope_frequencies(4, 100.0, Llama3(8.0, 2.0, 4.0, 63))[0], [1.0, 0.1 / 8])
    inv_freq, factor = rope_frequencies(4, 100.0, LongRoPE((1.0, 2.0), (4.0, 5.0), 16, 4.0), length=17)
    close(inv_freq, [0.25, 0.02])
    assert factor == pytest.approx(math.sqrt(1.5))  # ln 4 / ln 16 = 1/2
    assert rope_frequencies(4, 100.0, YaRN(math.e, 16))[1] == pytest.approx(1.1)


@pytest.mark.parametrize("head_dim", [4, 6, 22, 62])
def test_ntk_keeps_the_fastest_pair_and_interpolates_the_slowest(head_dim):
    plain, _ = rope_frequencies(head_dim, 10_000.0)
    scaled, factor = rope_frequencies(head_dim, 10_000.0, NTK(7.0))
    assert scaled[0] == 1.0
    assert (scaled[-1] * 7 / plain[-1]).item() == pytest.approx(1, abs=1e-6)
    assert factor == 1.0
    assert (scaled[1:] < plain[1:]).all()


def test_dynamic_is_plain_within_the_original_window_and_ntk_like_beyond():
    plain, _ = rope_frequencies(HEAD_DIM)
    for length in (None, 1, 64):
        assert torch.equal(rope_frequencies(HEAD_DIM, scaling=Dynamic(3.0, 64), length=length)[0], plain)
    assert torch.equal(
        rope_frequencies(HEAD_DIM, scaling=Dynamic(1.0, 64), length=320)[0],
        rope_frequencies(HEAD_DIM, scaling=NTK(5.0))[0],
    )


@pytest.mark.parametrize("original", [2, 3, 6])
def test_yarn_with_a_window_shorter_than_any_turn_interpolates_all_but_the_fastest_pair(original):
    plain, _ = rope_frequencies(HEAD_DIM)
    inv_freq, _ = rope_frequencies(HEAD_DIM, scaling=YaRN(4.0, original))
    close(inv_freq[1:] / plain[1:], torch.full((PAIRS - 1,), 1 / 4))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: rope_frequencies(7), "head_dim must be a positive even integer"),
        (lambda: rope_frequencies(0), "head_dim"),
        (lambda: rope_frequencies(8, 1.0), "base"),
        (lambda: rope_frequencies(8, length=0), "length must be None or an integer >= 1, got 0"),
        (lambda: rope_frequencies(2, scaling=NTK(2.0)), "head_dim must be at least 4"),
        (lambda: rope_frequencies(2, scaling=Dynamic(2.0, 8)), "head_dim must be at least 4"),
        (
            lambda: rope_frequencies(8, scaling=LongRoPE((1.0,), (1.0,), 8, 2.0)),
            "short_factor must be .* 4 numbers",
        ),
        (lambda: sinusoidal(torch.arange(3), 5), "width must be a positive even integer"),
        (lambda: sinusoidal(torch.arange(3), 0), "width"),
        (lambda: sinusoidal(torch.arange(3), 6, base=0.5), "base"),
        (
            lambda: apply_rope(torch.ones(1, 1, 3, 4), torch.arange(3), torch.ones(4)),
            "inv_freq must be .* 2 numbers",
        ),
        (
            lambda: apply_rope(torch.ones(1, 1, 3, 5), torch.arange(3), torch.ones(2)),
            "inv_freq must be .* 2.5 numbers",
        ),
        (lambda: alibi_slopes(0), "heads must be an integer >= 1, got 0"),
        (lambda: t5_bucket(torch.arange(3), buckets=1), "buckets"),
        (lambda: t5_bucket(torch.arange(3), buckets=8, max_distance=4), "max_distance must be more than"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_sinusoids_by_hand():
    table = sinusoidal(torch.tensor([0, 3]), 4, base=100.0)
    close(table, [[0.0, 1.0, 0.0, 1.0], [math.sin(3), math.cos(3), math.sin(0.3), math.cos(0.3)]])


def test_sinusoids_of_any_shape_and_of_a_million_are_exact():
    positions = torch.tensor([[1, 5, 1_000_003], [2, 7, 100_000_007]])
    table = sinusoidal(positions, 6)
    assert table.shape == (2, 3, 6)
    for row, position in zip(table.flatten(0, 1), positions.flatten().tolist(), strict=True):
        angles = [position / 10_000 ** (2 * i / 6) for i in range(3)]
        close(row, [wave(angle) for angle in angles for wave in (math.sin, math.cos)])


def test_rotation_by_hand():
    # pair (x0, x2) by a quarter turn, pair (x1, x3) by a half turn
    x = torch.tensor([1.0, 2.0, 3.0, 4.0]).view(1, 1, 1, 4)
    turned = apply_rope(x, torch.tensor([1]), torch.tensor([math.pi / 2, math.pi]))
    close(turned.flatten(), [-3.0, -2.0, 1.0, -4.0])


@pytest.fixture
def q():
    return torch.randn(5, 3, 7, HEAD_DIM, generator=torch.Generator().manual_seed(0))


def test_rotation_is_that_of_llama(q):
    inv_freq, _ = rope_frequencies(HEAD_DIM)
    positions = torch.randint(0, 1_000_000, (5, 7), generator=torch.Generator().manual_seed(1))
    angles = (positions[..., None].double() * inv_freq.double()).repeat(1, 1, 2)
    expected, _ = apply_rotary_pos_emb(q, q, angles.cos().float(), angles.sin().float())
    close(apply_rope(q, positions, inv_freq), expected)


def test_rotation_is_complex_multiplication(q):
    q = q.double()
    inv_freq, _ = rope_frequencies(HEAD_DIM)
    positions = torch.tensor([0, 1, 2, 13, 1_001, 65_537, 1_000_003])
    first, second = q.chunk(2, dim=-1)
    turned = torch.complex(first, second) * torch.polar(
        torch.ones(7, PAIRS, dtype=torch.float64), positions[:, None] * inv_freq.double()
    )
    actual = apply_rope(q, positions, inv_freq)
    assert actual.dtype == torch.float64
    close(actual, torch.cat((turned.real, turned.imag), dim=-1), tolerance=1e-9)


@pytest.mark.parametrize("start", [0, 1, 4096, 1_000_000])
def test_rope_scores_depend_on_differences_alone(q, start):
    inv_freq, _ = rope_frequencies(HEAD_DIM)
    k = q.flip(0)

    def scores(first: int) -> torch.Tensor:
        positions = torch.tensor([3, 1, 0, 11, 29, 37, 131]) + first
        return apply_rope(q, positions, inv_freq) @ apply_rope(k, positions, inv_freq).mT

    close(scores(start), scores(0), tolerance=3e-5)


def test_rope_keeps_lengths_and_leaves_position_zero_alone(q):
    inv_freq, _ = rope_frequencies(HEAD_DIM)
    turned = apply_rope(q, torch.arange(7), inv_freq)
    close(turned.norm(dim=-1), q.norm(dim=-1))
    assert torch.equal(turned[:, :, 0], q[:, :, 0])
    assert not torch.allclose(turned[:, :, 1], q[:, :, 1])


def test_one_row_of_positions_serves_all(q):
    inv_freq, _ = rope_frequencies(HEAD_DIM)
    positions = torch.tensor([2, 3, 5, 7, 11, 13, 17])
    expected = apply_rope(q, positions.expand(5, 7), inv_freq)
    assert torch.equal(apply_rope(q, positions, inv_freq), expected)
    assert torch.equal(apply_rope(q, positions[None], inv_freq), expected)


def test_rope_computes_half_precision_in_float32(q):
    inv_freq, _ = rope_frequencies(HEAD_DIM)
    half = q.bfloat16()
    turned = apply_rope(half, torch.arange(7), inv_freq)
    assert turned.dtype == torch.bfloat16
    assert torch.equal(turned, apply_rope(half.float(), torch.arange(7), inv_freq).bfloat16())


def test_alibi_slopes_by_hand():
    close(alibi_slopes(1), [2.0**-8])
    close(alibi_slopes(8), [1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32, 1 / 64, 1 / 128, 1 / 256])
    close(alibi_slopes(6), [1 / 4, 1 / 16, 1 / 64, 1 / 256, 1 / 2, 1 / 8])


@pytest.mark.parametrize("heads", [1, 2, 3, 4, 5, 6, 7, 8, 11, 12, 16, 20, 32, 71])
def test_alibi_slopes_are_those_of_bloom(heads):
    bloom = build_alibi_tensor(torch.ones(1, 2), heads, torch.float32)  # slope * key position
    close(alibi_slopes(heads), bloom[:, 0, 1])


def test_t5_buckets_by_hand():
    # 8 buckets to distance 20: 0-3 alone; from 4 on, bucket 4 + floor(4 ln(distance / 4) / ln 5)
    distances = torch.tensor([-2, 0, 1, 3, 4, 5, 6, 8, 9, 13, 14, 19, 20, 21, 1_000_000])
    buckets = [0, 0, 1, 3, 4, 4, 5, 5, 6, 6, 7, 7, 7, 7, 7]
    assert t5_bucket(-distances, buckets=8, max_distance=20).tolist() == buckets
    assert t5_bucket(torch.tensor([-15, -16, -127, -128])).tolist() == [15, 16, 31, 31]


@pytest.mark.parametrize(
    ("buckets", "max_distance"), [(32, 128), (16, 64), (8, 64), (7, 50), (2, 3), (64, 1024)]
)
def test_t5_buckets_are_those_of_t5(buckets, max_distance):
    relative = torch.arange(-2000, 53).view(-1, 1)
    expected = T5Attention._relative_position_bucket(
        relative, bidirectional=False, num_buckets=buckets, max_distance=max_distance
    )
    assert torch.equal(t5_bucket(relative, buckets, max_distance), expected)


def test_t5_buckets_grow_with_distance_and_use_every_bucket():
    buckets = t5_bucket(-torch.arange(500))
    assert (buckets.diff() >= 0).all()
    assert buckets.unique().tolist() == list(range(32))
