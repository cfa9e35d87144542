"""Impulse responses of rooms: decaying noise after a direct sound."""

import functools

import numpy as np
import scipy

from historical_denoiser.audio.dsp import SAMPLE_RATE

DECAY_SECONDS = (0.2, 2.2)  # reverberation time (60 dB) below 1 kHz
AIR_HZ = (2500.0, 8000.0)  # at this frequency, air and curtains halve the reverberation time
DIRECT_DB = (-2.0, 14.0)  # level of the direct sound relative to all reflections
FIRST_SECONDS = (0.002, 0.02)  # time of the first reflection
EARLY_SECONDS = 0.06
EARLY_REFLECTIONS = (4, 16)
BANDS_HZ = 125.0 * 2.0 ** np.arange(8)  # edges of the octaves, each with its own decay
ROOMS = 48


def make_room(rng: np.random.Generator, decay_seconds: tuple[float, float] = DECAY_SECONDS,
              ) -> np.ndarray:
    """Draws the impulse response of a room, float32 `(samples,)`, from the direct sound on.

    Early reflections are followed by noise that decays exponentially, faster in high octaves
    (Moorer 1979, "About this reverberation business"). The energy is 1.

    Args:
        rng: Draws the properties of the room.
        decay_seconds: Range of the reverberation time (60 dB) of low frequencies.
    """
    decay = float(np.exp(rng.uniform(*np.log(decay_seconds))))
    air_hz = float(np.exp(rng.uniform(*np.log(AIR_HZ))))
    samples = scipy.fft.next_fast_len(round(decay * SAMPLE_RATE), real=True)
    seconds = np.arange(samples) / SAMPLE_RATE
    first = float(rng.uniform(*FIRST_SECONDS))
    spectrum = scipy.fft.rfft(rng.standard_normal(samples))
    octave = np.searchsorted(BANDS_HZ, scipy.fft.rfftfreq(samples, 1.0 / SAMPLE_RATE))
    tail = np.zeros(samples)
    for number, hz in enumerate([*BANDS_HZ, 2.0 * BANDS_HZ[-1]]):
        band = scipy.fft.irfft(np.where(octave == number, spectrum, 0.0), samples)
        tail += band * 10.0 ** (-3.0 * seconds * (1.0 + hz / air_hz) / decay)
    tail *= np.clip((seconds - first) / EARLY_SECONDS, 0.0, 1.0)
    times = first + rng.uniform(0.0, EARLY_SECONDS, int(rng.integers(*EARLY_REFLECTIONS)))
    early = np.zeros(samples)
    early[np.round(times * SAMPLE_RATE).astype(int)] = (
        rng.choice([-1.0, 1.0], len(times)) * np.exp(-times / EARLY_SECONDS))
    later = early / np.linalg.norm(early) + tail / np.linalg.norm(tail)
    later *= 10.0 ** (-rng.uniform(*DIRECT_DB) / 20.0) / np.linalg.norm(later)
    later[0] = 1.0
    return (later / np.linalg.norm(later)).astype(np.float32)


def sound_in_room(audio: np.ndarray, room: np.ndarray) -> np.ndarray:
    """Convolves `audio`, `(samples,)`, with an impulse response, without changing its length."""
    return scipy.signal.oaconvolve(audio, room)[: len(audio)].astype(np.float32)


@functools.lru_cache(maxsize=1)
def room_bank(low_seconds: float, high_seconds: float) -> list[np.ndarray]:
    """Returns `ROOMS` rooms with decay times between the bounds, the same at each call."""
    return [make_room(np.random.default_rng([ROOMS, number]), (low_seconds, high_seconds))
            for number in range(ROOMS)]
