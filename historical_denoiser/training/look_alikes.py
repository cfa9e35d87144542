"""Makes clean sounds that a network may take for noise: impulses, low notes and held tones.

No training data are made like this, and every run makes the same sounds.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
import scipy

from historical_denoiser.audio.dsp import SAMPLE_RATE, to_gain

# Struck wood and metal: strokes per second, resonances in Hz, their decay to 1/e in seconds, and
# the level of the broadband knock with which a stroke begins.
STRUCK = {"castanets": (8.0, (1350.0, 2300.0, 3900.0), 0.012, 0.3),
          "typewriter": (6.0, (320.0, 1900.0, 5200.0), 0.006, 1.0),
          "tap dance": (5.0, (210.0, 850.0, 3100.0), 0.02, 0.6)}
ROOM_SECONDS = 0.06  # decay to 1/e
ROOM_SHARE = 0.1
DRY_STROKE_SECONDS = 0.2

# Tones that are held below a tune: their pitches in Hz, which keep away from multiples of the mains
# frequencies; how far each harmonic is below the one an octave lower, in dB; the vibrato's depth
# as a share of the pitch.
HELD = {"organ pedal": ((73.4,), 9.0, 0.0),
        "hurdy-gurdy": ((87.3, 130.8), 4.0, 0.0005),
        "bowed bass": ((82.4,), 7.0, 0.004)}
HELD_HARMONICS = 24
VIBRATO_HZ = 5.5
TUNE_HZ, TUNE_SECONDS = (300.0, 1200.0), (0.15, 0.6)  # pitch and length of the tune's notes
TUNE_DB = -6.0  # level of the tune relative to the held tones
RELEASE_SAMPLES = 441  # of the tune's notes
ORCHESTRA_HZ = (73.4, 110.0, 146.8, 220.0, 293.7, 370.0, 440.0, 587.3)  # D major
PLAYERS_OF_A_PART = 3

# Plucked notes, one after the other: pitches in Hz, lengths in seconds, number of partials, and the
# decay of the first one per second; the decay is proportional to the order.
TUNE = TUNE_HZ, TUNE_SECONDS, 4, 4.0
BASS = (41.0, 98.0), (0.25, 0.8), 16, 2.0
SOLO = (220.0, 880.0), (0.2, 0.8), 10, 1.5
KICKS_PER_SECOND, KICK_HZ, KICK_SECONDS = 2.0, (140.0, 48.0), 0.12
# The strings of a tanpura, one after the other. On its flat bridge a string buzzes: the energy
# moves from partial to partial for seconds.
TANPURA_HZ, TANPURA_EVERY_SECONDS, TANPURA_PARTIALS = (110.0, 146.8, 146.8, 73.4), 0.9, 30
SWELL_SECONDS = 0.06  # time from the swell of a partial to that of the next one


def make_strokes(name: str, samples: int, rng: np.random.Generator) -> np.ndarray:
    """Makes irregular strokes in a small room, float32 `(samples,)`.

    Args:
        name: The instrument of `STRUCK`.
        samples: Length of the result.
        rng: Source of all randomness.
    """
    per_second = STRUCK[name][0]
    time_s = np.arange(round(8.0 * ROOM_SECONDS * SAMPLE_RATE)) / SAMPLE_RATE
    room = ROOM_SHARE * np.exp(-time_s / ROOM_SECONDS) * rng.standard_normal(len(time_s))
    room /= np.sqrt(SAMPLE_RATE * ROOM_SECONDS)
    room[0] = 1.0
    strokes = np.zeros(samples + len(time_s))
    count = max(1, round(per_second * samples / SAMPLE_RATE))
    starts = ((np.arange(count) + rng.uniform(0.0, 0.7, count)) * samples / count).astype(int)
    for start in starts:
        stroke = _draw_stroke(name, time_s, rng)
        level = to_gain(rng.uniform(-9.0, 0.0))
        strokes[start : start + len(time_s)] += level * stroke
    wet = scipy.signal.fftconvolve(strokes[:samples], room)[:samples]
    return (0.5 * wet / np.abs(wet).max()).astype(np.float32)


def make_regular_strokes(name: str, samples: int, every_s: float, rng: np.random.Generator,
                         ) -> np.ndarray:
    """Repeats one stroke at exact intervals without a room, as a sampler does, `(samples,)`.

    Args:
        name: The instrument of `STRUCK`.
        samples: Length of the result.
        every_s: Seconds from stroke to stroke.
        rng: Draws the stroke and the levels.
    """
    time_s = np.arange(round(DRY_STROKE_SECONDS * SAMPLE_RATE)) / SAMPLE_RATE
    stroke = _draw_stroke(name, time_s, rng)
    strokes = np.zeros(samples + len(stroke))
    for start in (np.arange(0.0, samples / SAMPLE_RATE, every_s) * SAMPLE_RATE).astype(int):
        strokes[start : start + len(stroke)] += rng.uniform(0.7, 1.0) * stroke
    return (0.5 * strokes[:samples] / np.abs(strokes).max()).astype(np.float32)


def _draw_stroke(name: str, time_s: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draws a stroke of the instrument `name` of `STRUCK` at the times `time_s`."""
    _, resonances_hz, decay_s, knock = STRUCK[name]
    stroke = knock * np.exp(-time_s / 0.0005) * rng.standard_normal(len(time_s))
    for hz in resonances_hz:
        decay = decay_s * rng.uniform(0.7, 1.4)
        stroke += rng.uniform(0.3, 1.0) * np.exp(-time_s / decay) * np.sin(
            2.0 * np.pi * hz * rng.uniform(0.97, 1.03) * time_s)
    return stroke


def make_held(name: str, samples: int, rng: np.random.Generator) -> np.ndarray:
    """Makes tones that never pause, with a tune above, float32 `(samples,)`.

    Args:
        name: The instrument of `HELD`.
        samples: Length of the result.
        rng: Source of all randomness.
    """
    pitches_hz, slope_db, vibrato = HELD[name]
    time_s = np.arange(samples) / SAMPLE_RATE
    held = np.zeros(samples)
    for pitch_hz in pitches_hz:
        # The phase, in turns, of a pitch that deviates by at most the share `vibrato`.
        turns = pitch_hz * (time_s + vibrato * np.sin(2.0 * np.pi * VIBRATO_HZ * time_s)
                            / (2.0 * np.pi * VIBRATO_HZ))
        for order in range(1, HELD_HARMONICS + 1):
            level = 10.0 ** (-slope_db * np.log2(order) / 20.0)
            held += level * np.sin(2.0 * np.pi * (order * turns + rng.uniform()))
    tune = _make_notes(*TUNE, samples, rng)
    sound = held / np.std(held) + to_gain(TUNE_DB) * tune / np.std(tune)
    return (0.5 * sound / np.abs(sound).max()).astype(np.float32)


def make_orchestra(samples: int, rng: np.random.Generator) -> np.ndarray:
    """Makes a quiet chord of many players, `(samples,)`: dense, soft, and never quite steady.

    Intonation, vibrato and changes of level differ from player to player.
    """
    time_s = np.arange(samples) / SAMPLE_RATE
    orchestra = np.zeros(samples)
    for pitch_hz in ORCHESTRA_HZ:
        for _ in range(PLAYERS_OF_A_PART):
            vibrato_hz, depth = rng.uniform(4.5, 6.5), rng.uniform(0.0, 0.006)
            turns = pitch_hz * 2.0 ** (rng.normal(0.0, 0.08) / 12.0) * (
                time_s + depth * np.sin(2.0 * np.pi * (vibrato_hz * time_s + rng.uniform()))
                / (2.0 * np.pi * vibrato_hz))
            knots_s = np.arange(0.0, time_s[-1] + 1.0, 0.5)
            level_db = np.interp(time_s, knots_s, rng.normal(0.0, 3.0, len(knots_s)))
            first = np.exp(2j * np.pi * turns)
            tone, player = np.ones_like(first), np.zeros(samples)
            for order in range(1, 9):  # a power costs less than a sine
                tone *= first
                start = np.exp(2j * np.pi * rng.uniform()) * to_gain(-7.0 * np.log2(order))
                player += tone.real * start.imag + tone.imag * start.real
            orchestra += to_gain(level_db) * player
    return (0.05 * orchestra / np.abs(orchestra).max()).astype(np.float32)


def make_kicks(samples: int, rng: np.random.Generator) -> np.ndarray:
    """Makes strokes of a kick drum, whose pitch falls, with the click of the beater, `(samples,)`.
    """
    kicks, every = np.zeros(samples), round(SAMPLE_RATE / KICKS_PER_SECOND)
    for start in range(0, samples, every):
        time_s = np.arange(min(every, samples - start)) / SAMPLE_RATE
        high_hz, low_hz = KICK_HZ
        turns = low_hz * time_s + (high_hz - low_hz) * 0.03 * (1.0 - np.exp(-time_s / 0.03))
        kicks[start : start + every] = rng.uniform(0.5, 1.0) * (
            np.exp(-time_s / KICK_SECONDS) * np.sin(2.0 * np.pi * turns)
            + 0.1 * np.exp(-time_s / 0.002) * rng.standard_normal(len(time_s)))
    return (0.5 * kicks / np.abs(kicks).max()).astype(np.float32)


def make_tanpura(samples: int, rng: np.random.Generator) -> np.ndarray:
    """Makes the drone of a tanpura, `(samples,)`, which sounds from the beginning."""
    time_s, round_s = np.arange(samples) / SAMPLE_RATE, TANPURA_EVERY_SECONDS * len(TANPURA_HZ)
    drone = np.zeros(samples)
    for string, pitch_hz in enumerate(TANPURA_HZ):
        turns = pitch_hz * 2.0 ** (rng.normal(0.0, 0.03) / 12.0) * time_s
        since_s = (time_s - string * TANPURA_EVERY_SECONDS) % round_s  # the string was plucked
        touch = np.minimum(np.minimum(since_s, round_s - since_s) / 0.01, 1.0)
        for order in range(1, TANPURA_PARTIALS + 1):
            swell = np.exp(-np.square((since_s - SWELL_SECONDS * order) / 0.4))
            drone += (touch * np.exp(-0.5 * since_s) * (0.15 + swell) / np.sqrt(order)
                      * np.sin(2.0 * np.pi * (order * turns + rng.uniform())))
    return (0.5 * drone / np.abs(drone).max()).astype(np.float32)


def make_plucked(kind: tuple, samples: int, rng: np.random.Generator) -> np.ndarray:
    """Makes plucked notes of one instrument, such as `BASS`, float32 `(samples,)`."""
    notes = _make_notes(*kind, samples, rng)
    return (0.5 * notes / np.abs(notes).max()).astype(np.float32)


def _make_notes(range_hz: tuple[float, float], range_s: tuple[float, float], partials: int,
                decay: float, samples: int, rng: np.random.Generator) -> np.ndarray:
    """Makes plucked notes, one after the other; see `TUNE`."""
    tune, start = np.zeros(samples), 0
    while start < samples:
        length = round(SAMPLE_RATE * rng.uniform(*range_s))
        time_s = np.arange(min(length, samples - start)) / SAMPLE_RATE
        pitch_hz = np.exp(rng.uniform(*np.log(range_hz)))
        damping = np.clip((len(time_s) - np.arange(len(time_s))) / RELEASE_SAMPLES, 0.0, 1.0)
        for order in range(1, partials + 1):
            tune[start : start + length] += (damping * np.exp(-decay * order * time_s) / order
                                             * np.sin(2.0 * np.pi * order * pitch_hz * time_s))
        start += length
    return tune


# Makers of sounds `(samples,)` that are low, or never pause, as noise does.
LOW_OR_HELD: dict[str, Callable[[int, np.random.Generator], np.ndarray]] = {
    **{name: partial(make_held, name) for name in HELD},
    "kick drum": make_kicks, "plucked bass": partial(make_plucked, BASS), "tanpura": make_tanpura,
    "quiet orchestra": make_orchestra}
