"""The balance of clicks and hiss in recorded noise."""

import numpy as np
import pytest
import soundfile
from carrier_samples import ROOT, recorded

from historical_denoiser.audio import dsp
from historical_denoiser.audio.dsp import SAMPLE_RATE
from historical_denoiser.data.noise_balance import change_balance, split_clicks
from historical_denoiser.noise.statistics import describe


@pytest.fixture
def clicking(rng):
    """Hiss of RMS 0.01 and hum of 0.1, with ten clicks of RMS 0.3 and 1 ms each second."""
    hiss = 0.01 * rng.standard_normal(2 * SAMPLE_RATE)
    hum = 0.14 * np.sin(2.0 * np.pi * 50.0 * np.arange(len(hiss)) / SAMPLE_RATE)
    clicks = np.zeros(len(hiss))
    for place in range(2000, len(clicks) - 2000, SAMPLE_RATE // 10):
        clicks[place : place + 44] = 0.3 * rng.standard_normal(44)
    return (hiss + hum).astype(np.float32), clicks.astype(np.float32)


def test_clicks_are_split_from_hiss_and_hum(clicking):
    rest, clicks = clicking
    found = split_clicks(rest + clicks)
    assert found.dtype == np.float32
    assert dsp.power(found - clicks) < 0.02 * dsp.power(clicks)
    assert np.mean(found != 0.0) < 0.06
    np.testing.assert_array_equal(split_clicks(rest), 0.0)
    assert describe(rest + clicks - found).kurtosis < 0.05 * describe(rest + clicks).kurtosis


def test_the_balance_changes_by_what_is_drawn(clicking, rng):
    rest, clicks = clicking
    noise = rest + clicks
    np.testing.assert_array_equal(change_balance(noise, 0.0, rng), noise)
    changes_db = []
    for seed in range(40):
        changed = change_balance(noise, 6.0, np.random.default_rng(seed))
        np.testing.assert_array_equal(changed, change_balance(noise, 6.0,
                                                              np.random.default_rng(seed)))
        quiet = clicks == 0.0
        assert np.mean(np.abs(changed - noise)[quiet] > 1e-3) < 0.03  # hiss stays as it was
        gain = np.dot(changed - rest, clicks) / np.dot(clicks, clicks)
        changes_db.append(20.0 * np.log10(gain))
    assert 4.0 < np.std(changes_db) < 8.0 and abs(np.mean(changes_db)) < 2.5


def test_discs_become_smoother_without_their_clicks_and_fans_stay_as_they_are():
    disc = recorded("vinyl1_runoff")
    smooth = describe(disc - split_clicks(disc))
    assert smooth.loud_share < 0.5 < describe(disc).loud_share
    fan, _ = soundfile.read(ROOT / "data/noise/hum/machine1_computer_fan.flac", dtype="float32")
    assert dsp.power(split_clicks(fan)) < 0.01 * dsp.power(fan)


@pytest.mark.parametrize("samples", [1, 15, 16, 100])
def test_the_shortest_noise_and_silence_have_no_clicks(samples):
    for noise in (np.zeros(samples, np.float32), np.ones(samples, np.float32)):
        np.testing.assert_allclose(split_clicks(noise), 0.0, atol=1e-6)
