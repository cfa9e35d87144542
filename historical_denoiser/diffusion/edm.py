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

import numpy as np
from keras import ops

from historical_denoiser.diffusion.constant_q import Tensor, fast_length
from historical_denoiser.diffusion.settings import DiffusionConfig

# Denoises waveforms `(batch, samples)` with noise of a level for each item, `(batch,)`.
Denoise = Callable[[Tensor, Tensor], Tensor]


def precondition(network: Callable[[Tensor, Tensor], Tensor], levels: DiffusionConfig) -> Denoise:
    """Turns a network into a denoiser whose inputs and outputs have unit power (EDM, eq. 7).

    That is so at each frequency: with `data_shape_db` the factors are functions of frequency, and
    the denoiser of new weights, which return zeros, is the Wiener filter of such a spectrum.

    Args:
        network: A function of waveforms `(batch, samples)` and of ln(sigma) / 4, `(batch,)`.
        levels: Noise levels, and the power of clean sound.
    """

    def denoise(noisy: Tensor, sigma: Tensor) -> Tensor:
        samples = noisy.shape[-1]
        length = fast_length(samples)
        power = levels.data_power(np.fft.rfftfreq(length, 1.0 / levels.sample_rate))
        data = ops.convert_to_tensor(power.astype(np.float32))
        sigma = ops.maximum(ops.convert_to_tensor(sigma, "float32"), levels.sigma_min)[:, None]
        total = sigma**2 + data
        c_skip, c_out, c_in = data / total, sigma * ops.sqrt(data / total), 1.0 / ops.sqrt(total)

        def spectrum(waves: Tensor) -> tuple[Tensor, Tensor]:
            return ops.rfft(ops.pad(waves, ((0, 0), (0, length - samples))))

        def waves(*parts: Tensor) -> Tensor:
            return ops.irfft(parts, fft_length=length)[:, :samples]

        seen = spectrum(noisy)
        estimate = network(waves(*(c_in * part for part in seen)), ops.log(sigma[:, 0]) / 4.0)
        return waves(*(c_skip * part + c_out * new
                       for part, new in zip(seen, spectrum(estimate), strict=True)))

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
