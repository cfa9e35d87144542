"""Cuts spans out of recordings that are read in blocks."""

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np


class Frames:
    """Divides blocks `(samples, ...)` of any length into frames.

    Attributes:
        rest: Samples that do not fill a frame yet; None before the first block.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self.rest: np.ndarray | None = None

    def add(self, block: np.ndarray) -> np.ndarray:
        """Returns the frames that another block completes, `(frames, size, ...)`."""
        rest = block if self.rest is None else np.concatenate([self.rest, block])
        whole = len(rest) // self._size * self._size
        self.rest = rest[whole:].copy()  # a view would keep the whole block in memory
        return rest[:whole].reshape(-1, self._size, *rest.shape[1:])


class Tape:
    """Reads spans, which may overlap, one after the other from a recording in blocks."""

    def __init__(self, blocks: Iterable[np.ndarray]) -> None:
        self._blocks = _with_starts(blocks)
        self._kept: list[tuple[int, np.ndarray]] = []  # blocks to be read again, and their starts

    def play(self, start: int, stop: int, keep: int | None = None) -> Iterator[np.ndarray]:
        """Yields the blocks of a span.

        Args:
            start: First sample of the span.
            stop: The sample after its last.
            keep: First sample that the next call can start at; by default `stop`.
        """
        keep = stop if keep is None else keep
        kept, self._kept = iter(self._kept), []
        for place, block in itertools.chain(kept, self._blocks):
            end = place + len(block)
            if end > keep:
                self._kept.append((place, block))
            piece = block[max(start - place, 0) : max(stop - place, 0)]
            if len(piece):
                yield piece
            if end >= stop:
                break
        self._kept.extend(kept)


def _with_starts(blocks: Iterable[np.ndarray]) -> Iterator[tuple[int, np.ndarray]]:
    done = 0
    for block in blocks:
        yield done, block
        done += len(block)


def tee(blocks: Iterable[Any], number: int) -> list[Iterator[Any]]:
    """Returns iterators over the same blocks; a block is kept only until all have returned it.

    `itertools.tee` keeps up to 57 blocks that all have returned (two minutes of a recording).
    """
    waiting: list[deque[Any]] = [deque() for _ in range(number)]
    source = iter(blocks)

    def fill() -> bool:
        block = next(source, None)
        for each in waiting if block is not None else ():
            each.append(block)
        return block is not None

    def read(own: deque[Any]) -> Iterator[Any]:
        while own or fill():
            yield own.popleft()

    return list(map(read, waiting))


def in_blocks(blocks: Iterable[Any], process: Callable[[Iterator[Any]], Iterable[np.ndarray]],
              length: Callable[[Any], int] = len, axis: int = 0,
              ) -> Iterator[tuple[Any, np.ndarray]]:
    """Yields each block that is not empty, with the span of the results that belongs to it.

    Args:
        blocks: Blocks of any length.
        process: Takes these blocks without the empty ones, and yields results for them in pieces
            of other lengths. Blocks for which there are too few are left out.
        length: Returns the number of samples of a block.
        axis: Time axis of the pieces.
    """
    waiting: deque[Any] = deque()  # blocks without a result so far

    def read() -> Iterator[Any]:
        for block in blocks:
            if length(block):
                waiting.append(block)
                yield block

    rest: np.ndarray | None = None
    for piece in process(read()):
        rest = piece if rest is None else np.concatenate([rest, piece], axis=axis)
        while waiting and length(waiting[0]) <= rest.shape[axis]:
            block = waiting.popleft()
            found, rest = np.split(rest, [length(block)], axis=axis)
            yield block, found


def cut(blocks: Iterable[np.ndarray], sample_rate: float, start_seconds: float,
        end_seconds: float) -> np.ndarray:
    """Returns the samples between two times, `(samples, channels)`.

    Args:
        blocks: The recording in blocks, `(samples, channels)`.
        sample_rate: Sample rate in Hz.
        start_seconds, end_seconds: The times; the end may lie after that of the recording.
    """
    start, end = round(start_seconds * sample_rate), round(end_seconds * sample_rate)
    # A slice would keep the whole block in memory.
    pieces = [piece.copy() for piece in Tape(blocks).play(start, end)]
    return np.concatenate(pieces) if pieces else np.zeros((0, 1))
