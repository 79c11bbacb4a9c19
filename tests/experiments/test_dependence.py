"""The split over runs and texts: the counts of one forward pass a token, the same text for each run, bad input."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

import lcbook as lc
from lcbook import runtime
from lcbook.experiments.longppl import ALPHA, BETA, SEED, far_tokens, gains, log_probabilities

TEXT = lc.Corpus(document=5, facts=1, questions=1)
LENGTH, SHORT = TEXT.longest, 11
SPEC = lc.Spec(
    lc.ModelSpec(width=12),
    TEXT,
    lc.TrainSpec(length=LENGTH, updates=2, batch=3, answer_loss=0, text_loss=1.0),
)


@pytest.fixture(autouse=True)
def smoke(monkeypatch, tmp_path):
    monkeypatch.setenv("LCBOOK_CACHE", str(tmp_path))
    lc.setup("")


def test_counts_are_those_of_the_split_by_hand():
    run = lc.Run("arm", SPEC, 3)
    frame = far_tokens(
        [run], {"far": replace(TEXT, far=1.0)}, length=LENGTH, short=SHORT, name="split", sequences=5
    )
    row = frame.iloc[0]
    model, _ = lc.trained_model(run)
    tokens = replace(TEXT, far=1.0).sample(5, LENGTH, torch.Generator().manual_seed(SEED)).tokens
    told = log_probabilities(model, tokens)
    key = (gains(model, tokens, SHORT) > ALPHA) & (told > BETA)
    known = TEXT.distances(tokens)[:, 1:] > SHORT
    assert (row["arm"], row["seed"], row["text"], row["tokens"]) == ("arm", 3, "far", 5 * (LENGTH - 1))
    assert (row["known"], row["found"], row["both"]) == (known.sum(), key.sum(), (key & known).sum())
    assert row["known"] > 0, "or it says nothing"
    assert row["perplexity"] == pytest.approx(math.exp(-told.double().mean()))
    assert runtime.session.tables["split"] is frame


def test_every_run_reads_the_same_text_and_near_text_needs_nothing_far():
    runs = [lc.Run("arm", SPEC, seed) for seed in (0, 1)]
    texts = {"near": replace(TEXT, far=0.0), "far": replace(TEXT, far=1.0)}
    frame = far_tokens(runs, texts, length=LENGTH, short=SHORT, name="split", sequences=7)
    assert frame[["seed", "text"]].to_numpy().tolist() == [[0, "near"], [0, "far"], [1, "near"], [1, "far"]]
    known = frame.set_index(["seed", "text"])["known"]
    assert known[0, "far"] == known[1, "far"] > 0
    assert known[0, "near"] == known[1, "near"] == 0, "the question follows its fact in the next sentence"
    assert frame.loc[frame["text"] == "far", "perplexity"].nunique() == 2, "the models differ"


@pytest.mark.parametrize(("runs", "texts"), [([], {"far": TEXT}), ([lc.Run("arm", SPEC, 0)], {})])
def test_needs_runs_and_texts(runs, texts):
    with pytest.raises(
        ValueError, match=r"far_tokens 'split' got \d runs and \d texts; allowed is at least one"
    ):
        far_tokens(runs, texts, length=LENGTH, short=SHORT, name="split")
