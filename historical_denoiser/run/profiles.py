"""Reads the noise profile of a recording: from an excerpt, from a file, or from a found section.

Start reading at `read_profile`.
"""

import logging
import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from historical_denoiser.audio import dsp
from historical_denoiser.audio.blocks import cut
from historical_denoiser.audio.noise_profile import MAX_SECONDS, MIN_SECONDS, Origin
from historical_denoiser.audio.replay import UNCHANGED, Replay
from historical_denoiser.core.checks import UserError, is_number, reason_of, require
from historical_denoiser.formats import containers
from historical_denoiser.noise import finder

logger = logging.getLogger(__name__)

KEY = "inference.noise_profile"
ROUNDING_SECONDS = 1e-6  # 0.3 - 0.2 is less than 0.1 in floating point
TIMES = re.compile(r"[\d.]+,[\d.]+")  # two times without brackets


def check_choice(choice: Any) -> None:
    """Raises UserError unless a choice is "none", "auto", [start, end] in seconds or a file name.

    Whether such a file exists is checked by `check_file`.
    """
    if isinstance(choice, str) and choice:
        return
    require(isinstance(choice, list) and len(choice) == 2
            and all(map(is_number, choice)), KEY,
            "none, auto, [start, end] in seconds, or a file's name", choice)
    start, end = choice
    require(0.0 <= start < end < float("inf"), KEY,
            "[start, end] in seconds with 0 <= start < end", choice)
    require(end - start >= MIN_SECONDS - ROUNDING_SECONDS, KEY,
            f"[start, end] at least {MIN_SECONDS:g} s apart", choice)


def is_file(choice: Any) -> bool:
    """Returns whether a choice is the name of a file."""
    return isinstance(choice, str) and choice not in ("none", "auto")


def check_file(choice: Any) -> None:
    """Raises UserError if a choice names a file that cannot be read."""
    if not is_file(choice):
        return
    try:
        containers.open_audio(Path(choice))
    except (UserError, OSError) as error:
        hint = (f"; write two times in brackets: '{KEY}=[{choice}]'" if TIMES.fullmatch(choice)
                else "")
        raise UserError(f"`{KEY}` must be none, auto, [start, end] in seconds, or a file of noise; "
                        f"{reason_of(error)}{hint}") from error


def read_profile(choice: Any, read: Callable[[], Iterable[np.ndarray]], sample_rate: int,
                 samples: int, replay: Replay = UNCHANGED,
                 ) -> tuple[np.ndarray | None, Origin | None]:
    """Returns noise alone, `(samples, channels)` at the recording's rate, and where it was found.

    Both are None for no profile.

    Args:
        choice: A choice that `check_choice` accepts.
        read: Reads the recording from its start, in blocks `(samples, channels)`.
        sample_rate: Sample rate of the recording in Hz.
        samples: Length of the recording.
        replay: How its replay was corrected: a file is of the same transfer, and times are those
            of the file before.

    Raises:
        UserError: The excerpt is not within the recording, or the file is damaged.
        OSError: The file cannot be read.
    """
    if choice == "none":
        return None, None
    if choice == "auto":
        noise, origin, reason = finder.find_profile(read, sample_rate)
        if noise is None:
            logger.info("no section of noise alone was found: %s", reason)
        return noise, origin
    if isinstance(choice, str):
        recording = containers.open_audio(Path(choice))
        blocks = replace(replay, late_seconds=0.0).apply(containers.read_blocks(recording),
                                                         recording.rate)
        noise = cut(blocks, recording.rate, 0.0, MAX_SECONDS)
        return (dsp.resample(noise, recording.rate, sample_rate),
                Origin("file", len(noise) / recording.rate))
    start, end = choice
    rate = sample_rate / replay.speed
    require(round(end * rate) <= samples, KEY,
            f"within the recording, which is {samples / rate:.2f} s long", choice)
    noise = cut(read(), rate, start, min(end, start + MAX_SECONDS))
    return noise, Origin("given", len(noise) / sample_rate, start / replay.speed)
