"""Finds what FFmpeg did not write again of the tags, chapters and tracks of a Matroska file.

A file is a tree of elements (RFC 8794), each an identifier, a size and content; RFC 9559 names
them. Start reading at `find_losses`.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

SEGMENT, EDITION, CHAPTER = 0x18538067, 0x45B9, 0xB6
# Elements that hold others: segment, tracks, track, video, chapters, edition, chapter, display of
# a chapter, tags, tag, targets, simple tag.
PARENTS = {SEGMENT, 0x1654AE6B, 0xAE, 0xE0, 0x1043A770, EDITION, CHAPTER, 0x80, 0x1254C367, 0x7373,
           0x63C0, 0x67C8}
NAMES = {EDITION: "editions of chapters", CHAPTER: "nested chapters",
         0x45DD: "the order of chapters", 0x437C: "languages of chapters",
         0x437D: "languages of chapters", 0x22B59D: "languages of tracks",
         0x447A: "languages of tags", 0x447B: "languages of tags", 0x68CA: "targets of tags",
         0x63CA: "targets of tags", 0x54AA: "cropping", 0x54BB: "cropping", 0x54CC: "cropping",
         0x54DD: "cropping"}
# Contents that say no more than the absence of the element: no language, no cropping, an album.
SAYING_NOTHING = {b"und", b"", b"\0", b"MOVIE", b"ALBUM"}
ALBUM = (0x68CA, b"\x32")
MAX_BYTES = 256  # of an element that are compared; a damaged size may be that of the whole film
IETF = {0x437D, 0x22B59D, 0x447B}  # beside the three letters of ISO 639: new is only what follows


def promised_bytes(head: bytes) -> int:
    """Returns the size of a Matroska file by its first bytes; 0 if it was written to a pipe."""
    start = head.find(SEGMENT.to_bytes(4, "big")) + 4
    size, width = number_at_start(head[start : start + 8], False)
    return 0 if size == (1 << 7 * width) - 1 else start + width + size


def find_losses(source: Path, result: Path) -> list[str]:
    """Returns what a Matroska file holds that another one lacks, in words, sorted.

    Raises:
        OSError: A file cannot be read.
    """
    lost = _count(source) - _count(result)
    return sorted({NAMES[kind] for kind, _ in lost})


def _count(path: Path) -> Counter[tuple[int, bytes]]:
    """Counts the elements in `NAMES` of a file, by identifier and content."""
    found, depths = Counter(), Counter()
    for kind, depth, content in _elements(path):
        depths[kind] = depth
        if (kind in NAMES and (kind, content) != ALBUM and content not in SAYING_NOTHING
                and (kind not in IETF or b"-" in content)
                and (kind != CHAPTER or depth > depths[EDITION] + 1)):
            found[kind, content] += 1
    return found


def _elements(path: Path) -> Iterator[tuple[int, int, bytes]]:
    """Yields identifier, depth and content of the elements in `PARENTS` and `NAMES`.

    Those of `PARENTS` have the content `-`. It ends at a cluster of unknown size.
    """
    with path.open("rb") as file:
        ends = [path.stat().st_size]
        while (place := file.tell()) < ends[0]:
            while place >= ends[-1]:
                ends.pop()
            kind = number_at_start(file.read(8), True)
            file.seek(place + kind[1])
            size = number_at_start(file.read(8), False)
            start = place + kind[1] + size[1]
            if not (kind[1] and size[1]):
                return
            file.seek(start)
            is_parent = kind[0] in PARENTS
            if is_parent or kind[0] in NAMES:
                yield kind[0], len(ends), b"-" if is_parent else file.read(min(size[0], MAX_BYTES))
            if is_parent:
                ends.append(min(start + size[0], ends[-1]))
            file.seek(start + (0 if is_parent else size[0]))


def number_at_start(head: bytes, is_kind: bool) -> tuple[int, int]:
    """Returns a number of variable length and its bytes; 0 bytes if it is unknown or damaged."""
    width = 9 - head[0].bit_length() if head and head[0] else 0
    value = int.from_bytes(head[:width], "big")
    return value if is_kind else value & (1 << 7 * width) - 1, width * (len(head) >= width)
