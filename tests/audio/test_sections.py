"""Tests of sections: where the noise of a recording changes."""

from __future__ import annotations

import numpy as np
import pytest

from historical_denoiser.audio import sections
from historical_denoiser.audio.dsp import SAMPLE_RATE

RATE = 16_000


def white(seconds: float, rng: np.random.Generator, level: float = 0.01) -> np.ndarray:
    return level * rng.standard_normal(round(seconds * RATE))


def rumble(seconds: float, rng: np.random.Generator, level: float = 0.01) -> np.ndarray:
    return np.convolve(white(seconds, rng, level), np.ones(40) / 6.0, mode="same")


def notes(seconds: float, rng: np.random.Generator) -> np.ndarray:
    """Tones that come and go, with a pause in each half second."""
    times = np.arange(round(seconds * RATE)) / RATE
    hz = np.repeat(rng.uniform(200.0, 2000.0, int(2 * seconds)), RATE // 2)
    return np.where(times % 0.5 < 0.4, 0.2 * np.sin(2.0 * np.pi * np.cumsum(hz) / RATE), 0.0)


def changes(heard: np.ndarray, removed: np.ndarray) -> list[float]:
    """Returns the seconds at which the noise changes."""
    return [change / RATE for change in sections.changes_within(heard, removed, RATE)]


def pieces_of(noise: np.ndarray) -> list[np.ndarray]:
    powers = sections.band_powers(noise, noise, RATE)
    return [powers[start : start + 16] for start in range(0, len(powers) - 15, 16)]


def test_powers_are_those_of_half_octaves():
    times = np.arange(4 * RATE) / RATE
    tone, soft = (level * np.sin(2.0 * np.pi * 500.0 * times) for level in (0.2, 0.02))
    powers = sections.band_powers(np.stack([tone, tone], axis=1), np.stack([soft, soft], axis=1),
                                  RATE)
    assert powers.shape == (16, 14, 2)
    edges = 60.0 * 2.0 ** (np.arange(15) / 2)
    (band,) = np.flatnonzero((edges[:-1] <= 500.0) & (500.0 < edges[1:]))
    assert (powers.argmax(axis=1) == band).all()
    np.testing.assert_allclose(powers[..., 1], 100.0 * powers[..., 0])


def test_another_noise_begins_where_it_does(rng):
    """Behind notes, of which a part is removed as well."""
    music = notes(32.0, rng)
    noise = np.concatenate([white(13.0, rng), rumble(19.0, rng)])
    assert changes(music + noise, noise + 0.02 * music) == [pytest.approx(13.0, abs=0.25)]


def test_a_noise_that_comes_and_goes_again_or_is_louder_is_a_section(rng):
    noise = np.concatenate([white(12.0, rng), rumble(12.0, rng), white(12.0, rng)])
    assert changes(noise, noise) == [12.0, 24.0]
    assert sections.find_changes(pieces_of(noise), 2) == [3, 6]
    assert sections.find_changes(pieces_of(noise), 4) == []  # none is that long
    louder = np.concatenate([white(12.0, rng), white(12.0, rng, 0.05)])
    assert changes(louder, louder) == [12.0]


def test_one_noise_is_one_section(rng):
    """Also where music hides it at times, takes a part of what is removed, or pauses."""
    music = notes(32.0, rng)
    for low, high in ((0, 12), (12, 20), (20, 32)):
        music[low * RATE : high * RATE] *= (0.0 if low else 1.0, 3.0)[low == 12]
    noise = white(32.0, rng)
    loud = np.convolve(np.abs(music), np.ones(800) / 800, mode="same") > 0.02
    removed = np.where(loud, 0.5, 1.0) * noise + 0.02 * music
    assert changes(music + noise, removed) == []


def test_what_is_taken_of_a_tune_alone_is_no_noise(rng):
    """A clean tune that changes its pitch, of which a hundredth is removed."""
    times = np.arange(16 * RATE) / RATE
    beats = (times % 0.5 < 0.4).astype(float)
    low, high = (beats * np.sin(2.0 * np.pi * hz * times) for hz in (150.0, 3000.0))
    tune = 0.2 * np.concatenate([low, high]) + 1e-6 * white(32.0, rng)
    assert changes(tune, 0.01 * tune) == []


def test_what_is_taken_of_a_held_tone_is_no_noise(rng):
    """Where far more is left of it."""
    times = np.arange(16 * RATE) / RATE
    organ = 0.5 * np.concatenate([np.sin(2.0 * np.pi * hz * times) for hz in (150.0, 3000.0)])
    noise = white(32.0, rng)
    assert changes(organ + noise, 0.05 * organ + noise) == []
    assert changes(organ + noise, 0.5 * organ + noise) == [16.0]  # as far as it can be told


def test_what_is_all_but_clean_has_no_noise(rng):
    """Until something else is spliced to it."""
    noise = np.concatenate([white(12.0, rng), rumble(12.0, rng)])
    loud, other = noise + 60.0 * white(24.0, rng), rumble(16.0, rng, 3.0)
    assert changes(loud, noise) == []
    assert changes(np.concatenate([loud, other]), np.concatenate([noise, other])) == [24.0]


def test_silence_is_no_other_noise(rng):
    noise = white(32.0, rng)
    noise[10 * RATE : 22 * RATE] = 0.0
    assert changes(noise, noise) == changes(0.0 * noise, 0.0 * noise) == []
    assert sections.find_changes([], 1) == []


def test_a_change_that_is_none_has_no_place(rng):
    noise = white(32.0, rng)
    powers = sections.band_powers(noise, noise, RATE)
    assert sections.place_change(powers[:48], powers[48:80], powers[80:]) is None


def test_no_section_is_empty_or_ends_before_it_begins():
    for found, left in (([0, 60], [60]), ([40, 40, 36, 90], [40, 90]), ([97], []), ([], [])):
        assert sections.far_apart(found, 100, 1) == left


def test_bands_end_with_what_a_rate_holds(rng):
    for rate in (sections.MIN_RATE, 8000, SAMPLE_RATE, 192_000):
        noise = rng.standard_normal(rate)
        powers = sections.band_powers(noise, noise, rate)
        assert len(powers) == 4 and (powers > 0.0).all()
