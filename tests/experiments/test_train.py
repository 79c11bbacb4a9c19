"""Training: the schedule by hand, the gate, the budget, curricula, and the same bits from the same seed."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import pytest
import torch

from lcbook.experiments.schedules import Linear, LogUniform, Stage, Steps, Uniform, plan
from lcbook.experiments.train import ANSWERS_AT_GATE, TrainSpec, learning_rate, losses, train
from lcbook.models.decoder import ModelSpec, build
from lcbook.models.mixers import DeltaRule
from lcbook.models.positions import ALiBi, Learned, NoPosition, Randomized, RoPE, Sinusoidal, T5Bias, YaRN
from lcbook.models.surgery import reposition
from lcbook.tasks.base import Batch
from lcbook.tasks.recall import KeyValueRecall

SMALL = ModelSpec(width=14)
TASK = KeyValueRecall(pairs=2, queries=2, keys=5, values=3, filler=2)


@dataclass(frozen=True)
class Repeat:
    """A task that a model learns in a few updates: the answer is always token 1. It counts what it is asked for."""

    seen: list
    pairs: int = 7

    vocabulary = 3
    chance = 0.5

    def sample(self, batch: int, length: int, generator: torch.Generator) -> Batch:
        self.seen.append((batch, length, self.pairs))
        tokens = torch.randint(3, (batch, length), generator=generator)
        at = torch.arange(length - 5, length).expand(batch, 5)
        return Batch(tokens, at, torch.ones_like(at), at)

    def with_pairs(self, pairs: int) -> Repeat:
        return replace(self, pairs=pairs)


def test_learning_rate_worked_by_hand():
    spec = TrainSpec(updates=100, lr=2.0, warmup=0.1)
    assert learning_rate(spec, 0) == pytest.approx(0.2)
    assert learning_rate(spec, 4) == pytest.approx(1.0)
    assert learning_rate(spec, 9) == pytest.approx(2.0)
    assert learning_rate(spec, 10) == pytest.approx(2.0)
    assert learning_rate(spec, 55) == pytest.approx(1.1)  # halfway between 2 and 0.2
    assert learning_rate(spec, 25) == pytest.approx(0.2 + 0.9 * (1 + math.cos(math.pi / 6)))
    assert learning_rate(spec, 99) == pytest.approx(0.2, rel=0.01)
    assert learning_rate(TrainSpec(updates=1, lr=2.0, warmup=0.0), 0) == pytest.approx(2.0)
    rates = [learning_rate(spec, update) for update in range(10, 100)]
    assert rates == sorted(rates, reverse=True)


def test_losses_worked_by_hand():
    model = build(SMALL, 3, 0)
    tokens = torch.tensor([[0, 1, 1, 2]])
    batch = Batch(tokens, torch.tensor([[1, 2]]), torch.tensor([[1, 0]]), torch.tensor([[1, 1]]))
    with torch.no_grad():
        p = model(tokens).softmax(-1)[0]
        answer = -(p[1, 1].log() + p[2, 0].log()) / 2
        every = -(p[0, 1].log() + p[1, 1].log() + p[2, 2].log()) / 3
        right = int(p[1].argmax() == 1) + int(p[2].argmax() == 0)
        loss, count = losses(model, batch, torch.arange(4)[None], 0.0)
        both, same = losses(model, batch, torch.arange(4)[None], 0.7)
        weighed, also = losses(model, batch, torch.arange(4)[None], 0.7, 0.2)
        text, too = losses(model, batch, torch.arange(4)[None], 0.7, 0)
    torch.testing.assert_close(loss, answer)
    torch.testing.assert_close(both, answer + 0.7 * every)
    torch.testing.assert_close(weighed, 0.2 * answer + 0.7 * every)
    torch.testing.assert_close(text, 0.7 * every)
    assert count == same == also == too == right


def test_the_gate_stops_training_when_it_is_told_to():
    task = Repeat([])
    spec = TrainSpec(length=11, updates=60, batch=50, lr=3e-2, stop_at_gate=True)
    trained = train(build(SMALL, 3, 0), task, spec, seed=0)
    assert trained.updates == trained.updates_to_gate == len(trained.recalls) == len(task.seen) < 60
    assert 0 < trained.seconds_to_gate <= trained.seconds
    # the running recall is taken over at least a thousand answers, four batches of 250 here
    last = trained.recalls[-ANSWERS_AT_GATE // 250 :]
    assert sum(last) / len(last) >= 0.99
    before = trained.recalls[-ANSWERS_AT_GATE // 250 - 1 : -1]
    assert sum(before) / len(before) < 0.99 or trained.updates == 4
    whole = train(build(SMALL, 3, 0), Repeat([]), replace(spec, stop_at_gate=False), seed=0)
    assert whole.updates == len(whole.recalls) == 60
    assert whole.updates_to_gate == trained.updates_to_gate
    assert whole.seconds_to_gate < whole.seconds
    assert whole.recalls[: trained.updates] == trained.recalls


def test_a_budget_that_is_too_small_never_reaches_the_gate():
    spec = TrainSpec(length=11, updates=3, batch=50, stop_at_gate=True)
    trained = train(build(SMALL, 3, 0), Repeat([]), spec, seed=0)
    assert (trained.updates, trained.updates_to_gate, trained.seconds_to_gate) == (3, None, None)


def test_a_perfect_batch_is_not_yet_a_thousand_answers():
    model = build(SMALL, 3, 0)
    train(model, Repeat([]), TrainSpec(length=11, updates=100, batch=50, lr=3e-2), seed=0)
    trained = train(
        model, Repeat([]), TrainSpec(length=11, updates=50, batch=10, lr=1e-5, stop_at_gate=True), seed=1
    )
    assert trained.recalls[0] == 1
    assert trained.updates_to_gate == 20  # of 50 answers each


def test_training_learns_recall():
    spec = TrainSpec(length=12, updates=150, batch=64, lr=2e-2)
    model = build(ModelSpec(width=16), TASK.vocabulary, 0)
    trained = train(model, TASK, spec, seed=0)
    assert sum(trained.recalls[:5]) / 5 < 0.6
    assert sum(trained.recalls[-20:]) / 20 > 0.95
    assert not model.training


def test_curriculum_changes_length_and_pairs_at_ninety_percent():
    task = Repeat([], pairs=7)
    spec = TrainSpec(
        length=23, updates=120, batch=50, lr=3e-2, curriculum=((11, 2), (17, 5)), stop_at_gate=True
    )
    trained = train(build(SMALL, 3, 0), task, spec, seed=0)
    stages = list(dict.fromkeys((length, pairs) for _, length, pairs in task.seen))
    assert stages == [(11, 2), (17, 5), (23, 7)]
    assert {batch for batch, _, _ in task.seen} == {50}
    first = [pairs for _, _, pairs in task.seen].count(2)
    last = trained.recalls[max(0, first - 4) : first]
    assert sum(last) / len(last) >= 0.9
    assert trained.updates_to_gate is not None
    assert trained.updates_to_gate > first
    # recall in an earlier stage never counts as the gate
    stuck = train(build(SMALL, 3, 0), Repeat([]), replace(spec, updates=6, lr=1e-6), seed=0)
    assert stuck.updates_to_gate is None


def test_every_stage_is_judged_on_its_own_answers():
    model = build(SMALL, 3, 0)
    train(model, Repeat([]), TrainSpec(length=11, updates=100, batch=50, lr=3e-2), seed=0)
    spec = TrainSpec(
        length=23, updates=50, batch=50, lr=1e-5, curriculum=((11, 2), (17, 5)), stop_at_gate=True
    )
    trained = train(model, Repeat([]), spec, seed=1)
    assert set(trained.recalls) == {1.0}
    assert trained.updates_to_gate == 12  # 1,000 answers, four batches, in each of three stages


def test_the_schedule_is_the_one_in_use(monkeypatch):
    asked = []
    monkeypatch.setattr(
        "lcbook.experiments.train.learning_rate", lambda spec, update: asked.append(update) or 0.0
    )
    model = build(SMALL, TASK.vocabulary, 0)
    before = [p.clone() for p in model.parameters()]
    train(model, TASK, TrainSpec(length=12, updates=3, batch=7), seed=0)
    assert asked == [0, 1, 2]
    assert all(torch.equal(x, y) for x, y in zip(before, model.parameters(), strict=True))


def test_until_sees_each_update_and_ends_training():
    calls = []

    def until(update, recall):
        calls.append((update, recall))
        return update == 5

    trained = train(
        build(SMALL, 3, 0), Repeat([]), TrainSpec(length=11, updates=50, batch=10), seed=0, until=until
    )
    assert trained.updates == 5
    assert calls == list(zip(range(1, 6), trained.recalls, strict=True))


@pytest.mark.parametrize("position", [Learned(12), Randomized(Learned(31), 31)])
def test_the_same_seed_gives_the_same_bits(position):
    spec = TrainSpec(length=12, updates=5, batch=7, text_loss=0.3)

    def weights(seed, **changes):
        model = build(ModelSpec(width=14, position=position), TASK.vocabulary, 3)
        trained = train(model, TASK, replace(spec, **changes), seed=seed)
        return trained.recalls, torch.cat([p.detach().flatten() for p in model.parameters()])

    recalls, first = weights(1)
    torch.manual_seed(99)
    torch.rand(5)
    again, same = weights(1)
    assert recalls == again
    assert torch.equal(first, same)
    for other in (
        weights(2),
        weights(1, text_loss=0.0),
        weights(1, betas=(0.8, 0.95)),
        weights(1, weight_decay=0.5),
    ):
        assert not torch.equal(first, other[1])


def test_text_loss_teaches_the_text():
    task = KeyValueRecall(pairs=1, queries=1, keys=2, values=2, filler=7, text=True)

    def text_loss(weight):
        model = build(ModelSpec(width=16, key_shift=False), task.vocabulary, 0)
        train(model, task, TrainSpec(length=29, updates=60, batch=16, lr=2e-2, text_loss=weight), seed=0)
        tokens = task.sample(64, 29, torch.Generator().manual_seed(5)).tokens
        logits = model(tokens)[:, :-1].flatten(0, 1)
        return torch.nn.functional.cross_entropy(logits, tokens[:, 1:].flatten()).item()

    # A uniform guess among the seven filler tokens costs log 7 = 1.95 nats, the walk's two successors log 2 = 0.69.
    assert text_loss(1.0) < 1.8
    assert text_loss(0.0) > 2.5


def test_gradients_are_clipped(monkeypatch):
    norms = []
    clip = torch.nn.utils.clip_grad_norm_

    def spy(parameters, most):
        clip(parameters, most)
        norms.append(torch.cat([p.grad.flatten() for p in parameters]).norm().item())

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", spy)
    train(build(SMALL, TASK.vocabulary, 0), TASK, TrainSpec(length=12, updates=5, batch=7), seed=0)
    assert len(norms) == 5
    assert max(norms) <= 1 + 1e-5


@pytest.mark.parametrize("momentum", [True, False])
def test_sgd_worked_by_hand(momentum):
    spec = TrainSpec(length=12, updates=2, batch=7, lr=0.5, warmup=0.5, weight_decay=0.1, optimizer="sgd")
    model, twin = build(SMALL, TASK.vocabulary, 0), build(SMALL, TASK.vocabulary, 0)
    train(model, TASK, spec, seed=4)
    generator = torch.Generator().manual_seed(4)
    velocity = [torch.zeros_like(p) for p in twin.parameters()]
    for update in range(2):
        loss, _ = losses(twin, TASK.sample(7, 12, generator), torch.arange(12)[None], 0.0)
        gradients = torch.autograd.grad(loss, list(twin.parameters()))
        norm = torch.cat([g.flatten() for g in gradients]).norm().item()
        with torch.no_grad():
            for p, v, g in zip(twin.parameters(), velocity, gradients, strict=True):
                v.mul_(0.9 * momentum).add_(g / max(1.0, norm) + 0.1 * p)
                p.sub_(learning_rate(spec, update) * v)
    pairs = zip(model.parameters(), twin.parameters(), strict=True)
    assert all(torch.allclose(x, y, atol=1e-6) for x, y in pairs) == momentum


def test_without_a_loss_on_answers_the_text_alone_is_learned():
    task = KeyValueRecall(pairs=1, queries=1, keys=2, values=2, filler=7, text=True)

    def trained(answers: torch.Tensor | None):
        class Changed:
            vocabulary, chance = task.vocabulary, task.chance

            def sample(self, batch: int, length: int, generator: torch.Generator) -> Batch:
                drawn = task.sample(batch, length, generator)
                return drawn if answers is None else replace(drawn, answers=torch.zeros_like(drawn.answers))

        model = build(ModelSpec(width=16), task.vocabulary, 0)
        spec = TrainSpec(length=29, updates=5, batch=16, lr=2e-2, text_loss=1.0, answer_loss=0.0)
        train(model, Changed(), spec, seed=0)
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    assert torch.equal(trained(None), trained(torch.zeros(1))), "what is asked makes no difference"


# Schedules of lengths ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "lengths",
    [Uniform(16), LogUniform(16), Linear(16), Steps((Stage(16, 0.5), Stage(24, 0.25), Stage(40, 0.25)))],
)
def test_training_keeps_to_the_plan_and_its_rate_goes_by_tokens(monkeypatch, lengths):
    task, rates = Repeat([]), []
    monkeypatch.setattr(
        "lcbook.experiments.train.learning_rate", lambda spec, spent: rates.append(spent) or 1e-3
    )
    spec = TrainSpec(length=40, updates=12, batch=7, lengths=lengths)
    trained = train(build(SMALL, 3, 0), task, spec, seed=3)
    planned = plan(spec, 3)
    drawn = [(batch, length) for batch, length, _ in task.seen]
    assert drawn[-len(planned) :] == [(one.sequences, one.length) for one in planned]
    assert sum(batch * length for batch, length in drawn[-len(planned) :]) == 12 * 7 * 40
    assert trained.updates == len(trained.recalls) == len(planned)
    spent = [sum(one.sequences * one.length for one in planned[:i]) for i in range(len(planned))]
    assert rates == pytest.approx([tokens / 280 for tokens in spent])
    assert rates[0] == 0
    assert max(rates) < 12


def test_warm_up_and_decay_between_whole_updates():
    spec = TrainSpec(updates=100, lr=2.0, warmup=0.1)
    assert learning_rate(spec, 3.5) == pytest.approx(0.9)
    assert learning_rate(spec, 32.5) == pytest.approx(0.2 + 0.9 * (1 + math.cos(math.pi / 4)))


@dataclass(frozen=True)
class Short(Repeat):
    """As Repeat where sequences are short; at 32 tokens the answer is nothing that can be known."""

    def sample(self, batch: int, length: int, generator: torch.Generator) -> Batch:
        drawn = super().sample(batch, length, generator)
        return (
            replace(drawn, answers=torch.randint(3, (batch, 5), generator=generator))
            if length == 32
            else drawn
        )


@pytest.mark.parametrize(("task", "reached"), [(Repeat, True), (Short, False)])
def test_the_gate_is_recall_at_the_training_length(task, reached):
    stages = Steps((Stage(16, 0.9), Stage(32, 0.1)))
    spec = TrainSpec(length=32, updates=40, batch=50, lr=3e-2, lengths=stages)
    trained = train(build(SMALL, 3, 0), task([]), spec, seed=0)
    assert sum(trained.recalls[25:35]) / 10 > 0.99, "recall on the short sequences is at the gate"
    assert (trained.updates_to_gate in (10, 20, 30)) == reached
    assert (trained.updates_to_gate is None) != reached
    stopped = train(build(SMALL, 3, 0), task([]), replace(spec, stop_at_gate=True), seed=0)
    assert stopped.updates == (trained.updates_to_gate if reached else trained.updates)


def test_looking_at_the_gate_does_not_change_training():
    stages = Steps((Stage(16, 0.9), Stage(32, 0.1)))
    spec = TrainSpec(length=32, updates=40, batch=50, lr=3e-2, lengths=stages)

    def weights():
        model = build(SMALL, 3, 0)
        reached = train(model, Repeat([]), spec, seed=0).updates_to_gate
        return reached, torch.cat([p.detach().flatten() for p in model.parameters()])

    reached, looked = weights()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("lcbook.experiments.train._at_gate", lambda *_: False)
        never, other = weights()
    assert (reached is not None, never) == (True, None)
    assert torch.equal(looked, other)


def test_stages_change_the_encoding_and_the_model_keeps_the_last():
    stages = Steps((Stage(16, 0.5), Stage(32, 0.25, RoPE(70_000.0)), Stage(32, 0.25)))
    spec = TrainSpec(length=32, updates=8, batch=5, lr=1e-2, lengths=stages)
    model = build(replace(SMALL, position=RoPE()), TASK.vocabulary, 0)
    seen = []
    train(model, TASK, spec, seed=0, until=lambda *_: bool(seen.append(model.spec.position)))
    assert seen == [RoPE()] * 4 + [RoPE(70_000.0)] * 4
    # what is computed is that of a model built with this encoding
    same = build(model.spec, TASK.vocabulary, 1)
    same.load_state_dict(model.state_dict())
    tokens = torch.randint(TASK.vocabulary, (2, 31))
    assert torch.equal(model(tokens), same.eval()(tokens))
    plain = build(replace(SMALL, position=RoPE()), TASK.vocabulary, 1)
    plain.load_state_dict(model.state_dict())
    assert not torch.allclose(model(tokens), plain.eval()(tokens))


@pytest.mark.parametrize(
    ("position", "task", "lengths", "named"),
    [
        (Learned(16), TASK, Uniform(16), "length must be <= 16"),
        (NoPosition(), KeyValueRecall(pairs=9), Linear(16), "length"),
        (NoPosition(), TASK, Steps((Stage(16, 0.5), Stage(32, 0.5, Learned(32)))), "has trained"),
        (Learned(32), TASK, Steps((Stage(16, 0.5), Stage(32, 0.5, RoPE()))), "the parameters of Learned"),
        (RoPE(), TASK, Steps((Stage(16, 0.5), Stage(32, 0.5, Randomized(RoPE(), 24)))), "24"),
    ],
)
def test_what_does_not_suit_a_schedule_is_named_before_training(position, task, lengths, named):
    model = build(replace(SMALL, position=position), task.vocabulary, 0)
    before = [p.clone() for p in model.parameters()]
    with pytest.raises(ValueError, match=named):
        train(model, task, TrainSpec(length=32, updates=9, batch=3, lengths=lengths), seed=0)
    assert all(torch.equal(x, y) for x, y in zip(before, model.parameters(), strict=True))


def test_reposition_keeps_what_is_learned():
    model = build(replace(SMALL, position=Learned(31)), 5, 0)
    tokens = torch.randint(5, (2, 13))
    expected = model(tokens, torch.arange(2, 15)[None])
    reposition(model, Randomized(Learned(31), 31))
    assert model.spec.position == Randomized(Learned(31), 31)
    assert torch.equal(model(tokens, torch.arange(2, 15)[None]), expected)
    reposition(model, Sinusoidal())
    assert not torch.allclose(model(tokens, torch.arange(2, 15)[None]), expected)


@pytest.mark.parametrize(
    ("model", "position", "named"),
    [
        (
            replace(SMALL, position=RoPE()),
            Learned(31),
            r"position is Learned\(.*31\); .* RoPE\(.*\) has trained",
        ),
        (replace(SMALL, position=Learned(31)), Learned(37), "has trained"),
        (SMALL, T5Bias(), "position is T5Bias.* has trained"),
        (replace(SMALL, mixer=DeltaRule()), ALiBi(), "position"),
        (replace(SMALL, width=15), RoPE(scaling=YaRN(2.0, 24)), "even"),
    ],
)
def test_a_position_that_the_model_cannot_take_is_named(model, position, named):
    made = build(model, 5, 0)
    with pytest.raises(ValueError, match=named):
        reposition(made, position)
    assert made.spec == model


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"length": 0}, "length is 0"),
        ({"updates": 0}, "updates is 0"),
        ({"batch": -1}, "batch is -1"),
        ({"lr": 0.0}, "lr is 0.0"),
        ({"lr": math.nan}, "lr is nan"),
        ({"warmup": 1.0}, "warmup is 1.0"),
        ({"warmup": -0.1}, "warmup is -0.1"),
        ({"betas": (0.9, 1.0)}, "betas is"),
        ({"optimizer": "muon"}, "optimizer is 'muon'; allowed are adamw, sgd"),
        (
            {"answer_loss": 0.0},
            r"answer_loss is 0.0 with text_loss 0.0; allowed is 0 or more, and more than 0 for",
        ),
        ({"answer_loss": -0.1, "text_loss": 1.0}, "answer_loss is -0.1"),
        ({"answer_loss": math.nan}, "answer_loss is nan"),
        ({"text_loss": -0.5}, "answer_loss is 1.0 with text_loss -0.5"),
        ({"curriculum": ((65, 2),)}, r"curriculum has \(65, 2\)"),
        ({"curriculum": ((32, 0),)}, r"curriculum has \(32, 0\)"),
    ],
)
def test_impossible_training_is_named(wrong, named):
    with pytest.raises(ValueError, match=named):
        TrainSpec(**wrong)
