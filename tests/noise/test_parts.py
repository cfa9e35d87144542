"""What noise is put together from."""

import numpy as np
import pytest
from carrier_samples import rng
from scipy import fft

from historical_denoiser.audio.dsp import SAMPLE_RATE, minimum_phase
from historical_denoiser.noise import parts


@pytest.mark.parametrize("part", ["wave", "rumble", "swing", "hiss", "thumps"])
def test_parts_have_no_seams(part: str) -> None:
    """Smooth parts stay as smooth where two chunks meet as elsewhere."""
    source = {
        "wave": lambda: parts.wave(rng(), 50.0, np.zeros(3), 0.01),
        "rumble": lambda: parts.rumble(rng(), 0.77, 0.5, (8.0, 95.0), (0.01, 0.08)),
        "swing": lambda: parts.swing(rng(), 1.0, rng().normal(size=16), 0.77),
        "hiss": lambda: parts.hiss(rng(), parts.low_pass_db(parts.grid_hz(), 100.0, 4.0)),
        "thumps": lambda: parts.events(rng(), 30.0, 0.0, 1.0, np.tile(np.hanning(9000), (2, 1))),
    }[part]()
    audio = parts.render(source, 6 * parts.CHUNK).astype(np.float64)
    bend = np.abs(np.diff(audio, 1 if part == "swing" else 2))  # a swing of level has knots
    seams = parts.CHUNK * np.arange(1, 6)
    at_seams = max(bend[seam - 2:seam + 1].max() for seam in seams)
    assert at_seams <= 1.5 * np.quantile(bend, 0.999)


def test_clicks_are_short_bipolar_and_leave_no_offset() -> None:
    bank = parts.impulse_bank(rng(9), [0.1, 0.2])
    assert np.allclose(np.abs(bank).max(axis=1), 1.0)
    energy = np.cumsum(np.square(bank), axis=1)
    length_ms = 1e3 * np.argmax(energy > 0.99 * energy[:, -1:], axis=1) / SAMPLE_RATE
    assert 0.1 < np.median(length_ms) and length_ms.max() < 2.0
    assert np.all(bank.min(axis=1) < 0.0) and np.all(bank.max(axis=1) > 0.0)
    assert np.median(np.abs(bank.sum(axis=1)) / np.abs(bank).sum(axis=1)) < 0.3


def test_thumps_are_decaying_oscillations_or_pulses_of_several_cycles(monkeypatch) -> None:
    monkeypatch.setattr(parts, "CLICK_CHANCE", 0.0)
    kinds, longest = set(), 0.0
    for seed in range(30):
        bank = parts.thump_bank(rng(seed)).astype(np.float64)
        assert bank.shape[0] == parts.THUMPS and np.abs(bank).max() == pytest.approx(1.0)
        energy = np.abs(fft.rfft(bank, axis=1)) ** 2
        hz = fft.rfftfreq(bank.shape[1], 1.0 / SAMPLE_RATE)
        low = energy[:, hz < 150.0].sum(axis=1) / energy.sum(axis=1)
        inside = np.cumsum(bank**2, axis=1) / np.sum(bank**2, axis=1, keepdims=True)
        first, last = (np.argmax(inside > share, axis=1) for share in (0.05, 0.95))
        seconds = (last - first) / SAMPLE_RATE
        is_oscillation = np.median(np.argmax(np.abs(bank) > 0.5, axis=1)) < 0.006 * SAMPLE_RATE
        kinds.add(bool(is_oscillation))
        assert np.all(low > 0.6)
        assert np.all(seconds < (0.2 if is_oscillation else parts.THUMP_SECONDS))
        assert np.all(np.abs(bank[:, -1]) < 1e-3)
        longest = max(longest, np.flatnonzero(bank.any(axis=0))[-1] / SAMPLE_RATE)
    assert kinds == {True, False} and longest > 0.9


def test_a_click_precedes_the_pulses_of_a_share_of_the_noises(monkeypatch) -> None:
    monkeypatch.setattr(parts, "OSCILLATION_CHANCE", 0.0)
    begins = []
    for seed in range(40):
        bank = parts.thump_bank(rng(seed)).astype(np.float64)
        high = np.abs(np.diff(bank, 2))  # a pulse has no treble
        begins.append(high[:, :200].max() > 10.0 * high[:, 400:].max())
    assert 5 <= sum(begins) <= 20


def test_thumps_come_in_trains(monkeypatch) -> None:
    monkeypatch.setattr(parts, "thump_bank", lambda rng: np.ones((1, 1)))
    monkeypatch.setattr(parts, "TRAIN_CHANCE", 1.0)
    for seed in range(4):
        thumps = parts.thumps(rng(seed), 0.1, 0.0, 0.0)  # rests of 2 to 10 s
        moments = np.flatnonzero(parts.render(thumps, 60 * SAMPLE_RATE)) / SAMPLE_RATE
        trains = np.split(moments, np.flatnonzero(np.diff(moments) > 1.5) + 1)[:-1]
        assert len(trains) >= 3
        for train in trains:
            assert 3 <= len(train) <= 12
            assert np.std(np.diff(train)) < 0.3 * np.mean(np.diff(train))


def test_standard_curves() -> None:
    curve = parts.academy_db(np.array([40.0, 100.0, 1000.0, 5000.0, 8000.0]))
    np.testing.assert_allclose(curve, [-7.0, 0.0, 0.0, -10.0, -18.0], atol=1e-9)
    corner_hz = 1e6 / (2.0 * np.pi * 35.0)
    assert parts.tape_replay_db(np.array([corner_hz]), 0, 35)[0] == pytest.approx(3.01, abs=0.01)
    bass = parts.tape_replay_db(np.array([50.05, 1000.0]), 3180, 0)
    np.testing.assert_allclose(bass, [-3.01, -0.01], atol=0.01)
    assert parts.slit_db(np.array([457.2 / 0.025]), 25.0, 457.2)[0] == pytest.approx(-40.0)


def test_minimum_phase_keeps_the_levels_and_starts_at_once() -> None:
    wanted = parts.low_pass_db(parts.grid_hz(), 3000.0, 2.0)
    kernel = minimum_phase(wanted, 512)
    found = 20.0 * np.log10(np.abs(fft.rfft(kernel, parts.TAPS - 1)))
    assert np.abs(found - wanted)[:1500].max() < 0.2
    assert np.argmax(np.abs(kernel)) < 20


def test_strokes_come_at_regular_moments() -> None:
    source = parts.strokes(rng(3), 18.0, 0.0, 0.0, np.ones((2, 1)))
    places = np.flatnonzero(parts.render(source, 4 * parts.CHUNK))
    assert len(places) in (48, 49)  # in 2.68 s
    np.testing.assert_allclose(np.diff(places), SAMPLE_RATE / 18.0, atol=1.0)
    late = parts.strokes(rng(3), 18.0, 0.1, 3.0, np.ones((2, 1)))
    uneven = parts.render(late, 4 * parts.CHUNK)
    assert np.ptp(np.diff(np.flatnonzero(uneven))) > 300 and np.ptp(uneven[uneven > 0.0]) > 0.3


def test_bursts_have_the_length_and_the_band_asked_for() -> None:
    for is_tonal in (False, True):
        for seed in range(5):
            bank = parts.burst_bank(rng(seed), 20.0, (400.0, 3000.0), is_tonal)
            assert np.allclose(np.abs(bank).max(axis=1), 1.0)
            energy = np.cumsum(np.square(bank), axis=1)
            length_ms = 1e3 * np.argmax(energy > 0.9 * energy[:, -1:], axis=1) / SAMPLE_RATE
            assert 2.0 < np.median(length_ms) < 30.0
            power = np.square(np.abs(fft.rfft(bank, SAMPLE_RATE))).sum(axis=0)  # bins of 1 Hz
            assert power[200:6000].sum() > 0.9 * power.sum()


def test_hum_is_pulsed_where_it_is_asked_for() -> None:
    crests = [np.ptp(parts.render(parts.wave(rng(4), 50.0, np.zeros(30), 0.0, is_pulsed),
                                  SAMPLE_RATE)) for is_pulsed in (False, True)]
    assert crests[1] > 1.4 * crests[0]


def test_a_band_ends_where_it_is_asked_to() -> None:
    hz = np.array([50.0, 100.0, 200.0, 400.0, 800.0])
    level = parts.band_pass_db(hz, 100.0, 400.0, (2.0, 4.0))
    np.testing.assert_allclose(level, [-12.3, -3.0, -0.3, -3.0, -24.1], atol=0.1)
