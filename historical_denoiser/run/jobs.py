"""What `inference.py` is asked to do: which recordings are denoised, and where results go."""

from __future__ import annotations

import dataclasses
import functools
import glob
import logging
import math
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from historical_denoiser.audio.removal import AUTO, Strength, check_noise_floor, check_per_band
from historical_denoiser.core.checks import UserError, reason_of, require
from historical_denoiser.core.files import hash_of, remove_left_over
from historical_denoiser.formats import audio_io, containers, film
from historical_denoiser.network.stored import NetworkSettings
from historical_denoiser.restoration.restorer import SEGMENT_SECONDS
from historical_denoiser.restoration.settings import RETIRED, STAGES, StageSettings, without_retired
from historical_denoiser.run import profiles
from historical_denoiser.run.journal import has_journal
from historical_denoiser.run.report import hash_of_values, read_results, why_not_done

logger = logging.getLogger(__name__)

RUNTIMES = ("auto", "onnx", "keras")
HEADER_TOLERANCE_SECONDS = 0.1  # MP3 headers are rarely exact
CLUSTERS = ("none", "ray")
LIST_ENDINGS = frozenset((".txt", ".m3u", ".m3u8"))  # of files that hold names
STREAM_TAG = "#EXT-X-"  # only playlists of streams have it (RFC 8216, 4.3)
# `/dev/stdin` is a file where the shell opened one. Below `/dev`, `shm` is a folder like others.
DEVICES, SYSTEM_FOLDERS = Path("/dev"), frozenset((Path("/dev/fd"), Path("/proc"), Path("/sys")))
OWN_RESULT = re.compile(r"(?P<origin>.*)_(denoised|residual)(_s([0-9.]+|auto))?", re.DOTALL)
RESULT_NAME = re.compile("(^|_)(denoised|residual|spectrogram)")  # is found in each result's name


@dataclass
class InferenceConfig(StageSettings):
    """What is denoised and how: the stages around the network, and all else."""

    # A file, folder, pattern or list of names (.txt, .m3u), or several of them.
    audio: Any = None
    output_dir: str | None = None  # beside the input when absent
    denoising_strength: Any = 1.0  # in [0, 1], or auto: what fits the recording
    # Pairs [from_hz, strength], by which the strength is multiplied from each frequency on.
    strength_per_band: Any = None
    noise_floor_db: float | None = None  # noise is lowered by at most so much; absent: by all
    segment_seconds: float = SEGMENT_SECONDS  # new audio in each step; memory grows with it
    # Audio on both sides that a step sees but does not return.
    context_seconds: float = NetworkSettings.context_seconds
    overwrite: bool = False
    resume: bool = False  # keep what is finished, and go on there after a run that was killed
    spectrogram: bool = False
    # Noise alone: [start, end] in seconds of the recording, a file, auto (found in it), or none.
    noise_profile: Any = "none"
    track: int | None = None  # which audio track of a film, from 1; absent: the default one
    track_codec: str = "same"  # or flac, pcm: how that track is written
    # What computes the network: onnx, keras, or auto: the former where there is such a file, the
    # latter where not, and where a GPU is worth loading TensorFlow.
    runtime: str = "auto"
    cluster: str = "none"  # or ray: spread the recordings over several machines
    cluster_address: str = "local"  # this machine alone; or auto, or HOST:PORT of a cluster's head
    cluster_cores: int = 4  # of each worker; all of the largest machine if it has fewer
    level_noise: Any = None  # of the release before, as is the next; accepted, and of no effect
    keep_strokes: Any = None

    def __post_init__(self) -> None:
        super().__post_init__()
        without_retired({name: getattr(self, name) for name in RETIRED
                         if getattr(self, name) is not None})
        share = self.denoising_strength
        require(share == AUTO or (isinstance(share, int | float) and not isinstance(share, bool)
                                  and 0.0 <= share <= 1.0), "inference.denoising_strength",
                "in [0, 1] or auto", share)
        self.denoising_strength = share if share == AUTO else float(share)
        check_per_band(self.strength_per_band or [], "inference.strength_per_band")
        check_noise_floor(self.noise_floor_db, "inference.noise_floor_db")
        require(0.01 <= self.segment_seconds < math.inf, "inference.segment_seconds",
                 "at least 0.01 and finite", self.segment_seconds)
        require(0.0 <= self.context_seconds < math.inf, "inference.context_seconds",
                 "at least 0 and finite", self.context_seconds)
        require(self.audio is None or isinstance(self.audio, str)
                 or (isinstance(self.audio, list)
                     and all(isinstance(name, str) for name in self.audio)),
                 "inference.audio", "a file name or a list of file names", self.audio)
        profiles.check_choice(self.noise_profile)
        require(self.track is None or self.track >= 1, "inference.track", "at least 1", self.track)
        require(self.runtime in RUNTIMES, "inference.runtime", f"one of {', '.join(RUNTIMES)}",
                self.runtime)
        require(self.track_codec in film.CHOICES, "inference.track_codec",
                f"one of {', '.join(film.CHOICES)}", self.track_codec)
        require(self.cluster in CLUSTERS, "inference.cluster", f"one of {', '.join(CLUSTERS)}",
                self.cluster)
        require(self.cluster_cores >= 1, "inference.cluster_cores", "at least 1",
                self.cluster_cores)
        for field in dataclasses.fields(self):
            if field.name in ("cluster_address", "cluster_cores"):
                value = getattr(self, field.name)
                require(self.cluster != "none" or value == field.default,
                        f"inference.{field.name}", "left out without inference.cluster=ray", value)

    @property
    def stages(self) -> StageSettings:
        """The stages around the network."""
        return StageSettings(**{name: getattr(self, name) for name in STAGES})

    @property
    def strength(self) -> Strength:
        """How much of the noise is removed, all settings together."""
        bands = tuple((float(edge), float(share)) for edge, share in self.strength_per_band or [])
        return Strength(self.denoising_strength, bands, self.noise_floor_db)


@dataclass(frozen=True)
class Job:
    """One recording and where its results go; `film` says how a track of a film is written."""

    recording: audio_io.Recording
    denoised: Path
    residual: Path
    picture: Path | None
    film: film.FilmFormat | None = None

    @property
    def results(self) -> list[Path]:
        """All files that the job writes."""
        return [path for path in (self.denoised, self.residual, self.picture) if path is not None]

    @property
    def rate(self) -> int:
        """The sample rate of what is written; an encoder may not know the recording's."""
        return self.recording.rate if self.film is None else self.film.rate


def _named(audio: str | list[str] | None) -> dict[Path, str]:
    """Returns the files and folders that names, patterns and lists of names stand for.

    With each comes where a list names it: " (line 3 of the list tapes.txt)", else nothing.
    """
    names = [audio] if isinstance(audio, str) else audio or []
    found: dict[Path, str] = {}
    for name in names if "" not in names else ():
        path = Path(name)
        if path.suffix.lower() in LIST_ENDINGS and os.path.isfile(path):
            for line, listed in _read_list(path).items():
                found.setdefault(listed, f" (line {line} of the list {name})")
        elif glob.has_magic(name) and not os.path.lexists(name):
            # Without any match, the name is told to be none.
            found |= dict.fromkeys(map(Path, sorted(glob.glob(name, recursive=True)) or [path]), "")
        else:
            found[path] = ""
    return found


def _read_list(path: Path) -> dict[int, Path]:
    """Returns the names in a text file by their lines; `#` starts a comment line.

    They start at its folder.

    Raises:
        UserError: It is not text, holds no names, or is the playlist of a stream.
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
    """Returns the files that were asked for; a folder stands for all recordings in it.

    Args:
        audio: Names of files and folders, patterns (`disc*/*.wav`, where no file has that very
            name), and text files with a name in each line. In folders, hidden files and the
            results of earlier runs are left out. A file is taken whatever its name is, unless it
            is named as a result of another one here is: a shell's `*.wav` finds both.

    Returns:
        Each file once. What does not exist, and a folder without recordings, is among them.

    Raises:
        UserError: Nothing was asked for, or a list holds no names.
    """
    paths = _named(audio)
    if not paths:
        raise UserError("no recording given. Usage: denoise FILE... [key=value ...]")
    found: dict[str, Path] = {}
    _results_in.cache_clear()
    for path in paths:
        if os.path.isdir(path):  # False also where one may not look: that file is reported later
            below = sorted(path.rglob("*"))
            for folder in (path, *below):
                if os.path.isdir(folder) and not os.access(folder, os.R_OK | os.X_OK):
                    logger.warning("%s: no permission to look into this folder", folder)
            inside = [item for item in below
                      if item.suffix.lower() in audio_io.AUDIO_ENDINGS | containers.ENDINGS
                      and item.is_file()
                      and not any(part.startswith(".") for part in item.relative_to(path).parts)]
            recordings = [item for item in inside if not _is_told_of(item, path)]
            if len(recordings) < len(inside):
                logger.info("%s: %d results of earlier runs are left out", path,
                            len(inside) - len(recordings))
            recordings = recordings or [path]  # the others are done, and this one is told
        else:
            recordings = [path]
        for item in recordings:
            found.setdefault(os.path.abspath(item), item)
    # The name of a result holds that of its recording, sometimes with the ending.
    origins = {os.path.splitext(place)[0] for place in found} | set(found)
    results = [place for place in found
               if (match := OWN_RESULT.fullmatch(os.path.splitext(place)[0]))
               and match["origin"] in origins]
    for place in results:
        logger.info("%s: a result of an earlier run, left out", found.pop(place))
    return list(found.values())


def _is_told_of(path: Path, top: Path) -> bool:
    """Whether a report beside a file, or in a folder above it up to `top`, has it as a result."""
    if not OWN_RESULT.fullmatch(path.stem):
        return False  # saves reading reports for every file
    for folder in path.parents:
        try:
            told = _results_in(folder)
        except UserError:
            told = frozenset()  # a report that cannot be read is told of where results go
        if os.path.relpath(path, folder) in told:
            return True
        if folder == top:
            break
    return False


@functools.lru_cache(maxsize=8)  # a folder's recordings follow on each other
def _results_in(folder: Path) -> frozenset[str]:
    """Returns the names of all files that the report in a folder has as results."""
    return frozenset(os.path.normpath(name) for entry in read_results(folder).values()
                     for name in entry.get("files", ()))


def strength_suffix(strength: float | str) -> str:
    """Returns what a result's name says about the strength: `_s5` for 0.5, nothing for 1.

    `auto` has the name `_sauto`.

    The digits are those of the shortest decimal that means `strength`, so that no two strengths
    share a name.
    """
    if strength == AUTO:
        return f"_s{AUTO}"
    if strength == 1.0:
        return ""
    tenths = (Decimal(repr(abs(float(strength)))) * 10).normalize()
    return f"_s{tenths:f}"


def _place_in_folders(path: Path, audio: str | list[str] | None) -> Path:
    """Returns in which folder below `inference.output_dir` the results of a recording belong.

    The tree below a folder that was asked for is built again there; of several such folders each
    has its name there.
    """
    folders = _folders_named(audio if isinstance(audio, str) else tuple(audio or ()))
    for folder in folders:
        if path.is_relative_to(folder):
            inside = path.parent.relative_to(folder)
            return Path(os.path.basename(os.path.abspath(folder))) / inside if (
                len(folders) > 1) else inside
    return Path()


@functools.lru_cache(maxsize=1)  # the same for each recording of a run
def _folders_named(audio: str | tuple[str, ...]) -> list[Path]:
    return [folder for folder in _named(audio if isinstance(audio, str) else list(audio))
            if os.path.isdir(folder)]


def make_job(recording: audio_io.Recording, settings: InferenceConfig,
             place: Path | None = None, whole_name: bool = False) -> Job:
    """Names the results of one recording.

    Args:
        recording: What will be read.
        settings: The `inference` settings.
        place: The folder below `inference.output_dir`; when absent, by the folders asked for.
        whole_name: Whether the names of results begin with the recording's ending as well.

    Raises:
        UserError: The recording is a film that cannot be written.
    """
    path = recording.path
    folder = path.parent
    if settings.output_dir is not None:
        folder = Path(settings.output_dir) / (
            _place_in_folders(path, settings.audio) if place is None else place)
    name = path.name if whole_name else path.stem
    suffix = strength_suffix(settings.denoising_strength)
    ending = audio_io.output_format(recording, recording.header_samples).ending
    output = None
    if isinstance(recording, containers.Track):
        output = film.choose_format(recording, settings.track_codec)
    return Job(recording,
               folder / f"{name}_denoised{suffix}{output.ending if output else ending}",
               folder / f"{name}_residual{suffix}{ending}",
               folder / f"{name}_spectrogram{suffix}.png" if settings.spectrogram else None,
               output)


def is_of_system(folder: Path) -> bool:
    """Returns whether a folder is one of the system's devices or processes.

    Root may write there, where nobody looks for results and a restart deletes them.
    """
    real = Path(os.path.realpath(folder))
    return real == DEVICES or not SYSTEM_FOLDERS.isdisjoint((real, *real.parents))


def _require_writable(folder: Path) -> None:
    """Raises UserError where no file can be made in a folder that exists or will be made."""
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


def _require_replaceable(result: Path) -> None:
    """Raises UserError where the name of a result is that of a folder, a pipe or a device."""
    if result.exists() and not result.is_file():
        raise UserError(f"{result}: a result cannot be written there, what has that name is not a "
                        "regular file")


def why_failed(recording: Path, error: UserError | OSError) -> str:
    """Returns what an error says of a recording, with its name."""
    reason = reason_of(error)
    return reason if str(recording) in reason else f"{recording}: {reason}"


def report_folder(denoised: Path, settings: InferenceConfig) -> Path:
    """Returns the folder of the report that tells of a result."""
    return denoised.parent if settings.output_dir is None else Path(settings.output_dir)


def plan(paths: list[Path], settings: InferenceConfig,
         made_with: Callable[[], dict[str, Any]] = dict) -> tuple[list[Job], dict[Path, str]]:
    """Looks at all files before anything slow begins.

    Args:
        paths: The recordings.
        settings: The `inference` settings.
        made_with: Returns what decides on the results beside the recordings; called where there
            are results already.

    Returns:
        What is to be done, and for each file that cannot be done the reason. Those that are done
        already, by the report beside their results, are neither.

    Raises:
        UserError: The output folder is a file, or a report cannot be read.
    """
    if settings.output_dir is not None:
        folder = Path(settings.output_dir)
        require(folder.is_dir() or not folder.exists(), "inference.output_dir", "a folder",
                settings.output_dir)
    jobs, failures, listed = [], {}, _named(settings.audio)
    _folders_named.cache_clear()  # folders may have come since
    for path in paths:
        try:
            job = make_job(containers.open_audio(path, settings.track), settings)
            _require_writable(job.denoised.parent)
            _require_writable(report_folder(job.denoised, settings))
            for result in job.results:
                _require_replaceable(result)
            jobs.append(job)
        except (UserError, OSError) as error:
            failures[path] = why_failed(path, error) + listed.get(path, "")
    jobs, refused = _told_apart(jobs, paths, settings)
    failures |= refused
    for folder in {folder for job in jobs
                   for folder in (job.denoised.parent, report_folder(job.denoised, settings))}:
        remove_left_over(folder, RESULT_NAME)
    # Whatever is asked: each will be added to, which must not fail after hours of work.
    reports = {folder: read_results(folder)
               for folder in {report_folder(job.denoised, settings) for job in jobs}}
    if settings.overwrite:
        return jobs, failures
    return _not_done(jobs, failures, reports, settings, made_with)


def _not_done(jobs: list[Job], failures: dict[Path, str], reports: dict[Path, Any],
              settings: InferenceConfig, made_with: Callable[[], dict[str, Any]],
              ) -> tuple[list[Job], dict[Path, str]]:
    """Returns the jobs without results, and `failures` with those whose results are others'."""
    missing = []
    for job in jobs:
        path, folder = job.recording.path, report_folder(job.denoised, settings)
        present = [result for result in job.results if os.path.lexists(result)]
        if not present:
            missing.append(job)
            continue
        # A picture can be drawn later, by doing the same once more.
        undrawn = job.picture is not None and job.picture not in present
        reason = why_not_done(reports[folder], folder, path,
                              [job.denoised, job.residual] if undrawn else job.results,
                              made_with())
        if reason is None and undrawn:
            logger.info("%s: has its results already, but no picture: it is done again", path)
            missing.append(job)
        elif reason is None:
            logger.info("%s: has its results already and is left alone", path)
        elif settings.resume and has_journal(job.denoised, hash_of(path),
                                             hash_of_values(made_with())):
            logger.info("%s: a run that was killed left these results, it is finished", path)
            missing.append(job)
        else:
            failures[path] = (f"{path}: {' and '.join(map(str, present))} exist already, {reason}; "
                              "inference.overwrite=true replaces results")
    return missing, failures


def _told_apart(jobs: list[Job], paths: list[Path], settings: InferenceConfig,
                ) -> tuple[list[Job], dict[Path, str]]:
    """Gives results of their own to recordings whose results would have the same place.

    Those from several folders get subfolders of `inference.output_dir`, named as theirs; those from
    one folder names with the recording's ending (`s.mp3_denoised.wav`).

    Returns:
        The jobs, and the reasons for those that are refused: a result would replace a recording,
        or there is no such name.
    """
    for apart in (_into_subfolders, _with_whole_names):
        clashing = [job for group in _by_place(jobs).values() if len(group) > 1 for job in group]
        others = apart(clashing, settings)
        jobs = [others.get(job.recording.path, job) for job in jobs]
    inputs, taken = {os.path.realpath(path) for path in paths}, _by_place(jobs)
    kept, refused = [], {}
    for job in jobs:
        path = job.recording.path
        places = [os.path.realpath(result) for result in job.results]
        if inputs.intersection(places):
            refused[path] = (f"{path}: a result of it, {' or '.join(map(str, job.results))}, would "
                             "replace a recording of this run; name another inference.output_dir")
        elif any(len(taken[place]) > 1 for place in places):
            refused[path] = (f"{path}: another recording of this run would be written to "
                             f"{job.denoised} as well; denoise them in two runs, to two folders")
        else:
            kept.append(job)
    return kept, refused


def _by_place(jobs: list[Job]) -> dict[str, list[Job]]:
    """Returns which jobs write to each place."""
    found: dict[str, list[Job]] = {}
    for job in jobs:
        for result in job.results:
            found.setdefault(os.path.realpath(result), []).append(job)
    return found


def _into_subfolders(jobs: list[Job], settings: InferenceConfig) -> dict[Path, Job]:
    """Puts results below `inference.output_dir` as their recordings lie below a common folder."""
    parents = {job.recording.path: os.path.abspath(job.recording.path.parent) for job in jobs}
    if settings.output_dir is None or len(set(parents.values())) < 2:
        return {}
    top = os.path.commonpath(parents.values())
    return {job.recording.path: make_job(job.recording, settings, Path(os.path.relpath(
        parents[job.recording.path], top))) for job in jobs}


def _with_whole_names(jobs: list[Job], settings: InferenceConfig) -> dict[Path, Job]:
    """Names results with the endings of their recordings."""
    return {job.recording.path: make_job(
        job.recording, settings,
        None if settings.output_dir is None else job.denoised.parent.relative_to(
            settings.output_dir),
        whole_name=True)
        for job in jobs}
