"""Sliders and menus: the positions, what is refused, and the HTML."""

from __future__ import annotations

from typing import Any

import pytest

from lcbook.explorers.controls import Choice, control_html, format_number
from tests.fragments import Reader, slider


def test_slider_positions() -> None:
    assert slider(low=1, high=8, step=2, value=4, log=True).values == (1, 2, 4, 8)
    assert slider(low=0, high=1, step=0.25, value=0.5).values == (0, 0.25, 0.5, 0.75, 1)
    assert slider(low=0, high=1, step=0.1, value=0.3).values[3] == 0.3  # not 0.30000000000000004
    log = slider(low=10, high=1_000_000, step=10**0.05, value=10_000, log=True)
    assert len(log.values) == 101
    assert log.values[log.start] == 10_000
    assert slider(low=64, high=100, step=2**0.25, value=70, log=True).values == (64, 80, 100)
    assert slider(value=3.4).start == 3


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (10_000, "10,000"),
        (1 / 256, "1/256"),
        (0.5, "0.5"),
        (83.14, "83.1"),
        (0, "0"),
        (999.6, "1000"),
        (-2.5, "-2.5"),
    ],
)
def test_format_number(value: float | int, text: str) -> None:
    assert format_number(value) == text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"low": 10}, "low is 10 and high is 10"),
        ({"step": 0}, "step is 0"),
        ({"value": 11}, "value is 11"),
        ({"label": " "}, "label is empty"),
        ({"log": True}, "low is 0; a log slider"),
        ({"low": 1, "log": True}, "step is 1; it must be above 1"),
        ({"step": 0.001}, "step is 0.001; at most 4096 positions"),
    ],
)
def test_bad_slider(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        slider(**changes)


def test_menu() -> None:
    reader = Reader(control_html(Choice(("a <b>", "c"), "c", "Kind")))
    assert reader.open == []
    (select,) = [attrs for tag, attrs, parents in reader.seen if tag == "select" and parents == ("label",)]
    assert select["data-lm-suppress-shortcuts"] == "true"
    options = [attrs for tag, attrs, _ in reader.seen if tag == "option"]
    assert options == [{"value": "0"}, {"value": "1", "selected": None}]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"options": ("a",)}, "it must hold at least 2 names"),
        ({"options": ("a", "b", "a")}, "all distinct"),
        ({"options": ("a", " ")}, "all distinct"),
        ({"value": "c"}, "value is 'c'; it must be one of a, b"),
        ({"label": " "}, "label is empty"),
    ],
)
def test_bad_menu(changes: dict[str, Any], message: str) -> None:
    settings: dict[str, Any] = {"options": ("a", "b"), "value": "a", "label": "Kind"}
    with pytest.raises(ValueError, match=message):
        Choice(**(settings | changes))
