"""The card and the ledger: which verdict counts, what is refused, and pages that survive damage."""

from __future__ import annotations

import html.parser
import warnings
from dataclasses import replace

import own_claims
import pytest
from own_claims import table
from playwright.sync_api import Browser

from lcbook import claims, store
from lcbook.claims import cards
from lcbook.claims.claim import find
from lcbook.claims.verdict import Verdict

HIGH, LOW = [50.0, 60, 55, 52, 58, 57, 53, 54], [1.0, 2, 1, 3, 2, 1, 2, 1]


def verdict(name="P1a", values=HIGH, **fields) -> Verdict:
    made = claims.judge(find(name), {"recall": table(values)}, designs={"recall": "d"})
    return replace(made, date="2025-03-01", device="cpu", **fields)


class Page(html.parser.HTMLParser):
    """Checks that tags close in order and collects the text."""

    void = ("br", "input", "line", "circle")

    def __init__(self, source: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""
        self.feed(source)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.void:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += " " + " ".join(data.split())


def test_claims_are_stated_before_their_experiment():
    said = claims.Statement((find("P1a"), find("P1b")))
    assert repr(said).splitlines() == [
        "P1a Most are right. (at least 16 %)", "P1b Few are right. (at most 12 %)",
    ]  # fmt: skip
    text = Page(said._repr_html_()).text
    assert "Holds if at least 16 %: pooled recall (mean over seeds)." in text


def test_a_card_shows_everything():
    one = claims.card("P1a", verdict(), [("exploratory", verdict())])
    (shown,) = cards.survived([one])
    text = Page(shown._repr_html_()).text
    for part in (
        "P1a", "✓", "supported", "exploratory", "Most are right.", "at least 16 %", "pooled recall; mean over seeds",
        "8 of 8 seeds on the claimed side", "8 seeds, cpu, full scale, 2025-03-01", "this machine agrees",
        "survives the correction for the number of claims",
    ):  # fmt: skip
        assert part in text, part
    assert shown._repr_html_().count("<circle") == 8
    assert repr(shown) == repr(verdict()) == "P1a supported"


def test_the_confirmatory_verdict_counts_and_the_live_run_checks_it():
    old, new = verdict(), verdict(values=LOW)
    card = claims.card("P1a", old, [("exploratory", old), ("confirmatory", new)])
    assert (card.kind, card.counts, card.agrees) == ("confirmatory", new, "this machine disagrees")
    card = claims.card("P1a", old, [("exploratory", old)])
    assert (card.kind, card.agrees) == ("exploratory", "this machine agrees")
    unsure = replace(old, verdict="inconclusive")
    assert claims.card("P1a", unsure, [("exploratory", old)]).agrees == "this machine cannot say"
    alone = claims.card("P1a", old, [])
    assert (alone.kind, alone.agrees) == ("this run", "")
    assert claims.card("P1a", None, []).kind == "not run"


def test_of_two_runs_of_one_kind_the_later_counts():
    old, new = verdict(), replace(verdict(values=LOW), date="2025-04-01")
    for order in ([old, new], [new, old]):
        assert claims.card("P1a", None, [("exploratory", one) for one in order]).counts == new


REFUSED = {
    "words": ({"frozen": "0" * 64}, "judged other words or another test than the frozen claim"),
    "version": ({"compute_version": store.COMPUTE_VERSION + 1}, "comes from version 2 of the computation"),
}


@pytest.mark.parametrize(("change", "said"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_verdict_on_the_frozen_claim_is_refused_with_a_sentence(change, said):
    card = claims.card("P1a", None, [("confirmatory", replace(verdict(), **change))])
    assert (card.counts, card.kind) == (None, "not run")
    assert said in card.refused[0]
    assert said in Page(card._repr_html_()).text
    assert said in Page(claims.Ledger((card,))._repr_html_()).text


def test_a_decision_that_the_number_of_claims_undoes_is_marked():
    weak, strong = replace(verdict(), p=0.03), replace(verdict("P1b", LOW), p=0.001)
    pair = [
        claims.card("P1a", None, [("exploratory", weak)]),
        claims.card("P1b", None, [("exploratory", strong)]),
    ]
    assert [one.survives for one in cards.survived(pair)] == ["yes", "yes"]  # 0.001 x 2 and 0.03
    pair[1] = claims.card("P1b", None, [("exploratory", replace(strong, p=0.03))])
    assert [one.survives for one in cards.survived(pair)] == ["no", "no"]  # 0.03 x 2
    pair[1] = claims.card("P1b", None, [("exploratory", replace(strong, verdict="inconclusive", p=1.0))])
    assert [one.survives for one in cards.survived(pair)] == ["no", ""]  # what was left open counts as well


def luminance(color: str) -> float:
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("word", claims.LOOKS)
def test_a_verdict_has_a_symbol_and_white_on_its_badge_has_contrast(word):
    symbol, color = claims.LOOKS[word]
    assert f"{symbol} {word}" in Page(claims.card("P1a", verdict(verdict=word), [])._repr_html_()).text
    assert 1.05 / (luminance(color) + 0.05) >= 4.5


def test_a_card_escapes_its_texts(monkeypatch, tmp_path):
    text = own_claims.TOML.replace("Most are right.", "a < b & c").replace('"pooled recall"', '"x < y"', 1)
    own_claims.use(monkeypatch, tmp_path / "..", text)
    source = claims.card("P1a", verdict(why="<why>"), [])._repr_html_()
    said = Page(source).text
    assert "a < b & c" in said
    assert "<why>" in said
    for raw in ("<why>", "x < y", "a < b", "b & c"):
        assert raw not in source


# The ledger


def test_the_ledger_holds_every_claim_and_the_withdrawn_at_its_end():
    claims.record(verdict(), "01_tiny")
    book = claims.Ledger(tuple(claims.ledger([("exploratory", verdict("P1b", LOW))])), {"P1b": (3, 2)})
    assert repr(book).splitlines() == ["P1a supported", "P1b supported"]
    assert book.frame["kind"].tolist() == ["this run", "exploratory"]
    text = Page(book._repr_html_()).text
    for part in (
        "on 3 machines, same verdict on 2",
        "not yet",
        "X1",
        "It went.",
        "A control said otherwise.",
        "2 [1, 3]",
    ):
        assert part in text, part
    assert text.index("Few are right.") < text.index("Withdrawn claims") < text.index("It went.")
    assert [one.claim.id for one in claims.ledger(chapter="02_small")] == []


def test_the_calibration_counts_what_later_runs_said():
    explored = [("exploratory", verdict()), ("exploratory", verdict("P1b", LOW))]
    fresh = [
        ("confirmatory", verdict(values=LOW)),
        ("confirmatory", replace(verdict("P1b", LOW), verdict="inconclusive")),
    ]
    claims.record(verdict(), "01_tiny")
    said = claims.Ledger(tuple(claims.ledger(explored + fresh))).calibration
    assert "Of 1 claims that this machine's short run decides, the stored run contradicts 1." in said
    assert (
        "Of 2 exploratory decisions that were tried again on fresh seeds, 1 turned around and 1 came out"
        in said
    )


def test_a_record_goes_by_scale_and_a_later_one_replaces_it(tmp_path):
    path = claims.record(verdict(), "01_tiny")
    assert path == tmp_path / "claims" / "full" / "P1a.json"
    claims.record(verdict(values=LOW), "01_tiny")
    assert [file.name for file in path.parent.iterdir()] == ["P1a.json"]
    assert claims.recorded()["P1a"].verdict == "refuted"


def test_a_live_verdict_of_another_version_is_passed_over(monkeypatch):
    claims.record(verdict(), "01_tiny")
    monkeypatch.setattr(store, "COMPUTE_VERSION", store.COMPUTE_VERSION + 1)
    with warnings.catch_warnings(action="error"):
        assert claims.recorded() == {}


DAMAGE = {
    "cut": lambda path, body: path.write_text(path.read_text()[:200]),
    "edit": lambda path, body: path.write_text(path.read_text().replace("supported", "refuted")),
    "empty": lambda path, body: path.write_text(""),
    "list": lambda path, body: path.write_text("[]"),
    "binary": lambda path, body: path.write_bytes(b"\xff\xfe\x00"),
    "deep": lambda path, body: path.write_text("[" * 100_000),
    "folder": lambda path, body: (path.unlink(), path.mkdir()),
    "loop": lambda path, body: (path.unlink(), path.symlink_to(path)),
    "rename": lambda path, body: store.save_json(path, body | {"claim": "P1b"}),
    "scale": lambda path, body: store.save_json(path, body | {"scale": "live"}),
    "kind": lambda path, body: store.save_json(path, {"rows": []}),
    "dots": lambda path, body: store.save_json(path, body | {"dots": [5]}),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_ledger_file_is_named_and_skipped(damage):
    claims.record(verdict("P1b", LOW), "01_tiny")
    path = claims.record(verdict(), "01_tiny")
    DAMAGE[damage](path, store.load_json(path))
    with pytest.warns(UserWarning, match=path.name):
        assert list(claims.recorded()) == ["P1b"]


@pytest.mark.parametrize("kind", ["loop", "file"])
def test_a_ledger_without_a_folder_is_empty(tmp_path, kind):
    place = tmp_path / "claims"
    place.symlink_to(place) if kind == "loop" else place.write_text("")
    assert claims.recorded() == {}


def test_a_damaged_reference_is_named_and_skipped():
    with pytest.warns(UserWarning, match="reference record 1"):
        found = claims.restored([verdict().to_dict(), {"verdict": "supported"}])
    assert [one.claim for one in found] == ["P1a"]


@pytest.mark.browser
def test_the_ledger_sorts_and_filters_without_a_kernel(browser: Browser):
    stored = [("exploratory", verdict()), ("exploratory", replace(verdict("P1b", LOW), verdict="refuted"))]
    window = browser.new_page(viewport={"width": 390, "height": 800})
    window.set_content(claims.Ledger(tuple(claims.ledger(stored)))._repr_html_())
    visible = "[...document.querySelector('tbody').rows].filter(row => !row.hidden)"
    shown = f"() => {visible}.map(row => row.innerText.slice(0, 3))"
    assert window.evaluate(shown) == ["P1a", "P1b"]
    window.get_by_label("find").fill("few are")
    assert window.evaluate(shown) == ["P1b"]
    window.get_by_label("find").fill("")
    window.get_by_label("verdict").select_option("supported")
    assert window.evaluate(shown) == ["P1a"]
    assert window.locator("output").inner_text() == "1 of 2"
    window.get_by_label("verdict").select_option("")
    window.set_viewport_size({"width": 1280, "height": 800})
    window.get_by_role("button", name="verdict").click()
    assert window.evaluate(shown) == ["P1b", "P1a"]  # refuted before supported
    window.get_by_role("button", name="verdict").click()
    assert window.evaluate(shown) == ["P1a", "P1b"]
    window.set_viewport_size({"width": 390, "height": 800})
    assert window.evaluate("document.documentElement.scrollWidth") <= 390
    window.close()
