"""Tracks are found by long pauses, whatever crackles in them."""

import numpy as np
import pytest

from historical_denoiser.audio.side import TrackFinder

RATE = 8000
SPANS = ((2.0, 30.0), (33.0, 60.0), (62.5, 85.0))


def make_side(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Returns 90 s of three tunes, and its noise, with a needle that drops and a few knocks."""
    noise = 0.01 * rng.standard_normal((90 * RATE, 2))
    audio = noise.copy()
    audio[800:1600] += 0.5 * rng.standard_normal((800, 2))
    audio[int(31.5 * RATE):int(31.6 * RATE)] += 0.1
    for start, stop in SPANS:
        tune = rng.standard_normal((int((stop - start) * RATE), 2))
        # A rest of a second is no pause between tracks.
        tune[10 * RATE:11 * RATE] = 0.0
        audio[int(start * RATE):int(stop * RATE)] += 0.1 * tune
    return audio, noise


@pytest.mark.parametrize("size", [16_000, 90 * RATE, 777])
def test_tracks_begin_before_and_end_after_the_sound(rng, size):
    audio, noise = make_side(rng)
    audio[86 * RATE:], noise[86 * RATE:] = 0.0, 0.0  # digital silence is a pause
    finder = TrackFinder(RATE, 20.0)
    for start in range(0, len(audio), size):
        finder.add(audio[start:start + size], noise[start:start + size])
    found = np.array(finder.find()) / RATE
    expected = [(start - 0.3, stop + 1.0) for start, stop in SPANS]
    np.testing.assert_allclose(found, expected, atol=0.11)


def test_short_sounds_belong_to_their_neighbours(rng):
    audio, noise = make_side(rng)
    audio[8 * RATE:28 * RATE] = noise[8 * RATE:28 * RATE]  # leaves 6 s, and 2 s close to the second
    finder = TrackFinder(RATE, 20.0)
    finder.add(audio, noise)
    found = np.array(finder.find()) / RATE
    assert len(found) == 2 and found[0, 0] == pytest.approx(1.7, abs=0.1)
    assert found[0, 1] == pytest.approx(61.0, abs=0.1)


def test_noise_alone_has_no_track_and_sound_alone_has_one(rng):
    noise = 0.01 * rng.standard_normal((30 * RATE, 1))
    for audio, expected in ((noise, []), (noise + 0.1 * np.sin(np.arange(30 * RATE))[:, None]
                                          + 0.1 * rng.standard_normal(noise.shape),
                                          [(0, 30 * RATE)])):
        finder = TrackFinder(RATE, 20.0)
        finder.add(audio, noise)
        assert finder.find() == expected
