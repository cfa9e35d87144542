"""Training on waveforms: profiles that the network estimates itself, and a teacher."""

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
def batch(network, rng):
    """Waveforms, profiles of which the second is to be estimated, and these with the estimate."""
    waveforms = 0.1 * rng.standard_normal((3, 4096)).astype(np.float32)
    profiles = np.stack([FORM.measure(waveforms[0]), FORM.to_be_heard(), FORM.nothing()])
    spectra = dsp.stft(waveforms, STFT.win_size, STFT.hop_size)[1:2]
    removed = spectra - ops.convert_to_numpy(network([spectra, FORM.nothing()[None]])[0])
    power = np.sum(np.square(removed[0], dtype=np.float64), axis=-1) + 1e-6
    magnitudes = power ** (0.5 * FORM.compression)
    filled = profiles.copy()
    filled[1, 0] = np.stack([magnitudes.mean(axis=0), magnitudes.std(axis=0)], axis=-1)
    return waveforms, profiles, filled


def test_a_profile_is_estimated_from_what_the_network_removes_without_one(network, batch):
    waveforms, profiles, filled = batch
    found = OnWaveforms(network, LossConfig(), STFT, True)([waveforms, profiles])
    plain = OnWaveforms(network, LossConfig(), STFT)
    for one, other in zip(found, plain([waveforms, filled]), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)
    misled = plain([waveforms, filled[[0, 2, 1]]])
    assert np.abs(found[0] - misled[0]).max() > 1e-3


def test_no_gradient_passes_through_the_estimate(network, batch):
    waveforms, profiles, filled = batch
    start, changes = network.get_weights(), []
    for estimates_profiles, given in ((True, profiles), (False, filled)):
        network.set_weights(start)
        trained = OnWaveforms(network, LossConfig(), STFT, estimates_profiles)
        trained.compile(keras.optimizers.SGD(1e-3), run_eagerly=True)
        trained.train_on_batch([waveforms, given], 0.5 * waveforms)
        changes.append([after - before for after, before
                        in zip(network.get_weights(), start, strict=True)])
    largest = max(np.abs(change).max() for change in changes[1])
    for one, other in zip(*changes, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-3 * largest)


def test_a_teacher_gives_the_targets_and_does_not_change(network, batch, rng):
    waveforms, profiles, filled = batch
    teacher = keras.models.clone_model(network)
    teacher.set_weights([0.1 * rng.standard_normal(each.shape) for each in network.get_weights()])
    before, clean = teacher.get_weights(), np.zeros_like(waveforms)
    trained = OnWaveforms(network, LossConfig(), STFT, True, teacher)
    losses = [trained.compute_loss([waveforms, profiles], each, trained([waveforms, profiles]))
              for each in (clean, waveforms)]
    assert float(losses[0]) == float(losses[1])  # the clean sound plays no part
    distances = [np.mean(np.abs(one - other)) for one, other
                 in zip(network([dsp.stft(waveforms, 512, 128), filled]),
                        teacher([dsp.stft(waveforms, 512, 128), filled]), strict=True)]
    assert float(losses[0]) == pytest.approx(sum(distances), rel=1e-3)
    trained.compile(keras.optimizers.Adam(1e-3), run_eagerly=True)
    for _ in range(5):
        trained.train_on_batch([waveforms, profiles], clean)
    after = trained.compute_loss([waveforms, profiles], clean, trained([waveforms, profiles]))
    assert float(after) < 0.95 * float(losses[0])
    assert all(map(np.array_equal, before, teacher.get_weights()))
