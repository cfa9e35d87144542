"""Gets Debian packages, finds the clips in them and converts these: the starter corpus's parts.

`prepare_data.py` is the command. `conf/corpus/starter.csv` is the recipe: it says which files of
which package are clips, and what they are. `apt-get` and `dpkg-deb` do the work, without root.
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
from denoiser.corpus.archives import ARCHIVE_ERRORS, CONTAINERS
from denoiser.corpus.clips import BROKEN, convert_clip
from denoiser.corpus.manifest import (
    CLIPS_A_MESSAGE,
    LAYOUT_VERSION,
    PARTS_NAME,
    CorpusError,
    MapClips,
    Row,
    distinct_clips,
    make_job,
    make_row,
    read_records,
    remove_others,
    split_by_hash,
)
from denoiser.data.settings import CATEGORIES
from denoiser.files import replacing

logger = logging.getLogger(__name__)

RECIPE = Path(__file__).resolve().parents[2] / "conf" / "corpus" / "starter.csv"
LICENCES_NAME = "licences"  # the packages' copyright files


# --- The recipe ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rule:
    """One line of the recipe: some clips of one package.

    Attributes:
        package: Name of the package.
        version: The version that the recipe was made from (Debian 12); others are tried as well.
        megabytes: Size of the download.
        licence: Licence of these clips, as the package states it.
        category: One of `CATEGORIES`.
        where: Folder or container file inside the package; containers may be a glob.
        include: `|`-separated patterns on the path below `where`.
        exclude: Patterns of what is left out after all.
        group: Regular expression; what its brackets catch names the group.
        otherwise: The group's name where they catch nothing.
        validation: `|`-separated patterns of the groups that are held out for validation.
        test: The same for test. Where both are empty, speech trains, and music and effects are
            held out by the hash of the group's name.
        notes: What a reader of the recipe should know.
    """

    package: str
    version: str
    megabytes: str
    licence: str
    category: str
    where: str
    include: str
    exclude: str
    group: str
    otherwise: str
    validation: str
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


def read_recipe(path: Path) -> list[Rule]:
    """Reads the list of packages.

    Args:
        path: CSV file whose columns are the fields of `Rule`.

    Returns:
        The rules, in the file's order.

    Raises:
        ValueError: A column is missing or a value is not allowed.
    """
    rules = read_records(path, Rule)
    for rule in rules:
        if rule.category not in CATEGORIES:
            raise UserError(f"`category` must be one of {CATEGORIES}. "
                            f"Received: category={rule.category!r} in {path}")
    return rules


def group_rules(rules: Iterable[Rule]) -> dict[str, list[Rule]]:
    """Returns the rules by package, both in the recipe's order."""
    grouped: dict[str, list[Rule]] = {}
    for rule in rules:
        grouped.setdefault(rule.package, []).append(rule)
    return grouped


# --- One package -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Clip:
    """One clip of a package."""

    rule: Rule
    name: str  # below the rule's `where`
    source: str  # for the manifest
    path: Path


def find_clips(rules: list[Rule], unpacked: Path, scratch: Path) -> list[Clip]:
    """Lists the clips of one package; what lies in containers is written out to `scratch`.

    Args:
        rules: The package's rules; the first that accepts a clip has it.
        unpacked: The unpacked package.
        scratch: An empty folder.

    Returns:
        The clips, in the order of their paths.

    Raises:
        CorpusError: A rule finds nothing: the package is not the one that the recipe describes.
    """
    found: dict[str, Clip] = {}
    for rule in rules:
        before = len(found)
        for place in sorted(unpacked.glob(rule.where)):
            inside = place.relative_to(unpacked).as_posix()
            if place.is_dir():
                members = [(path.relative_to(place).as_posix(), path)
                           for path in sorted(place.rglob("*")) if path.is_file()]
            else:
                members = _unpack_container(place, scratch / inside)
            for name, path in members:
                key = f"{inside}/{name}"
                if "*" in rule.where:  # tells the members of several containers apart
                    name = f"{place.stem}/{name}"
                if key not in found and rule.accepts(name):
                    found[key] = Clip(rule, name, f"{rule.package}: {key}", path)
        if len(found) == before:
            raise CorpusError(f"{rule.package}: nothing matches {rule.include} in {rule.where}; "
                              "is it another version of the package?")
    return [clip for _, clip in sorted(found.items())]


def _unpack_container(path: Path, folder: Path) -> list[tuple[str, Path]]:
    if path.suffix not in CONTAINERS:
        raise CorpusError(f"{path.name} must end in one of {sorted(CONTAINERS)}")
    members = []
    try:
        for name, content in CONTAINERS[path.suffix](path.read_bytes()):
            target = folder / name
            if not target.resolve().is_relative_to(folder.resolve()):
                raise UserError(f"{name!r} leads out of the container")
            if not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content)
            members.append((name, target))
    except (ValueError, IndexError, *ARCHIVE_ERRORS) as error:
        raise CorpusError(f"{path.name} cannot be read: {error}") from error
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
        CorpusError: There is no `apt-get`, or it does not find the package.
    """
    for folder in (source, downloads):
        found = sorted(folder.glob(f"{name}_*.deb")) if folder else []
        if found:
            return found[-1]
    _require_tool("apt-get", f"to download {name}")
    downloads.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=downloads) as partial:
        _run_tool(["apt-get", "download", name], f"{name}: not downloaded (a first "
                  "`apt-get update` may help)", Path(partial))
        arrived = sorted(Path(partial).glob("*.deb"))
        if not arrived:
            raise CorpusError(f"{name}: apt-get downloaded nothing")
        return arrived[-1].replace(downloads / arrived[-1].name)


def _require_tool(name: str, purpose: str) -> None:
    if shutil.which(name) is None:
        raise CorpusError(f"`{name}` is needed {purpose} and was not found. It comes with Debian, "
                          "Ubuntu and their kin; a container of one of them will do.")


def _run_tool(command: list[str], complaint: str, folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines()
                 if line.strip() and not line.startswith("W:")]
        raise CorpusError(f"{complaint}: {lines[0] if lines else f'status {done.returncode}'}")


def build_package(rules: list[Rule], deb: Path, output: Path,
                  map_clips: MapClips) -> dict[str, Any]:
    """Converts the clips of one package.

    Args:
        rules: The package's rules.
        deb: The package.
        output: The corpus's folder.
        map_clips: As `map`; what `corpus.workers` yields.

    Returns:
        The package's part of the manifest, which was also stored below `PARTS_NAME`.

    Raises:
        CorpusError: The package cannot be unpacked or holds other files than expected.
        OSError: The disk is full.
    """
    package = rules[0].package
    _require_tool("dpkg-deb", f"to unpack {package}")
    with tempfile.TemporaryDirectory(dir=output, prefix=".unpacked-") as scratch:
        unpacked = Path(scratch) / "package"
        unpacked.mkdir()
        _run_tool(["dpkg-deb", "-x", str(deb.resolve()), str(unpacked.resolve())],
                  f"{deb}: cannot be unpacked", Path(scratch))
        clips = find_clips(rules, unpacked, Path(scratch) / "members")
        logger.info("%s: %d clips", package, len(clips))
        results = _convert_clips(clips, output, map_clips)
        notice = unpacked / "usr" / "share" / "doc" / package / "copyright"
        if notice.is_file():
            (output / LICENCES_NAME).mkdir(exist_ok=True)
            shutil.copyfile(notice, output / LICENCES_NAME / f"{package}.txt")
    rows, problems, broken, digests = [], Counter(), [], set()
    for clip, result in zip(clips, results, strict=True):
        if "problem" in result:
            problems[result["problem"]] += 1
            if result["problem"] == BROKEN:
                broken.append(f"{clip.source}: {result['detail']}")
        elif result["digest"] in digests:
            problems["duplicates"] += 1
        else:
            digests.add(result["digest"])
            rows.append({"file": result.pop("file"), "source": clip.source,
                         "group": clip.rule.group_of(clip.name), "rule": rules.index(clip.rule),
                         **result})
    remove_others(output, package, CATEGORIES, {row["file"] for row in rows})
    part = {"key": _part_key(rules), "deb": deb.name, "left_out": dict(problems),
            "broken": broken, "rows": rows}
    with replacing(_part_path(output, package)) as temporary:
        temporary.write_text(json.dumps(part, indent=0), encoding="utf-8")
    return part


def _convert_clips(clips: list[Clip], output: Path, map_clips: MapClips) -> list[dict[str, Any]]:
    taken: set[str] = set()
    jobs = [make_job(clip.path, clip.rule.category, clip.rule.package, clip.name, output, taken)
            for clip in clips]
    results = []
    for result in map_clips(convert_clip, jobs):
        results.append(result)
        if len(results) % CLIPS_A_MESSAGE == 0 and len(results) < len(jobs):
            logger.info("  %d of %d clips, %d left", len(results), len(jobs),
                        len(jobs) - len(results))
    return results


def _part_path(output: Path, package: str) -> Path:
    return output / PARTS_NAME / f"{package}.json"


def _part_key(rules: list[Rule]) -> str:
    """Names what a package's files and measures depend on; splits and licences are not in it."""
    settled = [(rule.category, rule.where, rule.include, rule.exclude, rule.group, rule.otherwise)
               for rule in rules]
    return hashlib.sha256(f"{LAYOUT_VERSION} {settled}".encode()).hexdigest()


def read_part(rules: list[Rule], output: Path) -> dict[str, Any] | None:
    """Returns a package's part of the manifest, or None where it must be built (again)."""
    path = _part_path(output, rules[0].package)
    try:
        part = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    if part["key"] != _part_key(rules):
        return None
    return part if all((output / row["file"]).exists() for row in part["rows"]) else None


def join_parts(parts: dict[str, dict[str, Any]], rules: list[Rule]) -> list[Row]:
    """Makes the manifest's rows from the packages' parts.

    Args:
        parts: The parts by package.
        rules: The recipe.

    Returns:
        The rows, without those that repeat another package's clip.

    Raises:
        ValueError: The recipe puts one group into two splits.
    """
    clips = (stored | {"rule": own[stored["rule"]]}
             for package, own in group_rules(rules).items() if package in parts
             for stored in parts[package]["rows"])
    rows, split_of = [], {}
    for stored in distinct_clips(clips):
        rule, group = stored["rule"], stored["group"]
        split = rule.split_of(group)
        if split_of.setdefault(group, split) != split:
            raise UserError(f"`{group}` must be in one split. Received: {split_of[group]} "
                            f"and {split}")
        rows.append(make_row(stored, rule.category, rule.licence, split))
    return rows
