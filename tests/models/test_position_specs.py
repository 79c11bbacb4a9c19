"""The menu of encodings: every parameter out of range is one sentence that names it."""

from __future__ import annotations

import dataclasses

import pytest

from lcbook.models.position_formulas import rope_frequencies
from lcbook.models.position_specs import (
    NTK,
    ALiBi,
    Dynamic,
    Learned,
    Linear,
    Llama3,
    LongRoPE,
    Randomized,
    RoPE,
    Sinusoidal,
    T5Bias,
    YaRN,
)

BAD = [
    (lambda: Linear(0.5), "factor must be a finite number >= 1, got 0.5"),
    (lambda: Linear(float("inf")), "factor"),
    (lambda: NTK(float("nan")), "factor"),
    (lambda: NTK(0.0), "factor"),
    (lambda: Dynamic(-2.0, 128), "factor"),
    (lambda: Dynamic(2.0, 0), "original_length must be an integer >= 1, got 0"),
    (lambda: YaRN(0.9, 128), "factor"),
    (lambda: YaRN(4.0, -1), "original_length"),
    (lambda: YaRN(4.0, 128, beta_fast=1.0, beta_slow=1.0), "beta_slow"),
    (lambda: YaRN(4.0, 128, beta_slow=0.0), "beta_slow"),
    (lambda: YaRN(4.0, 128, attention_factor=0.0), "attention_factor must be None or a positive number"),
    (lambda: LongRoPE((1.0, 2.0), (1.0,), 128, 4.0), "long_factor must be 2 long"),
    (lambda: LongRoPE((), (), 128, 4.0), "short_factor"),
    (lambda: LongRoPE((1.0,), (0.0,), 128, 4.0), "long_factor"),
    (lambda: LongRoPE((1.0,), (1.0,), 1, 4.0), "original_length must be an integer >= 2, got 1"),
    (lambda: LongRoPE((1.0,), (1.0,), 128, 0.5), "factor"),
    (lambda: LongRoPE((1.0,), (1.0,), 128, 4.0, attention_factor=-1.0), "attention_factor"),
    (lambda: Llama3(0.0, 1.0, 4.0, 128), "factor"),
    (lambda: Llama3(8.0, 4.0, 4.0, 128), "low_freq_factor must be positive and below high_freq_factor = 4"),
    (lambda: Llama3(8.0, 0.0, 4.0, 128), "low_freq_factor"),
    (lambda: Llama3(8.0, 1.0, 4.0, 0), "original_length"),
    (lambda: Sinusoidal(base=1.0), "base must be a finite number > 1, got 1.0"),
    (lambda: RoPE(base=float("inf")), "base"),
    (lambda: RoPE(base=-10.0), "base"),
    (lambda: Learned(length=0), "length must be an integer >= 1, got 0"),
    (lambda: ALiBi(slope=0.0), "slope must be None or a positive number, got 0.0"),
    (lambda: ALiBi(slope=float("nan")), "slope"),
    (lambda: T5Bias(buckets=1), "buckets must be an integer >= 2, got 1"),
    (lambda: T5Bias(buckets=32, max_distance=16), "max_distance must be more than buckets // 2 = 16, got 16"),
    (lambda: Randomized(RoPE(), max_length=0), "max_length must be an integer >= 1, got 0"),
    (
        lambda: Randomized(Learned(length=7), max_length=8),
        "max_length must be <= 7, the learned table's length",
    ),
]


@pytest.mark.parametrize(
    ("make", "message"), BAD, ids=[message.split()[0] + str(i) for i, (_, message) in enumerate(BAD)]
)
def test_a_parameter_out_of_range_is_named(make, message):
    with pytest.raises(ValueError, match=message.replace("(", r"\(")) as caught:
        make()
    assert "must be" in str(caught.value)
    assert ", got " in str(caught.value)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Linear(1.0),
        lambda: NTK(1.0),
        lambda: Dynamic(1.0, 1),
        lambda: YaRN(1.0, 1),
        lambda: LongRoPE((1.0,), (1.0,), 2, 1.0),
        lambda: Llama3(1.0, 1.0, 4.0, 1),
        lambda: Learned(1),
        lambda: T5Bias(buckets=2, max_distance=2),
        lambda: Randomized(Learned(length=7), max_length=7),
    ],
)
def test_the_smallest_allowed_parameters_are_allowed(make):
    assert make() == make()


@pytest.mark.parametrize(
    "make",
    [
        lambda: Randomized(Randomized(RoPE(), 8), 8),  # type: ignore[arg-type]
        lambda: Randomized(Linear(2.0), 8),  # type: ignore[arg-type]
        lambda: RoPE(scaling=ALiBi()),  # type: ignore[arg-type]
        lambda: rope_frequencies(8, scaling=ALiBi()),  # type: ignore[arg-type]
    ],
)
def test_parts_of_the_wrong_kind_are_refused(make):
    with pytest.raises((ValueError, TypeError), match=r"inner|scaling"):  # TypeError if jaxtyping looks first
        make()


def test_specs_are_values():
    assert RoPE(scaling=YaRN(4.0, 128)) == RoPE(scaling=YaRN(4.0, 128))
    assert len({RoPE(), RoPE(), RoPE(base=100.0), ALiBi()}) == 3
    with pytest.raises(dataclasses.FrozenInstanceError):
        RoPE().base = 3.0  # type: ignore[misc]


def test_defaults_are_those_of_the_papers():
    assert Sinusoidal() == Sinusoidal(base=10_000.0)
    assert RoPE() == RoPE(base=10_000.0, scaling=None)
    assert T5Bias() == T5Bias(buckets=32, max_distance=128)
    assert YaRN(4.0, 128) == YaRN(4.0, 128, beta_fast=32.0, beta_slow=1.0, attention_factor=None)
    assert ALiBi() == ALiBi(slope=None)
