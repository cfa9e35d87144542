"""Repairs a file once, and keeps what changed for the passes that follow."""

import math
from collections.abc import Callable, Iterable, Iterator
from tempfile import SpooledTemporaryFile
from types import TracebackType
from typing import Any

import numpy as np

from historical_denoiser.classical.repair import Found
from historical_denoiser.restoration.restorer import Restorer

IN_MEMORY_BYTES = 2**26
CEILING = 0.99  # the peak of a recording that was lowered; denoising may raise it a little


class Repairs:
    """A recording's repairs; a context manager.

    Attributes:
        found: What was repaired.
        peak: The largest magnitude of a sample that was repaired.
        kinds: What is repaired.
        rate: Sample rate in Hz.
    """

    def __init__(self, restorer: Restorer, sample_rate: int) -> None:
        """Begins without repairs; `restorer` makes them."""
        self.found, self.peak = Found(), 0.0
        self.kinds, self.rate, self._repair = restorer.stages.repair, sample_rate, restorer.repair
        self._file = SpooledTemporaryFile(IN_MEMORY_BYTES)
        self._places: dict[int, int] = {}  # where the changes of a block are in the file

    def __enter__(self) -> "Repairs":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._file.close()

    def make(self, blocks: Iterable[np.ndarray],
             report: Callable[[float], object]) -> Iterator[np.ndarray]:
        """Yields the blocks of a recording, repaired; `report` is told the seconds of each."""
        for number, (block, repaired) in enumerate(
                self._repair(blocks, self.rate, self.found)):
            changed = np.flatnonzero(block != repaired) if self.kinds else ()
            if len(changed):
                values = repaired.reshape(-1)[changed]
                self.peak = max(self.peak, float(np.abs(values).max()))
                self._places[number] = self._file.seek(0, 2)
                np.save(self._file, changed.astype(np.int32))
                np.save(self._file, values)
            yield repaired
            if self.kinds:
                report(len(block) / self.rate)

    def apply(self, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Yields the blocks of the same recording, read once more, with the repairs of `make`."""
        for number, block in enumerate(filter(len, blocks)):
            if number in self._places:
                self._file.seek(self._places[number])
                changed, block = np.load(self._file), block.copy()
                block.reshape(-1)[changed] = np.load(self._file)
            yield block

    @property
    def gain(self) -> float:
        """The gain with which repaired samples are not clipped again; 1 if they are below it."""
        return CEILING / self.peak if self.peak > 1.0 else 1.0

    def describe(self, gain: float) -> dict[str, Any]:
        """Returns the facts for a report; `gain` is that of the result."""
        return {"repaired": self.found.describe(self.rate) | {
            "gain_db": round(20.0 * math.log10(gain), 2)}} if self.kinds else {}
