"""Noise levels and scaling of a diffusion model, and the loss that trains it.

A diffusion model of clean sound is a denoiser of Gaussian noise of any level sigma, in the scale of
the samples. Sampling begins with noise alone and lowers its level step by step.

Sources:
    T. Karras, M. Aittala, T. Aila and S. Laine, "Elucidating the design space of diffusion-based
    generative models" (EDM), NeurIPS 2022: table 1, equations 5 to 8.
    E. Moliner, J. Lehtinen and V. Välimäki, "Solving audio inverse problems with a diffusion
    model" (CQTdiff), ICASSP 2023: values for audio.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import ops

from historical_denoiser.core.checks import require

Tensor = Any  # a tensor of any Keras backend
# Denoises waveforms `(batch, samples)` with noise of a level for each item, `(batch,)`.
Denoise = Callable[[Tensor, Tensor], Tensor]


@dataclass
class NoiseLevels:
    """The noise levels of a diffusion model."""

    sigma_data: float = 0.057  # RMS of the clean sound
    sigma_min: float = 1e-6
    sigma_max: float = 10.0
    rho: float = 10.0  # in training; the greater, the more steps are at low levels
    sampling_rho: float = 13.0

    def __post_init__(self) -> None:
        require(self.sigma_data > 0.0, "diffusion.sigma_data", "above 0", self.sigma_data)
        require(0.0 < self.sigma_min < self.sigma_max, "diffusion.sigma_min",
                "above 0 and below `sigma_max`", self.sigma_min)
        for name in ("rho", "sampling_rho"):
            require(getattr(self, name) >= 1.0, f"diffusion.{name}", "at least 1",
                    getattr(self, name))

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


def precondition(network: Callable[[Tensor, Tensor], Tensor], levels: NoiseLevels) -> Denoise:
    """Turns a network into a denoiser whose inputs and outputs have unit power (EDM, eq. 7).

    Args:
        network: A function of waveforms `(batch, samples)` and of ln(sigma) / 4, `(batch,)`.
        levels: Noise levels.
    """
    data = levels.sigma_data

    def denoise(noisy: Tensor, sigma: Tensor) -> Tensor:
        sigma = ops.maximum(ops.convert_to_tensor(sigma, "float32"), levels.sigma_min)
        total = ops.sqrt(sigma**2 + data**2)
        c_skip, c_out, c_in = data**2 / total**2, sigma * data / total, 1.0 / total
        estimate = network(c_in[:, None] * noisy, ops.log(sigma) / 4.0)
        return c_skip[:, None] * noisy + c_out[:, None] * estimate

    return denoise


def denoising_loss(denoise: Denoise, clean: Tensor, noise: Tensor, sigma: Tensor,
                   levels: NoiseLevels) -> Tensor:
    """Returns each item's mean squared error, weighted to be alike at all levels (EDM, eq. 8).

    Args:
        denoise: The model.
        clean: Waveforms `(batch, samples)`.
        noise: Gaussian noise of unit power, `(batch, samples)`.
        sigma: Its level in each item, `(batch,)`.
        levels: Noise levels.
    """
    weight = (sigma**2 + levels.sigma_data**2) / (sigma * levels.sigma_data) ** 2
    estimate = denoise(clean + sigma[:, None] * noise, sigma)
    return weight * ops.mean(ops.square(estimate - clean), axis=-1)
