"""Determines where the results of each recording go, and which of them are still to be made.

Start reading at `plan`.
"""

from __future__ import annotations

import glob
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from historical_denoiser.audio.removal import AUTO
from historical_denoiser.core.checks import UserError, reason_of, require
from historical_denoiser.core.files import remove_left_over
from historical_denoiser.formats import audio_io, containers, film
from historical_denoiser.run.extras import CUES, FILES, LABELS, TRACK_LISTS, ExtraSettings
from historical_denoiser.run.inputs import RESULT_NAME, names_given
from historical_denoiser.run.labels import read_clicks
from historical_denoiser.run.report import INTERRUPTED, read_results, why_not_done
from historical_denoiser.run.settings import ALL_TRACKS, InferenceConfig

logger = logging.getLogger(__name__)

HEADER_TOLERANCE_SECONDS = 0.1  # MP3 headers are rarely exact
# `/dev/stdin` may be a regular file, and `/dev/shm` is an ordinary folder.
DEVICES, SYSTEM_FOLDERS = Path("/dev"), frozenset((Path("/dev/fd"), Path("/proc"), Path("/sys")))


@dataclass(frozen=True)
class Job:
    """One recording and the files to write.

    Attributes:
        recording: The recording.
        denoised: The restored recording.
        residual: Input minus output.
        picture: Spectrograms of input, output and residual; None for no picture.
        by_stage: What each stage removed, by its name.
        lists: Lists of clicks, by the ends of their names.
        extras: What is wanted beside these files.
        film: Format of a film's track; None if the recording is not a film.
        parts: If several tracks of a film are denoised, a job for each of them; `tracks` replaces
            their recordings and restored films.
    """

    recording: audio_io.Recording
    denoised: Path
    residual: Path
    picture: Path | None
    film: film.FilmFormat | None = None
    by_stage: dict[str, Path] = field(default_factory=dict, hash=False)
    lists: dict[str, Path] = field(default_factory=dict, hash=False)
    extras: ExtraSettings = field(default_factory=ExtraSettings, hash=False)
    parts: tuple[Job, ...] = ()

    @property
    def results(self) -> list[Path]:
        """All files to write, starting with the restored recording."""
        if self.parts:
            return [self.denoised, *(path for part in self.parts for path in part.results[1:])]
        return [path for path in (self.denoised, self.residual, self.picture,
                                  *self.by_stage.values(), *self.lists.values())
                if path is not None]

    @property
    def rate(self) -> int:
        """The sample rate of the result; an encoder may not support that of the recording."""
        return self.recording.rate if self.film is None else self.film.rate


def strength_suffix(strength: float | str) -> str:
    """Returns the suffix of a result's name: `_s5` for 0.5, `_sauto` for auto, nothing for 1.

    The digits are those of the shortest decimal equal to `strength`, so that no two strengths have
    the same suffix.
    """
    if strength == AUTO:
        return f"_s{AUTO}"
    if strength == 1.0:
        return ""
    tenths = (Decimal(repr(abs(float(strength)))) * 10).normalize()
    return f"_s{tenths:f}"


def _place_in_folders(path: Path, folders: list[Path]) -> Path:
    """Returns the folder below `inference.output_dir` for the results of a recording.

    The tree below a requested folder is reproduced there. If several folders were requested, each
    gets a subfolder with its name.
    """
    for folder in folders:
        if path.is_relative_to(folder):
            inside = path.parent.relative_to(folder)
            return Path(os.path.basename(os.path.abspath(folder))) / inside if (
                len(folders) > 1) else inside
    return Path()


def make_job(recording: audio_io.Recording, settings: InferenceConfig,
             place: str | Path = "", whole_name: bool = False) -> Job:
    """Determines the names of the results of one recording.

    Args:
        recording: The recording.
        settings: The settings `inference`.
        place: Folder of the results, relative to `inference.output_dir` if that is set.
        whole_name: Whether the names include the ending of the recording.

    Raises:
        UserError: The recording is a film that cannot be written.
    """
    path = recording.path
    folder = path.parent if settings.output_dir is None else Path(settings.output_dir) / place
    name = path.name if whole_name else path.stem
    suffix = strength_suffix(settings.denoising_strength)

    def job_of(recording: audio_io.Recording, mark: str = "") -> Job:
        ending = audio_io.output_format(recording, recording.header_samples).ending
        output = None
        if isinstance(recording, containers.Track):
            if settings.speed == AUTO or settings.replay.speed != 1.0:
                raise UserError(f"{path}: inference.speed cannot be applied, " + (
                    "its pictures would no longer fit" if recording.is_film else
                    "as its packets have times; convert it to WAV or FLAC first"))
            output = film.choose_format(recording, settings.track_codec)
        return Job(recording,
                   folder / f"{name}_denoised{suffix}{output.ending if output else ending}",
                   folder / f"{name}_residual{mark}{suffix}{ending}",
                   folder / f"{name}_spectrogram{mark}{suffix}.png" if settings.spectrogram
                   else None, output,
                   {stage: folder / f"{name}_residual_{stage}{mark}{suffix}{ending}"
                    for stage in settings.stages_of_residual},
                   {end: folder / f"{name}{end[:-4]}{mark}{suffix}{end[-4:]}"
                    for end in settings.lists}, settings.extras)

    if (settings.track != ALL_TRACKS or recording.track is None
            or not isinstance(recording, containers.Track)):
        return job_of(recording)
    parts = tuple(job_of(containers.open_audio(path, number), f"_track{number}")
                  for number in range(1, recording.tracks + 1))
    muxers = {part.film.muxer for part in parts if part.film is not None}
    if len(muxers) != 1 or not muxers.isdisjoint(film.SOUND_ONLY):
        raise UserError(f"{path}: its tracks cannot be written into one file; name one with "
                        "inference.track=NUMBER")
    return replace(parts[0], parts=parts)


def is_of_system(folder: Path) -> bool:
    """Returns whether a folder belongs to the system's devices or processes.

    Root may write there, but a restart would delete the results.
    """
    real = Path(os.path.realpath(folder))
    return real == DEVICES or not SYSTEM_FOLDERS.isdisjoint((real, *real.parents))


def _require_writable(folder: Path) -> None:
    """Raises UserError if a folder, or the folder in which it would be made, is not writable."""
    if is_of_system(folder):
        raise UserError(f"{folder}: a folder of the system's devices, no place for results; name "
                        "one with inference.output_dir=FOLDER")
    present = folder
    while not os.path.lexists(present) and present != present.parent:
        present = present.parent
    if not present.is_dir():
        raise UserError(f"{folder}: results cannot be written there, {present} is not a folder")
    if not os.access(present, os.W_OK | os.X_OK):
        raise UserError(f"{folder}: results cannot be written there, no permission for {present}")


def require_free(job: Job, settings: InferenceConfig) -> None:
    """Raises UserError if a film is to be divided, or files of tracks are in the way."""
    if settings.tracks != FILES:
        return
    if job.film is not None:
        raise UserError(f"{job.recording.path}: a film cannot be divided into files; use "
                        f"inference.tracks={LABELS} or {CUES}")
    whole = job.denoised
    present = sorted(whole.parent.glob(
        f"{glob.escape(whole.stem)}_track[0-9]*{glob.escape(whole.suffix)}"))
    if present and not settings.overwrite and not job.lists[TRACK_LISTS[FILES]].exists():
        raise UserError(f"{present[0]} exists already; inference.overwrite=true replaces results")


def why_failed(recording: Path, error: UserError | OSError) -> str:
    """Returns the message of an error, which includes the name of the recording."""
    reason = reason_of(error)
    return reason if str(recording) in reason else f"{recording}: {reason}"


def report_folder(denoised: Path, settings: InferenceConfig) -> Path:
    """Returns the folder of the report for a result."""
    return denoised.parent if settings.output_dir is None else Path(settings.output_dir)


def plan(paths: list[Path], settings: InferenceConfig,
         made_with: Callable[[], dict[str, Any]] = dict) -> tuple[list[Job], dict[Path, str]]:
    """Checks all recordings and the places of their results before anything slow begins.

    Args:
        paths: The recordings.
        settings: The settings `inference`.
        made_with: Returns everything except the recordings that determines the results; only called
            if results exist.

    Returns:
        The jobs to do, and the reason for each recording that cannot be restored. Recordings that
        are done already, according to a report, are in neither.

    Raises:
        UserError: The output folder is a file, or a report cannot be read.
    """
    if settings.output_dir is not None:
        folder = Path(settings.output_dir)
        require(folder.is_dir() or not folder.exists(), "inference.output_dir", "a folder",
                settings.output_dir)
    if settings.keep_clicks is not None:
        require(len(paths) == 1, "inference.keep_clicks", "given with one recording alone",
                f"{len(paths)} recordings")
        read_clicks(Path(settings.keep_clicks))
    jobs, failures, listed = [], {}, names_given(settings.audio)
    folders = [path for path in listed if os.path.isdir(path)]
    for path in paths:
        try:
            track = None if settings.track == ALL_TRACKS else settings.track
            job = make_job(containers.open_audio(path, track), settings,
                           _place_in_folders(path, folders))
            _require_writable(job.denoised.parent)
            _require_writable(report_folder(job.denoised, settings))
            for result in job.results:  # not where a folder, a pipe or a device is
                if result.exists() and not result.is_file():
                    raise UserError(f"{result}: a result cannot be written there, it is not a "
                                    "regular file")
            require_free(job, settings)
            jobs.append(job)
        except (UserError, OSError) as error:
            failures[path] = why_failed(path, error) + listed.get(path, "")
    jobs, refused = _with_distinct_places(jobs, paths, settings)
    failures |= refused
    for folder in {folder for job in jobs
                   for folder in (job.denoised.parent, report_folder(job.denoised, settings))}:
        remove_left_over(folder, RESULT_NAME)
    # Also with `overwrite`, because adding to a report must not fail after hours of work.
    reports = {folder: read_results(folder)
               for folder in {report_folder(job.denoised, settings) for job in jobs}}
    if settings.overwrite:
        return jobs, failures
    return _not_done(jobs, failures, reports, settings, made_with)


def _not_done(jobs: list[Job], failures: dict[Path, str], reports: dict[Path, Any],
              settings: InferenceConfig, made_with: Callable[[], dict[str, Any]],
              ) -> tuple[list[Job], dict[Path, str]]:
    """Returns the jobs to do, and `failures` with those whose existing results differ.

    `reports` are the results of `read_results` by folder.
    """
    missing = []
    for job in jobs:
        path, folder = job.recording.path, report_folder(job.denoised, settings)
        present = [result for result in job.results if os.path.lexists(result)]
        if not present:
            missing.append(job)
            continue
        # To draw a picture or to write a list later, the recording is restored again.
        extras = [extra for part in job.parts or (job,)
                  for extra in (part.picture, *part.by_stage.values(), *part.lists.values())
                  if extra is not None and extra not in present]
        reason = why_not_done(reports[folder], folder, path,
                              [result for result in job.results if result not in extras],
                              made_with())
        if reason is None and extras:
            logger.info("%s: has its results already, but not %s: it is restored again", path,
                        " and ".join(map(str, extras)))
            missing.append(job)
        elif reason is None:
            logger.info("%s: has its results already and is left alone", path)
        elif reason == INTERRUPTED:
            logger.info("%s: a killed run left %s; they are made again", path,
                        " and ".join(map(str, present)))
            missing.append(job)
        else:
            failures[path] = (f"{path}: {' and '.join(map(str, present))} exist already, {reason}; "
                              "inference.overwrite=true replaces results")
    return missing, failures


def _with_distinct_places(jobs: list[Job], paths: list[Path], settings: InferenceConfig,
                          ) -> tuple[list[Job], dict[Path, str]]:
    """Renames results of several recordings that would be written to the same place.

    Recordings from several folders get subfolders of `inference.output_dir` with the same names.
    For recordings from one folder, the names of the results include the ending
    (`s.mp3_denoised.wav`).

    Returns:
        The jobs, and the reasons for those that are refused, because a result would replace a
        recording, or still has the place of another result.
    """
    for apart in (_into_subfolders, _with_whole_names):
        clashing = [job for group in _by_place(jobs).values() if len(group) > 1 for job in group]
        others = apart(clashing, settings)
        jobs = [others.get(job.recording.path, job) for job in jobs]
    inputs = {os.path.realpath(path) for path in (*paths, settings.keep_clicks) if path is not None}
    taken = _by_place(jobs)
    kept, refused = [], {}
    for job in jobs:
        path = job.recording.path
        places = [os.path.realpath(result) for result in job.results]
        if inputs.intersection(places):
            refused[path] = (f"{path}: a result of it, {' or '.join(map(str, job.results))}, would "
                             "replace a recording or list that this run reads; name another "
                             "inference.output_dir")
        elif any(len(taken[place]) > 1 for place in places):
            refused[path] = (f"{path}: another recording of this run would be written to "
                             f"{job.denoised} as well; denoise them in two runs, to two folders")
        else:
            kept.append(job)
    return kept, refused


def _by_place(jobs: list[Job]) -> dict[str, list[Job]]:
    """Returns the jobs that write to each place."""
    found: dict[str, list[Job]] = {}
    for job in jobs:
        for result in job.results:
            found.setdefault(os.path.realpath(result), []).append(job)
    return found


def _into_subfolders(jobs: list[Job], settings: InferenceConfig) -> dict[Path, Job]:
    """Reproduces the folders of recordings below `inference.output_dir`."""
    parents = {job.recording.path: os.path.abspath(job.recording.path.parent) for job in jobs}
    if settings.output_dir is None or len(set(parents.values())) < 2:
        return {}
    top = os.path.commonpath(parents.values())
    return {job.recording.path: make_job(job.recording, settings, Path(os.path.relpath(
        parents[job.recording.path], top))) for job in jobs}


def _with_whole_names(jobs: list[Job], settings: InferenceConfig) -> dict[Path, Job]:
    """Includes the endings of the recordings in the names of the results."""
    return {job.recording.path: make_job(
        job.recording, settings,
        "" if settings.output_dir is None else job.denoised.parent.relative_to(settings.output_dir),
        whole_name=True)
        for job in jobs}
