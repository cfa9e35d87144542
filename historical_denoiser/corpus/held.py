"""Draws slow pieces of held notes: pedal points, drones, chords, and slow melodies above them.

A held note is as steady as hum. Scores contain few notes that last for seconds; film music and
organ music contain many. A network that was trained without them takes a held bass note for hum.
"""

import numpy as np

from historical_denoiser.corpus.performance import (
    TIMING_SECONDS,
    Stroke,
    as_velocity,
    in_octave,
    loosen,
)

# Programs of General MIDI: sustained instruments, and decaying ones.
HELD_BASSES = (16, 18, 19, 19, 20, 21, 42, 43, 43, 44, 48, 49, 52, 57, 58, 60, 67, 70, 70, 39, 50,
               89, 91, 94, 95, 109)
DYING_BASSES = (0, 1, 4, 14, 32, 33, 35, 38, 45, 46)
CHORDS = (16, 18, 19, 20, 21, 41, 42, 44, 48, 49, 50, 51, 52, 53, 54, 60, 61, 68, 70, 71, 88, 89,
          90, 91, 92, 94, 95)
LEADS = (22, 40, 41, 42, 52, 53, 56, 60, 68, 69, 70, 71, 73, 75, 77, 78, 79, 85, 110)
MODES = ((0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10), (0, 2, 3, 5, 7, 9, 10),
         (0, 1, 4, 5, 7, 8, 10))
MIN_BASS, MIN_CHORD, MIN_LEAD = (24, 48), (43, 60), (60, 76)  # lowest pitches; 24 is 33 Hz
PIECE_SECONDS = (30.0, 75.0)
BASS_SECONDS, CHORD_SECONDS, LEAD_SECONDS = (2.0, 16.0), (2.0, 10.0), (0.5, 4.0)
SHARE_DYING, SHARE_FIFTH = 0.35, 0.35  # shares of the basses
SHARE_CHORDS, SHARE_LEAD = 0.65, 0.5  # shares of the pieces
VELOCITY = (50.0, 105.0)
REST_SECONDS = 3.0


def hold(rng: np.random.Generator) -> list[Stroke]:
    """Draws a piece of 30 to 75 s: a bass, often with chords or a melody above it."""
    end = float(rng.uniform(*PIECE_SECONDS))
    key, mode = int(rng.integers(12)), MODES[rng.integers(len(MODES))]
    scale = [key + step for step in mode]
    strokes = _hold_bass(scale, end, rng)
    if rng.random() < SHARE_CHORDS:
        program, lowest = int(rng.choice(CHORDS)), int(rng.integers(*MIN_CHORD))
        tones = int(rng.integers(2, 5))
        for start, seconds in _draw_times(CHORD_SECONDS, end, 0.15, rng):
            first = int(rng.integers(len(scale)))
            velocity = rng.uniform(*VELOCITY) - 15.0
            for tone in range(tones):
                pitch = in_octave(scale[(first + 2 * tone) % len(scale)], lowest)
                strokes.append(Stroke(start, seconds, program, pitch, as_velocity(velocity)))
    if rng.random() < SHARE_LEAD:
        program, lowest = int(rng.choice(LEADS)), int(rng.integers(*MIN_LEAD))
        for start, seconds in _draw_times(LEAD_SECONDS, end, 0.3, rng):
            pitch = in_octave(int(rng.choice(scale)), lowest)
            strokes.append(Stroke(start, seconds, program, pitch,
                                  as_velocity(rng.uniform(*VELOCITY))))
    return loosen(strokes, rng.uniform(*TIMING_SECONDS), rng)


def _hold_bass(scale: list[int], end: float, rng: np.random.Generator) -> list[Stroke]:
    """Draws a bass that repeats one to four pitches of the scale, sometimes with a fifth."""
    program = int(rng.choice(DYING_BASSES if rng.random() < SHARE_DYING else HELD_BASSES))
    lowest, has_fifth = int(rng.integers(*MIN_BASS)), rng.random() < SHARE_FIFTH
    tones = rng.choice(scale, int(rng.integers(1, 5)))
    strokes = []
    for start, seconds in _draw_times(BASS_SECONDS, end, 0.1, rng):
        pitch = in_octave(int(rng.choice(tones)), lowest)
        velocity = as_velocity(rng.uniform(*VELOCITY))
        strokes.append(Stroke(start, seconds, program, pitch, velocity))
        if has_fifth:
            strokes.append(Stroke(start, seconds, program, pitch + 7, velocity))
    return strokes


def _draw_times(seconds: tuple[float, float], end: float, share_rests: float,
                rng: np.random.Generator) -> list[tuple[float, float]]:
    """Draws the starts and lengths of notes up to the end, with a few rests between them."""
    typical = np.exp(rng.uniform(*np.log(seconds)))
    times, start = [], 0.0
    while start < end:
        length = float(np.clip(typical * np.exp(rng.normal(0.0, 0.4)), *seconds))
        times.append((start, length * rng.uniform(0.9, 1.1)))
        start += length + (rng.uniform(0.0, REST_SECONDS) if rng.random() < share_rests else 0.0)
    return times
