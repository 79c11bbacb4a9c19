"""Tables that the chapters show, against rows worked by hand."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from lcbook.stats import median_n50, tables


def asked(**columns: list) -> pd.DataFrame:
    return pd.DataFrame(columns)


def test_the_gap_between_two_arms_is_paired_by_seed():
    frame = asked(
        arm=["a", "a", "b", "a", "b"], seed=[0, 0, 0, 1, 1], correct=[1, 2, 1, 3, 4], total=[2, 2, 4, 4, 4]
    )
    assert tables.recall_gap(frame, "a", "b").to_dict() == {0: 50, 1: -25}
    assert tables.recall_gap(frame, "a", "gone").isna().all()


def test_forms_are_compared_with_the_first():
    """Of 4 questions "far" loses 2 and 3: 50 and 75 points, so that Student's t of one degree is (1 - 62.5) / 12.5."""
    frame = asked(
        probe=["textbook"] * 2 + ["exact"] * 2 + ["far"] * 2,
        seed=[0, 1] * 3,
        correct=[4, 3, 4, 3, 2, 0],
        total=[4] * 6,
        changed=[0, 0, 0, 1, 1, 3],
        logit_difference=[math.nan, math.nan, 1e-6, 2e-5, 3.0, 20.0],
    )
    found = tables.exact_forms(frame)
    assert found.index.tolist() == ["textbook", "exact", "far"]
    assert found.loc["textbook"].tolist() == ["87.5 %", "0.0 %", "", ""]
    assert found.loc["exact"].tolist() == ["87.5 %", "12.5 %", "2e-05", "equal"]
    p = 0.5 + math.atan(61.5 / 12.5) / math.pi
    assert found.loc["far"].tolist() == ["25.0 %", "50.0 %", "2e+01", f"{p:.2g}"]
    alone = tables.exact_forms(frame[frame["seed"] == 1])
    assert alone["TOST p"].tolist() == ["", "equal", ""], "one seed tests nothing"
    with pytest.raises(ValueError, match="lacks the columns"):
        tables.exact_forms(frame.drop(columns="changed"))


def counts(rows: list[tuple], *columns: str) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=[*columns, "correct", "total"]).assign(chance=0.0)


def test_probes_become_arms_and_arms_seeds():
    frame = counts(
        [("x", 5, "far", 1, 2), ("y", 5, "near", 2, 2), ("y", 6, "else", 0, 2)], "arm", "seed", "probe"
    )
    found = tables.probes_as_arms(frame, {"near": "N", "far": "F"})
    assert found[["arm", "seed", "correct"]].values.tolist() == [["F", "x", 1], ["N", "y", 2]]
    assert set(found["probe"]) == {""}


SCORES = counts(
    [("m", "x", 9, 10), ("m", "x", 10, 10), ("m", "y", 1, 3), ("n", "x", 1, 10), ("n", "y", 3, 3),
     ("m", "text loss", math.nan, 0), ("n", "text loss", math.nan, 0)],
    "model", "benchmark",
).assign(score=[math.nan] * 5 + [-1.234, -2.0])  # fmt: skip


def test_benchmarks_are_in_per_cent_and_text_loss_in_nats():
    table = tables.benchmarks(SCORES)
    assert table.to_dict("index") == {
        "m": {"x": 95, "y": 33, "text loss": 1.23},
        "n": {"x": 10, "y": 100, "text loss": 2.0},
    }


def test_the_widest_swap_comes_first():
    frame = counts(
        [("p", "x", 90, 100), ("q", "x", 50, 100), ("r", "x", 10, 100),
         ("p", "y", 10, 100), ("q", "y", 60, 100), ("r", "y", 61, 100)],
        "model", "benchmark",
    )  # fmt: skip
    table = tables.swaps(frame, {"x": "in X", "y": "in Y"})
    assert list(table) == ["better in X", "better in Y", "ahead in X (points)", "behind in Y (points)"]
    # p leads r by 80 and trails by 51, leads q by 40 and trails by 50; q and r differ by no more than chance on y.
    assert table.values.tolist() == [["p", "r", 80, 51], ["p", "q", 40, 50]]
    assert len(tables.swaps(frame, {"x": "in X", "y": "in Y"}, most=1)) == 1


def test_effective_lengths_are_told_by_rule():
    frame = counts(
        [("one", n, k, 10_000) for n, k in ((64, 10_000), (128, 9000), (256, 100))], "arm", "length"
    )
    table = tables.effective_lengths(frame)
    assert list(table) == ["RULER", "first failure", "NoLiMa", "half recall"]
    assert table.loc["one", ["RULER", "first failure", "NoLiMa"]].tolist() == ["128", "128", "128"]


def test_requests_are_told_with_their_interval():
    frame = counts(
        [("t", n, i, k, 1) for n in (64, 128) for i, k in enumerate((1, 1, n == 64))],
        "task",
        "length",
        "sample",
    )
    table = tables.clustered(frame, "length", "task")
    assert table["t"].to_dict() == {64: "100 % [44, 100]", 128: "67 % [21, 94]"}


def trainings() -> pd.DataFrame:
    """Two arms of two seeds, 100 updates, tested at two lengths: one passes at 20 and 40, the other never."""
    rows = [
        (arm, seed, gate, length, correct)
        for arm, gates in (("steps", (20.0, 40.0)), ("fixed", (math.nan, math.nan)))
        for seed, gate in enumerate(gates)
        for length, correct in ((64, 10 if arm == "steps" else 5), (32, 8))
    ]
    frame = pd.DataFrame(rows, columns=["arm", "seed", "updates_to_gate", "length", "correct"])
    return frame.assign(
        total=10,
        updates=100,
        seconds=9.0,
        seconds_to_gate=frame["updates_to_gate"] / 10,
        **{"train.lr": 0.01},
    )


def test_escapes_and_recipes_worked_by_hand():
    found = tables.escapes(trainings())
    assert list(found.columns) == ["rate", "past the gate", "updates to it", "recall at 64", "recall at 32"]
    assert list(found.index) == ["steps", "fixed"]
    assert list(found["past the gate"]) == ["2 of 2", "0 of 2"]
    assert [words.split(" ")[0] for words in found["updates to it"]] == ["30", "100"]
    assert list(found["recall at 64"]) == ["100 %", "50 %"]
    assert list(tables.recipes(trainings())["median seconds"]) == ["3.0", "9.0, not learned"]


def test_recall_keeps_the_order_of_appearance():
    found = tables.recall(trainings(), "arm", "length")
    assert found.to_numpy().tolist() == [[100, 80], [50, 80]]


def test_names_of_arms_are_split_once_each():
    frame = pd.DataFrame({"arm": ["RoPE, base 100, fixed", "none, uniform"]})
    found = tables.split_arms(frame, "position", "lengths")
    assert list(found["position"]) == ["RoPE", "none"]
    assert list(found["lengths"]) == ["base 100, fixed", "uniform"]
    alone = tables.split_arms(pd.DataFrame({"arm": ["attention"]}), "rule", "keys")
    assert alone["rule"].item() == "attention"
    assert alone["keys"].isna().all()


def test_segments_pool_the_gaps():
    rows = [(32, 0, 3, 4), (32, 16, 1, 4), (64, 0, 2, 4)]
    frame = pd.DataFrame(rows, columns=["length", "gap", "correct", "total"])
    frame = frame.assign(arm="RMT", seed=0, chance=0.1, **{"asked.pairs": 8})
    found = tables.by_segments(frame, 16)[["facts", "segments", "correct", "total"]]
    assert found.to_numpy().tolist() == [[8, 2, 4, 8], [8, 4, 2, 4]]


def test_n50_by_is_the_median_of_each_part():
    rows = [("a", 0, n, c) for n, c in ((8, 9), (16, 6), (32, 1))] + [("b", 0, n, 10) for n in (8, 16, 32)]
    frame = pd.DataFrame(rows, columns=["arm", "seed", "length", "correct"]).assign(total=10, chance=0.0)
    found = tables.n50_by(frame, ["arm", "seed"]).set_index("arm")["n50"]
    assert found["a"] == median_n50(frame[frame["arm"] == "a"])
    assert math.isinf(found["b"])
    assert tables.n50_by(frame[:0], ["arm", "seed"]).empty


def test_shares_worked_by_hand():
    rows = [
        ("20%", 0, "far", 9, 0.5),
        ("20%", 1, "far", 5, 0.5),
        ("20%", 0, "near", 7, 1.0),
        ("20%", 1, "near", 9, 2.0),
    ]
    frame = pd.DataFrame(rows, columns=["arm", "seed", "probe", "correct", "text_loss"]).assign(total=10)
    found = tables.shares(frame).loc["20%"]
    assert found.tolist() == [70, 80, 1.5, "1 of 2"]


def test_key_tokens_worked_by_hand():
    rows = [(0, "20%", 1000, 5, 40, 4), (1, "20%", 1000, 0, 20, 0)]
    frame = pd.DataFrame(rows, columns=["seed", "probe", "tokens", "known", "found", "both"])
    found = tables.key_tokens(frame, {0})
    assert found.iloc[0].tolist() == ["learned to look back", "20%", 0.5, 4.0, 10.0, 80.0]
    assert found.iloc[1, 0] == "did not"
    assert math.isnan(found.iloc[1]["key among needed, %"])
    assert found.iloc[1]["key, %"] == pytest.approx(2)


def test_log_odds_are_means_beside_their_formula():
    rows = [
        ("a", 0, 101, 1.0, 7.0, 2.0, 0.5),
        ("a", 1, 101, 2.0, 9.0, 0.0, 0.7),
        ("a", 0, 11, 5.0, 7.0, 0.0, 0.9),
    ]
    columns = ["arm", "seed", "length", "log_odds", "margin", "variance", "weight"]
    table = tables.log_odds(pd.DataFrame(rows, columns=columns))
    assert table.loc[("a", 101)].tolist() == pytest.approx([1.5, 8, 1, 0.6, 8 - math.log(100) - 0.5])
    assert table.loc[("a", 11), "formula"] == pytest.approx(7 - math.log(10))


LEARNED = pd.DataFrame(
    [("good", seed, n, k, 100, 0.0, 0.01, seed < 2) for seed in range(3) for n, k in ((64, 100), (256, 0))]
    + [("bad", seed, 64, 10, 100, 0.0, 0.02, False) for seed in range(3)],
    columns=["arm", "seed", "length", "correct", "total", "chance", "train.lr", "solved"],
)


def test_a_hurdle_is_told_in_both_parts():
    table = tables.hurdle(LEARNED)
    assert list(table) == ["rate", "learned", "n50 of those, tokens", "longest text", "recall there"]
    good, bad = table.loc["good"].tolist(), table.loc["bad"].tolist()
    assert (good[:2], good[3:]) == ([0.01, "2 of 3 [0.21, 0.94]"], ["256", "0 %"])
    assert good[2].startswith("128 [")
    assert bad == [0.02, "0 of 3 [0.00, 0.56]", "none learned", "64", "10 %"]
    said = tables.hurdle_in_words(LEARNED, ("bad", "gone", "good"))
    assert said == f"bad 0 of 3 learned; good 2 of 3 learned, n50 {good[2]}"
    assert tables.learned(LEARNED) == (2, 6)
    assert tables.learned(LEARNED[:0]) == (0, 0)


def test_forecasts_pool_seeds_and_leave_out_what_was_not_measured():
    rows = [
        ("a", 0, "t", 64, 9, 10, 3, 4),
        ("a", 1, "t", 64, 6, 10, 0, 4),
        ("a", 0, "t", 128, 5, 10, math.nan, math.nan),
    ]
    columns = ["arm", "seed", "task", "length", "predicted", "asked", "correct", "total"]
    table = tables.forecasts(pd.DataFrame(rows, columns=columns))
    assert table.reset_index().values.tolist() == [["a", "t", 64, 75, 37.5, 37.5]]
