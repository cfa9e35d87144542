"""Tests of silence: found, left out, and counted back."""

from __future__ import annotations

import numpy as np
import pytest

from historical_denoiser.audio import silence
from historical_denoiser.audio.survey import Section, Survey, survey

RATE = 8000


def found_seconds(audio: np.ndarray, blocks: int = 1) -> list[tuple[float, float]]:
    silences = survey(np.array_split(audio, blocks), RATE).silences
    return [(start / RATE, stop / RATE) for start, stop in silences]


@pytest.mark.parametrize("blocks", [1, 3, 1000])
@pytest.mark.parametrize(("offset", "level"), [(0.0, 1.0), (0.1, 1.0), (0.0, 1e-3)])
def test_silence_is_found_at_the_ends_and_between(rng, blocks, offset, level):
    audio = 0.1 * rng.standard_normal((10 * RATE, 2))
    for start, stop in ((0.0, 1.5), (3.0, 3.1), (5.0, 5.06), (9.0, 10.0)):
        audio[round(start * RATE) : round(stop * RATE)] = 0.0
    # Noise that an editor left in a gap, 100 dB below; and a gap in one channel alone.
    audio[: RATE // 2] += 1e-6 * rng.standard_normal((RATE // 2, 2))
    audio[6 * RATE : 7 * RATE, 1] = 0.0
    assert found_seconds(level * (audio + offset), blocks) == [(0.0, 1.5), (3.0, 3.1), (9.0, 10.0)]


def test_soft_sound_is_no_silence(rng):
    """Neither noise 60 dB below the programme, nor all of a recording that is silent."""
    audio = rng.standard_normal(4 * RATE)
    audio[RATE : 2 * RATE] *= 1e-3
    assert found_seconds(audio) == found_seconds(np.zeros(RATE)) == []


def test_what_is_left_is_counted_back(rng):
    silences, samples = ((0, 10), (30, 50), (90, 100)), 100
    audio = np.arange(samples)
    for cuts in ([], [5, 30, 31, 95], list(range(1, 100))):
        left = np.concatenate(list(silence.leave_out(np.split(audio, cuts), silences)))
        np.testing.assert_array_equal(left, np.r_[10:30, 50:90])
    assert [silence.place(sample, silences) for sample in range(60)] == left.tolist()
    assert silence.split((5, 60), silences) == [(5, 20), (20, 60)]
    assert silence.split((20, 40), silences) == [(20, 40)]
    assert silence.within(silences, 20, 40) == ((10, 20),)
    assert list(silence.spans(silences, samples)) == [
        ((0, 10), True), ((10, 30), False), ((30, 50), True), ((50, 90), False), ((90, 100), True)]


def test_a_part_of_a_recording_has_the_sections_that_reach_into_it():
    first, second, third = (Survey(0, 1.0, (0,), hum_hz=hz) for hz in (50.0, 60.0, None))
    whole = Survey(300, 1.0, (0,), silences=((120, 130),), sections=(
        Section(0, 100, first), Section(100, 200, second), Section(200, 300, third)))
    part = whole.between(50, 250)
    assert part.samples == 200 and part.silences == ((70, 80),)
    assert [(each.start, each.stop, each.surveyed.hum_hz) for each in part.sections] == [
        (0, 50, 50.0), (50, 150, 60.0), (150, 200, None)]
    inner = whole.between(110, 190)
    assert (inner.hum_hz, inner.sections, inner.samples) == (60.0, (), 80)
    # Too little of the first and of the third to be told from the second.
    assert whole.between(95, 205, least=10).hum_hz == 60.0
    assert whole.between(85, 205, least=10).sections[0].stop == 15
