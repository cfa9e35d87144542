"""What the network returned so far for a recording, on disk: a run that was killed goes on there.

A journal holds one record for each segment: a hash of what the network heard, what it returned,
and a hash of that. A later run does everything again but for the network, which takes nearly all
of the time; so its result is the same bit for bit, whatever the format. A record that is not whole,
or is of something else, ends the journal.
"""

from __future__ import annotations

import glob
import hashlib
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np

from historical_denoiser.core.files import MAX_PREFIX

HEADER = struct.Struct("<16sQQ16s")  # hash of the input, channels, samples, hash of the output
ENDING = ".resume"
DIGITS = 16  # of hashes in names

Predict = Callable[[np.ndarray], np.ndarray]


def _hash(content: np.ndarray) -> bytes:
    digest = hashlib.blake2b(repr((content.shape, content.dtype.str)).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(content))
    return digest.digest()


def _prefix(result: Path) -> str:
    # Long names are cut off; the hash tells those apart that start alike.
    whole = hashlib.sha256(str(result.name).encode(errors="surrogateescape")).hexdigest()
    return f".{result.name[:MAX_PREFIX]}.{whole[:DIGITS]}."


def _place(result: Path, recording: str, made_with: str) -> Path:
    key = hashlib.sha256(f"{recording} {made_with}".encode()).hexdigest()[:DIGITS]
    return result.parent / f"{_prefix(result)}{key}{ENDING}"


def has_journal(result: Path, recording: str, made_with: str) -> bool:
    """Returns whether a run that was killed left a journal; args are those of `Journal`."""
    return _place(result, recording, made_with).is_file()


def remove_journals(result: Path) -> None:
    """Removes all journals of a result, which is complete."""
    for path in result.parent.glob(f"{glob.escape(_prefix(result))}*{ENDING}"):
        path.unlink(missing_ok=True)


class Journal:
    """The journal of one result, for one network; a context manager.

    Attributes:
        path: The file, beside the result; its name starts with a dot.
        replayed: How many segments came from the file.
    """

    def __init__(self, result: Path, recording: str, made_with: str) -> None:
        """Opens a journal, or starts one. Only what has the same hashes is used.

        Args:
            result: What will be made.
            recording: Hash of the recording.
            made_with: Hash of what tells network and settings.

        Raises:
            OSError: The file cannot be written.
        """
        self.path, self.replayed = _place(result, recording, made_with), 0
        result.parent.mkdir(parents=True, exist_ok=True)
        self.path.touch()
        self._file = self.path.open("r+b")
        self._at_end = False

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def around(self, predict: Predict) -> Predict:
        """Returns a function that takes what `predict` returns from the journal while it can."""

        def replay(waveforms: np.ndarray) -> np.ndarray:
            heard = _hash(waveforms)
            result = None if self._at_end else self._read(heard)
            if result is None:
                result = np.ascontiguousarray(predict(waveforms), np.float32)
                self._file.write(HEADER.pack(heard, *result.shape, _hash(result)))
                self._file.write(result)
                self._file.flush()
            else:
                self.replayed += 1
            return result

        return replay

    def _read(self, heard: bytes) -> np.ndarray | None:
        """Returns the next record; where it is not what is needed, the file ends before it."""
        start = self._file.tell()
        head = self._file.read(HEADER.size)
        if len(head) == HEADER.size:
            of, channels, samples, digest = HEADER.unpack(head)
            size = 4 * channels * samples
            if of == heard and start + HEADER.size + size <= self.path.stat().st_size:
                result = np.frombuffer(self._file.read(size), np.float32).reshape(channels, samples)
                if _hash(result) == digest:
                    return result
        self._at_end = True
        self._file.seek(start)
        self._file.truncate()
        return None
