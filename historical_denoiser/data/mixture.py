"""The mixtures with which a network is trained and judged."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Mixture:
    """A noisy waveform, its clean target, and how it was made."""

    noisy: np.ndarray  # (samples,), float32
    clean: np.ndarray  # (samples,), float32
    category: str
    # "gramophone recorded", "tape generated", "none"; in fixed mixtures the recording, such as
    # "gramophone vinyl4_crackle_analogue".
    noise: str
    snr_db: float
    # A second stretch of the noise, (samples,), float32, at the same gain, to make a profile of.
    profile: np.ndarray | None = None
    needs_estimate: bool = False  # whether training replaces its profile by the network's estimate
    sigma: float | None = None  # level of the Gaussian noise, for a diffusion model
