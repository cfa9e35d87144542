"""Detects outliers in a noise: clicks, crackle and bursts that exceed the hiss around them.

All waveforms are `(samples,)` at 44.1 kHz. Start reading at `compare_levels`.
"""

import numpy as np
from scipy import ndimage

from historical_denoiser.audio.dsp import SAMPLE_RATE

# Levels are measured in frames of 0.4 ms, shorter than most clicks.
FRAME = 16
# A mean over this time keeps frequencies below about 200 Hz.
BASS_SECONDS = 1.0 / 300.0
# Ratio of a level to the usual level around it; 12 dB is rarely exceeded in Gaussian noise.
OUTLYING_RATIO = 4.0
# The usual level is a median over this time.
AROUND_SECONDS = 0.25


def split_treble(audio: np.ndarray) -> np.ndarray:
    """Returns the frequencies above about 200 Hz, in which hum and rumble hide no click."""
    return audio - ndimage.uniform_filter1d(audio, round(BASS_SECONDS * SAMPLE_RATE))


def compare_levels(treble: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the level of each frame, and the usual level around it, both `(frames,)`.

    The usual level is the median over a quarter of a second, on which impulses have no influence
    until they fill half of that time. Samples after the last whole frame are ignored.

    Args:
        treble: At least `FRAME` samples of the result of `split_treble`.
    """
    frames = len(treble) // FRAME
    framed = treble[:frames * FRAME].reshape(frames, FRAME)
    level = np.sqrt(np.einsum("ij,ij->i", framed, framed) / FRAME)
    blocks = max(1, round(frames * FRAME / (AROUND_SECONDS * SAMPLE_RATE)))
    medians = [np.median(block) for block in np.array_split(level, blocks)]
    centres = (np.arange(blocks) + 0.5) * (frames / blocks)
    return level, np.interp(np.arange(frames) + 0.5, centres, medians)
