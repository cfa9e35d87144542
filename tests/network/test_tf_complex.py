"""On TensorFlow, pairs are read as complex numbers: same values and slopes as without."""

import keras
import numpy as np
import pytest
from keras import ops

from historical_denoiser.network import fourier, tensor_ops

if keras.backend.backend() != "tensorflow":
    pytest.skip("of TensorFlow", allow_module_level=True)
import tensorflow as tf

FUNCTIONS = {
    "product": tensor_ops.multiply_complex,
    "power": lambda left, _: tensor_ops.power_of_pairs(left),
    "gain": lambda left, right: tensor_ops.scale_pairs(left, tensor_ops.power_of_pairs(right)),
    "rfft": lambda left, _: fourier.rfft(left[..., 0]),
    "irfft": lambda left, _: fourier.irfft(left[:, :, :20], 64)}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_complex_numbers_change_neither_values_nor_slopes(name, rng, monkeypatch):
    inputs = [tf.constant(rng.standard_normal((2, 7, 64, 2)).astype(np.float32)) for _ in range(2)]
    results = []
    for _ in range(2):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            output = FUNCTIONS[name](*inputs)
            total = tf.reduce_sum(tf.sin(output) * output)
        slopes = [slope for slope in tape.gradient(total, inputs) if slope is not None]
        results.append([output.numpy(), *(slope.numpy() for slope in slopes)])
        for module in (tensor_ops, fourier):
            monkeypatch.setattr(module, "tf_complex_for", lambda values: None)
    assert len(results[0]) > 1
    for fast, plain in zip(*results, strict=True):
        np.testing.assert_allclose(fast, plain, rtol=1e-5, atol=1e-5)


def test_half_precision_has_no_complex_numbers(rng):
    pairs = ops.cast(rng.standard_normal((1, 2, 3, 4)), "float16")
    assert tensor_ops.multiply_complex(pairs, pairs).dtype == tf.float16
