"""Tasks: what a model is asked to recall. A task is a frozen dataclass with a `vocabulary` and a `sample()`::

    filler filler k3 v7 filler k9 v2 filler ... filler | k9 v2 k3 v7
                                                          ^     ^      the places where an answer is asked for

`depth_weights`, which says where the needles lie, comes from the module below and is part of this one's names.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from lcbook.tasks.depths import check_depths, depth_weights, draw_slots

__all__ = ["MQAR", "Batch", "KeyValueRecall", "Task", "depth_weights", "distinct", "mqar"]


@dataclass(frozen=True)
class Batch:
    """Sequences and their questions. The token after place `at[i, j]` should be `answers[i, j]`.

    `gap` counts the tokens from the needle's key to the question.
    """

    tokens: Int[Tensor, "b s"]
    at: Int[Tensor, "b q"]
    answers: Int[Tensor, "b q"]
    gap: Int[Tensor, "b q"]

    def to(self, device: torch.device) -> Batch:
        """Return the batch on `device`."""
        return Batch(*(x.to(device) for x in (self.tokens, self.at, self.answers, self.gap)))


@runtime_checkable
class Task(Protocol):
    """Anything that the training loop can sample: a vocabulary size, a chance level, and batches of any length."""

    @property
    def vocabulary(self) -> int:
        """Number of distinct tokens."""
        ...

    @property
    def chance(self) -> float:
        """Recall of a guesser that knows the kind of token asked for."""
        ...

    def sample(self, batch: int, length: int, generator: torch.Generator) -> Batch:
        """Draw `batch` sequences of `length` tokens."""
        ...


def distinct(batch: int, choices: int, count: int, generator: torch.Generator) -> Int[Tensor, "b count"]:
    """Draw `count` distinct numbers below `choices` for each of `batch` rows, in random order."""
    return torch.rand(batch, choices, generator=generator).topk(count, dim=1).indices


def _later_first(
    slot: Int[Tensor, "b slots"], count: int
) -> tuple[Int[Tensor, "b pairs"], Int[Tensor, "b count"]]:
    """Pair each of the first `count` slots with one of the last `count`; return the pairs' slots, and the stale ones'.

    Of each two the later is the pair's own.
    """
    own, spare = slot[:, :count], slot[:, -count:]
    return torch.cat([own.maximum(spare), slot[:, count:-count]], dim=1), own.minimum(spare)


@dataclass(frozen=True)
class KeyValueRecall:
    """Pairs of a key and a value lie in filler; at the end some keys come again and their values are asked for.

    `pairs` distinct keys of `keys` are bound to fresh random values of `values` in each sequence; `queries` of them
    are asked. `depth` places the first-asked pair at that share of the context (0 start, 1 end), None draws it
    uniformly. `depths` holds weights of equal bins of the context by which all pairs that will be asked for are placed
    (see `depth_weights`), () uniformly. `competing` is the share of the remaining context filled by pairs whose keys
    are not asked for; a share `agreeing` of these has one and the same value, which is never an answer.
    Filler is uniform noise over `filler` tokens, or, with `text`, a walk in which each token has two equally likely
    successors, so that a bigram predicts it to within log 2 nats. With `announced` the keys that will be asked for
    also stand at the very start, so that a reader knows from there what to keep. With `rewritten` each key that will
    be asked for is bound twice, and the later value is the answer.

    Tokens: keys 0..keys-1, then values, then filler. Raises ValueError for sizes that leave a sequence impossible.
    """

    pairs: int = 8
    queries: int = 4
    keys: int = 64
    values: int = 64
    filler: int = 64
    depth: float | None = None
    competing: float = 0.0
    text: bool = False
    announced: bool = False
    rewritten: bool = False
    depths: tuple[float | int, ...] = ()
    agreeing: float | int = 0.0

    def __post_init__(self) -> None:
        for name in ("pairs", "queries", "keys", "values", "filler"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; allowed is 1 or more.")
        if self.pairs + (self.competing > 0) > self.keys:
            raise ValueError(
                f"pairs is {self.pairs}; allowed is at most {self.keys - (self.competing > 0)} with {self.keys} keys."
            )
        if self.queries > self.pairs:
            raise ValueError(f"queries is {self.queries}; allowed is at most pairs ({self.pairs}).")
        if self.depth is not None and not 0 <= self.depth <= 1:
            raise ValueError(f"depth is {self.depth}; allowed is None or a share from 0 to 1.")
        if self.depth is not None and self.rewritten:
            raise ValueError(f"depth is {self.depth} with rewritten pairs; allowed is None.")
        check_depths(self.depths)
        if self.depths and (self.depth is not None or self.rewritten):
            raise ValueError(f"depths is {self.depths} with a depth or rewritten pairs; allowed is ().")
        if not 0 <= self.competing <= 1:
            raise ValueError(f"competing is {self.competing}; allowed is a share from 0 to 1.")
        if not 0 <= self.agreeing <= 1 or (self.agreeing and self.values <= self.pairs):
            raise ValueError(
                f"agreeing is {self.agreeing} with {self.values} values; allowed is a share from 0 to 1, "
                f"and with more than 0 more values than pairs ({self.pairs})."
            )

    @property
    def vocabulary(self) -> int:
        """Number of distinct tokens: keys, values and filler."""
        return self.keys + self.values + self.filler

    @property
    def chance(self) -> float:
        """A guess among the values."""
        return 1 / self.values

    def sample(self, batch: int, length: int, generator: torch.Generator) -> Batch:
        """Draw `batch` sequences of `length` tokens. Raises ValueError if the pairs do not fit the length."""
        start = self.queries if self.announced else 0
        context = length - 2 * self.queries
        slots = (context - start) // 2
        old = self.queries if self.rewritten else 0
        if batch < 1 or slots < self.pairs + old:
            need = 2 * (self.pairs + old + self.queries) + start
            raise ValueError(
                f"batch is {batch} and length is {length}; allowed is batch >= 1 and length >= {need}."
            )
        tokens = self._filler(batch, length, generator)
        keys = distinct(batch, self.keys, self.keys, generator)
        asked = keys[:, : self.pairs]
        values = torch.randint(self.values, (batch, self.pairs), generator=generator) + self.keys
        slot = self._slots(batch, slots, generator)
        if self.competing:
            self._compete(tokens[:, start:], keys[:, self.pairs :], values, slots, generator)
        tokens[:, :start] = asked[:, :start]
        if self.rewritten:
            slot, earlier = _later_first(slot, self.queries)
            tokens.scatter_(1, start + 2 * earlier, asked[:, : self.queries])
            stale = torch.randint(self.values, (batch, self.queries), generator=generator) + self.keys
            tokens.scatter_(1, start + 2 * earlier + 1, stale)
        where = start + 2 * slot
        tokens.scatter_(1, where, asked)
        tokens.scatter_(1, where + 1, values)
        at = (context + 2 * torch.arange(self.queries)).expand(batch, -1).contiguous()
        answers = values[:, : self.queries].contiguous()
        tokens.scatter_(1, at, asked[:, : self.queries])
        tokens.scatter_(1, at + 1, answers)
        return Batch(tokens, at, answers, at - where[:, : self.queries])

    def predictable(self, tokens: Int[Tensor, "b s"]) -> Bool[Tensor, "b s-1"]:
        """True where the token after a place can be told from the token there: filler that follows filler."""
        filler = tokens >= self.keys + self.values
        return filler[:, :-1] & filler[:, 1:]

    def _slots(self, batch: int, slots: int, generator: torch.Generator) -> Int[Tensor, "b pairs"]:
        """Draw distinct two-token slots for the pairs, by `depth` or `depths` where given, and for stale ones."""
        if self.depths:
            return draw_slots(
                self.depths,
                batch=batch,
                slots=slots,
                pairs=self.pairs,
                queries=self.queries,
                generator=generator,
            )
        if self.depth is None:
            return distinct(batch, slots, self.pairs + self.rewritten * self.queries, generator)
        needle = round(self.depth * (slots - 1))
        others = distinct(batch, slots - 1, self.pairs - 1, generator)
        return torch.cat([torch.full((batch, 1), needle), others + (others >= needle)], dim=1)

    def _filler(self, batch: int, length: int, generator: torch.Generator) -> Int[Tensor, "b s"]:
        """Draw noise, or a random walk whose steps are 1 or 3 around the ring of filler tokens."""
        start = torch.randint(self.filler, (batch, length), generator=generator)
        if self.text:
            steps = 1 + 2 * torch.randint(2, (batch, length), generator=generator)
            start = (start[:, :1] + steps.cumsum(1)) % self.filler
        return start + self.keys + self.values

    def one_voice(self, values: Int[Tensor, "b pairs"], generator: torch.Generator) -> Int[Tensor, " b"]:
        """Return for each sequence a value that none of its pairs has; drawn only where competing pairs agree."""
        if not self.agreeing:
            return torch.zeros(len(values), dtype=torch.long)
        order = distinct(len(values), self.values, self.values, generator) + self.keys
        free = (order[..., None] != values[:, None]).all(-1)
        return order.gather(1, free.int().argmax(1, keepdim=True))[:, 0]

    def competing_values(
        self, shape: tuple[int, ...], voice: Int[Tensor, "..."], generator: torch.Generator
    ) -> Int[Tensor, "..."]:
        """Draw the values of competing pairs: a share `agreeing` is `voice`, the others are independent."""
        values = torch.randint(self.values, shape, generator=generator) + self.keys
        if self.agreeing:
            values = torch.where(torch.rand(shape, generator=generator) < self.agreeing, voice, values)
        return values

    def _compete(
        self, tokens: Tensor, spare: Tensor, values: Tensor, slots: int, generator: torch.Generator
    ) -> None:
        """Overwrite a share of the slots with pairs of keys that are never asked for."""
        batch, count = tokens.shape[0], round(self.competing * slots)
        where = 2 * distinct(batch, slots, count, generator)
        which = torch.randint(spare.shape[1], (batch, count), generator=generator)
        tokens.scatter_(1, where, spare.gather(1, which))
        voice = self.one_voice(values, generator)[:, None]
        tokens.scatter_(1, where + 1, self.competing_values((batch, count), voice, generator))

    def haystack(self, batch: Batch) -> Bool[Tensor, "b s"]:
        """True for the tokens of which a longer text of the same kind has more: filler and competing pairs.

        The pairs that are asked for are none of them, nor what they were before or what announces them, nor are the
        questions; the other pairs count as competing ones where there are any.
        """
        place = torch.arange(batch.tokens.shape[1], device=batch.tokens.device)
        start = self.queries if self.announced else 0
        context = (place >= start) & (place < batch.at[:, :1])
        more = context & ((batch.tokens >= self.keys + self.values) | (self.competing > 0))
        same = batch.tokens[..., None] == batch.tokens.gather(1, batch.at)[:, None]
        asked = context & same.any(-1)
        return more & ~asked & ~asked.roll(1, 1)  # a value follows its key

    def with_pairs(self, pairs: int) -> KeyValueRecall:
        """Return the same task with fewer or more pairs, and no more queries than pairs (for curricula)."""
        return replace(self, pairs=pairs, queries=min(self.queries, pairs))


def mqar(
    vocab_size: int,
    num_examples: int,
    input_seq_len: int,
    seed: int,
    num_kv_pairs: int,
    power_a: float = 0.01,
) -> tuple[Int[Tensor, "examples s"], Int[Tensor, "examples s"]]:
    """Return inputs and labels of multi-query associative recall, the very numbers that zoology draws from `seed`.

    First all pairs, then each key once more among zeros; the label under that key is its value, -100 elsewhere:

        inputs   k3   v7   k9   v2    0    0   k9    0    0    0   k3    0    0    0    0    0
        labels -100 -100 -100 -100 -100 -100   v2 -100 -100 -100   v7 -100 -100 -100 -100 -100

    Keys are 1 .. vocab_size/2 - 1, values the tokens from vocab_size/2 on, both distinct within a sequence. A key
    returns at an even distance 2 g from the end of the pairs, g drawn without replacement with a probability
    proportional to (g + 1)^(power_a - 1).
    Raises ValueError for sizes that leave a sequence impossible.
    Source: Arora et al. 2023, arXiv 2312.04927 (Zoology), their generator with random_non_queries=False.
    """
    _check_mqar(vocab_size, num_examples, input_seq_len, num_kv_pairs, power_a)
    draw = np.random.RandomState(seed)
    pairs_end, half = 2 * num_kv_pairs, vocab_size // 2
    places = (input_seq_len - pairs_end) // 2
    weights = power_a * np.arange(1, places + 1) ** (power_a - 1)

    def each(choices: int, p: np.ndarray | None = None) -> np.ndarray:
        return np.stack([draw.choice(choices, num_kv_pairs, replace=False, p=p) for _ in range(num_examples)])

    keys, values, gaps = (
        each(half - 1) + 1,
        each(vocab_size - half) + half,
        each(places, weights / weights.sum()),
    )
    asked = pairs_end + 2 * gaps
    inputs = np.zeros((num_examples, input_seq_len), np.int64)
    labels = np.full((num_examples, input_seq_len), -100, np.int64)
    inputs[:, 0:pairs_end:2], inputs[:, 1:pairs_end:2] = keys, values
    np.put_along_axis(inputs, asked, keys, axis=1)
    np.put_along_axis(labels, asked, values, axis=1)
    return torch.from_numpy(inputs), torch.from_numpy(labels)


def _check_mqar(
    vocab_size: int, num_examples: int, input_seq_len: int, num_kv_pairs: int, power_a: float
) -> None:
    if num_examples < 1:
        raise ValueError(f"num_examples is {num_examples}; allowed is 1 or more.")
    if input_seq_len % 2 or not 1 <= 4 * num_kv_pairs <= input_seq_len:
        raise ValueError(
            f"num_kv_pairs is {num_kv_pairs} and input_seq_len {input_seq_len}; "
            "allowed are 1 pair or more and an even length of at least 4 tokens a pair."
        )
    if vocab_size <= input_seq_len:
        raise ValueError(f"vocab_size is {vocab_size}; allowed is more than input_seq_len ({input_seq_len}).")
    if not power_a > 0:
        raise ValueError(f"power_a is {power_a}; allowed is more than 0.")


@functools.lru_cache(maxsize=8)
def _mqar_set(task: MQAR, length: int) -> Batch:
    """Return all examples of `task` at `length` as one batch, drawn once."""
    tokens, labels = mqar(task.vocabulary, task.examples, length, task.seed, task.pairs, task.power_a)
    at = (labels >= 0).nonzero()[:, 1].view(task.examples, task.pairs)
    asked = tokens.gather(1, at)
    needle = 2 * (tokens[:, None, 0 : 2 * task.pairs : 2] == asked[..., None]).int().argmax(-1)
    return Batch(tokens, at, labels.gather(1, at), at - needle)


@dataclass(frozen=True)
class MQAR:
    """Multi-query associative recall from a fixed set of `examples` sequences that `mqar` draws from `seed`."""

    vocabulary: int = 256
    pairs: int = 4
    examples: int = 10_000
    seed: int = 0
    power_a: float = 0.01

    @property
    def chance(self) -> float:
        """A guess among the values."""
        return 1 / (self.vocabulary - self.vocabulary // 2)

    def sample(self, batch: int, length: int, generator: torch.Generator) -> Batch:
        """Draw `batch` different sequences of the set. Raises ValueError for more than `examples`, or as `mqar`."""
        if not 1 <= batch <= self.examples:
            raise ValueError(f"batch is {batch}; allowed is 1 to examples ({self.examples}).")
        rows = torch.randperm(self.examples, generator=generator)[:batch]
        whole = self.whole(length)
        return Batch(*(x[rows] for x in (whole.tokens, whole.at, whole.answers, whole.gap)))

    def whole(self, length: int) -> Batch:
        """Return the whole set at `length` tokens, in the order drawn."""
        return _mqar_set(self, length)

    def with_pairs(self, pairs: int) -> MQAR:
        """Return the same task with fewer or more pairs (for curricula)."""
        return replace(self, pairs=pairs)
