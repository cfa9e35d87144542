"""Removes the hum and buzz of the mains: steady tones, whatever else sounds with them.

Hum is a comb of lines at the multiples of the mains frequency. Each line keeps its frequency, level
and phase for seconds, as hardly any note does. So the amplitude of a line is the median over time
of the signal in a narrow band around its frequency, demodulated; a note that sounds for less than
half of the time does not affect it. Only that one tone is subtracted, so that music and speech
around it are unchanged. A network, which scales bins, cannot remove hum that lies under music.
Start reading at `find_hum` and `remove_hum`.
"""

from __future__ import annotations

from collections.abc import Sequence
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
# Shortest piece in which a line can be distinguished from a note, and in which a known line can be
# measured.
MIN_SECONDS = 4.0
MIN_REMOVED_SECONDS = 1.0
# Greatest distance of a line from its nominal frequency, and number of frequencies tried.
DRIFT_HZ = 0.2
DRIFT_STEPS = 41
MAINS_HZ = (50.0, 60.0)
MAINS_TOLERANCE = 0.003  # of that frequency, if the transfer has the right speed
PEAK = 8.0  # power of a peak over the power around it
AROUND_HZ = 20.0
SEARCHED_HZ = 3000.0  # upper limit of the search for lines
# Steadiness is the level of a line over the median of the rest of the signal in its band. It must
# reach `STEADY`; more for a single line at the mains frequency or twice that, and less in a known
# hum.
STEADY = 3.0
STEADY_MAINS = 4.0
STEADY_IN_COMB = 2.2
COMB_STEP_HZ = 0.005
COMB_TOLERANCE_HZ = 0.1
# The hum of a transfer at another speed, such as a film at 25 instead of 24 frames a second, lies
# at another frequency. There, many lines are needed to distinguish it from a held synthetic tone.
FASTER = 0.05
FASTER_ALONE = 0.025  # if there is only one piece
MANY_LINES = 8
MAX_STEP = 2  # all lines of hum, or every second one
SAME = 0.001  # tolerance within which the combs of two pieces are one
DRONE_HZ = 1.0  # peaks this close to the line of a drone do not belong to hum
# The share of the pieces of a recording that must have the hum.
SHARE_OF_PIECES, SHARE_OF_PIECES_ELSEWHERE = 0.5, 0.75
# A comb is stable if half of its lines have a residual below `MAX_LEFT` times the level between
# lines, or exceed their residual by `STEADY_ALONE`.
MAX_LEFT, STEADY_ALONE = 10.0 ** (2.0 / 20.0), 7.0
# Removing the hum must not raise the level of the quietest moments by more than this.
QUIET_SECONDS, SHARE_OF_QUIET, MAX_RISE = 0.01, 0.2, 10.0 ** (1.0 / 10.0)
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


def _measure(spectrum: np.ndarray, samples: int, hz: np.ndarray, sample_rate: int,
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


def _peaks(sound: np.ndarray, sample_rate: int) -> np.ndarray:
    """Returns the frequencies of the peaks of the spectrum of a whole waveform."""
    size = scipy.fft.next_fast_len(2 * len(sound), real=True)
    power = np.square(np.abs(scipy.fft.rfft(sound * np.hanning(len(sound)), size)))
    step_hz = sample_rate / size
    power = power[: int((SEARCHED_HZ + AROUND_HZ) / step_hz)]
    width = max(1, int(AROUND_HZ / step_hz))
    whole = len(power) // width * width
    around = np.median(power[:whole].reshape(-1, width), axis=1)
    around = np.interp(np.arange(len(power)), (np.arange(len(around)) + 0.5) * width, around)
    is_peak = (power == scipy.ndimage.maximum_filter1d(power, 9)) & (power > PEAK * around)
    hz = np.flatnonzero(is_peak) * step_hz
    return hz[(hz >= MIN_HZ) & (hz <= SEARCHED_HZ)]


@dataclass(frozen=True)
class _Comb:
    base_hz: float
    lines: int  # number of lines found
    is_elsewhere: bool  # not at the mains frequency


def find_hum(sounds: Sequence[np.ndarray], sample_rate: int = SAMPLE_RATE,
             drones_hz: Sequence[float] | np.ndarray = (), faster: float = FASTER,
             ) -> float | None:
    """Finds the hum of a recording.

    Args:
        sounds: Excerpts of one channel, each `(samples,)`.
        sample_rate: Sample rate in Hz.
        drones_hz: Lines to ignore because they are music, from `drones.find_drones`.
        faster: Greatest relative distance from the mains frequency; less in a short recording.

    Returns:
        The frequency in Hz of which all lines of the hum are multiples, or None.
    """
    pieces = [piece for sound in sounds for piece in np.array_split(
        highpass(sound, MIN_HZ, sample_rate),
        max(1, int(len(sound) / (PIECE_SECONDS * sample_rate))))]
    faster = faster if len(pieces) > 1 else FASTER_ALONE
    found = [comb for piece in pieces
             if (comb := _find_comb(piece, sample_rate, faster, np.asarray(drones_hz)))]
    if not found:
        return None
    bases = np.array([comb.base_hz for comb in found])
    agree = np.abs(bases[:, None] / bases - 1.0) <= SAME
    best = max(range(len(found)), key=lambda each: (agree[each].sum(), found[each].lines))
    share = (SHARE_OF_PIECES_ELSEWHERE if found[best].is_elsewhere else SHARE_OF_PIECES)
    if agree[best].sum() < share * len(pieces):
        return None
    return float(np.median(bases[agree[best]]))


def speed_to_mains(base_hz: float) -> float:
    """Returns the factor of the speed that brings a hum to the nearer of 50 and 60 Hz."""
    return min((mains_hz / base_hz for mains_hz in MAINS_HZ), key=lambda speed: abs(speed - 1.0))


def _find_comb(piece: np.ndarray, sample_rate: int, faster: float, drones_hz: np.ndarray,
               ) -> _Comb | None:
    """Finds a hum in a piece `(samples,)`; `faster` is the greatest relative change of speed."""
    if len(piece) < MIN_SECONDS * sample_rate or sample_rate < 2.0 * (SEARCHED_HZ + AROUND_HZ):
        return None
    spectrum = scipy.fft.rfft(piece)
    peaks = _peaks(piece, sample_rate)
    peaks = peaks[(np.abs(peaks[:, None] - drones_hz) > DRONE_HZ).all(axis=1)]
    lines = _measure(spectrum, len(piece), peaks, sample_rate).steadier(STEADY)
    found = [comb for mains_hz in MAINS_HZ if len(lines.hz)
             and (comb := _fit_comb(lines, mains_hz, faster))]
    steady = max(found, key=lambda comb: comb.lines, default=None)
    swinging, level = _find_swinging_comb(spectrum, len(piece), peaks, sample_rate)
    for comb, shared in ((steady, None), (swinging, level)):
        if (comb is not None
                and _stands_still(comb.base_hz, spectrum, len(piece), sample_rate, shared)
                and _is_in_pauses(comb.base_hz, piece, sample_rate)):
            return comb
    return None


def _fit_comb(lines: Lines, mains_hz: float, faster: float) -> _Comb | None:
    """Returns the comb near a mains frequency with the most lines, or None if it is not hum."""
    bases = mains_hz * (1.0 + np.arange(-faster, faster, COMB_STEP_HZ / mains_hz))
    order = np.maximum(np.round(lines.hz / bases[:, None]), 1.0)
    fits = np.abs(lines.hz - order * bases[:, None]) <= COMB_TOLERANCE_HZ
    is_mains = np.abs(bases / mains_hz - 1.0) <= MAINS_TOLERANCE
    has_low = (fits & (order <= 2.0) & (lines.steadiness >= STEADY_MAINS)).any(axis=1)
    count = fits.sum(axis=1)
    # The lines of a note are multiples of 50 Hz as well, such as every fifth one for 250 Hz.
    spread = np.gcd.reduce(np.where(fits, order, 0.0).astype(int), axis=1)
    count[~(is_mains & has_low) & ((count < MANY_LINES) | (spread > MAX_STEP))] = 0
    best = int(count.argmax())
    if not count[best]:
        return None
    return _Comb(_fit(lines.hz, np.where(fits[best], order[best], 0.0)), int(count[best]),
                 not is_mains[best])


def _find_swinging_comb(spectrum: np.ndarray, samples: int, peaks: np.ndarray, sample_rate: int,
                        ) -> tuple[_Comb | None, np.ndarray | None]:
    """Finds a hum whose lines share a level modulation.

    The partials of a note share one as well, so many lines at the mains frequency are required.

    Returns:
        The comb and the level modulation `(moments,)`, or None for both.
    """
    for mains_hz in MAINS_HZ:
        order = np.maximum(np.round(peaks / mains_hz), 1.0)
        near = peaks[np.abs(peaks - order * mains_hz)
                     <= order * mains_hz * MAINS_TOLERANCE + COMB_TOLERANCE_HZ]
        level = _shared_level(_measure(spectrum, samples, near, sample_rate))
        if level is None:
            continue
        lines = _measure(spectrum, samples, near, sample_rate, level).steadier(STEADY)
        comb = _fit_comb(lines, mains_hz, MAINS_TOLERANCE) if len(lines.hz) else None
        if comb is not None and comb.lines >= MIN_SHARING:
            return comb, level
    return None, None


def _shared_level(lines: Lines) -> np.ndarray | None:
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


def _stands_still(base_hz: float, spectrum: np.ndarray, samples: int, sample_rate: int,
                  level: np.ndarray | None) -> bool:
    """Returns whether the residual around the lines is little louder than the signal between them.

    Intermittent buzz has lines as well. Subtracting them would leave a residual that is louder, and
    harder for a network to distinguish from a voice.
    """
    hz = _places(base_hz, sample_rate)
    lines = _measure(spectrum, samples, hz, sample_rate, level)
    chosen = lines.steadiness >= STEADY_IN_COMB
    if chosen.sum() < MANY_LINES:
        return True
    beside = (_measure(spectrum, samples, hz[chosen] + offset, sample_rate, level)
              for offset in (-0.5 * base_hz, 0.5 * base_hz))
    between = np.mean([np.median(each.magnitudes, axis=1) for each in beside], axis=0)
    left = (np.abs(lines.amplitudes) / lines.steadiness)[chosen]
    is_still = (left <= MAX_LEFT * between) | (lines.steadiness[chosen] >= STEADY_ALONE)
    return bool(2 * is_still.sum() >= len(is_still))


def _is_in_pauses(base_hz: float, piece: np.ndarray, sample_rate: int) -> bool:
    """Returns whether removing a comb leaves the quietest moments of a piece at their level.

    Hits at a regular pace, such as castanets played by a machine, also have lines. Between the hits
    these lines cancel each other, so that removing some of them would fill the pauses with tones.
    """
    width = round(QUIET_SECONDS * sample_rate)
    sounds = np.stack([piece, piece - _hum_of(piece, base_hz, sample_rate)])
    frames = sounds[:, : sounds.shape[1] // width * width].reshape(2, -1, width)
    power = np.sort(np.square(frames).mean(axis=2), axis=1)
    before, after = power[:, : int(SHARE_OF_QUIET * power.shape[1])].sum(axis=1)
    return bool(after <= MAX_RISE * before)


def remove_hum(sound: np.ndarray, base_hz: float, sample_rate: int = SAMPLE_RATE) -> np.ndarray:
    """Removes the stable lines of a hum, and returns float32 `(samples,)`.

    Args:
        sound: Waveform `(samples,)`.
        base_hz: Result of `find_hum`.
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
        hum[inside] += fade * _hum_of(filtered[inside], base_hz, sample_rate)
        weight[inside] += fade
    return (sound - hum / weight).astype(np.float32)


def _places(base_hz: float, sample_rate: int) -> np.ndarray:
    """Returns the nominal frequencies of the lines of a hum, `(lines,)`."""
    highest = min(MAX_HZ, sample_rate / 2.0 - base_hz)
    return base_hz * np.arange(1, int(highest / base_hz) + 1)


def _hum_of(piece: np.ndarray, base_hz: float, sample_rate: int) -> np.ndarray:
    """Returns the stable lines of a hum in a piece, `(samples,)`."""
    spectrum = scipy.fft.rfft(piece)
    lines = _follow_lines(base_hz, spectrum, len(piece), sample_rate)
    level = _shared_level(lines)
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
        hz = _places(base_hz, sample_rate)[:orders]
        lines = _measure(spectrum, samples, hz, sample_rate, level)
        order = np.where(lines.steadiness >= STEADY, np.arange(1, len(hz) + 1), 0)
        base_hz = _fit(lines.hz, order) if order.any() else base_hz
    return _measure(spectrum, samples, _places(base_hz, sample_rate), sample_rate, level)


def _fit(hz: np.ndarray, order: np.ndarray) -> float:
    """Returns the frequency whose multiples are nearest to the lines; order 0 excludes a line."""
    return float(hz @ order / (order @ order))


def _sounding(lines: Lines) -> np.ndarray:
    """Returns whether each line sounds at each time of measurement, `(lines, moments)`.

    Where a hum begins or ends, as at a splice, the measured level is lower than that of the line
    for a while.
    """
    loudest = scipy.ndimage.maximum_filter1d(lines.magnitudes, ABSENT_MOMENTS, axis=1)
    is_absent = loudest < ABSENT * np.abs(lines.amplitudes)[:, None]
    # The dilation marks all of this time, not only its middle.
    return ~scipy.ndimage.binary_dilation(is_absent, np.ones((1, ABSENT_MOMENTS)))
