"""Ageing of clean audio: what old microphones, amplifiers and cutters made of a sound."""

from __future__ import annotations

import functools

import numpy as np
import scipy

from historical_denoiser.audio.dsp import SAMPLE_RATE, to_gain
from historical_denoiser.data.settings import DsetConfig

HORN_BASS_HZ = (80.0, 250.0)
HORN_RESONANCE_HZ = (250.0, 3500.0)
HORN_RESONANCE_DB = (3.0, 12.0)
HORN_QUALITY = (2.0, 10.0)
DRIVE_DB = (-6.0, 12.0)  # of saturation
BAND_LIMIT_HZ = (3000.0, 14000.0)
BASS_HZ = (60.0, 300.0)
BASS_DB = (3.0, 12.0)
CUTOFFS_PER_OCTAVE = 40
EDGE_SHARE = 0.05  # of a cutoff, within which `cut_above` falls to nothing


def age(clean: np.ndarray, dset: DsetConfig, rng: np.random.Generator) -> np.ndarray:
    """Sends clean audio `(samples,)` through an old chain: bass, horn, saturation, band limit.

    The shares of `dset` say how often each of the four applies.
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
    """Adds the resonances of a recording horn to `audio` and takes its bass away.

    Acoustic recordings hold some 170 to 2,000 Hz well and ring at the horn's air resonances
    (Copeland 2008, on acoustic recordings); each is a second-order peak in parallel.
    """
    bass_hz = _round_cutoff(rng.uniform(*HORN_BASS_HZ))
    heard = scipy.signal.sosfilt(_butterworth(2, bass_hz, "highpass"), audio)
    rung = heard
    for _ in range(int(rng.integers(2, 5))):
        frequency_hz = float(np.exp(rng.uniform(*np.log(HORN_RESONANCE_HZ))))
        gain = to_gain(rng.uniform(*HORN_RESONANCE_DB))
        peak = scipy.signal.iirpeak(frequency_hz, rng.uniform(*HORN_QUALITY), fs=SAMPLE_RATE)
        rung = rung + (gain - 1.0) * scipy.signal.lfilter(*peak, heard)
    return rung.astype(np.float32)


def lift_bass(audio: np.ndarray, corner_hz: float, gain_db: float) -> np.ndarray:
    """Raises all below the corner by `gain_db`, as a tone control does: a first-order shelf.

    H(s) = (s + g w) / (s + w), made discrete by the bilinear transform.
    """
    warped = np.tan(np.pi * corner_hz / SAMPLE_RATE)
    gain = to_gain(gain_db)
    feedforward = [1.0 + gain * warped, gain * warped - 1.0]
    return scipy.signal.lfilter(feedforward, [1.0 + warped, warped - 1.0],
                                audio).astype(np.float32)


def saturate(audio: np.ndarray, drive_db: float) -> np.ndarray:
    """Flattens peaks softly (hyperbolic tangent), the loudest from `drive_db` above the knee."""
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
    """Removes all of `audio` `(samples,)` above `high_hz`, without any shift in phase."""
    size = scipy.fft.next_fast_len(max(len(audio), 1), real=True)
    spectrum = scipy.fft.rfft(audio, size)
    hz = scipy.fft.rfftfreq(size, 1.0 / SAMPLE_RATE)
    above = np.clip((hz - high_hz) / (EDGE_SHARE * high_hz), 0.0, 1.0)
    spectrum *= np.square(np.cos(0.5 * np.pi * above)).astype(np.float32)
    return scipy.fft.irfft(spectrum, size)[: len(audio)].astype(np.float32, copy=False)


@functools.lru_cache(maxsize=512)
def _butterworth(order: int, cutoff_hz: float, kind: str) -> np.ndarray:
    """Returns second-order sections; to design them takes longer than to filter with them."""
    return scipy.signal.butter(order, cutoff_hz, kind, fs=SAMPLE_RATE, output="sos")


def _round_cutoff(hz: float) -> float:
    """Returns `hz` to a fortieth of an octave, so that few filters have to be designed."""
    return float(2.0 ** (np.round(CUTOFFS_PER_OCTAVE * np.log2(hz)) / CUTOFFS_PER_OCTAVE))
