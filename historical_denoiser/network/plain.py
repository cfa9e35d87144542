"""A switch for tracing graphs that are exported to other runtimes.

The backends compute some things fastest with operations that a runtime of exported networks lacks
or executes slowly. Within `as_plain_operations`, a traced graph has other operations in their
place, with the same results.
"""

import contextlib
import contextvars
from collections.abc import Iterator

_is_plain = contextvars.ContextVar("_is_plain", default=False)


@contextlib.contextmanager
def as_plain_operations() -> Iterator[None]:
    """Within this context, graphs are traced for other runtimes."""
    token = _is_plain.set(True)
    try:
        yield
    finally:
        _is_plain.reset(token)


def is_plain() -> bool:
    """Returns whether the graph is being traced for another runtime."""
    return _is_plain.get()
