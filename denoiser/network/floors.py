"""What steady noise gives away: each bin's noise floor, and the tones that neither move nor end.

Sources:
    R. Martin, "Noise power spectral density estimation based on optimal smoothing and minimum
        statistics", IEEE Trans. Speech and Audio Processing 9(5), 2001: the minimum.
    B. Widrow et al., "Adaptive noise cancelling: principles and applications", Proc. IEEE 63(12),
        1975: subtracting what a periodic interference is known to be.

Spectrograms are `(batch, frames, bins, 2)`, real and imaginary part. Everything is Keras 3 and
runs on every backend of it; no gradient flows through.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from denoiser.network.tensor_ops import POWER_FLOOR, mirrored_places, overlap_add, slice_axis

Tensor = Any  # a tensor of whichever backend Keras runs on

FLOOR_REACHES = (1, 3, 9, 27, 81)  # frames; minima of three add up to one over 243 (2.8 s)
SMOOTHING_REACHES = (1, 3)  # likewise, of the means before it: a window of 9 frames
TONE_FRAMES = 32  # a second transform, over frames: with a hop of 512, tones 2.7 Hz apart
TONE_HOP = 4  # frames from one of its windows to the next
TONE_FLOOR_REACHES = (1, 3, 9, 27)  # windows; minima over 81 of them (3.8 s)
TONE_SMOOTHING_REACHES = (1,)
TONE_BIAS = 2.0  # the minimum of what hardly changes lies below its mean
LEAST_OVERLAP = 0.1  # of the full overlap of windows: at the very ends tones fade


def magnitude_and_floor(spectrogram: Tensor, exponent: float) -> Tensor:
    """Returns each bin's magnitude and its noise floor: what steady noise never falls below.

    Real and imaginary parts turn from frame to frame, so that a convolution hardly sees that a
    tone is steady. The floor is the smallest smoothed magnitude within 1.4 s on both sides.

    Args:
        spectrogram: `(batch, frames, bins, 2)`.
        exponent: Magnitudes are raised to it.

    Returns:
        `(batch, frames, bins, 2)`.
    """
    spectrum = ops.cast(ops.stop_gradient(spectrogram), "float32")
    power = ops.sum(ops.square(spectrum), axis=-1, keepdims=True)
    magnitude = ops.power(power + POWER_FLOOR, exponent / 2.0)
    floor = _find_floor(magnitude, SMOOTHING_REACHES, FLOOR_REACHES)
    return ops.cast(ops.concatenate([magnitude, floor], axis=-1), spectrogram.dtype)


def steady_tones(spectrogram: Tensor, bins: int) -> Tensor:
    """Returns the part of the lowest bins that consists of tones which go on: hum, buzz, whine.

    A second transform, along the frames of each bin, tells tones 2.7 Hz apart, where neighbours
    within 86 Hz share a bin: a bass note beside a hum is another tone. Of each tone no more is
    taken than twice its floor within 1.9 s on both sides. A note that is held for longer is taken
    as well; to tell it from hum is left to the network.

    Args:
        spectrogram: `(batch, frames, any number of bins, 2)`.
        bins: How many of the lowest bins are looked at, at most all.

    Returns:
        `(batch, frames, bins, 2)`. Subtracted from the spectrogram it leaves what is not steady.
    """
    frames = ops.shape(spectrogram)[1]
    spectrum = ops.cast(ops.stop_gradient(spectrogram), "float32")
    transform = _fourier_matrix()
    rows = _cut_windows(slice_axis(spectrum, 2, 0, bins))
    rows = ops.matmul(rows, ops.convert_to_tensor(transform))
    shape = ops.shape(rows)
    tones = ops.reshape(rows, (*shape[:-1], TONE_FRAMES, 2))
    magnitude = ops.sqrt(ops.sum(ops.square(tones), axis=-1, keepdims=True) + POWER_FLOOR)
    floor = _find_floor(magnitude, TONE_SMOOTHING_REACHES, TONE_FLOOR_REACHES)
    tones = tones * ops.minimum(TONE_BIAS * floor / magnitude, 1.0)
    back = ops.convert_to_tensor(np.ascontiguousarray(transform.T))
    rows = ops.matmul(ops.reshape(tones, shape), back)
    return ops.cast(_join_windows(rows, frames), spectrogram.dtype)


def _cut_windows(spectrum: Tensor) -> Tensor:
    """Returns rows of frames that overlap, real and imaginary parts in turn.

    Args:
        spectrum: `(batch, frames, bins, 2)`.

    Returns:
        `(batch, windows, bins, 2 * TONE_FRAMES)`; zeros fill up the last window.
    """
    _, frames, bins, _ = ops.shape(spectrum)
    windows = _count_windows(frames)
    # More zeros than are ever needed, so that their number need not be known while tracing.
    spectrum = ops.pad(spectrum, ((0, 0), (0, TONE_FRAMES), (0, 0), (0, 0)))
    starts = TONE_HOP * ops.arange(windows, dtype="int32")
    places = ops.reshape(starts[:, None] + np.arange(TONE_FRAMES, dtype="int32"), (-1,))
    pieces = ops.reshape(ops.take(spectrum, places, axis=1), (-1, windows, TONE_FRAMES, bins, 2))
    return ops.reshape(ops.transpose(pieces, (0, 1, 3, 2, 4)),
                       (-1, windows, bins, 2 * TONE_FRAMES))


def _join_windows(rows: Tensor, frames: Any) -> Tensor:
    """Adds windowed rows where they overlap and divides by the sum of the squared windows.

    Args:
        rows: As from `_cut_windows`.
        frames: How many there were.

    Returns:
        `(batch, frames, bins, 2)`.
    """
    _, windows, bins, _ = ops.shape(rows)
    pieces = ops.reshape(rows, (-1, windows, bins, TONE_FRAMES, 2))
    pieces = ops.reshape(ops.transpose(pieces, (0, 1, 3, 2, 4)),
                         (-1, windows, TONE_FRAMES, 2 * bins))
    squares = ops.convert_to_tensor(_tone_window() ** 2)[None, None, :, None]
    weights = overlap_add(ops.tile(squares, (1, windows, 1, 1)), TONE_HOP)
    weights = ops.maximum(weights, LEAST_OVERLAP * ops.max(weights))
    spectrum = slice_axis(overlap_add(pieces, TONE_HOP) / weights, 1, 0, frames)
    return ops.reshape(spectrum, (-1, frames, bins, 2))


def _count_windows(frames: Any) -> Any:
    """Returns how many windows cover all frames; `frames` may be a tensor."""
    beyond = frames - TONE_FRAMES
    most = max if isinstance(frames, int) else ops.maximum
    return -(-most(beyond, 0) // TONE_HOP) + 1


def _tone_window() -> np.ndarray:
    """The Hann window, none of whose samples is zero."""
    places = (np.arange(TONE_FRAMES) + 0.5) / TONE_FRAMES
    return (np.sin(np.pi * places) ** 2).astype(np.float32)


def _fourier_matrix() -> np.ndarray:
    """Returns the matrix that windows and transforms rows of real and imaginary parts in turn.

    It is unitary but for the window: its transpose transforms back and windows again.
    """
    window = _tone_window() / np.sqrt(TONE_FRAMES)
    turns = np.outer(np.arange(TONE_FRAMES), np.arange(TONE_FRAMES)) % TONE_FRAMES
    angle = 2.0 * np.pi / TONE_FRAMES * turns
    cosine, sine = window[:, None] * np.cos(angle), window[:, None] * np.sin(angle)
    # A row (real, imaginary) times this is (real cos + imaginary sin, imaginary cos - real sin).
    matrix = np.stack([np.stack([cosine, -sine], -1), np.stack([sine, cosine], -1)], axis=1)
    return matrix.reshape(2 * TONE_FRAMES, 2 * TONE_FRAMES).astype(np.float32)


def _find_floor(magnitude: Tensor, smoothing_reaches: Sequence[int],
                floor_reaches: Sequence[int]) -> Tensor:
    """Returns the running minimum of the running mean of `magnitude` along its second axis."""
    reach = sum(floor_reaches) + sum(smoothing_reaches)
    floor = ops.take(magnitude, mirrored_places(ops.shape(magnitude)[1], reach, reach), axis=1)
    for step in smoothing_reaches:
        before, here, after = _neighbours(floor, step)
        floor = (before + here + after) / 3.0
    for step in floor_reaches:
        before, here, after = _neighbours(floor, step)
        floor = ops.minimum(ops.minimum(before, after), here)
    return floor


def _neighbours(inputs: Tensor, step: int) -> list[Tensor]:
    """Returns the frames `step` before, at and after each frame that has both."""
    kept = ops.shape(inputs)[1] - 2 * step
    return [slice_axis(inputs, 1, start, start + kept) for start in (0, step, 2 * step)]
