"""The bench on its quickest arm: the goal in updates is kept, and the printed table holds what was measured."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from lcbook.evaluation import bench
from lcbook.models import costs


def test_one_layer_with_key_shift_needs_few_updates(capsys):
    threads = torch.get_num_threads()
    frame = bench.recall(seeds=(3,), arms=bench.ARMS[-1:])
    row = frame.iloc[0]
    assert row["recall"] >= 0.99
    assert row["updates"] <= 70
    assert row["updates"] % bench.EVERY == 0
    arm = bench.ARMS[-1]
    tokens = row["updates"] * arm.train.batch * bench.LENGTH
    assert row["tokens_per_second"] == pytest.approx(tokens / row["seconds"])
    update = costs.training_flops(arm.model, 256, batch=arm.train.batch, length=64, answers=4)
    assert 0 < row["share"] < 1
    assert row["share"] == pytest.approx(
        row["updates"] * update / row["seconds"] / bench.matmul_rate(), rel=0.9
    )
    printed = capsys.readouterr().out
    assert f"{arm.name}" in printed
    assert f"[{row['updates']:.0f}]" in printed
    assert torch.get_num_threads() == threads


def test_an_arm_that_does_not_get_there_has_no_updates():
    arm = bench.ARMS[-1]
    short = bench.Arm("short", arm.model, replace(arm.train, updates=2), scales=(1.0,))
    row = bench.time_to_gate(short, 0, 1e9)
    assert math.isnan(row["updates"])
    assert row["recall"] < 0.5


def test_training_and_test_set_share_no_sequence():
    train, test = (task.whole(bench.LENGTH).tokens.tolist() for task in (bench.TRAINING, bench.TEST))
    assert (len(train), len(test)) == (10_000, 1_000)
    assert not {tuple(row) for row in train} & {tuple(row) for row in test}
