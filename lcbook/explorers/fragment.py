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
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lcbook.explorers.controls import Control, control_html, control_spec, format_number, slider_html

JS = Path(__file__).parent / "js"
CRISP_BYTES = 24_000  # a vector picture up to this size is kept even where WebP is smaller
BLUE, ORANGE = "#0b67b2", "#c2470a"  # the tones "a" and "b" on white, for pictures that stand in


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
    pictures = _lighter([d[0] for d in drawn], lambda: [d[1] for d in drawn])
    first = f"{alt} ({name}: {labels[0]})"
    body = (
        f'<div class="lc-controls">{slider_html(name, labels[0], len(values) - 1, 0)}</div>'
        f'<img class="dark-light" src="{pictures[0]}" alt="{html.escape(first)}" '
        f'width="{size[0]}" height="{size[1]}">'
    )
    # The first picture stands in the page already, so the script carries only the others.
    spec = {"alt": alt, "name": name, "labels": labels, "frames": ["", *pictures[1:]]}
    return Explorer(_fragment(body, "frames.js", spec, caption), alt, drawn[0][2])


def live(
    javascript: str,
    controls: Mapping[str, Control],
    *,
    alt: str,
    fallback: Figure | None = None,
    height: int = 250,
    panels: int = 1,
    caption: str | None = None,
) -> Explorer:
    """A figure that the page computes: `javascript` is the body of a function of `(v, draw)`.

    `v` holds the controls' values by name; a control that the script does not read at the present setting is
    greyed out, so read a value only where it counts. `draw` is the helper:

    - `draw.panel({title, x: [low, high], y, xlog, ylog, xlabel, ylabel, whole, ywhole, square, bare})` opens the
      next of `panels`, beside each other where each has 220 pixels and more, each `height` pixels high (`whole`:
      integer ticks on x, `ywhole`: on y; `square`: as wide as high; `bare`: no axes). An axis may run downward,
      `y: [64, 0]`.
    - A panel's methods chain: `line(xs, ys, tone, "d")` ("d" is dashed), `band(xs, low, high, tone)`,
      `dots(xs, ys, tone, hollow)`, `rule(x, label)`, `level(y, label)`, `shade(from, to)`,
      `note(x, y, text, anchor, kind)` (kind "q": tone b and bold, "o": pale), `bars(xs, low, high, wide, tone)`
      from x to x + wide, grey where no tone is given; a tone is "a" or "b". `cells(rows, columns, (r, c) => shade,
      tone)` paints a raster, cell (r, c) from (c, r) to (c + 1, r + 1), in a shade from 0 (blank) to 1.
    - `draw.say(html)` writes the finding below, `draw.num(x)` prints a number, `draw.range(n)` and
      `draw.log(low, high, n)` make lists.

    `fallback` stands in where no script runs, and in a PDF. Raises `ValueError` on a script that names an
    address or closes itself, and on names that are no identifiers.
    """
    _require_alt(alt)
    if not controls:
        raise ValueError("controls is empty; a live explorer needs at least one slider or choice")
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
    picture, png = _still(fallback, alt)
    many = " lc-many" if len(controls) > 3 else ""
    fields = "".join(control_html(control) for control in controls.values())
    body = f'<div class="lc-controls{many}">{fields}</div><div class="lc-view">{picture}</div>'
    body += '<p class="lc-say" role="status"></p>'
    spec = {
        "alt": alt,
        "height": height,
        "panels": panels,
        "controls": [{"name": name, **control_spec(control)} for name, control in controls.items()],
    }
    return Explorer(_fragment(body, "live.js", spec, caption, javascript), alt, png)


def script(name: str, **constants: Any) -> str:
    """Return the JavaScript file `name` of this folder, behind the constants that it reads."""
    told = ", ".join(f"{constant} = {_json(value)}" for constant, value in constants.items())
    return (f"const {told};\n" if told else "") + (JS / name).read_text(encoding="utf-8")


def _json(value: Any) -> str:
    """Return a value in JavaScript; "<" is escaped so that no text can close the script, and reads the same."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")


def _still(fallback: Figure | None, alt: str) -> tuple[str, bytes | None]:
    """Return what stands in for a figure where no script runs, and in a PDF; close the figure."""
    if fallback is None:
        return f"<p>{html.escape(alt)}</p>", None
    svg = _picture(fallback, "svg")
    fallback.set_layout_engine("none")  # the layout that was just found
    png, address = _picture(fallback, "png"), _lighter([svg], lambda: [_picture(fallback, "webp")])[0]
    plt.close(fallback)
    return f'<img class="dark-light" src="{address}" alt="{html.escape(alt)}">', png


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


def _lighter(svg: list[bytes], webp: Callable[[], list[bytes]]) -> list[str]:
    """Data addresses of the pictures in the kind to send: SVG, unless it is heavy and WebP is smaller."""
    kind, chosen, size = "svg+xml", svg, sum(map(len, svg))
    if size > CRISP_BYTES * len(svg) and sum(map(len, smaller := webp())) < size:
        kind, chosen = "webp", smaller
    return [f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}" for data in chosen]


def _fragment(body: str, script: str, spec: dict[str, Any], caption: str | None, javascript: str = "") -> str:
    lines = (JS / script).read_text(encoding="utf-8").splitlines()
    code = "\n".join(line for line in lines if not line.startswith("//"))
    code = code.replace("__SPEC__", _json(spec)).replace("__BODY__", javascript.strip("\n"))
    style = (JS / "explorer.css").read_text(encoding="utf-8").strip()
    inner = f"<style>{style}</style>\n{body}"
    inner += f"<figcaption>{html.escape(caption)}</figcaption>" if caption else ""
    identity = "lc-" + hashlib.sha256((inner + code).encode()).hexdigest()[:12]
    code = code.replace("__ID__", identity)
    return f'<figure class="lc-explorer" id="{identity}">{inner}\n<script>\n{code}\n</script></figure>'
