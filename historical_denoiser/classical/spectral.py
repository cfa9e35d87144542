"""Reduces noise bin by bin with the log-spectral amplitude estimator of Ephraim and Malah.

It needs neither training nor weights, and serves as the baseline for networks. The noise in each
bin is estimated from its minimum over a few seconds (minimum statistics: Martin, "Noise power
spectral density estimation based on optimal smoothing and minimum statistics", 2001), or given by a
noise profile. Start reading at `suppress`.
"""

import functools
from collections.abc import Sequence

import numpy as np
import scipy

from historical_denoiser.audio import dsp
from historical_denoiser.audio.dsp import SAMPLE_RATE, StftConfig
from historical_denoiser.audio.noise_profile import ProfileForm

PRIOR_SMOOTHING = 0.98  # decision-directed estimate (Ephraim and Malah 1984, eq. 51)
MIN_PRIOR_SNR = 10.0 ** (-25.0 / 10.0)
MAX_POSTERIOR_SNR = 10.0 ** (60.0 / 10.0)
SMOOTHED_SECONDS = 0.25  # averaging of the power before its minimum is taken
SMOOTHED_BINS = 3
MINIMUM_SECONDS = 6.0  # window of the minimum, half of it before each frame
BROAD_BINS = 61  # range over which noise changes little, 1.3 kHz
THINNED_FRAMES = 16
CALIBRATION_SECONDS = 10.0
# Lower limit of powers, far below the resolution of 24 bits; without noise, gains are 1.
TINY_POWER = 1e-14


def suppress(spectra: np.ndarray, settings: StftConfig, noise_power: np.ndarray | None = None,
             ) -> np.ndarray:
    """Estimates the clean spectra (Ephraim and Malah 1985, eq. 20).

    Args:
        spectra: `(batch, frames, bins, 2)`, real and imaginary parts.
        settings: Transform of the spectra, at 44.1 kHz.
        noise_power: Mean |N|^2 of each bin, `(bins,)`; estimated from the spectra if None.

    Returns:
        float32 array of the same shape; each bin has a new magnitude and its former phase.
    """
    gains = [_gains(power, find_noise(power, settings) if noise_power is None
                    else np.broadcast_to(noise_power, power.shape))
             for power in dsp.power_of_bins(spectra, np.float64)]
    return (spectra * np.stack(gains)[..., None]).astype(np.float32)


def restore_spectra(inputs: np.ndarray | Sequence[np.ndarray], settings: StftConfig) -> np.ndarray:
    """Calls `suppress` with the arguments of a network that takes noise profiles.

    Args:
        inputs: Spectra; or the list of spectra and profiles `(batch, 1, bins, 2)`, measured by
            `ProfileForm.measure` without compression. A profile of zeros means that there is none.
        settings: As in `suppress`.
    """
    if isinstance(inputs, np.ndarray):
        return suppress(inputs, settings)
    form = ProfileForm(settings, 1.0)
    return np.concatenate([
        suppress(spectra[None], settings, form.mean_power(profile[0]) if profile.any() else None)
        for spectra, profile in zip(*inputs, strict=True)])


def find_noise(power: np.ndarray, settings: StftConfig) -> np.ndarray:
    """Estimates the power of the noise in each bin by minimum statistics, `(frames, bins)`.

    A minimum lies below the mean. The ratio is measured on white Gaussian noise that passes through
    the same transform.

    Args:
        power: |X|^2, `(frames, bins)`.
        settings: The transform.
    """
    return (_minima(power, settings.win_size, settings.hop_size)
            / _share_of_white_noise(settings.win_size, settings.hop_size))


def _minima(power: np.ndarray, win_size: int, hop_size: int) -> np.ndarray:
    smoothed, sought = (2 * round(0.5 * seconds * SAMPLE_RATE / hop_size) + 1
                        for seconds in (SMOOTHED_SECONDS, MINIMUM_SECONDS))
    # Frames that reach beyond an end of the waveform hold less noise.
    partial = win_size // hop_size - 1
    edge = partial if len(power) > 2 * partial else 0
    smooth = scipy.ndimage.uniform_filter(power[edge:len(power) - edge], (smoothed, SMOOTHED_BINS),
                                          mode="reflect")
    lowest = scipy.ndimage.minimum_filter1d(smooth, sought, axis=0, mode="nearest")
    # A held note is a narrow line, unlike noise, so a median over bins removes it. Minima change
    # slowly.
    broad = scipy.ndimage.median_filter(lowest[::THINNED_FRAMES], (1, BROAD_BINS), mode="nearest")
    broad = np.repeat(broad, THINNED_FRAMES, axis=0)[:len(lowest)]
    found = np.maximum(np.minimum(lowest, broad), 0.0)  # rounding may make a sum negative
    return np.pad(found, [(edge, edge), (0, 0)], mode="edge")


@functools.lru_cache(maxsize=8)
def _share_of_white_noise(win_size: int, hop_size: int) -> float:
    """Returns the mean of `_minima` of white noise relative to its power."""
    white = np.random.default_rng(0).standard_normal(round(CALIBRATION_SECONDS * SAMPLE_RATE))
    power = dsp.power_of_bins(dsp.stft(white, win_size, hop_size))
    return float(np.mean(_minima(power, win_size, hop_size)) / np.mean(power))


def _gains(power: np.ndarray, noise_power: np.ndarray) -> np.ndarray:
    """Returns the gain of each bin from its a priori and a posteriori SNR, `(frames, bins)`."""
    gains = np.ones_like(power)
    estimate = None
    for frame, (noisy, noise) in enumerate(zip(power, noise_power, strict=True)):
        noise = np.maximum(noise, TINY_POWER)
        posterior = np.minimum(noisy / noise, MAX_POSTERIOR_SNR)
        now = np.maximum(posterior - 1.0, 0.0)
        before = now if estimate is None else estimate / noise
        prior = PRIOR_SMOOTHING * before + (1.0 - PRIOR_SMOOTHING) * now
        gains[frame] = _log_spectral_gain(np.maximum(prior, MIN_PRIOR_SNR), posterior)
        estimate = gains[frame] ** 2 * noisy
    return gains


def _log_spectral_gain(prior: np.ndarray, posterior: np.ndarray) -> np.ndarray:
    share = prior / (1.0 + prior)  # gain of the Wiener filter
    # The integral diverges at zero; a lower limit of 1e-10 makes no difference.
    integral = scipy.special.exp1(np.maximum(share * posterior, 1e-10))
    return np.minimum(share * np.exp(0.5 * integral), 1.0)
