"""Says what each clip in the archives of the public data sets is, and unpacks the noise.

`prepare_data.py` is the command and converts the clips; `fetch_data.py` downloads the archives.
"""

from __future__ import annotations

import csv
import io
import json
import logging
import re
import shutil
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from denoiser.corpus.archives import ARCHIVE_ERRORS
from denoiser.corpus.downloads import RemoteFile, download_all, require_space
from denoiser.corpus.manifest import CorpusError, Member, split_by_hash
from denoiser.data.audio_index import find_noise
from denoiser.data.settings import SPLITS, DsetConfig
from denoiser.files import replacing

logger = logging.getLogger(__name__)
Classify = Callable[[str], Member | None]

NOISE_SET = "gramophone"  # the data set that is no clean audio


@contextmanager
def naming_archive(parts: list[Path]) -> Iterator[None]:
    """Turns what a damaged archive raises into an error that names it.

    Args:
        parts: The archive's files.

    Raises:
        CorpusError: What the block raises is one of `ARCHIVE_ERRORS`.
    """
    try:
        yield
    except ARCHIVE_ERRORS as error:
        raise CorpusError(f"{parts[-1]}: cannot be read ({error or type(error).__name__}); delete "
                          f"{', '.join(path.name for path in parts)} there and run again"
                          ) from error


# --- What the clips are ----------------------------------------------------------------------


def classify_musicnet(files: list[RemoteFile], paths: dict[str, Path]) -> Classify:
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
        split = ("test" if path.parent.name == "test_data"
                 else split_by_hash(group, ("validation",)))
        return Member(name, "music", group, split, files[0].licence)

    return classify


def classify_fsd50k(files: list[RemoteFile], paths: dict[str, Path]) -> Classify:
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
        test = subset == "eval" or (uploader and uploader in testers)
        return Member(name, named[0] if len(named) == 1 else "effects", group,
                      "test" if test else split_by_hash(group, ("validation",)),
                      info.get("license", files[0].licence))

    return classify


def _read_zipped(path: Path, name: str) -> bytes:
    with naming_archive([path]), zipfile.ZipFile(path) as archive:
        for member in archive.namelist():
            if PurePosixPath(member).name == name:
                return archive.read(member)
    raise CorpusError(f"{path}: {name} is not in it")


def classify_aishell3(files: list[RemoteFile], paths: dict[str, Path]) -> Classify:
    """AISHELL-3: a speaker trains, validates or tests as a whole, wherever the clips lie."""

    def classify(name: str) -> Member | None:
        match = re.search(r"(?:^|/)(?:train|test)/wav/([^/]+)/[^/]+\.wav$", name)
        if not match:
            return None
        group = f"aishell3/{match[1]}"
        return Member(name, "speech", group, split_by_hash(group), files[0].licence)

    return classify


CLASSIFIERS = {"musicnet": classify_musicnet, "fsd50k": classify_fsd50k,
               "aishell3": classify_aishell3}


# --- The noise -------------------------------------------------------------------------------


def unpack_noise(files: list[RemoteFile], downloads: Path, output: Path) -> None:
    """Unpacks the gramophone noise as it is: `info.csv` and a folder for each recording.

    Args:
        files: The archive.
        downloads: Where it is or goes.
        output: A folder that `dset.path_noise` can name afterwards.

    Raises:
        CorpusError: The archive is damaged or has another layout.
    """
    if not (output / "info.csv").exists():
        path = download_all(files, downloads)[files[0].file]
        with naming_archive([path]), zipfile.ZipFile(path) as archive:
            infos = sorted((member for member in archive.infolist()
                            if Path(member.filename).name == "info.csv"),
                           key=lambda member: len(Path(member.filename).parts))
            if not infos:
                raise CorpusError(f"{path}: there is no info.csv in it")
            root = Path(infos[0].filename).parent
            inside = [member for member in archive.infolist() if not member.is_dir()
                      and Path(member.filename).is_relative_to(root)]
            require_space(output, sum(member.file_size for member in inside), path.name)
            inside.sort(key=lambda member: member is infos[0])  # the last one says: complete
            for member in inside:
                target = output / Path(member.filename).relative_to(root)
                if not target.resolve().is_relative_to(output.resolve()):
                    raise CorpusError(f"{path}: {member.filename} leads out of the archive")
                if target.exists() and target.stat().st_size == member.file_size:
                    continue
                with replacing(target) as temporary, archive.open(member) as source, \
                        temporary.open("wb") as stream:
                    shutil.copyfileobj(source, stream)
    recordings = find_noise(DsetConfig(path_noise=[str(output)]))
    missing = [path for recording in recordings for path in recording.files if not path.exists()]
    if missing:
        raise CorpusError(f"{missing[0]}: named by info.csv but missing ({len(missing)} files in "
                          f"all); delete {output / 'info.csv'} and run again")
    splits = Counter(recording.split for recording in recordings)
    logger.info("%s: %s", output, ", ".join(f"{splits[split]} recordings for {split}"
                                            for split in SPLITS))
