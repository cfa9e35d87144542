"""Reading and writing of recordings block by block, so that memory does not grow with their length.

Blocks are float64 arrays `(samples, channels)`. Samples that are read and written in the same
format, integer or floating point, are the same to the last bit.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile as sf

from historical_denoiser.core.checks import UserError

BLOCK_SECONDS = 2.0  # read at once
MAX_WAV_BYTES = 2**32 - 2**16  # the sizes in a WAV file are 32-bit; some room for the header
MAX_HEADER_BYTES = 4096  # of a file without any audio
UNKNOWN_SAMPLES = 2**62  # libsndfile's number for "the header does not say" is beyond this
# Where a header, by its first four bytes, gives the size of the file: place, width and byte order
# of that number, and how many bytes come before those that it counts.
SIZE_FIELDS = {b"RIFF": (4, 4, "little", 8), b"FORM": (4, 4, "big", 8),
               b"RF64": (20, 8, "little", 8), b"riff": (16, 8, "little", 0),
               b".snd": (8, 4, "big", 24)}
SIZE_FIELDS_END = 28  # the last of these numbers ends there
# A program that writes to a pipe puts 0 there, or a number close to one of these.
UNKNOWN_SIZES = (2**31, 2**32)
UNKNOWN_SIZE_TOLERANCE = 2**16

# The endings that fit a container; the first is used where a file's own does not.
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
AUDIO_ENDINGS = frozenset(KNOWN_ENDINGS - {".mat", ".iff"})  # taken from a folder
# Bits of the lossless sample formats; None for floating point.
BITS = {"PCM_S8": 8, "PCM_U8": 8, "PCM_16": 16, "PCM_24": 24, "PCM_32": 32,
        "FLOAT": None, "DOUBLE": None}
# libsndfile reads Apple's lossless codec correctly but does not always write what it is given.
ALAC_SUBTYPES = {"ALAC_16": "PCM_16", "ALAC_20": "PCM_24", "ALAC_24": "PCM_24",
                 "ALAC_32": "PCM_32"}
DITHERED_BITS = 16  # and less: there the error of rounding can be heard
LOSSY_CONTAINER, LOSSY_SUBTYPE = "WAV", "PCM_24"
MPEG = "MPEG_LAYER"  # begins the subtypes of MP3 and its like


@dataclass(frozen=True)
class Format:
    """How a result is stored: libsndfile's names of container and sample format, and the ending."""

    container: str
    subtype: str
    ending: str


@dataclass(frozen=True)
class Recording:
    """A file that libsndfile can read, by its header; see `Format` for container and subtype.

    `header_samples`, the length of each channel, is 0 if the header does not say (FLAC from a
    pipe). It can be wrong: a file that was cut off holds less. Only `survey` counts. `track` is
    the place of the audio track where a file has several, from 1.
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
        """How long the recording is, by its header."""
        return self.header_samples / self.rate

    @property
    def is_mpeg(self) -> bool:
        """Whether all of it is frames of MPEG audio, such as MP3, in a WAV file or without one."""
        return self.subtype.startswith(MPEG)


def _native(path: Path) -> bytes | str:
    """Returns a file's name as libsndfile takes it, also one that is not valid UTF-8."""
    return os.fsencode(path) if os.name == "posix" else str(path)


def is_unknown(size: int) -> bool:
    """Whether a size in a header is one that says nothing."""
    return any(abs(size - unknown) < UNKNOWN_SIZE_TOLERANCE for unknown in UNKNOWN_SIZES)


def _promised_share(head: bytes, size: int) -> float:
    """Returns how much longer than the file's `size` bytes its header says it is; 1 if it is not.

    libsndfile takes what is left of a WAV or AIFF file that was cut off for all of it.
    """
    if head[:4] not in SIZE_FIELDS:
        return 1.0
    place, width, order, before = SIZE_FIELDS[head[:4]]
    promised = before + int.from_bytes(head[place : place + width], order)
    return 1.0 if is_unknown(promised) else max(1.0, promised / size)


class UnknownFormatError(UserError):
    """A file that libsndfile cannot read."""


def require_audio_file(path: Path) -> bytes:
    """Returns the first bytes of a file that can be read.

    Raises:
        FileNotFoundError: There is no such file.
        UserError: It is not a file, or is empty.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    if path.is_dir():  # those that hold recordings have been replaced by them
        raise UserError(f"{path}: the folder holds no recordings")
    if not path.is_file():
        raise UserError(f"{path}: not a regular file")
    with path.open("rb") as stream:  # says "permission denied" where libsndfile only fails
        head = stream.read(SIZE_FIELDS_END)
    if not head:
        raise UserError(f"{path}: the file is empty")
    return head


def open_recording(path: Path) -> Recording:
    """Reads the header of a recording.

    Raises:
        FileNotFoundError: There is no such file.
        UnknownFormatError: libsndfile cannot read it.
        UserError: It is not a file or is empty, or its header says that it holds no audio although
            it is too large for that.
    """
    head = require_audio_file(path)
    if path.suffix.lower() == ".raw":
        raise UserError(f"{path}: headerless audio says neither rate nor format; "
                        "convert it to WAV first")
    try:
        with sf.SoundFile(_native(path)) as file:
            size = path.stat().st_size
            share = _promised_share(head, size)
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


def read_blocks(recording: Recording) -> Iterator[np.ndarray]:
    """Yields the samples of a recording as float64 blocks `(samples, channels)`.

    Raises:
        UserError: The file is damaged.
    """
    block_samples = max(1, round(BLOCK_SECONDS * recording.rate))
    # Integers are read left-justified in 32 bits, which is exact. libsndfile's own conversion to
    # floating point and back is not: it divides by 2^15 but multiplies by 2^15 - 1.
    integer = BITS.get(ALAC_SUBTYPES.get(recording.subtype, recording.subtype)) is not None
    done = 0
    try:
        file = sf.SoundFile(_native(recording.path))
    except sf.LibsndfileError as error:  # it was there when the header was read
        raise UserError(f"{recording.path}: cannot be read any more "
                        f"({error.error_string.strip().rstrip('.')})") from error
    with file:
        if file.frames >= UNKNOWN_SAMPLES:
            # soundfile would seek to where it is after each block; in such a file that fails.
            file.seekable = lambda: False
        while True:
            try:
                block = file.read(block_samples, "int32" if integer else "float64",
                                  always_2d=True)
            except sf.LibsndfileError as error:
                raise UserError(f"{recording.path}: the file is damaged somewhere between "
                                f"{done / recording.rate:.0f} and "
                                f"{(done + block_samples) / recording.rate:.0f} s") from error
            if len(block) == 0:
                return
            done += len(block)
            yield block * 2.0**-31 if integer else block


def output_format(recording: Recording, samples: int) -> Format:
    """Returns the format of the results: that of the input if it is lossless, else 24-bit WAV.

    It is RF64 instead of WAV if `samples` are too many for WAV's 32-bit sizes.
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
        ending = ENDINGS[container][0]  # an ending of the user's own stays
    sample_bytes = (BITS[subtype] or {"FLOAT": 32, "DOUBLE": 64}[subtype]) // 8
    if container in ("WAV", "WAVEX") and (
            samples * recording.channels * sample_bytes > MAX_WAV_BYTES):
        container = "RF64"
    return Format(container, subtype, ending)


def round_to_steps(steps: np.ndarray, dither: Sequence[int] | None) -> np.ndarray:
    """Rounds samples that are counted in the steps of an integer format.

    Args:
        steps: Any shape.
        dither: When given, noise of two steps' width with a triangular density is added first,
            whose seed this is: then the error does not depend on the signal (Lipshitz, Wannamaker
            and Vanderkooy 1992). Samples that lie on a step already, as silence does, stay there.
    """
    rounded = np.rint(steps)
    if dither is None:
        return rounded
    rng = np.random.default_rng(dither)
    noise = rng.random(steps.shape)
    noise -= rng.random(steps.shape)
    return np.where(steps == rounded, rounded, np.rint(steps + noise))


def require_whole(path: Path, samples: int) -> None:
    """Raises OSError unless a file that was just written holds so many samples of each channel."""
    try:
        with sf.SoundFile(_native(path)) as file:
            present = file.frames  # by the size of the file, but for FLAC
            if file.format == "FLAC" and samples:
                file.seek(samples - 1)
                present = samples - 1 + len(file.read(1))
    except sf.LibsndfileError as error:
        raise _full_disk(path) from error
    if present < samples:
        raise _full_disk(path)


def _full_disk(path: Path) -> OSError:
    return OSError(f"{path.parent}: the results cannot be written there; is the disk full?")


class Writer:
    """Writes blocks to a file, which is replaced; a context manager.

    `clipped` counts the samples that lay beyond the range of an integer format.
    """

    def __init__(self, path: Path, rate: int, channels: int, output: Format,
                 dither_seed: int | None = None) -> None:
        """Opens the file; with `dither_seed`, samples of up to 16 bits are dithered."""
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
        """Closes the file, and makes sure that its end is there.

        Raises:
            OSError: It is not: libsndfile does not tell of a disk that is full only now.
        """
        try:
            self._file.close()
        except sf.LibsndfileError as error:
            raise _full_disk(self.path) from error
        if kind is None:
            require_whole(self.path, self._done)

    def write(self, block: np.ndarray) -> np.ndarray:
        """Writes a block, rounded to the nearest value that the format holds, and returns it so.

        Raises:
            OSError: The disk is full.
        """
        if self._bits is None:
            stored = block.astype(np.float32) if self._subtype == "FLOAT" else block
            self._store(stored)
            return stored.astype(np.float64)
        full_scale = 2.0 ** (self._bits - 1)
        dither = None
        if self._dither_seed is not None and self._bits <= DITHERED_BITS:
            dither = (self._dither_seed, self._done)
        steps = round_to_steps(block * full_scale, dither)
        within = np.clip(steps, -full_scale, full_scale - 1.0)
        self.clipped += int(np.count_nonzero(steps != within))
        self._store((within * 2.0 ** (32 - self._bits)).astype(np.int32))
        return within / full_scale

    def _store(self, samples: np.ndarray) -> None:
        try:
            self._file.write(samples)
        except sf.LibsndfileError as error:
            raise _full_disk(self.path) from error
        self._done += len(samples)
