"""Hears the buzz of mains that does not stand still, so that a network can be told of it.

Buzz that sputters, or that a tape recorded and plays with its own wow, has the lines of hum, at the
multiples of 50 or 60 Hz, but these keep neither level nor phase: they cannot be subtracted, and a
network takes them for notes. Yet no note has lines throughout at most multiples of the mains. So
the comb is looked for as a whole: by how far the spectrum stands out at all of its places, in a
quarter of the moments at least. What a noise profile lacks of these lines is added to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy

from historical_denoiser.audio import dsp
from historical_denoiser.audio.dsp import SAMPLE_RATE
from historical_denoiser.classical.hum import MAINS_HZ

WINDOW, HOP = 32768, 8192  # 743 ms: lines of 2.7 Hz
BIN_HZ = SAMPLE_RATE / WINDOW
SHORTEST_SAMPLES = 2 * WINDOW
HIGHEST_HZ = 5000.0
QUIET_PERCENT = 25  # of the moments: notes sound in fewer of them
AROUND_BINS = 22  # 30 Hz, of which the median is what a line stands out from
MOST_DB = 20.0  # for which a line counts, however far it stands out
LINE_DB = 6.0  # by which a line stands out
# Multiples of what is so near to the mains lie beside the notes of equal temperament; those of
# other frequencies may be a note's. These are compared with the mains.
TOLERANCE, COMPARED, STEP = 0.004, 0.05, 0.0002
MULTIPLES = (1, 2)  # all lines, or every other one
# A comb has so many lines, which stand out by so many dB in all, over the root of how many there
# may be, and by so many deviations more than those of other frequencies.
LEAST_LINES, LEAST_SCORE, LEAST_DEVIATIONS = 20, 50.0, 11.0
# Strokes at a regular pace have lines between those of the mains as well, as high as these. Half
# way between, a machine may have its own.
BETWEEN = np.concatenate([np.arange(0.08, 0.43, 0.01), np.arange(0.57, 0.92, 0.01)])
MOST_BETWEEN = 0.9  # of their score to that of the mains
NORMAL_SPREAD = 1.4826  # of normally distributed numbers, over their median deviation
TINY = 1e-12


@dataclass(frozen=True)
class Buzz:
    """Lines of the mains.

    Attributes:
        hz: Their frequencies, `(lines,)`.
        power: |X|^2 that each has in a quarter of the moments at most, `(lines,)`.
    """

    hz: np.ndarray
    power: np.ndarray


def find_buzz(sounds: Sequence[np.ndarray]) -> Buzz | None:
    """Returns the lines of the mains that are heard in a recording, where there are many.

    Args:
        sounds: Stretches of one channel, each `(samples,)` at 44.1 kHz.
    """
    powers = _powers(sounds)
    if powers is None:
        return None
    quiet = np.percentile(powers, QUIET_PERCENT, axis=0)
    level_db = dsp.decibels(quiet + TINY)
    above_db = level_db - scipy.ndimage.median_filter(level_db, AROUND_BINS)
    # Its place lies within a bin of where it should be.
    counted = scipy.ndimage.maximum_filter1d(np.clip(above_db, 0.0, MOST_DB), 3)
    found = max((_best_comb(counted, mains_hz * multiple)
                 for mains_hz in MAINS_HZ for multiple in MULTIPLES), key=lambda each: each[0])
    score, deviations, base_hz = found
    places = _places(base_hz, base_hz)
    places = places[counted[places] > LINE_DB]
    if (score < LEAST_SCORE or deviations < LEAST_DEVIATIONS or len(places) < LEAST_LINES
            or _score_between(counted, base_hz) > MOST_BETWEEN * score):
        return None
    return Buzz(BIN_HZ * _top(quiet, places), _peak(quiet, places))


def add_buzz(noise: np.ndarray, buzz: Buzz, sample_rate: int = SAMPLE_RATE) -> np.ndarray:
    """Returns a noise, `(samples,)`, with steady tones for what it lacks of a buzz.

    Args:
        noise: What is known of the noise of a recording.
        buzz: From `find_buzz` of that recording.
        sample_rate: In Hz.
    """
    size = round(WINDOW * sample_rate / SAMPLE_RATE)
    if len(noise) < size:
        return noise
    window = np.hanning(size)
    frames = np.lib.stride_tricks.sliding_window_view(noise, size)[:: size // 4]
    power = np.mean([dsp.power_spectra(frame) for frame in frames], axis=0)
    # A tone of amplitude 1 has |X| = half the window's sum.
    places = np.round(buzz.hz * size / sample_rate).astype(int)
    places, hz, heard = (each[places < len(power) - 1] for each in (places, buzz.hz, buzz.power))
    heard = heard * (size / WINDOW) ** 2
    amplitudes = 2.0 * np.sqrt(np.maximum(heard - _peak(power, places), 0.0)) / window.sum()
    # Phases of no order, and the same for all channels: in step, the tones would be pulses.
    phases = np.random.default_rng(0).uniform(0.0, 2.0 * np.pi, len(hz))
    times, tones = np.arange(len(noise)) / sample_rate, np.zeros(len(noise))
    for line_hz, amplitude, phase in zip(hz, amplitudes, phases, strict=True):
        if amplitude > 0.0:
            tones += amplitude * np.cos(2.0 * np.pi * line_hz * times + phase)
    return (noise + tones).astype(noise.dtype)


def _powers(sounds: Sequence[np.ndarray]) -> np.ndarray | None:
    """Returns |X|^2 of all moments that are not silent, `(moments, bins)`."""
    bins = int(HIGHEST_HZ * (1.0 + COMPARED) / BIN_HZ) + AROUND_BINS
    powers = [dsp.power_spectra(frame)[:bins]
              for sound in sounds if len(sound) >= SHORTEST_SAMPLES
              for frame in np.lib.stride_tricks.sliding_window_view(sound, WINDOW)[::HOP]
              if np.ptp(frame)]
    return np.stack(powers) if powers else None


def _places(base_hz: np.ndarray | float, lowest_hz: float) -> np.ndarray:
    """Returns the bins of the multiples of frequencies, of as many as of the lowest."""
    orders = np.arange(1, int(HIGHEST_HZ / lowest_hz) + 1)
    return np.round(np.multiply.outer(base_hz, orders) / BIN_HZ).astype(int)


def _best_comb(counted: np.ndarray, mains_hz: float) -> tuple[float, float, float]:
    """Returns the score of the best comb near a frequency, its deviations from those of others,
    and its fundamental in Hz."""
    beside = np.arange(-COMPARED, COMPARED, STEP)
    places = _places(mains_hz * (1.0 + beside), mains_hz)
    scores = _scores(counted, places)
    usual = np.median(scores)
    spread = NORMAL_SPREAD * np.median(np.abs(scores - usual)) + TINY
    near = np.flatnonzero(np.abs(beside) <= TOLERANCE)
    best = near[scores[near].argmax()]
    return (float(scores[best]), float((scores[best] - usual) / spread),
            float(mains_hz * (1.0 + beside[best])))


def _scores(counted: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Returns by how much combs `(combs, places)` stand out, `(combs,)`."""
    return counted[places].sum(axis=1) / np.sqrt(places.shape[1])


def _score_between(counted: np.ndarray, base_hz: float) -> float:
    """Returns the score of the best comb of the same distances beside one of this fundamental."""
    orders = np.arange(1, int(HIGHEST_HZ / base_hz))
    places = np.round(np.add.outer(BETWEEN, orders) * base_hz / BIN_HZ).astype(int)
    return float(_scores(counted, places).max())


def _around(places: np.ndarray) -> np.ndarray:
    return places + np.arange(-1, 2)[:, None]


def _top(power: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Returns which bin next to each place holds most, `(places,)`."""
    return places + power[_around(places)].argmax(axis=0) - 1


def _peak(power: np.ndarray, places: np.ndarray) -> np.ndarray:
    return power[_around(places)].max(axis=0)
