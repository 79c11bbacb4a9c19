"""The one look of the figures: colours, markers, type, ticks and how numbers are written.

A figure must be legible on a phone, where 6.4 inches shrink to 390 pixels: large type, few ticks, names
beside the lines. Nothing here computes a result, and nothing changes a reader's rcParams.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib import colors
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from lcbook.formats import Number, numeric, tokens

P = ParamSpec("P")
T = TypeVar("T")
TEXT, SMALL = 12, 10.5  # points
GREY, PALE = "#666666", "#e4e4e4"
SIZE = (6.4, 3.8)  # inches
RC = {
    "font.size": TEXT, "axes.labelsize": TEXT, "axes.titlesize": TEXT, "legend.fontsize": SMALL,
    "xtick.labelsize": SMALL, "ytick.labelsize": SMALL, "figure.facecolor": "white",
    "axes.facecolor": "white", "figure.constrained_layout.use": True, "hatch.linewidth": 1.0,
    "text.color": "black", "axes.labelcolor": "black", "axes.titlecolor": "black",
    "xtick.labelcolor": "black", "ytick.labelcolor": "black", "font.family": "sans-serif", "axes.grid": False,
    "legend.labelcolor": None,
}  # fmt: skip


@dataclass(frozen=True)
class Look:
    """How one arm is drawn: colour, marker and line style."""

    color: str
    marker: str
    line: str | tuple[int, tuple[float, ...]] = "-"

    @property
    def dashes(self) -> str | tuple[float, ...]:
        """The line style as seaborn takes it: nothing for a solid line, else lengths of dashes and gaps."""
        return self.line[1] if isinstance(self.line, tuple) else ""

    @property
    def ink(self) -> str:
        """The colour, darkened until text in it on white has a contrast of 4.5 to 1 (WCAG 2.2, AA)."""
        rgb = np.array(colors.to_rgb(self.color))
        while 1.05 / (luminance(rgb) + 0.05) < 4.5:
            rgb = rgb * 0.95
        return colors.to_hex(rgb)


# Okabe & Ito 2008 without the yellow: safe for common colour blindness. Each has its own marker besides.
ENCODINGS = {
    "none": Look("#4d4d4d", "o"),
    "sinusoidal": Look("#e69f00", "s"),
    "learned": Look("#cc79a7", "D"),
    "RoPE": Look("#0072b2", "^"),
    "ALiBi": Look("#d55e00", "v"),
    "T5 bias": Look("#009e73", "P"),
}
SCALINGS = {
    "PI": Look("#d55e00", "s"),
    "NTK": Look("#e69f00", "D"),
    "dynamic NTK": Look("#cc79a7", "v"),
    "YaRN": Look("#009e73", "P"),
    "LongRoPE": Look("#56b4e9", "X"),
    "Llama 3": Look("#4d4d4d", "o"),
}
OTHERS = tuple(
    Look(color, marker)
    for color, marker in zip(
        ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#4d4d4d"), "o^sDvPX", strict=True
    )
)
LINES: tuple[str | tuple[int, tuple[float, ...]], ...] = (
    "-",
    (0, (1.0, 1.2)),
    (0, (6.4, 1.6, 1.0, 1.6)),
    (0, (6.0, 1.5, 1.0, 1.5, 1.0, 1.5)),
)
DASHED, DOTS = (0, (4.0, 1.6)), (0, (1.0, 1.5))


def style() -> AbstractContextManager[None]:
    """Return a context in which new figures have the book's look; leaving it restores the rcParams.

    A notebook's backend turns interactive drawing on when it is first asked for: that is done here, before the
    context, so that leaving it does not turn it off again.
    """
    plt.draw_if_interactive()
    return mpl.rc_context(RC)


def styled(draw: Callable[P, T]) -> Callable[P, T]:
    """Make a drawing function draw in the book's look, whatever the reader's rcParams are."""

    @functools.wraps(draw)
    def within(*args: P.args, **kwargs: P.kwargs) -> T:
        with style():
            return draw(*args, **kwargs)

    return within


def luminance(rgb: Any) -> float:
    """Return the relative luminance (WCAG 2.2) of an sRGB colour in [0, 1]: black has 0, white 1."""
    c = np.asarray(rgb, float)[:3]
    linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))


def looks(values: Sequence[Any]) -> dict[Any, Look]:
    """Return the look of each value of a hue column.

    An encoding's colour and marker are the same in every figure; "<encoding> randomized" has them dashed, and
    "<encoding>, <anything>" in a line style for each anything. Numbers are shades from dark to light; other
    names take the palette in order.
    """
    ordered = list(dict.fromkeys(values))
    if len(ordered) > 1 and all(map(numeric, ordered)):
        shades = mpl.colormaps["viridis"](np.linspace(0, 0.85, len(ordered)))
        ranked = zip(sorted(ordered), shades, strict=True)
        return {v: Look(colors.to_hex(c), "o^sDvPX"[i % 7]) for i, (v, c) in enumerate(ranked)}
    rests = list(dict.fromkeys(str(v).partition(", ")[2] for v in ordered))
    found: dict[Any, Look] = {}
    for value in ordered:
        first, _, rest = str(value).partition(", ")
        plain = first.removesuffix(" randomized")
        known = ENCODINGS.get(plain) or SCALINGS.get(plain.removeprefix("RoPE + "))
        if known:
            line = DASHED if plain != first else LINES[rests.index(rest) % len(LINES)]
            found[value] = Look(known.color, known.marker, line)
    taken = {look.color for look in found.values()}
    free = [look for look in OTHERS if look.color not in taken] or list(OTHERS)
    for i, value in enumerate(v for v in ordered if v not in found):
        look = free[i % len(free)]
        found[value] = Look(look.color, look.marker, LINES[i // len(free) % len(LINES)])
    return {value: found[value] for value in ordered}


def new(size: tuple[float, float] = SIZE, **grid: Any) -> Any:
    """Return the axes of a new figure of `size` inches: one, or the array that plt.subplots(**grid) makes."""
    return plt.subplots(figsize=size, **grid)[1]


def dress(ax: Axes, xlabel: str = "", ylabel: str = "", *, grid: str = "y") -> None:
    """Give `ax` the book's spines, type sizes, axis labels and grid, whoever made it."""
    ax.set_xlabel(xlabel, fontsize=TEXT)
    ax.set_ylabel(ylabel, fontsize=TEXT)
    ax.tick_params(which="both", labelsize=SMALL, length=3, color=GREY)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    for side in ("bottom", "left"):
        ax.spines[side].set_color(GREY)
    ax.set_axisbelow(True)
    if grid:
        ax.grid(True, axis=grid, color=PALE, linewidth=0.8)


def token_axis(ax: Axes, values: Iterable[Any], *, which: str = "x", ticks: int = 6) -> None:
    """Make an axis logarithmic to base 2 with at most `ticks` of `values` as ticks, written by `tokens`."""
    axis, at = (ax.xaxis if which == "x" else ax.yaxis), sorted({float(v) for v in values})
    (ax.set_xscale if which == "x" else ax.set_yscale)("log", base=2)
    axis.set_major_locator(FixedLocator(at[:: -(-len(at) // ticks)]))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: tokens(value)))


def recall_axis(ax: Axes, levels: Mapping[str, Number] | None = None) -> None:
    """Make y a recall from 0 to 100 %; dotted `levels`, such as chance, are ticks and oust those close by."""
    levels = levels or {}
    ax.set_ylim(-0.03, 1.04)
    quarters = (0, 0.25, 0.5, 0.75, 1)
    ticks = [tick for tick in quarters if all(abs(tick - level) >= 0.065 for level in levels.values())]
    ax.set_yticks([*ticks, *levels.values()], [*(f"{100 * tick:.0f} %" for tick in ticks), *levels])
    for level in levels.values():
        ax.axhline(float(level), color=GREY, linewidth=1.2, linestyle=":", zorder=1.5)


def percent_axis(axis: Any, ticks: Sequence[Number] = (0, 0.25, 0.5, 0.75, 1)) -> None:
    """Make an axis a share from 0 to 100 % with these ticks."""
    (axis.axes.set_xlim if axis.axis_name == "x" else axis.axes.set_ylim)(-0.03, 1.04)
    axis.set_ticks(ticks, [f"{100 * tick:.0f} %" for tick in ticks])


def color_bar(ax: Axes, image: Any, label: str = "") -> Any:
    """Return a slim colour bar of `image` beside `ax`."""
    figure = ax.get_figure()
    assert figure is not None  # an axes that was drawn on belongs to a figure
    bar = figure.colorbar(image, ax=ax, fraction=0.05, pad=0.02)
    bar.ax.tick_params(labelsize=SMALL, length=0)
    bar.outline.set_visible(False)
    bar.set_label(label, fontsize=TEXT)
    return bar
