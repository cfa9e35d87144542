"""Finds short gaps and dropouts, and fills them.

Gaps are filled from both sides with autoregressive models of high order (Janssen, Veldhuis and
Vries 1986), fitted by Burg's method. Start reading at `find_gaps` and `fill_gap`.
"""

import numpy as np
import scipy

from historical_denoiser.audio.silence import find_runs

# A gap has at least `MIN_GAP_SECONDS`. Up to the second length it is filled, up to the third named.
MIN_GAP_SECONDS, MAX_GAP_SECONDS, LONGEST_SECONDS = 0.001, 0.05, 0.5
MIN_FRAME = 4  # samples; the level of fewer falls by 30 dB by chance in noise
# The sound next to a gap: over the first length it is compared with that over the second.
EDGE_SECONDS, AROUND_SECONDS = 0.002, 0.02
MAX_FADE = 0.1  # a sound that has fallen below this share of its level fades: a pause begins
STEPS = 8.0  # least change from sample to sample around constant ones, in steps of the format
DROP, MAX_DIFFERENCE = 10.0 ** (-30.0 / 20.0), 4.0  # amplitude in a dropout; that of both sides
# Gaps are only searched in sound above -80 dBFS, and dropouts above -60 dBFS.
QUIET, AUDIBLE = 1e-4, 1e-3
MODEL_SECONDS, ORDER_SECONDS = 0.19, 1000 / 44100  # the sound to which a model is fitted; its order


def find_gaps(sound: np.ndarray, steps: np.ndarray, step: float, sample_rate: int,
              ) -> list[tuple[int, int]]:
    """Returns the first sample of each gap, and the one after its last, in rising order.

    A gap is a run of constant samples or of a level 30 dB below that of both sides, with sound that
    neither fades before it nor begins softly after it.

    Args:
        sound: `(samples,)`.
        steps: Magnitudes of the differences of adjacent samples.
        step: The smallest difference above 0.
        sample_rate: Sample rate in Hz.
    """
    edge, around = (round(seconds * sample_rate) for seconds in (EDGE_SECONDS, AROUND_SECONDS))
    least, longest = MIN_GAP_SECONDS * sample_rate, LONGEST_SECONDS * sample_rate
    held = find_runs(steps == 0.0)
    held = held[(np.diff(held)[:, 0] + 1 >= least) & (np.diff(held)[:, 0] < longest)]
    gaps = []
    for start, last in held:
        before, after = sound[max(0, start - around):start], sound[last + 1:last + 1 + around]
        if min(len(before), len(after)) < around:
            continue
        nearby, levels = np.concatenate([before, after]), (before.std(), after.std())
        changes = np.abs(np.diff(before)).mean(), np.abs(np.diff(after)).mean()
        if (min(changes) >= STEPS * step and min(levels) > max(QUIET, DROP * max(levels))
                and nearby.min() < sound[start] < nearby.max()  # a clipped peak is an extreme
                and before[-edge:].std() > MAX_FADE * levels[0]
                and after[:edge].std() > MAX_FADE * levels[1]):
            gaps.append((int(start), int(last) + 1))
    held_places = np.zeros(len(sound), bool)
    for start, stop in gaps:
        held_places[start:stop] = True
    gaps += [gap for gap in _find_dropouts(sound, sample_rate)
             if not held_places[gap[0]:gap[1]].any()]
    return sorted(gaps)


def _find_dropouts(sound: np.ndarray, sample_rate: int) -> list[tuple[int, int]]:
    """Returns where the level falls by 30 dB within 2 ms, and returns as fast within 50 ms."""
    frame = max(MIN_FRAME, round(MIN_GAP_SECONDS * sample_rate))
    level = np.sqrt(np.mean(np.square(
        sound[:len(sound) // frame * frame].reshape(-1, frame)), axis=1))
    if len(level) < 12:
        return []
    near = scipy.ndimage.uniform_filter1d(level, 4)  # of the frames k - 2 to k + 1
    gaps, done = [], 0
    falls = np.flatnonzero((level[6:] < DROP * near[3:-3]) & (near[3:-3] > AUDIBLE)) + 6
    for first in map(int, falls):
        if first < done:
            continue
        before = near[first - 3]  # of four frames; the one between may be cut in two
        over = np.flatnonzero(level[first:first + 60] > DROP * before)
        stop = first + int(over[0]) if len(over) else len(level)
        done = stop + 1
        if stop + 5 > len(level) or stop - first < 2:
            continue
        after = level[stop + 1:stop + 5].mean()
        if not 1.0 / MAX_DIFFERENCE < after / before < MAX_DIFFERENCE:
            continue
        # Where a slow wave crosses zero, the sample-to-sample differences do not fall.
        inside, *sides = (np.diff(sound[low * frame:high * frame]).std() for low, high in (
            (first, stop), (first - 5, first - 1), (stop + 1, stop + 5)))
        if inside > DROP * min(sides):
            continue
        if (stop - first + 2) * frame <= MAX_GAP_SECONDS * sample_rate:
            gaps.append(((first - 1) * frame, (stop + 1) * frame))
    return gaps


def fit_burg(sound: np.ndarray, order: int) -> tuple[np.ndarray, float]:
    """Returns the prediction error filter `(1 + order,)` by Burg's method, and the error's power.

    Unlike the autocorrelation method it needs no window, and keeps tones sharp.
    """
    forward, backward = sound.copy(), sound.copy()
    model, power = np.eye(1, 1 + order)[0], float(np.mean(np.square(sound)))
    for number in range(order):
        ahead, behind = forward[1:], backward[:-1]
        total = ahead @ ahead + behind @ behind
        if total <= np.finfo(np.float64).tiny:
            break
        reflection = -2.0 * (ahead @ behind) / total
        forward, backward = ahead + reflection * behind, behind + reflection * ahead
        model[1:number + 2] += reflection * model[number::-1]
        power *= 1.0 - reflection**2
    return model, power


def fill_gap(sound: np.ndarray, start: int, stop: int, following: int, sample_rate: int,
             longest: float = MAX_GAP_SECONDS) -> bool:
    """Fills a gap in place so that the prediction errors of both sides' models are least.

    The missing samples solve a Toeplitz system, as in `clicks.interpolate`.

    Args:
        sound: `(samples,)`.
        start, stop: First sample of the gap, and the one after its last.
        following: Start of the next gap.
        sample_rate: Sample rate in Hz.
        longest: Longest gap to fill, in seconds.

    Returns:
        Whether it is at most `longest`, with enough sound around.
    """
    missing, reach = stop - start, round(MODEL_SECONDS * sample_rate)
    sides = sound[max(0, start - reach):start], sound[stop:min(stop + reach, following)]
    order = min(max(round(ORDER_SECONDS * sample_rate), missing // 4), min(map(len, sides)) // 2)
    if missing > longest * sample_rate or order < missing // 4 or order < 1:
        return False
    equations, driven = np.zeros(max(missing, order + 1)), np.zeros(missing)
    known = sound[start - order:stop + order].copy()
    known[order:order + missing] = 0.0
    for side in sides:
        model, power = fit_burg(side, order)
        weights = np.correlate(model, model, "full") / max(power, np.finfo(np.float64).tiny)
        equations[:order + 1] += weights[order:]
        driven += scipy.signal.fftconvolve(known, weights, "valid")
    sound[start:stop] = scipy.linalg.solve_toeplitz(equations[:missing], -driven)
    return True
