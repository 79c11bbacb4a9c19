"""Formats: how numbers are written in figures, tables and sentences, and refused where they are too small."""

from __future__ import annotations

from typing import Any

import numpy as np

Number = float | int | np.integer | np.floating


def numeric(value: Any) -> bool:
    """Return whether `value` is a number; True and False are none."""
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)


def tokens(count: Number) -> str:
    """Return a number of tokens in short: 64, 1K for 1024, 1.5K for 1536, 1M for 2^20."""
    value = float(count)
    for unit, name in ((2**20, "M"), (2**10, "K")):
        if round(value) >= unit:
            scaled = value / unit
            whole = scaled >= 9.95 or abs(scaled - round(scaled)) < 0.05
            return f"{scaled:.0f}{name}" if whole else f"{scaled:.1f}{name}"
    return f"{value:.0f}" if value >= 9.95 or value == round(value) else f"{value:.2g}"


def percent(share: Number) -> str:
    """Return a share in percent: 0.125 is 12.5 %, 0.97 is 97 %."""
    value = 100 * float(share)
    return f"{value:.0f} %" if value >= 20 or abs(value - round(value)) < 0.05 else f"{value:.1f} %"


def short(number: Number) -> str:
    """Return a number in short, K a thousand and M a million: 0.0156, 500, 1024, 10K, 1M."""
    value = float(number)
    if abs(value) >= 10**6:
        return f"{value / 10**6:.3g}M"
    if abs(value) >= 10**4:
        return f"{value / 1000:.3g}K"
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def at_least(least: int, **values: Number) -> None:
    """Raise ValueError, naming it, for a value below `least`."""
    for name, value in values.items():
        if not value >= least:
            raise ValueError(f"{name} is {value}; allowed is {least} or more.")


def label(value: Any) -> str:
    """Return what figures and tables call a value of a menu: its `label`, else the value as it is written."""
    return str(getattr(value, "label", value)).removesuffix("()")


def spelled(column: str) -> str:
    """Return a column's last part in words: "model.key_shift" is "Key shift"."""
    last = column.rpartition(".")[2].replace("_", " ")
    return last[:1].upper() + last[1:]


def called(hue: str | None, value: Any) -> str:
    """Return what a value of a hue column is called: itself if a word, else as in "key shift True"."""
    if isinstance(value, str) or hue is None:
        return str(value)
    shown = (tokens if hue in ("length", "gap") else short)(value) if numeric(value) else str(value)
    return f"{hue.rpartition('.')[2].replace('_', ' ')} {shown}"
