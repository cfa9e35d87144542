"""Measures of denoising quality. NumPy waveforms `(samples,)` in, plain numbers out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable

import numpy as np

import dsp
from dataset_loader import Mixture

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


def judge_mixtures(predict: Callable[[np.ndarray], np.ndarray], mixtures: Iterable[Mixture],
                   ) -> list[dict[str, float | str]]:
    """Denoises mixtures, and their clean and noise sides alone, and measures all three.

    Args:
        predict: Takes and returns waveforms `(batch, samples)`.
        mixtures: What is denoised.

    Returns:
        For each mixture its `category`, `noise` and `input_snr_db`, the measures of `judge`,
        `clean_si_sdr_db` (what is left of clean input) and `noise_left_db` (output over input
        where the input is noise alone).
    """
    rows = []
    for mixture in mixtures:
        noise = mixture.noisy - mixture.clean
        noisy_out, clean_out, noise_out = predict(np.stack([mixture.noisy, mixture.clean, noise]))
        rows.append({
            "category": mixture.category,
            "noise": mixture.noise,
            "input_snr_db": mixture.snr_db,
            **judge(mixture.clean, mixture.noisy, noisy_out),
            "clean_si_sdr_db": si_sdr_db(mixture.clean, clean_out),
            "noise_left_db": dsp.decibels(dsp.power(noise_out) / dsp.power(noise)),
        })
    return rows


def average(rows: list[dict[str, float | str]]) -> dict[str, float]:
    """Averages the measures of `judge_mixtures`.

    Returns:
        The mean of each measure, and that of `snr_gain_db` for each category
        (`snr_gain_db_music`) and each input SNR (`snr_gain_db_at_10`).
    """
    found: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        for name, value in row.items():
            if name not in ("category", "noise", "input_snr_db"):
                found[name].append(value)
        found[f"snr_gain_db_{row['category']}"].append(row["snr_gain_db"])
        found[f"snr_gain_db_at_{row['input_snr_db']:g}"].append(row["snr_gain_db"])
    return {name: float(np.mean(values)) for name, values in found.items()}
