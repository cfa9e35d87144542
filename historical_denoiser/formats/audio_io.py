"""Reads and writes recordings block by block, so that memory does not grow with their length.

Blocks are float64 arrays `(samples, channels)`. Samples that are read and written in the same
format, integer or floating point, do not change in a single bit. Start reading at
`open_recording`, `read_blocks` and `Writer`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile as sf

from historical_denoiser.core.checks import UserError
from historical_denoiser.formats.links import MAX_WAV_BYTES, Section, find_links, find_patches

BLOCK_SECONDS = 2.0
MAX_HEADER_BYTES = 4096  # a larger file cannot be without any audio
UNKNOWN_SAMPLES = 2**62  # libsndfile returns more than this for a header without a length
# Position, width and byte order of the field for the file's size, by the first four bytes of the
# header; the last number is the count of bytes that the size leaves out; AU itself states it.
SIZE_FIELDS = {b"RIFF": (4, 4, "little", 8), b"FORM": (4, 4, "big", 8),
               b"RF64": (20, 8, "little", 8), b"BW64": (20, 8, "little", 8),
               b"riff": (16, 8, "little", 0), b".snd": (8, 4, "big", None)}
SIZE_FIELDS_END = 28  # no size field reaches further
# A program that writes to a pipe stores 0, or a size close to one of these.
UNKNOWN_SIZES = (2**31, 2**32)
UNKNOWN_SIZE_TOLERANCE = 2**16

# The file endings of each container; a file with another known ending gets the first one.
ENDINGS = {
    "WAV": (".wav", ".wave", ".bwf"),
    "WAVEX": (".wav", ".wave", ".bwf"),
    "RF64": (".wav", ".rf64", ".wave", ".bwf"),
    "W64": (".w64",),
    "AIFF": (".aiff", ".aif", ".aifc", ".aff"),
    "AU": (".au", ".snd"),
    "CAF": (".caf",),
    "FLAC": (".flac",),
    "AVR": (".avr",),
    "IRCAM": (".sf",),
    "MAT4": (".mat",),
    "MAT5": (".mat",),
    "NIST": (".nist", ".sph", ".wav"),
    "PAF": (".paf",),
    "PVF": (".pvf",),
    "SVX": (".svx", ".8svx", ".iff"),
}
KNOWN_ENDINGS = {".mp3", ".mp2", ".ogg", ".oga", ".opus"}.union(*ENDINGS.values())
AUDIO_ENDINGS = frozenset(KNOWN_ENDINGS - {".mat", ".iff"})  # searched for in folders
# Bits of the lossless sample formats; None for floating point.
BITS = {"PCM_S8": 8, "PCM_U8": 8, "PCM_16": 16, "PCM_24": 24, "PCM_32": 32,
        "FLOAT": None, "DOUBLE": None}
STORED_BITS = BITS | {"FLOAT": 32, "DOUBLE": 64}
# libsndfile reads Apple's lossless codec correctly but does not always write what it is given.
ALAC_SUBTYPES = {"ALAC_16": "PCM_16", "ALAC_20": "PCM_24", "ALAC_24": "PCM_24", "ALAC_32": "PCM_32"}
DITHERED_BITS = 16  # with more bits, the rounding error is inaudible without dither
LOSSY_CONTAINER, LOSSY_SUBTYPE = "WAV", "PCM_24"
# Where libsndfile puts the channels of a WAV file in Ogg files, by their number: these begin with
# left, centre, right, and end with the low frequencies (Vorbis I, 4.3.9).
ORDER_IN_OGG = {3: [0, 2, 1], 5: [0, 2, 1, 3, 4], 6: [0, 2, 1, 5, 3, 4],
                7: [0, 2, 1, 6, 5, 3, 4], 8: [0, 2, 1, 7, 5, 6, 3, 4]}
MPEG = "MPEG_LAYER"  # beginning of libsndfile's subtypes of MP3 and similar codecs


@dataclass(frozen=True)
class Format:
    """How a result is stored: libsndfile's names of container and sample format, file ending."""

    container: str
    subtype: str
    ending: str


@dataclass(frozen=True)
class Recording:
    """The header of a file that libsndfile can read; see `Format` for container and subtype.

    Attributes:
        path: The file.
        rate: Sample rate in Hz.
        channels: Number of channels.
        header_samples: Length of each channel according to the header; 0 if it has none (FLAC from
            a pipe). A truncated file contains less: only `survey` counts the samples.
        container: libsndfile's name of the container.
        subtype: libsndfile's name of the sample format.
        track: Number of the audio track, from 1, where a file has several.
    """

    path: Path
    rate: int
    channels: int
    header_samples: int
    container: str
    subtype: str
    track: int | None = None

    @property
    def header_seconds(self) -> float:
        """Length of the recording according to its header."""
        return self.header_samples / self.rate

    @property
    def is_mpeg(self) -> bool:
        """Whether the file is a stream of MPEG audio, such as MP3, possibly inside a WAV file."""
        return self.subtype.startswith(MPEG)


def _native(path: Path) -> bytes | str:
    """Returns a file's name in the form that libsndfile accepts; it need not be valid UTF-8."""
    return os.fsencode(path) if os.name == "posix" else str(path)


def is_unknown(size: int) -> bool:
    """Whether a size in a header stands for an unknown size."""
    return any(abs(size - unknown) < UNKNOWN_SIZE_TOLERANCE for unknown in UNKNOWN_SIZES)


def promised_bytes(head: bytes) -> int:
    """Returns the size of a file that its first bytes state; 0 if they state none.

    libsndfile takes a truncated WAV or AIFF file for a complete, shorter one.
    """
    if head[:4] not in SIZE_FIELDS:
        return 0
    place, width, order, before = SIZE_FIELDS[head[:4]]
    if before is None:
        before = int.from_bytes(head[4:8], order)
    promised = before + int.from_bytes(head[place : place + width], order)
    return 0 if is_unknown(promised) else promised


class UnknownFormatError(UserError):
    """A file that libsndfile cannot read."""


def require_audio_file(path: Path) -> bytes:
    """Returns the first bytes of a file.

    Raises:
        FileNotFoundError: There is no such file.
        UserError: It is not a file, or is empty.
        OSError: It cannot be read.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    if path.is_dir():  # folders with recordings were already replaced by their files
        raise UserError(f"{path}: the folder holds no recordings")
    if not path.is_file():
        raise UserError(f"{path}: not a regular file")
    with path.open("rb") as stream:  # its error names the reason, unlike libsndfile's
        head = stream.read(SIZE_FIELDS_END)
    if not head:
        raise UserError(f"{path}: the file is empty")
    return head


def open_recording(path: Path) -> Recording:
    """Reads the header of a recording.

    Raises:
        FileNotFoundError: There is no such file.
        UnknownFormatError: libsndfile cannot read it.
        UserError: It is not a file or is empty, or the header states that there is no audio,
            although the file is too large for that.
    """
    head = require_audio_file(path)
    if path.suffix.lower() == ".raw":
        raise UserError(f"{path}: headerless audio says neither rate nor format; "
                        "convert it to WAV first")
    # libsndfile refuses a WAV file behind which another stands, and reads the first of others.
    first = find_links(path, "WAV" if head.startswith(b"RIFF") else "")[0]
    try:
        with _open_link(path, first) as file:
            if file.format == "RAW":  # libsndfile's guess from an ending, such as .au
                raise UnknownFormatError(f"{path}: not audio that can be read (it has no header)")
            size = path.stat().st_size
            share = max(1.0, promised_bytes(head) / size)
            if file.frames == 0 and (share > 1.0 or size > MAX_HEADER_BYTES):
                raise UserError(f"{path}: no audio can be read from its {size} bytes; was the "
                                "recording broken off before its header was written?")
            samples = round(file.frames * share) if file.frames < UNKNOWN_SAMPLES else 0
            return Recording(path, file.samplerate, file.channels, samples, file.format,
                             file.subtype)
    except sf.LibsndfileError as error:
        raise UnknownFormatError(
            f"{path}: not audio that can be read "
            f"({error.error_string.strip().rstrip('.')})") from error


class DamagedError(UserError):
    """A file that cannot be read to its end."""


def read_blocks(recording: Recording) -> Iterator[np.ndarray]:
    """Yields the samples of a recording as float64 blocks `(samples, channels)`.

    Recordings that were joined by writing one file behind the other are read as one.

    Raises:
        DamagedError: The file is damaged.
        UserError: It is not there any more, or holds recordings of different forms.
    """
    done = 0
    try:
        links = find_links(recording.path, recording.container)
        for link in links:
            with _open_link(recording.path, link) as file:
                form = file.samplerate, file.channels, file.subtype
                if form != (recording.rate, recording.channels, recording.subtype):
                    raise UserError(
                        f"{recording.path}: after {done / recording.rate:.1f} s begins another "
                        f"recording, of {form[0]} Hz, {form[1]} channels and {form[2]} in place of "
                        f"{recording.rate} Hz, {recording.channels} and {recording.subtype}; "
                        f"split the file at byte {link[0]}")
                for block in _read_file(file):
                    done += len(block)
                    yield block
    except FileNotFoundError as error:  # it vanished after its header was read
        raise UserError(f"{recording.path}: cannot be read any more") from error
    except sf.LibsndfileError as error:
        reason = error.error_string.strip().rstrip(".")
        raise DamagedError(f"{recording.path}: the file is damaged after "
                           f"{done / recording.rate:.1f} s ({reason})") from error


def _open_link(path: Path, link: tuple[int, int]) -> sf.SoundFile:
    """Opens one of the results of `find_links`."""
    is_whole = link == (0, path.stat().st_size) and not find_patches(path)
    return sf.SoundFile(_native(path) if is_whole else Section(path, *link))


def _read_file(file: sf.SoundFile) -> Iterator[np.ndarray]:
    block_samples = max(1, round(BLOCK_SECONDS * file.samplerate))
    # Reading integers left-justified in 32 bits is exact. libsndfile's own conversion to floating
    # point and back is not: it divides by 2^15 but multiplies by 2^15 - 1.
    integer = BITS.get(ALAC_SUBTYPES.get(file.subtype, file.subtype)) is not None
    order = ORDER_IN_OGG.get(file.channels) if file.subtype in ("VORBIS", "OPUS") else None
    if file.frames >= UNKNOWN_SAMPLES:
        # soundfile would seek after each block, which fails in a file of unknown length.
        file.seekable = lambda: False
    kind = "int32" if integer else "float64"
    # Where the header of a damaged file promises less than there is, nothing is left to read.
    while not (file.seekable() and file.tell() > file.frames) and len(
            block := file.read(block_samples, kind, always_2d=True)):
        yield block[:, order] if order else block * 2.0**-31 if integer else block


def output_format(recording: Recording, samples: int) -> Format:
    """Returns the format of the results: that of the input if it is lossless, else 24-bit WAV.

    A WAV file becomes RF64 if it would exceed 32-bit sizes with `samples` in each channel.
    """
    subtype = ALAC_SUBTYPES.get(recording.subtype, recording.subtype)
    container = recording.container
    if subtype not in BITS:
        container, subtype = LOSSY_CONTAINER, LOSSY_SUBTYPE
    elif container not in ENDINGS:  # rare, but lossless
        container = LOSSY_CONTAINER
        subtype = subtype if sf.check_format(container, subtype) else LOSSY_SUBTYPE
    ending = recording.path.suffix
    if ending.lower() not in ENDINGS[container] and (
            container != recording.container or not ending or ending.lower() in KNOWN_ENDINGS):
        ending = ENDINGS[container][0]  # an ending that the user made up stays
    sample_bytes = STORED_BITS[subtype] // 8
    if container in ("WAV", "WAVEX") and (
            samples * recording.channels * sample_bytes > MAX_WAV_BYTES):
        container = "RF64"
    return Format(container, subtype, ending)


def quantize(block: np.ndarray, full_scale: float, dither: Sequence[int] | None = None,
             ) -> tuple[np.ndarray, int]:
    """Rounds samples to the steps of an integer format, and limits them to its range.

    Args:
        block: Samples in any shape; full scale is 1.
        full_scale: Number of steps from zero to full scale: 2^(bits - 1).
        dither: Seed of triangular noise, two steps wide, that is added before rounding to up to 16
            bits: then the error does not depend on the signal (Lipshitz, Wannamaker and Vanderkooy
            1992). Samples that lie exactly on a step, as silence does, get no noise.

    Returns:
        Whole numbers from `-full_scale` to `full_scale - 1`, and how many samples were clipped.
    """
    steps = block * full_scale
    rounded = np.rint(steps)
    if dither is not None and full_scale <= 2.0 ** (DITHERED_BITS - 1):
        rng = np.random.default_rng(dither)
        noise = rng.random(steps.shape)
        noise -= rng.random(steps.shape)
        rounded = np.where(steps == rounded, rounded, np.rint(steps + noise))
    within = np.clip(rounded, -full_scale, full_scale - 1.0)
    return within, int(np.count_nonzero(rounded != within))


def require_whole(path: Path, samples: int) -> None:
    """Raises OSError unless a new file contains `samples` samples of each channel."""
    try:
        with sf.SoundFile(_native(path)) as file:
            present = file.frames  # derived from the size of the file, except for FLAC
            if file.format == "FLAC" and samples:
                file.seek(samples - 1)
                present = samples - 1 + len(file.read(1))
    except sf.LibsndfileError as error:
        raise _full_disk(path) from error
    if present < samples:
        raise _full_disk(path)


def _full_disk(path: Path) -> OSError:
    if not path.exists():  # a file that was removed can still be written to
        return OSError(f"{path.parent}: the folder was moved or removed while results were "
                       "written there")
    return OSError(f"{path.parent}: the results cannot be written there; is the disk full?")


class Writer:
    """Context manager that writes blocks to a file, replacing an existing one.

    Attributes:
        path: The file.
        clipped: Number of samples that exceeded the range of an integer format.
    """

    def __init__(self, path: Path, rate: int, channels: int, output: Format,
                 dither_seed: int | None = None) -> None:
        """Opens the file.

        Args:
            path: The file.
            rate: Sample rate in Hz.
            channels: Number of channels.
            output: From `output_format`.
            dither_seed: When given, samples of up to 16 bits are dithered.

        Raises:
            UserError: The container cannot store that many channels at that rate.
        """
        self.path = path
        self.clipped = 0
        self._dither_seed, self._done = dither_seed, 0
        self._bits, self._subtype = BITS[output.subtype], output.subtype
        try:
            self._file = sf.SoundFile(_native(path), "w", rate, channels, output.subtype,
                                      format=output.container)
        except sf.LibsndfileError as error:
            raise UserError(f"{path.parent}: no {output.container} file of {channels} channels "
                            f"at {rate} Hz can be written there") from error

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        """Closes the file, and checks that its end was written.

        Raises:
            OSError: It was not: libsndfile reports no error if the disk fills up now.
        """
        try:
            self._file.close()
        except sf.LibsndfileError as error:
            raise _full_disk(self.path) from error
        if kind is None:
            require_whole(self.path, self._done)

    def write(self, block: np.ndarray) -> np.ndarray:
        """Writes a block and returns it as it is stored, rounded to the steps of the format.

        Raises:
            OSError: The disk is full.
        """
        if self._bits is None:
            stored = block.astype(np.float32) if self._subtype == "FLOAT" else block
            self._store(stored)
            return stored.astype(np.float64)
        full_scale = 2.0 ** (self._bits - 1)
        dither = None if self._dither_seed is None else (self._dither_seed, self._done)
        steps, clipped = quantize(block, full_scale, dither)
        self.clipped += clipped
        self._store((steps * 2.0 ** (32 - self._bits)).astype(np.int32))
        return steps / full_scale

    def _store(self, samples: np.ndarray) -> None:
        try:
            self._file.write(samples)
        except sf.LibsndfileError as error:
            raise _full_disk(self.path) from error
        self._done += len(samples)
