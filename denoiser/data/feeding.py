"""Feeds training with batches of mixtures, made ahead in a thread or in processes."""

from __future__ import annotations

import math
import multiprocessing
import signal
import threading
import weakref
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Protocol

import numpy as np

from denoiser.data.mixture import Mixture


class MixtureSource(Protocol):
    """What batches are made from."""

    samples: int  # of each mixture
    skipped: Counter[str]  # what could not be used, and how often

    def item(self, index: int) -> Mixture:
        """Makes training mixture `index`."""



WHOLE_BATCH = slice(None)
HELD_BATCHES = 3  # that a training step may still use while processes make the next ones
_task: tuple[Any, ...] = ()  # of a process that makes batches


def _batch_shape(mixer: MixtureSource, batch_size: int, share: slice) -> tuple[int, int, int]:
    """Returns `(2, items, samples)`: noisy and clean."""
    return 2, len(range(batch_size)[share]), mixer.samples


def make_batch(mixer: MixtureSource, step: int, batch_size: int, share: slice = WHOLE_BATCH,
               out: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Returns `share` of training batch number `step`: two arrays `(items, samples)`.

    They are the halves of `out`, a float32 array `(2, items, samples)`, where it is given.
    """
    indices = range(step * batch_size, (step + 1) * batch_size)[share]
    if out is None:
        out = np.empty(_batch_shape(mixer, batch_size, share), np.float32)
    noisy, clean = out
    for place, index in enumerate(indices):
        item = mixer.item(index)
        noisy[place], clean[place] = item.noisy, item.clean
    return noisy, clean


def numpy_batches(mixer: MixtureSource, batch_size: int, first_step: int, steps: int,
                  workers: int = 1, share: slice = WHOLE_BATCH,
                  ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields batches made ahead, in order, without TensorFlow.

    Args:
        mixer: Makes the items, and counts those that were skipped.
        batch_size: Items in each batch.
        first_step: Number of the first batch.
        steps: Number after the last batch.
        workers: 1 for a thread, more for as many processes. Python imports the main script into
            each, which must therefore start its work under `if __name__ == "__main__"`.
        share: Items of each batch that are wanted.

    Yields:
        Noisy and clean waveforms `(items, samples)`, float32.

    Raises:
        OSError: A process was killed. Other errors are those of `Mixer.item`.
    """
    if workers > 1:
        yield from _batches_of_processes(mixer, batch_size, first_step, steps, workers, share)
        return
    with ThreadPoolExecutor(1) as pool:
        ahead = deque()
        for step in range(first_step, steps):
            ahead.append(pool.submit(make_batch, mixer, step, batch_size, share))
            if len(ahead) > 2:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


def _batches_of_processes(mixer: MixtureSource, batch_size: int, first_step: int, steps: int,
                          workers: int, share: slice,
                          ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields batches of `numpy_batches` that processes write into slots of shared memory."""
    shape = _batch_shape(mixer, batch_size, share)
    ahead = 2 * workers
    # A fork would copy the locks of TensorFlow's and JAX's threads as they happen to be.
    context = multiprocessing.get_context("spawn")
    memory = context.RawArray("f", (ahead + HELD_BATCHES) * math.prod(shape))
    free = deque(range(ahead + HELD_BATCHES))
    pool = ProcessPoolExecutor(workers, context, _start_worker,
                               (mixer, batch_size, share, memory))
    try:
        pending = deque()
        for step in range(first_step, steps + ahead):
            if step >= first_step + ahead:
                slot, future = pending.popleft()
                try:
                    mixer.skipped.update(future.result())
                except BrokenProcessPool as error:
                    raise OSError("a process that makes batches was killed, as systems do when "
                                  "memory runs out; try fewer `loader_workers`") from error
                batch = _slot(memory, slot, shape)
                if free:  # the slot returns when nobody refers to its batch any more
                    weakref.finalize(batch.base, free.append, slot).atexit = False
                else:  # someone collects batches: this one is theirs
                    batch = batch.copy()
                    free.append(slot)
            if step < steps:
                slot = free.popleft()
                pending.append((slot, pool.submit(_fill_slot, slot, step)))
            if step >= first_step + ahead:
                yield batch[0], batch[1]
                del batch
    finally:
        pool.shutdown(cancel_futures=True)


def _slot(memory: Any, number: int, shape: tuple[int, ...]) -> np.ndarray:
    """Returns one slot of `memory` as a float32 array of `shape`, a view with a base of its own."""
    size = math.prod(shape)
    return np.frombuffer(memory, np.float32, size, 4 * size * number).reshape(shape)


def _start_worker(*task: Any) -> None:
    """Prepares a process that makes batches: it ends with its parent and leaves Ctrl-C to it."""
    global _task
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _task = task


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    signal.raise_signal(signal.SIGTERM)


def _fill_slot(slot: int, step: int) -> Counter[str]:
    """Writes batch `step` into its slot, in a worker; returns what was skipped for it."""
    mixer, batch_size, share, memory = _task
    before = mixer.skipped.copy()
    out = _slot(memory, slot, _batch_shape(mixer, batch_size, share))
    make_batch(mixer, step, batch_size, share, out)
    return mixer.skipped - before


def tf_batches(mixer: MixtureSource, batch_size: int, first_step: int, steps: int,
               workers: int = 1, failures: list[Exception] | None = None) -> Any:
    """Returns the same batches as `numpy_batches` as a `tf.data.Dataset`.

    Args:
        mixer, batch_size, first_step, steps, workers: As those of `numpy_batches`.
        failures: Where an error of the mixing goes; the data set then ends early. TensorFlow would
            make an error of its own of it, with a traceback for a text. None lets it do so.
    """
    # Only this function needs TensorFlow: on Keras's other backends it need not be installed.
    import tensorflow as tf

    def generate() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        try:
            yield from numpy_batches(mixer, batch_size, first_step, steps, workers)
        except Exception as error:
            if failures is None:
                raise
            failures.append(error)

    spec = tf.TensorSpec(_batch_shape(mixer, batch_size, WHOLE_BATCH)[1:], tf.float32)
    return tf.data.Dataset.from_generator(generate, output_signature=(spec, spec)).prefetch(2)
