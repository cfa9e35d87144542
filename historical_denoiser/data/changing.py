"""Lets the level of noise change, or that of all that is heard: worn discs, reels, fades.

Noise that stays as it is teaches a network to take for noise what stays as it is. Yet the surface
of a disc is louder on one side than on the other, a splice brings another noise, and who transfers
a recording fades it in and out.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from historical_denoiser.audio.dsp import SAMPLE_RATE

TURNS_PER_MINUTE = (78.26, 78.26, 78.26, 45.0, 33.333)
TURN_DB = (2.0, 14.0)  # from the softest to the loudest moment of a turn
KNOT_SECONDS, KNOT_DB = (0.3, 3.0), (1.0, 5.0)  # of a level that wanders: distance and deviation
STEP_DB, NOISE_STEP_DB = (4.0, 20.0), (4.0, 50.0)
STEP_SECONDS = (0.002, 0.3)  # from one level to the other
FADE_SECONDS = (0.5, 4.0)

# Of a time in s `(samples,)`, a gain in dB.
Maker = Callable[[np.random.Generator, np.ndarray], np.ndarray]


def turning(rng: np.random.Generator, times: np.ndarray) -> np.ndarray:
    """A level that swings with each turn, and with every half of it."""
    phase = 2.0 * np.pi * times * float(rng.choice(TURNS_PER_MINUTE)) / 60.0
    first, second = rng.uniform(0.0, 2.0 * np.pi, 2)
    swing = np.cos(phase + first) + rng.uniform(0.0, 0.7) * np.cos(2.0 * phase + second)
    return rng.uniform(*TURN_DB) * swing / np.ptp(swing)


def wandering(rng: np.random.Generator, times: np.ndarray) -> np.ndarray:
    """A level that goes up and down at no pace."""
    count = 2 + int(times[-1] / rng.uniform(*KNOT_SECONDS))
    places = np.linspace(times[0], times[-1], count)
    return np.interp(times, places, rng.normal(0.0, rng.uniform(*KNOT_DB), count))


def stepping(rng: np.random.Generator, times: np.ndarray, step_db: tuple[float, float] = STEP_DB,
             ) -> np.ndarray:
    """A level that is lower before a moment, or after it."""
    seconds = rng.uniform(*STEP_SECONDS)
    way = np.clip((times - rng.uniform(times[0], times[-1])) / seconds, 0.0, 1.0)
    return -rng.uniform(*step_db) * (way if rng.random() < 0.5 else 1.0 - way)


def fading(rng: np.random.Generator, times: np.ndarray) -> np.ndarray:
    """A fade at the beginning, or at the end."""
    seconds, steepness = rng.uniform(*FADE_SECONDS), rng.uniform(1.0, 3.0)
    way = (times - times[0] if rng.random() < 0.5 else times[-1] - times) / seconds
    return 20.0 * steepness * np.log10(np.clip(way, 1e-3, 1.0))


def _noise_steps(rng: np.random.Generator, times: np.ndarray) -> np.ndarray:
    return stepping(rng, times, NOISE_STEP_DB)


# With their shares of what changes the noise alone, and of what changes all that is heard.
OF_NOISE: tuple[tuple[float, Maker], ...] = ((0.45, turning), (0.35, wandering),
                                             (0.2, _noise_steps))
OF_ALL: tuple[tuple[float, Maker], ...] = ((0.6, fading), (0.2, wandering), (0.2, stepping))
SHARE_OF_ALL = 0.35


def draw_gains(rng: np.random.Generator, samples: int, more: int = 0,
               ) -> tuple[np.ndarray, np.ndarray]:
    """Draws how the level of noise, and that of all that is heard, changes within an item.

    Args:
        rng: Draws it.
        samples: Length of the item.
        more: Length of another stretch of the same noise, whose level changes alike.

    Returns:
        The gain of the noise, `(samples + more,)`, at which its mean power within the item stays
        what it is if it is steady, and the gain of all, `(samples,)`; float32.
    """
    of_all = rng.random() < SHARE_OF_ALL
    shares, makers = zip(*(OF_ALL if of_all else OF_NOISE), strict=True)
    maker = makers[rng.choice(len(makers), p=shares)]
    times = np.arange(samples + more) / SAMPLE_RATE
    gain = 10.0 ** (maker(rng, times[:samples] if of_all else times) / 20.0)
    if of_all:
        return np.ones(samples + more, np.float32), gain.astype(np.float32)
    gain /= np.sqrt(np.mean(np.square(gain[:samples])))
    return gain.astype(np.float32), np.ones(samples, np.float32)
