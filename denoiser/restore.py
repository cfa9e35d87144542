"""The one way from a waveform to a restored waveform.

A recording is brought to the level and the sample rate that the network was trained at, cut into
overlapping segments, denoised, joined and brought back. What the network took away is returned
beside the recording, so that any share of it can be subtracted.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from denoiser.audio import dsp
from denoiser.audio.dsp import SAMPLE_RATE, Predict
from denoiser.audio.survey import Survey, as_channels, survey
from denoiser.checks import UserError
from denoiser.network.stored import NetworkSettings

SILENT_POWER = 10.0 ** (-70.0 / 10.0)  # of the start of a stream, below which it is no measure
SEGMENT_SECONDS = 20.0  # restored in one step; memory grows with it


@dataclass(frozen=True)
class Restorer:
    """A network and its settings, as a function of recordings.

    Waveforms are floating point, `(samples,)` or `(samples, channels)`, at any sample rate. Each
    channel is denoised on its own.

    Attributes:
        predict_spectra: The network: takes and returns `(batch, frames, bins, 2)`.
        settings: What the network needs to work as it was trained.
        segment_seconds: Length of what is restored in one step.
    """

    predict_spectra: Callable[[np.ndarray], np.ndarray]
    settings: NetworkSettings
    segment_seconds: float = SEGMENT_SECONDS

    def __call__(self, waveform: np.ndarray, sample_rate: int, strength: float = 1.0,
                 ) -> np.ndarray:
        """Restores a whole recording.

        Args:
            waveform: `(samples,)` or `(samples, channels)`, floating point.
            sample_rate: In Hz.
            strength: Share of the noise found that is removed, in [0, 1].

        Returns:
            The restored recording: same shape and type.

        Raises:
            ValueError: An argument has another form.
            UserError: The network returned NaN.
        """
        waveform = np.asarray(waveform)
        if len(waveform) == 0:
            return waveform.copy()
        block_samples = max(1, round(self.segment_seconds * sample_rate))
        blocks = [waveform[start : start + block_samples]
                  for start in range(0, len(waveform), block_samples)]
        return np.concatenate(list(self.stream(blocks, sample_rate, strength,
                                               survey(blocks, sample_rate))))

    def stream(self, blocks: Iterable[np.ndarray], sample_rate: int, strength: float = 1.0,
               surveyed: Survey | None = None) -> Iterator[np.ndarray]:
        """Restores a recording that comes, and goes, in blocks; memory does not grow with it.

        Args:
            blocks: Waveforms of any length that follow on each other.
            sample_rate: In Hz.
            strength: Share of the noise found that is removed, in [0, 1].
            surveyed: From `survey` of all blocks: then the result is that of `__call__`. When
                absent, the level is measured on the first segment alone; where that is all but
                silent, it is left as it is.

        Yields:
            Each block, restored.

        Raises:
            ValueError: An argument has another form.
            UserError: The recording holds NaN or infinite samples, or the network returned NaN.
        """
        if not 0.0 <= strength <= 1.0:
            raise ValueError(f"`strength` must be in [0, 1]. Received: strength={strength}")
        for block, noise in self.separate(blocks, sample_rate, surveyed):
            yield (block - strength * noise).astype(block.dtype, copy=False)

    def separate(self, blocks: Iterable[np.ndarray], sample_rate: int,
                 surveyed: Survey | None = None,
                 remember: Callable[[Predict], Predict] = lambda predict: predict,
                 ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yields each block, and the noise that the network finds in it, in the same form.

        Args and errors are those of `stream`. `remember` wraps the function that denoises a
        segment, as `journal.Journal.around` does. Channels that are constant hold no noise, and
        identical channels get identical results.
        """
        if isinstance(blocks, np.ndarray):
            raise ValueError("`blocks` must be several waveforms. Received: one array of shape "
                             f"{blocks.shape}; call the restorer on it, or put it into a list")
        blocks = iter(blocks)
        if surveyed is None:
            blocks, surveyed = self._survey_start(blocks, sample_rate)
        distinct = surveyed.distinct
        if not distinct:
            yield from ((block, np.zeros_like(block)) for block in blocks)
            return
        audible = [channel for channel, source in enumerate(surveyed.source) if source >= 0]
        order = [distinct.index(surveyed.source[channel]) for channel in audible]
        heard: deque[np.ndarray] = deque()  # blocks that the network has not returned yet

        def hear() -> Iterator[np.ndarray]:
            for block in blocks:
                channels = as_channels(block)
                if channels.shape[1] != len(surveyed.source):
                    raise ValueError(f"`blocks` must all have {len(surveyed.source)} channels. "
                                     f"Received: {block.shape}")
                if not np.isfinite(channels).all():
                    raise UserError("the recording holds NaN or infinite samples")
                if len(block):
                    heard.append(block)
                    yield channels[:, distinct].T

        estimate = np.zeros((len(distinct), 0), np.float32)
        for piece in self._estimates(hear(), sample_rate, surveyed.power, remember):
            if not np.isfinite(piece).all():
                raise UserError("the network returned NaN; are the weights whole?")
            estimate = np.concatenate([estimate, piece], axis=-1)
            while heard and len(heard[0]) <= estimate.shape[-1]:
                block = heard.popleft()
                found, estimate = np.split(estimate, [len(block)], axis=-1)
                noise = np.zeros_like(as_channels(block))
                noise[:, audible] = as_channels(block)[:, audible] - found[order].T
                yield block, noise.reshape(block.shape)

    def each(self, waveforms: np.ndarray) -> np.ndarray:
        """Restores mono waveforms `(batch, samples)` at 44.1 kHz, each by itself.

        Nothing is checked: where a network in training returns NaN, so does this.
        """
        return np.stack([
            np.concatenate(list(self._estimates(
                [waveform[None]], SAMPLE_RATE,
                survey([waveform], SAMPLE_RATE).power)), axis=-1)[0]
            for waveform in waveforms])

    def _survey_start(self, blocks: Iterator[np.ndarray], sample_rate: int,
                      ) -> tuple[Iterator[np.ndarray], Survey]:
        """Measures the level of the first segment; returns all blocks and what is known."""
        first, samples = [], 0
        for block in blocks:
            first.append(block)
            samples += len(block)
            if samples >= self.segment_seconds * sample_rate:
                break
        known = survey(first, sample_rate)
        # A channel that is silent so far, or like another one, need not stay so. Nor does a leader
        # with no more than dither in it say how loud the programme will be.
        every = replace(known, source=tuple(range(len(known.source))),
                        power=known.power if known.power > SILENT_POWER else 0.0)
        return itertools.chain(first, blocks), every

    def _estimates(self, blocks: Iterable[np.ndarray], sample_rate: int, power: float,
                   remember: Callable[[Predict], Predict] = lambda predict: predict,
                   ) -> Iterator[np.ndarray]:
        """Yields the denoised recording in pieces `(channels, samples)`, float32.

        Together they are at least as long as the blocks `(channels, samples)`. What lies above
        half the network's sample rate is not in them.
        """
        settings, gain = self.settings, 1.0
        if settings.reference_dbfs is not None and power > 0.0:
            gain = float(np.sqrt(10.0 ** (settings.reference_dbfs / 10.0) / power))
        pieces = ((gain * block).astype(np.float32) for block in blocks)
        pieces = dsp.resample_blocks(pieces, sample_rate, SAMPLE_RATE)
        pieces = dsp.stream_in_segments(
            remember(self._predict), pieces, round(self.segment_seconds * SAMPLE_RATE),
            round(settings.context_seconds * SAMPLE_RATE),
            settings.stft.hop_size * 2**settings.unet.depth)
        for piece in dsp.resample_blocks(pieces, SAMPLE_RATE, sample_rate):
            yield piece / np.float32(gain)

    def _predict(self, waveforms: np.ndarray) -> np.ndarray:
        """Denoises `(channels, samples)` at the network's rate and level."""
        stft = self.settings.stft
        predict = dsp.in_spectral_domain(self.predict_spectra, stft.win_size, stft.hop_size,
                                         stft.highpass_hz, SAMPLE_RATE)
        # One channel at a time: memory does not grow with their number.
        return np.concatenate([predict(channel[None]) for channel in waveforms])
