"""Sphinx extension: no page of the built book asks another host for anything, and all of them work from disk.

MathJax is copied from the package `sphinx-mathjax-offline`. Thebe, which loads from a CDN on every page, is
left out. The search page fetches no summaries where it is opened from disk, since browsers forbid it there.
"""

from __future__ import annotations

import shutil
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

# What tex-chtml.js can load by itself: 24 MB of MathJax come down to 2.5.
MATHJAX_PARTS = (
    "tex-chtml.js",
    "a11y/assistive-mml.js",
    "input/tex/extensions",
    "output/chtml/fonts",
)
NO_SUMMARY_FROM_DISK = 'if (location.protocol === "file:") DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;'


def _mathjax_folder() -> Path:
    files = distribution("sphinx-mathjax-offline").files or []
    return next(Path(file.locate()).parent for file in files if file.name == "tex-chtml.js")


def copy_mathjax(app: Sphinx, error: Exception | None) -> None:
    """Copy the parts of MathJax that the pages use into the built site."""
    if error is not None or app.builder.format != "html":
        return
    source, target = _mathjax_folder(), Path(app.outdir, "_static", "mathjax")
    for part in MATHJAX_PARTS:
        (target / part).parent.mkdir(parents=True, exist_ok=True)
        if (source / part).is_dir():
            shutil.copytree(source / part, target / part, dirs_exist_ok=True)
        else:
            shutil.copy2(source / part, target / part)


def drop_thebe(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: object) -> None:
    """Leave thebe's scripts and style sheets out of a page."""
    for files in ("script_files", "css_files"):
        context[files] = [file for file in context[files] if not _is_thebe(file)]


def _is_thebe(file: Any) -> bool:
    text = f"{getattr(file, 'filename', file)} {getattr(file, 'attributes', '')}"
    return "thebe" in text.lower()


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the extension."""
    app.add_js_file(None, body=NO_SUMMARY_FROM_DISK, priority=900)
    app.connect("html-page-context", drop_thebe, priority=900)
    app.connect("build-finished", copy_mathjax)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
