"""A network and its stages as a function of recordings. Start reading at `Restorer`."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from historical_denoiser.audio.dsp import SAMPLE_RATE
from historical_denoiser.audio.fitting import EXCERPTS_SECONDS, fit
from historical_denoiser.audio.removal import Pair, Strength, as_strength, remove
from historical_denoiser.audio.survey import Survey, as_waveform, require_rate, survey
from historical_denoiser.classical.repair import Found, repair
from historical_denoiser.restoration import analysis
from historical_denoiser.restoration.separation import Separator

# If the start of a stream is softer than this, its level is not used.
SILENT_POWER = 10.0 ** (-70.0 / 10.0)


@dataclass(frozen=True)
class Restored:
    """A restored recording.

    Attributes:
        waveform: The recording, of the same shape and type as before.
        strength: What was removed of the noise estimate; "auto" is replaced by what was fitted.
        known: What was found in the recording: its hum, silence and noise.
    """

    waveform: np.ndarray
    strength: Strength
    known: Survey


@dataclass(frozen=True)
class Restorer(Separator):
    """A network and its stages, as a function of recordings; the attributes are as in `Separator`.

    Waveforms are floating point, `(samples,)` or `(samples, channels)`, at any sample rate.
    Channels are restored separately, except in stereo transfers of mono carriers.
    """

    analyse = analysis.analyse
    analysis_seconds = analysis.analysis_seconds
    fit_strength = analysis.fit_strength
    repair_share = 0.5  # of the time that a recording with repairs takes

    @property
    def takes_profile(self) -> bool:
        """Whether a noise profile can be given."""
        return self.settings.unet.use_profile

    def __call__(self, waveform: np.ndarray, sample_rate: int,
                 strength: float | str | Strength = 1.0,
                 noise_profile: np.ndarray | None = None,
                 progress: Callable[[float], object] = lambda share: None) -> np.ndarray:
        """Returns a restored recording; arguments and errors are those of `restore`."""
        return self.restore(waveform, sample_rate, strength, noise_profile, progress).waveform

    def restore(self, waveform: np.ndarray, sample_rate: int,
                strength: float | str | Strength = 1.0, noise_profile: np.ndarray | None = None,
                progress: Callable[[float], object] = lambda share: None) -> Restored:
        """Restores a whole recording, and returns what was found in it as well.

        Args:
            waveform: `(samples,)` or `(samples, channels)`, floating point, full scale at 1, as
                `soundfile.read` returns it. Integers are refused, since their full scale is not
                known.
            sample_rate: Sample rate in Hz, a whole number.
            strength: Share of the noise estimate that is removed, in [0, 1]; "auto" to fit it to
                the recording; or a `Strength`.
            noise_profile: An excerpt of the recording, or of another one of the same carrier, that
                holds noise alone: `(samples,)` or `(samples, channels)`, at the same sample rate
                and level, at least 0.1 s. With several channels, each is the profile of its own
                channel.
            progress: Called with the share that is done, rising to 1.

        Raises:
            ValueError: An argument has the wrong form.
            UserError: A `ValueError`: the recording holds NaN or infinite samples, the network
                returned NaN, or takes no profile, or `noise_profile` is too short or silent.
        """
        waveform, strength = as_waveform(waveform), as_strength(strength)
        require_rate(sample_rate)
        if self.stages.repair:
            waveform = np.concatenate([waveform[:0], *self._repair([waveform], sample_rate)])
        block_samples = max(1, round(self.segment_seconds * sample_rate))
        blocks = [waveform[start : start + block_samples]
                  for start in range(0, len(waveform), block_samples)]
        known, seconds = survey(blocks, sample_rate), len(waveform) / sample_rate
        expected = seconds + strength.is_auto * min(EXCERPTS_SECONDS, seconds) + (
            noise_profile is None) * self.analysis_seconds(known.audible_samples, sample_rate)
        done = 0.0

        def report(seconds: float) -> None:
            nonlocal done
            done += seconds
            progress(min(done / expected, 1.0))

        known = self.analyse(known, lambda: blocks, sample_rate, noise_profile, report)
        strength = self.fit_strength(strength, lambda: blocks, sample_rate, known, report).strength
        restored = [waveform[:0].copy()]
        for block in self.stream(blocks, sample_rate, strength, known):
            restored.append(block)
            report(len(block) / sample_rate)
        progress(1.0)
        return Restored(np.concatenate(restored), strength, known)

    def stream(self, blocks: Iterable[np.ndarray], sample_rate: int,
               strength: float | str | Strength = 1.0, known: Survey | None = None,
               noise_profile: np.ndarray | None = None) -> Iterator[np.ndarray]:
        """Restores a recording block by block, with constant memory.

        Args:
            blocks: Adjacent waveforms of any length.
            sample_rate: Sample rate in Hz.
            strength: As in `__call__`; "auto" is fitted to the first segment.
            known: Result of `analyse`, with which the output equals that of `__call__`. If None,
                only the first segment is analysed; if that is nearly silent, the level is not
                changed.
            noise_profile: As in `__call__`; ignored if `known` is given.

        Yields:
            Each block, restored.

        Raises:
            ValueError: An argument has the wrong form.
            UserError: The recording contains NaN or infinite samples, or an error of `__call__`.
        """
        if isinstance(blocks, np.ndarray):
            raise ValueError("`blocks` must be several waveforms. Received: one array of shape "
                             f"{blocks.shape}; call the restorer on it, or put it into a list")
        require_rate(sample_rate)
        strength = as_strength(strength)
        blocks = self._repair(map(as_waveform, blocks), sample_rate)
        if known is None:
            blocks, known = self._analyse_start(blocks, sample_rate, noise_profile)
        pairs = self.separate(blocks, sample_rate, known)
        if strength.is_auto:
            first: list[Pair] = []
            while sum(len(pair[0]) for pair in first) < self.segment_seconds * sample_rate and (
                    pair := next(pairs, None)) is not None:
                first.append(pair)
            if first:
                strength = fit(strength, [analysis.as_one(first)], sample_rate).strength
            pairs = itertools.chain(first, pairs)
        for block, removed in remove(pairs, sample_rate, strength):
            yield (block - removed).astype(block.dtype, copy=False)

    def repair(self, blocks: Iterable[np.ndarray], sample_rate: int, found: Found,
               ) -> Iterator[Pair]:
        """Yields each block and the repaired block.

        Args:
            blocks: Adjacent blocks `(samples,)` or `(samples, channels)` of any length.
            sample_rate: Sample rate in Hz.
            found: What was repaired is added to it.
        """
        return repair(blocks, sample_rate, self.stages.repair, found)

    def _repair(self, blocks: Iterable[np.ndarray], sample_rate: int) -> Iterator[np.ndarray]:
        return (repaired for _, repaired in self.repair(blocks, sample_rate, Found()))

    def _analyse_start(self, blocks: Iterator[np.ndarray], sample_rate: int,
                       noise_profile: np.ndarray | None,
                       ) -> tuple[Iterator[np.ndarray], Survey]:
        """Analyses the first segment; returns all blocks and the analysis."""
        first, samples = [], 0
        for block in blocks:
            first.append(block)
            samples += len(block)
            if samples >= self.segment_seconds * sample_rate:
                break
        known = survey(first, sample_rate)
        # A channel that is silent in the first segment, or equal to another one, may change later.
        # A leader with dither in it does not show how loud the programme will be.
        every = replace(known, source=tuple(range(len(known.source))), silences=(),
                        power=known.power if known.power > SILENT_POWER else 0.0)
        without_pass = replace(self, stages=replace(self.stages, listen_first=False))
        return itertools.chain(first, blocks), without_pass.analyse(
            every, lambda: first, sample_rate, noise_profile)

    def each(self, waveforms: np.ndarray, noise_profile: np.ndarray | None = None) -> np.ndarray:
        """Restores mono waveforms `(batch, samples)` at 44.1 kHz separately.

        The output is not checked: if a network in training returns NaN, so does this method. All
        waveforms share the noise profile `(samples,)`.

        Raises:
            UserError: As in `__call__`; for NaN, only if there is an analysis pass.
        """
        return np.stack([self._restore_one(waveform, noise_profile) for waveform in waveforms])

    def _restore_one(self, waveform: np.ndarray, noise_profile: np.ndarray | None) -> np.ndarray:
        known = self.analyse(survey([waveform], SAMPLE_RATE), lambda: [waveform], SAMPLE_RATE,
                             noise_profile)
        pairs = self.separate([waveform], SAMPLE_RATE, known, may_fail=True)
        return np.concatenate([block - noise for block, noise in pairs])
