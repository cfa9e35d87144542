"""The frames of MP3 files and their like, counted without decoding: what is there, what is damaged.

The form of their heads is that of ISO/IEC 11172-3, 2.4.1.3, and 13818-3. libsndfile believes the
number of frames that a file tells at its start, and where it tells none, guesses it from the first
one; and it goes on behind damage without a word.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from historical_denoiser.formats.chunks import find_chunks

HEAD_BYTES = 4
# In kbit/s, by layer, for MPEG 1, and for the lower sample rates of 2 and 2.5.
FULL_RATES = {1: range(32, 449, 32),
              2: (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
              3: (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)}
LOW_RATES = {1: (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
             2: (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
             3: (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)}
SAMPLE_RATES = (44100, 48000, 32000)
DIVISORS = {3: 1, 2: 2, 0: 4}  # of these, by the two bits of the version
ANY_HEAD = re.compile(rb"\xff[\xe2-\xe7\xf2-\xff][\x10-\xef]", re.DOTALL)
COUNTS = (b"Xing", b"Info", b"VBRI")  # in the first frame, where it tells of all and is silent
TAGS = (b"TAG", b"APETAGEX", b"LYRICSBEGIN", b"ID3")  # what may stand behind the last frame
ID3_BYTES = 10  # of its head, whose last four bytes hold seven bits of its size each
SAMPLES = b"data"  # the chunk of a WAV file that holds them
LEAST_LOST_SECONDS = 0.1  # less behind the last frame is one that was cut off, or padding


@dataclass(frozen=True)
class Frame:
    """What the head of a frame says; those of one file have the same `form`."""

    size: int
    samples: int
    rate: int
    form: tuple[int, int, int, bool]  # version, layer, sample rate, whether it is mono


@dataclass(frozen=True)
class Frames:
    """What `count_frames` finds; `samples` are those that the frames hold, of each channel."""

    samples: int
    rate: int
    damaged_places: int
    first_damage_seconds: float
    lost_seconds: float


def _frame_at(content: mmap.mmap, place: int) -> Frame | None:
    """Returns the frame whose head stands at a place; None where there is none."""
    head = int.from_bytes(content[place : place + HEAD_BYTES], "big")
    version, layer = head >> 19 & 3, 4 - (head >> 17 & 3)
    bit_rate, sample_rate = head >> 12 & 15, head >> 10 & 3
    if head >> 21 != 0x7FF or version == 1 or layer == 4 or bit_rate in (0, 15) or sample_rate == 3:
        return None
    kilobits = (FULL_RATES if version == 3 else LOW_RATES)[layer][bit_rate - 1]
    rate, padding = SAMPLE_RATES[sample_rate] // DIVISORS[version], head >> 9 & 1
    samples = 384 if layer == 1 else 576 if layer == 3 and version != 3 else 1152
    size = (samples // 32 * 1000 * kilobits // rate + padding) * 4 if layer == 1 else (
        samples // 8 * 1000 * kilobits // rate + padding)
    return Frame(size, samples, rate, (version, layer, rate, head >> 6 & 3 == 3))


def _next_frame(content: mmap.mmap, place: int, stop: int, form: tuple | None) -> int | None:
    """Returns where a frame starts that another of the same form, or the end, follows."""
    for match in ANY_HEAD.finditer(content, place, stop):
        frame = _frame_at(content, match.start())
        if frame is None or form not in (None, frame.form):
            continue
        end = match.start() + frame.size
        following = _frame_at(content, end)
        if end == stop or content[end : end + 3] == TAGS[0] or (
                following is not None and following.form == frame.form):
            return match.start()
    return None


def _behind_id3(content: mmap.mmap, place: int) -> int:
    """Returns the place behind an ID3 tag, or the same where there is none."""
    head = content[place : place + ID3_BYTES]
    if head[:3] != TAGS[3] or len(head) < ID3_BYTES:
        return place
    return place + ID3_BYTES + sum((byte & 127) << 7 * (3 - number)
                                   for number, byte in enumerate(head[6:]))


def _walk(content: mmap.mmap, place: int, stop: int) -> Iterator[tuple[int, int, Frame | None]]:
    """Yields start, end and frame of all that is in a stretch; None is what can be no frame."""
    form = None
    while place < stop:
        if (behind := _behind_id3(content, place)) > place:
            place = behind
            continue
        frame = _frame_at(content, place)
        if frame is None or frame.form != form:
            start = _next_frame(content, place, stop, form)
            if start is None:
                yield place, stop, None
                return
            if start > place:
                yield place, start, None
            place, frame = start, _frame_at(content, start)
            form = frame.form
        if place + frame.size > stop:
            yield place, stop, None
            return
        yield place, place + frame.size, frame
        place += frame.size


def count_frames(path: Path) -> Frames | None:
    """Counts the frames of a file of MPEG audio, or of those in a WAV file; None: there are none.

    Raises:
        OSError: It cannot be read.
    """
    samples = used = places = lost = 0
    first, rate, before = 0.0, 0, None
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        # The chunk of a WAV file that was cut off is not found, and ends with the file.
        place, size = next((chunk[1:] for chunk in find_chunks(file) if chunk[0] == SAMPLES),
                           (0, len(content)))
        for start, end, frame in _walk(content, place, place + size):
            if frame is None:
                before = start, end
                continue
            if before is not None and used:  # what stands before all frames is no loss
                places, lost = places + 1, lost + before[1] - before[0]
                first = first if places > 1 else samples / rate
            before = None
            tells_count = not rate and any(name in content[start:end] for name in COUNTS)
            rate = frame.rate
            if not tells_count:
                samples, used = samples + frame.samples, used + end - start
        if not used:
            return None
        if before is not None and not content[before[0] : before[0] + 11].startswith(TAGS):
            rest = before[1] - before[0]
            if rest * samples / used / rate > LEAST_LOST_SECONDS:
                places, lost = places + 1, lost + rest
                first = first if places > 1 else samples / rate
    return Frames(samples, rate, places, first, lost * samples / used / rate)
