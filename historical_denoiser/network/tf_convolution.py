"""Convolution on TensorFlow; on a CPU without oneDNN, XLA computes the gradient of the kernel.

On such a CPU, XLA takes half as long as TensorFlow's own routine. With oneDNN, TensorFlow takes
half as long as XLA (docs/lab/speed.md).
"""

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf


def convolve(inputs: Any, kernel: Any, strides: int = 1) -> Any:
    """Implements `tensor_ops.convolve`.

    Args:
        inputs: `(batch, frames, bins, channels)`.
        kernel: `(height, width, channels, filters)`.
        strides: Step on both axes.
    """
    steps = (1, strides, strides, 1)
    if _has_gpu() or _has_onednn():
        return tf.nn.conv2d(inputs, kernel, steps, "VALID")

    @tf.custom_gradient
    def convolution(inputs: Any, kernel: Any) -> tuple[Any, Callable[[Any], tuple[Any, Any]]]:
        def gradient(upstream: Any) -> tuple[Any, Any]:
            of_inputs = tf.raw_ops.Conv2DBackpropInput(
                input_sizes=tf.shape(inputs), filter=kernel, out_backprop=upstream, strides=steps,
                padding="VALID")
            return of_inputs, _kernel_gradient(tuple(kernel.shape), steps)(inputs, upstream)

        return tf.nn.conv2d(inputs, kernel, steps, "VALID"), gradient

    return convolution(inputs, tf.convert_to_tensor(kernel))  # a tensor, not a variable


@functools.cache
def _has_gpu() -> bool:
    return bool(tf.config.list_physical_devices("GPU"))


@functools.cache
def _has_onednn() -> bool:
    """Returns whether TensorFlow computes with oneDNN; see `TF_ENABLE_ONEDNN_OPTS`.

    The default depends on the processor, and no public function returns it.
    """
    try:
        from tensorflow.python.util._pywrap_util_port import IsMklEnabled
    except ImportError:  # missing in a later release: False is correct but slower
        return False
    return IsMklEnabled()


@functools.cache
def _kernel_gradient(shape: tuple[int, ...], steps: tuple[int, ...]) -> Callable[[Any, Any], Any]:
    @tf.function(jit_compile=True)
    def gradient(inputs: Any, upstream: Any) -> Any:
        return tf.raw_ops.Conv2DBackpropFilter(input=inputs, filter_sizes=shape,
                                               out_backprop=upstream, strides=steps,
                                               padding="VALID")

    return gradient
