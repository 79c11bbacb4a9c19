"""Costs in closed form: parameters and floating-point operations of a model.

A product of [m, k] and [k, n] counts 2 m k n operations (a multiplication and an addition each). Element-wise work
(norms, softmax, rotations) is left out, as usual, and so is the saving that a causal mask would allow.
"""

from __future__ import annotations

from lcbook.model import ModelSpec
from lcbook.positions import Learned, Randomized, T5Bias


def _kv_width(spec: ModelSpec) -> int:
    """Return the width of all key-value heads together."""
    return (spec.kv_heads or spec.heads) * (spec.width // spec.heads)


def _table(spec: ModelSpec) -> int:
    """Return the number of parameters of the position encoding."""
    position = spec.position.inner if isinstance(spec.position, Randomized) else spec.position
    match position:
        case Learned(length=length):
            return length * spec.width
        case T5Bias(buckets=buckets):
            return buckets * spec.heads
        case _:
            return 0


def parameters(spec: ModelSpec, vocabulary: int) -> int:
    """Return the number of trained parameters of a decoder; the tied embedding counts once.

    Raises ValueError for a vocabulary below 1.
    """
    if vocabulary < 1:
        raise ValueError(f"vocabulary is {vocabulary}; allowed is 1 or more.")
    width, kv_width = spec.width, _kv_width(spec)
    attention = (
        2 * width * width + 2 * width * kv_width + spec.key_shift * kv_width + spec.qk_norm * spec.heads
    )
    mlp = 3 * width * spec.mlp + width if spec.mlp else 0
    return vocabulary * width + _table(spec) + spec.layers * (attention + width + mlp) + width


def forward_flops(
    spec: ModelSpec, vocabulary: int, *, batch: int, length: int, answers: int | None = None
) -> int:
    """Return the operations of one forward pass over `batch` sequences of `length` tokens.

    With `answers`, logits and the last layer's queries are computed at that many places of each sequence only, as
    `Decoder.forward` does when it is given `at`. Raises ValueError for a size below 1.
    """
    asked = length if answers is None else answers
    for name, size in (("vocabulary", vocabulary), ("batch", batch), ("length", length), ("answers", asked)):
        if size < 1:
            raise ValueError(f"{name} is {size}; allowed is 1 or more.")
    width, kv_width = spec.width, _kv_width(spec)

    def layer(queries: int) -> int:
        projections = 2 * length * width * kv_width + 2 * queries * width * width  # k and v; q and out
        scores_and_mix = 2 * queries * length * width
        return 2 * (projections + scores_and_mix + 3 * queries * width * spec.mlp)

    logits = 2 * asked * width * vocabulary
    return batch * ((spec.layers - 1) * layer(length) + layer(asked) + logits)


def training_flops(
    spec: ModelSpec, vocabulary: int, *, batch: int, length: int, answers: int | None = None
) -> int:
    """Return the operations of one update: a forward pass, and twice as many backward (weights and activations)."""
    return 3 * forward_flops(spec, vocabulary, batch=batch, length=length, answers=answers)
