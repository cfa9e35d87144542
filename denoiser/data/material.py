"""The clean clips and the noise recordings of one split."""

from __future__ import annotations

import dataclasses
import logging
import os

import numpy as np

from denoiser.checks import UserError
from denoiser.data.audio_index import (
    SPLIT_VERSION,
    Clip,
    NoiseRecording,
    find_clips,
    find_noise,
)
from denoiser.data.settings import CATEGORIES, DsetConfig
from denoiser.noise.carriers import CarrierConfig

logger = logging.getLogger(__name__)


class Material:
    """What there is to draw from.

    Args:
        dset: Names the files.
        split: "train", "validation" or "test".
        carrier: Says which categories of noise are wanted.

    Attributes:
        categories: Of the clean clips, in the order of `CATEGORIES`.
        shares: Of each of them, with the sum 1.
        clips: Clean clips by category. A validation or test for which none is held out has those
            of training.
        odds: For each category the odds of its clips, by length.
        siblings: For each category and each of its groups the numbers of its clips.
        noise: Noise recordings by category.
        train_only: Categories of noise of which no recording is held out for this split.

    Raises:
        FileNotFoundError, UserError: The data cannot be found or understood.
    """

    def __init__(self, dset: DsetConfig, split: str, carrier: CarrierConfig) -> None:
        self.split = split
        self.clips = self._choose_clips(find_clips(dset))
        self.categories = list(self.clips)
        shares = np.array([getattr(dset.mix, name) for name in self.categories])
        if shares.sum() == 0.0:
            raise UserError(f"`dset.mix` must give a share to one of {self.categories}, the "
                            f"categories that are present. Received: {dset.mix}")
        self.shares = shares / shares.sum()
        self.odds: dict[str, np.ndarray] = {}
        self.siblings: dict[str, dict[str, list[int]]] = {}
        for name, clips in self.clips.items():
            seconds = np.array([clip.seconds for clip in clips])
            self.odds[name] = seconds / seconds.sum()
            groups = self.siblings[name] = {}
            for number, clip in enumerate(clips):
                groups.setdefault(clip.group, []).append(number)
        self.noise, self.train_only = self._choose_noise(
            [found for found in find_noise(dset) if carrier.share(found.category) > 0.0])

    def _choose_clips(self, clips: list[Clip]) -> dict[str, list[Clip]]:
        own = [clip for clip in clips if clip.split == self.split]
        self.is_borrowed = not own and self.split != "train"
        if self.is_borrowed:
            logger.warning("%s: no clean audio is held out (too few groups of files): clips of "
                           "training are measured, which says little. Put some files below "
                           "folders called `validation` and `test`.", self.split)
            own = [clip for clip in clips if clip.split == "train"]
        if not own:
            raise UserError("`dset` must hold clean audio for train: all that was found is held "
                            "out. Add files, or put some below a folder called `train`.")
        return {name: [clip for clip in own if clip.category == name] for name in CATEGORIES
                if any(clip.category == name for clip in own)}

    def _choose_noise(self, recordings: list[NoiseRecording],
                      ) -> tuple[dict[str, list[NoiseRecording]], list[str]]:
        noise: dict[str, list[NoiseRecording]] = {}
        for recording in recordings:
            if recording.split == self.split:
                noise.setdefault(recording.category, []).append(recording)
        missing = sorted({recording.category for recording in recordings} - noise.keys())
        for category in missing:
            if self.split == "train":
                logger.warning("train: every recording of the noise category %s is held out; put "
                               "some below a folder called `train`", category)
            else:
                logger.info("%s: noise of the category %s is generated, no recording of it is "
                            "held out", self.split, category)
        return noise, missing if self.split != "train" else []

    def describe(self) -> str:
        """Returns one line on what this split holds."""
        parts = [f"{name} {sum(clip.seconds for clip in clips) / 60.0:.1f} min"
                 for name, clips in self.clips.items()]
        parts += [f"{name} noise {len(found)}" for name, found in self.noise.items()]
        borrowed = ", clips of training" if self.is_borrowed else ""
        return f"{self.split} (split version {SPLIT_VERSION}{borrowed}): " + ", ".join(parts)

    def fingerprint(self) -> list[object]:
        """Returns values that differ where any file, or what is known of it, does."""
        found = [*(clip for clips in self.clips.values() for clip in clips),
                 *(recording for kind in sorted(self.noise) for recording in self.noise[kind])]
        files = [path for one in found for path in getattr(one, "files", None) or (one.path,)]
        return [[dataclasses.astuple(one) for one in found],
                [(stat.st_size, stat.st_mtime_ns) for stat in map(os.stat, files)]]
