"""Copies everything but the samples from a recording to the restored file: tags, pictures, marks.

WAV, RF64, AIFF and CAF files consist of chunks: those that do not describe the samples are copied
unchanged, behind the samples. mutagen reads and writes the tags of FLAC, Ogg, MP3, MP4 and ASF
files. In a WAV file, tags become an ID3 chunk, and chapters become cue points. Start reading at
`carry_over`.
"""

import base64
import binascii
import errno
import io
import logging
import re
import struct
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from fractions import Fraction
from itertools import filterfalse
from pathlib import Path
from typing import Any

import mutagen
from mutagen import apev2, flac, id3

from historical_denoiser.core.checks import UserError
from historical_denoiser.formats import archiving, chunks
from historical_denoiser.formats.audio_io import STORED_BITS, Format, Recording
from historical_denoiser.formats.containers import as_utf_8, open_container, read_chapters

logger = logging.getLogger(__name__)

FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

# Chunks that describe or contain the samples, or are padding; the last line is for CAF.
OF_SAMPLES = {b"fmt ", b"data", b"fact", b"ds64", b"PEAK", b"JUNK", b"junk", b"FLLR", b"PAD ",
              b"COMM", b"SSND", b"FVER",
              b"desc", b"pakt", b"kuki", b"free", b"peak", b"ovvw"}
# A checksum, the peak envelope (EBU Tech 3285, supplement 3), and what identifies the material:
# true of the old samples only. The same values in iXML.
STALE_CHUNKS = {b"MD5 ", b"levl", b"umid"}
# What holds other times than cue points, which another speed would make wrong: loops, playlists,
# marks of AIFF and CAF; comments with chapters and cue sheets.
TIMED_CHUNKS = {b"smpl", b"plst", b"MARK", b"INST", b"mark", b"regn"}
TIMED_FRAMES, TIMED_TAGS = ("CHAP", "CTOC"), re.compile(r"chapter\d+|cuesheet", re.IGNORECASE)
STALE_IN_XML = re.compile(rb"<(BWF_(UMID|LOUDNESS\w*|MAX_\w+))>[^<]*</\1>")
EXTENSIBLE = b"\xfe\xff"  # format tag of WAV files with a mask of loudspeakers
MASK = slice(20, 24)  # position of that mask in the format chunk
# Positions in a broadcast-wave chunk (EBU Tech 3285, 2.3). The UMID identifies the material, and
# the five levels are its loudness; zeros mean that there is no UMID, NO_LEVEL no loudness.
UMID, LEVELS, CODING_HISTORY = slice(348, 412), slice(412, 422), 602
NO_LEVEL = b"\xff\x7f"
# Tags that tell how loud the samples are, or how many are padding.
LEVEL_FRAMES = ("RVA2", "RVAD")
OF_LEVELS = re.compile(r"replaygain_|r128_|mp3gain_|itunnorm|itunsmpb", re.IGNORECASE)
MAX_CHUNK_BYTES = 2**28  # a larger chunk is not copied
MODES = {1: "mono", 2: "stereo"}
# The ID3 frames of Vorbis comments (as in FLAC); any other comment becomes a TXXX frame.
FRAMES = {"title": "TIT2", "artist": "TPE1", "album": "TALB", "date": "TDRC", "genre": "TCON",
          "tracknumber": "TRCK", "discnumber": "TPOS", "composer": "TCOM", "albumartist": "TPE2",
          "conductor": "TPE3", "copyright": "TCOP", "organization": "TPUB", "isrc": "TSRC",
          "lyricist": "TEXT", "encoded-by": "TENC"}
NOT_IN_NAMES = re.compile(r"[^ -<>-}]")  # of Vorbis comments
COMMENTS = {"comment", "description"}
# FFmpeg's names of some of these comments.
NAMES_OF_FFMPEG = {"track": "tracknumber", "disc": "discnumber", "album_artist": "albumartist",
                   "publisher": "organization", "encoded_by": "encoded-by"}
PICTURE = "metadata_block_picture"
COMMENT = "COMMENT"  # the Vorbis comment to which the line of history is added
UTF_8 = 3  # ID3's number of the encoding
# A cue point: number, position in the playlist, chunk, its start, start of the block, sample.
CUE_POINT, COUNT_BYTES = struct.Struct("<II4sIII"), 4
MAX_PLACE = 2**32 - 1  # last sample that a cue point can mark
# Attributes of an ASF file that describe its encoder.
OF_THE_ENCODER = {"IsVBR", "WMFSDKVersion", "WMFSDKNeeded", "WM/EncodingSettings",
                  "DeviceConformanceTemplate", "ASFLeakyBucketPairs"}


def _with_coding_history(broadcast: bytes, recording: Recording, output: Format, history: str,
                         ) -> bytes:
    """Returns the content of a chunk `bext` with a line in its coding history (EBU R 98)."""
    bits = STORED_BITS[output.subtype]
    mode = f",M={MODES[recording.channels]}" if recording.channels in MODES else ""
    line = f"A=PCM,F={recording.rate},W={bits}{mode},T={history.replace(',', ';')}\r\n"
    fixed = bytearray(broadcast[:CODING_HISTORY].ljust(CODING_HISTORY, b"\0"))
    fixed[UMID] = bytes(UMID.stop - UMID.start)
    if any(fixed[LEVELS]):
        fixed[LEVELS] = NO_LEVEL * 5
    old = broadcast[CODING_HISTORY:].rstrip(b"\0\r\n")
    return bytes(fixed) + old + (b"\r\n" if old else b"") + line.encode("ascii", "replace")


def _with_caf_comment(info: bytes, line: str) -> bytes:
    """Returns the content of a CAF file's chunk `info` with a line added to its comment."""
    texts = info[COUNT_BYTES:].split(b"\0")
    pairs = {name: text for name, text in zip(texts[::2], texts[1::2], strict=False)
             if not OF_LEVELS.match(name.decode("latin-1"))}  # the last text may be truncated
    # Apple's name of the comment, or libsndfile's.
    name = next((key for key in (b"comments", b"comment") if key in pairs), b"comments")
    pairs[name] = b"; ".join(filter(None, [pairs.get(name), line.encode()]))
    return len(pairs).to_bytes(COUNT_BYTES, "big") + b"".join(
        text + b"\0" for pair in pairs.items() for text in pair)


def mark_chunks(chapters: Iterable[tuple[Fraction, str]], rate: int, first: int = 1,
                ) -> list[tuple[bytes, bytes]]:
    """Returns chunks (name, content) with a cue point and a label for each chapter of a WAV file.

    Args:
        chapters: Start of each in seconds, and its name.
        rate: Sample rate in Hz.
        first: Number of the first cue point.
    """
    places = [(place, name) for start, name in chapters
              if 0 <= (place := round(start * rate)) <= MAX_PLACE]
    if not places:
        return []
    points = b"".join(CUE_POINT.pack(number, place, b"data", 0, 0, place)
                      for number, (place, _) in enumerate(places, start=first))
    labels = [(b"labl", number.to_bytes(COUNT_BYTES, "little") + name.encode(errors="replace")
               + b"\0") for number, (_, name) in enumerate(places, start=first)]
    return [(b"cue ", len(places).to_bytes(COUNT_BYTES, "little") + points),
            (b"LIST", b"adtl" + chunks.chain(labels))]


def _at_speed(name: bytes, content: bytes, speed: float) -> bytes:
    """Returns a chunk at another speed: cue points and lengths moved, without ID3's chapters."""
    if name.lower() == b"id3 ":
        return _without_frames(content, TIMED_FRAMES, TIMED_TAGS)
    found = bytearray(content)
    if name == b"cue ":
        places = [start + at for start in range(COUNT_BYTES, len(found) - CUE_POINT.size + 1,
                                                CUE_POINT.size) for at in (4, 20)]
    elif name == b"LIST" and content[:4] == b"adtl":
        inside = io.BytesIO(b"RIFF" + bytes(4) + content)
        places = [start - 4 for kind, start, size in chunks.find_chunks(inside)
                  if kind == b"ltxt" and size >= 8]
    else:
        return content
    for place in places:
        samples = int.from_bytes(found[place : place + 4], "little")
        found[place : place + 4] = min(round(samples / speed), MAX_PLACE).to_bytes(4, "little")
    return bytes(found)


def _all_at_speed(source: Path, copied: list[tuple[bytes, bytes]], speed: float,
                  ) -> list[tuple[bytes, bytes]]:
    """Returns the chunks of a file at another speed, without those whose times cannot be moved."""
    moved = [(name, _at_speed(name, content, speed)) for name, content in copied]
    _warn_of_times(source, [
        name.decode().strip() for (name, old), (_, new) in zip(copied, moved, strict=True)
        if name in TIMED_CHUNKS or len(new) < len(old)])
    return [chunk for chunk in moved if chunk[0] not in TIMED_CHUNKS]


def _warn_of_times(source: Path, names: Iterable[str]) -> None:
    if names:
        logger.warning("%s: left out, as their times are those of the former speed: %s", source,
                       ", ".join(names))


def _with_marks(copied: list[tuple[bytes, bytes]], marks: Iterable[tuple[Fraction, str]],
                rate: int) -> list[tuple[bytes, bytes]]:
    """Returns the chunks of a WAV file with `marks` behind the cue points that it has."""
    points = next((content[COUNT_BYTES:] for name, content in copied if name == b"cue "), b"")
    points = points[:len(points) // CUE_POINT.size * CUE_POINT.size]
    first = 1 + max((point[0] for point in CUE_POINT.iter_unpack(points)), default=0)
    new, others = dict(mark_chunks(marks, rate, first)), []
    if not new:
        return copied
    points += new[b"cue "][COUNT_BYTES:]
    new[b"cue "] = (len(points) // CUE_POINT.size).to_bytes(COUNT_BYTES, "little") + points
    for name, content in copied:
        if name == b"LIST" and content[:4] == b"adtl":
            new[name] = content + bytes(len(content) % 2) + new[name][4:]
        elif name != b"cue ":
            others.append((name, content))
    return others + list(new.items())


def _open_tags(path: Path) -> mutagen.FileType | None:
    """Returns a file's tags; None if mutagen cannot read them. Raises UserError for damage."""
    try:
        return mutagen.File(path)
    except (LookupError, ValueError, struct.error) as error:  # mutagen 1.48 does not catch these
        raise UserError(f"its tags are damaged ({error})") from error


def _id3_of(path: Path, history: str) -> bytes:
    """Returns the tags and pictures of an Ogg file, and the line of history, as an ID3 tag."""
    source, tags = _open_tags(path), id3.ID3()
    if source is not None and source.tags is not None:
        for name in filterfalse(OF_LEVELS.match, source.tags.keys()):
            _add_comment_as_frame(tags, name, source.tags[name])
    tags.add(id3.COMM(encoding=UTF_8, lang="eng", desc="denoised", text=[history]))
    return _as_bytes(tags)


def _without_frames(tag: bytes, frames: Iterable[str], texts: re.Pattern) -> bytes:
    """Returns the bytes of an ID3 tag without some frames, and texts whose names match `texts`."""
    try:
        tags = id3.ID3(io.BytesIO(tag))
    except mutagen.MutagenError:
        return tag  # damaged: copied as it is
    return _as_bytes(tags) if _remove_frames(tags, frames, texts) else tag


def _remove_frames(tags: Any, frames: Iterable[str], texts: re.Pattern) -> bool:
    """Removes what `_without_frames` names from an ID3 tag; returns whether there was any."""
    stale = [key for key, frame in tags.items() if frame.FrameID in frames
             or texts.match(getattr(frame, "desc", ""))]
    for key in stale:
        del tags[key]
    return bool(stale)


def _as_bytes(tags: id3.ID3) -> bytes:
    """Returns the bytes of an ID3 tag in a file."""
    written = io.BytesIO()
    tags.save(written, padding=lambda info: 0)
    return written.getvalue()


@contextmanager
def _tag_errors(result: Path) -> Iterator[None]:
    """Raises OSError for a full disk, or UserError, in place of mutagen's errors."""
    try:
        yield
    except mutagen.MutagenError as error:
        cause = error.args[0] if error.args else None
        if isinstance(cause, OSError) and cause.errno in FULL_DISK:
            raise OSError(cause.errno, cause.strerror, str(result)) from error
        raise UserError(f"its tags cannot be read ({error})") from error


def _add_comment_as_frame(tags: id3.ID3, name: str, values: list[str]) -> None:
    """Adds the values of a Vorbis comment, or a tag of FFmpeg, to an ID3 tag."""
    name, values = NAMES_OF_FFMPEG.get(name.lower(), name.lower()), list(map(as_utf_8, values))
    if name == PICTURE:
        for number, value in enumerate(values):
            try:
                picture = flac.Picture(base64.b64decode(value))
            except (binascii.Error, flac.error):
                continue  # players could not read it either
            tags.add(id3.APIC(encoding=UTF_8, mime=picture.mime, type=picture.type,
                              desc=picture.desc or str(number or ""), data=picture.data))
    elif name in COMMENTS:
        tags.add(id3.COMM(encoding=UTF_8, lang="eng", desc="", text=values))
    elif name in FRAMES:
        tags.add(getattr(id3, FRAMES[name])(encoding=UTF_8, text=values))
    else:
        tags.add(id3.TXXX(encoding=UTF_8, desc=name, text=values))


def _read_foreign(kind: type, source: Path) -> mutagen.Tags | dict[str, Any]:
    """Returns the ID3 or APEv2 tag of a file of another kind; empty if there is none."""
    try:
        return kind(source)
    except (id3.ID3NoHeaderError, apev2.APENoHeaderError):
        return {}
    except (mutagen.MutagenError, LookupError, ValueError, struct.error) as error:
        logger.warning("%s: its %s tag cannot be read and is not copied (%s)", source,
                       kind.__name__, error)
        return {}


def _read_ape(source: Path) -> dict[str, list[str]]:
    """Returns the texts of an APEv2 tag, which FFmpeg reads only where there is no other tag."""
    return {name.lower(): list(value) for name, value in _read_foreign(apev2.APEv2, source).items()
            if value.kind == apev2.TEXT and not OF_LEVELS.match(name)}


def _read_around(source: Path) -> tuple[dict[str, list[str]], list[flac.Picture]]:
    """Returns what ID3 and APEv2 tags around a file hold, as Vorbis comments and pictures."""
    texts, pictures, names = _read_ape(source), [], {FRAMES[name]: name for name in FRAMES}
    for frame in _read_foreign(id3.ID3, source).values():
        if isinstance(frame, id3.APIC):
            pictures.append(flac.Picture())
            for name in ("type", "mime", "desc", "data"):
                setattr(pictures[-1], name, getattr(frame, name))
        elif isinstance(frame, id3.TextFrame):
            name = "comment" if frame.FrameID == "COMM" else names.get(frame.FrameID, frame.FrameID)
            name = (getattr(frame, "desc", "") or name).lower()
            texts[NOT_IN_NAMES.sub("_", name)] = list(map(str, frame.text))
    return {name: texts[name] for name in texts if not OF_LEVELS.match(name)}, pictures


def _warn_of_lost(source: Path, texts: Iterable[str]) -> None:
    if texts:
        logger.warning("%s: these tags behind its samples cannot be written and are lost: %s",
                       source, ", ".join(sorted(texts)))


def _log_stale(source: Path, names: list[str]) -> None:
    if names:
        logger.info("%s: left out, as they describe the old samples: %s", source, ", ".join(names))


def _carry_flac(source: Path, result: Path, history: str, speed: float) -> None:
    """Copies tags, pictures, cue sheet and application blocks between FLAC files."""
    old, new = flac.FLAC(source), flac.FLAC(result)
    if new.tags is None:
        new.add_tags()
    if old.tags is not None:
        new.tags[:] = [tag for tag in old.tags if not OF_LEVELS.match(tag[0])]
        _log_stale(source, [tag[0] for tag in old.tags if OF_LEVELS.match(tag[0])])
    texts, pictures = _read_around(source)
    for name in texts.keys() - {name.lower() for name in new.tags.keys()}:
        new.tags[name] = texts[name]
    if speed != 1.0:
        timed = sorted({name.lower() for name in new.tags.keys() if TIMED_TAGS.match(name)})
        for name in timed:
            del new.tags[name]
        _warn_of_times(source, timed + ["cue sheet"] * (old.cuesheet is not None))
    if not old.pictures:
        new.metadata_blocks += pictures
    new.tags[COMMENT] = [*new.tags.get(COMMENT, []), history]
    for block in old.metadata_blocks:
        if isinstance(block, flac.CueSheet) and speed == 1.0:
            new.cuesheet = block
            new.metadata_blocks.append(block)
        # The latter is an application block.
        if isinstance(block, flac.Picture) or type(block) is flac.MetadataBlock:
            new.metadata_blocks.append(block)
    new.save()


def _carry_chunks(recording: Recording, result: Path, output: Format, history: str,
                  speed: float, marks: Iterable[tuple[Fraction, str]]) -> None:
    """Copies chunks behind the samples, and the mask of loudspeakers into the format chunk."""
    with recording.path.open("rb") as source, result.open("rb") as target:
        kind, old_kind = chunks.kind_of(target), chunks.kind_of(source)
        found, copied = [], []
        if old_kind == kind or chunks.ORDERS.get(old_kind) == chunks.ORDERS.get(kind):
            found = chunks.find_chunks(source)
            copied = [(chunk[0], chunks.content_of(source, chunk)) for chunk in found
                      if chunk[0] not in OF_SAMPLES | STALE_CHUNKS and chunk[2] <= MAX_CHUNK_BYTES]
            _log_stale(recording.path, [chunk[0].decode().strip() for chunk in found
                                        if chunk[0] in STALE_CHUNKS])
        else:
            chapters = []
            if recording.container == "OGG":
                with open_container(recording.path) as container:
                    chapters = read_chapters(container)
            copied = [(b"id3 ", _id3_of(recording.path, history)),
                      *mark_chunks(chapters, recording.rate)]
        formats = [[(chunk[1], chunks.content_of(file, chunk))
                    for chunk in chunks.find_chunks(file) if chunk[0] == b"fmt "]
                   for file in (source, target)]
    copied = [(name, _with_coding_history(content, recording, output, history) if name == b"bext"
               else _without_frames(content, LEVEL_FRAMES, OF_LEVELS) if name.lower() == b"id3 "
               else STALE_IN_XML.sub(b"", content) if name == b"iXML" else content)
              for name, content in copied]
    if speed != 1.0:
        copied = _all_at_speed(recording.path, copied, speed)
    around = _read_around(recording.path)[0]
    if around and kind != chunks.CAF and not any(name.lower() == b"id3 " for name, _ in copied):
        tags = id3.ID3()
        for name, values in around.items():
            _add_comment_as_frame(tags, name, values)
        copied.append((b"ID3 " if kind == b"FORM" else b"id3 ", _as_bytes(tags)))
    else:
        _warn_of_lost(recording.path, around)
    if kind == b"FORM":
        copied.append((b"ANNO", history.encode("ascii", "replace")))
    elif kind == chunks.CAF:
        info = [content for name, content in copied if name == b"info"] or [bytes(COUNT_BYTES)]
        copied = [(name, content) for name, content in copied if name != b"info"]
        copied.append((b"info", _with_caf_comment(info[0], history)))
    elif found and not any(name == b"bext" for name, _ in copied):
        places = [place for place, (name, content) in enumerate(copied)
                  if name == b"LIST" and content[:4] == b"INFO"]
        info = copied.pop(places[0])[1] if places else b"INFO"
        copied.append((b"LIST", archiving.with_text(info, b"ICMT", history, joined=True)))
    if chunks.ORDERS.get(kind) == "little":
        copied = _with_marks(copied, marks, recording.rate)
    if copied:
        chunks.append_chunks(result, copied)
    if all(formats):
        (_, old), (start, new) = formats[0][0], formats[1][0]
        if old[:2] == new[:2] == EXTENSIBLE:
            with result.open("r+b") as file:
                file.seek(start + MASK.start)
                file.write(old[MASK])


def carry_over(recording: Recording, result: Path, output: Format, history: str,
               speed: float = 1.0, marks: Iterable[tuple[Fraction, str]] = ()) -> None:
    """Copies tags, pictures, marks and other chunks of a recording into the restored file.

    Args:
        recording: The recording, as libsndfile read it.
        result: The complete restored file, which is changed.
        output: Its format.
        history: A line about the restoration, added to the coding history of a broadcast wave, else
            to the comment.
        speed: By what the speed was multiplied, and the times of cue points are divided.
        marks: Cue points to add to a WAV file; see `mark_chunks`.

    Raises:
        UserError: They cannot be copied; the restored file is then whole, without them.
        OSError: The disk is full.
    """
    with _tag_errors(result):
        if output.container == "FLAC":
            _carry_flac(recording.path, result, history, speed)
        elif output.container in ("WAV", "WAVEX", "RF64", "AIFF", "CAF"):
            _carry_chunks(recording, result, output, history, speed, marks)
        else:
            _warn_of_lost(recording.path, _read_around(recording.path)[0])


def add_tags(source: Path, result: Path) -> None:
    """Adds tags and pictures of the source to an MP4 or ASF file that FFmpeg wrote without them.

    FFmpeg leaves out tags with custom names in MP4 (`----`), and the pictures of ASF.

    Raises:
        UserError: They cannot be read.
        OSError: The disk is full.
    """
    with _tag_errors(result):
        old, new = _open_tags(source), mutagen.File(result)
        if old is None or old.tags is None or new is None:
            return
        if new.tags is None:
            new.add_tags()
        missing = [name for name in old.tags.keys() if name not in new.tags
                   and name not in OF_THE_ENCODER and not OF_LEVELS.search(name)]
        for name in missing:
            new.tags[name] = old.tags[name]
        if missing:
            new.save()


def add_id3(source: Path, result: Path, history: str) -> None:
    """Copies the ID3 tag of a raw stream, if it has one, to its restored file.

    Args:
        source: The recording.
        result: The complete file, which is changed.
        history: A line about the restoration, added to the comments.

    Raises:
        UserError: The tag cannot be written.
        OSError: The disk is full.
    """
    with _tag_errors(result):
        tags = _read_foreign(id3.ID3, source)
        _remove_frames(tags, LEVEL_FRAMES, OF_LEVELS)
        if tags:
            tags.add(id3.COMM(encoding=UTF_8, lang="eng", desc="denoised", text=[history]))
            tags.save(result)


def add_to_wave(source: Path, result: Path, tags: Mapping[str, str],
                pictures: Iterable[tuple[str, bytes]], chapters: Iterable[tuple[Fraction, str]],
                rate: int) -> None:
    """Adds tags, pictures and chapters to a WAV file that FFmpeg wrote without them.

    Args:
        source: The recording, whose APEv2 tag is added as well.
        result: The complete file, which is changed.
        tags: All tags, by FFmpeg's names.
        pictures: Media type and content of each.
        chapters: See `mark_chunks`.
        rate: Sample rate in Hz.

    Raises:
        UserError: The file would be too large.
        OSError: The disk is full.
    """
    frames = id3.ID3()
    for name, values in _read_ape(source).items():
        _add_comment_as_frame(frames, name, values)
    for name, value in tags.items():  # these replace those of the same name
        _add_comment_as_frame(frames, name, [value])
    for number, (media_type, content) in enumerate(pictures):
        frames.add(id3.APIC(encoding=UTF_8, mime=media_type, type=id3.PictureType.COVER_FRONT,
                            desc=str(number or ""), data=content))
    chunks.append_chunks(result, [(b"id3 ", _as_bytes(frames)), *mark_chunks(chapters, rate)])
