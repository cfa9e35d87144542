"""Finds the level at which a recording was clipped, and restores the clipped samples.

They are restored by A-SPADE (Kitić, Bertin and Gribonval 2015; Záviška, Rajmic, Průša and Veselý
2018): it searches the sparsest spectra that agree with the reliable samples and lie beyond the
clipping level where the recording was clipped. Start reading at `find_level` and `declip`.
"""

import numpy as np
import scipy

from historical_denoiser.audio import dsp
from historical_denoiser.audio.silence import find_runs

# Relative widths of the steps of level in which the clipping level is searched. A level is one at
# `MIN_RATIO` times as many samples as at the levels below, and few samples above.
WIDTHS = (1e-4, 1e-3, 1e-2)
LOWEST, MIN_RATIO, MAX_ABOVE = 0.1, 20.0, 0.1
MIN_CLIPPED, MIN_RUNS, RUN = 30, 3, 3  # samples, runs, and the length of most runs
MAX_SHARE = 0.95  # of loud samples of a polarity that may be clipped; more is a square wave
FRAME_SECONDS, HOPS = 0.093, 4  # of the transform, as a power of 2
TOLERANCE = 0.03  # of the sparse spectra, relative to the frame
STEP, GROWTH = 4, 16  # in each step, the spectra get a sixteenth more coefficients, at least four
BATCH = 64  # frames processed in one step


def find_level(sound: np.ndarray, step: float) -> float | None:
    """Returns the level from which on the samples `(samples,)` are clipped; None if none are.

    Where peaks are clipped, many samples have one level, and hardly any lie above it.

    Args:
        sound: `(samples,)`; its upper polarity is searched.
        step: The smallest difference of adjacent samples.
    """
    peak = float(sound.max())
    loud = sound[sound > LOWEST * peak] if peak > 0.0 else sound[:0]
    depth = -np.log(loud / peak) if len(loud) else loud
    for width in WIDTHS:
        counts = np.bincount((depth / width).astype(np.int64), minlength=16).astype(np.float64)
        sums = np.concatenate([[0.0], np.cumsum(counts)])
        # A level may lie on the border of two cells; ten are compared, two cells below these.
        places = np.arange(len(counts) - 14)
        at, above = sums[places + 2] - sums[places], sums[places]
        below = 0.2 * (sums[places + 14] - sums[places + 4])
        fits = (at >= MIN_CLIPPED) & (at > MIN_RATIO * below) & (above <= MAX_ABOVE * at) & (
            peak * np.exp(-(places + 2) * width) * width > 2.0 * step)
        if not fits.any():
            continue
        best = int(np.argmax(np.where(fits, at, 0.0)))
        clipped = sound > peak * np.exp(-(best + 2) * width)
        lengths = np.diff(find_runs(clipped))[:, 0]
        if (len(lengths) >= MIN_RUNS and clipped.sum() < MAX_SHARE * len(loud)
                and lengths[lengths >= RUN].sum() > 0.5 * lengths.sum()):
            return float(sound[clipped].min())
    return None


def declip(sound: np.ndarray, low: float, high: float, origin: int, sample_rate: int) -> np.ndarray:
    """Returns the sound with the samples outside of (low, high) restored; they stay outside.

    Args:
        sound: `(samples,)`.
        low, high: Clipping levels.
        origin: Place of the first sample in the recording, from which the frames are counted.
        sample_rate: Sample rate in Hz.
    """
    size = 2 ** max(4, round(np.log2(FRAME_SECONDS * sample_rate)))
    hop = size // HOPS
    lead = size + origin % hop
    padded = np.pad(sound, (lead, 2 * size - (lead + len(sound)) % hop))
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop]
    window = scipy.signal.get_window("hann", size)
    damaged = np.flatnonzero(((frames >= high) | (frames <= low)).any(axis=1))
    restored = frames * window
    for first in range(0, len(damaged), BATCH):
        chosen = damaged[first:first + BATCH]
        frame = restored[chosen]
        restored[chosen] = make_sparse(frame, np.where(frames[chosen] <= low, -np.inf, frame),
                                       np.where(frames[chosen] >= high, np.inf, frame))
    # Windows of Hann overlapping by three quarters sum to 1.5 when squared.
    joined = dsp.overlap_add(restored * window, hop)[lead:lead + len(sound)] / 1.5
    out = np.where(sound >= high, np.maximum(joined, sound), sound)
    return np.where(sound <= low, np.minimum(joined, sound), out)


def make_sparse(frames: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Returns frames between bounds whose spectra are sparse, by A-SPADE.

    Args:
        frames: Windowed, `(frames, samples)`.
        low, high: Bounds of each sample; equal for reliable ones.
    """
    size = 2 * frames.shape[1]  # the transform is a tight frame, of redundancy 2
    bins = size // 2 + 1
    result, active = frames.copy(), np.arange(len(frames))
    sound, low, high = (values.astype(np.float32) for values in (frames, low, high))
    limits = TOLERANCE * np.linalg.norm(sound, axis=1)
    spectra = scipy.fft.rfft(sound, size, norm="ortho")
    dual, kept = np.zeros_like(spectra), STEP
    while len(active):
        sparse = spectra + dual
        power = dsp.power_of_bins(sparse.view(np.float32).reshape(*sparse.shape, 2))
        least = np.partition(power, bins - kept, axis=1)[:, bins - kept, None]
        sparse *= power >= least
        sound = np.clip(scipy.fft.irfft(sparse - dual, size, norm="ortho")[:, :frames.shape[1]],
                        low, high)
        spectra = scipy.fft.rfft(sound, size, norm="ortho")
        rest = spectra - sparse
        is_open = np.sqrt(2.0) * np.linalg.norm(rest, axis=1) > limits
        if kept == bins:
            is_open[:] = False
        dual += rest
        if not is_open.all():
            result[active[~is_open]] = sound[~is_open]
            active, spectra, dual, low, high, limits = (
                values[is_open] for values in (active, spectra, dual, low, high, limits))
        kept = min(bins, kept + max(STEP, kept // GROWTH))
    return result
