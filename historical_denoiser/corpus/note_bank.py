"""A bank of recorded notes: the instruments in folders, and which of them play a MIDI program.

The name of a file gives the pitch and dynamic of its note; the name of its folder is the
instrument. `open_bank` finds all notes, `load_note` decodes one, `choose_players` returns the
instruments that can play a program.
"""

from __future__ import annotations

import functools
import logging
import re
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import librosa
import numpy as np
import scipy
import soundfile as sf

from historical_denoiser.core.checks import UserError, require
from historical_denoiser.corpus.clips import (
    MIN_PEAK,
    measure_bandwidth_hz,
    measure_noise_db,
    split_frames,
)
from historical_denoiser.corpus.manifest import MIN_CLEAN_DB
from historical_denoiser.corpus.performance import DRUMS
from historical_denoiser.data.audio_index import find_audio
from historical_denoiser.formats.audio_io import UNKNOWN_SAMPLES

logger = logging.getLogger(__name__)

EXPECTED_NAMES = ("names that contain a pitch, such as cello_A2_forte.mp3, D#6v10.ogg or "
                  "clarinet_As4_1.flac (s: sharp), or begin with a drum's MIDI key, such as "
                  "36-Kick-2.flac")
PITCH = re.compile(r"(?<![A-Za-z0-9#])([A-Ga-g])(#|s|b)?(-?\d)(?=v\d|$|[^0-9A-Za-z])")
DRUM_KEY = re.compile(r"^(\d{2,3})-[A-Za-z]")
LAYER = re.compile(r"-(\d)$")  # number of a drum's dynamic layer; high numbers are loud
# Names of phrases, of effects, and of sounds whose pitch differs from the one in the name.
LEFT_OUT = re.compile(r"phrase|trill|gliss|harmonic|tremolo|flutter|tongu|slap|legno|rhythm|roll"
                      r"|flam|effect|scraped|squeez|legato|loop|noise|choke|snap|ponticello",
                      re.IGNORECASE)
DYNAMICS = {"pianissimo": 35, "pp": 35, "piano": 50, "p": 50, "mezzo-piano": 62, "mp": 62,
            "mezzo-forte": 76, "mf": 76, "m": 76, "forte": 92, "f": 92, "fortissimo": 112,
            "ff": 112}  # as MIDI velocities
TAKE = re.compile(r"^(pp|p|mp|m|mf|f|ff)[a-d]$")  # a dynamic and the letter of the take
MIN_NOTES = 5  # an instrument with pitches needs at least as many
MAX_SHIFT = 4  # largest transposition of a recorded note in semitones

MAX_NOTE_SECONDS = 16.0
# Levels are relative to the peak of the note. The level of an attack rises from `ONSET_DB` to
# `RISEN_DB` within `MAX_RISE_SECONDS`; a note that rises more slowly is faded in.
ONSET_DB, RISEN_DB = -36.0, -18.0
MAX_RISE_SECONDS = 0.15
SLOW_FADE_SECONDS = 0.1
MIN_FADE_SECONDS = 0.0005  # shortest fade-in, for a recording that begins with the attack
# A note ends where its level has been below `END_DB` for `END_SECONDS`.
END_DB, END_SECONDS = -50.0, 0.1
LEAD_SECONDS = 0.005  # time before the onset that is kept
FADE_SECONDS = 0.05
CUT_FADE_SECONDS, CUT_DB = 0.15, -35.0  # fade of a recording that ends above this level
FRAME_SECONDS = 0.005
LOUD_SECONDS = 0.05
MIN_SECONDS = 0.05
MEASURED_SECONDS = 0.2  # in a shorter note, noise cannot be distinguished from the note
SOUNDS_KEPT = 2000  # size of the cache of decoded notes, about 1 GB

RUMBLE_SHARE, RUMBLE_ORDER = 0.65, 6  # high-pass: cutoff relative to the pitch, and order
PITCH_SECONDS = 0.4  # length of the excerpt whose pitch is measured
SEARCH_CENTS = 70.0
MIN_CORRELATION = 0.9
OCTAVE_NOTES = 9  # number of notes from which the octave of an instrument's names is derived

DECAYING = re.compile(r"piano|guitar|banjo|mandolin|harp|pizz|marimba|xylo|vibra|glock|celesta"
                      r"|chime|koto|sitar|(?<!f)lute", re.IGNORECASE)
DECAYING_PROGRAMS = {*range(16), *range(24, 40), 45, 46, 47, *range(104, 109), *range(112, 120)}
# First and last program of General MIDI, and the names of the instruments that play them.
PLAYERS = (
    (0, 7, r"piano|harpsichord"), (8, 15, r"celesta|glock|vibra|marimba|xylo|chime"),
    (16, 23, r"organ|accordion|harmonica"), (24, 31, r"guitar"),
    (32, 39, r"bass.*pizz|bass.?guitar"), (40, 40, r"violin"), (41, 41, r"viola"),
    (42, 42, r"cello"), (43, 43, r"double.?bass|contrabass(?!oon)"),
    (44, 44, r"violin|viola|cello|double.?bass"), (45, 45, r"pizz"), (46, 46, r"harp(?!si)"),
    (48, 51, r"violin|viola|cello|double.?bass"), (52, 54, r"voice|choir|soprano|tenor"),
    (56, 56, r"trumpet|cornet"), (57, 57, r"trombone"),
    (58, 58, r"tuba|trombone|contrabassoon"), (59, 59, r"trumpet|trombone"), (60, 60, r"horn"),
    (61, 63, r"trumpet|trombone|french.?horn|tuba"), (64, 67, r"sax"), (68, 68, r"oboe"),
    (69, 69, r"english|anglais"), (70, 70, r"bassoon"), (71, 71, r"clarinet"),
    (72, 79, r"flute|piccolo|recorder"), (104, 108, r"banjo|sitar|koto|mandolin"),
    (110, 110, r"violin|cello"))
# Tuned drums: program, names of the drums that play it, and the pitch that is played untransposed.
TUNED_DRUMS = {47: (r"timpani|bass.?drum|surdo|floor.?tom|djundjun", 45),
               115: (r"wood.?block|clave", 72), 116: (r"bass.?drum|djundjun|surdo", 48),
               117: (r"tom(?!.*edge)", 48), 118: (r"tom|kick", 48)}
# Share by which a drum's pitch follows that of the note, and maximal transposition in semitones.
TUNED_SHARE, TUNED_SHIFT = 0.5, 5.0
# Percussion keys of General MIDI, and the names of the drums that play them.
DRUM_NAMES = (
    ((35, 36), r"bass.?drum|kick"), ((37,), r"side.?stick|rim.?shot"),
    ((38,), r"snare(?!.*edge)"), ((39,), r"clap|castanet"), ((40,), r"snare"),
    ((41, 43), r"floor.?tom|bass.?drum|surdo|djundjun"),
    ((42, 44), r"hat.?(closed|pedal)"), ((45, 47, 48, 50), r"tom|djembe|tenor.?drum"),
    ((46,), r"hat.?.*open"), ((49, 52, 55, 57), r"crash|splash|suspended.cymbal"),
    ((51, 53, 59), r"ride"), ((54,), r"tambourine"), ((56,), r"cow.?bell"), ((58,), r"vibraslap"),
    (tuple(range(60, 67)), r"bongo|conga|timbale|djembe|roto"), ((69,), r"cabasa"),
    ((70,), r"maraca|shaker"), ((75, 76, 77), r"wood.?block|clave"), ((80, 81), r"triangle"),
    ((85,), r"castanet"))
NAMED_DRUM = re.compile("|".join([*(name for _, name in DRUM_NAMES), TUNED_DRUMS[47][0]]),
                        re.IGNORECASE)


class RecordedNote(NamedTuple):
    """A file that holds one note."""

    path: Path
    pitch: int | None  # MIDI number according to the name; None for a drum
    velocity: int | None  # MIDI velocity of the dynamic; None if the name contains none
    seconds: float


@dataclass(frozen=True)
class Instrument:
    """The notes of one instrument or drum.

    Args:
        name: Name of the folder; for a drum, followed by the name of the file.
        notes: At least one note.
        key: A drum's key of General MIDI, if the name begins with it.
    """

    name: str
    notes: tuple[RecordedNote, ...]
    key: int | None = None

    @property
    def is_drum(self) -> bool:
        """Whether its notes have no pitch."""
        return self.notes[0].pitch is None

    @property
    def decays(self) -> bool:
        """Whether its notes die away by themselves."""
        return self.is_drum or bool(DECAYING.search(self.name))

    @functools.cached_property
    def octave(self) -> int:
        """Octaves by which its notes sound higher than C4 = middle C suggests."""
        order = np.linspace(0, len(self.notes) - 1, min(OCTAVE_NOTES, len(self.notes)))
        chosen = [self.notes[int(place)] for place in order]
        sounds = [_load_sound(note.path, note.pitch - 12) for note in chosen]
        found = [_measure_pitch(sound, note.pitch)
                 for sound, note in zip(sounds, chosen, strict=True) if sound]
        octaves = [octave for octave, _, correlation in found if correlation >= MIN_CORRELATION]
        usual = max(set(octaves), key=octaves.count, default=0)
        return usual if octaves.count(usual) > len(octaves) / 2 else 0

    @functools.cached_property
    def pitches(self) -> np.ndarray:
        """The MIDI pitches at which the notes sound, float `(notes,)`; NaN for a drum."""
        if self.is_drum:
            return np.full(len(self.notes), np.nan)
        return np.array([note.pitch for note in self.notes]) + 12.0 * self.octave

    @functools.cached_property
    def velocities(self) -> np.ndarray:
        """The MIDI velocities of the notes, float `(notes,)`; NaN if the name contains none."""
        return np.array([np.nan if note.velocity is None else note.velocity for note in self.notes])

    @functools.cached_property
    def seconds(self) -> np.ndarray:
        """The recordings' lengths, `(notes,)`."""
        return np.array([note.seconds for note in self.notes])

    def load(self, place: int) -> Sound | None:
        """Returns the sound of the note with a number; None if it is not usable."""
        note = self.notes[place]
        return load_note(note.path, None if self.is_drum else note.pitch + 12 * self.octave)

    def has_pitch(self, pitch: float) -> bool:
        """Whether a note is near enough to be transposed to `pitch`; True for a drum."""
        return self.is_drum or bool(np.min(np.abs(self.pitches - pitch)) <= MAX_SHIFT)


@dataclass(frozen=True)
class Sound:
    """One decoded note: mono, without the silence around it.

    Args:
        samples: `(samples,)`, float32, at the sample rate of the file.
        rate: Sample rate in Hz.
        lead: Number of samples before the onset.
        level: RMS of its loudest `LOUD_SECONDS`.
        cents: Deviation from the pitch for which it was loaded; 0 if it is unknown.
    """

    samples: np.ndarray
    rate: int
    lead: int
    level: float
    cents: float = 0.0


def parse_pitch(stem: str) -> int | None:
    """Returns the MIDI pitch in a file's name, with C4 as 60; None if there is none."""
    match = PITCH.search(stem)
    return librosa.note_to_midi(match[0].replace("s", "#")) if match else None


def parse_velocity(stem: str) -> int | None:
    """Returns the velocity of the dynamic in a file's name; None if there is none."""
    for word in re.split(r"[_ ]+", stem.lower()):
        take = TAKE.match(word)
        if take or word in DYNAMICS:
            return DYNAMICS[take[1] if take else word]
    return None


@functools.lru_cache(maxsize=2)
def open_bank(folders: tuple[Path, ...]) -> tuple[Instrument, ...]:
    """Finds the instruments in folders, sorted by name.

    Raises:
        UserError: No folder is given, or one is missing or contains no note.
    """
    require(bool(folders), "notes", f"followed by folders of audio files with {EXPECTED_NAMES}",
            folders)
    found: dict[tuple[str, int | None], list[RecordedNote]] = defaultdict(list)
    for folder in folders:
        before = sum(map(len, found.values()))
        try:
            paths = find_audio(folder)
        except FileNotFoundError as error:
            raise UserError(f"{error} Recorded notes are audio files with {EXPECTED_NAMES}."
                            ) from error
        for path in paths:
            name, key, note = _describe(path)
            if note:
                found[name, key].append(note)
        if sum(map(len, found.values())) == before:
            raise UserError(f"`{folder}` must hold recorded notes: audio files with "
                            f"{EXPECTED_NAMES}. None was found.")
    instruments = [Instrument(name, tuple(notes), key) for (name, key), notes
                   in sorted(found.items(), key=lambda item: (item[0][0], item[0][1] or 0))]
    return tuple(one for one in instruments if one.is_drum or len(one.notes) >= MIN_NOTES)


def _describe(path: Path) -> tuple[str, int | None, RecordedNote | None]:
    """Returns a file's instrument, the key of a drum, and the note; None if it is not usable."""
    stem, folder, key = path.stem, path.parent.name, DRUM_KEY.match(path.stem)
    if LEFT_OUT.search(stem):
        return folder, None, None
    pitch = None if key else parse_pitch(stem)
    velocity = parse_velocity(stem)
    if key:
        layer = LAYER.search(stem)
        velocity = min(25 * int(layer[1]), 120) if layer else None
        folder = f"{folder} {LAYER.sub('', stem)}"
    elif pitch is None and not NAMED_DRUM.search(folder):
        return folder, None, None
    elif "pizz" in stem.lower() and "pizz" not in folder.lower():
        folder = f"{folder} pizz"
    seconds = _measure_seconds(path)
    note = RecordedNote(path, pitch, velocity, seconds) if seconds >= MIN_SECONDS else None
    return folder, int(key[1]) if key else None, note


def _measure_seconds(path: Path) -> float:
    """Returns the length of a recording; 0 if it cannot be read."""
    try:
        info = sf.info(path)
    except sf.LibsndfileError:
        return 0.0
    return info.frames / info.samplerate if info.frames < UNKNOWN_SAMPLES else 0.0


def choose_players(bank: tuple[Instrument, ...], program: int, pitch: int) -> list[Instrument]:
    """Returns the instruments that play a note of a program.

    If no name fits, all instruments of the same kind (decaying or sustained) are returned.

    Args:
        bank: The instruments to choose from.
        program: A program of General MIDI, or `DRUMS`.
        pitch: MIDI number of the note; for `DRUMS`, the percussion key.
    """
    if program == DRUMS:
        named = next((pattern for keys, pattern in DRUM_NAMES if pitch in keys), None)
        return [one for one in bank if one.is_drum and (
            re.search(named, one.name, re.IGNORECASE) if named else one.key == pitch)]
    if program in TUNED_DRUMS:
        return _named([one for one in bank if one.is_drum], TUNED_DRUMS[program][0])
    kind = [one for one in bank if not one.is_drum and one.decays == (program in DECAYING_PROGRAMS)]
    pattern = next((name for low, high, name in PLAYERS if low <= program <= high), None)
    return (_named(kind, pattern) if pattern else []) or kind


def _named(instruments: list[Instrument], pattern: str) -> list[Instrument]:
    return [one for one in instruments if re.search(pattern, one.name, re.IGNORECASE)]


@functools.lru_cache(maxsize=SOUNDS_KEPT)
def load_note(path: Path, pitch: int | None) -> Sound | None:
    """Decodes a note and measures its tuning; None if `_load_sound` returns None.

    A note that sounds octaves lower than `pitch`, its MIDI number, has a wrong name, and None is
    returned as well. One that seems to sound octaves higher may only have a weak fundamental.
    """
    sound = _load_sound(path, pitch)
    if sound is None or pitch is None:
        return sound
    octave, cents, correlation = _measure_pitch(sound, pitch)
    if correlation < MIN_CORRELATION:
        return sound
    if octave < 0:
        return None
    if octave > 0:
        _, cents, correlation = _measure_pitch(sound, pitch, octaves=(0,))
    return replace(sound, cents=cents if correlation >= MIN_CORRELATION else 0.0)


def _load_sound(path: Path, pitch: int | None) -> Sound | None:
    """Decodes a note; None if it cannot be read, is silent, or is too noisy to be a target.

    A high-pass filter removes the rumble below the pitch of the note. Other noise is measured in
    the quietest frames of each band, as in the manifest; it must lie `MIN_CLEAN_DB` below the note.
    The sound is cut where it has decayed by 50 dB, so that the noise after it does not add up.
    """
    try:
        with sf.SoundFile(path) as file:
            rate = file.samplerate
            samples = file.read(round(MAX_NOTE_SECONDS * rate), dtype="float32", always_2d=True)
    except sf.LibsndfileError:
        return None
    mono = samples.mean(axis=1)
    if not np.all(np.isfinite(mono)) or np.max(np.abs(mono), initial=0.0) < MIN_PEAK:
        return None
    if pitch is not None:
        mono = scipy.signal.sosfilt(_rumble_filter(rate, pitch), mono).astype(np.float32)
    mono, lead = _trim(mono, rate)
    if len(mono) < MIN_SECONDS * rate:
        return None
    if len(mono) >= MEASURED_SECONDS * rate:
        bandwidth_hz = measure_bandwidth_hz(mono)
        if measure_noise_db(mono, sustained=True, bandwidth_hz=bandwidth_hz) < MIN_CLEAN_DB:
            return None
    level = float(frame_levels(mono, round(LOUD_SECONDS * rate)).max())
    return Sound(mono, rate, lead, level)


@functools.cache
def _rumble_filter(rate: int, pitch: int) -> np.ndarray:
    # The filter is causal; a zero-phase filter would ring before the onset.
    return scipy.signal.butter(RUMBLE_ORDER, RUMBLE_SHARE * librosa.midi_to_hz(pitch), "highpass",
                               fs=rate, output="sos")


def frame_levels(samples: np.ndarray, size: int) -> np.ndarray:
    """Returns the RMS of each whole frame of `size` samples; there is at least one."""
    return np.sqrt(np.mean(np.square(split_frames(samples, size)), axis=1))


def _trim(samples: np.ndarray, rate: int) -> tuple[np.ndarray, int]:
    """Cuts off the sound before and after a note; returns the note and its lead in samples.

    A note begins where its level last exceeds `ONSET_DB` before it reaches `RISEN_DB`. If this
    takes longer than `MAX_RISE_SECONDS`, for instance out of breath noise, it is faded in.
    """
    size = round(FRAME_SECONDS * rate)
    levels = frame_levels(samples, size)
    loudest = int(levels.argmax())
    below = 20.0 * np.log10(np.maximum(levels / levels[loudest], 1e-9))
    risen = int(np.argmax(below >= RISEN_DB))
    quiet = np.flatnonzero(below[:risen] < ONSET_DB)
    onset = int(quiet[-1]) + 1 if len(quiet) else 0
    earliest = risen - round(MAX_RISE_SECONDS / FRAME_SECONDS)
    if onset < earliest:
        start, fade = earliest * size, round(SLOW_FADE_SECONDS * rate)
        lead = fade
    else:
        lead = min(round(LEAD_SECONDS * rate), onset * size)
        start, fade = onset * size - lead, lead
    end = _find_end(below[loudest:], loudest)
    note = samples[start : end * size].copy()
    _fade_in(note, max(fade, round(MIN_FADE_SECONDS * rate)))
    is_cut = below[end - 1] > CUT_DB
    fade_out(note, round((CUT_FADE_SECONDS if is_cut else FADE_SECONDS) * rate))
    return note, lead


def _find_end(below: np.ndarray, first: int) -> int:
    """Returns the number of the frame in which a note has been below `END_DB` for long enough.

    Args:
        below: Levels of the frames from number `first` on, in dB relative to the peak.
    """
    needed = round(END_SECONDS / FRAME_SECONDS)
    if len(below) >= needed:
        runs = np.convolve(below < END_DB, np.ones(needed), "valid") >= needed
        if np.any(runs):
            return first + int(np.argmax(runs)) + needed
    return first + len(below)


def _fade_in(samples: np.ndarray, length: int) -> None:
    """Fades the beginning of a note in, in place."""
    length = min(length, len(samples))
    samples[:length] *= 0.5 - 0.5 * np.cos(np.pi * (np.arange(length) + 0.5) / max(length, 1))


def fade_out(samples: np.ndarray, length: int) -> None:
    """Fades the end of a note out, in place; the fade is at most half as long as the note."""
    length = min(length, len(samples) // 2)
    _fade_in(samples[::-1], length)


def _measure_pitch(sound: Sound, pitch: int, octaves: tuple[int, ...] = (2, 1, 0, -1, -2),
                   ) -> tuple[int, float, float]:
    """Measures at which octave and cents above a pitch a note sounds, by its autocorrelation.

    The maximum of the normalised autocorrelation is searched for near the period of the pitch in
    each of the octaves. Since a multiple of a period is a period, too, the highest octave whose
    maximum is nearly the greatest is returned, with the cents above it and the correlation.
    """
    start = len(sound.samples) // 5
    excerpt = sound.samples[start : start + round(PITCH_SECONDS * sound.rate)]
    points = 1 << (2 * len(excerpt) - 1).bit_length()
    power = np.abs(scipy.fft.rfft(excerpt, points)) ** 2
    correlation = scipy.fft.irfft(power)[: len(excerpt)]
    correlation /= correlation[0] * (1.0 - np.arange(len(excerpt)) / len(excerpt)) + 1e-12
    found = [(octave, *_find_period(correlation, sound.rate, pitch + 12 * octave))
             for octave in octaves]
    best = max(value for _, _, value in found)
    return next(one for one in found if one[2] >= 0.95 * best or one[2] == best)


def _find_period(correlation: np.ndarray, rate: int, pitch: float) -> tuple[float, float]:
    """Returns the cents above `pitch` of the best period near it, and its correlation."""
    period = rate / float(librosa.midi_to_hz(pitch))
    spread = 2.0 ** (SEARCH_CENTS / 1200.0)
    low, high = int(period / spread), int(np.ceil(period * spread)) + 1
    if low < 4 or high >= 0.7 * len(correlation):
        return 0.0, 0.0
    place = low + int(np.argmax(correlation[low:high]))
    left, middle, right = correlation[place - 1 : place + 2]
    curve = left - 2.0 * middle + right
    shift = 0.5 * (left - right) / curve if curve < 0.0 else 0.0
    cents = 1200.0 * np.log2(period / (place + np.clip(shift, -0.5, 0.5)))
    return float(cents), float(middle)
