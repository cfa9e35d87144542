"""Adds to a WAV file what archives look for in it: where the original is, and a checksum."""

import hashlib
import io
from pathlib import Path

from historical_denoiser.core.checks import UserError
from historical_denoiser.formats import chunks

LIST, INFO, LOCATION, MD5, FILLER = b"LIST", b"INFO", b"IARL", b"MD5 ", b"JUNK"
PIECE_BYTES = 2**20


def add_for_archive(path: Path, location: str | None, md5: bool) -> None:
    """Adds the archival location and the checksum of the samples to a WAV or RF64 file.

    Args:
        path: The complete file, which is changed.
        location: Text of the entry `IARL` in the chunk `LIST INFO`; None to leave it as it is.
        md5: Whether the chunk `MD5 ` is added: the MD5 of the content of the chunk `data`, as by
            BWF MetaEdit, which stores it as a number of 128 bits, its lowest byte first.

    Raises:
        UserError: The file is not a WAV file, or would be larger than its format allows.
        OSError: The disk is full.
    """
    with path.open("rb") as file:
        if chunks.ORDERS.get(chunks.kind_of(file)) != "little":
            raise UserError("only WAV files hold an archival location and an MD5 of their samples")
        found = chunks.find_chunks(file)
        old = next((chunk for chunk in found
                    if chunk[0] == LIST and chunks.content_of(file, chunk)[:4] == INFO), None)
        texts = chunks.content_of(file, old) if old else INFO
        # The chunks of a file without samples end before the chunk of samples.
        data = next((chunk for chunk in found if chunk[0] == b"data"), (b"data", 0, 0))
        digest = _digest(file, data) if md5 else b""
    added = [(LIST, with_text(texts, LOCATION, location))] if location is not None else []
    added += [(MD5, digest[::-1])] if md5 else []
    chunks.append_chunks(path, added)
    if old and location is not None:  # the old list becomes filler, where it stands
        with path.open("r+b") as file:
            file.seek(old[1] - 8)
            file.write(FILLER)


def with_text(info: bytes, key: bytes, text: str, joined: bool = False) -> bytes:
    """Returns the content of a list chunk `INFO` with a text in it.

    Args:
        info: Its content, from `INFO`.
        key: Name of the text, such as `ICMT`.
        text: The text.
        joined: Whether a text of that name is kept before it, with `; ` between; else it is
            replaced.
    """
    parts, place, done = [], 4, False
    while place + 8 <= len(info):
        name, size = info[place : place + 4], int.from_bytes(info[place + 4 : place + 8], "little")
        inside = info[place + 8 : place + 8 + size]
        if name == key and not done:
            before = inside.rstrip(b"\0") + b"; " if joined else b""
            inside, done = before + text.encode(errors="replace") + b"\0", True
        parts.append((name, inside))
        place += 8 + size + size % 2
    if not done:
        parts.append((key, text.encode(errors="replace") + b"\0"))
    return INFO + chunks.chain(parts)


def _digest(file: io.BufferedIOBase, chunk: chunks.Chunk) -> bytes:
    """Returns the MD5 of the content of a chunk."""
    digest = hashlib.md5(usedforsecurity=False)
    _, start, left = chunk
    file.seek(start)
    while left > 0 and (piece := file.read(min(PIECE_BYTES, left))):
        digest.update(piece)
        left -= len(piece)
    return digest.digest()
