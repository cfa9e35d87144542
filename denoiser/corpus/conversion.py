"""Converts the clips of a data set or folder, and keeps a journal from which a later run goes on.

`debian_packages.py` shares the workers and the naming of files; it keeps one file a package.
"""

from __future__ import annotations

import functools
import json
import logging
import re
import shutil
import signal
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from denoiser.checks import UserError
from denoiser.corpus.clips import BROKEN, Job, convert_clip
from denoiser.corpus.manifest import distinct_clips, make_row, write_manifest
from denoiser.data.audio_index import split_by_hash
from denoiser.files import replacing

logger = logging.getLogger(__name__)
MapClips = Callable[..., Iterable[dict[str, Any]]]

PARTS_NAME = "parts"  # one file a package or data set: what a later run need not do again
DOWNLOADS_NAME = "downloads"
UNPACKED_PREFIX = ".unpacked-"  # of temporary folders
LAYOUT_VERSION = 1  # raised whenever the measures or the files change, so that parts are redone

CLIPS_A_CHUNK = 4  # that a worker gets at a time
CLIPS_A_MESSAGE = 1000
BATCH_CLIPS = 64  # that are unpacked and converted at a time
BATCH_BYTES = 1 << 29


def prepare_output(output: Path, foreign: str) -> None:
    """Makes a corpus's folder and removes what a killed run left unpacked in it.

    Args:
        output: The folder.
        foreign: Pattern of the parts of the other kind of corpus (the starter corpus or any other);
            the two would overwrite each other's manifest.

    Raises:
        UserError: The folder holds a corpus of the other kind.
    """
    found = sorted((output / PARTS_NAME).glob(foreign))
    if found:
        raise UserError(f"`--output` must be another folder: {output} already holds a corpus of "
                        f"another kind ({found[0].name})")
    output.mkdir(parents=True, exist_ok=True)
    for stale in output.glob(f"{UNPACKED_PREFIX}*"):
        shutil.rmtree(stale, ignore_errors=True)


@contextmanager
def workers(jobs: int) -> Iterator[MapClips]:
    """Yields a `map` that runs in `jobs` processes; one job needs no other process."""
    if jobs == 1:
        yield map
        return
    with ProcessPoolExecutor(jobs, initializer=_ignore_interrupts) as pool:
        yield functools.partial(pool.map, chunksize=CLIPS_A_CHUNK)


def _ignore_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent stops the workers


def make_job(path: Path, category: str, origin: str, name: str, output: Path,
             taken: set[str]) -> Job:
    """Returns what `convert_clip` needs for one clip, whose FLAC file gets a name of its own.

    Args:
        path: The clip's file.
        category: One of `CATEGORIES`.
        origin: Name of the package or data set.
        name: Of the clip, a path.
        output: The corpus's folder.
        taken: File names that are in use, in lower case; the new one is added.
    """
    # An archive's names may hold "..": nothing is written outside the corpus.
    parts = [part for part in name.split("/") if part not in ("", ".", "..")]
    stem = re.sub(r"[^A-Za-z0-9/._-]", "_", "/".join(parts))
    file = f"{category}/{origin}/{stem}.flac"
    while file.lower() in taken:
        file = f"{file.removesuffix('.flac')}_.flac"
    taken.add(file.lower())
    return str(path), category != "speech", str(output), file


def remove_others(output: Path, origin: str, categories: Iterable[str], files: set[str]) -> None:
    """Deletes duplicates, and what an interrupted or older run left behind: FLAC files alone.

    Args:
        output: The corpus's folder.
        origin: Name of the package or data set.
        categories: Those that it may have files in.
        files: What stays, relative to `output`.
    """
    for category in categories:
        for path in sorted((output / category / origin).rglob("*.flac")):
            if path.is_file() and path.relative_to(output).as_posix() not in files:
                path.unlink()


def report_left_out(kept: int, left_out: dict[str, int], broken: list[str]) -> None:
    """Logs what became of the clips of one package or data set.

    Args:
        kept: Number of the clips that became files.
        left_out: Numbers of the others by their problem.
        broken: One line for each that cannot be decoded.
    """
    counts = ", ".join(f"{count} {what}" for what, count in sorted(left_out.items()))
    logger.info("  %d clips kept, left out: %s", kept, counts or "none")
    for line in broken:
        logger.warning("  broken: %s", line)


# --- Data sets and folders -------------------------------------------------------------------


@dataclass(frozen=True)
class Member:
    """A clip and what is known of it before it is decoded."""

    name: str  # its path in the archive or folder
    category: str
    group: str  # what a split keeps together: a speaker, a work, an uploader
    split: str  # empty where the group's name decides
    licence: str
    stamp: Any = None  # tells whether the clip's file has changed


class Journal:
    """What is known of each clip of one data set, kept line by line while it is converted.

    Args:
        path: The file; what an earlier run wrote is read, as far as it is whole.
        output: The corpus's folder. Clips whose file is gone are to be converted again.
        key: What the files and measures depend on; the journal of another key counts as empty.
    """

    def __init__(self, path: Path, output: Path, key: str) -> None:
        self.path, self.key, self.rows, self.complete = path, key, {}, False
        lines = _read_lines(path)
        if lines and lines[0].get("key") == key:
            self.complete = "complete" in lines[-1]
            self.rows = {row["member"]: row for row in lines if "member" in row}
        self._rewrite({name for name, row in self.rows.items()
                       if "problem" not in row and not (output / row["file"]).exists()})

    def _rewrite(self, gone: set[str]) -> None:
        self.complete = self.complete and not gone
        self.rows = {name: row for name, row in self.rows.items() if name not in gone}
        ending = [{"complete": True}] if self.complete else []
        with replacing(self.path) as temporary:
            temporary.write_text("".join(f"{json.dumps(line)}\n" for line in
                                         [{"key": self.key}, *self.rows.values(), *ending]),
                                 encoding="utf-8")

    def keep(self, stamps: dict[str, Any]) -> None:
        """Forgets the clips that are not in `stamps`, or with another stamp."""
        gone = {name for name, row in self.rows.items()
                if name not in stamps or stamps[name] != row["stamp"]}
        if gone:
            self._rewrite(gone)

    def add(self, rows: list[dict[str, Any]]) -> None:
        """Appends what was found out about some clips."""
        self._append(rows)
        self.rows |= {row["member"]: row for row in rows}

    def finish(self) -> None:
        """Notes that nothing is left to convert."""
        if not self.complete:
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


def convert_members(name: str, members: Iterable[tuple[Member, Path | IO[bytes]]],
                    journal: Journal, output: Path, map_clips: MapClips) -> None:
    """Converts the clips that the journal does not know, some at a time.

    Args:
        name: Of the data set.
        members: The clips; each with its file, or with a stream that is read before the next.
        journal: Where the results go, batch by batch.
        output: The corpus's folder.
        map_clips: As `map`; what `workers` yields.

    Raises:
        OSError: The disk is full.
    """
    taken = {row["file"].lower() for row in journal.kept}
    digests = {row["digest"] for row in journal.kept}
    unknown = (pair for pair in members if pair[0].name not in journal.rows)
    with tempfile.TemporaryDirectory(dir=output, prefix=UNPACKED_PREFIX) as scratch:
        for batch in _batches(unknown, Path(scratch)):
            jobs = [make_job(path, member.category, name, member.name, output, taken)
                    for member, path in batch]
            rows = []
            for (member, _), result in zip(batch, map_clips(convert_clip, jobs), strict=True):
                if result.get("digest") in digests:
                    result = {"problem": "duplicates"}  # `finish_set` deletes its file
                elif "digest" in result:
                    digests.add(result["digest"])
                rows.append({"member": member.name, "stamp": member.stamp,
                             "category": member.category, "group": member.group,
                             "split": member.split, "licence": member.licence,
                             "source": f"{name}: {member.name}", **result})
            before = len(journal.rows)
            journal.add(rows)
            if before // CLIPS_A_MESSAGE != len(journal.rows) // CLIPS_A_MESSAGE:
                logger.info("  %d clips", len(journal.rows))


def _batches(members: Iterable[tuple[Member, Path | IO[bytes]]], scratch: Path
             ) -> Iterator[list[tuple[Member, Path]]]:
    """Yields some clips at a time, each with its file; streams become files in `scratch`."""
    batch, size = [], 0
    for member, content in members:
        if isinstance(content, Path):
            path = content
        else:  # a name of ours: the archive's could lead out of the folder
            path = scratch / f"{len(batch)}{Path(member.name).suffix}"
            with path.open("wb") as stream:
                shutil.copyfileobj(content, stream)
        batch.append((member, path))
        size += path.stat().st_size
        if len(batch) >= BATCH_CLIPS or size >= BATCH_BYTES:
            yield batch
            for unpacked in scratch.iterdir():
                unpacked.unlink()
            batch, size = [], 0
    if batch:
        yield batch


def finish_set(name: str, categories: Iterable[str], journal: Journal, output: Path) -> None:
    """Removes what does not belong, notes the end, and writes the manifest of what is there.

    Args:
        name: Of the data set.
        categories: Those that it may have files in.
        journal: What is known of its clips.
        output: The corpus's folder.

    Raises:
        UserError: No clip could be used.
    """
    remove_others(output, name, categories, {row["file"] for row in journal.kept})
    journal.finish()
    problems = [row for row in journal.rows.values() if "problem" in row]
    report_left_out(len(journal.kept), Counter(row["problem"] for row in problems),
                    [f"{row['source']}: {row['detail']}" for row in problems
                     if row["problem"] == BROKEN])
    others = [Journal(path, output, _read_lines(path)[0]["key"])
              for path in sorted(journal.path.parent.glob("*.jsonl")) if path != journal.path]
    _write_rows([journal, *(other for other in others if other.complete)], output)


def _write_rows(journals: list[Journal], output: Path) -> None:
    """Writes the manifest of some journals' clips; a sound that is in two is listed once."""
    clips = []
    for journal in journals:
        clips += [stored | {"split": stored["split"] or split_by_hash(stored["group"])}
                  for stored in journal.kept]
    rows = [make_row(stored) for stored in distinct_clips(clips)]
    if not rows:
        raise UserError(f"{output}: no clip could be used")
    write_manifest(rows, output)
