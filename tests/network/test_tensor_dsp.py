"""Transforms of tensors agree with those of arrays."""

import keras
import numpy as np
import pytest

from historical_denoiser.audio import dsp
from historical_denoiser.audio.dsp import StftConfig
from historical_denoiser.audio.noise_profile import ProfileForm
from historical_denoiser.network import tensor_dsp

TRANSFORMS = [StftConfig(512, 128), StftConfig(2048, 512), StftConfig(400, 150)]


@pytest.fixture
def waveforms(rng):
    return 0.1 * rng.standard_normal((2, 9001)).astype(np.float32)


@pytest.mark.parametrize("stft", TRANSFORMS, ids=lambda stft: f"{stft.win_size}-{stft.hop_size}")
def test_stft_and_istft_do_what_dsp_does(waveforms, stft):
    expected = dsp.stft(waveforms, stft.win_size, stft.hop_size)
    spectra = tensor_dsp.stft(waveforms, stft)
    np.testing.assert_allclose(spectra, expected, atol=2e-6 * np.abs(expected).max())
    altered = expected * np.linspace(0.5, 2.0, expected.shape[2], dtype=np.float32)[:, None]
    back = keras.ops.convert_to_numpy(tensor_dsp.istft(altered, stft))
    again = dsp.istft(altered, stft.win_size, stft.hop_size, 9001)
    np.testing.assert_allclose(back[:, :9001], again, atol=1e-5)


@pytest.mark.parametrize(("samples", "dtype"), [
    (1, "float32"), (127, "float32"), (128, "float32"), (129, "float32"), (9001, "float16")])
def test_short_waveforms_and_other_precisions(waveforms, samples, dtype):
    waveforms = keras.ops.cast(waveforms[:, :samples], dtype)
    spectra = tensor_dsp.stft(waveforms, StftConfig(512, 128))
    assert keras.backend.standardize_dtype(spectra.dtype) == "float32"
    np.testing.assert_allclose(spectra, dsp.stft(np.asarray(waveforms), 512, 128), atol=1e-5)


def test_a_short_result_is_filled_with_zeros(waveforms):
    stft = StftConfig(512, 128)
    spectra = dsp.stft(waveforms[:, :600], 512, 128)
    plain, filled = (np.asarray(tensor_dsp.istft(spectra, stft, least)) for least in (0, 4096))
    assert filled.shape == (2, 4096) and plain.shape[1] < 4096
    np.testing.assert_array_equal(filled[:, : plain.shape[1]], plain)
    assert not filled[:, plain.shape[1] :].any()


def test_profiles_are_those_of_arrays(waveforms):
    form = ProfileForm(StftConfig(512, 128), 0.3)
    whole = waveforms[:, :8960]  # the last frame of 512 + 66 * 128 samples ends here
    spectra = dsp.stft(whole, 512, 128)[:, :67]
    found = tensor_dsp.measure_profile(keras.ops.convert_to_tensor(spectra), 0.3)
    np.testing.assert_allclose(found, [form.measure(each) for each in whole], atol=1e-5)
