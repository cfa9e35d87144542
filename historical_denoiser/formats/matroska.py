"""The shape of pictures in Matroska files, which PyAV cannot write.

A Matroska file is a tree of elements: an identifier, a size, then that many bytes, of content or of
further elements. Identifiers and sizes are as long as the first byte's leading zeros and one more
bit (RFC 8794, sections 4 and 5; the names of elements are those of RFC 9559).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

SEGMENT, TRACKS, TRACK_ENTRY = b"\x18\x53\x80\x67", b"\x16\x54\xae\x6b", b"\xae"
CLUSTER, TRACK_TYPE, VIDEO = b"\x1f\x43\xb6\x75", b"\x83", b"\xe0"
DISPLAY_UNIT, DISPLAY_WIDTH, DISPLAY_HEIGHT = b"\x54\xb2", b"\x54\xb0", b"\x54\xba"
VIDEO_TYPE = b"\x01"
HEADER_BYTES = 2**24  # of a file in which its tracks are looked for


def _length(first: int) -> int:
    """Returns how many bytes an identifier or size has, by its first byte."""
    return 9 - first.bit_length()


def _elements(content: bytes, start: int, end: int) -> Iterator[tuple[bytes, int, int, int]]:
    """Yields identifier, start, start of the content and end of each element in a stretch."""
    while start < end and content[start]:
        identifier = content[start : start + _length(content[start])]
        place = start + len(identifier)
        if place >= len(content) or not content[place]:
            return
        width = _length(content[place])
        size = int.from_bytes(content[place : place + width], "big") - (1 << 7 * width)
        inside = place + width
        last = end if size == (1 << 7 * width) - 1 else inside + size  # all ones: to the end
        yield identifier, start, inside, last
        start = last


def _sized(identifier: bytes, content: bytes, width: int) -> bytes:
    """Returns an element whose size takes `width` bytes."""
    return identifier + ((1 << 7 * width) + len(content)).to_bytes(width, "big") + content


def set_display_sizes(path: Path, sizes: list[tuple[int, int] | None]) -> bool:
    """Tells the width and height at which the pictures of a film are shown.

    The file must come from FFmpeg, without checksums: that writes eight bytes for the size of a
    track's entry where two are enough, and in place of the shape that it is not known. So there is
    room, and nothing else moves.

    Args:
        path: The file, which is changed.
        sizes: For each track of pictures, in order, width and height; None leaves it alone.

    Returns:
        Whether there was room in all.
    """
    with path.open("r+b") as file:
        content = file.read(HEADER_BYTES)
        entries = []
        for segment, _, begin, _ in _elements(content, 0, len(content)):
            for identifier, _, inside, last in (
                    _elements(content, begin, len(content)) if segment == SEGMENT else ()):
                if identifier == TRACKS:
                    entries = [entry for entry in _elements(content, inside, last)
                               if entry[0] == TRACK_ENTRY]
                if identifier in (TRACKS, CLUSTER):
                    break
        pictures = []
        for _, start, inside, last in entries:
            parts = list(_elements(content, inside, last))
            if any(part[0] == TRACK_TYPE and content[part[2] : part[3]] == VIDEO_TYPE
                   for part in parts):
                pictures.append((start, last, parts))
        if len(pictures) != len(sizes):
            return False
        written = True
        for (start, last, parts), size in zip(pictures, sizes, strict=True):
            if size is None:
                continue
            shown = b"".join(_sized(identifier, value.to_bytes(2, "big"), 1)
                             for identifier, value in zip((DISPLAY_WIDTH, DISPLAY_HEIGHT), size,
                                                          strict=True))
            entry = b""
            for identifier, begin, inside, end in parts:
                part = content[begin:end]
                if identifier == VIDEO:
                    inner = b"".join(content[first:final] for name, first, _, final
                                     in _elements(content, inside, end) if name != DISPLAY_UNIT)
                    part = _sized(VIDEO, inner + shown, inside - begin - 1)
                entry += part
            new = _sized(TRACK_ENTRY, entry, 2)
            if len(new) != last - start:
                written = False
                continue
            file.seek(start)
            file.write(new)
    return written
