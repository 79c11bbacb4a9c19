"""Position encodings: what tells attention the order of its tokens.

An encoding acts at one of three points, and that is its whole interface: it adds to the input, rotates q and
k, or biases the scores. `position_specs` lists the encodings, `position_formulas` has their mathematics (both
are re-exported here), and `PositionEncoding` is the module that a model holds. What a reader's own looks like
is in `lcbook.attention.own`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from lcbook.attention.own import POSITION, Own, is_own, method
from lcbook.models.position_formulas import (
    alibi_slopes,
    apply_rope,
    rope_frequencies,
    rope_table,
    rotate,
    sinusoidal,
    t5_bucket,
)
from lcbook.models.position_specs import (
    NTK,
    ALiBi,
    Dynamic,
    Learned,
    Linear,
    Llama3,
    LongRoPE,
    NoPosition,
    Plain,
    Position,
    Randomized,
    RoPE,
    Scaling,
    Sinusoidal,
    T5Bias,
    YaRN,
    require,
    require_count,
    require_even,
)

__all__ = [
    "NTK", "ALiBi", "AnyPosition", "Dynamic", "Learned", "Linear", "Llama3", "LongRoPE", "NoPosition",
    "Position", "PositionEncoding", "Randomized", "RoPE", "Scaling", "Sinusoidal", "T5Bias", "YaRN", "alibi_slopes",
    "apply_rope", "draw_positions", "longest", "require_position", "rope_frequencies", "sinusoidal",
    "t5_bucket",
]  # fmt: skip


AnyPosition = Position | Own  # one of the menu, or a reader's own (see `lcbook.attention.own`)


def longest(position: AnyPosition) -> int | None:
    """Return the most tokens of a text that an encoding takes; None: any number."""
    match position:
        case Learned(length) | Randomized(max_length=length):
            return length
        case _:
            return None


def require_position(position: object) -> None:
    """Raise ValueError unless `position` is an encoding, of the menu or a reader's own."""
    if not isinstance(position, Position) and not is_own(position, *POSITION):
        raise ValueError(
            f"position is {position!r}; allowed is one of lcbook.models.positions, or a frozen dataclass with a method "
            "add, rotate or bias."
        )


def draw_positions(
    position: AnyPosition,
    batch: int,
    length: int,
    generator: torch.Generator | None,
    device: torch.device | str = "cpu",
) -> Int[Tensor, "b t"]:
    """Positions for `batch` sequences of `length` tokens: 0 .. length - 1, or for Randomized a draw for each.

    A draw is a sorted subset of 0 .. max_length - 1, each equally likely. Rows that are all the same share
    their memory: do not write to them. Raises ValueError where `length` exceeds a learned table or a
    randomized range, or Randomized has no generator.  Source: Ruoss et al. 2305.16843, section 3.
    """
    require_count("batch", batch)
    require_count("length", length)
    match position:
        case Randomized(max_length=most):
            require(length <= most, "length", length, f"<= {most}, the randomized positions' max_length")
            if generator is None:
                raise ValueError("generator must be a torch.Generator for randomized positions, got None")
            keys = torch.rand(batch, most, generator=generator, device=generator.device)
            return keys.topk(length, sorted=False).indices.sort(dim=-1).values.to(device)
        case Learned(length=rows):
            require(length <= rows, "length", length, f"<= {rows}, the learned table's length")
    return torch.arange(length, device=device).expand(batch, length)


def _unique_rows(positions: Int[Tensor, "b t"]) -> Int[Tensor, "rows t"]:
    """One row where all rows are the same memory, as `draw_positions` makes them; else all."""
    return positions[:1] if positions.stride(0) == 0 else positions


# The model's tokens enter with the same standard deviation, as in GPT-2, where both start at 0.02.
TABLE_STD = 0.5


class PositionEncoding(nn.Module):
    """One encoding, shared by all layers: `add` to the input, `rotate` q and k, or `bias` the scores.

    Positions are [b, t], or [1, t] where all sequences share them. Learned and T5Bias have one parameter,
    `table` ([length, width] and [buckets, heads]), drawn from `generator` (None: torch's global one).
    Raises ValueError for sizes below 1, an odd head_dim with RoPE and an odd width with sinusoidal.
    """

    table: nn.Parameter

    def __init__(
        self,
        position: AnyPosition,
        *,
        width: int,
        heads: int,
        head_dim: int,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        for name, size in (("width", width), ("heads", heads), ("head_dim", head_dim)):
            require_count(name, size)
        self.position = position
        self.inner: Plain | Own = position.inner if isinstance(position, Randomized) else position
        self.width, self.attention_factor = width, 1.0
        self._constants: dict[torch.device, Tensor] = {}  # no buffer: a cast of the model must not round them
        match self.inner:
            case NoPosition():
                pass
            case Sinusoidal():
                require_even("width", width)
            case Learned(length):
                self._draw_table(length, width, TABLE_STD, generator)
            case RoPE(base, scaling):
                inv_freq, self.attention_factor = rope_frequencies(head_dim, base, scaling)
                self._constants[inv_freq.device] = inv_freq
            case ALiBi(slope):
                slopes = alibi_slopes(heads)
                self._constants[slopes.device] = slopes if slope is None else slopes * (slope / slopes[0])
            case T5Bias(buckets):
                self._draw_table(buckets, heads, width**-0.5, generator)

    def _draw_table(self, rows: int, columns: int, std: float, generator: torch.Generator | None) -> None:
        self.table = nn.Parameter(torch.empty(rows, columns).normal_(std=std, generator=generator))

    def _constant(self, device: torch.device) -> Tensor:
        """RoPE's frequencies or ALiBi's slopes, copied to each device once."""
        if device not in self._constants:
            self._constants[device] = next(iter(self._constants.values())).to(device)
        return self._constants[device]

    def add(
        self, x: Float[Tensor, "b t width"], positions: Int[Tensor, "#b t"]
    ) -> Float[Tensor, "b t width"]:
        """The embedded tokens plus what the encoding adds to them; ValueError beyond a learned table."""
        rows = _unique_rows(positions)
        match self.inner:
            case Sinusoidal(base):
                return x + sinusoidal(rows, self.width, base).to(x.dtype)
            case Learned(length):
                # Reading the largest position would stall a GPU at every step; there the lookup itself fails.
                largest = positions.shape[-1] - 1 if rows.is_cuda else int(rows.max())
                require(largest < length, "positions", largest, f"below {length}, the learned table's length")
                return x + F.embedding(rows, self.table).to(x.dtype)
            case NoPosition() | RoPE() | ALiBi() | T5Bias():
                return x
            case own:
                add = method(own, "add")
                return add(x, rows) if add else x

    def rotate(
        self,
        q: Float[Tensor, "b h t d"],
        k: Float[Tensor, "b g s d"],
        q_positions: Int[Tensor, "#b t"],
        k_positions: Int[Tensor, "#b s"],
    ) -> tuple[Float[Tensor, "b h t d"], Float[Tensor, "b g s d"]]:
        """q and k, rotated if the encoding is RoPE.

        Dynamic and LongRoPE take the current length from the largest position, so keys of an earlier, shorter
        call have other angles: cache such keys unrotated.
        """
        match self.inner:
            case RoPE(base, scaling):
                inv_freq, factor = self._constant(q.device), self.attention_factor
                if isinstance(scaling, Dynamic | LongRoPE):
                    length = int(torch.maximum(q_positions.max(), k_positions.max())) + 1
                    inv_freq, factor = rope_frequencies(q.shape[-1], base, scaling, length=length)
                k_table = rope_table(_unique_rows(k_positions), inv_freq, k.dtype, factor)
                q_table = k_table
                if q_positions is not k_positions:
                    q_table = rope_table(_unique_rows(q_positions), inv_freq, q.dtype, factor)
                return rotate(q, *q_table), rotate(k, *k_table)
            case NoPosition() | Sinusoidal() | Learned() | ALiBi() | T5Bias():
                return q, k
            case own:
                turn = method(own, "rotate")
                return turn(q, k, _unique_rows(q_positions), _unique_rows(k_positions)) if turn else (q, k)

    def bias(
        self, q_positions: Int[Tensor, "#b t"], k_positions: Int[Tensor, "#b s"]
    ) -> Float[Tensor, "..."] | None:
        """What to add to the scores [b, h, t, s], or None; one row where both position tensors have one row."""
        batch = torch.broadcast_shapes(q_positions.shape[:1], k_positions.shape[:1])
        q_rows, k_rows = _unique_rows(q_positions), _unique_rows(k_positions)
        match self.inner:
            case ALiBi():
                gaps = (q_rows[:, :, None] - k_rows[:, None, :]).abs()
                bias = -self._constant(gaps.device)[:, None, None] * gaps[:, None]
            case T5Bias(buckets, max_distance):
                distances = torch.arange(max_distance + 1, device=q_rows.device)
                by_distance = F.embedding(t5_bucket(-distances, buckets, max_distance), self.table)
                gaps = (q_rows[:, :, None] - k_rows[:, None, :]).clamp(0, max_distance)
                bias = F.embedding(gaps, by_distance).movedim(-1, 1)
            case NoPosition() | Sinusoidal() | Learned() | RoPE():
                return None
            case own:
                added = method(own, "bias")
                return added(q_rows, k_rows) if added else None
        return bias.expand(*batch, -1, -1, -1)
