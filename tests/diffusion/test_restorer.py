"""Recordings restored with a Gaussian prior, whose denoiser is known, at half their sample rate."""

from dataclasses import replace

import numpy as np
import pytest
import soundfile
from keras import ops

from historical_denoiser.audio import dsp
from historical_denoiser.audio.dsp import SAMPLE_RATE
from historical_denoiser.classical.repair import Found
from historical_denoiser.core.checks import UserError
from historical_denoiser.diffusion.restorer import make_restorer
from historical_denoiser.diffusion.settings import DiffusionConfig
from historical_denoiser.restoration.settings import StageSettings

CONFIG = DiffusionConfig(sample_rate=22050, sigma_data=0.1, sigma_min=1e-4, steps=30)
LEAD = SAMPLE_RATE // 2
NOTES_HZ = (220.0, 440.0, 661.0, 1103.0)


def notes(noisy, sigma):
    """The best denoiser of Gaussian sound that consists of `NOTES_HZ` and hardly anything else."""
    samples = noisy.shape[1]
    places = np.fft.rfftfreq(samples, 1.0 / CONFIG.sample_rate)
    power = np.full(len(places), 1e-9)
    for note_hz in NOTES_HZ:
        power += 0.0025 * samples / 4.0 * np.exp(-0.5 * ((places - note_hz) / 2.0) ** 2)
    share = ops.convert_to_tensor((power / (power + float(sigma[0]) ** 2)).astype(np.float32))
    real, imag = ops.rfft(noisy)
    return ops.irfft((real * share, imag * share), fft_length=samples)


@pytest.fixture
def clean():
    """It is longer than a block."""
    times = np.arange(SAMPLE_RATE * 5 // 4) / SAMPLE_RATE
    return sum(0.1 * np.sin(2.0 * np.pi * note_hz * times + note_hz) for note_hz in NOTES_HZ
               ).astype(np.float32)


@pytest.fixture
def noise(clean, rng):
    """White noise before the music as well, so that it can be measured."""
    return (0.05 * rng.standard_normal(len(clean) + LEAD)).astype(np.float32)


def restorer_for(mode, seed=0, **settings):
    return make_restorer(notes, replace(CONFIG, mode=mode, **settings), StageSettings(), seed)


def gain_db(clean, before, after):
    return dsp.decibels(dsp.power(before - clean) / dsp.power(after - clean))


@pytest.fixture
def noise_folder(tmp_path, rng):
    soundfile.write(tmp_path / "disc.wav", 0.2 * rng.standard_normal(SAMPLE_RATE), SAMPLE_RATE)
    soundfile.write(tmp_path / "silent.wav", np.zeros(1000), SAMPLE_RATE)
    return str(tmp_path)


@pytest.mark.parametrize(("mode", "settings"), [
    ("estimated_gain", {}), ("estimated_snr", {}), ("fixed_gain", {"gain": 0.25})])
def test_carrier_noise_is_removed(clean, noise, noise_folder, mode, settings):
    noisy = np.pad(clean, (LEAD, 0)) + noise
    found = restorer_for(mode, noise=noise_folder, **settings).restore(noisy, SAMPLE_RATE)
    assert found.waveform.shape == noisy.shape and found.waveform.dtype == np.float32
    assert gain_db(clean, noisy[LEAD:], found.waveform[LEAD:]) > 8.0
    if mode.startswith("estimated"):  # in half the band there is half the noise
        level = CONFIG.sigma_data**2 / found.known.power
        assert found.known.profiles[0] == pytest.approx(0.5 * 0.05**2 * level, rel=0.2)


def test_a_result_depends_on_seed_and_recording_alone(clean, noise, noise_folder):
    recording = clean + noise[: len(clean)]
    one, other = (restorer_for("fixed_snr", seed, noise=noise_folder, steps=3) for seed in range(2))
    found = one.restore(recording, SAMPLE_RATE)
    in_blocks = one.stream(np.split(recording, [9000, 31000]), SAMPLE_RATE, known=found.known)
    assert np.array_equal(np.concatenate(list(in_blocks)), found.waveform)
    assert np.any(other(recording, SAMPLE_RATE) != found.waveform)


def test_gaps_are_filled_and_all_else_is_kept(clean):
    damaged, found = clean.astype(np.float64), Found()
    damaged[20000:24000] = 0.0  # longer than the classical method fills
    (_, filled), = restorer_for("inpaint").repair([damaged], SAMPLE_RATE, found)
    is_gap = np.zeros(len(clean), bool)
    is_gap[20000:24000] = True
    assert found.number == {"gaps": 1}
    assert np.array_equal(filled[~is_gap], damaged[~is_gap])
    assert gain_db(clean[is_gap], damaged[is_gap], filled[is_gap]) > 10.0


def test_clipped_peaks_are_restored_and_all_else_is_kept(clean):
    level = 0.6 * np.abs(clean).max()
    damaged = np.clip(clean, -level, level).astype(np.float64)
    restored = restorer_for("declip")(damaged, SAMPLE_RATE)
    is_known = np.abs(damaged) < 0.98 * level  # others may have been clipped, too
    assert np.array_equal(restored[is_known], damaged[is_known])
    assert gain_db(clean, damaged, restored) > 6.0


def test_treble_is_added_and_the_rest_is_kept(clean):
    low = dsp.resample(dsp.resample(clean, SAMPLE_RATE, 1700), 1700, SAMPLE_RATE)[: len(clean)]
    restored = restorer_for("extend", cutoff_hz=800.0)(low, SAMPLE_RATE)
    spectrum, before = np.abs(np.fft.rfft(restored)), np.abs(np.fft.rfft(low))
    per_hz = len(clean) / SAMPLE_RATE
    kept, added = (round(note_hz * per_hz) for note_hz in (440.0, 1103.0))
    assert spectrum[kept] == pytest.approx(before[kept], rel=0.05)
    assert spectrum[added - 8 : added + 9].max() > 100.0 * before[added]


def test_silent_noise_is_refused(tmp_path):
    soundfile.write(tmp_path / "silent.wav", np.zeros(1000), SAMPLE_RATE)
    with pytest.raises(UserError, match="`diffusion.noise` must be a folder of noise that is not"):
        restorer_for("fixed_gain", noise=str(tmp_path))
