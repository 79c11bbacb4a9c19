"""The report of a sweep: numbers and intervals, cells without answers, no foreign requests, nothing that runs."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

from lcbook.evaluation.report import write_report
from lcbook.stats.clustered import failure_counts

EVIL = "<script>alert(1)</script><img src=x onerror=alert(1)> \" ' & \ud83d"
ABOUT = {"Model": f"hf:tiny {EVIL}", "Samples": "7"}


def requests(**columns) -> pd.DataFrame:
    """Requests of 7 samples at lengths 256 and 512 and depths 0 and 1: all right but the long ones at the end."""
    rows = []
    for length in (256, 512):
        for sample in range(7):
            for depth in (0.0, 1.0):
                right = int(length == 256 or depth == 0.0)
                rows.append(
                    {
                        "task": "multi_key", "length": length, "depth": depth, "sample": sample, "correct": right,
                        "total": 1, "chance": 0.01, "answers": ["472"], "reply": "472" if right else EVIL,
                        "prompt_tokens": 11, "completion_tokens": 3, "computed": 5, "seconds": 0.5, "error": None,
                    }
                )  # fmt: skip
    return pd.DataFrame(rows).assign(**columns)


class Page(HTMLParser):
    """The tags of a page with their attributes, its text, and whether all are closed in order."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(path.read_text(encoding="utf8"))

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.text += f"{data}\n"


def write(frame: pd.DataFrame, out: Path, **options) -> Page:
    path = write_report(frame, out, title=f"Recall of {EVIL}", about=ABOUT, **options)
    assert path == out / "index.html"
    page = Page(path)
    assert page.open == [], "every tag is closed"
    return page


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Page:
    return write(requests(), tmp_path_factory.mktemp("report"), price=(2.0, 10.0))


def test_nothing_is_asked_of_another_host(page):
    for tag, attributes in page.tags:
        assert tag not in ("script", "iframe", "link", "object", "base", "form", "img")
        for name, value in attributes.items():
            if name in ("src", "href", "xlink:href", "action", "data", "style", "srcset"):
                assert value.startswith(("#", "data:image/png;base64,")) or name == "style", (
                    tag,
                    name,
                    value[:80],
                )
                assert "http" not in value
            elif not name.startswith("xmlns") and name != "aria-label":
                assert "http://" not in str(value), (tag, name)
                assert "https://" not in str(value), (tag, name)
    policy = [a["content"] for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]


def test_nothing_of_a_model_or_a_reply_runs(page):
    assert page.text.count("<script>alert(1)</script>") >= 4, (
        "title, heading, model and replies show it as text"
    )
    for _, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on")]


def test_every_figure_has_alt_text_and_ids_of_its_own(page):
    figures = [attributes for tag, attributes in page.tags if tag == "svg"]
    assert len(figures) == sum(tag == "figure" for tag, _ in page.tags) == 2
    for attributes in figures:
        assert attributes["role"] == "img"
    assert re.search(r"ecall by length and depth, from 0 % .*7 queries a cell", figures[0]["aria-label"])
    assert "effective length by rule" in figures[1]["aria-label"]
    named = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(named) == len(set(named))
    used = {a["xlink:href"][1:] for _, a in page.tags if a.get("xlink:href", "").startswith("#")}
    used |= {
        found
        for _, a in page.tags
        for found in re.findall(r"url\(#([^)]*)\)", " ".join(map(str, a.values())))
    }
    assert used
    assert used <= set(named)


def table_rows(path: Path) -> list[list[str]]:
    text = path.read_text(encoding="utf8")
    return [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in re.findall(r"<tr>(.*?)</tr>", text)]


def test_cells_have_wilsons_interval_over_samples(tmp_path):
    write(requests(), tmp_path)
    found = table_rows(tmp_path / "index.html")
    # Wilson of 7 of 7 is [0.6457, 1], of 0 of 7 [0, 0.3543].
    assert ["256", "0 %", "100 % [65, 100]", "7", "0"] in found
    assert ["512", "100 %", "0 % [0, 35]", "7", "0"] in found


def test_the_table_of_tasks_takes_depths_together(tmp_path):
    write(requests(), tmp_path)
    found = table_rows(tmp_path / "index.html")
    assert ["Task", "Chance", "256 tokens", "512 tokens", "n50 (tokens)"] in found
    (row,) = [row for row in found if row[:1] == ["multi key"]]
    # Every sample is right at one of two depths: 14 requests tell as much as 14, and Wilson of 7 of 14 is [27, 73].
    assert row[1:4] == ["1 %", "100 % [65, 100]", "50 % [27, 73]"]
    assert row[4] == "512 [418, ≥ 512]", "chance of 1 % puts n50 just below 512, the longest length tested"


def test_an_answer_of_several_words_counts_once(tmp_path):
    write(requests(total=4, correct=lambda f: 3 * f["correct"] + 1), tmp_path)
    found = table_rows(tmp_path / "index.html")
    # Wilson of 1.75 of 7: (1.75 + 1.921 -+ 1.96 sqrt(1.75 x 5.25 / 7 + 0.960)) / (7 + 3.841) is [0.066, 0.611].
    assert ["512", "100 %", "25 % [7, 61]", "7", "0"] in found


def test_a_cell_without_answers_says_so(tmp_path):
    frame = requests()
    gone = (frame["length"] == 512) & (frame["depth"] == 1.0)
    lost = {"correct": 0, "total": 0, "error": "The endpoint answers 503 after 5 attempts.", "reply": ""}
    frame.loc[gone, list(lost)] = list(lost.values())
    page = write(frame, tmp_path)
    found = table_rows(tmp_path / "index.html")
    assert ["512", "100 %", "no answers", "0", "7"] in found
    assert "7 failed and stand in no average" in page.text
    assert "none: no request was answered there" in page.text
    assert ["7", "The endpoint answers 503 after 5 attempts."] in found
    (row,) = [row for row in found if row[:1] == ["multi key"]]
    assert row[2:4] == ["100 % [65, 100]", "100 % [65, 100]"], "no failure counts as wrong"


def test_a_place_that_was_not_asked_yet_says_so(tmp_path):
    frame = requests()
    write(frame[(frame["length"] == 256) | (frame["depth"] == 0.0)], tmp_path)
    assert ["512", "100 %", "no answers", "0", "0"] in table_rows(tmp_path / "index.html")


def test_a_task_and_a_length_without_answers(tmp_path):
    frame = pd.concat(
        [requests(), requests(task="copy", correct=0, total=0, error="no", reply="", chance=None)]
    )
    page = write(frame, tmp_path)
    assert "No request of this task was answered." in page.text
    (row,) = [row for row in table_rows(tmp_path / "index.html") if row[:1] == ["copy"]]
    assert row[1:] == ["unknown", "no answers", "no answers", "needs two lengths"]
    alone = write(requests()[lambda f: f["length"] == 256], tmp_path)
    assert "need answers at two lengths or more" in alone.text


def test_tokens_seconds_and_cost_are_sums(page, tmp_path):
    # 28 requests: 308 prompt tokens at 2 USD and 84 reply tokens at 10 USD a million.
    for said in ("308", "140 (the others were reused)", "84", "14.0, added over requests", "0.001456 USD"):
        assert said in page.text
    assert "USD" not in write(requests(), tmp_path).text, "no price, no cost"


def test_empty_replies_are_counted(tmp_path):
    page = write(requests(reply=" \n"), tmp_path)
    assert "28 requests were answered, 28 of them by an empty reply; none failed." in page.text
    assert "(empty)" in page.text


def test_failures_that_differ_in_numbers_are_one_kind():
    errors = ["503 after 5 attempts", None, "timeout after 61.2 seconds", "500 after 3 attempts"]
    counts = failure_counts(pd.DataFrame({"error": errors}))
    assert counts == [("503 after 5 attempts", 2), ("timeout after 61.2 seconds", 1)]


def test_the_page_is_the_same_each_time(tmp_path):
    for name in ("one", "two"):
        write(requests(), tmp_path / name)
    assert (tmp_path / "one" / "index.html").read_bytes() == (tmp_path / "two" / "index.html").read_bytes()


def test_bad_frames_say_what_is_lacking(tmp_path):
    with pytest.raises(ValueError, match=r"lacks the columns \['reply'\]"):
        write(requests().drop(columns="reply"), tmp_path)
    with pytest.raises(ValueError, match="has no rows"):
        write(requests()[:0], tmp_path)
    assert not (tmp_path / "index.html").exists()
