"""Real models by name: a Hugging Face folder or hub name, or an OpenAI-compatible endpoint."""

from __future__ import annotations

from lcbook.llm import LanguageModel
from lcbook.llm_hf import HuggingFace
from lcbook.llm_http import Endpoint


def open_model(name: str, *, tokenizer: str | None = None, chat: str = "auto") -> LanguageModel:
    """Return the model that `name` names: "hf:PATH" (a folder or hub name) or "openai:MODEL@URL".

    `tokenizer` is a folder or tokenizer.json for an endpoint, which has none of its own; `chat` is "auto" (the chat
    template where there is one), "always" or "never". Raises ValueError for any other name, and as `HuggingFace` and
    `Endpoint`.
    """
    kind, _, rest = name.partition(":")
    if kind == "hf" and rest:
        return HuggingFace(rest, chat=chat)
    if kind == "openai" and "@" in rest:
        model, _, url = rest.partition("@")
        return Endpoint(model, url, tokenizer=tokenizer, chat=chat)
    raise ValueError(f"model is {name!r}; allowed is hf:PATH or openai:MODEL@URL.")
