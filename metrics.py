"""Measures of denoising quality. NumPy waveforms `(samples,)` in, plain numbers out."""

from __future__ import annotations

import numpy as np

import dsp

LSD_WIN_SIZE = 2048
LSD_HOP_SIZE = 512
LSD_RANGE_DB = 80.0  # below the recording's peak, what a listener might still hear


def snr_db(clean: np.ndarray, estimate: np.ndarray) -> float:
    """Signal-to-noise ratio of `estimate` in dB; all that differs from `clean` is noise."""
    error = dsp.power(estimate - clean)
    return dsp.decibels(dsp.power(clean) / error) if error > 0.0 else float("inf")


def si_sdr_db(clean: np.ndarray, estimate: np.ndarray) -> float:
    """Scale-invariant signal-to-distortion ratio in dB (Le Roux et al. 2019, eq. 5)."""
    reference = clean - clean.mean(dtype=np.float64)
    heard = estimate - estimate.mean(dtype=np.float64)
    target = np.dot(heard, reference) / np.dot(reference, reference) * reference
    error = np.dot(heard - target, heard - target)
    return dsp.decibels(np.dot(target, target) / error) if error > 0.0 else float("inf")


def log_spectral_distance_db(clean: np.ndarray, estimate: np.ndarray) -> float:
    """Log-spectral distance in dB: root mean square over bins, mean over frames.

    Levels are floored at `LSD_RANGE_DB` below the clean peak, so that digital silence does not
    decide the result (Gray and Markel 1976, with a floor).
    """
    spectra = dsp.stft(np.stack([clean, estimate]), LSD_WIN_SIZE, LSD_HOP_SIZE)
    powers = np.sum(spectra.astype(np.float64) ** 2, axis=-1)
    floor = powers[0].max() * 10.0 ** (-LSD_RANGE_DB / 10.0) + np.finfo(np.float64).tiny
    levels = 10.0 * np.log10(np.maximum(powers, floor))
    return float(np.mean(np.sqrt(np.mean((levels[0] - levels[1]) ** 2, axis=-1))))


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Pearson's correlation of two waveforms; 0 where one is constant."""
    scale = np.sqrt(dsp.power(one) * dsp.power(other))
    if scale == 0.0:
        return 0.0
    product = np.mean((one - one.mean(dtype=np.float64)) * (other - other.mean(dtype=np.float64)))
    return float(product / scale)


def judge(clean: np.ndarray, noisy: np.ndarray, denoised: np.ndarray) -> dict[str, float]:
    """Measures one denoised mixture.

    Args:
        clean: Target.
        noisy: Input.
        denoised: Output.

    Returns:
        `snr_gain_db`, `si_sdr_db`, `lsd_db`, `lsd_gain_db` (how much nearer to the target),
        `energy_db` (output over target) and `residual_correlation` (what was removed with the
        clean target: how much of the signal went with the noise).
    """
    lsd = log_spectral_distance_db(clean, denoised)
    return {
        "snr_gain_db": snr_db(clean, denoised) - snr_db(clean, noisy),
        "si_sdr_db": si_sdr_db(clean, denoised),
        "lsd_db": lsd,
        "lsd_gain_db": log_spectral_distance_db(clean, noisy) - lsd,
        "energy_db": dsp.decibels(dsp.power(denoised) / dsp.power(clean)),
        "residual_correlation": correlation(noisy - denoised, clean),
    }
