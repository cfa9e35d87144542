"""Tests of audio_io: reading and writing of recordings."""

from __future__ import annotations

from pathlib import Path

import pytest

from denoiser.audio import audio_io


@pytest.mark.parametrize(("name", "container", "subtype", "expected"), [
    ("a.wav", "RF64", "PCM_16", ("RF64", "PCM_16", ".wav")),
    ("a.wav", "AIFF", "PCM_24", ("AIFF", "PCM_24", ".aiff")),
    ("a.mp3", "WAV", "PCM_16", ("WAV", "PCM_16", ".wav")),
    ("a.WAV", "WAVEX", "FLOAT", ("WAVEX", "FLOAT", ".WAV")),
    ("a", "FLAC", "PCM_24", ("FLAC", "PCM_24", ".flac")),
    ("a.side1", "WAV", "PCM_16", ("WAV", "PCM_16", ".side1")),
    ("a.caf", "CAF", "ALAC_16", ("CAF", "PCM_16", ".caf")),
    ("a.voc", "VOC", "PCM_U8", ("WAV", "PCM_U8", ".wav")),
    ("a.side1", "OGG", "VORBIS", ("WAV", "PCM_24", ".wav")),
])
def test_output_format(name, container, subtype, expected):
    recording = audio_io.Recording(Path(name), 44100, 2, 100, container, subtype)
    form = audio_io.output_format(recording, 100)
    assert (form.container, form.subtype, form.ending) == expected
