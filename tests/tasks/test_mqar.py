"""MQAR has zoology's numbers. What holds of all tasks of recall is tested in `test_recall`."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch

from lcbook.tasks.mqar import MQAR, mqar

TASK = MQAR(vocabulary=97, pairs=5, examples=331, seed=3)

# Digests of what zoology's own generator returned at commit dbcb60d: inputs, then labels, as little-endian int64.
ZOOLOGY = {
    (256, 1000, 64, 1, 4, 0.01): "2ae83eda8e552c0e335cba11a001b940ef86281fdb24469dc27849eb35bb2dea",
    (67, 101, 62, 0, 5, 0.01): "4478bd31b9d82ce490170388f984c17c39c1e0a466bfd9175606eab0ae83111f",
    (67, 101, 62, 1, 5, 0.01): "6423d52a509c5e485b1220e4bf6461453dc29e1a3cbf3fe542bdf7b6a488b4ff",
    (67, 101, 62, 2**32 - 1, 5, 0.01): "5dbf0b153fc4ba29beff4ae3e0b72925c6a865f67d09635a7cec14dfaf91726e",
    (512, 97, 256, 12345, 31, 0.01): "88c86390f6aa5d590b4ff1ab5d8faf800b97a0adf8db3bd69366e7aa4669c78c",
    (257, 53, 34, 7, 3, 1.0): "aa77268463a32f566874058ed073dad5f935359ab5ea36675b7e93ae18862b20",
    (12, 50, 10, 3, 2, 0.3): "2f8b9c28084dbb644c4e436b2ea3a65ef82c47047290b951b8eaa804f90ce60d",
}


@pytest.mark.parametrize("sizes", ZOOLOGY)
def test_mqar_is_zoologys_number_for_number(sizes):
    inputs, labels = mqar(*sizes)
    data = b"".join(x.numpy().astype("<i8").tobytes() for x in (inputs, labels))
    assert hashlib.sha256(data).hexdigest() == ZOOLOGY[sizes]


def test_mqar_leaves_the_global_random_state_alone():
    np.random.seed(11)
    expected = np.random.rand()
    np.random.seed(11)
    mqar(67, 5, 62, 0, 5)
    assert np.random.rand() == expected


def test_mqar_samples_come_from_its_set():
    whole = TASK.whole(60)
    inputs, labels = mqar(97, 331, 60, 3, 5)
    assert torch.equal(whole.tokens, inputs)
    assert torch.equal((labels >= 0).sum(1), torch.full((331,), 5))
    assert torch.equal(labels.gather(1, whole.at), whole.answers)
    rows = {tuple(row) for row in whole.tokens.tolist()}
    drawn = [tuple(row) for row in TASK.sample(300, 60, torch.Generator().manual_seed(0)).tokens.tolist()]
    assert len(set(drawn)) == 300
    assert set(drawn) <= rows


@pytest.mark.parametrize(
    ("sizes", "named"),
    [
        ((256, 0, 64, 0, 4), "num_examples is 0"),
        ((256, 5, 63, 0, 4), "input_seq_len 63"),
        ((256, 5, 64, 0, 17), "num_kv_pairs is 17"),
        ((256, 5, 64, 0, 0), "num_kv_pairs is 0"),
        ((64, 5, 64, 0, 4), r"vocab_size is 64; allowed is more than input_seq_len \(64\)"),
        ((256, 5, 64, 0, 4, 0.0), "power_a is 0.0"),
    ],
)
def test_impossible_mqar_is_named(sizes, named):
    with pytest.raises(ValueError, match=named):
        mqar(*sizes)


def test_more_than_the_set_is_refused():
    with pytest.raises(ValueError, match=r"batch is 332; allowed is 1 to examples \(331\)"):
        TASK.sample(332, 60, torch.Generator().manual_seed(0))
