"""What the built pages' columns hold: code, tables, formulas and the explorers' labels, none cut off."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
from playwright.sync_api import Browser

import lcbook as lc

HTML = Path(__file__).resolve().parent.parent / "_build" / "html"
# index.html only leads on to the introduction.
PAGES = sorted(
    path for path in HTML.rglob("*.html") if "_static" not in path.parts and path.name != "index.html"
)

# Folded cells and answers count as well.
UNFOLD = """() => {
    document.querySelectorAll('article details').forEach(node => { node.open = true; });
    document.querySelectorAll('article .toggle-hidden').forEach(node => node.classList.remove('toggle-hidden'));
}"""
# Kind and text of whatever matches and is wider than its own box, or than one around it, with the pixels cut off.
CUT_OFF = """kinds => [...document.querySelectorAll(`article :is(${kinds})`)].flatMap(node => {
    let over = node.getBoundingClientRect().right - innerWidth;
    for (let box = node; box.tagName !== 'ARTICLE'; box = box.parentElement)
        if (getComputedStyle(box).overflowX !== 'visible') over = Math.max(over, box.scrollWidth - box.clientWidth);
    return over > 1 ? [`${node.tagName} by ${Math.round(over)} px: ${node.innerText.slice(0, 80)}`] : [];
})"""
# Tables that, scrolled to their right end, no longer show the first column in half of the width at most, or whose
# letters are smaller than 12 px.
UNREADABLE = """() => [...document.querySelectorAll('article table')].flatMap(table => {
    let box = table;
    while (box.tagName !== 'ARTICLE' && box.scrollWidth <= box.clientWidth + 1) box = box.parentElement;
    const cell = table.tBodies[0].rows[0].cells[0], wide = box.tagName !== 'ARTICLE';
    table.scrollIntoView();
    if (wide) box.scrollLeft = box.scrollWidth;
    const at = cell.getBoundingClientRect(), frame = box.getBoundingClientRect();
    const kept = at.left >= frame.left - 1 && at.right <= (frame.left + frame.right) / 2 + 1;
    const small = parseFloat(getComputedStyle(cell).fontSize) < 12;
    return (wide && !kept) || small ? [`${small ? 'small' : 'scrolls'}: ${table.innerText.slice(0, 80)}`] : [];
})"""
LABELS = """() => [...document.querySelectorAll('article .lc-explorer svg text')].flatMap(text => {
    const at = text.getBoundingClientRect(), frame = text.ownerSVGElement.getBoundingClientRect();
    return at.left < frame.left - 2 || at.right > frame.right + 2 ? [`label: ${text.textContent}`] : [];
})"""

pytestmark = pytest.mark.browser


def offenders(browser: Browser, width: int, *searches: tuple[str, str | None]) -> list[str]:
    """What the searches (a script and its argument) find on all pages in a window of this width."""
    window = browser.new_page(viewport={"width": width, "height": 900})
    found = []
    for page in PAGES:
        window.goto(page.as_uri())
        window.evaluate("async () => { if (window.MathJax?.startup) await MathJax.startup.promise }")
        window.evaluate(UNFOLD)
        for script, argument in searches:
            found += [f"{page.stem}: {' '.join(line.split())}" for line in window.evaluate(script, argument)]
    window.close()
    return found


def test_nothing_is_cut_off_on_a_laptop(browser: Browser):
    assert PAGES, f"there is no built book in {HTML}: run make book first"
    found = offenders(browser, 1280, (CUT_OFF, "pre, table, mjx-container[display=true]"), (LABELS, None))
    assert not found, f"{len(found)} cut off at 1280 px:\n" + "\n".join(found)


def test_a_phone_shows_whole_formulas_and_the_first_column_of_a_table(browser: Browser):
    assert PAGES, f"there is no built book in {HTML}: run make book first"
    formulas = (CUT_OFF, "mjx-container[display=true]")
    found = offenders(browser, 390, formulas, (UNREADABLE, None), (LABELS, None))
    assert not found, f"{len(found)} cut off at 390 px:\n" + "\n".join(found)


def test_the_page_on_the_package_has_every_short_name():
    page = (HTML / "chapters" / "api.html").read_text(encoding="utf8")
    things = [thing for name in lc.__all__ if not inspect.ismodule(thing := getattr(lc, name))]
    assert len(things) > 30
    assert [x for x in things if f'id="{x.__module__}.{x.__qualname__}"' not in page] == []
