"""Statistics of costs: how seconds and bytes grow, how much faster one form is, and what exact forms change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

NAMED: dict[str, Callable[..., Any]] = {}
