"""What holds for every test: shapes are checked, one thread, the smoke scale, a cache of its own."""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile

# Before lcbook or torch is imported. Notebooks run in processes that are given their own environment.
os.environ["LCBOOK_SCALE"] = "smoke"
os.environ["LCBOOK_CACHE"] = tempfile.mkdtemp(prefix="lcbook-tests-")
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["MPLBACKEND"] = "agg"
os.environ["HF_HUB_OFFLINE"] = "1"
sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]  # jsonschema builds its grammars for more than a second
atexit.register(shutil.rmtree, os.environ["LCBOOK_CACHE"], ignore_errors=True)

from jaxtyping import install_import_hook  # noqa: E402

# Every annotated function and dataclass of lcbook now checks its arguments, tensor shapes included.
install_import_hook("lcbook", "beartype.beartype")

from collections.abc import Iterator  # noqa: E402

import pytest  # noqa: E402
import torch  # noqa: E402
from playwright.sync_api import Browser, sync_playwright  # noqa: E402

FLAGS = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
FLAGS += " --disable-component-update --disable-sync"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest begins first, and all tests with a browser share one, so one worker."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
    for item in items:
        if item.get_closest_marker("browser"):
            item.add_marker(pytest.mark.xdist_group("browser"))


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium, Debian's by preference; its loop keeps the thread of the tests, so that asyncio needs another."""
    names = ("chromium", "chromium-browser", "google-chrome")
    path = next(filter(None, map(shutil.which, names)), None)
    assert path, "no command chromium: the browser tests need it; on Debian: apt-get install chromium"
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=FLAGS.split())
        yield started
        started.close()


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """The bits of a training depend on the number of threads, which `setup` and timings change."""
    torch.set_num_threads(1)
