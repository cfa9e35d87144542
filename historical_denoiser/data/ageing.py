"""Ages clean audio as the horns, microphones, amplifiers and cutters of old recordings did."""

import functools

import numpy as np
import scipy

from historical_denoiser.audio.dsp import SAMPLE_RATE, to_gain
from historical_denoiser.data.settings import DsetConfig

HORN_BASS_HZ = (80.0, 250.0)
HORN_RESONANCE_HZ = (250.0, 3500.0)
HORN_RESONANCE_DB = (3.0, 12.0)
HORN_QUALITY = (2.0, 10.0)
DRIVE_DB = (-6.0, 12.0)  # how far peaks exceed the knee of the saturation
BAND_LIMIT_HZ = (3000.0, 14000.0)
BASS_HZ = (60.0, 300.0)
BASS_DB = (3.0, 12.0)
CUTOFFS_PER_OCTAVE = 40
EDGE_SHARE = 0.05  # transition band of `cut_above`, relative to the cutoff


def age(clean: np.ndarray, dset: DsetConfig, rng: np.random.Generator) -> np.ndarray:
    """Ages clean audio by raised bass, a horn, saturation and a band limit.

    Args:
        clean: Waveform `(samples,)`.
        dset: Holds the probability of each of the four.
        rng: Draws which of them apply, and how strongly.
    """
    if dset.share_bass and rng.random() < dset.share_bass:
        clean = lift_bass(clean, float(np.exp(rng.uniform(*np.log(BASS_HZ)))),
                          float(rng.uniform(*BASS_DB)))
    horn, saturated, limited = rng.random(3) < (dset.share_horn, dset.share_saturated,
                                                dset.share_band_limited)
    if horn:
        clean = sound_through_horn(clean, rng)
    if saturated:
        clean = saturate(clean, float(rng.uniform(*DRIVE_DB)))
    if limited:
        clean = limit_band(clean, float(np.exp(rng.uniform(*np.log(BAND_LIMIT_HZ)))))
    return clean


def sound_through_horn(audio: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Adds the resonances of a recording horn to `audio` and removes its bass.

    Acoustic recordings reproduce about 170 to 2,000 Hz well, with air resonances of the horn
    (Copeland 2008, on acoustic recordings). Each resonance is a second-order peak in parallel.
    """
    bass_hz = _round_cutoff(rng.uniform(*HORN_BASS_HZ))
    thin = scipy.signal.sosfilt(_butterworth(2, bass_hz, "highpass"), audio)
    resonant = thin
    for _ in range(int(rng.integers(2, 5))):
        frequency_hz = float(np.exp(rng.uniform(*np.log(HORN_RESONANCE_HZ))))
        gain = to_gain(rng.uniform(*HORN_RESONANCE_DB))
        peak = scipy.signal.iirpeak(frequency_hz, rng.uniform(*HORN_QUALITY), fs=SAMPLE_RATE)
        resonant = resonant + (gain - 1.0) * scipy.signal.lfilter(*peak, thin)
    return resonant.astype(np.float32)


def lift_bass(audio: np.ndarray, corner_hz: float, gain_db: float) -> np.ndarray:
    """Raises low frequencies with a first-order shelving filter.

    Its transfer function is the bilinear transform of H(s) = (s + g w) / (s + w).

    Args:
        audio: Waveform `(samples,)` at 44.1 kHz.
        corner_hz: The frequency w / 2 pi, below which the gain approaches g.
        gain_db: The gain g in dB.
    """
    warped = np.tan(np.pi * corner_hz / SAMPLE_RATE)
    gain = to_gain(gain_db)
    feedforward = [1.0 + gain * warped, gain * warped - 1.0]
    return scipy.signal.lfilter(feedforward, [1.0 + warped, warped - 1.0], audio).astype(np.float32)


def saturate(audio: np.ndarray, drive_db: float) -> np.ndarray:
    """Applies a hyperbolic tangent whose knee is `drive_db` below the highest peak."""
    peak = float(np.max(np.abs(audio)))
    if peak == 0.0:
        return audio
    knee = peak / to_gain(drive_db)
    return (knee * np.tanh(audio / knee)).astype(np.float32)


def limit_band(audio: np.ndarray, high_hz: float) -> np.ndarray:
    """Low-passes `audio` as an old microphone or cutter would (Butterworth, 36 dB an octave)."""
    sections = _butterworth(6, _round_cutoff(high_hz), "lowpass")
    return scipy.signal.sosfilt(sections, audio).astype(np.float32)


def cut_above(audio: np.ndarray, high_hz: float) -> np.ndarray:
    """Removes frequencies above `high_hz` from `audio`, `(samples,)`, with zero phase."""
    size = scipy.fft.next_fast_len(max(len(audio), 1), real=True)
    spectrum = scipy.fft.rfft(audio, size)
    hz = scipy.fft.rfftfreq(size, 1.0 / SAMPLE_RATE)
    above = np.clip((hz - high_hz) / (EDGE_SHARE * high_hz), 0.0, 1.0)
    spectrum *= np.square(np.cos(0.5 * np.pi * above)).astype(np.float32)
    return scipy.fft.irfft(spectrum, size)[: len(audio)].astype(np.float32, copy=False)


@functools.lru_cache(maxsize=512)
def _butterworth(order: int, cutoff_hz: float, kind: str) -> np.ndarray:
    """Returns second-order sections, cached because designing them takes longer than filtering."""
    return scipy.signal.butter(order, cutoff_hz, kind, fs=SAMPLE_RATE, output="sos")


def _round_cutoff(hz: float) -> float:
    """Rounds a frequency to a fortieth of an octave, so that few filters have to be designed."""
    return float(2.0 ** (np.round(CUTOFFS_PER_OCTAVE * np.log2(hz)) / CUTOFFS_PER_OCTAVE))
