"""Reduces noise bin by bin, with the estimator of Ephraim and Malah or a Wiener filter.

Neither needs training or weights. The noise in each bin is estimated from its minimum over a few
seconds (minimum statistics: Martin, "Noise power spectral density estimation based on optimal
smoothing and minimum statistics", 2001), or given by a noise profile. The log-spectral amplitude
estimator serves as the baseline for networks. The filter is combined with a network, which provides
its noise estimate. Start reading at `suppress` and `join_filter`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import numpy as np
import scipy

from historical_denoiser.audio import dsp
from historical_denoiser.audio.dsp import SAMPLE_RATE, StftConfig
from historical_denoiser.audio.noise_profile import ProfileForm

PRIOR_SMOOTHING = 0.98  # decision-directed estimate (Ephraim and Malah 1984, eq. 51)
FILTER_SMOOTHING = 0.95  # the same, in both directions
# Share of the filter in the output, beside a network with and without a profile.
TOLD_SHARE, UNTOLD_SHARE = 0.25, 0.5
# This share holds where the filter keeps the first of `LEFT_SHARES` of the input power, or more.
# Where it keeps the second or less, as in pauses, the share is `MAX_SHARE`; in between it is
# interpolated over the logarithm.
MAX_SHARE, LEFT_SHARES = 0.75, (0.5, 0.1)
LEFT_FRAMES = 9  # averaged over 0.1 s
MAX_LIFT = 3.0  # greatest ratio of the output to the network's magnitudes
# The network's noise estimate is averaged over this time; half of it lies within the context.
JOINED_SECONDS = 4.0
# Greatest ratio of the noise power of a profile to the network's noise estimate nearby.
MAX_TOLD = 4.0
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
    powers = _power(spectra)
    gains = [_gains(power, find_noise(power, settings) if noise_power is None
                    else np.broadcast_to(noise_power, power.shape), _log_spectral_gain,
                    PRIOR_SMOOTHING) for power in powers]
    return (spectra * np.stack(gains)[..., None]).astype(np.float32)


def restore_spectra(inputs: np.ndarray | Sequence[np.ndarray], settings: StftConfig) -> np.ndarray:
    """Calls `suppress` with the arguments of a network that takes noise profiles.

    Args:
        inputs: Spectra; or the list of spectra and profiles `(batch, 1, bins, 2)`, measured by
            `ProfileForm.measure` without compression. A profile of zeros means that there is none.
        settings: As in `suppress`.
    """
    if not isinstance(inputs, (list, tuple)):
        return suppress(inputs, settings)
    form = ProfileForm(settings, 1.0)
    return np.concatenate([
        suppress(spectra[None], settings, form.mean_power(profile[0]) if profile.any() else None)
        for spectra, profile in zip(*inputs, strict=True)])


def join_filter(predict: Callable[..., np.ndarray], form: ProfileForm) -> Callable[..., np.ndarray]:
    """Combines a network with a Wiener filter; the result is a weighted mean of both.

    The network has learned what music and speech are, and the filter knows the noise power. It is
    taken from a profile, limited by what the network removes nearby, or otherwise from what the
    network removes on average over some seconds. A mean of both is better than either
    (docs/lab/filter.md), with more of the filter in pauses. It exceeds the network's output by a
    factor of three at most.

    Args:
        predict: Network: a function of spectra `(batch, frames, bins, 2)`, or of the list of
            spectra and profiles `(batch, 1, bins, 2)`, in which zeros mean that there is no
            profile.
        form: Form of the spectra and profiles.

    Returns:
        A function with the arguments of `predict`.
    """
    def join(inputs: np.ndarray | Sequence[np.ndarray]) -> np.ndarray:
        spectra, profiles = inputs if isinstance(inputs, (list, tuple)) else (inputs, None)
        estimates = predict(inputs)
        joined = np.empty_like(estimates)
        for number, (heard, estimate) in enumerate(zip(spectra, estimates, strict=True)):
            noise_power = _slow_mean(_power(heard - estimate), form.stft.hop_size)
            is_told = profiles is not None and np.any(profiles[number])
            if is_told:
                # Noise comes and goes: where there is less of it, the power from a profile is too
                # high.
                noise_power = np.minimum(form.mean_power(profiles[number, 0]),
                                         MAX_TOLD * noise_power)
            filtered = filter_noise(heard, noise_power)
            share = _filter_share(heard, filtered, TOLD_SHARE if is_told else UNTOLD_SHARE)
            both = estimate + share * (filtered - estimate)
            # The filter must not bring back what the network removes almost completely, such as a
            # click.
            limit = MAX_LIFT * np.sqrt(_power(estimate) / np.maximum(_power(both), TINY_POWER))
            joined[number] = both * np.minimum(limit, 1.0)[..., None]
        return joined

    return join


def _filter_share(heard: np.ndarray, filtered: np.ndarray, least: float) -> np.ndarray:
    """Returns the share of the filter in each frame, float32 `(frames, 1, 1)`.

    Where there is noise alone, a network may leave some that it takes for signal. The filter, which
    knows the noise power, reduces that too.

    Args:
        heard: Input spectra, `(frames, bins, 2)`.
        filtered: Output spectra of the filter, in the same form.
        least: Smallest share.
    """
    before, after = (scipy.ndimage.uniform_filter1d(_power(each).sum(axis=1), LEFT_FRAMES)
                     for each in (heard, filtered))
    left = np.maximum(after, TINY_POWER) / np.maximum(before, TINY_POWER)
    much, little = np.log(LEFT_SHARES)
    place = np.clip((np.log(left) - much) / (little - much), 0.0, 1.0)
    return (least + (MAX_SHARE - least) * place)[:, None, None].astype(np.float32)


def filter_noise(spectra: np.ndarray, noise_power: np.ndarray) -> np.ndarray:
    """Applies a Wiener filter to spectra `(frames, bins, 2)` and returns them as float32.

    The a priori SNR is estimated by the decision-directed approach both forwards and backwards in
    time; the mean of both gains preserves onsets and endings alike.

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
    # The rounding of a running sum may make it negative.
    return np.maximum(scipy.ndimage.uniform_filter1d(power, frames, axis=0, mode="reflect"), 0.0)


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


def _gains(power: np.ndarray, noise_power: np.ndarray,
           gain_of: Callable[[np.ndarray, np.ndarray], np.ndarray], smoothing: float) -> np.ndarray:
    """Returns the gain of each bin from its a priori and a posteriori SNR, `(frames, bins)`."""
    gains = np.ones_like(power)
    estimate = None
    for frame, (heard, noise) in enumerate(zip(power, noise_power, strict=True)):
        noise = np.maximum(noise, TINY_POWER)
        posterior = np.minimum(heard / noise, MAX_POSTERIOR_SNR)
        now = np.maximum(posterior - 1.0, 0.0)
        before = now if estimate is None else estimate / noise
        prior = smoothing * before + (1.0 - smoothing) * now
        gains[frame] = gain_of(np.maximum(prior, MIN_PRIOR_SNR), posterior)
        estimate = gains[frame] ** 2 * heard
    return gains


def _wiener_gain(prior: np.ndarray, posterior: np.ndarray) -> np.ndarray:
    return prior / (1.0 + prior)


def _log_spectral_gain(prior: np.ndarray, posterior: np.ndarray) -> np.ndarray:
    wiener = prior / (1.0 + prior)
    # The integral diverges at zero; a lower limit of 1e-10 makes no difference.
    integral = scipy.special.exp1(np.maximum(wiener * posterior, 1e-10))
    return np.minimum(wiener * np.exp(0.5 * integral), 1.0)
