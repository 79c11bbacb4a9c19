"""Chains of lookups: a walker along the pairs scores 100 %, whoever does not walk scores chance."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from lcbook.tasks.base import Task
from lcbook.tasks.hops import Hops

TASKS = {
    "one hop": Hops(hops=1, chains=5, queries=3, names=7, filler=11),
    "two hops": Hops(hops=2, chains=5, queries=3, names=7, filler=11, asked=2),
    "any of three": Hops(hops=3, chains=3, queries=4, names=5, filler=2),
    "middle of three": Hops(hops=3, chains=3, queries=1, names=3, filler=11, asked=2),
    "unordered": Hops(hops=3, chains=3, queries=2, names=5, filler=11, backward=False),
    "one chain": Hops(hops=2, chains=1, queries=2, names=1, filler=1),
}
every_task = pytest.mark.parametrize("name", TASKS)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def pairs_of(task, tokens, context):
    """Read all pairs of one sequence: a dict from each name to the name after it, and one from name to place."""
    names = (task.hops + 1) * task.names
    leads, places, at = {}, {}, 0
    while at < context:
        if tokens[at] >= names:
            at += 1
            continue
        assert tokens[at] not in leads, "each name leads to one other"
        leads[tokens[at]], places[tokens[at]] = tokens[at + 1], at
        assert tokens[at + 2] >= names, "filler follows a pair"
        at += 3
    return leads, places


def rows_of(task, batch):
    """Return for each sequence its tokens, pairs, places, questions, answers and gaps."""
    context = batch.tokens.shape[1] - 2 * task.queries
    for tokens, at, answers, gap in zip(
        *(x.tolist() for x in (batch.tokens, batch.at, batch.answers, batch.gap)), strict=True
    ):
        yield tokens, *pairs_of(task, tokens, context), at, answers, gap


@every_task
@pytest.mark.parametrize("length", [37, 61])
def test_a_walker_scores_all(name, length):
    task = TASKS[name]
    batch, lengths = task.sample(53, length, generator()), set()
    assert batch.tokens.shape == (53, length)
    assert batch.tokens.min() >= 0
    assert batch.tokens.max() < task.vocabulary
    for tokens, leads, places, at, answers, gap in rows_of(task, batch):
        for place, answer, distance in zip(at, answers, gap, strict=True):
            name, steps, last = tokens[place], 0, -1
            while name in leads:
                name, steps, last = leads[name], steps + 1, places[name]
            assert name == answer
            assert distance == place - last, "the gap is to the pair that holds the answer"
            lengths.add(steps)
    assert lengths == ({task.asked} if task.asked else set(range(1, task.hops + 1)))


@every_task
def test_layout_of_a_sequence(name):
    task = TASKS[name]
    batch = task.sample(53, 61, generator())
    context = 61 - 2 * task.queries
    assert batch.at.tolist() == [[context + 2 * i for i in range(task.queries)]] * 53
    filler = batch.tokens >= (task.hops + 1) * task.names
    assert filler.gather(1, batch.at + 1).all(), "no question is followed by its answer"
    assert (batch.answers // task.names == task.hops).all()
    assert (~filler[:, :context]).sum(1).eq(2 * task.hops * task.chains).all()
    for _, leads, places, *_ in rows_of(task, batch):
        assert len(leads) == task.hops * task.chains
        assert len(set(leads.values())) == len(leads), "chains do not meet"
        for one, other in leads.items():
            assert other // task.names == one // task.names + 1, "a pair leads one level on"
            assert places[one] % 3 == 0
        if task.backward:
            behind = [
                places[one] > places[other]
                for one in leads
                for other in leads
                if other // task.names > one // task.names
            ]
            assert all(behind), "a pair stands behind all that it can lead to"


def test_unordered_pairs_stand_in_any_order():
    task = TASKS["unordered"]
    behind = [
        places[one] > places[other]
        for _, leads, places, *_ in rows_of(task, task.sample(307, 61, generator()))
        for one, other in leads.items()
        if other in leads
    ]
    assert abs(sum(behind) / len(behind) - 0.5) < 5 * 0.5 / len(behind) ** 0.5


def guesses(task, batch):
    """Return how often each way to guess without walking is right, and the number of questions."""
    right = dict.fromkeys(["first end", "last end", "nearest", "same rank", "rank from behind"], 0)
    for tokens, leads, places, at, answers, _ in rows_of(task, batch):
        level = [
            [name for name in sorted(places, key=places.get) if name // task.names == i]
            for i in range(task.hops)
        ]
        ends = [leads[name] for name in level[-1]]
        for place, answer in zip(at, answers, strict=True):
            asked = tokens[place]
            rank = level[asked // task.names].index(asked)
            near = min(level[-1], key=lambda name: abs(places[name] - places[asked]))
            right["first end"] += ends[0] == answer
            right["last end"] += ends[-1] == answer
            right["nearest"] += leads[near] == answer
            right["same rank"] += ends[rank] == answer
            right["rank from behind"] += ends[-1 - rank] == answer
    return right, batch.answers.numel()


@pytest.mark.parametrize("backward", [True, False])
def test_whoever_does_not_walk_scores_chance(backward):
    task = Hops(hops=2, chains=5, queries=3, names=7, filler=11, asked=2, backward=backward)
    right, total = guesses(task, task.sample(1009, 61, generator()))
    assert task.chance == 1 / 5
    for way, count in right.items():
        assert abs(count / total - 0.2) < 5 * (0.2 * 0.8 / total) ** 0.5, way


@every_task
def test_every_end_is_asked_for_at_the_same_rate(name):
    task = TASKS[name]
    answers = task.sample(2003, 61, generator()).answers.flatten() - task.hops * task.names
    share = torch.bincount(answers, minlength=task.names).double() / len(answers)
    assert len(share) == task.names
    assert (share - 1 / task.names).abs().max() <= 5 * (1 / task.names / len(answers)) ** 0.5


def test_any_number_of_hops_is_asked_for_at_the_same_rate():
    task = TASKS["any of three"]
    batch = task.sample(2003, 61, generator())
    level = batch.tokens.gather(1, batch.at).flatten() // task.names
    share = torch.bincount(level, minlength=3).double() / len(level)
    assert (share - 1 / 3).abs().max() < 5 * (2 / 9 / len(level)) ** 0.5


@every_task
def test_the_generator_alone_decides(name):
    one, same, other = (TASKS[name].sample(7, 60, generator(seed)) for seed in (5, 5, 6))
    for field in ("tokens", "at", "answers", "gap"):
        assert torch.equal(getattr(one, field), getattr(same, field))
    assert name == "one chain" or not torch.equal(one.tokens, other.tokens)


def test_sizes_and_curricula():
    task = Hops(hops=3, chains=3, queries=2, names=5, filler=11)
    assert isinstance(task, Task)
    assert (task.vocabulary, task.chance) == (4 * 5 + 11, 1 / 3)
    assert task.with_pairs(5) == replace(task, chains=5)
    with pytest.raises(ValueError, match=r"chains is 6; allowed is at most names \(5\)"):
        task.with_pairs(6)


def test_pairs_must_fit_the_length():
    task = Hops(hops=2, chains=3, queries=4)  # six pairs of three tokens, four questions of two
    assert task.sample(1, 26, generator()).tokens.shape == (1, 26)
    with pytest.raises(ValueError, match="length is 25; allowed is batch >= 1 and length >= 26"):
        task.sample(1, 25, generator())
    with pytest.raises(ValueError, match="batch is 0"):
        task.sample(0, 26, generator())


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"hops": 0}, "hops is 0; allowed is 1 or more"),
        ({"chains": 0}, "chains is 0; allowed is 1 or more"),
        ({"queries": -1}, "queries is -1; allowed is 1 or more"),
        ({"names": 0}, "names is 0; allowed is 1 or more"),
        ({"filler": 0}, "filler is 0; allowed is 1 or more"),
        ({"chains": 6, "names": 5}, r"chains is 6; allowed is at most names \(5\)"),
        ({"hops": 3, "asked": 4}, r"asked is 4; allowed is 0 \(any\) to the hops of a chain \(3\)"),
        ({"asked": -1}, "asked is -1; allowed is 0"),
    ],
)
def test_impossible_tasks_are_named(wrong, named):
    with pytest.raises(ValueError, match=named):
        Hops(**wrong)
