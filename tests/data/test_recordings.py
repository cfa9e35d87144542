"""Reading stretches of recordings."""

import numpy as np
import soundfile
from small_corpus import write_tone

from historical_denoiser.audio import dsp
from historical_denoiser.audio.dsp import SAMPLE_RATE
from historical_denoiser.data import recordings


def test_other_rates_are_resampled_and_stereo_is_averaged(tmp_path):
    write_tone(tmp_path / "low.wav", 441.0, 1.0, 22050, channels=2)
    audio = recordings.read_segment(tmp_path / "low.wav", 0.0, 1.0)
    assert audio.shape == (SAMPLE_RATE,)
    assert np.argmax(np.abs(np.fft.rfft(audio))) == 441


def test_long_noise_is_used_from_beginning_to_end(tmp_path, monkeypatch, rng):
    monkeypatch.setattr(recordings, "NOISE_BLOCK_SECONDS", 1.0)
    levels = np.repeat([0.001, 0.01, 0.1], SAMPLE_RATE)
    soundfile.write(tmp_path / "hiss.wav", levels * rng.standard_normal(len(levels)), SAMPLE_RATE)
    drawn = [dsp.power(recordings.read_noise(tmp_path / "hiss.wav", rng)) for _ in range(30)]
    loud, middle, quiet = (sum(low < power < high for power in drawn)
                           for low, high in ((5e-3, 1.0), (5e-5, 5e-4), (0.0, 5e-6)))
    assert loud > 3 and middle > 3 and quiet > 3 and loud + middle + quiet == 30


def test_a_short_disc_is_repeated_in_whole_turns(rng):
    turn = round(recordings.TURN_SECONDS * SAMPLE_RATE)
    noise = np.zeros(round(3.4 * turn), np.float32)
    noise[turn // 2 :: turn] = 1.0  # a click in each turn
    stretch = recordings.take_stretch(noise, 6 * turn, True, rng)
    clicks = np.flatnonzero(stretch > 0.1)
    assert len(stretch) == 6 * turn and len(clicks) >= 6
    assert set(np.diff(clicks)) == {turn}
