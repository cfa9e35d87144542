"""The classical estimator lowers noise that nobody told it, and keeps tones and silence."""

from __future__ import annotations

import numpy as np
import pytest
from restorers import make_restorer

from historical_denoiser.audio import dsp
from historical_denoiser.audio.dsp import StftConfig
from historical_denoiser.audio.noise_profile import ProfileForm
from historical_denoiser.classical import spectral
from historical_denoiser.network.stored import NetworkSettings
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


def test_a_profile_tells_the_power_of_the_noise(notes, noise):
    noisy = dsp.mix_at_snr(notes, noise, 5.0)
    spectra = dsp.stft(noisy, STFT.win_size, STFT.hop_size)[None]
    form = ProfileForm(STFT, 1.0)
    # Also of a noise so faint that what keeps a profile above zero is more than it holds.
    for gain in (1.0, 1e-6):
        profile = form.measure(np.float32(gain) * (noisy - notes))
        alone = dsp.stft(noisy - notes, STFT.win_size, STFT.hop_size)
        power = np.mean(np.sum(np.square(alone, dtype=np.float64), -1), 0)
        told = spectral.restore_spectra([np.float32(gain) * spectra, profile[None]], STFT)
        np.testing.assert_allclose(
            told / gain, spectral.suppress(spectra, STFT, power), atol=2e-2 * np.abs(spectra).max())
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


@pytest.mark.parametrize("snr_db", [3.0, 10.0, 20.0])
def test_a_filter_that_is_told_the_noise_gains(notes, noise, snr_db):
    noisy = dsp.mix_at_snr(notes, noise, snr_db)
    spectra = dsp.stft(noisy, STFT.win_size, STFT.hop_size)
    alone = dsp.stft(noisy - notes, STFT.win_size, STFT.hop_size)
    power = np.mean(np.sum(np.square(alone, dtype=np.float64), -1), 0)
    filtered = spectral.filter_noise(spectra, power)
    restored = dsp.istft(filtered, STFT.win_size, STFT.hop_size, len(noisy))
    assert metrics.snr_db(notes, restored) > snr_db + 8.0
    # Played backwards it is the same, backwards.
    backwards = spectral.filter_noise(spectra[::-1], power)[::-1]
    np.testing.assert_allclose(backwards, filtered, atol=1e-6)


def test_a_filter_joins_in_which_the_network_or_a_profile_tells_the_noise(notes, noise):
    noisy = dsp.mix_at_snr(notes, noise, 5.0)
    clean, heard = (dsp.stft(audio, STFT.win_size, STFT.hop_size) for audio in (notes, noisy))
    spectra, form = np.stack([heard] * 2), ProfileForm(STFT, 0.3)

    def predict(inputs):
        """Finds two thirds of the noise."""
        return (1.0 * (inputs[0] if isinstance(inputs, list) else inputs) + 2.0 * clean) / 3.0

    join, profile = spectral.join_filter(predict, form), form.measure(noisy - notes)
    told, untold = join([spectra, np.stack([profile, form.nothing()])])
    for joined, power in ((told, form.mean_power(profile[0])),
                          (untold, np.mean(np.sum((heard - predict(heard)) ** 2, -1), 0))):
        estimate, filtered = predict(heard), spectral.filter_noise(heard, power)
        # Without its limit, it is so much of the filter in each frame.
        apart = filtered - estimate
        share = (np.sum((joined - estimate) * apart, axis=(-2, -1))
                 / np.sum(apart**2, axis=(-2, -1)))
        least = spectral.TOLD_SHARE if joined is told else spectral.UNTOLD_SHARE
        assert abs(np.median(share) - least) < 0.05
        assert least - 0.1 < share.min() and share.max() < spectral.MAX_SHARE + 0.1
        assert metrics.snr_db(clean, joined) > metrics.snr_db(clean, predict(heard))
    np.testing.assert_array_equal(join(spectra)[0], untold)


def test_noise_that_a_profile_tells_but_is_not_there_is_not_removed(notes, noise):
    """A filter that took 20 dB more noise for granted would erase the notes."""
    spectra, form = dsp.stft(notes, STFT.win_size, STFT.hop_size)[None], ProfileForm(STFT, 0.3)
    told = [spectra, form.measure(10.0 * noise)[None]]
    joined = spectral.join_filter(lambda inputs: 0.999 * inputs[0], form)(told)
    alone = 0.5 * (spectra + spectral.filter_noise(spectra[0], form.mean_power(told[1][0, 0])))
    assert metrics.snr_db(spectra, joined) > 40.0 > 25.0 > metrics.snr_db(spectra, alone)


def test_in_a_pause_most_of_what_is_written_is_the_filters(noise):
    """Of the noise that a network keeps as it is, a quarter of the magnitude and little more."""
    spectra, form = dsp.stft(noise, STFT.win_size, STFT.hop_size)[None], ProfileForm(STFT, 0.3)
    join = spectral.join_filter(lambda inputs: 0.5 * inputs[0], form)
    joined = join([spectra, form.measure(noise)[None]])
    filtered = spectral.filter_noise(spectra[0], form.mean_power(form.measure(noise)[0]))
    expected = 0.25 * 0.5 * spectra[0] + 0.75 * filtered
    assert metrics.snr_db(expected, joined[0]) > 15.0
    assert dsp.decibels(np.mean(joined**2) / np.mean(spectra**2)) < -14.0


def test_what_a_network_removes_wholly_stays_removed(noise):
    spectra = dsp.stft(noise, STFT.win_size, STFT.hop_size)[None]
    joined = spectral.join_filter(lambda spectra: 0.01 * spectra, ProfileForm(STFT, 1.0))(spectra)
    assert dsp.decibels(np.mean(joined**2) / np.mean(spectra**2)) < -30.0
    loud = np.sqrt(np.sum(joined**2, axis=-1)) / np.sqrt(np.sum(spectra**2, axis=-1))
    assert loud.max() < 0.0301


def test_a_filter_hears_no_further_than_the_context_of_a_segment(rng):
    """Noise whose level comes and goes: else each segment would hear it otherwise."""
    time_s = np.arange(13 * dsp.SAMPLE_RATE) / dsp.SAMPLE_RATE
    noise = 0.1 * rng.standard_normal(len(time_s)) * (1.0 + 0.8 * np.sin(2.0 * time_s))
    settings = NetworkSettings()
    join = spectral.join_filter(lambda spectra: 0.5 * spectra, ProfileForm(settings.stft, 1.0))
    short, long = (make_restorer(join, settings, seconds)(noise, dsp.SAMPLE_RATE)
                   for seconds in (4.0, 20.0))
    assert metrics.snr_db(long, short) > 60.0


def test_nothing_joins_in_where_a_network_removes_nothing(notes):
    spectra = dsp.stft(notes, STFT.win_size, STFT.hop_size)[None]
    joined = spectral.join_filter(lambda spectra: spectra, ProfileForm(STFT, 1.0))(spectra)
    np.testing.assert_allclose(joined, spectra, atol=1e-4 * np.abs(spectra).max())


@pytest.mark.parametrize("compression", [0.3, 1.0])
def test_a_profile_tells_the_power_of_gaussian_noise(noise, compression):
    form = ProfileForm(STFT, compression)
    power = np.mean(np.sum(np.square(dsp.stft(noise, STFT.win_size, STFT.hop_size)), -1), 0)
    known = form.mean_power(form.measure(noise)[0])
    assert abs(dsp.decibels(known.mean() / power.mean())) < 0.3
    assert not form.mean_power(form.nothing()[0]).any()


def test_gain_of_a_known_snr():
    """Where the SNR never changes, prior and posterior settle, and eq. 20 has one solution."""
    heard = np.full((400, 1), 101.0)  # posterior SNR 101: prior about 100
    gain = spectral._gains(heard, np.ones((400, 1)), spectral._log_spectral_gain, 0.98)[-1, 0]
    prior = 0.98 * gain**2 * 101.0 + 0.02 * 100.0
    assert gain == pytest.approx(prior / (1.0 + prior), rel=1e-6)  # the integral has vanished
