"""Downloads the files of public data sets that `conf/corpus/public.csv` lists, and checks them.

A download is a `.part` file until it is complete and its checksum is correct. An interrupted
download is resumed where it stopped.
"""

import hashlib
import logging
import re
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import requests
from requests import codes
from tqdm import tqdm

from historical_denoiser.core.checks import UserError
from historical_denoiser.corpus.manifest import read_records

logger = logging.getLogger(__name__)

TABLE = Path(__file__).resolve().parents[2] / "conf" / "corpus" / "public.csv"
CHUNK_BYTES = 1 << 16  # at most this much is lost when a connection breaks
TIMEOUT_SECONDS = 60.0  # longest time without a single byte
MAX_FAILURES = 6  # consecutive failures without progress
BACKOFF_SECONDS = 2.0  # doubles with each consecutive failure
RETRIED = (408, 425, 429, 500, 502, 503, 504)  # HTTP statuses of temporary failures
SPARE_BYTES = 1 << 30  # free space that is left on the disk


@dataclass(frozen=True)
class RemoteFile:
    """One line of the table: a file of a data set."""

    dataset: str  # its name on the command line
    file: str
    bytes: str  # empty if the exact size is unknown
    checksum: str  # `md5:...` or `sha256:...`, or empty if none is published
    category: str  # of the clips, unless the data set has labels for them
    licence: str  # of the clips
    url: str
    page: str  # web page that describes the data set
    notes: str


def read_table(path: Path) -> list[RemoteFile]:
    """Reads a CSV file whose columns are the fields of `RemoteFile`.

    Raises:
        UserError: A column is missing or a value is not allowed.
    """
    files = read_records(path, RemoteFile)
    for file in files:
        for column, pattern, expected in (
                ("bytes", r"\d*", "a number"),
                ("checksum", r"(md5:[0-9a-f]{32}|sha256:[0-9a-f]{64})?", "md5:... or sha256:...")):
            value = getattr(file, column)
            if not re.fullmatch(pattern, value):
                raise UserError(f"`{column}` must be {expected} or empty. Received: {value!r} for "
                                f"{file.file} in {path}")
    return files


def require_space(folder: Path, wanted_bytes: int, purpose: str) -> None:
    """Raises UserError unless the disk of `folder` has space for `wanted_bytes`.

    Args:
        folder: A folder on the disk.
        wanted_bytes: Size of what is going to be written.
        purpose: What it is, for the message.
    """
    free = shutil.disk_usage(folder).free
    if free < wanted_bytes + SPARE_BYTES:
        raise UserError(f"{folder}: {purpose} needs about {wanted_bytes / 1e9:.1f} GB and "
                        f"{SPARE_BYTES / 1e9:.0f} GB to spare; {free / 1e9:.1f} GB are free")


def download_all(files: list[RemoteFile], folder: Path) -> dict[str, Path]:
    """Downloads the files that are not in `folder`, checks all of them and returns paths by name.

    Raises:
        UserError: A file cannot be downloaded, has another checksum, or does not fit on the disk.
    """
    folder.mkdir(parents=True, exist_ok=True)
    require_space(folder, sum(int(file.bytes or 0) - _size(_part(folder / file.file))
                              for file in files if not (folder / file.file).exists()),
                  "the download")
    return {file.file: download(file, folder) for file in files}


def download(file: RemoteFile, folder: Path) -> Path:
    """Returns a complete and checked file, after downloading it if it is not in `folder`.

    Raises:
        UserError: The file cannot be downloaded, or its size or checksum is wrong. In the latter
            case it was renamed.
    """
    target = folder / file.file
    part = target if target.exists() else _part(target)
    if part != target:
        _complete(file, part)
    _check(file, part)
    return part.replace(target)


def _part(target: Path) -> Path:
    return target.with_name(f"{target.name}.part")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _complete(file: RemoteFile, part: Path) -> None:
    """Sends requests until `part` is complete; gives up after `MAX_FAILURES` without progress."""
    failures, longest = 0, _size(part)
    while True:
        try:
            return _receive(file, part)
        except requests.RequestException as error:
            have = _size(part)
            failures = 1 if have > longest else failures + 1
            longest = max(longest, have)
            refused = error.response is not None and error.response.status_code not in RETRIED
            if refused or failures >= MAX_FAILURES:
                raise UserError(f"{file.url}: gave up after {failures} attempts without progress, "
                                f"with {have} bytes downloaded: {error}; run the same command "
                                "again to resume") from error
            logger.warning("%s: %s; trying again", file.file, error)
        time.sleep(BACKOFF_SECONDS * 2 ** (failures - 1))


def _receive(file: RemoteFile, part: Path) -> None:
    """Requests the missing rest of `part` and appends it; raises RequestException if it breaks."""
    have, expected = _size(part), int(file.bytes or 0)
    if 0 < expected <= have:
        return  # a file that is too long fails the check later
    # The length of a compressed transfer would differ from that of the file.
    headers = {"User-Agent": "prepare_data.py", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    with requests.get(file.url, headers=headers, stream=True, timeout=TIMEOUT_SECONDS) as reply:
        if have and reply.status_code in (codes.ok, codes.range_not_satisfiable):
            logger.info("%s: the server cannot resume at byte %d; starting over", file.file, have)
            part.unlink()
            return _receive(file, part)
        reply.raise_for_status()
        length = int(reply.headers.get("Content-Length", 0))
        require_space(part.parent, length, file.file)
        with part.open("ab") as stream, \
                tqdm(total=have + length if length else None, initial=have, unit="B",
                     unit_scale=True, desc=file.file, disable=None) as progress:
            for chunk in reply.iter_content(CHUNK_BYTES):  # raises if the connection breaks
                stream.write(chunk)
                progress.update(len(chunk))


def _check(file: RemoteFile, path: Path) -> None:
    """Checks size and checksum; a wrong file is renamed so that it is never used."""
    size, problem = _size(path), ""
    if file.bytes and size != int(file.bytes):
        problem = f"has {size} bytes, expected {file.bytes}"
    elif file.checksum:
        logger.info("%s: checking", path.name)
        kind, wanted = file.checksum.split(":")
        with path.open("rb") as stream:
            found = hashlib.file_digest(stream, kind).hexdigest()
        if found != wanted:
            problem = f"has the {kind} {found}, expected {wanted}"
    if problem:
        bad = path.replace(path.with_name(f"{path.name.removesuffix('.part')}.bad"))
        raise UserError(f"{path}: {problem} ({file.url}); it is now {bad.name}, and the next run "
                        "downloads it again")
