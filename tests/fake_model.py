"""A language model for tests: a token a word, and replies that are read out of the prompt."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from lcbook.llm.protocol import Encoded, Reply


@dataclass
class Fake:
    """Answers questions for codes; wrong for prompts of more than `reach` tokens.

    `fails` tells for a prompt's text why it fails (None: it does not), `interrupted` after how many replies Ctrl-C
    comes. `asked` holds the prompts, call by call.
    """

    name: str = "fake:words"
    window: int | None = None
    reach: int = 10**9
    fails: Callable[[str], str | None] = lambda prompt: None
    interrupted: int | None = None
    silent: bool = False
    wrong: str = "I do not know."
    asked: list[list[str]] = field(default_factory=list)

    def encode(self, text: str) -> Encoded:
        found = list(re.finditer(r"\w+|[^\w\s]", text))
        ids = tuple(zlib.crc32(word.group().encode()) for word in found)
        return Encoded(ids, tuple(word.start() for word in found))

    def overhead(self) -> int:
        return 3

    def generate(self, prompts: Sequence[str], *, max_tokens: int) -> Iterator[tuple[int, Reply]]:
        self.asked.append(list(prompts))
        for index in reversed(range(len(prompts))):
            if self.interrupted == 0:
                raise KeyboardInterrupt
            if self.interrupted is not None:
                self.interrupted -= 1
            if self.silent:
                continue
            error = self.fails(prompts[index])
            if error is not None:
                yield index, Reply("", seconds=0.5, error=error)
                continue
            tokens = len(self.encode(prompts[index]).ids) + self.overhead()
            text = self.wrong if tokens > self.reach else answer(prompts[index])
            yield index, Reply(text, tokens, 2, tokens - 7, 0.25)


def answer(prompt: str) -> str:
    """Read the codes that are asked for out of a prompt."""
    context, _, question = prompt.rpartition("\n\nQuestion: ")
    asked = re.search(r"What (?:is|are) the codes? for (.*)\?", question)
    keys = re.split(r", | and ", asked.group(1)) if asked else []
    codes = dict(re.findall(r"The code for (\w+) is (\w+)\.", context))
    return " ".join(codes[key] for key in keys)
