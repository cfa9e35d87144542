"""A user's files: which ones belong together, and errors if they do not."""

from pathlib import Path

import film_samples
import numpy as np
import pytest
import soundfile

from historical_denoiser.audio.dsp import SAMPLE_RATE
from historical_denoiser.bench import pairs
from historical_denoiser.core.checks import UserError


@pytest.fixture
def write(tmp_path, rng):
    """Writes `(samples,)` or seconds of noise below the test's folder."""

    def write(name, audio=0.3, rate=SAMPLE_RATE):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(audio, float):
            audio = 0.1 * rng.standard_normal(round(audio * rate))
        soundfile.write(path, audio, rate, subtype="FLOAT" if path.suffix == ".wav" else None)
        return path

    return write


def test_all_forms_of_pairs_are_found(write, tmp_path):
    for name in ("speech/noisy/a.wav", "speech/clean/a.flac", "speech/noise/a.wav", "b_noisy.wav",
                 "b_clean.wav", "music/c_noisy.wav", "music/c_clean.wav", "music/c_noise.wav",
                 "other.wav", "d/noisy.wav", "d/clean.wav", "d/noise.wav"):
        write(name)
    found = pairs.find_pairs(str(tmp_path))
    assert [(one.name, one.noisy.name, one.clean.name, one.noise and one.noise.name)
            for one in found] == [
        ("b", "b_noisy.wav", "b_clean.wav", None),
        ("d", "noisy.wav", "clean.wav", "noise.wav"),
        ("music/c", "c_noisy.wav", "c_clean.wav", "c_noise.wav"),
        ("speech/a", "a.wav", "a.flac", "a.wav")]
    mixture, _ = pairs.read_mixture(found[2])
    assert mixture.category == "music" and mixture.noise == "music"
    assert mixture.profile is not None


def test_mixtures_have_their_snr_and_the_mean_of_channels(write, rng):
    clean = 0.1 * rng.standard_normal((SAMPLE_RATE, 2))
    noise = 0.1 * 10.0 ** (-12.3 / 20.0) * rng.standard_normal((SAMPLE_RATE, 2))
    write("x_clean.wav", clean)
    write("x_noisy.wav", clean + noise)
    (pair,) = pairs.find_pairs(str(write("y.wav").parent))
    mixture, snr_db = pairs.read_mixture(pair)
    assert snr_db == pytest.approx(12.3, abs=0.2) and mixture.snr_db == 10.0
    np.testing.assert_allclose(mixture.clean, clean.mean(axis=1), atol=1e-6)
    assert mixture.profile is None and mixture.category == "all"


@pytest.mark.parametrize(("files", "message"), [
    ({"a_noisy.wav": 0.3}, "a_noisy.wav must have a clean file beside it"),
    ({"a.wav": 0.3}, "which holds none"),
    ({"a_noisy.wav": 0.3, "a_clean.wav": 0.2}, "a_noisy.wav: must be as long as .*0.300 s and 0.2"),
    ({"a_noisy.wav": np.ones(500), "a_clean.wav": np.ones(500)}, "must differ"),
    ({"a_noisy.wav": 0.3, "a_clean.wav": np.full(13230, np.nan)}, "a_clean.wav: must hold finite"),
    ({"a_noisy.wav": np.zeros(0), "a_clean.wav": 0.3}, "a_noisy.wav: must hold sound"),
    ({"a_noisy.wav": 0.3, "a_clean.wav": 0.3, "a_noise.wav": 0.05}, "a_noise.wav: must hold at")])
def test_pairs_that_cannot_be_used_are_named(write, tmp_path, files, message):
    for name, audio in files.items():
        write(name, audio)
    with pytest.raises(UserError, match=message):
        for pair in pairs.find_pairs(str(tmp_path)):
            pairs.read_mixture(pair)


def test_rumble_does_not_count_in_an_snr(write, tmp_path, rng):
    clean = 0.1 * rng.standard_normal(SAMPLE_RATE)
    noise = 0.01 * rng.standard_normal(SAMPLE_RATE)
    write("x_clean.wav", clean)
    rumble = np.sin(np.arange(SAMPLE_RATE) * 7e-4) * np.hanning(SAMPLE_RATE)  # at 5 Hz
    write("x_noisy.wav", clean + noise + rumble)
    (pair,) = pairs.find_pairs(str(tmp_path))
    mixture, snr_db = pairs.read_mixture(pair, 20.0)
    assert mixture.snr_db == 20.0 and snr_db == pytest.approx(20.0, abs=1.0)
    assert pairs.read_mixture(pair)[0].snr_db < 0.0


def test_categories_are_those_of_folders_below_the_one_that_was_given(write, tmp_path):
    for name in ("Music/in/a", "Music/in/Speech/b", "Music/in/x/EFFECTS/y/c"):
        for role in ("noisy", "clean"):
            write(f"{name}_{role}.wav")
    found = pairs.find_pairs(str(tmp_path / "Music/in"))
    assert {pair.name: pair.category for pair in found} == {
        "a": "all", "Speech/b": "speech", "x/EFFECTS/y/c": "effects"}
    assert pairs.note_categories(found).startswith("1 of 3 are in no subfolder called speech, ")
    assert pairs.note_categories(found[::2]) is None
    recordings = pairs.find_recordings(str(tmp_path))
    assert {pair.category for pair in recordings} == {"music", "speech", "effects"}


def test_recordings_and_films_are_found_but_no_results_of_earlier_runs(write, tmp_path):
    for name in ("a.wav", "a_denoised.wav", "a_residual.wav", "b_denoised_s5.wav", "b.flac",
                 "alone_denoised.wav", ".hidden/c.wav"):
        write(name)
    film_samples.write_film(tmp_path / "film.mkv", "matroska", [film_samples.Sound("flac")], 1.0)
    found = pairs.find_recordings(str(tmp_path))
    assert [one.name for one in found] == ["a", "alone_denoised", "b", "film"]
    assert len(pairs.read_mono(found[-1].noisy)) == SAMPLE_RATE
    assert [one.name for one in pairs.find_recordings(str(tmp_path / "a_denoised.wav"))] == [
        "a_denoised"]


def test_the_noise_of_one_recording_is_searched_in_few_folders(write, tmp_path, monkeypatch):
    side, _, _ = (write(name) for name in ("top/side.wav", "top/side_noise.flac",
                                           "top/below/other.wav"))
    noisy, noise = (write(f"set/{role}/x.wav") for role in ("noisy", "noise"))
    monkeypatch.setattr(Path, "rglob", None)
    (found,) = pairs.find_recordings(str(side))
    assert found.noise == side.with_name("side_noise.flac")
    (found,) = pairs.find_recordings(str(noisy))
    assert found.noise == noise


def test_folders_that_are_not_there(tmp_path):
    with pytest.raises(UserError, match="`bench.pairs` must be a folder that exists"):
        pairs.find_pairs(str(tmp_path / "none"))
    for place in (tmp_path, tmp_path / "none.wav"):
        with pytest.raises(UserError, match="`bench.recordings` must be a recording or a folder"):
            pairs.find_recordings(str(place))


def test_recordings_come_with_their_noise(write, tmp_path, rng):
    write("a.wav", 1.0, 22050)
    write("a_noise.wav", 0.5)
    tone = 0.3 * np.sin(np.arange(5 * SAMPLE_RATE) * 0.1)
    tone[:2 * SAMPLE_RATE] = 0.0
    write("b.wav", tone + 0.003 * rng.standard_normal(len(tone)))
    write("c.wav", 0.3 * np.sin(np.arange(SAMPLE_RATE) * 0.1))
    found = pairs.find_recordings(str(tmp_path))
    assert [one.name for one in found] == ["a", "b", "c"]
    (first, stored), (_, noise), (_, none) = (pairs.read_recording(one, 4.0) for one in found)
    assert len(first) == SAMPLE_RATE and len(stored) == SAMPLE_RATE // 2
    assert none is None
    assert 0.5 * SAMPLE_RATE < len(noise) <= 2.1 * SAMPLE_RATE and np.abs(noise).max() < 0.05
    assert len(pairs.read_recording(found[1], 1.0)[0]) == SAMPLE_RATE
    assert [one.name for one in pairs.find_recordings(str(tmp_path / "b.wav"))] == ["b"]
    assert [one.name for one in pairs.find_recordings(str(write("noisy.wav")))] == ["noisy"]
