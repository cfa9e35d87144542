"""Draws music that denoisers mistake for noise: bass lines, low drums, solos between silences.

All functions return strokes for `sampler.play`, with times in seconds.
"""

import numpy as np

from historical_denoiser.corpus import band
from historical_denoiser.corpus.performance import (
    DRUMS,
    RANGES,
    SCALES,
    Stroke,
    as_velocity,
    in_octave,
)

SOLOISTS = (42, 42, 43, 43, 45, 45, 32, 32, 0, 24, 57, 58, 60, 60, 66, 67, 68, 69, 70, 70, 71, 71,
            73, 105)
SOLO_SECONDS = (25.0, 60.0)
REST_SECONDS = (0.6, 5.0)
PHRASE_NOTES = (2, 14)
PHRASE_BEAT_SECONDS = (0.2, 1.2)
SOLO_VELOCITY = (25.0, 105.0)
SOLO_RANGES = {32: (28, 55), 45: (28, 60), 0: (28, 88), 24: (40, 76), 58: (34, 60), 105: (50, 76)}

LOW_KEYS = (35, 36, 36, 41, 43, 45)
LOW_PROGRAMS = (47, 47, 116, 117)
LOW_SECONDS = (20.0, 50.0)
PULSE_SECONDS = (0.25, 1.6)
SHARE_ROLLS, ROLL_STROKES = 0.12, (6, 24)
ROLL_STEP_SECONDS = (0.05, 0.14)
SHARE_RESTS = 0.2

BOWED_BASS = 43
SHARE_BOWED, SHARE_CYMBALS = 0.3, 0.3  # shares of the rhythm sections
CYMBALS = {*band.CYMBALS, band.CRASH}

ORCHESTRA = (42, 42, 43, 57, 60, 60, 65, 68, 69, 70, 71, 71, 73, 73, 48)
MAX_PLAYERS = 12
MIN_PLAYERS = 5
PLAYER_SECONDS = (0.005, 0.03)  # standard deviation of a player's onsets


def draw_solo(rng: np.random.Generator) -> list[Stroke]:
    """Draws a melody for one instrument: phrases of steps and leaps with rests between them."""
    program = int(rng.choice(SOLOISTS))
    low, high = SOLO_RANGES.get(program, RANGES.get(program, (48, 72)))
    scale, key = SCALES[rng.integers(len(SCALES))], int(rng.integers(12))
    tones = [pitch for pitch in range(low, high) if (pitch - key) % 12 in scale]
    end, start, strokes = float(rng.uniform(*SOLO_SECONDS)), float(rng.uniform(0.1, 1.5)), []
    while start < end:
        beat_seconds = float(np.exp(rng.uniform(*np.log(PHRASE_BEAT_SECONDS))))
        place, loudness = int(rng.integers(len(tones))), rng.uniform(*SOLO_VELOCITY)
        held = rng.uniform(0.5, 1.02)
        for _ in range(int(rng.integers(*PHRASE_NOTES))):
            length = beat_seconds * float(rng.choice((0.5, 1.0, 1.0, 2.0, 3.0)))
            strokes.append(Stroke(start, held * length, program, tones[place],
                                  as_velocity(loudness + rng.normal(0.0, 6.0))))
            place = int(np.clip(place + rng.integers(-3, 4), 0, len(tones) - 1))
            start += length
        start += float(np.exp(rng.uniform(*np.log(REST_SECONDS))))
    return strokes


def draw_low_drums(rng: np.random.Generator) -> list[Stroke]:
    """Draws a piece for one or two low drums: regular strokes, rolls with crescendo, and rests."""
    end, strokes = float(rng.uniform(*LOW_SECONDS)), []
    for _ in range(int(rng.integers(1, 3))):
        program = DRUMS if rng.random() < 0.6 else int(rng.choice(LOW_PROGRAMS))
        key = int(rng.choice(LOW_KEYS))
        tones = [key] if program == DRUMS else [in_octave(key + step, 38) for step in (0, 5, 7)]
        step_seconds = float(np.exp(rng.uniform(*np.log(PULSE_SECONDS))))
        loudness, start = rng.uniform(30.0, 105.0), float(rng.uniform(0.1, 2.0))
        while start < end:
            pitch = int(rng.choice(tones))
            if rng.random() < SHARE_ROLLS:
                roll = _draw_roll(start, program, pitch, loudness, rng)
                strokes += roll
                start = roll[-1].start
            elif rng.random() > SHARE_RESTS:
                velocity = as_velocity(loudness + rng.normal(0.0, 10.0))
                strokes.append(Stroke(start, 0.2, program, pitch, velocity))
            start += step_seconds * float(rng.choice((0.5, 1.0, 1.0, 1.0, 2.0)))
    return strokes or [Stroke(0.5, 0.2, DRUMS, LOW_KEYS[0], 90)]


def _draw_roll(start: float, program: int, pitch: int, loudness: float, rng: np.random.Generator
               ) -> list[Stroke]:
    count, step = int(rng.integers(*ROLL_STROKES)), rng.uniform(*ROLL_STEP_SECONDS)
    swell = np.linspace(-25.0, rng.uniform(-5.0, 15.0), count)
    return [Stroke(max(start + number * step + rng.normal(0.0, 0.004), 0.0), 0.2, program, pitch,
                   as_velocity(loudness + swell[number] + rng.normal(0.0, 4.0)))
            for number in range(count)]


def draw_rhythm_section(rng: np.random.Generator) -> list[Stroke]:
    """Draws a band's piece and returns its bass, plucked or bowed, and its drums."""
    strokes = [stroke for stroke in band.jam(rng) if stroke.program in (DRUMS, *band.BASSES)]
    bass = BOWED_BASS if rng.random() < SHARE_BOWED else 32
    has_cymbals = rng.random() < SHARE_CYMBALS
    return [stroke if stroke.program == DRUMS else stroke._replace(program=bass)
            for stroke in strokes
            if has_cymbals or stroke.program != DRUMS or stroke.pitch not in CYMBALS]


def enlarge(strokes: list[Stroke], rng: np.random.Generator) -> list[Stroke]:
    """Adds players to an ensemble, up to 5 to 12; each doubles a part with deviations."""
    programs = sorted({stroke.program for stroke in strokes} - {DRUMS})
    wanted = int(rng.integers(MIN_PLAYERS, MAX_PLAYERS + 1))
    result = list(strokes)
    for number in range(max(wanted - len(programs), 0) if programs else 0):
        doubled = programs[number % len(programs)]
        joining = int(rng.choice([one for one in ORCHESTRA if one != doubled]))
        late, loose = rng.normal(0.0, 0.01), rng.uniform(*PLAYER_SECONDS)
        softer = rng.uniform(-15.0, 5.0)
        result += [stroke._replace(
            start=max(stroke.start + late + rng.normal(0.0, loose), 0.0), program=joining,
            velocity=as_velocity(stroke.velocity + softer + rng.normal(0.0, 5.0)))
            for stroke in strokes if stroke.program == doubled]
    return result
