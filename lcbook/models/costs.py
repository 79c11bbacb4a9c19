"""Costs in closed form: parameters and floating-point operations of a model.

A product of [m, k] and [k, n] counts 2 m k n operations (a multiplication and an addition each). Element-wise work
(norms, softmax, rotations, fading) is left out, as usual, and so is the saving that a causal mask would allow. What
reads in segments is counted with its last segment filled up, as it is computed. A recurrence is counted in its step
form: for each token a matrix is written to and read once, and once more where the delta rule reads before it writes.
Selective attention is counted with the scores of its first head at all places, which tell later queries what to skip.
"""

from __future__ import annotations

from lcbook.models.mixers import (
    Additive,
    CompressiveMemory,
    DeltaRule,
    Differential,
    ForgettingGate,
    GatedDeltaRule,
    LearnedSink,
    LinearAttention,
    Recurrent,
    RecurrentMemory,
    Segmented,
    SegmentRecurrence,
    Selective,
    state_size,
)
from lcbook.models.positions import Learned, Randomized, T5Bias
from lcbook.models.spec import ModelSpec

# of a recurrence: the learned gates of a head, and the products with the state for each token
GATES = {LinearAttention: 0, Additive: 1, DeltaRule: 1, GatedDeltaRule: 2}
PRODUCTS = {LinearAttention: 2, Additive: 2, DeltaRule: 3, GatedDeltaRule: 3}


def _kv_width(spec: ModelSpec) -> int:
    """Return the width of all key-value heads together."""
    return (spec.kv_heads or spec.heads) * (spec.width // spec.heads)


def _key_width(spec: ModelSpec, mixer: Recurrent) -> int:
    """Return the width of all keys of a recurrence together."""
    return mixer.key_dim * spec.heads or spec.width


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


def _mixer_parameters(spec: ModelSpec) -> int:
    """Return the number of trained parameters of what mixes tokens in one layer."""
    width, kv_width = spec.width, _kv_width(spec)
    if isinstance(spec.mixer, Recurrent):
        keys, gates = _key_width(spec, spec.mixer), GATES[type(spec.mixer)] * spec.heads
        norm = width // spec.heads
        return 2 * width * (width + keys) + spec.key_shift * keys + norm + gates * (width + 1)
    match spec.mixer:
        case CompressiveMemory() | LearnedSink():  # a gate or a sink a head
            own = spec.heads
        case ForgettingGate():
            own = spec.heads * (width + 1)
        case Differential():  # four vectors of half a head's width, from which lambda is made, and the norm
            own = 3 * (width // spec.heads)
        case _:
            own = 0
    scales = (spec.qk_norm and spec.learn_scale) * spec.heads
    return 2 * width * (width + kv_width) + spec.key_shift * kv_width + scales + own


def parameters(spec: ModelSpec, vocabulary: int) -> int:
    """Return the number of trained parameters of a decoder; the tied embedding counts once.

    Raises ValueError for a vocabulary below 1.
    """
    if vocabulary < 1:
        raise ValueError(f"vocabulary is {vocabulary}; allowed is 1 or more.")
    width = spec.width
    mlp = 3 * width * spec.mlp + width if spec.mlp else 0
    memory = spec.mixer.memory if isinstance(spec.mixer, RecurrentMemory) else 0
    layers = spec.layers * (_mixer_parameters(spec) + width + mlp)
    return (vocabulary + memory) * width + _table(spec) + layers + width


def _layer(spec: ModelSpec, length: int, asked: int) -> int:
    """Return the products, in numbers multiplied, of one layer over `length` tokens whose outputs are `asked`."""
    width, head_dim = spec.width, spec.width // spec.heads
    outputs = asked * width * (width + 3 * spec.mlp)
    match spec.mixer:
        case LinearAttention() | Additive() | DeltaRule() | GatedDeltaRule() as mixer:
            projected = width + 2 * _key_width(spec, mixer) + GATES[type(mixer)] * spec.heads
            state = state_size(mixer, layers=1, width=width, heads=spec.heads, kv_heads=spec.heads, length=1)
            return outputs + length * (width * projected + PRODUCTS[type(mixer)] * state)
        case SegmentRecurrence(segment):
            filled = -(-length // segment) * segment
            # two segments for each query, and keys and values again without the gradient of the segment before
            return outputs + 5 * length * width * width + 2 * filled * 2 * segment * width
        case CompressiveMemory(segment, delta):
            filled = -(-length // segment) * segment
            writes = filled * width * head_dim
            reads = (1 + delta) * (filled - segment) * width * (head_dim + 1)
            return outputs + 3 * length * width * width + 2 * filled * segment * width + writes + reads
        case _:
            keys_and_values = 2 * length * width * _kv_width(spec)
            attention = asked * width * width + keys_and_values + 2 * asked * length * width
            gates = isinstance(spec.mixer, ForgettingGate) * length * width * spec.heads
            # the first head's queries and their scores, at all places
            first = isinstance(spec.mixer, Selective) * length * head_dim * (width + length)
            return outputs + attention + gates + first


def forward_flops(
    spec: ModelSpec, vocabulary: int, *, batch: int, length: int, answers: int | None = None
) -> int:
    """Return the operations of one forward pass over `batch` sequences of `length` tokens.

    With `answers`, logits and the last layer's outputs are computed at that many places of each sequence only, as
    `Decoder.forward` does when it is given `at`; an RMT reads its memory tokens twice in each segment and computes all
    outputs. Raises ValueError for a size below 1 or a segment longer than the sequence.
    """
    asked = length if answers is None else answers
    for name, size in (("vocabulary", vocabulary), ("batch", batch), ("length", length), ("answers", asked)):
        if size < 1:
            raise ValueError(f"{name} is {size}; allowed is 1 or more.")
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
