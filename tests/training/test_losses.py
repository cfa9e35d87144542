"""Losses against NumPy, and their gradients where a spectrum is empty."""

import numpy as np
import pytest
import scipy.signal
import tensorflow as tf

from historical_denoiser.audio import dsp
from historical_denoiser.audio.dsp import StftConfig
from historical_denoiser.network import tensor_dsp
from historical_denoiser.training import losses
from historical_denoiser.training.settings import LOSS_PARTS, LossConfig

STFT = StftConfig(512, 128)


def only(name: str, **settings) -> LossConfig:
    return LossConfig(**{part: float(part == name) for part in LOSS_PARTS}, **settings)


@pytest.fixture
def waveforms(rng):
    """Target and estimate, two items each, float32 `(2, 2, samples)`."""
    audio = 0.1 * rng.standard_normal((2, 2, 9000))
    audio[1] = audio[0] + 0.3 * audio[1]
    return audio.astype(np.float32)


@pytest.fixture
def pair(waveforms):
    return dsp.stft(waveforms, STFT.win_size, STFT.hop_size)


def as_complex(spectrum):
    return spectrum[..., 0].astype(np.float64) + 1j * spectrum[..., 1]


def ear_weights(bins=257):
    weights = 1.0 / (24.7 + 0.108 * np.arange(bins) / (bins - 1) * 22050.0)
    return weights / weights.mean()


def test_mae(pair):
    assert float(losses.mae(*pair)) == pytest.approx(np.abs(pair[0] - pair[1]).mean())


@pytest.mark.parametrize("weighted", [False, True])
def test_compressed_error(pair, weighted):
    numbers = as_complex(pair)
    magnitudes = np.sqrt(np.abs(numbers) ** 2 + losses.MIN_MAGNITUDE**2)
    target, estimate = numbers * magnitudes ** (0.3 - 1.0)
    error = np.abs(target - estimate) ** 2 * (ear_weights() if weighted else 1.0)
    assert float(losses.compressed_error(*pair, 0.3, weighted)) == pytest.approx(
        error.mean(), rel=1e-4)


def test_erb_weights_favour_the_bass():
    weights = losses.erb_weights(1025)
    np.testing.assert_allclose(weights, ear_weights(1025), rtol=1e-5)
    # Half of the ear's bandwidths lie below 2.2 kHz or so (Glasberg and Moore 1990).
    assert 0.45 < weights[: round(2200 / 22050 * 1024)].sum() / weights.sum() < 0.6


def test_log_spectral(pair):
    levels = np.log10(np.abs(as_complex(pair)) ** 2 + losses.MIN_MAGNITUDE**2)
    expected = np.sqrt(np.mean(ear_weights() * (levels[0] - levels[1]) ** 2, axis=-1)).mean()
    assert float(losses.log_spectral(*pair)) == pytest.approx(expected, rel=1e-3)


def test_snr_is_that_of_the_waveforms(waveforms, pair):
    error = np.sum((waveforms[0] - waveforms[1]) ** 2, axis=-1)
    expected = np.mean(np.log10(error / np.sum(waveforms[0] ** 2, axis=-1)
                                + losses.LOG_ERROR_FLOOR))
    assert float(losses.snr(*pair)) == pytest.approx(expected, abs=0.02)


def test_si_sdr_is_that_of_the_waveforms(waveforms, pair):
    bel = []
    for target, estimate in zip(*waveforms.astype(np.float64), strict=True):
        scaled = target * (target @ estimate) / (target @ target)
        bel.append(np.log10(np.sum((estimate - scaled) ** 2) / np.sum(scaled**2)
                            + losses.LOG_ERROR_FLOOR))
    assert float(losses.si_sdr(*pair)) == pytest.approx(np.mean(bel), abs=0.02)
    assert float(losses.si_sdr(pair[0], 0.5 * pair[1])) == pytest.approx(np.mean(bel), abs=0.02)


def test_multi_resolution_stft(waveforms, pair):
    made = np.asarray(tensor_dsp.istft(np.concatenate(pair), STFT, 4096), np.float64)
    total = 0.0
    for win_size, hop_size in losses.RESOLUTIONS:
        window = scipy.signal.get_window("hann", win_size)
        starts = range(0, made.shape[1] - win_size + 1, hop_size)
        frames = np.stack([made[:, start : start + win_size] for start in starts], axis=1)
        magnitude = np.sqrt(np.abs(np.fft.rfft(frames * window)) ** 2 + losses.MIN_MAGNITUDE**2)
        wanted, found = np.split(magnitude, 2)
        convergence = [np.linalg.norm(one - other) / np.linalg.norm(one)
                       for one, other in zip(wanted, found, strict=True)]
        total += np.mean(convergence) + np.abs(np.log(wanted) - np.log(found)).mean()
    assert float(losses.multi_resolution_stft(*pair, STFT)) == pytest.approx(total / 3, rel=1e-3)


@pytest.mark.parametrize("name", LOSS_PARTS)
@pytest.mark.parametrize("scale", [0.0, 1e-8, 100.0])
def test_gradients_at_silence_are_finite(name, scale, rng):
    loss = losses.make_loss(only(name, erb_weighting=True), STFT)
    target = tf.zeros((1, 6, 257, 2))
    estimate = tf.constant(scale * rng.standard_normal(target.shape), tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(estimate)
        value = loss(target, estimate, estimate)
    assert np.isfinite(float(value))
    assert np.isfinite(tape.gradient(value, estimate).numpy()).all()


@pytest.mark.parametrize("name", ["snr", "si_sdr"])
def test_noise_alone_has_no_ratio_and_changes_no_other_item(name, pair):
    loss = losses.make_loss(only(name), STFT)
    target, estimate = pair
    half = loss(np.stack([target[0], np.zeros_like(target[0])]), estimate)
    assert float(half) == pytest.approx(0.5 * float(loss(target[:1], estimate[:1])), rel=1e-4)


def test_noise_alone_does_not_outweigh_a_mixture(pair):
    loss = losses.make_loss(only("multi_resolution_stft"), STFT)
    target, estimate = pair
    mixture = float(loss(target[:1], estimate[:1]))
    silence = float(loss(np.zeros_like(target[:1]), 0.1 * estimate[:1]))
    assert silence < 20.0 * mixture


@pytest.mark.parametrize("name", LOSS_PARTS)
def test_a_perfect_estimate_costs_least(name, pair):
    loss = losses.make_loss(only(name), STFT)
    noisy = sum(pair)
    assert float(loss(pair[0], pair[0], noisy)) < float(loss(*pair, noisy)) - 0.003


def test_the_error_of_a_mask_counts_most_at_high_frequencies(pair):
    target, noisy = pair[0], 2.0 * pair[0]
    bins = target.shape[2]
    loss = losses.make_loss(only("mask"), STFT)
    assert float(loss(target, 0.25 * noisy, noisy)) == pytest.approx(
        0.25 * np.mean(1.0 + 4.0 * np.arange(bins) / bins), rel=1e-3)
    louder = np.array(noisy) * 3.0  # the mask cannot exceed 1
    assert float(loss(louder, noisy, noisy)) == pytest.approx(0.0, abs=1e-5)


def test_over_suppression_counts_what_is_missing_alone(pair):
    target, estimate = np.sqrt(np.abs(as_complex(pair)) ** 2 + losses.MIN_MAGNITUDE**2) ** 0.3
    expected = np.mean(ear_weights() * np.maximum(target - estimate, 0.0) ** 2)
    loss = losses.make_loss(only("over_suppression", exponent=0.3), STFT)
    assert float(loss(*pair)) == pytest.approx(expected, rel=1e-3)
    assert float(loss(pair[0], 2.0 * pair[0])) == 0.0 < float(loss(pair[0], 0.5 * pair[0]))


def test_parts_add_up(pair):
    both = losses.make_loss(LossConfig(mae=0.5, snr=2.0), STFT)
    assert float(both(*pair)) == pytest.approx(
        0.5 * float(losses.mae(*pair)) + 2.0 * float(losses.snr(*pair)), rel=1e-5)
