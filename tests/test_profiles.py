"""Where a profile of noise comes from, and what `inference.py` makes of it."""

import logging
import weakref
from pathlib import Path

import numpy as np
import pytest
import soundfile
from restorers import make_restorer
from small_corpus import composed

import inference
from historical_denoiser.audio.dsp import SAMPLE_RATE
from historical_denoiser.audio.noise_profile import Origin
from historical_denoiser.audio.replay import Replay
from historical_denoiser.core.checks import UserError
from historical_denoiser.network.settings import UnetConfig
from historical_denoiser.network.stored import NetworkSettings
from historical_denoiser.run import profiles
from historical_denoiser.run.settings import InferenceConfig

PROFILED = NetworkSettings(UnetConfig(use_profile=True, compression=0.3))


@pytest.fixture
def recording(tmp_path, rng) -> Path:
    """Six seconds: two of hiss alone, four of chords over it."""
    times = np.arange(6 * SAMPLE_RATE) / SAMPLE_RATE
    audio = 0.003 * rng.standard_normal(len(times))
    for hz in (220.0, 331.0, 443.0, 997.0, 2011.0):
        audio += np.where(times > 2.0, 0.1 * np.sin(2.0 * np.pi * hz * times), 0.0)
    soundfile.write(tmp_path / "side.wav", audio, SAMPLE_RATE, subtype="PCM_24")
    return tmp_path / "side.wav"


def profiles_of(path: Path, choice: object, origins: list | None = None) -> list[np.ndarray]:
    """Denoises a file and returns the profiles that the network was given.

    What the report says of them is added to `origins`.
    """
    heard = []

    def listen(inputs: object) -> np.ndarray:
        spectra, profile = inputs if isinstance(inputs, list) else (inputs, None)
        heard.append(profile)
        return 0.5 * spectra

    settings = InferenceConfig(noise_profile=choice, overwrite=True)
    (job,), failures = inference.plan([path], settings)
    assert not failures
    facts = inference.denoise_recording(job, make_restorer(listen, PROFILED), noise_profile=choice)
    if origins is not None:
        origins.append(facts["noise_profile"])
    assert job.denoised.is_file() and job.residual.is_file()
    return heard


def expected(audio: np.ndarray) -> np.ndarray:
    return PROFILED.profile_form.measure((audio - audio.mean()).astype(np.float32))[None]


def test_a_stretch_of_the_recording_a_file_and_none(recording, tmp_path):
    audio, _ = soundfile.read(recording)
    stretch = audio[round(0.5 * SAMPLE_RATE) : round(1.5 * SAMPLE_RATE)]
    origins: list = []
    (found,) = profiles_of(recording, [0.5, 1.5], origins)
    np.testing.assert_allclose(found, expected(stretch), rtol=1e-4)
    name = str(tmp_path / "groove.wav")
    soundfile.write(name, stretch, SAMPLE_RATE, subtype="DOUBLE")
    np.testing.assert_allclose(profiles_of(recording, name, origins)[0], found, rtol=1e-4)
    soundfile.write(name, np.repeat(stretch, 2), 2 * SAMPLE_RATE, subtype="DOUBLE")
    low = slice(0, 200)  # of a file at another rate, where repeating samples changes little
    np.testing.assert_allclose(profiles_of(recording, name)[0][:, :, low, 0], found[:, :, low, 0],
                               rtol=0.05)
    assert profiles_of(recording, "none", origins) == [None]
    assert origins == [{"why": "given", "seconds": 1.0, "start": 0.5, "end": 1.5},
                       {"why": "file", "seconds": 1.0}, None]


def test_where_nothing_is_removed_no_profile_is_looked_for(recording):
    (job,), _ = inference.plan([recording], InferenceConfig())
    inference.denoise_recording(job, make_restorer(np.asarray, PROFILED), 0.0,
                                noise_profile=[100.0, 101.0])
    assert job.denoised.is_file()


def test_an_automatic_profile_is_reported(recording, tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        (found,) = profiles_of(recording, "auto", origins := [])
    assert origins[0]["why"] == "run-in" and origins[0]["start"] == 0.0
    assert origins[0]["end"] == origins[0]["seconds"] == pytest.approx(1.9, abs=0.2)
    assert "noise profile: 0.00 to" in caplog.text and "(run-in)" in caplog.text
    (wanted,) = profiles_of(recording, [0.1, 1.5])
    np.testing.assert_allclose(found[..., 0].mean(), wanted[..., 0].mean(), rtol=0.02)
    audio, rate = soundfile.read(recording)
    soundfile.write(tmp_path / "full.wav", audio[3 * rate :], rate)
    with caplog.at_level(logging.INFO):
        assert profiles_of(tmp_path / "full.wav", "auto") == [None]
    assert "no section of noise alone was found" in caplog.text


def test_seconds_in_the_report_are_those_of_the_file():
    assert Origin("run-out", 2.0, 10.0).describe(speed=1.5) == {
        "why": "run-out", "seconds": 3.0, "start": 15.0, "end": 18.0}
    _, origin = profiles.read_profile([15.0, 18.0], lambda: [np.ones((12_000, 1))], 1000, 12_000,
                                      Replay(speed=1.5))
    assert origin == Origin("given", 2.0, 10.0)


def test_blocks_beside_the_stretch_are_not_kept():
    """What is used of an hour's recording is a minute of it at most."""
    given, alive = [], []

    def read():
        for number in range(50):
            block = np.full((1000, 2), float(number))
            given.append(weakref.ref(block))
            yield block
            del block
            alive.append(sum(each() is not None for each in given))

    found, _ = profiles.read_profile([45.1, 46.4], read, 1000, 50_000)
    assert max(alive) <= 2
    np.testing.assert_array_equal(found[:, 1], [45.0] * 900 + [46.0] * 400)


@pytest.mark.parametrize(("choice", "message"), [
    ([5.0, 6.5], r"within the recording, which is 6.00 s long. Received: .*\[5.0, 6.5\]"),
    ([3.0, 2.0], "0 <= start < end"), ([-1.0, 2.0], "0 <= start < end"),
    ([1.0, 1.05], "at least 0.1 s apart"), ([1.0], "none, auto, "), (True, "none, auto, "),
    (["a", "b"], "none, auto, "), ("", "none, auto, ")])
def test_impossible_stretches_are_named(recording, choice, message):
    with pytest.raises(UserError, match=f"`inference.noise_profile` must be .*{message}"):
        profiles_of(recording, choice)


@pytest.mark.parametrize(("choice", "message"), [
    ("gone.wav", "gone.wav: no such file$"), ("text.wav", "text.wav: holds text, not sound"),
    ("12.5,14", r"in brackets: 'inference.noise_profile=\[12.5,14\]'")])
def test_files_that_are_no_noise_are_reported_with_the_key(tmp_path, monkeypatch, choice, message):
    monkeypatch.chdir(tmp_path)
    Path("text.wav").write_text("This is not audio at all.")
    with pytest.raises(UserError, match=f"^`inference.noise_profile` must be .*{message}"):
        profiles.check_file(choice)


@pytest.mark.parametrize(("argument", "value"), [
    ("[12.5,14]", [12.5, 14]), ("auto", "auto"), ("none", "none"), ("a b [1].wav", "a b [1].wav")])
def test_the_command_line_takes_numbers_and_names(argument, value):
    assert composed(f"inference.noise_profile={argument}").inference.noise_profile == value
