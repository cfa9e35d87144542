"""Noise floors and steady tones in artificial spectrograms."""

import numpy as np
import pytest
from keras import ops

from historical_denoiser.audio import dsp
from historical_denoiser.network import floors, tensor_ops

FRAMES = 431  # five seconds
HOP_SECONDS = 512 / 44100


def to_parts(spectrum):
    """`(frames, bins)` complex to `(1, frames, bins, 2)`."""
    return np.stack([spectrum.real, spectrum.imag], axis=-1)[None].astype("float32")


def power(spectrum):
    return float(np.mean(np.square(spectrum)))


def tone(hz, frames=FRAMES):
    """Spectrogram of a sine, in the six bins that hold nearly all of it."""
    seconds = (frames + 3) * HOP_SECONDS
    audio = np.sin(2.0 * np.pi * hz * np.arange(round(44100 * seconds)) / 44100.0)
    spectrum = dsp.stft(audio[None].astype("float32"), 2048, 512)[:, :frames]
    lowest = round(hz * 2048 / 44100) - 3
    return spectrum[:, :, lowest:lowest + 6]


def find_tones(spectrogram):
    return ops.convert_to_numpy(floors.steady_tones(spectrogram, spectrogram.shape[2]))


def test_floor_follows_steady_tones_and_not_passing_ones():
    frames = np.arange(500)
    steady = np.exp(4.2j * frames)  # turns from frame to frame as a 50 Hz tone does
    passing = np.exp(4.2j * frames) * ((frames > 200) & (frames < 260))
    spectrogram = to_parts(np.stack([steady, passing], axis=-1))
    levels = ops.convert_to_numpy(floors.magnitude_and_floor(spectrogram, 0.3))
    np.testing.assert_allclose(levels[0, :, 0], 1.0, atol=1e-3)
    np.testing.assert_allclose(levels[0, 205:255, 1, 0], 1.0, atol=1e-3)
    empty = tensor_ops.POWER_FLOOR**0.15
    np.testing.assert_allclose(levels[0, :, 1, 1], empty, rtol=1e-3)
    np.testing.assert_allclose(levels[0, :, 0, 1], 1.0, atol=1e-3)


@pytest.mark.parametrize("hz", [100.0, 431.7, 1000.0])
def test_steady_tone_is_found_whole(hz):
    spectrogram = tone(hz)
    left = spectrogram - find_tones(spectrogram)
    inner = slice(16, FRAMES - 16)
    assert power(left[:, inner]) < 1e-3 * power(spectrogram[:, inner])
    # At the ends few windows reach: the tone fades, and nothing is added to it.
    assert np.abs(left).max() < 1.1 * np.abs(spectrogram).max()


def test_notes_of_a_second_are_no_steady_tone():
    is_on = ((np.arange(FRAMES) // 80) % 2)[None, :, None, None]
    notes = tone(110.0) * is_on
    assert power(find_tones(notes.astype("float32"))) < 1e-2 * power(notes)
    # A note in the same bins as a hum stays, too.
    hum, note = tone(100.0), 2.0 * tone(112.0) * is_on
    left = hum + note - find_tones((hum + note).astype("float32"))
    inner = slice(16, FRAMES - 16)
    assert power((left - note)[:, inner]) < 0.1 * power(hum[:, inner])


def test_hiss_is_mostly_left(rng):
    hiss = rng.standard_normal((1, FRAMES, 8, 2)).astype("float32")
    assert power(find_tones(hiss)) < 0.5 * power(hiss)


@pytest.mark.parametrize("frames", [1, 5, 31, 32, 33, 100])
def test_tones_of_any_length_are_finite_and_no_louder(frames, rng):
    spectrogram = rng.standard_normal((2, frames, 9, 2)).astype("float32")
    tones = ops.convert_to_numpy(floors.steady_tones(spectrogram, 4))
    assert tones.shape == (2, frames, 9, 2) and not tones[:, :, 4:].any()
    assert np.all(np.isfinite(tones))
    assert power(tones) <= power(spectrogram[:, :, :4])
    silence = np.zeros_like(spectrogram)
    np.testing.assert_array_equal(ops.convert_to_numpy(floors.steady_tones(silence, 4)), 0.0)
