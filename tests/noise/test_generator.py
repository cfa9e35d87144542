"""Generated noise."""

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from carrier_samples import level_db, plain_disc, rng
from scipy import fft

from historical_denoiser.audio.dsp import SAMPLE_RATE
from historical_denoiser.noise import fit, generator, parts
from historical_denoiser.noise.carriers import KINDS, CarrierConfig

PLAIN = CarrierConfig(alone_share=0.0, dominant_share=0.0)


@pytest.mark.parametrize("kind", [*KINDS, "mixed"])
def test_every_kind_is_finite_audible_and_varied(kind: str) -> None:
    source = rng(1)
    spectra = []
    for samples in (1, 1000, 60000, 60000, 60000, 60000):
        audio = generator.generate(kind, samples, source, carrier=PLAIN)
        assert audio.shape == (samples,) and audio.dtype == np.float32
        assert np.all(np.isfinite(audio))
        if samples == 60000:
            assert -40.0 < level_db(audio) < -20.0
            spectra.append(fit.third_octaves_db(audio))
    distances = [fit.spectral_distance(*pair) for pair in itertools.combinations(spectra, 2)]
    assert min(distances) > 1.0  # each call is another noise


@pytest.mark.parametrize("carrier", [PLAIN, CarrierConfig(alone_share=1.0, dominant_share=0.0),
                                     CarrierConfig(alone_share=0.0, dominant_share=1.0)])
@pytest.mark.parametrize("kind", KINDS)
def test_noise_is_the_same_whatever_the_block(kind: str, carrier: CarrierConfig) -> None:
    samples = 2 * parts.CHUNK + 1000
    whole = generator.generate(kind, samples, rng(2), carrier=carrier)
    for block in (1111, parts.CHUNK, 50000):
        source = generator.CarrierNoise(generator.draw_carrier(kind, rng(2), carrier=carrier))
        pieces = np.concatenate([source.read(block) for _ in range(samples // block)])
        np.testing.assert_array_equal(pieces, whole[:len(pieces)])
    assert not np.array_equal(generator.generate(kind, samples, rng(3)), whole)


def test_hiss_has_the_levels_asked_for() -> None:
    levels = np.interp(np.arange(len(parts.BAND_HZ)), [0, 8, 15, 22, 28], [30, 10, 0, 6, -25])
    audio = generator.generate("gramophone", 12 * SAMPLE_RATE, rng(5),
                           carrier=plain_disc(spectra_db=[levels.tolist()]))
    assert fit.spectral_distance(fit.third_octaves_db(audio), levels) < 0.7


def test_crackle_has_the_rate_and_the_heavy_tail_asked_for() -> None:
    plain = generator.generate("gramophone", 20 * SAMPLE_RATE, rng(6), carrier=plain_disc())
    found = fit.measure(plain)
    assert found.crackles_per_second < 0.5 and abs(found.kurtosis) < 0.2
    carrier = plain_disc(crackles_per_second=[20.0, 20.0], crackle_db=[36.0, 36.0],
                         crackle_spread_db=[5.0, 5.0])
    audio = generator.generate("gramophone", 20 * SAMPLE_RATE, rng(7), carrier=carrier)
    found = fit.measure(audio)
    assert 15.0 < found.clicks_per_second + found.crackles_per_second < 25.0
    assert found.kurtosis > 50.0


def test_locked_clicks_return_with_each_turn() -> None:
    def repetition(share: float) -> float:
        carrier = plain_disc(clicks_per_second=[10.0, 10.0], click_db=[35.0, 35.0],
                             locked_share=[share, share], turns_per_minute=[78.26])
        audio = generator.generate("gramophone", 20 * SAMPLE_RATE, rng(8), carrier=carrier)
        places, _ = fit.find_clicks(fit.whiten(audio))
        turn = 60.0 / 78.26 * SAMPLE_RATE
        return float(np.mean([np.abs(places - place - turn).min() < 90 for place in places]))

    assert repetition(0.9) > 0.5 > 0.2 > repetition(0.0)


def test_film_and_tape_follow_the_signal() -> None:
    def follow(kind: str, signal: np.ndarray) -> np.ndarray:
        source = generator.CarrierNoise(generator.draw_carrier(kind, rng(11), PLAIN))
        source.read(len(signal))
        return source.follow(signal)

    signal = np.zeros(4 * SAMPLE_RATE, np.float32)
    loud = slice(2 * SAMPLE_RATE, 4 * SAMPLE_RATE)
    signal[loud] = np.sin(np.arange(2 * SAMPLE_RATE) * 2 * np.pi * 1000.0 / SAMPLE_RATE)
    for kind in ("film", "tape"):
        added = follow(kind, signal)
        assert level_db(added[loud]) > level_db(added[:SAMPLE_RATE] + 1e-9) + 40.0
        # Levels are relative to the RMS of the signal.
        np.testing.assert_allclose(follow(kind, 10.0 * signal), added, atol=1e-4)
        assert not follow(kind, np.zeros(1000, np.float32)).any()
    spectrum = np.abs(fft.rfft(added[loud] * np.hanning(2 * SAMPLE_RATE))) ** 2
    near, far = spectrum[1900:2100].mean(), spectrum[14000:16000].mean()
    assert near > 5.0 * far  # asperity noise lies beside the tone


@pytest.mark.parametrize(("call", "words"), [
    (lambda: generator.generate("wax", 10, rng()), "kind='wax'"),
    (lambda: generator.generate("tape", 0, rng()), "samples=0"),
])
def test_errors_name_what_is_wrong(call: Callable[[], object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call()
