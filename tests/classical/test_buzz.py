"""Buzz of an unsteady mains frequency is found beside music, and added to a noise profile."""

from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from restorers import make_restorer

from historical_denoiser.audio.dsp import SAMPLE_RATE, resample
from historical_denoiser.classical import buzz
from historical_denoiser.network.settings import UnetConfig
from historical_denoiser.network.stored import NetworkSettings
from historical_denoiser.training.look_alikes import make_regular_strokes

SECONDS = 6.0
NOISE = Path(__file__).resolve().parents[2] / "data" / "noise"
PROFILED = NetworkSettings(unet=UnetConfig(depth=1, use_profile=True), reference_dbfs=-20.0,
                          context_seconds=0.2)


def make_times(seconds=SECONDS, rate=SAMPLE_RATE):
    return np.arange(round(seconds * rate)) / rate


def make_buzz(rng, base_hz, seconds=SECONDS, rate=SAMPLE_RATE):
    """Fifty lines of one level that sputters, with wow."""
    time_s = make_times(seconds, rate)
    moments = np.arange(int(20.0 * time_s[-1]) + 2) / 20.0
    level = np.interp(time_s, moments, rng.uniform(0.2, 1.8, len(moments)))
    turns = time_s + 5e-5 * np.sin(2.0 * np.pi * 0.7 * time_s)
    made = level * sum(np.cos(2.0 * np.pi * (base_hz * order * turns + rng.uniform()))
                       for order in range(1, 51))
    return 0.05 * made / np.std(made)


def make_music(rng, base_hz=98.0, seconds=SECONDS):
    """A melody over a bass note that is held, each with twenty harmonics."""
    time_s = make_times(seconds)
    pitch_hz = base_hz * 2.0 ** (rng.integers(0, 25, int(4 * seconds) + 1)[
        (4 * time_s).astype(int)] / 12.0)
    return 0.1 * sum(np.sin(2.0 * np.pi * order * np.cumsum(hz) / SAMPLE_RATE) / order
                     for hz in (pitch_hz, np.full(len(time_s), base_hz))
                     for order in range(1, 21))


@pytest.mark.parametrize("base_hz", [49.8, 50.0, 60.1, 99.8, 120.0])
def test_intermittent_buzz_is_found_under_music(rng, base_hz):
    sound = make_buzz(rng, base_hz) + make_music(rng) + 0.002 * rng.standard_normal(
        len(make_times()))
    found = buzz.find_buzz([sound])
    assert found is not None
    orders = found.hz / base_hz
    assert np.mean(np.abs(orders - np.round(orders)) * base_hz < 2.0 * buzz.BIN_HZ) > 0.9
    assert len(found.hz) == len(found.power) >= 20


@pytest.mark.parametrize("base_hz", [48.6, 49.0, 51.9, 58.3, 61.7, 98.0, 103.8, 116.5])
def test_notes_that_are_held_are_no_buzz(rng, base_hz):
    """The notes of equal temperament that are nearest to the mains, and what is no mains."""
    assert buzz.find_buzz([make_music(rng, base_hz)]) is None


@pytest.mark.parametrize("a_second", [6.26, 7.48, 11.96])
def test_strokes_at_a_regular_pace_are_no_buzz(rng, a_second):
    """Every eighth, or every fifth of their lines lies as one of the mains."""
    strokes = make_regular_strokes("typewriter", len(make_times()), 1.0 / a_second, rng)
    assert buzz.find_buzz([strokes + 1e-4 * rng.standard_normal(len(strokes))]) is None


def test_hiss_and_what_is_short_or_silent_hold_no_buzz(rng):
    assert buzz.find_buzz([0.1 * rng.standard_normal(len(make_times()))]) is None
    assert buzz.find_buzz([make_buzz(rng, 50.0, 1.0)]) is None
    assert buzz.find_buzz([np.zeros(len(make_times()))]) is None
    assert buzz.find_buzz([]) is None


def test_stretches_count_together_and_silence_does_not(rng):
    silent, loud = np.zeros(len(make_times(9.0))), make_buzz(rng, 50.0)
    whole, with_silence = (buzz.find_buzz(sounds) for sounds in ([loud], [silent, loud]))
    np.testing.assert_allclose(with_silence.hz, whole.hz)
    np.testing.assert_allclose(with_silence.power, whole.power)
    assert buzz.find_buzz([loud, make_buzz(rng, 50.0) + make_music(rng)]) is not None
    assert buzz.find_buzz([make_music(rng), make_music(rng), loud]) is None  # once is not always


@pytest.mark.parametrize("rate", [SAMPLE_RATE, 48000])
def test_a_noise_is_given_the_lines_that_it_lacks(rng, rate):
    sound = make_buzz(rng, 50.0) + 1e-4 * rng.standard_normal(len(make_times()))
    found = buzz.find_buzz([sound])
    noise = 1e-4 * rng.standard_normal(5 * rate)
    with_buzz = buzz.add_buzz(noise, found, rate)
    again = buzz.find_buzz([resample(with_buzz, rate, SAMPLE_RATE)])
    np.testing.assert_allclose(again.hz, found.hz, atol=1.5 * buzz.BIN_HZ)
    assert np.median(np.abs(10.0 * np.log10(again.power / found.power))) < 1.0
    # Once more, next to nothing is added.
    more = buzz.add_buzz(with_buzz, found, rate) - with_buzz
    assert np.mean(more**2) < 0.05 * np.mean((with_buzz - noise) ** 2)
    short = noise[:1000]
    assert buzz.add_buzz(short, found, rate) is short


def test_what_the_noise_has_of_the_buzz_is_not_added_again(rng):
    sound = make_buzz(rng, 60.0)
    added = buzz.add_buzz(sound, buzz.find_buzz([sound])) - sound
    assert np.mean(added**2) < 0.01 * np.mean(sound**2)


class KeepsLines:
    """Stands for a network that removes the hiss, and keeps the buzz unless its profile has it."""

    def __init__(self):
        self.profiles = []

    def __call__(self, inputs):
        if isinstance(inputs, list):
            self.profiles.append(inputs[1][0, 0, :, 0])
            inputs = inputs[0]
        return 0.999 * inputs


@pytest.mark.parametrize("channels", [1, 2])
def test_buzz_that_a_network_kept_is_added_to_its_profile(rng, channels):
    hiss = 0.002 * rng.standard_normal((len(make_times()), channels))
    profiles_of = {}
    for name, sound in (("buzz", make_buzz(rng, 99.8)[:, None] + hiss), ("hiss", hiss)):
        network = KeepsLines()
        # All of it but a thousandth is kept, so that no stretch is a pause.
        make_restorer(network, PROFILED, listen_first=True)(sound.astype(np.float32), SAMPLE_RATE)
        assert len(network.profiles) == 2 * channels  # in the trial, and the whole
        profiles_of[name] = network.profiles[-1]
    line = round(20 * 99.8 * 2048 / SAMPLE_RATE)
    assert profiles_of["buzz"][line] > 3.0 * profiles_of["hiss"][line]


def test_which_of_the_bundled_recordings_buzz():
    buzzing = set()
    for path in sorted(NOISE.rglob("*.flac")):
        audio, rate = sf.read(path, frames=15 * 44100, always_2d=True)
        sound = resample(np.resize(audio[:, 0], max(len(audio), 5 * rate)), rate, SAMPLE_RATE)
        if buzz.find_buzz([sound]) is not None:
            buzzing.add(path.stem)
    assert buzzing == {"hum3_electrical_hum", "mercury_cable_noise", "mercury_electrical_noises_L",
                       "mercury_electrical_noises_R", "vinyl4_crackle_analogue_L"}
