"""Items as tokens: a reader of the tokens answers every task, the needle lies where asked, and nothing else tells."""

import numpy as np
import pytest
import torch

from lcbook.tasks.item_tokens import SMALL, ItemTokens, terms
from lcbook.tasks.items import COPY, IS, ITEMS, VOTE, Sizes
from lcbook.tasks.words import KEYS, LANDMARKS


def sampled(task, batch=13, length=71, seed=5, **options):
    one = ItemTokens((task,), **options)
    return one, one.sample(batch, length, torch.Generator().manual_seed(seed))


def words_of(task: ItemTokens, row) -> list[str]:
    """Return the terms of a row, "" for filler."""
    names = terms(task.sizes)
    return [names[token] if token < len(names) else "" for token in row.tolist()]


def answered(task: str, said: list[str], at: int, start: int) -> str:
    """Return what a careful reader of the `said` terms answers after place `at`; the questions begin at `start`."""
    context, asked = said[:start], said[start : at + 1]
    after = [(context[i], context[i + 1]) for i in range(start - 1)]
    cities = {city: landmark for landmark, city in LANDMARKS.items()}
    match task:
        case "near_duplicate" | "question_answering":
            return next(z for x, (y, z) in zip(context, after[1:], strict=False) if [x, y] == asked[-2:])
        case "tracking":
            name = asked[-1]
            while name in KEYS:
                name = next(z for x, (y, z) in zip(context, after[1:], strict=False) if (x, y) == (IS, name))
            return name
        case "most_common":
            votes = [y for x, y in after if x == VOTE]
            return max(set(votes), key=votes.count)
        case "counting":
            return str(sum(y == asked[-1] for x, y in after if x == VOTE))
        case "without_literal_match":
            return next(y for x, y in after if x == cities[asked[-1]])
        case "copy":
            return context[context.index(COPY) + len(asked)]
        case "summary":
            return [y for x, y in after if x in KEYS][len(asked) - 1]
        case "multi_value":
            return [y for x, y in after if x == asked[0]][len(asked) - 1]
        case _:
            return next(y for x, y in after if x == asked[-1])


@pytest.mark.parametrize("competing", [0.0, 0.7])
@pytest.mark.parametrize("task", ITEMS)
def test_a_reader_answers_every_task(task, competing):
    if competing and task in ("summary", "most_common", "counting", "copy"):
        competing = 0.3  # their distractors are facts of another form
    one, batch = sampled(task, length=97, competing=competing)
    for tokens, at, answers in zip(batch.tokens, batch.at, batch.answers, strict=True):
        said = words_of(one, tokens)
        cue = 2 if task in ("near_duplicate", "question_answering", "tracking", "counting") else 1
        start = int(at[0]) - cue + 1
        for place, answer in zip(at.tolist(), answers.tolist(), strict=True):
            assert answered(task, said, place, start) == terms(one.sizes)[answer]
            assert tokens[place + 1] == answer


@pytest.mark.parametrize("depth", [0.0, 0.37, 1.0])
def test_the_needle_lies_at_its_depth(depth):
    _, batch = sampled("needle", length=83, depth=depth)
    context = int(batch.at[0, 0])
    assert (batch.at - batch.gap == round(depth * (context - 2))).all()
    # among other facts it moves by less than half of one of them
    _, batch = sampled("multi_key", length=83, depth=depth, competing=1.0)
    assert ((batch.at - batch.gap - round(depth * (context - 2))).abs() <= 1).all()


def test_gap_points_at_the_fact_of_each_answer():
    _, batch = sampled("multi_query", length=67)
    asked = batch.tokens.gather(1, batch.at)
    assert (batch.tokens.gather(1, batch.at - batch.gap) == asked).all()
    assert (batch.tokens.gather(1, batch.at - batch.gap + 1) == batch.answers).all()


def test_competing_facts_fill_their_share_and_keep_the_answer_unique():
    one, batch = sampled("multi_key", batch=5, length=211, competing=1.0)
    filler = (batch.tokens[:, :-2] >= len(terms(one.sizes))).float().mean()
    assert filler < 0.02
    for row, at in zip(batch.tokens, batch.at, strict=True):
        assert (row[: at[0]] == row[at[0]]).sum() == 1  # the asked key occurs once
    _, half = sampled("multi_key", batch=5, length=211, competing=0.5)
    assert 0.45 < (half.tokens[:, :-2] >= len(terms(one.sizes))).float().mean() < 0.5


def test_a_mixture_repeats_the_last_question_and_is_reproducible():
    task = ItemTokens(("needle", "multi_query"), Sizes(pairs=5, asked=3, keys=11, numbers=7))
    batch = task.sample(17, 61, torch.Generator().manual_seed(3))
    again = task.sample(17, 61, torch.Generator().manual_seed(3))
    assert batch.at.shape == (17, 3)
    assert (batch.tokens == again.tokens).all()
    assert {len(set(row)) for row in batch.at.tolist()} == {1, 3}
    assert (batch.at[:, -1] == 59).all()
    other = task.sample(17, 61, torch.Generator().manual_seed(4))
    assert (batch.tokens != other.tokens).any()


def test_filler_is_told_by_a_bigram():
    one, batch = sampled("needle", batch=29, length=301)
    told = one.predictable(batch.tokens)
    steps = (batch.tokens[:, 1:] - batch.tokens[:, :-1])[told] % one.filler
    assert set(steps.tolist()) == {1, 3}
    assert 0.4 < (steps == 1).float().mean() < 0.6


def test_chance_is_the_mean_over_tasks():
    assert ItemTokens(("needle",)).chance == pytest.approx(1 / 32)
    assert ItemTokens(("needle", "most_common")).chance == pytest.approx((1 / 32 + 1 / 3) / 2)


def test_a_guesser_is_at_chance():
    one, batch = sampled("multi_key", batch=997, length=41)
    numbers = torch.tensor(
        [i for i, word in enumerate(terms(one.sizes)) if word.isdigit() and len(word) == 3]
    )
    guess = numbers[torch.randint(len(numbers), (997,), generator=torch.Generator().manual_seed(1))]
    assert len(numbers) == SMALL.numbers
    assert np.isclose((guess == batch.answers[:, 0]).float().mean(), one.chance, atol=0.02)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tasks": ("needles",)}, "tasks is .*allowed are one or more of needle"),
        ({"tasks": ()}, "tasks is"),
        ({"depth": 1.5}, "depth is 1.5; allowed is a share"),
        ({"competing": -0.1}, "competing is -0.1"),
        ({"filler": 3}, "filler is 3"),
    ],
)
def test_bad_settings(options, message):
    with pytest.raises(ValueError, match=message):
        ItemTokens(**options)


def test_too_short_a_length_is_refused():
    with pytest.raises(ValueError, match="length is 9; allowed is at least 10 for the task multi_key"):
        sampled("multi_key", length=9)
    with pytest.raises(ValueError, match="batch is 0"):
        sampled("multi_key", batch=0)
    assert sampled("multi_key", length=10)[1].tokens.shape == (13, 10)
