"""Tokenizers without their models: a saved Hugging Face tokenizer counts the tokens that an endpoint will see."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from lcbook.llm.protocol import Encoded

SLOW = ("tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "sentencepiece.bpe.model")


def _file(path: Path) -> Path:
    """Return the tokenizer.json that `path` is or holds."""
    found = path / "tokenizer.json" if path.is_dir() else path
    if found.is_file():
        return found
    slow = [name for name in SLOW if (path / name).is_file()]
    if slow:
        raise ValueError(
            f"path is {path}, which holds only a slow tokenizer ({slow[0]}); "
            "allowed is a folder with a tokenizer.json, as a fast tokenizer of transformers writes it."
        )
    raise ValueError(f"path is {path}; allowed is a tokenizer.json or a folder that holds one.")


def load_tokenizer(path: str | Path) -> Callable[[str], Encoded]:
    """Return the function that encodes a text as the tokenizer saved at `path` does: tokens, and where each starts.

    `path` is a Hugging Face folder with a tokenizer.json, or that file. Special tokens are not added; what the file
    says about truncation and padding is not applied. A token starts at the character that holds its first byte; whether
    the space before a word belongs to it is the tokenizer's choice. Raises ValueError where there is no such file,
    where it is broken, where the folder has only a slow tokenizer, or where the library `tokenizers` is missing.
    """
    file = _file(Path(path))
    try:
        from tokenizers import Tokenizer
    except ImportError:
        raise ValueError(
            "path names a tokenizer, for which the library tokenizers is missing: pip install 'lcbook[llm]'."
        ) from None
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises bare Exception
        raise ValueError(
            f"path is {file}, which is no tokenizer ({str(error).rstrip('.')}); allowed is a tokenizer.json."
        ) from None
    tokenizer.no_truncation()
    tokenizer.no_padding()

    def encode(text: str) -> Encoded:
        encoding = tokenizer.encode(text, add_special_tokens=False)
        return Encoded(tuple(encoding.ids), tuple(start for start, _ in encoding.offsets))

    return encode
