"""Names, draws, and the module that a model holds."""

from __future__ import annotations

import math

import pytest
import torch
from transformers import LlamaConfig, T5Config
from transformers.models.bloom.modeling_bloom import build_alibi_tensor
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding, apply_rotary_pos_emb
from transformers.models.t5.modeling_t5 import T5Attention

from lcbook.formats import label
from lcbook.models.positions import (
    NTK,
    ALiBi,
    Dynamic,
    Learned,
    Linear,
    Llama3,
    LongRoPE,
    NoPosition,
    Position,
    PositionEncoding,
    Randomized,
    RoPE,
    Sinusoidal,
    T5Bias,
    YaRN,
    alibi_slopes,
    apply_rope,
    draw_positions,
    rope_frequencies,
    sinusoidal,
    t5_bucket,
)

B, T, S, H, G, D = 5, 7, 11, 6, 3, 22
WIDTH = H * D
FACTORS = tuple(1 + 0.1 * i for i in range(D // 2))
LONG_FACTORS = tuple(1 + 3.0 * i for i in range(D // 2))
LABELS: list[tuple[Position, str]] = [
    (NoPosition(), "none"),
    (Sinusoidal(), "sinusoidal"),
    (Learned(64), "learned"),
    (RoPE(base=500_000.0), "RoPE"),
    (RoPE(scaling=Linear(4.0)), "RoPE + PI"),
    (RoPE(scaling=NTK(4.0)), "RoPE + NTK"),
    (RoPE(scaling=Dynamic(4.0, 5)), "RoPE + dynamic NTK"),
    (RoPE(scaling=YaRN(4.0, 128)), "RoPE + YaRN"),
    (RoPE(scaling=LongRoPE(FACTORS, LONG_FACTORS, 5, 4.0)), "RoPE + LongRoPE"),
    (RoPE(scaling=Llama3(8.0, 1.0, 4.0, 128)), "RoPE + Llama 3"),
    (ALiBi(), "ALiBi"),
    (T5Bias(), "T5 bias"),
    (Randomized(RoPE(), 64), "RoPE randomized"),
    (Randomized(RoPE(scaling=NTK(2.0)), 64), "RoPE + NTK randomized"),
    (Randomized(Sinusoidal(), 64), "sinusoidal randomized"),
]
ALL = [position for position, _ in LABELS]
IDS = [text for _, text in LABELS]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def module(position: Position, seed: int = 0) -> PositionEncoding:
    return PositionEncoding(position, width=WIDTH, heads=H, head_dim=D, generator=seeded(seed))


@pytest.fixture
def x():
    return torch.randn(B, T, WIDTH, generator=seeded(1))


@pytest.fixture
def qk():
    return torch.randn(B, H, T, D, generator=seeded(2)), torch.randn(B, G, S, D, generator=seeded(3))


def close(actual: torch.Tensor, expected: torch.Tensor, tolerance: float = 1e-6) -> None:
    torch.testing.assert_close(actual, expected, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize(("position", "text"), LABELS, ids=IDS)
def test_labels(position, text):
    assert label(position) == text


@pytest.mark.parametrize("position", [NoPosition(), RoPE(), Learned(T), ALiBi()], ids=label)
def test_positions_count_from_zero(position):
    positions = draw_positions(position, B, T, None)
    assert positions.tolist() == [list(range(T))] * B
    assert positions.dtype == torch.int64


def test_randomized_positions_are_sorted_subsets_of_their_range():
    positions = draw_positions(Randomized(RoPE(), 41), 997, 13, seeded())
    assert positions.shape == (997, 13)
    assert (positions.diff(dim=-1) > 0).all()
    assert positions.min() == 0
    assert positions.max() == 40
    assert len(positions.unique(dim=0)) == 997


def test_every_position_is_drawn_equally_often():
    rows, most, length = 20_000, 23, 5
    counts = (
        draw_positions(Randomized(RoPE(), most), rows, length, seeded()).flatten().bincount(minlength=most)
    )
    share = length / most
    deviation = math.sqrt(rows * share * (1 - share))
    assert ((counts - rows * share).abs() < 4.5 * deviation).all()


def test_draws_come_from_the_generator_alone():
    position = Randomized(Sinusoidal(), 1000)
    first = draw_positions(position, B, T, seeded(3))
    torch.manual_seed(99)
    assert torch.equal(draw_positions(position, B, T, seeded(3)), first)
    assert not torch.equal(draw_positions(position, B, T, seeded(4)), first)


def test_a_full_draw_is_the_whole_range():
    assert draw_positions(Randomized(RoPE(), T), 2, T, seeded()).tolist() == [list(range(T))] * 2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: draw_positions(Randomized(RoPE(), 6), B, T, seeded()), "length must be <= 6, .* got 7"),
        (lambda: draw_positions(Learned(6), B, T, seeded()), "length must be <= 6, .* got 7"),
        (lambda: draw_positions(Randomized(RoPE(), 64), B, T, None), "generator must be a torch.Generator"),
        (lambda: draw_positions(RoPE(), 0, T, None), "batch must be an integer >= 1, got 0"),
        (lambda: draw_positions(RoPE(), B, 0, None), "length must be an integer >= 1, got 0"),
        (lambda: PositionEncoding(RoPE(), width=9, heads=3, head_dim=3), "head_dim must be a positive even"),
        (lambda: PositionEncoding(Randomized(RoPE(), 9), width=9, heads=3, head_dim=3), "head_dim"),
        (
            lambda: PositionEncoding(Sinusoidal(), width=9, heads=3, head_dim=3),
            "width must be a positive even",
        ),
        (
            lambda: PositionEncoding(ALiBi(), width=9, heads=0, head_dim=3),
            "heads must be an integer >= 1, got 0",
        ),
        (
            lambda: PositionEncoding(NoPosition(), width=0, heads=1, head_dim=3),
            "width must be an integer >= 1",
        ),
        (
            lambda: PositionEncoding(NoPosition(), width=1, heads=1, head_dim=-2),
            "head_dim must be an integer >= 1",
        ),
        (
            lambda: module(Learned(6)).add(torch.ones(1, T, WIDTH), torch.arange(T)[None]),
            "positions must be below 6",
        ),
        (lambda: module(Learned(6)).add(torch.ones(1, 1, WIDTH), torch.tensor([[6]])), "positions .* got 6"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("position", ALL, ids=IDS)
def test_an_encoding_acts_at_one_point(position, x, qk):
    encoding, (q, k) = module(position), qk
    at, of = draw_positions(position, B, T, seeded(4)), draw_positions(position, B, S, seeded(5))
    turned_q, turned_k = encoding.rotate(q, k, at, of)
    acts = {
        "add": not torch.equal(encoding.add(x, at), x),
        "rotate": not torch.equal(turned_q, q) and not torch.equal(turned_k, k),
        "bias": encoding.bias(at, of) is not None,
    }
    kind = label(position).split()[0]
    where = {
        "sinusoidal": "add",
        "learned": "add",
        "RoPE": "rotate",
        "ALiBi": "bias",
        "T5": "bias",
        "none": None,
    }
    assert [point for point, does in acts.items() if does] == [where[kind]] * (kind != "none")


@pytest.mark.parametrize("position", ALL, ids=IDS)
def test_shared_rows_give_what_repeated_rows_give(position, x, qk):
    encoding, (q, k) = module(position), qk
    at, of = torch.arange(2, 2 + T)[None], torch.arange(S)[None]
    for shared_at, shared_of in ((at, of), (at.expand(B, T), of.expand(B, S)), (at, of.repeat(B, 1))):
        torch.testing.assert_close(encoding.add(x, shared_at), encoding.add(x, at.repeat(B, 1)))
        rotated = encoding.rotate(q, k, shared_at, shared_of)
        for turned, alone in zip(
            rotated, encoding.rotate(q, k, at.repeat(B, 1), of.repeat(B, 1)), strict=True
        ):
            assert torch.equal(turned, alone)
        bias, expected = encoding.bias(shared_at, shared_of), encoding.bias(at.repeat(B, 1), of.repeat(B, 1))
        if bias is None or expected is None:
            assert bias is expected is None
        else:
            assert bias.shape == (max(len(shared_at), len(shared_of)), H, T, S)
            assert torch.equal(bias.expand(B, H, T, S), expected)


@pytest.mark.parametrize("position", [RoPE(), ALiBi(), T5Bias(), RoPE(scaling=YaRN(4.0, 128))], ids=label)
def test_relative_encodings_ignore_a_common_shift(position, qk):
    encoding, (q, k) = module(position), qk

    def scores(shift: int) -> torch.Tensor:
        at, of = torch.arange(T)[None] + 4 + shift, torch.arange(S)[None] + shift
        turned_q, turned_k = encoding.rotate(q, k, at, of)
        bias = encoding.bias(at, of)
        return turned_q @ turned_k.repeat_interleave(2, dim=1).mT + (0 if bias is None else bias)

    close(scores(1_000_000), scores(0), tolerance=5e-5)


def test_sinusoidal_adds_its_waves(x):
    positions = torch.randint(0, 1000, (B, T), generator=seeded(6))
    close(module(Sinusoidal(base=100.0)).add(x, positions), x + sinusoidal(positions, WIDTH, 100.0))


def test_learned_adds_rows_of_its_table(x):
    encoding = module(Learned(997))
    positions = torch.randint(0, 997, (B, T), generator=seeded(6))
    assert torch.equal(encoding.add(x, positions), x + encoding.table[positions])
    assert encoding.table.std().item() == pytest.approx(0.5, rel=0.02)


def test_tables_come_from_the_generator_and_are_the_only_parameters():
    for position in ALL:
        names = ["table"] if label(position) in ("learned", "T5 bias") else []
        assert list(module(position).state_dict()) == names
    for position in (Learned(64), T5Bias()):
        assert torch.equal(module(position, 3).table, module(position, 3).table)
        assert not torch.equal(module(position, 3).table, module(position, 4).table)
    wide = PositionEncoding(T5Bias(), width=64, heads=101, head_dim=2, generator=seeded())
    assert wide.table.std().item() == pytest.approx(1 / 8, rel=0.05)


ORIGINAL = {"factor": 4.0, "original_max_position_embeddings": 5}
DIVISORS = {"short_factor": list(FACTORS), "long_factor": list(LONG_FACTORS)}


@pytest.mark.parametrize("length", [4, 5, 6, 7])
@pytest.mark.parametrize(
    ("scaling", "parameters", "window"),
    [
        (None, {"rope_type": "default"}, 2048),
        (Linear(4.0), {"rope_type": "linear", "factor": 4.0}, 2048),
        (Dynamic(4.0, 5), {"rope_type": "dynamic", "factor": 4.0}, 5),
        (YaRN(4.0, 5), {"rope_type": "yarn", **ORIGINAL}, 20),
        (LongRoPE(FACTORS, LONG_FACTORS, 5, 4.0), {"rope_type": "longrope", **ORIGINAL, **DIVISORS}, 20),
    ],
    ids=["none", "linear", "dynamic", "yarn", "longrope"],
)
def test_rotated_q_and_k_are_those_of_llama(scaling, parameters, window, length, qk):
    config = LlamaConfig(
        hidden_size=WIDTH,
        num_attention_heads=H,
        head_dim=D,
        max_position_embeddings=window,
        rope_parameters={"rope_theta": 10_000.0, **parameters},
    )
    q, k = qk[0][:, :, :length], qk[1][:, :, :length]
    positions = torch.arange(length)[None]
    cos, sin = LlamaRotaryEmbedding(config)(q, positions)
    expected_q, expected_k = apply_rotary_pos_emb(q, k, cos, sin)
    turned_q, turned_k = module(RoPE(scaling=scaling)).rotate(q, k, positions, positions)
    close(turned_q, expected_q, tolerance=2e-6)
    close(turned_k, expected_k, tolerance=2e-6)


def test_q_and_k_take_their_own_positions_and_both_grow(qk):
    q, k = qk
    scaling = YaRN(4.0, 128, attention_factor=1.5)
    inv_freq, _ = rope_frequencies(D, 500.0, scaling)
    at, of = torch.arange(20, 20 + T)[None], torch.arange(3, 3 + S)[None]
    turned_q, turned_k = module(RoPE(500.0, scaling)).rotate(q, k, at, of)
    close(turned_q, 1.5 * apply_rope(q, at, inv_freq))
    close(turned_k, 1.5 * apply_rope(k, of, inv_freq))


@pytest.mark.parametrize(("at", "of"), [(40, 3), (3, 40)])
def test_dynamic_scaling_reads_the_length_from_the_largest_position(at, of, qk):
    q, k = qk[0][:, :, :1], qk[1][:, :, :1]
    scaling = Dynamic(3.0, 8)
    inv_freq, _ = rope_frequencies(D, 500.0, scaling, length=41)
    turned_q, turned_k = module(RoPE(500.0, scaling)).rotate(q, k, torch.tensor([[at]]), torch.tensor([[of]]))
    close(turned_q, apply_rope(q, torch.tensor([at]), inv_freq))
    close(turned_k, apply_rope(k, torch.tensor([of]), inv_freq))


@pytest.mark.parametrize("heads", [1, 3, 6, 7, 8, 12])
def test_alibi_weights_are_those_of_bloom(heads):
    encoding = PositionEncoding(ALiBi(), width=WIDTH, heads=heads, head_dim=D)
    positions = torch.arange(S)[None]
    future = torch.ones(S, S).triu(1).bool()
    bias = encoding.bias(positions, positions)
    assert bias is not None
    bloom = build_alibi_tensor(torch.ones(1, S), heads, torch.float32)  # equal up to a constant in each row
    close(
        bias[0].masked_fill(future, -math.inf).softmax(-1),
        bloom.expand(heads, S, S).masked_fill(future, -math.inf).softmax(-1),
    )


def test_alibi_falls_linearly_by_its_slope():
    bias = module(ALiBi()).bias(torch.tensor([[100]]), torch.tensor([[100, 99, 97, 0]]))
    assert bias is not None
    close(bias[0, :, 0], -alibi_slopes(H)[:, None] * torch.tensor([0.0, 1.0, 3.0, 100.0]))


def test_alibi_takes_the_slope_of_its_first_head():
    def slopes(slope: float | None, heads: int) -> torch.Tensor:
        encoding = PositionEncoding(ALiBi(slope), width=WIDTH, heads=heads, head_dim=D)
        bias = encoding.bias(torch.tensor([[1]]), torch.tensor([[0]]))
        assert bias is not None
        return -bias.flatten()

    assert slopes(0.3, 1).tolist() == pytest.approx([0.3])
    close(slopes(0.3, 4), 0.3 * torch.tensor([1.0, 1 / 4, 1 / 16, 1 / 64]))
    close(slopes(0.25, 6), slopes(None, 6))


def test_t5_bias_is_that_of_t5():
    encoding = module(T5Bias(buckets=16, max_distance=40))
    config = T5Config(
        d_model=WIDTH,
        num_heads=H,
        d_kv=D,
        is_decoder=True,
        relative_attention_num_buckets=16,
        relative_attention_max_distance=40,
    )
    attention = T5Attention(config, has_relative_attention_bias=True, layer_idx=0)
    attention.relative_attention_bias.weight.data = encoding.table.data
    positions = torch.arange(101)[None]
    bias = encoding.bias(positions, positions)
    assert bias is not None
    close(bias, attention.compute_bias(101, 101))


def test_t5_bias_is_learned_where_its_distances_occur():
    encoding = module(T5Bias(buckets=8, max_distance=20))
    at, of = torch.tensor([[30], [31]]), torch.tensor([[30, 27, 0], [30, 27, 0]])
    bias = encoding.bias(at, of)
    assert bias is not None
    expected = encoding.table[t5_bucket(of[:, None, :] - at[:, :, None], 8, 20)].permute(0, 3, 1, 2)
    assert torch.equal(bias, expected)
    bias.sum().backward()
    assert encoding.table.grad is not None
    assert encoding.table.grad[:, 0].tolist() == [1, 1, 0, 1, 1, 0, 0, 2]  # distances 0 3 30 and 1 4 31


@pytest.mark.parametrize("position", [RoPE(), ALiBi()], ids=label)
def test_a_cast_of_the_module_does_not_round_its_constants(position, qk):
    encoding, (q, k) = module(position), qk
    at, of = torch.arange(T)[None], torch.arange(S)[None]
    before, bias = encoding.rotate(q, k, at, of), encoding.bias(at, of)
    encoding.to(torch.bfloat16)
    assert torch.equal(encoding.rotate(q, k, at, of)[0], before[0])
    after = encoding.bias(at, of)
    assert after is bias is None or (after is not None and bias is not None and torch.equal(after, bias))


@pytest.mark.parametrize("position", ALL, ids=IDS)
def test_hooks_keep_the_dtype_of_what_passes(position, x, qk):
    encoding, (q, k) = module(position), qk
    at, of = draw_positions(position, B, T, seeded()), draw_positions(position, B, S, seeded())
    for dtype in (torch.bfloat16, torch.float64):
        assert encoding.add(x.to(dtype), at).dtype == dtype
        assert [turned.dtype for turned in encoding.rotate(q.to(dtype), k.to(dtype), at, of)] == [
            dtype,
            dtype,
        ]
