"""Returns the memory of deleted large arrays to the system, and keeps that of small ones."""

import ctypes
import platform

LARGE_BYTES = 2**22  # larger arrays are allocated from the system one by one
KEPT_BYTES = 2**25  # free memory at the end of the heap that is kept for further arrays
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # from <malloc.h>


def give_back_arrays() -> bool:
    """Makes the allocator return large arrays to the system; returns whether it will.

    glibc raises the size of such arrays to that of the largest one that was freed, up to 32 MiB.
    Smaller arrays are then on a heap, which cannot shrink below one that is still used. A threshold
    that is set once stays (mallopt(3)). Up to `KEPT_BYTES` at the heap's end are kept, since the
    system first fills new memory with zeros (docs/lab/whole_commands.md). Other C libraries are
    left alone.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(M_MMAP_THRESHOLD, LARGE_BYTES) and mallopt(M_TRIM_THRESHOLD, KEPT_BYTES))
