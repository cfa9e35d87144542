"""The two-stage U-Net that denoises spectrograms, and the reading of its weights.

A U-Net of dense blocks finds the noise, a supervised attention module (SAM) turns its features
into a first estimate and into features for a second U-Net, which returns the final one.

Sources:
    E. Moliner and V. Valimaki, "A two-stage U-Net for high-fidelity denoising of historical
        recordings", ICASSP 2022: the network, the frequency embeddings, the channel list.
    S. W. Zamir et al., "Multi-stage progressive image restoration", CVPR 2021: the SAM.
    W. Choi et al., "Investigating U-Nets with various intermediate blocks for spectrogram-based
        singing voice separation", ISMIR 2020: the densely connected convolutions (TFC).

Tensors are `(batch, frames, bins, channels)`. Everything is Keras 3 and runs on every backend of
it; only `load_weights` needs TensorFlow, and only for TensorFlow's own checkpoints.
"""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import keras
from keras import ops

from config import UnetConfig
from denoiser.checks import UserError
from denoiser.network.floors import magnitude_and_floor, steady_tones
from denoiser.network.tensor_ops import (
    EMBEDDINGS,
    apply_mask,
    compress,
    convolve,
    crop,
    fold_bins,
    frequency_embeddings,
    mirror_pad,
    mirrored_places,
    pad_sizes,
    slice_axis,
    unfold_bins,
)

Shape = tuple[int | None, ...]
Tensor = Any  # a tensor of whichever backend Keras runs on

DOWN_KERNEL = 4  # side of the convolutions that halve the resolution
SCALE = 2  # resolution between neighbouring levels, on both axes
ONE_ROUND = ((0, 0), (1, 1), (1, 1), (0, 0))  # padding of one sample around frames and bins
INITIAL_STDDEV = 0.05  # of the truncated normal distribution of fresh kernels
WEIGHTS_ENDING = ".weights.h5"
CHECKPOINT_ROOT = "layer_with_weights-0"  # the network inside its one-layer functional model
CHECKPOINT_VALUE = ".ATTRIBUTES/VARIABLE_VALUE"

# TensorFlow on a CPU asks the system for the memory of each large tensor and gives it back, and the
# kernel clears every page: up to half of a forward pass. Its pool allocator keeps what it has. It
# is chosen when the first tensor is made, so that this is early enough.
os.environ.setdefault("TF_CPU_ALLOCATOR_USE_BFC", "1")


def build_model_denoise(unet_args: Any) -> TwoStageUnet:
    """Builds the network with fresh weights.

    Args:
        unet_args: `UnetConfig`, or any object with some of its attributes; the others take the
            defaults of `UnetConfig`.

    Returns:
        A model from `(batch, frames, bins, 2)`, real and imaginary part, to the list
        [stage 2, stage 1], both shaped as the input; with one stage the list has one element.

    Raises:
        ValueError: A setting is out of range; the message names it.
    """
    model = TwoStageUnet(_read_settings(unet_args))
    model.build((None, None, None, 2))
    return model


def _read_settings(unet_args: Any) -> dict[str, Any]:
    """Returns the checked settings as plain Python values."""
    defaults = dataclasses.asdict(UnetConfig())
    values = {name: getattr(unet_args, name, default) for name, default in defaults.items()}
    if isinstance(values["channels"], Sequence):  # also a tuple, or a list of OmegaConf
        values["channels"] = list(values["channels"])
    for name, default in defaults.items():
        _check_type(name, values[name], default)
    for count in values["channels"]:
        _check_type("channels", count, 1)
    try:
        keras.activations.get(values["activation"])
    except ValueError as error:
        raise UserError("`unet.activation` must be the name of a Keras activation. "
                        f"Received: unet.activation={values['activation']!r}") from error
    return dataclasses.asdict(UnetConfig(**values))


def _check_type(name: str, value: Any, default: Any) -> None:
    accepted = (int, float) if isinstance(default, float) else type(default)
    if not isinstance(value, accepted) or isinstance(value, bool) != isinstance(default, bool):
        raise UserError(f"`unet.{name}` must be of type {type(default).__name__}. "
                        f"Received: unet.{name}={value!r}")


# ---- layers ----


def _find_tones(spectrogram: Tensor, single_bins: int) -> Tensor:
    """Returns the steady tones of a folded spectrogram's `single_bins`; above there are none."""
    first_parts = slice_axis(spectrogram, 3, 0, 2)
    above = slice_axis(first_parts, 2, single_bins, ops.shape(spectrogram)[2])
    return ops.concatenate([steady_tones(first_parts, single_bins), ops.zeros_like(above)], axis=2)


def _initial_kernel() -> keras.initializers.Initializer:
    return keras.initializers.TruncatedNormal(stddev=INITIAL_STDDEV)


def _doubled(size: int | None) -> int | None:
    return None if size is None else size * SCALE


class _Conv2D(keras.layers.Conv2D):
    """Keras's layer without padding, with `convolve`."""

    def convolution_op(self, inputs: Tensor, kernel: Tensor) -> Tensor:
        return convolve(inputs, ops.convert_to_tensor(kernel), self.strides[0])


@keras.saving.register_keras_serializable(package="denoiser")
class SymmetricConv2D(keras.layers.Layer):
    """Convolution whose borders mirror the signal instead of adding zeros.

    Args:
        filters: int. Number of output channels.
        kernel_size: int. Side of the square kernel, at least 1.
        strides: int. Step on both axes.
        activation: Name of the activation; None is linear.
        zero_start: Whether the kernel starts at zero, so that the fresh layer returns zeros.

    Input shape: `(batch, frames, bins, channels)`.
    Output shape: `(batch, ceil(frames / strides), ceil(bins / strides), filters)`.
    """

    def __init__(self, filters: int, kernel_size: int = 3, strides: int = 1,
                 activation: str | None = None, zero_start: bool = False, **kwargs: Any) -> None:
        for name, value in (("filters", filters), ("kernel_size", kernel_size),
                            ("strides", strides)):
            if value < 1:
                raise ValueError(f"`{name}` must be at least 1. Received: {name}={value}")
        super().__init__(**kwargs)
        self.filters, self.kernel_size, self.strides = filters, kernel_size, strides
        self.activation, self.zero_start = activation, zero_start
        self.conv = _Conv2D(
            filters, kernel_size, strides, activation=activation,
            kernel_initializer="zeros" if zero_start else _initial_kernel(),
            dtype=self.dtype_policy, name="conv")

    def build(self, input_shape: Shape) -> None:
        self.conv.build(input_shape)

    def call(self, inputs: Tensor) -> Tensor:
        return self.conv(mirror_pad(inputs, self.kernel_size))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        batch, frames, bins, _ = input_shape
        return (batch, *(None if size is None else -(-size // self.strides)
                         for size in (frames, bins)), self.filters)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "filters": self.filters, "kernel_size": self.kernel_size, "strides": self.strides,
            "activation": self.activation, "zero_start": self.zero_start}


@keras.saving.register_keras_serializable(package="denoiser")
class FeatureExtractor(keras.layers.Layer):
    """First convolution of a stage, over the spectrogram and the frequency embeddings.

    The embeddings are channels that tell the network where on the frequency axis it is, after the
    spectrogram's channels. As they are the same in every frame, their part of the convolution is
    one over bins alone with the kernel summed over frames.

    Args:
        filters: int. Number of output channels.
        kernel_size: int. Side of the square kernel.
        activation: Name of the activation.
        use_fencoding: Whether there are embeddings.

    Input shape: `(batch, frames, bins, channels)`.
    Output shape: `(batch, frames, bins, filters)`.
    """

    def __init__(self, filters: int, kernel_size: int = 7, activation: str = "elu",
                 use_fencoding: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.filters, self.kernel_size = filters, kernel_size
        self.activation, self.use_fencoding = activation, use_fencoding

    def build(self, input_shape: Shape) -> None:
        channels = input_shape[-1] + (EMBEDDINGS if self.use_fencoding else 0)
        self.kernel = self.add_weight(
            shape=(self.kernel_size, self.kernel_size, channels, self.filters),
            initializer=_initial_kernel(), name="kernel")
        self.bias = self.add_weight(shape=(self.filters,), initializer="zeros", name="bias")

    def call(self, inputs: Tensor) -> Tensor:
        channels = inputs.shape[-1]
        kernel = ops.convert_to_tensor(self.kernel)
        padded = mirror_pad(inputs, self.kernel_size)
        features = convolve(padded, kernel[:, :, :channels])
        offset = ops.reshape(self.bias, (1, 1, 1, self.filters))
        if self.use_fencoding:
            bins = ops.shape(inputs)[2]
            embeddings = ops.take(frequency_embeddings(bins, inputs.dtype),
                                  mirrored_places(bins, *pad_sizes(self.kernel_size)), axis=2)
            over_bins = ops.sum(kernel[:, :, channels:], axis=0, keepdims=True)
            offset = offset + convolve(embeddings, over_bins)
        return keras.activations.get(self.activation)(features + offset)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return (*input_shape[:-1], self.filters)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "filters": self.filters, "kernel_size": self.kernel_size,
            "activation": self.activation, "use_fencoding": self.use_fencoding}


@keras.saving.register_keras_serializable(package="denoiser")
class IBlock(keras.layers.Layer):
    """Densely connected 3x3 convolutions plus a linear 1x1 convolution beside them.

    The first convolution sees the input; each further one sees all that came before it, newest
    first. The result is the last one's output.

    Args:
        filters: int. Number of output channels, and of each convolution.
        num_tfc: int. Number of 3x3 convolutions.
        activation: Name of the activation of the 3x3 convolutions.

    Input shape: `(batch, frames, bins, channels)`.
    Output shape: `(batch, frames, bins, filters)`.
    """

    def __init__(self, filters: int, num_tfc: int = 1, activation: str = "elu",
                 **kwargs: Any) -> None:
        if num_tfc < 1:
            raise ValueError(f"`num_tfc` must be at least 1. Received: num_tfc={num_tfc}")
        super().__init__(**kwargs)
        self.filters, self.num_tfc, self.activation = filters, num_tfc, activation
        self.dense = [SymmetricConv2D(filters, 3, activation=activation, dtype=self.dtype_policy,
                                      name=f"dense_{index}") for index in range(num_tfc)]
        self.residual = SymmetricConv2D(filters, 1, dtype=self.dtype_policy, name="residual")

    def build(self, input_shape: Shape) -> None:
        self.residual.build(input_shape)
        for index, conv in enumerate(self.dense):
            conv.build((*input_shape[:-1], input_shape[-1] + index * self.filters))

    def call(self, inputs: Tensor) -> Tensor:
        seen = inputs
        outputs = self.dense[0](seen)
        for conv in self.dense[1:]:
            seen = ops.concatenate([outputs, seen], axis=-1)
            outputs = conv(seen)
        return outputs + self.residual(inputs)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return (*input_shape[:-1], self.filters)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"filters": self.filters, "num_tfc": self.num_tfc,
                                       "activation": self.activation}


@keras.saving.register_keras_serializable(package="denoiser")
class UpsamplingConv2D(keras.layers.Layer):
    """Transposed 4x4 convolution with stride 2, cropped by one sample on each side.

    Computed as one 2x2 convolution to four times the channels, which are the four samples of each
    2x2 square of the output: the same sums as a transposed convolution's, but a plain convolution,
    for which the backends have their fastest code.

    Args:
        filters: int. Number of output channels.
        activation: Name of the activation.

    Input shape: `(batch, frames, bins, channels)`.
    Output shape: `(batch, 2 * frames, 2 * bins, filters)`.
    """

    def __init__(self, filters: int, activation: str = "elu", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.filters, self.activation = filters, activation

    def build(self, input_shape: Shape) -> None:
        # The shape of a transposed convolution's kernel, in which weights are stored.
        self.kernel = self.add_weight(
            shape=(DOWN_KERNEL, DOWN_KERNEL, self.filters, input_shape[-1]),
            initializer=_initial_kernel(), name="kernel")
        self.bias = self.add_weight(shape=(self.filters,), initializer="zeros", name="bias")

    def call(self, inputs: Tensor) -> Tensor:
        frames, bins = ops.shape(inputs)[1:3]
        return self.join_squares(self.make_squares(inputs), SCALE * frames, SCALE * bins)

    def make_squares(self, inputs: Tensor) -> Tensor:
        """Returns the squares of 2x2 output samples that start one before each input sample.

        Args:
            inputs: `(batch, frames, bins, channels)`.

        Returns:
            `(batch, frames + 1, bins + 1, 4 * filters)`.
        """
        channels = inputs.shape[-1]
        # Tap t of the kernel is t = 2 * (1 - position in the square 2x2 kernel) + output parity.
        kernel = ops.reshape(self.kernel, (2, SCALE, 2, SCALE, self.filters, channels))
        kernel = ops.flip(ops.transpose(kernel, (0, 2, 5, 1, 3, 4)), axis=(0, 1))
        kernel = ops.reshape(kernel, (2, 2, channels, SCALE**2 * self.filters))
        squares = convolve(ops.pad(inputs, ONE_ROUND), kernel)
        bias = ops.reshape(ops.tile(self.bias, SCALE**2), (1, 1, 1, SCALE**2 * self.filters))
        return keras.activations.get(self.activation)(squares + bias)

    def repeat_in_squares(self, inputs: Tensor) -> Tensor:
        """Returns the nearest-neighbour upsampling of `inputs` in the form of `make_squares`.

        Args:
            inputs: `(batch, frames, bins, filters)`.

        Returns:
            `(batch, frames + 1, bins + 1, 4 * filters)`.
        """
        frames, bins = ops.shape(inputs)[1:3]
        padded = ops.pad(inputs, ONE_ROUND)
        return ops.concatenate(
            [crop(padded, row, column, frames + 1, bins + 1)
             for row in range(SCALE) for column in range(SCALE)], axis=-1)

    def join_squares(self, squares: Tensor, frames: Any, bins: Any) -> Tensor:
        """Lays squares side by side and cuts the first sample of both axes and the end off.

        Args:
            squares: `(batch, rows, columns, 4 * filters)`.
            frames: Frames of the result, fewer than 2 * rows.
            bins: Bins of the result.

        Returns:
            `(batch, frames, bins, filters)`.
        """
        _, rows, columns, _ = ops.shape(squares)
        outputs = ops.reshape(squares, (-1, rows, columns, SCALE, SCALE * self.filters))
        outputs = ops.transpose(outputs, (0, 1, 3, 2, 4))
        outputs = ops.reshape(outputs, (-1, SCALE * rows, SCALE * columns, self.filters))
        return crop(outputs, 1, 1, frames, bins)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        batch, frames, bins, _ = input_shape
        return (batch, _doubled(frames), _doubled(bins), self.filters)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"filters": self.filters, "activation": self.activation}


@keras.saving.register_keras_serializable(package="denoiser")
class EncoderLevel(keras.layers.Layer):
    """An I-block, whose output the decoder reuses, and the convolution that halves the resolution.

    Args:
        filters: int. Channels of the I-block.
        down_filters: int. Channels of the halved output.
        num_tfc: int. 3x3 convolutions in the I-block.
        activation: Name of the activation.

    Input shape: `(batch, frames, bins, channels)`.
    Output shape: `[(batch, ceil(frames / 2), ceil(bins / 2), down_filters),
        (batch, frames, bins, filters)]`.
    """

    def __init__(self, filters: int, down_filters: int, num_tfc: int = 1, activation: str = "elu",
                 **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.filters, self.down_filters = filters, down_filters
        self.num_tfc, self.activation = num_tfc, activation
        self.block = IBlock(filters, num_tfc, activation, dtype=self.dtype_policy, name="block")
        self.down = SymmetricConv2D(down_filters, DOWN_KERNEL, SCALE, activation,
                                    dtype=self.dtype_policy, name="down")

    def build(self, input_shape: Shape) -> None:
        self.block.build(input_shape)
        self.down.build(self.block.compute_output_shape(input_shape))

    def call(self, inputs: Tensor) -> list[Tensor]:
        skip = self.block(inputs)
        return [self.down(skip), skip]

    def compute_output_shape(self, input_shape: Shape) -> list[Shape]:
        skip = self.block.compute_output_shape(input_shape)
        return [self.down.compute_output_shape(skip), skip]

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "filters": self.filters, "down_filters": self.down_filters, "num_tfc": self.num_tfc,
            "activation": self.activation}


@keras.saving.register_keras_serializable(package="denoiser")
class DecoderLevel(keras.layers.Layer):
    """Doubles the resolution twice over, adds both, and joins the encoder's features.

    Args:
        filters: int. Number of output channels.
        num_tfc: int. 3x3 convolutions in the I-block.
        activation: Name of the activation.

    Call arguments:
        inputs: `(batch, ceil(frames / 2), ceil(bins / 2), channels)`.
        skip: `(batch, frames, bins, skip_channels)`, from the encoder's level.

    Output shape: `(batch, frames, bins, filters)`.
    """

    def __init__(self, filters: int, num_tfc: int = 1, activation: str = "elu",
                 **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.filters, self.num_tfc, self.activation = filters, num_tfc, activation
        self.up = UpsamplingConv2D(filters, activation, dtype=self.dtype_policy, name="up")
        self.projection = SymmetricConv2D(filters, 1, activation=activation,
                                          dtype=self.dtype_policy, name="projection")
        self.block = IBlock(filters, num_tfc, activation, dtype=self.dtype_policy, name="block")

    def build(self, inputs_shape: Shape, skip_shape: Shape) -> None:
        self.up.build(inputs_shape)
        if inputs_shape[-1] != self.filters:
            self.projection.build(inputs_shape)
        self.block.build((*skip_shape[:-1], self.filters + skip_shape[-1]))

    def call(self, inputs: Tensor, skip: Tensor) -> Tensor:
        frames, bins = ops.shape(skip)[1:3]
        # A 1x1 convolution and nearest-neighbour upsampling commute: project where it is cheap.
        nearest = self.projection(inputs) if inputs.shape[-1] != self.filters else inputs
        # Both upsamplings are added in the form that costs one pass over memory less.
        squares = self.up.make_squares(inputs) + self.up.repeat_in_squares(nearest)
        upsampled = self.up.join_squares(squares, frames, bins)
        return self.block(ops.concatenate([upsampled, skip], axis=-1))

    def compute_output_shape(self, inputs_shape: Shape, skip_shape: Shape) -> Shape:
        return (*skip_shape[:-1], self.filters)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"filters": self.filters, "num_tfc": self.num_tfc,
                                       "activation": self.activation}


@keras.saving.register_keras_serializable(package="denoiser")
class EncoderDecoder(keras.layers.Layer):
    """One U-Net, from features to features of the same resolution.

    Args:
        depth: int. Number of times the resolution is halved.
        channels: Channels of each level, more than `depth` numbers.
        num_tfc: int. 3x3 convolutions in each I-block.
        activation: Name of the activation.

    Input shape: `(batch, frames, bins, any)`.
    Output shape: `(batch, frames, bins, channels[0])`.
    """

    def __init__(self, depth: int, channels: list[int], num_tfc: int = 1, activation: str = "elu",
                 **kwargs: Any) -> None:
        if not 1 <= depth < len(channels):
            raise ValueError(f"`depth` must be in [1, {len(channels) - 1}], one less than "
                             f"`channels` has numbers. Received: depth={depth}")
        super().__init__(**kwargs)
        self.depth, self.channels = depth, list(channels)
        self.num_tfc, self.activation = num_tfc, activation
        common = {"num_tfc": num_tfc, "activation": activation, "dtype": self.dtype_policy}
        self.encoder = [EncoderLevel(channels[level], channels[level + 1],
                                     name=f"encoder_{level}", **common) for level in range(depth)]
        self.bottom = IBlock(channels[depth], name="bottom", **common)
        self.decoder = [DecoderLevel(channels[level], name=f"decoder_{level}", **common)
                        for level in range(depth)]

    def build(self, input_shape: Shape) -> None:
        shape, skip_shapes = input_shape, []
        for level in self.encoder:
            level.build(shape)
            shape, skip_shape = level.compute_output_shape(shape)
            skip_shapes.append(skip_shape)
        self.bottom.build(shape)
        for level, skip_shape in zip(reversed(self.decoder), reversed(skip_shapes), strict=True):
            level.build(shape, skip_shape)
            shape = level.compute_output_shape(shape, skip_shape)

    def call(self, inputs: Tensor) -> Tensor:
        features, skips = inputs, []
        for level in self.encoder:
            features, skip = level(features)
            skips.append(skip)
        features = self.bottom(features)
        for level, skip in zip(reversed(self.decoder), reversed(skips), strict=True):
            features = level(features, skip)
        return features

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return (*input_shape[:-1], self.channels[0])

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"depth": self.depth, "channels": list(self.channels),
                                       "num_tfc": self.num_tfc, "activation": self.activation}


@keras.saving.register_keras_serializable(package="denoiser")
class SupervisedAttention(keras.layers.Layer):
    """Supervised attention module: a first estimate, and features gated by a mask made from it.

    Args:
        output: "spectrum": the estimate is the input plus a predicted residual; "mask": the
            residual is the input times a predicted complex mask, which starts at zero.
        use_steady: bool. The mask has two more channels, for the tones.
        compression: float. Exponent of the magnitudes from which the mask is made.
        use_SAM: bool. Without it the features are returned as they came; the estimate stays.

    Call arguments:
        features: `(batch, frames, bins, channels)`.
        spectrogram: `(batch, frames, bins, parts)`, the network's input.
        tones: `(batch, frames, bins, 2)` with `use_steady`, else None.

    Output shape: `[(batch, frames, bins, channels), (batch, frames, bins, parts)]`: features and
        estimate.
    """

    def __init__(self, output: str = "spectrum", compression: float = 1.0,
                 use_SAM: bool = True, use_steady: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.output_form, self.compression, self.use_sam = output, compression, use_SAM
        self.use_steady = use_steady

    def build(self, features_shape: Shape, spectrogram_shape: Shape) -> None:
        channels, parts = features_shape[-1], spectrogram_shape[-1]
        self.attended = SymmetricConv2D(channels, 3, dtype=self.dtype_policy, name="attended")
        self.residual = SymmetricConv2D(parts + (2 if self.use_steady else 0), 3,
                                        zero_start=self.output_form == "mask",
                                        dtype=self.dtype_policy, name="residual")
        self.mask = SymmetricConv2D(channels, 3, activation="sigmoid", dtype=self.dtype_policy,
                                    name="mask")
        self.attended.build(features_shape)
        self.residual.build(features_shape)
        # The published weights have this convolution also where it is not used.
        self.mask.build(spectrogram_shape)

    def call(self, features: Tensor, spectrogram: Tensor,
             tones: Tensor | None = None) -> list[Tensor]:
        padded = mirror_pad(features, 3)  # for both convolutions that see the features
        residual = self.residual.conv(padded)
        if self.output_form == "mask":
            residual = apply_mask(spectrogram, residual, tones)
        estimate = spectrogram + residual
        if not self.use_sam:
            return [features, estimate]
        mask = self.mask(compress(estimate, self.compression))
        return [self.attended.conv(padded) * mask + features, estimate]

    def compute_output_shape(self, features_shape: Shape, spectrogram_shape: Shape) -> list[Shape]:
        return [features_shape, spectrogram_shape]

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"output": self.output_form,
                                       "compression": self.compression, "use_SAM": self.use_sam,
                                       "use_steady": self.use_steady}


@keras.saving.register_keras_serializable(package="denoiser")
class TwoStageUnet(keras.Model):
    """The whole network.

    Args:
        settings: The fields of `UnetConfig`.

    Input shape: `(batch, frames, bins, 2)`.
    Output shape: a list of [stage 2, stage 1], or of the one stage, each shaped as the input.
    """

    def __init__(self, settings: Mapping[str, Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        chosen = self.settings = UnetConfig(**settings)
        common = {"activation": chosen.activation, "dtype": self.dtype_policy}
        filters = chosen.channels[0]
        stages = range(1, chosen.num_stages + 1)
        self.extractors = [FeatureExtractor(filters, chosen.extractor_kernel,
                                            use_fencoding=chosen.use_fencoding,
                                            name=f"extractor_{stage}", **common)
                           for stage in stages]
        self.unets = [EncoderDecoder(chosen.depth, chosen.channels, chosen.num_tfc,
                                     name=f"unet_{stage}", **common) for stage in stages]
        self.attention = SupervisedAttention(chosen.output, chosen.compression, chosen.use_SAM,
                                             chosen.use_steady, dtype=self.dtype_policy,
                                             name="attention")
        self.final = SymmetricConv2D(2 * chosen.fold_bins + (2 if chosen.use_steady else 0), 3,
                                     zero_start=chosen.output == "mask", dtype=self.dtype_policy,
                                     name="final")

    def build(self, input_shape: Shape) -> None:
        batch, frames = input_shape[:2]
        folds = self.settings.fold_bins
        folded_shape = (batch, frames, None, 2 * folds)
        seen = (4 if self.settings.use_floor else 2) * folds
        seen += 2 if self.settings.use_steady else 0
        seen_shape = (*folded_shape[:-1], seen)
        filters = self.settings.channels[0]
        features_shape = (*folded_shape[:-1], filters)
        for extractor in self.extractors:
            extractor.build(seen_shape)
        self.unets[0].build(features_shape)
        if self.settings.num_stages == 2:
            self.attention.build(features_shape, folded_shape)
            self.unets[1].build((*folded_shape[:-1], 2 * filters))
        self.final.build(features_shape)
        self.built = True  # unlike a layer, a model does not note it by itself

    def call(self, inputs: Tensor) -> list[Tensor]:
        chosen = self.settings
        spectrogram = fold_bins(inputs, chosen.fold_bins, chosen.fold_start)
        seen = compress(spectrogram, chosen.compression)
        if chosen.use_floor:
            levels = magnitude_and_floor(inputs, chosen.compression)
            levels = fold_bins(levels, chosen.fold_bins, chosen.fold_start)
            seen = ops.concatenate([seen, levels], axis=-1)
        tones = None
        if chosen.use_steady:
            tones = _find_tones(spectrogram, chosen.fold_start)
            seen = ops.concatenate([seen, compress(tones, chosen.compression)], axis=-1)
        features = self.unets[0](self.extractors[0](seen))
        estimates = []
        if chosen.num_stages == 2:
            attended, estimate = self.attention(features, spectrogram, tones)
            estimates.append(estimate)
            own = self.extractors[1](seen)
            features = self.unets[1](ops.concatenate([own, attended], axis=-1))
        final = self.final(features)
        if chosen.output == "mask":
            final = spectrogram + apply_mask(spectrogram, final, tones)
        estimates.insert(0, final)
        bins = ops.shape(inputs)[2]
        return [unfold_bins(estimate, chosen.fold_bins, bins, chosen.fold_start)
                for estimate in estimates]

    def compute_output_shape(self, input_shape: Shape) -> list[Shape]:
        return [input_shape] * self.settings.num_stages

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"settings": dataclasses.asdict(self.settings)}


# ---- weights ----


def load_weights(model: TwoStageUnet, path: str | Path) -> None:
    """Reads all weights of `model`; on any mismatch none is changed.

    Args:
        model: From `build_model_denoise`.
        path: A Keras file that ends in `.weights.h5`, or the prefix of a TensorFlow object-graph
            checkpoint (without `.index`), the form of the published weights.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: A variable is missing, is not the network's, or has another shape; the message
            names it. Or the file has another form.
    """
    path = Path(path)
    if path.name.endswith(WEIGHTS_ENDING):
        _load_keras_weights(model, path)
    else:
        _load_tensorflow_checkpoint(model, path)


def _load_keras_weights(model: TwoStageUnet, path: Path) -> None:
    if not path.is_file():
        raise FileNotFoundError(f"`path` must name weights that exist. Received: path={path}")
    with tempfile.TemporaryDirectory() as folder:
        # Only Keras knows under which names it stores a model, so it is asked to store this one.
        own = Path(folder) / f"own{WEIGHTS_ENDING}"
        model.save_weights(own)
        expected = _stored_shapes(own)
    _check_shapes(_stored_shapes(path), expected, path)
    model.load_weights(path)


def _stored_shapes(path: Path) -> dict[str, Shape]:
    """Returns the shape of each array of an HDF5 file."""
    shapes = {}

    def note(name: str, node: Any) -> None:
        if isinstance(node, h5py.Dataset):
            shapes[name.replace("/vars/0", "/kernel").replace("/vars/1", "/bias")] = node.shape

    try:
        with h5py.File(path) as file:
            file.visititems(note)
    except OSError as error:
        raise UserError("`path` must name a complete HDF5 file. "
                        f"Received: path={path}") from error
    return shapes


def _load_tensorflow_checkpoint(model: TwoStageUnet, prefix: Path) -> None:
    if not Path(f"{prefix}.index").is_file():
        raise FileNotFoundError(f"`path` must end in {WEIGHTS_ENDING} or be the prefix of a "
                                f"TensorFlow checkpoint that exists. Received: path={prefix}")
    import tensorflow as tf  # the only reader of this format; no other backend needs it

    variables = dict(_checkpoint_variables(model))
    try:
        reader = tf.train.load_checkpoint(str(prefix))
        found = {key: tuple(shape) for key, shape in reader.get_variable_to_shape_map().items()
                 if _is_network_key(key)}
        _check_shapes(found, {key: tuple(variable.shape) for key, variable in variables.items()},
                      prefix)
        values = {key: reader.get_tensor(key) for key in variables}  # read all before changing any
    except (tf.errors.OpError, RuntimeError, IndexError) as error:  # what TensorFlow raises varies
        raise UserError("`path` must be the prefix of a complete TensorFlow checkpoint, with its "
                        f"`.index` and all `.data` files. Received: path={prefix}") from error
    for key, variable in variables.items():
        variable.assign(values[key])


def _is_network_key(key: str) -> bool:
    """Whether a checkpoint's key is a weight, not the checkpoint's or the optimizer's own state."""
    return (key.endswith(CHECKPOINT_VALUE) and ".OPTIMIZER_SLOT" not in key
            and key.split("/")[0] not in ("optimizer", "save_counter"))


def _checkpoint_variables(model: TwoStageUnet) -> Iterator[tuple[str, keras.Variable]]:
    """Yields each variable of the network with its key in a published checkpoint."""
    for name, layer in _checkpoint_layers(model):
        for kind in ("kernel", "bias"):
            yield f"{CHECKPOINT_ROOT}/{name}/{kind}/{CHECKPOINT_VALUE}", getattr(layer, kind)


def _checkpoint_layers(model: TwoStageUnet) -> Iterator[tuple[str, Any]]:
    """Yields each layer that has a kernel and a bias, with its published name."""
    for stage, (extractor, unet) in enumerate(zip(model.extractors, model.unets, strict=True),
                                              start=1):
        yield f"conv2d_{stage}", extractor
        for level, encoder in enumerate(unet.encoder):
            name = f"encoder_s{stage}/eblocks/{level}"
            yield from _block_layers(f"{name}/i_block", encoder.block)
            yield f"{name}/conv2d_2", encoder.down.conv
        yield from _block_layers(f"encoder_s{stage}/i_block", unet.bottom)
        for level, decoder in enumerate(unet.decoder):
            name = f"decoder_s{stage}/dblocks/{level}"
            yield f"{name}/tconv_1", decoder.up
            if decoder.projection.built:
                yield f"{name}/projection", decoder.projection.conv
            yield from _block_layers(f"{name}/i_block", decoder.block)
    if model.settings.num_stages == 2:
        attention = model.attention
        convs = (attention.attended, attention.residual, attention.mask)
        for index, conv in enumerate(convs, start=1):
            yield f"sam_1/conv{index}", conv.conv
    yield "finalblock/conv2", model.final.conv


def _block_layers(name: str, block: IBlock) -> Iterator[tuple[str, Any]]:
    for index, conv in enumerate(block.dense):
        yield f"{name}/tfc/H/{index}", conv.conv
    yield f"{name}/conv2d_res", block.residual.conv


def _check_shapes(found: dict[str, Shape], expected: dict[str, Shape], path: Path) -> None:
    """Raises ValueError at the first variable that is missing, extra or of another shape."""
    for name in sorted(found.keys() | expected.keys()):
        if found.get(name) != expected.get(name):
            shapes = [f"of shape {shapes[name]}" if name in shapes else "nothing"
                      for shapes in (expected, found)]
            raise UserError(f"`path` must hold the weights of this network. Variable {name}: "
                            f"expected {shapes[0]}, found {shapes[1]}. Received: path={path}")
