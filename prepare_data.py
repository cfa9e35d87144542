"""Builds corpora of clean audio from packages, scores, public data sets, or any folder.

    python prepare_data.py                          # the starter corpus, to data/starter
    python prepare_data.py --only klettres-data     # one package of it
    python prepare_data.py musicnet                 # or fsd50k, aishell3, gramophone
    python prepare_data.py scores                   # music rendered from scores, to data/scores
    python prepare_data.py notes ~/cello ~/drums    # music from recorded notes, to data/notes
    python prepare_data.py ~/films --category speech
    python prepare_data.py pack --manifests data/starter/manifest.csv --output data/packed

Every clip is stored as a 44.1 kHz mono FLAC file; `manifest.csv` gives its origin, licence, split
and measures. The gramophone noise is not clean audio and is unpacked unchanged. An interrupted run
continues when it is started again. Clips that cannot be decoded are left out and listed; if a
package or data set cannot be downloaded or read, the exit status is 1. `pack` puts excerpts of
corpora into a few megabytes of Ogg Opus, for training on a machine that little can be copied to.

Requirements: `pip install -r requirements-corpus.txt`. The starter corpus, of freely licensed
packages, also needs `apt-get` and `dpkg-deb` (Debian, Ubuntu and related systems), but no root;
`.deb` files in OUTPUT/downloads are not downloaded again. The criteria for `clean` are `is_clean`
in `historical_denoiser/corpus/manifest.py`; changing them requires no decoding.

`scores` plays public-domain scores of the Python package music21 with sampled instruments and
needs `fluidsynth`. `notes` plays the same scores, and drawn pieces, with recorded notes: audio
files in the folders, named after their pitches.
"""

if __name__ == "__main__":
    from historical_denoiser.core.interrupts import end_at_once

    end_at_once()

import argparse
import logging
import os
from pathlib import Path

from historical_denoiser.core.checks import UserError, require
from historical_denoiser.core.command_line import run_main
from historical_denoiser.data.settings import CATEGORIES

DATA_SETS = ("musicnet", "fsd50k", "aishell3", "gramophone")
# The options of each kind of corpus, besides `OPTIONS_OF_ALL`.
OPTIONS = {"starter": {"only", "recipe", "keep_downloads"},
           "scores": {"hours", "seed", "keep_downloads", "ensemble"},
           "notes": {"folders", "hours", "seed"},
           "pack": {"manifests", "megabytes", "shares", "seed"},
           **dict.fromkeys(DATA_SETS, {"recipe", "archives", "keep_downloads"}),
           "a folder": {"category"}}
OPTIONS_OF_ALL = {"what", "output", "jobs"}


def make_parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0],
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("what", nargs="?", metavar="DATASET|FOLDER", default="starter",
                        help="starter, scores, notes, musicnet, fsd50k, aishell3, gramophone or "
                             "pack; or a folder of audio, with --category")
    parser.add_argument("folders", nargs="*", type=Path, metavar="NOTES",
                        help="folders of recorded notes, only after notes")
    parser.add_argument("--category", choices=CATEGORIES, help="of the audio in FOLDER")
    parser.add_argument("--output", type=Path,
                        help="folder of the corpus; default: data/ and the name of the data set "
                             "or folder")
    parser.add_argument("--archives", type=Path, metavar="FOLDER",
                        help="folder in which a data set's archives are, or will be kept")
    parser.add_argument("--only", nargs="+", metavar="PACKAGE", default=[],
                        help="build only these packages; the manifest also lists those that were "
                             "built before")
    parser.add_argument("--recipe", type=Path,
                        help="list of packages, or of files of data sets, to use instead of that "
                             "in conf/corpus/")
    parser.add_argument("--hours", type=float, default=20.0,
                        help="length of the audio to render from scores or notes")
    parser.add_argument("--ensemble", metavar="NAME",
                        help="ensemble that plays all scores, such as piano; without it, each "
                             "score draws its players, and drawn pieces are added")
    parser.add_argument("--seed", type=int, default=0,
                        help="seed of performances, their order, and the excerpts to pack")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1,
                        help="number of worker processes")
    parser.add_argument("--keep-downloads", action="store_true",
                        help="keep downloaded packages and archives in OUTPUT/downloads/")
    parser.add_argument("--manifests", nargs="+", type=Path, metavar="CSV", default=[],
                        help="manifests of the corpora to pack")
    parser.add_argument("--megabytes", type=float, default=48.0, help="size of the packed corpus")
    parser.add_argument("--shares", nargs="+", metavar="CATEGORY=SHARE",
                        default=["speech=0.25", "effects=0.1", "music=0.65"],
                        help="shares of this size")
    return parser


def main(arguments: list[str] | None = None) -> None:
    """Builds the corpus that `arguments` describe; None stands for the command line.

    Raises:
        UserError: An option is wrong, a package failed, or a Python package is missing.
        OSError: A folder cannot be written or the disk is full.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = make_parser()
    options = parser.parse_intermixed_args(arguments)  # options may come before folders
    require(options.jobs >= 1, "--jobs", "at least 1", options.jobs)
    require(options.hours > 0.0, "--hours", "above 0", options.hours)
    require(options.seed >= 0, "--seed", "at least 0", options.seed)
    what = "a folder" if options.category else options.what
    require(what in OPTIONS, "DATASET|FOLDER",
            f"one of {', '.join(OPTIONS)} of audio with `--category`", options.what)
    for name, value in vars(options).items():
        if name not in OPTIONS[what] | OPTIONS_OF_ALL and value not in (
                [], parser.get_default(name)):
            option = name if name == "folders" else f"--{name.replace('_', '-')}"
            raise UserError(f"`{option}` must not go with {what}. Received: {value}")
    output = options.output or Path("data") / Path(options.what).resolve().name
    try:
        {"starter": _build_starter, "scores": _build_scores, "notes": _build_notes, "pack": _pack,
         "a folder": _build_folder}.get(what, _build_public)(options, output)
    except ModuleNotFoundError as error:
        raise UserError(f"the Python package {error.name} is missing: "
                        "pip install -r requirements-corpus.txt") from error


# Each function imports its modules, so that `--help` and errors need no packages and no time.


def _build_starter(options: argparse.Namespace, output: Path) -> None:
    from historical_denoiser.corpus.debian_packages import RECIPE, build_corpus, read_recipe

    recipe = read_recipe(options.recipe or RECIPE)
    require(set(options.only) <= set(recipe), "--only", f"packages of {list(recipe)}", options.only)
    wanted = [name for name in recipe if name in options.only or not options.only]
    failed = build_corpus(recipe, wanted, output, options.jobs, options.keep_downloads)
    if failed:
        raise UserError(f"{len(failed)} of {len(wanted)} packages failed; {'; '.join(failed)}")


def _build_scores(options: argparse.Namespace, output: Path) -> None:
    from historical_denoiser.corpus.performance import ENSEMBLES
    from historical_denoiser.corpus.scores import build_scores

    require(options.ensemble in (None, *ENSEMBLES), "--ensemble", f"one of {', '.join(ENSEMBLES)}",
            options.ensemble)
    build_scores(output, options.hours, options.seed, options.jobs, options.keep_downloads,
                 options.ensemble)


def _build_notes(options: argparse.Namespace, output: Path) -> None:
    from historical_denoiser.corpus.recorded_notes import build_notes

    build_notes(options.folders, output, options.hours, options.seed, options.jobs)


def _pack(options: argparse.Namespace, output: Path) -> None:
    from historical_denoiser.corpus.packing import pack_corpus

    if not (options.manifests and options.output):
        raise UserError("pack must come with `--manifests` and `--output`")
    try:
        shares = {name: float(share) for name, share in (
            text.split("=") for text in options.shares)}
    except ValueError as error:
        raise UserError("`--shares` must be such as speech=0.25. "
                        f"Received: {options.shares}") from error
    pack_corpus(options.manifests, output, options.megabytes, shares, options.seed)


def _build_public(options: argparse.Namespace, output: Path) -> None:
    from historical_denoiser.corpus.downloads import TABLE, read_table
    from historical_denoiser.corpus.public_data import build_public

    table = options.recipe or TABLE
    files = [file for file in read_table(table) if file.dataset == options.what]
    require(bool(files), "--recipe", f"a list with files of {options.what}", str(table))
    build_public(files, output, options.archives, options.jobs, options.keep_downloads)


def _build_folder(options: argparse.Namespace, output: Path) -> None:
    from historical_denoiser.corpus.folders import build_folder

    build_folder(Path(options.what), options.category, output, options.jobs)


if __name__ == "__main__":
    run_main(main)
