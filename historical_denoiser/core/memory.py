"""Where the memory of arrays that are gone goes."""

from __future__ import annotations

import ctypes
import platform

OWN_BYTES = 2**22  # blocks at least as large come from the system one by one, and go back to it
M_MMAP_THRESHOLD = -3  # of <malloc.h>


def give_back_arrays() -> bool:
    """Lets this process give back large arrays as soon as they are gone; returns whether it will.

    GNU's allocator raises the size at which it does so to that of the largest array that it met, up
    to 32 MiB. Smaller ones then lie on a heap that cannot shrink below any of them that is still
    used. Once set, the size stays (mallopt(3)). Elsewhere nothing is done.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    return bool(ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, OWN_BYTES))
