"""Sphinx extension: mends markup of the tools below that screen readers and narrow columns stumble over."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from sphinx.application import Sphinx

MENDED: tuple[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]], ...] = (
    # docutils gives a bibliography and its entries roles that these elements may not have.
    (re.compile(r' role="doc-(?:biblioentry|biblioref|backlink)"'), ""),
    (re.compile(r' role="list" class="citation-list"'), ' class="citation-list"'),
    # pandas leaves the corner of a table an empty heading.
    (re.compile(r"<th></th>"), "<td></td>"),
    # A name in a table may break after an underscore and before a plus.
    (
        re.compile(r"(?<=>)[^<>]*\w[_+]\w[^<>]*(?=</t[hd]>)"),
        lambda cell: re.sub(r"(?<=_)(?=\w)|(?<=\w)(?=[+]\w)", "<wbr>", cell[0]),
    ),
)


def mend(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: object) -> None:
    """Apply the replacements to a page's body."""
    if "body" in context:
        for pattern, replacement in MENDED:
            context["body"] = pattern.sub(replacement, context["body"])


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the extension."""
    app.connect("html-page-context", mend)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
