"""Makes batches of training mixtures ahead, in a thread or in processes."""

import functools
import itertools
import multiprocessing
import shutil
import signal
import tempfile
import threading
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

import numpy as np

from historical_denoiser.audio.noise_profile import ProfileForm
from historical_denoiser.data.mixture import Mixture

WHOLE_BATCH = slice(None)


class MixtureSource(Protocol):
    """What `make_batch` needs of a `Mixer`."""

    skipped: Counter[str]  # how many segments or files could not be used, by reason
    profile_form: ProfileForm | None  # None if the network takes no profiles

    def item(self, index: int) -> Mixture:
        """Makes training mixture `index`."""


def make_batch(mixer: MixtureSource, step: int, batch_size: int, share: slice = WHOLE_BATCH,
               ) -> list[np.ndarray]:
    """Makes a training batch.

    Args:
        mixer: Makes the mixtures.
        step: Number of the batch.
        batch_size: Number of mixtures in a whole batch.
        share: The mixtures of the batch to make.

    Returns:
        The noisy and the clean waveforms, both `(items, samples)`, and for a network that takes
        profiles also these, `(items, 1, bins, 2)`, with zeros for an item without one. For a
        diffusion model, the levels of the noise, `(items,)`.
    """
    indices = range(step * batch_size, (step + 1) * batch_size)[share]
    items = [mixer.item(index) for index in indices]
    batch = [np.array([item.noisy for item in items]), np.array([item.clean for item in items])]
    if (form := mixer.profile_form) is not None:
        batch.append(np.array([_describe_noise(item, form) for item in items]))
    if items and items[0].sigma is not None:
        batch.append(np.array([item.sigma for item in items], np.float32))
    return batch


def _describe_noise(item: Mixture, form: ProfileForm) -> np.ndarray:
    if item.needs_estimate:
        return form.to_be_heard()
    return form.nothing() if item.profile is None else form.measure(item.profile)


def numpy_batches(mixer: MixtureSource, batch_size: int, first_step: int, steps: int,
                  workers: int = 1, share: slice = WHOLE_BATCH,
                  ) -> Iterator[list[np.ndarray]]:
    """Yields the batches of `make_batch`, which are made ahead.

    Python imports the main script into each process, so a script that calls this must start its
    work under `if __name__ == "__main__"`. Processes leave their batches in files of the system's
    temporary folder, most of which are read and deleted before they reach a disk. Reading them from
    a pipe would take this process more time.

    Args:
        mixer, batch_size, share: See `make_batch`. `mixer.skipped` also counts what processes skip.
        first_step: Number of the first batch.
        steps: Number of the last batch, plus one.
        workers: 1 for a thread, more for as many processes.

    Raises:
        OSError: A process was killed. Other errors are those of `mixer.item`.
    """
    with ExitStack() as undo:
        if workers == 1:
            pool, make = ThreadPoolExecutor(1), functools.partial(make_batch, mixer)
        else:
            folder = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="batches_")))
            # A fork would copy locks that threads of TensorFlow or JAX hold, and never release
            # them.
            pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"),
                                       _start_worker, (mixer, folder))
            make = _make_in_worker
        undo.callback(pool.shutdown, cancel_futures=True)
        tasks = (pool.submit(make, step, batch_size, share) for step in range(first_step, steps))
        ahead = deque(itertools.islice(tasks, 2 * workers + 1))
        try:
            while ahead:
                batch = ahead.popleft().result()
                ahead.extend(itertools.islice(tasks, 1))
                if workers > 1:
                    path, arrays, skipped = batch
                    batch = _take(path, arrays)
                    mixer.skipped.update(skipped)
                yield batch
        except BrokenProcessPool as error:
            pool.shutdown()
            raise OSError("a process that makes batches was killed, as systems do when memory runs "
                          "out; try fewer `loader_workers`") from error


def _take(path: Path, arrays: int) -> list[np.ndarray]:
    """Reads and deletes a batch of so many arrays that a process has left."""
    with path.open("rb") as file:
        batch = [np.load(file) for _ in range(arrays)]
    path.unlink()
    return batch


_mixer: MixtureSource  # only in processes that make batches
_folder: Path
_writing = threading.Lock()


def _start_worker(mixer: MixtureSource, folder: Path) -> None:
    """Sets up a process that makes batches, ends with its parent and leaves Ctrl-C to it."""
    global _mixer, _folder
    _mixer, _folder = mixer, folder
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    with _writing:  # a file that came later would stay
        shutil.rmtree(_folder, ignore_errors=True)
        signal.raise_signal(signal.SIGTERM)


def _make_in_worker(step: int, batch_size: int, share: slice) -> tuple[Path, int, Counter[str]]:
    """Returns the file of a batch, its number of arrays, and what was skipped for it."""
    before = _mixer.skipped.copy()
    batch = make_batch(_mixer, step, batch_size, share)
    path = _folder / f"{step}.npy"
    with _writing, path.open("wb") as file:
        for array in batch:
            np.save(file, array)
    return path, len(batch), _mixer.skipped - before
