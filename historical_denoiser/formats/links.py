"""Recordings that were joined by writing one file behind the other.

Programs that were made for one recording a file, as libsndfile is, read the first link alone: of a
chained Ogg file, and of FLAC or WAV files that were joined. Start reading at `find_links`.
"""

import io
import mmap
import os
import re
from pathlib import Path

from mutagen import ogg
from mutagen.ogg import OggPage

# A FLAC file begins with its name and a block of 34 bytes, which may be the last block of metadata.
FLAC_START = re.compile(rb"fLaC[\x00\x80]\x00\x00\x22")
RIFF_KINDS = (b"RIFF", b"WAVE")
MAX_WAV_BYTES = 2**32 - 2**16  # sizes in a WAV file are 32-bit; the rest is left for the header


def find_patches(path: Path) -> dict[int, bytes]:
    """Returns what libsndfile must read in place of some bytes of a file, by their places.

    BW64 is RF64 by another name (ITU-R BS.2088), which it does not know. In a WAV file that was
    never closed, the size of the samples is 0: these reach to the end of the file.
    """
    with path.open("rb") as file:
        head = file.read(12)
        if head[:4] == b"BW64":
            return {0: b"RF64"}
        end, place = file.seek(0, os.SEEK_END), 12
        while (head[:4], head[8:]) == RIFF_KINDS and place + 8 <= end:
            file.seek(place)
            name, size = file.read(4), int.from_bytes(file.read(4), "little")
            if name == b"data":
                rest, following = end - place - 8, file.read(8)
                is_chunk = following[:4].isalpha() and int.from_bytes(
                    following[4:], "little") <= rest  # behind a recording of nothing
                if size or is_chunk or not 0 < rest < MAX_WAV_BYTES:
                    break
                return {place + 4: rest.to_bytes(4, "little")}
            place += 8 + size + size % 2
    return {}


class Section(io.RawIOBase):
    """The bytes of a file from `start` to before `stop`, as a file of their own, with patches."""

    def __init__(self, path: Path, start: int, stop: int) -> None:
        self._file, self._start, self._size = path.open("rb"), start, stop - start
        self._patches = find_patches(path)
        self.seek(0)

    def tell(self) -> int:
        """Returns the place from the start of the section."""
        return self._file.tell() - self._start

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Goes to a place, counted from the start of the section; returns it."""
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self.tell(), io.SEEK_END: self._size}[whence]
        return self._file.seek(self._start + max(0, origin + offset)) - self._start

    def readinto(self, buffer: bytearray | memoryview) -> int:
        """Fills a buffer; returns how many bytes were left."""
        begin = self._file.tell()
        data = bytearray(self._file.read(min(len(buffer), max(0, self._size - self.tell()))))
        for place, patch in self._patches.items():
            for at, byte in enumerate(patch, start=place - begin):
                if 0 <= at < len(data):
                    data[at] = byte
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
