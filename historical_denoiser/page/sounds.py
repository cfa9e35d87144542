"""The sounds that the page plays, and what it draws of them. Start reading at `Sound`."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from historical_denoiser.audio import dsp
from historical_denoiser.audio.blocks import Frames
from historical_denoiser.core.checks import UserError
from historical_denoiser.formats.audio_io import Recording
from historical_denoiser.page.texts import TEXT

MIN_RATE, MAX_RATE = 8000, 48000  # supported by every browser
LOUDEST = 2**15 - 1  # in 16 bits
COLUMNS = 600  # columns of the waveform picture
BLOCK_SECONDS = 10  # of sounds that are read together
SPECTROGRAM_COLUMNS = 4000
BRIGHTEST_DB = -6.0  # a spectrogram's brightest level, relative to the level of most peaks
MIN_PEAK = 1e-4  # in the place of silence, which has no level


@dataclass(frozen=True)
class Sound:
    """A sound that the page plays: a headerless file of interleaved 16-bit samples.

    Attributes:
        path: The file.
        rate: Sample rate in Hz.
        channels: One or two.
        samples: Number of samples per channel.
        peaks: Largest magnitude in each of `COLUMNS` equal parts; 1 is full scale. Those of each
            10 ms are in another file, as 16-bit numbers, whose name has `.peaks` in addition.
    """

    path: Path
    rate: int
    channels: int
    samples: int
    peaks: list[float]

    @property
    def picture(self) -> Path:
        """The spectrogram, if it was drawn."""
        return self.path.with_name(f"{self.path.name}.png")


def write_sound(path: Path, blocks: Iterable[np.ndarray], recording: Recording | Sound,
                check: Callable[[float], object] = lambda seconds: None) -> Sound:
    """Writes the file of a sound. More than two channels are averaged to one.

    Args:
        path: The file to write.
        blocks: Blocks `(samples, channels)` of the recording, or of its noise.
        recording: The recording, for its rate and channels.
        check: Called with the seconds written so far.

    Raises:
        UserError: There are no samples.
    """
    rate = (recording.rate if MIN_RATE <= recording.rate <= MAX_RATE else MAX_RATE)
    channels = recording.channels if recording.channels <= 2 else 1
    own = (block.T if channels == recording.channels else block.T.mean(axis=0, keepdims=True)
           for block in blocks)
    pieces = dsp.resample_blocks((piece.astype(np.float32) for piece in own), recording.rate, rate)
    peaks, samples = Peaks(rate), 0
    with path.open("wb") as file:
        for piece in pieces:
            # A recording that holds values that are no numbers is refused later.
            values = np.round(np.clip(np.nan_to_num(piece), -1.0, 1.0) * LOUDEST).astype("<i2")
            file.write(np.ascontiguousarray(values.T))
            samples += piece.shape[-1]
            check(samples / rate)
            peaks.add(values / LOUDEST)
    if samples == 0:
        raise UserError(TEXT.errors.no_samples.format(name=recording.path.name))
    stored = peaks.write(Path(f"{path}.peaks"))
    parts = np.array_split(stored / LOUDEST, min(COLUMNS, len(stored)))
    return Sound(path, rate, channels, samples, [round(float(part.max()), 4) for part in parts])


class Peaks:
    """Collects the largest magnitude in each 10 ms of a sound.

    Args:
        rate: Its sample rate in Hz.
    """

    def __init__(self, rate: int) -> None:
        self._frames, self._peaks = Frames(max(1, rate // 100)), []

    def add(self, block: np.ndarray) -> None:
        """Adds a block `(channels, samples)`; 1 is full scale."""
        self._peaks.extend(self._frames.add(np.abs(block).max(axis=0)).max(axis=1))

    def write(self, path: Path) -> np.ndarray:
        """Writes the peaks as 16-bit numbers, and returns these."""
        rest = self._frames.rest
        every = np.array([*self._peaks, *([rest.max()] if len(rest) else [])])
        stored = np.round(np.minimum(every, 1.0) * LOUDEST).astype("<u2")
        stored.tofile(path)
        return stored


def read_together(sounds: list[Sound], check: Callable[[float], object]) -> Iterator[np.ndarray]:
    """Yields blocks `(sounds, channels, samples)` of sounds of one length."""
    channels = sounds[0].channels
    count, seconds = BLOCK_SECONDS * sounds[0].rate * channels, 0
    with ExitStack() as stack:
        files = [stack.enter_context(sound.path.open("rb")) for sound in sounds]
        while (block := np.stack([np.fromfile(file, "<i2", count) for file in files])).size:
            seconds += BLOCK_SECONDS
            check(seconds)
            yield block.reshape(len(files), -1, channels).swapaxes(1, 2) / LOUDEST


def draw_sound(path: Path, sounds: list[Sound], peaks: list[float],
               check: Callable[[float], object]) -> list[tuple[float, str]]:
    """Writes the spectrogram of the first sound minus the others, if any.

    Args:
        path: The PNG file, see `spectrogram.save_image`.
        sounds: Sounds of one length.
        peaks: Those of the sound that decides on the colours.
        check: Called with the seconds read so far.

    Returns:
        Marks of the frequency axis: the height in [0, 1], and the text.
    """
    from historical_denoiser.formats import spectrogram  # matplotlib takes a second to load

    first = sounds[0]
    differences = (block[0] - block[1:].sum(axis=0) for block in read_together(sounds, check))
    levels = spectrogram.of_blocks(differences, first.channels, first.samples, first.rate,
                                   SPECTROGRAM_COLUMNS)
    peak = max(MIN_PEAK, float(np.quantile(peaks, 0.9)))
    spectrogram.save_image(path, levels, 20.0 * np.log10(peak) + BRIGHTEST_DB)
    ticks = [hz for hz in spectrogram.SMALL_TICKS_HZ if hz < first.rate / 2.0]
    return [(round(float(row) / len(levels), 4), f"{hz / 1000.0:g} kHz")
            for hz, row in zip(ticks, spectrogram.rows_of(ticks, first.rate), strict=True)]
