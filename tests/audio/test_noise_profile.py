"""Tests of noise_profile: mean and spread of the noise, without strokes."""

import numpy as np
import pytest

from historical_denoiser.audio import dsp
from historical_denoiser.audio.dsp import SAMPLE_RATE, StftConfig
from historical_denoiser.audio.noise_profile import POWER_FLOOR, ProfileForm, without_strokes
from historical_denoiser.training.look_alikes import make_strokes


@pytest.fixture
def form():
    return ProfileForm(StftConfig(512, 128), 0.3)


def test_it_holds_mean_and_spread_of_whole_frames(form, rng):
    noise = rng.standard_normal(512 + 9 * 128 + 100).astype(np.float32)
    frames = np.stack([noise[start : start + 512] * dsp.hamming(512)
                       for start in range(0, 10 * 128, 128)])
    magnitude = (np.abs(np.fft.rfft(frames)) ** 2 + POWER_FLOOR) ** 0.15
    profile = form.measure(noise)
    assert profile.shape == form.nothing().shape == (1, 257, 2) and profile.dtype == np.float32
    np.testing.assert_allclose(profile[0, :, 0], magnitude.mean(axis=0), rtol=1e-4)
    np.testing.assert_allclose(profile[0, :, 1], magnitude.std(axis=0), rtol=1e-3, atol=1e-5)


def test_silence_differs_from_no_profile_and_short_noise_counts(form):
    assert np.all(form.measure(np.zeros(1000, np.float32))[..., 0] > 0.1)
    assert not form.nothing().any()
    assert np.isfinite(form.measure(np.ones(20, np.float32))).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("samples", [1, 700, 4 * SAMPLE_RATE])
def test_steady_noise_holds_no_strokes(rng, samples, dtype):
    noise = np.stack([rng.standard_normal(samples), np.zeros(samples)], axis=1).astype(dtype)
    limited = without_strokes(noise)
    assert limited.shape == noise.shape and limited.dtype == dtype
    assert np.sum((limited - noise) ** 2) < 1e-4 * np.sum(noise ** 2)


def test_single_strokes_go_and_what_is_around_them_stays(rng):
    hiss = 1e-3 * rng.standard_normal(4 * SAMPLE_RATE)
    strokes = make_strokes("typewriter", len(hiss), rng)
    limited = without_strokes((hiss + strokes)[:, None])[:, 0]
    assert np.sum((limited - hiss) ** 2) < 0.03 * np.sum(strokes ** 2)
    assert np.corrcoef(limited[: SAMPLE_RATE // 100], hiss[: SAMPLE_RATE // 100])[0, 1] > 0.99


def test_dense_crackle_stays(rng):
    crackle = np.zeros(4 * SAMPLE_RATE)
    crackle[rng.integers(len(crackle), size=4 * 400)] = rng.standard_normal(4 * 400)
    limited = without_strokes(crackle[:, None])[:, 0]
    assert np.sum((limited - crackle) ** 2) < 0.05 * np.sum(crackle ** 2)
