"""Noise in a few numbers, and whether what is generated covers what was recorded."""

from functools import cache

import numpy as np
import pytest
import soundfile
from carrier_samples import ROOT, rng

from historical_denoiser.audio.dsp import SAMPLE_RATE
from historical_denoiser.core.checks import UserError
from historical_denoiser.noise import statistics
from historical_denoiser.noise.carriers import KINDS, CarrierConfig
from historical_denoiser.noise.generator import generate

LONE_DRAWS, DRAWS = 240, 60
EMPTY_DB = 10.0 * np.log10(statistics.EMPTY_OCTAVE)
MIN_OUTSIDE = 2  # generated noises beyond the recorded range, on each side


def test_gaussian_noise_has_the_known_numbers() -> None:
    found = statistics.describe(rng(1).standard_normal(4 * SAMPLE_RATE).astype(np.float32))
    assert found.loud_share == pytest.approx(0.144, abs=0.003)
    assert found.kurtosis == pytest.approx(3.0, abs=0.1)
    assert found.events_per_second < 0.5
    np.testing.assert_allclose(found.octave_shares[1:] / found.octave_shares[:-1],
                               [2.0] * 8 + [found.octave_shares[9] / found.octave_shares[8]],
                               rtol=0.4)
    assert found.octave_shares.sum() == pytest.approx(1.0)


@pytest.mark.parametrize("hiss", [0.0, 0.01])
def test_clicks_are_counted_with_and_without_hiss(hiss: float) -> None:
    noise = hiss * rng(2).standard_normal(5 * SAMPLE_RATE)
    noise[2000::SAMPLE_RATE // 12] += 1.0
    found = statistics.describe(noise)
    assert found.events_per_second == pytest.approx(12.0, abs=0.5)
    assert found.kurtosis > 100.0 and found.loud_share > 0.6


def test_a_tone_lies_in_its_octave_and_has_no_events() -> None:
    times = np.arange(2 * SAMPLE_RATE) / SAMPLE_RATE
    found = statistics.describe(np.sin(2.0 * np.pi * 250.0 * times))
    numbers = found.numbers()
    assert numbers["250 Hz"] > -0.01 and numbers["1000 Hz"] == EMPTY_DB
    assert found.events_per_second == 0.0 and found.kurtosis < 2.0


def test_deep_hum_that_begins_suddenly_is_no_impulse() -> None:
    hum = np.sin(2.0 * np.pi * 50.0 * np.arange(SAMPLE_RATE) / SAMPLE_RATE + 1.0)
    hum += 1e-3 * rng(5).standard_normal(SAMPLE_RATE)
    found = statistics.describe(hum)
    assert found.kurtosis == pytest.approx(3.0, abs=0.2) and found.events_per_second < 2.0


@pytest.mark.parametrize(("audio", "words"), [
    (np.zeros(SAMPLE_RATE), "silent"), (np.ones(100), "0.002 s"),
    (np.full(SAMPLE_RATE, np.nan), "finite")])
def test_errors_say_why_it_cannot_be_measured(audio: np.ndarray, words: str) -> None:
    with pytest.raises(UserError, match=words):
        statistics.describe(audio)


@cache
def lone_noises() -> list[dict[str, float]]:
    """Generated noises of one part: they are the same for all kinds."""
    source, carrier = rng(3), CarrierConfig(alone_share=1.0, dominant_share=0.0)
    return [statistics.describe(generate("film", SAMPLE_RATE, source, carrier=carrier)).numbers()
            for _ in range(LONE_DRAWS)]


@pytest.mark.parametrize("kind", KINDS)
def test_generated_noise_covers_recorded_noise_with_room(kind: str) -> None:
    source, carrier = rng(4), CarrierConfig(alone_share=0.0, dominant_share=0.2)
    drawn = lone_noises() + [
        statistics.describe(generate(kind, 2 * SAMPLE_RATE, source, carrier=carrier)).numbers()
        for _ in range(DRAWS)]
    files = sorted((ROOT / "data" / "noise" / kind).rglob("*.flac"))
    assert files
    for path in files:
        audio, rate = soundfile.read(path, dtype="float32")
        assert rate == SAMPLE_RATE and audio.ndim == 1
        for name, value in statistics.describe(audio - audio.mean()).numbers().items():
            generated = np.array([each[name] for each in drawn])
            below, above = np.sum(generated < value), np.sum(generated > value)
            if value in (0.0, EMPTY_DB):  # no fewer events than none, no less than nothing
                below = np.sum(generated == value)
            assert min(below, above) >= MIN_OUTSIDE, (path.name, name, value)
