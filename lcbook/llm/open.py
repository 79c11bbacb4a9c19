"""Real models by name: a Hugging Face folder or hub name, an OpenAI-compatible endpoint, or the book's small Llama."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from lcbook.llm.endpoint import Endpoint
from lcbook.llm.huggingface import HuggingFace
from lcbook.llm.protocol import LanguageModel
from lcbook.runtime import one_thread

TINY = Path(__file__).parent.parent / "tiny_llama"


class _OneThread(HuggingFace):
    """A model so small that sharing its work among threads takes longer than the work."""

    def _continued(self, ids: np.ndarray, cache: Any, max_tokens: int) -> list[int]:
        with one_thread():
            return super()._continued(ids, cache, max_tokens)


def tiny_llama(*, reuse: bool = True) -> HuggingFace:
    """Return the small Llama that comes with the book, which needs no network; its README.md says how it was made.

    It was trained on the tasks of `items` in synthetic prose, in texts of up to a few hundred tokens, and knows nothing
    else. `reuse` as in `HuggingFace`. Raises ValueError if transformers is missing.
    """
    return _OneThread(TINY, reuse=reuse, device="cpu", name="tiny")


def open_model(name: str, *, chat: str = "auto", **options: Any) -> LanguageModel:
    """Return the model that `name` names: "hf:PATH" (a folder or hub name), "openai:MODEL@URL" or "tiny".

    `chat` is "auto" (the chat template where there is one), "always" or "never"; `options` are those of `Endpoint`
    alone (None: its default). Raises ValueError for any other name, for options that the model does not take, and as
    `HuggingFace` and `Endpoint`.
    """
    given = {option: value for option, value in options.items() if value is not None}
    kind, _, rest = name.partition(":")
    if kind == "openai" and "@" in rest:
        model, _, url = rest.partition("@")
        return Endpoint(model, url, chat=chat, **given)
    if given:
        told = ", ".join(given).replace("_", "-")
        raise ValueError(f"{told} is given for {name}; allowed is that for openai:MODEL@URL alone.")
    if kind == "hf" and rest:
        return HuggingFace(rest, chat=chat)
    if name == "tiny":
        return tiny_llama()
    raise ValueError(f"model is {name!r}; allowed is hf:PATH, openai:MODEL@URL or tiny.")
