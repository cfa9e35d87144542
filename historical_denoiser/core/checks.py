"""Checks of settings and arguments, and the error for a user's mistake."""

import math
from numbers import Real
from pathlib import PurePath
from typing import Any, TypeGuard

# Sample rates of recordings, in Hz; damaged headers alone state others.
MIN_RATE, MAX_RATE = 1000, 1_000_000


class UserError(ValueError):
    """A user's mistake, reported in one line; any other error keeps its traceback."""


def reason_of(error: BaseException) -> str:
    """Returns an error's message; one of the system as `FILE: No such file or directory`."""
    if isinstance(error, OSError) and error.strerror and isinstance(error.filename, str | PurePath):
        return f"{error.filename}: {error.strerror}"
    return str(error)


def is_number(value: Any) -> TypeGuard[float]:
    """Returns whether a value is a real number; a truth value is none."""
    return isinstance(value, Real) and not isinstance(value, bool)


def require(condition: bool, name: str, expected: str, received: Any) -> None:
    """Raises UserError unless a condition is true.

    Args:
        condition: What must be true.
        name: Name of the setting in the message.
        expected: Description of the values that are allowed.
        received: The value of the setting.
    """
    if not condition:
        raise UserError(f"`{name}` must be {expected}. Received: {name}={received!r}")


def require_range(name: str, bounds: list[float]) -> None:
    """Raises UserError unless `bounds` are two finite numbers in order."""
    require(len(bounds) == 2 and -math.inf < bounds[0] <= bounds[1] < math.inf, name,
            "[low, high] with low <= high, both finite", bounds)
