"""Finds what stands out of a noise: clicks, crackle and bursts above the hiss around them.

All audio is `(samples,)` at 44.1 kHz.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from historical_denoiser.audio.dsp import SAMPLE_RATE

FRAME = 16  # samples over which a level is taken: 0.4 ms, shorter than most clicks
BASS_SECONDS = 1.0 / 300.0  # a mean over this time is what lies below about 200 Hz
OUTLYING_RATIO = 4.0  # of a level to the usual one around it: 12 dB, seldom met in Gaussian noise
AROUND_SECONDS = 0.25  # over which the usual level is taken


def split_treble(audio: np.ndarray) -> np.ndarray:
    """Returns what lies above about 200 Hz: hum and rumble hide no click in it."""
    return audio - ndimage.uniform_filter1d(audio, round(BASS_SECONDS * SAMPLE_RATE))


def compare_levels(treble: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the level of each frame, and the usual one around it, both `(frames,)`.

    The usual level is the median over a quarter of a second, on which impulses have no influence
    until they fill half of the time. Samples after the last whole frame are left out.

    Args:
        treble: At least `FRAME` samples of `split_treble`.
    """
    frames = len(treble) // FRAME
    framed = treble[:frames * FRAME].reshape(frames, FRAME)
    level = np.sqrt(np.einsum("ij,ij->i", framed, framed) / FRAME)
    blocks = max(1, round(frames * FRAME / (AROUND_SECONDS * SAMPLE_RATE)))
    medians = [np.median(block) for block in np.array_split(level, blocks)]
    centres = (np.arange(blocks) + 0.5) * (frames / blocks)
    return level, np.interp(np.arange(frames) + 0.5, centres, medians)
