"""What an audio file holds beside its samples: tags, pictures, marks, and how it was made.

WAV, RF64 and AIFF files are chains of chunks; whatever does not describe the samples
themselves is copied as it is, behind the samples. Tags of FLAC, Ogg and MP3 files are mutagen's
business; those of lossy files, whose results are WAV, become an ID3 chunk there.
"""

from __future__ import annotations

import base64
import binascii
import errno
import io
import os
import re
from pathlib import Path

import mutagen
from mutagen import flac, id3

from denoiser.audio.audio_io import BITS, Format, Recording
from denoiser.checks import UserError

FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

# Chunks that tell of the samples, or hold them, or are only room.
OF_SAMPLES = {b"fmt ", b"data", b"fact", b"ds64", b"PEAK", b"JUNK", b"junk", b"FLLR", b"PAD ",
              b"COMM", b"SSND", b"FVER"}
EXTENSIBLE = b"\xfe\xff"  # format tag of WAVE files that tell which speakers they are for
MASK = slice(20, 24)  # of the speakers, in the format chunk
VALID_BITS = slice(18, 20)
CODING_HISTORY = 602  # where it starts in a broadcast-wave chunk: EBU Tech 3285, 2.3
LARGEST_CHUNK_BYTES = 2**28  # larger ones are none of those that people write
LARGEST_RIFF_BYTES = 2**32 - 1
SIZE_ELSEWHERE = 2**32 - 1  # in RF64: the 64-bit size stands in the chunk ds64
MODES = {1: "mono", 2: "stereo"}
# Names of Vorbis comments (as in FLAC) that ID3 has frames for; all else becomes TXXX.
FRAMES = {"title": "TIT2", "artist": "TPE1", "album": "TALB", "date": "TDRC", "genre": "TCON",
          "tracknumber": "TRCK", "discnumber": "TPOS", "composer": "TCOM", "albumartist": "TPE2",
          "conductor": "TPE3", "copyright": "TCOP", "organization": "TPUB", "isrc": "TSRC",
          "lyricist": "TEXT", "encoded-by": "TENC"}
COMMENTS = {"comment", "description"}
PICTURE = "metadata_block_picture"
COMMENT = "COMMENT"  # the Vorbis comment that gets the line of history
UTF_8 = 3  # ID3's number


PRINTABLE = re.compile(rb"[ -~]{4}")  # names of chunks
HEAD_BYTES = 12  # before the first chunk
# The order of the bytes of a size, by a file's first four bytes. libsndfile takes what follows the
# samples of a Wave64 file for samples: nothing can be added there.
ORDERS = {b"RIFF": "little", b"RF64": "little", b"FORM": "big"}


def _kind(file: io.BufferedIOBase) -> bytes:
    """Returns the first four bytes of a file."""
    file.seek(0)
    return file.read(4)


def find_chunks(file: io.BufferedIOBase) -> list[tuple[bytes, int, int]]:
    """Returns name, start of the content and its size of all chunks that are whole."""
    kind = _kind(file)
    if kind not in ORDERS:
        return []
    end, place, large = file.seek(0, os.SEEK_END), HEAD_BYTES, None
    found = []
    while place + 8 <= end:
        file.seek(place)
        name, size = file.read(4), int.from_bytes(file.read(4), ORDERS[kind])
        if kind == b"RF64" and name == b"ds64":
            large = int.from_bytes(file.read(16)[8:], "little")  # of the samples
        if name == b"data" and size == SIZE_ELSEWHERE and large is not None:
            size = large
        # Where a recorder never closed its file, the samples have no size, and follow as if they
        # were chunks.
        unclosed = name == b"data" and size == 0 and place + 8 < end
        if unclosed or not PRINTABLE.fullmatch(name) or place + 8 + size > end:
            break
        found.append((name, place + 8, size))
        place += 8 + size + size % 2
    return found


def _content(file: io.BufferedIOBase, chunk: tuple[bytes, int, int]) -> bytes:
    file.seek(chunk[1])
    return file.read(chunk[2])


def _append(path: Path, chunks: list[tuple[bytes, bytes]]) -> None:
    """Adds chunks behind the last one of a complete file, whose size is corrected."""
    with path.open("r+b") as file:
        kind = _kind(file)
        end, order = file.seek(0, os.SEEK_END), ORDERS[kind]
        content = bytes(end % 2) + b"".join(
            name + len(inside).to_bytes(4, order) + inside + bytes(len(inside) % 2)
            for name, inside in chunks)
        size = end + len(content) - 8
        # In RF64, it stands in the chunk ds64, which comes first.
        place, width = (20, 8) if kind == b"RF64" else (4, 4)
        if size > LARGEST_RIFF_BYTES and width == 4:
            raise UserError("with its tags the file would be larger than its format can tell")
        file.seek(end)
        file.write(content)
        file.seek(place)
        file.write(size.to_bytes(width, order))


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
    return b"INFO" + b"".join(name + len(inside).to_bytes(4, "little") + inside
                              + bytes(len(inside) % 2) for name, inside in parts)


def id3_of(path: Path, history: str) -> bytes:
    """Returns the tags and pictures of an MP3 or Ogg file, with a line more, as an ID3 tag."""
    source = mutagen.File(path)
    tags = id3.ID3()
    if source is not None and isinstance(source.tags, id3.ID3):
        for frame in source.tags.values():
            tags.add(frame)
    elif source is not None and source.tags is not None:
        for name in source.tags.keys():
            _add_comment_as_frame(tags, name, source.tags[name])
    tags.add(id3.COMM(encoding=UTF_8, lang="eng", desc="denoised", text=[history]))
    written = io.BytesIO()
    tags.save(written, padding=lambda info: 0)
    return written.getvalue()


def _add_comment_as_frame(tags: id3.ID3, name: str, values: list[str]) -> None:
    """Adds what a Vorbis comment of some name says to an ID3 tag."""
    name = name.lower()
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


def _carry_chunks(recording: Recording, result: Path, output: Format, history: str) -> None:
    """Copies chunks behind the samples, and the speakers into the format chunk."""
    with recording.path.open("rb") as source, result.open("rb") as target:
        kind = _kind(target)
        if ORDERS.get(_kind(source)) == ORDERS[kind]:
            chunks = find_chunks(source)
            copied = [(name, _content(source, (name, start, size)))
                      for name, start, size in chunks
                      if name not in OF_SAMPLES and size <= LARGEST_CHUNK_BYTES]
        else:
            chunks, copied = [], [(b"id3 ", id3_of(recording.path, history))]
        formats = [[(start, _content(file, (name, start, size)))
                    for name, start, size in find_chunks(file) if name == b"fmt "]
                   for file in (source, target)]
    copied = [(name, coding_history(content, _coding_line(recording, output, history))
               if name == b"bext" else content) for name, content in copied]
    if kind == b"FORM":
        copied.append((b"ANNO", history.encode("ascii", "replace")))
    elif chunks and not any(name == b"bext" for name, _ in copied):
        places = [place for place, (name, content) in enumerate(copied)
                  if name == b"LIST" and content[:4] == b"INFO"]
        info = copied.pop(places[0])[1] if places else b"INFO"
        copied.append((b"LIST", with_comment(info, history)))
    if copied:
        _append(result, copied)
    if all(formats):
        (_, old), (start, new) = formats[0][0], formats[1][0]
        if old[:2] == new[:2] == EXTENSIBLE:
            with result.open("r+b") as file:
                file.seek(start + MASK.start)
                file.write(old[MASK])
                if output.valid_bits is not None:
                    file.seek(start + VALID_BITS.start)
                    file.write(old[VALID_BITS])


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
    try:
        if output.container == "FLAC":
            _carry_flac(recording.path, result, history)
        elif output.container in ("WAV", "WAVEX", "RF64", "AIFF"):
            _carry_chunks(recording, result, output, history)
    except mutagen.MutagenError as error:
        cause = error.args[0] if error.args else None
        if isinstance(cause, OSError) and cause.errno in FULL_DISK:
            raise OSError(cause.errno, cause.strerror, str(result)) from error
        raise UserError(f"its tags cannot be read ({error})") from error
