"""Symbols: whoever reads the pairs scores 100 %, whoever does not scores chance, and all kinds share their contexts."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
import torch
from scipy import stats as distributions

from lcbook.tasks.base import Task
from lcbook.tasks.symbols import KINDS, MARKS, Symbols

BASE = Symbols(pairs=17, values=5, queries=3, symbols=23, filler=7)
LENGTH = 71  # a context of 62: 20 places for pairs
every_kind = pytest.mark.parametrize("kind", KINDS)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def pairs_of(task, tokens):
    """Read the pairs of one sequence in their order: (key, value, place)."""
    context, found = len(tokens) - 3 * task.queries, []
    filler = 2 * task.symbols + MARKS
    for place in range(0, context - 2, 3):
        if tokens[place] < task.symbols:
            assert tokens[place + 1] < task.symbols
            assert tokens[place + 2] >= filler, "filler follows a pair"
            found.append((tokens[place], tokens[place + 1], place))
        else:
            assert min(tokens[place : place + 3]) >= filler
    assert min(tokens[3 * (context // 3) : context], default=filler) >= filler
    return found


def rows_of(task, batch):
    """Return for each sequence its pairs, tokens, and questions: (place, answer, gap)."""
    rows = (x.tolist() for x in (batch.tokens, batch.at, batch.answers, batch.gap))
    for tokens, at, answers, gap in zip(*rows, strict=True):
        yield pairs_of(task, tokens), tokens, list(zip(at, answers, gap, strict=True))


def read(task, pairs, tokens, place):
    """Answer a question as its mark says; return the answer and the place of the pair that holds it."""
    leads, places = {a: b for a, b, _ in pairs}, {a: where for a, _, where in pairs}
    symbols, asked = task.symbols, tokens[place]
    mark = next(
        token - 2 * symbols for token in (tokens[place], tokens[place - 1]) if 0 <= token - 2 * symbols < 4
    )
    if mark == 0:
        asked = asked - symbols if asked >= symbols else asked
        return leads[asked], places[asked]
    if mark == 1:
        return leads[leads[asked]], places[leads[asked]]
    if mark == 2:
        (winner, most), (_, second) = Counter(leads.values()).most_common(2)
        assert most > second, "one winner"
        return winner, pairs[0][2]
    return asked - symbols, place


@every_kind
@pytest.mark.parametrize(("pairs", "length"), [(17, 71), (11, 42), (23, 97)])
def test_a_reader_scores_all(kind, pairs, length):
    task = replace(BASE, kind=kind, pairs=pairs)
    batch = task.sample(53, length, generator())
    assert batch.tokens.shape == (53, length)
    assert batch.tokens.min() >= 0
    assert batch.tokens.max() < task.vocabulary
    for found, tokens, questions in rows_of(task, batch):
        assert len({key for key, _, _ in found}) == pairs
        for place, answer, gap in questions:
            assert read(task, found, tokens, place) == (answer, place - gap)


@every_kind
def test_layout_of_the_questions(kind):
    task = replace(BASE, kind=kind)
    batch = task.sample(53, LENGTH, generator())
    assert batch.at.tolist() == [[63, 66, 69]] * 53
    before, at, after = (batch.tokens.gather(1, batch.at + step) for step in (-1, 0, 1))
    first = {"lookup": 0, "alias": 23, "two hops": 0, "name": 23}.get(kind)
    assert (after >= 50).all(), "filler follows, not the answer"
    if first is None:
        assert (at == 48).all()
        assert (before >= 50).all()
    else:
        assert (before == {"lookup": 46, "alias": 46, "two hops": 47, "name": 49}[kind]).all()
        assert ((at >= first) & (at < first + 23)).all()
    assert (batch.tokens[:, :62] < 23).sum(1).eq(2 * 17).all(), "neither alias nor mark in the context"


def test_pairs_lead_around_a_ring_and_to_one_winner():
    # 17 pairs, 5 values: the ring has 5 pairs, 12 other keys: 2 for each of four values, 4 for the winner
    assert BASE.winning == 5
    task = replace(BASE, kind="most frequent")
    for found, _, questions in rows_of(task, task.sample(211, LENGTH, generator())):
        leads = {a: b for a, b, _ in found}
        counts = Counter(leads.values())
        assert sorted(counts.values()) == [3, 3, 3, 3, 5]
        assert all(counts[answer] == 5 for _, answer, _ in questions)
        value = questions[0][1]
        for step in range(1, 6):
            value = leads[value]
            assert (value == questions[0][1]) == (step == 5)
    assert [Symbols(pairs=p, values=6).winning for p in (13, 18, 19, 25)] == [3, 8, 4, 5]


@every_kind
def test_every_symbol_is_asked_for_at_the_same_rate(kind):
    task = replace(BASE, kind=kind, queries=1)
    answers = task.sample(4001, LENGTH, generator(1)).answers.flatten()
    found = torch.bincount(answers, minlength=23)
    assert len(found) == 23
    assert distributions.chisquare(found).pvalue > 1e-3


def guesses(task, batch):
    """Return how often each way to guess without looking at what is asked is right."""
    right = Counter()
    for found, tokens, questions in rows_of(task, batch):
        inner = {b for _, b, _ in found}
        values = [b for _, b, _ in found]
        counts = Counter(values)
        keys = [key for key, _, _ in found if key not in inner]
        for i, (place, answer, _) in enumerate(questions):
            asked = tokens[place] % task.symbols
            order = {key: rank for rank, (key, _, _) in enumerate(found)}
            guess = {
                "first value": values[0],
                "last value": values[-1],
                "middle value": values[len(values) // 2],
                "most frequent": counts.most_common(1)[0][0],
                "rarest": counts.most_common()[-1][0],
                "lowest": min(inner),
                "last to appear": max(inner, key=values.index),
                "value after the pair": values[(order.get(asked, 0) + 1) % len(values)],
                "value before the pair": values[order.get(asked, 0) - 1],
                "same rank": sorted(inner)[sorted(keys).index(asked) % len(inner)]
                if asked in keys
                else min(inner),
                "first key that is a value": next(key for key, _, _ in found if key in inner),
                "asked before": questions[i - 1][1] if i else min(inner),
            }
            right.update(name for name, token in guess.items() if token == answer)
            right.update(["one hop"] if dict((a, b) for a, b, _ in found).get(asked) == answer else [])
            right.update(["itself"] if asked == answer else [])
    return right, batch.answers.numel()


@pytest.mark.parametrize("kind", ["lookup", "alias", "two hops"])
def test_whoever_does_not_read_the_pair_scores_chance(kind):
    task = replace(BASE, kind=kind)
    right, total = guesses(task, task.sample(1201, LENGTH, generator(2)))
    assert task.chance == 1 / 5
    one_hop, itself = right.pop("one hop", 0), right.pop("itself", 0)
    assert one_hop == (0 if kind == "two hops" else total), "one hop is the answer or never right"
    assert itself == 0
    assert len(right) == 12
    spread = 4.5 * (0.2 * 0.8 / total) ** 0.5
    # who has found the pair of the key and reads its neighbour is right less often: the pair itself is left out
    for way in ("value after the pair", "value before the pair"):
        assert right.pop(way) / total < 0.2 + spread, way
    for way, count in right.items():
        assert abs(count / total - 0.2) < spread, way


def test_most_frequent_cannot_be_told_from_ids_or_one_pair():
    task = replace(BASE, kind="most frequent", queries=1)
    right, total = guesses(task, task.sample(3001, LENGTH, generator(3)))
    spread = 4.5 * (0.3 * 0.7 / total) ** 0.5
    assert right["most frequent"] == total
    assert abs(right["lowest"] / total - 1 / 5) < spread
    assert abs(right["first key that is a value"] / total - 1 / 5) < spread
    for way in ("first value", "middle value", "last value"):  # 5 of 17 pairs have it
        assert abs(right[way] / total - 5 / 17) < spread, way


def test_a_name_does_not_depend_on_the_context():
    task = replace(BASE, kind="name", queries=1)
    batch = task.sample(4001, LENGTH, generator(4))
    assert task.chance == 1 / 23
    assert torch.equal(batch.tokens.gather(1, batch.at) - 23, batch.answers)
    held = sum(batch.answers[i, 0].item() in batch.tokens[i, :68:3].tolist() for i in range(4001)) / 4001
    assert abs(held - 17 / 23) < 4.5 * (17 * 6 / 23**2 / 4001) ** 0.5


def test_pairs_and_questions_take_every_place():
    task = replace(BASE, kind="lookup", queries=1)
    batch = task.sample(4001, LENGTH, generator(5))
    slots = torch.bincount((batch.at - batch.gap).flatten() // 3, minlength=22)
    assert len(slots) == 22  # a context of 68
    assert distributions.chisquare(slots).pvalue > 1e-3


def test_all_kinds_share_contexts_questions_and_vocabulary():
    tasks = {kind: replace(BASE, kind=kind) for kind in KINDS}
    assert {task.vocabulary for task in tasks.values()} == {2 * 23 + 4 + 7}
    batches = {kind: task.sample(31, LENGTH, generator()) for kind, task in tasks.items()}
    context = batches["lookup"].tokens[:, :62]
    assert all(torch.equal(batch.tokens[:, :62], context) for batch in batches.values())
    lookup, alias, hops = (batches[kind] for kind in ("lookup", "alias", "two hops"))
    changed = lookup.tokens.clone().scatter_add_(1, lookup.at, torch.full_like(lookup.at, 23))
    assert torch.equal(alias.tokens, changed), "an alias takes the key's place, and nothing else changes"
    assert torch.equal(alias.answers, lookup.answers)
    assert torch.equal(alias.gap, lookup.gap)
    changed = lookup.tokens.clone().scatter_add_(1, lookup.at - 1, torch.ones_like(lookup.at))
    assert torch.equal(hops.tokens, changed), "the mark alone tells one hop from two"


def test_questions_of_a_sequence_are_independent():
    task = replace(BASE, queries=2)
    batch = task.sample(4001, LENGTH, generator(6))
    same = int((batch.answers[:, 0] == batch.answers[:, 1]).sum())
    assert distributions.binomtest(same, 4001, 1 / 5).pvalue > 1e-3
    # each key of a value is as likely: who asks twice for the winner asks for the same of its 4 keys in 1/4 of cases
    twice = [
        tokens[questions[0][0]] == tokens[questions[1][0]]
        for found, tokens, questions in rows_of(task, batch)
        if {answer for _, answer, _ in questions}
        == set(Counter(b for _, b, _ in found).most_common(1)[0][:1])
    ]
    assert 100 < len(twice) < 230
    assert distributions.binomtest(sum(twice), len(twice), 1 / 4).pvalue > 1e-3


@every_kind
def test_the_generator_alone_decides(kind):
    task = replace(BASE, kind=kind)
    one, same, other = (task.sample(7, LENGTH, generator(seed)) for seed in (5, 5, 6))
    for field in ("tokens", "at", "answers", "gap"):
        assert torch.equal(getattr(one, field), getattr(same, field))
    assert not torch.equal(one.tokens, other.tokens)


def test_sizes_and_curricula():
    assert isinstance(BASE, Task)
    assert Symbols().with_pairs(25) == Symbols(pairs=25)
    assert Symbols(kind="alias").with_pairs(8) == Symbols(kind="alias", pairs=8, values=3)
    assert Symbols(values=3).with_pairs(10) == Symbols(values=3, pairs=10)
    with pytest.raises(ValueError, match="values is 2; allowed is 3 or more"):
        Symbols().with_pairs(6)


def test_pairs_must_fit_the_length():
    task = Symbols(pairs=7, values=3, queries=2)
    assert task.sample(1, 27, generator()).tokens.shape == (1, 27)
    with pytest.raises(ValueError, match="length is 26; allowed is batch >= 1 and length >= 27"):
        task.sample(1, 26, generator())
    with pytest.raises(ValueError, match="batch is 0"):
        task.sample(0, 27, generator())


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        (
            {"kind": "recall"},
            "kind is 'recall'; allowed is one of lookup, alias, two hops, most frequent, name",
        ),
        ({"values": 2}, "values is 2; allowed is 3 or more"),
        ({"queries": 0}, "queries is 0; allowed is 1 or more"),
        ({"filler": 0}, "filler is 0; allowed is 1 or more"),
        ({"pairs": 12}, "pairs is 12; allowed is 13 or more with 6 values"),
        ({"pairs": 33}, r"pairs is 33; allowed is at most symbols \(32\)"),
    ],
)
def test_impossible_tasks_are_named(wrong, named):
    with pytest.raises(ValueError, match=named):
        Symbols(**wrong)
