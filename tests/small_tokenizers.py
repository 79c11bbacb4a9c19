"""Small tokenizers for tests, built in memory: a word, a subword, a byte a token, and merges that cross spaces."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

from lcbook.llm.protocol import Encoded
from lcbook.tasks.haystacks import NOISE, Prose
from lcbook.tasks.items import ITEMS, draw

ALPHABET = pre_tokenizers.ByteLevel.alphabet()


def sentences() -> list[str]:
    """Text on which the subword tokenizers are trained: prose, noise, and one item of every task."""
    items = [draw(task, 1) for task in ITEMS]
    asked = [f"{item.intro}\n\n{item.facts[0].text}\n\nQuestion: {item.question}\nAnswer:" for item in items]
    return [Prose().text(0, 6000), NOISE * 3, *asked]


def words() -> Tokenizer:
    """Words and punctuation marks, all unknown; white space is no token."""
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer


def subwords(vocabulary: int = 600, *, crossing: bool = False, trim: bool = False) -> Tokenizer:
    """Byte-level BPE; `crossing` merges across spaces and ends of sentences, `trim` starts a token after its space."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=not crossing)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=trim)
    longest = {"max_token_length": 7} if crossing else {}
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, initial_alphabet=ALPHABET, show_progress=False, **longest
    )
    tokenizer.train_from_iterator(sentences(), trainer)
    return tokenizer


def octets() -> Tokenizer:
    """A byte a token."""
    tokenizer = Tokenizer(
        models.BPE(vocab={letter: i for i, letter in enumerate(sorted(ALPHABET))}, merges=[])
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return tokenizer


TOKENIZERS: dict[str, Callable[[], Tokenizer]] = {
    "words": words,
    "subwords": subwords,
    "trimmed": functools.partial(subwords, trim=True),
    "crossing": functools.partial(subwords, crossing=True),
    "bytes": octets,
}


@dataclass
class Reader:
    """What `build` uses of a model: encode, which counts the characters it is given, and overhead."""

    tokenizer: Tokenizer
    name: str = "reader"
    window: int | None = None
    characters: int = 0

    def encode(self, text: str) -> Encoded:
        self.characters += len(text)
        encoding = self.tokenizer.encode(text, add_special_tokens=False)
        return Encoded(tuple(encoding.ids), tuple(start for start, _ in encoding.offsets))

    def overhead(self) -> int:
        return 3

    def generate(self, prompts, *, max_tokens):
        raise AssertionError("build asks no model")


@functools.cache
def reader(name: str) -> Reader:
    """Return one reader for each name, trained once."""
    return Reader(TOKENIZERS[name]())
