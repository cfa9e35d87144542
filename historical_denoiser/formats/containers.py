"""Reads audio tracks of films, and audio files that libsndfile does not read, with FFmpeg.

Timestamps place each packet on the film's clock. They need not start at zero, and may leave gaps
or overlap: gaps are filled with silence, and overlapping samples are dropped. `Timeline` keeps the
time of each sample. Start reading at `open_audio` and `Reader`.
"""

from __future__ import annotations

import functools
import io
import logging
import os
import re
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.stream import Disposition

from historical_denoiser.core.checks import MAX_RATE, MIN_RATE, UserError
from historical_denoiser.formats import audio_io, self_contained
from historical_denoiser.formats.audio_io import BLOCK_SECONDS, Recording
from historical_denoiser.formats.clock import JOINED, demux, find_joins
from historical_denoiser.formats.coded import require_sound

logger = logging.getLogger(__name__)

# PyAV keeps the bytes of texts that are not UTF-8 as surrogates; before version 19, if told to.
BYTES_OF_TEXTS: dict[str, Any] = ({} if int(av.__version__.split(".")[0]) >= 19 else
                                  {"metadata_errors": "surrogateescape"})
# Searched for in folders, and never offered to libsndfile.
ENDINGS = frozenset((
    ".3gp", ".aac", ".ac3", ".ape", ".asf", ".avi", ".dts", ".dv", ".eac3", ".flv", ".m2ts", ".m4a",
    ".m4b", ".m4v", ".mka", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".mxf", ".ogv", ".ts",
    ".tta", ".vob", ".webm", ".wma", ".wmv", ".wv"))
MPEG_CONTAINERS = {"mp3", "wav"}  # FFmpeg's names of containers and codecs of MPEG audio
MPEG_CODECS = {"mp3", "mp2", "mp1"}
MPEG_ENDINGS = {".mp3", ".mp2"}
# Beginnings of raw streams, which FFmpeg does not recognise by one or two packets, and its names of
# them (ISO/IEC 13818-7, 6.2; ETSI TS 102 366, 4.3.1 and E.1.3.1: `bsid` differs for E-AC-3).
RAW_STREAMS = {"aac": re.compile(rb"\xff[\xf0\xf1\xf8\xf9]"),
               "ac3": re.compile(rb"\x0b\x77.{3}[\0-\x57]", re.DOTALL),
               "eac3": re.compile(rb"\x0b\x77.{3}[\x58-\xff]", re.DOTALL)}
RAW_HEAD_BYTES = 6
# What an MP3 file with a header for its length holds in its first frame.
OF_MP3_HEADERS, MP3_HEAD_BYTES, ID3_HEAD_BYTES = re.compile(rb"Xing|Info|VBRI"), 4096, 10
MP4 = "mov,mp4,m4a,3gp,3g2,mj2"  # FFmpeg's name of the demuxer for MP4 and MOV
# A smaller step in the timestamps is jitter, as in recordings made by browsers: the timestamps keep
# it, and the samples are left as they are.
GAP_SECONDS = 0.1
MAX_GAP_SECONDS, MAX_OVERLAP_SECONDS = 3600.0, 10.0  # a larger step means a broken clock
SILENCE_SECONDS = 1.0  # length of the blocks of zeros that fill a gap
# Full scale of FFmpeg's sample formats, and the value of silence. Planar formats end in "p".
FULL_SCALE = {"u8": (2.0**7, 2.0**7), "s16": (2.0**15, 0.0), "s32": (2.0**31, 0.0),
              "s64": (2.0**63, 0.0), "flt": (1.0, 0.0), "dbl": (1.0, 0.0)}
PLANES = 8  # from this number of channels on, PyAV 18 cannot read or make planar frames
# A program that reads a track's channel layout; PyAV 18 may crash.
READ_LAYOUT = """
import av, sys
with av.open("file:" + sys.argv[1]) as container:
    print(container.streams[int(sys.argv[2])].layout.name)
"""
# libsndfile's names of the formats that store FFmpeg's sample formats without loss.
SUBTYPES = {"u8": "PCM_U8", "s16": "PCM_16", "s32": "PCM_24", "s64": "DOUBLE", "flt": "FLOAT",
            "dbl": "DOUBLE"}


@dataclass(frozen=True, kw_only=True)
class Track(Recording):
    """An audio track of a file that FFmpeg reads.

    `container` is FFmpeg's name. `subtype` is libsndfile's name of a format that stores the samples
    without loss, or the codec if that is lossy. `header_samples` is 0 if the length is unknown.

    Attributes:
        stream: Index among all streams of the file, from 0.
        codec: FFmpeg's name of the codec.
        layout: FFmpeg's name of the channels: `stereo`, `5.1`.
        sample_format: FFmpeg's name of the decoder's output format: `fltp`, `s16`.
        is_film: Whether the file has a video stream that is not a cover.
        brand: Major brand of an MP4 or MOV file, else empty.
        tracks: Number of audio tracks in the file.
    """

    stream: int
    codec: str
    layout: str
    sample_format: str
    is_film: bool
    brand: str
    tracks: int

    @property
    def is_lossless(self) -> bool:
        """Whether the codec keeps samples as they are."""
        return self.subtype in SUBTYPES.values() or self.subtype == "PCM_32"

    @property
    def is_mpeg(self) -> bool:
        """See `Recording`. False for films: there, timestamps place the samples."""
        return self.container in MPEG_CONTAINERS and self.codec in MPEG_CODECS


class UnknownContainerError(UserError):
    """A file that FFmpeg cannot read."""


class _Source(io.BufferedReader):
    """A file whose `seek` returns -1 for an impossible position, as FFmpeg expects.

    Damaged headers lead to such positions. PyAV would print a traceback for Python's error.
    """

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        try:
            return super().seek(offset, whence)
        except (OSError, ValueError, OverflowError):
            return -1


def _open(file: _Source, kind: str | None = None) -> av.container.InputContainer:
    file.seek(0)
    return av.open(file, format=kind, container_options=dict(self_contained.OPTIONS),
                   **BYTES_OF_TEXTS)


def _raw_kind(path: Path) -> str | None:
    """Returns FFmpeg's name of a raw stream of AAC, AC-3 or E-AC-3."""
    with path.open("rb") as file:
        head = file.read(RAW_HEAD_BYTES)
    return next((name for name, start in RAW_STREAMS.items() if start.match(head)), None)


@contextmanager
def open_container(path: Path, short: bool = True) -> Iterator[av.container.InputContainer]:
    """Opens a file for FFmpeg, whatever characters are in its name, and no other file.

    Args:
        path: The file.
        short: Whether to open raw streams that other programs take for too short.

    Raises:
        UnknownContainerError: FFmpeg cannot read it.
        UserError: It refers to other files.
        OSError: It cannot be opened.
    """
    with _Source(io.FileIO(path)) as file:
        try:
            container = _open(file)
        except (av.FFmpegError, UnicodeError) as error:
            self_contained.refuse_other_kinds(path)
            try:
                container = _open(file, _raw_kind(path) if short else None)
            except (av.FFmpegError, UnicodeError):
                reason = error.strerror if isinstance(error, av.FFmpegError) else str(error)
                raise UnknownContainerError(
                    f"{path}: not a film or audio that can be read ({reason})") from error
        with container:
            self_contained.require_no_list(path, container.format.name)
            if container.format.name == MP4:
                self_contained.require_own_samples(path)
            yield container


def read_chapters(container: av.container.InputContainer) -> list[tuple[Fraction, str]]:
    """Returns the start of each chapter in seconds, and its name, empty if it has none."""
    return sorted((chapter["start"] * chapter["time_base"],
                   as_utf_8(chapter["metadata"].get("title", "")))
                  for chapter in container.chapters())


def read_tags(recording: Recording) -> dict[str, str]:
    """Returns the tags of a file and of the audio track, with lower-case names.

    For a broadcast wave, these include its description and coding history. Files that FFmpeg cannot
    read have none.
    """
    try:
        with open_container(recording.path) as container:
            place = recording.stream if isinstance(recording, Track) else 0
            found = container.metadata | container.streams[place].metadata
    except UnknownContainerError:
        return {}
    return {name.lower(): as_utf_8(text) for name, text in found.items()}


def as_utf_8(text: str) -> str:
    """Returns a text from a file with a replacement mark for each byte that is not UTF-8."""
    return text.encode(errors="surrogateescape").decode(errors="replace")


def _describe(number: int, stream: av.AudioStream) -> str:
    """Returns a track's number and properties: `1 (aac, stereo, eng)`."""
    known = [] if stream.codec_context is None else [
        stream.codec_context.codec.canonical_name, stream.layout.name]
    known += [stream.metadata[key] for key in ("language", "title") if key in stream.metadata]
    return f"{number} ({', '.join(known)})"


def _require_readable_layout(path: Path, container: av.container.InputContainer,
                             stream: av.AudioStream) -> None:
    """Raises UserError for a channel layout with which PyAV 18 would crash (a double free).

    Custom channel orders cause it, as in MOV films with 7.1 sound as PCM. Another process tries it.
    """
    if (stream.codec_context is None or container.format.name != MP4
            or not stream.codec_context.codec.canonical_name.startswith("pcm_")):
        return
    done = subprocess.run([sys.executable, "-c", READ_LAYOUT, str(path), str(stream.index)],
                          stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if done.returncode:
        raise UserError(f"{path}: the channels of its sound come in an order that cannot be read "
                        "from a MOV film; from a Matroska film they can")


def _states_length(path: Path) -> bool:
    """Whether the first frame of an MP3 file, behind an ID3 tag, is a header with its length."""
    with path.open("rb") as file:
        head = file.read(ID3_HEAD_BYTES)
        is_tag = head.startswith(b"ID3")
        # The size has seven bits in each byte (ID3v2.4.0, 3.1).
        file.seek(ID3_HEAD_BYTES + sum(byte << 7 * place for place, byte in enumerate(
            reversed(head[6:]))) if is_tag else 0)
        return OF_MP3_HEADERS.search(file.read(MP3_HEAD_BYTES)) is not None


def _seconds(path: Path, stream: av.AudioStream) -> float:
    """Returns the length of a track according to the file; 0 if it is unknown."""
    if stream.duration is not None:
        seconds = stream.duration * stream.time_base
        # FFmpeg estimates the length of raw AAC, and of an MP3 file without a header for it, by the
        # first bit rates, and may be far off.
        is_guess = stream.container.format.name == "aac" or (
            stream.container.format.name == "mp3" and not _states_length(path))
        if stream.container.format.name == "avi" and len(stream.index_entries) > 1:
            # The header also counts empty packets, by which the sound is late.
            seconds = min(seconds, (stream.index_entries[-1].timestamp + 1) * stream.time_base)
        return 0.0 if is_guess else float(seconds)
    start = 0 if stream.start_time is None else stream.start_time * stream.time_base
    try:  # Matroska stores the end of the track: "00:01:02.345000000"
        hours, minutes, seconds = stream.metadata.get("DURATION", "").split(":")
        end = int(hours) * 3600.0 + int(minutes) * 60.0 + float(seconds)
    except ValueError:  # FLV states the end of the file alone; pictures may be longer than sound
        is_alone = len(stream.container.streams) == 1
        end = (stream.container.duration or 0) / av.time_base if is_alone else 0.0
    return max(0.0, end - float(start))


def open_track(path: Path, number: int | None = None) -> Track:
    """Finds an audio track, and decodes its first samples.

    Args:
        path: A film, or an audio file.
        number: Number of the audio track, from 1. If None, the track that is marked as default, or
            the first.

    Raises:
        FileNotFoundError: There is no such file.
        UserError: The file cannot be read, or the track does not exist or cannot be decoded.
    """
    audio_io.require_audio_file(path)
    with open_container(path) as container:
        tracks = container.streams.audio
        if not tracks:
            self_contained.refuse_other_kinds(path)
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
        seconds, codec = _seconds(path, stream), stream.codec_context.codec
        brand = container.metadata.get("major_brand", "")
        frame = next(_decoded(path, container, stream), None)
        if frame is None:
            self_contained.refuse_other_kinds(path)
            raise UserError(f"{path}: nothing can be decoded in audio track {chosen}")
        if container.format.name == "asf":  # states when the track ends on the film's clock
            seconds -= frame.time or 0.0
        name = codec.canonical_name
        subtype = name
        if codec.lossless and not codec.lossy:
            subtype = SUBTYPES[frame.format.name.removesuffix("p")]
            if name.startswith("pcm_s32"):
                subtype = "PCM_32"
        return Track(path, frame.sample_rate, frame.layout.nb_channels,
                     max(0, round(seconds * frame.sample_rate)), container.format.name, subtype,
                     tracks.index(stream) + 1 if len(tracks) > 1 else None, stream=stream.index,
                     codec=name, layout=frame.layout.name, sample_format=frame.format.name,
                     is_film=bool(pictures), brand=brand, tracks=len(tracks))


def open_audio(path: Path, track: int | None = None) -> Recording:
    """Opens a recording that libsndfile reads, or an audio track of any other file.

    Args:
        path: The file.
        track: Number of the audio track, from 1. If None, the default track.

    Raises:
        FileNotFoundError: There is no such file.
        UserError: It cannot be read, or there is no such track.
    """
    recording = _open_audio(path, track)
    if not MIN_RATE <= recording.rate <= MAX_RATE:
        raise UserError(f"{path}: the sample rate must be {MIN_RATE} to {MAX_RATE} Hz. Received: "
                        f"{recording.rate} Hz; is the header damaged?")
    return recording


def _open_audio(path: Path, track: int | None) -> Recording:
    ending = path.suffix.lower()
    if ending in ENDINGS:
        return open_track(path, track)
    # libsndfile trusts the length in the header of MP3 files, and skips damage silently.
    if ending in MPEG_ENDINGS and (found := open_track(path, track)).is_mpeg:
        return found
    try:
        recording = audio_io.open_recording(path)
    except audio_io.UnknownFormatError as error:
        try:
            return open_track(path, track)
        except UnknownContainerError:
            raise error from None
    if track is not None and track > 1:
        raise UserError(f"{path}: there is no audio track {track}, only one")
    return open_track(path) if recording.is_mpeg else recording


def joins_of(path: Path) -> list[tuple[int, Fraction]]:
    """Returns where the clips of a film were joined; see `find_joins`."""
    status = path.stat()
    return _joins_of(path, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=16)
def _joins_of(path: Path, size: int, changed: int) -> list[tuple[int, Fraction]]:
    with open_container(path) as container:
        return find_joins(container) if container.format.name in JOINED else []


def _decoded(path: Path, container: av.container.InputContainer, stream: av.AudioStream,
             reader: Reader | None = None) -> Iterator[av.AudioFrame]:
    """Yields the frames of a track; a packet that cannot be decoded leaves a gap."""
    # Without this option, decoders of AC-3 apply the dynamic range compression that the film
    # recommends to players, and the new track would be compressed for good.
    if stream.codec_context.codec.canonical_name in ("ac3", "eac3"):
        stream.codec_context.options = {"drc_scale": "0"}
    if stream.codec_context.codec.canonical_name == "flac":  # silence instead of wrong samples
        stream.codec_context.options = {"err_detect": "crccheck+explode"}
    failed = 0  # not counted after the last frame: tags may follow it, which are no damage
    try:
        # Joins are found by reading the whole file, which planning must not do.
        known = () if reader is None else (joins_of(path), reader.note_end)
        for packet in demux(container, [stream], *known):
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
        raise UserError(f"{path}: the file is damaged ({error.strerror})") from error


def _without_outliers(frames: Iterator[av.AudioFrame]) -> Iterator[av.AudioFrame]:
    """Yields frames; a timestamp that alone is out of order, as in damaged films, is removed."""
    before, frame = None, next(frames, None)
    while frame is not None:
        after = next(frames, None)
        if None not in (before, frame.pts, after and after.pts) and before <= after.pts:
            astray = max(before - frame.pts, frame.pts - after.pts) * frame.time_base
            frame.pts = None if astray > GAP_SECONDS else frame.pts
        before = before if frame.pts is None else frame.pts
        yield frame
        frame = after


def _counted_priming(container: av.container.InputContainer, frame: av.AudioFrame) -> Fraction:
    """Returns the time of a first frame, in s, if it is the encoder's delay that iTunes notes.

    Of such files, FFmpeg drops the samples of the delay as players do, but counts them; else 0.
    """
    time, note = frame.pts * frame.time_base, container.metadata.get("iTunSMPB", "").split()
    return time if note[1:2] == [f"{round(time * frame.sample_rate):08X}"] else Fraction(0)


class Timeline:
    """The time of each sample of a track on the film's clock, in seconds as a fraction.

    Samples follow each other at the track's rate, except where a timestamp differs. Times must be
    queried in rising order: `time_of` drops the entries before its argument.
    """

    def __init__(self, rate: int, keep: bool = True) -> None:
        """Makes an empty timeline; without `keep`, only the newest entry is kept."""
        self.rate = rate
        # Samples and their times, wherever a time does not follow from the previous entry.
        self._known: deque[tuple[int, Fraction]] = deque(maxlen=None if keep else 1)

    def __bool__(self) -> bool:
        return bool(self._known)

    def set(self, sample: int, time: Fraction, tolerance: Fraction = Fraction(0)) -> None:
        """Sets the time of a sample.

        Args:
            sample: Number of the sample in the track.
            time: Its time in seconds.
            tolerance: A deviation of up to this many seconds is taken for rounding.
        """
        if not self._known or abs(time - self.expected(sample)) > tolerance:
            self._known.append((sample, time))

    def expected(self, sample: int) -> Fraction:
        """Returns the time of a sample behind the newest entry."""
        start, time = self._known[-1]
        return time + Fraction(sample - start, self.rate)

    def time_of(self, sample: Fraction) -> Fraction:
        """Returns the time of a sample, which may be fractional or negative."""
        while len(self._known) > 1 and self._known[1][0] <= sample:
            self._known.popleft()
        start, time = self._known[0] if self._known else (0, Fraction(0))
        return time + (sample - start) / self.rate


class Reader:
    """Iterates once over a track's samples, as float64 blocks `(samples, channels)`.

    Attributes:
        timeline: The time of each sample.
        packet_bytes: Coded size of the packets that were read.
        samples: Number of samples in each channel so far, gaps included.
        damaged_packets: Number of packets that could not be decoded.
        incomplete_packets: Number of packets of which FFmpeg found only a part.
    """

    def __init__(self, track: Track, keep_times: bool = False) -> None:
        """Prepares to read a track; `keep_times` keeps its whole timeline, and logs damage."""
        self.track = track
        self.timeline = Timeline(track.rate, keep_times)
        self.packet_bytes = self.samples = self.damaged_packets = self.incomplete_packets = 0
        self._keep_times = keep_times
        self._decoded_samples = self._dropped_samples = 0
        self._first_damage_seconds, self._broken = 0.0, ""
        self._end: Fraction | None = None  # of the last packet, where its duration is reliable

    @property
    def bit_rate(self) -> float:
        """Mean bit rate of the packets that were read, in bits per second."""
        return 8.0 * self.packet_bytes * self.track.rate / max(1, self.samples)

    def note(self, packet: av.Packet) -> None:
        """Counts a packet's size, and whether it is incomplete; remembers its end."""
        self.packet_bytes += packet.size
        self.incomplete_packets += packet.is_corrupt
        if self.track.container == MP4 and packet.size and packet.pts is not None:
            self._end = (packet.pts + (packet.duration or 0)) * packet.time_base

    def note_end(self, reason: str) -> None:
        """Remembers why the file cannot be read to its end."""
        self._broken = reason

    def note_damage(self, packets: int) -> None:
        """Counts packets that could not be decoded."""
        if not self.damaged_packets:
            self._first_damage_seconds = self._decoded_samples / self.track.rate
        self.damaged_packets += packets

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yields blocks.

        Raises:
            UserError: The file is damaged, its sample format changes, or its timestamps jump.
        """
        block_samples = max(1, round(BLOCK_SECONDS * self.track.rate))
        gathered, waiting = [], 0
        for piece in filter(len, self._pieces()):
            gathered.append(piece)
            waiting += len(piece)
            self.samples += len(piece)
            if waiting >= block_samples:
                yield self._joined(gathered)
                gathered, waiting = [], 0
        if gathered:
            yield self._joined(gathered)
        if self._dropped_samples and self._keep_times:
            logger.warning("%s: the timestamps of the audio track go back; %.2f s, which overlap "
                           "what came before, are left out", self.track.path,
                           self._dropped_samples / self.track.rate)
        if self._broken and self._keep_times:
            logger.warning("%s: the file is damaged after %.1f s of sound (%s), and cannot be read "
                           "further", self.track.path, self.samples / self.track.rate, self._broken)
        if self.damaged_packets and self._keep_times:
            logger.warning("%s: %d packets of the audio track are damaged, the first after %.1f s; "
                           "%s", self.track.path, self.damaged_packets, self._first_damage_seconds,
                           "their samples are left out" if self.track.is_mpeg else
                           "silence takes their place")

    def _joined(self, pieces: list[np.ndarray]) -> np.ndarray:
        """Returns the next block; the first one must be sound, if the track stores samples."""
        block = np.concatenate(pieces)
        if len(block) == self.samples and self.track.is_lossless:
            require_sound(self.track.path, block)
        return block

    def _pieces(self) -> Iterator[np.ndarray]:
        """Yields the samples of each frame, and zeros for the gaps between them."""
        track, done, is_flac = self.track, 0, self.track.container == "flac"
        overlaps, origin = False, Fraction(0)  # whether all of the previous frame was dropped
        last = np.zeros((0, track.channels))  # kept back, as the end of the track may be cut off
        with open_container(track.path) as container:
            frames = _decoded(track.path, container, container.streams[track.stream], self)
            for frame in _without_outliers(frames):
                form = (frame.sample_rate, frame.layout.name, frame.format.name)
                if form != (track.rate, track.layout, track.sample_format):
                    if track.is_mpeg:  # each frame has its own header: this one is damaged
                        self.note_damage(1)
                        continue
                    raise UserError(
                        f"{track.path}: the audio track changes from {track.rate} Hz, "
                        f"{track.layout} to {form[0]} Hz, {form[1]} after {done / track.rate:.1f} "
                        "s; cut the film there")
                samples = as_samples(frame)
                if frame.pts is not None:
                    if not (self.timeline or track.is_film):
                        origin = _counted_priming(container, frame)
                    time = frame.pts * frame.time_base - origin
                    ahead = float(time - self.timeline.expected(done)) if self.timeline else 0.0
                    if not -MAX_OVERLAP_SECONDS <= ahead <= MAX_GAP_SECONDS:
                        raise UserError(
                            f"{track.path}: the timestamps of the audio track jump by {ahead:.0f} "
                            f"s after {done / track.rate:.1f} s; remux the file first")
                    if ahead > (0.0 if is_flac else GAP_SECONDS):
                        if is_flac:  # times are exact, and FFmpeg drops damaged frames silently
                            self.note_damage(1)
                        yield last
                        last = last[:0]
                        for silence in self._silence(round(ahead * track.rate)):
                            done += len(silence)
                            yield silence
                    elif ahead < (0.0 if overlaps else -GAP_SECONDS):
                        dropped = round(-ahead * track.rate)
                        self._dropped_samples += min(dropped, len(samples))
                        overlaps = dropped >= len(samples)
                        samples, time = samples[dropped:], time + Fraction(dropped, track.rate)
                    if len(samples):
                        # Containers round all times to their time unit, the first one as well.
                        self.timeline.set(done, time, Fraction(3, 2) * frame.time_base)
                elif not self.timeline:
                    self.timeline.set(0, Fraction(0))
                done += len(samples)
                self._decoded_samples = done
                yield last
                last = samples
        if self._end is not None:
            # In MP4, the duration of the last packet does not include its padding.
            surplus = round((self.timeline.expected(done) + origin - self._end) * track.rate)
            if 0 < surplus < len(last):
                last = last[:-surplus]
        yield last

    def _silence(self, samples: int) -> Iterator[np.ndarray]:
        """Yields blocks of zeros for a gap of `samples`."""
        if self._keep_times:
            logger.info("%s: a gap of %.2f s in the audio track is filled with silence",
                        self.track.path, samples / self.track.rate)
        most = max(1, round(SILENCE_SECONDS * self.track.rate))
        for start in range(0, samples, most):
            yield np.zeros((min(most, samples - start), self.track.channels))


def read_blocks(recording: Recording, keep_times: bool = False) -> Iterable[np.ndarray]:
    """Returns the samples of a recording or track as float64 blocks `(samples, channels)`.

    Args:
        recording: From `open_audio`.
        keep_times: As in `Reader`, which is the result for a `Track`.

    Raises:
        UserError: When the blocks are read: the file is damaged.
    """
    if isinstance(recording, Track):
        return Reader(recording, keep_times)
    return _read_past_damage(recording, keep_times)


def _read_past_damage(recording: Recording, keep_times: bool) -> Iterator[np.ndarray]:
    """Yields the blocks of a recording; where libsndfile stops in a FLAC file, FFmpeg goes on."""
    try:
        done = 0
        for block in audio_io.read_blocks(recording):
            if not done:
                require_sound(recording.path, block)
            done += len(block)
            yield block
    except audio_io.DamagedError:
        if recording.container != "FLAC":
            raise
        track = open_track(recording.path)
        if (track.rate, track.channels) != (recording.rate, recording.channels):
            raise  # its header, or what FFmpeg makes of it, is damaged
        for block in Reader(track, keep_times):
            if len(block) > done:
                yield block[done:]
            done = max(0, done - len(block))


def as_samples(frame: av.AudioFrame) -> np.ndarray:
    """Returns a frame's samples as float64 `(samples, channels)`, full scale at 1."""
    if frame.format.is_planar and frame.layout.nb_channels >= PLANES:
        # PyAV 18 counts one plane too many, and would read beyond the last.
        (frame,) = av.AudioResampler(format=frame.format.packed.name).resample(frame)
    if frame.format.name.startswith("s64"):  # PyAV 18 has no array of these
        (frame,) = av.AudioResampler(format="dbl").resample(frame)
    values = frame.to_ndarray().astype(np.float64)
    values = values.T if frame.format.is_planar else values.reshape(-1, frame.layout.nb_channels)
    full_scale, zero = FULL_SCALE[frame.format.name.removesuffix("p")]
    return (values - zero) / full_scale
