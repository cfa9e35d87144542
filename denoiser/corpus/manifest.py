"""A corpus of clean audio: its manifest, what is known of its clips, and their conversion.

A corpus is a folder of FLAC files, `<category>/<data set or package>/...`, and `manifest.csv`,
which says where each comes from, under which licence, in which split, and how clean it is.
"""

from __future__ import annotations

import csv
import functools
import hashlib
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
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import IO, Any, TypeVar

from denoiser.checks import UserError
from denoiser.corpus.clips import BROKEN, MIN_SOURCE_RATE, Job, convert_clip
from denoiser.data.audio_index import assign_splits
from denoiser.data.settings import CATEGORIES, SPLITS
from denoiser.files import replacing

logger = logging.getLogger(__name__)
MapClips = Callable[..., Iterable[dict[str, Any]]]
Record = TypeVar("Record")

MANIFEST_NAME = "manifest.csv"
PARTS_NAME = "parts"  # one file a package or data set: what a later run need not do again
LAYOUT_VERSION = 1  # raised whenever the measures or the files change, so that parts are redone
HELD_OUT_SHARE = 0.1  # of the groups, for each split that is held out
WIDE_HZ = 12000

MIN_CLEAN_DB = 45.0
MIN_GATED_DB = 35.0  # of the noise in speech whose pauses are silent
MAX_CLIPPED = 1e-4
MIN_CLEAN_SECONDS = 0.3
STEADY_SECONDS = 2.0  # effects of this length must vary
MIN_EFFECT_RANGE_DB = 10.0

CLIPS_A_CHUNK = 4
CLIPS_A_MESSAGE = 1000
BATCH_CLIPS = 64  # that are unpacked and converted at a time
BATCH_BYTES = 1 << 29


class CorpusError(UserError):
    """What a corpus is made from cannot be had or read; the message is for the user."""


@dataclass(frozen=True)
class Member:
    """A clip and what is known of it before it is decoded."""

    name: str  # its path in the archive or folder
    category: str
    group: str  # what a split keeps together: a speaker, a work, an uploader
    split: str
    licence: str


def split_by_hash(group: str, held_out: tuple[str, ...] = ("test", "validation")) -> str:
    """Returns a group's split: a tenth of all groups for each of `held_out`, the others train."""
    position = int(hashlib.sha256(group.encode()).hexdigest()[:8], 16) / 16**8
    for rank, split in enumerate(held_out, start=1):
        if position < rank * HELD_OUT_SHARE:
            return split
    return "train"


def read_records(path: Path, kind: type[Record]) -> list[Record]:
    """Reads a table whose lines are records of one kind, all of whose fields are texts.

    Args:
        path: CSV file whose columns are the fields of `kind`.
        kind: A dataclass.

    Returns:
        The records, in the file's order.

    Raises:
        ValueError: A column is missing, or there is another one; or a line has not a cell for
            each.
    """
    with path.open(encoding="utf-8", newline="") as stream:
        reader = csv.DictReader(stream)
        expected = [field.name for field in fields(kind)]
        if reader.fieldnames != expected:
            raise UserError(f"`{path}` must have the columns {expected}. "
                            f"Received: {reader.fieldnames}")
        rows = list(reader)
    for row in rows:
        if None in row or None in row.values():
            cells = [value for value in row.values() if value is not None]
            raise UserError(f"`{path}` must have {len(expected)} cells in each line. "
                            f"Received: {cells}")
    return [kind(**row) for row in rows]


# --- The manifest ----------------------------------------------------------------------------


@dataclass
class Row:
    """One line of the manifest; `file` is relative to the manifest's folder."""

    file: str
    category: str
    seconds: float
    source: str
    licence: str
    group: str
    split: str
    floor_db: float
    noise_db: float
    bandwidth_hz: int
    clipped: float
    clean: int
    original_rate: int


def is_clean(row: Row) -> bool:
    """Whether a clip may be a training target.

    Speech passes with a floor, or where it has no pauses a noise, of `MIN_CLEAN_DB` below its
    level; digital silence in the pauses does not excuse noise between them. Music and effects pass
    by their noise. A long effect must also vary: wind, engines and static are what a denoiser
    removes, and never fall far below their level.
    """
    if row.category == "speech":
        quiet = max(row.floor_db, row.noise_db) >= MIN_CLEAN_DB and row.noise_db >= MIN_GATED_DB
    else:
        quiet = row.noise_db >= MIN_CLEAN_DB
    if row.category == "effects" and row.seconds >= STEADY_SECONDS:
        quiet = quiet and row.floor_db >= MIN_EFFECT_RANGE_DB
    return (quiet and row.clipped <= MAX_CLIPPED and row.seconds >= MIN_CLEAN_SECONDS
            and row.original_rate >= MIN_SOURCE_RATE)


def distinct_clips(clips: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yields the clips, by what was stored of them, without those that repeat another's sound."""
    digests = set()
    for stored in clips:
        if stored["digest"] not in digests:
            digests.add(stored["digest"])
            yield stored


def make_row(stored: dict[str, Any], category: str, licence: str, split: str) -> Row:
    """Returns the manifest's line for a clip.

    Args:
        stored: What was stored of the clip: its measures, its source and its group.
        category: One of `CATEGORIES`.
        licence: Of the clip.
        split: One of `SPLITS`.

    Returns:
        The line, with the verdict of `is_clean`.
    """
    given = {"category": category, "licence": licence, "split": split, "clean": 0}
    row = Row(**given, **{field.name: stored[field.name] for field in fields(Row)
                          if field.name not in given})
    row.clean = int(is_clean(row))
    return row


def write_manifest(rows: list[Row], output: Path) -> None:
    """Writes the manifest in one step, in the order of the files, and reports what is in it.

    Args:
        rows: The lines.
        output: The corpus's folder.
    """
    path = output / MANIFEST_NAME
    rows = sorted(rows, key=lambda row: row.file)
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Row)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)
    logger.info("%s\n%s: %d files", format_summary(rows), path, len(rows))


def format_summary(rows: list[Row]) -> str:
    """Returns a table of the minutes in each category and split."""
    lines = [f"{'category':<10}{'split':<12}{'files':>7}{'minutes':>9}{'clean files':>13}"
             f"{'clean minutes':>15}{'above 12 kHz':>14}"]
    for category in CATEGORIES:
        for split in SPLITS:
            chosen = [row for row in rows if (row.category, row.split) == (category, split)]
            if not chosen:
                continue
            clean = [row for row in chosen if row.clean]
            wide = [row for row in clean if row.bandwidth_hz >= WIDE_HZ]
            total, good, full = (sum(row.seconds for row in some) / 60.0
                                 for some in (chosen, clean, wide))
            lines.append(f"{category:<10}{split:<12}{len(chosen):>7}{total:>9.1f}{len(clean):>13}"
                         f"{good:>15.1f}{full:>14.1f}")
    return "\n".join(lines)


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


# --- Conversion ------------------------------------------------------------------------------


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


# --- Data sets and folders -------------------------------------------------------------------


class Journal:
    """What is known of each clip of one data set, kept line by line while it is converted.

    Args:
        path: The file; what an earlier run wrote is read, as far as it is whole.
        output: The corpus's folder. Clips whose file is gone are to be converted again.
        key: What the files and measures depend on; the journal of another key counts as empty.
    """

    def __init__(self, path: Path, output: Path, key: str) -> None:
        self.path, self.rows, self.complete = path, {}, False
        lines = []
        if path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                try:
                    lines.append(json.loads(line))
                except json.JSONDecodeError:
                    break  # the run was killed while it wrote this line
        if lines and lines[0].get("key") == key:
            self.complete = "complete" in lines[-1]
            self.rows = {row["member"]: row for row in lines if "member" in row}
        gone = [name for name, row in self.rows.items()
                if "problem" not in row and not (output / row["file"]).exists()]
        self._rewrite(key, set(gone))

    def _rewrite(self, key: str, gone: set[str]) -> None:
        self.key, self.complete = key, self.complete and not gone
        self.rows = {name: row for name, row in self.rows.items() if name not in gone}
        ending = [{"complete": True}] if self.complete else []
        with replacing(self.path) as temporary:
            temporary.write_text("".join(f"{json.dumps(line)}\n" for line in
                                         [{"key": key}, *self.rows.values(), *ending]),
                                 encoding="utf-8")

    def keep(self, stamps: dict[str, Any]) -> None:
        """Forgets the clips that are not in `stamps`, or with another stamp."""
        gone = {name for name, row in self.rows.items()
                if name not in stamps or stamps[name] != row["stamp"]}
        if gone:
            self._rewrite(self.key, gone)

    def add(self, rows: list[dict[str, Any]]) -> None:
        """Appends what was found out about some clips."""
        self._append([*rows])
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


def convert_members(name: str, members: Iterable[tuple[Member, Path | IO[bytes]]],
                    journal: Journal, output: Path, map_clips: MapClips,
                    stamps: dict[str, Any] | None = None) -> None:
    """Converts the clips that the journal does not know, some at a time.

    Args:
        name: Of the data set.
        members: The clips; each with its file, or with a stream that is read before the next.
        journal: Where the results go, batch by batch.
        output: The corpus's folder.
        map_clips: As `map`; what `workers` yields.
        stamps: What tells by a clip's name whether it has changed.

    Raises:
        OSError: The disk is full.
    """
    taken = {row["file"].lower() for row in journal.kept}
    digests = {row["digest"] for row in journal.kept}
    with tempfile.TemporaryDirectory(dir=output, prefix=".unpacked-") as scratch:
        batch: list[tuple[Member, Path]] = []

        def convert_batch() -> None:
            jobs = [make_job(path, member.category, name, member.name, output, taken)
                    for member, path in batch]
            rows = []
            for (member, path), result in zip(batch, map_clips(convert_clip, jobs), strict=True):
                if result.get("digest") in digests:
                    result = {"problem": "duplicates"}  # `finish_set` deletes its file
                elif "digest" in result:
                    digests.add(result["digest"])
                rows.append({"member": member.name, "stamp": (stamps or {}).get(member.name),
                             "category": member.category, "group": member.group,
                             "split": member.split, "licence": member.licence,
                             "source": f"{name}: {member.name}", **result})
                if path.is_relative_to(scratch):
                    path.unlink()
            before, now = len(journal.rows), len(journal.rows) + len(rows)
            journal.add(rows)
            batch.clear()
            if before // CLIPS_A_MESSAGE != now // CLIPS_A_MESSAGE:
                logger.info("  %d clips", now)

        for member, content in members:
            if member.name in journal.rows:
                continue
            if isinstance(content, Path):
                path = content
            else:  # a name of ours: the archive's could lead out of the folder
                path = Path(scratch) / f"{len(batch)}{Path(member.name).suffix}"
                with path.open("wb") as stream:
                    shutil.copyfileobj(content, stream)
            batch.append((member, path))
            if (len(batch) >= BATCH_CLIPS
                    or sum(path.stat().st_size for _, path in batch) >= BATCH_BYTES):
                convert_batch()
        convert_batch()


def write_corpus(journals: list[Journal], output: Path) -> None:
    """Writes the manifest of the corpus to which some journals belong.

    Args:
        journals: Complete ones; clips that are in two of them are listed once.
        output: The corpus's folder.

    Raises:
        CorpusError: There is nothing to list.
    """
    clips = []
    for journal in journals:
        free = assign_splits(stored["group"] for stored in journal.kept if not stored["split"])
        clips += [stored | {"split": stored["split"] or free[stored["group"]]}
                  for stored in journal.kept]
    rows = [make_row(stored, stored["category"], stored["licence"], stored["split"])
            for stored in distinct_clips(clips)]
    if not rows:
        raise CorpusError(f"{output}: no clip could be used")
    write_manifest(rows, output)


def finish_set(name: str, categories: Iterable[str], journal: Journal, output: Path) -> None:
    """Removes what does not belong, notes the end, and writes the manifest of what is there.

    Args:
        name: Of the data set.
        categories: Those that it may have files in.
        journal: What is known of its clips.
        output: The corpus's folder.

    Raises:
        CorpusError: There is nothing to list.
    """
    remove_others(output, name, categories, {row["file"] for row in journal.kept})
    journal.finish()
    problems = [row for row in journal.rows.values() if "problem" in row]
    report_left_out(len(journal.kept), Counter(row["problem"] for row in problems),
                    [f"{row['source']}: {row['detail']}" for row in problems
                     if row["problem"] == BROKEN])
    others = [_read_journal(path, output) for path in sorted(journal.path.parent.glob("*.jsonl"))
              if path != journal.path]
    write_corpus([journal, *(other for other in others if other.complete)], output)


def _read_journal(path: Path, output: Path) -> Journal:
    with path.open(encoding="utf-8") as stream:
        return Journal(path, output, json.loads(stream.readline())["key"])
