"""Statistics over trained models: orders by benchmark, effective lengths, shares of variance, nearby lengths."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

NAMED: dict[str, Callable[..., Any]] = {}
