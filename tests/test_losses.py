"""Losses against NumPy, and their gradients where a spectrum is empty."""

import numpy as np
import pytest
import tensorflow as tf

import losses
from config import LossConfig


@pytest.fixture
def pair():
    rng = np.random.default_rng(0)
    return rng.standard_normal((2, 2, 5, 7, 2)).astype(np.float32)


def test_mae(pair):
    target, estimate = pair
    assert float(losses.mae(target, estimate)) == pytest.approx(np.abs(target - estimate).mean())


def test_compressed_error(pair):
    powers = []
    for spectrum in pair.astype(np.float64):
        numbers = spectrum[..., 0] + 1j * spectrum[..., 1]
        magnitude = np.sqrt(np.abs(numbers) ** 2 + losses.SMALLEST_MAGNITUDE**2)
        powers.append(numbers * magnitude ** (0.3 - 1.0))
    expected = np.mean(np.abs(powers[0] - powers[1]) ** 2)
    assert float(losses.compressed_error(*pair, 0.3)) == pytest.approx(expected, rel=1e-5)


def test_log_error_is_minus_the_snr_in_bel():
    target = np.random.default_rng(1).standard_normal((3, 4, 5, 2)).astype(np.float32)
    assert float(losses.log_error(target, 0.9 * target)) == pytest.approx(
        np.log10(0.01 + losses.LOG_ERROR_FLOOR), abs=1e-3)


@pytest.mark.parametrize("name", ["mae", "compressed"])
@pytest.mark.parametrize("scale", [0.0, 1e-8, 100.0])
def test_gradients_are_finite(name, scale):
    loss = losses.make_loss(LossConfig(name=name, log_weight=0.1))
    target = tf.zeros((1, 3, 4, 2))
    estimate = tf.constant(scale * np.random.default_rng(0).standard_normal((1, 3, 4, 2)),
                           tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(estimate)
        value = loss(target, estimate)
    assert np.isfinite(float(value))
    assert np.isfinite(tape.gradient(value, estimate).numpy()).all()


def test_a_perfect_estimate_costs_least(pair):
    target, estimate = pair
    for name in ("mae", "compressed"):
        loss = losses.make_loss(LossConfig(name=name, log_weight=0.1))
        assert float(loss(target, target)) < float(loss(target, estimate))
