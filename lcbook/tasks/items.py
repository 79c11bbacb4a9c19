"""Items: one question about planted facts, drawn once and then written as tokens for a tiny model or as text for any.

fact      terms ("amber", "472")        text "The code for amber is 472."
question  cues  (("amber",),)           text "What is the code for amber?", opened by "The code for amber is"
answers         ("472",)

`draw` says which facts are planted and what is asked; where they lie, and in how long a text, is not its business.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import numpy as np

from lcbook.formats import at_least
from lcbook.tasks import words

CODE, VOTE, COPY, SUMMARY, COUNT, IS = "#code", "#vote", "#copy", "#summary", "#count", "#is"
MARKS = (CODE, VOTE, COPY, SUMMARY, COUNT, IS)


@dataclass(frozen=True)
class Fact:
    """One planted statement: `terms` are its tokens for a tiny model, `text` its sentence."""

    terms: tuple[str, ...]
    text: str


@dataclass(frozen=True)
class Item:
    """A question about facts.

    `facts` are needed to answer or belong to the task; the first is the needle, whose depth is set; `distractors` have
    the same form and change no answer. `cues` holds, for each answer, the terms that ask for it in token form.
    `question` asks for all `answers` in words and `prefix` opens the reply. `scorer` is a name in `scorers.SCORERS`.
    `chance` is the recall of a guesser that knows the kind of word asked for.
    """

    task: str
    facts: tuple[Fact, ...]
    distractors: tuple[Fact, ...]
    cues: tuple[tuple[str, ...], ...]
    answers: tuple[str, ...]
    intro: str
    question: str
    prefix: str
    chance: float
    scorer: str = "all"

    @property
    def in_text_order(self) -> bool:
        """True where the answers are asked in the order in which their facts lie in the text (multi_value, summary)."""
        return len(self.facts) == len(self.answers) > 1 and () in self.cues


@dataclass(frozen=True)
class Sizes:
    """How large an item is: `pairs` facts, of which at most `asked` are asked for, `values` of one key, `hops` of a
    chain, `votes` to be counted, `copied` words; drawn from the first `keys` keys and `numbers` numbers.
    """

    pairs: int = 8
    asked: int = 4
    values: int = 3
    hops: int = 2
    votes: int = 11
    copied: int = 5
    keys: int = len(words.KEYS)
    numbers: int = len(words.NUMBERS)

    def __post_init__(self) -> None:
        most = {
            "pairs": self.keys // 2, "asked": self.keys // 2, "values": self.numbers, "hops": (self.keys - 1) // 2,
            "votes": len(words.COUNTS), "copied": len(words.KEYS), "keys": len(words.KEYS),
            "numbers": len(words.NUMBERS),
        }  # fmt: skip
        least = {"votes": 4, "keys": 4, "numbers": 2}
        for field in fields(self):
            value, low, high = getattr(self, field.name), least.get(field.name, 1), most[field.name]
            if not low <= value <= high:
                raise ValueError(f"{field.name} is {value}; allowed is {low} to {high}.")


def _some(rng: np.random.Generator, choices: Sequence[str], count: int) -> list[str]:
    """Draw `count` different ones of `choices`."""
    return [choices[i] for i in rng.permutation(len(choices))[:count]]


def _any(rng: np.random.Generator, choices: Sequence[str], count: int) -> list[str]:
    """Draw `count` of `choices`, each anew."""
    return [choices[i] for i in rng.integers(len(choices), size=count)]


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _code(key: str, value: str) -> Fact:
    return Fact((key, value), f"The code for {key} is {value}.")


def _spare(rng: np.random.Generator, sizes: Sizes, keys: Sequence[str], count: int) -> tuple[Fact, ...]:
    """Draw `count` codes of any of `keys`, which nobody asks for."""
    return tuple(map(_code, _any(rng, keys, count), _any(rng, words.NUMBERS[: sizes.numbers], count)))


CODES = "The text below holds some codes. Remember them; you will be asked for them."


def _codes(
    rng: np.random.Generator, sizes: Sizes, distractors: int, task: str, *, pairs: int, asked: int
) -> Item:
    """Draw `pairs` keys with a code each, of which the first `asked` are asked for."""
    keys = _some(rng, words.KEYS[: sizes.keys], sizes.keys)
    values = _some(rng, words.NUMBERS[: sizes.numbers], min(pairs, sizes.numbers))
    if len(values) < pairs:
        raise ValueError(f"numbers is {sizes.numbers}; allowed is at least {pairs} for {pairs} codes.")
    spare = _spare(rng, sizes, keys[pairs:], distractors)
    verb, noun = ("is", "code") if asked == 1 else ("are", "codes")
    about = _listed(keys[:asked])
    return Item(
        task,
        facts=tuple(map(_code, keys[:pairs], values)),
        distractors=spare,
        cues=tuple((key,) for key in keys[:asked]),
        answers=tuple(values[:asked]),
        intro=CODES,
        question=f"What {verb} the {noun} for {about}?",
        prefix=f"The {noun} for {about} {verb}",
        chance=1 / sizes.numbers,
    )


def needle(rng: np.random.Generator, sizes: Sizes, distractors: int = 0) -> Item:
    """One fact, asked for."""
    return _codes(rng, sizes, distractors, "needle", pairs=1, asked=1)


def multi_needle(rng: np.random.Generator, sizes: Sizes, distractors: int = 0) -> Item:
    """`asked` facts, all asked for at once."""
    return _codes(rng, sizes, distractors, "multi_needle", pairs=sizes.asked, asked=sizes.asked)


def multi_key(rng: np.random.Generator, sizes: Sizes, distractors: int = 0) -> Item:
    """`pairs` facts of the same form, one asked for."""
    return _codes(rng, sizes, distractors, "multi_key", pairs=sizes.pairs, asked=1)


def multi_query(rng: np.random.Generator, sizes: Sizes, distractors: int = 0) -> Item:
    """`pairs` facts of the same form, `asked` of them asked for at once."""
    return _codes(
        rng, sizes, distractors, "multi_query", pairs=sizes.pairs, asked=min(sizes.asked, sizes.pairs)
    )


def multi_value(rng: np.random.Generator, sizes: Sizes, distractors: int = 0) -> Item:
    """`values` facts of one key, all asked for; in token form each is asked by the one before."""
    key, *others = _some(rng, words.KEYS[: sizes.keys], sizes.keys)
    values = _some(rng, words.NUMBERS[: sizes.numbers], sizes.values)
    if len(values) < sizes.values:
        raise ValueError(f"numbers is {sizes.numbers}; allowed is at least values ({sizes.values}).")
    spare = _spare(rng, sizes, others, distractors)
    return Item(
        "multi_value",
        facts=tuple(_code(key, value) for value in values),
        distractors=spare,
        cues=((key,), *((),) * (sizes.values - 1)),
        answers=tuple(values),
        intro=CODES,
        question=f"What are all {sizes.values} codes for {key}?",
        prefix=f"The codes for {key} are",
        chance=1 / sizes.numbers,
    )


def near_duplicate(rng: np.random.Generator, sizes: Sizes, distractors: int = 0) -> Item:
    """A key of two words among keys that share one of them with it."""

    def code(adjective: str, key: str, value: str) -> Fact:
        return Fact((adjective, key, value), f"The code for {adjective} {key} is {value}.")

    adjective, *adjectives = _some(rng, words.ADJECTIVES, len(words.ADJECTIVES))
    key, *keys = _some(rng, words.KEYS[: sizes.keys], sizes.keys)
    values = _any(rng, words.NUMBERS[: sizes.numbers], sizes.pairs + distractors)
    # Those that share the key and those that share the adjective take turns; then those that share neither.
    turns = itertools.zip_longest(
        [(other, key) for other in adjectives], [(adjective, other) for other in keys]
    )
    names: list[tuple[str, str]] = [name for turn in turns for name in turn if name is not None]
    names += itertools.product(adjectives, keys)
    near, spare = names[: sizes.pairs - 1], itertools.cycle(names[sizes.pairs - 1 :])
    facts = [code(other, name, value) for (other, name), value in zip(near, values[1:], strict=False)]
    others = [
        code(other, name, value) for (other, name), value in zip(spare, values[sizes.pairs :], strict=False)
    ]
    return Item(
        "near_duplicate",
        facts=(code(adjective, key, values[0]), *facts),
        distractors=tuple(others),
        cues=((adjective, key),),
        answers=(values[0],),
        intro=CODES,
        question=f"What is the code for {adjective} {key}?",
        prefix=f"The code for {adjective} {key} is",
        chance=1 / sizes.numbers,
    )


def tracking(rng: np.random.Generator, sizes: Sizes, distractors: int = 0) -> Item:
    """A chain: a key has a number, the next key is the key before, `hops` facts in all; asked is the last key's number.

    A second chain of the same length stands beside it, so that the only number of the text is not the answer.
    """
    keys = _some(rng, words.KEYS[: sizes.keys], sizes.keys)
    values = _some(rng, words.NUMBERS[: sizes.numbers], 2)

    def let(key: str, value: str) -> Fact:
        return Fact((IS, key, value), f"Let {key} be {value}.")

    def chain(names: list[str], value: str) -> list[Fact]:
        return [let(name, before) for before, name in zip([value, *names], names, strict=False)][::-1]

    mine, other = keys[: sizes.hops], keys[sizes.hops : 2 * sizes.hops]
    spare = _any(rng, keys[2 * sizes.hops :], distractors)
    return Item(
        "tracking",
        facts=(*chain(mine, values[0]), *chain(other, values[1])),
        distractors=tuple(map(let, spare, _any(rng, words.NUMBERS[: sizes.numbers], distractors))),
        cues=((IS, mine[-1]),),
        answers=(values[0],),
        intro="The text below names some values. Remember them; you will be asked for one.",
        question=f"What number is {mine[-1]} in the end?",
        prefix=f"In the end {mine[-1]} is",
        chance=1 / sizes.numbers,
    )


def _votes(rng: np.random.Generator, sizes: Sizes) -> tuple[list[str], list[int]]:
    """Draw three candidates and how many of the votes each has, the first more than any other."""
    names = _some(rng, words.CANDIDATES, 3)
    while True:
        counts = np.sort(rng.multinomial(sizes.votes - 3, [0.5, 0.25, 0.25]) + 1)[::-1]
        if counts[0] > counts[1]:
            return names, counts.tolist()


def _vote(name: str) -> Fact:
    return Fact((VOTE, name), f"Another vote went to {name}.")


VOTES = "The text below reports some votes. Count them; you will be asked about them."


def most_common(rng: np.random.Generator, sizes: Sizes, distractors: int = 0) -> Item:
    """`votes` votes among three candidates; asked is the winner. A distractor is a code, which is no vote."""
    names, counts = _votes(rng, sizes)
    spare = _spare(rng, sizes, words.KEYS[: sizes.keys], distractors)
    return Item(
        "most_common",
        facts=tuple(_vote(name) for name, count in zip(names, counts, strict=True) for _ in range(count)),
        distractors=spare,
        cues=((VOTE,),),
        answers=(names[0],),
        intro=VOTES,
        question="Which of them has the most votes?",
        prefix="The most votes went to",
        chance=1 / 3,
    )


def counting(rng: np.random.Generator, sizes: Sizes, distractors: int = 0) -> Item:
    """`votes` votes among three candidates; asked is how many one of them has."""
    names, counts = _votes(rng, sizes)
    which = int(rng.integers(3))
    spare = _spare(rng, sizes, words.KEYS[: sizes.keys], distractors)
    return Item(
        "counting",
        facts=tuple(_vote(name) for name, count in zip(names, counts, strict=True) for _ in range(count)),
        distractors=spare,
        cues=((COUNT, names[which]),),
        answers=(words.COUNTS[counts[which] - 1],),
        intro=VOTES,
        question=f"How many votes went to {names[which]}? Answer with a number.",
        prefix=f"The number of votes for {names[which]} is",
        chance=1 / (sizes.votes - 2),
    )


def question_answering(rng: np.random.Generator, sizes: Sizes, distractors: int = 0) -> Item:
    """Facts about people; asked is one thing about one of them, so that person and relation both count."""
    count = min(max(2, sizes.pairs // 2), len(words.PEOPLE) // 2)
    people = _some(rng, words.PEOPLE, len(words.PEOPLE))
    relations = _some(rng, tuple(words.RELATIONS), 2)

    def said(person: str, relation: str) -> Fact:
        thing = _any(rng, words.RELATIONS[relation], 1)[0]
        return Fact((person, relation, thing), f"The {relation} of {person} is {thing}.")

    facts = [said(person, relation) for person in people[:count] for relation in relations]
    spare = _any(rng, people[count:], distractors), _any(rng, tuple(words.RELATIONS), distractors)
    return Item(
        "question_answering",
        facts=tuple(facts),
        distractors=tuple(map(said, *spare)),
        cues=((people[0], relations[0]),),
        answers=(facts[0].terms[2],),
        intro="The text below tells about some people. Remember it; you will be asked about one of them.",
        question=f"What is the {relations[0]} of {people[0]}?",
        prefix=f"The {relations[0]} of {people[0]} is",
        chance=1 / len(words.RELATIONS[relations[0]]),
    )


def summary(rng: np.random.Generator, sizes: Sizes, distractors: int = 0) -> Item:
    """`asked` facts that a summary should cover; the score is the share of their values in it."""
    keys = _some(rng, words.KEYS[: sizes.keys], sizes.asked)
    values = _some(rng, words.NUMBERS[: sizes.numbers], sizes.asked)
    votes = _any(rng, words.CANDIDATES, distractors)
    return Item(
        "summary",
        facts=tuple(map(_code, keys, values)),
        distractors=tuple(map(_vote, votes)),
        cues=((SUMMARY,), *((),) * (sizes.asked - 1)),
        answers=tuple(values),
        intro=CODES,
        question="Summarize all codes that the text holds, in the order of the text.",
        prefix="The codes in the text are",
        chance=1 / sizes.numbers,
    )


def without_literal_match(rng: np.random.Generator, sizes: Sizes, distractors: int = 0) -> Item:
    """A fact names a landmark, the question its city: no word that tells stands in both."""

    def lives(person: str, landmark: str) -> Fact:
        return Fact((landmark, person), f"{person} lives next to the {landmark}.")

    count = min(sizes.pairs, len(words.LANDMARKS) // 2, len(words.PEOPLE))
    landmarks = _some(rng, tuple(words.LANDMARKS), len(words.LANDMARKS))
    people = _some(rng, words.PEOPLE, len(words.PEOPLE))
    city = words.LANDMARKS[landmarks[0]]
    spare = _any(rng, people[count:] or people[1:], distractors), _any(rng, landmarks[count:], distractors)
    return Item(
        "without_literal_match",
        facts=tuple(map(lives, people[:count], landmarks[:count])),
        distractors=tuple(map(lives, *spare)),
        cues=((city,),),
        answers=(people[0],),
        intro="The text below tells about some people. Remember it; you will be asked about one of them.",
        question=f"Which person has been to {city}?",
        prefix=f"The person who has been to {city} is",
        chance=1 / len(words.PEOPLE),
    )


def copy(rng: np.random.Generator, sizes: Sizes, distractors: int = 0) -> Item:
    """`copied` words in a row, to be repeated in order."""
    listed = _some(rng, words.KEYS[: sizes.keys], min(sizes.copied, sizes.keys))
    spare = _any(rng, words.CANDIDATES, distractors)
    return Item(
        "copy",
        facts=(Fact((COPY, *listed), f"The list is {' '.join(listed)}."),),
        distractors=tuple(map(_vote, spare)),
        cues=((COPY,), *((),) * (sizes.copied - 1)),
        answers=tuple(listed),
        intro="The text below holds a list of words. Remember it; you will be asked to repeat it.",
        question="What is the list of words, in order?",
        prefix="The list is",
        chance=1 / sizes.keys,
        scorer="in_order",
    )


ITEMS: dict[str, Callable[[np.random.Generator, Sizes, int], Item]] = {
    draw.__name__: draw
    for draw in (
        needle, multi_needle, multi_key, multi_value, multi_query, near_duplicate, tracking, most_common, counting,
        question_answering, summary, without_literal_match, copy,
    )
}  # fmt: skip


def draw(task: str, seed: int, sizes: Sizes | None = None, distractors: int = 0) -> Item:
    """Draw the item of `task` that belongs to `seed`; its facts do not depend on the number of distractors.

    Raises ValueError for an unknown task, or a negative number of distractors.
    """
    if task not in ITEMS:
        raise ValueError(f"task is {task!r}; allowed is one of {', '.join(ITEMS)}.")
    at_least(0, distractors=distractors)
    return ITEMS[task](np.random.default_rng(seed), sizes or Sizes(), distractors)
