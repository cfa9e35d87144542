"""The network of the diffusion model: a U-Net over the octaves of a constant-Q transform.

The highest octave has most frames and enters first. With each level the frames are halved, and the
next lower octave, which has that many, joins. All levels have the same bands, of which a feature
sees the neighbours: what was learnt about an interval holds in every octave.

Sources:
    E. Moliner, J. Lehtinen and V. Välimäki, "Solving audio inverse problems with a diffusion
    model", ICASSP 2023: the form, and 64 bands in 7 octaves.
    M. Tancik et al., "Fourier features let networks learn high frequency functions in low
    dimensional domains", NeurIPS 2020: the embedding of the noise level.
    E. Perez et al., "FiLM: visual reasoning with a general conditioning layer", AAAI 2018.

Start reading at `OctaveUnet`.
"""

from typing import Any

import keras
import numpy as np
from keras import ops

from historical_denoiser.diffusion.constant_q import ConstantQ, Tensor
from historical_denoiser.diffusion.settings import GROUPS, DiffusionConfig

BAND_WAVES = 8  # sines and as many cosines that tell a feature its band


class DilatedBlock(keras.layers.Layer):
    """A residual block: normalisation, scale and offset by the noise level, dilated convolution.

    Call arguments:
        features: `(batch, bands, frames, channels)`.
        level: The embedded noise level, `(batch, embedding)`.

    Output shape: that of `features`.
    """

    def __init__(self, channels: int, dilation: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.normalise = keras.layers.GroupNormalization(GROUPS)
        self.film = keras.layers.Dense(2 * channels, kernel_initializer="zeros")
        self.dilated = keras.layers.Conv2D(channels, 3, padding="same", dilation_rate=(1, dilation))
        # At first the block changes nothing.
        self.last = keras.layers.Conv2D(channels, 1, kernel_initializer="zeros")

    def build(self, features_shape: Any, level_shape: Any) -> None:
        self.normalise.build(features_shape)
        self.film.build(level_shape)
        self.dilated.build(features_shape)
        self.last.build(features_shape)

    def call(self, features: Tensor, level: Tensor) -> Tensor:
        hidden = ops.silu(self._modulate(features, self.film(level)[:, None, None]))
        return features + self.last(ops.silu(self.dilated(hidden)))

    def _modulate(self, features: Tensor, film: Tensor) -> Tensor:
        """Normalises groups of channels, then scales and offsets each channel.

        Both together are one factor and one summand for each channel: fewer passes over memory.
        """
        layer, channels = self.normalise, features.shape[-1]
        means = ops.mean(features, axis=(1, 2), keepdims=True)
        variances = ops.mean(ops.square(features - means), axis=(1, 2), keepdims=True)

        def over_groups(values: Tensor) -> Tensor:
            grouped = ops.reshape(values, (-1, 1, 1, GROUPS, channels // GROUPS))
            return ops.repeat(ops.mean(grouped, axis=-1), channels // GROUPS, axis=-1)

        mean = over_groups(means)
        variance = over_groups(variances + ops.square(means - mean))
        scale, offset = ops.split(film, 2, axis=-1)
        scale = 1.0 + scale
        gain = layer.gamma * ops.rsqrt(variance + layer.epsilon)
        return features * (gain * scale) + ((layer.beta - mean * gain) * scale + offset)


class OctaveUnet(keras.Model):
    """The whole network, a function of waveforms and of the noise level.

    Args:
        config: Its form.

    Call arguments:
        waves: `(batch, samples)`, of unit power, with a known number of samples.
        level: ln(sigma) / 4, `(batch,)`.

    Output shape: that of `waves`; zeros before any training. What lies outside of all octaves is
    left to `edm.precondition`.
    """

    def __init__(self, config: DiffusionConfig, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.config = config
        layers, channels = keras.layers, config.channels
        # Random frequencies are part of the form: they are the same for all weights.
        draw = np.random.default_rng(0).standard_normal(config.embedding // 2)
        self.frequencies = (config.fourier_scale * draw).astype(np.float32)
        self.embed = [layers.Dense(config.embedding, activation="silu") for _ in range(2)]
        self.enter = [layers.Conv2D(count, 3, padding="same") for count in channels]
        self.leave = [layers.Conv2D(2, 3, padding="same", kernel_initializer="zeros")
                      for _ in channels]
        self.halve = [layers.Conv2D(count, (1, 4), (1, 2), padding="same")
                      for count in channels[1:]]
        self.double = [layers.Conv2D(count, (1, 3), padding="same") for count in channels[:-1]]
        self.blocks_down, self.blocks_up = (
            [[DilatedBlock(count, dilation) for dilation in config.dilations] for count in channels]
            for _ in range(2))

    def build(self, waves_shape: Any, level_shape: Any = None) -> None:
        config, channels = self.config, self.config.channels
        bins, embedding = config.bins_per_octave, (None, config.embedding)
        self.embed[0].build((None, 2 * (config.embedding // 2)))
        self.embed[1].build(embedding)
        for level, count in enumerate(channels):
            shape = (None, bins, None, count)
            self.enter[level].build((None, bins, None, 2 + 2 * BAND_WAVES))
            self.leave[level].build(shape)
            for block in (*self.blocks_down[level], *self.blocks_up[level]):
                block.build(shape, embedding)
            if level:
                self.halve[level - 1].build((None, bins, None, channels[level - 1]))
                self.double[level - 1].build(shape)
        self.built = True  # Keras sets this for layers, but not for models

    def call(self, waves: Tensor, level: Tensor) -> Tensor:
        config = self.config
        transform = ConstantQ(waves.shape[1], config.octaves, config.bins_per_octave)
        low, *octaves, high = transform.forward(waves)
        angles = 2.0 * np.pi * ops.expand_dims(level, -1) * ops.convert_to_tensor(self.frequencies)
        known = ops.concatenate([ops.cos(angles), ops.sin(angles)], axis=-1)
        for layer in self.embed:
            known = layer(known)
        features, skips = None, []
        for place, pairs in enumerate(reversed(octaves)):
            entered = self.enter[place](_with_bands(pairs))
            features = entered if features is None else entered + self.halve[place - 1](features)
            for block in self.blocks_down[place]:
                features = block(features, known)
            skips.append(features)
        estimates: list[Tensor] = []
        for place in reversed(range(config.octaves)):
            if estimates:
                upsampled = ops.repeat(features, 2, axis=2)
                features = self.double[place](upsampled) + skips[place]
            for block in self.blocks_up[place]:
                features = block(features, known)
            estimates.append(self.leave[place](features))
        return transform.inverse([ops.zeros_like(low), *estimates, ops.zeros_like(high)])


def build(config: DiffusionConfig) -> OctaveUnet:
    """Returns a network with new weights."""
    model = OctaveUnet(config)
    model.build((None, None), (None,))
    return model


def _with_bands(pairs: Tensor) -> Tensor:
    """Appends to coefficients `(batch, bands, frames, 2)` waves that tell the band."""
    batch, bands, frames, _ = ops.shape(pairs)
    turns = np.outer(np.arange(bands) / bands, np.arange(1, BAND_WAVES + 1))
    waves = np.concatenate([np.cos(np.pi * turns), np.sin(np.pi * turns)], axis=1)
    waves = ops.convert_to_tensor(waves.astype(np.float32))[None, :, None]
    return ops.concatenate([pairs, ops.tile(waves, (batch, 1, frames, 1))], axis=-1)
