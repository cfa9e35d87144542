"""Memory of large arrays goes back to the system."""

import platform
import subprocess
import sys

import pytest
from small_corpus import ROOT

LARGE = """
import numpy as np, psutil
from historical_denoiser.core import memory
if {is_asked}:
    assert memory.give_back_arrays()
np.ones(2**21)  # 16 MiB; from now on the allocator takes smaller ones for its heap
before = psutil.Process().memory_info().rss
arrays = [np.ones(9 * 2**17) for _ in range(10)]  # 9 MiB each
last = arrays.pop()
del arrays[:]
print((psutil.Process().memory_info().rss - before) // 2**20)
"""


SMALL = """
import numpy as np, psutil
from historical_denoiser.core import memory
if {is_asked}:
    assert memory.give_back_arrays()
before = psutil.Process().memory_info().rss
for _ in range(5):
    arrays = [np.ones(2**18) for _ in range(8)]  # 2 MiB each
    del arrays
print((psutil.Process().memory_info().rss - before) // 2**20)
"""


def left_mebibytes(program, is_asked):
    done = subprocess.run([sys.executable, "-c", program.format(is_asked=is_asked)], cwd=ROOT,
                          capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the allocator is not GNU's")
def test_large_arrays_go_back_to_the_system():
    assert left_mebibytes(LARGE, True) < 16  # one of 9 MiB is still there
    assert left_mebibytes(LARGE, False) > 64


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the allocator is not GNU's")
def test_the_heap_keeps_the_memory_of_small_arrays():
    assert left_mebibytes(SMALL, True) > 12
    assert left_mebibytes(SMALL, False) < 8
