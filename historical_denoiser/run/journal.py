"""Stores the network's output for each segment on disk, so that a killed run can be continued.

A journal has one record per segment: a hash of the network's input, its output, and a hash of the
output. A later run repeats everything except the network, which takes nearly all of the time, so
its results are the same bit for bit in every format. The journal ends before a record that is
incomplete or has another input. Start reading at `Journal`.
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
DIGITS = 16  # digits of hashes in file names

Predict = Callable[[np.ndarray], np.ndarray]


def _hash(content: np.ndarray) -> bytes:
    digest = hashlib.blake2b(repr((content.shape, content.dtype.str)).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(content).data)
    return digest.digest()


def _prefix(result: Path) -> str:
    # Long names are truncated; the hash distinguishes names with the same beginning.
    whole = hashlib.sha256(str(result.name).encode(errors="surrogateescape")).hexdigest()
    return f".{result.name[:MAX_PREFIX]}.{whole[:DIGITS]}."


def remove_journals(result: Path) -> None:
    """Removes all journals of a result that is complete."""
    for path in result.parent.glob(f"{glob.escape(_prefix(result))}*{ENDING}"):
        path.unlink(missing_ok=True)


class Journal:
    """The journal of one result; a context manager.

    Attributes:
        path: The file, a hidden one beside the result.
        replayed: Number of segments taken from the file.
    """

    def __init__(self, result: Path, recording: str, made_with: str) -> None:
        """Opens the journal with these hashes, or starts one.

        Args:
            result: The file that will be written.
            recording: Hash of the recording.
            made_with: Hash of the network and the settings.

        Raises:
            OSError: The file cannot be written.
        """
        key = hashlib.sha256(f"{recording} {made_with}".encode()).hexdigest()[:DIGITS]
        self.path, self.replayed = result.parent / f"{_prefix(result)}{key}{ENDING}", 0
        result.parent.mkdir(parents=True, exist_ok=True)
        self.path.touch()
        self._file = self.path.open("r+b")
        self._at_end = False

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def around(self, predict: Predict) -> Predict:
        """Returns a function like `predict` that takes its results from the journal if possible."""

        def replay(waveforms: np.ndarray) -> np.ndarray:
            digest = _hash(waveforms)
            result = None if self._at_end else self._read(digest)
            if result is None:
                result = np.ascontiguousarray(predict(waveforms), np.float32)
                self._file.write(HEADER.pack(digest, *result.shape, _hash(result)))
                self._file.write(result.data)
                self._file.flush()
            else:
                self.replayed += 1
            return result

        return replay

    def _read(self, input_hash: bytes) -> np.ndarray | None:
        """Returns the output in the next record; truncates the file there if it does not fit."""
        start = self._file.tell()
        head = self._file.read(HEADER.size)
        if len(head) == HEADER.size:
            recorded, channels, samples, digest = HEADER.unpack(head)
            size = 4 * channels * samples
            if recorded == input_hash and start + HEADER.size + size <= self.path.stat().st_size:
                result = np.frombuffer(self._file.read(size), np.float32).reshape(channels, samples)
                if _hash(result) == digest:
                    return result
        self._at_end = True
        self._file.seek(start)
        self._file.truncate()
        return None
