"""Draws pieces for a band: bass line, drums, chords and lead.

Most of the energy of such music is that of bass and bass drum below 200 Hz, the range of rumble and
hum. A network that was trained without it takes a bass line for noise.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from historical_denoiser.corpus.performance import (
    DRUMS,
    TIMING_SECONDS,
    Stroke,
    as_velocity,
    in_octave,
    loosen,
)

KITS = (0, 8, 16, 24, 25, 32, 40)  # standard, room, power, electronic, 808, jazz, brush
BASSES = (32, 33, 33, 34, 35, 36, 37, 38, 39, 43, 58)  # programs of General MIDI
CHORDS = (0, 1, 4, 5, 7, 16, 17, 18, 25, 26, 27, 28, 29, 48, 50, 61, 81, 89)
LEADS = (0, 4, 11, 22, 24, 26, 29, 30, 40, 52, 54, 56, 59, 64, 65, 66, 73, 80, 81)
MODES = ((0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10), (0, 2, 3, 5, 7, 9, 10),
         (0, 2, 4, 5, 7, 9, 10))
MIN_BASS, MIN_CHORD, LEAD_PITCHES = 25, 50, (60, 84)  # MIDI pitches; 25 is 35 Hz
KICKS, SNARES, TOMS = (35, 36), (37, 38, 40), (41, 43, 45, 47, 48)
CYMBALS, CRASH = (42, 42, 46, 51, 53, 70), 49  # hi-hats, rides, maracas
BAR_BEATS = 4
SECTION_BARS = 4
BARS = (16, 40)
BEAT_SECONDS = (0.35, 1.0)
SHARE_VARIED = 0.2  # share of the bars in which a part leaves its pattern
VELOCITY = 85.0


class Harmony(NamedTuple):
    """The chord and the scale of a bar, as MIDI pitches of any octave."""

    chord: list[int]
    scale: list[int]


class Beat(NamedTuple):
    """A note of a bar; times are in beats."""

    start: float
    beats: float
    pitch: int
    accent: float = 0.0


def jam(rng: np.random.Generator) -> list[Stroke]:
    """Draws a piece of 16 to 40 bars; some parts rest in a section of four bars."""
    bars = int(rng.integers(*BARS))
    beat_seconds = float(np.exp(rng.uniform(*np.log(BEAT_SECONDS))))
    key, mode = int(rng.integers(12)), MODES[rng.integers(len(MODES))]
    scale = [key + step for step in mode]
    roots = np.concatenate([[0], rng.integers(0, len(mode), int(rng.choice((1, 3, 3, 7))))])
    parts = [Part(_bass_bar, int(rng.choice(BASSES)), 0.9),
             Part(_drum_bar, DRUMS, 0.75),
             Part(_chord_bar, int(rng.choice(CHORDS)), 0.65),
             Part(_lead_bar, int(rng.choice(LEADS)), 0.4)]
    seeds = rng.integers(2**31, size=len(parts))
    louder = rng.normal(0.0, 12.0, len(parts))
    strokes = []
    for bar in range(bars):
        if bar % SECTION_BARS == 0:
            playing = [n for n, part in enumerate(parts) if rng.random() < part.chance] or [0]
        chord = [scale[(roots[bar % len(roots)] + step) % len(scale)] for step in (0, 2, 4)]
        for number in playing:
            varies = rng.random() < SHARE_VARIED
            own = np.random.default_rng(rng.integers(2**31) if varies else seeds[number])
            for beat in parts[number].draw_bar(Harmony(chord, scale), own):
                velocity = VELOCITY + louder[number] + beat.accent + rng.normal(0.0, 5.0)
                strokes.append(Stroke(BAR_BEATS * bar + beat.start, beat.beats,
                                      parts[number].program, beat.pitch, as_velocity(velocity)))
    return loosen(strokes, rng.uniform(0.0, TIMING_SECONDS[1]), rng, beat_seconds)


class Part(NamedTuple):
    """One part of the band."""

    draw_bar: Callable[[Harmony, np.random.Generator], list[Beat]]
    program: int
    chance: float  # of playing in a section


def _bass_bar(harmony: Harmony, rng: np.random.Generator) -> list[Beat]:
    """Draws a held, even, walking or syncopated bass that begins with the root."""
    step = float(rng.choice((0.5, 0.5, 1.0, 1.0, 2.0, 4.0)))
    starts = [float(start) for start in np.arange(0.0, BAR_BEATS, step)
              if start == 0.0 or rng.random() < 0.8]
    lengths = np.diff([*starts, float(BAR_BEATS)]) * rng.uniform(0.4, 1.0)
    root = harmony.chord[0]
    pitches = [root, *rng.choice([root, root, *harmony.chord, *harmony.scale], len(starts) - 1)]
    return [Beat(start, length, in_octave(pitch, MIN_BASS) + 12 * int(rng.random() < 0.2),
                 10.0 * (start == 0.0))
            for start, length, pitch in zip(starts, lengths, pitches, strict=True)]


def _drum_bar(harmony: Harmony, rng: np.random.Generator) -> list[Beat]:
    """Draws bass drum, snare on the second and fourth beat, cymbal, and sometimes crash or fill."""
    kick, snare, cymbal = (int(rng.choice(keys)) for keys in (KICKS, SNARES, CYMBALS))
    cells = int(rng.choice((2, 2, 3, 4)))  # to a beat
    beats = [Beat(0.0, 0.2, kick, 15.0)]
    beats += [Beat(cell / cells, 0.2, kick, 5.0) for cell in range(1, BAR_BEATS * cells)
              if rng.random() < 0.2]
    beats += [Beat(start, 0.2, snare, 10.0) for start in (1.0, 3.0) if rng.random() < 0.85]
    if rng.random() < 0.8:
        beats += [Beat(cell / cells, 0.2, cymbal, -15.0)
                  for cell in range(0, BAR_BEATS * cells, int(rng.choice((1, cells))))]
    if rng.random() < 0.15:
        beats.append(Beat(0.0, 2.0, CRASH))
    if rng.random() < 0.15:
        beats += [Beat(3.0 + cell / 4.0, 0.2, int(rng.choice(TOMS)), 5.0) for cell in range(4)]
    return beats


def _chord_bar(harmony: Harmony, rng: np.random.Generator) -> list[Beat]:
    """Draws held, repeated or broken chords."""
    step = float(rng.choice((0.5, 1.0, 2.0, 4.0)))
    length = step * rng.uniform(0.3, 1.0)
    is_broken = step < 2.0 and rng.random() < 0.4
    tones = [in_octave(pitch, MIN_CHORD) for pitch in harmony.chord]
    return [Beat(float(start), length, pitch, -10.0)
            for number, start in enumerate(np.arange(0.0, BAR_BEATS, step))
            for pitch in ([tones[number % len(tones)]] if is_broken else tones)]


def _lead_bar(harmony: Harmony, rng: np.random.Generator) -> list[Beat]:
    """Draws a melody of steps and small leaps, with rests."""
    tones = [pitch for pitch in range(*LEAD_PITCHES)
             if pitch % 12 in {tone % 12 for tone in harmony.scale}]
    place, start, beats = int(rng.integers(len(tones))), 0.0, []
    while start < BAR_BEATS:
        length = min(float(rng.choice((0.25, 0.5, 0.5, 1.0, 1.0, 2.0))), BAR_BEATS - start)
        place = int(np.clip(place + rng.integers(-3, 4), 0, len(tones) - 1))
        if rng.random() < 0.8:
            beats.append(Beat(start, 0.9 * length, tones[place]))
        start += length
    return beats
