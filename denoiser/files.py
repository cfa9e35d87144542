"""Replacing a file only when it is complete."""

from __future__ import annotations

import glob
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl = None

WEIGHTS_ENDING = ".weights.h5"  # Keras knows a file of weights by it
LONGEST_PREFIX = 40  # names are limited to 255 bytes, up to four for a character
STALE_SECONDS = 3600.0  # since the last write: then a temporary file's process is long dead


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
    prefix = f".{path.name[:LONGEST_PREFIX]}."
    for left_over in path.parent.glob(f"{glob.escape(prefix)}????????{glob.escape(ending)}"):
        with suppress(FileNotFoundError):  # another process may just have finished it
            if (time.time() - left_over.stat().st_mtime > STALE_SECONDS
                    or (locked and not _is_locked(left_over))):
                left_over.unlink()
    handle, name = tempfile.mkstemp(prefix=prefix, suffix=ending, dir=path.parent)
    if locked and fcntl is not None:
        with suppress(OSError):  # some network shares have no locks
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    else:
        os.close(handle)
        handle = None
    temporary = Path(name)
    mask = os.umask(0)
    os.umask(mask)
    try:
        temporary.chmod(0o666 & ~mask)  # mkstemp's own mode hides the file from everyone else
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
        if handle is not None:
            os.close(handle)


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
