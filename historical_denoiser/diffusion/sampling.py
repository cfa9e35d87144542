"""Draws sound from a diffusion model: freely, or so that its degradation resembles a recording.

Sources:
    T. Karras et al., "Elucidating the design space of diffusion-based generative models", NeurIPS
    2022: algorithm 2, Heun's method with churn.
    E. Moliner, J. Lehtinen and V. Välimäki, "Solving audio inverse problems with a diffusion
    model", ICASSP 2023: reconstruction guidance and data consistency.

Start reading at `sample`.
"""

import math
from collections.abc import Callable
from functools import partial

import keras
import numpy as np
from keras import ops

from historical_denoiser.core.checks import UserError
from historical_denoiser.diffusion.degradations import Degradation
from historical_denoiser.diffusion.edm import Denoise
from historical_denoiser.diffusion.settings import DiffusionConfig

MAX_CHURN = math.sqrt(2.0) - 1.0  # new noise of a step, relative to its level (algorithm 2)
MAX_GRADIENT = 1.0  # of the guidance in one sample, in units of the noise level
EPSILON = 1e-6


def sample(denoise: Denoise, config: DiffusionConfig, rng: np.random.Generator,
           shape: tuple[int, int], degradation: Degradation | None = None,
           report: Callable[[], object] = lambda: None) -> np.ndarray:
    """Draws waveforms.

    Args:
        denoise: The diffusion model.
        config: Its noise levels; steps, churn and weight of the guidance.
        rng: Source of the noise; the result is the same for the same state.
        shape: `(batch, samples)`.
        degradation: What is known of the result; None draws freely.
        report: Called after each step.

    Returns:
        float32 waveforms of that shape.

    Raises:
        UserError: There is a degradation, and Keras does not use TensorFlow.
    """
    sigmas = config.for_sampling(config.steps).tolist()  # Python's numbers keep float32 arrays
    churn = min(config.churn / config.steps, MAX_CHURN)
    draw = partial(rng.standard_normal, shape, np.float32)
    waves = sigmas[0] * draw()
    for sigma, following in zip(sigmas[:-1], sigmas[1:], strict=True):
        raised = (1.0 + churn) * sigma
        waves = waves + math.sqrt(raised**2 - sigma**2) * draw()
        slope = _slope(denoise, waves, raised, config.weight(), degradation, rng)
        moved = waves + (following - raised) * slope
        if following > 0.0:  # Heun's second order: the mean of the slopes at both ends
            end = _slope(denoise, moved, following, config.weight(), degradation, rng)
            moved = waves + (following - raised) * 0.5 * (slope + end)
        waves = moved
        report()
    return waves if degradation is None else degradation.make_consistent(waves)


def _slope(denoise: Denoise, waves: np.ndarray, sigma: float, xi: float,
           degradation: Degradation | None, rng: np.random.Generator) -> np.ndarray:
    """Returns the derivative of the waveforms with respect to the noise level."""
    sigmas = np.full(len(waves), sigma, np.float32)
    if degradation is None:
        return (waves - ops.convert_to_numpy(denoise(waves, sigmas))) / sigma
    degradation.draw(rng)
    estimate, gradient = _guide(denoise, waves, sigmas, degradation)
    estimate = degradation.make_consistent(estimate)
    size = np.sqrt(np.mean(np.square(gradient), axis=-1, keepdims=True))
    guidance = np.clip(xi * gradient / (size + EPSILON), -MAX_GRADIENT, MAX_GRADIENT)
    return (waves - estimate) / sigma + guidance


def _guide(denoise: Denoise, waves: np.ndarray, sigmas: np.ndarray, degradation: Degradation,
           ) -> tuple[np.ndarray, np.ndarray]:
    """Returns the estimate, and the gradient of its distance from what was observed."""
    if keras.backend.backend() != "tensorflow":
        raise UserError("`KERAS_BACKEND` must be tensorflow for guided sampling. "
                        f"Received: {keras.backend.backend()}")
    import tensorflow as tf

    given = tf.convert_to_tensor(waves)
    with tf.GradientTape() as tape:
        tape.watch(given)
        estimate = denoise(given, sigmas)
        error = ops.sqrt(ops.sum(ops.square(degradation.error(estimate)), axis=-1) + EPSILON**2)
    return estimate.numpy(), tape.gradient(error, given).numpy()
