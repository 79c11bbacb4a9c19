"""Real models by name: a Hugging Face folder or hub name, an OpenAI-compatible endpoint, or the book's small Llama."""

from __future__ import annotations

from pathlib import Path

from lcbook.llm.endpoint import Endpoint
from lcbook.llm.huggingface import HuggingFace
from lcbook.llm.protocol import LanguageModel

TINY = Path(__file__).parent.parent / "tiny_llama"


def tiny_llama(*, reuse: bool = True) -> HuggingFace:
    """Return the small Llama that comes with the book, which needs no network; its README.md says how it was made.

    It was trained on the tasks of `items` in synthetic prose, in texts of up to a few hundred tokens, and knows nothing
    else. `reuse` as in `HuggingFace`. Raises ValueError if transformers is missing.
    """
    return HuggingFace(TINY, reuse=reuse, device="cpu", name="tiny")


def open_model(name: str, *, tokenizer: str | None = None, chat: str = "auto") -> LanguageModel:
    """Return the model that `name` names: "hf:PATH" (a folder or hub name), "openai:MODEL@URL" or "tiny".

    `tokenizer` is a folder or tokenizer.json for an endpoint, which has none of its own; `chat` is "auto" (the chat
    template where there is one), "always" or "never". Raises ValueError for any other name, and as `HuggingFace` and
    `Endpoint`.
    """
    if name == "tiny":
        return tiny_llama()
    kind, _, rest = name.partition(":")
    if kind == "hf" and rest:
        return HuggingFace(rest, chat=chat)
    if kind == "openai" and "@" in rest:
        model, _, url = rest.partition("@")
        return Endpoint(model, url, tokenizer=tokenizer, chat=chat)
    raise ValueError(f"model is {name!r}; allowed is hf:PATH, openai:MODEL@URL or tiny.")
