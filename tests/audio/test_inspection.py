"""What is measured of a waveform for `denoise --look`."""

import numpy as np
import pytest

from historical_denoiser.audio import inspection
from historical_denoiser.audio.dsp import SAMPLE_RATE, resample


def pulses(hz: float, seconds: float, every: float = 1.5) -> np.ndarray:
    """Returns 12 s of pulses under a half sine, with soft noise."""
    times = np.arange(12 * SAMPLE_RATE) / SAMPLE_RATE
    within = times % every
    shape = np.where(within < seconds, np.sin(np.pi * within / seconds), 0.0)
    return 0.2 * shape * np.sin(2.0 * np.pi * hz * times) + 1e-3 * np.random.default_rng(
        0).standard_normal(len(times))


def test_thumps_are_counted_but_neither_drums_nor_bass():
    assert inspection.count_thumps(pulses(40.0, 0.3)) == 8
    drum = pulses(40.0, 0.3) + pulses(1000.0, 0.3)  # its skin sounds as well
    for other in (drum, pulses(1000.0, 0.3), pulses(40.0, 1.5), np.zeros(100)):
        assert inspection.count_thumps(other) == 0


@pytest.mark.parametrize("rate", [8000, 44100])
def test_powers_of_bands_are_those_of_noise_and_of_a_sine(rng, rate):
    edges = inspection.band_edges_hz(rate)
    assert edges[-1] <= 0.5 * rate < edges[-1] * 2.0 ** (1.0 / 3.0)
    noise = inspection.band_powers(rng.standard_normal((30 * rate, 2)), rate)
    expected = np.diff(edges) / (0.5 * rate)
    wide = np.diff(edges) > 100.0  # bins do not matter
    np.testing.assert_allclose(noise.mean(axis=0)[wide], expected[wide], rtol=0.15)
    np.testing.assert_allclose(inspection.quiet_powers(noise, rate)[wide], expected[wide], rtol=0.3)
    sine = inspection.band_powers(np.sin(2.0 * np.pi * 1000.0 * np.arange(rate) / rate)[:, None],
                                  rate)
    assert sine.sum(axis=1) == pytest.approx(0.5, rel=0.01)


def test_the_end_of_a_band_is_found(rng):
    noise = rng.standard_normal((5 * SAMPLE_RATE, 1))
    assert inspection.find_wall([noise], SAMPLE_RATE) is None
    upsampled = resample(resample(noise, SAMPLE_RATE, 22050), 22050, SAMPLE_RATE)
    assert inspection.find_wall([upsampled], SAMPLE_RATE) == pytest.approx(11025, abs=300)
