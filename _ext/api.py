"""Sphinx extension: fills the page `chapters/api` with the docstrings of the modules that chapters use."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from functools import reduce
from pathlib import Path

from sphinx.application import Sphinx

import lcbook

PAGE = "chapters/api"
WRITTEN = re.compile(r"\blc((?:\.[A-Za-z]\w*)+)")
IMPORTED = re.compile(r"from lcbook((?:\.\w+)+) import \(?([\w, ]+)")


def used(chapters: list[Path]) -> set[str]:
    """The modules that define what chapters write as `lc.name`, `lc.room.name` or import from `lcbook`."""
    text = "".join(chapter.read_text(encoding="utf8") for chapter in chapters)
    paths = set(WRITTEN.findall(text))
    paths |= {f"{room}.{name.strip()}" for room, names in IMPORTED.findall(text) for name in names.split(",")}
    paths |= {f".{name}" for name in lcbook.__all__}
    things = [reduce(lambda x, name: getattr(x, name, x), path.split(".")[1:], lcbook) for path in paths]
    modules = {inspect.getmodule(thing) for thing in things}
    return {module.__name__ for module in modules if module and not hasattr(module, "__path__")}


def lines(chapters: list[Path]) -> Iterator[str]:
    """The names of `lc`, linked to where they are defined, then each module under the file that holds it."""
    for name in lcbook.__all__:
        if not inspect.ismodule(thing := getattr(lcbook, name)):
            yield f"- {{py:obj}}`lc.{name} <{thing.__module__}.{thing.__qualname__}>`"
    for module in sorted(name for name in used(chapters) if name.startswith("lcbook.")):
        yield f"\n## {'/'.join(module.split('.')[1:])}.py\n"
        yield f"```{{eval-rst}}\n.. automodule:: {module}\n   :members:\n```"


def fill(app: Sphinx, page: str, source: list[str]) -> None:
    """Append the lists to the page's text."""
    if page == PAGE:
        source[0] += "\n".join(lines(sorted(Path(app.srcdir, "chapters").glob("*.*"))))


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the extension."""
    app.setup_extension("sphinx.ext.autodoc")
    app.connect("source-read", fill)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
