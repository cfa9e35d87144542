"""Finds and adds chunks, each with a name and a size, in WAV, RF64, AIFF and CAF files."""

import io
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from historical_denoiser.core.checks import UserError
from historical_denoiser.formats.audio_io import is_unknown

MAX_RIFF_BYTES = 2**32 - 1
SIZE_ELSEWHERE = 2**32 - 1  # in RF64: the 64-bit size is in the chunk ds64
PRINTABLE = re.compile(rb"[ -~]{4}")  # names of chunks
HEAD_BYTES = 12  # before the first chunk
# Byte order of the sizes, by a file's first four bytes. Wave64 is left out: libsndfile takes chunks
# behind its samples for samples.
ORDERS = {b"RIFF": "little", b"RF64": "little", b"FORM": "big"}
CAF, CAF_HEAD_BYTES = b"caff", 8

Chunk = tuple[bytes, int, int]  # name, start of the content, size


def kind_of(file: io.BufferedIOBase) -> bytes:
    """Returns the first four bytes of a file; BW64 is RF64 by another name (ITU-R BS.2088)."""
    file.seek(0)
    kind = file.read(4)
    return b"RF64" if kind == b"BW64" else kind


def content_of(file: io.BufferedIOBase, chunk: Chunk) -> bytes:
    """Returns the content of a chunk."""
    file.seek(chunk[1])
    return file.read(chunk[2])


def all_chunks(file: io.BufferedIOBase) -> Iterator[Chunk]:
    """Yields the chunks of a file; the last one may be truncated.

    A chunk of unknown size, from a program that wrote to a pipe, is left out.
    """
    kind, end = kind_of(file), file.seek(0, os.SEEK_END)
    place, width, order = ((CAF_HEAD_BYTES, 8, "big") if kind == CAF else
                           (HEAD_BYTES, 4, ORDERS.get(kind, "")))
    large = None
    while order and place + 4 + width <= end:
        file.seek(place)
        name, size = file.read(4), int.from_bytes(file.read(width), order, signed=kind == CAF)
        place += 4 + width
        if kind == b"RF64" and name == b"ds64":
            large = int.from_bytes(file.read(16)[8:], "little")  # size of the samples
        if name == b"data" and size == SIZE_ELSEWHERE and large is not None:
            size = large
        # If a recorder never closed its file, the size of the samples is 0, and the samples
        # themselves must not be read as chunks.
        unclosed = name == b"data" and size == 0 and place < end
        # A name of a file begins the next one, where several were joined.
        if (unclosed or not PRINTABLE.fullmatch(name) or name in ORDERS or size < 0
                or place + size > end and is_unknown(size)):
            return
        yield name, place, size
        place += size
        if size % 2 and kind != CAF:
            file.seek(place)  # some programs leave out the padding
            place += not PRINTABLE.fullmatch(file.read(4))


def find_chunks(file: io.BufferedIOBase) -> list[Chunk]:
    """Returns all complete chunks."""
    found = list(all_chunks(file))
    return [chunk for chunk in found if sum(chunk[1:]) <= file.seek(0, os.SEEK_END)]


def chain(chunks: Iterable[tuple[bytes, bytes]], order: str = "little") -> bytes:
    """Returns the bytes of chunks (name, content) in a WAV or AIFF file."""
    return b"".join(name + len(inside).to_bytes(4, order) + inside + bytes(len(inside) % 2)
                    for name, inside in chunks)


def append_chunks(path: Path, chunks: list[tuple[bytes, bytes]]) -> None:
    """Adds chunks (name, content) at the end of a complete file, and updates its size.

    Raises:
        UserError: The file would exceed 32-bit sizes; it is left unchanged.
        OSError: The disk is full.
    """
    with path.open("r+b") as file:
        kind, end = kind_of(file), file.seek(0, os.SEEK_END)
        if kind == CAF:  # has no field for the size of the file
            # libsndfile pads an odd number of bytes of samples with one that no size includes.
            file.seek(max(sum(chunk[1:]) for chunk in find_chunks(file)))
            for name, inside in chunks:
                file.write(name + len(inside).to_bytes(8, "big") + inside)
            return
        order = ORDERS[kind]
        content = bytes(end % 2) + chain(chunks, order)
        size = end + len(content) - 8
        # RF64 stores it in the chunk ds64, which comes first.
        place, width = (20, 8) if kind == b"RF64" else (4, 4)
        if size > MAX_RIFF_BYTES and width == 4:
            raise UserError("with its tags the file would be larger than its format allows")
        file.seek(end)
        file.write(content)
        file.seek(place)
        file.write(size.to_bytes(width, order))
