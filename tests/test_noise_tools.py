"""The commands on noise recordings."""

import sys
from pathlib import Path

import numpy as np
import programs
import pytest
import soundfile
from carrier_samples import ROOT, recorded, rng, side
from omegaconf import OmegaConf
from small_corpus import composed, read_table

import noise_tools
from historical_denoiser.audio.dsp import SAMPLE_RATE
from historical_denoiser.core.checks import UserError
from historical_denoiser.core.command_line import USER_ERRORS, describe_error
from historical_denoiser.noise import fit, generator, statistics


@pytest.fixture
def command(monkeypatch):
    """Runs a command in this process, which is faster and lets errors through."""
    def run_here(*arguments: object) -> None:
        monkeypatch.setattr(sys, "argv", ["noise_tools.py", *map(str, arguments)])
        noise_tools.main()

    return run_here


def report(folder: Path) -> list[dict[str, str]]:
    return read_table(folder / "noise_segments.csv")


def test_find_command_cuts_reports_and_never_overwrites(tmp_path, command, caplog):
    recording, folder = tmp_path / "side.wav", tmp_path / "noise"
    soundfile.write(recording, side(), SAMPLE_RATE, subtype="PCM_16")
    command("find", recording, "--output", folder)
    rows = report(folder)
    assert [row["place"] for row in rows] == ["run-in", "pause", "run-out"]
    whole, _ = soundfile.read(recording, dtype="float32")
    for row in rows:
        cut, rate = soundfile.read(folder / row["file"], dtype="float32")
        first = round(float(row["start_seconds"]) * rate)
        wanted = whole[first:first + len(cut)]
        assert rate == SAMPLE_RATE and np.square(wanted).mean() < 1e-3
        assert len(cut) == pytest.approx(
            (float(row["end_seconds"]) - float(row["start_seconds"])) * rate, abs=0.02 * rate)
    with pytest.raises(UserError, match="1 of 1 recordings failed"):
        command("find", recording, "--output", folder)
    assert "side_seg01.flac" in caplog.text
    assert report(folder) == rows  # still lists what lies there
    command("find", recording, "--output", folder, "--overwrite")
    other = tmp_path / "other.flac"
    soundfile.write(other, side(seed=3), SAMPLE_RATE)
    command("find", other, "--output", folder)
    assert len(report(folder)) == 6


def test_find_command_distinguishes_recordings_of_one_name(tmp_path, command):
    places = [tmp_path / "discs" / place for place in ("1/a.wav", "2/a.wav", "2/a.flac", "2/b.wav")]
    for place in places:
        place.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(place, side(), SAMPLE_RATE)
    command("find", tmp_path / "discs", "--output", tmp_path / "out")
    found = {path.name.split("_seg")[0] for path in (tmp_path / "out").glob("*.flac")}
    assert found == {"1_a", "2_a.wav", "2_a.flac", "b"}
    with pytest.raises(UserError, match="each named once"):
        command("find", places[3], places[3], "--output", tmp_path / "out")


def test_find_command_goes_on_past_a_bad_or_silent_file_and_says_so(tmp_path, command, caplog):
    caplog.set_level("INFO")
    (tmp_path / "a_broken.wav").write_bytes(b"RIFF nothing")
    soundfile.write(tmp_path / "b_side.wav", side(), SAMPLE_RATE)
    soundfile.write(tmp_path / "c_nan.wav", np.full(SAMPLE_RATE, np.nan), SAMPLE_RATE, "FLOAT")
    soundfile.write(tmp_path / "d_still.wav", np.zeros(SAMPLE_RATE), SAMPLE_RATE)
    with pytest.raises(UserError, match="2 of 4 recordings failed.*a_broken.wav.*c_nan.wav"):
        command("find", tmp_path, "--output", tmp_path / "out")
    assert all(words in caplog.text for words in (
        "a_broken.wav", "c_nan.wav: the recording must",
        "d_still.wav: nothing is taken: there is only digital silence"))
    assert len(list((tmp_path / "out").glob("b_side_seg*.flac"))) == 3


def test_commands_answer_mistakes_in_a_line(tmp_path):
    result = programs.run("noise_tools.py", "fit", tmp_path / "missing.wav", cwd=ROOT)
    assert result.returncode == 1 and "missing.wav" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.fixture
def quick_fit(monkeypatch):
    """Fits in one round of short noise, because the quality of a fit is tested elsewhere."""
    monkeypatch.setattr(fit, "FIT_ROUNDS", 1)
    monkeypatch.setattr(fit, "FIT_SECONDS", 2.0)


@pytest.fixture(scope="module")
def recording(tmp_path_factory) -> Path:
    """Four seconds of a disc."""
    path = tmp_path_factory.mktemp("recorded") / "disc.flac"
    soundfile.write(path, recorded("vinyl1_runoff")[:4 * SAMPLE_RATE], SAMPLE_RATE)
    return path


@pytest.mark.usefixtures("quick_fit")
@pytest.mark.parametrize("kind", ["gramophone", "film", "tape"])
def test_fit_command_writes_a_config_that_make_renders(tmp_path, command, recording, kind):
    target, sound = tmp_path / "mine.yaml", tmp_path / "mine.wav"
    command("fit", recording, "--kind", kind, "--output", target)
    with pytest.raises(UserError, match="mine.yaml"):
        command("fit", recording, "--output", target)
    group = tmp_path / "conf" / "noise"  # in which Hydra finds it
    group.mkdir(parents=True)
    (group / target.name).write_text(target.read_text())
    carrier = composed("noise=mine", f"hydra.searchpath=[file://{group.parent}]").noise
    assert carrier.alone_share > 0.0  # what was fitted is met beside lone parts, as by default
    assert carrier.kind == kind and len(getattr(carrier, kind).spectra_db) == 1
    command("make", "--config", target, "--seconds", "2", "--output", sound)
    made, _ = soundfile.read(sound)
    wanted = generator.generate(kind, len(made), rng(0), carrier=carrier)
    np.testing.assert_allclose(made, wanted / max(1.0, np.abs(wanted).max()), atol=2.0**-15)
    command("make", "--config", target, "--kind", "hum", "--seconds", "2",
            "--output", sound, "--overwrite")  # a kind in the call wins
    assert not np.allclose(soundfile.read(sound)[0], made, atol=1e-3)


@pytest.mark.parametrize(("content", "words"), [
    (b"kind: gramophon\n", "noise.kind"),
    (b"gramophone: {click_db: [3.0, 1.0]}\n", "noise.gramophone.click_db"),
    (b"gramophone: {clicks_db: [3.0, 5.0]}\n", "clicks_db"),
    (b"gramophone: {click_db: loud}\n", "click_db"),
    (b"kind: ${missing}\n", "missing"),
    (b"- kind\n", "settings"),
    (b"just words\n", "just words"),
    (b"kind: [film\n", "line 2"),
    (b"RIFF\xff\xfe\x00", "utf-8"),
    (None, "No such file"),
])
def test_make_reports_a_bad_config_in_a_line(tmp_path, command, content, words):
    config = tmp_path / "bad.yaml"
    if content is not None:
        config.write_bytes(content)
    with pytest.raises(USER_ERRORS, match=words) as caught:
        command("make", "--config", config, "--output", tmp_path / "bad.wav")
    message = describe_error(caught.value)
    assert "bad.yaml" in message and "\n" not in message
    assert not (tmp_path / "bad.wav").exists()


def test_measure_command_shows_recorded_beside_generated_noise(tmp_path, command, recording,
                                                               capsys):
    def table(*arguments: object) -> dict[str, list[float]]:
        command("measure", *arguments, "--draws", "6")
        header, *rows = capsys.readouterr().out.splitlines()
        assert header.split()[:3] == ["loud", "kurtosis", "events/s"]
        return {row[:32].strip(): [float(cell) for cell in row[32:].split()] for row in rows}

    shown = table(recording, "--kind", "gramophone", "--seed", "3")
    wanted = statistics.describe(recorded("vinyl1_runoff")[:4 * SAMPLE_RATE]).numbers()
    np.testing.assert_allclose(shown["disc"], list(wanted.values()), atol=0.051, rtol=0.01)
    order = [shown[f"generated, {name}"] for name in noise_tools.QUANTILES]
    assert np.all(np.diff(order, axis=0) >= 0.0)
    same = table("--kind", "gramophone", "--seed", "3")
    assert shown == same | {"disc": shown["disc"]}
    (tmp_path / "broken.wav").write_bytes(b"RIFF nothing")
    with pytest.raises(UserError, match="1 of 1 recordings failed.*broken.wav"):
        table(tmp_path)
    with pytest.raises(UserError, match="`--draws` must be at least 1"):
        command("measure", "--draws", "0")


@pytest.mark.usefixtures("quick_fit")
def test_make_and_picture_commands(tmp_path, command):
    sound, picture = tmp_path / "film.flac", tmp_path / "film.png"
    command("make", "--kind", "film", "--seconds", "3", "--output", sound)
    audio, rate = soundfile.read(sound)
    assert rate == SAMPLE_RATE and len(audio) == 3 * SAMPLE_RATE and np.abs(audio).max() <= 1.0
    command("make", "--seconds", "1", "--output", tmp_path / "mixed.WAV")
    assert soundfile.info(tmp_path / "mixed.WAV").format == "WAV"
    with pytest.raises(UserError, match="`--seconds` must be above 0"):
        command("make", "--seconds", "0", "--output", tmp_path / "nothing.wav")
    with pytest.raises(UserError, match=r"must end in .*mixed.mp3"):
        command("make", "--seconds", "1", "--output", tmp_path / "mixed.mp3")
    command("picture", sound, "--kind", "film", "--output", picture)
    assert picture.read_bytes()[:4] == b"\x89PNG" and picture.stat().st_size < 300_000
    with pytest.raises(UserError, match="film.png"):
        command("picture", "--kind", "film", "--output", picture)


@pytest.mark.usefixtures("quick_fit")
def test_fit_command_goes_on_past_a_bad_file_and_says_so(tmp_path, command, recording, caplog):
    soundfile.write(tmp_path / "a_short.wav", np.ones(100), SAMPLE_RATE)
    target = tmp_path / "mine.yaml"
    with pytest.raises(UserError, match="1 of 2 recordings failed.*a_short.wav"):
        command("fit", tmp_path / "a_short.wav", recording, "--output", target)
    assert "samples" in caplog.text
    assert len(OmegaConf.load(target).gramophone.spectra_db) == 1
    with pytest.raises(UserError, match="1 of 1 recordings failed"):
        command("fit", tmp_path / "a_short.wav", "--output", tmp_path / "none.yaml")
    assert not (tmp_path / "none.yaml").exists()


def test_degrade_adds_noise_at_the_snr(tmp_path, command, caplog, rng):
    clean, noise = tmp_path / "clean.wav", tmp_path / "noise"
    noise.mkdir()
    soundfile.write(clean, 0.7 * np.sin(0.05 * np.arange(2 * SAMPLE_RATE)), SAMPLE_RATE, "FLOAT")
    soundfile.write(noise / "disc.wav", 0.1 * rng.standard_normal(SAMPLE_RATE), SAMPLE_RATE)
    caplog.set_level("INFO")
    command("degrade", clean, noise, "--snr", "10", "--seed", "3")
    mixed, _ = soundfile.read(tmp_path / "clean_noisy.wav")
    audio, _ = soundfile.read(clean)
    assert np.abs(mixed).max() <= 1.0  # both were lowered
    share = np.dot(mixed, audio) / np.dot(audio, audio)
    added = mixed - share * audio
    assert 10.0 * np.log10(np.var(share * audio) / np.var(added)) == pytest.approx(10.0, abs=0.1)
    told = float(caplog.text.split("at a gain of ")[1].split(",")[0])
    assert told == pytest.approx(np.std(added) / 0.1, rel=0.05)
    with pytest.raises(UserError, match="exists already; add --overwrite"):
        command("degrade", clean, noise, "--snr", "10")
    soundfile.write(noise / "disc.wav", np.zeros(1000), SAMPLE_RATE)
    with pytest.raises(UserError, match="disc.wav must hold sound; it is silent"):
        command("degrade", clean, noise, "--snr", "10", "-o", tmp_path / "other.wav")
