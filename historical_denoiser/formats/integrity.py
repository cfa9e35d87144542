"""Damage that decoders pass over in silence: pages and frames that are lost, sound left unread."""

from __future__ import annotations

import io
import os
import zlib
from pathlib import Path

from historical_denoiser.formats.audio_io import Recording
from historical_denoiser.formats.chunks import CAF, caf_chunks, find_chunks
from historical_denoiser.formats.mpeg import count_frames

# A page of Ogg (RFC 3533, 6): its head, whose last byte counts the lengths that follow.
CAPTURE, HEAD_BYTES, CRC = b"OggS", 27, slice(22, 26)
LAST_PAGE = 4  # a flag in byte 5
LARGEST_PAGE = HEAD_BYTES + 255 + 255 * 255
REVERSED_BITS = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
ALL_BITS = 2**32 - 1
SAMPLES = {b"data", b"SSND"}  # the chunks that hold them
UNREAD_SECONDS = 0.1  # less behind the samples is what some program put there
AU_ORDERS = {b".snd": "big", b"dns.": "little"}  # of numbers, by the first four bytes
AU_HEAD_BYTES = 12  # as many as tell where the samples start, and their size


def page_crc(page: bytes) -> int:
    """Returns Ogg's checksum of a page in which it is zero: zlib's, the bits in the other order."""
    backwards = zlib.crc32(page.translate(REVERSED_BITS), ALL_BITS) ^ ALL_BITS
    return int(f"{backwards:032b}"[::-1], 2)


def _ogg_damage(path: Path) -> str | None:
    """Returns what is wrong with the pages of an Ogg file."""
    damaged = position = 0
    is_last, is_whole = False, True
    with path.open("rb") as file:
        while head := file.read(LARGEST_PAGE):
            size = HEAD_BYTES + (head[26] if len(head) >= HEAD_BYTES else 0)
            size += sum(head[HEAD_BYTES:size])
            page = head[:size]
            if (len(page) == size and page[:4] == CAPTURE and page_crc(
                    page[: CRC.start] + bytes(4) + page[CRC.stop :])
                    == int.from_bytes(page[CRC], "little")):
                is_last, is_whole = bool(page[5] & LAST_PAGE), True
                position += size
            else:
                damaged += is_whole  # once for all that lies before the next page
                is_whole = False
                following = head.find(CAPTURE, 1)
                # The mark of the next page may be cut in two by the end of what was read.
                position += following if following > 0 else max(1, len(head) - 3)
            file.seek(position)
    if damaged:
        return f"the file is damaged in {damaged} places, and what stands there is lost"
    return None if is_last else "the file has no end: it was cut off, or never closed"


def _mpeg_damage(path: Path) -> str | None:
    """Returns what is wrong with the frames of an MP3 file or its like."""
    frames = count_frames(path)
    if frames is None or not frames.damaged_places:
        return None
    return (f"the file is damaged in {frames.damaged_places} places, the first after "
            f"{frames.first_damage_seconds:.1f} s, and about {frames.lost_seconds:.1f} s in all "
            "are lost there")


def _chunks(file: io.BufferedIOBase) -> list[tuple[bytes, int, int]]:
    """Returns name, start and size of the parts of a file; the last one may be cut off."""
    head = file.read(AU_HEAD_BYTES)
    if (order := AU_ORDERS.get(head[:4])) is not None:
        start, size = (int.from_bytes(head[place : place + 4], order) for place in (4, 8))
        # One that is too large is told as the length that the header promises.
        return [(b"data", start, size)] if start + size <= file.seek(0, os.SEEK_END) else []
    return list(caf_chunks(file)) if head[:4] == CAF else find_chunks(file)


def _unread(recording: Recording) -> str | None:
    """Returns how much of a file its header leaves out, or promises and does not hold."""
    with recording.path.open("rb") as file:
        chunks = _chunks(file)
        rest = file.seek(0, os.SEEK_END) - sum(chunks[-1][1:]) if chunks else 0
    samples = [size for name, _, size in chunks if name in SAMPLES]
    if not samples or not samples[0]:
        return None
    if rest < 0:
        there = max(1, samples[0] + rest)
        return (f"the header tells of {samples[0]} bytes of samples, and {-rest} of them are "
                f"missing, as many as {-rest * recording.header_seconds / there:.1f} s of audio")
    seconds = rest * recording.header_seconds / samples[0]
    if seconds < UNREAD_SECONDS:
        return None
    return (f"behind the samples that the header tells of, {rest} bytes follow, as many as "
            f"{seconds:.1f} s of audio; they are not read")


def find_damage(recording: Recording) -> str | None:
    """Returns what is wrong with a recording that can be read nevertheless; None if nothing.

    Raises:
        OSError: It cannot be read.
    """
    if recording.container == "OGG":
        return _ogg_damage(recording.path)
    if recording.is_mpeg:
        return _mpeg_damage(recording.path)
    return _unread(recording)
