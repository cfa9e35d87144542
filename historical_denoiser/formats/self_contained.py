"""Refuses files that would make FFmpeg open other files, or addresses in the network.

Playlists, scripts that join films, and films whose pictures or sound are in other files contain
names of these. Whoever sends such a file could choose what is read on the computer that denoises
it. Therefore FFmpeg gets an open file and may not open any other (`OPTIONS`), and files that refer
to others are refused here, for the command line and the page alike.
"""

import mmap
import re
from collections.abc import Iterator
from pathlib import Path

from historical_denoiser.core.checks import UserError

# FFmpeg may use only protocols on this list, and none has this name. The second option is for
# external tracks of MOV files, which FFmpeg opens without a protocol.
OPTIONS = {"protocol_whitelist": "none", "enable_drefs": "0"}
# FFmpeg's names of the demuxers that read other files.
LISTS = frozenset(("concat", "dash", "hls", "imf", "sdp", "vobsub", "webm_dash_manifest"))
# Beginnings of such files, for those that FFmpeg fails to open.
LIST_HEAD = re.compile(rb"\A\W*(EXTM3U|ffconcat version|VobSub index file|v=0\r?\n)|<MPD\b|"
                       rb"<CompositionPlaylist\b")
HEAD_BYTES = 4096
A_LIST = "a list of other files, not a recording; name those instead"
# What else files that cannot be read hold, by their beginnings.
OTHER_KINDS = {name: re.compile(pattern, re.IGNORECASE | re.DOTALL) for name, pattern in {
    "a web page": rb"(\xef\xbb\xbf)?\s*(<!--.*?-->\s*)?<(!doctype html|html|head|body)\b",
    "a PDF document": rb"%PDF",
    "an archive": rb"PK\x03\x04|\x1f\x8b|Rar!|7z\xbc\xaf",
    "a picture": rb"\x89PNG|\xff\xd8\xff|GIF8|BM|II\*\0|MM\0\*|RIFF....WEBP",
    "zeros": rb"\0+\Z",
    "text": rb"([\t\n\r -~]|[\xc2-\xf4][\x80-\xbf]+)+[\xc2-\xf4]?\Z"}.items()}
MP4_STARTS = {b"ftyp", b"mdat", b"moov", b"wide", b"free", b"skip"}  # kinds of the first box
# The data reference box of a QuickTime or MP4 track (ISO/IEC 14496-12, 8.7.2): the number of
# references, then for each its size, kind, version and flags, and a name.
REFERENCES = re.compile(rb"dref.{4}\0\0(?P<count>..)", re.DOTALL)
ALIAS = b"alis"
REFERENCE_KINDS = (ALIAS, b"rsrc", b"url ", b"urn ")
REFERENCE_BYTES = 12  # without the name
SELF_CONTAINED = 1  # flag of a reference
LARGE_BOX, OPEN_BOX = 1, 0  # sizes that mean: a 64-bit size follows; to the end of the file


def require_no_list(path: Path, kind: str) -> None:
    """Raises UserError if a file is a list of other files; `kind` is FFmpeg's demuxer."""
    if kind in LISTS:
        raise UserError(f"{path}: {A_LIST}")


def refuse_other_kinds(path: Path) -> None:
    """Raises UserError if a file that FFmpeg cannot read is known not to be sound, or cut off."""
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    if LIST_HEAD.search(head):
        raise UserError(f"{path}: {A_LIST}")
    for kind, pattern in OTHER_KINDS.items():
        if pattern.match(head):
            raise UserError(f"{path}: holds {kind}, not sound")
    if head[4:8] in MP4_STARTS and not any(
            kind == b"moov" and stop <= path.stat().st_size for kind, _, stop in _boxes(path)):
        raise UserError(f"{path}: an MP4 or MOV file without its index (`moov`), or with a part of "
                        "it: it was cut off, or never closed")


def require_own_samples(path: Path) -> None:
    """Raises UserError if tracks of a MOV or MP4 file are stored in other files.

    FFmpeg would leave out some of these tracks, so that a film loses its pictures, and would read
    bytes of this file in place of the others.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        if any(kind == b"moov" and _refers_elsewhere(content, start, min(stop, len(content)))
               for kind, start, stop in _boxes(path)):
            raise UserError(f"{path}: its pictures or sound lie in other files, which are not "
                            "opened; save it as one self-contained film first")


def _boxes(path: Path) -> Iterator[tuple[bytes, int, int]]:
    """Yields kind, start and end of each box of an MP4 file; the last one may be cut off."""
    place, end = 0, path.stat().st_size
    with path.open("rb") as file:
        while place + 8 <= end:
            file.seek(place)
            size, kind = int.from_bytes(file.read(4), "big"), file.read(4)
            if size == LARGE_BOX:
                size = int.from_bytes(file.read(8), "big")
            elif size == OPEN_BOX:
                size = end - place
            if size < 8:  # FFmpeg goes no further either
                return
            yield kind, place, place + size
            place += size


def _refers_elsewhere(content: mmap.mmap, start: int, end: int) -> bool:
    """Whether a data reference between two positions names another file."""
    for box in REFERENCES.finditer(content, start, end):
        place = box.end()
        for _ in range(int.from_bytes(box["count"], "big")):
            size = int.from_bytes(content[place : place + 4], "big")
            if (size < REFERENCE_BYTES or place + REFERENCE_BYTES > end
                    or content[place + 4 : place + 8] not in REFERENCE_KINDS):
                break  # cut off, or other data that looks like a reference
            name = content[place + REFERENCE_BYTES : min(place + size, end)]
            # FFmpeg follows an alias with a name, whatever the flag says.
            own = content[place + 11] & SELF_CONTAINED and content[place + 4 : place + 8] != ALIAS
            if name.strip(b"\0") and not own:
                return True
            place += size
    return False
