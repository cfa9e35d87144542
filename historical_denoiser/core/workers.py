"""Describes how a process of a pool died."""

import multiprocessing
import signal
from multiprocessing.process import BaseProcess


class Deaths:
    """Remembers this process's children, and describes how one of them died.

    `ProcessPoolExecutor` reports only that one did, and then ends the others by SIGTERM.
    """

    def __init__(self) -> None:
        self._children: set[BaseProcess] = set()

    def note(self) -> None:
        """Remembers the children that are alive now."""
        self._children.update(multiprocessing.active_children())

    def describe(self, what: str, remedy: str) -> str:
        """Returns a message about a pool that has been shut down.

        Args:
            what: Name of its processes.
            remedy: Advice in case memory ran out.
        """
        codes = {child.exitcode for child in self._children} - {None, 0}
        code = next(iter(codes - {-signal.SIGTERM} or codes), None)
        if code is None:
            return f"{what} ended for an unknown reason"
        if code > 0:
            return f"{what} ended by itself with status {code}; its messages are above"
        try:
            name = signal.Signals(-code).name
        except ValueError:  # real-time signals have no names
            name = f"signal {-code}"
        if -code == getattr(signal, "SIGKILL", None):
            return f"{what} was killed ({name}), as systems do when memory runs out; {remedy}"
        return f"{what} was ended by {name}"
