"""Another strength comes from what was kept, exactly as the network would give it again."""

import numpy as np
import pytest
from matplotlib.image import imread
from restorers import make_restorer

from historical_denoiser.audio.removal import as_strength, remove
from historical_denoiser.audio.survey import survey
from historical_denoiser.core.checks import UserError
from historical_denoiser.formats.audio_io import Recording
from historical_denoiser.network.settings import UnetConfig
from historical_denoiser.network.stored import NetworkSettings
from historical_denoiser.page.listening import (
    Found,
    KeepingNoise,
    KeptNoise,
    kept_pairs,
    measure_sounds,
)
from historical_denoiser.page.sounds import COLUMNS, LOUDEST, draw_sound, write_sound
from historical_denoiser.run.settings import InferenceConfig


def recording(path, rate: int, channels: int) -> Recording:
    return Recording(path, rate, channels, 0, "WAV", "PCM_16")


@pytest.mark.parametrize("strength", [0.3, 1.0])
def test_what_is_kept_restores_as_the_network_does(strength, sine, noise, tmp_path):
    blocks = list(np.array_split(np.stack([sine + noise, sine - noise], axis=-1), 5))
    plain = make_restorer(lambda spectra: 0.5 * spectra, NetworkSettings(context_seconds=0.1), 0.5)
    expected = list(plain.stream(blocks, 44100, strength, survey(blocks, 44100)))
    first = KeepingNoise(plain, tmp_path / "noise")
    known = first.analyse(survey(blocks, 44100), lambda: blocks, 44100)
    for restorer in (first, KeptNoise(plain, first.known, tmp_path / "noise")):
        pairs = remove(restorer.separate(blocks, 44100, known), 44100, as_strength(strength))
        for was, (block, removed) in zip(expected, pairs, strict=True):
            np.testing.assert_array_equal(block - removed, was)


@pytest.mark.parametrize(("bits", "quiet", "half"), [
    (16, 1.0, True), (24, 1.0, True), (32, 1.0, True), (None, 1.0, True), (24, 1e-6, True),
    (None, 1e-9, True), (32, "constant", False)])
def test_what_is_kept_is_exact_in_half_the_bytes(bits, quiet, half, sine, rng, tmp_path):
    audio = np.stack([sine, sine[::-1]], axis=-1) + 0.01 * rng.standard_normal((len(sine), 2))
    if quiet == "constant":
        audio[:, 1] = 1.0 / 3.0
    else:
        audio *= quiet
    if bits is not None:
        audio = np.rint(audio * 2.0**(bits - 1)) / 2.0**(bits - 1)
    plain = make_restorer(lambda spectra: np.float32(0.01) * spectra, NetworkSettings(), 0.5)
    blocks, surveyed = np.array_split(audio, 3), survey([audio], 44100)
    expected = list(plain.separate(blocks, 44100, surveyed))
    list(KeepingNoise(plain, tmp_path / "noise").separate(blocks, 44100, surveyed))
    for was, now in zip(expected, kept_pairs(tmp_path / "noise", blocks), strict=True):
        np.testing.assert_array_equal(now, was)
    assert ((tmp_path / "noise").stat().st_size < 0.51 * audio.nbytes) == half


def test_what_is_heard_first_is_not_kept_for_the_noise_of_a_recording(sine, noise, tmp_path):
    audio = sine + noise
    plain = make_restorer(lambda inputs: 0.5 * (inputs[0] if isinstance(inputs, list) else inputs),
                          NetworkSettings(UnetConfig(use_profile=True), context_seconds=0.1),
                          listen_first=True)
    keeping = KeepingNoise(plain, tmp_path / "noise")
    known = keeping.analyse(survey([audio], 44100), lambda: [audio], 44100)
    assert known.profiles and not (tmp_path / "noise").exists()
    (pair,) = keeping.separate([audio], 44100, known)
    assert audio.nbytes < (tmp_path / "noise").stat().st_size < 1.01 * audio.nbytes
    kept = KeptNoise(plain, keeping.known, tmp_path / "noise")
    assert kept.analyse(survey([audio], 44100)) is known
    assert kept.analysis_seconds(len(audio), 44100) == 0.0
    np.testing.assert_array_equal(next(kept.separate([audio]))[1], pair[1])


def test_what_is_left_halfway_is_not_kept(sine, tmp_path):
    plain = make_restorer(lambda spectra: 0.5 * spectra, NetworkSettings(context_seconds=0.1), 0.5)
    blocks = np.array_split(sine, 8)
    pairs = KeepingNoise(plain, tmp_path / "noise").separate(blocks, 44100, survey(blocks, 44100))
    next(pairs)
    pairs.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("rate", "channels", "heard"), [
    (22050, 1, (22050, 1)), (48000, 2, (48000, 2)), (96000, 1, (48000, 1)), (44100, 6, (44100, 1)),
    (4000, 1, (48000, 1))])
def test_sounds_are_written_as_browsers_play_them(rate, channels, heard, tmp_path):
    audio = 0.5 * np.sin(2.0 * np.pi * 500.0 * np.arange(rate) / rate)[:, None]
    seconds = []
    sound = write_sound(tmp_path / "s", np.array_split(np.repeat(audio, channels, axis=1), 3),
                        recording(tmp_path, rate, channels), seconds.append)
    assert (sound.rate, sound.channels) == heard
    samples = np.fromfile(sound.path, "<i2").reshape(-1, sound.channels)
    assert len(samples) == sound.samples == pytest.approx(sound.rate, rel=0.02)
    assert len(sound.peaks) <= COLUMNS
    assert sound.peaks[len(sound.peaks) // 2] == pytest.approx(0.5, abs=0.01)
    assert np.abs(samples).max() / 32767 == pytest.approx(0.5, abs=0.01)
    assert seconds[-1] == sound.samples / sound.rate


def test_a_spectrogram_shows_what_is_left_at_the_place_of_its_frequency(tmp_path):
    rate = 44100
    sines = [0.5 * np.sin(2.0 * np.pi * hz * np.arange(rate) / rate)[:, None]
             for hz in (1000.0, 10000.0)]
    sounds = [write_sound(tmp_path / name, [audio], recording(tmp_path, rate, 1))
              for name, audio in (("both", sum(sines)), ("removed", sines[1]))]
    for number, loud in ((1, [1, 2]), (2, [1])):
        path = tmp_path / "picture.png"
        marks = draw_sound(path, sounds[:number], sounds[0].peaks, lambda seconds: None)
        assert [text for _, text in marks] == ["0.1 kHz", "1 kHz", "10 kHz"]
        rows = imread(path)[::-1, :, :3].sum(axis=-1).mean(axis=1)  # from below
        at = [rows[round(place * len(rows)) - 3:round(place * len(rows)) + 3].max()
              for place, _ in marks]
        assert [mark for mark, bright in enumerate(at) if bright > 2.0] == loud


def test_the_peaks_of_what_no_stage_removed_are_those_of_the_difference(rng, tmp_path):
    rate, count = 8000, 8000
    hum, hiss = 0.3 * np.sin(np.arange(count) / 20.0), 0.1 * rng.standard_normal(count)
    hiss[: count // 2] = 0.0
    audio = {"before": hum + hiss + 0.1, "removed": hum + hiss, "base": hum + hiss + 0.05,
             "hum": hum}
    before, removed, base, part = (write_sound(
        tmp_path / name, [each[:, None]], recording(tmp_path, rate, 1))
        for name, each in audio.items())
    found = Found(tmp_path, "network", InferenceConfig(), removed=removed, base=base,
                  parts={"hum": part})
    measure_sounds(found, before, lambda seconds: None)
    rest, repairs = (np.fromfile(tmp_path / name, "<u2") / LOUDEST
                     for name in ("removed.rest.peaks", "base.repairs.peaks"))
    assert len(rest) == len(repairs) == 100
    np.testing.assert_allclose(rest, np.abs(hiss).reshape(100, -1).max(axis=1), atol=1e-4)
    np.testing.assert_allclose(repairs, 0.05, atol=1e-4)


def test_nothing_to_hear_is_told(tmp_path):
    with pytest.raises(UserError, match="the recording has no samples"):
        write_sound(tmp_path / "s", [], recording(tmp_path / "a.wav", 8000, 1))
