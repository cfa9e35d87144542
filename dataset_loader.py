"""Draws clean segments and noise, and mixes them to noisy inputs and clean targets.

Every mixture depends on (seed, split, index) alone. So a run that is resumed trains on the batches
that it would have seen without the interruption, and validation and test never change. Start
reading at `Mixer.item`.
"""

import hashlib
import itertools
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np

from historical_denoiser.audio import dsp
from historical_denoiser.audio.dsp import SAMPLE_RATE
from historical_denoiser.audio.noise_profile import ProfileForm
from historical_denoiser.data.ageing import age
from historical_denoiser.data.audio_index import SPLIT_VERSION
from historical_denoiser.data.changing import draw_gains
from historical_denoiser.data.coding import code, draw_coding, limit_to_codec
from historical_denoiser.data.mixture import Mixture
from historical_denoiser.data.noise_colour import shape_noise
from historical_denoiser.data.pair_cache import PairCache, SourcePair
from historical_denoiser.data.settings import SPLITS, DsetConfig
from historical_denoiser.data.sources import SUBSONIC_HZ, CleanSource, NoiseSource
from historical_denoiser.noise.carriers import (
    FOLLOWING_KINDS,
    KINDS,
    MOVING,
    CarrierConfig,
    print_through,
)
from historical_denoiser.noise.moving import MovingConfig, fluctuate

# Settings that change how cached pairs are mixed, but not the pairs.
MIXING_KEYS = ("cache_items", "path_cache", "snr_db", "level_db", "share_clean", "share_silent",
               "reference_dbfs", "evaluation_snrs_db", "share_profile", "share_heard",
               "share_changing", "share_coded", "share_printed")
PAIR_VERSION = 9  # raised when the same settings give other pairs
CACHE_STREAM = 1  # the last number of the seeds of cached pairs, which those of mixtures lack
PROBE_STREAM = 3  # the same for the clean sounds of probes
CLEAN_STREAM = 4  # and for mixtures without noise
MOVING_STREAM = 5  # and for the fluctuation of fixed noise
PROFILE_SECONDS = (0.5, 2.0)  # length of the noise from which a training mixture's profile is made
TEST_PROFILE_SECONDS = 1.5  # the same for fixed mixtures
# This share of the training profiles contains the signal at this level, as if a user's excerpt of
# noise began within a fading note or its echo.
SHARE_LEAKING, LEAK_DB = 0.25, -30.0


class Mixer:
    """Makes the mixtures of one split.

    Args:
        dset: What is mixed and how.
        split: "train", "validation" or "test".
        seconds: Length of each mixture.
        seed: Seed of the training mixtures. The mixtures of validation and test never change.
        carrier: Shares of the kinds of noise, and the ranges of generated noise.
        highpass_hz: Cutoff of a high-pass filter on the training mixtures, that of the network.
        profile_form: The form of the network's noise profiles, if it takes any. A share of the
            training mixtures, and all fixed ones, then have a second stretch of their noise.

    Attributes:
        samples: Length of each mixture.
        categories: The categories of clean audio that are present.
        skipped: How many segments or files could not be used, by reason.

    Raises:
        FileNotFoundError, UserError: The data cannot be found or are not valid.
        OSError: The cache cannot be written.
    """

    def __init__(self, dset: DsetConfig, split: str, seconds: float, seed: int = 0,
                 carrier: CarrierConfig | None = None, highpass_hz: float = 0.0,
                 profile_form: ProfileForm | None = None) -> None:
        carrier = carrier or CarrierConfig()
        self.dset, self.split, self.highpass_hz = dset, split, highpass_hz
        self.profile_form = profile_form
        self.samples = round(seconds * SAMPLE_RATE)
        self.seed = [seed if split == "train" else 0, SPLITS.index(split)]
        self.skipped: Counter[str] = Counter()
        self.clean = CleanSource(dset, split, self.samples, self.skipped)
        self.noise = NoiseSource(dset, split, carrier, self.samples, self.skipped)
        self.categories = list(self.clean.clips)
        self.cache = self._open_cache() if split == "train" and dset.cache_items else None

    def describe(self) -> str:
        """Returns a line that sums up the audio and the noise of this split."""
        parts = [f"{name} {sum(clip.seconds for clip in clips) / 60.0:.1f} min"
                 for name, clips in self.clean.clips.items()]
        parts += [f"{name} noise {len(found)}" for name, found in self.noise.recordings.items()]
        parts += [f"{name} noise none" for name in self.noise.missing]
        borrowed = ", clips of training" if self.clean.is_borrowed else ""
        return f"{self.split} (split version {SPLIT_VERSION}{borrowed}): " + ", ".join(parts)

    def item(self, index: int) -> Mixture:
        """Makes training mixture `index`, for which everything is drawn with a seed of its own.

        With a cache, it combines the clean segment of one cached pair with the noise of another.
        """
        rng = np.random.default_rng([*self.seed, index])
        snr_db, chance = float(rng.uniform(*self.dset.snr_db)), rng.random()
        if chance < self.dset.share_clean:
            snr_db = float("inf")
        elif chance < self.dset.share_clean + self.dset.share_silent:
            snr_db = float("-inf")
        level_db = float(rng.uniform(*self.dset.level_db))
        # With generators of their own, these leave the other draws as they were without them.
        profiling, changing, coding, printing = rng.spawn(4)
        chance = profiling.random() if self.profile_form else 1.0
        has_profile = chance < self.dset.share_profile
        needs_estimate = not has_profile and (
            chance < self.dset.share_profile + self.dset.share_heard)
        if self.cache is None:
            pair = other = self._draw_pair(rng, has_profile)
        else:
            first, second = rng.integers(len(self.cache), size=2)
            pair, other = self.cache[first], self.cache[second]
            if other.follows:
                pair = other
        mixture = self._print(self._mix_changing(pair, other, snr_db, level_db, changing), printing)
        profile = self._choose_stretch(mixture, profiling) if has_profile else None
        return self._code(replace(mixture, profile=profile, needs_estimate=needs_estimate), coding)

    def clean_item(self, index: int) -> Mixture:
        """Makes mixture `index` without noise, for which none is drawn.

        Outside of training, the category changes from one mixture to the next, and no level.
        """
        rng = np.random.default_rng([*self.seed, index, CLEAN_STREAM])
        if self.split == "train":
            category = str(rng.choice(self.categories, p=self.clean.shares))
            clean = age(self.clean.draw(category, rng), self.dset, rng)
            level_db = float(rng.uniform(*self.dset.level_db))
        else:
            category, level_db = self.categories[index % len(self.categories)], 0.0
            clean = self.clean.draw(category, rng)
        pair = SourcePair(clean, np.zeros_like(clean), category, "none")
        return self._mix(pair, pair, float("inf"), level_db)

    def evaluation_item(self, index: int) -> Mixture:
        """Makes fixed mixture `index` of a grid of categories, SNRs and noises.

        The category changes from one mixture to the next, the noise most slowly. For validation,
        the noise fluctuates in a third of the mixtures of each category, SNR and noise.
        """
        rng = np.random.default_rng([*self.seed, index])
        moving_seed = [*self.seed, index, MOVING_STREAM]
        snrs_db, noises = self.dset.evaluation_snrs_db, self.noise.evaluated
        index, category = divmod(index, len(self.categories))
        index, snr = divmod(index, len(snrs_db))
        kind, recording = noises[index % len(noises)]
        fluctuates = self.split == "validation" and (category + snr + index) % 3 == 0
        clean = self.clean.draw(self.categories[category], rng)
        more = round(TEST_PROFILE_SECONDS * SAMPLE_RATE) if self.profile_form else 0
        drawn = self.noise.generate(kind, rng, more=more) if recording is None else (
            self.noise.draw_recorded(kind, rng, recording, more))
        drawn, profile = np.split(drawn, [self.samples])
        if fluctuates:  # with the default ranges, so that settings do not change the mixtures
            drawn, profile = (fluctuate(part, np.random.default_rng(moving_seed), MovingConfig())
                              if len(part) else part for part in (drawn, profile))
        # `noise` is scaled without the profile, so that it is the same where there is none.
        noise = shape_noise(drawn, 0.0, 0.0, rng, snr_highpass_hz=self.dset.snr_highpass_hz)
        profile = profile * np.float32(np.abs(noise).max() / np.abs(drawn).max())
        name = recording.title if recording else _name_noise(kind, True) if kind in KINDS else kind
        pair = SourcePair(clean, noise, self.categories[category], name,
                          profile=profile if more else None)
        return self._mix(pair, pair, float(snrs_db[snr]), 0.0)

    def probe_sounds(self, count: int, seconds: float) -> list[tuple[str, np.ndarray]]:
        """Returns `count` fixed clean segments with their categories: music and speech in turn.

        They are effects if there are no others.
        """
        categories = [name for name in self.categories if name != "effects"] or self.categories
        source = CleanSource(self.dset, self.split, round(seconds * SAMPLE_RATE), self.skipped)
        return [(name, source.draw(name, np.random.default_rng(
            [*self.seed, number, PROBE_STREAM])))
            for number, name in zip(range(count), itertools.cycle(reversed(categories)))]

    def evaluation_grid(self, items: int) -> tuple[list[str], list[float]]:
        """Returns the categories and input SNRs of the first `items` fixed mixtures."""
        rounds = -(-items // len(self.categories))
        return self.categories[:items], self.dset.evaluation_snrs_db[:rounds]

    def _draw_pair(self, rng: np.random.Generator, with_profile: bool) -> SourcePair:
        """Draws the clean segment and the noise of a training mixture, or of a cached pair."""
        more = self._profile_samples if with_profile else 0
        category = str(rng.choice(self.categories, p=self.clean.shares))
        kind, is_generated = self.noise.choose(rng)
        # Fixed mixtures have no noise that follows the signal: SNR assumes independent noise.
        follows = bool(is_generated and rng.random() < self.dset.share_following
                       and kind in FOLLOWING_KINDS)
        clean = age(self.clean.draw(category, rng), self.dset, rng)
        if self.highpass_hz > SUBSONIC_HZ:
            clean = dsp.highpass(clean, self.highpass_hz, SAMPLE_RATE, wrap=True)
        if is_generated:
            noise = self.noise.generate(kind, rng, clean if follows else None, more)
        else:
            noise = self.noise.draw_recorded(kind, rng, more=more)
        if kind != MOVING:
            noise = self.noise.move(noise, rng)
        noise = shape_noise(noise, self.dset.noise_db_spread, self.highpass_hz, rng,
                            self.samples + more, self.dset.snr_highpass_hz, more)
        noise, profile = np.split(noise, [self.samples])
        return SourcePair(clean, noise, category, _name_noise(kind, is_generated), follows,
                          profile if more else None)

    def _mix(self, pair: SourcePair, other: SourcePair, snr_db: float, level_db: float) -> Mixture:
        """Adds the noise of `other` to the clean segment of `pair`."""
        clean, clean_power = pair.clean, dsp.power(pair.clean)
        if snr_db == float("-inf"):  # noise alone, as loud as the segment was
            clean, clean_power, noise_power = np.zeros_like(clean), 0.0, clean_power
        else:
            noise_power = clean_power / 10.0 ** (snr_db / 10.0)
        gain = dsp.to_gain(level_db)
        if self.dset.reference_dbfs is not None:
            gain *= np.sqrt(10.0 ** (self.dset.reference_dbfs / 10.0) / (clean_power + noise_power))
        gain, noise_gain = np.float32(gain), np.float32(np.sqrt(noise_power))
        noisy = clean + noise_gain * other.noise
        is_known = other.profile is not None and noise_power > 0.0
        return Mixture(gain * noisy, gain * clean, pair.category,
                       other.noise_name if noise_power > 0.0 else "none", snr_db,
                       gain * noise_gain * other.profile if is_known else None)

    def _mix_changing(self, pair: SourcePair, other: SourcePair, snr_db: float, level_db: float,
                      rng: np.random.Generator) -> Mixture:
        """Mixes as `_mix` does, but in a share of the mixtures a level changes with time."""
        if rng.random() >= self.dset.share_changing:
            return self._mix(pair, other, snr_db, level_db)
        more = 0 if other.profile is None else len(other.profile)
        noise_gain, mixture_gain = draw_gains(rng, self.samples, more)
        noise_gain, profile_gain = np.split(noise_gain, [self.samples])
        changed = replace(other, noise=noise_gain * other.noise,
                          profile=None if other.profile is None else profile_gain * other.profile)
        mixture = self._mix(pair, changed, snr_db, level_db)
        return replace(mixture, noisy=mixture_gain * mixture.noisy,
                       clean=mixture_gain * mixture.clean)

    def _print(self, mixture: Mixture, rng: np.random.Generator) -> Mixture:
        """Adds print-through to a share of the mixtures with noise of tape.

        Its level is relative to the clean sound, so that it cannot be part of the noise, which is
        scaled to an SNR.
        """
        if not mixture.noise.startswith("tape ") or rng.random() >= self.dset.share_printed:
            return mixture
        printed = print_through(mixture.clean, rng, self.noise.carrier.tape)
        return replace(mixture, noisy=mixture.noisy + printed)

    def _code(self, mixture: Mixture, rng: np.random.Generator) -> Mixture:
        """Encodes and decodes a share of the mixtures and of the noise for their profiles."""
        if rng.random() >= self.dset.share_coded:
            return mixture
        codec, kbps = draw_coding(rng)
        return replace(mixture, noisy=code(mixture.noisy, codec, kbps),
                       clean=limit_to_codec(mixture.clean, codec, kbps),
                       profile=None if mixture.profile is None else code(
                           mixture.profile, codec, kbps))

    def _choose_stretch(self, mixture: Mixture, rng: np.random.Generator) -> np.ndarray | None:
        """Takes a stretch of the noise for a profile, as a user may: short, or with some signal."""
        if mixture.profile is None:
            return None
        samples = round(rng.uniform(*PROFILE_SECONDS) * SAMPLE_RATE)
        start = rng.integers(len(mixture.profile) - samples + 1)
        stretch = mixture.profile[start : start + samples]
        if rng.random() < SHARE_LEAKING:
            start = rng.integers(max(1, self.samples - samples))
            signal = mixture.clean[start : start + samples]
            stretch = stretch + dsp.fit_length(np.float32(dsp.to_gain(LEAK_DB)) * signal, samples)
        return stretch

    def _open_cache(self) -> PairCache:
        """Opens the cache; its name is a hash of all files and settings that change its pairs."""
        settings = {name: value for name, value in vars(self.dset).items()
                    if name not in MIXING_KEYS}
        clips, noises = self.clean.clips.values(), self.noise.recordings.values()
        paths = [clip.path for clip in itertools.chain(*clips)]
        paths += [path for recording in itertools.chain(*noises) for path in recording.files]
        stamps = [(path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
        key = repr([settings, self.noise.carrier, self.seed, self.samples, self.highpass_hz,
                    PAIR_VERSION, list(clips), list(noises), stamps]
                   + [PROFILE_SECONDS] * (self.profile_form is not None))
        name = hashlib.sha1(key.encode(), usedforsecurity=False).hexdigest()[:16]
        return PairCache(Path(self.dset.path_cache) / name, self.dset.cache_items, self.samples,
                         self._make_pair, self._profile_samples)

    @property
    def _profile_samples(self) -> int:
        return round(PROFILE_SECONDS[1] * SAMPLE_RATE) if self.profile_form else 0

    def _make_pair(self, number: int) -> SourcePair:
        return self._draw_pair(np.random.default_rng([*self.seed, number, CACHE_STREAM]),
                               self.profile_form is not None)


def _name_noise(kind: str, is_generated: bool) -> str:
    return f"{kind} {'generated' if is_generated else 'recorded'}"
