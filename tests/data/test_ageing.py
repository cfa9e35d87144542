"""Ageing of the clean side: what each step changes, and what it leaves."""

import numpy as np
from small_corpus import spectrum_db

from historical_denoiser.audio.dsp import SAMPLE_RATE
from historical_denoiser.data import ageing


def test_a_horn_takes_the_bass_and_rings(rng):
    noise = rng.standard_normal(4 * SAMPLE_RATE).astype(np.float32)
    places_hz = (30, *np.geomspace(250, 3500, 40), 15000)
    for _ in range(5):
        filtered = ageing.sound_through_horn(noise, rng)
        assert filtered.dtype == np.float32 and filtered.shape == noise.shape
        change = spectrum_db(filtered, *places_hz) - spectrum_db(noise, *places_hz)
        assert change[0] < -10.0 and abs(change[-1]) < 3.0
        assert max(change[1:-1]) > 2.5  # a resonance


def test_bass_is_lifted_and_nothing_else(rng):
    noise = rng.standard_normal(4 * SAMPLE_RATE).astype(np.float32)
    lifted = ageing.lift_bass(noise, 150.0, 9.0)
    assert lifted.dtype == np.float32
    low, corner, high = spectrum_db(lifted, 25, 150, 8000) - spectrum_db(noise, 25, 150, 8000)
    assert abs(low - 9.0) < 0.5 and 3.0 < corner < 8.0 and abs(high) < 0.1


def test_saturation_flattens_peaks_only(rng):
    audio = (0.1 * rng.standard_normal(SAMPLE_RATE)).astype(np.float32)
    flattened = ageing.saturate(audio, 6.0)
    quiet = np.abs(audio) < 0.02
    np.testing.assert_allclose(flattened[quiet], audio[quiet], rtol=0.01)
    assert np.abs(flattened).max() < 0.55 * np.abs(audio).max()
    assert not ageing.saturate(np.zeros(10, np.float32), 6.0).any()


def test_a_band_limit_leaves_what_is_below(rng):
    noise = rng.standard_normal(2 * SAMPLE_RATE).astype(np.float32)
    limited = ageing.limit_band(noise, 4000.0)
    below, above = spectrum_db(limited, 1000, 8000) - spectrum_db(noise, 1000, 8000)
    assert abs(below) < 0.1 and above < -30.0


def test_a_cut_removes_all_above_and_nothing_below(rng):
    noise = rng.standard_normal(2 * SAMPLE_RATE + 1).astype(np.float32)
    cut = ageing.cut_above(noise, 5000.0)
    change = spectrum_db(cut, 1000, 4500, 6000, 15000) - spectrum_db(noise, 1000, 4500, 6000, 15000)
    assert cut.dtype == np.float32 and cut.shape == noise.shape
    assert np.all(np.abs(change[:2]) < 0.05) and np.all(change[2:] < -60.0)
    assert ageing.cut_above(noise[:0], 5000.0).shape == (0,)
