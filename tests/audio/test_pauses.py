"""Tests of where a recording holds noise alone."""

import numpy as np
import pytest

from denoiser.audio.pauses import noise_alone

RATE = 8000


@pytest.fixture
def sound(rng):
    """Ten seconds: noise alone from 2 to 3 s, and from 6 to 6.7 s; `(heard, noise)`."""
    times = np.arange(10 * RATE) / RATE
    noise = 0.1 * rng.standard_normal((len(times), 2))
    tone = np.sin(2.0 * np.pi * 440.0 * times) * ~(((times >= 2.0) & (times < 3.0))
                                                    | ((times >= 6.0) & (times < 6.7)))
    return noise + 0.5 * tone[:, None], noise


def test_pauses_are_found_and_heard_whole(sound):
    heard, noise = sound
    found = noise_alone([(heard, 0.9 * noise)], RATE, 20.0)
    assert found.shape == (round(1.7 * RATE), 2)
    np.testing.assert_array_equal(found[:RATE], heard[2 * RATE : 3 * RATE])
    # The same in stretches, of one channel.
    pairs = [(heard[start : start + 4 * RATE, 0], 0.9 * noise[start : start + 4 * RATE, 0])
             for start in (0, 4 * RATE)]
    np.testing.assert_array_equal(noise_alone(pairs, RATE, 20.0), found[:, :1])


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
