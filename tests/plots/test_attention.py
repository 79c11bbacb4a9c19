"""What the figures of layers, rates and heads draw is what was recalled and attended to."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.axes import Axes

from lcbook import plots, stats
from lcbook.plots import SMALL
from tests.drawn import dots, lines_of, near, segments, thick, ticks, xy


def hopped(hops=(1, 2, 3), layers=(1, 2, 4), seeds=5) -> pd.DataFrame:
    """Seed s answers 94 + s of 101 where there are more layers than hops, else 10 + s."""
    rows = [
        {"model.layers": n, "hops": k, "seed": s, "correct": (94 if n > k else 10) + s, "total": 101}
        for n in layers
        for k in hops
        for s in range(seeds)
    ]
    frame = pd.DataFrame(rows).assign(chance=1 / 8)
    return frame.assign(arm=frame["model.layers"].map("{} layers".format))


def rated(seeds=3) -> pd.DataFrame:
    """Two arms whose best rates are 0.003 and 0.01; each model has two rows, since it was tested at two lengths."""
    best = {"attention": 0.003, "delta": 0.01}
    rows = [
        {"arm": arm, "train.lr": lr, "seed": seed, "in_distribution": (0.9 if lr == best[arm] else 0.4) + seed / 100}
        for arm in best
        for lr in (0.01, 0.001, 0.003)
        for seed in range(seeds)
        for _ in range(2)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def maps(layers=2, heads=3, queries=5, keys=7) -> list[torch.Tensor]:
    """Causal weights [heads, t, s] a layer, from a fixed draw."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(layers, heads, queries, keys, generator=generator)
    seen = torch.ones(queries, keys).tril(keys - queries).bool()
    return list(scores.masked_fill(~seen, -torch.inf).softmax(-1))


def rings(ax: Axes) -> list[tuple[float, float]]:
    return [point for line in ax.lines if line.get_markerfacecolor() == "none" for point in xy(line)]


def test_hops_have_a_panel_each_with_a_dot_a_seed_the_mean_its_interval_and_chance():
    frame = hopped(hops=(3, 1, 2)).sample(frac=1, random_state=0).sort_values("hops", ascending=False)
    axes = plots.hops_by_layers(frame)
    assert [ax.get_title("left") for ax in axes] == ["1 hop", "2 hops", "3 hops"]
    table = stats.recall(frame, ["hops", "model.layers"])
    for hop, ax in zip((1, 2, 3), axes, strict=True):
        part = table[table["hops"] == hop].sort_values("model.layers")
        (mean,) = [line for line in ax.lines if line.get_linewidth() == 1.6]
        assert xy(mean) == near(zip(part["model.layers"], part["recall"], strict=True))
        ends = zip(part["model.layers"], part["low"], part["model.layers"], part["high"], strict=True)
        assert segments(ax) == near(ends)
        want = [((94 if n > hop else 10) + s) / 101 for n in (1, 2, 4) for s in range(5)]
        assert sorted(y for _, y in dots(ax)) == pytest.approx(sorted(want))
        assert {round(x) for x, _ in dots(ax)} == {1, 2, 4}
        assert len({x for x, _ in dots(ax)}) == 15, "the seeds lie side by side"
        assert lines_of(ax, ":") == [[(0, 1 / 8), (1, 1 / 8)]]
    assert plots.alt(axes).startswith(
        "1 hop: recall by the number of layers 11.9 % with 1, 95 % with 2, 95 % with 4; chance 12.5 %. 2 hops:"
    )


def test_any_number_of_hops_has_its_panels():
    assert len(plots.hops_by_layers(hopped(hops=(1, 2, 3, 4, 5)))) == 5
    assert len(plots.hops_by_layers(hopped(hops=(2,), seeds=1))) == 1


def test_recall_by_rate_counts_each_model_once():
    frame = rated()
    frame.loc[len(frame)] = ["delta", 0.003, 3, 0.95]  # a fourth seed at one rate, with a single row
    ax = plots.recall_by_rate(frame)
    assert ax.get_xscale() == "log"
    lines = thick(ax)
    assert [list(line.get_ydata()) for line in lines] == [
        pytest.approx([0.41, 0.91, 0.41]),
        pytest.approx([0.41, (0.40 + 0.41 + 0.42 + 0.95) / 4, 0.91]),
    ]
    for line in lines:
        assert np.asarray(line.get_xdata()) == pytest.approx([0.001, 0.003, 0.01], rel=0.03)
    assert len(dots(ax)) == 9 + 10
    assert ticks(ax, "x") == ["0.001", "0.003", "0.01"]
    assert "attention 91 % at 0.003; delta 91 % at 0.01" in plots.alt(ax)
    assert not lines_of(ax, ":")
    ax = plots.recall_by_rate(frame.assign(chance=0.25))
    assert lines_of(ax, ":") == [[(0, 0.25), (1, 0.25)]]


def test_map_gallery_draws_every_head_in_one_scale_and_rings_places():
    found, words = maps(), list("abcdefg")
    axes = plots.map_gallery(found, words, mark=[(3, 1), (6, 5)])
    assert [ax.get_title("left") for ax in axes] == [
        f"layer {layer}, head {head}" for layer in (1, 2) for head in (1, 2, 3)
    ]
    flat = [one.numpy() for layer in found for one in layer]
    for ax, one in zip(axes, flat, strict=True):
        (image,) = ax.images
        assert np.asarray(image.get_array()) == pytest.approx(one)
        assert image.get_clim() == pytest.approx((0, max(map(np.max, flat))))
        assert rings(ax) == [(1, 1), (5, 4)], "queries are the last 5 of 7 tokens"
    assert [text.get_text() for text in axes[3].get_xticklabels()] == words
    assert [text.get_text() for text in axes[0].get_yticklabels()] == words[2:]
    assert [len(ax.get_xticks()) for ax in axes[:3]] == [0, 0, 0], "names at the outer panels alone"
    assert [len(ax.get_yticks()) for ax in axes] == [5, 0, 0, 5, 0, 0]
    row, key = np.unravel_index(flat[4].argmax(), flat[4].shape)
    said = (
        f"Layer 2, head 2: the largest weight, {flat[4].max():.2f}, is that of query {row + 2} on key {key}; "
    )
    mean = (flat[4][1, 1] + flat[4][4, 5]) / 2
    assert f"{said}the weight in the rings is {mean:.2f} on average." == plots.alt(axes[4])
    assert "ring" not in plots.alt(plots.map_gallery(found, words))


@pytest.mark.parametrize(
    ("layers", "heads", "columns"), [(2, 1, 2), (1, 1, 1), (2, 4, 4), (1, 5, 3), (4, 1, 3), (3, 2, 2)]
)
def test_a_layer_is_a_row_where_its_heads_fit(layers, heads, columns):
    axes = plots.map_gallery(maps(layers, heads), list("abcdefg"))
    assert len(axes) == layers * heads
    assert axes[0].get_subplotspec().get_gridspec().ncols == columns


@pytest.mark.parametrize(("tokens", "heads", "shown"), [(24, 1, True), (25, 1, False), (24, 3, False)])
def test_tokens_are_named_where_they_are_legible(tokens, heads, shown):
    ax = plots.map_gallery(maps(1, heads, tokens, tokens), ["k1"] * tokens)[0]
    assert (len(ax.get_xticks()) == len(ax.get_yticks()) == tokens) is shown
    assert all(7 <= text.get_fontsize() <= SMALL for text in ax.get_xticklabels())


def test_names_that_would_touch_are_turned():
    turned = [
        plots.map_gallery(maps(1, 2, 7, 7), [word] * 7)[0].get_xticklabels()[0].get_rotation()
        for word in ("a", "abcdefgh")
    ]
    assert turned == [0, 90]


def two_arms() -> pd.DataFrame:
    return pd.concat([hopped(), hopped().assign(arm="key shift")])


WORDS = list("abcdefg")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plots.hops_by_layers(hopped().drop(columns="hops")), r"lacks the columns \['hops'\]"),
        (lambda: plots.hops_by_layers(hopped()[:0]), "has no rows"),
        (lambda: plots.hops_by_layers(two_arms()), "table has 2 arms at 1 hops and 1 layers; allowed"),
        (lambda: plots.hops_by_layers(hopped().assign(probe=["a", "b", "c"] * 15)), "mixes the probes"),
        (lambda: plots.recall_by_rate(rated().drop(columns="train.lr")), r"lacks the columns \['train.lr'\]"),
        (lambda: plots.recall_by_rate(rated().assign(**{"train.lr": 0.0})), "train.lr has 0; allowed on a log"),
        (lambda: plots.recall_by_rate(rated().assign(**{"train.lr": 0.1})), "has 2 values for 'attention', rate"),
        (lambda: plots.map_gallery([], WORDS), r"maps has the shapes \[\]"),
        (lambda: plots.map_gallery([maps()[0], maps(queries=3)[0]], WORDS), "maps has the shapes"),
        (lambda: plots.map_gallery([torch.ones(7, 7)], WORDS), r"maps has the shapes \[\(7,\)"),
        (lambda: plots.map_gallery(maps(queries=7, keys=5), WORDS), r"allowed is one shape \[t, s\]"),
        (lambda: plots.map_gallery(maps(), WORDS[:5]), "labels has 5 names; allowed are 7"),
        (lambda: plots.map_gallery(maps(), WORDS, mark=[(1, 0)]), r"mark has \(1, 0\); allowed are queries 2 to 6"),
        (lambda: plots.map_gallery(maps(), WORDS, mark=[(2, 7)]), r"mark has \(2, 7\); .* keys 0 to 6"),
    ],
)  # fmt: skip
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
    assert not plt.get_fignums(), "no empty figure is left behind"
