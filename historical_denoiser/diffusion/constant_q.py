"""An invertible constant-Q transform of tensors, on any Keras backend and differentiable.

Bands are spaced evenly on a logarithmic scale of frequency, with bandwidths in proportion. Those of
one octave share a frame rate, twice that of the octave below, so that a network can process each
octave as an image. The squared windows of all bands add up to 1 at every frequency: the transform
keeps energies, and the same windows invert it.

Sources:
    G. A. Velasco, N. Holighaus, M. Dörfler and T. Grill, "Constructing an invertible constant-Q
    transform with non-stationary Gabor frames", DAFx 2011: windows on the spectrum of the signal.
    N. Holighaus et al., "A framework for invertible, real-time constant-Q transforms", IEEE Trans.
    Audio, Speech, Lang. Process. 21(4), 2013.

Start reading at `ConstantQ`.
"""

from typing import Any

import numpy as np
import scipy.fft
from keras import ops

Tensor = Any  # a tensor of any Keras backend
Pair = tuple[Tensor, Tensor]  # real and imaginary part

NEAR_EDGE = 1e-6  # of a band's width: a bin so near to the next centre is not in the band


class ConstantQ:
    """The transform of signals of one length.

    Its coefficients are a list of tensors, from low to high frequencies: a waveform of what lies
    below the lowest band, `(batch, samples)`; for each octave `(batch, bins_per_octave, frames,
    2)`, real and imaginary parts of bands whose frequencies are moved to 0; a waveform of the
    highest frequencies, which the last half band contains.

    Args:
        samples: Length of the signals. Inside, it is rounded up to one that a fast Fourier
            transform likes.
        octaves: Number of octaves below half the sample rate.
        bins_per_octave: Number of bands in each.

    Raises:
        ValueError: An argument is below 1.
    """

    def __init__(self, samples: int, octaves: int, bins_per_octave: int) -> None:
        for name, value in (("samples", samples), ("octaves", octaves),
                            ("bins_per_octave", bins_per_octave)):
            if value < 1:
                raise ValueError(f"`{name}` must be at least 1. Received: {name}={value}")
        self.samples, self.octaves, self.bins_per_octave = samples, octaves, bins_per_octave
        self.length = fast_length(samples)
        half = self.length // 2  # the bin of half the sample rate
        bands = octaves * bins_per_octave
        # From one band below the lowest to one above the highest, which is half the sample rate.
        self._places = np.arange(-bands - 1, 1) / bins_per_octave  # octaves from `half`
        centers = half * 2.0 ** self._places
        # Bins below the lowest band's centre, and above the highest one's.
        self.below = max(1, int(np.ceil(centers[1])))
        self.above = max(1, half - int(np.floor(centers[-2])))
        widest = np.max(np.diff(centers)[1 : bins_per_octave + 1])
        self.frames = [2 * (int(np.ceil(widest)) + 1) * 2**octave for octave in range(octaves)]
        self._bins, self._windows = [], []  # of each octave, `(bins_per_octave, frames)`
        for octave, frames in enumerate(self.frames):
            bands_here = np.arange(bins_per_octave) + octave * bins_per_octave + 1
            offsets = scipy.fft.fftfreq(frames, 1.0 / frames).astype(int)  # 0, 1, ..., -2, -1
            bins = np.round(centers[bands_here]).astype(int)[:, None] + offsets
            self._windows.append(self._window(bins, bands_here[:, None]))
            self._bins.append(np.clip(bins, 0, half))
        self._low, self._high = np.arange(self.below + 1), half - np.arange(self.above + 1)
        self._low_window = self._window(self._low, np.array(0))
        self._high_window = self._window(self._high, np.array(bands + 1))
        self._first, self._second = self._find_sources()

    def forward(self, waves: Tensor) -> list[Tensor]:
        """Returns the coefficients of signals `(batch, samples)`."""
        padded = ops.pad(waves, ((0, 0), (0, self.length - self.samples)))
        spectrum = ops.rfft(padded)
        low = ops.irfft(_select(spectrum, self._low, self._low_window))
        real, imag = _select(spectrum, self._high, self._high_window)
        high = ops.irfft((real, -imag))  # seen from half the sample rate, the spectrum is reversed
        coefficients = [low * self._scale(low.shape[-1])]
        for bins, window, frames in zip(self._bins, self._windows, self.frames, strict=True):
            real, imag = _select(spectrum, bins, window)
            real, imag = ops.fft((real, -imag))  # the conjugate of the inverse transform, unscaled
            coefficients.append(ops.stack([real, -imag], axis=-1) * (
                np.sqrt(2.0) / frames * self._scale(frames)))
        return [*coefficients, high * self._scale(high.shape[-1])]

    def inverse(self, coefficients: list[Tensor]) -> Tensor:
        """Returns the signals `(batch, samples)` of coefficients."""
        low, *octaves, high = coefficients
        spectra = [_times(ops.rfft(low), self._low_window / self._scale(low.shape[-1]))]
        for pairs, window, frames in zip(octaves, self._windows, self.frames, strict=True):
            real, imag = ops.fft((pairs[..., 0], pairs[..., 1]))
            spectrum = _times((real, imag), window / (np.sqrt(2.0) * self._scale(frames)))
            spectra.append(tuple(ops.reshape(part, (part.shape[0], -1)) for part in spectrum))
        real, imag = _times(ops.rfft(high), self._high_window / self._scale(high.shape[-1]))
        spectra.append((real, -imag))
        real, imag = (ops.concatenate(parts, axis=-1) for parts in zip(*spectra, strict=True))
        # Each frequency lies in two bands.
        spectrum = tuple(sum(ops.take(part, places, axis=-1)
                             for places in (self._first, self._second)) for part in (real, imag))
        return ops.irfft(spectrum, fft_length=self.length)[:, : self.samples]

    def _scale(self, frames: int) -> float:
        """Returns the factor that keeps the energy of a band of so many frames."""
        return float(np.sqrt(frames / self.length))

    def _window(self, bins: np.ndarray, band: np.ndarray) -> np.ndarray:
        """Returns the weights of bins in bands, counted from the one below the lowest.

        The weight falls from 1 at the band's centre to 0 at those of its neighbours, as in Vorbis;
        that of the first band stays 1 below its centre.
        """
        half = self.length // 2
        place = np.log2(np.maximum(bins, 1e-9) / half)
        distance = self.bins_per_octave * np.abs(place - self._places[band])
        weight = np.sin(0.5 * np.pi * np.cos(0.5 * np.pi * distance) ** 2)
        weight = np.where((band == 0) & (place <= self._places[0]), 1.0, weight)
        is_near = (distance < 1.0 - NEAR_EDGE) | ((band == 0) & (place < self._places[1]))
        is_inside = (bins >= 0) & (bins <= half)
        return np.where(is_near & is_inside, weight, 0.0).astype(np.float32)

    def _find_sources(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns where `inverse` finds the two shares of each bin, in all spectra in a row."""
        half = self.length // 2
        bins = np.concatenate([self._low, *(each.ravel() for each in self._bins), self._high])
        weights = np.concatenate([self._low_window, *(each.ravel() for each in self._windows),
                                  self._high_window])
        sources = np.flatnonzero(weights)
        sources = sources[np.argsort(bins[sources], kind="stable")]
        counts = np.bincount(bins[sources], minlength=half + 1)
        starts = np.cumsum(counts) - counts
        nowhere = np.flatnonzero(weights == 0.0)[0]  # of a bin in a single band
        return sources[starts], np.where(counts == 2, sources[starts + counts - 1], nowhere)


def fast_length(samples: int) -> int:
    """Returns the next even length that a fast Fourier transform likes."""
    return 2 * scipy.fft.next_fast_len(-(-samples // 2), real=True)


def _select(spectrum: Pair, bins: np.ndarray, window: np.ndarray) -> Pair:
    """Returns `(batch, *bins.shape)` of a spectrum `(batch, bins)`, weighted."""
    return _times(tuple(ops.take(part, bins, axis=-1) for part in spectrum), window)


def _times(spectrum: Pair, window: np.ndarray) -> Pair:
    real, imag = spectrum
    weights = ops.convert_to_tensor(window.astype(np.float32))
    return real * weights, imag * weights
