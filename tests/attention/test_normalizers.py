"""Normalizers: hand-worked rows, torch's softmax, the entmax package, fla's stick-breaking, and what holds for all."""

from __future__ import annotations

import functools
import importlib.util
import itertools
import math
from pathlib import Path

import entmax as oracle
import pytest
import torch

from lcbook.attention.normalizers import (
    NORMALIZERS,
    entmax,
    entmax15,
    log_n_softmax,
    normalizer,
    sigmoid,
    sink_softmax,
    softmax,
    sparsemax,
    stick_breaking,
    top_k,
)

INF = float("inf")
SPARSE = ("sparsemax", "entmax 1.5", "alpha-entmax", "top-k")
AT_MOST_ONE = ("off-by-one softmax", "stick-breaking")
SHIFTABLE = ("softmax", "log-n softmax", *SPARSE)
# every map under arguments that matter: few kept keys, several alphas, a sink
MAPS = {
    **NORMALIZERS,
    "top-3": functools.partial(top_k, k=3),
    "sink of 2": functools.partial(sink_softmax, sink=2.0),
    **{f"alpha {alpha}": functools.partial(entmax, alpha=alpha) for alpha in (1.0, 1.05, 1.9, 2.0, 3.0)},
}
FREE = ("off-by-one softmax", "sink of 2", "sigmoid", "stick-breaking")


def draw(*shape, hidden=0.4, scale=4.0, seed=0):
    """Scores in double precision, some of them hidden, none in the first column."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(*shape, generator=generator, dtype=torch.float64) * scale
    mask = torch.rand(*shape, generator=generator) < hidden
    mask[..., 0] = False
    return scores.masked_fill(mask, -INF)


def gradient(f, scores, given):
    leaf = scores.clone().requires_grad_()
    return torch.autograd.grad(f(leaf), leaf, given)[0]


def assert_same(ours, theirs, scores):
    """The same weights, and the same gradients of a random function of them."""
    torch.testing.assert_close(ours(scores), theirs(scores))
    given = torch.randn(scores.shape, generator=torch.Generator().manual_seed(1), dtype=scores.dtype)
    torch.testing.assert_close(gradient(ours, scores, given), gradient(theirs, scores, given))


def test_softmax_worked_by_hand():
    weights = NORMALIZERS["softmax"](torch.tensor([[0.0, math.log(3.0), -INF]]))
    torch.testing.assert_close(weights, torch.tensor([[0.25, 0.75, 0.0]]))


def test_log_n_softmax_worked_by_hand():
    # three visible keys: the scores are multiplied by log 3, so the weights go as 3^s
    weights = NORMALIZERS["log-n softmax"](torch.tensor([[0.0, 1.0, -INF, 2.0]]))
    torch.testing.assert_close(weights, torch.tensor([[1.0, 3.0, 0.0, 9.0]]) / 13)
    # a single visible key counts as two, so that log n is not zero; its weight is one
    torch.testing.assert_close(
        NORMALIZERS["log-n softmax"](torch.tensor([5.0, -INF])), torch.tensor([1.0, 0.0])
    )


# log 2 and log 3 have exponentials 2 and 3, and logistic values 2/3 and 3/4
LOGS = [math.log(2), -INF, math.log(3)]
BY_HAND = {
    "off-by-one softmax": (LOGS, [2 / 6, 0, 3 / 6]),
    "sink of 2": ([2.0, -INF, 2.0, 2.0], [1 / 4, 0, 1 / 4, 1 / 4]),
    # tau is 0.3: 0.9 - 0.3 and 0.7 - 0.3 are 1 together, and 0.2 is below
    "sparsemax": ([0.9, 0.2, -INF, 0.7], [0.6, 0, 0, 0.4]),
    # halved, 1.6 and 1.4 less tau 0.8 are 0.8 and 0.6, whose squares are 1 together; 0.8 is not above tau
    "entmax 1.5": ([3.2, 1.6, -INF, 2.8], [0.64, 0, 0, 0.36]),
    # a quarter of each, with tau 0, is 2c, c and 0, whose fourth powers are 16/17, 1/17 and 0 for c = 17^(-1/4)
    "alpha-entmax": ([8 * 17**-0.25, 0, 4 * 17**-0.25, -INF], [16 / 17, 0, 1 / 17, 0]),
    # twice each, with tau 0, is 0.64 and 0.04, whose roots are 1 together
    "alpha 3.0": ([0.32, -INF, 0.02], [0.8, 0, 0.2]),
    "top-3": ([0.0, LOGS[0], -9.0, -INF, LOGS[2]], [1 / 6, 2 / 6, 0, 0, 3 / 6]),
    # e^s / n = 2 / 2 and 3 / 2 give 1 / (1 + 1) and 3 / (2 + 3)
    "sigmoid": (LOGS, [1 / 2, 0, 3 / 5]),
    # the last takes 3/4, the hidden one nothing, the middle 2/3 of the quarter, the first half of the twelfth
    "stick-breaking": ([0.0, LOGS[0], -INF, LOGS[2]], [1 / 24, 1 / 6, 0, 3 / 4]),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_worked_by_hand(name):
    scores, weights = (torch.tensor(x, dtype=torch.float64) for x in BY_HAND[name])
    torch.testing.assert_close(MAPS[name](scores), weights)
    # along the first dimension of two
    torch.testing.assert_close(MAPS[name](scores[:, None], 0), weights[:, None])


def test_log_n_keeps_a_margin_above_any_number_of_competitors():
    def needle(name, n, margin=2.0):
        scores = torch.zeros(n, dtype=torch.float64)
        scores[n // 2] = margin
        return NORMALIZERS[name](scores)[n // 2].item()

    assert needle("softmax", 2**17) < 1e-4
    assert needle("log-n softmax", 2**17) > 0.9999
    assert needle("log-n softmax", 7) == pytest.approx(49 / (49 + 6))


@pytest.mark.parametrize("name", NORMALIZERS)
@pytest.mark.parametrize("dim", [0, 1, -1])
def test_what_holds_for_the_weights_of_visible_keys(name, dim):
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(5, 7, 11, generator=generator, dtype=torch.float64) * 2
    hidden = torch.rand(5, 7, 11, generator=generator) < 0.4
    hidden.select(dim, 0).fill_(False)
    scores.masked_fill_(hidden, -INF)
    kept = scores.clone()
    weights = NORMALIZERS[name](scores, dim)
    total = weights.sum(dim)
    assert torch.equal(scores, kept)  # the input is not touched
    assert weights.shape == scores.shape
    assert weights.dtype == scores.dtype
    assert (weights[hidden] == 0).all()
    if name in SHIFTABLE:
        torch.testing.assert_close(total, torch.ones_like(total))
    elif name in AT_MOST_ONE:
        assert (total < 1).all()
        assert (total < 0.999).any()
    else:
        assert (weights < 1).all()
        assert (total > 1).any()
        assert (total < 1).any()
    # top-16 of at most 11 keys leaves none out
    if name in SPARSE and name != "top-k":
        assert (weights[~hidden] == 0).any()
        assert (weights >= 0).all()
    else:
        assert (weights[~hidden] > 0).all()
    # a larger score has a larger weight, unless the order in time counts too
    if name != "stick-breaking":
        assert torch.equal(weights.argmax(dim), scores.argmax(dim))
        ordered = weights.gather(dim, scores.argsort(dim))
        assert (ordered.diff(dim=dim) >= 0).all()
    # another dimension is the same map on the transposed scores
    moved = NORMALIZERS[name](scores.movedim(dim, -1)).movedim(-1, dim)
    torch.testing.assert_close(weights, moved)


def test_names_are_sorted_by_their_sums():
    assert {*SHIFTABLE, *AT_MOST_ONE, "sigmoid"} == set(NORMALIZERS)


@pytest.mark.parametrize("name", MAPS)
def test_adding_a_number_to_a_row(name):
    scores = draw(5, 7)
    shifted = scores + torch.tensor([3.0, -2.0, 0.5, 40.0, -7.0], dtype=torch.float64)[:, None]
    if name in FREE:
        assert not torch.isclose(MAPS[name](shifted), MAPS[name](scores))[scores > -INF].any()
    else:
        torch.testing.assert_close(MAPS[name](shifted), MAPS[name](scores))


@pytest.mark.parametrize("name", MAPS)
def test_hidden_keys_might_as_well_not_be_there(name):
    scores = draw(13)
    visible = scores > -INF
    assert 3 < visible.sum() < 13
    torch.testing.assert_close(MAPS[name](scores)[visible], MAPS[name](scores[visible]), rtol=0, atol=1e-14)
    given = torch.randn(13, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    whole = gradient(MAPS[name], scores, given)
    assert (whole[~visible] == 0).all()
    torch.testing.assert_close(whole[visible], gradient(MAPS[name], scores[visible], given[visible]))


def test_softmax_is_torchs():
    scores = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
    assert torch.equal(NORMALIZERS["softmax"](scores, 0), torch.softmax(scores, 0))


@pytest.mark.parametrize("scale", [0.1, 1.0, 5.0])
def test_sparsemax_and_entmax_are_those_of_their_authors(scale):
    scores = draw(7, 101, scale=scale)
    assert_same(sparsemax, oracle.sparsemax, scores)
    # with what is hidden far below: the oracle's own sorting has no weights where there is -inf
    low = scores.clamp(min=-1e3)
    assert_same(entmax15, oracle.entmax15, low)
    torch.testing.assert_close(entmax15(scores), entmax15(low))
    for alpha in (1.1, 1.25, 1.5, 1.75, 2.0, 3.0):
        assert_same(
            functools.partial(entmax, alpha=alpha),
            lambda s, alpha=alpha: oracle.entmax_bisect(s, alpha=alpha, n_iter=80),
            low,
        )
    torch.testing.assert_close(sparsemax(scores.T, 0), sparsemax(scores).T)


@pytest.mark.parametrize("scale", [0.1, 1.0, 5.0])
def test_alpha_leads_from_softmax_through_entmax_15_to_sparsemax(scale):
    scores = draw(7, 101, scale=scale)
    assert torch.equal(entmax(scores, alpha=1.0), softmax(scores))
    torch.testing.assert_close(entmax(scores, alpha=1 + 1e-7), softmax(scores), rtol=1e-3, atol=1e-7)
    torch.testing.assert_close(
        entmax(scores.float(), alpha=1 + 1e-7), softmax(scores.float()), rtol=1e-3, atol=1e-6
    )
    assert_same(functools.partial(entmax, alpha=1.5), entmax15, scores)
    assert_same(functools.partial(entmax, alpha=2.0), sparsemax, scores)
    assert_same(entmax, functools.partial(entmax, alpha=1.25), scores)
    support = [(entmax(scores, alpha=alpha) > 0).sum(-1) for alpha in (1.0, 1.25, 1.5, 2.0)]
    for more, fewer in itertools.pairwise(support):
        assert (more >= fewer).all()


def test_stick_breaking_is_flas():
    # its plain PyTorch version; importing the whole package would need Triton
    folder = Path(importlib.util.find_spec("fla").submodule_search_locations[0])
    file = folder / "ops" / "stickbreaking_attn" / "naive.py"
    spec = importlib.util.spec_from_file_location("fla_stickbreaking", file)
    fla = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fla)
    generator = torch.Generator().manual_seed(0)
    q, k = (
        torch.randn(2, 11, 3, 5, generator=generator, dtype=torch.float64, requires_grad=True)
        for _ in range(2)
    )
    v = torch.randn(2, 11, 3, 7, generator=generator, dtype=torch.float64)
    for own in (True, False):
        theirs, left = fla.naive_stickbreaking_attn(q, k, v, scale=1.3, attend_current=own)
        visible = torch.ones(11, 11, dtype=torch.bool).tril(0 if own else -1)
        scores = 1.3 * q.transpose(1, 2) @ k.permute(0, 2, 3, 1)
        weights = stick_breaking(scores.masked_fill(~visible, -INF))
        ours = (weights @ v.transpose(1, 2)).transpose(1, 2)
        torch.testing.assert_close(ours, theirs)
        torch.testing.assert_close(1 - weights.sum(-1).transpose(1, 2), left)
        for a, b in zip(
            *(torch.autograd.grad(x.square().sum(), [q, k]) for x in (ours, theirs)), strict=True
        ):
            torch.testing.assert_close(a, b)


def test_stick_breaking_is_the_papers_product():
    scores = draw(3, 13, scale=1.0)
    weights = stick_breaking(scores)
    for row, given in zip(scores.sigmoid().tolist(), weights.tolist(), strict=True):
        for j, share in enumerate(row):
            assert given[j] == pytest.approx(share * math.prod(1 - later for later in row[j + 1 :]), rel=1e-9)


def test_sigmoid_is_torchs_of_shifted_scores():
    scores = draw(7, 11)
    n = (scores > -INF).sum(-1, keepdim=True)
    assert n.min() < n.max()
    torch.testing.assert_close(sigmoid(scores), torch.sigmoid(scores - n.log()))
    # at scores of 0, a row sums to n / (n + 1)
    assert sigmoid(torch.zeros(9)).sum().item() == pytest.approx(0.9)
    assert sigmoid(torch.tensor([0.0, -INF])).tolist() == [0.5, 0]


def test_a_sink_is_a_key_without_value():
    scores = draw(2, 3, 5, 7)
    sink = torch.tensor([0.5, -1.0, 3.0], dtype=torch.float64, requires_grad=True)

    def with_a_column(scores, sink):
        column = sink[:, None, None].expand(2, 3, 5, 1)
        return torch.softmax(torch.cat([scores, column], -1), -1)[..., :-1]

    weights = sink_softmax(scores, -1, sink=sink[:, None, None])
    torch.testing.assert_close(weights, with_a_column(scores, sink))
    given = torch.randn(weights.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    ours, theirs = (torch.autograd.grad(w, sink, given)[0] for w in (weights, with_a_column(scores, sink)))
    torch.testing.assert_close(ours, theirs)
    assert (ours != 0).all()
    assert torch.autograd.gradcheck(
        lambda x, s: sink_softmax(x, 1, sink=s),
        (
            draw(2, 5, 3, hidden=0, scale=1.0).requires_grad_(),
            draw(3, hidden=0, scale=1.0).requires_grad_(),
        ),
    )
    # what is missing from 1 is the weight of the sink
    missing = torch.softmax(torch.cat([scores, torch.zeros(2, 3, 5, 1)], -1), -1)[..., -1]
    torch.testing.assert_close(1 - sink_softmax(scores).sum(-1), missing)
    # a sink far below is softmax; one far above takes all
    torch.testing.assert_close(sink_softmax(scores, sink=-1e4), softmax(scores))
    torch.testing.assert_close(sink_softmax(scores, sink=-INF), softmax(scores))
    assert (sink_softmax(scores, sink=1e4) == 0).all()
    # along another dimension, in half precision, with a sink of float32
    half = sink_softmax(scores.half(), 1, sink=torch.zeros(2, 1, 1, 7))
    torch.testing.assert_close(half, sink_softmax(scores.half().double(), 1).half())


def test_top_k_keeps_exactly_k():
    scores = draw(7, 31, hidden=0)
    for k in (1, 3, 30):
        weights = top_k(scores, k=k)
        assert ((weights > 0).sum(-1) == k).all()
        threshold = scores.sort(-1, descending=True).values[:, k - 1 : k]
        torch.testing.assert_close(weights, softmax(scores.masked_fill(scores < threshold, -INF)))
    assert ((top_k(scores) > 0).sum(-1) == 16).all()
    # among equal scores, those that torch.topk takes
    ties = torch.tensor([1.0, 2.0, 2.0, 1.0, 2.0, 1.0, 1.0])
    for k in range(1, 8):
        weights = top_k(ties, k=k)
        assert (weights > 0).sum() == k
        assert {*weights.nonzero().flatten().tolist()} == {*ties.topk(k).indices.tolist()}
    # with k keys or fewer to see it is softmax
    few = draw(7, 31, hidden=0.8)
    assert (few > -INF).sum(-1).max() <= 16
    for k in (16, 31, 1000):
        torch.testing.assert_close(top_k(few, k=k), softmax(few))
    torch.testing.assert_close(top_k(scores, k=31), softmax(scores))


def test_support_of_the_sparse_maps():
    # 1 / (alpha - 1) below the largest nothing has weight; just above it does
    for name, reach in {"sparsemax": 1.0, "entmax 1.5": 2.0, "alpha-entmax": 4.0, "alpha 3.0": 0.5}.items():
        weights = MAPS[name](torch.tensor([reach, 0.0, 0.02 * reach], dtype=torch.float64))
        assert (weights > 0).tolist() == [True, False, True], name
        spread = torch.arange(7, dtype=torch.float64) * reach
        assert torch.equal(MAPS[name](spread), torch.eye(7, dtype=torch.float64)[6])
    # the more the scores are scaled, the fewer keys have weight; softmax keeps all
    scores = draw(5, 101, hidden=0, scale=1.0)
    for f in (sparsemax, entmax15, entmax):
        sizes = [(f(scores * scale) > 0).sum(-1) for scale in (0.001, 0.1, 1, 10, 1000)]
        assert (sizes[0] == 101).all()
        assert (sizes[-1] == 1).all()
        assert all((more >= fewer).all() for more, fewer in itertools.pairwise(sizes))
    assert (softmax(scores * 10) > 0).all()


@pytest.mark.parametrize("f", [sparsemax, entmax15, entmax])
def test_a_needle_above_65_536_equal_competitors(f):
    # at the edge of the support or a little inside it, thousands of tiny weights still leave a sum of one
    reach = {sparsemax: 1.0, entmax15: 2.0, entmax: 4.0}[f]
    for margin in (0.0, reach * 0.999, reach):
        scores = torch.zeros(2**16)
        scores[77] = margin
        weights = f(scores)
        assert weights.double().sum().item() == pytest.approx(1, abs=1e-5)
        torch.testing.assert_close(weights, f(scores.double()).float(), rtol=1e-4, atol=1e-7)
    assert weights[77].item() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("name", MAPS)
def test_gradients_are_those_of_finite_differences(name):
    scores = draw(3, 5, hidden=0, scale=0.7, seed=2).requires_grad_()
    assert torch.autograd.gradcheck(lambda s: MAPS[name](s, 0), (scores,))
    # a finite difference cannot be taken at -inf, so the hidden keys are hidden on the way
    hidden = torch.tensor([[0, 1, 0, 0, 1], [0, 0, 0, 1, 0], [1, 1, 1, 0, 1]]).bool()
    assert torch.autograd.gradcheck(lambda s: MAPS[name](s.masked_fill(hidden, -INF)), (scores,))
    leaf = scores.detach().masked_fill(hidden, -INF).requires_grad_()
    MAPS[name](leaf).square().sum().backward()
    assert torch.isfinite(leaf.grad).all()
    assert (leaf.grad[hidden] == 0).all()


EXTREMES = [
    [1e4, 1e4, -1e4, -INF, 0.0],
    [-1e4, -1e4, -1e4, -1e4, -INF],
    [-INF, -INF, 1e4, -INF, -INF],
    [-1e4, -INF, -INF, 1e4, -1e4],
    [0.0, 1.0, -INF, 9990.0, 1e4],
]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", MAPS)
def test_large_scores_in_any_precision(name, dtype):
    scores = torch.tensor(EXTREMES, dtype=dtype).requires_grad_()
    weights = MAPS[name](scores)
    assert weights.dtype == dtype
    assert torch.isfinite(weights).all()
    assert ((weights >= 0) & (weights <= 1)).all()
    assert (weights[scores == -INF] == 0).all()
    weights.square().sum().backward()
    assert scores.grad.dtype == dtype
    assert torch.isfinite(scores.grad).all()
    torch.testing.assert_close(weights.double(), MAPS[name](scores.double()), atol=1e-3, rtol=1e-2)
    if name not in FREE:
        torch.testing.assert_close(weights.sum(-1), torch.ones(5, dtype=dtype))
        assert weights[2].tolist() == [0, 0, 1, 0, 0]
        assert weights[3].tolist() == [0, 0, 0, 1, 0]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", [name for name in MAPS if name not in ("softmax", "log-n softmax")])
def test_half_precision_is_rounded_once(name, dtype):
    scores = draw(5, 31, scale=1.0).to(dtype)
    given = draw(5, 31, hidden=0, seed=1).to(dtype)
    assert torch.equal(MAPS[name](scores), MAPS[name](scores.float()).to(dtype))
    ours, theirs = gradient(MAPS[name], scores, given), gradient(MAPS[name], scores.float(), given.float())
    torch.testing.assert_close(ours, theirs.to(dtype))


@pytest.mark.parametrize("name", MAPS)
def test_rows_without_a_visible_key(name):
    scores = draw(3, 5)
    scores[1] = -INF
    weights = MAPS[name](scores)
    if name in FREE:
        assert (weights[1] == 0).all()
        given = torch.ones(3, 5, dtype=torch.float64)
        assert (gradient(MAPS[name], scores, given)[1] == 0).all()
    else:
        assert weights[1].isnan().all()
    torch.testing.assert_close(weights[[0, 2]], MAPS[name](scores[[0, 2]]))


@pytest.mark.parametrize("place", [0, 3, 16])
@pytest.mark.parametrize("name", MAPS)
def test_a_nan_spoils_its_row_and_no_other(name, place):
    scores = draw(3, 17)
    clean = MAPS[name](scores)
    scores[1, place] = torch.nan
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        assert MAPS[name](scores.to(dtype))[1].isnan().all()
    torch.testing.assert_close(MAPS[name](scores)[[0, 2]], clean[[0, 2]])


def test_bad_input():
    scores = torch.zeros(3, 5)
    for alpha in (0.5, -INF, INF, math.nan):
        with pytest.raises(ValueError, match=f"alpha is {alpha}; allowed is 1 or more."):
            entmax(scores, alpha=alpha)
    for k in (0, -3):
        with pytest.raises(ValueError, match=f"k is {k}; allowed is 1 or more."):
            top_k(scores, k=k)
    with pytest.raises(ValueError, match=r"sink is \[3, 5\]; allowed is what broadcasts to \[3, 1\]."):
        sink_softmax(scores, sink=torch.zeros(3, 5))
    with pytest.raises(ValueError, match=r"sink is \[5, 1\]; allowed is what broadcasts to \[1, 5\]."):
        sink_softmax(scores, 0, sink=torch.zeros(5, 1))


def test_names():
    assert normalizer("softmax") is NORMALIZERS["softmax"] is softmax
    assert normalizer("log-n softmax") is log_n_softmax
    assert normalizer("stick-breaking") is stick_breaking
    with pytest.raises(
        ValueError, match="normalizer is 'sofmax'; allowed are softmax, log-n softmax, off-by-one"
    ):
        normalizer("sofmax")
