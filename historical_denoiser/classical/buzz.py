"""Detects mains buzz whose lines are not stable, so that the network can be given a profile of it.

Buzz that is intermittent, or that was recorded on a tape with wow, has the lines of hum, at the
multiples of 50 or 60 Hz, but their level and phase change. They cannot be subtracted, and a network
takes them for notes. Yet no note has lines at the majority of the multiples of the mains frequency.
So the comb is detected as a whole, by how far the 25th percentile of the power over time stands out
at all of its frequencies. Whatever a noise profile lacks of these lines is added to it. Start
reading at `find_buzz`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy

from historical_denoiser.audio import dsp
from historical_denoiser.audio.dsp import SAMPLE_RATE
from historical_denoiser.classical.hum import MAINS_HZ

WINDOW, HOP = 32768, 8192  # 743 ms; a main lobe is 2.7 Hz wide
BIN_HZ = SAMPLE_RATE / WINDOW
MIN_SAMPLES = 2 * WINDOW
MAX_HZ = 5000.0
# Percentile of the frames; notes sound in fewer of them.
QUIET_PERCENT = 25
# A line exceeds the median of this many bins (30 Hz) by `LINE_DB`. In the score of a comb, a line
# counts with `MAX_DB` at most.
AROUND_BINS = 22
MAX_DB = 20.0
LINE_DB = 6.0
# Multiples of frequencies within `TOLERANCE` of the mains frequency lie beside the notes of equal
# temperament. Multiples of other frequencies may be those of a note; they are the comparison.
TOLERANCE, COMPARED, STEP = 0.004, 0.05, 0.0002
MULTIPLES = (1, 2)  # all lines, or every second one
# Lower limits of a comb: its number of lines; the sum in dB by which they stand out, divided by the
# square root of the number of possible lines; and the difference of this score from those of other
# frequencies, in standard deviations.
MIN_LINES, MIN_SCORE, MIN_DEVIATIONS = 20, 50.0, 11.0
# A comb is rejected if a comb between its lines has more than this share of its score, as in a
# series of regular beats. Lines halfway between are ignored, since a machine may have some there.
BETWEEN = np.concatenate([np.arange(0.08, 0.43, 0.01), np.arange(0.57, 0.92, 0.01)])
MAX_BETWEEN = 0.9
NORMAL_SPREAD = 1.4826  # of a normal distribution: standard over median deviation
TINY = 1e-12


@dataclass(frozen=True)
class Buzz:
    """Lines of the mains.

    Attributes:
        hz: Frequencies, `(lines,)`.
        power: 25th percentile of |X|^2 over the frames, `(lines,)`.
    """

    hz: np.ndarray
    power: np.ndarray


def find_buzz(sounds: Sequence[np.ndarray]) -> Buzz | None:
    """Finds the lines of mains buzz in a recording; returns None if there are not enough of them.

    Args:
        sounds: Excerpts of one channel, each `(samples,)` at 44.1 kHz.
    """
    powers = _powers(sounds)
    if powers is None:
        return None
    quiet = np.percentile(powers, QUIET_PERCENT, axis=0)
    level_db = dsp.decibels(quiet + TINY)
    above_db = level_db - scipy.ndimage.median_filter(level_db, AROUND_BINS)
    # A line may lie up to one bin beside its nominal frequency.
    counted = scipy.ndimage.maximum_filter1d(np.clip(above_db, 0.0, MAX_DB), 3)
    found = max((_best_comb(counted, mains_hz * multiple)
                 for mains_hz in MAINS_HZ for multiple in MULTIPLES), key=lambda each: each[0])
    score, deviations, base_hz = found
    places = _places(base_hz, base_hz)
    places = places[counted[places] > LINE_DB]
    if (score < MIN_SCORE or deviations < MIN_DEVIATIONS or len(places) < MIN_LINES
            or _score_between(counted, base_hz) > MAX_BETWEEN * score):
        return None
    peaks = _peaks(quiet, places)
    return Buzz(BIN_HZ * peaks, quiet[peaks])


def add_buzz(noise: np.ndarray, buzz: Buzz, sample_rate: int = SAMPLE_RATE) -> np.ndarray:
    """Adds steady tones to a noise, `(samples,)`, to raise the lines of a buzz to their level.

    Args:
        noise: Noise of a recording, from its noise profile.
        buzz: Result of `find_buzz` for that recording.
        sample_rate: Sample rate in Hz.
    """
    size = round(WINDOW * sample_rate / SAMPLE_RATE)
    if len(noise) < size:
        return noise
    window = np.hanning(size)
    frames = np.lib.stride_tricks.sliding_window_view(noise, size)[:: size // 4]
    power = np.mean([dsp.power_spectra(frame) for frame in frames], axis=0)
    # A tone of amplitude 1 has |X| = half the sum of the window.
    places = np.round(buzz.hz * size / sample_rate).astype(int)
    places, hz, wanted = (each[places < len(power) - 1] for each in (places, buzz.hz, buzz.power))
    missing = np.maximum(wanted * (size / WINDOW) ** 2 - power[_peaks(power, places)], 0.0)
    amplitudes = 2.0 * np.sqrt(missing) / window.sum()
    # The phases are random, because tones in phase would add up to pulses, and the same for all
    # channels.
    phases = np.random.default_rng(0).uniform(0.0, 2.0 * np.pi, len(hz))
    times, tones = np.arange(len(noise)) / sample_rate, np.zeros(len(noise))
    for line_hz, amplitude, phase in zip(hz, amplitudes, phases, strict=True):
        if amplitude > 0.0:
            tones += amplitude * np.cos(2.0 * np.pi * line_hz * times + phase)
    return (noise + tones).astype(noise.dtype)


def _powers(sounds: Sequence[np.ndarray]) -> np.ndarray | None:
    """Returns |X|^2 of all frames that are not silent, `(frames, bins)`."""
    bins = int(MAX_HZ * (1.0 + COMPARED) / BIN_HZ) + AROUND_BINS
    powers = [dsp.power_spectra(frame)[:bins]
              for sound in sounds if len(sound) >= MIN_SAMPLES
              for frame in np.lib.stride_tricks.sliding_window_view(sound, WINDOW)[::HOP]
              if np.ptp(frame)]
    return np.stack(powers) if powers else None


def _places(base_hz: np.ndarray | float, lowest_hz: float) -> np.ndarray:
    """Returns the bins of the multiples of frequencies, as many as `lowest_hz` has."""
    orders = np.arange(1, int(MAX_HZ / lowest_hz) + 1)
    return np.round(np.multiply.outer(base_hz, orders) / BIN_HZ).astype(int)


def _best_comb(counted: np.ndarray, mains_hz: float) -> tuple[float, float, float]:
    """Finds the best comb near a frequency.

    Returns:
        Its score, the score's difference from other frequencies in standard deviations, and the
        fundamental in Hz.
    """
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
    """Returns by how much combs, `(combs, places)`, stand out: `(combs,)`."""
    return counted[places].sum(axis=1) / np.sqrt(places.shape[1])


def _score_between(counted: np.ndarray, base_hz: float) -> float:
    """Returns the score of the best comb with the same spacing that lies between the lines."""
    orders = np.arange(1, int(MAX_HZ / base_hz))
    places = np.round(np.add.outer(BETWEEN, orders) * base_hz / BIN_HZ).astype(int)
    return float(_scores(counted, places).max())


def _peaks(power: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Returns the strongest of the three bins around each place, `(places,)`."""
    return places + power[places + np.arange(-1, 2)[:, None]].argmax(axis=0) - 1
