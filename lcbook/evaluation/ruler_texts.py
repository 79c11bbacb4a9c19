"""One prompt of each of RULER's synthetic tasks, of a given size; every draw in lm-eval's order.

`ruler` chooses the sizes. Source: Hsieh et al. 2024, arXiv 2404.06654; wording and order of draws as lm-eval 0.4.13.
"""

from __future__ import annotations

import functools
import random
import string
import uuid
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np
from scipy.special import zeta

from lcbook.tasks.haystacks import NOISE

FIXED = 42  # what lm-eval shuffles with, whatever the seed of the run


@dataclass(frozen=True)
class Written:
    """A prompt: its text, the words with which the reply begins, and what a right reply holds."""

    text: str
    prefix: str
    answers: list[str]


# Words


@functools.cache
def dictionary(*kinds: str) -> tuple[str, ...]:
    """Return the words of wonderwords that are of one of `kinds`, sorted. Raises ValueError if it is not installed."""
    try:
        from wonderwords import RandomWord
    except ImportError:
        raise ValueError("RULER's words need wonderwords: pip install 'lcbook[llm]'.") from None
    return tuple(sorted(set(RandomWord().filter(include_categories=kinds))))  # unsorted before wonderwords 3


class Hyphenated:
    """Every "adjective-noun", sorted, each made when it is asked for: as a list, six million strings take 1 GB."""

    def __init__(self, adjectives: Sequence[str], nouns: Sequence[str]) -> None:
        openings, endings = sorted({f"{adjective}-" for adjective in adjectives}), sorted(set(nouns))
        groups = list[list[str]]()
        for opening in openings:
            if groups and opening.startswith(groups[-1][0]):  # the pairs of "blue-" and "blue-eyed-" mix
                groups[-1].append(opening)
            else:
                groups.append([opening])
        self.blocks = [
            (group[0], endings) if len(group) == 1 else ("", sorted({a + b for a in group for b in endings}))
            for group in groups
        ]
        self.ends = list(accumulate(len(endings) for _, endings in self.blocks))

    def __len__(self) -> int:
        return self.ends[-1] if self.ends else 0

    def __getitem__(self, index: int) -> str:
        block = bisect_right(self.ends, index)
        opening, endings = self.blocks[block]
        return opening + endings[index - self.ends[block]]  # counted from the end of the block


@functools.cache
def hyphenated() -> Hyphenated:
    """Return the pairs of all adjectives and nouns of wonderwords."""
    return Hyphenated(dictionary("adjective"), dictionary("noun"))


def codes(rng: random.Random, alphabet: str, letters: int, number: int) -> list[str]:
    """Draw `number` codes of `letters` letters."""
    return ["".join(rng.choices(alphabet, k=letters)) for _ in range(number)]


# Needles


@dataclass(frozen=True)
class Needles:
    """A task of needles: its haystack, how many keys it has, values a key and keys asked for, and what they are."""

    haystack: str
    keys: int = 1
    values: int = 1
    queries: int = 1
    key: str = "words"
    value: str = "numbers"


NEEDLES = {
    "niah_single_1": Needles("repeat"),
    "niah_single_2": Needles("essay"),
    "niah_single_3": Needles("essay", value="uuids"),
    "niah_multikey_1": Needles("essay", keys=4),
    "niah_multikey_2": Needles("needle"),
    "niah_multikey_3": Needles("needle", key="uuids", value="uuids"),
    "niah_multivalue": Needles("essay", values=4),
    "niah_multiquery": Needles("essay", keys=4, queries=4),
}


def _term(rng: random.Random, kind: str) -> str:
    if kind == "numbers":
        return str(rng.randint(1_000_000, 9_999_999))
    if kind == "uuids":
        return str(uuid.UUID(int=rng.getrandbits(128), version=4))
    return rng.choice(hyphenated())


def needles(rng: random.Random, task: Needles, haystack: str, units: int) -> Written | None:
    """Hide needles in `units` lines of noise ("repeat") or of other needles ("needle").

    Returns None if there are fewer lines than needles, after the draws that lm-eval makes before it gives up.
    """

    def line(key: str, value: str) -> str:
        return f"One of the special magic {task.value} for {key} is: {value}."

    keys, values = list[str](), list[list[str]]()
    for _ in range(task.keys):
        keys.append(_term(rng, task.key))
        values.append([_term(rng, task.value) for _ in range(task.values)])
    hidden = [line(key, value) for key, several in zip(keys, values, strict=True) for value in several]
    random.Random(FIXED).shuffle(hidden)
    if haystack == "repeat":
        lines = [NOISE] * units
    else:
        lines = [line(_term(rng, task.key), _term(rng, task.value)) for _ in range(units)]
    if units < len(hidden):
        return None
    places = sorted(rng.sample(range(units), len(hidden)), reverse=True)
    for place, needle in zip(places, hidden, strict=True):
        lines.insert(place, needle)

    asked = rng.sample(range(task.keys), task.queries)
    *first, last = [keys[i] for i in asked]
    query = f"{', '.join(first)}, and {last}" if first else last
    if task.queries * task.values == 1:
        some, are, are_all, things = "A", "is", "is", task.value.removesuffix("s")
    else:
        some, are, are_all, things = "Some", "are", "are all", task.value
    text = (
        f"{some} special magic {things} {are} hidden within the following text. Make sure to memorize it. "
        f"I will quiz you about the {things} afterwards.\n" + "\n".join(lines) + "\n"
        f"What {are_all} the special magic {things} for {query} mentioned in the provided text?"
    )
    prefix = f"The special magic {things} for {query} mentioned in the provided text {are}"
    return Written(text, prefix, [value for i in asked for value in values[i]])


# Variable tracking

HOPS = 4


def tracking(rng: random.Random, numbers: np.random.RandomState, letters: int, noises: int) -> Written | None:
    """Hide a chain of assignments to names of `letters` letters in `noises` lines of noise; it needs one at least.

    Returns None if a name is drawn twice, after the draws that lm-eval makes before it gives up: names until there
    are enough, and a value for the chain that the spare ones begin.
    """
    names = codes(rng, string.ascii_uppercase, letters, HOPS + 1)
    while len(set(names)) < HOPS + 1:
        names += codes(rng, string.ascii_uppercase, letters, 1)
    value = numbers.randint(10_000, 99_999)
    if len(names) > HOPS + 1:
        numbers.randint(10_000, 99_999)
        return None
    chain = [f"VAR {names[0]} = {value}", *(f"VAR {name} = VAR {old} " for old, name in pairwise(names))]
    lines = [f"{NOISE}\n"] * noises
    if noises <= len(chain):
        lines = [f"{part}." if part.strip() else part for line in lines for part in line.split(".")]
    places = sorted(rng.sample(range(len(lines)), len(chain)))
    for i, (place, link) in enumerate(zip(places, chain, strict=True)):
        lines.insert(place + i, link)
    context = " ".join(lines).replace(". \n", ".\n")
    text = (
        f"Memorize and track the chain(s) of variable assignment hidden in the following text.\n\n{context}\n"
        f"Question: Find all variables that are assigned the value {value} in the text above."
    )
    prefix = (  # in RULER's spelling
        "Answer: According to the chain(s) of variable assignment in the text above, "
        f"{HOPS + 1} variables are assgined the value {value}, they are:"
    )
    return Written(text, prefix, names)


# Words that are common, words that are frequent


def numbered(words: Sequence[str]) -> str:
    """Return "1. word 2. word ..."."""
    return " ".join(f"{i}. {word}" for i, word in enumerate(words, 1))


def common_words(
    rng: random.Random, order: random.Random, words: Sequence[str], number: int, often: int, seldom: int
) -> Written:
    """List `number` words, ten of them `often` times and the rest `seldom` times, in the order that `order` draws."""
    drawn = rng.sample(words, number)
    listed = drawn[:10] * often + drawn[10:] * seldom
    order.shuffle(listed)
    text = (
        "Below is a numbered list of words. In these words, some appear more often than others. "
        f"Memorize the ones that appear most often.\n{numbered(listed)}\n"
        "Question: What are the 10 most common words in the above list?"
    )
    return Written(text, "Answer: The top 10 words that appear most often in the list are:", drawn[:10])


def coded_vocabulary(rng: random.Random, size: int) -> list[str]:
    """Draw `size` distinct codes of six letters; the first, which will be the most frequent, becomes dots."""
    distinct = set(codes(rng, string.ascii_lowercase, 6, size))
    while len(distinct) < size:
        distinct.update(codes(rng, string.ascii_lowercase, 6, 1))
    vocabulary = sorted(distinct)
    random.Random(FIXED).shuffle(vocabulary)
    return ["...", *vocabulary[1:]]


def frequent_words(vocabulary: Sequence[str], number: int) -> Written:
    """Write about `number` words, the k-th of the vocabulary in a share of k^-2 / zeta(2), shuffled."""
    counts = (number * np.arange(1, len(vocabulary) + 1) ** -2.0 / zeta(2.0)).astype(int).tolist()
    words = [word for word, count in zip(vocabulary, counts, strict=True) for _ in range(count)]
    random.Random(FIXED).shuffle(words)
    text = (
        "Read the following coded text and track the frequency of each coded word. Find the three most frequently "
        f"appeared coded words. {' '.join(words)}\nQuestion: Do not provide any explanation. Please ignore the dots "
        "'....'. What are the three most frequently appeared words in the above coded text?"
    )
    prefix = "Answer: According to the coded text above, the three most frequently appeared words are:"
    return Written(text, prefix, list(vocabulary[1:4]))
