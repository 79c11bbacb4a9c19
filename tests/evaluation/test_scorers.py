"""Scores of replies: RULER's formulas worked by hand, and answers counted as words, in order or not."""

import difflib

import numpy as np
import pytest

from lcbook.evaluation.scorers import (
    SCORERS,
    any_answer,
    every_answer,
    in_order,
    string_match_all,
    string_match_part,
)


def test_rulers_formulas_by_hand():
    predictions = ["112 and 35.", "nothing", "The CAT sat"]
    references = [["112", "77", "35", "4"], ["9"], ["cat"]]
    assert string_match_all(predictions, references) == pytest.approx(100 * (2 / 4 + 0 + 1) / 3)
    assert string_match_part(predictions, references) == pytest.approx(100 * 2 / 3)


def test_rulers_formulas_count_substrings_and_words_do_not():
    assert string_match_all(["the code is 112"], [["12"]]) == 100
    assert every_answer("the code is 112", ["12"]) == (0, 1)
    assert every_answer("the code is 12.", ["12"]) == (1, 1)


@pytest.mark.parametrize(
    ("reply", "answers", "expected"),
    [
        ("", ["472"], (0, 1)),
        ("It is 472, I think.", ["472"], (1, 1)),
        ("472 472", ["472", "118"], (1, 2)),
        ("118 and 472", ["472", "118"], (2, 2)),
        ("ROME!", ["Rome"], (1, 1)),
        ("old anvil", ["old anvil"], (1, 1)),
        ("old, heavy anvil", ["old anvil"], (0, 1)),
    ],
)
def test_every_answer(reply, answers, expected):
    assert every_answer(reply, answers) == expected


def test_any_answer_counts_once():
    assert any_answer("a b", ["a", "b"]) == (1, 1)
    assert any_answer("c", ["a", "b"]) == (0, 1)


@pytest.mark.parametrize(
    ("reply", "expected"),
    [("a b c d", 4), ("a x b, c d", 4), ("b a c d", 3), ("d c b a", 1), ("", 0), ("a a a b", 2), ("A B", 2)],
)
def test_in_order_by_hand(reply, expected):
    assert in_order(reply, ["a", "b", "c", "d"]) == (expected, 4)


def test_in_order_is_at_least_difflibs_matching():
    rng = np.random.default_rng(0)
    for _ in range(50):
        said, wanted = ([str(x) for x in rng.integers(5, size=n)] for n in (11, 7))
        blocks = difflib.SequenceMatcher(None, said, wanted, autojunk=False).get_matching_blocks()
        right, asked = in_order(" ".join(said), wanted)
        assert sum(block.size for block in blocks) <= right <= asked == 7


def test_every_scorer_takes_a_full_reply_and_an_empty_one():
    for score in SCORERS.values():
        right, asked = score("x y z", ["x", "y", "z"])
        assert right == asked
        assert score("", ["x", "y", "z"])[0] == 0


@pytest.mark.parametrize("score", [string_match_all, string_match_part])
def test_bad_input(score):
    with pytest.raises(ValueError, match="predictions has 0 replies and references 0"):
        score([], [])
    with pytest.raises(ValueError, match="predictions has 1 replies and references 2"):
        score(["a"], [["a"], ["b"]])
    with pytest.raises(ValueError, match=r"references\[0\] is 'abc'"):
        score(["a"], ["abc"])
    with pytest.raises(ValueError, match=r"references\[0\] is \[\]"):
        score(["a"], [[]])


def test_answers_that_are_no_words():
    for score in (every_answer, any_answer, in_order):
        with pytest.raises(ValueError, match=r"answers has '\.{3}'; allowed is answers of one word"):
            score("", ["472", "..."])
    with pytest.raises(ValueError, match="answers has 'old anvil'; allowed is answers of one word"):
        in_order("old anvil", ["old anvil"])
