"""Notes that are held come back, and what stands still throughout, or is no tone, does not."""

import numpy as np
import pytest
from restorers import make_restorer

from historical_denoiser.audio.dsp import SAMPLE_RATE, resample
from historical_denoiser.audio.survey import survey
from historical_denoiser.classical.held_notes import FIRST, LAST, measure_floor, restore_notes
from historical_denoiser.network.stored import NetworkSettings
from historical_denoiser.training.metrics import snr_db

SECONDS = 12.0
BEGINS, ENDS = 3.0, 9.0  # of the note


def times():
    return np.arange(round(SECONDS * SAMPLE_RATE)) / SAMPLE_RATE


def make_note(hz=73.4, is_drone=False):
    """A note of six seconds with harmonics, that fades in and out within 50 ms; or a drone."""
    envelope = np.clip(np.minimum(times() - BEGINS, ENDS - times()) / 0.05, 0.0, 1.0) ** (
        not is_drone)
    tone = sum(np.sin(2.0 * np.pi * hz * order * times() + order) / order for order in range(1, 7))
    return (0.1 * envelope * tone).astype(np.float32)


def make_hiss(rng):
    return (0.003 * rng.standard_normal(len(times()))).astype(np.float32)


def erase(spectra):
    """Stands for a network that takes all for noise."""
    return np.zeros_like(spectra)


def test_a_note_that_begins_and_ends_comes_back(rng):
    note, hiss = make_note(), make_hiss(rng)
    noisy = note + hiss
    made = restore_notes(noisy, np.zeros_like(noisy), measure_floor([noisy]))
    assert made.dtype == np.float32 and made.shape == noisy.shape
    assert snr_db(note, made) > 20.0
    # The hiss stays away where no note was.
    spectrum = np.abs(np.fft.rfft(made)) ** 2
    hz = np.fft.rfftfreq(len(made), 1.0 / SAMPLE_RATE)
    assert spectrum[hz > 1000.0].sum() < 1e-3 * np.sum(np.abs(np.fft.rfft(hiss)) ** 2)


@pytest.mark.parametrize("noise", ["hum", "hum after silence", "hiss", "clicks", "band", "thumps"])
def test_what_is_no_note_stays_away(rng, noise):
    audio = make_hiss(rng)
    if noise.startswith("hum"):
        audio += 0.1 * np.sin(2.0 * np.pi * 100.7 * times()).astype(np.float32)
    elif noise == "clicks":
        audio[rng.integers(len(audio), size=200)] += 0.5
    elif noise == "thumps":  # as of a disc: several cycles, for a third of a second
        for start in (2.0, 5.5, 9.0):
            pulse = np.exp(-(((times() - start) / 0.12) ** 2))
            audio += (0.3 * pulse * np.sin(2.0 * np.pi * 70.0 * times())).astype(np.float32)
    elif noise == "band":  # a third of an octave that swells
        spectrum = np.fft.rfft(rng.standard_normal(len(audio)))
        hz = np.fft.rfftfreq(len(audio), 1.0 / SAMPLE_RATE)
        spectrum[(hz < 180.0) | (hz > 226.0)] = 0.0
        swell = np.sin(np.pi * times() / SECONDS) ** 4
        audio += (swell * np.fft.irfft(spectrum, len(audio))).astype(np.float32)
    if noise == "hum after silence":  # as where a file begins before the transfer does
        audio[: 4 * SAMPLE_RATE] = 0.0
    nothing = np.zeros_like(audio)
    made = restore_notes(audio, nothing, measure_floor([audio]))
    assert np.sum(made**2) <= 1e-3 * np.sum(audio**2)


def test_what_the_network_left_is_not_doubled(rng):
    noisy = make_note() + make_hiss(rng)
    np.testing.assert_array_equal(restore_notes(noisy, noisy, measure_floor([noisy])), noisy)


def test_the_floor_is_the_least_of_all_stretches(rng):
    note, hiss = make_note(), make_hiss(rng)
    sounding = (note + hiss)[round(4.0 * SAMPLE_RATE) : round(8.0 * SAMPLE_RATE)]
    alone, both = measure_floor([sounding]), measure_floor([sounding, hiss])
    assert alone.shape == both.shape == (LAST - FIRST,)
    line = round(73.4 * 8192 / SAMPLE_RATE) - FIRST
    assert 1e3 * both[line] < alone[line]
    nothing = np.zeros_like(sounding)
    assert not restore_notes(sounding, nothing, alone).any()  # it might be hum
    assert snr_db(sounding, restore_notes(sounding, nothing, both)) > 15.0
    assert measure_floor([hiss[:SAMPLE_RATE]]) is None


@pytest.mark.parametrize("rate", [44100, 48000])
@pytest.mark.parametrize("is_drone", [True, False])
def test_a_recording_with_a_drone_keeps_its_long_notes(rng, rate, is_drone):
    """Without one, notes are the network's."""
    settings = NetworkSettings(reference_dbfs=-20.0)
    note, hiss = make_note() + 0.5 * make_note(87.3, True) * is_drone, make_hiss(rng)
    stereo = 0.05 * np.stack([note + hiss, 0.3 * note[::-1] + hiss], axis=1).astype(np.float32)
    wanted = 0.05 * np.stack([note, 0.3 * note[::-1]], axis=1)
    if rate != SAMPLE_RATE:
        stereo, wanted = resample(stereo, SAMPLE_RATE, rate), resample(wanted, SAMPLE_RATE, rate)
    restored = make_restorer(erase, settings, 4.0, keep_held=True)(stereo, rate)
    for channel in range(2) if is_drone else ():
        assert snr_db(wanted[:, channel], restored[:, channel]) > 18.0
    assert is_drone or not restored.any()
    assert not make_restorer(erase, settings, 4.0)(stereo, rate).any()


def test_a_block_that_is_too_short_passes(rng):
    short = make_hiss(rng)[: SAMPLE_RATE // 2]
    restorer = make_restorer(erase, NetworkSettings(), keep_held=True)
    assert restorer.analyse(survey([short], SAMPLE_RATE), lambda: [short], SAMPLE_RATE).floors == (
        None,)
    assert restorer(short, SAMPLE_RATE).shape == short.shape
