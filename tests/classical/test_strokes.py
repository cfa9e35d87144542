"""What is taken of strokes comes back; clicks, thumps and steady noise stay away."""

import numpy as np
import pytest

from denoiser.audio import dsp
from denoiser.audio.dsp import SAMPLE_RATE, StftConfig
from denoiser.classical.strokes import give_back
from denoiser.network.stored import NetworkSettings
from denoiser.restore import Restorer
from denoiser.training.look_alikes import make_strokes

STFT = StftConfig()
SAMPLES = 3 * SAMPLE_RATE
NOISE = 1e-3  # root mean square


def make_noise(seed=1):
    return (NOISE * np.random.default_rng(seed).standard_normal(SAMPLES)).astype(np.float32)


def noise_power():
    return dsp.power_of_bins(dsp.stft(make_noise(), STFT.win_size, STFT.hop_size)).mean(axis=0)


def without_lows(audio, hz):
    """What a network makes of strokes that takes their lowest part for a thump."""
    return dsp.highpass(audio, hz, SAMPLE_RATE)


def error_db(wanted, made):
    return 10.0 * np.log10(np.sum((made - wanted) ** 2) / np.sum(wanted**2))


@pytest.mark.parametrize(("name", "hz"), [("castanets", 700.0), ("typewriter", 250.0)])
@pytest.mark.parametrize("noise", [0.0, 1.0], ids=["clean", "noisy"])
def test_the_lowest_part_of_strokes_comes_back(name, hz, noise):
    strokes = make_strokes(name, SAMPLES, np.random.default_rng(3))
    kept = without_lows(strokes, hz)
    restored = give_back(strokes + noise * make_noise(), kept, noise_power(), STFT)
    assert error_db(strokes, restored) < error_db(strokes, kept) - 6.0


def test_steady_noise_stays_away():
    strokes = make_strokes("castanets", SAMPLES, np.random.default_rng(3))
    np.testing.assert_array_equal(
        give_back(strokes + make_noise(), strokes, noise_power(), STFT), strokes)


def test_a_thump_stays_away_also_soon_after_a_stroke():
    strokes = make_strokes("castanets", SAMPLES, np.random.default_rng(3))
    thump = np.zeros(SAMPLES, np.float32)
    time_s = np.arange(4000) / SAMPLE_RATE
    loudest = int(np.abs(strokes).argmax())
    thump[loudest + 2000 : loudest + 6000] = np.exp(-time_s / 0.02) * np.sin(400.0 * time_s)
    np.testing.assert_array_equal(give_back(strokes + thump, strokes, noise_power(), STFT), strokes)


def test_clicks_of_which_something_is_left_stay_away():
    rng = np.random.default_rng(5)
    tone = (0.1 * np.sin(2.0 * np.pi * 440.0 * np.arange(SAMPLES) / SAMPLE_RATE)).astype(np.float32)
    clicks = np.zeros(SAMPLES, np.float32)
    places = rng.choice(SAMPLES, 30, replace=False)
    clicks[places] = rng.choice([-0.9, 0.9], 30)
    left = tone + np.float32(0.3) * clicks  # a tenth of their power
    np.testing.assert_array_equal(give_back(tone + clicks, left, noise_power(), STFT), left)


def test_the_beginning_of_a_recording_is_no_stroke():
    hiss = 30.0 * make_noise(2)
    thump = np.zeros(SAMPLES, np.float32)
    thump[:3000] = 0.1 * np.sin(0.01 * np.arange(3000))
    np.testing.assert_array_equal(give_back(hiss + thump, hiss, noise_power(), STFT), hiss)


@pytest.mark.parametrize("samples", [1, 100, 2048, 5000])
def test_sounds_of_any_length_keep_it(samples):
    heard = make_noise()[:samples]
    assert give_back(heard, 0.5 * heard, noise_power(), STFT).shape == (samples,)


def test_silence_stays_silent():
    silence = np.zeros(SAMPLES, np.float32)
    assert not give_back(silence, silence, noise_power(), STFT).any()


@pytest.mark.parametrize("keep_strokes", [False, True])
def test_a_restorer_that_is_told_the_noise_gives_strokes_back(keep_strokes):
    settings = NetworkSettings()
    settings.unet.use_profile = True
    strokes = make_strokes("castanets", SAMPLES, np.random.default_rng(3))
    lowest = round(700.0 * settings.stft.win_size / SAMPLE_RATE)

    def take_the_lows(inputs):
        spectra = inputs[0].copy()
        spectra[:, :, :lowest] = 0.0
        return spectra

    restored = Restorer(take_the_lows, settings, keep_strokes=keep_strokes)(
        strokes, SAMPLE_RATE, noise_profile=make_noise())
    assert (error_db(strokes, restored) < -25.0) == keep_strokes
