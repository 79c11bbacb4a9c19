"""The figures of the book: tidy frame in, axes out, with intervals, chance and training length.

Each function draws on `ax`, or on a new figure, and returns the axes; `alt` turns them into a sentence.
Bad input (an empty frame, a missing column) raises ValueError.
"""

from lcbook.plots._style import GREY, SMALL
from lcbook.plots.arms import ablations, interaction, recall_by_arm
from lcbook.plots.attention import hops_by_layers, map_gallery, recall_by_rate
from lcbook.plots.capacity import capacity_by_state
from lcbook.plots.costs import cost_panels, roofline
from lcbook.plots.depth import depth_panels, recall_by_depth, share_curve
from lcbook.plots.dilution import (
    calibration,
    escape_and_reach,
    forecast_panels,
    log_odds_by_length,
    seconds_and_memory,
    weights_by_rank,
)
from lcbook.plots.dose import dose, n50_bars
from lcbook.plots.evaluation import (
    heat_map,
    rank_lines,
    recall_grid,
    rules_on_curve,
    samples_needed,
    tau_matrix,
    variance_bars,
)
from lcbook.plots.patterns import found_and_right, keys_and_recall, pattern_gallery
from lcbook.plots.positions import phase_table, phases
from lcbook.plots.recall import (
    alt,
    recall_at_each_length,
    recall_beside,
    recall_by,
    recall_by_length,
    recall_by_load,
    recall_by_segments,
    recall_by_share,
    recall_within_reach,
    text_loss_and_recall,
)
from lcbook.plots.training import (
    ablation_forest,
    escape_curves,
    learning_curves,
    length_interaction,
    loss_by_length,
)

__all__ = [
    "GREY", "SMALL",
    "ablation_forest", "ablations", "alt", "calibration", "capacity_by_state", "cost_panels", "depth_panels",
    "dose", "escape_and_reach", "escape_curves", "forecast_panels", "found_and_right", "heat_map",
    "hops_by_layers", "interaction", "keys_and_recall", "learning_curves", "length_interaction",
    "log_odds_by_length", "loss_by_length", "map_gallery", "n50_bars", "pattern_gallery", "phase_table",
    "phases", "rank_lines", "recall_at_each_length", "recall_beside", "recall_by", "recall_by_arm",
    "recall_by_depth", "recall_by_length", "recall_by_load", "recall_by_rate", "recall_by_segments",
    "recall_by_share", "recall_grid", "recall_within_reach", "roofline", "rules_on_curve", "samples_needed",
    "seconds_and_memory", "share_curve", "tau_matrix", "text_loss_and_recall", "variance_bars",
    "weights_by_rank",
]  # fmt: skip
