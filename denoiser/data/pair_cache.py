"""Clean segments and noises that training mixtures are made of, kept on disk."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from denoiser.data.settings import CATEGORIES

logger = logging.getLogger(__name__)

SPARED_BYTES = 2**30  # that a cache leaves free for checkpoints
AUDIO_NAME, NOTES_NAME = "audio.i16", "notes"
LARGEST = np.iinfo(np.int16).max
NOTE = np.dtype([("made", "u1"), ("category", "u1"), ("noise", "u1"), ("follows", "u1"),
                 ("scales", "<f4", 2)])  # of clean segment and noise: from int16 to float32


@dataclass(frozen=True)
class SourcePair:
    """A clean segment and the noise that was drawn with it, before they are mixed."""

    clean: np.ndarray  # (samples,), float32
    noise: np.ndarray  # (samples,), float32, of a power of 1; zeros where there is none
    category: str
    noise_name: str
    follows: bool = False  # the noise follows this very signal: the two stay together


class PairCache:
    """Pairs of training mixtures, made when first asked for and kept on disk as int16.

    Reading, decoding, filtering and generating are done once; what is left of making a mixture is
    adding two arrays. As any clean segment meets any noise at any SNR, few pairs go far: N of them
    make N * N mixtures.

    Args:
        folder: Where they lie; its name stands for all settings that they depend on.
        count: How many there are.
        samples: Length of each.
        noise_names: Every name that a noise can have, in a fixed order.
        make: Makes pair `number`, the same at each call.

    Raises:
        OSError: The folder cannot be written or the disk is too small.
    """

    def __init__(self, folder: Path, count: int, samples: int, noise_names: list[str],
                 make: Callable[[int], SourcePair]) -> None:
        self.folder, self.make, self.noise_names = folder, make, noise_names
        folder.mkdir(parents=True, exist_ok=True)
        _reserve(folder / AUDIO_NAME, count * 2 * samples * 2)
        _reserve(folder / NOTES_NAME, count * NOTE.itemsize)
        self.audio = np.memmap(folder / AUDIO_NAME, "<i2", "r+", shape=(count, 2, samples))
        self.notes = np.memmap(folder / NOTES_NAME, NOTE, "r+", shape=(count,))
        logger.info("a cache of %d clean segments and noises, %.1f GB, in %s; %d are there", count,
                    self.audio.nbytes / 1e9, folder, int(self.notes["made"].sum()))

    def __len__(self) -> int:
        return len(self.audio)

    def __reduce__(self) -> tuple[type[PairCache], tuple[Any, ...]]:
        # A loader's process maps the same files; pickling the maps would copy them.
        return PairCache, (self.folder, len(self), self.audio.shape[-1], self.noise_names,
                           self.make)

    def __getitem__(self, number: int) -> SourcePair:
        # After a power cut the note of a pair may be there without its sound.
        if not self.notes[number]["made"] or not self.audio[number, 0].any():
            self._store(number, self.make(number))
        _, category, noise, follows, scales = self.notes[number].item()
        clean, added = (np.multiply(audio, np.float32(scale), dtype=np.float32)
                        for audio, scale in zip(self.audio[number], scales, strict=True))
        return SourcePair(clean, added, CATEGORIES[category], self.noise_names[noise],
                          bool(follows))

    def _store(self, number: int, pair: SourcePair) -> None:
        note = self.notes[number]
        for place, audio in enumerate((pair.clean, pair.noise)):
            scale = np.float32(max(np.abs(audio).max() / LARGEST, np.finfo(np.float32).tiny))
            self.audio[number, place] = np.rint(audio / scale)
            note["scales"][place] = scale
        note["category"] = CATEGORIES.index(pair.category)
        note["noise"] = self.noise_names.index(pair.noise_name)
        note["follows"] = pair.follows
        note["made"] = 1  # last: a process that is killed leaves no half pair


def _reserve(path: Path, size: int) -> None:
    """Makes a file at least `size` bytes long, with room on the disk for all of them.

    It never becomes shorter, as another run may have mapped it.
    """
    path.touch()
    missing = size - path.stat().st_size
    if missing <= 0:
        return
    # A disk that fills up under a memory map would end the process without a word.
    if missing > shutil.disk_usage(path.parent).free - SPARED_BYTES:
        raise OSError(f"{path}: no room for a cache of {size / 1e9:.1f} GB. Lower "
                      f"`dset.cache_items` or change `dset.path_cache`.")
    with path.open("r+b") as stream:
        if hasattr(os, "posix_fallocate"):
            with contextlib.suppress(OSError):  # some file systems cannot; then it is sparse
                os.posix_fallocate(stream.fileno(), 0, size)
        if os.fstat(stream.fileno()).st_size < size:
            stream.truncate(size)
