"""Takes the audio of any folder into a corpus."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import soundfile

from denoiser.checks import UserError
from denoiser.corpus import conversion
from denoiser.corpus.conversion import PARTS_NAME, Journal, Member
from denoiser.data.audio_index import group_of, named_split
from denoiser.files import replacing

logger = logging.getLogger(__name__)

SUFFIXES = {f".{name.lower()}" for name in soundfile.available_formats()}
SUFFIXES |= {".aif", ".oga", ".opus"}
SUFFIXES -= {".raw"}  # says nothing of its rate


def build_folder(folder: Path, category: str, output: Path, jobs: int) -> None:
    """Converts the audio below any folder; files that were converted before are left alone.

    Args:
        folder: The folder. Its first level of folders, or else each file, is a group.
        category: One of `CATEGORIES`.
        output: The corpus's folder; it may hold other folders' audio as well.
        jobs: Number of worker processes.

    Raises:
        UserError: There is no audio, `output` lies in `folder`, or what would be written lies
            among files that this command did not write.
        OSError: `output` cannot be written or the disk is full.
    """
    if output.resolve().is_relative_to(folder.resolve()):
        raise UserError(f"`--output` must lie outside of {folder}. Received: {output}")
    paths = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*"))
             if path.suffix.lower() in SUFFIXES and path.is_file()}
    if not paths:
        raise UserError(f"`{folder}` must hold audio files: none was found")
    conversion.prepare_output(output, foreign="*.json")
    name = re.sub(r"[^A-Za-z0-9._-]", "_", folder.resolve().name)
    _claim_place(folder, output, category, name)
    members = {key: Member(key, category, f"{name}/{group_of(path, folder)}",
                           named_split(path, folder) or "", "not stated",
                           [path.stat().st_size, path.stat().st_mtime_ns])
               for key, path in paths.items()}
    journal = Journal(output / PARTS_NAME / f"{category}-{name}.jsonl", output,
                      f"{conversion.LAYOUT_VERSION} {category}")
    journal.keep({key: member.stamp for key, member in members.items()})
    logger.info("%s: %d files", folder, len(paths))
    with conversion.workers(jobs) as map_clips:
        conversion.convert_members(name, ((members[key], path) for key, path in paths.items()),
                                   journal, output, map_clips)
    conversion.finish_set(name, [category], journal, output)


def _claim_place(folder: Path, output: Path, category: str, name: str) -> None:
    """Notes that `folder` is converted under `name`.

    Raises:
        UserError: Other files lie there, which the conversion would delete.
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
