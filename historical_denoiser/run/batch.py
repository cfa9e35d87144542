"""Recordings one after the other, or spread over machines: progress, failures, reports."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from historical_denoiser.core.checks import UserError, reason_of
from historical_denoiser.core.command_line import printable
from historical_denoiser.run.jobs import Job, why_failed
from historical_denoiser.run.journal import remove_journals
from historical_denoiser.run.report import REPORT_NAME, collected_warnings

logger = logging.getLogger(__name__)

MAX_NAME = 30  # characters beside the progress bar
TELL_EVERY_SECONDS = 60.0  # in a log, where there is no bar


def tells_report(tell: Callable[[], object], otherwise: str) -> bool:
    """Calls what adds to a report; where that fails, `otherwise` is said, and the results stay."""
    try:
        tell()
    except (UserError, OSError) as error:
        logger.warning("%s: %s", printable(otherwise), reason_of(error))
        return False
    return True


def attempt(job: Job, report: Callable[[float], object], forget: Callable[[], object],
            restore: Callable[..., dict[str, Any]]) -> dict[str, Any] | str:
    """Restores one recording, in whatever process this is.

    Args:
        job: What to read and to write.
        report: Called with the seconds of audio that are finished so far.
        forget: Called before anything gets the name of a result.
        restore: `denoise_recording` with all that the recordings of a run share.

    Returns:
        What is told of it in the report, with its warnings, or the reason why it failed.
    """
    finished = 0.0

    def add(seconds: float) -> None:
        nonlocal finished
        finished += seconds
        report(finished)

    try:
        with collected_warnings() as warnings:
            facts = restore(job, report=add, before_replacing=forget)
    except (UserError, OSError) as error:
        return why_failed(job.recording.path, error)
    # The other recordings must not wait until it is mended.
    except Exception as error:  # noqa: BLE001
        logger.error("%s: a fault of this program", job.recording.path, exc_info=error)
        return f"{job.recording.path}: a fault of this program ({type(error).__name__}: {error})"
    return facts | {"warnings": warnings}


def one_by_one(restore: Callable[..., dict[str, Any]], jobs: list[Job],
               report: Callable[[Job, float], object], forget: Callable[[Job], object],
               ) -> Iterator[tuple[Job, dict[str, Any] | str]]:
    """Restores recordings in this process; args and yields are those of `cluster.restore_all`."""
    for job in jobs:
        report(job, 0.0)
        yield job, attempt(job, functools.partial(report, job), functools.partial(forget, job),
                           restore)


def follow(jobs: list[Job],
           restore_all: Callable[..., Iterable[tuple[Job, dict[str, Any] | str]]],
           tell: Callable[[str], object], note: Callable[[Job, dict[str, Any]], object],
           forget: Callable[[Job], object]) -> dict[Path, str]:
    """Has recordings restored, shows how far that is, and reports what becomes of each.

    Args:
        jobs: What to do.
        restore_all: Does it: `one_by_one` or `cluster.restore_all`.
        tell: Called at once with the reason why a recording failed.
        note: Called with each job that is done and what the report tells of it. Where that fails,
            the recording is done nevertheless.
        forget: Called with each job before its results replace others.

    Returns:
        Why recordings failed.
    """
    failures = {}
    seconds = {job: job.recording.header_seconds for job in jobs}
    finished = dict.fromkeys(jobs, 0.0)
    last_told = time.monotonic()
    with (logging_redirect_tqdm(),
          # Blocks come in bursts, of which the last one tells where the work stands.
          tqdm(total=round(sum(seconds.values()), 1), unit="s", disable=None, leave=False,
               mininterval=0.0, miniters=0,
               bar_format="{desc}{percentage:3.0f}%|{bar}| {n:.0f} of {total:.0f} s of audio, "
                          "{remaining} left") as bar):

        def report(job: Job, so_far: float) -> None:
            nonlocal last_told
            if so_far == 0.0:
                name = job.recording.path.name
                bar.set_description(
                    name if len(name) <= MAX_NAME else name[:MAX_NAME] + "...")
            bar.update(so_far - finished[job])
            finished[job] = so_far
            if bar.disable and time.monotonic() >= last_told + TELL_EVERY_SECONDS:
                last_told = time.monotonic()
                logger.info("%.0f of %.0f s of audio are done", sum(finished.values()),
                            sum(seconds.values()))

        for job, outcome in restore_all(jobs, report, forget):
            if isinstance(outcome, str):
                failures[job.recording.path] = outcome
                tell(outcome)
            # A journal tells whose results these are until the report does.
            elif tells_report(functools.partial(note, job, outcome),
                               f"{job.denoised} is written, but {REPORT_NAME} cannot tell of it"):
                remove_journals(job.denoised)
            report(job, seconds[job])
    return failures
