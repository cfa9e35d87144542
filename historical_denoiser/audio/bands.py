"""Powers in bands that are equally wide for the ear: fractions of an octave."""

from __future__ import annotations

import itertools

import numpy as np

from historical_denoiser.audio.dsp import SAMPLE_RATE, StftConfig


def edges(stft: StftConfig, lowest_hz: float, an_octave: int, count: int) -> np.ndarray:
    """Returns the first bin of each band, and the one after the last: `(bands + 1,)`.

    Args:
        stft: Whose bins they are, at 44.1 kHz. There are no bands below its `highpass_hz`.
        lowest_hz: Where the first band begins.
        an_octave: How many bands an octave has.
        count: How many bands there are. Those that are narrower than a bin become one.
    """
    edges_hz = lowest_hz * 2.0 ** (np.arange(count + 1) / an_octave)
    edges_hz = edges_hz[edges_hz >= stft.highpass_hz]
    return np.unique(np.maximum(np.round(edges_hz * stft.win_size / SAMPLE_RATE), 1).astype(int))


def powers(power: np.ndarray, of_bands: np.ndarray) -> np.ndarray:
    """Returns the power in bands, `(frames, bands)`, of that of bins, `(frames, bins)`."""
    return np.stack([power[:, low:high].sum(axis=1)
                     for low, high in itertools.pairwise(of_bands)], axis=1)


def spread(values: np.ndarray, of_bands: np.ndarray, bins: int) -> np.ndarray:
    """Returns `(frames, bins)` that have the values of their bands, `(frames, bands)`, or 0."""
    widths = np.diff(of_bands)
    inside = np.repeat(values, widths, axis=1)
    return np.pad(inside, ((0, 0), (of_bands[0], bins - of_bands[-1])))
