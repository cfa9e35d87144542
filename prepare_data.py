"""Builds corpora of clean audio: from packages, scores, public data sets, or any folder.

    python prepare_data.py                          # the starter corpus, to data/starter
    python prepare_data.py --only klettres-data     # one package of it
    python prepare_data.py --source ~/debs          # .deb files that are already here
    python prepare_data.py musicnet                 # or fsd50k, aishell3, gramophone
    python prepare_data.py scores                   # music rendered from scores, to data/scores
    python prepare_data.py notes ~/cello ~/drums    # played from recorded notes, to data/notes
    python prepare_data.py ~/films --category speech
    python prepare_data.py pack --manifests data/starter/manifest.csv --output data/packed

Every clip becomes a 44.1 kHz mono FLAC file; `manifest.csv` says where it comes from, under which
licence, in which split, and how clean it is. The gramophone noise data set is no clean audio: it
is unpacked as it is. A run that was stopped goes on. Clips that cannot be decoded are left out and
listed; a package or data set that cannot be had makes the exit status 1. `pack` puts stretches of
corpora into a few megabytes of Ogg Opus, for training on a machine that little can be copied to.

The starter corpus comes from freely licensed packages; it needs `apt-get` and `dpkg-deb` (Debian,
Ubuntu and their kin), no root. Its recipe names the splits and licences, and `is_clean` in
`historical_denoiser/corpus/manifest.py` is the rule for `clean`: both can be changed without
decoding anything again.

`scores` plays public-domain scores of the Python package music21 through sampled instruments; it
needs `fluidsynth` besides. `notes` plays the same scores, and drawn pieces, from recorded notes:
audio files below the folders, named after their pitches.
"""

from __future__ import annotations

if __name__ == "__main__":
    from historical_denoiser.core.interrupts import end_at_once

    end_at_once()

import argparse
import logging
import os
from pathlib import Path

from historical_denoiser.core.checks import UserError, require
from historical_denoiser.core.command_line import run_main
from historical_denoiser.corpus.conversion import DOWNLOADS_NAME
from historical_denoiser.corpus.debian_packages import RECIPE, build_corpus, read_recipe
from historical_denoiser.corpus.downloads import TABLE, read_table
from historical_denoiser.corpus.folders import build_folder
from historical_denoiser.corpus.note_bank import EXPECTED_NAMES
from historical_denoiser.corpus.packing import pack_corpus
from historical_denoiser.corpus.public_data import CLASSIFIERS, NOISE_SET, build_public
from historical_denoiser.corpus.recorded_notes import NAME as NOTES
from historical_denoiser.corpus.recorded_notes import build_notes
from historical_denoiser.corpus.scores import NAME, build_scores
from historical_denoiser.data.settings import CATEGORIES


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Reads the words after the program's name, `sys.argv`'s when None."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0],
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("what", nargs="?", metavar="DATASET|FOLDER", default="starter",
                        help="the starter corpus; or scores; or notes; or musicnet, fsd50k, "
                             "aishell3 or gramophone; or a folder of audio (write ./musicnet for "
                             "a folder of that name); or pack")
    parser.add_argument("folders", nargs="*", type=Path, metavar="NOTES",
                        help="the folders of recorded notes, after notes alone")
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
    parser.add_argument("--hours", type=float, default=20.0,
                        help="of audio to render from scores or notes")
    parser.add_argument("--seed", type=int, default=0,
                        help="draws how scores are performed, in which order, and what is packed")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1,
                        help="number of worker processes")
    parser.add_argument("--keep-downloads", action="store_true",
                        help=f"keep downloaded packages and archives in {DOWNLOADS_NAME}/")
    parser.add_argument("--manifests", nargs="+", type=Path, metavar="CSV", default=[],
                        help="of the corpora to pack")
    parser.add_argument("--megabytes", type=float, default=48.0, help="space of what is packed")
    parser.add_argument("--shares", nargs="+", metavar="CATEGORY=SHARE",
                        default=["speech=0.25", "effects=0.1", "music=0.65"],
                        help="of that space")
    return parser.parse_intermixed_args(arguments)  # options may stand before the folders


def main(arguments: list[str] | None = None) -> None:
    """Builds the corpus that the command line describes.

    Raises:
        UserError: An option is wrong or a package failed.
        OSError: A folder cannot be written or the disk is full.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    options = parse_arguments(arguments)
    require(options.jobs >= 1, "--jobs", "at least 1", options.jobs)
    require(options.hours > 0.0, "--hours", "above 0", options.hours)
    require(options.seed >= 0, "--seed", "at least 0", options.seed)
    require(not options.source or options.source.is_dir(), "--source", "a folder", options.source)
    if options.what == "pack":
        _pack(options)
    elif options.what == NOTES and not options.category:
        _build_notes(options)
    elif options.folders:
        raise UserError(f"several folders must go with {NOTES} alone. Received: {options.what}")
    elif options.manifests:
        raise UserError("`--manifests` must go with pack alone")
    elif options.what == "starter":
        _build_starter(options)
    elif options.only or options.source and options.what != NAME:
        raise UserError("`--only` must go with the starter corpus alone, `--source` with it or "
                        "with scores")
    elif options.what == NAME and not options.category:
        if options.archives or options.recipe:
            raise UserError("`--archives` and `--recipe` must not go with scores")
        build_scores(options.output or Path("data") / NAME, options.source, options.hours,
                     options.seed, options.jobs, options.keep_downloads)
    else:
        _build_other(options)


def _pack(options: argparse.Namespace) -> None:
    if not (options.manifests and options.output):
        raise UserError("pack must come with `--manifests` and `--output`")
    try:
        shares = {name: float(share) for name, share in (
            text.split("=") for text in options.shares)}
    except ValueError as error:
        raise UserError("`--shares` must be such as speech=0.25. "
                        f"Received: {options.shares}") from error
    pack_corpus(options.manifests, options.output, options.megabytes, shares, options.seed)


def _build_notes(options: argparse.Namespace) -> None:
    if not options.folders:
        raise UserError(f"{NOTES} must come with folders of recorded notes: audio files with "
                        f"{EXPECTED_NAMES}")
    if options.only or options.source or options.archives or options.recipe or options.manifests:
        raise UserError("`--only`, `--source`, `--archives`, `--recipe` and `--manifests` must not "
                        f"go with {NOTES}")
    build_notes(options.folders, options.output or Path("data") / NOTES, options.hours,
                options.seed, options.jobs)


def _build_other(options: argparse.Namespace) -> None:
    """Builds a public data set or a folder's corpus."""
    files = [file for file in read_table(options.recipe or TABLE)
             if file.dataset in (*CLASSIFIERS, NOISE_SET)]
    names = sorted({file.dataset for file in files})
    folder = Path(options.what)
    output = options.output or Path("data") / folder.resolve().name
    if options.what in names:
        require(not options.category, "--category",
                f"given with a folder alone; {options.what} has its own", options.category)
        build_public([file for file in files if file.dataset == options.what], output,
                     options.archives, options.jobs, options.keep_downloads)
        return
    require(folder.is_dir(), "DATASET|FOLDER", 
            f"one of {', '.join(['starter', NAME, NOTES, *names, 'pack'])}, or a folder of audio",
            options.what)
    if not options.category or options.archives:
        raise UserError(f"a folder must come with `--category`, one of {CATEGORIES}, and without "
                        f"`--archives`. Received: {options.what}")
    build_folder(folder, options.category, output, options.jobs)


def _build_starter(options: argparse.Namespace) -> None:
    if options.category or options.archives:
        raise UserError("`--category` and `--archives` must come with a data set or a folder")
    recipe = read_recipe(options.recipe or RECIPE)
    wanted = [name for name in recipe if name in options.only or not options.only]
    require(set(options.only) <= set(wanted), "--only", f"packages of {list(recipe)}",
            options.only)
    failed = build_corpus(recipe, wanted, options.output or Path("data/starter"), options.source,
                          options.jobs, options.keep_downloads)
    if failed:
        raise UserError(f"{len(failed)} of {len(wanted)} packages failed; {'; '.join(failed)}")


if __name__ == "__main__":
    run_main(main)
