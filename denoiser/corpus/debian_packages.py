"""The starter corpus: gets Debian packages, finds the clips in them and converts these.

`conf/corpus/starter.csv` is the recipe: it says which files of which package are clips, and what
they are. `apt-get` and `dpkg-deb` do the work, without root.
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
import logging
import re
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from denoiser.checks import UserError
from denoiser.corpus import conversion
from denoiser.corpus.archives import ARCHIVE_ERRORS, CONTAINERS
from denoiser.corpus.clips import BROKEN, convert_clip
from denoiser.corpus.conversion import MapClips, make_job
from denoiser.corpus.manifest import (
    Row,
    distinct_clips,
    make_row,
    read_records,
    write_manifest,
)
from denoiser.data.audio_index import split_by_hash
from denoiser.data.settings import CATEGORIES
from denoiser.files import replacing

logger = logging.getLogger(__name__)
Part = dict[str, Any]  # of the manifest: what one package adds to it, as it is stored

RECIPE = Path(__file__).resolve().parents[2] / "conf" / "corpus" / "starter.csv"
LICENCES_NAME = "licences"  # the packages' copyright files


# --- The recipe ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rule:
    """One line of the recipe: some clips of one package. `|` separates patterns.

    Where both `validation` and `test` are empty, all speech trains, and of music and effects the
    hash of the group's name decides.
    """

    package: str
    version: str  # that the recipe was made from (Debian 12); others are tried as well
    megabytes: str  # size of the download
    licence: str  # of these clips, as the package states it
    category: str  # one of `CATEGORIES`
    where: str  # folder or container file inside the package; containers may be a glob
    include: str  # patterns on the path below `where`
    exclude: str  # patterns of what is left out after all
    group: str  # regular expression; what its brackets catch names the group
    otherwise: str  # the group's name where they catch nothing
    validation: str  # patterns of the groups that are held out for validation
    test: str
    notes: str

    def accepts(self, name: str) -> bool:
        """Whether the clip called `name`, a path below `where`, belongs to this rule."""
        return _matches(name, self.include) and not _matches(name, self.exclude)

    def group_of(self, name: str) -> str:
        """Returns the group of the clip called `name`."""
        match = re.search(self.group, name)
        caught = [part for part in match.groups() if part] if match else []
        return f"{self.package}/{'-'.join(caught) or self.otherwise or name}"

    def split_of(self, group: str) -> str:
        """Returns the split of a group of this rule."""
        name = group.removeprefix(f"{self.package}/")
        for split in ("validation", "test"):
            if _matches(name, getattr(self, split)):
                return split
        if self.category == "speech" or self.validation or self.test:
            return "train"
        return split_by_hash(group)


def _matches(name: str, patterns: str) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns.split("|") if pattern)


def read_recipe(path: Path) -> dict[str, list[Rule]]:
    """Reads the list of packages.

    Args:
        path: CSV file whose columns are the fields of `Rule`.

    Returns:
        The rules by package, both in the file's order.

    Raises:
        UserError: A column is missing or a value is not allowed.
    """
    recipe: dict[str, list[Rule]] = {}
    for rule in read_records(path, Rule):
        if rule.category not in CATEGORIES:
            raise UserError(f"`category` must be one of {CATEGORIES}. "
                            f"Received: category={rule.category!r} in {path}")
        recipe.setdefault(rule.package, []).append(rule)
    return recipe


# --- One package -----------------------------------------------------------------------------


@dataclass(frozen=True)
class SourceFile:
    """One file of a package that becomes a clip."""

    rule: Rule
    name: str  # below the rule's `where`
    source: str  # for the manifest
    path: Path


def find_sources(rules: list[Rule], unpacked: Path, scratch: Path) -> list[SourceFile]:
    """Lists the clips of one package; what lies in containers is written out to `scratch`.

    Args:
        rules: The package's rules; the first that accepts a clip has it.
        unpacked: The unpacked package.
        scratch: An empty folder.

    Returns:
        The clips, in the order of their paths.

    Raises:
        UserError: A rule finds nothing: the package is not the one that the recipe describes.
    """
    found: dict[str, SourceFile] = {}
    for rule in rules:
        before = len(found)
        for place in sorted(unpacked.glob(rule.where)):
            inside = place.relative_to(unpacked).as_posix()
            for name, path in _list_files(place, scratch / inside):
                key = f"{inside}/{name}"
                if "*" in rule.where:  # tells the members of several containers apart
                    name = f"{place.stem}/{name}"
                if key not in found and rule.accepts(name):
                    found[key] = SourceFile(rule, name, f"{rule.package}: {key}", path)
        if len(found) == before:
            raise UserError(f"{rule.package}: nothing matches {rule.include} in {rule.where}; "
                            "is it another version of the package?")
    return [source for _, source in sorted(found.items())]


def _list_files(place: Path, scratch: Path) -> list[tuple[str, Path]]:
    """Returns the names and paths of the files in a folder, or of a container unpacked there."""
    if place.is_dir():
        return [(path.relative_to(place).as_posix(), path)
                for path in sorted(place.rglob("*")) if path.is_file()]
    if place.suffix not in CONTAINERS:
        raise UserError(f"{place.name} must end in one of {sorted(CONTAINERS)}")
    members = []
    try:
        for name, content in CONTAINERS[place.suffix](place.read_bytes()):
            target = scratch / name
            if not target.resolve().is_relative_to(scratch.resolve()):
                raise UserError(f"{name!r} leads out of the container")
            if not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content)
            members.append((name, target))
    except (ValueError, IndexError, *ARCHIVE_ERRORS) as error:
        raise UserError(f"{place.name} cannot be read: {error}") from error
    return members


def get_package(name: str, downloads: Path, source: Path | None) -> Path:
    """Returns the package's `.deb` file, downloaded unless it is there already.

    Args:
        name: Name of the package.
        downloads: Folder for downloads.
        source: Folder that may hold the file, or None.

    Returns:
        The file.

    Raises:
        UserError: There is no `apt-get`, or it does not find the package.
    """
    for folder in (source, downloads):
        found = sorted(folder.glob(f"{name}_*.deb")) if folder else []
        if found:
            return found[-1]
    downloads.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=downloads) as partial:
        _run_tool(["apt-get", "download", name], f"to download {name}", f"{name}: not downloaded "
                  "(a first `apt-get update` may help)", Path(partial))
        arrived = sorted(Path(partial).glob("*.deb"))
        if not arrived:
            raise UserError(f"{name}: apt-get downloaded nothing")
        return arrived[-1].replace(downloads / arrived[-1].name)


def _run_tool(command: list[str], purpose: str, complaint: str, folder: Path) -> None:
    """Runs a program in `folder`; raises UserError where it is missing or fails."""
    if shutil.which(command[0]) is None:
        raise UserError(f"`{command[0]}` is needed {purpose} and was not found. It comes with "
                        "Debian, Ubuntu and their kin; a container of one of them will do.")
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines()
                 if line.strip() and not line.startswith("W:")]
        raise UserError(f"{complaint}: {lines[0] if lines else f'status {done.returncode}'}")


def build_package(rules: list[Rule], deb: Path, output: Path, map_clips: MapClips) -> Part:
    """Converts the clips of one package.

    Args:
        rules: The package's rules.
        deb: The package.
        output: The corpus's folder.
        map_clips: As `map`; what `conversion.workers` yields.

    Returns:
        The package's part of the manifest, which was also stored below `PARTS_NAME`.

    Raises:
        UserError: The package cannot be unpacked or holds other files than expected.
        OSError: The disk is full.
    """
    package = rules[0].package
    with tempfile.TemporaryDirectory(dir=output, prefix=conversion.UNPACKED_PREFIX) as scratch:
        unpacked = Path(scratch) / "package"
        unpacked.mkdir()
        _run_tool(["dpkg-deb", "-x", str(deb.resolve()), str(unpacked.resolve())],
                  f"to unpack {package}", f"{deb}: cannot be unpacked", Path(scratch))
        sources = find_sources(rules, unpacked, Path(scratch) / "members")
        logger.info("%s: %d clips", package, len(sources))
        results = _convert_sources(sources, output, map_clips)
        notice = unpacked / "usr" / "share" / "doc" / package / "copyright"
        if notice.is_file():
            (output / LICENCES_NAME).mkdir(exist_ok=True)
            shutil.copyfile(notice, output / LICENCES_NAME / f"{package}.txt")
    part = _make_part(rules, deb.name, zip(sources, results, strict=True))
    conversion.remove_others(output, package, CATEGORIES, {row["file"] for row in part["rows"]})
    with replacing(_part_path(output, package)) as temporary:
        temporary.write_text(json.dumps(part, indent=0), encoding="utf-8")
    return part


def _convert_sources(sources: list[SourceFile], output: Path, map_clips: MapClips
                     ) -> list[dict[str, Any]]:
    taken: set[str] = set()
    jobs = [make_job(source.path, source.rule.category, source.rule.package, source.name, output,
                     taken) for source in sources]
    results = []
    for count, result in enumerate(map_clips(convert_clip, jobs), start=1):
        results.append(result)
        if count % conversion.CLIPS_A_MESSAGE == 0:
            logger.info("  %d of %d clips", count, len(jobs))
    return results


def _make_part(rules: list[Rule], deb: str,
               converted: Iterable[tuple[SourceFile, dict[str, Any]]]) -> Part:
    """Returns what is stored of a package; clips that sound the same are listed once."""
    rows, left_out, broken, digests = [], Counter(), [], set()
    for source, result in converted:
        if "problem" in result:
            left_out[result["problem"]] += 1
            if result["problem"] == BROKEN:
                broken.append(f"{source.source}: {result['detail']}")
        elif result["digest"] in digests:
            left_out["duplicates"] += 1
        else:
            digests.add(result["digest"])
            rows.append({"file": result.pop("file"), "source": source.source,
                         "group": source.rule.group_of(source.name),
                         "rule": rules.index(source.rule), **result})
    return {"key": _part_key(rules), "deb": deb, "left_out": left_out, "broken": broken,
            "rows": rows}


def _part_path(output: Path, package: str) -> Path:
    return output / conversion.PARTS_NAME / f"{package}.json"


def _part_key(rules: list[Rule]) -> str:
    """Names what a package's files and measures depend on; splits and licences are not in it."""
    settled = [(rule.category, rule.where, rule.include, rule.exclude, rule.group, rule.otherwise)
               for rule in rules]
    return hashlib.sha256(f"{conversion.LAYOUT_VERSION} {settled}".encode()).hexdigest()


def read_part(rules: list[Rule], output: Path) -> Part | None:
    """Returns a package's part of the manifest, or None where it must be built (again)."""
    path = _part_path(output, rules[0].package)
    try:
        part = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    if part["key"] != _part_key(rules):
        return None
    return part if all((output / row["file"]).exists() for row in part["rows"]) else None


# --- The corpus ------------------------------------------------------------------------------


def build_corpus(recipe: dict[str, list[Rule]], wanted: list[str], output: Path,
                 source: Path | None, jobs: int, keep_downloads: bool) -> list[str]:
    """Builds the wanted packages and writes the manifest of everything that is there.

    Args:
        recipe: The rules by package.
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
    conversion.prepare_output(output, foreign="*.jsonl")
    downloads = output / conversion.DOWNLOADS_NAME
    parts = {package: read_part(rules, output) for package, rules in recipe.items()}
    failed = []
    with conversion.workers(jobs) as map_clips:
        for number, package in enumerate(wanted, start=1):
            logger.info("package %d of %d: %s %s", number, len(wanted), package, "is complete"
                        if parts[package] else f"({recipe[package][0].megabytes} MB)")
            try:
                part = parts[package] = parts[package] or build_package(
                    recipe[package], get_package(package, downloads, source), output, map_clips)
                conversion.report_left_out(len(part["rows"]), part["left_out"], part["broken"])
            except UserError as error:
                logger.error("%s", error)
                failed.append(str(error))
    rows = join_parts({package: part for package, part in parts.items() if part}, recipe)
    if rows:
        write_manifest(rows, output)
    if not keep_downloads and not failed:
        shutil.rmtree(downloads, ignore_errors=True)
    return failed


def join_parts(parts: dict[str, Part], recipe: dict[str, list[Rule]]) -> list[Row]:
    """Makes the manifest's rows from the packages' parts.

    Args:
        parts: The parts by package.
        recipe: The rules by package; its order is that of the packages.

    Returns:
        The rows, without those that repeat another package's clip.

    Raises:
        UserError: The recipe puts one group into two splits.
    """
    clips = (stored | {"rule": rules[stored["rule"]]}
             for package, rules in recipe.items() if package in parts
             for stored in parts[package]["rows"])
    rows, split_of = [], {}
    for stored in distinct_clips(clips):
        rule, group = stored["rule"], stored["group"]
        split = rule.split_of(group)
        if split_of.setdefault(group, split) != split:
            raise UserError(f"`{group}` must be in one split. Received: {split_of[group]} "
                            f"and {split}")
        rows.append(make_row(stored, category=rule.category, licence=rule.licence, split=split))
    return rows
