"""Lays out the public data sets: what each clip in their archives is, and where the noise goes."""

from __future__ import annotations

import csv
import io
import json
import logging
import os
import re
import shutil
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from historical_denoiser.core.checks import UserError
from historical_denoiser.corpus import conversion
from historical_denoiser.corpus.archives import ARCHIVE_ERRORS, group_archives, read_archive
from historical_denoiser.corpus.conversion import Journal, Member
from historical_denoiser.corpus.downloads import RemoteFile, download_all, require_space
from historical_denoiser.data.audio_index import find_noise, split_by_hash
from historical_denoiser.data.settings import SPLITS, DsetConfig

logger = logging.getLogger(__name__)
# From a file's name in its archive to the category, group, split and licence of `Member`.
Classify = Callable[[str], tuple[str, str, str, str] | None]

NOISE_SET = "gramophone"  # the data set that is no clean audio


@contextmanager
def _naming_archive(parts: list[Path]) -> Iterator[None]:
    """Turns what a damaged archive raises into an error that names its files."""
    try:
        yield
    except ARCHIVE_ERRORS as error:
        problem = f"{type(error).__name__}: {error}".removesuffix(": ")
        raise UserError(f"{parts[-1]}: cannot be read ({problem}); delete "
                        f"{', '.join(path.name for path in parts)} there and run again"
                        ) from error


def classify_musicnet(licence: str, paths: dict[str, Path]) -> Classify:
    """MusicNet: the published test recordings test; other works train or validate as a whole."""
    works = {}
    with paths["musicnet_metadata.csv"].open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            works[row["id"]] = f"{row['composer']}: {row['composition']}"

    def classify(name: str) -> Member | None:
        path = PurePosixPath(name)
        if path.suffix != ".wav" or path.parent.name not in ("train_data", "test_data"):
            return None
        group = f"musicnet/{works.get(path.stem, path.stem)}"
        is_test = path.parent.name == "test_data"
        return "music", group, "test" if is_test else split_by_hash(group, ("validation",)), licence

    return classify


def classify_fsd50k(licence: str, paths: dict[str, Path]) -> Classify:
    """FSD50K: clips labelled Speech or Music are that, those with both or neither are effects.

    The published evaluation clips test; the others train or validate by their uploader. One whose
    clips are in both sets tests only.
    """
    clips = {}
    for subset in ("dev", "eval"):
        labels = _read_zipped(paths["FSD50K.ground_truth.zip"], f"{subset}.csv").decode("utf-8")
        known = json.loads(_read_zipped(paths["FSD50K.metadata.zip"],
                                        f"{subset}_clips_info_FSD50K.json"))
        for row in csv.DictReader(io.StringIO(labels)):
            clips[row["fname"]] = (subset, set(row["labels"].split(",")),
                                   known.get(row["fname"], {}))
    testers = {info.get("uploader") for subset, _, info in clips.values() if subset == "eval"}

    def classify(name: str) -> Member | None:
        path = PurePosixPath(name)
        if path.suffix != ".wav" or path.stem not in clips:
            return None
        subset, labels, info = clips[path.stem]
        uploader = info.get("uploader")
        group = f"fsd50k/{uploader or path.stem}"
        named = [category for category in ("speech", "music") if category.title() in labels]
        is_test = subset == "eval" or (uploader and uploader in testers)
        return (named[0] if len(named) == 1 else "effects", group,
                "test" if is_test else split_by_hash(group, ("validation",)),
                info.get("license", licence))

    return classify


def _read_zipped(path: Path, name: str) -> bytes:
    with _naming_archive([path]):
        for member, content in read_archive([path]):
            if PurePosixPath(member).name == name:
                return content
    raise UserError(f"{path}: {name} is not in it")


def classify_aishell3(licence: str, paths: dict[str, Path]) -> Classify:
    """AISHELL-3: a speaker trains, validates or tests as a whole, wherever the clips lie."""

    def classify(name: str) -> Member | None:
        match = re.search(r"(?:^|/)(?:train|test)/wav/([^/]+)/[^/]+\.wav$", name)
        if not match:
            return None
        group = f"aishell3/{match[1]}"
        return "speech", group, split_by_hash(group), licence

    return classify


CLASSIFIERS = {"musicnet": classify_musicnet, "fsd50k": classify_fsd50k,
               "aishell3": classify_aishell3}


def build_public(files: list[RemoteFile], output: Path, archives: Path | None, jobs: int,
                 keep_downloads: bool) -> None:
    """Downloads and lays out one public data set, whose files are given.

    The archives are in the folder `archives` or go there, and stay. If it is None, they go to a
    folder in `output` and stay only with `keep_downloads`.

    Raises:
        UserError: A file cannot be had or read.
        OSError: `output` cannot be written or the disk is full.
    """
    conversion.prepare_output(output)
    name = files[0].dataset
    downloads = archives or output / conversion.DOWNLOADS_NAME
    if name == NOISE_SET:
        if not (output / "info.csv").exists():
            _unpack_noise(download_all(files, downloads)[files[0].file], output)
        _check_noise(output)
    else:
        key = f"{conversion.LAYOUT_VERSION} {[(file.file, file.checksum) for file in files]}"
        journal = Journal(output, name, key)
        if journal.complete:
            logger.info("%s is complete", name)
        else:
            _convert_archives(name, files, download_all(files, downloads), journal, jobs)
        conversion.finish(name, journal)
        conversion.write_sets(output, [name])
    if not archives and not keep_downloads:
        shutil.rmtree(downloads, ignore_errors=True)


def _convert_archives(name: str, files: list[RemoteFile], paths: dict[str, Path],
                      journal: Journal, jobs: int) -> None:
    if not journal.rows:
        require_space(journal.output, sum(path.stat().st_size for path in paths.values()),
                      "the audio")
    classify = CLASSIFIERS[name](files[0].licence, paths)
    for parts in group_archives(paths.values()):
        logger.info("%s: reading", parts[-1].name)
        members = ((Member(f"{name}: {path}", path, *known), content)
                   for path, content in read_archive(parts) if (known := classify(path)))
        try:
            with _naming_archive(parts):
                conversion.convert_members(name, members, journal, jobs)
        except UserError:
            journal.keep(lambda row: False)  # a checksum at the end speaks of what was read before
            raise


def _unpack_noise(path: Path, output: Path) -> None:
    """Unpacks the gramophone noise as it is: `info.csv` and a folder for each recording."""
    with _naming_archive([path]), zipfile.ZipFile(path) as archive, \
            TemporaryDirectory(dir=output, prefix=conversion.UNPACKED_PREFIX) as scratch:
        require_space(output, sum(member.file_size for member in archive.infolist()), path.name)
        archive.extractall(scratch)  # takes out of the names what would lead out of the folder
        infos = [info for info in Path(scratch).rglob("info.csv") if info.is_file()]
        if not infos:
            raise UserError(f"{path}: there is no info.csv in it")
        root = min(infos, key=lambda info: len(info.parts)).parent
        shutil.copytree(root, output, copy_function=os.replace, dirs_exist_ok=True)


def _check_noise(output: Path) -> None:
    """Reports the unpacked noise; raises UserError where a file that info.csv names is missing."""
    recordings = find_noise(DsetConfig(path_noise=[str(output)]))
    missing = [path for recording in recordings for path in recording.files if not path.exists()]
    if missing:
        raise UserError(f"{missing[0]}: named by info.csv but missing ({len(missing)} files in "
                        f"all); delete {output / 'info.csv'} and run again")
    splits = Counter(recording.split for recording in recordings)
    logger.info("%s: %s", output, ", ".join(f"{splits[split]} recordings for {split}"
                                            for split in SPLITS))
