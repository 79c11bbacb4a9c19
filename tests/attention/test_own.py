"""Own encodings, normalizers and patterns: they act where those of the menu act, and what does not fit is named."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import dataclass

import jaxtyping
import pytest
import torch
from dense import assert_same, draw

from lcbook.attention.backends import Naive, attention_by
from lcbook.attention.costs import attention_cost, keys_compared, visible_pairs
from lcbook.attention.normalizers import normalizer
from lcbook.attention.patterns import Window, pattern_mask
from lcbook.attention.sparse import sparse_attention
from lcbook.experiments.checkpoint import load, save
from lcbook.experiments.schedules import Stage, Steps
from lcbook.experiments.train import TrainSpec, train
from lcbook.formats import label
from lcbook.models.decoder import ModelSpec, build
from lcbook.models.positions import (
    ALiBi,
    Randomized,
    RoPE,
    Sinusoidal,
    apply_rope,
    draw_positions,
    rope_frequencies,
    sinusoidal,
)
from lcbook.store import canonical, digest
from lcbook.tasks.recall import KeyValueRecall

TOKENS = torch.randint(11, (2, 13), generator=torch.Generator().manual_seed(0))


@dataclass(frozen=True)
class Slope:
    """ALiBi of one head by another hand."""

    slope: float = 2**-8

    def bias(self, q_positions, k_positions):
        return -self.slope * (q_positions[:, :, None] - k_positions[:, None]).abs()[:, None]


@dataclass(frozen=True)
class Waves:
    label = "waves"

    def add(self, x, positions):
        return x + sinusoidal(positions, x.shape[-1], 10_000.0).to(x.dtype)


@dataclass(frozen=True)
class Turn:
    def rotate(self, q, k, q_positions, k_positions):
        waves, _ = rope_frequencies(q.shape[-1])
        return apply_rope(q, q_positions, waves), apply_rope(k, k_positions, waves)


@dataclass(frozen=True)
class Halves:
    """Weights in proportion to 2^score."""

    def weights(self, scores):
        return torch.softmax(scores * math.log(2), -1)


@dataclass(frozen=True)
class Near:
    window: int = 3

    def mask(self, q_index, k_index):
        return (q_index - k_index).abs() < self.window


def logits(spec, at=None):
    return build(spec, 11, 0)(TOKENS, None, at)


@pytest.mark.parametrize(
    ("own", "menu"),
    [
        ({"position": Slope()}, {"position": ALiBi()}),
        ({"position": Waves()}, {"position": Sinusoidal()}),
        ({"position": Turn()}, {"position": RoPE()}),
        ({"pattern": Near()}, {"pattern": Window(3)}),
    ],
)
def test_own_ones_do_what_those_of_the_menu_do(own, menu):
    mine, theirs = ModelSpec(layers=2, width=12, **own), ModelSpec(layers=2, width=12, **menu)
    torch.testing.assert_close(logits(mine), logits(theirs))
    at = torch.tensor([[12, 3], [5, 12]])
    torch.testing.assert_close(logits(mine, at), logits(theirs, at))
    assert digest(mine) != digest(theirs)


def test_an_own_encoding_at_random_positions():
    mine, theirs = (ModelSpec(width=12, position=Randomized(one, 64)) for one in (Slope(), ALiBi()))
    at = draw_positions(mine.position, 2, 13, torch.Generator().manual_seed(0))
    assert len({*at.flatten().tolist()} - {*range(13)}) > 2
    torch.testing.assert_close(build(mine, 11, 0)(TOKENS, at), build(theirs, 11, 0)(TOKENS, at))
    assert mine.position.label == "Slope(slope=0.00390625) randomized"
    with pytest.raises(
        ValueError, match=r"inner must be an encoding other than Randomized.*, got Near\(window=3\)"
    ):
        Randomized(Near(), 64)


def test_an_own_encoding_from_a_stage_on():
    task, trained = KeyValueRecall(pairs=2, queries=2, keys=3, values=3, filler=5), []
    for position in (Slope(), ALiBi()):
        stages = Steps((Stage(16, 0.5), Stage(24, 0.5, position)))
        model = build(ModelSpec(width=12), task.vocabulary, 0)
        train(model, task, TrainSpec(length=24, updates=4, batch=3, lr=0.1, lengths=stages), seed=0)
        assert model.spec.position == position
        trained.append(torch.cat([one.flatten() for one in model.parameters()]))
    torch.testing.assert_close(*trained)
    with pytest.raises(
        ValueError, match=r"position is Halves\(\); allowed is one of lcbook.models.positions, or"
    ):
        Stage(24, 0.5, Halves())
    narrow = Steps((Stage(16, 0.5), Stage(24, 0.5, made("bias", lambda q, k: torch.zeros(3, 2)))))
    with pytest.raises(ValueError, match=r"bias of .* is of shape \(3, 2\); allowed is what"):
        train(model, task, TrainSpec(length=24, updates=4, batch=3, lengths=narrow), seed=0)


def test_own_weights_by_hand():
    scores = torch.tensor([[0.0, 1.0, -torch.inf], [2.0, 0.0, 1.0]])
    wanted = torch.tensor([[1 / 3, 2 / 3, 0.0], [4 / 7, 1 / 7, 2 / 7]])
    torch.testing.assert_close(normalizer(Halves())(scores, -1), wanted)
    torch.testing.assert_close(normalizer(Halves())(scores.T, 0), wanted.T)
    hard = ModelSpec(width=12, qk_scale=3.0, learn_scale=False)
    soft = ModelSpec(width=12, qk_scale=3.0 / math.log(2), learn_scale=False, normalizer=Halves())
    torch.testing.assert_close(logits(soft), logits(hard))


def test_pairs_of_an_own_pattern_are_counted():
    assert visible_pairs(Near(), 13) == visible_pairs(Window(3), 13) == int(pattern_mask(Near(), 13).sum())


def test_an_own_pattern_is_a_form_of_attention():
    q, k, v = draw(*[(2, 3, 13, 5)] * 3)
    assert_same(attention_by(Near())(q, k, v), sparse_attention(q, k, v, Window(3)), [q, k, v])
    cost = attention_cost(Near(), length=13, heads=3, head_dim=5)
    assert cost.flops == attention_cost(Naive(), length=13, heads=3, head_dim=5).flops
    assert keys_compared(Near(), 13, 5) == 3


def test_names_on_the_page():
    assert [label(one) for one in (Slope(0.5), Waves(), Turn(), Near())] == [
        "Slope(slope=0.5)",
        "waves",
        "Turn",
        "Near(window=3)",
    ]


def test_the_source_is_part_of_the_digest():
    told = canonical(Slope())
    assert told["is"] == "Slope"
    assert told["class source"].startswith("class Slope:\n")
    assert "return -self.slope" in told["class source"]

    @dataclass(frozen=True)
    class Near:
        window: int = 3

        def mask(self, q_index, k_index):
            return (q_index - k_index).abs() <= self.window

    assert digest(Near()) != digest(globals()["Near"]())


def test_without_source_it_is_refused():
    space: dict[str, object] = {"dataclass": dataclass, "__name__": "__main__"}
    exec("@dataclass(frozen=True)\nclass Gone:\n    def mask(self, q, k): return q >= k", space)
    with pytest.raises(
        ValueError, match="Gone has no source to be found; allowed in a spec is a class from a file"
    ):
        ModelSpec(pattern=space["Gone"]())


def test_the_file_of_its_weights_is_read_back(tmp_path, monkeypatch):
    spec = ModelSpec(width=12, position=Randomized(Slope(0.25), 64), normalizer=Halves(), pattern=Near())
    path = tmp_path / "w.safetensors"
    save(path, build(spec, 11, 0), spec)
    for expected in (None, spec):
        model, found = load(path, expected)
        assert model.spec == found == spec
        assert torch.equal(model(TOKENS), logits(spec))
    monkeypatch.setattr(Slope, "__source__", "class Slope: another")
    with pytest.raises(ValueError, match=r"spec has a .*Slope; allowed are the specs of this version"):
        load(path)


def cube(scores):
    return scores**3


@dataclass
class Thawed:
    def bias(self, q_positions, k_positions):
        return None


def made(name, result):
    """Return a value of an own class whose method returns what `result` makes of its arguments."""

    @dataclass(frozen=True)
    class Wrong:
        pass

    setattr(Wrong, name, lambda self, *arguments: result(*arguments))
    Wrong.__source__ = ""
    return Wrong()


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("position", "rope", "position is 'rope'; allowed is one of lcbook.models.positions, or a frozen"),
        ("position", Slope, "position is <class .*Slope'>; allowed is one of"),
        ("position", Halves(), r"position is Halves\(\); allowed is one of"),
        ("position", Thawed(), r"position is Thawed\(\); allowed is one of"),
        ("normalizer", cube, "normalizer is <function cube .*; allowed are softmax, .*, or a frozen dataclass with"),
        ("normalizer", Near(), r"normalizer is Near\(window=3\); allowed are softmax"),
        ("pattern", "full", "pattern is 'full'; allowed is one of lcbook.attention.patterns, or a frozen"),
        ("pattern", Window, "pattern is <class .*Window'>; allowed is one of"),
        ("position", RoPE(), "head_dim must be a positive even integer .*, got 7"),
        ("position", Sinusoidal(), "width must be a positive even integer .*, got 7"),
        ("position", made("add", lambda x, p: x[0]), r"add of .* is of shape \(3, 7\); allowed is shape \(1, 3, 7\)"),
        ("position", made("rotate", lambda q, k, *p: q), r"rotate of .* is of shape .*; allowed is a tuple of q and k"),
        ("position", made("bias", lambda q, k: torch.zeros(3, 2)), r"bias of .* is of shape \(3, 2\); allowed is what"),
        ("normalizer", made("weights", lambda s: s.sum(-1)), r"weights of .* is of shape \(2,\); allowed is shape"),
        ("normalizer", made("weights", lambda s: 0 * s + 0.5), "weight of a hidden key of .* is nan; allowed is 0"),
        ("normalizer", made("weights", torch.ones_like), "weight of a hidden key of .* is 1.0; allowed is 0"),
        ("pattern", made("mask", lambda q, k: q - k), "mask of .* is torch.int64; allowed is torch.bool"),
        ("pattern", made("mask", lambda q, k: q > k), r"mask of .* is 'blind at \[0\]'; allowed is a key in sight"),
        ("pattern", made("mask", lambda q, k: True), "mask of .* is True; allowed is what broadcasts to"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named_at_once(field, value, message, monkeypatch):
    monkeypatch.setattr(
        jaxtyping.config, "jaxtyping_disable", True
    )  # as for a reader, whom no type checker stops
    with pytest.raises(ValueError, match=message):
        ModelSpec(width=7, **{field: value})


CELLS = """
from dataclasses import dataclass
import torch
import lcbook as lc

@dataclass(frozen=True)
class Kerple:
    r: float = 1.0
    def bias(self, q, k):
        return -self.r * torch.log1p((q[:, :, None] - k[:, None]).abs()).unsqueeze(1)

task = lc.KeyValueRecall(pairs=2, queries=2, keys=5, values=5, filler=5)
base = lc.Spec(lc.ModelSpec(width=8), task, lc.TrainSpec(length=16, updates=3, batch=8))
runs = lc.grid(base, {"model.position": [Kerple()]}, seeds=2)
frame = lc.run(runs, name="own", lengths=[16], workers=2)
assert len(frame) == 2 and (frame["total"] > 0).all(), frame
assert {*frame["arm"], *frame["model.position"]} == {"Kerple(r=1.0)"}, frame
import lcbook.experiments.train
lcbook.experiments.run.train = None  # what is trained is read back
model, _ = lc.trained_model(runs[1])
assert model.spec.position == Kerple()
"""


@pytest.mark.slow
def test_a_class_of_a_notebooks_cell_trains_in_workers_and_is_cached(tmp_path):
    """IPython runs the cell as a notebook does: its classes are of a module without a file."""
    script = tmp_path / "notebook.py"
    script.write_text(
        "from IPython.core.interactiveshell import InteractiveShell\n"
        f"assert InteractiveShell.instance().run_cell({CELLS!r}).success\n",
        encoding="utf8",
    )
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
