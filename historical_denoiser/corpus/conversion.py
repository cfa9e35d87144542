"""Converts clips into a corpus and keeps journals, from which a run that was stopped goes on."""

from __future__ import annotations

import json
import logging
import re
import shutil
import signal
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from historical_denoiser.core.checks import UserError
from historical_denoiser.core.files import replacing
from historical_denoiser.core.workers import Deaths
from historical_denoiser.corpus.clips import BROKEN, convert_clip
from historical_denoiser.corpus.manifest import write_manifest
from historical_denoiser.data.audio_index import split_by_hash
from historical_denoiser.data.settings import CATEGORIES

logger = logging.getLogger(__name__)

PARTS_NAME = "parts"  # the journals of data sets and folders
PACKAGES_NAME = "packages"  # the journals of the starter corpus
DOWNLOADS_NAME = "downloads"
UNPACKED_PREFIX = ".unpacked-"  # of temporary folders
LAYOUT_VERSION = 1  # raised whenever the measures or the files change, so that all is redone

CLIPS_A_CHUNK = 4  # that a worker gets at a time
CLIPS_A_MESSAGE = 1000
BATCH_CLIPS = 64  # that are unpacked and converted at a time
BATCH_BYTES = 1 << 29


def prepare_output(output: Path, starter: bool) -> None:
    """Makes a corpus's folder and removes what a killed run left unpacked in it.

    Raises:
        UserError: The starter corpus would share the folder with another, and the two would
            overwrite each other's manifest.
    """
    foreign = ([f"{PARTS_NAME}/*.jsonl"] if starter
               else [f"{PACKAGES_NAME}/*.jsonl", f"{PARTS_NAME}/*.json"])
    found = [path for pattern in foreign for path in output.glob(pattern)]
    if found:
        raise UserError(f"`--output` must be another folder: {output} already holds a corpus of "
                        f"another kind ({found[0].name})")
    output.mkdir(parents=True, exist_ok=True)
    for stale in output.glob(f"{UNPACKED_PREFIX}*"):
        shutil.rmtree(stale, ignore_errors=True)


@dataclass(frozen=True)
class Member:
    """A clip and what is known of it before it is decoded."""

    source: str  # where it comes from; no two clips share it
    name: str  # path below the package, archive or folder, after which its file is named
    category: str
    group: str  # what a split keeps together: a speaker, a work, an uploader
    split: str = ""  # empty where the group's name decides
    licence: str = ""
    stamp: list[int] | None = None  # size and time of a folder's file, to see that it changed
    rule: int | None = None  # of a package's recipe, which then says category, split and licence


class Journal:
    """What is known of each clip of one package, data set or folder.

    Its file grows while clips are converted: JSON objects, one on each line, first the key, then
    the clips, and a mark when nothing is left to convert. What an earlier run wrote is read, but
    clips whose FLAC file is gone from `output` are forgotten.

    Args:
        path: The journal's file.
        output: The corpus's folder.
        key: What the files and measures depend on: the journal of another key counts as empty.
            None takes any.
    """

    def __init__(self, path: Path, output: Path, key: str | None = None) -> None:
        head, *lines = _read_lines(path) or [{}]
        self.path, self.output, self.key = path, output, key or head.get("key")
        lines = lines if head.get("key") == self.key else []
        self.complete = {"complete": True} in lines[-1:]
        self.rows = {row["source"]: row for row in lines if "source" in row}
        self.keep(lambda row: "problem" in row or (output / row["file"]).exists())

    def keep(self, is_wanted: Callable[[dict[str, Any]], bool]) -> None:
        """Forgets the clips that are not wanted, which then are to be converted again."""
        known = len(self.rows)
        self.rows = {source: row for source, row in self.rows.items() if is_wanted(row)}
        self.complete = self.complete and len(self.rows) == known
        ending = [{"complete": True}] if self.complete else []
        write_lines(self.path, [{"key": self.key}, *self.rows.values(), *ending])

    def add(self, rows: list[dict[str, Any]]) -> None:
        """Appends what was found out about some clips."""
        self._append(rows)
        self.rows |= {row["source"]: row for row in rows}

    def mark_complete(self) -> None:
        """Notes that nothing is left to convert."""
        self._append([{"complete": True}])
        self.complete = True

    def _append(self, lines: list[dict[str, Any]]) -> None:
        with self.path.open("a", encoding="utf-8") as stream:
            stream.writelines(f"{json.dumps(line)}\n" for line in lines)

    @property
    def kept(self) -> list[dict[str, Any]]:
        """The rows of the clips that became files."""
        return [row for row in self.rows.values() if "problem" not in row]


def _read_lines(path: Path) -> list[dict[str, Any]]:
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            lines.append(json.loads(line))
        except json.JSONDecodeError:
            break  # the run was killed while it wrote this line
    return lines


def write_lines(path: Path, lines: Iterable[dict[str, Any]]) -> None:
    """Writes a journal's file in one step."""
    with replacing(path) as temporary:
        temporary.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")


def convert_members(origin: str, members: Iterable[tuple[Member, Path | bytes]], journal: Journal,
                    jobs: int) -> None:
    """Converts the clips that the journal does not know, some at a time, and notes the results.

    Args:
        origin: Name of the package, data set or folder.
        members: The clips, each with its file or its content.
        journal: What is known of the clips of `origin`.
        jobs: Number of worker processes.

    Raises:
        OSError: The disk is full.
    """
    taken = {row["file"].lower() for row in journal.rows.values() if "file" in row}
    digests = {row["digest"] for row in journal.kept}
    unknown = (pair for pair in members if pair[0].source not in journal.rows)
    with start_workers(jobs) as map_clips, \
            tempfile.TemporaryDirectory(dir=journal.output, prefix=UNPACKED_PREFIX) as scratch:
        for batch in _batches(unknown, Path(scratch)):
            files = [name_file(member, origin, taken) for member, _ in batch]
            results = map_clips(convert_clip, [path for _, path in batch],
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
    """Yields a `map` that runs in `jobs` processes; one job needs no other process.

    Raises:
        OSError: A process died.
    """
    if jobs == 1:
        yield map
        return
    deaths = Deaths()

    def run(*arguments: Any) -> Iterable[dict[str, Any]]:
        results = pool.map(*arguments, chunksize=CLIPS_A_CHUNK)
        deaths.note()
        return results

    try:
        # Ctrl-C is the parent's to handle.
        with ProcessPoolExecutor(jobs, initializer=signal.signal,
                                 initargs=(signal.SIGINT, signal.SIG_IGN)) as pool:
            yield run
    except BrokenProcessPool as error:
        raise OSError(deaths.describe("a process that converts audio",
                                      "try a smaller `--jobs`")) from error


def _batches(members: Iterable[tuple[Member, Path | bytes]], scratch: Path
             ) -> Iterator[list[tuple[Member, Path]]]:
    """Yields some clips at a time, each with its file; contents become files in `scratch`."""
    batch, size = [], 0
    for member, content in members:
        if isinstance(content, Path):
            path = content
        else:  # a name of ours: the archive's could lead out of the folder
            path = scratch / f"{len(batch)}{Path(member.name).suffix}"
            path.write_bytes(content)
        batch.append((member, path))
        size += path.stat().st_size
        if len(batch) >= BATCH_CLIPS or size >= BATCH_BYTES:
            yield batch
            for unpacked in scratch.iterdir():
                unpacked.unlink()
            batch, size = [], 0
    if batch:
        yield batch


def name_file(member: Member, origin: str, taken: set[str]) -> str:
    """Returns the name of a clip's FLAC file in the corpus, and adds it to `taken` in lower case.

    An archive's names may hold "..": no name leads out of the corpus.
    """
    parts = [part for part in member.name.split("/") if part not in ("", ".", "..")]
    stem = re.sub(r"[^A-Za-z0-9/._-]", "_", "/".join(parts))
    file = f"{member.category}/{origin}/{stem}.flac"
    while file.lower() in taken:
        file = f"{file.removesuffix('.flac')}_.flac"
    taken.add(file.lower())
    return file


def finish(origin: str, journal: Journal, categories: Iterable[str] = CATEGORIES) -> None:
    """Completes a journal and logs what became of the clips.

    Duplicates, and what an interrupted or older run left behind, are deleted: FLAC files alone,
    below the folders of `origin` in `categories`.
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


def write_sets(journal: Journal) -> None:
    """Writes the manifest of a data set or folder and of the others that share its corpus."""
    others = (Journal(path, journal.output) for path in sorted(journal.path.parent.glob("*.jsonl"))
              if path != journal.path)
    write_manifest([row | {"split": row["split"] or split_by_hash(row["group"])}
                    for one in (journal, *others) if one.complete for row in one.kept],
                   journal.output)
