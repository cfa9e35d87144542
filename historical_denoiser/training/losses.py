"""Losses on spectrograms `(batch, frames, bins, 2)`, in `keras.ops` alone.

`make_loss` returns a weighted sum of the parts below; `conf/loss/` holds presets of the weights.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from keras import ops

from historical_denoiser.audio.dsp import SAMPLE_RATE, StftConfig
from historical_denoiser.network import tensor_dsp
from historical_denoiser.network.tensor_ops import compress
from historical_denoiser.training.settings import LossConfig

Loss = Callable[..., Any]  # of target, estimate, and for some the input

# Its square is added to powers, to bound the gradients of power law and logarithm in empty bins. In
# a recording at -20 dBFS, the hiss of a good studio has about this magnitude.
MIN_MAGNITUDE = 1e-2
# Added to error ratios: the loss hardly rewards an error more than 40 dB below the target.
LOG_ERROR_FLOOR = 1e-4
POWER_EPSILON = 1e-7
MASK_FLOOR = 1e-10  # power added to each bin, so that an empty one has the mask 1
# Window and hop in samples, to resolve attacks, syllables and tones.
RESOLUTIONS = ((512, 128), (1024, 256), (4096, 1024))


def mae(target: Any, estimate: Any) -> Any:
    """Mean absolute error of real and imaginary parts (Moliner and Valimaki 2022, eq. 5)."""
    return ops.mean(ops.abs(target - estimate))


def erb_weights(bins: int) -> np.ndarray:
    """Returns a weight for each bin from 0 to 22.05 kHz, with a mean of 1.

    The weights are one over the equivalent rectangular bandwidth, 24.7 + 0.108 f Hz (Glasberg
    and Moore 1990, eq. 3), so that each auditory filter counts alike.
    """
    frequency_hz = np.linspace(0.0, SAMPLE_RATE / 2, bins)
    weights = 1.0 / (24.7 + 0.108 * frequency_hz)
    return (weights / weights.mean()).astype(np.float32)


def compressed_error(target: Any, estimate: Any, exponent: float, erb_weighting: bool = False,
                     ) -> Any:
    """Mean squared error after a power law on the magnitudes (Ephrat et al. 2018, sec. 4).

    Args:
        target, estimate: Spectrograms `(batch, frames, bins, 2)`.
        exponent: Exponent of the power law.
        erb_weighting: Whether bins are weighted by `erb_weights`.
    """
    difference = (compress(target, exponent, MIN_MAGNITUDE**2)
                  - compress(estimate, exponent, MIN_MAGNITUDE**2))
    error = ops.sum(ops.square(difference), axis=-1)
    if erb_weighting:
        error = error * ops.convert_to_tensor(erb_weights(target.shape[2]))
    return ops.mean(error)


def over_suppression(target: Any, estimate: Any, exponent: float) -> Any:
    """Mean squared amount by which magnitudes fall short of the target, after a power law.

    Added to another loss, it makes lost signal cost more than noise that is left: the asymmetric
    loss of Wang et al. 2020 (VoiceFilter-Lite, eq. 2), with `erb_weights` in place of filterbank
    energies.

    Args:
        target, estimate, exponent: As in `compressed_error`.
    """
    wanted, found = (ops.power(_bounded_power(spectrum), 0.5 * exponent)
                     for spectrum in (target, estimate))
    missing = ops.square(ops.relu(wanted - found))
    return ops.mean(missing * ops.convert_to_tensor(erb_weights(target.shape[2])))


def log_spectral(target: Any, estimate: Any) -> Any:
    """Log-spectral distance in bel, its bins weighted by `erb_weights`."""
    wanted, found = (ops.log10(_bounded_power(spectrum)) for spectrum in (target, estimate))
    weights = ops.convert_to_tensor(erb_weights(target.shape[2]))
    squared = ops.square(wanted - found) * weights
    return ops.mean(ops.sqrt(ops.mean(squared, axis=-1) + POWER_EPSILON))


def _bounded_power(spectrum: Any) -> Any:
    return ops.sum(ops.square(spectrum), axis=-1) + MIN_MAGNITUDE**2


def snr(target: Any, estimate: Any) -> Any:
    """Mean over the items of minus the SNR in bel; an item with a silent target counts as 0."""
    target_power = inner_product(target, target)
    error = target - estimate
    ratio = inner_product(error, error) / (target_power + POWER_EPSILON)
    return ops.mean(_where_audible(target_power, ops.log10(ratio + LOG_ERROR_FLOOR)))


def si_sdr(target: Any, estimate: Any) -> Any:
    """Minus the scale-invariant signal-to-distortion ratio in bel (Le Roux et al. 2019, eq. 5).

    An item with a silent target counts as 0.
    """
    target_power = inner_product(target, target)
    scale = inner_product(target, estimate) / (target_power + POWER_EPSILON)
    scaled = target * ops.reshape(scale, (-1, 1, 1, 1))
    error = estimate - scaled
    ratio = (inner_product(error, error) + POWER_EPSILON) / (
        inner_product(scaled, scaled) + POWER_EPSILON)
    return ops.mean(_where_audible(target_power, ops.log10(ratio + LOG_ERROR_FLOOR)))


def _where_audible(target_power: Any, values: Any) -> Any:
    return ops.where(target_power > POWER_EPSILON, values, ops.zeros_like(values))


def inner_product(one: Any, other: Any) -> Any:
    """Returns each item's inner product, that of its waveforms up to a factor (Parseval).

    All bins but the first and the last also stand for a negative frequency.
    """
    counts = np.full((one.shape[2], 1), 2.0, np.float32)
    counts[[0, -1]] = 1.0
    return ops.sum(one * other * ops.convert_to_tensor(counts), axis=(1, 2, 3))


def multi_resolution_stft(target: Any, estimate: Any, stft: StftConfig) -> Any:
    """Spectral convergence plus the error of log magnitudes at three resolutions.

    After Yamamoto, Song and Kim 2020 (Parallel WaveGAN), with natural logarithms. The spectral
    convergence of an item with a silent target counts as 0.

    Args:
        target, estimate: Spectrograms `(batch, frames, bins, 2)`.
        stft: Transform with which they were made.
    """
    longest = max(win_size for win_size, _ in RESOLUTIONS)
    waveforms = ops.concatenate([tensor_dsp.istft(spectrum, stft, longest)
                                 for spectrum in (target, estimate)])
    total = 0.0
    for win_size, hop_size in RESOLUTIONS:
        real, imag = ops.stft(waveforms, win_size, hop_size, win_size, window="hann", center=False)
        magnitude = ops.sqrt(ops.square(real) + ops.square(imag) + MIN_MAGNITUDE**2)
        wanted, found = ops.split(magnitude, 2)
        error = ops.sqrt(ops.sum(ops.square(wanted - found), axis=(1, 2)) + POWER_EPSILON)
        size = ops.sqrt(ops.sum(ops.square(wanted), axis=(1, 2)))
        audible = _where_audible(inner_product(target, target)[:, None], error / size)
        total = total + ops.mean(audible) + ops.mean(ops.abs(ops.log(wanted) - ops.log(found)))
    return total / len(RESOLUTIONS)


def mask_error(target: Any, estimate: Any, noisy: Any) -> Any:
    """Mean absolute error of the mask, which counts up to five times as much at high frequencies.

    The mask is the ratio of magnitudes to those of the input, limited to 1 for the target; the
    weights are those of Arapov's Cassette-denoising (2025), 1 + 4 f / f_max.

    Args:
        target, estimate, noisy: Spectrograms `(batch, frames, bins, 2)`; `noisy` is the input.
    """
    size = ops.sqrt(ops.sum(ops.square(noisy), axis=-1) + MASK_FLOOR)
    wanted, found = (ops.sqrt(ops.sum(ops.square(spectrum), axis=-1) + MASK_FLOOR) / size
                     for spectrum in (target, estimate))
    weights = 1.0 + 4.0 * np.arange(noisy.shape[2], dtype=np.float32) / noisy.shape[2]
    return ops.mean(ops.abs(ops.minimum(wanted, 1.0) - found) * ops.convert_to_tensor(weights))


def make_loss(loss: LossConfig, stft: StftConfig) -> Loss:
    """Returns the loss of one stage, a function of the spectra `stft` of target, estimate, input.
    """
    parts: dict[str, Loss] = {
        "mae": mae,
        "compressed": partial(compressed_error, exponent=loss.exponent,
                              erb_weighting=loss.erb_weighting),
        "over_suppression": partial(over_suppression, exponent=loss.exponent),
        "log_spectral": log_spectral,
        "multi_resolution_stft": partial(multi_resolution_stft, stft=stft),
        "si_sdr": si_sdr,
        "snr": snr,
    }
    weights = {name: getattr(loss, name) for name in parts if getattr(loss, name)}

    def weighted_sum(target: Any, estimate: Any, noisy: Any = None) -> Any:
        # A loss sums very many small numbers, too many for half precision.
        target, estimate = ops.cast(target, "float32"), ops.cast(estimate, "float32")
        total = sum(weight * parts[name](target, estimate) for name, weight in weights.items())
        return total + loss.mask * mask_error(target, estimate, noisy) if loss.mask else total

    return weighted_sum
