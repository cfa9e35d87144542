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
from typing import Any

from keras import ops

from historical_denoiser.diffusion.settings import DiffusionConfig

Tensor = Any  # a tensor of any Keras backend
# Denoises waveforms `(batch, samples)` with noise of a level for each item, `(batch,)`.
Denoise = Callable[[Tensor, Tensor], Tensor]


def precondition(network: Callable[[Tensor, Tensor], Tensor], levels: DiffusionConfig) -> Denoise:
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


def denoising_loss(estimate: Tensor, clean: Tensor, sigma: Tensor, levels: DiffusionConfig,
                   ) -> Tensor:
    """Returns each item's mean squared error, weighted to be alike at all levels (EDM, eq. 8).

    Args:
        estimate: What the model makes of clean waveforms with noise, `(batch, samples)`.
        clean: These waveforms, `(batch, samples)`.
        sigma: Level of the noise in each item, `(batch,)`.
        levels: Noise levels.
    """
    weight = (sigma**2 + levels.sigma_data**2) / (sigma * levels.sigma_data) ** 2
    return weight * ops.mean(ops.square(estimate - clean), axis=-1)
