"""Transforms as products of matrices agree with NumPy's."""

import numpy as np
import pytest

from historical_denoiser.network import fourier, plain


@pytest.mark.parametrize("samples", [4, 12, 100, 256, 2048, 8192])
def test_products_are_transforms_in_both_directions(rng, samples):
    waves = rng.standard_normal((2, 3, samples)).astype(np.float32)
    with plain.as_plain_operations():
        spectra = np.asarray(fourier.rfft(waves))
        back = np.asarray(fourier.irfft(spectra, samples))
    expected = np.fft.rfft(waves)
    scale = np.abs(expected).max()
    assert np.allclose(spectra[..., 0] / scale, expected.real / scale, atol=1e-6)
    assert np.allclose(spectra[..., 1] / scale, expected.imag / scale, atol=1e-6)
    assert np.allclose(back, waves, atol=5e-6)
    assert np.allclose(fourier.rfft(waves), spectra, atol=1e-6 * scale)
    assert np.allclose(fourier.irfft(spectra, samples), waves, atol=5e-6)


def test_a_spectrum_with_imaginary_ends_is_taken_as_numpy_takes_it(rng):
    spectra = rng.standard_normal((1, 129, 2)).astype(np.float32)
    with plain.as_plain_operations():
        waves = np.asarray(fourier.irfft(spectra, 256))
    assert np.allclose(waves, np.fft.irfft(spectra[..., 0] + 1j * spectra[..., 1]), atol=1e-6)


def test_odd_halves_are_refused():
    with plain.as_plain_operations(), pytest.raises(ValueError, match="multiple of 4"):
        fourier.rfft(np.zeros((1, 6), np.float32))
