"""The one way from a waveform to a restored waveform."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from denoiser.checks import require


@dataclass
class InferenceConfig:
    """What is denoised and how."""

    audio: Any = None  # one file or folder name, or a list of them
    output_dir: str | None = None  # beside the input when absent
    denoising_strength: float = 1.0
    segment_seconds: float = 20.0  # new audio in each step; memory grows with it
    context_seconds: float = 3.0  # audio on both sides that a step sees but does not return
    overwrite: bool = False
    spectrogram: bool = False

    def __post_init__(self) -> None:
        require(0.0 <= self.denoising_strength <= 1.0, "inference.denoising_strength",
                 "in [0, 1]", self.denoising_strength)
        require(0.01 <= self.segment_seconds < math.inf, "inference.segment_seconds",
                 "at least 0.01 and finite", self.segment_seconds)
        require(0.0 <= self.context_seconds < math.inf, "inference.context_seconds",
                 "at least 0 and finite", self.context_seconds)
        require(self.audio is None or isinstance(self.audio, str)
                 or (isinstance(self.audio, list)
                     and all(isinstance(name, str) for name in self.audio)),
                 "inference.audio", "a file name or a list of file names", self.audio)
