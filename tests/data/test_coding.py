"""What goes through a codec stays in step, keeps its level, and loses what the codec leaves out."""

import numpy as np
import pytest
import scipy.signal

from historical_denoiser.audio.dsp import SAMPLE_RATE
from historical_denoiser.data import coding


@pytest.fixture(scope="module")
def sound():
    """Two seconds of a gliding tone with harmonics and some noise."""
    times = np.arange(2 * SAMPLE_RATE) / SAMPLE_RATE
    phase = 2.0 * np.pi * (300.0 * times + 40.0 * times**2)
    tones = sum(np.sin(order * phase) / order for order in range(1, 9))
    noise = np.random.default_rng(0).standard_normal(len(times))
    return (0.1 * tones + 0.003 * noise).astype(np.float32)


@pytest.mark.parametrize("codec", coding.CODECS)
@pytest.mark.parametrize("kbps", [32, 128])
def test_audio_stays_in_step(codec, kbps, sound):
    coded = coding.code(sound, codec, kbps)
    assert coded.shape == sound.shape and coded.dtype == np.float32
    found = scipy.signal.correlate(coded, sound, "full", "fft")
    assert np.argmax(found) == len(sound) - 1
    error_db = 10.0 * np.log10(np.sum((coded - sound) ** 2) / np.sum(sound**2))
    assert -60.0 < error_db < (-8.0 if kbps == 32 else -15.0)


def test_loud_audio_is_not_clipped(sound):
    loud = coding.code(20.0 * sound, "mp3", 128)
    assert np.abs(loud).max() == pytest.approx(20.0 * np.abs(sound).max(), rel=0.2)


def test_a_target_keeps_what_the_codec_keeps():
    noise = np.random.default_rng(1).standard_normal(SAMPLE_RATE).astype(np.float32)
    limited = np.abs(np.fft.rfft(coding.limit_to_codec(noise, "mp3", 24))) ** 2
    coded = np.abs(np.fft.rfft(coding.code(0.1 * noise, "mp3", 24))) ** 2
    for spectrum in (limited, coded):
        assert spectrum[8000:].sum() < 0.01 * spectrum.sum()
        assert spectrum[3000:5500].sum() > 0.1 * spectrum.sum()


def test_choices_are_drawn_from_all_codecs():
    rng = np.random.default_rng(0)
    assert {coding.draw_coding(rng)[0] for _ in range(60)} == set(coding.CODECS)
