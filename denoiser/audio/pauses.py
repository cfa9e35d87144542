"""Finds where a recording holds noise alone, by what a network leaves of it there.

In the groove before a tune, or between two words, a network removes nearly all that it hears. What
is heard there tells more of the noise than what is removed beside sound, which lacks what the
sound hid.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from denoiser.audio import dsp
from denoiser.audio.removal import Pair
from denoiser.audio.survey import as_channels

FRAME_SECONDS = 0.05
LEAST_DROP_DB = 12.0  # of what is left in a pause, below what is removed
SHORTEST_SECONDS = 0.5  # of a pause
LEAST_SECONDS = 1.0  # of all pauses together
# Most by which the noise of a pause is louder or softer than what is removed elsewhere: tape
# leader has none of the tape's noise, and the run-in of some discs has more than the disc's.
USUAL_DB = 6.0


def noise_alone(pairs: list[Pair], sample_rate: int, highpass_hz: float) -> np.ndarray | None:
    """Returns what is heard in the pauses of a recording, `(samples, channels)`.

    Args:
        pairs: Stretches of it, and the noise that was found in each, `(samples[, channels])`.
        sample_rate: In Hz.
        highpass_hz: Below this nothing is compared, as all of it is removed.

    Returns:
        The pauses, one after the other; None where there are too few.
    """
    frame = max(1, round(FRAME_SECONDS * sample_rate))
    powers = [(_powers(noise, frame, sample_rate, highpass_hz),
               _powers(heard - noise, frame, sample_rate, highpass_hz)) for heard, noise in pairs]
    removed = np.concatenate([noise for noise, _ in powers])
    if not removed.any():
        return None
    usual = np.median(removed[removed > 0.0])
    found = []
    for (heard, _), (noise, left) in zip(pairs, powers, strict=True):
        quiet = left < 10.0 ** (-LEAST_DROP_DB / 10.0) * noise
        edges = np.flatnonzero(np.diff(quiet, prepend=False, append=False))
        for start, end in pairwise(edges):
            if quiet[start] and (end - start) * FRAME_SECONDS >= SHORTEST_SECONDS and abs(
                    10.0 * np.log10(np.median(noise[start:end]) / usual)) <= USUAL_DB:
                found.append(as_channels(heard)[start * frame : end * frame])
    if sum(map(len, found)) < LEAST_SECONDS * sample_rate:
        return None
    return np.concatenate(found)


def _powers(audio: np.ndarray, frame: int, sample_rate: int, highpass_hz: float) -> np.ndarray:
    """Returns the mean square of each whole frame, over all channels."""
    whole = len(audio) // frame * frame
    high = dsp.highpass(as_channels(audio).T, highpass_hz, sample_rate)[:, :whole]
    return np.mean(np.square(high.reshape(len(high), -1, frame)), axis=(0, 2), dtype=np.float64)
