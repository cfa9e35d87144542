"""Tests of mono_source: two channels with one signal."""

import numpy as np
import pytest
from audio_samples import delayed

from historical_denoiser.audio.mono_source import MonoSource, find_mono
from historical_denoiser.training.metrics import snr_db

RATE = 16000
SECONDS = 8


def programme(rng: np.random.Generator, seconds: float = SECONDS) -> np.ndarray:
    """Returns notes with overtones and pauses: `(samples,)`."""
    audio = []
    for _ in range(round(seconds * 4)):
        times = np.arange(RATE // 4) / RATE
        pitch = rng.uniform(100.0, 600.0)
        note = sum(np.sin(2.0 * np.pi * pitch * k * times + rng.uniform(0.0, 6.0)) / k
                   for k in range(1, 12))
        audio.append(note * np.exp(-8.0 * times) * rng.choice([0.0, 0.3, 1.0]))
    return 0.2 * np.concatenate(audio)


def transfer(rng: np.random.Generator, clean: np.ndarray, gain: float = 1.0, delay: float = 0.0,
             noise: tuple[float, float] = (0.02, 0.02)) -> np.ndarray:
    """Returns a stereo transfer, `(samples, 2)`, each channel with its own noise."""
    return np.stack([clean, gain * delayed(clean, delay)], axis=-1) + (
        rng.standard_normal((len(clean), 2)) * noise)


def combine(mono: MonoSource, audio: np.ndarray, block: int = 10_000) -> np.ndarray:
    blocks = [audio[start : start + block].T for start in range(0, len(audio), block)]
    return np.concatenate(list(mono.combine(blocks)), axis=-1)[0]


@pytest.mark.parametrize(("gain", "delay"), [(1.0, 0.0), (0.6, 3.25), (1.5, -7.5), (-0.8, 0.5)])
def test_gain_and_delay_are_found(rng, gain, delay):
    clean = programme(rng)
    mono, why = find_mono(transfer(rng, clean, gain, delay), RATE)
    assert mono is not None, why
    assert mono.gain == pytest.approx(gain, rel=0.02)
    assert mono.delay == pytest.approx(delay, abs=0.1)
    both = np.concatenate(list(mono.spread([clean[None]])), axis=-1)
    np.testing.assert_allclose(both[0], clean, atol=1e-6)
    assert snr_db(gain * delayed(clean, delay), both[1]) > 25.0


def test_equal_noises_fall_by_three_decibels_and_a_worse_channel_counts_less(rng):
    clean = programme(rng)
    for noise, gained in (((0.02, 0.02), 3.0), ((0.02, 0.06), 0.4)):
        audio = transfer(rng, clean, 1.0, 2.3, noise)
        mono, _ = find_mono(audio, RATE)
        better = snr_db(clean, combine(mono, audio)) - snr_db(clean, audio[:, 0])
        assert better == pytest.approx(gained, abs=0.4)
    assert min(mono.weights) > 0.7


def test_weights_go_by_band(rng):
    """One channel rumbles, the other hisses: together they do neither."""
    clean = programme(rng)
    white = rng.standard_normal((2, len(clean)))
    spectra, frequencies = np.fft.rfft(white), np.fft.rfftfreq(len(clean), 1.0 / RATE)
    split = [(frequencies < 1500.0), (frequencies >= 1500.0)]
    noise = np.stack([np.fft.irfft(one * np.where(low, 1.0, 0.05), len(clean))
                      for one, low in zip(spectra, split, strict=True)], axis=-1)
    audio = clean[:, None] + 0.05 * noise
    mono, why = find_mono(audio, RATE)
    assert mono is not None, why
    better = snr_db(clean, combine(mono, audio)) - max(
        snr_db(clean, channel) for channel in audio.T)
    assert better > 12.0


def test_a_click_in_one_channel_is_taken_from_the_other(rng):
    clean = programme(rng)
    audio = transfer(rng, clean, 0.8, 1.5, (0.003, 0.003))
    clicked = audio.copy()
    for number, place in enumerate(range(RATE // 3, len(clean), RATE // 3)):
        clicked[place : place + 8, number % 2] += 0.7 * rng.choice([-1.0, 1.0], 8)
    mono, why = find_mono(clicked, RATE)
    assert mono is not None, why
    without = snr_db(clean, combine(mono, audio))
    assert snr_db(clean, clicked[:, 0]) < 15.0
    assert snr_db(clean, combine(mono, clicked)) > without - 1.5


@pytest.mark.parametrize("block", [777, 40_000, 10**6])
def test_blocks_of_any_length_give_the_same(rng, block):
    clean = programme(rng, 14)
    audio = transfer(rng, clean, 0.9, 4.4)
    audio[::RATE, 0] += 1.0
    mono, _ = find_mono(audio, RATE)
    whole = combine(mono, audio, len(audio))
    assert len(whole) == len(audio)
    np.testing.assert_allclose(combine(mono, audio, block), whole, atol=1e-4)


def test_what_is_stereo_is_left_alone(rng):
    one, other = programme(rng), programme(rng)
    hiss = 0.01 * rng.standard_normal((len(one), 2))
    wide = np.stack([one + 0.3 * other, other + 0.3 * one], axis=-1)
    panned = np.stack([one + 0.5 * other, one - 0.2 * other], axis=-1)
    for audio in (wide, panned, np.stack([one, other], axis=-1), 3.0 * hiss):
        mono, why = find_mono(audio + hiss, RATE)
        assert mono is None and why
    # Speech in the middle, and something around it that comes and goes by itself.
    around = np.where((np.arange(len(one)) // RATE) % 3 == 0, 5.0, 0.0) * hiss[::-1, 0]
    mono, why = find_mono(one[:, None] + hiss + around[:, None] * [1.0, -1.0], RATE)
    assert mono is None and "the channels" in why


def test_too_little_is_no_ground(rng):
    mono, why = find_mono(transfer(rng, programme(rng, 1)), RATE, "true")
    assert mono is None and "too little" in why
