"""Small sounds and scores, and archives and packages to put them in."""

import csv
import io
import shutil
import subprocess
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import astuple, fields
from pathlib import Path
from typing import Any

import numpy as np
import soundfile as sf

from historical_denoiser.audio.dsp import SAMPLE_RATE
from historical_denoiser.corpus.debian_packages import Rule
from historical_denoiser.corpus.manifest import Row

TUNE = "X:1\nT:A tune\nM:4/4\nL:1/4\nQ:1/4=90\nK:C\n|: C D E F- | F2 G2 | A B A2 | G4 :|\n"


def make_tone(seconds: float, frequency_hz: float = 440.0, rms: float = 0.1,
              rate: int = SAMPLE_RATE) -> np.ndarray:
    time = np.arange(round(seconds * rate)) / rate
    return (rms * np.sqrt(2.0) * np.sin(2.0 * np.pi * frequency_hz * time)).astype(np.float32)


def make_words(seconds: float, frequency_hz: float = 440.0) -> np.ndarray:
    """A tone that is interrupted by pauses of digital silence."""
    tone = make_tone(seconds, frequency_hz)
    return tone * (np.arange(len(tone)) // (SAMPLE_RATE // 5) % 2 == 0)


def encode(samples: np.ndarray, form: str = "WAV", rate: int = SAMPLE_RATE) -> bytes:
    buffer = io.BytesIO()
    sf.write(buffer, samples, rate, format=form, subtype="VORBIS" if form == "OGG" else "PCM_16")
    return buffer.getvalue()


def pack_tar(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def pack_zip(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def split_zip(files: dict[str, bytes], stem: str, size: int) -> dict[str, bytes]:
    """Cuts an archive where `zip -s` would; its directory alone is not that of `zip`."""
    data = b"PK\7\x08" + pack_zip(files)
    parts = [data[at : at + size] for at in range(0, len(data), size)]
    names = [f"{stem}.z{number:02d}" for number in range(1, len(parts))] + [f"{stem}.zip"]
    return dict(zip(names, parts, strict=True))


def write_all(folder: Path, files: dict[str, bytes]) -> dict[str, Path]:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return {name: folder / name for name in files}


def write_records(path: Path, records: list[Any]) -> Path:
    """Writes a table of data sets' files or of a recipe's rules."""
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(field.name for field in fields(records[0]))
        writer.writerows(map(astuple, records))
    return path


def read_manifest(corpus: Path) -> dict[str, dict[str, str]]:
    with (corpus / "manifest.csv").open(newline="") as stream:
        return {row["file"]: row for row in csv.DictReader(stream)}


def render_in_two_runs(build: Callable[[Path, float], list[Row]], folder: Path) -> list[Row]:
    """Builds a corpus of scores in two runs, checks that the first counts, and returns its rows."""
    (first,) = build(folder, 0.001)
    before = (folder / first.file).stat().st_mtime_ns
    rows = build(folder, 1.0)
    assert (folder / first.file).stat().st_mtime_ns == before
    return rows


def assert_same_files(rows: list[Row], *folders: Path) -> None:
    for row in rows:
        assert len({(folder / row.file).read_bytes() for folder in folders}) == 1


def groups_and_splits(rows: dict[str, dict[str, str]]) -> dict[str, set[str]]:
    splits: dict[str, set[str]] = {}
    for row in rows.values():
        splits.setdefault(row["group"], set()).add(row["split"])
    return splits


def make_rule(**changes: str) -> Rule:
    values = dict.fromkeys((field.name for field in fields(Rule)), "")
    values |= {"package": "tiny-speech", "category": "speech", "licence": "CC0-1.0",
               "where": "usr/share/tiny", "include": "*", "group": "^([^/]+)/"}
    return Rule(**(values | changes))


def build_deb(folder: Path, package: str, files: dict[str, bytes]) -> None:
    tree = folder / f"tree-{package}"
    write_all(tree, files | {"DEBIAN/control": (
        f"Package: {package}\nVersion: 1.0\nArchitecture: all\nMaintainer: t <t@example.org>\n"
        "Description: test\n").encode()})
    subprocess.run(["dpkg-deb", "-Znone", "-b", str(tree), str(folder / f"{package}_1.0_all.deb")],
                   check=True, capture_output=True)
    shutil.rmtree(tree)


def build_debs(folder: Path) -> None:
    """Builds two packages."""
    folder.mkdir(parents=True, exist_ok=True)
    words = encode(make_words(2.0), "OGG")
    tiny = {"en/a.ogg": words, "en/again.ogg": words,
            "de/b.ogg": encode(make_words(2.0, 500.0), "OGG"),
            "fr/stereo.ogg": encode(np.stack([make_words(1.0, 600.0), make_words(1.0)], axis=1),
                                    "OGG"),
            "fr/slow.ogg": encode(make_tone(1.0, rate=16000), "OGG", 16000),
            "fr/half.ogg": encode(make_tone(1.0, 700.0, rate=22050), "OGG", 22050),
            "fr/silent.ogg": encode(np.zeros(9000, np.float32), "OGG"),
            "fr/broken.ogg": b"OggS no",
            "fr/loud.wav": encode(np.clip(make_tone(1.0, rms=1.0), -1, 1)),
            "fr/readme.txt": b"hello"}
    build_deb(folder, "tiny-speech",
              {f"usr/share/tiny/{name}": content for name, content in tiny.items()}
              | {"usr/share/doc/tiny-speech/copyright": b"CC0-1.0"})
    zipped = pack_zip({"hits/hit1.wav": encode(make_tone(0.1)),
                       "hits/hit2.wav": encode(make_tone(0.5, 900.0)), "hits/copy of a.ogg": words})
    build_deb(folder, "tiny-effects", {
        "usr/share/sounds.pk3": zipped, "usr/share/music/one.ogg": words,
        "usr/share/music/two.ogg": encode(make_tone(1.0, 300.0), "OGG")})


TINY_RECIPE = [  # what is in the two
    make_rule(include="*.ogg|*.wav", validation="de", test="fr"),
    make_rule(package="tiny-effects", category="effects", where="usr/share/sounds.pk3",
              group=r"^(.*?)\d*\.\w+$"),
    make_rule(package="tiny-effects", category="music", where="usr/share/music",
              group=r"^(.*)\.ogg$")]
