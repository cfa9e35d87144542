"""The convolution and its gradients are TensorFlow's own."""

import numpy as np
import pytest
import tensorflow as tf

from historical_denoiser.network import tf_convolution


@pytest.fixture(params=[False, True], ids=["xla", "onednn"], autouse=True)
def _routine(request, monkeypatch):
    """Each way of computing it, whatever the settings of this machine's TensorFlow."""
    monkeypatch.setattr(tf_convolution, "_has_onednn", lambda: request.param)


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "graph"])
@pytest.mark.parametrize(("side", "strides"), [(1, 1), (3, 1), (4, 2), (7, 1)])
def test_value_and_gradients(rng, side, strides, compiled):
    inputs = tf.constant(rng.standard_normal((2, 20, 17, 5)), tf.float32)
    kernel = tf.constant(rng.standard_normal((side, side, 5, 3)), tf.float32)

    def run(convolve):
        with tf.GradientTape() as tape:
            tape.watch([inputs, kernel])
            value = convolve(inputs, kernel)
            loss = tf.reduce_sum(tf.square(value))
        return value, *tape.gradient(loss, [inputs, kernel])

    def ours(inputs, kernel):
        return tf_convolution.convolve(inputs, kernel, strides)

    def plain(inputs, kernel):
        return tf.nn.conv2d(inputs, kernel, strides, "VALID")

    found = tf.function(run)(ours) if compiled else run(ours)
    for one, other in zip(found, run(plain), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5 * np.abs(other).max())


def test_sizes_that_are_not_known_while_tracing(rng):
    kernel = tf.Variable(rng.standard_normal((3, 3, 2, 4)), dtype=tf.float32)

    @tf.function(input_signature=[tf.TensorSpec((None, None, None, 2))])
    def gradient(inputs):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf_convolution.convolve(inputs, kernel))
        return tape.gradient(loss, kernel)

    for frames, bins in ((9, 8), (5, 12)):
        inputs = rng.standard_normal((1, frames, bins, 2)).astype(np.float32)
        windows = np.lib.stride_tricks.sliding_window_view(inputs, (3, 3), axis=(1, 2))
        expected = windows.sum(axis=(0, 1, 2)).transpose(1, 2, 0)[..., None]
        np.testing.assert_allclose(gradient(inputs), np.broadcast_to(expected, (3, 3, 2, 4)),
                                   atol=1e-4)
