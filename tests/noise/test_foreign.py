"""Noises of tests: the same on every run, of the right length, and what their names say."""

import ast
from pathlib import Path

import numpy as np
import pytest
from carrier_samples import ROOT, band_levels_db, rng
from scipy import fft

from historical_denoiser.audio.dsp import SAMPLE_RATE
from historical_denoiser.noise import foreign

SAMPLES = 2 * SAMPLE_RATE
ALL = {**foreign.OPEN, **foreign.SEALED}


@pytest.mark.parametrize("name", ALL)
def test_a_noise_is_the_same_on_every_run(name):
    first, again, other = (ALL[name](SAMPLES, rng(seed)) for seed in (1, 1, 2))
    assert first.shape == (SAMPLES,) and np.isfinite(first).all() and np.std(first) > 0.0
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_no_code_is_shared_with_what_trains():
    tree = ast.parse(Path(ROOT, "historical_denoiser/noise/foreign.py").read_text(encoding="utf-8"))
    names = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert names == {"collections.abc", "functools", "historical_denoiser.audio.dsp"}
    assert not set(foreign.OPEN) & set(foreign.SEALED)
    assert 3 * len(foreign.SEALED) >= len(ALL)


def test_bands_fluctuate_by_themselves():
    def spread_db(deviation_db):
        noise = foreign.make_fluctuating(deviation_db, 200.0, 8 * SAMPLE_RATE, rng(3))
        levels = [band_levels_db(noise, low, low + 200.0) for low in (2000.0, 6000.0)]
        assert abs(np.corrcoef(*levels)[0, 1]) < 0.35
        return np.mean(np.std(levels, axis=1))

    still, four, six = map(spread_db, (0.0, 4.0, 6.0))
    assert still < 2.2
    assert np.sqrt(four**2 - still**2) == pytest.approx(3.3, abs=0.9)  # between two levels: less
    assert six > four + 0.8


def test_thumps_are_low_and_come_once_in_a_turn():
    noise = foreign.make_thumps(8 * SAMPLE_RATE, rng(0))
    energy, hz = np.abs(fft.rfft(noise)) ** 2, fft.rfftfreq(len(noise), 1.0 / SAMPLE_RATE)
    assert energy[hz < 120.0].sum() > 0.99 * energy.sum()
    level = np.square(noise).reshape(-1, 441).sum(axis=1)
    rhythm = np.abs(fft.rfft(level - level.mean()))
    assert np.argmax(rhythm[4:30]) + 4 == pytest.approx(8 * foreign.TURNS_PER_SECOND, abs=1.0)


def test_a_worn_groove_swings_with_the_turn():
    noise = foreign.make_swinging(8 * SAMPLE_RATE, rng(0))
    level = np.square(noise).reshape(-1, 441).sum(axis=1)
    rhythm = np.abs(fft.rfft(np.minimum(level, 4.0 * np.median(level))))[1:100]
    assert np.argmax(rhythm) + 1 == pytest.approx(8 * foreign.TURNS_PER_SECOND, abs=0.6)
