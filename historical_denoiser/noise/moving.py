"""Noise whose levels fluctuate over time and frequency, and noise that belongs to no carrier.

Real grooves, worn film and radio are not steady: the level of each band fluctuates independently,
by 2 to 5 dB within 23 ms, and by more with crackle. A network that was trained with steady noise
alone takes fluctuation for signal. `fluctuate` makes the levels of any noise fluctuate;
`make_moving` draws source, spectrum and levels at random (domain randomisation), so that no kind of
additive noise lies outside the training distribution. Start reading at `make_moving`.
"""

from dataclasses import dataclass

import numpy as np
import scipy.fft

from historical_denoiser.audio import dsp
from historical_denoiser.audio.dsp import SAMPLE_RATE, to_gain
from historical_denoiser.noise import parts
from historical_denoiser.noise.parts import draw, draw_rate
from historical_denoiser.noise.ranges import Ranges, between, chance

# Lengths of the STFT windows for changing levels; the shortest that resolves the bands is used.
WINDOWS = (512, 1024, 2048, 4096)
MIN_HZ, MAX_HZ = 20.0, 22000.0
PULSES_PER_SECOND = (0.3, 6.0)
TURN_SECONDS = tuple(60.0 / rpm for rpm in (78.26, 78.26, 71.3, 45.0, 33.333, 160.0))
# Level of the hiss relative to the impulses.
UNDER_DB = (-60.0, -20.0)
# A sharp attack, a decay of more than a few milliseconds and silence between them are a stroke: a
# wanted sound. Longer bursts therefore swell, or lie in noise that is not far below them.
BURST_OVER_DB = (5.0, 20.0)  # over the noise between the bursts
SHORT_BURST_SECONDS, SHORT_ATTACK, LONG_ATTACK = 2e-3, (0.01, 0.5), (0.15, 0.5)


@dataclass
class MovingConfig(Ranges):
    """Settings of fluctuating levels, and of noise that belongs to no carrier."""

    deviation_db: list[float] = between(0.5, 8.0, "at least 0")  # of the level of a band over time
    band_hz: list[float] = between(50.0, 4000.0, "above 0")  # width of the fluctuating bands
    band_erb: list[float] = between(0.5, 3.0, "above 0")  # or its width on the ear's scale
    seconds: list[float] = between(0.012, 2.0, "above 0")  # time between two levels
    common_chance: float = chance(0.33)  # levels that are partly common to all bands
    burst_chance: float = chance(0.25)  # short increases of the level
    burst_db: list[float] = between(5.0, 25.0)
    fading_chance: float = chance(0.12)  # level of all bands that fades like a short-wave radio
    fading_db: list[float] = between(6.0, 40.0, "at least 0")  # depth exceeded in 1 % of the time
    fading_seconds: list[float] = between(0.5, 10.0, "above 0")  # time between independent levels
    ripple_chance: float = chance(0.5)  # spectrum with a fine ripple
    ripple_db: list[float] = between(1.0, 7.0, "at least 0")
    ripple_hz: list[float] = between(5.0, 600.0, "above 0")  # distance of its peaks
    low_chance: float = chance(0.3)  # noise between 30 and 1400 Hz only
    lone_band_chance: float = chance(0.2)  # a single band of half to two octaves
    several_chance: float = chance(0.2)  # sum of two noises
    pulse_chance: float = chance(0.15)  # low-frequency pulses, added or alone
    pulse_db: list[float] = between(0.0, 35.0)  # peak of a pulse relative to the RMS of the rest


def make_moving(samples: int, rng: np.random.Generator, cfg: MovingConfig) -> np.ndarray:
    """Draws noise that belongs to no carrier: its source, spectrum and fluctuation are random.

    Args:
        samples: Length at 44.1 kHz.
        rng: Source of all randomness.
        cfg: Ranges and probabilities.

    Returns:
        float32 array `(samples,)` with an RMS of 1.
    """
    noise = _make_one(samples, rng, cfg)
    if rng.uniform() < cfg.several_chance:
        noise = noise + np.float32(to_gain(rng.uniform(-15.0, 0.0))) * _make_one(samples, rng, cfg)
    if rng.uniform() < cfg.pulse_chance:
        pulses = make_pulses(samples, rng)
        noise = noise / _rms(noise) + np.float32(to_gain(draw(rng, cfg.pulse_db))) * pulses
    return (noise / _rms(noise)).astype(np.float32)


def fluctuate(noise: np.ndarray, rng: np.random.Generator, cfg: MovingConfig) -> np.ndarray:
    """Makes the levels of a noise's bands fluctuate, and sometimes adds a ripple to its spectrum.

    Args:
        noise: Waveform `(samples,)` at 44.1 kHz.
        rng: Source of all randomness.
        cfg: Ranges and probabilities.

    Returns:
        float32 array `(samples,)`.
    """
    if rng.uniform() < cfg.ripple_chance:
        size = scipy.fft.next_fast_len(len(noise), real=True)
        hz = scipy.fft.rfftfreq(size, 1.0 / SAMPLE_RATE)
        gain = to_gain(_draw_ripple_db(rng, hz, cfg)).astype(np.float32)
        noise = scipy.fft.irfft(scipy.fft.rfft(noise, size) * gain, size)[: len(noise)]
    return _move_levels(noise, rng, cfg)


def make_pulses(samples: int, rng: np.random.Generator) -> np.ndarray:
    """Draws low-frequency pulses ("thumps") with peaks near 1, at random or once per turn.

    Args:
        samples: Length at 44.1 kHz.
        rng: Source of all randomness.

    Returns:
        float32 array `(samples,)`.
    """
    is_locked = rng.uniform() < 0.4
    turn = float(rng.choice(TURN_SECONDS)) * draw(rng, (0.9, 1.1))
    per_second = draw_rate(rng, PULSES_PER_SECOND)
    chunks = parts.thumps(
        rng, per_second, 0.0, draw(rng, (0.0, 6.0)), is_alone=True, turn_seconds=turn,
        locked_share=0.9 if is_locked else 0.0, burst=draw(rng, (0.0, 1.5)))
    skipped = int(rng.integers(2 * parts.CHUNK))  # otherwise every noise would begin in silence
    return parts.render(chunks, samples + skipped)[skipped:]


def _make_one(samples: int, rng: np.random.Generator, cfg: MovingConfig) -> np.ndarray:
    source = _draw_source(samples, rng)
    size = scipy.fft.next_fast_len(samples, real=True)
    hz = np.maximum(scipy.fft.rfftfreq(size, 1.0 / SAMPLE_RATE), 1.0)
    level_db = _draw_spectrum_db(rng, hz, cfg)
    spectrum = scipy.fft.rfft(source, size) * to_gain(level_db).astype(np.float32)
    noise = scipy.fft.irfft(spectrum, size)[:samples]
    noise = _move_levels(noise, rng, cfg)
    return noise / max(_rms(noise), 1e-12)


def _rms(audio: np.ndarray) -> np.float32:
    return np.float32(np.sqrt(np.mean(np.square(audio, dtype=np.float64))))


# --- Sources ---------------------------------------------------------------------------------


def _draw_source(samples: int, rng: np.random.Generator) -> np.ndarray:
    """Draws white noise: Gaussian, heavy-tailed, or impulses or bursts over a quieter floor."""
    kind = rng.choice(4, p=[0.45, 0.15, 0.2, 0.2])
    gaussian = rng.standard_normal(samples, dtype=np.float32)
    if kind == 0:
        return gaussian
    if kind == 1:  # Gaussian times log-normal, like very dense crackle
        sigma = draw(rng, (0.3, 2.2))
        return gaussian * np.exp(sigma * rng.standard_normal(samples, dtype=np.float32))
    if kind == 2:
        found, floor_db = _draw_impulses(samples, rng), draw(rng, UNDER_DB)
    else:
        found, floor_db = gaussian * _draw_bursts(samples, rng), -draw(rng, BURST_OVER_DB)
    level = _rms(found)
    if level == 0.0:
        return gaussian
    return found / level + np.float32(to_gain(floor_db)) * rng.standard_normal(
        samples, dtype=np.float32)


def _draw_impulses(samples: int, rng: np.random.Generator) -> np.ndarray:
    per_second, sigma = draw_rate(rng, (30.0, 8000.0)), draw(rng, (0.2, 1.5))
    count = rng.poisson(per_second * samples / SAMPLE_RATE)
    heights = np.exp(sigma * rng.standard_normal(count)) * rng.choice([-1.0, 1.0], count)
    return np.bincount(rng.integers(samples, size=count), heights, samples).astype(np.float32)


def _draw_bursts(samples: int, rng: np.random.Generator) -> np.ndarray:
    """Draws the envelope of bursts of 0.5 to 120 ms; those over 2 ms have a soft attack."""
    per_second, seconds = draw_rate(rng, (0.7, 60.0)), 1e-3 * draw_rate(rng, (0.5, 120.0))
    sigma, is_regular = draw(rng, (0.0, 1.0)), rng.uniform() < 0.3
    count = max(1, round(per_second * samples / SAMPLE_RATE))
    moments = np.arange(count) + (rng.uniform() if is_regular else rng.uniform(size=count))
    if not is_regular:
        moments = count * rng.uniform(size=count)
    length = max(8, round(seconds * SAMPLE_RATE))
    time = np.arange(length, dtype=np.float32) / length
    attack = draw(rng, SHORT_ATTACK if seconds < SHORT_BURST_SECONDS else LONG_ATTACK)
    shape = np.minimum(time / attack, 1.0) * np.where(time < attack, 1.0, np.exp(
        -4.0 * (time - attack) / (1.0 - attack))) * np.minimum(1.0, 10.0 * (1.0 - time))
    envelope = np.zeros(samples + length, np.float32)
    for moment in moments * samples / count:
        start = int(moment) % samples
        envelope[start : start + length] += shape * np.float32(np.exp(sigma * rng.normal()))
    return envelope[:samples]


# --- Spectra ---------------------------------------------------------------------------------


def _draw_spectrum_db(rng: np.random.Generator, hz: np.ndarray, cfg: MovingConfig) -> np.ndarray:
    """Draws levels in dB at `hz` for a single band, for low frequencies, or for the whole range."""
    octaves = np.log2(hz / 1000.0)
    if rng.uniform() < cfg.lone_band_chance:
        width = draw(rng, (0.5, 2.0))
        low_hz = draw_rate(rng, (30.0, 0.8 * MAX_HZ / 2.0**width))
        edges_hz, orders = (low_hz, low_hz * 2.0**width), rng.uniform(2.0, 16.0, 2)
        tilt, height = draw(rng, (-3.0, 3.0)), draw(rng, (0.0, 3.0))
    elif rng.uniform() < cfg.low_chance:
        edges_hz = draw_rate(rng, (20.0, 150.0)), draw_rate(rng, (200.0, 1400.0))
        orders = rng.uniform(1.0, 6.0, 2)
        tilt, height = draw(rng, (-6.0, 3.0)), draw(rng, (1.0, 6.0))
    else:
        edges_hz = draw_rate(rng, (20.0, 900.0)), draw_rate(rng, (2500.0, 22000.0))
        orders = rng.uniform(1.0, 12.0, 2)
        tilt, height = draw(rng, (-7.0, 3.0)), draw(rng, (2.0, 9.0))
    count = int(rng.integers(4, 25))
    places = np.sort(rng.uniform(np.log2(MIN_HZ / 1000.0), np.log2(MAX_HZ / 1000.0), count))
    level_db = tilt * np.clip(octaves, -5.0, 4.5) + np.interp(
        octaves, places, rng.normal(0.0, height, count))
    level_db += parts.band_pass_db(hz, *edges_hz, orders)
    if rng.uniform() < cfg.ripple_chance:
        level_db += _draw_ripple_db(rng, hz, cfg)
    return np.maximum(level_db, level_db.max() - 120.0)


def _draw_ripple_db(rng: np.random.Generator, hz: np.ndarray, cfg: MovingConfig) -> np.ndarray:
    step = draw_rate(rng, cfg.ripple_hz)
    count = int(hz[-1] / step) + 3
    return np.interp(hz, step * (np.arange(count) - rng.uniform()),
                     rng.normal(0.0, draw(rng, cfg.ripple_db), count))


# --- Levels ----------------------------------------------------------------------------------


def _move_levels(noise: np.ndarray, rng: np.random.Generator, cfg: MovingConfig) -> np.ndarray:
    """Multiplies the spectrogram of a noise by levels that vary over bands and time."""
    centres_hz, width_hz = _draw_bands(rng, cfg)
    seconds = draw_rate(rng, cfg.seconds)
    # Narrow bands need a long window, fast fluctuation a short one.
    window = next((size for size in WINDOWS if 2.0 * SAMPLE_RATE / size <= width_hz), WINDOWS[-1])
    hop = window // 4
    lead = dsp.lead_samples(window, hop)
    padded = np.pad(noise.astype(np.float32, copy=False), (lead, 0))
    spectrum = dsp.stft(padded, window, hop)
    times = np.arange(len(spectrum)) * hop / SAMPLE_RATE
    own_db, common_db = _draw_levels_db(rng, times, len(centres_hz), seconds, cfg)
    hz = scipy.fft.rfftfreq(window, 1.0 / SAMPLE_RATE)
    levels_db = _interpolate_bands(own_db, centres_hz, hz) + common_db
    spectrum *= to_gain(levels_db).astype(np.float32)[..., None]
    return dsp.istft(spectrum, window, hop, len(padded))[lead:]


def _draw_bands(rng: np.random.Generator, cfg: MovingConfig) -> tuple[np.ndarray, float]:
    """Returns the centre frequencies of the bands and the width of the narrowest band, in Hz."""
    if rng.uniform() < 0.6:
        width_hz = draw_rate(rng, cfg.band_hz)
        first_hz = width_hz * rng.uniform(-0.5, 0.5)
        return np.arange(first_hz, MAX_HZ + width_hz, width_hz), width_hz
    # ERB-rate scale: Glasberg and Moore 1990, eq. 4.
    width = draw(rng, cfg.band_erb)
    places = np.arange(width * rng.uniform(), 43.0, width)
    centres_hz = (10.0 ** (places / 21.4) - 1.0) / 4.37e-3
    return centres_hz, max(float(np.diff(centres_hz[:2])[0]), 40.0)


def _draw_levels_db(rng: np.random.Generator, times: np.ndarray, bands: int, seconds: float,
                    cfg: MovingConfig) -> tuple[np.ndarray, np.ndarray]:
    """Draws the levels in dB of each band, `(frames, bands)`, and of all bands, `(frames, 1)`."""
    knots = int(times[-1] / seconds) + 3
    places = times / seconds + rng.uniform()
    index = places.astype(int)
    before, after = (weight[:, None] for weight in _blend(places - index))
    deviation_db = draw(rng, cfg.deviation_db)
    own, common = rng.standard_normal((knots, bands)), np.zeros((knots, 1))
    if rng.uniform() < cfg.common_chance:
        share = rng.uniform(0.2, 1.0)
        own = np.sqrt(1.0 - share) * own
        common = np.sqrt(share) * rng.standard_normal((knots, 1))
    own, common = deviation_db * own, deviation_db * common
    if rng.uniform() < cfg.burst_chance:
        bursting = common if rng.uniform() < 0.5 else own  # in all bands, or in single ones
        chance = draw_rate(rng, (0.01, 0.2))
        bursting += draw(rng, cfg.burst_db) * (rng.uniform(size=bursting.shape) < chance)
    own, common = (before * values[index] + after * values[index + 1] for values in (own, common))
    if rng.uniform() < cfg.fading_chance:
        common = common + _draw_fading_db(rng, times, cfg)[:, None]
    return own, common


def _draw_fading_db(rng: np.random.Generator, times: np.ndarray, cfg: MovingConfig) -> np.ndarray:
    """Draws levels in dB, `(frames,)`, that fade as the waves of many paths add up.

    The amplitude of short waves has a Rayleigh distribution (Watterson et al. 1970), which lies
    20 dB below its RMS for 1 % of the time. Half of the noises are those of a receiver whose
    automatic gain raises the noise while the carrier fades.
    """
    places = times / draw_rate(rng, cfg.fading_seconds) + rng.uniform()
    knots = rng.standard_normal((2, int(places[-1]) + 2))
    power = sum(np.interp(places, np.arange(len(path)), path) ** 2 for path in knots) / 2.0
    fade_db = 10.0 * np.log10(np.maximum(power, 0.01)) * draw(rng, cfg.fading_db) / 20.0
    return fade_db if rng.uniform() < 0.5 else -fade_db


def _blend(part: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the weights for a position `part` (0 to 1) between two independent draws.

    The squares of the weights add up to 1, so that interpolated values have the variance of the
    draws.
    """
    part = part * part * (3.0 - 2.0 * part)
    norm = np.hypot(part, 1.0 - part)
    return (1.0 - part) / norm, part / norm


def _interpolate_bands(levels_db: np.ndarray, centres_hz: np.ndarray, hz: np.ndarray) -> np.ndarray:
    """Interpolates levels between the centres of the bands, `(frames, bins)`."""
    place = np.interp(hz, centres_hz, np.arange(len(centres_hz)))
    index = np.minimum(place.astype(int), len(centres_hz) - 2) if len(centres_hz) > 1 else (
        np.zeros(len(hz), int))
    below, above = _blend(place - index)
    upper = np.minimum(index + 1, len(centres_hz) - 1)
    return levels_db[:, index] * below + levels_db[:, upper] * above
