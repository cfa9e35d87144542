"""Writing a film again with one of its audio tracks replaced: all else is copied as it is.

Pictures, other tracks, subtitles, attachments, chapters and tags are copied packet by packet,
without decoding. The new audio is encoded and gets the timestamps of what it replaces; a lossy
encoder's delay is signalled to the player, or cut off where a container cannot say it.
"""

from __future__ import annotations

import functools
import io
import itertools
import logging
import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import soxr
from av.codec import Codec
from av.stream import Discard, Disposition

from historical_denoiser.core.checks import UserError
from historical_denoiser.formats.audio_io import BITS, DITHERED_BITS, round_to_steps
from historical_denoiser.formats.containers import (
    FULL_SCALE,
    MP4,
    PLANES,
    Timeline,
    Track,
    as_utf_8,
    open_container,
    read_chapters,
)
from historical_denoiser.formats.metadata import add_tags, add_to_wave

logger = logging.getLogger(__name__)

CHOICES = ("same", "flac", "pcm")
# FFmpeg's name for what reads a kind of file: what writes it, and the endings that fit. What
# stands first is written where a file's ending is none of them.
MUXERS: dict[str, dict[str, tuple[str, ...]]] = {
    "matroska,webm": {"matroska": (".mkv", ".mka", ".mk3d"), "webm": (".webm",)},
    MP4: {"mp4": (".mp4", ".m4v", ".m4a", ".m4b", ".3gp"), "mov": (".mov", ".qt")},
    "avi": {"avi": (".avi",)},
    "asf": {"asf": (".wmv", ".wma", ".asf")},
    "mpegts": {"mpegts": (".ts", ".m2ts", ".mts")},
    "mpeg": {"vob": (".vob", ".mpg", ".mpeg")},
    "flv": {"flv": (".flv",)},
    "aac": {"adts": (".aac",)},
    "ac3": {"ac3": (".ac3",)},
    "eac3": {"eac3": (".eac3", ".ec3")},
}
# Where FFmpeg cannot be asked which codecs a container holds.
HELD = {"mpegts": {"aac", "ac3", "eac3", "mp2", "libmp3lame", "libopus"}, "vob": {"mp2", "ac3"}}
NOT_HELD = {"mov": {"flac", "libopus"}}  # where its answer is wrong: only MP4 holds them
# Containers that say how many samples a decoder has to drop at the start.
SIGNAL_DELAY = {"matroska", "webm", "mp4", "mov"}
# FFmpeg's best encoder for a codec, of those that are good; PCM is written by its own name.
ENCODERS = {"aac": "aac", "ac3": "ac3", "eac3": "eac3", "mp3": "libmp3lame", "mp2": "mp2",
            "opus": "libopus", "flac": "flac", "alac": "alac", "wmav1": "wmav1", "wmav2": "wmav2"}
# What is written in place of a codec without such an encoder: the first that the container holds.
LOSSLESS_SUBSTITUTES = ("flac", "alac", "pcm_s24le")
LOSSY_SUBSTITUTES = ("aac", "libopus", "libmp3lame", "ac3", "mp2")
AVI_SUBSTITUTES = ("libmp3lame", "ac3", "mp2")  # few players take AAC in AVI
# Most channels, and the bit rates in kbit/s: the least for each channel, the most for each
# channel and in all, and, where there are only some, which ones. Of a lossy encoder.
MAX_CHANNELS = {"libmp3lame": 2, "mp2": 2, "ac3": 6, "eac3": 6, "wmav1": 2, "wmav2": 2, "aac": 8,
                 "libopus": 8, "flac": 8, "alac": 8}
KILOBITS = {"aac": (96, 288, 2304), "libopus": (64, 256, 2048), "libmp3lame": (96, 320, 320),
            "mp2": (128, 384, 384), "ac3": (96, 640, 640), "eac3": (96, 1536, 3024),
            "wmav1": (96, 320, 320), "wmav2": (96, 320, 320)}
STEPS_KILOBITS = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 640)
STEPPED = {"libmp3lame", "mp2", "ac3"}
SLOW_RATE, SLOW_KILOBITS = 32000, 160  # MPEG audio below that sample rate has no more bits
HOLD_BACK = {"ac3", "eac3", "mp2"}  # never write what their delay holds back
# Encoders name the speakers behind and those beside the listener alike.
LAYOUTS = {"5.1(side)": "5.1", "5.0(side)": "5.0", "quad(side)": "quad"}
# As players take channels of which no order is told.
USUAL_LAYOUTS = {4: "4.0", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}
PIECE_SECONDS = 0.04  # of audio in a packet, where the codec does not say
INTERLEAVE_MICROSECONDS = 1_000_000  # packets come in order already: no more is held back
# Of covers, by FFmpeg's names of codecs; ID3 has `image/` for all others.
MEDIA_TYPES = {"mjpeg": "image/jpeg", "png": "image/png", "gif": "image/gif", "bmp": "image/bmp",
               "webp": "image/webp"}
MATROSKA_TICK = Fraction(1, 1000)  # of its timestamps, in s
# Tags that say how a file was written, not what is in it.
OF_THE_CONTAINER = {"encoder", "major_brand", "minor_version", "compatible_brands",
                    "creation_time", "encoded_by", "duration"}
STALE_TAGS = ("BPS", "DURATION", "NUMBER_OF_", "_STATISTICS", "ENCODER")  # by the old packets


@dataclass(frozen=True)
class FilmFormat:
    """How a film or track is stored: FFmpeg's names of muxer and audio encoder, and the ending."""

    muxer: str
    encoder: str
    ending: str
    rate: int


@functools.cache
def _held(muxer: str) -> frozenset[str]:
    """Returns the encoders whose codecs a container holds."""
    if muxer in HELD:
        return frozenset(HELD[muxer])
    with av.open(io.BytesIO(), "w", format=muxer) as container:
        return frozenset(container.supported_codecs - NOT_HELD.get(muxer, set()))


def _fitting(muxer: str, encoder: str, track: Track) -> int | None:
    """Returns the sample rate at which an encoder writes a track into a container, if it can."""
    if encoder not in _held(muxer) or track.channels > MAX_CHANNELS.get(encoder, track.channels):
        return None
    rates = Codec(encoder, "w").audio_rates
    if not rates or track.rate in rates:
        return track.rate
    return min((rate for rate in rates if rate > track.rate), default=max(rates))


def _pcm_encoder(track: Track) -> str:
    return {"PCM_U8": "pcm_s16le", "PCM_16": "pcm_s16le", "PCM_32": "pcm_s32le",
            "FLOAT": "pcm_f32le", "DOUBLE": "pcm_f64le"}.get(track.subtype, "pcm_s24le")


def choose_format(track: Track, choice: str = "same") -> FilmFormat:
    """Returns how a film or track is written: as it is, unless that is impossible or not wanted.

    Args:
        track: What is denoised.
        choice: `same` codec where it can be encoded, `flac` or `pcm`.

    Raises:
        UserError: The file is a film, and its container cannot be written or cannot hold that.
    """
    muxers = MUXERS.get(track.container, {})
    muxer = next((name for name, endings in muxers.items()
                  if track.path.suffix.lower() in endings), next(iter(muxers), None))
    if "mov" in muxers and track.brand:  # a file that says what it is is believed
        muxer = "mov" if track.brand.startswith("qt") else "mp4"
    if track.is_film and muxer is None:
        raise UserError(f"{track.path}: no film of this kind ({track.container}) can be written; "
                        "copy its streams into an MKV file first")
    if track.is_mpeg and choice == "same":
        choice = "pcm"  # as all else that is lossy and no film
    own = ENCODERS.get(track.codec)
    if track.codec.startswith("pcm_") and track.is_lossless:
        own = track.codec
    if choice == "same":
        substitutes = (LOSSLESS_SUBSTITUTES if track.is_lossless else
                       AVI_SUBSTITUTES if muxer == "avi" else LOSSY_SUBSTITUTES)
        wanted = [*([own] if own else []), *(substitutes if track.is_film else ())]
    else:
        wanted = ["flac" if choice == "flac" else _pcm_encoder(track)]
    for encoder in wanted if muxer else ():
        rate = _fitting(muxer, encoder, track)
        if rate is not None and (encoder == own or rate == track.rate or not track.is_lossless):
            if choice == "same" and encoder != own:
                logger.info("%s: its audio, %s, cannot be encoded for this container; %s takes "
                            "its place", track.path, track.codec, encoder)
            ending = track.path.suffix
            if ending.lower() not in itertools.chain(*muxers.values()):
                ending = muxers[muxer][0]
            return FilmFormat(muxer, encoder, ending, rate)
    if track.is_film:
        raise UserError(f"{track.path}: its container ({muxer}) cannot hold "
                        f"{track.channels} channels of {' or '.join(wanted)}; choose another "
                        "inference.track_codec, or copy the film's streams into an MKV file first")
    if choice == "pcm":
        return FilmFormat("wav", wanted[0], ".wav", track.rate)
    if choice == "same":
        logger.info("%s: %s in %s cannot be written; the result is a FLAC file", track.path,
                    track.codec, track.container)
    return FilmFormat("flac", "flac", ".flac", track.rate)


def target_bit_rate(encoder: str, channels: int, rate: int, source: float) -> int:
    """Returns the bits per second for a lossy encoder: as many as the source's or more.

    Args:
        encoder: FFmpeg's name.
        channels: Number of channels.
        rate: Sample rate in Hz.
        source: Bits per second of what is replaced; much beyond what a codec needs is cut off.

    Returns:
        What the codec allows, and never so few that encoding once more would be heard; 0 for a
        lossless encoder.
    """
    if encoder not in KILOBITS:
        return 0
    least, most_each, most = KILOBITS[encoder]
    if encoder in ("libmp3lame", "mp2") and rate < SLOW_RATE:
        most = SLOW_KILOBITS
    wanted = min(max(least * channels, source / 1000.0), most_each * channels, most)
    if encoder in STEPPED:
        wanted = next((step for step in STEPS_KILOBITS if step >= wanted), STEPS_KILOBITS[-1])
    return round(1000 * wanted)


def _sample_format(encoder: str, track: Track) -> str:
    """Returns the encoder's sample format that is nearest to what a track holds."""
    offered = [form.name for form in Codec(encoder, "w").audio_formats]
    order = {"PCM_U8": ("u8", "s16", "flt"), "PCM_16": ("s16", "s32", "flt")}.get(
        track.subtype, ("s32", "flt", "s16") if track.is_lossless and BITS[track.subtype] else
        ("dbl", "flt", "s32", "s16") if track.subtype == "DOUBLE" else ("flt", "s32", "s16"))
    return next((form for kind in order for form in offered if form.removesuffix("p") == kind),
                offered[0])


def dialogue_level(packet: bytes, codec: str) -> int | None:
    """Returns how loud an AC-3 or E-AC-3 packet says that speech is, in dBFS.

    Players lower the sound by what this is above -31. The places of the bits are those of ETSI
    TS 102 366, 4.3 (`ac3`) and E.1.2 (`eac3`).
    """
    if codec not in ("ac3", "eac3") or len(packet) < 8 or packet[:2] != b"\x0b\x77":
        return None
    header = "".join(f"{byte:08b}" for byte in packet[:8])
    place = 45
    if codec == "ac3":
        channels = int(header[48:51], 2)
        # What else is told depends on whether there is a centre, there are sides, or it is stereo.
        place = 52 + 2 * ((channels & 1 and channels != 1) + bool(channels & 4) + (channels == 2))
    return -(int(header[place : place + 5], 2) or 31)


def _add_audio(container: av.container.OutputContainer, track: Track, output: FilmFormat,
               bit_rate: int, level: int | None = None) -> av.AudioStream:
    """Adds the new audio track to a file that is written, and opens its encoder.

    `level` is that of `dialogue_level`.
    """
    layout = track.layout
    if not output.encoder.startswith("pcm_"):
        if layout.endswith(" channels"):  # in no order that is told: FFmpeg's own for as many
            layout = USUAL_LAYOUTS.get(track.channels, layout)
        layout = LAYOUTS.get(layout, layout) if output.encoder in ("aac", "libopus") else layout
    try:
        stream = container.add_stream(
            output.encoder, rate=output.rate, layout=layout, bit_rate=bit_rate,
            format=_sample_format(output.encoder, track),
            options={"dialnorm": str(level)} if level and output.encoder == track.codec else {})
        stream.codec_context.open()
    except (av.FFmpegError, ValueError) as error:
        raise UserError(f"{track.path}: {track.layout} at {track.rate} Hz cannot be encoded as "
                        f"{output.encoder}; choose another inference.track_codec") from error
    return stream


def encoder_delay(track: Track, output: FilmFormat, bit_rate: int) -> int:
    """Returns how many samples an encoder puts before the first that it is given."""
    with av.open(io.BytesIO(), "w", format=output.muxer) as container:
        stream = _add_audio(container, track, output, bit_rate)
        context = stream.codec_context
        silence = np.zeros((max(context.frame_size, 1), track.channels))
        packets = []
        while not packets:
            packets = stream.encode(_frame(silence, stream, 0)) or stream.encode(None)
        return -packets[0].pts


def _frame(samples: np.ndarray, stream: av.AudioStream, first: int) -> av.AudioFrame:
    """Makes a frame of samples `(samples, channels)` that are in the encoder's type."""
    context = stream.codec_context
    types = {"u8": np.uint8, "s16": np.int16, "s32": np.int32, "s64": np.int64,
             "flt": np.float32, "dbl": np.float64}
    packed = context.format.packed if samples.shape[1] >= PLANES else context.format
    values = samples.T if packed.is_planar else samples.reshape(1, -1)
    frame = av.AudioFrame.from_ndarray(
        np.ascontiguousarray(values, types[packed.name.removesuffix("p")]), format=packed.name,
        layout=context.layout.name)
    frame.sample_rate = context.sample_rate
    if packed.name != context.format.name:  # PyAV 18 counts one plane too many of these
        (frame,) = av.AudioResampler(format=context.format.name).resample(frame)
    frame.pts = first
    frame.time_base = Fraction(1, context.sample_rate)
    return frame


def _is_reshaped(stream: av.VideoStream) -> bool:
    """Whether only the file's header tells the shape in which pictures are shown."""
    ratio = stream.sample_aspect_ratio
    return bool(stream.codec_context is not None and ratio
                and ratio != (stream.codec_context.sample_aspect_ratio or 1))


def _is_cover(stream: av.stream.Stream) -> bool:
    """Whether a stream is a picture that belongs to the file, such as a cover."""
    return stream.type == "video" and bool(stream.disposition & Disposition.attached_pic)


def _as_comments(chapters: list[tuple[Fraction, str]]) -> dict[str, str]:
    """Returns chapters as Vorbis comments, which players read in FLAC files as in Ogg.

    https://wiki.xiph.org/Chapter_Extension: `CHAPTER001=00:01:30.500` and `CHAPTER001NAME`.
    """
    comments = {}
    for number, (start, title) in enumerate(chapters, start=1):
        minutes, milliseconds = divmod(round(1000 * start), 60_000)
        name = f"CHAPTER{number:03d}"
        comments[name] = (f"{minutes // 60:02d}:{minutes % 60:02d}:"
                          f"{milliseconds // 1000:02d}.{milliseconds % 1000:03d}")
        if title:
            comments[f"{name}NAME"] = title
    return comments


class Forwards:
    """Makes the times of packets go forwards: damaged files go back, and muxers refuse that."""

    def __init__(self) -> None:
        self._last: dict[int, int] = {}  # of each stream
        self._moved: dict[int, int] = {}  # its last time that was put in place of an earlier one

    def place(self, stream: int, time: int) -> int:
        """Returns the time of a stream's next packet: as it is, unless it lies before the last.

        Equal times stay, as some kinds of files have them, but beside one that was moved.
        """
        last = self._last.get(stream)
        if last is not None and (time < last or time == self._moved.get(stream)):
            time = self._moved[stream] = last + 1
        self._last[stream] = time
        return time


def _warn_of_lost_tags(tags: dict[str, str], source: Path, made: Path) -> None:
    """Warns of tags that FFmpeg's writer has no place for, as MP4's has for none of its own."""
    with open_container(made) as container:
        kept = {key.lower() for key in container.metadata}
    lost = [key for key in tags if key.lower() not in kept | OF_THE_CONTAINER]
    if lost:
        logger.warning("%s: these tags cannot be written and are lost: %s", source,
                       ", ".join(sorted(lost)))


class _CopiedStreams:
    """The streams of a film that are copied as packets, in the order of their times."""

    def __init__(self, source: av.container.InputContainer, path: Path, muxer: str) -> None:
        self._source, self._path, self._muxer = source, path, muxer
        self._copies: dict[int, Any] = {}
        self._packets: Iterator[tuple[Fraction, av.Packet]] = iter(())
        self._next: tuple[Fraction, av.Packet] | None = None

    def add(self, container: av.container.OutputContainer, stream: av.stream.Stream) -> None:
        """Adds a copy of a stream to a file, if files of that kind take it."""
        if self._is_copied(stream):
            self._copies[stream.index] = self._add_copy(container, stream)

    def start(self) -> None:
        """Begins to read the packets, once the header is written."""
        self._packets = self._read_packets()
        self._next = next(self._packets, None)

    def copy_until(self, time: Fraction | None, container: av.container.OutputContainer) -> None:
        """Copies the packets before a time in seconds, or all remaining ones."""
        while self._next is not None and (time is None or self._next[0] <= time):
            container.mux(self._next[1])
            self._next = next(self._packets, None)

    def _is_copied(self, stream: av.stream.Stream) -> bool:
        is_cover = _is_cover(stream)
        if self._muxer in ("wav", "asf") and is_cover:
            return False  # FFmpeg would make moving pictures of it; it is added at the end
        return self._muxer not in ("flac", "wav") or is_cover

    def _add_copy(self, container: av.container.OutputContainer, stream: av.stream.Stream,
                  ) -> av.stream.Stream:
        first = None
        if self._muxer in ("matroska", "webm") and stream.type == "video":
            first = _first_packet(self._path, stream)
            if _is_cover(stream):
                # Matroska keeps covers as attachments, which FFmpeg shows as pictures.
                return container.add_attachment(
                    stream.metadata.get("filename", "cover"),
                    stream.metadata.get("mimetype", "image/jpeg"), bytes(first))
        copy = container.add_stream_from_template(stream, opaque=True)
        copy.metadata.update(stream.metadata)
        copy.disposition = stream.disposition
        # Matroska writes a rate as the length of every picture, which not all files contain.
        if stream.type == "video" and stream.average_rate and (first is None or first.duration):
            copy.codec_context.framerate = stream.average_rate
        if stream.codec_context is not None and self._muxer in ("mp4", "mov", "avi"):
            copy.codec_context.codec_tag = stream.codec_context.codec_tag
        return copy

    def _read_packets(self) -> Iterator[tuple[Fraction, av.Packet]]:
        """Yields all packets with the times at which they are needed."""
        time, forwards = Fraction(0), Forwards()
        streams = [self._source.streams[index] for index in self._copies]
        for packet in self._source.demux(streams) if streams else ():
            if packet.size == 0 and packet.dts is None:
                continue  # the last packet of a stream is empty
            copy = self._copies[packet.stream.index]
            if copy.type == "attachment":
                continue  # it is in the header
            if packet.dts is not None:
                later = forwards.place(copy.index, packet.dts)
                if later != packet.dts:
                    packet.dts = later
                    if packet.pts is not None:
                        packet.pts = max(packet.pts, packet.dts)
                time = packet.dts * packet.time_base
            packet.stream = copy
            yield time, packet


def _first_packet(path: Path, stream: av.stream.Stream) -> av.Packet:
    with open_container(path) as source:
        return next(source.demux(source.streams[stream.index]))


class FilmWriter:
    """Writes a film whose audio track comes in blocks, to a file, which is replaced.

    A context manager. `clipped` counts the samples beyond the range of an integer format.
    """

    def __init__(self, path: Path, track: Track, output: FilmFormat, timeline: Timeline,
                 bit_rate: float, dither_seed: int | None = None, history: str = "") -> None:
        """Opens the file and copies what stands in its header.

        Args:
            path: The file.
            track: What is replaced.
            output: From `choose_format`.
            timeline: Of the `Reader` whose blocks are written; it may still be reading.
            bit_rate: Bits per second of what is replaced.
            dither_seed: When given, samples of up to 16 bits are dithered.
            history: A line that is added to the file's comment, in containers that have one.

        Raises:
            UserError: The track cannot be encoded so, or the container refuses a stream.
            OSError: The file cannot be written.
        """
        self.path, self.clipped, self._history = path, 0, history
        self._dither_seed, self._rounded = dither_seed, 0
        self._track, self._output, self._timeline = track, output, timeline
        self._bit_rate = target_bit_rate(output.encoder, track.channels, output.rate, bit_rate)
        self._delay = encoder_delay(track, output, self._bit_rate)
        # Samples that are cut off at the start, where the delay would move all that follows.
        self._skip = 0 if output.muxer in SIGNAL_DELAY else self._delay
        # Matroska rounds the delay that players subtract to its unit; so that what remains is in
        # sync, so is what is subtracted here.
        delay = Fraction(self._delay, output.rate)
        self._shift = Fraction(0)
        if output.muxer in ("matroska", "webm"):
            self._shift = delay - math.floor(delay / MATROSKA_TICK + Fraction(1, 2)) * MATROSKA_TICK
        self._fed, self._last_pts = 0, None
        self._container: av.container.OutputContainer | None = None
        self._resampler = None
        if output.rate != track.rate:
            self._resampler = soxr.ResampleStream(track.rate, output.rate, track.channels,
                                                  dtype="float64", quality="VHQ")
        self._opened = ExitStack()
        self._source = self._opened.enter_context(open_container(track.path))
        try:
            self._open()
        except BaseException:
            self._close()
            raise

    def _open(self) -> None:
        """Opens the file, without those streams that cannot be copied."""
        data = {stream.index for stream in self._source.streams if stream.type == "data"}
        # In MP4, the names of chapters are a track that FFmpeg hides, and a timecode is one that
        # it makes from the tag of that name; both come anew.
        made = {index for index in data
                if self._source.streams[index].discard == Discard.all
                or (self._output.muxer in ("mp4", "mov")
                    and "timecode" in self._source.streams[index].metadata)}
        # PyAV copies nothing else that FFmpeg has no decoder for, such as teletext.
        lost = {stream.index for stream in self._source.streams
                if stream.codec_context is None and stream.type in ("subtitle", "unknown")}
        with self._telling():
            try:
                self._start(made | lost)
            except (av.FFmpegError, ValueError):
                self._container.close()
                if data == made:
                    raise
                self._start(data | lost)
                lost |= data - made
        if lost:
            logger.warning("%s: %d streams of data or subtitles cannot be copied and are left out",
                           self._track.path, len(lost))
        self._copied.start()

    def _start(self, left_out: set[int]) -> None:
        """Adds all streams, chapters and tags, and writes the header."""
        source, output, track = self._source, self._output, self._track
        tags = source.metadata
        options: dict[str, str] = {"max_interleave_delta": str(INTERLEAVE_MICROSECONDS)}
        if output.muxer in ("matroska", "webm") and any(map(_is_reshaped, source.streams.video)):
            logger.warning("%s: the film's header gives its pictures another shape than they tell "
                           "themselves, and that is lost", track.path)
        if output.muxer in ("mp4", "mov"):
            # Edit lists count in this unit: with FFmpeg's own, a thousandth of a second, the audio
            # would start up to 24 samples beside its place.
            options["movie_timescale"] = str(output.rate)
            if any(key.startswith("com.") for key in tags):  # QuickTime's own
                options["movflags"] = "use_metadata_tags"
            if track.brand and output.muxer == "mp4":
                options["brand"] = track.brand
        elif output.muxer == "wav":
            options["rf64"] = "auto"
        self._container = av.open(f"file:{self.path}", "w", format=output.muxer,
                                  container_options=options, metadata_errors="surrogateescape")
        self._copied = _CopiedStreams(source, track.path, output.muxer)
        for stream in source.streams:
            if stream.index == track.stream:
                self._audio = self._add_audio(stream)
            elif stream.index not in left_out:
                self._copied.add(self._container, stream)
        self._chapters = read_chapters(source)
        if output.muxer == "flac":
            # Before all else: FFmpeg moves what is last to other places, where a name would no
            # longer follow its time.
            self._container.metadata.update(_as_comments(self._chapters))
        else:
            chapters = source.chapters()
            for chapter in chapters:  # PyAV writes only what is UTF-8
                chapter["metadata"] = {key: as_utf_8(value)
                                       for key, value in chapter["metadata"].items()}
            self._container.set_chapters(chapters)
        self._container.metadata.update(tags)
        if self._history:  # Matroska's names of tags are in capitals
            name = next((key for key in tags if key.lower() == "comment"), "comment")
            self._container.metadata[name] = "; ".join(
                filter(None, [tags.get(name), self._history]))
        self._container.start_encoding()

    def _add_audio(self, stream: av.stream.Stream) -> av.stream.Stream:
        """Adds the track whose samples are written, in place of `stream`."""
        level = dialogue_level(bytes(_first_packet(self._track.path, stream)), self._track.codec)
        audio = _add_audio(self._container, self._track, self._output, self._bit_rate, level)
        audio.metadata.update({key: value for key, value in stream.metadata.items()
                               if not key.upper().startswith(STALE_TAGS)})
        audio.disposition = stream.disposition
        return audio

    def __enter__(self) -> FilmWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        try:
            if kind is None:
                with self._telling():
                    if self._resampler is not None:
                        self._encode(self._resampler.resample_chunk(
                            np.zeros((0, self._track.channels)), last=True))
                    if self._output.encoder in HOLD_BACK:
                        self._encode(np.zeros((self._delay, self._track.channels)))
                    self._mux(self._audio.encode(None))
                    self._copied.copy_until(None, self._container)
                    self._container.close()
                self._add_what_ffmpeg_left_out()
                _warn_of_lost_tags(self._source.metadata, self._track.path, self.path)
        finally:
            self._close()

    def _close(self) -> None:
        """Closes both files; what went wrong before is told already."""
        with suppress(av.FFmpegError, OSError):
            if self._container is not None:
                self._container.close()
        self._opened.close()

    def _add_what_ffmpeg_left_out(self) -> None:
        """Adds tags, covers and chapters that FFmpeg's writer of this kind of file cannot write."""
        try:
            if self._output.muxer in ("mp4", "asf"):
                add_tags(self._track.path, self.path)
            elif self._output.muxer == "wav":
                covers = [(MEDIA_TYPES.get(stream.codec_context.name, "image/"),
                           bytes(_first_packet(self._track.path, stream)))
                          for stream in self._source.streams if _is_cover(stream)]
                tags = {key: value for key, value in self._container.metadata.items()
                        if key.lower() not in OF_THE_CONTAINER}
                add_to_wave(self.path, tags, covers, self._chapters, self._output.rate)
        except UserError as error:
            logger.warning("%s: not all tags and pictures are copied: %s", self._track.path, error)

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """Makes FFmpeg's errors in writing the errors of other writers."""
        try:
            yield
        except UserError:
            raise
        except (av.FFmpegError, ValueError) as error:
            if isinstance(error, OSError):
                raise OSError(f"{self.path.parent}: the results cannot be written there "
                              f"({error.strerror})") from error
            reason = error.strerror if isinstance(error, av.FFmpegError) else str(error)
            raise UserError(f"{self._track.path}: its streams cannot be written as "
                            f"{self._output.muxer} ({reason}); copy the film into an MKV file "
                            "first") from error

    def write(self, block: np.ndarray) -> np.ndarray:
        """Writes a block `(samples, channels)`, and returns it as it was given to the encoder.

        Raises:
            OSError: The disk is full.
        """
        if self._resampler is not None:
            with self._telling():
                self._encode(self._resampler.resample_chunk(np.ascontiguousarray(block)))
            return block
        with self._telling():
            return self._encode(block)

    def _encode(self, block: np.ndarray) -> np.ndarray:
        """Rounds and encodes a block; returns it rounded."""
        form = self._audio.codec_context.format.name.removesuffix("p")
        if form in ("flt", "dbl"):
            values = block.astype(np.float32 if form == "flt" else np.float64)
            stored = values.astype(np.float64)
        else:
            full_scale, zero = FULL_SCALE[form]
            # 32 bits stand for 24 in all encoders but PCM's own.
            unused = 2.0**8 if form == "s32" and not self._output.encoder.startswith(
                "pcm_s32") else 1.0
            dither = None
            if self._dither_seed is not None and full_scale <= 2.0 ** (DITHERED_BITS - 1):
                dither = (self._dither_seed, self._rounded)
            self._rounded += len(block)
            steps = round_to_steps(block * (full_scale / unused), dither)
            within = np.clip(steps, -full_scale / unused, full_scale / unused - 1.0)
            self.clipped += int(np.count_nonzero(steps != within))
            values, stored = within * unused + zero, within * (unused / full_scale)
        skipped = min(self._skip, len(values))
        self._skip -= skipped
        self._fed += skipped
        most = self._audio.codec_context.frame_size or round(PIECE_SECONDS * self._output.rate)
        for start in range(skipped, len(values), most):
            piece = values[start : start + most]
            self._mux(self._audio.encode(_frame(piece, self._audio, self._fed)))
            self._fed += len(piece)
        return stored

    def _mux(self, packets: list[av.Packet]) -> None:
        """Writes encoded audio at its time on the film's clock, and what comes before it."""
        rate = self._output.rate
        for packet in packets:
            sample = Fraction(packet.pts * self._track.rate, rate)
            time = self._timeline.time_of(sample) + self._shift
            self._copied.copy_until(time, self._container)
            pts = round(time * rate)
            if self._last_pts is not None:  # where timestamps jitter by more than a packet
                pts = max(pts, self._last_pts + 1)
            packet.pts = packet.dts = self._last_pts = pts
            packet.stream = self._audio
            self._container.mux(packet)
