"""Bands of equal width on a logarithmic frequency axis."""

import itertools

import numpy as np


def third_octaves(min_hz: float, max_hz: float) -> list[float]:
    """Returns frequencies a third of an octave apart, but at least `min_hz`, to above `max_hz`."""
    found_hz = [min_hz]
    while found_hz[-1] < max_hz:
        found_hz.append(max(found_hz[-1] * 2.0 ** (1.0 / 3.0), found_hz[-1] + min_hz))
    return found_hz


def powers(power: np.ndarray, of_bands: np.ndarray) -> np.ndarray:
    """Sums the power of bins, `(frames, bins)`, over bands: `(frames, bands)`.

    `of_bands` holds the first bin of each band, and the one after the last.
    """
    return np.stack([power[:, low:high].sum(axis=1)
                     for low, high in itertools.pairwise(of_bands)], axis=1)
