"""What holds for every explorer: whole fragments, the same bytes twice, and pages that can be read at any width."""

from __future__ import annotations

import base64
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser

from lcbook.explorers.capacity import maps_explorer, memory_explorer
from lcbook.explorers.costs import cost_explorer
from lcbook.explorers.dilution import remedy_explorer, weight_explorer
from lcbook.explorers.evaluation import heat_map_explorer, samples_explorer
from lcbook.explorers.fragment import Explorer
from lcbook.explorers.patterns import pattern_explorer
from lcbook.explorers.positions import alibi_explorer, rope_explorer
from lcbook.explorers.training import depth_dial, schedule_explorer
from tests.explorers.test_capacity import TOKENS, sharp_maps
from tests.explorers.test_dilution import remedied
from tests.explorers.test_evaluation import asked
from tests.explorers.test_fragment import sines
from tests.explorers.test_training import dialled
from tests.fragments import CONTRAST, Reader, Shown

EVERY: dict[str, Callable[[], Explorer]] = {
    "rope": rope_explorer,
    "alibi": alibi_explorer,
    "frames": sines,
    "cost": cost_explorer,
    "pattern": pattern_explorer,
    "memory": memory_explorer,
    "maps": lambda: maps_explorer(sharp_maps(), TOKENS, heads=[(1, 2), (0, 0)], query=20),
    "dial": lambda: depth_dial(dialled(), training="recency"),
    "schedule": schedule_explorer,
    "weights": weight_explorer,
    "remedies": lambda: remedy_explorer(remedied()),
    "samples": samples_explorer,
    "grid": lambda: heat_map_explorer(asked()),
}


@cache
def drawn(name: str) -> Explorer:
    return EVERY[name]()


@pytest.fixture(scope="module")
def explorers() -> dict[str, Explorer]:
    return {name: drawn(name) for name in EVERY}


@pytest.mark.parametrize("name", EVERY)
def test_fragment(name: str) -> None:
    explorer = drawn(name)
    assert EVERY[name]().html == explorer.html
    reader = Reader(explorer.html)
    assert reader.open == []
    assert "http" not in explorer.html.replace("http://www.w3.org", "")
    assert " hidden" not in explorer.html
    assert len(explorer.html) < 90_000
    inputs = [(attrs, parents) for tag, attrs, parents in reader.seen if tag in ("input", "select")]
    assert inputs
    for attrs, parents in inputs:
        assert parents[-1] == "label"
        assert attrs["data-lm-suppress-shortcuts"] == "true"
    (image,) = [attrs for tag, attrs, _ in reader.seen if tag == "img"]
    assert image["alt"]
    assert str(image["src"]).startswith("data:image/")
    bundle = explorer._repr_mimebundle_()
    assert set(bundle) == {"text/html", "image/png", "text/plain"}
    assert base64.b64decode(bundle["image/png"]).startswith(b"\x89PNG")
    assert bundle["text/plain"] == explorer.alt


def test_ids_are_their_own(explorers: dict[str, Explorer]) -> None:
    seen = [attrs for explorer in explorers.values() for _, attrs, _ in Reader(explorer.html).seen]
    ids = [attrs["id"] for attrs in seen if "id" in attrs]
    assert len(ids) == len(set(ids)) == len(EVERY)


@pytest.mark.browser
@pytest.mark.parametrize(
    ("scheme", "theme", "width"),
    [("light", "", 800), ("dark", "", 800), ("light", "light", 390), ("dark", "dark", 390)],
)
def test_readable_and_accessible(
    browser: Browser, tmp_path: Path, explorers: dict[str, Explorer], scheme: str, theme: str, width: int
) -> None:
    body = "".join(explorer.html for explorer in explorers.values())
    options = {"viewport": {"width": width, "height": 844}, "color_scheme": scheme}
    told = f'data-theme="{theme}" style="color-scheme:{theme}"' if theme else ""
    with Shown(browser, tmp_path / "page.html", body, theme=told, **options) as shown:
        assert shown.page.evaluate("document.documentElement.scrollWidth") <= width
        texts = shown.page.locator("svg text")
        assert texts.count() > 200
        beyond = (
            f"e => e.map(t => t.getBoundingClientRect()).filter(b => b.left < 0 || b.right > {width}).length"
        )
        assert texts.evaluate_all(beyond) == 0
        assert (
            texts.evaluate_all("e => e.filter(t => parseFloat(getComputedStyle(t).fontSize) < 12).length")
            == 0
        )
        ratios = shown.page.evaluate(CONTRAST)
        assert len(ratios) > 300
        assert min(ratios) >= 4.5
        assert [v["id"] for v in Axe().run(shown.page).response["violations"]] == []
