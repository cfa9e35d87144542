"""How processes of a pool ended that nobody asked to end."""

from __future__ import annotations

import multiprocessing
import signal
from multiprocessing.process import BaseProcess


class Deaths:
    """Remembers this process's children, and tells how one of them died.

    A `ProcessPoolExecutor` only says that one did, and then ends the others by SIGTERM.
    """

    def __init__(self) -> None:
        self._children: set[BaseProcess] = set()

    def note(self) -> None:
        """Remembers the children that are alive now."""
        self._children.update(multiprocessing.active_children())

    def describe(self, what: str, remedy: str) -> str:
        """Returns what to tell of a pool that has been shut down.

        Args:
            what: What its processes are.
            remedy: What helps where memory ran out.
        """
        codes = {child.exitcode for child in self._children} - {None, 0}
        code = next(iter(codes - {-signal.SIGTERM} or codes), None)
        if code is None:
            return f"{what} ended, and nothing tells why"
        if code > 0:
            return f"{what} ended by itself with status {code}; what it said stands above"
        try:
            name = signal.Signals(-code).name
        except ValueError:  # those for real time have no names
            name = f"signal {-code}"
        if -code == getattr(signal, "SIGKILL", None):
            return f"{what} was killed ({name}), as systems do when memory runs out; {remedy}"
        return f"{what} was ended by {name}"
