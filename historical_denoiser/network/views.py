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

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from keras import ops

from historical_denoiser.audio import dsp
from historical_denoiser.network.fourier import irfft, rfft, turns
from historical_denoiser.network.tensor_ops import Tensor, fold_regions, overlap_add, slice_axis

HOPS = 4  # hops in a window
STEPS = 8  # short frames in a hop, and bins in a short bin
STRETCH = 4  # windows in a long window, and long bins in a bin
LONG_HOPS = STRETCH * HOPS  # hops in a long window
HOPS_BEFORE = (LONG_HOPS - HOPS) // 2  # by which a long window starts before its frame
HAMMING = (0.54, 0.46)  # the window is 0.54 - 0.46 cos(2 pi n / N)
# The sum of the windows is taken to be at least this share of its full value, so that the first and
# last samples are not amplified too much.
MIN_OVERLAP = 0.1


def to_waves(spectrogram: Tensor) -> Tensor:
    """Returns the windowed samples of each frame, `(batch, frames, win_size)`."""
    return irfft(spectrogram, 2 * (ops.shape(spectrogram)[2] - 1))


def from_blocks(blocks: Tensor) -> Tensor:
    """Returns the spectrogram of a waveform in blocks of one hop, `(batch, blocks, hop)`."""
    _, count, hop = ops.shape(blocks)
    frames = count - (HOPS - 1)
    windows = ops.concatenate([slice_axis(blocks, 1, step, step + frames) for step in range(HOPS)],
                              axis=2)
    return rfft(windows * ops.convert_to_tensor(dsp.hamming(HOPS * hop)))


class View(ABC):
    """Base of the views, whose bins can be aligned to those of `fold_bins`.

    Args:
        count, start: As in `fold_bins`.
    """

    parts: int  # number of channels

    def __init__(self, count: int, start: int) -> None:
        self.count, self.start = count, start

    @abstractmethod
    def from_waves(self, waves: Tensor) -> Tensor:
        """Returns the view of the result of `to_waves`."""

    @abstractmethod
    def to_blocks(self, content: Tensor, win_size: int) -> Tensor:
        """Returns the waveform that the view adds up to, in the form that `from_blocks` takes."""

    @abstractmethod
    def fold(self, content: Tensor, bins: int) -> Tensor:
        """Aligns the view to a spectrogram of `bins` bins that is folded."""

    @abstractmethod
    def unfold(self, folded: Tensor, bins: int) -> Tensor:
        """Inverts `fold`."""


class ShortView(View):
    """The short frames in each frame, `(batch, frames, win_size / 16 + 1, 2 * STEPS)`.

    The waveform of `to_blocks` is zero before the first and after the last short frame.
    """

    parts = 2 * STEPS

    def from_waves(self, waves: Tensor) -> Tensor:
        _, frames, win_size = ops.shape(waves)
        short, hop = win_size // STEPS, win_size // HOPS // STEPS
        first, length = _middle(win_size)
        middle = slice_axis(waves, 2, first, first + length)
        middle = middle / ops.convert_to_tensor(dsp.hamming(win_size)[first : first + length])
        pieces = ops.stack([slice_axis(middle, 2, step * hop, step * hop + short)
                            for step in range(STEPS)], axis=2)
        transform = turns(np.arange(short), short // 2 + 1, short)
        transform = dsp.hamming(short)[:, None, None] * transform
        spectra = ops.matmul(pieces, ops.convert_to_tensor(transform.reshape(short, -1)))
        spectra = ops.reshape(spectra, (-1, frames, STEPS, short // 2 + 1, 2))
        spectra = ops.transpose(spectra, (0, 1, 3, 2, 4))
        return ops.reshape(spectra, (-1, frames, short // 2 + 1, 2 * STEPS))

    def to_blocks(self, content: Tensor, win_size: int) -> Tensor:
        short, hop, block = win_size // STEPS, win_size // HOPS // STEPS, win_size // HOPS
        first, _ = _middle(win_size)
        _, frames, bins, _ = ops.shape(content)
        pairs = ops.transpose(ops.reshape(content, (-1, frames, bins, STEPS, 2)), (0, 1, 3, 2, 4))
        pairs = ops.reshape(pairs, (-1, frames * STEPS, 2 * bins))
        window = dsp.hamming(short) / np.sum(dsp.hamming(short)[::hop] ** 2)
        # The transform is the inverse of the real one: bins between the first and the last stand
        # for two of the complex one.
        scale = np.full(bins, 2.0 / short)
        scale[[0, -1]] = 1.0 / short
        transform = (turns(np.arange(short), bins, short)
                     * window[:, None, None] * scale[:, None]).astype(np.float32)
        pieces = ops.matmul(pairs, ops.convert_to_tensor(transform.reshape(short, -1).T))
        waveform = overlap_add(ops.expand_dims(pieces, -1), hop)
        end = (HOPS - 1) * block - first - (short - hop)
        waveform = ops.pad(waveform, ((0, 0), (first, end), (0, 0)))
        return ops.reshape(waveform, (-1, frames + HOPS - 1, block))

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

    The waveform of `from_waves` is the least-squares overlap-add of `dsp.istft`, and silent beyond
    both ends. What the view adds fades out below `start`: the lobe of a window of the spectrogram
    is wider than a long bin, so that nothing there could complement an abrupt end.

    Long windows are 16 times as long as their hop. Therefore each block of a hop is transformed
    only once, and the spectrum of a window is the sum of those of its blocks, each turned by its
    place. The Hamming window is applied to the sum, as a convolution with three bins.

    Args:
        count, start: As in `fold_bins`.
        fade: Number of bins over which it fades out; 0 for an abrupt end.
    """

    parts = 2 * STRETCH

    def __init__(self, count: int, start: int, fade: int = 0) -> None:
        super().__init__(count, start)
        self.bins = STRETCH * start
        from_end = (start - (np.arange(self.bins) + 0.5) / STRETCH) / max(fade, 1e-6)
        self.weights = np.square(np.sin(0.5 * np.pi * np.clip(from_end, 0.0, 1.0)))

    def from_waves(self, waves: Tensor) -> Tensor:
        _, frames, win_size = ops.shape(waves)
        hop, window = win_size // HOPS, dsp.hamming(win_size)
        blocks = overlap_add(ops.expand_dims(waves * ops.convert_to_tensor(window), -1), hop)
        blocks = ops.reshape(blocks, (-1, frames + HOPS - 1, hop)) / _sum_of_squares(frames, window)
        transform = turns(np.arange(hop), self.bins + 1, LONG_HOPS * hop)
        after = LONG_HOPS - HOPS - HOPS_BEFORE
        parts = [ops.pad(ops.matmul(blocks, ops.convert_to_tensor(transform[..., part])),
                         ((0, 0), (HOPS_BEFORE, after), (0, 0))) for part in (0, 1)]
        spectra = ops.stack(_apply_hamming(*_sum_blocks(*parts)), axis=-1)
        return ops.reshape(spectra, (-1, frames, self.start, self.parts))

    def to_blocks(self, content: Tensor, win_size: int) -> Tensor:
        _, frames, _, _ = ops.shape(content)
        hop, samples = win_size // HOPS, STRETCH * win_size
        pairs = ops.reshape(content, (-1, frames, self.bins, 2))
        weights = np.stack([self.weights, self.weights], axis=-1).astype(np.float32)
        weights[0, 1] = 0.0  # the imaginary part of the first bin of a real waveform
        pairs = pairs * ops.convert_to_tensor(weights)
        # Two more bins, into which the window spreads, and the blocks of windows that begin before
        # the first or end after the last frame.
        around = LONG_HOPS - 1 - HOPS_BEFORE
        pairs = ops.pad(pairs, ((0, 0), (around, around), (0, 2), (0, 0)))
        parts = _sum_blocks(*_apply_hamming(*ops.unstack(pairs, 2, axis=-1)))
        window = dsp.hamming(samples)
        scale = np.full(self.bins + 1, 2.0 / samples / np.sum(window[::hop] ** 2))
        scale[0] /= 2.0
        # A sum begins with the last block of the earliest window, one hop behind its end.
        transform = turns(np.arange(hop) - hop, self.bins + 1, samples) * scale[:, None]
        return sum(ops.matmul(part, ops.convert_to_tensor(each.T.astype(np.float32)))
                   for part, each in zip(parts, np.moveaxis(transform, -1, 0), strict=True))

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


def _sum_of_squares(frames: Any, window: np.ndarray) -> Tensor:
    """Returns the sum of the squared windows in each block, `(frames + HOPS - 1, hop)`."""
    first = ops.expand_dims(ops.arange(frames + HOPS - 1), 1) - np.arange(HOPS)
    is_frame = ops.logical_and(first >= 0, first < frames)
    squares = np.reshape(window**2, (HOPS, -1))
    total = ops.matmul(ops.cast(is_frame, "float32"), ops.convert_to_tensor(squares))
    return ops.maximum(total, MIN_OVERLAP * float(np.sum(window[:: len(window) // HOPS] ** 2)))


def _sum_blocks(real: Tensor, imag: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the sums over `LONG_HOPS` successive blocks, each turned by its place in the sum.

    The spectrum of a block is turned by exp(-2 pi i k m / LONG_HOPS), with k its bin and m its
    place. Sums of two blocks are added to sums of four, and so on.

    Args:
        real: Real parts `(batch, sums + LONG_HOPS - 1, bins)`.
        imag: Imaginary parts.

    Returns:
        Real and imaginary parts of the sums, `(batch, sums, bins)`.
    """
    step = 1
    while step < LONG_HOPS:
        kept = ops.shape(real)[1] - step
        turn = turns(np.array([step]), real.shape[-1], LONG_HOPS)[0]
        cosine, sine = (ops.convert_to_tensor(part) for part in turn.T.copy())
        later_real, later_imag = (slice_axis(part, 1, step, step + kept) for part in (real, imag))
        real = slice_axis(real, 1, 0, kept) + later_real * cosine - later_imag * sine
        imag = slice_axis(imag, 1, 0, kept) + later_real * sine + later_imag * cosine
        step *= 2
    return real, imag


def _apply_hamming(real: Tensor, imag: Tensor) -> tuple[Tensor, Tensor]:
    """Applies the window to the spectrum of a real waveform; the last bin is lost."""
    kept = real.shape[-1] - 1
    windowed = []
    for part, sign in ((real, 1.0), (imag, -1.0)):
        below = sign * slice_axis(part, 2, 1, 2)  # the bin below 0 is the conjugate of bin 1
        part = ops.concatenate([below, part], axis=2)
        left, middle, right = (slice_axis(part, 2, start, start + kept) for start in range(3))
        windowed.append(HAMMING[0] * middle - HAMMING[1] / 2.0 * (left + right))
    return windowed[0], windowed[1]
