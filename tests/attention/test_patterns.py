"""Patterns: pictures drawn by hand, the masks of transformers, and what every pattern guarantees."""

from __future__ import annotations

import inspect

import pytest
import torch
from dense import draw, mask_of
from transformers.masking_utils import chunked_causal_mask_function, sliding_window_causal_mask_function

from lcbook.attention.patterns import (
    BigBird,
    Chunked,
    Full,
    Strided,
    TopBlocks,
    TopK,
    Window,
    best_blocks,
    check,
    pattern_mask,
    projection,
    random_blocks,
    reach,
    select,
    selector_scores,
    span,
    visible,
)
from lcbook.formats import label

STATIC = [
    Full(),
    Window(3),
    Window(3, dilation=2),
    Window(2, globals_at=(0, 5)),
    Strided(3, 4),
    Chunked(4),
    BigBird(3, window=1, random=2, globals=1),
]
CONTENT = [TopK(3), TopK(3, selector_width=2), TopBlocks(3, 2)]


def picture(mask):
    return ["".join("#" if seen else "." for seen in row) for row in mask.tolist()]


def test_pictures_by_hand():
    assert picture(pattern_mask(Full(), 3)) == ["#..", "##.", "###"]
    assert picture(pattern_mask(Window(2), 4)) == ["#...", "##..", ".##.", "..##"]
    assert picture(pattern_mask(Window(2, dilation=2), 5)) == ["#....", ".#...", "#.#..", ".#.#.", "..#.#"]
    assert picture(pattern_mask(Window(1, globals_at=(0, 3)), 6)) == [
        "#.....",
        "##....",
        "#.#...",
        "####..",
        "#..##.",
        "#..#.#",
    ]
    assert picture(pattern_mask(Strided(2, 3), 7)) == [
        "#......",
        "##.....",
        ".##....",
        "#.##...",
        ".#.##..",
        "..#.##.",
        "#..#.##",
    ]
    assert picture(pattern_mask(Chunked(3), 5)) == ["#....", "##...", "###..", "...#.", "...##"]
    # blocks of 2: own block and the first one, none drawn
    assert picture(pattern_mask(BigBird(2, window=1, random=0, globals=1), 6)) == [
        "#.....",
        "##....",
        "###...",
        "####..",
        "##..#.",
        "##..##",
    ]


def test_window_and_blocks_are_those_of_transformers():
    index = torch.arange(23)
    for size in (1, 5, 23, 40):
        theirs = sliding_window_causal_mask_function(size)(0, 0, index[:, None], index)
        assert torch.equal(pattern_mask(Window(size), 23), theirs)
        theirs = chunked_causal_mask_function(size, torch.zeros(1, dtype=torch.long))(
            0, 0, index[:, None], index
        )
        assert torch.equal(pattern_mask(Chunked(size), 23), theirs)


@pytest.mark.parametrize("pattern", STATIC + CONTENT, ids=label)
def test_a_query_sees_itself_or_its_best_and_nothing_later(pattern):
    q, k = draw((2, 3, 13, 5), (2, 3, 13, 5))
    mask = mask_of(pattern, q, k)
    assert not mask.triu(1).any()
    assert mask.any(-1).all()
    if not isinstance(pattern, TopK):
        assert mask.diagonal(dim1=-2, dim2=-1).all()


@pytest.mark.parametrize("pattern", STATIC, ids=label)
def test_a_longer_text_keeps_the_mask_of_a_shorter_one(pattern):
    assert torch.equal(pattern_mask(pattern, 29)[:11, :11], pattern_mask(pattern, 11))


@pytest.mark.parametrize(
    "pattern",
    [
        Window(17),
        Strided(17, 3),
        Strided(2, 1),
        Chunked(17),
        BigBird(5, window=4),
        BigBird(4, window=1, globals=5),
        TopK(17),
        TopBlocks(5, 4),
    ],
    ids=label,
)
def test_beyond_the_length_is_full_attention(pattern):
    q, k = draw((1, 2, 17, 3), (1, 2, 17, 3))
    assert torch.equal(
        mask_of(pattern, q, k).expand(1, 2, 17, 17), mask_of(Full(), q, k).expand(1, 2, 17, 17)
    )


def test_counts_of_visible_keys():
    assert pattern_mask(Window(4), 11).sum(-1).tolist() == [1, 2, 3, *[4] * 8]
    assert pattern_mask(Window(4, dilation=3), 14).sum(-1)[-1] == 4
    q, k = draw((2, 3, 13, 5), (2, 3, 13, 5))
    assert (mask_of(TopK(4), q, k).sum(-1) == torch.arange(1, 14).clamp(max=4)).all()
    # own block up to the own place, and one whole block before it
    counts = torch.tensor([i % 3 + 1 + 3 * (i >= 3) for i in range(13)])
    assert (mask_of(TopBlocks(3, 2), q, k).sum(-1) == counts).all()


def test_top_keys_by_hand():
    q = torch.ones(1, 1, 4, 1)
    k = torch.tensor([2.0, 9.0, 1.0, 5.0]).view(1, 1, 4, 1)
    chosen = select(TopK(2), q, k, torch.arange(4)[None])[0, 0]
    assert picture(chosen) == ["#...", "##..", "##..", ".#.#"]
    # two queries at other places, and a negative query prefers small keys
    chosen = select(TopK(1), torch.tensor([1.0, -1.0]).view(1, 1, 2, 1), k, torch.tensor([[0, 3]]))[0, 0]
    assert picture(chosen) == ["#...", "..#."]


def test_top_blocks_by_hand():
    # means of the blocks of two: 1, 4, -3
    k = torch.tensor([9.0, -7.0, 3.0, 5.0, -3.0, -3.0, 7.0]).view(1, 1, 7, 1)
    q = torch.tensor([1.0, 1.0, 1.0, 1.0, 1.0, -1.0, -1.0]).view(1, 1, 7, 1)
    places = torch.arange(7)[None]
    assert best_blocks(TopBlocks(2, 2), q, k, places // 2)[0, 0, 4:].tolist() == [[2, 1], [2, 0], [3, 2]]
    assert picture(select(TopBlocks(2, 2), q, k, places)[0, 0])[4:] == ["..###..", "##..##.", "....###"]
    assert picture(select(TopBlocks(2, 1), q, k, places)[0, 0])[5:] == ["....##.", "......#"]
    # the first block has none before it: what is left over names later blocks, which causality hides
    assert best_blocks(TopBlocks(2, 2), q, k, places // 2)[0, 0, 0, 0] == 0
    assert picture(select(TopBlocks(2, 2), q, k, places)[0, 0])[:2] == ["#......", "##....."]


def test_the_selector_is_a_sketch_of_the_scores():
    q, k = draw((1, 1, 7, 64), (1, 1, 7, 64))
    assert torch.equal(selector_scores(TopK(3), q, k), q @ k.transpose(-1, -2))
    matrix = projection(TopK(3, selector_width=5), 64)
    assert matrix.shape == (64, 5)
    assert not torch.equal(matrix, projection(TopK(3, selector_width=5, seed=1), 64))
    wide = selector_scores(TopK(3, selector_width=100_000), q, k)  # tends to the scores themselves
    torch.testing.assert_close(wide, q @ k.transpose(-1, -2), atol=1.0, rtol=0)


def test_random_blocks_are_drawn_once_among_those_left():
    pattern = BigBird(4, window=2, random=3, globals=1, seed=7)
    rows = random_blocks(pattern, 19)
    assert rows[:4] == [[], [], [], [1]]
    for row, drawn in enumerate(rows):
        assert len(set(drawn)) == len(drawn) == max(0, min(3, row - 2))
        assert all(1 <= block <= row - 2 for block in drawn)
    assert random_blocks(pattern, 11) == rows[:11]
    assert random_blocks(BigBird(4, window=2, random=3, globals=1, seed=8), 19) != rows
    drawn = torch.tensor(
        [row in random_blocks(BigBird(1, 1, 1, 0, seed), 3)[2] for seed in range(400) for row in (0, 1)]
    )
    assert 150 < drawn[::2].sum() < 250  # either block for about half the seeds


def test_reach_by_hand():
    mask = pattern_mask(Window(2), 5)
    assert torch.equal(reach(mask, 1), mask)
    assert picture(reach(mask, 2)) == ["#....", "##...", "###..", ".###.", "..###"]
    assert torch.equal(reach(mask, 4), pattern_mask(Full(), 5))
    # through a global token every earlier key is reached in two layers
    assert torch.equal(
        reach(pattern_mask(Window(1, globals_at=(4,)), 5), 1)[4], torch.ones(5, dtype=torch.bool)
    )
    assert reach(pattern_mask(Window(1, globals_at=(2,)), 5), 2)[4].tolist() == [
        True,
        True,
        True,
        False,
        True,
    ]


def test_span_in_closed_form():
    for window, dilation, layers in [(2, 1, 1), (3, 1, 4), (5, 2, 3), (1, 1, 5)]:
        assert span(Window(window, dilation), layers, 41) == layers * (window - 1) * dilation
    assert span(Window(20), 3, 41) == 40  # the whole text
    assert span(Chunked(8), 5, 41) == 0  # the last token stands alone in its block, at any depth
    assert span(Chunked(8), 5, 40) == 7
    assert span(Strided(3, 5), 1, 41) == 40


def test_labels():
    assert [label(pattern) for pattern in STATIC + CONTENT] == [
        "full",
        "window 3",
        "window 3, dilation 2",
        "window 2 + 2 global",
        "window 3 + stride 4",
        "blocks of 4",
        "BigBird 1+2+1 of 3",
        "top 3",
        "top 3, selector 2",
        "top 2 blocks of 3",
    ]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Window(0), "window is 0; allowed is 1 or more"),
        (lambda: Window(3, dilation=0), "dilation is 0; allowed is 1 or more"),
        (lambda: Window(3, globals_at=(-1,)), r"globals_at is \(-1,\); allowed are distinct places"),
        (lambda: Window(3, globals_at=(2, 2)), r"globals_at is \(2, 2\); allowed are distinct places"),
        (lambda: Strided(1, 0), "stride is 0; allowed is 1 or more"),
        (lambda: Chunked(0), "block is 0; allowed is 1 or more"),
        (lambda: BigBird(random=-1), "random is -1; allowed is 0 or more"),
        (lambda: TopK(0), "keys is 0; allowed is 1 or more"),
        (lambda: TopK(2, selector_width=-1), "selector_width is -1; allowed is 0 or more"),
        (lambda: TopBlocks(4, 0), "blocks is 0; allowed is 1 or more"),
        (
            lambda: check(Window(3, globals_at=(0, 7)), 7),
            r"globals_at is \(0, 7\); allowed are places from 0 to 6",
        ),
        (lambda: check(Full(), 0), "length is 0; allowed is 1 or more"),
        (lambda: reach(torch.ones(2, 2, dtype=torch.bool), 0), "layers is 0; allowed is 1 or more"),
    ],
)
def test_bad_input_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_pattern_of_the_other_kind_is_named():
    index, (q, k) = torch.arange(3), draw((1, 1, 3, 5), (1, 1, 3, 5))
    with pytest.raises(ValueError, match=r"pattern is TopK.*; allowed is a static one"):
        inspect.unwrap(visible)(TopK(3), index, index)  # unwrapped: the check of types would come first
    with pytest.raises(ValueError, match=r"pattern is Full.*; allowed is a content pattern"):
        inspect.unwrap(select)(Full(), q, k, index[None])


def test_the_last_place_may_be_global():
    check(Window(3, globals_at=(0, 6)), 7)
