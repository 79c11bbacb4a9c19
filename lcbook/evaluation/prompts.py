"""Prompts: an item written into a haystack, cut to a length and with the needle at a depth, both exact to a token."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

import numpy as np

from lcbook.evaluation.fitting import Cut, Encode, Fitter, Layout, Measure, Written, counted, token_at, write
from lcbook.formats import at_least
from lcbook.llm.protocol import LanguageModel
from lcbook.tasks.haystacks import Competing, Haystack
from lcbook.tasks.items import Item

GOALS = (0, 1, 2, 3, 5, 8, 16, 64)  # tokens short of the length, where no cut reaches it
SPARE = 64  # tokens of filler beyond those expected


@dataclass(frozen=True)
class Prompt:
    """A text to be answered, and what was measured on it.

    `tokens` are those of the whole prompt as the model reads it, `context` those that start in the text between
    introduction and question, `needle` the index, in the encoded text, of the token in which the needle starts.
    `depth` is the share asked for. `answers`, `scorer` and `chance` are the item's.
    """

    text: str
    answers: tuple[str, ...]
    scorer: str
    chance: float | int
    tokens: int
    needle: int
    depth: float | int
    context: int


def _filler(
    haystack: Haystack, item: Item, encode: Encode, seed: int, tokens: int
) -> tuple[str, tuple[int, ...]]:
    """Return haystack text of at least `tokens` tokens, little more, and where each token starts."""
    sentences, characters = [fact.text for fact in item.distractors], 1000
    while True:
        if isinstance(haystack, Competing):
            text = haystack.text(sentences, characters)
        else:
            text = haystack.text(seed, characters)
        starts = encode(text[:characters]).starts
        if len(starts) >= tokens:
            break
        characters = 1000 + int(characters * max(1.05 * tokens / max(len(starts), 1), 1.2))
    end = starts[tokens] if len(starts) > tokens else characters
    return text[:end], starts[:tokens]


def _snapped(filler: str, place: int) -> int:
    """Return the joint of two sentences that is nearest to `place`; the end of a word where none is near."""
    low, high = max(0, place - 300), place + 300
    joints = [low + match.end() for match in re.finditer(r"[.!?](?=\s)", filler[low:high])]
    near = min([*joints, *([0] if not low else [])], key=lambda joint: abs(joint - place), default=None)
    if near is not None:
        return near
    space = re.compile(r"\s").search(filler, place)
    return space.start() if space else place


def build(
    item: Item,
    haystack: Haystack,
    *,
    model: LanguageModel,
    length: int,
    depth: float | int,
    reply_tokens: int,
    seed: int,
) -> Prompt:
    r"""Write `item` into `haystack` as a prompt that takes, with `reply_tokens` of reply, `length` tokens of `model`.

    "{intro}\n\n{context}\n\nQuestion: {question}\nAnswer: {prefix}", where the context is the haystack with the
    sentences of the facts in it, and those of the distractors unless they are the haystack (Competing).

    Length: tokens + reply_tokens is never above `length`, and equals it wherever a cut of the haystack's end reaches
    it.
    Depth: the needle (the first fact) starts at token round(depth * (tokens of the context - tokens of the needle))
    of the context: 0 is its beginning and 1 its end. To be exact to a token the haystack is cut where the needle
    falls, between words if such a place will do and else inside a word, and goes on after it; at a byte a token a
    second space may stand before the needle. The other sentences lie at joints of sentences near places that the seed
    draws, uniformly.
    Shared prefix: the haystack, and order and places of the other sentences, depend on seed and length, not on depth;
    only the haystack's end gives way to the length. A sentence that the needle would cut gives way to it. So prompts
    that differ in depth agree up to the earlier needle, or to the sentence that gave way there.
    Where a tokenizer can reach no exact place the nearest is taken; `tokens`, `needle` and `context` are measured on
    the final text and say so. Of `model`, `encode` and `overhead` are used. Answers that are asked in the order of the
    text (`Item.in_text_order`) stand in that order.

    Raises ValueError for bad arguments, and for a length in which the sentences do not fit or leave less filler than
    the longest of the others, which some depths need (the message says the least length).
    """
    if not 0 <= depth <= 1:
        raise ValueError(f"depth is {depth}; allowed is a share from 0 to 1.")
    at_least(0, reply_tokens=reply_tokens, seed=seed)
    encode, besides = model.encode, reply_tokens + model.overhead()
    rng = np.random.default_rng([seed, 3])
    layout = _layout(item, haystack, rng)
    least, sizes = _bare(layout, encode)
    shortest = least.tokens + max(sizes, default=0) + besides
    if length < shortest:
        raise ValueError(
            f"length is {length}; allowed is at least {shortest} for this item of the task {item.task}, with "
            f"{len(layout.others) + 1} sentences and {reply_tokens} tokens of reply."
        )
    room = length - besides
    free = room - least.tokens
    filler, starts = _filler(haystack, item, encode, seed, free + SPARE)
    drawn = np.sort(rng.integers(free + 1, size=len(layout.others))).tolist()
    used = filler[: starts[free]]
    places = tuple(sorted(_snapped(used, starts[token]) for token in drawn))
    fitter = Fitter(replace(layout, filler=filler, places=places), starts, encode)
    best: tuple[tuple[int, int], Written, Measure] | None = None
    for short in GOALS:
        for cut in _first_cuts(fitter, sizes, least, free - short, depth):
            for written, found, exact in fitter.fit(cut, room - short, depth):
                off = abs(found.place - round(depth * (found.context - found.size)))
                if found.tokens <= room and (best is None or (off, -found.tokens) < best[0]):
                    best = (off, -found.tokens), written, found
                if exact:
                    return _prompt(item, written, found, besides - reply_tokens, depth)
    if best is None:
        raise ValueError(f"length is {length}; allowed is a length that a cut of the haystack can reach.")
    return _prompt(item, best[1], best[2], besides - reply_tokens, depth)


def _layout(item: Item, haystack: Haystack, rng: np.random.Generator) -> Layout:
    """Return the sentences of `item` without filler, all but the needle in an order that `rng` draws."""
    facts = item.facts[1:] if isinstance(haystack, Competing) else (*item.facts[1:], *item.distractors)
    others = tuple(facts[i].text for i in rng.permutation(len(facts)))
    tail = f"\n\nQuestion: {item.question}\nAnswer: {item.prefix}"
    return Layout(f"{item.intro}\n\n", tail, item.facts[0].text, others, (0,) * len(others))


def _bare(layout: Layout, encode: Encode) -> tuple[Measure, list[int]]:
    """Return what the sentences alone take, the needle last, and the tokens of each of the others."""
    bare = write(layout, Cut(len(layout.others), 0, 0))
    starts = encode(bare.text).starts
    least = counted(starts, bare, layout.needle)
    bounds = [token_at(starts, at) for at in bare.others] + [least.first + least.place]
    return least, [after - at for at, after in pairwise(bounds)]


def _first_cuts(fitter: Fitter, sizes: list[int], least: Measure, free: int, depth: float | int) -> list[Cut]:
    """Guess up to three cuts, best first: how many of the other sentences lie before the needle, and where it is."""
    place = round(depth * (least.context + free - least.size))
    taken, places = [0, *accumulate(sizes)], fitter.layout.places
    ends = [bisect_left(fitter.starts, at) + size for at, size in zip(places, taken[1:], strict=True)]
    usual = bisect_right(ends, place)

    def unfit(before: int) -> tuple[int, int]:
        """Tokens of filler that are missing, and how many sentences give way."""
        rest = place - taken[before]
        return max(-rest, rest - free, 0), abs(before - usual)

    end = fitter.character(max(free, 0))
    best = sorted(range(len(taken)), key=unfit)[:3]
    return [Cut(i, min(fitter.character(place - taken[i]), end), end) for i in best]


def _prompt(item: Item, written: Written, found: Measure, overhead: int, depth: float | int) -> Prompt:
    answers = item.answers
    if item.in_text_order:
        places = [written.text.index(fact.text) for fact in item.facts]
        answers = tuple(answer for _, answer in sorted(zip(places, answers, strict=True)))
    return Prompt(
        text=written.text,
        answers=answers,
        scorer=item.scorer,
        chance=item.chance,
        tokens=found.tokens + overhead,
        needle=found.first + found.place,
        depth=depth,
        context=found.context,
    )
