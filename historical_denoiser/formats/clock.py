"""One clock for files whose clips were joined end to end, and a right one for sound in AVI files.

MPEG streams (TS, M2TS, VOB, MPG) may be joined by writing one file behind the other. The timestamps
of each clip then start anew, in most cases earlier than the clip before it ended. Start reading at
`demux` and `find_joins`.
"""

import itertools
from bisect import bisect
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from statistics import median

import av
from av.stream import Discard

JOINED = {"mpegts", "mpeg"}  # FFmpeg's names of the kinds of files that may be joined so
MIN_STEP_BACK_SECONDS = Fraction(1, 2)  # a shorter one is the jitter of a recorder
FIRST_PACKETS = 64  # of an AVI file, by which its clocks are judged
MAX_STEP = 1.5  # from one packet to the next, as a multiple of its duration, or the reciprocal


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
    streams = *container.streams.audio, *container.streams.video
    for packet in _until_broken(container.demux(*streams), lambda reason: None):
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
          joins: Sequence[tuple[int, Fraction]] = (),
          broken: Callable[[str], object] = lambda reason: None) -> Iterator[av.Packet]:
    """Yields the packets of some streams of a file, with the times of one clock.

    Args:
        container: The file, open at its start.
        streams: Those that are wanted.
        joins: Result of `find_joins`.
        broken: Called with the reason where the file cannot be read further, if not at its start.

    Raises:
        av.FFmpegError: Nothing can be read.
    """
    for other in container.streams:
        if other not in streams:
            other.discard = Discard.all
    places, shifts = [place for place, _ in joins], [Fraction(0), *(shift for _, shift in joins)]
    clips = {stream.index: 0 for stream in streams}
    packets = _until_broken(container.demux(*streams) if streams else (), broken)
    if container.format.name == "avi":
        packets = _timed_by_durations(packets)
    for packet in packets:
        if joins and packet.dts is not None:
            if packet.pos is not None and packet.pos >= 0:
                clips[packet.stream.index] = bisect(places, packet.pos - 1)
            shift = round(shifts[clips[packet.stream.index]] / packet.time_base)
            packet.dts += shift
            packet.pts = None if packet.pts is None else packet.pts + shift
        yield packet


def _until_broken(packets: Iterable[av.Packet], broken: Callable[[str], object],
                  ) -> Iterator[av.Packet]:
    """Yields packets up to the place where the file cannot be read further."""
    is_first = True
    try:
        for packet in packets:
            yield packet
            is_first = False
    except av.FFmpegError as error:
        if is_first:
            raise
        broken(error.strerror)
    except IndexError:
        return  # at its end, PyAV 18 also asks for streams that came to light while reading


def _timed_by_durations(packets: Iterator[av.Packet]) -> Iterator[av.Packet]:
    """Yields the packets of an AVI file, which stores no times: FFmpeg counts bytes or packets.

    For some codecs (E-AC-3, DTS, G.722, DFPWM) it counts the one as if it were the other. Such
    sound, whose times and durations contradict each other, is timed by its durations.
    """
    first = list(itertools.islice(packets, FIRST_PACKETS))
    before: dict[int, av.Packet] = {}
    steps: dict[int, list[float]] = defaultdict(list)
    for packet in first:
        if packet.stream.type == "audio" and packet.dts is not None:
            last = before.get(packet.stream.index)
            if last is not None and last.duration:
                steps[packet.stream.index].append((packet.dts - last.dts) / last.duration)
            before[packet.stream.index] = packet
    wrong = {index for index, each in steps.items() if not 1.0 / MAX_STEP < median(each) < MAX_STEP}
    times: dict[int, int] = {}
    for packet in itertools.chain(first, packets):
        index = packet.stream.index
        if index in wrong and packet.dts is not None:
            packet.dts = packet.pts = times.get(index, packet.dts)
            times[index] = packet.dts + packet.duration
        yield packet
