"""What stands out of a noise."""

import numpy as np
from carrier_samples import rng

from historical_denoiser.audio.dsp import SAMPLE_RATE
from historical_denoiser.noise.outliers import FRAME, OUTLYING_RATIO, compare_levels, split_treble


def test_hum_is_no_treble() -> None:
    times = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    for hz, low, high in ((50.0, 0.0, 0.1), (1000.0, 0.8, 1.3), (8000.0, 0.9, 1.1)):
        tone = np.sin(2.0 * np.pi * hz * times)
        gain = np.std(split_treble(tone)[1000:-1000]) / np.std(tone)
        assert low <= gain <= high


def test_the_usual_level_follows_the_hiss_and_ignores_clicks() -> None:
    noise = rng(1).standard_normal(2 * SAMPLE_RATE)
    noise[SAMPLE_RATE:] *= 10.0
    quiet, steady = compare_levels(noise)
    np.testing.assert_allclose(steady[:2000], 1.0, atol=0.15)
    np.testing.assert_allclose(steady[-2000:], 10.0, atol=1.5)
    assert not np.any(quiet[:2000] > OUTLYING_RATIO * steady[:2000])
    noise[500::1000] += 50.0  # one in 63 frames
    level, usual = compare_levels(noise)
    np.testing.assert_allclose(usual, steady, rtol=0.05)
    assert level[500 // FRAME] > OUTLYING_RATIO * usual[500 // FRAME]


def test_the_shortest_noise_is_one_frame() -> None:
    level, usual = compare_levels(np.ones(FRAME + 3))
    np.testing.assert_allclose([level, usual], 1.0)
