"""Mixes seeded pairs of noisy input and clean target.

Every item is a function of (seed, split, index) alone. A stopped run therefore goes on with the
very batches it would have seen, and validation and test sets are the same on every run.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import logging
import os
from collections import Counter
from pathlib import Path

import numpy as np
import scipy.fft
import scipy.signal
import soundfile

from denoiser.audio import dsp
from denoiser.audio.audio_io import UNKNOWN_SAMPLES
from denoiser.audio.dsp import SAMPLE_RATE
from denoiser.checks import UserError
from denoiser.data.audio_index import Clip, NoiseRecording, find_clips, find_noise, hash_text
from denoiser.data.mixture import Mixture
from denoiser.data.settings import CATEGORIES, SPLITS, DsetConfig
from denoiser.data.stem_cache import Stem, StemCache, widen
from denoiser.noise import generator as carrier_noise
from denoiser.noise.carriers import FOLLOWING_KINDS, KINDS, CarrierConfig

logger = logging.getLogger(__name__)

TURN_SECONDS = 60.0 / 78.26  # of a disc at the electrical era's 78.26 turns per minute
CROSSFADE_SECONDS = 0.5
NOISE_BLOCK_SECONDS = 60.0  # a longer recording is read in blocks of this length up to twice it
NOISE_BLOCKS = 32  # that are kept in memory, at most 0.7 GB
QUIETEST_DBFS = -60.0  # a clean segment below this counts as silent
MOST_REDRAWS = 50
EDGE_SECONDS = 0.005  # fade where a clip is cut
SUBSONIC_HZ = 20.0  # nothing below is taken for signal
GAP_SECONDS = (0.02, 0.4)  # silence between clips that are strung together
MIXING_KEYS = ("cache_items", "path_cache", "snr_db", "level_db", "share_clean", "share_silent",
               "reference_dbfs")
STEM_VERSION = 3  # raised when the same settings give other stems
CACHE_STREAM = 1  # sets the seeds of stems apart from those of mixtures
REEL_STREAM = 2  # and those of reels
REELS = 4  # generated noises of each kind that mixtures draw from at a time
REEL_ITEMS = 256  # mixtures after which a new one takes the oldest one's place
REEL_SEGMENTS = 4  # length of a reel in segments
EVALUATION_SNRS_DB = (3.0, 10.0, 20.0)
HORN_BASS_HZ = (80.0, 250.0)
HORN_RESONANCE_HZ = (250.0, 3500.0)
HORN_RESONANCE_DB = (3.0, 12.0)
HORN_QUALITY = (2.0, 10.0)
DRIVE_DB = (-6.0, 12.0)  # of saturation
BAND_LIMIT_HZ = (3000.0, 14000.0)
CUTOFFS_PER_OCTAVE = 40
COLOUR_KNOTS_HZ = 40.0 * 2.0 ** np.arange(10)


# --- Reading and shaping ---------------------------------------------------------------------


def read_segment(path: Path, start_seconds: float, seconds: float) -> np.ndarray:
    """Reads a part of a file as mono float32 at 44.1 kHz; shorter at the file's end."""
    with soundfile.SoundFile(path) as stream:
        rate = stream.samplerate
        stream.seek(min(round(start_seconds * rate), stream.frames))
        audio = stream.read(round(seconds * rate), dtype="float32", always_2d=True)
    mono = audio.mean(axis=1) if audio.shape[1] > 1 else audio[:, 0]
    return dsp.resample(mono, rate, SAMPLE_RATE)


@functools.lru_cache(maxsize=1024)
def _count_blocks(path: Path) -> tuple[int, float]:
    """Returns in how many blocks a noise recording is read, and how many seconds each has."""
    info = soundfile.info(path)
    if info.frames >= UNKNOWN_SAMPLES:
        raise UserError("its header does not say how long it is")
    seconds = info.duration
    count = max(1, int(seconds / NOISE_BLOCK_SECONDS))
    return count, seconds / count


@functools.lru_cache(maxsize=NOISE_BLOCKS)
def _read_noise(path: Path, number: int, seconds: float) -> np.ndarray:
    """Reads one block of a noise recording; many minutes of it would fill the memory."""
    audio = read_segment(path, number * seconds, seconds)
    audio = audio - audio.mean() if len(audio) else audio
    audio.setflags(write=False)
    return audio


@functools.lru_cache(maxsize=8)
def _knot_places(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns where each bin of a transform of `size` samples lies between two knots of colour."""
    octaves = np.log2(np.maximum(scipy.fft.rfftfreq(size, 1.0 / SAMPLE_RATE), 1.0)
                      / COLOUR_KNOTS_HZ[0])
    place = np.clip(octaves, 0.0, len(COLOUR_KNOTS_HZ) - 1.001)
    index = place.astype(np.int32)
    return index, (place - index).astype(np.float32)


def shape_noise(noise: np.ndarray, spread_db: float, highpass_hz: float, rng: np.random.Generator,
                samples: int | None = None) -> np.ndarray:
    """Gives noise a smooth random colour and takes away what the network does not hear.

    Few recordings thus stand for many discs. The filters apply to the spectrum of the whole
    stretch: noise may well wrap around its ends.

    Args:
        noise: Array of any length.
        spread_db: Standard deviation of the colour's knots, one each octave from 40 Hz.
        highpass_hz: Of `dsp.highpass`.
        rng: Source of randomness.
        samples: Length of the result, that of `noise` when absent. Longer noise is heard as fast
            and as high as it takes to fit, shorter noise as slow.

    Returns:
        float32 array `(samples,)`, at a gain at which its power is 1 with what lies below
        `highpass_hz`: rumble counts in a signal-to-noise ratio.

    Raises:
        ValueError: `noise` is silent.
    """
    samples, removed = samples or len(noise), 0.0
    if spread_db > 0.0 or highpass_hz > 0.0 or samples != len(noise):
        size = scipy.fft.next_fast_len(samples, real=True)
        if samples == len(noise):
            spectrum = scipy.fft.rfft(noise, size)
        else:
            whole = scipy.fft.rfft(noise)
            whole *= np.float32(size / len(noise))
            spectrum = dsp.fit_length(whole, size // 2 + 1)
        if spread_db > 0.0:
            knots_db = rng.normal(0.0, spread_db, len(COLOUR_KNOTS_HZ))
            knots_db += np.linspace(-1, 1, len(knots_db)) * rng.normal(0.0, spread_db)
            knots = (knots_db * (np.log(10.0) / 20.0)).astype(np.float32)
            index, part = _knot_places(size)
            spectrum *= np.exp(knots[index] + np.diff(knots)[index] * part)
        if highpass_hz > 0.0:
            gain = dsp.highpass_gain(highpass_hz, SAMPLE_RATE, size)
            low = slice(1, round(2.0 * highpass_hz * size / SAMPLE_RATE))  # above, the gain is 1
            removed = 2.0 * float(np.sum(np.abs(spectrum[low]) ** 2 * (1.0 - gain[low] ** 2))) / (
                size * samples)
            spectrum *= gain
        noise = scipy.fft.irfft(spectrum, size, overwrite_x=True)[:samples]
    power = dsp.power(noise) + removed
    if power <= 0.0:
        raise ValueError("`noise` must not be silent: no gain reaches the requested SNR.")
    return (noise * np.float32(1.0 / np.sqrt(power))).astype(np.float32, copy=False)


@functools.lru_cache(maxsize=512)
def _butterworth(order: int, cutoff_hz: float, kind: str) -> np.ndarray:
    """Returns second-order sections; to design them takes longer than to filter with them."""
    return scipy.signal.butter(order, cutoff_hz, kind, fs=SAMPLE_RATE, output="sos")


def _round_cutoff(hz: float) -> float:
    """Returns `hz` to a fortieth of an octave, so that few filters have to be designed."""
    return float(2.0 ** (np.round(CUTOFFS_PER_OCTAVE * np.log2(hz)) / CUTOFFS_PER_OCTAVE))


def sound_through_horn(audio: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Adds the resonances of a recording horn to `audio` and takes its bass away.

    Acoustic recordings hold some 170 to 2,000 Hz well and ring at the horn's air resonances
    (Copeland 2008, on acoustic recordings); each is a second-order peak in parallel.
    """
    bass_hz = _round_cutoff(rng.uniform(*HORN_BASS_HZ))
    heard = scipy.signal.sosfilt(_butterworth(2, bass_hz, "highpass"), audio)
    rung = heard
    for _ in range(int(rng.integers(2, 5))):
        frequency_hz = float(np.exp(rng.uniform(*np.log(HORN_RESONANCE_HZ))))
        gain = 10.0 ** (rng.uniform(*HORN_RESONANCE_DB) / 20.0)
        peak = scipy.signal.iirpeak(frequency_hz, rng.uniform(*HORN_QUALITY), fs=SAMPLE_RATE)
        rung = rung + (gain - 1.0) * scipy.signal.lfilter(*peak, heard)
    return rung.astype(np.float32)


def saturate(audio: np.ndarray, drive_db: float) -> np.ndarray:
    """Flattens peaks softly (hyperbolic tangent), the loudest from `drive_db` above the knee."""
    peak = float(np.max(np.abs(audio)))
    if peak == 0.0:
        return audio
    knee = peak / 10.0 ** (drive_db / 20.0)
    return (knee * np.tanh(audio / knee)).astype(np.float32)


def limit_band(audio: np.ndarray, high_hz: float) -> np.ndarray:
    """Low-passes `audio` as an old microphone or cutter would (Butterworth, 36 dB an octave)."""
    sections = _butterworth(6, _round_cutoff(high_hz), "lowpass")
    return scipy.signal.sosfilt(sections, audio).astype(np.float32)


# --- Mixing ----------------------------------------------------------------------------------


class Mixer:
    """Makes mixture number `index` of one split.

    Args:
        dset: What is mixed and how.
        split: "train", "validation" or "test".
        seconds: Length of each mixture.
        seed: Seed of the training mixtures. Validation and test ignore it: they never change.
        carrier: Shares of the kinds of noise, and the ranges of generated noise.
        highpass_hz: What the network does not hear is taken from the training mixtures.

    Raises:
        FileNotFoundError, ValueError: The data cannot be found or understood.
        OSError: The cache cannot be written.
    """

    def __init__(self, dset: DsetConfig, split: str, seconds: float, seed: int = 0,
                 carrier: CarrierConfig | None = None, highpass_hz: float = 0.0) -> None:
        if split not in SPLITS:
            raise ValueError(f"`split` must be one of {SPLITS}. Received: split={split!r}")
        self.dset, self.split, self.samples = dset, split, round(seconds * SAMPLE_RATE)
        self.carrier, self.highpass_hz = carrier or CarrierConfig(), highpass_hz
        self.seed = [seed if split == "train" else 0, SPLITS.index(split)]
        self.skipped: Counter[str] = Counter()
        self.reels: dict[tuple[str, int], np.ndarray] = {}
        self.clips: dict[str, list[Clip]] = {}
        self.groups: dict[str, dict[str, list[int]]] = {}
        for clip in find_clips(dset):
            if clip.split == split:
                self.clips.setdefault(clip.category, []).append(clip)
        if not self.clips:
            raise UserError(f"`dset` must hold clean audio for {split}: there is none.")
        self.categories = [name for name in CATEGORIES if name in self.clips]
        self.odds: dict[str, np.ndarray] = {}
        for name, clips in self.clips.items():
            seconds_each = np.array([clip.seconds for clip in clips])
            self.odds[name] = seconds_each / seconds_each.sum()
            for number, clip in enumerate(clips):
                self.groups.setdefault(name, {}).setdefault(clip.group, []).append(number)
        shares = np.array([getattr(dset.mix, name) for name in self.categories])
        if shares.sum() == 0.0:
            raise UserError(f"`dset.mix` must give a share to one of {self.categories}, the "
                            f"categories that are present. Received: {dset.mix}")
        self.shares = shares / shares.sum()
        recordings = [recording for recording in find_noise(dset)
                      if self.carrier.share(recording.category) > 0.0]
        self.noise: dict[str, list[NoiseRecording]] = {}
        for recording in recordings:
            if recording.split == split:
                self.noise.setdefault(recording.category, []).append(recording)
        # Categories that cannot be split are judged on generated noise of their kind.
        self.train_only = sorted({recording.category for recording in recordings}
                                 - self.noise.keys()) if split != "train" else []
        if split != "train":
            for category in self.train_only:
                logger.info("%s: noise of the category %s is generated, too few recordings",
                            split, category)
        self.cache = self._open_cache() if split == "train" and dset.cache_items else None

    def describe(self) -> str:
        """Returns one line on what this split holds."""
        minutes = {name: sum(clip.seconds for clip in clips) / 60.0
                   for name, clips in self.clips.items()}
        parts = [f"{name} {minutes[name]:.1f} min" for name in self.categories]
        parts += [f"{name} noise {len(found)}" for name, found in self.noise.items()]
        return f"{self.split}: " + ", ".join(parts)

    def item(self, index: int) -> Mixture:
        """Makes training mixture `index`: everything about it is drawn from its own seed.

        With a cache, it joins a clean segment of one kept stem and the noise of another.
        """
        rng = np.random.default_rng([*self.seed, index])
        snr_db, chance = float(rng.uniform(*self.dset.snr_db)), rng.random()
        if chance < self.dset.share_clean:
            snr_db = float("inf")
        elif chance < self.dset.share_clean + self.dset.share_silent:
            snr_db = float("-inf")
        level_db = float(rng.uniform(*self.dset.level_db))
        if self.cache is None:
            stem = other = self._draw_stem(rng, index, with_noise=snr_db < float("inf"))
        else:
            stem, other = (self.cache[int(number)] for number in rng.integers(len(self.cache),
                                                                              size=2))
            if other.follows:
                stem = other
        return self._mix(stem, other, snr_db, level_db)

    def evaluation_item(self, index: int) -> Mixture:
        """Makes fixed mixture `index` of a grid: categories x SNRs x kinds of noise, in turn."""
        rng = np.random.default_rng([*self.seed, index])
        kinds = [(name, False) for name in sorted(self.noise)]
        kinds += [(name if name in KINDS else "mixed", True) for name in self.train_only]
        kinds = kinds or [("mixed", True)]
        category = self.categories[index % len(self.categories)]
        index //= len(self.categories)
        snr_db = EVALUATION_SNRS_DB[index % len(EVALUATION_SNRS_DB)]
        index //= len(EVALUATION_SNRS_DB)
        kind, generated = kinds[index % len(kinds)]
        clean = self._draw_clean(category, rng)
        noise = shape_noise(self._draw_noise(kind, generated, clean, False, rng), 0.0, 0.0, rng)
        stem = Stem(clean, noise, category, name_noise(kind, generated))
        return self._mix(stem, stem, snr_db, 0.0)

    def evaluation_grid(self, items: int) -> tuple[list[str], list[float]]:
        """Returns the categories and input SNRs that the first `items` fixed mixtures have."""
        rounds = -(-items // len(self.categories))
        return self.categories[:items], list(EVALUATION_SNRS_DB[:rounds])

    def _draw_stem(self, rng: np.random.Generator, index: int | None = None,
                   with_noise: bool = True) -> Stem:
        """Draws what training mixture `index`, or a stem of the cache, is made of."""
        category = str(rng.choice(self.categories, p=self.shares))
        generated = rng.random() < self.dset.share_generated or not self.noise
        kinds = KINDS if generated else sorted(self.noise)
        shares = np.array([self.carrier.share(name) for name in kinds])
        kind = str(rng.choice(kinds, p=shares / shares.sum()))
        # What follows the signal is part of some training noise alone: SNR and the like measure
        # noise that a signal can be told from.
        follows = bool(generated and rng.random() < self.dset.share_following
                       and kind in FOLLOWING_KINDS)
        clean = self._age(self._draw_clean(category, rng), rng)
        if self.highpass_hz > SUBSONIC_HZ:
            clean = dsp.highpass(clean, self.highpass_hz, SAMPLE_RATE, wrap=True)
        if not with_noise:
            return Stem(clean, np.zeros_like(clean), category, "none")
        if generated and not follows and index is not None:
            noise = self._draw_from_reels(kind, index, rng)
        else:
            noise = self._draw_noise(kind, generated, clean, follows, rng)
        noise = shape_noise(noise, self.dset.noise_db_spread, self.highpass_hz, rng, self.samples)
        return Stem(clean, noise, category, name_noise(kind, generated), follows)

    def _mix(self, stem: Stem, other: Stem, snr_db: float, level_db: float) -> Mixture:
        """Adds the noise of `other` to the clean segment of `stem`."""
        clean = widen(stem.clean)
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
            return Mixture(gain * clean, gain * clean, stem.category, "none", snr_db)
        noisy = clean + np.float32(np.sqrt(noise_power)) * widen(other.noise)
        return Mixture(gain * noisy, gain * clean, stem.category, other.noise_name, snr_db)

    def _open_cache(self) -> StemCache:
        clips = [clip for category in self.categories for clip in self.clips[category]]
        recordings = [recording for kind in sorted(self.noise) for recording in self.noise[kind]]
        files = [clip.path for clip in clips]
        files += [path for recording in recordings for path in recording.files]
        ingredients = [dataclasses.asdict(self.dset), dataclasses.asdict(self.carrier), self.seed,
                       self.samples, self.highpass_hz, STEM_VERSION,
                       [dataclasses.astuple(found) for found in (*clips, *recordings)],
                       [(stat.st_size, stat.st_mtime_ns) for stat in map(os.stat, files)]]
        for name in MIXING_KEYS:  # they do not change the stems
            del ingredients[0][name]
        names = [name_noise(kind, True) for kind in KINDS]
        names += [name_noise(kind, False) for kind in sorted(self.noise)]
        folder = Path(self.dset.path_cache) / hash_text(json.dumps(ingredients, default=str))[:16]
        return StemCache(folder, self.dset.cache_items, self.samples, names, self._make_stem)

    def _make_stem(self, number: int) -> Stem:
        return self._draw_stem(np.random.default_rng([*self.seed, number, CACHE_STREAM]))

    def _draw_clean(self, category: str, rng: np.random.Generator) -> np.ndarray:
        """Reads one segment; short clips of one group are strung together to fill it."""
        for _ in range(MOST_REDRAWS):
            clips = self.clips[category]
            number = int(rng.choice(len(clips), p=self.odds[category]))
            siblings = self.groups[category][clips[number].group]
            if category == "effects":  # a group of effects can be one short sound
                siblings = range(len(clips))
            audio = np.zeros(self.samples, np.float32)
            position = 0
            while position < self.samples:
                piece = self._read_clip(clips[number], self.samples - position, rng)
                audio[position : position + len(piece)] = piece
                position += len(piece) + round(rng.uniform(*GAP_SECONDS) * SAMPLE_RATE)
                number = int(siblings[rng.integers(len(siblings))])
            # Offsets and rumble of the microphone are no part of the signal.
            audio = dsp.highpass(audio, SUBSONIC_HZ, SAMPLE_RATE, wrap=self.split == "train")
            if dsp.power(audio) > 10.0 ** (QUIETEST_DBFS / 10.0):
                return audio
            self.skipped["silent"] += 1
        raise UserError(f"`dset` must hold audible {category} for {self.split}: {MOST_REDRAWS} "
                        f"segments in a row were silent or unreadable.")

    def _read_clip(self, clip: Clip, samples: int, rng: np.random.Generator) -> np.ndarray:
        spare = clip.seconds - samples / SAMPLE_RATE
        start = float(rng.uniform(0.0, spare)) if spare > 0.0 else 0.0
        try:
            piece = read_segment(clip.path, start, samples / SAMPLE_RATE)[:samples]
        except soundfile.LibsndfileError as error:
            self._skip(clip.path, error)
            return np.zeros(0, np.float32)
        if not np.isfinite(piece).all():
            self.skipped["not finite"] += 1
            return np.zeros(0, np.float32)
        fade = min(round(EDGE_SECONDS * SAMPLE_RATE), len(piece) // 2)
        ramp = (np.arange(fade, dtype=np.float32) + 0.5) / max(fade, 1)
        piece[:fade] *= ramp
        piece[len(piece) - fade :] *= ramp[::-1]
        return piece

    def _age(self, clean: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Puts the clean side through the old chain: horn, amplifier or groove, treble limit."""
        dset = self.dset
        horn, saturated, limited = rng.random(3) < (dset.share_horn, dset.share_saturated,
                                                    dset.share_band_limited)
        if horn:
            clean = sound_through_horn(clean, rng)
        if saturated:
            clean = saturate(clean, float(rng.uniform(*DRIVE_DB)))
        if limited:
            clean = limit_band(clean, float(np.exp(rng.uniform(*np.log(BAND_LIMIT_HZ)))))
        return clean

    def _draw_noise(self, kind: str, generated: bool, clean: np.ndarray, follows: bool,
                    rng: np.random.Generator) -> np.ndarray:
        """Returns noise for `shape_noise`; recorded noise is as long as its speed requires."""
        if generated:
            return carrier_noise.generate(kind, self.samples, rng, carrier=self.carrier,
                                          signal=clean if follows else None)
        for _ in range(MOST_REDRAWS):
            recordings = self.noise[kind]
            recording = recordings[rng.integers(len(recordings))]
            path = recording.files[rng.integers(len(recording.files))]
            try:
                count, seconds = _count_blocks(path)
                number = int(rng.integers(count)) if count > 1 else 0
                noise = _read_noise(path, number, seconds)
            except (soundfile.LibsndfileError, ValueError) as error:
                self._skip(path, error)
                continue
            speed = float(rng.uniform(*self.dset.noise_speed)) if self.split == "train" else 1.0
            # Another machine hums and rattles at another pitch.
            samples = self.samples if speed == 1.0 else scipy.fft.next_fast_len(
                round(self.samples * speed), real=True)
            if len(noise):
                noise = self._extend(noise, samples, kind, rng)
                if np.ptp(noise) > 0.0:
                    return noise
            self.skipped["silent noise"] += 1
        raise UserError(f"`dset.path_noise` must hold audible {kind} noise for {self.split}: "
                        f"{MOST_REDRAWS} stretches in a row were silent or unreadable.")

    def _draw_from_reels(self, kind: str, index: int, rng: np.random.Generator) -> np.ndarray:
        """Takes a stretch of one of the generated noises of `kind` around mixture `index`.

        To draw a noise of its own for each mixture takes several times as long.
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

    def _skip(self, path: Path, error: Exception) -> None:
        """Counts a file that cannot be read and says so once."""
        if not self.skipped[str(path)]:
            logger.warning("%s cannot be read and is skipped: %s", path, error)
        self.skipped[str(path)] += 1

    def _extend(self, noise: np.ndarray, samples: int, kind: str, rng: np.random.Generator,
                ) -> np.ndarray:
        """Takes a random stretch of `samples`; a short recording is repeated first."""
        if len(noise) <= samples:
            turn = round(TURN_SECONDS * SAMPLE_RATE) if kind == "gramophone" else None
            noise = dsp.repeat_with_crossfade(noise, 2 * samples + len(noise),
                                              round(CROSSFADE_SECONDS * SAMPLE_RATE), turn)
        start = int(rng.integers(len(noise) - samples + 1))
        return noise[start : start + samples]


def name_noise(kind: str, generated: bool) -> str:
    """Returns what a mixture says of its noise."""
    return f"{kind} {'generated' if generated else 'recorded'}"
