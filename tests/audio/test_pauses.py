"""Tests of pauses: where a recording contains only noise."""

import numpy as np
import pytest

from historical_denoiser.audio.pauses import noise_alone

RATE = 8000


@pytest.fixture
def sound(rng):
    """Ten seconds: noise alone from 2 to 3 s, and from 6 to 6.7 s; `(heard, noise)`."""
    times = np.arange(10 * RATE) / RATE
    noise = 0.1 * rng.standard_normal((len(times), 2))
    tone = np.sin(2.0 * np.pi * 440.0 * times) * ~(((times >= 2.0) & (times < 3.0))
                                                    | ((times >= 6.0) & (times < 6.7)))
    return noise + 0.5 * tone[:, None], noise


def test_pauses_are_found_whole(sound):
    heard, noise = sound
    found = noise_alone([(heard, 0.9 * noise)], RATE, 20.0)
    assert found.shape == (round(1.7 * RATE), 2)
    np.testing.assert_array_equal(found[:RATE], heard[2 * RATE : 3 * RATE])
    # The same in stretches, of one channel.
    pairs = [(heard[start : start + 4 * RATE, 0], 0.9 * noise[start : start + 4 * RATE, 0])
             for start in (0, 4 * RATE)]
    np.testing.assert_array_equal(noise_alone(pairs, RATE, 20.0), found[:, :1])


@pytest.mark.parametrize(("hz", "gain"), [(35.0, 3.0), (440.0, 0.4)])
def test_a_note_that_is_taken_for_noise_is_no_pause(sound, hz, gain):
    """A drone that is removed whole is louder than all that is left; it is beside music, though.

    So is a note of which half is removed.
    """
    heard, noise = sound
    drone = gain * np.sin(2.0 * np.pi * hz * np.arange(len(heard)) / RATE)[:, None]
    music = 0.3 * np.sin(2.0 * np.pi * np.outer(np.arange(len(heard)) / RATE,
                                                [100.0, 200.0, 400.0, 800.0, 1600.0, 3000.0]))
    left = music.sum(axis=1, keepdims=True) if hz < 50.0 else drone
    assert noise_alone([(0.1 * noise + left + drone, 0.1 * noise + drone)], RATE, 20.0) is None


def test_too_little_is_none(sound):
    heard, noise = sound
    assert noise_alone([(heard[4 * RATE :], noise[4 * RATE :])], RATE, 20.0) is None  # 0.7 s
    assert noise_alone([(heard, np.zeros_like(heard))], RATE, 20.0) is None
    assert noise_alone([(heard[:10], noise[:10])], RATE, 20.0) is None


@pytest.mark.parametrize(("gain", "found"), [(0.1, None), (0.6, 1.7), (1.6, 1.7), (10.0, None)])
def test_pauses_of_another_noise_do_not_count(sound, gain, found):
    """As tape leader, whose noise is not the tape's."""
    heard, noise = (each.copy() for each in sound)
    pause = slice(2 * RATE, 3 * RATE)
    heard[pause] *= gain
    noise[pause] *= gain
    alone = noise_alone([(heard, noise)], RATE, 20.0)
    assert alone is None if found is None else len(alone) == round(found * RATE)


def test_what_lies_below_the_high_pass_is_neither_noise_nor_sound(sound):
    heard, noise = sound
    rumble = 3.0 * np.sin(2.0 * np.pi * 4.0 * np.arange(len(heard)) / RATE)[:, None]
    found = noise_alone([(heard + rumble, noise + rumble)], RATE, 20.0)
    assert len(found) == pytest.approx(1.7 * RATE, abs=0.11 * RATE)
    assert len(noise_alone([(heard + rumble, noise)], RATE, 20.0)) == len(found)
