"""Tests of survey: level, identical channels and refused samples."""

import numpy as np
import pytest

from historical_denoiser.audio.dsp import SAMPLE_RATE
from historical_denoiser.audio.survey import survey


@pytest.mark.parametrize("cuts", [[], [1, 5000, 5000, 100001]])
def test_twins_silence_and_the_level_without_pauses(cuts):
    tone = np.zeros(3 * SAMPLE_RATE)
    tone[SAMPLE_RATE:] = 0.5 * np.sin(np.arange(2 * SAMPLE_RATE) * 2.0 * np.pi / 100.0)
    other = tone.copy()
    other[-1] += 0.1
    constant = np.full_like(tone, 0.25)
    found = survey(np.split(np.stack([constant, tone, other, tone], axis=1), cuts), SAMPLE_RATE)
    assert found.samples == 3 * SAMPLE_RATE
    assert found.source == (-1, 1, 2, 1) and found.distinct == [1, 2]
    assert found.power == pytest.approx(0.125, rel=1e-3)


def test_nothing_has_no_channels():
    found = survey([], SAMPLE_RATE)
    assert (found.samples, found.power, found.source, found.silences) == (0, 0.0, (), ())


@pytest.mark.parametrize(("value", "message"), [
    *((value, "NaN or infinite samples, the first") for value in (np.nan, np.inf, -np.inf)),
    (-1e299, r"a sample of 1e\+299")])
def test_the_first_sample_that_is_no_number_or_beyond_all_sense_is_named(value, message):
    audio = np.zeros((SAMPLE_RATE, 2))
    audio[SAMPLE_RATE // 2 :, 1] = value
    with pytest.raises(ValueError, match=rf"{message} at 0\.500 s"):
        survey(np.split(audio, 10), SAMPLE_RATE)


@pytest.mark.parametrize("level", [1.0, 1e-4])
def test_a_knock_does_not_set_the_level(rng, level):
    """Nor does a sample that is broken; but music that begins suddenly does."""
    audio = level * 0.1 * rng.standard_normal(20 * SAMPLE_RATE)
    known = survey([audio], SAMPLE_RATE).power
    knock, broken, late = audio.copy(), audio.copy(), 1e-3 * audio
    knock[100000 : 100000 + round(0.15 * SAMPLE_RATE)] *= 10.0**2.5
    broken[5000] = 1e6
    late[-2 * SAMPLE_RATE :] *= 1000.0
    for other, tolerance_db in ((knock, 1.5), (broken, 1.0), (late, 0.2)):
        power = survey([other], SAMPLE_RATE).power
        assert 10.0 * np.log10(power / known) == pytest.approx(0.0, abs=tolerance_db)


def test_of_many_channels_the_alike_are_found_across_blocks(rng):
    audio = rng.standard_normal((1000, 3)).astype(np.float32)
    audio = np.concatenate([audio, audio, np.zeros((1000, 2), np.float32)], axis=1)
    audio[700, 4] += 1e-3
    audio[:, 2] *= 0.0
    audio[500, [2, 5]] = 1.0, 1.0
    audio[:500, 5] = -0.0
    audio[501:, 5] = 0.0
    found = survey(np.split(audio, [300, 650]), 44100)
    assert found.source == (0, 1, 2, 0, 4, 2, -1, -1)
