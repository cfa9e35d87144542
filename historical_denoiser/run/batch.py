"""Restores many recordings: shows the progress, collects failures, and reports each result.

Start reading at `follow`.
"""

import functools
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from historical_denoiser.core.checks import UserError, reason_of
from historical_denoiser.core.command_line import printable
from historical_denoiser.core.progress import Pace, ticking
from historical_denoiser.run.jobs import Job, why_failed
from historical_denoiser.run.journal import remove_journals
from historical_denoiser.run.report import REPORT_NAME, collected_warnings

logger = logging.getLogger(__name__)

MAX_NAME = 30  # characters of a file name beside the progress bar
LOG_EVERY_SECONDS = 60.0  # interval of progress messages if there is no progress bar

# The facts about a restored recording for the report, or the reason why it failed.
Outcome = dict[str, Any] | str


def try_to_report(write: Callable[[], object], warning: str) -> bool:
    """Calls `write`, which adds to a report; logs `warning` and returns False if that fails."""
    try:
        write()
    except (UserError, OSError) as error:
        logger.warning("%s: %s", printable(warning), reason_of(error))
        return False
    return True


def attempt(job: Job, report: Callable[[float], object], before_replacing: Callable[[], object],
            restore: Callable[..., dict[str, Any]]) -> Outcome:
    """Restores one recording, in this process or in a worker of a cluster.

    Args:
        job: The recording, and the files to write.
        report: Called with the seconds of audio finished so far.
        before_replacing: Called before existing results are replaced.
        restore: `denoise_recording` with the arguments that all recordings of a run share.

    Returns:
        The facts for the report, with all warnings about the recording, or the reason why it
        failed.
    """
    finished = 0.0

    def add(seconds: float) -> None:
        nonlocal finished
        finished += seconds
        report(finished)

    try:
        with collected_warnings() as warnings:
            facts = restore(job, report=add, before_replacing=before_replacing)
    except (UserError, OSError) as error:
        return why_failed(job.recording.path, error)
    # A bug that shows with one recording must not stop the others.
    except Exception as error:  # noqa: BLE001
        logger.error("%s: a fault of this program", job.recording.path, exc_info=error)
        return f"{job.recording.path}: a fault of this program ({type(error).__name__}: {error})"
    return facts | {"warnings": warnings}


def one_by_one(restore: Callable[..., dict[str, Any]], jobs: list[Job],
               report: Callable[[Job, float], object], before_replacing: Callable[[Job], object],
               ) -> Iterator[tuple[Job, Outcome]]:
    """Restores recordings in this process.

    Args:
        restore: As in `attempt`.
        jobs, report, before_replacing: As in `cluster.restore_all`.

    Yields:
        Each job with its outcome.
    """
    for job in jobs:
        report(job, 0.0)
        yield job, attempt(job, functools.partial(report, job),
                           functools.partial(before_replacing, job), restore)


def follow(jobs: list[Job], restore_all: Callable[..., Iterable[tuple[Job, Outcome]]],
           on_failure: Callable[[str], object], on_success: Callable[[Job, dict[str, Any]], object],
           before_replacing: Callable[[Job], object]) -> dict[Path, str]:
    """Restores recordings and shows the progress.

    Args:
        jobs: The recordings.
        restore_all: `one_by_one` or `cluster.restore_all`.
        on_failure: Called immediately with the reason why a recording failed.
        on_success: Called with each finished job and its facts, to add them to the report. If this
            fails, the results are kept.
        before_replacing: Called with each job before its results replace existing ones.

    Returns:
        The recordings that failed, with the reasons.
    """
    failures = {}
    seconds = {job: job.recording.header_seconds for job in jobs}
    finished = dict.fromkeys(jobs, 0.0)
    last_logged = time.monotonic()
    pace = Pace(round(sum(seconds.values()), 1))
    with (logging_redirect_tqdm(),
          tqdm(total=pace.total, unit="s", disable=None, leave=False,
               bar_format="{desc}{percentage:3.0f}%|{bar}| {n:.0f} of {total:.0f} s of audio, "
                          "{remaining} left") as bar, ExitStack() as stack):

        def show() -> None:
            bar.n = pace.estimate()
            bar.refresh()

        if not bar.disable:
            stack.enter_context(ticking(show))

        def report(job: Job, so_far: float) -> None:
            nonlocal last_logged
            if so_far == 0.0:
                name = job.recording.path.name
                bar.set_description(name if len(name) <= MAX_NAME else name[:MAX_NAME] + "...")
            pace.add(so_far - finished[job])
            finished[job] = so_far
            if bar.disable and time.monotonic() >= last_logged + LOG_EVERY_SECONDS:
                last_logged = time.monotonic()
                logger.info("%.0f of %.0f s of audio are done", sum(finished.values()),
                            sum(seconds.values()))

        for job, outcome in restore_all(jobs, report, before_replacing):
            if isinstance(outcome, str):
                failures[job.recording.path] = outcome
                on_failure(outcome)
            # Without an entry in the report, the results are made again, from the journal.
            elif try_to_report(functools.partial(on_success, job, outcome),
                               f"{job.denoised} is written, but {REPORT_NAME} does not list it"):
                remove_journals(job.denoised)
            report(job, seconds[job])
    return failures
