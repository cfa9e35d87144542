"""Measures of artificial sounds with known values."""

import sys

import numpy as np
import pytest

from historical_denoiser.audio.dsp import SAMPLE_RATE
from historical_denoiser.bench import measures
from historical_denoiser.core.checks import UserError

TIMES = np.arange(4 * SAMPLE_RATE) / SAMPLE_RATE
TONE = np.sin(2.0 * np.pi * 1000.0 * TIMES)


@pytest.fixture
def hiss(rng):
    """Four seconds of white noise at -40 dBFS."""
    return 0.01 * rng.standard_normal(len(TIMES))


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
    assert judge("music", sine, sine) == {}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "packages", "load"), [
    ("stoi", ["pystoi"], measures._load_stoi),
    ("dnsmos", ["speechmos", "onnxruntime"], measures._load_dnsmos)])
def test_measures_of_speech_fall_with_noise(name, packages, load, rng):
    for package in packages:
        pytest.importorskip(package)
    judge = load()
    times = np.arange(3 * SAMPLE_RATE) / SAMPLE_RATE
    pitch = 2.0 * np.pi * np.cumsum(120.0 + 20.0 * np.sin(4.0 * times)) / SAMPLE_RATE
    voice = sum(np.sin(order * pitch) / (1.0 + abs(order - 5.0 - 3.0 * np.sin(5.0 * times)))
                for order in range(1, 30))
    voice = (0.05 * voice * np.clip(np.sin(2.0 * np.pi * 2.5 * times), 0.0, 1.0))
    noisy = voice + 0.05 * rng.standard_normal(len(voice))
    assert judge("music", voice, voice) == {}
    assert judge("speech", voice, voice)[name] > judge("speech", voice, noisy)[name]
    if name == "stoi":
        assert judge("speech", voice, voice)["stoi"] == pytest.approx(1.0, abs=1e-3)
        assert judge("speech", voice[:2000], voice[:2000]) == {}


def test_without_a_clean_version_models_of_listeners_judge_speech(monkeypatch, sine):
    monkeypatch.setattr(measures, "_load_dnsmos",
                        lambda: lambda category, clean, denoised: {"dnsmos": 3.0})
    assert measures.load_judge_alone(False)("speech", sine) == {}
    assert measures.load_judge_alone(True)("speech", sine) == {"dnsmos": 3.0}
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "speechmos", None)
    with pytest.raises(UserError, match="`perceptual=true` needs .*pip install speechmos"):
        measures.load_judge_alone(True)


def test_a_recording_alone_is_judged_by_its_pauses_and_bands(hiss):
    tone = 0.3 * TONE * (TIMES % 1.0 < 0.8)
    quiet = measures.find_pauses(tone + hiss)
    assert quiet.mean() == pytest.approx(0.05, abs=0.002)
    assert (TIMES[quiet] % 1.0 > 0.79).all()
    found = measures.judge_alone(tone + hiss, tone + 0.1 * hiss)
    assert found["floor_dbfs"] == pytest.approx(-40.0, abs=0.3)
    assert found["floor_change_db"] == pytest.approx(-20.0, abs=0.1)
    assert found["removed_db_at_8000"] == pytest.approx(20.0 * np.log10(0.9), abs=0.3)
    assert found["removed_db_at_1000"] < -35.0  # the tone stayed
    assert found["deviation_db"] == pytest.approx(
        20.0 * np.log10(0.9 * 0.01 / np.sqrt(0.045 + 0.0001)), abs=0.5)
    untouched = measures.judge_alone(tone + hiss, tone + hiss)
    assert untouched["removed_db_at_1000"] == float("-inf")
    assert untouched["floor_change_db"] == untouched["input_correlation"] == 0.0
    without = measures.judge_alone(tone + hiss, hiss)
    assert without["removed_db_at_1000"] > -0.2 and without["removed_db_at_8000"] < -15.0


def test_clicks_are_counted_before_and_after(hiss):
    clicked = hiss.copy()
    clicked[np.arange(12) * SAMPLE_RATE // 3 + 1000] += 0.5
    found = measures.judge_alone(clicked, hiss)
    assert found["clicks_before"] == pytest.approx(3.0, abs=0.3)
    assert found["clicks_after"] < 0.3


def test_music_without_pauses_shows_its_floor_in_free_octaves(hiss):
    found = measures.judge_alone(0.3 * TONE + hiss, 0.3 * TONE + 0.1 * hiss)
    assert abs(found["floor_change_db"]) < 0.1
    assert found["floor_change_db_at_8000"] == pytest.approx(-20.0, abs=0.3)
    assert abs(found["floor_change_db_at_1000"]) < 0.1


def test_rumble_below_the_highpass_is_not_judged(hiss):
    """It is 20 dB louder than the recording, and every method of the project removes it."""
    audio = 0.1 * TONE * (TIMES % 1.0 < 0.8) + hiss
    audio[:SAMPLE_RATE // 2] = 0.0  # a filter rings into digital silence
    rumble = np.sin(2.0 * np.pi * 7.0 * TIMES) * (TIMES >= 0.5)
    rumble[SAMPLE_RATE // 2:] *= np.hanning(len(TIMES) - SAMPLE_RATE // 2)
    quiet = measures.judge_alone(audio, audio, 20.0)
    found = measures.judge_alone(audio + rumble, audio, 20.0)
    assert quiet["floor_dbfs"] == pytest.approx(-40.0, abs=0.3)
    assert found["floor_dbfs"] == pytest.approx(quiet["floor_dbfs"], abs=0.1)
    for name in ("floor_change_db", "energy_change_db", "loudness_change_lu",
                 "floor_change_db_at_31", "floor_change_db_at_62"):
        assert found.get(name, 0.0) == pytest.approx(0.0, abs=0.1), name
    assert abs(found["input_correlation"]) < 0.05 and found["removed_db_at_62"] < -20.0
    assert measures.judge_alone(audio + rumble, audio)["input_correlation"] > 0.9


@pytest.mark.parametrize(("audio", "message"), [
    (np.zeros(SAMPLE_RATE), "side: must hold sound; it is silent"),
    (np.ones(SAMPLE_RATE // 2), "side: must be at least 1 s long. Received: 0.50 s")])
def test_what_cannot_be_measured_is_refused_by_name(audio, message):
    with pytest.raises(UserError, match=message):
        measures.check_alone(audio, "side")


def test_digital_silence_is_no_pause(rng):
    audio = 0.1 * rng.standard_normal(2 * SAMPLE_RATE)
    audio[:SAMPLE_RATE] = 0.0
    assert not measures.find_pauses(audio)[:SAMPLE_RATE].any()
