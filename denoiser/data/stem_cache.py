"""What training mixtures are made of, kept on disk so that it need not be made again."""

from __future__ import annotations

import contextlib
import logging
import math
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


@dataclass(frozen=True)
class Stem:
    """A clean segment and the noise that was drawn with it, before they are mixed.

    Arrays are `(samples,)`; those of a cache are float16.
    """

    clean: np.ndarray
    noise: np.ndarray  # of a power of 1; zeros where there is none
    category: str
    noise_name: str
    follows: bool = False  # the noise follows this very signal: the two stay together


def widen(audio: np.ndarray) -> np.ndarray:
    """Returns finite float16 as float32, exactly and seven times as fast as NumPy.

    Sign, exponent and mantissa move to their places; a product mends the exponent's offset.
    """
    if audio.dtype != np.float16:
        return audio
    bits = audio.view(np.int16).astype(np.int32)
    bits <<= 13
    bits &= np.int32(-0x70002000)  # what the sign left in the exponent's upper bits
    wide = bits.view(np.float32)
    wide *= np.float32(2.0**112)
    return wide


class StemCache:
    """Stems of training mixtures, made when first asked for and kept on disk as float16.

    Reading, decoding, filtering and generating are done once; what is left of making a mixture is
    adding two arrays. As any clean segment meets any noise at any SNR, few stems go far: N of them
    make N * N mixtures.

    Args:
        folder: Where they lie; its name stands for all settings that they depend on.
        count: How many there are.
        samples: Length of each.
        noise_names: Every name that a noise can have, in a fixed order.
        make: Makes stem `number`, the same at each call.

    Raises:
        OSError: The folder cannot be written or the disk is too small.
    """

    def __init__(self, folder: Path, count: int, samples: int, noise_names: list[str],
                 make: Callable[[int], Stem]) -> None:
        self.folder, self.make, self.noise_names = folder, make, noise_names
        folder.mkdir(parents=True, exist_ok=True)
        shapes = {"stems.f16": (np.dtype(np.float16), (count, 2, samples)),
                  "notes.u8": (np.dtype(np.uint8), (count, 4))}
        for name, (dtype, shape) in shapes.items():
            _reserve(folder / name, dtype.itemsize * math.prod(shape))
        self.audio, self.notes = (np.memmap(folder / name, dtype, "r+", shape=shape)
                                  for name, (dtype, shape) in shapes.items())
        logger.info("a cache of %d stems, %.1f GB, in %s; %d are there", count,
                    self.audio.nbytes / 1e9, folder, int(self.notes[:, 0].sum()))

    def __len__(self) -> int:
        return len(self.audio)

    def __reduce__(self) -> tuple[type[StemCache], tuple[Any, ...]]:
        # A loader's process maps the same files; pickling the maps would copy them.
        return StemCache, (self.folder, len(self), self.audio.shape[-1], self.noise_names,
                           self.make)

    def __getitem__(self, number: int) -> Stem:
        is_made, category, noise, follows = self.notes[number]
        # After a power cut the note of a stem may be there without its sound.
        if not is_made or not self.audio[number, 0].view(np.uint16).any():
            stem = self.make(number)
            self.audio[number] = stem.clean, stem.noise
            self.notes[number, 1:] = (CATEGORIES.index(stem.category),
                                      self.noise_names.index(stem.noise_name), stem.follows)
            self.notes[number, 0] = 1  # last: a process that is killed leaves no half stem
            _, category, noise, follows = self.notes[number]
        return Stem(*self.audio[number], CATEGORIES[category], self.noise_names[noise],
                    bool(follows))


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
