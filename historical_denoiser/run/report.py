"""The report of a run, a JSON file beside its results that shows the next run what is done already.

A report has an entry for each result in its folder: the hash of the recording, the network and the
settings, and the sizes of the files. A result counts as done only if all of these are the same.
Entries without sizes, under `unfinished`, are of results that a run was about to rename.
Start reading at `RunReport` and `why_not_done`.
"""

import hashlib
import json
import logging
import math
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from historical_denoiser.core.checks import UserError
from historical_denoiser.core.files import hash_of, held, replacing

REPORT_NAME = "denoised_report.json"
VERSION = 1  # version of the report's format
# Version of the results, a part of `made_with`. It is raised with every change of the program that
# changes the results for the same recording, weights and settings.
RESULTS_VERSION = 25
PACKAGE = "historical_denoiser"  # only its warnings are reported
INTERRUPTED = "left by a run that was killed"  # the reason for results that are made again


def hash_of_values(values: Any) -> str:
    """Returns the SHA-256 of values that JSON can represent."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


class Levels:
    """Measures the levels of a recording, of its restored version, and of the residual."""

    def __init__(self) -> None:
        self._powers = dict.fromkeys(("input", "output", "residual"), 0.0)
        self._values = 0

    def add(self, **blocks: np.ndarray) -> None:
        """Adds one block each of `input`, `output` and `residual`."""
        for name, block in blocks.items():
            self._powers[name] += float(np.square(block).sum())
        self._values += blocks["input"].size

    def describe(self) -> dict[str, Any]:
        """Returns the RMS levels in dBFS, None for silence, and the change of level in dB."""
        dbfs = {name: round(10.0 * math.log10(power / self._values), 2) if power > 0.0 else None
                for name, power in self._powers.items()}
        before, after = dbfs["input"], dbfs["output"]
        return {"level_dbfs": dbfs, "removed_db": None if before is None or after is None
                else round(before - after, 2)}


@contextmanager
def passed_on(use: Callable[[logging.LogRecord], object], level: int) -> Iterator[None]:
    """Calls `use` with each log record of this program of at least `level`."""
    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            use(record)

    handler = Handler(level)
    handler.addFilter(logging.Filter(PACKAGE))
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)


@contextmanager
def collected_warnings() -> Iterator[list[str]]:
    """Yields a list to which the text of every warning of this program is added."""
    messages: list[str] = []
    with passed_on(lambda record: messages.append(record.getMessage()), logging.WARNING):
        yield messages


def read_results(folder: Path) -> dict[str, dict[str, Any]]:
    """Returns the entries of the report in a folder by the results' names, or an empty dictionary.

    Entries of results that were being renamed have no `files`.

    Raises:
        UserError: The file is not a report, cannot be read, or was written by a later release.
    """
    path = folder / REPORT_NAME
    # Reading a pipe or a device may never end.
    if os.path.exists(path) and not os.path.isfile(path):
        raise UserError(f"{path} must be a report in JSON, and is no regular file; remove it")
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})") from error
    except ValueError as error:  # neither UTF-8 nor JSON
        raise UserError(f"{path} must be a report in JSON; remove it ({error})") from error
    version = report.get("version") if isinstance(report, dict) else None
    if isinstance(version, int) and version > VERSION:
        raise UserError(f"{path} must be a report of version {VERSION} or lower. Received: version "
                        f"{version}, of a later release; use that, or another folder of results")
    parts: list[Any] = [report.get("results"), report.get("unfinished", {})] if isinstance(
        report, dict) else [None]
    if not all(isinstance(part, dict) and all(isinstance(entry, dict) for entry in part.values())
               for part in parts):
        raise UserError(f"{path} must be a report with `results`; remove it")
    return parts[0] | parts[1]


def name_in(folder: Path, result: Path) -> str:
    """Returns the name of a result in the report of a folder."""
    return Path(os.path.relpath(result, folder)).as_posix()


def why_not_done(entries: dict[str, dict[str, Any]], folder: Path, recording: Path,
                 results: Iterable[Path], made_with: dict[str, Any]) -> str | None:
    """Returns why existing results are not the ones that this call would write, or None.

    Args:
        entries: Result of `read_results`.
        folder: Folder of the report.
        recording: The file that would be restored.
        results: The requested files, starting with the restored recording. Other files that were
            written with them are ignored.
        made_with: Everything except the recording that determines the results.
    """
    results = list(results)
    entry = entries.get(name_in(folder, results[0]))
    if entry is None:
        return f"and no {REPORT_NAME} tells what they were made of"
    if entry.get("made_with") != made_with:
        return "made by other weights or settings"
    if "files" not in entry:
        return INTERRUPTED
    written, sizes = entry.get("files"), _sizes(folder, results)
    if not isinstance(written, dict) or len(sizes) < len(results) or any(
            written.get(name) != size for name, size in sizes.items()):
        return "and not as they were written, or not all"
    if entry.get("input_sha256") != hash_of(recording):
        return "made of another recording"
    return None


def _sizes(folder: Path, results: Iterable[Path]) -> dict[str, int]:
    return {name_in(folder, path): path.stat().st_size for path in results if path.is_file()}


class RunReport:
    """The report of a run in one folder of results. Entries of earlier runs are kept."""

    def __init__(self, folder: Path, run: dict[str, Any], made_with: dict[str, Any],
                 began: str | None = None) -> None:
        """Starts a report without writing it.

        Args:
            folder: Folder of the report.
            run: Facts about the run.
            made_with: Everything except the recordings that determines the results.
            began: Start of the run, from `now`; the current time if None.
        """
        self.folder, self._made_with = folder, made_with
        self._run = {"began": began or now()} | run | {"done": [], "failed": {}}

    def add(self, recording: Path, results: Iterable[Path], facts: dict[str, Any]) -> None:
        """Adds a restored recording, and writes the report.

        Args:
            recording: The recording.
            results: The files written, starting with the restored recording.
            facts: Result of `denoise_recording`.

        Raises:
            UserError: The existing report cannot be read.
            OSError: The report cannot be written.
        """
        results = list(results)
        name = name_in(self.folder, results[0])
        self._run["done"].append(name)
        with held(self.folder):
            self._write(read_results(self.folder) | {name: {
                "input": str(recording), **facts, "made_with": self._made_with,
                "files": _sizes(self.folder, results), "ended": now()}})

    def add_failure(self, recording: Path, reason: str) -> None:
        """Adds a recording that failed, and writes the report; raises the errors of `add`."""
        self._run["failed"][str(recording)] = reason
        with held(self.folder):
            self._write(read_results(self.folder))

    def announce(self, recording: Path, results: Iterable[Path], overwrite: bool = False) -> None:
        """Notes that results will get their names now, in place of any former entry.

        If the run is killed before `add`, the next one knows whose they are: `INTERRUPTED`.

        Args:
            recording: The recording.
            results: The files to be written, starting with the restored recording.
            overwrite: Whether results of another recording may be replaced.

        Raises:
            UserError: Without `overwrite`, another run has written them of another recording since
                this one began.
            OSError: The report cannot be written.
        """
        first = next(iter(results))
        name = name_in(self.folder, first)
        with held(self.folder):
            try:
                entries = read_results(self.folder)
            except UserError:
                return  # an unreadable report has no valid entries
            other = entries.get(name, {})
            if first.exists() and "files" in other and not overwrite and (
                    other.get("input_sha256") != hash_of(recording)):
                raise UserError(f"{first}: another run has written it meanwhile, of "
                                f"{other.get('input')}; name another inference.output_dir")
            self._write(entries | {name: {"input": str(recording), "made_with": self._made_with}})

    def _write(self, results: dict[str, dict[str, Any]]) -> None:
        report = {"version": VERSION, "last_run": self._run | {"ended": now()},
                  "results": {name: entry for name, entry in results.items() if "files" in entry},
                  "unfinished": {name: entry for name, entry in results.items()
                                 if "files" not in entry}}
        with replacing(self.folder / REPORT_NAME, lock=True) as temporary:
            temporary.write_text(json.dumps(report, indent=1), encoding="utf-8")


def now() -> str:
    """Returns the current time in the format of reports."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
