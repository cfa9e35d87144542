"""Tests of inference and audio_io: the command line, the files, and what is written."""

import itertools
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import programs
import pytest
import soundfile as sf
from audio_samples import write_audio, write_recordings
from film_samples import Sound, heard, write_film
from restorers import denoise_all, make_restorer
from small_corpus import composed

import config
import inference
from historical_denoiser import denoise
from historical_denoiser import denoiser as methods
from historical_denoiser.audio.dsp import SAMPLE_RATE, StftConfig
from historical_denoiser.audio.survey import survey
from historical_denoiser.core.checks import UserError
from historical_denoiser.core.command_line import exit_on_user_error, keys_of
from historical_denoiser.core.files import hash_of
from historical_denoiser.data.settings import DsetConfig
from historical_denoiser.formats import audio_io, containers
from historical_denoiser.network.stored import BEST_NAME, CONFIG_NAME, NetworkSettings
from historical_denoiser.restoration import analysis
from historical_denoiser.restoration.restorer import Restorer
from historical_denoiser.restoration.separation import SEGMENT_SECONDS
from historical_denoiser.restoration.settings import RETIRED, StageSettings
from historical_denoiser.run import batch
from historical_denoiser.run.jobs import Job, plan, report_folder
from historical_denoiser.run.report import REPORT_NAME, RESULTS_VERSION, RunReport, hash_of_values
from historical_denoiser.run.settings import InferenceConfig
from historical_denoiser.run.tracks import denoise_tracks
from historical_denoiser.settings import Config, UnetConfig
from inference import SOME_FAILED_STATUS, Denoiser

ROOT = Path(inference.__file__).resolve().parent
LOSSLESS = [(container, subtype) for container in audio_io.ENDINGS
            for subtype in audio_io.BITS if sf.check_format(container, subtype)]


def halve(audio: np.ndarray) -> np.ndarray:
    """Stands for a network: half of everything is noise."""
    return 0.5 * audio


class OnWaveforms(Restorer):
    """Its network is a function of waveforms, so that samples can be predicted."""

    def _restore(self, waveforms: np.ndarray, **known: object) -> np.ndarray:
        return self.network(waveforms)


def on_waveforms(predict, network: NetworkSettings, segment_seconds: float = SEGMENT_SECONDS,
                 **stages: object) -> OnWaveforms:
    """Returns a restorer by a function of waveforms, with the stages that are named."""
    return OnWaveforms(predict, network, StageSettings.only(**stages), segment_seconds)


def run_file(path: Path, predict=halve, restorer: Restorer | None = None,
             network: NetworkSettings | None = None, **settings: object) -> Job:
    """Denoises one file in this process."""
    chosen = InferenceConfig(**settings)
    (job,), failures = inference.plan([path], chosen)
    assert not failures
    network = network or NetworkSettings(context_seconds=chosen.context_seconds)
    restorer = restorer or on_waveforms(predict, network, chosen.segment_seconds)
    inference.denoise_recording(job, restorer, chosen.strength)
    return job


def run_program(*arguments: object, cwd: Path) -> subprocess.CompletedProcess:
    return programs.run("inference.py", *arguments, cwd=cwd)


def read_native(path: Path) -> np.ndarray:
    """Reads samples as they are stored, integers left-justified."""
    dtype = "float64" if sf.info(path).subtype in ("FLOAT", "DOUBLE") else "int32"
    return sf.read(path, dtype=dtype, always_2d=True)[0]


def visible(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


# --- The command line ------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["lsa", "network"])
@pytest.mark.parametrize("off", [{"declick": False}, {"declick": "off"}, {"dehum": False}])
def test_clicks_and_hum_are_taken_out_first_unless_left_to_the_network(method, off, tiny_run):
    cfg = Config(path_experiment="x", method=method, inference=InferenceConfig(**off),
                 weights=str(tiny_run) if method == "network" else None)
    stages = inference.choose_method(cfg).load().stages
    assert (stages.is_on("declick"), stages.dehum) == ("declick" not in off, "dehum" not in off)


def test_the_switch_of_a_removed_stage_is_accepted_with_a_warning(tiny_run, caplog):
    assert InferenceConfig(**dict.fromkeys(RETIRED, False)).stages == StageSettings()
    assert Denoiser.load(tiny_run, **dict.fromkeys(RETIRED, True)).stages == StageSettings()
    for stage in RETIRED:
        assert caplog.text.count(f"inference.{stage} has no effect: this stage was removed") == 2


def test_the_report_identifies_a_noise_profile_by_its_content(knowing_run, tmp_path):
    """Another noise under the same name gives other results."""
    made_with = []
    for seconds in (0.5, 1.0):
        write_audio(tmp_path / "noise.wav", seconds)
        cfg = Config(path_experiment="x", weights=str(knowing_run), inference=InferenceConfig(
            noise_profile=str(tmp_path / "noise.wav")))
        made_with.append(inference.choose_method(cfg).made_with)
    first, second = made_with
    assert first != second
    assert first["settings"].keys() == second["settings"].keys()
    (tmp_path / "noise.wav").rename(tmp_path / "other.wav")
    cfg.inference.noise_profile = str(tmp_path / "other.wav")
    moved = inference.choose_method(cfg)
    assert moved.made_with == second
    assert moved.described["settings"]["noise_profile"] == str(tmp_path / "other.wav")


def test_what_is_done_otherwise_now_is_not_taken_for_done(tiny_run, monkeypatch):
    def made_with(declick: bool = True, **settings: str) -> dict:
        return inference.choose_method(Config(
            path_experiment="x", inference=InferenceConfig(declick=declick), **settings)).made_with

    for settings in ({"method": "lsa"}, {"weights": str(tiny_run)}):
        before = made_with(**settings)
        assert made_with(**settings) == before != made_with(False, **settings)
        with monkeypatch.context() as later:
            later.setattr(methods, "RESULTS_VERSION", RESULTS_VERSION + 1)
            assert made_with(**settings) != before


@pytest.mark.parametrize(("rates", "settings", "expected"), [
    ([(59.0, 1)], {}, "auto"), ([(61.0, 1)], {}, "keras"), ([(31.0, 2)], {}, "keras"),
    ([(1.0, 1)] * 40, {}, "auto"), ([(1.0, 1)] * 80, {}, "keras"),
    ([(1.0, 1)], {"resume": True}, "keras"), ([(900.0, 1)], {"runtime": "onnx"}, "onnx"),
    ([(900.0, 1)], {"cluster": "ray"}, "auto")])
def test_long_work_is_computed_on_a_gpu(rates, settings, expected, tmp_path, monkeypatch):
    """By TensorFlow, whose loading takes longer than short work."""
    pytest.importorskip("tensorflow")
    jobs = []
    for number, (seconds, channels) in enumerate(rates):
        path = tmp_path / f"{number}.wav"
        sf.write(path, np.zeros((round(8000 * seconds), channels), np.int16), 8000)
        jobs.append(path)
    chosen = InferenceConfig(**settings)
    planned, _ = plan(jobs, InferenceConfig())
    monkeypatch.setattr(denoise, "may_have_gpu", lambda: True)
    assert denoise.choose_runtime(chosen, planned) == expected
    assert denoise.choose_runtime(chosen, planned, Path("net.onnx")) == chosen.runtime
    for name in ("has_tensorflow", "may_have_gpu"):
        with monkeypatch.context() as patch:
            patch.setattr(denoise, name, lambda: False)
            assert denoise.choose_runtime(chosen, planned) == chosen.runtime


def test_a_network_without_profiles_refuses_one(tiny_run):
    cfg = Config(path_experiment="x", weights=str(tiny_run),
                 inference=InferenceConfig(noise_profile=[0.0, 1.0]))
    with pytest.raises(UserError, match="none with .*, whose network takes no profile"):
        inference.choose_method(cfg)


def test_the_classical_method_takes_a_noise_profile(rng, sine):
    noise = 0.05 * rng.standard_normal(len(sine)) * (1.0 + np.arange(len(sine)) // 8000 % 2)
    restorer = inference.choose_method(Config(path_experiment="x", method="lsa")).load()
    profile = 0.1 * rng.standard_normal(SAMPLE_RATE)
    noisy = (0.3 * sine + noise).astype(np.float32)
    told = restorer(noisy, SAMPLE_RATE, noise_profile=profile)
    blind, left = restorer(noisy, SAMPLE_RATE), np.mean((told - 0.3 * sine) ** 2)
    assert left < 0.5 * np.mean((blind - 0.3 * sine) ** 2)
    assert left < 0.1 * np.mean(noise**2)


# --- Which files ------------------------------------------------------------------------------


@pytest.mark.skipif(not os.path.exists("/dev/stdin"), reason="needs a name for standard input")
def test_nothing_is_written_among_devices(tmp_path):
    """Not even what failed: root may write there, as these tests often do."""
    write_audio(tmp_path / "a.wav")
    before = set(os.listdir("/dev"))
    with (tmp_path / "a.wav").open("rb") as stdin:
        done = subprocess.run([sys.executable, inference.__file__, "/dev/stdin", "method=lsa"],
                              stdin=stdin, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1 and "name one with inference.output_dir=FOLDER" in done.stderr
    assert {name for name in os.listdir("/dev") if "denoised" in name} <= before


def run_again(paths: list[Path], made_with: dict, **settings: object) -> dict[Path, str]:
    """Denoises what is not done already, as the program does; returns what is refused."""
    chosen = InferenceConfig(**settings)
    jobs, failures = inference.plan(paths, chosen, lambda: made_with)
    restorer = on_waveforms(halve, NetworkSettings())

    def report(job: Job) -> RunReport:
        return RunReport(report_folder(job.denoised, chosen), {}, made_with)

    return failures | denoise_all(
        jobs, restorer, chosen.strength, print,
        lambda job, facts: report(job).add(job.recording.path, job.results, facts),
        resume=hash_of_values(made_with) if chosen.resume else None,
        announce=lambda job: report(job).announce(job.recording.path, job.results))


def test_a_fault_of_the_program_is_reported_and_the_others_are_done(tmp_path, caplog):
    jobs, _ = plan(write_recordings(tmp_path, "a.wav", "b.wav"), InferenceConfig())

    def break_down(audio):
        if not done:
            done.append(True)
            raise KeyError("surprise")
        return halve(audio)

    done, notes = [], []
    failures = denoise_all(jobs, on_waveforms(break_down, NetworkSettings()), 1.0, print,
                           lambda job, facts: notes.append(job))
    assert list(failures) == [tmp_path / "a.wav"] and notes == [jobs[1]]
    assert "a.wav: a fault of this program (KeyError: 'surprise')" in failures[tmp_path / "a.wav"]
    assert "Traceback" in caplog.text


def test_finished_results_are_recognised_by_content_and_settings(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    paths = write_recordings(Path(), "a.wav", "b.flac")
    assert run_again(paths[:1], {"weights": 1}) == {}
    # As a shell's `*` gives them; and nothing is taken for a result of what is not here.
    everything = [str(path) for path in sorted(Path().iterdir()) if path.suffix != ".json"]
    assert inference.find_recordings([*everything, "c_denoised.wav"]) == [
        *paths, Path("c_denoised.wav")]
    before = Path("a_denoised.wav").stat().st_mtime_ns
    os.utime(paths[0])  # newer than its results, and the same
    caplog.set_level("INFO")
    assert run_again(paths, {"weights": 1}) == {}
    assert Path("a_denoised.wav").stat().st_mtime_ns == before
    assert "a.wav: has its results already" in caplog.text and Path("b_denoised.flac").exists()
    assert run_again(paths[:1], {"weights": 1}) == {}  # one alone is no other case
    assert "other weights or settings" in run_again(paths, {"weights": 2})[paths[1]]
    whole = paths[0].read_bytes()
    paths[0].write_bytes(whole[:-2] + b"\1\1")  # as long, and not older than its results
    os.utime(paths[0], (1e9, 1e9))
    assert "another recording" in run_again(paths[:1], {"weights": 1})[paths[0]]
    paths[0].write_bytes(whole)
    Path("a_residual.wav").write_bytes(b"half")
    assert "not as they were written" in run_again(paths[:1], {"weights": 1})[paths[0]]
    Path(REPORT_NAME).unlink()
    refused = run_again(paths[:1], {"weights": 1})[paths[0]]
    assert f"no {REPORT_NAME} tells" in refused and "overwrite=true" in refused
    assert run_again(paths[:1], {"weights": 1}, overwrite=True) == {}
    assert Path("a_residual.wav").stat().st_size > 100


def test_a_picture_is_drawn_later(tmp_path, caplog):
    caplog.set_level("INFO")
    path = tmp_path / "a.wav"
    write_audio(path)
    assert run_again([path], {}) == {}
    before = (tmp_path / "a_denoised.wav").read_bytes()
    assert run_again([path], {}, spectrogram=True) == {}
    assert (tmp_path / "a_spectrogram.png").is_file()
    assert (tmp_path / "a_denoised.wav").read_bytes() == before
    for drawn in (False, True):
        caplog.clear()
        assert run_again([path], {}, spectrogram=drawn) == {}
        assert "has its results already and is left alone" in caplog.text
    # A picture that this program did not draw is not replaced without asking.
    (tmp_path / "a_spectrogram.png").write_bytes(b"mine")
    assert "not as they were written" in run_again([path], {}, spectrogram=True)[path]
    (tmp_path / "a_residual.wav").unlink()
    (tmp_path / "a_spectrogram.png").unlink()
    assert "or not all" in run_again([path], {}, spectrogram=True)[path]


class Killed(BaseException):
    """Ends a run at once, as a kill does, but for what is cleaned up."""


def test_a_kill_among_the_results_leaves_none_that_counts_as_done(tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO")
    path = tmp_path / "a.wav"
    write_audio(path)
    assert run_again([path], {"weights": 1}) == {}
    replace = Path.replace

    def replace_some(temporary: Path, target: Path) -> None:
        if target.name == "a_denoised.wav":
            raise Killed
        replace(temporary, target)

    with monkeypatch.context() as dying:
        dying.setattr(Path, "replace", replace_some)
        with pytest.raises(Killed):
            run_again([path], {"weights": 2}, overwrite=True)
    assert "made by other weights" in run_again([path], {"weights": 1})[path]
    assert run_again([path], {"weights": 2}) == {}
    assert "has its results already" not in caplog.text
    assert "a_residual.wav; they are made again" in caplog.text
    assert run_again([path], {"weights": 2}) == {}
    assert "has its results already" in caplog.text


@pytest.mark.parametrize("resume", [False, True])
def test_a_run_that_was_killed_before_its_report_is_finished(tmp_path, monkeypatch, resume):
    path = tmp_path / "a.wav"
    write_audio(path)

    def die(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as dying:
        dying.setattr(RunReport, "add", die)
        with pytest.raises(Killed):
            run_again([path], {"weights": 1}, resume=resume)
    assert (tmp_path / "a_denoised.wav").is_file()
    assert "exist already" in run_again([path], {"weights": 2}, resume=resume)[path]
    assert run_again([path], {"weights": 1}, resume=resume) == {}
    assert visible(tmp_path) == {"a.wav", "a_denoised.wav", "a_residual.wav", REPORT_NAME}
    assert run_again([path], {"weights": 1}) == {}


def test_a_report_that_cannot_be_added_to_does_no_harm_to_results(tmp_path, caplog):
    jobs, _ = plan(write_recordings(tmp_path, "a.wav", "b.wav"), InferenceConfig())
    report = RunReport(tmp_path, {}, {})

    def note(job: Job, facts: dict) -> None:
        (tmp_path / REPORT_NAME).write_text("broken while the run went on")
        report.add(job.recording.path, job.results, facts)

    restorer = on_waveforms(halve, NetworkSettings())
    assert denoise_all(jobs, restorer, 1.0, print, note,
                       announce=lambda job: report.announce(
                           job.recording.path, job.results)) == {}
    assert caplog.text.count(f"is written, but {REPORT_NAME} does not list it") == 2
    assert visible(tmp_path) == {REPORT_NAME, *(f"{name}{part}.wav" for name in "ab"
                                                for part in ("", "_denoised", "_residual"))}


def test_what_never_changes_within_a_tenth_of_a_second_is_denoised(tmp_path):
    audio = np.zeros(4411)
    audio[-1] = 0.5  # each frame over which the level is measured is constant
    sf.write(tmp_path / "a.wav", audio, SAMPLE_RATE)
    job = run_file(tmp_path / "a.wav", network=NetworkSettings(reference_dbfs=-20.0))
    np.testing.assert_allclose(sf.read(job.denoised)[0], 0.5 * audio, atol=1e-4)


@pytest.mark.parametrize(("name", "predict", "error", "message"), [
    ("nan.wav", halve, UserError, r"NaN or infinite samples, the first at 0\.500 s"),
    ("a.wav", lambda audio: audio * np.nan, UserError, "the network returned NaN"),
    ("a.wav", lambda audio: sys.exit(1), SystemExit, "1"),
    ("a.mkv", lambda audio: sys.exit(1), SystemExit, "1")])
def test_what_fails_leaves_nothing(tmp_path, name, predict, error, message):
    write_recordings(tmp_path, "a.wav", seconds=3.0)
    write_film(tmp_path / "a.mkv", "matroska", [Sound("pcm_s16le")], 1.0)
    audio = np.zeros((SAMPLE_RATE, 2))
    audio[SAMPLE_RATE // 2, 1] = np.nan
    sf.write(tmp_path / "nan.wav", audio, SAMPLE_RATE, subtype="FLOAT")
    before = visible(tmp_path)
    with pytest.raises(error, match=message):
        run_file(tmp_path / name, predict)
    assert visible(tmp_path) == before


@pytest.mark.parametrize("ending", ["wav", "flac"])
def test_a_file_that_was_cut_off_is_denoised_with_a_warning(tmp_path, caplog, ending):
    path = tmp_path / f"a.{ending}"
    write_audio(path, 1.0)
    os.truncate(path, path.stat().st_size // 2)
    path.chmod(0o440)
    job = run_file(path)
    if os.name == "posix":  # for whom it is; its owner can replace it
        assert {result.stat().st_mode & 0o777 for result in job.results} == {0o640}
    assert re.search(r"promises 1\.0 s of audio, but only 0\.[45] s", caplog.text)
    assert 0.4 < sf.info(job.denoised).frames / SAMPLE_RATE <= 0.5


# --- What is written --------------------------------------------------------------------------


@pytest.mark.parametrize(("container", "subtype"), LOSSLESS)
def test_strength_zero_returns_the_input_bit_for_bit(tmp_path, rng, container, subtype):
    bits, channels = audio_io.BITS[subtype], 1 if container == "SVX" else 2
    if bits is None:
        audio = 3.0 * rng.standard_normal((5000, channels))
    else:
        steps = rng.integers(-(2 ** (bits - 1)), 2 ** (bits - 1), (5000, channels))
        steps[0], steps[1] = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
        audio = (steps << (32 - bits)).astype(np.int32)
    path = tmp_path / f"a{audio_io.ENDINGS[container][0]}"
    sf.write(path, audio, SAMPLE_RATE, format=container, subtype=subtype)
    job = run_file(path, denoising_strength=0.0)
    for result in (job.denoised, job.residual):
        info = sf.info(result)
        assert (info.format, info.subtype, info.samplerate) == (container, subtype, SAMPLE_RATE)
    np.testing.assert_array_equal(read_native(job.denoised), read_native(path))
    assert not read_native(job.residual).any()


def test_the_band_of_a_file_is_limited_at_strength_zero_as_well(tmp_path):
    """What is removed is in the residual; 16-bit results are dithered, as they changed."""
    audio = write_audio(tmp_path / "a.wav", subtype="PCM_16", channels=2)
    job = run_file(tmp_path / "a.wav", denoising_strength=0.0, band_hz=[400, None])
    restored, removed = (sf.read(path)[0] for path in (job.denoised, job.residual))
    np.testing.assert_allclose(restored + removed, audio, atol=1e-4)
    inside = slice(5000, -5000)  # the tones of the channels have 300 and 600 Hz
    assert np.abs(restored[inside, 0]).max() < 0.12 and np.abs(removed[inside, 1]).max() < 0.05


def test_bands_and_floor_apply_to_files(tmp_path):
    audio = write_audio(tmp_path / "a.wav", subtype="FLOAT")[:, 0]
    settings = {"denoising_strength": 0.8, "strength_per_band": [[0, 0.25], [2000, 1]],
                "noise_floor_db": 10}
    job = run_file(tmp_path / "a.wav", **settings)
    strength = InferenceConfig(**settings).strength
    expected = on_waveforms(halve, NetworkSettings())(audio, SAMPLE_RATE, strength)
    np.testing.assert_allclose(sf.read(job.denoised)[0], expected, atol=1e-6)
    assert np.abs(expected - audio * (1.0 - 0.5 * 0.8)).max() > 0.01
    assert str(strength) == ("strength 0.8 (0.25 from 0 Hz, 1 from 2000 Hz), noise lowered by at "
                             "most 10 dB")
    fitted = run_file(tmp_path / "a.wav", denoising_strength="auto")
    assert fitted.denoised.name == "a_denoised_sauto.wav"
    np.testing.assert_allclose(sf.read(fitted.denoised)[0], 0.5 * audio, atol=1e-6)


def test_the_report_states_what_was_used(tmp_path, rng):
    tone = write_audio(tmp_path / "tone.wav", 3.0)[:, 0] * np.linspace(0.0, 1.0, 3 * SAMPLE_RATE)
    audio = tone[:, None] * [1.0, 0.5] + 0.01 * rng.standard_normal((len(tone), 2))
    sf.write(tmp_path / "a.wav", audio, SAMPLE_RATE, subtype="FLOAT")
    chosen = InferenceConfig(denoising_strength="auto", noise_floor_db=9.0, mono_source=True)
    (job,), _ = plan([tmp_path / "a.wav"], chosen)
    facts = inference.denoise_recording(
        job, on_waveforms(halve, NetworkSettings(), mono_source=chosen.mono_source),
        chosen.strength, history="denoised at {strength}")
    told = json.loads(json.dumps(facts))
    assert told["strength"]["share"] == 1.0 and told["strength"]["noise_floor_db"] == 9.0
    assert told["strength"]["why"].startswith("1: ")
    assert told["mono_source"]["second_channel_db"] == pytest.approx(-6.02, abs=0.1)
    result, _ = sf.read(job.denoised)
    assert np.corrcoef(result.T)[0, 1] > np.corrcoef(audio.T)[0, 1]
    assert "denoised at strength 1, noise lowered by at most 9 dB" in sf.SoundFile(
        job.denoised).comment


@pytest.mark.parametrize(("name", "subtype", "strength"), [
    ("a.wav", "PCM_16", 0.0), ("a.flac", "PCM_16", 0.5), ("a.wav", "DOUBLE", 0.0),
    ("a.mkv", "", 0.0)])
def test_damage_is_repaired_whatever_the_strength(tmp_path, caplog, name, subtype, strength):
    path, time_s = tmp_path / name, np.arange(3 * SAMPLE_RATE) / SAMPLE_RATE
    if name == "a.mkv":
        write_film(path, "matroska", [Sound("flac", SAMPLE_RATE)], 3.0, "mpeg4")
    else:
        clean = 1.4 * np.sin(2.0 * np.pi * 440.0 * time_s) * np.sin(3.0 * time_s) ** 2
        audio = np.clip(clean, -1.0, 1.0 - 2.0**-15)
        audio[40_000:40_500] = 0.0
        sf.write(path, audio, SAMPLE_RATE, subtype=subtype)
    (job,), _ = plan([path], InferenceConfig(denoising_strength=strength))
    shares: list[float] = []
    with caplog.at_level("INFO"):
        facts = json.loads(json.dumps(inference.denoise_recording(
            job, on_waveforms(lambda audio: audio, NetworkSettings(),
                              repair=["clipping", "gaps"]), strength, shares.append)))
    before, after, rest = (heard(job.recording.path)[1], heard(job.denoised)[1],
                           sf.read(job.residual)[0])
    assert sum(shares) == pytest.approx(facts["seconds"])
    if name == "a.mkv":
        assert "nothing was found" in caplog.text and np.array_equal(before, after)
        assert facts["repaired"] == {"gain_db": 0.0}
        return
    told, gain = facts["repaired"], 10.0 ** (facts["repaired"]["gain_db"] / 20.0)
    assert told["gaps"]["number"] == 1 and told["clipping"]["number"] > 100
    assert f"1 gaps filled, {told['clipping']['number']} clipped peaks restored" in caplog.text
    assert "clipped." not in caplog.text  # again
    error, damage = (np.sum((np.ravel(sound) - clean) ** 2) for sound in (after / gain, before))
    assert error < 0.5 * damage
    np.testing.assert_allclose(np.ravel(after) + rest, np.ravel(before), atol=1e-9)
    if subtype == "DOUBLE":
        assert gain == 1.0 and after.max() > 1.1
        repaired = on_waveforms(halve, NetworkSettings(), repair=["gaps", "clipping"])(
            audio, SAMPLE_RATE, 0.0)
        assert np.array_equal(repaired, np.ravel(after))
    else:
        assert 0.7 < gain < 0.9 and "is lowered by" in caplog.text and np.abs(after).max() < 1.0


def test_hum_is_reported_and_lies_in_the_residual(tmp_path, rng, caplog):
    caplog.set_level("INFO")
    time_s = np.arange(6 * SAMPLE_RATE) / SAMPLE_RATE
    hum = 0.05 * np.cos(2.0 * np.pi * 59.98 * time_s)
    voice = 0.05 * rng.standard_normal(len(time_s))
    sf.write(tmp_path / "a.wav", voice + hum, SAMPLE_RATE, subtype="FLOAT")
    (job,), _ = plan([tmp_path / "a.wav"], InferenceConfig())
    keep = make_restorer(lambda spectra: spectra, NetworkSettings(), dehum=True)
    facts = inference.denoise_recording(job, keep, 1.0)
    assert facts["hum_hz"] == pytest.approx(59.98, abs=0.02)
    assert f"{tmp_path / 'a.wav'}: hum at multiples of 59.98 Hz is removed first" in caplog.text
    residual, _ = sf.read(job.residual)
    assert np.std(residual - hum) < 0.2 * np.std(hum)
    facts = inference.denoise_recording(job, replace(keep, stages=StageSettings.only()), 1.0)
    assert facts["hum_hz"] is None


@pytest.mark.parametrize("strength", [0.25, 1.0])
@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
def test_output_is_input_less_a_share_of_the_noise(tmp_path, subtype, strength):
    write_audio(tmp_path / "a.wav", channels=2, subtype=subtype)
    before = (tmp_path / "a.wav").read_bytes()
    job = run_file(tmp_path / "a.wav", denoising_strength=strength)
    audio, _ = sf.read(tmp_path / "a.wav")
    step = 2.0 ** (1 - (audio_io.BITS[subtype] or 24))
    np.testing.assert_allclose(sf.read(job.denoised)[0], audio * (1.0 - 0.5 * strength),
                               atol=(1.51 if step >= 2.0**-15 else 0.51) * step + 1e-7)
    if subtype in ("FLOAT", "DOUBLE"):
        np.testing.assert_allclose(sf.read(job.denoised)[0] + sf.read(job.residual)[0], audio,
                                   atol=1e-7)
    else:
        np.testing.assert_array_equal(
            read_native(job.denoised) + read_native(job.residual), read_native(tmp_path / "a.wav"))
    assert (tmp_path / "a.wav").read_bytes() == before


@pytest.mark.parametrize("samples", [0, 1, 2, 511, 2048, 44100, 44101, 110250])
@pytest.mark.parametrize("rate", [8000, 44100, 96000])
def test_every_sample_is_there(tmp_path, samples, rate):
    audio = np.linspace(-0.5, 0.5, samples)[:, None] * [1.0, 0.9]
    sf.write(tmp_path / "a.wav", audio, rate, subtype="FLOAT")
    job = run_file(tmp_path / "a.wav", segment_seconds=1.0, context_seconds=0.2)
    for path in (job.denoised, job.residual):
        assert sf.info(path).frames == samples
        assert (sf.info(path).samplerate, sf.info(path).channels) == (rate, 2)
    if rate == SAMPLE_RATE and samples > 1:
        np.testing.assert_allclose(sf.read(job.denoised)[0], 0.5 * audio, atol=1e-6)


@pytest.mark.parametrize("rate", [8000, 22050, 32000, 48000, 96000, 192000])
def test_other_rates_stay_aligned(tmp_path, rate):
    tone = 0.3 * np.sin(2.0 * np.pi * 300.0 * np.arange(3 * rate) / rate)
    sf.write(tmp_path / "a.wav", tone, rate, subtype="DOUBLE")
    job = run_file(tmp_path / "a.wav", segment_seconds=1.0, context_seconds=0.2)
    error = sf.read(job.denoised)[0] - 0.5 * tone
    assert np.abs(error[rate // 50 : -rate // 50]).max() < 1e-4
    assert np.abs(error).max() < 0.05


@pytest.mark.parametrize("name", ["a.mp3", "a.ogg", "ulaw.wav"])
def test_lossy_input_becomes_24_bit_wav(tmp_path, name):
    write_audio(tmp_path / name, 2.0, channels=2, **({"subtype": "ULAW"} if "ulaw" in name else {}))
    audio, rate = sf.read(tmp_path / name)
    job = run_file(tmp_path / name)
    info = sf.info(job.denoised)
    assert info.format in ("WAV", "WAVEX")
    assert (info.subtype, job.denoised.suffix) == ("PCM_24", ".wav")
    assert (info.frames, info.samplerate, info.channels) == (len(audio), rate, 2)
    # Two decoders of MP3 differ by more than the last bit.
    np.testing.assert_allclose(sf.read(job.denoised)[0], 0.5 * audio,
                               atol=2e-6 if name == "a.mp3" else 2e-7)


def test_beyond_4_gib_wav_becomes_rf64(tmp_path, monkeypatch):
    monkeypatch.setattr(audio_io, "MAX_WAV_BYTES", 1000)
    audio = write_audio(tmp_path / "a.wav")
    job = run_file(tmp_path / "a.wav")
    assert sf.info(job.denoised).format == "RF64"
    np.testing.assert_allclose(sf.read(job.denoised)[0], 0.5 * audio[:, 0], atol=1e-4)


def test_clipping_is_reported(tmp_path, caplog):
    write_audio(tmp_path / "a.wav")
    run_file(tmp_path / "a.wav", predict=lambda audio: 4.0 * audio)
    assert "clipped samples beyond full scale: " in caplog.text
    audio, _ = sf.read(tmp_path / "a_denoised.wav")
    assert audio.max() == pytest.approx(1.0, abs=1e-4) and audio.min() == -1.0


def test_a_log_without_a_bar_states_the_progress(tmp_path, monkeypatch, caplog):
    """Where standard error is a file, as under `nohup`."""
    caplog.set_level("INFO")
    clock = itertools.count(0.0, 45.0)
    monkeypatch.setattr(batch.time, "monotonic", lambda: next(clock))
    jobs, _ = plan(write_recordings(tmp_path, "a.wav", "b.wav", seconds=2.0), InferenceConfig())

    def restore_all(jobs, report, forget):
        for job in jobs:
            for seconds in (0.0, 1.0, 2.0):
                report(job, seconds)
            yield job, {}

    assert batch.follow(jobs, restore_all, print, lambda *_: None, print) == {}
    assert [line for line in caplog.messages if "of audio" in line] == [
        "1 of 4 s of audio are done", "2 of 4 s of audio are done", "3 of 4 s of audio are done",
        "4 of 4 s of audio are done"]


@pytest.mark.parametrize(("seconds", "analysed"), [(8, 8), (15, 15), (20, 15), (36, 18), (90, 30)])
def test_half_of_a_recording_is_analysed_first(seconds, analysed):
    restorer = on_waveforms(halve, NetworkSettings(UnetConfig(use_profile=True)), listen_first=True)
    audio = np.random.default_rng(1).normal(0.0, 0.1, seconds * SAMPLE_RATE)
    reported: list[float] = []
    restorer.analyse(survey([audio], SAMPLE_RATE), lambda: [audio], SAMPLE_RATE, None,
                     reported.append)
    expected = analysed + analysis.TRIAL_SECONDS
    assert sum(reported) == pytest.approx(expected)
    assert restorer.analysis_seconds(len(audio), SAMPLE_RATE) == expected


@pytest.mark.parametrize("strength", [1.0, "auto"])
@pytest.mark.parametrize("seconds", [8.0, 36.0])
def test_progress_counts_the_analysis_pass(tmp_path, seconds, strength):
    write_audio(tmp_path / "a.wav", seconds, 8000)
    (job,), _ = inference.plan([tmp_path / "a.wav"], InferenceConfig())
    segments, told = 0, []

    def count(waveforms):
        nonlocal segments
        segments += 1
        return 0.5 * waveforms

    settings = NetworkSettings(UnetConfig(use_profile=True), context_seconds=0.5)
    restorer = on_waveforms(count, settings, 2.0, listen_first=True)
    inference.denoise_recording(job, restorer, strength, lambda more: told.append((segments, more)))
    assert told[0][0] == 1
    assert sum(more for _, more in told) == pytest.approx(seconds)
    at_half = sum(more for number, more in told if number <= segments / 2)
    assert 0.25 * seconds < at_half < 0.75 * seconds


def test_channels_are_denoised_each_on_its_own(tmp_path):
    one = write_audio(tmp_path / "a.wav", 12.0)[:, 0]
    other = one.copy()
    other[-1] += 0.01
    silent = np.zeros_like(one)
    sf.write(tmp_path / "a.wav", np.stack([one, silent, other, one, other], axis=-1), SAMPLE_RATE,
             subtype="FLOAT")
    heard = []

    def predict(audio: np.ndarray) -> np.ndarray:
        heard.append(len(audio))
        return np.cumsum(audio, axis=-1) * 0.1 + 0.3  # even silence gets something

    job = run_file(tmp_path / "a.wav", predict)
    result, _ = sf.read(job.denoised)
    assert set(heard) == {2}
    np.testing.assert_array_equal(result[:, 0], result[:, 3])
    np.testing.assert_array_equal(result[:, 2], result[:, 4])
    assert not np.array_equal(result[:, 0], result[:, 2])
    assert not result[:, 1].any()
    assert all(np.abs(result[:, channel] - one).max() > 0.1 for channel in (0, 2, 3, 4))


@pytest.mark.parametrize("name", ["a.wav", "a.mkv"])
def test_a_run_goes_on_where_it_was_stopped(tmp_path, name):
    path = tmp_path / name
    if name == "a.wav":
        write_audio(path, 4.0, 48000, channels=2, subtype="PCM_16")
    else:
        write_film(path, "matroska", [Sound("pcm_s16le", 44100)], 4.0)
    (job,), _ = inference.plan([path], InferenceConfig())
    calls = []

    def predict(audio: np.ndarray, most: int) -> np.ndarray:
        calls.append(audio.shape)
        if len(calls) > most:
            raise KeyboardInterrupt
        return np.tanh(audio)

    def run(most: int, resume: str | None) -> int:
        calls.clear()
        restorer = on_waveforms(lambda audio: predict(audio, most),
                               NetworkSettings(context_seconds=0.2), 0.7)
        assert denoise_all([job], restorer, 0.9, print, resume=resume) == {}
        return len(calls)

    def content() -> list[bytes]:
        # FFmpeg gives each Matroska file numbers of its own.
        sound = heard(job.denoised)[1].tobytes() if job.film else job.denoised.read_bytes()
        return [sound, job.residual.read_bytes()]

    assert run(100, None) == 5
    whole = content()
    for result in job.results:
        result.unlink()
    with pytest.raises(KeyboardInterrupt):
        run(3, "network")
    (kept,) = visible(tmp_path) - {name}
    assert kept.startswith(".a_denoised") and kept.endswith(".resume")
    assert run(100, "network") == 2
    assert content() == whole
    assert visible(tmp_path) == {name, *(result.name for result in job.results)}


# --- Films ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "muxer", "codec", "video"), [
    ("film.mkv", "matroska", "flac", "mpeg4"), ("sound.m4a", "mp4", "alac", None),
    ("old.avi", "avi", "pcm_s16le", "mpeg4")])
def test_strength_and_residual_of_a_film(tmp_path, name, muxer, codec, video):
    path = tmp_path / name
    write_film(path, muxer, [Sound(codec, 44100)], 1.0, video)
    draws = name == "film.mkv"
    job = run_file(path, denoising_strength=0.5, spectrogram=draws)
    audio, result = heard(path)[1], heard(job.denoised)[1]
    np.testing.assert_allclose(result, 0.75 * audio, atol=1e-4)
    np.testing.assert_allclose(result + sf.read(job.residual)[0], audio, atol=1e-7)
    assert not draws or job.picture.stat().st_size > 10000
    floored = heard(run_file(path, noise_floor_db=3.0, overwrite=True).denoised)[1]
    levels = [np.median(np.abs(sound)) for sound in (audio, floored)]  # of the noise, not a click
    assert 20.0 * np.log10(levels[1] / levels[0]) == pytest.approx(-3.0, abs=0.7)
    untouched = run_file(path, denoising_strength=0.0)
    np.testing.assert_array_equal(heard(untouched.denoised)[1], audio)
    assert not sf.read(untouched.residual)[0].any()


def test_all_tracks_of_a_film(tmp_path):
    path = tmp_path / "film.mkv"
    sounds = [Sound("pcm_s16le", 44100), Sound("flac", 44100, "mono", default=True)]
    write_film(path, "matroska", sounds, 1.0)
    cfg = InferenceConfig(track="all", overwrite=True)
    (job,), failures = inference.plan([path], cfg)
    assert not failures
    done, announced = [], []
    facts = denoise_tracks(job, restorer=on_waveforms(halve, NetworkSettings()), strength=1.0,
                           report=done.append, before_replacing=lambda: announced.append(
                               visible(tmp_path)))
    assert sum(done) == pytest.approx(1.0, abs=0.01)
    # Announced before the first result is there, so that a killed run is known as such.
    assert {name for name in announced[0] if name[0] != "."} == {path.name}
    assert visible(tmp_path) == {path.name, "film_denoised.mkv", "film_residual_track1.wav",
                                 "film_residual_track2.wav"}
    assert job.denoised.name == "film_denoised.mkv" and len(facts["tracks"]) == 2
    for number in range(2):
        start, audio, rate = heard(path, number)
        place, result, found = heard(job.denoised, number)
        assert (place, found) == (start, rate)
        np.testing.assert_allclose(result, 0.5 * audio, atol=1e-4)
        rest, _ = sf.read(job.results[1 + number], always_2d=True)
        np.testing.assert_allclose(result + rest, audio, atol=1e-7)
    # The results are not taken for recordings afterwards.
    assert inference.find_recordings([str(item) for item in tmp_path.glob("film*")]) == [path]


def test_all_tracks_of_a_recording_with_one_are_that_one(tmp_path, sine):
    sf.write(tmp_path / "a.wav", sine, SAMPLE_RATE)
    (job,), _ = inference.plan([tmp_path / "a.wav"], InferenceConfig(track="all"))
    assert not job.parts and job.residual.name == "a_residual.wav"
    with pytest.raises(UserError, match="inference.resume.*left out with inference.track=all"):
        InferenceConfig(track="all", resume=True)


@pytest.mark.skipif(os.name != "posix", reason="needs a limit on the size of files")
@pytest.mark.parametrize("kilobytes", [20, 150, 180, 194])
def test_a_full_disk_leaves_no_half_film(tmp_path, kilobytes):
    """Wherever it fills up, also at the very end; 194 kB is where only the index is missing."""
    import resource

    write_film(tmp_path / "a.mkv", "matroska", [Sound("pcm_s16le")], 1.0)
    assert 190_000 < (tmp_path / "a.mkv").stat().st_size < 260_000
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000 * kilobytes, limits[1]))
    try:
        with pytest.raises(OSError, match="the results cannot be written there"):
            run_file(tmp_path / "a.mkv", denoising_strength=0.0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert visible(tmp_path) == {"a.mkv"}


@pytest.mark.parametrize(("muxer", "name", "codec"), [
    ("matroska", "a.mkv", "libopus"), ("mp4", "a.m4a", "aac"), ("matroska", "a.mka", "wavpack")])
def test_eight_channels_are_read_and_written(tmp_path, muxer, name, codec):
    write_film(tmp_path / name, muxer, [Sound(codec, layout="7.1", bit_rate=512000)], video=None)
    job = run_file(tmp_path / name)
    levels = [np.abs(np.concatenate(list(containers.read_blocks(containers.open_audio(path))))
                     ).max(axis=0) for path in (tmp_path / name, job.denoised)]
    assert levels[0].shape == (8,) and sf.info(job.residual).channels == 8
    assert np.corrcoef(*levels)[0, 1] > 0.9  # the click of each channel has its own level


def test_an_unusual_order_of_channels_is_kept_or_refused_where_it_crashes_the_reader(tmp_path):
    film = tmp_path / "a.mov"
    write_film(film, "mov", [Sound("pcm_s16le", layout="7.1")])
    content = film.read_bytes()
    told = bytes.fromhex("6368616e 00000000 00010000 0000063f")  # by bits
    assert content.count(told) == 1
    film.write_bytes(content.replace(told, bytes.fromhex("6368616e 00000000 00800008 00000000")))
    if int(av.__version__.split(".")[0]) < 19:
        _, failures = plan([film], InferenceConfig())
        assert "a.mov: the channels of its sound come in an order that cannot be" in failures[film]
        return
    job = run_file(film, denoising_strength=0.0)
    with av.open(str(film)) as before, av.open(str(job.denoised)) as after:
        assert after.streams.audio[0].layout.name == before.streams.audio[0].layout.name
    np.testing.assert_array_equal(heard(job.denoised)[1], heard(film)[1])


def test_the_sound_of_a_film_is_dithered(tmp_path):
    """What lies between two steps of 16 bits stays a tone, in noise, and is no square wave."""
    film, rate = tmp_path / "a.mkv", 48000
    tone = np.round(1.4 * np.sin(2.0 * np.pi * 441.0 * np.arange(rate) / rate))  # -1, 0, 1
    with av.open(str(film), "w") as container:
        track = container.add_stream("pcm_s16le", rate=rate, layout="mono")
        frame = av.AudioFrame.from_ndarray(tone[None].astype(np.int16), "s16", "mono")
        frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
        container.mux(track.encode(frame))
        container.mux(track.encode(None))
    job = run_file(film)
    (written,) = heard(job.denoised)[1].T * 2**15
    assert set(np.unique(written)) >= {-1.0, 0.0, 1.0}  # of -0.5, 0 and 0.5
    assert abs(np.mean(written[tone == 1.0]) - 0.5) < 0.05


def test_tags_without_a_place_in_the_container_are_reported(tmp_path, caplog):
    film = tmp_path / "a.mp4"
    with av.open(str(film), "w", container_options={"movflags": "use_metadata_tags"}) as container:
        container.metadata.update({"title": "The tune", "reel": "17"})
        track = container.add_stream("aac", rate=48000, layout="mono")
        for number in range(20):
            frame = av.AudioFrame.from_ndarray(np.full((1, 1024), 0.1, np.float32), "fltp", "mono")
            frame.sample_rate, frame.pts = 48000, 1024 * number
            frame.time_base = Fraction(1, 48000)
            container.mux(track.encode(frame))
        container.mux(track.encode(None))
    job = run_file(film)
    assert "a.mp4: these tags cannot be written and are lost: reel\n" in caplog.text
    with av.open(str(job.denoised)) as made:
        assert made.metadata["title"] == "The tune"


def test_gaps_and_damage_of_a_film_are_reported_once(tmp_path, caplog):
    path = tmp_path / "a.mkv"
    write_film(path, "matroska", [Sound("flac", gap=(0.5, 1.1))], 3.0)
    with av.open(str(path)) as film:
        packets = [bytes(packet) for packet in film.demux(film.streams.audio[0]) if packet.size]
    content = path.read_bytes()
    path.write_bytes(content.replace(packets[-3], bytes(len(packets[-3]))))
    caplog.set_level("INFO")
    run_file(path, denoising_strength="auto")
    assert caplog.text.count("a gap of 0.58 s") == 1
    assert caplog.text.count("1 packets of the audio track are damaged") == 1


# --- The network ------------------------------------------------------------------------------


@pytest.fixture
def shipped(tmp_path, tiny_run, monkeypatch) -> Path:
    """Stands for `pretrained/`."""
    folder = tmp_path / "pretrained"
    folder.mkdir()
    for name in (BEST_NAME, CONFIG_NAME):
        (folder / name).write_bytes((tiny_run / name).read_bytes())
    monkeypatch.setattr(methods, "PRETRAINED", folder)
    return folder


def test_weights_are_chosen_in_turn(tmp_path, tiny_run, tiny_unet, shipped, caplog):
    caplog.set_level("INFO")
    nowhere = Config(path_experiment=str(tmp_path / "none"))
    weights, settings = inference.choose_network(nowhere)
    assert (weights, settings.unet) == (shipped / BEST_NAME, tiny_unet)
    assert "shipped with the project" in caplog.text and "depth 1" in caplog.text
    run = Config(path_experiment=str(tiny_run))
    assert inference.choose_network(run)[0] == shipped / BEST_NAME  # a folder that happens to exist
    weights, settings = inference.choose_network(run, ["path_experiment"])
    assert (weights, settings.unet) == (tiny_run / BEST_NAME, tiny_unet)
    assert f"best of {tiny_run}" in caplog.text
    named = Config(path_experiment=str(tmp_path), weights=str(tiny_run / BEST_NAME))
    assert inference.choose_network(named)[1].unet == tiny_unet
    folder = Config(path_experiment=str(tmp_path), weights=str(tiny_run))
    assert inference.choose_network(folder)[0] == tiny_run / BEST_NAME
    (tmp_path / "ck.index").write_bytes(b"")
    prefix = Config(path_experiment=str(tmp_path), weights=str(tmp_path / "ck"))
    assert inference.choose_network(prefix)[1].unet == UnetConfig()


def test_settings_travel_with_weights(tmp_path, tiny_run, tiny_unet, caplog):
    trained = Config(path_experiment=".", unet=tiny_unet, stft=StftConfig(highpass_hz=30.0))
    trained.dset.reference_dbfs, trained.inference.context_seconds = -23.0, 4.0
    (tmp_path / BEST_NAME).write_bytes((tiny_run / BEST_NAME).read_bytes())
    config.save_config(trained, tmp_path / CONFIG_NAME)
    call = Config(path_experiment=".", weights=str(tmp_path / BEST_NAME))
    _, settings = inference.choose_network(call)
    assert settings == NetworkSettings(tiny_unet, StftConfig(highpass_hz=30.0), -23.0, 4.0)
    assert Denoiser.load(tmp_path).settings == settings
    # What does not differ may be said again; a shorter context is possible, but not good.
    _, settings = inference.choose_network(
        config.Config(path_experiment=".", weights=call.weights, unet=tiny_unet,
                      inference=InferenceConfig(context_seconds=1.0)),
        ["unet.depth", "inference.context_seconds", "lr"])
    assert settings.context_seconds == 1.0
    assert "less than the 4 s of context" in caplog.text


@pytest.mark.parametrize("override", ["unet.depth=2", "unet.channels=[1,2,3,4,5]",
                                      "stft.highpass_hz=0", "dset.reference_dbfs=null",
                                      "stft={highpass_hz:0}", "dset={reference_dbfs:null}"])
def test_a_setting_that_cannot_apply_is_refused(tmp_path, shipped, override):
    config.save_config(Config(path_experiment=".", stft=StftConfig(highpass_hz=20.0),
                              dset=DsetConfig(reference_dbfs=-20.0)), shipped / CONFIG_NAME)
    cfg = composed(override, f"path_experiment={tmp_path}")
    key = override.partition("=")[0]
    with pytest.raises(UserError, match=f"`{key}.*=.*` cannot apply to .*{BEST_NAME}") as caught:
        inference.choose_network(cfg, keys_of([override]))
    assert str(shipped / CONFIG_NAME) in str(caught.value)


def test_missing_weights_are_named(tmp_path, shipped):
    for name in ("gone.weights.h5", "gone/checkpoint"):
        with pytest.raises(FileNotFoundError, match="`weights` must be"):
            inference.choose_network(Config(path_experiment=".", weights=name))
        with pytest.raises(FileNotFoundError, match="`weights` must be"):
            Denoiser.load(name)
    (shipped / CONFIG_NAME).unlink()
    with pytest.raises(UserError, match="`settings` must be given: no config.yaml lies beside"):
        Denoiser.load()
    (shipped / BEST_NAME).unlink()
    with pytest.raises(FileNotFoundError, match="there are no weights"):
        inference.choose_network(Config(path_experiment=str(tmp_path)))


def test_the_shipped_network_restores(rng):
    time_s = np.arange(3 * SAMPLE_RATE) / SAMPLE_RATE
    tone = 0.2 * np.sin(2.0 * np.pi * 440.0 * time_s) * (1.0 + np.sin(2.0 * np.pi * 3.0 * time_s))
    noise = 0.02 * rng.standard_normal(len(tone))
    denoiser = pickle.loads(pickle.dumps(Denoiser.load()))  # as a process gets it
    assert np.mean((denoiser(tone + noise, SAMPLE_RATE) - tone) ** 2) < 0.05 * np.mean(noise**2)


@pytest.mark.slow
def test_program_and_library_restore_alike(tmp_path, tiny_run):
    audio = write_audio(tmp_path / "a.wav", 13.0, 32000, channels=2, subtype="FLOAT")
    outputs = []
    for seconds in (4.0, 20.0):
        denoiser = Denoiser.load(tiny_run, segment_seconds=seconds)
        job = run_file(tmp_path / "a.wav", restorer=denoiser, denoising_strength=0.5,
                       overwrite=True)
        outputs.append(sf.read(job.denoised)[0])
        np.testing.assert_allclose(denoiser(audio, 32000, strength=0.5), outputs[-1], atol=1e-6)
    error = np.abs(outputs[0] - outputs[1]).max() / np.sqrt(np.mean(outputs[1] ** 2))
    assert 20.0 * np.log10(error + 1e-12) < -60.0


def test_what_a_network_returns_can_be_made_independent_of_what_came_before(rng, tiny_run):
    short, long = (rng.standard_normal((1, frames, 1025, 2)).astype(np.float32)
                   for frames in (40, 60))
    fresh, used = (Denoiser.load(tiny_run) for _ in range(2))
    for denoiser in (fresh, used):
        denoiser.forget_lengths()
    used.network(short)
    np.testing.assert_array_equal(fresh.network(long), used.network(long))


# --- The program ------------------------------------------------------------------------------


def test_program_restores_a_recording(tmp_path, tiny_run):
    name = "M\u00fcller's [take=1] 'live'.wav"
    audio = write_audio(tmp_path / name, 1.5, 48000, channels=2, subtype="PCM_24")
    done = run_program(name, "inference.denoising_strength=0.25", "--config-name",
                       "conf_prototype", f"weights={tiny_run / BEST_NAME}",
                       "inference.spectrogram=true", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    stem = name.removesuffix(".wav")
    assert visible(tmp_path) == {name, f"{stem}_denoised_s2.5.wav", f"{stem}_residual_s2.5.wav",
                                 f"{stem}_spectrogram_s2.5.png", REPORT_NAME}
    result, rate = sf.read(tmp_path / f"{stem}_denoised_s2.5.wav")
    assert (rate, result.shape) == (48000, audio.shape)
    assert done.stdout == ""
    assert all(line.startswith(("INFO: ", "WARNING: ")) for line in done.stderr.splitlines())
    assert str(tiny_run / BEST_NAME) in done.stderr and "depth 1" in done.stderr


def test_program_goes_on_past_bad_files(tmp_path, tiny_run):
    write_recordings(tmp_path, "a.wav", "b.flac")
    (tmp_path / "bad.wav").write_bytes(b"")
    sf.write(tmp_path / "nan.wav", np.full(1000, np.nan), SAMPLE_RATE, subtype="FLOAT")
    done = run_program("a.wav", "bad.wav", "nan.wav", "gone.wav", "b.flac",
                       f"path_experiment={tiny_run}", cwd=tmp_path)
    assert done.returncode == 3
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: 3 of 5 recordings failed")
    assert all(name in last for name in ("bad.wav", "nan.wav", "gone.wav"))
    assert "Traceback" not in done.stderr
    assert visible(tmp_path) == {"a.wav", "b.flac", "bad.wav", "nan.wav", "a_denoised.wav",
                                 "a_residual.wav", "b_denoised.flac", "b_residual.flac",
                                 REPORT_NAME}
    report = json.loads((tmp_path / REPORT_NAME).read_text())
    assert report["last_run"]["done"] == ["a_denoised.wav", "b_denoised.flac"]
    assert report["last_run"]["began"] < report["last_run"]["ended"]
    assert set(report["last_run"]["failed"]) == {"bad.wav", "nan.wav", "gone.wav"}
    assert report["last_run"]["weights"] == {"file": str(tiny_run / BEST_NAME),
                                             "sha256": hash_of(tiny_run / BEST_NAME)}
    entry = report["results"]["a_denoised.wav"]
    assert entry["input_sha256"] == hash_of(tmp_path / "a.wav") and entry["seconds"] == 0.5
    assert entry["warnings"] == []
    before, after = (10.0 * np.log10(np.mean(sf.read(tmp_path / name)[0] ** 2))
                     for name in ("a.wav", "a_denoised.wav"))
    assert entry["removed_db"] == pytest.approx(before - after, abs=0.02)
    # A second run only tries the bad ones, and still names the reason for each.
    again = run_program("a.wav", "nan.wav", f"path_experiment={tiny_run}", cwd=tmp_path)
    assert again.returncode == 3 and "a.wav: has its results already" in again.stderr
    assert "ERROR: nan.wav: the recording holds NaN" in again.stderr


@pytest.mark.skipif(os.name != "posix", reason="needs such names")
def test_a_name_forges_no_line_of_the_log(tmp_path):
    good, bad = "two\nERROR: lines\x1b[31m.wav", "no\nsound.wav"
    write_audio(tmp_path / good)
    (tmp_path / bad).write_bytes(b"x")
    done = run_program(".", "method=lsa", "inference.denoising_strength=0", cwd=tmp_path)
    assert done.returncode == SOME_FAILED_STATUS
    shown, start = "two\\nERROR: lines\\x1b[31m", "ERROR: no\\nsound.wav: holds text, not sound"
    first, _, second, last = done.stderr.splitlines()
    assert first.startswith(start) and last.endswith("failed: no\\nsound.wav")
    assert second == (f"INFO: {shown}.wav: written to {shown}_denoised_s0.wav, "
                      f"{shown}_residual_s0.wav")


@pytest.mark.skipif(os.name != "posix", reason="needs permissions of files")
def test_program_goes_on_past_what_it_may_not_touch(tmp_path):
    """Root may do everything, unless what allows it is taken from it."""
    caps = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] * (os.geteuid() == 0)
    if caps and (shutil.which("setpriv") is None or subprocess.run(
            [*caps, "true"], capture_output=True).returncode):
        pytest.skip("root is not held by permissions, and no setpriv takes that from it")
    write_recordings(tmp_path, "closed/a.wav", "open/b.wav", "secret.wav", "shut/c.wav")
    for name, mode in (("closed", 0o555), ("secret.wav", 0), ("shut", 0), ("", 0o555)):
        (tmp_path / name).chmod(mode)
    try:
        done = subprocess.run([*caps, sys.executable, str(ROOT / "inference.py"), "closed/a.wav",
                               "secret.wav", "open/b.wav", "shut", "method=lsa",
                               "inference.denoising_strength=0"],
                              cwd=tmp_path, capture_output=True, text=True, timeout=600)
    finally:
        for name in ("", "closed", "shut"):
            (tmp_path / name).chmod(0o755)
    assert done.returncode == SOME_FAILED_STATUS, done.stderr
    lines = [line for line in done.stderr.splitlines() if not line.startswith("INFO")]
    assert lines == [
        "WARNING: shut: no permission to look into this folder",
        "ERROR: closed/a.wav: closed: results cannot be written there, no permission for closed",
        "ERROR: secret.wav: Permission denied",
        "ERROR: shut: the folder holds no recordings",
        "error: 3 of 4 recordings failed: closed/a.wav, secret.wav, shut"]
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")} == {
        "closed", "closed/a.wav", "secret.wav", "shut", "shut/c.wav", "open", "open/b.wav",
        "open/b_denoised_s0.wav", "open/b_residual_s0.wav", f"open/{REPORT_NAME}"}


def test_a_folder_that_is_removed_meanwhile_is_reported(tmp_path):
    (tmp_path / "out").mkdir()
    write_audio(tmp_path / "a.wav")

    def remove_folder(audio: np.ndarray) -> np.ndarray:
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        return audio

    jobs, _ = plan([tmp_path / "a.wav"], InferenceConfig(output_dir=str(tmp_path / "out")))
    failures = denoise_all(jobs, on_waveforms(remove_folder, NetworkSettings()), 1.0, print)
    (reason,) = failures.values()
    assert f"{tmp_path / 'out'}: the folder was moved or removed while" in reason
    assert visible(tmp_path) == {"a.wav"}


@pytest.mark.parametrize(("arguments", "message"), [
    ([], "no recording given"),
    (["gone.wav"], "gone.wav: no such file"),
    (["a.wav", "weights=gone.weights.h5"], "gone.weights.h5: no such file"),
    (["a.wav", "--config-name", "gone"], "there is conf, conf_ablation, "),
    (["a.wav", "lr=fast"], "converted to Float; expected is a number"),
    (["a.wav", "inference.denoising_strength", "=", "0.5"], "'=': write key=value without"),
])
def test_a_mistake_ends_in_one_line(tmp_path, arguments, message):
    write_audio(tmp_path / "a.wav")
    done = run_program(*arguments, cwd=tmp_path)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ") and message in line
    assert visible(tmp_path) == {"a.wav"}


def test_an_impossible_value_is_refused_in_one_line(tmp_path, monkeypatch):
    """In this process, as the test above shows that the program prints the message."""
    monkeypatch.chdir(tmp_path)
    write_audio(Path("a.wav"))
    for setting, message in (
            ("inference.denoising_strength=lots", "must be in [0, 1] or auto"),
            ("weights=", "; the name is empty"),
            ("weights=.", "; .: the folder holds no best.weights.h5"),
            ("weights=a.wav", "; a.wav: another kind of file"),
            ("loss=gone", "'loss/gone'; there is film, log_spectral, mae, "),
            ("seed=1.5", "converted to Integer; expected is a whole number"),
            ("inference.declick=perhaps", "one of off, gentle, normal, strong. Received"),
            ("inference.dehum=perhaps", "bool (type str); expected is true or false"),
            ("unet.channels=3", "expected is a list in brackets"),
            ("inference.denoising_strength=0,5", "decimals have a point (0.5)")):
        with pytest.raises(SystemExit) as caught:
            exit_on_user_error(lambda given: inference.choose_network(composed(given)))(setting)
        assert message in caught.value.code and "\n" not in caught.value.code


def test_the_report_states_the_one_recording_that_failed(tmp_path):
    """Also where there is nothing to do, so that no weights are looked for."""
    (tmp_path / "bad.wav").write_bytes(b"")
    done = run_program("bad.wav", "weights=gone.weights.h5", cwd=tmp_path)
    (line,) = done.stderr.splitlines()
    assert done.returncode == 1 and line.startswith("error: bad.wav: the file is empty")
    told = json.loads((tmp_path / REPORT_NAME).read_text())["last_run"]
    assert told["done"] == [] and "the file is empty" in told["failed"]["bad.wav"]
    # Where the report cannot be read, that is said, too.
    (tmp_path / REPORT_NAME).write_text("{")
    done = run_program("bad.wav", cwd=tmp_path)
    warning, line = done.stderr.splitlines()
    assert warning.startswith(f"WARNING: the failure of bad.wav could not be noted in {REPORT_NAME}"
                              f": {REPORT_NAME} must be a report in JSON")
    assert done.returncode == 1 and line.startswith("error: bad.wav: the file is empty")


def test_help_says_how_to_call(tmp_path):
    done = run_program("--help", cwd=tmp_path)
    assert done.returncode == 0
    assert "denoise FILE..." in done.stdout and "denoising_strength" in done.stdout
    assert len(done.stdout.splitlines()) < 80  # not all settings; it says what prints those
    assert "--cfg job prints all settings" in done.stdout
    done = run_program("--cfg", "job", cwd=tmp_path)
    assert "loader_workers: 1" in done.stdout and "denoising_strength: 1" in done.stdout
    assert visible(tmp_path) == set()


def test_files_of_many_lengths_are_traced_no_more_than_twice(tiny_run, rng, monkeypatch):
    import unet  # loads TensorFlow, which most tests here do not need

    denoiser, traced = Denoiser.load(tiny_run), []
    call = unet.TwoStageUnet.call

    def counting(self, inputs):
        traced.append(inputs.shape)
        return call(self, inputs)

    monkeypatch.setattr(unet.TwoStageUnet, "call", counting)
    for samples in range(20000, 80000, 7777):
        denoiser(0.1 * rng.standard_normal(samples).astype(np.float32), SAMPLE_RATE)
    assert 1 <= len(traced) <= 2 and traced[-1][1] is None
