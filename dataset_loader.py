"""Draws clean segments and noise, and mixes them: noisy input and clean target.

Every item is a function of (seed, split, index) alone. A stopped run therefore goes on with the
very batches it would have seen, and validation and test sets are the same on every run.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
from collections import Counter
from pathlib import Path

import numpy as np
import scipy.fft
import soundfile

from denoiser.audio import dsp
from denoiser.audio.dsp import SAMPLE_RATE
from denoiser.checks import UserError
from denoiser.data.ageing import age
from denoiser.data.audio_index import Clip
from denoiser.data.material import Material
from denoiser.data.mixture import Mixture
from denoiser.data.noise_colour import shape_noise
from denoiser.data.pair_cache import PairCache, SourcePair
from denoiser.data.recordings import read_noise, read_segment, take_stretch
from denoiser.data.settings import SPLITS, DsetConfig
from denoiser.noise import generator as carrier_noise
from denoiser.noise.carriers import FOLLOWING_KINDS, KINDS, CarrierConfig

logger = logging.getLogger(__name__)

QUIETEST_DBFS = -60.0  # a clean segment below this counts as silent
MOST_REDRAWS = 50
EDGE_SECONDS = 0.005  # fade where a clip is cut
SUBSONIC_HZ = 20.0  # nothing below is taken for signal
GAP_SECONDS = (0.02, 0.4)  # silence between clips that are strung together
MIXING_KEYS = ("cache_items", "path_cache", "snr_db", "level_db", "share_clean", "share_silent",
               "reference_dbfs", "evaluation_snrs_db")
PAIR_VERSION = 4  # raised when the same settings give other pairs
CACHE_STREAM = 1  # sets the seeds of cached pairs apart from those of mixtures
REEL_STREAM = 2  # and those of reels
REELS = 4  # generated noises of each kind that mixtures draw from at a time
REEL_ITEMS = 256  # mixtures after which a new one takes the oldest one's place
REEL_SEGMENTS = 4  # length of a reel in segments


class CleanDraw:
    """Draws clean segments.

    Args:
        material: What there is.
        samples: Length of a segment.
        skipped: Counts what cannot be used.
    """

    def __init__(self, material: Material, samples: int, skipped: Counter[str]) -> None:
        self.material, self.samples, self.skipped = material, samples, skipped

    def draw(self, category: str, rng: np.random.Generator) -> np.ndarray:
        """Reads one segment; short clips of one group are strung together to fill it.

        Args:
            category: Of the clips.
            rng: Source of randomness.

        Returns:
            float32 `(samples,)`.

        Raises:
            UserError: Many segments in a row were silent or unreadable.
        """
        split = self.material.split
        for _ in range(MOST_REDRAWS):
            audio = self._string_together(category, rng)
            # Offsets and rumble of the microphone are no part of the signal.
            audio = dsp.highpass(audio, SUBSONIC_HZ, SAMPLE_RATE, wrap=split == "train")
            if dsp.power(audio) > 10.0 ** (QUIETEST_DBFS / 10.0):
                return audio
            self.skipped["silent"] += 1
        raise UserError(f"`dset` must hold audible {category} for {split}: {MOST_REDRAWS} "
                        f"segments in a row were silent or unreadable.")

    def _string_together(self, category: str, rng: np.random.Generator) -> np.ndarray:
        clips = self.material.clips[category]
        number = int(rng.choice(len(clips), p=self.material.odds[category]))
        siblings = self.material.siblings[category][clips[number].group]
        if category == "effects":  # a group of effects can be one short sound
            siblings = range(len(clips))
        audio = np.zeros(self.samples, np.float32)
        position = 0
        while position < self.samples:
            piece = self._read_clip(clips[number], self.samples - position, rng)
            audio[position : position + len(piece)] = piece
            position += len(piece) + round(rng.uniform(*GAP_SECONDS) * SAMPLE_RATE)
            number = int(siblings[rng.integers(len(siblings))])
        return audio

    def _read_clip(self, clip: Clip, samples: int, rng: np.random.Generator) -> np.ndarray:
        spare = clip.seconds - samples / SAMPLE_RATE
        start = float(rng.uniform(0.0, spare)) if spare > 0.0 else 0.0
        try:
            piece = read_segment(clip.path, start, samples / SAMPLE_RATE)[:samples]
        except soundfile.LibsndfileError as error:
            _skip(self.skipped, clip.path, error)
            return np.zeros(0, np.float32)
        if not np.isfinite(piece).all():
            self.skipped["not finite"] += 1
            return np.zeros(0, np.float32)
        fade = min(round(EDGE_SECONDS * SAMPLE_RATE), len(piece) // 2)
        ramp = (np.arange(fade, dtype=np.float32) + 0.5) / max(fade, 1)
        piece[:fade] *= ramp
        piece[len(piece) - fade :] *= ramp[::-1]
        return piece


class NoiseDraw:
    """Draws recorded and generated noise, as it is before `shape_noise`.

    Args:
        material: What is recorded.
        dset: How much of it is generated, and how fast recordings are played.
        carrier: Shares of the kinds, and the ranges of generated noise.
        samples: Length of a segment.
        seed: Of the reels.
        skipped: Counts what cannot be used.
    """

    def __init__(self, material: Material, dset: DsetConfig, carrier: CarrierConfig, samples: int,
                 seed: list[int], skipped: Counter[str]) -> None:
        self.material, self.dset, self.carrier = material, dset, carrier
        self.samples, self.seed, self.skipped = samples, seed, skipped
        self.reels: dict[tuple[str, int], np.ndarray] = {}

    def choose(self, rng: np.random.Generator) -> tuple[str, bool]:
        """Draws the kind of noise for a training mixture, and whether it is generated."""
        recorded = sorted(self.material.noise)
        is_generated = rng.random() < self.dset.share_generated or not recorded
        kinds = KINDS if is_generated else recorded
        shares = np.array([self.carrier.share(name) for name in kinds])
        return str(rng.choice(kinds, p=shares / shares.sum())), is_generated

    def evaluation_kinds(self) -> list[tuple[str, bool]]:
        """Returns the kinds of noise of the fixed mixtures, and whether each is generated."""
        kinds = [(name, False) for name in sorted(self.material.noise)]
        kinds += [(name if name in KINDS else "mixed", True) for name in self.material.train_only]
        return kinds or [("mixed", True)]

    def generate(self, kind: str, rng: np.random.Generator, signal: np.ndarray | None = None,
                 ) -> np.ndarray:
        """Generates noise `(samples,)`, with parts that follow `signal` where it is given."""
        return carrier_noise.generate(kind, self.samples, rng, carrier=self.carrier, signal=signal)

    def take_from_reel(self, kind: str, index: int, rng: np.random.Generator) -> np.ndarray:
        """Takes a stretch `(samples,)` of one of the generated noises around mixture `index`.

        To generate noise for each mixture takes several times as long.
        """
        number = index // REEL_ITEMS + int(rng.integers(REELS))
        if (kind, number) not in self.reels:
            if len(self.reels) > REELS * len(KINDS):
                del self.reels[next(iter(self.reels))]  # the oldest
            own = np.random.default_rng([*self.seed, number, KINDS.index(kind), REEL_STREAM])
            self.reels[kind, number] = carrier_noise.generate(
                kind, REEL_SEGMENTS * self.samples, own, carrier=self.carrier)
        reel = self.reels[kind, number]
        start = int(rng.integers(len(reel) - self.samples + 1))
        return reel[start : start + self.samples]

    def draw_recorded(self, kind: str, rng: np.random.Generator) -> np.ndarray:
        """Draws a stretch of a recording; in training as long as its playing speed requires.

        Raises:
            UserError: Many stretches in a row were silent or unreadable.
        """
        split = self.material.split
        for _ in range(MOST_REDRAWS):
            recordings = self.material.noise[kind]
            recording = recordings[rng.integers(len(recordings))]
            path = recording.files[rng.integers(len(recording.files))]
            try:
                noise = read_noise(path, rng)
            except (soundfile.LibsndfileError, UserError) as error:
                _skip(self.skipped, path, error)
                continue
            # Another machine hums and rattles at another pitch.
            speed = float(rng.uniform(*self.dset.noise_speed)) if split == "train" else 1.0
            samples = self.samples if speed == 1.0 else scipy.fft.next_fast_len(
                round(self.samples * speed), real=True)
            if len(noise):
                noise = take_stretch(noise, samples, kind == "gramophone", rng)
                if np.ptp(noise) > 0.0:
                    return noise
            self.skipped["silent noise"] += 1
        raise UserError(f"`dset.path_noise` must hold audible {kind} noise for {split}: "
                        f"{MOST_REDRAWS} stretches in a row were silent or unreadable.")


class Mixer:
    """Makes mixture number `index` of one split.

    Args:
        dset: What is mixed and how.
        split: "train", "validation" or "test".
        seconds: Length of each mixture.
        seed: Seed of the training mixtures. Validation and test ignore it: they never change.
        carrier: Shares of the kinds of noise, and the ranges of generated noise.
        highpass_hz: What the network does not hear is taken from the training mixtures.

    Attributes:
        samples: Length of each mixture.
        categories: Of the clean audio that there is.
        train_only: Categories of noise that are generated in this split, as no recording is held
            out.
        skipped: What could not be used, and how often.

    Raises:
        FileNotFoundError, UserError: The data cannot be found or understood.
        OSError: The cache cannot be written.
    """

    def __init__(self, dset: DsetConfig, split: str, seconds: float, seed: int = 0,
                 carrier: CarrierConfig | None = None, highpass_hz: float = 0.0) -> None:
        if split not in SPLITS:
            raise ValueError(f"`split` must be one of {SPLITS}. Received: split={split!r}")
        self.dset, self.highpass_hz = dset, highpass_hz
        self.carrier = carrier or CarrierConfig()
        self.samples = round(seconds * SAMPLE_RATE)
        self.seed = [seed if split == "train" else 0, SPLITS.index(split)]
        self.skipped: Counter[str] = Counter()
        self.material = Material(dset, split, self.carrier)
        self.categories, self.train_only = self.material.categories, self.material.train_only
        self.clean = CleanDraw(self.material, self.samples, self.skipped)
        self.noise = NoiseDraw(self.material, dset, self.carrier, self.samples, self.seed,
                               self.skipped)
        self.cache = self._open_cache() if split == "train" and dset.cache_items else None

    def describe(self) -> str:
        """Returns one line on what this split holds."""
        return self.material.describe()

    def item(self, index: int) -> Mixture:
        """Makes training mixture `index`: everything about it is drawn from its own seed.

        With a cache, it joins the clean segment of one kept pair and the noise of another.
        """
        rng = np.random.default_rng([*self.seed, index])
        snr_db, chance = float(rng.uniform(*self.dset.snr_db)), rng.random()
        if chance < self.dset.share_clean:
            snr_db = float("inf")
        elif chance < self.dset.share_clean + self.dset.share_silent:
            snr_db = float("-inf")
        level_db = float(rng.uniform(*self.dset.level_db))
        if self.cache is None:
            pair = other = self._draw_pair(rng, index, with_noise=snr_db < float("inf"))
        else:
            pair, other = (self.cache[int(number)] for number in rng.integers(len(self.cache),
                                                                              size=2))
            if other.follows:
                pair = other
        return self._mix(pair, other, snr_db, level_db)

    def evaluation_item(self, index: int) -> Mixture:
        """Makes fixed mixture `index` of a grid: categories x SNRs x kinds of noise, in turn."""
        rng = np.random.default_rng([*self.seed, index])
        snrs_db, kinds = self.dset.evaluation_snrs_db, self.noise.evaluation_kinds()
        index, category = divmod(index, len(self.categories))
        index, snr = divmod(index, len(snrs_db))
        kind, is_generated = kinds[index % len(kinds)]
        clean = self.clean.draw(self.categories[category], rng)
        draw = self.noise.generate if is_generated else self.noise.draw_recorded
        noise = shape_noise(draw(kind, rng), 0.0, 0.0, rng)
        pair = SourcePair(clean, noise, self.categories[category], name_noise(kind, is_generated))
        return self._mix(pair, pair, float(snrs_db[snr]), 0.0)

    def evaluation_grid(self, items: int) -> tuple[list[str], list[float]]:
        """Returns the categories and input SNRs that the first `items` fixed mixtures have."""
        rounds = -(-items // len(self.categories))
        return self.categories[:items], self.dset.evaluation_snrs_db[:rounds]

    def _draw_pair(self, rng: np.random.Generator, index: int | None = None,
                   with_noise: bool = True) -> SourcePair:
        """Draws what training mixture `index`, or a pair of the cache, is made of."""
        category = str(rng.choice(self.categories, p=self.material.shares))
        kind, is_generated = self.noise.choose(rng)
        # What follows the signal is part of some training noise alone: SNR and the like measure
        # noise that a signal can be told from.
        follows = bool(is_generated and rng.random() < self.dset.share_following
                       and kind in FOLLOWING_KINDS)
        clean = age(self.clean.draw(category, rng), self.dset, rng)
        if self.highpass_hz > SUBSONIC_HZ:
            clean = dsp.highpass(clean, self.highpass_hz, SAMPLE_RATE, wrap=True)
        if not with_noise:
            return SourcePair(clean, np.zeros_like(clean), category, "none")
        if not is_generated:
            noise = self.noise.draw_recorded(kind, rng)
        elif follows or index is None:
            noise = self.noise.generate(kind, rng, clean if follows else None)
        else:
            noise = self.noise.take_from_reel(kind, index, rng)
        noise = shape_noise(noise, self.dset.noise_db_spread, self.highpass_hz, rng, self.samples)
        return SourcePair(clean, noise, category, name_noise(kind, is_generated), follows)

    def _mix(self, pair: SourcePair, other: SourcePair, snr_db: float, level_db: float) -> Mixture:
        """Adds the noise of `other` to the clean segment of `pair`."""
        clean = pair.clean
        clean_power = noise_power = dsp.power(clean)
        if snr_db == float("-inf"):
            clean, clean_power = np.zeros_like(clean), 0.0
        else:
            noise_power = clean_power / 10.0 ** (snr_db / 10.0)
        gain = 10.0 ** (level_db / 20.0)
        if self.dset.reference_dbfs is not None and clean_power + noise_power > 0.0:
            gain *= np.sqrt(10.0 ** (self.dset.reference_dbfs / 10.0)
                            / (clean_power + noise_power))
        gain = np.float32(gain)
        if noise_power == 0.0:
            return Mixture(gain * clean, gain * clean, pair.category, "none", snr_db)
        noisy = clean + np.float32(np.sqrt(noise_power)) * other.noise
        return Mixture(gain * noisy, gain * clean, pair.category, other.noise_name, snr_db)

    def _open_cache(self) -> PairCache:
        settings = dataclasses.asdict(self.dset)
        for name in MIXING_KEYS:  # they do not change the pairs
            del settings[name]
        ingredients = [settings, dataclasses.asdict(self.carrier), self.seed, self.samples,
                       self.highpass_hz, PAIR_VERSION, self.material.fingerprint()]
        key = hashlib.sha1(json.dumps(ingredients, default=str).encode(), usedforsecurity=False)
        names = [name_noise(kind, True) for kind in KINDS]
        names += [name_noise(kind, False) for kind in sorted(self.material.noise)]
        return PairCache(Path(self.dset.path_cache) / key.hexdigest()[:16], self.dset.cache_items,
                         self.samples, names, self._make_pair)

    def _make_pair(self, number: int) -> SourcePair:
        return self._draw_pair(np.random.default_rng([*self.seed, number, CACHE_STREAM]))


def name_noise(kind: str, is_generated: bool) -> str:
    """Returns what a mixture says of its noise."""
    return f"{kind} {'generated' if is_generated else 'recorded'}"


def _skip(skipped: Counter[str], path: Path, error: Exception) -> None:
    """Counts a file that cannot be read and says so once."""
    if not skipped[str(path)]:
        logger.warning("%s cannot be read and is skipped: %s", path, error)
    skipped[str(path)] += 1
