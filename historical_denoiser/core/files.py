"""Replaces files only when they are complete, and removes temporary files when a signal ends all.

Start reading at `replacing`.
"""

import glob
import hashlib
import os
import re
import secrets
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

if sys.platform == "win32":  # it has no such locks
    fcntl = None
else:
    import fcntl

WEIGHTS_ENDING = ".weights.h5"  # Keras requires it
MAX_PREFIX = 40  # characters of up to four bytes; names are limited to 255 bytes
STALE_SECONDS = 3600.0  # a temporary file without a write for so long belongs to a dead process
PERMISSION_BITS, OWNER_BITS = 0o777, 0o600
RANDOM_BYTES = 4  # in a temporary name, as hexadecimal digits
TEMPORARY_NAME = re.compile(r"\.(.+)\.[0-9a-f]{8}(?:\.[^.]+){0,2}", re.DOTALL)
ENDING_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")  # Ctrl-C, `kill`, a terminal that was closed
SIGNALLED_STATUS = 128  # exit status after a signal, minus the signal's number

_unfinished: set[Path] = set()  # this process's temporary files and folders


def hash_of(*paths: Path) -> str:
    """Returns the SHA-256 of the concatenated contents of files, in hexadecimal.

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
    """Yields a new, empty file that is removed at the end, also if a signal ends the process.

    Args:
        folder: Folder of the file.
        prefix: Beginning of its name, before random characters.
        ending: End of its name.

    Raises:
        OSError: The file cannot be made.
    """
    path = folder / f"{prefix}{secrets.token_hex(RANDOM_BYTES)}{ending}"
    _unfinished.add(path)  # before it exists: a signal may come in between
    try:
        try:
            path.open("xb").close()
        except OSError as error:  # the temporary name would mean nothing to a user
            raise OSError(f"{folder}: no file can be made there ({error.strerror})") from error
        yield path
    finally:
        path.unlink(missing_ok=True)  # it may have been renamed
        _unfinished.discard(path)


@contextmanager
def temporary_folder(prefix: str) -> Iterator[Path]:
    """Yields a new folder among the system's temporary files, removed as by `temporary_file`."""
    path = Path(tempfile.mkdtemp(prefix=f"{prefix}."))
    _unfinished.add(path)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        _unfinished.discard(path)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Context manager that locks a file, so that `remove_left_over` keeps it.

    Windows and some network shares have no such locks.
    """
    with path.open("rb") as file:
        if fcntl is not None:
            with suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


@contextmanager
def replacing(path: Path, lock: bool = False) -> Iterator[Path]:
    """Yields a temporary name beside `path` with the same ending, renamed to `path` at the end.

    The file at `path` is complete at every moment: if the block raises or the process dies, the old
    file is still there. The temporary name starts with a dot. A temporary file of a killed process
    is removed by the next call, if it is more than an hour old.

    With `lock`, the temporary file is locked while the block runs. A file without a lock is then
    known to be left over, and removed at once. HDF5 files have locks of their own instead.

    Raises:
        OSError: The folder or file cannot be made or written.
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
                    or (lock and not _is_locked(left_over))):
                left_over.unlink()
    with ExitStack() as stack:
        temporary = stack.enter_context(temporary_file(path.parent, prefix, ending))
        if lock:
            stack.enter_context(locked(temporary))
        yield temporary
        # Some disks report only now that they are full. After this, the content survives a power
        # cut if the name does.
        try:
            with temporary.open("r+b") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
        except OSError as error:  # for example a full disk, or a folder that was removed
            raise OSError(f"{path}: cannot be written ({error.strerror})") from error


def copy_mode(source: Path, *paths: Path) -> None:
    """Gives files the permission bits of another one; their owner can always read and write."""
    for path in paths:
        with suppress(PermissionError):  # some file systems store no such bits
            path.chmod(source.stat().st_mode & PERMISSION_BITS | OWNER_BITS)


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Context manager that only one process at a time can enter for a folder.

    Windows and some network shares have no such locks: there, all processes can enter.
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
        folder: Folder of the files.
        wanted: Pattern that is searched for in the first `MAX_PREFIX` characters of the name that
            the file would have had.
    """
    for path in folder.glob(".*"):
        name = TEMPORARY_NAME.fullmatch(path.name)
        with suppress(OSError):  # another process may just have finished it, or owns it
            if name and wanted.search(name[1]) and not _is_locked(path):
                path.unlink()


def _is_locked(path: Path) -> bool:
    """Whether a living process may have locked a temporary file."""
    if fcntl is None:
        return True
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        raise
    except OSError:  # locked, or the file system has no locks
        return True
    return False


def end_on_signals() -> None:
    """Makes Ctrl-C, `kill` and a closed terminal end this process without temporary files left.

    It does so without an exception: Python drops those that are raised during garbage collection,
    and libraries catch some while they load. Windows is left alone: it cannot remove open files.
    """
    _handle_ending_signals(_end)


def _handle_ending_signals(handler: Callable[[int, Any], None]) -> None:
    if os.name == "posix":
        for name in ENDING_SIGNALS:
            number = getattr(signal, name)
            if signal.getsignal(number) != signal.SIG_IGN:  # `nohup` ignores SIGHUP
                signal.signal(number, handler)


@contextmanager
def held_signals() -> Iterator[list[int]]:
    """Yields a list to which ending signals are added; they end the process after the block.

    The block has to check the list often. See `end_on_signals`, which applies afterwards.
    """
    received: list[int] = []
    _handle_ending_signals(lambda number, frame: received.append(number))
    try:
        yield received
    finally:
        end_on_signals()
        if received:
            _end(received[0], None)


def _end(number: int, frame: Any) -> None:
    """Removes temporary files, and ends this process by the signal that it received."""
    for path in list(_unfinished):
        with suppress(OSError):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    with suppress(OSError):  # the terminal may be gone
        os.write(2, b"\ninterrupted\n")
    # By the signal itself, so that a loop in a shell script ends as well.
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    # The kernel does not deliver the signal to the first process of a container.
    os._exit(SIGNALLED_STATUS + number)
