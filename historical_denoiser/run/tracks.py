"""Restores several audio tracks of one film, one after the other.

A track is restored as that of any film; the film with it is what the next track is taken from.
Start reading at `denoise_tracks`.
"""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from historical_denoiser.core.files import locked, temporary_file
from historical_denoiser.formats import containers
from historical_denoiser.run.jobs import Job
from historical_denoiser.run.recording import denoise_recording


def denoise_tracks(job: Job, *, report: Callable[[float], object] = lambda seconds: None,
                   **shared: Any) -> dict[str, Any]:
    """Restores a recording, or each of the tracks in `job.parts`.

    Args:
        job: The recording, and the files to write.
        report: As in `denoise_recording`. Each track counts as its share of the whole length.
        shared: All other arguments of `denoise_recording`.

    Returns:
        The facts for the report: those of the first track, and those of all under `tracks`.

    Raises:
        UserError, OSError: As `denoise_recording`.
    """
    if not job.parts:
        return denoise_recording(job, report=report, **shared)

    def advance(seconds: float) -> None:
        report(seconds / len(job.parts))

    facts: list[dict[str, Any]] = []
    with ExitStack() as stack:
        film = job.recording.path
        for part in job.parts:
            result = job.denoised
            if part is not job.parts[-1]:
                result = stack.enter_context(temporary_file(
                    job.denoised.parent, f".{job.denoised.name}.", job.denoised.suffix))
            track = containers.open_track(film, part.recording.track)
            facts.append(denoise_recording(
                replace(part, recording=track, denoised=result), report=advance, **shared))
            if result != job.denoised:
                stack.enter_context(locked(result))
            film = result
    return facts[0] | {"tracks": facts}
