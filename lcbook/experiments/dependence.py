"""How much of a text needs the far context, as trained models see it: the split of `longrange` over runs and texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
import torch

from lcbook import runtime
from lcbook.experiments.longppl import agreement, split
from lcbook.experiments.run import Run, trained_model
from lcbook.tasks.corpus import Corpus

SEED = 7  # of the texts that are split: the same for every run


def far_tokens(
    runs: Sequence[Run],
    texts: Mapping[str, Corpus],
    *,
    length: int,
    short: int,
    name: str,
    sequences: int = 64,
) -> pd.DataFrame:
    """Split each text by what each run's trained model gains from more than its last `short` tokens; file it as `name`.

    One row a run and text, with the columns arm, seed, text; tokens, known (tokens told more than `short` before),
    found (key tokens of the model) and both, counts; perplexity, and long_perplexity over key tokens (NaN: there is
    none). A text is `sequences` sequences of `length` tokens, the same for every run. The models are trained, or taken
    from the cache, one after another. Raises ValueError for no runs or no texts, and as `longrange.split`.
    """
    if not runs or not texts:
        raise ValueError(
            f"far_tokens {name!r} got {len(runs)} runs and {len(texts)} texts; allowed is at least one of each."
        )
    rows = []
    for run in runs:
        model, _ = trained_model(run)
        for text, corpus in texts.items():
            tokens = corpus.sample(sequences, length, torch.Generator().manual_seed(SEED)).tokens
            tokens = tokens.to(runtime.device())
            with runtime.one_thread():
                found = split(model, tokens, short)
            counts = agreement(found.key, corpus.distances(tokens), short)
            rows.append(
                {
                    "arm": run.arm,
                    "seed": run.seed,
                    "text": text,
                    "tokens": found.key.numel(),
                    "known": counts.known,
                    "found": counts.found,
                    "both": counts.both,
                    "perplexity": found.perplexity,
                    "long_perplexity": found.long_perplexity,
                }
            )
    frame = pd.DataFrame(rows)
    runtime.session.tables[name] = frame
    return frame
