"""Finds the recordings to denoise, and determines where their results go.

Start reading at `find_recordings` and `plan`.
"""

from __future__ import annotations

import functools
import glob
import logging
import math
import os
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from historical_denoiser.audio.removal import (
    AUTO,
    NO_LIMITS,
    Strength,
    check_band,
    check_noise_floor,
    check_per_band,
)
from historical_denoiser.audio.replay import Replay, read_curve, read_speed
from historical_denoiser.core.checks import UserError, reason_of, require
from historical_denoiser.core.files import remove_left_over
from historical_denoiser.formats import audio_io, containers, film
from historical_denoiser.network.stored import NetworkSettings
from historical_denoiser.restoration import chain
from historical_denoiser.restoration.separation import SEGMENT_SECONDS
from historical_denoiser.restoration.settings import RETIRED, STAGES, StageSettings, without_retired
from historical_denoiser.run import profiles
from historical_denoiser.run.extras import BY_STAGE, CUES, FILES, LABELS, TRACK_LISTS, ExtraSettings
from historical_denoiser.run.labels import read_clicks
from historical_denoiser.run.report import INTERRUPTED, read_results, why_not_done

logger = logging.getLogger(__name__)

RUNTIMES = ("auto", "onnx", "keras")
HEADER_TOLERANCE_SECONDS = 0.1  # MP3 headers are rarely exact
CLUSTERS, AZIMUTHS = ("none", "ray"), ("none", AUTO)
ALL_TRACKS = "all"
LIST_ENDINGS = frozenset((".txt", ".m3u", ".m3u8"))  # endings of lists of file names
STREAM_TAG = "#EXT-X-"  # used by playlists of streams only (RFC 8216, 4.3)
# `/dev/stdin` may be a regular file, and `/dev/shm` is an ordinary folder.
DEVICES, SYSTEM_FOLDERS = Path("/dev"), frozenset((Path("/dev/fd"), Path("/proc"), Path("/sys")))
PARTS_OF_RESIDUAL = {"repair": "repair", **chain.ORDER}  # by stage, with their switches
OWN_RESULT = re.compile(r"(?P<origin>.*)_(denoised|residual(_(" + "|".join(PARTS_OF_RESIDUAL) +
                        r"))?(_track[0-9]+)?)(_s([0-9.]+|auto))?"
                        r"(_track[0-9]+)?", re.DOTALL)
# Part of each result's name.
RESULT_NAME = re.compile("(^|_)(denoised|residual|spectrogram|clicks|tracks)")


@dataclass
class InferenceConfig(StageSettings, ExtraSettings):
    """The settings `inference`: the recordings, the stages, and the results."""

    # A file, folder, pattern or list of names (.txt, .m3u), or several of them.
    audio: Any = None
    output_dir: str | None = None  # null: beside the input
    denoising_strength: Any = 1.0  # in [0, 1], or auto to fit it to the recording
    # Pairs [from_hz, strength]: factors of the strength, each valid from a frequency upwards.
    strength_per_band: Any = None
    noise_floor_db: float | None = None  # lower noise by at most this many dB; null: no limit
    # [lower, upper] limit in Hz of the restored recording; null for no limit.
    band_hz: Any = None
    segment_seconds: float = SEGMENT_SECONDS  # new audio in each step; memory grows with it
    # Audio before and after a segment that the network takes into account.
    context_seconds: float = NetworkSettings.context_seconds
    overwrite: bool = False  # replace existing results
    resume: bool = False  # store finished segments, and continue a run that was killed
    spectrogram: bool = False  # draw input, output and residual
    # Noise alone: [start, end] in seconds of the recording, a file, auto to find it, or none.
    noise_profile: Any = "none"
    # The replay: a name of `audio.replay.CURVES`, or "500,-13.7": turnover in Hz, dB at 10 kHz.
    replay_curve: Any = None
    transfer_curve: Any = None  # that of the preamplifier of the transfer, which is undone
    speed: Any = 1.0  # a factor, or 78.26>80; or auto, to bring mains hum to 50 or 60 Hz
    azimuth: str = "none"  # auto to align the two channels of a tape
    track: Any = None  # number of a film's audio track, from 1; null: the default track; or all
    track_codec: str = "same"  # codec of that track in the result: same, flac or pcm
    # onnx, keras, or auto: ONNX if the weights were exported, but Keras for long work on a GPU.
    runtime: str = "auto"
    cluster: str = "none"  # ray to use several machines
    cluster_address: str = "local"  # this machine only; or auto, or HOST:PORT of a cluster's head
    cluster_cores: int = 4  # cores per worker; all of the largest machine if it has fewer
    # Accepted with a warning, since these stages were removed; see `RETIRED`.
    level_noise: Any = None
    keep_strokes: Any = None
    wiener: Any = None
    find_noise: Any = None
    follow_noise: Any = None

    def __post_init__(self) -> None:
        super().__post_init__()
        ExtraSettings.__post_init__(self)
        without_retired({name: value for name in RETIRED
                         if (value := getattr(self, name)) is not None})
        share = self.denoising_strength
        require(share == AUTO or (isinstance(share, int | float) and not isinstance(share, bool)
                                  and 0.0 <= share <= 1.0), "inference.denoising_strength",
                "in [0, 1] or auto", share)
        self.denoising_strength = share if share == AUTO else float(share)
        check_per_band(self.strength_per_band or [], "inference.strength_per_band")
        check_noise_floor(self.noise_floor_db, "inference.noise_floor_db")
        check_band(self.band_hz or NO_LIMITS, "inference.band_hz")
        require(self.tracks == "none" or not self.strength.removes_nothing, "inference.tracks",
                "none at strength 0, since pauses are found by the noise estimate", self.tracks)
        require(0.01 <= self.segment_seconds < math.inf, "inference.segment_seconds",
                 "at least 0.01 and finite", self.segment_seconds)
        require(0.0 <= self.context_seconds < math.inf, "inference.context_seconds",
                 "at least 0 and finite", self.context_seconds)
        require(self.audio is None or isinstance(self.audio, str)
                 or (isinstance(self.audio, list)
                     and all(isinstance(name, str) for name in self.audio)),
                 "inference.audio", "a file name or a list of file names", self.audio)
        profiles.check_choice(self.noise_profile)
        require(self.azimuth in AZIMUTHS, "inference.azimuth", f"one of {', '.join(AZIMUTHS)}",
                self.azimuth)
        _ = self.replay  # checks the rest
        require(self.track in (None, ALL_TRACKS) or (
            isinstance(self.track, int) and not isinstance(self.track, bool) and self.track >= 1),
            "inference.track", f"a number from 1, or {ALL_TRACKS}", self.track)
        require(self.track != ALL_TRACKS or not self.resume, "inference.resume",
                f"left out with inference.track={ALL_TRACKS}", self.resume)
        require(self.track != ALL_TRACKS or not self.premis, "inference.premis",
                f"left out with inference.track={ALL_TRACKS}", self.premis)
        for name, choices in (("runtime", RUNTIMES), ("track_codec", film.CHOICES),
                              ("cluster", CLUSTERS)):
            value = getattr(self, name)
            require(value in choices, f"inference.{name}", f"one of {', '.join(choices)}", value)
        require(self.cluster_cores >= 1, "inference.cluster_cores", "at least 1",
                self.cluster_cores)
        for name in ("cluster_address", "cluster_cores"):
            value = getattr(self, name)
            require(self.cluster != "none" or value == getattr(InferenceConfig, name),
                    f"inference.{name}", "left out without inference.cluster=ray", value)

    @property
    def stages(self) -> StageSettings:
        """The stages around the network."""
        return StageSettings(**{name: getattr(self, name) for name in STAGES})

    @property
    def stages_of_residual(self) -> list[str]:
        """Names of the stages that get a file of what they removed."""
        return [name for name, switch in PARTS_OF_RESIDUAL.items() if self.residual == BY_STAGE
                and (switch is None or self.is_on(switch))]

    @property
    def replay(self) -> Replay:
        """How the replay is corrected."""
        finds_speed = self.speed == AUTO
        return Replay(read_curve(self.replay_curve, "inference.replay_curve"),
                      read_curve(self.transfer_curve, "inference.transfer_curve"),
                      read_speed(1.0 if finds_speed else self.speed, "inference.speed"),
                      self.azimuth == AUTO, finds_speed=finds_speed)

    @property
    def strength(self) -> Strength:
        """The share of the noise that is removed, by all settings together."""
        bands = tuple((float(edge), float(share)) for edge, share in self.strength_per_band or [])
        return Strength(self.denoising_strength, bands, self.noise_floor_db,
                        band_hz=tuple(self.band_hz or NO_LIMITS))


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


def _named(audio: str | list[str] | None) -> dict[Path, str]:
    """Returns the files and folders given by names, patterns and lists of names.

    Returns:
        Each path with its origin: " (line 3 of the list tapes.txt)", or an empty string if it is
        not from a list.
    """
    names = [audio] if isinstance(audio, str) else audio or []
    found: dict[Path, str] = {}
    for name in names if "" not in names else ():
        path = Path(name)
        if path.suffix.lower() in LIST_ENDINGS and os.path.isfile(path):
            for line, listed in _read_list(path).items():
                found.setdefault(listed, f" (line {line} of the list {name})")
        elif glob.has_magic(name) and not os.path.lexists(name):
            # A pattern without a match is kept, and reported as a missing file.
            found |= dict.fromkeys(map(Path, sorted(glob.glob(name, recursive=True)) or [path]), "")
        else:
            found[path] = ""
    return found


def _read_list(path: Path) -> dict[int, Path]:
    """Returns the paths in a text file by their line numbers; `#` starts a comment line.

    Relative paths start at the folder of the file.

    Raises:
        UserError: The file is not text, has no names, or is the playlist of a stream.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: a list of recordings must be UTF-8 text") from error
    if any(line.startswith(STREAM_TAG) for line in lines):
        raise UserError(f"{path}: the playlist of a stream (HLS), whose pieces are no recordings; "
                        "join them into one file first")
    names = {number: path.parent / line.strip() for number, line in enumerate(lines, start=1)
             if line.strip() and not line.startswith("#")}
    if not names:
        raise UserError(f"{path}: the list names no recordings")
    return names


def find_recordings(audio: str | list[str] | None) -> list[Path]:
    """Returns the requested files, and all recordings in requested folders.

    Args:
        audio: Names of files and folders, patterns (`disc*/*.wav`, unless a file has this name),
            and text files with one name per line. In folders, hidden files and the results of
            earlier runs are ignored. A requested file is ignored if its name is that of a result of
            another requested file, since a shell's `*.wav` matches both.

    Returns:
        Each file once, including files that do not exist and folders without recordings.

    Raises:
        UserError: Nothing was requested, or a list has no names.
    """
    paths = _named(audio)
    if not paths:
        raise UserError("no recording given. Usage: denoise FILE... [key=value ...]")
    found: dict[str, Path] = {}
    _results_in.cache_clear()
    for path in paths:
        if os.path.isdir(path):  # False without permission; this is reported later
            inside = _recordings_in(path)
            recordings = [item for item in inside if not _is_reported(item, path)]
            if len(recordings) < len(inside):
                logger.info("%s: %d results of earlier runs are left out", path,
                            len(inside) - len(recordings))
            recordings = recordings or [path]  # the folder is reported as empty
        else:
            recordings = [path]
        for item in recordings:
            found.setdefault(os.path.abspath(item), item)
    # The name of a result begins with that of its recording, sometimes with the ending.
    origins = {os.path.splitext(place)[0] for place in found} | set(found)
    results = [place for place in found
               if (match := OWN_RESULT.fullmatch(os.path.splitext(place)[0]))
               and match["origin"] in origins]
    for place in results:
        logger.info("%s: a result of an earlier run, left out", found.pop(place))
    return list(found.values())


def _recordings_in(top: Path) -> list[Path]:
    """Returns the files in a folder that have the ending of a recording, and logs all others."""
    inside, others = [], Counter()
    for item in (top, *sorted(top.rglob("*"))):
        if os.path.isdir(item):
            if not os.access(item, os.R_OK | os.X_OK):
                logger.warning("%s: no permission to look into this folder", item)
            elif item != top and item.is_symlink():
                logger.warning("%s: a link to a folder, which is not followed", item)
        elif any(part.startswith(".") for part in item.relative_to(top).parts):
            continue
        elif item.suffix.lower() in audio_io.AUDIO_ENDINGS | containers.ENDINGS:
            if item.is_file():
                inside.append(item)
            else:
                logger.warning("%s: a link to nothing, or no regular file; left out", item)
        elif not RESULT_NAME.search(item.name):
            others[item.suffix.lower() or "no ending"] += 1
    if others:
        logger.info("%s: left out, as their endings are not those of recordings: %s", top,
                    ", ".join(f"{count} x {ending}" for ending, count in sorted(others.items())))
    return inside


def _is_reported(path: Path, top: Path) -> bool:
    """Returns whether a report has a file as a result: one beside it, or above it up to `top`."""
    if not OWN_RESULT.fullmatch(path.stem):
        return False  # without reading reports for every file
    for folder in path.parents:
        try:
            results = _results_in(folder)
        except UserError:
            results = frozenset()  # `plan` raises the error if results go there
        if os.path.relpath(path, folder) in results:
            return True
        if folder == top:
            break
    return False


@functools.lru_cache(maxsize=8)  # recordings of one folder follow each other
def _results_in(folder: Path) -> frozenset[str]:
    """Returns the names of all results in the report of a folder."""
    return frozenset(os.path.normpath(name) for entry in read_results(folder).values()
                     for name in entry.get("files", ()))


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

    if settings.track != ALL_TRACKS or recording.track is None:
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


def _require_free(job: Job, settings: InferenceConfig) -> None:
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
    jobs, failures, listed = [], {}, _named(settings.audio)
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
            _require_free(job, settings)
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

    Args:
        jobs, failures: The jobs and failures so far.
        reports: Results of `read_results` by folder.
        settings, made_with: As in `plan`.
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
