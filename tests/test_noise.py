"""Generated noise, what is measured of it, the finder of noise segments, and the commands."""

from __future__ import annotations

import csv
import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from omegaconf import OmegaConf
from scipy import fft

import noise
from config import SAMPLE_RATE

ROOT = Path(__file__).resolve().parents[1]
RECORDED = ROOT / "data" / "noise" / "gramophone"


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def level_db(audio: np.ndarray) -> float:
    return float(10.0 * np.log10(np.mean(np.square(audio, dtype=np.float64))))


def recorded(name: str) -> np.ndarray:
    audio, rate = soundfile.read(RECORDED / f"{name}.flac", dtype="float32")
    assert rate == SAMPLE_RATE
    return audio


def plain_disc(**changes: object) -> noise.CarrierConfig:
    """A disc with flat hiss and next to nothing else."""
    settings = dict(spectra_db=[[0.0] * len(noise.BAND_HZ)], fitted_chance=1.0,
                    tilt_db_per_octave=[0.0, 0.0], colour_db=[0.0, 0.0], cutoff_hz=[1e6, 1e6],
                    swish_db=[0.0, 0.0], crackles_per_second=[0.0, 0.0],
                    clicks_per_second=[0.0, 0.0],
                    locked_share=[0.0, 0.0], part_chance=0.0)
    return noise.CarrierConfig(gramophone=noise.GramophoneConfig(**(settings | changes)))


# --- Generating ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [*noise.KINDS, "mixed"])
def test_every_kind_is_finite_audible_and_varied(kind: str) -> None:
    source = rng(1)
    spectra = []
    for samples in (1, 1000, 60000, 60000, 60000, 60000):
        audio = noise.generate(kind, samples, source)
        assert audio.shape == (samples,) and audio.dtype == np.float32
        assert np.all(np.isfinite(audio))
        if samples == 60000:
            assert -40.0 < level_db(audio) < -20.0
            spectra.append(noise.third_octaves_db(audio, SAMPLE_RATE))
    distances = [noise.spectral_distance(*pair) for pair in itertools.combinations(spectra, 2)]
    assert min(distances) > 1.0  # each call is another noise


@pytest.mark.parametrize("kind", noise.KINDS)
def test_stream_is_one_noise_whatever_the_block(kind: str) -> None:
    samples = 2 * noise.CHUNK + 1000
    whole = noise.generate(kind, samples, rng(2))
    for block in (1111, noise.CHUNK, 50000):
        blocks = noise.stream(kind, block, rng(2))
        pieces = np.concatenate([next(blocks) for _ in range(samples // block)])
        np.testing.assert_array_equal(pieces, whole[:len(pieces)])
    assert not np.array_equal(noise.generate(kind, samples, rng(3)), whole)


@pytest.mark.parametrize("part", ["wave", "rumble", "swing", "hiss", "thumps"])
def test_parts_have_no_seams(part: str) -> None:
    """Smooth parts stay as smooth where two chunks meet as elsewhere."""
    source = {
        "wave": lambda: noise._Wave(rng(), SAMPLE_RATE, 50.0, np.zeros(3), 0.01),
        "rumble": lambda: noise._Rumble(rng(), SAMPLE_RATE, 0.77, 0.5),
        "swing": lambda: noise._Swing(rng(), SAMPLE_RATE, 1.0, rng().normal(size=16), 0.77),
        "hiss": lambda: noise._Hiss(rng(), SAMPLE_RATE, noise._low_pass_db(
            noise._grid_hz(SAMPLE_RATE), 100.0, 4.0)),
        "thumps": lambda: noise._Events(rng(), SAMPLE_RATE, 30.0, 0.0, 1.0, np.tile(
            np.hanning(9000), (2, 1))),
    }[part]()
    audio = np.concatenate([source.render() for _ in range(6)]).astype(np.float64)
    bend = np.abs(np.diff(audio, 1 if part == "swing" else 2))  # a swing of level has knots
    seams = noise.CHUNK * np.arange(1, 6)
    at_seams = max(bend[seam - 2:seam + 1].max() for seam in seams)
    assert at_seams <= 1.5 * np.quantile(bend, 0.999)


@pytest.mark.parametrize("sample_rate", [8000, 48000, 96000])
def test_other_rates_keep_the_level(sample_rate: int) -> None:
    for kind in noise.KINDS:
        assert -36.0 < level_db(noise.generate(kind, sample_rate, rng(4), sample_rate)) < -24.0


def test_hiss_has_the_levels_asked_for() -> None:
    levels = np.interp(np.arange(len(noise.BAND_HZ)), [0, 8, 15, 22, 28], [30, 10, 0, 6, -25])
    audio = noise.generate("gramophone", 12 * SAMPLE_RATE, rng(5),
                           carrier=plain_disc(spectra_db=[levels.tolist()]))
    assert noise.spectral_distance(noise.third_octaves_db(audio, SAMPLE_RATE), levels) < 0.7


def test_crackle_has_the_rate_and_the_heavy_tail_asked_for() -> None:
    plain = noise.generate("gramophone", 20 * SAMPLE_RATE, rng(6), carrier=plain_disc())
    assert noise.measure(plain, SAMPLE_RATE).crackles_per_second < 0.5
    assert abs(noise.measure(plain, SAMPLE_RATE).kurtosis) < 0.2
    carrier = plain_disc(crackles_per_second=[20.0, 20.0], crackle_db=[36.0, 36.0],
                         crackle_spread_db=[5.0, 5.0])
    audio = noise.generate("gramophone", 20 * SAMPLE_RATE, rng(7), carrier=carrier)
    found = noise.measure(audio, SAMPLE_RATE)
    assert 15.0 < found.clicks_per_second + found.crackles_per_second < 25.0
    assert found.kurtosis > 50.0


def test_locked_clicks_return_with_each_turn() -> None:
    def repetition(share: float) -> float:
        carrier = plain_disc(clicks_per_second=[10.0, 10.0], click_db=[35.0, 35.0],
                             locked_share=[share, share], turns_per_minute=[78.26])
        audio = noise.generate("gramophone", 20 * SAMPLE_RATE, rng(8), carrier=carrier)
        places, _ = noise.find_clicks(noise.whiten(audio, SAMPLE_RATE), SAMPLE_RATE)
        turn = 60.0 / 78.26 * SAMPLE_RATE
        return float(np.mean([np.abs(places - place - turn).min() < 90 for place in places]))

    assert repetition(0.9) > 0.5 > 0.2 > repetition(0.0)


def test_clicks_are_short_bipolar_and_leave_no_offset() -> None:
    bank = noise.impulse_bank(rng(9), SAMPLE_RATE, [0.1, 0.2])
    assert np.allclose(np.abs(bank).max(axis=1), 1.0)
    energy = np.cumsum(np.square(bank), axis=1)
    length_ms = 1e3 * np.argmax(energy > 0.99 * energy[:, -1:], axis=1) / SAMPLE_RATE
    assert 0.1 < np.median(length_ms) and length_ms.max() < 2.0
    assert np.all(bank.min(axis=1) < 0.0) and np.all(bank.max(axis=1) > 0.0)
    assert np.median(np.abs(bank.sum(axis=1)) / np.abs(bank).sum(axis=1)) < 0.3


def test_thumps_fall_in_frequency_and_decay() -> None:
    for row in noise.thump_bank(rng(10), SAMPLE_RATE):
        half = len(row) // 4
        crossings = np.flatnonzero(np.diff(np.signbit(row[200:])))
        assert np.square(row[:half]).sum() > 10.0 * np.square(row[2 * half:]).sum()
        if len(crossings) > 3:
            assert np.diff(crossings)[-1] > np.diff(crossings)[1]


def test_standard_curves() -> None:
    curve = noise.academy_db(np.array([40.0, 100.0, 1000.0, 5000.0, 8000.0]))
    np.testing.assert_allclose(curve, [-7.0, 0.0, 0.0, -10.0, -18.0], atol=1e-9)
    corner_hz = 1e6 / (2.0 * np.pi * 35.0)
    assert noise.tape_replay_db(np.array([corner_hz]), 0, 35)[0] == pytest.approx(3.01, abs=0.01)
    bass = noise.tape_replay_db(np.array([50.05, 1000.0]), 3180, 0)
    np.testing.assert_allclose(bass, [-3.01, -0.01], atol=0.01)
    riaa = noise.disc_replay_db(np.array([50.0, 1000.0, 10000.0]), 500.0, 2122.0)
    np.testing.assert_allclose(riaa - riaa[1], [16.9, 0.0, -13.7], atol=0.7)
    assert noise.slit_db(np.array([457.2 / 0.025]), 25.0, 457.2)[0] == pytest.approx(-40.0)


def test_minimum_phase_keeps_the_levels_and_starts_at_once() -> None:
    wanted = noise._low_pass_db(noise._grid_hz(SAMPLE_RATE), 3000.0, 2.0)
    kernel = noise.minimum_phase(wanted, 512)
    found = 20.0 * np.log10(np.abs(fft.rfft(kernel, noise.TAPS - 1)))
    assert np.abs(found - wanted)[:1500].max() < 0.2
    assert np.argmax(np.abs(kernel)) < 20


def test_film_and_tape_follow_the_signal() -> None:
    signal = np.zeros(4 * SAMPLE_RATE, np.float32)
    loud = slice(2 * SAMPLE_RATE, 4 * SAMPLE_RATE)
    signal[loud] = np.sin(np.arange(2 * SAMPLE_RATE) * 2 * np.pi * 1000.0 / SAMPLE_RATE)
    for kind in ("film", "tape"):
        added = (noise.generate(kind, len(signal), rng(11), signal=signal)
                 - noise.generate(kind, len(signal), rng(11)))
        assert level_db(added[loud]) > level_db(added[:SAMPLE_RATE] + 1e-9) + 40.0
        louder = (noise.generate(kind, len(signal), rng(11), signal=10.0 * signal)
                  - noise.generate(kind, len(signal), rng(11)))
        np.testing.assert_allclose(louder, added, atol=1e-4)  # relative to the signal's own RMS
        silent = noise.generate(kind, 1000, rng(11), signal=np.zeros(1000, np.float32))
        np.testing.assert_array_equal(silent, noise.generate(kind, 1000, rng(11)))
    spectrum = np.abs(fft.rfft(added[loud] * np.hanning(2 * SAMPLE_RATE))) ** 2
    near, far = spectrum[1900:2100].mean(), spectrum[14000:16000].mean()
    assert near > 5.0 * far  # asperity noise lies beside the tone


def test_dropouts_lower_the_gain_for_moments() -> None:
    gain = noise.dropout_gain(20 * SAMPLE_RATE, rng(12))
    assert gain.dtype == np.float32 and gain.max() <= 1.0
    assert gain.min() < 0.8 and np.median(gain) == 1.0
    assert np.abs(np.diff(gain)).max() < 0.05


@pytest.mark.parametrize(("call", "words"), [
    (lambda: noise.generate("wax", 10, rng()), "kind='wax'"),
    (lambda: noise.generate("tape", 0, rng()), "samples=0"),
    (lambda: noise.generate("tape", 10, rng(), signal=np.zeros(9)), "signal"),
    (lambda: noise.CarrierConfig(kind="wax"), "noise.kind"),
    (lambda: noise.CarrierConfig(film_share=-1.0), "_share"),
    (lambda: noise.GramophoneConfig(click_db=[3.0, 1.0]), "noise.gramophone.click_db"),
    (lambda: noise.FilmConfig(part_chance=2.0), "noise.film.part_chance"),
    (lambda: noise.TapeConfig(dropouts_per_second=[-1.0, 1.0]), "dropouts_per_second"),
    (lambda: noise.GramophoneConfig(spectra_db=[[0.0]]), "spectra_db"),
    (lambda: noise.measure(np.zeros(SAMPLE_RATE), SAMPLE_RATE), "silent"),
    (lambda: noise.measure(np.ones(100), SAMPLE_RATE), "samples"),
])
def test_errors_name_what_is_wrong(call: object, words: str) -> None:
    with pytest.raises(ValueError, match=words.replace("[", r"\[")):
        call()


@pytest.mark.parametrize("name", ["gramophone", "film", "tape", "mixed"])
def test_config_files_are_understood(name: str) -> None:
    stored = OmegaConf.load(ROOT / "conf" / "noise" / f"{name}.yaml")
    carrier = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(noise.CarrierConfig),
                                                  stored))
    assert carrier.kind == name
    assert len(noise.generate(carrier.kind, 100, rng(), carrier=carrier)) == 100


# --- Learning from recordings ----------------------------------------------------------------


@pytest.fixture(scope="module")
def fits() -> dict[str, noise.NoiseFit]:
    """Fits to the first half of two recordings."""
    return {name: noise.fit(recorded(name)[:len(recorded(name)) // 2], SAMPLE_RATE)
            for name in ("sonicpi_vinyl_hiss_L", "vinyl1_runoff")}


@pytest.mark.parametrize("name", ["sonicpi_vinyl_hiss_L", "vinyl1_runoff"])
def test_fitted_noise_is_like_the_unseen_rest(fits: dict[str, noise.NoiseFit],
                                              name: str) -> None:
    rest = recorded(name)[len(recorded(name)) // 2:]
    goal = noise.measure(rest, SAMPLE_RATE)
    carrier = noise.CarrierConfig(gramophone=fits[name].gramophone())
    found = noise.measure(noise.generate("gramophone", 20 * SAMPLE_RATE, rng(13), carrier=carrier),
                          SAMPLE_RATE)
    assert noise.spectral_distance(goal.spectrum_db, found.spectrum_db) < 3.0
    assert 0.5 < found.crackles_per_second / goal.crackles_per_second < 2.0
    assert 0.4 < found.clicks_per_second / goal.clicks_per_second < 2.5
    assert abs(found.click_db - goal.click_db) < 4.0
    assert abs(np.log10(found.kurtosis / goal.kurtosis)) < 1.0
    for other in fits:
        if other != name:  # the bounds tell one disc from another
            wrong = noise.measure(recorded(other), SAMPLE_RATE)
            assert noise.spectral_distance(wrong.spectrum_db, found.spectrum_db) > 4.0


def test_draws_come_close_to_a_disc_they_were_not_fitted_to() -> None:
    """The default ranges know nothing of this recording, and yet contain its like."""
    goal = noise.measure(recorded("sonicpi_vinyl_hiss_L"), SAMPLE_RATE).spectrum_db
    source = rng(14)
    distances = [noise.spectral_distance(goal, noise.third_octaves_db(
        noise.generate("gramophone", 2 * SAMPLE_RATE, source), SAMPLE_RATE)) for _ in range(60)]
    assert min(distances) < 4.0  # two real discs differ by 5 to 9 dB
    assert np.median(distances) > 4.0  # and much else


# --- Finding noise ---------------------------------------------------------------------------


def tune(seconds: float, seed: int = 0) -> np.ndarray:
    """Notes with harmonics, RMS about -20 dBFS."""
    source, notes = rng(seed), []
    for _ in range(round(seconds / 0.5)):
        time = np.arange(SAMPLE_RATE // 2) / SAMPLE_RATE
        pitch = 110.0 * 2.0 ** (source.integers(36) / 12.0)
        notes.append(sum(np.sin(2.0 * np.pi * pitch * order * time) / order
                         for order in range(1, 12)) * (0.3 + np.exp(-3.0 * time)))
    audio = np.concatenate(notes)
    return (0.1 * audio / audio.std()).astype(np.float32)


def side(hiss_db: float = -45.0, seed: int = 0) -> np.ndarray:
    """A disc's side: 2 s run-in, 4 s tune, 2 s pause, 4 s tune, 2 s run-out."""
    gap = np.zeros(2 * SAMPLE_RATE, np.float32)
    programme = np.concatenate([gap, tune(4.0, 1), gap, tune(4.0, 2), gap])
    hiss = noise.generate("gramophone", len(programme), rng(seed), carrier=plain_disc(
        crackles_per_second=[15.0, 15.0], crackle_db=[22.0, 22.0]))
    return programme + hiss * np.float32(10.0 ** ((hiss_db + 30.0) / 20.0))


@pytest.mark.parametrize("hiss_db", [-60.0, -45.0, -30.0])
def test_finder_takes_grooves_and_pauses_only(hiss_db: float) -> None:
    found = noise.find_noise_segments(side(hiss_db), SAMPLE_RATE)
    assert [segment.place for segment in found] == ["run-in", "pause", "run-out"]
    for segment, start in zip(found, (0.0, 6.0, 12.0), strict=True):
        assert start - 0.05 <= segment.start_seconds < start + 0.6
        assert start + 1.4 < segment.end_seconds <= start + 2.05
        assert segment.below_program_db > 8.0


def test_finder_knows_noise_from_everything_else() -> None:
    hiss = noise.generate("gramophone", 6 * SAMPLE_RATE, rng(), carrier=plain_disc())
    assert [segment.place for segment in noise.find_noise_segments(hiss, SAMPLE_RATE)] == ["whole"]
    tone = np.sin(np.arange(5 * SAMPLE_RATE) * 0.3).astype(np.float32)
    for programme in (tune(8.0), tone, np.zeros(5 * SAMPLE_RATE, np.float32), tone[:100],
                      tone + 0.01 * hiss[:len(tone)]):
        assert noise.find_noise_segments(programme, SAMPLE_RATE) == []


def test_finder_takes_stereo_and_hum() -> None:
    hum = 0.02 * sum(np.sin(np.arange(14 * SAMPLE_RATE) * 2.0 * np.pi * 50.0 * order / SAMPLE_RATE)
                     / order for order in range(1, 10)).astype(np.float32)
    stereo = np.stack([side(seed=0) + hum, side(seed=1) + hum], axis=1)
    places = [segment.place for segment in noise.find_noise_segments(stereo, SAMPLE_RATE)]
    assert places == ["run-in", "pause", "run-out"]


# --- Commands --------------------------------------------------------------------------------


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, ROOT / "noise.py", *map(str, arguments)],
                          capture_output=True, text=True, check=False)


def command(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    """Runs a command in this process: faster, errors come through."""
    monkeypatch.setattr(sys, "argv", ["noise.py", *map(str, arguments)])
    noise.main()


def test_find_command_cuts_reports_and_never_overwrites(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture) -> None:
    recording, folder = tmp_path / "side.wav", tmp_path / "noise"
    soundfile.write(recording, side(), SAMPLE_RATE, subtype="PCM_16")
    command(monkeypatch, "find", recording, "--output", folder)
    with (folder / noise.REPORT_NAME).open(newline="", encoding="utf-8") as stream:
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
    command(monkeypatch, "find", recording, "--output", folder, "--overwrite")
    other = tmp_path / "other.flac"
    soundfile.write(other, side(seed=3), SAMPLE_RATE)
    command(monkeypatch, "find", other, "--output", folder)
    with (folder / noise.REPORT_NAME).open(newline="", encoding="utf-8") as stream:
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
    monkeypatch.setattr(noise, "FIT_ROUNDS", 2)
    recording = RECORDED / "vinyl1_runoff.flac"
    for kind in ("gramophone", "film", "tape"):
        target = tmp_path / f"{kind}.yaml"
        command(monkeypatch, "fit", recording, "--kind", kind, "--output", target)
        carrier = OmegaConf.to_object(OmegaConf.merge(
            OmegaConf.structured(noise.CarrierConfig), OmegaConf.load(target)))
        assert carrier.kind == kind and len(getattr(carrier, kind).spectra_db) == 1
        assert np.isfinite(noise.generate(kind, 1000, rng(), carrier=carrier)).all()
    with pytest.raises(ValueError, match="gramophone.yaml"):
        command(monkeypatch, "fit", recording, "--output", tmp_path / "gramophone.yaml")


def test_make_and_picture_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sound, picture = tmp_path / "film.flac", tmp_path / "film.png"
    command(monkeypatch, "make", "--kind", "film", "--seconds", "3", "--output", sound)
    audio, rate = soundfile.read(sound)
    assert rate == SAMPLE_RATE and len(audio) == 3 * SAMPLE_RATE and np.abs(audio).max() < 1.0
    monkeypatch.setattr(noise, "FIT_ROUNDS", 1)
    command(monkeypatch, "picture", sound, "--kind", "film", "--output", picture)
    assert picture.read_bytes()[:4] == b"\x89PNG" and picture.stat().st_size < 300_000
    with pytest.raises(ValueError, match="film.png"):
        command(monkeypatch, "picture", "--kind", "film", "--output", picture)
