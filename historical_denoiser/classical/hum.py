"""Takes the hum and buzz of mains out: tones that stand still, whatever sounds beside them.

Hum is a comb of lines at the multiples of the mains' frequency. Each keeps its frequency, level and
phase for seconds, as hardly a note does. So the amplitude of a line is the median, over time, of
what is heard around its frequency, turned back by its phase: a note that sounds for less than half
of the time does not move it. What is subtracted is that one tone, so that music and speech around
it stay as they are. A network, which lowers bins, has to leave hum that lies under music.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy

from historical_denoiser.audio.dsp import SAMPLE_RATE, highpass

BAND_HZ = 4.0  # around a line, in which it is heard
EDGE_SECONDS = 0.25  # at both ends, where a band as narrow hears beyond them
LOWEST_HZ, HIGHEST_HZ = 20.0, 10000.0
PIECE_SECONDS = 5.0  # in which lines are looked for: for longer, the mains do not keep step
SHORTEST_SECONDS = 4.0  # in which a line can be told from a note
SHORTEST_REMOVED_SECONDS = 1.0  # in which it can be measured once it is known
DRIFT_HZ = 0.2  # most by which a line lies beside its place
DRIFT_STEPS = 41
MAINS_HZ = (50.0, 60.0)
MAINS_TOLERANCE = 0.003  # of that frequency, where a transfer runs at its speed
PEAK = 8.0  # power of a peak over what is around it
AROUND_HZ = 20.0
SEARCHED_HZ = 3000.0  # up to which lines are looked for
STEADY = 3.0  # level of a line over the median of what is beside it
STEADY_MAINS = 4.0  # of a single line at the mains' frequency or twice that
STEADY_IN_COMB = 2.2  # of one that belongs to a hum that is known
COMB_STEP_HZ = 0.005
COMB_TOLERANCE_HZ = 0.1
# Hum of a transfer at another speed, as of a film at 25 in place of 24 pictures a second, lies
# elsewhere, where it takes many lines to tell it from a synthetic tone that is held.
FASTER = 0.05
FASTER_ALONE = 0.025  # where one piece is all that there is
MANY_LINES = 8
LARGEST_STEP = 2  # all lines of hum, or every other one
SAME = 0.001  # of the frequency: combs of two pieces that are one
DRONE_HZ = 1.0  # around the line of a drone, within which peaks are no hum's
# Of the pieces of a recording that must have the hum.
SHARE_OF_PIECES, SHARE_OF_PIECES_ELSEWHERE = 0.5, 0.75
# A comb stands still where, for half of its lines, so much at most is left around a line over what
# is heard between lines, or where the line stands so far above what is left.
MOST_LEFT, STEADY_ALONE = 10.0 ** (2.0 / 20.0), 7.0
# In its quietest moments a sound must not be louder without its hum than with it.
QUIET_SECONDS, SHARE_OF_QUIET, MOST_RISE = 0.01, 0.2, 10.0 ** (1.0 / 10.0)
ABSENT, ABSENT_MOMENTS = 0.5, 3  # level below which a line does not sound, for so long
# Of the lines by which a comb is followed, in turn: each time they lie four times as precisely.
FOLLOWED_ORDERS = (4, 16, 64)
# Lines that become louder and softer together: so many of them tell by how much, those that are so
# steady; less than this swing (from the tenth to the ninetieth percentile) is none.
LEAST_SHARING, SHARING, LEAST_SWING_DB, SOFTEST = 16, 1.2, 3.0, 0.03
STEADIER = 1.3  # that a level which they share makes lines, the louder ones above all
SYNTHESIS_BLOCK = 128  # samples at which that may change


@dataclass(frozen=True)
class Lines:
    """Tones that stand still.

    Attributes:
        hz: Their frequencies, `(lines,)`.
        amplitudes: Complex: level and phase at the first sample, `(lines,)`.
        steadiness: Level over the median of what is beside each of them, `(lines,)`.
        times: Moments at which the sound was heard, in s, `(moments,)`.
        heard: Magnitudes around the lines at these, `(lines, moments)`.
    """

    hz: np.ndarray
    amplitudes: np.ndarray
    steadiness: np.ndarray
    times: np.ndarray
    heard: np.ndarray

    def steadier(self, least: float) -> Lines:
        """Returns the lines that are at least so steady."""
        chosen = self.steadiness >= least
        return Lines(self.hz[chosen], self.amplitudes[chosen], self.steadiness[chosen],
                     self.times, self.heard[chosen])


def _measure(spectrum: np.ndarray, samples: int, hz: np.ndarray, sample_rate: int,
             level: np.ndarray | None = None) -> Lines:
    """Finds the steady tone nearest to each of some frequencies.

    Args:
        spectrum: `rfft` of the sound.
        samples: Length of the sound.
        hz: Frequencies, at least `BAND_HZ` away from 0 and half the sample rate.
        sample_rate: In Hz.
        level: `(moments,)`, which is steady in a tone that is; None: it does not change.
    """
    seconds = samples / sample_rate
    places = np.round(hz * seconds).astype(int)
    reach = int(BAND_HZ * seconds)
    offsets = np.arange(-reach, reach + 1)
    shape = np.hanning(len(offsets) + 2)[1:-1]
    band = np.zeros((len(hz), len(offsets)), complex)
    band[:, offsets] = spectrum[places[:, None] + offsets] * shape * (2.0 / samples)
    heard = scipy.fft.ifft(band, axis=1) * len(offsets)
    times = np.arange(len(offsets)) * seconds / len(offsets)
    inner = (times >= EDGE_SECONDS) & (times <= seconds - EDGE_SECONDS)
    heard, times = heard[:, inner], times[inner]
    heard = heard * np.exp(-2j * np.pi * (hz - places / seconds)[:, None] * times)
    if level is not None:
        heard = heard / level
    # Each moment counts alike for the frequency: a loud note no more than a soft one.
    phases = heard / np.maximum(np.abs(heard), 1e-30)
    drifts = np.linspace(-DRIFT_HZ, DRIFT_HZ, DRIFT_STEPS)
    turns = np.exp(-2j * np.pi * drifts[:, None] * times)
    drift = drifts[np.abs(phases @ turns.T).argmax(axis=1)]
    still = heard * np.exp(-2j * np.pi * drift[:, None] * times)
    amplitudes = np.median(still.real, axis=1) + 1j * np.median(still.imag, axis=1)
    beside = np.median(np.abs(still - amplitudes[:, None]), axis=1)
    return Lines(hz + drift, amplitudes, np.abs(amplitudes) / np.maximum(beside, 1e-30), times,
                 np.abs(heard))


def _peaks(sound: np.ndarray, sample_rate: int) -> np.ndarray:
    """Returns the frequencies at which the spectrum of all of a sound has peaks."""
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
    return hz[(hz >= LOWEST_HZ) & (hz <= SEARCHED_HZ)]


@dataclass(frozen=True)
class _Comb:
    base_hz: float
    lines: int  # how many were found
    is_elsewhere: bool  # not where mains are


def find_hum(sounds: Sequence[np.ndarray], sample_rate: int = SAMPLE_RATE,
             drones_hz: Sequence[float] | np.ndarray = ()) -> float | None:
    """Returns the frequency of which all lines of a recording's hum are multiples, if it has one.

    Args:
        sounds: Stretches of one channel, each `(samples,)`.
        sample_rate: In Hz.
        drones_hz: Lines that are music, from `drones.find_drones`, and do not count.
    """
    pieces = [piece for sound in sounds for piece in np.array_split(
        highpass(sound, LOWEST_HZ, sample_rate),
        max(1, int(len(sound) / (PIECE_SECONDS * sample_rate))))]
    faster = FASTER if len(pieces) > 1 else FASTER_ALONE
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


def _find_comb(piece: np.ndarray, sample_rate: int, faster: float, drones_hz: np.ndarray,
               ) -> _Comb | None:
    """Finds a hum in one piece `(samples,)`, at most so much faster or slower than the mains."""
    if len(piece) < SHORTEST_SECONDS * sample_rate or sample_rate < 2.0 * (
            SEARCHED_HZ + AROUND_HZ):
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
    """Returns the comb near a mains' frequency that most lines belong to, if it is hum."""
    bases = mains_hz * (1.0 + np.arange(-faster, faster, COMB_STEP_HZ / mains_hz))
    order = np.maximum(np.round(lines.hz / bases[:, None]), 1.0)
    fits = np.abs(lines.hz - order * bases[:, None]) <= COMB_TOLERANCE_HZ
    is_mains = np.abs(bases / mains_hz - 1.0) <= MAINS_TOLERANCE
    has_low = (fits & (order <= 2.0) & (lines.steadiness >= STEADY_MAINS)).any(axis=1)
    count = fits.sum(axis=1)
    # A note's lines are some multiples of 50 Hz as well: every fifth, where it is 250 Hz.
    spread = np.gcd.reduce(np.where(fits, order, 0.0).astype(int), axis=1)
    count[~(is_mains & has_low) & ((count < MANY_LINES) | (spread > LARGEST_STEP))] = 0
    best = int(count.argmax())
    if not count[best]:
        return None
    return _Comb(_fit(lines.hz, np.where(fits[best], order[best], 0.0)), int(count[best]),
                 not (is_mains & has_low)[best])


def _find_swinging_comb(spectrum: np.ndarray, samples: int, peaks: np.ndarray, sample_rate: int,
                        ) -> tuple[_Comb | None, np.ndarray | None]:
    """Finds a hum whose lines become louder and softer together, and by how much they do.

    So do the partials of a note. It takes many lines, where those of mains are, to tell it.
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
        if comb is not None and comb.lines >= LEAST_SHARING:
            return comb, level
    return None, None


def _shared_level(lines: Lines) -> np.ndarray | None:
    """Returns the level at each moment that lines have in common, `(moments,)`; None: a steady one.

    Fades, an automatic gain and the turns of a disc make all lines louder and softer alike.
    """
    lines = lines.steadier(SHARING)
    if len(lines.hz) < LEAST_SHARING or not lines.times.size:
        return None
    heard = np.maximum(lines.heard, np.finfo(np.float64).tiny)
    level = np.median(np.log(heard) - np.log(np.median(heard, axis=1, keepdims=True)), axis=0)
    swing = np.diff(np.percentile(level, (10.0, 90.0)))[0]
    if swing < np.log(10.0) * LEAST_SWING_DB / 20.0:
        return None
    return np.maximum(np.exp(level), SOFTEST)


def _stands_still(base_hz: float, spectrum: np.ndarray, samples: int, sample_rate: int,
                  level: np.ndarray | None) -> bool:
    """Whether little more is heard around the lines of a comb, less these, than between them.

    Buzz that sputters has lines as well. Without these, what is left of it is harder for a network
    to tell from a voice, and there is more of it.
    """
    hz = _places(base_hz, sample_rate)
    lines = _measure(spectrum, samples, hz, sample_rate, level)
    chosen = lines.steadiness >= STEADY_IN_COMB
    if chosen.sum() < MANY_LINES:
        return True
    beside = (_measure(spectrum, samples, hz[chosen] + offset, sample_rate, level)
              for offset in (-0.5 * base_hz, 0.5 * base_hz))
    between = np.mean([np.median(each.heard, axis=1) for each in beside], axis=0)
    left = (np.abs(lines.amplitudes) / lines.steadiness)[chosen]
    is_still = (left <= MOST_LEFT * between) | (lines.steadiness[chosen] >= STEADY_ALONE)
    return bool(2 * is_still.sum() >= len(is_still))


def _is_in_pauses(base_hz: float, piece: np.ndarray, sample_rate: int) -> bool:
    """Whether a piece is no louder without a comb where it is quietest.

    Strokes at a regular pace, as of castanets that a machine plays, have lines as well. Between the
    strokes these cancel each other, so that without some of them the pauses are full of tones.
    """
    width = round(QUIET_SECONDS * sample_rate)
    sounds = np.stack([piece, piece - _hum_of(piece, base_hz, sample_rate)])
    frames = sounds[:, : sounds.shape[1] // width * width].reshape(2, -1, width)
    power = np.sort(np.square(frames).mean(axis=2), axis=1)
    before, after = power[:, : int(SHARE_OF_QUIET * power.shape[1])].sum(axis=1)
    return bool(after <= MOST_RISE * before)


def remove_hum(sound: np.ndarray, base_hz: float, sample_rate: int = SAMPLE_RATE) -> np.ndarray:
    """Returns a sound without the lines of a hum that stand still in it, float32 `(samples,)`.

    Args:
        sound: `(samples,)`.
        base_hz: From `find_hum`.
        sample_rate: In Hz.
    """
    samples = len(sound)
    if samples < SHORTEST_REMOVED_SECONDS * sample_rate:
        return sound
    heard = highpass(sound, LOWEST_HZ, sample_rate)
    length = min(samples, round(PIECE_SECONDS * sample_rate))
    count = max(1, -(-2 * (samples - length) // length) + 1)  # each overlaps with half of the next
    fade = np.minimum(np.arange(1, length + 1), np.arange(length, 0, -1)).astype(np.float64)
    hum, weight = np.zeros(samples), np.zeros(samples)
    for start in np.linspace(0, samples - length, count).round().astype(int):
        inside = slice(start, start + length)
        hum[inside] += fade * _hum_of(heard[inside], base_hz, sample_rate)
        weight[inside] += fade
    return (sound - hum / weight).astype(np.float32)


def _places(base_hz: float, sample_rate: int) -> np.ndarray:
    """Returns the frequencies at which the lines of a hum may lie, `(lines,)`."""
    highest = min(HIGHEST_HZ, sample_rate / 2.0 - base_hz)
    return base_hz * np.arange(1, int(highest / base_hz) + 1)


def _hum_of(piece: np.ndarray, base_hz: float, sample_rate: int) -> np.ndarray:
    """Returns the lines of a hum that stand still in a piece, `(samples,)`."""
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
    """Whether lines, measured with a level that they share, are steadier than without it.

    Where no hum is, what leaks from loud notes shares their level.
    """
    count = min(len(swinging.hz), len(lines.hz))
    ratio = np.log(swinging.steadiness[:count] / np.maximum(lines.steadiness[:count], 1e-30))
    loudness = np.abs(swinging.amplitudes[:count])
    return bool(ratio @ loudness >= np.log(STEADIER) * loudness.sum())


def _follow_lines(base_hz: float, spectrum: np.ndarray, samples: int, sample_rate: int,
                  level: np.ndarray | None = None) -> Lines:
    """Returns the lines of a comb, which is followed from the lowest to the highest."""
    for orders in FOLLOWED_ORDERS:
        base_hz = _follow(base_hz, orders, spectrum, samples, sample_rate, level)
    return _measure(spectrum, samples, _places(base_hz, sample_rate), sample_rate, level)


def _follow(base_hz: float, orders: int, spectrum: np.ndarray, samples: int, sample_rate: int,
            level: np.ndarray | None) -> float:
    """Returns where a comb lies in a piece, by its lowest lines: mains and machines drift."""
    hz = _places(base_hz, sample_rate)[:orders]
    lines = _measure(spectrum, samples, hz, sample_rate, level)
    order = np.where(lines.steadiness >= STEADY, np.arange(1, len(hz) + 1), 0)
    return _fit(lines.hz, order) if order.any() else base_hz


def _fit(hz: np.ndarray, order: np.ndarray) -> float:
    """Returns the frequency whose multiples lie nearest to lines; those of order 0 do not count."""
    return float(hz @ order / (order @ order))


def _sounding(lines: Lines) -> np.ndarray:
    """Returns whether each line sounds at each of its moments, `(lines, moments)`.

    Where a hum begins or ends, as at a splice, less is heard for a while than the line would be.
    """
    loudest = scipy.ndimage.maximum_filter1d(lines.heard, ABSENT_MOMENTS, axis=1)
    is_absent = loudest < ABSENT * np.abs(lines.amplitudes)[:, None]
    # So that all of such a while is meant, and not only its middle.
    return ~scipy.ndimage.binary_dilation(is_absent, np.ones((1, ABSENT_MOMENTS)))
