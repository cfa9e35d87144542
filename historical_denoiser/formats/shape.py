"""Writes the shape of a film's pictures into its header.

FFmpeg's muxers of AVI, Matroska and MP4 take it from a field that PyAV 18 cannot set. Start reading
at `keep_shape`.
"""

import io
import re
import zlib
from contextlib import suppress
from pathlib import Path

from mutagen.mp4 import AtomError, Atoms

from historical_denoiser.formats import matroska
from historical_denoiser.formats.chunks import chain, content_of, find_chunks
from historical_denoiser.formats.containers import MP4, Track

MATROSKA_HEAD_BYTES = 2**20  # the list of tracks lies within
# The element Tracks (RFC 9559, 5.1.4), but not its name in the index at the start of the file.
MATROSKA_TRACKS = re.compile(rb"(?<!\x53\xab\x84)\x16\x54\xae\x6b")
# FFmpeg writes StereoMode for a stream with this tag, and DisplayUnit behind it. Both have the
# meaning of no such element, and leave room for DisplayWidth and an empty element.
PLACE_HOLDER = {"stereo_mode": "mono"}
PLACE, WIDTH, VOID = b"\x53\xb8\x81\0\x54\xb2\x81\4", b"\x54\xb0\x82", b"\xec\x81\0"
EBML_CRC = b"\xbf\x84"  # the first element within another: CRC-32 of all that follows


def keep_shape(muxer: str, track: Track, result: Path, widths: list[int]) -> bool:
    """Gives the pictures of a film the shape that the header of its source states.

    Args:
        muxer: FFmpeg's name of the muxer that wrote the result.
        track: A track of the source.
        result: The new film, complete; streams with `PLACE_HOLDER` for Matroska.
        widths: Of each stream of another shape than its coded pictures, the width in pixels at
            which it is shown.

    Returns:
        Whether the result has that shape.
    """
    with track.path.open("rb") as old, result.open("r+b") as new:
        if muxer == "avi":
            return _copy_properties(old, new)
        if track.container == MP4 and track.is_film and muxer in ("mp4", "mov"):
            _copy_sizes(old, new)
        return not widths or muxer not in ("matroska", "webm") or _write_widths(new, widths)


def _copy_sizes(old: io.BufferedIOBase, new: io.BufferedIOBase) -> None:
    """Copies width and height from the track headers (ISO/IEC 14496-12, 8.3.2) of an MP4 file."""
    places = [[], []]
    for file, found in zip((old, new), places, strict=True):
        # FFmpeg reads a damaged source whose headers mutagen cannot: then nothing is copied. The
        # size of an atom may be beyond any place to seek.
        with suppress(AtomError, KeyError, ValueError, OverflowError):
            for track in Atoms(file)[b"moov"].findall(b"trak"):
                header, handler = track[(b"tkhd",)], track[(b"mdia", b"hdlr")]
                file.seek(handler.offset + 16)
                if file.read(4) == b"vide":
                    found.append(header.offset + header.length - 8)  # they come last
    if len(places[0]) == len(places[1]):
        for place, written in zip(*places, strict=True):
            old.seek(place)
            new.seek(written)
            new.write(old.read(8))


def _parts(content: bytes) -> list[tuple[bytes, bytes]]:
    """Returns the chunks (name, content) within the content of a chunk `LIST`."""
    file = io.BytesIO(b"RIFF" + bytes(4) + content)
    return [(chunk[0], content_of(file, chunk)) for chunk in find_chunks(file)]


def _copy_properties(old: io.BufferedIOBase, new: io.BufferedIOBase) -> bool:
    """Copies the chunks `vprp` of an AVI file's streams; they replace a part of its padding."""
    chunks = find_chunks(new)
    end = next((place for place, chunk in enumerate(chunks) if chunk[0] == b"JUNK"), 0)
    (_, header), *others = [(chunk[0], content_of(new, chunk)) for chunk in chunks[: end + 1]]
    sources = [content for chunk in find_chunks(old)[:1] for _, content in
               _parts(content_of(old, chunk)) if content.startswith(b"strl")]
    parts, added = [], 0
    for name, content in _parts(header):
        if content.startswith(b"strl") and sources:
            properties = chain(part for part in _parts(sources.pop(0)) if part[0] == b"vprp")
            content, added = content + properties, added + len(properties)
        parts.append((name, content))
    if sources or not others or added > len(others[-1][1]):
        return not added
    others[-1] = others[-1][0], bytes(len(others[-1][1]) - added)
    new.seek(chunks[0][1] - 8)
    new.write(chain([(b"LIST", header[:4] + chain(parts)), *others]))
    return True


def _write_widths(file: io.BufferedIOBase, widths: list[int]) -> bool:
    """Writes the width of each stream into a Matroska file, where its place holder stands."""
    head = file.read(MATROSKA_HEAD_BYTES)
    if (tracks := MATROSKA_TRACKS.search(head)) is None:
        return False
    start = tracks.end()
    size, digits = matroska.number_at_start(head[start : start + 8], False)
    start += digits
    first, *others = head[start : start + size].split(PLACE)
    if len(others) != len(widths):
        return False
    content = first + b"".join(WIDTH + width.to_bytes(2, "big") + VOID + other
                               for width, other in zip(widths, others, strict=True))
    if content.startswith(EBML_CRC):
        content = EBML_CRC + zlib.crc32(content[6:]).to_bytes(4, "little") + content[6:]
    file.seek(start)
    file.write(content)
    return True
