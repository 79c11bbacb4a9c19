"""What holds for every figure: it draws on the axes given, says what it shows, and is legible on a phone."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text

from lcbook import plots, stats
from lcbook.attention.costs import Machine

# One frame with the columns of every figure: recall falls with the length, from the second arm on more slowly.
ROWS = [
    {"arm": arm, "seed": seed, "length": n, "gap": n // 2, "pairs": n // 16, "segments": n // 64, "depth": depth,
     "share": depth, "correct": max(3, 97 - 9 * i * (3 - k) - seed), "total": 101, "chance": 1 / 17,
     "train.lr": n / 1e5, "in_distribution": (97 - seed) / 101 - n / 1e4, "train.length": 64, "selected": 98,
     "correct_selected": 3,
     "keys": 8 * (1 + k), "solved": True, "log_odds": 4.0 - i, "margin": 9.0, "variance": 1.5, "text_loss": 2.0 + i / 9,
     "updates": 1000, "updates_to_gate": 100.0 * (k + 1) + seed, "seconds": 1e-6 * n, "flops": 100 * n, "bytes": 32 * n,
     "predicted": 90 - 9 * i, "asked": 101, "benchmark": f"test {i}", "model": arm, "hops": 1, "side": i % 2}
    for k, arm in enumerate(("softmax", "log-n softmax"))
    for seed in range(3)
    for i, (n, depth) in enumerate(((64, 0.0), (128, 0.25), (512, 0.5), (2048, 0.75)))
]  # fmt: skip
TIDY = pd.DataFrame(ROWS)
N50 = stats.n50_table(TIDY.assign(rule=TIDY["arm"], state=64), ["rule", "state"]).rename(
    columns={"n50": "k50"}
)
TAUS = pd.DataFrame(
    [("a", "b", 0.6, 0.2, 0.9), ("a", "c", -0.1, -0.5, 0.3)], columns=["a", "b", "tau", "low", "high"]
)
SHARES = pd.DataFrame(
    {"source": ["depth", "sampling"], "share": [0.8, 0.2], "low": [0.7, 0.1], "high": [0.9, 0.3]}
)
FIGURES = {
    "ablation_forest": lambda ax: plots.ablation_forest(TIDY, "softmax", ax=ax),
    "calibration": lambda ax: plots.calibration(TIDY, hue="arm", ax=ax),
    "capacity_by_state": lambda ax: plots.capacity_by_state(N50, ax=ax),
    "dose": lambda ax: plots.dose(TIDY, x="pairs", y="text_loss", hue="arm", expected=1, ax=ax),
    "escape_curves": lambda ax: plots.escape_curves(TIDY, ax=ax),
    "found_and_right": lambda ax: plots.found_and_right(TIDY, ax=ax),
    "heat_map": lambda ax: plots.heat_map(TIDY, arm="softmax", y="depth", ax=ax),
    "interaction": lambda ax: plots.interaction(TIDY, x="side", ax=ax),
    "keys_and_recall": lambda ax: plots.keys_and_recall(TIDY[TIDY["length"] == 64], ax=ax),
    "length_interaction": lambda ax: plots.length_interaction(TIDY, rows="arm", hue="hops", ax=ax),
    "log_odds_by_length": lambda ax: plots.log_odds_by_length(TIDY, ax=ax),
    "n50_bars": lambda ax: plots.n50_bars(TIDY, ax=ax),
    "phases": lambda ax: plots.phases(16, 100, 64, 512, ax=ax),
    "rank_lines": lambda ax: plots.rank_lines(TIDY, ax=ax),
    "recall_at_each_length": lambda ax: plots.recall_at_each_length(TIDY, mark=512, period=200, ax=ax),
    "recall_by": lambda ax: plots.recall_by(TIDY, x="pairs", ax=ax),
    "recall_by_arm": lambda ax: plots.recall_by_arm(TIDY, mark=(0.5, "half"), ax=ax),
    "recall_by_depth": lambda ax: plots.recall_by_depth(TIDY, ax=ax),
    "recall_by_length": lambda ax: plots.recall_by_length(TIDY, ax=ax),
    "recall_by_load": lambda ax: plots.recall_by_load(TIDY, ax=ax),
    "recall_by_rate": lambda ax: plots.recall_by_rate(TIDY, ax=ax),
    "recall_by_segments": lambda ax: plots.recall_by_segments(TIDY, ax=ax),
    "recall_by_share": lambda ax: plots.recall_by_share(TIDY, x="share", xlabel="Share", ax=ax),
    "recall_grid": lambda ax: plots.recall_grid(TIDY, train_length=128, ax=ax),
    "recall_within_reach": lambda ax: plots.recall_within_reach(TIDY, reach={"softmax": 64}, ax=ax),
    "roofline": lambda ax: plots.roofline(TIDY, Machine(1e9, 1e7), ax=ax),
    "rules_on_curve": lambda ax: plots.rules_on_curve(TIDY[TIDY["arm"] == "softmax"], ax=ax),
    "samples_needed": lambda ax: plots.samples_needed(ax=ax),
    "tau_matrix": lambda ax: plots.tau_matrix(TAUS, ax=ax),
    "variance_bars": lambda ax: plots.variance_bars(SHARES, ax=ax),
    "weights_by_rank": lambda ax: plots.weights_by_rank({"softmax": [0.1, 0.9], "top-1": [0.0, 1.0]}, ax=ax),
}
PAIRS = {
    "depth_panels": lambda ax: plots.depth_panels(TIDY, {"softmax": (), "log-n softmax": (1, 2)}, ax=ax),
    "escape_and_reach": lambda ax: plots.escape_and_reach(TIDY, ax=ax),
    "loss_by_length": lambda ax: plots.loss_by_length(
        TIDY.assign(update=TIDY["seed"], trained_at=64, loss=1.0), "softmax", ax=ax
    ),
    "share_curve": lambda ax: plots.share_curve(TIDY, ax=ax),
    "text_loss_and_recall": lambda ax: plots.text_loss_and_recall(TIDY, ax=ax),
}
PANELS = {
    "hops_by_layers": lambda ax: plots.hops_by_layers(
        TIDY.assign(arm="a", **{"model.layers": TIDY["length"]})
    ),
    "forecast_panels": lambda ax: plots.forecast_panels(TIDY),
    "seconds_and_memory": lambda ax: plots.seconds_and_memory(TIDY.assign(peak_bytes=2**20)),
}


@pytest.mark.parametrize("draw", (FIGURES | PAIRS | PANELS).values(), ids=FIGURES | PAIRS | PANELS)
def test_readable_on_a_phone(draw):
    axes = np.ravel(np.asarray(draw(None), dtype=object))
    figure = axes[0].get_figure()
    figure.canvas.draw()
    assert figure.get_figwidth() <= 6.4
    shown = [text for text in figure.findobj(Text) if text.get_text() and text.get_visible()]
    assert min(text.get_fontsize() for text in shown) >= 9.5
    for ax in axes:
        assert ax.get_label().endswith("."), "it says what it shows"
        for text in (*ax.texts, *ax.get_yticklabels()):
            extent = text.get_window_extent()
            inside = extent.x0 >= -1 and extent.x1 <= figure.bbox.x1 + 1
            assert inside or not text.get_text() or not text.get_visible(), text.get_text()


@pytest.mark.parametrize("draw", FIGURES.values(), ids=FIGURES)
def test_draws_on_the_axes_given(draw):
    figure, ax = plt.subplots()
    assert draw(ax) is ax
    assert ax in figure.axes
    assert plt.get_fignums() == [figure.number]


@pytest.mark.parametrize("draw", PAIRS.values(), ids=PAIRS)
def test_draws_on_the_pair_given(draw):
    figure, axes = plt.subplots(2)
    assert list(draw(axes)) == list(axes)
    assert plt.get_fignums() == [figure.number]
    with pytest.raises(ValueError, match="ax has 3 axes; allowed are two"):
        draw(plt.subplots(3)[1])
