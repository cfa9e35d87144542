"""Finds digital silence in a recording: leader, gaps between reels, pauses that an editor blanked.

Digital silence is free of noise. Next to it, a network takes the noise for sound that begins and
ends. Therefore recordings are restored as if the silence were cut out.
"""

import bisect
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from historical_denoiser.audio.blocks import Frames

Span = tuple[int, int]  # first sample, and the one after the last

FRAME_SECONDS = 0.01
MIN_FRAMES = 10  # 0.1 s; shorter gaps are damage
RANGE_DB = -80.0  # peak-to-peak value of a silent frame relative to the recording's RMS


def find_runs(mask: np.ndarray) -> np.ndarray:
    """Returns the first index, and the one after the last, of each run of True, `(runs, 2)`."""
    return np.flatnonzero(np.diff(mask, prepend=False, append=False)).reshape(-1, 2)


class Finder:
    """Passes over a recording and finds its silence."""

    def __init__(self, sample_rate: int) -> None:
        self._frame = max(2, round(FRAME_SECONDS * sample_rate))  # one sample has no range
        self._frames = Frames(self._frame)
        self._ranges: list[np.ndarray] = []
        self._samples = 0

    def add(self, block: np.ndarray) -> None:
        """Adds the next samples, `(samples, channels)`."""
        self._samples += len(block)
        self._note(self._frames.add(block))

    def find(self, power: float) -> tuple[Span, ...]:
        """Returns the silent spans of a recording of this power, in rising order."""
        if self._frames.rest is not None and len(self._frames.rest):
            self._note(self._frames.rest[None])
            self._frames.rest = None
        if not self._ranges or power <= 0.0:
            return ()
        is_silent = np.concatenate(self._ranges) <= 10.0 ** (RANGE_DB / 20.0) * np.sqrt(power)
        return tuple((int(start) * self._frame, min(int(stop) * self._frame, self._samples))
                     for start, stop in find_runs(is_silent) if stop - start >= MIN_FRAMES)

    def _note(self, frames: np.ndarray) -> None:
        self._ranges.append(np.ptp(frames, axis=1).max(axis=1).astype(np.float32))


def spans(silences: Iterable[Span], samples: int) -> Iterator[tuple[Span, bool]]:
    """Yields the consecutive spans of a recording, and whether each is silent."""
    done = 0
    for start, stop in silences:
        if done < start:
            yield (done, start), False
        yield (start, stop), True
        done = stop
    if done < samples:
        yield (done, samples), False


def audible(silences: Iterable[Span], samples: int) -> list[Span]:
    """Returns the spans of a recording that are not silent."""
    return [span for span, is_silent in spans(silences, samples) if not is_silent]


def within(silences: Sequence[Span], start: int, stop: int) -> tuple[Span, ...]:
    """Returns the silences within an excerpt, relative to its start.

    Args:
        silences: Silences of a recording in rising order.
        start, stop: First sample of the excerpt, and the one after its last.
    """
    low = bisect.bisect_right(silences, start, key=lambda span: span[1])
    high = bisect.bisect_left(silences, stop, key=lambda span: span[0])
    return tuple((max(first, start) - start, min(last, stop) - start)
                 for first, last in silences[low:high])


def leave_out(blocks: Iterable[np.ndarray], silences: Iterable[Span]) -> Iterator[np.ndarray]:
    """Yields the blocks of a recording without its silence."""
    done, silences = 0, tuple(silences)
    for block in blocks:
        for start, stop in audible(within(silences, done, done + len(block)), len(block)):
            yield block[start:stop]
        done += len(block)


def split(part: Span, silences: Iterable[Span]) -> list[Span]:
    """Divides a span of `leave_out`'s output where silence was left out."""
    edges, gone = [], 0
    for start, stop in silences:
        edges.append(start - gone)
        gone += stop - start
    inner = [edge for edge in edges if part[0] < edge < part[1]]
    return list(zip([part[0], *inner], [*inner, part[1]], strict=True))
