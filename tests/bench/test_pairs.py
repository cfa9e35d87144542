"""Files of a user's: which belong together, and what is said where they do not."""

import numpy as np
import pytest
import soundfile

from denoiser.audio.dsp import SAMPLE_RATE
from denoiser.bench import pairs
from denoiser.checks import UserError


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


def test_both_forms_of_pairs_are_found(write, tmp_path):
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
    mixtures = [mixture for mixture, _ in pairs.read_mixtures([found[2]])]
    assert mixtures[0].category == "music" and mixtures[0].noise == "music"
    assert mixtures[0].profile is not None


def test_mixtures_have_their_snr_and_the_mean_of_channels(write, rng):
    clean = 0.1 * rng.standard_normal((SAMPLE_RATE, 2))
    noise = 0.1 * 10.0 ** (-12.3 / 20.0) * rng.standard_normal((SAMPLE_RATE, 2))
    write("x_clean.wav", clean)
    write("x_noisy.wav", clean + noise)
    ((mixture, snr_db),) = pairs.read_mixtures(pairs.find_pairs(str(write("y.wav").parent)))
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
        list(pairs.read_mixtures(pairs.find_pairs(str(tmp_path))))


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
    (first, known), (_, heard), (_, none) = (pairs.read_recording(one, 4.0) for one in found)
    assert len(first) == SAMPLE_RATE and len(known) == SAMPLE_RATE // 2
    assert none is None
    assert 0.5 * SAMPLE_RATE < len(heard) <= 2.1 * SAMPLE_RATE and np.abs(heard).max() < 0.05
    assert len(pairs.read_recording(found[1], 1.0)[0]) == SAMPLE_RATE
    assert [one.name for one in pairs.find_recordings(str(tmp_path / "b.wav"))] == ["b"]
    assert [one.name for one in pairs.find_recordings(str(write("noisy.wav")))] == ["noisy"]
