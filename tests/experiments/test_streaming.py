"""Streaming: the dense model's answers from counts alone, texts drawn as the task draws them, and what is refused."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats as distributions

from lcbook import runtime
from lcbook.attention.patterns import Window
from lcbook.experiments.changes import Temper
from lcbook.experiments.heads import attention_maps
from lcbook.experiments.streaming import Text, answers, counts_of_kinds, draw, kinds_of
from lcbook.experiments.train import TrainSpec, train
from lcbook.models.decoder import ModelSpec, build
from lcbook.models.mixers import LearnedSink
from lcbook.models.positions import RoPE
from lcbook.tasks.base import Batch
from lcbook.tasks.recall import KeyValueRecall
from tests.asking import after, recall_rows, streamed_rows

TASK = KeyValueRecall(pairs=5, queries=3, keys=13, values=11, filler=7)
TASKS = {
    "plain": TASK,
    "competing": replace(TASK, competing=0.7),
    "crowded": replace(TASK, competing=1.0, filler=1),
    "agreeing": replace(TASK, competing=0.5, agreeing=0.6),
    "one": KeyValueRecall(pairs=1, queries=1, keys=2, values=1, filler=1),
}
SPECS = {
    "softmax": ModelSpec(width=24, heads=3),
    "log-n": ModelSpec(width=24, heads=3, normalizer="log-n softmax"),
    "grouped": ModelSpec(width=28, heads=4, kv_heads=2, mlp=17),
    "grouped, log-n": ModelSpec(width=28, heads=4, kv_heads=2, mlp=17, normalizer="log-n softmax"),
    "no norm": ModelSpec(width=24, heads=3, qk_norm=False),
    "no shift": ModelSpec(width=24, heads=3, key_shift=False),
    "fixed": ModelSpec(width=24, heads=2, kv_heads=1, qk_scale=3.0, learn_scale=False),
}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def model_of(spec, task=TASK, seed=0):
    """Return a model moved away from its symmetric start."""
    model, moves = build(spec, task.vocabulary, seed), generator(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += 0.3 * torch.randn(parameter.shape, generator=moves)
    return model


def whole(text):
    """Return a text in one piece with its questions, as a batch of one for the dense model."""
    pieces = [*text.pieces]
    context = sum(map(len, pieces))
    batch = text.batch
    return Batch(
        torch.cat([*pieces, batch.tokens[0]])[None], batch.at + context, batch.answers, batch.gap
    ), pieces


def drawn(task, length, seed, piece=2**20):
    """Return a batch for the dense model, and the same text for streaming."""
    text = draw(task, length, generator(seed), piece=piece)
    batch, pieces = whole(text)
    return batch, Text(iter(pieces), text.batch, text.needles)


def dense_scores(model, tokens):
    """Return the scores of all heads as the softmax gets them, [b h s s]; not causal, and without log n."""
    attention = model.layers[0].attention
    x = model.layers[0].attention_norm(model.embed(tokens))
    asked = attention.project(x, torch.arange(tokens.shape[1])[None])
    k = asked.k.repeat_interleave(asked.q.shape[1] // asked.k.shape[1], dim=1)
    return (asked.q * asked.scale) @ k.transpose(-1, -2)


# Answers ----------------------------------------------------------------------------------------------


PAIRED = [
    *((spec, "competing", 14) for spec in SPECS),
    *(("grouped, log-n", task, piece) for task, piece in zip(TASKS, (2, 14, 2**20, 2, 2**20), strict=True)),
]


@pytest.mark.parametrize(("spec", "task", "piece"), PAIRED)
def test_answers_are_those_of_the_dense_model(spec, task, piece):
    model = model_of(SPECS[spec], TASKS[task])
    for length in (61, 114):
        batch, text = drawn(TASKS[task], length, 3, piece)
        assert batch.tokens.shape == (1, length)
        found = answers(kinds_of(model), text)
        with torch.no_grad():
            logits = model(batch.tokens, None, batch.at)[0]
            maps = attention_maps(model, batch.tokens)[0][0].double()
            scores = dense_scores(model, batch.tokens)[0].double()
        torch.testing.assert_close(torch.stack([one.logits for one in found]), logits, atol=1e-5, rtol=1e-5)
        assert len(found) == TASKS[task].queries
        for one, at, gap in zip(found, batch.at[0].tolist(), batch.gap[0].tolist(), strict=True):
            needle = at - gap + 1
            weight = maps[:, at, needle]
            rest = maps[:, at, : at + 1].sum(-1) - weight
            torch.testing.assert_close(one.log_odds, (weight / rest).log(), atol=1e-4, rtol=1e-4)
            row = scores[:, at, : at + 1].numpy()
            if "log-n" in spec:
                row = row * math.log(at + 1)
            others = np.delete(row, needle, axis=1)
            np.testing.assert_allclose(one.margin, row[:, needle] - others.mean(1), atol=1e-4, rtol=1e-4)
            np.testing.assert_allclose(one.variance, others.var(1), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("splits", [[1, 1, 1, 52], [7, 13, 35], [54, 1], [3, 5, 47], [1] * 55])
def test_a_text_may_be_cut_anywhere(splits):
    """The key of a token at the start of a piece looks back on the last of the piece before."""
    model = model_of(SPECS["grouped"])
    batch, text = drawn(TASK, 61, 5)
    pieces = batch.tokens[0, :55].split(splits)
    assert len(pieces) > 1
    found = answers(kinds_of(model), Text(iter(pieces), text.batch, text.needles))
    with torch.no_grad():
        logits = model(batch.tokens, None, batch.at)[0]
    torch.testing.assert_close(torch.stack([one.logits for one in found]), logits, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("normalizer", ["", "softmax", "log-n softmax"])
def test_scores_changed_after_training_are_streamed_as_well(normalizer):
    changed = after(model_of(SPECS["grouped"]), Temper(1.7, normalizer))
    batch, text = drawn(TASK, 61, 5)
    found = torch.stack([one.logits for one in answers(kinds_of(changed), text)])
    with torch.no_grad():
        torch.testing.assert_close(found, changed(batch.tokens, None, batch.at)[0], atol=1e-5, rtol=1e-5)


def test_large_scores_do_not_overflow():
    model = model_of(replace(SPECS["softmax"], qk_scale=500.0, learn_scale=False))
    found = answers(kinds_of(model), drawn(TASK, 61, 5)[1])
    for one in found:
        assert torch.stack([one.log_odds, one.margin, one.variance]).isfinite().all()
        assert one.logits.isfinite().all()


def test_counts_of_kinds_worked_by_hand():
    counts, total, last = counts_of_kinds(iter([torch.tensor([2, 0, 0]), torch.tensor([0, 2])]), 3)
    # 2 after none; 0 after 2; twice 0 after 0, once over the cut; 2 after 0
    assert counts.tolist() == [[2, 0, 1], [0, 0, 0], [1, 0, 0], [0, 0, 1]]
    assert (total, last) == (5, 2)
    empty, total, last = counts_of_kinds(iter([]), 3)
    assert (empty.sum(), total, last) == (0, 0, 3)


# Texts ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("piece", [2, 14, 2**20])
@pytest.mark.parametrize("length", [38, 61, 1234])
@pytest.mark.parametrize("task", TASKS)
def test_the_layout_is_that_of_the_task(task, length, piece):
    task = TASKS[task]
    for seed in range(7):
        text = draw(task, length, generator(seed), piece=piece)
        batch, pieces = whole(text)
        tokens, context = batch.tokens[0], length - 2 * task.queries
        assert [len(one) for one in pieces[:-1]] == [piece] * (len(pieces) - 1)
        assert 0 < len(pieces[-1]) <= piece
        assert len(tokens) == length
        assert batch.at.tolist() == [[context + 2 * i for i in range(task.queries)]]
        asked = tokens[batch.at[0]]
        assert len(asked.unique()) == task.queries
        assert torch.equal(tokens[batch.at[0] + 1], batch.answers[0])
        needle = (batch.at - batch.gap)[0]
        assert torch.equal(text.needles, torch.stack([tokens[needle], tokens[needle + 1]], 1))
        assert torch.equal(text.needles, torch.stack([asked, batch.answers[0]], 1))
        assert (needle % 2 == 0).all()
        assert (tokens[:context, None] == asked).sum(0).tolist() == [1] * task.queries, "each is bound once"
        keys = tokens[:context] < task.keys
        assert (tokens[:context][keys] < task.keys).all()
        values = (tokens >= task.keys) & (tokens < task.keys + task.values)
        assert torch.equal(values[1 : context + 1], keys), "a value follows each key, and nothing else"
        assert keys.sum() == task.pairs or task.competing
        assert tokens.max() < task.vocabulary


def gathered(task, length, texts, seed=0):
    """Return many texts of streaming as one batch."""
    source = generator(seed)
    batches = [whole(draw(task, length, source, piece=16))[0] for _ in range(texts)]
    return Batch(*(torch.cat([getattr(b, f) for b in batches]) for f in ("tokens", "at", "answers", "gap")))


@pytest.mark.parametrize("length", [61, 401])  # few places are listed, many drawn until they differ
def test_texts_are_distributed_as_those_of_the_task(length):
    task = replace(TASK, competing=0.6, agreeing=0.5)
    ours, theirs = gathered(task, length, 400), task.sample(400, length, generator(1))
    for name, count in (("tokens", task.vocabulary), ("answers", task.keys + task.values)):
        # counted once a sequence, at one place, since places of a sequence depend on each other
        found = [
            torch.bincount(getattr(b, name)[:, place], minlength=count).numpy()
            for place in (0, 1)
            for b in (ours, theirs)
        ]
        for one, other in (found[:2], found[2:]):
            kept = one + other > 0
            assert distributions.chi2_contingency([one[kept], other[kept]]).pvalue > 1e-3
    slots = (ours.at - ours.gap) // 2
    spread = torch.bincount(slots[:, 0] * 5 // ((length - 6) // 2), minlength=5)[:5]
    assert distributions.chisquare(spread).pvalue > 1e-3
    assert distributions.ks_2samp(ours.gap[:, 1], theirs.gap[:, 1]).pvalue > 1e-3


def test_competing_pairs_take_their_share_and_agree_as_asked():
    task = replace(TASK, competing=0.6, agreeing=0.25, values=19)
    tokens = whole(draw(task, 2 * 20_000 + 6, generator(2), piece=1000))[0].tokens[0]
    slots = tokens[:-6].view(-1, 2)
    pairs = slots[slots[:, 0] < task.keys]
    assert abs(len(pairs) / len(slots) - 0.6) < 5 * (0.24 / len(slots)) ** 0.5
    counted = torch.bincount(pairs[:, 1] - task.keys, minlength=task.values) / len(pairs)
    expected = torch.full((task.values,), 0.75 / task.values)
    expected[counted.argmax()] += 0.25
    assert (counted - expected).abs().max() < 5 * 0.5 / len(pairs) ** 0.5
    per_key = torch.bincount(pairs[:, 0], minlength=task.keys)
    assert sorted(per_key.tolist())[:5] == [1] * 5, "the pairs of the task"
    assert distributions.chisquare(per_key[per_key > 1]).pvalue > 1e-3


def test_the_one_voice_is_never_an_answer():
    task = replace(TASK, competing=1.0, agreeing=1.0, values=6)
    voices = set()
    for seed in range(60):
        text = draw(task, 206, generator(seed), piece=20)
        batch, _ = whole(text)
        tokens = batch.tokens[0, :200].view(100, 2)
        common = int(tokens[:, 1].mode().values)
        assert (tokens[:, 1] == common).sum() == 95, "one voice in all competing pairs, over all pieces"
        assert common not in batch.answers
        voices.add(common)
    assert voices == set(range(13, 19))


def test_the_generator_alone_decides():
    for task in TASKS.values():
        one, same, other = (whole(draw(task, 61, generator(seed)))[0] for seed in (5, 5, 6))
        torch.manual_seed(1)
        assert torch.equal(one.tokens, same.tokens)
        assert torch.equal(one.gap, same.gap)
        if task.vocabulary > 4:
            assert not torch.equal(one.tokens, other.tokens)


@pytest.mark.parametrize("pairs", [5, 500])
def test_many_pairs_find_their_places(pairs):
    """Places drawn until all differ would never end with hundreds of pairs in a few thousand places."""
    task = KeyValueRecall(pairs=pairs, queries=2, keys=503, values=11, filler=7)
    tokens = whole(draw(task, 8 * 2 * pairs + 4, generator(0)))[0].tokens[0, :-4]
    assert len(tokens[tokens < 503].unique()) == (tokens < 503).sum() == pairs


# Rows -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained():
    """A model that recalls four pairs."""
    task = KeyValueRecall(pairs=4, queries=2, keys=29, values=23, filler=7)
    model = build(ModelSpec(width=32), task.vocabulary, 0)
    with runtime.one_thread():
        train(model, task, TrainSpec(length=64, updates=100, batch=32, lr=1e-2, betas=(0.8, 0.95)), seed=0)
    return model, task


@pytest.mark.slow
def test_rows_are_those_of_evaluation(trained):
    model, task = trained
    shares = []
    for length in (64, 2048, 8192):
        (row,) = streamed_rows(model, task, length, 400, seed=1)
        dense = recall_rows(model, task, length, 400, seed=1)
        ours, theirs = row["correct"] / 400, sum(one["correct"] for one in dense) / 400
        assert abs(ours - theirs) < 5 * (0.25 / 400 * 2) ** 0.5 * max(0.3, 2 * (ours * (1 - ours)) ** 0.5)
        shares.append(ours)
        assert row.keys() == {"weight", "log_odds", "margin", "variance"} | dense[0].keys()
        assert (row["length"], row["gap"], row["total"], row["chance"]) == (length, 0, 400, 1 / 23)
        assert math.isnan(row["depth"])
        assert type(row["correct"]) is int
    assert shares[0] > 0.9
    assert shares[-1] < 0.8


def test_rows_worked_by_hand():
    """The means over all questions, of the head whose needle has the highest log odds."""
    model, task = model_of(SPECS["grouped"]), TASK
    source = torch.Generator().manual_seed(2 * 1_000_003 + 61)
    replies, right = [], 0
    for _ in range(4):  # 10 questions, three a text
        text = draw(task, 61, source)
        for reply, wanted in zip(answers(kinds_of(model), text), text.batch.answers[0].tolist(), strict=True):
            replies.append(reply)
            right += int(reply.logits.argmax()) == wanted
    (row,) = streamed_rows(model, task, 61, 10, seed=2)
    assert (row["total"], row["correct"]) == (12, right)
    odds = torch.stack([reply.log_odds for reply in replies])
    head = odds.mean(0).argmax()
    assert row["log_odds"] == pytest.approx(odds.mean(0).max().item())
    assert row["weight"] == pytest.approx((odds[:, head].exp() / (1 + odds[:, head].exp())).mean().item())
    for name in ("margin", "variance"):
        assert row[name] == pytest.approx(np.mean([getattr(reply, name)[head].item() for reply in replies]))
    other = streamed_rows(model, task, 61, 10, seed=3)
    assert other[0]["log_odds"] != row["log_odds"]


def test_an_untrained_model_scores_chance():
    task = replace(TASK, values=5)
    right = total = 0
    for seed in range(5):
        model = build(ModelSpec(width=32), task.vocabulary, seed)
        with torch.no_grad():  # of the values alone, as a guesser does
            model.embedding.weight[: task.keys] *= 0.1
            model.embedding.weight[task.keys + task.values :] *= 0.1
        (row,) = streamed_rows(model, task, 512, 300, seed=seed)
        right, total = right + row["correct"], total + row["total"]
        assert row["weight"] < 0.1
    assert abs(right / total - task.chance) < 5 * (task.chance * (1 - task.chance) / total) ** 0.5


def test_a_million_tokens():
    (row,) = streamed_rows(model_of(SPECS["log-n"]), TASK, 2**20 + 2**18 + 1, 3, seed=0)
    assert row["total"] == 3
    for name in ("weight", "log_odds", "margin", "variance"):
        assert math.isfinite(row[name])


# Bad input --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (
            {"position": RoPE()},
            r"model is of .*RoPE.*; allowed is one layer of full attention by softmax or log-n",
        ),
        ({"layers": 2}, r"model is of ModelSpec\(layers=2.*; allowed is one layer"),
        ({"normalizer": "sparsemax"}, "model is of .*sparsemax.*; allowed is one layer"),
        ({"pattern": Window(3)}, "model is of .*Window.*; allowed is one layer"),
        ({"mixer": LearnedSink()}, "model is of .*LearnedSink.*; allowed is one layer"),
        ({"separator": 0}, "model is of .*separator=0.*; allowed is one layer"),
    ],
)
def test_models_that_cannot_be_streamed_are_named(options, named):
    model = build(ModelSpec(**{"width": 24, **options}), TASK.vocabulary, 0)
    with pytest.raises(ValueError, match=named):
        kinds_of(model)
    with pytest.raises(ValueError, match=named):
        streamed_rows(model, TASK, 64, 3, seed=0)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"text": True}, "text of task is True; allowed is False"),
        ({"announced": True}, "announced of task is True; allowed is False"),
        ({"rewritten": True}, "rewritten of task is True; allowed is False"),
        ({"depth": 0.5}, "depth of task is 0.5; allowed is None"),
        ({"depths": (0.5, 0.5)}, r"depths of task is \(0.5, 0.5\); allowed is \(\)"),
    ],
)
def test_tasks_that_cannot_be_streamed_are_named(options, named):
    with pytest.raises(ValueError, match=named):
        draw(replace(TASK, **options), 64, generator())


def test_sizes_that_cannot_be_are_named():
    for piece in (0, 1, 7, -2):
        with pytest.raises(ValueError, match=f"piece is {piece}; allowed is an even number from 2 on"):
            draw(TASK, 64, generator(), piece=piece)
    assert whole(draw(TASK, 16, generator()))[0].tokens.shape == (1, 16)
    with pytest.raises(ValueError, match="length is 15; allowed is 16 or more"):
        draw(TASK, 15, generator())
