"""Draws segments of the clean audio and of the noise of one split."""

import hashlib
import logging
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import scipy

from historical_denoiser.audio import dsp
from historical_denoiser.audio.dsp import SAMPLE_RATE
from historical_denoiser.core.checks import UserError
from historical_denoiser.data import recordings
from historical_denoiser.data.ageing import cut_above
from historical_denoiser.data.audio_index import Clip, NoiseRecording, find_clips, find_noise
from historical_denoiser.data.noise_balance import change_balance
from historical_denoiser.data.noise_colour import vary
from historical_denoiser.data.rooms import room_bank, sound_in_room
from historical_denoiser.data.settings import CATEGORIES, MADE_GROUPS, DsetConfig
from historical_denoiser.noise import generator
from historical_denoiser.noise.carriers import KINDS, MOVING, CarrierConfig
from historical_denoiser.noise.foreign import OPEN, SEALED
from historical_denoiser.noise.moving import fluctuate, make_moving

logger = logging.getLogger(__name__)

MIN_CLEAN_DBFS = -60.0  # a clean segment with a lower level counts as silent
MAX_REDRAWS = 50
FADE_SECONDS = 0.005  # at both ends of a clip
SUBSONIC_HZ = 20.0  # lower frequencies of clean audio are removed
GAP_SECONDS = (0.02, 0.4)  # silence between clips
WORD_GAP_SECONDS = (0.0, 0.12)  # silence between clips of one sentence
SENTENCE_GAP_SECONDS = (0.3, 1.0)
PHRASE_SECONDS = 1.5  # a clip of at least this length is a whole sentence
SENTENCE_CLIPS = (2, 7)  # number of shorter clips in a sentence
LEAD_SECONDS = 0.5  # a segment of speech begins at most this long after the first clip does
MAX_GAIN = 4.0  # the level of a clip is changed by at most this factor
LEVEL_FRAME = 882  # samples in a frame for measuring levels, 20 ms
FULL_BAND_HZ = 16000.0  # speech of a smaller bandwidth is low-passed there
SPEECH_ROOM_SECONDS = (0.2, 1.2)  # reverberation times
LAYER_DB = (-20.0, 0.0)  # level of a second sound

MADE_NOISE = dict(zip(MADE_GROUPS, (OPEN, SEALED), strict=True))


class CleanSource:
    """Draws segments of the clean clips of one split.

    Args:
        dset: Names the clean audio.
        split: "train", "validation" or "test".
        samples: Length of each segment.
        skipped: Counts files and segments that cannot be used, by reason.

    Attributes:
        clips: The clips by category.
        shares: The probabilities of these categories.
        is_borrowed: Whether the clips are those of training, because no clip is held out.

    Raises:
        FileNotFoundError, UserError: There is no such audio, or none for this split.
    """

    def __init__(self, dset: DsetConfig, split: str, samples: int, skipped: Counter[str]) -> None:
        self.split, self.samples, self.skipped = split, samples, skipped
        self.dset = dset
        found = find_clips(dset)
        own = [clip for clip in found if clip.split == split]
        self.is_borrowed = not own and split != "train"
        if self.is_borrowed:
            logger.warning("%s: no clean audio is held out (too few groups of files): results on "
                           "clips of training say little. Put some files below folders called "
                           "`validation` and `test`.", split)
            own = [clip for clip in found if clip.split == "train"]
        if not own:
            raise UserError("`dset` must hold clean audio for train: all files are held out. Add "
                            "files, or put some below a folder called `train`.")
        present = [name for name in CATEGORIES if any(clip.category == name for clip in own)]
        # Categories without a share are left out of all splits.
        self.clips = {name: [clip for clip in own if clip.category == name]
                      for name in present if getattr(dset.mix, name) > 0.0}
        if not self.clips:
            raise UserError(f"`dset.mix` must give a share to one of {present}, the "
                            f"categories that are present. Received: {dset.mix}")
        shares = np.array([getattr(dset.mix, name) for name in self.clips])
        self.shares = shares / shares.sum()
        self._odds = {}  # by category, the probability of each clip, proportional to its length
        for name, clips in self.clips.items():
            seconds = np.array([clip.seconds for clip in clips])
            self._odds[name] = seconds / seconds.sum()
        self._groups: dict[tuple[str, str], list[Clip]] = {}
        for clip in own:
            self._groups.setdefault((clip.category, clip.group), []).append(clip)

    def draw(self, category: str, rng: np.random.Generator) -> np.ndarray:
        """Draws a segment, float32 `(samples,)`; short clips of a group are joined.

        Raises:
            UserError: Many segments in a row were silent or unreadable.
        """
        audio = self._draw_one(category, rng)
        share = self.dset.share_layered if self.split == "train" else 0.0
        if share and rng.random() < share:
            other = self._draw_one(str(rng.choice(list(self.clips), p=self.shares)), rng)
            level = np.sqrt(dsp.power(audio) / dsp.power(other))
            audio = audio + np.float32(dsp.to_gain(rng.uniform(*LAYER_DB)) * level) * other
        return audio

    def _draw_one(self, category: str, rng: np.random.Generator) -> np.ndarray:
        for _ in range(MAX_REDRAWS):
            audio = self._vary(category, rng)
            if category == "speech" and rng.random() < self.dset.share_room:
                rooms = room_bank(*SPEECH_ROOM_SECONDS)
                audio = sound_in_room(audio, rooms[rng.integers(len(rooms))])
            # Offsets and rumble of the microphone are not signal.
            audio = dsp.highpass(audio, SUBSONIC_HZ, SAMPLE_RATE, wrap=self.split == "train")
            if dsp.power(audio) > 10.0 ** (MIN_CLEAN_DBFS / 10.0):
                return audio
            self.skipped["silent"] += 1
        raise UserError(f"`dset` must hold audible {category} for {self.split}: {MAX_REDRAWS} "
                        f"segments in a row were silent or unreadable.")

    def _vary(self, category: str, rng: np.random.Generator) -> np.ndarray:
        """Joins clips, in training at a random speed and with a random colour."""
        speed, spread_db = self.dset.clean_speed, self.dset.clean_db_spread
        if self.split != "train" or (max(speed) == min(speed) == 1.0 and spread_db == 0.0):
            return self._join_clips(category, rng, self.samples)
        samples = scipy.fft.next_fast_len(
            round(self.samples * np.exp(rng.uniform(*np.log(speed)))), real=True)
        return vary(self._join_clips(category, rng, samples), self.samples, spread_db, rng)

    def _join_clips(self, category: str, rng: np.random.Generator, samples: int) -> np.ndarray:
        clips = self.clips[category]
        clip = self._choose(clips, rng, self._odds[category])
        # A group of effects may have a single short sound.
        siblings = clips if category == "effects" else self._groups[category, clip.group]
        if category == "speech":
            return self._join_speech(clip, siblings, rng, samples)
        audio = np.zeros(samples, np.float32)
        position = 0
        while position < samples:
            piece = self._read_clip(clip, samples - position, rng)
            audio[position : position + len(piece)] = piece
            position += len(piece) + round(rng.uniform(*GAP_SECONDS) * SAMPLE_RATE)
            clip = self._choose(siblings, rng)
        return audio

    def _choose(self, clips: list[Clip], rng: np.random.Generator,
                odds: np.ndarray | None = None) -> Clip:
        """Draws one of `clips` by their odds, which are equal when absent.

        Outside training, adding or removing a clip only changes the mixtures that contain it.
        """
        if self.split == "train":
            return clips[rng.choice(len(clips), p=odds)]
        return choose_by_name(clips, np.ones(len(clips)) if odds is None else odds, rng.bytes(16))

    def _join_speech(self, clip: Clip, siblings: list[Clip], rng: np.random.Generator,
                     samples: int) -> np.ndarray:
        """Joins words and phrases of one speaker to sentences, with the level of the first clip."""
        lead = round(rng.uniform(0.0, LEAD_SECONDS) * SAMPLE_RATE)
        samples += lead
        audio = np.zeros(samples, np.float32)
        position, left, reference = 0, 0, 0.0
        while position < samples:
            piece, level = _trim_pauses(self._read_clip(clip, samples - position, rng))
            if level > 0.0:
                reference = reference or level
                gain = np.clip(np.sqrt(reference / level), 1.0 / MAX_GAIN, MAX_GAIN)
                audio[position : position + len(piece)] = np.float32(gain) * _fade(piece)
            if left == 0:
                left = int(rng.integers(*SENTENCE_CLIPS)) if clip.seconds < PHRASE_SECONDS else 1
            left -= 1
            gap = WORD_GAP_SECONDS if left else SENTENCE_GAP_SECONDS
            position += len(piece) + round(rng.uniform(*gap) * SAMPLE_RATE)
            clip = self._choose(siblings, rng)
        return audio[lead:]

    def _read_clip(self, clip: Clip, samples: int, rng: np.random.Generator) -> np.ndarray:
        """Reads at most `samples` of a clip, faded at both ends; none if it is unreadable."""
        spare = clip.seconds - samples / SAMPLE_RATE
        start = float(rng.uniform(0.0, spare)) if spare > 0.0 else 0.0
        try:
            piece = recordings.read_segment(clip.path, start, samples / SAMPLE_RATE)[:samples]
        except UserError as error:
            _skip(self.skipped, clip.path, error)
            return np.zeros(0, np.float32)
        if clip.category == "speech" and 0.0 < clip.bandwidth_hz < FULL_BAND_HZ:
            # Higher frequencies are artefacts of a codec or hiss of the room.
            piece = cut_above(piece, clip.bandwidth_hz)
        return _fade(piece)


def choose_by_name(clips: Sequence[Clip], weights: np.ndarray, key: bytes) -> Clip:
    """Draws a clip with a probability proportional to its weight, by a hash of key and names.

    Weighted rendezvous hashing: each clip gets an exponentially distributed number, with its weight
    as the rate, and the least number wins (Efraimidis and Spirakis, "Weighted random sampling with
    a reservoir", 2006). So adding a clip changes nothing unless it is drawn itself, and removing
    one changes nothing unless it had been drawn.

    Args:
        clips: The clips, each with a name of its own.
        weights: The weight of each clip.
        key: Takes the place of a seed, at most 64 bytes.
    """
    def draw_number(clip: Clip, weight: float) -> float:
        digest = hashlib.blake2b(clip.name.encode(), key=key, digest_size=8).digest()
        return -math.log((int.from_bytes(digest, "big") + 0.5) / 2.0**64) / weight

    return min(zip(clips, weights, strict=True), key=lambda pair: draw_number(*pair))[0]


def _fade(piece: np.ndarray) -> np.ndarray:
    """Fades `piece` in and out, in place, and returns it."""
    fade = min(round(FADE_SECONDS * SAMPLE_RATE), len(piece) // 2)
    ramp = (np.arange(fade, dtype=np.float32) + 0.5) / max(fade, 1)
    piece[:fade] *= ramp
    piece[len(piece) - fade :] *= ramp[::-1]
    return piece


def _trim_pauses(piece: np.ndarray) -> tuple[np.ndarray, float]:
    """Returns a clip without the pauses at its ends, and the mean power outside of pauses."""
    frames = piece[: len(piece) // LEVEL_FRAME * LEVEL_FRAME].reshape(-1, LEVEL_FRAME)
    powers = np.var(frames, axis=1)
    level = dsp.active_power(powers)
    active = np.flatnonzero(powers > level * 10.0 ** (-dsp.ACTIVE_RANGE_DB / 10.0))
    if level == 0.0:
        return piece[:0], 0.0
    begin, end = max(active[0] - 1, 0), active[-1] + 3
    return piece[begin * LEVEL_FRAME : end * LEVEL_FRAME], level


class NoiseSource:
    """Draws noise of one split, recorded or generated, before `shape_noise`.

    Methods with an argument `more` append so many samples of a second stretch of the same noise.

    Args:
        dset: Names the recordings.
        split: "train", "validation" or "test".
        carrier: The shares and ranges of generated noise.
        samples: Length of each noise.
        skipped: Counts files and stretches that cannot be used, by reason.

    Attributes:
        recordings: The recordings by category.
        missing: The categories without a recording in this split; none for "train".
        evaluated: The noises of the fixed mixtures, each a category and a recording, or None for
            generated noise.

    Raises:
        FileNotFoundError, UserError: There are no such recordings, or none for the test.
    """

    def __init__(self, dset: DsetConfig, split: str, carrier: CarrierConfig, samples: int,
                 skipped: Counter[str]) -> None:
        if split != "train":  # in reports, "tape generated" is a whole tape, not one of its parts
            carrier = replace(carrier, alone_share=0.0, dominant_share=0.0)
        self.dset, self.split, self.carrier, self.samples = dset, split, carrier, samples
        self.skipped = skipped
        found = [one for one in find_noise(dset) if carrier.share(one.category) > 0.0]
        self.recordings: dict[str, list[NoiseRecording]] = {}
        for one in sorted(found, key=lambda one: one.category):
            if one.split == split:
                self.recordings.setdefault(one.category, []).append(one)
        missing = sorted({one.category for one in found} - self.recordings.keys())
        self.missing = missing if split != "train" else []
        self.evaluated: list[tuple[str, NoiseRecording | None]] = [
            (name, one) for name, own in self.recordings.items() for one in own]
        if split == "test" and not dset.path_noise_test:
            self.evaluated = self.evaluated * dset.recorded_noise + [
                (name, None) for group in dset.made_noise for name in MADE_NOISE[group]]
        if split == "train":
            for category in missing:
                logger.warning("train: every recording of the noise category %s is held out; put "
                               "some below a folder called `train`", category)
        elif split == "validation":  # generated noise replaces missing categories
            kinds = [(name if name in KINDS else "mixed", None) for name in missing]
            self.evaluated += kinds or ([] if self.evaluated else [("mixed", None)])
            for category in missing:
                logger.info("%s: noise of the category %s is generated, because no recording of "
                            "it is held out", split, category)
        elif not self.evaluated:
            raise UserError(f"`dset.path_noise` must hold noise for {split}: no recording is held "
                            f"out. Put some below a folder called `{split}`, or name some in "
                            f"`dset.path_noise_test`")

    def choose(self, rng: np.random.Generator) -> tuple[str, bool]:
        """Draws a kind of noise for a training mixture, and whether to generate it."""
        is_generated = rng.random() < self.dset.share_generated or not self.recordings
        if is_generated and self.carrier.kind == "mixed" and (
                rng.random() < self.carrier.moving_share):
            return MOVING, True
        kinds = KINDS if is_generated else list(self.recordings)
        shares = np.array([self.carrier.share(name) for name in kinds])
        return str(rng.choice(kinds, p=shares / shares.sum())), is_generated

    def generate(self, kind: str, rng: np.random.Generator, signal: np.ndarray | None = None,
                 more: int = 0) -> np.ndarray:
        """Generates noise, float32 `(samples + more,)`.

        Args:
            kind: One of `KINDS`, `MOVING`, or a noise of `noise/foreign.py`.
            rng: Draws the noise.
            signal: If given, the noise has parts that depend on this signal, `(samples,)`.
            more: Length of the second stretch.
        """
        if kind in OPEN | SEALED:
            noise = (OPEN | SEALED)[kind](self.samples + more, rng)
            return (noise / np.std(noise)).astype(np.float32)
        if kind == MOVING:
            return make_moving(self.samples + more, rng, self.carrier.moving)
        source = generator.CarrierNoise(generator.draw_carrier(kind, rng, carrier=self.carrier))
        noise = source.read(self.samples)
        if signal is not None:
            noise = noise + source.follow(signal)
        return np.concatenate([noise, source.read(more)])

    def move(self, noise: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Lets the level of a share of the noises fluctuate, and returns the others unchanged."""
        if rng.random() >= self.carrier.fluctuating_share:
            return noise
        return fluctuate(noise, rng, self.carrier.moving)

    def draw_recorded(self, kind: str, rng: np.random.Generator,
                      wanted: NoiseRecording | None = None, more: int = 0) -> np.ndarray:
        """Draws a stretch of a recording, `(samples + more,)`.

        For training, it is longer or shorter, as a random playing speed requires, and its clicks
        have a random level.

        Args:
            kind: A category of recordings.
            rng: Draws recording and stretch.
            wanted: The recording, instead of any of its kind.
            more: Length of the second stretch.

        Raises:
            UserError: Many stretches in a row were silent or unreadable.
        """
        choice = self.recordings[kind] if wanted is None else [wanted]
        for _ in range(MAX_REDRAWS):
            recording = choice[rng.integers(len(choice))]
            path = recording.files[rng.integers(len(recording.files))]
            try:
                noise = recordings.read_noise(path, rng)
            except UserError as error:
                _skip(self.skipped, path, error)
                continue
            speed = float(rng.uniform(*self.dset.noise_speed)) if self.split == "train" else 1.0
            whole = self.samples + more
            samples = whole if speed == 1.0 else scipy.fft.next_fast_len(
                round(whole * speed), real=True)
            first = round(samples * self.samples / whole)
            noise = recordings.take_stretch(noise, first, kind == "gramophone", rng,
                                            samples - first)
            if np.ptp(noise[:first]) > 0.0:
                spread_db = self.dset.noise_balance_db if self.split == "train" else 0.0
                return change_balance(noise, spread_db, rng)
            self.skipped["silent noise"] += 1
        raise UserError(f"`dset.path_noise` must hold audible {kind} noise for {self.split}: "
                        f"{MAX_REDRAWS} stretches in a row were silent or unreadable.")


def _skip(skipped: Counter[str], path: Path, error: Exception) -> None:
    """Counts a file that cannot be read, with a warning at the first time."""
    if not skipped[str(path)]:
        logger.warning("%s cannot be read and is skipped: %s", path, error)
    skipped[str(path)] += 1
