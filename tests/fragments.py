"""What the tests of the explorers share: reading a fragment, and a page from disk in a browser with no network."""

from __future__ import annotations

import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page

from lcbook.explorers.controls import Slider
from lcbook.explorers.fragment import Explorer

VOID = {"input", "img", "br", "meta", "link"}


def slider(**changes: Any) -> Slider:
    settings: dict[str, Any] = {"low": 0, "high": 10, "step": 1, "value": 3, "label": "Start"}
    return Slider(**(settings | changes))


class Reader(HTMLParser):
    """Collects elements and checks that every one that opens also closes, in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None], tuple[str, ...]]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs), tuple(self.open)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


class Shown:
    """A page from disk, in a context that is offline; `problems` fills with console errors and requests."""

    def __init__(self, browser: Browser, path: Path, body: str, **options: Any) -> None:
        theme = options.pop("theme", "")
        path.write_text(
            f'<!doctype html><html lang="en" {theme}><head><meta charset="utf-8"><title>Explorer</title>'
            '<meta name="viewport" content="width=device-width">'
            '<meta name="color-scheme" content="light dark">'
            "<style>body{background:light-dark(#fff,#121212)}</style>"
            f"</head><body><main><h1>Explorer</h1>{body}</main></body></html>",
            encoding="utf-8",
        )
        self.context = browser.new_context(**({"viewport": {"width": 800, "height": 900}} | options))
        self.context.set_offline(True)
        self.page: Page = self.context.new_page()
        self.problems: list[str] = []
        self.page.on("console", lambda message: self.problems.append(message.text))
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        allowed = ("file:", "data:")
        self.page.on("request", lambda r: None if r.url.startswith(allowed) else self.problems.append(r.url))
        self.page.goto(path.as_uri())

    def __enter__(self) -> Shown:
        return self

    def __exit__(self, *error: object) -> None:
        self.context.close()
        if error[0] is None:
            assert self.problems == []

    def move(self, explorer: int, **positions: int) -> None:
        """Puts the sliders s0, s1, ... of one explorer at positions, then waits for the drawing."""
        for name, position in positions.items():
            self.page.locator("figure").nth(explorer).locator("input").nth(int(name[1:])).fill(str(position))
        self.page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def said(self, explorer: int = 0) -> str:
        return self.page.locator("figure").nth(explorer).locator(".lc-say").inner_text()


def three(x: float) -> str:
    """The digits of `draw.num`."""
    return f"{math.floor(x + 0.5):,}" if abs(x) >= 1000 else f"{float(f'{x:.3g}'):g}"


CONTRAST = """() => {
  const light = (c) => c.match(/[\\d.]+/g).slice(0, 3).map((x) => x / 255)
    .map((x) => (x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4))
    .reduce((sum, x, i) => sum + x * [0.2126, 0.7152, 0.0722][i], 0);
  const page = light(getComputedStyle(document.body).backgroundColor);
  const ratio = (c) => (Math.max(light(c), page) + 0.05) / (Math.min(light(c), page) + 0.05);
  const of = (query, name) =>
    [...document.querySelectorAll(query)].map((e) => ratio(getComputedStyle(e)[name]));
  return [...of("polyline", "stroke"), ...of("svg text", "fill"), ...of(".lc-say b", "color")];
}"""


def painted(paths: list[Any], columns: int, rows: int, side: float = 176.0) -> dict[tuple[int, int], float]:
    """The shades of the cells (row, column) that the paths of a raster paint, `side` pixels high and wide."""
    shades: dict[tuple[int, int], float] = {}
    for path in paths:
        shade = float(re.search(r"fill-opacity:\s*([\d.]+)", path.get_attribute("style")).group(1))
        for x, y, to, below in re.findall(r"M([\d.]+) ([\d.]+)H([\d.]+)V([\d.]+)H", path.get_attribute("d")):
            row = round(float(y) / side * rows)
            assert round(float(below) / side * rows) == row + 1
            for column in range(round(float(x) / side * columns), round(float(to) / side * columns)):
                assert (row, column) not in shades, "a cell is painted twice"
                shades[row, column] = shade
    return shades


# Runs the body of a live explorer at each of some settings; returns what it would draw, in full precision, as JSON.
RUN = """({body, settings}) => JSON.stringify(settings.map((v) => {
  const update = new Function("v", "draw", body);
  const out = { lines: [], dots: [], points: [], rasters: [], notes: [], bars: [], said: "" };
  const add = (list, make) => (...given) => (out[list].push(make(...given)), p);
  const p = {
    line: add("lines", (xs, ys) => [[...xs], [...ys]]),
    dots: (xs, ys) => (out.dots.push([xs[0], ys[0]]), out.points.push([[...xs], [...ys]]), p),
    note: add("notes", (x, y, text) => text),
    bars: add("bars", (xs, low, high, wide, tone) => ({ tone, xs, low, high })),
    cells: add("rasters", (rows, columns, shade, tone) => ({ tone,
      cells: draw.range(rows).map((r) => draw.range(columns).map((c) => +shade(r, c))) })),
    band: () => p, rule: () => p, level: () => p, shade: () => p,
  };
  const draw = {
    panel: () => p, num: String, say: (text) => { out.said = text; },
    range: (n) => Array.from({ length: n }, (_, i) => i),
    log: (a, b, n) => Array.from({ length: n }, (_, i) => a * (b / a) ** (i / (n - 1))),
  };
  update(v, draw);
  return out;
}))"""


def computed(browser: Browser, explorer: Explorer, settings: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the script of a live explorer draws at each of some settings: lines, dots, notes, rasters and the text."""
    body = explorer.html.split("const update = (v, draw) => {\n")[1].split("\n  };\n")[0]
    with browser.new_page() as page:
        return json.loads(page.evaluate(RUN, {"body": body, "settings": settings}))
