"""Memory of large arrays goes back to the system."""

import platform
import subprocess
import sys

import pytest
from small_corpus import ROOT

KEPT = """
import numpy as np, psutil
from historical_denoiser.core import memory
if {is_asked}:
    assert memory.give_back_arrays()
np.ones(2**21)  # 16 MiB; from now on the allocator takes smaller ones for its heap
before = psutil.Process().memory_info().rss
arrays = [np.ones(2**20) for _ in range(10)]
last = arrays.pop()
del arrays[:]
print((psutil.Process().memory_info().rss - before) // 2**20)
"""


def left_mebibytes(is_asked):
    done = subprocess.run([sys.executable, "-c", KEPT.format(is_asked=is_asked)], cwd=ROOT,
                          capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the allocator is not GNU's")
def test_large_arrays_go_back_to_the_system():
    assert left_mebibytes(True) < 16  # one of 8 MiB is still there
    assert left_mebibytes(False) > 64
