"""Reads archives of data sets and packages: names and contents.

The names are an archive's own and may lead out of a folder: whoever writes files by them must check
where they lead.
"""

from __future__ import annotations

import gzip
import itertools
import re
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import stream_unzip

ZIP_ENCRYPTED = 1  # bit of an entry's flags
SPLIT_ZIP_MARK = b"PK\7\x08"  # with which the first part begins
CHUNK_BYTES = 1 << 16  # read at a time
ARCHIVE_ERRORS = (tarfile.TarError, zipfile.BadZipFile, stream_unzip.UnzipError, zlib.error,
                  gzip.BadGzipFile, EOFError, NotImplementedError)


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
        yield from _read_split_zip(parts)
    elif parts[0].name.endswith((".tgz", ".tar.gz")):
        with gzip.open(parts[0]) as unpacked:
            with tarfile.open(fileobj=unpacked, mode="r|") as archive:
                for entry in archive:
                    if entry.isfile() and (stream := archive.extractfile(entry)):
                        yield entry.name, stream.read()
            while unpacked.read(CHUNK_BYTES):  # gzip compares its checksum at the very end
                continue
    else:
        with zipfile.ZipFile(parts[0]) as archive:
            for info in archive.infolist():
                if info.flag_bits & ZIP_ENCRYPTED:
                    raise zipfile.BadZipFile(f"{info.filename} is encrypted")
                if not info.is_dir():
                    yield info.filename, archive.read(info)


def _read_split_zip(parts: list[Path]) -> Iterator[tuple[str, bytes]]:
    """Yields the files of a ZIP archive that was cut into parts (`zip -s`).

    `zipfile` refuses such archives, as their directory gives places relative to the parts. Read
    from beginning to end they need no directory.
    """
    chunks = itertools.chain.from_iterable(map(_read_chunks, parts))
    first = next(chunks, b"").removeprefix(SPLIT_ZIP_MARK)
    for name, _, content in stream_unzip.stream_unzip(itertools.chain([first], chunks)):
        data = b"".join(content)  # read in any case: the next file comes after it
        if not name.endswith(b"/"):
            yield name.decode("utf-8", errors="replace"), data


def _read_chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as stream:
        yield from iter(lambda: stream.read(CHUNK_BYTES), b"")
