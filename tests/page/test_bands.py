"""The strength by octaves, and what it is drawn over."""

import numpy as np
from audio_samples import write_audio

from historical_denoiser.formats import containers
from historical_denoiser.page import bands
from historical_denoiser.page.sounds import write_sound


def test_strengths_of_octaves_are_those_of_a_command():
    assert bands.per_band(bands.ALL) is None and bands.strengths_of(None) == bands.ALL
    strengths = [0.0, 0.0, 1.0, 0.5, 0.5, 1.0, 1.0, 1.0, 0.2]
    pairs = bands.per_band(strengths)
    assert pairs == [[0, 0.0], [177, 1.0], [354, 0.5], [1414, 1.0], [11314, 0.2]]
    assert bands.strengths_of(pairs) == strengths


def test_a_band_is_drawn_where_it_is_filtered(tmp_path):
    write_audio(tmp_path / "a.wav", 1.0, 22050)
    recording = containers.open_audio(tmp_path / "a.wav", None)
    full = write_sound(tmp_path / "full", containers.read_blocks(recording), recording)
    less = bands.filter_sound(tmp_path / "less", full, [[0, 1.0], [177, 0.0], [354, 1.0]],
                              lambda seconds: None)
    before, after = map(bands.measure_spectrum, (full, less))
    change = np.subtract(before, after)
    assert np.argmax(change) // 3 == 2 and np.argmax(before) // 3 == 2
    assert change.max() > 20.0 and np.abs(change[12:]).max() < 0.2
    picture = bands.draw(recording=[-10.0, None, -30.0], noise=[-100.0])
    # The loudest is 6 dB below the top; what is more than 70 dB below it has no height.
    assert 'd="M0,70v-64.0h.9V70zM2,70v-44.0h.9V70z"' in picture and "M0,70v-0.0h" in picture
