"""Cuts clicks out of a recording and bridges the gaps; leaves alone what may be music.

Each sample is predicted from those before it and from those after it by an autoregressive (AR)
model of the sound around it. Where both predictions fail there may be a click. The gap is bridged
by the samples that the same model finds most likely (Janssen, Veldhuis and Vries, "Adaptive
interpolation of discrete-time signals that can be modeled as autoregressive processes", 1986;
Godsill and Rayner, "Digital Audio Restoration", 1998, chapters 5 and 9).

A stroke on a drum is as hard to predict as a click. It is told by what follows: a stroke rings on,
and after a click the sound is what it was before. The pulses of a voice or of a brass instrument
are told by their regular distance. In doubt nothing is changed.

All audio is `(samples,)` at 44.1 kHz.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy

from historical_denoiser.audio.dsp import SAMPLE_RATE, to_gain

HOP = 1024  # samples that share a model: 23 ms
FRAME = 2 * HOP  # samples that the model is made of
ORDER = 40  # of the model: samples that predict the next one
FLOOR_DB = -60.0  # white noise under each frame, by which the equations can always be solved
LEAST_SCALE_DB = -50.0  # of the prediction error re the frame: a synthetic tone has none at all

SCALE_QUANTILE = 0.8  # of the error's magnitude; up to a fifth of the samples may belong to clicks
QUANTILE_OF_GAUSSIAN = 1.2816  # the same quantile for a standard deviation of 1
PEAK_SAMPLES = 5  # an error that swings through zero counts as one peak
SEED_RATIO = 8.0  # of both errors to their scale: here is a click, if it is not music
EDGE_RATIO = 3.0  # of both errors to their scale, as far as the click reaches
JOIN_SAMPLES = 16  # clicks with less between them are one
LONGEST_SAMPLES = round(0.004 * SAMPLE_RATE)  # of a gap that is bridged
CROWD_SAMPLES = 4 * HOP  # before and after a place
MOST_IN_CROWD = 40  # places there, 215 a second: where there are more, none can be bridged
LEAD_SAMPLES = 4  # before a click, that belong to the gap

NEAR_SECONDS = (0.001, 0.004)  # after a click: the error of a stroke decays over milliseconds
FAR_SECONDS = (0.005, 0.015)  # after a click: a stroke rings
BEFORE_SECONDS = (0.001, 0.015)
LARGEST_RISE = 2.0  # of the error and of the sound, from before a click to after it
LARGEST_FALL = 4.0
LEAST_RING = 0.01  # of a stroke's peak; what follows and is lower was there without it
PERIOD_SECONDS = (0.001, 0.016)  # of the pulses of voices and instruments
PERIODIC = 0.4  # correlation of the errors with themselves a period later
AROUND_PULSES = 2.0  # ratio of a click to the pulses around it, where these are periodic
PULSE_SAMPLES = 128  # cells in which the pulses are counted: 2.9 ms

TAIL_RATIO = 3.0  # of what was found in a gap to the bridge's own error: here the click goes on
TAIL_SAMPLES = 9  # over which this is averaged
LEAST_GAIN = 4.0  # energy that a bridge takes away, relative to the error that it may make


@dataclass(frozen=True)
class Errors:
    """How badly samples are predicted; arrays are `(samples,)`.

    Attributes:
        forward: Error of the prediction from the samples before.
        score: The smaller one of both directions' errors, relative to `scale`.
        scale: Standard deviation of the error as it would be without clicks.
    """

    forward: np.ndarray
    score: np.ndarray
    scale: np.ndarray


# --- The model -------------------------------------------------------------------------------


def fit_model(frames: np.ndarray, order: int = ORDER) -> np.ndarray:
    """Fits AR models by the autocorrelation method.

    Args:
        frames: `(frames, samples)`.
        order: Of the models.

    Returns:
        `(frames, 1 + order)`, the filters that leave the prediction error; the first value is 1.
    """
    samples = frames.shape[-1]
    spectra = scipy.fft.rfft(frames * np.hanning(samples + 2)[1:-1],
                             scipy.fft.next_fast_len(samples + order, real=True))
    correlation = scipy.fft.irfft(np.abs(spectra) ** 2)[:, :1 + order]
    correlation[:, 0] *= 1.0 + 10.0 ** (FLOOR_DB / 10.0)
    # A frame of silence is predicted by nothing.
    silent = correlation[:, 0] <= np.finfo(np.float32).tiny
    correlation[silent] = np.eye(1, 1 + order)
    # Not Levinson's recursion: SciPy's takes one frame at a time, most of it in checks.
    distances = np.abs(np.subtract.outer(np.arange(order), np.arange(order)))
    models = np.linalg.solve(correlation[:, distances], -correlation[:, 1:, None])[..., 0]
    return np.pad(models, ((0, 0), (1, 0)), constant_values=1.0)


def measure_errors(audio: np.ndarray, modelled: np.ndarray) -> Errors:
    """Predicts `audio` with models of `modelled`, which is the same sound with fewer clicks."""
    count = -(-len(audio) // HOP)
    margin = (FRAME - HOP) // 2
    padded = np.pad(modelled, (margin, margin + count * HOP - len(audio)))
    frames = np.lib.stride_tricks.sliding_window_view(padded, FRAME)[::HOP]
    models = fit_model(frames)
    around = np.pad(audio, (ORDER, ORDER + count * HOP - len(audio)))
    forward, backward = np.zeros((2, count, HOP))
    for number, model in enumerate(models):
        start = number * HOP
        forward[number] = np.convolve(around[start : start + HOP + ORDER], model, "valid")
        backward[number] = np.correlate(
            around[start + ORDER : start + HOP + 2 * ORDER], model, "valid")
    scale = np.quantile(np.abs(forward), SCALE_QUANTILE, axis=1) / QUANTILE_OF_GAUSSIAN
    level = np.sqrt(np.mean(np.square(frames), axis=1))
    # The larger one of neighbours: where the sound changes, the doubt protects it.
    scale = np.maximum(scale, to_gain(LEAST_SCALE_DB) * level)
    scale = scipy.ndimage.maximum_filter1d(scale, 3)
    scale = np.repeat(scale, HOP)[:len(audio)]
    forward, backward = (error.reshape(-1)[:len(audio)] for error in (forward, backward))
    least = np.minimum(_largest_around(np.abs(forward)), _largest_around(np.abs(backward)))
    score = np.divide(least, scale, out=np.zeros_like(least), where=scale > 0.0)
    return Errors(forward, score, scale)


def _largest_around(magnitude: np.ndarray) -> np.ndarray:
    """Returns the largest of the `PEAK_SAMPLES` around each sample."""
    # A tenth of the time of scipy.ndimage.maximum_filter1d, for so few.
    padded = np.pad(magnitude, PEAK_SAMPLES // 2)
    largest = padded[:len(magnitude)].copy()
    for shift in range(1, PEAK_SAMPLES):
        np.maximum(largest, padded[shift:shift + len(magnitude)], out=largest)
    return largest


def interpolate(audio: np.ndarray, missing: np.ndarray, model: np.ndarray) -> np.ndarray:
    """Returns `audio` with the samples in its gaps that make the prediction error least.

    With the autocorrelation b of the model's filter these solve, for all missing samples i,
    sum over missing j of b(i - j) x(j) = - sum over known j of b(i - j) x(j).

    Args:
        audio: `(samples,)`; what it holds where samples are missing does not matter.
        missing: `(samples,)`, bool.
        model: `(1 + order,)`, of `fit_model`.
    """
    places = np.flatnonzero(missing)
    if not len(places):
        return audio.copy()
    order = len(model) - 1
    weights = np.correlate(model, model, "full")[order:]
    known = np.where(missing, 0.0, audio)
    symmetric = np.concatenate([weights[:0:-1], weights])
    driven = np.convolve(known, symmetric, "same")[places]
    # The lower bands of the equations' matrix: weights of the distances from each missing sample to
    # those that follow. Beyond the last one, as beyond the order, there is nothing.
    following = np.pad(places, (0, order), constant_values=places[-1] + order + 1)
    after = np.lib.stride_tricks.sliding_window_view(following, min(order, len(places) - 1) + 1)
    bands = np.append(weights, 0.0)[np.minimum(after[:len(places)].T - places, order + 1)]
    filled = known
    filled[places] = scipy.linalg.solveh_banded(bands, -driven, lower=True)
    return filled


def interpolation_variance(samples: int, model: np.ndarray) -> np.ndarray:
    """Returns the variance of the error of `interpolate` in one gap, `(samples,)`.

    It is relative to the variance of the prediction error: the diagonal of the inverse of the
    equations' matrix, from the inverse's first column by the formula of Gohberg and Semencul
    (1972).
    """
    weights = np.zeros(max(samples, len(model)))
    weights[:len(model)] = np.correlate(model, model, "full")[len(model) - 1:]
    column = scipy.linalg.solve_toeplitz(weights[:samples], np.eye(samples)[0])
    mirrored = np.concatenate([[0.0], column[:0:-1]])
    return np.cumsum(column**2 - mirrored**2) / column[0]


# --- Finding clicks --------------------------------------------------------------------------


def find_candidates(score: np.ndarray) -> list[slice]:
    """Returns the places that no prediction explains, clicks or not."""
    reached = np.flatnonzero(score > EDGE_RATIO)
    if not len(reached):
        return []
    first = np.flatnonzero(np.diff(reached, prepend=-JOIN_SAMPLES - 1) > JOIN_SAMPLES)
    last = np.append(first[1:], len(reached)) - 1
    peaks = np.maximum.reduceat(score[reached], first)
    return [slice(int(reached[start]), int(reached[stop]) + 1)
            for start, stop, peak in zip(first, last, peaks, strict=True) if peak > SEED_RATIO]


def _median(values: np.ndarray, start: float, stop: float) -> float:
    part = np.sort(values[max(0, round(start)):max(0, round(stop))])
    # A fifth of the time of np.median, for parts of a few hundred samples.
    return 0.5 * float(part[len(part) // 2] + part[(len(part) - 1) // 2]) if len(part) else 0.0


def _rings_on(place: slice, magnitude: np.ndarray) -> bool:
    """Whether `magnitude` rises for longer than a click lasts, or falls far, at a place."""
    rate = SAMPLE_RATE
    before = _median(magnitude, place.start - BEFORE_SECONDS[1] * rate,
                     place.start - BEFORE_SECONDS[0] * rate)
    near, far = (_median(magnitude, place.stop + span[0] * rate, place.stop + span[1] * rate)
                 for span in (NEAR_SECONDS, FAR_SECONDS))
    if max(near, far, before) < LEAST_RING * magnitude[place].max():
        return False
    return max(near, far) > LARGEST_RISE * before or before > LARGEST_FALL * far


def _is_pulse(place: slice, score: np.ndarray) -> bool:
    """Whether a place is one of a row of pulses that recur with a period."""
    middle = (place.start + place.stop) // 2
    around = score[max(0, middle - FRAME):middle + FRAME]
    peaks = np.sort(np.maximum.reduceat(around, np.arange(0, len(around), PULSE_SAMPLES)))
    # A fiftieth of the time of np.quantile.
    if score[place].max() > AROUND_PULSES * peaks[round(0.9 * (len(peaks) - 1))]:
        return False
    around = np.minimum(around, SEED_RATIO)
    around = around - around.mean()
    least, most = (round(seconds * SAMPLE_RATE) for seconds in PERIOD_SECONDS)
    power = np.abs(scipy.fft.rfft(around, scipy.fft.next_fast_len(len(around) + most, True))) ** 2
    correlation = scipy.fft.irfft(power)[:min(most, len(around))]
    return correlation[least:].max(initial=0.0) > PERIODIC * correlation[0]


# --- Removing them ---------------------------------------------------------------------------


def _bridge_roughly(audio: np.ndarray, places: list[slice]) -> np.ndarray:
    """Draws straight lines over the places, with room for their tails."""
    known = np.ones(len(audio), bool)
    for place in places:
        known[max(0, place.start - LEAD_SAMPLES):place.stop + LONGEST_SAMPLES // 4] = False
    if not known.any():
        return audio
    points = np.flatnonzero(known)
    return np.where(known, audio, np.interp(np.arange(len(audio)), points, audio[points]))


def _bridge(audio: np.ndarray, rough: np.ndarray, place: slice, doubtful: np.ndarray,
            scale: float) -> tuple[slice, np.ndarray] | None:
    """Returns the gap of a click and what belongs there, or None where that would not pay."""
    low, high = max(0, place.start - HOP), min(len(audio), place.stop + HOP)
    start = max(place.start - LEAD_SAMPLES - low, 0)
    stop = min(start + LONGEST_SAMPLES, high - low)
    heard, model = audio[low:high], fit_model(rough[None, low:high])[0]
    missing = doubtful[low:high].copy()
    missing[start:stop] = True
    difference = (heard - interpolate(heard, missing, model))[start:stop]
    usual = scale * np.sqrt(np.maximum(interpolation_variance(stop - start, model), 0.0))
    # A gap at the end of the audio may be shorter than the filter: np.convolve would lengthen it.
    level = np.sqrt(scipy.ndimage.convolve1d(
        difference**2, np.full(TAIL_SAMPLES, 1.0 / TAIL_SAMPLES), mode="constant"))
    over = np.flatnonzero(level[place.stop - low - start:] < TAIL_RATIO * usual[
        place.stop - low - start:])
    if not len(over):
        return None  # longer than a click
    stop = place.stop - low + int(over[0])
    missing[start:high - low] = doubtful[low + start:high]
    missing[start:stop] = True
    filled = interpolate(heard, missing, model)
    # Once more, with a model that knows the first bridge.
    filled = interpolate(heard, missing, fit_model(filled[None])[0])
    removed = np.sum(np.square((heard - filled)[start:stop]))
    expected = scale**2 * np.sum(interpolation_variance(stop - start, model))
    if removed < LEAST_GAIN * expected:
        return None
    return slice(low + start, low + stop), filled[start:stop]


def remove_clicks(audio: np.ndarray) -> np.ndarray:
    """Removes clicks of up to 4 ms.

    What is done at one place depends on a fifth of a second around it, and on where the multiples
    of `HOP` samples lie.

    Args:
        audio: `(samples,)` at 44.1 kHz, floating point.

    Returns:
        The same form and type; samples outside of clicks are those of `audio`.
    """
    if len(audio) <= 2 * ORDER:
        return audio.copy()
    sound = audio.astype(np.float64)
    first = find_candidates(measure_errors(sound, sound).score)
    if not first:
        return audio.copy()
    errors = measure_errors(sound, _bridge_roughly(sound, first))
    places = find_candidates(errors.score)
    if not places:
        return audio.copy()
    rough = _bridge_roughly(sound, places)
    doubtful = np.zeros(len(sound), bool)
    for place in places:
        doubtful[place] = True
    magnitude, level = np.abs(errors.forward), np.abs(rough)
    restored = sound.copy()
    starts = np.array([place.start for place in places])
    crowds = (np.searchsorted(starts, starts + CROWD_SAMPLES)
              - np.searchsorted(starts, starts - CROWD_SAMPLES))
    for place, crowd in zip(places, crowds, strict=True):
        if (crowd > MOST_IN_CROWD or place.stop - place.start > LONGEST_SAMPLES - LEAD_SAMPLES
                or _rings_on(place, magnitude) or _rings_on(place, level)
                or _is_pulse(place, errors.score)):
            continue
        bridge = _bridge(sound, rough, place, doubtful, errors.scale[place.start])
        if bridge is not None:
            gap, samples = bridge
            restored[gap] = samples
    return restored.astype(audio.dtype)
