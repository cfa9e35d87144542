"""Converts the audio in any folder into a corpus."""

import logging
import re
from pathlib import Path

from historical_denoiser.core.checks import UserError
from historical_denoiser.core.files import replacing
from historical_denoiser.corpus import conversion
from historical_denoiser.corpus.conversion import Journal, Member
from historical_denoiser.data.audio_index import find_audio, group_of, named_split

logger = logging.getLogger(__name__)


def build_folder(folder: Path, category: str, output: Path, jobs: int) -> None:
    """Converts the audio files in `folder` that are new or have changed since the last run.

    Args:
        folder: Folder of audio files, also in subfolders.
        category: Category of all files.
        output: Folder of the corpus, which may also contain other folders and data sets.
        jobs: Number of worker processes.

    Raises:
        UserError: `output` is in `folder`, or its files would lie among files that this command
            did not write.
        OSError: There is no audio, `output` cannot be written or the disk is full.
    """
    if output.resolve().is_relative_to(folder.resolve()):
        raise UserError(f"`--output` must lie outside of {folder}. Received: {output}")
    paths = find_audio(folder)
    conversion.prepare_output(output)
    origin = re.sub(r"[^A-Za-z0-9._-]", "_", folder.resolve().name)
    _claim_place(folder, output, category, origin)
    members = []
    for path in paths:
        name, status = path.relative_to(folder).as_posix(), path.stat()
        members.append(Member(f"{origin}: {name}", name, category,
                              f"{origin}/{group_of(path, folder)}",
                              named_split(path, folder) or "", "not stated",
                              [status.st_size, status.st_mtime_ns]))
    journal = Journal(output, f"{category}-{origin}", f"{conversion.LAYOUT_VERSION} {category}")
    stamps = {member.source: member.stamp for member in members}
    journal.keep(lambda row: row["stamp"] == stamps.get(row["source"]))
    logger.info("%s: %d files", folder, len(paths))
    conversion.convert_members(origin, zip(members, paths, strict=True), journal, jobs)
    conversion.finish(origin, journal, [category])
    conversion.write_sets(output, [journal.path.stem])


def _claim_place(folder: Path, output: Path, category: str, origin: str) -> None:
    """Stores to which folder the FLAC files belong; raises UserError if others are there."""
    target, here = output / category / origin, folder.resolve()
    note = output / conversion.PARTS_NAME / f"{category}-{origin}.source"
    if here.is_relative_to(target.resolve()):
        raise UserError(f"`--output` must not be such that {folder} is where its own FLAC files "
                        f"go, {target}. Received: {output}")
    if note.exists() and note.read_text(encoding="utf-8") != str(here):
        raise UserError(f"`{folder}` must have another name than a folder that is in {output} "
                        f"already: {note.read_text(encoding='utf-8')} was converted under it. "
                        f"Choose another `--output`, or delete {note} if that folder was moved "
                        "here.")
    is_known = note.exists() or note.with_suffix(".jsonl").exists()
    if not is_known and target.is_dir() and any(target.iterdir()):
        raise UserError(f"`{target}` must be empty: it holds files that this command did not "
                        f"write. Choose another `--output`.")
    with replacing(note) as temporary:
        temporary.write_text(str(here), encoding="utf-8")
