"""Reads stretches of clean and of noise recordings."""

import functools
from pathlib import Path

import numpy as np
import soundfile

from historical_denoiser.audio import dsp
from historical_denoiser.audio.dsp import SAMPLE_RATE
from historical_denoiser.core.checks import UserError
from historical_denoiser.formats.audio_io import UNKNOWN_SAMPLES

TURN_SECONDS = 60.0 / 78.26  # of a disc at the 78.26 turns per minute of the electrical era
CROSSFADE_SECONDS = 0.5
NOISE_BLOCK_SECONDS = 60.0  # longer recordings are read in blocks of once to twice this length
CACHED_NOISE_BLOCKS = 32  # at most 0.7 GB of memory


@functools.lru_cache(maxsize=1024)
def read_seconds(path: Path) -> float:
    """Returns the duration of an audio file.

    Raises:
        UserError: It cannot be read, is empty, or its header does not state the duration.
    """
    try:
        info = soundfile.info(path)
    except soundfile.LibsndfileError as error:
        raise UserError(error.error_string) from error
    if info.frames >= UNKNOWN_SAMPLES:
        raise UserError("its header does not say how long it is")
    if info.frames == 0:
        raise UserError("it is empty")
    return info.duration


def read_segment(path: Path, start_seconds: float, seconds: float) -> np.ndarray:
    """Reads a stretch of a file as mono float32 at 44.1 kHz; it is shorter at the file's end.

    Args:
        path: The file.
        start_seconds: Beginning of the stretch.
        seconds: Length of the stretch.

    Raises:
        UserError: It cannot be read, or holds samples that are not finite numbers.
    """
    try:
        with soundfile.SoundFile(path) as stream:
            rate = stream.samplerate
            stream.seek(min(round(start_seconds * rate), stream.frames))
            audio = stream.read(round(seconds * rate), dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise UserError(error.error_string) from error
    mono = audio.mean(axis=1) if audio.shape[1] > 1 else audio[:, 0]
    if not np.isfinite(mono).all():
        raise UserError("it holds samples that are not finite numbers")
    return dsp.resample(mono, rate, SAMPLE_RATE)


def read_noise(path: Path, rng: np.random.Generator) -> np.ndarray:
    """Reads a noise recording, or a random block of 60 to 120 s if it is longer.

    Returns:
        Mono audio at 44.1 kHz without its mean, float32 `(samples,)`, read-only and not empty.

    Raises:
        UserError: It cannot be read, or holds samples that are not finite numbers.
    """
    seconds = read_seconds(path)
    count = max(1, int(seconds / NOISE_BLOCK_SECONDS))
    return _read_block(path, int(rng.integers(count)), seconds / count)


@functools.lru_cache(maxsize=CACHED_NOISE_BLOCKS)
def _read_block(path: Path, number: int, seconds: float) -> np.ndarray:
    audio = read_segment(path, number * seconds, seconds)
    if not len(audio):
        raise UserError("it is shorter than its header says")
    audio = audio - audio.mean()
    audio.setflags(write=False)
    return audio


def take_stretch(noise: np.ndarray, samples: int, is_disc: bool, rng: np.random.Generator,
                 more: int = 0) -> np.ndarray:
    """Takes a random stretch of a recording, which is repeated first if it is too short.

    Args:
        noise: The recording, `(any,)`.
        samples: Length of the stretch.
        is_disc: Whether to repeat whole turns of a disc, so that its rhythm continues.
        rng: Draws where the stretch begins.
        more: Length of a second stretch that is appended. It does not overlap the first one if the
            recording is long enough.
    """
    if len(noise) <= samples:
        turn = round(TURN_SECONDS * SAMPLE_RATE) if is_disc else None
        noise = dsp.repeat_with_crossfade(noise, 2 * samples + len(noise),
                                          round(CROSSFADE_SECONDS * SAMPLE_RATE), turn)
    start = int(rng.integers(len(noise) - samples + 1))
    stretch, end = noise[start : start + samples], start + samples
    if not more:
        return stretch
    rest = np.concatenate([noise[end:], noise[:start]])
    # With a generator of its own, it does not change what is drawn next from `rng`.
    other = take_stretch(rest if len(rest) > more else noise, more, is_disc, rng.spawn(1)[0])
    return np.concatenate([stretch, other])
