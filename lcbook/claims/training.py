"""Statistics of training: recall by depth, updates to the gate, lengths seen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

NAMED: dict[str, Callable[..., Any]] = {}
