"""Tests of removal: shares per band, and the noise floor."""

import numpy as np
import pytest

from historical_denoiser.audio.removal import Strength, remove
from historical_denoiser.core.checks import UserError

RATE = 22050


def run(audio: np.ndarray, noise: np.ndarray, strength: Strength, block: int = 5000,
        rate: int = RATE) -> np.ndarray:
    """Returns what is removed, block by block."""
    starts = range(0, len(audio), block)
    pairs = ((audio[start : start + block], noise[start : start + block]) for start in starts)
    found = list(remove(pairs, rate, strength))
    np.testing.assert_array_equal(np.concatenate([pair[0] for pair in found]), audio)
    assert [len(pair[1]) for pair in found] == [len(audio[start : start + block])
                                                for start in starts]
    return np.concatenate([pair[1] for pair in found])


def level_db(audio: np.ndarray) -> float:
    return float(10.0 * np.log10(np.mean(np.square(audio, dtype=np.float64)) + 1e-30))


def tone(hertz: float, seconds: float = 3.0) -> np.ndarray:
    return np.sin(2.0 * np.pi * hertz * np.arange(round(seconds * RATE)) / RATE)


@pytest.mark.parametrize("bands", [(), ((0.0, 1.0),), ((0.0, 1.0), (500.0, 1.0))])
def test_full_strength_in_all_bands_removes_what_one_number_does(rng, bands):
    audio, noise = rng.standard_normal((2, 30_000, 2)).astype(np.float32)
    removed = run(audio, noise, Strength(0.7, bands))
    np.testing.assert_array_equal(removed, 0.7 * noise)
    assert removed.dtype == noise.dtype
    for share in (np.float32(0.7), np.float64(0.7)):  # as from arrays of shares
        np.testing.assert_array_equal(run(audio, noise, Strength(share, bands)), removed)


@pytest.mark.parametrize("strength", [Strength(0.0), Strength(0.0, noise_floor_db=12.0),
                                      Strength(1.0, ((0.0, 0.0), (500.0, 0.0)))])
def test_nothing_is_removed_at_strength_zero(rng, strength):
    audio, noise = rng.standard_normal((2, 10_000))
    assert not run(audio, noise, strength).any()


THREE_BANDS = Strength(0.8, ((0.0, 0.25), (300.0, 1.0), (4000.0, 0.0)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("strength", "hertz", "share"), [
    *((THREE_BANDS, hertz, share) for hertz, share in (
        (100.0, 0.2), (200.0, 0.2), (1000.0, 0.8), (2500.0, 0.8), (6000.0, 0.0),
        (300.0, 0.8 * 0.625))),  # the middle of a crossfade
    (Strength(0.5, ((1000.0, 0.0),)), 100.0, 0.5)])  # below the first band
def test_each_band_has_its_own_share_and_no_shift(dtype, strength, hertz, share):
    noise = tone(hertz).astype(dtype)
    removed = run(np.zeros_like(noise), noise, strength)
    assert removed.dtype == dtype
    inside = slice(RATE // 2, -RATE // 2)
    np.testing.assert_allclose(removed[inside], share * noise[inside],
                               atol=0.01 if strength is THREE_BANDS else 0.005)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_nothing_is_left_outside_of_a_band(rng, share):
    """At any share, with the skirts that the documents name, and without a shift."""
    sounds = {hertz: tone(hertz, 12.0) for hertz in (70.0, 80.0, 115.0, 1000.0, 3450.0, 4600.0)}
    audio = sum(sounds.values())[:, None] * [1.0, 0.5]
    strength = Strength(share, band_hz=(100.0, 4000.0))
    removed = run(audio, np.zeros_like(audio), strength, 4321)
    inside = slice(RATE // 2, -RATE // 2)
    outside = sounds[70.0] + sounds[80.0] + sounds[4600.0]
    np.testing.assert_allclose(removed[inside, 0], outside[inside], atol=0.02)
    np.testing.assert_allclose(removed[:, 1], 0.5 * removed[:, 0], atol=1e-6)
    np.testing.assert_allclose(run(audio, np.zeros_like(audio), strength, 50_000), removed,
                               atol=1e-5)
    one = Strength(share, band_hz=(None, RATE))  # beyond what the recording can hold
    assert np.abs(run(audio, np.zeros_like(audio), one)).max() < 1e-6
    assert str(strength).endswith(", high-pass 100 Hz, low-pass 4000 Hz")


@pytest.mark.parametrize("strength", [Strength(0.9, ((0.0, 0.5), (900.0, 1.0)), 15.0),
                                      Strength(noise_floor_db=10.0)])
def test_blocks_of_any_length_give_the_same(rng, strength):
    """Longer than three steps, so that these are joined, in stereo."""
    noise = rng.standard_normal((18 * 4000, 2)).astype(np.float32)
    audio = noise + 3.0 * np.repeat(rng.random(18) > 0.5, 4000)[:, None].astype(
        np.float32) * rng.standard_normal(noise.shape).astype(np.float32)
    one = run(audio, 0.99 * noise, strength, 100_000, 4000)
    other = run(audio, 0.99 * noise, strength, 777, 4000)
    np.testing.assert_allclose(other, one, atol=1e-5)
    mono = run(audio[:, 0], 0.99 * noise[:, 0], strength, 100_000, 4000)
    np.testing.assert_allclose(mono, one[:, 0], atol=1e-5)
    # No seam: the steps give the same where they meet as in one step over all.
    assert np.std(np.diff(one - 0.9 * noise, axis=0)[4000:]) < 2.0


def noisy_programme(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, slice, slice]:
    """Returns a loud tone between pauses, hiss, and where there is only one of them."""
    hiss = 0.01 * rng.standard_normal(6 * RATE)
    programme = 0.5 * tone(1000.0, 6.0)
    programme[: 2 * RATE] = programme[4 * RATE :] = 0.0
    return programme, hiss, slice(RATE // 4, 7 * RATE // 4), slice(9 * RATE // 4, 15 * RATE // 4)


@pytest.mark.parametrize("floor_db", [6.0, 12.0, 30.0])
@pytest.mark.parametrize("left", [0.0, 0.1])  # share of the noise that the network leaves
def test_the_floor_holds_in_pauses_and_spares_what_is_loud(rng, floor_db, left):
    programme, hiss, pause, loud = noisy_programme(rng)
    audio, noise = programme + hiss, (1.0 - left) * hiss
    restored = audio - run(audio, noise, Strength(noise_floor_db=floor_db))
    lowered = level_db(hiss[pause]) - level_db(restored[pause])
    assert lowered == pytest.approx(min(floor_db, 20.0 if left else floor_db), abs=0.7)
    # What is given back where it is loud is the hiss beside the tone, as quiet as in the pauses.
    given_back = restored[loud] - (audio - noise)[loud]
    assert level_db(given_back) < level_db(hiss) - floor_db + 0.5
    spectrum = np.abs(np.fft.rfft(given_back * np.hanning(len(given_back))))
    at_tone = spectrum[round(1000.0 * len(given_back) / RATE)]
    assert at_tone < 1e-4 * np.abs(np.fft.rfft(programme[loud] * np.hanning(len(given_back)))).max()


@pytest.mark.parametrize("seconds", [0.5, 1.0, 7.0])
@pytest.mark.parametrize("share", [0.5, 1.0])
def test_the_floor_holds_from_the_start_of_short_recordings(rng, seconds, share):
    hiss = 1e-3 * rng.standard_normal(round(seconds * RATE))
    restored = hiss - run(hiss, share * hiss, Strength(noise_floor_db=4.0))
    for part in (slice(None), slice(RATE // 5), slice(-RATE // 5, None)):
        assert level_db(hiss[part]) - level_db(restored[part]) == pytest.approx(4.0, abs=0.8)


def test_clicks_stay_removed_whatever_the_floor(rng):
    hiss = 0.01 * rng.standard_normal(4 * RATE)
    clicks = np.zeros_like(hiss)
    clicks[RATE :: RATE] = 1.0
    audio = hiss + clicks
    restored = audio - run(audio, audio, Strength(noise_floor_db=10.0))
    assert np.abs(restored).max() < 0.05  # 10 dB less of them would be 0.3
    assert level_db(hiss) - level_db(restored) == pytest.approx(10.0, abs=1.0)


@pytest.mark.parametrize(("audio", "share", "tolerance"), [(tone(440.0), 1e-3, 1e-6),
                                                          (np.zeros(RATE), 1.0, 0.0)])
def test_clean_recordings_and_digital_silence_get_nothing_back(audio, share, tolerance):
    removed = run(audio, share * audio, Strength(noise_floor_db=10.0))
    np.testing.assert_allclose(removed, share * audio, rtol=0.0, atol=tolerance)


@pytest.mark.parametrize(("values", "message"), [
    ({"share": 1.5}, r"`strength` must be in \[0, 1\]"),
    ({"per_band": ((500.0, 1.0), (400.0, 1.0))}, "the frequencies rising"),
    ({"per_band": ((500.0, 1.1),)}, r"the strengths in \[0, 1\]"),
    ({"per_band": ((500.0,),)}, "pairs"), ({"per_band": 0.5}, "pairs"),
    ({"per_band": ((float("nan"), 1.0),)}, "pairs"),
    ({"noise_floor_db": -3.0}, "at least 0"), ({"noise_floor_db": float("inf")}, "at least 0")])
def test_impossible_strengths_are_refused(values, message):
    with pytest.raises(ValueError if "share" in values else UserError, match=message):
        Strength(**values)
