"""Tests of preparation: files whose replay is corrected."""

import json
import re

import numpy as np
import pytest
import soundfile as sf
from film_samples import Sound, write_film
from restorers import make_restorer

import inference
from historical_denoiser.audio.replay import CURVES, Replay
from historical_denoiser.core.checks import UserError
from historical_denoiser.formats import chunks, containers
from historical_denoiser.network.stored import NetworkSettings
from historical_denoiser.run.findings import examine
from historical_denoiser.run.jobs import plan
from historical_denoiser.run.settings import InferenceConfig

RATE = 44100


def restore(path, strength=0.5, **settings):
    """Restores a file with a network that takes half for noise; returns the job and the facts."""
    chosen = InferenceConfig(denoising_strength=strength, **settings)
    (job,), failures = plan([path], chosen)
    assert not failures
    shares: list[float] = []
    facts = inference.denoise_recording(
        job, make_restorer(lambda spectra: 0.5 * spectra, NetworkSettings(),
                           repair=settings.get("repair", [])),
        chosen.strength, shares.append, chosen.noise_profile, replay=chosen.replay,
        history="denoised at {strength}")
    assert sum(shares) == pytest.approx(sf.info(path).duration, abs=0.01)
    return job, json.loads(json.dumps(facts))


@pytest.mark.parametrize("repair", [[], ["gaps"]])
def test_all_corrections_at_once(tmp_path, rng, caplog, repair):
    """Result and residual add up to the corrected recording, which is lowered to fit."""
    caplog.set_level("INFO")
    path, audio = tmp_path / "a.wav", np.cumsum(rng.standard_normal((12 * RATE, 2)), axis=0)
    audio -= np.linspace(audio[0], audio[-1], len(audio))
    audio[:, 1] = np.roll(0.9 * audio[:, 0], 3) + 0.01 * audio[:, 1]
    audio *= 0.9 / np.abs(audio).max()
    sf.write(path, audio, RATE, "PCM_24")
    job, facts = restore(path, replay_curve="columbia_78", transfer_curve="500,-13.7,50",
                         speed="78.26>80", azimuth="auto", repair=repair)
    told = facts["replay"]
    assert told["replay_curve"]["name"] == "columbia_78" and told["speed"] == 80.0 / 78.26
    assert told["transfer_curve"]["bass_hz"] == 500.0
    assert told["second_channel_late_samples"] == pytest.approx(3.0, abs=0.01)
    late_seconds = told["second_channel_late_samples"] / RATE
    chosen = InferenceConfig(replay_curve="columbia_78", transfer_curve="500,-13.7,50",
                             speed="78.26>80").replay
    wanted = np.concatenate(list(Replay(
        chosen.replay_curve, chosen.transfer_curve, chosen.speed, late_seconds=late_seconds).apply(
            [sf.read(path)[0]], RATE)))
    assert len(wanted) == round(12 * RATE * 78.26 / 80.0) and np.abs(wanted).max() > 1.0
    gain = 10.0 ** (told["gain_db"] / 20.0)
    (result, rate), (residual, _) = sf.read(job.denoised), sf.read(job.residual)
    assert rate == RATE and facts["seconds"] == pytest.approx(len(wanted) / RATE, abs=0.001)
    np.testing.assert_allclose(result + residual, gain * wanted, atol=1e-3)
    np.testing.assert_allclose(result[RATE:-RATE], 0.75 * gain * wanted[RATE:-RATE], atol=2e-2)
    assert 0.9 < np.abs(gain * wanted).max() <= 0.991
    history = ("second channel moved by -3.000 samples; curve 500,-13.7,50 of the transfer undone; "
               "speed x 1.02223; replay curve columbia_78")
    assert history in caplog.text and "is lowered by" in caplog.text
    assert "WARNING" not in caplog.text
    assert sf.SoundFile(job.denoised).comment == f"{history}; denoised at strength 0.5"


@pytest.mark.parametrize(("hum_hz", "speed", "told"), [
    (48.02, 50 / 48.02, "the hum is at 48.02 Hz: it is brought to 50 Hz"),
    (61.5, 60 / 61.5, "the hum is at 61.50 Hz: it is brought to 60 Hz"),
    (45.9, 1.0, "WARNING.* at 45.90 Hz, which is more than 8 % from 50 Hz: nothing is changed"),
    (50.02, 1.0, "the hum is at 50.02 Hz: nothing has to be changed"),
    (None, 1.0, "WARNING.* no hum near 50 or 60 Hz was found: nothing is changed")])
def test_the_speed_by_the_hum(tmp_path, rng, caplog, hum_hz, speed, told):
    caplog.set_level("INFO")
    path, rate = tmp_path / "a.wav", 8000
    audio = 0.01 * rng.standard_normal((24 * rate, 2))
    if hum_hz:
        orders = np.arange(1, 13)
        audio[:, 1] += 0.05 * np.sin(2 * np.pi * np.outer(
            np.arange(len(audio)) / rate, hum_hz * orders)).sum(1)
    sf.write(path, audio, rate, "PCM_24")
    job, facts = restore(path, 0.0, speed="auto")
    assert re.search(told, caplog.text) and caplog.text.count("WARNING") == told.count("WARNING")
    assert facts["replay"]["speed"] == pytest.approx(speed, abs=1e-4)
    assert facts["replay"]["transfer_hum_hz"] == (hum_hz and pytest.approx(hum_hz, abs=0.01))
    result = sf.read(job.denoised)[0]
    assert len(result) == round(len(audio) / facts["replay"]["speed"])
    if speed == 1.0:
        np.testing.assert_array_equal(result, sf.read(path)[0])
        return
    assert f"for its hum of {hum_hz:.2f} Hz; denoised" in sf.SoundFile(job.denoised).comment
    (found,) = (each for each in examine(containers.open_audio(path)) if each.name == "hum")
    assert found.settings == ("inference.speed=auto",)
    loudest_hz = np.abs(np.fft.rfft(result[:, 1])).argmax() * rate / len(result)
    order = loudest_hz / round(speed * hum_hz)
    assert order == pytest.approx(round(order), abs=0.005)


def test_a_broadcast_wave_states_it_and_its_cue_points_move(tmp_path, rng, caplog):
    path = tmp_path / "a.wav"
    sf.write(path, 0.01 * rng.standard_normal(2 * RATE), RATE)
    point = b"\1\0\0\0" + (1000).to_bytes(4, "little") + b"data" + bytes(8) + (
        60_000).to_bytes(4, "little")
    lists = b"adtl" + chunks.chain([(b"labl", b"\1\0\0\0verse\0"),
                                    (b"ltxt", b"\1\0\0\0" + (500).to_bytes(4, "little"))])
    chunks.append_chunks(path, [(b"bext", bytes(602)), (b"cue ", b"\1\0\0\0" + point),
                                (b"LIST", lists), (b"smpl", bytes(36))])
    job, _ = restore(path, 0.0, replay_curve="riaa", speed=2.0)
    with job.denoised.open("rb") as file:
        kept = {chunk[0]: chunks.content_of(file, chunk) for chunk in chunks.find_chunks(file)}
    assert kept[b"bext"].endswith(b",T=speed x 2; replay curve riaa; denoised at strength 0\r\n")
    places = [int.from_bytes(kept[b"cue "][at : at + 4], "little") for at in (8, 24)]
    assert places == [500, 30_000] and b"verse" in kept[b"LIST"]
    assert kept[b"LIST"].endswith((250).to_bytes(4, "little")) and b"smpl" not in kept
    assert "left out, as their times are those of the former speed: smpl" in caplog.text


def test_flat_changes_no_sample(tmp_path, rng, caplog):
    caplog.set_level("INFO")
    path = tmp_path / "a.flac"
    sf.write(path, 0.1 * rng.standard_normal(RATE), RATE)
    job, facts = restore(path, 0.0, replay_curve="flat", azimuth="auto")
    assert np.array_equal(sf.read(path)[0], sf.read(job.denoised)[0])
    assert facts["replay"] == {"replay_curve": {"name": "flat", "bass_hz": 0.0, "treble_hz": 0.0,
                                                "shelf_hz": 20.0}, "gain_db": 0.0}
    assert "azimuth: nothing to do, the recording has 1 channel(s), not 2" in caplog.text


def test_times_and_files_of_noise_are_those_before_the_correction(tmp_path, rng, monkeypatch):
    path, audio = tmp_path / "a.wav", 0.001 * rng.standard_normal(8 * RATE)
    audio[: 6 * RATE] *= 50.0  # the noise alone is where the file says, and not where the result is
    sf.write(path, audio, RATE)
    sf.write(tmp_path / "noise.wav", audio[-RATE:], RATE)
    levels = []

    def analyse(self, known, read, rate, profile=None, report=None):
        levels.append(profile.std())
        return known

    monkeypatch.setattr("historical_denoiser.restoration.restorer.Restorer.analyse", analyse)
    for choice in ([6.5, 7.5], str(tmp_path / "noise.wav")):
        restore(path, noise_profile=choice, speed=2.0, replay_curve="riaa", overwrite=True)
    wanted = np.concatenate(list(Replay(CURVES["riaa"], speed=2.0).apply(
        [audio[-RATE:, None]], RATE))).std()
    np.testing.assert_allclose(levels, wanted, rtol=0.1)


def test_films_and_compressed_files_keep_their_speed(tmp_path):
    film, sound = tmp_path / "a.mkv", tmp_path / "b.m4a"
    write_film(film, "matroska", [Sound("flac", RATE)], 1.0, "mpeg4")
    write_film(sound, "mp4", [Sound("aac", RATE)], 1.0, None)
    assert len(plan([film, sound], InferenceConfig(speed="auto"))[1]) == 2
    jobs, failures = plan([film, sound], InferenceConfig(speed=0.98))
    assert not jobs and "a.mkv: inference.speed cannot be applied, its pictures" in failures[film]
    assert "convert it to WAV or FLAC first" in failures[sound]
    (job,), _ = plan([film], InferenceConfig(replay_curve="riaa"))
    facts = inference.denoise_recording(
        job, make_restorer(np.asarray, NetworkSettings()), 0.0, replay=InferenceConfig(
            replay_curve="riaa").replay)
    assert facts["replay"]["replay_curve"]["name"] == "riaa" and job.denoised.stat().st_size


@pytest.mark.parametrize("settings", [{"replay_curve": "riaa"}, {"azimuth": "auto"}])
def test_the_place_of_a_broken_sample_is_that_in_the_file(tmp_path, rng, settings):
    audio = 0.1 * rng.standard_normal((4 * RATE, 2))
    audio[3 * RATE, 1] = np.nan
    sf.write(tmp_path / "a.wav", audio, RATE, "FLOAT")
    with pytest.raises(UserError, match="NaN or infinite samples, the first at 3.000 s"):
        restore(tmp_path / "a.wav", **settings)
