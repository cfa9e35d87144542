"""Converts clips into a corpus, and keeps journals from which an interrupted run continues."""

import json
import logging
import re
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from historical_denoiser.core.files import replacing
from historical_denoiser.corpus.clips import BROKEN, convert_clip
from historical_denoiser.corpus.manifest import write_manifest
from historical_denoiser.data.audio_index import split_by_hash
from historical_denoiser.data.settings import CATEGORIES

logger = logging.getLogger(__name__)

PARTS_NAME = "parts"  # the journals
DOWNLOADS_NAME = "downloads"
UNPACKED_PREFIX = ".unpacked-"  # of temporary folders
LAYOUT_VERSION = 2  # increased whenever measures or files change, so that everything is redone

CLIPS_A_CHUNK = 4  # number of clips that a worker receives at a time
CLIPS_A_MESSAGE = 1000
BATCH_CLIPS, BATCH_BYTES = 64, 1 << 29  # upper limits of what is in memory at a time


def prepare_output(output: Path) -> None:
    """Makes the folder of a corpus, and removes the temporary folders of killed runs from it."""
    output.mkdir(parents=True, exist_ok=True)
    for stale in output.glob(f"{UNPACKED_PREFIX}*"):
        shutil.rmtree(stale, ignore_errors=True)


@dataclass(frozen=True)
class Member:
    """A clip and what is known about it before it is decoded."""

    source: str  # origin; unique
    name: str  # path in the package, archive or folder, from which the FLAC file gets its name
    category: str
    group: str  # clips of a group are in the same split: a speaker, a work, an uploader
    split: str = ""  # empty if it depends on the hash of the group's name
    licence: str = ""
    stamp: list[int] | None = None  # size and time of a file in a folder, to detect changes


class Journal:
    """The results of converting the clips of one package, data set or folder.

    The file has a JSON object on each line: first the key, then the clips, which are appended while
    they are converted, and at the end a mark that everything is converted. The file of an earlier
    run is read, except for clips whose FLAC file no longer exists.

    Args:
        output: Folder of the corpus.
        name: Name of the journal's file.
        key: What the files and measures depend on; a journal with another key is discarded. None
            accepts any key.
    """

    def __init__(self, output: Path, name: str, key: str | None = None) -> None:
        self.path, self.output = output / PARTS_NAME / f"{name}.jsonl", output
        head, *lines = _read_lines(self.path) or [{}]
        self.key = key or head.get("key")
        lines = lines if head.get("key") == self.key else []
        self.complete = {"complete": True} in lines[-1:]
        self.rows = {row["source"]: row for row in lines if "source" in row}
        self.keep(lambda row: "problem" in row or (output / row["file"]).exists())

    def keep(self, is_wanted: Callable[[dict[str, Any]], bool]) -> None:
        """Removes the clips that are not wanted, so that they will be converted again."""
        known = len(self.rows)
        self.rows = {source: row for source, row in self.rows.items() if is_wanted(row)}
        self.complete = self.complete and len(self.rows) == known
        ending = [{"complete": True}] if self.complete else []
        lines = [{"key": self.key}, *self.rows.values(), *ending]
        with replacing(self.path) as temporary:
            temporary.write_text("".join(f"{json.dumps(line)}\n" for line in lines),
                                 encoding="utf-8")

    def add(self, rows: list[dict[str, Any]]) -> None:
        """Appends the results of some clips."""
        self._append(rows)
        self.rows |= {row["source"]: row for row in rows}

    def mark_complete(self) -> None:
        """Appends the mark that all clips are converted."""
        self._append([{"complete": True}])
        self.complete = True

    def _append(self, lines: list[dict[str, Any]]) -> None:
        with self.path.open("a", encoding="utf-8") as stream:
            stream.writelines(f"{json.dumps(line)}\n" for line in lines)

    @property
    def kept(self) -> list[dict[str, Any]]:
        """The rows of the clips that were stored as files."""
        return [row for row in self.rows.values() if "problem" not in row]


def _read_lines(path: Path) -> list[dict[str, Any]]:
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            lines.append(json.loads(line))
        except json.JSONDecodeError:
            break  # the run was killed while writing this line
    return lines


def convert_members(origin: str, members: Iterable[tuple[Member, Path | bytes]], journal: Journal,
                    jobs: int) -> None:
    """Converts the clips that are not in the journal yet, and adds the results to it.

    Args:
        origin: Name of the package, data set or folder.
        members: The clips, each with its file or its content.
        journal: Journal of `origin`.
        jobs: Number of worker processes.

    Raises:
        OSError: The disk is full.
    """
    taken = {row["file"].lower() for row in journal.rows.values() if "file" in row}
    digests = {row["digest"] for row in journal.kept}
    unknown = (pair for pair in members if pair[0].source not in journal.rows)
    with start_workers(jobs) as map_clips:
        for batch in _batches(unknown):
            files = [name_file(member, origin, taken) for member, _ in batch]
            results = map_clips(convert_clip, [content for _, content in batch],
                                [journal.output / file for file in files],
                                [member.category != "speech" for member, _ in batch])
            rows = []
            for (member, _), file, result in zip(batch, files, results, strict=True):
                if result.get("digest") in digests:
                    result = {"problem": "duplicates"}  # `finish` deletes its file
                elif "digest" in result:
                    digests.add(result["digest"])
                rows.append({**asdict(member), "file": file, **result})
            journal.add(rows)
            if len(journal.rows) % CLIPS_A_MESSAGE < len(rows):
                logger.info("  %d clips", len(journal.rows))


@contextmanager
def start_workers(jobs: int) -> Iterator[Callable[..., Iterable[dict[str, Any]]]]:
    """Yields a function like `map` that runs in `jobs` processes, or in this one if `jobs` is 1.

    Raises:
        OSError: A process was killed.
    """
    if jobs == 1:
        yield map
        return
    try:
        # Only the parent process handles Ctrl-C.
        with ProcessPoolExecutor(jobs, initializer=signal.signal,
                                 initargs=(signal.SIGINT, signal.SIG_IGN)) as pool:
            yield partial(pool.map, chunksize=CLIPS_A_CHUNK)
    except BrokenProcessPool as error:
        raise OSError("a process that converts audio was killed, as systems do when memory runs "
                      "out; try a smaller `--jobs`") from error


def _batches(members: Iterable[tuple[Member, Path | bytes]]
             ) -> Iterator[list[tuple[Member, Path | bytes]]]:
    """Yields batches of clips within `BATCH_CLIPS` and `BATCH_BYTES`."""
    batch, size = [], 0
    for member, content in members:
        batch.append((member, content))
        size += len(content) if isinstance(content, bytes) else 0
        if len(batch) >= BATCH_CLIPS or size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def name_file(member: Member, origin: str, taken: set[str]) -> str:
    """Returns the name of a clip's FLAC file in the corpus, and adds it to `taken` in lower case.

    Names in an archive may contain ".."; the result is always inside the corpus.

    Args:
        member: The clip.
        origin: Name of the package, data set or folder.
        taken: Names that are in use, in lower case.
    """
    parts = [part for part in member.name.split("/") if part not in ("", ".", "..")]
    stem = re.sub(r"[^A-Za-z0-9/._-]", "_", "/".join(parts))
    file = f"{member.category}/{origin}/{stem}.flac"
    while file.lower() in taken:
        file = f"{file.removesuffix('.flac')}_.flac"
    taken.add(file.lower())
    return file


def finish(origin: str, journal: Journal, categories: Iterable[str] = CATEGORIES) -> None:
    """Completes a journal, deletes files that are not in it, and logs how many clips there are.

    Args:
        origin: Name of the package, data set or folder.
        journal: Its journal.
        categories: Folders in which FLAC files of `origin` are deleted: duplicates, and files of
            interrupted or older runs. No other files are deleted.
    """
    files = {row["file"] for row in journal.kept}
    for category in categories:
        for path in sorted((journal.output / category / origin).rglob("*.flac")):
            if path.is_file() and path.relative_to(journal.output).as_posix() not in files:
                path.unlink()
    journal.mark_complete()
    problems = [row for row in journal.rows.values() if "problem" in row]
    counts = sorted(Counter(row["problem"] for row in problems).items())
    logger.info("  %d clips kept, left out: %s", len(files),
                ", ".join(f"{count} {problem}" for problem, count in counts) or "none")
    for row in problems:
        if row["problem"] == BROKEN:
            logger.warning("  broken: %s: %s", row["source"], row["detail"])


def write_sets(output: Path, first: list[str]) -> None:
    """Writes the manifest of all complete packages, data sets and folders of a corpus.

    Args:
        output: Folder of the corpus.
        first: Names of journals in order of precedence: of clips with the same sound, only that of
            the first journal is listed.
    """
    paths = sorted((output / PARTS_NAME).glob("*.jsonl"), key=lambda path: (
        first.index(path.stem) if path.stem in first else len(first), path.stem))
    write_manifest([row | {"split": row["split"] or split_by_hash(row["group"])}
                    for one in (Journal(output, path.stem) for path in paths) if one.complete
                    for row in one.kept], output)
