"""Trains a diffusion model of clean sound: to remove Gaussian noise of any level (EDM).

Start reading at `GaussianMixtures` and `OnLevels`.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import keras
import numpy as np
from keras import ops

from historical_denoiser.audio import dsp
from historical_denoiser.audio.dsp import SAMPLE_RATE
from historical_denoiser.data.mixture import Mixture
from historical_denoiser.diffusion import degradations, edm
from historical_denoiser.diffusion.degradations import CarrierNoise, Clipping, Gaps
from historical_denoiser.diffusion.sampling import sample
from historical_denoiser.diffusion.settings import DiffusionConfig
from historical_denoiser.training import metrics

LEVEL_STREAM = 5  # the last number of the seeds of the noise, which those of its clean sound lack
VALIDATED_SIGMAS = (0.001, 0.01, 0.03, 0.1, 0.3, 1.0)  # noise levels of the fixed mixtures
MEASURED_ITEMS = 64  # to measure the spectrum of the clean sound
LEAST_POWER = 1e-9  # of an octave, relative to the mean: none is stated as silent
MEASURE = "validation_loss"
# What is done to sounds that the samplers restore in validation, and how.
GAP_SECONDS, CLIPPED_SDR_DB, NOISY_SNR_DB = 0.05, 7.0, 10.0
PROBE_STEPS = 8
# So few steps diverge from the published highest to the lowest level. In units of `sigma_data`:
PROBE_RANGE = (0.025, 6.0)
PROBES = ("gap_snr_db", "declip_gain_db", "denoise_gain_db")


class GaussianMixtures:
    """Makes mixtures of clean sound and Gaussian noise, at the sample rate of a diffusion model.

    Args:
        mixer: Makes the clean sound: a `Mixer`, whose attributes it shares.
        config: Sample rate and noise levels.
    """

    profile_form = None

    def __init__(self, mixer: Any, config: DiffusionConfig) -> None:
        self.mixer, self.config = mixer, config
        self.skipped, self.categories = mixer.skipped, mixer.categories
        self.samples = round(mixer.samples * config.sample_rate / SAMPLE_RATE)

    def item(self, index: int) -> Mixture:
        """Makes training mixture `index`; its level is drawn."""
        rng = np.random.default_rng([*self.mixer.seed, index, LEVEL_STREAM])
        return self._mix(index, float(self.config.for_training(rng, 1)[0]), rng)

    def evaluation_item(self, index: int) -> Mixture:
        """Makes fixed mixture `index`: the category changes fast, the level more slowly."""
        rng = np.random.default_rng([*self.mixer.seed, index, LEVEL_STREAM])
        level = index // len(self.categories) % len(VALIDATED_SIGMAS)
        return self._mix(index, VALIDATED_SIGMAS[level], rng)

    def describe_levels(self) -> str:
        """Returns a line with the measured RMS and spectrum of the clean sound."""
        spectra = np.array([np.abs(np.fft.rfft(self._mix(index, 1.0).clean)) ** 2
                            for index in range(MEASURED_ITEMS)]).mean(axis=0)
        rms = np.sqrt(np.mean(spectra) / self.samples)
        edges = self.config.octave_centres_hz()[:, None] * 2.0 ** np.array([-0.5, 0.5])
        bins = (edges * self.samples / self.config.sample_rate).round().astype(int)
        shape_db = [dsp.decibels(spectra[low:high].mean() / spectra.mean(), LEAST_POWER)
                    for low, high in bins]
        shape = ",".join(f"{level_db:.0f}" for level_db in shape_db)
        return (f"the RMS of {MEASURED_ITEMS} clean segments is {rms:.4f}; diffusion.sigma_data="
                f"{self.config.sigma_data:g} should be near it. Their spectrum is "
                f"diffusion.data_shape_db=[{shape}]")

    def _mix(self, index: int, sigma: float, rng: np.random.Generator | None = None) -> Mixture:
        drawn = self.mixer.clean_item(index)
        clean = dsp.fit_length(dsp.resample(drawn.clean, SAMPLE_RATE, self.config.sample_rate),
                               self.samples)
        noise = rng.standard_normal(self.samples, np.float32) if rng else np.zeros_like(clean)
        return replace(drawn, noisy=clean + np.float32(sigma) * noise, clean=clean, sigma=sigma)


class OnLevels(keras.Model):
    """A diffusion model with its preconditioning and its loss, as `distribution` trains it.

    Args:
        network: The network.
        config: Noise levels.

    Input: the list [waveforms `(batch, samples)` with noise, its levels `(batch,)`].
    Output: the estimated clean waveforms.
    """

    def __init__(self, network: keras.Model, config: DiffusionConfig) -> None:
        super().__init__(name="on_levels")
        self.network, self.levels = network, config
        self.denoise = edm.precondition(network, config)

    def call(self, inputs: Any) -> Any:
        return self.denoise(*inputs)

    def compute_loss(self, x: Any = None, y: Any = None, y_pred: Any = None,
                     sample_weight: Any = None, training: bool = True) -> Any:
        """Returns the mean loss of a batch for clean waveforms `y`.

        Args:
            x, y, y_pred, sample_weight, training: As in `keras.Model.compute_loss`.
        """
        return ops.mean(edm.denoising_loss(y_pred, y, x[1], self.levels))


def measure_names() -> list[str]:
    """Returns the names that `measure` gives."""
    return [MEASURE, *(f"{MEASURE}_at_{sigma:g}" for sigma in VALIDATED_SIGMAS)]


def measure(network: keras.Model, config: DiffusionConfig, mixtures: Iterable[Mixture],
            ) -> dict[str, float]:
    """Returns the mean loss of mixtures as `validation_loss`, and by level.

    New weights have a loss of 1 at all levels, if `sigma_data` is that of the data, and less with
    its `data_shape_db`.

    Args:
        network: The diffusion model.
        config: Noise levels.
        mixtures: Fixed mixtures with their levels.
    """
    denoise, losses = edm.precondition(network, config), defaultdict(list)
    for mixture in mixtures:
        sigma = np.array([mixture.sigma], np.float32)
        estimate = denoise(mixture.noisy[None], sigma)
        loss = float(edm.denoising_loss(estimate, mixture.clean[None], sigma, config)[0])
        for name in (MEASURE, f"{MEASURE}_at_{mixture.sigma:g}"):
            losses[name].append(loss)
    return {name: float(np.mean(values)) for name, values in losses.items()}


def measure_samplers(denoise: edm.Denoise, config: DiffusionConfig, sounds: list[np.ndarray],
                     ) -> dict[str, float]:
    """Returns by how much sampling with few steps improves damaged sounds, means in dB.

    These are the SNR within a gap in the middle, 0 for silence; the gain of the SNR of a clipped
    sound; and that of a sound with white noise of a known gain.

    Args:
        denoise: The diffusion model.
        config: Its settings.
        sounds: Clean waveforms `(samples,)`.
    """
    lowest, highest = (config.sigma_data * each for each in PROBE_RANGE)
    config = replace(config, steps=PROBE_STEPS, sigma_min=lowest, sigma_max=highest)
    noise_level = config.sigma_data * 10.0 ** (-NOISY_SNR_DB / 20.0)
    gains: dict[str, list[float]] = defaultdict(list)
    for number, sound in enumerate(sounds):
        clean = sound * np.float32(config.sigma_data / np.sqrt(max(dsp.power(sound), 1e-12)))
        rng, everything = np.random.default_rng(number), slice(None)
        missing = round(GAP_SECONDS * config.sample_rate)
        gap = slice((len(clean) - missing) // 2, (len(clean) + missing) // 2)
        is_known = np.ones(len(clean), bool)
        is_known[gap] = False
        holed, clipped = clean * is_known, dsp.clip_at_sdr(clean, CLIPPED_SDR_DB)
        noisy = clean + noise_level * rng.standard_normal(len(clean))
        level = np.abs(clipped).max()
        cases = ((gap, holed, Gaps(holed[None], is_known[None])),
                 (everything, clipped, Clipping(clipped[None], -level, level)),
                 (everything, noisy, CarrierNoise(
                     noisy[None], lambda rng, samples: rng.standard_normal(samples),
                     degradations.fixed_gain(noise_level))))
        for name, (place, damaged, degradation) in zip(PROBES, cases, strict=True):
            restored = sample(denoise, config, rng, (1, len(clean)), degradation)[0]
            gains[name].append(metrics.snr_db(clean[place], restored[place])
                               - metrics.snr_db(clean[place], damaged[place]))
    return {name: float(np.mean(values)) for name, values in gains.items()}


def format_losses(losses: dict[str, float]) -> str:
    """Returns a table of the result of `measure`."""
    return f"loss by noise level {losses[MEASURE]:.4f}\n" + metrics.make_table(
        ["noise level", "loss"], [[name.removeprefix(f"{MEASURE}_at_"), f"{value:.4f}"]
                                  for name, value in losses.items() if name != MEASURE])
