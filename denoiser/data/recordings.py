"""Reading stretches of clean and of noise recordings."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import soundfile

from denoiser.audio import dsp
from denoiser.audio.audio_io import UNKNOWN_SAMPLES
from denoiser.audio.dsp import SAMPLE_RATE
from denoiser.checks import UserError

TURN_SECONDS = 60.0 / 78.26  # of a disc at the electrical era's 78.26 turns per minute
CROSSFADE_SECONDS = 0.5
NOISE_BLOCK_SECONDS = 60.0  # a longer recording is read in blocks of this length up to twice it
NOISE_BLOCKS = 32  # that are kept in memory, at most 0.7 GB


def read_segment(path: Path, start_seconds: float, seconds: float) -> np.ndarray:
    """Reads a part of a file as mono float32 at 44.1 kHz; shorter at the file's end."""
    with soundfile.SoundFile(path) as stream:
        rate = stream.samplerate
        stream.seek(min(round(start_seconds * rate), stream.frames))
        audio = stream.read(round(seconds * rate), dtype="float32", always_2d=True)
    mono = audio.mean(axis=1) if audio.shape[1] > 1 else audio[:, 0]
    return dsp.resample(mono, rate, SAMPLE_RATE)


def read_noise(path: Path, rng: np.random.Generator) -> np.ndarray:
    """Returns a noise recording without its mean, or of a long one a block of 60 to 120 s.

    Args:
        path: The file.
        rng: Chooses the block.

    Returns:
        float32 `(samples,)` at 44.1 kHz, read-only.

    Raises:
        UserError: The file's header does not say how long it is.
        soundfile.LibsndfileError: The file cannot be read.
    """
    count, seconds = _count_blocks(path)
    return _read_block(path, int(rng.integers(count)) if count > 1 else 0, seconds)


@functools.lru_cache(maxsize=1024)
def _count_blocks(path: Path) -> tuple[int, float]:
    """Returns in how many blocks a noise recording is read, and how many seconds each has."""
    info = soundfile.info(path)
    if info.frames >= UNKNOWN_SAMPLES:
        raise UserError("its header does not say how long it is")
    seconds = info.duration
    count = max(1, int(seconds / NOISE_BLOCK_SECONDS))
    return count, seconds / count


@functools.lru_cache(maxsize=NOISE_BLOCKS)
def _read_block(path: Path, number: int, seconds: float) -> np.ndarray:
    """Reads one block of a noise recording; many minutes of it would fill the memory."""
    audio = read_segment(path, number * seconds, seconds)
    audio = audio - audio.mean() if len(audio) else audio
    audio.setflags(write=False)
    return audio


def take_stretch(noise: np.ndarray, samples: int, is_disc: bool, rng: np.random.Generator,
                 ) -> np.ndarray:
    """Takes a random stretch of `samples`; a short recording is repeated first.

    A disc is repeated in whole turns, so that its noise goes on in its rhythm.
    """
    if len(noise) <= samples:
        turn = round(TURN_SECONDS * SAMPLE_RATE) if is_disc else None
        noise = dsp.repeat_with_crossfade(noise, 2 * samples + len(noise),
                                          round(CROSSFADE_SECONDS * SAMPLE_RATE), turn)
    start = int(rng.integers(len(noise) - samples + 1))
    return noise[start : start + samples]
