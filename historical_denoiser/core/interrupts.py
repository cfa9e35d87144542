"""Handles Ctrl-C while a program loads."""

import signal


def end_at_once() -> None:
    """Makes Ctrl-C end this process without a message, until `command_line.run_main` takes over.

    Loading takes seconds, and a traceback from the middle of it would not help anybody.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not if it is ignored
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def raise_again() -> None:
    """Makes Ctrl-C raise KeyboardInterrupt again after `end_at_once`."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
