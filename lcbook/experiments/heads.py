"""Heads: what each head of a trained decoder attends to.

The circuit that answers recall in a plain transformer has two heads. In an early layer one attends to the token just
before, and so writes at each place which token precedes it; in a later layer another attends from a question to the
token after the key that the question repeats. Source: Olsson et al. 2022, arXiv 2209.11895.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from lcbook.models.decoder import Decoder
from lcbook.models.layers import Attention
from lcbook.tasks.base import Batch
from lcbook.tasks.mixture import Opened


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


def first_token_rows(
    model: Decoder, task: Opened, length: int, queries: Sequence[int], *, seed: int, texts: int = 64
) -> list[dict[str, Any]]:
    """Return two rows: what a model does with the first token of `task` (first token 1), and without it (0).

    `length` counts the first token; `queries` are places of the text behind it. Columns loss (mean next-token loss at
    the queries, nats), weight (mean weight of the queries on the first key, %, first head of the first layer), correct
    and total (answers). Raises ValueError as `attention_maps`.
    """
    found = []
    for first, one in ((1, task), (0, task.inner)):
        batch = one.sample(texts, length - 1 + first, torch.Generator().manual_seed(seed))
        at = torch.tensor(queries) + first
        with torch.no_grad():
            logits = model(batch.tokens)
        loss = nn.functional.cross_entropy(logits[:, at].transpose(1, 2), batch.tokens[:, at + 1])
        weight = 100 * attention_maps(model, batch.tokens)[0][:, 0, at, 0].mean()
        asked = logits.gather(1, batch.at[..., None].expand(-1, -1, logits.shape[2]))
        right = asked.argmax(-1) == batch.answers
        counts = {"correct": right.sum().item(), "total": right.numel()}
        found.append({"first token": first, "loss": loss.item(), "weight": weight.item(), **counts})
    return found


def _require_maps(maps: list[Tensor], length: int) -> None:
    """Raise ValueError unless there are maps, each of `length` tokens or more."""
    if not maps or maps[0].shape[-1] < length:
        tokens = maps[0].shape[-1] if maps else 0
        raise ValueError(
            f"maps has {len(maps)} layers of {tokens} tokens; allowed is one layer or more of {length}."
        )
