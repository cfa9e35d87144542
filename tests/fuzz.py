"""Recordings and films that are broken at random: read, or refused in one line, and never changed.

`python tests/fuzz.py 10000` tries so many, of which each is denoised as a user's file is; with
`--seed` others. It prints what broke the rules, with the file kept beside, and exits 1 then.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import soundfile as sf

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from film_samples import Sound, write_film  # noqa: E402
from restorers import denoise_all, make_restorer  # noqa: E402

from historical_denoiser.audio.survey import survey  # noqa: E402
from historical_denoiser.core.checks import UserError  # noqa: E402
from historical_denoiser.formats import containers, integrity  # noqa: E402
from historical_denoiser.network.stored import NetworkSettings  # noqa: E402
from historical_denoiser.run.jobs import InferenceConfig, plan  # noqa: E402

RATE, SECONDS = 8000, 0.25
OGG_SECONDS = 4.0  # several pages
HEADER_BYTES = 96  # where most edits go
KINDS = ("set", "insert", "remove", "cut")
# What a number in a header must not be believed to be.
VALUES = (b"\0\0\0\0", b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\x80", b"\1\0\0\0",
          b"\0\0\0\1", b"\x7f\xff", b"\0", b"\xff", b"data", b"OggS")
NAMES = ("a.wav", "x.wav", "a.flac", "a.ogg", "a.opus", "a.mp3", "a.aiff", "a.mkv", "a.mp4")
MORE_NAMES = (*NAMES, "a.caf", "a.au", "a.w64", "r.wav", "a.avi", "a.ts", "a.webm")
FILMS = {"a.mkv": ("matroska", "flac", "mpeg4"), "a.mp4": ("mp4", "aac", "mpeg4"),
         "a.avi": ("avi", "libmp3lame", "mpeg4"), "a.ts": ("mpegts", "ac3", "mpeg2video"),
         "a.webm": ("webm", "libopus", "libvpx")}
BODY_SHARE = 0.4  # of the cases with edits behind the header alone

Edit = tuple[str, float, bytes]  # what is done, where (a share of the header, or of 1 to 2 the
# file), and with which bytes


def originals(folder: Path, names: Iterable[str] = NAMES) -> dict[str, bytes]:
    """Returns a short whole file of each kind."""
    audio = np.random.default_rng(5).uniform(-0.3, 0.3, (round(RATE * OGG_SECONDS), 2))
    kinds = {"x.wav": ("WAVEX", "PCM_24"), "a.ogg": ("OGG", "VORBIS"), "a.opus": ("OGG", "OPUS"),
             "r.wav": ("RF64", "PCM_16")}
    for name in names:
        if name in FILMS:
            muxer, codec, video = FILMS[name]
            write_film(folder / name, muxer, [Sound(codec)], SECONDS, video)
            continue
        container, subtype = kinds.get(name, (None, None))
        samples = len(audio) if container == "OGG" else round(RATE * SECONDS)
        sf.write(folder / name, audio[:samples], RATE, subtype, format=container)
    return {name: (folder / name).read_bytes() for name in names}


def broken(whole: bytes, edits: list[Edit]) -> bytes:
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


def draw_edits(rng: np.random.Generator) -> list[Edit]:
    """Draws one to four edits."""
    lowest = 1.0 if rng.random() < BODY_SHARE else 0.0
    return [(str(rng.choice(KINDS, p=[0.7, 0.1, 0.1, 0.1])), float(rng.uniform(lowest, 2.0)),
             VALUES[rng.integers(len(VALUES))] if rng.random() < 0.5 else rng.bytes(
                 int(rng.integers(1, 5)))) for _ in range(rng.integers(1, 5))]


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
    assert path.read_bytes() == before, "the original was changed"
    results = set(path.parent.iterdir()) - others
    expected = set() if failures else set(jobs[0].results)
    assert results == expected, f"there are {results}, not {expected}"
    for result in results:
        assert read(result) == "read", f"{result} cannot be read"
        result.unlink()
    return "refused" if failures else "read"


@contextmanager
def shown(path: Path, kept: Path) -> Iterator[list[str]]:
    """Notes an exception that no user should see, and keeps the file that causes it."""
    notes: list[str] = []
    try:
        yield notes
    except Exception:  # noqa: BLE001 - any is what is looked for
        kept.parent.mkdir(exist_ok=True)
        kept.write_bytes(path.read_bytes())
        notes.append(f"{kept}\n{traceback.format_exc()}")


def main() -> None:
    """Tries files that are drawn at random."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("cases", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=math.inf, help="after which it stops")
    parser.add_argument("--kept", type=Path, default=Path("fuzz_failures"))
    arguments = parser.parse_args()
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        wholes = originals(Path(folder), MORE_NAMES)
        for name in MORE_NAMES:
            (Path(folder) / name).unlink()
        end = time.monotonic() + 60.0 * arguments.minutes
        for case in range(arguments.cases):
            if time.monotonic() > end:
                break
            rng = np.random.default_rng([arguments.seed, case])
            name = MORE_NAMES[case % len(MORE_NAMES)]
            path = Path(folder) / name
            path.write_bytes(broken(wholes[name], draw_edits(rng)))
            with shown(path, arguments.kept / f"{arguments.seed}_{case}_{name}") as notes:
                counts[f"{name} {denoise(path)}"] += 1
            for note in notes:
                counts["broke the rules"] += 1
                sys.stdout.write(note)
            for left in Path(folder).iterdir():
                left.unlink()
    for what, count in sorted(counts.items()):
        sys.stdout.write(f"{count:6d} {what}\n")
    sys.exit(1 if counts["broke the rules"] else 0)


if __name__ == "__main__":
    main()
