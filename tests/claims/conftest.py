"""Tests of claims run at live scale, with a cache and a claims file of their own."""

from __future__ import annotations

import own_claims
import pytest

from lcbook.claims import claim


@pytest.fixture(autouse=True)
def _own(monkeypatch, tmp_path):
    monkeypatch.setenv("LCBOOK_SCALE", "full")
    monkeypatch.setenv("LCBOOK_CACHE", str(tmp_path))
    own_claims.use(monkeypatch, tmp_path)
    yield
    claim.claims.cache_clear()
