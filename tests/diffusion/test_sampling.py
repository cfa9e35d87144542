"""Samples from a Gaussian prior, whose denoiser is known, have its variance and keep what is known.
"""

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from historical_denoiser.audio import dsp
from historical_denoiser.diffusion import degradations, edm
from historical_denoiser.diffusion.degradations import Clipping, Gaps, LowPass
from historical_denoiser.diffusion.sampling import sample
from historical_denoiser.diffusion.settings import DiffusionConfig
from historical_denoiser.training import prior

LEVELS = DiffusionConfig(sigma_data=0.1, sigma_min=1e-4, sigma_max=10.0)
SHAPE = (2, 4096)
RATE = 16000
PERIOD = 64  # samples: the prior of `periodic` repeats itself


def white(noisy, sigma):
    """The best denoiser of white Gaussian sound."""
    share = LEVELS.sigma_data**2 / (LEVELS.sigma_data**2 + np.asarray(sigma)[:, None] ** 2)
    return noisy * share


def periodic(noisy, sigma):
    """The best denoiser of Gaussian sound that repeats itself after `PERIOD` samples."""
    repeats = noisy.shape[1] // PERIOD
    turns = tf.reshape(noisy, (-1, repeats, PERIOD))
    mean = tf.reduce_mean(turns, axis=1, keepdims=True)
    power, noise = LEVELS.sigma_data**2, np.asarray(sigma)[:, None, None] ** 2 / repeats
    return tf.reshape(tf.tile(mean * power / (power + noise), (1, repeats, 1)), noisy.shape)


@pytest.fixture
def clean(rng):
    turn = LEVELS.sigma_data * rng.standard_normal((SHAPE[0], PERIOD))
    return np.tile(turn, (1, SHAPE[1] // PERIOD)).astype(np.float32)


def draw(denoise, degradation=None, seed=1, **settings):
    config = replace(LEVELS, **{"steps": 40} | settings)
    return sample(denoise, config, np.random.default_rng(seed), SHAPE, degradation)


def test_levels_fall_from_the_highest_to_zero():
    sigmas = LEVELS.for_sampling(10)
    assert sigmas[0] == pytest.approx(10.0) and sigmas[-2] == pytest.approx(1e-4)
    assert sigmas[-1] == 0.0 and np.all(np.diff(sigmas) < 0.0)
    drawn = LEVELS.for_training(np.random.default_rng(0), 4000)
    assert drawn.min() >= 1e-4 * 0.99 and drawn.max() <= 10.0 * 1.01
    assert np.median(drawn) == pytest.approx(LEVELS.at(0.5, LEVELS.rho), rel=0.1)


def test_a_network_sees_and_returns_unit_power(rng):
    seen = []

    def network(waves, level):
        seen.append((waves, level))
        return waves

    clean = LEVELS.sigma_data * rng.standard_normal((3, 20000)).astype(np.float32)
    sigma = np.array([1e-3, 0.1, 5.0], np.float32)
    noise = rng.standard_normal(clean.shape).astype(np.float32)
    edm.precondition(network, LEVELS)(clean + sigma[:, None] * noise, sigma)
    waves, level = seen[0]
    assert np.std(waves, axis=1) == pytest.approx([1.0, 1.0, 1.0], rel=0.05)
    assert np.asarray(level) == pytest.approx(np.log(sigma) / 4.0)
    # The best denoiser has the same loss, 1, at all levels: its errors have unit power.
    estimate = white(clean + sigma[:, None] * noise, sigma)
    best = edm.denoising_loss(estimate, clean, sigma, LEVELS)
    assert np.asarray(best) == pytest.approx([1.0, 1.0, 1.0], rel=0.1)


def test_a_network_without_weights_is_the_wiener_filter_of_the_spectrum(rng):
    shape_db = [8.0, 8.0, 8.0, 4.0, 0.0, -20.0, -40.0]
    levels = replace(LEVELS, data_shape_db=shape_db)
    hz = np.fft.rfftfreq(20000, 1.0 / levels.sample_rate)
    colour = np.sqrt(levels.data_power(hz))
    assert 20.0 * np.log10(colour[hz > 21000.0] / LEVELS.sigma_data) == pytest.approx(-40.0)
    clean = np.fft.irfft(colour * np.fft.rfft(rng.standard_normal((3, 20000))))
    sigma = np.array([1e-3, 0.1, 5.0], np.float32)
    noisy = (clean + sigma[:, None] * rng.standard_normal(clean.shape)).astype(np.float32)
    seen = []

    def network(waves, level):
        seen.append(waves)
        return 0.0 * waves

    estimate = edm.precondition(network, levels)(noisy, sigma)
    wiener = colour**2 / (colour**2 + sigma[:, None] ** 2)
    wanted = np.fft.irfft(wiener * np.fft.rfft(noisy))
    np.testing.assert_allclose(estimate, wanted, atol=1e-4 * LEVELS.sigma_data)
    # The network sees all frequencies alike, also those with little power.
    treble = np.fft.rfft(seen[0])[:, hz > 16000.0]
    assert np.mean(np.abs(treble) ** 2, axis=1) / 20000 == pytest.approx([1.0] * 3, rel=0.1)


@pytest.mark.parametrize("churn", [0.0, 5.0])
def test_free_samples_have_the_variance_of_the_prior(churn):
    waves = draw(white, churn=churn)
    assert np.std(waves) == pytest.approx(LEVELS.sigma_data, rel=0.05)
    assert np.array_equal(waves, draw(white, churn=churn))
    assert not np.array_equal(waves, draw(white, churn=churn, seed=2))


def improvement_db(clean, before, after):
    return dsp.decibels(np.sum((before - clean) ** 2) / np.sum((after - clean) ** 2))


def test_gaps_are_filled_from_what_is_known(clean):
    is_known = np.ones(SHAPE, bool)
    is_known[:, 1000:2000] = False
    observed = np.where(is_known, clean, 0.0)
    restored = draw(periodic, Gaps(observed, is_known))
    assert np.array_equal(restored[is_known], observed[is_known])
    assert improvement_db(clean, observed, restored) > 15.0


def test_clipped_samples_lie_beyond_the_level(clean):
    level = LEVELS.sigma_data
    observed = np.clip(clean, -level, level)
    restored = draw(white, Clipping(observed, -level, level))
    is_cut = np.abs(clean) >= level
    assert np.array_equal(restored[~is_cut], clean[~is_cut])
    assert np.all(np.sign(observed[is_cut]) * restored[is_cut] >= level - 1e-6)


def test_low_frequencies_stay(clean):
    degradation = LowPass(clean, 2000.0, RATE)
    restored = draw(white, degradation)
    assert np.allclose(degradation._filter(restored), degradation.observed, atol=1e-4)
    assert dsp.power(restored) > 1.5 * dsp.power(degradation.observed)  # the treble is drawn


def test_validation_measures_what_sampling_restores(clean):
    """Sounds of any level; of those with a hole and with noise, this prior knows everything."""
    config = replace(LEVELS, sample_rate=RATE)
    gains = prior.measure_samplers(periodic, config, [3.0 * clean[0], clean[1]])
    assert list(gains) == list(prior.PROBES)
    assert gains["gap_snr_db"] > 10.0 and gains["denoise_gain_db"] > 1.0
    assert -3.0 < gains["declip_gain_db"] < 10.0  # all turns are clipped alike
    # With one that knows nothing, the gap stays silent or worse.
    assert prior.measure_samplers(white, config, [clean[0]])["gap_snr_db"] < 0.0


def test_the_noise_of_a_recording_is_that_of_its_quietest_moments(rng):
    recording = 0.01 * rng.standard_normal(400000)
    recording[200000:] += np.sin(np.arange(200000))
    recording[:5000] = 0.0
    found, nothing = degradations.quietest_powers(np.array_split(
        np.stack([np.pad(recording, (0, 20000)), np.zeros(420000)]), 7, axis=1))
    assert 8e-5 < found < 1.2e-4 and nothing == 0.0
    low, high = degradations.estimated_snr_db(dsp.power(recording), 1e-4)
    assert low < dsp.decibels(dsp.power(recording) / 1e-4) < high
    short = degradations.quietest_powers([recording[None, 5000:6000]])
    assert short == pytest.approx(1e-4, rel=0.2)
