"""The menu of mixers: state sizes worked by hand, names that tell them apart, and bad options named."""

from __future__ import annotations

import pytest

from lcbook.attention.patterns import Window
from lcbook.formats import label
from lcbook.models.mixers import (
    Additive,
    Attending,
    CompressiveMemory,
    DeltaRule,
    Differential,
    ForgettingGate,
    GatedDeltaRule,
    LearnedSink,
    LinearAttention,
    RecurrentMemory,
    SegmentRecurrence,
    Selective,
    Softmax,
)
from lcbook.models.positions import RoPE
from lcbook.models.spec import ModelSpec

# two layers of three heads with width 5 each; tests/test_model_mixers.py counts what is handed on
SIZES = {
    Softmax(): 2 * (3 * 5 + 3 * 5) * 11,
    LearnedSink(): 2 * (3 * 5 + 3 * 5) * 11,
    ForgettingGate(): 2 * (3 * 5 + 3 * 5) * 11,
    Differential(): 2 * (3 * 5 + 3 * 5) * 11,
    Differential(start=0.5): 2 * (3 * 5 + 3 * 5) * 11,
    Selective(): 2 * (3 * 5 + 3 * 5) * 11,
    LinearAttention(): 2 * 3 * (5 * 5 + 5),
    LinearAttention(key_dim=7): 2 * 3 * (7 * 5 + 7),
    Additive(): 2 * 3 * 5 * 5,
    Additive(key_dim=7): 2 * 3 * 7 * 5,
    DeltaRule(key_dim=2): 2 * 3 * 2 * 5,
    GatedDeltaRule(key_dim=2): 2 * 3 * 2 * 5,
    GatedDeltaRule(): 2 * 3 * 5 * 5,
    SegmentRecurrence(segment=4): 2 * 4 * 15,
    CompressiveMemory(segment=4): 2 * 3 * (5 * 5 + 5),
    CompressiveMemory(segment=7, delta=True): 2 * 3 * (5 * 5 + 5),
    RecurrentMemory(segment=4, memory=3): 3 * 15,
    RecurrentMemory(segment=4, memory=0): 0,
}


@pytest.mark.parametrize("mixer", SIZES, ids=label)
def test_state_sizes_worked_by_hand(mixer):
    spec = ModelSpec(layers=2, width=15, heads=3, mixer=mixer)
    assert spec.state_size(11) == SIZES[mixer]
    with pytest.raises(ValueError, match="length is 0; allowed is 1 or more"):
        spec.state_size(0)


def test_only_attention_over_all_keys_keeps_more_of_a_longer_text():
    for mixer in SIZES:
        spec = ModelSpec(layers=2, width=15, heads=3, mixer=mixer)
        growth = spec.state_size(1009) - spec.state_size(11)
        assert growth == (998 * 60 if isinstance(mixer, Softmax | Attending) else 0)
    # one key-value head of five for four query heads
    assert ModelSpec(width=20, heads=4, kv_heads=1).state_size(11) == 2 * 5 * 11


def test_labels_tell_mixers_apart():
    assert len({label(mixer) for mixer in SIZES}) == len(SIZES)
    assert label(Softmax()) == "attention"
    assert label(LearnedSink()) == "learned sink"
    assert label(ForgettingGate()) == "forgetting attention"
    assert label(Differential()) == "differential attention"
    assert label(Differential(0.25)) == "differential attention, lambda 0.25"
    assert label(Selective()) == "selective attention"
    assert label(DeltaRule()) == "delta rule"
    assert label(GatedDeltaRule(7)) == "gated delta rule, keys of 7"
    assert label(SegmentRecurrence(4)) == "Transformer-XL, segments of 4"
    assert label(CompressiveMemory(4)) == "compressive memory, segments of 4"
    assert label(CompressiveMemory(4, delta=True)) == "compressive memory, delta, segments of 4"
    assert label(RecurrentMemory(4, 3)) == "RMT, 3 memory tokens, segments of 4"


@pytest.mark.parametrize("mixer", [LinearAttention, Additive, DeltaRule, GatedDeltaRule])
def test_impossible_keys_are_named(mixer):
    with pytest.raises(ValueError, match=r"key_dim is -1; allowed is 0 \(the head width\) or more"):
        mixer(key_dim=-1)


@pytest.mark.parametrize("start", [-0.1, 1, 1.5, float("nan")])
def test_an_impossible_start_of_lambda_is_named(start):
    with pytest.raises(ValueError, match=rf"start is {start}; allowed is 0 or more, below 1"):
        Differential(start)
    assert Differential(0).start == 0


@pytest.mark.parametrize("mixer", [SegmentRecurrence, CompressiveMemory, RecurrentMemory])
def test_impossible_segments_are_named(mixer):
    with pytest.raises(ValueError, match="segment is 0; allowed is 1 or more"):
        mixer(segment=0)
    with pytest.raises(ValueError, match="memory is -1; allowed is 0 or more"):
        RecurrentMemory(memory=-1)


@pytest.mark.parametrize(
    "mixer",
    [
        DeltaRule(),
        LinearAttention(7),
        SegmentRecurrence(),
        CompressiveMemory(),
        RecurrentMemory(),
        LearnedSink(),
        ForgettingGate(),
        Differential(),
        Selective(),
    ],
    ids=label,
)
def test_options_that_a_mixer_does_not_take_are_named(mixer):
    base = {"layers": 2, "width": 12, "heads": 6, "mixer": mixer}
    for wrong, named in (
        ({"kv_heads": 2}, "kv_heads is 2 with .*; allowed is 0"),
        ({"kv_heads": 6}, "kv_heads is 6 with .*; allowed is 0"),
        ({"position": RoPE()}, r"position is RoPE\(.*; allowed is NoPosition\(\)"),
        ({"normalizer": "log-n softmax"}, "normalizer is log-n softmax with .*; allowed is softmax"),
        ({"pattern": Window(5)}, r"pattern is Window\(.*; allowed is Full\(\)"),
        ({"full_layers": (1,)}, r"full_layers is \(1,\) with .*; allowed is \(\)"),
        ({"separator": 3}, r"separator is 3 with .*; allowed is None"),
    ):
        with pytest.raises(ValueError, match=named) as raised:
            ModelSpec(**base, **wrong)
        assert f"with {mixer}" in str(raised.value)
    assert ModelSpec(**base, key_shift=False, mlp=5).mixer == mixer


def test_only_a_recurrence_scales_in_its_own_way():
    for mixer in (LinearAttention(), Additive(), DeltaRule(), GatedDeltaRule()):
        with pytest.raises(ValueError, match=r"qk_norm is False with .*; allowed is True"):
            ModelSpec(mixer=mixer, qk_norm=False)
    attending = (Softmax(), LearnedSink(), ForgettingGate(), Differential(), Selective())
    for mixer in (*attending, SegmentRecurrence(), CompressiveMemory(), RecurrentMemory()):
        assert not ModelSpec(mixer=mixer, qk_norm=False).qk_norm
