"""Changes how loud the clicks of recorded noise are beside its hiss."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from historical_denoiser.noise.outliers import FRAME, OUTLYING_RATIO, compare_levels, split_treble


def split_clicks(noise: np.ndarray) -> np.ndarray:
    """Returns what stands out of a noise, `(samples,)`; the rest of it, `noise` less this, is hiss.

    Where a frame is louder than is usual around it, so much is taken of its part above about
    200 Hz that the usual level is left.

    Args:
        noise: Float array `(samples,)` at 44.1 kHz.
    """
    clicks = np.zeros_like(noise)
    if len(noise) < FRAME:
        return clicks
    treble = split_treble(noise)
    level, usual = compare_levels(treble)
    excess = np.where(level > OUTLYING_RATIO * usual, 1.0 - usual / np.maximum(level, 1e-30), 0.0)
    # A frame beside one of a click has the rest of it, so that the share falls beyond the click.
    excess = ndimage.maximum_filter1d(excess, 3)
    frames = np.flatnonzero(ndimage.maximum_filter1d(excess, 3))
    places = frames[:, None] * FRAME + np.arange(FRAME)
    middles = (np.arange(len(excess)) + 0.5) * FRAME - 0.5
    clicks[places] = np.interp(places, middles, excess) * treble[places]
    return clicks


def change_balance(noise: np.ndarray, spread_db: float, rng: np.random.Generator) -> np.ndarray:
    """Makes the clicks of a noise louder or softer, by the same for all of them.

    One recording thus stands for worn and for well-kept carriers.

    Args:
        noise: Float array `(samples,)` at 44.1 kHz.
        spread_db: Standard deviation of the change; at 0 the noise stays as it is.
        rng: Draws the change.

    Returns:
        Array like `noise`.
    """
    if spread_db == 0.0:
        return noise
    gain = 10.0 ** (rng.normal(0.0, spread_db) / 20.0)
    return noise + np.float32(gain - 1.0) * split_clicks(noise)
