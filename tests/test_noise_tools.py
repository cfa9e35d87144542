"""The commands on noise recordings."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from carrier_samples import RECORDED, ROOT, rng, side
from omegaconf import OmegaConf

import noise_tools
from denoiser.audio.dsp import SAMPLE_RATE
from denoiser.noise import fit, generator
from denoiser.noise.ranges import CarrierConfig


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, ROOT / "noise_tools.py", *map(str, arguments)],
                          capture_output=True, text=True, check=False)


def command(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    """Runs a command in this process: faster, errors come through."""
    monkeypatch.setattr(sys, "argv", ["noise_tools.py", *map(str, arguments)])
    noise_tools.main()


def test_find_command_cuts_reports_and_never_overwrites(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture) -> None:
    recording, folder = tmp_path / "side.wav", tmp_path / "noise"
    soundfile.write(recording, side(), SAMPLE_RATE, subtype="PCM_16")
    command(monkeypatch, "find", recording, "--output", folder)
    with (folder / noise_tools.REPORT_NAME).open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["place"] for row in rows] == ["run-in", "pause", "run-out"]
    whole, _ = soundfile.read(recording, dtype="float32")
    for row in rows:
        cut, rate = soundfile.read(folder / row["file"], dtype="float32")
        first = round(float(row["start_seconds"]) * rate)
        wanted = whole[first:first + len(cut)]
        assert rate == SAMPLE_RATE and np.square(wanted).mean() < 1e-3
        assert len(cut) == pytest.approx(
            (float(row["end_seconds"]) - float(row["start_seconds"])) * rate, abs=0.02 * rate)
    with pytest.raises(ValueError, match="1 of 1 recordings failed"):
        command(monkeypatch, "find", recording, "--output", folder)
    assert "side_seg01.flac" in caplog.text
    with (folder / noise_tools.REPORT_NAME).open(newline="", encoding="utf-8") as stream:
        assert list(csv.DictReader(stream)) == rows  # still lists what lies there
    command(monkeypatch, "find", recording, "--output", folder, "--overwrite")
    other = tmp_path / "other.flac"
    soundfile.write(other, side(seed=3), SAMPLE_RATE)
    command(monkeypatch, "find", other, "--output", folder)
    with (folder / noise_tools.REPORT_NAME).open(newline="", encoding="utf-8") as stream:
        assert len(list(csv.DictReader(stream))) == 6


def test_find_command_goes_on_past_a_bad_file_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "a_broken.wav").write_bytes(b"RIFF nothing")
    soundfile.write(tmp_path / "b_side.wav", side(), SAMPLE_RATE)
    result = run("find", tmp_path, "--output", tmp_path / "out")
    assert result.returncode == 1 and "a_broken.wav" in result.stderr
    assert "Traceback" not in result.stderr
    assert len(list((tmp_path / "out").glob("b_side_seg*.flac"))) == 3


def test_commands_answer_mistakes_in_a_line(tmp_path: Path) -> None:
    result = run("fit", tmp_path / "missing.wav")
    assert result.returncode == 1 and "missing.wav" in result.stderr
    assert "Traceback" not in result.stderr


def test_fit_command_writes_a_config_that_generates(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit, "FIT_ROUNDS", 2)
    recording = RECORDED / "vinyl1_runoff.flac"
    for kind in ("gramophone", "film", "tape"):
        target = tmp_path / f"{kind}.yaml"
        command(monkeypatch, "fit", recording, "--kind", kind, "--output", target)
        carrier = OmegaConf.to_object(OmegaConf.merge(
            OmegaConf.structured(CarrierConfig), OmegaConf.load(target)))
        assert carrier.kind == kind and len(getattr(carrier, kind).spectra_db) == 1
        assert np.isfinite(generator.generate(kind, 1000, rng(), carrier=carrier)).all()
    with pytest.raises(ValueError, match="gramophone.yaml"):
        command(monkeypatch, "fit", recording, "--output", tmp_path / "gramophone.yaml")


def test_make_and_picture_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sound, picture = tmp_path / "film.flac", tmp_path / "film.png"
    command(monkeypatch, "make", "--kind", "film", "--seconds", "3", "--output", sound)
    audio, rate = soundfile.read(sound)
    assert rate == SAMPLE_RATE and len(audio) == 3 * SAMPLE_RATE and np.abs(audio).max() < 1.0
    command(monkeypatch, "make", "--seconds", "1", "--output", tmp_path / "mixed.WAV")
    assert soundfile.info(tmp_path / "mixed.WAV").format == "WAV"
    with pytest.raises(ValueError, match=r"must end in .*mixed.mp3"):
        command(monkeypatch, "make", "--seconds", "1", "--output", tmp_path / "mixed.mp3")
    monkeypatch.setattr(fit, "FIT_ROUNDS", 1)
    command(monkeypatch, "picture", sound, "--kind", "film", "--output", picture)
    assert picture.read_bytes()[:4] == b"\x89PNG" and picture.stat().st_size < 300_000
    with pytest.raises(ValueError, match="film.png"):
        command(monkeypatch, "picture", "--kind", "film", "--output", picture)


def test_fit_command_goes_on_past_a_bad_file_and_says_so(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(fit, "FIT_ROUNDS", 1)
    soundfile.write(tmp_path / "a_short.wav", np.ones(100), SAMPLE_RATE)
    target = tmp_path / "mine.yaml"
    with pytest.raises(ValueError, match="1 of 2 recordings failed.*a_short.wav"):
        command(monkeypatch, "fit", tmp_path / "a_short.wav", RECORDED / "vinyl1_runoff.flac",
                "--output", target)
    assert "samples" in caplog.text
    assert len(OmegaConf.load(target).gramophone.spectra_db) == 1
    with pytest.raises(ValueError, match="all of 1 recordings failed"):
        command(monkeypatch, "fit", tmp_path / "a_short.wav", "--output", tmp_path / "none.yaml")
    assert not (tmp_path / "none.yaml").exists()
