"""Statistics of states and hops: pairs held, heads that are missed, segments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

NAMED: dict[str, Callable[..., Any]] = {}
