"""The parts that noise is added up from: spectra, hiss, waves, rumble and impulses.

`carriers.py` draws from these what a noise consists of; `docs/noise.md` names their sources.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import scipy

from historical_denoiser.audio.dsp import to_gain

LEVEL_HZ = 1000.0  # levels are relative to the RMS of the hiss above this frequency
BAND_HZ = 1000.0 * 10.0 ** (np.arange(-15, 14) / 10.0)  # centres of the third octaves
TAPS = 4097  # of the filter that colours hiss
CHUNK = 29504  # samples rendered at once; with TAPS a fast transform, and three make two seconds
COARSE = 64  # samples between the points of what changes slowly
POINTS = CHUNK // COARSE  # of these in a chunk
SINC_TAPS = 16  # of the interpolation between them
SHAPES = 48  # different clicks in one noise
SECOND_PULSE_CHANCE = 0.2  # of a click
THUMPS = 4  # different ones in one noise
THUMP_SECONDS = 0.85
JOLT_CHANCE = 0.4  # of thumps that begin with one, as after a scratch or splice
SWELL_HZ, SWELL_SECONDS = (12.0, 100.0), (0.08, 0.8)  # of the others
SWELL_ATTACK = (0.05, 0.6)  # share of its length in which a swell rises
BURSTS = 24  # different strokes in one noise
DIPS = 12  # different dropouts in one noise
LOUDEST_DB = 75.0  # highest peak of a click or thump
MEASURED_CHUNKS = 3  # over which a part's own level is measured: two seconds


def draw(rng: np.random.Generator, bounds: Sequence[float]) -> float:
    """Draws evenly between two bounds."""
    return float(rng.uniform(bounds[0], bounds[1]))


def draw_rate(rng: np.random.Generator, bounds: Sequence[float]) -> float:
    """Draws evenly in the logarithm where the range does not reach 0."""
    if bounds[0] <= 0.0:
        return draw(rng, bounds)
    return float(np.exp(rng.uniform(np.log(bounds[0]), np.log(bounds[1]))))


# --- Spectra ---------------------------------------------------------------------------------


def grid_hz(sample_rate: int, taps: int = TAPS) -> np.ndarray:
    """Returns the frequencies at which a hiss's spectrum is given; 10 Hz in place of 0 Hz."""
    return np.maximum(scipy.fft.rfftfreq(taps - 1, 1.0 / sample_rate), 10.0)


def interpolate_db(frequency_hz: np.ndarray, levels_db: Sequence[float],
                   knots_hz: Sequence[float] = BAND_HZ) -> np.ndarray:
    """Interpolates levels at `knots_hz` over the logarithm of the frequency."""
    return np.interp(np.log2(frequency_hz), np.log2(knots_hz), levels_db)


def academy_db(frequency_hz: np.ndarray) -> np.ndarray:
    """Returns the Academy curve of 1938 in dB.

    Flat from 100 Hz to 1.6 kHz, -7 dB at 40 Hz, -10 dB at 5 kHz, -18 dB at 8 kHz; below 40 Hz and
    above 8 kHz it falls on at the same slope.
    """
    return interpolate_db(frequency_hz, [-17.6, -7.0, 0.0, 0.0, -10.0, -18.0, -29.8],
                          [10.0, 40.0, 100.0, 1600.0, 5000.0, 8000.0, 16000.0])


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


def band_pass_db(frequency_hz: np.ndarray, low_hz: float, high_hz: float,
                 orders: Sequence[float]) -> np.ndarray:
    """Returns the loss of a Butterworth high-pass at `low_hz` and a low-pass at `high_hz` in dB."""
    # A high-pass is the low-pass of the inverse of the frequency.
    return (low_pass_db(1.0 / frequency_hz, 1.0 / low_hz, orders[0])
            + low_pass_db(frequency_hz, high_hz, orders[1]))


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
    cepstrum = scipy.fft.irfft(level_db * (np.log(10.0) / 20.0))
    half = len(cepstrum) // 2
    cepstrum[1:half] *= 2.0
    cepstrum[half + 1:] = 0.0
    return scipy.fft.irfft(np.exp(scipy.fft.rfft(cepstrum)))[:taps]


# --- Parts -----------------------------------------------------------------------------------

Part = Iterator[np.ndarray]  # an endless signal in chunks `(CHUNK,)`, float32, without seams
OFFSETS = np.arange(CHUNK, dtype=np.float32)  # of samples from the start of a chunk


def part(generator: Callable[..., Iterator]) -> Callable[..., Iterator]:
    """Decorates a generator function: it runs as far as its first, bare `yield` when it is called.

    Parts share one source of randomness, so the order of their draws decides what noise it is; a
    plain generator would draw nothing before its first chunk.
    """
    @functools.wraps(generator)
    def start(*args: object, **kwargs: object) -> Iterator:
        chunks = generator(*args, **kwargs)
        next(chunks)
        return chunks

    return start


def multiply(chunks: Part, gains: Part) -> Part:
    """Returns a part multiplied by gains that change."""
    return map(np.multiply, chunks, gains)


def render(chunks: Part, samples: int) -> np.ndarray:
    """Returns the next `samples` of a part, `(samples,)`; what is left of a chunk is lost."""
    return np.concatenate([next(chunks) for _ in range(-(-samples // CHUNK))])[:samples]


def add(first: Part, second: Part) -> Part:
    """Returns the sum of two parts."""
    return map(np.add, first, second)


def amplify(chunks: Part, gain_db: float) -> Part:
    """Returns a part at another level."""
    gain = np.float32(to_gain(gain_db))
    return (gain * chunk for chunk in chunks)


def at_unit_level(chunks: Part) -> Part:
    """Returns a part with an RMS of 1 over its first two seconds, which must not be silent."""
    first = [next(chunks) for _ in range(MEASURED_CHUNKS)]
    gain = np.float32(1.0 / np.sqrt(np.mean(np.square(first, dtype=np.float64))))
    return (gain * chunk for chunk in itertools.chain(first, chunks))


@part
def hiss(rng: np.random.Generator, sample_rate: int, level_db: np.ndarray,
         above_hz: float = LEVEL_HZ) -> Part:
    """Stationary Gaussian noise, coloured by overlap-save; its RMS above `above_hz` is 1.

    `level_db` is its spectrum at the frequencies of `grid_hz`.
    """
    length = 2 * (len(level_db) - 1)  # of the filter
    size = CHUNK + length
    kernel = np.roll(scipy.fft.irfft(to_gain(level_db)), length // 2) * np.hanning(length)
    response = scipy.fft.rfft(kernel, size)
    power = 2.0 * np.sum(np.abs(response[int(above_hz / sample_rate * size):]) ** 2) / size
    response = (response / np.sqrt(power)).astype(np.complex64)
    last = rng.standard_normal(length, dtype=np.float32)
    yield
    while True:
        white = np.concatenate([last, rng.standard_normal(CHUNK, dtype=np.float32)])
        last = white[CHUNK:]
        yield scipy.fft.irfft(scipy.fft.rfft(white) * response)[length:]


@part
def swing(rng: np.random.Generator, sample_rate: int, wander_db: float,
          pattern_db: Sequence[float] = (0.0, 0.0), turn_seconds: float = 1.0) -> Part:
    """Gains that change slowly: a pattern that repeats with each turn, plus a random walk.

    `pattern_db` has levels at equal distances over one turn; `wander_db` is the standard deviation
    of the walk.
    """
    step = COARSE / sample_rate / turn_seconds
    pattern_db = np.append(pattern_db, pattern_db[0])
    place = np.linspace(0.0, 1.0, len(pattern_db))
    ramp = np.arange(1, COARSE + 1, dtype=np.float32) / COARSE
    turns, level_db, last = rng.uniform(), 0.0, None
    yield
    while True:
        next_db = 0.9 * level_db + 0.44 * wander_db * rng.normal()
        wander = np.linspace(level_db, next_db, POINTS + 1)[1:]
        moments = turns + step * np.arange(1, POINTS + 1)
        turns, level_db = moments[-1] % 1.0, next_db
        gains = to_gain(wander + np.interp(moments % 1.0, place, pattern_db)).astype(np.float32)
        start = np.concatenate([gains[:1] if last is None else last, gains[:-1]])
        last = gains[-1:]
        yield (start[:, None] + (gains - start)[:, None] * ramp).ravel()


@part
def wave(rng: np.random.Generator, sample_rate: int, frequency_hz: float,
         harmonics_db: np.ndarray, drift: float = 0.0, is_pulsed: bool = False) -> Part:
    """A periodic wave of RMS 1 from the levels of its fundamental and the harmonics above it.

    Phases are random, or all 0 if it `is_pulsed`: the harmonics then add up to one pulse in each
    period. `drift` is the share of its frequency by which the pitch wanders.
    """
    step, count = frequency_hz / sample_rate, len(harmonics_db)
    size = scipy.fft.next_fast_len(max(2048, 64 * count), real=True)
    spectrum = np.zeros(size // 2 + 1, np.complex128)
    turns = rng.uniform(size=count) * (not is_pulsed)
    spectrum[1:count + 1] = to_gain(harmonics_db) * np.exp(2j * np.pi * turns)
    table = scipy.fft.irfft(spectrum, size)
    table /= np.sqrt(np.mean(table**2))
    table = np.append(table, table[0]).astype(np.float32)
    phase, last_bend = rng.uniform(), 0.0
    yield
    while True:
        bend = 0.8 * last_bend + 0.6 * drift * rng.normal()
        # Single precision is fast, and exact to 1e-5 of a period within a chunk.
        place = (bend - last_bend) / (2.0 * CHUNK) * OFFSETS
        place += 1.0 + last_bend
        place *= OFFSETS
        place *= size * step
        place += size * phase
        phase = (phase + step * CHUNK * (1.0 + 0.5 * (last_bend + bend))) % 1.0
        last_bend = bend
        index = place.astype(np.int32)
        place -= index
        index %= size
        low = table[index]
        index += 1
        yield low + (table[index] - low) * place


def make_hum(rng: np.random.Generator, sample_rate: int, frequency_hz: float, harmonics: int,
             slope_db_per_octave: float, drift: float = 0.0,
             band_db: Callable[[np.ndarray], np.ndarray] | None = None,
             is_pulsed: bool = False) -> Part:
    """Draws a hum or buzz: harmonics that fall with a slope, each with a random deviation in dB.

    `harmonics` counts the fundamental; those above 0.45 of the rate are left out. `band_db` gives
    the levels of the playback chain at frequencies, `is_pulsed` is that of `wave`.
    """
    harmonics = max(1, min(harmonics, int(0.45 * sample_rate / frequency_hz)))
    order = np.arange(1, harmonics + 1)
    level = slope_db_per_octave * np.log2(order) + rng.normal(0.0, 6.0, harmonics)
    level[order % 2 == rng.integers(2)] += rng.uniform(0.0, 10.0)
    if band_db is not None:
        level = level + band_db(frequency_hz * order)
    return wave(rng, sample_rate, frequency_hz, level, drift, is_pulsed)


@part
def rumble(rng: np.random.Generator, sample_rate: int, turn_seconds: float, depth: float,
           between_hz: Sequence[float], ring_seconds: Sequence[float]) -> Part:
    """Noise of RMS 1 around three frequencies `between_hz`: resonances of arm, plinth and motor.

    `depth`, 0 to 1, is how much its level changes over a turn, `ring_seconds` the range of the time
    constants with which the resonances decay: the longer, the narrower they are. It is rendered at
    one 64th of the rate and interpolated with a windowed sinc, so that it ends below 300 Hz.
    """
    rate = sample_rate / COARSE
    time = np.arange(256) / rate
    kernel = np.zeros(256)
    for _ in range(3):
        frequency = np.exp(rng.uniform(*np.log(between_hz)))
        kernel += rng.uniform(0.2, 1.0) * np.exp(-time / rng.uniform(*ring_seconds)) * np.cos(
            2.0 * np.pi * (frequency * time + rng.uniform()))
    kernel -= np.hanning(256) * kernel.sum() / np.hanning(256).sum()  # nothing at 0 Hz
    kernel /= np.sqrt(np.sum(kernel**2))
    white = rng.standard_normal(len(kernel) - 1)
    step, turns = 1.0 / (rate * turn_seconds), rng.uniform()
    position = (np.arange(SINC_TAPS)[:, None] - (SINC_TAPS // 2 - 1)
                - np.arange(COARSE) / COARSE)
    interpolator = (np.sinc(position) * np.cos(np.pi * position / SINC_TAPS) ** 2).astype(
        np.float32)
    slow = np.zeros(SINC_TAPS - 1, np.float32)
    yield
    while True:
        white = np.concatenate([white[1 - len(kernel):], rng.standard_normal(POINTS)])
        sway = 1.0 + depth * np.sin(2.0 * np.pi * (turns + step * np.arange(POINTS)))
        turns = (turns + step * POINTS) % 1.0
        new = (sway * np.convolve(white, kernel, "valid")).astype(np.float32)
        slow = np.concatenate([slow[1 - SINC_TAPS:], new])
        windows = np.lib.stride_tricks.sliding_window_view(slow, SINC_TAPS)
        yield (windows @ interpolator).ravel()


@part
def _scratches(rng: np.random.Generator, per_turn: float, turn_samples: float, median_db: float,
               spread_db: float, shapes: int) -> Iterator[tuple[np.ndarray, ...]]:
    """Impulses that come back once a turn, for some turns: moments, levels, shapes and signs."""
    begin = rng.uniform()  # in turns
    count, mean_turns = rng.poisson(per_turn), rng.uniform(3.0, 40.0)
    angle, first, last, level_db, shape, sign = sites = np.zeros((6, count))

    def renew(which: np.ndarray, from_turn: np.ndarray) -> None:
        """Draws new scratches in place of those that have ended."""
        size = len(from_turn)
        sites[:, which] = [
            rng.uniform(size=size), from_turn, from_turn + rng.geometric(1.0 / mean_turns, size),
            rng.normal(median_db, spread_db, size), rng.integers(shapes, size=size),
            rng.choice([-1.0, 1.0], size)]

    renew(np.ones(count, bool), np.zeros(count))
    yield
    while True:
        end = begin + CHUNK / turn_samples
        turn = np.arange(int(begin) - 1, int(end) + 1)[:, None]
        moment = turn + angle
        alive = (turn >= first) & (turn <= last)
        now = np.nonzero(alive & (moment >= begin) & (moment < end))
        onset = np.minimum(((moment[now] - begin) * turn_samples).astype(np.int64), CHUNK - 1)
        site = now[1]
        found = (onset, level_db[site] + rng.normal(0.0, 1.5, len(onset)),
                 shape[site].astype(np.int64), sign[site])
        ended = last < int(end) - 1
        renew(ended, int(end) + rng.integers(0, 3, int(ended.sum())))
        begin = end
        yield found


class _Impulses:
    """Adds shapes from a bank `(shapes, samples)` into chunks; what juts out goes into the next."""

    def __init__(self, bank: np.ndarray) -> None:
        self.bank = bank.astype(np.float32)
        self.tail = np.zeros(0)

    def render(self, onset: np.ndarray, shape: np.ndarray, amplitude: np.ndarray) -> np.ndarray:
        """Returns a chunk of impulses that begin at the samples `onset`."""
        length = self.bank.shape[1]
        out = np.bincount((onset[:, None] + np.arange(length)).ravel(),
                          (self.bank[shape] * amplitude[:, None].astype(np.float32)).ravel(),
                          max(CHUNK, len(self.tail)) + length).astype(float, copy=False)
        out[:len(self.tail)] += self.tail
        self.tail = out[CHUNK:]
        return out[:CHUNK].astype(np.float32)


@part
def events(rng: np.random.Generator, sample_rate: int, per_second: float, median_db: float,
           spread_db: float, bank: np.ndarray, turn_seconds: float = 1.0,
           locked_share: float = 0.0, burst: float = 0.4, signed: bool = True,
           loudest_db: float = LOUDEST_DB, is_alone: bool = False) -> Part:
    """Impulses at random moments, with shapes from a bank `(shapes, samples)` of peak 1.

    Arrivals are a Poisson process whose rate varies; peaks are log-normal, with a heavy tail. A
    share is locked to the turn: a scratch that crosses many grooves is heard once a turn, for
    some turns, at nearly the same level.

    `per_second` is the mean rate and `burst` the standard deviation of its logarithm. If `signed`,
    half of the impulses point down. If it `is_alone`, every chunk has one, however low the rate:
    with nothing under them, more than 1.4 s between two would be digital silence.
    """
    impulses = _Impulses(bank)
    per_chunk = per_second * (1.0 - locked_share) * CHUNK / sample_rate
    mood = rng.normal()
    locked = _scratches(rng, per_second * locked_share * turn_seconds, turn_seconds * sample_rate,
                        median_db, spread_db, len(bank))
    yield
    while True:
        mood = 0.7 * mood + 0.71 * rng.normal()
        count = rng.poisson(per_chunk * np.exp(burst * mood - 0.5 * burst**2))
        if is_alone:
            count = max(count, 1)
        drawn = (rng.integers(CHUNK, size=count), rng.normal(median_db, spread_db, count),
                 rng.integers(len(bank), size=count), rng.choice([-1.0, 1.0], count))
        if locked_share:
            drawn = map(np.concatenate, zip(drawn, next(locked), strict=True))
        onset, level, shape, sign = drawn
        amplitude = to_gain(np.minimum(level, loudest_db)) * (sign if signed else 1.0)
        yield impulses.render(onset, shape, amplitude)


@part
def strokes(rng: np.random.Generator, sample_rate: int, per_second: float, jitter: float,
            spread_db: float, bank: np.ndarray) -> Part:
    """Impulses of a mechanism at regular moments, with shapes from a bank of peak 1.

    Args:
        rng: Source of all randomness.
        sample_rate: Samples per second.
        per_second: Strokes in a second.
        jitter: Standard deviation of the moments, as a share of the time between two.
        spread_db: Standard deviation of the peaks, whose median is 0 dB.
        bank: Shapes `(shapes, samples)`; each stroke has one of them.
    """
    impulses, step = _Impulses(bank), sample_rate / per_second
    due = rng.uniform(0.0, step)
    yield
    while True:
        regular = np.arange(due, CHUNK, step)
        due += step * len(regular) - CHUNK
        count = len(regular)
        onset = np.clip(regular + jitter * step * rng.normal(size=count), 0, CHUNK - 1).astype(int)
        yield impulses.render(onset, rng.integers(len(bank), size=count),
                              to_gain(spread_db * rng.normal(size=count)))


def impulse_bank(rng: np.random.Generator, sample_rate: int, pulse_ms: Sequence[float],
                 band_db: Callable[[np.ndarray], np.ndarray] | None = None) -> np.ndarray:
    """Draws shapes of clicks like those on recordings, `(SHAPES, samples)` with peak 1.

    Each is a short pulse, a slower swing back so that their sum is about 0, ringing of the pick-up
    and sometimes a second pulse; five to ten pulse lengths in all. `pulse_ms` is the range of the
    pulse's length, `band_db` gives the levels of the playback chain at frequencies.
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
        grid = np.maximum(scipy.fft.rfftfreq(256, 1.0 / sample_rate), 10.0)
        kernel = minimum_phase(band_db(grid), 64)
        wave = scipy.signal.fftconvolve(wave, kernel[None], axes=1)[:, :samples + len(kernel) // 2]
    return wave / np.abs(wave).max(axis=1, keepdims=True)


def thump_bank(rng: np.random.Generator, sample_rate: int) -> np.ndarray:
    """Draws low-frequency pulses, `(THUMPS, samples)` with peak 1.

    Either the pulse after a scratch or splice: a short jolt, then an oscillation whose frequency
    and amplitude fall exponentially, as the resonance of arm and pick-up dies away. Or a swell of
    several cycles, 0.08 to 0.8 s long, with a soft or hard onset and nothing above 150 Hz, as
    measured on shellac discs (de Carvalho et al. 2021 call both "long pulses").
    """
    time = np.arange(int(THUMP_SECONDS * sample_rate), dtype=np.float32) / sample_rate
    bank = np.empty((THUMPS, len(time)), np.float32)
    is_jolt = rng.uniform() < JOLT_CHANCE
    centre_hz, length = draw_rate(rng, SWELL_HZ), draw_rate(rng, SWELL_SECONDS)
    attack, depth = draw_rate(rng, SWELL_ATTACK), rng.uniform(0.0, 1.0)
    for row in bank:
        if is_jolt:
            row[:] = _draw_jolt(rng, time)
        else:
            row[:] = _draw_swell(rng, time, centre_hz * draw_rate(rng, (0.75, 1.33)),
                                 length * draw_rate(rng, (0.6, 1.6)), attack, depth)
        row /= np.abs(row).max()
        if is_jolt:
            jolt = time[:int(0.002 * sample_rate)]
            row[:len(jolt)] += rng.uniform(0.0, 0.5) * np.exp(-jolt / 2e-4) * np.sin(
                2.0 * np.pi * rng.uniform(1000.0, 5000.0) * jolt)
            row /= np.abs(row).max()
    return bank


def _draw_jolt(rng: np.random.Generator, time: np.ndarray) -> np.ndarray:
    high, low = rng.uniform(40.0, 120.0), rng.uniform(10.0, 30.0)
    fall, decay = rng.uniform(0.01, 0.05), rng.uniform(0.015, 0.06)
    turns = low * time + (high - low) * fall * (1.0 - np.exp(-time / fall))
    wave = np.sin(2.0 * np.pi * (turns + rng.uniform(0.0, 0.5))) * np.exp(-time / decay)
    return wave * np.minimum(1.0, time / 0.002) * np.minimum(1.0, (time[-1] - time) / 0.05)


def _draw_swell(rng: np.random.Generator, time: np.ndarray, hz: float, length: float,
                attack: float, depth: float) -> np.ndarray:
    """Draws a tone whose pitch wanders by up to a quarter, under an envelope that ends in time."""
    length = min(length, 0.95 * time[-1])
    place = np.clip(time / length, 0.0, 1.0)
    envelope = np.where(place < attack, np.sin(0.5 * np.pi * place / attack),
                        np.cos(0.5 * np.pi * (place - attack) / (1.0 - attack))) ** 2
    knots = rng.normal(0.0, 1.0, 6)
    bend = 1.0 + 0.25 * depth * np.interp(place, np.linspace(0.0, 1.0, 6), np.tanh(knots))
    phase = np.cumsum(hz * bend) * (time[1] - time[0]) + rng.uniform()
    wave = np.sin(2.0 * np.pi * phase)
    if depth > 0.5:  # beside the tone a second one, with which it beats
        wave += rng.uniform(0.0, 0.8) * np.sin(2.0 * np.pi * phase * draw_rate(rng, (0.5, 2.0)))
    return envelope * wave


def dip_bank(rng: np.random.Generator, sample_rate: int, length_ms: Sequence[float]) -> np.ndarray:
    """Draws the shapes of dropouts, `(DIPS, samples)`: a smooth dip of depth 1."""
    samples = int(1e-3 * length_ms[1] * sample_rate)
    bank = np.zeros((DIPS, samples), np.float32)
    for row in bank:
        length = max(8, int(1e-3 * np.exp(rng.uniform(*np.log(length_ms))) * sample_rate))
        row[:length] = np.minimum(1.0, 2.0 * np.hanning(length))[:samples]
    return bank


def burst_bank(rng: np.random.Generator, sample_rate: int, burst_ms: float,
               band_hz: Sequence[float], is_tonal: bool, shapes: int = BURSTS) -> np.ndarray:
    """Draws bursts of noise, or tones that decay, `(shapes, samples)` with peak 1.

    They sound like metal, wood or paper that is struck: claws, shutters, splices that pass a gate.

    Args:
        rng: Source of all randomness.
        sample_rate: Samples per second.
        burst_ms: Length, from which that of each shape differs by up to 40 %.
        band_hz: Edges of the band that they are limited to, with skirts of 12 dB an octave.
        is_tonal: Whether they are tones of about one pitch, which ring three times as long.
        shapes: How many.
    """
    column, edges_hz = (shapes, 1), np.clip(band_hz, 1.0, 0.49 * sample_rate)
    length = 1e-3 * burst_ms * np.exp(rng.uniform(np.log(0.7), np.log(1.4), column))
    ringing = 3.0 if is_tonal else 1.0
    samples = max(16, int(1.4e-3 * burst_ms * ringing * sample_rate))
    time = np.arange(samples, dtype=np.float32) / sample_rate
    decay = np.exp(-time / (length * rng.uniform(0.2, 0.5, column)))
    if is_tonal:
        hz = draw_rate(rng, [max(edges_hz[0], 60.0), min(edges_hz[1], 8000.0)])
        wave = decay * np.sin(2.0 * np.pi * hz * rng.uniform(0.9, 1.1, column) * time
                              + rng.uniform(0.0, 2.0 * np.pi, column))
    else:
        swell = np.square(np.sin(np.pi * np.minimum(time / length, 1.0)))
        wave = (decay if rng.uniform() < 0.5 else swell) * rng.standard_normal((shapes, samples))
    band = scipy.signal.butter(2, edges_hz, "bandpass", fs=sample_rate, output="sos")
    wave = scipy.signal.sosfilt(band, wave)
    wave *= np.minimum(1.0, np.arange(samples)[::-1] / (0.2 * samples))
    return wave / np.abs(wave).max(axis=1, keepdims=True)
