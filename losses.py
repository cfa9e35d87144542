"""Losses on spectrograms `(batch, frames, bins, 2)`, in `keras.ops` alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from keras import ops

from config import LossConfig

Loss = Callable[[Any, Any], Any]

# Magnitudes below this count little: at -20 dBFS the hiss of a clean studio lies here. It bounds
# the gradient of the power law where a bin is empty.
SMALLEST_MAGNITUDE = 1e-2
# An error this far below the target (30 dB) is not worth more effort; keeps the logarithm finite.
LOG_ERROR_FLOOR = 1e-3
POWER_EPSILON = 1e-7


def mae(target: Any, estimate: Any) -> Any:
    """Mean absolute error of real and imaginary parts (Moliner and Valimaki 2022, eq. 5)."""
    return ops.mean(ops.abs(target - estimate))


def compress(spectrum: Any, exponent: float) -> Any:
    """Applies a power law to the magnitudes and keeps the phases.

    Args:
        spectrum: Tensor `(..., 2)`, real and imaginary parts.
        exponent: Exponent of the magnitude; 1 changes nothing.

    Returns:
        Tensor of the same shape.
    """
    squared = ops.sum(ops.square(spectrum), axis=-1, keepdims=True)
    return spectrum * ops.power(squared + SMALLEST_MAGNITUDE**2, (exponent - 1.0) / 2.0)


def compressed_error(target: Any, estimate: Any, exponent: float) -> Any:
    """Mean squared error after a power law on the magnitudes (Ephrat et al. 2018, sec. 4)."""
    difference = compress(target, exponent) - compress(estimate, exponent)
    return ops.mean(ops.sum(ops.square(difference), axis=-1))


def log_error(target: Any, estimate: Any) -> Any:
    """Logarithm of each item's error power over its target power: minus its SNR in bel."""
    axes = (1, 2, 3)
    target_power = ops.sum(ops.square(target), axis=axes) + POWER_EPSILON
    error_power = ops.sum(ops.square(target - estimate), axis=axes)
    return ops.mean(ops.log10(error_power / target_power + LOG_ERROR_FLOOR))


def make_loss(loss: LossConfig) -> Loss:
    """Returns the loss of one stage that `loss` describes: a function of target and estimate."""
    if loss.name == "mae":
        return mae

    def compressed(target: Any, estimate: Any) -> Any:
        total = compressed_error(target, estimate, loss.exponent)
        if loss.log_weight:
            total = total + loss.log_weight * log_error(target, estimate)
        return total

    return compressed
