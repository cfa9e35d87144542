"""What a profile of noise holds."""

import numpy as np
import pytest

from denoiser.audio import dsp
from denoiser.audio.dsp import StftConfig
from denoiser.audio.noise_profile import POWER_FLOOR, ProfileForm


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


def test_silence_is_told_from_no_profile_and_what_is_short_counts(form):
    assert np.all(form.measure(np.zeros(1000, np.float32))[..., 0] > 0.1)
    assert not form.nothing().any()
    assert np.isfinite(form.measure(np.ones(20, np.float32))).all()
