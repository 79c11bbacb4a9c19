"""What holds for every test: shapes are checked, one thread, the smoke scale, a cache of its own."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile

# Before lcbook or torch is imported. Notebooks run in processes that are given their own environment.
os.environ["LCBOOK_SCALE"] = "smoke"
os.environ["LCBOOK_CACHE"] = tempfile.mkdtemp(prefix="lcbook-tests-")
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["MPLBACKEND"] = "agg"
os.environ["HF_HUB_OFFLINE"] = "1"
atexit.register(shutil.rmtree, os.environ["LCBOOK_CACHE"], ignore_errors=True)

from jaxtyping import install_import_hook  # noqa: E402

# Every annotated function and dataclass of lcbook now checks its arguments, tensor shapes included.
install_import_hook("lcbook", "beartype.beartype")

import pytest  # noqa: E402
import torch  # noqa: E402


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """The bits of a training depend on the number of threads, which `setup` and timings change."""
    torch.set_num_threads(1)
