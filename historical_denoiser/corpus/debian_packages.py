"""Builds the starter corpus: downloads Debian packages and converts the clips in them.

The recipe, `conf/corpus/starter.csv`, lists which files of which packages are clips, and their
category. `apt-get` and `dpkg-deb` download and unpack packages without root.
"""

import fnmatch
import hashlib
import logging
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from historical_denoiser.core.checks import UserError, require
from historical_denoiser.corpus import conversion
from historical_denoiser.corpus.archives import ARCHIVE_ERRORS, read_archive
from historical_denoiser.corpus.conversion import Journal, Member
from historical_denoiser.corpus.manifest import read_records
from historical_denoiser.data.audio_index import split_by_hash
from historical_denoiser.data.settings import CATEGORIES

logger = logging.getLogger(__name__)

RECIPE = Path(__file__).resolve().parents[2] / "conf" / "corpus" / "starter.csv"
LICENCES_NAME = "licences"  # the packages' copyright files


@dataclass(frozen=True)
class Rule:
    """One line of the recipe: some clips of one package. `|` separates patterns.

    If both `validation` and `test` are empty, all speech is for training, and the split of music
    and effects depends on the hash of the group's name.
    """

    package: str
    version: str  # version for which the recipe was written (Debian 12); others are accepted
    megabytes: str  # size of the download
    licence: str  # of these clips, as stated in the package
    category: str  # one of `CATEGORIES`
    where: str  # folder or ZIP file (`.zip`, `.pk3`) inside the package
    include: str  # patterns of paths below `where`
    exclude: str  # patterns of paths that are left out nevertheless
    group: str  # regular expression whose groups make up the name of the clips' group
    otherwise: str  # name of the group if the regular expression captures nothing
    validation: str  # patterns of the groups for validation
    test: str  # patterns of the groups for the test
    notes: str

    def accepts(self, name: str) -> bool:
        """Whether this rule applies to the clip `name`, a path below `where`."""
        return matches(name, self.include) and not matches(name, self.exclude)

    def group_of(self, name: str) -> str:
        """Returns the group of the clip `name`."""
        match = re.search(self.group, name)
        caught = [part for part in match.groups() if part] if match else []
        return f"{self.package}/{'-'.join(caught) or self.otherwise or name}"

    def split_of(self, group: str) -> str:
        """Returns the split of a group of this rule."""
        name = group.removeprefix(f"{self.package}/")
        for split in ("validation", "test"):
            if matches(name, getattr(self, split)):
                return split
        if self.category == "speech" or self.validation or self.test:
            return "train"
        return split_by_hash(group)


def matches(name: str, patterns: str) -> bool:
    """Returns whether a name fits one of several patterns, which are separated by `|`."""
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns.split("|") if pattern)


def read_recipe(path: Path) -> dict[str, list[Rule]]:
    """Reads a CSV file of rules and returns them by package, in the order of the file.

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
    """Returns the clips of an unpacked package, sorted by path, with their files.

    A clip belongs to the first rule that accepts it. For a clip in a ZIP file, the content is
    returned instead of the file.

    Raises:
        UserError: A rule finds nothing, which means that the recipe was written for another version
            of the package; or rules put a group into two splits.
    """
    found: dict[str, tuple[Member, Path | bytes]] = {}
    split_of: dict[str, str] = {}
    for rule in rules:
        before = len(found)
        for name, content in _list_files(unpacked / rule.where):
            key, group = f"{rule.where}/{name}", rule.group_of(name)
            if key in found or not rule.accepts(name):
                continue
            split = rule.split_of(group)
            if split_of.setdefault(group, split) != split:
                raise UserError(f"`{group}` must be in one split. Received: {split_of[group]} "
                                f"and {split}")
            found[key] = Member(f"{rule.package}: {key}", name, rule.category, group, split,
                                rule.licence), content
        if len(found) == before:
            raise UserError(f"{rule.package}: nothing matches {rule.include} in {rule.where}; "
                            "is it another version of the package?")
    return [pair for _, pair in sorted(found.items())]


def _list_files(place: Path) -> Iterator[tuple[str, Path | bytes]]:
    """Yields the names of the files in a folder with their paths, or in a ZIP with contents."""
    if place.is_file():
        try:
            yield from read_archive([place])
        except ARCHIVE_ERRORS as error:
            raise UserError(f"{place.name} cannot be read: {error}") from error
    for path in sorted(place.rglob("*")):
        if path.is_file():
            yield path.relative_to(place).as_posix(), path


def get_package(name: str, downloads: Path) -> Path:
    """Returns the package's `.deb` file in `downloads`, after downloading it if it is missing.

    Raises:
        UserError: `apt-get` is not installed, or does not find the package.
    """
    if found := sorted(downloads.glob(f"{name}_*.deb")):
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
    """Runs a program; raises UserError if it is not installed or fails.

    Args:
        command: Program and arguments.
        purpose: What the program is needed for, for the message.
        complaint: Beginning of the message if the program fails.
        folder: Working directory.
    """
    if shutil.which(command[0]) is None:
        raise UserError(f"`{command[0]}` is needed {purpose} and was not found. It comes with "
                        "Debian, Ubuntu and related systems, also in a container.")
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines()
                 if line.strip() and not line.startswith("W:")]
        raise UserError(f"{complaint}: {lines[0] if lines else f'status {done.returncode}'}")


def _convert_package(rules: list[Rule], deb: Path, journal: Journal, jobs: int) -> None:
    """Unpacks a package, converts its clips and copies its licence."""
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


def build_corpus(recipe: dict[str, list[Rule]], wanted: list[str], output: Path, jobs: int,
                 keep_downloads: bool) -> list[str]:
    """Builds packages, and writes the manifest of all packages that have been built so far.

    Args:
        recipe: Rules by package.
        wanted: Packages to build.
        output: Folder of the corpus. Packages in its folder `downloads` are not downloaded again.
        jobs: Number of worker processes.
        keep_downloads: Whether to keep the folder `downloads`.

    Returns:
        One message for each package that failed.

    Raises:
        OSError: `output` cannot be written or the disk is full.
    """
    conversion.prepare_output(output)
    downloads, failed = output / conversion.DOWNLOADS_NAME, []
    for number, package in enumerate(wanted, start=1):
        rules = recipe[package]
        made_by = [replace(rule, version="", megabytes="", notes="") for rule in rules]
        key = hashlib.sha256(f"{conversion.LAYOUT_VERSION} {made_by}".encode()).hexdigest()
        journal = Journal(output, package, key)
        logger.info("package %d of %d: %s %s", number, len(wanted), package,
                    "is complete" if journal.complete else f"({rules[0].megabytes} MB)")
        try:
            if not journal.complete:
                _convert_package(rules, get_package(package, downloads), journal, jobs)
            conversion.finish(package, journal)
        except UserError as error:
            logger.error("%s", error)
            failed.append(str(error))
    if len(failed) < len(wanted):
        conversion.write_sets(output, list(recipe))
    if not keep_downloads and not failed:
        shutil.rmtree(downloads, ignore_errors=True)
    return failed
