"""ViSQOL and PESQ where they are installed, and what is said where they are not."""

import sys

import numpy as np
import pytest

from historical_denoiser.audio import dsp
from historical_denoiser.audio.dsp import SAMPLE_RATE
from historical_denoiser.core.checks import UserError
from historical_denoiser.training import perceptual


def test_a_package_that_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "visqol", None)
    monkeypatch.setitem(sys.modules, "pesq", None)
    with pytest.raises(UserError, match="pip install -r requirements-metrics.txt"):
        perceptual.load_judge()


@pytest.fixture
def voice(rng):
    """Two seconds of syllables: a buzz through slowly moving resonances, and pauses."""
    times = np.arange(3 * SAMPLE_RATE) / SAMPLE_RATE
    pitch = 2.0 * np.pi * np.cumsum(120.0 + 20.0 * np.sin(2.0 * np.pi * 0.7 * times)) / SAMPLE_RATE
    voice = sum(np.sin(order * pitch) / (1.0 + abs(order - 5.0 - 3.0 * np.sin(5.0 * times)))
                for order in range(1, 30))
    voice += 0.05 * rng.standard_normal(len(times))
    return (0.05 * voice * np.clip(np.sin(2.0 * np.pi * 2.5 * times), 0.0, 1.0)).astype(np.float32)


def test_identity_is_best_and_noise_makes_worse(voice, rng):
    pytest.importorskip("visqol")
    pytest.importorskip("pesq")
    judge = perceptual.load_judge()
    noise = rng.standard_normal(len(voice)).astype(np.float32)
    found = [judge("speech", voice, voice)]
    found += [judge("speech", voice, dsp.mix_at_snr(voice, noise, snr)) for snr in (30.0, 10.0)]
    visqol, pesq = ([one[name] for one in found] for name in perceptual.MEASURES)
    assert visqol[0] == pytest.approx(4.73, abs=0.02)
    assert pesq[0] == pytest.approx(4.64, abs=0.02)
    assert visqol[0] > visqol[1] + 0.1 > visqol[2] + 0.2
    assert pesq[0] > pesq[1] + 0.1 > pesq[2] + 0.2
    assert judge("music", voice, voice).keys() == {"visqol"}  # PESQ is of speech alone
    assert judge("speech", np.zeros_like(voice), noise).keys() == {"visqol"}  # no utterance
