"""Changes the level and the colour of a single part for a while: rises, fades, bursts, head clogs.

`data/changing.py` changes the level of the whole noise. But on real carriers each part changes by
itself: the rumble rises while the hiss stays, crackle comes in bursts. Start reading at `modulate`.
"""

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import scipy

from historical_denoiser.audio.dsp import SAMPLE_RATE, to_gain
from historical_denoiser.noise import parts
from historical_denoiser.noise.parts import CHUNK, OFFSETS, READY, Part, draw, draw_rate

SECONDS = (0.1, 5.0)  # length of an episode
REST_SECONDS = (0.2, 4.0)  # time between two episodes
RISE_DB, FALL_DB = (4.0, 20.0), (6.0, 30.0)
RISE_CHANCE = 0.6  # otherwise the level falls
TREBLE_SHARE = (0.15, 0.6)  # the treble changes by this share of the level, up or down, besides
# The parts that have episodes, and the range of the frequency above which their colour changes.
TREBLE_HZ = {"hiss": (300.0, 6000.0), "crackle": (300.0, 6000.0), "rumble": (15.0, 100.0)}


def modulate(rng: np.random.Generator, chunks: Part, treble_hz: Sequence[float]) -> Part:
    """Lets the level of a part rise or fall for 0.1 to 5 s at a time, and its colour with it.

    Args:
        rng: Source of all randomness.
        chunks: The part.
        treble_hz: Range of the frequency above which the level changes by more, or by less.
    """
    change_db = draw(rng, RISE_DB) if rng.uniform() < RISE_CHANCE else -draw(rng, FALL_DB)
    share = np.float32(rng.choice([-1.0, 1.0]) * draw(rng, TREBLE_SHARE))
    levels_db, again_db = itertools.tee(episodes(rng, change_db, SECONDS, REST_SECONDS))
    return shelve(parts.multiply(chunks, map(to_gain, levels_db)),
                  (to_gain(share * level_db) for level_db in again_db), draw_rate(rng, treble_hz))


@parts.part
def episodes(rng: np.random.Generator, change_db: float, seconds: Sequence[float],
             rest_seconds: Sequence[float]) -> Iterator[np.ndarray]:
    """Levels in dB, `(CHUNK,)`, that are 0 except in episodes with sudden or slow edges.

    Args:
        rng: Source of all randomness.
        change_db: Greatest change of the level; single episodes have half of it to all of it.
        seconds: Range of the length of an episode. The lengths in one noise are alike.
        rest_seconds: Range of the time between two episodes.
    """
    typical = draw_rate(rng, seconds)
    # The first chunk may lie within an episode.
    places, levels_db = np.array([-rng.uniform() * (typical + rest_seconds[1])]), np.zeros(1)
    yield READY
    while True:
        while places[-1] * SAMPLE_RATE < CHUNK:
            length = min(max(typical * draw_rate(rng, (0.6, 1.6)), seconds[0]), seconds[1])
            rise, fall = 0.5 * length * rng.uniform(size=2) ** 2  # sudden more often than slow
            steps = [draw_rate(rng, rest_seconds), rise, length - rise - fall, fall]
            places = np.append(places, places[-1] + np.cumsum(steps))
            levels_db = np.append(levels_db, change_db * rng.uniform(0.5, 1.0) * np.array(
                [0, 1, 1, 0]))
        yield np.interp(OFFSETS, places * SAMPLE_RATE, levels_db).astype(np.float32)
        places = places - CHUNK / SAMPLE_RATE


@parts.part
def shelve(chunks: Part, gains: Iterator[np.ndarray], hz: float, order: int = 1) -> Part:
    """Multiplies the treble of a part by time-varying gains.

    Args:
        chunks: The part.
        gains: Gains far above `hz`, in chunks `(CHUNK,)`.
        hz: Frequency at which the treble begins.
        order: Steepness, in multiples of 6 dB per octave.
    """
    taps = [taps.astype(np.float32) for taps in scipy.signal.butter(1, hz, fs=SAMPLE_RATE)]
    states = np.zeros((order, 1), np.float32)
    yield READY
    for chunk, gain in zip(chunks, gains, strict=False):
        gain = gain ** np.float32(1.0 / order)
        for state in states:  # each step leaves low frequencies as they are
            low, state[:] = scipy.signal.lfilter(*taps, chunk, zi=state)
            chunk = low + gain * (chunk - low)
        yield chunk
