"""Builds corpora of clean audio: from packages, from public data sets, or from any folder.

    python prepare_data.py                          # the starter corpus, to data/starter
    python prepare_data.py --only klettres-data     # one package of it
    python prepare_data.py --source ~/debs          # .deb files that are already here
    python prepare_data.py musicnet                 # or fsd50k, aishell3, gramophone
    python prepare_data.py ~/scores --category music

Every clip becomes a 44.1 kHz mono FLAC file; `manifest.csv` says where it comes from, under which
licence, in which split, and how clean it is. The gramophone noise data set is no clean audio: it
is unpacked as it is. A run that was stopped goes on. Clips that cannot be decoded are left out and
listed; a package or data set that cannot be had makes the exit status 1.

The starter corpus comes from freely licensed packages; it needs `apt-get` and `dpkg-deb` (Debian,
Ubuntu and their kin), no root. Its recipe names the splits and licences, and `corpus.is_clean`
holds the rule for `clean`: both can be changed without decoding anything again.
"""

from __future__ import annotations

import argparse
import logging
import os
import re
import shutil
import sys
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import soundfile as sf

from denoiser.checks import UserError
from denoiser.command_line import run_main
from denoiser.corpus import downloads, public_data
from denoiser.corpus.archives import group_archives, read_archive
from denoiser.corpus.debian_packages import (
    RECIPE,
    Rule,
    build_package,
    get_package,
    group_rules,
    join_parts,
    read_part,
    read_recipe,
)
from denoiser.corpus.manifest import (
    LAYOUT_VERSION,
    PARTS_NAME,
    CorpusError,
    Journal,
    Member,
    convert_members,
    finish_set,
    report_left_out,
    workers,
    write_manifest,
)
from denoiser.data.audio_index import group_of
from denoiser.data.settings import CATEGORIES
from denoiser.files import replacing

logger = logging.getLogger(__name__)

DOWNLOADS_NAME = "downloads"


def build_corpus(rules: list[Rule], wanted: list[str], output: Path, source: Path | None,
                 jobs: int, keep_downloads: bool) -> list[str]:
    """Builds the wanted packages and writes the manifest of everything that is there.

    Args:
        rules: The recipe.
        wanted: Names of the packages to build.
        output: The corpus's folder.
        source: Folder of `.deb` files, or None.
        jobs: Number of worker processes.
        keep_downloads: Whether downloaded packages stay in `output`.

    Returns:
        One message for each package that failed.

    Raises:
        OSError: `output` cannot be written or the disk is full.
    """
    _require_kind(output, "*.jsonl")
    _make_output(output)
    downloads = output / DOWNLOADS_NAME
    parts, failed = {}, []
    with workers(jobs) as map_clips:
        for package, own in group_rules(rules).items():
            part = read_part(own, output)
            if package in wanted:
                position = f"package {wanted.index(package) + 1} of {len(wanted)}"
                if part:
                    logger.info("%s: %s is complete", position, package)
                else:
                    logger.info("%s: %s (%s MB)", position, package, own[0].megabytes)
                    try:
                        part = build_package(own, get_package(package, downloads, source),
                                             output, map_clips)
                    except CorpusError as error:
                        logger.error("%s", error)
                        failed.append(str(error))
                if part:
                    report_left_out(len(part["rows"]), part["left_out"], part["broken"])
            if part:
                parts[package] = part
    rows = join_parts(parts, rules)
    if rows:
        write_manifest(rows, output)
    if not keep_downloads and not failed:
        shutil.rmtree(downloads, ignore_errors=True)
    return failed


def _make_output(output: Path) -> None:
    output.mkdir(parents=True, exist_ok=True)
    for stale in output.glob(".unpacked-*"):
        shutil.rmtree(stale, ignore_errors=True)


def _require_kind(output: Path, foreign: str) -> None:
    """Keeps the starter corpus and other corpora from overwriting each other's manifest."""
    found = sorted((output / PARTS_NAME).glob(foreign))
    if found:
        raise UserError(f"`--output` must be another folder: {output} already holds a corpus of "
                        f"another kind ({found[0].name})")


def build_public(name: str, files: list[downloads.RemoteFile], output: Path,
                 archives: Path | None, jobs: int, keep_downloads: bool) -> None:
    """Downloads and lays out one public data set.

    Args:
        name: Of the data set.
        files: Its files.
        output: The corpus's folder.
        archives: Where the archives are or go, and stay; a folder in `output` if None.
        jobs: Number of worker processes.
        keep_downloads: Whether downloads stay in `output`.

    Raises:
        ValueError: A file cannot be had or read.
        OSError: `output` cannot be written or the disk is full.
    """
    _require_kind(output, "*.json")
    _make_output(output)
    downloads = archives or output / DOWNLOADS_NAME
    if name == public_data.NOISE_SET:
        public_data.unpack_noise(files, downloads, output)
    else:
        key = f"{LAYOUT_VERSION} {[(file.file, file.checksum) for file in files]}"
        journal = Journal(output / PARTS_NAME / f"{name}.jsonl", output, key)
        if journal.complete:
            logger.info("%s is complete", name)
        else:
            paths = downloads.download_all(files, downloads)
            if not journal.rows:
                downloads.require_space(
                    output, sum(path.stat().st_size for path in paths.values()), "the audio")
            classify = public_data.CLASSIFIERS[name](files, paths)
            with workers(jobs) as map_clips:
                for parts in group_archives(paths):
                    logger.info("%s: reading", parts[-1].name)
                    members = ((member, stream)
                               for member_name, stream in read_archive(parts)
                               if (member := classify(member_name)))
                    try:
                        with public_data.naming_archive(parts):
                            convert_members(name, members, journal, output, map_clips)
                    except CorpusError:
                        journal.keep({})  # a checksum at the end speaks of what was read before
                        raise
        finish_set(name, CATEGORIES, journal, output)
    if not archives and not keep_downloads:
        shutil.rmtree(downloads, ignore_errors=True)


def build_folder(folder: Path, category: str, output: Path, jobs: int) -> None:
    """Converts the audio below any folder; files that were converted before are left alone.

    Args:
        folder: The folder. Its first level of folders, or else each file, is a group.
        category: One of `CATEGORIES`.
        output: The corpus's folder; it may hold other folders' audio as well.
        jobs: Number of worker processes.

    Raises:
        ValueError: There is no audio, `output` lies in `folder`, or what would be written lies
            among files that this command did not write.
        OSError: `output` cannot be written or the disk is full.
    """
    if output.resolve().is_relative_to(folder.resolve()):
        raise UserError(f"`--output` must lie outside of {folder}. Received: {output}")
    suffixes = {f".{name.lower()}" for name in sf.available_formats()} | {".aif", ".oga", ".opus"}
    suffixes.discard(".raw")  # says nothing of its rate
    paths = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*"))
             if path.suffix.lower() in suffixes and path.is_file()}
    if not paths:
        raise UserError(f"`{folder}` must hold audio files: none was found")
    _require_kind(output, "*.json")
    _make_output(output)
    name = re.sub(r"[^A-Za-z0-9._-]", "_", folder.resolve().name)
    _claim_place(folder, output, category, name)
    journal = Journal(output / PARTS_NAME / f"{category}-{name}.jsonl", output,
                      f"{LAYOUT_VERSION} {category}")
    stamps = {key: [path.stat().st_size, path.stat().st_mtime_ns] for key, path in paths.items()}
    journal.keep(stamps)
    logger.info("%s: %d files", folder, len(paths))
    members = ((Member(key, category, f"{name}/{group_of(path, folder)}", "", "not stated"), path)
               for key, path in paths.items())
    with workers(jobs) as map_clips:
        convert_members(name, members, journal, output, map_clips, stamps)
    finish_set(name, [category], journal, output)


def _claim_place(folder: Path, output: Path, category: str, name: str) -> None:
    """Notes that `folder` is converted under `name`.

    Raises:
        ValueError: Other files lie there, which the conversion would delete.
    """
    target, parts = output / category / name, output / PARTS_NAME
    if folder.resolve().is_relative_to(target.resolve()):
        raise UserError(f"`--output` must not be such that {folder} is where its own FLAC files "
                        f"go, {target}. Received: {output}")
    source = parts / f"{category}-{name}.source"
    is_known = source.exists() or (parts / f"{category}-{name}.jsonl").exists()
    if not is_known and target.is_dir() and any(target.iterdir()):
        raise UserError(f"`{target}` must be empty: it holds files that this command did not "
                        f"write. Choose another `--output`.")
    other = source.read_text(encoding="utf-8") if source.exists() else str(folder.resolve())
    if other != str(folder.resolve()):
        raise UserError(f"`{folder}` must have another name than a folder that is in {output} "
                        f"already: {other} was converted under it. Choose another `--output`, or "
                        f"delete {source} if that folder was moved here.")
    with replacing(source) as temporary:
        temporary.write_text(other, encoding="utf-8")


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line.

    Args:
        arguments: The words after the program's name; `sys.argv`'s when None.

    Returns:
        The options.
    """
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0],
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("what", nargs="?", metavar="DATASET|FOLDER", default="starter",
                        help="the starter corpus; or musicnet, fsd50k, aishell3 or gramophone; or "
                             "a folder of audio (write ./musicnet for a folder of that name)")
    parser.add_argument("--category", choices=CATEGORIES, help="of the audio in FOLDER")
    parser.add_argument("--output", type=Path,
                        help="the corpus's folder; data/ and the data set's or folder's name if "
                             "none is given")
    parser.add_argument("--archives", type=Path, metavar="FOLDER",
                        help="where a data set's archives are, or are downloaded to and kept")
    parser.add_argument("--only", nargs="+", metavar="PACKAGE", default=[],
                        help="build these packages alone; the manifest lists what earlier runs "
                             "built as well")
    parser.add_argument("--recipe", type=Path,
                        help="another list of packages, or of data sets' files, than the one in "
                             f"{RECIPE.parent.relative_to(Path(__file__).resolve().parent)}/")
    parser.add_argument("--source", type=Path, metavar="FOLDER",
                        help="use the .deb files that lie here; only others are downloaded")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1,
                        help="number of worker processes")
    parser.add_argument("--keep-downloads", action="store_true",
                        help=f"keep downloaded packages and archives in {DOWNLOADS_NAME}/")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """Builds the corpus that the command line describes.

    Args:
        arguments: As for `parse_arguments`.

    Raises:
        ValueError: An option is wrong or a package failed.
        OSError: A folder cannot be written or the disk is full.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    options = parse_arguments(arguments)
    if options.jobs < 1:
        raise UserError(f"`--jobs` must be at least 1. Received: {options.jobs}")
    if options.what == "starter":
        _build_starter(options)
    else:
        _build_other(options)


def _build_other(options: argparse.Namespace) -> None:
    if options.only or options.source:
        raise UserError("`--only` and `--source` must go with the starter corpus alone")
    files = downloads.read_table(options.recipe or downloads.TABLE)
    names = sorted({file.dataset for file in files}
                   & {*public_data.CLASSIFIERS, public_data.NOISE_SET})
    folder = Path(options.what)
    output = options.output or Path("data") / folder.resolve().name
    if options.what in names:
        if options.category:
            raise UserError(f"`--category` must go with a folder alone; {options.what} has its "
                            f"own. Received: {options.category}")
        build_public(options.what, [file for file in files if file.dataset == options.what],
                     output, options.archives, options.jobs, options.keep_downloads)
        return
    if not folder.is_dir():
        raise UserError(f"the data set must be one of {names} or a folder of audio. Received: "
                        f"{options.what}")
    if not options.category or options.archives:
        raise UserError(f"a folder must come with `--category`, one of {CATEGORIES}, and without "
                        f"`--archives`. Received: {options.what}")
    build_folder(folder, options.category, output, options.jobs)


def _build_starter(options: argparse.Namespace) -> None:
    if options.category or options.archives:
        raise UserError("`--category` and `--archives` must come with a data set or a folder")
    rules = read_recipe(options.recipe or RECIPE)
    names = list(group_rules(rules))
    unknown = sorted(set(options.only) - set(names))
    if unknown:
        raise UserError(f"`--only` must name packages of {names}. Received: {unknown}")
    if options.source and not options.source.is_dir():
        raise UserError(f"`--source` must be a folder. Received: {options.source}")
    wanted = [name for name in names if name in options.only or not options.only]
    failed = build_corpus(rules, wanted, options.output or Path("data/starter"), options.source,
                          options.jobs, options.keep_downloads)
    if failed:
        raise CorpusError(f"{len(failed)} of {len(wanted)} packages failed; {'; '.join(failed)}")


if __name__ == "__main__":
    try:
        run_main(main)
    except BrokenProcessPool:
        sys.exit("error: a worker died, perhaps for want of memory; try a smaller `--jobs`")
