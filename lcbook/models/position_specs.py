"""The menu of position encodings: a frozen dataclass of parameters for each.

The mathematics is in `position_formulas`, the module that a model holds in `positions`. Lengths are in
tokens.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from lcbook.attention.own import POSITION, Own, is_own
from lcbook.formats import label


def require(ok: bool, argument: str, value: object, allowed: str) -> None:
    """Raise ValueError("<argument> must be <allowed>, got <value>") unless `ok`."""
    if not ok:
        raise ValueError(f"{argument} must be {allowed}, got {value!r}")


def require_count(argument: str, value: int, least: int = 1) -> None:
    """Raise ValueError unless `value` is at least `least`."""
    require(value >= least, argument, value, f"an integer >= {least}")


def require_even(argument: str, size: int) -> None:
    """Raise ValueError unless `size` channels can be taken in pairs."""
    require(size >= 2 and size % 2 == 0, argument, size, "a positive even integer (channels form pairs)")


def require_base(base: float) -> None:
    """Raise ValueError unless `base` is finite and above 1, so that wavelengths grow from pair to pair."""
    require(math.isfinite(base) and base > 1, "base", base, "a finite number > 1")


def require_buckets(buckets: int, max_distance: int) -> None:
    """Raise ValueError unless T5's logarithmic half of the buckets has a distance to span."""
    require_count("buckets", buckets, least=2)
    half = buckets // 2
    require(max_distance > half, "max_distance", max_distance, f"more than buckets // 2 = {half}")


def require_scaling(scaling: object) -> None:
    """Raise ValueError unless `scaling` is None or one of the ways to stretch RoPE."""
    ok = scaling is None or isinstance(scaling, Scaling)
    require(ok, "scaling", scaling, "None, Linear, NTK, Dynamic, YaRN, LongRoPE or Llama3")


def _require_factor(factor: float) -> None:
    require(math.isfinite(factor) and factor >= 1, "factor", factor, "a finite number >= 1")


def _require_attention_factor(value: float | None) -> None:
    ok = value is None or (math.isfinite(value) and value > 0)
    require(ok, "attention_factor", value, "None or a positive number")


@dataclass(frozen=True)
class Linear:
    """Position interpolation (PI): every frequency is divided by `factor`.

    Source: Chen et al. 2306.15595, section 2.
    """

    label: ClassVar[str] = "PI"
    factor: float

    def __post_init__(self) -> None:
        _require_factor(self.factor)


@dataclass(frozen=True)
class NTK:
    """NTK-aware: base * factor^(d/(d-2)), which keeps the fastest pair and divides the slowest by `factor`.

    Source: bloc97 2023; Peng et al. 2309.00071, definition 1.
    """

    label: ClassVar[str] = "NTK"
    factor: float

    def __post_init__(self) -> None:
        _require_factor(self.factor)


@dataclass(frozen=True)
class Dynamic:
    """Dynamic NTK: no change up to `original_length`, then NTK-aware with a stretch that grows.

    base * (factor * length / original_length - (factor - 1))^(d/(d-2)).
    Source: emozilla 2023, as in transformers.
    """

    label: ClassVar[str] = "dynamic NTK"
    factor: float
    original_length: int

    def __post_init__(self) -> None:
        _require_factor(self.factor)
        require_count("original_length", self.original_length)


@dataclass(frozen=True)
class YaRN:
    """NTK by parts, decided by how often a pair turns in `original_length` tokens.

    More than `beta_fast` turns: kept. Fewer than `beta_slow`: divided by `factor`. Between: a ramp linear in
    the pair. q and k grow by `attention_factor` (None: 0.1 ln(factor) + 1).
    Source: Peng et al. 2309.00071, section 3.
    """

    label: ClassVar[str] = "YaRN"
    factor: float
    original_length: int
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    attention_factor: float | None = None

    def __post_init__(self) -> None:
        _require_factor(self.factor)
        require_count("original_length", self.original_length)
        slow, fast = self.beta_slow, self.beta_fast
        require(0 < slow < fast, "beta_slow", slow, f"positive and below beta_fast = {fast}")
        _require_attention_factor(self.attention_factor)


@dataclass(frozen=True)
class LongRoPE:
    """A searched divisor for each pair: `short_factor` up to `original_length` tokens, `long_factor` beyond.

    `factor` is the extended window over the original one; q and k grow by `attention_factor`
    (None: sqrt(1 + ln(factor) / ln(original_length))).
    Source: Ding et al. 2402.13753, section 3; the growth as in Phi-3.
    """

    label: ClassVar[str] = "LongRoPE"
    short_factor: tuple[float, ...]
    long_factor: tuple[float, ...]
    original_length: int
    factor: float
    attention_factor: float | None = None

    def __post_init__(self) -> None:
        for name, values in (("short_factor", self.short_factor), ("long_factor", self.long_factor)):
            ok = len(values) > 0 and all(math.isfinite(value) and value > 0 for value in values)
            require(ok, name, values, "a non-empty tuple of positive numbers")
        pairs = len(self.short_factor)
        require(
            len(self.long_factor) == pairs, "long_factor", self.long_factor, f"{pairs} long, as short_factor"
        )
        require_count("original_length", self.original_length, least=2)
        _require_factor(self.factor)
        _require_attention_factor(self.attention_factor)


@dataclass(frozen=True)
class Llama3:
    """By parts, as YaRN, with the ramp linear in the number of turns in `original_length` tokens.

    More than `high_freq_factor` turns: kept. Fewer than `low_freq_factor`: divided by `factor`.
    Source: Llama 3.1's published code; Grattafiori et al. 2407.21783.
    """

    label: ClassVar[str] = "Llama 3"
    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_length: int

    def __post_init__(self) -> None:
        _require_factor(self.factor)
        require_count("original_length", self.original_length)
        low, high = self.low_freq_factor, self.high_freq_factor
        require(0 < low < high, "low_freq_factor", low, f"positive and below high_freq_factor = {high}")


Scaling = Linear | NTK | Dynamic | YaRN | LongRoPE | Llama3


@dataclass(frozen=True)
class NoPosition:
    """No encoding (NoPE): order reaches the model through the causal mask alone.

    Source: Kazemnejad et al. 2305.19466.
    """

    label: ClassVar[str] = "none"


@dataclass(frozen=True)
class Sinusoidal:
    """Fixed waves of amplitude 1, added to the input.  Source: Vaswani et al. 2017, section 3.5."""

    label: ClassVar[str] = "sinusoidal"
    base: float = 10_000.0

    def __post_init__(self) -> None:
        require_base(self.base)


@dataclass(frozen=True)
class Learned:
    """A trained vector for each of `length` positions, added to the input; there is none beyond.

    Drawn as strong as the tokens enter the model, as in GPT-2.  Source: Radford et al. 2019.
    """

    label: ClassVar[str] = "learned"
    length: int

    def __post_init__(self) -> None:
        require_count("length", self.length)


@dataclass(frozen=True)
class RoPE:
    """Rotate pairs of q and k by angles proportional to position.  Source: Su et al. 2104.09864."""

    base: float = 10_000.0
    scaling: Scaling | None = None

    def __post_init__(self) -> None:
        require_base(self.base)
        require_scaling(self.scaling)

    @property
    def label(self) -> str:
        """What figures and tables call it, for example "RoPE + YaRN"."""
        return "RoPE" if self.scaling is None else f"RoPE + {self.scaling.label}"


@dataclass(frozen=True)
class ALiBi:
    """Lower each score by a slope (score a token, fixed, one for each head) times its distance.

    `slope` None: the paper's slopes; a number: these, scaled so that the first head has exactly `slope`.
    Source: Press et al. 2108.12409, section 3.
    """

    label: ClassVar[str] = "ALiBi"
    slope: float | None = None

    def __post_init__(self) -> None:
        ok = self.slope is None or (math.isfinite(self.slope) and self.slope > 0)
        require(ok, "slope", self.slope, "None or a positive number")


@dataclass(frozen=True)
class T5Bias:
    """A trained bias for each head and bucket of distances, shared by all layers.

    Distances from `max_distance` on share the last bucket. Drawn with standard deviation width^-0.5, as T5's.
    Source: Raffel et al. 1910.10683, section 2.1.
    """

    label: ClassVar[str] = "T5 bias"
    buckets: int = 32
    max_distance: int = 128

    def __post_init__(self) -> None:
        require_buckets(self.buckets, self.max_distance)


Plain = NoPosition | Sinusoidal | Learned | RoPE | ALiBi | T5Bias


@dataclass(frozen=True)
class Randomized:
    """Feed `inner` a sorted random subset of 0 .. max_length - 1 in place of 0, 1, 2, ...

    Source: Ruoss et al. 2305.16843, section 3.
    """

    inner: Plain | Own
    max_length: int

    def __post_init__(self) -> None:
        ok = isinstance(self.inner, Plain) or is_own(self.inner, *POSITION)
        require(ok, "inner", self.inner, "an encoding other than Randomized, of the menu or one's own")
        require_count("max_length", self.max_length)
        if isinstance(self.inner, Learned):
            rows = self.inner.length
            require(
                self.max_length <= rows,
                "max_length",
                self.max_length,
                f"<= {rows}, the learned table's length",
            )

    @property
    def label(self) -> str:
        """What figures and tables call it, for example "RoPE randomized"."""
        return f"{label(self.inner)} randomized"


Position = Plain | Randomized
