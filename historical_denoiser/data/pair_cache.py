"""A cache on disk of the clean segments and noises of training mixtures."""

import logging
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

logger = logging.getLogger(__name__)

MIN_FREE_BYTES = 2**30  # a cache leaves this much space for checkpoints
MAX_INT16 = np.iinfo(np.int16).max


@dataclass(frozen=True)
class SourcePair:
    """A clean segment and a noise before they are mixed."""

    clean: np.ndarray  # (samples,), float32
    noise: np.ndarray  # (samples,), float32, with a power of 1
    category: str
    noise_name: str
    follows: bool = False  # whether the noise depends on this signal and is only mixed with it
    profile: np.ndarray | None = None  # (any,), float32, a second stretch of the noise


class PairCache:
    """Pairs for training mixtures, made when they are first needed and kept on disk as int16.

    A mixture of cached pairs only takes an addition of two arrays. Since any clean segment is mixed
    with any noise at any SNR, N pairs make N * N mixtures.

    Args:
        folder: The folder of the pairs, for one choice of the settings that they depend on.
        count: Number of pairs.
        samples: Length of each segment.
        make: Makes pair `number`, the same at each call.
        profile_samples: Length of each pair's profile; 0 if there are none.

    Raises:
        OSError: The folder cannot be written or the disk is too small.
    """

    def __init__(self, folder: Path, count: int, samples: int,
                 make: Callable[[int], SourcePair], profile_samples: int = 0) -> None:
        self.folder, self.count, self.make, self.samples = folder, count, make, samples
        # Each file holds one pair. Clean segment and noise are int16 numbers times a scale. The
        # profile is stored behind its noise.
        self.layout = np.dtype([("clean", "<i2", samples),
                                ("noise", "<i2", samples + profile_samples), ("scales", "<f4", 2),
                                ("category", "U16"), ("noise_name", "U300"), ("follows", "?")])
        folder.mkdir(parents=True, exist_ok=True)
        kept = len(list(folder.glob("*.pair")))
        missing_bytes = (count - kept) * self.layout.itemsize
        if missing_bytes > max(shutil.disk_usage(folder).free - MIN_FREE_BYTES, 0):
            raise OSError(f"{folder}: no room for {missing_bytes / 1e9:.1f} GB. Lower "
                          f"`dset.cache_items` or change `dset.path_cache`.")
        logger.info("a cache of %d clean segments and noises, %.1f GB, in %s; %d are there", count,
                    count * self.layout.itemsize / 1e9, folder, kept)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> SourcePair:
        path = self.folder / f"{number}.pair"
        kept = np.fromfile(path, self.layout) if path.exists() else ()
        if not len(kept):  # a power cut can leave an empty file
            kept = self._pack(self.make(number))
            temporary = path.with_suffix(f".{os.getpid()}")  # other processes may make it, too
            kept.tofile(temporary)
            temporary.replace(path)
        *audio, scales, category, noise_name, follows = kept[0]
        clean, noise = (np.multiply(one, scale, dtype=np.float32)
                        for one, scale in zip(audio, scales, strict=True))
        noise, profile = np.split(noise, [self.samples])
        return SourcePair(clean, noise, category.item(), noise_name.item(), follows.item(),
                          profile if len(profile) else None)

    def _pack(self, pair: SourcePair) -> np.ndarray:
        """Returns a pair as an array `(1,)` of `layout`."""
        packed = np.zeros(1, self.layout)
        noise = pair.noise if pair.profile is None else np.concatenate([pair.noise, pair.profile])
        for place, (name, audio) in enumerate((("clean", pair.clean), ("noise", noise))):
            scale = np.float32(max(np.abs(audio).max() / MAX_INT16, np.finfo(np.float32).tiny))
            packed[name][0] = np.rint(audio / scale)
            packed["scales"][0, place] = scale
        for name in ("category", "noise_name", "follows"):
            packed[name] = getattr(pair, name)
        return packed
