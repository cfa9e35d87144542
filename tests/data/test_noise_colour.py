"""Colour, high-pass and speed of noise."""

import numpy as np
import pytest

from historical_denoiser.audio import dsp
from historical_denoiser.audio.dsp import SAMPLE_RATE
from historical_denoiser.data.noise_colour import MIN_COUNTED, shape_noise


def test_colour_changes_the_spectrum_and_not_the_length(rng):
    noise = rng.standard_normal(20000).astype(np.float32)
    coloured = shape_noise(noise, 6.0, 0.0, rng)
    assert coloured.shape == noise.shape and coloured.dtype == np.float32
    assert dsp.power(coloured) == pytest.approx(1.0, rel=1e-4)
    before, after = (np.abs(np.fft.rfft(audio)) for audio in (noise, coloured))
    thirds_db = [20 * np.log10(after[k : k + 500].mean() / before[k : k + 500].mean())
                 for k in range(100, 9000, 1000)]
    assert np.ptp(thirds_db) > 3.0


def test_inaudible_rumble_counts_in_the_noise_power(rng):
    times = np.arange(4 * SAMPLE_RATE) / SAMPLE_RATE
    hiss = rng.standard_normal(len(times))
    rumble = 3.0 * np.sin(2.0 * np.pi * 5.0 * times)
    shaped = shape_noise((hiss + rumble).astype(np.float32), 0.0, 20.0, rng)
    assert dsp.power(shaped) == pytest.approx(1.0 / 5.5, rel=0.02)  # of 1 + 3^2 / 2
    expected = dsp.highpass(hiss.astype(np.float32), 20.0, SAMPLE_RATE)
    middle = slice(SAMPLE_RATE, -SAMPLE_RATE)
    np.testing.assert_allclose(shaped[middle] * np.sqrt(5.5), expected[middle], atol=0.05)
    with pytest.raises(ValueError, match="silent"):
        shape_noise(np.zeros(1000, np.float32), 3.0, 20.0, rng)


@pytest.mark.parametrize("highpass_hz", [0.0, 20.0, 40.0])
def test_what_lies_below_the_snr_highpass_does_not_count(rng, highpass_hz):
    times = np.arange(4 * SAMPLE_RATE) / SAMPLE_RATE
    noise = rng.standard_normal(len(times)) + 3.0 * np.sin(2.0 * np.pi * 5.0 * times)
    shaped = shape_noise(noise.astype(np.float32), 0.0, highpass_hz, rng, snr_highpass_hz=20.0)
    counted = dsp.highpass(shaped, 20.0, SAMPLE_RATE, wrap=True)
    # With 40 Hz the noise lacks what lies between 20 and 40 Hz: it counts, as it does in the SNR
    # of the recording.
    assert dsp.power(counted) == pytest.approx(1.0 if highpass_hz < 40.0 else 0.999, abs=5e-4)
    assert (dsp.power(shaped) > 5.0) == (highpass_hz == 0.0)  # the rumble is there, or is not


def test_inaudible_noise_is_not_brought_up_without_limit(rng):
    samples = 180000  # of which transforms are fast: nothing is appended, the rumble goes on
    rumble = np.sin(np.arange(samples) * 2.0 * np.pi * 20.0 / samples)
    hiss = 1e-3 * rng.standard_normal(samples)
    for highpass_hz in (0.0, 20.0):
        shaped = shape_noise((rumble + hiss).astype(np.float32), 0.0, highpass_hz, rng,
                             snr_highpass_hz=20.0)
        # Differences of differences hold next to nothing of the rumble.
        gain = np.dot(np.diff(shaped, 2), np.diff(hiss, 2)) / np.sum(np.diff(hiss, 2) ** 2)
        # The rumble's power is one half, and a millionth would have been left to count.
        assert gain**2 == pytest.approx(1.0 / (0.5 * MIN_COUNTED), rel=0.05)


@pytest.mark.parametrize("length", [15000, 20000, 20011, 27000])
def test_noise_of_another_length_is_played_at_another_speed(rng, length):
    times = np.arange(length) / SAMPLE_RATE
    tone = np.sin(2.0 * np.pi * 3000.0 * times).astype(np.float32)
    tone += 0.5 * np.sin(2.0 * np.pi * 20000.0 * times).astype(np.float32)
    shaped = shape_noise(tone, 0.0, 0.0, rng, 20000)
    assert shaped.shape == (20000,) and shaped.dtype == np.float32
    assert dsp.power(shaped) == pytest.approx(1.0, rel=1e-4)
    spectrum = np.abs(np.fft.rfft(shaped * np.hanning(20000)))
    assert np.argmax(spectrum) == pytest.approx(3000.0 * length / SAMPLE_RATE, abs=1.0)
    top = 20000.0 * length / SAMPLE_RATE  # beyond the last bin it would fold back
    assert (spectrum[5000:].max() > 0.1 * spectrum.max()) == (top < 10000)
