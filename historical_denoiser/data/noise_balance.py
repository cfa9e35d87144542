"""Changes the level of the clicks of recorded noise relative to its hiss."""

import numpy as np
from scipy import ndimage

from historical_denoiser.noise.outliers import FRAME, OUTLYING_RATIO, compare_levels, split_treble


def split_clicks(noise: np.ndarray) -> np.ndarray:
    """Returns the clicks of `noise`, a float array `(samples,)` at 44.1 kHz.

    If a frame is much louder than those around it, its part above about 200 Hz belongs to the
    clicks except for a remainder at the usual level. `noise` minus the clicks is the hiss.
    """
    clicks = np.zeros_like(noise)
    if len(noise) < FRAME:
        return clicks
    treble = split_treble(noise)
    level, usual = compare_levels(treble)
    excess = np.where(level > OUTLYING_RATIO * usual, 1.0 - usual / np.maximum(level, 1e-30), 0.0)
    # The frames next to a click hold the rest of it. So the share only falls beyond these.
    excess = ndimage.maximum_filter1d(excess, 3)
    frames = np.flatnonzero(ndimage.maximum_filter1d(excess, 3))
    places = frames[:, None] * FRAME + np.arange(FRAME)
    middles = (np.arange(len(excess)) + 0.5) * FRAME - 0.5
    clicks[places] = np.interp(places, middles, excess) * treble[places]
    return clicks


def change_balance(noise: np.ndarray, spread_db: float, rng: np.random.Generator) -> np.ndarray:
    """Multiplies the clicks of a noise by a random gain, to imitate worn and well-kept carriers.

    Args:
        noise: Float array `(samples,)` at 44.1 kHz.
        spread_db: Standard deviation of the gain.
        rng: Draws the gain.
    """
    if spread_db == 0.0:
        return noise
    gain = 10.0 ** (rng.normal(0.0, spread_db) / 20.0)
    return noise + np.float32(gain - 1.0) * split_clicks(noise)
