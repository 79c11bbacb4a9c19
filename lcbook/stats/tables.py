"""Tables that the chapters show: frames in, frames out. Their numbers come from the modules beside this one."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pandas as pd

from lcbook.stats import survival
from lcbook.stats.bootstrap import median_n50, n50_table, tost
from lcbook.stats.clustered import clustered_recall, interval, length_of
from lcbook.stats.effective import RULES, effective_table
from lcbook.stats.estimate import Estimate, require_columns, wilson
from lcbook.stats.rankings import reversals

PAST_GATE = ["past the gate", "updates to it"]
SAME = 0.01  # of recall: forms that differ by less are equal for our purposes


def recall_gap(frame: pd.DataFrame, one: str, other: str, *, by: str = "seed") -> pd.Series:
    """Return the recall of arm `one` less that of arm `other`, in points, for each value of `by` (NaN without both).

    Raises ValueError for missing columns or no rows.
    """
    require_columns(frame, [by, "arm", "correct", "total"])
    sums = frame.groupby([by, "arm"])[["correct", "total"]].sum()
    recall = (100 * sums["correct"] / sums["total"]).unstack().reindex(columns=[one, other])
    return (recall[one] - recall[other]).rename("points")


def exact_forms(frame: pd.DataFrame) -> pd.DataFrame:
    """Return what each probe of a form of attention changes beside the first probe: one row each, in words.

    Columns recall, changed (share of answers), logits (largest difference) and "TOST p", that recall by seed lies
    within a hundredth of the first probe's ("equal" where no seed differs). Raises ValueError for missing columns
    (probe, seed, correct, total, changed, logit_difference).
    """
    require_columns(frame, ["probe", "seed", "correct", "total", "changed", "logit_difference"])
    sums = frame.groupby("probe", sort=False)[["correct", "changed", "total"]].sum()
    moved = frame.groupby("probe", sort=False)["logit_difference"].max()
    seeds = frame.assign(recall=frame["correct"] / frame["total"]).pivot(
        index="seed", columns="probe", values="recall"
    )
    apart = [seeds[name] - seeds[sums.index[0]] for name in sums.index]
    same = ["equal" if not one.any() else f"{tost(one, SAME):.2g}" if len(one) > 1 else "" for one in apart]
    recall, changed = (
        (100 * sums[name] / sums["total"]).map("{:.1f} %".format) for name in ("correct", "changed")
    )
    found = {"recall": recall, "changed": changed, "logits": moved.map("{:.1g}".format), "TOST p": same}
    table = pd.DataFrame(found).rename_axis("form")
    table.loc[table.index[0], ["logits", "TOST p"]] = ""
    return table


def probes_as_arms(frame: pd.DataFrame, arms: Mapping[str, str]) -> pd.DataFrame:
    """Return the rows of the probes that `arms` names, each an arm of that name; each arm becomes a seed.

    So that a figure or a claim compares what was asked, and models are what it generalizes over.
    """
    rows = frame[frame["probe"].isin(list(arms))]
    return rows.assign(seed=rows["arm"], arm=rows["probe"].map(arms), probe="")


def benchmarks(scores: pd.DataFrame) -> pd.DataFrame:
    """Return the recall in per cent of each model (rows) by benchmark (columns), and its text loss in nats.

    `scores` is a frame of `rankings.benchmark_scores`.
    """
    by = scores[scores["total"] > 0].groupby(["model", "benchmark"], sort=False)[["correct", "total"]].sum()
    recall = (100 * by["correct"] / by["total"]).unstack().round(0).astype(int)
    loss = -scores[scores["total"] == 0].groupby("model", sort=False)["score"].mean()
    return _bare(recall.assign(**{"text loss": loss.round(2)}))


def swaps(scores: pd.DataFrame, benchmarks: Mapping[str, str], most: int = 12) -> pd.DataFrame:
    """Return the pairs of models that two benchmarks order differently, as `rankings.reversals`, widest swap first.

    `benchmarks` says of either what it is, as in {"needle": "in filler"}. Differences are in points.
    """
    a, b = benchmarks
    found = reversals(scores, a, b)
    ahead, behind = 100 * found["difference_a"], -100 * found["difference_b"]
    table = pd.DataFrame(
        {
            f"better {benchmarks[a]}": found["first"],
            f"better {benchmarks[b]}": found["second"],
            f"ahead {benchmarks[a]} (points)": ahead.round(0),
            f"behind {benchmarks[b]} (points)": behind.round(0),
        }
    )
    return table.loc[np.minimum(ahead, behind).nlargest(most).index]


def effective_lengths(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the effective length of each arm (rows) by each rule (columns), with its interval, in words."""
    found = effective_table(frame)
    shown = [
        length_of(Estimate(row["length"], row["low"], row["high"], row["censored"]))
        for row in found.to_dict(orient="records")
    ]
    return _bare(found.assign(shown=shown).pivot(index="arm", columns="rule", values="shown")[list(RULES)])


def clustered(frame: pd.DataFrame, rows: str, columns: str) -> pd.DataFrame:
    """Return the recall of requests, with its interval over samples, by two columns of `frame`, in words."""
    found = clustered_recall(frame, [rows, columns])
    return found.assign(shown=found.apply(interval, axis=1)).pivot(
        index=rows, columns=columns, values="shown"
    )


def recall(frame: pd.DataFrame, rows: str | Sequence[str], column: str) -> pd.DataFrame:
    """Return the recall in per cent, rounded, of `rows` by `column`, both in order of appearance."""
    keys = [rows] if isinstance(rows, str) else list(rows)
    sums = frame.groupby([*keys, column], sort=False)[["correct", "total"]].sum()
    return (100 * sums["correct"] / sums["total"]).round().astype(int).unstack(sort=False)


def split_arms(frame: pd.DataFrame, *columns: str) -> pd.DataFrame:
    """Return the frame with the parts of its arms' names, "RoPE, fixed", as columns of these names."""
    parts = frame["arm"].str.split(", ", n=len(columns) - 1, expand=True).reindex(columns=range(len(columns)))
    return frame.assign(**{name: parts[i] for i, name in enumerate(columns)})


def by_segments(frame: pd.DataFrame, segment: int) -> pd.DataFrame:
    """Return the answers of each arm, seed, number of pairs (`facts`) and length in `segments` of so many tokens."""
    keys = ["arm", "seed", "asked.pairs", "length", "chance"]
    pooled = frame.groupby(keys, sort=False)[["correct", "total"]].sum().reset_index()
    return pooled.rename(columns={"asked.pairs": "facts"}).assign(segments=pooled["length"] // segment)


def n50_by(frame: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Return the median over seeds of n50 (tokens, 0 or inf beyond the tested lengths): columns `by` and n50."""
    found = [(*key, median_n50(part)) for key, part in frame.groupby(list(by))]
    return pd.DataFrame(found, columns=[*by, "n50"])


def escapes(frame: pd.DataFrame) -> pd.DataFrame:
    """Return for each arm its learning rate, how many seeds passed the gate and when, and its recall by length."""
    rate = frame.groupby("arm", sort=False)["train.lr"].first().rename("rate")
    at = recall(frame, "arm", "length").map("{} %".format).add_prefix("recall at ")
    return _bare(_past_gate(frame).join(at).assign(rate=rate)[["rate", *PAST_GATE, *at.columns]])


def recipes(frame: pd.DataFrame) -> pd.DataFrame:
    """Return for each arm how many seeds passed the gate, when, and after how many seconds (median over seeds).

    An arm of which no seed passed has the seconds of its whole training.
    """
    seconds = frame.drop_duplicates(["arm", "seed"]).groupby("arm")[["seconds_to_gate", "seconds"]].median()
    table = _past_gate(frame)
    shown = [
        f"{whole:.1f}, not learned" if np.isnan(gate) else f"{gate:.1f}"
        for gate, whole in seconds.loc[table.index].itertuples(index=False)
    ]
    return _bare(table.assign(**{"median seconds": shown}))


def shares(frame: pd.DataFrame) -> pd.DataFrame:
    """Return for each arm its recall by probe, the loss (nats) of probe "near", and seeds that recall half of "far"."""
    means = frame[frame["probe"] == "near"].groupby("arm", sort=False)["text_loss"].mean().round(3)
    far = frame[frame["probe"] == "far"]
    learned = (far["correct"] > 0.5 * far["total"]).groupby(far["arm"], sort=False).agg(["sum", "size"])
    counts = [f"{some} of {all_}" for some, all_ in learned.itertuples(index=False)]
    table = recall(frame, "arm", "probe").add_suffix(", %")
    table["short text loss, nats"] = means
    table["seeds over half of the far"] = pd.Series(counts, learned.index)
    return _bare(table)


def key_tokens(frame: pd.DataFrame, learned: Collection[int]) -> pd.DataFrame:
    """Return how well key tokens tell those that need the far text: shares in per cent, by probe.

    Models of the seeds in `learned` judge apart from the others. `needed` are tokens that need it, `key` those that the
    model picks; both as shares of all tokens, then the needed among the key, and the key among the needed.
    """
    judge = frame["seed"].isin(learned).map({True: "learned to look back", False: "did not"})
    counts = ["tokens", "known", "found", "both"]
    tokens, known, found, both = (
        frame.groupby([judge.rename("models that"), "probe"], sort=False)[counts].sum()[name]
        for name in counts
    )
    shown = {
        "needed, %": known / tokens,
        "key, %": found / tokens,
        "needed among key, %": both / found,
        "key among needed, %": both / known,
    }
    return (100 * pd.DataFrame(shown)).round(1).rename_axis(["models that", "far"]).reset_index()


def _past_gate(frame: pd.DataFrame) -> pd.DataFrame:
    """Return for each arm (rows) the seeds past the gate and the mean updates to it with its interval, in words."""
    found = survival.waits(frame)
    rows = [
        (f"{row.passed} of {row.seeds}", f"{Estimate(row.updates, row.low, row.high)}")
        for row in found.itertuples()
    ]
    return pd.DataFrame(rows, index=found.index, columns=PAST_GATE)


def log_odds(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the means by arm and length of log_odds, margin, variance and weight, and the formula for the first.

    The formula is margin - log(length - 1) - variance / 2, in nats: what the log odds are among distractors whose
    scores are normal.
    """
    found = frame.groupby(["arm", "length"])[["log_odds", "margin", "variance", "weight"]].mean()
    others = found.index.get_level_values("length") - 1
    return found.assign(formula=found["margin"] - np.log(others) - found["variance"] / 2)


def learned(frame: pd.DataFrame) -> tuple[int, int]:
    """Return how many of the models (arms and seeds) in a frame are `solved`, and how many there are."""
    solved = frame.groupby(["arm", "seed"])["solved"].any()
    return int(solved.sum()), len(solved)


def hurdle(frame: pd.DataFrame) -> pd.DataFrame:
    """Return both parts of a hurdle model for each arm, in words: how many seeds learned, and the n50 of those.

    Columns rate (train.lr), learned (with Wilson's interval), n50, longest text, and recall there over all seeds.
    """
    rows = []
    for arm, part in frame.groupby("arm", sort=False):
        passed, seeds = learned(part)
        low, high = wilson(passed, seeds)
        last = part[part["length"] == part["length"].max()]
        rows.append(
            {
                "map": arm,
                "rate": part["train.lr"].iloc[0],
                "learned": f"{passed} of {seeds} [{low:.2f}, {high:.2f}]",
                "n50 of those, tokens": _n50_of_learned(part) or "none learned",
                "longest text": f"{int(part['length'].max()):,}",
                "recall there": f"{100 * last['correct'].sum() / last['total'].sum():.0f} %",
            }
        )
    return _bare(pd.DataFrame(rows).set_index("map")).rename_axis("map", axis=1)


def hurdle_in_words(frame: pd.DataFrame, arms: Sequence[str]) -> str:
    """Return both parts of a hurdle model for those of `arms` that are there, as a list for a sentence."""
    said = []
    for arm in arms:
        part = frame[frame["arm"] == arm]
        passed, seeds = learned(part)
        reach = f", n50 {_n50_of_learned(part)}" if passed else ""
        said += [f"{arm} {passed} of {seeds} learned{reach}"] if seeds else []
    return "; ".join(said)


def _n50_of_learned(frame: pd.DataFrame) -> str:
    """Return n50 of the solved seeds of one arm, in tokens with its interval; "" where none is."""
    solved = frame[frame["solved"]]
    if solved.empty:
        return ""
    row = n50_table(solved).iloc[0]
    return str(Estimate(row["n50"], row["low"], row["high"], row["censored"]))


def forecasts(frame: pd.DataFrame) -> pd.DataFrame:
    """Return forecast and measured recall in per cent, and their distance, by arm, task and length, seeds pooled.

    From the counts predicted of asked and correct of total; what was not measured (total NaN) is left out.
    """
    counts = ["predicted", "asked", "correct", "total"]
    sums = frame[frame["total"].notna()].groupby(["arm", "task", "length"])[counts].sum()
    forecast, measured = 100 * sums["predicted"] / sums["asked"], 100 * sums["correct"] / sums["total"]
    return pd.DataFrame({"forecast": forecast, "measured": measured, "miss": (forecast - measured).abs()})


def _bare(table: pd.DataFrame) -> pd.DataFrame:
    """Return `table` without names over its rows and columns."""
    return table.rename_axis(None).rename_axis(None, axis=1)
