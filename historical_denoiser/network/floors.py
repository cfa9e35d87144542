"""The noise floor of each bin, and the steady tones (hum, buzz, whine) in a spectrogram.

Sources:
    R. Martin, "Noise power spectral density estimation based on optimal smoothing and minimum
    statistics", IEEE Trans. Speech and Audio Processing 9(5), 2001: the noise floor as a running
    minimum of smoothed magnitudes.
    B. Widrow et al., "Adaptive noise cancelling: principles and applications", Proc. IEEE 63(12),
    1975: subtracting a periodic interference.

Spectrograms are `(batch, frames, bins, 2)`, real and imaginary part. Everything is Keras 3 and runs
on each of its backends; no gradient flows through. Start reading at `steady_tones`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from historical_denoiser.network import tensor_ops
from historical_denoiser.network.tensor_ops import POWER_FLOOR, Tensor, power_of_pairs, slice_axis

# A running minimum over 3^n samples is computed as n running minima over three samples that are 1,
# 3, 9, ... samples apart; a running mean likewise. Durations hold for a hop of 512 samples at 44.1
# kHz.
FLOOR_STEPS = (1, 3, 9, 27, 81)  # a minimum over 243 frames (2.8 s)
SMOOTHING_STEPS = (1, 3)  # before it, a weighted mean over 9 frames
# Length and hop, in frames, of a second transform along the frames; its resolution is 2.7 Hz.
TONE_FRAMES = 32
TONE_HOP = 4
TONE_FLOOR_STEPS = (1, 3, 9, 27)  # a minimum over 81 windows (3.8 s)
TONE_SMOOTHING_STEPS = (1,)
TONE_BIAS = 2.0  # factor of the minimum, which even for a steady tone lies below its mean
# The sum of the windows is taken to be at least this share of its full value, so that the first and
# last frames are not amplified too much.
MIN_OVERLAP = 0.1


def magnitude_and_floor(spectrogram: Tensor, exponent: float) -> Tensor:
    """Returns the magnitude and the noise floor of each bin, `(batch, frames, bins, 2)`.

    The floor is the smallest smoothed magnitude within 1.4 s before and after each frame.

    Args:
        spectrogram: `(batch, frames, bins, 2)`.
        exponent: Exponent of the magnitudes.
    """
    spectrum = ops.cast(ops.stop_gradient(spectrogram), "float32")
    magnitude = tensor_ops.raise_to(power_of_pairs(spectrum) + POWER_FLOOR, exponent / 2.0)
    floor = _find_floor(magnitude, SMOOTHING_STEPS, FLOOR_STEPS)
    return ops.cast(tensor_ops.join_parts(magnitude, floor), spectrogram.dtype)


def steady_tones(spectrogram: Tensor, bins: int) -> Tensor:
    """Returns the steady tones in the lowest bins: hum, buzz, whine.

    A second Fourier transform, along the frames of each bin, separates tones that are 2.7 Hz apart;
    within one bin, tones up to 86 Hz apart overlap, such as hum and a bass note. The magnitude of
    each tone is limited to twice its noise floor, the smallest smoothed magnitude within 1.9 s
    before and after. Notes that are held for longer are returned as well; the network has to
    distinguish them from hum.

    Args:
        spectrogram: `(batch, frames, all bins, at least 2)`; only the first two channels are used.
        bins: Number of lowest bins that are searched.

    Returns:
        `(batch, frames, all bins, 2)`, zero above the lowest `bins`.
    """
    _, frames, all_bins, _ = ops.shape(spectrogram)
    spectrogram = slice_axis(spectrogram, 3, 0, 2)
    above = slice_axis(spectrogram, 2, bins, all_bins)
    spectrum = ops.cast(ops.stop_gradient(spectrogram), "float32")
    transform = _fourier_matrix()
    rows = _cut_windows(slice_axis(spectrum, 2, 0, bins))
    rows = ops.matmul(rows, ops.convert_to_tensor(transform))
    magnitude = ops.sqrt(power_of_pairs(rows) + POWER_FLOOR)
    floor = _find_floor(magnitude, TONE_SMOOTHING_STEPS, TONE_FLOOR_STEPS)
    tones = tensor_ops.scale_pairs(rows, ops.minimum(TONE_BIAS * floor / magnitude, 1.0))
    back = ops.convert_to_tensor(np.ascontiguousarray(transform.T))
    rows = ops.matmul(tones, back)
    tones = ops.cast(_join_windows(rows, frames), spectrogram.dtype)
    return ops.concatenate([tones, ops.zeros_like(above)], axis=2)


def _cut_windows(spectrum: Tensor) -> Tensor:
    """Cuts `(batch, frames, bins, 2)` into windows `(batch, windows, bins, 2 * TONE_FRAMES)`.

    Windows overlap, and the last one is padded with zeros. Real and imaginary parts alternate.
    """
    _, frames, bins, _ = ops.shape(spectrum)
    beyond = frames - TONE_FRAMES
    beyond = max(beyond, 0) if isinstance(frames, int) else ops.maximum(beyond, 0)
    # Negative numbers are not divided, because runtimes of exported networks round them towards
    # zero.
    windows = (beyond + TONE_HOP - 1) // TONE_HOP + 1
    # There are more zeros than needed, because the number needed may be unknown while tracing.
    spectrum = ops.pad(spectrum, ((0, 0), (0, TONE_FRAMES), (0, 0), (0, 0)))
    starts = TONE_HOP * ops.arange(windows, dtype="int32")
    indices = ops.reshape(ops.expand_dims(starts, 1) + np.arange(TONE_FRAMES, dtype="int32"), (-1,))
    pieces = ops.reshape(ops.take(spectrum, indices, axis=1), (-1, windows, TONE_FRAMES, bins, 2))
    return ops.reshape(ops.transpose(pieces, (0, 1, 3, 2, 4)), (-1, windows, bins, 2 * TONE_FRAMES))


def _join_windows(rows: Tensor, frames: Any) -> Tensor:
    """Inverts `_cut_windows` by overlap-add, divided by the sum of the squared windows."""
    _, windows, bins, _ = ops.shape(rows)
    pieces = ops.reshape(rows, (-1, windows, bins, TONE_FRAMES, 2))
    pieces = ops.reshape(ops.transpose(pieces, (0, 1, 3, 2, 4)),
                         (-1, windows, TONE_FRAMES, 2 * bins))
    squares = ops.convert_to_tensor(_tone_window() ** 2)[None, None, :, None]
    weights = tensor_ops.overlap_add(ops.tile(squares, (1, windows, 1, 1)), TONE_HOP)
    weights = ops.maximum(weights, MIN_OVERLAP * ops.max(weights))
    spectrum = slice_axis(tensor_ops.overlap_add(pieces, TONE_HOP) / weights, 1, 0, frames)
    return ops.reshape(spectrum, (-1, frames, bins, 2))


def _tone_window() -> np.ndarray:
    """Returns a Hann window without zeros at its ends."""
    return (np.sin(np.pi * (np.arange(TONE_FRAMES) + 0.5) / TONE_FRAMES) ** 2).astype(np.float32)


def _fourier_matrix() -> np.ndarray:
    """Returns the matrix that windows and Fourier-transforms rows of alternating parts.

    Without the window it would be unitary: its transpose is the inverse transform, windowed again.
    """
    window = _tone_window() / np.sqrt(TONE_FRAMES)
    frames = np.arange(TONE_FRAMES)
    angle = 2.0 * np.pi / TONE_FRAMES * (np.outer(frames, frames) % TONE_FRAMES)
    cosine, sine = window[:, None] * np.cos(angle), window[:, None] * np.sin(angle)
    # The product with (real, imaginary) is (real cos + imaginary sin, imaginary cos - real sin).
    matrix = np.stack([np.stack([cosine, -sine], -1), np.stack([sine, cosine], -1)], axis=1)
    return matrix.reshape(2 * TONE_FRAMES, 2 * TONE_FRAMES).astype(np.float32)


def _find_floor(magnitude: Tensor, smoothing_steps: Sequence[int],
                floor_steps: Sequence[int]) -> Tensor:
    """Returns the running minimum of the running mean of `magnitude` along its second axis."""
    reach = sum(floor_steps) + sum(smoothing_steps)
    places = tensor_ops.mirrored_indices(ops.shape(magnitude)[1], reach, reach)
    floor = ops.take(magnitude, places, axis=1)
    for step in smoothing_steps:
        before, here, after = _neighbours(floor, step)
        floor = (before + here + after) / 3.0
    for step in floor_steps:
        before, here, after = _neighbours(floor, step)
        floor = ops.minimum(ops.minimum(before, after), here)
    return floor


def _neighbours(inputs: Tensor, step: int) -> list[Tensor]:
    """Returns the samples of the second axis that are `step` before, at and `step` after each
    sample.

    Samples at the ends that lack a neighbour are left out.
    """
    kept = ops.shape(inputs)[1] - 2 * step
    return [slice_axis(inputs, 1, start, start + kept) for start in (0, step, 2 * step)]
