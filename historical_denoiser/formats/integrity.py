"""Finds damage that libsndfile does not report: lost Ogg pages, samples that are not read."""

from __future__ import annotations

import os

from mutagen import ogg
from mutagen.ogg import OggPage

from historical_denoiser.formats.audio_io import Recording
from historical_denoiser.formats.chunks import CAF, caf_chunks, find_chunks, kind_of
from historical_denoiser.formats.links import find_links

SAMPLES = {b"data", b"SSND"}  # names of their chunks
MIN_UNREAD_SECONDS = 0.1  # programs may add less than this behind the samples


def _ogg_damage(recording: Recording) -> str | None:
    """Returns where the first damaged page of an Ogg file is, or that the last one is missing."""
    size, page = recording.path.stat().st_size, None
    with recording.path.open("rb") as file:
        while (start := file.tell()) < size:
            try:
                page = OggPage(file)
            except (ogg.error, EOFError):
                is_whole = False
            else:
                length = file.tell() - start
                file.seek(start)
                is_whole = page.write() == file.read(length)  # `write` computes the checksum
            if not is_whole:
                return (f"the file is damaged, first at byte {start} of {size}, and what stands "
                        "there is lost")
    return None if page.last else "the file has no end: it was cut off, or never closed"


def _unread(recording: Recording) -> str | None:
    """Returns how many samples a file has beyond those of its header, or too few of them."""
    with recording.path.open("rb") as file:
        # Only CAF files can lack samples here: for others, `header_seconds` is the full length.
        chunks = list(caf_chunks(file)) if kind_of(file) == CAF else find_chunks(file)
        rest = file.seek(0, os.SEEK_END) - sum(chunks[-1][1:]) if chunks else 0
    samples = [size for name, _, size in chunks if name in SAMPLES]
    if not samples or not samples[0]:
        return None
    if rest < 0:
        there = max(1, samples[0] + rest)
        return (f"the header promises {samples[0]} bytes of samples, and {-rest} of them are "
                f"missing, as many as {-rest * recording.header_seconds / there:.1f} s of audio")
    seconds = rest * recording.header_seconds / samples[0]
    if seconds < MIN_UNREAD_SECONDS:
        return None
    return (f"behind the samples that the header promises, {rest} bytes follow, as many as "
            f"{seconds:.1f} s of audio; they are not read")


def find_damage(recording: Recording) -> str | None:
    """Returns a description of the damage in a readable recording; None if it is whole.

    Raises:
        OSError: It cannot be read.
    """
    if recording.is_mpeg:
        return None  # its `Reader` counts the packets that cannot be decoded
    if recording.container == "OGG":
        return _ogg_damage(recording)
    return None if len(find_links(recording.path, recording.container)) > 1 else _unread(recording)
