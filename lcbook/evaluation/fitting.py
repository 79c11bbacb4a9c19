"""Sentences laid into filler so that one of them starts at a given token, and all of them take a given number.

A tokenizer joins letters across a cut, so the tokens of the parts do not add up to those of the whole: a first guess
is measured on the whole text, and mended by trying other cuts in a window around the place.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice

from lcbook.llm.protocol import Encoded

REACH, MARGIN = 40, 40  # characters around a cut that are tried, and that are encoded with them
WORD = 8  # characters by which a cut inside a word must be nearer than one between words
ROUNDS = 8  # encodings of the whole text
CHOICES = 6  # cuts at the needle for which an end is sought
# White space before the needle or at the end of the filler, for the last token where no cut gives it.
PADS = ("", " ", "\n", "  ", "\n\n", " \n \n")

SENTENCE = -1

Encode = Callable[[str], Encoded]


@dataclass(frozen=True)
class Layout:
    """What does not depend on the depth: `others` lie in the filler in this order, at `places` (characters, rising)."""

    head: str
    tail: str
    needle: str
    others: tuple[str, ...]
    places: tuple[int, ...] = ()
    filler: str = ""


@dataclass(frozen=True)
class Cut:
    """The needle lies after `before` of the others, at character `at` of the filler, which ends at character `end`."""

    before: int
    at: int
    end: int
    gap: str = ""
    pad: str = ""


@dataclass(frozen=True)
class Written:
    """A text, where its context, needle and other sentences lie, and its pieces of filler (from, to, place in text)."""

    text: str
    context: tuple[int, int]
    needle: int
    others: tuple[int, ...]
    pieces: tuple[tuple[int, int, int], ...]

    def window(self, low: int, high: int) -> slice:
        """The part of the text from character `low` of the filler to character `high`, with the sentences there."""
        start = next((at + low - a for a, b, at in self.pieces if a <= low <= b), 0)
        last = ((at + high - a for a, b, at in reversed(self.pieces) if a <= high <= b), len(self.text))
        return slice(start, next(*last))


@dataclass(frozen=True)
class Measure:
    """Tokens of a text, of its context and needle; `place` is the needle's token, counted from that of the context."""

    tokens: int
    first: int
    context: int
    size: int
    place: int


def write(layout: Layout, cut: Cut) -> Written:
    """Lay the sentences into the filler, one space at each joint that has no white space."""
    others = list(zip(layout.places, layout.others, strict=True))
    rows = [(min(place, cut.at, cut.end), sentence) for place, sentence in others[: cut.before]]
    rows += [(min(cut.at, cut.end), layout.needle)]
    rows += [(min(max(place, cut.at), cut.end), sentence) for place, sentence in others[cut.before :]]
    # Sentences and white space, and pieces of filler with the place where each starts.
    laid: list[tuple[str, int | None]] = []
    last = 0
    for i, (place, sentence) in enumerate(rows):
        gap = cut.gap if i == cut.before else ""
        laid += [(layout.filler[last:place], last), (gap, None), (sentence, SENTENCE)]
        last = max(last, place)
    laid += [(layout.filler[last : cut.end], last), (cut.pad, None)]
    parts, size, starts, pieces = [layout.head], len(layout.head), [], []
    for part, role in laid:
        if not part:
            continue
        if not (parts[-1][-1].isspace() or part[0].isspace()):
            parts.append(" ")
            size += 1
        parts.append(part)
        if role == SENTENCE:
            starts.append(size)
        elif role is not None:
            pieces.append((role, role + len(part), size))
        size += len(part)
    text = "".join(parts)
    needle = starts.pop(cut.before)
    return Written(text + layout.tail, (len(layout.head), len(text)), needle, tuple(starts), tuple(pieces))


def token_at(starts: tuple[int, ...], character: int, plain: bool = True) -> int:
    """Return the index of the token in which `character` lies: of several that start there the first one if they are
    its bytes, else the last one (some tokenizers say of white space that it starts where it ends).
    """
    at = bisect_left(starts, character)
    if not plain and at < len(starts) and starts[at] == character:
        return at
    return max(bisect_right(starts, character) - 1, 0)


def counted(starts: tuple[int, ...], written: Written, needle: str) -> Measure:
    """Count tokens; one belongs to the context, or to the needle, if it starts there or holds the first character."""
    first = token_at(starts, written.context[0], written.text[written.context[0]].isascii())
    place = token_at(starts, written.needle, needle[0].isascii())
    return Measure(
        tokens=len(starts),
        first=first,
        context=bisect_left(starts, written.context[1]) - first,
        size=bisect_left(starts, written.needle + len(needle)) - place,
        place=place - first,
    )


def _cuts(filler: str, spot: int, low: int) -> Iterator[tuple[int, str]]:
    """Yield where filler may be cut near `spot`, and with which white space: ends of words first, then the nearest."""

    costs: list[tuple[int, int]] = []
    for at in range(max(low, spot - REACH), max(low, min(len(filler), spot + REACH)) + 1):
        in_word = 0 < at < len(filler) and not filler[at].isspace()
        after_space = at > 0 and filler[at - 1].isspace()
        costs.append((abs(at - spot) + WORD * in_word + 2 * REACH * after_space, at))
    near = [at for _, at in sorted(costs)]
    return ((at, pad) for pad in PADS for at in near)


class Fitter:
    """Cuts one layout: measures the whole text, and mends the guess near the cut."""

    def __init__(self, layout: Layout, starts: tuple[int, ...], encode: Encode) -> None:
        self.layout, self.starts, self.encode = layout, starts, encode

    def character(self, token: int) -> int:
        """Where `token` of the filler starts, less the white space before it."""
        at = self.starts[max(token, 0)] if token < len(self.starts) else len(self.layout.filler)
        near = self.layout.filler[max(0, at - MARGIN) : at]
        return at - len(near) + len(near.rstrip())

    def moved(self, at: int, tokens: int) -> int:
        """Where the filler is `tokens` further than at character `at`."""
        return self.character(bisect_left(self.starts, at) + tokens)

    def fit(self, cut: Cut, goal: int, depth: float | int) -> Iterator[tuple[Written, Measure, bool]]:
        """Yield each text measured on the way, and whether it has `goal` tokens and its needle at `depth`."""
        tried: set[str] = set()
        for _ in range(ROUNDS):
            written = write(self.layout, cut)
            tried.add(written.text)
            found = counted(self.encode(written.text).starts, written, self.layout.needle)
            wanted = round(depth * (found.context + goal - found.tokens - found.size))
            exact = (found.tokens, found.place) == (goal, wanted)
            yield written, found, exact
            if exact:
                return
            better = self._better(cut, written, found, wanted, goal, tried)
            if better is None:
                return
            cut = better

    def _better(
        self, cut: Cut, written: Written, found: Measure, wanted: int, goal: int, tried: set[str]
    ) -> Cut | None:
        """Return the best cut near by which should have `goal` tokens and the needle at `wanted`."""
        for placed, tokens in islice(self._placed(cut, written, found, wanted), CHOICES):
            for better in self._ended(placed, tokens, goal):
                if write(self.layout, better).text not in tried:
                    return better
        return None

    def _placed(self, cut: Cut, written: Written, found: Measure, wanted: int) -> Iterator[tuple[Cut, int]]:
        """Yield cuts that should put the needle at `wanted`, each with the tokens that its text should have."""
        if found.place == wanted:
            yield cut, found.tokens
        spot = self.moved(cut.at, wanted - found.place)
        low, high = min(cut.at, spot - REACH) - MARGIN, max(cut.at, spot + REACH) + MARGIN
        if spot + REACH >= cut.end:
            high = len(self.layout.filler) + 1
        part = written.window(low, high)
        old = self.encode(written.text[part]).starts
        place = token_at(old, written.needle - part.start)
        for at, gap in _cuts(self.layout.filler, spot, 0):
            new = replace(cut, at=at, end=max(cut.end, at), gap=gap)
            trial = write(self.layout, new)
            part = trial.window(low, high)
            starts = self.encode(trial.text[part]).starts
            if found.place + token_at(starts, trial.needle - part.start) - place == wanted:
                yield new, found.tokens + len(starts) - len(old)

    def _ended(self, cut: Cut, tokens: int, goal: int) -> Iterator[Cut]:
        """Yield cuts with another end that should have `goal` tokens."""
        if tokens == goal:
            yield cut
        spot = max(self.moved(cut.end, goal - tokens), cut.at)
        low = min(cut.end, spot - REACH) - MARGIN
        text = write(self.layout, cut)
        old = len(self.encode(text.text[text.window(low, len(self.layout.filler) + 1)]).ids)
        for end, pad in _cuts(self.layout.filler, spot, cut.at):
            new = replace(cut, end=end, pad=pad)
            trial = write(self.layout, new)
            part = trial.window(low, len(self.layout.filler) + 1)
            if tokens + len(self.encode(trial.text[part]).ids) - old == goal:
                yield new
