"""A U-Net that estimates one mask for the magnitudes of a spectrogram, made for compact cassettes.

It takes magnitudes alone, in dB below the loudest, and leaves the phase as it is. There are no
frequency embeddings, no second stage and no noise profile. Start reading at `MaskUnet`.

Sources:
    D. Arapov, Cassette-denoising (2025): form, scaling of the input, mask and loss.
    V. Belz, Speech-enhancement (2019): a U-Net on spectrograms in dB.
    A. Jansson et al., "Singing voice separation with deep U-Net convolutional networks", ISMIR
    2017: masks of spectrograms by a U-Net.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from historical_denoiser.network.settings import UnetConfig
from historical_denoiser.network.tensor_ops import Tensor, power_of_pairs, scale_pairs, slice_axis

Shape = tuple[int | None, ...]

NEGATIVE_SLOPE = 0.3  # of the leaky ReLU
RANGE_DB = 80.0  # fainter magnitudes count as this far below the loudest
SCALE_DB = 40.1  # the input is dB / SCALE_DB + 1
MIN_POWER = 1e-20  # of the loudest bin; a silent spectrogram is nowhere above it


class StoredDropout(keras.layers.Dropout):
    """Dropout whose random state is stored with the weights, so that a run resumes exactly."""

    def save_own_variables(self, store: dict[str, Any]) -> None:
        store["state"] = ops.convert_to_numpy(self.seed_generator.state)

    def load_own_variables(self, store: Mapping[str, Any]) -> None:
        if "state" in store:
            self.seed_generator.state.assign(store["state"][()])


@keras.saving.register_keras_serializable(package="historical_denoiser")
class MaskUnet(keras.Model):
    """The whole network.

    Each level has two convolutions, and two more on the way back, where features are upsampled and
    joined to those of the same level. The two deepest levels have dropout.

    Args:
        settings: The fields of `UnetConfig` by name, with the form "mask".

    Input shape: `(batch, frames, bins, 2)`: real and imaginary part.
    Output shape: a list of one element with the shape of the input.
    """

    def __init__(self, settings: Mapping[str, Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        chosen = self.settings = UnetConfig(**settings)
        channels = chosen.channels[: chosen.depth + 1]
        self.down = [[_convolution(count), _convolution(count)] for count in channels]
        self.up = [[_convolution(count, side=2), _convolution(count), _convolution(count)]
                   for count in channels[:-1]]
        self.dropout = StoredDropout(chosen.dropout)
        self.pool = keras.layers.MaxPooling2D(2)
        self.repeat = keras.layers.UpSampling2D(2)
        self.mask = keras.layers.Conv2D(1, 1, activation="sigmoid")

    def build(self, input_shape: Shape) -> None:
        channels = self.settings.channels
        sizes, before = (*input_shape[:2], None), 1
        for level, (first, second) in enumerate(self.down):
            first.build((*sizes, before))
            before = channels[level]
            second.build((*sizes, before))
        for level, (first, second, third) in enumerate(self.up):
            first.build((*sizes, channels[level + 1]))
            second.build((*sizes, 2 * channels[level]))
            third.build((*sizes, channels[level]))
        self.mask.build((*sizes, channels[0]))
        self.built = True  # Keras sets this for layers, but not for models

    def call(self, inputs: Tensor, training: bool = False) -> list[Tensor]:
        _, frames, bins, _ = ops.shape(inputs)
        depth = self.settings.depth
        features, skips = self._pad(scale_levels(inputs)), []
        for level, (first, second) in enumerate(self.down):
            features = second(first(self.pool(features) if level else features))
            if level >= depth - 1:
                features = self.dropout(features, training=training)
            skips.append(features)
        for skip, (first, second, third) in zip(skips[-2::-1], self.up[::-1], strict=True):
            features = first(self.repeat(features))
            features = third(second(ops.concatenate([skip, features], axis=-1)))
        mask = self.mask(features)
        mask = slice_axis(slice_axis(mask, 1, 0, frames), 2, 0, bins)
        return [scale_pairs(inputs, ops.cast(mask[..., 0], inputs.dtype))]

    def _pad(self, levels: Tensor) -> Tensor:
        """Adds faint frames and bins, so that both can be halved `depth` times."""
        step = 2**self.settings.depth
        faint = 1.0 - RANGE_DB / SCALE_DB
        for axis in (1, 2):
            size = ops.shape(levels)[axis]
            # There are more than needed, as the number needed may be unknown while tracing.
            widths = [(0, step - 1 if each == axis else 0) for each in range(4)]
            levels = slice_axis(ops.pad(levels, widths, constant_values=faint), axis, 0,
                                (size + step - 1) // step * step)
        return levels

    def compute_output_shape(self, input_shape: Shape) -> list[Shape]:
        return [input_shape]

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"settings": dataclasses.asdict(self.settings)}


def scale_levels(spectrogram: Tensor) -> Tensor:
    """Returns the network's input `(batch, frames, bins, 1)`: about -1 to 1 for -80 to 0 dB.

    Args:
        spectrogram: `(batch, frames, bins, 2)`; levels are relative to the loudest bin of each
            item.
    """
    power = power_of_pairs(ops.cast(spectrogram, "float32"))
    loudest = ops.maximum(ops.max(power, axis=(1, 2), keepdims=True), MIN_POWER)
    relative = ops.maximum(power / loudest, 10.0 ** (-RANGE_DB / 10.0))
    level_db = ops.log(relative) * np.float32(10.0 / np.log(10.0))
    return ops.cast(level_db / SCALE_DB + 1.0, spectrogram.dtype)[..., None]


def _convolution(filters: int, side: int = 3) -> keras.layers.Conv2D:
    return keras.layers.Conv2D(
        filters, side, padding="same", kernel_initializer="he_normal",
        activation=keras.layers.LeakyReLU(negative_slope=NEGATIVE_SLOPE))
