"""Measures against what is known of made sounds."""

import sys

import numpy as np
import pytest

from denoiser.audio.dsp import SAMPLE_RATE
from denoiser.bench import measures
from denoiser.checks import UserError


def test_segmental_snr_is_the_mean_of_segments_within_bounds(sine, rng):
    error = 0.01 * rng.standard_normal(len(sine))
    quiet = measures.segmental_snr_db(sine, sine + error)
    assert quiet == pytest.approx(10.0 * np.log10(np.var(sine) / np.var(error)), abs=0.1)
    # Half of the segments without an error count 35 dB, those that are all error -10 dB.
    half = np.where(np.arange(len(sine)) < len(sine) // 2, 0.0, 100.0 * sine)
    assert measures.segmental_snr_db(sine, sine + half) == pytest.approx(12.5, abs=0.6)
    gated = np.where(np.arange(len(sine)) < len(sine) // 2, sine, 0.0)
    assert measures.segmental_snr_db(gated, gated + error) == pytest.approx(quiet, abs=0.2)
    assert np.isnan(measures.segmental_snr_db(sine, np.full_like(sine, np.nan)))


def test_loudness_changes_by_the_gain(sine):
    pytest.importorskip("pyloudnorm")
    judge, left_out = measures.load_judge(False)
    assert judge("music", sine, 0.5 * sine)["loudness_change_lu"] == pytest.approx(-6.02, abs=0.01)
    assert "loudness_change_lu" not in judge("music", sine, np.zeros_like(sine))
    assert judge("music", sine, np.full_like(sine, np.nan)) == {}
    assert left_out == []


def test_what_cannot_be_measured_is_named(monkeypatch, sine):
    monkeypatch.setitem(sys.modules, "pyloudnorm", None)
    judge, left_out = measures.load_judge(False)
    assert left_out == ["loudness_change_lu: pip install pyloudnorm"]
    assert judge("music", sine, sine).keys() == {"segmental_snr_db"}


@pytest.mark.slow
def test_stoi_and_dnsmos_are_of_speech_alone_and_fall_with_noise(rng):
    for name in ("pystoi", "speechmos", "onnxruntime", "visqol", "pesq"):
        pytest.importorskip(name)
    judges = [measures._load_stoi(), measures._load_dnsmos()]
    times = np.arange(3 * SAMPLE_RATE) / SAMPLE_RATE
    pitch = 2.0 * np.pi * np.cumsum(120.0 + 20.0 * np.sin(4.0 * times)) / SAMPLE_RATE
    voice = sum(np.sin(order * pitch) / (1.0 + abs(order - 5.0 - 3.0 * np.sin(5.0 * times)))
                for order in range(1, 30))
    voice = (0.05 * voice * np.clip(np.sin(2.0 * np.pi * 2.5 * times), 0.0, 1.0))
    noisy = voice + 0.05 * rng.standard_normal(len(voice))
    for judge, name in zip(judges, ("stoi", "dnsmos"), strict=True):
        assert judge("music", voice, voice) == {}
        assert judge("speech", voice, voice)[name] > judge("speech", voice, noisy)[name]
    assert judges[0]("speech", voice, voice)["stoi"] == pytest.approx(1.0, abs=1e-3)
    assert judges[0]("speech", voice[:2000], voice[:2000]) == {}


def test_a_recording_alone_is_judged_by_its_pauses_and_bands(rng):
    times = np.arange(4 * SAMPLE_RATE) / SAMPLE_RATE
    tone = 0.3 * np.sin(2.0 * np.pi * 1000.0 * times) * (times % 1.0 < 0.8)
    noise = 0.01 * rng.standard_normal(len(times))
    quiet = measures.pauses(tone + noise)
    assert quiet.mean() == pytest.approx(0.05, abs=0.002)
    assert (times[quiet] % 1.0 > 0.79).all()
    found = measures.judge_alone(tone + noise, tone + 0.1 * noise)
    assert found["floor_dbfs"] == pytest.approx(-40.0, abs=0.3)
    assert found["floor_change_db"] == pytest.approx(-20.0, abs=0.1)
    assert found["removed_db_at_8000"] == pytest.approx(20.0 * np.log10(0.9), abs=0.3)
    assert found["removed_db_at_1000"] < -35.0  # the tone stayed
    untouched = measures.judge_alone(tone + noise, tone + noise)
    assert untouched["removed_db_at_1000"] == float("-inf")
    assert untouched["floor_change_db"] == untouched["input_correlation"] == 0.0
    without = measures.judge_alone(tone + noise, noise)
    assert without["removed_db_at_1000"] > -0.2 and without["removed_db_at_8000"] < -15.0


def test_music_without_pauses_shows_its_floor_where_an_octave_is_free(rng):
    times = np.arange(4 * SAMPLE_RATE) / SAMPLE_RATE
    tone = 0.3 * np.sin(2.0 * np.pi * 1000.0 * times)  # never pauses
    noise = 0.01 * rng.standard_normal(len(times))
    found = measures.judge_alone(tone + noise, tone + 0.1 * noise)
    assert abs(found["floor_change_db"]) < 0.1
    assert found["floor_change_db_at_8000"] == pytest.approx(-20.0, abs=0.3)
    assert abs(found["floor_change_db_at_1000"]) < 0.1


def test_digital_silence_is_no_pause_and_a_short_recording_is_refused(rng):
    audio = 0.1 * rng.standard_normal(2 * SAMPLE_RATE)
    audio[:SAMPLE_RATE] = 0.0
    assert not measures.pauses(audio)[:SAMPLE_RATE].any()
    with pytest.raises(UserError, match="at least 1 s long"):
        measures.pauses(audio[:SAMPLE_RATE // 2])
