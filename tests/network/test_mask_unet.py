"""The mask network: its published form, and what its mask does."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import unet
from historical_denoiser.network import mask_unet
from historical_denoiser.network.settings import UnetConfig

TINY = UnetConfig(form="mask", depth=2, channels=[3, 4, 5])


@pytest.fixture
def model():
    keras.utils.set_random_seed(3)
    return unet.build_model_denoise(TINY)


@pytest.fixture
def spectra(rng):
    return rng.standard_normal((2, 7, 10, 2)).astype(np.float32)


def test_the_published_form_has_the_published_number_of_weights():
    # Of a U-Net with these channels: kernels of 3x3 and 2x2, biases, and a last 1x1 convolution.
    published = UnetConfig(form="mask", depth=4, channels=[64, 128, 256, 512, 1024])
    assert unet.build_model_denoise(published).count_params() == 31_030_593


def test_levels_are_relative_to_the_loudest_bin():
    spectrogram = np.zeros((1, 1, 3, 2), np.float32)
    spectrogram[0, 0, :2, 0] = 2.0, 0.02  # 40 dB apart
    levels = np.asarray(mask_unet.scale_levels(spectrogram))[0, 0, :, 0]
    assert levels == pytest.approx([1.0, 1.0 - 40.0 / 40.1, 1.0 - 80.0 / 40.1], abs=1e-5)
    assert np.isfinite(mask_unet.scale_levels(np.zeros_like(spectrogram))).all()


def test_magnitudes_shrink_and_phases_stay(model, spectra):
    before, after = (np.ascontiguousarray(each).view(np.complex64)
                     for each in (spectra, np.asarray(model(spectra)[0])))
    mask = after / before
    assert np.allclose(mask.imag, 0.0, atol=1e-6)
    assert mask.real.min() > 0.0 and mask.real.max() < 1.0
    assert np.ptp(mask.real) > 0.0


def test_the_level_of_a_recording_changes_nothing_else(model, spectra):
    assert np.allclose(100.0 * model(spectra)[0], model(100.0 * spectra)[0], rtol=1e-4, atol=1e-4)


def test_dropout_is_for_training_only(model, spectra):
    assert np.array_equal(model(spectra)[0], model(spectra)[0])
    assert not np.array_equal(model(spectra, training=True)[0], model(spectra, training=True)[0])


def test_any_number_of_frames_is_traced(model, spectra):
    traced = tf.function(lambda inputs: model(inputs)[0],
                         input_signature=[tf.TensorSpec((None, None, 10, 2))])
    for frames in (1, 4, 7):
        assert np.allclose(traced(spectra[:, :frames]), model(spectra[:, :frames])[0], atol=1e-6)


def test_settings_of_the_other_form_are_refused():
    with pytest.raises(ValueError, match="`unet.use_floor` must be False, as the form 'mask' has"):
        UnetConfig(form="mask", depth=2, channels=[3, 4, 5], use_floor=True)
