"""Items in text form, cut into words: what a small model is trained on so that it can be asked like a large one.

The layout is that of `prompts.build`: an introduction, the haystack with the facts in it, a question, and the words
that open the answer. Here it is written as tokens at once, thousands of times, with the answer behind it.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

import numpy as np
import torch

from lcbook.formats import at_least
from lcbook.tasks import words
from lcbook.tasks.base import Batch
from lcbook.tasks.haystacks import NOISE, Prose
from lcbook.tasks.items import ITEMS, Item, Sizes, draw

UNKNOWN, END = "[UNK]", "[END]"
WORD = re.compile(
    r"\w+|[^\w\s]"
)  # the same pieces as the Whitespace pre-tokenizer of Hugging Face's tokenizers
TEXTS, CHARACTERS = 64, 6000  # how much synthetic prose the haystacks are cut from


def reply(item: Item) -> str:
    """Return the answer in words, as it follows the item's prefix."""
    *first, last = item.answers
    if item.scorer == "in_order":
        return f"{' '.join(item.answers)}."
    return f"{', '.join(first)} and {last}." if first else f"{last}."


@functools.lru_cache(maxsize=1)
def vocabulary() -> tuple[str, ...]:
    """Return every word of the items' texts and of the prose, and two marks: for any other word, and for the end."""
    texts = ["Question: Answer:", NOISE]
    for name in ITEMS:
        for seed in range(200):
            item = draw(name, seed, None, 20)
            texts += [item.intro, item.question, item.prefix, reply(item)]
            texts += [fact.text for fact in (*item.facts, *item.distractors)]
    texts += [Prose().text(seed, 5 * CHARACTERS) for seed in range(8)]
    found = {word for text in texts for word in WORD.findall(text)}
    lists = (words.KEYS, words.ADJECTIVES, words.PEOPLE, words.CANDIDATES, words.NUMBERS, words.COUNTS)
    named = [*words.RELATIONS, *words.LANDMARKS, *words.LANDMARKS.values()]
    things = [thing for kind in words.RELATIONS.values() for thing in kind]
    found |= {word for part in (*lists, named, things) for word in part}
    return (UNKNOWN, END, *sorted(found))


@functools.lru_cache(maxsize=1)
def _number() -> dict[str, int]:
    return {word: token for token, word in enumerate(vocabulary())}


@functools.lru_cache(maxsize=65_536)
def _tokens(text: str) -> tuple[int, ...]:
    number = _number()
    return tuple(number.get(word, 0) for word in WORD.findall(text))


@functools.lru_cache(maxsize=1)
def _prose() -> tuple[tuple[int, ...], ...]:
    return tuple(_tokens(Prose().text(seed, CHARACTERS)) for seed in range(TEXTS))


@dataclass(frozen=True)
class ItemTexts:
    """Items of `tasks` in synthetic prose, each task equally likely, answers and a mark of the end behind them.

    Every word of the answer and the mark are asked for; shorter answers ask for the mark again, so that all sequences
    of a batch have as many. The facts lie at random places of the haystack, in their own order where the answers follow
    the text. In a share `competing` of the sequences other facts of the same form replace the prose. In a share
    `restated` the facts are said again behind the haystack, in random order, in place of question and answer, and the
    last word of each is asked for: many questions a sequence, from which lookups are learned soon. (Only where an
    answer is the end of a fact's sentence; tasks of another kind are asked as ever.)
    Raises ValueError for an unknown task or a share outside 0 to 1.
    """

    tasks: tuple[str, ...] = tuple(ITEMS)
    sizes: Sizes = Sizes()
    competing: float | int = 0.0
    restated: float | int = 0.0

    def __post_init__(self) -> None:
        unknown = [name for name in self.tasks if name not in ITEMS]
        if unknown or not self.tasks:
            raise ValueError(f"tasks is {self.tasks}; allowed are one or more of {', '.join(ITEMS)}.")
        for name in ("competing", "restated"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; allowed is a share from 0 to 1.")

    @property
    def vocabulary(self) -> int:
        """Number of distinct tokens."""
        return len(vocabulary())

    @property
    def chance(self) -> float:
        """A guess among the words of the kind asked for, the mean over the tasks."""
        return float(np.mean([draw(name, 0, self.sizes).chance for name in self.tasks]))

    def sample(self, batch: int, length: int, generator: torch.Generator) -> Batch:
        """Draw `batch` sequences of `length` tokens. Raises ValueError if an item does not fit the length."""
        at_least(1, batch=batch)
        rng = np.random.default_rng(int(torch.randint(2**62, (1,), generator=generator)))
        written = [self._written(length, rng) for _ in range(batch)]
        most = max(len(asked) for _, asked, _ in written)
        tokens = torch.tensor([row for row, _, _ in written])
        at = torch.tensor([[*asked, *asked[-1:] * (most - len(asked))] for _, asked, _ in written])
        needle = torch.tensor([[place] for _, _, place in written])
        return Batch(tokens, at, tokens.gather(1, at + 1), at - needle)

    def _written(self, length: int, rng: np.random.Generator) -> tuple[list[int], list[int], int]:
        """Write one sequence; return its tokens, the places asked at and the place of the needle."""
        task, seed = self.tasks[rng.integers(len(self.tasks))], int(rng.integers(2**62))
        competes = rng.random() < self.competing
        item = draw(task, seed, self.sizes, length // 5 if competes else 0)
        head, facts = _tokens(item.intro), [_tokens(fact.text) for fact in item.facts]
        if f"{item.prefix} {reply(item)}" == item.facts[0].text and rng.random() < self.restated:
            said = [facts[i] for i in rng.permutation(len(facts))]
            tail: tuple[int, ...] = ()
            answer = tuple(token for fact in said for token in fact)
            # A value stands before the stop, and is asked for one place before that.
            asked = np.cumsum([len(fact) for fact in said]) - 3 + length - len(answer)
        else:
            tail = _tokens(f"Question: {item.question} Answer: {item.prefix}")
            answer = (*_tokens(reply(item)), _number()[END])
            asked = np.arange(length - len(answer) - 1, length - 1)
        room = length - len(head) - len(tail) - len(answer)
        hay = room - sum(map(len, facts))
        if hay < 0:
            raise ValueError(f"length is {length}; allowed is at least {length - hay} for the task {task}.")
        if competes:
            filler = [token for fact in item.distractors for token in _tokens(fact.text)]
        else:
            text = _prose()[rng.integers(TEXTS)]
            start = int(rng.integers(len(text)))
            filler = [*text[start:], *text] * (1 + hay // len(text))
        order = np.arange(len(facts)) if item.in_text_order else rng.permutation(len(facts))
        cuts = np.sort(rng.integers(hay + 1, size=len(facts)))
        context: list[int] = []
        needle, past = 0, 0
        for i, cut in zip(order.tolist(), cuts.tolist(), strict=True):
            context += filler[past:cut]
            needle = len(head) + len(context) if i == 0 else needle
            context += facts[i]
            past = cut
        context += filler[past:hay]
        return [*head, *context, *tail, *answer], asked.tolist(), needle
