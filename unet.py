"""The two-stage U-Net that denoises spectrograms: its layers, and how to build and load it.

The first U-Net computes features of the noise. From these, a supervised attention module (SAM)
makes a first estimate of the clean spectrogram, and features for a second U-Net, which makes the
final estimate. Start reading at `build_model_denoise`.

Sources:
    E. Moliner and V. Valimaki, "A two-stage U-Net for high-fidelity denoising of historical
    recordings", ICASSP 2022: the network, the frequency embeddings, the channel list.
    S. W. Zamir et al., "Multi-stage progressive image restoration", CVPR 2021: the SAM.
    W. Choi et al., "Investigating U-Nets with various intermediate blocks for spectrogram-based
    singing voice separation", ISMIR 2020: the densely connected convolutions (TFC).

Tensors are `(batch, frames, bins, channels)`. Everything is Keras 3 and runs on each of its
backends; only loading a TensorFlow checkpoint needs TensorFlow.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
from keras import ops

from historical_denoiser.core.checks import UserError
from historical_denoiser.core.files import WEIGHTS_ENDING
from historical_denoiser.network import floors, mask_unet, tensor_ops, views, weights
from historical_denoiser.network.runtimes import format_of
from historical_denoiser.network.settings import UnetConfig

Shape = tuple[int | None, ...]
Tensor = Any  # a tensor of any Keras backend

RESAMPLING_KERNEL = 4  # side of the convolutions that halve or double the resolution
INITIAL_STDDEV = 0.05  # standard deviation of new kernels, which are truncated normal

# By default, TensorFlow on a CPU returns the memory of each large tensor to the operating system,
# which clears it page by page before its next use. This takes up to half the time of a forward
# pass. With this setting, which is read when the first tensor is made, TensorFlow keeps the memory.
os.environ.setdefault("TF_CPU_ALLOCATOR_USE_BFC", "1")


def build_model_denoise(unet_args: Any) -> TwoStageUnet | mask_unet.MaskUnet:
    """Builds the network with new weights.

    Args:
        unet_args: A `UnetConfig`, or any object with some of its attributes; the others have the
            defaults of `UnetConfig`.

    Raises:
        UserError: A setting is out of range; the message names it.
    """
    defaults = vars(UnetConfig())
    values = {name: getattr(unet_args, name, default) for name, default in defaults.items()}
    if isinstance(values["channels"], Sequence):  # includes tuples and lists of OmegaConf
        values["channels"] = list(values["channels"])
    for name, default in defaults.items():
        _check_type(name, values[name], default)
    for count in values["channels"]:
        _check_type("channels", count, default=1)
    try:
        keras.activations.get(values["activation"])
    except ValueError as error:
        raise UserError("`unet.activation` must be the name of a Keras activation. "
                        f"Received: unet.activation={values['activation']!r}") from error
    model = mask_unet.MaskUnet(values) if values["form"] == "mask" else TwoStageUnet(values)
    model.build((None, None, None, 2))
    return model


def _check_type(name: str, value: Any, default: Any) -> None:
    accepted = (int, float) if isinstance(default, float) else type(default)
    if not isinstance(value, accepted) or isinstance(value, bool) != isinstance(default, bool):
        raise UserError(f"`unet.{name}` must be of type {type(default).__name__}. "
                        f"Received: unet.{name}={value!r}")


# ---- layers ----


def _initial_kernel() -> keras.initializers.Initializer:
    return keras.initializers.TruncatedNormal(stddev=INITIAL_STDDEV)


class _Conv2D(keras.layers.Conv2D):
    """Keras's layer without padding, computed by `tensor_ops.convolve`."""

    def convolution_op(self, inputs: Tensor, kernel: Tensor) -> Tensor:
        return tensor_ops.convolve(inputs, ops.convert_to_tensor(kernel), self.strides[0])


@keras.saving.register_keras_serializable(package="historical_denoiser")
class SymmetricConv2D(keras.layers.Layer):
    """Convolution whose borders mirror the signal instead of adding zeros.

    Args:
        filters: Number of output channels.
        kernel_size: Side of the square kernel.
        strides: Step on both axes.
        activation: Name of a Keras activation; None for a linear layer.
        zero_start: Whether the kernel starts at zero, so that the new layer returns zeros.
        split: Bins below this one have a separate kernel; 0 for none.

    Input shape: `(batch, frames, bins, channels)`.
    Output shape: `(batch, ceil(frames / strides), ceil(bins / strides), filters)`.
    """

    def __init__(self, filters: int, kernel_size: int = 3, strides: int = 1,
                 activation: str | None = None, zero_start: bool = False, split: int = 0,
                 **kwargs: Any) -> None:
        for name, value in (("filters", filters), ("kernel_size", kernel_size),
                            ("strides", strides)):
            if value < 1:
                raise ValueError(f"`{name}` must be at least 1. Received: {name}={value}")
        super().__init__(**kwargs)
        self.kernel_size, self.split = kernel_size, split

        def make(name: str) -> _Conv2D:
            return _Conv2D(filters, kernel_size, strides, activation=activation, name=name,
                           kernel_initializer="zeros" if zero_start else _initial_kernel())

        self.conv, self.low = make("conv"), make("low") if split else None

    def build(self, input_shape: Shape) -> None:
        self.conv.build(input_shape)
        if self.low:
            self.low.build(input_shape)

    def call(self, inputs: Tensor) -> Tensor:
        return self.convolve_padded(tensor_ops.mirror_pad(inputs, self.kernel_size))

    def convolve_padded(self, padded: Tensor) -> Tensor:
        """Convolves an input that is already padded, so that several convolutions can share it."""
        if not self.low:
            return self.conv(padded)
        low, high = tensor_ops.split_bins(padded, self.split, self.kernel_size)
        return ops.concatenate([self.low(low), self.conv(high)], axis=2)


@keras.saving.register_keras_serializable(package="historical_denoiser")
class FeatureExtractor(keras.layers.Layer):
    """First convolution of a stage, over the spectrogram and the frequency embeddings.

    The embeddings are additional channels that give the network the frequency of each bin. They are
    the same in all frames, so their part of the convolution is computed only once, with the kernel
    summed over its frames. A noise profile is the same in all frames too, and is added in the same
    way.

    Args:
        filters: Number of output channels.
        kernel_size: Side of the square kernel.
        activation: Name of a Keras activation.
        use_fencoding: Whether there are frequency embeddings.
        split: Bins below this one have a separate kernel; 0 for none.

    Call arguments:
        inputs: `(batch, frames, bins, channels)`.
        profile: `(batch, 1, bins, profile_channels)`; None has the same effect as zeros.

    Output shape: `(batch, frames, bins, filters)`.
    """

    def __init__(self, filters: int, kernel_size: int = 7, activation: str = "elu",
                 use_fencoding: bool = True, split: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.filters, self.kernel_size, self.split = filters, kernel_size, split
        self.activation, self.use_fencoding = keras.activations.get(activation), use_fencoding

    def build(self, inputs_shape: Shape, profile_shape: Shape | None = None) -> None:
        channels = inputs_shape[-1] + (tensor_ops.EMBEDDINGS if self.use_fencoding else 0)
        channels += profile_shape[-1] if profile_shape else 0
        shape = (self.kernel_size, self.kernel_size, channels, self.filters)
        self.kernel = self.add_weight(shape=shape, initializer=_initial_kernel(), name="kernel")
        self.bias = self.add_weight(shape=(self.filters,), initializer="zeros", name="bias")
        if self.split:
            self.low = self.add_weight(shape=shape, initializer=_initial_kernel(), name="low")

    def call(self, inputs: Tensor, profile: Tensor | None = None) -> Tensor:
        return self.extract_all([self], inputs, profile)[0]

    @staticmethod
    def extract_all(extractors: Sequence[FeatureExtractor], inputs: Tensor,
                    profile: Tensor | None = None) -> list[Tensor]:
        """Returns the features of several extractors that see the same input.

        They are computed as one convolution, because padding and dividing the input takes as long.

        Args:
            extractors: Extractors of one form, each for `(batch, frames, bins, filters)`.
            inputs: `(batch, frames, bins, channels)`.
            profile: Noise profile `(batch, 1, bins, profile_channels)`; None without one.
        """
        first = extractors[0]
        inputs, *steady = [ops.cast(each, first.compute_dtype)
                           for each in (inputs, profile) if each is not None]
        if first.use_fencoding:  # the same in all frames, as a noise profile is
            steady.append(tensor_ops.frequency_embeddings(ops.shape(inputs)[2], inputs.dtype))
        seen = [tensor_ops.mirror_pad(inputs, first.kernel_size),
                *(tensor_ops.mirror_pad(each, first.kernel_size)[:, :1] for each in steady)]
        bias, kernel, low = (
            ops.cast(ops.concatenate([getattr(each, name) for each in extractors], axis=-1),
                     first.compute_dtype)
            for name in ("bias", "kernel", "low" if first.split else "kernel"))
        if first.split:
            bands = zip(*(tensor_ops.split_bins(each, first.split, first.kernel_size)
                          for each in seen), strict=True)
            features = ops.concatenate([_extract(band, kernel, bias) for band, kernel
                                        in zip(bands, (low, kernel), strict=True)], axis=2)
        else:
            features = _extract(seen, kernel, bias)
        return ops.split(first.activation(features), len(extractors), axis=-1)


def _extract(seen: Sequence[Tensor], kernel: Tensor, bias: Tensor) -> Tensor:
    """Convolves what varies over the frames, and what is the same in all of them only once."""
    padded, *steady = seen
    features = tensor_ops.convolve(padded, kernel[:, :, : padded.shape[-1]])
    offset, end = ops.reshape(bias, (1, 1, 1, -1)), kernel.shape[2]
    for each in reversed(steady):  # last channels first: there may be no profile
        start = end - each.shape[-1]
        over_bins = ops.sum(kernel[:, :, start:end], axis=0, keepdims=True)
        offset, end = offset + tensor_ops.convolve(each, over_bins), start
    return features + offset


@keras.saving.register_keras_serializable(package="historical_denoiser")
class IBlock(keras.layers.Layer):
    """Densely connected 3x3 convolutions, plus a linear 1x1 convolution of the input.

    The input of the first 3x3 convolution is that of the block. Each further one takes the outputs
    of all earlier ones, the newest first, and the input. The output of the last one is used.

    Args:
        filters: Number of output channels.
        num_tfc: Number of 3x3 convolutions.
        activation: Name of a Keras activation.
        split: Bins below this one have separate kernels; 0 for none.

    Input shape: `(batch, frames, bins, channels)`.
    Output shape: `(batch, frames, bins, filters)`.
    """

    def __init__(self, filters: int, num_tfc: int = 1, activation: str = "elu", split: int = 0,
                 **kwargs: Any) -> None:
        if num_tfc < 1:
            raise ValueError(f"`num_tfc` must be at least 1. Received: num_tfc={num_tfc}")
        super().__init__(**kwargs)
        self.filters = filters
        self.dense = [SymmetricConv2D(filters, 3, activation=activation, split=split,
                                      name=f"dense_{index}") for index in range(num_tfc)]
        self.residual = SymmetricConv2D(filters, 1, split=split, name="residual")

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


@keras.saving.register_keras_serializable(package="historical_denoiser")
class UpsamplingConv2D(keras.layers.Layer):
    """Transposed 4x4 convolution with stride 2, plus a nearest-neighbour upsampling.

    Call arguments:
        inputs: `(batch, ceil(frames / 2), ceil(bins / 2), channels)`, for the convolution.
        nearest: `(batch, ceil(frames / 2), ceil(bins / 2), filters)`. Each sample is repeated in a
            2x2 square and added.
        like: `(batch, frames, bins, any)`. The result is cropped to its size.

    Output shape: `(batch, frames, bins, filters)`.
    """

    def __init__(self, filters: int, activation: str = "elu", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.filters, self.activation = filters, keras.activations.get(activation)

    def build(self, inputs_shape: Shape, nearest_shape: Shape, like_shape: Shape) -> None:
        # A transposed convolution has a kernel of this shape, which the stored weights use.
        self.kernel = self.add_weight(
            shape=(RESAMPLING_KERNEL, RESAMPLING_KERNEL, self.filters, inputs_shape[-1]),
            initializer=_initial_kernel(), name="kernel")
        self.bias = self.add_weight(shape=(self.filters,), initializer="zeros", name="bias")

    def call(self, inputs: Tensor, nearest: Tensor, like: Tensor) -> Tensor:
        return tensor_ops.upsample(inputs, self.kernel, self.bias, self.activation, nearest,
                                   *ops.shape(like)[1:3])


@keras.saving.register_keras_serializable(package="historical_denoiser")
class EncoderLevel(keras.layers.Layer):
    """An I-block, whose output is also used by the decoder, and a convolution that halves the
    resolution.

    Args:
        filters: Number of channels of the I-block's output.
        down_filters: Number of channels at half the resolution.
        num_tfc: As in `IBlock`.
        activation: Name of a Keras activation.
        split: As in `IBlock`.

    Input shape: `(batch, frames, bins, channels)`.
    Output shape: `[(batch, ceil(frames / 2), ceil(bins / 2), down_filters),
        (batch, frames, bins, filters)]`.
    """

    def __init__(self, filters: int, down_filters: int, num_tfc: int = 1, activation: str = "elu",
                 split: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.filters = filters
        self.block = IBlock(filters, num_tfc, activation, split, name="block")
        self.down = SymmetricConv2D(down_filters, RESAMPLING_KERNEL, 2, activation, name="down")

    def build(self, input_shape: Shape) -> None:
        self.block.build(input_shape)
        self.down.build((*input_shape[:-1], self.filters))

    def call(self, inputs: Tensor) -> list[Tensor]:
        skip = self.block(inputs)
        return [self.down(skip), skip]


@keras.saving.register_keras_serializable(package="historical_denoiser")
class DecoderLevel(keras.layers.Layer):
    """Doubles the resolution, and combines the result with the encoder's features in an I-block.

    Args:
        filters: Number of output channels.
        num_tfc: As in `IBlock`.
        activation: Name of a Keras activation.
        split: As in `IBlock`.

    Call arguments:
        inputs: `(batch, ceil(frames / 2), ceil(bins / 2), channels)`.
        skip: `(batch, frames, bins, skip_channels)`, from the same level of the encoder.

    Output shape: `(batch, frames, bins, filters)`.
    """

    def __init__(self, filters: int, num_tfc: int = 1, activation: str = "elu", split: int = 0,
                 **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.filters = filters
        self.up = UpsamplingConv2D(filters, activation, name="up")
        self.projection = SymmetricConv2D(filters, 1, activation=activation, name="projection")
        self.block = IBlock(filters, num_tfc, activation, split, name="block")

    def build(self, inputs_shape: Shape, skip_shape: Shape) -> None:
        self.up.build(inputs_shape, (*inputs_shape[:-1], self.filters), skip_shape)
        if inputs_shape[-1] != self.filters:
            self.projection.build(inputs_shape)
        self.block.build((*skip_shape[:-1], self.filters + skip_shape[-1]))

    def call(self, inputs: Tensor, skip: Tensor) -> Tensor:
        # A 1x1 convolution and nearest-neighbour upsampling commute. The convolution comes first
        # because it then has a quarter of the samples.
        nearest = self.projection(inputs) if inputs.shape[-1] != self.filters else inputs
        upsampled = self.up(inputs, nearest, skip)
        return self.block(ops.concatenate([upsampled, skip], axis=-1))


@keras.saving.register_keras_serializable(package="historical_denoiser")
class EncoderDecoder(keras.layers.Layer):
    """One U-Net, from features to features of the same resolution.

    Args:
        depth: How many times the resolution is halved.
        channels: Number of channels of each level, at least `depth + 1` numbers.
        num_tfc: As in `IBlock`.
        activation: Name of a Keras activation.
        split: As in `IBlock`; it applies to the full resolution only.

    Input shape: `(batch, frames, bins, any)`.
    Output shape: `(batch, frames, bins, channels[0])`.
    """

    def __init__(self, depth: int, channels: list[int], num_tfc: int = 1, activation: str = "elu",
                 split: int = 0, **kwargs: Any) -> None:
        if not 1 <= depth < len(channels):
            raise ValueError(f"`depth` must be in [1, {len(channels) - 1}], one less than "
                             f"`channels` has numbers. Received: depth={depth}")
        super().__init__(**kwargs)
        self.channels = channels[: depth + 1]
        splits = [split] + [0] * depth  # only the full resolution separates single from folded bins
        self.encoder = [EncoderLevel(channels[level], channels[level + 1], num_tfc, activation,
                                     splits[level], name=f"encoder_{level}")
                        for level in range(depth)]
        self.bottom = IBlock(channels[depth], num_tfc, activation, name="bottom")
        self.decoder = [DecoderLevel(channels[level], num_tfc, activation, splits[level],
                                     name=f"decoder_{level}") for level in range(depth)]

    def build(self, input_shape: Shape) -> None:
        shapes = [(*input_shape[:-1], count) for count in self.channels]
        for level, shape in zip(self.encoder, [input_shape, *shapes[1:]], strict=False):
            level.build(shape)
        self.bottom.build(shapes[-1])
        for level, shape, below in zip(self.decoder, shapes, shapes[1:], strict=False):
            level.build(below, shape)

    def call(self, inputs: Tensor) -> Tensor:
        features, skips = inputs, []
        for level in self.encoder:
            features, skip = level(features)
            skips.append(skip)
        features = self.bottom(features)
        for level, skip in zip(reversed(self.decoder), reversed(skips), strict=True):
            features = level(features, skip)
        return features


@keras.saving.register_keras_serializable(package="historical_denoiser")
class SupervisedAttention(keras.layers.Layer):
    """Supervised attention module: a first estimate, and features weighted by a mask made from it.

    Args:
        output_form: "spectrum": the estimate is the input plus a predicted residual. "mask": the
            residual is the input times a predicted complex mask, which starts at zero.
        compression: Exponent of the magnitudes of the estimate, from which the attention mask is
            computed.
        use_SAM: If False, the features are returned unchanged.
        use_steady: Whether the predicted mask has two more channels, for the steady tones.
        split: Bins below this one have separate kernels; 0 for none.

    Call arguments:
        features: `(batch, frames, bins, channels)`.
        spectrogram: `(batch, frames, bins, parts)`, the network's input.
        tones: The steady tones `(batch, frames, bins, 2)` with `use_steady`, else None.

    Output shape: features and estimate, `[(batch, frames, bins, channels), (batch, frames, bins,
    parts)]`.
    """

    def __init__(self, output_form: str = "spectrum", compression: float = 1.0,
                 use_SAM: bool = True, use_steady: bool = False, split: int = 0,
                 **kwargs: Any) -> None:
        super().__init__(**kwargs, autocast=False)  # the estimate keeps the input's precision
        self.split = split
        self.output_form, self.compression = output_form, compression
        self.use_SAM, self.use_steady = use_SAM, use_steady

    def build(self, features_shape: Shape, spectrogram_shape: Shape) -> None:
        channels, parts = features_shape[-1], spectrogram_shape[-1]
        self.attended = SymmetricConv2D(channels, 3, split=self.split, name="attended")
        self.residual = SymmetricConv2D(parts + (2 if self.use_steady else 0), 3, split=self.split,
                                        zero_start=self.output_form == "mask", name="residual")
        self.mask = SymmetricConv2D(channels, 3, activation="sigmoid", split=self.split,
                                    name="mask")
        self.attended.build(features_shape)
        self.residual.build(features_shape)
        # The published checkpoints hold this convolution even if it is not used.
        self.mask.build(spectrogram_shape)

    def call(self, features: Tensor, spectrogram: Tensor,
             tones: Tensor | None = None) -> list[Tensor]:
        padded = tensor_ops.mirror_pad(features, 3)  # shared by two convolutions
        residual = ops.cast(self.residual.convolve_padded(padded), spectrogram.dtype)
        if self.output_form == "mask":
            residual = tensor_ops.apply_mask(spectrogram, residual, tones)
        estimate = spectrogram + residual
        if not self.use_SAM:
            return [features, estimate]
        mask = self.mask(tensor_ops.compress(estimate, self.compression))
        return [self.attended.convolve_padded(padded) * mask + features, estimate]


@keras.saving.register_keras_serializable(package="historical_denoiser")
class TwoStageUnet(keras.Model):
    """The whole network.

    With `use_profile` it also takes the list [spectrogram, profile], where the noise profile is the
    result of `ProfileForm.measure`, `(batch, 1, bins, 2)`; zeros mean that there is no profile.

    Args:
        settings: The fields of `UnetConfig` by name.

    Input shape: `(batch, frames, bins, 2)`: real and imaginary part.
    Output shape: the list [stage 2, stage 1], both with the shape of the input; with one stage the
    list has one element.
    """

    def __init__(self, settings: Mapping[str, Any], **kwargs: Any) -> None:
        # In mixed precision, masks are computed in half precision and the signals stay float32.
        super().__init__(**kwargs, autocast=False)
        chosen = self.settings = UnetConfig(**settings)
        stages = range(1, chosen.num_stages + 1)
        split = chosen.fold_start if chosen.own_low else 0
        self.extractors = [FeatureExtractor(chosen.channels[0], chosen.extractor_kernel,
                                            chosen.activation, chosen.use_fencoding, split,
                                            name=f"extractor_{stage}") for stage in stages]
        self.unets = [EncoderDecoder(chosen.depth, chosen.channels, chosen.num_tfc,
                                     chosen.activation, split, name=f"unet_{stage}")
                      for stage in stages]
        self.attention = SupervisedAttention(chosen.output, chosen.compression, chosen.use_SAM,
                                             chosen.use_steady, split, name="attention")
        form = chosen.fold_bins, chosen.fold_start
        self.views: list[views.View] = [views.ShortView(*form)] if chosen.use_short else []
        if chosen.use_long:
            self.views.append(views.LongView(*form, chosen.long_fade))
        self.own_parts = 2 * chosen.fold_bins + (2 if chosen.use_steady else 0)
        view_parts = sum(view.parts for view in self.views)
        self.final = SymmetricConv2D(self.own_parts + view_parts, 3, split=split,
                                     zero_start=chosen.output == "mask", name="final")

    def build(self, input_shape: Shape) -> None:
        chosen, sizes = self.settings, (*input_shape[:2], None)
        inputs = self.extractor_inputs
        profile = (sizes[0], 1, None, inputs["profile"]) if chosen.use_profile else None
        seen = sum(inputs.values()) - inputs["profile"] - inputs["frequency"]
        features_shape = (*sizes, chosen.channels[0])
        for extractor in self.extractors:
            extractor.build((*sizes, seen), profile)
        self.unets[0].build(features_shape)
        if chosen.num_stages == 2:
            self.attention.build(features_shape, (*sizes, 2 * chosen.fold_bins))
            self.unets[1].build((*sizes, 2 * chosen.channels[0]))
        self.final.build(features_shape)
        self.built = True  # Keras sets this for layers, but not for models

    @property
    def extractor_inputs(self) -> dict[str, int]:
        """Number of channels of each input of a stage's first convolution, in their order."""
        chosen = self.settings
        return {"spectrogram": 2 * chosen.fold_bins,
                "floor": 2 * chosen.fold_bins if chosen.use_floor else 0,
                "steady": 2 if chosen.use_steady else 0,
                **{type(view).__name__: view.parts for view in self.views},
                "profile": 2 * chosen.fold_bins if chosen.use_profile else 0,
                "frequency": tensor_ops.EMBEDDINGS if chosen.use_fencoding else 0}

    def call(self, inputs: Tensor | Sequence[Tensor]) -> list[Tensor]:
        chosen, profile = self.settings, None
        if isinstance(inputs, (list, tuple)):
            inputs, profile = inputs
            if not chosen.use_profile:
                raise ValueError("`inputs` must be a spectrogram alone: this network has no "
                                 "`unet.use_profile`")
            profile = self._fold(profile)
        spectrogram = self._fold(inputs)
        # The input is compressed before it is folded, because folding pads it with zeros.
        parts = [self._fold(tensor_ops.compress(inputs, chosen.compression))]
        if chosen.use_floor:
            parts.append(self._fold(floors.magnitude_and_floor(inputs, chosen.compression)))
        tones = None
        if chosen.use_steady:
            tones = floors.steady_tones(spectrogram, chosen.fold_start)
            parts.append(tensor_ops.compress(tones, chosen.compression))
        bins = ops.shape(inputs)[2]
        waves = views.to_waves(inputs) if self.views else None
        contents = [view.from_waves(waves) for view in self.views]
        for view, content in zip(self.views, contents, strict=True):
            parts.append(view.fold(tensor_ops.compress(content, chosen.compression), bins))
        seen = ops.concatenate(parts, axis=-1)
        extracted = FeatureExtractor.extract_all(self.extractors, seen, profile)
        features = self.unets[0](extracted[0])
        first = []
        if chosen.num_stages == 2:
            attended, estimate = self.attention(features, spectrogram, tones)
            first = [estimate]
            features = self.unets[1](ops.concatenate([extracted[1], attended], axis=-1))
        final = answer = ops.cast(self.final(features), spectrogram.dtype)
        if chosen.output == "mask":
            mask = tensor_ops.slice_axis(answer, 3, 0, self.own_parts)
            final = spectrogram + tensor_ops.apply_mask(spectrogram, mask, tones)
        estimates = [tensor_ops.unfold_bins(estimate, chosen.fold_bins, bins, chosen.fold_start)
                     for estimate in [final, *first]]
        position, blocks = self.own_parts, []
        for view, content in zip(self.views, contents, strict=True):
            mask = tensor_ops.slice_axis(answer, 3, position, position + view.parts)
            change = tensor_ops.multiply_complex(content, view.unfold(mask, bins))
            blocks.append(view.to_blocks(change, 2 * (bins - 1)))
            position += view.parts
        if blocks:
            estimates[0] = estimates[0] + views.from_blocks(sum(blocks))
        return estimates

    def _fold(self, inputs: Tensor) -> Tensor:
        return tensor_ops.fold_bins(inputs, self.settings.fold_bins, self.settings.fold_start)

    def compute_output_shape(self, input_shape: Shape) -> list[Shape]:
        has_profile = isinstance(input_shape[0], (list, tuple))
        return [input_shape[0] if has_profile else input_shape] * self.settings.num_stages

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"settings": dataclasses.asdict(self.settings)}


# ---- weights ----


def load_weights(model: TwoStageUnet, path: str | Path) -> None:
    """Loads all weights of `model`; on any mismatch none is changed.

    Args:
        model: Result of `build_model_denoise`.
        path: A Keras file that ends in `.weights.h5`, or the prefix of a TensorFlow object-graph
            checkpoint (without `.index`), the form of the published weights.

    Raises:
        FileNotFoundError: There is no such file.
        UserError: The file has another form, or its variables are not those of the network; the
            message names the first one.
    """
    path = Path(path)
    if format_of(path):
        raise UserError(f"{path} is exported and cannot become a Keras network again: name the "
                        f"{WEIGHTS_ENDING} file that it was exported from")
    if path.name.endswith(WEIGHTS_ENDING):
        weights.load_keras_file(model, path)
    else:
        weights.load_tensorflow_checkpoint(model, path)
