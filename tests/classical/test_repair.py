"""Gaps are filled, clipped peaks are restored, and everything else stays as it is."""

import numpy as np
import pytest
import scipy.signal
import soundfile as sf
from small_corpus import ROOT

from historical_denoiser.classical import repair
from historical_denoiser.classical.repair import CLIPPING, GAPS, KINDS, LEFT, Found
from historical_denoiser.training.metrics import snr_db

RATE = 16000


def mend(audio: np.ndarray, *kinds: str, rate: int = RATE) -> tuple[np.ndarray, dict]:
    found = Found()
    pairs = list(repair.repair([audio], rate, kinds, found))
    return np.concatenate([mended for _, mended in pairs]), found.describe(rate)


def make_music(seconds: float, rng: np.random.Generator) -> np.ndarray:
    """Returns struck notes with a little noise, `(samples,)` at 16 kHz, below full scale."""
    audio = 1e-3 * rng.standard_normal(round(seconds * RATE))
    since, number = np.arange(RATE)[:, None] / RATE, np.arange(1, 9)
    for start in range(0, len(audio) - RATE + 1, RATE // 4):
        phases = 2.0 * np.pi * rng.uniform(100.0, 500.0) * since * number
        audio[start:start + RATE] += (np.sin(phases) * np.exp(-5.0 * since) / number).sum(axis=1)
    return 0.9 * audio / np.abs(audio).max()


@pytest.fixture(scope="module")
def music() -> np.ndarray:
    return make_music(4.0, np.random.default_rng(5))


@pytest.mark.parametrize("damage", ["silent", "held", "drop"])
@pytest.mark.parametrize(("milliseconds", "least_db"), [(5, 20.0), (20, 15.0), (45, 10.0)])
def test_gaps_are_filled_in_their_channel(music, damage, milliseconds, least_db):
    gap = slice(30_000, 30_000 + milliseconds * RATE // 1000)
    audio = np.stack([music, music], axis=-1)
    audio[gap, 1] = {"silent": 0.0, "held": music[gap.start], "drop": 0.003 * music[gap]}[damage]
    filled, found = mend(audio, GAPS)
    assert found[GAPS]["number"] == 1 and found[GAPS]["first"][0]["channel"] == 2
    assert found[GAPS]["first"][0]["at"] == pytest.approx(gap.start / RATE, abs=0.002)
    assert found[GAPS]["seconds"] == pytest.approx(milliseconds / 1000, abs=0.003)
    assert snr_db(music[gap], filled[gap, 1]) > least_db
    changed = np.flatnonzero((filled != audio).any(axis=1))
    assert gap.start - 32 <= changed[0] and changed[-1] < gap.stop + 32
    assert np.array_equal(filled[:, 0], music)


def test_longer_gaps_are_named_and_left(music):
    audio = music.copy()
    audio[30_000:31_600] = 0.0
    filled, found = mend(audio, *KINDS)
    assert np.array_equal(filled, audio)
    assert found == {LEFT: {"number": 1, "seconds": 0.1, "first": [
        {"at": 1.875, "channel": 1, "seconds": 0.1}]}}


@pytest.mark.parametrize("high", [0.5, 0.25])
@pytest.mark.parametrize("sixteen_bits", [False, True])
def test_clipped_peaks_are_restored_beyond_the_level(music, high, sixteen_bits, rng):
    clipped = np.clip(music, -0.3, high)  # neither symmetric nor at full scale
    if sixteen_bits:
        dither = rng.random(len(music)) - rng.random(len(music))
        clipped = np.rint(0.8 * clipped * 2**15 + dither) / 2**15 / 0.8
    restored, found = mend(clipped.astype(np.float32), CLIPPING)
    assert restored.dtype == np.float32
    assert snr_db(music, restored) > snr_db(music, clipped) + 6.0
    over, under = clipped > high - 1e-3, clipped < -0.3 + 1e-3
    assert restored[over].min() > high - 2e-3 and restored[under].max() < -0.3 + 2e-3
    assert np.array_equal(restored[~(over | under)], clipped.astype(np.float32)[~(over | under)])
    assert found[CLIPPING]["number"] > 100 and len(found[CLIPPING]["first"]) == repair.FIRST


def test_blocks_of_any_length_give_the_same():
    rate = RATE // 4  # which takes less time
    audio = np.clip(make_music(5.75, np.random.default_rng(2)), -0.2, 0.2)  # 23 s at that rate
    for start in (10 * rate - 50, 22_000, 20 * rate - 10):  # two are on borders of stretches
        audio[start:start + 100] = 0.0
    whole, found = mend(audio, *KINDS, rate=rate)
    assert found[GAPS]["number"] == 3 and found[CLIPPING]["number"] > 20
    for lengths in ([1, 0, 7, 25_000], [8_333] * 11):
        blocks, other = np.split(audio[:, None], np.cumsum(lengths)), Found()
        pairs = list(repair.repair(blocks, rate, KINDS, other))
        assert [len(block) for block, _ in pairs] == [len(mended) for _, mended in pairs]
        assert np.array_equal(np.concatenate([mended for _, mended in pairs])[:, 0], whole)
        assert other.describe(rate) == found


TIME_S = np.arange(4 * RATE) / RATE


@pytest.mark.parametrize("sound", [
    np.zeros(4 * RATE), np.full(100, 0.3), np.zeros(0), 0.5 * np.sin(2.0 * np.pi * 50.0 * TIME_S),
    scipy.signal.square(2.0 * np.pi * 110.0 * TIME_S, 0.25),
    np.where(TIME_S % 0.5 < 0.25, np.sin(2000.0 * TIME_S) * np.exp(-20.0 * (TIME_S % 0.5)), 0.0),
    np.where((TIME_S > 1.0) & (TIME_S < 3.0), np.sin(900.0 * TIME_S), 0.0)],
    ids=["silent", "constant", "empty", "bass", "square", "notes and pauses", "leader"])
@pytest.mark.parametrize("steps", [2**7, 2**15, 2**40])
def test_what_is_not_damaged_stays_bit_for_bit(sound, steps):
    audio = np.rint(0.9 * sound * steps) / steps
    repaired, found = mend(audio, *KINDS) if len(audio) else (audio, {})
    assert np.array_equal(repaired, audio) and found == {}


@pytest.mark.parametrize("rate", [1000, 2000, 4000, 8000])
def test_noise_has_no_dropouts_at_low_rates(rate):
    noise = np.random.default_rng(0).normal(0.0, 0.1, 60 * rate)
    mended, found = mend(noise, GAPS, rate=rate)
    assert np.array_equal(mended, noise) and found == {}


def test_a_recording_that_is_not_damaged_stays_bit_for_bit(music):
    audio, rate = sf.read(ROOT / "examples" / "noisy.flac", always_2d=True)
    for sound, hz in ((audio, rate), (music, RATE), (np.rint(30.0 * music) / 2**15, RATE)):
        repaired, found = mend(sound, *KINDS, rate=hz)
        assert np.array_equal(repaired, sound) and found == {}
