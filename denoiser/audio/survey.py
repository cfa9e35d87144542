"""What one pass over a recording tells before it is restored: its level and its channels."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from denoiser.audio import dsp
from denoiser.checks import UserError

FRAME_SECONDS = 0.1  # over which the level is measured


@dataclass(frozen=True)
class Survey:
    """What `survey` returns.

    Attributes:
        samples: Length of each channel.
        power: Variance over the active parts, mean of the channels that are not constant.
        source: For each channel the first channel that is identical to it, or -1 where it is
            constant: digital silence.
    """

    samples: int
    power: float
    source: tuple[int, ...]

    @property
    def distinct(self) -> list[int]:
        """The channels that have to be denoised."""
        return sorted(set(self.source) - {-1})


def as_channels(waveform: np.ndarray) -> np.ndarray:
    """Returns `(samples,)` or `(samples, channels)` as `(samples, channels)`.

    Raises:
        ValueError: It has another shape or is not floating point.
    """
    if waveform.ndim not in (1, 2) or not np.issubdtype(waveform.dtype, np.floating):
        raise ValueError("`waveform` must be floating point, (samples,) or (samples, channels). "
                         f"Received: {waveform.dtype} {waveform.shape}")
    return waveform[:, None] if waveform.ndim == 1 else waveform


def survey(blocks: Iterable[np.ndarray], sample_rate: int) -> Survey:
    """Passes over a recording once and checks it.

    Args:
        blocks: `(samples, channels)`, the recording in pieces of any length.
        sample_rate: In Hz.

    Returns:
        The `Survey`; without any blocks, one of no channels.

    Raises:
        UserError: The recording holds NaN or infinite samples.
    """
    frame_samples = max(1, round(FRAME_SECONDS * sample_rate))
    frame_powers: list[np.ndarray] = []
    digests: list = []
    first = constant = rest = None
    done = 0
    for block in blocks:
        finite = np.isfinite(block).all(axis=1)
        if not finite.all():
            second = (done + int(np.argmin(finite))) / sample_rate
            raise UserError("the recording holds NaN or infinite samples, the first at "
                            f"{second:.3f} s")
        if len(block) == 0:
            continue
        if first is None:
            first, rest = block[0], block[:0]
            constant = np.ones(len(first), bool)
            digests = [hashlib.blake2b() for _ in first]
        constant &= (block == first).all(axis=0)
        for channel, digest in enumerate(digests):
            digest.update(np.ascontiguousarray(block[:, channel]))
        rest = np.concatenate([rest, block])
        whole = len(rest) // frame_samples * frame_samples
        frame_powers.append(rest[:whole].reshape(-1, frame_samples, len(first)).var(axis=1))
        rest = rest[whole:]
        done += len(block)
    if first is None or constant.all():
        return Survey(done, 0.0, () if first is None else (-1,) * len(first))
    if len(rest):
        frame_powers.append(rest[None].var(axis=1))
    names = [digest.digest() for digest in digests]
    return Survey(
        samples=done,
        power=dsp.active_power(np.concatenate(frame_powers)[:, ~constant].mean(axis=1)),
        source=tuple(-1 if constant[channel] else names.index(names[channel])
                     for channel in range(len(first))))
