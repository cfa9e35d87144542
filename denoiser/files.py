"""Replacing a file only when it is complete."""

from __future__ import annotations

import glob
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

WEIGHTS_ENDING = ".weights.h5"  # Keras knows a file of weights by it
STALE_SECONDS = 3600.0  # since the last write: then a temporary file's process is long dead


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a temporary name beside `path` with the same ending, renamed to `path` at the end.

    The file at `path` is complete at every moment: when the block raises or the process dies,
    what was there before is still there. The temporary name starts with a dot; one that a killed
    process left behind is removed here the next time, at the earliest after an hour.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(f"{path.parent}: the folder cannot be made ({error.strerror})") from error
    ending = "".join(path.suffixes[-2:]) if path.name.endswith(WEIGHTS_ENDING) else path.suffix
    prefix = f".{path.name[:40]}."  # names are limited to 255 bytes, up to four for a character
    for left_over in path.parent.glob(f"{glob.escape(prefix)}????????{glob.escape(ending)}"):
        with suppress(FileNotFoundError):  # another process may just have finished it
            if time.time() - left_over.stat().st_mtime > STALE_SECONDS:
                left_over.unlink()
    handle, name = tempfile.mkstemp(prefix=prefix, suffix=ending, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    mask = os.umask(0)
    os.umask(mask)
    try:
        temporary.chmod(0o666 & ~mask)  # mkstemp's own mode hides the file from everyone else
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
