"""Schedules: plans by hand, the budget of tokens to the last one, distributions, stages, and what is refused."""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter
from dataclasses import replace

import pytest
from scipy.stats import chisquare

from lcbook.experiments import schedules
from lcbook.experiments.schedules import Fixed, Linear, LogUniform, Stage, Steps, Uniform, Update, plan
from lcbook.experiments.train import TrainSpec
from lcbook.models.positions import RoPE, YaRN

FAR, FARTHER = RoPE(500_000.0), RoPE(scaling=YaRN(4.0, 64))


def tokens(updates) -> int:
    """All tokens that some updates read."""
    return sum(one.length * one.sequences for one in updates)


def test_a_linear_plan_worked_by_hand():
    # 64 tokens an update: 8 of 8, 4 of 16, 2 of 24 with 16 left over, 2 of 32 with 16 left over. The last update and
    # what is left are 80 tokens: three sequences of at most 32, as equal as goes.
    spec = TrainSpec(length=32, updates=4, batch=2, lengths=Linear(8))
    by_hand = (Update(8, 8), Update(16, 4), Update(24, 2), Update(24, 2), Update(32, 1))
    assert plan(spec, 0) == plan(spec, 1) == by_hand, "nothing is drawn"
    assert plan(replace(spec, updates=1), 0) == (Update(32, 2),)


def test_a_plan_in_steps_worked_by_hand():
    # 120 tokens an update: 7 of 16 and 8 left, 5 of 24 and 8 left, 3 of 40 and 8 left twice; 128 are 4 of 32.
    stages = (Stage(16, 0.25), Stage(24, 0.25, FAR), Stage(40, 0.5))
    spec = TrainSpec(length=40, updates=4, batch=3, lengths=Steps(stages))
    by_hand = (Update(16, 7), Update(24, 5, FAR), Update(40, 3, FAR), Update(32, 4, FAR))
    assert plan(spec, 0) == plan(spec, 1) == by_hand


def test_a_fixed_plan_is_the_spec():
    assert plan(TrainSpec(length=13, updates=3, batch=7), 5) == (Update(13, 7),) * 3


def schedule(kind: str, draw: random.Random) -> tuple[int, schedules.Lengths]:
    """A training length and a schedule up to it, drawn at random."""
    least, length = sorted(8 * draw.randint(1, 41) for _ in range(2))
    if kind == "steps":
        between = sorted(draw.choice(range(least, length + 1, 8)) for _ in range(draw.randint(0, 2)))
        shares = [draw.randint(1, 3) for _ in (*between, least)]
        share = [one / (sum(shares) + 5) for one in shares]
        found = [Stage(*one) for one in zip((least, *between), share, strict=True)]
        return length, Steps((*found, Stage(length, 5 / (sum(shares) + 5))))
    return length, {"uniform": Uniform, "log-uniform": LogUniform, "linear": Linear}[kind](least)


@pytest.mark.parametrize("kind", ["uniform", "log-uniform", "linear", "steps"])
def test_the_budget_is_spent_to_the_last_token(kind):
    draw = random.Random(7)
    laid_out_anew = 0
    for seed in range(150):
        length, lengths = schedule(kind, draw)
        updates, batch = draw.choice([17, 23, 31, 101]), draw.choice([1, 2, 3, 5, 13])
        spec = TrainSpec(length=length, updates=updates, batch=batch, lengths=lengths)
        planned = plan(spec, seed)
        assert tokens(planned) == updates * batch * length
        least = schedules.shortest(lengths, length)
        assert all(one.length % 8 == 0 and least <= one.length <= length for one in planned)
        assert all(one.sequences >= 1 for one in planned)
        assert all(one.length * one.sequences <= (batch + 1) * length for one in planned)
        assert updates / 2 <= len(planned) <= updates + 1
        if 2 * least > length:
            continue  # the lengths are close together: more than the last update may be laid out anew
        # about equal: what an update leaves over is less than one sequence, and the next one makes up for it
        spent = itertools.accumulate(one.length * one.sequences for one in planned[: updates - 1])
        assert all(0 <= (i + 1) * batch * length - now < length for i, now in enumerate(spent))
        laid_out_anew += len({one.length for one in planned[-2:]}) == 2
        assert plan(spec, seed) == planned
    assert laid_out_anew > 10


@pytest.mark.parametrize("updates", [1, 2, 3])
def test_the_budget_is_spent_by_a_few_updates(updates):
    for kind, batch, least in itertools.product((Uniform, LogUniform, Linear), (1, 2, 7), range(8, 105, 8)):
        for seed in range(5):
            spec = TrainSpec(length=104, updates=updates, batch=batch, lengths=kind(least))
            planned = plan(spec, seed)
            assert tokens(planned) == updates * batch * 104
            assert all(least <= one.length <= 104 and one.sequences >= 1 for one in planned)


def test_uniform_lengths_are_equally_likely():
    counts = Counter()
    for seed in range(10):
        planned = plan(TrainSpec(length=56, updates=400, batch=5, lengths=Uniform(24)), seed)
        counts.update(one.length for one in planned[:395])
    assert sorted(counts) == [24, 32, 40, 48, 56]
    assert chisquare(list(counts.values())).pvalue > 1e-3


def test_log_uniform_lengths_have_equal_octaves():
    counts = Counter()
    for seed in range(10):
        planned = plan(TrainSpec(length=120, updates=400, batch=5, lengths=LogUniform(16)), seed)
        counts.update(one.length for one in planned[:395])
    found = [counts[length] for length in range(16, 121, 8)]
    # a draw between a length and the next multiple of 8 becomes that length
    chances = [math.log((length + 8) / length) / math.log(128 / 16) for length in range(16, 121, 8)]
    assert sum(found) == 3950
    assert chisquare(found, [3950 * chance for chance in chances]).pvalue > 1e-3
    octaves = [sum(counts[length] for length in range(low, 2 * low, 8)) for low in (16, 32, 64)]
    assert chisquare(octaves).pvalue > 1e-3
    assert chisquare(found).pvalue < 1e-9, "not uniform"


def test_each_training_draws_lengths_of_its_own():
    spec = TrainSpec(length=64, updates=30, lengths=Uniform(8))
    assert len({plan(spec, seed) for seed in range(20)}) == 20


def test_stages_get_their_shares_of_tokens():
    stages = (Stage(16, 0.5), Stage(48, 0.3), Stage(104, 0.2))
    spec = TrainSpec(length=104, updates=110, batch=3, lengths=Steps(stages))
    planned = plan(spec, 3)
    lengths = [one.length for one in planned]
    assert lengths[:-2] == sorted(lengths[:-2])
    assert [lengths.count(16), lengths[:108].count(48)] == [55, 33]
    for stage in stages[:2]:
        read = tokens(one for one in planned if one.length == stage.length)
        assert abs(read - stage.share * 110 * 3 * 104) < 104
    thirds = Steps((Stage(8, 1 / 49), Stage(16, 48 / 49)))  # 49 * (1 / 49) is below 1 in floating point
    assert plan(TrainSpec(length=16, updates=49, lengths=thirds), 0)[:2] == (Update(8, 128), Update(16, 64))


def test_a_stage_keeps_the_encoding_of_the_one_before_unless_it_has_one():
    stages = (Stage(16, 0.25), Stage(16, 0.25, FAR), Stage(32, 0.25), Stage(64, 0.25, FARTHER))
    planned = plan(TrainSpec(length=64, updates=8, batch=1, lengths=Steps(stages)), 0)
    found = [(one.length, one.position) for one in planned]
    assert found == [(16, None)] * 2 + [(16, FAR)] * 2 + [(32, FAR)] * 2 + [(64, FARTHER)] * 2


def test_linear_lengths_grow_evenly_from_the_shortest_to_the_target():
    planned = plan(TrainSpec(length=1024, updates=128, batch=3, lengths=Linear(16)), 0)
    lengths = [one.length for one in planned]
    assert lengths[:127] == sorted(lengths[:127])
    assert lengths[0] == 16
    assert 1024 - 8 <= max(lengths) <= 1024
    assert all(b - a in (0, 8, 16) for a, b in itertools.pairwise(lengths[:127]))
    spent = itertools.accumulate((one.length * one.sequences for one in planned[:127]), initial=0)
    for length, before in zip(lengths[:127], spent, strict=False):
        share = before / (127 * 3 * 1024)
        assert abs(length - (16 + share * 1008)) <= 4 + 8


def test_names_on_figures():
    kinds = [Fixed(), Uniform(8), LogUniform(8), Steps((Stage(8, 1.0),)), Linear(8)]
    assert [one.label for one in kinds] == ["fixed", "uniform", "log-uniform", "steps", "linear"]
    assert [schedules.shortest(one, 96) for one in kinds] == [96, 8, 8, 8, 8]


HALVES = Steps((Stage(32, 0.5), Stage(64, 0.5)))


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"lengths": Steps((Stage(16, 0.5), Stage(32, 0.5)))}, "stages end at length 32; allowed is .* 64"),
        ({"lengths": Steps((Stage(16, 0.5), Stage(72, 0.5)))}, "stages end at length 72"),
        ({"lengths": Steps((Stage(16, 0.5), Stage(64, 0.4)))}, r"shares \[0.5, 0.4\]; .* sum to 1"),
        ({"lengths": Steps((Stage(16, math.nan), Stage(64, 0.5)))}, "sum to 1"),
        ({"lengths": Steps((Stage(16, -0.5), Stage(64, 1.5)))}, "one update or more each"),
        ({"lengths": Steps((Stage(16, 0), Stage(64, 1)))}, "one update or more each"),
        ({"lengths": HALVES, "updates": 1}, "of 1 updates; allowed are shares of one update or more each"),
        ({"lengths": Steps((Stage(64, 0.5), Stage(32, 0.5)))}, r"lengths \[64, 32\]; .* short to long"),
        ({"lengths": Steps((Stage(20, 0.5), Stage(64, 0.5)))}, r"lengths \[20, 64\]; .* multiples of 8"),
        ({"lengths": Steps((Stage(0, 0.5), Stage(64, 0.5)))}, r"lengths \[0, 64\]"),
        ({"lengths": Steps(())}, r"lengths \[\]"),
        ({"lengths": Uniform(72)}, "shortest is 72; allowed are multiples of 8 from 8 to the length, 64"),
        ({"lengths": LogUniform(0)}, "shortest is 0"),
        ({"lengths": Linear(-8)}, "shortest is -8"),
        ({"lengths": Linear(20)}, "shortest is 20; allowed are multiples of 8"),
        ({"lengths": Uniform(8), "length": 60}, "length is 60 with Uniform.*; allowed are multiples of 8"),
        ({"lengths": Uniform(8), "curriculum": ((16, 2),)}, "with a curriculum; allowed is one of the two"),
    ],
)
def test_an_impossible_schedule_is_named(wrong, named):
    with pytest.raises(ValueError, match=named):
        TrainSpec(**wrong)
