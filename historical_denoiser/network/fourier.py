"""Fourier transforms of real signals, in a form that every runtime knows.

The backends' own transforms are the fastest where they exist. ONNX and LiteRT have none for real
signals of any shape and in both directions; in graphs for them (`plain`) a transform is therefore
a few products with small matrices (J. W. Cooley and J. W. Tukey, "An algorithm for the machine
calculation of complex Fourier series", Math. Comp. 19, 1965: a transform of rows * columns samples
from transforms of its columns, factors, and transforms of its rows).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from keras import ops

from historical_denoiser.network import plain
from historical_denoiser.network.tensor_ops import slice_axis

Tensor = Any  # a tensor of whichever backend Keras runs on


def rfft(waves: Tensor, bins: int | None = None) -> Tensor:
    """Returns the spectra of `(..., samples)`: `(..., bins, 2)`, real and imaginary part.

    They hold all samples / 2 + 1 bins, or as many of the lowest as `bins` says.
    """
    *leading, samples = ops.shape(waves)
    if not plain.is_plain():
        spectra = ops.stack(ops.rfft(waves), axis=-1)
        return spectra if bins is None else slice_axis(spectra, len(leading), 0, bins)
    bins = samples // 2 + 1 if bins is None else bins
    rows, columns = _factors(samples)
    # Sample columns * row + column; bin rows * high + low.
    grid = ops.reshape(waves, (-1, rows, columns))
    cosine, sine = _turns(rows, rows)
    real, imag = ops.matmul(cosine, grid), -ops.matmul(sine, grid)
    cosine, sine = _turns(rows, columns, rows * columns)
    real, imag = real * cosine + imag * sine, imag * cosine - real * sine
    used = -(-bins // rows)
    cosine, sine = _turns(columns, used)
    real, imag = (ops.matmul(real, cosine) + ops.matmul(imag, sine),
                  ops.matmul(imag, cosine) - ops.matmul(real, sine))
    pairs = ops.transpose(ops.stack([real, imag], axis=-1), (0, 2, 1, 3))
    pairs = ops.reshape(pairs, (-1, rows * used, 2))[:, :bins]
    return ops.reshape(pairs, (*leading, bins, 2))


def irfft(spectra: Tensor, samples: int) -> Tensor:
    """Returns the signals `(..., samples)` of spectra `(..., bins, 2)`.

    Where these hold fewer than samples / 2 + 1 bins, the higher ones are zero.
    """
    *leading, bins, _ = ops.shape(spectra)
    if not plain.is_plain():
        if bins < samples // 2 + 1:
            above = [(0, 0)] * len(leading) + [(0, samples // 2 + 1 - bins), (0, 0)]
            spectra = ops.pad(spectra, above)
        return ops.irfft(tuple(ops.unstack(spectra, 2, axis=-1)), samples)
    rows, columns = _factors(samples)
    # The upper half of the bins would add the same once more.
    weights = np.full((bins, 2), 2.0 / samples, np.float32)
    weights[0] /= 2.0
    weights[samples // 2:] /= 2.0
    used = -(-bins // columns)
    pairs = ops.reshape(spectra * ops.convert_to_tensor(weights), (-1, bins, 2))
    pairs = ops.pad(pairs, ((0, 0), (0, used * columns - bins), (0, 0)))
    # Bin columns * row + column; sample rows * high + low.
    real, imag = ops.unstack(ops.reshape(pairs, (-1, used, columns, 2)), 2, axis=-1)
    cosine, sine = _turns(rows, used)
    real, imag = (ops.matmul(cosine, real) - ops.matmul(sine, imag),
                  ops.matmul(cosine, imag) + ops.matmul(sine, real))
    cosine, sine = _turns(rows, columns, samples)
    real, imag = real * cosine - imag * sine, imag * cosine + real * sine
    cosine, sine = _turns(columns, columns)
    waves = ops.matmul(real, cosine) - ops.matmul(imag, sine)
    return ops.reshape(ops.transpose(waves, (0, 2, 1)), (*leading, samples))


def _factors(samples: int) -> tuple[int, int]:
    """Returns two even numbers whose product is `samples`, as near to each other as can be."""
    rows = max((number for number in range(2, math.isqrt(samples) + 1, 2)
                if samples % (2 * number) == 0), default=None)
    if rows is None:
        raise ValueError(f"`samples` must be a multiple of 4. Received: samples={samples}")
    return rows, samples // rows


def _turns(first: int, second: int, period: int | None = None) -> tuple[Tensor, Tensor]:
    """Returns cosine and sine of 2 pi m n / period, `(first, second)`; the period is `first`."""
    period = period or first
    # Whole turns are taken away in whole numbers, which are exact.
    angle = 2.0 * np.pi / period * (np.outer(np.arange(first), np.arange(second)) % period)
    return tuple(ops.convert_to_tensor(wave(angle).astype(np.float32)) for wave in (np.cos, np.sin))
