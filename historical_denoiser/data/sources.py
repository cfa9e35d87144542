"""The clean audio and the noise of one split, and what is drawn from them."""

from __future__ import annotations

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
from historical_denoiser.data.rooms import room_bank, sound_in_room
from historical_denoiser.data.settings import CATEGORIES, MADE_GROUPS, DsetConfig
from historical_denoiser.noise import generator
from historical_denoiser.noise.carriers import KINDS, MOVING, CarrierConfig
from historical_denoiser.noise.foreign import OPEN, SEALED
from historical_denoiser.noise.moving import fluctuate, make_moving

logger = logging.getLogger(__name__)

QUIETEST_DBFS = -60.0  # a clean segment below this counts as silent
MAX_REDRAWS = 50
EDGE_SECONDS = 0.005  # fade where a clip is cut
SUBSONIC_HZ = 20.0  # nothing below is taken for signal
GAP_SECONDS = (0.02, 0.4)  # silence between clips that are strung together
WORD_GAP_SECONDS = (0.0, 0.12)  # between words
SENTENCE_GAP_SECONDS = (0.3, 1.0)
PHRASE_SECONDS = 1.5  # of clips this long a sentence has one, of shorter ones two or more
SENTENCE_CLIPS = (2, 7)
LEAD_SECONDS = 0.5  # at most, that a segment of speech begins within what is strung together
MAX_GAIN = 4.0  # by which a clip is brought to the level of the one before it
LEVEL_FRAME = 882  # samples of the frames in which levels are compared, 20 ms
FULL_BAND_HZ = 16000.0  # speech whose bandwidth is below this one is cut off there
SPEECH_ROOM_SECONDS = (0.2, 1.2)  # decay times of the rooms that speech sounds in

MADE_NOISE = dict(zip(MADE_GROUPS, (OPEN, SEALED), strict=True))


class CleanSource:
    """The clean clips of one split, and segments of `samples` drawn from them.

    Attributes:
        clips: By category.
        shares: Of each of these categories, with the sum 1.
        is_borrowed: Whether the clips are those of training, as no clip is held out.
        skipped: Counts what cannot be used.
    """

    def __init__(self, dset: DsetConfig, split: str, samples: int, skipped: Counter[str]) -> None:
        self.split, self.samples, self.skipped = split, samples, skipped
        self.share_room = dset.share_room
        found = find_clips(dset)
        own = [clip for clip in found if clip.split == split]
        self.is_borrowed = not own and split != "train"
        if self.is_borrowed:
            logger.warning("%s: no clean audio is held out (too few groups of files): clips of "
                           "training are measured, which says little. Put some files below "
                           "folders called `validation` and `test`.", split)
            own = [clip for clip in found if clip.split == "train"]
        if not own:
            raise UserError("`dset` must hold clean audio for train: all that was found is held "
                            "out. Add files, or put some below a folder called `train`.")
        by_category = {name: [clip for clip in own if clip.category == name]
                       for name in CATEGORIES}
        # What has no share is neither trained nor judged on.
        self.clips = {name: clips for name, clips in by_category.items()
                      if clips and getattr(dset.mix, name) > 0.0}
        if not self.clips:
            present = [name for name, clips in by_category.items() if clips]
            raise UserError(f"`dset.mix` must give a share to one of {present}, the "
                            f"categories that are present. Received: {dset.mix}")
        shares = np.array([getattr(dset.mix, name) for name in self.clips])
        self.shares = shares / shares.sum()
        self._odds = {}  # of each clip, by its length
        for name, clips in self.clips.items():
            seconds = np.array([clip.seconds for clip in clips])
            self._odds[name] = seconds / seconds.sum()
        self._groups: dict[tuple[str, str], list[Clip]] = {}
        for clip in own:
            self._groups.setdefault((clip.category, clip.group), []).append(clip)

    def draw(self, category: str, rng: np.random.Generator) -> np.ndarray:
        """Reads one segment, float32 `(samples,)`; short clips of a group are strung together.

        Raises:
            UserError: Many segments in a row were silent or unreadable.
        """
        for _ in range(MAX_REDRAWS):
            audio = self._string_together(category, rng)
            if category == "speech" and rng.random() < self.share_room:
                rooms = room_bank(*SPEECH_ROOM_SECONDS)
                audio = sound_in_room(audio, rooms[rng.integers(len(rooms))])
            # Offsets and rumble of the microphone are no part of the signal.
            audio = dsp.highpass(audio, SUBSONIC_HZ, SAMPLE_RATE, wrap=self.split == "train")
            if dsp.power(audio) > 10.0 ** (QUIETEST_DBFS / 10.0):
                return audio
            self.skipped["silent"] += 1
        raise UserError(f"`dset` must hold audible {category} for {self.split}: {MAX_REDRAWS} "
                        f"segments in a row were silent or unreadable.")

    def _string_together(self, category: str, rng: np.random.Generator) -> np.ndarray:
        clips = self.clips[category]
        clip = self._choose(clips, rng, self._odds[category])
        # A group of effects can be one short sound.
        siblings = clips if category == "effects" else self._groups[category, clip.group]
        if category == "speech":
            return self._speak(clip, siblings, rng)
        audio = np.zeros(self.samples, np.float32)
        position = 0
        while position < self.samples:
            piece = self._read_clip(clip, self.samples - position, rng)
            audio[position : position + len(piece)] = piece
            position += len(piece) + round(rng.uniform(*GAP_SECONDS) * SAMPLE_RATE)
            clip = self._choose(siblings, rng)
        return audio

    def _choose(self, clips: list[Clip], rng: np.random.Generator,
                odds: np.ndarray | None = None) -> Clip:
        """Draws one of `clips`, each by its odds, which are equal when absent.

        A clip that comes or goes changes those fixed mixtures alone that hold it.
        """
        if self.split == "train":
            return clips[rng.choice(len(clips), p=odds)]
        return choose_by_name(clips, np.ones(len(clips)) if odds is None else odds, rng.bytes(16))

    def _speak(self, clip: Clip, siblings: list[Clip], rng: np.random.Generator) -> np.ndarray:
        """Strings words and phrases of one speaker into sentences, all as loud as the first."""
        lead = round(rng.uniform(0.0, LEAD_SECONDS) * SAMPLE_RATE)
        samples = self.samples + lead
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
        """Reads at most `samples` of a clip, with a fade at both ends; none if it is unreadable."""
        spare = clip.seconds - samples / SAMPLE_RATE
        start = float(rng.uniform(0.0, spare)) if spare > 0.0 else 0.0
        try:
            piece = recordings.read_segment(clip.path, start, samples / SAMPLE_RATE)[:samples]
        except UserError as error:
            _skip(self.skipped, clip.path, error)
            return np.zeros(0, np.float32)
        if clip.category == "speech" and 0.0 < clip.bandwidth_hz < FULL_BAND_HZ:
            # What is above was left by a codec or by the room's hiss, and is no signal.
            piece = cut_above(piece, clip.bandwidth_hz)
        return _fade(piece)


def choose_by_name(clips: Sequence[Clip], weights: np.ndarray, key: bytes) -> Clip:
    """Draws a clip with a probability proportional to its weight, by a hash of key and names.

    Each clip waits for a time that is distributed exponentially, with its weight as the rate, and
    the first is taken (weighted rendezvous hashing; Efraimidis and Spirakis, "Weighted random
    sampling with a reservoir", 2006). So a clip that is added is chosen or changes nothing, and
    without one that is not chosen the choice is the same.
    """
    def waiting(clip: Clip, weight: float) -> float:
        digest = hashlib.blake2b(clip.name.encode(), key=key, digest_size=8).digest()
        return -math.log((int.from_bytes(digest, "big") + 0.5) / 2.0**64) / weight

    return min(zip(clips, weights, strict=True), key=lambda pair: waiting(*pair))[0]


def _fade(piece: np.ndarray) -> np.ndarray:
    """Fades `piece` in and out, in place, and returns it."""
    fade = min(round(EDGE_SECONDS * SAMPLE_RATE), len(piece) // 2)
    ramp = (np.arange(fade, dtype=np.float32) + 0.5) / max(fade, 1)
    piece[:fade] *= ramp
    piece[len(piece) - fade :] *= ramp[::-1]
    return piece


def _trim_pauses(piece: np.ndarray) -> tuple[np.ndarray, float]:
    """Returns a clip without the pauses at its ends, and the mean power of what is no pause."""
    frames = piece[: len(piece) // LEVEL_FRAME * LEVEL_FRAME].reshape(-1, LEVEL_FRAME)
    powers = np.var(frames, axis=1)
    level = dsp.active_power(powers)
    heard = np.flatnonzero(powers > level * 10.0 ** (-dsp.ACTIVE_RANGE_DB / 10.0))
    if level == 0.0:
        return piece[:0], 0.0
    begin, end = max(heard[0] - 1, 0), heard[-1] + 3
    return piece[begin * LEVEL_FRAME : end * LEVEL_FRAME], level


class NoiseSource:
    """Recorded noise of one split, and generated noise; both as they are before `shape_noise`.

    Where `more` samples are asked for, so many of another stretch of the same noise follow.

    Attributes:
        recordings: By category.
        missing: Categories of which this split, one that is held out, has no recording.
        evaluated: The noises of the fixed mixtures: a category, and one recording of it, or None
            for noise that is made.
        skipped: Counts what cannot be used.
    """

    def __init__(self, dset: DsetConfig, split: str, carrier: CarrierConfig, samples: int,
                 skipped: Counter[str]) -> None:
        if split != "train":  # "tape generated" in a report means a tape, not rumble alone
            carrier = replace(carrier, alone_share=0.0, dominant_share=0.0)
        self.dset, self.split, self.carrier, self.samples = dset, split, carrier, samples
        self.skipped = skipped
        found = [one for one in find_noise(dset) if carrier.share(one.category) > 0.0]
        by_category = {name: [one for one in found if (one.category, one.split) == (name, split)]
                       for name in sorted({one.category for one in found})}
        self.recordings = {name: own for name, own in by_category.items() if own}
        missing = [name for name, own in by_category.items() if not own]
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
        elif split == "validation":  # noise that is generated stands for what is missing
            kinds = [(name if name in KINDS else "mixed", None) for name in missing]
            self.evaluated += kinds or ([] if self.evaluated else [("mixed", None)])
            for category in missing:
                logger.info("%s: noise of the category %s is generated, no recording of it is "
                            "held out", split, category)
        elif not self.evaluated:
            raise UserError(f"`dset.path_noise` must hold noise for {split}: no recording is held "
                            f"out. Put some below a folder called `{split}`, or name some in "
                            f"`dset.path_noise_test`")

    def choose(self, rng: np.random.Generator) -> tuple[str, bool]:
        """Draws the kind of noise for a training mixture, and whether it is generated."""
        is_generated = rng.random() < self.dset.share_generated or not self.recordings
        if is_generated and self.carrier.kind == "mixed" and (
                rng.random() < self.carrier.moving_share):
            return MOVING, True
        kinds = KINDS if is_generated else list(self.recordings)
        shares = np.array([self.carrier.share(name) for name in kinds])
        return str(rng.choice(kinds, p=shares / shares.sum())), is_generated

    def generate(self, kind: str, rng: np.random.Generator, signal: np.ndarray | None = None,
                 more: int = 0) -> np.ndarray:
        """Generates noise `(samples,)`, with parts that follow `signal` where it is given."""
        if kind in OPEN or kind in SEALED:
            return self._make_foreign(kind, rng, more)
        if kind == MOVING:
            return make_moving(self.samples + more, rng, self.carrier.moving)
        source = generator.CarrierNoise(generator.draw_carrier(kind, rng, carrier=self.carrier))
        noise = source.read(self.samples)
        if signal is not None:
            noise = noise + source.follow(signal)
        return np.concatenate([noise, source.read(more)])

    def _make_foreign(self, kind: str, rng: np.random.Generator, more: int) -> np.ndarray:
        noise = (OPEN | SEALED)[kind](self.samples + more, rng)
        return (noise / np.std(noise)).astype(np.float32)

    def move(self, noise: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Lets the levels of a share of the noises move; the others are as they were."""
        if rng.random() >= self.carrier.fluctuating_share:
            return noise
        return fluctuate(noise, rng, self.carrier.moving)

    def draw_recorded(self, kind: str, rng: np.random.Generator,
                      wanted: NoiseRecording | None = None, more: int = 0) -> np.ndarray:
        """Draws a stretch of `wanted`, or of any recording of a kind.

        In training it is as long as its playing speed requires, and its clicks have another level.

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
            # Another machine hums and rattles at another pitch.
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
    """Counts a file that cannot be read and says so once."""
    if not skipped[str(path)]:
        logger.warning("%s cannot be read and is skipped: %s", path, error)
    skipped[str(path)] += 1
