"""Sphinx extension: "Open in Colab" and "Download notebook" under the title of each notebook."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sphinx.application import Sphinx


def add_links(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: object) -> None:
    """Put the two links after the first heading of the page's body."""
    if doctree is None or Path(app.env.doc2path(page)).suffix != ".ipynb":
        return
    options = app.config.html_theme_options
    repository = options["repository_url"].removeprefix("https://github.com/")
    place = f"{repository}/blob/{options['repository_branch']}/{page}.ipynb"
    colab = f"{options['launch_buttons']['colab_url']}/github/{place}"
    source = context["pathto"](f"_sources/{page}.ipynb", 1)
    links = (
        f'<p class="notebook-links"><a href="{colab}">Open in Colab</a>'
        f'<a href="{source}" download="{Path(page).name}.ipynb">Download notebook</a></p>'
    )
    title, end, rest = context["body"].partition("</h1>")
    context["body"] = title + end + links + rest


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the extension."""
    app.connect("html-page-context", add_links)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
