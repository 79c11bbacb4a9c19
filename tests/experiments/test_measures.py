"""Evaluation: an oracle scores all of each gap's octave, and another encoding goes onto the same weights."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, fields, replace

import pytest
import torch
from torch import nn

import lcbook as lc
from lcbook.attention.patterns import Window
from lcbook.experiments import measures
from lcbook.experiments.changes import Ablate, Reposition, Restrict, Temper, Tune, changed
from lcbook.experiments.heads import attention_maps
from lcbook.experiments.measures import Depth, Gap, Pairs, Probe, Recall, TextLoss
from lcbook.experiments.streaming import Streamed
from lcbook.experiments.train import TrainSpec
from lcbook.models.decoder import Decoder, ModelSpec, build
from lcbook.models.mixers import DeltaRule, LearnedSink
from lcbook.models.positions import ALiBi, Learned, Linear, NoPosition, Randomized, RoPE, T5Bias
from lcbook.tasks.base import Batch
from lcbook.tasks.mqar import MQAR
from lcbook.tasks.recall import KeyValueRecall
from tests.asking import after, recall_rows, streamed_rows

VOCABULARY = 11
RECALL = KeyValueRecall(pairs=3, queries=2, keys=5, values=3, filler=7)


@dataclass(frozen=True)
class Fixed:
    """Sequence i asks two questions at gaps that are written down; the answer is the number of the sequence."""

    gaps: tuple[tuple[int, int], ...]
    vocabulary: int = VOCABULARY
    chance: float = 0.125

    def sample(self, batch: int, length: int, generator: torch.Generator) -> Batch:
        rows = torch.arange(batch)[:, None].expand(batch, 2)
        at = torch.tensor([length - 3, length - 1]).expand(batch, 2)
        gap = torch.tensor(self.gaps)[:batch]
        return Batch(torch.zeros(batch, length, dtype=torch.long), at, rows % VOCABULARY, gap)


class Stub(Decoder):
    """A model whose answers are written down: `answer(tokens, places)` returns the token it says at each place."""

    def __init__(self, answer, vocabulary: int = VOCABULARY) -> None:
        nn.Module.__init__(self)
        self.spec, self.answer, self.vocabulary = ModelSpec(), answer, vocabulary
        self.weight = nn.Parameter(torch.zeros(1))
        self.seen: list[torch.Tensor] = []

    def forward(self, tokens, positions=None, at=None):
        self.seen.append(tokens)
        places = torch.arange(tokens.shape[1]).expand(tokens.shape) if at is None else at
        said = self.answer(tokens, places)
        return nn.functional.one_hot(said, self.vocabulary).float()


def next_token(tokens, places):
    """The oracle of a recall task, whose answer stands right after the question."""
    return tokens.gather(1, (places + 1).clamp(max=tokens.shape[1] - 1))


def test_octaves_of_the_gap_worked_by_hand():
    task = Fixed(((1, 2), (3, 4), (7, 8), (0, 1000)))
    # Sequence i is answered right at its first place where i is even, at its second place in sequence 3 alone.
    said = torch.tensor([[0, 9], [9, 9], [2, 9], [9, 3]])
    rows = recall_rows(Stub(lambda tokens, places: said), task, 1009, 8, seed=0)
    assert [(row["gap"], row["correct"], row["total"]) for row in rows] == [
        (1, 1, 2),  # gaps 1 (right) and 0, which counts as 1
        (2, 0, 2),  # 2 and 3
        (4, 1, 2),  # 4 and 7 (right)
        (8, 0, 1),
        (512, 1, 1),  # 1000 (right): 512 to 1023
    ]
    assert {row["length"] for row in rows} == {1009}
    assert {row["chance"] for row in rows} == {0.125}
    assert all(type(row[name]) is int for row in rows for name in ("gap", "correct", "total"))


@pytest.mark.parametrize(
    "task", [RECALL, replace(RECALL, text=True), replace(RECALL, competing=0.5)], ids=str
)
def test_an_oracle_recalls_everything_and_a_mute_nothing(task):
    right = recall_rows(Stub(next_token, task.vocabulary), task, 64, 101, seed=3)
    assert sum(row["correct"] for row in right) == sum(row["total"] for row in right) == 102  # 51 x 2
    wrong = recall_rows(Stub(lambda tokens, places: places * 0, task.vocabulary), task, 64, 101, seed=3)
    assert sum(row["correct"] for row in wrong) == 0
    assert [row["total"] for row in wrong] == [row["total"] for row in right]
    assert {row["chance"] for row in right} == {1 / 3}


def test_questions_are_asked_in_blocks_that_fit(monkeypatch):
    monkeypatch.setattr(measures, "TOKENS_AT_ONCE", 130)
    stub = Stub(next_token, RECALL.vocabulary)
    rows = recall_rows(stub, RECALL, 64, 13, seed=0)
    assert [tuple(tokens.shape) for tokens in stub.seen] == [(2, 64), (2, 64), (2, 64), (1, 64)]
    assert sum(row["total"] for row in rows) == 14
    assert len({tuple(row) for tokens in stub.seen for row in tokens.tolist()}) == 7, (
        "each block is drawn anew"
    )
    long = Stub(next_token, RECALL.vocabulary)
    recall_rows(long, RECALL, 200, 3, seed=0)
    assert [tuple(tokens.shape) for tokens in long.seen] == [(1, 200), (1, 200)]


@pytest.mark.parametrize("position", [RoPE(), Randomized(RoPE(), 100)], ids=["RoPE", "randomized"])
def test_the_same_numbers_twice_and_others_from_another_seed(position):
    model = build(ModelSpec(width=14, position=position), RECALL.vocabulary, 0)
    torch.manual_seed(1)
    first = recall_rows(model, RECALL, 64, 400, seed=5)
    torch.manual_seed(2)
    assert str(recall_rows(model, RECALL, 64, 400, seed=5)) == str(first)
    assert str(recall_rows(model, RECALL, 64, 400, seed=6)) != str(first)


def test_each_length_and_seed_has_its_own_questions(monkeypatch):
    seeds, real = [], KeyValueRecall.sample

    def sample(self, batch, length, generator):
        seeds.append(generator.initial_seed())
        return real(self, batch, length, generator)

    monkeypatch.setattr(KeyValueRecall, "sample", sample)
    for seed, length in ((0, 64), (0, 65), (1, 64), (1, 65), (65, 64)):
        recall_rows(Stub(next_token, RECALL.vocabulary), RECALL, length, 2, seed=seed)
    assert len(set(seeds[1::2])) == 5


def test_text_loss_worked_by_hand():
    task = replace(RECALL, text=True)
    # A model without a preference loses log(vocabulary) at every token; recall is measured as without `text`.
    model = build(ModelSpec(width=14), task.vocabulary, 0)
    nn.init.zeros_(model.norm.weight)
    rows = recall_rows(model, task, 64, 30, seed=0, measure=TextLoss)
    assert [row["text_loss"] for row in rows] == pytest.approx([math.log(task.vocabulary)] * len(rows))

    class Bigram(Stub):
        """Knows the two successors of each filler token, and the values of no key."""

        def forward(self, tokens, positions=None, at=None):
            logits = torch.full((*tokens.shape, self.vocabulary), -1e4)
            ring = tokens - task.keys - task.values
            for step in (1, 3):
                logits.scatter_(2, (((ring + step) % task.filler) + task.keys + task.values)[..., None], 0.0)
            return logits

    rows = recall_rows(Bigram(None, task.vocabulary), task, 64, 30, seed=0, measure=TextLoss)
    # A walk goes on beneath the pairs, so filler after filler is always one of the two.
    assert [row["text_loss"] for row in rows] == pytest.approx([math.log(2)] * len(rows))
    assert sum(row["correct"] for row in rows) == 0


def test_recall_is_the_same_whether_the_text_is_measured_or_not():
    task = replace(RECALL, text=True)
    model = build(ModelSpec(width=14, layers=2), task.vocabulary, 0)
    plain = recall_rows(model, task, 64, 400, seed=0)
    with_text = recall_rows(model, task, 64, 400, seed=0, measure=TextLoss)
    assert [row["correct"] for row in plain] == [row["correct"] for row in with_text]
    assert sum(row["correct"] for row in plain) > 0
    assert not any(math.isnan(row["text_loss"]) for row in with_text)


@pytest.mark.parametrize("task", [RECALL, MQAR(examples=8)], ids=["noise", "mqar"])
def test_text_loss_is_refused_without_text(task):
    model = build(ModelSpec(width=14), task.vocabulary, 0)
    with pytest.raises(ValueError, match=r"task is .*filler is text"):
        recall_rows(model, task, 64, 8, seed=0, measure=TextLoss)


# Another encoding on the same weights -----------------------------------------------------------------

TOKENS = torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5]])


def logits(model):
    with torch.no_grad():
        return model(TOKENS)


@pytest.mark.parametrize(
    "position", [RoPE(100.0), RoPE(scaling=Linear(4.0)), ALiBi(0.5), NoPosition()], ids=str
)
def test_the_copy_has_these_weights_and_that_encoding(position):
    model = build(ModelSpec(layers=2, width=28, heads=2, position=RoPE()), VOCABULARY, 0)
    before, state = logits(model), {k: v.clone() for k, v in model.state_dict().items()}
    changed = after(model, Reposition(position))
    assert changed.spec == replace(model.spec, position=position)
    fresh = build(changed.spec, VOCABULARY, 1)
    fresh.load_state_dict(changed.state_dict())
    assert torch.equal(logits(changed), logits(fresh)), "as if the model had been built with that encoding"
    assert not torch.allclose(logits(changed), before)
    assert {name: v.tolist() for name, v in changed.state_dict().items()} == {
        name: v.tolist() for name, v in state.items()
    }
    # The model itself is left alone, and shares no memory with the copy.
    with torch.no_grad():
        for parameter in changed.parameters():
            parameter.zero_()
    assert model.spec.position == RoPE()
    assert torch.equal(logits(model), before)


def test_the_same_encoding_gives_the_same_logits():
    for position in (RoPE(), Learned(13), T5Bias(), ALiBi()):
        model = build(ModelSpec(layers=2, width=28, heads=2, position=position), VOCABULARY, 0)
        assert torch.equal(logits(after(model, Reposition(position))), logits(model)), position


def test_learned_tables_are_kept():
    model = build(ModelSpec(width=14, position=Learned(13)), VOCABULARY, 0)
    spread = after(model, Reposition(Randomized(Learned(13), 13)))
    assert torch.equal(spread.encoding.table, model.encoding.table)
    assert spread.encoding.table is not model.encoding.table
    bias = build(ModelSpec(width=14, position=T5Bias(max_distance=128)), VOCABULARY, 0)
    longer = after(bias, Reposition(T5Bias(max_distance=999)))
    assert torch.equal(longer.encoding.table, bias.encoding.table)


def test_recall_is_asked_under_the_positions_of_the_copy(monkeypatch):
    asked = []

    def drawn(position, batch, length, generator, device):
        asked.append(position)
        return torch.arange(length).expand(batch, length)

    monkeypatch.setattr(measures, "draw_positions", drawn)
    model = build(ModelSpec(width=14), RECALL.vocabulary, 0)
    recall_rows(after(model, Reposition(RoPE(7.0))), RECALL, 64, 2, seed=0)
    assert asked == [RoPE(7.0)]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"lengths": (64, 0)}, r"lengths is \(64, 0\); allowed are lengths of 1 or more"),
        ({"lengths": (-64,)}, r"lengths is \(-64,\)"),
        ({"questions": 0}, r"questions is 0; allowed is 1 or more"),
        ({"questions": -5}, r"questions is -5"),
    ],
)
def test_a_probe_refuses_what_cannot_be_measured(bad, message):
    with pytest.raises(ValueError, match=message):
        Recall(**bad)
    assert Probe().name == "as trained"
    tuned = Probe(changes=(Reposition(ALiBi()), Tune(TrainSpec(updates=7))))
    assert tuned.name == "ALiBi, 7 updates more"
    assert replace(tuned, label="told").name == "told"


def test_lengths_that_the_pairs_do_not_fit_are_named():
    model = build(ModelSpec(width=14), RECALL.vocabulary, 0)
    with pytest.raises(ValueError, match=r"length is 9; allowed is .*length >= 10"):
        recall_rows(model, RECALL, 9, 2, seed=0)
    table = build(ModelSpec(width=14, position=Learned(13)), RECALL.vocabulary, 0)
    with pytest.raises(ValueError, match=r"length must be <= 13"):
        recall_rows(table, RECALL, 14, 2, seed=0)


def test_a_swapped_encoding_has_no_untrained_parameters():
    model = build(ModelSpec(position=Learned(64)), 11, seed=0)
    with pytest.raises(ValueError, match="has trained"):
        after(model, Reposition(Learned(128)))
    with pytest.raises(ValueError, match="has trained"):
        after(model, Reposition(T5Bias()))
    assert torch.equal(after(model, Reposition(Learned(64))).encoding.table, model.encoding.table)


def test_rows_by_depth_count_the_needles_of_each_bin():
    task = KeyValueRecall(pairs=3, queries=1, keys=7, values=5, filler=3, depth=0.5)
    model = build(ModelSpec(layers=1, width=16, heads=2), task.vocabulary, 0)
    (row,) = recall_rows(
        model, task, 42, 13, seed=3, by=Depth(10)
    )  # slot 10 of 20: place 20 of 40 before the question
    assert (row["depth"], row["total"]) == (pytest.approx(0.55), 13)
    spread = replace(task, depth=None)
    rows = recall_rows(model, spread, 42, 500, seed=3, by=Depth(4))
    assert [row["depth"] for row in rows] == [0.125, 0.375, 0.625, 0.875]
    by_gap = recall_rows(model, spread, 42, 500, seed=3)
    for name in ("correct", "total"):
        assert sum(row[name] for row in rows) == sum(row[name] for row in by_gap)
    # The first quarter of the 40 tokens before the question holds gaps of more than 30.
    far = recall_rows(model, spread, 42, 500, seed=3, by=Gap(1))
    assert rows[0]["total"] == sum(row["total"] for row in far if row["gap"] > 30)


def test_bins_that_cannot_be_are_named():
    with pytest.raises(ValueError, match="width is -1; allowed is 0"):
        Gap(-1)
    with pytest.raises(ValueError, match="bins is 0; allowed is 1 or more"):
        Depth(0)
    with pytest.raises(ValueError, match="pairs is 0; allowed is 1 or more"):
        Pairs(0)


# Changes in order ------------------------------------------------------------------------------------


def test_changes_are_made_in_the_order_given_on_one_copy(monkeypatch):
    model = build(ModelSpec(layers=2, width=28, heads=2, position=RoPE()), RECALL.vocabulary, 0)
    before = {name: v.clone() for name, v in model.state_dict().items()}
    brief = Tune(TrainSpec(length=24, updates=2, batch=4, lr=0.1))
    orders = [
        (brief, Ablate(0, 1)),
        (Ablate(0, 1), brief),
        (brief,),
        (Reposition(ALiBi()), Restrict(Window(3)), brief),
    ]
    made = [changed(model, order, task=RECALL, seed=5) for order in orders]
    silent = [one.layers[0].attention.out.weight[:, 14:].abs().sum().item() for one in made]
    assert silent[0] == 0, "silenced last, it stays silent"
    assert silent[1] > 0, "silenced first, it learns again"
    assert torch.equal(
        made[0].layers[0].attention.out.weight[:, :14], made[2].layers[0].attention.out.weight[:, :14]
    )
    assert (made[3].spec.position, made[3].spec.pattern) == (ALiBi(), Window(3))
    assert all(torch.equal(v, before[name]) for name, v in model.state_dict().items()), (
        "the model is left alone"
    )
    assert changed(model, (), task=RECALL, seed=5) is model
    copies, real = [], copy.deepcopy
    monkeypatch.setattr(copy, "deepcopy", lambda x, *more: copies.append(x) or real(x, *more))
    changed(model, (Reposition(ALiBi()), Temper(2.0), Ablate(1, 0)), task=RECALL, seed=5)
    assert sum(isinstance(one, Decoder) for one in copies) == 1


def test_the_parts_of_a_probe_are_columns():
    probe = Probe(Recall(task=Pairs(2)), (Temper(2.0), Reposition(ALiBi(0.25)), Temper(3.0)), "told")
    said = probe.columns(lc.Spec(task=RECALL))
    assert (said["probe"], said["measure"], said["measure.questions"]) == ("told", "Recall", 256)
    assert (said["asked.pairs"], said["asked.keys"]) == (2, 5)
    assert (said["temper.factor"], said["temper 2.factor"], said["reposition.position.slope"]) == (
        2.0,
        3.0,
        0.25,
    )
    assert said["reposition.position"] == "ALiBi"
    assert not any("lengths" in name for name in said)


def test_a_probe_has_three_fields():
    """Another is a decision: what is asked, what is changed first, and a name for the page."""
    assert [field.name for field in fields(Probe)] == ["measure", "changes", "label"]


# Other scores on the same weights ---------------------------------------------------------------------


def test_a_temper_of_two_is_twice_the_scale():
    model = build(ModelSpec(layers=2, width=28, heads=4, kv_heads=2), VOCABULARY, 0)
    before, doubled = logits(model), build(model.spec, VOCABULARY, 0)
    with torch.no_grad():
        for layer in doubled.layers:
            layer.attention.log_scale += math.log(2)
    changed = after(model, Temper(factor=2))
    torch.testing.assert_close(logits(changed), logits(doubled), atol=1e-6, rtol=1e-6)
    assert not torch.allclose(logits(changed), before)
    torch.testing.assert_close(logits(after(changed, Temper(factor=0.5))), before, atol=1e-6, rtol=1e-6)
    assert torch.equal(logits(model), before), "the model itself is left alone"
    with torch.no_grad():
        for parameter in changed.parameters():
            parameter.zero_()
    assert torch.equal(logits(model), before), "and shares no memory with the copy"


def test_a_temper_multiplies_scores_that_have_no_scale():
    model = build(ModelSpec(width=28, heads=4, qk_norm=False), VOCABULARY, 0)
    doubled = build(model.spec, VOCABULARY, 0)
    with torch.no_grad():
        doubled.layers[0].attention.q.weight *= 3
    torch.testing.assert_close(logits(after(model, Temper(factor=3))), logits(doubled), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("normalizer", ["log-n softmax", "sparsemax", "off-by-one softmax", "sigmoid"])
def test_the_copy_has_these_weights_and_that_normalizer(normalizer):
    model = build(ModelSpec(layers=2, width=28, heads=2, position=RoPE()), VOCABULARY, 0)
    changed, spec = after(model, Temper(normalizer=normalizer)), replace(model.spec, normalizer=normalizer)
    assert changed.spec == spec
    fresh = build(spec, VOCABULARY, 1)
    fresh.load_state_dict(model.state_dict())
    assert torch.equal(logits(changed), logits(fresh)), "as if the model had been built with it"
    assert not torch.allclose(logits(changed), logits(model))
    assert model.spec.normalizer == "softmax"


def test_log_n_undone_by_a_temper_at_one_length():
    """With n keys in sight, log n times 1 / log n leaves the softmax; with fewer it is flatter."""
    model = build(ModelSpec(width=28, heads=2), VOCABULARY, 0)
    n = TOKENS.shape[1]
    changed = after(model, Temper(factor=1 / math.log(n), normalizer="log-n softmax"))
    ours, plain = (attention_maps(m, TOKENS)[0] for m in (changed, model))
    torch.testing.assert_close(ours[:, :, -1], plain[:, :, -1], atol=1e-6, rtol=1e-5)
    assert not torch.allclose(ours[:, :, 4], plain[:, :, 4], atol=1e-4)
    flatter = after(model, Temper(factor=math.log(5) / math.log(n)))
    torch.testing.assert_close(
        ours[:, :, 4], attention_maps(flatter, TOKENS)[0][:, :, 4], atol=1e-6, rtol=1e-5
    )


def test_scores_that_cannot_be_changed_are_named():
    model = build(ModelSpec(width=28), VOCABULARY, 0)
    with pytest.raises(ValueError, match="normalizer is 'hardmax'; allowed are softmax"):
        after(model, Temper(normalizer="hardmax"))
    for mixer in (DeltaRule(), LearnedSink()):
        other = build(ModelSpec(width=28, mixer=mixer), VOCABULARY, 0)
        with pytest.raises(ValueError, match=r"mixer is .*; allowed is Softmax\(\)"):
            after(other, Temper(factor=2))


@pytest.mark.parametrize("factor", [0, -1.0, math.inf, math.nan])
def test_a_factor_that_is_none_is_named(factor):
    with pytest.raises(ValueError, match=rf"factor is {factor}; allowed is a finite number above 0"):
        Temper(factor)


def test_probes_of_scores_and_streams_come_through_a_run(monkeypatch, tmp_path):
    monkeypatch.setenv("LCBOOK_CACHE", str(tmp_path))
    lc.setup("")
    torch.set_num_threads(1)
    spec = lc.Spec(ModelSpec(width=16), RECALL, TrainSpec(length=24, updates=60, batch=16, lr=1e-2))
    run, competing = lc.Run("a", spec, 3), replace(RECALL, competing=0.5)
    probes = [
        Probe(Recall((24, 100), 200)),
        Probe(Recall((24, 100), 200), (Temper(9.0),), "hot"),
        Probe(Recall((24, 100), 200), (Temper(normalizer="log-n softmax"),), "log-n"),
        Probe(Streamed((24, 100), 200), label="stream"),
        Probe(Streamed((100,), 200, competing), (Temper(9.0, "log-n softmax"),), "hot stream"),
    ]
    frame = lc.run([run], name="recall", probes=probes).set_index(["probe", "length"])
    assert len(frame) == 9
    model, _ = lc.trained_model(run)
    changed = {
        "as trained": model,
        "hot": after(model, Temper(factor=9.0)),
        "log-n": after(model, Temper(normalizer="log-n softmax")),
    }
    for name, one in changed.items():
        for length in (24, 100):
            rows = recall_rows(one, RECALL, length, 200, seed=3)
            assert frame.loc[(name, length), "correct"] == sum(row["correct"] for row in rows)
            assert frame.loc[[(name, length)], ["weight", "log_odds"]].isna().all().all()
    assert frame["correct"].nunique() > 3, "the probes tell different things"
    streams = [
        ("stream", 24, model, RECALL),
        ("stream", 100, model, RECALL),
        ("hot stream", 100, after(changed["hot"], Temper(normalizer="log-n softmax")), competing),
    ]
    for name, length, one, task in streams:
        (row,) = streamed_rows(one, task, length, 200, seed=3)
        for column in ("correct", "total", "weight", "log_odds", "margin", "variance"):
            assert frame.loc[(name, length), column] == row[column]
        assert 0 < frame.loc[(name, length), "weight"] < 1


def test_a_stream_of_another_task_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("LCBOOK_CACHE", str(tmp_path))
    task = MQAR(vocabulary=24, pairs=2, examples=600)
    run = lc.Run("a", lc.Spec(ModelSpec(width=8), task, TrainSpec(length=16, updates=1, batch=2)), 0)
    with pytest.raises(ValueError, match=r"task is MQAR\(.*; allowed is a KeyValueRecall"):
        lc.run([run], name="refused", probes=[Probe(Streamed((16,)))], workers=1)
