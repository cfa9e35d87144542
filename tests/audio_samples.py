"""Recordings for the tests of what reads them."""

from pathlib import Path

import numpy as np
import soundfile as sf

from historical_denoiser.audio.dsp import SAMPLE_RATE


def write_audio(path: Path, seconds: float = 0.5, rate: int = SAMPLE_RATE, channels: int = 1,
                **kwargs: str) -> np.ndarray:
    """Writes noisy tones; returns the samples as float64."""
    rng = np.random.default_rng(3)
    time_s = np.arange(round(seconds * rate)) / rate
    audio = np.stack([0.3 * np.sin(2.0 * np.pi * 300.0 * (1 + channel) * time_s)
                      for channel in range(channels)], axis=-1)
    audio += 0.02 * rng.standard_normal(audio.shape)
    path.parent.mkdir(parents=True, exist_ok=True)
    sf.write(path, audio, rate, **kwargs)
    return audio


def write_recordings(folder: Path, *names: str, seconds: float = 0.5) -> list[Path]:
    """Writes a recording of each name; returns their paths."""
    paths = [folder / name for name in names]
    for path in paths:
        write_audio(path, seconds)
    return paths


def delayed(audio: np.ndarray, samples: float) -> np.ndarray:
    """Returns audio that is late by a fraction of samples, around the ends."""
    turn = np.exp(-2j * np.pi * np.fft.rfftfreq(len(audio)) * samples)
    return np.fft.irfft(np.fft.rfft(audio) * turn, len(audio))
