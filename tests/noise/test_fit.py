"""What is measured of a noise, and what is learned from it."""

import numpy as np
import pytest
from carrier_samples import recorded, rng

from historical_denoiser.audio.dsp import SAMPLE_RATE
from historical_denoiser.core.checks import UserError
from historical_denoiser.noise import fit, generator


@pytest.fixture(scope="module")
def fits() -> dict[str, fit.NoiseMeasures]:
    """Fits to the first half of two recordings; half the work is enough to see that it works."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit, "FIT_ROUNDS", 5)
        patch.setattr(fit, "FIT_SECONDS", 8.0)
        return {name: fit.fit(fit.measure(recorded(name)[:len(recorded(name)) // 2]))
                for name in ("sonicpi_vinyl_hiss_L", "vinyl1_runoff")}


@pytest.mark.parametrize("name", ["sonicpi_vinyl_hiss_L", "vinyl1_runoff"])
def test_fitted_noise_is_like_the_unseen_rest(fits: dict[str, fit.NoiseMeasures],
                                              name: str) -> None:
    rest = recorded(name)[len(recorded(name)) // 2:]
    goal = fit.measure(rest)
    found = fit.measure(fits[name].render(20 * SAMPLE_RATE, rng(13)))
    assert fit.spectral_distance(goal.spectrum_db, found.spectrum_db) < 3.0
    assert 0.5 < found.crackles_per_second / goal.crackles_per_second < 2.0
    assert 0.4 < found.clicks_per_second / goal.clicks_per_second < 2.5
    assert abs(found.click_db - goal.click_db) < 4.0
    assert abs(np.log10(found.kurtosis / goal.kurtosis)) < 1.0
    for other in fits:
        if other != name:  # the bounds distinguish the discs
            wrong = fit.measure(recorded(other))
            assert fit.spectral_distance(wrong.spectrum_db, found.spectrum_db) > 4.0


def test_draws_come_close_to_a_disc_they_were_not_fitted_to() -> None:
    """The default ranges know nothing of this recording, and yet contain its like."""
    goal = fit.measure(recorded("sonicpi_vinyl_hiss_L")).spectrum_db
    source = rng(14)
    distances = [fit.spectral_distance(goal, fit.third_octaves_db(
        generator.generate("gramophone", SAMPLE_RATE, source))) for _ in range(60)]
    assert min(distances) < 4.0  # two real discs differ by 5 to 9 dB
    assert np.median(distances) > 4.0  # and much else


@pytest.mark.parametrize(("audio", "words"), [(np.zeros(SAMPLE_RATE), "silent"),
                                              (np.ones(100), "samples")])
def test_errors_say_why_it_cannot_be_measured(audio: np.ndarray, words: str) -> None:
    with pytest.raises(UserError, match=words):
        fit.measure(audio)
