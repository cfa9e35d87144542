"""The classical estimator lowers noise without a profile, and keeps tones and silence."""

import numpy as np
import pytest

from historical_denoiser.audio import dsp
from historical_denoiser.audio.dsp import StftConfig
from historical_denoiser.audio.noise_profile import ProfileForm
from historical_denoiser.classical import spectral
from historical_denoiser.training import metrics

STFT = StftConfig()


def denoise(audio: np.ndarray, noise_power: np.ndarray | None = None) -> np.ndarray:
    predict = dsp.in_spectral_domain(
        lambda spectra: spectral.suppress(spectra, STFT, noise_power),
        STFT.win_size, STFT.hop_size)
    return predict(audio[None])[0]


@pytest.fixture
def notes(sine):
    """Notes with pauses: what a minimum over seconds needs."""
    return sine * (np.arange(len(sine)) // 8000 % 2)


@pytest.mark.parametrize("snr_db", [0.0, 10.0])
def test_white_noise_is_lowered_by_several_decibels(notes, noise, snr_db):
    noisy = dsp.mix_at_snr(notes, noise, snr_db)
    assert metrics.snr_db(notes, denoise(noisy)) > snr_db + 6.0
    # As well as where the noise is known, but for a little.
    power = np.mean(np.sum(dsp.stft(noisy - notes, STFT.win_size, STFT.hop_size) ** 2, -1), 0)
    assert metrics.snr_db(notes, denoise(noisy, power)) > snr_db + 6.0
    alone = denoise(noisy, power)[2000:6000]  # before the first note begins
    assert dsp.decibels(dsp.power(alone) / dsp.power(noisy[2000:6000])) < -15.0


def test_the_noise_alone_is_known_to_within_a_decibel_and_lowered(noise):
    power = np.sum(dsp.stft(noise, STFT.win_size, STFT.hop_size) ** 2, axis=-1)
    found = spectral.find_noise(power, STFT)
    assert abs(dsp.decibels(found.mean() / power.mean())) < 1.0
    assert dsp.decibels(dsp.power(denoise(noise)) / dsp.power(noise)) < -15.0


def test_a_profile_gives_the_power_of_the_noise(notes, noise):
    noisy = dsp.mix_at_snr(notes, noise, 5.0)
    spectra = dsp.stft(noisy, STFT.win_size, STFT.hop_size)[None]
    form = ProfileForm(STFT, 1.0)
    # Also of a noise so faint that what keeps a profile above zero is more than it holds.
    for gain in (1.0, 1e-6):
        profile = form.measure(np.float32(gain) * (noisy - notes))
        alone = dsp.stft(noisy - notes, STFT.win_size, STFT.hop_size)
        power = np.mean(np.sum(np.square(alone, dtype=np.float64), -1), 0)
        informed = spectral.restore_spectra([np.float32(gain) * spectra, profile[None]], STFT)
        np.testing.assert_allclose(informed / gain, spectral.suppress(spectra, STFT, power),
                                   atol=2e-2 * np.abs(spectra).max())
    blind = spectral.restore_spectra([spectra, form.nothing()[None]], STFT)
    np.testing.assert_array_equal(blind, spectral.restore_spectra(spectra, STFT))


def test_each_item_has_a_profile_of_its_own(rng):
    spectra = rng.standard_normal((2, 20, STFT.bins, 2)).astype(np.float32)
    form = ProfileForm(STFT, 1.0)
    noises = rng.standard_normal((2, dsp.SAMPLE_RATE)).astype(np.float32)
    profiles = np.stack([form.measure(level * noise)
                         for level, noise in zip((0.01, 0.1), noises, strict=True)])
    together = spectral.restore_spectra([spectra, profiles], STFT)
    for number in range(2):
        alone = spectral.restore_spectra([spectra[[number]], profiles[[number]]], STFT)
        np.testing.assert_array_equal(together[[number]], alone)


def test_silence_stays_silence_and_a_phase_stays_a_phase(rng):
    assert not denoise(np.zeros(50_000, np.float32)).any()
    spectra = rng.standard_normal((2, 30, 1025, 2)).astype(np.float32)
    gains = spectral.suppress(spectra, STFT) / spectra
    np.testing.assert_allclose(gains[..., 0], gains[..., 1], rtol=1e-5)
    assert gains.min() >= 0.0 and gains.max() <= 1.0


@pytest.mark.parametrize("compression", [0.3, 1.0])
def test_a_profile_gives_the_power_of_gaussian_noise(noise, compression):
    form = ProfileForm(STFT, compression)
    power = np.mean(np.sum(np.square(dsp.stft(noise, STFT.win_size, STFT.hop_size)), -1), 0)
    known = form.mean_power(form.measure(noise)[0])
    assert abs(dsp.decibels(known.mean() / power.mean())) < 0.3
    assert not form.mean_power(form.nothing()[0]).any()


def test_gain_of_a_known_snr():
    """Where the SNR never changes, prior and posterior settle, and eq. 20 has one solution."""
    powers = np.full((400, 1), 101.0)  # posterior SNR 101: prior about 100
    gain = spectral._gains(powers, np.ones((400, 1)))[-1, 0]
    prior = 0.98 * gain**2 * 101.0 + 0.02 * 100.0
    assert gain == pytest.approx(prior / (1.0 + prior), rel=1e-6)  # the integral has vanished
