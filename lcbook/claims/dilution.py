"""Statistics of softmax dilution: log odds, forecasts, sinks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

NAMED: dict[str, Callable[..., Any]] = {}
