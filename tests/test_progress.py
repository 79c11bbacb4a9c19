"""Progress: shares and times by hand, this machine's clock before the shipped one, and files that are none."""

from __future__ import annotations

import json
import math

import pytest

from lcbook import progress
from lcbook.progress import Clock
from tools import book

CLOCK = Clock({"first": 20.0, "second": 60.0, "chosen": 60.0}, 100.0, 0.5, 2)


@pytest.fixture(autouse=True)
def half_as_fast(monkeypatch):
    monkeypatch.setattr(progress, "pace", lambda: 1.0)


def test_shares_and_words_worked_by_hand():
    assert CLOCK.share("first", 0.5) == 0.1
    assert CLOCK.share("second", 0.25) == pytest.approx(0.3)  # 20 s and a quarter of 40
    assert math.isnan(CLOCK.share("another", 0.5))
    assert CLOCK.expected(2) == 200.0, "a machine of half the pace"
    assert CLOCK.expected(4) == 100.0
    assert CLOCK.expected(1) == CLOCK.expected(64) * 4 == 400.0, "at most a factor of two either way"
    assert CLOCK.words("first", 0.0, 3.0, 2) == "chapter 0%, about 197 s left"
    assert CLOCK.words("second", 0.25, 90.0, 2) == "chapter 30%, about 210 s left", (
        "by its own pace from a tenth on"
    )
    assert CLOCK.words("second", 0.25, None, 2) == "chapter 30%, about 140 s left", "of 200 s, as of old"
    assert CLOCK.words("second", 0.25, 9000.0, 2) == "chapter 30%, about 5.8 hours left"
    assert CLOCK.words("another", 0.5, 9.0, 2) == ""


def test_this_machines_clock_comes_first_and_can_be_shipped(monkeypatch, tmp_path):
    (tmp_path / "lcbook").mkdir()
    monkeypatch.setattr(book, "ROOT", tmp_path)
    monkeypatch.setattr(progress, "SHIPPED", tmp_path / "lcbook" / "clocks.json")
    assert progress.find("01", "live", tmp_path) is None
    progress.keep(CLOCK, "01", "live", tmp_path)
    book.keep_clocks(tmp_path)
    elsewhere = tmp_path / "elsewhere"
    assert progress.find("01", "live", elsewhere) == CLOCK
    progress.keep(Clock({}, 7.0, 1.0, 1), "01", "live", elsewhere)
    assert progress.find("01", "live", elsewhere).total == 7.0
    for broken in ("{", "[]", json.dumps({"total": 1}), "[" * 9999):
        (elsewhere / "clocks" / "01-live.json").write_text(broken)
        assert progress.find("01", "live", elsewhere) == CLOCK


def test_a_folder_that_cannot_be_written_is_left_alone(tmp_path):
    (tmp_path / "clocks").write_text("a file")
    progress.keep(CLOCK, "01", "live", tmp_path)
    assert progress.find("02", "live", tmp_path) is None
