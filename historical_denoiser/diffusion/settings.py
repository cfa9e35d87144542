"""Settings of the diffusion model: its form, its noise levels, its sampling. No Keras is needed."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from historical_denoiser.core.checks import require, require_range

GROUPS = 4  # of the normalisation, at most as many as channels
NOISE_MODES = ("fixed_gain", "fixed_snr", "estimated_gain", "estimated_snr")
REPAIRS = {"inpaint": "gaps", "declip": "clipping"}  # the modes that repair, and what
MODES = (*NOISE_MODES, *REPAIRS, "extend", "sample")
# Settings that belong to weights; of the others, the range of levels is theirs unless it is given.
TRAINED = ("sample_rate", "octaves", "bins_per_octave", "channels", "dilations", "embedding",
           "fourier_scale", "sigma_data", "data_shape_db")
TRAINED_RANGE = ("sigma_min", "sigma_max")
DEFAULT_XI = 0.35
SPREAD_DB = 2.0  # of an SNR around its estimate


@dataclass
class DiffusionConfig:
    """The settings `diffusion`. Defaults are the published ones.

    Sources:
        E. Moliner, J. Lehtinen and V. Välimäki, "Solving audio inverse problems with a diffusion
        model" (CQTdiff), ICASSP 2023: levels and guidance.
        B. V. Miranda, diffusion-audio-restoration (2024): 44.1 kHz, blocks, modes, xi by the SNR.
    """

    # The form of the network and of its transform.
    sample_rate: int = 44100
    octaves: int = 7
    bins_per_octave: int = 64
    channels: list[int] = field(default_factory=lambda: [64, 64, 96, 96, 128, 128, 256])
    dilations: list[int] = field(default_factory=lambda: [1, 2, 4, 8])  # one block each
    embedding: int = 128  # size of the embedded noise level
    # Standard deviation of the frequencies that embed the noise level: the greater, the more each
    # level is learnt by itself.
    fourier_scale: float = 16.0
    # The noise levels, in the scale of the samples.
    sigma_data: float = 0.057  # RMS of the clean sound
    # Its power density in each octave, from the lowest, relative to white noise of this RMS; empty:
    # as if it were white, as published.
    data_shape_db: list[float] = field(default_factory=list)
    sigma_min: float = 1e-6
    sigma_max: float = 10.0
    rho: float = 10.0  # in training; the greater, the more steps are at low levels
    sampling_rho: float = 13.0
    # Sampling.
    mode: str = "estimated_gain"  # one of `MODES`
    steps: int = 35
    churn: float = 5.0  # S_churn: new noise over all steps, which corrects errors of earlier ones
    # Weight of the guidance; null: 0.35, and more where an SNR is known to be above 10 dB.
    xi: float | None = None
    block_seconds: float = 1.0
    overlap_seconds: float = 0.25  # of neighbouring blocks
    # What is known of the recording.
    noise: str | None = None  # folder of recordings of the carrier's noise, for the noise modes
    gain: float = 1.0  # of these recordings, for fixed_gain
    snr_db: list[float] = field(default_factory=lambda: [5.0, 15.0])  # range, for fixed_snr
    cutoff_hz: float | None = None  # frequencies above it are missing, for extend

    def __post_init__(self) -> None:
        for name in ("sample_rate", "octaves", "bins_per_octave", "embedding", "steps", "rho",
                     "sampling_rho"):
            require(getattr(self, name) >= 1, f"diffusion.{name}", "at least 1",
                    getattr(self, name))
        require(len(self.channels) == self.octaves and all(
            count >= GROUPS and count % GROUPS == 0 for count in self.channels),
            "diffusion.channels", f"a multiple of {GROUPS} for each of {self.octaves} octaves, "
            "from the highest", self.channels)
        require(bool(self.dilations) and min(self.dilations) >= 1, "diffusion.dilations",
                "a list of numbers of at least 1", self.dilations)
        require(0.0 < self.sigma_min < self.sigma_max, "diffusion.sigma_min",
                "above 0 and below `sigma_max`", self.sigma_min)
        require(len(self.data_shape_db) in (0, self.octaves) and all(
            map(math.isfinite, self.data_shape_db)), "diffusion.data_shape_db",
            f"empty, or a number for each of {self.octaves} octaves", self.data_shape_db)
        for name in ("sigma_data", "fourier_scale", "gain", "block_seconds"):
            require(0.0 < getattr(self, name) < math.inf, f"diffusion.{name}", "above 0 and finite",
                    getattr(self, name))
        require(0.0 <= self.overlap_seconds < 0.5 * self.block_seconds, "diffusion.overlap_seconds",
                "at least 0 and below half a block", self.overlap_seconds)
        require(self.churn >= 0.0, "diffusion.churn", "at least 0", self.churn)
        require(self.xi is None or self.xi >= 0.0, "diffusion.xi", "at least 0", self.xi)
        require(self.mode in MODES, "diffusion.mode", f"one of {', '.join(MODES)}", self.mode)
        require_range("diffusion.snr_db", self.snr_db)
        require(self.cutoff_hz is None or self.cutoff_hz > 0.0, "diffusion.cutoff_hz", "above 0",
                self.cutoff_hz)

    def require_complete(self) -> None:
        """Raises UserError if a setting that the mode needs is missing or cannot be used."""
        if self.mode in NOISE_MODES:
            self.noise_folder()
        elif self.mode == "extend":
            self.known_below_hz()

    def noise_folder(self) -> Path:
        """Returns the folder of noise; raises UserError if there is none."""
        folder = Path(self.noise or "")
        require(self.noise is not None and folder.is_dir(), "diffusion.noise",
                f"a folder of recordings of the carrier's noise for diffusion.mode={self.mode}",
                self.noise)
        return folder

    def known_below_hz(self) -> float:
        """Returns the cutoff for extend; raises UserError if it is missing or too high."""
        cutoff_hz = math.inf if self.cutoff_hz is None else self.cutoff_hz
        require(cutoff_hz < 0.5 * self.sample_rate, "diffusion.cutoff_hz", "the frequency above "
                f"which sound is missing, below {0.5 * self.sample_rate:g}, for "
                "diffusion.mode=extend", self.cutoff_hz)
        return cutoff_hz

    def octave_centres_hz(self) -> np.ndarray:
        """Returns the middles of the octaves, from the lowest."""
        return 0.5 * self.sample_rate * 2.0 ** (np.arange(-self.octaves, 0) + 0.5)

    def data_power(self, frequencies_hz: np.ndarray) -> np.ndarray:
        """Returns the expected power of clean sound at each frequency, as white noise has it."""
        if not self.data_shape_db:
            return np.full(len(frequencies_hz), self.sigma_data**2)
        shape_db = np.interp(np.log2(np.maximum(frequencies_hz, 1e-3)),
                             np.log2(self.octave_centres_hz()), self.data_shape_db)
        return self.sigma_data**2 * 10.0 ** (0.1 * shape_db)

    def at(self, share: Any, rho: float) -> Any:
        """Returns the level at a share of the way from the highest to the lowest (EDM, eq. 5)."""
        high, low = self.sigma_max ** (1.0 / rho), self.sigma_min ** (1.0 / rho)
        return (high + share * (low - high)) ** rho

    def for_training(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """Draws the level of each of `count` items."""
        return self.at(rng.uniform(size=count), self.rho).astype(np.float32)

    def for_sampling(self, steps: int) -> np.ndarray:
        """Returns `steps + 1` decreasing levels, the last of which is 0."""
        return np.append(self.at(np.arange(steps) / max(steps - 1, 1), self.sampling_rho), 0.0)

    def weight(self, least_snr_db: float | None = None) -> float:
        """Returns the weight of the guidance, given the low end of the range of SNRs, if known.

        Without noise, the recording says more. The line is Miranda's.
        """
        if self.xi is not None:
            return self.xi
        return max(DEFAULT_XI, 0.105 * least_snr_db - 0.7) if least_snr_db is not None else (
            DEFAULT_XI)


def around(snr_db: float) -> tuple[float, float]:
    """Returns the range of SNRs that stands for an estimated one."""
    return snr_db - SPREAD_DB, snr_db + SPREAD_DB
