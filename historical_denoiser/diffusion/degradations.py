"""What happened to a recording, as functions that guide the sampling of a diffusion model.

A degradation compares an estimate of the clean sound with what was observed. Where it is linear and
adds no noise, the estimate can be made consistent: samples that are known replace estimated ones.

Sources:
    E. Moliner, J. Lehtinen and V. Välimäki, "Solving audio inverse problems with a diffusion
    model", ICASSP 2023: gaps, clipping and low-pass.
    B. V. Miranda, diffusion-audio-restoration (2024): carrier noise that is drawn at each step, at
    a fixed or estimated gain or SNR.

Start reading at `Degradation`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
from keras import ops

from historical_denoiser.audio import dsp

Tensor = Any  # a tensor of any Keras backend

NOISE_WINDOW = 8192  # samples; the noise of a recording is measured in the quietest such window


class Degradation(ABC):
    """Base of the degradations of observed waveforms.

    Args:
        observed: `(batch, samples)`.
    """

    def __init__(self, observed: np.ndarray) -> None:
        self.observed = np.asarray(observed, np.float32)

    def draw(self, rng: np.random.Generator) -> None:  # noqa: B027 - most draw nothing
        """Draws what is random, once before each step."""

    @abstractmethod
    def error(self, estimate: Tensor) -> Tensor:
        """Returns the difference `(batch, n)` of what was observed and the degraded estimate."""

    def make_consistent(self, estimate: np.ndarray) -> np.ndarray:
        """Replaces samples that are known."""
        return estimate


class Gaps(Degradation):
    """Samples are missing.

    Args:
        observed: `(batch, samples)`.
        is_known: Booleans of the same shape.
    """

    def __init__(self, observed: np.ndarray, is_known: np.ndarray) -> None:
        super().__init__(observed)
        self.is_known = np.asarray(is_known, bool)

    def error(self, estimate: Tensor) -> Tensor:
        return (self.observed - estimate) * ops.convert_to_tensor(self.is_known.astype(np.float32))

    def make_consistent(self, estimate: np.ndarray) -> np.ndarray:
        return np.where(self.is_known, self.observed, estimate)


class Clipping(Degradation):
    """Samples beyond a level were cut off.

    Args:
        observed: `(batch, samples)`.
        level: The level, by default the largest magnitude of each item.
    """

    def __init__(self, observed: np.ndarray, level: float | None = None) -> None:
        super().__init__(observed)
        largest = np.max(np.abs(self.observed), axis=-1, keepdims=True)
        self.level = np.broadcast_to(largest if level is None else np.float32(level), largest.shape)
        self.is_known = np.abs(self.observed) < self.level

    def error(self, estimate: Tensor) -> Tensor:
        level = ops.convert_to_tensor(self.level)
        return self.observed - ops.clip(estimate, -level, level)

    def make_consistent(self, estimate: np.ndarray) -> np.ndarray:
        beyond = np.sign(self.observed) * np.maximum(np.abs(estimate), self.level)
        return np.where(self.is_known, self.observed, beyond)


class LowPass(Degradation):
    """High frequencies are missing.

    Args:
        observed: `(batch, samples)`.
        cutoff_hz: Frequencies above it are missing.
        sample_rate: In Hz.
    """

    def __init__(self, observed: np.ndarray, cutoff_hz: float, sample_rate: float) -> None:
        super().__init__(observed)
        frequency_hz = np.fft.rfftfreq(self.observed.shape[-1], 1.0 / sample_rate)
        self.gain = (frequency_hz <= cutoff_hz).astype(np.float32)
        self.observed = self._filter(self.observed)

    def error(self, estimate: Tensor) -> Tensor:
        gain = ops.convert_to_tensor(self.gain)
        real, imag = ops.rfft(estimate)
        low = ops.irfft((real * gain, imag * gain), fft_length=self.observed.shape[-1])
        return self.observed - low

    def make_consistent(self, estimate: np.ndarray) -> np.ndarray:
        return estimate - self._filter(estimate) + self.observed

    def _filter(self, waves: np.ndarray) -> np.ndarray:
        spectrum = np.fft.rfft(waves) * self.gain
        return np.fft.irfft(spectrum, waves.shape[-1]).astype(np.float32)


class CarrierNoise(Degradation):
    """Noise of a carrier was added, of which there are other recordings.

    Args:
        observed: `(batch, samples)`.
        draw_noise: Returns noise `(samples,)` for a generator and a length: an excerpt of a
            recording, repeated if it is too short.
        draw_gain: Returns the gain of that noise, from a generator, the noise and the estimate of
            the clean sound; see `fixed_gain` and its neighbours.
    """

    def __init__(self, observed: np.ndarray,
                 draw_noise: Callable[[np.random.Generator, int], np.ndarray],
                 draw_gain: Callable[[np.random.Generator, np.ndarray], float]) -> None:
        super().__init__(observed)
        self._draw_noise, self._draw_gain = draw_noise, draw_gain
        self.noise = np.zeros_like(self.observed)

    def draw(self, rng: np.random.Generator) -> None:
        count, samples = self.observed.shape
        noises = [self._draw_noise(rng, samples) for _ in range(count)]
        self.noise = np.stack([self._draw_gain(rng, noise) * noise for noise in noises]
                              ).astype(np.float32)

    def error(self, estimate: Tensor) -> Tensor:
        return self.observed - estimate - ops.convert_to_tensor(self.noise)


def fixed_gain(gain: float) -> Callable[[np.random.Generator, np.ndarray], float]:
    """Returns the gain of a noise as it is."""
    return lambda rng, noise: gain


def fixed_snr(observed: np.ndarray, snr_db: tuple[float, float],
              ) -> Callable[[np.random.Generator, np.ndarray], float]:
    """Returns gains for an SNR from a range, uniform in dB.

    Args:
        observed: The recording; its power is the sum of those of signal and noise.
        snr_db: Lower and upper bound.
    """
    def draw(rng: np.random.Generator, noise: np.ndarray) -> float:
        ratio = 10.0 ** (rng.uniform(*snr_db) / 10.0)
        return float(np.sqrt(dsp.power(observed) / (1.0 + ratio) / dsp.power(noise)))

    return draw


def estimated_gain(noise_power: float) -> Callable[[np.random.Generator, np.ndarray], float]:
    """Returns gains that give each noise the power of the recording's own noise."""
    return lambda rng, noise: float(np.sqrt(noise_power / dsp.power(noise)))


def estimated_snr_db(observed: np.ndarray, noise_power: float, spread_db: float = 2.0,
                     ) -> tuple[float, float]:
    """Returns a range of SNRs for `fixed_snr` around that of a recording.

    Args:
        observed: The recording.
        noise_power: Result of `quietest_power`, or the power of a noise profile.
        spread_db: Distance of the bounds from the estimate.
    """
    signal_power = max(dsp.power(observed) - noise_power, 1e-3 * noise_power)
    snr_db = dsp.decibels(signal_power / noise_power)
    return snr_db - spread_db, snr_db + spread_db


def quietest_power(observed: np.ndarray) -> float:
    """Returns the power of the quietest `NOISE_WINDOW` samples of a recording `(samples,)`.

    Digital silence says nothing about the noise and is left out; the result is 0 without any sound.
    """
    size = min(NOISE_WINDOW, len(observed))
    windows = np.lib.stride_tricks.sliding_window_view(observed, size)[:: max(1, size // 4)]
    powers = np.array([dsp.power(window) for window in windows])
    return float(np.min(powers[powers > 0.0], initial=np.inf)) if np.any(powers > 0.0) else 0.0


def looped(recordings: list[np.ndarray], turn_samples: int | None, fade_samples: int,
           ) -> Callable[[np.random.Generator, int], np.ndarray]:
    """Returns a function that draws excerpts of recorded noise for `CarrierNoise`.

    Args:
        recordings: Waveforms `(samples,)`, repeated over whole turns where they are too short.
        turn_samples: Length of a turn of the disc; None for other carriers.
        fade_samples: Length of the crossfade between repetitions.
    """
    def draw(rng: np.random.Generator, samples: int) -> np.ndarray:
        noise = recordings[rng.integers(len(recordings))]
        start = int(rng.integers(len(noise)))
        noise = dsp.repeat_with_crossfade(noise, start + samples, fade_samples, turn_samples)
        return noise[start : start + samples]

    return draw
