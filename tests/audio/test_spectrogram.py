"""Tests of spectrogram: the levels that a picture shows."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile as sf

from denoiser.audio import audio_io
from denoiser.audio.dsp import SAMPLE_RATE
from denoiser.audio.spectrogram import spectrogram_db


def test_spectrogram_levels(tmp_path):
    for seconds in (0.01, 1.0, 25.0):
        samples = round(seconds * SAMPLE_RATE)
        tone = np.sin(2.0 * np.pi * 64 * SAMPLE_RATE / 2048 * np.arange(samples) / SAMPLE_RATE)
        sf.write(tmp_path / "a.wav", tone, SAMPLE_RATE, subtype="FLOAT")
        level = spectrogram_db(audio_io.open_recording(tmp_path / "a.wav"), samples)
        assert level.shape[0] == 1025 and 1 <= level.shape[1] <= 1600
        assert np.isfinite(level).all()
        if seconds >= 1.0:
            assert level[64, level.shape[1] // 2] == pytest.approx(0.0, abs=0.1)
            assert level[500, level.shape[1] // 2] < -60.0
