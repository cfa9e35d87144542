"""Noises for tests and probes that are independent of the training noises.

A test on noise that is related to the training noise gives flattering results. The code here
therefore shares nothing with `parts.py`, `carriers.py` and `moving.py`, and some noises come from
FFmpeg's filters. `OPEN` noises are part of every evaluation. `SEALED` noises are used only in the
sealed test, which is run once per release; tuning on them would invalidate it.

Every function takes a number of samples at 44.1 kHz and a random generator as its last arguments,
and returns a waveform `(samples,)` of any level.
"""

from collections.abc import Callable, Sequence
from functools import partial

import av
import numpy as np
import scipy

from historical_denoiser.audio.dsp import SAMPLE_RATE, to_gain

MakeNoise = Callable[[int, np.random.Generator], np.ndarray]

CLICK_SECONDS = (1e-4, 1e-3)  # a click decays to 1/e within this time
BURST_SECONDS = 0.03
BURSTS_PER_SECOND = 24  # the frame rate of film
BURST_HZ = (200.0, 5000.0)
HUM_HZ = 50.02  # between two bins of every transform used here
HARMONICS = 16
FLUCTUATION_SECONDS = 0.1  # time between two levels of a band
# The spectrum of a groove falls with this slope above this frequency.
GROOVE_HZ, GROOVE_DB_PER_OCTAVE = 200.0, -4.0
RIPPLE_HZ, RIPPLE_DB = 40.0, 5.0
TURNS_PER_SECOND = 1.304  # a disc at 78.26 rpm
THUMP_HZ, THUMP_SECONDS = (25.0, 60.0), (0.15, 0.5)
SWING_DB = 7.0  # by how much one side of a worn groove is louder than the mean


def make_shaped(gain: Callable[[np.ndarray], np.ndarray], samples: int, rng: np.random.Generator,
           ) -> np.ndarray:
    """Makes Gaussian noise with a given frequency response.

    Args:
        gain: Function that maps frequencies in Hz to gains.
        samples: Length.
        rng: Source of all randomness.
    """
    spectrum = scipy.fft.rfft(rng.standard_normal(samples))
    return scipy.fft.irfft(spectrum * gain(scipy.fft.rfftfreq(samples, 1.0 / SAMPLE_RATE)), samples)


def octave_gain(centre_hz: float, hz: np.ndarray) -> np.ndarray:
    """Returns True within the octave around `centre_hz`, and False outside."""
    return (hz >= centre_hz / np.sqrt(2.0)) & (hz < centre_hz * np.sqrt(2.0))


def pink_gain(hz: np.ndarray) -> np.ndarray:
    """Returns the gain of pink noise, constant below 20 Hz."""
    return 1.0 / np.sqrt(np.maximum(hz, 20.0))


def make_white(samples: int, rng: np.random.Generator) -> np.ndarray:
    """Makes white Gaussian noise."""
    return rng.standard_normal(samples)


def _groove_gain(hz: np.ndarray) -> np.ndarray:
    octaves = np.log2(np.maximum(hz, GROOVE_HZ) / GROOVE_HZ)
    return 10.0 ** (GROOVE_DB_PER_OCTAVE * octaves / 20.0)


def make_fluctuating(deviation_db: float, band_hz: float, samples: int, rng: np.random.Generator,
                     ) -> np.ndarray:
    """Makes the noise of a groove in which the level of each band fluctuates independently.

    All bands are cut out of one spectrum, so that without fluctuation the noise is steady and
    Gaussian.

    Args:
        deviation_db: Standard deviation of each band's level.
        band_hz: Width of the bands.
        samples: Length.
        rng: Source of all randomness.
    """
    hz = scipy.fft.rfftfreq(samples, 1.0 / SAMPLE_RATE)
    spectrum = scipy.fft.rfft(rng.standard_normal(samples)) * _groove_gain(hz)
    if deviation_db == 0.0:
        return scipy.fft.irfft(spectrum, samples)
    places = np.arange(samples) / (FLUCTUATION_SECONDS * SAMPLE_RATE)
    knots = np.arange(int(places[-1]) + 2)
    spectrum, noise = spectrum.astype(np.complex64), np.zeros(samples)  # complex64 is twice as fast
    for low_hz in np.arange(0.0, SAMPLE_RATE / 2, band_hz):
        level_db = np.interp(places, knots, rng.normal(0.0, deviation_db, len(knots)))
        band = slice(*np.searchsorted(hz, (low_hz, low_hz + band_hz)))
        alone = np.zeros_like(spectrum)
        alone[band] = spectrum[band]
        noise += to_gain(level_db) * scipy.fft.irfft(alone, samples)
    return noise


def make_rippled(samples: int, rng: np.random.Generator) -> np.ndarray:
    """Makes the noise of a groove whose spectrum has a constant ripple."""
    hz = scipy.fft.rfftfreq(samples, 1.0 / SAMPLE_RATE)
    knots = np.arange(0.0, SAMPLE_RATE / 2 + RIPPLE_HZ, RIPPLE_HZ)
    ripple_db = np.interp(hz, knots, rng.normal(0.0, RIPPLE_DB, len(knots)))
    return make_shaped(lambda hz: _groove_gain(hz) * to_gain(ripple_db), samples, rng)


def make_thumps(samples: int, rng: np.random.Generator) -> np.ndarray:
    """Makes low-frequency pulses of several cycles, one per turn, without higher frequencies."""
    time_s = np.arange(samples) / SAMPLE_RATE
    noise, turn_s = np.zeros(samples), 1.0 / TURNS_PER_SECOND
    first_s = 0.5 * min(turn_s, time_s[-1]) * rng.uniform()
    for moment in np.arange(first_s, time_s[-1], turn_s):
        length = np.exp(rng.uniform(*np.log(THUMP_SECONDS)))
        place = np.clip((time_s - moment) / length, 0.0, 1.0)
        hz = np.exp(rng.uniform(*np.log(THUMP_HZ)))
        noise += np.sin(np.pi * place) ** 2 * np.sin(2.0 * np.pi * hz * (time_s - moment))
    return noise


def make_needle_drop(samples: int, rng: np.random.Generator) -> np.ndarray:
    """Makes a stylus that lands and bounces, and then the noise of a groove."""
    time_s = np.arange(samples) / SAMPLE_RATE
    since_s = time_s - rng.uniform(0.1, 0.4) * time_s[-1]
    groove = make_shaped(_groove_gain, samples, rng)
    noise = 0.1 * groove / np.std(groove) * (since_s >= 0.0)
    for bounce_s, level in ((0.0, 1.0), (0.09, 0.5), (0.15, 0.2)):
        after_s = np.maximum(since_s - bounce_s, 0.0)
        knock = (np.exp(-after_s / 0.06) * np.sin(2.0 * np.pi * rng.uniform(30.0, 90.0) * after_s)
                 + np.exp(-after_s / 0.005) * rng.standard_normal(samples))
        noise += level * knock * (since_s >= bounce_s)
    return noise


def make_clicks(per_second: float, samples: int, rng: np.random.Generator) -> np.ndarray:
    """Makes single damped oscillations of random length and level, with silence between them.

    Args:
        per_second: Mean rate of the clicks.
        samples: Length.
        rng: Source of all randomness.
    """
    count = max(1, round(per_second * samples / SAMPLE_RATE))
    time_s = np.arange(round(8.0 * CLICK_SECONDS[1] * SAMPLE_RATE)) / SAMPLE_RATE
    noise = np.zeros(samples + len(time_s))
    # One click in each of `count` equal spans, so that the rate is exactly the one requested.
    starts = ((np.arange(count) + rng.uniform(size=count)) * samples / count).astype(int)
    for start in starts:
        decay_s = np.exp(rng.uniform(*np.log(CLICK_SECONDS)))
        swing = np.cos(2.0 * np.pi * rng.uniform(0.15, 0.6) / decay_s * time_s)
        level = rng.choice([-1.0, 1.0]) * to_gain(rng.normal(0.0, 4.0))
        noise[start : start + len(time_s)] += level * np.exp(-time_s / decay_s) * swing
    return noise[:samples]


def make_bursts(samples: int, rng: np.random.Generator) -> np.ndarray:
    """Makes short bursts of noise at middle frequencies, like those of a projector's claw."""
    time_s = np.arange(samples) / SAMPLE_RATE % (1.0 / BURSTS_PER_SECOND)
    swell = np.where(time_s < BURST_SECONDS, np.sin(np.pi * time_s / BURST_SECONDS) ** 2, 0.0)
    band = scipy.signal.butter(2, BURST_HZ, "bandpass", fs=SAMPLE_RATE, output="sos")
    return swell * scipy.signal.sosfilt(band, rng.standard_normal(samples))


def make_hum(hiss_db: float | None, samples: int, rng: np.random.Generator) -> np.ndarray:
    """Makes mains hum whose harmonics fall by about 6 dB per octave, optionally with hiss.

    Args:
        hiss_db: Level of the hiss relative to the hum; None for no hiss.
        samples: Length.
        rng: Source of all randomness.
    """
    time_s = np.arange(samples) / SAMPLE_RATE
    hum = np.zeros(samples)
    for order in range(1, HARMONICS + 1):
        level = to_gain(rng.normal(0.0, 4.0)) / order
        hum += level * np.sin(2.0 * np.pi * (HUM_HZ * order * time_s + rng.uniform()))
    if hiss_db is not None:
        hum += to_gain(hiss_db) * np.std(hum) * rng.standard_normal(samples)
    return hum


def make_swinging(samples: int, rng: np.random.Generator) -> np.ndarray:
    """Makes the noise of a groove that is louder, with ticks, on one side of the disc."""
    phase = 2.0 * np.pi * (TURNS_PER_SECOND * np.arange(samples) / SAMPLE_RATE + rng.uniform())
    level_db = SWING_DB * np.cos(phase)
    hiss = make_shaped(_groove_gain, samples, rng)
    ticks = make_clicks(40, samples, rng)
    return to_gain(level_db) * (hiss / np.std(hiss) + ticks / np.std(ticks))


def make_fading(samples: int, rng: np.random.Generator) -> np.ndarray:
    """Makes the hiss of a short-wave receiver, with moving notches and a fading level."""
    time_s = np.arange(samples) / SAMPLE_RATE
    hiss = make_shaped(lambda hz: (hz >= 300.0) & (hz < 4500.0), samples, rng)
    delay = 20.0 + 15.0 * np.sin(2.0 * np.pi * (rng.uniform(0.1, 0.4) * time_s + rng.uniform()))
    echo = np.interp(np.arange(samples) - delay, np.arange(samples), hiss)
    level_db = 10.0 * np.sin(2.0 * np.pi * (rng.uniform(0.2, 0.6) * time_s + rng.uniform()))
    return to_gain(level_db) * (hiss + 0.9 * echo)


def make_hissing_thumps(samples: int, rng: np.random.Generator) -> np.ndarray:
    """Makes thumps with a groove's noise 15 dB below them."""
    thumps, hiss = make_thumps(samples, rng), make_shaped(_groove_gain, samples, rng)
    return thumps / np.std(thumps) + 10.0 ** (-15.0 / 20.0) * hiss / np.std(hiss)


def make_frying(samples: int, rng: np.random.Generator) -> np.ndarray:
    """Makes clusters of crackle: grains of a few samples, in clusters of tenths of a second.

    The rate of the grains is the square of a slowly varying random signal.
    """
    knots = np.arange(0, samples + SAMPLE_RATE, SAMPLE_RATE // 10)
    rate = np.interp(np.arange(samples), knots, rng.normal(0.0, 1.0, len(knots))) ** 2
    grains = rng.random(samples) < 800.0 / SAMPLE_RATE * rate
    heights = grains * rng.standard_exponential(samples) * rng.standard_normal(samples)
    kernel = rng.standard_normal(24) * np.exp(-np.arange(24) / 6.0)
    return scipy.signal.fftconvolve(heights, kernel)[:samples] + 0.01 * rng.standard_normal(samples)


def make_scraping(samples: int, rng: np.random.Generator) -> np.ndarray:
    """Makes noise with a few gliding resonances of varying level, like a warped cylinder's."""
    noise = np.zeros(samples)
    places = np.linspace(0.0, 1.0, samples)
    for _ in range(6):
        hz = np.exp(np.interp(places, np.linspace(0.0, 1.0, 9),
                              rng.uniform(np.log(150.0), np.log(4000.0)) + rng.normal(0, 0.1, 9)))
        narrow = scipy.signal.lfilter([1.0], [1.0, -0.98], rng.standard_normal((2, samples)))
        phase = 2.0 * np.pi * np.cumsum(hz) / SAMPLE_RATE
        level_db = np.interp(places, np.linspace(0.0, 1.0, 40), rng.normal(0.0, 5.0, 40))
        noise += to_gain(level_db) * (narrow[0] * np.cos(phase) + narrow[1] * np.sin(phase))
    return noise / np.std(noise) + 0.2 * rng.standard_normal(samples)


def _make_with_ffmpeg(source: str, filters: Sequence[tuple[str, str]], samples: int,
                      rng: np.random.Generator) -> np.ndarray:
    """Makes noise with FFmpeg's `anoisesrc` and filters, each with its name and arguments."""
    graph = av.filter.Graph()
    arguments = (f"{source}:r={SAMPLE_RATE}:seed={rng.integers(2**31)}"
                 f":d={samples / SAMPLE_RATE + 1.0:.3f}")
    nodes = [graph.add("anoisesrc", arguments), *(graph.add(*one) for one in filters),
             graph.add("aformat", "sample_fmts=dbl:channel_layouts=mono"), graph.add("abuffersink")]
    for node, following in zip(nodes, nodes[1:], strict=False):
        node.link_to(following)
    graph.configure()
    pieces: list[np.ndarray] = []
    while sum(map(len, pieces)) < samples:
        pieces.append(graph.pull().to_ndarray().ravel())
    return np.concatenate(pieces)[:samples]


# The noises that the test mixes with recordings, by the names that reports use.
OPEN: dict[str, MakeNoise] = {
    "groove fluctuating by 4 dB": partial(make_fluctuating, 4.0, 200.0),
    "groove with ripple": make_rippled,
    "groove swinging with the turn": make_swinging,
    "thumps over hiss": make_hissing_thumps,
    "radio fading": make_fading,
    "ffmpeg velvet noise": partial(_make_with_ffmpeg, "c=velvet:density=0.003", [
        ("lowpass", "f=6000")]),
}
SEALED: dict[str, MakeNoise] = {
    "frying": make_frying,
    "scraping": make_scraping,
    "ffmpeg brown noise, tremolo": partial(_make_with_ffmpeg, "c=brown", [
        ("tremolo", "f=5:d=0.8")]),
    "ffmpeg pink noise, flanger": partial(_make_with_ffmpeg, "c=pink", [
        ("flanger", "delay=5:depth=4:regen=60:speed=0.7")]),
    "ffmpeg white noise, phaser": partial(_make_with_ffmpeg, "c=white", [
        ("aphaser", "speed=0.5:decay=0.7"), ("lowpass", "f=5000")]),
    "ffmpeg violet noise, pulsing": partial(_make_with_ffmpeg, "c=violet", [
        ("acrusher", "bits=5:mix=0.5"), ("tremolo", "f=1.3:d=0.95")]),
}
