"""Surgery: what can be changed in a trained decoder without training it again.

Each verb changes the model it is given, in place, or raises ValueError and leaves it alone; a caller who wants to keep
the original makes a copy first (`copy.deepcopy`).
"""

from __future__ import annotations

from dataclasses import replace

import torch

from lcbook.attention.backends import Form
from lcbook.attention.normalizers import AnyNormalizer
from lcbook.attention.patterns import AnyPattern, Full
from lcbook.models.decoder import Decoder
from lcbook.models.layers import Attention
from lcbook.models.mixers import Softmax
from lcbook.models.positions import AnyPosition, PositionEncoding
from lcbook.models.spec import ModelSpec


def _attentions(model: Decoder) -> list[Attention]:
    """Return the layers' attention, of whatever kind."""
    return [part for part in model.modules() if isinstance(part, Attention)]


def _describe(model: Decoder, spec: ModelSpec) -> None:
    """Let the model and its attention know `spec` as theirs."""
    model.spec = spec
    for attention in _attentions(model):
        attention.spec = spec


def reposition(model: Decoder, position: AnyPosition) -> None:
    """Give the model another position encoding; a learned one keeps its parameters.

    Raises ValueError if the new one has parameters that were never trained, and for a model whose mixer takes no
    position encoding.
    """
    spec = replace(model.spec, position=position)
    encoding = PositionEncoding(
        position,
        width=spec.width,
        heads=spec.heads,
        head_dim=spec.width // spec.heads,
        generator=torch.Generator(),
    )
    kept = dict(model.encoding.named_parameters())
    for name, drawn in list(encoding.named_parameters()):
        if name not in kept or kept[name].shape != drawn.shape:
            raise ValueError(
                f"position is {position}; allowed is one whose parameters {model.spec.position} has trained."
            )
        setattr(encoding, name, kept[name])
    model.spec, model.encoding = spec, encoding
    for attention in _attentions(model):
        attention.encoding = encoding


def restrict(model: Decoder, pattern: AnyPattern) -> None:
    """Let every layer see the keys that `pattern` shows.

    Raises ValueError for a model whose mixer takes no pattern.
    """
    _describe(model, replace(model.spec, pattern=pattern, full_layers=()))
    for attention in _attentions(model):
        attention.pattern = pattern


def temper(model: Decoder, factor: float | int = 1.0, normalizer: AnyNormalizer = "") -> None:
    """Multiply the scores of every layer by `factor`, and turn them into weights by `normalizer` ("": its own).

    Raises ValueError for an unknown normalizer, and for a model whose mixer is not softmax attention.
    """
    if model.spec.mixer != Softmax():
        raise ValueError(f"mixer is {model.spec.mixer}; allowed is {Softmax()}.")
    _describe(model, replace(model.spec, normalizer=normalizer or model.spec.normalizer))
    for attention in _attentions(model):
        attention.temper *= factor


def compute_by(model: Decoder, backend: Form) -> None:
    """Let `backend` compute the attention of every layer.

    Raises ValueError unless the model is what backends compute: full softmax attention, no bias on the scores.
    """
    spec = model.spec
    biased = model.encoding.bias(torch.zeros(1, 1, dtype=torch.long), torch.zeros(1, 1, dtype=torch.long))
    plain = spec.mixer == Softmax() and spec.normalizer == "softmax" and spec.pattern == Full()
    if biased is not None or not plain:
        raise ValueError(
            f"form is {backend} for {spec}; allowed is a model of full softmax attention without a bias on the scores."
        )
    for attention in _attentions(model):
        attention.form = backend


def ablate(model: Decoder, layer: int, head: int) -> None:
    """Let one head (both counted from 0) write nothing.

    Raises ValueError for a layer or a head that is not there, for a mixer other than softmax attention, and where a
    backend computes it.
    """
    attentions = model.plain_attentions()
    for name, value, count in (("layer", layer, model.spec.layers), ("head", head, model.spec.heads)):
        if not 0 <= value < count:
            raise ValueError(f"{name} is {value}; allowed is 0 to {count - 1}.")
    width = attentions[layer].head_dim
    with torch.no_grad():
        attentions[layer].out.weight[:, head * width : (head + 1) * width] = 0
