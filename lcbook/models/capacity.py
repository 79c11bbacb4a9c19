"""How many pairs a state can hold at most: a bound by counting."""

from __future__ import annotations

import math

from lcbook.attention.exact import positive


def most_pairs(scalars: int, values: int, bits: float | int = 32) -> float:
    """Return the most pairs whose values can be told from a state of `scalars` numbers of `bits` bits each.

    n keys with one of `values` values each can be bound in values^n ways, and a state from which every binding can
    be read must differ between all of them, so n log2(values) <= scalars * bits. What the keys are costs extra.
    Raises ValueError for fewer than 1 scalar, 2 values, or bits of 0 or less.
    """
    positive(scalars=scalars)
    if values < 2:
        raise ValueError(f"values is {values}; allowed is 2 or more.")
    if not bits > 0:
        raise ValueError(f"bits is {bits}; allowed is more than 0.")
    return scalars * bits / math.log2(values)
