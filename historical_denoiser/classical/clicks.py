"""Removes clicks from a recording and interpolates the gaps; sounds that may be music are kept.

An autoregressive (AR) model of the surrounding signal predicts each sample from those before it and
from those after it. Where both predictions fail, there may be a click. The gap is filled with the
samples that are most likely according to the model (Janssen, Veldhuis and Vries, "Adaptive
interpolation of discrete-time signals that can be modeled as autoregressive processes", 1986;
Godsill and Rayner, "Digital Audio Restoration", 1998, chapters 5 and 9).

The onset of a drum is as hard to predict as a click. It is recognised by what follows: a drum
continues to ring, whereas after a click the signal is the same as before. The pulses of a voice or
of a brass instrument are recognised by their regular intervals. In doubt nothing is changed.

All waveforms are `(samples,)` at 44.1 kHz. Start reading at `remove_clicks`.
"""

from dataclasses import dataclass

import numpy as np
import scipy

from historical_denoiser.audio.dsp import SAMPLE_RATE, hann, largest_around, to_gain

# A model is made of `FRAME` samples, is valid for the middle `HOP` samples (23 ms), and predicts
# each sample from `ORDER` others.
HOP = 1024
FRAME = 2 * HOP
ORDER = 40
# White noise of this level is added to each frame, so that the equations can always be solved.
FLOOR_DB = -60.0
# Least level of the prediction error relative to the frame, since synthetic tones have no error.
MIN_SCALE_DB = -50.0

ROUNDING = 1e-12  # errors below this share of a frame's largest sample are rounding
FRAMES_AT_ONCE = 32  # with all frames of a segment at once, each step takes longer

# The scale of the error is this quantile of its magnitude, since clicks may affect up to a fifth of
# the samples, divided by the same quantile of a normal distribution.
SCALE_QUANTILE = 0.8
QUANTILE_OF_GAUSSIAN = 1.2816
PEAK_REACH = 2  # samples on both sides, within which an error that crosses zero is one peak
EDGE_RATIO = 3.0  # a candidate extends as far as both errors exceed this multiple of the scale
JOIN_SAMPLES = 16  # candidates with a shorter distance are joined
MAX_SAMPLES = round(0.004 * SAMPLE_RATE)  # upper limit of a gap
CROWD_SAMPLES = 4 * HOP  # on both sides of a candidate; see `Sensitivity.max_in_crowd`
LEAD_SAMPLES = 4  # samples before a click that are part of the gap

NEAR_SECONDS = (0.001, 0.004)  # after a click; the error of an onset decays over milliseconds
FAR_SECONDS = (0.005, 0.015)  # after a click; a struck instrument rings
BEFORE_SECONDS = (0.001, 0.015)
# A level below this share of the peak does not belong to the ringing of an onset.
MIN_RING = 0.01
PERIOD_SECONDS = (0.001, 0.016)  # of the pulses of voices and instruments
# A click that exceeds the periodic pulses around it by this ratio is removed nevertheless.
AROUND_PULSES = 2.0
PULSE_SAMPLES = 128  # cells in which the pulses are counted, 2.9 ms

# A click continues where the difference to the interpolated signal, averaged over `TAIL_SAMPLES`,
# exceeds the error of interpolation by this ratio.
TAIL_RATIO = 3.0
TAIL_SAMPLES = 9


@dataclass(frozen=True)
class Sensitivity:
    """How readily something is taken for a click.

    Attributes:
        seed_ratio: A candidate has a peak above this multiple of the scale in both errors.
        max_in_crowd: With more candidates within `CROWD_SAMPLES`, none is interpolated.
        max_rise: Greatest ratio of the levels after and before a click, of error and signal.
        max_fall: The same of the levels before and after it.
        periodic: Least autocorrelation of periodic errors, which are not clicks.
        min_gain: Least ratio of the energy that an interpolation removes to that of its error.
    """

    seed_ratio: float = 8.0
    max_in_crowd: int = 40  # 215 per second
    max_rise: float = 2.0
    max_fall: float = 4.0
    periodic: float = 0.4
    min_gain: float = 4.0


NORMAL = "normal"
LEVELS = {"gentle": Sensitivity(16.0, 20, 1.4, 2.0, 0.3, 16.0), NORMAL: Sensitivity(),
          "strong": Sensitivity(5.0, 160, 4.0, 8.0, 0.6, 2.0)}


@dataclass(frozen=True)
class Repair:
    """A click that was interpolated.

    Attributes:
        place: Its samples.
        strength_db: Peak of what was removed, relative to the RMS level of the 46 ms around.
    """

    place: slice
    strength_db: float


@dataclass(frozen=True)
class Errors:
    """Prediction errors of a signal.

    Attributes:
        magnitude: Absolute error of the prediction from the preceding samples, `(samples,)`.
        score: The smaller error of both directions, relative to `scale`, `(samples,)`.
        scale: Standard deviation of the error without clicks, `(frames,)`, each of `HOP` samples.
    """

    magnitude: np.ndarray
    score: np.ndarray
    scale: np.ndarray


# --- The model -------------------------------------------------------------------------------


def fit_model(frames: np.ndarray, order: int = ORDER) -> np.ndarray:
    """Fits AR models by the autocorrelation method.

    Args:
        frames: `(frames, samples)`.
        order: Order of the models.

    Returns:
        Prediction error filters `(frames, 1 + order)`; the first coefficient is 1.
    """
    samples = frames.shape[-1]
    shaped = np.zeros((len(frames), samples + order))
    shaped[:, :samples] = frames * hann(samples + 2)[1:-1]
    # For so few lags this takes less time than Fourier transforms.
    correlation = np.array([np.correlate(frame, frame[:samples], "valid") for frame in shaped])
    correlation[:, 0] *= 1.0 + 10.0 ** (FLOOR_DB / 10.0)
    # The model of a silent frame predicts zero.
    silent = correlation[:, 0] <= np.finfo(np.float32).tiny
    correlation[silent] = np.eye(1, 1 + order)
    # SciPy's Levinson recursion is slower: it takes one frame at a time and spends most time on
    # checks.
    distances = np.abs(np.subtract.outer(np.arange(order), np.arange(order)))
    models = np.ones((len(frames), 1 + order))
    models[:, 1:] = np.linalg.solve(correlation[:, distances], -correlation[:, 1:, None])[..., 0]
    return models


def measure_errors(audio: np.ndarray, modelled: np.ndarray) -> Errors:
    """Predicts `audio` with models fitted to `modelled`, the same signal with fewer clicks."""
    count = -(-len(audio) // HOP)
    margin = (FRAME - HOP) // 2
    frames = _frames(modelled, margin, count)
    around = _frames(audio, ORDER, count)
    magnitudes, scale = np.empty((2, count, HOP)), np.empty(count)
    for first in range(0, count, FRAMES_AT_ONCE):
        part = slice(first, first + FRAMES_AT_ONCE)
        magnitudes[:, part] = _predict(around[part], fit_model(frames[part]))
        level = np.sqrt(np.mean(np.square(frames[part]), axis=1))
        scale[part] = np.maximum(_scale_of(magnitudes[0, part]), to_gain(MIN_SCALE_DB) * level)
    # The maximum of adjacent frames is used: where the signal changes, a larger scale protects it.
    scale = largest_around(scale, 1)
    forward, backward = magnitudes.reshape(2, -1)
    forward[len(audio):] = backward[len(audio):] = 0.0
    least = np.minimum(largest_around(forward, PEAK_REACH), largest_around(backward, PEAK_REACH))
    score = np.divide(least.reshape(count, HOP), scale[:, None], out=np.zeros((count, HOP)),
                      where=scale[:, None] > 0.0)
    return Errors(forward[:len(audio)], score.reshape(-1)[:len(audio)], scale)


def _frames(audio: np.ndarray, margin: int, count: int) -> np.ndarray:
    """Returns `count` frames of `HOP` samples with a margin on both sides, in rows."""
    padded = np.pad(audio, (margin, margin + count * HOP - len(audio)))
    return np.lib.stride_tricks.sliding_window_view(padded, HOP + 2 * margin)[::HOP]


def _predict(around: np.ndarray, models: np.ndarray) -> np.ndarray:
    """Returns the error magnitudes of predictions from before and from after, `(2, frames, HOP)`.

    Args:
        around: Each frame, with `ORDER` more samples on both sides.
        models: A row of the result of `fit_model` for each.
    """
    length = scipy.fft.next_fast_len(around.shape[1] + ORDER, real=True)
    spectra, filters = scipy.fft.rfft(around, length), scipy.fft.rfft(models, length)
    both = np.stack([np.abs(scipy.fft.irfft(spectra * each, length)[:, ORDER : ORDER + HOP])
                     for each in (filters, filters.conj())])
    # Digital silence is predicted exactly, but the transforms round.
    both[both < ROUNDING * np.abs(around).max(axis=1, keepdims=True)] = 0.0
    return both


def _scale_of(magnitudes: np.ndarray) -> np.ndarray:
    """Returns the standard deviation of the errors in each row, without clicks."""
    # This takes a fifth of the time of np.quantile.
    rank, share = divmod(SCALE_QUANTILE * (magnitudes.shape[1] - 1), 1.0)
    ranked = np.partition(magnitudes, int(rank))[:, int(rank):]
    return (ranked[:, 0] + share * (ranked[:, 1:].min(axis=1) - ranked[:, 0])
            ) / QUANTILE_OF_GAUSSIAN


def interpolate(audio: np.ndarray, missing: np.ndarray, model: np.ndarray) -> np.ndarray:
    """Returns `audio` with the gaps filled so that the prediction error is least.

    With the autocorrelation b of the model's filter, the missing samples x solve, for every missing
    i, sum over missing j of b(i - j) x(j) = - sum over known j of b(i - j) x(j).

    Args:
        audio: `(samples,)`; the values of missing samples are ignored.
        missing: Whether each sample is missing, bool `(samples,)`.
        model: `(1 + order,)`, a row of the result of `fit_model`.
    """
    places = np.flatnonzero(missing)
    if not len(places):
        return audio.copy()
    order = len(model) - 1
    weights = np.correlate(model, model, "full")[order:]
    known = np.where(missing, 0.0, audio)
    symmetric = np.concatenate([weights[:0:-1], weights])
    driven = np.convolve(known, symmetric, "same")[places]
    # The lower bands of the matrix hold the weights of the distances from each missing sample to
    # those that follow. Beyond the last missing sample and beyond the order, the weights are zero.
    following = np.concatenate([places, np.full(order, places[-1] + order + 1)])
    after = np.lib.stride_tricks.sliding_window_view(following, min(order, len(places) - 1) + 1)
    bands = np.append(weights, 0.0)[np.minimum(after[:len(places)].T - places, order + 1)]
    filled = known
    filled[places] = scipy.linalg.solveh_banded(bands, -driven, lower=True,
                                                check_finite=False)
    return filled


def interpolation_variance(samples: int, model: np.ndarray) -> np.ndarray:
    """Returns the error variance of `interpolate` for each sample of one gap, `(samples,)`.

    It is relative to the variance of the prediction error: the diagonal of the inverse of the
    equations' matrix, computed from the first column of the inverse by the formula of Gohberg and
    Semencul (1972).

    Args:
        samples: Length of the gap.
        model: `(1 + order,)`, a row of the result of `fit_model`.
    """
    weights = np.zeros(max(samples, len(model)))
    weights[:len(model)] = np.correlate(model, model, "full")[len(model) - 1:]
    unit = np.zeros(samples)
    unit[0] = 1.0
    column = scipy.linalg.solve_toeplitz(weights[:samples], unit, check_finite=False)
    mirrored = np.concatenate([[0.0], column[:0:-1]])
    return np.cumsum(column**2 - mirrored**2) / column[0]


# --- Finding clicks --------------------------------------------------------------------------


def find_candidates(score: np.ndarray, seed_ratio: float) -> list[slice]:
    """Returns the spans where both predictions fail, whether they are clicks or not."""
    reached = np.flatnonzero(score > EDGE_RATIO)
    if not len(reached):
        return []
    first = np.flatnonzero(np.diff(reached, prepend=-JOIN_SAMPLES - 1) > JOIN_SAMPLES)
    last = np.append(first[1:], len(reached)) - 1
    peaks = np.maximum.reduceat(score[reached], first)
    return [slice(int(reached[start]), int(reached[stop]) + 1)
            for start, stop, peak in zip(first, last, peaks, strict=True) if peak > seed_ratio]


def _median(values: np.ndarray, start: float, stop: float) -> float:
    part = np.sort(values[max(0, round(start)):max(0, round(stop))])
    # For a few hundred samples this takes a fifth of the time of np.median.
    return 0.5 * float(part[len(part) // 2] + part[(len(part) - 1) // 2]) if len(part) else 0.0


def _rings_on(place: slice, magnitude: np.ndarray, sensitivity: Sensitivity) -> bool:
    """Returns whether `magnitude` rises for longer than a click lasts, or falls considerably."""
    rate = SAMPLE_RATE
    before = _median(magnitude, place.start - BEFORE_SECONDS[1] * rate,
                     place.start - BEFORE_SECONDS[0] * rate)
    near, far = (_median(magnitude, place.stop + span[0] * rate, place.stop + span[1] * rate)
                 for span in (NEAR_SECONDS, FAR_SECONDS))
    if max(near, far, before) < MIN_RING * magnitude[place].max():
        return False
    return (max(near, far) > sensitivity.max_rise * before or before > sensitivity.max_fall * far)


def _find_period(place: slice, score: np.ndarray, sensitivity: Sensitivity, likely: int) -> int:
    """Returns a period of the pulses of which a place is one, in samples; 0 if it is none.

    The `likely` period, if it is not 0, is tried first, which takes a tenth of the time. Whether
    there is a period does not depend on it.
    """
    middle = (place.start + place.stop) // 2
    around = score[max(0, middle - FRAME):middle + FRAME]
    peaks = np.sort(np.maximum.reduceat(around, np.arange(0, len(around), PULSE_SAMPLES)))
    # This takes a fiftieth of the time of np.quantile.
    if score[place].max() > AROUND_PULSES * peaks[round(0.9 * (len(peaks) - 1))]:
        return 0
    around = np.minimum(around, sensitivity.seed_ratio)
    around = around - around.mean()
    least_sum = sensitivity.periodic * float(around @ around)
    if likely and float(around[likely:] @ around[:-likely]) > least_sum:
        return likely
    least, most = (round(seconds * SAMPLE_RATE) for seconds in PERIOD_SECONDS)
    length = scipy.fft.next_fast_len(len(around) + most, real=True)
    power = np.abs(scipy.fft.rfft(around, length)) ** 2
    correlation = scipy.fft.irfft(power, length)[least:min(most, len(around))]
    return least + int(correlation.argmax()) if correlation.max(initial=0.0) > least_sum else 0


# --- Removing clicks -------------------------------------------------------------------------


def _bridge_roughly(audio: np.ndarray, places: list[slice]) -> np.ndarray:
    """Interpolates linearly across the candidates and their tails."""
    known = np.ones(len(audio), bool)
    for place in places:
        known[max(0, place.start - LEAD_SAMPLES):place.stop + MAX_SAMPLES // 4] = False
    turns = np.flatnonzero(known[1:] != known[:-1])
    missing, beside = np.flatnonzero(~known), np.unique(np.where(known[turns], turns, turns + 1))
    bridged = audio.copy()
    if len(beside):
        bridged[missing] = np.interp(missing, beside, audio[beside])
    return bridged


def _bridge(audio: np.ndarray, rough: np.ndarray, place: slice, doubtful: np.ndarray,
            scale: float, min_gain: float) -> tuple[slice, np.ndarray] | None:
    """Returns the gap of a click and its new samples, or None if that is not worthwhile."""
    low, high = max(0, place.start - HOP), min(len(audio), place.stop + HOP)
    start = max(place.start - LEAD_SAMPLES - low, 0)
    stop = min(start + MAX_SAMPLES, high - low)
    around, model = audio[low:high], fit_model(rough[None, low:high])[0]
    missing = doubtful[low:high].copy()
    missing[start:stop] = True
    difference = (around - interpolate(around, missing, model))[start:stop]
    usual = scale * np.sqrt(np.maximum(interpolation_variance(stop - start, model), 0.0))
    # np.convolve would lengthen a gap that is shorter than the filter, at the end of the waveform.
    level = np.sqrt(scipy.ndimage.convolve1d(
        difference**2, np.full(TAIL_SAMPLES, 1.0 / TAIL_SAMPLES), mode="constant"))
    over = np.flatnonzero(level[place.stop - low - start:] < TAIL_RATIO * usual[
        place.stop - low - start:])
    if not len(over):
        return None  # longer than a click
    stop = place.stop - low + int(over[0])
    missing[start:high - low] = doubtful[low + start:high]
    missing[start:stop] = True
    filled = interpolate(around, missing, model)
    # The model is fitted once more, to the signal without the click.
    filled = interpolate(around, missing, fit_model(filled[None])[0])
    removed = np.sum(np.square((around - filled)[start:stop]))
    expected = scale**2 * np.sum(interpolation_variance(stop - start, model))
    if removed < min_gain * expected:
        return None
    return slice(low + start, low + stop), filled[start:stop]


def count_clicks(audio: np.ndarray) -> float:
    """Returns how many clicks `remove_clicks` would remove per second of `(samples,)`."""
    return len(repair_clicks(audio.astype(np.float32))[1]) * SAMPLE_RATE / len(audio)


def remove_clicks(audio: np.ndarray, level: str = NORMAL) -> np.ndarray:
    """Returns a waveform without its clicks; see `repair_clicks`."""
    return repair_clicks(audio, level)[0]


def repair_clicks(audio: np.ndarray, level: str = NORMAL) -> tuple[np.ndarray, list[Repair]]:
    """Removes clicks of up to 4 ms.

    The result at one place depends on a fifth of a second around it, and on the position of the
    multiples of `HOP` samples.

    Args:
        audio: `(samples,)` at 44.1 kHz, floating point.
        level: How readily something is taken for a click, one of `LEVELS`.

    Returns:
        Array of the same shape and type, whose samples outside clicks are unchanged; and what was
        repaired, in rising order.
    """
    if len(audio) <= 2 * ORDER:
        return audio.copy(), []
    sensitivity, sound = LEVELS[level], audio.astype(np.float64)
    first = find_candidates(measure_errors(sound, sound).score, sensitivity.seed_ratio)
    if not first:
        return audio.copy(), []
    errors = measure_errors(sound, _bridge_roughly(sound, first))
    places = find_candidates(errors.score, sensitivity.seed_ratio)
    if not places:
        return audio.copy(), []
    rough = _bridge_roughly(sound, places)
    doubtful = np.zeros(len(sound), bool)
    for place in places:
        doubtful[place] = True
    smooth = np.abs(rough)
    restored, repairs = sound.copy(), []
    starts = np.array([place.start for place in places])
    crowds = (np.searchsorted(starts, starts + CROWD_SAMPLES)
              - np.searchsorted(starts, starts - CROWD_SAMPLES))
    period = 0  # the last one that was found, in samples
    for place, crowd in zip(places, crowds, strict=True):
        if (crowd > sensitivity.max_in_crowd
                or place.stop - place.start > MAX_SAMPLES - LEAD_SAMPLES
                or _rings_on(place, errors.magnitude, sensitivity)
                or _rings_on(place, smooth, sensitivity)):
            continue
        if found := _find_period(place, errors.score, sensitivity, period):
            period = found
            continue
        bridge = _bridge(sound, rough, place, doubtful, errors.scale[place.start // HOP],
                         sensitivity.min_gain)
        if bridge is not None:
            gap, samples = bridge
            restored[gap] = samples
            repairs.append(Repair(gap, _strength_db(sound[gap] - samples, rough, gap)))
    return restored.astype(audio.dtype), repairs


def _strength_db(removed: np.ndarray, rough: np.ndarray, gap: slice) -> float:
    level = np.sqrt(np.mean(np.square(rough[max(0, gap.start - HOP):gap.stop + HOP])))
    return float(20.0 * np.log10(np.abs(removed).max() / max(level, np.finfo(np.float32).tiny)))
