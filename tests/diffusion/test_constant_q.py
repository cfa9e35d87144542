"""The constant-Q transform is inverted at any length, keeps energies, and finds notes."""

import librosa
import numpy as np
import pytest
import tensorflow as tf

from historical_denoiser.diffusion.constant_q import ConstantQ

RATE = 22050


@pytest.fixture
def waves(rng):
    return lambda samples: rng.standard_normal((2, samples)).astype(np.float32)


@pytest.mark.parametrize("samples", [7, 1000, 44101, 65536])
@pytest.mark.parametrize(("octaves", "bins"), [(7, 64), (5, 12), (1, 1)])
def test_signals_come_back_at_any_length(waves, samples, octaves, bins):
    # With 64 bins in each of 7 octaves, as published; and others.
    transform, audio = ConstantQ(samples, octaves, bins), waves(samples)
    coefficients = transform.forward(audio)
    assert np.max(np.abs(transform.inverse(coefficients) - audio)) < 1e-5
    energy = sum(float(tf.reduce_sum(tf.square(each))) for each in coefficients)
    assert energy == pytest.approx(float(np.sum(audio**2)), rel=1e-4)


def test_coefficients_are_those_of_windowed_spectra(waves):
    audio = waves(4000)
    transform = ConstantQ(4000, 4, 8)
    spectrum = np.fft.rfft(audio, transform.length)
    places = np.log2(np.maximum(np.arange(spectrum.shape[1]), 1e-9) / (transform.length // 2))
    for octave, found in enumerate(transform.forward(audio)[1:-1]):
        frames = found.shape[2]
        assert frames == transform.frames[0] * 2**octave
        for band in range(8):
            away = np.minimum(8.0 * np.abs(places + 4.0 - octave - band / 8.0), 1.0)
            weighted = spectrum * np.sin(0.5 * np.pi * np.cos(0.5 * np.pi * away) ** 2)
            center = round(0.5 * 2.0 ** (octave - 4.0 + band / 8.0) * transform.length)
            moved = np.roll(np.pad(weighted, ((0, 0), (frames, frames))), -center - frames, axis=1)
            inner = np.concatenate([moved[:, : frames // 2], moved[:, -(frames // 2):]], axis=1)
            expected = np.fft.ifft(inner) * np.sqrt(2.0 * frames / transform.length)
            assert np.allclose(found[:, band, :, 0], expected.real, atol=1e-4)
            assert np.allclose(found[:, band, :, 1], expected.imag, atol=1e-4)


def test_a_note_is_where_librosa_finds_it():
    times = np.arange(2 * RATE) / RATE
    transform, lowest_hz = ConstantQ(len(times), 5, 12), 0.5 * RATE / 2.0**5
    for semitones in (3, 26, 41):
        audio = np.sin(2.0 * np.pi * lowest_hz * 2.0 ** (semitones / 12.0) * times)[None]
        levels = [np.sum(np.square(each), axis=(0, 2, 3))
                  for each in transform.forward(audio.astype(np.float32))[1:-1]]
        expected = np.abs(librosa.cqt(audio[0], sr=RATE, fmin=lowest_hz, n_bins=48))
        assert np.argmax(np.concatenate(levels)) == semitones
        assert np.argmax(expected.mean(axis=1)) == semitones


def test_gradients_pass_both_ways(waves):
    """The transform keeps energies, so its transpose is its inverse."""
    transform, audio = ConstantQ(3000, 3, 12), tf.constant(waves(3000))
    other = transform.forward(waves(3000))
    with tf.GradientTape() as tape:
        tape.watch(audio)
        product = sum(tf.reduce_sum(one * two) for one, two
                      in zip(transform.forward(audio), other, strict=True))
    assert np.allclose(tape.gradient(product, audio), transform.inverse(other), atol=1e-4)


def test_impossible_forms_are_named():
    with pytest.raises(ValueError, match="`octaves` must be at least 1. Received: octaves=0"):
        ConstantQ(1000, 0, 64)
