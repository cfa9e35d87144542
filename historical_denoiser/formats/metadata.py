"""What an audio file holds beside its samples: tags, pictures, marks, and how it was made.

WAV, RF64, AIFF and CAF files are chains of chunks; whatever does not describe the samples
themselves is copied as it is, behind the samples. Tags of FLAC, Ogg, MP3, MP4 and ASF files are
mutagen's business; where the result is a WAV file, they become an ID3 chunk there, and chapters
its cue points.
"""

from __future__ import annotations

import base64
import binascii
import errno
import io
import struct
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import mutagen
from mutagen import flac, id3

from historical_denoiser.core.checks import UserError
from historical_denoiser.formats.audio_io import BITS, Format, Recording
from historical_denoiser.formats.chunks import (
    CAF,
    ORDERS,
    append_chunks,
    chain,
    content_of,
    find_chunks,
    kind_of,
)
from historical_denoiser.formats.containers import open_container, read_chapters

FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

# Chunks that tell of the samples, or hold them, or are only room.
OF_SAMPLES = {b"fmt ", b"data", b"fact", b"ds64", b"PEAK", b"JUNK", b"junk", b"FLLR", b"PAD ",
              b"COMM", b"SSND", b"FVER",
              b"desc", b"pakt", b"kuki", b"free", b"peak", b"ovvw"}  # of CAF
EXTENSIBLE = b"\xfe\xff"  # format tag of WAVE files that tell which speakers they are for
MASK = slice(20, 24)  # of the speakers, in the format chunk
CODING_HISTORY = 602  # where it starts in a broadcast-wave chunk: EBU Tech 3285, 2.3
MAX_CHUNK_BYTES = 2**28  # larger ones are none of those that people write
MODES = {1: "mono", 2: "stereo"}
# Names of Vorbis comments (as in FLAC) that ID3 has frames for; all else becomes TXXX.
FRAMES = {"title": "TIT2", "artist": "TPE1", "album": "TALB", "date": "TDRC", "genre": "TCON",
          "tracknumber": "TRCK", "discnumber": "TPOS", "composer": "TCOM", "albumartist": "TPE2",
          "conductor": "TPE3", "copyright": "TCOP", "organization": "TPUB", "isrc": "TSRC",
          "lyricist": "TEXT", "encoded-by": "TENC"}
COMMENTS = {"comment", "description"}
# The names that FFmpeg has for some of these.
NAMES_OF_FFMPEG = {"track": "tracknumber", "disc": "discnumber", "album_artist": "albumartist",
                   "publisher": "organization", "encoded_by": "encoded-by"}
PICTURE = "metadata_block_picture"
COMMENT = "COMMENT"  # the Vorbis comment that gets the line of history
UTF_8 = 3  # ID3's number
# Number, place in the order of playing, chunk, its start, the block's start, sample.
CUE_POINT, COUNT_BYTES = struct.Struct("<II4sIII"), 4
MAX_PLACE = 2**32 - 1  # of a cue point
# Attributes of an ASF file that tell how it was encoded.
OF_THE_ENCODER = {"IsVBR", "WMFSDKVersion", "WMFSDKNeeded", "WM/EncodingSettings",
                  "DeviceConformanceTemplate", "ASFLeakyBucketPairs"}


def coding_history(broadcast: bytes, line: str) -> bytes:
    """Returns a broadcast-wave chunk with a line added to its coding history.

    Args:
        broadcast: Content of the chunk `bext`.
        line: See `_coding_line`.
    """
    fixed = broadcast[:CODING_HISTORY].ljust(CODING_HISTORY, b"\0")
    history = broadcast[CODING_HISTORY:].rstrip(b"\0\r\n")
    return fixed + history + (b"\r\n" if history else b"") + line.encode("ascii", "replace") + (
        b"\r\n")


def _coding_line(recording: Recording, output: Format, history: str) -> str:
    """Returns a line of a coding history as EBU R 98 wants it, without its end."""
    bits = BITS[output.subtype] or {"FLOAT": 32, "DOUBLE": 64}[output.subtype]
    mode = f",M={MODES[recording.channels]}" if recording.channels in MODES else ""
    return f"A=PCM,F={recording.rate},W={bits}{mode},T={history.replace(',', ';')}"


def with_comment(info: bytes, line: str) -> bytes:
    """Returns the content of a list chunk `INFO` with a line added to its comment, `ICMT`."""
    parts, place = [], 4
    text = line.encode()
    done = False
    while place + 8 <= len(info):
        name, size = info[place : place + 4], int.from_bytes(info[place + 4 : place + 8], "little")
        inside = info[place + 8 : place + 8 + size]
        if name == b"ICMT" and not done:
            inside, done = inside.rstrip(b"\0") + b"; " + text + b"\0", True
        parts.append((name, inside))
        place += 8 + size + size % 2
    if not done:
        parts.append((b"ICMT", text + b"\0"))
    return b"INFO" + chain(parts)


def with_caf_comment(info: bytes, line: str) -> bytes:
    """Returns the content of a CAF file's chunk `info` with a line added to its comment."""
    texts = info[COUNT_BYTES:].split(b"\0")
    pairs = dict(zip(texts[::2], texts[1::2], strict=False))  # the last one may be cut off
    # Apple's name, and libsndfile's.
    name = next((key for key in (b"comments", b"comment") if key in pairs), b"comments")
    pairs[name] = b"; ".join(filter(None, [pairs.get(name), line.encode()]))
    return len(pairs).to_bytes(COUNT_BYTES, "big") + b"".join(
        text + b"\0" for pair in pairs.items() for text in pair)


def mark_chunks(chapters: Iterable[tuple[Fraction, str]], rate: int) -> list[tuple[bytes, bytes]]:
    """Returns the chunks by which a WAV file marks places and names them.

    Args:
        chapters: When each begins, in s, and its name.
        rate: Sample rate in Hz.

    Returns:
        Name and content of the cue points and of their labels; nothing without chapters.
    """
    places = [(place, name) for place, name in
              ((round(start * rate), name) for start, name in chapters)
              if 0 <= place <= MAX_PLACE]
    if not places:
        return []
    points = b"".join(CUE_POINT.pack(number, place, b"data", 0, 0, place)
                      for number, (place, _) in enumerate(places, start=1))
    labels = [(b"labl", number.to_bytes(COUNT_BYTES, "little") + name.encode(errors="replace")
               + b"\0") for number, (_, name) in enumerate(places, start=1)]
    return [(b"cue ", len(places).to_bytes(COUNT_BYTES, "little") + points),
            (b"LIST", b"adtl" + chain(labels))]


def _open_tags(path: Path) -> mutagen.FileType | None:
    """Returns a file as mutagen knows it; None if it does not. Raises UserError for damage."""
    try:
        return mutagen.File(path)
    except (LookupError, ValueError, struct.error) as error:  # what mutagen 1.48 lets through
        raise UserError(f"its tags are damaged ({error})") from error


def id3_of(path: Path, history: str) -> bytes:
    """Returns the tags and pictures of an Ogg file, with a line more, as an ID3 tag."""
    source, tags = _open_tags(path), id3.ID3()
    if source is not None and source.tags is not None:
        for name in source.tags.keys():
            _add_comment_as_frame(tags, name, source.tags[name])
    tags.add(id3.COMM(encoding=UTF_8, lang="eng", desc="denoised", text=[history]))
    return _written(tags)


def _written(tags: id3.ID3) -> bytes:
    """Returns an ID3 tag as it stands in a file."""
    written = io.BytesIO()
    tags.save(written, padding=lambda info: 0)
    return written.getvalue()


@contextmanager
def _telling(result: Path) -> Iterator[None]:
    """Makes of mutagen's errors a full disk's, or those of tags that cannot be read."""
    try:
        yield
    except mutagen.MutagenError as error:
        cause = error.args[0] if error.args else None
        if isinstance(cause, OSError) and cause.errno in FULL_DISK:
            raise OSError(cause.errno, cause.strerror, str(result)) from error
        raise UserError(f"its tags cannot be read ({error})") from error


def _add_comment_as_frame(tags: id3.ID3, name: str, values: list[str]) -> None:
    """Adds what a Vorbis comment of some name says to an ID3 tag."""
    name = name.lower()
    name = NAMES_OF_FFMPEG.get(name, name)
    if name == PICTURE:
        for number, value in enumerate(values):
            try:
                picture = flac.Picture(base64.b64decode(value))
            except (binascii.Error, flac.error):
                continue  # a picture that cannot be read cannot be shown either
            tags.add(id3.APIC(encoding=UTF_8, mime=picture.mime, type=picture.type,
                              desc=picture.desc or str(number or ""), data=picture.data))
    elif name in COMMENTS:
        tags.add(id3.COMM(encoding=UTF_8, lang="eng", desc="", text=values))
    elif name in FRAMES:
        tags.add(getattr(id3, FRAMES[name])(encoding=UTF_8, text=values))
    else:
        tags.add(id3.TXXX(encoding=UTF_8, desc=name, text=values))


def _carry_flac(source: Path, result: Path, history: str) -> None:
    """Copies tags, pictures, cue sheet and application blocks between FLAC files."""
    old, new = flac.FLAC(source), flac.FLAC(result)
    if new.tags is None:
        new.add_tags()
    if old.tags is not None:
        new.tags[:] = list(old.tags)
    new.tags[COMMENT] = [*new.tags.get(COMMENT, []), history]
    for block in old.metadata_blocks:
        if isinstance(block, flac.CueSheet):
            new.cuesheet = block
        elif isinstance(block, flac.Picture) or type(block) is flac.MetadataBlock:
            pass
        else:
            continue
        new.metadata_blocks.append(block)
    new.save()


def _chapters(recording: Recording) -> list[tuple[Fraction, str]]:
    """Returns the chapters of what libsndfile reads; see `mark_chunks`."""
    if recording.container != "OGG":
        return []
    with open_container(recording.path) as container:
        return read_chapters(container)


def _carry_chunks(recording: Recording, result: Path, output: Format, history: str) -> None:
    """Copies chunks behind the samples, and the speakers into the format chunk."""
    with recording.path.open("rb") as source, result.open("rb") as target:
        kind, old_kind = kind_of(target), kind_of(source)
        if old_kind == kind or ORDERS.get(old_kind) == ORDERS.get(kind):
            chunks = find_chunks(source)
            copied = [(name, content_of(source, (name, start, size)))
                      for name, start, size in chunks
                      if name not in OF_SAMPLES and size <= MAX_CHUNK_BYTES]
        else:
            chunks, copied = [], [(b"id3 ", id3_of(recording.path, history)),
                                  *mark_chunks(_chapters(recording), recording.rate)]
        formats = [[(start, content_of(file, (name, start, size)))
                    for name, start, size in find_chunks(file) if name == b"fmt "]
                   for file in (source, target)]
    copied = [(name, coding_history(content, _coding_line(recording, output, history))
               if name == b"bext" else content) for name, content in copied]
    if kind == b"FORM":
        copied.append((b"ANNO", history.encode("ascii", "replace")))
    elif kind == CAF:
        info = [content for name, content in copied if name == b"info"] or [bytes(COUNT_BYTES)]
        copied = [(name, content) for name, content in copied if name != b"info"]
        copied.append((b"info", with_caf_comment(info[0], history)))
    elif chunks and not any(name == b"bext" for name, _ in copied):
        places = [place for place, (name, content) in enumerate(copied)
                  if name == b"LIST" and content[:4] == b"INFO"]
        info = copied.pop(places[0])[1] if places else b"INFO"
        copied.append((b"LIST", with_comment(info, history)))
    if copied:
        append_chunks(result, copied)
    if all(formats):
        (_, old), (start, new) = formats[0][0], formats[1][0]
        if old[:2] == new[:2] == EXTENSIBLE:
            with result.open("r+b") as file:
                file.seek(start + MASK.start)
                file.write(old[MASK])


def carry_over(recording: Recording, result: Path, output: Format, history: str) -> None:
    """Copies all that a recording holds beside its samples into the restored file.

    Args:
        recording: What libsndfile read.
        result: The complete restored file, which is changed.
        output: Its format.
        history: What was done, one line: it goes to the coding history of a broadcast wave, else
            to a comment.

    Raises:
        UserError: It cannot be copied; the restored file is then whole, without it.
        OSError: The disk is full.
    """
    with _telling(result):
        if output.container == "FLAC":
            _carry_flac(recording.path, result, history)
        elif output.container in ("WAV", "WAVEX", "RF64", "AIFF", "CAF"):
            _carry_chunks(recording, result, output, history)


def add_tags(source: Path, result: Path) -> None:
    """Adds to an MP4 or ASF file that FFmpeg wrote the tags and pictures of its source.

    FFmpeg leaves out what has a name of its own in MP4 (`----`), and the pictures of ASF.

    Raises:
        UserError: They cannot be read.
        OSError: The disk is full.
    """
    with _telling(result):
        old, new = _open_tags(source), mutagen.File(result)
        if old is None or old.tags is None or new is None:
            return
        if new.tags is None:
            new.add_tags()
        missing = [name for name in old.tags.keys()
                   if name not in new.tags and name not in OF_THE_ENCODER]
        for name in missing:
            new.tags[name] = old.tags[name]
        if missing:
            new.save()


def add_to_wave(result: Path, tags: Mapping[str, str], pictures: Iterable[tuple[str, bytes]],
                chapters: Iterable[tuple[Fraction, str]], rate: int) -> None:
    """Adds to a WAV file that FFmpeg wrote what that has no place for.

    Args:
        result: The complete file, which is changed.
        tags: All of them, by FFmpeg's names.
        pictures: The media type of each, and its content.
        chapters: See `mark_chunks`.
        rate: Sample rate in Hz.

    Raises:
        UserError: The file would be too large.
        OSError: The disk is full.
    """
    frames = id3.ID3()
    for name, value in tags.items():
        _add_comment_as_frame(frames, name, [value])
    for number, (media_type, content) in enumerate(pictures):
        frames.add(id3.APIC(encoding=UTF_8, mime=media_type, type=id3.PictureType.COVER_FRONT,
                            desc=str(number or ""), data=content))
    append_chunks(result, [(b"id3 ", _written(frames)), *mark_chunks(chapters, rate)])
