"""Rows, files and the page of a small comparison."""

import base64
import csv
import io
import re

import numpy as np
import pytest
import soundfile

pytest.importorskip("jinja2", reason="jinja2 is not installed: requirements-bench.txt")

from denoiser.audio.dsp import SAMPLE_RATE  # noqa: E402
from denoiser.bench import comparison, measures, page  # noqa: E402
from denoiser.bench.methods import Method  # noqa: E402
from denoiser.bench.pairs import Pair  # noqa: E402
from denoiser.bench.settings import BenchConfig  # noqa: E402
from denoiser.checks import UserError  # noqa: E402
from denoiser.data.mixture import Mixture  # noqa: E402


@pytest.fixture
def mixtures(rng):
    """Four mixtures of tones and noise; the last comes without a profile."""
    times = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    found = []
    for number in range(4):
        clean = (0.2 * np.sin(2.0 * np.pi * (300 + 100 * number) * times)).astype(np.float32)
        noise = (0.02 * (1 + number) * rng.standard_normal(len(clean))).astype(np.float32)
        found.append(Mixture(clean + noise, clean, "music", f"tape <{number % 2}>", 10.0,
                             noise if number < 3 else None))
    return found


METHODS = [Method("none", lambda audio, profile: audio),
           Method("half", lambda audio, profile: 0.5 * audio),
           Method("told", lambda audio, profile: audio - profile, True, False)]


def test_rows_and_files_of_a_comparison(mixtures, tmp_path):
    judge_more, _ = measures.load_judge(False)
    rows = comparison.judge(METHODS, [(one, 9.9) for one in mixtures], 0.0, judge_more)
    assert [sum(row["method"] == method.name for row in rows) for method in METHODS] == [4, 4, 3]
    told = [row for row in rows if row["method"] == "told"]
    assert all(np.isnan(row["clean_si_sdr_db"]) and row["snr_gain_db"] > 50.0 for row in told)
    text = comparison.report(rows, METHODS, mixtures.__getitem__, ["a <note>"],
                             BenchConfig(resamples=100), tmp_path)
    assert (tmp_path / comparison.TEXT_NAME).read_text(encoding="utf-8") == text
    with (tmp_path / comparison.TABLE_NAME).open(newline="", encoding="utf-8") as stream:
        stored = list(csv.DictReader(stream))
    assert len(stored) == 11 and stored[0]["measured_snr_db"] == "9.9"
    html = (tmp_path / comparison.PAGE_NAME).read_text(encoding="utf-8")
    assert "a &lt;note&gt;" in html and "tape &lt;1&gt;" in html and "<note>" not in html
    # Nothing is loaded from elsewhere, and each link has its place.
    assert not re.search(r"(src|href)=\"(?!data:|#)", html) and "<script" not in html
    links, places = (set(re.findall(form, html)) for form in (r'href="#(\w+)"', r'id="(\w+)"'))
    assert links == places and links
    sounds = re.findall(r'<audio[^>]*src="data:audio/mpeg;base64,([^"]+)"', html)
    audio, rate = soundfile.read(io.BytesIO(base64.b64decode(sounds[0])))
    assert rate == SAMPLE_RATE and np.abs(audio).max() > 0.3
    for text in re.findall(r'<img src="data:image/webp;base64,([^"]+)"', html):
        assert base64.b64decode(text)[8:12] == b"WEBP"


def test_best_middle_and_worst():
    gains = [3.0, 9.0, 1.0, 5.0, 4.0]
    rows = [{"item": item, "snr_gain_db": gain} for item, gain in enumerate(gains)]
    assert comparison.choose_items(rows) == {"best": 1, "median": 4, "worst": 2}


def test_many_players_are_shorter():
    assert page.shorten(4.0, 3) == 4.0
    assert 500 * page.MP3_BYTES_PER_SECOND * page.shorten(4.0, 500) <= 1.01 * page.AUDIO_BYTES
    assert page.shorten(4.0, 10**9) == page.SHORTEST_CLIP_SECONDS


def test_recordings_alone(tmp_path, rng):
    times = np.arange(3 * SAMPLE_RATE) / SAMPLE_RATE
    audio = (0.2 * np.sin(2600.0 * times) * (times % 1.0 < 0.7)
             + 0.01 * rng.standard_normal(len(times)))
    for name, sound in (("a", audio), ("b", audio), ("noise", audio[SAMPLE_RATE * 3 // 4:
                                                                    SAMPLE_RATE])):
        soundfile.write(tmp_path / f"{name}.wav", sound, SAMPLE_RATE)
    recordings = [Pair("a", tmp_path / "a.wav", None, tmp_path / "noise.wav"),
                  Pair("b", tmp_path / "b.wav")]
    methods = [METHODS[1], Method("told", lambda audio, profile: 0.1 * audio, True, False)]
    text = comparison.report_alone(methods, recordings, ["note"], BenchConfig(resamples=100),
                                   tmp_path / "out")
    with (tmp_path / "out" / comparison.TABLE_NAME).open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["method"], row["recording"]) for row in rows] == [
        ("half", "a"), ("told", "a"), ("half", "b")]
    assert float(rows[0]["floor_change_db"]) == pytest.approx(-6.02, abs=0.01)
    assert float(rows[1]["floor_change_db"]) == pytest.approx(-20.0, abs=0.01)
    assert "no stretch of noise alone was found: b." in text
    floors = text.split("octave changed**")[1].split("**")[0]
    assert floors.count("-6.0") == 10 and floors.count("-20.0") == 10  # each octave, each method
    with pytest.raises(UserError, match="`methods` must be some that do without a noise profile"):
        comparison.report_alone(methods[1:], recordings[1:], [], BenchConfig(), tmp_path / "none")
    html = (tmp_path / "out" / comparison.PAGE_NAME).read_text(encoding="utf-8")
    # Two recordings, and three times what a method made of one and what it removed.
    assert html.count("<audio") == 8
