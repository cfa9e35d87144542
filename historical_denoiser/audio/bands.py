"""Powers in bands of equal width on a logarithmic frequency axis."""

import itertools

import numpy as np

from historical_denoiser.audio.dsp import SAMPLE_RATE, StftConfig


def edges(stft: StftConfig, lowest_hz: float, an_octave: int, count: int) -> np.ndarray:
    """Returns the first bin of each band, and the one after the last: `(bands + 1,)`.

    Args:
        stft: The transform, at 44.1 kHz. Bands below its `highpass_hz` are left out.
        lowest_hz: Lower edge of the first band.
        an_octave: Number of bands per octave.
        count: Number of bands. Bands that are narrower than a bin are merged.
    """
    edges_hz = lowest_hz * 2.0 ** (np.arange(count + 1) / an_octave)
    edges_hz = edges_hz[edges_hz >= stft.highpass_hz]
    return np.unique(np.maximum(np.round(edges_hz * stft.win_size / SAMPLE_RATE), 1).astype(int))


def third_octaves(min_hz: float, max_hz: float) -> list[float]:
    """Returns frequencies a third of an octave apart, but at least `min_hz`, to above `max_hz`."""
    found_hz = [min_hz]
    while found_hz[-1] < max_hz:
        found_hz.append(max(found_hz[-1] * 2.0 ** (1.0 / 3.0), found_hz[-1] + min_hz))
    return found_hz


def powers(power: np.ndarray, of_bands: np.ndarray) -> np.ndarray:
    """Sums the power of bins, `(frames, bins)`, over bands: `(frames, bands)`."""
    return np.stack([power[:, low:high].sum(axis=1)
                     for low, high in itertools.pairwise(of_bands)], axis=1)


def spread(values: np.ndarray, of_bands: np.ndarray, bins: int) -> np.ndarray:
    """Repeats the values of bands, `(frames, bands)`, for their bins; bins outside get 0.

    Args:
        values: Values of the bands.
        of_bands: From `edges`.
        bins: Number of bins of the result.
    """
    inside = np.repeat(values, np.diff(of_bands), axis=1)
    return np.pad(inside, ((0, 0), (of_bands[0], bins - of_bands[-1])))
