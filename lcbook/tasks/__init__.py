"""Tasks: what a model is asked to recall, as tokens for tiny models and as texts for real ones."""

from lcbook.tasks import (
    corpus, depths, haystacks, hops, item_texts, item_tokens, items, mixture, opened, recall, symbols, words,
)  # fmt: skip

__all__ = [
    "corpus", "depths", "haystacks", "hops", "item_texts", "item_tokens", "items", "mixture", "opened", "recall",
    "symbols", "words",
]  # fmt: skip
