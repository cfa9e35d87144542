"""Reads the archives of the public data sets and says what each clip in them is.

`prepare_data.py` is the command and converts the clips; `fetch_data.py` downloads the archives.
"""

from __future__ import annotations

import bisect
import csv
import gzip
import hashlib
import io
import itertools
import json
import re
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from fetch_data import CHUNK_BYTES, FetchError, RemoteFile

HELD_OUT_SHARE = 0.1  # of the groups, for each split that is held out
ARCHIVE_ERRORS = (tarfile.TarError, zipfile.BadZipFile, zlib.error, gzip.BadGzipFile, EOFError,
                  struct.error, NotImplementedError)


@dataclass(frozen=True)
class Member:
    """A clip and what is known of it before it is decoded."""

    name: str  # its path in the archive or folder
    category: str
    group: str  # what a split keeps together: a speaker, a work, an uploader
    split: str
    licence: str


# --- Reading archives ------------------------------------------------------------------------


def group_archives(files: dict[str, Path]) -> list[list[Path]]:
    """Groups the parts of split archives, in their order; `.zip` is a split archive's last part.

    Args:
        files: Paths by name.

    Returns:
        One list for each archive; other files are left out.
    """
    split = re.compile(r"(.*)\.(?:z\d\d|zip)$")
    groups: dict[str, list[Path]] = {}
    for name, path in files.items():
        match = split.match(name)
        if match or name.endswith((".tgz", ".tar.gz")):
            groups.setdefault(match[1] if match else name, []).append(path)
    return [sorted(parts, key=lambda path: (path.suffix == ".zip", path.name))
            for parts in groups.values()]


def read_archive(parts: list[Path]) -> Iterator[tuple[str, IO[bytes]]]:
    """Yields the names and contents of the files in a `.tar.gz`, a `.zip` or a split `.zip`.

    Each content must be read before the next is asked for. Names are never used as paths to write
    to, so none can lead out of a folder.

    Raises:
        One of `ARCHIVE_ERRORS`: The archive is damaged.
    """
    if len(parts) > 1:
        yield from read_split_zip(parts)
    elif parts[0].suffix == ".zip":
        with zipfile.ZipFile(parts[0]) as archive:
            for info in archive.infolist():
                if not info.is_dir():
                    with archive.open(info) as stream:
                        yield info.filename, stream
    else:
        with gzip.open(parts[0]) as unpacked:
            with tarfile.open(fileobj=unpacked, mode="r|") as archive:
                for entry in archive:
                    if entry.isfile() and (stream := archive.extractfile(entry)):
                        yield entry.name, stream
            while unpacked.read(CHUNK_BYTES):  # gzip compares its checksum at the very end
                continue


def read_split_zip(parts: list[Path]) -> Iterator[tuple[str, IO[bytes]]]:
    """Yields the files of a ZIP archive that was split into several files.

    `zipfile` refuses such archives: their entries lie at an offset in a numbered part, not in the
    whole. The layout is that of PKWARE's APPNOTE, sections 4.3 and 4.4.

    Args:
        parts: The parts in their order: `.z01`, `.z02`, ..., `.zip`.

    Raises:
        zipfile.BadZipFile: A part is missing or something is damaged.
    """
    starts = [0, *itertools.accumulate(path.stat().st_size for path in parts)]

    def read(position: int, size: int) -> bytes:
        pieces = []
        end = min(position + size, starts[-1])
        while position < end:
            index = bisect.bisect_right(starts, position) - 1
            with parts[index].open("rb") as stream:
                stream.seek(position - starts[index])
                pieces.append(stream.read(min(end, starts[index + 1]) - position))
            position = starts[index + 1]
        return b"".join(pieces)

    def place(disk: int, offset: int) -> int:
        if disk >= len(parts):
            raise zipfile.BadZipFile(f"it has a part {disk + 1}, there are only {len(parts)}")
        return starts[disk] + offset

    tail_start = max(starts[-1] - 22 - 0xFFFF, 0)  # the end record and the longest comment
    tail = read(tail_start, starts[-1] - tail_start)
    end = tail.rfind(b"PK\5\6")
    if end < 0:
        raise zipfile.BadZipFile("the last part has no end record")
    _, _, disk, _, count, _, offset = struct.unpack_from("<4s4H2I", tail, end)
    locator = tail[max(end - 20, 0) : end]
    if locator[:4] == b"PK\6\7":  # ZIP64
        _, end_disk, end_offset, _ = struct.unpack("<4sIQI", locator)
        record = read(place(end_disk, end_offset), 56)
        _, _, _, _, _, disk, _, count, _, offset = struct.unpack("<4sQ2H2I4Q", record)
    position = place(disk, offset)
    directory = read(position, starts[-1] - position)
    at = 0
    for _ in range(count):
        signature, _, _, flags, method, _, _, crc, packed, size, name_bytes, extra_bytes, \
            comment_bytes, disk, _, _, offset = struct.unpack_from("<4s6H3I5H2I", directory, at)
        if signature != b"PK\1\2":
            raise zipfile.BadZipFile("its directory is damaged")
        extra_at = at + 46 + name_bytes
        name = directory[at + 46 : extra_at].decode("utf-8" if flags & 0x800 else "cp437")
        packed, size, offset, disk = _zip64_values(
            directory[extra_at : extra_at + extra_bytes], packed, size, offset, disk)
        at = extra_at + extra_bytes + comment_bytes
        if name.endswith("/"):
            continue
        start = place(disk, offset)
        header = read(start, 30)
        if header[:4] != b"PK\3\4" or flags & 1 or method not in (0, 8):
            raise zipfile.BadZipFile(f"{name} is damaged, encrypted or packed in an unknown way")
        start += 30 + sum(struct.unpack_from("<2H", header, 26))
        content = read(start, packed)
        if method == 8:
            content = zlib.decompress(content, -zlib.MAX_WBITS)
        if len(content) != size or zlib.crc32(content) != crc:
            raise zipfile.BadZipFile(f"{name} is damaged")
        yield name, io.BytesIO(content)


def _zip64_values(extra: bytes, packed: int, size: int, offset: int, disk: int
                  ) -> tuple[int, int, int, int]:
    """Returns an entry's numbers, those that are too long for their fields from its extra field."""
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, at)
        if kind == 1:
            values = io.BytesIO(extra[at + 4 : at + 4 + length])
            size, packed, offset = (
                int.from_bytes(values.read(8), "little") if value == 0xFFFFFFFF else value
                for value in (size, packed, offset))  # in this order
            if disk == 0xFFFF:
                disk = int.from_bytes(values.read(4), "little")
        at += 4 + length
    return packed, size, offset, disk


# --- What the clips are ----------------------------------------------------------------------

Classify = Callable[[str], Member | None]


def split_by_hash(group: str, held_out: tuple[str, ...] = ("test", "validation")) -> str:
    """Returns a group's split: a tenth of all groups for each of `held_out`, the others train."""
    position = int(hashlib.sha256(group.encode()).hexdigest()[:8], 16) / 16**8
    for rank, split in enumerate(held_out, start=1):
        if position < rank * HELD_OUT_SHARE:
            return split
    return "train"


def classify_musicnet(files: list[RemoteFile], paths: dict[str, Path]) -> Classify:
    """MusicNet: the published test recordings test; other works train or validate as a whole."""
    works = {}
    with paths["musicnet_metadata.csv"].open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            works[row["id"]] = f"{row['composer']}: {row['composition']}"

    def classify(name: str) -> Member | None:
        path = PurePosixPath(name)
        if path.suffix != ".wav" or path.parent.name not in ("train_data", "test_data"):
            return None
        group = f"musicnet/{works.get(path.stem, path.stem)}"
        split = ("test" if path.parent.name == "test_data"
                 else split_by_hash(group, ("validation",)))
        return Member(name, "music", group, split, files[0].licence)

    return classify


def classify_fsd50k(files: list[RemoteFile], paths: dict[str, Path]) -> Classify:
    """FSD50K: clips labelled Speech or Music are that, those with both or neither are effects.

    The published evaluation clips test; the others train or validate by their uploader. One whose
    clips are in both sets tests only.
    """
    clips = {}
    for subset in ("dev", "eval"):
        labels = _read_zipped(paths["FSD50K.ground_truth.zip"], f"{subset}.csv").decode("utf-8")
        known = json.loads(_read_zipped(paths["FSD50K.metadata.zip"],
                                        f"{subset}_clips_info_FSD50K.json"))
        for row in csv.DictReader(io.StringIO(labels)):
            clips[row["fname"]] = (subset, set(row["labels"].split(",")),
                                   known.get(row["fname"], {}))
    testers = {info.get("uploader") for subset, _, info in clips.values() if subset == "eval"}

    def classify(name: str) -> Member | None:
        path = PurePosixPath(name)
        if path.suffix != ".wav" or path.stem not in clips:
            return None
        subset, labels, info = clips[path.stem]
        uploader = info.get("uploader")
        group = f"fsd50k/{uploader or path.stem}"
        named = [category for category in ("speech", "music") if category.title() in labels]
        test = subset == "eval" or (uploader and uploader in testers)
        return Member(name, named[0] if len(named) == 1 else "effects", group,
                      "test" if test else split_by_hash(group, ("validation",)),
                      info.get("license", files[0].licence))

    return classify


def _read_zipped(path: Path, name: str) -> bytes:
    with zipfile.ZipFile(path) as archive:
        for member in archive.namelist():
            if PurePosixPath(member).name == name:
                return archive.read(member)
    raise FetchError(f"{path}: {name} is not in it")


def classify_aishell3(files: list[RemoteFile], paths: dict[str, Path]) -> Classify:
    """AISHELL-3: a speaker trains, validates or tests as a whole, wherever the clips lie."""

    def classify(name: str) -> Member | None:
        match = re.search(r"(?:^|/)(?:train|test)/wav/([^/]+)/[^/]+\.wav$", name)
        if not match:
            return None
        group = f"aishell3/{match[1]}"
        return Member(name, "speech", group, split_by_hash(group), files[0].licence)

    return classify


CLASSIFIERS = {"musicnet": classify_musicnet, "fsd50k": classify_fsd50k,
               "aishell3": classify_aishell3}
