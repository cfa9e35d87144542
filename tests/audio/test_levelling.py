"""The level of noise that becomes louder and softer, on sounds whose parts are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from two_noises import Gate, tune_with_two_noises

from denoiser.audio import dsp
from denoiser.audio.dsp import SAMPLE_RATE, StftConfig
from denoiser.audio.levelling import (
    Estimates,
    guess_level,
    noise_level,
    restore_at_one_level,
)
from denoiser.classical import clicks
from denoiser.network.settings import UnetConfig
from denoiser.network.stored import NetworkSettings
from denoiser.restore import Restorer
from denoiser.training.metrics import snr_db

SECONDS, STFT = 8, StftConfig()
KNOWING = NetworkSettings(unet=UnetConfig(use_profile=True))
LEVELS_DB = {
    "turns of a disc": lambda times: 5.0 * np.sin(2.0 * np.pi * times / 0.767),
    "a step": lambda times: np.where(times < 0.5 * SECONDS, 0.0, -15.0),
    "a fade": lambda times: -20.0 * np.clip((times - 4.0) / 4.0, 0.0, 1.0),
}


@pytest.fixture
def tune_and_noise(rng):
    """Notes with pauses between, 5 dB above white noise that is steady."""
    tune, noise = tune_with_two_noises(rng, SECONDS, SECONDS)
    return tune, dsp.mix_at_snr(tune, noise, 5.0) - tune


def swinging(noise, level_db):
    times = np.arange(len(noise)) / SAMPLE_RATE
    return (noise * 10.0 ** (level_db(times) / 20.0)).astype(np.float32)


def power_of(noise):
    return np.square(dsp.stft(noise, STFT.win_size, STFT.hop_size)).sum(axis=-1).mean(axis=0)


def subtract(noise):
    """Returns what takes so much noise out of anything that it is given."""
    power = power_of(noise)

    def restore(audio):
        spectrum = dsp.stft(audio, STFT.win_size, STFT.hop_size)
        heard = np.square(spectrum).sum(axis=-1)
        spectrum = spectrum * np.maximum(1.0 - 4.0 * power / np.maximum(heard, 1e-12), 0.0)[
            ..., None].astype(np.float32)
        return dsp.istft(spectrum, STFT.win_size, STFT.hop_size, len(audio))

    return restore


@pytest.mark.parametrize("change", LEVELS_DB)
def test_the_level_is_found_beneath_music(tune_and_noise, change):
    tune, steady = tune_and_noise
    level_db = noise_level(tune + swinging(steady, LEVELS_DB[change]), tune, STFT,
                           power_of(steady))
    times = (np.arange(len(level_db)) * STFT.hop_size + STFT.win_size / 2.0) / SAMPLE_RATE
    away = level_db - LEVELS_DB[change](times)
    assert abs(away.mean()) < 1.0 and away.std() < 1.5


def test_without_a_profile_the_mean_is_no_change(tune_and_noise):
    tune, steady = tune_and_noise
    told = noise_level(tune + 2.0 * steady, tune, STFT, power_of(steady))
    untold = noise_level(tune + 2.0 * steady, tune, STFT)
    assert told.mean() == pytest.approx(6.0, abs=1.0)
    np.testing.assert_allclose(untold, told - told.mean(), atol=1e-6)
    assert untold.std() < 1.0


@pytest.mark.parametrize("removed", [0.0, 0.1])
def test_nothing_is_told_of_sound_that_is_all_but_clean(tune_and_noise, removed):
    tune, _ = tune_and_noise
    assert noise_level(tune, (1.0 - removed) * tune, STFT) is None


@pytest.mark.parametrize("change", LEVELS_DB)
def test_swinging_noise_is_restored_at_one_level(tune_and_noise, change):
    tune, steady = tune_and_noise
    restore = subtract(steady)
    heard = tune + swinging(steady, LEVELS_DB[change])
    levelled = restore_at_one_level(restore, heard, STFT, power_of(steady))
    second = slice(len(tune) // 2, None)  # in which the level is another one
    gains = [snr_db(tune[second], one[second]) for one in (restore(heard), levelled)]
    assert gains[1] > gains[0] + 1.0


def test_a_level_is_guessed_where_what_swings_passes_for_sound(tune_and_noise):
    tune, steady = tune_and_noise
    swings = []

    def restore(audio):
        treble = np.square(dsp.stft(audio, STFT.win_size, STFT.hop_size)[:-4, 400:]).sum((1, 2))
        swings.append(np.log10(treble).std() * 10.0)
        return subtract(steady)(audio) if swings[-1] < 1.5 else audio

    heard = tune + swinging(steady, LEVELS_DB["turns of a disc"])
    restored = restore_at_one_level(restore, heard, STFT)
    assert swings[0] > 3.0 and swings[1] < 1.5
    assert snr_db(tune, restored) > snr_db(tune, heard) + 10.0


def test_a_guess_that_nothing_confirms_changes_nothing(tune_and_noise):
    tune, steady = tune_and_noise
    heard = tune + swinging(steady, LEVELS_DB["turns of a disc"])
    calls = []

    def restore(audio):
        calls.append(audio)
        return audio

    np.testing.assert_array_equal(restore_at_one_level(restore, heard, STFT), heard)
    assert len(calls) == 2


def test_no_level_is_guessed_of_steady_noise(tune_and_noise):
    tune, steady = tune_and_noise
    assert guess_level(tune + steady, STFT) is None
    assert guess_level(steady[:20_000], STFT) is None
    times = (np.arange(685) * STFT.hop_size + STFT.win_size / 2.0) / SAMPLE_RATE
    level_db = guess_level(tune + swinging(steady, LEVELS_DB["turns of a disc"]), STFT)
    assert np.corrcoef(level_db[:685], LEVELS_DB["turns of a disc"](times))[0, 1] > 0.9


def test_steady_noise_is_restored_once(tune_and_noise):
    tune, steady = tune_and_noise
    calls = []

    def restore(audio):
        calls.append(audio)
        return subtract(steady)(audio)

    restored = restore_at_one_level(restore, tune + steady, STFT, power_of(steady))
    assert len(calls) == 1
    np.testing.assert_array_equal(restored, subtract(steady)(tune + steady))


@pytest.mark.parametrize("seconds", [0.02, 0.5, 1.0, 1.5])
def test_steady_noise_has_one_level_to_its_end(tune_and_noise, seconds):
    _, steady = tune_and_noise
    samples = round(seconds * SAMPLE_RATE)
    level_db = noise_level(steady[:samples], np.zeros(samples, np.float32), STFT,
                           power_of(steady))
    assert (level_db is None) == (seconds < 1.0)
    if level_db is not None:
        np.testing.assert_allclose(level_db, 0.0, atol=1.0)


def test_a_profile_that_lacks_the_treble_tells_the_level(tune_and_noise):
    tune, steady = tune_and_noise
    power = power_of(steady)
    power[200:] = 0.0
    assert noise_level(tune + steady, tune, STFT, power).mean() == pytest.approx(0.0, abs=0.5)
    silent = noise_level(tune + steady, tune, STFT, 0.0 * power)
    np.testing.assert_allclose(silent, noise_level(tune + steady, tune, STFT))


def test_rumble_that_is_taken_away_before_tells_nothing(tune_and_noise):
    """A network hears what is left above `highpass_hz`."""
    tune, steady = tune_and_noise
    times = np.arange(len(tune)) / SAMPLE_RATE
    rumble = (2.0 * np.sin(2.0 * np.pi * 7.3 * times) * times / SECONDS).astype(np.float32)
    level_db = noise_level(tune + steady + rumble, tune, StftConfig(highpass_hz=20.0),
                           power_of(steady))
    np.testing.assert_allclose(level_db, 0.0, atol=1.5)
    assert level_db.std() < 0.5


def test_a_transform_of_few_bins_is_enough_or_changes_nothing(tune_and_noise):
    tune, steady = tune_and_noise
    heard = tune + swinging(steady, LEVELS_DB["a step"])
    level_db = noise_level(heard, tune, StftConfig(win_size=256, hop_size=64))
    assert np.ptp(level_db) == pytest.approx(15.0, abs=3.0)
    assert noise_level(heard, tune, StftConfig(win_size=2, hop_size=1)) is None


@pytest.mark.parametrize("seconds", [3.0, 20.0])
def test_a_recording_gains_from_it_in_segments_or_whole(tune_and_noise, seconds):
    tune, steady = tune_and_noise
    heard = tune + swinging(steady, LEVELS_DB["turns of a disc"])
    once = Restorer(Gate(KNOWING), KNOWING, seconds)
    gains = [snr_db(tune, restorer(heard, SAMPLE_RATE, noise_profile=steady[:SAMPLE_RATE]))
             for restorer in (once, replace(once, level_noise=True))]
    assert gains[1] > gains[0] + 1.0


def test_what_was_heard_first_serves_as_the_first_estimate(tune_and_noise):
    """So that a short recording takes no longer than without."""
    tune, steady = tune_and_noise
    gate, calls, gains = Gate(KNOWING), [], []

    def count(inputs):
        calls.append(inputs)
        return gate(inputs)

    heard = tune + swinging(steady, LEVELS_DB["turns of a disc"])
    for level_noise in (False, True):
        calls.clear()
        restorer = Restorer(count, KNOWING, 20.0, listen_first=True, level_noise=level_noise)
        gains.append(snr_db(tune, restorer(heard, SAMPLE_RATE)))
        assert len(calls) == 2
    assert gains[1] > gains[0] + 1.0


def test_clicks_of_a_short_recording_are_looked_for_once(monkeypatch, tune_and_noise):
    """What the network hears of it is the same the second time. Its noise is as long."""
    heard, searched = sum(tune_and_noise), []
    remove_clicks = clicks.remove_clicks

    def count(audio):
        searched.append(len(audio))
        return remove_clicks(audio)

    monkeypatch.setattr(clicks, "remove_clicks", count)
    for listen_first, waveforms in ((False, 1), (True, 2)):
        Restorer(Gate(KNOWING), KNOWING, 20.0, declick=True, listen_first=listen_first)(
            heard, SAMPLE_RATE)
        assert len(searched) == waveforms
        searched.clear()


def test_estimates_are_found_by_what_was_heard(rng):
    estimates = Estimates()
    first, second = rng.standard_normal((2, 1, 100)).astype(np.float32)
    pairs = [(first[0], 0.5 * first[0])]
    estimates.keep(first, pairs)
    assert estimates.find(first.copy()) is pairs
    assert estimates.find(second) is None


@pytest.mark.parametrize(("louder_db", "calls"), [(6.0, 1), (20.0, 0)])
def test_what_lies_far_above_a_profile_and_hardly_swings_is_no_noise(tune_and_noise, louder_db,
                                                                    calls):
    """Strokes, of which profiles are freed: to restore them at that level would take more."""
    tune, noise = tune_and_noise
    heard, restored = tune + noise, []

    def restore(audio):
        restored.append(audio)
        return audio

    softer = 10.0 ** (-louder_db / 10.0) * np.mean(
        dsp.power_of_bins(dsp.stft(noise, STFT.win_size, STFT.hop_size)), axis=0)
    restore_at_one_level(restore, heard, STFT, softer, estimate=tune)
    # Where it is not restored anew, it is restored once, as it is.
    assert len([audio for audio in restored if audio is not heard]) == calls
