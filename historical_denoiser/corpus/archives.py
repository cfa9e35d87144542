"""Reads archives, and the containers in which games keep their sounds: names and contents.

The names are an archive's own and may lead out of a folder: whoever writes files by them must check
where they lead.
"""

from __future__ import annotations

import gzip
import io
import re
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import stream_unzip

from historical_denoiser.core.checks import UserError

ZIP_ENCRYPTED = 1  # bit of an entry's flags
SPLIT_ZIP_MARK = b"PK\7\x08"  # with which the first part begins
CHUNK_BYTES = 1 << 16  # read at a time
ARCHIVE_ERRORS = (tarfile.TarError, zipfile.BadZipFile, stream_unzip.UnzipError, zlib.error,
                  gzip.BadGzipFile, EOFError, struct.error, NotImplementedError)


def group_archives(paths: Iterable[Path]) -> list[list[Path]]:
    """Returns the parts of each archive among the files, in order: `.z01`, `.z02`, ..., `.zip`."""
    groups: dict[str, list[Path]] = {}
    for path in paths:
        match = re.fullmatch(r"(.*)\.(?:z\d\d|zip)", path.name)
        if match or path.name.endswith((".tgz", ".tar.gz")):
            groups.setdefault(match[1] if match else path.name, []).append(path)
    return [sorted(parts, key=lambda path: (path.suffix == ".zip", path.name))
            for parts in groups.values()]


def read_archive(parts: list[Path]) -> Iterator[tuple[str, bytes]]:
    """Yields the names and contents of the files in a `.tar.gz`, a `.zip` or a split `.zip`.

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
                        yield entry.name, stream.read()
            while unpacked.read(CHUNK_BYTES):  # gzip compares its checksum at the very end
                continue


def read_zip(file: Path | BinaryIO) -> Iterator[tuple[str, bytes]]:
    """Yields the files of a ZIP archive."""
    with zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            if not info.is_dir():
                if info.flag_bits & ZIP_ENCRYPTED:
                    raise zipfile.BadZipFile(f"{info.filename} is encrypted")
                yield info.filename, archive.read(info)


def read_split_zip(parts: list[Path]) -> Iterator[tuple[str, bytes]]:
    """Yields the files of a ZIP archive that was cut into parts (`zip -s`).

    `zipfile` refuses such archives, as their directory gives places relative to the parts. Read
    from beginning to end they need no directory.
    """

    def chunks() -> Iterator[bytes]:
        for path in parts:
            with path.open("rb") as stream:
                if path is parts[0] and stream.read(len(SPLIT_ZIP_MARK)) != SPLIT_ZIP_MARK:
                    stream.seek(0)
                while chunk := stream.read(CHUNK_BYTES):
                    yield chunk

    for name, _, content in stream_unzip.stream_unzip(chunks()):
        data = b"".join(content)  # read in any case: the next file comes after it
        if not name.endswith(b"/"):
            yield name.decode("utf-8", errors="replace"), data


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


CONTAINERS = {".pk3": lambda data: read_zip(io.BytesIO(data)), ".ocg": read_c4group,
              ".rcc": read_ogg_streams, ".cat": read_sound_cat}
