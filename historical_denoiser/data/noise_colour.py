"""Changes the colour and the speed of noise and of clean audio."""

import functools

import numpy as np
import scipy.fft

from historical_denoiser.audio import dsp
from historical_denoiser.audio.dsp import SAMPLE_RATE

KNOTS_HZ = 40.0 * 2.0 ** np.arange(10)
MIN_COUNTED = 1e-4  # at least this share of the power counts in an SNR; bounds the gain


def shape_noise(noise: np.ndarray, spread_db: float, highpass_hz: float, rng: np.random.Generator,
                samples: int | None = None, snr_highpass_hz: float = 0.0,
                more: int = 0) -> np.ndarray:
    """Gives noise a smooth random colour, a high-pass filter, another speed and a power of 1.

    With random colours, few recordings imitate the noise of many discs. The filters are applied to
    the spectrum of the whole stretch, as if the noise were periodic.

    Args:
        noise: Array of any length.
        spread_db: Standard deviation of the gains of the colour, one in each octave from 40 Hz.
        highpass_hz: Cutoff of a `dsp.highpass` filter.
        rng: Draws the colour.
        samples: Length of the result, that of `noise` when absent. Noise of another length is
            played as much faster or slower, and so higher or lower, as is needed.
        snr_highpass_hz: The power is that above this frequency, which is the one that counts in an
            SNR. With 0 it is the power of all the noise, also of what `highpass_hz` removes.
        more: Number of samples at the end that are left out of the power.

    Returns:
        float32 array `(samples,)`.

    Raises:
        ValueError: `noise` is silent.
    """
    samples, removed, counted = samples or len(noise), 0.0, 0.0
    cutoffs_hz = (highpass_hz, snr_highpass_hz)
    if spread_db > 0.0 or max(cutoffs_hz) > 0.0 or samples != len(noise):
        size = scipy.fft.next_fast_len(samples, real=True)
        spectrum = _transform(noise, samples, size)
        if spread_db > 0.0:
            spectrum *= _draw_colour(size, spread_db, rng)
        if max(cutoffs_hz) > 0.0:
            # In all bins above `low` the gains of both filters are 1.
            low = slice(1, round(2.0 * max(cutoffs_hz) * size / SAMPLE_RATE))
            power = 2.0 * np.abs(spectrum[low]) ** 2 / (size * samples)
            kept, counts = (dsp.highpass_gain(hz, SAMPLE_RATE, size)[low] ** 2 if hz > 0.0
                            else 1.0 for hz in cutoffs_hz)
            removed = float(np.sum(power * (1.0 - kept)))
            counted = float(np.sum(power * (counts - kept)))  # relative to the power that is kept
        if highpass_hz > 0.0:
            spectrum *= dsp.highpass_gain(highpass_hz, SAMPLE_RATE, size)
        noise = scipy.fft.irfft(spectrum, size, overwrite_x=True)[:samples]
    power = dsp.power(noise[: samples - more])
    power = max(power + counted, MIN_COUNTED * (power + removed))
    if power <= 0.0:
        raise ValueError("`noise` must not be silent: no gain reaches the requested SNR.")
    return (noise * np.float32(1.0 / np.sqrt(power))).astype(np.float32, copy=False)


def vary(audio: np.ndarray, samples: int, spread_db: float, rng: np.random.Generator,
         ) -> np.ndarray:
    """Returns `audio` with a random colour, played at the speed at which it lasts `samples`.

    Args:
        audio: Array of any length.
        samples: Length of the result, which is float32.
        spread_db: As in `shape_noise`.
        rng: Draws the colour.
    """
    size = scipy.fft.next_fast_len(samples, real=True)
    spectrum = _transform(audio, samples, size)
    if spread_db > 0.0:
        spectrum *= _draw_colour(size, spread_db, rng)
    return scipy.fft.irfft(spectrum, size, overwrite_x=True)[:samples].astype(np.float32,
                                                                              copy=False)


def _transform(audio: np.ndarray, samples: int, size: int) -> np.ndarray:
    """Returns the spectrum, in `size` samples, of `audio` played so that it lasts `samples`."""
    if samples == len(audio):
        return scipy.fft.rfft(audio, size)
    whole = scipy.fft.rfft(audio)
    whole *= np.float32(size / len(audio))
    return dsp.fit_length(whole, size // 2 + 1)


def _draw_colour(size: int, spread_db: float, rng: np.random.Generator) -> np.ndarray:
    """Returns a random gain for each bin of a transform of `size` samples."""
    knots_db = rng.normal(0.0, spread_db, len(KNOTS_HZ))
    knots_db += np.linspace(-1, 1, len(knots_db)) * rng.normal(0.0, spread_db)
    knots = (knots_db * (np.log(10.0) / 20.0)).astype(np.float32)
    index, part = _knot_places(size)
    return np.exp(knots[index] + np.diff(knots)[index] * part)


@functools.lru_cache(maxsize=8)
def _knot_places(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns for each bin the index of the knot below it, and its place between two knots."""
    octaves = np.log2(np.maximum(scipy.fft.rfftfreq(size, 1.0 / SAMPLE_RATE), 1.0) / KNOTS_HZ[0])
    place = np.clip(octaves, 0.0, len(KNOTS_HZ) - 1.001)
    index = place.astype(np.int32)
    return index, (place - index).astype(np.float32)
