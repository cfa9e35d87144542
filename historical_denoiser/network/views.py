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
BLOCKS_BEFORE = HOPS * (STRETCH - 1) // 2  # hops by which a long window starts before its frame
# The sum of the windows is taken to be at least this share of its full value, so that the first and
# last samples are not amplified too much.
MIN_OVERLAP = 0.1


class View:
    """Base of the views, whose bins can be aligned to those of `fold_bins`.

    Args:
        count: As in `fold_bins`.
        start: As in `fold_bins`.
    """

    def __init__(self, count: int, start: int) -> None:
        self.count, self.start = count, start


class ShortView(View):
    """The short frames in each frame, `(batch, frames, win_size / 16 + 1, 2 * STEPS)`.

    The waveform of `to_spectrogram` is zero before the first and after the last short frame.
    """

    parts = 2 * STEPS  # number of channels

    def from_spectrogram(self, spectrogram: Tensor) -> Tensor:
        """Returns the view of a spectrogram `(batch, frames, win_size / 2 + 1, 2)`."""
        _, frames, bins, _ = ops.shape(spectrogram)
        win_size = 2 * (bins - 1)
        short, hop = win_size // STEPS, win_size // HOPS // STEPS
        first, length = _middle(win_size)
        waves = slice_axis(irfft(spectrogram, win_size), 2, first, first + length)
        waves = waves / ops.convert_to_tensor(dsp.hamming(win_size)[first : first + length])
        pieces = ops.stack([slice_axis(waves, 2, step * hop, step * hop + short)
                            for step in range(STEPS)], axis=2)
        spectrum = rfft(pieces * ops.convert_to_tensor(dsp.hamming(short)))
        spectrum = ops.transpose(spectrum, (0, 1, 3, 2, 4))
        return ops.reshape(spectrum, (-1, frames, short // 2 + 1, 2 * STEPS))

    def to_spectrogram(self, content: Tensor, bins: int) -> Tensor:
        """Returns the spectrogram with `bins` bins of the waveform that the view adds up to."""
        win_size = 2 * (bins - 1)
        short, hop, block = win_size // STEPS, win_size // HOPS // STEPS, win_size // HOPS
        first, _ = _middle(win_size)
        _, frames, short_bins, _ = ops.shape(content)
        pairs = ops.reshape(content, (-1, frames, short_bins, STEPS, 2))
        pairs = ops.reshape(ops.transpose(pairs, (0, 1, 3, 2, 4)),
                            (-1, frames * STEPS, short_bins, 2))
        waveform = _add_frames(pairs, short, hop)
        end = (HOPS - 1) * block - first - (short - hop)
        waveform = ops.pad(waveform, ((0, 0), (first, end), (0, 0)))
        return _from_blocks(ops.reshape(waveform, (-1, frames + HOPS - 1, block)), win_size)

    def fold(self, content: Tensor, bins: int) -> Tensor:
        """Repeats short bins, so that there is one for each folded bin."""
        pieces = []
        for first, end, folds in fold_regions(bins, self.count, self.start):
            piece = slice_axis(content, 2, first // self.count, end // self.count)
            times = self.count // folds
            pieces.append(ops.repeat(piece, times, axis=2) if times > 1 else piece)
        return ops.concatenate(pieces, axis=2)

    def unfold(self, folded: Tensor, bins: int) -> Tensor:
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


class LongView(View):
    """The bins below `start` in longer windows, `(batch, frames, start, 2 * STRETCH)`.

    The waveform of `from_spectrogram` is the least-squares overlap-add of `dsp.istft`, and silent
    beyond both ends. What the view adds fades out below `start`: the lobe of a window of the
    spectrogram is wider than a long bin, so that nothing there could complement an abrupt end.

    Args:
        count: As in `fold_bins`.
        start: As in `fold_bins`.
        fade: Number of bins over which it fades out; 0 for an abrupt end.
    """

    parts = 2 * STRETCH  # number of channels

    def __init__(self, count: int, start: int, fade: int = 0) -> None:
        super().__init__(count, start)
        places = (np.arange(STRETCH * start) + 0.5) / STRETCH  # in bins
        from_end = np.clip((start - places) / max(fade, 1e-6), 0.0, 1.0)
        self.weights = np.square(np.sin(0.5 * np.pi * from_end)).astype(np.float32)

    def from_spectrogram(self, spectrogram: Tensor) -> Tensor:
        """Returns the view of a spectrogram `(batch, frames, win_size / 2 + 1, 2)`."""
        _, frames, bins, _ = ops.shape(spectrogram)
        win_size = 2 * (bins - 1)
        hop, window = win_size // HOPS, dsp.hamming(win_size)
        pieces = irfft(spectrogram, win_size) * ops.convert_to_tensor(window)
        waveform = overlap_add(ops.expand_dims(pieces, -1), hop)
        squares = ops.convert_to_tensor(window**2)[None, None, :, None]
        weights = overlap_add(ops.tile(squares, (1, frames, 1, 1)), hop)
        waveform = waveform / ops.maximum(weights, MIN_OVERLAP * float(np.sum(window[::hop] ** 2)))
        blocks = ops.reshape(waveform, (-1, frames + HOPS - 1, hop))
        after = HOPS * (STRETCH - 1) - BLOCKS_BEFORE
        blocks = ops.pad(blocks, ((0, 0), (BLOCKS_BEFORE, after), (0, 0)))
        windows = _cut_windows(blocks, frames, STRETCH * HOPS)
        long_window = ops.convert_to_tensor(dsp.hamming(STRETCH * win_size))
        lowest = rfft(windows * long_window, STRETCH * self.start)
        return ops.reshape(lowest, (-1, frames, self.start, 2 * STRETCH))

    def to_spectrogram(self, content: Tensor, bins: int) -> Tensor:
        """Returns the spectrogram with `bins` bins of the waveform that the view adds up to."""
        _, frames, low_bins, _ = ops.shape(content)
        win_size = 2 * (bins - 1)
        hop = win_size // HOPS
        pairs = ops.reshape(content, (-1, frames, STRETCH * low_bins, 2))
        pairs = pairs * ops.convert_to_tensor(self.weights)[:, None]
        waveform = _add_frames(pairs, STRETCH * win_size, hop)
        blocks = ops.reshape(waveform, (-1, frames + STRETCH * HOPS - 1, hop))
        end = BLOCKS_BEFORE + frames + HOPS - 1
        return _from_blocks(slice_axis(blocks, 1, BLOCKS_BEFORE, end), win_size)

    def fold(self, content: Tensor, bins: int) -> Tensor:
        """Adds zeros for all higher bins."""
        regions = fold_regions(bins, self.count, self.start)[1:]
        above = sum((end - first) // folds for first, end, folds in regions)
        return ops.pad(content, ((0, 0), (0, 0), (0, above), (0, 0)))

    def unfold(self, folded: Tensor, bins: int) -> Tensor:
        """Returns the lowest bins only."""
        return slice_axis(folded, 2, 0, self.start)


def _middle(win_size: int) -> tuple[int, int]:
    """Returns the first sample and the length of the span that a frame's short frames cover."""
    length = win_size // STEPS + (STEPS - 1) * (win_size // HOPS // STEPS)
    return (win_size - length) // 2, length


def _add_frames(spectra: Tensor, win_size: int, hop: int) -> Tensor:
    """Returns the waveform `(batch, samples, 1)` that frames `(batch, frames, bins, 2)` add up to.

    The window is divided by the sum of the squares of all windows that cover a sample.
    """
    window = dsp.hamming(win_size)
    squares = np.sum(np.reshape(window**2, (-1, hop)), axis=0)
    window = (window / np.tile(squares, win_size // hop)).astype(np.float32)
    pieces = irfft(spectra, win_size) * ops.convert_to_tensor(window)
    return overlap_add(ops.expand_dims(pieces, -1), hop)


def _cut_windows(blocks: Tensor, frames: Any, count: int) -> Tensor:
    """Returns windows of `count` blocks, one for each frame: `(batch, frames, samples)`."""
    return ops.concatenate([slice_axis(blocks, 1, step, step + frames) for step in range(count)],
                           axis=2)


def _from_blocks(blocks: Tensor, win_size: int) -> Tensor:
    """Returns the spectrogram of a waveform in blocks of one hop, `(batch, blocks, hop)`."""
    windows = _cut_windows(blocks, ops.shape(blocks)[1] - (HOPS - 1), HOPS)
    return rfft(windows * ops.convert_to_tensor(dsp.hamming(win_size)))
