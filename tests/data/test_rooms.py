"""Rooms: how long they ring, how strong, and how they join the sound."""

import numpy as np
import pytest
import scipy.signal

from historical_denoiser.audio import dsp
from historical_denoiser.audio.dsp import SAMPLE_RATE
from historical_denoiser.data import rooms


def decay_of(room: np.ndarray) -> float:
    """Returns the seconds in which `room` falls by 60 dB, from its fall between 5 and 25 dB."""
    left_db = 10.0 * np.log10(np.cumsum(np.square(room[1:], dtype=np.float64)[::-1])[::-1])
    left_db -= left_db[round(0.06 * SAMPLE_RATE)]
    begin, end = (int(np.flatnonzero(left_db < -db)[0]) for db in (5.0, 25.0))
    return 3.0 * (end - begin) / SAMPLE_RATE


@pytest.mark.parametrize("seconds", [0.4, 0.9, 2.0])
def test_low_sound_decays_in_the_time_that_was_asked_for(rng, seconds):
    low = scipy.signal.butter(4, (200.0, 450.0), "bandpass", fs=SAMPLE_RATE, output="sos")
    measured = [decay_of(scipy.signal.sosfilt(low, rooms.make_room(rng, (seconds, seconds))))
                for _ in range(6)]
    assert 0.65 * seconds < np.mean(measured) < 1.05 * seconds


def test_high_sound_decays_faster(rng):
    room = rooms.make_room(rng, (1.5, 1.5))
    low, high = (scipy.signal.sosfilt(scipy.signal.butter(
        4, band, "bandpass", fs=SAMPLE_RATE, output="sos"), room)
        for band in ((250.0, 500.0), (8000.0, 16000.0)))
    assert decay_of(high) < 0.6 * decay_of(low)


def test_a_room_begins_with_the_direct_sound_and_keeps_the_energy(rng):
    noise = rng.standard_normal(4 * SAMPLE_RATE).astype(np.float32)
    for _ in range(10):
        room = rooms.make_room(rng)
        assert room.dtype == np.float32 and np.argmax(np.abs(room)) == 0
        later_db = 10.0 * np.log10(np.sum(room[1:] ** 2) / room[0] ** 2)
        assert -rooms.DIRECT_DB[1] - 0.1 < later_db < -rooms.DIRECT_DB[0] + 0.1
        reverberant = rooms.sound_in_room(noise, room)
        assert reverberant.shape == noise.shape and reverberant.dtype == np.float32
        assert dsp.power(reverberant[SAMPLE_RATE:]) == pytest.approx(1.0, rel=0.15)


def test_the_bank_is_always_the_same():
    first = rooms.room_bank(0.2, 0.3)
    rooms.room_bank.cache_clear()
    second = rooms.room_bank(0.2, 0.3)
    assert len(first) == rooms.ROOMS
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)
    assert not np.array_equal(first[0][:1000], first[1][:1000])
