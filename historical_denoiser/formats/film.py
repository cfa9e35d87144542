"""Writes a film again with one of its audio tracks replaced; everything else is copied.

Pictures, other tracks, subtitles, attachments, chapters and tags are copied packet by packet,
without decoding. The new audio is encoded and gets the timestamps of the old. The delay of a lossy
encoder is signalled to the player, or cut off where a container has no field for it. Start reading
at `choose_format` and `FilmWriter`.
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
from av.audio.frame import format_dtypes
from av.codec import Codec
from av.stream import Discard, Disposition

from historical_denoiser.core.checks import UserError
from historical_denoiser.formats import containers, matroska
from historical_denoiser.formats.audio_io import BITS, quantize
from historical_denoiser.formats.clock import demux
from historical_denoiser.formats.containers import MP4, Timeline, Track, open_container
from historical_denoiser.formats.metadata import OF_LEVELS, add_id3, add_tags, add_to_wave
from historical_denoiser.formats.shape import PLACE_HOLDER, keep_shape

logger = logging.getLogger(__name__)

CHOICES = ("same", "flac", "pcm")
# For each demuxer of FFmpeg, the muxers that can write its files again, with their file endings.
# The first muxer is the default for a file with any other ending.
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
# For films whose own container cannot be written, or cannot hold the new track.
OTHER_ENDINGS = {"mov": ".mov", "matroska": ".mkv"}
EDITED = {"mxf", "dv"}  # of these, MOV; editing programs read it, unlike Matroska
# The encoders that FFmpeg's muxers accept, where FFmpeg does not list them, or lists too many.
ACCEPTED = {"mpegts": {"aac", "ac3", "eac3", "mp2", "libmp3lame", "libopus"}, "vob": {"mp2", "ac3"}}
# MOV: only MP4 holds them. AVI: FFmpeg writes a wrong clock.
NOT_ACCEPTED = {"mov": {"flac", "libopus"}, "avi": {"eac3"}}
# Containers with a field for the number of samples that a decoder drops at the start.
SIGNAL_DELAY = {"matroska", "webm", "mp4", "mov"}
# The best encoder for each codec, where FFmpeg has a good one; PCM encoders are named as the codec.
ENCODERS = {"aac": "aac", "ac3": "ac3", "eac3": "eac3", "mp3": "libmp3lame", "mp2": "mp2",
            "opus": "libopus", "flac": "flac", "alac": "alac", "wmav1": "wmav1", "wmav2": "wmav2"}
# Replacements for any other codec: the first that the container accepts is used.
LOSSLESS_SUBSTITUTES = ("flac", "alac", "pcm_s24le")
LOSSY_SUBSTITUTES = ("aac", "libopus", "libmp3lame", "ac3", "mp2")
DROPPED_TWICE = {"wmav1", "wmav2"}  # FFmpeg's decoder drops twice the delay of its encoder
AVI_SUBSTITUTES = ("libmp3lame", "ac3", "mp2")  # few players take AAC in AVI
PCM_ENCODERS = {"PCM_U8": "pcm_s16le", "PCM_16": "pcm_s16le", "PCM_32": "pcm_s32le",
                "FLOAT": "pcm_f32le", "DOUBLE": "pcm_f64le"}  # all other subtypes: pcm_s24le
MAX_CHANNELS = {"libmp3lame": 2, "mp2": 2, "ac3": 6, "eac3": 6, "wmav1": 2, "wmav2": 2, "aac": 8,
                 "libopus": 8, "flac": 8, "alac": 8}
# Bit rates of lossy encoders in kbit/s: lowest per channel, highest per channel, highest in total.
KILOBITS = {"aac": (96, 288, 2304), "libopus": (64, 256, 2048), "libmp3lame": (96, 320, 320),
            "mp2": (128, 384, 384), "ac3": (96, 640, 640), "eac3": (96, 1536, 3024),
            "wmav1": (96, 320, 320), "wmav2": (96, 320, 320)}
# The only bit rates that the encoders in `STEPPED` accept.
STEPS_KILOBITS = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 640)
STEPPED = {"libmp3lame", "mp2", "ac3"}
SLOW_RATE, SLOW_KILOBITS = 32000, 160  # below this sample rate, MPEG audio allows no higher rate
HOLD_BACK = {"ac3", "eac3", "mp2"}  # at the end, these encoders do not flush the delayed samples
# AAC and Opus encoders know only one name for surround channels, behind or beside the listener.
LAYOUTS = {"5.1(side)": "5.1", "5.0(side)": "5.0", "quad(side)": "quad"}
# The order that players assume for channels without a layout, by their number.
USUAL_LAYOUTS = {1: "mono", 2: "stereo", 4: "4.0", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}
PACKET_SECONDS = 0.04  # of audio in a packet, for codecs without a fixed frame size
INTERLEAVE_MICROSECONDS = 1_000_000  # packets arrive in order; the muxer need not buffer more
# Media types of covers by FFmpeg's codec names; ID3 uses `image/` for all others.
MEDIA_TYPES = {"mjpeg": "image/jpeg", "png": "image/png", "gif": "image/gif", "bmp": "image/bmp",
               "webp": "image/webp"}
MATROSKA_TICK = Fraction(1, 1000)  # of its timestamps, in s
# Tags that say how a file was written, not what it contains.
TAGS_OF_MUXERS = {"encoder", "major_brand", "minor_version", "compatible_brands",
                  "creation_time", "encoded_by", "duration"}
SOUND_ONLY = frozenset(("wav", "flac"))  # muxers of results that hold the track alone
SOUND_ALONE = {"wav", "adts", "ac3", "eac3"}  # of these, those whose covers FFmpeg does not write
# Beginnings of a track's tags that describe its old packets.
STALE_TAGS = ("BPS", "DURATION", "NUMBER_OF_", "_STATISTICS", "ENCODER")


@dataclass(frozen=True)
class FilmFormat:
    """How a result is stored: FFmpeg's names of muxer and encoder, ending, and sample rate."""

    muxer: str
    encoder: str
    ending: str
    rate: int


@functools.cache
def _accepted_encoders(muxer: str) -> frozenset[str]:
    if muxer in ACCEPTED:
        return frozenset(ACCEPTED[muxer])
    with av.open(io.BytesIO(), "w", format=muxer) as container:
        return frozenset(container.supported_codecs - NOT_ACCEPTED.get(muxer, set()))


def _encoder_rate(muxer: str, encoder: str, track: Track) -> int | None:
    """Returns the sample rate at which `encoder` can write a track, or None if it cannot."""
    is_accepted = encoder in _accepted_encoders(muxer)
    if not is_accepted or track.channels > MAX_CHANNELS.get(encoder, track.channels):
        return None
    rates = Codec(encoder, "w").audio_rates
    if not rates or track.rate in rates:
        return track.rate
    return min((rate for rate in rates if rate > track.rate), default=max(rates))


def _choose_encoder(track: Track, choice: str, muxer: str) -> tuple[str, int] | None:
    """Returns the encoder for a track in a container, and the sample rate; None if none fits."""
    own = ENCODERS.get(track.codec)
    if track.codec.startswith("pcm_") and track.is_lossless:  # PyAV 18 makes no frames of s64
        own = _pcm_encoder(track) if track.codec.startswith("pcm_s64") else track.codec
    if choice == "same":
        substitutes = (LOSSLESS_SUBSTITUTES if track.is_lossless else
                       AVI_SUBSTITUTES if muxer == "avi" else LOSSY_SUBSTITUTES)
        wanted = [*([own] if own else []), *(substitutes if track.is_film else ())]
    else:
        wanted = ["flac" if choice == "flac" else _pcm_encoder(track)]
    for encoder in wanted:
        rate = _encoder_rate(muxer, encoder, track)
        if rate is not None and (encoder == own or rate == track.rate or not track.is_lossless):
            if choice == "same" and encoder != own:
                logger.info("%s: its audio codec, %s, cannot be encoded for this container; %s is "
                            "used instead", track.path, track.codec, encoder)
            return encoder, rate
    return None


def _pcm_encoder(track: Track) -> str:
    return PCM_ENCODERS.get(track.subtype, "pcm_s24le")


@functools.cache  # planning asks up to three times; it logs once
def choose_format(track: Track, choice: str = "same") -> FilmFormat:
    """Returns how the result is written: as the source is stored, if possible and wanted.

    A film whose container cannot be written, or cannot hold the codec, becomes one in MOV or MKV.

    Args:
        track: The track that is denoised.
        choice: `same` codec where it can be encoded, `flac` or `pcm`.

    Raises:
        UserError: The file is a film, and no container can hold the codec.
    """
    muxers = MUXERS.get(track.container, {})
    muxer = next((name for name, endings in muxers.items()
                  if track.path.suffix.lower() in endings), next(iter(muxers), None))
    if "mov" in muxers and track.brand:  # the file's own statement counts more than its ending
        muxer = "mov" if track.brand.startswith("qt") else "mp4"
    if track.is_mpeg and choice == "same":
        choice = "pcm"  # like all other lossy audio files
    if muxer and (found := _choose_encoder(track, choice, muxer)):
        ending = track.path.suffix
        if ending.lower() not in itertools.chain(*muxers.values()):
            ending = muxers[muxer][0]
        return FilmFormat(muxer, found[0], ending, found[1])
    if track.is_film:
        for other in ("mov", "matroska") if track.container in EDITED else ("matroska",):
            if found := _choose_encoder(track, choice, other):
                logger.warning("%s: its container (%s) cannot be written with this sound; the "
                               "result is a film in %s, with %s", track.path, track.container,
                               other, found[0])
                return FilmFormat(other, found[0], OTHER_ENDINGS[other], found[1])
        raise UserError(f"{track.path}: no container can hold {track.channels} channels of its "
                        "sound; choose another inference.track_codec")
    if choice == "pcm":
        return FilmFormat("wav", _pcm_encoder(track), ".wav", track.rate)
    if choice == "same":
        logger.info("%s: %s in %s cannot be written; the result is a FLAC file", track.path,
                    track.codec, track.container)
    return FilmFormat("flac", "flac", ".flac", track.rate)


def target_bit_rate(encoder: str, channels: int, rate: int, source: float) -> int:
    """Returns the bit rate for an encoder, in bits per second; 0 for a lossless one.

    It is at least that of the source, within the limits of the codec, and never so low that a
    second encoding becomes audible.

    Args:
        encoder: FFmpeg's name.
        channels: Number of channels.
        rate: Sample rate in Hz.
        source: Bit rate of the track that is replaced, in bits per second.
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
    """Returns the encoder's sample format that is nearest to that of the track."""
    offered = [form.name for form in Codec(encoder, "w").audio_formats]
    order = {"PCM_U8": ("u8", "s16", "flt"), "PCM_16": ("s16", "s32", "flt")}.get(
        track.subtype, ("s32", "flt", "s16") if track.is_lossless and BITS[track.subtype] else
        ("dbl", "flt", "s32", "s16") if track.subtype == "DOUBLE" else ("flt", "s32", "s16"))
    return next((form for kind in order for form in offered if form.removesuffix("p") == kind),
                offered[0])


def dialogue_level(packet: bytes, codec: str) -> int | None:
    """Returns the level of speech, in dBFS, that is stored in an AC-3 or E-AC-3 packet.

    Players lower the sound by the difference to -31 dBFS. The positions of the bits are those of
    ETSI TS 102 366, 4.3 (`ac3`) and E.1.2 (`eac3`).
    """
    if codec not in ("ac3", "eac3") or len(packet) < 8 or packet[:2] != b"\x0b\x77":
        return None
    header = "".join(f"{byte:08b}" for byte in packet[:8])
    place = 45
    if codec == "ac3":
        channels = int(header[48:51], 2)
        # Two bits more precede it for each of: a centre channel, side channels, stereo.
        place = 52 + 2 * ((channels & 1 and channels != 1) + bool(channels & 4) + (channels == 2))
    return -(int(header[place : place + 5], 2) or 31)


def _add_audio(container: av.container.OutputContainer, track: Track, output: FilmFormat,
               bit_rate: int, level: int | None = None) -> av.AudioStream:
    """Adds an audio track to an output file and opens its encoder; `level` is of speech."""
    layout = track.layout
    if not output.encoder.startswith("pcm_"):
        if layout.endswith(" channels"):  # FFmpeg's name for an unknown layout
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
    """Returns how many samples an encoder inserts before its first input sample.

    Args:
        track: The track, for its form.
        output: Encoder and container.
        bit_rate: Bits per second.
    """
    with av.open(io.BytesIO(), "w", format=output.muxer) as container:
        stream = _add_audio(container, track, output, bit_rate)
        context = stream.codec_context
        silence = np.zeros((max(context.frame_size, 1), track.channels))
        packets = []
        while not packets:
            packets = stream.encode(_frame(silence, stream, 0)) or stream.encode(None)
        return -packets[0].pts


def _frame(samples: np.ndarray, stream: av.AudioStream, first: int) -> av.AudioFrame:
    """Makes a frame of values `(samples, channels)` that are already scaled for the encoder."""
    context = stream.codec_context
    form = context.format.packed if samples.shape[1] >= containers.PLANES else context.format
    values = samples.T if form.is_planar else samples.reshape(1, -1)
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(values, format_dtypes[form.name]),
                                       format=form.name, layout=context.layout.name)
    frame.sample_rate = context.sample_rate
    if form.name != context.format.name:  # PyAV 18 counts one plane too many in planar frames
        (frame,) = av.AudioResampler(format=context.format.name).resample(frame)
    frame.pts = first
    frame.time_base = Fraction(1, context.sample_rate)
    return frame


def _is_reshaped(stream: av.VideoStream) -> bool:
    """Whether the container states another pixel aspect ratio than the coded pictures."""
    context, ratio = stream.codec_context, stream.sample_aspect_ratio
    return bool(context is not None and ratio and ratio != (context.sample_aspect_ratio or 1))


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


def _warn_of_lost_tags(tags: dict[str, str], source: Path, made: Path) -> None:
    """Warns of what FFmpeg's muxer did not write: that of MP4 writes only known tags."""
    with open_container(made) as container:
        kept = {key.lower() for key in container.metadata}
        is_matroska = container.format.name == "matroska,webm"
    lost = [key for key in tags
            if not OF_LEVELS.match(key) and key.lower() not in kept | TAGS_OF_MUXERS]
    if lost:
        logger.warning("%s: these tags cannot be written and are lost: %s", source,
                       ", ".join(sorted(lost)))
    if is_matroska and (lost := matroska.find_losses(source, made)):
        logger.warning("%s: cannot be written again and are lost: %s", source, ", ".join(lost))


class _CopiedStreams:
    """The streams of a film that are copied as packets, in the order of their times."""

    def __init__(self, source: av.container.InputContainer, path: Path, muxer: str) -> None:
        self._source, self._path, self._muxer = source, path, muxer
        self.shown_widths: list[int] = []  # of streams whose shape only the container states
        self._copies: dict[int, Any] = {}  # by the index of the original
        self._packets = self._read_packets()  # nothing is read before `copy_until`
        self._waiting: list[tuple[Fraction, av.Packet]] = []

    def add(self, container: av.container.OutputContainer, stream: av.stream.Stream) -> None:
        """Adds a copy of a stream to a file, if files of that kind can contain it."""
        # FFmpeg would write the cover of a WAV or ASF file as a film; it is added at the end, as is
        # that of AAC. Other raw streams hold nothing else.
        is_cover = _is_cover(stream)
        if {"flac": is_cover, "asf": not is_cover}.get(self._muxer, self._muxer not in SOUND_ALONE):
            self._copies[stream.index] = self._add_copy(container, stream)

    def copy_until(self, time: Fraction | None, container: av.container.OutputContainer) -> None:
        """Copies the packets up to a time in seconds, or all remaining ones."""
        waiting, self._waiting = self._waiting, []
        for needed, packet in itertools.chain(waiting, self._packets):
            if time is not None and needed > time:
                self._waiting = [(needed, packet)]
                return
            container.mux(packet)

    def _add_copy(self, container: av.container.OutputContainer, stream: av.stream.Stream,
                  ) -> av.stream.Stream:
        first = None
        if self._muxer in ("matroska", "webm") and stream.type == "video":
            first = _first_packet(self._path, stream)
            if _is_cover(stream):
                # Matroska stores covers as attachments; FFmpeg reads these as video streams.
                return container.add_attachment(
                    stream.metadata.get("filename", "cover"),
                    stream.metadata.get("mimetype", "image/jpeg"), bytes(first))
        copy = container.add_stream_from_template(stream, opaque=True)
        copy.metadata.update(stream.metadata)
        copy.disposition = stream.disposition
        if stream.type == "video" and _is_reshaped(stream):
            ratio = copy.codec_context.sample_aspect_ratio = stream.sample_aspect_ratio
            copy.metadata.update(PLACE_HOLDER if self._muxer == "matroska" else {})
            self.shown_widths.append(round(ratio * stream.codec_context.width))
        if self._muxer == "avi" and stream.codec_context is not None and (
                stream.codec_context.name.startswith("adpcm_")):
            # AVI's clock is made of the bit rate, of which FFmpeg's own ADPCM files state a guess.
            packet = _first_packet(self._path, stream)
            if packet.duration:
                copy.codec_context.bit_rate = round(
                    8 * packet.size / (packet.duration * packet.time_base))
        # Matroska stores a frame rate as the duration of each picture, which not all files have.
        if stream.type == "video" and stream.average_rate and (first is None or first.duration):
            # FFmpeg takes the unit of its timestamps for the average rate of raw DV.
            copy.codec_context.framerate = (stream.guessed_rate if self._source.format.name == "dv"
                                            else stream.average_rate)
        if stream.codec_context is not None and self._muxer in ("mp4", "mov", "avi") and (
                self._muxer in MUXERS.get(self._source.format.name, {})):
            with suppress(UnicodeError):  # PyAV 18 has only tags in ASCII; FFmpeg makes others anew
                copy.codec_context.codec_tag = stream.codec_context.codec_tag
        return copy

    def _read_packets(self) -> Iterator[tuple[Fraction, av.Packet]]:
        """Yields all packets with the times at which they are needed, in seconds.

        Times of damaged files may go back, which muxers refuse: such a packet is moved behind the
        one before it. Equal times stay, as some containers have them, unless the first was moved.
        """
        time, last, moved = Fraction(0), {}, {}  # the last two: dts by index of the copy
        streams = [self._source.streams[index] for index in self._copies]
        for packet in demux(self._source, streams, containers.joins_of(self._path), lambda reason:
                            logger.warning("%s: pictures and all else but its sound cannot be read "
                                           "to their end (%s)", self._path, reason)):
            if packet.size == 0 and packet.dts is None:
                continue  # marks the end of a stream
            copy = self._copies[packet.stream.index]
            if copy.type == "attachment":
                continue  # attachments are in the header
            if packet.dts is not None:
                before = last.get(copy.index, packet.dts)
                step = (packet.dts - before) * packet.time_base
                if step < -containers.MAX_OVERLAP_SECONDS or (
                        copy.type == "video" and step > containers.MAX_GAP_SECONDS):
                    raise UserError(
                        f"{self._path}: the timestamps of its {copy.type} jump by {float(step):.0f}"
                        f" s after {float(before * packet.time_base):.1f} s; remux the file first")
                if packet.dts < before or packet.dts == moved.get(copy.index):
                    packet.dts = moved[copy.index] = before + 1
                    if packet.pts is not None:
                        packet.pts = max(packet.pts, packet.dts)
                last[copy.index] = packet.dts
                time = packet.dts * packet.time_base
            packet.stream = copy
            yield time, packet


def _first_packet(path: Path, stream: av.stream.Stream) -> av.Packet:
    with open_container(path) as source:
        return next(source.demux(source.streams[stream.index]))


def _require_sound(made: Path, track: Track, output: FilmFormat, dropped: int,
                   samples: int) -> None:
    """Raises UserError if a new track is so short that most of it, or all, is not played."""
    try:
        with open_container(made, short=False) as container:
            # Tracks that cannot be copied may be missing before it.
            streams = container.streams.audio[: track.track or 1][-1:]
            is_read = any(frame.samples for each in streams for frame in container.decode(each))
    except (UserError, av.FFmpegError):
        is_read = False
    if not is_read or 2 * dropped > samples:
        raise UserError(f"{track.path}: its {samples / output.rate:.2f} s of sound are too short "
                        f"for {output.encoder} in {output.muxer}; choose "
                        "inference.track_codec=flac")


class FilmWriter:
    """Context manager that writes a film, replacing an existing file; audio is added in blocks.

    Attributes:
        path: The file.
        clipped: Number of samples that exceeded the range of an integer format.
    """

    def __init__(self, path: Path, track: Track, output: FilmFormat, timeline: Timeline,
                 bit_rate: float, dither_seed: int | None = None, history: str = "") -> None:
        """Opens the file and writes its header.

        Args:
            path: The file.
            track: The track that is replaced.
            output: From `choose_format`.
            timeline: Of the `Reader` whose blocks are written; it may still be reading.
            bit_rate: Bits per second of the track that is replaced.
            dither_seed: When given, samples of up to 16 bits are dithered.
            history: A line that is added to the file's comment, in containers that have one.

        Raises:
            UserError: The track cannot be encoded, or the container refuses a stream.
            OSError: The file cannot be written.
        """
        self.path, self.clipped, self._history = path, 0, history
        self._dither_seed, self._rounded = dither_seed, 0
        self._track, self._output, self._timeline = track, output, timeline
        self._bit_rate = target_bit_rate(output.encoder, track.channels, output.rate, bit_rate)
        self._delay = encoder_delay(track, output, self._bit_rate)
        # Samples to cut off at the start where the container cannot signal the delay; if negative,
        # samples of silence to put there, as the decoder drops more.
        self._skip = 0 if output.muxer in SIGNAL_DELAY else (
            -self._delay if output.encoder in DROPPED_TWICE else self._delay)
        # Matroska rounds the delay that players subtract to milliseconds. Timestamps are shifted by
        # the rounding error, so that the sound stays in sync.
        delay = Fraction(self._delay, output.rate)
        self._shift = Fraction(0)
        if output.muxer in ("matroska", "webm"):
            self._shift = delay - math.floor(delay / MATROSKA_TICK + Fraction(1, 2)) * MATROSKA_TICK
        self._fed, self._last_pts, self._dropped = 0, None, self._skip
        self._container: av.container.OutputContainer | None = None
        self._resampler = None if output.rate == track.rate else soxr.ResampleStream(
            track.rate, output.rate, track.channels, dtype="float64", quality="VHQ")
        self._opened = ExitStack()
        self._source = self._opened.enter_context(open_container(track.path))
        try:
            self._open()
        except BaseException:
            self._close()
            raise

    def _open(self) -> None:
        """Opens the file and starts it without the streams that cannot be copied."""
        data = {stream.index for stream in self._source.streams if stream.type == "data"}
        # MP4 stores chapter names in a track that FFmpeg hides, and a timecode in another one. The
        # muxer makes both again, from the chapters and from the tag `timecode`.
        made = {index for index in data
                if self._source.streams[index].discard == Discard.all
                or (self._output.muxer in ("mp4", "mov")
                    and "timecode" in self._source.streams[index].metadata)}
        # PyAV cannot copy subtitles that FFmpeg has no decoder for, such as teletext. A stream of
        # sound without any packets has no rate.
        lost = {stream.index for stream in self._source.streams
                if stream.codec_context is None and stream.type in ("subtitle", "unknown")
                or stream.codec_context is not None and stream.type == "audio" and not stream.rate}
        with self._writing_errors():
            try:
                self._start(made | lost)
            except (av.FFmpegError, ValueError):
                self._container.close()
                if data == made:
                    raise
                self._start(data | lost)
                lost |= data - made
        if lost:
            logger.warning("%s: %d streams cannot be copied (data, subtitles, or empty), and are "
                           "left out", self._track.path, len(lost))

    def _start(self, left_out: set[int]) -> None:
        """Adds all streams, chapters and tags, and writes the header."""
        source, output, track = self._source, self._output, self._track
        tags = {key: value for key, value in source.metadata.items() if not OF_LEVELS.match(key)}
        options: dict[str, str] = {"max_interleave_delta": str(INTERLEAVE_MICROSECONDS)}
        if output.muxer in ("mp4", "mov"):
            # The time unit of edit lists. With FFmpeg's default of 1 ms, the audio would start up
            # to 24 samples early or late.
            options["movie_timescale"] = str(output.rate)
            if any(key.startswith("com.") for key in tags):  # names that only QuickTime uses
                options["movflags"] = "use_metadata_tags"
            if track.brand and output.muxer == "mp4":
                options["brand"] = track.brand
        elif output.muxer == "wav":
            options["rf64"] = "auto"
        self._container = av.open(f"file:{self.path}", "w", format=output.muxer,
                                  container_options=options, **containers.BYTES_OF_TEXTS)
        self._copied = _CopiedStreams(source, track.path, output.muxer)
        for stream in source.streams:
            if stream.index == track.stream:
                self._audio = self._add_audio_of(stream)
            elif stream.index not in left_out:
                self._copied.add(self._container, stream)
        self._chapters = containers.read_chapters(source)
        if output.muxer == "flac":
            # These tags come first: FFmpeg moves the last ones, and a chapter's name must follow
            # its time.
            self._container.metadata.update(_as_comments(self._chapters))
        else:
            chapters = source.chapters()
            for chapter in chapters:  # PyAV writes only what is UTF-8
                chapter["metadata"] = {key: containers.as_utf_8(value)
                                       for key, value in chapter["metadata"].items()}
            self._container.set_chapters(chapters)
        self._container.metadata.update(tags)
        if self._history:  # Matroska writes names of tags in capitals
            name = next((key for key in tags if key.lower() == "comment"), "comment")
            self._container.metadata[name] = "; ".join(
                filter(None, [tags.get(name), self._history]))
        self._container.start_encoding()

    def _add_audio_of(self, stream: av.stream.Stream) -> av.stream.Stream:
        """Adds the denoised track, with the tags of the original `stream`."""
        level = dialogue_level(bytes(_first_packet(self._track.path, stream)), self._track.codec)
        audio = _add_audio(self._container, self._track, self._output, self._bit_rate, level)
        audio.metadata.update({key: value for key, value in stream.metadata.items()
                               if not (key.upper().startswith(STALE_TAGS) or OF_LEVELS.match(key))})
        audio.disposition = stream.disposition
        return audio

    def __enter__(self) -> FilmWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        try:
            if kind is None:
                with self._writing_errors():
                    if self._resampler is not None:
                        self._encode(self._resampler.resample_chunk(
                            np.zeros((0, self._track.channels)), last=True))
                    if self._output.encoder in HOLD_BACK:
                        self._encode(np.zeros((self._delay, self._track.channels)))
                    self._mux(self._audio.encode(None))
                    self._copied.copy_until(None, self._container)
                    self._container.close()
                _require_sound(self.path, self._track, self._output, self._dropped, self._fed)
                if not keep_shape(self._output.muxer, self._track, self.path,
                                  self._copied.shown_widths):
                    logger.warning("%s: the film's header gives its pictures another shape than "
                                   "the coded pictures have; that shape is lost", self._track.path)
                self._add_what_ffmpeg_left_out()
                _warn_of_lost_tags(self._source.metadata, self._track.path, self.path)
        finally:
            self._close()

    def _close(self) -> None:
        """Closes both files; an earlier error is already on its way to the user."""
        with suppress(av.FFmpegError, OSError):
            if self._container is not None:
                self._container.close()
        self._opened.close()

    def _add_what_ffmpeg_left_out(self) -> None:
        """Adds the tags, covers and chapters that FFmpeg's muxer cannot write."""
        try:
            if self._output.muxer in ("mp4", "asf"):
                add_tags(self._track.path, self.path)
            elif self._output.muxer == "adts":
                add_id3(self._track.path, self.path, self._history)
            elif self._output.muxer == "wav":
                covers = [(MEDIA_TYPES.get(stream.codec_context.name, "image/"),
                           bytes(_first_packet(self._track.path, stream)))
                          for stream in self._source.streams if _is_cover(stream)]
                tags = {key: value for key, value in self._container.metadata.items()
                        if key.lower() not in TAGS_OF_MUXERS}
                add_to_wave(self._track.path, self.path, tags, covers, self._chapters,
                            self._output.rate)
        except UserError as error:
            logger.warning("%s: not all tags and pictures are copied: %s", self._track.path, error)

    @contextmanager
    def _writing_errors(self) -> Iterator[None]:
        """Raises OSError or UserError in place of FFmpeg's errors."""
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
                            f"{self._output.muxer} ({reason})") from error

    def write(self, block: np.ndarray) -> np.ndarray:
        """Writes a block `(samples, channels)` and returns it as the encoder received it.

        Raises:
            OSError: The disk is full.
        """
        with self._writing_errors():
            if self._resampler is None:
                return self._encode(block)
            self._encode(self._resampler.resample_chunk(np.ascontiguousarray(block)))
            return block

    def _encode(self, block: np.ndarray) -> np.ndarray:
        """Rounds and encodes a block; returns it rounded."""
        form = self._audio.codec_context.format.name.removesuffix("p")
        if form in ("flt", "dbl"):
            values = block.astype(np.float32 if form == "flt" else np.float64)
            stored = values.astype(np.float64)
        else:
            full_scale, zero = containers.FULL_SCALE[form]
            # Encoders other than PCM use only 24 of 32 bits.
            unused = 2.0**8 if form == "s32" and not self._output.encoder.startswith(
                "pcm_s32") else 1.0
            dither = None if self._dither_seed is None else (self._dither_seed, self._rounded)
            self._rounded += len(block)
            steps, clipped = quantize(block, full_scale / unused, dither)
            self.clipped += clipped
            values, stored = steps * unused + zero, steps * (unused / full_scale)
        if self._skip < 0:
            silence = np.zeros((-self._skip, values.shape[1]), values.dtype)
            values = np.concatenate([silence, values])
            self._fed, self._skip = self._skip, 0
        skipped = min(self._skip, len(values))
        self._skip -= skipped
        self._fed += skipped
        most = self._audio.codec_context.frame_size or round(PACKET_SECONDS * self._output.rate)
        for start in range(skipped, len(values), most):
            piece = values[start : start + most]
            self._mux(self._audio.encode(_frame(piece, self._audio, self._fed)))
            self._fed += len(piece)
        return stored

    def _mux(self, packets: list[av.Packet]) -> None:
        """Writes encoded audio at its time on the film's clock, after all earlier packets."""
        rate = self._output.rate
        # FLAC's last packet is an empty one, with a header that AVI has no place for.
        for packet in [each for each in packets if each.size or self._output.muxer != "avi"]:
            sample = Fraction(packet.pts * self._track.rate, rate)
            time = self._timeline.time_of(sample) + self._shift
            self._copied.copy_until(time, self._container)
            pts = round(time * rate)
            if self._last_pts is not None:  # timestamps may jitter by more than a packet
                pts = max(pts, self._last_pts + 1)
            packet.pts = packet.dts = self._last_pts = pts
            packet.stream = self._audio
            self._container.mux(packet)
