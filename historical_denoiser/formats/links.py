"""Recordings that were joined by writing one file behind the other.

Programs that were made for one recording a file, as libsndfile is, read the first link alone: of a
chained Ogg file, and of FLAC or WAV files that were joined. Start reading at `find_links`.
"""

import io
import mmap
import re
from pathlib import Path

from mutagen import ogg
from mutagen.ogg import OggPage

# A FLAC file begins with its name and a block of 34 bytes, which may be the last block of metadata.
FLAC_START = re.compile(rb"fLaC[\x00\x80]\x00\x00\x22")
RIFF_KINDS = (b"RIFF", b"WAVE")


def is_bw64(path: Path) -> bool:
    """Whether a file is BW64: RF64 by another name (ITU-R BS.2088)."""
    with path.open("rb") as file:
        return file.read(4) == b"BW64"


class Section(io.RawIOBase):
    """The bytes of a file from `start` to before `stop`, as a file of their own.

    A file BW64 gets the name RF64, the only one that libsndfile knows.
    """

    def __init__(self, path: Path, start: int, stop: int) -> None:
        self._file, self._start, self._size = path.open("rb"), start, stop - start
        self._head = b"RF64" if is_bw64(path) else b""
        self.seek(0)

    def readable(self) -> bool:
        """Returns True: it can be read."""
        return True

    def seekable(self) -> bool:
        """Returns True: any place can be read."""
        return True

    def tell(self) -> int:
        """Returns the place from the start of the section."""
        return self._file.tell() - self._start

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Goes to a place, counted from the start of the section; returns it."""
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self.tell(), io.SEEK_END: self._size}[whence]
        return self._file.seek(self._start + max(0, origin + offset)) - self._start

    def readinto(self, buffer: bytearray | memoryview) -> int:
        """Fills a buffer; returns how many bytes were left."""
        head = self._head[self.tell():]
        data = self._file.read(min(len(buffer), max(0, self._size - self.tell())))
        data = (head + data[len(head):])[:len(data)]
        buffer[:len(data)] = data
        return len(data)

    def close(self) -> None:
        """Closes the file."""
        self._file.close()
        super().close()


def find_links(path: Path, container: str) -> list[tuple[int, int]]:
    """Finds the recordings that stand one behind the other in a file.

    Args:
        path: The file.
        container: libsndfile's name of the kind of file.

    Returns:
        First byte and end of each recording; one element if the file is no such file.

    Raises:
        OSError: The file cannot be read.
    """
    starts = {"OGG": _ogg_starts, "FLAC": _flac_starts, "WAV": _wav_starts,
              "WAVEX": _wav_starts}.get(container, lambda _: [])(path)
    return list(zip([0, *starts], [*starts, path.stat().st_size], strict=True))


def _ogg_starts(path: Path) -> list[int]:
    """Returns where links begin: streams that start after the data of others has come."""
    starts, in_header = [], True
    with path.open("rb") as file:
        while True:
            place = file.tell()
            try:
                page = OggPage(file)
            except (ogg.error, EOFError):  # damaged, which `integrity` reports, or at its end
                return starts
            if page.first and not in_header:
                starts.append(place)
            in_header = page.first


def _flac_starts(path: Path) -> list[int]:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        # The first match is the file's own start, behind which there may also be an ID3 tag.
        return [match.start() for match in FLAC_START.finditer(data)][1:]


def _wav_starts(path: Path) -> list[int]:
    starts, place = [], 0
    with path.open("rb") as file:
        while True:
            file.seek(place)
            head = file.read(12)
            if (head[:4], head[8:]) != RIFF_KINDS:
                return starts
            if place:
                starts.append(place)
            place += 8 + int.from_bytes(head[4:8], "little")
            place += place % 2
