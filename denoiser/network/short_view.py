"""A second view of a spectrogram in windows an eighth as long, in which clicks are short.

Each frame of the long transform holds `STEPS` short frames around its middle. They follow one
another at an eighth of the long hop, over the frames' borders too, so all short frames together
are a spectrogram of the whole waveform. Folded into channels they have the same frames and, an
eighth of the bins, the same folded bins as the long ones: a network sees and answers in both.

Spectrograms are `(batch, frames, bins, parts)`, real and imaginary parts alternating. Everything
is Keras 3 and runs on each of its backends.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops

from denoiser.audio import dsp
from denoiser.network.tensor_ops import fold_regions, overlap_add, slice_axis

Tensor = Any  # a tensor of whichever backend Keras runs on

STEPS = 8  # short frames in a long one's hop, and long bins in a short one's
HOPS = 4  # of the long hop in the long window


def analyse(spectrogram: Tensor, win_size: int) -> Tensor:
    """Returns the short frames in each long one.

    Args:
        spectrogram: `(batch, frames, win_size / 2 + 1, 2)` of windows with a hop of a quarter.
        win_size: Of the long windows.

    Returns:
        `(batch, frames, win_size / 16 + 1, 2 * STEPS)`.
    """
    short, hop = win_size // STEPS, win_size // HOPS // STEPS
    first, length = _middle(win_size)
    frames = ops.shape(spectrogram)[1]
    waves = ops.irfft((spectrogram[..., 0], spectrogram[..., 1]), win_size)
    window = dsp.hamming(win_size)[first:first + length]
    waves = slice_axis(waves, 2, first, first + length) / ops.convert_to_tensor(window)
    pieces = ops.stack([slice_axis(waves, 2, step * hop, step * hop + short)
                        for step in range(STEPS)], axis=2)
    spectrum = ops.stack(ops.rfft(pieces * ops.convert_to_tensor(dsp.hamming(short))), axis=-1)
    spectrum = ops.transpose(spectrum, (0, 1, 3, 2, 4))
    return ops.reshape(spectrum, (-1, frames, short // 2 + 1, 2 * STEPS))


def synthesise(spectrum: Tensor, win_size: int) -> Tensor:
    """Returns the long spectrogram of the waveform that short frames add up to.

    Least-squares overlap-add, as `dsp.istft`; before the first and after the last short frame the
    waveform is zero. It is `analyse` undone but for these ends.
    """
    short, hop = win_size // STEPS, win_size // HOPS // STEPS
    first, _ = _middle(win_size)
    _, frames, bins, _ = ops.shape(spectrum)
    pairs = ops.reshape(spectrum, (-1, frames, bins, STEPS, 2))
    pairs = ops.reshape(ops.transpose(pairs, (0, 1, 3, 2, 4)), (-1, frames * STEPS, bins, 2))
    window = dsp.hamming(short)
    gain = window / np.sum(window[::hop] ** 2)  # the sum over a sample's frames is the same for all
    pieces = ops.irfft((pairs[..., 0], pairs[..., 1]), short) * ops.convert_to_tensor(gain)
    waveform = overlap_add(pieces[..., None], hop)
    # From here on in blocks of a long hop, of which HOPS make a long window.
    block = win_size // HOPS
    last = HOPS * block - first - (short - hop)
    waveform = ops.pad(waveform, ((0, 0), (first, last - block), (0, 0)))
    blocks = ops.reshape(waveform, (-1, frames + HOPS - 1, block))
    windows = ops.concatenate([slice_axis(blocks, 1, step, step + frames)
                               for step in range(HOPS)], axis=2)
    return ops.stack(ops.rfft(windows * ops.convert_to_tensor(dsp.hamming(win_size))), axis=-1)


def _middle(win_size: int) -> tuple[int, int]:
    """Returns the first sample and the length of what the short frames of a long one cover."""
    hop = win_size // HOPS // STEPS
    length = win_size // STEPS + (STEPS - 1) * hop
    return (win_size - length) // 2, length


def spread(short: Tensor, bins: Any, count: int, start: int) -> Tensor:
    """Repeats short bins so that there is one for each folded long bin, as of `fold_bins`."""
    pieces = []
    for first, end, folds in fold_regions(bins, count, start):
        piece = slice_axis(short, 2, first // count, end // count)
        pieces.append(ops.repeat(piece, count // folds, axis=2) if folds < count else piece)
    return ops.concatenate(pieces, axis=2)


def gather(folded: Tensor, bins: Any, count: int, start: int) -> Tensor:
    """Averages over the folded long bins that `spread` makes from one short bin."""
    pieces, position = [], 0
    _, frames, _, channels = ops.shape(folded)
    for first, end, folds in fold_regions(bins, count, start):
        stop, times = position + (end - first) // folds, count // folds
        piece = slice_axis(folded, 2, position, stop)
        if times > 1:
            shape = (-1, frames, (stop - position) // times, times, channels)
            piece = ops.mean(ops.reshape(piece, shape), axis=3)
        pieces.append(piece)
        position = stop
    return ops.concatenate(pieces, axis=2)
