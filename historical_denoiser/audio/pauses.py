"""Finds the pauses in which a recording contains only noise, from the network's noise estimate.

In the groove before a tune, or between two words, the network removes most of the recording. Such
pauses show the noise better than the estimate beside sound, which lacks the noise that the sound
masked. Start reading at `noise_alone`.
"""

import numpy as np

from historical_denoiser.audio import bands, dsp
from historical_denoiser.audio.removal import Pair
from historical_denoiser.audio.silence import find_runs
from historical_denoiser.audio.survey import as_channels

FRAME_SECONDS = 0.05
MIN_HZ = 22.1  # lower edge of the octaves; the next edges are 44, 88, 177, ... Hz
MIN_DROP_DB = 6.0  # from the noise estimate to the restored sound in a pause
MIN_SECONDS = 0.5  # of a pause
MIN_TOTAL_SECONDS = 1.0  # of all pauses together
# Largest difference between the noise of a pause and the noise estimate elsewhere: leader tape is
# without the tape's noise, and the run-in of some discs is noisier than the disc.
USUAL_DB = 6.0
FLOOR = 1e-6  # of a frame's power; quieter octaves count as empty


def noise_alone(pairs: list[Pair], sample_rate: int, highpass_hz: float) -> np.ndarray | None:
    """Returns the waveform of the pauses in a recording, `(samples, channels)`.

    In a pause, the restored sound is below the noise estimate both in total power, so that no loud
    note is taken for noise, and in the mean of levels in dB over octaves, so that rumble does not
    mask soft music.

    Args:
        pairs: Excerpts, each with its noise estimate, `(samples[, channels])`.
        sample_rate: In Hz.
        highpass_hz: Lower frequencies are ignored, as all of them are removed.

    Returns:
        The pauses, one after the other; None if there are too few.
    """
    frame = max(2, round(FRAME_SECONDS * sample_rate))
    powers = [(frame_powers(noise, frame, sample_rate, highpass_hz),
               frame_powers(recording - noise, frame, sample_rate, highpass_hz))
              for recording, noise in pairs]
    removed = np.concatenate([noise.sum(axis=1) for noise, _ in powers])
    if not removed.any():
        return None
    usual = np.median(removed[removed > 0.0])
    found = []
    for (recording, _), (noise, left) in zip(pairs, powers, strict=True):
        level = noise.sum(axis=1)
        for start, end in find_runs(is_pause(noise, left)):
            if ((end - start) * FRAME_SECONDS >= MIN_SECONDS
                    and abs(_decibels(np.median(level[start:end]), usual)) <= USUAL_DB):
                found.append(as_channels(recording)[start * frame : end * frame])
    if sum(map(len, found)) < MIN_TOTAL_SECONDS * sample_rate:
        return None
    return np.concatenate(found)


def is_pause(noise: np.ndarray, left: np.ndarray) -> np.ndarray:
    """Returns which frames belong to pauses; see `noise_alone`.

    Args:
        noise, left: Results of `frame_powers` for the noise estimate and for the restored sound.

    Returns:
        `(frames,)`, False for digital silence.
    """
    floor = FLOOR * (noise + left).sum(axis=1, keepdims=True) + np.finfo(np.float64).tiny
    return ((_decibels(left.sum(axis=1), noise.sum(axis=1)) < -MIN_DROP_DB)
            & (_decibels(left + floor, noise + floor).mean(axis=1) < -MIN_DROP_DB))


def frame_powers(audio: np.ndarray, frame: int, sample_rate: int, highpass_hz: float) -> np.ndarray:
    """Returns the power in each complete frame and octave, `(frames, octaves)`.

    Args:
        audio: `(samples,)` or `(samples, channels)`; the powers of all channels are added.
        frame: Length of a frame in samples; frames do not overlap.
        sample_rate: Sample rate in Hz.
        highpass_hz: Cutoff of a high-pass filter before the measurement.
    """
    whole = len(audio) // frame * frame
    high = dsp.highpass(as_channels(audio).T, highpass_hz, sample_rate)[:, :whole]
    powers = dsp.power_spectra(high.reshape(len(high), -1, frame)).sum(axis=0, dtype=np.float64)
    frequencies = np.maximum(np.arange(powers.shape[1]) * sample_rate / frame, MIN_HZ)
    octaves = np.log2(frequencies / MIN_HZ).astype(int)
    return bands.powers(powers, np.append(np.unique(octaves, return_index=True)[1], len(octaves)))


def _decibels(power: np.ndarray, reference: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):  # digital silence gives NaN: no pause
        return dsp.decibels(power / reference)
