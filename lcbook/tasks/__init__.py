"""Tasks: what a model is asked to recall, as tokens for tiny models and as texts for real ones."""

from lcbook.tasks import (
    base, corpus, haystacks, hops, item_texts, item_tokens, items, mixture, mqar, recall, symbols, words,
)  # fmt: skip

__all__ = [
    "base", "corpus", "haystacks", "hops", "item_texts", "item_tokens", "items", "mixture", "mqar", "recall",
    "symbols", "words",
]  # fmt: skip
