"""Feeding of batches from a thread and from processes."""

import multiprocessing
import os
import signal
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from numbered_mixtures import NumberedMixtures
from small_corpus import ROOT

from historical_denoiser.data import feeding


@pytest.mark.parametrize("workers", [1, 2])
def test_batches_come_in_order_from_any_step_with_what_was_skipped(workers):
    mixer = NumberedMixtures()
    fed = list(feeding.numpy_batches(mixer, 4, 3, 23, workers, share=slice(1, 3)))
    numbers = np.array([[4 * step + 1, 4 * step + 2] for step in range(3, 23)], np.float32)
    assert {(part.shape, part.dtype.name) for part in fed[0]} == {((2, mixer.samples), "float32")}
    np.testing.assert_array_equal([noisy[:, 0] for noisy, _ in fed], numbers)
    np.testing.assert_array_equal([clean[:, -1] for _, clean in fed], -numbers)
    assert mixer.skipped == Counter(made=40)
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_reaches_the_caller_after_the_batches_before_it(workers):
    batches = feeding.numpy_batches(NumberedMixtures(broken=9), 2, 0, 50, workers)
    for step in range(4):
        np.testing.assert_array_equal(next(batches)[0][:, 0], [2 * step, 2 * step + 1])
    with pytest.raises(ValueError, match="mixture 9"):
        next(batches)
    assert not multiprocessing.active_children()


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_a_killed_process_is_reported_in_a_line():
    batches = feeding.numpy_batches(NumberedMixtures(), 2, 0, 10**6, workers=2)
    next(batches)
    os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)
    with pytest.raises(OSError, match="makes batches was killed.*try fewer `loader_workers`$"):
        list(batches)


FEED = """
import signal
from historical_denoiser.data.feeding import numpy_batches
from numbered_mixtures import NumberedMixtures

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in the background
    for _ in numpy_batches(NumberedMixtures(), 2, 0, 10**6, workers=2):
        print("fed", flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("name", ["SIGKILL", "SIGINT"])
def test_processes_end_with_a_parent_that_is_killed_or_interrupted(tmp_path, name):
    (tmp_path / "feed.py").write_text(FEED)
    places = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    (temporary := tmp_path / "temporary").mkdir()
    parent = subprocess.Popen([sys.executable, str(tmp_path / "feed.py")], text=True,
                              env=os.environ | {"PYTHONPATH": places, "TMPDIR": str(temporary)},
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              start_new_session=True)
    assert parent.stdout.readline() == "fed\n"
    number = getattr(signal, name)
    if name == "SIGKILL":
        parent.kill()
    else:
        os.killpg(parent.pid, number)  # as a terminal does: to all processes
    # The pipes end when the last process that writes to them has ended.
    parent.communicate(timeout=120)
    assert parent.returncode == -number
    assert not list(temporary.iterdir())
