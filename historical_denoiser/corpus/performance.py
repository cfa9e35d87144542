"""Performs notes: draws instruments, timing and accents.

Everything is drawn from the generator that is passed in. `rendering` turns the result into audio.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from historical_denoiser.corpus.score_notes import Note

MAX_SECONDS = 120.0  # of a longer work, only an excerpt is played
TEMPO_CHANGE = (0.7, 1.4)
USUAL_TEMPO = (40.0, 220.0)  # quarter notes per minute; other tempo marks are taken for errors
NOTE_SECONDS = (0.2, 0.5)  # median length of the notes of a score without tempo mark
TRANSPOSITION = 5  # semitones, up and down
RUBATO = (0.0, 0.1)  # relative deviation of the tempo
TIMING_SECONDS = (0.003, 0.02)  # standard deviation of the onset of a note
HELD_SHARE = (0.6, 1.05)  # sounding share of a note's length, from detached to legato
VELOCITY = (45.0, 95.0)  # mean of a performance; MIDI velocities are 1 to 127
SHARE_SOLO = 0.25  # share of the renders with a soloist for the highest part
SHARE_STROKES = 0.15  # share of the renders with additional percussion
JOINING_SOFTER = 15  # reduction of its velocity

# Voices from high to low; each is a tuple of General MIDI programs that play in unison.
ENSEMBLES = {
    "string quartet": ((40,), (40,), (41,), (42,)),
    "string orchestra": ((48,), (48,), (48,), (48, 43)),
    "slow strings": ((49,), (49,), (49,), (49,)),
    "pizzicato": ((45,), (45,), (45,), (45, 43)),
    "piano": ((0,),),
    "upright piano": ((1,),),
    "harpsichord": ((6,),),
    "church organ": ((19,),),
    "harmonium": ((20,),),
    "harp": ((46,),),
    "guitar": ((24,),),
    "accordion": ((21,),),
    "winds": ((73,), (68,), (71,), (70,)),
    "clarinets": ((71,),),
    "recorders": ((74,),),
    "saxophones": ((64,), (65,), (66,), (67,)),
    "brass": ((56,), (56,), (60,), (57,), (58,)),
    "horns": ((60,),),
    "choir": ((52,),),
    "voices": ((53,),),
    "choir and organ": ((52, 19),),
    "mallets": ((13,), (12,), (12,)),
    "bells": ((9,), (11,), (11,)),
    "orchestra": ((48, 73), (48, 68), (48, 60), (43, 42, 70)),
    "full orchestra": ((48, 56), (48, 71), (60, 48), (43, 57, 47)),
}
SOLOISTS = (40, 40, 41, 42, 73, 68, 71, 70, 56, 57, 60, 64, 65, 66, 69, 72, 74, 78, 21, 22, 24, 0,
            6, 19, 13, 110, 105)
ACCOMPANIMENTS = (0, 0, 6, 19, 20, 24, 46, 48, 45)
DRUMS = -1  # stands for the program of percussion without pitch
DRUM_KITS = (0, 8, 48)  # standard, room, orchestra
# Percussion keys of General MIDI that are often played together. Cymbals and triangles are left
# out, because repeated strokes sound like hiss.
DRUM_SETS = {"castanets": (85,), "claves": (75,), "wood blocks": (76, 77), "snare": (38,),
             "march": (38, 38, 36), "tambourine": (54,), "side stick": (37,), "bongos": (60, 61),
             "timbales": (65, 66), "cowbell": (56,), "toms": (41, 43, 45, 48)}
MALLETS = (13, 13, 12, 11, 9, 47, 10, 115)  # also timpani and wood block
SCALES = ((0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 11), (0, 2, 4, 7, 9))

RANGES = {9: (79, 108), 11: (53, 89), 12: (45, 96), 13: (65, 108), 24: (40, 84), 40: (55, 100),
          41: (48, 88), 42: (36, 77), 43: (28, 60), 47: (38, 57), 52: (40, 81), 53: (40, 81),
          56: (54, 84), 57: (40, 74), 58: (28, 58), 60: (36, 77), 64: (56, 87), 65: (49, 81),
          66: (44, 76), 67: (36, 69), 68: (58, 91), 69: (52, 81), 70: (34, 75), 71: (50, 91),
          72: (74, 102), 73: (60, 96), 74: (60, 96), 78: (72, 98), 110: (55, 100)}
DEFAULT_RANGE = (24, 103)


class Stroke(NamedTuple):
    """A played note; times are in seconds."""

    start: float
    seconds: float
    program: int  # of General MIDI, or `DRUMS`
    pitch: int
    velocity: int


def perform(notes: list[Note], tempo: float | None, rng: np.random.Generator,
            ensemble: str | None = None) -> list[Stroke]:
    """Performs a score, or an excerpt of a long one, with random tempo and accents.

    Args:
        notes: Notes of the score, at least one.
        tempo: Tempo mark of the score in quarter notes per minute; None if there is none.
        rng: Source of all randomness.
        ensemble: One of `ENSEMBLES`, which then plays alone; None draws the players.
    """
    quarter_seconds = _choose_tempo(notes, tempo, rng)
    notes = _draw_excerpt(notes, MAX_SECONDS / quarter_seconds, rng)
    parts_count = len({note.part for note in notes})
    voices = (_share_voices(ensemble, parts_count) if ensemble
              else _choose_voices(parts_count, rng))
    parts = {part: number for number, part in enumerate(sorted({note.part for note in notes}))}
    end = max(note.start + note.quarters for note in notes)
    seconds_at = _draw_timing(end, quarter_seconds, rng)
    loudness = _draw_loudness(end, rng)
    up = int(rng.integers(-TRANSPOSITION, TRANSPOSITION + 1))
    held, loose = rng.uniform(*HELD_SHARE), rng.uniform(*TIMING_SECONDS)
    parts_louder = rng.normal(0.0, 5.0, len(parts)) + np.where(np.arange(len(parts)) == 0, 8.0, 0.0)
    strokes = []
    for note in notes:
        number = parts[note.part]
        start = seconds_at(note.start) + rng.normal(0.0, loose)
        seconds = held * (seconds_at(note.start + note.quarters) - seconds_at(note.start))
        accent = 6.0 if note.start % 1.0 == 0.0 else 0.0
        velocity = loudness(note.start) + parts_louder[number] + accent + rng.normal(0.0, 5.0)
        for program in voices[number]:
            strokes.append(Stroke(max(start, 0.0), max(seconds, 0.04), program,
                                  _fold(note.pitch + up, program), as_velocity(velocity)))
    if not ensemble and rng.random() < SHARE_STROKES:
        strokes += [stroke._replace(start=seconds_at(stroke.start),
                                    velocity=max(stroke.velocity - JOINING_SOFTER, 12))
                    for stroke in _draw_rhythm(end, rng)]
    return strokes


def improvise(rng: np.random.Generator) -> list[Stroke]:
    """Draws a short piece for percussion: a rhythm, a melody on mallets or drums, or both."""
    beats = float(rng.integers(24, 64))
    beat_seconds = float(rng.uniform(0.35, 0.8))
    strokes = _draw_rhythm(beats, rng) if rng.random() < 0.7 else []
    if not strokes or rng.random() < 0.4:
        program = int(rng.choice(MALLETS))
        low, high = RANGES.get(program, (60, 84))
        scale, key = SCALES[rng.integers(len(SCALES))], int(rng.integers(12))
        tones = [pitch for pitch in range(low, high) if (pitch - key) % 12 in scale]
        place, beat = len(tones) // 2, 0.0
        while beat < beats:
            place = int(np.clip(place + rng.integers(-3, 4), 0, len(tones) - 1))
            length = float(rng.choice((0.25, 0.5, 0.5, 1.0, 1.0, 2.0)))
            strokes.append(Stroke(beat, 0.9 * length, program, tones[place],
                                  as_velocity(rng.normal(80.0, 14.0))))
            beat += length
    return loosen(strokes, rng.uniform(*TIMING_SECONDS), rng, beat_seconds)


def loosen(strokes: list[Stroke], loose: float, rng: np.random.Generator,
           beat_seconds: float = 1.0) -> list[Stroke]:
    """Converts the times of strokes from beats to seconds and makes their onsets inexact.

    Args:
        strokes: Strokes with times in beats.
        loose: Standard deviation of the onsets in seconds.
        rng: Source of all randomness.
        beat_seconds: Length of a beat; 1 if times are in seconds already.
    """
    return [stroke._replace(start=max(stroke.start * beat_seconds + rng.normal(0.0, loose), 0.0),
                            seconds=max(stroke.seconds * beat_seconds, 0.05))
            for stroke in strokes]


def _choose_tempo(notes: list[Note], tempo: float | None, rng: np.random.Generator) -> float:
    """Draws the length of a quarter note in seconds."""
    if tempo is not None and USUAL_TEMPO[0] <= tempo <= USUAL_TEMPO[1]:
        seconds = 60.0 / tempo
    else:
        seconds = rng.uniform(*NOTE_SECONDS) / float(np.median([note.quarters for note in notes]))
    return float(seconds / np.exp(rng.uniform(*np.log(TEMPO_CHANGE))))


def _draw_excerpt(notes: list[Note], longest: float, rng: np.random.Generator) -> list[Note]:
    """Draws an excerpt of at most `longest` quarter notes; its first note begins at 0."""
    last = max(note.start for note in notes)
    begin = float(rng.uniform(0.0, last - longest)) if last > longest else 0.0
    chosen = [note for note in notes if begin <= note.start < begin + longest]
    if not chosen:  # the excerpt is a rest
        return notes[:1]
    begin = min(note.start for note in chosen)
    return [note._replace(start=note.start - begin,
                          quarters=min(note.quarters, begin + longest - note.start))
            for note in chosen]


def _choose_voices(parts: int, rng: np.random.Generator) -> list[tuple[int, ...]]:
    """Draws the programs of each part, from high to low."""
    if parts == 1:
        voices = [(int(rng.choice(SOLOISTS)),)]
        if rng.random() < 0.2:
            voices = [(*voices[0], int(rng.choice(SOLOISTS)))]
        return voices
    if rng.random() < SHARE_SOLO:
        soloist, others = int(rng.choice(SOLOISTS)), int(rng.choice(ACCOMPANIMENTS))
        return [(soloist,), *[(others,)] * (parts - 1)]
    return _share_voices(list(ENSEMBLES)[rng.integers(len(ENSEMBLES))], parts)


def _share_voices(ensemble: str, parts: int) -> list[tuple[int, ...]]:
    """Returns the programs of each part, from high to low; voices get about equally many parts."""
    voices = ENSEMBLES[ensemble]
    return [voices[number * len(voices) // parts] for number in range(parts)]


def _draw_timing(end: float, quarter_seconds: float, rng: np.random.Generator
                 ) -> Callable[[float], float]:
    """Draws a function from quarter notes to seconds; the tempo varies and slows at the end."""
    quarters, points = np.arange(0.0, end + 5.0), np.arange(0.0, end + 13.0, 4.0)
    sway = np.interp(quarters, points, rng.standard_normal(len(points)))
    pace = np.exp(rng.uniform(*RUBATO) * np.clip(sway, -2.0, 2.0))
    pace += rng.uniform(0.0, 0.5) * np.clip(1.0 - (end - quarters) / 4.0, 0.0, 1.0)
    seconds = np.concatenate([[0.0], np.cumsum(pace[:-1])]) * quarter_seconds
    return lambda quarter: float(np.interp(quarter, quarters, seconds))


def _draw_loudness(end: float, rng: np.random.Generator) -> Callable[[float], float]:
    """Draws a function from quarter notes to velocity, with crescendos and decrescendos."""
    every = float(rng.uniform(4.0, 16.0))
    points = np.arange(0.0, end + 2.0 * every, every)
    curve = rng.uniform(*VELOCITY) + rng.uniform(3.0, 20.0) * rng.standard_normal(len(points))
    return lambda quarter: float(np.interp(quarter, points, curve))


def _draw_rhythm(beats: float, rng: np.random.Generator) -> list[Stroke]:
    """Draws strokes of percussion without pitch, with times in beats."""
    keys = DRUM_SETS[list(DRUM_SETS)[rng.integers(len(DRUM_SETS))]]
    cells = int(rng.choice((2, 3, 4)))  # to a beat
    density = rng.uniform(0.2, 0.8)
    pattern = rng.random(4 * cells) < density
    pattern[0] = True
    loudness = _draw_loudness(beats, rng)
    strokes = []
    for number in range(int(beats * cells)):
        if number % (16 * cells) == 0:  # a variation every fourth bar
            changed = rng.random(len(pattern)) < 0.15
            pattern = np.where(changed, rng.random(len(pattern)) < density, pattern)
        if not pattern[number % len(pattern)]:
            continue
        beat = number / cells
        rolls = 4 if rng.random() < 0.06 else 1
        for roll in range(rolls):
            accent = 15.0 if number % len(pattern) == 0 else 0.0
            strokes.append(Stroke(beat + roll / (cells * rolls) + rng.normal(0.0, 0.01), 0.2, DRUMS,
                                  int(rng.choice(keys)), as_velocity(loudness(beat) + accent
                                                                   + rng.normal(0.0, 8.0))))
    return [stroke._replace(start=max(stroke.start, 0.0)) for stroke in strokes]


def _fold(pitch: int, program: int) -> int:
    """Transposes a pitch by octaves into the range of an instrument."""
    low, high = RANGES.get(program, DEFAULT_RANGE)
    while pitch < low:
        pitch += 12
    while pitch > high:
        pitch -= 12
    return pitch


def in_octave(pitch: int, lowest: int) -> int:
    """Transposes a pitch by octaves to the first one from `lowest` up."""
    return lowest + (int(pitch) - lowest) % 12


def as_velocity(value: float) -> int:
    """Rounds and limits a value to a MIDI velocity that is loud enough to be audible."""
    return int(np.clip(round(value), 12, 127))
