"""Estimates the noise of an analysed recording, block by block. Start reading at `Separator`."""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from historical_denoiser.audio import dsp, silence
from historical_denoiser.audio.blocks import Tape, in_blocks
from historical_denoiser.audio.dsp import SAMPLE_RATE, Predict
from historical_denoiser.audio.removal import Pair
from historical_denoiser.audio.survey import Survey, as_channels
from historical_denoiser.classical import clicks
from historical_denoiser.core.checks import UserError
from historical_denoiser.network.stored import NetworkSettings
from historical_denoiser.restoration.chain import ORDER, KnownNoise, Network, restore_segment
from historical_denoiser.restoration.settings import StageSettings

SEGMENT_SECONDS = 7.0
MAX_GAIN = 1e12  # the reciprocal of the largest sample that is read
LOUDEST = 1e4  # upper limit of the network's input, whose usual level is near 0.1


@dataclass(frozen=True)
class Separator:
    """A network and its stages, which estimate the noise of recordings.

    Attributes:
        network: Takes and returns spectra; see `chain.Network`.
        settings: What is needed to run the network as in training.
        stages: The stages around the network.
        segment_seconds: Length of a segment; memory grows with it.
        by_stage: Whether noise estimates have a further axis, the last one: the whole, and what
            each stage of `chain.ORDER` removed of it.
    """

    network: Network
    settings: NetworkSettings
    stages: StageSettings
    segment_seconds: float = SEGMENT_SECONDS
    by_stage: bool = False

    @property
    def rate(self) -> int:
        """The network's sample rate in Hz."""
        return SAMPLE_RATE

    @property
    def step_samples(self) -> int:
        """Segments begin at multiples of this."""
        # Click removal depends on a block grid, which must be the same in every segment.
        return math.lcm(self.settings.stft.hop_size * 2**self.settings.unet.depth, clicks.HOP)

    def separate(self, blocks: Iterable[np.ndarray], sample_rate: int, known: Survey,
                 remember: Callable[[Predict], Predict] = lambda predict: predict,
                 may_fail: bool = False) -> Iterator[Pair]:
        """Yields each block and the noise estimate for it, in the same form.

        Constant channels have no noise, and identical channels get identical results.

        Args:
            blocks: Adjacent blocks `(samples,)` or `(samples, channels)` of any length.
            sample_rate: Sample rate in Hz.
            known: Result of `analysis.analyse` for all blocks.
            remember: Wraps the function that restores a segment, like `journal.Journal.around`.
            may_fail: Whether the network may return NaN, as during training.

        Raises:
            ValueError: A block does not have the channels of the survey.
            UserError: The recording contains NaN or infinite samples, or the network returned some.
        """
        if not known.distinct:
            yield from ((block, self._nothing(block)) for block in blocks)
        elif known.silences:
            yield from self._separate_sounds(blocks, sample_rate, known, remember, may_fail)
        else:
            yield from self._separate_whole(blocks, sample_rate, known, remember, may_fail)

    def gain(self, power: float) -> float:
        """Returns the gain that brings a recording of this power to the network's level."""
        if self.settings.reference_dbfs is None or power <= 0.0:
            return 1.0
        return min(float(np.sqrt(10.0 ** (self.settings.reference_dbfs / 10.0) / power)), MAX_GAIN)

    def _separate_sounds(self, blocks: Iterable[np.ndarray], sample_rate: int, known: Survey,
                         *others: Any) -> Iterator[Pair]:
        """Separates each span between two silences on its own."""

        def noises(blocks: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
            tape = Tape(blocks)
            for (start, stop), is_silent in silence.spans(known.silences, known.samples):
                sound = tape.play(start, stop)
                if is_silent:
                    yield from map(self._nothing, sound)
                    continue
                yield from (noise for _, noise in self.separate(
                    sound, sample_rate, known.between(start, stop), *others))
            # The recording is read to its end, because a reader reports damage there.
            yield from map(self._nothing, blocks)

        yield from in_blocks(blocks, noises)

    def _separate_whole(self, blocks: Iterable[np.ndarray], sample_rate: int, known: Survey,
                        remember: Callable[[Predict], Predict], may_fail: bool) -> Iterator[Pair]:
        """Separates a recording without silences."""
        distinct = known.distinct
        audible = [channel for channel, source in enumerate(known.source) if source >= 0]
        order = [distinct.index(known.source[channel]) for channel in audible]
        missing = 0  # samples passed to the network, minus those returned

        def checked_input() -> Iterator[np.ndarray]:
            nonlocal missing
            for block in blocks:
                channels = as_channels(block)
                if channels.shape[1] != len(known.source):
                    raise ValueError(f"`blocks` must all have {len(known.source)} channels. "
                                     f"Received: {block.shape}")
                if not np.isfinite(channels).all():
                    raise UserError("the recording holds NaN or infinite samples")
                missing += len(block)
                yield block

        def checked_output(blocks: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
            nonlocal missing
            inputs = (as_channels(block)[:, distinct].T for block in blocks)
            pieces = self._estimates(known.mono.combine(inputs) if known.mono else inputs,
                                     sample_rate, known, remember)
            for piece in known.mono.spread(pieces) if known.mono else pieces:
                if not (may_fail or np.isfinite(piece).all()):
                    raise UserError("the network returned NaN; are the weights whole?")
                missing -= piece.shape[-1]
                yield piece

        for block, found in in_blocks(checked_input(), checked_output, axis=-1):
            channels = as_channels(block)
            # The estimate by stage has the channels of all stages one after the other.
            shares = found.reshape(-1, len(distinct), len(block)).T[:, order].astype(block.dtype)
            shares[..., 0] = channels[:, audible] - shares[..., 0]
            noise = self._nothing(channels)
            noise[:, audible] = shares if self.by_stage else shares[..., 0]
            yield block, noise.reshape(self._nothing(block).shape)
        if missing > 0:
            raise UserError(f"the network returned {missing} samples less than it was given; is "
                            "it one for spectra of this form?")

    def _estimates(self, blocks: Iterable[np.ndarray], sample_rate: int, known: Survey,
                   remember: Callable[[Predict], Predict]) -> Iterator[np.ndarray]:
        """Yields the restored recording in float32 pieces `(channels, samples)`.

        Together the pieces are at least as long as the blocks `(channels, samples)`. They contain
        nothing above half the network's sample rate.
        """
        gain = self.gain(known.power)
        noises = [KnownNoise(known.hum_hz, None if floor is None else gain**2 * floor, profile)
                  for floor, profile in itertools.zip_longest(known.floors, known.profiles)]
        restore = partial(self._restore, noises=noises or [KnownNoise(known.hum_hz)]
                          * len(known.distinct))
        pieces = self.in_segments(remember(restore), blocks, sample_rate, gain)
        for piece in dsp.resample_blocks(pieces, self.rate, sample_rate):
            yield piece / np.float32(gain)

    def in_segments(self, restore: Predict, blocks: Iterable[np.ndarray], sample_rate: int,
                    gain: float, **at: Callable[[int, int, int], object]) -> Iterator[np.ndarray]:
        """Yields what `restore` makes of segments at the network's rate and level.

        Args:
            restore: Takes and returns waveforms `(channels, samples)`.
            blocks: Waveforms `(channels, samples)`.
            sample_rate: Sample rate in Hz.
            gain: Result of `gain`.
            at: See `dsp.stream_in_segments`.
        """
        # A single sample can be larger than any in the training data.
        pieces: Iterator[np.ndarray] = (np.clip(gain * block, -LOUDEST, LOUDEST).astype(np.float32)
                                        for block in blocks)
        return dsp.stream_in_segments(
            restore, dsp.resample_blocks(pieces, sample_rate, self.rate),
            round(self.segment_seconds * self.rate),
            round(self.settings.context_seconds * self.rate), self.step_samples, **at)

    def _restore(self, waveforms: np.ndarray, noises: list[KnownNoise]) -> np.ndarray:
        """Restores a segment `(channels, samples)` at the network's rate and level.

        With `by_stage`, what each stage removed follows, in further channels.
        """
        # Channels are processed one at a time, so that memory does not grow with their number.
        wanted = slice(0 if self.by_stage else -1, None)
        left = np.stack([restore_segment(
            channel, self.network, self.settings, self.stages, noise)[wanted]
            for channel, noise in zip(waveforms, noises, strict=False)], axis=1)
        if not self.by_stage:
            return left[-1]
        return np.concatenate([left[-1], waveforms - left[0], *(left[:-1] - left[1:])])

    def _nothing(self, block: np.ndarray) -> np.ndarray:
        """Returns the noise estimate of silence."""
        return np.zeros_like(block, shape=block.shape + (1 + len(ORDER),) * self.by_stage)
