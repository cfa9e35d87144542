"""Reading and writing of recordings, block by block: memory does not grow with their length.

Blocks are float64 arrays `(samples, channels)`. Integer formats of any width, and float formats,
pass through reading and writing without the change of one bit.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile as sf

from denoiser.audio import dsp
from denoiser.checks import UserError

BLOCK_SECONDS = 10.0  # read at once
FRAME_SECONDS = 0.1  # over which the level is measured
LARGEST_WAV_BYTES = 2**32 - 2**16  # the sizes in a WAV file are 32-bit; some room for the header
# libsndfile's note on a container whose header gives another size than the file has, and the sizes
# that programs write when they do not know it yet.
CUT_OFF = re.compile(r"^\s*(?:RIFF|FORM|riff|Riff size|Data Size)\s*: (\d+) \(should be (\d+)\)",
                     re.MULTILINE)
PLACEHOLDER_BYTES = (range(2**31 - 2**13, 2**31 + 2**13), range(2**32 - 2**16, 2**32))
LARGEST_HEADER_BYTES = 4096  # of a file without any audio
UNKNOWN_SAMPLES = 2**62  # libsndfile's number for "the header does not say" is beyond this

# What a file's content is called when its name does not say, and which names fit.
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
LOSSY_ENDINGS = (".mp3", ".mp2", ".ogg", ".oga", ".opus")
# What a folder is searched for.
AUDIO_ENDINGS = frozenset(LOSSY_ENDINGS) | {
    ending for endings in ENDINGS.values() for ending in endings} - {".mat", ".iff"}
# Bits of the sample formats that hold what is written to them; None for floating point.
BITS = {"PCM_S8": 8, "PCM_U8": 8, "PCM_16": 16, "PCM_24": 24, "PCM_32": 32,
        "FLOAT": None, "DOUBLE": None}
SAMPLE_BYTES = {"PCM_S8": 1, "PCM_U8": 1, "PCM_16": 2, "PCM_24": 3, "PCM_32": 4, "FLOAT": 4,
                "DOUBLE": 8}
# libsndfile reads Apple's lossless codec but does not write every sample as it was.
ALAC_SUBTYPES = {"ALAC_16": "PCM_16", "ALAC_20": "PCM_24", "ALAC_24": "PCM_24",
                 "ALAC_32": "PCM_32"}
LOSSY_CONTAINER, LOSSY_SUBTYPE = "WAV", "PCM_24"


@dataclass(frozen=True)
class Format:
    """How a result is stored: libsndfile's names of container and sample format, and the ending."""

    container: str
    subtype: str
    ending: str


@dataclass(frozen=True)
class Recording:
    """A file that libsndfile can read.

    `header_samples` is what the header says, of a file that was cut off more than there are, and
    0 where it says nothing (FLAC from a pipe); only reading tells how many there are.
    """

    path: Path
    rate: int
    channels: int
    header_samples: int
    container: str
    subtype: str


@dataclass(frozen=True)
class Survey:
    """What one pass over a recording tells.

    Attributes:
        samples: Length of each channel.
        power: Variance over the active parts, mean of the channels that are not constant.
        source: For each channel the first channel that is identical to it, or -1 where it is
            constant: digital silence.
    """

    samples: int
    power: float
    source: tuple[int, ...]

    @property
    def distinct(self) -> list[int]:
        """The channels that have to be denoised."""
        return sorted(set(self.source) - {-1})


class _Stream(sf.SoundFile):
    """A file of unknown length, in which soundfile would look for its place after every block."""

    def seekable(self) -> bool:
        return False


def _native(path: Path) -> bytes | str:
    """Returns a name as libsndfile takes it, also one that is not valid UTF-8."""
    return os.fsencode(path) if os.name == "posix" else str(path)


def open_recording(path: Path) -> Recording:
    """Reads the header of a recording.

    Args:
        path: The file.

    Returns:
        The `Recording`.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no file, empty or not audio that libsndfile reads, or its header denies
            the audio that it holds.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    if not path.is_file():
        raise UserError(f"{path}: not a regular file")
    with path.open("rb") as stream:  # says "permission denied" where libsndfile only fails
        if not stream.read(1):
            raise UserError(f"{path}: the file is empty")
    if path.suffix.lower() == ".raw":
        raise UserError(f"{path}: headerless audio says neither rate nor format; "
                        "convert it to WAV first")
    try:
        with sf.SoundFile(_native(path)) as file:
            samples = file.frames if file.frames < UNKNOWN_SAMPLES else 0
            promised = _promised_share(file.extra_info)
            size = path.stat().st_size
            if file.frames == 0 and (promised > 1.0 or size > LARGEST_HEADER_BYTES):
                raise UserError(f"{path}: no audio can be read from its {size} bytes; was the "
                                "recording broken off before its header was written?")
            samples = round(samples * promised)
            return Recording(path, file.samplerate, file.channels, samples, file.format,
                             file.subtype)
    except sf.LibsndfileError as error:
        raise UserError(f"{path}: not audio that can be read "
                        f"({error.error_string.strip().rstrip('.')})") from error


def _promised_share(header_log: str) -> float:
    """Returns the size that a container's header promises over the size that the file has.

    libsndfile reads a WAV or AIFF file that was cut off up to its end, as if that were its length.
    """
    found = CUT_OFF.search(header_log)
    if found is None:
        return 1.0
    promised, present = map(int, found.groups())
    if present <= 0 or any(promised in sizes for sizes in PLACEHOLDER_BYTES):
        return 1.0
    return max(1.0, promised / present)


def read_blocks(recording: Recording) -> Iterator[np.ndarray]:
    """Yields the samples of a recording as float64 blocks `(samples, channels)`.

    Raises:
        ValueError: The file is damaged.
    """
    block_samples = max(1, round(BLOCK_SECONDS * recording.rate))
    # Integers come left-justified in 32 bits: exact, which libsndfile's own scaling is not both
    # ways (it divides by 2^15 but multiplies by 2^15 - 1).
    integer = BITS.get(ALAC_SUBTYPES.get(recording.subtype, recording.subtype)) is not None
    done = 0
    kind = sf.SoundFile if recording.header_samples else _Stream
    with kind(_native(recording.path)) as file:
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


def survey(recording: Recording) -> Survey:
    """Reads a whole recording once and checks it.

    Args:
        recording: From `open_recording`.

    Returns:
        The `Survey`.

    Raises:
        ValueError: The file is damaged or holds NaN or infinite samples.
    """
    frame_samples = max(1, round(FRAME_SECONDS * recording.rate))
    frame_powers = []
    first = None
    constant = np.ones(recording.channels, bool)
    digests = [hashlib.blake2b() for _ in range(recording.channels)]
    done = 0
    for block in read_blocks(recording):
        finite = np.isfinite(block).all(axis=1)
        if not finite.all():
            second = (done + int(np.argmin(finite))) / recording.rate
            raise UserError(f"{recording.path}: the file holds NaN or infinite samples, the first "
                            f"at {second:.3f} s")
        first = block[0] if first is None else first
        constant &= (block == first).all(axis=0)
        for channel, digest in enumerate(digests):
            digest.update(np.ascontiguousarray(block[:, channel]))
        whole = len(block) // frame_samples * frame_samples
        frame_powers.append(
            block[:whole].reshape(-1, frame_samples, recording.channels).var(axis=1))
        if whole < len(block):
            frame_powers.append(block[None, whole:].var(axis=1))
        done += len(block)
    if constant.all():
        return Survey(done, 0.0, (-1,) * recording.channels)
    names = [digest.digest() for digest in digests]
    return Survey(
        samples=done,
        power=dsp.active_power(np.concatenate(frame_powers)[:, ~constant].mean(axis=1)),
        source=tuple(-1 if constant[channel] else names.index(names[channel])
                     for channel in range(recording.channels)))


def output_format(recording: Recording, samples: int) -> Format:
    """Returns the format of the results: that of a lossless input, else 24-bit WAV.

    Args:
        recording: The input.
        samples: Length of each channel.

    Returns:
        The `Format`; WAV becomes RF64 where its 32-bit sizes do not suffice.
    """
    subtype = ALAC_SUBTYPES.get(recording.subtype, recording.subtype)
    container = recording.container
    if subtype not in BITS:
        container, subtype = LOSSY_CONTAINER, LOSSY_SUBTYPE
    elif container not in ENDINGS:  # odd, but lossless
        container = LOSSY_CONTAINER
        subtype = subtype if sf.check_format(container, subtype) else LOSSY_SUBTYPE
    ending = recording.path.suffix
    known = {other for endings in ENDINGS.values() for other in endings} | set(LOSSY_ENDINGS)
    if ending.lower() not in ENDINGS[container] and (
            container != recording.container or not ending or ending.lower() in known):
        ending = ENDINGS[container][0]
    if container in ("WAV", "WAVEX") and (
            samples * recording.channels * SAMPLE_BYTES[subtype] > LARGEST_WAV_BYTES):
        container = "RF64"
    return Format(container, subtype, ending)


class Writer:
    """Writes blocks to a new file; a context manager.

    Args:
        path: The file, which is replaced.
        rate: In Hz.
        channels: Number of channels.
        output: The format.

    Attributes:
        clipped: How many samples lay beyond what an integer format holds.
    """

    def __init__(self, path: Path, rate: int, channels: int, output: Format) -> None:
        self.path = path
        self.clipped = 0
        self._bits, self._subtype = BITS[output.subtype], output.subtype
        try:
            self._file = sf.SoundFile(_native(path), "w", rate, channels, output.subtype,
                                      format=output.container)
        except sf.LibsndfileError as error:
            raise UserError(f"{path.parent}: no {output.container} file of {channels} channels "
                            f"at {rate} Hz can be written there") from error

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def write(self, block: np.ndarray) -> np.ndarray:
        """Writes a block, rounded to the nearest value that the format holds.

        Args:
            block: float64 `(samples, channels)`.

        Returns:
            The block as it was written.

        Raises:
            OSError: The disk is full.
        """
        if self._bits is None:
            stored = block.astype(np.float32) if self._subtype == "FLOAT" else block
            self._store(stored)
            return stored.astype(np.float64)
        full_scale = 2.0 ** (self._bits - 1)
        steps = np.rint(block * full_scale)
        within = np.clip(steps, -full_scale, full_scale - 1.0)
        self.clipped += int(np.count_nonzero(steps != within))
        self._store((within * 2.0 ** (32 - self._bits)).astype(np.int32))
        return within / full_scale

    def _store(self, samples: np.ndarray) -> None:
        try:
            self._file.write(samples)
        except sf.LibsndfileError as error:
            raise OSError(f"{self.path.parent}: the results cannot be written there; "
                          "is the disk full?") from error
