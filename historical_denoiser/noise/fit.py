"""Measures noise recordings, and learns from them the settings of `generator.generate`.

All waveforms are `(samples,)` at 44.1 kHz. Start reading at `measure` and `fit`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import librosa
import numpy as np
from scipy import fft, signal, stats

from historical_denoiser.audio import dsp
from historical_denoiser.audio.dsp import SAMPLE_RATE, minimum_phase, to_gain
from historical_denoiser.core.checks import UserError
from historical_denoiser.noise.carriers import CarrierConfig, GramophoneConfig
from historical_denoiser.noise.generator import generate
from historical_denoiser.noise.parts import BAND_HZ

# An impulse is a peak above `CLICK_THRESHOLD_DB` relative to the RMS of the whitened hiss. It is a
# click above `CLICK_DB`, else crackle. Impulses closer than the gap count as one.
CLICK_THRESHOLD_DB = 14.0
CLICK_DB = 26.0
CLICK_GAP_SECONDS = 0.002
# The band in which impulses are detected, and the slope of the filter outside it per octave.
CLICK_BAND_HZ = (700.0, 10000.0)
CLICK_BAND_SLOPE_DB = 48.0
# In each round of a fit, noise of this length is generated and measured.
FIT_SECONDS = 15.0
FIT_ROUNDS = 10
# The spread of crackle is not fitted, because hiss hides the smaller peaks.
CRACKLE_SPREAD_DB = 4.0
# The bands below this frequency are narrower than the resolution of the filter.
MIN_CORRECTED_HZ = 90.0
# With fewer clicks than this, neither their levels nor the length of their pulses is fitted.
MIN_CLICKS = 8
# The length of pulses is measured in the loudest clicks only.
MAX_SHAPES = 80
# Assumed if there are too few clicks.
TYPICAL_PULSE_MS = (0.05, 0.3)
# Lower frequencies are removed before the length of a pulse is measured.
PULSE_LOWEST_HZ = 300.0
# Width at half height of a pulse of length 1.
PULSE_WIDTH = 0.7
# Third octaves from 50 Hz to 16 kHz, and from 0.5 to 2 kHz.
COMPARED_BANDS = slice(2, 28)
MIDDLE_BANDS = slice(12, 19)
# Quantile of the power over time; it is low enough to leave out clicks.
QUIET_QUANTILE = 0.3


@dataclass(frozen=True)
class NoiseMeasures:
    """The measures of a noise, from which similar noise can be generated.

    Peaks are in dB relative to the RMS of the whitened hiss. `render` ignores the last three
    fields.
    """

    spectrum_db: np.ndarray  # stationary part per Hz at `BAND_HZ`, re its mean at 0.5 to 2 kHz
    crackles_per_second: float  # peaks from 14 to 26 dB
    crackle_db: float  # median peak
    clicks_per_second: float  # peaks above 26 dB
    click_db: float  # median peak
    click_spread_db: float  # 90th percentile of the peaks minus their median
    pulse_ms: tuple[float, float]  # 20th and 80th percentile of the pulse lengths
    seconds: float  # length of the recording
    level_dbfs: float
    kurtosis: float  # of the whitened noise; 0 for Gaussian noise

    def render(self, samples: int, rng: np.random.Generator) -> np.ndarray:
        """Generates noise with exactly these measures.

        Args:
            samples: Length at 44.1 kHz.
            rng: Source of all randomness.

        Returns:
            Waveform `(samples,)`.
        """
        exactly = GramophoneConfig(
            **ranges([self]), fitted_chance=1.0, tilt_db_per_octave=[0.0, 0.0],
            colour_db=[0.0, 0.0], cutoff_hz=[1e5, 1e5], swish_db=[0.0, 0.0],
            locked_share=[0.0, 0.0], part_chance=0.0, run_out_chance=0.0, episode_chance=0.0)
        return generate("gramophone", samples, rng, carrier=CarrierConfig(
            alone_share=0.0, dominant_share=0.0, gramophone=exactly))


def ranges(fits: Sequence[NoiseMeasures]) -> dict[str, Any]:
    """Returns the settings of a disc or film, by name, whose ranges span all `fits`."""
    def span(name: str) -> list[float]:
        values = np.array([getattr(fitted, name) for fitted in fits])
        return [float(values.min()), float(values.max())]

    names = ("crackles_per_second", "crackle_db", "clicks_per_second", "click_db",
             "click_spread_db")
    return {"spectra_db": [fitted.spectrum_db.tolist() for fitted in fits],
            "crackle_spread_db": [CRACKLE_SPREAD_DB] * 2, "crackle_ms": span("pulse_ms"),
            "click_ms": span("pulse_ms")} | {name: span(name) for name in names}


def _frame_powers(audio: np.ndarray, size: int, hop: int) -> np.ndarray:
    """Returns power spectra `(bins, frames)` of Hann-windowed frames, 1 for noise of variance 1."""
    spectra = librosa.stft(audio.astype(np.float32), n_fft=size, hop_length=hop, center=False)
    return np.square(np.abs(spectra)) / (0.375 * size)  # the sum of the squared window


def third_octaves_db(audio: np.ndarray) -> np.ndarray:
    """Measures the stationary part of a noise in dB per Hz at `BAND_HZ`.

    Gaussian noise with a density of 1 per bin has 0 dB. Frames are shorter at high frequencies, so
    that enough of them contain no click.

    Raises:
        UserError: `audio` is shorter than 0.74 s.
    """
    bias = -np.log(1.0 - QUIET_QUANTILE)  # quantile of an exponential distribution
    level = np.empty(len(BAND_HZ))
    for size, low_hz, high_hz in ((8192, 0.0, 300.0), (512, 300.0, 1100.0), (256, 1100.0, 1e9)):
        if len(audio) < 4 * size:
            raise UserError(f"`audio` must hold at least {4 * size} samples to be measured. "
                            f"Received: {len(audio)}")
        power = np.quantile(_frame_powers(audio, size, size // 2), QUIET_QUANTILE, axis=1) / bias
        frequency = fft.rfftfreq(size, 1.0 / SAMPLE_RATE)
        for number in np.flatnonzero((BAND_HZ >= low_hz) & (BAND_HZ < high_hz)):
            inside = np.abs(np.log2(frequency[1:] / BAND_HZ[number])) < 1.0 / 6.0
            if not inside.any():
                inside = np.abs(frequency[1:] - BAND_HZ[number]).argmin()
            level[number] = dsp.decibels(np.mean(power[1:][inside]) + 1e-20)
    return level


def spectral_distance(first_db: np.ndarray, second_db: np.ndarray) -> float:
    """Returns the RMS difference of two third-octave spectra, 50 Hz to 16 kHz, ignoring level."""
    return float(np.std((first_db - second_db)[COMPARED_BANDS]))


def whiten(audio: np.ndarray) -> np.ndarray:
    """Flattens the spectrum of the hiss between 0.7 and 10 kHz, so that impulses stand out.

    The result is the prediction residual that click detectors use (Godsill and Rayner 1998). The
    predictor is derived from the spectrum of the hiss, so that clicks do not affect it. The
    residual has a robust standard deviation of 1, estimated from the median.
    """
    size = 1024
    frequency = np.maximum(fft.rfftfreq(size, 1.0 / SAMPLE_RATE), 10.0)
    bass, treble = (np.quantile(_frame_powers(audio, length, length // 2), QUIET_QUANTILE, axis=1)
                    for length in (size, size // 4))
    power = np.where(frequency < CLICK_BAND_HZ[0], bass, np.exp(np.interp(
        frequency, frequency[::4], np.log(treble + 1e-20))))
    inside = (frequency >= CLICK_BAND_HZ[0]) & (frequency <= CLICK_BAND_HZ[1])
    power = np.maximum(power, 1e-6 * power[inside].max() + 1e-20)
    octaves_outside = (np.maximum(0.0, np.log2(CLICK_BAND_HZ[0] / frequency))
                       + np.maximum(0.0, np.log2(frequency / CLICK_BAND_HZ[1])))
    level = -10.0 * np.log10(power) - CLICK_BAND_SLOPE_DB * octaves_outside
    level = np.maximum(level - level[inside].max(), -150.0)
    kernel = minimum_phase(level, size // 2)
    residual = signal.fftconvolve(audio, kernel)[:len(audio)]
    return residual / (np.median(np.abs(residual)) / 0.6745 + 1e-20)


def find_clicks(residual: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Finds the impulses in whitened noise.

    Returns:
        The positions of the impulses in samples, and their peaks in dB.
    """
    height = np.abs(residual)
    above = np.flatnonzero(height > to_gain(CLICK_THRESHOLD_DB))
    gap = int(CLICK_GAP_SECONDS * SAMPLE_RATE)
    start = np.flatnonzero(np.diff(above, prepend=-gap - 1) > gap)
    peaks = np.maximum.reduceat(height[above], start)
    return above[start], 20.0 * np.log10(peaks)


def _pulse_lengths(audio: np.ndarray, places: np.ndarray,
                   peaks_db: np.ndarray) -> tuple[float, float]:
    """Returns the 20th and 80th percentile of the pulse lengths of the loudest clicks, in ms."""
    spectrum = fft.rfft(audio)
    spectrum[:int(PULSE_LOWEST_HZ / SAMPLE_RATE * len(audio))] = 0.0
    treble = np.abs(fft.irfft(spectrum, len(audio))).astype(np.float64)
    reach = int(CLICK_GAP_SECONDS * SAMPLE_RATE)
    starts = np.maximum(places[np.argsort(peaks_db)[::-1][:MAX_SHAPES]] - reach, 0)
    ends = np.minimum(starts + 2 * reach, len(audio)) - 1
    tops = np.array([start + np.argmax(treble[start:end + 1])
                     for start, end in zip(starts, ends, strict=True)], dtype=np.intp)
    widths, _, left, right = signal.peak_widths(treble, tops, 0.5, (treble[tops], starts, ends))
    widths = widths[(left > starts) & (right < ends)]  # else the pulse is cut off
    if len(widths) < MIN_CLICKS:
        return TYPICAL_PULSE_MS
    low, high = 1e3 * np.quantile(widths, [0.2, 0.8]) / (PULSE_WIDTH * SAMPLE_RATE)
    return float(low), float(high)


def measure(audio: np.ndarray) -> NoiseMeasures:
    """Measures a noise that lasts about a second or longer.

    Raises:
        UserError: `audio` is too short, not finite or silent.
    """
    if not np.all(np.isfinite(audio)) or not np.any(audio):
        raise UserError("`audio` must be finite and not silent to be measured.")
    audio = audio - audio.mean()
    level_db = third_octaves_db(audio)
    residual = whiten(audio)
    places, peaks_db = find_clicks(residual)
    crackle, clicks = peaks_db[peaks_db < CLICK_DB], peaks_db[peaks_db >= CLICK_DB]
    median, high = np.quantile(clicks, [0.5, 0.9]) if len(clicks) else (CLICK_DB, CLICK_DB)
    seconds = len(audio) / SAMPLE_RATE
    return NoiseMeasures(
        seconds=seconds,
        level_dbfs=dsp.decibels(np.mean(np.square(audio, dtype=np.float64))),
        spectrum_db=level_db - level_db[MIDDLE_BANDS].mean(),
        crackles_per_second=len(crackle) / seconds,
        crackle_db=float(np.median(crackle)) if len(crackle) else CLICK_THRESHOLD_DB,
        clicks_per_second=len(clicks) / seconds, click_db=float(median),
        click_spread_db=float(high - median),
        kurtosis=float(stats.kurtosis(residual)),
        pulse_ms=_pulse_lengths(audio, places, peaks_db))


def _correct(fitted: NoiseMeasures, goal: NoiseMeasures,
             trial: NoiseMeasures) -> tuple[float, NoiseMeasures]:
    """Compares a `trial`, generated from `fitted`, with the `goal`.

    Returns:
        The error of the trial, and corrected parameters.
    """
    error = spectral_distance(goal.spectrum_db, trial.spectrum_db)
    spectrum = fitted.spectrum_db + 0.8 * np.where(
        BAND_HZ > MIN_CORRECTED_HZ, goal.spectrum_db - trial.spectrum_db, 0.0)
    corrections: dict[str, Any] = {
        "spectrum_db": np.clip(spectrum, goal.spectrum_db - 20.0, goal.spectrum_db + 3.0)}
    for part in ("crackle", "click"):
        rate, peak = f"{part}s_per_second", f"{part}_db"
        wanted = getattr(goal, rate)
        off_db = 20.0 * np.log10((wanted + 0.1) / (getattr(trial, rate) + 0.1))
        error += abs(off_db) / 2.0
        corrections[rate] = float(np.clip(getattr(fitted, rate) * to_gain(0.6 * off_db),
                                          wanted / 4.0, wanted * 4.0))
        if wanted * goal.seconds < MIN_CLICKS:
            continue
        off_db = getattr(goal, peak) - getattr(trial, peak)
        error += abs(off_db)
        corrections[peak] = getattr(fitted, peak) + 0.6 * off_db
        if part == "click":
            off_db = goal.click_spread_db - trial.click_spread_db
            error += 0.5 * abs(off_db)
            corrections["click_spread_db"] = float(np.clip(
                fitted.click_spread_db + 0.4 * off_db, 1.0, 12.0))
    return error, replace(fitted, **corrections)


def fit(goal: NoiseMeasures) -> NoiseMeasures:
    """Fits the parameters of hiss and impulses to the measures of a recording.

    Noise is generated with the current parameters and measured like the recording, and the
    parameters are corrected by the difference, `FIT_ROUNDS` times. Since both are measured in the
    same way, weaknesses of the measurement, such as missed or merged clicks, cancel out.
    """
    fitted = replace(goal, click_spread_db=max(goal.click_spread_db, 2.0))
    best, best_error = fitted, np.inf
    for number in range(FIT_ROUNDS):
        noise = fitted.render(int(FIT_SECONDS * SAMPLE_RATE), np.random.default_rng(number))
        error, corrected = _correct(fitted, goal, measure(noise))
        if error < best_error:
            best, best_error = fitted, error
        fitted = corrected
    return best
