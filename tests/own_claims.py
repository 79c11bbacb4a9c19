"""A claims file of a test's own, in the place of the book's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from lcbook.claims import claim

TOML = """
[01_tiny.defaults]
factor = "position encoding"
seeds = "0:8"
tables = ["recall"]
statistic = "contrast"

[01_tiny.P1a]
sentence = "Most are right."
at_least = 16
unit = "%"
test = "pooled recall"

[01_tiny.P1b]
sentence = "Few are right."
at_most = 12.0
unit = "%"
test = "pooled recall"

[02_small.X1]
sentence = "It went."
at_least = 1
test = "by hand"
seeds = "0:8"
factor = "other"
tables = ["recall"]
statistic = "contrast"
withdrawn = { verdict = "supported", effect = "2 [1, 3]", date = "2025-01-01", why = "A control said otherwise." }
"""


def use(monkeypatch, folder: Path, text: str = TOML, *, frozen: bool = True) -> None:
    """Let `text` be the claims of the book, frozen or not yet."""
    file, lock = folder / "claims.toml", folder / "claims.frozen"
    file.write_text(text)
    monkeypatch.setattr(claim, "FILE", file)
    monkeypatch.setattr(claim, "LOCK", lock)
    claim.claims.cache_clear()
    if frozen:
        claim.freeze()


def table(values: list[float], seeds: list[int] | None = None, asked: int = 1000) -> pd.DataFrame:
    """Recall of one arm, in per cent, a row a seed."""
    names = list(range(len(values))) if seeds is None else seeds
    correct = (np.array(values) * asked / 100).round()
    return pd.DataFrame({"arm": "a", "seed": names, "correct": correct, "total": asked})
