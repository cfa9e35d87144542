"""The finder of noise segments."""

from __future__ import annotations

import numpy as np
import pytest
from carrier_samples import plain_disc, rng, side, tune

from denoiser.audio import dsp
from denoiser.audio.dsp import SAMPLE_RATE
from denoiser.noise import finder, generator


@pytest.mark.parametrize("hiss_db", [-60.0, -45.0, -30.0])
def test_finder_takes_grooves_and_pauses_only(hiss_db: float) -> None:
    found = finder.find_noise_segments(side(hiss_db), SAMPLE_RATE)
    assert [segment.place for segment in found] == ["run-in", "pause", "run-out"]
    for segment, start in zip(found, (0.0, 6.0, 12.0), strict=True):
        assert start - 0.05 <= segment.start_seconds < start + 0.6
        assert start + 1.4 < segment.end_seconds <= start + 2.05
        assert segment.below_program_db > 8.0


def test_a_rate_that_leaves_nothing_to_judge_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 4000"):
        finder.find_noise_segments(side()[:8000], 1000)


def test_finder_knows_noise_from_everything_else() -> None:
    hiss = generator.generate("gramophone", 6 * SAMPLE_RATE, rng(), carrier=plain_disc())
    whole, = finder.find_noise_segments(hiss, SAMPLE_RATE)
    assert whole.place == "whole"
    tone = np.sin(np.arange(5 * SAMPLE_RATE) * 0.3).astype(np.float32)
    for programme in (tune(8.0), tone, np.zeros(5 * SAMPLE_RATE, np.float32), tone[:100],
                      tone + 0.01 * hiss[:len(tone)]):
        assert finder.find_noise_segments(programme, SAMPLE_RATE) == []


def test_finder_takes_stereo_and_hum() -> None:
    hum = 0.02 * sum(np.sin(np.arange(14 * SAMPLE_RATE) * 2.0 * np.pi * 50.0 * order / SAMPLE_RATE)
                     / order for order in range(1, 10)).astype(np.float32)
    stereo = np.stack([side(seed=0) + hum, side(seed=1) + hum], axis=1)
    places = [segment.place for segment in finder.find_noise_segments(stereo, SAMPLE_RATE)]
    assert places == ["run-in", "pause", "run-out"]


@pytest.mark.parametrize("sample_rate", [8000, 11025, 96000])
def test_finder_takes_other_rates(sample_rate: int) -> None:
    audio = dsp.resample(side(), SAMPLE_RATE, sample_rate)
    places = [segment.place for segment in finder.find_noise_segments(audio, sample_rate)]
    assert places == ["run-in", "pause", "run-out"]
