"""Refuses files that would make FFmpeg open other files, or addresses in the network.

Playlists, scripts that join films, and films whose pictures or sound are in other files contain
names of these. Whoever sends such a file could choose what is read on the computer that denoises
it. Therefore FFmpeg gets an open file and may not open any other (`OPTIONS`), and files that refer
to others are refused here, for the command line and the page alike.
"""

from __future__ import annotations

import mmap
import re
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
# The data reference box of a QuickTime or MP4 track (ISO/IEC 14496-12, 8.7.2): the number of
# references, then for each its size, kind, version and flags, and a name.
REFERENCES = re.compile(rb"dref.{4}\0\0(?P<count>..)", re.DOTALL)
ALIAS = b"alis"
REFERENCE_KINDS = (ALIAS, b"rsrc", b"url ", b"urn ")
REFERENCE_BYTES = 12  # without the name
SELF_CONTAINED = 1  # flag of a reference
LARGE_BOX, OPEN_BOX = 1, 0  # sizes that mean: a 64-bit size follows; to the end of the file


def require_no_list(path: Path, kind: str | None = None) -> None:
    """Raises UserError if a file is a list of other files.

    `kind` is FFmpeg's name of its demuxer; None if FFmpeg could not open the file.
    """
    with path.open("rb") as file:
        if not (kind in LISTS or kind is None and LIST_HEAD.search(file.read(HEAD_BYTES))):
            return
    raise UserError(f"{path}: a list of other files, not a recording; name those instead")


def require_own_samples(path: Path) -> None:
    """Raises UserError if tracks of a MOV or MP4 file are stored in other files.

    FFmpeg would leave out some of these tracks, so that a film loses its pictures, and would read
    bytes of this file in place of the others.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        place, end = 0, len(content)
        while place + 8 <= end:
            size = int.from_bytes(content[place : place + 4], "big")
            kind = content[place + 4 : place + 8]
            if size == LARGE_BOX:
                size = int.from_bytes(content[place + 8 : place + 16], "big")
            elif size == OPEN_BOX:
                size = end - place
            if size < 8:  # FFmpeg goes no further either
                return
            if kind == b"moov" and _refers_elsewhere(content, place, min(place + size, end)):
                raise UserError(f"{path}: its pictures or sound lie in other files, which are not "
                                "opened; save it as one self-contained film first")
            place += size


def _refers_elsewhere(content: mmap.mmap, start: int, end: int) -> bool:
    """Whether a data reference between two positions names another file."""
    for box in REFERENCES.finditer(content, start, end):
        place = box.end()
        for _ in range(int.from_bytes(box["count"], "big")):
            size = int.from_bytes(content[place : place + 4], "big")
            if size < REFERENCE_BYTES or content[place + 4 : place + 8] not in REFERENCE_KINDS:
                break  # other data that looks like a reference
            name = content[place + REFERENCE_BYTES : min(place + size, end)]
            # FFmpeg follows an alias with a name, whatever the flag says.
            own = content[place + 11] & SELF_CONTAINED and content[place + 4 : place + 8] != ALIAS
            if name.strip(b"\0") and not own:
                return True
            place += size
    return False
