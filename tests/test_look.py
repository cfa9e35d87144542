"""`denoise --look`: what it finds in made recordings, and how it answers."""

import json
from pathlib import Path

import numpy as np
import programs
import pytest
import soundfile as sf
from audio_samples import write_audio
from film_samples import Sound, write_film
from small_corpus import ROOT

from historical_denoiser.audio import dsp
from historical_denoiser.formats import containers
from historical_denoiser.run.findings import Finding, examine
from historical_denoiser.run.look import look_at, page, suggest

RATE = 44100


def looked(path: Path) -> dict[str, Finding]:
    return {finding.name: finding for finding in examine(containers.open_audio(path))}


def tune(rng: np.random.Generator, seconds: int, highest_hz: float) -> np.ndarray:
    """Returns notes with harmonics from 220 Hz to `highest_hz`, with a pause before and after."""
    audio = np.zeros(seconds * RATE)
    for start in range(2 * RATE, len(audio) - 3 * RATE, RATE // 2):
        times = np.arange(RATE // 2) / RATE
        pitch = 220.0 * 2.0 ** (rng.integers(12) / 12)
        orders = np.arange(1, int(highest_hz / pitch) + 1)[:, None]
        shape = np.exp(-6.0 * times) * np.sin(2.0 * np.pi * times) ** 2
        audio[start:start + len(times)] = shape * (
            np.sin(2.0 * np.pi * pitch * orders * times) / orders).sum(axis=0)
    return 0.1 * audio / audio.std()


def test_what_was_done_to_a_recording_is_found(rng, tmp_path):
    """One signal in two channels, with hum, clipping, a gap and silence, and noise of each."""
    times = np.arange(20 * RATE) / RATE
    signal = 2.0 * tune(rng, 20, 9000.0)
    signal += 0.01 * sum(np.sin(2.0 * np.pi * 50.0 * order * times) for order in (1, 2, 3))
    signal += 0.003 * rng.standard_normal(len(signal))
    level = 0.6 * np.abs(signal).max()
    signal = np.clip(signal, -level, level)
    place = 5 * RATE + 1500
    signal[place:place + 400] = 0.0
    signal[15 * RATE:] = 0.0
    sf.write(tmp_path / "a.wav", np.stack([signal, signal], axis=-1), RATE, subtype="PCM_24")
    found = looked(tmp_path / "a.wav")
    assert found["clipping"].values["number"] > 10
    assert found["dropouts"].values["first"][0]["at"] == pytest.approx(place / RATE, abs=0.002)
    assert found["silence"].values["seconds"] == pytest.approx(5.0, abs=0.05)
    assert found["hum"].values["hz"] == pytest.approx(50.0, abs=0.05)
    assert found["hum"].values["dbfs"] == pytest.approx(dsp.decibels(1.5e-4), abs=1.5)
    assert found["level"].values["peak_dbfs"] == pytest.approx(20.0 * np.log10(level), abs=0.1)
    assert found["channels"].values["same_as"] == [0, 0]
    assert "inference.repair=[clipping,gaps]" in suggest(found.values())


def test_a_mono_source_and_noise_alone_are_found(rng, tmp_path):
    signal = tune(rng, 16, 3000.0)
    noise = 0.004 * rng.standard_normal((2, len(signal)))
    sf.write(tmp_path / "a.wav", np.stack([signal, -0.8 * np.roll(signal, 20)], axis=-1) + noise.T,
             RATE)
    found = looked(tmp_path / "a.wav")
    mono = found["channels"].values["mono_source"]
    assert mono["inverted"] and mono["second_channel_db"] == pytest.approx(-1.94, abs=0.3)
    assert mono["second_channel_late_ms"] == pytest.approx(1e3 * 20 / RATE, abs=0.01)
    assert found["noise"].values["is_alone"]
    # From 44 Hz to 17.96 kHz.
    assert found["noise"].values["dbfs"] == pytest.approx(dsp.decibels(1.6e-5 * 0.812), abs=1.0)
    assert found["bandwidth"].values["from_hz"] == pytest.approx(220, rel=0.3)
    assert found["bandwidth"].values["to_hz"] == pytest.approx(3000, rel=0.3)
    settings = suggest(found.values())
    assert "inference.mono_source=auto" in settings
    (profile,) = [one for one in settings if one.startswith("inference.noise_profile=[")]
    start, end = json.loads(profile.split("=")[1])
    assert end <= 2.0 or start >= 12.9
    assert found["carrier"].values["carrier"] == "auto"
    assert any(one.startswith("inference.band_hz=[null,") for one in settings)
    clicked = signal.copy()
    clicked[rng.integers(len(signal), size=60)] += 0.8
    sf.write(tmp_path / "a.wav", clicked + noise[0], RATE)
    found = looked(tmp_path / "a.wav")
    assert found["clicks"].values["per_second"] == pytest.approx(60 / 16, rel=0.3)
    assert suggest(found.values())[-1] == "carrier=acoustic_disc"
    assert not any("band_hz" in one for one in suggest(found.values()))


@pytest.mark.parametrize(("comment", "carrier"), [
    ("Compact cassette, side A", "cassette"), ("A=ANALOGUE,M=mono,T=open reel", "open_reel"),
    ("Shellac, recorded in 1911", "acoustic_disc"), ("78 rpm, cut 1931", "electrical_disc"),
    ("78 rpm, recorded 1925", "auto"), ("cassette copy of an LP", "auto"), ("a song", "auto")])
def test_metadata_names_the_carrier_where_it_is_clear(tmp_path, comment, carrier):
    with sf.SoundFile(tmp_path / "a.wav", "w", RATE, 1) as file:
        file.comment = comment
        file.write(np.full(2 * RATE, 0.1))
    found = looked(tmp_path / "a.wav")
    assert comment in found["metadata"].text
    assert found["carrier"].values["carrier"] == carrier


@pytest.mark.parametrize(("seconds", "rate"), [(0.0, 44100), (0.01, 44100), (0.3, 44100),
                                               (3.0, 1000), (3.0, 8000)])
def test_short_and_coarse_recordings_are_looked_at(tmp_path, seconds, rate):
    write_audio(tmp_path / "a.wav", seconds, rate, channels=2)
    found = looked(tmp_path / "a.wav")
    assert found["file"].values["seconds"] == pytest.approx(seconds)
    assert np.isfinite(found["level"].values["peak_dbfs"] or 0.0) and "carrier" in found


def test_the_guide_shows_what_is_printed(monkeypatch):
    monkeypatch.chdir(ROOT)
    example = Path("examples/noisy.flac")
    shown = page(example, examine(containers.open_audio(example)))
    assert shown in (ROOT / "docs" / "look.md").read_text(encoding="utf-8")


def test_a_film_and_several_files_are_answered_in_json_and_rows(tmp_path, capsys):
    write_film(tmp_path / "reel.mkv", "matroska", [Sound("flac"), Sound("flac")], seconds=1.0)
    write_audio(tmp_path / "a b.wav", 1.0)
    (tmp_path / "bad.wav").write_text("no sound")
    names = ["reel.mkv", "a b.wav", "bad.wav", "none.wav"]
    paths = [tmp_path / name for name in names]
    failures = look_at(paths, 2, as_json=True)
    out, err = capsys.readouterr()
    assert set(failures) == {tmp_path / "bad.wav", tmp_path / "none.wav", tmp_path / "a b.wav"}
    (film,) = json.loads(out)  # only the film has a second track
    assert film["findings"]["file"]["track"] == 2 and err.count("error: ") == 3
    assert "audio track 2 of 2" in film["findings"]["file"]["text"]
    look_at(paths, "all", as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert all(f"  {path}: " in line for path, line in zip(paths[:2], lines[1:3], strict=True))
    assert lines[3].startswith("Suggested: denoise ") and f"'{tmp_path}/a b.wav'" in "".join(lines)


def test_the_command_looks_and_writes_nothing(tmp_path):
    write_audio(tmp_path / "a.wav", 1.0)
    done = programs.run("inference.py", "--look", "a.wav", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("Suggested: denoise a.wav")
    (tmp_path / "bad.wav").write_text("no sound")
    done = programs.run("inference.py", ".", "--look", "--json", cwd=tmp_path)
    assert done.returncode == 3 and len(json.loads(done.stdout)) == 1
    assert "1 of 2 recordings failed: bad.wav" in done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"a.wav", "bad.wav"}
