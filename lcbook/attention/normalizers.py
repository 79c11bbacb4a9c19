"""Normalizers: the maps that turn a row of scores into weights.

Each takes scores of any shape, with -inf where a key is not visible, and a dimension; it returns weights of the same
shape, at least zero everywhere and exactly zero at -inf.

softmax, log-n softmax, sparsemax, entmax 1.5, alpha-entmax and top-k sum to one along that dimension; a row without a
visible key is NaN, as in PyTorch. Off-by-one softmax and stick-breaking sum to at most one, and each weight of sigmoid
is at most one, whatever their sum; a row without a visible key is zeros. A NaN makes its whole row NaN. Half precision
is computed in float32 and returned as it came, which softmax and log-n softmax leave to PyTorch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import logsigmoid

from lcbook.attention.own import Own, is_own, method
from lcbook.formats import at_least


def softmax(scores: Float[Tensor, "*rows"], dim: int = -1) -> Float[Tensor, "*rows"]:
    """exp(s_j) / sum_i exp(s_i). A row without a visible key is NaN, as in PyTorch."""
    return torch.softmax(scores, dim)


def log_n_softmax(scores: Float[Tensor, "*rows"], dim: int = -1) -> Float[Tensor, "*rows"]:
    """softmax(log(n) * s), n the number of visible keys in the row (at least 2, so that log n > 0).

    A margin of s then outgrows the n competitors at any length. The paper's learned factor in front of log n is
    the model's own query-key scale here. Source: Nakanishi 2025 (Scalable-Softmax), arXiv 2501.19399, eq. 3.
    """
    visible = torch.isfinite(scores).sum(dim, keepdim=True).clamp(min=2)
    return torch.softmax(scores * visible.to(scores.dtype).log(), dim)


def sink_softmax(
    scores: Float[Tensor, "*rows"], dim: int = -1, sink: float | Float[Tensor, "..."] = 0.0
) -> Float[Tensor, "*rows"]:
    """exp(s_j) / (exp(sink) + sum_i exp(s_i)): softmax with one more key, of score `sink`, that has no value.

    `sink` is a number, or a tensor that broadcasts to the rows with size 1 along `dim`; else it raises ValueError.
    With 0, the denominator is off by one from softmax's. The row sums to less than 1, to 0 if no key is visible.
    Source: Miller 2023, Attention Is Off By One; with a learned sink a head: OpenAI 2025, arXiv 2508.10925 (gpt-oss).
    """
    x = _single(scores)
    extra, shape = torch.as_tensor(sink, dtype=x.dtype, device=x.device), [*x.narrow(dim, 0, 1).shape]
    try:
        extra = extra.expand(shape)
    except RuntimeError as error:
        raise ValueError(f"sink is {[*extra.shape]}; allowed is what broadcasts to {shape}.") from error
    return torch.softmax(torch.cat([x, extra], dim), dim).narrow(dim, 0, x.shape[dim]).to(scores.dtype)


def sparsemax(scores: Float[Tensor, "*rows"], dim: int = -1) -> Float[Tensor, "*rows"]:
    """max(0, s_j - tau), tau such that the row sums to 1: the point of the simplex closest to s, found by sorting.

    Keys that score 1 or more below the largest have weight 0. A row without a visible key is NaN.
    Source: Martins & Astudillo 2016, arXiv 1602.02068, proposition 1.
    """
    return _Entmax.apply(_single(scores), dim, 2.0, _solve_2).to(scores.dtype)


def entmax15(scores: Float[Tensor, "*rows"], dim: int = -1) -> Float[Tensor, "*rows"]:
    """max(0, s_j / 2 - tau)^2, tau such that the row sums to 1, found by sorting: between softmax and sparsemax.

    Keys that score 2 or more below the largest have weight 0. A row without a visible key is NaN.
    Source: Peters, Niculae & Martins 2019, arXiv 1905.05702, algorithm 2.
    """
    return _Entmax.apply(_single(scores), dim, 1.5, _solve_15).to(scores.dtype)


def entmax(scores: Float[Tensor, "*rows"], dim: int = -1, alpha: float = 1.25) -> Float[Tensor, "*rows"]:
    """max(0, (alpha - 1) s_j - tau)^(1 / (alpha - 1)), tau such that the row sums to 1, found by bisection.

    softmax at alpha 1, `entmax15` at 1.5, `sparsemax` at 2. Keys that score 1 / (alpha - 1) or more below the largest
    have weight 0. A row without a visible key is NaN. Raises ValueError for alpha below 1 or infinite.
    Source: Peters, Niculae & Martins 2019, arXiv 1905.05702.
    """
    if not 1 <= alpha < math.inf:
        raise ValueError(f"alpha is {alpha}; allowed is 1 or more.")
    if alpha == 1:
        return torch.softmax(_single(scores), dim).to(scores.dtype)
    return _Entmax.apply(_single(scores), dim, alpha, _solve_by_bisection).to(scores.dtype)


def top_k(scores: Float[Tensor, "*rows"], dim: int = -1, k: int = 16) -> Float[Tensor, "*rows"]:
    """Softmax over the k largest scores of the row, all that are visible if fewer; the others have weight 0.

    Ties are broken as torch.topk does. A row without a visible key is NaN. Raises ValueError for k below 1.
    Source: Gupta et al. 2021, arXiv 2106.06899.
    """
    at_least(1, k=k)
    largest, where = _single(scores).topk(min(k, scores.shape[dim]), dim)
    kept = torch.full_like(scores, -torch.inf, dtype=largest.dtype).scatter(dim, where, largest)
    return torch.softmax(kept, dim).to(scores.dtype)


def sigmoid(scores: Float[Tensor, "*rows"], dim: int = -1) -> Float[Tensor, "*rows"]:
    """1 / (1 + exp(log(n) - s_j)), n the number of visible keys in the row: each key is judged without the others.

    At scores of 0 a row sums to n / (n + 1); in general to anything from 0 to n. A row without a visible key is zeros.
    Source: Ramapuram et al. 2024, arXiv 2409.04431 (their bias b = -log n).
    """
    x = _single(scores)
    visible = (x > -torch.inf).sum(dim, keepdim=True).clamp(min=1).to(x.dtype)
    return torch.sigmoid(x - (visible.log() + _spoiled(x, dim))).to(scores.dtype)


def stick_breaking(scores: Float[Tensor, "*rows"], dim: int = -1) -> Float[Tensor, "*rows"]:
    """sigma(s_j) * prod_{k > j} (1 - sigma(s_k)), sigma the logistic function and the keys k later ones in the row.

    Along `dim` the keys are in order of time. The last visible one breaks off its share of a stick of length 1, the one
    before it a share of what is left, and so on: the row sums to less than 1, to 0 if no key is visible. In the paper a
    query does not look at the key of its own token; here it sees what its mask shows, its own key too.
    Source: Tan et al. 2024, arXiv 2410.17980.
    """
    x = _single(scores) + _spoiled(scores, dim)
    left = logsigmoid(-x).roll(-1, dim)  # the log of what the next key leaves
    left.select(dim, -1).zero_()
    return (logsigmoid(x) + left.flip(dim).cumsum(dim).flip(dim)).exp().to(scores.dtype)


class _Entmax(torch.autograd.Function):
    """The weights p that `solve` finds for scores whose largest is 0, with their gradient by the paper's proposition 1:
    u * (g - <g, u> / sum u), where g is that of p, and u_j = p_j^(2 - alpha) where p_j > 0, else 0."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, dim: int, alpha: float, solve: Callable[..., Tensor]) -> Tensor:
        ctx.dim, ctx.alpha = dim, alpha
        weights = solve(scores - scores.amax(dim, keepdim=True), dim, alpha)
        ctx.save_for_backward(weights)
        return weights

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (weights,), (given,) = ctx.saved_tensors, gradients
        u = torch.where(weights > 0, weights ** (2 - ctx.alpha), 0)
        mean = (given * u).sum(ctx.dim, keepdim=True) / u.sum(ctx.dim, keepdim=True)
        return u * (given - mean), None, None, None


def _solve_2(x: Tensor, dim: int, alpha: float) -> Tensor:
    """Sparsemax: tau is the mean of the m largest x less 1/m, m the last for which sum_{i <= m} (x_i - x_m) < 1."""
    largest, m, total = _sorted(x, dim)
    last = _last(total - m * largest < 1, dim)
    tau = (total.gather(dim, last) - 1) / (last + 1)
    return (_double(x) - tau).clamp_(min=0).to(x.dtype)


def _solve_15(x: Tensor, dim: int, alpha: float) -> Tensor:
    """Entmax 1.5: with z = x / 2, tau is the smaller root of sum_{i <= m} (z_i - tau)^2 = 1, m the last for which
    sum_{i <= m} (z_i - z_m)^2 < 1."""
    largest, m, total = _sorted(x / 2, dim)
    squares = largest.square().cumsum(dim)
    last = _last(squares - largest * (2 * total - m * largest) < 1, dim)
    mean, square = (sums.gather(dim, last) / (last + 1) for sums in (total, squares))
    tau = mean - (1 / (last + 1) - square + mean.square()).clamp(min=0).sqrt()
    return (_double(x) / 2 - tau).clamp_(min=0).square_().to(x.dtype)


def _solve_by_bisection(x: Tensor, dim: int, alpha: float) -> Tensor:
    """With tau = (alpha - 1) t - 1, p_j = (1 + (alpha - 1)(x_j - t))^(1 / (alpha - 1)), which is exp(x_j - t) as alpha
    goes to 1. At t = 0 the largest has weight 1, at the other end of the bracket 1/n."""
    power = alpha - 1

    def log_weights(t: Tensor) -> Tensor:
        return (x - t).mul_(power).clamp_(min=-1).log1p_().div_(power)

    t, step = torch.zeros_like(x.narrow(dim, 0, 1)), -math.expm1(-power * math.log(x.shape[dim])) / power
    for _ in range(2 - math.frexp(torch.finfo(x.dtype).eps)[1]):  # to the last bit
        step /= 2
        raised = log_weights(t + step).clamp_(min=-80).exp_()  # exp is slow where the result is 0
        t = torch.where(raised.sum(dim, keepdim=True) >= 1, t + step, t)
    weights = log_weights(t).exp_()
    return weights / weights.sum(dim, keepdim=True)


def _sorted(x: Tensor, dim: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return x in falling order, 1, 2, 3, ..., and the sums so far; doubles, as sums of thousands decide about 1."""
    largest = _double(x.sort(dim, descending=True).values)
    m = torch.arange(1, x.shape[dim] + 1, dtype=largest.dtype, device=x.device)
    return largest, m.view([-1 if i == dim % x.ndim else 1 for i in range(x.ndim)]), largest.cumsum(dim)


def _last(inside: Tensor, dim: int) -> Tensor:
    """Return the index of the last that is inside, as are all before it; 0 in a row of NaN, where none is."""
    return inside.sum(dim, keepdim=True).clamp(min=1) - 1


def _double(x: Tensor) -> Tensor:
    """Return x in double precision, which Apple's GPUs do not have."""
    return x if x.device.type == "mps" else x.double()


def _single(x: Tensor) -> Tensor:
    """Return x, in float32 if its precision is lower."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def _spoiled(x: Tensor, dim: int) -> Tensor:
    """Return NaN for each row that has one, else 0, with size 1 along `dim`."""
    return torch.where(x.detach().amax(dim, keepdim=True).isnan(), torch.nan, 0.0)


NORMALIZERS: dict[str, Callable[..., Tensor]] = {
    "softmax": softmax,
    "log-n softmax": log_n_softmax,
    "off-by-one softmax": sink_softmax,
    "sparsemax": sparsemax,
    "entmax 1.5": entmax15,
    "alpha-entmax": entmax,
    "top-k": top_k,
    "sigmoid": sigmoid,
    "stick-breaking": stick_breaking,
}


AnyNormalizer = str | Own  # the name of one here, or a reader's own (see `lcbook.attention.own`)


def normalizer(name: AnyNormalizer) -> Callable[..., Tensor]:
    """Return the normalizer called `name`, or that of a reader's own, a function of scores and a dimension.

    Raises ValueError for an unknown name, listing those that exist, and for what is no normalizer.
    """
    if isinstance(name, str) and name in NORMALIZERS:
        return NORMALIZERS[name]
    if isinstance(name, str) or not is_own(name, "weights"):
        own = "" if isinstance(name, str) else ", or a frozen dataclass with a method weights"
        raise ValueError(f"normalizer is {name!r}; allowed are {', '.join(NORMALIZERS)}{own}.")
    weights = method(name, "weights")
    return lambda scores, dim=-1: weights(scores.movedim(dim, -1)).movedim(-1, dim)
