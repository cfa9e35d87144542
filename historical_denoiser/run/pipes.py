"""Restores what comes through standard input, and writes to standard output, as WAV.

`-` stands for standard input as a recording, and for standard output as the folder of the results.
Both lead through files in a temporary folder, since a recording is read several times. Start
reading at `through_pipes`.
"""

import logging
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from historical_denoiser.core.checks import UserError, reason_of, require
from historical_denoiser.core.files import temporary_folder
from historical_denoiser.formats import audio_io, containers
from historical_denoiser.run.jobs import make_job
from historical_denoiser.run.settings import ALL_TRACKS, InferenceConfig

logger = logging.getLogger(__name__)

PIPE = "-"
WAVES = ("WAV", "WAVEX", "RF64")


def uses_pipes(settings: InferenceConfig) -> bool:
    """Returns whether standard input or output is named."""
    return PIPE in (*_names(settings), settings.output_dir)


def _names(settings: InferenceConfig) -> list[str]:
    return [settings.audio] if isinstance(settings.audio, str) else settings.audio or []


def through_pipes(settings: InferenceConfig, denoise: Callable[[InferenceConfig], Any]) -> None:
    """Calls `denoise` with files in place of standard input and output.

    Args:
        settings: The settings `inference`, for which `uses_pipes` is true.
        denoise: Restores the recording that the settings name.

    Raises:
        UserError: Several recordings are named, standard input is empty or no recording, or nobody
            reads standard output any more.
    """
    names = _names(settings)
    require(len(names) == 1, "inference.audio", f"one recording, with {PIPE}", names)
    require(settings.track != ALL_TRACKS, "inference.track", f"a number, with {PIPE}",
            settings.track)
    to_stdout = settings.output_dir in (None, PIPE)
    if to_stdout and sys.stdout.isatty():
        raise UserError("standard output is a terminal: name a program (| PROGRAM) or a file "
                        "(> FILE) for the restored WAV file")
    with temporary_folder("denoise") as folder:
        source = Path(names[0])
        if names[0] == PIPE:
            source = _receive(folder / "stdin")
        try:
            if names[0] == PIPE or to_stdout:
                source, settings = _as_wave(source, folder, settings)
            settings = replace(settings, audio=[str(source)],
                               output_dir=str(folder / "results") if to_stdout
                               else settings.output_dir)
            denoise(settings)
        except (UserError, OSError, SystemExit) as error:
            text = str(error.code) if isinstance(error, SystemExit) else reason_of(error)
            for name in (str(source), str(folder / "stdin")):
                text = text.replace(name, "standard input" if names[0] == PIPE else names[0])
            raise UserError(text.removeprefix("error: ")) from error
        if to_stdout:
            _send(make_job(containers.open_audio(source), settings).denoised)


def _receive(path: Path) -> Path:
    """Writes standard input to a file."""
    if sys.stdin.isatty():
        raise UserError("standard input is a terminal: a recording is expected from a program or "
                        "file (PROGRAM | denoise -)")
    with path.open("wb") as file:
        shutil.copyfileobj(sys.stdin.buffer, file)
    if not path.stat().st_size:
        raise UserError("standard input is empty: a recording is expected")
    return path


def _as_wave(source: Path, folder: Path, settings: InferenceConfig) -> tuple[Path, InferenceConfig]:
    """Returns a recording as a WAV file, made in `folder` if necessary, and settings for it."""
    recording = containers.open_audio(source, settings.track)
    place = folder / f"{source.stem}.wav"
    if recording.container not in WAVES or isinstance(recording, containers.Track):
        output = audio_io.output_format(recording, recording.header_samples)
        if output.container not in WAVES:
            output = replace(output, container=audio_io.LOSSY_CONTAINER)
        with audio_io.Writer(place, recording.rate, recording.channels, output) as writer:
            for block in containers.read_blocks(recording):
                writer.write(block)
    elif source.parent == folder:
        source.rename(place)
    else:
        place = source
    return place, replace(settings, track=None, track_codec="same")


def _send(path: Path) -> None:
    """Writes a file to standard output."""
    try:
        with path.open("rb") as file:
            shutil.copyfileobj(file, sys.stdout.buffer)
        sys.stdout.buffer.flush()
    except BrokenPipeError as error:
        # Or Python would fail once more when it flushes the rest at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise UserError("standard output was closed by the program that read it, before all was "
                        "written") from error
    logger.info("the restored recording is written to standard output")
