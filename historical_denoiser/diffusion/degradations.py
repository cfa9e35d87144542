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
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from keras import ops

from historical_denoiser.audio import dsp
from historical_denoiser.audio.blocks import Frames
from historical_denoiser.diffusion.settings import around

Tensor = Any  # a tensor of any Keras backend

NOISE_WINDOW = 8192  # samples; the noise of a recording is measured in the quietest such windows
QUIET_SHARE = 0.05  # of them; a single one may lie in a fade
DAMAGED_SHARE = 0.02  # of a sample that comes from damage; what has less is known
TINY_POWER = 1e-12  # least power of an excerpt of noise, and of the noise of a recording
CROSSFADE_SECONDS = 0.1  # of noise that is repeated


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
    """Samples beyond two levels were cut off.

    Args:
        observed: `(batch, samples)`.
        low: The lower level.
        high: The upper level.
        share: How much of each sample was cut off, of the same shape: after resampling, a sample
            may come from both. By default 1 beyond the levels, and 0 between them.
    """

    def __init__(self, observed: np.ndarray, low: float, high: float,
                 share: np.ndarray | None = None) -> None:
        super().__init__(observed)
        self.low, self.high = np.float32(low), np.float32(high)
        if share is None:
            share = (self.observed <= self.low) | (self.observed >= self.high)
        self.is_known = np.abs(share) < DAMAGED_SHARE
        self.is_cut = np.abs(1.0 - share) < DAMAGED_SHARE

    def error(self, estimate: Tensor) -> Tensor:
        is_clear = ops.convert_to_tensor((self.is_known | self.is_cut).astype(np.float32))
        return (self.observed - ops.clip(estimate, self.low, self.high)) * is_clear

    def make_consistent(self, estimate: np.ndarray) -> np.ndarray:
        beyond = np.where(self.observed > 0.5 * (self.low + self.high),
                          np.maximum(estimate, self.high), np.minimum(estimate, self.low))
        return np.where(self.is_known, self.observed, np.where(self.is_cut, beyond, estimate))


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
        draw_gain: Returns the gain of that noise for a generator and the noise, as the results of
            `fixed_gain`, `fixed_snr` and `estimated_gain` do.
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


def fixed_snr(power: float, snr_db: tuple[float, float],
              ) -> Callable[[np.random.Generator, np.ndarray], float]:
    """Returns gains for an SNR from a range, uniform in dB.

    Args:
        power: That of the recording: the sum of those of signal and noise.
        snr_db: Lower and upper bound.
    """
    def draw(rng: np.random.Generator, noise: np.ndarray) -> float:
        ratio = 10.0 ** (rng.uniform(*snr_db) / 10.0)
        return float(np.sqrt(power / (1.0 + ratio) / max(dsp.power(noise), TINY_POWER)))

    return draw


def estimated_gain(noise_power: float) -> Callable[[np.random.Generator, np.ndarray], float]:
    """Returns gains that give each noise the power of the recording's own noise."""
    return lambda rng, noise: float(np.sqrt(noise_power / max(dsp.power(noise), TINY_POWER)))


def estimated_snr_db(power: float, noise_power: float) -> tuple[float, float]:
    """Returns a range of SNRs for `fixed_snr` around that of a recording.

    Args:
        power: Power of the recording.
        noise_power: Result of `quietest_powers`, or the power of a noise profile.
    """
    noise_power = max(noise_power, TINY_POWER)
    return around(dsp.decibels(max(power - noise_power, 1e-3 * noise_power) / noise_power))


def quietest_powers(blocks: Iterable[np.ndarray]) -> np.ndarray:
    """Returns the power of each channel of a recording in its quietest moments, `(channels,)`.

    These are the windows of `NOISE_WINDOW` samples whose power only a twentieth of them go below.
    Digital silence says nothing about the noise and is left out; without any sound, it is 0.

    Args:
        blocks: Adjacent waveforms `(channels, samples)` of any length.
    """
    frames = Frames(NOISE_WINDOW)
    powers = [frames.add(block.T).var(axis=1) for block in blocks]
    if sum(map(len, powers)) == 0 and frames.rest is not None:
        powers = [frames.rest.var(axis=0)[None]]
    audible = (channel[channel > 0.0] for channel in np.concatenate(powers).T)
    return np.array([np.quantile(channel, QUIET_SHARE, method="lower") if len(channel) else 0.0
                     for channel in audible])


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
