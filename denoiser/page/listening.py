"""What the page keeps of a restoration, so that another strength does not need the network."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from denoiser.audio import dsp
from denoiser.audio.audio_io import Recording
from denoiser.audio.removal import Pair
from denoiser.audio.survey import Survey
from denoiser.checks import UserError
from denoiser.files import replacing
from denoiser.restore import Restorer

LOWEST_RATE, HIGHEST_RATE = 8000, 48000  # at which every browser plays
LOUDEST = 2**15 - 1  # of 16 bits
COLUMNS = 600  # of the picture of the waveform
# Before each block of what is kept: what follows is the noise, or the recording without it.
NOISE, RESTORED = b"N", b"R"


@dataclass(frozen=True)
class KeepingNoise(Restorer):
    """A restorer that keeps the noise of one recording in a file, for `KeptNoise`.

    Attributes:
        kept: The file. It appears when it is complete.
    """

    kept: Path = field(kw_only=True)

    def separate(self, blocks: Iterable[np.ndarray], sample_rate: int,
                 surveyed: Survey | None = None, noise_profile: np.ndarray | None = None,
                 *others: Any) -> Iterator[Pair]:
        """Yields each block, and the noise in it; arguments are those of `Restorer.separate`."""
        with replacing(self.kept) as temporary, temporary.open("wb") as file:
            for block, noise in super().separate(blocks, sample_rate, surveyed, noise_profile,
                                                 *others):
                # What the network returns is float32, and the noise is the difference to it: half
                # the bytes hold all of it, but where channels were made one or are left alone.
                restored = (block - noise).astype(np.float32)
                is_all = (block.dtype != restored.dtype
                          and np.array_equal(block - restored, noise))
                file.write(RESTORED if is_all else NOISE)
                (restored if is_all else noise).tofile(file)
                yield block, noise


@dataclass(frozen=True)
class KeptNoise(Restorer):
    """A restorer that takes the noise from where `KeepingNoise` kept it.

    Another strength then needs no network, and comes out as if it had run again.

    Attributes:
        kept: The file.
    """

    kept: Path = field(kw_only=True)

    @property
    def hears_first(self) -> bool:
        """Whether `listen` hears recordings: never, as the network is not needed."""
        return False

    def examine(self, *args: Any) -> Survey:
        """Adds to a survey what `Restorer.examine` does, but for what only the network needs."""
        return Restorer.examine(replace(self, keep_held=False), *args)

    def separate(self, blocks: Iterable[np.ndarray], *others: Any) -> Iterator[Pair]:
        """Yields each block, and the noise that was kept of it; other arguments say nothing."""
        yield from kept_pairs(self.kept, blocks)


def kept_pairs(kept: Path, blocks: Iterable[np.ndarray]) -> Iterator[Pair]:
    """Yields each block of a recording, and the noise that `KeepingNoise` kept of it."""
    with kept.open("rb") as file:
        for block in blocks:
            is_noise = file.read(1) == NOISE
            found = np.fromfile(file, block.dtype if is_noise else np.float32, block.size)
            found = found.reshape(block.shape)
            yield block, found if is_noise else block - found


@dataclass(frozen=True)
class Sound:
    """A sound as the page plays it: 16-bit samples, channel by channel, without a header.

    Attributes:
        path: The file.
        rate: In Hz.
        channels: One or two.
        samples: Of each channel.
        peaks: The largest magnitude in each of `COLUMNS` equal parts, full scale at 1.
    """

    path: Path
    rate: int
    channels: int
    samples: int
    peaks: list[float]


def write_sound(path: Path, blocks: Iterable[np.ndarray], recording: Recording,
                check: Callable[[float], object] = lambda seconds: None) -> Sound:
    """Writes what the page plays. More than two channels are heard as their mean.

    Args:
        path: The file to write.
        blocks: `(samples, channels)` of the recording, or of the noise in it.
        recording: Tells rate and channels.
        check: Called with the seconds that were written so far.

    Raises:
        UserError: There are no samples in it.
    """
    rate = (recording.rate if LOWEST_RATE <= recording.rate <= HIGHEST_RATE else HIGHEST_RATE)
    channels = recording.channels if recording.channels <= 2 else 1
    own = (block.T if channels == recording.channels else block.T.mean(axis=0, keepdims=True)
           for block in blocks)
    pieces = dsp.resample_blocks((piece.astype(np.float32) for piece in own), recording.rate, rate)
    step = max(1, rate // 100)  # samples of which one peak is kept
    peaks, rest, samples = [], np.zeros(0, np.int16), 0
    with path.open("wb") as file:
        for piece in pieces:
            values = np.round(np.clip(piece, -1.0, 1.0) * LOUDEST).astype("<i2")
            file.write(np.ascontiguousarray(values.T))
            samples += piece.shape[-1]
            check(samples / rate)
            loudest = np.concatenate([rest, np.abs(values).max(axis=0)])
            whole = len(loudest) // step * step
            peaks.extend(loudest[:whole].reshape(-1, step).max(axis=1))
            rest = loudest[whole:]
    if samples == 0:
        raise UserError(f"{recording.path.name}: there is no sound in it")
    peaks.extend([rest.max()] if len(rest) else [])
    parts = np.array_split(np.array(peaks) / LOUDEST, min(COLUMNS, len(peaks)))
    return Sound(path, rate, channels, samples, [round(float(part.max()), 4) for part in parts])
