"""Tests of replay: curves, speed and azimuth."""

import re
from pathlib import Path

import numpy as np
import pytest
from audio_samples import delayed

from historical_denoiser.audio import replay
from historical_denoiser.audio.replay import CURVES, Replay, find_azimuth, read_curve, read_speed
from historical_denoiser.core.checks import UserError

RATE = 44100
GUIDE = Path(__file__).resolve().parents[2] / "docs" / "replay.md"


def pink(rng: np.random.Generator, samples: int) -> np.ndarray:
    spectra = np.fft.rfft(rng.standard_normal(samples))
    audio = np.fft.irfft(spectra / np.sqrt(1.0 + np.arange(len(spectra))), samples)
    return 0.1 * audio / audio.std()


def in_blocks(audio: np.ndarray, size: int = 20_011) -> list[np.ndarray]:
    return [audio[start : start + size] for start in range(0, len(audio), size)]


def difference_db(audio: np.ndarray, reference: np.ndarray) -> float:
    return float(10.0 * np.log10(np.mean(np.square(audio - reference)) / np.var(reference)))


@pytest.mark.parametrize("rate", [22050, 44100, 96000])
@pytest.mark.parametrize(("name", "shelf_us", "bass_us", "treble_us"), [
    ("riaa", 3180.0, 318.0, 75.0), ("columbia_lp", 1590.0, 318.0, 100.0),
    ("bs_1928_78", 3180.0, 450.0, 50.0)])
def test_filters_have_the_levels_of_the_time_constants(rate, name, shelf_us, bass_us, treble_us):
    frequency_hz = np.append(1000.0, np.geomspace(20.0, 0.45 * rate, 50))
    omega = 2e-6j * np.pi * frequency_hz
    analogue = (1.0 + omega * bass_us) / (1.0 + omega * shelf_us) / (1.0 + omega * treble_us)
    taps = replay.curve_taps(CURVES[name], rate, 1.0)[:, 0]
    ratio = np.exp(-2j * np.pi / rate * np.outer(frequency_hz, np.arange(len(taps)))
                   ) @ taps / analogue
    np.testing.assert_allclose(20.0 * np.log10(np.abs(ratio / ratio[0])), 0.0, atol=1e-6)
    # The analogue filter is of minimum phase; a digital one is early by what lies above its band.
    low = frequency_hz < 0.1 * rate
    early = np.angle(ratio[low]) * rate / (2.0 * np.pi * frequency_hz[low])
    assert early.min() > 0.3 and early.max() < 0.4, early


def test_a_curve_and_its_inverse_give_the_recording_back(rng):
    audio = np.stack([pink(rng, 2 * RATE), np.zeros(2 * RATE)], axis=-1)
    once = np.concatenate(list(Replay(CURVES["riaa"]).apply(in_blocks(audio), RATE)))
    assert difference_db(once[:, 0], audio[:, 0]) > -10.0 and not once[:, 1].any()
    taps = replay.curve_taps(CURVES["riaa"], RATE, 1.0)
    whole = np.concatenate(list(replay.convolve([audio], taps)))
    np.testing.assert_allclose(once, whole, atol=1e-12)
    back = np.concatenate(list(Replay(transfer_curve=CURVES["riaa"]).apply(in_blocks(once), RATE)))
    assert difference_db(back, audio) < -130.0


def test_curves_are_read_as_engineers_write_them():
    for value in ("500,-13.7,50", "500 Hz, -13.7 dB, 50 Hz", [500, -13.7, 50.0]):
        curve = read_curve(value, "key")
        np.testing.assert_allclose(curve.level_db(np.geomspace(20.0, 20e3, 50)), CURVES[
            "riaa"].level_db(np.geomspace(20.0, 20e3, 50)), atol=0.06)
    curve = read_curve("300,-16", "key")
    assert curve.level_db(1e4) - curve.level_db(1.0) < -30.0 and curve.shelf_hz == 20.0
    assert read_curve("Flat", "key").is_flat and read_curve("0,0", "key").is_flat
    assert read_curve(None, "key") is None
    for wrong in ("ria", "500", "500,13.7", "500,-13.7,600", "500,-90", "500,-12,5", "nan,0", ""):
        with pytest.raises(UserError, match="`key` must be one of flat, .*, riaa; or TURNOVER"):
            read_curve(wrong, "key")


def test_every_curve_is_in_the_guide():
    rows = re.findall(r"(?m)^\| `(\w+)` \| (\S+) \| (\S+) \| (\S+) \|", GUIDE.read_text("utf-8"))

    def said(hertz: float) -> str:
        return f"{hertz:.0f}" if hertz else "-"

    assert rows == [(name, said(curve.bass_hz), said(curve.treble_hz),
                     said(curve.shelf_hz) if curve.shelf_hz != 20.0 else "-")
                    for name, curve in CURVES.items()]


@pytest.mark.parametrize(("value", "speed"), [(0.98, 0.98), ("78.26>80", 80.0 / 78.26),
                                              ("33.333 > 78.26", 2.34782)])
def test_a_tone_has_the_pitch_and_length_of_the_new_speed(value, speed):
    factor = read_speed(value, "key")
    assert factor == pytest.approx(speed, rel=1e-5)
    tone = np.sin(2.0 * np.pi * 1000.0 / RATE * np.arange(3 * RATE))[:, None]
    pieces = list(replay.change_speed(in_blocks(tone), RATE, factor))
    assert sum(map(len, pieces)) == round(len(tone) / factor)
    inner = np.concatenate(pieces)[2000:-2000, 0]
    waves = np.exp(2j * np.pi * 1000.0 * factor / RATE * np.arange(len(inner)))
    waves = np.stack([waves.real, waves.imag], axis=-1)
    wanted = waves @ np.linalg.lstsq(waves, inner, rcond=None)[0]
    assert difference_db(inner, wanted) < -120.0


@pytest.mark.parametrize("wrong", ["0", 0.05, "78>", ">78", "1>2>3", "fast", "0>80", "nan", -1.0])
def test_invalid_speeds_are_refused(wrong):
    with pytest.raises(UserError, match="`key` must be a factor from 0.1 to 10, as 0.98, or"):
        read_speed(wrong, "key")


def test_a_delay_between_channels_is_corrected_to_a_hundredth_of_a_sample(rng):
    middle, side = pink(rng, 21 * RATE), 0.3 * pink(rng, 21 * RATE)
    aligned = np.stack([middle + side, middle - side], axis=-1)
    skewed = np.stack([aligned[:, 0], delayed(aligned[:, 1], 3.37)], axis=-1)
    late_seconds, why = find_azimuth(in_blocks(skewed), RATE)
    assert late_seconds * RATE == pytest.approx(3.37, abs=0.01), why
    corrected = np.concatenate(list(Replay(late_seconds=late_seconds).apply(
        in_blocks(skewed), RATE)))
    assert corrected.shape == skewed.shape
    np.testing.assert_allclose(corrected[:, 0], skewed[:, 0], atol=1e-12)
    inner = slice(2000, -2000)  # `delayed` is periodic
    assert difference_db(corrected[inner, 1], aligned[inner, 1]) < -45.0
    again, why = find_azimuth(in_blocks(corrected), RATE)
    assert again == 0.0 and "nothing has to be changed" in why


@pytest.mark.parametrize(("late", "words"), [
    (None, "share too little"), ([5.0, -5.0, 9.0], "is no constant delay")])
def test_channels_without_a_constant_delay_are_left_alone(rng, late, words):
    one = pink(rng, 30 * RATE)
    if late is None:
        other = pink(rng, 30 * RATE)
    else:
        other = np.concatenate([delayed(part, by) for part, by in zip(
            np.split(one, 3), late, strict=True)])
    late_seconds, why = find_azimuth(in_blocks(np.stack([one, other], axis=-1)), RATE)
    assert late_seconds == 0.0 and words in why
