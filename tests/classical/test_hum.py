"""Steady lines are distinguished from notes, and only they are removed."""

from dataclasses import replace

import numpy as np
import pytest
from restorers import make_restorer

from historical_denoiser.audio.dsp import SAMPLE_RATE
from historical_denoiser.audio.noise_profile import ProfileForm
from historical_denoiser.classical import hum
from historical_denoiser.classical.hum_lines import MIN_SHARING, Lines, remove_hum, shared_level
from historical_denoiser.network.settings import UnetConfig
from historical_denoiser.network.stored import NetworkSettings
from historical_denoiser.training.look_alikes import make_regular_strokes
from historical_denoiser.training.metrics import snr_db

SECONDS = 12
BASE_HZ = 50.02


def times(rate: int = SAMPLE_RATE, seconds: float = SECONDS) -> np.ndarray:
    return np.arange(round(seconds * rate)) / rate


def make_hum(base_hz: float = BASE_HZ, lines: int = 12, rate: int = SAMPLE_RATE,
             seconds: float = SECONDS) -> np.ndarray:
    """Lines that fall by 6 dB an octave, of phases of their own."""
    time_s = times(rate, seconds)
    return 0.02 * sum(np.cos(2.0 * np.pi * base_hz * k * time_s + k * k) / k
                      for k in range(1, lines + 1))


def make_music(rng: np.random.Generator, rate: int = SAMPLE_RATE,
               seconds: float = SECONDS) -> np.ndarray:
    """Two struck notes at a time, each of eight partials, four a second; 10 dB above the hum."""
    time_s = times(rate, seconds)
    music = np.zeros(len(time_s))
    for start in np.repeat(np.arange(0.0, seconds, 0.25), 2):
        pitch = 55.0 * 2.0 ** (rng.integers(0, 36) / 12.0)
        inside = slice(round(start * rate), round((start + 1.5) * rate))
        after = time_s[inside] - start
        phases = 2.0 * np.pi * pitch * np.outer(np.arange(1, 9), after)
        music[inside] += 0.03 * np.exp(-4.0 * after) * ((1.0 / np.arange(1, 9)) @ np.sin(phases))
    return music


@pytest.mark.parametrize("rate", [8000, SAMPLE_RATE, 96000])
def test_hum_under_music_is_found_and_only_it_goes(rng, rate):
    music, noise = make_music(rng, rate), make_hum(rate=rate)
    found = hum.find_hum([music + noise], rate)
    assert found == pytest.approx(BASE_HZ, abs=0.01)
    restored = remove_hum(music + noise, found, rate)
    assert restored.dtype == np.float32
    assert snr_db(music, restored) > snr_db(music, music + noise) + 15.0
    assert hum.find_hum([music], rate) is None
    assert snr_db(music, remove_hum(music, BASE_HZ, rate)) > 35.0


def test_a_note_at_the_place_of_a_line_stays():
    """It sounds for a second and a half, and the line beside it all the time."""
    time_s = times()
    note = np.where((time_s > 4.0) & (time_s < 5.5), 0.1, 0.0) * np.sin(
        2.0 * np.pi * 2.0 * BASE_HZ * time_s)
    restored = remove_hum(note + make_hum(), BASE_HZ)
    assert snr_db(note, restored) > 25.0


@pytest.mark.parametrize(("base_hz", "sounds", "is_found"), [
    (60.0 * 1.0015, 1, True),  # the mains of others, not quite exact
    (50.0 * 25.0 / 24.0, 3, True),  # a film that runs faster: many lines, for long enough
    (50.0 * 25.0 / 24.0, 1, False),
    (49.0, 1, True), (55.0, 3, False)])  # the latter are a held A
def test_at_another_speed_it_takes_more_to_be_sure(base_hz, sounds, is_found):
    found = hum.find_hum([make_hum(base_hz, 30, seconds=5.5)] * sounds)
    assert found == (pytest.approx(base_hz, abs=0.01) if is_found else None)


def test_a_few_lines_elsewhere_or_every_fifth_one_are_a_held_note():
    assert hum.find_hum([make_hum(49.0, 6)]) is None
    assert hum.find_hum([make_hum(5.0 * 49.4, 11)]) is None


def test_hum_in_few_pieces_of_a_recording_is_left(rng):
    quiet = 0.001 * rng.standard_normal(len(times()))
    assert hum.find_hum([quiet + make_hum(), quiet]) is not None
    assert hum.find_hum([quiet + make_hum(), quiet, quiet]) is None


@pytest.mark.parametrize(("base_hz", "is_found"), [(BASE_HZ, True), (1.02 * BASE_HZ, False)])
def test_half_of_the_pieces_suffice_at_the_mains_also_without_the_lowest_lines(
        rng, base_hz, is_found):
    hum_alone = make_hum(base_hz, seconds=5.0) - make_hum(base_hz, lines=2, seconds=5.0)
    noise = 1e-4 * rng.standard_normal((4, len(hum_alone)))
    noise[:2] += hum_alone
    assert (hum.find_hum(noise) is not None) == is_found


@pytest.mark.parametrize("drift_hz", [-0.08, 0.06])
def test_mains_that_drift_are_followed_to_the_highest_lines(rng, drift_hz):
    """A line of order 60 lies 3 to 5 Hz beside its place by then."""
    noise = 0.001 * rng.standard_normal(len(times()))
    restored = remove_hum(noise + make_hum(BASE_HZ + drift_hz, 60), BASE_HZ)
    assert snr_db(noise, restored) > 20.0


@pytest.mark.parametrize(("sputter", "is_found"), [(0.0, True), (0.6, False)])
def test_buzz_that_sputters_is_left_to_the_network(rng, sputter, is_found):
    time_s = times(seconds=5.5)
    levels = [1.0 + sputter * np.interp(time_s, np.arange(30) / 5.0, rng.standard_normal(30))
              for _ in range(40)]
    buzz = sum(level * np.cos(2.0 * np.pi * BASE_HZ * k * time_s + k * k)
               for k, level in enumerate(levels, start=1))
    sound = 0.01 * buzz + 0.002 * rng.standard_normal(len(time_s))
    assert (hum.find_hum([sound]) is not None) == is_found


@pytest.mark.parametrize("each_s", [0.1309, 0.2, 0.2556, 0.0837])
def test_strokes_at_a_regular_pace_are_no_hum(rng, each_s):
    """Castanets from a sampler: at these paces some of their lines lie where hum has lines."""
    strokes = make_regular_strokes("castanets", len(times()), each_s, rng)
    assert hum.find_hum([strokes + 1e-4 * rng.standard_normal(len(strokes))]) is None


def test_hum_of_a_scratched_disc_is_found(rng):
    scratched = make_music(rng) + make_hum()
    scratched[:: round(60.0 / 78.0 * SAMPLE_RATE)] += 0.5
    assert hum.find_hum([scratched]) == pytest.approx(BASE_HZ, abs=0.01)


@pytest.mark.parametrize(("begin", "end"), [(0.0, 7.0), (6.0, SECONDS), (4.0, 8.3)])
def test_where_hum_begins_or_ends_none_is_added(rng, begin, end):
    time_s = times()
    sounds = (time_s >= begin) & (time_s < end)
    rest = 0.001 * rng.standard_normal(len(time_s))
    change = remove_hum(rest + sounds * make_hum(), BASE_HZ) - rest
    beside = ~((time_s > begin - 0.5) & (time_s < end + 0.5))
    assert np.std(change[beside]) < 0.05 * np.std(make_hum())
    assert np.std(change) < np.std(sounds * make_hum())


@pytest.mark.parametrize("sound", [np.zeros(0), np.zeros(3), np.ones(SAMPLE_RATE * 6),
                                   np.zeros(SAMPLE_RATE * 6)])
def test_without_sound_there_is_no_hum(sound):
    assert hum.find_hum([sound.astype(np.float32)]) is None
    np.testing.assert_allclose(remove_hum(sound.astype(np.float32), BASE_HZ), sound, atol=1e-6)


def test_at_rates_too_low_for_its_lines_none_is_looked_for():
    assert hum.find_hum([make_hum(rate=4000)], 4000) is None


def same(inputs):
    """Stands for a network that changes nothing, and keeps the profile that it was given."""
    if not isinstance(inputs, list):
        return inputs
    same.profile = inputs[1]
    return inputs[0]


def test_a_recording_is_restored_without_its_hum(rng):
    settings = NetworkSettings(reference_dbfs=-20.0)
    music = make_music(rng)
    stereo = np.stack([music + make_hum(), 0.5 * music + 0.2 * make_hum()], axis=1)
    restored = make_restorer(same, settings, 6.0, dehum=True)(stereo, SAMPLE_RATE)
    for channel, share in enumerate((1.0, 0.5)):
        assert snr_db(share * music, restored[:, channel]) > 10.0 + snr_db(
            share * music, stereo[:, channel])
    untouched = make_restorer(same, settings, 6.0)(stereo, SAMPLE_RATE)
    np.testing.assert_allclose(untouched, stereo, atol=1e-4)


def test_hum_is_removed_from_a_noise_profile_as_well(rng):
    settings = NetworkSettings(reference_dbfs=-20.0, unet=UnetConfig(use_profile=True))
    form: ProfileForm = settings.profile_form
    hiss = 0.001 * rng.standard_normal(len(times()))
    profiles = []
    for dehum in (True, False):
        make_restorer(same, settings, 20.0, dehum=dehum)(
            make_music(rng) + hiss + make_hum(), SAMPLE_RATE,
            noise_profile=(hiss + make_hum())[: 2 * SAMPLE_RATE])
        profiles.append(form.mean_power(same.profile[0, 0]))
    low = slice(2, 20)  # 43 to 430 Hz
    assert profiles[0][low].sum() < 0.05 * profiles[1][low].sum()


def make_buzz() -> np.ndarray:
    """Sixty lines of one level, of phases of their own."""
    return 0.005 * sum(np.cos(2.0 * np.pi * BASE_HZ * k * times() + k * k) for k in range(1, 61))


def swing(depth_db: float, seconds: float) -> np.ndarray:
    """A gain that goes up and down by so many dB in all."""
    return 10.0 ** (depth_db / 40.0 * np.sin(2.0 * np.pi * times() / seconds))


@pytest.mark.parametrize("level", [
    swing(12.0, 60.0 / 78.0), swing(12.0, 11.0),
    np.clip(times() / 4.0, 0.0, 1.0) ** 2, np.where(times() < 5.0, 1.0, 0.2)],
    ids=["turns", "drifts", "fades in", "becomes soft"])
def test_lines_that_become_louder_together_are_found_and_go(rng, level):
    music, noise = make_music(rng), level * make_buzz()
    found = hum.find_hum([music + noise])
    assert found == pytest.approx(BASE_HZ, abs=0.01)
    restored = remove_hum(music + noise, found)
    assert snr_db(music, restored) > snr_db(music, music + noise) + 8.0
    assert hum.find_hum([level * music]) is None


def test_lines_that_swing_each_by_itself_share_no_level(rng):
    heard = np.exp(0.3 * rng.standard_normal((20, 40)))
    lines = Lines(np.arange(20.0), np.ones(20, complex), np.full(20, 3.0), np.arange(40.0), heard)
    assert shared_level(lines) is None
    shared = np.tile(np.exp(np.sin(np.arange(40.0) / 4.0)), (20, 1)) * heard
    level = shared_level(replace(lines, magnitudes=shared))
    assert np.corrcoef(np.log(level), np.sin(np.arange(40.0) / 4.0))[0, 1] > 0.95
    assert shared_level(replace(lines, magnitudes=shared, steadiness=np.ones(20))) is None
    few = slice(0, MIN_SHARING - 1)
    assert shared_level(Lines(lines.hz[few], lines.amplitudes[few], lines.steadiness[few],
                              lines.times, shared[few])) is None
