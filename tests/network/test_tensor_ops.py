"""Operations on tensors against NumPy."""

import contextlib

import keras
import numpy as np
import pytest
from keras import ops

from historical_denoiser.audio import dsp
from historical_denoiser.network import plain, tensor_ops


@pytest.mark.parametrize("form", [contextlib.nullcontext, plain.as_plain_operations])
@pytest.mark.parametrize("kernel_size", [1, 2, 3, 4, 7, 12])
@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (3, 2), (4, 30)])
def test_mirror_pad_is_numpys(kernel_size, shape, form, rng):
    inputs = rng.standard_normal((2, *shape, 3)).astype("float32")
    before, after = kernel_size // 2, kernel_size // 2 - (1 - kernel_size % 2)
    expected = np.pad(inputs, ((0, 0), (before, after), (before, after), (0, 0)), "symmetric")
    with form():
        padded = tensor_ops.mirror_pad(ops.convert_to_tensor(inputs), kernel_size)
    np.testing.assert_array_equal(ops.convert_to_numpy(padded), expected)


@pytest.mark.parametrize("kernel_size", [3, 4, 7])
@pytest.mark.parametrize("shape", [(1, 2), (6, 30)])
def test_mirror_pad_has_the_slope_of_numpys(kernel_size, shape, rng):
    """The slope of each sample is the sum over the padded samples that are copies of it."""
    before, after = kernel_size // 2, kernel_size // 2 - (1 - kernel_size % 2)
    places = np.pad(np.arange(np.prod(shape)).reshape(shape), (before, after), "symmetric")
    slopes = rng.standard_normal((*places.shape, 3)).astype("float32")
    weights = ops.convert_to_tensor(slopes)
    expected = np.zeros((np.prod(shape), 3))
    np.add.at(expected, places.ravel(), slopes.reshape(-1, 3))

    class Padded(keras.layers.Layer):
        def build(self, input_shape):
            self.samples = self.add_weight(shape=(1, *shape, 3), initializer="zeros")

        def call(self, inputs):
            return ops.sum(tensor_ops.mirror_pad(self.samples + inputs, kernel_size) * weights)

    model = keras.Sequential([Padded()])
    model.compile(keras.optimizers.SGD(1.0), loss=lambda _, found: found, run_eagerly=True)
    model.train_on_batch(np.zeros((1, *shape, 3), "float32"), np.zeros((1, 1), "float32"))
    np.testing.assert_allclose(-model.get_weights()[0].reshape(-1, 3), expected, atol=1e-5)


def test_powers_are_numpys(rng):
    values = np.exp(rng.uniform(-14.0, 14.0, 100)).astype("float32")
    found = ops.convert_to_numpy(tensor_ops.raise_to(ops.convert_to_tensor(values), -0.35))
    np.testing.assert_allclose(found, values.astype("float64") ** -0.35, rtol=3e-6)


def test_frequency_embeddings_are_exact():
    bins = np.arange(1025)[:, None]
    expected = np.cos(2.0 ** np.arange(10) * np.pi * bins / 1024)
    found = ops.convert_to_numpy(tensor_ops.frequency_embeddings(1025, "float32"))
    np.testing.assert_allclose(found, expected[None, None], atol=1e-6)


@pytest.mark.parametrize("folds", [1, 8])
def test_pairs_have_a_power_and_are_scaled_by_it(rng, folds):
    pairs = rng.standard_normal((2, 3, 5, 2 * folds)).astype("float32")
    power = tensor_ops.power_of_pairs(ops.convert_to_tensor(pairs))
    assert power.shape == (2, 3, 5 * folds)  # no axis of one sample at the end
    expected = np.abs(pairs.view("complex64")) ** 2
    np.testing.assert_allclose(ops.convert_to_numpy(power), expected.reshape(2, 3, -1), rtol=1e-5)
    scaled = ops.convert_to_numpy(tensor_ops.scale_pairs(ops.convert_to_tensor(pairs), power))
    np.testing.assert_allclose(scaled.view("complex64"), pairs.view("complex64") * expected,
                               rtol=1e-5)


def test_complex_product_and_compression(rng):
    left, right = rng.standard_normal((2, 1, 3, 5, 6)).astype("float32")
    left_z, right_z = left.view("complex64"), right.view("complex64")
    tensor = ops.convert_to_tensor(left)
    product = tensor_ops.multiply_complex(tensor, ops.convert_to_tensor(right))
    np.testing.assert_allclose(ops.convert_to_numpy(product).view("complex64"), left_z * right_z,
                               rtol=1e-4, atol=1e-5)
    compressed = ops.convert_to_numpy(tensor_ops.compress(tensor, 0.3)).view("complex64")
    np.testing.assert_allclose(np.abs(compressed), np.abs(left_z)**0.3, rtol=1e-3)
    np.testing.assert_allclose(np.angle(compressed), np.angle(left_z), atol=1e-4)


@pytest.mark.parametrize(("count", "start", "bins", "folded"), [
    (8, 64, 1025, 64 + 32 + 32 + 97), (8, 0, 1025, 129), (4, 6, 7, 10), (2, 2, 1, 3),
    *((count, 0, bins, -(-bins // count)) for count in (1, 3, 4) for bins in (1, 3, 7, 8, 9))])
def test_folding_keeps_every_bin(rng, count, start, bins, folded):
    inputs = rng.standard_normal((2, 3, bins, 2)).astype(np.float32)
    outputs = tensor_ops.fold_bins(ops.convert_to_tensor(inputs), count, start)
    assert tuple(outputs.shape) == (2, 3, folded, 2 * count)
    np.testing.assert_array_equal(tensor_ops.unfold_bins(outputs, count, bins, start), inputs)


def test_folding_leaves_low_bins_single():
    bins = np.arange(64, dtype=np.float32)
    inputs = np.stack([bins, -bins], axis=-1)[None, None]
    folded = np.asarray(tensor_ops.fold_bins(ops.convert_to_tensor(inputs), 4, 8))[0, 0]
    np.testing.assert_array_equal(folded[:8, 0], bins[:8])
    assert not folded[:8, 2:].any()
    np.testing.assert_array_equal(folded[8, ::2], [8, 9, 0, 0])  # two and two from 8 to 15
    np.testing.assert_array_equal(folded[12, ::2], [16, 17, 18, 19])  # then four and four


@pytest.mark.parametrize(("length", "hop"), [(8, 2), (8, 8), (7, 3)])
def test_pieces_are_added_as_by_numpy(length, hop, rng):
    pieces = rng.standard_normal((2, 5, length, 3))
    found = ops.convert_to_numpy(tensor_ops.overlap_add(pieces, hop))
    for batch in range(2):
        for channel in range(3):
            expected = dsp.overlap_add(pieces[batch, :, :, channel], hop)
            np.testing.assert_allclose(found[batch, :len(expected), channel], expected,
                                       rtol=1e-5, atol=1e-6)
            assert not found[batch, len(expected):, channel].any()
