"""Figures that move with no kernel: each is one self-contained HTML fragment.

Two kinds. `frames` draws every position of one slider beforehand and shows the picture that belongs to it;
`live` sends the formula itself, a few lines of JavaScript, and draws while the slider moves. Both fall back
to a still picture where no script runs, and to a PNG in a PDF. The bytes depend on the arguments alone.
"""

from __future__ import annotations

import base64
import hashlib
import html
import io
import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

JS = Path(__file__).parent / "js"
CRISP_BYTES = 24_000  # a vector picture up to this size is kept even where WebP is smaller
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
class Explorer:
    """A moving figure: the HTML fragment, its description, and a still picture for a PDF (PNG, or none)."""

    html: str = field(repr=False)
    alt: str
    png: bytes | None = field(default=None, repr=False)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        bundle = {"text/html": self.html, "text/plain": self.alt}
        if self.png is not None:
            bundle["image/png"] = base64.b64encode(self.png).decode("ascii")
        return bundle


def frames(
    draw: Callable[[Any], Any],
    control: Mapping[str, Iterable[Any]] | tuple[str, Iterable[Any]],
    *,
    alt: str,
    caption: str | None = None,
) -> Explorer:
    """One slider over pictures drawn beforehand: `draw(value)` returns a Figure or Axes for each value.

    `control` is `{name: values}` or `(name, values)`. `alt` describes the figure; each picture adds its
    value. The pictures are SVG, or WebP where that is smaller and SVG is heavy, all of one kind. Give every
    figure the same size: nothing is cropped, so that the axes stay where they are. Raises `ValueError` on
    fewer than two values.
    """
    _require_alt(alt)
    pairs = list(control.items()) if isinstance(control, Mapping) else [control]
    if len(pairs) != 1:
        raise ValueError(f"control has {len(pairs)} entries; frames move along exactly one")
    name, values = pairs[0][0], list(pairs[0][1])
    if len(values) < 2:
        raise ValueError(f"control {name!r} has {len(values)} values; a slider needs at least 2")
    labels = [
        format_number(v) if isinstance(v, (int, float)) and not isinstance(v, bool) else str(v)
        for v in values
    ]
    drawn: list[tuple[bytes, bytes, bytes]] = []
    for value in values:
        figure = _figure(draw(value))
        drawn.append(
            (_picture(figure, "svg"), _picture(figure, "webp"), _picture(figure, "png") if not drawn else b"")
        )
        size = [round(96 * inches) for inches in figure.get_size_inches()]
        plt.close(figure)
    pictures = _lighter([d[0] for d in drawn], [d[1] for d in drawn])
    first = f"{alt} ({name}: {labels[0]})"
    body = (
        f'<div class="lc-controls">{_control(name, labels[0], len(values) - 1, 0)}</div>'
        f'<img class="dark-light" src="{pictures[0]}" alt="{html.escape(first)}" '
        f'width="{size[0]}" height="{size[1]}">'
    )
    # The first picture stands in the page already, so the script carries only the others.
    spec = {"alt": alt, "name": name, "labels": labels, "frames": ["", *pictures[1:]]}
    return Explorer(_fragment(body, "frames.js", spec, caption), alt, drawn[0][2])


def live(
    javascript: str,
    controls: Mapping[str, Slider],
    *,
    alt: str,
    fallback: Figure | None = None,
    height: int = 250,
    panels: int = 1,
    caption: str | None = None,
) -> Explorer:
    """A figure that the page computes: `javascript` is the body of a function of `(v, draw)`.

    `v` holds the sliders' values by name. `draw` is the helper:

    - `draw.panel({title, x: [low, high], y, xlog, ylog, xlabel, ylabel, whole})` opens the next of `panels`,
      beside each other where there is room, each `height` pixels high (`whole`: integer ticks on x).
    - A panel's methods chain: `line(xs, ys, tone, "d")` ("d" is dashed), `band(xs, low, high, tone)`,
      `dots(xs, ys, tone, hollow)`, `rule(x, label)`, `level(y, label)`, `shade(from, to)`,
      `note(x, y, text)`; a tone is "a" or "b".
    - `draw.say(html)` writes the finding below, `draw.num(x)` prints a number, `draw.range(n)` and
      `draw.log(low, high, n)` make lists.

    `fallback` stands in where no script runs, and in a PDF. Raises `ValueError` on a script that names an
    address or closes itself, and on names that are no identifiers.
    """
    _require_alt(alt)
    if not controls:
        raise ValueError("controls is empty; a live explorer needs at least one slider")
    for name in controls:
        if not name.isidentifier():
            raise ValueError(f"controls has the name {name!r}; it must be an identifier, read as v.<name>")
    if not javascript.strip() or any(
        bad in javascript.lower() for bad in ("</script", "<!--", "http:", "https:")
    ):
        raise ValueError(
            "javascript is empty, closes the script or names an address; it must draw and nothing else"
        )
    if height < 120 or panels < 1:
        raise ValueError(
            f"height is {height} and panels is {panels}; allowed are height >= 120 and panels >= 1"
        )
    picture, png = f"<p>{html.escape(alt)}</p>", None
    if fallback is not None:
        png = _picture(fallback, "png")
        source = _lighter([_picture(fallback, "svg")], [_picture(fallback, "webp")])[0]
        picture = f'<img class="dark-light" src="{source}" alt="{html.escape(alt)}">'
        plt.close(fallback)
    sliders = "".join(
        _control(s.label, format_number(s.values[s.start]) + s.unit, len(s.values) - 1, s.start)
        for s in controls.values()
    )
    body = f'<div class="lc-controls">{sliders}</div><div class="lc-view">{picture}</div>'
    body += '<p class="lc-say" role="status"></p>'
    spec = {
        "alt": alt,
        "height": height,
        "panels": panels,
        "sliders": [{"name": name, "values": s.values, "unit": s.unit} for name, s in controls.items()],
    }
    return Explorer(_fragment(body, "live.js", spec, caption, javascript), alt, png)


def widget(function: Callable[..., Any], controls: Mapping[str, Slider]) -> Any:
    """A form of ipywidgets that calls `function(**values)` in the kernel at each move.

    Use it for what no page can compute, such as a model's forward pass. Without ipywidgets it returns an
    `Explorer` that says how to get them, so that a chapter runs on.
    """
    if not controls:
        raise ValueError("controls is empty; a form needs at least one slider")
    try:
        import ipywidgets
    except ModuleNotFoundError:
        text = "This form needs a kernel with ipywidgets: run `pip install ipywidgets` and this cell again."
        return Explorer(f"<p>{html.escape(text)}</p>", text)
    fields = {
        name: ipywidgets.SelectionSlider(
            options=[(format_number(x) + s.unit, x) for x in s.values],
            index=s.start,
            description=s.label,
            continuous_update=False,
            style={"description_width": "initial"},
            layout={"width": "min(480px, 95%)"},
        )
        for name, s in controls.items()
    }
    return ipywidgets.VBox([*fields.values(), ipywidgets.interactive_output(function, fields)])


def _require_alt(alt: str) -> None:
    if not alt.strip():
        raise ValueError("alt is empty; say in a sentence what the figure shows")


def _figure(drawn: Any) -> Figure:
    figure = drawn.get_figure(root=True) if isinstance(drawn, Axes) else drawn
    if not isinstance(figure, Figure):
        raise ValueError(f"draw returned {type(drawn).__name__}; it must return a matplotlib Figure or Axes")
    return figure


def _picture(figure: Figure, kind: str) -> bytes:
    """The figure's bytes, the same in every run: ids from a fixed salt, no date, no version."""
    options: dict[str, dict[str, Any]] = {
        "svg": {"metadata": {"Date": None, "Creator": None}},
        "png": {"metadata": {"Software": None}, "dpi": 160},
        "webp": {"dpi": 144, "pil_kwargs": {"quality": 84, "method": 6}},
    }
    with matplotlib.rc_context({"svg.hashsalt": "lcbook", "svg.fonttype": "path"}), io.BytesIO() as buffer:
        figure.savefig(buffer, format=kind, bbox_inches=None, facecolor="white", **options[kind])
        return buffer.getvalue()


def _lighter(svg: list[bytes], webp: list[bytes]) -> list[str]:
    """Data addresses of the pictures in the kind to send: SVG, unless it is heavy and WebP is smaller."""
    heavy = sum(map(len, svg)) > CRISP_BYTES * len(svg) and sum(map(len, webp)) < sum(map(len, svg))
    kind, chosen = ("webp", webp) if heavy else ("svg+xml", svg)
    return [f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}" for data in chosen]


def _control(label: str, shown: str, last: int, start: int) -> str:
    # Nesting the input in its label needs no id, so a page may hold the same explorer twice. JupyterLab takes
    # the arrow keys away from any element without the data attribute.
    return (
        f"<label><span>{html.escape(label)}</span>"
        f'<span class="lc-value" aria-hidden="true">{html.escape(shown)}</span>'
        f'<input type="range" min="0" max="{last}" step="1" value="{start}" autocomplete="off" '
        f'aria-valuetext="{html.escape(shown)}" data-lm-suppress-shortcuts="true"></label>'
    )


def _fragment(body: str, script: str, spec: dict[str, Any], caption: str | None, javascript: str = "") -> str:
    lines = (JS / script).read_text(encoding="utf-8").splitlines()
    code = "\n".join(line for line in lines if not line.startswith("//"))
    # "<" is escaped so that no text can close the script; the browser reads the same string.
    data = json.dumps(spec, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    code = code.replace("__SPEC__", data).replace("__BODY__", javascript.strip("\n"))
    style = (JS / "explorer.css").read_text(encoding="utf-8").strip()
    inner = f"<style>{style}</style>\n{body}"
    inner += f"<figcaption>{html.escape(caption)}</figcaption>" if caption else ""
    identity = "lc-" + hashlib.sha256((inner + code).encode()).hexdigest()[:12]
    code = code.replace("__ID__", identity)
    return f'<figure class="lc-explorer" id="{identity}">{inner}\n<script>\n{code}\n</script></figure>'
