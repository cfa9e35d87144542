"""Noise that moves is finite, of the level that is asked for, and moves as its settings say."""

from collections.abc import Iterator

import numpy as np
import pytest
from carrier_samples import band_levels_db, rng
from scipy import fft

from historical_denoiser.audio.dsp import SAMPLE_RATE
from historical_denoiser.noise import moving
from historical_denoiser.noise.moving import MovingConfig

SAMPLES = 2 * SAMPLE_RATE
# Levels alone move: no bursts, no ripple, nothing in common.
ONLY_LEVELS = {"common_chance": 0.0, "burst_chance": 0.0, "ripple_chance": 0.0,
               "fading_chance": 0.0}


def drawn(count: int = 60) -> Iterator[np.ndarray]:
    for seed in range(count):
        yield moving.make_moving(SAMPLE_RATE // 2, rng(seed), MovingConfig())


def test_every_draw_is_finite_and_of_level_1_and_no_two_are_alike() -> None:
    kurtoses = []
    for noise in drawn():
        assert noise.dtype == np.float32 and np.isfinite(noise).all()
        assert np.std(noise) == pytest.approx(1.0, abs=0.2)
        kurtoses.append(np.mean(noise.astype(np.float64) ** 4))
    assert min(kurtoses) < 4.0 and max(kurtoses) > 100.0  # from Gaussian to single bursts
    first, again = (moving.make_moving(1000, rng(3), MovingConfig()) for _ in range(2))
    np.testing.assert_array_equal(first, again)


def test_draws_lie_in_every_octave() -> None:
    centres = []
    for noise in drawn():
        energy = np.abs(fft.rfft(noise)) ** 2
        hz = fft.rfftfreq(len(noise), 1.0 / SAMPLE_RATE)
        centres.append(hz[np.searchsorted(np.cumsum(energy), 0.5 * energy.sum())])
    for low_hz in 62.5 * 2.0 ** np.arange(7):
        assert any(low_hz <= centre < 2.0 * low_hz for centre in centres), low_hz


@pytest.mark.parametrize("deviation_db", [0.0, 2.0, 4.0, 6.0])
def test_bands_fluctuate_by_as_much_as_is_asked(deviation_db: float) -> None:
    cfg = MovingConfig(deviation_db=[deviation_db] * 2, band_hz=[800.0, 800.0],
                       band_erb=[3.0, 3.0], seconds=[0.25, 0.25], **ONLY_LEVELS)
    white = rng(0).standard_normal(16 * SAMPLE_RATE).astype(np.float32)
    still = np.var(band_levels_db(white, 3000.0, 3300.0))
    found = [np.sqrt(max(np.var(band_levels_db(moving.fluctuate(white, rng(seed), cfg), 3000.0,
                                               3300.0)) - still, 0.0)) for seed in range(4)]
    assert np.mean(found) == pytest.approx(deviation_db, abs=0.3 + 0.25 * deviation_db)


def test_without_movement_noise_stays_as_it_is() -> None:
    cfg = MovingConfig(deviation_db=[0.0, 0.0], **ONLY_LEVELS)
    white = rng(1).standard_normal(SAMPLES).astype(np.float32)
    np.testing.assert_allclose(moving.fluctuate(white, rng(2), cfg), white, atol=1e-4)


def test_levels_in_common_move_all_bands_together() -> None:
    def correlation(chance: float) -> float:
        cfg = MovingConfig(deviation_db=[6.0, 6.0], band_hz=[900.0, 900.0], band_erb=[3.0, 3.0],
                           seconds=[0.2, 0.2], **(ONLY_LEVELS | {"common_chance": chance}))
        found = []
        for seed in range(8):
            white = rng(seed).standard_normal(8 * SAMPLE_RATE).astype(np.float32)
            noise = moving.fluctuate(white, rng(seed + 50), cfg)
            found.append(np.corrcoef(band_levels_db(noise, 2000.0, 3000.0),
                                     band_levels_db(noise, 9000.0, 10000.0))[0, 1])
        return float(np.mean(found))

    assert correlation(0.0) < 0.2 < 0.35 < correlation(1.0)


def test_radio_fades_slowly_and_in_all_bands() -> None:
    cfg = MovingConfig(deviation_db=[0.0, 0.0], fading_db=[30.0, 30.0], fading_seconds=[1.0, 1.0],
                       **(ONLY_LEVELS | {"fading_chance": 1.0}))
    is_inverted = []
    for seed in range(4):
        white = rng(seed).standard_normal(12 * SAMPLE_RATE).astype(np.float32)
        noise = moving.fluctuate(white, rng(seed + 9), cfg)
        levels, others = (band_levels_db(noise, low_hz, low_hz + 3000.0) - band_levels_db(
            white, low_hz, low_hz + 3000.0) for low_hz in (1000.0, 9000.0))
        assert np.corrcoef(levels, others)[0, 1] > 0.99
        assert np.abs(np.diff(levels)).max() < 13.0  # in 50 ms
        is_inverted.append(np.abs(levels.max()) > np.abs(levels.min()))
        assert 10.0 < np.abs(levels).max() < 31.0
    assert len(set(is_inverted)) == 2


def test_ripple_has_hills_and_dips_that_stay() -> None:
    cfg = MovingConfig(deviation_db=[0.0, 0.0], ripple_db=[6.0, 6.0], ripple_hz=[300.0, 300.0],
                       **(ONLY_LEVELS | {"ripple_chance": 1.0}))
    white = rng(5).standard_normal(16 * SAMPLE_RATE).astype(np.float32)
    halves = np.split(moving.fluctuate(white, rng(6), cfg), 2)
    levels = [10.0 * np.log10(np.mean((np.abs(fft.rfft(half)) ** 2)[1:160001].reshape(-1, 800), 1))
              for half in halves]
    assert np.std(levels[0]) > 3.0
    assert np.corrcoef(*levels)[0, 1] > 0.95


def test_pulses_are_low() -> None:
    for seed in range(20):
        pulses = moving.make_pulses(SAMPLES, rng(seed)).astype(np.float64)
        energy = np.abs(fft.rfft(pulses)) ** 2
        hz = fft.rfftfreq(SAMPLES, 1.0 / SAMPLE_RATE)
        assert energy[hz < 200.0].sum() > 0.6 * energy.sum() > 0.0


def test_bursts_over_a_few_milliseconds_have_no_sharp_attack() -> None:
    """Otherwise, with silence between them, they would be strokes: a wanted sound."""
    soft = 0
    for seed in range(200):
        envelope = moving._draw_bursts(SAMPLE_RATE, rng(seed))
        edges = np.flatnonzero(np.diff(envelope > 0.0))
        for start, stop in zip(edges[:-1], edges[1:], strict=True):
            burst = envelope[start + 1 : stop + 1]
            if burst.all() and len(burst) > 0.01 * SAMPLE_RATE:
                assert burst[: round(5e-4 * SAMPLE_RATE)].max() < 0.4 * burst.max()
                soft += 1
    assert soft > 100
