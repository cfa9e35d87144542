"""Ctrl-C while a program loads."""

from __future__ import annotations

import signal


def end_at_once() -> None:
    """Makes Ctrl-C end this process without a word, until `command_line.run_main` takes over.

    Loading takes a second and more, and a traceback out of the middle of it would be of no use.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else somebody ignores it
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def give_back() -> None:
    """Makes Ctrl-C raise KeyboardInterrupt again, where `end_at_once` had changed that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
