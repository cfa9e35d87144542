"""The parts that noise is added up from: spectra, hiss, waves, rumble and impulses.

`carriers.py` draws from these what a noise consists of; `docs/noise.md` names their sources.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from scipy import fft

LEVEL_HZ = 1000.0  # levels are relative to the RMS of the hiss above this frequency
BAND_HZ = 1000.0 * 10.0 ** (np.arange(-15, 14) / 10.0)  # centres of the third octaves
TAPS = 4097  # of the filter that colours hiss
CHUNK = 29504  # samples rendered at once; with TAPS a fast transform, and three make two seconds
COARSE = 64  # samples between the points of what changes slowly
SHAPES = 48  # different clicks in one noise
SECOND_PULSE_CHANCE = 0.2
THUMPS = 4  # different ones in one noise
DIPS = 12  # different dropouts in one noise
LOUDEST_DB = 54.0  # highest peak of a click or thump


def draw(rng: np.random.Generator, bounds: Sequence[float]) -> float:
    """Draws evenly between two bounds."""
    return float(rng.uniform(bounds[0], bounds[1]))


def draw_rate(rng: np.random.Generator, bounds: Sequence[float]) -> float:
    """Draws evenly in the logarithm where the range does not reach 0."""
    if bounds[0] <= 0.0:
        return draw(rng, bounds)
    return float(np.exp(rng.uniform(np.log(bounds[0]), np.log(bounds[1]))))


def to_gain(decibels: np.ndarray | float) -> np.ndarray | float:
    """Returns the factor that `decibels` stand for."""
    return 10.0 ** (decibels / 20.0)


# --- Spectra ---------------------------------------------------------------------------------


def grid_hz(sample_rate: int) -> np.ndarray:
    """Returns the frequencies at which a hiss's spectrum is given; 10 Hz in place of 0 Hz."""
    return np.maximum(fft.rfftfreq(TAPS - 1, 1.0 / sample_rate), 10.0)


def interpolate_bands(levels_db: Sequence[float], frequency_hz: np.ndarray) -> np.ndarray:
    """Interpolates third-octave levels (at `BAND_HZ`) over the logarithm of the frequency."""
    return np.interp(np.log2(frequency_hz), np.log2(BAND_HZ), levels_db)


def academy_db(frequency_hz: np.ndarray) -> np.ndarray:
    """Returns the Academy curve of 1938 in dB.

    Flat from 100 Hz to 1.6 kHz, -7 dB at 40 Hz, -10 dB at 5 kHz, -18 dB at 8 kHz; below 40 Hz and
    above 8 kHz it falls on at the same slope.
    """
    knots_hz = [10.0, 40.0, 100.0, 1600.0, 5000.0, 8000.0, 16000.0]
    knots_db = [-17.6, -7.0, 0.0, 0.0, -10.0, -18.0, -29.8]
    return np.interp(np.log2(frequency_hz), np.log2(knots_hz), knots_db)


def slit_db(frequency_hz: np.ndarray, slit_um: float, film_mm_per_second: float) -> np.ndarray:
    """Returns the loss of a scanning beam in dB: a sinc of its width over the wavelength."""
    wavelength_um = 1000.0 * film_mm_per_second / frequency_hz
    return 20.0 * np.log10(np.maximum(np.abs(np.sinc(slit_um / wavelength_um)), 1e-2))


def disc_replay_db(frequency_hz: np.ndarray, bass_hz: float, treble_hz: float) -> np.ndarray:
    """Returns a disc's replay equalisation in dB.

    Bass is boosted below `bass_hz` (down to 50 Hz) and treble falls above `treble_hz`; 0: neither.
    """
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


def low_pass_db(frequency_hz: np.ndarray, cutoff_hz: float, order: float) -> np.ndarray:
    """Returns the loss of a Butterworth low-pass in dB; its order need not be whole."""
    return -10.0 * np.log10(1.0 + (frequency_hz / cutoff_hz) ** (2.0 * order))


def draw_colour_db(rng: np.random.Generator, frequency_hz: np.ndarray, tilt_db_per_octave: float,
                   height_db: float) -> np.ndarray:
    """Draws a random tilt and two broad random bumps: no two machines sound alike."""
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
OFFSETS = np.arange(CHUNK, dtype=np.float32)  # of samples from the start of a chunk


class Part(Protocol):
    """An endless signal that is rendered chunk by chunk, without seams between the chunks."""

    def render(self) -> np.ndarray:
        """Returns the next samples, `(CHUNK,)`, float32."""


def render(part: Part, samples: int) -> np.ndarray:
    """Returns the next `samples` of a part, `(samples,)`; what is left of a chunk is lost."""
    return np.concatenate([part.render() for _ in range(-(-samples // CHUNK))])[:samples]


class Hiss(Part):
    """Stationary Gaussian noise, coloured by overlap-save; its RMS above 1 kHz is 1.

    Args:
        rng: Source of randomness.
        sample_rate: Samples per second.
        level_db: Spectrum at the frequencies of `grid_hz`.
    """

    def __init__(self, rng: np.random.Generator, sample_rate: int, level_db: np.ndarray) -> None:
        self.rng = rng
        kernel = np.roll(fft.irfft(to_gain(level_db)), (TAPS - 1) // 2) * np.hanning(TAPS - 1)
        response = fft.rfft(kernel, CHUNK + TAPS - 1)
        above = int(LEVEL_HZ / sample_rate * (CHUNK + TAPS - 1))
        power = 2.0 * np.sum(np.abs(response[above:]) ** 2) / (CHUNK + TAPS - 1)
        self.response = (response / np.sqrt(power)).astype(np.complex64)
        self.last = rng.standard_normal(TAPS - 1, dtype=np.float32)

    def render(self) -> np.ndarray:
        white = np.concatenate([self.last, self.rng.standard_normal(CHUNK, dtype=np.float32)])
        self.last = white[CHUNK:]
        return fft.irfft(fft.rfft(white) * self.response)[TAPS - 1:]


class Swing(Part):
    """Gains that change slowly: a pattern that repeats with each turn, plus a random walk.

    Args:
        rng: Source of randomness.
        sample_rate: Samples per second.
        wander_db: Standard deviation of the random walk.
        pattern_db: Levels at equal distances over one turn.
        turn_seconds: Length of a turn.
    """

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
        gains = to_gain(level).astype(np.float32)
        start = np.concatenate([[gains[0] if self.last is None else self.last], gains[:-1]])
        self.last = gains[-1]
        ramp = np.arange(1, COARSE + 1, dtype=np.float32) / COARSE
        return (start[:, None] + (gains - start)[:, None] * ramp).ravel().astype(np.float32)


class SwingingHiss(Part):
    """Hiss whose level changes: it swings slowly, and dropouts may interrupt it.

    Args:
        hiss: The steady hiss.
        swing: Gains by which it is multiplied.
        dropouts: By how many dB it is lowered.
    """

    def __init__(self, hiss: Hiss, swing: Swing, dropouts: Events | None = None) -> None:
        self.hiss, self.swing, self.dropouts = hiss, swing, dropouts

    def render(self) -> np.ndarray:
        audio = self.hiss.render()
        audio *= self.swing.render()
        if self.dropouts is not None:
            audio *= to_gain(-self.dropouts.render())
        return audio


class Wave(Part):
    """A periodic wave of RMS 1 from the amplitudes of its harmonics; its pitch may drift.

    Args:
        rng: Source of randomness, also of the harmonics' phases.
        sample_rate: Samples per second.
        frequency_hz: Of the fundamental.
        harmonics_db: Levels of the fundamental and the harmonics above it.
        drift: Share of its frequency by which the pitch wanders.
    """

    def __init__(self, rng: np.random.Generator, sample_rate: int, frequency_hz: float,
                 harmonics_db: np.ndarray, drift: float = 0.0) -> None:
        self.rng, self.step, self.drift = rng, frequency_hz / sample_rate, drift
        size = fft.next_fast_len(max(2048, 64 * len(harmonics_db)), real=True)
        spectrum = np.zeros(size // 2 + 1, np.complex128)
        spectrum[1:len(harmonics_db) + 1] = to_gain(harmonics_db) * np.exp(
            2j * np.pi * rng.uniform(size=len(harmonics_db)))
        table = fft.irfft(spectrum, size)
        table /= np.sqrt(np.mean(table**2))
        self.table = np.append(table, table[0]).astype(np.float32)
        self.phase, self.bend = rng.uniform(), 0.0

    def render(self) -> np.ndarray:
        bend = 0.8 * self.bend + 0.6 * self.drift * self.rng.normal()
        # Single precision is fast, and exact to 1e-5 of a period within a chunk.
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


def make_hum(rng: np.random.Generator, sample_rate: int, frequency_hz: float, harmonics: int,
             slope_db_per_octave: float, drift: float = 0.0,
             band_db: Callable[[np.ndarray], np.ndarray] | None = None) -> Wave:
    """Draws a hum or buzz: harmonics that fall with a slope, each with a random deviation in dB.

    Args:
        rng: Source of randomness.
        sample_rate: Samples per second; harmonics above 0.45 of it are left out.
        frequency_hz: Of the fundamental.
        harmonics: How many, with the fundamental.
        slope_db_per_octave: Below 0 where they fall.
        drift: As of `Wave`.
        band_db: Levels of the playback chain at given frequencies.
    """
    harmonics = max(1, min(harmonics, int(0.45 * sample_rate / frequency_hz)))
    order = np.arange(1, harmonics + 1)
    level = slope_db_per_octave * np.log2(order) + rng.normal(0.0, 6.0, harmonics)
    level[order % 2 == rng.integers(2)] += rng.uniform(0.0, 10.0)
    if band_db is not None:
        level = level + band_db(frequency_hz * order)
    return Wave(rng, sample_rate, frequency_hz, level, drift)


class Rumble(Part):
    """Noise below 100 Hz of RMS 1: resonances of arm, plinth and motor; its level follows the turn.

    It is rendered at one 64th of the rate and interpolated with a windowed sinc.

    Args:
        rng: Source of randomness.
        sample_rate: Samples per second.
        turn_seconds: Length of a turn.
        depth: 0 to 1, how much the level changes over a turn.
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


class Events(Part):
    """Impulses at random moments, drawn from a bank of shapes `(shapes, samples)`.

    Arrivals are a Poisson process whose rate varies; peaks are log-normal, with a heavy tail. A
    share is locked to the turn: a scratch that crosses many grooves is heard once a turn, for
    some turns, at nearly the same level.

    Args:
        rng: Source of randomness.
        sample_rate: Samples per second.
        per_second: Mean rate.
        median_db: Median of the peaks.
        spread_db: Standard deviation of the peaks.
        bank: Shapes with peak 1; each impulse takes one of them.
        turn_seconds: Length of a turn.
        locked_share: Share of the impulses that come back.
        burst: Standard deviation of the logarithm of the rate.
        signed: Whether half of the impulses point down.
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
        amplitude = to_gain(np.minimum(level, LOUDEST_DB))
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
    """Draws shapes of clicks like those on recordings.

    Each is a short pulse, a slower swing back so that their sum is about 0, ringing of the pick-up
    and sometimes a second pulse; five to ten pulse lengths in all.

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
    """Draws the long pulses after a scratch or splice: a short jolt, then a decaying oscillation.

    Its frequency falls from `high` to `low` and its amplitude decays, both exponentially, as the
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
