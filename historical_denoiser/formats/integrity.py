"""Finds damage that libsndfile does not report: lost Ogg pages, samples that are not read."""

import os

from mutagen import ogg
from mutagen.ogg import OggPage

from historical_denoiser.formats.audio_io import Recording
from historical_denoiser.formats.chunks import CAF, all_chunks, kind_of
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
        chunks, is_caf = list(all_chunks(file)), kind_of(file) == CAF
        end = file.seek(0, os.SEEK_END)
    samples = next((chunk for chunk in chunks if chunk[0] in SAMPLES and chunk[2]), None)
    if samples is None:
        return None
    size, missing = samples[2], sum(samples[1:]) - end
    if missing > 0:
        # Where a file is not CAF, `header_seconds` is the full length.
        seconds = missing * recording.header_seconds / (max(1, size - missing) if is_caf else size)
        if seconds * recording.rate < 0.99 or not is_caf and seconds > MIN_UNREAD_SECONDS:
            return None  # less than a sample, or much, which is noticed where samples are counted
        return (f"the header promises {size} bytes of samples, and {missing} of them are "
                f"missing, as many as {seconds:.3f} s of audio")
    rest = end - max(place + size for _, place, size in chunks if place + size <= end)
    seconds = rest * recording.header_seconds / size
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
