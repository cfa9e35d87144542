"""Restores recordings by sampling a diffusion model, block by block.

The model knows clean sound only. `diffusion.mode` states how the recording was degraded: noise of
a carrier was added, of which there are other recordings; samples are missing or were clipped; or
high frequencies are missing. Start reading at `DiffusionRestorer`.
"""

import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from tqdm import tqdm

from historical_denoiser.audio import dsp
from historical_denoiser.audio.dsp import SAMPLE_RATE
from historical_denoiser.audio.removal import Pair
from historical_denoiser.audio.survey import Survey, as_channels
from historical_denoiser.classical.repair import Found, Menders, repair
from historical_denoiser.core.checks import UserError, require
from historical_denoiser.data import recordings
from historical_denoiser.data.audio_index import find_audio
from historical_denoiser.diffusion import degradations
from historical_denoiser.diffusion.degradations import CarrierNoise, Clipping, Degradation, Gaps
from historical_denoiser.diffusion.edm import Denoise
from historical_denoiser.diffusion.sampling import sample
from historical_denoiser.diffusion.settings import NOISE_MODES, REPAIRS, DiffusionConfig
from historical_denoiser.network.stored import NetworkSettings
from historical_denoiser.restoration import analysis
from historical_denoiser.restoration.chain import KnownNoise
from historical_denoiser.restoration.restorer import Restorer
from historical_denoiser.restoration.settings import StageSettings

MAX_NOISE_SECONDS = 60.0  # of each recording of noise
MAX_GAP_SHARE = 0.5  # of a block; longer gaps are left


@dataclass(frozen=True)
class DiffusionRestorer(Restorer):
    """A diffusion model as a function of recordings; `make_restorer` makes one.

    The profile of a channel, in `Survey` and `KnownNoise`, is a number: the gain of the noise with
    fixed_gain, otherwise its power, both at the level of the model.

    Attributes:
        config: Its settings.
        noises: Recordings of the carrier's noise `(samples,)` at the model's sample rate.
        seed: The same recording gives the same result with the same seed.
    """

    config: DiffusionConfig = field(default_factory=DiffusionConfig)
    noises: tuple[np.ndarray, ...] = ()
    seed: int = 0

    repair_share = 0.95  # with repairs, nothing else is done

    @property
    def rate(self) -> int:
        return self.config.sample_rate

    @property
    def takes_profile(self) -> bool:
        return self.config.mode.startswith("estimated")

    @property
    def step_samples(self) -> int:
        return 1

    def analyse(self, surveyed: Survey, read: analysis.Read, sample_rate: int,
                noise_profile: np.ndarray | None = None,
                report: analysis.Report = lambda seconds: None) -> Survey:
        """As `analysis.analyse`, but adds the gain or the power of the noise."""
        known, config = analysis.analyse(self, surveyed, read, sample_rate), self.config
        if not known.is_audible or config.mode not in NOISE_MODES:
            return known
        gain = self.gain(known.power)
        values = np.full(len(known.distinct), gain * config.gain)
        if config.mode.startswith("estimated") and noise_profile is not None:
            profile = dsp.resample(as_channels(noise_profile), sample_rate, self.rate)
            values[:] = gain**2 * np.mean(profile.var(axis=0))
        elif config.mode.startswith("estimated"):
            blocks: Iterable[np.ndarray] = (as_channels(block)[:, known.distinct].T.astype(
                np.float32) for block in read())
            blocks = known.mono.combine(blocks) if known.mono else blocks
            values = gain**2 * degradations.quietest_powers(
                dsp.resample_blocks(blocks, sample_rate, self.rate))
        return replace(known, profiles=tuple(values))

    def separate(self, blocks: Iterable[np.ndarray], sample_rate: int, known: Survey,
                 *others: Any, **more: Any) -> Iterator[Pair]:
        """As `Separator.separate`; the modes that repair leave no noise to be removed."""
        if self.config.mode in REPAIRS:
            return ((block, np.zeros_like(block)) for block in blocks)
        return super().separate(blocks, sample_rate, known, *others, **more)

    def repair(self, blocks: Iterable[np.ndarray], sample_rate: int, found: Found,
               ) -> Iterator[Pair]:
        """As `Restorer.repair`; the classical methods find the damage."""
        menders = Menders(self._fill_gap, self._declip) if self.config.mode in REPAIRS else None
        return repair(blocks, sample_rate, self.stages.repair, found, menders)

    def _restore(self, waveforms: np.ndarray, noises: list[KnownNoise]) -> np.ndarray:
        """Restores a block `(channels, samples)` at the model's rate and level."""
        return np.stack([self._sample(channel, partial(self._degrade, known=noise.profile))
                         for channel, noise in zip(waveforms, noises, strict=False)])

    def _degrade(self, observed: np.ndarray, known: Any) -> tuple[Degradation | None, float]:
        """Returns what happened to `(1, samples)`, and the weight of the guidance."""
        config, power = self.config, self.config.sigma_data**2
        if config.mode == "sample":
            return None, config.weight()
        if config.mode == "extend":
            return (degradations.LowPass(observed, config.known_below_hz(), self.rate),
                    config.weight())
        least_snr_db = None
        if config.mode == "fixed_gain":
            gain = degradations.fixed_gain(float(known))
        elif config.mode == "estimated_gain":
            gain = degradations.estimated_gain(float(known))
        else:
            least_snr_db, most_snr_db = config.snr_db if config.mode == "fixed_snr" else (
                degradations.estimated_snr_db(power, float(known)))
            gain = degradations.fixed_snr(power, (least_snr_db, most_snr_db))
        draw_noise = degradations.looped(
            list(self.noises), round(recordings.TURN_SECONDS * self.rate),
            round(degradations.CROSSFADE_SECONDS * self.rate))
        return CarrierNoise(observed, draw_noise, gain), config.weight(least_snr_db)

    def _sample(self, observed: np.ndarray,
                degrade: Callable[[np.ndarray], tuple[Degradation | None, float]]) -> np.ndarray:
        """Samples a block `(samples,)`, whose content is the seed, at the model's rate."""
        size = round(self.segment_seconds * self.rate) + 2 * round(
            self.settings.context_seconds * self.rate)
        whole = _fill_up(observed, size)[None]
        degradation, weight = degrade(whole)
        rng = np.random.default_rng([self.seed, zlib.crc32(observed.tobytes())])
        with tqdm(total=self.config.steps, desc="sampling", unit="step", disable=None,
                  leave=False) as bar:
            return sample(self.network, replace(self.config, xi=weight), rng, whole.shape,
                          degradation, bar.update)[0, : len(observed)]

    # --- Repairs -----------------------------------------------------------------------------

    def _fill_gap(self, sound: np.ndarray, start: int, stop: int, following: int, sample_rate: int,
                  ) -> bool:
        """As `classical.gaps.fill_gap`."""
        block, missing = round(self.config.block_seconds * sample_rate), stop - start
        end = min(max(0, start - (block - missing) // 2) + block, following)
        first = max(0, end - block)
        if missing > MAX_GAP_SHARE * block or not first < start < stop < end:
            return False
        piece, is_damaged = sound[first:end], np.zeros(end - first, bool)
        is_damaged[start - first : stop - first] = True
        sound[start:stop] = self._mend(
            piece, is_damaged, sample_rate, lambda observed, share, gain:
            Gaps(observed, np.abs(share) < degradations.DAMAGED_SHARE))[is_damaged]
        return True

    def _declip(self, sound: np.ndarray, low: float, high: float, origin: int, sample_rate: int,
                ) -> np.ndarray:
        """As `classical.clipping.declip`."""
        def predict(both: np.ndarray) -> np.ndarray:
            piece, is_damaged = both[0], both[1] > 0.0
            if not is_damaged.any():
                return piece[None]
            return self._mend(piece, is_damaged, sample_rate, lambda observed, share, gain:
                              Clipping(observed, gain * low, gain * high, share))[None]

        is_damaged = (sound >= high) | (sound <= low)
        joined = np.concatenate(list(dsp.stream_in_segments(
            predict, [np.stack([sound, is_damaged])], round(self.segment_seconds * sample_rate),
            round(self.settings.context_seconds * sample_rate))), axis=-1)[0]
        out = np.where(sound >= high, np.maximum(joined, sound), sound)
        return np.where(sound <= low, np.minimum(joined, sound), out)

    def _mend(self, piece: np.ndarray, is_damaged: np.ndarray, sample_rate: int,
              degrade: Callable[[np.ndarray, np.ndarray, float], Degradation]) -> np.ndarray:
        """Returns what the model makes of at most a block `(samples,)` with damaged samples.

        `degrade` is given the block at the model's rate and level, the share of damage in each of
        its samples, and the gain.
        """
        gain = self.gain(dsp.power(piece))
        observed, share = (dsp.resample(each.astype(np.float32), sample_rate, self.rate)
                           for each in (gain * piece, is_damaged))

        def with_share(whole: np.ndarray) -> tuple[Degradation, float]:
            return degrade(whole, _fill_up(share, whole.shape[1])[None], gain), self.config.weight()

        restored = dsp.resample(self._sample(observed, with_share), self.rate, sample_rate)
        return dsp.fit_length(restored, len(piece)) / gain


def _fill_up(values: np.ndarray, size: int) -> np.ndarray:
    """Returns `(samples,)` mirrored at its end up to a size; an excess sample is left out."""
    return np.pad(values, (0, max(0, size - len(values))), mode="symmetric")[:size]


def make_restorer(denoise: Denoise, config: DiffusionConfig, stages: StageSettings, seed: int = 0,
                  ) -> DiffusionRestorer:
    """Returns a diffusion model as a function of recordings.

    Args:
        denoise: The model; see `edm.precondition`.
        config: Its settings.
        stages: The stages; only `repair` and `mono_source` are used.
        seed: The same recording gives the same result with the same seed.

    Raises:
        UserError: A recording of noise cannot be read, or all are silent.
        FileNotFoundError: The folder of noise holds no audio.
    """
    settings = NetworkSettings(reference_dbfs=dsp.decibels(config.sigma_data**2),
                               context_seconds=0.5 * config.overlap_seconds)
    repairs = [REPAIRS[config.mode]] if config.mode in REPAIRS else stages.repair
    noises = read_noises(config) if config.mode in NOISE_MODES else ()
    return DiffusionRestorer(
        denoise, settings, StageSettings.only(repair=repairs, mono_source=stages.mono_source),
        config.block_seconds - config.overlap_seconds, config=config, noises=noises, seed=seed)


def read_noises(config: DiffusionConfig) -> tuple[np.ndarray, ...]:
    """Reads the recordings of noise, without silent ones, at the model's sample rate."""
    found = []
    for path in find_audio(config.noise_folder()):
        try:
            noise = recordings.read_segment(path, 0.0, MAX_NOISE_SECONDS)
        except UserError as error:
            raise UserError(f"`diffusion.noise`: {path}: {error}") from error
        if len(noise) and np.ptp(noise) > 0.0:
            noise = dsp.resample(noise - noise.mean(), SAMPLE_RATE, config.sample_rate)
            found.append(noise.astype(np.float32))
    require(bool(found), "diffusion.noise", "a folder of noise that is not silent", config.noise)
    return tuple(found)
