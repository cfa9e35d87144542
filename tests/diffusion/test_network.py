"""The U-Net over octaves: it starts from an output of zero, learns, and depends on the level."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from historical_denoiser.diffusion import edm
from historical_denoiser.diffusion.network import DilatedBlock, OctaveUnet, build
from historical_denoiser.diffusion.settings import DiffusionConfig

TINY = DiffusionConfig(sample_rate=8000, octaves=3, bins_per_octave=8, channels=[4, 8, 8],
                       dilations=[1, 2], embedding=8, sigma_data=0.3, sigma_min=1e-3,
                       sigma_max=3.0)


@pytest.fixture
def model():
    keras.utils.set_random_seed(5)
    model = OctaveUnet(TINY)
    model.build((None, 1001), (None,))
    return model


def test_new_weights_return_nothing_and_every_weight_is_reached(model, rng):
    waves = rng.standard_normal((2, 1001)).astype(np.float32)
    level = np.array([-1.0, 0.2], np.float32)
    assert not np.any(model(waves, level))
    for variable in model.trainable_variables:  # those that start at zero hide others
        variable.assign(variable + 0.1 * rng.standard_normal(variable.shape))
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.square(model(waves, level)))
    gradients = tape.gradient(loss, model.trainable_variables)
    assert all(gradient is not None and np.any(gradient) for gradient in gradients)
    assert not np.allclose(model(waves, level), model(waves, level + 0.3), atol=1e-3)


def test_a_block_normalises_groups_and_modulates_channels_as_keras_does(rng):
    block = DilatedBlock(8, dilation=2)
    block.build((None, 5, None, 8), (None, 3))
    for variable in block.trainable_variables:
        variable.assign(variable + 0.3 * rng.standard_normal(variable.shape))
    features = (30.0 + 2.0 * rng.standard_normal((2, 5, 7, 8))).astype(np.float32)
    level = rng.standard_normal((2, 3)).astype(np.float32)
    scale, offset = np.split(block.film(level)[:, None, None], 2, axis=-1)
    hidden = keras.ops.silu(block.normalise(features) * (1.0 + scale) + offset)
    wanted = features + block.last(keras.ops.silu(block.dilated(hidden)))
    np.testing.assert_allclose(block(features, level), wanted, rtol=1e-4, atol=1e-4)


def test_a_few_steps_lower_the_loss(model, rng):
    """The same four items in each step can be learnt by heart."""
    tone = 0.42 * np.sin(2.0 * np.pi * 1500.0 * np.arange(1001) / TINY.sample_rate)
    clean = np.tile(tone, (4, 1)).astype(np.float32)
    noise = rng.standard_normal(clean.shape).astype(np.float32)
    sigma = np.array([0.03, 0.1, 0.3, 1.0], np.float32)
    denoise, optimizer = edm.precondition(model, TINY), keras.optimizers.Adam(1e-2)

    def step():  # without a graph: tracing one takes longer than all steps
        with tf.GradientTape() as tape:
            estimate = denoise(clean + sigma[:, None] * noise, sigma)
            loss = tf.reduce_mean(edm.denoising_loss(estimate, clean, sigma, TINY))
        optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
        return loss

    losses = [float(step()) for _ in range(16)]
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.slow
def test_the_published_size_is_counted_and_trains_a_step(rng):
    config = DiffusionConfig()
    model = build(config)
    assert (config.sample_rate, config.bins_per_octave, config.octaves) == (44100, 64, 7)
    assert model.count_params() == 12_489_358
    clean = config.sigma_data * rng.standard_normal((1, 8820)).astype(np.float32)
    sigma, denoise = np.array([0.1], np.float32), edm.precondition(model, config)
    noisy = clean + 0.1 * rng.standard_normal(clean.shape).astype(np.float32)

    def loss():
        return edm.denoising_loss(denoise(noisy, sigma), clean, sigma, config)[0]

    with tf.GradientTape() as tape:
        before = loss()
    keras.optimizers.Adam(1e-4).apply(tape.gradient(before, model.trainable_variables),
                                      model.trainable_variables)
    assert float(loss()) < float(before)


def test_impossible_forms_are_named():
    with pytest.raises(ValueError, match="`diffusion.channels` must be a multiple of 4 for each"):
        DiffusionConfig(octaves=3, channels=[4, 8])
