"""Multi-query associative recall, the benchmark of Zoology, with its own numbers."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from lcbook.formats import at_least
from lcbook.tasks.base import Batch


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
    at_least(1, num_examples=num_examples)
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
