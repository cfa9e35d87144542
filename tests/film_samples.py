"""Small films for the tests, and what is found in them."""

import hashlib
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

FRAME_RATE = 25
SUBTITLE_CODECS = {"matroska": "subrip", "mp4": "mov_text", "mov": "mov_text", "webm": "webvtt"}
FONT = bytes(range(256)) * 5


@dataclass
class Sound:
    """An audio track of a film that is made: noise with a click in each channel."""

    codec: str
    rate: int = 48000
    layout: str = "stereo"
    start: Fraction = Fraction(0)
    clicks: tuple[float, ...] = (0.15,)  # on the film's clock, in s
    gap: tuple[float, float] | None = None  # from and to, on the film's clock
    bit_rate: int = 192000
    metadata: dict[str, str] = field(default_factory=dict)
    default: bool = False
    options: dict[str, str] = field(default_factory=dict)


def sound_of(sound: Sound, seconds: float) -> np.ndarray:
    """Returns the samples `(channels, samples)` of a track, float32; zero is at its start."""
    rng = np.random.default_rng(4)
    channels = av.AudioLayout(sound.layout).nb_channels
    audio = 0.003 * rng.standard_normal((channels, round(seconds * sound.rate)))
    for click in sound.clicks:
        place = round((click - sound.start) * sound.rate)
        # The channels differ in their level.
        audio[:, place] = 0.8 - 0.1 * np.arange(channels)
    return audio.astype(np.float32)


def _packets(stream: av.AudioStream, sound: Sound, seconds: float) -> list[av.Packet]:
    """Encodes a track; within the gap there is nothing."""
    context, packets = stream.codec_context, []
    context.open()
    audio, most = sound_of(sound, seconds), context.frame_size or 1024
    for place in range(0, audio.shape[1], most):
        piece = np.ascontiguousarray(audio[:, place : place + most].T.reshape(1, -1))
        frame = av.AudioFrame.from_ndarray(piece, format="flt", layout=context.layout.name)
        frame.sample_rate = sound.rate
        (frame,) = av.AudioResampler(format=context.format.name).resample(frame)
        frame.pts, frame.time_base = place, Fraction(1, sound.rate)
        packets += stream.encode(frame)
    kept = []
    for packet in packets + stream.encode(None):
        packet.pts = packet.dts = packet.pts + round(sound.start * sound.rate)
        time = Fraction(packet.pts, sound.rate)
        if sound.gap is None or not sound.gap[0] <= time < sound.gap[1]:
            kept.append(packet)
    return kept


def cover_picture() -> bytes:
    """Returns a picture as JPEG."""
    encoder = av.CodecContext.create("mjpeg", "w")
    encoder.width = encoder.height = 16
    encoder.pix_fmt, encoder.time_base = "yuvj420p", Fraction(1)
    still = av.VideoFrame.from_ndarray(np.full((16, 16, 3), 99, np.uint8), format="rgb24")
    return b"".join(map(bytes, [*encoder.encode(still.reformat(format="yuvj420p")),
                                *encoder.encode(None)]))


def _packet(content: bytes, stream: av.stream.Stream, start_ms: int, ms: int = 0) -> av.Packet:
    packet = av.Packet(content)
    packet.pts = packet.dts = start_ms
    packet.duration, packet.time_base, packet.stream = ms, Fraction(1, 1000), stream
    return packet


def write_film(path: Path, muxer: str, sounds: list[Sound], seconds: float = 2.0,
               video: str | None = "mpeg4", rotation: float = 0.0, subtitles: bool = False,
               chapters: bool = False, attachment: bool = False, cover: bool = False,
               metadata: dict[str, str] | None = None, video_start: int = 0) -> None:
    """Writes a film of a few seconds, 64 by 48 pixels, 25 frames a second."""
    packets = []
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", format=muxer,
                 container_options={"movie_timescale": "48000"} if muxer in ("mp4", "mov") else {},
                 ) as film:
        film.metadata.update(metadata or {})
        if video is not None:
            pictures = film.add_stream(video, rate=FRAME_RATE, width=64, height=48,
                                       pix_fmt="yuv420p")
            if rotation:
                pictures.set_display_rotation(rotation)
        tracks = []
        for sound in sounds:
            track = film.add_stream(sound.codec, rate=sound.rate, layout=sound.layout,
                                    bit_rate=sound.bit_rate, options=sound.options)
            track.metadata.update(sound.metadata)
            track.disposition = 1 if sound.default else 0
            tracks.append(track)
        if subtitles:
            text = film.add_mux_stream(SUBTITLE_CODECS[muxer])
            text.metadata["language"] = "deu"
        if attachment:
            film.add_attachment("letters.ttf", "font/ttf", FONT)
        if cover and muxer == "matroska":
            film.add_attachment("cover.jpg", "image/jpeg", cover_picture())
        elif cover:
            picture = film.add_mux_stream("mjpeg", width=16, height=16)
            picture.disposition = av.stream.Disposition.attached_pic
        if chapters:
            film.set_chapters([
                {"id": number, "start": start, "end": start + 1000, "time_base": Fraction(1, 1000),
                 "metadata": {"title": f"Reel {number}"}} for number, start in ((1, 0), (2, 1000))])
        if video is not None:
            for number in range(round(seconds * FRAME_RATE)):
                shade = np.full((48, 64, 3), 5 * number % 255, np.uint8)
                frame = av.VideoFrame.from_ndarray(shade, format="rgb24")
                frame.pts, frame.time_base = number + video_start, Fraction(1, FRAME_RATE)
                packets += pictures.encode(frame)
            packets += pictures.encode(None)
        for track, sound in zip(tracks, sounds, strict=True):
            packets += _packets(track, sound, seconds)
        if subtitles:
            head = b"\0\x06" if muxer in ("mp4", "mov") else b""
            packets += [_packet(head + f"Line {number}".encode(), text, 300 + 500 * number, 400)
                        for number in range(3)]
        if cover and muxer != "matroska":
            packets.append(_packet(cover_picture(), picture, 0))
        packets.sort(key=lambda packet: packet.dts * packet.time_base)
        for packet in packets:
            film.mux(packet)


def remux(sources: list[Path], path: Path, muxer: str,
          change: Callable[[av.Packet], None] = lambda packet: None, **options: str) -> None:
    """Copies all packets of films into one; `change` may give a packet other times."""
    with ExitStack() as opened, av.open(str(path), "w", format=muxer, options=options) as copy:
        films = [opened.enter_context(av.open(str(source))) for source in sources]
        copies = {stream: copy.add_stream_from_template(stream, opaque=True)
                  for film in films for stream in film.streams}
        packets = [packet for film in films for packet in film.demux() if packet.size]
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            change(packet)
            packet.stream = copies[packet.stream]
            copy.mux(packet)


def move_blocks(path: Path, stream: int, first: int, last: int, shift: int) -> None:
    """Adds `shift` to the times from `first` to `last`, all in ms, of packets in a Matroska file.

    FFmpeg itself writes no times that go back.
    """
    content = bytearray(path.read_bytes())
    with av.open(str(path)) as film:
        packets = [packet for packet in film.demux(film.streams[stream]) if packet.size]
    for packet in packets:
        if first <= packet.pts <= last:
            # The time stands before the payload: two bytes, then one of flags.
            place = content.index(bytes(packet)) - 3
            time = int.from_bytes(content[place : place + 2], "big", signed=True) + shift
            content[place : place + 2] = time.to_bytes(2, "big", signed=True)
    path.write_bytes(content)


def packets_of(path: Path, left_out: int | None = None) -> list[list[tuple]]:
    """Returns of each stream but one what its packets hold and when, times in seconds."""
    with av.open(str(path)) as film:
        found: list[list[tuple]] = [[] for _ in film.streams]
        for packet in film.demux():
            if packet.size == 0 and packet.dts is None:
                continue
            times = [None if value is None else value * packet.time_base
                     for value in (packet.pts, packet.dts, packet.duration)]
            found[packet.stream.index].append(
                (hashlib.md5(bytes(packet)).hexdigest(), *times, packet.is_keyframe))
    return [packets for index, packets in enumerate(found) if index != left_out]


def heard(path: Path, track: int = 0) -> tuple[Fraction, np.ndarray, int]:
    """Decodes a track; returns when it starts, the samples `(samples, channels)`, and the rate.

    Gaps in the timestamps of more than 0.05 s become zeros, so that all is where it is heard.
    """
    start, pieces, length = None, [], 0
    with av.open(str(path)) as film:
        for frame in film.decode(film.streams.audio[track]):
            start = frame.pts * frame.time_base if start is None else start
            late = 0  # an encoder's last frame may come without a time
            if frame.pts is not None:
                time = frame.pts * frame.time_base
                late = round((time - start) * frame.sample_rate) - length
            if late > 0.05 * frame.sample_rate:
                pieces.append(np.zeros((late, frame.layout.nb_channels)))
                length += late
            (samples,) = av.AudioResampler(format="dbl").resample(frame)
            pieces.append(samples.to_ndarray().reshape(-1, frame.layout.nb_channels))
            length += frame.samples
    return start, np.concatenate(pieces), frame.sample_rate


def clicks(path: Path, track: int = 0, number: int = 1) -> list[list[Fraction]]:
    """Returns the times of each channel's loudest samples, in s on the film's clock."""
    start, audio, rate = heard(path, track)
    places = []
    for channel in np.abs(audio.T):
        found = []
        for _ in range(number):
            found.append(int(np.argmax(channel)))
            channel[max(0, found[-1] - 200) : found[-1] + 200] = 0.0
        places.append([start + Fraction(place, rate) for place in sorted(found)])
    return places
