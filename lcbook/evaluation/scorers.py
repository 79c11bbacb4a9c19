"""Scores of a reply: RULER's formulas over a set of replies, and how many answers of one reply are right."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

WORD = re.compile(r"\w+")


def _require(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> None:
    if not predictions or len(predictions) != len(references):
        raise ValueError(
            f"predictions has {len(predictions)} replies and references {len(references)}; allowed is one or more, as "
            "many of each."
        )
    for i, answers in enumerate(references):
        if isinstance(answers, str) or not answers:
            raise ValueError(f"references[{i}] is {answers!r}; allowed is a list of one answer or more.")


def _found(prediction: str, answers: Sequence[str]) -> list[bool]:
    return [answer.lower() in prediction.lower() for answer in answers]


def string_match_all(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Return the mean share of its answers that each reply contains, 0 to 100; substrings count, case does not.

    100 * mean_i mean_r [r in prediction_i]. Source: Hsieh et al. 2024, arXiv 2404.06654 (RULER), its synthetic tasks
    but question answering. Raises ValueError for no replies, or not as many lists of answers.
    """
    _require(predictions, references)
    shares = [sum(_found(p, r)) / len(r) for p, r in zip(predictions, references, strict=True)]
    return 100 * sum(shares) / len(shares)


def string_match_part(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Return the share of replies that contain any of their answers, 0 to 100; substrings count, case does not.

    100 * mean_i max_r [r in prediction_i]. Source and errors as `string_match_all`; RULER's question answering.
    """
    _require(predictions, references)
    hits = [any(_found(p, r)) for p, r in zip(predictions, references, strict=True)]
    return 100 * sum(hits) / len(hits)


def _words(text: str) -> list[str]:
    return WORD.findall(text.lower())


def every_answer(reply: str, answers: Sequence[str]) -> tuple[int, int]:
    """Return how many of the answers occur in the reply as whole words, whatever their case, and how many there are.

    Raises ValueError for an answer without a word.
    """
    said, wanted = f" {' '.join(_words(reply))} ", [_words(answer) for answer in answers]
    if [] in wanted:
        raise ValueError(
            f"answers has {answers[wanted.index([])]!r}; allowed is answers of one word or more."
        )
    return sum(f" {' '.join(words)} " in said for words in wanted), len(answers)


def any_answer(reply: str, answers: Sequence[str]) -> tuple[int, int]:
    """Return 1 if any of the answers occurs in the reply as whole words, else 0, and 1."""
    return min(every_answer(reply, answers)[0], 1), 1


def in_order(reply: str, answers: Sequence[str]) -> tuple[int, int]:
    """Return how many answers, each one word, the reply has in their order, and how many there are.

    The longest common subsequence of the reply's words and the answers: words between or left out break nothing.
    Raises ValueError for an answer that is not one word.
    """
    said, wanted = _words(reply), [answer.lower() for answer in answers]
    for answer in wanted:
        if not WORD.fullmatch(answer):
            raise ValueError(f"answers has {answer!r}; allowed is answers of one word, to be told in order.")
    longest = [0] * (len(wanted) + 1)  # of the reply so far and the first j answers
    for word in said:
        before = longest.copy()
        for j, answer in enumerate(wanted):
            longest[j + 1] = before[j] + 1 if word == answer else max(before[j + 1], longest[j])
    return longest[-1], len(wanted)


# A reply and its answers -> (right, asked).
SCORERS: dict[str, Callable[[str, Sequence[str]], tuple[int, int]]] = {
    "all": every_answer,
    "part": any_answer,
    "in_order": in_order,
}
