"""Operations on tensors: padding, folding of bins, masks, convolution, upsampling.

Everything is Keras 3 and runs on each of its backends. Of several ways to compute a result, the one
used here is the fastest on a CPU, gradients included.
"""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from historical_denoiser.audio.noise_profile import POWER_FLOOR
from historical_denoiser.network import plain

Tensor = Any  # a tensor of any Keras backend

EMBEDDINGS = 10  # channels of the frequency embedding, one per octave
PLAIN_CHANNELS = 4  # runtimes compute convolutions of a multiple of four channels in half the time
PAD_BY_ONE = ((0, 0), (1, 1), (1, 1), (0, 0))  # one sample on each side of frames and bins


def mirrored_indices(length: Any, before: int, after: int) -> Any:
    """Returns, for each sample of a mirror-padded axis, the index of the sample that it copies.

    Args:
        length: Number of samples before padding: an int, or a tensor if unknown while tracing.
        before: Number of samples added at the start.
        after: Number of samples added at the end.
    """
    library = np if isinstance(length, int) else ops  # NumPy makes a graph constant
    place = library.arange(-before, length + after, dtype="int32")
    # Remainders of negative numbers are avoided: runtimes of exported networks give them another
    # sign.
    phase = library.mod(library.maximum(place, -1 - place), 2 * length)
    return library.minimum(phase, 2 * length - 1 - phase)


def slice_axis(inputs: Tensor, axis: int, start: Any, stop: Any) -> Tensor:
    """Returns the samples of an axis from `start` to before `stop`.

    Indexing gives the same result, but its gradient takes ten times as long on TensorFlow.

    Args:
        inputs: Tensor of any shape.
        axis: Axis to slice.
        start: First index.
        stop: Index after the last.
    """
    starts, sizes = [0] * len(inputs.shape), list(ops.shape(inputs))
    starts[axis], sizes[axis] = start, stop - start
    return ops.slice(inputs, starts, sizes)


def overlap_add(pieces: Tensor, hop: int) -> Tensor:
    """Adds overlapping pieces.

    Args:
        pieces: `(batch, pieces, length, channels)`.
        hop: Distance between the starts of adjacent pieces in samples.

    Returns:
        `(batch, samples, channels)`, padded with zeros at the end to a multiple of `hop`.
    """
    _, count, length, channels = ops.shape(pieces)
    steps = -(-length // hop)
    padded = ops.pad(pieces, ((0, 0), (0, 0), (0, steps * hop - length), (0, 0)))
    blocks = ops.reshape(padded, (-1, count, steps, hop, channels))
    total = sum(ops.pad(block, ((0, 0), (step, steps - 1 - step), (0, 0), (0, 0)))
                for step, block in enumerate(ops.unstack(blocks, steps, axis=2)))
    return ops.reshape(total, (-1, (count + steps - 1) * hop, channels))


def mirror_pad(inputs: Tensor, kernel_size: int) -> Tensor:
    """Pads frames and bins so that a `kernel_size` convolution without padding keeps the size.

    This is NumPy's "symmetric" padding: the edge sample is repeated, and a signal shorter than the
    padding is mirrored several times. The mode of this name in `keras.ops.pad` gives different
    results on some backends.

    Args:
        inputs: `(batch, frames, bins, channels)`.
        kernel_size: Side of the kernel. If it is even, one sample more is added before than after.

    Returns:
        `(batch, frames + kernel_size - 1, bins + kernel_size - 1, channels)`.
    """
    if kernel_size == 1:
        return inputs
    before, after = kernel_size // 2, (kernel_size - 1) // 2
    if plain.is_plain() and after == 1:
        return _repeat_edges(inputs, before)
    sizes = ops.shape(inputs)[1:3]
    if all(isinstance(size, int) and size >= before + after for size in sizes):
        return _pad_with_cheap_gradient(before, after, sizes)(inputs)
    return _gather_mirrored(inputs, before, after)


def _repeat_edges(inputs: Tensor, before: int) -> Tensor:
    """Pads like `mirror_pad`, by at most two samples before and one after.

    Runtimes of exported networks have an operation that pads by one sample. Reading single samples
    is slow in them, and keeps two more copies in memory.
    """
    padded = ops.pad(inputs, PAD_BY_ONE, mode="symmetric")
    if before == 2:
        # On an axis with a single sample, the second sample from the edge is the edge itself.
        for axis, size in enumerate(ops.shape(inputs)[1:3], start=1):
            place = ops.minimum(1, size - 1) + 1
            second = slice_axis(padded, axis, place, place + 1)
            padded = ops.concatenate([second, padded], axis=axis)
    return padded


def _gather_mirrored(inputs: Tensor, before: int, after: int) -> Tensor:
    """Reads every sample of the padded result by its index, in one pass over memory."""
    frames, bins, channels = ops.shape(inputs)[1:]
    rows, columns = (mirrored_indices(size, before, after) for size in (frames, bins))
    indices = ops.reshape(ops.expand_dims(rows, 1) * bins + columns, (-1,))
    samples = ops.take(ops.reshape(inputs, (-1, frames * bins, channels)), indices, axis=1)
    return ops.reshape(samples, (-1, frames + before + after, bins + before + after, channels))


def _pad_with_cheap_gradient(before: int, after: int, sizes: tuple[int, int]) -> Any:
    """Returns `_gather_mirrored` with a custom gradient.

    The custom gradient copies rows and adds only at the edges. The backends' gradient adds sample
    by sample, which takes twice as long.
    """

    @ops.custom_gradient
    def pad(inputs: Tensor) -> tuple[Tensor, Any]:
        def gradient(*arguments: Tensor, upstream: Tensor | None = None) -> Tensor:
            folded = arguments[0] if upstream is None else upstream
            for axis, size in ((2, sizes[1]), (1, sizes[0])):
                folded = _fold_edges(folded, axis, before, after, size)
            return folded

        return _gather_mirrored(inputs, before, after), gradient

    return pad


def _fold_edges(padded: Tensor, axis: int, before: int, after: int, size: int) -> Tensor:
    """Removes the padding of an axis and adds each padded sample to the sample that it copies."""
    end = before + size
    pieces = [slice_axis(padded, axis, before, 2 * before)
              + ops.flip(slice_axis(padded, axis, 0, before), axis),
              slice_axis(padded, axis, 2 * before, end - after)]
    if after:
        pieces.append(slice_axis(padded, axis, end - after, end)
                      + ops.flip(slice_axis(padded, axis, end, end + after), axis))
    return ops.concatenate(pieces, axis=axis)


def split_bins(padded: Tensor, split: int, kernel_size: int) -> tuple[Tensor, Tensor]:
    """Splits the input of a convolution into what the results below and above a bin depend on.

    Args:
        padded: Padded input `(batch, frames, bins, channels)`.
        split: First bin of the upper result.
        kernel_size: Side of the kernel.

    Returns:
        Inputs of the lower and the upper result; they overlap by `kernel_size - 1` bins.
    """
    reach = kernel_size - 1
    return (slice_axis(padded, 2, 0, split + reach),
            slice_axis(padded, 2, split, ops.shape(padded)[2]))


def frequency_embeddings(bins: Any, dtype: str) -> Tensor:
    """Returns cos(2^k pi n / (bins - 1)) for k = 0..9 and bin n, shaped `(1, 1, bins, 10)`."""
    period = ops.maximum(2 * (bins - 1), 1)
    # The phase is reduced in integers, because a float32 angle of 2^9 pi has an error of 1e-4.
    octaves = ops.convert_to_tensor(2 ** np.arange(EMBEDDINGS, dtype="int32"))
    phase = ops.mod(ops.expand_dims(ops.arange(bins, dtype="int32"), -1) * octaves, period)
    angle = ops.cast(phase, "float32") * (2.0 * np.pi) / ops.cast(period, "float32")
    return ops.cast(ops.cos(angle), dtype)[None, None]


def fold_regions(bins: Any, count: int, start: int) -> list[tuple[int, Any, int]]:
    """Returns the regions of bins that are folded alike.

    Args:
        bins: Number of bins: an int, or a tensor if unknown while tracing.
        count, start: As in `fold_bins`.

    Returns:
        First bin, end bin and number of bins folded into one, for each region. The last region has
        a multiple of `count` bins and may end above `bins`.
    """
    first, folds = (start, 2) if start else (0, count)
    regions = [(0, start, 1)] if start else []
    while folds < count:
        regions.append((first, 2 * first, folds))
        first, folds = 2 * first, 2 * folds
    above = max(bins - first, 1) if isinstance(bins, int) else ops.maximum(bins - first, 1)
    return [*regions, (first, first - (-above // count) * count, count)]


def fold_bins(inputs: Tensor, count: int, start: int = 0) -> Tensor:
    """Folds adjacent bins into channels; the top is padded with zeros to a multiple of `count`.

    With a `start`, the bins below it stay as they are. In the octave above it two bins are folded
    into one, in the next octave four, and so on up to `count`. So the low bins, which hold most of
    the energy and the lower partials, keep their resolution, while the network has fewer bins to
    process.

    Args:
        inputs: `(batch, frames, bins, channels)`.
        count: Largest number of bins that are folded into one.
        start: First bin to be folded; 0 folds all bins by `count`.

    Returns:
        `(batch, frames, folded, count * channels)`. Where fewer than `count` bins were folded into
        one, the last channels are zero.
    """
    if count == 1:
        return inputs
    _, frames, bins, channels = ops.shape(inputs)
    regions = fold_regions(bins, count, start)
    # There are more zeros than needed, because the number needed may be unknown while tracing.
    above = ((0, 0), (0, 0), (0, regions[-1][0] + count), (0, 0))
    filled = slice_axis(ops.pad(inputs, above), 2, 0, regions[-1][1])
    pieces = []
    for first, end, folds in regions:
        piece = ops.reshape(slice_axis(filled, 2, first, end),
                            (-1, frames, (end - first) // folds, folds * channels))
        unused = (count - folds) * channels
        pieces.append(ops.pad(piece, ((0, 0), (0, 0), (0, 0), (0, unused))) if unused else piece)
    return ops.concatenate(pieces, axis=2)


def unfold_bins(inputs: Tensor, count: int, bins: Any, start: int = 0) -> Tensor:
    """Inverts `fold_bins`.

    Args:
        inputs: `(batch, frames, folded, count * channels)`.
        count, start: As in `fold_bins`.
        bins: Number of bins before folding.

    Returns:
        `(batch, frames, bins, channels)`.
    """
    if count == 1:
        return inputs
    _, frames, _, channels = ops.shape(inputs)
    pieces, position = [], 0
    for first, end, folds in fold_regions(bins, count, start):
        stop = position + (end - first) // folds
        piece = slice_axis(slice_axis(inputs, 2, position, stop), 3, 0, folds * channels // count)
        pieces.append(ops.reshape(piece, (-1, frames, end - first, channels // count)))
        position = stop
    return slice_axis(ops.concatenate(pieces, axis=2), 2, 0, bins)


def compress(spectrogram: Tensor, exponent: float, floor: float = POWER_FLOOR) -> Tensor:
    """Raises magnitudes to `exponent` and keeps phases: X (|X|^2 + floor)^((exponent - 1) / 2).

    Args:
        spectrogram: `(batch, frames, bins, 2 * folds)`; real and imaginary parts alternate.
        exponent: Exponent of the magnitudes; 1 changes nothing.
        floor: Power added to each bin. It bounds the slope where a bin is empty.
    """
    if exponent == 1.0:
        return spectrogram
    # The slope at the floor would overflow in half precision.
    pairs = ops.cast(spectrogram, "float32")
    gain = raise_to(power_of_pairs(pairs) + floor, (exponent - 1.0) / 2.0)
    return ops.cast(scale_pairs(pairs, gain), spectrogram.dtype)


def raise_to(values: Tensor, exponent: float) -> Tensor:
    """Raises positive values to a power; `power` is slower on every backend and runtime."""
    return ops.exp(exponent * ops.log(values))


def power_of_pairs(pairs: Tensor) -> Tensor:
    """Returns |X|^2 of each pair of real and imaginary part.

    Args:
        pairs: `(batch, frames, bins, 2 * folds)`; the parts alternate.

    Returns:
        `(batch, frames, bins * folds)`. There is no last axis of length 1, because runtimes of
        exported networks would then compute everything that follows sample by sample, in up to ten
        times the time.
    """
    real, imag = split_parts(_as_list_of_pairs(pairs))
    return ops.square(real) + ops.square(imag)


def scale_pairs(pairs: Tensor, gain: Tensor) -> Tensor:
    """Multiplies both parts of each pair by its gain; shapes are those of `power_of_pairs`."""
    return pairs * ops.reshape(join_parts(gain, gain), ops.shape(pairs))


def multiply_complex(left: Tensor, right: Tensor) -> Tensor:
    """Multiplies complex numbers whose real and imaginary parts alternate on the last axis."""
    first, second = _as_list_of_pairs(left), _as_list_of_pairs(right)
    if (library := tf_complex_for(left)) is not None:
        product = library.multiply(first, second)
    else:
        (left_real, left_imag), (right_real, right_imag) = split_parts(first), split_parts(second)
        product = join_parts(left_real * right_real - left_imag * right_imag,
                             left_real * right_imag + left_imag * right_real)
    return ops.reshape(product, ops.shape(left))


def apply_mask(spectrogram: Tensor, mask: Tensor, tones: Tensor | None = None) -> Tensor:
    """Multiplies a spectrogram by a complex mask, and adds the steady tones times their own mask.

    Args:
        spectrogram: `(batch, frames, bins, parts)`.
        mask: `(batch, frames, bins, parts)`, with two more channels if there are tones.
        tones: `(batch, frames, bins, 2)` from `floors.steady_tones`, added to the first two parts;
            None for no tones.
    """
    if tones is None:
        return multiply_complex(spectrogram, mask)
    parts = spectrogram.shape[-1]
    for_tones = multiply_complex(tones, slice_axis(mask, 3, parts, parts + 2))
    unused = ((0, 0), (0, 0), (0, 0), (0, parts - 2))
    masked = multiply_complex(spectrogram, slice_axis(mask, 3, 0, parts))
    return masked + ops.pad(for_tones, unused)


def join_parts(real: Tensor, imag: Tensor) -> Tensor:
    """Returns the pairs `(..., 2)` of real and imaginary parts `(...)`."""
    if (library := tf_complex_for(real)) is not None:
        return library.join(real, imag)
    return ops.stack([real, imag], axis=-1)


def split_parts(pairs: Tensor) -> tuple[Tensor, Tensor]:
    """Inverts `join_parts`."""
    if (library := tf_complex_for(pairs)) is not None:
        return library.split(pairs)
    return tuple(ops.unstack(pairs, 2, axis=-1))


def tf_complex_for(values: Tensor) -> Any:
    """Returns the module `tf_complex` if it can be used for such values, and None otherwise."""
    if (plain.is_plain() or keras.backend.backend() != "tensorflow"
            or keras.backend.standardize_dtype(values.dtype) != "float32"):
        return None
    from historical_denoiser.network import tf_complex  # the other backends need no TensorFlow

    return tf_complex


def _as_list_of_pairs(pairs: Tensor) -> Tensor:
    """Returns `(batch, frames, bins, 2 * folds)` as `(batch, frames, bins * folds, 2)`."""
    _, frames, bins, parts = ops.shape(pairs)
    return ops.reshape(pairs, (-1, frames, bins * (parts // 2), 2))


def convolve(inputs: Tensor, kernel: Tensor, strides: int = 1) -> Tensor:
    """Convolves without padding, with the fastest routine of the backend.

    Args:
        inputs: `(batch, frames, bins, channels)`.
        kernel: `(height, width, channels, filters)`.
        strides: Step on both axes.
    """
    missing = -inputs.shape[-1] % PLAIN_CHANNELS
    if plain.is_plain() and missing:
        inputs, kernel = (ops.pad(each, [(0, missing if axis == place else 0) for axis in range(4)])
                          for each, place in ((inputs, 3), (kernel, 2)))
    if keras.backend.backend() == "tensorflow":
        # The other backends do not need TensorFlow.
        from historical_denoiser.network import tf_convolution

        return tf_convolution.convolve(inputs, kernel, strides)
    return ops.conv(inputs, kernel, strides, padding="valid")


def upsample(inputs: Tensor, kernel: Tensor, bias: Tensor, activation: Callable[[Tensor], Tensor],
             nearest: Tensor, frames: Any, bins: Any) -> Tensor:
    """Computes `unet.UpsamplingConv2D`: a transposed convolution, plus `nearest` upsampled.

    The full transposed convolution is two samples longer than twice the input on each axis; one is
    cropped on each side. It is computed as a 2x2 convolution with four times the channels, in which
    each output sample holds a 2x2 square of the result. The sums are the same, and plain
    convolutions are faster than transposed ones.

    Args:
        inputs: Input of the convolution, `(batch, rows, columns, channels)`.
        kernel: `(4, 4, filters, channels)`.
        bias: `(filters,)`.
        activation: Applied to the convolution.
        nearest: `(batch, rows, columns, filters)`.
        frames: Number of frames of the result, at most 2 * rows.
        bins: Number of bins of the result, at most 2 * columns.
    """
    filters, channels = kernel.shape[2:]
    # Tap t of the 4x4 kernel contributes to output samples of parity t % 2. Its index in the 2x2
    # kernel is 1 - t // 2, because a plain convolution does not flip its kernel as a transposed one
    # does.
    kernel = ops.reshape(kernel, (2, 2, 2, 2, filters, channels))
    kernel = ops.flip(ops.transpose(kernel, (0, 2, 5, 1, 3, 4)), axis=(0, 1))
    kernel = ops.reshape(kernel, (2, 2, channels, 4 * filters))
    squares = convolve(ops.pad(inputs, PAD_BY_ONE), kernel)
    bias = ops.reshape(ops.tile(bias, 4), (1, 1, 1, 4 * filters))
    _, rows, columns, _ = ops.shape(squares)
    nearest = ops.pad(nearest, PAD_BY_ONE)
    nearest = ops.concatenate([_crop(nearest, row, column, rows, columns)
                               for row in (0, 1) for column in (0, 1)], axis=-1)
    squares = ops.reshape(activation(squares + bias) + nearest, (-1, rows, columns, 2, 2 * filters))
    upsampled = ops.reshape(ops.transpose(squares, (0, 1, 3, 2, 4)),
                            (-1, 2 * rows, 2 * columns, filters))
    return _crop(upsampled, 1, 1, frames, bins)


def _crop(inputs: Tensor, first_frame: int, first_bin: int, frames: Any, bins: Any) -> Tensor:
    """Returns `frames` frames and `bins` bins of all channels, starting at the given ones."""
    batch, _, _, channels = ops.shape(inputs)
    return ops.slice(inputs, (0, first_frame, first_bin, 0), (batch, frames, bins, channels))
