"""A switch for graphs that other runtimes than the backend's own execute.

The backends compute some things fastest by operations that a runtime of exported networks lacks,
or computes slowly. Within `as_plain_operations` a graph that is traced holds others in their place,
with the same results.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator

_is_plain = contextvars.ContextVar("_is_plain", default=False)


@contextlib.contextmanager
def as_plain_operations() -> Iterator[None]:
    """Within it, graphs are traced for other runtimes."""
    token = _is_plain.set(True)
    try:
        yield
    finally:
        _is_plain.reset(token)


def is_plain() -> bool:
    """Returns whether a graph is traced for another runtime."""
    return _is_plain.get()
