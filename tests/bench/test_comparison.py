"""Rows, files and the page of a small comparison."""

import base64
import dataclasses
import io
import re

import numpy as np
import pytest
import soundfile
from small_corpus import read_table

pytest.importorskip("jinja2", reason="jinja2 is not installed: requirements-bench.txt")

from historical_denoiser.audio.dsp import SAMPLE_RATE  # noqa: E402
from historical_denoiser.bench import comparison, measures, page, pairs  # noqa: E402
from historical_denoiser.bench.methods import Method  # noqa: E402
from historical_denoiser.bench.pairs import Pair  # noqa: E402
from historical_denoiser.core.checks import UserError  # noqa: E402
from historical_denoiser.data.mixture import Mixture  # noqa: E402


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
           Method("profiled", lambda audio, profile: audio - profile, True, False)]


@pytest.fixture
def faults():
    return comparison.Faults()


def read_rows(folder):
    return read_table(folder / comparison.TABLE_NAME)


def fail_on(loud):
    """A method that fails where a sound is as loud."""

    def restore(audio, profile):
        if np.abs(audio).max() > loud:
            raise RuntimeError("too loud")
        return audio

    return Method("weak", restore)


def test_what_fails_costs_its_own_rows(mixtures, tmp_path, faults, caplog):
    """The second mixture cannot be read; the third is too loud for a tool, and ends the program."""
    mixtures[2] = dataclasses.replace(mixtures[2], noisy=5.0 * mixtures[2].noisy)

    def read(item):
        if item == 1:
            raise UserError("b.wav: must hold sound; it is empty")
        return mixtures[item], 9.9

    weak = fail_on(0.6)
    rows = comparison.judge([weak, METHODS[0]], "abcd", read, 0.0, None, tmp_path, faults)
    expected = [("weak", 0), ("none", 0), ("none", 2), ("weak", 3), ("none", 3)]
    assert [(row["method"], row["item"]) for row in rows] == expected
    assert faults and faults.notes() == [
        "Left out: b.wav: must hold sound; it is empty.",
        "weak failed on c. The first time: weak failed: RuntimeError: too loud."]
    assert "b.wav: must hold sound" in caplog.text and "too loud" in caplog.text
    text = comparison.report(rows, [weak, METHODS[0]], lambda item: read(item)[0], faults.notes(),
                             tmp_path)
    assert "weak failed on c." in text and "(2 of 3)" in text


def test_the_table_grows_with_each_item(mixtures, tmp_path, faults):
    def read(item):
        if item:
            assert [row["item"] for row in read_rows(tmp_path)] == [
                str(done) for done in range(item) for _ in range(2)]
        return mixtures[item], 9.9

    comparison.judge(METHODS[:2], "abc", read, 0.0, None, tmp_path, faults)
    assert len(read_rows(tmp_path)) == 6


def test_nothing_measured_is_an_error(mixtures, tmp_path, faults):
    mixtures[3] = dataclasses.replace(mixtures[3], profile=None)
    with pytest.raises(UserError, match="some that work without a noise profile"):
        comparison.judge(METHODS[2:], "d", lambda item: (mixtures[3], 9.9), 0.0,
                         None, tmp_path, faults)
    with pytest.raises(UserError, match="nothing could be measured. weak failed on a, b"):
        comparison.judge([fail_on(0.0)], "ab", lambda item: (mixtures[item], 9.9), 0.0,
                         None, tmp_path, faults)


def test_bad_recordings_are_left_out_and_named(tmp_path, rng, faults, monkeypatch):
    monkeypatch.setattr(pairs, "read_profile", lambda pair: np.zeros(1))
    for name, audio in (("a", 0.1 * rng.standard_normal(SAMPLE_RATE)),
                        ("loud", 0.9 * np.sign(rng.standard_normal(SAMPLE_RATE))),
                        ("short", 0.1 * rng.standard_normal(1000)),
                        ("silent", np.zeros(2 * SAMPLE_RATE))):
        soundfile.write(tmp_path / f"{name}.wav", audio, SAMPLE_RATE)
    (tmp_path / "text.wav").write_text("no sound", encoding="utf-8")
    drawn = []  # by the progress bar
    monkeypatch.setattr(comparison, "tqdm", lambda items, disable: (
        drawn.append(item) or item for item in items))

    def give_nan(audio, profile):
        assert len(drawn) < 3  # recordings are processed one at a time
        return np.nan * audio

    text = comparison.report_alone(
        [fail_on(0.8), METHODS[0], Method("nan", give_nan)],
        pairs.find_recordings(str(tmp_path)), [], 60.0, tmp_path, 20.0,
        lambda category, denoised: {"dnsmos": 3.0}, faults)
    assert [(row["method"], row["recording"]) for row in read_rows(tmp_path)] == [
        ("weak", "a"), ("none", "a"), ("none", "loud")]
    for line in ("short.wav: must be at least 1 s long", "silent.wav: must hold sound",
                 "text.wav: holds text, not sound", "weak failed on loud.",
                 "nan failed on a, loud. The first time: nan failed: it returned NaN"):
        assert line in text
    means = text.split("Means over all recordings")[1]
    assert re.search(r"\| weak \|.* 3\.00 \(1 of 2\) \|\n\| none \|.* 3\.00 \[.*\] \|\n", means)
    with pytest.raises(UserError, match="nothing could be measured. Left out: .*silent.wav"):
        comparison.report_alone(METHODS, [Pair("x", tmp_path / "silent.wav")], [], 60.0,
                                tmp_path, 20.0, lambda category, denoised: {}, faults)


def test_rows_and_files_of_a_comparison(mixtures, tmp_path, faults):
    judge_more, _ = measures.load_judge(False)
    rows = comparison.judge(METHODS, "abcd", lambda item: (mixtures[item], 9.9), 0.0, judge_more,
                            tmp_path, faults)
    assert not faults and faults.notes() == []
    assert [sum(row["method"] == method.name for row in rows) for method in METHODS] == [4, 4, 3]
    profiled = [row for row in rows if row["method"] == "profiled"]
    assert all(np.isnan(row["clean_si_sdr_db"]) and row["snr_gain_db"] > 50.0 for row in profiled)
    text = comparison.report(rows, METHODS, mixtures.__getitem__, ["a <note>"], tmp_path)
    assert (tmp_path / comparison.TEXT_NAME).read_text(encoding="utf-8") == text
    stored = read_rows(tmp_path)
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
    assert page.shorten(3) == page.CLIP_SECONDS
    assert 500 * page.MP3_BYTES_PER_SECOND * page.shorten(500) <= 1.01 * page.AUDIO_BYTES
    assert page.shorten(10**9) == page.MIN_CLIP_SECONDS


def test_recordings_alone(tmp_path, rng, faults):
    times = np.arange(3 * SAMPLE_RATE) / SAMPLE_RATE
    audio = (0.2 * np.sin(2600.0 * times) * (times % 1.0 < 0.7)
             + 0.01 * rng.standard_normal(len(times)))
    for name, sound in (("a", audio), ("b", audio), ("noise", audio[SAMPLE_RATE * 3 // 4:
                                                                    SAMPLE_RATE])):
        soundfile.write(tmp_path / f"{name}.wav", sound, SAMPLE_RATE)
    recordings = [Pair("a", tmp_path / "a.wav", None, tmp_path / "noise.wav"),
                  Pair("b", tmp_path / "b.wav")]
    methods = [METHODS[1], Method("profiled", lambda audio, profile: 0.1 * audio, True, False)]
    text = comparison.report_alone(methods, recordings, ["note"], 60.0,
                                   tmp_path / "out", 20.0, measures.load_judge_alone(False), faults)
    rows = read_rows(tmp_path / "out")
    assert [(row["method"], row["recording"]) for row in rows] == [
        ("half", "a"), ("profiled", "a"), ("half", "b")]
    assert float(rows[0]["floor_change_db"]) == pytest.approx(-6.02, abs=0.01)
    assert float(rows[1]["floor_change_db"]) == pytest.approx(-20.0, abs=0.01)
    assert "in which no noise alone was found: b." in text
    floors = text.split("octave changed**")[1].split("**")[0]
    assert floors.count("-6.0") == 10 and floors.count("-20.0") == 10  # each octave, each method
    with pytest.raises(UserError, match="`methods` must be some that work without a noise profile"):
        comparison.report_alone(methods[1:], recordings[1:], [], 60.0, tmp_path / "none",
                                20.0, measures.load_judge_alone(False), faults)
    html = (tmp_path / "out" / comparison.PAGE_NAME).read_text(encoding="utf-8")
    # Two recordings, and three times what a method made of one and what it removed.
    assert html.count("<audio") == 8
