"""Reads archives, and the containers in which games keep their sounds: names and contents.

Names are never used here as paths to write to, so none can lead out of a folder; whoever writes
files by them must see to that.
"""

from __future__ import annotations

import bisect
import gzip
import io
import itertools
import re
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np

from denoiser.checks import UserError

ZIP_ENCRYPTED = 1  # bit of an entry's flags
DRAIN_BYTES = 1 << 16  # that are read at a time and dropped
ARCHIVE_ERRORS = (tarfile.TarError, zipfile.BadZipFile, zlib.error, gzip.BadGzipFile, EOFError,
                  struct.error, NotImplementedError)


# --- Archives of data sets -------------------------------------------------------------------


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

    Each content must be read before the next is asked for.

    Raises:
        One of `ARCHIVE_ERRORS`: The archive is damaged.
    """
    if len(parts) > 1:
        yield from read_split_zip(parts)
    elif parts[0].suffix == ".zip":
        yield from read_zip(parts[0])
    else:
        with gzip.open(parts[0]) as unpacked:
            with tarfile.open(fileobj=unpacked, mode="r|") as archive:
                for entry in archive:
                    if entry.isfile() and (stream := archive.extractfile(entry)):
                        yield entry.name, stream
            while unpacked.read(DRAIN_BYTES):  # gzip compares its checksum at the very end
                continue


def read_zip(file: Path | IO[bytes]) -> Iterator[tuple[str, IO[bytes]]]:
    """Yields the files of a ZIP archive; each must be read before the next is asked for."""
    with zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            if not info.is_dir():
                if info.flag_bits & ZIP_ENCRYPTED:
                    raise zipfile.BadZipFile(f"{info.filename} is encrypted")
                with archive.open(info) as stream:
                    yield info.filename, stream


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


# --- Containers in packages -----------------------------------------------------------------
# Facts about the formats; each reader yields (name, content).


def read_pk3(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Yields the files of a ZIP archive."""
    for name, stream in read_zip(io.BytesIO(data)):
        yield name, stream.read()


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
        raise UserError(f"a group of {len(data)} bytes cannot hold {count} entries")
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


CONTAINERS = {".pk3": read_pk3, ".ocg": read_c4group, ".rcc": read_ogg_streams,
              ".cat": read_sound_cat}
