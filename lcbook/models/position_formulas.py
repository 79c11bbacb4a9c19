"""The mathematics of the position encodings: frequencies, waves, rotations, slopes and buckets.

Pure functions, without state or randomness. `position_specs` holds the parameters.
"""

from __future__ import annotations

import math
from typing import assert_never

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lcbook.models.position_specs import (
    NTK,
    Dynamic,
    Linear,
    Llama3,
    LongRoPE,
    Scaling,
    YaRN,
    require,
    require_base,
    require_buckets,
    require_count,
    require_even,
    require_scaling,
)


def inverse_frequencies(dim: int, base: float) -> Float[Tensor, " pairs"]:
    """The geometric ladder base^(-2i/dim), i = 0 .. dim/2 - 1, in radians a token (float64).

    Source: Vaswani et al. 2017, section 3.5; Su et al. 2104.09864, eq. 15.
    """
    return base ** (-torch.arange(0, dim, 2, dtype=torch.float64) / dim)


def rope_frequencies(
    head_dim: int, base: float = 10_000.0, scaling: Scaling | None = None, *, length: int | None = None
) -> tuple[Float[Tensor, " pairs"], float]:
    """RoPE's head_dim / 2 frequencies (radians a token, float32), and the factor by which q and k both grow.

    `length` is the current length in tokens; only Dynamic and LongRoPE read it (None: the original length).
    Raises ValueError for an odd head_dim, for head_dim 2 with NTK or Dynamic, for a base <= 1, for what is no
    Scaling, and where LongRoPE does not have head_dim / 2 factors.
    Source: Su et al. 2104.09864, eq. 15; the scalings' own.
    """
    require_even("head_dim", head_dim)
    require_base(base)
    require_scaling(scaling)
    require(length is None or length >= 1, "length", length, "None or an integer >= 1")
    inv_freq, attention_factor = inverse_frequencies(head_dim, base), 1.0
    match scaling:
        case None:
            pass
        case Linear(factor):
            inv_freq = inv_freq / factor
        case NTK(factor):
            inv_freq = inverse_frequencies(head_dim, _stretched_base(head_dim, base, factor))
        case Dynamic(factor, original):
            stretch = factor * max(length or original, original) / original - (factor - 1)
            inv_freq = inverse_frequencies(head_dim, _stretched_base(head_dim, base, stretch))
        case YaRN(factor, attention_factor=given):
            inv_freq = _yarn(inv_freq, base, scaling)
            attention_factor = 0.1 * math.log(factor) + 1 if given is None else given
        case LongRoPE(short, long, original, factor, given):
            divisors = short if length is None or length <= original else long
            pairs = head_dim // 2
            require(
                len(divisors) == pairs, "short_factor", short, f"a tuple of head_dim / 2 = {pairs} numbers"
            )
            inv_freq = inv_freq / torch.tensor(divisors, dtype=torch.float64)
            attention_factor = (
                math.sqrt(1 + math.log(factor) / math.log(original)) if given is None else given
            )
        case Llama3(factor, low, high, original):
            turns = original * inv_freq / (2 * math.pi)
            kept = ((turns - low) / (high - low)).clamp(0, 1)
            inv_freq = inv_freq * (kept + (1 - kept) / factor)
        case _:
            assert_never(scaling)
    return inv_freq.float(), float(attention_factor)


def _stretched_base(head_dim: int, base: float, stretch: float) -> float:
    require(head_dim > 2, "head_dim", head_dim, "at least 4 for NTK-aware scaling")
    return base * stretch ** (head_dim / (head_dim - 2))


def _yarn(inv_freq: Float[Tensor, " pairs"], base: float, scaling: YaRN) -> Float[Tensor, " pairs"]:
    """Divided frequencies beyond the pair with beta_slow turns, kept ones before that with beta_fast."""
    pairs = len(inv_freq)

    def pair_with(turns: float) -> float:
        return pairs * math.log(scaling.original_length / (turns * 2 * math.pi)) / math.log(base)

    low = max(math.floor(pair_with(scaling.beta_fast)), 0)
    high = min(math.ceil(pair_with(scaling.beta_slow)), 2 * pairs - 1)
    span = max(high - low, 1)  # 1 where both ends fall on one pair: a step after it
    divided = ((torch.arange(pairs, dtype=torch.float64) - low) / span).clamp(0, 1)
    return inv_freq * (1 - divided + divided / scaling.factor)


def rotation(
    positions: Int[Tensor, "*rows"], inv_freq: Float[Tensor, " pairs"], dtype: torch.dtype
) -> tuple[Float[Tensor, "*rows pairs"], Float[Tensor, "*rows pairs"]]:
    """cos and sin of the angles positions * inv_freq, in `dtype`.

    Whole turns are dropped in float64 first, so that a position of a million is as exact as position 1.
    """
    home = positions.device
    exact = torch.device("cpu") if home.type == "mps" else home  # Apple's GPUs have no float64
    turns = positions.to(exact).double()[..., None] * (inv_freq.to(exact).double() / (2 * math.pi))
    angles = ((turns - turns.round()) * (2 * math.pi)).to(dtype).to(home)
    return angles.cos(), angles.sin()


def sinusoidal(
    positions: Int[Tensor, "*rows"], width: int, base: float = 10_000.0
) -> Float[Tensor, "*rows {width}"]:
    """Channel 2i is sin(position / base^(2i/width)), channel 2i + 1 its cosine (the paper's layout).

    float32, amplitude 1. Raises ValueError for an odd width.  Source: Vaswani et al. 2017, section 3.5.
    """
    require_even("width", width)
    require_base(base)
    cos, sin = rotation(positions, inverse_frequencies(width, base), torch.float32)
    return torch.stack((sin, cos), dim=-1).flatten(-2)


def apply_rope(
    x: Float[Tensor, "b h t d"],
    positions: Int[Tensor, "#b t"] | Int[Tensor, " t"],
    inv_freq: Float[Tensor, " pairs"],
) -> Float[Tensor, "b h t d"]:
    """Turn pair (x_i, x_{i + d/2}) of q or k by positions * inv_freq[i] radians (half-split, as Llama).

    One row of positions serves all sequences. Computed in float32 at least, returned in x's dtype. Raises
    ValueError unless inv_freq has d/2 numbers.  Source: Su et al. 2104.09864, eq. 34, in Llama's layout.
    """
    pairs = x.shape[-1] / 2
    require(len(inv_freq) == pairs, "inv_freq", inv_freq, f"a vector of d/2 = {pairs:g} numbers")
    return rotate(x, *rope_table(positions, inv_freq, x.dtype))


def rope_table(
    positions: Int[Tensor, "*rows"],
    inv_freq: Float[Tensor, " pairs"],
    dtype: torch.dtype,
    factor: float = 1.0,
) -> tuple[Float[Tensor, "*rows d"], Float[Tensor, "*rows d"]]:
    """What `rotate` multiplies by: (cos, cos) and (-sin, sin), times `factor`, in float32 at least."""
    cos, sin = rotation(positions, inv_freq, torch.promote_types(dtype, torch.float32))
    return factor * torch.cat((cos, cos), dim=-1), factor * torch.cat((-sin, sin), dim=-1)


def rotate(
    x: Float[Tensor, "b h t d"], cos: Float[Tensor, "*rows d"], sin: Float[Tensor, "*rows d"]
) -> Float[Tensor, "b h t d"]:
    """Turn pair (x_i, x_{i + d/2}) by the angles of a `rope_table`, whose rows are t, [1, t] or [b, t]."""
    first, second = x.chunk(2, dim=-1)
    swapped = torch.cat((second, first), dim=-1)
    return (x * cos.unsqueeze(-3) + swapped * sin.unsqueeze(-3)).to(x.dtype)


def alibi_slopes(heads: int) -> Float[Tensor, " h"]:
    """Slopes 2^(-8i / heads) of heads i = 1 .. `heads`, in score a token.

    Where `heads` is no power of two: those of the power below, then every second slope of the power above.
    Source: Press et al. 2108.12409, section 3, and their published code.
    """
    require_count("heads", heads)
    power = 1 << (heads.bit_length() - 1)
    exponents = [8 * i / power for i in range(1, power + 1)]
    exponents += [4 * i / power for i in range(1, 2 * (heads - power), 2)]
    return torch.tensor([2.0**-exponent for exponent in exponents])


def t5_bucket(
    relative: Int[Tensor, "*shape"], buckets: int = 32, max_distance: int = 128
) -> Int[Tensor, "*shape"]:
    """Bucket of `relative` = key position - query position, 0 for the token itself and for the future.

    A distance below buckets // 2 has its own bucket; longer ones share buckets of equal width in the
    logarithm, and all from `max_distance` on the last.
    Source: Raffel et al. 1910.10683, section 2.1, and their code for causal attention.
    """
    require_buckets(buckets, max_distance)
    exact = buckets // 2
    distance = (-relative).clamp(min=0)
    fraction = torch.log(distance.clamp(min=exact).float() / exact) / math.log(max_distance / exact)
    shared = (exact + (fraction * (buckets - exact)).long()).clamp(max=buckets - 1)
    return torch.where(distance < exact, distance, shared)
