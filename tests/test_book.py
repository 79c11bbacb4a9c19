"""The built book, read in a browser with the network blocked. Run `make book` first, or `make test`."""

from __future__ import annotations

import functools
import http.server
import re
import threading
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, ConsoleMessage, Page

HTML = Path(__file__).resolve().parent.parent / "_build" / "html"
# index.html only leads on to the introduction.
PAGES = sorted(
    path.relative_to(HTML).as_posix()
    for path in HTML.rglob("*.html")
    if "_static" not in path.parts and path.name != "index.html"
)
CHAPTERS = [page for page in PAGES if re.match(r"chapters/\d\d_", page)]
# Two faults of the theme itself; any other fails.
THEME_FAULTS = {("label-content-name-mismatch", "search-button"), ("region", "navbar-brand")}
MOST_BYTES = 6_000_000
PROJECT = tomllib.loads((HTML.parent.parent / "pyproject.toml").read_text())["project"]
REPOSITORY = PROJECT["urls"]["Repository"].removeprefix("https://github.com/")

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def site() -> Iterator[dict[str, str]]:
    """The addresses at which the built book stands: from disk and over HTTP."""
    assert (HTML / "index.html").exists(), f"there is no built book in {HTML}: run make book first"

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(HTML))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield {"disk": HTML.as_uri(), "http": f"http://127.0.0.1:{server.server_port}"}
        server.shutdown()


class Reader:
    """One page in the browser, and what went wrong on it: foreign or failed requests, script errors."""

    def __init__(self, page: Page, base: str) -> None:
        self.page, self.base = page, base
        self.faults: list[str] = []
        page.route("**/*", self._gate)
        page.on("pageerror", lambda error: self.faults.append(f"script error: {error}"))
        page.on("console", self._listen)
        page.on("requestfailed", lambda request: self.faults.append(f"failed request: {request.url}"))

    def _listen(self, said: ConsoleMessage) -> None:
        if said.type == "error":
            self.faults.append(f"console: {said.text}")

    def _gate(self, route: Any) -> None:
        if route.request.url.startswith((self.base, "data:", "blob:")):
            route.continue_()
        else:
            self.faults.append(f"request outside the book: {route.request.url}")
            route.abort()

    def open(self, path: str) -> Page:
        """Load a page of the book and wait until its formulas are drawn."""
        self.page.goto(f"{self.base}/{path}", wait_until="load")
        self.page.evaluate("async () => { if (window.MathJax?.startup) await MathJax.startup.promise }")
        self.page.wait_for_timeout(150)
        return self.page


@pytest.fixture
def reader(browser: Browser, site: dict[str, str], request: pytest.FixtureRequest) -> Iterator[Reader]:
    """A fresh window; parametrize it indirectly with `(way, width, colour scheme)`."""
    way, width, scheme = getattr(request, "param", ("disk", 1280, "light"))
    window = browser.new_page(viewport={"width": width, "height": 900})
    window.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    yield Reader(window, site[way])
    window.close()


def ways(*settings: tuple[str, int, str]) -> pytest.MarkDecorator:
    """Run a test in windows of these kinds."""
    return pytest.mark.parametrize(
        "reader", settings, indirect=True, ids=["-".join(map(str, s)) for s in settings]
    )


def test_the_book_is_built():
    assert (HTML / "index.html").exists(), f"there is no built book in {HTML}: run make book first"
    assert "chapters/intro.html" in PAGES
    assert CHAPTERS, "the built book has no numbered chapter"


@pytest.mark.parametrize("page", PAGES)
@ways(("disk", 1280, "light"), ("http", 390, "dark"))
def test_a_page_asks_nobody_and_raises_no_error(reader: Reader, page: str):
    reader.open(page)
    assert not reader.faults, "\n".join(reader.faults)


@ways(("disk", 1280, "light"), ("http", 1280, "light"))
def test_index_leads_to_the_introduction(reader: Reader):
    reader.page.goto(f"{reader.base}/index.html")
    reader.page.wait_for_url("**/chapters/intro.html")
    assert reader.page.locator("article h1").count() == 1


@pytest.mark.parametrize("page", CHAPTERS)
@ways(("disk", 1280, "light"))
def test_formulas_are_typeset(reader: Reader, page: str):
    window = reader.open(page)
    assert window.locator("mjx-container").count() > 0
    assert window.locator("mjx-merror, mjx-container [data-mjx-error]").count() == 0
    width = "nodes => Math.min(...nodes.map(node => node.getBoundingClientRect().width))"
    assert window.locator("article mjx-container:visible").evaluate_all(width) > 0
    loose = window.evaluate(
        r"() => document.querySelector('article').innerText.match(/\\[(\[][^\n]*\\[)\]]/)"
    )
    assert loose is None, f"a formula was left as source: {loose}"


@ways(("disk", 1280, "light"), ("http", 1280, "light"))
@pytest.mark.parametrize("word", ["position", "softmax"])
def test_search_finds(reader: Reader, word: str):
    reader.page.goto(f"{reader.base}/search.html?q={word}")
    reader.page.locator("#search-results ul.search li a").first.wait_for(timeout=10_000)
    links = reader.page.locator("#search-results ul.search li a").evaluate_all(
        "nodes => nodes.map(node => node.href)"
    )
    assert any("/chapters/" in link for link in links)
    assert not reader.faults, "\n".join(reader.faults)


@ways(("disk", 1280, "light"), ("http", 390, "dark"))
@pytest.mark.parametrize("chapter", ["01_position_encoding", "02_complexity", "03_capacity"])
def test_explorers_of_a_chapter_move(reader: Reader, chapter: str):
    window = reader.open(f"chapters/{chapter}.html")
    explorers = window.locator("article .lc-explorer:has(input[type=range])")
    assert explorers.count() >= 2, "each chapter promises two explorers that move in plain HTML"
    for index in range(explorers.count()):
        explorer = explorers.nth(index)
        explorer.scroll_into_view_if_needed()
        for slider in explorer.locator("input[type=range]:enabled").all():
            assert slider.is_visible()
            before = drawing(explorer)
            for key in ("End", "Home"):
                slider.focus()
                window.keyboard.press(key)
                window.wait_for_timeout(100)
                if drawing(explorer) != before:
                    break
            assert drawing(explorer) != before, (
                f"explorer {index + 1}: a slider moves and the drawing does not"
            )
    assert not reader.faults, "\n".join(reader.faults)


def drawing(explorer: Any) -> str:
    """What an explorer shows apart from its controls: vector pictures, image addresses, canvases."""
    return explorer.evaluate(
        """node => [...node.querySelectorAll('svg')].map(x => x.outerHTML)
            .concat([...node.querySelectorAll('img')].map(x => x.src))
            .concat([...node.querySelectorAll('canvas')].map(x => x.toDataURL())).join()"""
    )


@pytest.mark.parametrize("page", [page for page in PAGES if page.startswith("chapters/")])
@ways(("disk", 1280, "light"))
def test_pictures_have_a_description(reader: Reader, page: str):
    window = reader.open(page)
    pictures = window.locator("article img")
    alts = pictures.evaluate_all("nodes => nodes.map(node => node.getAttribute('alt'))")
    for alt in alts:
        assert alt, "a picture without alt text"
        assert not re.search(r"[\\/]|\.(png|svg|webp|jpe?g)$", alt.strip()), f"alt text is a file name: {alt}"
    pictures.evaluate_all("nodes => nodes.forEach(node => node.scrollIntoView())")
    window.wait_for_timeout(100)
    missing = pictures.evaluate_all(
        "nodes => nodes.filter(n => !n.naturalWidth).map(n => n.src.slice(0, 80))"
    )
    assert missing == [], "a picture did not load"


@pytest.mark.parametrize("page", CHAPTERS)
@ways(("disk", 1280, "light"))
def test_figures_have_a_caption(reader: Reader, page: str):
    window = reader.open(page)
    bare = """nodes => nodes.map(node => [node.alt, node.closest('figure')?.querySelector('figcaption')])
        .filter(([alt, caption]) => !caption?.innerText.trim()).map(([alt, caption]) => alt)"""
    assert window.locator("article .cell_output img").evaluate_all(bare) == [], "a figure without a caption"


@pytest.mark.parametrize("page", PAGES)
@ways(("disk", 390, "light"))
def test_a_phone_scrolls_one_way(reader: Reader, page: str):
    window = reader.open(page)
    wide = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert window.evaluate(wide) <= 0, "the page scrolls sideways at 390 px"
    reach = """() => [...document.querySelectorAll('article *')].filter(node => {
        const box = node.getBoundingClientRect();
        if (!box.width || box.right <= innerWidth + 1) return false;
        for (let up = node; up; up = up.parentElement)
            if (getComputedStyle(up).overflowX !== 'visible' || up.matches('mjx-assistive-mml')) return false;
        return true;
    }).slice(0, 3).map(node => node.outerHTML.slice(0, 120))"""
    assert window.evaluate(reach) == [], "something reaches beyond the screen and cannot be scrolled to"


@pytest.mark.parametrize("page", [page for page in PAGES if page.startswith("chapters/")])
@ways(("disk", 1280, "light"), ("disk", 1280, "dark"))
def test_accessible_and_legible(reader: Reader, page: str):
    window = reader.open(page)
    assert window.evaluate("document.documentElement.dataset.theme") == window.evaluate(
        "matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light'"
    )
    found = Axe().run(window).response["violations"]
    faults = [
        f"{rule['id']} ({rule['help']}): {node['html'][:160]} {node.get('failureSummary', '')[:200]}"
        for rule in found
        for node in rule["nodes"]
        if not any(rule["id"] == theme and part in node["html"] for theme, part in THEME_FAULTS)
    ]
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize("page", [page for page in PAGES if page.startswith("chapters/")])
def test_a_page_is_light(page: str):
    text = (HTML / page).read_text(encoding="utf8")
    pictures = {
        (HTML / page).parent.joinpath(src).resolve()
        for src in re.findall(r'<img[^>]+src="(?!data:)([^"]+)"', text)
    }
    total = len(text.encode()) + sum(path.stat().st_size for path in pictures)
    assert total <= MOST_BYTES, f"{page} weighs {total / 1e6:.1f} MB"


def notebooks() -> list[str]:
    """The pages that are notebooks."""
    sources = HTML / "_sources"
    return [page for page in PAGES if (sources / page).with_suffix(".ipynb").exists()]


@pytest.mark.parametrize("page", notebooks())
@ways(("http", 1280, "light"))
def test_a_chapter_opens_in_colab_and_downloads(reader: Reader, page: str):
    window = reader.open(page)
    name = Path(page).with_suffix(".ipynb").as_posix()
    colab = window.get_by_role("link", name="Open in Colab").get_attribute("href")
    assert colab == f"https://colab.research.google.com/github/{REPOSITORY}/blob/main/{name}"
    with window.expect_download() as download:
        window.get_by_role("link", name="Download notebook").click()
    assert Path(download.value.path()).read_bytes() == (HTML / "_sources" / name).read_bytes()


def test_no_file_of_the_site_loads_from_elsewhere():
    loading = re.compile(
        rb"""<(?:script|img|iframe|link(?![^>]*rel="(?:canonical|license)"))[^>]+(?:src|href)=["'](?:https?:)?//[^"']+"""
        rb"""|@import\s+(?:url\()?["']?(?:https?:)?//[^"')]+|url\(["']?(?:https?:)?//[^"')]+"""
    )
    found = [
        f"{path.relative_to(HTML)}: {match.decode(errors='replace')[:120]}"
        for path in HTML.rglob("*")
        if path.suffix in {".html", ".css"}
        for match in loading.findall(path.read_bytes())
    ]
    assert found == []
