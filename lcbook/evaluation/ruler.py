"""RULER's synthetic tasks, offline: the prompts of lm-eval 0.4.13, letter for letter from the same seed.

Needles among noise or among other needles, variable tracking, common words and frequent words. The essay haystack and
question answering need downloads and are left out. Source: Hsieh et al. 2024, arXiv 2404.06654.
"""

from __future__ import annotations

import random
import string
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from lcbook.evaluation.ruler_texts import (
    FIXED,
    NEEDLES,
    Written,
    coded_vocabulary,
    codes,
    common_words,
    dictionary,
    frequent_words,
    needles,
    numbered,
    tracking,
)
from lcbook.evaluation.scorers import string_match_all, string_match_part
from lcbook.tasks.haystacks import NOISE

FILLERS = ("repeat", "needle")
QUESTIONS = ("ruler_qa_squad", "ruler_qa_hotpot")
TASKS = (*NEEDLES, "ruler_vt", "ruler_cwe", "ruler_fwe")
TRIES = 100  # at the smallest size; lm-eval tries for ever


@dataclass(frozen=True)
class RulerSample:
    """One prompt: the text `input`, then `prefix`, with which the reply has begun; and what a right reply holds.

    `length` is the tokens by RULER's account, `reply_tokens` kept for the reply included; `index` is the place in
    lm-eval's sequence.
    """

    task: str
    index: int
    input: str
    prefix: str
    answers: tuple[str, ...]
    length: int
    reply_tokens: int

    @property
    def prompt(self) -> str:
        """The whole prompt, as lm-eval gives it to a model without a chat template."""
        return self.input + ("\n\n" if self.task == "ruler_cwe" else " ") + self.prefix


@dataclass(frozen=True)
class _Budget:
    """How long a prompt may be: `length` tokens by `count`, `reply` of them kept for the reply."""

    task: str
    count: Callable[[str], int]
    length: int
    reply: int

    def units(
        self,
        write: Callable[[int], str],
        *,
        step: int,
        start: int = 0,
        spare: int = 0,
        most: int | None = None,
    ) -> int:
        """Return in how many units, `step` more at a time, `write` comes close to the length; 0 if none fits."""
        units, total, room = start or step, 0, self.length - self.reply - spare
        while total < room:
            total = self.count(write(units))
            if total > room:
                return units - step
            if units > self.length:
                raise ValueError(f"count is {total} for {units} sentences or words; allowed is one for each.")
            units += step
            if most and units > most:
                return most
        return units

    def sample(self, index: int, written: Written, tokens: int, text: str = "") -> RulerSample:
        """Return the sample of a prompt of `tokens`, its text replaced by `text` if there is one."""
        told = text or written.text, written.prefix, tuple(written.answers)
        return RulerSample(self.task, index, *told, tokens + self.reply, self.reply)

    def too_short(self) -> ValueError:
        return ValueError(
            f"length is {self.length} for {self.task}; allowed is one that holds its shortest prompt and "
            f"{self.reply} tokens of reply by this count."
        )


def _shrinking(units: int, step: int) -> Iterator[int]:
    """Yield ever smaller sizes, then the smallest again and again, as lm-eval tries them."""
    while units > step:
        yield units
        units -= step
    yield from [units] * (TRIES if units > 0 else 0)


def _needles(budget: _Budget, samples: int, rng: random.Random, haystack: str) -> list[RulerSample]:
    task = NEEDLES[budget.task]
    least, step = task.keys * task.values, 5 if budget.length < 4096 else 25

    def write(units: int) -> str:
        written = needles(rng, task, haystack, units)
        assert written is not None
        return written.text + " ".join(written.answers)

    most, found = max(budget.units(write, step=step, start=max(step, least)), least), list[RulerSample]()
    for index in range(samples):
        for units in range(most, 0, -step):
            written = needles(rng, task, haystack, units)
            if written and (tokens := budget.count(written.text)) + budget.reply <= budget.length:
                found.append(budget.sample(index, written, tokens))
                break
    if not found:
        raise budget.too_short()
    if len(found) < samples:
        warnings.warn(
            f"{samples - len(found)} of {samples} samples of {budget.task} do not fit in {budget.length} tokens "
            "and are left out.",
            stacklevel=3,
        )
    return found


def _chains(
    budget: _Budget, letters: int, step: int, spare: int, rng: random.Random, numbers: np.random.RandomState
) -> Iterator[tuple[Written, int]]:
    """Yield prompts of variable tracking without an end, each with its tokens, `spare` included."""

    def asked(written: Written) -> str:
        return f"{written.text} {written.prefix} "

    def write(noises: int) -> str:
        written = tracking(rng, numbers, letters, noises)
        if written is None:
            raise ValueError(
                "seed draws one name twice for a chain, where lm-eval fails; allowed is any other."
            )
        return f"{asked(written)} {written.answers}"

    most = budget.units(write, step=step, spare=spare)
    while True:
        for noises in _shrinking(most, step):
            written = tracking(rng, numbers, letters, noises)
            if written and (tokens := budget.count(asked(written)) + spare) + budget.reply <= budget.length:
                break
        else:
            raise budget.too_short()
        yield written, tokens


def _variables(
    budget: _Budget, samples: int, rng: random.Random, numbers: np.random.RandomState
) -> list[RulerSample]:
    """Return samples, each behind one solved example of 500 tokens, whose names are drawn anew each time."""
    example = _Budget("ruler_vt's solved example, whose size RULER fixes", budget.count, 500, budget.reply)
    shown, _ = next(_chains(example, 3, 5, 0, rng, numbers))
    solved = f"{shown.text} {shown.prefix}  {' '.join(shown.answers)}\n\n"
    chains, found = _chains(budget, 5, 10, budget.count(solved), rng, numbers), list[RulerSample]()
    for index in range(samples):
        written, tokens = next(chains)
        renamed = solved
        for name in shown.answers:
            renamed = renamed.replace(name, codes(rng, string.ascii_uppercase, len(name), 1)[0])
        found.append(budget.sample(index, written, tokens, f"{renamed}\n\n{written.text}"))
    return found


def _common_words(budget: _Budget, samples: int, rng: random.Random) -> list[RulerSample]:
    order, words, step = random.Random(FIXED), list(dictionary("noun", "adjective", "verb")), 10
    order.shuffle(words)
    example, often, seldom = ((20, 3, 1), 6, 1) if budget.length < 4096 else ((40, 10, 3), 30, 3)

    def both(number: int) -> tuple[str, Written]:
        """Return a solved example, which lm-eval counts for the size but does not show, and a prompt."""
        solved = common_words(rng, order, words, *example)
        shown = f"{solved.text} {solved.prefix}{numbered(solved.answers)}\n"
        return shown, common_words(rng, order, words, number, often, seldom)

    def write(number: int) -> str:
        shown, written = both(number)
        return f"{shown}{written.text} {written.prefix} {numbered(written.answers)}"

    most, found = budget.units(write, step=step, most=len(words)), list[RulerSample]()
    for index in range(samples):
        for number in _shrinking(most, step):
            _, written = both(number)
            tokens = budget.count(f"{written.text} {written.prefix}")
            if tokens + budget.reply <= budget.length:
                break
        else:
            raise budget.too_short()
        found.append(budget.sample(index, written, tokens))
    return found


def _frequent_words(budget: _Budget, samples: int, rng: random.Random) -> list[RulerSample]:
    """Return samples whose prompts alone fill the length: lm-eval keeps no room for the reply here."""
    size, step = budget.length // 50, budget.length // 32
    if size < 4:
        raise ValueError(
            f"length is {budget.length}; allowed for ruler_fwe is 200 or more: it has length / 50 words."
        )

    def measured(vocabulary: list[str], number: int) -> tuple[Written, int]:
        written = frequent_words(vocabulary, number)
        return written, budget.count(f"{written.text} {written.prefix}")

    most, vocabulary = budget.length // 6, coded_vocabulary(rng, size)
    while measured(vocabulary, most)[1] < budget.length:
        if most > 2 * budget.length:
            raise ValueError(
                f"count is less than {budget.length} for {most} words; allowed is one or more a word."
            )
        most += step
    found = list[RulerSample]()
    for index in range(samples):
        vocabulary, number = coded_vocabulary(rng, size), most - step
        written, tokens = measured(vocabulary, number)
        while tokens > budget.length:
            number -= step
            if number < 0:
                raise budget.too_short()
            written, tokens = measured(vocabulary, number)
        found.append(budget.sample(index, written, tokens))
    return found


def generate(
    task: str,
    *,
    count: Callable[[str], int],
    length: int,
    samples: int,
    seed: int = 42,
    numpy_seed: int | None = None,
    haystack: str | None = None,
) -> list[RulerSample]:
    """Return the first `samples` prompts of a task, at most `length` tokens long by `count`.

    The same as the generators of lm-eval 0.4.13 in a fresh process, for its first length, after random.seed(seed)
    and numpy.random.seed(numpy_seed), by default `seed`. Its command is seeded before it imports scikit-learn,
    whose import of rich, where there is one, draws once and so alters the prompts; its own seeds are 0 and 1234.
    `count` returns the tokens of a text with whatever the tokenizer puts about it. `haystack`, for needles, is
    "repeat" (a sentence of noise) or "needle" (other needles); None is RULER's own. The words come from the
    installed wonderwords; its lists differ from version to version.

    What RULER does not count in `length`: `prefix` of the needles, the reply to frequent words. Samples of needles
    that do not fit are left out, with a warning.

    Raises ValueError for a task or haystack that needs a download, a length into which no prompt fits, a seed that
    gives two variables of a chain one name (about 1 in 1000), or wonderwords missing.
    """
    for name, value in (("length", length), ("samples", samples)):
        if value < 1:
            raise ValueError(f"{name} is {value}; allowed is 1 or more.")
    if task not in TASKS:
        why = " (question answering needs a download)" if task in QUESTIONS else ""
        raise ValueError(f"task is {task!r}{why}; allowed is one of {', '.join(TASKS)}.")
    if (tokens := count(NOISE)) < 1:
        raise ValueError(f"count is {tokens} for a sentence of 19 words; allowed is one token or more.")
    rng = random.Random(seed)
    if task in NEEDLES:
        haystack = haystack or NEEDLES[task].haystack
        if haystack not in FILLERS:
            why = " (the essays need a download)" if haystack == "essay" else ""
            raise ValueError(f"haystack is {haystack!r}{why} for {task}; allowed is 'repeat' or 'needle'.")
        return _needles(_Budget(task, count, length, 128), samples, rng, haystack)
    if haystack is not None:
        raise ValueError(f"haystack is {haystack!r} for {task}; allowed is None: only needles have one.")
    if task == "ruler_vt":
        numbers = np.random.RandomState(seed if numpy_seed is None else numpy_seed)
        return _variables(_Budget(task, count, length, 30), samples, rng, numbers)
    if task == "ruler_cwe":
        return _common_words(_Budget(task, count, length, 120), samples, rng)
    return _frequent_words(_Budget(task, count, length, 50), samples, rng)


def score(task: str, predictions: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Return RULER's score of replies, 0 to 100: the share of answers found; for question answering, of any found.

    Raises ValueError for an unknown task, and as `scorers.string_match_all`.
    """
    if task not in (*TASKS, *QUESTIONS):
        raise ValueError(f"task is {task!r}; allowed is one of {', '.join((*TASKS, *QUESTIONS))}.")
    match = string_match_part if task in QUESTIONS else string_match_all
    return match(predictions, references)
