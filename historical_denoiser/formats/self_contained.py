"""A recording is data: nothing in it may make us open another file, or an address in the network.

FFmpeg reads kinds of files that hold names of others: playlists, scripts that join films, films
whose pictures or sound lie elsewhere. Whoever sends such a file would choose what is read on the
computer of whoever denoises it. So FFmpeg gets an open file and may not open any other (`OPTIONS`),
and what would need others is refused here, by one rule for the command line and the page.
"""

from __future__ import annotations

import mmap
import re
from pathlib import Path

from historical_denoiser.core.checks import UserError

# FFmpeg opens only what a protocol on this list reaches, and there is none of that name. External
# tracks of MOV files it would open by a way of its own.
OPTIONS = {"protocol_whitelist": "none", "enable_drefs": "0"}
# FFmpeg's names of the kinds that read other files.
LISTS = frozenset(("concat", "dash", "hls", "imf", "sdp", "vobsub", "webm_dash_manifest"))
# How such files begin, where FFmpeg gives up before it says what they are.
LIST_HEAD = re.compile(rb"\A\W*(EXTM3U|ffconcat version|VobSub index file|v=0\r?\n)|<MPD\b|"
                       rb"<CompositionPlaylist\b")
HEAD_BYTES = 4096
# The box of a QuickTime or MP4 track that says where its samples are (ISO/IEC 14496-12, 8.7.2):
# their number, then for each its size, kind, version and flags, and a name.
REFERENCES = re.compile(rb"dref.{4}\0\0(?P<count>..)", re.DOTALL)
ALIAS = b"alis"
REFERENCE_KINDS = (ALIAS, b"rsrc", b"url ", b"urn ")
REFERENCE_BYTES = 12  # of one without a name
SELF_CONTAINED = 1  # its flag
LARGE_BOX, OPEN_BOX = 1, 0  # sizes that stand for a longer number, and for the rest of the file


def require_no_list(path: Path, kind: str | None = None) -> None:
    """Raises UserError where a file is a list of others.

    Args:
        path: The file.
        kind: FFmpeg's name of what it is; None where FFmpeg could not open it.
    """
    if kind is None:
        with path.open("rb") as file:
            is_list = LIST_HEAD.search(file.read(HEAD_BYTES)) is not None
    else:
        is_list = kind in LISTS
    if is_list:
        raise UserError(f"{path}: a list of other files, not a recording; name those instead")


def require_own_samples(path: Path) -> None:
    """Raises UserError where tracks of a MOV or MP4 file lie in other files.

    FFmpeg leaves out those that it understands, so that a film would lose its pictures, and takes
    bytes of this very file for the rest.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        place, end = 0, len(content)
        while place + 8 <= end:
            size, kind = int.from_bytes(content[place : place + 4], "big"), content[
                place + 4 : place + 8]
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
    """Whether a track of the header between two places has its samples in another file."""
    for box in REFERENCES.finditer(content, start, end):
        place = box.end()
        for _ in range(int.from_bytes(box["count"], "big")):
            size = int.from_bytes(content[place : place + 4], "big")
            if size < REFERENCE_BYTES or content[place + 4 : place + 8] not in REFERENCE_KINDS:
                break  # other data that looks like it
            name = content[place + REFERENCE_BYTES : min(place + size, end)]
            # FFmpeg takes whoever names a file by an alias at his word, whatever the flag says.
            own = content[place + 11] & SELF_CONTAINED and content[place + 4 : place + 8] != ALIAS
            if name.strip(b"\0") and not own:
                return True
            place += size
    return False
