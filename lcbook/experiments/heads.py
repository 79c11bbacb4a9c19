"""Heads: what each head of a trained decoder attends to, and what the model does without it.

The circuit that answers recall in a plain transformer has two heads. In an early layer one attends to the token just
before, and so writes at each place which token precedes it; in a later layer another attends from a question to the
token after the key that the question repeats. Source: Olsson et al. 2022, arXiv 2209.11895.
"""

from __future__ import annotations

import copy

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lcbook.attention.attend import attend
from lcbook.attention.patterns import check
from lcbook.models.decoder import Decoder, Layer
from lcbook.models.layers import Attention
from lcbook.models.mixers import Softmax
from lcbook.tasks.recall import Batch


def attention_maps(
    model: Decoder, tokens: Int[Tensor, "b s"], positions: Int[Tensor, "_ s"] | None = None
) -> list[Float[Tensor, "b h s s"]]:
    """Return the weights of all heads, a tensor for each layer: its rows are queries and sum to 1.

    `positions` are those that the encoding is told, as `Decoder.forward` takes them. Memory grows with the square of
    the length. Raises ValueError for a mixer other than softmax attention, and where a `form` replaces it.
    """
    _require_softmax(model)
    maps: list[Tensor] = []
    hooks = [
        _attention(model, layer).register_forward_pre_hook(
            lambda module, inputs: maps.append(_weights(module, *inputs))
        )
        for layer in range(model.spec.layers)
    ]
    try:
        with torch.no_grad():
            model(tokens, positions)
    finally:
        for hook in hooks:
            hook.remove()
    return maps


def ablate(model: Decoder, layer: int, head: int) -> Decoder:
    """Return a copy of the model in which one head (both counted from 0) writes nothing; the model is left as it is.

    Raises ValueError for a layer or a head that is not there, and for a model as `attention_maps` does.
    """
    _require_softmax(model)
    for name, value, count in (("layer", layer, model.spec.layers), ("head", head, model.spec.heads)):
        if not 0 <= value < count:
            raise ValueError(f"{name} is {value}; allowed is 0 to {count - 1}.")
    without = copy.deepcopy(model)
    attention = _attention(without, layer)
    with torch.no_grad():
        attention.out.weight[:, head * attention.head_dim : (head + 1) * attention.head_dim] = 0
    return without


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


def _attention(model: Decoder, layer: int) -> Attention:
    """Return the attention of a layer, from 0."""
    found = model.layers[layer]
    assert isinstance(found, Layer)
    assert isinstance(found.attention, Attention)
    return found.attention


def _weights(
    attention: Attention, x: Tensor, positions: Tensor, _at: None, documents: Tensor | None = None
) -> Tensor:
    """Return the weights of one layer, [b h s s], from the `x`, positions and documents that it is given."""
    check(attention.pattern, x.shape[1])
    q, k, q_index, q_positions = attention._queries_keys(x, positions, None, documents)
    return attend(
        q,
        k,
        k,  # any values: their mixture is not looked at
        mask=attention._mask(q, k, q_index, documents),
        bias=attention.encoding.bias(q_positions, positions),
        scale=attention._scale(),
        normalizer=attention.spec.normalizer,
    )[1]


def _require_softmax(model: Decoder) -> None:
    """Raise ValueError unless every layer mixes tokens by softmax attention, computed as it is written."""
    if model.spec.mixer != Softmax():
        raise ValueError(f"mixer is {model.spec.mixer}; allowed is {Softmax()}.")
    for layer in range(model.spec.layers):
        form = _attention(model, layer).form
        if form is not None:
            raise ValueError(f"form of layer {layer} is {form}; allowed is None.")


def _require_maps(maps: list[Tensor], length: int) -> None:
    """Raise ValueError unless there are maps, each of `length` tokens or more."""
    if not maps or maps[0].shape[-1] < length:
        tokens = maps[0].shape[-1] if maps else 0
        raise ValueError(
            f"maps has {len(maps)} layers of {tokens} tokens; allowed is one layer or more of {length}."
        )
