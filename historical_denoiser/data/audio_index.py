"""Finds clean audio and noise on disk and assigns each file to a split."""

import ast
import csv
import hashlib
import logging
import os
import re
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

from historical_denoiser.core.checks import UserError
from historical_denoiser.data.recordings import read_seconds
from historical_denoiser.data.settings import CATEGORIES, SPLITS, DsetConfig
from historical_denoiser.formats.audio_io import AUDIO_ENDINGS

logger = logging.getLogger(__name__)

MAX_NAMED = 5  # a warning names at most so many of the files that are skipped
HELD_OUT_SHARE = 0.1  # the share of the groups in each split that is held out
# Raised when fixed mixtures change: version 3 moved noise into folders named after splits, since
# version 4 a third of the validation noise fluctuates. Only another salt would change the splits of
# users' files.
SPLIT_VERSION = 4
SPLIT_SALT = "2.95917"
CHANNEL_SUFFIX = re.compile(r"[_-](L|R|left|right)$", re.IGNORECASE)
# Stretches of one recording, named as by `noise_tools.py find` or after their seconds.
CUT_SUFFIX = re.compile(r"_(seg\d+|\d+-\d+s)$")

# The command that builds each corpus of `conf/dset`, by the name of its folder.
BUILT_BY = {"starter": "python prepare_data.py", "scores": "python prepare_data.py scores",
            "notes": "python prepare_data.py notes FOLDER",
            "heldout": "python prepare_data.py --recipe conf/corpus/heldout.csv "
                       "--output data/heldout"}


@dataclass(frozen=True)
class Clip:
    """One clean file."""

    path: Path
    category: str
    group: str  # a speaker, a language, a tune; all clips of a group are in one split
    split: str
    seconds: float
    bandwidth_hz: float = 0.0  # highest frequency of its signal; 0 if it was not measured
    name: str = ""  # path within its folder or manifest, made unique; fixed mixtures choose by it


@dataclass(frozen=True)
class NoiseRecording:
    """One noise recording; each of its channels or segments is a file."""

    files: tuple[Path, ...]
    category: str
    split: str
    name: str  # unique within its category

    @property
    def title(self) -> str:
        """The name in reports."""
        return f"{self.category} {self.name}"


def split_by_hash(group: str, held_out: tuple[str, ...] = ("test", "validation")) -> str:
    """Returns a group's split: each of `held_out` for a tenth of all groups, otherwise "train".

    The split depends on the group's name alone, so that files added later do not change it.
    """
    position = int(hashlib.sha256(group.encode()).hexdigest()[:8], 16) / 16**8
    for rank, split in enumerate(held_out, start=1):
        if position < rank * HELD_OUT_SHARE:
            return split
    return "train"


def find_audio(folder: Path) -> list[Path]:
    """Returns the audio files below `folder`, sorted.

    Raises:
        FileNotFoundError: `folder` does not exist, is a file, or holds no audio.
    """
    if not folder.is_dir():
        found = "it is a file" if folder.exists() else "it does not exist"
        raise FileNotFoundError(f"`{folder}` must be a folder of audio files: {found}.")
    files = []
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in AUDIO_ENDINGS:
            continue
        try:
            str(path).encode("utf-8")  # a name's hash must be the same on every machine
        except UnicodeEncodeError:
            logger.warning("%a is skipped: its name is not UTF-8", str(path))
        else:
            files.append(path)
    if not files:
        raise FileNotFoundError(f"`{folder}` must hold audio files, such as WAV, FLAC, OGG or MP3: "
                                f"none was found.")
    return files


def named_split(path: Path, folder: Path) -> str | None:
    """Returns the first split after which a folder between `folder` and `path` is named, if any."""
    return next((name for name in path.relative_to(folder).parts[:-1] if name in SPLITS), None)


def group_of(path: Path, folder: Path) -> str:
    """Returns a file's group: the first folder below `folder`, such as a speaker or an album.

    Folders named after splits do not count. If there is no other, the group is the file's name
    without its ending and channel.
    """
    inner = _folders_below(path, folder)
    return inner[0] if inner else CHANNEL_SUFFIX.sub("", path.stem)


def _folders_below(path: Path, folder: Path) -> list[str]:
    return [name for name in path.relative_to(folder).parts[:-1] if name not in SPLITS]


def _split_of(path: Path, folder: Path, name: str) -> str:
    """Returns the split after which a folder is named, else that of the group `name`."""
    return named_split(path, folder) or split_by_hash(f"{SPLIT_SALT}/{name}")


def _read_folder(folder: Path, category: str) -> list[Clip]:
    files = find_audio(folder)
    clips, skipped = [], []
    for path in files:
        try:
            seconds = read_seconds(path)
        except UserError as error:
            skipped.append(f"{path.relative_to(folder)} ({error})")
            continue
        # The split must not depend on how the path of the folder is written. The clip's group does
        # contain that path, to keep groups of two folders apart.
        group = group_of(path, folder)
        clips.append(Clip(path, category, f"{folder}/{group}", _split_of(path, folder, group),
                          seconds, name=path.relative_to(folder).as_posix()))
    if skipped:
        more = f" and {len(skipped) - MAX_NAMED} more" if len(skipped) > MAX_NAMED else ""
        logger.warning("%s: skipped %d of %d files: %s%s", folder, len(skipped), len(files),
                       ", ".join(skipped[:MAX_NAMED]), more)
    is_named = any(named_split(clip.path, folder) for clip in clips)
    if clips and not is_named and all(clip.split != "train" for clip in clips):
        logger.warning("%s: so few groups of files that all would be held out; they are trained on "
                       "instead. Put some below folders called `train`, `validation` and `test`",
                       folder)
        clips = [replace(clip, split="train") for clip in clips]
    return clips


def _read_manifest(path: Path) -> list[Clip]:
    with path.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    wanted = {"file", "category", "seconds", "group", "split", "clean"}
    if not rows or not wanted <= rows[0].keys():
        raise UserError(f"`{path}` must be a manifest with the columns {sorted(wanted)}. "
                        f"Received: {sorted(map(str, rows[0])) if rows else 'no rows'}")
    kept = [row for row in rows if row["clean"] == "1"]
    logger.info("%s: %d of %d files are clean enough", path, len(kept), len(rows))
    return [Clip(path.parent / row["file"], row["category"], row["group"], row["split"],
                 float(row["seconds"]), float(row.get("bandwidth_hz") or 0.0), row["file"])
            for row in kept]


def find_clips(dset: DsetConfig) -> list[Clip]:
    """Returns all clean files that `dset` names, with their categories and splits.

    Raises:
        FileNotFoundError: A folder or manifest does not exist or holds no audio.
        UserError: A manifest has other columns, or there is no clean audio.
    """
    manifests = list(map(Path, dset.path_manifests))
    missing = [path for path in manifests if not path.is_file()]
    if missing:  # the error names all of them, because to build one may take an hour
        commands = [f"`{BUILT_BY[path.parent.name]}`" for path in missing
                    if path.parent.name in BUILT_BY]
        raise FileNotFoundError(
            "`dset.path_manifests` must name manifests that exist: no "
            f"{', '.join(map(str, missing))}; build with "
            f"{' and '.join(commands) or 'prepare_data.py'}")
    clips = [clip for path in manifests for clip in _read_manifest(path)]
    for category in CATEGORIES:
        for folder in getattr(dset, f"path_{category}"):
            clips += _read_folder(Path(folder), category)
    if not clips:
        raise UserError("`dset` must name clean audio: no manifest and no folder was given, or "
                        "none of their files is clean enough.")
    seen: Counter[str] = Counter()  # each of two folders may hold a 01.wav
    for place, clip in enumerate(clips):
        clips[place] = replace(clip, name=f"{clip.name}#{seen[clip.name]}")
        seen[clip.name] += 1
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
            recordings.append(NoiseRecording(files, folder.name, split, row["recording"]))
    return recordings


def _read_noise(place: Path) -> list[NoiseRecording]:
    """Returns the noise recordings of a folder, or of one file, in the order of their names."""
    if (place / "info.csv").is_file():
        return _read_noise_info(place)
    folder = place.parent if place.is_file() else place
    # A folder of files is one category; if it is named after a split, the folder above it.
    default = next(name for name in reversed(Path(os.path.abspath(folder)).parts)
                   if name not in SPLITS)
    recordings: dict[tuple[str, str, str], list[Path]] = {}
    for path in [place] if place.is_file() else find_audio(place):
        category, *inner = _folders_below(path, folder) or [default]
        # The name from which the split is derived lacks the category, so that the files of one
        # category have the same splits when `path_noise` is their folder.
        name = "/".join([*inner, CHANNEL_SUFFIX.sub("", CUT_SUFFIX.sub("", path.stem))])
        recordings.setdefault((category, name, _split_of(path, folder, name)), []).append(path)
    return [NoiseRecording(tuple(files), category, split, name)
            for (category, name, split), files in sorted(recordings.items())]


def find_noise(dset: DsetConfig) -> list[NoiseRecording]:
    """Returns the noise recordings that `dset` names, with their categories and splits.

    The first level of folders are categories; a folder of files is one category. The split of a
    recording is derived from its name, unless a folder above it is named after a split. If
    `dset.path_noise_test` is set, the recordings that it names are all those of the test split, and
    are in no other split.

    Raises:
        FileNotFoundError: A folder does not exist or holds no audio.
        UserError: An `info.csv` cannot be understood, or no folder is named.
    """
    found = [one for name in dset.path_noise for one in _read_noise(Path(name))]
    if not found:
        raise UserError("`dset.path_noise` must name at least one folder. Received: []")
    if not dset.path_noise_test:
        return found
    tests: dict[tuple[str, str], tuple[Path, ...]] = {}
    for name in dset.path_noise_test:  # which may name the channels of a recording one by one
        for one in _read_noise(Path(name)):
            key = one.category, one.name
            tests[key] = tests.get(key, ()) + one.files
    taken = {path.resolve() for files in tests.values() for path in files}
    return [NoiseRecording(files, category, "test", name)
            for (category, name), files in tests.items()] + [
        one for one in found if one.split != "test"
        and taken.isdisjoint(path.resolve() for path in one.files)]
