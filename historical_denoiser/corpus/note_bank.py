"""A bank of recorded notes: the instruments in folders, and which of them play a MIDI program.

The name of a file gives the pitch and dynamic of its note; the name of its folder is the
instrument. `open_bank` finds all notes, `choose_players` returns the instruments that can play a
program; `note_sounds` decodes a note.
"""

from __future__ import annotations

import functools
import logging
import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import librosa
import numpy as np

from historical_denoiser.core.checks import UserError, require
from historical_denoiser.corpus.note_sounds import (
    MIN_CORRELATION,
    MIN_SECONDS,
    Sound,
    load_note,
    load_sound,
    measure_pitch,
)
from historical_denoiser.corpus.performance import DRUMS
from historical_denoiser.data.audio_index import find_audio
from historical_denoiser.data.recordings import read_seconds

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
        sounds = [load_sound(note.path, note.pitch - 12) for note in chosen]
        found = [measure_pitch(sound, note.pitch)
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
        return read_seconds(path)
    except UserError:
        return 0.0


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
