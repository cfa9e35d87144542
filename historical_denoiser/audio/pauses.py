"""Finds where a recording holds noise alone, by what a network leaves of it there.

In the groove before a tune, or between two words, a network removes most of what it hears. What is
heard there tells more of the noise than what is removed beside sound, which lacks what the sound
hid.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from historical_denoiser.audio import bands, dsp
from historical_denoiser.audio.removal import Pair
from historical_denoiser.audio.survey import as_channels

FRAME_SECONDS = 0.05
MIN_HZ = 22.1  # of the octaves: the edges are 44, 88, 177, ... Hz
MIN_DROP_DB = 6.0  # of what is left in a pause, below what is removed
MIN_SECONDS = 0.5  # of a pause
MIN_TOTAL_SECONDS = 1.0  # of all pauses together
# Most by which the noise of a pause is louder or softer than what is removed elsewhere: tape
# leader has none of the tape's noise, and the run-in of some discs has more than the disc's.
USUAL_DB = 6.0
FLOOR = 1e-6  # of a frame's power, below which an octave holds nothing


def noise_alone(pairs: list[Pair], sample_rate: int, highpass_hz: float) -> np.ndarray | None:
    """Returns what is heard in the pauses of a recording, `(samples, channels)`.

    In a pause, what is left lies below what is removed in all, so that no loud note is taken for
    noise, and in the mean over octaves in dB, so that rumble does not hide soft music.

    Args:
        pairs: Stretches of it, and the noise that was found in each, `(samples[, channels])`.
        sample_rate: In Hz.
        highpass_hz: Below this nothing is compared, as all of it is removed.

    Returns:
        The pauses, one after the other; None where there are too few.
    """
    frame = max(2, round(FRAME_SECONDS * sample_rate))
    powers = [(_powers(noise, frame, sample_rate, highpass_hz),
               _powers(heard - noise, frame, sample_rate, highpass_hz)) for heard, noise in pairs]
    removed = np.concatenate([noise.sum(axis=1) for noise, _ in powers])
    if not removed.any():
        return None
    usual = np.median(removed[removed > 0.0])
    found = []
    for (heard, _), (noise, left) in zip(pairs, powers, strict=True):
        level = noise.sum(axis=1)
        floor = FLOOR * (noise + left).sum(axis=1, keepdims=True) + np.finfo(np.float64).tiny
        quiet = ((_decibels(left.sum(axis=1), level) < -MIN_DROP_DB)
                 & (_decibels(left + floor, noise + floor).mean(axis=1) < -MIN_DROP_DB))
        edges = np.flatnonzero(np.diff(quiet, prepend=False, append=False))
        for start, end in pairwise(edges):
            if (quiet[start] and (end - start) * FRAME_SECONDS >= MIN_SECONDS
                    and abs(_decibels(np.median(level[start:end]), usual)) <= USUAL_DB):
                found.append(as_channels(heard)[start * frame : end * frame])
    if sum(map(len, found)) < MIN_TOTAL_SECONDS * sample_rate:
        return None
    return np.concatenate(found)


def is_leader(noise: np.ndarray, pairs: list[Pair], sample_rate: int, highpass_hz: float) -> bool:
    """Returns whether noise that lies alone is much quieter than what is removed elsewhere.

    So it is before the needle is set down, or on a tape's leader.

    Args:
        noise: `(samples, channels)`.
        pairs: See `noise_alone`.
        sample_rate: In Hz.
        highpass_hz: See `noise_alone`.
    """
    frame = max(2, round(FRAME_SECONDS * sample_rate))
    removed = np.concatenate([_powers(found, frame, sample_rate, highpass_hz).sum(axis=1)
                              for _, found in pairs])
    level = np.median(_powers(noise, frame, sample_rate, highpass_hz).sum(axis=1))
    return bool(_decibels(level, np.median(removed[removed > 0.0])) < -USUAL_DB)


def _powers(audio: np.ndarray, frame: int, sample_rate: int, highpass_hz: float) -> np.ndarray:
    """Returns the power of all channels in each whole frame and octave, `(frames, octaves)`."""
    whole = len(audio) // frame * frame
    high = dsp.highpass(as_channels(audio).T, highpass_hz, sample_rate)[:, :whole]
    powers = dsp.power_spectra(high.reshape(len(high), -1, frame)).sum(axis=0, dtype=np.float64)
    frequencies = np.maximum(np.arange(powers.shape[1]) * sample_rate / frame, MIN_HZ)
    octaves = np.log2(frequencies / MIN_HZ).astype(int)
    return bands.powers(powers, np.append(np.unique(octaves, return_index=True)[1], len(octaves)))


def _decibels(power: np.ndarray, reference: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):  # digital silence is no pause
        return dsp.decibels(power / reference)
