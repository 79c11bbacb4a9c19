"""Costs of a model: its parameters, its floating-point operations in closed form, and what its state can hold at most.

A product of [m, k] and [k, n] counts 2 m k n operations (a multiplication and an addition each). Element-wise work
(norms, softmax, rotations, fading) is left out, as usual, and so is the saving that a causal mask would allow. What
reads in segments is counted with its last segment filled up, as it is computed. A recurrence is counted in its step
form: for each token a matrix is written to and read once, and once more where the delta rule reads before it writes.
Selective attention is counted with the scores of its first head at all places, which tell later queries what to skip.
"""

from __future__ import annotations

import math

import torch

from lcbook.formats import at_least
from lcbook.models.decoder import Decoder
from lcbook.models.mixers import RecurrentMemory, Segmented
from lcbook.models.spec import ModelSpec


def parameters(spec: ModelSpec, vocabulary: int) -> int:
    """Return the number of trained parameters of a decoder, counted on torch's meta device; the tied embedding counts
    once.

    Raises ValueError for a vocabulary below 1.
    """
    at_least(1, vocabulary=vocabulary)
    with torch.device("meta"):
        return sum(one.numel() for one in Decoder(spec, vocabulary).parameters() if one.requires_grad)


def most_pairs(scalars: int, values: int, bits: float | int = 32) -> float:
    """Return the most pairs whose values can be told from a state of `scalars` numbers of `bits` bits each.

    n keys with one of `values` values each can be bound in values^n ways, and a state from which every binding can
    be read must differ between all of them, so n log2(values) <= scalars * bits. What the keys are costs extra.
    Raises ValueError for fewer than 1 scalar, 2 values, or bits of 0 or less.
    """
    at_least(1, scalars=scalars)
    at_least(2, values=values)
    if not bits > 0:
        raise ValueError(f"bits is {bits}; allowed is more than 0.")
    return scalars * bits / math.log2(values)


def _layer(spec: ModelSpec, length: int, asked: int) -> int:
    """Return the numbers that one layer multiplies over `length` tokens whose outputs are `asked`."""
    outputs = asked * spec.width * (spec.width + 3 * spec.mlp)
    return outputs + spec.mixer.products(spec.shape, length, asked)


def forward_flops(
    spec: ModelSpec, vocabulary: int, *, batch: int, length: int, answers: int | None = None
) -> int:
    """Return the operations of one forward pass over `batch` sequences of `length` tokens.

    With `answers`, logits and the last layer's outputs are computed at that many places of each sequence only, as
    `Decoder.forward` does when it is given `at`; an RMT reads its memory tokens twice in each segment and computes all
    outputs. Raises ValueError for a size below 1 or a segment longer than the sequence.
    """
    asked = length if answers is None else answers
    at_least(1, vocabulary=vocabulary, batch=batch, length=length, answers=asked)
    mixer = spec.mixer
    if isinstance(mixer, Segmented) and mixer.segment > length:
        raise ValueError(f"segment is {mixer.segment} for {length} tokens; allowed is at most the length.")
    if isinstance(mixer, RecurrentMemory):
        ends = range(mixer.segment, length + mixer.segment, mixer.segment)
        read = [mixer.segment - max(0, end - length) + 2 * mixer.memory for end in ends]
        layers = spec.layers * sum(_layer(spec, tokens, tokens) for tokens in read)
    else:
        layers = (spec.layers - 1) * _layer(spec, length, length) + _layer(spec, length, asked)
    return 2 * batch * (layers + asked * spec.width * vocabulary)


def training_flops(
    spec: ModelSpec, vocabulary: int, *, batch: int, length: int, answers: int | None = None
) -> int:
    """Return the operations of one update: a forward pass, and twice as many backward (weights and activations).

    Where no gradient flows back from a segment to the one before, it is a little less.
    """
    return 3 * forward_flops(spec, vocabulary, batch=batch, length=length, answers=answers)
