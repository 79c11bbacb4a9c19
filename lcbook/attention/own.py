"""One's own: a position encoding, a normalizer or a pattern that a reader writes in a notebook.

Each is a frozen dataclass without parameters to train, and goes where one of the menu goes: `ModelSpec(position=...)`,
`Randomized(inner)` and `Stage(..., position=...)`, for example. Its methods, with t queries and s keys::

    position     any of the three
                   add(x, positions) -> x                               x: [b, t, width]; positions: [b or 1, t]
                   rotate(q, k, q_positions, k_positions) -> (q, k)     q: [b, h, t, d]; k: [b, g, s, d]
                   bias(q_positions, k_positions) -> added to scores    broadcasts to [b, h, t, s]
    normalizer   weights(scores) -> weights     [..., s] both, along the keys; a score of -inf is a hidden key: weight 0
    pattern      mask(q_index, k_index) -> True where a query sees a key; places that broadcast. Later keys stay hidden.

`label`, if there is one, is what figures and tables call it. The fields and the source of the class are part of a run's
digest, what its methods call outside the class is not: keep it inside.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor

from lcbook.store import source

POSITION = ("add", "rotate", "bias")
METHODS = (*POSITION, "weights", "mask")


@runtime_checkable
class Own(Protocol):
    """A frozen dataclass of a reader's own, with methods as above."""

    __dataclass_fields__: ClassVar[dict[str, Any]]


def method(value: object, name: str) -> Any:
    """Return the method of a reader's own value, None if it has none of that name."""
    return getattr(value, name, None)


def is_own(value: object, *methods: str) -> bool:
    """Return whether `value` is a frozen dataclass with one of `methods`. Raises ValueError if it has no source."""
    kind = type(value)
    frozen = dataclasses.is_dataclass(kind) and getattr(kind, "__dataclass_params__").frozen  # noqa: B009
    if not frozen or not any(callable(method(value, name)) for name in methods):
        return False
    source(kind)
    return True


def _require(ok: bool, name: str, value: object, found: object, allowed: str) -> None:
    if not ok:
        shown = f"of shape {tuple(found.shape)}" if isinstance(found, Tensor) else repr(found)
        raise ValueError(f"{name} of {value} is {shown}; allowed is {allowed}.")


def try_position(position: Own, width: int, heads: int) -> None:
    """Raise ValueError unless each method returns what fits, on a text of three tokens."""
    x, places, late = torch.zeros(1, 3, width), torch.arange(3)[None], torch.arange(1, 3)[None]
    q, k = torch.zeros(1, heads, 2, width // heads), torch.zeros(1, heads, 3, width // heads)
    if add := method(position, "add"):
        found = add(x, places)
        _require(getattr(found, "shape", None) == x.shape, "add", position, found, f"shape {tuple(x.shape)}")
    if rotate := method(position, "rotate"):
        found = rotate(q, k, late, places)
        ok = isinstance(found, tuple) and [getattr(z, "shape", None) for z in found] == [q.shape, k.shape]
        _require(ok, "rotate", position, found, "a tuple of q and k, shaped as they came")
    if bias := method(position, "bias"):
        _require_broadcast("bias", position, bias(late, places), (1, heads, 2, 3))


def try_weights(normalizer: Own) -> None:
    """Raise ValueError unless `weights` keeps the shape and gives hidden keys no weight, on rows of three keys."""
    scores = torch.tensor([[0.5, -1.0, -torch.inf], [2.0, -torch.inf, -torch.inf]])
    found = method(normalizer, "weights")(scores)
    ok = isinstance(found, Tensor) and found.shape == scores.shape
    _require(ok, "weights", normalizer, found, f"shape {tuple(scores.shape)}")
    hidden = found[scores == -torch.inf]
    _require(not hidden.any(), "weight of a hidden key", normalizer, hidden.abs().max().item(), "0")


def try_mask(pattern: object) -> None:
    """Raise ValueError unless `mask` says for 8 queries and keys which they see, for each query one at least."""
    index = torch.arange(8)
    found = method(pattern, "mask")(index[:, None], index)
    _require_broadcast("mask", pattern, found, (8, 8))
    blind = (~(found.expand(8, 8) & (index <= index[:, None])).any(-1)).nonzero().flatten()
    _require(found.dtype == torch.bool, "mask", pattern, found.dtype, "torch.bool")
    _require(not len(blind), "mask", pattern, f"blind at {blind.tolist()}", "a key in sight of every query")


def _require_broadcast(name: str, value: object, found: object, shape: tuple[int, ...]) -> None:
    ok = isinstance(found, Tensor)
    if isinstance(found, Tensor):
        try:
            found.expand(shape)
        except RuntimeError:
            ok = False
    _require(ok, name, value, found, f"what broadcasts to {shape}")
