"""Real models behind one protocol: what a sweep asks of a model, and what comes back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable


@dataclass(frozen=True)
class Encoded:
    """A text in a model's own tokenizer: token ids, and for each token the place in the text where it starts."""

    ids: tuple[int, ...]
    starts: tuple[int, ...]


@dataclass(frozen=True)
class Reply:
    """What came back for one prompt.

    `text` is the reply, "" if there is none; `error` says in one sentence why (None: all went well). Tokens are as the
    model counted them, `computed` those of the prompt that were not taken from an earlier one, `seconds` wall time.
    """

    text: str
    prompt_tokens: int = 0
    completion_tokens: int = 0
    computed: int = 0
    seconds: float | int = 0.0
    error: str | None = None


@runtime_checkable
class LanguageModel(Protocol):
    """A model that answers prompts."""

    @property
    def name(self) -> str:
        """How the model is named on the command line, such as hf:PATH or openai:MODEL@URL; holds no key."""
        ...

    @property
    def window(self) -> int | None:
        """The longest prompt and reply together that the model takes, in tokens; None if it does not say."""
        ...

    def encode(self, text: str) -> Encoded:
        """Return `text` in the model's own tokenizer, without special tokens and without the chat template."""
        ...

    def overhead(self) -> int:
        """Return how many tokens special tokens and the chat template add to a prompt."""
        ...

    def generate(self, prompts: Sequence[str], *, max_tokens: int) -> Iterator[tuple[int, Reply]]:
        """Answer `prompts`; yield (index of the prompt, its reply) as replies arrive, in any order.

        Prompts that begin alike should follow each other: an implementation may reuse what they share. A prompt that
        fails yields a Reply with `error`; what can be told before the first request raises ValueError.
        """
        ...
