"""Language models by name: Hugging Face folders, OpenAI-compatible endpoints, and the book's small Llama."""

from lcbook.llm import open, protocol
from lcbook.llm.protocol import Encoded, LanguageModel, Reply

__all__ = ["Encoded", "LanguageModel", "Reply", "open", "protocol"]
