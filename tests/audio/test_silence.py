"""Tests of silence: found, left out, and counted back."""

import numpy as np
import pytest

from historical_denoiser.audio import silence
from historical_denoiser.audio.survey import survey

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
    assert silence.split((5, 60), silences) == [(5, 20), (20, 60)]
    assert silence.split((20, 40), silences) == [(20, 40)]
    assert silence.within(silences, 20, 40) == ((10, 20),)
    assert list(silence.spans(silences, samples)) == [
        ((0, 10), True), ((10, 30), False), ((30, 50), True), ((50, 90), False), ((90, 100), True)]
