"""Repairs what a transfer or a disk lost: fills short gaps, and restores clipped peaks.

A recording is processed in stretches at fixed places, each with context, so that the result does
not depend on how it is cut into blocks. Start reading at `repair`; the methods are in `gaps` and
`clipping`.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from historical_denoiser.audio.blocks import in_blocks
from historical_denoiser.audio.silence import find_runs
from historical_denoiser.audio.survey import as_channels
from historical_denoiser.classical.clipping import declip, find_level
from historical_denoiser.classical.gaps import MAX_GAP_SECONDS, fill_gap, find_gaps

GAPS, CLIPPING, LEFT = "gaps", "clipping", "gaps_left"
KINDS = (GAPS, CLIPPING)
STRETCH_SECONDS, MARGIN_SECONDS = 10.0, 1.0
FIRST = 20  # this many places of a kind are listed


class Found:
    """What was repaired, by kind: the number of places, their samples, and the first of them."""

    def __init__(self) -> None:
        self.number: Counter[str] = Counter()
        self.samples: Counter[str] = Counter()
        self._first: dict[str, list[tuple[int, int, int]]] = defaultdict(list)

    def add(self, kind: str, start: int, samples: int, channel: int) -> None:
        """Adds one place.

        Args:
            kind: `GAPS`, `CLIPPING` or `LEFT`.
            start: Its first sample in the recording.
            samples: Its length.
            channel: Its channel, from 1.
        """
        self.number[kind] += 1
        self.samples[kind] += samples
        if len(self._first[kind]) < FIRST:
            self._first[kind].append((start, samples, channel))

    def __str__(self) -> str:
        """Returns the numbers for a log."""
        names = {GAPS: "gaps filled", LEFT: "longer gaps left", CLIPPING: "clipped peaks restored"}
        return ", ".join(f"{number} {names[kind]}" for kind, number in self.number.items()) or (
            "nothing was found")

    def describe(self, sample_rate: int) -> dict[str, Any]:
        """Returns the facts for a report."""
        return {kind: {"number": number, "seconds": round(self.samples[kind] / sample_rate, 4),
                       "first": [{"at": round(start / sample_rate, 4), "channel": channel,
                                  "seconds": round(samples / sample_rate, 5)}
                                 for start, samples, channel in self._first[kind]]}
                for kind, number in sorted(self.number.items())}


class Menders(NamedTuple):
    """The functions that repair what was found.

    Attributes:
        fill: Fills a gap, as `fill_gap`.
        declip: Restores clipped samples, as `declip`.
    """

    fill: Callable[[np.ndarray, int, int, int, int], bool]
    declip: Callable[[np.ndarray, float, float, int, int], np.ndarray]


def repair(blocks: Iterable[np.ndarray], sample_rate: int, kinds: Collection[str], found: Found,
           menders: Menders | None = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields each block of a recording, and the repaired block.

    Args:
        blocks: Adjacent waveforms `(samples,)` or `(samples, channels)` of any length.
        sample_rate: Sample rate in Hz.
        kinds: What is repaired, of `KINDS`.
        found: What was repaired is added to it.
        menders: What repairs; by default `fill_gap` and `declip`.
    """
    if not kinds:
        yield from ((block, block) for block in blocks)
        return
    menders = menders or Menders(fill_gap, declip)

    def mend(blocks: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        for sound, inner, start in _stretches(map(as_channels, blocks), sample_rate):
            if np.isfinite(sound).all():
                sound = np.stack([_mend_channel(channel, inner, start, sample_rate, kinds, found,
                                                number, menders)
                                  for number, channel in enumerate(sound.T, 1)], axis=-1)
            yield sound[inner]

    for block, repaired in in_blocks(blocks, mend):
        yield block, repaired.reshape(block.shape).astype(block.dtype, copy=False)


def find_damage(blocks: Iterable[np.ndarray], sample_rate: int) -> Found:
    """Finds what `repair` would repair, without the repair, which takes most of the time.

    A gap without enough sound around it counts as one that can be filled.
    """
    found = Found()
    none = Menders(lambda sound, start, stop, *_: stop - start <= MAX_GAP_SECONDS * sample_rate,
                   lambda sound, *_: sound)
    for sound, inner, start in _stretches(map(as_channels, blocks), sample_rate):
        for number, channel in enumerate(sound.T, 1):
            _mend_channel(channel, inner, start, sample_rate, KINDS, found, number, none)
    return found


def _stretches(blocks: Iterable[np.ndarray], sample_rate: int,
               ) -> Iterator[tuple[np.ndarray, slice, int]]:
    """Yields stretches with their context, where they are in it, and the place of its start."""
    size, margin = round(STRETCH_SECONDS * sample_rate), round(MARGIN_SECONDS * sample_rate)
    parts: list[np.ndarray] = []
    origin, known, done, blocks = 0, 0, 0, iter(blocks)
    while True:
        block = next(blocks, None)
        if block is not None:
            parts.append(block)
            known += len(block)
        while done < known and (block is None or known >= done + size + margin):
            sound, stop = np.concatenate(parts), min(done + size, known)
            yield (sound[:stop + margin - origin], slice(done - origin, stop - origin), origin)
            done, keep = stop, max(0, stop - margin)
            parts, origin = [sound[keep - origin:]], keep
        if block is None:
            return


def _mend_channel(sound: np.ndarray, inner: slice, origin: int, sample_rate: int,
                  kinds: Collection[str], found: Found, channel: int, menders: Menders,
                  ) -> np.ndarray:
    """Repairs one channel `(samples,)`, of which the part `inner` is used."""
    mended = sound.astype(np.float64)
    steps = np.abs(np.diff(mended))
    step = np.min(steps, where=steps > 0.0, initial=np.inf)
    if not np.isfinite(step):  # it is constant
        return mended
    places: list[tuple[str, int, int]] = []
    if GAPS in kinds:
        gaps = find_gaps(mended, steps, step, sample_rate)
        for number, (start, stop) in enumerate(gaps):
            following = gaps[number + 1][0] if number + 1 < len(gaps) else len(mended)
            is_filled = menders.fill(mended, start, stop, following, sample_rate)
            places.append((GAPS if is_filled else LEFT, start, stop - start))
    if CLIPPING in kinds:
        levels = [find_level(sign * mended, step) for sign in (1.0, -1.0)]
        high, low = (np.inf if level is None else level for level in levels)
        clipped = (mended >= high) | (mended <= -low)
        if clipped[inner].any():
            mended = menders.declip(mended, -low, high, origin, sample_rate)
            places += [(CLIPPING, int(start), int(stop - start))
                       for start, stop in find_runs(clipped)]
    for kind, start, samples in places:
        if inner.start <= start < inner.stop:
            found.add(kind, origin + start, samples, channel)
    return mended
