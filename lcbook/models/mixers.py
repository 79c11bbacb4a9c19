"""The menu of mixers: what lets a token of a sequence learn of earlier ones, and how much of them each keeps.

Softmax attention keeps every key and value, and so do four remedies for how it spreads its weights over a long text.
The recurrences keep one matrix a head, whatever the length, and differ in how they write to it. The last three read a
long text in segments and hand something on from each to the next.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, assert_never

from lcbook.attention.exact import positive
from lcbook.formats import label as label


@dataclass(frozen=True)
class Softmax:
    """Softmax attention over the keys of all earlier tokens, or over those that a pattern shows."""

    label: ClassVar[str] = "attention"


@dataclass(frozen=True)
class LearnedSink:
    """Softmax attention whose weights may sum to less than 1: a learned logit a head stands in the denominator too.

    Source: OpenAI 2025, arXiv 2508.10925 (gpt-oss); with that logit fixed at 0: Miller 2023, "Attention is off by one".
    """

    label: ClassVar[str] = "learned sink"


@dataclass(frozen=True)
class ForgettingGate:
    """Softmax attention in which each token fades all earlier ones by a learned factor, for each head.

    Source: Lin et al. 2025, arXiv 2503.02130 (Forgetting Transformer), section 3.
    """

    label: ClassVar[str] = "forgetting attention"


@dataclass(frozen=True)
class Differential:
    """The difference of two softmax maps a head, the second one times a learned lambda.

    Lambda starts near start * (1 - 3/4 exp(-0.3 * layer)), the layers counted from 0. For 0.8 that is the paper's
    0.8 - 0.6 exp(-0.3 * layer): 0.2 in the first layer, 0.8 far up. A head's width must be even.
    Source: Ye et al. 2024, arXiv 2410.05258 (Differential Transformer), section 2.1.
    """

    start: float | int = 0.8

    def __post_init__(self) -> None:
        if not 0 <= self.start < 1:
            raise ValueError(f"start is {self.start}; allowed is 0 or more, below 1.")

    @property
    def label(self) -> str:
        """The name on the page."""
        given = f", lambda {self.start:g}" if self.start != Differential.start else ""
        return f"differential attention{given}"


@dataclass(frozen=True)
class Selective:
    """Softmax attention in which each token tells later ones, by the scores of the first head, what they need no more.

    Source: Leviathan et al. 2024, arXiv 2410.02703 (Selective Attention), section 3.
    """

    label: ClassVar[str] = "selective attention"


@dataclass(frozen=True)
class KeyWidth:
    """What the recurrences share: the width of a head's keys, which is the rows of its matrix (0: the head's width)."""

    name: ClassVar[str]
    key_dim: int = 0

    def __post_init__(self) -> None:
        if self.key_dim < 0:
            raise ValueError(f"key_dim is {self.key_dim}; allowed is 0 (the head width) or more.")

    @property
    def label(self) -> str:
        """The name on the page."""
        return f"{self.name}, keys of {self.key_dim}" if self.key_dim else self.name


@dataclass(frozen=True)
class LinearAttention(KeyWidth):
    """Linear attention with features elu(x) + 1, the sum of the weights divided out.

    Source: Katharopoulos et al. 2020, arXiv 2006.16236.
    """

    name: ClassVar[str] = "linear attention"


@dataclass(frozen=True)
class Additive(KeyWidth):
    """A matrix to which each token adds its key times its value, with a learned strength.

    Source: Schlag et al. 2021, arXiv 2102.11174, section 3, without the feature map.
    """

    name: ClassVar[str] = "additive"


@dataclass(frozen=True)
class DeltaRule(KeyWidth):
    """A matrix in which each token first takes back what its key reads, then writes its value.

    Source: Schlag et al. 2021, arXiv 2102.11174; in chunks: Yang et al. 2024, arXiv 2406.06484.
    """

    name: ClassVar[str] = "delta rule"


@dataclass(frozen=True)
class GatedDeltaRule(KeyWidth):
    """The delta rule on a matrix that fades by a learned factor at each token.

    Source: Yang et al. 2024, arXiv 2412.06464.
    """

    name: ClassVar[str] = "gated delta rule"


@dataclass(frozen=True)
class SegmentRecurrence:
    """Each layer attends to its own segment and to the one before, through which no gradient flows back.

    Source: Dai et al. 2019, arXiv 1901.02860 (Transformer-XL), section 3.2; without its relative positions.
    """

    segment: int = 32

    def __post_init__(self) -> None:
        positive(segment=self.segment)

    @property
    def label(self) -> str:
        """The name on the page."""
        return f"Transformer-XL, segments of {self.segment}"


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

    @property
    def label(self) -> str:
        """The name on the page."""
        return f"compressive memory{', delta' * self.delta}, segments of {self.segment}"


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

    @property
    def label(self) -> str:
        """The name on the page."""
        return f"RMT, {self.memory} memory tokens, segments of {self.segment}"


Attending = Differential | ForgettingGate | Selective | LearnedSink
Recurrent = LinearAttention | Additive | DeltaRule | GatedDeltaRule
Segmented = SegmentRecurrence | CompressiveMemory | RecurrentMemory
Mixer = Softmax | Attending | Recurrent | Segmented


def state_size(mixer: Mixer, *, layers: int, width: int, heads: int, kv_heads: int, length: int) -> int:
    """Return the scalars that a model keeps of a sequence of `length` tokens, all layers together.

    Softmax attention and its remedies keep keys and values of all tokens. A recurrence keeps a matrix a head (and,
    linear attention, the sum of its keys). A model that reads in segments keeps what it hands to the next:
    Transformer-XL the inputs of each layer over one segment, a compressive memory its matrix and the sum of its keys,
    an RMT its memory tokens. The one key that a key shift looks back on is not counted, nor the number a key that a
    forget gate or selective attention adds up.
    Raises ValueError for a length below 1.
    """
    positive(length=length)
    head_dim = width // heads
    match mixer:
        case Softmax() | Differential() | ForgettingGate() | Selective() | LearnedSink():
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
