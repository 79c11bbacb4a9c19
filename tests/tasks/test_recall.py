"""Recall: an oracle that reads the sequence scores 100 %, a guesser scores chance."""

from __future__ import annotations

import hashlib
import math
from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from scipy import stats as distributions

from lcbook.tasks.base import Batch
from lcbook.tasks.mqar import MQAR
from lcbook.tasks.recall import KeyValueRecall, depth_weights

TASKS = {
    "plain": KeyValueRecall(pairs=5, queries=3, keys=13, values=11, filler=17),
    "start": KeyValueRecall(pairs=5, queries=3, keys=13, values=11, filler=17, depth=0.0),
    "middle": KeyValueRecall(pairs=5, queries=1, keys=13, values=11, filler=17, depth=0.5),
    "end": KeyValueRecall(pairs=5, queries=5, keys=13, values=11, filler=17, depth=1.0),
    "competing": KeyValueRecall(pairs=5, queries=3, keys=13, values=11, filler=17, competing=0.7),
    "crowded": KeyValueRecall(pairs=5, queries=3, keys=13, values=11, filler=17, competing=1.0, depth=0.3),
    "text": KeyValueRecall(pairs=5, queries=3, keys=13, values=11, filler=17, text=True),
    "announced": KeyValueRecall(pairs=5, queries=3, keys=13, values=11, filler=17, announced=True),
    "rewritten": KeyValueRecall(pairs=5, queries=3, keys=13, values=11, filler=17, rewritten=True),
    "both": KeyValueRecall(
        pairs=4, queries=4, keys=13, values=11, filler=17, announced=True, rewritten=True, competing=0.7
    ),
    "recent": KeyValueRecall(
        pairs=5, queries=3, keys=13, values=11, filler=17, depths=(0.05, 0.15, 0.8), competing=0.4
    ),
    "recent, announced": KeyValueRecall(
        pairs=5, queries=5, keys=13, values=11, filler=17, depths=(0.0, 1.0), announced=True
    ),
    "agreeing": KeyValueRecall(
        pairs=5, queries=3, keys=13, values=11, filler=17, competing=0.7, agreeing=0.5
    ),
    "one voice": KeyValueRecall(
        pairs=5,
        queries=3,
        keys=13,
        values=11,
        filler=17,
        competing=1.0,
        agreeing=1,
        text=True,
        rewritten=True,
    ),
    "mqar": MQAR(vocabulary=97, pairs=5, examples=331, seed=3),
}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def announced_by(task):
    """Return how many tokens at the start of a sequence tell what will be asked for."""
    return task.queries if getattr(task, "announced", False) else 0


def look_up(task, tokens, at):
    """Read the answers from the sequences alone: the token after the latest earlier place of the same key."""
    answers, gaps = torch.empty_like(at), torch.empty_like(at)
    start, times = announced_by(task), 1 + getattr(task, "rewritten", False)
    for row, places in enumerate(at.tolist()):
        for column, place in enumerate(places):
            earlier = start + (tokens[row, start:place] == tokens[row, place]).nonzero()
            assert len(earlier) == times, (
                "a key that is asked for is bound once before its question, or twice"
            )
            answers[row, column] = tokens[row, earlier[-1, 0] + 1]
            gaps[row, column] = place - earlier[-1, 0]
    return answers, gaps


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("length", [38, 61])
def test_an_oracle_scores_all(name, length):
    if name == "mqar":
        length -= length % 2
    batch = TASKS[name].sample(53, length, generator())
    assert batch.tokens.shape == (53, length)
    assert batch.tokens.min() >= 0
    assert batch.tokens.max() < TASKS[name].vocabulary
    answers, gaps = look_up(TASKS[name], batch.tokens, batch.at)
    assert torch.equal(answers, batch.answers)
    assert torch.equal(gaps, batch.gap)


@pytest.mark.parametrize("name", TASKS)
def test_a_guesser_scores_chance(name):
    task = TASKS[name]
    if name == "mqar":  # a set is fixed, so a larger one
        task = MQAR(vocabulary=97, pairs=5, examples=2219, seed=3)
    batch = torch.cat([task.sample(317, 60, generator(seed)).answers for seed in range(7)]).flatten()
    count = round(1 / task.chance)
    # Every value is asked for at the same rate: five standard errors around chance hold the score of any guess.
    scores = torch.bincount(batch - batch.min(), minlength=count).double() / len(batch)
    assert len(scores) == count
    assert (scores - task.chance).abs().max() < 5 * (task.chance * (1 - task.chance) / len(batch)) ** 0.5


@pytest.mark.parametrize("name", TASKS)
def test_the_generator_alone_decides(name):
    one, same, other = (TASKS[name].sample(7, 60, generator(seed)) for seed in (5, 5, 6))
    torch.manual_seed(1)
    for field in ("tokens", "at", "answers", "gap"):
        assert torch.equal(getattr(one, field), getattr(same, field))
    assert not torch.equal(one.tokens, other.tokens)


@pytest.mark.parametrize("name", [name for name in TASKS if name != "mqar"])
def test_layout_of_a_sequence(name):
    task = TASKS[name]
    batch = task.sample(53, 61, generator())
    context, start = 61 - 2 * task.queries, announced_by(task)
    assert batch.at.tolist() == [[context + 2 * i for i in range(task.queries)]] * 53
    assert torch.equal(batch.tokens.gather(1, batch.at + 1), batch.answers)
    assert torch.equal(batch.tokens[:, :start], batch.tokens.gather(1, batch.at)[:, :start])
    assert (batch.answers // task.keys == 1).logical_or(batch.answers == task.keys + task.values - 1).all()
    kinds = torch.bucketize(batch.tokens, torch.tensor([task.keys, task.keys + task.values]), right=True)
    kinds = kinds[:, start:]
    bound = (kinds[:, : context - start] == 0).sum(1)
    if not task.competing:
        assert (bound == task.pairs + task.rewritten * task.queries).all()
    is_key = kinds[:, :-1] == 0
    assert (kinds[:, 1:][is_key] == 1).all(), "a value follows each key"
    assert ((kinds == 1).sum(1) == (kinds == 0).sum(1)).all()


def test_a_key_that_is_rewritten_had_another_value():
    task = TASKS["rewritten"]
    batch = task.sample(2003, 60, generator())
    asked = batch.tokens.gather(1, batch.at)
    context = batch.tokens[:, :54]
    places = (context[:, None] == asked[..., None]).nonzero()[:, 2].view(2003, 3, 2)
    assert torch.equal(places[..., 1], batch.at - batch.gap), "the later one counts"
    rows = torch.arange(2003)[:, None]
    stale = batch.tokens[rows, places[..., 0] + 1]
    # fresh too, so that it is the right answer as often as any value
    same = (stale == batch.answers).double().mean()
    assert abs(same - 1 / 11) < 5 * (1 / 11 * 10 / 11 / stale.numel()) ** 0.5
    assert sorted(stale.unique().tolist()) == list(range(13, 24))
    # two places drawn at random from 27 slots: the later is any but the first, a higher one more often
    slots = torch.bincount(places[..., 1].flatten() // 2, minlength=27).double() / stale.numel()
    expected = torch.arange(27) / (27 * 26 / 2)
    assert (slots - expected).abs().max() < 5 * (expected.max() / stale.numel()) ** 0.5


def test_what_is_announced_leaves_the_rest_as_it_is():
    """After the start, an announced sequence is drawn as any other; depth counts from there."""
    task = KeyValueRecall(pairs=5, queries=1, keys=13, values=11, filler=17, announced=True, depth=0.0)
    batch = task.sample(31, 61, generator())
    assert (batch.gap == 59 - 1).all()  # the first slot after one announced key
    last = KeyValueRecall(pairs=5, queries=1, keys=13, values=11, filler=17, announced=True, depth=1.0)
    assert (last.sample(31, 61, generator()).gap == 59 - 57).all()  # 29 slots from 1 on
    crowd = KeyValueRecall(pairs=2, queries=2, keys=13, values=11, filler=17, announced=True, competing=1.0)
    tokens = crowd.sample(31, 60, generator()).tokens
    assert (tokens[:, 2:] < 24).all()
    assert (tokens[:, 0] != tokens[:, 1]).all()


def test_depth_places_the_first_pair():
    # 61 tokens, 1 query: a context of 59 has 29 slots of two; depth 1/2 is slot 14, so a key at 28, asked at 59
    gap = TASKS["middle"].sample(31, 61, generator()).gap
    assert (gap == 59 - 28).all()
    assert (TASKS["start"].sample(31, 61, generator()).gap[:, 0] == 55).all()
    # 5 queries: a context of 51 has 25 slots, the last at 48; the first question stands at 51
    assert (TASKS["end"].sample(31, 61, generator()).gap[:, 0] == 3).all()


def test_drawn_depths_are_uniform():
    task = KeyValueRecall(pairs=3, queries=2, keys=13, values=11, filler=17)
    batch = task.sample(6007, 30, generator())  # a context of 26: 13 slots
    slots = (batch.at - batch.gap)[:, 0] // 2
    share = torch.bincount(slots, minlength=13) / 6007
    assert len(share) == 13
    assert (share - 1 / 13).abs().max() < 5 * (1 / 13 * 12 / 13 / 6007) ** 0.5
    chosen = KeyValueRecall(pairs=3, queries=2, keys=13, values=11, filler=17, depth=0.5)
    others = (lambda b: (b.at - b.gap)[:, 1] // 2)(chosen.sample(6007, 30, generator()))
    assert sorted(others.unique().tolist()) == [slot for slot in range(13) if slot != 6]


# Digests of the batches before there was `depths`: tokens, at, answers, gap as little-endian int64.
UNIFORM = {
    "plain": "1280c193bf74fd2b0e4d481c77e6972cddfceb2f32fc04143d88bb35cb73fe34",
    "placed": "405de1b27e8e03e1d87b41a7096cd4bdf09353e64e7369e2a010947cf5a00e90",
    "both": "25f05bb210ba46d6ad8bc614934bd5f602419501e1bf57489d00b6eca367eb82",
}


def digest(batch):
    data = b"".join(
        x.numpy().astype("<i8").tobytes() for x in (batch.tokens, batch.at, batch.answers, batch.gap)
    )
    return hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("name", UNIFORM)
def test_without_depths_nothing_moves(name):
    options = {
        "plain": {},
        "placed": {"depth": 0.3, "competing": 0.7, "text": True},
        "both": {"announced": True, "rewritten": True},
    }[name]
    task = KeyValueRecall(pairs=5, queries=3, keys=13, values=11, filler=17, depths=(), **options)
    assert digest(task.sample(31, 61, generator(7))) == UNIFORM[name]


def shares(depths, slots):
    """Return exactly how much of the weights each of `slots` parts of the context gets, by overlap."""
    bins, found = len(depths), []
    for i in range(slots):
        low, high = Fraction(i, slots), Fraction(i + 1, slots)
        found.append(
            sum(
                max(0, min(high, Fraction(j + 1, bins)) - max(low, Fraction(j, bins)))
                * bins
                * Fraction(weight)
                for j, weight in enumerate(depths)
            )
        )
    return [float(share) for share in found]


DEPTHS = [
    (0.5, 0.125, 0.375),
    (1.0,),
    depth_weights("recency", 10, 2.0),
    depth_weights("both ends", 7, 3),
    depth_weights("primacy", 53, 1.0),
]


def chi_square(found, expected):
    """Return the p-value of counts against shares; nothing may lie where the share is 0."""
    expected = torch.tensor(expected, dtype=torch.float64)
    assert len(found) == len(expected)
    assert found[expected == 0].sum() == 0
    kept = expected > 0
    scaled = expected[kept] / expected[kept].sum() * found.sum()
    return distributions.chisquare(found[kept], scaled).pvalue


@pytest.mark.parametrize("depths", DEPTHS)
def test_needles_lie_where_depths_says(depths):
    task = KeyValueRecall(pairs=4, queries=1, keys=13, values=11, filler=17, depths=depths)
    batch = task.sample(20_011, 61, generator(1))  # a context of 59: 29 slots
    found = torch.bincount((batch.at - batch.gap).flatten() // 2, minlength=29)
    assert chi_square(found, shares(depths, 29)) > 1e-3
    if depths != (1.0,):
        assert chi_square(found, [1 / 29] * 29) < 1e-9


def test_depths_worked_by_hand():
    # 3 bins over 4 slots: the second slot, 1/4 to 1/2, is 1/12 of bin 1 and 1/6 of bin 2
    assert shares((0.5, 0.125, 0.375), 4) == pytest.approx([0.375, 0.125 + 0.0625, 0.0625 + 0.09375, 0.28125])
    assert shares((0.0, 0.0, 1.0), 6) == [0, 0, 0, 0, 0.5, 0.5]
    task = KeyValueRecall(pairs=4, queries=2, keys=13, values=11, filler=17, depths=(0.0, 0.0, 1.0))
    batch = task.sample(211, 16, generator())  # a context of 12: 6 slots, the last third are two
    assert (batch.at - batch.gap).sort(1).values.tolist() == [[8, 10]] * 211
    announced = KeyValueRecall(
        pairs=2, queries=2, keys=13, values=11, filler=17, depths=(1, 0, 0), announced=True
    )
    batch = announced.sample(211, 18, generator())  # two announced keys, then 6 slots from 2 on
    assert (batch.at - batch.gap).sort(1).values.tolist() == [[2, 4]] * 211


def test_several_needles_are_drawn_one_after_another():
    depths = (0.5, 0.125, 0.375)
    task = KeyValueRecall(pairs=3, queries=2, keys=13, values=11, filler=17, depths=depths)
    batch = task.sample(20_011, 11, generator(2))  # a context of 7: 3 slots, one a bin
    slots = (batch.at - batch.gap) // 2
    assert chi_square(torch.bincount(slots[:, 0]), depths) > 1e-3
    second = [sum(p / (1 - p) for j, p in enumerate(depths) if j != i) * q for i, q in enumerate(depths)]
    assert sum(second) == pytest.approx(1)
    assert chi_square(torch.bincount(slots[:, 1]), second) > 1e-3
    both = [0 if i == j else p * q / (1 - p) for i, p in enumerate(depths) for j, q in enumerate(depths)]
    assert chi_square(torch.bincount(slots[:, 0] * 3 + slots[:, 1], minlength=9), both) > 1e-3


def test_pairs_that_are_not_asked_for_lie_anywhere():
    task = KeyValueRecall(pairs=2, queries=1, keys=13, values=11, filler=17, depths=(0.0, 1.0))
    batch = task.sample(6007, 30, generator(3))  # a context of 28: 14 slots, the asked pair in the last 7
    keys = batch.tokens[:, 0:28:2] < 13
    found = keys.sum(0)
    assert found[:7].sum() == pytest.approx(6007 * 7 / 13, rel=0.05)
    assert distributions.chisquare(found[:7]).pvalue > 1e-3
    assert distributions.chisquare(found[7:]).pvalue > 1e-3


def test_pairs_that_just_fit_take_every_place():
    task = KeyValueRecall(pairs=5, queries=3, keys=13, values=11, filler=17, depths=(0.2, 0.8))
    batch = task.sample(211, 16, generator())  # a context of 10: 5 slots for 5 pairs
    assert (batch.tokens[:, 0:10:2] < 13).all()
    assert all(len(set(keys)) == 5 for keys in batch.tokens[:, 0:10:2].tolist())


def test_depths_that_leave_too_few_places_are_named():
    task = KeyValueRecall(pairs=4, queries=3, depths=(1.0, 0.0, 0.0, 0.0))
    assert task.sample(2, 30, generator()).tokens.shape == (2, 30)  # 12 slots, 3 in the first quarter
    with pytest.raises(ValueError, match=r"leaves 2 places of 8; allowed is at least queries \(3\)"):
        task.sample(2, 22, generator())


def test_weights_of_the_dial():
    assert depth_weights("uniform", 4) == depth_weights("recency", 4, 0) == (0.25,) * 4
    third = 1 / (1 + 2 + 4)  # from ratio 4 over three bins: 1, 2, 4
    assert depth_weights("recency", 3, math.log(4)) == pytest.approx((third, 2 * third, 4 * third), abs=1e-11)
    assert depth_weights("primacy", 3, math.log(4)) == pytest.approx((4 * third, 2 * third, third), abs=1e-11)
    assert depth_weights("both ends", 3, math.log(4)) == pytest.approx((4 / 9, 1 / 9, 4 / 9), abs=1e-11)
    assert depth_weights("both ends", 4, math.log(4)) == pytest.approx((0.4, 0.1, 0.1, 0.4), abs=1e-11)
    assert depth_weights("both ends", 5, math.log(4)) == pytest.approx(
        [x / 13 for x in (4, 2, 1, 2, 4)], abs=1e-11
    )
    assert depth_weights("both ends", 2, 5.0) == (0.5, 0.5)
    for kind in ("uniform", "recency", "primacy", "both ends"):
        assert depth_weights(kind, 1, 3.0) == (1.0,)
        for strength in (0.0, 0.5, 2, 4.0, 700.0):
            weights = depth_weights(kind, 10, strength)
            assert abs(math.fsum(weights) - 1) < 1e-10
            KeyValueRecall(depths=weights)
            if kind != "uniform" and strength < 5:
                assert max(weights) / min(weights) == pytest.approx(math.exp(strength))
    both = depth_weights("both ends", 11, 2.0)
    assert both == both[::-1]
    assert both.index(min(both)) == 5
    assert depth_weights("primacy", 11, 2.0) == depth_weights("recency", 11, 2.0)[::-1]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("late",), "kind is 'late'; allowed is one of uniform, recency, primacy, both ends"),
        (("recency", 0), "bins is 0; allowed is 1 or more"),
        (("recency", 10, -0.5), r"strength is -0.5; allowed is 0 \(uniform\) or more"),
        (("recency", 10, math.inf), "strength is inf"),
        (("recency", 10, math.nan), "strength is nan"),
    ],
)
def test_impossible_dials_are_named(arguments, named):
    with pytest.raises(ValueError, match=named):
        depth_weights(*arguments)


def test_competing_fills_its_share_with_keys_that_are_never_asked():
    task = KeyValueRecall(pairs=2, queries=2, keys=13, values=11, filler=17, competing=0.6)
    batch = task.sample(211, 61, generator())  # 57 tokens of context: 28 slots, 17 of them competing
    context = batch.tokens[:, :57]
    bound = (context < 13).sum(1)
    assert bound.min() >= 17
    assert bound.max() <= 17 + task.pairs
    asked = batch.tokens.gather(1, batch.at)
    assert (context[:, :, None] == asked[:, None]).sum(1).eq(1).all()
    everywhere = KeyValueRecall(pairs=2, queries=2, keys=13, values=11, filler=17, competing=1.0)
    assert (everywhere.sample(29, 60, generator()).tokens < 24).all()


# Digests of batches with competing pairs before there was `agreeing`.
UNAGREED = {
    "half": "33a77865b80607b684db7550ec1a07b3d9aeabb7cc6dfde1cf7771315def7b7e",
    "all": "724da5abdeef573bbeb120e72d38777c61a48bb78efe177b60637ed56d1e6064",
}


@pytest.mark.parametrize("name", UNAGREED)
def test_without_agreeing_nothing_moves(name):
    options = {"half": {"competing": 0.5}, "all": {"competing": 1.0, "announced": True, "rewritten": True}}[
        name
    ]
    task = KeyValueRecall(pairs=5, queries=3, keys=13, values=11, filler=17, agreeing=0, **options)
    assert digest(task.sample(31, 61, generator(7))) == UNAGREED[name]


def test_without_competing_pairs_none_agree():
    plain = KeyValueRecall(pairs=5, queries=3, keys=13, values=11, filler=17)
    one, other = (t.sample(31, 61, generator(7)) for t in (plain, replace(plain, agreeing=0.5)))
    assert torch.equal(one.tokens, other.tokens)


def test_agreeing_pairs_have_one_value_that_is_never_an_answer():
    task = KeyValueRecall(pairs=3, queries=2, keys=13, values=5, filler=17, competing=1.0, agreeing=1.0)
    batch = task.sample(503, 84, generator())  # a context of 80: 40 slots, 37 of them competing
    values = batch.tokens[:, 1:80:2]
    voice = values.mode(1).values
    assert ((values == voice[:, None]).sum(1) == 37).all()
    assert not (batch.answers == voice[:, None]).any()
    assert sorted(voice.unique().tolist()) == list(range(13, 18))


def test_a_share_of_the_competing_pairs_agrees():
    task = KeyValueRecall(pairs=2, queries=2, keys=13, values=11, filler=17, competing=1.0, agreeing=0.4)
    batch = task.sample(307, 204, generator())  # 100 slots, 98 of them competing
    values = batch.tokens[:, 1:200:2]
    same = (values == values.mode(1).values[:, None]).double().mean()
    expected = 0.98 * (0.4 + 0.6 / 11)
    assert abs(same - expected) < 5 * (expected * (1 - expected) / values.numel()) ** 0.5


def test_one_voice_is_any_value_that_no_pair_has():
    task = KeyValueRecall(pairs=2, queries=1, keys=7, values=5, filler=3, agreeing=0.5)
    values = torch.tensor([[7, 9]]).expand(6007, -1)  # of the values 7 to 11
    found = torch.bincount(task.one_voice(values, generator()), minlength=12)
    assert found[[7, 9]].sum() == 0
    assert distributions.chisquare(found[[8, 10, 11]]).pvalue > 1e-3
    source = generator(3)
    before = source.get_state()
    assert replace(task, agreeing=0.0).one_voice(values[:5], source).tolist() == [0] * 5
    assert torch.equal(source.get_state(), before), "nothing is drawn where none agree"


def test_competing_values_worked_by_hand():
    task = KeyValueRecall(pairs=2, queries=1, keys=7, values=5, filler=3, agreeing=0.3)
    voice = torch.tensor([[9], [11]])
    found = task.competing_values((2, 20_011), voice, generator())
    for row, own in zip(found, (2, 4), strict=True):
        expected = [0.7 / 5 + 0.3 * (i == own) for i in range(5)]
        assert chi_square(torch.bincount(row - 7, minlength=5), expected) > 1e-3
    alone = replace(task, agreeing=0.0).competing_values((2, 20_011), voice, generator())
    assert chi_square(torch.bincount(alone.flatten() - 7, minlength=5), [0.2] * 5) > 1e-3
    assert (replace(task, agreeing=1).competing_values((2, 31), voice, generator()) == voice).all()


# Keys 0 to 4, values 5 to 8, filler from 9 on; the questions are 1 and, after its answer, 3.
HAY = [9, 10, 1, 6, 0, 7, 11, 3, 5, 1, 6, 3, 5]


@pytest.mark.parametrize(
    ("options", "tokens", "expected"),
    [
        # two pairs that are asked for, one that is not, four tokens of filler
        ({}, HAY, [1, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0]),
        ({"competing": 0.2}, HAY, [1, 1, 0, 0, 1, 1, 1, 0, 0, 0, 0, 0, 0]),
        # 1 and 3 announced; 1 was bound before, to 8
        ({"announced": True}, [1, 3, *HAY[2:]], [0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0]),
        (
            {"announced": True, "competing": 0.2},
            [1, 3, 0, 7, *HAY],
            [0, 0, 1, 1, 1, 1, 0, 0, 1, 1, 1, *[0] * 6],
        ),
        ({"rewritten": True}, [1, 8, *HAY], [0, 0, 1, 1, 0, 0, 0, 0, 1, *[0] * 6]),
        ({"rewritten": True, "competing": 0.2}, [1, 8, *HAY], [0, 0, 1, 1, 0, 0, 1, 1, 1, *[0] * 6]),
    ],
)
def test_haystack_worked_by_hand(options, tokens, expected):
    task = KeyValueRecall(pairs=3, queries=2, keys=5, values=4, filler=3, **options)
    end = len(tokens)
    at = torch.tensor([[end - 4, end - 2]])
    bound = [len(tokens) - 5 - tokens[:-4][::-1].index(key) for key in (1, 3)]
    batch = Batch(torch.tensor([tokens]), at, torch.tensor([[6, 5]]), at - torch.tensor([bound]))
    assert task.haystack(batch).int().tolist() == [expected]


@pytest.mark.parametrize("name", [name for name in TASKS if name != "mqar"])
def test_haystack_is_what_is_not_asked_for(name):
    task = TASKS[name]
    batch = task.sample(53, 61, generator())
    hay, start, context = task.haystack(batch), announced_by(task), 61 - 2 * task.queries
    assert not hay[:, :start].any()
    assert not hay[:, context:].any()
    filler = batch.tokens >= 24
    assert hay[:, start:context][filler[:, start:context]].all()
    # with competing pairs, all of the context but the asked pairs, and their earlier values, is haystack
    count = (
        2 * task.queries * (1 + task.rewritten)
        if task.competing
        else 2 * (task.pairs + task.rewritten * task.queries)
    )
    assert (hay.sum(1) == context - start - count).all()


def test_bindings_are_fresh_in_each_sequence():
    task = TASKS["plain"]
    batch = task.sample(2003, 60, generator())
    keys = batch.tokens.gather(1, batch.at).flatten()
    for key in range(task.keys):
        assert len(batch.answers.flatten()[keys == key].unique()) == task.values


def test_text_is_a_walk_with_two_equally_likely_steps():
    task = KeyValueRecall(pairs=1, queries=1, keys=13, values=11, filler=17, text=True)
    tokens = task.sample(307, 59, generator()).tokens
    both = (tokens[:, 1:] >= 24) & (tokens[:, :-1] >= 24)
    steps = ((tokens[:, 1:] - tokens[:, :-1]) % 17)[both]
    assert sorted(steps.unique().tolist()) == [1, 3]
    assert abs((steps == 1).double().mean() - 0.5) < 5 * 0.5 / len(steps) ** 0.5
    noise = (
        KeyValueRecall(pairs=1, queries=1, keys=13, values=11, filler=17).sample(307, 59, generator()).tokens
    )
    assert len(noise[noise >= 24].unique()) == 17
    assert len(tokens[tokens >= 24].unique()) == 17


def test_vocabulary_and_chance():
    task = KeyValueRecall(keys=13, values=11, filler=17)
    assert (task.vocabulary, task.chance) == (41, 1 / 11)
    assert (MQAR(vocabulary=97).vocabulary, MQAR(vocabulary=97).chance) == (97, 1 / 49)


def test_with_pairs_keeps_queries_possible():
    assert KeyValueRecall(pairs=8, queries=4).with_pairs(3) == KeyValueRecall(pairs=3, queries=3)
    assert KeyValueRecall(pairs=3, queries=2).with_pairs(7) == KeyValueRecall(pairs=7, queries=2)
    kept = KeyValueRecall(pairs=8, queries=4, announced=True, rewritten=True)
    assert kept.with_pairs(3) == KeyValueRecall(pairs=3, queries=3, announced=True, rewritten=True)
    assert KeyValueRecall(depths=(0.5, 0.5)).with_pairs(3).depths == (0.5, 0.5)
    assert MQAR(pairs=3).with_pairs(7) == MQAR(pairs=7)


def test_batch_moves_to_a_device():
    moved = TASKS["plain"].sample(3, 40, generator()).to(torch.device("meta"))
    assert {x.device.type for x in (moved.tokens, moved.at, moved.answers, moved.gap)} == {"meta"}


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"pairs": 0}, "pairs is 0"),
        ({"queries": 0}, "queries is 0"),
        ({"keys": 0}, "keys is 0"),
        ({"values": -1}, "values is -1"),
        ({"filler": 0}, "filler is 0"),
        ({"pairs": 14, "keys": 13}, "pairs is 14; allowed is at most 13 with 13 keys"),
        ({"pairs": 13, "keys": 13, "competing": 0.1}, "pairs is 13; allowed is at most 12 with 13 keys"),
        ({"pairs": 3, "queries": 4}, r"queries is 4; allowed is at most pairs \(3\)"),
        ({"depth": 1.1}, "depth is 1.1"),
        ({"depth": -0.1}, "depth is -0.1"),
        ({"depth": 0.5, "rewritten": True}, "depth is 0.5 with rewritten pairs; allowed is None"),
        ({"depths": (0.5, 0.4)}, "which sums to 0.9; allowed are weights that sum to 1"),
        ({"depths": (0.5, 0.5 + 2e-9)}, "allowed are weights that sum to 1"),
        ({"depths": (1.5, -0.5)}, "allowed are weights of 0 or more"),
        ({"depths": (1.0, math.nan)}, "allowed are weights of 0 or more"),
        ({"depths": (math.inf,)}, "allowed are weights that sum to 1"),
        (
            {"depths": (1.0,), "depth": 0.5},
            r"depths is \(1.0,\) with a depth or rewritten pairs; allowed is \(\)",
        ),
        ({"depths": (1.0,), "rewritten": True}, "with a depth or rewritten pairs"),
        ({"competing": 1.1}, "competing is 1.1"),
        ({"competing": -0.1}, "competing is -0.1"),
        ({"agreeing": 1.1}, "agreeing is 1.1 with 64 values; allowed is a share from 0 to 1"),
        ({"agreeing": -0.1}, "agreeing is -0.1"),
        ({"agreeing": math.nan}, "agreeing is nan"),
        (
            {"agreeing": 0.1, "pairs": 5, "values": 5},
            r"agreeing is 0.1 with 5 values; .* more values than pairs \(5\)",
        ),
    ],
)
def test_impossible_tasks_are_named(wrong, named):
    with pytest.raises(ValueError, match=named):
        KeyValueRecall(**wrong)


def test_pairs_must_fit_the_length():
    task = KeyValueRecall(pairs=5, queries=3)
    assert task.sample(1, 16, generator()).tokens.shape == (1, 16)
    with pytest.raises(ValueError, match="length is 15; allowed is batch >= 1 and length >= 16"):
        task.sample(1, 15, generator())
    with pytest.raises(ValueError, match="batch is 0"):
        task.sample(0, 16, generator())
    assert KeyValueRecall(pairs=13, queries=3, keys=13).sample(2, 32, generator()).tokens.shape == (2, 32)
    # three keys at the start, and three pairs of stale values
    longer = KeyValueRecall(pairs=5, queries=3, announced=True, rewritten=True)
    assert longer.sample(1, 25, generator()).tokens.shape == (1, 25)
    with pytest.raises(ValueError, match="length is 24; allowed is batch >= 1 and length >= 25"):
        longer.sample(1, 24, generator())
