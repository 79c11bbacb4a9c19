"""The menu of mixers: what lets a token of a sequence learn of earlier ones, and how much of them each keeps.

Softmax attention keeps every key and value. The recurrences keep one matrix a head, whatever the length, and differ in
how they write to it. The last three read a long text in segments and hand something on from each to the next.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never

from lcbook.exact import positive


@dataclass(frozen=True)
class Softmax:
    """Softmax attention over the keys of all earlier tokens, or over those that a pattern shows."""


@dataclass(frozen=True)
class KeyWidth:
    """What the recurrences share: the width of a head's keys, which is the rows of its matrix (0: the head's width)."""

    key_dim: int = 0

    def __post_init__(self) -> None:
        if self.key_dim < 0:
            raise ValueError(f"key_dim is {self.key_dim}; allowed is 0 (the head width) or more.")


@dataclass(frozen=True)
class LinearAttention(KeyWidth):
    """Linear attention with features elu(x) + 1, the sum of the weights divided out.

    Source: Katharopoulos et al. 2020, arXiv 2006.16236.
    """


@dataclass(frozen=True)
class Additive(KeyWidth):
    """A matrix to which each token adds its key times its value, with a learned strength.

    Source: Schlag et al. 2021, arXiv 2102.11174, section 3, without the feature map.
    """


@dataclass(frozen=True)
class DeltaRule(KeyWidth):
    """A matrix in which each token first takes back what its key reads, then writes its value.

    Source: Schlag et al. 2021, arXiv 2102.11174; in chunks: Yang et al. 2024, arXiv 2406.06484.
    """


@dataclass(frozen=True)
class GatedDeltaRule(KeyWidth):
    """The delta rule on a matrix that fades by a learned factor at each token.

    Source: Yang et al. 2024, arXiv 2412.06464.
    """


@dataclass(frozen=True)
class SegmentRecurrence:
    """Each layer attends to its own segment and to the one before, through which no gradient flows back.

    Source: Dai et al. 2019, arXiv 1901.02860 (Transformer-XL), section 3.2; without its relative positions.
    """

    segment: int = 32

    def __post_init__(self) -> None:
        positive(segment=self.segment)


@dataclass(frozen=True)
class CompressiveMemory:
    """Each layer attends to its own segment, and reads all earlier ones from a linear-attention matrix.

    With `delta`, a segment first takes from its values what its keys already read.
    Source: Munkhdalai et al. 2024, arXiv 2404.07143 (Infini-attention).
    """

    segment: int = 32
    delta: bool = False

    def __post_init__(self) -> None:
        positive(segment=self.segment)


@dataclass(frozen=True)
class RecurrentMemory:
    """Segments go one after another through the whole model; `memory` tokens carry on what its last layer made of them.

    With `memory` 0 the segments know nothing of each other.
    Source: Bulatov et al. 2022, arXiv 2207.06881 (Recurrent Memory Transformer), section 3.2.
    """

    segment: int = 32
    memory: int = 4

    def __post_init__(self) -> None:
        positive(segment=self.segment)
        if self.memory < 0:
            raise ValueError(f"memory is {self.memory}; allowed is 0 or more.")


Recurrent = LinearAttention | Additive | DeltaRule | GatedDeltaRule
Segmented = SegmentRecurrence | CompressiveMemory | RecurrentMemory
Mixer = Softmax | Recurrent | Segmented


def label(mixer: Mixer) -> str:
    """Return the name of a mixer on the page."""
    match mixer:
        case Softmax():
            return "attention"
        case LinearAttention():
            name = "linear attention"
        case Additive():
            name = "additive"
        case DeltaRule():
            name = "delta rule"
        case GatedDeltaRule():
            name = "gated delta rule"
        case SegmentRecurrence(segment):
            return f"Transformer-XL, segments of {segment}"
        case CompressiveMemory(segment, delta):
            return f"compressive memory{', delta' * delta}, segments of {segment}"
        case RecurrentMemory(segment, memory):
            return f"RMT, {memory} memory tokens, segments of {segment}"
        case _:
            assert_never(mixer)
    return f"{name}, keys of {mixer.key_dim}" if mixer.key_dim else name


def state_size(mixer: Mixer, *, layers: int, width: int, heads: int, kv_heads: int, length: int) -> int:
    """Return the scalars that a model keeps of a sequence of `length` tokens, all layers together.

    Softmax attention keeps keys and values of all tokens. A recurrence keeps a matrix a head (and, linear attention,
    the sum of its keys). A model that reads in segments keeps what it hands to the next: Transformer-XL the inputs of
    each layer over one segment, a compressive memory its matrix and the sum of its keys, an RMT its memory tokens.
    The one key that a key shift looks back on is not counted.
    Raises ValueError for a length below 1.
    """
    positive(length=length)
    head_dim = width // heads
    match mixer:
        case Softmax():
            return layers * 2 * length * kv_heads * head_dim
        case LinearAttention(key_dim):
            return layers * heads * (key_dim or head_dim) * (head_dim + 1)
        case Additive(key_dim) | DeltaRule(key_dim) | GatedDeltaRule(key_dim):
            return layers * heads * (key_dim or head_dim) * head_dim
        case SegmentRecurrence(segment):
            return layers * segment * width
        case CompressiveMemory():
            return layers * heads * head_dim * (head_dim + 1)
        case RecurrentMemory(_, memory):
            return memory * width
        case _:
            assert_never(mixer)
