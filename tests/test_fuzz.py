"""Recordings and films that are broken at random: restored, or refused in one line, never changed.

`FUZZ_CASES=10000 python -m pytest tests/test_fuzz.py` tries so many of each kind.
"""

import os
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from film_samples import Sound, write_film

from historical_denoiser.core.checks import UserError
from historical_denoiser.formats import chunks, containers
from historical_denoiser.restoration.restorer import Restorer
from historical_denoiser.restoration.settings import StageSettings
from historical_denoiser.run.jobs import make_job
from historical_denoiser.run.recording import denoise_recording
from historical_denoiser.run.settings import InferenceConfig

CASES = int(os.environ.get("FUZZ_CASES", 20))  # of each kind
RATE, SECONDS = 8000, 0.25
OGG_SECONDS = 4.0  # several pages
SHORTEST_SECONDS = 0.1  # encoders without a field for their delay take up to this away
HEADER_BYTES = 96  # where most edits go
# What a number in a header must not be believed to be.
VALUES = (b"\0\0\0\0", b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\x80", b"\1\0\0\0",
          b"\0\0\0\1", b"\x7f\xff", b"\0", b"\xff", b"data", b"OggS")
AUDIO = {"a.wav": ("WAV", "PCM_16"), "x.wav": ("WAVEX", "PCM_24"), "r.wav": ("RF64", "PCM_16"),
         "a.flac": ("FLAC", "PCM_16"), "a.ogg": ("OGG", "VORBIS"), "a.opus": ("OGG", "OPUS"),
         "a.mp3": ("MP3", "MPEG_LAYER_III"), "a.aiff": ("AIFF", "PCM_16"),
         "a.caf": ("CAF", "PCM_16"), "a.w64": ("W64", "PCM_16"), "a.au": ("AU", "PCM_16"),
         "joined.wav": ("WAV", "PCM_16"), "joined.flac": ("FLAC", "PCM_16"),
         "joined.ogg": ("OGG", "VORBIS")}
FILMS = {"a.mkv": ("matroska", "flac", "mpeg4"), "a.mp4": ("mp4", "aac", "mpeg4"),
         "a.mov": ("mov", "pcm_s16le", "mpeg4"), "a.avi": ("avi", "libmp3lame", "mpeg4"),
         "joined.ts": ("mpegts", "ac3", "mpeg2video"), "joined.mpg": ("vob", "mp2", "mpeg2video"),
         "a.webm": ("webm", "libopus", "libvpx"), "a.flv": ("flv", "aac", "flv1"),
         "a.m4a": ("mp4", "alac", None), "a.wma": ("asf", "wmav2", None),
         "a.aac": ("adts", "aac", None), "a.ac3": ("ac3", "ac3", None)}
BESIDE = {"bext": bytes(602) + b"A=ANALOGUE\r\n", "cue ": b"\1\0\0\0\1\0\0\0" + bytes(20),
          "LIST": b"INFOICMT\4\0\0\0odd\0", "id3 ": b"ID3\3\0\0\0\0\0\x17TIT2\0\0\0\r\0\0\0Side A"}


def write_whole(path: Path) -> bytes:
    """Writes a short file of the kind that its name says; returns its content."""
    audio = np.random.default_rng(5).uniform(-0.3, 0.3, (round(RATE * OGG_SECONDS), 2))
    if path.name in FILMS:
        muxer, codec, video = FILMS[path.name]
        write_film(path, muxer, [Sound(codec)], SECONDS, video,
                   metadata={"title": "Reel"}, chapters=muxer in ("matroska", "mp4", "mov"))
    else:
        container, subtype = AUDIO[path.name]
        samples = len(audio) if container == "OGG" else round(RATE * SECONDS)
        with sf.SoundFile(path, "w", RATE, 2, subtype, format=container) as file:
            if container in ("FLAC", "OGG", "AIFF", "MP3"):
                file.title, file.comment = "Side A", "odd"
            file.write(audio[:samples])
        if container in ("WAV", "WAVEX", "RF64", "AIFF", "CAF"):
            chunks.append_chunks(path, [(name.encode(), each) for name, each in BESIDE.items()])
    return path.read_bytes() * (1 + path.name.startswith("joined"))


def broken(whole: bytes, rng: np.random.Generator) -> bytes:
    """Returns a file with a few edits: of fields, bytes and spans, and of its length."""
    content = bytearray(whole)
    fields = [found.end() for found in re.finditer(rb"[A-Za-z ]{4}", whole)]
    for _ in range(rng.integers(1, 5)):
        place = int(rng.choice([rng.integers(HEADER_BYTES), rng.integers(len(content) + 1),
                                rng.choice(fields or [0]) + rng.integers(-4, 5)]))
        span = int(rng.choice([1, 4, 60, rng.integers(1, 1 + len(whole) // 4)]))
        value = VALUES[rng.integers(len(VALUES))] if rng.random() < 0.7 else rng.bytes(span)
        match rng.choice(["set", "insert", "flip", "remove", "zero", "repeat", "cut"],
                         p=[0.3, 0.1, 0.2, 0.1, 0.1, 0.1, 0.1]):
            case "set":
                content[place : place + len(value)] = value
            case "insert":
                content[place:place] = value
            case "flip" if place < len(content):
                content[place] ^= 1 << int(rng.integers(8))
            case "remove":
                del content[place : place + span]
            case "zero":
                content[place : place + span] = bytes(len(content[place : place + span]))
            case "repeat":
                content[place:place] = content[place : place + span]
            case "cut":
                del content[place:]
    return bytes(content)


def restore(path: Path) -> str:
    """Restores a file at strength 0, which reads and writes all of it, without a network.

    Returns `read`, or `refused` where a user would be told; asserts what must hold.
    """
    before, others = path.read_bytes(), set(path.parent.iterdir())
    results: set[Path] = set()
    try:
        job = make_job(containers.open_audio(path), InferenceConfig(), "results")
        seconds = denoise_recording(job, Restorer(None, None, StageSettings()), 0.0)["seconds"]
        results = set(job.results)
    except (UserError, OSError) as error:
        assert str(error) and "\n" not in str(error)
    assert path.read_bytes() == before
    assert set(path.parent.iterdir()) - others == results
    for result in results:
        if seconds > SHORTEST_SECONDS:
            assert sum(map(len, containers.read_blocks(containers.open_audio(result)))) > 0
        result.unlink()
    return "read" if results else "refused"


@pytest.mark.parametrize("name", [*AUDIO, *FILMS])
def test_a_broken_file_is_restored_or_refused(name, tmp_path, capfd):
    path = tmp_path / name
    whole = write_whole(path)
    path.write_bytes(whole)
    assert restore(path) == "read"
    for seed in range(CASES):
        path.write_bytes(broken(whole, np.random.default_rng(seed)))
        try:
            restore(path)
        except Exception as error:
            raise AssertionError(f"{name} broken with the seed {seed}") from error
    # FFmpeg goes to where a header says; what PyAV makes of that must not reach the user.
    assert "Traceback" not in capfd.readouterr().err
