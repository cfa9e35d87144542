"""Finds the recordings that are to be restored, by names, patterns, folders and lists.

Start reading at `find_recordings`.
"""

from __future__ import annotations

import functools
import glob
import logging
import os
import re
from collections import Counter
from pathlib import Path

from historical_denoiser.core.checks import UserError
from historical_denoiser.formats import audio_io, containers
from historical_denoiser.run.report import read_results
from historical_denoiser.run.settings import PARTS_OF_RESIDUAL

logger = logging.getLogger(__name__)

LIST_ENDINGS = frozenset((".txt", ".m3u", ".m3u8"))  # endings of lists of file names
STREAM_TAG = "#EXT-X-"  # used by playlists of streams only (RFC 8216, 4.3)
OWN_RESULT = re.compile(r"(?P<origin>.*)_(denoised|residual(_(" + "|".join(PARTS_OF_RESIDUAL) +
                        r"))?(_track[0-9]+)?)(_s([0-9.]+|auto))?"
                        r"(_track[0-9]+)?", re.DOTALL)
# Part of each result's name.
RESULT_NAME = re.compile("(^|_)(denoised|residual|spectrogram|clicks|tracks)")


def names_given(audio: str | list[str] | None) -> dict[Path, str]:
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
            matching = map(Path, sorted(glob.glob(name, recursive=True)))
            found |= dict.fromkeys(matching, "") or {path: ""}
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
    paths = names_given(audio)
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
    inside: list[Path] = []
    others: Counter[str] = Counter()
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
