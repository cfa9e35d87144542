"""Tests of fitting: the strength for a recording, and its excerpts."""

import itertools

import numpy as np
import pytest

from historical_denoiser.audio.fitting import EXCERPT_SECONDS, excerpts, fit
from historical_denoiser.audio.removal import Strength
from historical_denoiser.audio.survey import Survey

RATE = 4000
TIMES = np.arange(8 * RATE) / RATE


def fitted_bass(noise: np.ndarray) -> float:
    """Returns what is removed below 60 Hz; the recording itself does not matter."""
    return fit(Strength("auto", noise_floor_db=12.0), [(noise, noise)], RATE).strength.bass


def test_notes_are_spared_and_steady_noise_is_not(rng):
    hiss = 0.01 * rng.standard_normal(len(TIMES))
    hum = np.sin(2.0 * np.pi * 50.0 * TIMES)
    come_and_go = np.sin(np.pi * TIMES) ** 8
    notes = hum * come_and_go
    assert fitted_bass(hiss + notes) == 0.4
    for noise in (hiss, hum, hiss + hum, hum[:, None] * [1.0, 0.5], hum + notes):
        assert fitted_bass(noise) == 1.0
    # Higher notes are no bass, and a single thump is no note.
    assert fitted_bass(hiss + np.sin(2.0 * np.pi * 200.0 * TIMES) * come_and_go) == 1.0
    assert fitted_bass(hiss + hum * (np.abs(TIMES - 4.0) < 0.1)) == 1.0


def test_the_rest_of_a_strength_stays_and_the_reason_is_given():
    found = fit(Strength("auto", ((0.0, 0.5),), 9.0), [(TIMES, TIMES)], RATE)
    assert found.strength == Strength(1.0, ((0.0, 0.5),), 9.0)
    assert found.why.startswith("1: the power of the noise estimate below 60 Hz")


@pytest.mark.parametrize("noise", [np.zeros(8 * RATE), np.ones(100)])
def test_auto_strength_is_full_for_short_or_silent_audio(noise):
    found = fit(Strength("auto"), [(noise, noise)], RATE)
    assert found.strength == Strength() and "too short or silent" in found.why
    assert fit(Strength("auto"), [], RATE).strength == Strength()


def test_excerpts_are_spread_over_a_long_recording():
    audio = np.arange(100 * RATE)

    def excerpts_of(samples, **options):
        found = excerpts(lambda: np.array_split(audio[:samples], 77),
                         Survey(samples, 1.0, (0,)), RATE, **options)
        assert {len(parts) for parts in found} == {1}
        return [parts[0] for parts in found]

    found = excerpts_of(len(audio))
    assert [len(one) / RATE for one in found] == [EXCERPT_SECONDS] * 3
    assert [round(one.mean() / RATE) for one in found] == [17, 50, 83]
    assert all((np.diff(one) == 1).all() for one in found)
    found = excerpts_of(len(audio), with_ends=True)
    assert [len(one) / EXCERPT_SECONDS / RATE for one in found] == [0.5, 1.0, 1.0, 0.5]
    assert [round(one.mean() / RATE, 1) for one in found] == [2.5, 25.0, 75.0, 97.5]
    assert found[0][0] == 0 and found[-1][-1] == audio[-1]
    found = excerpts_of(len(audio), with_ends=True, seconds=4.0)
    assert [len(one) / RATE for one in found] == [2, 4, 4, 2]
    # Of a recording that is hardly longer than they are, they overlap.
    assert [len(one) / RATE for one in excerpts_of(36 * RATE, with_ends=True)] == [5, 10, 10, 5]
    (whole,) = excerpts_of(1000)
    np.testing.assert_array_equal(whole, audio[:1000])


def test_excerpts_hold_no_silence():
    """Two minutes of leader, a gap of a second in the first excerpt, and a tail."""
    audio = np.arange(200 * RATE)
    silences = tuple((round(start * RATE), round(stop * RATE))
                     for start, stop in ((0, 120), (122, 123), (190, 200)))
    surveyed = Survey(len(audio), 1.0, (0,), silences=silences)
    found = excerpts(lambda: np.array_split(audio, 77), surveyed, RATE, with_ends=True)
    assert [[len(part) / RATE for part in parts] for parts in found] == [[2, 3], [10], [10], [5]]
    assert found[0][0][0] == 120 * RATE and found[-1][0][-1] == 190 * RATE - 1
    for part in itertools.chain(*found):
        assert (np.diff(part) == 1).all()
        assert not any(start < part[-1] and part[0] < stop for start, stop in silences)
