"""Tests of spectrogram: the levels that a picture shows, and where it shows them."""

import matplotlib.image
import numpy as np
import pytest
import soundfile as sf

from historical_denoiser.audio.dsp import SAMPLE_RATE
from historical_denoiser.formats import audio_io, spectrogram


def tone(hz: float, seconds: float, rate: int = SAMPLE_RATE) -> np.ndarray:
    return np.sin(2.0 * np.pi * hz * np.arange(round(seconds * rate)) / rate).astype(np.float32)


def find_row(figure, hz: float) -> int:
    """Returns the row of the first panel's levels in which a frequency is drawn."""
    edges_hz = figure.axes[0].collections[0].get_coordinates()[:, 0, 1]
    return int(np.searchsorted(edges_hz, hz)) - 1


@pytest.mark.parametrize(("hz", "seconds"), [(43.066, 0.5), (1001.3, 25.0), (15006.0, 1.0)])
def test_a_tone_at_full_scale_has_0_db_at_its_frequency(hz, seconds):
    levels = spectrogram.of_array(tone(hz, seconds), SAMPLE_RATE)
    figure = spectrogram.draw([("tone", levels)], seconds, SAMPLE_RATE)
    row, middle = find_row(figure, hz), levels.shape[1] // 2
    assert levels.shape[1] <= spectrogram.MAX_COLUMNS and np.isfinite(levels).all()
    assert abs(int(levels[:, middle].argmax()) - row) <= 1
    assert levels[:, middle].max() == pytest.approx(0.0, abs=1.5)  # less between two bins
    assert levels[abs(np.arange(len(levels)) - row) > 60, middle].max() < -60.0


@pytest.mark.parametrize("seconds", [2.0, 40.0])  # a frame in each column, and several
def test_a_click_is_drawn_when_it_sounds(seconds):
    audio = np.zeros(round(seconds * SAMPLE_RATE), np.float32)
    audio[len(audio) * 3 // 4] = 1.0
    levels = spectrogram.of_array(audio, SAMPLE_RATE)
    assert levels[200].argmax() / levels.shape[1] == pytest.approx(0.75, abs=0.002)


def test_levels_do_not_depend_on_blocks(rng):
    audio = (0.1 * rng.standard_normal((2, 40 * SAMPLE_RATE))).astype(np.float32)
    whole = spectrogram.of_blocks([audio], 2, audio.shape[1], SAMPLE_RATE)
    parts = spectrogram.of_blocks(np.split(audio, [10, 5000, 400000], axis=1), 2, audio.shape[1],
                                  SAMPLE_RATE)
    np.testing.assert_allclose(parts, whole, atol=0.01)
    assert whole.shape[1] > spectrogram.MAX_COLUMNS // 2
    np.testing.assert_allclose(whole[:50].mean(), whole[50:100].mean(), atol=1.0)  # white


def test_channels_are_averaged_as_powers():
    """Those in opposite phase do not cancel."""
    audio = tone(1000.0, 1.0)
    levels = spectrogram.of_blocks([np.stack([audio, -0.5 * audio])], 2, len(audio), SAMPLE_RATE)
    alone = spectrogram.of_array(audio, SAMPLE_RATE)
    np.testing.assert_allclose(levels.max(axis=0) - alone.max(axis=0), 10.0 * np.log10(0.625),
                               atol=1e-3)


@pytest.mark.parametrize(("rate", "samples"), [(8000, 0), (44100, 1), (192000, 300000)])
def test_a_picture_of_any_recording_can_be_drawn(tmp_path, rng, rate, samples):
    path, picture = tmp_path / "a.wav", tmp_path / "a.png"
    sf.write(path, 0.1 * rng.standard_normal((samples, 2)), rate, "PCM_16")
    recording = audio_io.open_recording(path)
    spectrogram.save_spectrograms(picture, [("Input", recording), ("Output", recording)], samples)
    pixels = matplotlib.image.imread(picture)
    assert pixels.shape[0] > 800 and pixels.shape[1] > 1000


def test_axes_say_what_they_show(rng):
    levels = spectrogram.of_array(rng.standard_normal(90 * 8000).astype(np.float32), 8000)
    upper, lower, _ = spectrogram.draw([("Input", levels), ("Output", levels)], 90.0, 8000).axes
    assert (upper.get_title(), lower.get_title()) == ("Input", "Output")
    assert upper.get_yscale() == "symlog" and upper.get_ylim() == pytest.approx((0.0, 4000.0), 0.01)
    assert [label.get_text() for label in lower.get_xticklabels()][:3] == ["0:00", "0:10", "0:20"]
    assert "2000" in [label.get_text() for label in upper.get_yticklabels()]


def test_small_pictures_beside_each_other_have_their_ticks_where_a_tone_is():
    levels = {name: spectrogram.of_array(tone(hz, 1.0), SAMPLE_RATE)
              for name, hz in (("low", 100.0), ("middle", 1000.0), ("high", 10000.0))}
    figure = spectrogram.draw_beside(levels, 1.0, SAMPLE_RATE, (2.0, 1.5), panels_in_row=2)
    panels = [axis for axis in figure.axes if axis.get_title()]
    assert [axis.get_title() for axis in panels] == ["low", "middle", "high"]
    for place, (axis, level) in enumerate(zip(panels, levels.values(), strict=True)):
        assert axis.get_yticks()[place] == pytest.approx(level.mean(axis=1).argmax(), abs=2.0)
    assert [label.get_text() for label in panels[0].get_yticklabels()] == ["0.1", "1", "10"]


def test_a_sound_far_beyond_full_scale_has_finite_levels(rng):
    assert np.isfinite(spectrogram.of_array(1e30 * rng.standard_normal(20_000), 44100)).all()
