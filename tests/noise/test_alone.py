"""Parts that stand alone or dominate."""

from collections import Counter

import numpy as np
import pytest
from carrier_samples import level_db, rng
from scipy import fft

from historical_denoiser.audio.dsp import SAMPLE_RATE
from historical_denoiser.noise import alone, generator, parts
from historical_denoiser.noise.carriers import KINDS, CarrierConfig, PartShares


def only(name: str, **changes: float) -> CarrierConfig:
    """Settings with which `name` is the part that stands alone."""
    shares = dict.fromkeys(vars(PartShares()), 0.0) | {name: 1.0}
    settings = {"alone_share": 1.0, "dominant_share": 0.0, "part_shares": PartShares(**shares)}
    return CarrierConfig(**(settings | changes))


def test_each_part_has_a_share_and_a_maker() -> None:
    assert set(alone.MAKERS) == set(vars(PartShares()))
    assert set(alone.KIND_PARTS) == {*KINDS, "mixed"}


@pytest.mark.parametrize("name", list(alone.MAKERS))
def test_a_part_alone_is_finite_level_and_never_silent(name: str) -> None:
    for seed in range(8):
        drawn = generator.draw_carrier("film", rng(seed), carrier=only(name))
        assert list(drawn.parts) == [name]
        noise = generator.CarrierNoise(drawn).read(4 * SAMPLE_RATE)
        assert noise.dtype == np.float32 and np.isfinite(noise).all()
        assert noise[:100].any()
        assert np.diff(np.flatnonzero(noise)).max() < 1.4 * SAMPLE_RATE
        assert level_db(noise) == pytest.approx(generator.TARGET_DBFS, abs=12.0)


def test_bands_are_narrow_and_mostly_low() -> None:
    centres_hz, octaves = [], []
    source = rng(5)
    for _ in range(80):
        _, part = alone.draw_part(source, only("hiss"))
        power = np.square(np.abs(fft.rfft(parts.render(part, SAMPLE_RATE))))
        quarters = np.searchsorted(np.cumsum(power) / power.sum(), [0.1, 0.5, 0.9])
        centres_hz.append(quarters[1])
        octaves.append(np.log2(quarters[2] / quarters[0]))
    inside = np.mean([50.0 < centre < 1000.0 for centre in centres_hz])
    assert 0.5 < inside < 0.95
    assert min(centres_hz) < 120.0 and max(centres_hz) > 5000.0
    assert np.median(octaves) < 3.0 and min(octaves) < 0.8


def test_parts_come_by_their_shares_and_suit_the_kind() -> None:
    source = rng(6)
    counts = Counter(alone.draw_part(source, CarrierConfig())[0] for _ in range(150))
    assert 55 < counts["hiss"] < 95 and counts["hum"] > 8
    assert set(counts) == set(alone.MAKERS)
    tape = {alone.draw_part(source, CarrierConfig("tape"))[0] for _ in range(20)}
    assert tape == {"hiss", "hum"}
    no_share = only("clicks")
    no_share.kind = "tape"  # whose parts have no share: evenly
    assert alone.draw_part(source, no_share)[0] in ("hiss", "hum")


@pytest.mark.parametrize("name", ["hiss", "clicks", "mechanism"])
def test_a_dominant_part_is_added_to_the_very_same_noise(name: str) -> None:
    samples = 3 * parts.CHUNK
    for seed in range(4):
        plain, mixed, alone_ = (
            generator.generate("tape", samples, rng(seed), carrier=only(
                name, alone_share=share, dominant_share=dominant)).astype(np.float64)
            for share, dominant in ((0.0, 0.0), (0.0, 1.0), (1.0, 0.0)))
        gain = np.dot(mixed, plain) / np.dot(plain, plain)
        assert 1.5 < level_db(mixed - gain * plain) - level_db(gain * plain) < 26.5
        assert not np.allclose(alone_, mixed, atol=1e-3)


def test_the_shares_are_kept_and_leave_other_noise_as_it_is() -> None:
    forms = Counter()
    for seed in range(120):
        drawn = generator.draw_carrier("hum", rng(seed))
        forms["alone" if drawn.rms else "dominant" if drawn.dominant else "plain"] += 1
        if not drawn.rms and not drawn.dominant and forms["plain"] < 4:
            plain = generator.generate("hum", 1000, rng(seed), carrier=CarrierConfig(
                alone_share=0.0, dominant_share=0.0))
            np.testing.assert_array_equal(generator.CarrierNoise(drawn).read(1000), plain)
    assert 24 < forms["alone"] < 50 and 8 < forms["dominant"] < 30
