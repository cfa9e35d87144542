"""What a network is trained and judged with: noisy input, clean target, and how it was made."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Mixture:
    """A noisy waveform, its clean target, and how it was made."""

    noisy: np.ndarray  # (samples,), float32; of training items, as the network hears it
    clean: np.ndarray  # (samples,), float32
    category: str
    noise: str  # "gramophone recorded", "tape generated", ..., or "none"; of fixed mixtures the
    # recording: "gramophone vinyl4_crackle_analogue"
    snr_db: float
    # What is known of the noise: another stretch of it, (samples,), float32, at the same gain.
    profile: np.ndarray | None = None
    is_heard: bool = False  # whether its profile is what the network itself removes at first
