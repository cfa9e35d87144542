"""Replacing a file only when it is complete, ending without leaving half a file, and telling
files apart.
"""

from __future__ import annotations

import glob
import hashlib
import os
import re
import secrets
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl = None

WEIGHTS_ENDING = ".weights.h5"  # Keras knows a file of weights by it
MAX_PREFIX = 40  # names are limited to 255 bytes, up to four for a character
STALE_SECONDS = 3600.0  # since the last write: then a temporary file's process is long dead
RANDOM_BYTES = 4  # of a temporary name, in hexadecimal
TEMPORARY_NAME = re.compile(r"\.(.+)\.[0-9a-f]{8}(?:\.[^.]+){0,2}", re.DOTALL)
ENDING_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")  # Ctrl-C, `kill`, a terminal that was closed
SIGNALLED_STATUS = 128  # plus the signal's number is what shells report

_unfinished: set[Path] = set()  # this process's temporary files


def hash_of(*paths: Path) -> str:
    """Returns the SHA-256 of the contents of files, one after the other, in hexadecimal.

    Raises:
        OSError: A file cannot be read.
    """
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            hashlib.file_digest(file, lambda: digest)
    return digest.hexdigest()


@contextmanager
def temporary_file(folder: Path, prefix: str, ending: str) -> Iterator[Path]:
    """Yields a new, empty file that is removed at the end, also where a signal ends all."""
    path = folder / f"{prefix}{secrets.token_hex(RANDOM_BYTES)}{ending}"
    _unfinished.add(path)  # before it is there: a signal may come in between
    try:
        try:
            path.open("xb").close()
        except OSError as error:  # a name that the user never gave says nothing
            raise OSError(f"{folder}: no file can be made there ({error.strerror})") from error
        yield path
    finally:
        path.unlink(missing_ok=True)  # it may have been renamed
        _unfinished.discard(path)


@contextmanager
def replacing(path: Path, locked: bool = False) -> Iterator[Path]:
    """Yields a temporary name beside `path` with the same ending, renamed to `path` at the end.

    The file at `path` is complete at every moment: when the block raises or the process dies,
    what was there before is still there. The temporary name starts with a dot; one that a killed
    process left behind is removed here the next time, at the earliest after an hour.

    With `locked`, the file is locked meanwhile, and one that a killed process left behind is known
    by its lock being gone, and removed at once. HDF5 has locks of its own that exclude this one.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(f"{path.parent}: the folder cannot be made ({error.strerror})") from error
    ending = "".join(path.suffixes[-2:]) if path.name.endswith(WEIGHTS_ENDING) else path.suffix
    prefix = f".{path.name[:MAX_PREFIX]}."
    for left_over in path.parent.glob(f"{glob.escape(prefix)}????????{glob.escape(ending)}"):
        with suppress(FileNotFoundError):  # another process may just have finished it
            if (time.time() - left_over.stat().st_mtime > STALE_SECONDS
                    or (locked and not _is_locked(left_over))):
                left_over.unlink()
    with ExitStack() as stack:
        temporary = stack.enter_context(temporary_file(path.parent, prefix, ending))
        if locked and fcntl is not None:
            lock = stack.enter_context(temporary.open("rb"))
            with suppress(OSError):  # some network shares have no locks
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield temporary
        # Some disks tell only now that they are full. And what has its name has its content, also
        # after a power cut.
        try:
            with temporary.open("r+b") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
        except OSError as error:  # a full disk, or a folder that somebody has removed
            raise OSError(f"{path}: cannot be written ({error.strerror})") from error


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Lets one process at a time in, of those that hold the same folder.

    Windows, and some network shares, have no such locks: there all come in.
    """
    with ExitStack() as stack:
        if fcntl is not None:
            folder.mkdir(parents=True, exist_ok=True)
            handle = os.open(folder, os.O_RDONLY)
            stack.callback(os.close, handle)
            with suppress(OSError):
                fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def remove_left_over(folder: Path, wanted: re.Pattern[str]) -> None:
    """Removes the locked temporary files of processes that were killed.

    Args:
        folder: Where they are.
        wanted: Is found in the name of what they would have become; of that, up to
            `MAX_PREFIX` characters are known.
    """
    for path in folder.glob(".*"):
        name = TEMPORARY_NAME.fullmatch(path.name)
        with suppress(OSError):  # another process may just have finished it, or owns it
            if name and wanted.search(name[1]) and not _is_locked(path):
                path.unlink()


def _is_locked(path: Path) -> bool:
    """Whether a process that lives may hold the lock of a temporary file."""
    if fcntl is None:
        return True
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        raise
    except OSError:  # locked, or no locks are known there
        return True
    return False


def end_on_signals() -> None:
    """Makes Ctrl-C, `kill` and a closed terminal end this process, and leave no temporary file.

    No exception is raised for it: Python drops those that come up within callbacks of its garbage
    collection, and libraries catch some while they load. Windows keeps its own ways, as an open
    file cannot be removed there.
    """
    if os.name != "posix":
        return
    for name in ENDING_SIGNALS:
        number = getattr(signal, name)
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup wants it
            signal.signal(number, _end)


@contextmanager
def held_signals() -> Iterator[list[int]]:
    """Yields a list of the ending signals that came meanwhile; only then do they end this process.

    The block has to look at it often. The rest is that of `end_on_signals`.
    """
    received: list[int] = []
    if os.name == "posix":
        for name in ENDING_SIGNALS:
            number = getattr(signal, name)
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, lambda number, frame: received.append(number))
    try:
        yield received
    finally:
        end_on_signals()
        if received:
            _end(received[0], None)


def _end(number: int, frame: Any) -> None:
    """Ends this process by a signal that it got, without leaving a temporary file."""
    for path in list(_unfinished):
        with suppress(OSError):
            path.unlink(missing_ok=True)
    with suppress(OSError):  # the terminal may be gone
        os.write(2, b"\ninterrupted\n")
    # By the signal itself, so that a shell's loop ends as well.
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    # Only the first process of a container is still here.
    os._exit(SIGNALLED_STATUS + number)
