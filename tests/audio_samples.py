"""Recordings for the tests of what reads them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile as sf

from denoiser.audio.dsp import SAMPLE_RATE


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


def make_regular_strokes(rng: np.random.Generator, each_s: float, seconds: float,
                         resonances_hz: Sequence[float], decay_s: float) -> np.ndarray:
    """Makes strokes as of a sampler, at an exact pace and on a little hiss, `(samples,)`."""
    after = np.arange(8820) / SAMPLE_RATE
    stroke = np.exp(-after / decay_s) * sum(np.sin(2.0 * np.pi * hz * after)
                                            for hz in resonances_hz)
    stroke[:60] += rng.standard_normal(60)
    samples = round(seconds * SAMPLE_RATE)
    strokes = np.zeros(samples + len(stroke))
    for start in np.arange(0.0, seconds, each_s):
        place = round(start * SAMPLE_RATE)
        strokes[place : place + len(stroke)] += rng.uniform(0.07, 0.1) * stroke
    return strokes[:samples] + 1e-4 * rng.standard_normal(samples)
