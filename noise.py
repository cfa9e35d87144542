"""Generated noise of old carriers, and tools that learn it from recordings.

Gramophone records, optical film tracks, magnetic tape and mains hum: endless, seeded, pure NumPy
and SciPy. `docs/noise.md` names the source of every part. Three commands work on recordings:

    python noise.py find RECORDING... --output DIR   cuts noise-only stretches into a folder
    python noise.py fit FILE... --output YAML        learns spectrum and clicks from noise
    python noise.py picture --output PNG             draws recorded and generated noise
"""

from __future__ import annotations

import argparse
import csv
import itertools
import logging
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import soundfile
import soxr
from scipy import fft

from carriers import KINDS, CarrierConfig, FilmConfig, GramophoneConfig, HumConfig, TapeConfig
from config import SAMPLE_RATE, replacing, run_main

logger = logging.getLogger(__name__)

TARGET_DBFS = -30.0  # RMS of a noise's first moments; later events make it vary around this
LEVEL_HZ = 1000.0  # levels are relative to the RMS of the hiss above this frequency
BAND_HZ = 1000.0 * 10.0 ** (np.arange(-15, 14) / 10.0)  # centres of the third octaves

# How noise is rendered:
TAPS = 4097  # of the filter that colours hiss
CHUNK = 29504  # samples rendered at once; with TAPS a fast transform, and three make two seconds
COARSE = 64  # samples between the points of what changes slowly
ENVELOPE_SECONDS = 0.01  # half the window over which a signal's level is taken
SHAPES = 48  # different clicks in one noise
SECOND_PULSE_CHANCE = 0.2
THUMPS = 4
DIPS = 12  # different dropouts, likewise
LOUDEST_DB = 54.0  # highest peak of a click or thump

# Bass turnover and treble roll-off in Hz (0: none) of disc replay, IASA-TC 04 sections 5.2.6 and
# 5.3.6; acoustic records are played flat.
DISC_REPLAY_HZ = ((0, 0), (0, 0), (250, 0), (300, 0), (400, 0), (500, 0), (300, 2120),
                  (400, 2500), (450, 3180), (500, 1590), (500, 2122), (500, 3180))
# Bass and treble time constants in microseconds (0: none) of tape replay, IASA-TC 04 section 5.4.
TAPE_REPLAY_US = ((0, 17.5), (0, 35), (3180, 50), (0, 50), (0, 70), (0, 100), (3180, 90),
                  (3180, 120), (3180, 140), (0, 200), (3180, 200))
FILM_GAUGES = ((457.2, 96.0), (457.2, 96.0), (182.9, 24.0))  # mm/s and perforations/s: 35, 16 mm


def _draw(rng: np.random.Generator, bounds: Sequence[float]) -> float:
    return float(rng.uniform(bounds[0], bounds[1]))


def _draw_rate(rng: np.random.Generator, bounds: Sequence[float]) -> float:
    """Evenly in the logarithm where the range does not reach 0."""
    if bounds[0] <= 0.0:
        return _draw(rng, bounds)
    return float(np.exp(rng.uniform(np.log(bounds[0]), np.log(bounds[1]))))


def _gain(decibels: np.ndarray | float) -> np.ndarray | float:
    return 10.0 ** (decibels / 20.0)


# --- Spectra ---------------------------------------------------------------------------------


def _grid_hz(sample_rate: int) -> np.ndarray:
    """Frequencies at which a hiss's spectrum is drawn; 0 Hz stands as 10 Hz."""
    return np.maximum(fft.rfftfreq(TAPS - 1, 1.0 / sample_rate), 10.0)


def interpolate_bands(levels_db: Sequence[float], frequency_hz: np.ndarray) -> np.ndarray:
    """Returns third-octave levels (at `BAND_HZ`) between the bands, over log frequency."""
    return np.interp(np.log2(frequency_hz), np.log2(BAND_HZ), levels_db)


def academy_db(frequency_hz: np.ndarray) -> np.ndarray:
    """Returns the Academy curve of 1938 in dB.

    Flat from 100 Hz to 1.6 kHz, -7 dB at 40 Hz, -10 dB at 5 kHz, -18 dB at 8 kHz; beyond these
    it goes on as steeply.
    """
    knots_hz = [10.0, 40.0, 100.0, 1600.0, 5000.0, 8000.0, 16000.0]
    knots_db = [-17.6, -7.0, 0.0, 0.0, -10.0, -18.0, -29.8]
    return np.interp(np.log2(frequency_hz), np.log2(knots_hz), knots_db)


def slit_db(frequency_hz: np.ndarray, slit_um: float, film_mm_per_second: float) -> np.ndarray:
    """Returns the loss of a scanning beam in dB: a sinc of its width over the wavelength."""
    wavelength_um = 1000.0 * film_mm_per_second / frequency_hz
    return 20.0 * np.log10(np.maximum(np.abs(np.sinc(slit_um / wavelength_um)), 1e-2))


def disc_replay_db(frequency_hz: np.ndarray, bass_hz: float, treble_hz: float) -> np.ndarray:
    """Returns a disc's replay equalisation in dB: bass boost to 50 Hz, treble roll-off; 0: none."""
    level = np.zeros_like(frequency_hz)
    if bass_hz:
        level += 10.0 * np.log10((frequency_hz**2 + bass_hz**2) / (frequency_hz**2 + 50.0**2))
    if treble_hz:
        level -= 10.0 * np.log10(1.0 + (frequency_hz / treble_hz) ** 2)
    return level


def tape_replay_db(frequency_hz: np.ndarray, bass_us: float, treble_us: float) -> np.ndarray:
    """Returns the rise of a tape replay amplifier over an integrator in dB.

    The flux on tape falls as one RC low-pass of `treble_us`, so replay lifts the treble, and with
    it the hiss, by the inverse; `bass_us` (0: none) lowers the bass.
    """
    omega = 2e-6 * np.pi * frequency_hz
    level = 10.0 * np.log10(1.0 + (omega * treble_us) ** 2)
    if bass_us:
        level -= 10.0 * np.log10(1.0 + (omega * bass_us) ** -2.0)
    return level


def _low_pass_db(frequency_hz: np.ndarray, cutoff_hz: float, order: float) -> np.ndarray:
    return -10.0 * np.log10(1.0 + (frequency_hz / cutoff_hz) ** (2.0 * order))


def _colour_db(rng: np.random.Generator, frequency_hz: np.ndarray, tilt_db_per_octave: float,
               height_db: float) -> np.ndarray:
    """A random tilt and two broad random bumps: no two machines sound alike."""
    octaves = np.log2(frequency_hz / LEVEL_HZ)
    level = tilt_db_per_octave * np.clip(octaves, -4.0, 4.0)
    for _ in range(2):
        centre, width = rng.uniform(-2.0, 3.5), rng.uniform(0.3, 1.2)
        level = level + rng.uniform(-1.0, 1.0) * height_db * np.exp(
            -0.5 * ((octaves - centre) / width) ** 2)
    return level


def minimum_phase(level_db: np.ndarray, taps: int) -> np.ndarray:
    """Returns a minimum-phase FIR filter with the levels `level_db` on a regular grid.

    Folds the cepstrum: Oppenheim and Schafer, Discrete-Time Signal Processing, on the Hilbert
    transform relations of causal complex cepstra.
    """
    cepstrum = fft.irfft(level_db * (np.log(10.0) / 20.0))
    half = len(cepstrum) // 2
    cepstrum[1:half] *= 2.0
    cepstrum[half + 1:] = 0.0
    return fft.irfft(np.exp(fft.rfft(cepstrum)))[:taps]


# --- Parts -----------------------------------------------------------------------------------
# A part renders `CHUNK` samples at each call and goes on where it stopped: there are no seams.


OFFSETS = np.arange(CHUNK, dtype=np.float32)  # of samples from the start of a chunk


class _Hiss:
    """Stationary Gaussian noise with the spectrum `level_db` (on `_grid_hz`), by overlap-save.

    Its RMS above 1 kHz is 1.
    """

    def __init__(self, rng: np.random.Generator, sample_rate: int, level_db: np.ndarray) -> None:
        self.rng = rng
        kernel = np.roll(fft.irfft(_gain(level_db)), (TAPS - 1) // 2) * np.hanning(TAPS - 1)
        response = fft.rfft(kernel, CHUNK + TAPS - 1)
        above = int(LEVEL_HZ / sample_rate * (CHUNK + TAPS - 1))
        power = 2.0 * np.sum(np.abs(response[above:]) ** 2) / (CHUNK + TAPS - 1)
        self.response = (response / np.sqrt(power)).astype(np.complex64)
        self.last = rng.standard_normal(TAPS - 1, dtype=np.float32)

    def render(self) -> np.ndarray:
        white = np.concatenate([self.last, self.rng.standard_normal(CHUNK, dtype=np.float32)])
        self.last = white[CHUNK:]
        return fft.irfft(fft.rfft(white) * self.response)[TAPS - 1:]


class _Swing:
    """Slow changes of level: a pattern that returns with each turn, and random wander."""

    def __init__(self, rng: np.random.Generator, sample_rate: int, wander_db: float,
                 pattern_db: np.ndarray | None = None, turn_seconds: float = 1.0) -> None:
        self.rng, self.wander_db = rng, wander_db
        self.pattern_db = np.zeros(2) if pattern_db is None else pattern_db
        self.step = COARSE / sample_rate / turn_seconds
        self.turns, self.level_db = rng.uniform(), 0.0
        self.last: np.float32 | None = None

    def render(self) -> np.ndarray:
        points = CHUNK // COARSE
        new = 0.9 * self.level_db + 0.44 * self.wander_db * self.rng.normal()
        wander = np.linspace(self.level_db, new, points + 1)[1:]
        turns = self.turns + self.step * np.arange(1, points + 1)
        self.turns, self.level_db = turns[-1] % 1.0, new
        place = np.linspace(0.0, 1.0, len(self.pattern_db) + 1)
        level = wander + np.interp(turns % 1.0, place, np.append(self.pattern_db,
                                                                 self.pattern_db[0]))
        gains = _gain(level).astype(np.float32)
        start = np.concatenate([[gains[0] if self.last is None else self.last], gains[:-1]])
        self.last = gains[-1]
        ramp = np.arange(1, COARSE + 1, dtype=np.float32) / COARSE
        return (start[:, None] + (gains - start)[:, None] * ramp).ravel().astype(np.float32)


class _Wave:
    """A periodic wave of RMS 1 from the amplitudes of its harmonics; its pitch may drift."""

    def __init__(self, rng: np.random.Generator, sample_rate: int, frequency_hz: float,
                 harmonics_db: np.ndarray, drift: float = 0.0) -> None:
        self.rng, self.step, self.drift = rng, frequency_hz / sample_rate, drift
        size = fft.next_fast_len(max(2048, 64 * len(harmonics_db)), real=True)
        spectrum = np.zeros(size // 2 + 1, np.complex128)
        spectrum[1:len(harmonics_db) + 1] = _gain(harmonics_db) * np.exp(
            2j * np.pi * rng.uniform(size=len(harmonics_db)))
        table = fft.irfft(spectrum, size)
        table /= np.sqrt(np.mean(table**2))
        self.table = np.append(table, table[0]).astype(np.float32)
        self.phase, self.bend = rng.uniform(), 0.0

    def render(self) -> np.ndarray:
        bend = 0.8 * self.bend + 0.6 * self.drift * self.rng.normal()
        # In single precision a phase is right to 1e-5 of a period within a chunk.
        size = len(self.table) - 1
        place = (bend - self.bend) / (2.0 * CHUNK) * OFFSETS
        place += 1.0 + self.bend
        place *= OFFSETS
        place *= size * self.step
        place += size * self.phase
        self.phase = (self.phase + self.step * CHUNK * (1.0 + 0.5 * (self.bend + bend))) % 1.0
        self.bend = bend
        index = place.astype(np.int32)
        place -= index
        index %= size
        low = self.table[index]
        index += 1
        return low + (self.table[index] - low) * place


def _hum(rng: np.random.Generator, sample_rate: int, frequency_hz: float, harmonics: int,
         slope_db_per_octave: float, drift: float = 0.0,
         band_db: Callable[[np.ndarray], np.ndarray] | None = None) -> _Wave:
    """Hum or buzz: harmonics that fall by a slope, each off by some dB."""
    harmonics = max(1, min(harmonics, int(0.45 * sample_rate / frequency_hz)))
    order = np.arange(1, harmonics + 1)
    level = slope_db_per_octave * np.log2(order) + rng.normal(0.0, 6.0, harmonics)
    level[order % 2 == rng.integers(2)] += rng.uniform(0.0, 10.0)
    if band_db is not None:
        level = level + band_db(frequency_hz * order)
    return _Wave(rng, sample_rate, frequency_hz, level, drift)


class _Rumble:
    """Noise below 100 Hz of RMS 1: resonances of arm, plinth and motor, swaying with the turn.

    It is rendered at one 64th of the rate and brought up by a windowed sinc.
    """

    TAPS = 16

    def __init__(self, rng: np.random.Generator, sample_rate: int, turn_seconds: float,
                 depth: float) -> None:
        self.rng, self.depth = rng, depth
        rate = sample_rate / COARSE
        time = np.arange(256) / rate
        kernel = np.zeros(256)
        for _ in range(3):
            frequency = np.exp(rng.uniform(np.log(8.0), np.log(95.0)))
            kernel += rng.uniform(0.2, 1.0) * np.exp(-time / rng.uniform(0.01, 0.08)) * np.cos(
                2.0 * np.pi * (frequency * time + rng.uniform()))
        kernel -= np.hanning(256) * kernel.sum() / np.hanning(256).sum()  # nothing at 0 Hz
        self.kernel = kernel / np.sqrt(np.sum(kernel**2))
        self.white = rng.standard_normal(255)
        self.step, self.turns = 1.0 / (rate * turn_seconds), rng.uniform()
        offset = np.arange(COARSE) / COARSE
        position = np.arange(self.TAPS)[:, None] - (self.TAPS // 2 - 1) - offset
        self.interpolator = (np.sinc(position) * np.cos(np.pi * position / self.TAPS) ** 2).astype(
            np.float32)
        self.slow = np.zeros(self.TAPS - 1, np.float32)

    def render(self) -> np.ndarray:
        points = CHUNK // COARSE
        white = np.concatenate([self.white, self.rng.standard_normal(points)])
        self.white = white[points:]
        turns = self.turns + self.step * np.arange(points)
        self.turns = (self.turns + self.step * points) % 1.0
        sway = 1.0 + self.depth * np.sin(2.0 * np.pi * turns)
        slow = np.concatenate([self.slow, (sway * np.convolve(white, self.kernel, "valid")).astype(
            np.float32)])
        self.slow = slow[points:]
        windows = np.lib.stride_tricks.sliding_window_view(slow, self.TAPS)
        return (windows @ self.interpolator).ravel()


class _Events:
    """Impulses at random moments, drawn from a bank of shapes `(shapes, samples)`.

    Arrivals are a Poisson process whose rate comes and goes; peaks are log-normal, a heavy tail. A
    share is locked to the turn: a scratch that crosses the groove comes back once a turn, for
    some turns, at nearly the same level.
    """

    def __init__(self, rng: np.random.Generator, sample_rate: int, per_second: float,
                 median_db: float, spread_db: float, bank: np.ndarray, turn_seconds: float = 1.0,
                 locked_share: float = 0.0, burst: float = 0.4, signed: bool = True) -> None:
        self.rng, self.bank, self.signed, self.burst = rng, bank.astype(np.float32), signed, burst
        self.median_db, self.spread_db = median_db, spread_db
        self.per_chunk = per_second * (1.0 - locked_share) * CHUNK / sample_rate
        self.mood = rng.normal()
        self.tail = np.zeros(0)
        self.turn, self.turns = turn_seconds * sample_rate, rng.uniform()
        self.sites = rng.poisson(per_second * locked_share * turn_seconds)
        self.lifetime = rng.uniform(3.0, 40.0)  # turns
        self.angle, self.first, self.last, self.site_db, self.site_shape, self.site_sign = (
            np.zeros((6, self.sites)))
        self._renew(np.ones(self.sites, bool), np.zeros(self.sites))

    def _renew(self, which: np.ndarray, first: np.ndarray) -> None:
        """Draws new scratches, from the turns `first` on, in place of those that have ended."""
        rng, count = self.rng, len(first)
        self.angle[which] = rng.uniform(size=count)
        self.first[which] = first
        self.last[which] = first + rng.geometric(1.0 / self.lifetime, count)
        self.site_db[which] = rng.normal(self.median_db, self.spread_db, count)
        self.site_shape[which] = rng.integers(len(self.bank), size=count)
        self.site_sign[which] = rng.choice([-1.0, 1.0], count)

    def _locked(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Moments, levels, shapes and signs of the locked impulses in the next chunk."""
        begin, end = self.turns, self.turns + CHUNK / self.turn
        turn = np.arange(int(begin) - 1, int(end) + 1)[:, None]
        moment = turn + self.angle
        alive = (turn >= self.first) & (turn <= self.last)
        site = np.nonzero(alive & (moment >= begin) & (moment < end))
        onset = np.minimum(((moment[site] - begin) * self.turn).astype(np.int64), CHUNK - 1)
        level = self.site_db[site[1]] + self.rng.normal(0.0, 1.5, len(onset))
        shape, sign = self.site_shape[site[1]].astype(np.int64), self.site_sign[site[1]]
        self.turns = end
        ended = self.last < int(end) - 1
        self._renew(ended, int(end) + self.rng.integers(0, 3, int(ended.sum())))
        return onset, level, shape, sign

    def render(self) -> np.ndarray:
        rng, length = self.rng, self.bank.shape[1]
        self.mood = 0.7 * self.mood + 0.71 * rng.normal()
        count = rng.poisson(self.per_chunk * np.exp(self.burst * self.mood - 0.5 * self.burst**2))
        onset = rng.integers(CHUNK, size=count)
        level = rng.normal(self.median_db, self.spread_db, count)
        shape = rng.integers(len(self.bank), size=count)
        sign = rng.choice([-1.0, 1.0], count)
        if self.sites:
            locked = self._locked()
            onset, level, shape, sign = (np.concatenate(pair) for pair in zip(
                (onset, level, shape, sign), locked, strict=True))
        amplitude = _gain(np.minimum(level, LOUDEST_DB))
        if self.signed:
            amplitude = amplitude * sign
        size = max(CHUNK, len(self.tail)) + length
        if len(onset):
            index = onset[:, None] + np.arange(length)
            out = np.bincount(
                index.ravel(), (self.bank[shape] * amplitude[:, None].astype(np.float32)).ravel(),
                size)
        else:
            out = np.zeros(size)
        out[:len(self.tail)] += self.tail
        self.tail = out[CHUNK:]
        return out[:CHUNK].astype(np.float32)


def impulse_bank(rng: np.random.Generator, sample_rate: int, pulse_ms: Sequence[float],
                 band_db: Callable[[np.ndarray], np.ndarray] | None = None) -> np.ndarray:
    """Draws shapes of clicks, as they look on recordings.

    A short pulse, a slower swing back that leaves no offset, ringing of the pick-up, and now and
    then a second pulse; five to ten pulse lengths in all.

    Args:
        rng: Source of randomness.
        sample_rate: Samples per second.
        pulse_ms: Range of the pulse's length.
        band_db: Levels of the playback chain at given frequencies; it limits the band.

    Returns:
        Array `(SHAPES, samples)` with peak 1.
    """
    samples = max(16, int(0.008 * pulse_ms[1] * sample_rate))
    column = (SHAPES, 1)
    time = np.arange(samples) / sample_rate - rng.uniform(0.0, 1.0, column) / sample_rate
    pulse = np.exp(rng.uniform(*np.log(pulse_ms), column)) * 1e-3
    wave = np.exp(-0.5 * np.square((time - 0.9 * pulse) / (0.3 * pulse)))
    back = pulse * rng.uniform(0.5, 3.0, column)  # time constant of the swing back
    late = np.maximum(time - 0.9 * pulse, 0.0)
    swing = late / back * np.exp(-late / back)
    ringing = (np.sin(2.0 * np.pi * rng.uniform(0.4, 1.2, column) / pulse * late)
               * np.exp(-late / (pulse * rng.uniform(0.3, 2.0, column))))
    wave = wave + rng.uniform(-0.7, 0.7, column) * ringing
    for number in np.flatnonzero(rng.uniform(size=SHAPES) < SECOND_PULSE_CHANCE):
        shift = int(rng.uniform(0.1, 0.7) * samples)
        wave[number, shift:] += rng.uniform(-0.8, 0.8) * wave[number, :samples - shift]
    wave -= swing * (rng.uniform(0.7, 1.0, column) * wave.sum(axis=1, keepdims=True)
                     / swing.sum(axis=1, keepdims=True))
    wave *= np.minimum(1.0, np.arange(samples)[::-1] / (0.3 * samples))
    if band_db is not None:
        kernel = minimum_phase(band_db(np.maximum(fft.rfftfreq(256, 1.0 / sample_rate), 10.0)), 64)
        size = fft.next_fast_len(samples + len(kernel) - 1, real=True)
        wave = fft.irfft(fft.rfft(wave, size) * fft.rfft(kernel, size), size)[
            :, :samples + len(kernel) // 2]
    return wave / np.abs(wave).max(axis=1, keepdims=True)


def thump_bank(rng: np.random.Generator, sample_rate: int) -> np.ndarray:
    """Draws the long pulses after a scratch or splice: a jolt, then a falling decaying swing.

    The frequency falls from `high` to `low` and the amplitude decays, both exponentially, as the
    resonance of arm and pick-up dies away.

    Returns:
        Array `(THUMPS, samples)` with peak 1.
    """
    time = np.arange(int(0.3 * sample_rate), dtype=np.float32) / sample_rate
    bank = np.empty((THUMPS, len(time)), np.float32)
    for row in bank:
        high, low = rng.uniform(40.0, 120.0), rng.uniform(10.0, 30.0)
        fall, decay = rng.uniform(0.01, 0.05), rng.uniform(0.015, 0.06)
        turns = low * time + (high - low) * fall * (1.0 - np.exp(-time / fall))
        row[:] = np.sin(2.0 * np.pi * (turns + rng.uniform(0.0, 0.5))) * np.exp(-time / decay)
        row *= np.minimum(1.0, time / 0.002) * np.minimum(1.0, (time[-1] - time) / 0.05)
        row /= np.abs(row).max()
        jolt = time[:int(0.002 * sample_rate)]
        row[:len(jolt)] += rng.uniform(0.0, 0.5) * np.exp(-jolt / 2e-4) * np.sin(
            2.0 * np.pi * rng.uniform(1000.0, 5000.0) * jolt)
        row /= np.abs(row).max()
    return bank


def dip_bank(rng: np.random.Generator, sample_rate: int,
             length_ms: Sequence[float]) -> np.ndarray:
    """Draws the shapes of dropouts, `(DIPS, samples)`: a smooth dip of depth 1."""
    samples = int(1e-3 * length_ms[1] * sample_rate)
    bank = np.zeros((DIPS, samples), np.float32)
    for row in bank:
        length = max(8, int(1e-3 * np.exp(rng.uniform(*np.log(length_ms))) * sample_rate))
        row[:length] = np.minimum(1.0, 2.0 * np.hanning(length))[:samples]
    return bank


# --- Carriers --------------------------------------------------------------------------------


class CarrierNoise:
    """One endless noise: what it is made of is drawn once, `read` renders it piece by piece.

    Args:
        kind: "gramophone", "film", "tape", "hum", or "mixed", which draws one of these.
        rng: Source of all randomness.
        sample_rate: Samples per second.
        carrier: Ranges that are drawn from; the defaults when absent.

    Raises:
        ValueError: An unknown `kind`.
    """

    def __init__(self, kind: str, rng: np.random.Generator, sample_rate: int = SAMPLE_RATE,
                 carrier: CarrierConfig | None = None) -> None:
        if kind not in (*KINDS, "mixed"):
            raise ValueError(f"`kind` must be one of {(*KINDS, 'mixed')}. Received: kind={kind!r}")
        carrier = carrier or CarrierConfig()
        self.rng = np.random.default_rng(rng.integers(2**63))
        if kind == "mixed":
            shares = np.array([carrier.share(name) for name in KINDS])
            kind = KINDS[self.rng.choice(len(KINDS), p=shares / shares.sum())]
        self.kind, self.sample_rate = kind, sample_rate
        self.grid_hz = _grid_hz(sample_rate)
        self.swing: _Swing | None = None  # of the hiss
        self.dropouts: _Events | None = None
        self.parts: list[tuple[np.float32, _Hiss | _Wave | _Rumble | _Events]] = []
        self.follow_db: float | None = None  # level of what follows a signal
        draw = {"gramophone": self._draw_gramophone, "film": self._draw_film,
                "tape": self._draw_tape, "hum": self._draw_hum}[kind]
        draw(getattr(carrier, kind))
        self.gain = np.float32(1.0)
        first = self._render()
        self.gain = np.float32(_gain(TARGET_DBFS) / np.sqrt(np.mean(first**2, dtype=np.float64)))
        self.ready = first * self.gain

    def _add(self, level_db: float, part: _Hiss | _Wave | _Rumble | _Events) -> None:
        self.parts.append((np.float32(_gain(level_db)), part))

    def _set_hiss(self, level_db: np.ndarray) -> None:
        self.hiss_db = level_db
        self.hiss = _Hiss(self.rng, self.sample_rate, level_db)

    def _fitted_or(self, cfg: GramophoneConfig | FilmConfig | TapeConfig,
                   level_db: np.ndarray) -> np.ndarray:
        """A blend of two fitted spectra, or `level_db`; both coloured at random."""
        rng = self.rng
        if cfg.spectra_db and rng.uniform() < cfg.fitted_chance:
            pair = rng.integers(len(cfg.spectra_db), size=2)
            level_db = interpolate_bands(
                np.average(np.array(cfg.spectra_db)[pair], axis=0,
                           weights=rng.dirichlet([1.0, 1.0])), self.grid_hz)
        return level_db + _colour_db(rng, self.grid_hz, _draw(rng, cfg.tilt_db_per_octave),
                                     _draw(rng, cfg.colour_db))

    def _band(self, cutoff_hz: Sequence[float]) -> Callable[[np.ndarray], np.ndarray]:
        """A random low-pass: the bandwidth of pick-up, amplifier or transfer."""
        cutoff, order = _draw_rate(self.rng, cutoff_hz), self.rng.uniform(1.0, 5.0)
        return lambda frequency_hz: _low_pass_db(frequency_hz, cutoff, order)

    def _add_mains(self, bounds: Sequence[float],
                   band: Callable[[np.ndarray], np.ndarray] | None = None,
                   multiple: int = 1) -> None:
        rng = self.rng
        mains_hz = multiple * rng.choice([50.0, 60.0]) * (1.0 + 0.002 * rng.normal())
        self._add(_draw(rng, bounds), _hum(rng, self.sample_rate, mains_hz,
                                           int(rng.integers(2, 16)), rng.uniform(-15.0, -4.0),
                                           band_db=band))

    def _add_crackle(self, cfg: GramophoneConfig | FilmConfig,
                     band: Callable[[np.ndarray], np.ndarray], turn_seconds: float = 1.0,
                     locked_share: float = 0.0, burst: float = 0.3) -> None:
        rng, rate = self.rng, self.sample_rate
        self._add(0.0, _Events(rng, rate, _draw_rate(rng, cfg.crackles_per_second),
                               _draw(rng, cfg.crackle_db), _draw(rng, cfg.crackle_spread_db),
                               impulse_bank(rng, rate, cfg.crackle_ms, band),
                               turn_seconds, locked_share * rng.uniform(), burst))
        self._add(0.0, _Events(rng, rate, _draw_rate(rng, cfg.clicks_per_second),
                               _draw(rng, cfg.click_db), _draw(rng, cfg.click_spread_db),
                               impulse_bank(rng, rate, cfg.click_ms, band),
                               turn_seconds, locked_share, burst))

    def _draw_gramophone(self, cfg: GramophoneConfig) -> None:
        """Surface hiss, swish, crackle, clicks, thumps, rumble and hum of a disc."""
        rng, rate = self.rng, self.sample_rate
        band = self._band(cfg.cutoff_hz)
        bass_hz, treble_hz = DISC_REPLAY_HZ[rng.integers(len(DISC_REPLAY_HZ))]
        self._set_hiss(band(self.grid_hz) + self._fitted_or(
            cfg, disc_replay_db(self.grid_hz, bass_hz, treble_hz)))
        turn = 60.0 / float(rng.choice(cfg.turns_per_minute))
        pattern = fft.irfft(np.append([0.0], rng.normal(size=6) + 1j * rng.normal(size=6)), 64)
        pattern *= 0.5 * _draw(rng, cfg.swish_db) / np.abs(pattern).max()
        self.swing = _Swing(rng, rate, rng.uniform(0.0, 1.0), pattern, turn)
        locked = _draw(rng, cfg.locked_share)
        self._add_crackle(cfg, band, turn, locked)
        if rng.uniform() < cfg.part_chance:
            self._add(0.0, _Events(rng, rate, _draw_rate(rng, cfg.thumps_per_second),
                                   _draw(rng, cfg.thump_db), 4.0, thump_bank(rng, rate), turn,
                                   locked))
        if rng.uniform() < cfg.part_chance:
            self._add(_draw(rng, cfg.rumble_db), _Rumble(rng, rate, turn, rng.uniform(0.0, 0.7)))
        if rng.uniform() < cfg.part_chance:
            self._add_mains(cfg.hum_db)

    def _draw_film(self, cfg: FilmConfig) -> None:
        """Grain and photocell hiss, frying, ticks, buzz, splices and hum of an optical track."""
        rng, rate = self.rng, self.sample_rate
        speed, perforations_hz = FILM_GAUGES[rng.integers(len(FILM_GAUGES))]
        cutoff, slit = self._band(cfg.cutoff_hz), _draw(rng, cfg.slit_um)
        academy = float(rng.uniform() < cfg.academy_chance)

        def band(frequency_hz: np.ndarray) -> np.ndarray:
            return (cutoff(frequency_hz) + slit_db(frequency_hz, slit, speed)
                    + academy * academy_db(frequency_hz))

        grain = self._fitted_or(cfg, band(self.grid_hz))
        photocell = np.interp(LEVEL_HZ, self.grid_hz, grain) + _draw(rng, cfg.photocell_db)
        self._set_hiss(20.0 * np.log10(np.hypot(_gain(grain), _gain(photocell))))
        self.swing = _Swing(rng, rate, rng.uniform(0.0, 1.5))
        self.follow_db = _draw(rng, cfg.signal_hiss_db)
        self._add_crackle(cfg, band, burst=0.7)
        if rng.uniform() < cfg.part_chance:
            frequency = float(rng.choice([24.0, perforations_hz, perforations_hz]))
            self._add(_draw(rng, cfg.buzz_db), _hum(rng, rate, frequency, int(rng.integers(8, 60)),
                                                    rng.uniform(-9.0, -1.0), 0.001, band))
        if rng.uniform() < cfg.part_chance:
            self._add(0.0, _Events(rng, rate, _draw_rate(rng, cfg.splices_per_second),
                                   _draw(rng, cfg.splice_db), 4.0, thump_bank(rng, rate)))
        for multiple in (1, 2):  # mains, and the lamp, which shines twice in each period
            if rng.uniform() < cfg.part_chance:
                self._add_mains(cfg.hum_db, band, multiple)

    def _draw_tape(self, cfg: TapeConfig) -> None:
        """Hiss through the replay equalisation, dropouts and hum of a tape."""
        rng, rate = self.rng, self.sample_rate
        bass_us, treble_us = TAPE_REPLAY_US[rng.integers(len(TAPE_REPLAY_US))]
        band = self._band(cfg.cutoff_hz)
        self._set_hiss(band(self.grid_hz) + self._fitted_or(
            cfg, tape_replay_db(self.grid_hz, bass_us, treble_us)))
        self.swing = _Swing(rng, rate, rng.uniform(0.0, 0.7))
        self.follow_db = _draw(rng, cfg.modulation_db)
        if rng.uniform() < cfg.part_chance:
            self.dropouts = _draw_dropouts(rng, rate, cfg)
        if rng.uniform() < cfg.part_chance:
            self._add_mains(cfg.hum_db)

    def _draw_hum(self, cfg: HumConfig) -> None:
        """Mains hum with many harmonics, and a little hiss."""
        rng, rate = self.rng, self.sample_rate
        self._set_hiss(_colour_db(rng, self.grid_hz, rng.uniform(-4.0, 0.0), 3.0))
        frequency_hz = float(rng.choice([50.0, 60.0])) * _draw_rate(rng, cfg.speed)
        if rng.uniform() < cfg.rectified_chance:
            frequency_hz *= 2.0
        self._add(_draw(rng, cfg.hum_db), _hum(
            rng, rate, frequency_hz, int(_draw_rate(rng, cfg.harmonics)),
            _draw(rng, cfg.slope_db_per_octave), 0.01 * _draw(rng, cfg.drift_percent)))

    def _render(self) -> np.ndarray:
        out = self.hiss.render()
        if self.swing is not None:
            out *= self.swing.render()
        if self.dropouts is not None:
            out *= _gain(-self.dropouts.render())
        for gain, part in self.parts:
            out += gain * part.render()
        out *= self.gain
        return out

    def read(self, samples: int) -> np.ndarray:
        """Returns the next `samples` of the noise, `(samples,)`, float32."""
        pieces, ready = [self.ready], len(self.ready)
        while ready < samples:
            pieces.append(self._render())
            ready += CHUNK
        joined = np.concatenate(pieces)
        self.ready = joined[samples:]
        return joined[:samples]

    def follow(self, signal: np.ndarray) -> np.ndarray:
        """Returns the noise that exists only while there is a signal; none on discs.

        On film the grain's hiss grows with the light through the track, so it follows the
        signal's envelope. On tape it also multiplies the signal by slow random variations of the
        coating (asperity noise), which gives sidebands around every tone. Levels are relative to
        the stationary hiss, for a signal at its own RMS, whatever its scale.

        Args:
            signal: Float array `(samples,)`, the clean signal.

        Returns:
            float32 array `(samples,)`, to be added to as much of `read`.
        """
        power = np.mean(np.square(signal, dtype=np.float64))
        if self.follow_db is None or power == 0.0:
            return np.zeros(len(signal), np.float32)
        smooth = max(1, int(ENVELOPE_SECONDS * self.sample_rate))
        total = np.cumsum(np.pad(np.square(signal, dtype=np.float64), (smooth, smooth)))
        window = 2 * smooth
        local = (total[window:] - total[:-window]) / window
        envelope = np.sqrt(np.maximum(local[:len(signal)], 0.0) / power)
        hiss = _Hiss(self.rng, self.sample_rate, self.hiss_db)
        noise = self._take(hiss, len(signal)) * envelope
        if self.kind == "tape":
            asperity = _Hiss(self.rng, self.sample_rate, _low_pass_db(
                self.grid_hz, np.exp(self.rng.uniform(np.log(50.0), np.log(2000.0))), 1.0))
            variation = self._take(asperity, len(signal))
            variation /= np.sqrt(np.mean(variation**2))
            noise = np.sqrt(0.5) * (noise + signal / np.sqrt(power) * variation)
        return (float(self.gain * _gain(self.follow_db)) * noise).astype(np.float32)

    @staticmethod
    def _take(part: _Hiss, samples: int) -> np.ndarray:
        return np.concatenate([part.render() for _ in range(-(-samples // CHUNK))])[:samples]


def _draw_dropouts(rng: np.random.Generator, sample_rate: int, cfg: TapeConfig) -> _Events:
    depth_db = _draw_rate(rng, cfg.dropout_db)
    return _Events(rng, sample_rate, _draw_rate(rng, cfg.dropouts_per_second),
                   20.0 * np.log10(max(depth_db, 1e-3)), 3.0,
                   dip_bank(rng, sample_rate, cfg.dropout_ms), signed=False)


def dropout_gain(samples: int, rng: np.random.Generator, sample_rate: int = SAMPLE_RATE,
                 carrier: CarrierConfig | None = None) -> np.ndarray:
    """Returns a tape's dropouts as a gain on the signal, `(samples,)`, float32, at most 1."""
    events = _draw_dropouts(rng, sample_rate, (carrier or CarrierConfig()).tape)
    dips = np.concatenate([events.render() for _ in range(-(-samples // CHUNK))])[:samples]
    return _gain(-dips).astype(np.float32)


def generate(kind: str, samples: int, rng: np.random.Generator, sample_rate: int = SAMPLE_RATE,
             carrier: CarrierConfig | None = None,
             signal: np.ndarray | None = None) -> np.ndarray:
    """Draws a new noise and returns its first `samples`.

    Args:
        kind: "gramophone", "film", "tape", "hum", or "mixed", which draws one of these.
        samples: Length, at least 1.
        rng: Source of all randomness.
        sample_rate: Samples per second.
        carrier: Ranges that are drawn from; the defaults when absent.
        signal: Clean signal `(samples,)` that film and tape noise then also follows.

    Returns:
        float32 array `(samples,)` with an RMS of about -30 dBFS.

    Raises:
        ValueError: An unknown `kind`, `samples` below 1, or a `signal` of another length.
    """
    if samples < 1:
        raise ValueError(f"`samples` must be at least 1. Received: samples={samples}")
    source = CarrierNoise(kind, rng, sample_rate, carrier)
    noise = source.read(samples)
    if signal is not None:
        if signal.shape != noise.shape:
            raise ValueError(f"`signal` must be shaped {noise.shape}. Received: {signal.shape}")
        noise = noise + source.follow(signal)
    return noise


def stream(kind: str, block_samples: int, rng: np.random.Generator,
           sample_rate: int = SAMPLE_RATE,
           carrier: CarrierConfig | None = None) -> Iterator[np.ndarray]:
    """Yields block after block of one endless noise; strung together they are `generate`'s.

    Args are those of `generate`, with blocks of `block_samples`.
    """
    source = CarrierNoise(kind, rng, sample_rate, carrier)
    while True:
        yield source.read(block_samples)


# --- Learning from recordings ----------------------------------------------------------------

CLICK_THRESHOLD_DB = 14.0  # peaks over the whitened hiss's RMS from which impulses count
CLICK_DB = 26.0  # peaks from which crackle is called a click
CLICK_GAP_SECONDS = 0.002  # impulses closer than this count as one
CLICK_BAND_HZ = (700.0, 10000.0)  # where impulses are looked for
FIT_SECONDS = 15.0  # of generated noise measured in each round of a fit
FIT_ROUNDS = 10
CRACKLE_SPREAD_DB = 4.0  # of a fit's crackle, whose small peaks the hiss hides
LOWEST_CORRECTED_HZ = 90.0  # bands below lie closer than the filter tells apart
FEWEST_CLICKS = 8  # from which their peaks are fitted
MOST_SHAPES = 80  # clicks of which the shape is measured
TYPICAL_PULSE_MS = (0.05, 0.3)  # where too few clicks are found
PULSE_LOWEST_HZ = 300.0  # a pulse's length is measured above this
PULSE_WIDTH = 0.7  # width at half height of a pulse of length 1
COMPARED_BANDS = slice(2, 28)  # 50 Hz to 16 kHz


@dataclass(frozen=True)
class NoiseMeasures:
    """What is measured of a noise; peaks are in dB over the whitened hiss's RMS."""

    level_dbfs: float
    spectrum_db: np.ndarray  # stationary part at `BAND_HZ`, per Hz, re its mean of 0.5 to 2 kHz
    crackles_per_second: float  # peaks of 14 to 26 dB
    crackle_db: float  # their median
    clicks_per_second: float  # peaks above 26 dB
    click_db: float  # their median
    click_spread_db: float  # their 90th percentile less the median
    kurtosis: float  # of the whitened noise; 0 for Gaussian noise
    pulse_ms: tuple[float, float]  # most clicks' length lies between these


def _frame_powers(audio: np.ndarray, size: int, hop: int) -> np.ndarray:
    """Power spectra of Hann-windowed frames, `(frames, bins)`."""
    frames = np.lib.stride_tricks.sliding_window_view(audio, size)[::hop]
    window = np.hanning(size + 1)[:-1].astype(np.float32)
    return np.square(np.abs(fft.rfft(frames.astype(np.float32) * window, axis=1))) / np.sum(
        window**2)


def third_octaves_db(audio: np.ndarray, sample_rate: int, quantile: float = 0.3) -> np.ndarray:
    """Measures the stationary part of a noise in third octaves.

    A low quantile over time passes over clicks; short frames in the treble keep clear of them.

    Args:
        audio: Float array `(samples,)`.
        sample_rate: Samples per second, at least 44100.
        quantile: Of the power over time.

    Returns:
        Levels in dB per Hz at `BAND_HZ`; Gaussian noise of density 1 per bin gives 0 dB.
    """
    bias = -np.log(1.0 - quantile)  # of the quantile of an exponential distribution
    level = np.empty(len(BAND_HZ))
    for size, low_hz, high_hz in ((8192, 0.0, 300.0), (512, 300.0, 1100.0), (256, 1100.0, 1e9)):
        if len(audio) < 4 * size:
            raise ValueError(f"`audio` must hold at least {4 * size} samples to be measured. "
                             f"Received: {len(audio)}")
        power = np.quantile(_frame_powers(audio, size, size // 2), quantile, axis=0) / bias
        frequency = fft.rfftfreq(size, 1.0 / sample_rate)
        for number in np.flatnonzero((BAND_HZ >= low_hz) & (BAND_HZ < high_hz)):
            inside = np.abs(np.log2(frequency[1:] / BAND_HZ[number])) < 1.0 / 6.0
            if not inside.any():
                inside = np.abs(frequency[1:] - BAND_HZ[number]).argmin()
            level[number] = 10.0 * np.log10(np.mean(power[1:][inside]) + 1e-20)
    return level


def spectral_distance(first_db: np.ndarray, second_db: np.ndarray) -> float:
    """Returns the RMS difference of two third-octave spectra, 50 Hz to 16 kHz, less the level."""
    difference = (np.asarray(first_db) - np.asarray(second_db))[COMPARED_BANDS]
    return float(np.std(difference))


def whiten(audio: np.ndarray, sample_rate: int) -> np.ndarray:
    """Flattens the hiss between 0.7 and 10 kHz, so that impulses stand out of it.

    This is the prediction residual that click detectors use (Godsill and Rayner 1998); the
    predictor follows from the hiss's spectrum alone, so that clicks do not spoil it.

    Returns:
        Array as `audio` with a robust standard deviation (from the median) of 1.
    """
    size = 1024
    frequency = np.maximum(fft.rfftfreq(size, 1.0 / sample_rate), 10.0)
    bass, treble = (np.quantile(_frame_powers(audio, length, length // 2), 0.3, axis=0)
                    for length in (size, size // 4))
    power = np.where(frequency < CLICK_BAND_HZ[0], bass, np.exp(np.interp(
        frequency, frequency[::4], np.log(treble + 1e-20))))
    inside = (frequency >= CLICK_BAND_HZ[0]) & (frequency <= CLICK_BAND_HZ[1])
    power = np.maximum(power, 1e-6 * power[inside].max() + 1e-20)
    level = -10.0 * np.log10(power)
    level += 8.0 * 6.0 * np.minimum(0.0, np.log2(frequency / CLICK_BAND_HZ[0]))
    level -= 8.0 * 6.0 * np.maximum(0.0, np.log2(frequency / CLICK_BAND_HZ[1]))
    level = np.maximum(level - level[inside].max(), -150.0)
    kernel = minimum_phase(level, size // 2)
    length = fft.next_fast_len(len(audio) + len(kernel), real=True)
    residual = fft.irfft(fft.rfft(audio, length) * fft.rfft(kernel, length), length)[:len(audio)]
    return residual / (np.median(np.abs(residual)) / 0.6745 + 1e-20)


def find_clicks(residual: np.ndarray, sample_rate: int) -> tuple[np.ndarray, np.ndarray]:
    """Finds impulses in whitened noise: their places in samples, and their peaks in dB."""
    height = np.abs(residual)
    above = np.flatnonzero(height > _gain(CLICK_THRESHOLD_DB))
    if not len(above):
        return above, np.zeros(0)
    gap = int(CLICK_GAP_SECONDS * sample_rate)
    start = np.flatnonzero(np.diff(above, prepend=above[0] - gap - 1) > gap)
    peaks = np.maximum.reduceat(height[above], start)
    return above[start], 20.0 * np.log10(peaks)


def _pulse_lengths(audio: np.ndarray, places: np.ndarray, peaks_db: np.ndarray,
                   sample_rate: int) -> tuple[float, float]:
    """Range of the lengths in ms of the strongest clicks' pulses, at half their height."""
    spectrum = fft.rfft(audio)
    spectrum[:int(PULSE_LOWEST_HZ / sample_rate * len(audio))] = 0.0
    treble = np.abs(fft.irfft(spectrum, len(audio)))
    reach = int(CLICK_GAP_SECONDS * sample_rate)
    lengths = []
    for place in places[np.argsort(peaks_db)[::-1][:MOST_SHAPES]]:
        piece = treble[max(0, place - reach):place + reach]
        top = int(np.argmax(piece))
        left, right = piece[top::-1] / piece[top], piece[top:] / piece[top]
        sides = []
        for side in (left, right):
            end = int(np.argmax(side < 0.5))
            if end:
                sides.append(end - (0.5 - side[end]) / (side[end - 1] - side[end]))
        if len(sides) == 2:
            lengths.append(sum(sides) / sample_rate)
    if len(lengths) < FEWEST_CLICKS:
        return TYPICAL_PULSE_MS
    low, high = 1e3 * np.quantile(lengths, [0.2, 0.8]) / PULSE_WIDTH
    return float(low), float(high)


def measure(audio: np.ndarray, sample_rate: int) -> NoiseMeasures:
    """Measures a noise: spectrum of the stationary part, click rate, peaks and kurtosis.

    Args:
        audio: Float array `(samples,)`, about a second or more.
        sample_rate: Samples per second; brought to 44.1 kHz.

    Raises:
        ValueError: `audio` is too short, not finite or silent.
    """
    if not np.all(np.isfinite(audio)) or not np.any(audio):
        raise ValueError("`audio` must be finite and not silent to be measured.")
    if sample_rate != SAMPLE_RATE:
        audio = soxr.resample(audio, sample_rate, SAMPLE_RATE)
    audio = audio - audio.mean()
    level = third_octaves_db(audio, SAMPLE_RATE)
    residual = whiten(audio, SAMPLE_RATE)
    places, peaks_db = find_clicks(residual, SAMPLE_RATE)
    crackle, clicks = peaks_db[peaks_db < CLICK_DB], peaks_db[peaks_db >= CLICK_DB]
    median, high = np.quantile(clicks, [0.5, 0.9]) if len(clicks) else (CLICK_DB, CLICK_DB)
    square = np.square(residual - residual.mean())
    seconds = len(audio) / SAMPLE_RATE
    return NoiseMeasures(
        level_dbfs=float(10.0 * np.log10(np.mean(np.square(audio, dtype=np.float64)))),
        spectrum_db=level - level[12:19].mean(),
        crackles_per_second=len(crackle) / seconds,
        crackle_db=float(np.median(crackle)) if len(crackle) else CLICK_THRESHOLD_DB,
        clicks_per_second=len(clicks) / seconds, click_db=float(median),
        click_spread_db=float(high - median),
        kurtosis=float(np.mean(square**2) / np.mean(square) ** 2 - 3.0),
        pulse_ms=_pulse_lengths(audio, places, peaks_db, SAMPLE_RATE))


@dataclass(frozen=True)
class NoiseFit:
    """Parameters with which the generator sounds like a recording; fields as in the ranges."""

    spectrum_db: list[float]
    crackles_per_second: float
    crackle_db: float
    clicks_per_second: float
    click_db: float
    click_spread_db: float
    pulse_ms: list[float]

    def gramophone(self) -> GramophoneConfig:
        """Returns ranges that hold nothing but this fit: hiss, crackle and clicks."""
        return GramophoneConfig(
            spectra_db=[self.spectrum_db], fitted_chance=1.0, tilt_db_per_octave=[0.0, 0.0],
            colour_db=[0.0, 0.0], cutoff_hz=[1e5, 1e5], swish_db=[0.0, 0.0],
            crackles_per_second=[self.crackles_per_second] * 2, crackle_db=[self.crackle_db] * 2,
            crackle_spread_db=[CRACKLE_SPREAD_DB] * 2, crackle_ms=self.pulse_ms,
            clicks_per_second=[self.clicks_per_second] * 2,
            click_db=[self.click_db] * 2, click_spread_db=[self.click_spread_db] * 2,
            click_ms=self.pulse_ms, locked_share=[0.0, 0.0], part_chance=0.0)


def fit(audio: np.ndarray, sample_rate: int) -> NoiseFit:
    """Learns the hiss's spectrum and the impulses' statistics of a noise recording.

    The generator is run with the parameters found so far and measured as the recording was; what
    differs is corrected, `FIT_ROUNDS` times. So the fit is one of what is heard, and a detector's
    weaknesses (missed small clicks, merged ones) cancel.

    Args:
        audio: Float array `(samples,)` of noise alone.
        sample_rate: Samples per second.

    Raises:
        ValueError: `audio` is too short, not finite or silent.
    """
    goal = measure(audio, sample_rate)
    seconds = len(audio) / sample_rate
    enough = {part: getattr(goal, f"{part}s_per_second") * seconds >= FEWEST_CLICKS
              for part in ("crackle", "click")}
    fitted = NoiseFit(goal.spectrum_db.tolist(), goal.crackles_per_second, goal.crackle_db,
                      goal.clicks_per_second, goal.click_db, max(goal.click_spread_db, 2.0),
                      list(goal.pulse_ms))
    best, best_error = fitted, np.inf
    for number in range(FIT_ROUNDS):
        trial = measure(generate("gramophone", int(FIT_SECONDS * SAMPLE_RATE),
                                 np.random.default_rng(number),
                                 carrier=CarrierConfig(gramophone=fitted.gramophone())),
                        SAMPLE_RATE)
        error = spectral_distance(goal.spectrum_db, trial.spectrum_db)
        spectrum = np.array(fitted.spectrum_db) + 0.8 * np.where(
            BAND_HZ > LOWEST_CORRECTED_HZ, goal.spectrum_db - trial.spectrum_db, 0.0)
        corrections = {"spectrum_db": np.clip(spectrum, goal.spectrum_db - 20.0,
                                              goal.spectrum_db + 3.0).tolist()}
        for part in ("crackle", "click"):
            wanted = getattr(goal, f"{part}s_per_second")
            off_db = 20.0 * np.log10((wanted + 0.1) / (getattr(trial, f"{part}s_per_second") + 0.1))
            error += abs(off_db) / 2.0
            corrections[f"{part}s_per_second"] = float(np.clip(
                getattr(fitted, f"{part}s_per_second") * _gain(0.6 * off_db),
                wanted / 4.0, wanted * 4.0))
            if enough[part]:
                off_db = getattr(goal, f"{part}_db") - getattr(trial, f"{part}_db")
                error += abs(off_db)
                corrections[f"{part}_db"] = getattr(fitted, f"{part}_db") + 0.6 * off_db
        if enough["click"]:
            off_db = goal.click_spread_db - trial.click_spread_db
            error += 0.5 * abs(off_db)
            corrections["click_spread_db"] = float(np.clip(
                fitted.click_spread_db + 0.4 * off_db, 1.0, 12.0))
        if error < best_error:
            best, best_error = fitted, error
        fitted = replace(fitted, **corrections)
    return best


# --- Finding noise in recordings -------------------------------------------------------------

SLOT_FRAMES = 12  # a slot is the stretch of time, about 0.3 s, that is judged as a whole
JUDGED_HZ = (60.0, 354.0, 5657.0)  # bass, of which only the level counts; above it half octaves
SLOT_FLATNESS_DB = -0.75  # mean flatness of a slot that can be noise
RUN_FLATNESS_DB = -0.58  # and its median over a stretch; speech and music lie below
BAND_FLATNESS_DB = -1.8  # flatness of a slot's second least flat half octave
STEADY_DB = 4.0  # noise lies this close to the quietest noise of the recording
SLOT_CHANGE_DB = 3.0  # RMS over half octaves of a slot's distance from the usual noise
RUN_CHANGE_DB = 2.0  # and its median over a stretch
STEADY_BASS_DB = 5.0  # and its bass this close
LINE_DB = 3.0  # what always stands this far above its neighbours is hum or buzz
SILENCE_DBFS = -96.0  # below this nothing was recorded
LONGEST_GAP = 3  # slots
HIGHEST_HUM_HZ = 1200.0
LINE_REACH = 12  # neighbours in bins on each side
BLOCK_SECONDS = 60


@dataclass(frozen=True)
class NoiseSegment:
    """A stretch of noise alone in a recording."""

    start_seconds: float
    end_seconds: float
    place: str  # "run-in", "pause", "run-out" or "whole"
    level_dbfs: float  # of the noise between 0.35 and 5.7 kHz
    below_program_db: float  # how far this lies below the rest; infinite where there is none
    flatness_db: float  # 0: as flat as noise can be


def _frame_size(sample_rate: int) -> int:
    return 2 ** round(np.log2(0.046 * sample_rate))


def _slot_powers(blocks: Iterable[np.ndarray], sample_rate: int) -> np.ndarray:
    """Power spectra `(slots, bins)` of 0 to 5.7 kHz; the median over each slot's frames.

    Clicks do not move a median. Slots overlap by half.
    """
    size = _frame_size(sample_rate)
    hop, step = size // 2, SLOT_FRAMES // 2
    length = (SLOT_FRAMES - 1) * hop + size
    bins = int(JUDGED_HZ[-1] / sample_rate * size) + 1
    powers, rest = [np.zeros((0, bins), np.float32)], None
    for block in blocks:
        rest = block if rest is None else np.concatenate([rest, block])
        count = (len(rest) - length) // (step * hop) + 1
        if count < 1:
            continue
        piece = rest[:(count - 1) * step * hop + length]
        frames = sum(_frame_powers(channel, size, hop)[:, :bins] for channel in piece.T)
        windows = np.lib.stride_tricks.sliding_window_view(frames, SLOT_FRAMES, axis=0)[::step]
        powers.append(np.median(windows, axis=-1) / (np.log(2.0) * piece.shape[1]))
        rest = rest[count * step * hop:]
    return np.concatenate(powers) + 1e-20


@dataclass(frozen=True)
class _Slots:
    """What is judged of each slot, in dB."""

    level: np.ndarray  # (slots,), re full scale
    bass: np.ndarray  # (slots,)
    bands: np.ndarray  # (slots, half octaves)
    flatness: np.ndarray  # (slots, half octaves), 0: flat

    @classmethod
    def of(cls, powers: np.ndarray, sample_rate: int) -> _Slots:
        """Judges the spectra of `_slot_powers`; lines that always stand are levelled as hum."""
        size = _frame_size(sample_rate)
        frequency = fft.rfftfreq(size, 1.0 / sample_rate)[:powers.shape[1]]
        usual = np.quantile(powers, 0.1, axis=0)
        around = np.quantile(np.lib.stride_tricks.sliding_window_view(
            np.pad(usual, LINE_REACH, mode="edge"), 2 * LINE_REACH + 1), 0.3, axis=-1)
        line = (usual > _gain(2.0 * LINE_DB) * around) & (frequency < HIGHEST_HUM_HZ)
        powers = np.where(line, powers * around / usual, powers)
        sums, means, logs = [], [], []
        edges = JUDGED_HZ[1] * 2.0 ** (0.5 * np.arange(9))
        for low, high in itertools.pairwise(edges):
            band = powers[:, (frequency >= low) & (frequency < high)].astype(np.float64)
            if high < 0.45 * sample_rate:
                sums.append(band.sum(axis=1))
                means.append(np.log(band.mean(axis=1)))
                logs.append(np.log(band).mean(axis=1))
        decibel = 10.0 / np.log(10.0)
        bass = powers[:, (frequency >= JUDGED_HZ[0]) & (frequency < JUDGED_HZ[1])].sum(axis=1)
        return cls(level=10.0 * np.log10(2.0 * np.sum(sums, axis=0) / size),
                   bass=10.0 * np.log10(bass), bands=decibel * np.transpose(means),
                   flatness=decibel * np.transpose(np.subtract(logs, means)))


def _runs(mask: np.ndarray) -> list[tuple[int, int]]:
    """First and last index of each run of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(np.int8), [0]])))
    return [(int(first), int(end) - 1) for first, end in edges.reshape(-1, 2)]


def _choose(powers: np.ndarray, sample_rate: int, samples: int, min_seconds: float,
            min_drop_db: float) -> list[NoiseSegment]:
    """Picks the noise among a recording's slots."""
    if not len(powers):
        return []
    slots = _Slots.of(powers, sample_rate)
    sorted_flatness = np.sort(slots.flatness, axis=1)[:, 1:]  # one half octave may hold hum
    flatness = sorted_flatness.mean(axis=1)
    step = SLOT_FRAMES // 2 * (_frame_size(sample_rate) // 2)

    def span(first: int, last: int) -> tuple[float, float]:
        """A run's time; half a slot at each end may hold some of its neighbour, and is left."""
        start = 0 if first == 0 else (first + 1) * step
        end = samples if last == len(flatness) - 1 else (last + 1) * step
        return start / sample_rate, end / sample_rate

    def long_runs(mask: np.ndarray) -> list[slice]:
        return [slice(first, last + 1) for first, last in _runs(mask)
                if np.subtract(*span(first, last)) <= -min_seconds
                and np.median(flatness[first:last + 1]) >= RUN_FLATNESS_DB]

    audible = slots.level > SILENCE_DBFS
    flat = ((flatness >= SLOT_FLATNESS_DB) & audible
            & (sorted_flatness[:, 0] >= BAND_FLATNESS_DB))
    runs = long_runs(flat)
    if not runs:
        return []
    floor = min(float(np.median(slots.level[run])) for run in runs)
    noise = flat & (slots.level < floor + STEADY_DB)
    noise &= slots.bass < np.quantile(slots.bass[noise], 0.2) + STEADY_BASS_DB
    change = np.sqrt(np.mean(np.square(slots.bands - np.median(slots.bands[noise], axis=0)),
                             axis=1))
    noise &= change < SLOT_CHANGE_DB
    for first, last in _runs(~noise):  # dense crackle lifts a slot or two
        inside = 0 < first and last < len(noise) - 1 and last - first < LONGEST_GAP
        noise[first:last + 1] |= inside and bool(flat[first:last + 1].all())
    program = slots.level[~noise & audible]
    loudness = float(np.quantile(program, 0.75)) if len(program) else np.inf
    if loudness < floor + min_drop_db:
        return []
    segments = []
    for run in long_runs(noise):
        if np.median(change[run]) > RUN_CHANGE_DB:
            continue
        place = {(True, True): "whole", (True, False): "run-in", (False, True): "run-out"}.get(
            (run.start == 0, run.stop == len(flatness)), "pause")
        level = float(np.median(slots.level[run]))
        segments.append(NoiseSegment(*span(run.start, run.stop - 1), place, level,
                                     loudness - level, float(np.median(flatness[run]))))
    return segments


def find_noise_segments(audio: np.ndarray, sample_rate: int, min_seconds: float = 0.7,
                        min_drop_db: float = 6.0) -> list[NoiseSegment]:
    """Finds stretches that hold noise alone: run-in and run-out grooves, pauses.

    Noise has a smooth spectrum: within half an octave, the median of a third of a second is flat
    to about 0.5 dB, while tones and harmonics stand out of it. Of such stretches those at the
    recording's lowest steady level are taken, if the rest of the recording is louder.

    Args:
        audio: Float array `(samples,)` or `(samples, channels)`.
        sample_rate: Samples per second.
        min_seconds: Shortest stretch.
        min_drop_db: How far noise must lie below the louder part of the rest.

    Returns:
        The stretches in order; none when there are none.
    """
    audio = audio.reshape(len(audio), -1)
    return _choose(_slot_powers([audio], sample_rate), sample_rate, len(audio), min_seconds,
                   min_drop_db)


# --- Commands --------------------------------------------------------------------------------

AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".aif", ".aiff")
REPORT_NAME = "noise_segments.csv"
PICTURE_SECONDS = 5
PICTURE_DPI = 75
PICTURE_COLOURS = 40
REPORT_COLUMNS = ("recording", "start_seconds", "end_seconds", "place", "level_dbfs",
                  "below_program_db", "flatness_db", "file")


def _find_files(names: list[str]) -> list[Path]:
    """The files named, and those in the folders named."""
    files: list[Path] = []
    for name in names:
        path = Path(name)
        if path.is_dir():
            files += sorted(file for file in path.rglob("*")
                            if file.suffix.lower() in AUDIO_SUFFIXES)
        elif path.is_file():
            files.append(path)
        else:
            raise FileNotFoundError(f"`{name}` must be a file or folder: it does not exist.")
    if not files:
        raise FileNotFoundError(f"`{names}` must hold audio files: none was found.")
    return files


def _check_new(path: Path, overwrite: bool) -> None:
    if path.exists() and not overwrite:
        raise ValueError(f"`{path}` exists already; add --overwrite to replace it.")


def _read_mono(path: Path) -> np.ndarray:
    """A recording's channels, averaged, at 44.1 kHz."""
    try:
        audio, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise ValueError(f"`{path}` must be readable audio: {error}") from error
    audio = np.ascontiguousarray(audio.mean(axis=1))
    return audio if rate == SAMPLE_RATE else soxr.resample(audio, rate, SAMPLE_RATE)


def _write_flac(path: Path, audio: np.ndarray, rate: int, subtype: str) -> None:
    with replacing(path) as temporary:
        soundfile.write(temporary, audio, rate, format="FLAC", subtype=subtype)


def _cut(path: Path, folder: Path, arguments: argparse.Namespace) -> list[dict[str, str]]:
    """Writes one recording's noise to `folder` and returns the report's rows."""
    try:
        with soundfile.SoundFile(path) as stream:
            rate, samples = stream.samplerate, stream.frames
            blocks = stream.blocks(BLOCK_SECONDS * rate, dtype="float32", always_2d=True)
            segments = _choose(_slot_powers(blocks, rate), rate, samples, arguments.min_seconds,
                               arguments.min_drop_db)
            targets = [folder / f"{path.stem}_seg{number:02d}.flac"
                       for number in range(1, len(segments) + 1)]
            for target in targets:
                _check_new(target, arguments.overwrite)
            subtype = "PCM_16" if stream.subtype in ("PCM_16", "PCM_S8", "PCM_U8") else "PCM_24"
            rows = []
            for segment, target in zip(segments, targets, strict=True):
                first, end = (round(rate * time) for time in (segment.start_seconds,
                                                              segment.end_seconds))
                stream.seek(first)
                _write_flac(target, stream.read(end - first, dtype="float32"), rate, subtype)
                values = {name: f"{value:.2f}" if isinstance(value, float) else value
                          for name, value in asdict(segment).items()}
                rows.append({"recording": str(path), "file": target.name} | values)
    except soundfile.LibsndfileError as error:
        raise ValueError(f"`{path}` must be readable audio: {error}") from error
    return rows


def _command_find(arguments: argparse.Namespace) -> None:
    folder = Path(arguments.output)
    files = _find_files(arguments.recordings)
    stems = [path.stem for path in files]
    twice = sorted({stem for stem in stems if stems.count(stem) > 1})
    if twice:
        raise ValueError(f"`recordings` must differ in their names, which name the output. "
                         f"Received twice: {twice}")
    report = folder / REPORT_NAME
    before: list[dict[str, str]] = []
    if report.exists():
        with report.open(newline="", encoding="utf-8") as stream:
            before = list(csv.DictReader(stream))
    rows = [row for row in before if row["recording"] not in {str(path) for path in files}]
    failed = []
    for path in files:
        try:
            found = _cut(path, folder, arguments)
        except ValueError as error:
            logger.error("%s", error)
            failed.append(str(path))
            continue
        rows += found
        kept = {row["file"] for row in rows}
        for row in before:  # an earlier run may have found more
            if row["recording"] == str(path) and row["file"] not in kept:
                (folder / row["file"]).unlink(missing_ok=True)
        seconds = sum(float(row["end_seconds"]) - float(row["start_seconds"]) for row in found)
        logger.info("%s: %d stretches, %.1f s of noise", path, len(found), seconds)
        with replacing(report) as temporary, temporary.open(
                "w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, REPORT_COLUMNS)
            writer.writeheader()
            writer.writerows(rows)
    if failed:
        raise ValueError(f"{len(failed)} of {len(files)} recordings failed: {failed}")
    logger.info("%s lists what was taken", report)


def _yaml_of_fits(kind: str, names: list[str], fits: list[NoiseFit]) -> str:
    """A config file for `conf/noise/`, with the ranges that the fits span."""
    def span(name: str) -> str:
        values = np.concatenate([np.atleast_1d(getattr(fitted, name)) for fitted in fits])
        return f"[{values.min():.3f}, {values.max():.3f}]"

    lines = [f"# Fitted by `python noise.py fit` to {', '.join(names)}.", f"kind: {kind}",
             f"{kind}:", "  fitted_chance: 1.0", "  tilt_db_per_octave: [-0.5, 0.5]",
             "  colour_db: [0.0, 2.0]", "  cutoff_hz: [18000.0, 22000.0]",
             "  spectra_db:  # third octaves from 32 Hz to 20 kHz, dB per Hz"]
    lines += [f"    - [{', '.join(f'{level:.1f}' for level in fitted.spectrum_db)}]"
              for fitted in fits]
    if kind != "tape":
        lines += [f"  {field_name}: {span(name)}" for field_name, name in (
            ("crackles_per_second", "crackles_per_second"), ("crackle_db", "crackle_db"),
            ("crackle_ms", "pulse_ms"), ("clicks_per_second", "clicks_per_second"),
            ("click_db", "click_db"), ("click_spread_db", "click_spread_db"),
            ("click_ms", "pulse_ms"))]
        lines.insert(-4, f"  crackle_spread_db: [{CRACKLE_SPREAD_DB}, {CRACKLE_SPREAD_DB}]")
    return "\n".join(lines) + "\n"


def _describe(measures: NoiseMeasures) -> str:
    return (f"{measures.level_dbfs:.1f} dBFS, crackle {measures.crackles_per_second:.1f}/s at "
            f"{measures.crackle_db:.0f} dB, clicks {measures.clicks_per_second:.1f}/s at "
            f"{measures.click_db:.0f} dB, kurtosis {measures.kurtosis:.0f}")


def _command_fit(arguments: argparse.Namespace) -> None:
    files = _find_files(arguments.files)
    if arguments.output:
        _check_new(Path(arguments.output), arguments.overwrite)
    fits = []
    for path in files:
        audio = _read_mono(path)
        try:
            fitted, goal = fit(audio, SAMPLE_RATE), measure(audio, SAMPLE_RATE)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
        trial = measure(generate("gramophone", len(audio), np.random.default_rng(arguments.seed),
                                 carrier=CarrierConfig(gramophone=fitted.gramophone())),
                        SAMPLE_RATE)
        logger.info("%s\n  recorded:  %s\n  generated: %s\n  spectral distance %.1f dB", path,
                    _describe(goal), _describe(trial),
                    spectral_distance(goal.spectrum_db, trial.spectrum_db))
        fits.append(fitted)
    text = _yaml_of_fits(arguments.kind, [path.name for path in files], fits)
    if arguments.output:
        with replacing(Path(arguments.output)) as temporary:
            temporary.write_text(text, encoding="utf-8")
    else:
        sys.stdout.write(text)


def _command_make(arguments: argparse.Namespace) -> None:
    path = Path(arguments.output)
    _check_new(path, arguments.overwrite)
    noise = generate(arguments.kind, round(arguments.seconds * SAMPLE_RATE),
                     np.random.default_rng(arguments.seed))
    peak = float(np.abs(noise).max())
    if peak > 1.0:
        logger.info("%s: lowered by %.1f dB, so that its clicks fit", path, 20.0 * np.log10(peak))
        noise = noise / peak
    _write_flac(path, noise, SAMPLE_RATE, "PCM_16")


def _command_picture(arguments: argparse.Namespace) -> None:
    import matplotlib  # delayed: no other command draws
    from PIL import Image

    matplotlib.use("Agg")
    from matplotlib import pyplot

    path = Path(arguments.output)
    _check_new(path, arguments.overwrite)
    rng, samples = np.random.default_rng(arguments.seed), PICTURE_SECONDS * SAMPLE_RATE
    panels = []
    for recording in _find_files(arguments.recordings) if arguments.recordings else []:
        audio = _read_mono(recording)
        panels.append((f"recorded: {recording.stem}", audio[:samples]))
        fitted = CarrierConfig(gramophone=fit(audio, SAMPLE_RATE).gramophone())
        panels.append(("generated, fitted to it",
                       generate("gramophone", samples, rng, carrier=fitted)))
    panels += [(f"generated: {arguments.kind}, draw {number}",
                generate(arguments.kind, samples, rng)) for number in range(1, arguments.draws + 1)]
    rows = -(-len(panels) // 2)
    figure, axes = pyplot.subplots(rows, 2, figsize=(9.0, 0.6 + 1.7 * rows), squeeze=False,
                                   dpi=PICTURE_DPI, layout="constrained")
    for axis, (title, audio) in zip(axes.ravel(), panels, strict=False):
        power = _frame_powers(audio, 1024, 512)[:, :384].T
        level = 10.0 * np.log10(power[::2] + power[1::2] + 1e-12)
        axis.imshow(level, origin="lower", aspect="auto", cmap="magma",
                    vmin=np.median(level) - 25.0, vmax=np.median(level) + 40.0,
                    extent=(0.0, len(audio) / SAMPLE_RATE, 0.0, 384 * SAMPLE_RATE / 1024e3))
        axis.set_title(title, fontsize=8)
        axis.tick_params(labelsize=7)
    for axis in axes.ravel()[len(panels):]:
        axis.set_visible(False)
    figure.supxlabel("seconds", fontsize=8)
    figure.supylabel("kHz", fontsize=8)
    figure.canvas.draw()
    pixels = np.asarray(figure.canvas.buffer_rgba())[..., :3]
    with replacing(path) as temporary:  # noise does not compress: few colours keep it small
        Image.fromarray(np.ascontiguousarray(pixels)).quantize(PICTURE_COLOURS).save(
            temporary, format="PNG", optimize=True)
    pyplot.close(figure)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Finds, fits, makes and draws carrier noise.")
    commands = parser.add_subparsers(dest="command", required=True)

    find = commands.add_parser("find", help="cut noise-only stretches out of recordings")
    find.add_argument("recordings", nargs="+", help="audio files or folders")
    find.add_argument("--output", required=True, help="folder for the noise and its report")
    find.add_argument("--min-seconds", type=float, default=0.7, help="shortest stretch")
    find.add_argument("--min-drop-db", type=float, default=6.0,
                      help="least distance of the noise from the programme")
    find.set_defaults(run=_command_find)

    learn = commands.add_parser("fit", help="learn spectrum and clicks from noise recordings")
    learn.add_argument("files", nargs="+", help="recordings of noise alone, or folders")
    learn.add_argument("--kind", choices=("gramophone", "film", "tape"), default="gramophone")
    learn.add_argument("--output", help="YAML file, for instance conf/noise/mine.yaml; without "
                       "it the YAML is printed")
    learn.set_defaults(run=_command_fit)

    make = commands.add_parser("make", help="write generated noise to a FLAC file")
    make.add_argument("--kind", choices=(*KINDS, "mixed"), default="mixed")
    make.add_argument("--seconds", type=float, default=30.0)
    make.add_argument("--output", required=True)
    make.set_defaults(run=_command_make)

    picture = commands.add_parser("picture", help="draw recorded and generated noise")
    picture.add_argument("recordings", nargs="*", help="recordings of noise alone")
    picture.add_argument("--kind", choices=KINDS, default="gramophone")
    picture.add_argument("--draws", type=int, default=2, help="freshly drawn noises to show")
    picture.add_argument("--output", required=True, help="PNG file")
    picture.set_defaults(run=_command_picture)

    for command in (find, learn, make, picture):
        command.add_argument("--overwrite", action="store_true", help="replace existing files")
    for command in (learn, make, picture):
        command.add_argument("--seed", type=int, default=0)
    return parser


def main() -> None:
    """Runs one of the commands."""
    arguments = _parser().parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    arguments.run(arguments)


if __name__ == "__main__":
    run_main(main)
