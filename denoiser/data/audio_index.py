"""Finds clean audio and noise on disk and says which split each file is in."""

from __future__ import annotations

import ast
import csv
import hashlib
import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import soundfile

from denoiser.audio.audio_io import UNKNOWN_SAMPLES
from denoiser.checks import UserError
from denoiser.data.settings import CATEGORIES, SPLITS, DsetConfig

logger = logging.getLogger(__name__)

AUDIO_SUFFIXES = (".wav", ".flac", ".ogg")
MOST_NAMED = 5  # of the files that are skipped
FEWEST_RECORDINGS = 3  # of a noise category that can be split in three
CHANNEL_SUFFIX = re.compile(r"[_-](L|R|left|right)$", re.IGNORECASE)
CUT_SUFFIX = re.compile(r"_seg\d+$")  # of the stretches that `noise_tools.py find` cuts


@dataclass(frozen=True)
class Clip:
    """One clean file."""

    path: Path
    category: str
    group: str  # what a split keeps together: a speaker, a language, a tune
    split: str
    seconds: float


@dataclass(frozen=True)
class NoiseRecording:
    """One noise recording; its channels or segments are the files."""

    files: tuple[Path, ...]
    category: str
    split: str


def hash_text(text: str) -> str:
    """Returns a number in hexadecimal that is the same on every machine."""
    return hashlib.sha1(text.encode("utf-8"), usedforsecurity=False).hexdigest()


def assign_splits(groups: Iterable[str], test_share: float = 0.1) -> dict[str, str]:
    """Assigns whole groups to train, validation and test, the same way on every machine.

    Args:
        groups: Names; each goes to one split as a whole.
        test_share: Share of the groups for test, and again for validation; at least one each.

    Returns:
        The split of each group. Fewer than three groups all train.
    """
    names = sorted(set(groups), key=hash_text)
    if len(names) < FEWEST_RECORDINGS:
        return dict.fromkeys(names, "train")
    held = max(1, round(test_share * len(names)))
    return {name: "test" if rank < held else "validation" if rank < 2 * held else "train"
            for rank, name in enumerate(names)}


def find_audio(folder: Path) -> list[Path]:
    """Returns the WAV, FLAC and OGG files below `folder`, sorted.

    Raises:
        FileNotFoundError: There is no such folder or no audio in it.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"`{folder}` must be a folder of audio files: it does not exist.")
    files = []
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in AUDIO_SUFFIXES:
            continue
        try:
            str(path).encode("utf-8")  # splits go by names, on every machine the same
        except UnicodeEncodeError:
            logger.warning("%a is skipped: its name is not UTF-8", str(path))
        else:
            files.append(path)
    if not files:
        raise FileNotFoundError(f"`{folder}` must hold WAV, FLAC or OGG files: none was found.")
    return files


def group_of(path: Path, folder: Path) -> str:
    """Returns the first folder below `folder` (a speaker, an album), else the name less channel."""
    parts = path.relative_to(folder).parts
    return parts[0] if len(parts) > 1 else CHANNEL_SUFFIX.sub("", path.stem)


def _read_folder(folder: Path, category: str) -> list[Clip]:
    files = find_audio(folder)
    # The split must not depend on how the folder's name is typed. The group's own name holds it,
    # so that groups of two folders stay apart.
    groups = {path: group_of(path, folder) for path in files}
    splits = assign_splits(groups.values())
    clips, skipped = [], []
    for path in files:
        try:
            info = soundfile.info(path)
        except soundfile.LibsndfileError:
            skipped.append(f"{path.relative_to(folder)} (cannot be read)")
            continue
        if info.frames >= UNKNOWN_SAMPLES:
            skipped.append(f"{path.relative_to(folder)} (its header does not say how long it is)")
        elif info.frames:
            clips.append(Clip(path, category, f"{folder}/{groups[path]}", splits[groups[path]],
                              info.frames / info.samplerate))
        else:
            skipped.append(f"{path.relative_to(folder)} (empty)")
    if skipped:
        more = f" and {len(skipped) - MOST_NAMED} more" if len(skipped) > MOST_NAMED else ""
        logger.warning("%s: skipped %d of %d files: %s%s", folder, len(skipped), len(files),
                       ", ".join(skipped[:MOST_NAMED]), more)
    return clips


def _read_manifest(path: Path) -> list[Clip]:
    if not path.is_file():
        raise FileNotFoundError(f"`dset.path_manifests` must name a manifest: {path} does not "
                                f"exist. `python prepare_data.py` builds the starter corpus.")
    with path.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    wanted = {"file", "category", "seconds", "group", "split", "clean"}
    if not rows or not wanted <= rows[0].keys():
        raise UserError(f"`{path}` must be a manifest with the columns {sorted(wanted)}. "
                        f"Received: {sorted(map(str, rows[0])) if rows else 'no rows'}")
    kept = [row for row in rows if row["clean"] == "1"]
    logger.info("%s: %d of %d files are clean enough", path, len(kept), len(rows))
    return [Clip(path.parent / row["file"], row["category"], row["group"], row["split"],
                 float(row["seconds"])) for row in kept]


def find_clips(dset: DsetConfig) -> list[Clip]:
    """Returns all clean files that `dset` names, with their categories and splits.

    Raises:
        FileNotFoundError: A folder or manifest does not exist or holds no audio.
        ValueError: A manifest has other columns.
    """
    clips: list[Clip] = []
    for manifest in dset.path_manifests:
        clips += _read_manifest(Path(manifest))
    for category in CATEGORIES:
        for folder in getattr(dset, f"path_{category}"):
            clips += _read_folder(Path(folder), category)
    if not clips:
        raise UserError("`dset` must name clean audio: no manifest and no folder was given, or "
                        "none of their files is clean enough.")
    return clips


def _read_noise_info(folder: Path) -> list[NoiseRecording]:
    """Reads the published noise data set's layout: `info.csv` and one folder per recording."""
    recordings = []
    with (folder / "info.csv").open(newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            try:
                names = ast.literal_eval(row["segments"])
                split = {"val": "validation"}.get(row["split"], row["split"])
                if split not in SPLITS:
                    raise UserError(f"unknown split {split!r}")
                files = tuple(folder / row["recording"] / name for name in names)
            except (KeyError, ValueError, SyntaxError, TypeError) as error:
                raise UserError(f"`{folder / 'info.csv'}` must have the columns recording, split "
                                f"and segments (a list of names). Received: {row}") from error
            recordings.append(NoiseRecording(files, folder.name, split))
    return recordings


def find_noise(dset: DsetConfig) -> list[NoiseRecording]:
    """Returns the noise recordings that `dset` names, with their categories and splits.

    A folder's first level of folders are categories; a folder of files is one category. A
    category with fewer than three recordings trains only.

    Raises:
        FileNotFoundError: A folder does not exist or holds no audio.
        ValueError: An `info.csv` cannot be understood.
    """
    found: list[NoiseRecording] = []
    for name in dset.path_noise:
        folder = Path(name)
        if (folder / "info.csv").is_file():
            found += _read_noise_info(folder)
            continue
        by_category: dict[str, dict[str, list[Path]]] = {}
        for path in find_audio(folder):
            parts = path.relative_to(folder).parts
            category = parts[0] if len(parts) > 1 else folder.name
            stem = CHANNEL_SUFFIX.sub("", CUT_SUFFIX.sub("", path.stem))
            recording = Path(*parts[:-1], stem).as_posix()  # names the split
            by_category.setdefault(category, {}).setdefault(recording, []).append(path)
        for category, recordings in sorted(by_category.items()):
            splits = assign_splits(recordings)
            found += [NoiseRecording(tuple(files), category, splits[recording])
                      for recording, files in sorted(recordings.items())]
    if not found:
        raise UserError("`dset.path_noise` must name at least one folder. Received: []")
    return found
