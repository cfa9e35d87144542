"""Audio tracks in films, and in audio files that libsndfile does not read: FFmpeg decodes them.

Where a sample belongs on the film's clock is told by timestamps, which need not start at zero, nor
follow on each other. A track is read as if it had no holes: where timestamps leave a gap, there is
silence, and what they let overlap is dropped. `Timeline` remembers the time of each sample.
"""

from __future__ import annotations

import io
import logging
import os
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.stream import Discard, Disposition

from historical_denoiser.core.checks import UserError
from historical_denoiser.formats import audio_io
from historical_denoiser.formats.audio_io import (
    BLOCK_SECONDS,
    Recording,
    UnknownFormatError,
    open_recording,
    require_audio_file,
)
from historical_denoiser.formats.self_contained import OPTIONS, require_no_list, require_own_samples

logger = logging.getLogger(__name__)

# Taken from a folder, and never offered to libsndfile.
ENDINGS = frozenset((
    ".3gp", ".aac", ".ac3", ".ape", ".asf", ".avi", ".dts", ".dv", ".eac3", ".flv", ".m2ts", ".m4a",
    ".m4b", ".m4v", ".mka", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".mxf", ".ogv", ".ts",
    ".tta", ".vob", ".webm", ".wma", ".wmv", ".wv"))
MPEG_CONTAINERS = {"mp3", "wav"}  # by FFmpeg's names, and what may be in them
MPEG_CODECS = {"mp3", "mp2", "mp1"}
MPEG_ENDINGS = {".mp3", ".mp2"}
MP4 = "mov,mp4,m4a,3gp,3g2,mj2"  # FFmpeg's name for what reads MP4 and MOV
# A step in the timestamps of up to this is jitter of whoever wrote them, as browsers' recorders
# do: the step stays in the timestamps, and the sound is left whole.
GAP_SECONDS = 0.1
MAX_GAP_SECONDS, MAX_OVERLAP_SECONDS = 3600.0, 10.0  # beyond, the clock is broken
SILENCE_SECONDS = 1.0  # of a gap, made at once
# Full scale of FFmpeg's sample formats, and the value of silence; planar ones end in "p".
FULL_SCALE = {"u8": (2.0**7, 2.0**7), "s16": (2.0**15, 0.0), "s32": (2.0**31, 0.0),
              "s64": (2.0**63, 0.0), "flt": (1.0, 0.0), "dbl": (1.0, 0.0)}
PLANES = 8  # that FFmpeg keeps in a frame itself
# Reads a track's channel layout, which may end the process.
READ_LAYOUT = """
import av, sys
with av.open("file:" + sys.argv[1]) as container:
    print(container.streams[int(sys.argv[2])].layout.name)
"""
# The sample formats of lossless tracks, as libsndfile names what can hold them.
SUBTYPES = {"u8": "PCM_U8", "s16": "PCM_16", "s32": "PCM_24", "s64": "DOUBLE", "flt": "FLOAT",
            "dbl": "DOUBLE"}


@dataclass(frozen=True, kw_only=True)
class Track(Recording):
    """An audio track of a file that FFmpeg reads.

    `container` is FFmpeg's name of the kind of file, and `subtype` libsndfile's name of what holds
    the samples exactly, or the codec if that is lossy. `header_samples` is 0 if nothing says how
    long the track is.

    Attributes:
        stream: Place among all streams of the file, from 0.
        codec: FFmpeg's name.
        layout: Its channels, as FFmpeg writes them: `stereo`, `5.1`.
        sample_format: What the decoder returns: `fltp`, `s16`.
        is_film: Whether there are pictures that move.
        brand: What an MP4 or MOV file says it is, else nothing.
    """

    stream: int
    codec: str
    layout: str
    sample_format: str
    is_film: bool
    brand: str

    @property
    def is_lossless(self) -> bool:
        """Whether the codec keeps samples as they are."""
        return self.subtype in SUBTYPES.values() or self.subtype == "PCM_32"

    @property
    def is_mpeg(self) -> bool:
        """See `Recording`; a film's track is none: its timestamps tell where samples belong."""
        return self.container in MPEG_CONTAINERS and self.codec in MPEG_CODECS


class UnknownContainerError(UserError):
    """A file that FFmpeg cannot read."""


class _Source(io.BufferedReader):
    """A file that answers as FFmpeg expects where a damaged header leads before its beginning.

    PyAV would print a traceback for what Python raises then, and go on.
    """

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        try:
            return super().seek(offset, whence)
        except (OSError, ValueError, OverflowError):
            return -1


@contextmanager
def open_container(path: Path) -> Iterator[av.container.InputContainer]:
    """Opens a file for FFmpeg, whatever characters its name holds, and no other file.

    Raises:
        UnknownContainerError: FFmpeg cannot read it.
        UserError: What it would play lies in other files.
        OSError: It cannot be opened.
    """
    with _Source(io.FileIO(path)) as file:
        try:
            container = av.open(file, container_options=dict(OPTIONS),
                                metadata_errors="surrogateescape")
        except (av.FFmpegError, UnicodeError) as error:
            require_no_list(path)
            reason = error.strerror if isinstance(error, av.FFmpegError) else str(error)
            raise UnknownContainerError(
                f"{path}: not a film or audio that can be read ({reason})") from error
        with container:
            require_no_list(path, container.format.name)
            if container.format.name == MP4:
                require_own_samples(path)
            yield container


def read_chapters(container: av.container.InputContainer) -> list[tuple[Fraction, str]]:
    """Returns when each chapter of a file begins, in s, and its name in UTF-8, or nothing."""
    return sorted((chapter["start"] * chapter["time_base"],
                   as_utf_8(chapter["metadata"].get("title", "")))
                  for chapter in container.chapters())


def as_utf_8(text: str) -> str:
    """Returns a text from a file with a mark in place of what is not UTF-8."""
    return text.encode(errors="surrogateescape").decode(errors="replace")


def _describe(number: int, stream: av.AudioStream) -> str:
    """Returns how a track is told from the others: `1 (aac, stereo, eng)`."""
    known = [] if stream.codec_context is None else [
        stream.codec_context.codec.canonical_name, stream.layout.name]
    known += [stream.metadata[key] for key in ("language", "title") if key in stream.metadata]
    return f"{number} ({', '.join(known)})"


def _require_readable_layout(path: Path, container: av.container.InputContainer,
                             stream: av.AudioStream) -> None:
    """Raises UserError where PyAV 18 would free a list of loudspeakers twice, and crash.

    Such lists stand where channels come in an order of the file's own, as in MOV films with 7.1
    sound as PCM. Whether it does is tried in another process.
    """
    if (stream.codec_context is None or container.format.name != MP4
            or not stream.codec_context.codec.canonical_name.startswith("pcm_")):
        return
    done = subprocess.run([sys.executable, "-c", READ_LAYOUT, str(path), str(stream.index)],
                          stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if done.returncode:
        raise UserError(f"{path}: the channels of its sound come in an order that cannot be read "
                        "from a MOV film; from a Matroska film they can")


def _seconds(stream: av.AudioStream) -> float:
    """Returns how long a track says it is; 0 if it does not."""
    if stream.duration is not None:
        seconds = stream.duration * stream.time_base
        # Of an MP3 file that does not tell its length FFmpeg makes a guess, which may be far off;
        # it is hardly ever a whole number of samples.
        is_guess = stream.codec_context is not None and (
            stream.container.format.name == "mp3" and (seconds * stream.rate).denominator != 1)
        return 0.0 if is_guess else float(seconds)
    start = 0 if stream.start_time is None else stream.start_time * stream.time_base
    try:  # Matroska: "00:01:02.345000000", the time at which it ends
        hours, minutes, seconds = stream.metadata.get("DURATION", "").split(":")
        return max(0.0, int(hours) * 3600.0 + int(minutes) * 60.0 + float(seconds) - float(start))
    except ValueError:
        return 0.0


def open_track(path: Path, number: int | None = None) -> Track:
    """Finds an audio track, and decodes the first samples of it.

    Args:
        path: A film, or an audio file.
        number: Which of its audio tracks, from 1; when absent, the one that is marked as the
            default, else the first.

    Raises:
        FileNotFoundError: There is no such file.
        UserError: The file cannot be read, has no such track, or that cannot be decoded.
    """
    require_audio_file(path)
    with open_container(path) as container:
        tracks = container.streams.audio
        if not tracks:
            kinds = ", ".join(sorted({stream.type for stream in container.streams}))
            raise UserError(f"{path}: the file holds no audio, only {kinds or 'nothing'}")
        if number is None:
            stream = next((track for track in tracks if track.disposition & Disposition.default),
                          tracks[0])
        elif 1 <= number <= len(tracks):
            stream = tracks[number - 1]
        else:
            present = ", ".join(_describe(place, track) for place, track in enumerate(tracks, 1))
            raise UserError(f"{path}: there is no audio track {number}; there are {present}")
        _require_readable_layout(path, container, stream)
        chosen = _describe(tracks.index(stream) + 1, stream)
        if stream.codec_context is None:
            raise UserError(f"{path}: audio track {chosen} has a codec that cannot be decoded")
        pictures = [video for video in container.streams.video
                    if not video.disposition & Disposition.attached_pic]
        seconds, codec = _seconds(stream), stream.codec_context.codec
        brand = container.metadata.get("major_brand", "")
        frame = next(_decoded(container, stream), None)
        if frame is None:
            raise UserError(f"{path}: nothing can be decoded in audio track {chosen}")
        name = codec.canonical_name
        subtype = name
        if codec.lossless and not codec.lossy:
            subtype = SUBTYPES[frame.format.name.removesuffix("p")]
            if name.startswith("pcm_s32"):
                subtype = "PCM_32"
        return Track(path, frame.sample_rate, frame.layout.nb_channels,
                     round(seconds * frame.sample_rate), container.format.name, subtype,
                     tracks.index(stream) + 1 if len(tracks) > 1 else None, stream=stream.index,
                     codec=name, layout=frame.layout.name, sample_format=frame.format.name,
                     is_film=bool(pictures), brand=brand)


def open_audio(path: Path, track: int | None = None) -> Recording:
    """Opens a recording that libsndfile reads, or an audio track of any other file.

    Args:
        path: The file.
        track: Which audio track, from 1; when absent, the default one.

    Raises:
        FileNotFoundError: There is no such file.
        UserError: It cannot be read, or there is no such track.
    """
    ending = path.suffix.lower()
    if ending in ENDINGS:
        return open_track(path, track)
    # libsndfile believes the length that MP3 files tell, and goes on behind damage without a word.
    if ending in MPEG_ENDINGS and (found := open_track(path, track)).is_mpeg:
        return found
    try:
        recording = open_recording(path)
    except UnknownFormatError as error:
        try:
            return open_track(path, track)
        except UnknownContainerError:
            raise error from None
    if track is not None and track > 1:
        raise UserError(f"{path}: there is no audio track {track}, only one")
    return open_track(path) if recording.is_mpeg else recording


def _decoded(container: av.container.InputContainer, stream: av.AudioStream,
             reader: Reader | None = None) -> Iterator[av.AudioFrame]:
    """Yields what can be decoded of a track; packets that cannot leave a gap."""
    for other in container.streams:
        if other is not stream:
            other.discard = Discard.all
    # Dolby's decoders else compress loud passages as the film says players may: what is written
    # anew would be compressed for good.
    if stream.codec_context.codec.canonical_name in ("ac3", "eac3"):
        stream.codec_context.options = {"drc_scale": "0"}
    failed = 0  # behind the last frame there may be tags, which are no damage
    try:
        for packet in container.demux(stream):
            if reader is not None:
                reader.note(packet)
            try:
                frames = packet.decode()
            except av.EOFError:
                return
            except av.FFmpegError:
                failed += 1
                continue
            if frames and failed and reader is not None:
                reader.note_damage(failed)
                failed = 0
            yield from (frame for frame in frames if frame.samples)
    except av.FFmpegError as error:
        raise UserError(f"{container.name}: the file is damaged "
                        f"({error.strerror})") from error


class Timeline:
    """The time of each sample of a track on the film's clock, in seconds as a fraction.

    Samples follow on each other at the track's rate but for where a timestamp says otherwise.
    Times are asked for in order: what lies before the last one asked for is forgotten.
    """

    def __init__(self, rate: int, keep: bool = True) -> None:
        """Starts a timeline; without `keep` only the newest time is known."""
        self.rate = rate
        # A sample and its time, wherever the time does not follow from the entry before.
        self._known: deque[tuple[int, Fraction]] = deque(maxlen=None if keep else 1)

    def __bool__(self) -> bool:
        return bool(self._known)

    def set(self, sample: int, time: Fraction, tolerance: Fraction = Fraction(0)) -> None:
        """Notes the time of a sample; less than `tolerance` beside what is expected is rounding."""
        if not self._known or abs(time - self.expected(sample)) > tolerance:
            self._known.append((sample, time))

    def expected(self, sample: int) -> Fraction:
        """Returns the time of a sample that comes after all that is known."""
        start, time = self._known[-1]
        return time + Fraction(sample - start, self.rate)

    def time_of(self, sample: Fraction) -> Fraction:
        """Returns the time of a sample, which may lie between two, or before the first."""
        while len(self._known) > 1 and self._known[1][0] <= sample:
            self._known.popleft()
        start, time = self._known[0] if self._known else (0, Fraction(0))
        return time + (sample - start) / self.rate


class Reader:
    """A track's samples as float64 blocks `(samples, channels)`, once, in iterating over it.

    Attributes:
        timeline: When each sample is heard.
        packet_bytes: Size of what was read so far, coded.
        samples: How many samples each channel had so far, the gaps included.
        damaged_packets: How many could not be decoded.
    """

    def __init__(self, track: Track, keep_times: bool = False) -> None:
        """Prepares to read a track; with `keep_times`, all of its timeline is known."""
        self.track = track
        self.timeline = Timeline(track.rate, keep_times)
        self.packet_bytes = self.samples = self.damaged_packets = 0
        self._keep_times = keep_times
        self._decoded_samples, self._first_damage_seconds = 0, 0.0
        self._end: Fraction | None = None  # of the last packet, where its length can be believed

    @property
    def bit_rate(self) -> float:
        """Bits per second of what was read so far."""
        return 8.0 * self.packet_bytes * self.track.rate / max(1, self.samples)

    def note(self, packet: av.Packet) -> None:
        """Notes the size of a packet, and when it ends."""
        self.packet_bytes += packet.size
        if self.track.container == MP4 and packet.size and packet.pts is not None:
            self._end = (packet.pts + (packet.duration or 0)) * packet.time_base

    def note_damage(self, packets: int) -> None:
        """Notes packets that could not be decoded."""
        if not self.damaged_packets:
            self._first_damage_seconds = self._decoded_samples / self.track.rate
        self.damaged_packets += packets

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yields blocks.

        Raises:
            UserError: The file is damaged, changes its form, or its clock makes no sense.
        """
        block_samples = max(1, round(BLOCK_SECONDS * self.track.rate))
        gathered, waiting = [], 0
        for piece in self._pieces():
            if len(piece) == 0:
                continue
            gathered.append(piece)
            waiting += len(piece)
            self.samples += len(piece)
            if waiting >= block_samples:
                yield np.concatenate(gathered)
                gathered, waiting = [], 0
        if gathered:
            yield np.concatenate(gathered)
        if self.damaged_packets and self._keep_times:
            logger.warning("%s: %d packets of the audio track are damaged, the first after %.1f s; "
                           "%s", self.track.path, self.damaged_packets, self._first_damage_seconds,
                           "what they held is left out" if self.track.is_mpeg else
                           "there is silence in their place")

    def _pieces(self) -> Iterator[np.ndarray]:
        """Yields the samples of each frame, and the silence between them."""
        track, done = self.track, 0
        overlaps = False  # whether the last frame was dropped, and more may have to be
        last = np.zeros((0, track.channels))  # held back until it is known not to be the last
        with open_container(track.path) as container:
            for frame in _decoded(container, container.streams[track.stream], self):
                form = (frame.sample_rate, frame.layout.name, frame.format.name)
                if form != (track.rate, track.layout, track.sample_format):
                    if track.is_mpeg:  # each frame tells its form: this one is damaged
                        self.note_damage(1)
                        continue
                    raise UserError(
                        f"{track.path}: the audio track changes from {track.rate} Hz, "
                        f"{track.layout} to {form[0]} Hz, {form[1]} after {done / track.rate:.1f} "
                        "s; cut the film there")
                samples = as_samples(frame)
                if frame.pts is not None:
                    time = frame.pts * frame.time_base
                    ahead = float(time - self.timeline.expected(done)) if self.timeline else 0.0
                    if not -MAX_OVERLAP_SECONDS <= ahead <= MAX_GAP_SECONDS:
                        raise UserError(
                            f"{track.path}: the timestamps of the audio track jump by {ahead:.0f} "
                            f"s after {done / track.rate:.1f} s; remux the file first")
                    if ahead > GAP_SECONDS:
                        yield last
                        last = last[:0]
                        for silence in self._silence(round(ahead * track.rate)):
                            done += len(silence)
                            yield silence
                    elif ahead < (0.0 if overlaps else -GAP_SECONDS):
                        dropped = round(-ahead * track.rate)
                        overlaps = dropped >= len(samples)
                        samples, time = samples[dropped:], time + Fraction(dropped, track.rate)
                    if len(samples):
                        # Times in a container are rounded to its own unit, and so is the first.
                        self.timeline.set(done, time, Fraction(3, 2) * frame.time_base)
                elif not self.timeline:
                    self.timeline.set(0, Fraction(0))
                done += len(samples)
                self._decoded_samples = done
                yield last
                last = samples
        if self._end is not None:
            # In MP4, the last packet tells how much of it is more than padding.
            surplus = round((self.timeline.expected(done) - self._end) * track.rate)
            if 0 < surplus < len(last):
                last = last[:-surplus]
        yield last

    def _silence(self, samples: int) -> Iterator[np.ndarray]:
        """Yields zeros for a gap of so many samples."""
        if self._keep_times:
            logger.info("%s: a gap of %.2f s in the audio track is filled with silence",
                        self.track.path, samples / self.track.rate)
        most = max(1, round(SILENCE_SECONDS * self.track.rate))
        for start in range(0, samples, most):
            yield np.zeros((min(most, samples - start), self.track.channels))


def read_blocks(recording: Recording) -> Iterator[np.ndarray]:
    """Yields the samples of a recording or track as float64 blocks `(samples, channels)`.

    Raises:
        UserError: The file is damaged.
    """
    return (iter(Reader(recording)) if isinstance(recording, Track)
            else audio_io.read_blocks(recording))


def as_samples(frame: av.AudioFrame) -> np.ndarray:
    """Returns a frame's samples as float64 `(samples, channels)`, full scale at 1."""
    if frame.format.is_planar and frame.layout.nb_channels >= PLANES:
        # PyAV 18 counts one plane too many of these, and reads where there is none.
        (frame,) = av.AudioResampler(format=frame.format.packed.name).resample(frame)
    values = frame.to_ndarray().astype(np.float64)
    values = values.T if frame.format.is_planar else values.reshape(-1, frame.layout.nb_channels)
    full_scale, zero = FULL_SCALE[frame.format.name.removesuffix("p")]
    return (values - zero) / full_scale
