"""Measures and removes the lines of hum: steady tones, whatever else sounds with them.

Hum is a comb of lines at the multiples of the mains frequency. Each line keeps its frequency, level
and phase for seconds, as hardly any note does. So the amplitude of a line is the median over time
of the signal in a narrow band around its frequency, demodulated; a note that sounds for less than
half of the time does not affect it. Only that one tone is subtracted, so that music and speech
around it are unchanged. A network, which scales bins, cannot remove hum that lies under music.
Start reading at `remove_hum`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy

from historical_denoiser.audio.dsp import SAMPLE_RATE, highpass

# The signal around a line is measured in a band of this half-width. So narrow a band needs a margin
# at both ends of the excerpt.
BAND_HZ = 4.0
EDGE_SECONDS = 0.25
MIN_HZ, MAX_HZ = 20.0, 10000.0
# Length of the pieces in which lines are sought. The mains frequency is not stable for longer.
PIECE_SECONDS = 5.0
MIN_REMOVED_SECONDS = 1.0  # shortest piece in which a known line can be measured
# Greatest distance of a line from its nominal frequency, and number of frequencies tried.
DRIFT_HZ = 0.2
DRIFT_STEPS = 41
# Steadiness is the level of a line over the median of the rest of the signal in its band. It must
# reach `STEADY`, and less in a known hum.
STEADY = 3.0
STEADY_IN_COMB = 2.2
# A line is absent if its level stays below this share for this number of moments.
ABSENT, ABSENT_MOMENTS = 0.5, 3
# A comb is fitted to this many lines, in turn; each time its frequency is four times as precise.
FOLLOWED_ORDERS = (4, 16, 64)
# If at least `MIN_SHARING` lines of this steadiness exist, their common level modulation is
# measured. It is ignored below this range from the 10th to the 90th percentile, and is limited
# downwards by `SOFTEST`.
MIN_SHARING, SHARING, MIN_SWING_DB, SOFTEST = 16, 1.2, 3.0, 0.03
STEADIER = 1.3  # least improvement by a shared level
SYNTHESIS_BLOCK = 128  # the level is updated once per block of this length


@dataclass(frozen=True)
class Lines:
    """Steady tones.

    Attributes:
        hz: Frequencies, `(lines,)`.
        amplitudes: Complex amplitudes at the first sample, `(lines,)`.
        steadiness: Level of each line over the median of the rest in its band, `(lines,)`.
        times: Times of measurement in s, `(moments,)`.
        magnitudes: Magnitudes around the lines at these times, `(lines, moments)`.
    """

    hz: np.ndarray
    amplitudes: np.ndarray
    steadiness: np.ndarray
    times: np.ndarray
    magnitudes: np.ndarray

    def steadier(self, least: float) -> Lines:
        """Returns the lines with at least this steadiness."""
        chosen = self.steadiness >= least
        return Lines(self.hz[chosen], self.amplitudes[chosen], self.steadiness[chosen],
                     self.times, self.magnitudes[chosen])


def measure_lines(spectrum: np.ndarray, samples: int, hz: np.ndarray, sample_rate: int,
             level: np.ndarray | None = None) -> Lines:
    """Finds the steady tone nearest to each of the given frequencies.

    Args:
        spectrum: `rfft` of the waveform.
        samples: Length of the waveform.
        hz: Frequencies, at least `BAND_HZ` away from 0 and half the sample rate.
        sample_rate: Sample rate in Hz.
        level: Level modulation `(moments,)` that the tones have in common; None for constant
            levels.
    """
    seconds = samples / sample_rate
    places = np.round(hz * seconds).astype(int)
    reach = int(BAND_HZ * seconds)
    offsets = np.arange(-reach, reach + 1)
    shape = np.hanning(len(offsets) + 2)[1:-1]
    band = np.zeros((len(hz), len(offsets)), complex)
    band[:, offsets] = spectrum[places[:, None] + offsets] * shape * (2.0 / samples)
    signal = scipy.fft.ifft(band, axis=1) * len(offsets)
    times = np.arange(len(offsets)) * seconds / len(offsets)
    inner = (times >= EDGE_SECONDS) & (times <= seconds - EDGE_SECONDS)
    signal, times = signal[:, inner], times[inner]
    signal = signal * np.exp(-2j * np.pi * (hz - places / seconds)[:, None] * times)
    if level is not None:
        signal = signal / level
    # For the frequency, all moments have the same weight, whether a note is loud or soft.
    phases = signal / np.maximum(np.abs(signal), 1e-30)
    drifts = np.linspace(-DRIFT_HZ, DRIFT_HZ, DRIFT_STEPS)
    turns = np.exp(-2j * np.pi * drifts[:, None] * times)
    drift = drifts[np.abs(phases @ turns.T).argmax(axis=1)]
    still = signal * np.exp(-2j * np.pi * drift[:, None] * times)
    amplitudes = np.median(still.real, axis=1) + 1j * np.median(still.imag, axis=1)
    beside = np.median(np.abs(still - amplitudes[:, None]), axis=1)
    return Lines(hz + drift, amplitudes, np.abs(amplitudes) / np.maximum(beside, 1e-30), times,
                 np.abs(signal))


def shared_level(lines: Lines) -> np.ndarray | None:
    """Returns the level modulation that lines share, `(moments,)`; None if their level is constant.

    Fades, an automatic gain and the rotation of a disc modulate all lines alike.
    """
    lines = lines.steadier(SHARING)
    if len(lines.hz) < MIN_SHARING or not lines.times.size:
        return None
    magnitudes = np.maximum(lines.magnitudes, np.finfo(np.float64).tiny)
    usual = np.median(magnitudes, axis=1, keepdims=True)
    level = np.median(np.log(magnitudes) - np.log(usual), axis=0)
    swing = np.diff(np.percentile(level, (10.0, 90.0)))[0]
    if swing < np.log(10.0) * MIN_SWING_DB / 20.0:
        return None
    return np.maximum(np.exp(level), SOFTEST)


def fit_base(hz: np.ndarray, order: np.ndarray) -> float:
    """Returns the frequency whose multiples are nearest to the lines; order 0 excludes a line."""
    return float(hz @ order / (order @ order))


def nominal_hz(base_hz: float, sample_rate: int) -> np.ndarray:
    """Returns the nominal frequencies of the lines of a hum, `(lines,)`."""
    highest = min(MAX_HZ, sample_rate / 2.0 - base_hz)
    return base_hz * np.arange(1, int(highest / base_hz) + 1)


def remove_hum(sound: np.ndarray, base_hz: float, sample_rate: int = SAMPLE_RATE) -> np.ndarray:
    """Removes the stable lines of a hum, and returns float32 `(samples,)`.

    Args:
        sound: Waveform `(samples,)`.
        base_hz: Result of `hum.find_hum`.
        sample_rate: Sample rate in Hz.
    """
    samples = len(sound)
    if samples < MIN_REMOVED_SECONDS * sample_rate:
        return sound
    filtered = highpass(sound, MIN_HZ, sample_rate)
    length = min(samples, round(PIECE_SECONDS * sample_rate))
    count = max(1, -(-2 * (samples - length) // length) + 1)  # each overlaps with half of the next
    fade = np.minimum(np.arange(1, length + 1), np.arange(length, 0, -1)).astype(np.float64)
    hum, weight = np.zeros(samples), np.zeros(samples)
    for start in np.linspace(0, samples - length, count).round().astype(int):
        inside = slice(start, start + length)
        hum[inside] += fade * estimate_hum(filtered[inside], base_hz, sample_rate)
        weight[inside] += fade
    return (sound - hum / weight).astype(np.float32)


def estimate_hum(piece: np.ndarray, base_hz: float, sample_rate: int) -> np.ndarray:
    """Returns the stable lines of a hum in a piece, `(samples,)`.

    Args:
        piece: Waveform `(samples,)`, at least `MIN_REMOVED_SECONDS` long.
        base_hz: Result of `hum.find_hum`.
        sample_rate: Sample rate in Hz.
    """
    spectrum = scipy.fft.rfft(piece)
    lines = _follow_lines(base_hz, spectrum, len(piece), sample_rate)
    level = shared_level(lines)
    sounding = np.ones(len(lines.times))
    if level is not None:
        swinging = _follow_lines(base_hz, spectrum, len(piece), sample_rate, level)
        if _is_steadier(swinging, lines):
            lines, sounding = swinging, level
    lines = lines.steadier(STEADY_IN_COMB)
    turn = 2j * np.pi * lines.hz / sample_rate
    blocks = np.arange(0, len(piece), SYNTHESIS_BLOCK)
    levels = [np.interp(blocks / sample_rate, lines.times, sounding * each)
              for each in _sounding(lines)]
    if not levels:
        return np.zeros(len(piece))
    tones = (np.exp(turn * blocks[:, None]) * np.stack(levels, axis=1)) @ (
        lines.amplitudes[:, None] * np.exp(turn[:, None] * np.arange(SYNTHESIS_BLOCK)))
    return tones.real.ravel()[:len(piece)]


def _is_steadier(swinging: Lines, lines: Lines) -> bool:
    """Returns whether a common level modulation makes lines steadier, weighted by their loudness.

    If there is no hum, what leaks from loud notes shares their level.
    """
    count = min(len(swinging.hz), len(lines.hz))
    ratio = np.log(swinging.steadiness[:count] / np.maximum(lines.steadiness[:count], 1e-30))
    loudness = np.abs(swinging.amplitudes[:count])
    return bool(ratio @ loudness >= np.log(STEADIER) * loudness.sum())


def _follow_lines(base_hz: float, spectrum: np.ndarray, samples: int, sample_rate: int,
                  level: np.ndarray | None = None) -> Lines:
    """Returns the lines of a comb, which is fitted to more and more of them, since mains drift."""
    for orders in FOLLOWED_ORDERS:
        hz = nominal_hz(base_hz, sample_rate)[:orders]
        lines = measure_lines(spectrum, samples, hz, sample_rate, level)
        order = np.where(lines.steadiness >= STEADY, np.arange(1, len(hz) + 1), 0)
        base_hz = fit_base(lines.hz, order) if order.any() else base_hz
    return measure_lines(spectrum, samples, nominal_hz(base_hz, sample_rate), sample_rate, level)


def _sounding(lines: Lines) -> np.ndarray:
    """Returns whether each line sounds at each time of measurement, `(lines, moments)`.

    Where a hum begins or ends, as at a splice, the measured level is lower than that of the line
    for a while.
    """
    loudest = scipy.ndimage.maximum_filter1d(lines.magnitudes, ABSENT_MOMENTS, axis=1)
    is_absent = loudest < ABSENT * np.abs(lines.amplitudes)[:, None]
    # The dilation marks all of this time, not only its middle.
    return ~scipy.ndimage.binary_dilation(is_absent, np.ones((1, ABSENT_MOMENTS)))
