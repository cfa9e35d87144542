"""One clock for files whose clips were joined end to end.

MPEG streams (TS, M2TS, VOB, MPG) may be joined by writing one file behind the other. The timestamps
of each clip then start anew, in most cases earlier than the clip before it ended. Start reading at
`demux`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from fractions import Fraction

import av

JOINED = {"mpegts", "mpeg"}  # FFmpeg's names of the kinds of files that may be joined so
MIN_STEP_BACK_SECONDS = Fraction(1, 2)  # less is the jitter of a recorder, or damage
NEAR_SECONDS = 1  # between a packet and the end of all that came before it, within a clip
MAX_CLIPS = 4  # whose packets may still come


class _Clock:
    """Gives the packets of joined clips times that go on from clip to clip.

    All streams of a clip are shifted alike, so that they stay in sync. The last packets of a clip may
    come after the first ones of the next clip: a demuxer returns a picture when the next one begins.
    """

    def __init__(self) -> None:
        self._shifts = deque([Fraction(0)], MAX_CLIPS)  # in s, of the latest clips
        self._last: dict[int, tuple[Fraction, Fraction]] = {}  # of each stream: time, shift
        self._end = Fraction(0)  # the latest end of a packet so far, shifted

    def shift(self, stream: int, time: Fraction, seconds: Fraction) -> Fraction:
        """Returns by how much a packet is shifted, in s.

        Args:
            stream: Index of the packet's stream.
            time: The packet's decoding time in the file, in s.
            seconds: Its length.
        """
        before, shift = self._last.get(stream, (time, self._shifts[-1]))
        if not -MIN_STEP_BACK_SECONDS <= time - before <= NEAR_SECONDS:
            shift = self._find_clip(time, shift, goes_back=time < before)
        self._last[stream] = time, shift
        self._end = max(self._end, time + shift + seconds)
        return shift

    def _find_clip(self, time: Fraction, usual: Fraction, goes_back: bool) -> Fraction:
        """Returns the shift of a packet whose time does not follow on that of the packet before."""
        nearest = min(self._shifts, key=lambda each: abs(time + each - self._end))
        if abs(time + nearest - self._end) <= NEAR_SECONDS:
            return nearest
        if goes_back:
            self._shifts.append(self._end - time)
            return self._shifts[-1]
        return usual  # a gap


def demux(container: av.container.InputContainer) -> Iterator[av.Packet]:
    """Yields all packets of a file, with the times of one clock.

    Raises:
        av.FFmpegError: The file is damaged.
    """
    if container.format.name not in JOINED:
        yield from container.demux()
        return
    clock = _Clock()
    for packet in container.demux():
        if packet.dts is not None:
            unit = packet.time_base
            shift = round(clock.shift(packet.stream.index, packet.dts * unit,
                                      (packet.duration or 0) * unit) / unit)
            if shift:
                packet.dts += shift
                if packet.pts is not None:
                    packet.pts += shift
        yield packet
