"""Tests of the measures of a clip, and of its conversion."""

from pathlib import Path

import numpy as np
import pytest
import scipy.signal
import soundfile as sf
from packing import encode, make_tone, make_words

from historical_denoiser.audio.dsp import SAMPLE_RATE
from historical_denoiser.corpus import clips


def make_noise(seconds: float, rms: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rms * rng.standard_normal(round(seconds * SAMPLE_RATE))).astype(np.float32)


@pytest.mark.parametrize("floor_db", [42.0, 50.0, 60.0, np.inf])
def test_floor_is_the_noise_in_the_pauses(floor_db):
    samples = make_words(4.0) + make_noise(4.0, 0.1 * 10.0 ** (-floor_db / 20.0))
    expected = pytest.approx(floor_db, abs=1.5) if floor_db < 100.0 else clips.MAX_FLOOR_DB
    assert clips.measure_floor_db(samples) == expected


def test_level_counts_active_frames_only():
    samples = np.concatenate([make_tone(1.0, rms=0.1), np.zeros(9 * SAMPLE_RATE, np.float32)])
    assert clips.measure_level_dbfs(samples) == pytest.approx(-20.0, abs=0.1)


@pytest.mark.parametrize("noise_db", [30.0, 50.0])
@pytest.mark.parametrize("sustained", [False, True])
def test_noise_is_found_under_a_sound_without_pauses(noise_db, sustained):
    sweep = scipy.signal.chirp(np.arange(4 * SAMPLE_RATE) / SAMPLE_RATE, 300.0, 4.0, 9000.0)
    samples = 0.1 * np.sqrt(2.0) * sweep.astype(np.float32)
    samples += make_noise(4.0, 0.1 * 10.0 ** (-noise_db / 20.0))
    measured = clips.measure_noise_db(samples, sustained, SAMPLE_RATE / 2.0)
    assert noise_db - 1.0 <= measured <= noise_db + 4.0  # percentiles lie a little low


def test_noise_of_sustained_tones_is_low_but_speech_would_not_pass_with_them():
    chord = sum(make_tone(3.0, frequency) for frequency in (220.0, 277.0, 330.0))
    assert clips.measure_noise_db(chord, True, SAMPLE_RATE / 2.0) > 60.0
    assert clips.measure_noise_db(chord, False, SAMPLE_RATE / 2.0) < 10.0


def test_noise_is_not_sought_above_the_sound():
    taps = scipy.signal.butter(12, 7000.0, fs=SAMPLE_RATE, output="sos")
    samples = make_tone(3.0) + make_noise(3.0, 0.001)
    samples = scipy.signal.sosfilt(taps, samples).astype(np.float32)
    assert clips.measure_noise_db(samples, True, 6000.0) == pytest.approx(40.0, abs=4.0)


def test_noise_like_is_the_share_of_the_power_that_is_noise():
    noise, chord = make_noise(3.0, 0.1), make_tone(3.0, 440.0) + make_tone(3.0, 2000.0)
    chord *= 0.1 / np.std(chord)
    assert clips.measure_noise_like(noise) > 0.98
    assert clips.measure_noise_like(chord) < 0.01
    assert clips.measure_noise_like(chord + noise) == pytest.approx(0.5, abs=0.05)


def test_silence_never_counts_as_clean():
    for sustained in (False, True):
        assert clips.measure_noise_db(np.zeros(SAMPLE_RATE, np.float32), sustained, 0.0) == 0.0


@pytest.mark.parametrize("edge_hz", [3000.0, 11000.0])
def test_bandwidth_is_where_the_spectrum_ends(edge_hz):
    taps = scipy.signal.ellip(16, 0.1, 90.0, edge_hz, fs=SAMPLE_RATE, output="sos")
    samples = scipy.signal.sosfilt(taps, make_noise(3.0, 0.1)).astype(np.float32)
    assert clips.measure_bandwidth_hz(samples) == pytest.approx(edge_hz, rel=0.05)


def test_a_full_disk_stops_the_run(tmp_path, monkeypatch):
    (tmp_path / "a.wav").write_bytes(encode(make_tone(0.5)))

    def fail(self, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(OSError, match="No space left"):
        clips.convert_clip(tmp_path / "a.wav", tmp_path / "b.flac", False)
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]


def test_a_clip_beyond_full_scale_is_measured_and_attenuated(tmp_path):
    samples = np.zeros((100, 2), np.float32)
    samples[:5], samples[5:10, 0], samples[5:10, 1] = 1.0, -1.2, -0.9
    sf.write(tmp_path / "a.wav", samples, SAMPLE_RATE, subtype="FLOAT")
    result = clips.convert_clip(tmp_path / "a.wav", tmp_path / "b.flac", False)
    stored, _ = sf.read(tmp_path / "b.flac")
    assert result["clipped"] == pytest.approx(0.075)  # share of the samples of both channels
    assert np.abs(stored).max() == pytest.approx(clips.MAX_PEAK, abs=1e-3)
