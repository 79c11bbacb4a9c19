"""What a model is made of: every option of the decoder on one screen."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from lcbook.attention.normalizers import AnyNormalizer
from lcbook.attention.normalizers import normalizer as find_normalizer
from lcbook.attention.own import try_position, try_weights
from lcbook.attention.patterns import AnyPattern, Full
from lcbook.attention.patterns import require as require_pattern
from lcbook.formats import at_least
from lcbook.models.mixers import Mixer, Recurrent, Shape, Softmax
from lcbook.models.position_specs import Plain
from lcbook.models.positions import AnyPosition, NoPosition, PositionEncoding, require_position


@dataclass(frozen=True)
class ModelSpec:
    """A decoder: `layers` of attention with `heads` query and `kv_heads` key-value heads (0: as many as heads).

    `mlp` is the hidden width of a SwiGLU layer after each attention (0: none). `key_shift` mixes each key with the
    key before it; `qk_norm` gives queries and keys unit length and learns the scale of their product, from `qk_scale`
    on (0: the root of the head width); without `learn_scale` it stays there. `pattern` says which keys a query sees;
    the layers numbered in `full_layers` (from 0) see all earlier ones in spite of it. `mixer` replaces attention in
    every layer, or says how a long text is read in segments; it takes no other pattern, normalizer, position encoding
    or number of keys, and a recurrence scales queries and keys in its own way. `separator` is the token that opens a
    document: nothing then looks across the boundary of a document, though the positions run on; None: all documents of
    a sequence are read as one. It needs full softmax attention. `position`, `normalizer` and `pattern` may be a
    reader's own, see `lcbook.attention.own`.
    """

    layers: int = 1
    width: int = 64
    heads: int = 1
    kv_heads: int = 0
    mlp: int = 0
    position: AnyPosition = NoPosition()
    normalizer: AnyNormalizer = "softmax"
    key_shift: bool = True
    qk_norm: bool = True
    pattern: AnyPattern = Full()
    full_layers: tuple[int, ...] = ()
    mixer: Mixer = Softmax()
    separator: int | None = None
    qk_scale: float | int = 0.0
    learn_scale: bool = True

    def __post_init__(self) -> None:
        at_least(1, layers=self.layers, width=self.width, heads=self.heads)
        at_least(0, kv_heads=self.kv_heads, mlp=self.mlp)
        if self.width % self.heads:
            raise ValueError(f"width is {self.width}; allowed is a multiple of heads ({self.heads}).")
        if self.kv_heads and self.heads % self.kv_heads:
            raise ValueError(f"kv_heads is {self.kv_heads}; allowed is a divisor of heads ({self.heads}).")
        if not set(self.full_layers) <= set(range(self.layers)):
            raise ValueError(
                f"full_layers is {self.full_layers}; allowed are numbers from 0 to {self.layers - 1}."
            )
        if not 0 <= self.qk_scale < math.inf:
            raise ValueError(f"qk_scale is {self.qk_scale}; allowed is 0 or a finite number above it.")
        if not self.qk_norm and (self.qk_scale or not self.learn_scale):
            raise ValueError(
                f"qk_scale is {self.qk_scale} and learn_scale {self.learn_scale} without qk_norm; allowed are 0 and "
                "True."
            )
        find_normalizer(self.normalizer)
        if not isinstance(self.normalizer, str):
            try_weights(self.normalizer)
        require_pattern(self.pattern)
        _check_position(self.position, self.width, self.heads)
        plain = ModelSpec(self.layers, self.width, self.heads) if self.mixer != Softmax() else self
        fixed = ["kv_heads", "position", "normalizer", "pattern", "full_layers", "separator"]
        for name in fixed + ["qk_norm"] * isinstance(self.mixer, Recurrent):
            if getattr(self, name) != getattr(plain, name):
                raise ValueError(
                    f"{name} is {getattr(self, name)} with {self.mixer}; allowed is {getattr(plain, name)}."
                )

        if self.separator is not None and (self.separator < 0 or self.pattern != Full()):
            raise ValueError(
                f"separator is {self.separator} with {self.pattern}; allowed is a token from 0 on with {Full()}."
            )

    def pattern_of(self, layer: int) -> AnyPattern:
        """Return the pattern of a layer (from 0)."""
        return Full() if layer in self.full_layers else self.pattern

    @property
    def shape(self) -> Shape:
        """The sizes that a mixer's costs depend on."""
        return Shape(self.layers, self.width, self.heads, self.kv_heads or self.heads)

    def state_size(self, length: int) -> int:
        """Return the scalars kept of a sequence of `length` tokens, all layers together; each mixer says which.

        Raises ValueError for a length below 1.
        """
        at_least(1, length=length)
        return self.mixer.state_size(self.shape, length)


def _check_position(position: AnyPosition, width: int, heads: int) -> None:
    """Raise ValueError for what is no position encoding, or none for this width and number of heads."""
    require_position(position)
    with torch.random.fork_rng(devices=[]):
        inner = PositionEncoding(position, width=width, heads=heads, head_dim=width // heads).inner
    if not isinstance(inner, Plain):
        try_position(inner, width, heads)
