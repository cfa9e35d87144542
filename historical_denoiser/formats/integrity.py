"""Finds damage that neither libsndfile nor FFmpeg reports: lost pages or ends, unread samples."""

import io
import mmap
import os
import struct

from mutagen import ogg
from mutagen.ogg import OggPage

from historical_denoiser.formats import matroska
from historical_denoiser.formats.audio_io import Recording, promised_bytes
from historical_denoiser.formats.chunks import CAF, all_chunks, kind_of
from historical_denoiser.formats.containers import MP4, Track
from historical_denoiser.formats.links import find_links, find_patches

SAMPLES = {b"data", b"SSND"}  # names of their chunks
MIN_UNREAD_SECONDS = 0.1  # programs may add less than this behind the samples
PADDING_BYTES = 16  # programs may count this much beyond the end of a file
HEAD_BYTES = 4096
# The File Properties Object of an ASF file, and the places of size and flags in it (ASF 3.2).
ASF_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
ASF_SIZE, ASF_FLAGS, ASF_IS_LIVE = slice(40, 48), 88, 1
FLV_HEAD_BYTES, FLV_TIME = 11, 4  # of a tag, and the place of its time in it
MAX_FLV_NUMBER = 2.0**53  # of bytes or seconds; more are damage
MIN_FLV_MISSING_SECONDS = 1.0  # the stated length may be that of the last picture, and rounded
# Kinds of files of which only the first is read where several were joined; and how many bytes at
# the start of each are the same.
NOT_JOINED, START_BYTES = {MP4, "flv", "asf", "tta", "AU", "W64"}, 8
NO_END = "the file has no end: it was cut off, or never closed"


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
    return None if page.last else NO_END


def _unread(recording: Recording) -> str | None:
    """Returns how many samples a file has beyond those of its header, or too few of them."""
    with recording.path.open("rb") as file:
        chunks, is_caf = list(all_chunks(file)), kind_of(file) == CAF
        end, head = file.seek(0, os.SEEK_END), _head(file)
    samples = next((chunk for chunk in chunks if chunk[0] in SAMPLES and chunk[2]), None)
    if samples is None:  # as in AU, SVX and W64; the last one ends in up to 7 bytes of padding
        size = promised_bytes(head)
        missing = 0 if size - end < 8 and head.startswith(b"riff") else size - end
    else:
        size, missing = samples[2], sum(samples[1:]) - end
    if missing > 0:
        # Where a file is not CAF, `header_seconds` is the full length.
        seconds = missing * recording.header_seconds / (max(1, size - missing) if is_caf else size)
        if seconds * recording.rate < 0.99 or not is_caf and seconds > MIN_UNREAD_SECONDS:
            return None  # less than a sample, or much, which is noticed where samples are counted
        return (f"the header promises {size} bytes{' of samples' if samples else ''}, and "
                f"{missing} of them are missing, as many as {seconds:.3f} s of audio")
    if samples is None:
        return None
    rest = end - max(place + size for _, place, size in chunks if place + size <= end)
    seconds = rest * recording.header_seconds / size
    if seconds < MIN_UNREAD_SECONDS:
        return None
    return (f"behind the samples that the header promises, {rest} bytes follow, as many as "
            f"{seconds:.1f} s of audio; they are not read")


def _head(file: io.BufferedIOBase) -> bytes:
    file.seek(0)
    return file.read(HEAD_BYTES)


def _missing_end(track: Track) -> str | None:
    """Returns that a film, or an audio file that FFmpeg reads, is shorter than its header says."""
    with track.path.open("rb") as file:
        size, head = file.seek(0, os.SEEK_END), _head(file)
        if track.container == "flv":
            return _missing_end_of_flv(file, head, size)
    promised = promised_bytes(head)
    if track.container.startswith("matroska"):
        promised = matroska.promised_bytes(head)
    elif track.container == "asf":
        fields = head[head.find(ASF_PROPERTIES) :]
        if len(fields) > ASF_FLAGS and not fields[ASF_FLAGS] & ASF_IS_LIVE:
            promised = int.from_bytes(fields[ASF_SIZE], "little")
    return _missing_bytes(promised, size)


def _missing_bytes(promised: int, size: int) -> str | None:
    if promised <= size + PADDING_BYTES:
        return None
    return f"the header promises a file of {promised} bytes, and it has {size}: it was cut off"


def _missing_end_of_flv(file: io.BufferedIOBase, head: bytes, size: int) -> str | None:
    """Returns that an FLV file is cut off: by its last tag, or the size or length it states."""
    if (told := _missing_bytes(round(_flv_number(head, b"filesize")), size)) is not None:
        return told
    # Behind each tag stands its size, which it also states itself.
    file.seek(size - 4)
    tag_bytes = int.from_bytes(file.read(4), "big")
    file.seek(max(0, size - 4 - tag_bytes))
    tag = file.read(FLV_HEAD_BYTES)
    if int.from_bytes(tag[1:4], "big") + FLV_HEAD_BYTES != tag_bytes:
        return NO_END
    # Milliseconds: three bytes, and behind them the highest one (Video File Format 10, E.4.1).
    seconds = int.from_bytes(tag[FLV_TIME + 3 : FLV_TIME + 4] + tag[FLV_TIME : FLV_TIME + 3]) / 1000
    promised = _flv_number(head, b"duration")
    if promised - seconds < MIN_FLV_MISSING_SECONDS:
        return None
    return f"the header promises {promised:.1f} s, and the file ends after {seconds:.1f} s"


def _flv_number(head: bytes, name: bytes) -> float:
    """Returns a number of an FLV file's first tag, as AMF 0 stores it; 0 if it has none."""
    place = head.find(name + b"\0") + len(name) + 1
    value = head[place : place + 8] if place > len(name) else b""
    number = struct.unpack(">d", value)[0] if len(value) == 8 else 0.0
    return number if 0.0 < number < MAX_FLV_NUMBER else 0.0


def find_damage(recording: Recording) -> str | None:
    """Returns a description of the damage in a readable recording; None if it is whole.

    Raises:
        OSError: It cannot be read.
    """
    if recording.is_mpeg:
        return None  # its `Reader` counts the packets that cannot be decoded
    if recording.container.upper() == "OGG":
        return _ogg_damage(recording)
    if isinstance(recording, Track):
        return _missing_end(recording) or _unread(recording) or _unread_join(recording)
    if len(find_links(recording.path, recording.container)) > 1:
        return None
    if recording.container in ("WAV", "WAVEX") and find_patches(recording.path):
        return NO_END
    return _unread(recording) or _unread_join(recording)


def _unread_join(recording: Recording) -> str | None:
    """Returns where another recording begins, which was joined by writing it behind the first."""
    if recording.container not in NOT_JOINED:
        return None
    with recording.path.open("rb") as file, mmap.mmap(
            file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if recording.container == MP4 and data[4:8] != b"ftyp":
            return None  # boxes of other kinds may be there twice
        place = data.find(data[:START_BYTES], START_BYTES)
    return None if place < 0 else (f"at byte {place} another recording begins, which is not read; "
                                   "split the file there")
