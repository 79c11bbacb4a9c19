"""Schedules: how long the sequences of each update are, laid out before training and equal in tokens.

    Fixed       ########################   every update at the training length
    Uniform     ### ##### # ######## ####  a length drawn anew for each update
    Steps       ####|########|############ short first, then longer
    Linear      # ## ### #### ##### ######  a little longer with each update

Whatever the lengths, a plan spends updates * batch * length tokens. An update at a shorter length takes more sequences.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Protocol, assert_never, runtime_checkable

import torch

from lcbook.models.positions import AnyPosition, require_position

GRAIN = 8  # lengths that change are multiples of this


@dataclass(frozen=True)
class Fixed:
    """Every update at the training length."""

    label: ClassVar[str] = "fixed"


@dataclass(frozen=True)
class Uniform:
    """For each update a multiple of 8 from `shortest` up to the training length, each equally likely."""

    label: ClassVar[str] = "uniform"
    shortest: int


@dataclass(frozen=True)
class LogUniform:
    """As Uniform, with the logarithm of the length drawn uniformly: each octave is about equally likely."""

    label: ClassVar[str] = "log-uniform"
    shortest: int


@dataclass(frozen=True)
class Stage:
    """Updates at `length` for a `share` of the tokens; `position`, if given, replaces the encoding from here on.

    Raises ValueError for a position that is no encoding.

    Source: a larger RoPE base or YaRN at the longer stage, as in Xiong et al. 2309.16039 and Peng et al. 2309.00071.
    """

    length: int
    share: float | int
    position: AnyPosition | None = None

    def __post_init__(self) -> None:
        if self.position is not None:
            require_position(self.position)


@dataclass(frozen=True)
class Steps:
    """Progressive extension: stages from short to long, the last at the training length, shares that sum to 1."""

    label: ClassVar[str] = "steps"
    stages: tuple[Stage, ...]


@dataclass(frozen=True)
class Linear:
    """From `shortest` to the training length in proportion to the tokens spent, in steps of 8.

    Source: the linear schedule of SkyLadder, Zhu et al. 2503.15450.
    """

    label: ClassVar[str] = "linear"
    shortest: int


Lengths = Fixed | Uniform | LogUniform | Steps | Linear


class Update(NamedTuple):
    """One update: so many `sequences` of `length` tokens, under `position` (None: the model's own)."""

    length: int
    sequences: int
    position: AnyPosition | None = None


@runtime_checkable
class Budget(Protocol):
    """What a plan is made from: a TrainSpec has it."""

    @property
    def length(self) -> int:
        """The training length: the longest."""
        ...

    @property
    def updates(self) -> int:
        """Updates of `batch` sequences of `length` tokens that the budget pays for."""
        ...

    @property
    def batch(self) -> int:
        """Sequences in an update at the training length."""
        ...

    @property
    def lengths(self) -> Lengths:
        """The schedule."""
        ...


def shortest(lengths: Lengths, length: int) -> int:
    """Return the shortest length of a schedule whose training length is `length`."""
    match lengths:
        case Fixed():
            return length
        case Uniform(least) | LogUniform(least) | Linear(least):
            return least
        case Steps(stages):
            return min(stage.length for stage in stages)
        case _:
            assert_never(lengths)


def check(lengths: Lengths, length: int, updates: int) -> None:
    """Raise ValueError unless the schedule can be kept, ends at `length` and gives each stage an update."""
    if isinstance(lengths, Fixed):
        return
    if length % GRAIN:
        raise ValueError(f"length is {length} with {lengths}; allowed are multiples of {GRAIN}.")
    if isinstance(lengths, Steps):
        _check_steps(lengths.stages, length, updates)
    elif lengths.shortest % GRAIN or not GRAIN <= lengths.shortest <= length:
        raise ValueError(
            f"shortest is {lengths.shortest}; allowed are multiples of {GRAIN} from {GRAIN} to the length, {length}."
        )


def _check_steps(stages: tuple[Stage, ...], length: int, updates: int) -> None:
    found = [stage.length for stage in stages]
    if not stages or found != sorted(found) or found[0] < GRAIN or any(one % GRAIN for one in found):
        raise ValueError(f"stages have lengths {found}; allowed are multiples of {GRAIN}, short to long.")
    if found[-1] != length:
        raise ValueError(
            f"stages end at length {found[-1]}; allowed is an end at the training length, {length}."
        )
    shares = [stage.share for stage in stages]
    if not abs(math.fsum(shares) - 1) <= 1e-9:
        raise ValueError(f"stages have shares {shares}; allowed are shares that sum to 1.")
    if not min(shares) * updates >= 1 - 1e-9:
        raise ValueError(
            f"stages have shares {shares} of {updates} updates; allowed are shares of one update or more each."
        )


def plan(spec: Budget, seed: int) -> tuple[Update, ...]:
    """Return the updates of a training, in order; their tokens add up to updates * batch * length exactly.

    Each update takes as many sequences of its length as batch * length tokens allow; what is left over goes to the
    next. If something is left over at the end, the last update is laid out anew, as one or two of nearly equal
    lengths. What is drawn depends on `seed` alone.
    """
    if isinstance(spec.lengths, Fixed):
        return (Update(spec.length, spec.batch),) * spec.updates
    each = spec.batch * spec.length
    draws = torch.rand(
        spec.updates, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    ).tolist()
    planned: list[Update] = []
    left = 0
    for i, draw in enumerate(draws):
        length, position = _length(spec, i, draw)
        sequences, left = divmod(left + each, length)
        planned.append(Update(length, sequences, position))
    if left:
        _spend(planned, left, spec)
    return tuple(planned)


def _length(spec: Budget, i: int, draw: float) -> tuple[int, AnyPosition | None]:
    """Return the length and the encoding of update `i`, from 0; `draw` is uniform on [0, 1)."""
    lengths = spec.lengths
    match lengths:
        case Fixed():
            return spec.length, None
        case Uniform(least):
            choices = (spec.length - least) // GRAIN + 1
            return least + GRAIN * int(draw * choices), None
        case LogUniform(least):
            drawn = least * ((spec.length + GRAIN) / least) ** draw
            return min(GRAIN * int(drawn / GRAIN), spec.length), None
        case Linear(least):
            share = i / (spec.updates - 1) if spec.updates > 1 else 1.0
            return GRAIN * round((least + share * (spec.length - least)) / GRAIN), None
        case Steps(stages):
            spent, position = 0.0, None
            for stage in stages:
                spent, position = spent + stage.share, stage.position or position
                if (i + 0.5) / spec.updates < spent:
                    break
            return stage.length, position
        case _:
            assert_never(lengths)


def _spend(planned: list[Update], left: int, spec: Budget) -> None:
    """Replace the last update by ones that also spend `left` tokens, at lengths that the schedule has.

    Where the shortest is close to the training length, more than the last update has to be laid out anew.
    """
    position = planned[-1].position
    length = 0
    while length < shortest(spec.lengths, spec.length):
        last = planned.pop()
        left += last.length * last.sequences
        sequences = -(-left // spec.length)
        length = GRAIN * (left // (GRAIN * sequences))
    longer = (left - sequences * length) // GRAIN
    most = spec.batch + 1
    for each, count in ((length, sequences - longer), (length + GRAIN, longer)):
        planned += [Update(each, min(most, count - done), position) for done in range(0, count, most)]
