"""How much of a long task is done, estimated between its reports.

A network restores ten seconds of audio in one step, which may take as long, so that a bar that only
shows finished steps stands still. Start reading at `Pace`.
"""

import contextvars
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

FIRST_STEP = 10.0  # seconds of audio that are expected to take as long, before anything is known
LINEAR_SHARE = 0.8  # of a step, to which the estimate rises at the mean speed; then it slows down
TOGETHER_SECONDS = 0.5  # reports that are closer belong to one step
TICK_SECONDS = 0.5
COARSE_SECONDS = 90.0  # longer times left are stated in minutes


class Pace:
    """Estimates how much of a task is done, and how long the rest will take.

    Args:
        total: Amount of work, such as seconds of audio.
        clock: Returns the time in seconds.
    """

    def __init__(self, total: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.total, self._clock = total, clock
        self._began = self._at = clock()
        self._done = self._burst = self._step = self._shown = 0.0

    def add(self, amount: float) -> None:
        """Reports that this much more is done."""
        now = self._clock()
        self._burst = amount + (self._burst if now - self._at < TOGETHER_SECONDS else 0.0)
        self._step = max(self._step, self._burst)
        self._done, self._at = self._done + amount, now

    @property
    def speed(self) -> float | None:
        """The mean amount of work in a second; None before the first report."""
        return self._done / max(self._at - self._began, 1e-3) if self._done > 0.0 else None

    def estimate(self) -> float:
        """Returns how much is done, with an estimate of the step at work; it never falls."""
        step, speed = (FIRST_STEP, 1.0) if self.speed is None else (self._step, self.speed)
        share = speed * (self._clock() - self._at) / max(step, 1e-9)
        if share > LINEAR_SHARE:
            rest = 1.0 - LINEAR_SHARE
            share = 1.0 - rest * math.exp((LINEAR_SHARE - share) / rest)
        self._shown = max(self._shown, min(self._done + share * step, self.total))
        return self._shown

    @property
    def is_complete(self) -> bool:
        """Whether all of it was reported."""
        return self._done > 0.999 * self.total

    def time_left(self) -> str:
        """Returns the time that the rest will take, in words; nothing before it is known."""
        if self.speed is None or self.is_complete:
            return ""
        seconds = (self.total - self.estimate()) / self.speed
        if seconds > COARSE_SECONDS:
            return f"about {seconds / 60.0:.0f} minutes left"
        return f"about {max(10.0, 10.0 * math.ceil(seconds / 10.0)):.0f} seconds left"


@contextmanager
def ticking(show: Callable[[], object]) -> Iterator[None]:
    """Calls `show` about twice a second, in a thread with the context variables of the caller."""
    ended, context = threading.Event(), contextvars.copy_context()

    def tick() -> None:
        while not ended.wait(TICK_SECONDS):
            context.run(show)

    thread = threading.Thread(target=tick, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
