"""One clock for files whose clips were joined end to end.

MPEG streams (TS, M2TS, VOB, MPG) may be joined by writing one file behind the other. The timestamps
of each clip then start anew, in most cases earlier than the clip before it ended. Start reading at
`find_joins`.
"""

from bisect import bisect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

import av
from av.stream import Discard

JOINED = {"mpegts", "mpeg"}  # FFmpeg's names of the kinds of files that may be joined so
MIN_STEP_BACK_SECONDS = Fraction(1, 2)  # a shorter one is the jitter of a recorder


@dataclass(frozen=True)
class _Step:
    """Where the times of a stream go back.

    Attributes:
        before, after: Positions in the file of the packets between which they do.
        end: When the first of these packets ends, in s.
        start: When the second one starts, in s.
    """

    before: int
    after: int
    end: Fraction
    start: Fraction


def find_joins(container: av.container.InputContainer) -> list[tuple[int, Fraction]]:
    """Finds where clips were joined: there the times of sound and pictures go back together.

    Args:
        container: The file, which is read to its end.

    Returns:
        Position in the file behind which a clip begins, and by how many seconds its times have to
        be shifted, so that they follow on those of the clip before. Where the times of one stream
        alone go back, they are damaged, and that is no join.
    """
    steps = _find_steps(container)
    if not steps:
        return []
    joins, shift = [], Fraction(0)
    first, *others = steps
    for step in first:
        group = [step]
        for other in others:
            group += [each for each in other if max(each.before, *(one.before for one in group))
                      < min(each.after, *(one.after for one in group))][:1]
        if len(group) == len(steps):
            shift += max(each.end for each in group) - min(each.start for each in group)
            joins.append((max(each.before for each in group), shift))
    return joins


def _find_steps(container: av.container.InputContainer) -> list[list[_Step]]:
    """Returns the steps back of each stream of sound or pictures that has packets."""
    last: dict[int, tuple[int, Fraction, Fraction]] = {}  # position, start and end of a packet
    steps: dict[int, list[_Step]] = {}
    for packet in container.demux(*container.streams.audio, *container.streams.video):
        if packet.dts is None:
            continue
        stream, start = packet.stream.index, packet.dts * packet.time_base
        if stream in last:
            before, earlier, end = last[stream]
            after = before if packet.pos is None or packet.pos < 0 else packet.pos
            if start < earlier - MIN_STEP_BACK_SECONDS:
                steps[stream].append(_Step(before, after, end, start))
        else:
            after, steps[stream] = packet.pos or 0, []
        last[stream] = after, start, start + (packet.duration or 0) * packet.time_base
    return list(steps.values())


def demux(container: av.container.InputContainer, streams: Sequence[av.stream.Stream],
          joins: Sequence[tuple[int, Fraction]] = ()) -> Iterator[av.Packet]:
    """Yields the packets of some streams of a file, with the times of one clock.

    Args:
        container: The file, open at its start.
        streams: Those that are wanted.
        joins: Result of `find_joins`.

    Raises:
        av.FFmpegError: The file is damaged.
    """
    for other in container.streams:
        if other not in streams:
            other.discard = Discard.all
    places, shifts = [place for place, _ in joins], [Fraction(0), *(shift for _, shift in joins)]
    clips = {stream.index: 0 for stream in streams}
    for packet in container.demux(*streams) if streams else ():
        if joins and packet.dts is not None:
            if packet.pos is not None and packet.pos >= 0:
                clips[packet.stream.index] = bisect(places, packet.pos - 1)
            shift = round(shifts[clips[packet.stream.index]] / packet.time_base)
            packet.dts += shift
            packet.pts = None if packet.pts is None else packet.pts + shift
        yield packet
