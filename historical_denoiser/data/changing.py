"""Draws changes of level, of the noise alone or of a whole mixture.

A network that only meets steady noise learns that noise is what is steady. But one half of a disc's
turn may be noisier, the noise changes at a splice, and transfers are faded in and out.
"""

from collections.abc import Callable
from functools import partial

import numpy as np

from historical_denoiser.audio.dsp import SAMPLE_RATE

TURNS_PER_MINUTE = (78.26, 78.26, 78.26, 45.0, 33.333)
TURN_DB = (2.0, 14.0)  # difference between the softest and the loudest moment of a turn
# Distance of the knots of a wandering level, and their standard deviation.
KNOT_SECONDS, KNOT_DB = (0.3, 3.0), (1.0, 5.0)
STEP_DB, NOISE_STEP_DB = (4.0, 20.0), (4.0, 50.0)
STEP_SECONDS = (0.002, 0.3)  # duration of a step
FADE_SECONDS = (0.5, 4.0)

# Draws the gains in dB, `(samples,)`, at times in seconds, `(samples,)`.
Maker = Callable[[np.random.Generator, np.ndarray], np.ndarray]


def turning(rng: np.random.Generator, times: np.ndarray) -> np.ndarray:
    """A level that rises and falls with each turn of a disc."""
    phase = 2.0 * np.pi * times * float(rng.choice(TURNS_PER_MINUTE)) / 60.0
    first, second = rng.uniform(0.0, 2.0 * np.pi, 2)
    swing = np.cos(phase + first) + rng.uniform(0.0, 0.7) * np.cos(2.0 * phase + second)
    return rng.uniform(*TURN_DB) * swing / np.ptp(swing)


def wandering(rng: np.random.Generator, times: np.ndarray) -> np.ndarray:
    """A level that rises and falls irregularly."""
    count = 2 + int(times[-1] / rng.uniform(*KNOT_SECONDS))
    places = np.linspace(times[0], times[-1], count)
    return np.interp(times, places, rng.normal(0.0, rng.uniform(*KNOT_DB), count))


def stepping(rng: np.random.Generator, times: np.ndarray, step_db: tuple[float, float] = STEP_DB,
             ) -> np.ndarray:
    """A level that changes once, upwards or downwards.

    Args:
        rng, times: As in `Maker`.
        step_db: Range of the size of the change in dB.
    """
    seconds = rng.uniform(*STEP_SECONDS)
    way = np.clip((times - rng.uniform(times[0], times[-1])) / seconds, 0.0, 1.0)
    return -rng.uniform(*step_db) * (way if rng.random() < 0.5 else 1.0 - way)


def fading(rng: np.random.Generator, times: np.ndarray) -> np.ndarray:
    """A fade-in at the beginning, or a fade-out at the end."""
    seconds, steepness = rng.uniform(*FADE_SECONDS), rng.uniform(1.0, 3.0)
    way = (times - times[0] if rng.random() < 0.5 else times[-1] - times) / seconds
    return 20.0 * steepness * np.log10(np.clip(way, 1e-3, 1.0))


# The changes of noise alone and those of whole mixtures, with their probabilities.
OF_NOISE: tuple[tuple[float, Maker], ...] = (
    (0.45, turning), (0.35, wandering), (0.2, partial(stepping, step_db=NOISE_STEP_DB)))
OF_MIXTURES: tuple[tuple[float, Maker], ...] = ((0.6, fading), (0.2, wandering), (0.2, stepping))
SHARE_OF_MIXTURES = 0.35


def draw_gains(rng: np.random.Generator, samples: int, more: int = 0,
               ) -> tuple[np.ndarray, np.ndarray]:
    """Draws gains over time for the noise of a mixture and for the whole mixture; one is constant.

    Args:
        rng: Draws the gains.
        samples: Length of the mixture.
        more: Length of a second stretch of the noise, whose level continues to change.

    Returns:
        The gain of the noise, float32 `(samples + more,)`, which keeps the mean power of steady
        noise within the mixture, and the gain of the mixture, float32 `(samples,)`.
    """
    of_mixture = rng.random() < SHARE_OF_MIXTURES
    shares, makers = zip(*(OF_MIXTURES if of_mixture else OF_NOISE), strict=True)
    maker = makers[rng.choice(len(makers), p=shares)]
    times = np.arange(samples + more) / SAMPLE_RATE
    gain = 10.0 ** (maker(rng, times[:samples] if of_mixture else times) / 20.0)
    if of_mixture:
        return np.ones(samples + more, np.float32), gain.astype(np.float32)
    gain /= np.sqrt(np.mean(np.square(gain[:samples])))
    return gain.astype(np.float32), np.ones(samples, np.float32)
