"""The bound by counting: a small case enumerated, and bad input."""

from __future__ import annotations

import itertools
import math

import pytest

from lcbook.models.capacity import most_pairs


def test_by_hand():
    # Two keys with one of four values each: 16 bindings, told apart by 4 bits and by no fewer.
    assert most_pairs(1, 4, bits=4) == 2
    assert most_pairs(256, 64) == pytest.approx(256 * 32 / 6)


@pytest.mark.parametrize(("pairs", "values"), [(2, 4), (3, 3), (5, 2)])
def test_no_shorter_code_tells_all_bindings_apart(pairs, values):
    bindings = len(list(itertools.product(range(values), repeat=pairs)))
    enough = math.ceil(math.log2(bindings))
    assert most_pairs(enough, values, bits=1) >= pairs > most_pairs(enough - 1, values, bits=1)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"scalars": 0, "values": 4}, "scalars is 0"),
        ({"scalars": 3, "values": 1}, "values is 1; allowed is 2 or more"),
        ({"scalars": 3, "values": 4, "bits": 0}, "bits is 0; allowed is more than 0"),
    ],
)
def test_bad_sizes(sizes, message):
    with pytest.raises(ValueError, match=message):
        most_pairs(**sizes)
