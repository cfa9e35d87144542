"""Finds the hum and buzz of the mains: steady lines at the multiples of the mains frequency.

Peaks of the spectrum that are steady lines are sought, and the comb that holds most of them. Start
reading at `find_hum`; `hum_lines` measures the lines and removes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy

from historical_denoiser.audio.dsp import SAMPLE_RATE, highpass
from historical_denoiser.classical import hum_lines
from historical_denoiser.classical.hum_lines import PIECE_SECONDS, Lines, measure_lines

# Shortest piece in which a line can be distinguished from a note.
MIN_SECONDS = 4.0
MAINS_HZ = (50.0, 60.0)
MAINS_TOLERANCE = 0.003  # of that frequency, if the transfer has the right speed
PEAK = 8.0  # power of a peak over the power around it
AROUND_HZ = 20.0
SEARCHED_HZ = 3000.0  # upper limit of the search for lines
STEADY_MAINS = 4.0  # steadiness of a single line at the mains frequency or twice that
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
    return hz[(hz >= hum_lines.MIN_HZ) & (hz <= SEARCHED_HZ)]


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
        highpass(sound, hum_lines.MIN_HZ, sample_rate),
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
    lines = measure_lines(spectrum, len(piece), peaks, sample_rate).steadier(hum_lines.STEADY)
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
    base_hz = hum_lines.fit_base(lines.hz, np.where(fits[best], order[best], 0.0))
    return _Comb(base_hz, int(count[best]), not is_mains[best])


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
        level = hum_lines.shared_level(measure_lines(spectrum, samples, near, sample_rate))
        if level is None:
            continue
        lines = measure_lines(spectrum, samples, near, sample_rate, level)
        lines = lines.steadier(hum_lines.STEADY)
        comb = _fit_comb(lines, mains_hz, MAINS_TOLERANCE) if len(lines.hz) else None
        if comb is not None and comb.lines >= hum_lines.MIN_SHARING:
            return comb, level
    return None, None


def _stands_still(base_hz: float, spectrum: np.ndarray, samples: int, sample_rate: int,
                  level: np.ndarray | None) -> bool:
    """Returns whether the residual around the lines is little louder than the signal between them.

    Intermittent buzz has lines as well. Subtracting them would leave a residual that is louder, and
    harder for a network to distinguish from a voice.
    """
    hz = hum_lines.nominal_hz(base_hz, sample_rate)
    lines = measure_lines(spectrum, samples, hz, sample_rate, level)
    chosen = lines.steadiness >= hum_lines.STEADY_IN_COMB
    if chosen.sum() < MANY_LINES:
        return True
    beside = (measure_lines(spectrum, samples, hz[chosen] + offset, sample_rate, level)
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
    sounds = np.stack([piece, piece - hum_lines.estimate_hum(piece, base_hz, sample_rate)])
    frames = sounds[:, : sounds.shape[1] // width * width].reshape(2, -1, width)
    power = np.sort(np.square(frames).mean(axis=2), axis=1)
    before, after = power[:, : int(SHARE_OF_QUIET * power.shape[1])].sum(axis=1)
    return bool(after <= MAX_RISE * before)
