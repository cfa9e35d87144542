"""The finder of noise segments."""

import re

import numpy as np
import pytest
from carrier_samples import plain_disc, rng, side, tune

from historical_denoiser.audio import dsp
from historical_denoiser.audio.dsp import SAMPLE_RATE
from historical_denoiser.core.checks import UserError
from historical_denoiser.noise import finder, foreign, generator, moving
from historical_denoiser.noise.finder import NoiseSegment, choose_profile, search


def find(audio: np.ndarray, sample_rate: int = SAMPLE_RATE) -> list[NoiseSegment]:
    """Searches `(samples, ...)` in blocks that are not aligned with anything."""
    audio = audio.reshape(len(audio), -1)
    blocks = [audio[first:first + 100_001] for first in range(0, len(audio), 100_001)]
    return search(blocks, sample_rate)[0]


@pytest.mark.parametrize("hiss_db", [-60.0, -45.0, -30.0])
def test_finder_takes_grooves_and_pauses_only(hiss_db: float) -> None:
    found = find(side(hiss_db))
    assert [segment.place for segment in found] == ["run-in", "pause", "run-out"]
    for segment, start in zip(found, (0.0, 6.0, 12.0), strict=True):
        assert start - 0.05 <= segment.start_seconds < start + 0.6
        assert start + 1.4 < segment.end_seconds <= start + 2.05
        assert segment.below_program_db > 8.0


def test_what_cannot_be_judged_is_refused() -> None:
    with pytest.raises(UserError, match="at least 4000"):
        find(side()[:8000], 1000)
    with pytest.raises(UserError, match="NaN"):
        find(np.full(SAMPLE_RATE, np.nan, np.float32))


def test_finder_takes_noise_and_says_why_it_takes_nothing_else() -> None:
    hiss = generator.generate("gramophone", 8 * SAMPLE_RATE, rng(), carrier=plain_disc())
    louder = np.where(np.arange(len(hiss)) < len(hiss) // 2, 1.0, 1.78).astype(np.float32)
    turns = np.repeat(np.tile([False, True], 8), SAMPLE_RATE // 2)  # each half second
    tone = np.sin(np.arange(len(hiss)) * 0.3).astype(np.float32)
    restless = np.where(turns, 0.7 * np.diff(hiss, prepend=np.float32(0.0)), hiss)
    pause = np.concatenate([tune(4.0), 0.05 * hiss[: round(0.7 * SAMPLE_RATE)], tune(4.0)])
    for audio, reason in (
            (hiss[:100], "0.00 s are too short"),
            (hiss[:10_000], "0.23 s are too short: 0.30 s are judged at once"),
            (np.zeros(5 * SAMPLE_RATE, np.float32), "there is only digital silence"),
            (tone, "tones, voices or hum stand out of the noise everywhere"),
            (tune(8.0), "."), (tone + 0.01 * hiss, "."),
            (pause, "lasts 0.[0-9]+ s at most, less than the 0.75 s that are asked for"),
            (hiss * louder, "lies [0-9].[0-9] dB below the rest; what lies less than 6 dB"),
            (restless, "lasts 0.[0-9]+ s at most")):
        found, why = search([audio[:, None]], SAMPLE_RATE)
        assert found == [] and re.search(reason, why)
    (whole,), why = search([hiss[:, None]], SAMPLE_RATE)
    assert whole.place == "whole" and why == ""


@pytest.mark.parametrize("sample_rate", [8000, 11025, SAMPLE_RATE, 96000])
def test_finder_takes_stereo_and_hum_at_any_rate(sample_rate: int) -> None:
    hum = 0.02 * sum(np.sin(np.arange(14 * SAMPLE_RATE) * 2.0 * np.pi * 50.0 * order / SAMPLE_RATE)
                     / order for order in range(1, 10)).astype(np.float32)
    stereo = np.stack([side(seed=0) + hum, side(seed=1) + hum], axis=1)
    audio = dsp.resample(stereo, SAMPLE_RATE, sample_rate)
    places = [segment.place for segment in find(audio, sample_rate)]
    assert places == ["run-in", "pause", "run-out"]


@pytest.mark.parametrize("is_before", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_finder_takes_noise_that_moves(seed: int, is_before: bool) -> None:
    """Bands of 200 Hz that fluctuate by 4 dB, and a ripple of 7 dB, as in real grooves."""
    like_grooves = moving.MovingConfig(
        deviation_db=[4.0, 4.0], band_hz=[200.0, 200.0], seconds=[0.02, 0.5], burst_chance=0.0,
        common_chance=0.0, ripple_chance=1.0, ripple_db=[7.0, 7.0], ripple_hz=[30.0, 600.0])
    quiet = np.zeros(round(2.5 * SAMPLE_RATE), np.float32)
    programme = np.concatenate([quiet, tune(8.0)] if is_before else [tune(8.0), quiet])
    noise = rng(seed).standard_normal(len(programme)).astype(np.float32)
    noise = moving.fluctuate(noise, rng(seed), like_grooves)
    found = find(programme + 0.01 * noise / noise.std())
    groove, = (each for each in found if each.end_seconds - each.start_seconds > 1.5)
    start, end = (0.0, 2.5) if is_before else (8.0, 10.5)
    assert start - 0.05 <= groove.start_seconds < start + 0.5
    assert end - 0.5 < groove.end_seconds <= end + 0.05
    assert groove.place == ("run-in" if is_before else "run-out")


@pytest.mark.parametrize("place", ["at the start", "inside"])
def test_rain_in_a_film_is_no_noise(place: str) -> None:
    """It is as flat and as steady, but lies above the floor that the pauses show."""
    film = side(-60.0)
    rain = 0.02 * rng(3).standard_normal(3 * SAMPLE_RATE).astype(np.float32)
    where = 0 if place == "at the start" else 4 * SAMPLE_RATE
    found = find(np.concatenate([film[:where], rain, film[where:]]))
    assert found
    for segment in found:
        start, end = where / SAMPLE_RATE, where / SAMPLE_RATE + 3.0
        assert min(segment.end_seconds, end) - max(segment.start_seconds, start) < 0.2


def test_breath_in_music_without_pauses_is_no_noise() -> None:
    """It is softer than the music, but between its partials the music is softer still."""
    breath = 0.008 * rng(3).standard_normal(3 * SAMPLE_RATE).astype(np.float32)
    breath = dsp.highpass(breath, 2500.0, SAMPLE_RATE) - dsp.highpass(breath, 5000.0, SAMPLE_RATE)
    hiss = 1e-3 * rng(4).standard_normal(11 * SAMPLE_RATE).astype(np.float32)
    pause, film = (np.concatenate([tune(4.0), each, tune(4.0)]) + hiss
                   for each in (np.zeros_like(breath), breath))
    assert len(find(pause)) == 1
    found, why = search([film[:, None]], SAMPLE_RATE)
    assert found == [] and "whose noise floor is lower" in why


@pytest.mark.parametrize("seed", range(2))
def test_a_groove_that_swings_is_the_same_from_turn_to_turn(seed: int, monkeypatch) -> None:
    programme = np.concatenate([np.zeros(round(2.8 * SAMPLE_RATE), np.float32), tune(8.0)])
    noise = foreign.make_swinging(len(programme), rng(seed))
    side = programme + (0.01 * noise / noise.std()).astype(np.float32)
    groove, = find(side)
    assert groove.place == "run-in" and 1.7 < groove.end_seconds < 2.9
    assert search([side[:, None]], SAMPLE_RATE)[1] == ""
    assert search([side[:, None]], SAMPLE_RATE, min_seconds=4.0)[0] == []
    monkeypatch.setattr(finder, "MIN_TURN_CORRELATION", 1.0)
    assert find(side) == []


@pytest.mark.parametrize("octaves_per_second", [0.0, 0.7])
def test_a_soft_voice_in_the_noise_is_no_noise(octaves_per_second: float) -> None:
    """A partial that holds or glides, half as strong as the noise."""
    time = np.arange(2 * SAMPLE_RATE) / SAMPLE_RATE
    hz = 500.0 * 2.0 ** (octaves_per_second * (time - 1.0))
    voice = np.zeros(14 * SAMPLE_RATE, np.float32)
    voice[: len(time)] = 0.004 * np.sin(2.0 * np.pi * np.cumsum(hz) / SAMPLE_RATE)
    assert [each.place for each in find(side() + voice)] == ["pause", "run-out"]


def test_the_profile_is_quiet_long_and_at_an_end() -> None:
    found = [NoiseSegment(0.0, 4.0, "run-in", -50.0, 12.0, 6.0),  # not as quiet
             NoiseSegment(10.0, 13.1, "pause", -60.0, 22.0, 6.0),
             NoiseSegment(20.0, 22.5, "run-out", -59.0, 21.0, 6.0)]
    short = NoiseSegment(20.2, 21.2, "run-out", -61.0, 23.0, 6.0)
    assert choose_profile(found) == found[2]
    assert choose_profile([*found[:2], short]) == found[1]
    assert choose_profile([found[0], short]) == short
    assert choose_profile([]) is None
