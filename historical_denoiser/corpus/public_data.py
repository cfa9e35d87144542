"""Builds corpora from public data sets, and unpacks the gramophone noise."""

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

NOISE_SET = "gramophone"  # the only data set that is not clean audio


@contextmanager
def _naming_archive(parts: list[Path]) -> Iterator[None]:
    """Turns the exceptions of a damaged archive into a UserError that names its files."""
    try:
        yield
    except ARCHIVE_ERRORS as error:
        problem = f"{type(error).__name__}: {error}".removesuffix(": ")
        raise UserError(f"{parts[-1]}: cannot be read ({problem}); delete "
                        f"{', '.join(path.name for path in parts)} there and run again"
                        ) from error


def classify_musicnet(licence: str, paths: dict[str, Path]) -> Classify:
    """MusicNet: published test recordings are for the test, other works for either other split."""
    works = {}
    with paths["musicnet_metadata.csv"].open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            works[row["id"]] = f"{row['composer']}: {row['composition']}"

    def classify(name: str) -> tuple[str, str, str, str] | None:
        match = re.search(r"(?:^|/)(train|test)_data/([^/]+)\.wav$", name)
        if not match:
            return None
        group = f"musicnet/{works.get(match[2], match[2])}"
        split = "test" if match[1] == "test" else split_by_hash(group, ("validation",))
        return "music", group, split, licence

    return classify


def classify_fsd50k(licence: str, paths: dict[str, Path]) -> Classify:
    """FSD50K: speech and music by their labels; clips with both labels or neither are effects.

    The published evaluation clips, and all other clips of their uploaders, are for the test. The
    split of the rest depends on the uploader.
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

    def classify(name: str) -> tuple[str, str, str, str] | None:
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
    """AISHELL-3: the split depends on the speaker only, not on the published sets."""

    def classify(name: str) -> tuple[str, str, str, str] | None:
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
    """Downloads a public data set and converts or unpacks it.

    Args:
        files: Files of the data set.
        output: Folder of the corpus, or of the noise.
        archives: Folder of archives that were downloaded before, and to which others are
            downloaded; they are kept. None for a folder in `output`.
        jobs: Number of worker processes.
        keep_downloads: Whether to keep archives that were downloaded to `output`.

    Raises:
        UserError: A file cannot be downloaded or read.
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
            journal.keep(lambda row: False)  # a wrong checksum at the end concerns all clips
            raise


def _unpack_noise(path: Path, output: Path) -> None:
    """Unpacks the gramophone noise unchanged: `info.csv` and a folder for each recording."""
    with _naming_archive([path]), zipfile.ZipFile(path) as archive, \
            TemporaryDirectory(dir=output, prefix=conversion.UNPACKED_PREFIX) as scratch:
        require_space(output, sum(member.file_size for member in archive.infolist()), path.name)
        archive.extractall(scratch)  # removes ".." and a leading "/" from names
        infos = [info for info in Path(scratch).rglob("info.csv") if info.is_file()]
        if not infos:
            raise UserError(f"{path}: there is no info.csv in it")
        root = min(infos, key=lambda info: len(info.parts)).parent
        shutil.copytree(root, output, copy_function=os.replace, dirs_exist_ok=True)


def _check_noise(output: Path) -> None:
    """Logs the number of recordings; raises UserError if a file named by info.csv is missing."""
    recordings = find_noise(DsetConfig(path_noise=[str(output)]))
    missing = [path for recording in recordings for path in recording.files if not path.exists()]
    if missing:
        raise UserError(f"{missing[0]}: named by info.csv but missing ({len(missing)} files in "
                        f"all); delete {output / 'info.csv'} and run again")
    splits = Counter(recording.split for recording in recordings)
    logger.info("%s: %s", output, ", ".join(f"{splits[split]} recordings for {split}"
                                            for split in SPLITS))
