"""The network as it is trained hears some items first, as `inference.listen_first` does."""

import keras
import numpy as np
import pytest
from keras import ops

import unet
from historical_denoiser.audio import dsp
from historical_denoiser.audio.dsp import StftConfig
from historical_denoiser.audio.noise_profile import ProfileForm
from historical_denoiser.settings import UnetConfig
from historical_denoiser.training.distribution import OnWaveforms
from historical_denoiser.training.settings import LossConfig

STFT = StftConfig(512, 128)
FORM = ProfileForm(STFT, 0.3)


@pytest.fixture
def network(rng):
    model = unet.build_model_denoise(UnetConfig(depth=1, channels=[4, 4], extractor_kernel=3,
                                                fold_bins=8, compression=0.3, use_profile=True,
                                                output="mask"))
    model.set_weights([0.1 * rng.standard_normal(each.shape) for each in model.get_weights()])
    return model


@pytest.fixture
def batch(rng):
    """Waveforms, and profiles of which the second one is to be made."""
    waveforms = 0.1 * rng.standard_normal((3, 4096)).astype(np.float32)
    return waveforms, np.stack([FORM.measure(waveforms[0]), FORM.to_be_heard(), FORM.nothing()])


def fill_in(network, waveforms, profiles):
    """Returns the profiles with what the network removes without one in the second place."""
    spectra = dsp.stft(waveforms, STFT.win_size, STFT.hop_size)[1:2]
    removed = spectra - ops.convert_to_numpy(network([spectra, FORM.nothing()[None]])[0])
    power = np.sum(np.square(removed[0], dtype=np.float64), axis=-1) + 1e-6
    magnitudes = power ** (0.5 * FORM.compression)
    return np.stack([profiles[0], np.stack([magnitudes.mean(axis=0), magnitudes.std(axis=0)],
                                           axis=-1)[None].astype(np.float32), profiles[2]])


def test_a_profile_is_made_of_what_the_network_removes_at_first(network, batch):
    waveforms, profiles = batch
    trained = OnWaveforms(network, LossConfig(), STFT, hears_first=True)
    filled = fill_in(network, waveforms, profiles)
    expected = OnWaveforms(network, LossConfig(), STFT)([waveforms, filled])
    found = trained([waveforms, profiles])
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)
    misled = OnWaveforms(network, LossConfig(), STFT)([waveforms, filled[[0, 2, 1]]])
    assert np.abs(found[0] - misled[0]).max() > 1e-3


def test_nothing_is_learnt_through_the_first_hearing(network, batch):
    waveforms, profiles = batch
    start, changes = network.get_weights(), []
    for hears_first, given in ((True, profiles), (False, fill_in(network, *batch))):
        network.set_weights(start)
        trained = OnWaveforms(network, LossConfig(), STFT, hears_first)
        trained.compile(keras.optimizers.SGD(1e-3), jit_compile=False)
        trained.train_on_batch([waveforms, given], 0.5 * waveforms)
        changes.append([after - before for after, before
                        in zip(network.get_weights(), start, strict=True)])
    largest = max(np.abs(change).max() for change in changes[1])
    for one, other in zip(*changes, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-3 * largest)
