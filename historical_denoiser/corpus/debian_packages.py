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
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from historical_denoiser.core.checks import UserError, require
from historical_denoiser.corpus import conversion
from historical_denoiser.corpus.archives import ARCHIVE_ERRORS, CONTAINERS, read_zip
from historical_denoiser.corpus.conversion import Journal, Member
from historical_denoiser.corpus.manifest import read_records, write_manifest
from historical_denoiser.data.audio_index import split_by_hash
from historical_denoiser.data.settings import CATEGORIES

logger = logging.getLogger(__name__)

RECIPE = Path(__file__).resolve().parents[2] / "conf" / "corpus" / "starter.csv"
LICENCES_NAME = "licences"  # the packages' copyright files


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
    """Reads a CSV file of rules and returns them by package, both in the file's order.

    Raises:
        UserError: A column is missing or a value is not allowed.
    """
    recipe: dict[str, list[Rule]] = {}
    for rule in read_records(path, Rule):
        require(rule.category in CATEGORIES, "category", f"one of {CATEGORIES} in {path}",
                rule.category)
        recipe.setdefault(rule.package, []).append(rule)
    return recipe


def find_members(rules: list[Rule], unpacked: Path) -> list[tuple[Member, Path | bytes]]:
    """Lists the clips of an unpacked package, in the order of their paths.

    A clip belongs to the first rule that accepts it. It comes with its file, or with its content
    where it lies in a container.

    Raises:
        UserError: A rule finds nothing: the package is not the one that the recipe describes.
    """
    found: dict[str, tuple[Member, Path | bytes]] = {}
    for number, rule in enumerate(rules):
        before = len(found)
        for place in sorted(unpacked.glob(rule.where)):
            inside = place.relative_to(unpacked).as_posix()
            for name, content in _list_files(place):
                key = f"{inside}/{name}"
                if "*" in rule.where:  # tells the members of several containers apart
                    name = f"{place.stem}/{name}"
                if key not in found and rule.accepts(name):
                    found[key] = Member(f"{rule.package}: {key}", name, rule.category,
                                        rule.group_of(name), rule=number), content
        if len(found) == before:
            raise UserError(f"{rule.package}: nothing matches {rule.include} in {rule.where}; "
                            "is it another version of the package?")
    return [pair for _, pair in sorted(found.items())]


def _list_files(place: Path) -> Iterator[tuple[str, Path | bytes]]:
    """Yields the names of the files in a folder or container, with their paths or contents."""
    if place.is_dir():
        for path in sorted(place.rglob("*")):
            if path.is_file():
                yield path.relative_to(place).as_posix(), path
        return
    if place.suffix not in (".zip", *CONTAINERS):
        raise UserError(f"{place.name} must end in one of {['.zip', *sorted(CONTAINERS)]}")
    try:
        if place.suffix == ".zip":  # can be larger than the memory
            yield from read_zip(place)
            return
        yield from CONTAINERS[place.suffix](place.read_bytes())
    except (ValueError, IndexError, *ARCHIVE_ERRORS) as error:
        raise UserError(f"{place.name} cannot be read: {error}") from error


def get_package(name: str, downloads: Path, source: Path | None) -> Path:
    """Returns the package's `.deb` file from `source` or `downloads`, else downloads it there.

    Raises:
        UserError: There is no `apt-get`, or it does not find the package.
    """
    for folder in (source, downloads):
        found = sorted(folder.glob(f"{name}_*.deb")) if folder else []
        if found:
            return found[-1]
    downloads.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=downloads) as partial:
        run_tool(["apt-get", "download", name], f"to download {name}", f"{name}: not downloaded "
                  "(a first `apt-get update` may help)", Path(partial))
        arrived = sorted(Path(partial).glob("*.deb"))
        if not arrived:
            raise UserError(f"{name}: apt-get downloaded nothing")
        return arrived[-1].replace(downloads / arrived[-1].name)


def run_tool(command: list[str], purpose: str, complaint: str, folder: Path) -> None:
    """Runs a program in `folder`; raises UserError where it is missing or fails."""
    if shutil.which(command[0]) is None:
        raise UserError(f"`{command[0]}` is needed {purpose} and was not found. It comes with "
                        "Debian, Ubuntu and their kin; a container of one of them will do.")
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines()
                 if line.strip() and not line.startswith("W:")]
        raise UserError(f"{complaint}: {lines[0] if lines else f'status {done.returncode}'}")


def convert_package(rules: list[Rule], deb: Path, journal: Journal, jobs: int) -> None:
    """Unpacks a package, converts its clips and keeps its statement of licences.

    Raises:
        UserError: The package cannot be unpacked or holds other files than expected.
        OSError: The disk is full.
    """
    package, output = rules[0].package, journal.output
    with tempfile.TemporaryDirectory(dir=output, prefix=conversion.UNPACKED_PREFIX) as scratch:
        unpacked = Path(scratch).resolve() / "package"
        run_tool(["dpkg-deb", "-x", str(deb.resolve()), str(unpacked)],
                  f"to unpack {package}", f"{deb}: cannot be unpacked", Path(scratch))
        members = find_members(rules, unpacked)
        logger.info("%s: %d clips", package, len(members))
        conversion.convert_members(package, members, journal, jobs)
        notice = unpacked / "usr" / "share" / "doc" / package / "copyright"
        if notice.is_file():
            (output / LICENCES_NAME).mkdir(exist_ok=True)
            shutil.copyfile(notice, output / LICENCES_NAME / f"{package}.txt")


def build_corpus(recipe: dict[str, list[Rule]], wanted: list[str], output: Path,
                 source: Path | None, jobs: int, keep_downloads: bool) -> list[str]:
    """Builds the wanted packages and writes the manifest of everything that is there.

    Packages that are not in the folder `source` are downloaded.

    Returns:
        One message for each package that failed.

    Raises:
        UserError: The recipe puts one group into two splits.
        OSError: `output` cannot be written or the disk is full.
    """
    conversion.prepare_output(output, starter=True)
    downloads = output / conversion.DOWNLOADS_NAME
    journals = {package: _open_journal(rules, output) for package, rules in recipe.items()}
    failed = []
    for number, package in enumerate(wanted, start=1):
        rules, journal = recipe[package], journals[package]
        logger.info("package %d of %d: %s %s", number, len(wanted), package,
                    "is complete" if journal.complete else f"({rules[0].megabytes} MB)")
        try:
            if not journal.complete:
                convert_package(rules, get_package(package, downloads, source), journal, jobs)
            conversion.finish(package, journal)
        except UserError as error:
            logger.error("%s", error)
            failed.append(str(error))
    rows = list(_list_rows(recipe, journals))
    if rows:
        write_manifest(rows, output)
    if not keep_downloads and not failed:
        shutil.rmtree(downloads, ignore_errors=True)
    return failed


def _open_journal(rules: list[Rule], output: Path) -> Journal:
    """Returns a package's journal, whose key leaves out the recipe's splits and licences."""
    package = rules[0].package
    path = output / conversion.PACKAGES_NAME / f"{package}.jsonl"
    former = output / conversion.PARTS_NAME / f"{package}.json"
    if former.exists():  # as earlier versions stored a package
        part = json.loads(former.read_text(encoding="utf-8"))
        conversion.write_lines(path, [{"key": part["key"]}, *part["rows"], {"complete": True}])
        former.unlink()
    settled = [(rule.category, rule.where, rule.include, rule.exclude, rule.group, rule.otherwise)
               for rule in rules]
    key = hashlib.sha256(f"{conversion.LAYOUT_VERSION} {settled}".encode()).hexdigest()
    return Journal(path, output, key)


def _list_rows(recipe: dict[str, list[Rule]], journals: dict[str, Journal]
               ) -> Iterator[dict[str, Any]]:
    """Yields the clips of all complete packages, with splits and licences as the recipe says."""
    split_of: dict[str, str] = {}
    for package, rules in recipe.items():
        for row in journals[package].kept if journals[package].complete else []:
            rule, group = rules[row["rule"]], row["group"]
            split = rule.split_of(group)
            if split_of.setdefault(group, split) != split:
                raise UserError(f"`{group}` must be in one split. Received: {split_of[group]} "
                                f"and {split}")
            yield row | {"category": rule.category, "licence": rule.licence, "split": split}
