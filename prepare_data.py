"""Builds corpora of clean audio: from packages, from public data sets, or from any folder.

    python prepare_data.py                          # the starter corpus, to data/starter
    python prepare_data.py --only klettres-data     # one package of it
    python prepare_data.py --source ~/debs          # .deb files that are already here
    python prepare_data.py musicnet                 # or fsd50k, aishell3, gramophone
    python prepare_data.py ~/scores --category music

Every clip becomes a 44.1 kHz mono FLAC file; `manifest.csv` says where it comes from, under which
licence, in which split, and how clean it is. The gramophone noise data set is no clean audio: it
is unpacked as it is. A run that was stopped goes on. Clips that cannot be decoded are left out and
listed; a package or data set that cannot be had makes the exit status 1.

The starter corpus comes from freely licensed packages; it needs `apt-get` and `dpkg-deb` (Debian,
Ubuntu and their kin), no root. Its recipe names the splits and licences, and `is_clean` holds the
rule for `clean`: both can be changed without decoding anything again.
"""

from __future__ import annotations

import argparse
import csv
import fnmatch
import functools
import gzip
import hashlib
import io
import json
import logging
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import IO, Any

import numpy as np
import scipy.fft
import soundfile as sf
import soxr

import fetch_data
import public_data
from config import CATEGORIES, SAMPLE_RATE, SPLITS, DsetConfig, replacing, run_main
from dataset_loader import assign_splits, find_noise
from public_data import Member, split_by_hash

logger = logging.getLogger(__name__)
MapClips = Callable[..., Iterable[dict[str, Any]]]

RECIPE = Path(__file__).resolve().parent / "conf" / "corpus" / "starter.csv"
MANIFEST_NAME = "manifest.csv"
PARTS_NAME = "parts"  # one JSON file a package: what a later run need not do again
DOWNLOADS_NAME = "downloads"
LICENCES_NAME = "licences"  # the packages' copyright files
CLIPS_A_CHUNK = 4
CLIPS_A_MESSAGE = 1000
BROKEN = "broken"
STORED_COLUMNS = ("file", "seconds", "source", "group", "floor_db", "noise_db", "bandwidth_hz",
                  "clipped", "original_rate")
LAYOUT_VERSION = 1  # raised whenever the measures or the files change, so that parts are redone

FRAME_SECONDS = 0.02
ACTIVE_RANGE_DB = 40.0  # frames this far below the loudest one count for the level
FLOOR_PERCENTILE = 5.0
MAX_FLOOR_DB = 120.0  # of digital silence
SILENCE_DBFS = -100.0  # quieter frames are digital silence
BANDWIDTH_RANGE_DB = 60.0
CLIPPING_LEVEL = 0.999
MIN_PEAK = 1e-3  # of full scale; quieter clips are silent
MAX_PEAK = 0.998
HASH_SECONDS = 20.0
WIDE_HZ = 12000
SPECTRUM_SAMPLES = 2048
FRAMES_AT_ONCE = 2048  # keeps memory small in long files
BAND_EDGES_HZ = np.concatenate([[0.0], np.geomspace(200.0, 20000.0, 21)])
HISS_RANGE_HZ = (3000.0, 12600.0)

MIN_CLEAN_DB = 45.0
MIN_GATED_DB = 35.0  # of the noise in speech whose pauses are silent
MAX_CLIPPED = 1e-4
MIN_CLEAN_SECONDS = 0.3
STEADY_SECONDS = 2.0  # effects of this length must vary
MIN_EFFECT_RANGE_DB = 10.0
MIN_SOURCE_RATE = 22050  # Hz; slower files are left out
NOISE_SET = "gramophone"  # the data set that is no clean audio
BATCH_CLIPS = 64  # that are unpacked and converted at a time
BATCH_BYTES = 1 << 29


@dataclass(frozen=True)
class Rule:
    """One line of the recipe: some clips of one package.

    Attributes:
        package: Name of the package.
        version: The version that the recipe was made from (Debian 12); others are tried as well.
        megabytes: Size of the download.
        licence: Licence of these clips, as the package states it.
        category: One of `CATEGORIES`.
        where: Folder or container file inside the package; containers may be a glob.
        include: `|`-separated patterns on the path below `where`.
        exclude: Patterns of what is left out after all.
        group: Regular expression; what its brackets catch names the group.
        otherwise: The group's name where they catch nothing.
        validation: `|`-separated patterns of the groups that are held out for validation.
        test: The same for test. Where both are empty, speech trains, and music and effects are
            held out by the hash of the group's name.
        notes: What a reader of the recipe should know.
    """

    package: str
    version: str
    megabytes: str
    licence: str
    category: str
    where: str
    include: str
    exclude: str
    group: str
    otherwise: str
    validation: str
    test: str
    notes: str

    def accepts(self, name: str) -> bool:
        """Whether the clip called `name`, a path below `where`, belongs to this rule."""
        return _matches(name, self.include) and not _matches(name, self.exclude)

    def group_of(self, name: str) -> str:
        """Returns the group of the clip called `name`."""
        match = re.search(self.group, name)
        caught = [part for part in match.groups() if part] if match else []
        return f"{self.package}/{'-'.join(caught) or self.otherwise or name}"

    def split_of(self, group: str) -> str:
        """Returns the split of a group of this rule."""
        name = group.removeprefix(f"{self.package}/")
        for split in ("validation", "test"):
            if _matches(name, getattr(self, split)):
                return split
        if self.category == "speech" or self.validation or self.test:
            return "train"
        return split_by_hash(group)


def _matches(name: str, patterns: str) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns.split("|") if pattern)


@dataclass
class Row:
    """One line of the manifest; `file` is relative to the manifest's folder."""

    file: str
    category: str
    seconds: float
    source: str
    licence: str
    group: str
    split: str
    floor_db: float
    noise_db: float
    bandwidth_hz: int
    clipped: float
    clean: int
    original_rate: int


@dataclass(frozen=True)
class Clip:
    """One clip of a package."""

    rule: Rule
    name: str  # below the rule's `where`
    source: str  # for the manifest
    path: Path


class CorpusError(ValueError):
    """A package that cannot be had or read; the message is for the user."""


def read_recipe(path: Path) -> list[Rule]:
    """Reads the list of packages.

    Args:
        path: CSV file whose columns are the fields of `Rule`.

    Returns:
        The rules, in the file's order.

    Raises:
        ValueError: A column is missing or a value is not allowed.
    """
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        expected = [field.name for field in fields(Rule)]
        if reader.fieldnames != expected:
            raise ValueError(f"`{path}` must have the columns {expected}. "
                             f"Received: {reader.fieldnames}")
        rules = [Rule(**row) for row in reader]
    for rule in rules:
        if rule.category not in CATEGORIES:
            raise ValueError(f"`category` must be one of {CATEGORIES}. "
                             f"Received: category={rule.category!r} in {path}")
    return rules


# Containers. Facts about the formats; each reader yields (name, content).


def read_zip(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Yields the files of a ZIP archive."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for info in archive.infolist():
            if not info.is_dir():
                yield info.filename, archive.read(info)


def read_c4group(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Yields the files of a packed C4Group.

    A gzip stream with other magic bytes. Each group is a header of 204 bytes (scrambled: bytes
    0 and 2 of each triple swapped, everything XOR 237; number of entries at 36), then 316 bytes
    per entry (name of 260, then packed, is a group, size, unused, offset), then the contents.
    """
    yield from _read_group(memoryview(gzip.decompress(b"\x1f\x8b" + data[2:])), "")


def _read_group(data: memoryview, folder: str) -> Iterator[tuple[str, bytes]]:
    header_bytes, entry_bytes, name_bytes = 204, 316, 260
    header = np.frombuffer(data[:header_bytes], np.uint8) ^ 237
    header = header.reshape(-1, 3)[:, ::-1].tobytes()
    count = struct.unpack_from("<i", header, 36)[0]
    start = header_bytes + count * entry_bytes
    if count < 0 or start > len(data):
        raise ValueError(f"a group of {len(data)} bytes cannot hold {count} entries")
    for index in range(count):
        position = header_bytes + index * entry_bytes
        raw_name = bytes(data[position : position + name_bytes]).split(b"\0")[0]
        name = folder + raw_name.decode("latin-1")
        _, is_group, size, _, offset = struct.unpack_from("<5i", data, position + name_bytes)
        content = data[start + offset : start + offset + size]
        if is_group:
            yield from _read_group(content, f"{name}/")
        else:
            yield name, bytes(content)


def read_ogg_streams(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Yields the Ogg streams that lie uncompressed somewhere in `data`, named by their order."""
    first_page, header_bytes, last_flag = b"OggS\x00\x02", 27, 4
    index = 0
    start = data.find(first_page)
    while start >= 0:
        position = start
        while data[position : position + 4] == b"OggS" and position + header_bytes <= len(data):
            flags, segments = data[position + 5], data[position + 26]
            table = data[position + header_bytes : position + header_bytes + segments]
            position += header_bytes + segments + sum(table)
            if flags & last_flag:
                break
        yield f"{index:02d}.ogg", data[start:position]
        index += 1
        start = data.find(first_page, position)


def read_sound_cat(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Yields the sounds of a sample catalogue as WAV files.

    A table of (offset, size) pairs, whose first offset is the table's own size and whose top bits
    are flags; at each offset one byte, the length of a name, the name, then the RIFF record.
    """
    mask = 0x7FFFFFFF
    table_bytes = struct.unpack_from("<I", data)[0] & mask
    for index in range(table_bytes // 8):
        offset, size = struct.unpack_from("<II", data, index * 8)
        offset &= mask
        name = data[offset + 1 : offset + 1 + data[offset]].rstrip(b"\0").decode("latin-1")
        begin = offset + 1 + data[offset]
        title = re.sub(r"[^a-z0-9]+", "_", name.split(" By ")[0].lower())[:80].strip("_.")
        yield f"{title or 'sound'}-{index:02d}.wav", data[begin : begin + size]


CONTAINERS = {".pk3": read_zip, ".ocg": read_c4group, ".rcc": read_ogg_streams,
              ".cat": read_sound_cat}


def find_clips(rules: list[Rule], unpacked: Path, scratch: Path) -> list[Clip]:
    """Lists the clips of one package; what lies in containers is written out to `scratch`.

    Args:
        rules: The package's rules; the first that accepts a clip has it.
        unpacked: The unpacked package.
        scratch: An empty folder.

    Returns:
        The clips, in the order of their paths.

    Raises:
        CorpusError: A rule finds nothing: the package is not the one that the recipe describes.
    """
    found: dict[str, Clip] = {}
    for rule in rules:
        before = len(found)
        for place in sorted(unpacked.glob(rule.where)):
            inside = place.relative_to(unpacked).as_posix()
            if place.is_dir():
                members = [(path.relative_to(place).as_posix(), path)
                           for path in sorted(place.rglob("*")) if path.is_file()]
            else:
                members = _unpack_container(place, scratch / inside)
            for name, path in members:
                key = f"{inside}/{name}"
                if "*" in rule.where:  # tells the members of several containers apart
                    name = f"{place.stem}/{name}"
                if key not in found and rule.accepts(name):
                    found[key] = Clip(rule, name, f"{rule.package}: {key}", path)
        if len(found) == before:
            raise CorpusError(f"{rule.package}: nothing matches {rule.include} in {rule.where}; "
                              "is it another version of the package?")
    return [clip for _, clip in sorted(found.items())]


def _unpack_container(path: Path, folder: Path) -> list[tuple[str, Path]]:
    if path.suffix not in CONTAINERS:
        raise CorpusError(f"{path.name} must end in one of {sorted(CONTAINERS)}")
    members = []
    try:
        for name, content in CONTAINERS[path.suffix](path.read_bytes()):
            target = folder / name
            if not target.resolve().is_relative_to(folder.resolve()):
                raise ValueError(f"{name!r} leads out of the container")
            if not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content)
            members.append((name, target))
    except (ValueError, IndexError, struct.error, EOFError, zlib.error, gzip.BadGzipFile,
            zipfile.BadZipFile) as error:
        raise CorpusError(f"{path.name} cannot be read: {error}") from error
    return members


# Measures.


def _decibels(power: np.ndarray | float) -> np.ndarray:
    return 10.0 * np.log10(np.maximum(power, 1e-30))


def _frames(samples: np.ndarray, size: int = round(FRAME_SECONDS * SAMPLE_RATE)) -> np.ndarray:
    """Returns whole frames, `(frames, size)`; a shorter signal is filled up to one frame."""
    samples = np.pad(samples, (0, max(size - len(samples), 0)))
    return samples[: len(samples) // size * size].reshape(-1, size)


def measure_level_dbfs(samples: np.ndarray) -> float:
    """Returns the RMS in dBFS of the frames within `ACTIVE_RANGE_DB` of the loudest one."""
    energy = np.mean(np.square(_frames(samples), dtype=np.float64), axis=1)
    active = energy >= energy.max() * 10.0 ** (-ACTIVE_RANGE_DB / 10.0)
    return float(_decibels(energy[active].mean()))


def measure_floor_db(samples: np.ndarray) -> float:
    """Returns how many dB the quietest frames lie below the level.

    Args:
        samples: Array `(samples,)` at `SAMPLE_RATE`.

    Returns:
        Decibels: the level less the `FLOOR_PERCENTILE`th percentile of the frames' energies, or
        `MAX_FLOOR_DB` where that is digital silence.
    """
    energy = _decibels(np.mean(np.square(_frames(samples), dtype=np.float64), axis=1))
    floor = np.percentile(energy, FLOOR_PERCENTILE)
    if floor <= SILENCE_DBFS:
        return MAX_FLOOR_DB
    return float(min(measure_level_dbfs(samples) - floor, MAX_FLOOR_DB))


def _band_minima(samples: np.ndarray) -> np.ndarray:
    """Returns the power that each of the bands hardly ever falls below, digital silence apart."""
    frames = _frames(samples)
    frames = frames[_decibels(np.mean(np.square(frames), axis=1)) > SILENCE_DBFS]
    size = frames.shape[1]
    points = scipy.fft.next_fast_len(size, real=True)
    edges = np.searchsorted(np.fft.rfftfreq(points, 1.0 / SAMPLE_RATE), BAND_EDGES_HZ)
    window = np.hanning(size).astype(np.float32)
    window *= np.sqrt(2.0 / (np.sum(window**2) * points))  # the bins' sum is the mean square
    bands = [np.zeros((0, len(edges) - 1))]
    for start in range(0, len(frames), FRAMES_AT_ONCE):
        block = frames[start : start + FRAMES_AT_ONCE] * window
        power = np.square(np.abs(scipy.fft.rfft(block, points)))
        bands.append(np.add.reduceat(power[:, : edges[-1]], edges[:-1], axis=1))
    bands = np.concatenate(bands)
    if len(bands) == 0:
        return np.zeros(len(edges) - 1)
    return np.percentile(bands, FLOOR_PERCENTILE, axis=0)


def measure_noise_db(samples: np.ndarray, sustained: bool, bandwidth_hz: float) -> float:
    """Returns how many dB a steady noise could at most lie below the level.

    Single words have no pauses and music never falls silent, but few sounds fill every band at
    every moment as noise does. The noise is therefore sought in each band's own quietest frames.

    Args:
        samples: Array `(samples,)` at `SAMPLE_RATE`.
        sustained: False for speech: the noise is the sum of all bands' minima. True for music and
            effects, whose low bands may sound all the time: the noise is as strong as white noise
            whose density is the least of the bands' from `HISS_RANGE_HZ[0]` up.
        bandwidth_hz: Where the sound ends; the empty bands above say nothing of its noise.

    Returns:
        Decibels in [0, `MAX_FLOOR_DB`].
    """
    minima = _band_minima(samples)
    if sustained:
        highest = max(min(HISS_RANGE_HZ[1], bandwidth_hz), HISS_RANGE_HZ[0] * 1.5)
        use = (BAND_EDGES_HZ[:-1] >= HISS_RANGE_HZ[0]) & (BAND_EDGES_HZ[1:] <= highest)
        density = minima[use] / np.diff(BAND_EDGES_HZ)[use]
        noise = density.min() * SAMPLE_RATE / 2.0
    else:
        noise = minima.sum()
    return float(np.clip(measure_level_dbfs(samples) - _decibels(noise), 0.0, MAX_FLOOR_DB))


def is_clean(row: Row) -> bool:
    """Whether a clip may be a training target.

    Speech passes with a floor, or where it has no pauses a noise, of `MIN_CLEAN_DB` below its
    level; digital silence in the pauses does not excuse noise between them. Music and effects pass
    by their noise. A long effect must also vary: wind, engines and static are what a denoiser
    removes, and never fall far below their level.
    """
    if row.category == "speech":
        quiet = max(row.floor_db, row.noise_db) >= MIN_CLEAN_DB and row.noise_db >= MIN_GATED_DB
    else:
        quiet = row.noise_db >= MIN_CLEAN_DB
    if row.category == "effects" and row.seconds >= STEADY_SECONDS:
        quiet = quiet and row.floor_db >= MIN_EFFECT_RANGE_DB
    return (quiet and row.clipped <= MAX_CLIPPED and row.seconds >= MIN_CLEAN_SECONDS
            and row.original_rate >= MIN_SOURCE_RATE)


def measure_bandwidth_hz(samples: np.ndarray) -> int:
    """Returns the highest frequency whose long-term level is near that of the loudest one."""
    frames = _frames(samples, SPECTRUM_SAMPLES)
    window = np.hanning(SPECTRUM_SAMPLES).astype(np.float32)
    total = np.zeros(SPECTRUM_SAMPLES // 2 + 1)
    for start in range(0, len(frames), FRAMES_AT_ONCE):
        spectra = scipy.fft.rfft(frames[start : start + FRAMES_AT_ONCE] * window)
        total += np.sum(np.square(np.abs(spectra)), axis=0)
    near = np.flatnonzero(total >= total.max() * 10.0 ** (-BANDWIDTH_RANGE_DB / 10.0))
    return round(near[-1] * SAMPLE_RATE / SPECTRUM_SAMPLES)


def measure_clipped(samples: np.ndarray) -> float:
    """Returns the share of samples at full scale."""
    return float(np.mean(np.abs(samples) >= CLIPPING_LEVEL))


def convert_clip(job: tuple[str, bool, str, str]) -> dict[str, Any]:
    """Decodes, measures and stores one clip; runs in a worker.

    Args:
        job: (source file, whether its sound is sustained, output folder, file name below it).

    Returns:
        The measures, or a `problem` and its `detail`.

    Raises:
        OSError: The disk is full.
    """
    source, sustained, output, file = job
    try:
        samples, rate = sf.read(source, dtype="float32", always_2d=True)
    except sf.LibsndfileError as error:
        return {"problem": BROKEN, "detail": str(error)}
    if not np.all(np.isfinite(samples)):
        return {"problem": BROKEN, "detail": "samples that are not finite"}
    if rate < MIN_SOURCE_RATE:
        return {"problem": f"below {MIN_SOURCE_RATE} Hz"}
    mono = samples.mean(axis=1)
    if np.abs(mono).max(initial=0.0) < MIN_PEAK:
        return {"problem": "silent or empty"}
    clipped = measure_clipped(samples)
    head = np.round(mono[: round(HASH_SECONDS * rate)] * 32768.0).astype("<i4")
    digest = hashlib.sha256(head.tobytes()).hexdigest()
    if rate != SAMPLE_RATE:
        mono = soxr.resample(mono, rate, SAMPLE_RATE)
    mono *= min(1.0, MAX_PEAK / np.abs(mono).max())  # a lossy decoder overshoots; do not clip
    encoded = io.BytesIO()
    sf.write(encoded, mono, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    with replacing(Path(output, file)) as temporary:
        temporary.write_bytes(encoded.getbuffer())
    bandwidth_hz = measure_bandwidth_hz(mono)
    return {"file": file, "digest": digest, "seconds": round(len(mono) / SAMPLE_RATE, 3),
            "floor_db": round(measure_floor_db(mono), 1),
            "noise_db": round(measure_noise_db(mono, sustained, bandwidth_hz), 1),
            "bandwidth_hz": bandwidth_hz, "clipped": float(f"{clipped:.3g}"),
            "original_rate": rate}


# One package.


def get_package(name: str, downloads: Path, source: Path | None) -> Path:
    """Returns the package's `.deb` file, downloaded unless it is there already.

    Args:
        name: Name of the package.
        downloads: Folder for downloads.
        source: Folder that may hold the file, or None.

    Returns:
        The file.

    Raises:
        CorpusError: There is no `apt-get`, or it does not find the package.
    """
    for folder in (source, downloads):
        found = sorted(folder.glob(f"{name}_*.deb")) if folder else []
        if found:
            return found[-1]
    _require_tool("apt-get", f"to download {name}")
    downloads.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=downloads) as partial:
        _run_tool(["apt-get", "download", name], f"{name}: not downloaded (a first "
                  "`apt-get update` may help)", Path(partial))
        arrived = sorted(Path(partial).glob("*.deb"))
        if not arrived:
            raise CorpusError(f"{name}: apt-get downloaded nothing")
        return arrived[-1].replace(downloads / arrived[-1].name)


def _require_tool(name: str, purpose: str) -> None:
    if shutil.which(name) is None:
        raise CorpusError(f"`{name}` is needed {purpose} and was not found. It comes with Debian, "
                          "Ubuntu and their kin; a container of one of them will do.")


def _run_tool(command: list[str], complaint: str, folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines()
                 if line.strip() and not line.startswith("W:")]
        raise CorpusError(f"{complaint}: {lines[0] if lines else f'status {done.returncode}'}")


def build_package(rules: list[Rule], deb: Path, output: Path,
                  map_clips: MapClips) -> dict[str, Any]:
    """Converts the clips of one package.

    Args:
        rules: The package's rules.
        deb: The package.
        output: The corpus's folder.
        map_clips: As `map`; what `_workers` yields.

    Returns:
        The package's part of the manifest, which was also stored below `PARTS_NAME`.

    Raises:
        CorpusError: The package cannot be unpacked or holds other files than expected.
        OSError: The disk is full.
    """
    package = rules[0].package
    _require_tool("dpkg-deb", f"to unpack {package}")
    with tempfile.TemporaryDirectory(dir=output, prefix=".unpacked-") as scratch:
        unpacked = Path(scratch) / "package"
        unpacked.mkdir()
        _run_tool(["dpkg-deb", "-x", str(deb.resolve()), str(unpacked.resolve())],
                  f"{deb}: cannot be unpacked", Path(scratch))
        clips = find_clips(rules, unpacked, Path(scratch) / "members")
        logger.info("%s: %d clips", package, len(clips))
        results = _convert_clips(clips, output, map_clips)
        notice = unpacked / "usr" / "share" / "doc" / package / "copyright"
        if notice.is_file():
            (output / LICENCES_NAME).mkdir(exist_ok=True)
            shutil.copyfile(notice, output / LICENCES_NAME / f"{package}.txt")
    rows, problems, broken, digests = [], Counter(), [], set()
    for clip, result in zip(clips, results, strict=True):
        if "problem" in result:
            problems[result["problem"]] += 1
            if result["problem"] == BROKEN:
                broken.append(f"{clip.source}: {result['detail']}")
        elif result["digest"] in digests:
            problems["duplicates"] += 1
        else:
            digests.add(result["digest"])
            rows.append({"file": result.pop("file"), "source": clip.source,
                         "group": clip.rule.group_of(clip.name), "rule": rules.index(clip.rule),
                         **result})
    _remove_others(output, package, {row["file"] for row in rows})
    part = {"key": _part_key(rules), "deb": deb.name, "left_out": dict(problems),
            "broken": broken, "rows": rows}
    with replacing(_part_path(output, package)) as temporary:
        temporary.write_text(json.dumps(part, indent=0), encoding="utf-8")
    return part


@contextmanager
def _workers(jobs: int) -> Iterator[MapClips]:
    """Yields a `map` that runs in `jobs` processes; one job needs no other process."""
    if jobs == 1:
        yield map
        return
    with ProcessPoolExecutor(jobs, initializer=_ignore_interrupts) as pool:
        yield functools.partial(pool.map, chunksize=CLIPS_A_CHUNK)


def _name_file(category: str, package: str, name: str, taken: set[str]) -> str:
    """Returns the FLAC file for a clip, a name that is not in `taken`, and adds it there."""
    stem = re.sub(r"[^A-Za-z0-9/._-]", "_", name)
    file = f"{category}/{package}/{stem}.flac"
    while file.lower() in taken:
        file = f"{file.removesuffix('.flac')}_.flac"
    taken.add(file.lower())
    return file


def _convert_clips(clips: list[Clip], output: Path, map_clips: MapClips) -> list[dict[str, Any]]:
    jobs, taken = [], set()
    for clip in clips:
        file = _name_file(clip.rule.category, clip.rule.package, clip.name, taken)
        jobs.append((str(clip.path), clip.rule.category != "speech", str(output), file))
    results = []
    for result in map_clips(convert_clip, jobs):
        results.append(result)
        if len(results) % CLIPS_A_MESSAGE == 0 and len(results) < len(jobs):
            logger.info("  %d of %d clips, %d left", len(results), len(jobs),
                        len(jobs) - len(results))
    return results


def _remove_others(output: Path, package: str, files: set[str]) -> None:
    """Deletes duplicates, and what an interrupted or older run left behind."""
    for category in CATEGORIES:
        for path in sorted((output / category / package).rglob("*")):
            if path.is_file() and path.relative_to(output).as_posix() not in files:
                path.unlink()


def _part_path(output: Path, package: str) -> Path:
    return output / PARTS_NAME / f"{package}.json"


def _part_key(rules: list[Rule]) -> str:
    """Names what a package's files and measures depend on; splits and licences are not in it."""
    settled = [(rule.category, rule.where, rule.include, rule.exclude, rule.group, rule.otherwise)
               for rule in rules]
    return hashlib.sha256(f"{LAYOUT_VERSION} {settled}".encode()).hexdigest()


def read_part(rules: list[Rule], output: Path) -> dict[str, Any] | None:
    """Returns a package's part of the manifest, or None where it must be built (again)."""
    path = _part_path(output, rules[0].package)
    try:
        part = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    if part["key"] != _part_key(rules):
        return None
    return part if all((output / row["file"]).exists() for row in part["rows"]) else None


# The whole corpus.


def join_parts(parts: dict[str, dict[str, Any]], rules: list[Rule]) -> list[Row]:
    """Makes the manifest's rows from the packages' parts.

    Args:
        parts: The parts by package.
        rules: The recipe.

    Returns:
        The rows by file name, without those that repeat another package's clip.

    Raises:
        ValueError: The recipe puts one group into two splits.
    """
    rows, digests, split_of = [], set(), {}
    for package in dict.fromkeys(rule.package for rule in rules):
        own = [rule for rule in rules if rule.package == package]
        for stored in parts.get(package, {"rows": []})["rows"]:
            if stored["digest"] in digests:
                continue
            digests.add(stored["digest"])
            rule, group = own[stored["rule"]], stored["group"]
            split = rule.split_of(group)
            if split_of.setdefault(group, split) != split:
                raise ValueError(f"`{group}` must be in one split. Received: {split_of[group]} "
                                 f"and {split}")
            row = Row(category=rule.category, licence=rule.licence, split=split, clean=0,
                      **{key: stored[key] for key in STORED_COLUMNS})
            row.clean = int(is_clean(row))
            rows.append(row)
    return sorted(rows, key=lambda row: row.file)


def write_manifest(rows: list[Row], path: Path) -> None:
    """Writes the manifest in one step."""
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Row)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)


def format_summary(rows: list[Row]) -> str:
    """Returns a table of the minutes in each category and split."""
    lines = [f"{'category':<10}{'split':<12}{'files':>7}{'minutes':>9}{'clean files':>13}"
             f"{'clean minutes':>15}{'above 12 kHz':>14}"]
    for category in CATEGORIES:
        for split in SPLITS:
            chosen = [row for row in rows if (row.category, row.split) == (category, split)]
            if not chosen:
                continue
            clean = [row for row in chosen if row.clean]
            wide = [row for row in clean if row.bandwidth_hz >= WIDE_HZ]
            total, good, full = (sum(row.seconds for row in some) / 60.0
                                 for some in (chosen, clean, wide))
            lines.append(f"{category:<10}{split:<12}{len(chosen):>7}{total:>9.1f}{len(clean):>13}"
                         f"{good:>15.1f}{full:>14.1f}")
    return "\n".join(lines)


def build_corpus(rules: list[Rule], wanted: list[str], output: Path, source: Path | None,
                 jobs: int, keep_downloads: bool) -> list[str]:
    """Builds the wanted packages and writes the manifest of everything that is there.

    Args:
        rules: The recipe.
        wanted: Names of the packages to build.
        output: The corpus's folder.
        source: Folder of `.deb` files, or None.
        jobs: Number of worker processes.
        keep_downloads: Whether downloaded packages stay in `output`.

    Returns:
        One message for each package that failed.

    Raises:
        OSError: `output` cannot be written or the disk is full.
    """
    _require_kind(output, "*.jsonl")
    _make_output(output)
    downloads = output / DOWNLOADS_NAME
    parts, failed = {}, []
    with _workers(jobs) as map_clips:
        for package in dict.fromkeys(rule.package for rule in rules):
            own = [rule for rule in rules if rule.package == package]
            part = read_part(own, output)
            if package in wanted:
                position = f"package {wanted.index(package) + 1} of {len(wanted)}"
                if part:
                    logger.info("%s: %s is complete", position, package)
                else:
                    logger.info("%s: %s (%s MB)", position, package, own[0].megabytes)
                    try:
                        part = build_package(own, get_package(package, downloads, source),
                                             output, map_clips)
                    except CorpusError as error:
                        logger.error("%s", error)
                        failed.append(str(error))
                if part:
                    _report_left_out(part)
            if part:
                parts[package] = part
    rows = join_parts(parts, rules)
    if rows:
        write_manifest(rows, output / MANIFEST_NAME)
        logger.info("%s\n%s: %d files", format_summary(rows), output / MANIFEST_NAME, len(rows))
    if not keep_downloads and not failed:
        shutil.rmtree(downloads, ignore_errors=True)
    return failed


def _make_output(output: Path) -> None:
    output.mkdir(parents=True, exist_ok=True)
    for stale in output.glob(".unpacked-*"):
        shutil.rmtree(stale, ignore_errors=True)


def _require_kind(output: Path, foreign: str) -> None:
    """Keeps the starter corpus and other corpora from overwriting each other's manifest."""
    found = sorted((output / PARTS_NAME).glob(foreign))
    if found:
        raise ValueError(f"`--output` must be another folder: {output} already holds a corpus of "
                         f"another kind ({found[0].name})")


def _report_left_out(part: dict[str, Any]) -> None:
    counts = ", ".join(f"{count} {what}" for what, count in sorted(part["left_out"].items()))
    logger.info("  %d clips kept, left out: %s", len(part["rows"]), counts or "none")
    for line in part["broken"]:
        logger.warning("  broken: %s", line)


# Public data sets and folders.


class Journal:
    """What is known of each clip of one data set, kept line by line while it is converted.

    Args:
        path: The file; what an earlier run wrote is read, as far as it is whole.
        output: The corpus's folder. Clips whose file is gone are to be converted again.
        key: What the files and measures depend on; the journal of another key counts as empty.
    """

    def __init__(self, path: Path, output: Path, key: str) -> None:
        self.path, self.rows, self.complete = path, {}, False
        lines = []
        if path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                try:
                    lines.append(json.loads(line))
                except json.JSONDecodeError:
                    break  # the run was killed while it wrote this line
        if lines and lines[0].get("key") == key:
            self.complete = "complete" in lines[-1]
            self.rows = {row["member"]: row for row in lines if "member" in row}
        gone = [name for name, row in self.rows.items()
                if "problem" not in row and not (output / row["file"]).exists()]
        self._rewrite(key, set(gone))

    def _rewrite(self, key: str, gone: set[str]) -> None:
        self.key, self.complete = key, self.complete and not gone
        self.rows = {name: row for name, row in self.rows.items() if name not in gone}
        ending = [{"complete": True}] if self.complete else []
        with replacing(self.path) as temporary:
            temporary.write_text("".join(f"{json.dumps(line)}\n" for line in
                                         [{"key": key}, *self.rows.values(), *ending]),
                                 encoding="utf-8")

    def keep(self, stamps: dict[str, Any]) -> None:
        """Forgets the clips that are not in `stamps`, or with another stamp."""
        gone = {name for name, row in self.rows.items()
                if name not in stamps or stamps[name] != row["stamp"]}
        if gone:
            self._rewrite(self.key, gone)

    def add(self, rows: list[dict[str, Any]]) -> None:
        """Appends what was found out about some clips."""
        self._append([*rows])
        self.rows |= {row["member"]: row for row in rows}

    def finish(self) -> None:
        """Notes that nothing is left to convert."""
        if not self.complete:
            self._append([{"complete": True}])
            self.complete = True

    def _append(self, lines: list[dict[str, Any]]) -> None:
        with self.path.open("a", encoding="utf-8") as stream:
            stream.writelines(f"{json.dumps(line)}\n" for line in lines)

    @property
    def kept(self) -> list[dict[str, Any]]:
        """The rows of the clips that became files."""
        return [row for row in self.rows.values() if "problem" not in row]


def convert_members(name: str, members: Iterable[tuple[Member, Path | IO[bytes]]],
                    journal: Journal, output: Path, map_clips: MapClips,
                    stamps: dict[str, Any] | None = None) -> None:
    """Converts the clips that the journal does not know, some at a time.

    Args:
        name: Of the data set.
        members: The clips; each with its file, or with a stream that is read before the next.
        journal: Where the results go, batch by batch.
        output: The corpus's folder.
        map_clips: As `map`; what `_workers` yields.
        stamps: What tells by a clip's name whether it has changed.

    Raises:
        OSError: The disk is full.
    """
    taken = {row["file"].lower() for row in journal.kept}
    digests = {row["digest"] for row in journal.kept}
    with tempfile.TemporaryDirectory(dir=output, prefix=".unpacked-") as scratch:
        batch: list[tuple[Member, Path]] = []

        def convert_batch() -> None:
            jobs = [(str(path), member.category != "speech", str(output),
                     _name_file(member.category, name, member.name, taken))
                    for member, path in batch]
            rows = []
            for (member, path), result in zip(batch, map_clips(convert_clip, jobs), strict=True):
                if result.get("digest") in digests:
                    result = {"problem": "duplicates"}  # `_finish_set` deletes its file
                elif "digest" in result:
                    digests.add(result["digest"])
                rows.append({"member": member.name, "stamp": (stamps or {}).get(member.name),
                             "category": member.category, "group": member.group,
                             "split": member.split, "licence": member.licence,
                             "source": f"{name}: {member.name}", **result})
                if path.is_relative_to(scratch):
                    path.unlink()
            before, now = len(journal.rows), len(journal.rows) + len(rows)
            journal.add(rows)
            batch.clear()
            if before // CLIPS_A_MESSAGE != now // CLIPS_A_MESSAGE:
                logger.info("  %d clips", now)

        for member, content in members:
            if member.name in journal.rows:
                continue
            if isinstance(content, Path):
                path = content
            else:  # a name of ours: the archive's could lead out of the folder
                path = Path(scratch) / f"{len(batch)}{Path(member.name).suffix}"
                with path.open("wb") as stream:
                    shutil.copyfileobj(content, stream)
            batch.append((member, path))
            if (len(batch) >= BATCH_CLIPS
                    or sum(path.stat().st_size for _, path in batch) >= BATCH_BYTES):
                convert_batch()
        convert_batch()


def write_corpus(journals: list[Journal], output: Path) -> None:
    """Writes the manifest of the corpus to which some journals belong.

    Args:
        journals: Complete ones; clips that are in two of them are listed once.
        output: The corpus's folder.

    Raises:
        CorpusError: There is nothing to list.
    """
    rows, digests = [], set()
    for journal in journals:
        free = assign_splits(stored["group"] for stored in journal.kept if not stored["split"])
        for stored in journal.kept:
            if stored["digest"] in digests:
                continue
            digests.add(stored["digest"])
            row = Row(category=stored["category"], licence=stored["licence"], clean=0,
                      split=stored["split"] or free[stored["group"]],
                      **{key: stored[key] for key in STORED_COLUMNS})
            row.clean = int(is_clean(row))
            rows.append(row)
    if not rows:
        raise CorpusError(f"{output}: no clip could be used")
    rows.sort(key=lambda row: row.file)
    write_manifest(rows, output / MANIFEST_NAME)
    logger.info("%s\n%s: %d files", format_summary(rows), output / MANIFEST_NAME, len(rows))


def _finish_set(name: str, categories: Iterable[str], journal: Journal, output: Path) -> None:
    """Removes what does not belong, notes the end, and writes the manifest of what is there."""
    files = {row["file"] for row in journal.kept}
    for category in categories:
        for path in sorted((output / category / name).rglob("*")):
            if path.is_file() and path.relative_to(output).as_posix() not in files:
                path.unlink()
    journal.finish()
    problems = [row for row in journal.rows.values() if "problem" in row]
    _report_left_out({
        "rows": journal.kept, "left_out": Counter(row["problem"] for row in problems),
        "broken": [f"{row['source']}: {row['detail']}" for row in problems
                   if row["problem"] == BROKEN]})
    others = [_read_journal(path, output) for path in sorted(journal.path.parent.glob("*.jsonl"))
              if path != journal.path]
    write_corpus([journal, *(other for other in others if other.complete)], output)


def _read_journal(path: Path, output: Path) -> Journal:
    with path.open(encoding="utf-8") as stream:
        return Journal(path, output, json.loads(stream.readline())["key"])


def build_public(name: str, files: list[fetch_data.RemoteFile], output: Path,
                 archives: Path | None, jobs: int, keep_downloads: bool) -> None:
    """Downloads and lays out one public data set.

    Args:
        name: Of the data set.
        files: Its files.
        output: The corpus's folder.
        archives: Where the archives are or go, and stay; a folder in `output` if None.
        jobs: Number of worker processes.
        keep_downloads: Whether downloads stay in `output`.

    Raises:
        ValueError: A file cannot be had or read.
        OSError: `output` cannot be written or the disk is full.
    """
    _require_kind(output, "*.json")
    _make_output(output)
    downloads = archives or output / DOWNLOADS_NAME
    if name == NOISE_SET:
        unpack_noise(files, downloads, output)
    else:
        key = f"{LAYOUT_VERSION} {[(file.file, file.checksum) for file in files]}"
        journal = Journal(output / PARTS_NAME / f"{name}.jsonl", output, key)
        if journal.complete:
            logger.info("%s is complete", name)
        else:
            paths = fetch_data.download_all(files, downloads)
            if not journal.rows:
                fetch_data.require_space(
                    output, sum(path.stat().st_size for path in paths.values()), "the audio")
            classify = public_data.CLASSIFIERS[name](files, paths)
            with _workers(jobs) as map_clips:
                for parts in public_data.group_archives(paths):
                    logger.info("%s: reading", parts[-1].name)
                    members = ((member, stream)
                               for member_name, stream in public_data.read_archive(parts)
                               if (member := classify(member_name)))
                    try:
                        with _naming_archive(parts):
                            convert_members(name, members, journal, output, map_clips)
                    except CorpusError:
                        journal.keep({})  # a checksum at the end speaks of what was read before
                        raise
        _finish_set(name, CATEGORIES, journal, output)
    if not archives and not keep_downloads:
        shutil.rmtree(downloads, ignore_errors=True)


@contextmanager
def _naming_archive(parts: list[Path]) -> Iterator[None]:
    """Turns what a damaged archive raises into an error that names it."""
    try:
        yield
    except public_data.ARCHIVE_ERRORS as error:
        raise CorpusError(f"{parts[-1]}: cannot be read ({error or type(error).__name__}); delete "
                          f"{', '.join(path.name for path in parts)} there and run again"
                          ) from error


def unpack_noise(files: list[fetch_data.RemoteFile], downloads: Path, output: Path) -> None:
    """Unpacks the gramophone noise as it is: `info.csv` and a folder for each recording.

    Args:
        files: The archive.
        downloads: Where it is or goes.
        output: A folder that `dset.path_noise` can name afterwards.

    Raises:
        CorpusError: The archive is damaged or has another layout.
    """
    if not (output / "info.csv").exists():
        path = fetch_data.download_all(files, downloads)[files[0].file]
        with _naming_archive([path]), zipfile.ZipFile(path) as archive:
            infos = sorted((member for member in archive.infolist()
                            if Path(member.filename).name == "info.csv"),
                           key=lambda member: len(Path(member.filename).parts))
            if not infos:
                raise CorpusError(f"{path}: there is no info.csv in it")
            root = Path(infos[0].filename).parent
            inside = [member for member in archive.infolist() if not member.is_dir()
                      and Path(member.filename).is_relative_to(root)]
            fetch_data.require_space(output, sum(member.file_size for member in inside), path.name)
            inside.sort(key=lambda member: member is infos[0])  # the last one says: complete
            for member in inside:
                target = output / Path(member.filename).relative_to(root)
                if not target.resolve().is_relative_to(output.resolve()):
                    raise CorpusError(f"{path}: {member.filename} leads out of the archive")
                if target.exists() and target.stat().st_size == member.file_size:
                    continue
                with replacing(target) as temporary, archive.open(member) as source, \
                        temporary.open("wb") as stream:
                    shutil.copyfileobj(source, stream)
    recordings = find_noise(DsetConfig(path_noise=[str(output)]))
    missing = [path for recording in recordings for path in recording.files if not path.exists()]
    if missing:
        raise CorpusError(f"{missing[0]}: named by info.csv but missing ({len(missing)} files in "
                          f"all); delete {output / 'info.csv'} and run again")
    splits = Counter(recording.split for recording in recordings)
    logger.info("%s: %s", output, ", ".join(f"{splits[split]} recordings for {split}"
                                            for split in SPLITS))


def build_folder(folder: Path, category: str, output: Path, jobs: int) -> None:
    """Converts the audio below any folder; files that were converted before are left alone.

    Args:
        folder: The folder. Its first level of folders, or else each file, is a group.
        category: One of `CATEGORIES`.
        output: The corpus's folder; it may hold other folders' audio as well.
        jobs: Number of worker processes.

    Raises:
        ValueError: There is no audio, or `output` lies in `folder`.
        OSError: `output` cannot be written or the disk is full.
    """
    if output.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"`--output` must lie outside of {folder}. Received: {output}")
    suffixes = {f".{name.lower()}" for name in sf.available_formats()} | {".aif", ".oga", ".opus"}
    suffixes.discard(".raw")  # says nothing of its rate
    paths = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*"))
             if path.suffix.lower() in suffixes and path.is_file()}
    if not paths:
        raise ValueError(f"`{folder}` must hold audio files: none was found")
    _require_kind(output, "*.json")
    _make_output(output)
    name = re.sub(r"[^A-Za-z0-9._-]", "_", folder.resolve().name)
    journal = Journal(output / PARTS_NAME / f"{category}-{name}.jsonl", output,
                      f"{LAYOUT_VERSION} {category}")
    stamps = {key: [path.stat().st_size, path.stat().st_mtime_ns] for key, path in paths.items()}
    journal.keep(stamps)
    logger.info("%s: %d files", folder, len(paths))
    members = ((Member(key, category, f"{name}/{key.split('/')[0]}", "", "not stated"), path)
               for key, path in paths.items())
    with _workers(jobs) as map_clips:
        convert_members(name, members, journal, output, map_clips, stamps)
    _finish_set(name, [category], journal, output)


def _ignore_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent stops the workers


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line.

    Args:
        arguments: The words after the program's name; `sys.argv`'s when None.

    Returns:
        The options.
    """
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0],
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("what", nargs="?", metavar="DATASET|FOLDER", default="starter",
                        help="the starter corpus; or musicnet, fsd50k, aishell3 or gramophone; or "
                             "a folder of audio (write ./musicnet for a folder of that name)")
    parser.add_argument("--category", choices=CATEGORIES, help="of the audio in FOLDER")
    parser.add_argument("--output", type=Path,
                        help="the corpus's folder; data/ and the data set's or folder's name if "
                             "none is given")
    parser.add_argument("--archives", type=Path, metavar="FOLDER",
                        help="where a data set's archives are, or are downloaded to and kept")
    parser.add_argument("--only", nargs="+", metavar="PACKAGE", default=[],
                        help="build these packages alone; the manifest lists what earlier runs "
                             "built as well")
    parser.add_argument("--recipe", type=Path,
                        help="another list of packages, or of data sets' files, than the one in "
                             f"{RECIPE.parent.relative_to(Path(__file__).resolve().parent)}/")
    parser.add_argument("--source", type=Path, metavar="FOLDER",
                        help="use the .deb files that lie here; only others are downloaded")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1,
                        help="number of worker processes")
    parser.add_argument("--keep-downloads", action="store_true",
                        help=f"keep downloaded packages and archives in {DOWNLOADS_NAME}/")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """Builds the corpus that the command line describes.

    Args:
        arguments: As for `parse_arguments`.

    Raises:
        ValueError: An option is wrong or a package failed.
        OSError: A folder cannot be written or the disk is full.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    options = parse_arguments(arguments)
    if options.jobs < 1:
        raise ValueError(f"`--jobs` must be at least 1. Received: {options.jobs}")
    if options.what == "starter":
        _build_starter(options)
    else:
        _build_other(options)


def _build_other(options: argparse.Namespace) -> None:
    if options.only or options.source:
        raise ValueError("`--only` and `--source` must go with the starter corpus alone")
    files = fetch_data.read_table(options.recipe or fetch_data.TABLE)
    names = sorted({file.dataset for file in files} & {*public_data.CLASSIFIERS, NOISE_SET})
    folder = Path(options.what)
    output = options.output or Path("data") / folder.resolve().name
    if options.what in names:
        if options.category:
            raise ValueError(f"`--category` must go with a folder alone; {options.what} has its "
                             f"own. Received: {options.category}")
        build_public(options.what, [file for file in files if file.dataset == options.what],
                     output, options.archives, options.jobs, options.keep_downloads)
        return
    if not folder.is_dir():
        raise ValueError(f"the data set must be one of {names} or a folder of audio. Received: "
                         f"{options.what}")
    if not options.category or options.archives:
        raise ValueError(f"a folder must come with `--category`, one of {CATEGORIES}, and without "
                         f"`--archives`. Received: {options.what}")
    build_folder(folder, options.category, output, options.jobs)


def _build_starter(options: argparse.Namespace) -> None:
    if options.category or options.archives:
        raise ValueError("`--category` and `--archives` must come with a data set or a folder")
    rules = read_recipe(options.recipe or RECIPE)
    names = list(dict.fromkeys(rule.package for rule in rules))
    unknown = sorted(set(options.only) - set(names))
    if unknown:
        raise ValueError(f"`--only` must name packages of {names}. Received: {unknown}")
    if options.source and not options.source.is_dir():
        raise ValueError(f"`--source` must be a folder. Received: {options.source}")
    wanted = [name for name in names if name in options.only or not options.only]
    failed = build_corpus(rules, wanted, options.output or Path("data/starter"), options.source,
                          options.jobs, options.keep_downloads)
    if failed:
        raise CorpusError(f"{len(failed)} of {len(wanted)} packages failed; {'; '.join(failed)}")


if __name__ == "__main__":
    try:
        run_main(main)
    except BrokenProcessPool:
        sys.exit("error: a worker died, perhaps for want of memory; try a smaller `--jobs`")
