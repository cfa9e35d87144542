"""Finds the stretches of a recording that hold noise alone: run-in and run-out grooves, pauses."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy import fft

from denoiser.noise.fit import frame_powers
from denoiser.noise.parts import to_gain

SLOT_FRAMES = 12  # a slot is the stretch of time, about 0.3 s, that is judged as a whole
JUDGED_HZ = (60.0, 354.0, 5657.0)  # bass, of which only the level counts; above it half octaves
SLOT_FLATNESS_DB = -0.75  # mean flatness of a slot that can be noise
RUN_FLATNESS_DB = -0.58  # and its median over a stretch; speech and music lie below
BAND_FLATNESS_DB = -1.8  # flatness of a slot's second least flat half octave
STEADY_DB = 4.0  # noise lies this close to the quietest noise of the recording
SLOT_CHANGE_DB = 3.0  # RMS over half octaves of a slot's distance from the usual noise
RUN_CHANGE_DB = 2.0  # and its median over a stretch
STEADY_BASS_DB = 5.0  # and its bass this close
LINE_DB = 3.0  # what always stands this far above its neighbours is hum or buzz
SILENCE_DBFS = -96.0  # below this nothing was recorded
LONGEST_GAP = 3  # slots
SHORTEST_SECONDS = 0.75  # of a stretch: as much as `noise_fit.measure` needs
LOWEST_RATE = 4000  # Hz
HIGHEST_HUM_HZ = 1200.0
LINE_REACH = 12  # neighbours in bins on each side


@dataclass(frozen=True)
class NoiseSegment:
    """A stretch of noise alone in a recording."""

    start_seconds: float
    end_seconds: float
    place: str  # "run-in", "pause", "run-out" or "whole"
    level_dbfs: float  # of the noise between 0.35 and 5.7 kHz
    below_program_db: float  # how far this lies below the rest; infinite where there is none
    flatness_db: float  # 0: as flat as noise can be


def _frame_size(sample_rate: int) -> int:
    return 2 ** round(np.log2(0.046 * sample_rate))


def _slot_powers(blocks: Iterable[np.ndarray], sample_rate: int) -> np.ndarray:
    """Power spectra `(slots, bins)` of 0 to 5.7 kHz; the median over each slot's frames.

    Clicks do not move a median. Slots overlap by half.
    """
    size = _frame_size(sample_rate)
    hop, step = size // 2, SLOT_FRAMES // 2
    length = (SLOT_FRAMES - 1) * hop + size
    bins = min(int(JUDGED_HZ[-1] / sample_rate * size), size // 2) + 1
    powers, rest = [np.zeros((0, bins), np.float32)], None
    for block in blocks:
        rest = block if rest is None else np.concatenate([rest, block])
        count = (len(rest) - length) // (step * hop) + 1
        if count < 1:
            continue
        piece = rest[:(count - 1) * step * hop + length]
        frames = sum(frame_powers(channel, size, hop)[:, :bins] for channel in piece.T)
        windows = np.lib.stride_tricks.sliding_window_view(frames, SLOT_FRAMES, axis=0)[::step]
        powers.append(np.median(windows, axis=-1) / (np.log(2.0) * piece.shape[1]))
        rest = rest[count * step * hop:]
    return np.concatenate(powers) + 1e-20


@dataclass(frozen=True)
class _Slots:
    """What is judged of each slot, in dB."""

    level: np.ndarray  # (slots,), re full scale
    bass: np.ndarray  # (slots,)
    bands: np.ndarray  # (slots, half octaves)
    flatness: np.ndarray  # (slots, half octaves), 0: flat

    @classmethod
    def of(cls, powers: np.ndarray, sample_rate: int) -> _Slots:
        """Judges the spectra of `_slot_powers`; lines that always stand are levelled as hum."""
        size = _frame_size(sample_rate)
        frequency = fft.rfftfreq(size, 1.0 / sample_rate)[:powers.shape[1]]
        usual = np.quantile(powers, 0.1, axis=0)
        around = np.quantile(np.lib.stride_tricks.sliding_window_view(
            np.pad(usual, LINE_REACH, mode="edge"), 2 * LINE_REACH + 1), 0.3, axis=-1)
        line = (usual > to_gain(2.0 * LINE_DB) * around) & (frequency < HIGHEST_HUM_HZ)
        powers = np.where(line, powers * around / usual, powers)
        sums, means, logs = [], [], []
        edges = JUDGED_HZ[1] * 2.0 ** (0.5 * np.arange(9))
        for low, high in itertools.pairwise(edges):
            band = powers[:, (frequency >= low) & (frequency < high)].astype(np.float64)
            if high < 0.45 * sample_rate:
                sums.append(band.sum(axis=1))
                means.append(np.log(band.mean(axis=1)))
                logs.append(np.log(band).mean(axis=1))
        decibel = 10.0 / np.log(10.0)
        bass = powers[:, (frequency >= JUDGED_HZ[0]) & (frequency < JUDGED_HZ[1])].sum(axis=1)
        return cls(level=10.0 * np.log10(2.0 * np.sum(sums, axis=0) / size),
                   bass=10.0 * np.log10(bass), bands=decibel * np.transpose(means),
                   flatness=decibel * np.transpose(np.subtract(logs, means)))


def _runs(mask: np.ndarray) -> list[tuple[int, int]]:
    """First and last index of each run of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(np.int8), [0]])))
    return [(int(first), int(end) - 1) for first, end in edges.reshape(-1, 2)]


def _choose(powers: np.ndarray, sample_rate: int, samples: int, min_seconds: float,
            min_drop_db: float) -> list[NoiseSegment]:
    """Picks the noise among a recording's slots."""
    if not len(powers):
        return []
    slots = _Slots.of(powers, sample_rate)
    sorted_flatness = np.sort(slots.flatness, axis=1)[:, 1:]  # one half octave may hold hum
    flatness = sorted_flatness.mean(axis=1)
    step = SLOT_FRAMES // 2 * (_frame_size(sample_rate) // 2)

    def span(first: int, last: int) -> tuple[float, float]:
        """A run's time; half a slot at each end may hold some of its neighbour, and is left."""
        start = 0 if first == 0 else (first + 1) * step
        end = samples if last == len(flatness) - 1 else (last + 1) * step
        return start / sample_rate, end / sample_rate

    def long_runs(mask: np.ndarray) -> list[slice]:
        return [slice(first, last + 1) for first, last in _runs(mask)
                if np.subtract(*span(first, last)) <= -min_seconds
                and np.median(flatness[first:last + 1]) >= RUN_FLATNESS_DB]

    audible = slots.level > SILENCE_DBFS
    flat = ((flatness >= SLOT_FLATNESS_DB) & audible
            & (sorted_flatness[:, 0] >= BAND_FLATNESS_DB))
    runs = long_runs(flat)
    if not runs:
        return []
    floor = min(float(np.median(slots.level[run])) for run in runs)
    noise = flat & (slots.level < floor + STEADY_DB)
    noise &= slots.bass < np.quantile(slots.bass[noise], 0.2) + STEADY_BASS_DB
    change = np.sqrt(np.mean(np.square(slots.bands - np.median(slots.bands[noise], axis=0)),
                             axis=1))
    noise &= change < SLOT_CHANGE_DB
    for first, last in _runs(~noise):  # dense crackle lifts a slot or two
        inside = 0 < first and last < len(noise) - 1 and last - first < LONGEST_GAP
        noise[first:last + 1] |= inside and bool(flat[first:last + 1].all())
    program = slots.level[~noise & audible]
    loudness = float(np.quantile(program, 0.75)) if len(program) else np.inf
    if loudness < floor + min_drop_db:
        return []
    segments = []
    for run in long_runs(noise):
        if np.median(change[run]) > RUN_CHANGE_DB:
            continue
        place = {(True, True): "whole", (True, False): "run-in", (False, True): "run-out"}.get(
            (run.start == 0, run.stop == len(flatness)), "pause")
        level = float(np.median(slots.level[run]))
        segments.append(NoiseSegment(*span(run.start, run.stop - 1), place, level,
                                     loudness - level, float(np.median(flatness[run]))))
    return segments


def find_noise_segments(audio: np.ndarray, sample_rate: int, min_seconds: float = SHORTEST_SECONDS,
                        min_drop_db: float = 6.0) -> list[NoiseSegment]:
    """Finds stretches that hold noise alone: run-in and run-out grooves, pauses.

    Noise has a smooth spectrum: within half an octave, the median of a third of a second is flat
    to about 0.5 dB, while tones and harmonics stand out of it. Of such stretches those at the
    recording's lowest steady level are taken, if the rest of the recording is louder.

    Args:
        audio: Float array `(samples,)` or `(samples, channels)`.
        sample_rate: Samples per second.
        min_seconds: Shortest stretch.
        min_drop_db: How far noise must lie below the louder part of the rest.

    Returns:
        The stretches in order; none when there are none.
    """
    audio = audio.reshape(len(audio), -1)
    return find_noise_in_blocks([audio], sample_rate, len(audio), min_seconds, min_drop_db)


def find_noise_in_blocks(blocks: Iterable[np.ndarray], sample_rate: int, samples: int,
                         min_seconds: float = SHORTEST_SECONDS, min_drop_db: float = 6.0,
                         ) -> list[NoiseSegment]:
    """Does what `find_noise_segments` does for a recording that is read piece by piece.

    Args:
        blocks: Float arrays `(samples, channels)` of any length, in order.
        sample_rate: Samples per second.
        samples: Length of all blocks together.
        min_seconds: Shortest stretch.
        min_drop_db: How far noise must lie below the louder part of the rest.

    Returns:
        The stretches in order; none when there are none.

    Raises:
        ValueError: The rate is so low that it leaves no band to judge noise by.
    """
    if sample_rate < LOWEST_RATE:
        raise ValueError(f"`sample_rate` must be at least {LOWEST_RATE}. Received: {sample_rate}")
    return _choose(_slot_powers(blocks, sample_rate), sample_rate, samples, min_seconds,
                   min_drop_db)
