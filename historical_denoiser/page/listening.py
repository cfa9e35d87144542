"""Keeps the noise estimate of a recording, so that another strength does not need the network.

Its sounds are written for the page. Start reading at `KeepingNoise` and `KeptNoise`.
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

import av
import numpy as np

from historical_denoiser.audio import dsp
from historical_denoiser.audio.loudness import weighted_products
from historical_denoiser.audio.removal import Pair, remove
from historical_denoiser.audio.survey import Survey
from historical_denoiser.core.files import replacing
from historical_denoiser.formats import containers
from historical_denoiser.formats.audio_io import Recording
from historical_denoiser.page.sounds import Peaks, Sound, draw_sound, read_together, write_sound
from historical_denoiser.restoration.chain import ORDER
from historical_denoiser.restoration.click_list import Click
from historical_denoiser.restoration.restorer import Restorer
from historical_denoiser.run import labels
from historical_denoiser.run.jobs import Job
from historical_denoiser.run.settings import InferenceConfig

STAGES = [stage for stage in ORDER if stage != "network"]  # its part is what the others leave
# The first byte of each stored block: whether the noise, the restored signal, what one stage
# removed (as float32) or nothing follows.
NOISE, RESTORED, PART, NOTHING = b"N", b"R", b"P", b"0"


class KeepingNoise:
    """Restores like a `Restorer`, and stores what `KeptNoise` needs to restore the recording again.

    Attributes:
        known: Analysis of the recording; None before `analyse`.
    """

    def __init__(self, restorer: Restorer, kept: Path, prepared: Path | None = None) -> None:
        """Prepares to store the noise in the file `kept`, which appears when it is complete.

        What single stages removed goes to files beside it; see `part_path`. If `prepared` is
        given, the blocks from which the noise is to be subtracted go there.
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
        by_stage = replace(self.restorer, by_stage=True)
        paths, count = [part_path(self.kept.parent, stage) for stage in STAGES], 0
        with ExitStack() as stack:
            file, *parts = [stack.enter_context(stack.enter_context(replacing(path)).open("wb"))
                            for path in (self.kept, *paths)]
            prepared = stack.enter_context(open(self.prepared or os.devnull, "wb"))
            for block, shares in by_stage.separate(blocks, *others):
                count += 1
                noise = np.ascontiguousarray(shares[..., 0])
                for stage, part in zip(STAGES, parts, strict=True):
                    _write_part(part, shares[..., 1 + list(ORDER).index(stage)])
                np.save(prepared, block)
                # The noise is the difference between the block and the network's float32 output. So
                # the output holds all of it in half the bytes, unless channels were combined or
                # left unchanged.
                restored = (block - noise).astype(np.float32)
                is_all = (block.dtype != restored.dtype and np.array_equal(block - restored, noise))
                file.write(RESTORED if is_all else NOISE)
                (restored if is_all else noise).tofile(file)
                yield block, noise
        for path in paths:
            if path.stat().st_size == count:  # nothing in any block
                path.unlink()


def part_path(folder: Path, stage: str) -> Path:
    """Returns the file that holds what a stage removed, if anything, until its sound is written."""
    return folder / f"noise_{stage}"


def _write_part(file: BinaryIO, part: np.ndarray) -> None:
    is_empty = not part.any()
    file.write(NOTHING if is_empty else PART)
    if not is_empty:
        part.astype(np.float32).tofile(file)


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
            kind = file.read(1)
            if kind == NOTHING:
                yield block, np.zeros_like(block)
                continue
            found = np.fromfile(file, block.dtype if kind == NOISE else np.float32, block.size)
            found = found.reshape(block.shape)
            yield block, block - found if kind == RESTORED else found


@dataclass
class Found:
    """The result of one run for a recording.

    Attributes:
        folder: Folder with the files of this run only.
        choice: Name of the method.
        settings: The settings of the run.
        carrier: The carrier that chose some of them.
        job: The files written; None while they are incomplete.
        delivered: Lists and files of tracks among or beside these.
        known: Analysis of the recording.
        gain_db: Gain of the result, in which nothing is clipped that was repaired.
        removed: The noise at strength 1.
        base: The result at strength 0, if that is not the recording.
        parts: What stages of `STAGES` removed of the noise, if they removed anything.
        filtered: Sounds that replace the noise and its parts, by the strength of each band; empty
            if that is 1 everywhere.
        products: Of the recording and these sounds, for the loudness of mixtures; see
            `loudness.weighted_products`.
        restored_picture: The spectrogram of the result at strength 1.
        spectrum: That of the noise, see `bands.measure_spectrum`; None before it is needed.
        clicks: The strongest of those that the stages remove.
        spared: Those of them that were given back; a new sequence for each change.
    """

    folder: Path
    choice: str
    settings: InferenceConfig
    carrier: str = "auto"
    job: Job | None = None
    delivered: list[Path] = field(default_factory=list)
    known: Survey | None = None
    gain_db: float = 0.0
    removed: Sound | None = None
    base: Sound | None = None
    parts: dict[str, Sound] = field(default_factory=dict)
    filtered: dict[str, Sound] = field(default_factory=dict)
    products: list[list[float]] = field(default_factory=list)
    restored_picture: Path | None = None
    spectrum: list[float] | None = None
    clicks: list[Click] = field(default_factory=list)
    spared: Sequence[Click] = ()

    @property
    def noise(self) -> Path:
        """The file that holds the noise."""
        return self.folder / "noise"

    @property
    def heard(self) -> dict[str, Sound]:
        """The noise (`removed`) and its parts, as they are played."""
        return {"removed": self.removed, **self.parts} | self.filtered

    @property
    def prepared(self) -> Path:
        """The file of the repaired blocks, during a run with repairs."""
        return self.folder / "prepared"

    def list_spared(self, recording: Recording) -> str | None:
        """Returns a file with the clicks that stay, if any, for `inference.keep_clicks`."""
        spared = tuple(self.spared)
        if not spared:
            return None
        # Each list has a path of its own, because jobs are compared by their settings.
        path = self.folder / f"kept_{hash(spared)}" / f"{recording.path.stem}_clicks_to_keep.csv"
        path.parent.mkdir(exist_ok=True)
        labels.write_clicks(path, spared, recording.rate)
        return str(path)

    def blocks(self, recording: Recording) -> Iterator[np.ndarray]:
        """Yields the blocks of which the noise was estimated."""
        if not self.prepared.exists():
            yield from filter(len, containers.read_blocks(recording))
            return
        with self.prepared.open("rb") as file:
            while file.peek(1):
                yield np.load(file)


def write_sounds(found: Found, recording: Recording, before: Sound,
                 check: Callable[[float], object]) -> None:
    """Writes the sounds of a run: at a strength s, the result is base - s x removed.

    All clicks are removed in them; the player gives back those that stay. `before` is the sound of
    the recording; `check` is called with the seconds written so far.
    """
    gain = dsp.to_gain(found.gain_db)

    def result(noise: Path, share: float) -> Iterator[np.ndarray]:
        pairs = kept_pairs(noise, found.blocks(recording))
        return (gain * (block - removed) for block, removed in remove(
            pairs, recording.rate, replace(found.settings.strength, share=share)))

    def write(name: str, noise: Path) -> Sound:
        return write_sound(found.folder / name, (none - full for none, full in zip(
            result(noise, 0.0), result(noise, 1.0), strict=True)), recording, check)

    found.removed = write("removed", found.noise)
    if found.prepared.exists() or found.settings.band_hz:
        found.base = write_sound(found.folder / "base", result(found.noise, 0.0), recording, check)
    for stage in STAGES:
        path = part_path(found.folder, stage)
        if path.exists():
            found.parts[stage] = write(stage, path)
            path.unlink()
    measure_sounds(found, before, check)


def measure_sounds(found: Found, before: Sound, check: Callable[[float], object]) -> None:
    """Measures the sounds of a run, for their loudness and for the waveform, and draws the result.

    The peaks of what the stages in `Found.parts` leave of the noise go to a file beside it, whose
    name has `.rest.peaks` in addition; those of what was repaired go to `.repairs.peaks`.
    """
    removed, *parts = found.heard.values()
    sounds = [each for each in (before, removed, found.base, *parts) if each]
    rest, repairs = Peaks(before.rate), Peaks(before.rate)

    def measured() -> Iterator[np.ndarray]:
        for block in read_together(sounds, check):
            rest.add(block[1] - block[len(sounds) - len(parts) :].sum(axis=0))
            if found.base:
                repairs.add(block[0] - block[2])
            yield block

    found.products = weighted_products(measured(), before.rate).tolist()
    rest.write(Path(f"{removed.path}.rest.peaks"))
    if found.base:
        repairs.write(Path(f"{found.base.path}.repairs.peaks"))
    # A new name, because browsers keep pictures by their address.
    former, found.restored_picture = (
        found.restored_picture, found.folder / f"restored_{time.monotonic_ns()}.png")
    draw_sound(found.restored_picture, [found.base or before, removed], before.peaks, check)
    if former is not None:
        former.unlink()


def film_start(recording: containers.Track) -> float:
    """Returns when a film's sound begins, in seconds of its earliest stream, as browsers count."""
    with containers.open_container(recording.path) as film:
        track = film.streams[recording.stream]
        start = (track.start_time or 0) * track.time_base
        return float(start) - (film.start_time or 0) / av.time_base
