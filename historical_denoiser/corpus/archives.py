"""Reads the names and contents of files in the archives of data sets and packages.

The names are those in the archive and may lead out of a folder, for instance with "..". Code that
writes files by these names has to check them.
"""

import gzip
import itertools
import re
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import stream_unzip

ZIP_ENCRYPTED = 1  # a bit in the flags of an entry
SPLIT_ZIP_MARK = b"PK\7\x08"  # beginning of the first part
CHUNK_BYTES = 1 << 16
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
            while unpacked.read(CHUNK_BYTES):  # gzip checks its checksum at the end of the file
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

    `zipfile` cannot read such archives, because positions in the directory are relative to the
    parts. Reading them from beginning to end requires no directory.
    """
    def read_chunks() -> Iterator[bytes]:
        for path in parts:
            with path.open("rb") as stream:
                yield from iter(lambda stream=stream: stream.read(CHUNK_BYTES), b"")

    chunks = read_chunks()
    first = next(chunks, b"").removeprefix(SPLIT_ZIP_MARK)
    for name, _, content in stream_unzip.stream_unzip(itertools.chain([first], chunks)):
        data = b"".join(content)  # has to be read even for a folder, to reach the next entry
        if not name.endswith(b"/"):
            yield name.decode("utf-8", errors="replace"), data
