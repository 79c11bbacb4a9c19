"""The menu of mixers: what lets a token of a sequence learn of earlier ones, and how much of them each keeps.

Softmax attention keeps every key and value, and so do four remedies for how it spreads its weights over a long text.
The recurrences keep one matrix a head, whatever the length, and differ in how they write to it. The last three read a
long text in segments and hand something on from each to the next. Each tells its label, its `state_size`, and the
`products` of a layer: the numbers it multiplies, its output projection aside (see `lcbook.models.costs`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from lcbook.formats import at_least


@dataclass(frozen=True)
class Shape:
    """The sizes of a model that a mixer's costs depend on."""

    layers: int
    width: int
    heads: int
    kv_heads: int

    @property
    def head_dim(self) -> int:
        """The width of a head."""
        return self.width // self.heads


class Keeping:
    """What the mixers share that keep the keys and values of all tokens."""

    def state_size(self, shape: Shape, length: int) -> int:
        """Return the scalars that a model keeps of `length` tokens, all layers together: keys and values.

        The number a key that a forget gate or selective attention adds up is not counted.
        """
        return shape.layers * 2 * length * shape.kv_heads * shape.head_dim

    def products(self, shape: Shape, length: int, asked: int) -> int:
        """Return the numbers that one layer multiplies over `length` tokens to mix values at `asked` places."""
        keys_and_values = 2 * length * shape.width * shape.kv_heads * shape.head_dim
        return asked * shape.width**2 + keys_and_values + 2 * asked * length * shape.width


@dataclass(frozen=True)
class Softmax(Keeping):
    """Softmax attention over the keys of all earlier tokens, or over those that a pattern shows."""

    label: ClassVar[str] = "attention"


@dataclass(frozen=True)
class LearnedSink(Keeping):
    """Softmax attention whose weights may sum to less than 1: a learned logit a head stands in the denominator too.

    Source: OpenAI 2025, arXiv 2508.10925 (gpt-oss); with that logit fixed at 0: Miller 2023, "Attention is off by one".
    """

    label: ClassVar[str] = "learned sink"


@dataclass(frozen=True)
class ForgettingGate(Keeping):
    """Softmax attention in which each token fades all earlier ones by a learned factor, for each head.

    Source: Lin et al. 2025, arXiv 2503.02130 (Forgetting Transformer), section 3.
    """

    label: ClassVar[str] = "forgetting attention"

    def products(self, shape: Shape, length: int, asked: int) -> int:
        """Return the numbers multiplied, the gates of all tokens too."""
        return super().products(shape, length, asked) + length * shape.width * shape.heads


@dataclass(frozen=True)
class Differential(Keeping):
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
class Selective(Keeping):
    """Softmax attention in which each token tells later ones, by the scores of the first head, what they need no more.

    Source: Leviathan et al. 2024, arXiv 2410.02703 (Selective Attention), section 3.
    """

    label: ClassVar[str] = "selective attention"

    def products(self, shape: Shape, length: int, asked: int) -> int:
        """Return the numbers multiplied, the first head's scores at all places too."""
        return super().products(shape, length, asked) + length * shape.head_dim * (shape.width + length)


@dataclass(frozen=True)
class KeyWidth:
    """What the recurrences share: the width of a head's keys, which is the rows of its matrix (0: the head's width)."""

    name: ClassVar[str]
    gates: ClassVar[int] = 1  # learned numbers a head and token: how much is written, and how much stays
    passes: ClassVar[int] = 2  # products with the matrix for each token: a write, and a read of the result
    key_dim: int = 0

    def __post_init__(self) -> None:
        if self.key_dim < 0:
            raise ValueError(f"key_dim is {self.key_dim}; allowed is 0 (the head width) or more.")

    @property
    def label(self) -> str:
        """The name on the page."""
        return f"{self.name}, keys of {self.key_dim}" if self.key_dim else self.name

    def state_size(self, shape: Shape, length: int) -> int:
        """Return the scalars that a model keeps of a text, all layers together: a matrix a head, whatever the length.

        The one key that a key shift looks back on is not counted.
        """
        return shape.layers * shape.heads * (self.key_dim or shape.head_dim) * shape.head_dim

    def products(self, shape: Shape, length: int, asked: int) -> int:
        """Return the numbers that one layer multiplies over `length` tokens, in the step form, whatever is asked."""
        keys = shape.heads * (self.key_dim or shape.head_dim)
        projected = shape.width + 2 * keys + self.gates * shape.heads
        held = self.state_size(shape, length) // shape.layers
        return length * (shape.width * projected + self.passes * held)


@dataclass(frozen=True)
class LinearAttention(KeyWidth):
    """Linear attention with features elu(x) + 1, the sum of the weights divided out.

    Source: Katharopoulos et al. 2020, arXiv 2006.16236.
    """

    name: ClassVar[str] = "linear attention"
    gates: ClassVar[int] = 0

    def state_size(self, shape: Shape, length: int) -> int:
        """Return the scalars kept of a text: the matrices, and the sum of the keys."""
        keys = shape.heads * (self.key_dim or shape.head_dim)
        return super().state_size(shape, length) + shape.layers * keys


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
    passes: ClassVar[int] = 3  # it also reads before it writes


@dataclass(frozen=True)
class GatedDeltaRule(KeyWidth):
    """The delta rule on a matrix that fades by a learned factor at each token.

    Source: Yang et al. 2024, arXiv 2412.06464.
    """

    name: ClassVar[str] = "gated delta rule"
    gates: ClassVar[int] = 2
    passes: ClassVar[int] = 3


@dataclass(frozen=True)
class SegmentRecurrence:
    """Each layer attends to its own segment and to the one before, through which no gradient flows back.

    Source: Dai et al. 2019, arXiv 1901.02860 (Transformer-XL), section 3.2; without its relative positions.
    """

    segment: int = 32

    def __post_init__(self) -> None:
        at_least(1, segment=self.segment)

    @property
    def label(self) -> str:
        """The name on the page."""
        return f"Transformer-XL, segments of {self.segment}"

    def state_size(self, shape: Shape, length: int) -> int:
        """Return the scalars handed to the next segment, all layers together: the inputs of each over one segment."""
        return shape.layers * self.segment * shape.width

    def products(self, shape: Shape, length: int, asked: int) -> int:
        """Return the numbers that one layer multiplies over `length` tokens, the last segment filled up.

        There are two segments for each query, and keys and values again without the gradient of the segment before.
        """
        filled = -(-length // self.segment) * self.segment
        return 5 * length * shape.width**2 + 2 * filled * 2 * self.segment * shape.width


@dataclass(frozen=True)
class CompressiveMemory:
    """Each layer attends to its own segment, and reads all earlier ones from a linear-attention matrix.

    With `delta`, a segment first takes from its values what its keys already read.
    Source: Munkhdalai et al. 2024, arXiv 2404.07143 (Infini-attention).
    """

    segment: int = 32
    delta: bool = False

    def __post_init__(self) -> None:
        at_least(1, segment=self.segment)

    @property
    def label(self) -> str:
        """The name on the page."""
        return f"compressive memory{', delta' * self.delta}, segments of {self.segment}"

    def state_size(self, shape: Shape, length: int) -> int:
        """Return the scalars handed to the next segment, all layers together: matrices, and the sums of their keys."""
        return shape.layers * shape.heads * shape.head_dim * (shape.head_dim + 1)

    def products(self, shape: Shape, length: int, asked: int) -> int:
        """Return the numbers that one layer multiplies over `length` tokens, the last segment filled up."""
        filled = -(-length // self.segment) * self.segment
        inside = 3 * length * shape.width**2 + 2 * filled * self.segment * shape.width
        writes = filled * shape.width * shape.head_dim
        reads = (1 + self.delta) * (filled - self.segment) * shape.width * (shape.head_dim + 1)
        return inside + writes + reads


@dataclass(frozen=True)
class RecurrentMemory(Keeping):
    """Segments go one after another through the whole model; `memory` tokens carry on what its last layer made of them.

    With `memory` 0 the segments know nothing of each other.
    Source: Bulatov et al. 2022, arXiv 2207.06881 (Recurrent Memory Transformer), section 3.2.
    """

    segment: int = 32
    memory: int = 4

    def __post_init__(self) -> None:
        at_least(1, segment=self.segment)
        at_least(0, memory=self.memory)

    @property
    def label(self) -> str:
        """The name on the page."""
        return f"RMT, {self.memory} memory tokens, segments of {self.segment}"

    def state_size(self, shape: Shape, length: int) -> int:
        """Return the scalars handed to the next segment: the memory tokens."""
        return self.memory * shape.width


Attending = Differential | ForgettingGate | Selective | LearnedSink
Recurrent = LinearAttention | Additive | DeltaRule | GatedDeltaRule
Segmented = SegmentRecurrence | CompressiveMemory | RecurrentMemory
Mixer = Softmax | Attending | Recurrent | Segmented
