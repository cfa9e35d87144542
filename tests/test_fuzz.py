"""Recordings and films that are broken at random: read, or refused in one line, and never changed.

`FUZZ_CASES=10000 python -m pytest -m slow tests/test_fuzz.py` tries so many of each kind.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from film_samples import Sound, write_film
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from restorers import denoise_all, make_restorer

from historical_denoiser.audio.survey import survey
from historical_denoiser.core.checks import UserError
from historical_denoiser.formats import containers, integrity
from historical_denoiser.network.stored import NetworkSettings
from historical_denoiser.run.jobs import InferenceConfig, plan

CASES, DENOISED_CASES = 230, int(os.environ.get("FUZZ_CASES", 40))  # of each kind
RATE, SECONDS = 8000, 0.25
OGG_SECONDS = 4.0  # several pages
HEADER_BYTES = 96  # where most edits go
# What a number in a header must not be believed to be.
VALUES = (b"\0\0\0\0", b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\x80", b"\1\0\0\0",
          b"\0\0\0\1", b"\x7f\xff", b"\0", b"\xff", b"data", b"OggS")
KINDS = {"x.wav": ("WAVEX", "PCM_24"), "a.ogg": ("OGG", "VORBIS"), "a.opus": ("OGG", "OPUS"),
         "r.wav": ("RF64", "PCM_16")}
FILMS = {"a.mkv": ("matroska", "flac", "mpeg4"), "a.mp4": ("mp4", "aac", "mpeg4"),
         "a.avi": ("avi", "libmp3lame", "mpeg4"), "a.ts": ("mpegts", "ac3", "mpeg2video"),
         "a.webm": ("webm", "libopus", "libvpx")}
NAMES = ("a.wav", "x.wav", "a.flac", "a.ogg", "a.opus", "a.mp3", "a.aiff", "a.caf", "a.w64",
         "a.mkv", "a.mp4")
# What is done, where (a share of the header, or of 1 to 2 the file), and with which bytes.
EDITS = st.lists(st.tuples(st.sampled_from(["set", "insert", "remove", "cut"]),
                           st.integers(0, 1999).map(lambda thousandths: thousandths / 1000),
                           st.sampled_from(VALUES) | st.binary(min_size=1, max_size=4)),
                 min_size=1, max_size=4)


def write_whole(path: Path) -> bytes:
    """Writes a short file of the kind that its name says; returns its content."""
    audio = np.random.default_rng(5).uniform(-0.3, 0.3, (round(RATE * OGG_SECONDS), 2))
    if path.name in FILMS:
        muxer, codec, video = FILMS[path.name]
        write_film(path, muxer, [Sound(codec)], SECONDS, video)
    else:
        container, subtype = KINDS.get(path.name, (None, None))
        samples = len(audio) if container == "OGG" else round(RATE * SECONDS)
        sf.write(path, audio[:samples], RATE, subtype, format=container)
    return path.read_bytes()


def broken(whole: bytes, edits: list[tuple[str, float, bytes]]) -> bytes:
    """Returns a file with edits made one after the other."""
    content = bytearray(whole)
    for kind, place, value in edits:
        start = round(place * HEADER_BYTES if place < 1.0 else (place - 1.0) * len(content))
        if kind == "cut":
            del content[start:]
        elif kind == "remove":
            del content[start : start + len(value)]
        else:
            content[start : start + (len(value) if kind == "set" else 0)] = value
    return bytes(content)


def read(path: Path) -> str:
    """Reads and surveys a file; returns `read`, or `refused` where a user would be told."""
    try:
        recording = containers.open_audio(path)
        survey(containers.read_blocks(recording), recording.rate)
        integrity.find_damage(recording)
    except (UserError, OSError):
        return "refused"
    return "read"


def denoise(path: Path) -> str:
    """Denoises a file as the program does; returns as `read`, and asserts what must hold."""
    before, others = path.read_bytes(), set(path.parent.iterdir())
    restorer = make_restorer(lambda spectra: 0.5 * spectra, NetworkSettings(
        reference_dbfs=-20.0, context_seconds=0.1), 1.0)
    jobs, failures = plan([path], InferenceConfig())
    failures |= denoise_all(jobs, restorer, 1.0, lambda reason: None)
    assert path.read_bytes() == before
    results = set(path.parent.iterdir()) - others
    assert results == (set() if failures else set(jobs[0].results))
    for result in results:
        assert read(result) == "read", result
        result.unlink()
    return "refused" if failures else "read"


def try_broken(path: Path, attempt, cases: int) -> Counter[str]:
    """Breaks a file many times; any other error than a user's is the program's own mistake."""
    whole, outcomes = write_whole(path), Counter()

    @settings(max_examples=cases, deadline=None, derandomize=True, database=None,
              suppress_health_check=list(HealthCheck))
    @given(EDITS)
    def try_one(edits: list[tuple[str, float, bytes]]) -> None:
        path.write_bytes(broken(whole, edits))
        outcomes[attempt(path)] += 1

    try_one()
    return outcomes


@pytest.mark.parametrize("name", NAMES)
def test_a_broken_file_is_read_or_refused(name, tmp_path, capfd):
    outcomes = try_broken(tmp_path / name, read, CASES)
    assert min(outcomes["read"], outcomes["refused"]) > 0  # both ways were tried
    # FFmpeg goes to where a header says; what PyAV makes of that must not reach the user.
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("name", [*NAMES, "r.wav", "a.au", "a.avi", "a.ts", "a.webm"])
def test_a_broken_file_is_denoised_or_leaves_nothing(name, tmp_path):
    assert try_broken(tmp_path / name, denoise, DENOISED_CASES).total() > 0
