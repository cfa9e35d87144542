"""Loudness and true peak are those of the standards' own test signals."""

import numpy as np
import pytest

from historical_denoiser.audio.loudness import LoudnessMeter, weighted_products
from historical_denoiser.core.checks import UserError


def measure(audio: np.ndarray, rate: int) -> LoudnessMeter:
    meter = LoudnessMeter(rate, audio.shape[1])
    for start in range(0, len(audio), 70_001):
        meter.add(audio[start:start + 70_001])
    return meter


@pytest.mark.parametrize("rate", [44100, 48000])
def test_a_sine_of_both_channels_is_as_loud_as_its_peak(rate):
    """EBU Tech 3341, test cases 1 and 3: 1 kHz, with softer sound that the gate leaves out."""
    sine = np.sin(2.0 * np.pi * 1000.0 * np.arange(20 * rate) / rate)
    sine[:5 * rate] *= 10.0 ** (-13.0 / 20.0)
    meter = measure(10.0 ** (-23.0 / 20.0) * np.stack([sine, sine], axis=-1), rate)
    assert meter.lufs == pytest.approx(-23.0, abs=0.1)
    assert meter.true_peak_db == pytest.approx(-23.0, abs=0.1)


def test_peaks_between_samples_are_found_up_to_the_end():
    """EBU Tech 3341, test case 17: a quarter of the rate, 45 degrees: samples 3 dB below peaks."""
    rate = 48000
    sine = np.sin(0.5 * np.pi * np.arange(2 * rate) + 0.25 * np.pi)[:, None]
    ramp = np.clip(np.arange(2 * rate) / 4800, 0.0, 1.0)[:, None]
    assert measure(0.5 * ramp * sine, rate).true_peak_db == pytest.approx(-6.0, abs=0.2)
    late = 0.01 * sine
    late[-3] = 0.9
    assert measure(late, rate).true_peak_db >= 20.0 * np.log10(0.9)


def test_silence_has_no_loudness_and_nine_channels_no_layout():
    meter = measure(np.zeros((48000, 1)), 48000)
    assert meter.lufs is None and meter.true_peak_db == -np.inf
    assert measure(np.ones((4000, 2)), 48000).lufs is None
    assert measure(0.1 * np.ones((96000, 6)) * np.sin(np.arange(96000))[:, None], 48000).lufs
    with pytest.raises(UserError, match="more than 8 channels"):
        LoudnessMeter(48000, 9)


@pytest.mark.parametrize("rate", [8000, 22050, 48000])
def test_products_give_the_loudness_of_any_mixture(rate, rng):
    noise = 0.05 * rng.standard_normal((2, 2, 5 * rate))
    signals = np.stack([noise[0], 0.5 * noise[0] + np.cumsum(noise[1], axis=-1) / 50.0])
    products = weighted_products(np.array_split(signals, 7, axis=-1), rate)
    gains = np.array([1.0, -0.7])
    lufs = -0.691 + 10.0 * np.log10(gains @ products @ gains)
    assert lufs == pytest.approx(measure(np.tensordot(gains, signals, 1).T, rate).lufs, abs=0.1)
