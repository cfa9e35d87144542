"""Checks of what a user gives, and the error that tells him of a mistake."""

from __future__ import annotations

import math
from typing import Any


class UserError(ValueError):
    """A mistake of the user's, told in one line; any other error keeps its traceback."""


def require(condition: bool, name: str, expected: str, received: Any) -> None:
    """Raises UserError unless `condition` holds; the message names the setting `name`."""
    if not condition:
        raise UserError(f"`{name}` must be {expected}. Received: {name}={received!r}")


def require_range(name: str, bounds: list[float]) -> None:
    """Raises UserError unless `bounds` are two finite numbers in order."""
    require(len(bounds) == 2 and -math.inf < bounds[0] <= bounds[1] < math.inf, name,
            "[low, high] with low <= high, both finite", bounds)
