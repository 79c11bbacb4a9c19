"""Forecasts: the very answers at their own length, exact where the haystack is of one kind, and near what is run."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

import lcbook as lc
from lcbook import runtime
from lcbook.attention.patterns import Window
from lcbook.experiments.changes import Temper
from lcbook.experiments.forecast import TEXTS_POOLED, Forecast, forecast
from lcbook.experiments.train import TrainSpec, train
from lcbook.models.decoder import ModelSpec, build
from lcbook.models.mixers import LearnedSink
from lcbook.models.positions import ALiBi, NoPosition, RoPE
from lcbook.tasks.mqar import MQAR
from lcbook.tasks.recall import KeyValueRecall
from tests.asking import after, recall_rows, streamed_rows

TASK = KeyValueRecall(pairs=4, queries=2, keys=29, values=23, filler=7)
QUICK = TrainSpec(length=64, updates=150, batch=32, lr=1e-2, betas=(0.8, 0.95))


@pytest.fixture(autouse=True)
def smoke(monkeypatch, tmp_path):
    monkeypatch.setenv("LCBOOK_CACHE", str(tmp_path))
    lc.setup("")
    torch.set_num_threads(1)  # the setup takes all cores


def model_of(spec, task=TASK, seed=0):
    """Return a model moved away from its symmetric start."""
    model, moves = build(spec, task.vocabulary, seed), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += 0.3 * torch.randn(parameter.shape, generator=moves)
    return model


@pytest.fixture(scope="module")
def trained():
    """Models that recall four pairs in 64 tokens: softmax, log-n softmax, and softmax of a small fixed scale."""
    specs = {
        "softmax": ModelSpec(width=32),
        "log-n softmax": ModelSpec(width=32, normalizer="log-n softmax", qk_scale=3.0),
        "fixed": ModelSpec(width=32, qk_scale=8.0, learn_scale=False),
    }
    models = {name: build(spec, TASK.vocabulary, 0) for name, spec in specs.items()}
    with runtime.one_thread():
        for model in models.values():
            train(model, TASK, QUICK, seed=0)
    return models


def shares(rows):
    return [row["predicted"] / row["asked"] for row in rows]


def mixtures(model, call):
    """Return what enters the output projection of the last layer in each use of it during `call`."""
    seen = []
    handle = model.layers[-1].attention.out.register_forward_hook(lambda _, x, y: seen.append(x[0].detach()))
    try:
        call()
    finally:
        handle.remove()
    return seen


@pytest.mark.parametrize(
    "spec",
    [
        ModelSpec(width=28, heads=4, kv_heads=2, mlp=17),
        ModelSpec(layers=2, width=24, heads=3, position=RoPE()),
        ModelSpec(layers=2, width=24, heads=3, position=ALiBi(), normalizer="log-n softmax"),
        ModelSpec(width=24, heads=2, normalizer="log-n softmax"),
        ModelSpec(width=24, qk_norm=False, key_shift=False),
        ModelSpec(layers=2, width=24, pattern=Window(5), full_layers=(1,)),
    ],
    ids=["grouped", "RoPE", "ALiBi, log-n", "log-n", "plain", "window below"],
)
@pytest.mark.parametrize("competing", [0.0, 1.0])
def test_at_its_own_length_the_forecast_is_the_model(spec, competing):
    task = replace(TASK, competing=competing, keys=7)
    model = model_of(spec, task)
    (row,) = forecast(model, task, [62], at=62, questions=100, seed=3)
    measured = recall_rows(model, task, 62, 100, seed=3)
    assert row == {"length": 62, "predicted": sum(one["correct"] for one in measured), "asked": 100}
    batch = task.sample(50, 62, torch.Generator().manual_seed(3 * 1_000_003 + 62))
    (ours,) = mixtures(model, lambda: forecast(model, task, [62], at=62, questions=100, seed=3))
    with torch.no_grad():
        (theirs,) = mixtures(model, lambda: model(batch.tokens, None, batch.at))
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("normalizer", ["softmax", "log-n softmax"])
@pytest.mark.parametrize(
    "options", [{}, {"heads": 4, "kv_heads": 2, "mlp": 17}, {"qk_norm": False}, {"layers": 2}], ids=str
)
def test_with_a_haystack_of_one_kind_the_forecast_is_exact(options, normalizer):
    """Filler of one token, all of whose keys are the same: a longer text has more of it, and nothing is a sample."""
    task = replace(TASK, filler=1)
    model = model_of(ModelSpec(width=28, key_shift=False, normalizer=normalizer, **options), task)
    if "layers" in options:  # nor may what the layer before makes of it depend on the length
        with torch.no_grad():
            model.layers[0].attention.out.weight.zero_()
    lengths = [40, 41, 97, 1000]
    rows = []
    ours = mixtures(model, lambda: rows.extend(forecast(model, task, lengths, at=40, seed=3)))
    assert [row["length"] for row in rows] == lengths
    assert {row["asked"] for row in rows} == {256}
    filler = task.keys + task.values
    for row, mixed in zip(rows, ours[-4:], strict=True):
        more = row["length"] - 40
        batch = task.sample(128, 40, torch.Generator().manual_seed(3 * 1_000_003 + 40))
        tokens = torch.cat([torch.full((128, more), filler), batch.tokens], 1)
        with torch.no_grad():
            logits = []
            theirs = mixtures(model, lambda: logits.append(model(tokens, None, batch.at + more)))  # noqa: B023
        torch.testing.assert_close(mixed, theirs[-1], atol=1e-4, rtol=1e-4)
        assert row["predicted"] == int((logits[0].argmax(-1) == batch.answers).sum())


def test_a_biased_haystack_is_counted_oftener():
    """Where a bias ties scores to places, the mass of a text's own haystack grows with its length."""
    task = replace(TASK, filler=1)
    model = model_of(ModelSpec(width=24, key_shift=False, position=ALiBi(slope=1e-9)), task)
    plain = build(replace(model.spec, position=NoPosition()), task.vocabulary, 0)
    plain.load_state_dict(model.state_dict())
    for length in (40, 97, 1000):
        call = {"at": 40, "questions": 100, "seed": 3}
        ours, theirs = (mixtures(m, lambda m=m: forecast(m, task, [length], **call)) for m in (model, plain))  # noqa: B023
        torch.testing.assert_close(ours[-1], theirs[-1], atol=1e-5, rtol=1e-4)


def test_the_mean_of_the_haystack_worked_by_hand():
    """The formula in the head of the module, by loops: what exceeds the text enters with means over all haystacks."""
    task = KeyValueRecall(pairs=3, queries=2, keys=7, values=11, filler=13, competing=0.5)
    spec = ModelSpec(width=24, heads=2)
    model = model_of(spec, task)
    batch = task.sample(40, 30, torch.Generator().manual_seed(5 * 1_000_003 + 30))
    (ours,) = mixtures(model, lambda: forecast(model, task, [73], at=30, questions=80, seed=5))
    attention = model.layers[0].attention
    with torch.no_grad():
        x = model.layers[0].attention_norm(model.embed(batch.tokens))
        asked = attention.project(x, torch.arange(30)[None])
        q, k, v = asked.q * asked.scale, asked.k, asked.v
    hay = task.haystack(batch)
    for text in (0, 17, 39):
        for question, at in enumerate(batch.at[text].tolist()):
            key = int(batch.tokens[text, at])
            pool = [
                (i, j)
                for i, j in hay[:TEXTS_POOLED].nonzero().tolist()
                if int(batch.tokens[i, j]) != key and (j == 0 or int(batch.tokens[i, j - 1]) != key)
            ]
            assert 0 < len(pool) < hay[:TEXTS_POOLED].sum(), "other texts' pairs of the key are left out"
            for head in range(2):
                asking = q[text, head, at]
                own = (k[text, head, : at + 1] @ asking).exp()
                far = torch.stack([(k[i, head, j] @ asking).exp() for i, j in pool])
                values = torch.stack([v[i, head, j] for i, j in pool])
                sums = own @ v[text, head, : at + 1] + 43 * (far[:, None] * values).mean(0)
                expected = sums / (own.sum() + 43 * far.mean())
                found = ours[text, question].view(2, 12)[head]
                torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_large_scores_do_not_overflow():
    model = model_of(ModelSpec(width=24, qk_scale=500.0, learn_scale=False))
    (mixed,) = mixtures(model, lambda: forecast(model, TASK, [2**30], at=64, seed=0))
    assert mixed.isfinite().all()


def test_the_forecast_falls_with_the_length_as_what_is_run(trained):
    task, lengths = replace(TASK, queries=4), [64, 1024, 4096, 16384]
    predicted = shares(forecast(trained["fixed"], task, lengths, at=64, questions=400, seed=1))
    assert predicted == sorted(predicted, reverse=True)
    assert predicted[0] > 0.9
    assert predicted[-1] < predicted[0] - 0.3
    for length, share in zip(lengths, predicted, strict=True):
        (row,) = streamed_rows(trained["fixed"], task, length, 320, seed=2)
        assert abs(row["correct"] / row["total"] - share) < 0.1, length


@pytest.mark.parametrize(
    ("name", "competing"), [("softmax", 1.0), ("log-n softmax", 0.0), ("log-n softmax", 1.0)]
)
def test_the_forecast_agrees_with_streaming(trained, name, competing):
    """With competing pairs alone too: a pool with other texts' pairs of the asked key would tell of values that no
    longer text of the same kind has beside that key."""
    task, lengths = replace(TASK, queries=4, competing=competing), [64, 512, 8192]
    predicted = shares(forecast(trained[name], task, lengths, at=64, questions=400, seed=1))
    for length, share in zip(lengths, predicted, strict=True):
        (row,) = streamed_rows(trained[name], task, length, 320, seed=2)
        assert abs(row["correct"] / row["total"] - share) < 0.1, length


def test_log_n_takes_the_longer_n(trained):
    """At a length N scores are multiplied by log N, as a tempered softmax does that is told log N."""
    model, length = trained["log-n softmax"], 100_003
    (ours,) = mixtures(model, lambda: forecast(model, TASK, [length], at=64, questions=100, seed=1))
    first, second = (
        after(model, Temper(factor=math.log(length - 3 + 2 * i), normalizer="softmax")) for i in (0, 1)
    )
    for i, tempered in enumerate((first, second)):  # the questions stand at the last places but 4 and but 2
        call = {"at": 64, "questions": 100, "seed": 1}
        (theirs,) = mixtures(tempered, lambda m=tempered, call=call: forecast(m, TASK, [length], **call))
        torch.testing.assert_close(ours[:, i], theirs[:, i], atol=1e-5, rtol=1e-4)


def test_other_seeds_ask_other_questions(trained):
    one, same, other = (
        forecast(trained["fixed"], TASK, [1024], at=64, questions=400, seed=seed) for seed in (1, 1, 2)
    )
    assert one == same
    assert one != other


# The frame --------------------------------------------------------------------------------------------

SPEC = lc.Spec(
    ModelSpec(width=14),
    KeyValueRecall(pairs=2, queries=1, keys=5, values=3, filler=2),
    TrainSpec(length=24, updates=30, batch=8, lr=1e-2),
)
RUNS = [lc.Run("a", SPEC, 0), lc.Run("a", SPEC, 1), lc.Run("b", replace(SPEC, model=ModelSpec(width=22)), 0)]


def test_forecasts_are_rows_of_a_run():
    tasks = {"plain": SPEC.task, "pairs": replace(SPEC.task, competing=1.0)}
    probes = [lc.Probe(Forecast((24, 100), 24, 400, task), label=name) for name, task in tasks.items()]
    frame = lc.run(RUNS, name="forecast", probes=probes)
    assert len(frame.drop_duplicates(["arm", "seed", "probe", "length"])) == len(frame) == 12
    for (arm, seed, task), part in frame.groupby(["arm", "seed", "probe"]):
        (one,) = [run for run in RUNS if (run.arm, run.seed) == (arm, seed)]
        expected = forecast(
            lc.trained_model(one)[0], tasks[task], (24, 100), at=24, questions=400, seed=int(seed)
        )
        assert part[["length", "predicted", "asked"]].to_dict("records") == expected
    assert frame["predicted"].nunique() > 4, "each its own"


# Bad input --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"normalizer": "sparsemax"},
        {"mixer": LearnedSink()},
        {"pattern": Window(5)},
        {"layers": 2, "pattern": Window(5), "full_layers": (0,)},
        {"separator": 0},
    ],
    ids=str,
)
def test_models_without_a_forecast_are_named(options):
    model = build(ModelSpec(**{"width": 24, **options}), TASK.vocabulary, 0)
    with pytest.raises(
        ValueError, match=r"model is of ModelSpec\(.*; allowed is full attention by softmax or log-n"
    ):
        forecast(model, TASK, [64], at=64, seed=0)


def test_bad_input_is_named():
    model = build(ModelSpec(width=24), TASK.vocabulary, 0)
    for lengths in ([], [63], [128, 63]):
        with pytest.raises(ValueError, match=r"lengths is \[.*\]; allowed are lengths of 64 \(at\) or more"):
            forecast(model, TASK, lengths, at=64, seed=0)
    for at in (12, 13):  # all pairs, or one token of filler that may be
        if at == 12:
            with pytest.raises(
                ValueError, match=r"at is 12; allowed is a length at which texts of .* haystack"
            ):
                forecast(model, TASK, [64], at=at, seed=0)
        else:
            assert forecast(model, TASK, [64], at=at, seed=0)[0]["asked"] == 256
    with pytest.raises(ValueError, match=r"length is 11; allowed"):
        forecast(model, TASK, [64], at=11, seed=0)
    with pytest.raises(ValueError, match=r"task is MQAR\(.*; allowed is a KeyValueRecall"):
        Forecast((64,)).asked(lc.Spec(task=MQAR()))
