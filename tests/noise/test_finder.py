"""The finder of noise segments."""

from __future__ import annotations

import re

import numpy as np
import pytest
from carrier_samples import plain_disc, rng, side, tune

from denoiser.audio import dsp
from denoiser.audio.dsp import SAMPLE_RATE
from denoiser.checks import UserError
from denoiser.noise import generator
from denoiser.noise.finder import NoiseSegment, find_noise_segments, search


def find(audio: np.ndarray, sample_rate: int = SAMPLE_RATE) -> list[NoiseSegment]:
    """Searches `(samples, ...)` in blocks that are not aligned with anything."""
    audio = audio.reshape(len(audio), -1)
    blocks = [audio[first:first + 100_001] for first in range(0, len(audio), 100_001)]
    return find_noise_segments(blocks, sample_rate)


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


def test_finder_knows_noise_from_everything_else() -> None:
    hiss = generator.generate("gramophone", 6 * SAMPLE_RATE, rng(), carrier=plain_disc())
    whole, = find(hiss)
    assert whole.place == "whole"
    tone = np.sin(np.arange(5 * SAMPLE_RATE) * 0.3).astype(np.float32)
    for programme in (tune(8.0), tone, np.zeros(5 * SAMPLE_RATE, np.float32), tone[:100],
                      tone + 0.01 * hiss[:len(tone)]):
        assert find(programme) == []


def test_finder_says_why_it_takes_nothing() -> None:
    hiss = generator.generate("gramophone", 8 * SAMPLE_RATE, rng(), carrier=plain_disc())
    louder = np.where(np.arange(len(hiss)) < len(hiss) // 2, 1.0, 1.78).astype(np.float32)
    turns = np.repeat(np.tile([False, True], 8), SAMPLE_RATE // 2)  # each half second
    restless = np.where(turns, 0.7 * np.diff(hiss, prepend=np.float32(0.0)), hiss)
    pause = np.concatenate([tune(4.0), 0.05 * hiss[: SAMPLE_RATE // 2], tune(4.0)])
    for audio, reason in (
            (hiss[:10_000], "0.23 s are too short: 0.30 s are judged at once"),
            (np.zeros(5 * SAMPLE_RATE, np.float32), "there is only digital silence"),
            (tune(8.0), "tones, voices or hum stand out of the noise everywhere"),
            (pause, "lasts 0.[0-9]+ s at most, less than the 0.75 s that are asked for"),
            (hiss * louder, "lies [0-9].[0-9] dB below the rest; what lies less than 6 dB"),
            (restless, "never stays the same for 0.75 s")):
        found, why = search([audio[:, None]], SAMPLE_RATE)
        assert found == [] and re.search(reason, why)
    assert search([hiss[:, None]], SAMPLE_RATE)[1] == ""


def test_finder_takes_stereo_and_hum() -> None:
    hum = 0.02 * sum(np.sin(np.arange(14 * SAMPLE_RATE) * 2.0 * np.pi * 50.0 * order / SAMPLE_RATE)
                     / order for order in range(1, 10)).astype(np.float32)
    stereo = np.stack([side(seed=0) + hum, side(seed=1) + hum], axis=1)
    places = [segment.place for segment in find(stereo)]
    assert places == ["run-in", "pause", "run-out"]


@pytest.mark.parametrize("sample_rate", [8000, 11025, 96000])
def test_finder_takes_other_rates(sample_rate: int) -> None:
    audio = dsp.resample(side(), SAMPLE_RATE, sample_rate)
    places = [segment.place for segment in find(audio, sample_rate)]
    assert places == ["run-in", "pause", "run-out"]
