"""Additional views of a spectrogram: in shorter windows, which resolve clicks, and in longer ones.

A view has the same frames as the spectrogram it is made from, and holds its content in channels, so
that a network can take and return several views at once. The network's output in a view is
transformed back and added to its output for the spectrogram itself.

- The short view: each frame holds `STEPS` short frames around its middle. The distance between
  short frames is an eighth of the hop, also across the borders of frames, so that together they
  form a spectrogram of the whole waveform with an eighth of the bins.
- The long view: each frame holds the lowest bins of a frame with the same middle and a window
  `STRETCH` times as long. It distinguishes a held note from rumble or a narrow band of hiss.

Spectrograms are `(batch, frames, bins, parts)` with alternating real and imaginary parts; the hop
is a quarter of the window. Everything is Keras 3 and runs on each of its backends. Start reading at
`ShortView`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops

from historical_denoiser.audio import dsp
from historical_denoiser.network.fourier import irfft, rfft
from historical_denoiser.network.tensor_ops import fold_regions, overlap_add, slice_axis

Tensor = Any  # a tensor of any Keras backend

HOPS = 4  # hops in a window
STEPS = 8  # short frames in a hop, and bins in a short bin
STRETCH = 4  # windows in a long window, and long bins in a bin
# The sum of the windows is taken to be at least this share of its full value, so that the first and
# last samples are not amplified too much.
MIN_OVERLAP = 0.1


# --- The short view ---------------------------------------------------------------------------


def to_short(spectrogram: Tensor, win_size: int) -> Tensor:
    """Returns the short frames in each frame.

    Args:
        spectrogram: `(batch, frames, win_size / 2 + 1, 2)`.
        win_size: Length of its windows in samples.

    Returns:
        `(batch, frames, win_size / 16 + 1, 2 * STEPS)`.
    """
    short, hop = win_size // STEPS, win_size // HOPS // STEPS
    first, length = _middle(win_size)
    frames = ops.shape(spectrogram)[1]
    waves = slice_axis(irfft(spectrogram, win_size), 2, first, first + length)
    waves = waves / ops.convert_to_tensor(dsp.hamming(win_size)[first : first + length])
    pieces = ops.stack([slice_axis(waves, 2, step * hop, step * hop + short)
                        for step in range(STEPS)], axis=2)
    spectrum = rfft(pieces * ops.convert_to_tensor(dsp.hamming(short)))
    spectrum = ops.transpose(spectrum, (0, 1, 3, 2, 4))
    return ops.reshape(spectrum, (-1, frames, short // 2 + 1, 2 * STEPS))


def from_short(short_frames: Tensor, win_size: int) -> Tensor:
    """Returns the spectrogram of the waveform that short frames add up to.

    It inverts `to_short`, except that the waveform is zero before the first and after the last
    short frame.
    """
    short, hop, block = win_size // STEPS, win_size // HOPS // STEPS, win_size // HOPS
    first, _ = _middle(win_size)
    _, frames, bins, _ = ops.shape(short_frames)
    pairs = ops.reshape(short_frames, (-1, frames, bins, STEPS, 2))
    pairs = ops.reshape(ops.transpose(pairs, (0, 1, 3, 2, 4)), (-1, frames * STEPS, bins, 2))
    pieces = irfft(pairs, short) * ops.convert_to_tensor(_synthesis_window(short, hop))
    waveform = overlap_add(ops.expand_dims(pieces, -1), hop)
    end = (HOPS - 1) * block - first - (short - hop)
    waveform = ops.pad(waveform, ((0, 0), (first, end), (0, 0)))
    return _from_blocks(ops.reshape(waveform, (-1, frames + HOPS - 1, block)), win_size)


def _middle(win_size: int) -> tuple[int, int]:
    """Returns the first sample and the length of the span that a frame's short frames cover."""
    length = win_size // STEPS + (STEPS - 1) * (win_size // HOPS // STEPS)
    return (win_size - length) // 2, length


# --- The long view ----------------------------------------------------------------------------


def to_long(spectrogram: Tensor, win_size: int, bins: int) -> Tensor:
    """Returns the lowest bins of each frame in a longer window.

    The waveform is the least-squares overlap-add of `dsp.istft`, and silent beyond both ends.

    Args:
        spectrogram: `(batch, frames, win_size / 2 + 1, 2)`.
        win_size: Length of its windows in samples.
        bins: Number of lowest bins, counted in those of `spectrogram`.

    Returns:
        `(batch, frames, bins, 2 * STRETCH)`.
    """
    frames, hop = ops.shape(spectrogram)[1], win_size // HOPS
    window = dsp.hamming(win_size)
    pieces = irfft(spectrogram, win_size) * ops.convert_to_tensor(window)
    waveform = overlap_add(ops.expand_dims(pieces, -1), hop)
    squares = ops.convert_to_tensor(window**2)[None, None, :, None]
    weights = overlap_add(ops.tile(squares, (1, frames, 1, 1)), hop)
    waveform = waveform / ops.maximum(weights, MIN_OVERLAP * float(np.sum(window[::hop] ** 2)))
    before = HOPS * (STRETCH - 1) // 2
    blocks = ops.reshape(waveform, (-1, frames + HOPS - 1, hop))
    blocks = ops.pad(blocks, ((0, 0), (before, HOPS * (STRETCH - 1) - before), (0, 0)))
    windows = _cut_windows(blocks, frames, STRETCH * HOPS)
    lowest = rfft(windows * ops.convert_to_tensor(dsp.hamming(STRETCH * win_size)), STRETCH * bins)
    return ops.reshape(lowest, (-1, frames, bins, 2 * STRETCH))


def from_long(long_frames: Tensor, win_size: int) -> Tensor:
    """Returns the spectrogram of the waveform that long frames of the lowest bins add up to."""
    _, frames, bins, _ = ops.shape(long_frames)
    long, hop = STRETCH * win_size, win_size // HOPS
    pairs = ops.reshape(long_frames, (-1, frames, STRETCH * bins, 2))
    pieces = irfft(pairs, long) * ops.convert_to_tensor(_synthesis_window(long, hop))
    waveform = overlap_add(ops.expand_dims(pieces, -1), hop)
    blocks = ops.reshape(waveform, (-1, frames + STRETCH * HOPS - 1, hop))
    before = HOPS * (STRETCH - 1) // 2
    return _from_blocks(slice_axis(blocks, 1, before, before + frames + HOPS - 1), win_size)


# --- Shared by both views ---------------------------------------------------------------------


def _synthesis_window(win_size: int, hop: int) -> np.ndarray:
    """Returns the window divided by the sum of the squares of all windows that cover a sample."""
    window = dsp.hamming(win_size)
    squares = np.sum(np.reshape(window**2, (-1, hop)), axis=0)
    return (window / np.tile(squares, win_size // hop)).astype(np.float32)


def _cut_windows(blocks: Tensor, frames: Any, count: int) -> Tensor:
    """Returns windows of `count` blocks, one for each frame: `(batch, frames, samples)`."""
    return ops.concatenate([slice_axis(blocks, 1, step, step + frames) for step in range(count)],
                           axis=2)


def _from_blocks(blocks: Tensor, win_size: int) -> Tensor:
    """Returns the spectrogram of a waveform in blocks of one hop, `(batch, blocks, hop)`."""
    windows = _cut_windows(blocks, ops.shape(blocks)[1] - (HOPS - 1), HOPS)
    return rfft(windows * ops.convert_to_tensor(dsp.hamming(win_size)))


# --- Views in the form that the network uses --------------------------------------------------


class ShortView:
    """The short view, with its bins aligned to those of `fold_bins`.

    Args:
        count: As in `fold_bins`.
        start: As in `fold_bins`.
    """

    parts = 2 * STEPS

    def __init__(self, count: int, start: int) -> None:
        self.count, self.start = count, start

    def see(self, inputs: Tensor) -> Tensor:
        """Returns the short view of the spectrogram `inputs`."""
        return to_short(inputs, 2 * (ops.shape(inputs)[2] - 1))

    def fold(self, content: Tensor, bins: Any) -> Tensor:
        """Repeats short bins, so that there is one for each folded bin of `bins` bins."""
        pieces = []
        for first, end, folds in fold_regions(bins, self.count, self.start):
            piece = slice_axis(content, 2, first // self.count, end // self.count)
            times = self.count // folds
            pieces.append(ops.repeat(piece, times, axis=2) if times > 1 else piece)
        return ops.concatenate(pieces, axis=2)

    def unfold(self, folded: Tensor, bins: Any) -> Tensor:
        """Inverts `fold` by averaging over the folded bins of each short bin."""
        pieces, position = [], 0
        _, frames, _, channels = ops.shape(folded)
        for first, end, folds in fold_regions(bins, self.count, self.start):
            stop, times = position + (end - first) // folds, self.count // folds
            piece = slice_axis(folded, 2, position, stop)
            if times > 1:
                shape = (-1, frames, (stop - position) // times, times, channels)
                piece = ops.mean(ops.reshape(piece, shape), axis=3)
            pieces.append(piece)
            position = stop
        return ops.concatenate(pieces, axis=2)

    def back(self, content: Tensor, bins: Any) -> Tensor:
        """Returns the spectrogram with `bins` bins that the view `content` belongs to."""
        return from_short(content, 2 * (bins - 1))


class LongView:
    """The long view of the bins below `start`, which are not folded.

    Args:
        count: As in `fold_bins`.
        start: As in `fold_bins`.
    """

    parts = 2 * STRETCH

    def __init__(self, count: int, start: int) -> None:
        self.count, self.start = count, start

    def see(self, inputs: Tensor) -> Tensor:
        """Returns the long view of the spectrogram `inputs`."""
        return to_long(inputs, 2 * (ops.shape(inputs)[2] - 1), self.start)

    def fold(self, content: Tensor, bins: Any) -> Tensor:
        """Adds zeros for all higher bins."""
        regions = fold_regions(bins, self.count, self.start)[1:]
        above = sum((end - first) // folds for first, end, folds in regions)
        return ops.pad(content, ((0, 0), (0, 0), (0, above), (0, 0)))

    def unfold(self, folded: Tensor, bins: Any) -> Tensor:
        """Returns the lowest bins only."""
        return slice_axis(folded, 2, 0, self.start)

    def back(self, content: Tensor, bins: Any) -> Tensor:
        """Returns the spectrogram with `bins` bins that the view `content` belongs to."""
        return from_long(content, 2 * (bins - 1))
