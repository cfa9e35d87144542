"""Fourier transforms of real signals, in a form that every runtime supports.

The transforms of the Keras backends are the fastest where they exist. ONNX and LiteRT have none for
real signals of any shape and in both directions, so in graphs for them (see `plain`) a transform is
a few products with small matrices (J. W. Cooley and J. W. Tukey, "An algorithm for the machine
calculation of complex Fourier series", Math. Comp. 19, 1965: a transform of rows * columns samples
as transforms of its columns, multiplication with factors, and transforms of its rows). Start
reading at `rfft`.
"""

import math

import numpy as np
from keras import ops

from historical_denoiser.network import plain
from historical_denoiser.network.tensor_ops import Tensor, join_parts, split_parts, tf_complex_for


def rfft(waves: Tensor) -> Tensor:
    """Returns the real and imaginary parts `(..., samples / 2 + 1, 2)` of spectra.

    Args:
        waves: Signals `(..., samples)`.
    """
    *leading, samples = ops.shape(waves)
    if not plain.is_plain():
        library = tf_complex_for(waves)
        return library.rfft(waves) if library else ops.stack(ops.rfft(waves), axis=-1)
    bins = samples // 2 + 1
    rows, columns = _factors(samples)
    # A sample has the index columns * row + column, a bin the index rows * high + low.
    grid = ops.reshape(waves, (-1, rows, columns))
    cosine, sine = _turns(rows, rows)
    real, imag = ops.matmul(cosine, grid), -ops.matmul(sine, grid)
    cosine, sine = _turns(rows, columns, rows * columns)
    real, imag = real * cosine + imag * sine, imag * cosine - real * sine
    used = -(-bins // rows)
    cosine, sine = _turns(columns, used)
    real, imag = (ops.matmul(real, cosine) + ops.matmul(imag, sine),
                  ops.matmul(imag, cosine) - ops.matmul(real, sine))
    pairs = ops.transpose(join_parts(real, imag), (0, 2, 1, 3))
    pairs = ops.reshape(pairs, (-1, rows * used, 2))[:, :bins]
    return ops.reshape(pairs, (*leading, bins, 2))


def irfft(spectra: Tensor, samples: int) -> Tensor:
    """Returns the signals `(..., samples)` of spectra `(..., samples / 2 + 1, 2)`."""
    *leading, bins, _ = ops.shape(spectra)
    if not plain.is_plain():
        library = tf_complex_for(spectra)
        return (library.irfft(spectra, samples) if library else
                ops.irfft(tuple(ops.unstack(spectra, 2, axis=-1)), samples))
    rows, columns = _factors(samples)
    # The factor 2 stands for the upper half of the bins, which would add the same once more.
    weights = np.full((bins, 2), 2.0 / samples, np.float32)
    weights[0] /= 2.0
    weights[samples // 2:] /= 2.0
    used = -(-bins // columns)
    pairs = ops.reshape(spectra * ops.convert_to_tensor(weights), (-1, bins, 2))
    pairs = ops.pad(pairs, ((0, 0), (0, used * columns - bins), (0, 0)))
    # A bin has the index columns * row + column, a sample the index rows * high + low.
    real, imag = split_parts(ops.reshape(pairs, (-1, used, columns, 2)))
    cosine, sine = _turns(rows, used)
    real, imag = (ops.matmul(cosine, real) - ops.matmul(sine, imag),
                  ops.matmul(cosine, imag) + ops.matmul(sine, real))
    cosine, sine = _turns(rows, columns, samples)
    real, imag = real * cosine - imag * sine, imag * cosine + real * sine
    cosine, sine = _turns(columns, columns)
    waves = ops.matmul(real, cosine) - ops.matmul(imag, sine)
    return ops.reshape(ops.transpose(waves, (0, 2, 1)), (*leading, samples))


def _factors(samples: int) -> tuple[int, int]:
    """Returns two even numbers whose product is `samples`, as close to each other as possible."""
    rows = max((number for number in range(2, math.isqrt(samples) + 1, 2)
                if samples % (2 * number) == 0), default=None)
    if rows is None:
        raise ValueError(f"`samples` must be a multiple of 4. Received: samples={samples}")
    return rows, samples // rows


def turns(samples: np.ndarray, bins: int, period: int) -> np.ndarray:
    """Returns real and imaginary part of exp(-2 pi i k n / period), float32 `(samples, bins, 2)`.

    Args:
        samples: The numbers n.
        bins: How many numbers k there are, from 0 upwards.
        period: Number of samples of the transform.
    """
    # Full periods are removed in integer arithmetic, which is exact.
    angle = 2.0 * np.pi / period * (np.outer(samples, np.arange(bins)) % period)
    return np.stack([np.cos(angle), -np.sin(angle)], axis=-1).astype(np.float32)


def _turns(first: int, second: int, period: int | None = None) -> tuple[Tensor, Tensor]:
    """Returns cosine and sine of 2 pi m n / period, `(first, second)`; the default is `first`."""
    parts = turns(np.arange(first), second, period or first)
    return ops.convert_to_tensor(parts[..., 0]), ops.convert_to_tensor(-parts[..., 1])
