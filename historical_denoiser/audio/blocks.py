"""Recordings that come in blocks: parts cut out of them, pieces joined and put back into blocks."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np


class Frames:
    """Cuts blocks `(samples, ...)` of any length into frames; keeps what is left over.

    Attributes:
        rest: What does not fill a frame yet; None before the first block.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self.rest: np.ndarray | None = None

    def add(self, block: np.ndarray) -> np.ndarray:
        """Returns the frames that are full with a further block, `(frames, size, ...)`."""
        rest = block if self.rest is None else np.concatenate([self.rest, block])
        whole = len(rest) // self._size * self._size
        self.rest = rest[whole:].copy()  # a slice would keep all of it in memory
        return rest[:whole].reshape(-1, self._size, *rest.shape[1:])


class Tape:
    """A recording that comes in blocks, and of which parts that overlap are played in turn."""

    def __init__(self, blocks: Iterable[np.ndarray]) -> None:
        self._blocks, self._done = iter(blocks), 0
        self._kept: list[tuple[int, np.ndarray]] = []  # blocks to be played again, and their starts

    def play(self, start: int, stop: int, keep: int | None = None) -> Iterator[np.ndarray]:
        """Yields the blocks of a part; what lies from `keep` on can be played again after it.

        Without `keep`, that is what lies behind the part.
        """
        keep = stop if keep is None else keep
        kept, self._kept = iter(self._kept), []
        for place, block in itertools.chain(kept, self._more()):
            end = place + len(block)
            if end > keep:
                self._kept.append((place, block))
            piece = block[max(start - place, 0) : max(stop - place, 0)]
            if len(piece):
                yield piece
            if end >= stop:
                break
        self._kept.extend(kept)

    def _more(self) -> Iterator[tuple[int, np.ndarray]]:
        for block in self._blocks:
            place, self._done = self._done, self._done + len(block)
            yield place, block


def cut(blocks: Iterable[np.ndarray], places: Iterable[tuple[int, int]]) -> Iterator[np.ndarray]:
    """Yields the parts of a recording at `places`, which rise and do not overlap.

    Args:
        blocks: The recording from its start, in blocks `(samples[, channels])`.
        places: First sample of each part, and the one after its last.
    """
    tape = Tape(blocks)
    for start, stop in places:
        if pieces := list(tape.play(start, stop)):
            yield np.concatenate(pieces)


def in_blocks(pieces: Iterable[np.ndarray], waiting: deque[Any],
              length: Callable[[Any], int] = len, axis: int = 0,
              ) -> Iterator[tuple[Any, np.ndarray]]:
    """Yields blocks, each with as much of a stream of pieces as it is long.

    Args:
        pieces: What is found in the blocks, in pieces of other lengths.
        waiting: The blocks whose pieces are not there yet, to which the source of `pieces` adds
            those that it reads. Those that no piece comes for stay in it.
        length: Returns how many samples a block has.
        axis: Of time in the pieces.
    """
    rest: np.ndarray | None = None
    for piece in pieces:
        rest = piece if rest is None else np.concatenate([rest, piece], axis=axis)
        while waiting and length(waiting[0]) <= rest.shape[axis]:
            block = waiting.popleft()
            found, rest = np.split(rest, [length(block)], axis=axis)
            yield block, found


def join(parts: Iterable[Iterable[np.ndarray]], overlap: int) -> Iterator[np.ndarray]:
    """Yields parts of a waveform in pieces `(samples[, channels])`, faded from each to the next.

    Args:
        parts: Each in pieces. Its last `overlap` samples are those that the next one begins with;
            it is at least twice as long.
        overlap: In samples.
    """
    ramp = (np.arange(overlap) + 0.5) / max(overlap, 1)
    waiting: np.ndarray | None = None
    for part in parts:
        before, waiting = waiting, None
        for piece in part:
            waiting = piece if waiting is None else np.concatenate([waiting, piece])
            if before is not None and len(waiting) >= overlap:
                mixed = ramp * waiting[:overlap].T + (1.0 - ramp) * before.T
                waiting = np.concatenate([mixed.T.astype(piece.dtype), waiting[overlap:]])
                before = None
            if before is None and len(waiting) > overlap:
                final = len(waiting) - overlap
                yield waiting[:final]
                waiting = waiting[final:]
    if waiting is not None:
        yield waiting
