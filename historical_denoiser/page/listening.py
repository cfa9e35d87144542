"""Keeps the noise estimate of a recording, so that another strength does not need the network.

It also writes the sounds that the page plays. Start reading at `KeepingNoise` and `KeptNoise`.
"""

import os
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from historical_denoiser.audio import dsp
from historical_denoiser.audio.blocks import Frames
from historical_denoiser.audio.removal import Pair, remove
from historical_denoiser.audio.survey import Survey
from historical_denoiser.core.checks import UserError
from historical_denoiser.core.files import replacing
from historical_denoiser.formats import containers
from historical_denoiser.formats.audio_io import Recording
from historical_denoiser.restoration.click_list import Click
from historical_denoiser.restoration.restorer import Restorer
from historical_denoiser.run import labels
from historical_denoiser.run.jobs import InferenceConfig, Job

MIN_RATE, MAX_RATE = 8000, 48000  # supported by every browser
LOUDEST = 2**15 - 1  # in 16 bits
COLUMNS = 600  # columns of the waveform picture
# The first byte of each stored block: whether the noise or the restored signal follows.
NOISE, RESTORED = b"N", b"R"


class KeepingNoise:
    """Restores like a `Restorer`, and stores what `KeptNoise` needs to restore the recording again.

    Attributes:
        known: Analysis of the recording; None before `analyse`.
    """

    def __init__(self, restorer: Restorer, kept: Path, prepared: Path | None = None) -> None:
        """Prepares to store the noise in the file `kept`, which appears when it is complete.

        If `prepared` is given, the blocks from which the noise is to be subtracted go there.
        """
        self.restorer, self.kept, self.prepared = restorer, kept, prepared
        self.known: Survey | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.restorer, name)  # everything else

    def analyse(self, *args: Any) -> Survey:
        """Analyses a recording; the arguments are those of `Restorer.analyse`."""
        self.known = self.restorer.analyse(*args)
        return self.known

    def separate(self, blocks: Iterable[np.ndarray], *others: Any) -> Iterator[Pair]:
        """Yields each block and its noise; the arguments are those of `Restorer.separate`."""
        with (replacing(self.kept) as temporary, temporary.open("wb") as file,
              open(self.prepared or os.devnull, "wb") as prepared):
            for block, noise in self.restorer.separate(blocks, *others):
                np.save(prepared, block)
                # The noise is the difference between the block and the network's float32 output. So
                # the output holds all of it in half the bytes, unless channels were combined or
                # left unchanged.
                restored = (block - noise).astype(np.float32)
                is_all = (block.dtype != restored.dtype and np.array_equal(block - restored, noise))
                file.write(RESTORED if is_all else NOISE)
                (restored if is_all else noise).tofile(file)
                yield block, noise


class KeptNoise(KeepingNoise):
    """Restores a recording from what `KeepingNoise` stored.

    A restoration at another strength needs no network, and has the same result as a new run.

    Args:
        restorer: The restorer for everything else.
        known: Analysis of the recording.
        kept: File with the noise.
    """

    def __init__(self, restorer: Restorer, known: Survey, kept: Path) -> None:
        super().__init__(restorer, kept)
        self.known = known

    def analysis_seconds(self, *args: Any) -> float:
        """Returns 0, because there is no analysis pass."""
        return 0.0

    def analyse(self, *args: Any) -> Survey:
        """Returns the stored analysis; arguments are ignored."""
        return self.known

    def separate(self, blocks: Iterable[np.ndarray], *others: Any) -> Iterator[Pair]:
        """Yields each block and its stored noise; other arguments are ignored."""
        yield from kept_pairs(self.kept, blocks)


def kept_pairs(kept: Path, blocks: Iterable[np.ndarray]) -> Iterator[Pair]:
    """Yields each block of a recording and the noise that `KeepingNoise` stored for it."""
    with kept.open("rb") as file:
        for block in blocks:
            is_noise = file.read(1) == NOISE
            found = np.fromfile(file, block.dtype if is_noise else np.float32, block.size)
            found = found.reshape(block.shape)
            yield block, found if is_noise else block - found


@dataclass(frozen=True)
class Sound:
    """A sound that the page plays: a headerless file of interleaved 16-bit samples.

    Attributes:
        path: The file.
        rate: Sample rate in Hz.
        channels: One or two.
        samples: Number of samples per channel.
        peaks: Largest magnitude in each of `COLUMNS` equal parts; 1 is full scale.
    """

    path: Path
    rate: int
    channels: int
    samples: int
    peaks: list[float]


@dataclass
class Found:
    """The result of one run for a recording.

    Attributes:
        folder: Folder with the files of this run only.
        choice: Name of the method.
        settings: The settings of the run.
        carrier: The carrier that chose some of them.
        job: The files written; None while they are incomplete.
        known: Analysis of the recording.
        gain_db: Gain of the result, in which nothing is clipped that was repaired.
        removed: The noise at strength 1.
        base: The result at strength 0, if that is not the recording.
        filtered: The noise by the strength of each band, if that is not 1 everywhere.
        spectra: Result of `bands.measure_spectra`; None before it is needed.
        clicks: The strongest of those that the stages remove.
        spared: Those of them that stay as they are in the recording.
    """

    folder: Path
    choice: str
    settings: InferenceConfig
    carrier: str = "auto"
    job: Job | None = None
    known: Survey | None = None
    gain_db: float = 0.0
    removed: Sound | None = None
    base: Sound | None = None
    filtered: Sound | None = None
    spectra: dict[str, list[float]] | None = None
    clicks: list[Click] = field(default_factory=list)
    spared: Collection[Click] = ()

    @property
    def noise(self) -> Path:
        """The file that holds the noise."""
        return self.folder / "noise"

    @property
    def prepared(self) -> Path:
        """The file of the repaired blocks, during a run with repairs."""
        return self.folder / "prepared"

    def spare(self, clicks: Collection[Click], recording: Recording) -> None:
        """Sets the clicks that stay, as `inference.keep_clicks` does with a list of them."""
        if clicks:
            path = self.folder / f"{recording.path.stem}_clicks_to_keep.csv"
            labels.write_clicks(path, clicks, recording.rate)
            self.spared, self.settings = clicks, replace(self.settings, keep_clicks=str(path))

    def blocks(self, recording: Recording) -> Iterator[np.ndarray]:
        """Yields the blocks of which the noise was estimated."""
        if not self.prepared.exists():
            yield from filter(len, containers.read_blocks(recording))
            return
        with self.prepared.open("rb") as file:
            while file.peek(1):
                yield np.load(file)


def write_sounds(found: Found, recording: Recording, check: Callable[[float], object]) -> None:
    """Writes the sounds of a run: at a strength s, the result is base - s x removed.

    `check` is called with the seconds written so far.
    """
    gain, path = dsp.to_gain(found.gain_db), found.settings.keep_clicks
    kept = labels.Kept(path and Path(path), recording.rate, recording.channels)

    def result(share: float) -> Iterator[np.ndarray]:
        pairs = kept_pairs(found.noise, found.blocks(recording))
        return (gain * (block - removed) for block, removed in kept.spare(remove(
            pairs, recording.rate, replace(found.settings.strength, share=share))))

    noise = (none - full for none, full in zip(result(0.0), result(1.0), strict=True))
    found.removed = write_sound(found.folder / "removed", noise, recording, check)
    if found.prepared.exists() or found.settings.band_hz:
        found.base = write_sound(found.folder / "base", result(0.0), recording, check)


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
    frames = Frames(max(1, rate // 100))  # one peak of each is stored
    peaks, samples = [], 0
    with path.open("wb") as file:
        for piece in pieces:
            values = np.round(np.clip(piece, -1.0, 1.0) * LOUDEST).astype("<i2")
            file.write(np.ascontiguousarray(values.T))
            samples += piece.shape[-1]
            check(samples / rate)
            peaks.extend(frames.add(np.abs(values).max(axis=0)).max(axis=1))
    if samples == 0:
        raise UserError(f"{recording.path.name}: the recording has no samples")
    peaks.extend([frames.rest.max()] if len(frames.rest) else [])
    parts = np.array_split(np.array(peaks) / LOUDEST, min(COLUMNS, len(peaks)))
    return Sound(path, rate, channels, samples, [round(float(part.max()), 4) for part in parts])
