"""The split over runs and texts: the counts of one forward pass a token, the same text for each run, bad input."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

import lcbook as lc
from lcbook.experiments.longppl import ALPHA, BETA, SEED, FarTokens, gains, log_probabilities

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


def split_over(runs, texts, sequences):
    probes = [lc.Probe(FarTokens(LENGTH, SHORT, sequences, text), label=name) for name, text in texts.items()]
    return lc.run(runs, name="split", probes=probes)


def test_counts_are_those_of_the_split_by_hand():
    run = lc.Run("arm", SPEC, 3)
    frame = split_over([run], {"far": replace(TEXT, far=1.0)}, 5)
    row = frame.iloc[0]
    model, _ = lc.trained_model(run)
    tokens = replace(TEXT, far=1.0).sample(5, LENGTH, torch.Generator().manual_seed(SEED)).tokens
    told = log_probabilities(model, tokens)
    key = (gains(model, tokens, SHORT) > ALPHA) & (told > BETA)
    known = TEXT.distances(tokens)[:, 1:] > SHORT
    assert (row["arm"], row["seed"], row["probe"], row["tokens"]) == ("arm", 3, "far", 5 * (LENGTH - 1))
    assert (row["known"], row["found"], row["both"]) == (known.sum(), key.sum(), (key & known).sum())
    assert row["known"] > 0, "or it says nothing"
    assert row["perplexity"] == pytest.approx(math.exp(-told.double().mean()))


def test_every_run_reads_the_same_text_and_near_text_needs_nothing_far():
    runs = [lc.Run("arm", SPEC, seed) for seed in (0, 1)]
    texts = {"near": replace(TEXT, far=0.0), "far": replace(TEXT, far=1.0)}
    frame = split_over(runs, texts, 7)
    assert frame[["seed", "probe"]].to_numpy().tolist() == [[0, "near"], [0, "far"], [1, "near"], [1, "far"]]
    known = frame.set_index(["seed", "probe"])["known"]
    assert known[0, "far"] == known[1, "far"] > 0
    assert known[0, "near"] == known[1, "near"] == 0, "the question follows its fact in the next sentence"
    assert frame.loc[frame["probe"] == "far", "perplexity"].nunique() == 2, "the models differ"


def test_needs_a_corpus():
    task = lc.KeyValueRecall()
    with pytest.raises(ValueError, match=r"task is KeyValueRecall\(.*; allowed is a Corpus"):
        FarTokens(LENGTH, SHORT).asked(replace(SPEC, task=task))
    assert FarTokens(LENGTH, SHORT).asked(SPEC) is TEXT
