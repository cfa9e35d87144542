"""The parts that make up a noise at 44.1 kHz: spectra, hiss, hum, rumble and impulses.

`carriers.py` draws the parts of a noise from these; `docs/noise_parts.md` lists the sources. Start
reading at `hiss`.
"""

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, ParamSpec, TypeVar

import numpy as np
import scipy

from historical_denoiser.audio.dsp import SAMPLE_RATE, minimum_phase, to_gain

Numbers = Sequence[float] | np.ndarray

LEVEL_HZ = 1000.0  # levels are relative to the RMS of the hiss above this frequency
BAND_HZ = 1000.0 * 10.0 ** (np.arange(-15, 14) / 10.0)  # centres of the third octaves
# Length of the filter that shapes hiss, and number of samples rendered at once. Together they have
# a length for which the FFT is fast; three chunks last two seconds.
TAPS = 4097
CHUNK = 29504
# Slow changes are computed once per 64 samples and interpolated; rumble is interpolated with a sinc
# of `SINC_TAPS` taps.
COARSE = 64
POINTS = CHUNK // COARSE
SINC_TAPS = 16
# Number of different clicks in one noise, and the share of them that have a second pulse.
SHAPES = 48
SECOND_PULSE_CHANCE = 0.2
# Thumps of one noise: how many differ, and their maximal length. In a share of the noises, they
# begin with an impulse, as after a scratch or a splice. The others are pulses with a frequency, a
# length, and an attack as a share of the length; in a share of the noises, a click precedes each.
THUMPS = 4
THUMP_SECONDS = 1.1
OSCILLATION_CHANCE, OSCILLATION_SECONDS = 0.4, 0.6
PULSE_HZ, PULSE_SECONDS = (12.0, 100.0), (0.08, 1.0)
PULSE_ATTACK = (0.05, 0.6)
CLICK_CHANCE, CLICK_MS, CLICK_PEAK = 0.3, (0.1, 0.5), (0.3, 3.0)  # peak relative to the thump's
# In a share of the noises, thumps come in trains: how many per train, and how many per second.
TRAIN_CHANCE, TRAIN_COUNT, TRAIN_PER_SECOND = 0.25, (3, 12), (1.2, 12.0)
MAX_LONE_REST = 1.3  # seconds between two trains without other noise; see `events`
# Number of different bursts of a mechanism, and of different dropouts, in one noise.
BURSTS = 24
DIPS = 12
# Highest peak of a click or thump.
LOUDEST_DB = 75.0
# The level of a part is measured over its first two seconds.
MEASURED_CHUNKS = 3


def draw(rng: np.random.Generator, bounds: Sequence[float]) -> float:
    """Draws from a uniform distribution between two bounds."""
    return float(rng.uniform(bounds[0], bounds[1]))


def draw_rate(rng: np.random.Generator, bounds: Sequence[float]) -> float:
    """Draws from a log-uniform distribution, or from a uniform one if the lower bound is 0."""
    if bounds[0] <= 0.0:
        return draw(rng, bounds)
    return float(np.exp(rng.uniform(np.log(bounds[0]), np.log(bounds[1]))))


# --- Spectra ---------------------------------------------------------------------------------


def grid_hz(taps: int = TAPS) -> np.ndarray:
    """Returns the frequencies of the spectrum of a filter with `taps` taps; 10 Hz replaces 0 Hz."""
    return np.maximum(scipy.fft.rfftfreq(taps - 1, 1.0 / SAMPLE_RATE), 10.0)


def interpolate_db(frequency_hz: np.ndarray, levels_db: Numbers,
                   knots_hz: Numbers = BAND_HZ) -> np.ndarray:
    """Interpolates levels over the logarithm of the frequency.

    Args:
        frequency_hz: Frequencies of the result.
        levels_db: Levels at `knots_hz`.
        knots_hz: Frequencies of the given levels, ascending.
    """
    return np.interp(np.log2(frequency_hz), np.log2(knots_hz), levels_db)


def academy_db(frequency_hz: np.ndarray) -> np.ndarray:
    """Returns the Academy curve of 1938 in dB.

    It is flat from 100 Hz to 1.6 kHz and has -7 dB at 40 Hz, -10 dB at 5 kHz and -18 dB at 8 kHz.
    Below 40 Hz and above 8 kHz the slopes continue.
    """
    return interpolate_db(frequency_hz, [-17.6, -7.0, 0.0, 0.0, -10.0, -18.0, -29.8],
                          [10.0, 40.0, 100.0, 1600.0, 5000.0, 8000.0, 16000.0])


def slit_db(frequency_hz: np.ndarray, slit_um: float, film_mm_per_second: float) -> np.ndarray:
    """Returns the loss of the scanning beam in dB: a sinc of its width over the wavelength.

    Args:
        frequency_hz: Frequencies.
        slit_um: Width of the beam in micrometres.
        film_mm_per_second: Speed of the film.
    """
    wavelength_um = 1000.0 * film_mm_per_second / frequency_hz
    return 20.0 * np.log10(np.maximum(np.abs(np.sinc(slit_um / wavelength_um)), 1e-2))


def tape_replay_db(frequency_hz: np.ndarray, bass_us: float, treble_us: float) -> np.ndarray:
    """Returns the response of a tape replay amplifier in dB, relative to an integrator.

    The flux on tape falls like an RC low-pass with the time constant `treble_us`, so replay boosts
    the treble, and the hiss with it, by the inverse.

    Args:
        frequency_hz: Frequencies.
        bass_us: Time constant of the bass attenuation in microseconds; 0 for none.
        treble_us: Time constant of the treble boost in microseconds.
    """
    omega = 2e-6 * np.pi * frequency_hz
    level = 10.0 * np.log10(1.0 + (omega * treble_us) ** 2)
    if bass_us:
        level -= 10.0 * np.log10(1.0 + (omega * bass_us) ** -2.0)
    return level


def low_pass_db(frequency_hz: np.ndarray, cutoff_hz: float, order: float) -> np.ndarray:
    """Returns the response of a Butterworth low-pass in dB.

    Args:
        frequency_hz: Frequencies.
        cutoff_hz: Frequency at which the response is -3 dB.
        order: Order of the filter; it need not be an integer.
    """
    return -10.0 * np.log10(1.0 + (frequency_hz / cutoff_hz) ** (2.0 * order))


def band_pass_db(frequency_hz: np.ndarray, low_hz: float, high_hz: float,
                 orders: Numbers) -> np.ndarray:
    """Returns the response in dB of a Butterworth high-pass followed by a low-pass.

    Args:
        frequency_hz: Frequencies.
        low_hz: Cutoff of the high-pass.
        high_hz: Cutoff of the low-pass.
        orders: Orders of the high-pass and the low-pass.
    """
    # A high-pass is a low-pass over the inverse of the frequency.
    return (low_pass_db(1.0 / frequency_hz, 1.0 / low_hz, orders[0])
            + low_pass_db(frequency_hz, high_hz, orders[1]))


def draw_colour_db(rng: np.random.Generator, frequency_hz: np.ndarray, tilt_db_per_octave: float,
                   height_db: float) -> np.ndarray:
    """Draws the colour of a machine in dB: a tilt and two broad bumps of random height.

    Args:
        rng: Source of all randomness.
        frequency_hz: Frequencies of the result.
        tilt_db_per_octave: Slope around 1 kHz.
        height_db: Greatest height of a bump.
    """
    octaves = np.log2(frequency_hz / LEVEL_HZ)
    level = tilt_db_per_octave * np.clip(octaves, -4.0, 4.0)
    for _ in range(2):
        centre, width = rng.uniform(-2.0, 3.5), rng.uniform(0.3, 1.2)
        level = level + rng.uniform(-1.0, 1.0) * height_db * np.exp(
            -0.5 * ((octaves - centre) / width) ** 2)
    return level


# --- Parts -----------------------------------------------------------------------------------

Part = Iterator[np.ndarray]  # endless signal in continuous float32 chunks `(CHUNK,)`
OFFSETS = np.arange(CHUNK, dtype=np.float32)  # positions of the samples within a chunk
Given = ParamSpec("Given")
Chunk = TypeVar("Chunk")
READY = np.zeros(0, np.float32)  # what a part yields first, before its chunks; see `part`


def part(generator: Callable[Given, Iterator[Chunk]]) -> Callable[Given, Iterator[Chunk]]:
    """Decorates a generator function so that calling it runs it up to its first `yield`.

    Parts share one random generator, so the order of their draws determines the noise. A plain
    generator function would draw nothing before its first chunk. The first value is lost.
    """
    @functools.wraps(generator)
    def start(*args: Given.args, **kwargs: Given.kwargs) -> Iterator[Chunk]:
        chunks = generator(*args, **kwargs)
        next(chunks)
        return chunks

    return start


def multiply(chunks: Part, gains: Part) -> Part:
    """Returns a part multiplied by time-varying gains."""
    return map(np.multiply, chunks, gains)


def render(chunks: Part, samples: int) -> np.ndarray:
    """Returns the next `samples` of a part, `(samples,)`; the rest of the last chunk is lost."""
    return np.concatenate([next(chunks) for _ in range(-(-samples // CHUNK))])[:samples]


def add(first: Part, second: Part) -> Part:
    """Returns the sum of two parts."""
    return map(np.add, first, second)


def amplify(chunks: Part, gain_db: float) -> Part:
    """Returns a part amplified by `gain_db`."""
    gain = np.float32(to_gain(gain_db))
    return (gain * chunk for chunk in chunks)


def at_unit_level(chunks: Part) -> Part:
    """Returns a part with an RMS of 1 over its first two seconds, which must not be silent."""
    first = [next(chunks) for _ in range(MEASURED_CHUNKS)]
    gain = np.float32(1.0 / np.sqrt(np.mean(np.square(first, dtype=np.float64))))
    return (gain * chunk for chunk in itertools.chain(first, chunks))


@part
def hiss(rng: np.random.Generator, level_db: np.ndarray, above_hz: float = LEVEL_HZ) -> Part:
    """Stationary Gaussian noise with a given spectrum, filtered by overlap-save.

    Args:
        rng: Source of all randomness.
        level_db: Spectrum at the frequencies of `grid_hz`.
        above_hz: The RMS is 1 above this frequency.
    """
    length = 2 * (len(level_db) - 1)  # length of the filter
    size = CHUNK + length
    kernel = np.roll(scipy.fft.irfft(to_gain(level_db)), length // 2) * np.hanning(length)
    response = scipy.fft.rfft(kernel, size)
    power = 2.0 * np.sum(np.abs(response[int(above_hz / SAMPLE_RATE * size):]) ** 2) / size
    response = (response / np.sqrt(power)).astype(np.complex64)
    last = rng.standard_normal(length, dtype=np.float32)
    yield READY
    while True:
        white = np.concatenate([last, rng.standard_normal(CHUNK, dtype=np.float32)])
        last = white[CHUNK:]
        yield scipy.fft.irfft(scipy.fft.rfft(white) * response)[length:]


@part
def swing(rng: np.random.Generator, wander_db: float, pattern_db: Numbers = (0.0, 0.0),
          turn_seconds: float = 1.0) -> Part:
    """Gains of a slow level modulation: a pattern that repeats with each turn, and a random walk.

    Args:
        rng: Source of all randomness.
        wander_db: Standard deviation of the random walk.
        pattern_db: Levels at equal distances over one turn.
        turn_seconds: Duration of a turn.
    """
    step = COARSE / SAMPLE_RATE / turn_seconds
    pattern_db = np.append(pattern_db, pattern_db[0])
    place = np.linspace(0.0, 1.0, len(pattern_db))
    ramp = np.arange(1, COARSE + 1, dtype=np.float32) / COARSE
    turns, level_db, last = rng.uniform(), 0.0, None
    yield READY
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
def wave(rng: np.random.Generator, frequency_hz: float, harmonics_db: np.ndarray,
         drift: float = 0.0, is_pulsed: bool = False) -> Part:
    """A periodic waveform with an RMS of 1.

    Args:
        rng: Source of all randomness.
        frequency_hz: Frequency of the fundamental.
        harmonics_db: Levels of the fundamental and the harmonics above it.
        drift: Standard deviation of the pitch, as a share of the frequency.
        is_pulsed: Whether all phases are 0, so that the harmonics add up to one pulse per period.
            Otherwise phases are random.
    """
    step, count = frequency_hz / SAMPLE_RATE, len(harmonics_db)
    size = scipy.fft.next_fast_len(max(2048, 64 * count), real=True)
    spectrum = np.zeros(size // 2 + 1, np.complex128)
    turns = rng.uniform(size=count) * (not is_pulsed)
    spectrum[1:count + 1] = to_gain(harmonics_db) * np.exp(2j * np.pi * turns)
    table = scipy.fft.irfft(spectrum, size)
    table /= np.sqrt(np.mean(table**2))
    table = np.append(table, table[0]).astype(np.float32)
    phase, last_bend = rng.uniform(), 0.0
    yield READY
    while True:
        bend = 0.8 * last_bend + 0.6 * drift * rng.normal()
        # Single precision is fast, and its error stays below 1e-5 of a period within a chunk.
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


def make_hum(rng: np.random.Generator, frequency_hz: float, harmonics: int,
             slope_db_per_octave: float, drift: float = 0.0,
             band_db: Callable[[np.ndarray], np.ndarray] | None = None,
             is_pulsed: bool = False) -> Part:
    """Draws a hum or buzz whose harmonics fall with a slope and deviate from it at random.

    Args:
        rng: Source of all randomness.
        frequency_hz: Frequency of the fundamental.
        harmonics: Number of harmonics with the fundamental. Those above 0.45 of the sample rate are
            left out.
        slope_db_per_octave: Mean slope of the harmonics.
        drift, is_pulsed: As in `wave`.
        band_db: Response of the playback chain: a function from frequencies in Hz to levels.
    """
    harmonics = max(1, min(harmonics, int(0.45 * SAMPLE_RATE / frequency_hz)))
    order = np.arange(1, harmonics + 1)
    level = slope_db_per_octave * np.log2(order) + rng.normal(0.0, 6.0, harmonics)
    level[order % 2 == rng.integers(2)] += rng.uniform(0.0, 10.0)
    if band_db is not None:
        level = level + band_db(frequency_hz * order)
    return wave(rng, frequency_hz, level, drift, is_pulsed)


@part
def rumble(rng: np.random.Generator, turn_seconds: float, depth: float,
           between_hz: Sequence[float], ring_seconds: Sequence[float]) -> Part:
    """Noise with an RMS of 1 around three resonances, like those of arm, plinth and motor.

    It is rendered at 1/64 of the sample rate and interpolated with a windowed sinc, so that it
    contains nothing above 300 Hz.

    Args:
        rng: Source of all randomness.
        turn_seconds: Duration of a turn.
        depth: By how much the level changes within a turn, 0 to 1.
        between_hz: Range of the resonance frequencies.
        ring_seconds: Range of the decay times. A longer decay makes a narrower resonance.
    """
    rate = SAMPLE_RATE / COARSE
    time = np.arange(256) / rate
    kernel = np.zeros(256)
    for _ in range(3):
        frequency = np.exp(rng.uniform(*np.log(between_hz)))
        kernel += rng.uniform(0.2, 1.0) * np.exp(-time / draw(rng, ring_seconds)) * np.cos(
            2.0 * np.pi * (frequency * time + rng.uniform()))
    kernel -= np.hanning(256) * kernel.sum() / np.hanning(256).sum()  # nothing at 0 Hz
    kernel /= np.sqrt(np.sum(kernel**2))
    white = rng.standard_normal(len(kernel) - 1)
    step, turns = 1.0 / (rate * turn_seconds), rng.uniform()
    position = np.arange(SINC_TAPS)[:, None] - (SINC_TAPS // 2 - 1) - np.arange(COARSE) / COARSE
    interpolator = (np.sinc(position) * np.cos(np.pi * position / SINC_TAPS) ** 2).astype(
        np.float32)
    slow = np.zeros(SINC_TAPS - 1, np.float32)
    yield READY
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
    """Impulses that recur once per turn for a number of turns: onsets, levels, shapes and signs."""
    begin = rng.uniform()  # position in turns
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
    yield ()
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
    """Adds shapes from a bank `(shapes, samples)` to chunks; the rest goes into the next chunk."""

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
def events(rng: np.random.Generator, per_second: float, median_db: float, spread_db: float,
           bank: np.ndarray, turn_seconds: float = 1.0, locked_share: float = 0.0,
           burst: float = 0.4, signed: bool = True, loudest_db: float = LOUDEST_DB,
           is_alone: bool = False) -> Part:
    """Impulses at random times.

    Arrivals are a Poisson process with a varying rate; peaks are log-normal and so have a heavy
    tail. A share of the impulses is locked to the turn: a scratch across many grooves recurs once
    per turn for some turns, at nearly the same level.

    Args:
        rng: Source of all randomness.
        per_second: Mean rate.
        median_db: Median of the peaks.
        spread_db: Standard deviation of the peaks.
        bank: Shapes `(shapes, samples)` with a peak of 1.
        turn_seconds: Duration of a turn.
        locked_share: Share of the impulses that recur each turn.
        burst: Standard deviation of the logarithm of the rate.
        signed: Whether half of the impulses are inverted.
        loudest_db: Upper limit of the peaks.
        is_alone: Whether every chunk has at least one impulse, however low the rate is. Without
            other noise, more than 1.4 s between two impulses would be digital silence.
    """
    impulses = _Impulses(bank)
    per_chunk = per_second * (1.0 - locked_share) * CHUNK / SAMPLE_RATE
    log_rate = rng.normal()
    locked = _scratches(rng, per_second * locked_share * turn_seconds, turn_seconds * SAMPLE_RATE,
                        median_db, spread_db, len(bank))
    yield READY
    while True:
        log_rate = 0.7 * log_rate + 0.71 * rng.normal()
        count = rng.poisson(per_chunk * np.exp(burst * log_rate - 0.5 * burst**2))
        if is_alone:
            count = max(count, 1)
        drawn: Iterable[np.ndarray] = (
            rng.integers(CHUNK, size=count), rng.normal(median_db, spread_db, count),
            rng.integers(len(bank), size=count), rng.choice([-1.0, 1.0], count))
        if locked_share:
            drawn = map(np.concatenate, zip(drawn, next(locked), strict=True))
        onset, level, shape, sign = drawn
        amplitude = to_gain(np.minimum(level, loudest_db)) * (sign if signed else 1.0)
        yield impulses.render(onset, shape, amplitude)


@part
def strokes(rng: np.random.Generator, per_second: float, jitter: float, spread_db: float,
            bank: np.ndarray, rest_seconds: float = 0.0) -> Part:
    """Impulses of a mechanism at regular intervals, continuously or in trains.

    Args:
        rng: Source of all randomness.
        per_second: Rate of the impulses.
        jitter: Standard deviation of the onsets, as a share of the interval.
        spread_db: Standard deviation of the peaks, whose median is 0 dB.
        bank: Shapes `(shapes, samples)` with a peak of 1; each impulse has one of them.
        rest_seconds: If above 0, `TRAIN_COUNT` impulses are followed by a rest of at most this
            length.
    """
    impulses, step = _Impulses(bank), SAMPLE_RATE / per_second
    last, due = rng.uniform(-step, 0.0), np.zeros(0)
    yield READY
    while True:
        while last < CHUNK:
            count, rest = int(CHUNK / step) + 1, step
            if rest_seconds > 0.0:
                count = int(rng.integers(*TRAIN_COUNT, endpoint=True))
                rest = rng.uniform(0.2, 1.0) * rest_seconds * SAMPLE_RATE
            due = np.append(due, last + rest + step * np.arange(count))
            last = due[-1]
        regular = due[due < CHUNK]
        due, last, count = due[len(regular):] - CHUNK, last - CHUNK, len(regular)
        onset = np.clip(regular + jitter * step * rng.normal(size=count), 0, CHUNK - 1).astype(int)
        yield impulses.render(onset, rng.integers(len(bank), size=count),
                              to_gain(spread_db * rng.normal(size=count)))


def thumps(rng: np.random.Generator, per_second: float, median_db: float, spread_db: float,
           is_alone: bool = False, **settings: Any) -> Part:
    """Draws low-frequency pulses at random times or, in a share of the noises, in trains.

    Args:
        rng, median_db, spread_db, is_alone: As in `events`.
        per_second: Mean rate of the pulses. Trains are at most the inverse of it apart.
        **settings: Further arguments of `events`.
    """
    bank = thump_bank(rng)
    if rng.uniform() < TRAIN_CHANCE:
        rest = min(1.0 / per_second, MAX_LONE_REST if is_alone else np.inf)
        return amplify(strokes(rng, draw_rate(rng, TRAIN_PER_SECOND), rng.uniform(0.0, 0.1),
                               spread_db, bank, rest), median_db)
    return events(rng, per_second, median_db, spread_db, bank, is_alone=is_alone, **settings)


def impulse_bank(rng: np.random.Generator, pulse_ms: Sequence[float],
                 band_db: Callable[[np.ndarray], np.ndarray] | None = None) -> np.ndarray:
    """Draws shapes of clicks like those on recordings.

    Each has a short pulse, a slower swing in the opposite direction that makes the sum about 0,
    ringing of the pick-up, and sometimes a second pulse. It lasts five to ten pulse lengths.

    Args:
        rng: Source of all randomness.
        pulse_ms: Range of the length of the pulse.
        band_db: Response of the playback chain: a function from frequencies in Hz to levels.

    Returns:
        Array `(SHAPES, samples)` with a peak of 1.
    """
    samples = max(16, int(0.008 * pulse_ms[1] * SAMPLE_RATE))
    column = (SHAPES, 1)
    time = np.arange(samples) / SAMPLE_RATE - rng.uniform(0.0, 1.0, column) / SAMPLE_RATE
    shortest, longest = np.log(pulse_ms)
    pulse = np.exp(rng.uniform(shortest, longest, column)) * 1e-3
    wave = np.exp(-0.5 * np.square((time - 0.9 * pulse) / (0.3 * pulse)))
    back = pulse * rng.uniform(0.5, 3.0, column)  # time constant of the opposite swing
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
        kernel = minimum_phase(band_db(grid_hz(257)), 64)
        wave = scipy.signal.fftconvolve(wave, kernel[None], axes=1)[:, :samples + len(kernel) // 2]
    return wave / np.abs(wave).max(axis=1, keepdims=True)


def thump_bank(rng: np.random.Generator) -> np.ndarray:
    """Draws low-frequency pulses, `(THUMPS, samples)`, with a peak of 1 without their clicks.

    There are two forms, which de Carvalho et al. 2021 call "long pulses". After a scratch or
    splice, an impulse is followed by an oscillation whose frequency and amplitude fall
    exponentially, as the resonance of arm and pick-up decays. The other form was measured on
    shellac discs: several cycles, 0.08 to 1 s long, with a soft or hard onset and nothing above
    150 Hz; in a share of the noises, directly after a click.
    """
    time = np.arange(int(THUMP_SECONDS * SAMPLE_RATE), dtype=np.float32) / SAMPLE_RATE
    bank = np.zeros((THUMPS, len(time)), np.float32)
    is_oscillation = rng.uniform() < OSCILLATION_CHANCE
    centre_hz, length = draw_rate(rng, PULSE_HZ), draw_rate(rng, PULSE_SECONDS)
    attack, depth = draw_rate(rng, PULSE_ATTACK), rng.uniform(0.0, 1.0)
    clicks = draw_rate(rng, CLICK_PEAK) * impulse_bank(rng, CLICK_MS)
    if is_oscillation or rng.uniform() >= CLICK_CHANCE:
        clicks[:] = 0.0
    for row, click in zip(bank, clicks, strict=False):
        if is_oscillation:
            wave = _draw_oscillation(rng, time[:int(OSCILLATION_SECONDS * SAMPLE_RATE)])
        else:
            wave = _draw_pulse(rng, time[:int(length * draw_rate(rng, (0.6, 1.6)) * SAMPLE_RATE)],
                               centre_hz * draw_rate(rng, (0.75, 1.33)), attack, depth)
        row[:len(wave)] = wave
        row /= np.abs(row).max()
        if is_oscillation:
            onset = time[:int(0.002 * SAMPLE_RATE)]
            row[:len(onset)] += rng.uniform(0.0, 0.5) * np.exp(-onset / 2e-4) * np.sin(
                2.0 * np.pi * rng.uniform(1000.0, 5000.0) * onset)
            row /= np.abs(row).max()
        row[:len(click)] += click
    return bank


def _draw_oscillation(rng: np.random.Generator, time: np.ndarray) -> np.ndarray:
    """Draws an oscillation whose frequency and amplitude fall exponentially."""
    high, low = rng.uniform(40.0, 120.0), rng.uniform(10.0, 30.0)
    fall, decay = rng.uniform(0.01, 0.05), rng.uniform(0.015, 0.06)
    turns = low * time + (high - low) * fall * (1.0 - np.exp(-time / fall))
    wave = np.sin(2.0 * np.pi * (turns + rng.uniform(0.0, 0.5))) * np.exp(-time / decay)
    return wave * np.minimum(1.0, time / 0.002) * np.minimum(1.0, (time[-1] - time) / 0.05)


def _draw_pulse(rng: np.random.Generator, time: np.ndarray, hz: float, attack: float,
                depth: float) -> np.ndarray:
    """Draws a tone whose pitch varies by up to a quarter, with an envelope that ends in time."""
    place = time / time[-1]
    envelope = np.where(place < attack, np.sin(0.5 * np.pi * place / attack),
                        np.cos(0.5 * np.pi * (place - attack) / (1.0 - attack))) ** 2
    knots = rng.normal(0.0, 1.0, 6)
    bend = 1.0 + 0.25 * depth * np.interp(place, np.linspace(0.0, 1.0, 6), np.tanh(knots))
    phase = np.cumsum(hz * bend) * (time[1] - time[0]) + rng.uniform()
    wave = np.sin(2.0 * np.pi * phase)
    if depth > 0.5:  # adds a second tone that beats with the first
        wave += rng.uniform(0.0, 0.8) * np.sin(2.0 * np.pi * phase * draw_rate(rng, (0.5, 2.0)))
    return envelope * wave


def dip_bank(rng: np.random.Generator, length_ms: Sequence[float]) -> np.ndarray:
    """Draws shapes of dropouts, float32 `(DIPS, samples)`: smooth dips with a depth of 1.

    The range of their length is `length_ms`.
    """
    samples = int(1e-3 * length_ms[1] * SAMPLE_RATE)
    bank = np.zeros((DIPS, samples), np.float32)
    for row in bank:
        length = max(8, int(1e-3 * np.exp(rng.uniform(*np.log(length_ms))) * SAMPLE_RATE))
        row[:length] = np.minimum(1.0, 2.0 * np.hanning(length))[:samples]
    return bank


def burst_bank(rng: np.random.Generator, burst_ms: float, band_hz: Sequence[float],
               is_tonal: bool, shapes: int = BURSTS) -> np.ndarray:
    """Draws bursts of noise or decaying tones, `(shapes, samples)`, with a peak of 1.

    They resemble the sound of struck metal, wood or paper: claws, shutters, splices in the gate.

    Args:
        rng: Source of all randomness.
        burst_ms: Typical length; single shapes differ from it by up to 40 %.
        band_hz: Edges of the band, with skirts of 12 dB per octave.
        is_tonal: Whether to draw tones of similar pitch, which ring three times as long.
        shapes: Number of shapes.
    """
    column = (shapes, 1)
    length = 1e-3 * burst_ms * np.exp(rng.uniform(np.log(0.7), np.log(1.4), column))
    ringing = 3.0 if is_tonal else 1.0
    samples = max(16, int(1.4e-3 * burst_ms * ringing * SAMPLE_RATE))
    time = np.arange(samples, dtype=np.float32) / SAMPLE_RATE
    decay = np.exp(-time / (length * rng.uniform(0.2, 0.5, column)))
    if is_tonal:
        hz = draw_rate(rng, [max(band_hz[0], 60.0), min(band_hz[1], 8000.0)])
        wave = decay * np.sin(2.0 * np.pi * hz * rng.uniform(0.9, 1.1, column) * time
                              + rng.uniform(0.0, 2.0 * np.pi, column))
    else:
        swell = np.square(np.sin(np.pi * np.minimum(time / length, 1.0)))
        wave = (decay if rng.uniform() < 0.5 else swell) * rng.standard_normal((shapes, samples))
    band = scipy.signal.butter(2, band_hz, "bandpass", fs=SAMPLE_RATE, output="sos")
    wave = scipy.signal.sosfilt(band, wave)
    wave *= np.minimum(1.0, np.arange(samples)[::-1] / (0.2 * samples))
    return wave / np.abs(wave).max(axis=1, keepdims=True)
