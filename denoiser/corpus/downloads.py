"""Downloads files of public data sets, which `conf/corpus/public.csv` lists, and checks them.

`prepare_data.py` is the command. A download is a `.part` file until it is complete and its
checksum is right; an interrupted one goes on where it was.
"""

from __future__ import annotations

import hashlib
import http.client
import logging
import re
import shutil
import ssl
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from denoiser.checks import UserError
from denoiser.corpus.manifest import CorpusError, read_records

logger = logging.getLogger(__name__)

TABLE = Path(__file__).resolve().parents[2] / "conf" / "corpus" / "public.csv"
CHUNK_BYTES = 1 << 16
TIMEOUT_SECONDS = 60.0  # without a single byte
MOST_FAILURES = 6  # in a row, without progress
BACKOFF_SECONDS = 2.0  # doubles with each failure in a row
RETRIED_STATUSES = (408, 425, 429, 500, 502, 503, 504)
SPARE_BYTES = 1 << 30  # that a disk keeps free
NETWORK_ERRORS = (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError,
                  ssl.SSLError)


@dataclass(frozen=True)
class RemoteFile:
    """One line of the table: a file of a data set.

    Attributes:
        dataset: Name of the data set, as on the command line.
        file: Name of the file.
        bytes: Its size, or empty where it is not known exactly.
        checksum: `md5:...` or `sha256:...`, or empty where none is published.
        category: What the clips are, unless the data set's own labels say more.
        licence: Of the clips.
        url: Where the file is.
        page: Where the data set is described.
        notes: What a reader of the table should know.
    """

    dataset: str
    file: str
    bytes: str
    checksum: str
    category: str
    licence: str
    url: str
    page: str
    notes: str


def read_table(path: Path) -> list[RemoteFile]:
    """Reads the list of files.

    Args:
        path: CSV file whose columns are the fields of `RemoteFile`.

    Returns:
        The files, in the table's order.

    Raises:
        ValueError: A column is missing or a value is not allowed.
    """
    files = read_records(path, RemoteFile)
    for file in files:
        if not re.fullmatch(r"(md5:[0-9a-f]{32}|sha256:[0-9a-f]{64})?", file.checksum):
            raise UserError(f"`checksum` must be md5:... or sha256:... or empty. "
                            f"Received: {file.checksum!r} for {file.file} in {path}")
        if file.bytes and not file.bytes.isdigit():
            raise UserError(f"`bytes` must be a number or empty. Received: {file.bytes!r} for "
                            f"{file.file} in {path}")
    return files


# --- Downloading -----------------------------------------------------------------------------


def require_space(folder: Path, wanted_bytes: int, purpose: str) -> None:
    """Checks that a disk can take `wanted_bytes` more.

    Raises:
        CorpusError: It cannot.
    """
    free = shutil.disk_usage(folder).free
    if free < wanted_bytes + SPARE_BYTES:
        raise CorpusError(f"{folder}: {purpose} needs about {wanted_bytes / 1e9:.1f} GB and "
                         f"{SPARE_BYTES / 1e9:.0f} GB to spare; {free / 1e9:.1f} GB are free")


def download_all(files: list[RemoteFile], folder: Path) -> dict[str, Path]:
    """Downloads what is not in `folder` yet and checks everything that is.

    Args:
        files: The files of a data set.
        folder: Where they go, or already are.

    Returns:
        The complete files by name.

    Raises:
        CorpusError: A file cannot be had, has another checksum, or does not fit on the disk.
    """
    folder.mkdir(parents=True, exist_ok=True)
    missing = [file for file in files if not (folder / file.file).exists()]
    require_space(folder, sum(int(file.bytes or 0) - _size(_part(folder / file.file))
                              for file in missing), "the download")
    return {file.file: download(file, folder) for file in files}


def download(file: RemoteFile, folder: Path) -> Path:
    """Returns one complete and checked file, downloaded unless it is there already.

    Args:
        file: What to download.
        folder: Where it goes.

    Returns:
        Its path.

    Raises:
        CorpusError: It cannot be had, or its size or checksum is wrong; then it was renamed.
    """
    target = folder / file.file
    if not target.exists():
        _download_part(file, _part(target))
        _check(file, _part(target))
        _part(target).replace(target)
    else:
        _check(file, target)
    return target


def _part(target: Path) -> Path:
    return target.with_name(f"{target.name}.part")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _download_part(file: RemoteFile, part: Path) -> None:
    """Fills `part`, going on where it ends, until it is as long as the server says."""
    failures, longest = 0, _size(part)
    while True:
        try:
            if _receive(file, part):
                return
            problem = f"the connection broke off after {_size(part)} bytes"
        except urllib.error.HTTPError as error:
            if error.code not in RETRIED_STATUSES:
                raise CorpusError(f"{file.url}: the server answers {error.code} {error.reason}"
                                 ) from error
            problem = f"the server answers {error.code} {error.reason}"
        except NETWORK_ERRORS as error:
            problem = str(getattr(error, "reason", error)) or type(error).__name__
        failures = 1 if _size(part) > longest else failures + 1
        longest = max(longest, _size(part))
        if failures >= MOST_FAILURES:
            raise CorpusError(f"{file.url}: gave up after {failures} attempts without progress: "
                             f"{problem}; run the same command again to go on")
        pause = BACKOFF_SECONDS * 2 ** (failures - 1)
        logger.warning("%s: %s; next attempt in %.0f s", file.file, problem, pause)
        time.sleep(pause)


def _receive(file: RemoteFile, part: Path) -> bool:
    """Makes one request; returns whether `part` is complete."""
    have, expected = _size(part), int(file.bytes or 0)
    if expected and have >= expected:
        return True  # too long a file fails the check
    # The length of a compressed transfer would not be the file's.
    headers = {"User-Agent": "prepare_data.py", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    try:
        response = urllib.request.urlopen(urllib.request.Request(file.url, headers=headers),
                                          timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code != http.client.REQUESTED_RANGE_NOT_SATISFIABLE or not have:
            raise
        if error.headers.get("Content-Range", "").endswith(f"/{have}"):
            return True  # nothing is left to send
        part.unlink()  # it is longer than the file, so it belongs to another one
        return False
    with response:
        found = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
        if response.status != http.client.PARTIAL_CONTENT or not found or int(found[1]) != have:
            if have:
                logger.info("%s: the server cannot go on from byte %d; starting anew", file.file,
                            have)
            if response.status == http.client.PARTIAL_CONTENT:
                part.unlink()  # another part than asked for
                return False
            have = 0
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else 0
        if expected and total and total != expected:
            raise CorpusError(f"{file.url}: the server offers {total} bytes, {TABLE.name} says "
                             f"{expected}")
        require_space(part.parent, total - have, file.file)
        with part.open("ab" if have else "wb") as stream, \
                tqdm(total=total or None, initial=have, unit="B", unit_scale=True,
                     desc=file.file, disable=None) as progress:
            # Not `read`: it would lose what had come when the connection fails.
            while chunk := response.read1(CHUNK_BYTES):
                stream.write(chunk)
                progress.update(len(chunk))
    return _size(part) == total if total else not expected or _size(part) == expected


def _check(file: RemoteFile, path: Path) -> None:
    """Compares size and checksum; a wrong file is renamed, so that it is never used."""
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
    else:
        logger.info("%s: no checksum is published; the archive's own are checked while it is "
                    "read", path.name)
    if problem:
        bad = set_aside(path)
        raise CorpusError(f"{path}: {problem} ({file.url}); it is now {bad.name}, and the next "
                         "run downloads it again")


def set_aside(path: Path) -> Path:
    """Renames a bad file; returns its new name."""
    return path.replace(path.with_name(f"{path.name.removesuffix('.part')}.bad"))
