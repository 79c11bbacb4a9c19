"""Fast weights: a layer that keeps one matrix S, writes a value under a key in it, and reads it with a query.

    additive      S_t = S_{t-1} + beta_t k_t v_t^T
    delta         S_t = S_{t-1} + beta_t k_t (v_t - S_{t-1}^T k_t)^T
    gated delta   S_t = S' + beta_t k_t (v_t - S'^T k_t)^T      with S' = decay_t S_{t-1}
    out_t = S_t^T q_t

Additive writing puts a value on top of what the key already holds, the delta rule in its place. Each rule has a step
form and a form in chunks, which uses products inside a chunk and the state between chunks. A chunk writes k_i u_i^T
at each of its tokens; with c_i the sum of log decays up to token i of the chunk, and S the state before it,

    u_i = beta_i (v_i - exp(c_i) S^T k_i - sum_{j < i} exp(c_i - c_j) (k_i . k_j) u_j)

is one triangular system for all u. Sources: additive, Katharopoulos et al. 2020, arXiv 2006.16236, and Schlag et al.
2021, arXiv 2102.11174, section 3, also for the delta rule; its chunks, Yang et al. 2024, arXiv 2406.06484, section 3;
gated, Yang et al. 2024, arXiv 2412.06464.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import pad

from lcbook.attention.exact import same_length
from lcbook.formats import at_least


def additive(
    q: Float[Tensor, "b h t d"],
    k: Float[Tensor, "b h t d"],
    v: Float[Tensor, "b h t e"],
    beta: Float[Tensor, "b h t"],
    *,
    state: Float[Tensor, "b h d e"] | None = None,
    chunk: int = 32,
) -> tuple[Float[Tensor, "b h t e"], Float[Tensor, "b h d e"]]:
    """Return the outputs of additive writing and the state after the last token; None is the empty state.

    Queries and keys are used as they are, neither scaled nor normalized. The size of a chunk changes the time alone;
    those given are fast on one core for d and e up to 64. Raises ValueError for shapes that do not fit and for a
    chunk below 1.
    """
    _check(q, k, v, beta, None, state, chunk)
    return _chunked(q, k, v, beta, None, state, chunk, corrects=False)


def delta_rule(
    q: Float[Tensor, "b h t d"],
    k: Float[Tensor, "b h t d"],
    v: Float[Tensor, "b h t e"],
    beta: Float[Tensor, "b h t"],
    decay: Float[Tensor, "b h t"] | None = None,
    *,
    state: Float[Tensor, "b h d e"] | None = None,
    chunk: int = 16,
) -> tuple[Float[Tensor, "b h t e"], Float[Tensor, "b h d e"]]:
    """Return the outputs of the delta rule and the state after the last token; None is the empty state.

    With keys of unit length, beta 1 replaces what a key held and beta 0 leaves it. `decay` multiplies the state before
    each write: the gated delta rule. Raises ValueError as `additive`, and for a decay outside (0, 1].
    """
    _check(q, k, v, beta, decay, state, chunk)
    return _chunked(q, k, v, beta, decay, state, chunk, corrects=True)


def additive_step(
    state: Float[Tensor, "b h d e"] | None,
    q: Float[Tensor, "b h d"],
    k: Float[Tensor, "b h d"],
    v: Float[Tensor, "b h e"],
    beta: Float[Tensor, "b h"],
) -> tuple[Float[Tensor, "b h e"], Float[Tensor, "b h d e"]]:
    """Return the output for one more token and the state after it; None is the state before the first token."""
    return _write(_or_empty(state, k, v), q, k, v * beta[..., None])


def delta_step(
    state: Float[Tensor, "b h d e"] | None,
    q: Float[Tensor, "b h d"],
    k: Float[Tensor, "b h d"],
    v: Float[Tensor, "b h e"],
    beta: Float[Tensor, "b h"],
    decay: Float[Tensor, "b h"] | None = None,
) -> tuple[Float[Tensor, "b h e"], Float[Tensor, "b h d e"]]:
    """Return the output for one more token and the state after it; None is the state before the first token."""
    state = _or_empty(state, k, v)
    if decay is not None:
        state = state * decay[..., None, None]
    return _write(state, q, k, (v - _read(state, k)) * beta[..., None])


def _or_empty(state: Tensor | None, k: Tensor, v: Tensor) -> Tensor:
    return k.new_zeros(*k.shape, v.shape[-1]) if state is None else state


def _read(state: Tensor, x: Tensor) -> Tensor:
    """Return what a state [b h d e] holds under x [b h d]: S^T x."""
    return (x[..., None, :] @ state)[..., 0, :]


def _write(state: Tensor, q: Tensor, k: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    state = state + k[..., :, None] * u[..., None, :]
    return _read(state, q), state


def _check(
    q: Tensor, k: Tensor, v: Tensor, beta: Tensor, decay: Tensor | None, state: Tensor | None, chunk: int
) -> None:
    """Raise ValueError unless all shapes fit q [b h t d] and v [b h t e], and decays and chunk are allowed."""
    same_length(q, k, v)
    at_least(1, chunk=chunk)
    allowed = {
        "k": (k, q.shape),
        "v": (v, (*q.shape[:3], v.shape[-1])),
        "beta": (beta, q.shape[:3]),
        "decay": (decay, q.shape[:3]),
        "state": (state, (*q.shape[:2], q.shape[3], v.shape[-1])),
    }
    for name, (x, shape) in allowed.items():
        if x is not None and x.shape != shape:
            raise ValueError(f"{name} has shape {tuple(x.shape)}; allowed is {tuple(shape)}.")
    if decay is not None and not ((decay > 0) & (decay <= 1)).all():
        worst = decay[~((decay > 0) & (decay <= 1))][0].item()
        raise ValueError(f"decay is {worst}; allowed is more than 0 and at most 1.")


class _Inverse(torch.autograd.Function):
    """(1 + a)^-1 of matrices whose `a` is zero on and above the diagonal, where its gradient is left as it comes."""

    @staticmethod
    def forward(ctx: Any, a: Tensor) -> Tensor:
        one = torch.eye(a.shape[-1], dtype=a.dtype, device=a.device).expand_as(a)
        inverse = torch.linalg.solve_triangular(a, one, upper=False, unitriangular=True)
        ctx.save_for_backward(inverse)
        return inverse

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (inverse,) = ctx.saved_tensors
        return (inverse.mT @ gradients[0] @ inverse.mT).neg_()


def _chunked(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor,
    decay: Tensor | None,
    state: Tensor | None,
    chunk: int,
    *,
    corrects: bool,
) -> tuple[Tensor, Tensor]:
    """Return outputs and last state; `corrects` takes what a key holds off what is written under it.

    Every pair of tokens in a chunk has its term for all chunks at once; states then go from chunk to chunk.
    """
    batch, heads, length = q.shape[:3]
    size = -(-length // -(-length // chunk))  # chunks as equal as can be, so that little is padded

    def cut(x: Tensor) -> Tensor:
        """Return [b h t x] as [b*h chunks size x]; the zeros it may be padded with write nothing."""
        x = x.flatten(0, 1)
        return (pad(x, (0, 0, 0, -length % size)) if length % size else x).unflatten(1, (-1, size))

    q, k, v, beta = cut(q), cut(k), cut(v), cut(beta[..., None])
    writes = k if corrects else k * beta
    past = k.new_ones(size, size).tril()
    read, asks, asked, keeps = k, q, q @ writes.mT, None
    if decay is not None:
        total = cut(decay.log()[..., None]).cumsum(2)
        # a difference of logs, so that only what has faded away underflows
        past = (total - total.mT).masked_fill(past == 0, -torch.inf).exp()
        since = total.exp()
        read, asks, keeps = k * since, q * since, since[:, :, -1:]
        writes = writes * past[:, :, -1, :, None]
    solved = None
    if corrects:
        same = k @ k.mT * (past.tril(-1) * beta)
        solved = _Inverse.apply(same) * beta.mT
    first = None if state is None else state.flatten(0, 1)
    out, last = _scan(read, writes, v, asks, asked * past, solved, keeps, first)
    return out[:, :length].unflatten(0, (batch, heads)), last.unflatten(0, (batch, heads))


def _scan(
    read: Tensor,
    writes: Tensor,
    v: Tensor,
    asks: Tensor,
    asked: Tensor,
    solved: Tensor | None,
    keeps: Tensor | None,
    state: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Return the outputs of all chunks, one after another, and the state after the last.

    A chunk (the second dimension) writes u = solved (v - read state), or v; its outputs are asks state + asked u, and
    the next state is keeps state + writes^T u.
    """
    # unbound, not sliced: the gradient of a slice is as large as the whole
    reads, asking, pairs = read.unbind(1), asks.unbind(1), asked.unbind(1)
    written = writes.mT.unbind(1)
    inverses = None if solved is None else solved.unbind(1)
    kept = None if keeps is None else keeps.unbind(1)
    outs = []
    for i, u in enumerate(v.unbind(1)):
        if inverses is not None:
            u = inverses[i] @ (u if state is None else torch.baddbmm(u, reads[i], state, alpha=-1))
        out = pairs[i] @ u
        if state is None:
            state = written[i] @ u
        else:
            out = torch.baddbmm(out, asking[i], state)
            state = torch.baddbmm(state if kept is None else state * kept[i], written[i], u)
        outs.append(out)
    assert state is not None  # there is one token or more
    return torch.cat(outs, 1), state
