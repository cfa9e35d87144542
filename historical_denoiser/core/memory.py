"""Returns the memory of deleted arrays to the system."""

import ctypes
import platform

THRESHOLD_BYTES = 2**22  # larger blocks are allocated from the system one by one
M_MMAP_THRESHOLD = -3  # from <malloc.h>


def give_back_arrays() -> bool:
    """Makes the allocator return large arrays to the system; returns whether it will.

    glibc raises the size of such arrays to that of the largest one that was freed, up to 32 MiB.
    Smaller arrays are then on a heap, which cannot shrink below one that is still used. A threshold
    that is set once stays (mallopt(3)). Other C libraries are left alone.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    return bool(ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, THRESHOLD_BYTES))
