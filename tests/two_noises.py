"""A recording whose noise changes, and what can denoise it without any weights."""

from __future__ import annotations

import numpy as np

from historical_denoiser.audio.dsp import SAMPLE_RATE
from historical_denoiser.network.stored import NetworkSettings


class Gate:
    """Stands for a network: lets pass what stands out of a profile, or of what is usual.

    Attributes:
        profiles: Those that it was given.
    """

    def __init__(self, settings: NetworkSettings) -> None:
        self.form, self.profiles = settings.profile_form, []

    def __call__(self, inputs: np.ndarray | list[np.ndarray]) -> np.ndarray:
        spectra = inputs[0] if isinstance(inputs, list) else inputs
        magnitude = np.sqrt(np.sum(np.square(spectra), axis=-1))
        if isinstance(inputs, list):
            self.profiles.append(inputs[1])
            usual = np.sqrt(self.form.mean_power(inputs[1][:, 0]))[:, None]
        else:
            usual = np.median(magnitude, axis=1, keepdims=True)
        return spectra * (magnitude > 4.0 * usual)[..., None]


def tune_with_two_noises(rng: np.random.Generator, seconds: int, change: int,
                         ) -> tuple[np.ndarray, np.ndarray]:
    """Returns notes of 0.4 s with pauses between, and white noise that becomes a dull one."""
    times = np.arange(seconds * SAMPLE_RATE) / SAMPLE_RATE
    hz = np.repeat(rng.uniform(200.0, 3000.0, 2 * seconds), SAMPLE_RATE // 2)
    tune = np.where(times % 0.5 < 0.4, np.sin(2.0 * np.pi * np.cumsum(hz) / SAMPLE_RATE), 0.0)
    noise = 0.01 * rng.standard_normal(len(times))
    dull = np.convolve(noise, np.ones(60) / 2.0, mode="same")
    noise[change * SAMPLE_RATE:] = dull[change * SAMPLE_RATE:]
    return (0.2 * tune).astype(np.float32), noise.astype(np.float32)
