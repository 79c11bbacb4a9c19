"""The speed of this package on a published setting: multi-query recall, trained to 99 % of a test set on one thread.

The setting is that of zoology's basic example: vocabulary 256, 64 tokens, 4 pairs, 10,000 training sequences and
1,000 for the test. Source: Arora et al. 2023, arXiv 2312.04927; github.com/HazyResearch/zoology, basic_examples.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import torch

from lcbook.attention.timing import matmul_rate
from lcbook.experiments.train import GATE, TrainSpec, train
from lcbook.models import costs
from lcbook.models.decoder import Decoder, ModelSpec, build
from lcbook.models.positions import ALiBi
from lcbook.runtime import one_thread
from lcbook.tasks.mqar import MQAR

LENGTH = 64
TRAINING = MQAR(seed=0)
TEST = MQAR(seed=2**31, examples=1000)
# The test is taken after every 5th update, but only where 95 % of that update's batch, not seen before, was right.
EVERY, WORTH_A_TEST = 5, 0.95


@dataclass(frozen=True)
class Arm:
    """One line of the table: a model and how it is trained.

    `scales` are the initial query-key scales of the layers, learned from there (none: the model's own).
    """

    name: str
    model: ModelSpec
    train: TrainSpec
    scales: tuple[float, ...] = ()


ARMS = (
    Arm(
        "2 layers plain",
        ModelSpec(layers=2, heads=4, key_shift=False, position=ALiBi(slope=1.0)),
        TrainSpec(length=LENGTH, updates=800, batch=64, lr=5e-3, warmup=0.0125, betas=(0.8, 0.9)),
        scales=(2.0, 16.0),  # the first layer goes by position, the second by content
    ),
    Arm(
        "2 layers, key shift",
        ModelSpec(layers=2),
        TrainSpec(length=LENGTH, updates=400, batch=32, lr=2e-2, warmup=0.0125, betas=(0.8, 0.95)),
    ),
    Arm(
        "1 layer, key shift",
        ModelSpec(layers=1),
        TrainSpec(length=LENGTH, updates=400, batch=32, lr=2e-2, warmup=0.0125, betas=(0.8, 0.95)),
    ),
)


@torch.no_grad()
def recall_on_test(model: Decoder) -> float:
    """Return the share of all answers of the test set that `model` gives."""
    batch = TEST.whole(LENGTH)
    return (model(batch.tokens, None, batch.at).argmax(-1) == batch.answers).double().mean().item()


def time_to_gate(arm: Arm, seed: int, rate: float) -> dict[str, float]:
    """Train one model until 99 % of the test set are right, or to the end of its budget (updates is then NaN).

    Seconds are those of the wall and include the tests; drawing the data sets once, before, is not counted. `share`
    is the model's operations a second over `rate`, tests left out of the operations.
    """
    TRAINING.whole(LENGTH), TEST.whole(LENGTH)
    model = build(arm.model, TRAINING.vocabulary, seed)
    learned = [parameter for name, parameter in model.named_parameters() if name.endswith("log_scale")]
    for log_scale, scale in zip(learned, arm.scales, strict=False):
        torch.nn.init.constant_(log_scale, math.log(scale))

    def passed(update: int, recall: float) -> bool:
        return update % EVERY == 0 and recall >= WORTH_A_TEST and recall_on_test(model) >= GATE

    trained = train(model, TRAINING, arm.train, seed=seed, until=passed)
    flops = trained.updates * costs.training_flops(
        arm.model, TRAINING.vocabulary, batch=arm.train.batch, length=LENGTH, answers=TRAINING.pairs
    )
    recall = recall_on_test(model)
    return {
        "updates": float(trained.updates) if recall >= GATE else float("nan"),
        "seconds": trained.seconds,
        "tokens_per_second": trained.updates * arm.train.batch * LENGTH / trained.seconds,
        "share": flops / trained.seconds / rate,
        "recall": recall,
    }


def recall(seeds: Sequence[int] = (0, 1, 2), arms: Sequence[Arm] = ARMS) -> pd.DataFrame:
    """Time every arm with every seed on one thread, print a table of medians and return one row a run."""
    with one_thread():
        rate = matmul_rate()
        rows = [
            {"arm": arm.name, "seed": seed, **time_to_gate(arm, seed, rate)} for arm in arms for seed in seeds
        ]
    frame = pd.DataFrame(rows)
    print("Multi-query recall, vocabulary 256, 64 tokens, 4 pairs: training to 99 % of the test set")
    print(f"One thread; {rate / 1e9:.0f} GFLOP/s measured in matrix products (share: of that rate)")
    print(f"Medians of {len(seeds)} seeds (their updates in brackets); seconds include the tests")
    print(f"{'':21}{'updates':>9}{'seconds':>9}{'tokens/s':>10}{'share':>8}")
    for name, runs in frame.groupby("arm", sort=False):
        updates, seconds, tokens, share = (
            statistics.median(runs[column]) for column in ("updates", "seconds", "tokens_per_second", "share")
        )
        every = ", ".join(f"{u:.0f}" for u in runs["updates"])
        print(f"{name:21}{updates:9.0f}{seconds:9.2f}{tokens:10,.0f}{share:8.0%}  [{every}]")
    return frame
