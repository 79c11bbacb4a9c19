"""Verdicts by hand-placed intervals, the page's cards, and a ledger that survives damage."""

from __future__ import annotations

import html.parser
import json
import math
import warnings
from dataclasses import asdict, replace
from typing import Any

import pandas as pd
import pytest

from lcbook import claims, runtime, store
from lcbook.claims import Verdict
from lcbook.stats.bootstrap import Estimate

AT_LEAST = claims.claim(
    "P1a",
    "A model without position encoding holds 16 times its training length.",
    factor="position encoding",
    at_least=16,
    unit="x training length",
    test="median n50 over seeds",
)
AT_MOST = claims.claim(
    "P1b",
    "RoPE holds at most 4 times.",
    factor="position encoding",
    at_most=4.0,
    test="median n50 over seeds",
)


@pytest.fixture(autouse=True)
def _live(monkeypatch, tmp_path):
    monkeypatch.setenv("LCBOOK_SCALE", "live")
    monkeypatch.setenv("LCBOOK_CACHE", str(tmp_path))


def make_verdict(made=AT_LEAST, word="supported", device="cpu", date="2025-03-01", scale="live") -> Verdict:
    return Verdict(made, word, Estimate(20.0, 17.0, 23.0), 7, scale, device, date)


# The verdict


@pytest.mark.parametrize(
    ("low", "value", "high", "censored", "word"),
    [
        (16, 20, 30, None, "supported"),
        (15.9, 20, 30, None, "inconclusive"),
        (1, 2, 15.9, None, "refuted"),
        (1, 2, 16, None, "inconclusive"),
        (32, 32, 32, "above", "supported"),
        (8, 8, 8, "above", "inconclusive"),
        (8, 8, 8, "below", "refuted"),
        (20, 20, 20, "below", "inconclusive"),
        (20, 25, 30, "both", "inconclusive"),
        (math.nan, math.nan, math.nan, None, "not judged"),
        (math.inf, math.inf, math.inf, None, "supported"),
    ],
)
def test_at_least_is_decided_by_the_interval(low, value, high, censored, word):
    assert AT_LEAST.decide(Estimate(value, low, high, censored), seeds=5).verdict == word


@pytest.mark.parametrize(
    ("low", "value", "high", "censored", "word"),
    [
        (1, 2, 4, None, "supported"),
        (1, 2, 4.1, None, "inconclusive"),
        (4.1, 5, 6, None, "refuted"),
        (4, 5, 6, None, "inconclusive"),
        (2, 2, 2, "below", "supported"),
        (5, 5, 5, "below", "inconclusive"),
        (5, 5, 5, "above", "refuted"),
        (2, 2, 2, "above", "inconclusive"),
    ],
)
def test_at_most_is_decided_by_the_interval(low, value, high, censored, word):
    assert AT_MOST.decide(Estimate(value, low, high, censored), seeds=5).verdict == word


def test_few_seeds_and_smoke_scale_are_not_judged(monkeypatch):
    effect = Estimate(20, 17, 23)
    assert AT_LEAST.decide(effect, seeds=5).verdict == "supported"
    assert AT_LEAST.decide(effect, seeds=4).verdict == "not judged"
    monkeypatch.setenv("LCBOOK_SCALE", "smoke")
    assert AT_LEAST.decide(effect, seeds=50).verdict == "not judged"


def test_a_verdict_says_where_it_was_measured():
    found = AT_MOST.decide(Estimate(2, 1, 3), seeds=7)
    assert (found.claim, found.seeds, found.scale, found.device) == (
        AT_MOST,
        7,
        "live",
        runtime.device_name(),
    )
    assert pd.Timestamp(found.date) <= pd.Timestamp.now("UTC").tz_localize(None)


def frame_of(seeds: dict[str, int]) -> pd.DataFrame:
    rows = [(arm, seed, 100 - seed, 100) for arm, count in seeds.items() for seed in range(count)]
    return pd.DataFrame(rows, columns=["arm", "seed", "correct", "total"])


def percent(frame: pd.DataFrame) -> float:
    return 100 * frame["correct"].sum() / frame["total"].sum()


def test_judge_bootstraps_over_seeds():
    made = claims.claim("X1", "Most are right.", factor="none", at_least=90, unit="%", test="pooled recall")
    found = made.judge(frame_of({"a": 5}), percent)
    assert found.effect.value == pytest.approx(98)
    assert 93 < found.effect.low < 97.5
    assert (found.verdict, found.seeds) == ("supported", 5)
    capped = made.judge(frame_of({"a": 5}), percent, resamples=50, limits=(0, 50))
    assert (capped.effect, capped.verdict) == (Estimate(50, 50, 50, "above"), "inconclusive")


def test_judge_counts_the_seeds_of_the_smallest_arm(monkeypatch):
    assert AT_LEAST.judge(frame_of({"a": 7, "b": 4}), percent, resamples=20).seeds == 4
    assert AT_LEAST.judge(frame_of({"a": 7}).drop(columns="arm"), percent, resamples=20).seeds == 7
    monkeypatch.setenv("LCBOOK_SCALE", "smoke")
    calls = []

    def statistic(frame: pd.DataFrame) -> float:
        calls.append(len(frame))
        return 1.0

    AT_LEAST.judge(frame_of({"a": 1}), statistic)
    assert len(calls) <= 25


@pytest.mark.parametrize("table", [pd.DataFrame({"value": [1.0]}), pd.DataFrame({"seed": []})])
def test_judge_rejects_a_table_without_seeds(table):
    with pytest.raises(ValueError, match=r"table .*allowed"):
        AT_LEAST.judge(table, percent)


GOOD: dict[str, Any] = {
    "id": "P1",
    "sentence": "So it is.",
    "factor": "position",
    "at_least": 1.0,
    "test": "by hand",
}


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"id": ""}, "id"),
        ({"id": "../P1"}, "id"),
        ({"id": "1P"}, "id"),
        ({"sentence": "  "}, "sentence"),
        ({"factor": ""}, "factor"),
        ({"test": ""}, "test"),
        ({"at_least": None}, "at_least"),
        ({"at_most": 2.0}, "at_least"),
        ({"at_least": math.inf}, "at_least"),
        ({"at_least": math.nan}, "at_least"),
    ],
)
def test_claim_rejects_bad_input(change, name):
    claims.claim(**GOOD)
    with pytest.raises(ValueError, match=f"^{name} .*allowed"):
        claims.claim(**(GOOD | change))


def test_verdict_rejects_bad_input():
    with pytest.raises(ValueError, match=r"verdict .*allowed"):
        make_verdict(word="proved")
    with pytest.raises(ValueError, match=r"date .*allowed"):
        make_verdict(date="yesterday")
    with pytest.raises(ValueError, match=r"seeds .*allowed"):
        AT_LEAST.decide(Estimate(1, 1, 1), seeds=-1)


# To JSON and back


@pytest.mark.parametrize(
    "effect",
    [
        Estimate(20.5, 17.25, 23.0),
        Estimate(8192, 5000, 8192, "above"),
        Estimate(3.0, -math.inf, math.inf, "both"),
    ],
)
def test_a_verdict_survives_json(effect):
    found = Verdict(AT_MOST, "refuted", effect, 12, "full", "cpu", "2025-03-01")
    assert Verdict.from_dict(json.loads(json.dumps(found.to_dict(), allow_nan=False))) == found


def test_an_undefined_effect_survives_json():
    found = AT_LEAST.decide(Estimate(math.nan, math.nan, math.nan), seeds=5)
    again = Verdict.from_dict(json.loads(json.dumps(found.to_dict(), allow_nan=False)))
    assert math.isnan(again.effect.value)
    assert again.verdict == "not judged"


@pytest.mark.parametrize("missing", ["claim", "effect", "verdict", "seeds", "scale", "device", "date"])
def test_a_record_with_a_missing_field_is_named(missing):
    record = make_verdict().to_dict()
    del record[missing]
    with pytest.raises(ValueError, match=missing):
        Verdict.from_dict(record)


# The card


class Page(html.parser.HTMLParser):
    """Checks that tags close in order and collects the text."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""
        self.feed(source)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        if tag != "br":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_the_line_that_a_rerun_must_reproduce_holds_no_number():
    found = make_verdict()
    assert repr(found) == str(found) == repr(found.beside(found)) == "P1a supported"


def test_a_card_shows_everything():
    text = Page(make_verdict()._repr_html_()).text
    for part in (
        "P1a",
        "position encoding",
        AT_LEAST.sentence,
        "✓",
        "supported",
        "20 [17, 23] x training length",
        "at least 16 x training length",
        "median n50 over seeds",
        "7 seeds",
        "cpu",
        "live scale",
        "2025-03-01",
    ):
        assert part in text
    assert "at most 4" in Page(make_verdict(AT_MOST)._repr_html_()).text


@pytest.mark.parametrize(
    ("word", "symbol"), [("supported", "✓"), ("refuted", "✗"), ("inconclusive", "?"), ("not judged", "–")]
)
def test_a_verdict_has_a_symbol_besides_its_colour(word, symbol):
    assert f"{symbol} {word}" in Page(make_verdict(word=word)._repr_html_()).text


def luminance(color: str) -> float:
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("word", claims.LOOKS)
def test_white_on_the_badge_has_contrast(word):
    assert 1.05 / (luminance(claims.LOOKS[word][1]) + 0.05) >= 4.5


def test_a_card_escapes_its_texts():
    made = claims.claim("Q", "a < b & c", factor="<i>", at_least=1, unit="<b>", test="x < y")
    source = make_verdict(made, device="<cpu>")._repr_html_()
    text = Page(source).text
    assert "a < b & c" in text
    assert "<i>" in text
    for raw in ("<i>", "<b>", "<cpu>", "x < y", "a < b", "b & c"):
        assert raw not in source


def test_references_stand_beside_the_live_verdict():
    gpu = make_verdict(word="refuted", device="nvidia-h200", scale="gpu", date="2025-02-02")
    other = make_verdict(AT_MOST, device="elsewhere")
    made = make_verdict().beside(gpu, other)
    assert made.references == (gpu,)
    text = Page(made._repr_html_()).text
    assert "nvidia-h200, gpu scale, 2025-02-02" in text
    assert "✗ refuted" in text
    assert "elsewhere" not in text


OTHERWISE = [
    {"sentence": "Another."}, {"factor": "another"}, {"at_least": 17}, {"at_least": None, "at_most": 16},
    {"unit": "tokens"}, {"test": "another"},
]  # fmt: skip


@pytest.mark.parametrize("change", OTHERWISE, ids=str)
def test_a_reference_of_a_claim_said_otherwise_is_stale(change):
    other = make_verdict(replace(AT_LEAST, **change), "refuted", device="h200", date="2025-04-01")
    same = make_verdict(device="a100")
    assert make_verdict().beside(other, same).references == (same,)
    claims.record(make_verdict(), "01")
    table = claims.ledger([other.to_dict(), same.to_dict()])
    assert table[["sentence", "verdict", "a100 verdict"]].values.tolist() == [
        [AT_LEAST.sentence, *["supported"] * 2]
    ]
    assert "".join(table.get("h200 verdict", [])) == ""


def test_the_ledger_without_a_live_verdict_says_what_the_latest_reference_claims():
    old = make_verdict(replace(AT_LEAST, sentence="Another."), "refuted", device="a100", date="2025-02-01")
    new = make_verdict(device="h200").to_dict()
    (row,) = claims.ledger([old.to_dict(), new]).to_dict("records")
    assert (row["sentence"], row["h200 verdict"], row["a100 verdict"]) == (AT_LEAST.sentence, "supported", "")


def test_a_live_verdict_of_another_version_is_stale(monkeypatch):
    claims.record(make_verdict(), "01")
    claims.record(make_verdict(AT_MOST), "01")
    monkeypatch.setattr(store, "COMPUTE_VERSION", store.COMPUTE_VERSION + 1)
    claims.record(make_verdict(AT_MOST), "01")
    with warnings.catch_warnings(action="error"):
        assert claims.ledger()["id"].tolist() == ["P1b"]


# The ledger


def test_the_ledger_holds_live_and_reference_verdicts(tmp_path):
    path = claims.record(make_verdict(), "01_position_encoding")
    assert path == tmp_path / "claims" / "live" / "P1a.json"
    claims.record(make_verdict(AT_MOST, "refuted", scale="full"), "01_position_encoding")
    gpu = make_verdict(AT_MOST, "inconclusive", device="h200", scale="gpu", date="2025-02-02")
    table = claims.ledger([gpu.to_dict() | {"chapter": "01_position_encoding"}])
    assert list(table.columns[:7]) == ["chapter", "id", "factor", "sentence", "verdict", "effect", "date"]
    assert list(table.columns[7:]) == ["h200 verdict", "h200 effect", "h200 date"]
    assert table["id"].tolist() == ["P1a", "P1b"]
    assert table["verdict"].tolist() == ["supported", ""]
    assert table["effect"].tolist() == ["20 [17, 23] x training length", ""]
    assert table["h200 verdict"].tolist() == ["", "inconclusive"]
    assert table["h200 date"].tolist() == ["", "2025-02-02"]


def test_the_ledger_sorts_by_chapter_and_number():
    def stored(name: str, chapter: str) -> dict:
        made = claims.claim(name, "So it is.", factor="x", at_least=1, test="t")
        return make_verdict(made).to_dict() | {"chapter": chapter}

    order = [stored("S10", "05"), stored("S2", "05"), stored("T1", "04"), stored("S2b", "05")]
    assert claims.ledger(order)["id"].tolist() == ["T1", "S2", "S2b", "S10"]


def test_the_latest_record_of_a_device_counts():
    old, new = (
        make_verdict(word=w, date=d) for w, d in [("refuted", "2025-01-01"), ("supported", "2025-02-01")]
    )
    for order in ([old, new], [new, old]):
        table = claims.ledger([verdict.to_dict() for verdict in order])
        assert table["cpu verdict"].tolist() == ["supported"]
        assert table["cpu date"].tolist() == ["2025-02-01"]


def test_recording_again_replaces_and_leaves_no_other_file(tmp_path):
    claims.record(make_verdict(), "01")
    claims.record(make_verdict(word="refuted"), "01")
    assert [file.name for file in (tmp_path / "claims" / "live").iterdir()] == ["P1a.json"]
    assert claims.ledger()["verdict"].tolist() == ["refuted"]


DAMAGE = {
    "cut": lambda path, body: path.write_text(path.read_text()[:200]),
    "edit": lambda path, body: path.write_text(path.read_text().replace("supported", "refuted")),
    "empty": lambda path, body: path.write_text(""),
    "list": lambda path, body: path.write_text("[]"),
    "binary": lambda path, body: path.write_bytes(b"\xff\xfe\x00"),
    "deep": lambda path, body: path.write_text("[" * 100_000),
    "folder": lambda path, body: (path.unlink(), path.mkdir()),
    "loop": lambda path, body: (path.unlink(), path.symlink_to(path)),
    "rename": lambda path, body: store.save_json(path, body | {"claim": asdict(replace(AT_LEAST, id="P9"))}),
    "scale": lambda path, body: store.save_json(path, body | {"scale": "full"}),
    "kind": lambda path, body: store.save_json(path, {"rows": []}),
    "claim": lambda path, body: store.save_json(
        path, body | {"claim": asdict(AT_LEAST) | {"at_least": 10**400}}
    ),
    "seeds": lambda path, body: store.save_json(path, body | {"seeds": [5]}),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_ledger_file_is_named_and_skipped(damage):
    claims.record(make_verdict(AT_MOST), "01")
    path = claims.record(make_verdict(), "01")
    DAMAGE[damage](path, store.load_json(path))
    with pytest.warns(UserWarning, match=path.name):
        table = claims.ledger()
    assert table["id"].tolist() == ["P1b"]


@pytest.mark.parametrize("kind", ["loop", "file"])
def test_a_ledger_without_a_folder_is_empty(tmp_path, kind):
    place = tmp_path / "claims"
    place.symlink_to(place) if kind == "loop" else place.write_text("")
    assert len(claims.ledger()) == 0


def test_a_damaged_reference_is_named_and_skipped():
    good = make_verdict().to_dict()
    with pytest.warns(UserWarning, match="reference record 1"):
        table = claims.ledger([good, {"verdict": "supported"}])
    assert table["id"].tolist() == ["P1a"]


def test_an_empty_ledger_is_a_table_without_rows():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table = claims.ledger()
    assert len(table) == 0
    assert "claim" in Page(claims.LedgerTable(table)._repr_html_()).text


def test_the_ledger_on_the_page():
    claims.record(make_verdict(), "01")
    gpu = make_verdict(AT_MOST, "refuted", device="h200").to_dict()
    shown = claims.LedgerTable(claims.ledger([gpu]))
    assert repr(shown).splitlines() == ["P1b not run", "P1a supported"]
    text = Page(shown._repr_html_()).text
    for part in ("live", "h200", "✓ supported", "✗ refuted", "not run", AT_MOST.sentence, "2025-03-01"):
        assert part in text
    with pytest.raises(ValueError, match=r"frame lacks .*verdict.*allowed"):
        claims.LedgerTable(pd.DataFrame({"id": []}))
