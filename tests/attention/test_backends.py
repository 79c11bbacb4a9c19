"""The menu of forms: each computes what it names, FlexAttention draws the same patterns, bad sizes are named."""

from __future__ import annotations

import jaxtyping
import pytest
import torch
from dense import dense, draw

from lcbook.attention.backends import (
    ChunkedPrefill,
    Flex,
    Fused,
    Linear,
    Naive,
    Ring,
    Tiled,
    attention_by,
)
from lcbook.attention.exact import naive
from lcbook.attention.linear import linear_attention
from lcbook.attention.patterns import BigBird, Chunked, Full, Strided, TopBlocks, TopK, Window
from lcbook.formats import label

EXACT = [Naive(), Fused(), Tiled(8), ChunkedPrefill(8), Ring(3)]
STATIC = [
    Full(),
    Window(5),
    Window(3, dilation=2),
    Window(4, globals_at=(0, 7)),
    Strided(3, 4),
    Chunked(5),
    BigBird(4, window=2, random=2, globals=1),
]
CONTENT = [TopK(5), TopBlocks(4, 2)]

# Not compiled, FlexAttention warns that it computes all scores: what a test on a processor wants.
pytestmark = pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")


@pytest.mark.parametrize("form", [*EXACT, Flex(Full())], ids=label)
def test_exact_forms_are_full_attention(form):
    q, k, v = (x.detach() for x in draw((2, 3, 37, 16), (2, 3, 37, 16), (2, 3, 37, 16)))
    torch.testing.assert_close(attention_by(form)(q, k, v), dense(q, k, v, Full()))


@pytest.mark.parametrize("pattern", STATIC, ids=label)
def test_flex_attention_draws_the_same_patterns(pattern):
    q, k, v = (x.detach() for x in draw((2, 3, 37, 16), (2, 3, 37, 16), (2, 3, 37, 16)))
    theirs = attention_by(Flex(pattern))(q, k, v)
    torch.testing.assert_close(attention_by(pattern)(q, k, v), theirs)
    torch.testing.assert_close(dense(q, k, v, pattern), theirs)


@pytest.mark.parametrize("pattern", CONTENT, ids=label)
def test_content_patterns(pattern):
    q, k, v = (x.detach() for x in draw((2, 3, 37, 7), (2, 3, 37, 7), (2, 3, 37, 7)))
    torch.testing.assert_close(attention_by(pattern)(q, k, v), dense(q, k, v, pattern))


def test_linear_is_another_function():
    q, k, v = (x.detach() for x in draw((2, 3, 37, 7), (2, 3, 37, 7), (2, 3, 37, 7)))
    ours = attention_by(Linear(8))(q, k, v)
    assert torch.equal(ours, linear_attention(q, k, v, chunk=8))
    assert not torch.allclose(ours, naive(q, k, v), atol=0.1)


def test_sizes_reach_the_functions():
    for form, name, size in [
        (Tiled(8), "tile", 8),
        (ChunkedPrefill(9), "chunk", 9),
        (Ring(3), "devices", 3),
        (Linear(5), "chunk", 5),
    ]:
        assert attention_by(form).keywords == {name: size}


def test_labels_are_distinct():
    forms = [*EXACT, Linear(), Flex(Window(5)), *STATIC, *CONTENT]
    labels = [label(form) for form in forms]
    assert len(set(labels)) == len(labels)
    assert labels[:7] == [
        "naive",
        "fused",
        "tiles of 8",
        "prefill in chunks of 8",
        "ring of 3",
        "linear",
        "Flex: window 5",
    ]
    assert label(Window(5)) == "window 5"


@pytest.mark.parametrize(
    ("make", "name"), [(Tiled, "tile"), (ChunkedPrefill, "chunk"), (Ring, "devices"), (Linear, "chunk")]
)
def test_bad_sizes_are_named(make, name):
    with pytest.raises(ValueError, match=f"{name} is 0; allowed is 1 or more"):
        make(0)


@pytest.mark.parametrize("pattern", CONTENT, ids=label)
def test_flex_takes_no_content_pattern(pattern, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # its check of types would come first
    with pytest.raises(ValueError, match=r"pattern is Top.*; allowed is a static one"):
        Flex(pattern)


def test_a_pattern_that_does_not_fit_the_text_is_named():
    q, k, v = draw((1, 1, 7, 16), (1, 1, 7, 16), (1, 1, 7, 16))
    for form in (Window(3, globals_at=(7,)), Flex(Window(3, globals_at=(7,)))):
        with pytest.raises(ValueError, match=r"globals_at is \(7,\); allowed are places from 0 to 6"):
            attention_by(form)(q, k, v)
