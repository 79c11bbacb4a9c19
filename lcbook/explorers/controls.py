"""What a reader may move in a figure: a number on a slider or a name in a menu, and the HTML of each."""

from __future__ import annotations

import html
import math
from dataclasses import dataclass
from typing import Any

MOST_POSITIONS = 4096


def format_number(value: float | int, digits: int = 3) -> str:
    """The text of a slider's number: `10,000`, `0.0313`, and `1/256` for such a power of two."""
    if 0 < value <= 0.25 and math.log2(value).is_integer():
        return f"1/{round(1 / value)}"
    if abs(value) >= 1000:
        return f"{math.floor(value + 0.5):,}"
    return f"{float(f'{value:.{digits}g}'):g}"


@dataclass(frozen=True)
class Slider:
    """A number the reader may move from `low` to `high`, starting at `value`.

    `step` is a difference, or with `log=True` the factor between neighbours. Where `low` and `high` are
    integers on a log scale, every position is rounded to an integer. `unit` follows the number, say `"
    tokens"`.

    Raises `ValueError` if the range is empty, the step does not advance, or the start lies outside.
    """

    low: float | int
    high: float | int
    step: float | int
    value: float | int
    label: str
    log: bool = False
    unit: str = ""

    def __post_init__(self) -> None:
        if not self.label.strip():
            raise ValueError("label is empty; a slider needs a name that a screen reader can say")
        if not self.low < self.high:
            raise ValueError(f"low is {self.low} and high is {self.high}; low must be below high")
        if self.log and self.low <= 0:
            raise ValueError(f"low is {self.low}; a log slider needs low above 0")
        if not self.step > (1 if self.log else 0):
            raise ValueError(f"step is {self.step}; it must be above {'1 (a factor)' if self.log else '0'}")
        if not self.low <= self.value <= self.high:
            raise ValueError(f"value is {self.value}; it must lie from {self.low} to {self.high}")
        if self._intervals() >= MOST_POSITIONS:
            raise ValueError(f"step is {self.step}; at most {MOST_POSITIONS} positions are allowed")

    def _intervals(self) -> int:
        span = (self.high - self.low) / self.step
        if self.log:
            span = math.log(self.high / self.low) / math.log(self.step)
        return max(1, math.floor(span + 1e-9))

    @property
    def values(self) -> tuple[float | int, ...]:
        """Every position, ascending, in the exact decimal digits that the page computes with."""
        count = self._intervals()
        if self.log:
            raw = [self.low * (self.high / self.low) ** (k / count) for k in range(count + 1)]
        else:
            raw = [self.low + k * self.step for k in range(count + 1)]
        if self.log and isinstance(self.low, int) and isinstance(self.high, int):
            return tuple(sorted({round(x) for x in raw}))
        kept = (float(f"{x:.9g}") for x in raw)
        return tuple(int(x) if x.is_integer() else x for x in kept)

    @property
    def start(self) -> int:
        """Index into `values` of the position nearest to `value`."""
        return min(range(len(self.values)), key=lambda k: abs(self.values[k] - self.value))


@dataclass(frozen=True)
class Choice:
    """One of a few named `options`, starting at `value`; the page shows a menu and the script reads the name.

    Raises `ValueError` on fewer than two options, an empty or repeated one, or a start that is none of them.
    """

    options: tuple[str, ...]
    value: str
    label: str

    def __post_init__(self) -> None:
        if not self.label.strip():
            raise ValueError("label is empty; a menu needs a name that a screen reader can say")
        named = {option for option in self.options if option.strip()}
        if len(self.options) < 2 or len(named) < len(self.options):
            raise ValueError(f"options is {self.options}; it must hold at least 2 names, all distinct")
        if self.value not in self.options:
            raise ValueError(f"value is {self.value!r}; it must be one of {', '.join(self.options)}")


Control = Slider | Choice


def control_html(control: Control) -> str:
    """Return the HTML of a control at its start."""
    if isinstance(control, Slider):
        shown = format_number(control.values[control.start]) + control.unit
        return slider_html(control.label, shown, len(control.values) - 1, control.start)
    options = "".join(
        f'<option value="{k}"{" selected" * (option == control.value)}>{html.escape(option)}</option>'
        for k, option in enumerate(control.options)
    )
    return (
        f"<label><span>{html.escape(control.label)}</span>"
        f'<select autocomplete="off" data-lm-suppress-shortcuts="true">{options}</select></label>'
    )


def control_spec(control: Control) -> dict[str, Any]:
    """Return what the page has to know of a control: its values in order, and the unit of numbers."""
    if isinstance(control, Choice):
        return {"values": control.options}
    return {"values": control.values, "unit": control.unit}


def slider_html(label: str, shown: str, last: int, start: int) -> str:
    """Return the HTML of a slider with positions 0 to `last` that starts at `start`, where it reads `shown`."""
    # Nesting the input in its label needs no id, so a page may hold the same explorer twice. JupyterLab takes
    # the arrow keys away from any element without the data attribute.
    return (
        f"<label><span>{html.escape(label)}</span>"
        f'<span class="lc-value" aria-hidden="true">{html.escape(shown)}</span>'
        f'<input type="range" min="0" max="{last}" step="1" value="{start}" autocomplete="off" '
        f'aria-valuetext="{html.escape(shown)}" data-lm-suppress-shortcuts="true"></label>'
    )
