"""Files that are chains of chunks, each with a name and a size: WAV, RF64, AIFF and CAF."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from historical_denoiser.core.checks import UserError
from historical_denoiser.formats.audio_io import is_unknown

MAX_RIFF_BYTES = 2**32 - 1
SIZE_ELSEWHERE = 2**32 - 1  # in RF64: the 64-bit size stands in the chunk ds64
PRINTABLE = re.compile(rb"[ -~]{4}")  # names of chunks
HEAD_BYTES = 12  # before the first chunk
# The order of the bytes of a size, by a file's first four bytes. libsndfile takes what follows the
# samples of a Wave64 file for samples: nothing can be added there.
ORDERS = {b"RIFF": "little", b"RF64": "little", b"FORM": "big"}
CAF, CAF_HEAD_BYTES, CAF_CHUNK_BYTES = b"caff", 8, 12

Chunk = tuple[bytes, int, int]  # name, start of the content, size


def kind_of(file: io.BufferedIOBase) -> bytes:
    """Returns the first four bytes of a file."""
    file.seek(0)
    return file.read(4)


def content_of(file: io.BufferedIOBase, chunk: Chunk) -> bytes:
    """Returns what is in a chunk."""
    file.seek(chunk[1])
    return file.read(chunk[2])


def caf_chunks(file: io.BufferedIOBase) -> Iterator[Chunk]:
    """Yields name, start and size of the chunks of a CAF file, of which the last may be cut off.

    What a program wrote to a pipe has no end that is known, and is left out.
    """
    end, place = file.seek(0, os.SEEK_END), CAF_HEAD_BYTES
    while place + CAF_CHUNK_BYTES <= end:
        file.seek(place)
        name, size = file.read(4), int.from_bytes(file.read(8), "big", signed=True)
        if not PRINTABLE.fullmatch(name) or size < 0 or is_unknown(size):
            return
        place += CAF_CHUNK_BYTES
        yield name, place, size
        place += size


def find_chunks(file: io.BufferedIOBase) -> list[Chunk]:
    """Returns name, start of the content and its size of all chunks that are whole."""
    kind, end = kind_of(file), file.seek(0, os.SEEK_END)
    if kind == CAF:
        return [chunk for chunk in caf_chunks(file) if sum(chunk[1:]) <= end]
    if kind not in ORDERS:
        return []
    place, large = HEAD_BYTES, None
    found = []
    while place + 8 <= end:
        file.seek(place)
        name, size = file.read(4), int.from_bytes(file.read(4), ORDERS[kind])
        if kind == b"RF64" and name == b"ds64":
            large = int.from_bytes(file.read(16)[8:], "little")  # of the samples
        if name == b"data" and size == SIZE_ELSEWHERE and large is not None:
            size = large
        # Where a recorder never closed its file, the samples have no size, and follow as if they
        # were chunks.
        unclosed = name == b"data" and size == 0 and place + 8 < end
        if unclosed or not PRINTABLE.fullmatch(name) or place + 8 + size > end:
            break
        found.append((name, place + 8, size))
        place += 8 + size + size % 2
    return found


def chain(chunks: Iterable[tuple[bytes, bytes]], order: str = "little") -> bytes:
    """Returns chunks, each a name and a content, as they stand in a WAV or AIFF file."""
    return b"".join(name + len(inside).to_bytes(4, order) + inside + bytes(len(inside) % 2)
                    for name, inside in chunks)


def append_chunks(path: Path, chunks: list[tuple[bytes, bytes]]) -> None:
    """Adds chunks behind the last one of a complete file, whose size is corrected.

    Args:
        path: The file, which is changed.
        chunks: The name and the content of each.

    Raises:
        UserError: The file would be larger than it can tell; it is left as it is.
        OSError: The disk is full.
    """
    with path.open("r+b") as file:
        kind, end = kind_of(file), file.seek(0, os.SEEK_END)
        if kind == CAF:  # which tells no size of the whole
            # Behind an odd number of bytes of samples libsndfile writes one that no size counts.
            file.seek(max(sum(chunk[1:]) for chunk in find_chunks(file)))
            for name, inside in chunks:
                file.write(name + len(inside).to_bytes(8, "big") + inside)
            return
        order = ORDERS[kind]
        content = bytes(end % 2) + chain(chunks, order)
        size = end + len(content) - 8
        # In RF64, it stands in the chunk ds64, which comes first.
        place, width = (20, 8) if kind == b"RF64" else (4, 4)
        if size > MAX_RIFF_BYTES and width == 4:
            raise UserError("with its tags the file would be larger than its format can tell")
        file.seek(end)
        file.write(content)
        file.seek(place)
        file.write(size.to_bytes(width, order))
