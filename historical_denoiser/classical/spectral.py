"""Lowers noise bin by bin: the log-spectral amplitude estimator of Ephraim and Malah, and a filter.

No training, no weights. The noise is taken for what each bin falls back to within a few seconds
(minimum statistics: Martin, "Noise power spectral density estimation based on optimal smoothing
and minimum statistics", 2001), or is told by a profile. The estimator is the yardstick by which
networks are judged; the filter joins in with a network, which tells it the noise.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import numpy as np
import scipy

from historical_denoiser.audio import dsp
from historical_denoiser.audio.dsp import SAMPLE_RATE, StftConfig
from historical_denoiser.audio.noise_profile import ProfileForm

PRIOR_SMOOTHING = 0.98  # of the decision-directed estimate (Ephraim and Malah 1984, eq. 51)
FILTER_SMOOTHING = 0.95  # of the same, forwards and backwards
# Of what is written, beside a network that is told the noise, and one that is not,
TOLD_SHARE, UNTOLD_SHARE = 0.25, 0.5
# where the filter leaves the larger share of the power that is heard. Where it leaves the smaller,
# as in pauses, its own share is this; in between it goes by the logarithm of what is left.
LARGEST_SHARE, LEFT_SHARES = 0.75, (0.5, 0.1)
LEFT_FRAMES = 9  # over which that is averaged: 0.1 s
LARGEST_LIFT = 3.0  # of a network's magnitudes by a filter that joins in
JOINED_SECONDS = 4.0  # over which what a network removes is averaged: half lies within its context
LARGEST_TOLD = 4.0  # noise power that a profile tells, relative to what is removed around there
SMALLEST_PRIOR_SNR = 10.0 ** (-25.0 / 10.0)
LARGEST_POSTERIOR_SNR = 10.0 ** (60.0 / 10.0)
SMOOTHED_SECONDS = 0.25  # over which power is averaged before its minimum is taken
SMOOTHED_BINS = 3
MINIMUM_SECONDS = 6.0  # in which the minimum is sought, half of it before each frame
BROAD_BINS = 61  # over which noise changes little: 1.3 kHz
THINNED_FRAMES = 16
CALIBRATION_SECONDS = 10.0
# Far under the 24 bits of a file; without noise nothing is lowered.
TINY_POWER = 1e-14


def suppress(spectra: np.ndarray, settings: StftConfig, noise_power: np.ndarray | None = None,
             ) -> np.ndarray:
    """Estimates the clean spectra (Ephraim and Malah 1985, eq. 20).

    Args:
        spectra: `(batch, frames, bins, 2)`, real and imaginary parts.
        settings: Of the transform that they come from, at 44.1 kHz.
        noise_power: Mean |N|^2 of each bin, `(bins,)`; found in the spectra themselves when
            absent.

    Returns:
        float32 array of the same shape: each bin with a gain, and the phase that it had.
    """
    powers = _power(spectra)
    gains = [_gains(power, find_noise(power, settings) if noise_power is None
                    else np.broadcast_to(noise_power, power.shape), _log_spectral_gain,
                    PRIOR_SMOOTHING) for power in powers]
    return (spectra * np.stack(gains)[..., None]).astype(np.float32)


def restore_spectra(inputs: np.ndarray | Sequence[np.ndarray], settings: StftConfig) -> np.ndarray:
    """Does what `suppress` does, with the arguments of a network that takes noise profiles.

    Args:
        inputs: Spectra; or the list of these and a profile, `(batch, 1, bins, 2)`, of
            `ProfileForm.measure` without compression. Zeros stand for no profile.
        settings: See `suppress`.
    """
    if not isinstance(inputs, (list, tuple)):
        return suppress(inputs, settings)
    form = ProfileForm(settings, 1.0)
    return np.concatenate([
        suppress(spectra[None], settings, form.mean_power(profile[0]) if profile.any() else None)
        for spectra, profile in zip(*inputs, strict=True)])


def join_filter(predict: Callable[..., np.ndarray], form: ProfileForm) -> Callable[..., np.ndarray]:
    """Returns what predicts as a network does, with a Wiener filter: a weighted mean of both.

    The network knows what music and speech are, the filter how much noise there is: from a profile
    as far as the network removes as much around there, or else from what it removes, in the mean
    over some seconds. A mean of both is better than either (docs/lab/filter.md), with more of
    the filter in pauses; it is at most three times what the network returns.

    Args:
        predict: Takes spectra `(batch, frames, bins, 2)`, or the list of these and profiles,
            `(batch, 1, bins, 2)`, where zeros stand for no profile.
        form: Of the spectra and profiles.
    """
    def join(inputs: np.ndarray | Sequence[np.ndarray]) -> np.ndarray:
        spectra, profiles = inputs if isinstance(inputs, (list, tuple)) else (inputs, None)
        estimates = predict(inputs)
        joined = np.empty_like(estimates)
        for number, (heard, estimate) in enumerate(zip(spectra, estimates, strict=True)):
            noise_power = _slow_mean(_power(heard - estimate), form.stft.hop_size)
            is_told = profiles is not None and np.any(profiles[number])
            if is_told:
                # Noise comes and goes: where there is little of it, a profile tells too much.
                noise_power = np.minimum(form.mean_power(profiles[number, 0]),
                                         LARGEST_TOLD * noise_power)
            filtered = filter_noise(heard, noise_power)
            share = _filter_share(heard, filtered, TOLD_SHARE if is_told else UNTOLD_SHARE)
            both = estimate + share * (filtered - estimate)
            # What the network removes almost wholly, as a click, the filter does not bring back.
            limit = LARGEST_LIFT * np.sqrt(_power(estimate) / np.maximum(_power(both), TINY_POWER))
            joined[number] = both * np.minimum(limit, 1.0)[..., None]
        return joined

    return join


def _filter_share(heard: np.ndarray, filtered: np.ndarray, least: float) -> np.ndarray:
    """Returns the filter's share in each frame of `(frames, bins, 2)`: `(frames, 1, 1)`, float32.

    Where there is noise alone, a network may leave what it takes for sound, and the filter, which
    knows its level, lowers that too.
    """
    before, after = (scipy.ndimage.uniform_filter1d(_power(each).sum(axis=1), LEFT_FRAMES)
                     for each in (heard, filtered))
    left = np.maximum(after, TINY_POWER) / np.maximum(before, TINY_POWER)
    much, little = np.log(LEFT_SHARES)
    place = np.clip((np.log(left) - much) / (little - much), 0.0, 1.0)
    return (least + (LARGEST_SHARE - least) * place)[:, None, None].astype(np.float32)


def filter_noise(spectra: np.ndarray, noise_power: np.ndarray) -> np.ndarray:
    """Returns spectra `(frames, bins, 2)`, each bin with the gain of a Wiener filter, float32.

    The SNR before each frame is estimated by the decision-directed approach forwards in time and
    backwards; the mean of both gains keeps beginnings and endings alike.

    Args:
        spectra: Real and imaginary parts.
        noise_power: Mean |N|^2 of each bin, `(bins,)` or `(frames, bins)`.
    """
    power = _power(spectra)
    noise = np.broadcast_to(noise_power, power.shape)
    gains = 0.5 * (_gains(power, noise, _wiener_gain, FILTER_SMOOTHING)
                   + _gains(power[::-1], noise[::-1], _wiener_gain, FILTER_SMOOTHING)[::-1])
    return (spectra * gains[..., None]).astype(np.float32)


def _power(spectra: np.ndarray) -> np.ndarray:
    return dsp.power_of_bins(spectra, np.float64)


def _slow_mean(power: np.ndarray, hop_size: int) -> np.ndarray:
    frames = 2 * round(0.5 * JOINED_SECONDS * SAMPLE_RATE / hop_size) + 1
    # A running sum may end below zero.
    return np.maximum(scipy.ndimage.uniform_filter1d(power, frames, axis=0, mode="reflect"), 0.0)


def find_noise(power: np.ndarray, settings: StftConfig) -> np.ndarray:
    """Returns the power of the noise in each bin by minimum statistics, `(frames, bins)`.

    A minimum lies under the mean. By how much is measured on white Gaussian noise, which passes
    through the same transform.

    Args:
        power: |X|^2, `(frames, bins)`.
        settings: Of the transform.
    """
    return (_minima(power, settings.win_size, settings.hop_size)
            / _share_of_white_noise(settings.win_size, settings.hop_size))


def _minima(power: np.ndarray, win_size: int, hop_size: int) -> np.ndarray:
    smoothed, sought = (2 * round(0.5 * seconds * SAMPLE_RATE / hop_size) + 1
                        for seconds in (SMOOTHED_SECONDS, MINIMUM_SECONDS))
    # Windows that reach beyond an end of the sound hear less of the noise.
    partial = win_size // hop_size - 1
    edge = partial if len(power) > 2 * partial else 0
    smooth = scipy.ndimage.uniform_filter(power[edge:len(power) - edge], (smoothed, SMOOTHED_BINS),
                                          mode="reflect")
    lowest = scipy.ndimage.minimum_filter1d(smooth, sought, axis=0, mode="nearest")
    # A note that is held through is a line, noise is not. The minima change slowly.
    broad = scipy.ndimage.median_filter(lowest[::THINNED_FRAMES], (1, BROAD_BINS), mode="nearest")
    broad = np.repeat(broad, THINNED_FRAMES, axis=0)[:len(lowest)]
    found = np.maximum(np.minimum(lowest, broad), 0.0)  # a running sum may end below zero
    return np.pad(found, [(edge, edge), (0, 0)], mode="edge")


@functools.lru_cache(maxsize=8)
def _share_of_white_noise(win_size: int, hop_size: int) -> float:
    """Returns the mean of `_minima` of white noise, relative to its power."""
    white = np.random.default_rng(0).standard_normal(round(CALIBRATION_SECONDS * SAMPLE_RATE))
    power = dsp.power_of_bins(dsp.stft(white, win_size, hop_size))
    return float(np.mean(_minima(power, win_size, hop_size)) / np.mean(power))


def _gains(power: np.ndarray, noise_power: np.ndarray,
           gain_of: Callable[[np.ndarray, np.ndarray], np.ndarray], smoothing: float) -> np.ndarray:
    """Returns the gain of each bin, from its SNR before (a priori) and in each frame."""
    gains = np.ones_like(power)
    estimate = None
    for frame, (heard, noise) in enumerate(zip(power, noise_power, strict=True)):
        noise = np.maximum(noise, TINY_POWER)
        posterior = np.minimum(heard / noise, LARGEST_POSTERIOR_SNR)
        now = np.maximum(posterior - 1.0, 0.0)
        before = now if estimate is None else estimate / noise
        prior = smoothing * before + (1.0 - smoothing) * now
        gains[frame] = gain_of(np.maximum(prior, SMALLEST_PRIOR_SNR), posterior)
        estimate = gains[frame] ** 2 * heard
    return gains


def _wiener_gain(prior: np.ndarray, posterior: np.ndarray) -> np.ndarray:
    return prior / (1.0 + prior)


def _log_spectral_gain(prior: np.ndarray, posterior: np.ndarray) -> np.ndarray:
    wiener = prior / (1.0 + prior)
    # The integral grows without limit as nothing is heard; so little is no matter.
    integral = scipy.special.exp1(np.maximum(wiener * posterior, 1e-10))
    return np.minimum(wiener * np.exp(0.5 * integral), 1.0)
