"""Short frames hold what a short transform of the waveform does, and lead back to it."""

import keras
import numpy as np
import pytest

from denoiser.audio import dsp
from denoiser.network import short_view, tensor_ops

WIN_SIZE, BINS, COUNT, START = 512, 257, 8, 16


@pytest.fixture
def waveforms(rng):
    return rng.standard_normal((2, 7000)).astype(np.float32)


@pytest.fixture
def spectrogram(waveforms):
    return dsp.stft(waveforms, WIN_SIZE, WIN_SIZE // 4)


def test_all_short_frames_are_a_transform_of_the_waveform(waveforms, spectrogram):
    short = np.asarray(short_view.analyse(spectrogram, WIN_SIZE))
    frames, bins = short.shape[1:3]
    short = short.reshape(2, frames, bins, short_view.STEPS, 2).transpose(0, 1, 3, 2, 4)
    short = short.reshape(2, -1, bins, 2)
    # The first one lies in the middle of the first long frame, less half of the others.
    start = (WIN_SIZE - 64 - 7 * 16) // 2
    expected = dsp.stft(waveforms[:, start:], 64, 16)
    within = expected.shape[1] - 30
    np.testing.assert_allclose(short[:, :within], expected[:, :within], atol=1e-4)


def test_synthesis_undoes_analysis_but_for_the_ends(spectrogram):
    back = short_view.synthesise(short_view.analyse(spectrogram, WIN_SIZE), WIN_SIZE)
    np.testing.assert_allclose(np.asarray(back)[:, 4:-4], spectrogram[:, 4:-4], atol=1e-3)


def test_a_click_is_short_and_its_removal_leaves_the_rest(spectrogram):
    clicked = np.zeros((1, 7000), np.float32)
    clicked[0, 3000] = 1.0
    short = np.array(short_view.analyse(dsp.stft(clicked, WIN_SIZE, WIN_SIZE // 4), WIN_SIZE))
    energy = np.sum(short**2, axis=2)[0].reshape(-1, short_view.STEPS, 2).sum(axis=-1).reshape(-1)
    assert np.count_nonzero(energy > 1e-6 * energy.max()) <= 4  # short windows that hold it


def test_spreading_and_gathering_short_bins(rng):
    short = rng.standard_normal((1, 3, 33, 16)).astype(np.float32)
    spread = short_view.spread(short, BINS, COUNT, START)
    folded = tensor_ops.fold_bins(np.zeros((1, 3, BINS, 2), np.float32), COUNT, START)
    assert spread.shape == (*folded.shape[:3], 16)
    gathered = short_view.gather(spread, BINS, COUNT, START)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(gathered), short, atol=1e-6)
