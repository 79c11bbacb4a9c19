"""Heads: what each head of a trained decoder attends to.

The circuit that answers recall in a plain transformer has two heads. In an early layer one attends to the token just
before, and so writes at each place which token precedes it; in a later layer another attends from a question to the
token after the key that the question repeats. Source: Olsson et al. 2022, arXiv 2209.11895.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lcbook.models.decoder import Decoder
from lcbook.models.layers import Attention
from lcbook.tasks.recall import Batch


def attention_maps(
    model: Decoder, tokens: Int[Tensor, "b s"], positions: Int[Tensor, "_ s"] | None = None
) -> list[Float[Tensor, "b h s s"]]:
    """Return the weights of all heads, a tensor for each layer: its rows are queries and sum to 1.

    `positions` are those that the encoding is told, as `Decoder.forward` takes them. Memory grows with the square of
    the length. Raises ValueError for a mixer other than softmax attention, and where a `form` replaces it.
    """
    maps: list[Tensor] = []

    def weigh(module: Attention, inputs: tuple[Any, ...]) -> None:
        maps.append(module.project(*inputs).attend(module.spec.normalizer)[1])

    hooks = [attention.register_forward_pre_hook(weigh) for attention in model.plain_attentions()]
    try:
        with torch.no_grad():
            model(tokens, positions)
    finally:
        for hook in hooks:
            hook.remove()
    return maps


def previous_token_share(maps: list[Float[Tensor, "b h s s"]]) -> Float[Tensor, "layers h"]:
    """Return the mean weight that queries from place 1 on give the token just before, for each head.

    Raises ValueError for no maps or maps of one token.
    """
    _require_maps(maps, 2)
    return torch.stack([weights.diagonal(-1, 2, 3).mean((0, 2)) for weights in maps])


def lookup_share(maps: list[Float[Tensor, "b h s s"]], batch: Batch) -> Float[Tensor, "layers h"]:
    """Return the mean weight that questions give the token after the needle's key, its value, for each head.

    Raises ValueError for no maps or maps of fewer tokens than the questions' places.
    """
    _require_maps(maps, int(batch.at.max()) + 1)
    rows = torch.arange(batch.at.shape[0], device=batch.at.device)[:, None]
    return torch.stack(
        [weights[rows, :, batch.at, batch.at - batch.gap + 1].mean((0, 1)) for weights in maps]
    )


def _require_maps(maps: list[Tensor], length: int) -> None:
    """Raise ValueError unless there are maps, each of `length` tokens or more."""
    if not maps or maps[0].shape[-1] < length:
        tokens = maps[0].shape[-1] if maps else 0
        raise ValueError(
            f"maps has {len(maps)} layers of {tokens} tokens; allowed is one layer or more of {length}."
        )
