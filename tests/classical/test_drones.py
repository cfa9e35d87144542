"""Tones that sound throughout are music unless the mains or a machine have their fundamental."""

from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from restorers import make_restorer

from historical_denoiser.audio.dsp import SAMPLE_RATE, resample
from historical_denoiser.classical import drones, hum
from historical_denoiser.network.settings import UnetConfig
from historical_denoiser.network.stored import NetworkSettings
from historical_denoiser.training import look_alikes

SECONDS = 6.0
NOISE = Path(__file__).resolve().parents[2] / "data" / "noise"


def make_series(base_hz, orders=range(1, 13), seconds=SECONDS):
    """Harmonics that fall by 6 dB an octave."""
    time_s = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    return 0.05 * sum(np.cos(2.0 * np.pi * base_hz * order * time_s + order * order) / order
                      for order in orders)


def make_hiss(rng, seconds=SECONDS):
    return 0.001 * rng.standard_normal(round(seconds * SAMPLE_RATE))


def find(sound):
    return np.unique(np.round(drones.find_drones([sound]), 0))


@pytest.mark.parametrize("base_hz", [36.7, 55.0, 65.4, 73.4, 87.3, 110.0, 233.1, 440.0])
def test_the_lines_of_an_instrument_are_found(rng, base_hz):
    found = drones.find_drones([make_series(base_hz) + make_hiss(rng)])
    wanted = base_hz * np.arange(1, 9)
    nearest = np.abs(found[:, None] - wanted).min(axis=0)
    assert (nearest[wanted <= drones.MAX_HZ] < 0.3).all()
    assert (np.abs(found / base_hz - np.round(found / base_hz)) < 0.02).all()


@pytest.mark.parametrize(("base_hz", "orders"), [
    (50.0, range(1, 20)), (60.1, range(1, 20)), (100.0, range(1, 20)),
    (52.1, range(1, 20)),  # a film that runs faster
    (97.6, range(2, 30)),  # a rectifier whose lowest line is missing
    (50.0, range(3, 40)),
    (24.0, range(2, 60)),  # pictures of a film, 18 in a second, and a turntable
    (18.0, range(2, 60)),
    (1.3, range(30, 900, 7)),
    # Several series of one buzz, as were seen of mercury_electrical_noises under a voice.
    (99.8, (3, 5, 6, 9, 10, 12, 15, 18, 20, 25, 30)),
    # Single tones, such as the whistle of a radio or of a motor.
    (73.4, [1]), (440.0, [1]), (1000.0, [1]), (3150.0, [1])])
def test_hum_machines_and_single_tones_are_no_drones(rng, base_hz, orders):
    assert not len(find(make_series(base_hz, orders) + make_hiss(rng)))


def test_lines_of_a_buzz_are_one_comb_and_those_of_notes_are_not():
    """The former were found of mercury_electrical_noises under a voice, beside their places."""
    buzz = np.array([299.4, 498.5, 599.3, 898.7, 998.7, 1198.0, 1497.0, 1796.5, 1997.4, 2096.5,
                     2396.0, 2496.2, 2694.8, 2994.5, 3295.9, 3493.9, 3593.9, 3893.9, 3993.7])
    assert drones._are_one_comb(buzz)
    assert not drones._are_one_comb(146.8 * np.arange(1, 20))  # every third line of 48.9 Hz
    assert not drones._are_one_comb(43.65 * np.array([2, 3, 4, 6, 8, 9, 10, 12]))  # with a fifth


def test_no_bundled_noise_holds_a_drone():
    found = {path.name: len(drones.find_drones([channel]))
             for path in sorted(NOISE.rglob("*.flac")) for channel in sf.read(path)[0].T[None]}
    assert len(found) > 20 and not any(found.values()), found


def test_notes_that_change_are_no_drones(rng):
    notes = [make_series(hz, seconds=0.75) for hz in (65.4, 73.4, 82.4, 98.0, 65.4, 87.3, 73.4, 55)]
    assert not len(find(np.concatenate(notes)))


def test_a_drone_is_distinguished_from_the_hum_beside_it(rng):
    found = drones.find_drones([make_series(73.4) + make_series(50.01, range(1, 9))
                                + make_hiss(rng)])
    assert np.abs(found - 73.4).min() < 0.3
    for order in (1, 2, 4):
        assert np.abs(found - 50.01 * order).min() > 5.0


@pytest.mark.parametrize("sound", [np.zeros(0), np.zeros(3), np.ones(SAMPLE_RATE * 6),
                                   np.zeros(SAMPLE_RATE * 6)])
def test_without_sound_there_are_none(sound):
    assert len(drones.find_drones([sound.astype(np.float32)])) == 0


def test_a_drone_is_not_taken_for_hum_at_another_speed():
    """Three of this bass's harmonics fit a comb of 49.4 Hz, which a transfer at -1.1 % has."""
    bass = look_alikes.make_held("bowed bass", 5 * SAMPLE_RATE, np.random.default_rng(2))
    assert hum.find_hum([bass]) is not None
    assert hum.find_hum([bass], drones_hz=drones.find_drones([bass])) is None


@pytest.mark.parametrize("rate", [44100, 48000])
@pytest.mark.parametrize(("base_hz", "is_kept"), [(73.4, True), (50.0, False)])
def test_a_recording_keeps_a_drone_and_loses_hum(rng, rate, base_hz, is_kept):
    settings = NetworkSettings(reference_dbfs=-20.0)
    tones = make_series(base_hz, seconds=12.0)
    if rate != SAMPLE_RATE:
        tones = resample(tones.astype(np.float32), SAMPLE_RATE, rate)
    noisy = (tones + 0.001 * rng.standard_normal(len(tones))).astype(np.float32)
    restorer = make_restorer(lambda spectra: np.zeros_like(spectra), settings, 4.0, dehum=True,
                        keep_held=True)
    restored = restorer(noisy, rate)
    left_db = 10.0 * np.log10(np.sum((restored - tones) ** 2) / np.sum(tones ** 2))
    assert left_db < -20.0 if is_kept else not restored.any()


def test_a_drone_in_the_noise_profile_is_noise(rng):
    """A motor may sing at a pitch of its own: then the user's word counts."""
    settings = NetworkSettings(reference_dbfs=-20.0, unet=UnetConfig(use_profile=True))
    tones = make_series(73.4, seconds=12.0)
    hiss = 0.001 * rng.standard_normal(len(tones))
    restorer = make_restorer(lambda inputs: np.zeros_like(inputs[0]), settings, 4.0, keep_held=True)
    noisy, left = (hiss + tones).astype(np.float32), []
    for noise in (hiss, noisy):
        restored = restorer(noisy, SAMPLE_RATE, noise_profile=noise[: 2 * SAMPLE_RATE])
        left.append(np.sum(restored ** 2) / np.sum(tones ** 2))
    assert left[0] > 0.9
    assert left[1] < 0.01
