"""Prepares a recording for its restoration: repairs it, and corrects how it was replayed.

Repairs are made once, and kept for the passes that follow; the replay is corrected in each pass.
Start reading at `Preparation`.
"""

import itertools
import logging
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from tempfile import SpooledTemporaryFile
from typing import Any

import numpy as np

from historical_denoiser.audio.fitting import excerpts
from historical_denoiser.audio.replay import Replay, find_azimuth
from historical_denoiser.audio.survey import checked, survey
from historical_denoiser.classical.hum import find_hum, speed_to_mains
from historical_denoiser.classical.repair import Found
from historical_denoiser.formats import containers
from historical_denoiser.formats.audio_io import Recording
from historical_denoiser.restoration.restorer import Restorer

logger = logging.getLogger(__name__)

IN_MEMORY_BYTES = 2**26
# Relative changes of the speed by the hum: those that are searched, the greatest and the smallest
# one that is made. Mains may well be off by a thousandth.
SEARCHED_CHANGE, MAX_CHANGE, MIN_CHANGE = 0.09, 0.08, 0.001
CEILING = 0.99  # the peak of a recording that was lowered; denoising may raise it a little


def measure_azimuth(recording: Recording, correction: Replay) -> Replay:
    """Returns the correction of a replay with the azimuth of a recording, if that is wanted."""
    if not correction.finds_azimuth:
        return correction
    if recording.channels != 2:
        logger.info("%s: azimuth: nothing to do, the recording has %d channel(s), not 2",
                    recording.path, recording.channels)
        return replace(correction, finds_azimuth=False)
    late_seconds, why = find_azimuth(checked(containers.read_blocks(recording), recording.rate),
                                     recording.rate)
    logger.info("%s: azimuth: %s", recording.path, why)
    return replace(correction, late_seconds=late_seconds)


def measure_speed(recording: Recording, correction: Replay) -> Replay:
    """Returns the correction of a replay with the speed by the hum of a recording, if wanted.

    The hum must be of the time before the wrong speed: that of the transfer itself is at 50 or 60
    Hz already. Drones are not looked for, as `drones.find_drones` takes a hum so far off for one.
    """
    if not correction.finds_speed:
        return correction

    def read() -> Iterable[np.ndarray]:
        return containers.read_blocks(recording)

    known = survey(read(), recording.rate)
    sounds = list(itertools.chain(*excerpts(read, known, recording.rate)))
    found = (find_hum([sound[:, channel] for sound in sounds], recording.rate,
                      faster=SEARCHED_CHANGE) for channel in known.distinct)
    hum_hz = next(filter(None, found), None)
    if hum_hz is None:
        logger.warning("%s: speed: no hum near 50 or 60 Hz was found: nothing is changed",
                       recording.path)
        return correction
    speed = speed_to_mains(hum_hz)
    level, note = logging.INFO, f": it is brought to {speed * hum_hz:g} Hz"
    if abs(speed - 1.0) > MAX_CHANGE:
        level, note = logging.WARNING, (f", which is more than {100.0 * MAX_CHANGE:g} % from "
                                        f"{speed * hum_hz:g} Hz: nothing is changed")
        speed = 1.0
    elif abs(speed - 1.0) < MIN_CHANGE:
        speed, note = 1.0, ": nothing has to be changed"
    logger.log(level, "%s: speed: the hum is at %.2f Hz%s", recording.path, hum_hz, note)
    return replace(correction, speed=speed, hum_hz=hum_hz)


class Preparation:
    """How a recording is prepared; a context manager.

    Attributes:
        found: What was repaired.
        peak: The largest magnitude of a sample that was repaired, or of any where the replay is
            corrected.
        kinds: What is repaired.
        rate: Sample rate in Hz.
        replay: How the replay is corrected.
    """

    def __init__(self, restorer: Restorer, sample_rate: int, correction: Replay) -> None:
        """Begins without repairs; `restorer` makes them."""
        self.found, self.peak, self._repairer = Found(), 0.0, restorer
        self.kinds, self.rate, self.replay = restorer.stages.repair, sample_rate, correction
        self._file = SpooledTemporaryFile(IN_MEMORY_BYTES)
        self._places: dict[int, int] = {}  # where the changes of a block are in the file

    def __enter__(self) -> "Preparation":
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def make(self, blocks: Iterable[np.ndarray],
             report: Callable[[float], object]) -> Iterator[np.ndarray]:
        """Yields a recording, prepared; calls `report` with the seconds of each block read."""
        repaired = self._repair(blocks, report)
        if not self.replay.changes:
            yield from repaired
            return
        # Checked before the filters, which would spread a NaN, so that its place can be named.
        for block in self.replay.apply(checked(repaired, self.rate), self.rate):
            self.peak = max(self.peak, float(np.abs(block).max()))
            yield block

    def apply(self, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Yields the same recording, read once more and prepared as by `make`."""
        return self.replay.apply(self._repeat(blocks), self.rate)

    def without_repairs(self, blocks: Iterable[np.ndarray], gain: float) -> Iterator[np.ndarray]:
        """Yields the signal that is the sum of the result and the residual.

        This is the recording as it is in the file or, if the replay is corrected, the corrected one
        with the gain of the result.
        """
        if not self.replay.changes:
            return filter(len, blocks)
        return (gain * block for block in self.replay.apply(blocks, self.rate))

    def _repair(self, blocks: Iterable[np.ndarray],
                report: Callable[[float], object]) -> Iterator[np.ndarray]:
        """Yields the blocks repaired, and keeps what changed."""
        for number, (block, repaired) in enumerate(
                self._repairer.repair(blocks, self.rate, self.found)):
            changed = np.flatnonzero(block != repaired) if self.kinds else np.zeros(0, int)
            if len(changed):
                values = repaired.reshape(-1)[changed]
                self.peak = max(self.peak, float(np.abs(values).max()))
                self._places[number] = self._file.seek(0, 2)
                np.save(self._file, changed.astype(np.int32))
                np.save(self._file, values)
            yield repaired
            if self.kinds:
                report(len(block) / self.rate)

    def _repeat(self, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Yields the blocks with the repairs of `_repair`."""
        for number, block in enumerate(filter(len, blocks)):
            if number in self._places:
                self._file.seek(self._places[number])
                changed, block = np.load(self._file), block.copy()
                block.reshape(-1)[changed] = np.load(self._file)
            yield block

    @property
    def gain(self) -> float:
        """The gain with which changed samples are not clipped; 1 if they are below full scale."""
        return CEILING / self.peak if self.peak > 1.0 else 1.0

    @property
    def history(self) -> str:
        """How the replay is corrected, as the beginning of an entry in the history of a file."""
        return "".join(f"{each}; " for each in self.replay.corrections(self.rate))

    def describe(self, gain: float) -> dict[str, Any]:
        """Returns the facts for a report; `gain` is that of the result."""
        gain_db, corrected = {"gain_db": round(20.0 * math.log10(gain), 2)}, self.replay.describe(
            self.rate)
        return ({"repaired": self.found.describe(self.rate) | gain_db} if self.kinds else {}) | (
            {"replay": corrected | gain_db} if corrected else {})
