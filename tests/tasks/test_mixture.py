"""Mixtures: sequences of their tasks, each row whole, in the shares asked for. And a task behind a first token."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from scipy import stats as distributions

from lcbook.experiments.train import TrainSpec, train
from lcbook.models.decoder import ModelSpec, build
from lcbook.tasks.base import Batch, Task
from lcbook.tasks.hops import Hops
from lcbook.tasks.mixture import Mixture, Opened
from lcbook.tasks.mqar import MQAR
from lcbook.tasks.recall import KeyValueRecall
from lcbook.tasks.symbols import Symbols

SMALL = KeyValueRecall(pairs=3, queries=2, keys=5, values=7, filler=2)
FAR = dataclasses.replace(SMALL, depth=0.0)  # the first pair asked for is the first of all
CHAINS = Hops(hops=2, chains=3, queries=2, names=11, filler=13)
FIELDS = ("tokens", "at", "answers", "gap")


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


class Constant:
    """Sequences of one token, `queries` questions: shows which task a row is of."""

    def __init__(self, token, queries=2):
        self.token, self.queries, self.vocabulary, self.chance = token, queries, token + 1, 1 / (token + 1)

    def sample(self, batch, length, generator):
        rows = torch.arange(batch)[:, None].expand(-1, self.queries)
        return Batch(torch.full((batch, length), self.token), rows, rows + 100, rows + 1000)


def test_vocabulary_is_the_largest_and_chance_the_mean():
    mixed = Mixture((SMALL, CHAINS), (0.25, 0.75))
    assert isinstance(mixed, Task)
    assert mixed.vocabulary == 3 * 11 + 13
    assert mixed.chance == pytest.approx(0.25 / 7 + 0.75 / 3, abs=1e-15)
    assert Mixture((Constant(6), Constant(1)), (1, 0)).chance == 1 / 7


def test_shares_are_kept():
    shares = (0.5, 0.1, 0.4)
    mixed = Mixture(tuple(Constant(token) for token in (3, 5, 2)), shares)
    rows = [mixed.sample(307, 2, generator(seed)).tokens[:, 0] for seed in range(7)]
    found = torch.bincount(torch.cat(rows), minlength=6)
    assert found[[0, 1, 4]].sum() == 0
    assert distributions.chisquare(found[[3, 5, 2]], [2149 * share for share in shares]).pvalue > 1e-3
    # each sequence is drawn by itself: whether two in a row are of one task is no rarer than by chance
    same = sum(int((row[1:] == row[:-1]).sum()) for row in rows)
    assert distributions.binomtest(same, 7 * 306, 0.25 + 0.01 + 0.16).pvalue > 1e-3
    # and the shares vary from batch to batch as independent draws do
    counts = [int((mixed.sample(40, 2, generator(seed)).tokens[:, 0] == 3).sum()) for seed in range(200)]
    assert 7 < torch.tensor(counts).double().var() < 13.5  # 40 / 4


def test_rows_are_the_tasks_own_in_their_order():
    batch = Mixture((Constant(3), Constant(5)), (0.5, 0.5)).sample(23, 2, generator())
    for token in (3, 5):
        rows = batch.tokens[:, 0] == token
        count = int(rows.sum())
        assert 0 < count < 23
        assert batch.at[rows, 0].tolist() == list(range(count)), "none left out, none twice"
    assert torch.equal(batch.answers, batch.at + 100)
    assert torch.equal(batch.gap, batch.at + 1000)


def test_each_row_is_a_whole_sequence_of_a_task():
    batch = Mixture((FAR, CHAINS), (0.5, 0.5)).sample(61, 41, generator(1))
    chained = (batch.tokens >= 5 + 7 + 2).any(1)
    assert 10 < chained.sum() < 50
    for row in range(61):
        tokens, at, answers, gap = (getattr(batch, field)[row] for field in FIELDS)
        if chained[row]:
            continue
        assert at.tolist() == [37, 39]
        assert gap[0] == 37, "the first pair lies at the very start"
        assert torch.equal(tokens[at - gap], tokens[at]), "the same key"
        assert torch.equal(tokens[at - gap + 1], answers), "its value"


def test_one_task_alone_is_that_task():
    mixed, plain = Mixture((SMALL, CHAINS), (1.0, 0.0)), SMALL
    batch = mixed.sample(13, 31, generator())
    state = generator()
    torch.multinomial(torch.tensor([1.0, 0.0], dtype=torch.float64), 13, replacement=True, generator=state)
    expected = plain.sample(13, 31, state)
    assert all(torch.equal(getattr(batch, field), getattr(expected, field)) for field in FIELDS)


def test_the_generator_alone_decides():
    mixed = Mixture((SMALL, CHAINS), (0.5, 0.5))
    one, same, other = (mixed.sample(7, 31, generator(seed)) for seed in (5, 5, 6))
    assert all(torch.equal(getattr(one, field), getattr(same, field)) for field in FIELDS)
    assert not torch.equal(one.tokens, other.tokens)


def test_with_pairs_is_passed_on():
    mixed = Mixture((SMALL, MQAR(pairs=2)), (0.5, 0.5))
    assert mixed.with_pairs(5) == Mixture((SMALL.with_pairs(5), MQAR(pairs=5)), (0.5, 0.5))
    nested = Mixture((mixed, CHAINS), (0.1, 0.9))
    assert nested.with_pairs(5).tasks == (mixed.with_pairs(5), CHAINS.with_pairs(5))
    with pytest.raises(ValueError, match=r"tasks has .*; allowed in a curriculum by pairs are tasks with"):
        Mixture((SMALL, Constant(3)), (0.5, 0.5)).with_pairs(5)


def test_another_number_of_questions_is_noticed_in_any_batch():
    mixed = Mixture((SMALL, dataclasses.replace(SMALL, queries=3)), (1.0, 0.0))
    with pytest.raises(ValueError, match=r"tasks ask \[2, 3\] questions a sequence; allowed is one number"):
        mixed.sample(1, 31, generator())


def test_a_length_that_one_task_cannot_have_is_noticed_in_any_batch():
    mixed = Mixture((SMALL, CHAINS), (1.0, 0.0))
    with pytest.raises(ValueError, match="length is 17; allowed is batch >= 1 and length >= 22"):
        mixed.sample(1, 17, generator())
    with pytest.raises(ValueError, match="batch is 0; allowed is 1 or more"):
        mixed.sample(0, 31, generator())


@pytest.mark.parametrize(
    ("tasks", "shares", "named"),
    [
        ((), (), r"tasks is \(\); allowed is at least one task"),
        ((SMALL,), (0.5, 0.5), "allowed is one share for each of 1 tasks"),
        ((SMALL, CHAINS), (1.0,), "allowed is one share for each of 2 tasks"),
        ((SMALL, CHAINS), (0.5, 0.4), "which sums to 0.9; allowed are shares that sum to 1"),
        ((SMALL, CHAINS), (1, 1), "which sums to 2.0; allowed are shares that sum to 1"),
        ((SMALL, CHAINS), (1.5, -0.5), "allowed are shares of 0 or more"),
        ((SMALL, CHAINS), (1.0, float("nan")), "allowed are shares of 0 or more"),
    ],
)
def test_impossible_mixtures_are_named(tasks, shares, named):
    with pytest.raises(ValueError, match=named):
        Mixture(tasks, shares)


def test_shares_that_rounding_leaves_off_one_are_allowed():
    assert Mixture((SMALL,) * 10, (0.1,) * 10).sample(2, 31, generator()).tokens.shape == (2, 31)
    thirds = Mixture((SMALL,) * 3, (1 / 3,) * 3)
    assert thirds.sample(2, 31, generator()).tokens.shape == (2, 31)


def test_a_mixture_trains():
    mixed = Mixture((Symbols(queries=2), Symbols(kind="alias", queries=2)), (0.5, 0.5))
    model = build(ModelSpec(layers=1, width=8), mixed.vocabulary, 0)
    trained = train(model, mixed, TrainSpec(length=47, updates=2, batch=3), seed=0)
    assert len(trained.recalls) == 2


def test_the_first_token_occurs_nowhere_else_and_moves_all_by_one():
    inner_task = KeyValueRecall(pairs=3, queries=3, keys=8, values=8, filler=4, competing=1.0)
    opened = Opened(inner_task, chance=1 / 8)
    assert isinstance(opened, Task)
    assert opened.vocabulary == 21
    inner, batch = inner_task.sample(5, 30, generator(7)), opened.sample(5, 31, generator(7))
    assert batch.tokens[:, 0].tolist() == [20] * 5
    assert torch.equal(batch.tokens[:, 1:], inner.tokens)
    assert torch.equal(batch.at, inner.at + 1)
    assert torch.equal(batch.answers, inner.answers)
    assert torch.equal(batch.tokens.gather(1, batch.at), inner.tokens.gather(1, inner.at))
    assert torch.equal(batch.gap, inner.gap)
