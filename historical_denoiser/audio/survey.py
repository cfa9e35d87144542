"""Measures a recording in one pass before it is restored: its level, silence and channels."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from historical_denoiser.audio import dsp, silence
from historical_denoiser.audio.blocks import Frames
from historical_denoiser.audio.mono_source import MonoSource
from historical_denoiser.audio.noise_profile import Origin
from historical_denoiser.core.checks import MAX_RATE, MIN_RATE, UserError, is_number

MAX_CHANNELS = 1024  # limit of libsndfile
FRAME_SECONDS = 0.1
MAX_SAMPLE = 1e12  # full scale is 1; 32-bit integers in a file of floats reach 2e9
# A knock or a broken sample must not determine the level. The loudest frames, as many as the first
# or the share of the second constant, are limited to the third above the next frame, which does not
# change the frames of music.
FEW_FRAMES, FEW_SHARE, MAX_STEP_DB = 5, 0.001, 10.0
SHARE_OF_SHORT = 0.1  # largest share of the frames of a short recording


@dataclass(frozen=True)
class Survey:
    """Properties of a recording, from `survey` and from the analysis passes.

    Attributes:
        samples: Length of each channel.
        power: Variance without pauses, mean of the channels that are not constant.
        source: For each channel the first identical one; -1 if it is constant: digital silence.
        mono: How to combine two channels with the same signal.
        hum_hz: Frequency of which all lines of the hum are multiples.
        floors: For each distinct channel, from `held_notes.measure_floor`; empty if not needed.
        profiles: Noise profile of each distinct channel; empty for a blind restoration.
        profile_origin: Where the noise profile was measured, if there is one.
        silences: Spans of digital silence.
    """

    samples: int
    power: float
    source: tuple[int, ...]
    mono: MonoSource | None = None
    hum_hz: float | None = None
    floors: tuple[np.ndarray | None, ...] = ()
    profiles: tuple[np.ndarray, ...] = ()
    profile_origin: Origin | None = None
    silences: tuple[silence.Span, ...] = ()

    @property
    def distinct(self) -> list[int]:
        """The channels that have to be denoised."""
        return sorted(set(self.source) - {-1})

    @property
    def audible_samples(self) -> int:
        """Number of samples outside of the silences."""
        return self.samples - sum(stop - start for start, stop in self.silences)

    @property
    def is_audible(self) -> bool:
        """Whether anything has to be denoised."""
        return bool(self.distinct) and self.audible_samples > 0

    def between(self, start: int, stop: int) -> Survey:
        """Returns the properties of the span from sample `start` to before `stop`."""
        return replace(self, samples=stop - start,
                       silences=silence.within(self.silences, start, stop))


def require_rate(sample_rate: Any) -> None:
    """Raises ValueError unless `sample_rate` is a whole number of Hz that a recording may have."""
    if not (is_number(sample_rate) and MIN_RATE <= sample_rate <= MAX_RATE
            and sample_rate == int(sample_rate)):
        raise ValueError(f"`sample_rate` must be a whole number of Hz from {MIN_RATE} to "
                         f"{MAX_RATE}. Received: sample_rate={sample_rate!r}")


def as_channels(waveform: np.ndarray, name: str = "waveform") -> np.ndarray:
    """Returns `(samples,)` or `(samples, channels)` as `(samples, channels)`.

    In messages, the waveform is called `name`.

    Raises:
        ValueError: The shape is different, or the type is not floating point, or it has half
            precision, in which the power of soft sounds would be zero.
    """
    if (waveform.ndim not in (1, 2) or 0 in waveform.shape[1:]
            or not np.issubdtype(waveform.dtype, np.floating) or waveform.dtype.itemsize < 4):
        raise ValueError(f"`{name}` must be float32 or float64, full scale at 1, (samples,) or "
                         f"(samples, channels). Received: {waveform.dtype} {waveform.shape}")
    if waveform.ndim == 2 and waveform.shape[1] > MAX_CHANNELS:
        raise ValueError(f"`{name}` must have at most {MAX_CHANNELS} channels; is it (channels, "
                         f"samples)? Received: {waveform.shape}")
    return waveform[:, None] if waveform.ndim == 1 else waveform


def as_waveform(values: Any) -> np.ndarray:
    """Returns an array, or a list of numbers, as an array that `as_channels` accepts."""
    waveform = np.asarray(values)
    as_channels(waveform)
    return waveform


def checked(blocks: Iterable[np.ndarray], sample_rate: int) -> Iterator[np.ndarray]:
    """Yields the blocks of a recording that are not empty, as `(samples, channels)`.

    Raises:
        UserError: The recording has NaN, infinite or senselessly large samples.
    """
    done = 0
    for block in map(as_channels, blocks):
        finite = np.isfinite(block).all(axis=1)
        if not finite.all():
            second = (done + int(np.argmin(finite))) / sample_rate
            raise UserError("the recording holds NaN or infinite samples, the first at "
                            f"{second:.3f} s")
        if len(block) == 0:
            continue
        largest = np.abs(block).max(axis=1)
        if largest.max() > MAX_SAMPLE:
            raise UserError(f"the recording holds a sample of {largest.max():g} at "
                            f"{(done + int(largest.argmax())) / sample_rate:.3f} s; full scale is "
                            f"1, and at most {MAX_SAMPLE:g} can be restored")
        done += len(block)
        yield block


def survey(blocks: Iterable[np.ndarray], sample_rate: int) -> Survey:
    """Measures and checks a recording in one pass.

    The blocks are `(samples,)` or `(samples, channels)`, of any length. If there are none, the
    result has no channels.

    Raises:
        UserError: The recording has NaN, infinite or senselessly large samples.
    """
    frames = Frames(max(1, round(FRAME_SECONDS * sample_rate)))
    frame_powers: list[np.ndarray] = []
    first, done, quiet = None, 0, silence.Finder(sample_rate)
    for block in checked(blocks, sample_rate):
        if first is None:
            first = block[0]
            constant = np.ones(len(first), bool)
            digests = [hashlib.blake2b() for _ in first]
        constant &= (block == first).all(axis=0)
        for digest, channel in zip(digests, block.T, strict=True):
            digest.update(np.ascontiguousarray(channel + 0.0).data)  # -0 is 0
        quiet.add(block)
        frame_powers.append(frames.add(block).var(axis=1))
        done += len(block)
    if first is None:
        return Survey(0, 0.0, ())
    if frames.rest is not None and len(frames.rest):
        frame_powers.append(frames.rest[None].var(axis=1))
    contents = [digest.digest() for digest in digests]
    audible = np.concatenate(frame_powers)[:, ~constant]
    power = dsp.active_power(_without_knocks(audible.mean(axis=1))) if audible.size else 0.0
    return Survey(
        samples=done, power=power, silences=quiet.find(power),
        source=tuple(-1 if is_constant else contents.index(content) for is_constant, content
                     in zip(constant, contents, strict=True)))


def _without_knocks(powers: np.ndarray) -> np.ndarray:
    """Returns the powers of frames, with a limit for the few that are far above all others."""
    few = min(max(FEW_FRAMES, round(FEW_SHARE * len(powers))), int(SHARE_OF_SHORT * len(powers)))
    if few == 0:
        return powers
    next_one = np.partition(powers, -few - 1)[-few - 1]
    # Apart from digital silence, these may be the only frames.
    return powers if next_one == 0.0 else np.minimum(
        powers, next_one * 10.0 ** (MAX_STEP_DB / 10.0))
