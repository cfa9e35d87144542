"""Lists the clicks that are removed from a recording. Start reading at `find_clicks`."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from historical_denoiser.audio import silence
from historical_denoiser.audio.blocks import Tape
from historical_denoiser.audio.dsp import SAMPLE_RATE
from historical_denoiser.audio.survey import Survey, as_channels
from historical_denoiser.classical import clicks
from historical_denoiser.restoration.chain import remove_hum
from historical_denoiser.restoration.separation import Separator


@dataclass(frozen=True, order=True)
class Click:
    """A click that was interpolated.

    Attributes:
        start: First sample, at the recording's rate.
        stop: The sample after the last.
        channels: The channels that hold it, from 1; several only if they are restored as one.
        strength_db: See `clicks.Repair`.
    """

    start: int
    stop: int
    channels: tuple[int, ...]
    strength_db: float

    def overlaps(self, other: "Click") -> bool:
        """Returns whether both share samples of a channel."""
        return (self.start < other.stop and other.start < self.stop
                and not set(self.channels).isdisjoint(other.channels))


def find_clicks(separator: Separator, blocks: Iterable[np.ndarray], sample_rate: int,
                known: Survey) -> list[Click]:
    """Returns the clicks that `Separator.separate` removes, in rising order.

    The segments are the same as there, and the network is left out, so that a journal or a cluster
    changes nothing. A click where two segments overlap belongs to the one in which it is new.

    Args:
        separator: The network and its stages.
        blocks: Adjacent blocks `(samples,)` or `(samples, channels)` of any length.
        sample_rate: Sample rate in Hz.
        known: Result of `analysis.analyse` for all blocks.
    """
    if not (known.distinct and separator.stages.is_on("declick")):
        return []
    tape, found = Tape(map(as_channels, blocks)), []
    for (start, stop), is_silent in silence.spans(known.silences, known.samples):
        if not is_silent:
            found += [replace(click, start=start + click.start,
                              stop=min(start + click.stop, stop)) for click in _in_sound(
                separator, tape.play(start, stop), sample_rate, known)]
    return sorted(found)


def _in_sound(separator: Separator, blocks: Iterable[np.ndarray], sample_rate: int, known: Survey,
              ) -> Iterator[Click]:
    """Yields the clicks between two silences."""
    stages = separator.stages
    places: list[tuple[int, ...]] = []  # of segments: see `dsp.stream_in_segments`
    found: list[tuple[int, int, tuple[int, ...], float]] = []
    audible = [channel for channel, source in enumerate(known.source) if source >= 0]
    channels = [tuple(channel + 1 for channel in audible
                      if known.mono or known.source[channel] == distinct)
                for distinct in known.distinct]
    inputs: Iterable[np.ndarray] = (block[:, known.distinct].T for block in blocks)

    def note(waveforms: np.ndarray) -> np.ndarray:
        left, start, end = places[-1]
        for waveform, names in zip(waveforms, channels, strict=False):
            steady = remove_hum(waveform, known.hum_hz)
            found.extend((left + repair.place.start, left + repair.place.stop, names,
                          repair.strength_db)
                         for repair in clicks.repair_clicks(steady, stages.declick)[1]
                         if start <= left + repair.place.start < end)
        return waveforms

    for _ in separator.in_segments(
            note, known.mono.combine(inputs) if known.mono else inputs, sample_rate,
            separator.gain(known.power), at=lambda *place: places.append(place)):
        pass
    scale = sample_rate / SAMPLE_RATE
    return (Click(math.floor(scale * start), math.ceil(scale * stop), names, strength_db)
            for start, stop, names, strength_db in found)
