"""Views are transforms of the waveform with other windows, and can be inverted."""

import numpy as np
import pytest

from historical_denoiser.audio import dsp
from historical_denoiser.network import tensor_ops, views
from historical_denoiser.network.views import LongView, ShortView

WIN_SIZE, BINS, COUNT, START = 512, 257, 8, 16
SHORT = ShortView(COUNT, START)


def of(view, spectrogram):
    return view.from_waves(views.to_waves(spectrogram))


def there_and_back(view, spectrogram):
    return views.from_blocks(view.to_blocks(of(view, spectrogram), WIN_SIZE))


@pytest.fixture
def waveforms(rng):
    return rng.standard_normal((2, 7000)).astype(np.float32)


@pytest.fixture
def spectrogram(waveforms):
    return dsp.stft(waveforms, WIN_SIZE, WIN_SIZE // 4)


def test_all_short_frames_are_a_transform_of_the_waveform(waveforms, spectrogram):
    short = np.asarray(of(SHORT, spectrogram))
    frames, bins = short.shape[1:3]
    short = short.reshape(2, frames, bins, views.STEPS, 2).transpose(0, 1, 3, 2, 4)
    short = short.reshape(2, -1, bins, 2)
    # The short frames of a frame lie around its middle.
    start = (WIN_SIZE - 64 - 7 * 16) // 2
    expected = dsp.stft(waveforms[:, start:], 64, 16)
    within = expected.shape[1] - 30
    np.testing.assert_allclose(short[:, :within], expected[:, :within], atol=1e-4)


def test_synthesis_undoes_analysis_but_for_the_ends(spectrogram):
    back = there_and_back(SHORT, spectrogram)
    np.testing.assert_allclose(np.asarray(back)[:, 4:-4], spectrogram[:, 4:-4], atol=1e-3)


def test_a_click_is_in_few_short_frames():
    clicked = np.zeros((1, 7000), np.float32)
    clicked[0, 3000] = 1.0
    short = np.array(of(SHORT, dsp.stft(clicked, WIN_SIZE, WIN_SIZE // 4)))
    energy = np.sum(short**2, axis=2)[0].reshape(-1, views.STEPS, 2).sum(axis=-1).reshape(-1)
    assert np.count_nonzero(energy > 1e-6 * energy.max()) <= 4  # short windows that hold it


@pytest.mark.parametrize("view", [SHORT, LongView(COUNT, START)], ids=["short", "long"])
def test_a_view_lies_beside_folded_bins(view, spectrogram):
    content = of(view, spectrogram)
    folded = view.fold(content, BINS)
    beside = tensor_ops.fold_bins(spectrogram, COUNT, START)
    assert folded.shape == (*beside.shape[:3], view.parts)
    np.testing.assert_allclose(view.unfold(folded, BINS), content, atol=1e-5)
    assert there_and_back(view, spectrogram).shape == spectrogram.shape


def test_long_frames_are_a_transform_of_the_waveform(waveforms, spectrogram):
    long = np.asarray(of(LongView(COUNT, 20), spectrogram)).reshape(2, -1, 80, 2)
    padded = np.pad(waveforms, ((0, 0), (WIN_SIZE * 3 // 2, 0)))
    expected = dsp.stft(padded, 4 * WIN_SIZE, WIN_SIZE // 4)[:, :, :80]
    within = slice(8, -12)  # the waveform before and after is unknown
    np.testing.assert_allclose(long[:, within], expected[:, :long.shape[1]][:, within], atol=2e-3)


def test_long_frames_lead_back_to_low_bins(waveforms):
    low = dsp.stft(waveforms.cumsum(axis=1) * 0.02, WIN_SIZE, WIN_SIZE // 4)
    low[:, :, 20:] = 0.0
    low = dsp.stft(dsp.istft(low, WIN_SIZE, WIN_SIZE // 4, 7000), WIN_SIZE, WIN_SIZE // 4)
    view = LongView(COUNT, 40)
    back = np.asarray(there_and_back(view, low))
    within = slice(8, -12)
    error = (back - low)[:, within]
    assert np.mean(error**2) < 1e-4 * np.mean(low[:, within] ** 2)
